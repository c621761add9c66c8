//! From which repeat on a series is steady: the end of the warm-up.

use serde::{Deserialize, Serialize};

/// Fewest values that are judged.
pub const MIN_VALUES: usize = 6;

/// What is known about the warm-up of a series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WarmUp {
    /// First position of the steady part: 0 where no warm-up shows; null where the series had not become steady when it ended.
    pub steady_from: Option<usize>,
    /// p of the (last) change that was found, or of the most striking one where none was.
    pub p_value: f64,
    /// Median of the rows before over that of the rows after, minus 1; null where no change was found.
    pub shift: Option<f64>,
}

/// Where the warm-up of `values` (positive, in the order they were measured) ends; `None` for fewer than [`MIN_VALUES`] or a value that is
/// not positive and finite.
///
/// For "warm up until steady", call it after each repeat and stop when `steady_from` is some k with enough repeats after it.
pub fn warm_up(values: &[f64], seed: u64) -> Option<WarmUp> {
    let _ = (values, seed);
    None
}
