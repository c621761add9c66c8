//! Load tests as sides of a comparison, from the requests to the verdict: both commands and the mock server are real processes.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use serde_json::Value;

use crate::sandbox::{Outcome, Sandbox, finish};

/// A `perfprof mock` that ends with the test.
pub(crate) struct Mock {
    child: Child,
    pub(crate) url: String,
}

impl Mock {
    pub(crate) fn start(sandbox: &Sandbox, arguments: &[&str]) -> Self {
        let mut command = sandbox.command(&["mock", "--quiet"]);
        let mut child = command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
        assert!(url.starts_with("http://"), "{url:?}");
        Self { child, url: url.trim().to_owned() }
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        // It may have ended by itself, and that is for the test to find.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What keeps a load test of a fraction of a second VALID on a machine that is busy with other tests.
pub(crate) const PATIENT: [&str; 4] =
    ["client.max_lag_ms=1000", "telemetry.server=off", "telemetry.gpu=off", "run.allow_invalid=true"];

/// 30 requests of 12 tokens, 4 at a time, unless `settings` say otherwise; the run directory is called `name`.
fn load(sandbox: &Sandbox, mock: &Mock, name: &str, settings: &[&str]) -> PathBuf {
    let mut command = sandbox.command(&["load", "--quiet", "concurrency=4", "requests_per_stage=30", "warmup=4"]);
    command.args(PATIENT).args([format!("base_url={}", mock.url), format!("run.id={name}")]);
    // The last of two settings of one key counts.
    command.arg("prompts.output_tokens=12").args(settings);
    finish(command).exits(0);
    sandbox.path().join("tmp/load").join(name)
}

/// Runs that a machine under load has called INVALID are compared all the same: what is asked is what becomes of their values.
fn compare(sandbox: &Sandbox, sides: &[&str]) -> Outcome {
    let mut command = sandbox.command(&["compare", "--allow-invalid"]);
    command.args(sides);
    finish(command)
}

#[track_caller]
fn row(metrics: &Value, measure: &str) -> Value {
    let rows = metrics["comparisons"].as_array().unwrap();
    let found = rows.iter().find(|row| row["measure"] == measure && row["statistic"] == "median");
    found.unwrap_or_else(|| panic!("no median of `{measure}` in {rows:#?}")).clone()
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn a_server_whose_tokens_come_later_is_slower_by_as_much() {
    let sandbox = Sandbox::new();
    let fast = Mock::start(&sandbox, &["--ttft-ms", "20", "--itl-ms", "5"]);
    let slow = Mock::start(&sandbox, &["--ttft-ms", "20", "--itl-ms", "8"]);
    // Enough blocks of values for a verdict even where a busy machine makes neighbours alike.
    let one = load(&sandbox, &fast, "one", &["backend=fast", "requests_per_stage=80"]);
    load(&sandbox, &slow, "two", &["backend=slow", "requests_per_stage=80"]);
    let metrics = compare(&sandbox, &["one", "two", "--json"]).exits(0).json();
    let labels = [0, 1].map(|at: usize| metrics["subjects"][at]["label"].clone());
    assert_eq!(labels, ["fast", "slow"], "called by what tells them apart");
    assert_eq!(metrics["subjects"][0]["kind"], "load");
    for measure in ["tpot_ms", "itl_ms"] {
        let row = row(&metrics, measure);
        // 8 ms against 5 ms.
        let ratio = row["ratio"].as_f64().unwrap();
        assert!((1.5..1.7).contains(&ratio), "{row:#}");
        assert_eq!(row["verdict"], "slower", "{row:#}");
    }
    let tpot = row(&metrics, "tpot_ms");
    assert_eq!((&tpot["n"], &tpot["case"]), (&serde_json::json!([80, 80]), &Value::from("c=4")));
    assert!(
        tpot["reason"].as_str().unwrap().contains("one process"),
        "what differs between runs is not seen: {tpot:#}"
    );
    // One value a side cannot be judged, but is stated.
    let rate = row(&metrics, "output_tok_per_s");
    assert_eq!(rate["verdict"], "cannot_tell", "{rate:#}");
    assert!(rate["baseline"].as_f64() > rate["candidate"].as_f64(), "{rate:#}");
    let work: Vec<&Value> =
        metrics["differences"].as_array().unwrap().iter().filter(|row| row["kind"] == "not_the_same_work").collect();
    assert!(work.is_empty(), "{work:#?}");

    // The summary alone states the difference and judges nothing.
    let lone = sandbox.write("lone.json", text(&one.join("metrics.json")));
    let stated = compare(&sandbox, &[lone.to_str().unwrap(), "two", "--json"]).exits(0).json();
    let tpot = row(&stated, "tpot_ms");
    assert_eq!(tpot["verdict"], "cannot_tell");
    assert!((1.5..1.7).contains(&tpot["ratio"].as_f64().unwrap()), "{tpot:#}");
    // A file of a run stands for the run, and `latest` is the newest that can be a side.
    let rows = one.join("requests.jsonl");
    let again = compare(&sandbox, &[rows.to_str().unwrap(), "latest", "--json"]).exits(0).json();
    assert_eq!(again["comparisons"], metrics["comparisons"]);

    // What the runs are is seen where runs are listed and shown.
    let listed = sandbox.run(&["runs", "list", "--command", "load"]).exits(0).stdout;
    assert!(listed.contains("one") && listed.contains("two"), "{listed}");
    let shown = sandbox.run(&["runs", "show", "one"]).exits(0).stdout;
    assert!(shown.contains("c=4: 80 of 80 ok, ") && shown.contains(", TPOT "), "{shown}");
    let shown = sandbox.run(&["runs", "show", "one", "--json"]).exits(0).json();
    assert_eq!(shown["rows"]["count"], 84, "warm-up included");
    assert_eq!((&shown["stages"][0]["stage"], &shown["stages"][0]["ok"]), (&Value::from("c=4"), &Value::from(80)));
}

#[test]
fn one_server_against_itself_is_not_called_faster_or_slower() {
    let sandbox = Sandbox::new();
    let mock = Mock::start(&sandbox, &["--ttft-ms", "20", "--itl-ms", "5"]);
    for name in ["one", "two", "three", "four"] {
        load(&sandbox, &mock, name, &[]);
    }
    let metrics = compare(&sandbox, &["one", "two", "--json"]).exits(0).json();
    for measure in ["tpot_ms", "itl_ms"] {
        let row = row(&metrics, measure);
        assert!(!["faster", "slower"].contains(&row["verdict"].as_str().unwrap()), "{row:#}");
    }
    // Runs are what is independent, and not their requests.
    let joined = compare(&sandbox, &["a=one,two", "b=three,four", "--json"]).exits(0).json();
    let tpot = row(&joined, "tpot_ms");
    assert_eq!((&tpot["n"], &tpot["units"]), (&serde_json::json!([60, 60]), &serde_json::json!([2, 2])));
    assert!(!["faster", "slower"].contains(&tpot["verdict"].as_str().unwrap()), "{tpot:#}");
    let itself = compare(&sandbox, &["one", "one", "--json"]).exits(0).json();
    assert_eq!(row(&itself, "tpot_ms")["verdict"], "same");
}

#[test]
fn another_number_of_tokens_or_of_requests_in_flight_names_no_winner() {
    let sandbox = Sandbox::new();
    let mock = Mock::start(&sandbox, &["--ttft-ms", "20", "--itl-ms", "5"]);
    let slow = Mock::start(&sandbox, &["--ttft-ms", "20", "--itl-ms", "10"]);
    load(&sandbox, &mock, "base", &[]);
    load(&sandbox, &slow, "longer", &["prompts.output_tokens=20"]);
    load(&sandbox, &slow, "crowd", &["concurrency=8"]);
    load(&sandbox, &slow, "open", &["arrival=constant", "rate=60"]);
    for (other, facts) in [
        ("longer", &["case:c=4.new_tokens", "prompts_sha256"][..]),
        ("crowd", &["case:c=4.concurrency"]),
        ("open", &["case:c=4.arrival"]),
    ] {
        let outcome = compare(&sandbox, &["base", other, "--json"]).exits(0);
        let metrics = outcome.json();
        let of_other_work: Vec<&str> = metrics["differences"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|row| row["kind"] == "not_the_same_work")
            .filter_map(|row| row["fact"].as_str())
            .collect();
        assert!(facts.iter().all(|fact| of_other_work.contains(fact)), "{other}: {of_other_work:?}");
        for row in metrics["comparisons"].as_array().unwrap() {
            assert_eq!(row["verdict"], "cannot_tell", "{other}: {row:#}");
        }
        assert!(row(&metrics, "tpot_ms")["reason"].as_str().unwrap().contains("the work was not the same"));
        // Twice the time of a token must not be gated away as if it were comparable: the comparison is INVALID.
        sandbox.run(&["compare", "base", other, "--fail-on", "tpot_ms>+10%"]).exits(3);
    }
    let shown = compare(&sandbox, &["base", "longer"]).exits(0).stdout;
    assert!(shown.contains("did not do the same work as"), "{shown}");
    // Asked for, the winner is named all the same.
    let asked = compare(&sandbox, &["base", "longer", "--allow-unequal", "--json"]).exits(0).json();
    // Three runs of seconds on a busy machine may not be enough to say more than that it is not faster.
    let (verdict, reason) = (row(&asked, "tpot_ms")["verdict"].clone(), row(&asked, "tpot_ms")["reason"].to_string());
    assert!(
        verdict == "slower" || verdict == "cannot_tell" && !reason.contains("work was not the same"),
        "{verdict} {reason}"
    );
}

#[test]
fn a_run_that_was_killed_is_compared_as_far_as_it_came_if_asked() {
    let sandbox = Sandbox::new();
    let mock = Mock::start(&sandbox, &["--ttft-ms", "10", "--itl-ms", "2"]);
    let whole = load(&sandbox, &mock, "whole", &[]);
    let cut = load(&sandbox, &mock, "cut", &[]);
    std::fs::remove_file(cut.join("metrics.json")).unwrap();
    let rows = text(&cut.join("requests.jsonl"));
    std::fs::write(cut.join("requests.jsonl"), &rows[..rows.len() - 30]).unwrap();
    let metrics = compare(&sandbox, &["whole", "cut", "--json"]).exits(0).json();
    assert_eq!(row(&metrics, "tpot_ms")["n"], serde_json::json!([30, 29]));
    assert!(metrics["diagnostics"].to_string().contains("torn_last_row"), "{}", metrics["diagnostics"]);
    // Without a plan nothing is known of what the rows are.
    for file in ["load.json", "metrics.json"] {
        std::fs::remove_file(whole.join(file)).unwrap();
    }
    compare(&sandbox, &["whole", "cut"]).exits(2).says(&["has neither `metrics.json` nor `load.json`"]);
}
