//! Faults of the world around a run: damaged models, signals, full disks, other processes. Each must end in words, with the exit
//! code of docs/RELIABILITY.md, and never in a run that claims to be complete.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use serde_json::{Value, json};

use crate::sandbox::{
    Outcome, Sandbox, TINY, finish, json_of, outcome, rows_of, rows_so_far, start, text_of, until, word_tokenizer,
};

/// Profiles the model at `path`, which no ceiling must be measured for.
fn profile(sandbox: &Sandbox, path: &Path, settings: &[&str]) -> Outcome {
    let model = format!("model.path={}", path.display());
    let mut command = sandbox.command(&["stage1", &model]);
    command
        .args(&TINY[7..])
        .args(["prompt_tokens=4", "infer.max_new_tokens=3", "repeats=1", "warmup=0"])
        .args(settings);
    finish(command)
}

// E01, E02: files that are not what they should be.

/// A GGUF header by hand: magic, version, tensors, metadata entries (llama.cpp, docs/gguf.md of ggml).
fn gguf_header(version: u32, tensors: u64, entries: u64) -> Vec<u8> {
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(version.to_le_bytes());
    bytes.extend(tensors.to_le_bytes());
    bytes.extend(entries.to_le_bytes());
    bytes
}

#[test]
fn damaged_gguf_files_are_named_with_the_byte_where_they_break() {
    let sandbox = Sandbox::new();
    let mut huge_string = gguf_header(3, 0, 1);
    huge_string.extend(u64::MAX.to_le_bytes());
    let mut key_only = gguf_header(3, 1, 1);
    key_only.extend(20_u64.to_le_bytes());
    key_only.extend(b"general.arch");
    for (name, bytes, words) in [
        ("empty.gguf", Vec::new(), "empty.gguf"),
        ("text.gguf", b"this is no model at all, only text".to_vec(), "damaged at byte 0"),
        ("version.gguf", gguf_header(99, 0, 0), "99"),
        ("cut.gguf", key_only, "damaged at byte"),
        ("count.gguf", gguf_header(3, u64::MAX, 0), "count.gguf"),
        ("string.gguf", huge_string, "damaged at byte"),
    ] {
        let path = sandbox.write(name, bytes);
        profile(&sandbox, &path, &[]).exits(2).says(&["error: ", name, words]);
    }
    sandbox.claims_nothing();
}

