//! What a load test must not make more of than it saw: too few requests, times that were not kept, tokens nobody counted, a server that died.

use serde_json::{Value, json};

use super::mock::Mock;
use super::{Load, command, read, read_run, runs};
use crate::sandbox::{Sandbox, finish, json_of, text_of};

/// A run against the mock, of the settings alone: as many requests as they lead to.
fn run(mock: &[&str], code: i32, settings: &[&str]) -> (Sandbox, Load) {
    let sandbox = Sandbox::new();
    let mock = Mock::start(&sandbox, mock);
    let all = [&["model=mock", "requests_per_stage=null", "max_tokens=8"], settings].concat();
    let outcome = finish(command(&sandbox, &mock.url, &all)).exits(code);
    let load = read(&sandbox, outcome);
    (sandbox, load)
}

const FAST: [&str; 4] = ["--ttft-ms", "5", "--itl-ms", "1"];

#[test]
fn a_level_that_too_few_requests_could_not_reach_is_invalid_and_by_itself_every_level_is_reached() {
    let (_sandbox, short) = run(&FAST, 3, &["concurrency=4,16", "requests_per_stage=8"]);
    assert!(
        short.reasons().contains("stage `c=16`: at most 8 of 16 requests were in flight at once: only 8 were issued")
    );
    assert!(short.outcome.stderr.contains("will be INVALID: raise `requests_per_stage`"), "{}", short.outcome.stderr);
    let (_sandbox, whole) = run(&FAST, 0, &["concurrency=4,16"]);
    let issued = |at: usize| (&whole.metrics["stages"][at]["issued"], &whole.metrics["stages"][at]["peak_in_flight"]);
    assert_eq!((issued(0), issued(1)), ((&json!(32), &json!(4)), (&json!(64), &json!(16))));
    let (_sandbox, standard) = run(&FAST, 0, &["load=standard", "requests_per_stage=60", "warmup=0"]);
    let stages = standard.metrics["stages"].as_array().unwrap();
    let reached: Vec<(&Value, &Value)> =
        stages.iter().map(|stage| (&stage["concurrency"], &stage["peak_in_flight"])).collect();
    assert_eq!(reached.len(), 7);
    assert!(reached.iter().all(|(asked, peak)| asked == peak), "{reached:?}");
}

