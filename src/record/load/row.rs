//! `requests.jsonl`: one row for each request, with a stamp for each chunk, so that every figure can be derived again.

use serde::{Deserialize, Serialize};

use super::outcome::Outcome;

/// Whether a request counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Sent to warm the server up; in no figure.
    Warmup,
    /// Measured.
    Measured,
}

/// Where a count of output tokens comes from, the surest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenSource {
    /// The server's `usage`.
    Usage,
    /// The configured tokenizer, on the text.
    Tokenizer,
    /// The chunks that carried text: right only where each is one token.
    Chunks,
}

impl TokenSource {
    /// The name in every artifact.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::Tokenizer => "tokenizer",
            Self::Chunks => "chunks",
        }
    }
}

/// What a chunk carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChunkKind {
    /// Text of the answer.
    #[serde(rename = "c")]
    Content,
    /// Text of the reasoning before it.
    #[serde(rename = "r")]
    Reasoning,
    /// A part of a tool call.
    #[serde(rename = "t")]
    Tool,
}

/// The chunks of one answer that carried output, in order of arrival.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Chunks {
    /// When each arrived, in microseconds after the request was sent.
    pub at_us: Vec<u64>,
    /// What each carried, as runs: `[["r", 3], ["c", 12]]` is three chunks of reasoning, then twelve of content.
    pub kinds: Vec<(ChunkKind, u32)>,
    /// Tokens of each, where the server counts them in every chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Vec<u32>>,
}

impl Chunks {
    /// Number of chunks.
    pub fn len(&self) -> usize {
        self.at_us.len()
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.at_us.is_empty()
    }
    /// Notes one more.
    pub fn push(&mut self, at_us: u64, kind: ChunkKind) {
        self.at_us.push(at_us);
        match self.kinds.last_mut() {
            Some((last, count)) if *last == kind => *count += 1,
            _ => self.kinds.push((kind, 1)),
        }
    }
    /// Number of chunks of a kind.
    pub fn count(&self, kind: ChunkKind) -> u64 {
        self.kinds.iter().filter(|(known, _)| *known == kind).map(|(_, count)| u64::from(*count)).sum()
    }
    /// When the first chunk of a kind arrived, in microseconds after sending.
    pub fn first_us(&self, wanted: impl Fn(ChunkKind) -> bool) -> Option<u64> {
        let mut index = 0usize;
        for (kind, count) in &self.kinds {
            if wanted(*kind) {
                return self.at_us.get(index).copied();
            }
            index += *count as usize;
        }
        None
    }
}

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// What happened, in words; what the server sent is cut to 200 characters and secrets are masked.
    pub message: String,
    /// A word for it within its outcome, e.g. `refused`, `reset`, `stale_connection`, `expired`; what errors are grouped by.
    pub kind: String,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RequestRow {
    /// The stage, from 0.
    pub stage: u32,
    /// Whether it counts.
    pub phase: Phase,
    /// Number within stage and phase, in the order in which they were issued, from 0.
    pub id: u64,
    /// The conversation it belongs to, and the turn in it from 0; null for single requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<u64>,
    /// The turn of the conversation.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub turn: u32,
    /// Number of the prompt in the dataset, from 0.
    pub prompt: u64,
    /// Number of the server in `base_url`, from 0.
    pub target: u32,
    /// When it was due, in nanoseconds of the run's clock, which begins with the run and never steps. In a closed loop: when its slot was free.
    pub due_ns: u64,
    /// When its first byte was handed to the system; null if it never was.
    pub sent_ns: Option<u64>,
    /// When due it waited for one of the places of `max_in_flight`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub held: bool,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<Failed>,
    /// The HTTP status; null if there was no answer.
    pub status: Option<u16>,
    /// Attempts, 1 unless it was tried again.
    pub attempts: u32,
    /// When the first attempt was sent, on the run's clock, where there were several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_sent_ns: Option<u64>,
    /// Milliseconds of connecting, TLS included, if it had to wait for a connection of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect_ms: Option<f64>,
    /// First byte of the answer, in microseconds after sending.
    pub first_byte_us: Option<u64>,
    /// First event of the stream, whatever it held.
    pub first_event_us: Option<u64>,
    /// The chunks with output.
    pub chunks: Chunks,
    /// End of the answer.
    pub end_us: Option<u64>,
    /// Where it has no end: when it was given up or lost, in microseconds after sending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone_us: Option<u64>,
    /// Events of the stream, whatever they held.
    pub events: u32,
    /// Tokens of the prompt, and where the number comes from.
    pub input_tokens: Option<u64>,
    /// Output tokens: reasoning, content and tool calls.
    pub output_tokens: Option<u64>,
    /// Where `output_tokens` comes from.
    pub token_source: Option<TokenSource>,
    /// Tokens of the reasoning as the server counted them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_tokens: Option<u64>,
    /// Tokens of the prompt the server had in its cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_tokens: Option<u64>,
    /// Output tokens that were asked for at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// Why the server stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<String>,
    /// What was odd about the answer: codes of `docs/LOAD.md`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// The largest lag of this client while it read the answer, in microseconds; null where the kernel stamps nothing.
    pub lag_us: Option<u64>,
    /// The text, if it was to be kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Milliseconds the server says it took, by its own name for them (llama.cpp's `timings`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_timings: Option<ServerTimings>,
}

