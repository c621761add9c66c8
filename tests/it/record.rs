//! Run directories under faults: processes killed at any instant, full disks, hostile names, edited files, secrets.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use perfprof::diagnostics::{ExitStatus, Severity};
use perfprof::record::rows::{Contention, MemoryUse, ROW_SCHEMA_VERSION, RepeatRow, RowStatus};
use perfprof::record::run_dir::RunOptions;
use perfprof::record::{
    RecordError, RowsWriter, RunDir, RunStatus, atomic, environment, find, inputs, manifest, reader, rows_writer,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::metrics_schema;

/// Names the part a child process plays; the test binary runs itself to have a process that may be killed or limited.
const ROLE: &str = "PERFPROF_TEST_ROLE";
/// The directory the child works in.
const PLACE: &str = "PERFPROF_TEST_PLACE";
const SENTINEL: &str = "S3nt1nel-Value_0042";

fn row(index: u32, text: &str) -> RepeatRow {
    RepeatRow {
        schema_version: ROW_SCHEMA_VERSION,
        run_id: "r".to_owned(),
        index,
        case: "short".to_owned(),
        repeat: index,
        spans: false,
        traced: false,
        status: RowStatus::Ok,
        error: None,
        model: "synthetic".to_owned(),
        backend: "candle".to_owned(),
        dtype: "f32".to_owned(),
        device: "cpu".to_owned(),
        batch: 1,
        prompt_len: 8,
        new_tokens: 4,
        mode: "single_pass".to_owned(),
        started_at: "2026-01-01T00:00:00.000Z".to_owned(),
        ttft_ms: Some(f64::from(index)),
        prefill_ms: None,
        decode_ms: None,
        total_ms: None,
        remainder_ms: None,
        host: None,
        tpot_ms: None,
        itl_ms: vec![0.1, 0.2, 0.3],
        prefill_tok_per_s: None,
        decode_tok_per_s: None,
        total_tok_per_s: None,
        ttft_s: None,
        tpot_s: None,
        dt_full_s: None,
        tok_s: None,
        peak_memory_allocated_gb: None,
        memory: MemoryUse::default(),
        contention: Contention::default(),
        cpu_utilisation: None,
        energy_j: None,
        energy_source: None,
        cpu_energy_j: None,
        gpu: None,
        tokens: vec![1, 2, 3, 4],
        text: Some(text.to_owned()),
        finish_reason: Some("length".to_owned()),
        diagnostics: Vec::new(),
    }
}

/// A command that runs this test binary as a child with `role` in `place`.
fn child_command(role: &str, place: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "record::child_process", "--ignored", "--nocapture", "--quiet"]);
    command.env(ROLE, role).env(PLACE, place).stdin(Stdio::null());
    command
}

/// A child run by `unshare` in a mount namespace of its own, after `setup`; `None` where the system refuses.
fn in_namespace(setup: &str, role: &str, place: &Path) -> Option<std::process::Output> {
    let child = child_command(role, place);
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", &format!("{setup} && echo ready && exec \"$@\""), "sh"]);
    command.arg(child.get_program()).args(child.get_args()).env(ROLE, role).env(PLACE, place);
    let output = command.output().ok()?;
    String::from_utf8_lossy(&output.stdout).starts_with("ready").then_some(output)
}

fn assert_success(output: &std::process::Output) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
}

/// Not a test: the entry point of the child processes below, which fail if an assertion in here does.
#[test]
#[ignore = "run by other tests as a child process"]
fn child_process() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let place = PathBuf::from(std::env::var_os(PLACE).unwrap());
    match role.as_str() {
        "write until killed" => write_until_killed(&place),
        "fill the disk" => fill_the_disk(&place),
        "fill the file-size limit" => {
            rows_writer::ignore_file_size_signal();
            let limit = libc::rlimit { rlim_cur: 64 << 10, rlim_max: 64 << 10 };
            // SAFETY: `limit` is a valid rlimit and outlives the call.
            assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) }, 0);
            fill_the_disk(&place);
        }
        "claim the same id" => {
            let answer = match RunDir::create(&place, "stage1", Some("same")) {
                Ok(_) => "claimed",
                Err(RecordError::Exists { .. }) => "exists",
                Err(other) => panic!("{other:?}"),
            };
            println!("\nanswer {answer}");
        }
        "claim many" => {
            for _ in 0..50 {
                println!("\nanswer {}", RunDir::create(&place, "stage1", None).unwrap().run_id());
            }
        }
        "read-only" => {
            let error = RunDir::create(&place, "stage1", None).unwrap_err();
            assert!(matches!(error, RecordError::NotWritable { .. }), "{error:?}");
            assert_eq!(error.status(), ExitStatus::Usage);
        }
        "keep secrets" => keep_secrets(&place),
        other => panic!("unknown role {other}"),
    }
}

