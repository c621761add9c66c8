//! Intervals read from resampled ratios.

use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

use super::super::bootstrap::{Bootstrap, Side, Statistic};
use super::super::quantile::{quantile_of_sorted, sorted};
use super::super::summary::{mean, standard_deviation, student_t_quantile};
use super::{Found, IntervalMethod, Spread};

/// Resampled ratios in ascending order and how their quantiles are chosen.
///
/// The levels are those of BCa (Efron & Tibshirani 1993, §14.3; bias and acceleration 0 give the percentile interval), except that the
/// normal quantile z(α) is √(n/(n − 1))·t(α): a percentile interval of n rows is as much too narrow as a z interval with the divisor n
/// would be ("expanded percentile interval": Hesterberg, The American Statistician 69, 2015, §5.3).
pub(super) struct Resampled {
    ratios: Vec<f64>,
    bias: f64,
    acceleration: f64,
    freedom: f64,
    widening: f64,
}

impl Resampled {
    /// From the resampled statistics of the two sides; `None` where one is not positive. `units` are what the freedom comes from.
    pub(super) fn new(above: &[f64], below: &[f64], units: [f64; 2]) -> Option<Self> {
        if above.is_empty() || above.len() != below.len() || above.iter().chain(below).any(|value| *value <= 0.0) {
            return None;
        }
        let mut ratios: Vec<f64> = above.iter().zip(below).map(|(above, below)| above / below).collect();
        ratios.sort_unstable_by(f64::total_cmp);
        let relative_variance = |values: &[f64]| {
            let centre = mean(values)?;
            standard_deviation(values, centre).map(|spread| (spread / centre).powi(2))
        };
        let variances = [relative_variance(above).unwrap_or(0.0), relative_variance(below).unwrap_or(0.0)];
        let [one, other] = variances;
        let lost = units.map(|units| (units - 1.0).max(0.5));
        let total = one + other;
        let (freedom, widening) = if total > 0.0 {
            let freedom = total * total / (one * one / lost[0] + other * other / lost[1]);
            (freedom, ((one * units[0] / lost[0] + other * units[1] / lost[1]) / total).sqrt())
        } else {
            (lost[0] + lost[1], 1.0)
        };
        Some(Self { ratios, bias: 0.0, acceleration: 0.0, freedom, widening })
    }

    /// With the bias of `observed` among the ratios, ties counted half, and an acceleration.
    fn corrected(mut self, observed: f64, acceleration: f64) -> Option<Self> {
        let share = self.share_below(observed);
        if share <= 0.0 || share >= 1.0 {
            return None;
        }
        self.bias = normal()?.inverse_cdf(share);
        self.acceleration = acceleration;
        Some(self)
    }

    fn share_below(&self, value: f64) -> f64 {
        let below = self.ratios.partition_point(|ratio| *ratio < value);
        let up_to = self.ratios.partition_point(|ratio| *ratio <= value);
        (below + up_to) as f64 / (2 * self.ratios.len()) as f64
    }

    pub(super) fn interval(&self, tail: f64) -> Option<[f64; 2]> {
        let normal = normal()?;
        let t = student_t_quantile(1.0 - tail, self.freedom)? * self.widening;
        let end = |z: f64| {
            let z = self.bias + z;
            let level = normal.cdf(self.bias + z / (1.0 - self.acceleration * z));
            quantile_of_sorted(&self.ratios, level)
        };
        Some([end(-t)?, end(t)?])
    }

    /// Twice the tail at which an end of the interval is 1.
    pub(super) fn p_value(&self) -> Option<f64> {
        let [first, last] = [*self.ratios.first()?, *self.ratios.last()?];
        if first == last {
            return Some(if first == 1.0 { 1.0 } else { 0.0 });
        }
        // No share is smaller than a resample allows.
        let least = 0.5 / self.ratios.len() as f64;
        let level = self.share_below(1.0).clamp(least, 1.0 - least);
        let shifted = normal()?.inverse_cdf(level) - self.bias;
        let z = shifted / (1.0 + self.acceleration * shifted) - self.bias;
        let t = z / self.widening;
        Some((2.0 * StudentsT::new(0.0, 1.0, self.freedom).ok()?.sf(t.abs())).min(1.0))
    }
}

fn normal() -> Option<Normal> {
    Normal::new(0.0, 1.0).ok()
}

/// Independent rows.
pub(super) fn independent(
    bootstrap: &mut Bootstrap,
    candidate: &[f64],
    baseline: &[f64],
    statistic: Statistic,
) -> Option<Found> {
    let units = [candidate.len(), baseline.len()];
    let sizes = units.map(|n| n as f64);
    let ratio = statistic.estimate(candidate)? / statistic.estimate(baseline)?;
    let (resampled, method) = match statistic {
        Statistic::Mean => {
            let above = bootstrap.means(Side::Candidate, candidate);
            let below = bootstrap.means(Side::Baseline, baseline);
            let resampled = Resampled::new(&above, &below, sizes)?;
            let constant = resampled.ratios.first() == resampled.ratios.last();
            let acceleration = acceleration_of_means(candidate, baseline)?;
            let resampled = if constant { resampled } else { resampled.corrected(ratio, acceleration)? };
            (resampled, IntervalMethod::BcaBootstrap)
        }
        Statistic::Median | Statistic::Quantile { .. } => {
            let per_mille = if let Statistic::Quantile { per_mille } = statistic { per_mille } else { 500 };
            let above = bootstrap.quantiles(Side::Candidate, &sorted(candidate), per_mille);
            let below = bootstrap.quantiles(Side::Baseline, &sorted(baseline), per_mille);
            (Resampled::new(&above, &below, sizes)?, IntervalMethod::PercentileBootstrap)
        }
    };
    Some(Found { ratio, method, units: units.map(|n| n as u64), spread: Spread::Resampled(resampled) })
}

/// Units reduced to one logarithm each.
pub(super) fn units(bootstrap: &mut Bootstrap, candidate: &[f64], baseline: &[f64]) -> Option<Found> {
    let units = [candidate.len(), baseline.len()];
    let exponentials = |logs: Vec<f64>| logs.into_iter().map(f64::exp).collect::<Vec<_>>();
    let above = exponentials(bootstrap.means(Side::Candidate, candidate));
    let below = exponentials(bootstrap.means(Side::Baseline, baseline));
    let resampled = Resampled::new(&above, &below, units.map(|n| n as f64))?;
    Some(Found {
        ratio: (mean(candidate)? - mean(baseline)?).exp(),
        method: IntervalMethod::HierarchicalBootstrap,
        units: units.map(|n| n as u64),
        spread: Spread::Resampled(resampled),
    })
}

/// The acceleration of ln(mean/mean): skewness of the jackknife over both samples (Efron & Tibshirani 1993, eq. 14.15, each sample weighted
/// as in Davison & Hinkley 1997, §5.3.2). Leaving a row out moves a mean by (mean − row)/(n − 1), so no mean is taken anew.
fn acceleration_of_means(candidate: &[f64], baseline: &[f64]) -> Option<f64> {
    let (mut squares, mut cubes) = (0.0, 0.0);
    for (values, sign) in [(candidate, 1.0), (baseline, -1.0)] {
        let (centre, n) = (mean(values)?, values.len() as f64);
        for value in values {
            let influence = sign * (value - centre) / centre / n;
            squares += influence * influence;
            cubes += influence * influence * influence;
        }
    }
    Some(if squares > 0.0 { cubes / (6.0 * squares.powf(1.5)) } else { 0.0 })
}
