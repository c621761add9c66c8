//! What a load test must not make more of than it saw: too few requests, times that were not kept, tokens nobody counted, a server that died.

use serde_json::{Value, json};

use super::answers::{good, json_answer};
use super::fault_server::{FaultServer, Step};
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
fn a_heavy_test_says_so_before_it_begins() {
    let (_sandbox, heavy) = run(&FAST, 0, &["load=heavy", "concurrency=64,128", "warmup=0", "max_tokens=150"]);
    // 100 requests of each level at least, and two for each user.
    let warned = "a heavy test: 384 requests in 2 stages of up to 128 at once, and up to 57600 output tokens";
    assert!(heavy.outcome.stderr.contains(warned), "{}", heavy.outcome.stderr);
    let (_sandbox, light) = run(&FAST, 0, &["load=quick"]);
    assert!(!light.outcome.stderr.contains("a heavy test"), "{}", light.outcome.stderr);
}

#[test]
fn a_search_does_not_go_beyond_what_its_requests_can_reach() {
    let settings = ["find=max_concurrency", "slo.ttft_ms=10000", "requests_per_stage=12", "find_limit=64"];
    let (_sandbox, found) = run(&FAST, 0, &settings);
    let most =
        found.metrics["stages"].as_array().unwrap().iter().map(|stage| stage["concurrency"].as_u64().unwrap()).max();
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
    let mut command = command(
        &sandbox,
        &mock.url,
        &["model=mock", "concurrency=2,4", "requests_per_stage=24", "max_tokens=8", "stop.max_error_rate=0.5"],
    );
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

/// The answer of a model that writes `count` prompts as it was asked, in a fence of Markdown as models do.
fn prompts_of_a_model(count: usize) -> String {
    let categories = ["math", "summarization", "coding"];
    let items: Vec<Value> = (0..count)
        .map(|at| json!({"category": categories[at % 3], "prompt": format!("Prompt {at} of a model."), "max_output_tokens": 64 + at}))
        .collect();
    let text = format!("Here you are:\n```json\n{}\n```\n", Value::from(items));
    json!({"choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]})
        .to_string()
}

#[test]
fn a_model_behind_an_api_writes_a_dataset_that_a_load_test_takes() {
    let server = FaultServer::start(|seen| {
        // The first answer is no list; the second try is told so.
        if seen.body.contains("An earlier answer could not be used") {
            vec![Step::Send(json_answer(200, "", &prompts_of_a_model(6)))]
        } else if seen.body.contains("JSON array") {
            vec![Step::Send(json_answer(
                200,
                "",
                r#"{"choices":[{"index":0,"message":{"content":"I would rather not."}}]}"#,
            ))]
        } else {
            good(3)
        }
    });
    let sandbox = Sandbox::new();
    let mut generate =
        sandbox.command(&["dataset", "generate", "--count", "6", "--model", "writer", "--base-url", &server.url()]);
    generate.args(["--api-key-env", "WRITER_KEY"]).env("WRITER_KEY", "sk-writer-sentinel");
    let outcome = finish(generate).exits(0);
    assert!(!outcome.stdout.contains("sentinel") && !outcome.stderr.contains("sentinel"), "{outcome:?}");
    let asked = server.all();
    assert_eq!(asked.len(), 2, "once more after an answer that was none");
    assert!(asked.iter().all(|seen| seen.head.contains("Authorization: Bearer sk-writer-sentinel")));
    assert!(asked.iter().all(|seen| seen.body.contains(r#""model":"writer""#)));
    let written: Value = serde_json::from_str(&text_of(sandbox.path(), "benchmark_dataset.json")).unwrap();
    let items = written.as_array().unwrap();
    assert_eq!((items.len(), &items[5]["max_output_tokens"]), (6, &json!(69)), "{written}");
    let mut command = command(&sandbox, &server.url(), &["requests_per_stage=6"]);
    command.arg("dataset=benchmark_dataset.json");
    let load = read(&sandbox, finish(command).exits(0));
    let asked: Vec<&Value> = load.rows.iter().map(|row| &row["max_tokens"]).collect();
    assert_eq!(asked, [64, 65, 66, 67, 68, 69]);
}

#[test]
fn more_threads_than_places_end_as_well() {
    let (_sandbox, load) = run(&FAST, 0, &["client.threads=3", "concurrency=1,2", "warmup=1", "requests_per_stage=6"]);
    assert_eq!(load.metrics["stages"].as_array().unwrap().len(), 2);
    assert_eq!(load.count("ok"), 6);
}

#[test]
fn time_in_which_a_server_hangs_is_part_of_the_stage() {
    // The last answers never come.
    let server = FaultServer::start(|seen| if seen.number >= Some(10) { vec![Step::Wait(60_000)] } else { good(3) });
    let sandbox = Sandbox::new();
    let settings = ["concurrency=2", "requests_per_stage=12", "timeout.first_token_s=1.5"];
    let load = read(&sandbox, finish(command(&sandbox, &server.url(), &settings)).exits(0));
    assert_eq!((load.count("ok"), load.count("timeout_first_token")), (10, 2));
    let elapsed = load.stage()["elapsed_s"].as_f64().unwrap();
    assert!((1.4..20.0).contains(&elapsed), "{elapsed}");
    for row in load.ended("timeout_first_token") {
        assert!(row["gone_us"].as_u64().unwrap() >= 1_400_000 && row["end_us"].is_null(), "{row}");
    }
    let rate = load.stage()["request_per_s"].as_f64().unwrap();
    assert!((rate - 10.0 / elapsed).abs() < 1e-9);
}

#[test]
fn a_long_trace_is_sent_whole() {
    let sandbox = Sandbox::new();
    let mock = Mock::start(&sandbox, &["--ttft-ms", "1", "--itl-ms", "0.1"]);
    let lines: Vec<String> = (0..1500)
        .map(|at| json!({"timestamp": at, "input_length": 8, "output_length": 2, "hash_ids": [at]}).to_string())
        .collect();
    sandbox.write("trace.jsonl", lines.join("\n"));
    let settings =
        ["model=mock", "arrival=trace", "requests_per_stage=null", "duration_s=30", "stop.over_saturation=false"];
    let mut command = command(&sandbox, &mock.url, &settings);
    command.arg("dataset=trace.jsonl");
    let load = read(&sandbox, finish(command).exits(0));
    assert_eq!(load.count("ok"), 1500);
    // It is as long as it is, and not as long as it might have been.
    let elapsed = load.stage()["elapsed_s"].as_f64().unwrap();
    assert!((1.4..15.0).contains(&elapsed), "{elapsed}");
}

#[test]
fn a_search_without_streams_judges_as_the_report_does() {
    let settings = ["stream=false", "slo.tpot_ms=50", "find=max_concurrency", "find_limit=8", "requests_per_stage=8"];
    let (_sandbox, load) = run(&FAST, 0, &settings);
    let most = &load.metrics["saturation"]["max_under_slo"];
    assert!(most.is_null() || most["value"].is_null(), "{most}");
    assert_eq!(
        load.metrics["stages"].as_array().unwrap().len(),
        1,
        "what is not known at one user is not looked for at eight"
    );
}