/// Lines the child printed behind `answer `.
fn answers(output: &std::process::Output) -> Vec<String> {
    assert_success(output);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().filter_map(|line| line.strip_prefix("answer ").map(str::to_owned)).collect()
}

// A03: killed at any instant.

/// Bytes of text in each row.
const KILL_ROW: usize = 128 << 10;

/// Appends rows for ever; says the number of each row on stdout once `append` has returned.
fn write_until_killed(place: &Path) {
    let run = RunDir::create(place, "stage1", Some("killed")).unwrap();
    let mut writer = RowsWriter::create(&run.file(reader::ROWS_FILE)).unwrap();
    // Rows of many pages: the kernel takes them in page by page, and a kill may fall in between.
    let text = "x".repeat(KILL_ROW);
    let mut stdout = std::io::stdout();
    writeln!(stdout, "\nanswer started").unwrap();
    for index in 0.. {
        writer.append(&row(index, &text)).unwrap();
        writeln!(stdout, "answer {index}").unwrap();
    }
}

/// Kills the child `delay` after its first answer and returns the last row number it had acknowledged.
fn kill_after(mut child: Child, delay: Duration) -> Option<u32> {
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let begun = lines.by_ref().map_while(Result::ok).any(|line| line == "answer started");
    assert!(begun, "the child ended before its first row");
    let reader = std::thread::spawn(move || {
        let numbers = lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("answer ")?.parse().ok());
        numbers.last()
    });
    std::thread::sleep(delay);
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap()
}

#[test]
fn a_process_killed_at_any_instant_loses_no_row_it_had_finished() {
    const ROUNDS: u64 = 30;
    let mut rows_in_all = 0;
    for round in 0..ROUNDS {
        let root = tempfile::tempdir().unwrap();
        let child = child_command("write until killed", root.path()).stdout(Stdio::piped()).spawn().unwrap();
        // Spread over 0 to 60 ms by a step that shares no factor with it.
        let acknowledged = kill_after(child, Duration::from_micros(round * 17_929 % 60_000));
        let dir = root.path().join("stage1/killed");
        let (rows, diagnostics) = reader::read_rows(&dir, false).unwrap();
        let torn: u64 = diagnostics.iter().map(|diagnostic| diagnostic.count).sum();
        assert!(torn <= 1, "round {round}: {diagnostics:?}");
        assert!(diagnostics.iter().all(|d| d.code == "torn_last_row" && d.severity == Severity::DataLoss));
        let finished = acknowledged.map_or(0, |index| index as usize + 1);
        assert!(rows.len() >= finished, "round {round}: {} rows, {finished} finished", rows.len());
        assert!(rows.iter().zip(0..).all(|(row, index)| row.index == index));
        assert!(rows.iter().all(|row| row.text.as_ref().is_some_and(|text| text.len() == KILL_ROW)));
        // The owner is gone, so nobody may take the run for a living one.
        assert_eq!(reader::read_run(&dir).unwrap().effective_status(), RunStatus::Interrupted);
        rows_in_all += rows.len();
        println!("round {round}: {} rows, {finished} acknowledged, {torn} torn", rows.len());
    }
    assert!(rows_in_all > 0, "no child lived long enough to write a row: the test has shown nothing");
}

// A04: disk full.

