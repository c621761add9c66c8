//! What real servers sent, byte for byte, recorded by curl: each must be read as a person reads it. The expectations were counted from the files
//! by a script of a few lines that shares nothing with the client.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::answers::{END, framed};
use super::fault_server::{FaultServer, Step};
use super::{chunks_of, command, end_of, load, message_of, notes_of};
use crate::sandbox::{Sandbox, finish};

/// The recordings, where they are there.
fn folder() -> Option<PathBuf> {
    let shared = std::env::var_os("PERFPROF_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let folder = shared.join("sse");
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("skipped: no recordings at {}; set PERFPROF_SHARED", folder.display());
    None
}

/// How the body of a recording is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// A chunk and a write for each event.
    Events,
    /// All in one write, in one chunk.
    Once,
    /// A write for each byte.
    Bytes,
}

/// The answer in a recording. Its lines end in CR LF up to the body, which curl wrote without its chunks, and behind which whoever recorded it put a line feed.
/// Paths within the bodies were shortened since, so that their lengths are counted anew.
fn answer(folder: &Path, name: &str, cut: Cut) -> Vec<Step> {
    let bytes = std::fs::read(folder.join(format!("{name}.txt"))).unwrap();
    let find = |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).position(|window| window == what);
    let begin = find(&bytes, b"HTTP/1.1 ").unwrap();
    let split = begin + find(&bytes[begin..], b"\r\n\r\n").unwrap();
    let head = std::str::from_utf8(&bytes[begin..split]).unwrap();
    let body = &bytes[split + 4..];
    // curl said so behind what it had received.
    let broken = find(body, b"curl: (18)");
    let body = broken.map_or_else(|| body.strip_suffix(b"\n").unwrap(), |at| &body[..at]);
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let lines = head.lines().filter(|line| !line.to_ascii_lowercase().starts_with("content-length:"));
    let mut head = lines.fold(String::new(), |head, line| head + line + "\r\n");
    if !chunked {
        head.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");

    let mut writes = vec![head.into_bytes()];
    if !chunked {
        writes.push(body.to_vec());
    } else if cut == Cut::Once {
        writes.extend((!body.is_empty()).then(|| framed(body)));
    } else {
        let text = std::str::from_utf8(body).unwrap();
        writes.extend(text.split_inclusive("\n\n").map(framed));
    }
    if chunked && broken.is_none() {
        writes.push(END.to_vec());
    }
    let mut steps: Vec<Step> = match cut {
        Cut::Events => writes.into_iter().map(Step::Send).collect(),
        Cut::Once => vec![Step::Send(writes.concat())],
        Cut::Bytes => writes.concat().into_iter().map(|byte| Step::Send(vec![byte])).collect(),
    };
    steps.extend(broken.map(|_| Step::Close));
    steps
}

