//! Whether repeats drift: thermal throttling, a filling cache, a growing heap.
//!
//! Mann–Kendall's test for a monotonic trend (Mann, Econometrica 13, 1945; Kendall, "Rank Correlation Methods", 1975) with Sen's slope
//! (JASA 63, 1968). Both use ranks or medians, so one slow repeat does not look like a trend, as it would to a regression line.

use statrs::distribution::{ContinuousCDF, Normal};

use super::quantile::median;

/// Fewer repeats than this cannot show a trend at 5 %: the most extreme order of four has p = 2/4! = 0.083.
pub const MIN_VALUES: usize = 5;
/// Significance below which a trend is believed.
pub const ALPHA: f64 = 0.05;
/// Drift over the whole run, relative to the median, below which a trend does not matter.
pub const MIN_DRIFT: f64 = 0.02;
/// Without ties, p is exact up to this many values; beyond, the normal approximation is good to three digits.
const EXACT_UP_TO: usize = 50;

/// Trend of a series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trend {
    /// Mann–Kendall S: pairs that rise minus pairs that fall.
    pub s: i64,
    /// Two-sided p of no trend.
    pub p_value: f64,
    /// Sen's slope: the median of all pairwise slopes, per repeat.
    pub slope: f64,
    /// slope × (n − 1) / |median|: the relative change from first to last; null if the median is 0.
    pub drift: Option<f64>,
}

impl Trend {
    /// True if the trend is both significant ([`ALPHA`]) and large enough to matter ([`MIN_DRIFT`]).
    pub fn is_drifting(&self) -> bool {
        self.p_value < ALPHA && self.drift.is_some_and(|drift| drift.abs() > MIN_DRIFT)
    }
}

/// The trend of `values` in the order they were measured; `None` for fewer than [`MIN_VALUES`] or a value that is not finite.
pub fn trend(values: &[f64]) -> Option<Trend> {
    let n = values.len();
    if n < MIN_VALUES || values.iter().any(|value| !value.is_finite()) {
        return None;
    }
    let mut s = 0i64;
    let mut slopes = Vec::with_capacity(n * (n - 1) / 2);
    for later in 1..n {
        for earlier in 0..later {
            let rise = values[later] - values[earlier];
            s += i64::from(rise > 0.0) - i64::from(rise < 0.0);
            slopes.push(rise / (later - earlier) as f64);
        }
    }
    let slope = median(&slopes)?;
    let centre = median(values)?;
    let drift = (centre != 0.0).then(|| slope * (n - 1) as f64 / centre.abs());
    let ties = tie_groups(values);
    let p_value = if ties.is_empty() && n <= EXACT_UP_TO { exact_p(n, s) } else { normal_p(n, s, &ties)? };
    Some(Trend { s, p_value, slope, drift })
}

/// Sizes of the groups of equal values with more than one member.
fn tie_groups(values: &[f64]) -> Vec<u64> {
    let sorted = super::quantile::sorted(values);
    sorted.chunk_by(|a, b| a == b).map(|group| group.len() as u64).filter(|size| *size > 1).collect()
}

/// P(|S| ≥ |s|) over all n! orders, from the distribution of the number of inversions: adding the k-th value adds 0…k−1 of them,
/// each with probability 1/k (Kendall 1975, §5.2).
fn exact_p(n: usize, s: i64) -> f64 {
    let mut chance = vec![1.0f64];
    for k in 2..=n {
        let mut next = vec![0.0; chance.len() + k - 1];
        for (inversions, share) in chance.iter().enumerate() {
            for slot in &mut next[inversions..inversions + k] {
                *slot += share / k as f64;
            }
        }
        chance = next;
    }
    let most = (n * (n - 1) / 2) as i64;
    let extreme = chance.iter().enumerate().filter(|(inversions, _)| (most - 2 * *inversions as i64).abs() >= s.abs());
    extreme.map(|(_, share)| share).sum::<f64>().min(1.0)
}

