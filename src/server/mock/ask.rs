//! What a request asks for: the few fields of its JSON that matter to a server without a model.

use serde::Deserialize;
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::http::Refusal;
use super::settings::{MOST_TOKENS, MockSettings, UsagePolicy};

/// The API a request came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    Completion,
    /// `/v1/responses`.
    Response,
}

impl Shape {
    /// The API at `path`.
    pub(super) fn at(path: &str) -> Option<Self> {
        match path {
            "/v1/chat/completions" => Some(Self::Chat),
            "/v1/completions" => Some(Self::Completion),
            "/v1/responses" => Some(Self::Response),
            _ => None,
        }
    }

    /// The id of the answer to request `number`.
    pub(super) fn id(self, number: u64) -> String {
        match self {
            Self::Chat => format!("chatcmpl-{number}"),
            Self::Completion => format!("cmpl-{number}"),
            Self::Response => format!("resp_{number}"),
        }
    }
}

/// A request, as the mock understands it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ask {
    /// The API.
    pub(super) shape: Shape,
    /// Name of the model the answer bears.
    pub(super) model: String,
    /// Whether a stream is asked for.
    pub(super) stream: bool,
    /// Tokens of the answer, at least 1.
    pub(super) tokens: u32,
    /// Whether the answer ends because the limit of the request is reached.
    pub(super) limited: bool,
    /// Tokens of the prompt: its words, or its token ids.
    pub(super) prompt_tokens: u64,
    /// Whether the token counts are told at the end.
    pub(super) usage: bool,
    /// Whether they are told in every chunk.
    pub(super) continuous_usage: bool,
}

#[derive(Deserialize)]
struct Body {
    model: Option<String>,
    stream: Option<bool>,
    max_tokens: Option<i64>,
    max_completion_tokens: Option<i64>,
    max_output_tokens: Option<i64>,
    min_tokens: Option<i64>,
    stream_options: Option<StreamOptions>,
    messages: Option<Words>,
    prompt: Option<Words>,
    input: Option<Words>,
    instructions: Option<Words>,
}

#[derive(Default, Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
    continuous_usage_stats: Option<bool>,
}

impl Ask {
    /// Reads the body of a request.
    ///
    /// # Errors
    /// Why it is refused: 400, or 404 for a model that is not there.
    pub(super) fn read(shape: Shape, body: &[u8], settings: &MockSettings) -> Result<Self, Refusal> {
        let body: Body =
            serde_json::from_slice(body).map_err(|error| Refusal::new(400, format!("the body: {error}")))?;
        if settings.strict_model && body.model.as_ref().is_some_and(|model| *model != settings.model) {
            let model = body.model.unwrap_or_default();
            return Err(Refusal::new(404, format!("The model `{model}` does not exist.")));
        }
        let (prompt, name) = match shape {
            Shape::Chat => (body.messages, "messages"),
            Shape::Completion => (body.prompt, "prompt"),
            Shape::Response => (body.input, "input"),
        };
        let prompt = prompt.ok_or_else(|| Refusal::new(400, format!("the body has no `{name}`")))?;
        let limit = match shape {
            Shape::Chat => body.max_completion_tokens.or(body.max_tokens),
            Shape::Completion => body.max_tokens,
            Shape::Response => body.max_output_tokens,
        };
        let limit = limit.map(|limit| count("the limit of tokens", limit, 1)).transpose()?;
        let least = body.min_tokens.map(|least| count("`min_tokens`", least, 0)).transpose()?.unwrap_or(0);
        if limit.is_some_and(|limit| limit < least) {
            return Err(Refusal::new(400, "`min_tokens` is more than the limit of tokens"));
        }
        let options = body.stream_options.unwrap_or_default();
        let stream = body.stream.unwrap_or(false);
        let asked = options.include_usage.unwrap_or(false);
        Ok(Self {
            shape,
            model: body.model.unwrap_or_else(|| settings.model.clone()),
            stream,
            tokens: limit.unwrap_or_else(|| settings.default_tokens.max(least)),
            limited: limit.is_some(),
            prompt_tokens: prompt.0.saturating_add(body.instructions.map_or(0, |words| words.0)),
            usage: match settings.usage {
                // Only the streams of the older APIs wait to be asked.
                UsagePolicy::Asked => asked || !stream || shape == Shape::Response,
                UsagePolicy::Always | UsagePolicy::Continuous => true,
                UsagePolicy::Never => false,
            },
            continuous_usage: match settings.usage {
                UsagePolicy::Asked | UsagePolicy::Always => asked && options.continuous_usage_stats.unwrap_or(false),
                UsagePolicy::Continuous => true,
                UsagePolicy::Never => false,
            },
        })
    }
}

