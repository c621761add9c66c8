//! Intervals read from resampled ratios.

use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

use super::super::bootstrap::{Bootstrap, Side, Statistic};
use super::super::quantile::{quantile_of_sorted, sorted};
use super::super::summary::{mean, standard_deviation, student_t_quantile};
use super::{Found, IntervalMethod, Spread};

/// Resampled ratios in ascending order and how their quantiles are chosen.
pub(super) struct Resampled {
    ratios: Vec<f64>,
    /// Variance of the logarithm of the ratio, to first order.
    pub(super) variance: f64,
    tails: Tails,
    /// Ends are moved away from the first by the second, on the logarithmic scale.
    stretch: Option<(f64, f64)>,
}

/// Which quantiles end an interval.
enum Tails {
    /// Those of the tail probabilities themselves.
    Plain,
    /// BCa (Efron & Tibshirani 1993, eq. 14.10).
    Corrected { bias: f64, acceleration: f64 },
    /// Those of Φ(−√(n/(n − 1))·t) where t is the quantile of Student's distribution: a percentile interval of n units is as much too
    /// narrow as a z interval with the divisor n would be ("expanded percentile interval": Hesterberg, The American Statistician 69, 2015,
    /// §5.3).
    Expanded { freedom: f64, widening: f64 },
}

impl Resampled {
    /// From the resampled statistics of the two sides; `None` where one is not positive.
    pub(super) fn new(above: &[f64], below: &[f64]) -> Option<Self> {
        if above.is_empty() || above.len() != below.len() || above.iter().chain(below).any(|value| *value <= 0.0) {
            return None;
        }
        let mut ratios: Vec<f64> = above.iter().zip(below).map(|(above, below)| above / below).collect();
        ratios.sort_unstable_by(f64::total_cmp);
        let variance = relative_variance(above) + relative_variance(below);
        Some(Self { ratios, variance, tails: Tails::Plain, stretch: None })
    }

    /// With tails for `units`, of which there may be few.
    pub(super) fn expanded(mut self, above: &[f64], below: &[f64], units: [f64; 2]) -> Self {
        let [one, other] = [relative_variance(above), relative_variance(below)];
        let lost = units.map(|units| (units - 1.0).max(0.5));
        let total = one + other;
        if total > 0.0 {
            let freedom = total * total / (one * one / lost[0] + other * other / lost[1]);
            let widening = ((one * units[0] / lost[0] + other * units[1] / lost[1]) / total).sqrt();
            self.tails = Tails::Expanded { freedom, widening };
        }
        self
    }

    /// With every distance from `centre` grown by `factor`, on the logarithmic scale.
    pub(super) fn stretched(mut self, centre: f64, factor: f64) -> Self {
        self.stretch = Some((centre, factor));
        self
    }

    /// With the bias of `observed` among the ratios, ties counted half, and an acceleration.
    fn corrected(mut self, observed: f64, acceleration: f64) -> Option<Self> {
        if self.ratios.first() == self.ratios.last() {
            return Some(self);
        }
        let share = self.share_below(observed);
        if share <= 0.0 || share >= 1.0 {
            return None;
        }
        self.tails = Tails::Corrected { bias: normal()?.inverse_cdf(share), acceleration };
        Some(self)
    }

    fn share_below(&self, value: f64) -> f64 {
        let below = self.ratios.partition_point(|ratio| *ratio < value);
        let up_to = self.ratios.partition_point(|ratio| *ratio <= value);
        (below + up_to) as f64 / (2 * self.ratios.len()) as f64
    }

    pub(super) fn interval(&self, tail: f64) -> Option<[f64; 2]> {
        let normal = normal()?;
        let levels = match self.tails {
            Tails::Plain => [tail, 1.0 - tail],
            Tails::Corrected { bias, acceleration } => [tail, 1.0 - tail].map(|tail| {
                let z = bias + normal.inverse_cdf(tail);
                normal.cdf(bias + z / (1.0 - acceleration * z))
            }),
            Tails::Expanded { freedom, widening } => {
                let z = student_t_quantile(1.0 - tail, freedom)? * widening;
                [normal.cdf(-z), normal.cdf(z)]
            }
        };
        let stretch = |end: f64| match self.stretch {
            Some((centre, factor)) => centre * (end / centre).powf(factor),
            None => end,
        };
        let [low, high] = levels.map(|level| quantile_of_sorted(&self.ratios, level).map(stretch));
        low.zip(high).map(|(low, high)| [low, high])
    }

    /// Twice the tail at which an end of the interval is 1.
    pub(super) fn p_value(&self) -> Option<f64> {
        let [first, last] = [*self.ratios.first()?, *self.ratios.last()?];
        if first == last {
            return Some(if first == 1.0 { 1.0 } else { 0.0 });
        }
        let one = self.stretch.map_or(1.0, |(centre, factor)| centre * (1.0 / centre).powf(1.0 / factor));
        // No share is smaller than half a resample.
        let least = 0.5 / self.ratios.len() as f64;
        let share = self.share_below(one).clamp(least, 1.0 - least);
        let tail = match self.tails {
            Tails::Plain => share.min(1.0 - share),
            Tails::Corrected { bias, acceleration } => {
                let shifted = normal()?.inverse_cdf(share) - bias;
                normal()?.sf((shifted / (1.0 + acceleration * shifted) - bias).abs())
            }
            Tails::Expanded { freedom, widening } => {
                let z = normal()?.inverse_cdf(share).abs();
                StudentsT::new(0.0, 1.0, freedom).ok()?.sf(z / widening)
            }
        };
        Some((2.0 * tail).min(1.0))
    }
}

