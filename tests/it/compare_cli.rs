//! `perfprof compare` as its users meet it: what is printed, what is left behind, and the exit code.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::sandbox::{Outcome, Sandbox, TINY, finish};

/// A result of llama-bench with the decode rates of one process.
fn result(sandbox: &Sandbox, name: &str, model: &str, tokens: u64, rates: &[f64]) -> String {
    let entry = json!([{
        "build_commit": "8cf427ff", "model_filename": model, "model_type": "llama", "n_threads": 2, "n_prompt": 0, "n_gen": tokens,
        "avg_ts": rates.iter().sum::<f64>() / rates.len() as f64, "samples_ts": rates
    }]);
    sandbox.write(name, entry.to_string());
    name.to_owned()
}

const RATES: [f64; 6] = [100.0, 101.0, 99.5, 100.4, 99.0, 100.8];

fn scaled(factor: f64) -> Vec<f64> {
    RATES.iter().map(|rate| rate * factor).collect()
}

fn compare(sandbox: &Sandbox, arguments: &[&str]) -> Outcome {
    let mut command: Command = sandbox.command(&["compare"]);
    command.args(arguments);
    finish(command)
}

/// The only comparison there is.
fn the_comparison(sandbox: &Sandbox) -> PathBuf {
    let runs: Vec<PathBuf> =
        std::fs::read_dir(sandbox.path().join("tmp/compare")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(runs.len(), 1, "{runs:?}");
    runs[0].clone()
}

fn metrics(run: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(run.join("metrics.json")).unwrap()).unwrap()
}

#[test]
fn a_file_against_itself_and_against_its_copy_is_the_same() {
    let sandbox = Sandbox::new();
    let one = result(&sandbox, "one.json", "m.gguf", 64, &RATES);
    let copy = result(&sandbox, "copy.json", "m.gguf", 64, &RATES);
    for other in [&one, &copy] {
        let printed = compare(&sandbox, &[&one, other, "--json"]).exits(0).json();
        let row = &printed["comparisons"][0];
        assert_eq!(row["verdict"], "same", "{row}");
        assert!(
            row["reason"].as_str().unwrap().ends_with("the same, since both sides hold the very same values"),
            "{row}"
        );
    }
}

#[test]
fn five_repetitions_a_side_tell_a_large_difference_and_four_do_not() {
    let sandbox = Sandbox::new();
    let base = result(&sandbox, "base.json", "m.gguf", 64, &RATES[..5]);
    let fast = result(&sandbox, "fast.json", "m.gguf", 64, &scaled(1.2)[..5]);
    let row = compare(&sandbox, &[&base, &fast, "--json"]).exits(0).json()["comparisons"][0].clone();
    assert_eq!((row["verdict"].as_str(), row["measure"].as_str()), (Some("faster"), Some("decode_tok_per_s")), "{row}");
    // 1.2 × the least over the largest, and the other way round.
    let ends: Vec<f64> = row["ci95"].as_array().unwrap().iter().map(|end| end.as_f64().unwrap()).collect();
    assert!((ends[0] - 118.8 / 101.0).abs() < 1e-9 && (ends[1] - 121.2 / 99.0).abs() < 1e-9, "{ends:?}");
    let few = result(&sandbox, "few.json", "m.gguf", 64, &scaled(1.2)[..4]);
    let row = compare(&sandbox, &[&base, &few, "--json"]).exits(0).json()["comparisons"][0].clone();
    assert_eq!(row["verdict"], "cannot_tell");
    assert!(row["reason"].as_str().unwrap().contains("4 values of one process are too few"), "{row}");
}

