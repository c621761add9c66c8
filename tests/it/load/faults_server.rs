//! Statuses that are no success: what is refused before a test, what is counted within it, what is tried again, and where keys never go.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use super::answers::{error_answer, good, json_answer};
use super::fault_server::{FaultServer, Step};
use super::{Load, command, end_of, load, message_of, read, runs};
use crate::sandbox::{Sandbox, finish, text_of};

// L24
#[test]
fn a_refusal_for_being_too_many_is_counted_and_not_tried_again_in_secret() {
    let server = FaultServer::start(|seen| match seen.prompt() {
        0 | 3 => error_answer(429, "Retry-After: 2\r\n", "slow down"),
        _ => good(4),
    });
    let sandbox = Sandbox::new();
    let run = load(&sandbox, &server.url(), 0, &["requests_per_stage=6"]);
    assert_eq!(server.seen().len(), 6);
    assert_eq!((run.count("ok"), run.count("rate_limited")), (4, 2));
    assert_eq!((run.row(3)["attempts"].as_u64(), run.row(3)["status"].as_u64()), (Some(1), Some(429)));
    assert!(message_of(run.row(3)).contains("slow down"));
    let stage = run.stage();
    let (rate, elapsed) = (stage["request_per_s"].as_f64().unwrap(), stage["elapsed_s"].as_f64().unwrap());
    assert!((rate * elapsed - 4.0).abs() < 1e-6, "four successes in {elapsed} s are not {rate} per second");
    assert_eq!((run.measure("e2e_ms", "n"), &stage["output_tokens"]), (&json!(4), &json!(16)));
}

// L24
#[test]
fn a_retry_waits_as_long_as_it_is_told_and_both_times_stand_in_the_row() {
    let tries = AtomicU64::new(0);
    let server = FaultServer::start(move |seen| match seen.prompt() {
        0 if tries.fetch_add(1, Ordering::SeqCst) == 0 => error_answer(429, "Retry-After: 1\r\n", "slow down"),
        1 => error_answer(503, "Retry-After: 100\r\n", "not today"),
        2 => error_answer(500, "", "never tried again"),
        _ => good(4),
    });
    let sandbox = Sandbox::new();
    let settings = ["retry.attempts=2", "retry.max_wait_s=5", "concurrency=3"];
    let run = load(&sandbox, &server.url(), 0, &settings);
    assert_eq!(server.seen().len(), 5);
    let row = run.row(0);
    let (first, sent) = (row["first_sent_ns"].as_u64().unwrap(), row["sent_ns"].as_u64().unwrap());
    assert_eq!((end_of(row), row["attempts"].as_u64()), (("ok", ""), Some(2)));
    assert!((1_000_000_000..5_000_000_000).contains(&(sent - first)), "{row}");
    // The latency is that of the attempt that was answered; the user waited for both.
    assert!(run.ms("e2e_ms", "max") < 900.0 && run.ms("e2e_from_due_ms", "max") >= 1000.0);
    for (prompt, outcome, kind) in [(1, "http_5xx", "503"), (2, "http_5xx", "500")] {
        assert_eq!((end_of(run.row(prompt)), run.row(prompt)["attempts"].as_u64()), ((outcome, kind), Some(1)));
    }
}

// L25
#[test]
fn a_burst_of_errors_is_told_by_status_with_the_first_text_of_each() {
    let server = FaultServer::start(|seen| match seen.prompt() {
        3 | 8 => error_answer(500, "", "worker died"),
        11 => vec![Step::Send(json_answer(502, "", "<html>bad gateway</html>"))],
        17 => error_answer(503, "", "loading model"),
        _ => good(3),
    });
    let sandbox = Sandbox::new();
    let run = load(&sandbox, &server.url(), 0, &["requests_per_stage=20", "concurrency=2"]);
    assert_eq!((run.count("ok"), run.count("http_5xx"), &run.stage()["error_rate"]), (16, 4, &json!(0.2)));
    for (kind, count, words) in [("500", 2, "worker died"), ("502", 1, "bad gateway"), ("503", 1, "loading model")] {
        let (found, first) = run.error("http_5xx", kind);
        assert!(found == count && first.contains(words), "{kind}: {found} {first}");
        assert!(text_of(&run.run, "report.md").contains(words), "{words}");
    }
    let statuses: Vec<&Value> = run.ended("http_5xx").iter().map(|row| &row["status"]).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 500).count(), 2, "{statuses:?}");
}

/// Runs with a key in the environment.
fn with_key(sandbox: &Sandbox, url: &str, code: i32, settings: &[&str]) -> crate::sandbox::Outcome {
    let mut command = command(sandbox, url, &[settings, &["api_key_env=SOME_KEY"]].concat());
    command.env("SOME_KEY", SENTINEL);
    finish(command).exits(code)
}

