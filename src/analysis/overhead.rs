//! What observing costs: repeats with spans against repeats without, with an interval.

use crate::stats::bootstrap::{RESAMPLES, ratio_of_medians_interval};
use crate::stats::quantile::median;
use crate::stats::summary::Summary;

/// Overhead of operator spans on one measure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Overhead {
    /// median(with) / median(without) − 1: 0.01 is one per cent slower.
    pub overhead: f64,
    /// 95 % bootstrap interval of `overhead`; null where a side has fewer than two values.
    pub ci95: Option<[f64; 2]>,
    /// Values without spans.
    pub n_without: u64,
    /// Values with spans.
    pub n_with: u64,
}

/// What can be said of an overhead and a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverheadVerdict {
    /// The whole interval is at or below the limit.
    Within,
    /// The whole interval is above it.
    Exceeds,
    /// The interval holds the limit, or there is none.
    CannotTell,
}

impl Overhead {
    /// Compares the interval with `limit` (0.01 for one per cent).
    pub fn verdict(&self, limit: f64) -> OverheadVerdict {
        match self.ci95 {
            Some([_, high]) if high <= limit => OverheadVerdict::Within,
            Some([low, _]) if low > limit => OverheadVerdict::Exceeds,
            _ => OverheadVerdict::CannotTell,
        }
    }
    /// As a measure: `p50` is the estimate, `ci95` the bootstrap interval, `n` the smaller side; the rest is null.
    pub fn to_summary(self) -> Summary {
        Summary {
            unit: "ratio".to_owned(),
            n: self.n_with.min(self.n_without),
            p50: Some(self.overhead),
            ci95: self.ci95,
            ..Summary::default()
        }
    }
}

/// The overhead from times of interleaved repeats, `without` and `with` operator spans, one value (such as TPOT) per repeat: the
/// steps of one repeat resemble each other, so that resampling steps would make the interval too narrow.
///
/// Medians, since a repeat disturbed by another process says nothing about spans; the two sides are resampled independently
/// ([`ratio_of_medians_interval`]). Null if a side is empty, holds a value that is not finite, or the median without spans is not
/// positive.
pub fn span_overhead(without: &[f64], with: &[f64], seed: u64) -> Option<Overhead> {
    if without.iter().chain(with).any(|value| !value.is_finite()) {
        return None;
    }
    let (base, observed) = median(without).zip(median(with))?;
    if base <= 0.0 {
        return None;
    }
    let ci95 = ratio_of_medians_interval(with, without, 0.95, RESAMPLES, seed);
    Some(Overhead {
        overhead: observed / base - 1.0,
        ci95: ci95.map(|ends| ends.map(|end| end - 1.0)),
        n_without: without.len() as u64,
        n_with: with.len() as u64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(value: f64, spread: f64, n: u32) -> Vec<f64> {
        (0..n).map(|i| value + spread * (f64::from(i * 7 % 11) / 5.0 - 1.0)).collect()
    }

    #[test]
    fn a_known_slowdown_is_found_with_its_interval() {
        let found = span_overhead(&near(100.0, 0.5, 40), &near(103.0, 0.5, 40), 1).unwrap();
        assert!((found.overhead - 0.03).abs() < 0.004, "{found:?}");
        let [low, high] = found.ci95.unwrap();
        assert!(low <= found.overhead && found.overhead <= high && high - low < 0.01);
        assert_eq!(found.verdict(0.01), OverheadVerdict::Exceeds);
        assert_eq!(found.verdict(0.05), OverheadVerdict::Within);
        assert_eq!(found.verdict(found.overhead), OverheadVerdict::CannotTell);
        assert_eq!((found.n_without, found.n_with), (40, 40));
    }

    #[test]
    fn noise_larger_than_the_limit_cannot_tell() {
        let found = span_overhead(&near(100.0, 20.0, 5), &near(100.5, 20.0, 5), 1).unwrap();
        assert_eq!(found.verdict(0.01), OverheadVerdict::CannotTell);
    }

    #[test]
    fn one_repeat_has_an_estimate_and_no_interval() {
        let found = span_overhead(&[100.0], &[101.0], 1).unwrap();
        assert!((found.overhead - 0.01).abs() < 1e-12);
        assert_eq!((found.ci95, found.verdict(0.5)), (None, OverheadVerdict::CannotTell));
        let summary = found.to_summary();
        assert_eq!((summary.unit.as_str(), summary.n, summary.mean, summary.ci95), ("ratio", 1, None, None));
        assert_eq!(summary.p50, Some(found.overhead));
    }

    #[test]
    fn what_cannot_be_compared_is_null() {
        assert_eq!(span_overhead(&[], &[1.0], 1), None);
        assert_eq!(span_overhead(&[0.0, 0.0], &[1.0], 1), None);
        assert_eq!(span_overhead(&[1.0, f64::NAN], &[1.0], 1), None);
    }
}