fn normal() -> Option<Normal> {
    Normal::new(0.0, 1.0).ok()
}

fn relative_variance(values: &[f64]) -> f64 {
    let variance = mean(values).and_then(|centre| Some((standard_deviation(values, centre)? / centre).powi(2)));
    variance.unwrap_or(0.0)
}

/// The level of a statistic that is a quantile.
pub(super) fn per_mille(statistic: Statistic) -> Option<u16> {
    match statistic {
        Statistic::Mean => None,
        Statistic::Median => Some(500),
        Statistic::Quantile { per_mille } => Some(per_mille),
    }
}

/// Medians or quantiles of independent rows.
pub(super) fn quantiles(
    bootstrap: &mut Bootstrap,
    candidate: &[f64],
    baseline: &[f64],
    statistic: Statistic,
    bca: bool,
) -> Option<Found> {
    let ratio = statistic.estimate(candidate)? / statistic.estimate(baseline)?;
    let per_mille = per_mille(statistic)?;
    let (high, low) = (sorted(candidate), sorted(baseline));
    let above = bootstrap.quantiles(Side::Candidate, &high, per_mille);
    let below = bootstrap.quantiles(Side::Baseline, &low, per_mille);
    let mut resampled = Resampled::new(&above, &below)?;
    let mut method = IntervalMethod::PercentileBootstrap;
    if bca {
        let level = f64::from(per_mille) / 1000.0;
        let acceleration = acceleration([&jackknife(&high, level)?, &jackknife(&low, level)?]);
        resampled = resampled.corrected(ratio, acceleration)?;
        method = IntervalMethod::BcaBootstrap;
    }
    let units = [candidate.len() as u64, baseline.len() as u64];
    Some(Found { ratio, method, units, spread: Spread::Resampled(resampled) })
}

/// Means of independent rows.
pub(super) fn bca_of_means(bootstrap: &mut Bootstrap, candidate: &[f64], baseline: &[f64]) -> Option<Found> {
    let ratio = mean(candidate)? / mean(baseline)?;
    let above = bootstrap.means(Side::Candidate, candidate)?;
    let below = bootstrap.means(Side::Baseline, baseline)?;
    // Leaving a row out moves a mean by (mean − row)/(n − 1), so no mean is taken anew.
    let jackknife = |values: &[f64]| -> Option<Vec<f64>> {
        let (centre, n) = (mean(values)?, values.len() as f64);
        Some(values.iter().map(|value| (centre + (centre - value) / (n - 1.0)).ln()).collect())
    };
    let acceleration = acceleration([&jackknife(candidate)?, &jackknife(baseline)?]);
    let resampled = Resampled::new(&above, &below)?.corrected(ratio, acceleration)?;
    let units = [candidate.len() as u64, baseline.len() as u64];
    Some(Found { ratio, method: IntervalMethod::BcaBootstrap, units, spread: Spread::Resampled(resampled) })
}

/// Units reduced to one logarithm each.
pub(super) fn units(bootstrap: &mut Bootstrap, candidate: &[f64], baseline: &[f64]) -> Option<Found> {
    let units = [candidate.len(), baseline.len()];
    let exponentials = |logs: Vec<f64>| logs.into_iter().map(f64::exp).collect::<Vec<_>>();
    let above = exponentials(bootstrap.means(Side::Candidate, candidate)?);
    let below = exponentials(bootstrap.means(Side::Baseline, baseline)?);
    let resampled = Resampled::new(&above, &below)?.expanded(&above, &below, units.map(|n| n as f64));
    Some(Found {
        ratio: (mean(candidate)? - mean(baseline)?).exp(),
        method: IntervalMethod::HierarchicalBootstrap,
        units: units.map(|n| n as u64),
        spread: Spread::Resampled(resampled),
    })
}

/// The logarithm of the quantile without each of the sorted values in turn: which values it lies between depends only on whether the one
/// left out stands before them, so each takes a constant time.
fn jackknife(sorted: &[f64], level: f64) -> Option<Vec<f64>> {
    let n = sorted.len().checked_sub(2)?;
    let position = n as f64 * level;
    let (below, fraction) = (position.floor() as usize, position.fract());
    let at = |place: usize, out: usize| sorted[place.min(n) + usize::from(place.min(n) >= out)];
    let of = |out: usize| {
        let (low, high) = (at(below, out), at(below + 1, out));
        (low + (high - low) * fraction).ln()
    };
    Some((0..sorted.len()).map(of).collect())
}

/// The acceleration of the difference of two logarithms from their jackknife values: skewness over both samples (Efron & Tibshirani 1993,
/// eq. 14.15, each sample weighted as in Davison & Hinkley 1997, §5.3.2, and in SciPy).
fn acceleration(samples: [&[f64]; 2]) -> f64 {
    let (mut squares, mut cubes) = (0.0, 0.0);
    for (values, sign) in samples.into_iter().zip([1.0, -1.0]) {
        let n = values.len() as f64;
        let centre = values.iter().sum::<f64>() / n;
        for value in values {
            let influence = sign * (centre - value) * (n - 1.0) / n;
            squares += influence * influence;
            cubes += influence * influence * influence;
        }
    }
    if squares > 0.0 { cubes / (6.0 * squares.powf(1.5)) } else { 0.0 }
}