#[test]
fn damaged_safetensors_files_are_named_with_the_byte_where_they_break() {
    let sandbox = Sandbox::new();
    let model = sandbox.model(|_, _| ());
    let file = model.join("model.safetensors");
    let whole = std::fs::read(&file).unwrap();
    profile(&sandbox, &model, &[]).exits(0);
    std::fs::remove_dir_all(sandbox.path().join("tmp")).unwrap();

    let mut huge_header = whole.clone();
    huge_header[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    let header = String::from_utf8_lossy(&whole[8..]).into_owned();
    let end = header.find("}}").unwrap();
    // A tensor that claims to reach far beyond the end of the file.
    let claimed = header[..end + 2].replacen("[0,", "[0,9", 1);
    let mut huge_tensor = (claimed.len() as u64).to_le_bytes().to_vec();
    huge_tensor.extend(claimed.bytes());
    for (what, bytes) in [
        ("cut in the values", whole[..whole.len() - 100].to_vec()),
        ("cut in the header", whole[..200].to_vec()),
        ("cut in the length", whole[..5].to_vec()),
        ("a header longer than the file", huge_header),
        ("a tensor longer than the file", huge_tensor),
        ("text instead of JSON", b"\x10\0\0\0\0\0\0\0this is not json".to_vec()),
    ] {
        std::fs::write(&file, bytes).unwrap();
        let ended = profile(&sandbox, &model, &[]);
        assert!(ended.stderr.contains("model.safetensors"), "{what}: {}", ended.stderr);
        ended.exits(2).says(&["error: "]);
    }
    sandbox.claims_nothing();
}

#[test]
fn a_tensor_of_another_shape_than_the_config_says_is_named_with_both_shapes() {
    let sandbox = Sandbox::new();
    let model = sandbox.model(|config, _| config["intermediate_size"] = json!(64));
    profile(&sandbox, &model, &[]).exits(2).says(&["mlp.", "proj.weight", "48", "64"]);
    sandbox.claims_nothing();

    let model = sandbox.model(|_, tensors| tensors.retain(|(name, _, _)| name != "model.norm.weight"));
    profile(&sandbox, &model, &[]).exits(2).says(&["model.norm.weight", "lacks"]);
    sandbox.claims_nothing();
}

#[test]
fn a_tokenizer_larger_than_the_embedding_is_refused_before_anything_is_written() {
    let sandbox = Sandbox::new();
    let model = sandbox.model(|_, _| ());
    sandbox.write("model/tokenizer.json", word_tokenizer(300));
    profile(&sandbox, &model, &[]).exits(2).says(&["tokenizer", "300", "258"]);
    sandbox.made_no_run();

    sandbox.write("model/tokenizer.json", "{\"version\": \"1.0\", ");
    profile(&sandbox, &model, &[]).exits(2).says(&["tokenizer"]).hints("model.tokenizer=");
    std::fs::remove_file(model.join("tokenizer.json")).unwrap();
    profile(&sandbox, &model, &[]).exits(2).says(&["no tokenizer found"]).hints("model.tokenizer=");
    sandbox.made_no_run();
}

// E04, E07, E08, E09.

#[test]
fn weights_that_are_not_numbers_make_the_run_invalid() {
    let sandbox = Sandbox::new();
    let model = sandbox.model(|_, tensors| {
        tensors.last_mut().unwrap().2[5] = f32::NAN;
    });
    profile(&sandbox, &model, &[]).exits(3);
    let run = sandbox.the_run();
    assert_eq!(json_of(&run, "run.json")["status"], "invalid");
    let metrics = json_of(&run, "metrics.json");
    assert_eq!((&metrics["status"], &metrics["validity"]["status"]), (&json!("invalid"), &json!("INVALID")));
    let reason = metrics["validity"]["reasons"][0].as_str().unwrap();
    assert!(reason.contains("NaN"), "{reason}");
    assert!(metrics["diagnostics"].to_string().contains("non_finite_logits"));
    assert!(text_of(&run, "report.md").contains("INVALID"));

    // Whoever wants the numbers all the same says so.
    profile(&sandbox, &model, &["run.allow_invalid=true"]).exits(0);
}

#[test]
fn a_generation_that_ends_at_once_has_no_time_per_token() {
    let sandbox = Sandbox::new();
    let model = sandbox.model(|_, _| ());
    profile(&sandbox, &model, &[]).exits(0);
    let first = rows_of(&sandbox.the_run())[0]["tokens"][0].clone();
    // The same model, now with the token it begins with as its end of sequence.
    let model = sandbox.model(|config, _| config["eos_token_id"] = first.clone());
    profile(&sandbox, &model, &["infer.ignore_eos=false", "run.id=eos"]).exits(0);
    let run = sandbox.path().join("tmp/stage1/eos");
    let row = &rows_of(&run)[0];
    assert_eq!((&row["new_tokens"], &row["finish_reason"]), (&json!(1), &json!("eos")));
    assert_eq!((&row["tpot_ms"], &row["decode_tok_per_s"], &row["itl_ms"]), (&Value::Null, &Value::Null, &json!([])));
    let measures = &json_of(&run, "metrics.json")["measures"];
    assert_eq!((&measures["tpot_ms"]["n"], &measures["tpot_ms"]["mean"]), (&json!(0), &Value::Null));
    // With the token ignored the length is exact.
    profile(&sandbox, &model, &["run.id=all"]).exits(0);
    assert_eq!(rows_of(&sandbox.path().join("tmp/stage1/all"))[0]["new_tokens"], 3);
}

#[test]
fn work_that_does_not_fit_is_refused_before_a_directory_is_made() {
    let sandbox = Sandbox::new();
    finish(sandbox.stage1(&["prompt_tokens=9000"]))
        .exits(1)
        .says(&["p9000_n5_b1", "9005", "8192"])
        .hints("prompt_tokens");
    finish(sandbox.stage1(&["engine.max_context=12"])).exits(1).says(&["13", "12", "engine.max_context"]);
    finish(sandbox.stage1(&["infer.max_new_tokens=0"])).exits(1).says(&["infer.max_new_tokens", "`0`"]);
    finish(sandbox.stage1(&["prompt_tokens=0"])).exits(1).says(&["prompt_tokens", "`0`"]);
    finish(sandbox.stage1(&["batch=4000000000"])).exits(1).says(&["4000000000 sequences"]).hints("batch");
    finish(sandbox.stage1(&["batch=100000000"])).exits(2).says(&["KV cache", "may use"]).hints("batch");
    sandbox.made_no_run();
}

#[test]
#[cfg_attr(not(debug_assertions), ignore = "the hook that panics is not part of release builds")]
fn a_panic_of_the_engine_fails_its_row_and_keeps_the_others() {
    let sandbox = Sandbox::new();
    let case = |name: &str| format!("{{name:{name},prompt_tokens:4,new_tokens:2}}");
    let cases = format!("cases=[{},{},{}]", case("good"), case("bad"), case("after"));
    for (fault, words, bad, keep_going) in [
        ("panic:bad", "the engine panicked", "failed", true),
        ("error:bad", "injected error", "failed", false),
        ("out of memory:bad", "injected out of memory", "oom", true),
    ] {
        let keep_going_setting = format!("run.keep_going={keep_going}");
        let settings = [&cases, "repeats=2", "profiling.span_repeats=0", "prompt_tokens=null", &keep_going_setting];
        let mut command = sandbox.stage1(&settings);
        command.env("PERFPROF_FAULT", fault);
        let ended = finish(command);
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
        assert!(ended.stderr.contains(words), "{}", ended.stderr);
        let run = sandbox.runs().pop().unwrap();
        let rows = rows_of(&run);
        let told: Vec<(&str, &str)> =
            rows.iter().map(|row| (row["case"].as_str().unwrap(), row["status"].as_str().unwrap())).collect();
        let mut expected = vec![("good", "ok"), ("good", "ok"), ("bad", bad)];
        if keep_going {
            expected.extend([("after", "ok"); 2]);
        }
        assert_eq!(told, expected, "a case that failed is not tried again");
        assert!(rows[2]["error"].as_str().unwrap().contains(words));
        let record = json_of(&run, "run.json");
        assert_eq!(record["status"], "failed");
        assert!(record["error"].as_str().unwrap().contains(words));
        let metrics = json_of(&run, "metrics.json");
        assert_eq!(
            (&metrics["status"], &metrics["measures"]["total_ms"]["n"]),
            (&json!("failed"), &json!(expected.len() - 1))
        );
        let failed = format!("1 of {} repeats failed", expected.len());
        assert!(metrics["validity"]["reasons"].to_string().contains(&failed), "{}", metrics["validity"]);
        sandbox.run(&["runs", "verify", &run.display().to_string()]).exits(0);
    }
}

#[test]
fn the_device_of_the_record_is_the_one_that_ran() {
    let sandbox = Sandbox::new();
    if cfg!(not(feature = "cuda")) {
        finish(sandbox.stage1(&["device=cuda:0"]))
            .exits(2)
            .says(&["device=cuda:0", "without CUDA"])
            .hints("device=cpu");
        sandbox.made_no_run();
        finish(sandbox.stage1(&["device=auto"])).exits(0);
        let run = sandbox.the_run();
        assert_eq!(rows_of(&run)[0]["device"], "cpu");
        assert_eq!(json_of(&run, "metrics.json")["hardware"]["device_id"], "cpu");
    }
    finish(sandbox.stage1(&["device=gpu"])).exits(1).says(&["device", "`gpu`"]);
}

#[test]
fn an_unknown_peak_leaves_the_ratios_empty_and_says_how_to_fill_them() {
    let sandbox = Sandbox::new();
    let no_peaks = ["hardware.peak_tflops=null", "hardware.peak_bandwidth_gbs=null", "hardware.measure=never"];
    finish(sandbox.stage1(&[&no_peaks[..], &["hardware.name=Phantom 9000"]].concat())).exits(0);
    let run = sandbox.the_run();
    let metrics = json_of(&run, "metrics.json");
    for measure in ["mfu_prefill", "mfu_decode", "mbu_prefill", "mbu_decode"] {
        assert_eq!(
            (&metrics["measures"][measure]["mean"], &metrics["measures"][measure]["n"]),
            (&Value::Null, &json!(0))
        );
    }
    for (peak, key) in
        [("peak_flops_per_s", "hardware.peak_tflops="), ("peak_bytes_per_s", "hardware.peak_bandwidth_gbs=")]
    {
        let peak = &metrics["hardware"][peak];
        assert_eq!((&peak["value"], &peak["kind"]), (&Value::Null, &json!("unknown")));
        let source = peak["source"].as_str().unwrap();
        assert!(source.contains("Phantom 9000") && source.contains(key), "{source}");
    }
    assert!(text_of(&run, "assumptions.md").contains("hardware.peak"));
}

// V04.

/// A case whose single repeat takes seconds, on any machine.
const LONG: [&str; 5] = [
    "model.architecture.vocab_size=8192",
    "infer.max_new_tokens=4000",
    "prompt_tokens=8",
    "profiling.span_repeats=0",
    "engine.threads=1",
];

fn send(child: &Child, signal: i32) {
    // SAFETY: `kill` has no memory to misuse; the process is our child and not yet waited for, so the id is still its own.
    assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
}

/// Starts a run and waits until it has written `rows` rows and is at work on the next.
fn started(sandbox: &Sandbox, command: Command, rows: usize) -> (Child, PathBuf) {
    let child = start(command);
    until("rows", || {
        sandbox.runs().first().is_some_and(|run| run.join("per_run.jsonl").exists() && rows_so_far(run) >= rows)
    });
    let run = sandbox.the_run();
    (child, run)
}

fn wait(child: Child) -> Outcome {
    outcome(child.wait_with_output().unwrap())
}

#[test]
fn a_process_that_stood_still_knows_it() {
    let sandbox = Sandbox::new();
    let (mut child, run) = started(&sandbox, sandbox.stage1(&LONG), 0);
    std::thread::sleep(Duration::from_millis(150));
    send(&child, libc::SIGSTOP);
    std::thread::sleep(Duration::from_millis(1600));
    send(&child, libc::SIGCONT);
    assert_eq!(child.try_wait().unwrap(), None, "the repeat was too short to be stopped in");
    wait(child).exits(3);
    let metrics = json_of(&run, "metrics.json");
    assert!(metrics["diagnostics"].to_string().contains("process_paused"), "{}", metrics["diagnostics"]);
    assert!(metrics["validity"]["reasons"].to_string().contains("stood still"), "{}", metrics["validity"]);
}

// A01 to A03: signals.

/// Repeats that end every few milliseconds, for hours.
const ENDLESS: [&str; 3] = ["repeats=1000000", "profiling.span_repeats=0", "profiling.cooldown_ms=5"];

#[test]
fn the_first_interrupt_finishes_the_repeat_and_writes_everything() {
    for (signal, code) in [(libc::SIGINT, 130), (libc::SIGTERM, 143), (libc::SIGHUP, 143)] {
        let sandbox = Sandbox::new();
        let (child, run) = started(&sandbox, sandbox.stage1(&ENDLESS), 3);
        send(&child, signal);
        wait(child).exits(code);
        let rows = rows_of(&run);
        assert!(rows.len() >= 3 && rows.iter().all(|row| row["status"] == "ok"));
        assert_eq!(json_of(&run, "run.json")["status"], "interrupted");
        let metrics = json_of(&run, "metrics.json");
        assert_eq!(
            (&metrics["status"], &metrics["measures"]["total_ms"]["n"]),
            (&json!("interrupted"), &json!(rows.len()))
        );
        let reasons = metrics["validity"]["reasons"].to_string();
        assert!(reasons.contains(&format!("interrupted: {} of 1000000 repeats were done", rows.len())), "{reasons}");
        for file in ["report.html", "report.md", "operators.md", "stakeholder_summary.md", "per_run.csv"] {
            assert!(text_of(&run, file).len() > 20, "{file}");
        }
        sandbox.run(&["runs", "verify", "latest"]).exits(0);
    }
}

#[test]
fn the_second_interrupt_ends_the_process_at_once_and_loses_no_row() {
    let sandbox = Sandbox::new();
    let cases = "cases=[{name:short,prompt_tokens:4,new_tokens:2},{name:long,prompt_tokens:8,new_tokens:8000}]";
    let settings =
        [&LONG[..1], &["prompt_tokens=null", "profiling.span_repeats=0", "repeats=2", "engine.threads=1", cases]]
            .concat();
    for (second, code) in [(libc::SIGINT, 130), (libc::SIGTERM, 143)] {
        let (mut child, run) = {
            let _ = std::fs::remove_dir_all(sandbox.path().join("tmp"));
            started(&sandbox, sandbox.stage1(&settings), 2)
        };
        send(&child, libc::SIGINT);
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(child.try_wait().unwrap(), None, "the repeat under way goes on after one interrupt");
        send(&child, second);
        assert_eq!(wait(child).code, Some(code));
        // Had the repeat been waited for, it would be a row and the status would be told.
        assert_eq!(rows_of(&run).len(), 2);
        assert_eq!(json_of(&run, "run.json")["status"], "running", "there was no time to say otherwise");
        // Readers know better, and the report can be made now.
        let listed = sandbox.run(&["runs", "list"]).exits(0);
        assert!(listed.stdout.contains("interrupted"), "{}", listed.stdout);
        sandbox.run(&["report", "latest"]).exits(3);
        assert_eq!(json_of(&run, "metrics.json")["measures"]["total_ms"]["n"], 2);
    }
}

#[test]
fn a_killed_run_is_rebuilt_from_its_rows_whenever_it_died() {
    let mut with_rows = 0;
    for round in 0_u64..10 {
        let sandbox = Sandbox::new();
        let mut child = start(sandbox.stage1(&["repeats=1000000", "infer.max_new_tokens=2"]));
        // Some die while they start, the others while rows come, about one in a millisecond.
        if round < 5 {
            std::thread::sleep(Duration::from_millis(5 + round * 50));
        } else {
            until("a row", || sandbox.runs().first().is_some_and(|run| rows_so_far(run) > 0));
            std::thread::sleep(Duration::from_micros(round * 1_700));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let Some(run) = sandbox.runs().pop() else { continue };
        let report = sandbox.run(&["report", "latest"]);
        assert!(!report.stderr.contains("panicked"), "{}", report.stderr);
        if !run.join("per_run.jsonl").exists() {
            assert_ne!(report.code, Some(0));
            assert!(report.stderr.starts_with("error: "), "{}", report.stderr);
            continue;
        }
        let report = report.exits(3);
        let bytes = std::fs::read(run.join("per_run.jsonl")).unwrap();
        let whole = rows_so_far(&run);
        let metrics = json_of(&run, "metrics.json");
        assert_eq!(metrics["status"], "interrupted");
        let plain = bytes
            .split(|byte| *byte == b'\n')
            .filter(|line| String::from_utf8_lossy(line).contains("\"spans\":false"))
            .count();
        let counted = metrics["measures"]["total_ms"]["n"].as_u64().unwrap() as usize;
        assert!(counted == plain || counted + 1 == plain, "{counted} of {plain} rows");
        assert!(
            metrics["validity"]["reasons"].to_string().contains(&format!("interrupted: {whole} of")),
            "{}",
            report.stdout
        );
        let names: Vec<String> =
            std::fs::read_dir(&run).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        let manifest = text_of(&run, "MANIFEST.json");
        assert!(!manifest.contains("partial"), "{names:?}");
        sandbox.run(&["runs", "verify", "latest"]).exits(0);
        with_rows += usize::from(whole > 0);
    }
    assert!(with_rows >= 5, "only {with_rows} of 10 runs lived long enough to write a row");
}

// A04 to A08: where the run is written.

#[test]
fn a_full_disk_keeps_the_rows_that_fit_and_says_what_is_missing() {
    let sandbox = Sandbox::new();
    let mut arguments = vec!["stage1"];
    arguments.extend(TINY);
    arguments.extend([
        "prompt_tokens=8",
        "infer.max_new_tokens=5",
        "warmup=0",
        "repeats=500",
        "profiling.span_repeats=0",
    ]);
    // POSIX counts in 512 bytes: 16 KiB hold the settings and about a dozen rows.
    finish(sandbox.shell("ulimit -f 32", &arguments))
        .exits(4)
        .says(&["per_run.jsonl", "more bytes are needed"])
        .hints("free some space");
    let run = sandbox.the_run();
    let rows = rows_of(&run);
    assert!(rows.len() > 2 && rows.len() < 100, "{} rows", rows.len());
    assert_eq!(json_of(&run, "run.json")["status"], "failed");
    sandbox.claims_nothing();
    // With space again, the reports are made from what there is.
    sandbox.run(&["report", "latest"]).exits(3);
    let metrics = json_of(&run, "metrics.json");
    assert_eq!(metrics["measures"]["total_ms"]["n"], rows.len());
    let reasons = metrics["validity"]["reasons"].to_string();
    assert!(reasons.contains(&format!("an error ended the run after {} of 500 repeats", rows.len())), "{reasons}");
}

#[test]
fn a_disk_that_fills_while_a_report_is_rebuilt_leaves_the_old_one_whole() {
    let sandbox = Sandbox::new();
    finish(sandbox.stage1(&[])).exits(0);
    let run = sandbox.the_run();
    let before = text_of(&run, "report.html");
    finish(sandbox.shell("ulimit -f 200", &["report", "latest"])).exits(4).says(&["report.html"]);
    assert_eq!(text_of(&run, "report.html"), before);
    let left = std::fs::read_dir(&run)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with(".partial"));
    assert_eq!(left.count(), 0);
}

#[test]
fn an_output_root_that_cannot_hold_a_run_is_refused_before_the_model_is_loaded() {
    let sandbox = Sandbox::new();
    sandbox.write("file", "x");
    // A file in the way, and a file system that nobody can write to, root included.
    for root in ["file", "/proc/self/runs"] {
        let mut command = sandbox.stage1(&["--output-root", root]);
        command.env("PERFPROF_LOG", "debug");
        let ended = finish(command).exits(1).says(&["cannot write a run directory"]).hints("--output-root");
        assert!(!ended.stderr.contains("engine ready"), "{}", ended.stderr);
    }
    assert_eq!(std::fs::read(sandbox.path().join("file")).unwrap(), b"x");
}

#[test]
fn rows_survive_the_removal_of_their_directory() {
    let sandbox = Sandbox::new();
    let (child, run) = started(&sandbox, sandbox.stage1(&ENDLESS), 3);
    std::fs::remove_dir_all(run.parent().unwrap()).unwrap();
    let ended = wait(child).exits(4).says(&["was removed during the run", "its data was saved to"]);
    let saved = ended.stderr.split("saved to `").nth(1).unwrap().split('`').next().unwrap();
    let rows = std::fs::read_to_string(sandbox.path().join(saved)).unwrap();
    assert!(rows.lines().count() >= 3);
    for line in rows.lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        assert_eq!(row["status"], "ok");
    }
}

