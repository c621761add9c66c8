//! Bootstrap intervals with a seed: the same values, seed and settings give the same interval on every machine.
//!
//! Efron & Tibshirani, "An Introduction to the Bootstrap" (1993): percentile interval §13.3, BCa §14.3. The A/B issue builds its
//! intervals of differences on [`Resampler`].

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};

mod generator;
mod plan;

pub use generator::Generator;
pub use plan::{Bootstrap, MOST_DRAWN, Moments, Side};

use super::quantile::{median, quantile, quantile_of_sorted};
use super::summary::mean;

/// Resamples that keep the Monte-Carlo error of a 95 % endpoint well under the width of the interval (Efron & Tibshirani §14.3 ask
/// for at least 1000; Davison & Hinkley likewise).
pub const RESAMPLES: u32 = 10_000;

/// Statistics with an interval here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Statistic {
    /// Arithmetic mean.
    Mean,
    /// Median.
    Median,
    /// A quantile, type 7 as in [`super::quantile`].
    Quantile {
        /// Level in thousandths, 0..=1000: 990 for p99.
        per_mille: u16,
    },
}

impl Statistic {
    /// The statistic of `values`; `None` for none, for one that is not finite, or for a quantile above 1000 per mille.
    pub fn estimate(self, values: &[f64]) -> Option<f64> {
        if values.is_empty() || values.iter().any(|value| !value.is_finite()) {
            return None;
        }
        match self {
            Self::Mean => mean(values),
            Self::Median => median(values),
            Self::Quantile { per_mille } => quantile(values, f64::from(per_mille) / 1000.0),
        }
    }
    /// Of finite, non-empty values.
    pub(super) fn of(self, values: &mut [f64]) -> f64 {
        match self {
            Self::Mean => values.iter().sum::<f64>() / values.len() as f64,
            Self::Median => median_in_place(values),
            Self::Quantile { .. } => self.estimate(values).unwrap_or(f64::NAN),
        }
    }
}

/// How the endpoints are taken from the resampled statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Quantiles of the resampled statistics.
    Percentile,
    /// Bias-corrected and accelerated: second-order accurate for skewed statistics such as a mean of latencies.
    Bca,
}

/// Draws resamples with replacement from a seeded generator.
#[derive(Debug)]
pub struct Resampler {
    random: StdRng,
    buffer: Vec<f64>,
}

impl Resampler {
    /// A generator that depends on `seed` alone.
    pub fn new(seed: u64) -> Self {
        Self { random: StdRng::seed_from_u64(seed), buffer: Vec::new() }
    }
    /// One resample as long as `values`, which must not be empty; it may be reordered by the caller.
    pub fn draw(&mut self, values: &[f64]) -> &mut [f64] {
        self.buffer.clear();
        for _ in 0..values.len() {
            let index = self.random.random_range(0..values.len());
            self.buffer.push(values[index]);
        }
        &mut self.buffer
    }
}

/// The interval of `statistic` over one sample; `None` for fewer than two values, a value that is not finite, no resamples or a
/// confidence outside (0, 1).
pub fn interval(
    values: &[f64],
    statistic: Statistic,
    method: Method,
    confidence: f64,
    resamples: u32,
    seed: u64,
) -> Option<[f64; 2]> {
    if !usable(values) || !sensible(confidence, resamples) {
        return None;
    }
    let mut resampler = Resampler::new(seed);
    let mut replicates: Vec<f64> = (0..resamples).map(|_| statistic.of(resampler.draw(values))).collect();
    replicates.sort_unstable_by(f64::total_cmp);
    let tail = (1.0 - confidence) / 2.0;
    let [low, high] = match method {
        Method::Percentile => [tail, 1.0 - tail],
        Method::Bca => bca_levels(values, statistic, &replicates, tail)?,
    };
    Some([quantile_of_sorted(&replicates, low)?, quantile_of_sorted(&replicates, high)?])
}

