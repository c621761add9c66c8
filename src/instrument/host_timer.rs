//! The host clock behind the [`Observer`] trait: right for the CPU, where an operator has ended when its call returns.
//!
//! Recording one span costs two reads of a counter and one push into memory set aside before; everything else (names, costs, parents, the
//! conversion to nanoseconds) is worked out after the repeat, in [`HostTimer::append_to`].

use super::ticks::Ticks;

use super::observer::{Observer, Phase, Span};
use crate::estimate::format::Format;
use crate::estimate::operator::Cost;
use crate::trace::timeline::{NONE, SpanKind, SpanRow, Timeline};

/// One recorded span: which of the kinds it is, in ticks, and the record it opened in. Small, because each one is written to memory that
/// the operators would rather have in cache.
#[derive(Debug, Clone, Copy)]
struct Record {
    kind: u32,
    parent: u32,
    start: u64,
    end: u64,
}

/// Whether decode step `step` (from 1) of a repeat with spans records them: on, off, off, on.
///
/// Steps with and without spans stand side by side in one repeat, so that what recording costs can be told from neighbours: from repeat
/// to repeat a machine drifts by more than that. The mirrored order cancels the growth of the KV cache.
pub fn records_step(step: u32) -> bool {
    matches!(step.wrapping_sub(1) % 4, 0 | 3)
}

/// Records spans of the prompt pass and of every second decode step, see [`records_step`]; or nothing.
#[derive(Debug)]
pub struct HostTimer {
    operators: bool,
    /// Whether the phase under way is recorded.
    active: bool,
    clock: Ticks,
    records: Vec<Record>,
    open: Vec<u32>,
    /// Distinct spans.
    kinds: Vec<Span>,
    /// The kinds of the phase before, in order: most steps repeat them one by one.
    pattern: Vec<u32>,
    /// Place in `pattern`.
    cursor: usize,
}

impl HostTimer {
    /// A timer with room for `capacity` spans; without `operators` it records nothing.
    pub fn new(operators: bool, capacity: usize) -> Self {
        let mut records = Vec::new();
        // Touch the memory now: a page fault inside a span would be booked to the operator.
        records.resize(capacity, Record { kind: 0, parent: NONE, start: 0, end: 0 });
        records.clear();
        Self {
            operators,
            active: operators,
            clock: Ticks::start(),
            records,
            open: Vec::with_capacity(8),
            kinds: Vec::new(),
            pattern: Vec::new(),
            cursor: 0,
        }
    }

    /// Forgets what was recorded and starts its clock anew.
    pub fn restart(&mut self, operators: bool) {
        self.operators = operators;
        self.records.clear();
        self.open.clear();
        self.kinds.clear();
        self.pattern.clear();
        self.cursor = 0;
        self.clock = Ticks::start();
    }

    /// Spans recorded so far.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// True before the first span.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Appends the recorded spans to `timeline` as repeat `repeat`, shifted by `offset_ns`.
    ///
    /// `activation` is the format of activations, from which operator bytes are counted. A span that never ended is left out with its
    /// children.
    pub fn append_to(&self, timeline: &mut Timeline, repeat: u32, offset_ns: u64, activation: Format) {
        let scale = self.clock.scale();
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
            if record.end < record.start || lost_parent {
                rows.push(NONE);
                continue;
            }
            let parent = if record.parent == NONE { NONE } else { rows[record.parent as usize] };
            rows.push(timeline.push_span(SpanRow {
                start_ns: scale.ns(record.start) + offset_ns,
                end_ns: scale.ns(record.end) + offset_ns,
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
}

impl HostTimer {
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

impl Observer for HostTimer {
    fn wants_operators(&self) -> bool {
        self.active
    }
    fn begin(&mut self, span: Span) {
        if let Span::Phase(phase, step) = span {
            self.active = self.operators && (phase == Phase::Prefill || records_step(step));
        }
        if !self.active {
            return;
        }
        let kind = self.kind(span);
        let parent = self.open.last().copied().unwrap_or(NONE);
        self.open.push(self.records.len() as u32);
        // The clock is read last, so that the bookkeeping is outside the span. An end before the start marks an open span.
        self.records.push(Record { kind, parent, start: u64::MAX, end: 0 });
        if let Some(record) = self.records.last_mut() {
            record.start = Ticks::now();
        }
    }
    fn end(&mut self) {
        if !self.active {
            return;
        }
        let now = Ticks::now();
        if let Some(record) = self.open.pop().and_then(|index| self.records.get_mut(index as usize)) {
            record.end = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::estimate::operator::Operator;
    use crate::instrument::observer::Module;

    #[test]
    fn spans_inherit_phase_step_and_layer_and_know_their_parents() {
        let mut timer = HostTimer::new(true, 16);
        timer.begin(Span::Phase(Phase::Decode, 4));
        timer.begin(Span::Layer(7));
        timer.begin(Span::Module(Module::Mlp));
        timer.begin(Span::Operator(Module::ActFn, Operator::SiluMul { rows: 1, width: 4 }));
        for _ in 0..4 {
            timer.end();
        }
        let mut timeline = Timeline::default();
        timer.append_to(&mut timeline, 5, 1_000, Format::F32);
        let spans = &timeline.spans;
        assert_eq!(spans.len(), 4);
        assert_eq!(spans.parent, [NONE, 0, 1, 2]);
        assert_eq!((spans.step[3], spans.layer[3], spans.repeat[3]), (4, 7, 5));
        assert_eq!(timeline.strings.get(spans.phase[3]), "decode");
        assert_eq!(spans.cost[3].activation_bytes, 3 * 4 * 4);
        assert!(spans.start_ns[0] >= 1_000);
        assert!((1..4).all(|i| spans.start_ns[i] >= spans.start_ns[i - 1] && spans.end_ns[i] <= spans.end_ns[i - 1]));
    }

    #[test]
    fn every_second_step_records_and_the_others_cost_nothing() {
        let mut timer = HostTimer::new(true, 16);
        for step in 1..=8 {
            timer.begin(Span::Phase(Phase::Decode, step));
            assert_eq!(timer.wants_operators(), [1, 4, 5, 8].contains(&step), "step {step}");
            timer.end();
        }
        let mut timeline = Timeline::default();
        timer.append_to(&mut timeline, 0, 0, Format::F32);
        assert_eq!(timeline.spans.step, [1, 4, 5, 8]);
        timer.restart(false);
        timer.begin(Span::Phase(Phase::Prefill, 0));
        timer.end();
        assert!(timer.is_empty(), "a repeat without spans records nothing");
    }

    #[test]
    fn a_span_that_never_ended_is_left_out() {
        let mut timer = HostTimer::new(true, 4);
        timer.begin(Span::Phase(Phase::Prefill, 0));
        timer.end();
        timer.begin(Span::Phase(Phase::Decode, 1));
        let mut timeline = Timeline::default();
        timer.append_to(&mut timeline, 0, 0, Format::F32);
        assert_eq!(timeline.spans.len(), 1);
    }
}
