//! Statistics of values that stand for several equal samples each, without writing the samples out.
//!
//! Where an event carries eight tokens, the gap before it counts as eight samples of an eighth. A load test has millions of them; a value with a
//! weight takes 16 bytes however much it stands for. Everything here is what the same formula gives for the samples written out.

use super::summary::{Summary, mean_interval, sum};

/// Values with weights, in ascending order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Weighted {
    /// Value and weight.
    samples: Vec<(f64, f64)>,
    /// Sum of the weights up to and with each sample.
    cumulative: Vec<f64>,
}

impl Weighted {
    /// Sorts `samples` (value, weight). Samples whose value or weight is not finite, or whose weight is not above 0, are left out.
    ///
    /// The statistics are exact for whole weights, which need not be alike. For weights that are not whole they are the continuous extension
    /// of the same rule: neighbours lie one unit of weight apart.
    pub fn new(mut samples: Vec<(f64, f64)>) -> Self {
        samples.retain(|(value, weight)| value.is_finite() && weight.is_finite() && *weight > 0.0);
        samples.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let mut total = 0.0;
        let cumulative = samples
            .iter()
            .map(|(_, weight)| {
                total += weight;
                total
            })
            .collect();
        Self { samples, cumulative }
    }

    /// Sum of the weights: the number of samples that are meant.
    pub fn weight(&self) -> f64 {
        self.cumulative.last().copied().unwrap_or(0.0)
    }

    /// The `p` quantile, numpy's `linear` on the samples written out; `None` without any or for `p` outside [0, 1].
    pub fn quantile(&self, p: f64) -> Option<f64> {
        let (last, total) = (self.samples.len().checked_sub(1)?, self.weight());
        if !(0.0..=1.0).contains(&p) {
            return None;
        }
        let position = (total - 1.0).max(0.0) * p;
        // Sample i stands at the positions from cumulative[i − 1] to cumulative[i] − 1; between it and the next lies one unit.
        let index = self.cumulative.partition_point(|end| *end <= position).min(last);
        let (value, end) = (self.samples[index].0, self.cumulative[index]);
        let fraction = position - (end - 1.0);
        if fraction <= 0.0 || index == last {
            return Some(value);
        }
        let next = self.samples[index + 1].0;
        Some(if fraction < 0.5 { value + (next - value) * fraction } else { next - (next - value) * (1.0 - fraction) })
    }

    /// The arithmetic mean; `None` without samples.
    pub fn mean(&self) -> Option<f64> {
        let products: Vec<f64> = self.samples.iter().map(|(value, weight)| value * weight).collect();
        let mean = sum(&products) / self.weight();
        mean.is_finite().then_some(mean)
    }

    /// Sample standard deviation (n − 1, n the sum of the weights); `None` unless that is at least 2.
    pub fn standard_deviation(&self) -> Option<f64> {
        let (mean, total) = (self.mean()?, self.weight());
        if total < 2.0 {
            return None;
        }
        let squares: Vec<f64> = self.samples.iter().map(|(value, weight)| weight * (value - mean).powi(2)).collect();
        let variance = sum(&squares) / (total - 1.0);
        variance.is_finite().then(|| variance.max(0.0).sqrt())
    }

