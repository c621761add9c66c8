//! `perfprof sweep` over load tests of a mock server.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::compare_load::{Mock, PATIENT};
use crate::sandbox::{Sandbox, json_of, text_of};

/// A sweep file whose points are load tests of 12 requests of 6 tokens against `mock`.
fn file(sandbox: &Sandbox, mock: &Mock, rest: &str) -> String {
    let quick = ["requests_per_stage=12", "warmup=1", "prompts.output_tokens=6"];
    let mut all: Vec<String> = vec![format!("base_url={}", mock.url)];
    // Each point says by itself whether it is VALID.
    let settings = quick.iter().chain(PATIENT.iter().filter(|text| !text.starts_with("run.")));
    all.extend(settings.map(|text| (*text).to_owned()));
    let text = format!("command: load\noverrides:\n  - {}\n{rest}", all.join("\n  - "));
    sandbox.write("mine.yaml", text).display().to_string()
}

fn the_sweep(sandbox: &Sandbox) -> PathBuf {
    let entries = std::fs::read_dir(sandbox.path().join("tmp/sweep")).unwrap();
    let sweeps: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    assert_eq!(sweeps.len(), 1, "{sweeps:?}");
    sweeps[0].clone()
}

#[test]
fn the_best_of_some_load_tests_is_found_and_an_invalid_one_is_a_point_like_others() {
    let sandbox = Sandbox::new();
    let mock = Mock::start(&sandbox, &["--ttft-ms", "30", "--itl-ms", "5"]);
    // The last sends when it is due and would have to be on time to a nanosecond.
    let path = file(
        &sandbox,
        &mock,
        "list:\n  - {concurrency: 1}\n  - {concurrency: [2, 4]}\n  - {arrival: constant, rate: 100, client.max_dispatch_delay_ms: 0.000001}\n\
         objective: output_tok_per_s\nconstraints: ['error_rate<=0', 'e2e_ms.p90<5000']\npareto: [output_tok_per_s, ttft_ms]\n",
    );
    let metrics = sandbox.run(&["sweep", &path, "--tag", "servers", "--json"]).exits(0).json();
    assert_eq!((&metrics["runs"], &metrics["outcomes"]), (&json!("load"), &json!({"ok": 3})));
    let results = metrics["results"].as_array().unwrap();
    assert_eq!(results.iter().map(|result| &result["point"]).collect::<Vec<_>>(), [0, 1, 2]);
    let of = |at: usize, name: &str| results[at]["measures"][name]["p50"].as_f64().unwrap();
    // One after the other, 6 tokens take 30 + 5 · 5 ms and no less: at most 109 tokens a second.
    assert!(of(0, "output_tok_per_s") < 110.0, "{}", of(0, "output_tok_per_s"));
    assert!(of(1, "output_tok_per_s") > 1.5 * of(0, "output_tok_per_s"), "the better of two stages");
    assert_eq!((of(0, "error_rate"), &results[2]["valid"]), (0.0, &json!(false)));
    assert!((of(0, "ttft_ms") - 30.0).abs() < 15.0, "{}", of(0, "ttft_ms"));
    // The fastest of all calls itself INVALID.
    assert_eq!((&metrics["best"]["result"], &metrics["validity"]["status"]), (&json!(1), &json!("VALID")));
    let codes: Vec<&str> =
        metrics["diagnostics"].as_array().unwrap().iter().filter_map(|found| found["code"].as_str()).collect();
    assert!(codes.contains(&"invalid_points"), "{codes:?}");
    let line = metrics["best"]["command_line"].as_str().unwrap();
    assert!(line.starts_with("perfprof load base_url=http://") && line.contains("concurrency=[2,4]"), "{line}");

    // Each point is a run of its own, with its requests.
    let sweep = the_sweep(&sandbox);
    let run = sweep.join("runs/load").join(results[1]["run"].as_str().unwrap());
    assert_eq!(text_of(&run, "requests.jsonl").lines().count(), 2 * 13);
    assert_eq!(json_of(&run, "metrics.json")["stages"].as_array().unwrap().len(), 2);
    assert_eq!(json_of(&run, "run.json")["status"], "complete");
    let report = text_of(&sweep, "report.md");
    assert!(report.contains("output_tok_per_s") && !report.contains("repeats"), "{report}");

    // Nothing is left to try, with and without the file.
    for arguments in [&["sweep", &path, "--resume", "servers"][..], &["sweep", "--resume", "servers"]] {
        sandbox.run(arguments).exits(0);
        assert_eq!(text_of(&sweep, "points.jsonl").lines().count(), 3);
    }
    sandbox.run(&["sweep", "--resume", "servers", "command=stage1"]).exits(1).says(&["would change the points"]);
}

#[test]
fn a_sweep_of_load_tests_goes_on_where_it_stopped_unless_its_prompts_changed() {
    let sandbox = Sandbox::new();
    let mock = Mock::start(&sandbox, &["--ttft-ms", "5", "--itl-ms", "1"]);
    let prompts = sandbox.write("prompts.jsonl", "{\"prompt\":\"one two\"}\n");
    let rest = format!("  - dataset='{}'\ngrid:\n  concurrency: [1, 2]\nobjective: ttft_ms\n", prompts.display());
    let path = file(&sandbox, &mock, &rest);
    let printed = sandbox.run(&["sweep", &path, "--max-points", "1", "--json"]).exits(0).json();
    assert_eq!(printed["outcomes"], json!({"not_run": 1, "ok": 1}));
    let metrics = sandbox.run(&["sweep", "--resume", "latest", "--json"]).exits(0).json();
    assert_eq!((&metrics["outcomes"], &metrics["best"]["candidates"]), (&json!({"ok": 2}), &json!(2)));
    let attempts: Vec<Value> =
        text_of(&the_sweep(&sandbox), "points.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(attempts.iter().map(|row| &row["point"]).collect::<Vec<_>>(), [0, 1]);
    std::fs::write(&prompts, "{\"prompt\":\"three four\"}\n").unwrap();
    let refused = sandbox.run(&["sweep", "--resume", "latest"]).exits(1);
    refused.says(&["2 of 2 differ", "other content of a file they name"]);
}

#[test]
fn a_server_that_is_away_fails_its_points_and_no_server_is_refused_before() {
    let sandbox = Sandbox::new();
    let gone = Mock::start(&sandbox, &[]);
    let url = gone.url.clone();
    drop(gone);
    sandbox.run(&["sweep", "command=load", "concurrency=1,2"]).exits(1).says(&["no server is given"]).hints("base_url");
    assert!(!sandbox.path().join("tmp/sweep").exists(), "nothing was begun");
    let listed = sandbox.run(&["sweep", "load_grid", "--print-config"]).exits(0).stdout;
    assert!(listed.contains("# 6 points of `load`"), "{listed}");
    let base = format!("base_url={url}");
    let outcome = sandbox.run(&["sweep", "command=load", &base, "concurrency=1,2", "objective=ttft_ms"]).exits(3);
    assert!(outcome.stdout.contains("INVALID"), "{outcome:?}");
    let metrics = json_of(&the_sweep(&sandbox), "metrics.json");
    assert_eq!(metrics["outcomes"], json!({"failed": 2}));
    let reasons = metrics["validity"]["reasons"].to_string();
    assert!(reasons.contains("no point of 2 ended well") && reasons.contains("nothing listens on"), "{reasons}");
    let wrong = sandbox.run(&["sweep", "command=load", &base, "concurrency=1,2", "objective=decode_tok_per_s"]);
    wrong.exits(1).says(&["`decode_tok_per_s` is no measure of a run"]).hints("output_tok_per_s");
}
