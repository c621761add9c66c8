//! One JSON value as a record: a prompt, messages, a conversation, or a line of a trace.

use serde_json::{Map, Value};

use super::super::error::WorkloadError;
use super::super::item::{Message, Prompt};
use super::{Format, Sink};

/// A longer prompt is a mistake: no context is that long.
const MAX_PROMPT_BYTES: usize = 16 << 20;
/// A name is a misspelling of another from this likeness on.
const LIKE: f64 = 0.82;

/// What is asked in a turn of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// As it stands in the file.
    Prompt(Prompt),
    /// A text that has yet to be made.
    Made {
        /// Its tokens, as the trace tells.
        tokens: u32,
        /// Hashes of its blocks: equal ones stand for equal text.
        blocks: Vec<u64>,
    },
}

/// A turn of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceTurn {
    /// What is asked.
    pub asked: Asked,
    /// The answer that the file has for it.
    pub reply: Option<String>,
    /// Tokens of the prompt as the file tells.
    pub input_tokens: Option<u32>,
    /// New tokens at most.
    pub max_tokens: Option<u32>,
    /// New tokens at least.
    pub min_tokens: Option<u32>,
    /// Whether to go on after the end-of-sequence token.
    pub ignore_eos: Option<bool>,
    /// Time before it, in nanoseconds, if the file says so.
    pub think_ns: Option<u64>,
}

impl SourceTurn {
    /// A turn of which only the prompt is known.
    pub fn new(asked: Asked) -> Self {
        Self {
            asked,
            reply: None,
            input_tokens: None,
            max_tokens: None,
            min_tokens: None,
            ignore_eos: None,
            think_ns: None,
        }
    }
}

/// One prompt or conversation of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its id in the file.
    pub id: Option<String>,
    /// What kind of task it is.
    pub category: Option<String>,
    /// When it was sent, in nanoseconds after some instant, if the file says so.
    pub at_ns: Option<u64>,
    /// Turns; never empty.
    pub turns: Vec<SourceTurn>,
    /// 1-based line of the file; 0 for what is in no file.
    pub line: u64,
}

impl Record {
    /// A record of which only turns and line are known.
    pub fn of(turns: Vec<SourceTurn>, line: u64) -> Self {
        Self { id: None, category: None, at_ns: None, turns, line }
    }
}

/// Hands the record of `value` to the sink, or what is wrong with it.
pub(super) fn take(line: u64, value: Value, sink: &mut Sink) -> Result<(), WorkloadError> {
    let made = match value {
        Value::String(text) => text_prompt(text)
            .map(|prompt| Some((Format::Prompts, Record::of(vec![SourceTurn::new(Asked::Prompt(prompt))], line)))),
        Value::Object(mut fields) => of_object(&mut fields, line),
        other => Err(format!("expected a prompt or an object with one, found {}", kind(&other))),
    };
    match made {
        Ok(Some((format, record))) => sink.push(format, record),
        Ok(None) => {
            sink.leave_out("conversations without a word of a human");
            Ok(())
        }
        Err(message) => sink.bad(line, message),
    }
}

type Made = Result<Option<(Format, Record)>, String>;