/// What llama.cpp says in `timings`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ServerTimings {
    /// Prompt tokens computed.
    pub prompt_n: u64,
    /// Milliseconds of the prompt.
    pub prompt_ms: f64,
    /// Tokens generated.
    pub predicted_n: u64,
    /// Milliseconds of generating them.
    pub predicted_ms: f64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_false(value: &bool) -> bool {
    !*value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(value: &u32) -> bool {
    *value == 0
}

impl RequestRow {
    /// From sending to the first chunk of content or reasoning, in ms; null where nothing was streamed.
    pub fn ttft_ms(&self) -> Option<f64> {
        self.chunks.at_us.first().map(|us| *us as f64 / 1e3)
    }
    /// From sending to the first chunk of the answer itself, reasoning left out, in ms.
    pub fn ttfo_ms(&self) -> Option<f64> {
        self.chunks.first_us(|kind| kind != ChunkKind::Reasoning).map(|us| us as f64 / 1e3)
    }
    /// From sending to the last chunk of output, in ms; without a stream, to the end of the answer.
    pub fn e2e_ms(&self) -> Option<f64> {
        self.chunks.at_us.last().copied().or(if self.streamed() { None } else { self.end_us }).map(|us| us as f64 / 1e3)
    }
    /// Whether the answer came as a stream.
    pub fn streamed(&self) -> bool {
        self.events > 0
    }
    /// From due to sent, in ms: queueing and lateness of this client.
    pub fn dispatch_delay_ms(&self) -> Option<f64> {
        self.sent_ns.map(|sent| sent.saturating_sub(self.due_ns) as f64 / 1e6)
    }
    /// Tokens of the first chunk: counted by the server, else 1.
    fn first_tokens(&self) -> u64 {
        self.chunks.tokens.as_ref().and_then(|tokens| tokens.first()).map_or(1, |tokens| u64::from((*tokens).max(1)))
    }
    /// Output tokens that came in chunks. A server counts the end token of an answer that ended by itself, and sends no chunk with it.
    pub fn tokens_in_chunks(&self) -> Option<u64> {
        let tokens = self.output_tokens?;
        let chunks = self.chunks.len() as u64;
        if let Some(counted) = self.chunks.tokens.as_ref().filter(|counted| counted.len() as u64 == chunks) {
            return Some(counted.iter().map(|tokens| u64::from(*tokens)).sum());
        }
        let end_token = self.finish_reason.as_deref() == Some("stop")
            && self.token_source == Some(TokenSource::Usage)
            && tokens == chunks + 1;
        Some(if end_token { chunks } else { tokens })
    }
    /// Time per output token after the first chunk, in ms: (last − first) / (n − tokens of the first chunk); null where that is no division.
    pub fn tpot_ms(&self) -> Option<f64> {
        let (first, last) = (*self.chunks.at_us.first()?, *self.chunks.at_us.last()?);
        let later = self.tokens_in_chunks()?.checked_sub(self.first_tokens()).filter(|later| *later > 0)?;
        Some(last.saturating_sub(first) as f64 / 1e3 / later as f64)
    }
    /// The time from the first chunk to the end of the answer beyond that which the server says it took for generating, in ms; below 0 if it
    /// says more.
    ///
    /// llama.cpp's clock of generation starts when the first token is ready and stops with the last, which may be an end token that is never
    /// sent; the end of the answer comes right after it. What is left is the way to this client.
    pub fn beyond_server_ms(&self) -> Option<f64> {
        let (first, end) = (*self.chunks.at_us.first()?, self.end_us?);
        Some(end.saturating_sub(first) as f64 / 1e3 - self.server_timings?.predicted_ms)
    }
    /// Gaps between chunks, in ms.
    pub fn gaps_ms(&self) -> impl Iterator<Item = f64> + '_ {
        self.chunks.at_us.windows(2).map(|pair| pair[1].saturating_sub(pair[0]) as f64 / 1e3)
    }
    /// Instant of an offset on the run's clock, in nanoseconds.
    pub fn at_ns(&self, offset_us: u64) -> Option<u64> {
        self.sent_ns.map(|sent| sent.saturating_add(offset_us.saturating_mul(1000)))
    }
}