#[test]
fn two_runs_at_once_never_share_a_directory() {
    let sandbox = Sandbox::new();
    let children: Vec<Child> = (0..3).map(|_| start(sandbox.stage1(&[]))).collect();
    for child in children {
        wait(child).exits(0);
    }
    let runs = sandbox.runs();
    assert_eq!(runs.len(), 3);
    for run in &runs {
        assert_eq!(rows_of(run).len(), 2, "{}", run.display());
        sandbox.run(&["runs", "verify", &run.display().to_string()]).exits(0);
    }
    // Under one name only the first can have it.
    let children: Vec<Child> = (0..2).map(|_| start(sandbox.stage1(&["run.id=mine"]))).collect();
    let mut codes: Vec<Option<i32>> = children.into_iter().map(|child| wait(child).code).collect();
    codes.sort_unstable();
    assert_eq!(codes, [Some(0), Some(1)]);
    finish(sandbox.stage1(&["run.id=mine"])).exits(1).says(&["mine"]).hints("another run id");
    assert_eq!(rows_of(&sandbox.path().join("tmp/stage1/mine")).len(), 2);
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let sandbox = Sandbox::new();
    let long = format!("run.id={}", "a".repeat(300));
    for id in ["run.id=../../x", "run.id=/abs", "run.id=a/b", "run.id=CON", "run.id=latest", "run.id=..", &long] {
        finish(sandbox.stage1(&[id])).exits(1).says(&["run id"]).hints("letters, digits");
    }
    finish(sandbox.stage1(&["run.tag=../x"])).exits(1).says(&["tag"]);
    let mut inside: Vec<String> = std::fs::read_dir(sandbox.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    inside.retain(|name| name != "tmp");
    assert_eq!(inside, [""; 0]);
    sandbox.made_no_run();

    // A link in the place of the runs' directory is not followed.
    let elsewhere = Sandbox::new();
    std::fs::create_dir(sandbox.path().join("root")).unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), sandbox.path().join("root/stage1")).unwrap();
    finish(sandbox.stage1(&["--output-root", "root"])).exits(1).says(&["root"]);
    assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 0);

    // A model's name may look like a path; it is shown and never used as one.
    finish(sandbox.stage1(&["model.name=org/../../name"])).exits(0);
    assert_eq!(json_of(&sandbox.the_run(), "metrics.json")["model"]["name"], "org/../../name");
}