/// Writes rows into a place of 64 KiB until it is full, and checks what is left.
fn fill_the_disk(place: &Path) {
    let run = RunDir::create(place, "stage1", None).unwrap();
    run.write("metrics.json", b"{\"old\": true}\n").unwrap();
    let mut writer = RowsWriter::create(&run.file(reader::ROWS_FILE)).unwrap();
    let text = "x".repeat(3_000);
    let mut written = 0;
    let error = loop {
        match writer.append(&row(written, &text)) {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 1_000, "the disk never became full");
    };
    assert_eq!(error.status(), ExitStatus::ArtifactIo);
    let needed = serde_json::to_vec(&row(written, &text)).unwrap().len() as u64 + 1;
    match &error {
        RecordError::DiskFull { path, needed_bytes, .. } => {
            assert_eq!((path.as_path(), *needed_bytes), (run.file(reader::ROWS_FILE).as_path(), needed));
        }
        other => panic!("{other:?}"),
    }
    assert!(error.to_string().contains(&format!("{needed} more bytes are needed")), "{error}");
    // Every row before is there, and not half of one behind it.
    let (rows, diagnostics) = reader::read_rows(run.path(), false).unwrap();
    assert_eq!((rows.len(), diagnostics.len()), (written as usize, 0));
    // A summary that does not fit leaves the old one as it was.
    let error = run.write("metrics.json", &vec![b' '; 128 << 10]).unwrap_err();
    assert!(matches!(error, RecordError::DiskFull { needed_bytes: 131_072, .. }), "{error:?}");
    assert_eq!(fs::read(run.file("metrics.json")).unwrap(), b"{\"old\": true}\n");
    let names: Vec<String> =
        fs::read_dir(run.path()).unwrap().map(|item| item.unwrap().file_name().into_string().unwrap()).collect();
    assert!(names.iter().all(|name| !name.starts_with(atomic::TEMP_PREFIX)), "{names:?}");
}

#[test]
fn a_file_size_limit_keeps_the_rows_before_it() {
    let root = tempfile::tempdir().unwrap();
    assert_success(&child_command("fill the file-size limit", root.path()).output().unwrap());
}

#[test]
fn a_full_disk_keeps_the_rows_before_it() {
    let root = tempfile::tempdir().unwrap();
    let setup = format!("mount -t tmpfs -o size=64k none '{}'", root.path().display());
    match in_namespace(&setup, "fill the disk", root.path()) {
        Some(output) => assert_success(&output),
        None => eprintln!("skipped: this system does not allow mount namespaces"),
    }
}

// A05: an output root that cannot be written.

#[test]
fn an_unwritable_output_root_is_refused_before_anything_runs() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "kept").unwrap();
    fs::create_dir(dir.path().join("root")).unwrap();
    fs::write(dir.path().join("root/stage1"), "kept").unwrap();
    for (root, obstacle) in [
        (file.clone(), file.clone()),
        (file.join("below"), file.clone()),
        (dir.path().join("root"), dir.path().join("root/stage1")),
        (PathBuf::from("/proc/perfprof"), PathBuf::from("/proc")),
    ] {
        let error = RunDir::create(&root, "stage1", None).unwrap_err();
        match &error {
            RecordError::NotWritable { path, .. } => assert_eq!(*path, obstacle),
            other => panic!("{other:?}"),
        }
        assert_eq!(error.status(), ExitStatus::Usage);
        assert!(error.into_failure().hints()[0].contains("--output-root"));
    }
    assert_eq!(fs::read(file).unwrap(), b"kept");
}

#[test]
fn a_read_only_file_system_is_refused_before_anything_runs() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().display();
    let setup = format!("mount --bind '{path}' '{path}' && mount -o remount,ro,bind '{path}'");
    match in_namespace(&setup, "read-only", root.path()) {
        Some(output) => assert_success(&output),
        None => eprintln!("skipped: this system does not allow mount namespaces"),
    }
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
}

// A06: the directory removed during the run.

#[test]
fn a_run_whose_directory_is_removed_says_where_its_data_went() {
    let root = tempfile::tempdir().unwrap();
    let mut run = RunDir::create(root.path(), "stage1", None).unwrap();
    let mut writer = RowsWriter::create(&run.file(reader::ROWS_FILE)).unwrap();
    writer.append(&row(0, "first")).unwrap();
    fs::remove_dir_all(run.path()).unwrap();

    let saved = |error: RecordError| {
        assert_eq!(error.status(), ExitStatus::ArtifactIo);
        let message = error.to_string();
        match error {
            RecordError::Vanished { fallback: Some(path), .. } => {
                assert!(message.contains(path.to_str().unwrap()), "{message}");
                let bytes = fs::read(&path).unwrap();
                fs::remove_file(path).unwrap();
                bytes
            }
            other => panic!("{other:?}"),
        }
    };
    let rows = saved(writer.append(&row(1, "second")).unwrap_err());
    let (rows, _) = reader::parse_rows(Path::new("saved"), &rows, false).unwrap();
    assert_eq!(rows.iter().map(|row| row.text.as_deref().unwrap()).collect::<Vec<_>>(), ["first", "second"]);
    assert_eq!(saved(run.write("metrics.json", b"{}").unwrap_err()), b"{}");
    let record: Value = serde_json::from_slice(&saved(run.finish(RunStatus::Complete, None).unwrap_err())).unwrap();
    assert_eq!(record["status"], "complete");
}