fn of_object(fields: &mut Map<String, Value>, line: u64) -> Made {
    let (format, turns) = if let Some(value) =
        fields.shift_remove("conversations").or_else(|| fields.shift_remove("conversation"))
    {
        let turns = conversation(value)?;
        if turns.is_empty() {
            return Ok(None);
        }
        (Format::ShareGpt, turns)
    } else if let Some(Value::Array(turns)) = fields.shift_remove("turns") {
        if turns.is_empty() {
            return Err("`turns` is empty".to_owned());
        }
        let turns = turns.into_iter().map(|turn| match turn {
            Value::Object(mut fields) => single(&mut fields),
            Value::String(text) => Ok(SourceTurn::new(Asked::Prompt(text_prompt(text)?))),
            other => Err(format!("a turn is {}", kind(&other))),
        });
        (Format::Prompts, turns.collect::<Result<Vec<_>, _>>()?)
    } else if fields.contains_key("input_length") && !fields.contains_key("prompt") && !fields.contains_key("messages")
    {
        (Format::Mooncake, vec![mooncake(fields)?])
    } else {
        (Format::Prompts, vec![single(fields)?])
    };
    let id = match fields.shift_remove("id") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) if !text.is_empty() => Some(text),
        Some(Value::Number(number)) => Some(number.to_string()),
        Some(other) => return Err(format!("`id` is {}: expected text or a number", kind(&other))),
    };
    let category = match fields.shift_remove("category") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text),
        Some(other) => return Err(format!("`category` is {}: expected text", kind(&other))),
    };
    let at_ns = match (fields.get("at_ns"), fields.get("timestamp")) {
        (Some(value), _) => {
            Some(value.as_u64().ok_or_else(|| format!("`at_ns` is {}: expected nanoseconds", short(value)))?)
        }
        (None, Some(Value::Number(number))) => {
            let ns = number
                .as_u64()
                .and_then(|ms| ms.checked_mul(1_000_000))
                .or_else(|| number.as_f64().filter(|ms| (0.0..1e13).contains(ms)).map(|ms| (ms * 1e6).round() as u64));
            Some(ns.ok_or_else(|| format!("`timestamp` is {number}: expected milliseconds"))?)
        }
        // Other forms of a time stamp are columns of some other use.
        _ => None,
    };
    Ok(Some((format, Record { id, category, at_ns, turns, line })))
}

/// A prompt or messages, with the lengths beside them.
fn single(fields: &mut Map<String, Value>) -> Result<SourceTurn, String> {
    let system = match fields.shift_remove("system") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text).filter(|text| !text.trim().is_empty()),
        Some(other) => return Err(format!("`system` is {}: expected text", kind(&other))),
    };
    let mut turn = match (fields.shift_remove("messages"), fields.shift_remove("prompt")) {
        (Some(value), None) => messages(value, system)?,
        (Some(_), Some(_)) => return Err("it has both `prompt` and `messages`".to_owned()),
        (None, Some(Value::String(text))) => SourceTurn::new(Asked::Prompt(with_system(text_prompt(text)?, system))),
        (None, Some(Value::Array(ids))) => SourceTurn::new(Asked::Prompt(token_ids(&ids)?)),
        (None, Some(_)) => return Err("`prompt` is neither text nor a list of token ids".to_owned()),
        (None, None) => return Err(missing(fields)),
    };
    turn.input_tokens = number(fields, "input_tokens", 0)?;
    turn.max_tokens = None;
    for name in ["max_output_tokens", "max_tokens", "output_tokens"] {
        turn.max_tokens = turn.max_tokens.or(number(fields, name, 1)?);
    }
    turn.min_tokens = number(fields, "min_output_tokens", 0)?.or(number(fields, "min_tokens", 0)?);
    if let Some((min, max)) = turn.min_tokens.zip(turn.max_tokens).filter(|(min, max)| min > max) {
        return Err(format!("at least {min} tokens are asked for, and at most {max}"));
    }
    turn.ignore_eos = match fields.get("ignore_eos") {
        None | Some(Value::Null) => None,
        Some(Value::Bool(flag)) => Some(*flag),
        Some(other) => return Err(format!("`ignore_eos` is {}: expected true or false", kind(other))),
    };
    turn.think_ns = match fields.get("think_ns") {
        None | Some(Value::Null) => None,
        Some(value) => {
            Some(value.as_u64().ok_or_else(|| format!("`think_ns` is {}: expected nanoseconds", short(value)))?)
        }
    };
    Ok(turn)
}

