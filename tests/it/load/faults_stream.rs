//! Streams that break, stop or lie: each failure has its name, keeps what was received, and stays out of the figures of successes.

use serde_json::{Value, json};

use super::answers::{
    DONE, END, STREAM_HEAD, begun, error_answer, event, finish, framed, good, json_answer, stream, stream_bytes,
    text_of, token, tokens, usage, whole_stream, words,
};
use super::fault_server::{FaultServer, Step};
use super::{chunks_of, end_of, load, message_of, notes_of};
use crate::sandbox::Sandbox;

/// Steps, then one more.
fn then(mut steps: Vec<Step>, more: impl IntoIterator<Item = Step>) -> Vec<Step> {
    steps.extend(more);
    steps
}

// L03
#[test]
fn a_stream_that_is_reset_keeps_its_tokens_in_its_row_and_out_of_the_figures() {
    let server = FaultServer::start(|seen| match seen.prompt() {
        1 => then(begun(&words(5)), [Step::Wait(50), Step::Reset]),
        _ => good(8),
    });
    let sandbox = Sandbox::new();
    let run = load(&sandbox, &server.url(), 0, &[]);
    let row = run.row(1);
    assert_eq!(end_of(row), ("stream_truncated", "reset"));
    assert!(message_of(row).contains("after 5 chunks"), "{row}");
    assert_eq!((chunks_of(row).len(), &row["end_us"]), (5, &Value::Null));
    assert_eq!((run.count("ok"), run.count("stream_truncated")), (3, 1));
    for name in ["ttft_ms", "e2e_ms", "tpot_ms"] {
        assert_eq!(*run.measure(name, "n"), 3, "{name}");
    }
    assert_eq!((&run.stage()["output_tokens"], &run.stage()["error_rate"]), (&json!(24), &json!(0.25)));
    // Two before the test, one until the reset, one after it.
    assert_eq!(server.connections(), 4);
}

// L04
#[test]
fn a_stream_that_ends_early_says_what_is_missing() {
    let length = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 100000\r\n\r\n";
    let no_length = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
    let server = FaultServer::start(move |seen| match seen.prompt() {
        0 => then(begun(&words(5)), [Step::Close]),
        1 => vec![Step::Send([length, &words(5).concat()].concat().into_bytes()), Step::Close],
        2 => vec![Step::Send([no_length, &words(5).concat()].concat().into_bytes()), Step::Close],
        3 => vec![Step::Send(b"HTTP/1.1 200 OK\r\nContent-Ty".to_vec()), Step::Close],
        4 => vec![Step::Close],
        5 => whole_stream(&words(5)),
        // What llama-cpp-python does to a stream when the next request comes.
        6 => then(begun(&words(5)), [Step::Send(framed(DONE)), Step::Close]),
        // An event that was begun is none.
        7 => then(begun(&words(5)), [Step::Send(framed("data: {\"choices\":[{\"delta\":")), Step::Close]),
        _ => good(5),
    });
    let sandbox = Sandbox::new();
    let run = load(&sandbox, &server.url(), 0, &["requests_per_stage=10"]);
    for (prompt, outcome, kind, chunks, words) in [
        (0, "stream_truncated", "chunked", 5, "the chunk that ends the body is missing"),
        (1, "stream_truncated", "content_length", 5, "bytes of the announced Content-Length are missing"),
        (2, "stream_truncated", "no_end", 5, "before a finish_reason or [DONE]"),
        (3, "stream_truncated", "head", 0, "within the head"),
        (4, "connect_error", "closed", 0, "before an answer"),
        (5, "stream_truncated", "no_end", 5, "without a finish_reason and without [DONE]"),
        (6, "stream_truncated", "chunked", 5, "the chunk that ends the body is missing"),
        (7, "stream_truncated", "chunked", 5, "the chunk that ends the body is missing"),
        (8, "ok", "", 5, ""),
        (9, "ok", "", 5, ""),
    ] {
        let row = run.row(prompt);
        assert_eq!((end_of(row), chunks_of(row).len()), ((outcome, kind), chunks), "{row}");
        assert!(message_of(row).contains(words), "{row}");
    }
    assert_eq!((run.measure("e2e_ms", "n"), &run.stage()["output_tokens"]), (&json!(2), &json!(10)));
}

