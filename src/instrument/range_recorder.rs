//! Our own ranges as the built-in tracer keeps them: every span of a repeat, stamped with the cheapest counter, on the thread that submits
//! the work.

use super::observer::{Observer, Span};
use super::range_names::RangeName;
use super::ticks::Ticks;

/// One range, in ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordedRange {
    /// What it is called.
    pub name: RangeName,
    /// Begin.
    pub start: u64,
    /// End; before the begin for a range that was never closed.
    pub end: u64,
}

/// Records every range of a repeat; unlike [`super::host_timer::HostTimer`] of every step, since a trace has no steps to compare with.
#[derive(Debug)]
pub struct RangeRecorder {
    ranges: Vec<RecordedRange>,
    open: Vec<u32>,
}

impl RangeRecorder {
    /// A recorder with room for `capacity` ranges.
    pub fn with_capacity(capacity: usize) -> Self {
        let empty = RecordedRange { name: RangeName::Request, start: 0, end: 0 };
        let mut ranges = Vec::new();
        // Touch the memory now: a page fault later would stand in the trace as time between two launches.
        ranges.resize(capacity, empty);
        ranges.clear();
        Self { ranges, open: Vec::with_capacity(8) }
    }

    /// Opens a range that no span stands for.
    pub fn open(&mut self, name: RangeName) {
        self.open.push(self.ranges.len() as u32);
        self.ranges.push(RecordedRange { name, start: Ticks::now(), end: 0 });
    }

    /// Closes the innermost open range.
    pub fn close(&mut self) {
        let now = Ticks::now();
        if let Some(range) = self.open.pop().and_then(|row| self.ranges.get_mut(row as usize)) {
            range.end = now;
        }
    }

    /// What was recorded, in order of begin, and the memory back for the next repeat.
    pub fn take(&mut self) -> Vec<RecordedRange> {
        self.open.clear();
        let taken = self.ranges.clone();
        self.ranges.clear();
        taken
    }
}

impl Observer for RangeRecorder {
    fn wants_operators(&self) -> bool {
        true
    }
    fn separates_operators(&self) -> bool {
        false
    }
    fn begin(&mut self, span: Span) {
        self.open(RangeName::of(span));
    }
    fn end(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instrument::observer::{Module, Phase};

    #[test]
    fn every_step_is_recorded_and_ranges_nest() {
        let mut recorder = RangeRecorder::with_capacity(4);
        recorder.open(RangeName::Request);
        for step in 1..=3 {
            recorder.begin(Span::Phase(Phase::Decode, step));
            recorder.begin(Span::Module(Module::Mlp));
            recorder.end();
            recorder.end();
        }
        recorder.close();
        let ranges = recorder.take();
        assert_eq!(ranges.len(), 1 + 2 * 3);
        let request = ranges[0];
        assert!(ranges.iter().all(|range| range.start <= range.end));
        assert!(ranges.iter().all(|range| request.start <= range.start && range.end <= request.end));
        assert!(recorder.take().is_empty(), "taken is gone");
    }

    #[test]
    fn a_range_that_was_never_closed_ends_before_it_begins() {
        let mut recorder = RangeRecorder::with_capacity(2);
        recorder.begin(Span::Phase(Phase::Prefill, 0));
        let ranges = recorder.take();
        assert!(ranges[0].end < ranges[0].start);
    }
}