/// What to say of an object without a prompt: the field that may have been meant.
fn missing(fields: &Map<String, Value>) -> String {
    let near = fields
        .keys()
        .take(50)
        .filter(|name| name.len() <= 40)
        .find(|name| strsim::jaro_winkler(name, "prompt") >= LIKE);
    near.map_or_else(|| "`prompt` is missing".to_owned(), |name| format!("`prompt` is missing; it has `{name}`"))
}

fn text_prompt(text: String) -> Result<Prompt, String> {
    checked(&text)?;
    Ok(Prompt::Text(text))
}

fn checked(text: &str) -> Result<(), String> {
    if text.trim().is_empty() {
        return Err("the prompt is empty".to_owned());
    }
    if text.len() > MAX_PROMPT_BYTES {
        return Err(format!("the prompt is longer than {} MiB", MAX_PROMPT_BYTES >> 20));
    }
    Ok(())
}

fn with_system(prompt: Prompt, system: Option<String>) -> Prompt {
    match (prompt, system) {
        (Prompt::Text(text), Some(system)) => Prompt::Messages(vec![
            Message { role: "system".to_owned(), content: system },
            Message { role: "user".to_owned(), content: text },
        ]),
        (prompt, _) => prompt,
    }
}

fn token_ids(ids: &[Value]) -> Result<Prompt, String> {
    if ids.is_empty() {
        return Err("the prompt is empty".to_owned());
    }
    let ids = ids.iter().map(|id| id.as_u64().and_then(|id| u32::try_from(id).ok()));
    let ids: Option<Vec<u32>> = ids.collect();
    ids.map(Prompt::TokenIds).ok_or_else(|| "`prompt` is neither text nor a list of token ids".to_owned())
}

/// Messages; an answer at the end is what the server is asked to find.
fn messages(value: Value, system: Option<String>) -> Result<SourceTurn, String> {
    let Value::Array(list) = value else {
        return Err(format!("`messages` is {}: expected a list", kind(&value)));
    };
    let mut messages = Vec::with_capacity(list.len() + 1);
    messages.extend(system.map(|content| Message { role: "system".to_owned(), content }));
    for entry in list {
        let Value::Object(mut fields) = entry else { return Err(format!("a message is {}", kind(&entry))) };
        let Some(Value::String(role)) = fields.shift_remove("role") else {
            return Err("a message has no `role`".to_owned());
        };
        if !["system", "developer", "user", "assistant", "tool"].contains(&role.as_str()) {
            return Err(format!("a message has the role `{role:.40}`: expected system, user or assistant"));
        }
        messages.push(Message { role, content: content(fields.shift_remove("content"))? });
    }
    let reply = messages.pop_if(|last| last.role == "assistant").map(|last| last.content);
    if messages.iter().all(|message| message.content.trim().is_empty()) {
        return Err("`messages` has no message to answer".to_owned());
    }
    for message in &messages {
        if message.content.len() > MAX_PROMPT_BYTES {
            return Err(format!("a message is longer than {} MiB", MAX_PROMPT_BYTES >> 20));
        }
    }
    Ok(SourceTurn { reply, ..SourceTurn::new(Asked::Prompt(Prompt::Messages(messages))) })
}

/// The text of a message: text, or parts of type `text`.
fn content(value: Option<Value>) -> Result<String, String> {
    match value {
        Some(Value::String(text)) => Ok(text),
        Some(Value::Array(parts)) => {
            let texts = parts.into_iter().map(|part| match part.get("text") {
                Some(Value::String(text)) => Ok(text.clone()),
                _ => Err("a message has a part that is no text".to_owned()),
            });
            Ok(texts.collect::<Result<Vec<_>, _>>()?.join("\n"))
        }
        Some(other) => Err(format!("the `content` of a message is {}", kind(&other))),
        None => Err("a message has no `content`".to_owned()),
    }
}

