//! Spans of a live run as they are recorded: small records now, names, costs and parents later.
//!
//! Recording one span costs one push into memory set aside before and whatever a stamp costs; everything else is worked out after the
//! repeat, in [`SpanLog::append_to`]. What a stamp is, the timer on top knows: ticks of the processor, or the number of an event on a stream.

use super::observer::{Phase, Span};
use crate::estimate::format::Format;
use crate::estimate::operator::Cost;
use crate::trace::timeline::{NONE, SpanKind, SpanRow, Timeline};

/// One recorded span: which of the kinds it is, its stamps, and the record it opened in. Small, because each one is written to memory that
/// the operators would rather have in cache.
#[derive(Debug, Clone, Copy)]
struct Record {
    kind: u32,
    parent: u32,
    start: u64,
    end: u64,
}

/// Marks a span that is still open: an end before its start.
const OPEN: (u64, u64) = (u64::MAX, 0);

/// The records of one repeat.
#[derive(Debug, Default)]
pub struct SpanLog {
    records: Vec<Record>,
    open: Vec<u32>,
    /// Distinct spans.
    kinds: Vec<Span>,
    /// The kinds of the phase before, in order: most steps repeat them one by one.
    pattern: Vec<u32>,
    /// Place in `pattern`.
    cursor: usize,
}

impl SpanLog {
    /// A log with room for `capacity` spans.
    pub fn with_capacity(capacity: usize) -> Self {
        let mut records = Vec::new();
        // Touch the memory now: a page fault inside a span would be booked to the operator.
        records.resize(capacity, Record { kind: 0, parent: NONE, start: OPEN.0, end: OPEN.1 });
        records.clear();
        Self { records, open: Vec::with_capacity(8), ..Self::default() }
    }

    /// Forgets everything but its memory.
    pub fn clear(&mut self) {
        self.records.clear();
        self.open.clear();
        self.kinds.clear();
        self.pattern.clear();
        self.cursor = 0;
    }

    /// Spans recorded so far.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// True before the first span.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Opens `span`. `stamp` is asked last, so that the bookkeeping is outside the span.
    #[inline]
    pub fn open(&mut self, span: Span, stamp: impl FnOnce() -> u64) {
        let kind = self.kind(span);
        let parent = self.open.last().copied().unwrap_or(NONE);
        self.open.push(self.records.len() as u32);
        self.records.push(Record { kind, parent, start: OPEN.0, end: OPEN.1 });
        if let Some(record) = self.records.last_mut() {
            record.start = stamp();
        }
    }

    /// Closes the innermost open span at `stamp`.
    #[inline]
    pub fn close(&mut self, stamp: u64) {
        if let Some(record) = self.open.pop().and_then(|index| self.records.get_mut(index as usize)) {
            record.end = stamp;
        }
    }

    /// Stamps of the closed phases, in order: (phase, step, start, end).
    pub fn phases(&self) -> impl Iterator<Item = (Phase, u32, u64, u64)> + '_ {
        self.records.iter().filter_map(|record| match self.kinds[record.kind as usize] {
            Span::Phase(phase, step) if record.end >= record.start => Some((phase, step, record.start, record.end)),
            _ => None,
        })
    }

    /// Appends the recorded spans to `timeline` as repeat `repeat`; `ns` turns a stamp into ns since the origin of the timeline.
    ///
    /// `activation` is the format of activations, from which operator bytes are counted. A span that never ended is left out with its
    /// children.
    pub fn append_to(&self, timeline: &mut Timeline, repeat: u32, activation: Format, ns: &dyn Fn(u64) -> u64) {
        self.append_where(timeline, repeat, activation, &|_, _| true, ns);
    }

    /// [`Self::append_to`] for the phases that `keep` wants, with what they contain.
    pub fn append_where(
        &self,
        timeline: &mut Timeline,
        repeat: u32,
        activation: Format,
        keep: &dyn Fn(Phase, u32) -> bool,
        ns: &dyn Fn(u64) -> u64,
    ) {
        let mut rows: Vec<u32> = Vec::with_capacity(self.records.len());
        // Phase, step and layer are inherited from the enclosing spans.
        let mut context: Vec<(Phase, u32, u32)> = Vec::with_capacity(self.records.len());
        for record in &self.records {
            let inherited =
                if record.parent == NONE { (Phase::Prefill, 0, NONE) } else { context[record.parent as usize] };
            let lost_parent = record.parent != NONE && rows[record.parent as usize] == NONE;
            let (kind, name, own, class, shape, cost, model_compute) = match self.kinds[record.kind as usize] {
                Span::Phase(phase, step) => {
                    (SpanKind::Phase, phase.name(), (phase, step, NONE), None, String::new(), Cost::default(), false)
                }
                Span::Layer(layer) => {
                    let own = (inherited.0, inherited.1, layer);
                    (SpanKind::Layer, "layer", own, None, String::new(), Cost::default(), false)
                }
                Span::Module(module) => {
                    (SpanKind::Module, module.name(), inherited, None, String::new(), Cost::default(), false)
                }
                Span::Operator(module, operator) => (
                    SpanKind::Operator,
                    module.name(),
                    inherited,
                    Some(operator.class()),
                    operator.shape_text(),
                    operator.cost(activation),
                    operator.is_model_compute(),
                ),
            };
            context.push(own);
            let kept = !matches!(kind, SpanKind::Phase) || keep(own.0, own.1);
            if record.end < record.start || lost_parent || !kept {
                rows.push(NONE);
                continue;
            }
            let parent = if record.parent == NONE { NONE } else { rows[record.parent as usize] };
            rows.push(timeline.push_span(SpanRow {
                start_ns: ns(record.start),
                end_ns: ns(record.end),
                kind,
                name,
                parent,
                repeat,
                phase: own.0.name(),
                step: own.1,
                layer: own.2,
                class,
                shape: &shape,
                cost,
                model_compute,
            }));
        }
    }

    /// The number of `span` among the kinds: that at the same place of the phase before, if it is the same, else a new one.
    fn kind(&mut self, span: Span) -> u32 {
        if matches!(span, Span::Phase(..)) {
            self.cursor = 0;
        }
        let place = self.cursor;
        self.cursor += 1;
        if let Some(kind) = self.pattern.get(place).copied()
            && self.kinds[kind as usize] == span
        {
            return kind;
        }
        let kind = self.kinds.len() as u32;
        self.kinds.push(span);
        match self.pattern.get_mut(place) {
            Some(known) => *known = kind,
            None => self.pattern.push(kind),
        }
        kind
    }
}