/// The percentile interval of median(`numerator`) / median(`denominator`), the two resampled independently; `None` where a side is
/// unusable or a resampled denominator is not positive.
pub fn ratio_of_medians_interval(
    numerator: &[f64],
    denominator: &[f64],
    confidence: f64,
    resamples: u32,
    seed: u64,
) -> Option<[f64; 2]> {
    if !usable(numerator) || !usable(denominator) || !sensible(confidence, resamples) {
        return None;
    }
    let mut resampler = Resampler::new(seed);
    let mut ratios = Vec::with_capacity(resamples as usize);
    for _ in 0..resamples {
        let above = median_in_place(resampler.draw(numerator));
        let below = median_in_place(resampler.draw(denominator));
        if below <= 0.0 {
            return None;
        }
        ratios.push(above / below);
    }
    ratios.sort_unstable_by(f64::total_cmp);
    let tail = (1.0 - confidence) / 2.0;
    Some([quantile_of_sorted(&ratios, tail)?, quantile_of_sorted(&ratios, 1.0 - tail)?])
}

fn sensible(confidence: f64, resamples: u32) -> bool {
    confidence > 0.0 && confidence < 1.0 && resamples > 0
}

fn usable(values: &[f64]) -> bool {
    values.len() >= 2 && values.iter().all(|value| value.is_finite())
}

