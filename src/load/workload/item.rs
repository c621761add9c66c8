//! The form every dataset takes before it is sent.

use serde::{Deserialize, Serialize};

/// One message of a chat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// Its text.
    pub content: String,
}

/// What is asked in one turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prompt {
    /// A text; in a chat, the message of the user.
    Text(String),
    /// Messages of a chat; elsewhere joined by blank lines.
    Messages(Vec<Message>),
    /// Token ids, which only `completions` takes.
    TokenIds(Vec<u32>),
}

/// One request, or one turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// What is asked.
    pub prompt: Prompt,
    /// Tokens of this turn's prompt by the local tokenizer, or as a trace tells; `None` if nobody counted.
    pub input_tokens: Option<u32>,
    /// New tokens at most; `None` takes the setting `max_tokens`.
    pub max_tokens: Option<u32>,
    /// New tokens at least; `None` takes the setting `min_tokens`.
    pub min_tokens: Option<u32>,
    /// Whether to go on after the end-of-sequence token; `None` takes the setting `ignore_eos`.
    pub ignore_eos: Option<bool>,
    /// Time between the answer before it and this turn, in nanoseconds.
    pub think_ns: u64,
}

impl Turn {
    /// A turn that asks `prompt` and leaves all else to the settings.
    pub fn new(prompt: Prompt) -> Self {
        Self { prompt, input_tokens: None, max_tokens: None, min_tokens: None, ignore_eos: None, think_ns: 0 }
    }
}

/// A conversation; most have one turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Turns in order; never empty. Each is sent with what was said before it.
    pub turns: Vec<Turn>,
    /// When it is due after the begin of the stage, in nanoseconds, if a trace says so.
    pub at_ns: Option<u64>,
    /// Id in its file, if it has one.
    pub id: Option<String>,
}

/// All that may be sent, in the order in which it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dataset {
    /// `builtin`, `random`, … or the file.
    pub name: String,
    /// `builtin`, `random`, `synthetic`, `prompts`, `sharegpt`, `mooncake`, `burstgpt` or `azure`.
    pub format: String,
    /// Conversations; never empty. A stage that needs more begins anew.
    pub items: Vec<Item>,
    /// What was done to it, in words.
    pub notes: Vec<String>,
}
