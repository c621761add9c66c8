//! What a chunk of an answer says: its output, counts and errors, read in place; everything else is passed over.

use std::borrow::Cow;
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::record::load::row::{ChunkKind, ServerTimings};

/// Text that is borrowed where it has no escapes. Null, a missing field and anything that is no text are none; a list of parts is joined.
#[derive(Debug, Default, PartialEq, Eq)]
struct Text<'a>(Option<Cow<'a, str>>);

impl Text<'_> {
    fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Some(Cow::Borrowed(text))))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Some(Cow::Owned(text.to_owned()))))
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Text(None))
            }
            fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
                Ok(Text(None))
            }
            fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
                Ok(Text(None))
            }
            fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
                Ok(Text(None))
            }
            fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
                Ok(Text(None))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Self::Value, A::Error> {
                let mut joined = String::new();
                while let Some(part) = parts.next_element::<TextPart<'de>>()? {
                    joined.push_str(part.text.as_str());
                }
                Ok(Text(Some(Cow::Owned(joined))))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Text(None))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

#[derive(Deserialize)]
struct TextPart<'a> {
    #[serde(borrow, default)]
    text: Text<'a>,
}

/// Whether there is anything: a list with elements or a map.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Presence(bool);

impl<'de> Deserialize<'de> for Presence {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Presence;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut any = false;
                while list.next_element::<IgnoredAny>()?.is_some() {
                    any = true;
                }
                Ok(Presence(any))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Presence(true))
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Presence(false))
            }
            fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
                Ok(Presence(value))
            }
            fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
                Ok(Presence(true))
            }
            fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
                Ok(Presence(true))
            }
            fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
                Ok(Presence(true))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Presence(!text.is_empty()))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// `delta` of a stream or `message` of a whole answer.
#[derive(Debug, Default, Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    content: Text<'a>,
    #[serde(borrow, default)]
    reasoning_content: Text<'a>,
    #[serde(borrow, default)]
    reasoning: Text<'a>,
    #[serde(borrow, default)]
    refusal: Text<'a>,
    #[serde(default)]
    tool_calls: Presence,
    #[serde(default)]
    function_call: Presence,
}

#[derive(Debug, Deserialize)]
struct Choice<'a> {
    #[serde(borrow, default)]
    delta: Option<Message<'a>>,
    #[serde(borrow, default)]
    message: Option<Message<'a>>,
    #[serde(borrow, default)]
    text: Text<'a>,
    #[serde(borrow, default)]
    finish_reason: Text<'a>,
}

/// The choices; mostly one, so that no list is made.
#[derive(Debug, Default)]
struct Choices<'a> {
    first: Option<Choice<'a>>,
    more: Vec<Choice<'a>>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Choices<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Choices<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of choices")
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Choices::default())
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let first = list.next_element()?;
                let mut more = Vec::new();
                while let Some(choice) = list.next_element()? {
                    more.push(choice);
                }
                Ok(Choices { first, more })
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// Counts as the server tells them; numbers that are none, such as null or −1, are unknown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub input: Option<u64>,
    /// Tokens of the answer.
    pub output: Option<u64>,
    /// Tokens of its reasoning.
    pub reasoning: Option<u64>,
    /// Tokens of the prompt that were in a cache.
    pub cached: Option<u64>,
}

/// A count that may be anything.
#[derive(Debug, Clone, Copy, Default)]
struct Count(Option<u64>);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(serde_json::Value::deserialize(deserializer)?.as_u64()))
    }
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
struct Details {
    #[serde(default)]
    reasoning_tokens: Count,
    #[serde(default)]
    cached_tokens: Count,
}

#[derive(Debug, Deserialize)]
struct RawUsage {
    #[serde(default, alias = "input_tokens")]
    prompt_tokens: Count,
    #[serde(default, alias = "output_tokens")]
    completion_tokens: Count,
    #[serde(default, alias = "output_tokens_details")]
    completion_tokens_details: Option<Details>,
    #[serde(default, alias = "input_tokens_details")]
    prompt_tokens_details: Option<Details>,
}

