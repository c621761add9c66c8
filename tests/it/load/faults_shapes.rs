//! Answers that are right and look different: every form an OpenAI-compatible server has been seen to send.

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use serde_json::{Value, json};

use super::answers::{
    DONE, END, begun, delta, event, finish, framed, json_answer, role, stream, text_of, token, tokens, usage,
    whole_stream, words,
};
use super::fault_server::{FaultServer, Step};
use super::{chunks_of, end_of, in_ms, load, notes_of};
use crate::sandbox::{Sandbox, word_tokenizer};

// L09
#[test]
fn an_answer_in_one_piece_has_an_end_and_no_first_token() {
    let server = FaultServer::start(|_| {
        let choice = json!({"index": 0, "message": {"role": "assistant", "content": "a b c"}, "finish_reason": "stop"});
        let usage = json!({"prompt_tokens": 4, "completion_tokens": 3, "total_tokens": 7});
        let body = json!({"object": "chat.completion", "choices": [choice], "usage": usage}).to_string();
        vec![Step::Wait(30), Step::Send(json_answer(200, "", &body))]
    });
    let sandbox = Sandbox::new();
    let run = load(&sandbox, &server.url(), 0, &[]);
    assert!(server.seen().iter().all(|seen| seen.body.contains(r#""stream":true"#)));
    for row in &run.rows {
        assert_eq!((end_of(row), notes_of(row)), (("ok", ""), vec!["not_streamed"]), "{row}");
        assert!(chunks_of(row).is_empty() && row["first_event_us"].is_null(), "{row}");
        assert_eq!((&row["output_tokens"], &row["finish_reason"]), (&json!(3), &json!("stop")));
    }
    for name in ["ttft_ms", "itl_ms", "inter_chunk_ms", "tpot_ms"] {
        assert_eq!((run.measure(name, "n"), run.measure(name, "p50")), (&json!(0), &Value::Null), "{name}");
    }
    assert!(run.ms("e2e_ms", "min") >= 29.0);
    assert_eq!(run.finding("not_streamed").unwrap()["count"], 4);
    assert_eq!(run.stage()["output_tokens"], 12);
}

// L14
#[test]
fn every_legal_way_to_write_events_gives_the_same_answer() {
    let plain = || tokens(4).concat();
    let forms: Vec<Vec<u8>> = vec![
        plain().into_bytes(),
        plain().replace('\n', "\r\n").into_bytes(),
        plain().replace('\n', "\r").into_bytes(),
        plain().replace("data: ", "data:").into_bytes(),
        plain().replace("data: ", ": comment\n:\n\n: ping\ndata: ").into_bytes(),
        plain().replace("data: ", "event: message\nid: 7\nretry: 100\nunknown: x\nnocolon\ndata: ").into_bytes(),
        // A line feed within the data is white space of JSON.
        plain().replace(r#","choices""#, ",\ndata: \"choices\"").into_bytes(),
        [b"\xef\xbb\xbf".as_slice(), plain().as_bytes()].concat(),
        // All of it at once.
        [
            b"\xef\xbb\xbf".as_slice(),
            plain().replace("data: ", "id\r: c\r\ndata:").replace(r#","choices""#, ",\ndata:\"choices\"").as_bytes(),
        ]
        .concat(),
    ];
    let count = forms.len();
    let server = FaultServer::start(move |seen| {
        let body = &forms[seen.prompt() / 2];
        // Even ones in one piece, odd ones in pieces of three bytes.
        let pieces: Vec<&[u8]> = if seen.prompt().is_multiple_of(2) { vec![body] } else { body.chunks(3).collect() };
        let mut steps = begun(&[]);
        steps.extend(pieces.into_iter().map(|piece| Step::Send(framed(piece))));
        steps.push(Step::Send(END.to_vec()));
        steps
    });
    let sandbox = Sandbox::new();
    let requests = format!("requests_per_stage={}", 2 * count);
    // How busy the client is with nothing to wait for is not asked here.
    let run = load(&sandbox, &server.url(), 0, &[&requests, "client.keep_text=true", "run.allow_invalid=true"]);
    for row in &run.rows {
        assert_eq!((end_of(row), notes_of(row).len()), (("ok", ""), 0), "{row}");
        assert_eq!((row["text"].as_str(), chunks_of(row).len()), (Some(text_of(4).as_str()), 4), "{row}");
        assert_eq!((&row["output_tokens"], &row["finish_reason"]), (&json!(4), &json!("length")), "{row}");
        // A role, four tokens, the reason, the counts, [DONE]: comments are no events.
        assert_eq!(row["events"], 8, "{row}");
    }
}

// L14, L15
#[test]
fn comments_before_an_answer_are_not_its_begin() {
    let server = FaultServer::start(|_| {
        let mut steps = begun(&[]);
        steps.extend([Step::Send(framed(": queued\n\n")), Step::Wait(150), Step::Send(framed(tokens(3).concat()))]);
        steps.push(Step::Send(END.to_vec()));
        steps
    });
    let sandbox = Sandbox::new();
    let run = load(&sandbox, &server.url(), 0, &[]);
    let (byte, event) = (run.ms("ttfb_ms", "p50"), run.ms("first_event_ms", "p50"));
    assert!(byte < event - 100.0, "the first byte is the head's: {byte} {event}");
    assert!(run.ms("first_event_ms", "min") >= 149.0 && run.ms("ttft_ms", "min") >= 149.0);
}

// L16
#[test]
fn reasoning_and_tool_calls_are_output() {
    let thought = |text: &str| delta(&json!({"reasoning_content": text, "content": null}));
    let tool = |text: &str| delta(&json!({"tool_calls": [{"index": 0, "function": {"arguments": text}}]}));
    let server = FaultServer::start(move |seen| {
        let (events, output) = match seen.prompt() {
            0 => ([thought("a"), thought("b"), thought("c")].to_vec(), 3),
            1 => ([tool("{"), tool("}")].to_vec(), 2),
            2 => ([thought("a"), token("b"), tool("{"), tool("}")].to_vec(), 4),
            // vLLM and OpenRouter call it `reasoning`, and some send both.
            3 => ([delta(&json!({"reasoning": "a", "reasoning_content": "a"})), token("b")].to_vec(), 2),
            _ => (vec![delta(&json!({"refusal": "no"}))], 1),
        };
        let mut steps = begun(&[role()]);
        // 40 ms before each, so that it can be told what the first token was.
        steps.extend(events.iter().flat_map(|event| [Step::Wait(40), Step::Send(framed(event))]));
        steps.push(Step::Send(framed([finish("stop"), usage(5, output), DONE.to_owned()].concat())));
        steps.push(Step::Send(END.to_vec()));
        steps
    });
    let sandbox = Sandbox::new();
    let run = load(&sandbox, &server.url(), 0, &["requests_per_stage=5", "concurrency=5"]);
    for (prompt, kinds, output) in [
        (0, json!([["r", 3]]), 3),
        (1, json!([["t", 2]]), 2),
        (2, json!([["r", 1], ["c", 1], ["t", 2]]), 4),
        (3, json!([["r", 1], ["c", 1]]), 2),
        (4, json!([["c", 1]]), 1),
    ] {
        let row = run.row(prompt);
        assert_eq!((end_of(row), &row["chunks"]["kinds"]), (("ok", ""), &kinds), "{row}");
        assert_eq!((&row["output_tokens"], notes_of(row).len()), (&json!(output), 0), "{row}");
        assert!(chunks_of(row)[0] >= 39_000, "the role is no token: {row}");
    }
    // The first token of anything, and the first that is no reasoning, which one of the five never has.
    assert_eq!((run.measure("ttft_ms", "n"), run.measure("ttfo_ms", "n")), (&json!(5), &json!(4)));
    assert!(run.ms("ttfo_ms", "max") >= 79.0 && run.ms("ttft_ms", "min") < run.ms("ttfo_ms", "max") - 30.0);
}

// L17
#[test]
fn an_answer_without_a_token_is_empty_and_divides_nothing() {
    let server = FaultServer::start(|seen| match seen.prompt() {
        0 => stream(&[role(), finish("stop"), usage(5, 0), DONE.to_owned()]),
        1 => stream(&[DONE.to_owned()]),
        2 => stream(&[]),
        3 => {
            vec![Step::Send(json_answer(200, "", r#"{"choices":[{"message":{"content":""},"finish_reason":"stop"}]}"#))]
        }
        4 => vec![Step::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec())],
        _ => vec![Step::Send(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec())],
    });
    let sandbox = Sandbox::new();
    let run = load(&sandbox, &server.url(), 3, &["requests_per_stage=6"]);
    assert_eq!(run.count("empty_output"), 6);
    for (prompt, kind) in [(0, "no_token"), (1, "no_token"), (2, "no_event"), (3, "no_token"), (4, "empty_body")] {
        assert_eq!(end_of(run.row(prompt)), ("empty_output", kind));
    }
    assert!(run.reasons().contains("no request succeeded"), "{}", run.reasons());
    for (name, measure) in run.stage()["measures"].as_object().unwrap() {
        assert!(name == "dispatch_delay_ms" || (measure["n"] == 0 && measure["max"].is_null()), "{name}: {measure}");
    }
    for name in ["output_tokens", "output_tok_per_s", "per_user_tok_per_s", "fairness"] {
        let value = &run.stage()[name];
        assert!(value.is_null() || *value == 0.0, "{name}: {value}");
    }
}

// L18
#[test]
fn several_tokens_in_a_chunk_are_counted_and_their_gap_is_shared() {
    let counted = |total: u64, text: &str| {
        let usage = json!({"prompt_tokens": 5, "completion_tokens": total, "total_tokens": total + 5});
        event(&json!({"choices": [{"index": 0, "delta": {"content": text}}], "usage": usage}).to_string())
    };
    let server = FaultServer::start(move |seen| {
        let counts = seen.body.contains("continuous_usage_stats");
        let text = "a b c d ";
        let mut steps = begun(&[role()]);
        for at in 0..4 {
            let event = if counts { counted(4 * (at + 1), text) } else { token(text) };
            steps.extend([Step::Wait(40), Step::Send(framed(event))]);
        }
        steps.push(Step::Send(framed([finish("length"), usage(5, 16), DONE.to_owned()].concat())));
        steps.push(Step::Send(END.to_vec()));
        steps
    });
    for continuous in [true, false] {
        let sandbox = Sandbox::new();
        let setting = format!("continuous_usage={continuous}");
        let run = load(&sandbox, &server.url(), 0, &[&setting, "requests_per_stage=8", "concurrency=8"]);
        // Per token after the first chunk where chunks are counted; where nobody says how many the first had, it counts as one.
        let later = if continuous { 12.0 } else { 15.0 };
        let mut tpot = Vec::new();
        for row in &run.rows {
            let at = chunks_of(row);
            assert_eq!((at.len(), &row["output_tokens"], &row["token_source"]), (4, &json!(16), &json!("usage")));
            let expected = if continuous { json!([4, 4, 4, 4]) } else { Value::Null };
            assert_eq!(row["chunks"].get("tokens").cloned().unwrap_or_default(), expected);
            tpot.push((at[3] - at[0]) as f64 / 1e3 / later);
        }
        let mean = tpot.iter().sum::<f64>() / 8.0;
        assert!((run.ms("tpot_ms", "mean") - mean).abs() < 1e-6, "{mean}");
        // 3 gaps of 40 ms or more in each of 8 requests; 4 tokens share each.
        assert_eq!((run.measure("inter_chunk_ms", "n"), run.measure("itl_ms", "n")), (&json!(24), &json!(96)));
        let (chunk, token) = (run.ms("inter_chunk_ms", "p50"), run.ms("itl_ms", "p50"));
        assert!(chunk > 35.0 && (token - chunk / 4.0).abs() < 0.01, "{chunk} {token}");
        assert_eq!(run.stage()["output_tokens"], 128);
    }
}

// L19
#[test]
fn counts_that_are_missing_or_cannot_be_true_are_not_believed() {
    let told = |usage: &Value| event(&json!({"choices": [], "usage": usage}).to_string());
    let server = FaultServer::start(move |seen| {
        let usage = match seen.prompt() {
            0 => String::new(),
            1 => told(&Value::Null),
            2 => told(&json!({"prompt_tokens": 5, "completion_tokens": 0})),
            3 => told(&json!({"prompt_tokens": 5, "completion_tokens": -3})),
            4 => told(&json!({"prompt_tokens": 5, "completion_tokens": 2})),
            5 => told(&json!({"prompt_tokens": 5, "completion_tokens": "six"})),
            6 => told(&json!({})),
            // More than was asked for, and no more chunks than that.
            7 => told(&json!({"prompt_tokens": 5, "completion_tokens": 600})),
            // More than was asked for, and sent: the limit was not kept.
            _ => told(&json!({"prompt_tokens": 5, "completion_tokens": 10})),
        };
        let mut events = words(if seen.prompt() == 8 { 10 } else { 6 });
        events.extend([finish("length"), usage, DONE.to_owned()].into_iter().filter(|event| !event.is_empty()));
        [vec![Step::Wait(10)], whole_stream(&events)].into_iter().flatten().collect()
    });
    let sandbox = Sandbox::new();
    let settings = ["requests_per_stage=9", "max_tokens=8"];
    let run = load(&sandbox, &server.url(), 3, &settings);
    for (prompt, note) in [
        (0, "usage_missing"),
        (1, "usage_missing"),
        (2, "usage_wrong"),
        (3, "usage_wrong"),
        (4, "usage_wrong"),
        (5, "usage_wrong"),
        (6, "usage_wrong"),
        (7, "usage_wrong"),
    ] {
        let row = run.row(prompt);
        assert_eq!((end_of(row), notes_of(row)), (("ok", ""), vec![note]), "{row}");
        assert_eq!((&row["output_tokens"], &row["token_source"]), (&json!(6), &json!("chunks")), "{row}");
    }
    assert_eq!(notes_of(run.row(8)), ["more_than_max_tokens"]);
    assert!(run.finding("more_than_max_tokens").is_some());
    assert_eq!(run.finding("usage_missing").unwrap()["severity"], "warn");
    assert!(run.reasons().contains("mixed sources of token counts"), "{}", run.reasons());
    assert_eq!(run.stage()["token_sources"], json!({"chunks": 48, "usage": 10}));
}

// L19
#[test]
fn a_tokenizer_counts_what_the_server_does_not() {
    // Two chunks, three words in each.
    let server = FaultServer::start(|_| {
        let events = [token("t1 t2 t3 "), token("t4 t5 t6"), finish("stop"), DONE.to_owned()];
        [vec![Step::Wait(10)], whole_stream(&events)].into_iter().flatten().collect()
    });
    let sandbox = Sandbox::new();
    sandbox.write("tokenizer.json", word_tokenizer(300));
    let run = load(&sandbox, &server.url(), 0, &["prompts.tokenizer=tokenizer.json"]);
    for row in &run.rows {
        assert_eq!((&row["output_tokens"], &row["token_source"]), (&json!(6), &json!("tokenizer")), "{row}");
    }
    assert_eq!(run.stage()["token_sources"], json!({"tokenizer": 24}));
    assert!(run.finding("usage_missing").unwrap()["first"].as_str().unwrap().contains("tokenizer"));
}

// L28
#[test]
fn an_old_server_ends_its_answers_by_hanging_up() {
    let server = FaultServer::start(|_| {
        let head = "HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
        vec![Step::Wait(10), Step::Send([head, &tokens(5).concat()].concat().into_bytes()), Step::Close]
    });
    let sandbox = Sandbox::new();
    let run = load(&sandbox, &server.url(), 0, &[]);
    assert_eq!(run.count("ok"), 4);
    for row in &run.rows {
        assert_eq!((chunks_of(row).len(), &row["output_tokens"], notes_of(row).len()), (5, &json!(5), 0), "{row}");
    }
    assert_eq!(server.connections(), 6, "one for each request, and two before the test");
}

// L29
#[test]
fn an_answer_that_was_compressed_unasked_is_whole_and_marked() {
    fn pack<W: std::io::Write>(
        mut encoder: W,
        flush: bool,
        take: impl Fn(&mut W) -> Vec<u8>,
        end: impl FnOnce(W) -> std::io::Result<Vec<u8>>,
    ) -> Vec<Vec<u8>> {
        let mut pieces = Vec::new();
        for event in tokens(6) {
            encoder.write_all(event.as_bytes()).unwrap();
            if flush {
                encoder.flush().unwrap();
                pieces.push(take(&mut encoder));
            }
        }
        pieces.push(end(encoder).unwrap());
        pieces
    }
    let gzip = |flush| {
        let encoder = GzEncoder::new(Vec::new(), Compression::fast());
        pack(encoder, flush, |encoder| std::mem::take(encoder.get_mut()), GzEncoder::finish)
    };
    let zlib = |flush| {
        let encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        pack(encoder, flush, |encoder| std::mem::take(encoder.get_mut()), ZlibEncoder::finish)
    };
    let server = FaultServer::start(move |seen| {
        let (name, pieces) = match seen.prompt() {
            0 => ("gzip", gzip(true)),
            1 => ("gzip", gzip(false)),
            2 => ("deflate", zlib(true)),
            _ => ("br", zlib(false)),
        };
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: {name}\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        let mut steps = vec![Step::Send(head.into_bytes())];
        for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
            // Cut where no event ends.
            let (first, second) = piece.split_at(piece.len() / 2);
            steps.extend([first, second].iter().filter(|part| !part.is_empty()).map(|part| Step::Send(framed(part))));
            steps.push(Step::Wait(10));
        }
        steps.push(Step::Send(END.to_vec()));
        steps
    });
    let sandbox = Sandbox::new();
    let run = load(&sandbox, &server.url(), 0, &["client.keep_text=true"]);
    assert!(server.seen().iter().all(|seen| seen.head.contains("Accept-Encoding: identity")));
    for prompt in 0..3 {
        let row = run.row(prompt);
        assert_eq!((end_of(row), notes_of(row)), (("ok", ""), vec!["compressed"]), "{row}");
        assert_eq!((row["text"].as_str(), chunks_of(row).len()), (Some(text_of(6).as_str()), 6), "{row}");
    }
    // Flushed events come apart, as they were sent.
    let apart = chunks_of(run.row(0));
    assert!(in_ms(&json!(apart[5] - apart[0])) >= 40.0, "{apart:?}");
    assert_eq!(end_of(run.row(3)), ("malformed_sse", "encoding"));
    assert_eq!(run.finding("compressed").unwrap()["count"], 3);
}