// L07
#[test]
fn an_error_told_within_a_stream_is_an_error_with_its_message_and_count() {
    let error = event(r#"{"error":{"message":"CUDA out of memory","type":"server_error","code":500}}"#);
    let server = FaultServer::start(move |seen| match seen.prompt() {
        0..3 => stream(&[words(3), vec![error.clone(), DONE.to_owned()]].concat()),
        3 => stream(&[words(2), vec!["event: error\ndata: worker died\n\n".to_owned()]].concat()),
        // Old vLLM, and FastAPI.
        4 => stream(&[event(r#"{"object":"error","message":"bad request","code":400}"#)]),
        5 => stream(&[words(1), vec![event(r#"{"detail":"queue is full"}"#)]].concat()),
        _ => good(3),
    });
    let sandbox = Sandbox::new();
    let run = load(&sandbox, &server.url(), 0, &["requests_per_stage=12"]);
    assert_eq!((run.count("ok"), run.count("stream_error_event")), (6, 6));
    let (count, first) = run.error("stream_error_event", "error");
    assert_eq!((count, first.as_str()), (6, "CUDA out of memory (code 500)"));
    for (prompt, chunks, words) in
        [(2, 3, "CUDA"), (3, 2, "worker died"), (4, 0, "bad request"), (5, 1, "queue is full")]
    {
        let row = run.row(prompt);
        assert_eq!((row["status"].as_u64(), chunks_of(row).len()), (Some(200), chunks), "{row}");
        assert!(message_of(row).contains(words), "{row}");
    }
    // The console says it once, with its number.
    let printed = run.outcome.stdout.clone() + &run.outcome.stderr;
    assert!(printed.contains("CUDA out of memory") && printed.contains("50.0 %"), "{printed}");
}

// L08
#[test]
fn an_error_in_an_answer_of_status_200_is_no_success_and_cannot_touch_the_terminal() {
    let message = format!("\u{1b}]0;owned\u{7}\u{1b}[31mno GPU left {}", "x".repeat(1000));
    let server = FaultServer::start(move |seen| match seen.prompt() {
        0..3 => error_answer(200, "", &message),
        3 => vec![Step::Send(json_answer(200, "", "[1, 2"))],
        _ => good(3),
    });
    let sandbox = Sandbox::new();
    let run = load(&sandbox, &server.url(), 0, &["requests_per_stage=8"]);
    let (count, first) = run.error("malformed_sse", "error_in_200");
    assert!(count == 3 && first.contains("no GPU left"), "{first}");
    // 200 characters of the server, and the mark of the cut.
    assert!(first.chars().count() <= 201, "{first}");
    assert_eq!(end_of(run.row(3)), ("malformed_sse", "answer"));
    assert_eq!((run.measure("ttft_ms", "n"), run.row(0)["chunks"]["at_us"].clone()), (&json!(4), json!([])));
    for (name, text) in [
        ("stdout", run.outcome.stdout.clone()),
        ("stderr", run.outcome.stderr.clone()),
        ("report.md", crate::sandbox::text_of(&run.run, "report.md")),
        ("report.html", crate::sandbox::text_of(&run.run, "report.html")),
    ] {
        assert!(!text.contains('\u{1b}') && !text.contains('\u{7}'), "{name} holds what a terminal obeys");
    }
    assert!(run.outcome.stdout.contains("no GPU left"), "{}", run.outcome.stdout);
}

// L10, L13
#[test]
fn a_broken_event_fails_its_own_request_and_says_where_it_broke() {
    let server = FaultServer::start(|seen| match seen.prompt() {
        1 => stream(&[words(2), vec![event("{\"a\":"), finish("stop"), DONE.to_owned()]].concat()),
        2 => {
            let mut bad = b"data: {\"choices\":[{\"delta\":{\"content\":\"a".to_vec();
            bad.extend(b"\xff\xfe\"}}]}\n\n");
            then(begun(&words(1)), [Step::Send(framed(bad)), Step::Send(END.to_vec())])
        }
        3 => stream(&[words(1), vec![event("[1]"), DONE.to_owned()]].concat()),
        // What lies behind it in the same read is as if it had come later.
        4 => whole_stream(&[words(2), vec![event("{\"a\":")], tokens(7)].concat()),
        _ => good(4),
    });
    let sandbox = Sandbox::new();
    let run = load(&sandbox, &server.url(), 0, &["requests_per_stage=12", "concurrency=4"]);
    assert_eq!((run.count("ok"), run.count("malformed_json")), (8, 4));
    for prompt in [1, 4] {
        let row = run.row(prompt);
        assert_eq!((chunks_of(row).len(), &row["events"], &row["end_us"]), (2, &json!(3), &Value::Null), "{row}");
        assert!(row["finish_reason"].is_null() && row["output_tokens"].is_null(), "{row}");
    }
    assert!(message_of(run.row(1)).contains("at byte 5 of an event: {\"a\":"), "{}", run.row(1));
    assert!(message_of(run.row(2)).contains("ff fe"), "{}", run.row(2));
    assert_eq!((chunks_of(run.row(1)).len(), chunks_of(run.row(2)).len()), (2, 1));
    assert_eq!(run.row(5)["outcome"], "ok");
}

/// Tokens whose characters have 1 to 4 bytes, escapes, and blanks that must stay.
const TEXTS: [&str; 6] = ["L'", "É", "🦀你", " \n\t \"q\" \\ ", "\u{200d}e\u{301}", "  end "];

fn texts() -> Vec<String> {
    let mut events: Vec<String> = TEXTS.iter().map(|text| token(text)).collect();
    events.extend([finish("stop"), usage(9, 6), DONE.to_owned()]);
    events
}

// L11, L12
#[test]
fn however_a_stream_is_cut_it_is_the_same_answer() {
    let server = FaultServer::start(|seen| match seen.prompt() {
        0 => whole_stream(&texts()),
        // Every byte is a write of its own.
        1 => stream_bytes(&texts()).into_iter().map(|byte| Step::Send(vec![byte])).collect(),
        // Each byte is a chunk of the body besides.
        2 => {
            let mut steps = vec![Step::Send(STREAM_HEAD.as_bytes().to_vec())];
            steps.extend(texts().concat().into_bytes().iter().map(|byte| Step::Send(framed([*byte]))));
            then(steps, [Step::Send(END.to_vec())])
        }
        // A pause within each character of several bytes, long enough for the client to read what is there.
        _ => {
            let mut steps = Vec::new();
            let mut piece = Vec::new();
            for byte in stream_bytes(&texts()) {
                if byte & 0b1100_0000 == 0b1000_0000 {
                    steps.extend([Step::Send(std::mem::take(&mut piece)), Step::Wait(4)]);
                }
                piece.push(byte);
            }
            then(steps, [Step::Send(piece)])
        }
    });
    let sandbox = Sandbox::new();
    let run = load(&sandbox, &server.url(), 0, &["client.keep_text=true", "concurrency=2"]);
    for prompt in 0..4 {
        let row = run.row(prompt);
        assert_eq!(row["text"], TEXTS.concat(), "prompt {prompt}");
        assert_eq!((chunks_of(row).len(), &row["events"], notes_of(row).len()), (6, &json!(9), 0), "{row}");
        assert_eq!((&row["input_tokens"], &row["output_tokens"]), (&json!(9), &json!(6)));
        assert_eq!((&row["finish_reason"], &row["token_source"]), (&json!("stop"), &json!("usage")));
        assert_eq!((&row["status"], &row["chunks"]["kinds"]), (&json!(200), &json!([["c", 6]])));
    }
}

// L05, L06
#[test]
fn a_missing_done_and_data_behind_it_are_told_and_change_nothing() {
    let server = FaultServer::start(|seen| {
        let mut events = tokens(6);
        match seen.prompt() {
            1 => drop(events.pop()),
            2 => events.push(token(" more")),
            3 => events.extend([DONE.to_owned(), usage(1, 1)]),
            _ => {}
        }
        [vec![Step::Wait(10)], whole_stream(&events)].into_iter().flatten().collect()
    });
    let sandbox = Sandbox::new();
    let run = load(&sandbox, &server.url(), 0, &["client.keep_text=true"]);
    for (prompt, notes) in
        [(0, &[][..]), (1, &["done_missing"][..]), (2, &["data_after_done"][..]), (3, &["data_after_done"][..])]
    {
        let row = run.row(prompt);
        assert_eq!((end_of(row), notes_of(row)), (("ok", ""), notes.to_vec()), "{row}");
        assert_eq!((row["text"].as_str(), chunks_of(row).len()), (Some(text_of(6).as_str()), 6), "{row}");
        assert_eq!(
            (&row["output_tokens"], &row["input_tokens"], &row["finish_reason"]),
            (&json!(6), &json!(5), &json!("length"))
        );
    }
    for (code, count) in [("done_missing", 1), ("data_after_done", 2)] {
        let found = run.finding(code).unwrap();
        assert_eq!((&found["count"], &found["severity"]), (&json!(count), &json!("info")));
    }
    assert_eq!(run.stage()["output_tokens"], 24);
}
