//! The summary every measure is reported with.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

use super::quantile::{self, quantile_of_sorted};

/// Location, spread and tails of one measure. Fields that `n` does not allow are null, never 0.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Summary {
    /// Unit of the values as written in the reports, e.g. `ms`, `tok/s`, `ratio`, `bytes`, `J`.
    pub unit: String,
    /// Number of values.
    pub n: u64,
    /// Arithmetic mean.
    pub mean: Option<f64>,
    /// Sample standard deviation (n − 1); null for n < 2.
    pub std: Option<f64>,
    /// Smallest value.
    pub min: Option<f64>,
    /// Median. Percentiles are numpy's `linear` method (Hyndman & Fan type 7).
    pub p50: Option<f64>,
    /// 90th percentile.
    pub p90: Option<f64>,
    /// 95th percentile.
    pub p95: Option<f64>,
    /// 99th percentile.
    pub p99: Option<f64>,
    /// Largest value.
    pub max: Option<f64>,
    /// 95 % confidence interval of the mean; null for n < 2.
    pub ci95: Option<[f64; 2]>,
}

impl Summary {
    /// Summarises `values`, dropping none.
    ///
    /// If any value is not finite, every statistic is null and `n` counts the finite ones: the caller sees `n` fall short of what
    /// it passed in and says so. An empty slice gives `n` = 0 and nulls.
    pub fn from_values(unit: &str, values: &[f64]) -> Self {
        let finite = values.iter().filter(|value| value.is_finite()).count();
        let empty = Self { unit: unit.to_owned(), n: finite as u64, ..Self::default() };
        if finite == 0 || finite < values.len() {
            return empty;
        }
        let sorted = quantile::sorted(values);
        let mean = mean(values);
        let std = mean.and_then(|mean| standard_deviation(values, mean));
        Self {
            mean,
            std,
            min: sorted.first().copied(),
            p50: quantile_of_sorted(&sorted, 0.5),
            p90: quantile_of_sorted(&sorted, 0.9),
            p95: quantile_of_sorted(&sorted, 0.95),
            p99: quantile_of_sorted(&sorted, 0.99),
            max: sorted.last().copied(),
            ci95: mean.zip(std).and_then(|(mean, std)| mean_interval(mean, std, values.len() as u64, 0.95)),
            ..empty
        }
    }

    /// Coefficient of variation, std / |mean|; null where either is, or the mean is 0.
    pub fn relative_std(&self) -> Option<f64> {
        let (mean, std) = self.mean.zip(self.std)?;
        (mean != 0.0).then(|| std / mean.abs())
    }
}

/// Sum with Neumaier's compensation (ZAMM 54, 1974): the rounding errors of millions of additions do not pile up.
pub fn sum(values: &[f64]) -> f64 {
    let (mut total, mut lost) = (0.0f64, 0.0f64);
    for &value in values {
        let next = total + value;
        lost += if total.abs() >= value.abs() { (total - next) + value } else { (value - next) + total };
        total = next;
    }
    total + lost
}

/// Arithmetic mean; `None` for an empty slice or where the sum overflows.
pub fn mean(values: &[f64]) -> Option<f64> {
    let mean = sum(values) / values.len() as f64;
    mean.is_finite().then_some(mean)
}

/// Sample standard deviation (n − 1) about `mean`; `None` for fewer than two values.
///
/// Two passes, with the correction of Chan, Golub & LeVeque (The American Statistician 37, 1983) for the rounding of the mean.
pub fn standard_deviation(values: &[f64], mean: f64) -> Option<f64> {
    if values.len() < 2 {
        return None;
    }
    let n = values.len() as f64;
    let squares: Vec<f64> = values.iter().map(|value| (value - mean).powi(2)).collect();
    let deviations: Vec<f64> = values.iter().map(|value| value - mean).collect();
    let variance = (sum(&squares) - sum(&deviations).powi(2) / n) / (n - 1.0);
    variance.is_finite().then(|| variance.max(0.0).sqrt())
}

/// Student's t interval of a mean: mean ± t(1 − α/2, n − 1) · std / √n; `None` for n < 2.
pub fn mean_interval(mean: f64, std: f64, n: u64, confidence: f64) -> Option<[f64; 2]> {
    if n < 2 {
        return None;
    }
    let t = student_t_quantile(0.5 + confidence / 2.0, (n - 1) as f64)?;
    let half = t * std / (n as f64).sqrt();
    Some([mean - half, mean + half])
}