impl From<RawUsage> for Usage {
    fn from(raw: RawUsage) -> Self {
        Self {
            input: raw.prompt_tokens.0,
            output: raw.completion_tokens.0,
            reasoning: raw.completion_tokens_details.and_then(|details| details.reasoning_tokens.0),
            cached: raw.prompt_tokens_details.and_then(|details| details.cached_tokens.0),
        }
    }
}

#[derive(Debug, Deserialize)]
struct RawTimings {
    prompt_n: u64,
    prompt_ms: f64,
    predicted_n: u64,
    predicted_ms: f64,
}

/// The `response` of an event of the responses API.
#[derive(Debug, Deserialize)]
struct Response<'a> {
    #[serde(default)]
    usage: Option<RawUsage>,
    #[serde(borrow, default)]
    error: Option<&'a serde_json::value::RawValue>,
}

#[derive(Debug, Deserialize)]
struct OutputItem<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Text<'a>,
    #[serde(borrow, default)]
    content: Text<'a>,
}

#[derive(Debug, Deserialize)]
struct Chunk<'a> {
    #[serde(borrow, default)]
    choices: Choices<'a>,
    #[serde(default)]
    usage: Option<RawUsage>,
    #[serde(borrow, default)]
    error: Option<&'a serde_json::value::RawValue>,
    #[serde(default)]
    timings: Option<RawTimings>,
    #[serde(borrow, default, rename = "type")]
    kind: Text<'a>,
    #[serde(borrow, default)]
    delta: Text<'a>,
    #[serde(borrow, default)]
    response: Option<Response<'a>>,
    // A whole answer of the responses API has these at its root.
    #[serde(borrow, default)]
    output: Option<Vec<OutputItem<'a>>>,
    #[serde(borrow, default)]
    status: Text<'a>,
    // Errors of servers that do not wrap them: FastAPI's `detail`.
    #[serde(borrow, default)]
    detail: Option<&'a serde_json::value::RawValue>,
    #[serde(borrow, default)]
    object: Text<'a>,
    #[serde(borrow, default)]
    message: Text<'a>,
}

/// What one chunk, or one whole answer, said.
#[derive(Debug, Default, PartialEq)]
pub struct Said {
    /// What output it carries; the answer itself before reasoning where it carries both.
    pub kind: Option<ChunkKind>,
    /// Why the server stops.
    pub finish_reason: Option<String>,
    /// Counts.
    pub usage: Option<Usage>,
    /// An error, in the server's words.
    pub error: Option<String>,
    /// llama.cpp's times.
    pub timings: Option<ServerTimings>,
    /// The end of an answer of the responses API.
    pub completed: bool,
}

/// A chunk that is no JSON, or not of the form it must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotJson {
    /// What is wrong, and at which byte.
    pub reason: String,
}

/// Reads `data`, and adds its text to `text` and its reasoning to `reasoning`.
///
/// # Errors
/// [`NotJson`].
pub fn read(data: &[u8], text: &mut String, reasoning: &mut String) -> Result<Said, NotJson> {
    let chunk: Chunk<'_> = serde_json::from_slice(data).map_err(|error| not_json(data, &error))?;
    let mut said = Said {
        usage: chunk.usage.map(Usage::from),
        timings: chunk.timings.map(|raw| ServerTimings {
            prompt_n: raw.prompt_n,
            prompt_ms: raw.prompt_ms,
            predicted_n: raw.predicted_n,
            predicted_ms: raw.predicted_ms,
        }),
        ..Said::default()
    };
    let choices = chunk.choices.first.iter().chain(&chunk.choices.more);
    for choice in choices {
        let message = choice.delta.as_ref().or(choice.message.as_ref());
        let mut content = !choice.text.as_str().is_empty();
        text.push_str(choice.text.as_str());
        if let Some(message) = message {
            for part in [&message.content, &message.refusal] {
                content |= !part.as_str().is_empty();
                text.push_str(part.as_str());
            }
            // Servers that send both send the same text twice.
            let thought =
                [&message.reasoning_content, &message.reasoning].into_iter().find(|part| !part.as_str().is_empty());
            if let Some(thought) = thought {
                reasoning.push_str(thought.as_str());
                said.kind.get_or_insert(ChunkKind::Reasoning);
            }
            if (message.tool_calls.0 || message.function_call.0) && said.kind != Some(ChunkKind::Content) {
                said.kind = Some(ChunkKind::Tool);
            }
        }
        if content {
            said.kind = Some(ChunkKind::Content);
        }
        if !choice.finish_reason.as_str().is_empty() {
            said.finish_reason = Some(choice.finish_reason.as_str().chars().take(64).collect());
        }
    }
    if let Some(error) = chunk.error.filter(|error| error.get() != "null") {
        said.error = Some(error_text(error.get()));
    } else if chunk.object.as_str() == "error" {
        said.error = Some(chunk.message.as_str().to_owned());
    } else if chunk.choices.first.is_none()
        && let Some(detail) = chunk.detail
    {
        said.error = Some(error_text(detail.get()));
    }
    responses_api(&chunk.kind, &chunk.delta, chunk.response.as_ref(), &mut said, text, reasoning);
    if let Some(output) = &chunk.output {
        whole_response(output, chunk.status.as_str(), &mut said, text);
    }
    Ok(said)
}