// A10 to A14: what is read back.

#[test]
fn damaged_rows_are_named_and_left_out_only_when_asked() {
    let sandbox = Sandbox::new();
    finish(sandbox.stage1(&["repeats=3", "profiling.span_repeats=0"])).exits(0);
    let run = sandbox.the_run();
    let text = text_of(&run, "per_run.jsonl");
    let lines: Vec<&str> = text.lines().collect();
    std::fs::write(run.join("per_run.jsonl"), format!("{}\n{}\n{}\n", lines[0], &lines[1][..40], lines[2])).unwrap();
    sandbox.run(&["runs", "verify", "latest"]).exits(3);
    sandbox.run(&["report", "latest"]).exits(2).says(&["per_run.jsonl:2"]).hints("--salvage");
    sandbox.run(&["report", "latest", "--salvage"]).exits(0);
    let metrics = json_of(&run, "metrics.json");
    assert_eq!(metrics["measures"]["total_ms"]["n"], 2);
    let lost = metrics["diagnostics"].as_array().unwrap().iter().find(|found| found["code"] == "bad_row").unwrap();
    assert_eq!((&lost["severity"], &lost["count"]), (&json!("data_loss"), &json!(1)));

    // A torn last line is what a crash leaves: dropped and counted without being asked.
    std::fs::write(
        run.join("per_run.jsonl"),
        format!("{}\n{}\n{}", lines[0], lines[1], &lines[2][..lines[2].len() / 2]),
    )
    .unwrap();
    sandbox.run(&["report", "latest"]).exits(0);
    let metrics = json_of(&run, "metrics.json");
    assert_eq!(metrics["measures"]["total_ms"]["n"], 2);
    assert!(metrics["diagnostics"].to_string().contains("torn_last_row"));
}

