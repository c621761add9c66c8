//! Whether a measurement may be relied on: what the client itself did, what the load was, and what the numbers are of.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::answers::{self, DONE, END, begun, error_answer, framed, good, stream_bytes, token, tokens, usage};
use super::fault_server::{FaultServer, Step};
use super::{Load, command, in_ms, load, read, read_run, runs};
use crate::sandbox::{Sandbox, finish, outcome, start, text_of, until};

// V01
#[test]
fn a_client_that_sends_later_than_due_makes_the_run_invalid() {
    let server = FaultServer::start(|_| vec![Step::Wait(20), Step::Send(stream_bytes(&tokens(2)))]);
    let sandbox = Sandbox::new();
    // One place, 20 ms for each, and 1000 a second are due: the last is 2 s late.
    let settings = [
        "arrival=constant",
        "rate=[1000]",
        "requests_per_stage=60",
        "max_in_flight=1",
        "stop.over_saturation=false",
        "client.max_dispatch_delay_ms=50",
    ];
    let run = load(&sandbox, &server.url(), 3, &settings);
    assert!(run.reasons().contains("held back by `max_in_flight`"), "{}", run.reasons());
    assert!(!run.reasons().contains("load generator late"), "it was not: {}", run.reasons());
    let held = run.rows.iter().filter(|row| row["held"] == true).count();
    assert_eq!((held, run.finding("held_back").unwrap()["count"].as_u64()), (59, Some(59)));
    assert_eq!((run.count("ok"), run.stage()["peak_in_flight"].as_u64()), (60, Some(1)));
    // 59 requests of at least 20 ms were before the last one, which was due after 59 ms.
    assert!(run.ms("dispatch_delay_ms", "max") >= 59.0 * 20.0 - 60.0);
    for statistic in ["mean", "p50", "p99", "max"] {
        assert!(run.ms("e2e_from_due_ms", statistic) >= run.ms("e2e_ms", statistic), "{statistic}");
        assert!(run.ms("ttft_from_due_ms", statistic) >= run.ms("ttft_ms", statistic), "{statistic}");
    }
    for row in &run.rows {
        assert!(row["sent_ns"].as_u64().unwrap() >= row["due_ns"].as_u64().unwrap(), "{row}");
    }

    // The smallest lateness is too much where none is allowed.
    let sandbox = Sandbox::new();
    let settings = ["arrival=constant", "rate=[200]", "requests_per_stage=20", "client.max_dispatch_delay_ms=0.0001"];
    let run = load(&sandbox, &server.url(), 3, &settings);
    assert!(run.reasons().contains("load generator late"), "{}", run.reasons());
}

// V01
#[test]
fn a_client_whose_reading_lags_is_named_as_the_limit() {
    let server = FaultServer::start(|_| good(3));
    let sandbox = Sandbox::new();
    let run = load(&sandbox, &server.url(), 3, &["client.max_lag_ms=0.0001", "client.stamps=user"]);
    if run.stage()["client"]["lag_ms"].is_null() {
        eprintln!("skipped: this kernel does not stamp what arrives");
        return;
    }
    assert!(run.reasons().contains("client-limited: p99 of this client's lag"), "{}", run.reasons());
    assert_eq!(run.stage()["client"]["limited"], true);
}

/// A server that stands still once, for this long, beginning with the request of this number.
fn pausing(number: u64, pause: Duration) -> FaultServer {
    let until: Mutex<Option<Instant>> = Mutex::new(None);
    FaultServer::start(move |seen| {
        let mut until = until.lock().unwrap();
        if seen.number == Some(number) {
            *until = Some(Instant::now() + pause);
        }
        let wait = until.map_or(0, |until| until.saturating_duration_since(Instant::now()).as_millis() as u64);
        vec![Step::Wait(wait + 2), Step::Send(stream_bytes(&tokens(2)))]
    })
}

// V02
#[test]
fn a_pause_of_the_server_shows_in_every_request_that_was_due_in_it() {
    // 100 a second for 2 s, and 0.6 s of silence: 60 requests were due in it, and the first of them waits longest.
    let rate = [
        "arrival=constant",
        "rate=[100]",
        "requests_per_stage=200",
        "stop.over_saturation=false",
        "run.allow_invalid=true",
    ];
    let affected = |run: &Load| {
        let from_due = run.rows.iter().map(|row| {
            let late = row["sent_ns"].as_u64().unwrap() - row["due_ns"].as_u64().unwrap();
            late as f64 / 1e6 + in_ms(row["chunks"]["at_us"].as_array().unwrap().last().unwrap())
        });
        from_due.filter(|ms| *ms > 100.0).count()
    };
    for (places, name) in [("max_in_flight=null", "as many as are due"), ("max_in_flight=1", "one at a time")] {
        let server = pausing(60, Duration::from_millis(600));
        let sandbox = Sandbox::new();
        let run = load(&sandbox, &server.url(), 0, &[&rate[..], &[places]].concat());
        assert_eq!(run.count("ok"), 200);
        // Those due in the last 100 ms of the pause wait less than 100 ms; a busy machine delays a few more.
        let waited = affected(&run);
        assert!(waited >= 45, "{name}: {waited} waited");
        let p99 = run.ms("e2e_from_due_ms", "p99");
        assert!(p99 >= 550.0, "{name}: {p99}");
        if places.ends_with("=1") {
            // The same pause, measured from sending, is one slow request among 200.
            assert!(run.ms("e2e_ms", "p90") < 100.0 && run.ms("e2e_ms", "max") >= 590.0);
        }
    }
}