/// What the human of a ShareGPT conversation says, each with the answer; none if there is nothing.
fn conversation(value: Value) -> Result<Vec<SourceTurn>, String> {
    let Value::Array(list) = value else {
        return Err(format!("`conversations` is {}: expected a list", kind(&value)));
    };
    let mut system: Option<String> = None;
    let mut turns: Vec<SourceTurn> = Vec::new();
    // Whether the last thing said was a human's.
    let mut open = false;
    for entry in list {
        let Value::Object(mut fields) = entry else {
            return Err(format!("a part of a conversation is {}", kind(&entry)));
        };
        let mut text = |names: [&str; 2]| {
            names.iter().find_map(|name| match fields.shift_remove(*name) {
                Some(Value::String(text)) => Some(text),
                _ => None,
            })
        };
        let from = text(["from", "role"]).ok_or("a part of a conversation has no `from`")?;
        let said = text(["value", "content"]).ok_or("a part of a conversation has no `value`")?;
        match from.as_str() {
            "human" | "user" => {
                open = !said.trim().is_empty();
                if open {
                    checked(&said)?;
                    let prompt = with_system(Prompt::Text(said), system.take());
                    turns.push(SourceTurn::new(Asked::Prompt(prompt)));
                }
            }
            "system" if turns.is_empty() => system = Some(said).filter(|text| !text.trim().is_empty()),
            "gpt" | "assistant" | "chatgpt" | "model" | "bing" | "bard" => {
                if let Some(turn) = turns.last_mut().filter(|_| open) {
                    turn.reply = Some(said).filter(|text| !text.is_empty());
                }
                open = false;
            }
            _ => open = false,
        }
    }
    Ok(turns)
}

fn mooncake(fields: &Map<String, Value>) -> Result<SourceTurn, String> {
    let tokens = number(fields, "input_length", 1)?.ok_or("`input_length` is null: expected a number of tokens")?;
    let blocks = match fields.get("hash_ids") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(ids)) => {
            let ids: Option<Vec<u64>> = ids.iter().map(Value::as_u64).collect();
            ids.ok_or("`hash_ids` has something that is no whole number")?
        }
        Some(other) => return Err(format!("`hash_ids` is {}: expected a list of numbers", kind(other))),
    };
    Ok(SourceTurn {
        max_tokens: number(fields, "output_length", 0)?.filter(|tokens| *tokens > 0),
        ..SourceTurn::new(Asked::Made { tokens, blocks })
    })
}

/// A whole number of at least `least`.
fn number(fields: &Map<String, Value>, name: &str, least: u32) -> Result<Option<u32>, String> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let number = value.as_u64().and_then(|number| u32::try_from(number).ok()).filter(|number| *number >= least);
            number
                .map(Some)
                .ok_or_else(|| format!("`{name}` is {}: expected a whole number, {least} or more", short(value)))
        }
    }
}

