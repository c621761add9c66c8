//! Answers without end: in time, by timeouts; in bytes, by limits; and what a run may cost in memory.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::answers::{END, begun, delta, framed, good, stream_bytes, token, tokens, words};
use super::fault_server::{FaultServer, Step};
use super::{chunks_of, command, end_of, in_ms, load, message_of, read};
use crate::sandbox::{Outcome, Sandbox};

// L21, L22, L23, and comments that keep a connection alive
#[test]
fn every_kind_of_silence_ends_by_its_own_timeout_and_nobody_else_waits() {
    let ping = || [Step::Send(framed(": ping\n\n")), Step::Wait(50)];
    let server = FaultServer::start(move |seen| match seen.prompt() {
        0 => [begun(&words(2)), vec![Step::Stall]].into_iter().flatten().collect(),
        1 => vec![Step::Stall],
        2 => [begun(&[]), vec![Step::Stall]].into_iter().flatten().collect(),
        3 => [begun(&[]), (0..60).flat_map(|_| [Step::Send(framed(token("a"))), Step::Wait(100)]).collect()]
            .into_iter()
            .flatten()
            .collect(),
        4 => [begun(&[]), (0..100).flat_map(|_| ping()).collect()].into_iter().flatten().collect(),
        5 => [begun(&words(3)), (0..100).flat_map(|_| ping()).collect()].into_iter().flatten().collect(),
        _ => good(4),
    });
    let sandbox = Sandbox::new();
    let settings = [
        "requests_per_stage=40",
        "concurrency=7",
        "timeout.first_token_s=1",
        "timeout.stall_s=0.8",
        "timeout.total_s=1.8",
    ];
    let begin = Instant::now();
    let run = load(&sandbox, &server.url(), 0, &settings);
    assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
    for (prompt, outcome, chunks, words) in [
        (0, "timeout_stall", 2, "no event in time after 2 chunks"),
        (1, "timeout_first_token", 0, "no answer in time"),
        (2, "timeout_first_token", 0, "the answer began and no token came"),
        (4, "timeout_first_token", 0, "the answer began and no token came"),
        (5, "timeout_stall", 3, "no event in time after 3 chunks"),
    ] {
        let row = run.row(prompt);
        assert_eq!((end_of(row), chunks_of(row).len()), ((outcome, "timeout"), chunks), "{row}");
        assert!(message_of(row).contains(words) && row["end_us"].is_null(), "{row}");
    }
    // A token every 100 ms is never a stall, and ends all the same.
    let trickle = run.row(3);
    assert_eq!(end_of(trickle), ("timeout_total", "timeout"));
    let last = *chunks_of(trickle).last().unwrap();
    assert!((900_000..=2_000_000).contains(&last), "{trickle}");
    // The others took what they would have taken alone: 34 requests, 10 ms each by the server.
    assert_eq!(run.count("ok"), 34);
    assert!(run.ms("e2e_ms", "p50") < 400.0, "{}", run.stage()["measures"]["e2e_ms"]);
    let elapsed = run.stage()["elapsed_s"].as_f64().unwrap();
    assert!(elapsed < 8.0, "{elapsed}");
}

// L34
#[test]
fn a_server_that_goes_on_after_the_deadline_does_not_hold_up_the_end() {
    let server = FaultServer::start(|seen| match seen.prompt() {
        0..3 => good(2),
        // It does not even notice that nobody listens any more.
        _ => [begun(&words(2)), vec![Step::Wait(8_000)]].into_iter().flatten().collect(),
    });
    let sandbox = Sandbox::new();
    let begin = Instant::now();
    let run =
        load(&sandbox, &server.url(), 0, &["requests_per_stage=null", "duration_s=1", "grace_s=0.3", "concurrency=2"]);
    assert!(begin.elapsed() < Duration::from_secs(7), "{:?}", begin.elapsed());
    assert_eq!((run.count("ok"), run.count("cancelled_deadline")), (3, 2));
    assert_eq!((&run.stage()["error_rate"], run.measure("e2e_ms", "n")), (&json!(0.0), &json!(3)));
    for row in run.ended("cancelled_deadline") {
        assert_eq!((chunks_of(row).len(), &row["end_us"]), (2, &Value::Null), "{row}");
    }
    let elapsed = run.stage()["elapsed_s"].as_f64().unwrap();
    assert!(elapsed < 4.0, "{elapsed}");
}