const SENTINEL: &str = "sk-sentinel-4711";

#[track_caller]
fn keeps_the_secret(run: &Load) {
    for entry in std::fs::read_dir(&run.run).unwrap() {
        let bytes = std::fs::read(entry.as_ref().unwrap().path()).unwrap();
        let found = bytes.windows(SENTINEL.len()).any(|window| window == SENTINEL.as_bytes());
        assert!(!found, "the key stands in {}", entry.unwrap().path().display());
    }
    assert!(!run.outcome.stdout.contains(SENTINEL) && !run.outcome.stderr.contains(SENTINEL));
}

// L26
#[test]
fn a_redirect_is_not_followed_and_no_key_goes_elsewhere() {
    let other = FaultServer::start(|_| good(1));
    let to = format!("{}/v1/chat/completions", other.url());
    let location = format!("Location: {to}\r\n");
    let server = FaultServer::start(move |seen| match seen.prompt() {
        1 => vec![Step::Send(json_answer(307, &location, "{}"))],
        _ => good(3),
    });
    let sandbox = Sandbox::new();
    let run = read(&sandbox, with_key(&sandbox, &server.url(), 0, &[]));
    assert_eq!((end_of(run.row(1)), run.row(1)["status"].as_u64()), (("http_4xx", "redirect"), Some(307)));
    assert!(message_of(run.row(1)).contains(&to), "{}", run.row(1));
    assert!(server.all().iter().all(|seen| seen.head.contains(SENTINEL)), "the server itself gets the key");
    keeps_the_secret(&run);

    // Before the test: it does not begin.
    let location = format!("Location: {to}\r\n");
    let server =
        FaultServer::builder().probe(move |_| vec![Step::Send(json_answer(308, &location, "{}"))]).start(|_| good(1));
    let sandbox = Sandbox::new();
    with_key(&sandbox, &server.url(), 2, &[]).says(&["sends this client elsewhere", &to]).hints("base_url");
    assert!(runs(&sandbox).is_empty() && server.seen().is_empty());
    assert_eq!(other.connections(), 0);
}