// A07: two runs at once.

#[test]
fn runs_started_at_once_have_a_directory_each() {
    let root = tempfile::tempdir().unwrap();
    let spawn = |role| -> Vec<String> {
        let children: Vec<Child> = (0..4)
            .map(|_| child_command(role, root.path()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
            .collect();
        children.into_iter().flat_map(|child| answers(&child.wait_with_output().unwrap())).collect()
    };
    let mut ids = spawn("claim many");
    assert_eq!(ids.len(), 200);
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 200, "two runs share a directory");
    assert_eq!(find::list_runs(root.path()).unwrap().len(), 200);

    let mut claims = spawn("claim the same id");
    claims.sort();
    assert_eq!(claims, ["claimed", "exists", "exists", "exists"]);
}

// A08: hostile names.

#[test]
fn names_that_could_leave_the_root_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    let long = "a".repeat(101);
    for bad in [
        "", ".", "..", "../x", "../../x", "/etc/x", "a/b", "a\\b", "a\0b", "a\nb", ".hidden", "-x", &long, "CON",
        "con", "nul.txt", "Com1", "LPT9.log", "é", "a b", "x.", "C:x", "latest", "~root",
    ] {
        let error = RunDir::create(&root, "stage1", Some(bad)).unwrap_err();
        assert!(matches!(error, RecordError::InvalidName { .. }), "{bad:?}: {error:?}");
        assert_eq!(error.status(), ExitStatus::Usage);
        assert!(!error.to_string().contains('\0') || bad.contains('\0'));
        let error = RunDir::create(&root, bad, None).unwrap_err();
        assert!(matches!(error, RecordError::InvalidName { what: "command", .. }), "{bad:?}: {error:?}");
    }
    assert!(!root.exists(), "a refused name has left something behind");
    for good in ["baseline", "20260101-000000-abcd", "a", "v1.2_rc+1", "con1", "console", &long[..100]] {
        RunDir::create(&root, "stage1", Some(good)).unwrap();
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn links_that_leave_the_root_are_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
    fs::create_dir_all(root.join("stage1")).unwrap();
    fs::create_dir(&outside).unwrap();
    std::os::unix::fs::symlink(&outside, root.join("load")).unwrap();
    let error = RunDir::create(&root, "load", None).unwrap_err();
    assert!(matches!(&error, RecordError::OutsideRoot { .. }), "{error:?}");
    assert_eq!(error.status(), ExitStatus::Usage);
    std::os::unix::fs::symlink(&outside, root.join("stage1/linked")).unwrap();
    let error = RunDir::create(&root, "stage1", Some("linked")).unwrap_err();
    assert!(matches!(&error, RecordError::Exists { .. }), "{error:?}");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    // A root that is itself a link is what the user asked for.
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&root, &link).unwrap();
    RunDir::create(&link, "stage1", Some("fine")).unwrap();
    assert!(root.join("stage1/fine/run.json").is_file());
}

// A11 and A13: changed files and other versions.

#[test]
fn every_edit_after_the_end_is_noticed() {
    let root = tempfile::tempdir().unwrap();
    let mut run = RunDir::create(root.path(), "stage1", None).unwrap();
    let mut writer = RowsWriter::create(&run.file(reader::ROWS_FILE)).unwrap();
    writer.append(&row(0, "")).unwrap();
    writer.close().unwrap();
    run.write("metrics.json", b"{\"tok_s\": 10}").unwrap();
    assert!(manifest::verify(run.path()).is_err(), "a run that has not ended has no manifest");
    run.finish(RunStatus::Complete, None).unwrap();
    assert_eq!(manifest::verify(run.path()).unwrap(), []);
    for name in ["metrics.json", "per_run.jsonl", "run.json"] {
        let path = run.file(name);
        let original = fs::read(&path).unwrap();
        let mut edited = original.clone();
        let last = edited.len() - 2;
        edited[last] ^= 1;
        fs::write(&path, edited).unwrap();
        let mismatches = manifest::verify(run.path()).unwrap();
        assert_eq!(mismatches.iter().map(|m| m.path.as_str()).collect::<Vec<_>>(), [name]);
        fs::write(&path, original).unwrap();
    }
}