/// A stream that ended well: chunks with output, events, tokens of prompt and answer if they are told, of the prompt in a cache, why it ended, its text.
struct Good(&'static str, u64, u64, Option<(u64, u64)>, Option<u64>, &'static str, &'static str);
/// An answer that failed: outcome, the word for it, status, chunks, and what its message holds.
struct Bad(&'static str, &'static str, &'static str, u64, usize, &'static str);

const CHATS: [Good; 12] = [
    Good("vllm-chat-stream-usage", 7, 11, Some((37, 8)), None, "stop", "The capital of France is Paris."),
    Good("vllm-chat-stream-nousage", 4, 6, None, None, "length", "The capital of France"),
    Good("vllm-chat-stream-logprobs", 6, 8, None, None, "length", "Hello, I'm here to"),
    Good("llamacpp-chat-stream-usage", 8, 12, Some((37, 8)), Some(0), "length", "L'Étoile, la Mar"),
    Good("llamacpp-chat-stream-nousage", 4, 7, None, None, "length", "L'Éto"),
    Good("llamacpp-chat-stream-logprobs", 6, 9, None, None, "length", "Hello! I'm here to"),
    Good("llamacpp-python-chat-stream-usage", 8, 11, None, None, "length", "L'Étoile, la Cit"),
    Good("llamacpp-python-chat-stream-nousage", 4, 7, None, None, "length", "L'Éto"),
    Good("llamacpp-python-chat-stream-logprobs", 6, 9, None, None, "length", "Hello! I'm here to"),
    Good("hf-chat-stream-usage", 7, 9, Some((37, 8)), None, "length", "The capital of France is Paris."),
    Good("hf-chat-stream-nousage", 4, 6, Some((37, 4)), None, "length", "The capital of France"),
    Good("hf-chat-stream-logprobs", 6, 8, Some((44, 6)), None, "length", "Hello! I'm here to"),
];

const COMPLETIONS: [Good; 12] = [
    Good("vllm-completions-stream-usage", 8, 10, Some((5, 8)), None, "length", " Paris.\n\nThe answer is:"),
    Good("vllm-completions-stream-nousage", 4, 5, None, None, "length", " Paris.\n\n"),
    Good("vllm-completions-promptids-ignoreeos", 6, 8, Some((5, 6)), None, "length", " Paris.\n\nThe answer"),
    Good(
        "llamacpp-completions-stream-usage",
        8,
        10,
        Some((5, 8)),
        Some(0),
        "length",
        " Paris.\n\nThe United States has",
    ),
    // llama.cpp tells its counts unasked here.
    Good("llamacpp-completions-stream-nousage", 4, 6, Some((5, 4)), Some(4), "length", " Paris.\n\n"),
    Good("llamacpp-completions-promptids-ignoreeos", 6, 8, Some((5, 6)), Some(4), "length", " Paris.\n\nThe United"),
    Good("llamacpp-python-completions-stream-usage", 8, 10, None, None, "length", " Paris.\n- The United States has"),
    Good("llamacpp-python-completions-stream-nousage", 4, 6, None, None, "length", " Paris.\n-"),
    // Two servers that do not care what the model is called.
    Good("llamacpp-err-wrongmodel", 2, 5, None, None, "length", "Hello there"),
    Good("llamacpp-python-err-wrongmodel", 2, 5, None, None, "length", "hello there"),
    Good("hf-completions-stream-usage", 8, 9, Some((5, 8)), None, "length", " Paris.\n\nThe answer is:"),
    Good("hf-completions-stream-nousage", 4, 5, Some((5, 4)), None, "length", " Paris.\n\n"),
];

const BAD: [Bad; 14] = [
    Bad("chat-after-crash-500", "http_5xx", "500", 500, 0, "EngineCore encountered an issue"),
    Bad("completions-midstream-error", "stream_error_event", "error", 200, 0, "EngineCore encountered an issue"),
    // `[DONE]` came, and no finish_reason before it and no end of the body behind it: another request had taken its place.
    Bad("llamacpp-python-interrupted-stream", "stream_truncated", "chunked", 200, 48, "after 48 output chunks"),
    // The error was raised after the head had been sent.
    Bad("llamacpp-python-err-toolong", "empty_output", "no_event", 200, 0, ""),
    Bad("llamacpp-python-err-badjson", "http_5xx", "500", 500, 0, "Internal Server Error"),
    Bad("llamacpp-python-completions-promptids-ignoreeos", "http_5xx", "500", 500, 0, "6 validation errors"),
    Bad("llamacpp-err-badjson", "http_4xx", "400", 400, 0, ""),
    Bad("llamacpp-err-toolong", "http_4xx", "400", 400, 0, "6001"),
    Bad("vllm-err-badjson", "http_4xx", "400", 400, 0, ""),
    Bad("vllm-err-toolong", "http_4xx", "400", 400, 0, "maximum context length is 1024 tokens"),
    Bad("vllm-err-wrongmodel", "http_4xx", "404", 404, 0, "does not exist"),
    Bad("hf-err-badjson", "http_4xx", "422", 422, 0, "JSON decode error"),
    Bad("hf-err-wrongmodel", "http_4xx", "400", 400, 0, "requested 'nope'"),
    Bad("hf-completions-promptids-ignoreeos", "http_4xx", "422", 422, 0, "Unexpected fields in the request"),
];

/// Replays recordings, each the answer to the prompt of its number.
fn replay(folder: &Path, names: &[&'static str], cut: Cut, settings: &[&str]) -> super::Load {
    let (folder, names) = (folder.to_owned(), names.to_vec());
    let requests = format!("requests_per_stage={}", names.len());
    let server = FaultServer::start(move |seen| answer(&folder, names[seen.prompt()], cut));
    let sandbox = Sandbox::new();
    let all = ["client.keep_text=true", "run.allow_invalid=true", "concurrency=4", &requests];
    // Token counts of several sources make the run INVALID, which is not asked here.
    load(&sandbox, &server.url(), 0, &[&all, settings].concat())
}

fn check_streams(expected: &[Good], settings: &[&str]) {
    let Some(folder) = folder() else { return };
    let names: Vec<&'static str> = expected.iter().map(|good| good.0).collect();
    for cut in [Cut::Events, Cut::Once, Cut::Bytes] {
        let run = replay(&folder, &names, cut, settings);
        for (prompt, Good(name, chunks, events, usage, cached, finish, text)) in expected.iter().enumerate() {
            let row = run.row(prompt);
            let what = format!("{name}, {cut:?}: {row}");
            assert_eq!((end_of(row), row["status"].as_u64()), (("ok", ""), Some(200)), "{what}");
            assert_eq!((chunks_of(row).len() as u64, row["events"].as_u64()), (*chunks, Some(*events)), "{what}");
            assert_eq!((row["text"].as_str(), row["finish_reason"].as_str()), (Some(*text), Some(*finish)), "{what}");
            let (input, output) = usage.map_or((None, *chunks), |(input, output)| (Some(input), output));
            assert_eq!((row["input_tokens"].as_u64(), row["output_tokens"].as_u64()), (input, Some(output)), "{what}");
            let source = if usage.is_some() { "usage" } else { "chunks" };
            assert_eq!(
                (row["token_source"].as_str(), row["cached_tokens"].as_u64()),
                (Some(source), *cached),
                "{what}"
            );
            let mut notes = Vec::new();
            if name.starts_with("hf-") {
                notes.push("done_missing");
            }
            if usage.is_none() {
                notes.push("usage_missing");
            }
            assert_eq!(notes_of(row), notes, "{what}");
            // llama.cpp alone says how long it took.
            let timings = name.starts_with("llamacpp-") && !name.starts_with("llamacpp-python-");
            assert_eq!(row.get("server_timings").is_some_and(Value::is_object), timings, "{what}");
            let counted = (*name == "vllm-completions-promptids-ignoreeos").then(|| json!([1, 1, 1, 1, 1, 1]));
            assert_eq!(row["chunks"].get("tokens"), counted.as_ref(), "{what}");
        }
        assert_eq!(run.count("ok") as usize, expected.len());
    }
}

#[test]
fn chats_of_four_servers_are_read_as_they_were_meant() {
    check_streams(&CHATS, &[]);
}

#[test]
fn completions_of_four_servers_are_read_as_they_were_meant() {
    check_streams(&COMPLETIONS, &["endpoint=completions"]);
}

#[test]
fn what_went_wrong_in_four_servers_is_called_by_its_name() {
    let Some(folder) = folder() else { return };
    let names: Vec<&'static str> = BAD.iter().map(|bad| bad.0).collect();
    for cut in [Cut::Events, Cut::Once, Cut::Bytes] {
        let run = replay(&folder, &names, cut, &["endpoint=completions"]);
        for (prompt, Bad(name, outcome, kind, status, chunks, words)) in BAD.iter().enumerate() {
            let row = run.row(prompt);
            assert_eq!(end_of(row), (*outcome, *kind), "{name}, {cut:?}: {row}");
            assert_eq!((row["status"].as_u64(), chunks_of(row).len()), (Some(*status), *chunks), "{name}: {row}");
            assert!(message_of(row).contains(words), "{name}: {row}");
            assert!(message_of(row).chars().count() <= 230, "{name}: {row}");
        }
        assert_eq!((run.count("ok"), run.measure("e2e_ms", "n")), (0, &json!(0)));
    }
}

#[test]
fn whole_answers_of_four_servers_are_read_as_they_were_meant() {
    let Some(folder) = folder() else { return };
    // Name, prompt tokens, cached ones, text; each has 4 tokens and reached its limit.
    let chats = [
        ("vllm-chat-nonstream", 37, None, "The capital of France"),
        ("llamacpp-chat-nonstream", 37, Some(36), "L'Éto"),
        ("llamacpp-python-chat-nonstream", 37, None, "L'Éto"),
        ("hf-chat-nonstream", 37, None, "The capital of France"),
    ];
    let completions = [
        ("vllm-completions-nonstream", 5, None, " Paris.\n\n"),
        ("llamacpp-completions-nonstream", 5, Some(4), " Paris.\n\n"),
        ("llamacpp-python-completions-nonstream", 5, None, " Paris.\n-"),
        ("hf-completions-nonstream", 5, None, " Paris.\n\n"),
    ];
    for (expected, endpoint) in [(chats, "endpoint=chat.completions"), (completions, "endpoint=completions")] {
        let names: Vec<&'static str> = expected.iter().map(|entry| entry.0).collect();
        for cut in [Cut::Once, Cut::Bytes] {
            let run = replay(&folder, &names, cut, &[endpoint, "stream=false"]);
            for (prompt, (name, input, cached, text)) in expected.iter().enumerate() {
                let row = run.row(prompt);
                let what = format!("{name}, {cut:?}: {row}");
                assert_eq!((end_of(row), row["text"].as_str()), (("ok", ""), Some(*text)), "{what}");
                assert_eq!((row["input_tokens"].as_u64(), row["output_tokens"].as_u64()), (Some(*input), Some(4)));
                assert_eq!((row["finish_reason"].as_str(), row["cached_tokens"].as_u64()), (Some("length"), *cached));
                assert!(chunks_of(row).is_empty() && notes_of(row).is_empty() && row["events"] == 0, "{what}");
            }
            assert_eq!((run.measure("ttft_ms", "n"), run.measure("e2e_ms", "n")), (&json!(0), &json!(4)));
        }
    }
}

#[test]
fn a_server_that_cannot_list_its_models_is_tested_all_the_same() {
    let Some(folder) = folder() else { return };
    let server = FaultServer::builder()
        .models(move |_| answer(&folder, "hf-models", Cut::Once))
        .start(|_| super::answers::good(2));
    let sandbox = Sandbox::new();
    let run = load(&sandbox, &server.url(), 0, &["model=some/model"]);
    assert_eq!((run.count("ok"), run.metrics["model"].as_str()), (4, Some("some/model")));
    assert!(server.seen().iter().all(|seen| seen.body.contains(r#""model":"some/model""#)));
    let sandbox = Sandbox::new();
    let outcome = finish(command(&sandbox, &server.url(), &["model=null"])).exits(1);
    outcome.says(&["no model is given, and the server names none"]).hints("model=NAME");
}

#[test]
fn the_only_model_in_a_list_is_the_one_that_is_asked_for() {
    let Some(folder) = folder() else { return };
    let file = "models/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf";
    for (name, model) in [("vllm-models", "smollm2"), ("llamacpp-models", file), ("llamacpp-python-models", file)] {
        let folder = folder.clone();
        let server = FaultServer::builder()
            .models(move |_| answer(&folder, name, Cut::Bytes))
            .start(|_| super::answers::good(2));
        let sandbox = Sandbox::new();
        let run = load(&sandbox, &server.url(), 0, &["model=null"]);
        assert_eq!(run.metrics["model"].as_str(), Some(model), "{name}");
    }
}