// V04
#[test]
fn a_client_that_was_stopped_and_went_on_says_so() {
    let go_on = Arc::new(AtomicBool::new(false));
    let may_go_on = Arc::clone(&go_on);
    let server = FaultServer::start(move |seen| {
        while seen.number >= Some(4) && !may_go_on.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(2));
        }
        let mut steps = begun(&[]);
        steps.extend((0..5).flat_map(|_| [Step::Wait(10), Step::Send(framed(token("a")))]));
        steps.push(Step::Send(framed([answers::finish("stop"), usage(5, 5), DONE.to_owned()].concat())));
        steps.push(Step::Send(END.to_vec()));
        steps
    });
    let sandbox = Sandbox::new();
    let child = start(command(&sandbox, &server.url(), &["requests_per_stage=16", "concurrency=2"]));
    until("two requests to be out", || server.seen().len() == 6);
    let signal = |signal| {
        // SAFETY: no memory is involved; the process is a child that was not waited for.
        assert_eq!(unsafe { libc::kill(child.id() as libc::pid_t, signal) }, 0);
    };
    signal(libc::SIGSTOP);
    // The server answers while nobody reads.
    go_on.store(true, Ordering::SeqCst);
    std::thread::sleep(Duration::from_millis(1500));
    signal(libc::SIGCONT);
    let ended = outcome(child.wait_with_output().unwrap()).exits(3);
    let run = read(&sandbox, ended);
    let found = run.finding("process_paused").expect("a finding");
    let words = found["first"].as_str().unwrap();
    let seconds: f64 = words.split("stood still for ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!((1.3..6.0).contains(&seconds), "{words}");
    assert!(run.reasons().contains("stood still"), "{}", run.reasons());
    assert_eq!(run.count("ok"), 16);
    // The rows it touched can be told by their lag, where the kernel stamps what arrives.
    let lags: Vec<f64> = run.rows.iter().filter_map(|row| row["lag_us"].as_f64()).collect();
    if !lags.is_empty() {
        let touched = lags.iter().filter(|lag| **lag > 1_000_000.0).count();
        assert!((1..=3).contains(&touched), "{lags:?}");
    }
}

// V05
#[test]
fn a_percentile_of_too_few_requests_is_never_shown_bare() {
    let server = FaultServer::start(|_| good(3));
    let sandbox = Sandbox::new();
    let run = load(&sandbox, &server.url(), 0, &["requests_per_stage=20", "concurrency=2"]);
    let found = run.finding("few_requests").unwrap();
    assert!(found["first"].as_str().unwrap().contains("20 requests do not support a p99, which needs 459"), "{found}");
    assert!(run.outcome.stdout.contains("p99: 459"), "{}", run.outcome.stdout);
    for file in ["report.md", "report.html"] {
        assert!(text_of(&run.run, file).contains("459"), "{file}");
    }
}

// V06
#[test]
fn a_slow_request_is_told_and_kept() {
    let server = FaultServer::start(|seen| match seen.prompt() {
        0 => vec![Step::Wait(600), Step::Send(stream_bytes(&tokens(2)))],
        17 => vec![Step::Wait(1000), Step::Send(stream_bytes(&tokens(2)))],
        // Not all alike, as nothing is.
        other => vec![Step::Wait(20 + other as u64 % 5), Step::Send(stream_bytes(&tokens(2)))],
    });
    let sandbox = Sandbox::new();
    let run = load(&sandbox, &server.url(), 0, &["requests_per_stage=30"]);
    let outlier = run.finding("outlier").unwrap();
    let words = outlier["first"].as_str().unwrap();
    assert!(words.contains("request 0 had a TTFT of") || words.contains("request 17 had a TTFT of"), "{words}");
    assert!(words.contains("kept in all figures") && outlier["count"].as_u64().unwrap() >= 2, "{outlier}");
    let slow = run.finding("slow_first_request").unwrap();
    assert!(slow["first"].as_str().unwrap().contains("raise `warmup`"), "{slow}");
    assert_eq!((run.count("ok"), run.measure("e2e_ms", "n")), (30, &json!(30)));
    assert!(run.ms("e2e_ms", "max") >= 999.0);
}

