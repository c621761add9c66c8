//! What observing costs: repeats with spans against repeats without, with an interval.

use crate::stats::summary::Summary;

/// Overhead of operator spans on one measure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Overhead {
    /// median(with) / median(without) − 1: 0.01 is one per cent slower.
    pub overhead: f64,
    /// 95 % bootstrap interval of `overhead`; null where a side has fewer than two values.
    pub ci95: Option<[f64; 2]>,
    /// Values without spans.
    pub n_without: u64,
    /// Values with spans.
    pub n_with: u64,
}

/// What can be said of an overhead and a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverheadVerdict {
    /// The whole interval is at or below the limit.
    Within,
    /// The whole interval is above it.
    Exceeds,
    /// The interval holds the limit, or there is none.
    CannotTell,
}

impl Overhead {
    /// Compares the interval with `limit` (0.01 for one per cent).
    pub fn verdict(&self, limit: f64) -> OverheadVerdict {
        let _ = limit;
        todo!()
    }
    /// As a measure: `p50` is the estimate, `ci95` the bootstrap interval, `n` the smaller side; the rest is null.
    pub fn to_summary(self) -> Summary {
        todo!()
    }
}

/// The overhead from times of interleaved repeats (or of their steps), `without` and `with` operator spans.
///
/// Null if a side is empty, holds a value that is not finite, or the median without spans is not positive.
pub fn span_overhead(without: &[f64], with: &[f64], seed: u64) -> Option<Overhead> {
    let _ = (without, with, seed);
    todo!()
}
