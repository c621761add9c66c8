//! How small a difference a study can find, and how many units a difference needs.
//!
//! Ratios are differences of logarithms, so everything is the power of a t test on logarithms: noncentral t (Johnson, Kotz & Balakrishnan,
//! "Continuous Univariate Distributions" 2, 2nd ed. 1995, ch. 31; Chow, Shao & Wang, "Sample Size Calculations in Clinical Research", 2nd ed.
//! 2008, §3). Where the sides have different numbers of units, n and m, use their harmonic mean 2/(1/n + 1/m).

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};
use statrs::function::gamma::ln_gamma;

use super::summary::{mean, standard_deviation, student_t_quantile};

/// More units than this are not a plan for a study.
pub const MOST_UNITS: u64 = 1_000_000_000;
/// Points of the integral behind a power; Simpson's rule with them is right to ten digits.
const POINTS: usize = 1000;

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
    let logs = logarithms(values)?;
    standard_deviation(&logs, mean(&logs)?)
}

/// Pooled standard deviation of the logarithms of two independent samples (the spread for [`PowerDesign::Independent`]).
pub fn pooled_log_spread(candidate: &[f64], baseline: &[f64]) -> Option<f64> {
    let (s, t) = (log_spread(candidate)?, log_spread(baseline)?);
    let (n, m) = ((candidate.len() - 1) as f64, (baseline.len() - 1) as f64);
    Some(((n * s * s + m * t * t) / (n + m)).sqrt())
}

/// Standard deviation of ln(candidate / baseline) of pairs (the spread for [`PowerDesign::Paired`]); `None` also for unequal lengths.
pub fn paired_log_spread(candidate: &[f64], baseline: &[f64]) -> Option<f64> {
    if candidate.len() != baseline.len() {
        return None;
    }
    let (a, b) = (logarithms(candidate)?, logarithms(baseline)?);
    let differences: Vec<f64> = a.iter().zip(&b).map(|(a, b)| a - b).collect();
    standard_deviation(&differences, mean(&differences)?)
}

/// The logarithms of positive, finite values; `None` if one is neither.
pub(super) fn logarithms(values: &[f64]) -> Option<Vec<f64>> {
    values.iter().map(|value| (*value > 0.0 && value.is_finite()).then(|| value.ln())).collect()
}

/// Chance that a two-sided test at `alpha` finds a true `ratio` with `units` per side (blocks, if paired); `None` for fewer than two units
/// or settings that are no numbers of their kind (ratio > 0, spread ≥ 0, 0 < alpha < 1).
pub fn power(ratio: f64, spread: f64, units: u64, design: PowerDesign, alpha: f64) -> Option<f64> {
    let sensible = ratio > 0.0 && ratio.is_finite() && spread >= 0.0 && spread.is_finite() && inside(alpha);
    if !sensible || units < 2 {
        return None;
    }
    let difference = ratio.ln().abs();
    if spread == 0.0 {
        return Some(if difference > 0.0 { 1.0 } else { alpha });
    }
    let n = units as f64;
    let (freedom, error) = match design {
        PowerDesign::Independent => (2.0 * n - 2.0, spread * (2.0 / n).sqrt()),
        PowerDesign::Paired => (n - 1.0, spread / n.sqrt()),
    };
    two_sided_power(difference / error, freedom, alpha)
}

/// Smallest ratio above 1 that is found with chance `power`; its reciprocal is the one below 1. `None` as for [`power()`], for a power
/// outside (alpha, 1), or where no ratio up to e¹⁰⁰ is found.
pub fn minimal_detectable_ratio(spread: f64, units: u64, design: PowerDesign, alpha: f64, power: f64) -> Option<f64> {
    if !(inside(power) && power > alpha) {
        return None;
    }
    let found = |difference: f64| self::power(difference.exp(), spread, units, design, alpha).map(|p| p >= power);
    let (mut low, mut high) = (0.0, 100.0);
    if spread == 0.0 {
        return found(high).map(|_| 1.0);
    }
    if !found(high)? {
        return None;
    }
    // 60 halvings leave nothing of the range.
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if found(middle)? { high = middle } else { low = middle }
    }
    Some(high.exp())
}

/// Units per side (blocks, if paired) that find a true `ratio` with chance `power`; `None` as for [`power()`], for a ratio of 1, or if
/// more than [`MOST_UNITS`] were needed.
pub fn units_needed(ratio: f64, spread: f64, design: PowerDesign, alpha: f64, power: f64) -> Option<u64> {
    if !(inside(power) && power > alpha) {
        return None;
    }
    let found = |units: u64| self::power(ratio, spread, units, design, alpha).map(|p| p >= power);
    let mut enough = 2;
    while !found(enough)? {
        if enough > MOST_UNITS {
            return None;
        }
        enough *= 2;
    }
    let mut few = enough / 2;
    while enough - few > 1 {
        let middle = few.midpoint(enough);
        if middle >= 2 && found(middle)? { enough = middle } else { few = middle }
    }
    Some(enough).filter(|units| *units <= MOST_UNITS)
}

fn inside(share: f64) -> bool {
    share > 0.0 && share < 1.0
}

/// P(|T| > t) for noncentral T, integrated over the estimated spread s (a χ variable over √ν) by Simpson's rule.
fn two_sided_power(noncentrality: f64, freedom: f64, alpha: f64) -> Option<f64> {
    let normal = Normal::new(0.0, 1.0).ok()?;
    let critical = student_t_quantile(1.0 - alpha / 2.0, freedom)?;
    let width = 12.0 / (2.0 * freedom).sqrt();
    let (low, high) = ((1.0 - width).max(0.0), 1.0 + width);
    let constant = std::f64::consts::LN_2 + freedom / 2.0 * (freedom / 2.0).ln() - ln_gamma(freedom / 2.0);
    let step = (high - low) / POINTS as f64;
    let mut total = 0.0;
    for point in 0..=POINTS {
        let s = low + step * point as f64;
        // s⁰ is 1 at s = 0, where its logarithm times 0 would be no number.
        let power_of_s = if freedom == 1.0 { 0.0 } else { (freedom - 1.0) * s.ln() };
        let density = (constant + power_of_s - freedom * s * s / 2.0).exp();
        let rejected = normal.sf(critical * s - noncentrality) + normal.cdf(-critical * s - noncentrality);
        let weight = if point == 0 || point == POINTS { 1.0 } else { [2.0, 4.0][point % 2] };
        total += weight * density * rejected;
    }
    Some((total * step / 3.0).clamp(0.0, 1.0))
}