// What a server sends back may hold what was sent to it.
#[test]
fn a_key_that_the_server_echoes_is_masked_in_every_file() {
    let server = FaultServer::start(|seen| match seen.prompt() {
        0 => error_answer(500, "", &format!("bad key: Bearer {SENTINEL}")),
        1 => super::answers::stream(&[super::answers::event(&format!(r#"{{"error":"key {SENTINEL} expired"}}"#))]),
        2 => super::answers::stream(&[super::answers::event(&format!("{{\"{SENTINEL}"))]),
        3 => super::answers::whole_stream(&[
            super::answers::token(&format!("you said {SENTINEL}")),
            super::answers::finish("stop"),
            super::answers::usage(3, 1),
            super::answers::DONE.to_owned(),
        ]),
        _ => good(3),
    });
    let sandbox = Sandbox::new();
    let run = read(&sandbox, with_key(&sandbox, &server.url(), 0, &["requests_per_stage=6", "client.keep_text=true"]));
    keeps_the_secret(&run);
    for (prompt, outcome) in [(0, "http_5xx"), (1, "stream_error_event"), (2, "malformed_json"), (3, "ok")] {
        assert_eq!(run.row(prompt)["outcome"], outcome);
    }
    assert!(message_of(run.row(0)).contains("bad key"), "{}", run.row(0));
}

// L35
#[test]
fn a_wrong_model_is_refused_once_with_the_names_the_server_has() {
    let server = FaultServer::builder()
        .probe(|_| error_answer(404, "", "The model `nope` does not exist."))
        .start(|_| error_answer(404, "", "The model `nope` does not exist."));
    let sandbox = Sandbox::new();
    let outcome = finish(command(&sandbox, &server.url(), &["model=nope", "requests_per_stage=1000"])).exits(2);
    outcome.says(&["`nope`", "status 404", "does not exist"]).hints("its models: `m`");
    // The list of models, and one request.
    assert_eq!((server.seen().len(), server.all().len()), (0, 2));
    assert!(runs(&sandbox).is_empty());
}

#[test]
fn requests_a_server_does_not_take_are_refused_before_a_thousand_fail_alike() {
    for (status, words, hint) in [
        (401, "refuses this client: status 401: who are you", "api_key_env"),
        (400, "does not take requests like these: status 400: who are you", ""),
        (422, "does not take requests like these: status 422: who are you", ""),
    ] {
        let server = FaultServer::builder().probe(move |_| error_answer(status, "", "who are you")).start(|_| good(1));
        let sandbox = Sandbox::new();
        let outcome = finish(command(&sandbox, &server.url(), &[])).exits(2).says(&[words]);
        if !hint.is_empty() {
            outcome.hints(hint);
        }
        assert!(runs(&sandbox).is_empty() && server.seen().is_empty());
    }
}

// L36
#[test]
fn a_server_that_always_fails_gives_no_figures_and_an_early_end() {
    let server = FaultServer::builder()
        .probe(|_| error_answer(500, "", "out of order"))
        .start(|_| [vec![Step::Wait(3)], error_answer(500, "", "out of order")].into_iter().flatten().collect());
    let sandbox = Sandbox::new();
    let settings =
        ["requests_per_stage=900", "concurrency=4", "stop.max_error_rate=0.5", "output.summary_csv=summary.csv"];
    let run = load(&sandbox, &server.url(), 3, &settings);
    let issued = run.stage()["issued"].as_u64().unwrap();
    assert!((20..450).contains(&issued), "{issued} of 900 were sent");
    assert_eq!((run.count("http_5xx"), server.seen().len() as u64), (issued, issued));
    assert_eq!(run.stage()["error_rate"], 1.0);
    let reasons = run.reasons();
    for words in ["no request succeeded", "given up", "stop.max_error_rate", "100.0 %"] {
        assert!(reasons.contains(words), "{words}: {reasons}");
    }
    assert_eq!(run.finding("not_issued").unwrap()["count"], 900 - issued);
    for (name, measure) in run.stage()["measures"].as_object().unwrap() {
        assert!(name == "dispatch_delay_ms" || (measure["n"] == 0 && measure["p50"].is_null()), "{name}: {measure}");
    }
    // The line of the table has no latency of 0.
    let csv = std::fs::read_to_string(sandbox.path().join("summary.csv")).unwrap();
    let lines: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(lines.len(), 2, "{csv}");
    let mut empty = 0;
    for (name, value) in lines[0].iter().zip(&lines[1]) {
        if ["ttft", "tpot", "itl", "e2e", "latency"].iter().any(|part| name.contains(part)) {
            assert_eq!(*value, "", "{name}");
            empty += 1;
        }
    }
    assert!(empty >= 4, "{csv}");
    assert!(run.outcome.stdout.contains('–') && run.outcome.stdout.contains("INVALID"), "{}", run.outcome.stdout);
    assert!(run.outcome.stdout.contains("out of order"), "{}", run.outcome.stdout);
}

// S01
#[test]
fn secrets_given_in_every_way_a_load_test_knows_reach_neither_files_nor_terminal() {
    let secrets: Vec<String> = (1..=7).map(|way| format!("sentinel-{way}-0a1b2c3d4e5f")).collect();
    let server = FaultServer::start(|_| good(3));
    let sandbox = Sandbox::new();
    sandbox.write(".env", format!("KEY_B={}\n", secrets[1]));
    let url = server.url().replacen("http://", &format!("http://user:{}@", secrets[2]), 1);
    let metrics = server.url().replacen("http://", &format!("http://me:{}@", secrets[4]), 1) + "/metrics";
    let mut command = command(
        &sandbox,
        &url,
        &[
            "telemetry.server=auto",
            &format!("telemetry.metrics_url={metrics}"),
            "api_key_env=KEY_A",
            &format!(
                "headers=['X-Api-Key: ${{KEY_B}}', 'X-Auth-Token: {}', 'Cookie: session={}']",
                secrets[3], secrets[6]
            ),
            &format!("extra_body={{api_key: {}}}", secrets[5]),
            "client.keep_text=true",
        ],
    );
    command.arg("-v").env("KEY_A", &secrets[0]);
    let run = read(&sandbox, finish(command).exits(0));
    let seen: Vec<String> = server.all().iter().flat_map(|seen| [seen.head.clone(), seen.body.clone()]).collect();
    let seen = seen.concat();
    for given in [0, 1, 3, 5, 6] {
        assert!(seen.contains(&secrets[given]), "the server itself gets number {given}");
    }
    sandbox.run(&["report", run.run.to_str().unwrap()]).exits(0);
    let mut files: Vec<std::path::PathBuf> = vec![sandbox.path().join("tmp")];
    let mut looked = 0;
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        looked += 1;
        let bytes = std::fs::read(&path).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        for secret in &secrets {
            assert!(!text.contains(secret.as_str()), "{} has {secret}", path.display());
        }
    }
    assert!(looked > 10, "{looked} files");
    for secret in &secrets {
        assert!(
            !run.outcome.stdout.contains(secret.as_str()) && !run.outcome.stderr.contains(secret.as_str()),
            "{secret}"
        );
    }
}
