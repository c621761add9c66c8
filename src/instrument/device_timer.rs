//! The clock of the device behind the [`Observer`] trait: phases always, operators where they are asked for.
//!
//! A launch returns before its work has begun, so a host clock around it measures the launch. Stamps go into the stream instead: a phase
//! or an operator lasts from the event before its first kernel to the event after its last. Where the host is slower than the device, the time the
//! device waits for the next launch is inside the span; a trace of the kernels tells the two apart.

use super::device_clock::DeviceClock;
use super::host_timer::records_step;
use super::observer::{Observer, Phase, Span};
use super::span_log::SpanLog;
use crate::estimate::format::Format;
use crate::trace::timeline::Timeline;

/// What the device took for a generation, by events on its stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevicePhases {
    /// From the first event of the prompt pass to the one after the first token was chosen, ns.
    pub prefill_ns: u64,
    /// Each decode step, ns.
    pub decode_ns: Vec<u64>,
    /// From the first event of the prompt pass to the last event of the last step, ns.
    pub total_ns: u64,
}

/// Records phases, and operators of every second step of a repeat with spans (see [`records_step`]).
pub struct DeviceTimer {
    operators: bool,
    /// Whether operators of the phase under way are recorded.
    active: bool,
    clock: Box<dyn DeviceClock>,
    log: SpanLog,
    /// Depth of open spans that are not recorded.
    skipped: u32,
    /// Where the work of the open phase ended, if that was said before its end.
    submitted: Option<u64>,
}

impl DeviceTimer {
    /// A timer on `clock` with room for `capacity` spans.
    pub fn new(clock: Box<dyn DeviceClock>, operators: bool, capacity: usize) -> Self {
        Self { operators, active: operators, clock, log: SpanLog::with_capacity(capacity), skipped: 0, submitted: None }
    }

    /// Forgets what was recorded.
    pub fn restart(&mut self, operators: bool) {
        self.operators = operators;
        self.skipped = 0;
        self.submitted = None;
        self.log.clear();
        self.clock.restart();
    }

    /// The phases by the device's clock; `None` if none was recorded.
    ///
    /// # Errors
    /// What the driver said.
    pub fn phases(&mut self) -> Result<Option<DevicePhases>, String> {
        let times = self.clock.times_ns()?;
        let at =
            |stamp: u64| times.get(stamp as usize).copied().ok_or_else(|| format!("event {stamp} was never recorded"));
        let mut found = DevicePhases { prefill_ns: 0, decode_ns: Vec::new(), total_ns: 0 };
        let mut first = None;
        for (phase, _, start, end) in self.log.phases() {
            let (start, end) = (at(start)?, at(end)?);
            let origin = *first.get_or_insert(start);
            match phase {
                Phase::Prefill => found.prefill_ns += end.saturating_sub(start),
                Phase::Decode => found.decode_ns.push(end.saturating_sub(start)),
            }
            found.total_ns = end.saturating_sub(origin);
        }
        Ok(first.map(|_| found))
    }

    /// Appends the recorded spans to `timeline` as repeat `repeat`; phases of steps whose operators were not recorded are left out, as their
    /// time would count as unattributed.
    ///
    /// # Errors
    /// What the driver said.
    pub fn append_to(&mut self, timeline: &mut Timeline, repeat: u32, activation: Format) -> Result<(), String> {
        let times = self.clock.times_ns()?;
        self.log.append_where(
            timeline,
            repeat,
            activation,
            &|phase, step| phase == Phase::Prefill || records_step(step),
            &|stamp| times.get(stamp as usize).copied().unwrap_or(0),
        );
        Ok(())
    }
}