fn count(what: &str, value: i64, least: u32) -> Result<u32, Refusal> {
    match u32::try_from(value) {
        Ok(value) if value >= least && u64::from(value) <= MOST_TOKENS => Ok(value),
        _ => Err(Refusal::new(400, format!("{what} is {value}, and may be from {least} to {MOST_TOKENS}"))),
    }
}

/// Words of all the text in a prompt, whatever its form, counted while it is read.
struct Words(u64);

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Counter).map(Self)
    }
}

/// Where a message has its text.
#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Field {
    Content,
    Text,
    #[serde(other)]
    Other,
}

struct Counter;

impl<'de> Visitor<'de> for Counter {
    type Value = u64;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a text, messages, or token ids")
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<u64, E> {
        Ok(text.split_whitespace().count() as u64)
    }
    /// A token id.
    fn visit_u64<E: de::Error>(self, _: u64) -> Result<u64, E> {
        Ok(1)
    }
    fn visit_bool<E: de::Error>(self, _: bool) -> Result<u64, E> {
        Ok(0)
    }
    fn visit_unit<E: de::Error>(self) -> Result<u64, E> {
        Ok(0)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<u64, A::Error> {
        let mut total = 0u64;
        while let Some(Words(words)) = items.next_element()? {
            total = total.saturating_add(words);
        }
        Ok(total)
    }
    /// A message, or a part of its content.
    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<u64, A::Error> {
        let mut total = 0u64;
        while let Some(field) = fields.next_key()? {
            match field {
                Field::Content | Field::Text => total = total.saturating_add(fields.next_value::<Words>()?.0),
                Field::Other => drop(fields.next_value::<IgnoredAny>()?),
            }
        }
        Ok(total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(shape: Shape, body: &str) -> Result<Ask, Refusal> {
        Ask::read(shape, body.as_bytes(), &MockSettings { default_tokens: 7, ..MockSettings::default() })
    }

    #[test]
    fn prompts_are_counted_in_every_form() {
        for (shape, body, words) in [
            (
                Shape::Chat,
                r#"{"messages":[{"role":"system","content":"be brief"},{"role":"user","content":" a  b\nc "}]}"#,
                5,
            ),
            (
                Shape::Chat,
                r#"{"messages":[{"content":[{"type":"text","text":"one two"},{"type":"image_url","image_url":{"url":"a b c"}}]}]}"#,
                2,
            ),
            (Shape::Chat, r#"{"messages":[{"role":"assistant","content":null}]}"#, 0),
            (Shape::Completion, r#"{"prompt":"one \"two\" three"}"#, 3),
            (Shape::Completion, r#"{"prompt":[5,6,7,8]}"#, 4),
            (Shape::Completion, r#"{"prompt":[[5,6],[7]]}"#, 3),
            (Shape::Response, r#"{"input":"one two","instructions":"three"}"#, 3),
            (Shape::Response, r#"{"input":[{"role":"user","content":[{"type":"input_text","text":"one"}]}]}"#, 1),
        ] {
            assert_eq!(read(shape, body).unwrap().prompt_tokens, words, "{body}");
        }
    }

    #[test]
    fn the_limit_of_a_request_is_the_length_of_its_answer() {
        let tokens = |shape, body: &str| {
            let ask = read(shape, body).unwrap();
            (ask.tokens, ask.limited)
        };
        assert_eq!(tokens(Shape::Chat, r#"{"messages":[],"max_tokens":3}"#), (3, true));
        assert_eq!(tokens(Shape::Chat, r#"{"messages":[],"max_tokens":3,"max_completion_tokens":4}"#), (4, true));
        assert_eq!(tokens(Shape::Completion, r#"{"prompt":"","max_tokens":null}"#), (7, false));
        assert_eq!(tokens(Shape::Completion, r#"{"prompt":"","min_tokens":9}"#), (9, false));
        assert_eq!(tokens(Shape::Completion, r#"{"prompt":"","min_tokens":2}"#), (7, false));
        assert_eq!(tokens(Shape::Response, r#"{"input":"","max_output_tokens":1000000}"#), (1_000_000, true));
    }

    #[test]
    fn usage_is_told_when_it_should_be() {
        let usage = |policy, shape, body: &str| {
            let ask = Ask::read(shape, body.as_bytes(), &MockSettings { usage: policy, ..MockSettings::default() });
            ask.map(|ask| (ask.usage, ask.continuous_usage)).unwrap()
        };
        let plain = r#"{"messages":[],"stream":true}"#;
        let asked = r#"{"messages":[],"stream":true,"stream_options":{"include_usage":true}}"#;
        let each =
            r#"{"messages":[],"stream":true,"stream_options":{"include_usage":true,"continuous_usage_stats":true}}"#;
        for (policy, expected) in [
            (UsagePolicy::Asked, [(false, false), (true, false), (true, true)]),
            (UsagePolicy::Always, [(true, false), (true, false), (true, true)]),
            (UsagePolicy::Never, [(false, false); 3]),
            (UsagePolicy::Continuous, [(true, true); 3]),
        ] {
            assert_eq!([plain, asked, each].map(|body| usage(policy, Shape::Chat, body)), expected, "{policy:?}");
        }
        assert_eq!(usage(UsagePolicy::Asked, Shape::Chat, r#"{"messages":[]}"#), (true, false));
        assert_eq!(usage(UsagePolicy::Asked, Shape::Response, r#"{"input":"","stream":true}"#), (true, false));
    }

    #[test]
    fn wrong_bodies_are_refused() {
        for body in [
            "",
            "[]",
            "{",
            r#"{"messages":[]"#,
            r#"{"prompt":"x"}"#,
            r#"{"messages":[],"stream":"yes"}"#,
            r#"{"messages":[],"max_tokens":0}"#,
            r#"{"messages":[],"max_tokens":-5}"#,
            r#"{"messages":[],"max_tokens":1000001}"#,
            r#"{"messages":[],"max_tokens":2,"min_tokens":3}"#,
            r#"{"messages":[1.5]}"#,
        ] {
            assert_eq!(read(Shape::Chat, body).unwrap_err().status, 400, "{body}");
        }
        let deep = format!(r#"{{"messages":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(read(Shape::Chat, &deep).unwrap_err().status, 400);
    }

    #[test]
    fn a_model_that_is_not_there_is_refused_only_if_names_matter() {
        let body = r#"{"messages":[],"model":"other"}"#;
        assert_eq!(read(Shape::Chat, body).unwrap().model, "other");
        assert_eq!(read(Shape::Chat, r#"{"messages":[]}"#).unwrap().model, "mock");
        let strict = MockSettings { strict_model: true, ..MockSettings::default() };
        let refused = Ask::read(Shape::Chat, body.as_bytes(), &strict).unwrap_err();
        assert_eq!((refused.status, refused.reason.as_str()), (404, "The model `other` does not exist."));
    }
}
