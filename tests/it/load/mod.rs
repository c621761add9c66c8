//! Faults of servers, of the network and of the client itself, against the real binary over real sockets. The ids in comments are those of the
//! catalogue of faults the load test is held to: `L` for servers, `V` for the validity of a measurement.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]
#![allow(clippy::print_stderr, reason = "a test that cannot run says why")]

mod answers;
mod fault_server;
mod faults_connection;
mod faults_limits;
mod faults_server;
mod faults_shapes;
mod faults_stream;
mod faults_tls;
mod golden;
mod gpu;
mod honest;
mod llama_cpp;
mod mock;
mod transcripts;
mod validity;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::sandbox::{Outcome, Sandbox, finish, json_of, text_of};

/// Settings of every run: nothing of this machine is watched, and a busy machine makes no run INVALID.
const QUIET: [&str; 8] = [
    "model=m",
    "warmup=0",
    "telemetry.server=off",
    "telemetry.gpu=off",
    "client.max_lag_ms=5000",
    "client.max_dispatch_delay_ms=5000",
    "stop.max_error_rate=null",
    "requests_per_stage=4",
];

/// `perfprof load` of the server at `url`, with prompts `prompt 0` to `prompt 99`.
fn command(sandbox: &Sandbox, url: &str, settings: &[&str]) -> Command {
    let mut command = sandbox.command(&["load"]);
    command.args(arguments(sandbox, url, settings));
    command
}

fn arguments(sandbox: &Sandbox, url: &str, settings: &[&str]) -> Vec<String> {
    let lines: Vec<String> =
        (0..100).map(|at| json!({"prompt": format!("prompt {at} of a test")}).to_string()).collect();
    sandbox.write("prompts.jsonl", lines.join("\n"));
    let mut arguments = vec![format!("base_url={url}"), "dataset=prompts.jsonl".to_owned()];
    arguments.extend(QUIET.iter().chain(settings).map(|text| (*text).to_owned()));
    arguments
}

/// A run that was made, whatever became of it.
#[derive(Debug)]
struct Load {
    outcome: Outcome,
    run: PathBuf,
    metrics: Value,
    /// All rows, in the order in which the requests ended.
    rows: Vec<Value>,
}

/// Runs the load test; it must exit with `code` and leave a run that keeps the laws.
#[track_caller]
fn load(sandbox: &Sandbox, url: &str, code: i32, settings: &[&str]) -> Load {
    read(sandbox, finish(command(sandbox, url, settings)).exits(code))
}

/// The directories of runs.
fn runs(sandbox: &Sandbox) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(sandbox.path().join("tmp/load")) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// The only run there is, with the laws that hold for every run.
#[track_caller]
fn read(sandbox: &Sandbox, outcome: Outcome) -> Load {
    let runs = runs(sandbox);
    assert_eq!(runs.len(), 1, "{runs:?}\n{}", outcome.stderr);
    read_run(&runs[0], outcome)
}

#[track_caller]
fn read_run(run: &Path, outcome: Outcome) -> Load {
    let text = text_of(run, "requests.jsonl");
    let rows = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let load = Load { outcome, run: run.to_owned(), metrics: json_of(run, "metrics.json"), rows };
    load.keeps_the_laws();
    load
}

impl Load {
    /// What holds for every run: each request has one outcome, successes alone are measured, and nothing unknown is a number.
    #[track_caller]
    fn keeps_the_laws(&self) {
        let stages = self.metrics["stages"].as_array().unwrap();
        for (index, stage) in stages.iter().enumerate() {
            let rows: Vec<&Value> =
                self.rows.iter().filter(|row| row["stage"] == json!(index) && row["phase"] == "measured").collect();
            let outcomes = stage["outcomes"].as_object().unwrap();
            let sum: u64 = outcomes.values().map(|count| count.as_u64().unwrap()).sum();
            assert_eq!((sum, rows.len() as u64), (stage["issued"].as_u64().unwrap(), sum), "{outcomes:?}");
            for (name, count) in outcomes {
                assert_eq!(rows.iter().filter(|row| row["outcome"] == name.as_str()).count() as u64, *count, "{name}");
            }
            let mut ids: Vec<u64> = rows.iter().map(|row| row["id"].as_u64().unwrap()).collect();
            ids.sort_unstable();
            assert_eq!(ids, (0..sum).collect::<Vec<_>>());
            let of = |names: &[&str]| names.iter().filter_map(|name| outcomes.get(*name)?.as_u64()).sum::<u64>();
            let (ok, cancelled) = (of(&["ok"]), of(&["cancelled_user", "cancelled_deadline"]));
            match sum - cancelled {
                0 => assert_eq!(stage["error_rate"], Value::Null),
                judged => {
                    let rate = stage["error_rate"].as_f64().unwrap();
                    assert!((rate - (judged - ok) as f64 / judged as f64).abs() < 1e-12, "{rate}");
                }
            }
            for (name, measure) in stage["measures"].as_object().unwrap() {
                let n = measure["n"].as_u64().unwrap();
                assert!(n > 0 || (measure["p50"].is_null() && measure["mean"].is_null()), "{name}: {measure}");
                if name == "e2e_ms" || name == "ttft_ms" {
                    assert!(n <= ok, "{name} of {n} requests, and {ok} succeeded");
                }
            }
            for row in &rows {
                assert_eq!(row["outcome"] == "ok", row.get("failed").is_none_or(Value::is_null), "{row}");
            }
        }
        let valid = self.metrics["validity"]["status"] == "VALID";
        if let Some(0 | 3) = self.outcome.code {
            let record = json_of(&self.run, "run.json");
            let allowed = record["argv"].as_array().unwrap().contains(&json!("run.allow_invalid=true"));
            assert_eq!(self.outcome.code == Some(0), valid || allowed, "{}", self.metrics["validity"]);
            let status = &record["status"];
            assert_eq!((status == "complete", status == "invalid"), (valid, !valid), "{status}");
        }
        for file in ["report.html", "report.md", "load.json", "MANIFEST.json"] {
            assert!(self.run.join(file).is_file(), "{file} is missing");
        }
    }

