//! A request on its way: from being due to its row.

use std::sync::Arc;

use super::job::{Ended, StageJob};
use super::worker::Worker;
use crate::load::client::delta::Usage;
use crate::load::client::reception::{Answer, Asked, Reception};
use crate::load::workload::item::{Item, Message};
use crate::net::clock::now_ns;
use crate::record::load::outcome::Outcome;
use crate::record::load::row::{Chunks, Failed, RequestRow, TokenSource};

/// A conversation under way.
#[derive(Debug)]
pub(super) struct Conversation {
    /// Number of the conversation in the dataset, counted on over its end.
    pub item: u64,
    /// The next turn.
    pub turn: usize,
    /// What was said.
    pub history: Vec<Message>,
}

/// A request on its way.
#[derive(Debug)]
pub(super) struct Flight {
    pub id: u64,
    pub conversation: Conversation,
    pub target: u32,
    /// Everything that is written: head and body.
    pub bytes: Vec<u8>,
    /// Where the body begins in them.
    pub body_at: usize,
    pub written: usize,
    /// When it was due, on the monotonic clock.
    pub due_ns: u64,
    /// When it was issued: due, and allowed to be sent.
    pub issued_ns: u64,
    pub sent_ns: Option<u64>,
    pub first_sent_ns: Option<u64>,
    pub attempts: u32,
    /// Attempts among them that a server sent back untouched.
    pub refused: u32,
    pub connect_ms: Option<f64>,
    pub reception: Reception,
    pub lag_ns: Option<u64>,
    pub max_tokens: Option<u32>,
    /// Tokens of the prompt as the dataset knows them.
    pub input_tokens: Option<u32>,
    /// It holds one of the places of `max_in_flight`.
    pub entered: bool,
    /// It waited for that place.
    pub held: bool,
}

impl Flight {
    /// Microseconds from sending to `at_ns`.
    pub(super) fn offset_us(&self, at_ns: u64) -> u64 {
        at_ns.saturating_sub(self.sent_ns.unwrap_or(at_ns)) / 1000
    }
}

impl Worker {
    /// The request of the next turn of `conversation`, for the target whose turn it is.
    pub(super) fn flight(&mut self, id: u64, conversation: Conversation, due_ns: u64, entered: bool) -> Box<Flight> {
        let shared = Arc::clone(&self.shared);
        let item = &shared.dataset.items[(conversation.item % shared.dataset.items.len() as u64) as usize];
        let turn = &item.turns[conversation.turn];
        let target = self.next_target % shared.targets.len() as u32;
        self.next_target = self.next_target.wrapping_add(1);
        let body = shared.template.render(turn, &conversation.history);
        let head = &shared.heads[target as usize];
        let mut bytes = Vec::with_capacity(head.len() + body.len() + 16);
        bytes.extend_from_slice(head.as_bytes());
        bytes.extend_from_slice(body.len().to_string().as_bytes());
        bytes.extend_from_slice(b"\r\n\r\n");
        let body_at = bytes.len();
        bytes.extend_from_slice(&body);
        Box::new(Flight {
            id,
            target,
            bytes,
            body_at,
            written: 0,
            due_ns,
            issued_ns: now_ns(),
            sent_ns: None,
            first_sent_ns: None,
            attempts: 0,
            refused: 0,
            connect_ms: None,
            reception: Reception::new(self.asked()),
            lag_ns: None,
            max_tokens: shared.template.max_tokens(turn),
            input_tokens: turn.input_tokens,
            conversation,
            entered,
            held: false,
        })
    }

    pub(super) fn asked(&self) -> Asked {
        Asked { stream: self.shared.template.stream, max_bytes: self.shared.options.max_bytes }
    }

    pub(super) fn row_context<'a>(&'a self, job: &'a StageJob, flight: &Flight) -> RowContext<'a> {
        let items = &self.shared.dataset.items;
        RowContext {
            job,
            origin_ns: self.shared.origin_ns,
            prompts: items.len() as u64,
            item: &items[(flight.conversation.item % items.len() as u64) as usize],
            keep_text: self.shared.options.keep_text,
        }
    }
}

/// What the rows of a flight need beside it.
pub(super) struct RowContext<'a> {
    pub job: &'a StageJob,
    pub origin_ns: u64,
    pub prompts: u64,
    pub item: &'a Item,
    pub keep_text: bool,
}

/// The row of a flight that has an answer, such as it is.
pub(super) fn ended(flight: &Flight, answer: Answer, context: &RowContext<'_>) -> Ended {
    let relative = |ns: u64| ns.saturating_sub(context.origin_ns);
    let mut notes = answer.notes;
    // Counts the server gives win; what was said before makes the dataset's count of the turn too small.
    let counted = flight.input_tokens.filter(|_| flight.conversation.history.is_empty()).map(u64::from);
    let Usage { input, mut output, reasoning, cached } = answer.usage;
    if answer.outcome == Outcome::Ok
        && let (Some(asked), Some(got)) = (flight.max_tokens, output)
        && got > u64::from(asked)
    {
        if answer.chunks.is_empty() || answer.chunks.len() as u64 > u64::from(asked) {
            // The server did not keep the limit, or in an answer of one piece nothing else tells.
            notes.push("more_than_max_tokens".to_owned());
        } else {
            notes.push("usage_wrong".to_owned());
            output = None;
        }
    }
    let row = RequestRow {
        stage: context.job.stage,
        phase: context.job.phase,
        id: flight.id,
        session: (context.item.turns.len() > 1).then_some(flight.conversation.item),
        turn: flight.conversation.turn as u32,
        prompt: flight.conversation.item % context.prompts,
        target: flight.target,
        due_ns: relative(flight.due_ns),
        sent_ns: flight.sent_ns.map(relative),
        held: flight.held,
        outcome: answer.outcome,
        failed: answer.failed,
        status: answer.status,
        attempts: flight.attempts.max(1),
        first_sent_ns: flight.first_sent_ns.map(relative).filter(|_| flight.attempts > 1),
        connect_ms: flight.connect_ms,
        first_byte_us: answer.first_byte_us,
        first_event_us: answer.first_event_us,
        chunks: answer.chunks,
        end_us: answer.end_us,
        gone_us: (answer.end_us.is_none() && flight.sent_ns.is_some()).then(|| flight.offset_us(now_ns())),
        events: answer.events,
        input_tokens: input.or(counted),
        output_tokens: output,
        token_source: output.map(|_| TokenSource::Usage),
        reasoning_tokens: reasoning,
        cached_tokens: cached,
        max_tokens: flight.max_tokens,
        finish_reason: answer.finish_reason,
        notes,
        lag_us: flight.lag_ns.map(|ns| ns / 1000),
        text: context.keep_text.then(|| answer.text.clone()),
        server_timings: answer.timings,
    };
    Ended { row, text: answer.text, reasoning: answer.reasoning }
}

/// The row of a flight that never got as far as an answer.
pub(super) fn unsent(
    flight: &Flight,
    outcome: Outcome,
    kind: &str,
    message: String,
    context: &RowContext<'_>,
) -> Ended {
    let answer = Answer {
        outcome,
        failed: Some(Failed { message, kind: kind.to_owned() }),
        status: None,
        retry_after_s: None,
        first_byte_us: None,
        first_event_us: None,
        chunks: Chunks::default(),
        end_us: None,
        events: 0,
        usage: Usage::default(),
        finish_reason: None,
        notes: Vec::new(),
        text: String::new(),
        reasoning: String::new(),
        timings: None,
        reusable: false,
    };
    ended(flight, answer, context)
}