/// Events of the responses API, told by their `type`.
fn responses_api(
    kind: &Text<'_>,
    delta: &Text<'_>,
    response: Option<&Response<'_>>,
    said: &mut Said,
    text: &mut String,
    reasoning: &mut String,
) {
    match kind.as_str() {
        "response.output_text.delta" | "response.refusal.delta" if !delta.as_str().is_empty() => {
            said.kind = Some(ChunkKind::Content);
            text.push_str(delta.as_str());
        }
        "response.reasoning_text.delta" | "response.reasoning_summary_text.delta" if !delta.as_str().is_empty() => {
            said.kind = Some(ChunkKind::Reasoning);
            reasoning.push_str(delta.as_str());
        }
        "response.function_call_arguments.delta" => said.kind = Some(ChunkKind::Tool),
        end @ ("response.completed" | "response.incomplete" | "response.failed") => {
            said.completed = true;
            let reason = end.rsplit('.').next().unwrap_or(end);
            if let Some(response) = response {
                let usage = response.usage.as_ref();
                said.usage = usage.map(|raw| Usage {
                    input: raw.prompt_tokens.0,
                    output: raw.completion_tokens.0,
                    reasoning: raw.completion_tokens_details.and_then(|details| details.reasoning_tokens.0),
                    cached: raw.prompt_tokens_details.and_then(|details| details.cached_tokens.0),
                });
                if let Some(error) = response.error.filter(|error| error.get() != "null") {
                    said.error = Some(error_text(error.get()));
                }
            }
            if reason == "failed" {
                said.error.get_or_insert_with(|| "the response failed".to_owned());
            } else {
                said.finish_reason = Some(reason.to_owned());
            }
        }
        "error" if said.error.is_none() => said.error = Some("the server sent an event of type `error`".to_owned()),
        _ => {}
    }
}

/// The root of a whole answer of the responses API.
fn whole_response(output: &[OutputItem<'_>], status: &str, said: &mut Said, text: &mut String) {
    for item in output {
        match item.kind.as_str() {
            "message" if !item.content.as_str().is_empty() => {
                text.push_str(item.content.as_str());
                said.kind = Some(ChunkKind::Content);
            }
            "function_call" => {
                said.kind.get_or_insert(ChunkKind::Tool);
            }
            "reasoning" => {
                said.kind.get_or_insert(ChunkKind::Reasoning);
            }
            _ => {}
        }
    }
    if matches!(status, "completed" | "incomplete") {
        said.finish_reason = Some(status.to_owned());
    }
}

/// The message of an error in any of the forms servers give it.
pub fn error_text(raw: &str) -> String {
    let Ok(value) = serde_json::from_str::<serde_json::Value>(raw) else { return cut(raw) };
    let of = |value: &serde_json::Value| -> Option<String> {
        let message = value.get("message").or_else(|| value.get("msg"))?.as_str()?.to_owned();
        let code = value.get("code").or_else(|| value.get("type"));
        Some(match code {
            Some(serde_json::Value::Number(code)) => format!("{message} (code {code})"),
            Some(serde_json::Value::String(code)) if !code.is_empty() => format!("{message} ({code})"),
            _ => message,
        })
    };
    let text = match &value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Array(list) => list.first().and_then(of).unwrap_or_else(|| value.to_string()),
        other => of(other).unwrap_or_else(|| other.to_string()),
    };
    cut(&text)
}

