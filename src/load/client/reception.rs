//! One answer as it is received: stamps, counts, and the verdict on how it ended.

use std::io::Write as _;

use flate2::write::{GzDecoder, ZlibDecoder};

use super::delta::{self, Usage, cut, error_text};
use super::response::{ContentKind, Cut, Encoding, Head, Piece, ResponseError, ResponseParser};
use super::sse::SseDecoder;
use crate::record::load::outcome::Outcome;
use crate::record::load::row::{ChunkKind, Chunks, Failed, ServerTimings};

/// Bytes of an answer that is an error, of which only an excerpt is kept.
const ERROR_BYTES: usize = 4 << 10;
/// Characters of an answer that are kept for counting its tokens.
const MOST_TEXT_BYTES: usize = 8 << 20;

/// What is known of a request before its answer.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// Whether a stream was asked for.
    pub stream: bool,
    /// The longest event, and the longest answer that is no stream, in bytes.
    pub max_bytes: usize,
}

/// A body that is decompressed as it comes.
#[derive(Debug)]
enum Inflate {
    Gzip(Box<GzDecoder<Vec<u8>>>),
    Deflate(Box<ZlibDecoder<Vec<u8>>>),
}

impl Inflate {
    fn feed(&mut self, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
        match self {
            Self::Gzip(decoder) => {
                decoder.write_all(bytes)?;
                decoder.flush()?;
                Ok(std::mem::take(decoder.get_mut()))
            }
            Self::Deflate(decoder) => {
                decoder.write_all(bytes)?;
                decoder.flush()?;
                Ok(std::mem::take(decoder.get_mut()))
            }
        }
    }
}

/// What the body turned out to be.
#[derive(Debug)]
enum Body {
    /// The head does not say; the first bytes will.
    Undecided,
    /// Events.
    Stream(SseDecoder),
    /// One JSON answer.
    Whole(Vec<u8>),
    /// An answer whose status says error: its begin.
    Error(Vec<u8>),
}

/// What a request left behind.
#[derive(Debug)]
pub struct Answer {
    /// How it ended.
    pub outcome: Outcome,
    /// Why it failed.
    pub failed: Option<Failed>,
    /// Status.
    pub status: Option<u16>,
    /// `Retry-After` in seconds.
    pub retry_after_s: Option<u64>,
    /// First byte in µs after sending.
    pub first_byte_us: Option<u64>,
    /// First event.
    pub first_event_us: Option<u64>,
    /// Chunks with output.
    pub chunks: Chunks,
    /// End of the answer; `None` if it never came.
    pub end_us: Option<u64>,
    /// Events.
    pub events: u32,
    /// Counts of the server.
    pub usage: Usage,
    /// Why the server stopped.
    pub finish_reason: Option<String>,
    /// What was odd.
    pub notes: Vec<String>,
    /// Text of the answer.
    pub text: String,
    /// Text of the reasoning.
    pub reasoning: String,
    /// llama.cpp's times.
    pub timings: Option<ServerTimings>,
    /// Whether the connection can take another request.
    pub reusable: bool,
}

/// Receives one answer.
#[derive(Debug)]
pub struct Reception {
    asked: Asked,
    parser: ResponseParser,
    body: Body,
    inflate: Option<Inflate>,
    head: Option<Head>,
    fault: Option<(Outcome, Failed)>,
    first_byte_us: Option<u64>,
    first_event_us: Option<u64>,
    last_event_us: Option<u64>,
    chunks: Chunks,
    /// Tokens of each chunk, as long as all chunks say.
    per_chunk: Option<Vec<u32>>,
    counted: u64,
    end_us: Option<u64>,
    events: u32,
    usage: Usage,
    has_usage: bool,
    finish_reason: Option<String>,
    done: bool,
    after_done: bool,
    ended: bool,
    notes: Vec<&'static str>,
    text: String,
    reasoning: String,
    timings: Option<ServerTimings>,
}

/// Why receiving was given up by this side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GivenUp {
    /// A limit of time.
    Timeout(Outcome),
    /// The stage or the user.
    Cancelled(Outcome),
    /// The connection failed, in the system's words: kind, message.
    Broken(&'static str, String),
    /// The connection ended.
    Closed,
}

