//! How small a difference a study can find, and how many units a difference needs.

use serde::{Deserialize, Serialize};

/// How the units of the two sides are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PowerDesign {
    /// Independent units on each side; the spread is the standard deviation of ln(value) among units of one side.
    Independent,
    /// Blocks that hold both sides; the spread is the standard deviation of ln(candidate / baseline) among blocks.
    Paired,
}

/// Sample standard deviation of the logarithms; `None` for fewer than two values or one that is not positive and finite.
pub fn log_spread(values: &[f64]) -> Option<f64> {
    let _ = values;
    None
}

/// Pooled standard deviation of the logarithms of two independent samples (the spread for [`PowerDesign::Independent`]).
pub fn pooled_log_spread(candidate: &[f64], baseline: &[f64]) -> Option<f64> {
    let _ = (candidate, baseline);
    None
}

/// Standard deviation of ln(candidate / baseline) of pairs (the spread for [`PowerDesign::Paired`]).
pub fn paired_log_spread(candidate: &[f64], baseline: &[f64]) -> Option<f64> {
    let _ = (candidate, baseline);
    None
}

/// Chance that a two-sided test at `alpha` finds a true `ratio` with `units` per side (blocks, if paired).
pub fn power(ratio: f64, spread: f64, units: u64, design: PowerDesign, alpha: f64) -> Option<f64> {
    let _ = (ratio, spread, units, design, alpha);
    None
}

/// Smallest ratio above 1 that is found with chance `power`; its reciprocal is the one below 1.
pub fn minimal_detectable_ratio(spread: f64, units: u64, design: PowerDesign, alpha: f64, power: f64) -> Option<f64> {
    let _ = (spread, units, design, alpha, power);
    None
}

/// Units per side (blocks, if paired) that find a true `ratio` with chance `power`.
pub fn units_needed(ratio: f64, spread: f64, design: PowerDesign, alpha: f64, power: f64) -> Option<u64> {
    let _ = (ratio, spread, design, alpha, power);
    None
}
