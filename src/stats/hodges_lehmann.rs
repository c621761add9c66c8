//! Hodges–Lehmann shift with its distribution-free interval.

use serde::{Deserialize, Serialize};

/// A shift and its interval, in the unit of the values.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Shift {
    /// The Hodges–Lehmann estimate.
    pub shift: f64,
    /// The interval; null where n is too small for the confidence asked for.
    pub interval: Option<[f64; 2]>,
    /// Confidence the interval has in truth (at least the one asked for, by the discreteness of ranks); null without an interval.
    pub achieved: Option<f64>,
}

/// The shift candidate − baseline of two independent samples: the median of all differences.
pub fn two_sample(candidate: &[f64], baseline: &[f64], confidence: f64) -> Option<Shift> {
    let _ = (candidate, baseline, confidence);
    None
}

/// The centre of one sample (or of paired differences): the median of all pairwise averages (Walsh averages).
pub fn one_sample(values: &[f64], confidence: f64) -> Option<Shift> {
    let _ = (values, confidence);
    None
}