impl Reception {
    /// Nothing has come yet.
    pub fn new(asked: Asked) -> Self {
        Self {
            asked,
            parser: ResponseParser::default(),
            body: Body::Undecided,
            inflate: None,
            head: None,
            fault: None,
            first_byte_us: None,
            first_event_us: None,
            last_event_us: None,
            chunks: Chunks::default(),
            per_chunk: Some(Vec::new()),
            counted: 0,
            end_us: None,
            events: 0,
            usage: Usage::default(),
            has_usage: false,
            finish_reason: None,
            done: false,
            after_done: false,
            ended: false,
            notes: Vec::new(),
            text: String::new(),
            reasoning: String::new(),
            timings: None,
        }
    }

    /// Takes bytes of an HTTP/1.1 connection that arrived `at_us` after sending. True if bytes are left over behind the answer.
    pub fn on_bytes(&mut self, bytes: &[u8], at_us: u64) -> bool {
        self.first_byte_us.get_or_insert(at_us);
        let mut parser = std::mem::take(&mut self.parser);
        let fed = parser.feed::<ResponseError>(bytes, &mut |piece| {
            match piece {
                Piece::Head(head) => self.on_head(head.clone()),
                Piece::Data(data) => self.on_data(data, at_us),
                Piece::End => self.on_end(at_us),
            }
            Ok(())
        });
        self.parser = parser;
        match fed {
            Ok(left) => left > 0,
            Err(error) => {
                self.fail(Outcome::MalformedSse, "not_http", error.to_string());
                false
            }
        }
    }

    /// The first byte came `at_us` after sending, where the transport does not hand over bytes.
    pub fn on_first_byte(&mut self, at_us: u64) {
        self.first_byte_us.get_or_insert(at_us);
    }

    /// Takes the head.
    pub fn on_head(&mut self, head: Head) {
        self.inflate = match head.encoding {
            Encoding::Identity => None,
            Encoding::Gzip => Some(Inflate::Gzip(Box::new(GzDecoder::new(Vec::new())))),
            Encoding::Deflate => Some(Inflate::Deflate(Box::new(ZlibDecoder::new(Vec::new())))),
            Encoding::Unknown => {
                self.fail(
                    Outcome::MalformedSse,
                    "encoding",
                    "the answer is compressed in a way that was not asked for and is not known".to_owned(),
                );
                None
            }
        };
        if self.inflate.is_some() {
            self.note("compressed");
        }
        self.body = match (head.status, head.content) {
            (200..300, ContentKind::EventStream) => Body::Stream(SseDecoder::new(self.asked.max_bytes)),
            (200..300, ContentKind::Json) => Body::Whole(Vec::new()),
            (200..300, _) => Body::Undecided,
            _ => Body::Error(Vec::new()),
        };
        self.head = Some(head);
    }

    /// Takes bytes of the body.
    pub fn on_data(&mut self, data: &[u8], at_us: u64) {
        match &mut self.inflate {
            None => self.on_plain(data, at_us),
            Some(inflate) => match inflate.feed(data) {
                Ok(plain) => self.on_plain(&plain, at_us),
                Err(error) => self.fail(
                    Outcome::MalformedSse,
                    "encoding",
                    format!("the compressed answer cannot be read: {error}"),
                ),
            },
        }
    }

    fn on_plain(&mut self, data: &[u8], at_us: u64) {
        if let Body::Undecided = self.body {
            let Some(first) = data.iter().find(|byte| !byte.is_ascii_whitespace()) else { return };
            self.body = if *first == b'{' || *first == b'[' {
                Body::Whole(Vec::new())
            } else {
                Body::Stream(SseDecoder::new(self.asked.max_bytes))
            };
        }
        // The decoder is taken out so that its events may change everything else.
        match std::mem::replace(&mut self.body, Body::Undecided) {
            Body::Stream(mut decoder) => {
                let fed = decoder.feed(data, &mut |event| self.on_event(event.name, event.data, at_us));
                self.body = Body::Stream(decoder);
                if let Err(error) = fed {
                    self.fail(Outcome::Oversize, "event", error.to_string());
                }
            }
            Body::Whole(mut bytes) => {
                bytes.extend_from_slice(data);
                if bytes.len() > self.asked.max_bytes {
                    bytes = Vec::new();
                    let limit = self.asked.max_bytes;
                    self.fail(Outcome::Oversize, "answer", format!("the answer is longer than {limit} bytes"));
                }
                self.body = Body::Whole(bytes);
            }
            Body::Error(mut bytes) => {
                let room = ERROR_BYTES.saturating_sub(bytes.len());
                bytes.extend_from_slice(&data[..data.len().min(room)]);
                self.body = Body::Error(bytes);
                // An error of a gigabyte is not waited for.
                if room == 0 {
                    self.note("error_body_cut");
                }
            }
            Body::Undecided => {}
        }
    }

