//! How much a mean over steps varies by itself.

use crate::stats::summary::student_t_quantile;

/// Fewer steps of a side than this say nothing of its noise.
pub(super) const LEAST_UNITS: u64 = 5;

/// Sums over the units of one side: of a part's time in each unit, and of its square.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Moments {
    /// Σ x, ns.
    pub(super) sum: u64,
    /// Σ x², ns².
    pub(super) squares: u128,
}

impl Moments {
    /// Adds the time of one unit.
    pub(super) fn add(&mut self, ns: u64) {
        self.sum = self.sum.saturating_add(ns);
        self.squares = self.squares.saturating_add(u128::from(ns) * u128::from(ns));
    }
    /// Variance of the mean over `units` units, of which those not added were 0.
    fn variance_of_mean(self, units: u64) -> f64 {
        let n = units as f64;
        // In integers as long as they hold it: the two terms are nearly equal where little varies.
        let scaled = self.squares.checked_mul(u128::from(units));
        let square = u128::from(self.sum).checked_mul(u128::from(self.sum));
        let spread = match (scaled, square) {
            (Some(scaled), Some(square)) => scaled.saturating_sub(square) as f64,
            _ => (self.squares as f64 * n - (self.sum as f64).powi(2)).max(0.0),
        };
        spread / (n * n * (n - 1.0))
    }
}

/// 95 % interval of mean(candidate) − mean(baseline) without equal variances (Welch, Biometrika 34, 1947; freedom after Satterthwaite);
/// `None` with fewer than [`LEAST_UNITS`] units on a side. Units are taken as independent.
pub(super) fn welch(baseline: (Moments, u64), candidate: (Moments, u64)) -> Option<[f64; 2]> {
    let ((a, n_a), (b, n_b)) = (baseline, candidate);
    if n_a.min(n_b) < LEAST_UNITS {
        return None;
    }
    let delta = b.sum as f64 / n_b as f64 - a.sum as f64 / n_a as f64;
    interval(delta, (a.variance_of_mean(n_a), n_a), (b.variance_of_mean(n_b), n_b))
}

/// `delta` ± t · √(v_a + v_b), where `v` are the variances of the two means.
pub(super) fn interval(delta: f64, (v_a, n_a): (f64, u64), (v_b, n_b): (f64, u64)) -> Option<[f64; 2]> {
    let variance = v_a + v_b;
    if variance == 0.0 {
        return Some([delta, delta]);
    }
    let freedom = variance.powi(2) / (v_a.powi(2) / (n_a as f64 - 1.0) + v_b.powi(2) / (n_b as f64 - 1.0));
    let half = student_t_quantile(0.975, freedom)? * variance.sqrt();
    Some([delta - half, delta + half])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(values: &[u64]) -> (Moments, u64) {
        let mut moments = Moments::default();
        #[expect(clippy::needless_for_each, reason = "one line says it")]
        values.iter().for_each(|value| moments.add(*value));
        (moments, values.len() as u64)
    }

    /// SciPy 1.17.1: `stats.ttest_ind(b, a, equal_var=False).confidence_interval(0.95)`.
    #[test]
    fn intervals_equal_those_of_scipy() {
        let cases: [(&[u64], &[u64], [f64; 2]); 2] = [
            (
                &[100, 104, 98, 101, 99, 103, 97],
                &[110, 115, 103, 121, 108],
                [2.720_895_722_658_9, 19.507_675_705_912_526],
            ),
            (
                &[0, 0, 0, 50, 0, 70, 0, 0, 0, 0],
                &[10, 0, 40, 0, 0, 0],
                [-26.070_313_073_919_394, 18.736_979_740_586_065],
            ),
        ];
        for (a, b, expected) in cases {
            let found = welch(moments(a), moments(b)).unwrap();
            assert!((found[0] - expected[0]).abs() < 1e-8 && (found[1] - expected[1]).abs() < 1e-8, "{found:?}");
        }
    }

    #[test]
    fn four_steps_say_nothing_and_equal_ones_no_spread() {
        let four = moments(&[1, 2, 3, 4]);
        let five = moments(&[7; 5]);
        assert_eq!(welch(four, five), None);
        assert_eq!(welch(five, moments(&[9; 6])), Some([2.0, 2.0]));
        // Times that no square of 64 bits holds.
        let huge = moments(&[u64::MAX; 5]);
        assert!(welch(huge, huge).is_some_and(|[low, high]| low <= 0.0 && high >= 0.0));
    }
}