#[test]
fn other_work_has_no_winner_in_any_file_and_no_gate() {
    let sandbox = Sandbox::new();
    let base = result(&sandbox, "base.json", "m.gguf", 64, &RATES);
    let other = result(&sandbox, "other.json", "n.gguf", 64, &scaled(2.0));
    let outcome = compare(&sandbox, &[&base, &other]).exits(0);
    assert!(outcome.stdout.contains("did not do the same work as"), "{}", outcome.stdout);
    for file in ["compare.md", "stakeholder_summary.md", "ci_summary.md"] {
        let text = std::fs::read_to_string(the_comparison(&sandbox).join(file)).unwrap();
        assert!(!text.contains("as fast as") && !text.contains("✓ faster"), "{file}:\n{text}");
    }
    // Whoever asks for a gate must not be told that it passed.
    compare(&sandbox, &[&base, &other, "--fail-on", "decode_tok_per_s<-3%"]).exits(3);
}

#[test]
fn the_exit_code_says_how_the_gate_came_out() {
    let sandbox = Sandbox::new();
    let base = result(&sandbox, "base.json", "m.gguf", 64, &RATES);
    let slow = result(&sandbox, "slow.json", "m.gguf", 64, &scaled(0.8));
    let gate = |candidate: &str, rule: &str| compare(&sandbox, &[&base, candidate, "--fail-on", rule]);
    gate(&slow, "decode_tok_per_s<-3%").exits(1);
    gate(&slow, "decode_tok_per_s < -5 tok/s @ 99%").exits(1);
    gate(&slow, "case:tg*/decode_tok_per_s.p50<-3%").exits(1);
    // As the interval is widened by what two processes may differ by, a limit inside it is not decided: that fails nothing.
    gate(&slow, "decode_tok_per_s<-20%").exits(0);
    gate(&base, "decode_tok_per_s<-30%").exits(0);
    gate(&slow, "decode_tok_per_z<-3%")
        .exits(1)
        .says(&["did you mean `decode_tok_per_s`?"])
        .hints("measures of the baseline");
    gate(&slow, "case:pp/decode_tok_per_s<-3%").exits(1).hints("cases of the baseline: `tg64`");
    gate(&slow, "decode_tok_per_s<-3").exits(1);
    gate(&slow, "decode_tok_per_s<-3ms").exits(1).says(&["the limit is in `ms`"]);
    gate(&slow, "decode_tok_per_s<<3%").exits(1).says(&["character 18", "a number"]);
}

#[test]
fn a_rule_in_per_cent_is_shown_in_per_cent_whatever_the_case_is_called() {
    let sandbox = Sandbox::new();
    let entry = |rates: &[f64]| json!([{"model_filename": "m", "model_type": "m", "n_prompt": 0, "n_gen": 64, "n_depth": 256, "avg_ts": 1.0, "samples_ts": rates}]);
    sandbox.write("base.json", entry(&RATES).to_string());
    sandbox.write("slow.json", entry(&scaled(0.8)).to_string());
    compare(&sandbox, &["base.json", "slow.json", "--fail-on", "case:tg64 @ d256/decode_tok_per_s<-3%"]).exits(1);
    let text = std::fs::read_to_string(the_comparison(&sandbox).join("compare.md")).unwrap();
    let row = text.lines().find(|line| line.starts_with("| case:tg64 @ d256")).unwrap();
    assert!(row.contains("| −20.0 % |"), "{row}");
}

#[test]
fn junit_and_summary_are_written_where_a_pipeline_wants_them() {
    let sandbox = Sandbox::new();
    let base = result(&sandbox, "base.json", "m.gguf", 64, &RATES);
    let slow = result(&sandbox, "slow.json", "m.gguf", 64, &scaled(0.8));
    let summary = sandbox.write("summary.md", "from an earlier step\n");
    let arguments =
        [&base, &slow, "--fail-on", "decode_tok_per_s<-3%", "--junit", "out.xml", "--summary", "summary.md"];
    compare(&sandbox, &arguments).exits(1);
    let text = std::fs::read_to_string(summary).unwrap();
    assert!(text.starts_with("from an earlier step\n## perfprof compare: slow against base"), "{text}");
    let junit = std::fs::read_to_string(sandbox.path().join("out.xml")).unwrap();
    assert!(junit.contains("failures=\"1\"") && junit.contains("decode_tok_per_s&lt;-3%"), "{junit}");
}