    fn on_event(&mut self, name: &[u8], data: &[u8], at_us: u64) {
        // What comes in the same read as a fault counts as little as what comes in a later one, which is not read.
        if self.fault.is_some() {
            return;
        }
        self.first_event_us.get_or_insert(at_us);
        self.last_event_us = Some(at_us);
        self.events = self.events.saturating_add(1);
        if self.done {
            self.after_done = true;
            return;
        }
        if data.trim_ascii() == b"[DONE]" {
            self.done = true;
            return;
        }
        if data.is_empty() {
            return;
        }
        let room = self.text.len() + self.reasoning.len() < MOST_TEXT_BYTES;
        let said = match delta::read(data, &mut self.text, &mut self.reasoning) {
            Ok(said) => said,
            Err(bad) => {
                // Plain text in an event called `error` is the error itself.
                if name == b"error" {
                    self.fail(Outcome::StreamErrorEvent, "error", cut(&String::from_utf8_lossy(data)));
                } else {
                    self.fail(Outcome::MalformedJson, "event", bad.reason);
                }
                return;
            }
        };
        if !room {
            self.text.clear();
            self.reasoning.clear();
            self.note("text_cut");
        }
        if let Some(error) = said.error {
            self.fail(Outcome::StreamErrorEvent, "error", error);
            return;
        }
        if name == b"error" {
            self.fail(Outcome::StreamErrorEvent, "error", cut(&String::from_utf8_lossy(data)));
            return;
        }
        if let Some(usage) = said.usage {
            self.take_usage(usage);
        }
        if let Some(kind) = said.kind {
            self.chunks.push(at_us, kind);
            let total = said.usage.and_then(|usage| usage.output);
            self.per_chunk = match (self.per_chunk.take(), total) {
                (Some(mut tokens), Some(total)) => {
                    tokens.push(u32::try_from(total.saturating_sub(self.counted)).unwrap_or(u32::MAX));
                    self.counted = total;
                    Some(tokens)
                }
                _ => None,
            };
        }
        if let Some(reason) = said.finish_reason {
            self.finish_reason = Some(reason);
        }
        self.timings = said.timings.or(self.timings);
        self.done |= said.completed;
    }

    fn take_usage(&mut self, usage: Usage) {
        self.has_usage = true;
        self.usage = Usage {
            input: usage.input.or(self.usage.input),
            output: usage.output.or(self.usage.output),
            reasoning: usage.reasoning.or(self.usage.reasoning),
            cached: usage.cached.or(self.usage.cached),
        };
    }

    /// The body is whole.
    pub fn on_end(&mut self, at_us: u64) {
        if self.fault.is_none() {
            self.end_us = Some(at_us);
        }
        self.ended = true;
    }

    /// Whether nothing more needs to be read: the answer is whole, or cannot become right any more.
    pub fn is_over(&self) -> bool {
        self.ended || self.fault.is_some() || self.notes.contains(&"error_body_cut")
    }

    /// Whether any output has come.
    pub fn has_output(&self) -> bool {
        !self.chunks.is_empty()
    }

    /// Whether the server said that the stream is over, while its body is not.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// When the last event came, in µs after sending.
    pub fn last_event_us(&self) -> Option<u64> {
        self.last_event_us
    }

    /// Whether a byte has come.
    pub fn has_begun(&self) -> bool {
        self.first_byte_us.is_some()
    }

    fn note(&mut self, code: &'static str) {
        if !self.notes.contains(&code) {
            self.notes.push(code);
        }
    }

    fn fail(&mut self, outcome: Outcome, kind: &str, message: String) {
        if self.fault.is_none() {
            self.fault = Some((outcome, Failed { message, kind: kind.to_owned() }));
        }
    }