    /// The summary of the samples written out; `n` is the sum of the weights, rounded.
    pub fn summary(&self, unit: &str) -> Summary {
        let n = self.weight().round() as u64;
        let (mean, std) = (self.mean(), self.standard_deviation());
        Summary {
            unit: unit.to_owned(),
            n,
            mean,
            std,
            min: self.samples.first().map(|sample| sample.0),
            p50: self.quantile(0.5),
            p90: self.quantile(0.9),
            p95: self.quantile(0.95),
            p99: self.quantile(0.99),
            max: self.samples.last().map(|sample| sample.0),
            ci95: mean.zip(std).and_then(|(mean, std)| mean_interval(mean, std, n, 0.95)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::stats::quantile::quantile;

    fn expanded(samples: &[(f64, u32)]) -> Vec<f64> {
        samples.iter().flat_map(|(value, weight)| std::iter::repeat_n(*value, *weight as usize)).collect()
    }

    fn weighted(samples: &[(f64, u32)]) -> Weighted {
        Weighted::new(samples.iter().map(|(value, weight)| (*value, f64::from(*weight))).collect())
    }

    #[test]
    fn two_values_with_weights_are_the_list_they_stand_for() {
        // numpy linear on [1, 1, 1, 5]: the median is 1, p90 is at position 2.7, so 1 + 0.7 · 4.
        let three_to_one = weighted(&[(5.0, 1), (1.0, 3)]);
        assert_eq!(three_to_one.weight(), 4.0);
        assert_eq!(three_to_one.quantile(0.5), Some(1.0));
        assert!((three_to_one.quantile(0.9).unwrap() - 3.8).abs() < 1e-12);
        assert_eq!((three_to_one.quantile(0.0), three_to_one.quantile(1.0)), (Some(1.0), Some(5.0)));
        assert_eq!(three_to_one.mean(), Some(2.0));
        // Deviations 1, 1, 1 and 3: 12 / 3.
        assert_eq!(three_to_one.standard_deviation(), Some(2.0));
    }

    #[test]
    fn weights_that_are_not_whole_count_as_much_as_they_say() {
        let samples = Weighted::new(vec![(1.0, 2.5), (3.0, 2.5)]);
        assert_eq!(samples.weight(), 5.0);
        assert_eq!(samples.mean(), Some(2.0));
        // The median is at position 2 of 0 to 4: half a unit after the last position of the first value, 1.5.
        assert_eq!(samples.quantile(0.5), Some(2.0));
        assert_eq!((samples.quantile(0.3), samples.quantile(0.7)), (Some(1.0), Some(3.0)));
    }

    #[test]
    fn nothing_in_gives_nothing_out() {
        let nothing = Weighted::new(vec![(f64::NAN, 1.0), (1.0, 0.0), (1.0, -1.0), (2.0, f64::INFINITY)]);
        assert_eq!((nothing.quantile(0.5), nothing.mean(), nothing.standard_deviation()), (None, None, None));
        assert_eq!(nothing.summary("ms"), Summary { unit: "ms".to_owned(), ..Summary::default() });
        assert_eq!(weighted(&[(1.0, 1)]).quantile(1.5), None);
        assert_eq!(weighted(&[(7.0, 1)]).standard_deviation(), None);
    }

    proptest! {
        #[test]
        fn all_statistics_are_those_of_the_samples_written_out(
            samples in prop::collection::vec((0.0..1e3f64, 1u32..6), 1..40), p in 0.0..=1.0f64,
        ) {
            let (long, short) = (expanded(&samples), weighted(&samples));
            let close = |a: Option<f64>, b: Option<f64>| match (a, b) {
                (Some(a), Some(b)) => (a - b).abs() <= 1e-7 * b.abs().max(1.0),
                (a, b) => a == b,
            };
            prop_assert!(close(short.quantile(p), quantile(&long, p)));
            let (ours, theirs) = (short.summary("ms"), Summary::from_values("ms", &long));
            prop_assert_eq!(ours.n, theirs.n);
            for (a, b) in [
                (ours.mean, theirs.mean), (ours.std, theirs.std), (ours.min, theirs.min), (ours.p50, theirs.p50),
                (ours.p90, theirs.p90), (ours.p95, theirs.p95), (ours.p99, theirs.p99), (ours.max, theirs.max),
                (ours.ci95.map(|ci| ci[0]), theirs.ci95.map(|ci| ci[0])),
                (ours.ci95.map(|ci| ci[1]), theirs.ci95.map(|ci| ci[1])),
            ] {
                prop_assert!(close(a, b), "{:?} is not {:?}", a, b);
            }
        }
    }
}