#[test]
fn names_that_stand_for_no_side_are_refused() {
    let sandbox = Sandbox::new();
    let base = result(&sandbox, "base.json", "m.gguf", 64, &RATES);
    compare(&sandbox, &[&base]).exits(1).says(&["needs a baseline and at least one candidate"]);
    compare(&sandbox, &[&base, "missing.json"]).exits(1).says(&["neither a file nor a run"]);
    compare(&sandbox, &[&base, ","]).exits(1).says(&["names nothing to compare"]);
    let twice = format!("{base},{base}");
    compare(&sandbox, &[&base, &twice]).exits(1).says(&["names `base.json` twice"]);
    sandbox.write("note.txt", "hello");
    compare(&sandbox, &[&base, "note.txt"]).exits(2).says(&["is neither JSON nor a trace"]);
    compare(&sandbox, &[&base, &base]).exits(0);
    compare(&sandbox, &[&base, "latest:compare"]).exits(1).says(&["is a run of `compare`"]);
    // Nothing but the comparison that worked left a run.
    assert_eq!(std::fs::read_dir(sandbox.path().join("tmp/compare")).unwrap().count(), 1);
}

#[test]
fn a_tagged_baseline_is_compared_with_the_latest_run_and_outlives_its_directory() {
    let sandbox = Sandbox::new();
    let run = |tokens: &str| {
        let mut command = sandbox.command(&["stage1", "-q", "repeats=2", "infer.max_new_tokens=4", tokens]);
        command.args(TINY);
        finish(command).exits(0);
    };
    run("prompt_tokens=8");
    finish(sandbox.command(&["runs", "tag", "latest", "baseline", "--store", "baseline.json"])).exits(0);
    run("prompt_tokens=8");
    let printed = compare(&sandbox, &["baseline", "latest", "--json"]).exits(0).json();
    let labels = [0, 1].map(|at: usize| printed["subjects"][at]["run_ids"][0].clone());
    assert_ne!(labels[0], labels[1]);
    // The newest run is now the comparison itself, and `latest` still is the newest that can be a side.
    let again = compare(&sandbox, &["baseline", "latest", "--json"]).exits(0).json();
    assert_eq!(again["subjects"][1]["run_ids"], printed["subjects"][1]["run_ids"]);
    let stored = compare(&sandbox, &["baseline.json", "latest", "--json"]).exits(0).json();
    assert_eq!(stored["comparisons"], printed["comparisons"]);
    // Prompts of another length are other work.
    run("prompt_tokens=16");
    let other = compare(&sandbox, &["baseline.json", "latest", "--json"]).exits(0).json();
    let kinds: Vec<&str> =
        other["differences"].as_array().unwrap().iter().map(|row| row["kind"].as_str().unwrap()).collect();
    assert!(kinds.contains(&"not_the_same_work"), "{kinds:?}");
    let facts: Vec<&str> =
        other["differences"].as_array().unwrap().iter().map(|row| row["fact"].as_str().unwrap()).collect();
    // Other prompts give other tokens: no finding.
    assert!(!facts.iter().any(|fact| fact.ends_with("output_sha256")), "{facts:?}");
    let joined = compare(&sandbox, &["baseline,latest:stage1", "latest", "--json"]).exits(0).json();
    assert_eq!(joined["subjects"][0]["label"], "baseline + 1 more");
    let kept = sandbox.path().join("tmp/compare").join(joined["run_id"].as_str().unwrap());
    assert_eq!(metrics(&kept)["run_id"], joined["run_id"]);
}

#[test]
fn colours_asked_for_reach_a_pipe_and_others_do_not() {
    let sandbox = Sandbox::new();
    let base = result(&sandbox, "base.json", "m.gguf", 64, &RATES);
    let slow = result(&sandbox, "slow.json", "m.gguf", 64, &scaled(0.5));
    for (color, expected) in [("always", true), ("auto", false), ("never", false)] {
        let printed = compare(&sandbox, &[&base, &slow, "--color", color]).exits(0).stdout;
        assert_eq!(printed.contains("\u{1b}["), expected, "{color}: {printed:?}");
    }
}