    /// The connection ended or broke, or was given up, `at_us` after sending.
    pub fn give_up(&mut self, why: GivenUp, at_us: u64) {
        if self.ended || self.fault.is_some() {
            return;
        }
        match why {
            GivenUp::Timeout(outcome) => {
                // The server has said all; that it keeps the connection busy is another matter.
                if self.done && self.finish_reason.is_some() {
                    self.note("body_not_ended");
                    // The answer was whole when its last event came; how long this client waited for more is its own affair.
                    self.end_us = self.last_event_us.or(Some(at_us));
                    return;
                }
                let tokens = self.chunks.len();
                let message = match outcome {
                    Outcome::TimeoutConnect => "no connection in time".to_owned(),
                    Outcome::TimeoutFirstToken if self.has_begun() => {
                        "the answer began and no token came in time".to_owned()
                    }
                    Outcome::TimeoutFirstToken => "no answer in time".to_owned(),
                    Outcome::TimeoutStall => format!("no event in time after {tokens} chunks"),
                    _ => format!("not ended in time after {tokens} chunks"),
                };
                self.fail(outcome, "timeout", message);
            }
            GivenUp::Cancelled(outcome) => self.fail(outcome, "cancelled", "ended by the test".to_owned()),
            GivenUp::Broken(kind, message) => {
                if self.has_begun() {
                    let tokens = self.chunks.len();
                    self.fail(Outcome::StreamTruncated, kind, format!("{message} after {tokens} chunks"));
                } else {
                    self.fail(Outcome::ConnectError, kind, message);
                }
            }
            GivenUp::Closed => self.on_close(at_us),
        }
    }

    fn on_close(&mut self, at_us: u64) {
        let cut = self.parser.cut();
        let tokens = self.chunks.len();
        match cut {
            Cut::Nothing => self.fail(Outcome::ConnectError, "closed", cut.words().to_owned()),
            Cut::Whole => {
                // A body that ends with the connection ended well only if its content says so.
                let whole = match &self.body {
                    Body::Stream(decoder) => (self.done || self.finish_reason.is_some()) && !decoder.is_within(),
                    _ => true,
                };
                if whole {
                    self.on_end(at_us);
                } else {
                    let message =
                        format!("the connection ended before a finish_reason or [DONE], after {tokens} chunks");
                    self.fail(Outcome::StreamTruncated, "no_end", message);
                }
            }
            Cut::Head => self.fail(Outcome::StreamTruncated, "head", cut.words().to_owned()),
            Cut::Length | Cut::Chunked => {
                let kind = if cut == Cut::Length { "content_length" } else { "chunked" };
                self.fail(Outcome::StreamTruncated, kind, format!("{} after {tokens} output chunks", cut.words()));
            }
        }
    }

    /// What the request left behind.
    pub fn finish(mut self) -> Answer {
        let status = self.head.as_ref().map(|head| head.status);
        if self.fault.is_none() {
            match status {
                Some(200..300) => self.judge_body(),
                Some(status) => self.judge_error(status),
                None => self.fail(Outcome::ConnectError, "closed", Cut::Nothing.words().to_owned()),
            }
        } else if let Some(status) = status.filter(|status| !(200..300).contains(status)) {
            // The status weighs more than how its text ended.
            if self
                .fault
                .as_ref()
                .is_some_and(|(outcome, _)| matches!(outcome, Outcome::StreamTruncated | Outcome::Oversize))
            {
                self.fault = None;
                self.judge_error(status);
            }
        }
        let (outcome, failed) = match self.fault.take() {
            Some((outcome, failed)) => (outcome, Some(failed)),
            None => (Outcome::Ok, None),
        };
        let keep_alive = self.head.as_ref().is_some_and(|head| head.keep_alive);
        let mut chunks = self.chunks;
        chunks.tokens = self.per_chunk.filter(|tokens| !tokens.is_empty());
        Answer {
            outcome,
            failed,
            status,
            retry_after_s: self.head.as_ref().and_then(|head| head.retry_after_s),
            first_byte_us: self.first_byte_us,
            first_event_us: self.first_event_us,
            chunks,
            end_us: self.end_us,
            events: self.events,
            usage: self.usage,
            finish_reason: self.finish_reason,
            notes: self.notes.iter().map(|code| (*code).to_owned()).collect(),
            text: self.text,
            reasoning: self.reasoning,
            timings: self.timings,
            reusable: keep_alive && self.ended,
        }
    }

