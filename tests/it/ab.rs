//! `perfprof ab` with real processes of a model small enough for a repeat to take a millisecond.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::sandbox::{Outcome, Sandbox, TINY, finish, json_of};

/// A study of the tiny model that is over in a few seconds.
const QUICK: [&str; 8] = [
    "prompt_tokens=8",
    "infer.max_new_tokens=5",
    "repeats=2",
    "profiling.span_repeats=1",
    "warmup=1",
    "blocks=2",
    "min_blocks=2",
    "control=off",
];

fn ab(sandbox: &Sandbox, arguments: &[&str]) -> Command {
    let mut command = sandbox.command(&["ab"]);
    command.args(TINY).args(QUICK).args(arguments);
    command
}

fn the_study(sandbox: &Sandbox) -> PathBuf {
    let studies: Vec<PathBuf> =
        std::fs::read_dir(sandbox.path().join("tmp/ab")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(studies.len(), 1, "{studies:?}");
    studies[0].clone()
}

fn rows(study: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(study.join("per_run.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn verdicts(metrics: &Value) -> Vec<(String, String)> {
    let all = metrics["comparisons"].as_array().unwrap();
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    all.iter().map(|row| (text(row, "measure"), text(row, "verdict"))).collect()
}

#[test]
fn a_study_leaves_a_whole_directory_and_every_repeat_is_a_row() {
    let sandbox = Sandbox::new();
    let outcome = finish(ab(&sandbox, &["one=engine.threads=1", "two=engine.threads=2", "control=2", "--json"]));
    let outcome = outcome.exits(0);
    let study = the_study(&sandbox);
    for file in [
        "run.json",
        "config.yaml",
        "env.json",
        "study.json",
        "study_end.json",
        "per_run.jsonl",
        "metrics.json",
        "compare.md",
        "compare.html",
        "MANIFEST.json",
    ] {
        assert!(study.join(file).is_file(), "{file}");
    }
    let metrics = outcome.json();
    assert_eq!((metrics["command"].as_str(), metrics["status"].as_str()), (Some("ab"), Some("complete")), "{metrics}");
    assert_eq!(metrics["study"]["labels"], serde_json::json!(["one", "two"]));
    assert_eq!(metrics["study"]["blocks"], 2);
    assert_eq!(metrics["study"]["stopped_because"], "blocks");
    assert_eq!(metrics["study"]["variants"][1]["engine.threads"], "2");
    assert!(!metrics["study"]["control"].as_array().unwrap().is_empty(), "the control was judged");
    let findings = metrics["diagnostics"].as_array().unwrap();
    assert!(findings.iter().any(|found| found["code"] == "few_control_blocks"), "{findings:?}");
    let order = metrics["study"]["order"].as_array().unwrap();
    assert!(order.len() == 2 && order[0] != order[1], "the second block mirrors the first: {order:?}");

    // 2 blocks × 2 turns of the control and of the study, each of 2 repeats and 1 with spans.
    let rows = rows(&study);
    assert_eq!(rows.len(), 2 * 2 * 2 * 3);
    let count =
        |part: &str, label: &str| rows.iter().filter(|row| row["part"] == part && row["label"] == label).count();
    assert_eq!((count("control", "one"), count("control", "one again")), (6, 6));
    assert_eq!((count("study", "one"), count("study", "two")), (6, 6));
    for (index, row) in rows.iter().enumerate() {
        assert_eq!(row["index"], index);
        let child = study.join("runs/stage1").join(row["child"].as_str().unwrap());
        assert_eq!(json_of(&child, "run.json")["command"], "stage1", "each turn has a run of its own");
        if row["part"] == "study" {
            let order = &metrics["study"]["order"][row["block"].as_u64().unwrap() as usize];
            assert_eq!(order[row["position"].as_u64().unwrap() as usize], row["variant"], "the rows follow the plan");
        }
    }
    let config = std::fs::read_to_string(study.join("config.yaml")).unwrap();
    assert!(config.contains("min_blocks: 2") && config.contains("engine.threads=2"), "{config}");
    // What was written is a study again.
    let again =
        finish(sandbox.command(&["ab", "--study", study.join("config.yaml").to_str().unwrap(), "--print-config"]));
    again.exits(0);
    sandbox.run(&["runs", "verify", study.to_str().unwrap()]).exits(0);
}

#[test]
fn the_same_settings_under_two_names_are_never_called_different() {
    let sandbox = Sandbox::new();
    let outcome = finish(ab(&sandbox, &["study=aa", "blocks=6", "min_blocks=6", "repeats=6", "margin=0.5", "--json"]));
    let metrics = outcome.exits(0).json();
    assert_eq!(metrics["study"]["labels"], serde_json::json!(["base", "same"]));
    let verdicts = verdicts(&metrics);
    assert!(!verdicts.is_empty());
    for (measure, verdict) in verdicts {
        assert!(["same", "cannot_tell"].contains(&verdict.as_str()), "{measure}: {verdict}");
    }
}

#[test]
fn variants_of_different_work_have_no_winner() {
    let sandbox = Sandbox::new();
    let outcome = finish(ab(&sandbox, &["short=prompt_tokens=8", "long=prompt_tokens=32", "--json"]));
    let metrics = json_of(&the_study(&sandbox), "metrics.json");
    assert!(outcome.code.is_some());
    let kinds: Vec<&str> =
        metrics["differences"].as_array().unwrap().iter().filter_map(|found| found["kind"].as_str()).collect();
    assert!(kinds.contains(&"not_the_same_work"), "{}", metrics["differences"]);
    // The size of the prompt is studied, so measures of one token are compared; loading is the same work but for the size of the cache.
    for (measure, verdict) in verdicts(&metrics).iter().filter(|(measure, _)| measure != "load_ms") {
        assert!(!["faster", "slower"].contains(&verdict.as_str()), "{measure}: {verdict}");
    }
}

/// The arguments of a study whose candidate does everything in `down_proj` for half as long again.
const SLOWED: [&str; 7] = [
    "model.architecture.intermediate_size=2048",
    "model.architecture.hidden_size=256",
    "base=",
    "slow=env.PERFPROF_SLOW_OPERATOR=down_proj:2.0",
    "blocks=8",
    "min_blocks=8",
    "repeats=6",
];

#[test]
fn a_planted_slowdown_is_found_placed_and_gated() {
    let sandbox = Sandbox::new();
    let mut command = ab(&sandbox, &SLOWED);
    command.args(["infer.max_new_tokens=16", "--fail-on", "total_ms.p50>+2%", "--json"]);
    let outcome = finish(command).exits(1);
    let metrics = outcome.json();
    let verdicts = verdicts(&metrics);
    assert!(verdicts.contains(&("total_ms".to_owned(), "slower".to_owned())), "{verdicts:?}");
    assert!(!verdicts.iter().any(|(_, verdict)| verdict == "faster"), "{verdicts:?}");
    assert_eq!(metrics["gate"]["passed"], false);
    assert_eq!(metrics["gate"]["rules"][0]["outcome"], "failed");
    let rows = metrics["attribution"][0]["rows"].as_array().expect("operators were attributed");
    let largest =
        rows.iter().max_by(|a, b| a["delta_ns"].as_f64().unwrap().total_cmp(&b["delta_ns"].as_f64().unwrap())).unwrap();
    let place = format!("{} {}", largest["module"], largest["kernel"]);
    assert!(place.contains("down_proj"), "{largest}");
}

#[test]
fn a_rule_that_holds_does_not_fail_the_study() {
    let sandbox = Sandbox::new();
    let mut command = ab(&sandbox, &["study=aa", "blocks=6", "min_blocks=6", "--fail-on", "total_ms.p50>+400%"]);
    command.arg("--json");
    let metrics = finish(command).exits(0).json();
    assert_eq!(metrics["gate"]["passed"], true);
}

#[test]
fn all_variants_in_one_process_take_turns_repeat_by_repeat() {
    let sandbox = Sandbox::new();
    let mut command = ab(&sandbox, &["one=engine.threads=1", "two=engine.threads=2", "--in-process"]);
    command.args(["blocks=4", "min_blocks=4", "control=2", "--json"]);
    let metrics = finish(command).exits(0).json();
    assert_eq!(metrics["study"]["isolation"], "in process");
    assert_eq!(metrics["study"]["blocks"], 4);
    let study = the_study(&sandbox);
    let rows = rows(&study);
    let warm = |row: &&Value| row["part"] == "warm_up";
    assert!(rows.iter().filter(warm).count() >= 12, "each variant was warmed up until steady");
    assert!(rows.iter().filter(warm).all(|row| row["dropped_as_warmup"] == true));
    let plain = rows.iter().filter(|row| row["part"] == "study" && row["row"]["spans"] == false).count();
    assert_eq!(plain, 4 * 2, "one repeat in each turn");
    let children: std::collections::BTreeSet<&str> = rows.iter().filter_map(|row| row["child"].as_str()).collect();
    assert_eq!(children.into_iter().collect::<Vec<_>>(), ["v0", "v1"]);
    assert!(!verdicts(&metrics).iter().any(|(measure, _)| measure == "peak_rss_bytes"), "the peak is of the process");
    let dropped = metrics["study"]["warmup_dropped"]["one"].as_array().unwrap();
    assert!(dropped.len() == 1 && dropped[0].as_u64() >= Some(6), "{dropped:?}");
}

#[test]
fn a_variant_that_never_works_ends_the_study_with_its_own_words() {
    let sandbox = Sandbox::new();
    let mut command = ab(&sandbox, &["good=", "bad=env.PERFPROF_FAULT=error:*"]);
    command.arg("run.keep_going=false");
    let outcome =
        finish(command).exits(2).says(&["variant `bad` never worked", "injected error"]).hints("the study is in");
    assert!(outcome.stdout.is_empty());
    let study = the_study(&sandbox);
    let run = json_of(&study, "run.json");
    assert_eq!(run["status"], "failed");
    assert!(run["error"].as_str().unwrap().contains("injected error"), "{run}");
    let failed: Vec<Value> = rows(&study).into_iter().filter(|row| row["status"] == "failed").collect();
    assert!(!failed.is_empty() && failed.iter().all(|row| row["label"] == "bad"), "{failed:?}");
}

#[test]
fn mistakes_are_refused_before_anything_runs() {
    let sandbox = Sandbox::new();
    for (arguments, words) in [
        (vec!["base=engine.threads=1"], "two variants at least"),
        (vec!["base=engine.threads=1", "cand=engine.thread=2"], "unknown key `engine.thread`"),
        (vec!["base=", "cand=", "blocks=1"], "less than `min_blocks`"),
        (vec!["base=", "cand=", "precison=0.1"], "precison"),
        (vec!["base=", "cand=engine.ops"], "`engine.ops` is no `key=value`"),
        (vec!["study=nothing"], "no study is called `nothing`"),
        (vec!["base=", "cand=", "precision=-1"], "`precision` is `-1`"),
        (vec!["base=", "cand=run.id=x"], "run.id"),
        (vec!["base=", "cand=", "--fail-on", "tpot_ms"], "rule `tpot_ms`"),
        (vec!["base=", "b/c=engine.threads=1"], "b/c"),
        (vec!["base=", "cand=env.A-B=1"], "no variable of an environment"),
        (vec!["base=", "cand=env.A=1", "--in-process"], "which variants in one process share"),
        (vec!["base=", "cand=model.path=nowhere.gguf"], "nowhere.gguf"),
        (vec!["base=", "cand=prompt_tokens=9000000"], "variant `cand`"),
    ] {
        let outcome: Outcome = finish(ab(&sandbox, &arguments));
        assert!(matches!(outcome.code, Some(1 | 2)), "{arguments:?}: {outcome:?}");
        assert!(outcome.stderr.contains(words), "{arguments:?}: `{words}` is not in\n{}", outcome.stderr);
        assert!(!sandbox.path().join("tmp/ab").exists(), "{arguments:?} made a run");
    }
}

/// Waits until `found` says yes; a test that waits in vain fails.
fn wait_for(what: &str, mut found: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !found() {
        assert!(Instant::now() < deadline, "no {what} within a minute");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn lines(path: &Path) -> usize {
    std::fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

fn first_study(sandbox: &Sandbox) -> Option<PathBuf> {
    std::fs::read_dir(sandbox.path().join("tmp/ab")).ok()?.next()?.ok().map(|entry| entry.path())
}

/// Starts a study that would go on for very long, and waits until it has rows of `turns` turns.
fn endless(sandbox: &Sandbox, turns: usize) -> (std::process::Child, PathBuf) {
    let mut command =
        ab(sandbox, &["one=", "two=engine.threads=1", "blocks=5000", "precision=0", "profiling.cooldown_ms=5"]);
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let child = command.spawn().unwrap();
    let mut study = None;
    wait_for("rows of the study", || {
        study = first_study(sandbox);
        study.as_ref().is_some_and(|study| lines(&study.join("per_run.jsonl")) >= 3 * turns)
    });
    (child, study.unwrap())
}

/// Process ids whose command line names `text`: turns are told the directory of their study.
#[cfg(target_os = "linux")]
fn processes_of(text: &str) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|id| {
            let line = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
            let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(text) && !stat.contains(") Z ")
        })
        .collect()
}

#[cfg(target_os = "linux")]
#[test]
fn an_interrupted_study_keeps_its_rows_and_has_a_report() {
    let sandbox = Sandbox::new();
    let (child, study) = endless(&sandbox, 6);
    // SAFETY: a plain system call on a process that has not been waited for.
    assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGINT) }, 0);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(json_of(&study, "run.json")["status"], "interrupted");
    let metrics = json_of(&study, "metrics.json");
    assert_eq!(
        (metrics["status"].as_str(), metrics["study"]["stopped_because"].as_str()),
        (Some("interrupted"), Some("interrupted"))
    );
    assert!(metrics["study"]["blocks"].as_u64() >= Some(2), "{}", metrics["study"]);
    assert!(study.join("compare.md").is_file());
    assert!(processes_of(study.file_name().unwrap().to_str().unwrap()).is_empty(), "no process is left");
}

#[cfg(target_os = "linux")]
#[test]
fn the_processes_of_a_killed_study_die_with_it_and_its_rows_stay_readable() {
    let sandbox = Sandbox::new();
    let (mut child, study) = endless(&sandbox, 6);
    let runs = study.file_name().unwrap().to_owned();
    child.kill().unwrap();
    child.wait().unwrap();
    wait_for("end of the processes", || processes_of(runs.to_str().unwrap()).is_empty());
    assert!(!study.join("metrics.json").exists(), "nothing had been summed up yet");
    let rebuilt = perfprof::runner::ab::rebuild::rebuild(&study, false).unwrap();
    let block = rebuilt.metrics.study.unwrap();
    assert_eq!((rebuilt.metrics.status.as_str(), block.stopped_because.as_str()), ("interrupted", "interrupted"));
    assert!(block.blocks >= 2);
    assert!(rebuilt.subjects.iter().all(|subject| subject.measures.iter().any(|measure| measure.name == "total_ms")));
}

#[cfg(target_os = "linux")]
#[test]
fn a_killed_turn_is_a_failure_on_record_and_the_study_goes_on() {
    let sandbox = Sandbox::new();
    let (child, study) = endless(&sandbox, 4);
    let runs = study.file_name().unwrap().to_owned();
    let mut victim = None;
    wait_for("process of a turn", || {
        victim = processes_of(runs.to_str().unwrap()).first().copied();
        victim.is_some()
    });
    // SAFETY: a plain system call; at worst the process has ended already, and then the next one is taken below.
    unsafe { libc::kill(victim.unwrap(), libc::SIGKILL) };
    let killed = || {
        let text = std::fs::read_to_string(study.join("per_run.jsonl")).unwrap();
        text.contains("killed by signal 9")
    };
    wait_for("failed row", || {
        if !killed()
            && let Some(id) = processes_of(runs.to_str().unwrap()).first()
        {
            // SAFETY: as above.
            unsafe { libc::kill(*id, libc::SIGKILL) };
            std::thread::sleep(Duration::from_millis(50));
        }
        killed()
    });
    let before = lines(&study.join("per_run.jsonl"));
    wait_for("rows after the failure", || lines(&study.join("per_run.jsonl")) >= before + 6);
    // SAFETY: as above.
    assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGINT) }, 0);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let metrics = json_of(&study, "metrics.json");
    let failed: u64 = metrics["subjects"]
        .as_array()
        .unwrap()
        .iter()
        .map(|subject| subject["outcomes"]["failed"].as_u64().unwrap())
        .sum();
    assert!(failed >= 1, "{}", metrics["subjects"]);
}