/// The `p` quantile of Student's t with `freedom` degrees of freedom; `None` for parameters outside their range.
pub fn student_t_quantile(p: f64, freedom: f64) -> Option<f64> {
    if !(p > 0.0 && p < 1.0) {
        return None;
    }
    if freedom > LARGE_FREEDOM {
        let z = Normal::new(0.0, 1.0).ok()?.inverse_cdf(p);
        return freedom.is_finite().then(|| z + (z * z * z + z) / (4.0 * freedom));
    }
    let distribution = StudentsT::new(0.0, 1.0, freedom).ok()?;
    Some(distribution.inverse_cdf(p))
}

/// Degrees of freedom above which a quantile is the normal one plus the first term of its expansion (Abramowitz & Stegun 26.7.5, the next
/// term is below 10⁻⁹): statrs' search needs minutes for a thousand million degrees.
const LARGE_FREEDOM: f64 = 1e5;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VALUES: [f64; 10] = [12.1, 11.9, 12.4, 12.0, 13.7, 12.2, 11.8, 12.05, 12.3, 12.15];

    fn close(actual: f64, expected: f64) {
        assert!((actual - expected).abs() <= 1e-10 * expected.abs(), "{actual} is not {expected}");
    }

    #[test]
    fn agrees_with_numpy_and_scipy() {
        // numpy 2.4.6 and scipy 1.17.1, x = np.array(VALUES):
        // x.mean(), x.std(ddof=1), np.quantile(x, p), stats.t.interval(.95, 9, x.mean(), stats.sem(x))
        let summary = Summary::from_values("ms", &VALUES);
        assert_eq!((summary.unit.as_str(), summary.n), ("ms", 10));
        close(summary.mean.unwrap(), 12.260000000000002);
        close(summary.std.unwrap(), 0.5363456596884758);
        close(summary.p50.unwrap(), 12.125);
        close(summary.p90.unwrap(), 12.53);
        close(summary.p95.unwrap(), 13.114999999999998);
        close(summary.p99.unwrap(), 13.583);
        assert_eq!((summary.min, summary.max), (Some(11.8), Some(13.7)));
        let [low, high] = summary.ci95.unwrap();
        close(low, 11.876321428354458);
        close(high, 12.643678571645545);
    }

    #[test]
    fn student_t_quantiles_agree_with_scipy() {
        // scipy 1.17.1: stats.t.ppf(.975, df)
        for (freedom, expected) in [
            (1.0, 12.706204736174694),
            (2.0, 4.302652729749462),
            (4.0, 2.7764451051977934),
            (9.0, 2.262157162798205),
            (29.0, 2.045229642132703),
            (99.0, 1.9842169515864174),
            (10_000.0, 1.960201239890626),
            (200_000.0, 1.959975845966768),
            (1e12, 1.9599639845424262),
        ] {
            close(student_t_quantile(0.975, freedom).unwrap(), expected);
        }
        assert_eq!(student_t_quantile(0.975, 0.0), None);
        assert_eq!(student_t_quantile(1.0, 3.0), None);
    }

    #[test]
    fn what_n_does_not_allow_is_null() {
        let one = Summary::from_values("ms", &[3.0]);
        assert_eq!((one.n, one.mean, one.p99, one.std, one.ci95), (1, Some(3.0), Some(3.0), None, None));
        let none = Summary::from_values("ms", &[]);
        assert_eq!(none, Summary { unit: "ms".to_owned(), ..Summary::default() });
    }

    #[test]
    fn a_value_that_is_not_finite_is_neither_dropped_nor_averaged() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let summary = Summary::from_values("ms", &[1.0, bad, 3.0]);
            assert_eq!(summary, Summary { unit: "ms".to_owned(), n: 2, ..Summary::default() });
        }
    }

    #[test]
    fn a_large_offset_does_not_eat_the_spread() {
        // The textbook case: variance of 4, 7, 13, 16 is 30, whatever is added to all of them.
        for offset in [0.0, 1e9, 1e12] {
            let shifted: Vec<f64> = [4.0, 7.0, 13.0, 16.0].iter().map(|value| value + offset).collect();
            close(Summary::from_values("ns", &shifted).std.unwrap(), 30f64.sqrt());
        }
        close(sum(&[1.0, 1e100, 1.0, -1e100]), 2.0);
    }

    proptest! {
        #[test]
        fn the_order_of_statistics_holds(values in prop::collection::vec(0.0..1e9f64, 2..60)) {
            let summary = Summary::from_values("ms", &values);
            let order = [summary.min, summary.p50, summary.p90, summary.p95, summary.p99, summary.max].map(Option::unwrap);
            prop_assert!(order.is_sorted());
            let (mean, [low, high]) = (summary.mean.unwrap(), summary.ci95.unwrap());
            prop_assert!(low <= mean && mean <= high);
            prop_assert!(order[0] <= mean * (1.0 + 1e-12) && mean <= order[5] * (1.0 + 1e-12));
        }
    }
}
