//! The host clock behind the [`Observer`] trait: right for the CPU, where an operator has ended when its call returns.
//!
//! Recording one span costs two reads of a counter and one push into memory set aside before.

use super::observer::{Observer, Phase, Span};
use super::span_log::SpanLog;
use super::ticks::Ticks;
use crate::estimate::format::Format;
use crate::trace::timeline::Timeline;

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
    log: SpanLog,
}

impl HostTimer {
    /// A timer with room for `capacity` spans; without `operators` it records nothing.
    pub fn new(operators: bool, capacity: usize) -> Self {
        Self { operators, active: operators, clock: Ticks::start(), log: SpanLog::with_capacity(capacity) }
    }

    /// Forgets what was recorded and starts its clock anew.
    pub fn restart(&mut self, operators: bool) {
        self.operators = operators;
        self.log.clear();
        self.clock = Ticks::start();
    }

    /// Spans recorded so far.
    pub fn len(&self) -> usize {
        self.log.len()
    }

    /// True before the first span.
    pub fn is_empty(&self) -> bool {
        self.log.is_empty()
    }

    /// Appends the recorded spans to `timeline` as repeat `repeat`, shifted by `offset_ns`; see [`SpanLog::append_to`].
    pub fn append_to(&self, timeline: &mut Timeline, repeat: u32, offset_ns: u64, activation: Format) {
        let scale = self.clock.scale();
        self.log.append_to(timeline, repeat, activation, &|stamp| scale.ns(stamp) + offset_ns);
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
        if self.active {
            self.log.open(span, Ticks::now);
        }
    }
    fn end(&mut self) {
        if self.active {
            self.log.close(Ticks::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::estimate::operator::Operator;
    use crate::instrument::observer::Module;
    use crate::trace::timeline::NONE;

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