/// Selection instead of a sort: the median of a resample is the inner loop of every interval.
fn median_in_place(values: &mut [f64]) -> f64 {
    let middle = values.len() / 2;
    let odd = values.len() % 2 == 1;
    let (below, upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    if odd {
        return *upper;
    }
    let lower = below.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    lower + (*upper - lower) / 2.0
}

/// The quantile levels of a BCa interval (Efron & Tibshirani eqs. 14.10, 14.14, 14.15).
fn bca_levels(values: &[f64], statistic: Statistic, replicates: &[f64], tail: f64) -> Option<[f64; 2]> {
    let normal = Normal::new(0.0, 1.0).ok()?;
    let observed = statistic.estimate(values)?;
    // Ties count half, as in SciPy: a median hits the observed value often.
    let below = replicates.partition_point(|replicate| *replicate < observed);
    let up_to = replicates.partition_point(|replicate| *replicate <= observed);
    let share = (below + up_to) as f64 / (2 * replicates.len()) as f64;
    if share <= 0.0 || share >= 1.0 {
        return None;
    }
    let bias = normal.inverse_cdf(share);
    let acceleration = acceleration(values, statistic);
    let level = |p: f64| {
        let z = bias + normal.inverse_cdf(p);
        normal.cdf(bias + z / (1.0 - acceleration * z))
    };
    Some([level(tail), level(1.0 - tail)])
}

/// Skewness of the jackknife values / 6; 0 where they do not differ.
fn acceleration(values: &[f64], statistic: Statistic) -> f64 {
    let mut left = Vec::with_capacity(values.len());
    let jackknife: Vec<f64> = (0..values.len())
        .map(|out| {
            left.clear();
            left.extend(values.iter().enumerate().filter(|(index, _)| *index != out).map(|(_, value)| *value));
            statistic.of(&mut left)
        })
        .collect();
    let centre = jackknife.iter().sum::<f64>() / jackknife.len() as f64;
    let (squares, cubes) = jackknife
        .iter()
        .map(|value| centre - value)
        .fold((0.0, 0.0), |(squares, cubes), gap| (squares + gap * gap, cubes + gap * gap * gap));
    if squares > 0.0 { cubes / (6.0 * squares.powf(1.5)) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Six values, so that all 6⁶ resamples can be listed and the exact bootstrap distribution is known; quarters, so that equal
    /// sums are equal in floating point too.
    const SIX: [f64; 6] = [3.0, 4.75, 2.25, 9.5, 5.0, 4.0];
    const TEN: [f64; 10] = [12.1, 11.9, 12.4, 12.0, 13.7, 12.2, 11.8, 12.05, 12.3, 12.15];

    fn near(actual: [f64; 2], expected: [f64; 2], tolerance: f64) {
        for (actual, expected) in actual.into_iter().zip(expected) {
            assert!((actual - expected).abs() <= tolerance, "{actual} is not {expected} ± {tolerance}");
        }
    }

    #[test]
    fn agrees_with_the_exact_bootstrap_distribution() {
        // numpy 2.4.6: boot = np.sort(np.array(list(itertools.product(z, repeat=6))).mean(axis=1)); np.quantile(boot, [.025, .975]);
        // the tolerance is the distance to the quantiles of levels 0.0015 (three standard errors) away.
        let mean = interval(&SIX, Statistic::Mean, Method::Percentile, 0.95, 100_000, 1).unwrap();
        near(mean, [3.208_333, 6.791_667], 0.085);
        let median = interval(&SIX, Statistic::Median, Method::Percentile, 0.95, 100_000, 1).unwrap();
        assert_eq!(median, [2.625, 7.25]);
    }

    #[test]
    fn bca_levels_equal_those_of_the_exact_distribution() {
        // The same listing with scipy's norm.ppf/cdf in Efron's equations: 0.058079902831924886 and 0.9935833118809543.
        let mut listed = vec![0.0];
        for _ in 0..6 {
            listed = listed.iter().flat_map(|sum| SIX.iter().map(move |value| sum + value)).collect();
        }
        let listed = crate::stats::quantile::sorted(&listed.iter().map(|sum| sum / 6.0).collect::<Vec<_>>());
        let levels = bca_levels(&SIX, Statistic::Mean, &listed, 0.025).unwrap();
        near(levels, [0.058_079_902_831_924_886, 0.993_583_311_880_954_3], 1e-9);
    }

    #[test]
    fn agrees_with_scipy() {
        // scipy 1.17.1: stats.bootstrap((z,), np.mean, n_resamples=2_000_000, method='BCa', rng=default_rng(1))
        near(interval(&SIX, Statistic::Mean, Method::Bca, 0.95, 200_000, 5).unwrap(), [3.375, 7.5], 0.13);
        // The same with TEN and 1_000_000 resamples. Equal means that round apart move the bias correction by a tie or two, and the
        // one large value makes the upper tail coarse: 0.02 is 3 % of the width.
        near(interval(&TEN, Statistic::Mean, Method::Bca, 0.95, 200_000, 5).unwrap(), [12.055, 12.81], 0.02);
        near(interval(&TEN, Statistic::Mean, Method::Percentile, 0.95, 200_000, 5).unwrap(), [12.015, 12.62], 0.006);
        for method in [Method::Bca, Method::Percentile] {
            near(interval(&TEN, Statistic::Median, method, 0.95, 100_000, 5).unwrap(), [11.975, 12.3], 0.026);
        }
    }

    #[test]
    fn ratio_of_medians_agrees_with_scipy() {
        // scipy 1.17.1: stats.bootstrap((a, b), lambda a, b, axis: np.median(b, axis)/np.median(a, axis) - 1,
        //   n_resamples=400_000, method='percentile') = [-0.00990099, 0.02525253]
        let a = [10.0, 10.2, 9.9, 10.1, 10.05, 9.95, 10.3];
        let b = [10.1, 10.25, 10.0, 10.2, 10.15, 10.0, 10.5];
        let interval = ratio_of_medians_interval(&b, &a, 0.95, 100_000, 3).unwrap();
        near(interval, [1.0 - 0.009_900_99, 1.025_252_53], 1e-3);
    }

    #[test]
    fn the_seed_decides_and_nothing_else() {
        let of = |seed| interval(&TEN, Statistic::Mean, Method::Bca, 0.95, 2000, seed);
        assert_eq!(of(7), of(7));
        assert_ne!(Resampler::new(7).draw(&TEN), Resampler::new(8).draw(&TEN));
    }

    #[test]
    fn equal_values_have_an_interval_of_no_width() {
        for method in [Method::Bca, Method::Percentile] {
            assert_eq!(interval(&[4.0; 5], Statistic::Median, method, 0.95, 100, 1), Some([4.0, 4.0]));
        }
    }

    #[test]
    fn what_cannot_be_resampled_has_no_interval() {
        assert_eq!(interval(&[1.0], Statistic::Mean, Method::Bca, 0.95, 100, 1), None);
        assert_eq!(interval(&[1.0, f64::NAN], Statistic::Mean, Method::Bca, 0.95, 100, 1), None);
        assert_eq!(interval(&TEN, Statistic::Mean, Method::Bca, 1.0, 100, 1), None);
        assert_eq!(interval(&TEN, Statistic::Mean, Method::Bca, 0.95, 0, 1), None);
        assert_eq!(ratio_of_medians_interval(&TEN, &[0.0, 0.0], 0.95, 100, 1), None);
    }

    #[test]
    fn a_median_by_selection_is_the_median() {
        assert_eq!(median_in_place(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median_in_place(&mut [4.0, 1.0, 3.0, 2.0]), 2.5);
    }
}
