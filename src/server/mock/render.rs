//! The bytes of answers: events of each API, made once for an answer where they repeat, with the numbers that change written over.

use std::io::Write as _;
use std::ops::Range;

use super::ask::{Ask, Shape};
use super::http::{LAST_CHUNK, write_chunk};
use super::settings::MockSettings;

/// A word of the answers: one token for the tokenizers in use.
pub(super) const WORD: &str = " token";
/// Columns of a stamp, which has the digits of any `u64`.
const STAMP_WIDTH: usize = 20;
/// Columns of a count.
const COUNT_WIDTH: usize = 10;

/// What a chunk carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Text of the reasoning.
    Reasoning,
    /// Text of the answer.
    Content,
    /// A piece of the arguments of a tool call; the first opens and names it, the last closes it.
    Tool {
        /// The first piece.
        first: bool,
        /// The last piece.
        last: bool,
    },
}

/// How an answer is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    /// Tokens in all.
    pub(super) tokens: u32,
    /// Chunks they come in, at least 1.
    pub(super) chunks: u32,
    per_chunk: u32,
    reasoning: u32,
    tool: u32,
}

impl Plan {
    /// The plan for `ask`.
    pub(super) fn new(ask: &Ask, settings: &MockSettings) -> Self {
        let chunks = ask.tokens.div_ceil(settings.tokens_per_chunk);
        let chat = ask.shape == Shape::Chat;
        let reasoning = if chat { settings.reasoning.min(chunks) } else { 0 };
        let tool = if chat { settings.tool.min(chunks - reasoning) } else { 0 };
        Self { tokens: ask.tokens, chunks, per_chunk: settings.tokens_per_chunk, reasoning, tool }
    }

    /// What chunk `index` carries.
    pub(super) fn part(&self, index: u32) -> Part {
        let tools_at = self.chunks - self.tool;
        if index < self.reasoning {
            Part::Reasoning
        } else if index < tools_at {
            Part::Content
        } else {
            Part::Tool { first: index == tools_at, last: index + 1 == self.chunks }
        }
    }

    /// Tokens sent once chunk `index` is.
    pub(super) fn told(&self, index: u32) -> u32 {
        (index + 1).saturating_mul(self.per_chunk).min(self.tokens)
    }

    /// Tokens in chunk `index`.
    pub(super) fn words(&self, index: u32) -> u32 {
        self.told(index) - if index == 0 { 0 } else { self.told(index - 1) }
    }

    fn words_of(&self, chunks: Range<u32>) -> u32 {
        chunks.map(|index| self.words(index)).sum()
    }
}

/// Places in a template that change from chunk to chunk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Holes {
    stamp: Option<usize>,
    completion: Option<usize>,
    total: Option<usize>,
    sequence: Option<usize>,
}

/// A chunk made in advance.
#[derive(Debug, Clone, Default)]
struct Template {
    bytes: Vec<u8>,
    holes: Holes,
}

/// Speaks for one answer. Its memory is used again for the next one of the connection.
#[derive(Debug, Default)]
pub(super) struct Voice {
    head: String,
    id: String,
    /// The model as JSON.
    model: String,
    created: u64,
    shape: Option<Shape>,
    prompt: u64,
    usage: bool,
    continuous: bool,
    stamp: bool,
    finish: &'static str,
    reasoning: Template,
    content: Template,
    tool: Template,
    payload: Vec<u8>,
}

impl Voice {
    /// Begins the answer `number` to `ask`. `created` is in seconds since the epoch.
    pub(super) fn begin(&mut self, ask: &Ask, plan: &Plan, number: u64, created: u64, stamp: bool) {
        self.id = ask.shape.id(number);
        self.model = serde_json::Value::from(ask.model.as_str()).to_string();
        (self.created, self.shape, self.prompt) = (created, Some(ask.shape), ask.prompt_tokens);
        (self.usage, self.continuous, self.stamp) = (ask.usage, ask.continuous_usage, stamp);
        self.finish = match (plan.tool > 0, ask.limited) {
            (true, _) => "tool_calls",
            (false, true) => "length",
            (false, false) => "stop",
        };
        let object = if ask.shape == Shape::Chat { "chat.completion.chunk" } else { "text_completion" };
        self.head = format!(
            r#"{{"id":"{}","object":"{object}","created":{created},"model":{},"choices":["#,
            self.id, self.model
        );
        if ask.stream {
            let middle = Part::Tool { first: false, last: false };
            let (reasoning, content, tool) = (
                std::mem::take(&mut self.reasoning),
                std::mem::take(&mut self.content),
                std::mem::take(&mut self.tool),
            );
            self.reasoning = self.template(reasoning, Part::Reasoning, plan, plan.reasoning > 0);
            self.content = self.template(content, Part::Content, plan, true);
            self.tool = self.template(tool, middle, plan, plan.tool > 0);
        }
    }