/// Runs it to its end; its result, and the most memory it had, in bytes.
fn measured(mut command: Command, sandbox: &Sandbox) -> (Outcome, u64) {
    let file = |name: &str| Stdio::from(std::fs::File::create(sandbox.path().join(name)).unwrap());
    let mut child = command.stdout(file("stdout")).stderr(file("stderr")).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut most = 0;
    let ended = loop {
        // The mark of high water; what the system says of a process that has ended includes the one that made it.
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let mark = text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
        most = most.max(mark.unwrap_or(0u64) * 1024);
        if let Some(ended) = child.try_wait().unwrap() {
            break ended;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    assert!(most > 0, "no mark of memory in {status}");
    let text = |name: &str| std::fs::read_to_string(sandbox.path().join(name)).unwrap();
    (Outcome { code: ended.code(), stdout: text("stdout"), stderr: text("stderr") }, most)
}

const MIB: usize = 1 << 20;

/// `begin`, then 64 MiB of `x` in pieces.
fn flood(begin: &str) -> Vec<Step> {
    vec![Step::Send(begin.as_bytes().to_vec()), Step::Repeat(vec![b'x'; MIB], 64)]
}

// L30, L31
#[test]
fn what_has_no_end_is_cut_at_its_limit_and_memory_stays_flat() {
    let close = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
    let whole = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1073741824\r\n\r\n{\"a\":\"";
    let failing = "HTTP/1.1 503 Busy\r\nContent-Type: text/plain\r\nContent-Length: 1073741824\r\n\r\nbusy: ";
    let server = FaultServer::start(move |seen| match seen.prompt() {
        // One event of 64 MiB, in a body that says so, after two good tokens.
        0 => {
            let mut steps = begun(&words(2));
            steps.push(Step::Send(format!("{:x}\r\ndata: ", 64 * MIB).into_bytes()));
            steps.push(Step::Repeat(vec![b'x'; MIB], 64));
            steps
        }
        // A line without end; an event of endless lines; an answer, a head and an error without end.
        1 => flood(close),
        2 => {
            vec![Step::Send(close.as_bytes().to_vec()), Step::Repeat(b"data: 0123456789\n".repeat(MIB / 17), 64)]
        }
        3 => flood(whole),
        4 => flood("HTTP/1.1 200 OK\r\nX-Endless: "),
        5 => flood(failing),
        // The sizes of chunks and the trailers have an end, too.
        6 => flood("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;"),
        7 => {
            let mut body = stream_bytes(&tokens(2));
            body.truncate(body.len() - 2);
            vec![Step::Send(body), Step::Repeat(b"A: b\r\n".repeat(MIB / 6), 64)]
        }
        _ => good(2),
    });
    let limit = ["client.max_event_bytes=1048576", "concurrency=8", "requests_per_stage=16"];
    let sandbox = Sandbox::new();
    let (outcome, memory) = measured(command(&sandbox, &server.url(), &limit), &sandbox);
    let run = read(&sandbox, outcome.exits(0));
    for (prompt, outcome, kind, words) in [
        (0, "oversize", "event", "longer than 1048576 bytes"),
        (1, "oversize", "event", "longer than 1048576 bytes"),
        (2, "oversize", "event", "longer than 1048576 bytes"),
        (3, "oversize", "answer", "longer than 1048576 bytes"),
        (4, "malformed_sse", "not_http", "the head of the answer is longer than"),
        (5, "http_5xx", "503", "status 503: busy: xxx"),
        (6, "malformed_sse", "not_http", "has no end"),
        (7, "malformed_sse", "not_http", "trailers have no end"),
    ] {
        let row = run.row(prompt);
        assert_eq!(end_of(row), (outcome, kind), "prompt {prompt}: {row}");
        assert!(message_of(row).contains(words), "{row}");
        assert!(message_of(row).chars().count() < 260, "{row}");
    }
    assert_eq!((run.count("ok"), chunks_of(run.row(0)).len()), (8, 2));
    // 512 MiB were sent. A program of this size, the limit for each of 8 at once, and some room.
    assert!(memory < 160 * MIB as u64, "{} MiB", memory / MIB as u64);
}

// L15, L20
#[test]
fn a_head_before_the_first_token_and_counts_after_the_last_are_in_neither_time() {
    let server = FaultServer::start(|_| {
        let events = tokens(5);
        let (role, rest) = events.split_first().unwrap();
        let mut steps = begun(&[role.clone(), delta(&json!({"content": ""}))]);
        steps.push(Step::Wait(200));
        steps.extend(rest[..5].iter().map(|event| Step::Send(framed(event))));
        steps.push(Step::Wait(200));
        // finish_reason, usage and [DONE] come late.
        steps.extend(rest[5..].iter().map(|event| Step::Send(framed(event))));
        steps.push(Step::Send(END.to_vec()));
        steps
    });
    let sandbox = Sandbox::new();
    let run = load(&sandbox, &server.url(), 0, &["concurrency=4"]);
    for row in &run.rows {
        let chunks = chunks_of(row);
        assert_eq!((chunks.len(), &row["events"]), (5, &json!(10)), "{row}");
        let (first_event, end) = (in_ms(&row["first_event_us"]), in_ms(&row["end_us"]));
        let (first, last) = (chunks[0] as f64 / 1e3, chunks[4] as f64 / 1e3);
        assert!(first_event < first - 180.0, "{row}");
        assert!(first >= 199.0 && end >= last + 180.0, "{row}");
    }
    for (name, low, high) in [("ttft_ms", 199.0, 390.0), ("e2e_ms", 199.0, 395.0), ("response_end_ms", 399.0, 1500.0)] {
        let p50 = run.ms(name, "p50");
        assert!((low..high).contains(&p50), "{name}: {p50}");
    }
    assert!(run.ms("first_event_ms", "p50") < 150.0);
    let tpot = run.ms("tpot_ms", "p50");
    assert!(tpot < 40.0, "the counts are in no gap: {tpot}");
}