#[test]
fn newer_files_are_refused_by_version_and_files_without_one_are_read() {
    let root = tempfile::tempdir().unwrap();
    let mut run = RunDir::create(root.path(), "stage1", None).unwrap();
    run.write_json("metrics.json", &metrics_schema::example()).unwrap();
    run.finish(RunStatus::Complete, None).unwrap();
    assert_eq!(reader::read_metrics(run.path()).unwrap(), metrics_schema::example());
    for name in ["run.json", "metrics.json", "MANIFEST.json"] {
        let original: Value = serde_json::from_slice(&fs::read(run.file(name)).unwrap()).unwrap();
        let mut newer = original.clone();
        newer["schema_version"] = 99.into();
        // A later version may have changed everything else too.
        newer.as_object_mut().unwrap().insert("from_the_future".to_owned(), json!([1]));
        fs::write(run.file(name), newer.to_string()).unwrap();
        let error = match name {
            "run.json" => reader::read_run(run.path()).unwrap_err(),
            "metrics.json" => reader::read_metrics(run.path()).unwrap_err(),
            _ => manifest::read(run.path()).unwrap_err(),
        };
        assert!(matches!(error, RecordError::NewerSchema { found: 99, .. }), "{error:?}");
        assert!(error.to_string().contains("schema_version 99"), "{error}");
        assert_eq!(error.status(), ExitStatus::CouldNotStart);
        fs::write(run.file(name), original.to_string()).unwrap();
    }
    let error = reader::read_rows(run.path(), false).unwrap_err();
    assert!(matches!(error, RecordError::Read { .. }), "{error:?}");
}

// S01 and S02: secrets.

fn keep_secrets(place: &Path) {
    let arguments = ["perfprof", "load", "--api-key", SENTINEL, &format!("base_url=http://me:{SENTINEL}@host/v1")];
    let options = RunOptions { argv: Some(arguments.map(str::to_owned).to_vec()), ..RunOptions::default() };
    let mut run = RunDir::create_with(place, "load", options).unwrap();
    run.write_json("env.json", &environment::capture(Value::Null)).unwrap();
    run.finish(RunStatus::Failed, Some(&format!("the server said: no user {SENTINEL}"))).unwrap();
}

#[test]
fn no_secret_reaches_the_run_directory() {
    let root = tempfile::tempdir().unwrap();
    let output = child_command("keep secrets", root.path())
        .envs([("HF_TOKEN", SENTINEL), ("AWS_SECRET_ACCESS_KEY", SENTINEL), ("MY_SETTING", "unlisted-value")])
        .envs([("RAYON_NUM_THREADS", "1"), ("TZ", SENTINEL)])
        .output()
        .unwrap();
    assert_success(&output);
    let run = find::resolve_run(root.path(), "latest").unwrap();
    let mut seen = String::new();
    for item in fs::read_dir(&run).unwrap() {
        let text = fs::read_to_string(item.unwrap().path()).unwrap();
        assert!(!text.contains(SENTINEL) && !text.contains("unlisted-value"), "{text}");
        seen.push_str(&text);
    }
    let record = reader::read_run(&run).unwrap();
    assert_eq!(record.argv, ["perfprof", "load", "--api-key", "***", "base_url=http://***@host/v1"]);
    assert_eq!(record.error.as_deref(), Some("the server said: no user ***"));
    assert!(seen.contains("\"RAYON_NUM_THREADS\": \"1\""));
    let printed = [output.stdout, output.stderr].concat();
    assert!(!String::from_utf8_lossy(&printed).contains(SENTINEL));
}

#[test]
fn the_environment_agrees_with_other_tools() {
    let captured = environment::capture(json!({ "name": "none" }));
    let tool = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    if let Some(kernel) = tool("uname", &["-r"]) {
        assert_eq!(captured.os.kernel, Some(kernel));
    }
    if let Some(online) = tool("getconf", &["_NPROCESSORS_ONLN"]) {
        assert_eq!(captured.cpu.logical_cpus.map(|count| count.to_string()), Some(online));
    }
    if let (Some(pages), Some(size)) = (tool("getconf", &["_PHYS_PAGES"]), tool("getconf", &["PAGE_SIZE"])) {
        let bytes = pages.parse::<u64>().unwrap() * size.parse::<u64>().unwrap();
        assert_eq!(captured.memory.total_bytes, Some(bytes));
    }
    assert_eq!(captured.gpu["name"], "none");
    let text = serde_json::to_string(&captured).unwrap();
    if let Some(host) = tool("uname", &["-n"]).filter(|host| host.len() > 6) {
        assert!(!text.contains(&host), "the host name is in env.json");
    }
    assert_eq!(serde_json::from_str::<environment::Environment>(&text).unwrap(), captured);
}