#[test]
fn a_search_does_not_go_beyond_what_its_requests_can_reach() {
    let settings = ["find=max_concurrency", "slo.ttft_ms=10000", "requests_per_stage=12", "find_limit=64"];
    let (_sandbox, found) = run(&FAST, 0, &settings);
    let most = found.metrics["stages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|stage| stage["concurrency"].as_u64().unwrap())
        .max();
    assert_eq!(most, Some(12));
}

#[test]
fn time_ends_a_stage_where_no_number_was_given() {
    let (_sandbox, timed) = run(&FAST, 0, &["concurrency=2", "duration_s=1.2"]);
    assert!(timed.stage()["elapsed_s"].as_f64().unwrap() >= 1.19, "{}", timed.stage()["elapsed_s"]);
    assert!(timed.stage()["issued"].as_u64().unwrap() > 32);
    // 0.5 s at 40/s to 120/s: 40 requests.
    let (_sandbox, ramp) = run(&FAST, 0, &["arrival=ramp", "rate=40", "rate_end=120", "duration_s=0.5"]);
    let issued = ramp.stage()["issued"].as_u64().unwrap();
    assert!((36..=44).contains(&issued), "{issued}");
    assert_eq!(ramp.stage()["label"], "40-120/s");
    // Five requests in a second are five a second, even though the last answer comes before the second is over.
    let (_sandbox, even) = run(&FAST, 0, &["arrival=constant", "rate=5", "duration_s=1"]);
    let rate = even.stage()["request_per_s"].as_f64().unwrap();
    assert_eq!(even.stage()["issued"], 5);
    assert!((4.8..=5.0).contains(&rate), "{rate}");
}

#[test]
fn each_request_of_a_trace_has_the_prompt_and_the_time_of_its_own_line() {
    let sandbox = Sandbox::new();
    let mock = Mock::start(&sandbox, &FAST);
    let lines: Vec<String> = (0..40)
        .map(|at| {
            json!({"timestamp": at * 10, "input_length": 50 + at, "output_length": 3 + at, "hash_ids": [at]})
                .to_string()
        })
        .collect();
    sandbox.write("trace.jsonl", lines.join("\n"));
    let mut command =
        command(&sandbox, &mock.url, &["model=mock", "arrival=trace", "requests_per_stage=null", "warmup=4"]);
    command.arg("dataset=trace.jsonl");
    let load = read(&sandbox, finish(command).exits(0));
    let measured: Vec<&Value> = load.rows.iter().filter(|row| row["phase"] == "measured").collect();
    assert_eq!(measured.len(), 40, "all of it");
    let begin = json_of(&load.run, "load.json")["stages"][0]["begin_ns"].as_u64().unwrap();
    for row in measured {
        let prompt = row["prompt"].as_u64().unwrap();
        assert_eq!(row["due_ns"].as_u64().unwrap() - begin, prompt * 10_000_000, "{row}");
        assert_eq!((&row["id"], &row["max_tokens"]), (&json!(prompt), &json!(3 + prompt)), "{row}");
    }
    assert_eq!(load.rows.iter().filter(|row| row["phase"] == "warmup").count(), 4);
}

#[test]
fn the_steady_part_of_one_user_has_the_rates_of_the_whole() {
    let (_sandbox, one) =
        run(&["--ttft-ms", "50", "--itl-ms", "10"], 0, &["concurrency=1", "requests_per_stage=12", "max_tokens=9"]);
    let (whole, steady) = (one.stage(), &one.stage()["steady"]["rates"]);
    for name in ["request_per_s", "output_tok_per_s"] {
        let (whole, steady) = (whole[name].as_f64().unwrap(), steady[name].as_f64().unwrap());
        assert!((steady / whole - 1.0).abs() < 0.01, "{name}: {steady} beside {whole}");
    }
}

#[test]
fn chunks_that_nobody_counted_the_tokens_of_are_not_called_tokens() {
    let mock = ["--ttft-ms", "5", "--itl-ms", "1", "--usage", "never", "--tokens-per-chunk", "4"];
    let (_sandbox, load) = run(&mock, 0, &["concurrency=2", "max_tokens=16"]);
    let said = &load.outcome.stdout;
    assert!(said.contains("output chunk/s") && !said.contains("output tok/s"), "{said}");
    assert!(said.contains("TPS is unavailable") && said.contains("per chunk"), "{said}");
    let missing = load.finding("usage_missing").unwrap();
    assert_eq!(missing["count"], 32, "{missing}");
    let summary = text_of(&load.run, "stakeholder_summary.md");
    assert!(summary.contains("pieces of text per second") && !summary.contains("tokens per second"), "{summary}");
    assert!(text_of(&load.run, "report.md").contains("a chunk may hold several"));
}

#[test]
fn what_would_fail_at_the_end_fails_before_anything_is_sent() {
    let sandbox = Sandbox::new();
    let mock = Mock::start(&sandbox, &FAST);
    let mut typo = command(&sandbox, &mock.url, &["model=mock"]);
    typo.args(["--with", "nope"]);
    finish(typo).exits(1).says(&["nope"]);
    let csv = command(&sandbox, &mock.url, &["model=mock", "output.summary_csv=not/there/a.csv"]);
    finish(csv).exits(1).says(&["output.summary_csv", "not/there/a.csv"]);
    assert_eq!(runs(&sandbox).len(), 0, "no run was begun");
    let fine = command(&sandbox, &mock.url, &["model=mock", "output.summary_csv=a.csv"]);
    finish(fine).exits(0);
    assert_eq!(text_of(sandbox.path(), "a.csv").lines().count(), 2);
}

#[test]
fn a_summary_with_another_header_is_left_as_it_is_and_one_is_begun_beside_it() {
    // A12
    let sandbox = Sandbox::new();
    let mock = Mock::start(&sandbox, &FAST);
    sandbox.write("runs2026.csv", "date,winner\n2026-01-01,us\n");
    for _ in 0..2 {
        let run = command(&sandbox, &mock.url, &["model=mock", "output.summary_csv=runs2026.csv"]);
        assert!(finish(run).exits(0).stderr.contains("has another header"));
    }
    assert_eq!(text_of(sandbox.path(), "runs2026.csv"), "date,winner\n2026-01-01,us\n");
    let beside = text_of(sandbox.path(), "runs2026-2.csv");
    assert_eq!(beside.lines().count(), 3, "{beside}");
    assert!(beside.starts_with("timestamp,backend,concurrency,"));
}

#[test]
fn a_server_that_dies_leaves_times_and_no_advice() {
    let sandbox = Sandbox::new();
    let mock = Mock::start(&sandbox, &["--ttft-ms", "20", "--itl-ms", "5"]);
    let mut command =
        command(&sandbox, &mock.url, &["model=mock", "concurrency=2,4", "requests_per_stage=24", "max_tokens=8", "stop.max_error_rate=0.5"]);
    let child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let enough = || {
        runs(&sandbox).first().is_some_and(|run| {
            std::fs::read_to_string(run.join("requests.jsonl")).is_ok_and(|text| text.lines().count() >= 8)
        })
    };
    crate::sandbox::until("some requests have ended", enough);
    drop(mock);
    let outcome = crate::sandbox::outcome(child.wait_with_output().unwrap()).exits(3);
    let load = read_run(&runs(&sandbox)[0], outcome);
    let last = &load.metrics["stages"][1];
    assert_eq!(last["outcomes"].get("ok"), None, "{last}");
    assert!(last["elapsed_s"].as_f64().unwrap() > 0.0, "{last}");
    let context = json_of(&load.run, "load.json");
    for stage in context["stages"].as_array().unwrap() {
        assert!(stage["end_ns"].as_u64() >= stage["issue_end_ns"].as_u64(), "{stage}");
    }
    // What is shown is the stage in which something succeeded.
    assert!(
        load.outcome.stdout.contains("c=2 (the last of 2 stages in which requests succeeded)"),
        "{}",
        load.outcome.stdout
    );
    let summary = text_of(&load.run, "stakeholder_summary.md");
    for advice in ["Try higher loads", "Run the server at", "Requests begin to fail at"] {
        assert!(!summary.contains(advice), "{summary}");
    }
}
