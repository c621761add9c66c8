//! How small a difference a study can find, and how many units a difference needs.
//!
//! Ratios are differences of logarithms, so everything is the power of a t test on logarithms: noncentral t (Johnson, Kotz & Balakrishnan,
//! "Continuous Univariate Distributions" 2, 2nd ed. 1995, ch. 31; Chow, Shao & Wang, "Sample Size Calculations in Clinical Research", 2nd ed.
//! 2008, §3). Where the sides have different numbers of units, n and m, use their harmonic mean 2/(1/n + 1/m).

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};
use statrs::function::gamma::ln_gamma;

use super::ratio::{IntervalMethod, MIN_SIGNED_RANK, RatioEstimate};
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
    /// Blocks that hold both sides; the spread is the standard deviation of ln(candidate / baseline) among blocks. From
    /// [`super::ratio::MIN_SIGNED_RANK`] blocks on they are judged by signed ranks, which use 3/π of normal data (Hodges & Lehmann, Ann.
    /// Math. Statist. 27, 1956).
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
        PowerDesign::Paired => {
            let used = if units >= MIN_SIGNED_RANK as u64 { 3.0 / std::f64::consts::PI } else { 1.0 };
            (n - 1.0, spread / (used * n).sqrt())
        }
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
        let middle = f64::midpoint(low, high);
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
    fewest(found)
}

/// Smallest ratio above 1 that another study like the one behind `estimate` would find with chance `power`, whatever its design and
/// statistic: from the width of its interval at `confidence`. `None` for an interval of another confidence than (0, 1) or a power outside
/// (1 − confidence, 1).
pub fn minimal_detectable_from(estimate: &RatioEstimate, confidence: f64, power: f64) -> Option<f64> {
    let (error, freedom) = log_error(estimate, confidence)?;
    let alpha = 1.0 - confidence;
    if !(inside(power) && power > alpha) {
        return None;
    }
    let reach = student_t_quantile(1.0 - alpha / 2.0, freedom)? + student_t_quantile(power, freedom)?;
    Some((reach * error).exp()).filter(|ratio| ratio.is_finite())
}

/// Units per side (of the side with fewer) a study like the one behind `estimate` would need to find a true `ratio` with chance `power`: its
/// error shrinks with the root of their number. `None` as for [`minimal_detectable_from`], for a ratio of 1, or above [`MOST_UNITS`].
pub fn units_needed_from(estimate: &RatioEstimate, ratio: f64, confidence: f64, power: f64) -> Option<u64> {
    let (error, freedom) = log_error(estimate, confidence)?;
    let alpha = 1.0 - confidence;
    let difference = ratio.ln().abs();
    if !(difference > 0.0 && difference.is_finite() && inside(power) && power > alpha) {
        return None;
    }
    let units = estimate.units_candidate.min(estimate.units_baseline).max(2);
    if error == 0.0 {
        return Some(2);
    }
    let found = |needed: u64| {
        let share = needed as f64 / units as f64;
        let freedom = freedom / units as f64 * needed as f64;
        let power_then = two_sided_power(difference / (error / share.sqrt()), freedom.max(1.0), alpha);
        power_then.map(|then| then >= power)
    };
    fewest(found)
}

/// Standard error of ln(ratio) that the interval implies, and its degrees of freedom.
fn log_error(estimate: &RatioEstimate, confidence: f64) -> Option<(f64, f64)> {
    if !inside(confidence) {
        return None;
    }
    let (n, m) = (estimate.units_candidate as f64, estimate.units_baseline as f64);
    let freedom = match estimate.method {
        IntervalMethod::SignedRank | IntervalMethod::StudentLog => n - 1.0,
        _ => n + m - 2.0,
    };
    let [low, high] = estimate.interval;
    let half = (high / low).ln() / 2.0;
    let t = student_t_quantile(0.5 + confidence / 2.0, freedom)?;
    (half >= 0.0 && half.is_finite()).then_some((half / t, freedom))
}