// V09
#[test]
fn nothing_measured_begins_before_the_warm_up_has_ended() {
    let server = FaultServer::start(|seen| match seen.prompt() {
        // Of six requests before the test one is slow, one is never answered, one fails.
        0 => vec![Step::Wait(500), Step::Send(stream_bytes(&tokens(2)))],
        2 => vec![Step::Stall],
        4 => error_answer(500, "", "cold"),
        1 | 3 | 5 => vec![Step::Wait(60), Step::Send(stream_bytes(&tokens(2)))],
        _ => good(2),
    });
    let sandbox = Sandbox::new();
    let settings = ["warmup=6", "requests_per_stage=9", "concurrency=3", "timeout.first_token_s=1.5"];
    let run = load(&sandbox, &server.url(), 0, &settings);
    let (warm, measured): (Vec<&Value>, Vec<&Value>) = run.rows.iter().partition(|row| row["phase"] == "warmup");
    assert_eq!((warm.len(), measured.len()), (6, 9));
    let mut outcomes: Vec<&str> = warm.iter().map(|row| row["outcome"].as_str().unwrap()).collect();
    outcomes.sort_unstable();
    assert_eq!(outcomes, ["http_5xx", "ok", "ok", "ok", "ok", "timeout_first_token"]);
    // The slowest was given up after 1.5 s; everything measured was due later.
    let slowest = warm.iter().find(|row| row["outcome"] == "timeout_first_token").unwrap();
    let over = slowest["sent_ns"].as_u64().unwrap() + 1_500_000_000;
    assert!(measured.iter().all(|row| row["due_ns"].as_u64().unwrap() >= over));
    // Prompts go on where the warm-up stopped, and none of its failures is in any figure.
    let mut prompts: Vec<u64> = measured.iter().map(|row| row["prompt"].as_u64().unwrap()).collect();
    prompts.sort_unstable();
    assert_eq!(prompts, (6..15).collect::<Vec<u64>>());
    assert_eq!((run.stage()["issued"].as_u64(), run.stage()["error_rate"].as_f64()), (Some(9), Some(0.0)));
    assert!(run.ms("e2e_ms", "max") < 500.0);
}

// V10
#[test]
fn one_prompt_for_all_is_warned_of_and_salt_makes_them_differ() {
    let server = FaultServer::start(|_| good(2));
    for (salt, distinct) in [("prompts.salt=false", 1), ("prompts.salt=true", 8)] {
        let sandbox = Sandbox::new();
        sandbox.write("same.jsonl", "{\"prompt\": \"always prompt 1 of this\"}\n");
        let before = server.seen().len();
        let run = load(&sandbox, &server.url(), 0, &["dataset=same.jsonl", salt, "requests_per_stage=8"]);
        let bodies: HashSet<String> = server.seen()[before..].iter().map(|seen| seen.body.clone()).collect();
        assert_eq!(bodies.len(), distinct, "{salt}");
        assert!(bodies.iter().all(|body| body.contains("always prompt 1 of this")));
        assert_eq!(run.finding("identical_prompts").is_some(), distinct == 1, "{salt}");
    }
}

// V11
#[test]
fn the_same_seed_sends_the_same_requests_at_the_same_times() {
    let server = FaultServer::start(|_| good(2));
    let sandbox = Sandbox::new();
    let run = |seed: &str| {
        let before = server.seen().len();
        let settings = [
            "dataset=builtin",
            "prompts.shuffle=true",
            "prompts.output_tokens=\"normal(32,8)\"",
            "arrival=poisson",
            "rate=[200]",
            "requests_per_stage=24",
            seed,
        ];
        let known = runs(&sandbox);
        let ended = finish(command(&sandbox, &server.url(), &settings)).exits(0);
        let directory = runs(&sandbox).into_iter().find(|run| !known.contains(run)).unwrap();
        let run = read_run(&directory, ended);
        let bodies: Vec<String> = server.seen()[before..].iter().map(|seen| seen.body.clone()).collect();
        let mut due: Vec<u64> = run.rows.iter().map(|row| row["due_ns"].as_u64().unwrap()).collect();
        due.sort_unstable();
        let gaps: Vec<u64> = due.windows(2).map(|pair| pair[1] - pair[0]).collect();
        (run.metrics["workload"]["sha256"].clone(), bodies, gaps)
    };
    let (first, second, other) = (run("seed=7"), run("seed=7"), run("seed=8"));
    assert_eq!(first.1.len(), 24);
    assert_eq!((&first.0, &first.2), (&second.0, &second.2), "the workload and the arrivals");
    // Requests that are due within a moment of each other may reach the server in either order.
    let set = |bodies: &[String]| bodies.iter().cloned().collect::<HashSet<_>>();
    assert_eq!(set(&first.1), set(&second.1));
    assert!(first.0 != other.0 && first.1 != other.1 && first.2 != other.2, "another seed is another load");
}