impl Observer for DeviceTimer {
    fn wants_operators(&self) -> bool {
        self.active
    }
    fn begin(&mut self, span: Span) {
        let phase = if let Span::Phase(phase, step) = span {
            self.active = self.operators && (phase == Phase::Prefill || records_step(step));
            true
        } else {
            false
        };
        if phase || self.active {
            self.log.open(span, || self.clock.stamp());
        } else {
            self.skipped += 1;
        }
    }
    fn submitted(&mut self) {
        self.submitted = Some(self.clock.stamp());
    }
    fn end(&mut self) {
        if self.skipped > 0 {
            self.skipped -= 1;
        } else {
            let stamp = self.submitted.take().unwrap_or_else(|| self.clock.stamp());
            self.log.close(stamp);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::estimate::operator::Operator;
    use crate::instrument::observer::Module;

    /// Each stamp is 10 ns after the one before.
    #[derive(Default)]
    struct TenNs {
        stamps: u64,
        broken: bool,
    }

    impl DeviceClock for TenNs {
        fn restart(&mut self) {
            self.stamps = 0;
        }
        fn stamp(&mut self) -> u64 {
            self.stamps += 1;
            self.stamps - 1
        }
        fn times_ns(&mut self) -> Result<Vec<u64>, String> {
            if self.broken {
                Err("the device is gone".to_owned())
            } else {
                Ok((0..self.stamps).map(|n| n * 10).collect())
            }
        }
    }

    fn run(timer: &mut DeviceTimer, steps: u32) {
        for step in 0..=steps {
            let phase = if step == 0 { Phase::Prefill } else { Phase::Decode };
            timer.begin(Span::Phase(phase, step));
            if timer.wants_operators() {
                timer.begin(Span::Operator(Module::ActFn, Operator::SiluMul { rows: 1, width: 4 }));
                timer.end();
            }
            timer.end();
        }
    }

    #[test]
    fn phases_are_stamped_whether_operators_are_or_not() {
        let mut timer = DeviceTimer::new(Box::<TenNs>::default(), false, 0);
        run(&mut timer, 3);
        let phases = timer.phases().unwrap().unwrap();
        // Two stamps a phase: each lasts 10 ns with 10 ns to the next.
        assert_eq!(phases, DevicePhases { prefill_ns: 10, decode_ns: vec![10; 3], total_ns: 70 });
        timer.restart(true);
        run(&mut timer, 4);
        let phases = timer.phases().unwrap().unwrap();
        // Steps 1 and 4 record an operator, so they hold two stamps more.
        assert_eq!(phases.decode_ns, [30, 10, 10, 30]);
        assert_eq!(phases.prefill_ns, 30);
    }

    #[test]
    fn spans_hold_the_recorded_steps_only_and_lie_on_the_clock_of_the_device() {
        let mut timer = DeviceTimer::new(Box::<TenNs>::default(), true, 16);
        run(&mut timer, 4);
        let mut timeline = Timeline::default();
        timer.append_to(&mut timeline, 0, Format::BF16).unwrap();
        assert_eq!(timeline.spans.step, [0, 0, 1, 1, 4, 4]);
        assert_eq!(timeline.spans.start_ns, [0, 10, 40, 50, 120, 130]);
        assert_eq!(timeline.spans.end_ns, [30, 20, 70, 60, 150, 140]);
    }

    #[test]
    fn a_phase_ends_where_its_work_was_submitted_and_not_after_the_wait() {
        let mut timer = DeviceTimer::new(Box::<TenNs>::default(), false, 0);
        timer.begin(Span::Phase(Phase::Prefill, 0));
        timer.submitted();
        // Whatever is stamped during the wait is not of the phase.
        timer.clock.stamp();
        timer.end();
        timer.begin(Span::Phase(Phase::Decode, 1));
        timer.end();
        let phases = timer.phases().unwrap().unwrap();
        assert_eq!(phases, DevicePhases { prefill_ns: 10, decode_ns: vec![10], total_ns: 40 });
    }

    #[test]
    fn a_device_that_is_gone_is_an_error_and_no_time() {
        let mut timer = DeviceTimer::new(Box::new(TenNs { stamps: 0, broken: true }), false, 0);
        run(&mut timer, 1);
        assert_eq!(timer.phases().unwrap_err(), "the device is gone");
    }
}