    /// The first stage.
    fn stage(&self) -> &Value {
        &self.metrics["stages"][0]
    }
    /// The measured row of a prompt.
    #[track_caller]
    fn row(&self, prompt: usize) -> &Value {
        let mut rows = self.rows.iter().filter(|row| row["prompt"] == prompt && row["phase"] == "measured");
        let row = rows.next().unwrap_or_else(|| panic!("no row of prompt {prompt}"));
        assert!(rows.next().is_none(), "prompt {prompt} was sent twice");
        row
    }
    /// Rows of measured requests with this outcome.
    fn ended(&self, outcome: &str) -> Vec<&Value> {
        self.rows.iter().filter(|row| row["outcome"] == outcome && row["phase"] == "measured").collect()
    }
    /// Number of an outcome.
    fn count(&self, outcome: &str) -> u64 {
        self.stage()["outcomes"].get(outcome).map_or(0, |count| count.as_u64().unwrap())
    }
    /// A statistic of a measure.
    fn measure(&self, name: &str, statistic: &str) -> &Value {
        let measure = &self.stage()["measures"][name];
        assert!(measure.is_object(), "no measure `{name}`");
        &measure[statistic]
    }
    /// The number a statistic of a measure is.
    #[track_caller]
    fn ms(&self, name: &str, statistic: &str) -> f64 {
        self.measure(name, statistic).as_f64().unwrap_or_else(|| panic!("{name} {statistic} is null"))
    }
    /// The finding with this code.
    fn finding(&self, code: &str) -> Option<&Value> {
        self.metrics["diagnostics"].as_array().unwrap().iter().find(|found| found["code"] == code)
    }
    /// Why the run is INVALID, in one text.
    fn reasons(&self) -> String {
        self.metrics["validity"]["reasons"].to_string()
    }
    /// The errors of one outcome and kind: how many, and the first in words.
    #[track_caller]
    fn error(&self, outcome: &str, kind: &str) -> (u64, String) {
        let errors = self.stage()["errors"].as_array().unwrap();
        let found = errors.iter().find(|error| error["outcome"] == outcome && error["kind"] == kind);
        let found = found.unwrap_or_else(|| panic!("no {outcome} {kind} in {errors:?}"));
        (found["count"].as_u64().unwrap(), found["first"].as_str().unwrap().to_owned())
    }
}

/// How a row ended: outcome, and the word for it.
fn end_of(row: &Value) -> (&str, &str) {
    (row["outcome"].as_str().unwrap(), row["failed"]["kind"].as_str().unwrap_or(""))
}

/// Why a row failed, in words.
fn message_of(row: &Value) -> &str {
    row["failed"]["message"].as_str().unwrap_or("")
}

/// When the chunks of a row came, in µs after sending.
fn chunks_of(row: &Value) -> Vec<u64> {
    row["chunks"]["at_us"].as_array().unwrap().iter().map(|at| at.as_u64().unwrap()).collect()
}

/// The codes of what was odd about an answer.
fn notes_of(row: &Value) -> Vec<&str> {
    row["notes"].as_array().map_or_else(Vec::new, |notes| notes.iter().map(|note| note.as_str().unwrap()).collect())
}

/// Milliseconds of a time in µs.
fn in_ms(us: &Value) -> f64 {
    us.as_f64().unwrap_or_else(|| panic!("{us} is no time")) / 1e3
}
