//! The bytes of answers, made by hand: events, chunked bodies, whole answers.

use serde_json::json;

use super::fault_server::Step;

pub(crate) const DONE: &str = "data: [DONE]\n\n";
/// The chunk that ends a body.
pub(crate) const END: &[u8] = b"0\r\n\r\n";
/// Head of an answer whose body is a chunked stream of events.
pub(crate) const STREAM_HEAD: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n";

/// An event with one line of data.
pub(crate) fn event(data: &str) -> String {
    format!("data: {data}\n\n")
}

/// A chunk of a chat with this delta.
pub(crate) fn delta(delta: &serde_json::Value) -> String {
    event(&json!({"id": "c", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": null}]}).to_string())
}

pub(crate) fn role() -> String {
    delta(&json!({"role": "assistant", "content": ""}))
}

pub(crate) fn token(text: &str) -> String {
    delta(&json!({"content": text}))
}

pub(crate) fn finish(reason: &str) -> String {
    event(&json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}).to_string())
}

/// Token counts, in an event of their own.
pub(crate) fn usage(input: u64, output: u64) -> String {
    let usage = json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output});
    event(&json!({"choices": [], "usage": usage}).to_string())
}

/// All events of a good answer of `count` tokens: `w0`, ` w1`, …
pub(crate) fn tokens(count: u64) -> Vec<String> {
    let mut events = vec![role()];
    events.extend(words(count));
    events.extend([finish("length"), usage(5, count), DONE.to_owned()]);
    events
}

/// Events of `count` tokens and nothing else.
pub(crate) fn words(count: u64) -> Vec<String> {
    (0..count).map(|at| token(&format!("{}w{at}", if at == 0 { "" } else { " " }))).collect()
}

/// The text of [`words`].
pub(crate) fn text_of(count: u64) -> String {
    (0..count).map(|at| format!("w{at}")).collect::<Vec<_>>().join(" ")
}

/// `data` as one chunk of a chunked body.
pub(crate) fn framed(data: impl AsRef<[u8]>) -> Vec<u8> {
    let data = data.as_ref();
    let mut bytes = format!("{:x}\r\n", data.len()).into_bytes();
    bytes.extend_from_slice(data);
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// Head and events of a stream, each in a write of its own; the chunk that ends the body is missing.
pub(crate) fn begun(events: &[String]) -> Vec<Step> {
    let mut steps = vec![Step::Send(STREAM_HEAD.as_bytes().to_vec())];
    steps.extend(events.iter().map(|event| Step::Send(framed(event))));
    steps
}

/// A whole stream, each event in a write of its own.
pub(crate) fn stream(events: &[String]) -> Vec<Step> {
    let mut steps = begun(events);
    steps.push(Step::Send(END.to_vec()));
    steps
}

/// The bytes of a whole stream.
pub(crate) fn stream_bytes(events: &[String]) -> Vec<u8> {
    let mut bytes = STREAM_HEAD.as_bytes().to_vec();
    for event in events {
        bytes.extend(framed(event));
    }
    bytes.extend_from_slice(END);
    bytes
}

/// A whole stream in a single write.
pub(crate) fn whole_stream(events: &[String]) -> Vec<Step> {
    vec![Step::Send(stream_bytes(events))]
}

/// A good answer of `count` tokens after 10 ms, so that the client has time to breathe and is not at its limit.
pub(crate) fn good(count: u64) -> Vec<Step> {
    vec![Step::Wait(10), Step::Send(stream_bytes(&tokens(count)))]
}

/// An answer of JSON with this status; `headers` are further lines, each ended by CR LF.
pub(crate) fn json_answer(status: u16, headers: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status} Some Reason\r\nContent-Type: application/json\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// An error as vLLM tells it.
pub(crate) fn error_answer(status: u16, headers: &str, message: &str) -> Vec<Step> {
    let body = json!({"error": {"message": message, "type": "SomeError", "param": null, "code": status}}).to_string();
    vec![Step::Send(json_answer(status, headers, &body))]
}