/// The fewest units, from 2, for which `found`.
fn fewest(found: impl Fn(u64) -> Option<bool>) -> Option<u64> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn close(actual: f64, expected: f64) {
        assert!((actual - expected).abs() <= 1e-8 * expected.abs(), "{actual} is not {expected}");
    }

    /// The ratio whose logarithm is `effect` standard deviations of `spread`.
    fn ratio(effect: f64, spread: f64) -> f64 {
        (effect * spread).exp()
    }

    #[test]
    fn power_agrees_with_statsmodels() {
        // statsmodels 0.15.0: tt_ind_solve_power(effect_size, nobs1, alpha=.05, power=None)
        for (effect, n, expected) in [
            (0.5, 20, 0.3379390289250411),
            (1.0, 10, 0.5620066465861491),
            (2.0, 3, 0.46264081189130635),
            (0.1, 500, 0.3520444486327584),
        ] {
            close(power(ratio(effect, 0.02), 0.02, n, PowerDesign::Independent, 0.05).unwrap(), expected);
            close(power(1.0 / ratio(effect, 0.02), 0.02, n, PowerDesign::Independent, 0.05).unwrap(), expected);
        }
        // TTestPower().power(effect, 3, .05, alternative='two-sided'); with signed ranks the effect is √(3/π) of what it is.
        close(power(ratio(2.0, 0.02), 0.02, 3, PowerDesign::Paired, 0.05).unwrap(), 0.4707494312784346);
        let whole = (std::f64::consts::PI / 3.0).sqrt();
        for (effect, n, expected) in [(0.5, 20, 0.5645044184390203), (1.0, 10, 0.8030968566327218)] {
            close(power(ratio(effect * whole, 0.02), 0.02, n, PowerDesign::Paired, 0.05).unwrap(), expected);
        }
    }

    #[test]
    fn sizes_and_detectable_ratios_agree_with_statsmodels() {
        // tt_ind_solve_power(effect_size=np.log(1.02)/.05, alpha=.05, power=.8) = 101.05
        assert_eq!(units_needed(1.02, 0.05, PowerDesign::Independent, 0.05, 0.8), Some(102));
        assert_eq!(units_needed(1.0 / 1.02, 0.05, PowerDesign::Independent, 0.05, 0.8), Some(102));
        // TTestPower().solve_power(np.log(1.02)/.05, alpha=.05, power=.8) = 51.99; with 3/π of it used, 54.35.
        assert_eq!(units_needed(1.02, 0.05, PowerDesign::Paired, 0.05, 0.8), Some(55));
        // np.exp(.05 * tt_ind_solve_power(nobs1=10, alpha=.05, power=.8))
        let smallest = minimal_detectable_ratio(0.05, 10, PowerDesign::Independent, 0.05, 0.8).unwrap();
        close(smallest, 1.0684909954032225);
    }

    #[test]
    fn what_is_no_study_has_no_power() {
        use PowerDesign::{Independent, Paired};
        assert_eq!(power(1.1, 0.05, 1, Independent, 0.05), None);
        assert_eq!(power(-1.0, 0.05, 9, Independent, 0.05), None);
        assert_eq!(power(1.1, f64::NAN, 9, Independent, 0.05), None);
        assert_eq!(units_needed(1.0, 0.05, Paired, 0.05, 0.8), None);
        assert_eq!(units_needed(1.0 + 1e-9, 0.5, Paired, 0.05, 0.8), None);
        assert_eq!(units_needed(1.1, 0.05, Paired, 0.05, 1.0), None);
        assert_eq!(units_needed(1.1, 0.0, Paired, 0.05, 0.8), Some(2));
        assert_eq!(minimal_detectable_ratio(0.0, 5, Paired, 0.05, 0.8), Some(1.0));
        assert_eq!(log_spread(&[1.0, 0.0]), None);
        assert_eq!(paired_log_spread(&[1.0, 2.0], &[1.0]), None);
    }

    #[test]
    fn spreads_are_those_of_logarithms() {
        let (e, one) = (std::f64::consts::E, 1.0);
        close(log_spread(&[one, e, e * e]).unwrap(), 1.0);
        close(pooled_log_spread(&[one, e, e * e], &[5.0, 5.0 * e, 5.0 * e * e]).unwrap(), 1.0);
        close(paired_log_spread(&[2.0, 2.0 * e, 2.0 * e * e], &[2.0, 2.0, 2.0]).unwrap(), 1.0);
    }

    #[test]
    fn an_estimate_tells_the_size_of_the_next_study() {
        // A t interval of 20 blocks whose standard error is 1 %: t(.975, 19) = 2.093.
        let half = 2.093_024_054_408_263f64 * 0.01;
        let estimate = RatioEstimate {
            ratio: 1.0,
            interval: [(-half).exp(), half.exp()],
            equivalence_interval: [1.0, 1.0],
            p_value: 1.0,
            method: IntervalMethod::StudentLog,
            n_candidate: 20,
            n_baseline: 20,
            units_candidate: 20,
            units_baseline: 20,
        };
        // (2.0930 + t(.8, 19) = 0.8610) × 1 %
        let smallest = minimal_detectable_from(&estimate, 0.95, 0.8).unwrap().ln();
        assert!((smallest - 0.02954).abs() < 1e-5, "{smallest}");
        let needed = |ratio: f64| units_needed_from(&estimate, ratio, 0.95, 0.8).unwrap();
        // TTestPower().solve_power(np.log(ratio)/(.01*20**.5), alpha=.05, power=.8): 19.97 and 72.76
        assert_eq!((needed(1.03), needed(1.015)), (20, 73));
        assert_eq!(units_needed_from(&estimate, 1.0, 0.95, 0.8), None);
    }
}