/// A value as JSON, cut to what fits into a message.
fn short(value: &Value) -> String {
    let text = value.to_string();
    text.char_indices().nth(40).map_or(text.clone(), |(end, _)| format!("{}…", &text[..end]))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{Loaded, ReadOptions, parse};
    use super::*;

    fn read(text: &str) -> Loaded {
        parse(Path::new("x.json"), text.as_bytes(), ReadOptions::default()).unwrap_or_else(|error| panic!("{error}"))
    }
    fn message(role: &str, content: &str) -> Message {
        Message { role: role.to_owned(), content: content.to_owned() }
    }

    #[test]
    fn an_item_of_a_benchmark_dataset_keeps_all_it_says() {
        let loaded = read(
            r#"[{"id":"math_1","category":"math","prompt":"2+2?","min_output_tokens":1,"max_output_tokens":64,"ignore_eos":false,"author":"x"}]"#,
        );
        let record = &loaded.records[0];
        assert_eq!((record.id.as_deref(), record.category.as_deref(), record.line), (Some("math_1"), Some("math"), 1));
        let turn = &record.turns[0];
        assert_eq!(turn.asked, Asked::Prompt(Prompt::Text("2+2?".to_owned())));
        assert_eq!((turn.min_tokens, turn.max_tokens, turn.ignore_eos), (Some(1), Some(64), Some(false)));
    }

    #[test]
    fn a_system_text_becomes_a_message_and_an_answer_at_the_end_is_not_sent() {
        let loaded = read(
            r#"[{"prompt":"hi","system":"be brief"},
               {"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"user","content":[{"type":"text","text":"c"}]},{"role":"assistant","content":"d"}]}]"#,
        );
        let expected = Prompt::Messages(vec![message("system", "be brief"), message("user", "hi")]);
        assert_eq!(loaded.records[0].turns[0].asked, Asked::Prompt(expected));
        let expected = Prompt::Messages(vec![message("user", "a"), message("assistant", "b"), message("user", "c")]);
        assert_eq!(loaded.records[1].turns[0].asked, Asked::Prompt(expected));
        assert_eq!(loaded.records[1].turns[0].reply.as_deref(), Some("d"));
    }

    #[test]
    fn a_conversation_gives_what_the_human_said_with_the_answers() {
        let loaded = read(
            r#"[{"id":"a_0","conversations":[{"from":"system","value":"rules"},{"from":"human","value":"one"},{"from":"gpt","value":"1"},{"from":"human","value":"two"},{"from":"gpt","value":"2"}]},
               {"id":"b_0","conversations":[{"from":"gpt","value":"hello?"}]},
               {"id":"b_0","conversations":[]},
               {"id":"a_0","conversations":[{"from":"gpt","value":"…"},{"from":"human","value":"three"}]}]"#,
        );
        assert_eq!(loaded.format, Format::ShareGpt);
        assert_eq!(loaded.notes, ["2 conversations without a word of a human were left out"]);
        let turns = &loaded.records[0].turns;
        assert_eq!(turns.len(), 2);
        assert_eq!(
            turns[0].asked,
            Asked::Prompt(Prompt::Messages(vec![message("system", "rules"), message("user", "one")]))
        );
        assert_eq!(turns[1].asked, Asked::Prompt(Prompt::Text("two".to_owned())));
        assert_eq!((turns[0].reply.as_deref(), turns[1].reply.as_deref()), (Some("1"), Some("2")));
        assert_eq!(loaded.records[1].turns[0].reply, None);
    }

    #[test]
    fn a_line_of_mooncake_has_milliseconds_lengths_and_hashes() {
        let loaded = read(
            "{\"timestamp\": 27482, \"input_length\": 6955, \"output_length\": 52, \"hash_ids\": [46, 47, 18446744073709551615]}\n{\"timestamp\": 30535.5, \"input_length\": 1, \"output_length\": 0}\n",
        );
        let (first, second) = (&loaded.records[0], &loaded.records[1]);
        assert_eq!(first.at_ns, Some(27_482_000_000));
        assert_eq!(first.turns[0].asked, Asked::Made { tokens: 6955, blocks: vec![46, 47, u64::MAX] });
        assert_eq!(first.turns[0].max_tokens, Some(52));
        assert_eq!((second.at_ns, second.turns[0].max_tokens), (Some(30_535_500_000), None));
    }

    #[test]
    fn token_ids_and_turns_are_prompts_too() {
        let loaded = read(
            r#"[{"prompt":[1,2,4294967295]},{"turns":["first",{"prompt":"second","think_ns":1500000000,"max_tokens":7}],"at_ns":5}]"#,
        );
        assert_eq!(loaded.records[0].turns[0].asked, Asked::Prompt(Prompt::TokenIds(vec![1, 2, u32::MAX])));
        let turns = &loaded.records[1].turns;
        assert_eq!((turns.len(), turns[1].think_ns, turns[1].max_tokens), (2, Some(1_500_000_000), Some(7)));
        assert_eq!(loaded.records[1].at_ns, Some(5));
    }
}