// Rows.

proptest! {
    /// What is written is read back bit for bit, so that a report rebuilt from rows has the numbers of the first one.
    #[test]
    fn a_row_survives_the_disk(
        times in proptest::collection::vec(proptest::num::f64::NORMAL | proptest::num::f64::ZERO, 0..6),
        ttft in proptest::option::of(1e-6..1e9_f64),
        text in any::<String>(),
        tokens in proptest::collection::vec(any::<u32>(), 0..6),
        bytes in any::<u64>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut written = row(7, &text);
        written.itl_ms = times;
        written.ttft_ms = ttft;
        written.tokens = tokens;
        written.memory.weights_bytes = bytes;
        let mut writer = RowsWriter::create(&dir.path().join(reader::ROWS_FILE)).unwrap();
        writer.append(&written).unwrap();
        writer.close().unwrap();
        let (rows, diagnostics) = reader::read_rows(dir.path(), false).unwrap();
        prop_assert_eq!(rows, vec![written]);
        prop_assert!(diagnostics.is_empty());
    }
}

// inputs.yaml.

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e12..1e12_f64).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        prop_oneof![
            Just("yes"),
            Just("~"),
            Just("1e3"),
            Just("0x1F"),
            Just("- a"),
            Just("a: b"),
            Just("# x"),
            Just("")
        ]
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(any::<String>(), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    /// Whatever is written, an independent YAML reader reads the same.
    #[test]
    fn yaml_is_read_back_as_it_was(value in any_json()) {
        let text = inputs::to_yaml(&value).unwrap();
        let read: Value = serde_saphyr::from_str(&text).map_err(|error| TestCaseError::fail(format!("{error}\n{text}")))?;
        prop_assert_eq!(read, value, "{}", text);
    }
}

// The page that documents all this.

/// Field names of a document, at any depth; the keys of maps are data and not names.
fn field_names(value: &Value, maps: &[&str], names: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                names.insert(key.clone());
                if !maps.contains(&key.as_str()) {
                    field_names(value, maps, names);
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| field_names(item, maps, names)),
        _ => {}
    }
}

#[test]
fn the_format_page_names_every_field() {
    let page = include_str!("../../docs/FORMAT.md");
    let root = tempfile::tempdir().unwrap();
    let mut run = RunDir::create(root.path(), "stage1", None).unwrap();
    run.finish(RunStatus::Complete, None).unwrap();
    let prompt = inputs::PromptInput::new("c", "text", &[1], Some("a"), Some(1));
    let file = inputs::FileInput { role: "weights".to_owned(), path: "w".to_owned(), bytes: 1, sha256: None };
    let inputs = inputs::Inputs {
        schema_version: inputs::INPUTS_SCHEMA_VERSION,
        count: 1,
        dataset_root: None,
        subset_filelist: None,
        seeds: BTreeMap::new(),
        files: vec![file],
        prompts: vec![prompt],
    };
    let mut environment = serde_json::to_value(environment::capture(Value::Null)).unwrap();
    // Blocks that this machine may not have.
    environment["cpu"]["caches"] = json!([{ "level": 1, "kind": "Data", "bytes": 1, "shared_cpus": null }]);
    environment["cpu"]["numa"] = json!([{ "node": 0, "cpus": null, "memory_bytes": null }]);
    let documents = [
        serde_json::to_value(run.record()).unwrap(),
        serde_json::to_value(row(0, "")).unwrap(),
        serde_json::to_value(inputs).unwrap(),
        environment,
        serde_json::to_value(manifest::read(run.path()).unwrap()).unwrap(),
        serde_json::to_value(metrics_schema::summary()).unwrap(),
    ];
    let mut names = BTreeSet::new();
    for document in &documents {
        field_names(document, &["variables", "crates"], &mut names);
    }
    // The one key of the manifest's map.
    names.remove("run.json");
    assert!(names.len() > 100, "{}", names.len());
    let missing: Vec<&String> = names
        .iter()
        .filter(|name| {
            let mut words = page.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            !words.any(|word| word == name.as_str())
        })
        .collect();
    assert!(missing.is_empty(), "docs/FORMAT.md does not name {missing:?}");
}