    /// A body whose status is good.
    fn judge_body(&mut self) {
        match std::mem::replace(&mut self.body, Body::Undecided) {
            Body::Stream(decoder) => {
                if decoder.is_within() {
                    self.note("unfinished_event");
                }
                self.judge_stream();
            }
            Body::Whole(bytes) => self.judge_whole(&bytes),
            Body::Undecided | Body::Error(_) => {
                self.fail(Outcome::EmptyOutput, "empty_body", "a status of 200 and an empty body".to_owned());
            }
        }
    }

    fn judge_stream(&mut self) {
        if self.events == 0 {
            return self.fail(Outcome::EmptyOutput, "no_event", "a stream without an event".to_owned());
        }
        if self.finish_reason.is_none() && !self.done {
            let message = format!(
                "the stream ended without a finish_reason and without [DONE], after {} chunks",
                self.chunks.len()
            );
            return self.fail(Outcome::StreamTruncated, "no_end", message);
        }
        if self.chunks.is_empty() {
            let reason = self.finish_reason.clone().unwrap_or_else(|| "none".to_owned());
            return self.fail(Outcome::EmptyOutput, "no_token", format!("no token; finish_reason {reason}"));
        }
        if !self.done {
            self.note("done_missing");
        }
        if self.after_done {
            self.note("data_after_done");
        }
        if self.finish_reason.is_none() {
            self.note("finish_missing");
        }
        if !self.asked.stream {
            self.note("streamed_unasked");
        }
        self.judge_usage();
    }

    fn judge_whole(&mut self, bytes: &[u8]) {
        let said = match delta::read(bytes, &mut self.text, &mut self.reasoning) {
            Ok(said) => said,
            Err(bad) => {
                let outcome = if self.asked.stream { Outcome::MalformedSse } else { Outcome::MalformedJson };
                return self.fail(outcome, "answer", bad.reason);
            }
        };
        if let Some(error) = said.error {
            return self.fail(Outcome::MalformedSse, "error_in_200", error);
        }
        if let Some(usage) = said.usage {
            self.take_usage(usage);
        }
        self.finish_reason = said.finish_reason;
        self.timings = said.timings;
        if said.kind.is_none() {
            return self.fail(Outcome::EmptyOutput, "no_token", "an answer without a token".to_owned());
        }
        if self.asked.stream {
            self.note("not_streamed");
        }
        self.judge_usage();
    }

    /// Counts that cannot be true are taken as not told.
    fn judge_usage(&mut self) {
        // A chunk holds one token at least, unless a token was cut in two, which no server does in earnest.
        let least = (self.chunks.len() as u64).max(1);
        self.usage.output = self.usage.output.filter(|output| *output >= least);
        if !self.has_usage {
            self.note("usage_missing");
        } else if self.usage.output.is_none() {
            self.note("usage_wrong");
        }
    }

    fn judge_error(&mut self, status: u16) {
        let text = match &self.body {
            Body::Error(bytes) => {
                let raw = String::from_utf8_lossy(bytes);
                match serde_json::from_str::<serde_json::Value>(&raw) {
                    Ok(value) => {
                        let inner = value.get("error").or_else(|| value.get("detail")).unwrap_or(&value);
                        error_text(&inner.to_string())
                    }
                    Err(_) => cut(raw.trim()),
                }
            }
            _ => String::new(),
        };
        let words = if text.is_empty() { format!("status {status}") } else { format!("status {status}: {text}") };
        match status {
            300..400 => {
                let to = self.head.as_ref().and_then(|head| head.location.clone()).unwrap_or_default();
                let message = format!("status {status}: redirected to `{to}`, which is not followed");
                self.fail(Outcome::Http4xx, "redirect", message);
            }
            429 => self.fail(Outcome::RateLimited, "429", words),
            500.. => self.fail(Outcome::Http5xx, &status.to_string(), words),
            _ => self.fail(Outcome::Http4xx, &status.to_string(), words),
        }
    }

    /// The chunks so far.
    pub fn chunks(&self) -> &Chunks {
        &self.chunks
    }

    /// Whether a kind of output has come.
    pub fn has(&self, kind: ChunkKind) -> bool {
        self.chunks.count(kind) > 0
    }
}