/// Normal approximation with correction for ties and for continuity (Kendall 1975, §4.4).
fn normal_p(n: usize, s: i64, ties: &[u64]) -> Option<f64> {
    let term = |t: f64| t * (t - 1.0) * (2.0 * t + 5.0);
    let variance = (term(n as f64) - ties.iter().map(|size| term(*size as f64)).sum::<f64>()) / 18.0;
    if variance <= 0.0 {
        // All values are equal: there is no trend.
        return Some(1.0);
    }
    let z = (s.abs() - 1).max(0) as f64 / variance.sqrt();
    let normal = Normal::new(0.0, 1.0).ok()?;
    Some((2.0 * normal.sf(z)).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(actual: f64, expected: f64) {
        assert!((actual - expected).abs() <= 1e-9 * expected.abs().max(1e-3), "{actual} is not {expected}");
    }

    #[test]
    fn exact_p_agrees_with_scipy() {
        // scipy 1.17.1: stats.kendalltau(range(n), w, method='exact').pvalue; pymannkendall 1.4.3: original_test(w).s, .slope
        let rising = trend(&[10.0, 10.1, 10.05, 10.2, 10.3, 10.25, 10.4, 10.35, 10.5, 10.45]).unwrap();
        assert_eq!(rising.s, 37);
        close(rising.p_value, 0.000_357_694_003_527_336_9);
        close(rising.slope, 0.05);
        close(rising.drift.unwrap(), 0.05 * 9.0 / 10.275);
        assert!(rising.is_drifting());
        close(trend(&[1.0, 2.0, 3.0, 4.0, 5.0]).unwrap().p_value, 2.0 / 120.0);
        let level = trend(&[3.0, 1.0, 4.0, 1.5, 5.0, 2.0]).unwrap();
        close(level.p_value, 0.719_444_444_444_444_4);
        close(level.slope, 0.25);
        assert!(!level.is_drifting());
    }

    #[test]
    fn forty_values_agree_with_scipy() {
        let values = [
            100.001, 100.299, 99.726, 99.109, 99.545, 99.008, 100.06, 101.34, 99.508, 99.38, 100.49, 100.357, 100.105,
            99.07, 99.971, 100.695, 98.656, 99.542, 98.099, 98.71, 98.158, 99.765, 98.733, 100.271, 100.157, 99.813,
            97.483, 99.461, 99.951, 100.113, 98.47, 99.522, 99.021, 99.191, 101.061, 99.192, 99.967, 100.884, 99.416,
            99.888,
        ];
        let trend = trend(&values).unwrap();
        assert_eq!(trend.s, -50);
        close(trend.p_value, 0.570_400_118_201_992_2);
        close(trend.slope, -0.006_086_956_521_739_464);
        // pymannkendall: the normal approximation of the same series.
        close(normal_p(40, -50, &[]).unwrap(), 0.568_066_960_851_392_2);
    }

    #[test]
    fn ties_agree_with_pymannkendall() {
        // pymannkendall 1.4.3: original_test([5.0, 5.0, 5.1, 5.2, 5.1, 5.3, 5.3, 5.4])
        let tied = trend(&[5.0, 5.0, 5.1, 5.2, 5.1, 5.3, 5.3, 5.4]).unwrap();
        assert_eq!(tied.s, 23);
        close(tied.p_value, 0.005_327_697_130_745_212_6);
        close(tied.slope, 0.058_571_428_571_428_58);
    }

    #[test]
    fn a_trend_too_small_to_matter_is_no_drift() {
        let values: Vec<f64> = (0..30).map(|repeat| 100.0 + 0.01 * f64::from(repeat)).collect();
        let trend = trend(&values).unwrap();
        assert!(trend.p_value < 1e-6 && !trend.is_drifting());
    }

    #[test]
    fn one_slow_repeat_is_no_trend() {
        assert!(!trend(&[10.0, 10.1, 10.0, 10.2, 10.1, 10.0, 10.1, 40.0]).unwrap().is_drifting());
    }

    #[test]
    fn too_little_says_nothing() {
        assert_eq!(trend(&[1.0, 2.0, 3.0, 4.0]), None);
        assert_eq!(trend(&[1.0, 2.0, f64::NAN, 4.0, 5.0]), None);
        assert_eq!(trend(&[2.0; 6]).unwrap().p_value, 1.0);
    }
}