/// At most 200 characters.
pub fn cut(text: &str) -> String {
    match text.char_indices().nth(200) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

fn not_json(data: &[u8], error: &serde_json::Error) -> NotJson {
    let mut message = error.to_string();
    if let Some(at) = message.rfind(" at line ") {
        message.truncate(at);
    }
    let offset =
        if error.line() <= 1 { error.column().to_string() } else { format!("{}:{}", error.line(), error.column()) };
    // Text that is no UTF-8 is shown as bytes.
    let excerpt = match std::str::from_utf8(data) {
        Ok(text) => cut(text),
        Err(bad) => {
            let from = bad.valid_up_to().saturating_sub(8);
            let bytes = &data[from..data.len().min(from + 24)];
            let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("no UTF-8 from byte {}: {}", bad.valid_up_to(), hex.join(" "))
        }
    };
    NotJson { reason: format!("{message} at byte {offset} of an event: {excerpt}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(json: &str) -> (Said, String, String) {
        let (mut text, mut reasoning) = (String::new(), String::new());
        let said = read(json.as_bytes(), &mut text, &mut reasoning).unwrap_or_else(|error| panic!("{json}: {error:?}"));
        (said, text, reasoning)
    }
    fn kind(json: &str) -> Option<ChunkKind> {
        said(json).0.kind
    }

    #[test]
    fn only_output_is_output() {
        assert_eq!(kind(r#"{"choices":[{"delta":{"role":"assistant"}}]}"#), None);
        assert_eq!(kind(r#"{"choices":[{"delta":{"role":"assistant","content":""}}]}"#), None);
        assert_eq!(kind(r#"{"choices":[{"delta":{"role":"assistant","content":null}}]}"#), None);
        assert_eq!(kind(r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#), None);
        assert_eq!(kind(r#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#), None);
        assert_eq!(kind(r#"{"choices":[{"delta":{"tool_calls":[]}}]}"#), None);
        assert_eq!(kind(r#"{"choices":[{"delta":{"content":" "}}]}"#), Some(ChunkKind::Content));
        assert_eq!(kind(r#"{"choices":[{"text":"a"}]}"#), Some(ChunkKind::Content));
        assert_eq!(
            kind(r#"{"choices":[{"delta":{"reasoning_content":"a","content":null}}]}"#),
            Some(ChunkKind::Reasoning)
        );
        assert_eq!(kind(r#"{"choices":[{"delta":{"reasoning":"a"}}]}"#), Some(ChunkKind::Reasoning));
        assert_eq!(kind(r#"{"choices":[{"delta":{"tool_calls":[{"index":0}]}}]}"#), Some(ChunkKind::Tool));
        assert_eq!(kind(r#"{"choices":[{"delta":{"refusal":"no"}}]}"#), Some(ChunkKind::Content));
        assert_eq!(kind(r#"{"choices":[{"delta":{}},{"delta":{"content":"b"}}]}"#), Some(ChunkKind::Content));
    }

    #[test]
    fn escapes_and_all_choices_are_in_the_text() {
        let (_, text, reasoning) = said(
            r#"{"choices":[{"delta":{"content":"a\n\u00e9"}},{"delta":{"content":"b","reasoning":"r","reasoning_content":"r"}}]}"#,
        );
        assert_eq!((text.as_str(), reasoning.as_str()), ("a\néb", "r"));
    }

    #[test]
    fn counts_that_are_none_are_unknown() {
        let usage = |json: &str| said(json).0.usage;
        assert_eq!(
            usage(
                r#"{"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":7,"prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":3}}}"#
            ),
            Some(Usage { input: Some(5), output: Some(7), reasoning: Some(3), cached: Some(4) })
        );
        assert_eq!(usage(r#"{"usage":null}"#), None);
        assert_eq!(
            usage(r#"{"usage":{"prompt_tokens":-1,"completion_tokens":null,"prompt_tokens_details":null}}"#),
            Some(Usage::default())
        );
    }

    #[test]
    fn errors_are_found_in_every_form() {
        let error = |json: &str| said(json).0.error;
        assert_eq!(error(r#"{"error":{"message":"boom","type":"x","code":500}}"#).as_deref(), Some("boom (code 500)"));
        assert_eq!(error(r#"{"error":"boom"}"#).as_deref(), Some("boom"));
        assert_eq!(error(r#"{"object":"error","message":"old vLLM","code":400}"#).as_deref(), Some("old vLLM"));
        assert_eq!(error(r#"{"detail":[{"loc":["body"],"msg":"field required"}]}"#).as_deref(), Some("field required"));
        assert_eq!(error(r#"{"detail":"Unexpected fields"}"#).as_deref(), Some("Unexpected fields"));
        assert_eq!(error(r#"{"error":null,"choices":[]}"#), None);
        let long = error(&format!(r#"{{"error":"{}"}}"#, "é".repeat(1000))).unwrap();
        assert_eq!(long.chars().count(), 201);
    }

    #[test]
    fn the_responses_api_is_read() {
        let (said_, text, _) = said(r#"{"type":"response.output_text.delta","delta":"Hi","item_id":"x"}"#);
        assert_eq!((said_.kind, text.as_str()), (Some(ChunkKind::Content), "Hi"));
        assert_eq!(kind(r#"{"type":"response.created","response":{"status":"in_progress","output":[]}}"#), None);
        let end = said(r#"{"type":"response.completed","response":{"status":"completed","usage":{"input_tokens":3,"output_tokens":9,"output_tokens_details":{"reasoning_tokens":2}},"output":[{"type":"message","content":[{"type":"output_text","text":"Hi"}]}]}}"#).0;
        assert!(end.completed && end.kind.is_none());
        assert_eq!(end.usage, Some(Usage { input: Some(3), output: Some(9), reasoning: Some(2), cached: None }));
        assert_eq!(end.finish_reason.as_deref(), Some("completed"));
        let failed =
            said(r#"{"type":"response.failed","response":{"error":{"code":"server_error","message":"boom"}}}"#).0;
        assert_eq!(failed.error.as_deref(), Some("boom (server_error)"));
        let (whole, text, _) = said(
            r#"{"object":"response","status":"completed","output":[{"type":"message","content":[{"type":"output_text","text":"Hi"}]}],"usage":{"input_tokens":1,"output_tokens":2}}"#,
        );
        assert_eq!(
            (whole.kind, text.as_str(), whole.finish_reason.as_deref()),
            (Some(ChunkKind::Content), "Hi", Some("completed"))
        );
    }

    #[test]
    fn what_is_no_json_says_where() {
        let bad = |data: &[u8]| read(data, &mut String::new(), &mut String::new()).unwrap_err().reason;
        assert!(bad(b"{\"a\":").contains("byte 5"), "{}", bad(b"{\"a\":"));
        assert!(bad(b"{\"a\":\"\xff\"}").contains("ff"), "{}", bad(b"{\"a\":\"\xff\"}"));
        assert!(bad(b"[1]").contains("event"));
    }

    #[test]
    fn the_times_of_llama_cpp_are_kept() {
        let timings = said(r#"{"choices":[{"delta":{},"finish_reason":"stop"}],"timings":{"cache_n":0,"prompt_n":5,"prompt_ms":10.5,"prompt_per_token_ms":2.1,"predicted_n":8,"predicted_ms":80.0}}"#).0.timings.unwrap();
        assert_eq!(
            (timings.prompt_n, timings.prompt_ms, timings.predicted_n, timings.predicted_ms),
            (5, 10.5, 8, 80.0)
        );
    }
}