#[test]
fn an_edited_artifact_is_found() {
    let sandbox = Sandbox::new();
    finish(sandbox.stage1(&[])).exits(0);
    let run = sandbox.the_run();
    let edited = text_of(&run, "metrics.json").replacen("VALID", "valid", 1);
    std::fs::write(run.join("metrics.json"), edited).unwrap();
    let verified = sandbox.run(&["runs", "verify", "latest"]).exits(3);
    assert!(verified.stdout.contains("metrics.json"), "{}", verified.stdout);
}

#[test]
fn newer_files_are_refused_by_their_version_and_older_ones_read() {
    let sandbox = Sandbox::new();
    finish(sandbox.stage1(&["profiling.span_repeats=0"])).exits(0);
    let run = sandbox.the_run();
    let raise = |name: &str| {
        let text = text_of(&run, name);
        let raised = text.replacen("\"schema_version\": 1", "\"schema_version\": 99", 1).replacen(
            "\"schema_version\":1",
            "\"schema_version\":99",
            1,
        );
        assert_ne!(raised, text);
        std::fs::write(run.join(name), raised).unwrap();
        sandbox.run(&["report", "latest"]).says(&["99", "newer"]);
        let refused = sandbox.run(&["report", &run.display().to_string(), "--salvage"]).exits(2).says(&[name, "99"]);
        refused.hints("perfprof that wrote it");
        std::fs::write(run.join(name), text).unwrap();
    };
    raise("per_run.jsonl");
    raise("context.json");
    // Rows of the transformers-based harness, from before there were versions.
    let old = json!({
        "run_id": "x", "model": "m", "backend": "hf", "dtype": "float16", "prompt_len": 8, "new_tokens": 5, "ttft_s": 0.5,
        "tpot_s": 0.1, "dt_full_s": 0.9, "tok_s": 5.5, "peak_memory_allocated_gb": 1.5, "case": "p8_n5_b1"
    });
    std::fs::write(run.join("per_run.jsonl"), format!("{old}\n")).unwrap();
    sandbox.run(&["report", "latest"]).exits(0);
    let metrics = json_of(&run, "metrics.json");
    assert_eq!(metrics["measures"]["ttft_ms"]["mean"], 500.0);
    assert!(metrics["diagnostics"].to_string().contains("old_row_schema"));
}

#[test]
fn a_reader_that_goes_away_does_not_end_the_run() {
    let sandbox = Sandbox::new();
    let mut child = start(sandbox.stage1(&["repeats=2"]));
    drop(child.stdout.take());
    wait(child).exits(0);
    let run = sandbox.the_run();
    assert_eq!(json_of(&run, "run.json")["status"], "complete");
    sandbox.run(&["runs", "verify", "latest"]).exits(0);
}

#[test]
fn a_missing_model_is_told_with_what_to_do() {
    let sandbox = Sandbox::new();
    let run = |setting: &str| finish(sandbox.command(&["stage1", setting, "prompt_tokens=4"]));
    run("model=smollm2").exits(2).says(&["smollm2", "there is no file"]).hints("scripts/fetch-model.sh smollm2");
    run("model.path=nowhere/x.gguf").exits(2).says(&["nowhere/x.gguf"]).hints("never downloads");
    run("model=smolm2").exits(1).says(&["no model is called `smolm2`"]).hints("did you mean `smollm2`");
    run("model.hf_id=org/absent").exits(2).says(&["org/absent", "Hugging Face cache"]).hints("hf download org/absent");
    sandbox.made_no_run();
}