    /// Makes a template of a chunk, in the memory of an old one.
    fn template(&mut self, mut template: Template, part: Part, plan: &Plan, wanted: bool) -> Template {
        template.bytes.clear();
        if wanted {
            let words = plan.per_chunk.min(plan.tokens);
            template.holes = self.chunk(&mut template.bytes, part, words, false, Numbers::default());
        }
        template
    }

    /// The bytes of chunk `index`, sent at `at`: a template where it is one of many, else made in `scratch`.
    pub(super) fn token_chunk<'a>(
        &'a mut self,
        scratch: &'a mut Vec<u8>,
        plan: &Plan,
        index: u32,
        at: u64,
    ) -> &'a [u8] {
        let part = plan.part(index);
        let numbers = Numbers { at, completion: plan.told(index), sequence: index + 1 };
        let last = index + 1 == plan.chunks;
        // Unlike the others, or something goes before it.
        if last || matches!(part, Part::Tool { first: true, .. }) || !scratch.is_empty() {
            self.chunk(scratch, part, plan.words(index), last, numbers);
            return scratch;
        }
        let Template { bytes, holes } = match part {
            Part::Reasoning => &mut self.reasoning,
            Part::Content => &mut self.content,
            Part::Tool { .. } => &mut self.tool,
        };
        let total = self.prompt + u64::from(numbers.completion);
        let mut fill = |at: Option<usize>, width: usize, value: u64| {
            if let Some(at) = at {
                put(&mut bytes[at..at + width], value);
            }
        };
        fill(holes.stamp, STAMP_WIDTH, at);
        fill(holes.completion, COUNT_WIDTH, u64::from(numbers.completion));
        fill(holes.total, COUNT_WIDTH, total);
        fill(holes.sequence, COUNT_WIDTH, u64::from(numbers.sequence));
        bytes
    }

    /// Appends the chunk with the role (or, for responses, the event that the answer has begun).
    pub(super) fn role(&mut self, out: &mut Vec<u8>, at: u64) {
        let mut event = self.take_payload();
        if self.shape == Some(Shape::Response) {
            event.extend_from_slice(
                b"event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0,\"response\":",
            );
            self.response(&mut event, "in_progress", None);
        } else {
            event.extend_from_slice(b"data: ");
            event.extend_from_slice(self.head.as_bytes());
            event.extend_from_slice(
                br#"{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]"#,
            );
            self.usage_field(&mut event, 0, &mut Holes::default());
        }
        self.end_event(event, at, out, &mut Holes::default());
    }

    /// Appends a chunk with tokens.
    fn chunk(&mut self, out: &mut Vec<u8>, part: Part, words: u32, last: bool, numbers: Numbers) -> Holes {
        let mut event = self.take_payload();
        let mut holes = Holes::default();
        if self.shape == Some(Shape::Response) {
            event.extend_from_slice(
                b"event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":",
            );
            holes.sequence = Some(number(&mut event, u64::from(numbers.sequence), COUNT_WIDTH));
            let _ = write!(event, r#","item_id":"msg_{}","output_index":0,"content_index":0,"delta":""#, self.id);
            write_words(&mut event, words);
            event.push(b'"');
        } else {
            event.extend_from_slice(b"data: ");
            event.extend_from_slice(self.head.as_bytes());
            event.extend_from_slice(br#"{"index":0,"#);
            if self.shape == Some(Shape::Chat) {
                self.delta(&mut event, part, words);
            } else {
                event.extend_from_slice(br#""text":""#);
                write_words(&mut event, words);
                event.push(b'"');
            }
            event.extend_from_slice(br#","logprobs":null,"finish_reason":"#);
            if last {
                let _ = write!(event, r#""{}""#, self.finish);
            } else {
                event.extend_from_slice(b"null");
            }
            event.extend_from_slice(b"}]");
            self.usage_field(&mut event, numbers.completion, &mut holes);
        }
        self.end_event(event, numbers.at, out, &mut holes);
        holes
    }

    fn delta(&self, event: &mut Vec<u8>, part: Part, words: u32) {
        match part {
            Part::Reasoning => event.extend_from_slice(br#""delta":{"reasoning_content":""#),
            Part::Content => event.extend_from_slice(br#""delta":{"content":""#),
            Part::Tool { first: true, .. } => {
                let _ = write!(
                    event,
                    r#""delta":{{"tool_calls":[{{"index":0,"id":"call_{}","type":"function","function":{{"name":"mock","arguments":"{{\"text\":\""#,
                    self.id
                );
            }
            Part::Tool { first: false, .. } => {
                event.extend_from_slice(br#""delta":{"tool_calls":[{"index":0,"function":{"arguments":""#);
            }
        }
        write_words(event, words);
        match part {
            Part::Reasoning | Part::Content => event.extend_from_slice(br#""}"#),
            Part::Tool { last: true, .. } => event.extend_from_slice(br#"\"}"}}]}"#),
            Part::Tool { last: false, .. } => event.extend_from_slice(br#""}}]}"#),
        }
    }

    /// The field `usage` of a chunk.
    fn usage_field(&self, event: &mut Vec<u8>, completion: u32, holes: &mut Holes) {
        if self.continuous {
            let _ = write!(event, r#","usage":{{"prompt_tokens":{},"completion_tokens":"#, self.prompt);
            holes.completion = Some(number(event, u64::from(completion), COUNT_WIDTH));
            event.extend_from_slice(br#","total_tokens":"#);
            holes.total = Some(number(event, self.prompt + u64::from(completion), COUNT_WIDTH));
            event.push(b'}');
        } else if self.usage {
            event.extend_from_slice(br#","usage":null"#);
        }
    }

    /// Ends the object of an event and appends the event as a chunk of HTTP; holes are moved to where they are in `out`.
    fn end_event(&mut self, mut event: Vec<u8>, at: u64, out: &mut Vec<u8>, holes: &mut Holes) {
        if self.stamp {
            event.extend_from_slice(br#","t_send_ns":"#);
            holes.stamp = Some(number(&mut event, at, STAMP_WIDTH));
        }
        event.extend_from_slice(b"}\n\n");
        write_chunk(out, &event);
        // The chunk ends with CR LF, so its payload begins so far from the end.
        let begin = out.len() - 2 - event.len();
        for hole in [&mut holes.stamp, &mut holes.completion, &mut holes.total, &mut holes.sequence] {
            *hole = hole.map(|at| at + begin);
        }
        self.payload = event;
    }

    fn take_payload(&mut self) -> Vec<u8> {
        let mut payload = std::mem::take(&mut self.payload);
        payload.clear();
        payload
    }

    /// Appends what comes after the last token of a stream: token counts, `[DONE]`, and the end of the body.
    pub(super) fn tail(&mut self, out: &mut Vec<u8>, plan: &Plan, at: u64, done: bool) {
        if self.shape == Some(Shape::Response) {
            let mut event = self.take_payload();
            let _ = write!(
                event,
                "event: response.completed\ndata: {{\"type\":\"response.completed\",\"sequence_number\":{},\"response\":",
                plan.chunks + 1
            );
            self.response(&mut event, "completed", Some(plan));
            self.end_event(event, at, out, &mut Holes::default());
        } else if self.usage {
            let mut event = self.take_payload();
            event.extend_from_slice(b"data: ");
            event.extend_from_slice(self.head.as_bytes());
            event.push(b']');
            self.usage_object(&mut event, plan);
            self.end_event(event, at, out, &mut Holes::default());
        }
        if done && self.shape != Some(Shape::Response) {
            write_chunk(out, b"data: [DONE]\n\n");
        }
        out.extend_from_slice(LAST_CHUNK);
    }

    /// Appends an event of broken JSON.
    pub(super) fn malformed(&self, out: &mut Vec<u8>) {
        write_chunk(out, format!("data: {{\"id\":\"{}\",\"choices\":[{{\"del\n\n", self.id).as_bytes());
    }

    /// Appends an event with an error, and the end of the stream.
    pub(super) fn error_event(out: &mut Vec<u8>, done: bool) {
        let error = error_json("the mock server was told to fail here", "InternalServerError", 500);
        write_chunk(out, format!("data: {error}\n\n").as_bytes());
        if done {
            write_chunk(out, b"data: [DONE]\n\n");
        }
        out.extend_from_slice(LAST_CHUNK);
    }

    /// The body of an answer that is no stream.
    pub(super) fn whole(&self, plan: &Plan, at: u64) -> Vec<u8> {
        let mut body = Vec::with_capacity(plan.tokens as usize * WORD.len() + 512);
        if self.shape == Some(Shape::Response) {
            self.response(&mut body, "completed", Some(plan));
            body.pop();
        } else {
            let chat = self.shape == Some(Shape::Chat);
            let object = if chat { "chat.completion" } else { "text_completion" };
            let _ = write!(
                body,
                r#"{{"id":"{}","object":"{object}","created":{},"model":{},"choices":[{{"index":0,"#,
                self.id, self.created, self.model
            );
            if chat {
                self.message(&mut body, plan);
            } else {
                body.extend_from_slice(br#""text":""#);
                write_words(&mut body, plan.tokens);
                body.push(b'"');
            }
            let _ = write!(body, r#","logprobs":null,"finish_reason":"{}"}}]"#, self.finish);
            if self.usage {
                self.usage_object(&mut body, plan);
            }
        }
        if self.stamp {
            let _ = write!(body, r#","t_send_ns":{at}"#);
        }
        body.push(b'}');
        body
    }

    fn message(&self, body: &mut Vec<u8>, plan: &Plan) {
        let tools_at = plan.chunks - plan.tool;
        body.extend_from_slice(br#""message":{"role":"assistant","#);
        if plan.reasoning > 0 {
            body.extend_from_slice(br#""reasoning_content":""#);
            write_words(body, plan.words_of(0..plan.reasoning));
            body.extend_from_slice(br#"","#);
        }
        if plan.tool > 0 {
            let _ = write!(
                body,
                r#""tool_calls":[{{"id":"call_{}","type":"function","function":{{"name":"mock","arguments":"{{\"text\":\""#,
                self.id
            );
            write_words(body, plan.words_of(tools_at..plan.chunks));
            body.extend_from_slice(br#"\"}"}}],"#);
        }
        body.extend_from_slice(br#""content":""#);
        write_words(body, plan.words_of(plan.reasoning..tools_at));
        body.extend_from_slice(br#""}"#);
    }

    fn usage_object(&self, out: &mut Vec<u8>, plan: &Plan) {
        let (prompt, completion) = (self.prompt, u64::from(plan.tokens));
        let _ = write!(
            out,
            r#","usage":{{"prompt_tokens":{prompt},"completion_tokens":{completion},"total_tokens":{}}}"#,
            prompt + completion
        );
    }

    /// Appends the object `response`, with its output once there is one.
    fn response(&self, out: &mut Vec<u8>, status: &str, plan: Option<&Plan>) {
        let _ = write!(
            out,
            r#"{{"id":"{}","object":"response","created_at":{},"model":{},"status":"{status}","error":null,"output":["#,
            self.id, self.created, self.model
        );
        if let Some(plan) = plan {
            let _ = write!(
                out,
                r#"{{"id":"msg_{}","type":"message","role":"assistant","status":"completed","content":[{{"type":"output_text","annotations":[],"text":""#,
                self.id
            );
            write_words(out, plan.tokens);
            out.extend_from_slice(br#""}]}"#);
        }
        out.extend_from_slice(br#"],"usage":"#);
        match plan.filter(|_| self.usage) {
            Some(plan) => {
                let (prompt, completion) = (self.prompt, u64::from(plan.tokens));
                let _ = write!(
                    out,
                    r#"{{"input_tokens":{prompt},"output_tokens":{completion},"total_tokens":{}}}"#,
                    prompt + completion
                );
            }
            None => out.extend_from_slice(b"null"),
        }
        out.push(b'}');
    }
}

/// What changes from one chunk to the next.
#[derive(Debug, Clone, Copy, Default)]
struct Numbers {
    at: u64,
    completion: u32,
    sequence: u32,
}

/// The JSON of an error, as the servers in use send it.
pub(super) fn error_json(message: &str, kind: &str, code: u16) -> String {
    serde_json::json!({"error": {"message": message, "type": kind, "param": null, "code": code}}).to_string()
}

fn write_words(out: &mut Vec<u8>, words: u32) {
    for _ in 0..words {
        out.extend_from_slice(WORD.as_bytes());
    }
}

/// Appends a number in `width` columns, spaces before it as JSON allows, and says where.
fn number(out: &mut Vec<u8>, value: u64, width: usize) -> usize {
    let at = out.len();
    out.resize(at + width, b' ');
    put(&mut out[at..], value);
    at
}

/// Writes a number over `columns`, to the right, with spaces before it.
fn put(columns: &mut [u8], mut value: u64) {
    for column in columns.iter_mut().rev() {
        *column = if value == 0 { b' ' } else { b'0' + (value % 10) as u8 };
        value /= 10;
    }
    // Zero is a digit too.
    if let Some(last) = columns.last_mut().filter(|last| **last == b' ') {
        *last = b'0';
    }
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;
