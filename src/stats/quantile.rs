//! Quantiles, and how many samples one needs before it says anything.
//!
//! The estimator is Hyndman & Fan's type 7 ("Sample Quantiles in Statistical Packages", The American Statistician 50(4), 1996),
//! which is numpy's `linear`, R's default and Excel's `PERCENTILE.INC`, so that anybody can check a report with the tool at hand.

/// Confidence at which a percentile counts as supported.
pub const SUPPORT_CONFIDENCE: f64 = 0.99;

/// The `p` quantile (0 ≤ p ≤ 1) of values sorted in ascending order; `None` for an empty slice or `p` outside [0, 1].
pub fn quantile_of_sorted(sorted: &[f64], p: f64) -> Option<f64> {
    if sorted.is_empty() || !(0.0..=1.0).contains(&p) {
        return None;
    }
    let position = (sorted.len() - 1) as f64 * p;
    let below = position.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    let fraction = position - below as f64;
    let (low, high) = (sorted[below], sorted[above]);
    // numpy's `_lerp`: counting from the nearer end keeps the result monotonic in p and exact at both ends.
    Some(if fraction < 0.5 { low + (high - low) * fraction } else { high - (high - low) * (1.0 - fraction) })
}

/// The `p` quantile of values in any order; NaN sorts last by `f64::total_cmp`.
pub fn quantile(values: &[f64], p: f64) -> Option<f64> {
    quantile_of_sorted(&sorted(values), p)
}

/// The median; `None` for an empty slice.
pub fn median(values: &[f64]) -> Option<f64> {
    quantile(values, 0.5)
}

/// A sorted copy.
pub fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted
}

/// Samples needed so that, with probability `confidence`, at least one lies above the true `p` quantile.
///
/// The chance that all `n` stay below it is pⁿ, so n = ⌈ln(1 − confidence) / ln p⌉: the binomial tolerance bound with zero
/// exceedances (Wilks, "Determination of sample sizes for setting tolerance limits", Ann. Math. Statist. 12, 1941). With fewer, the
/// reported quantile is, as likely as not, just the largest value seen. `None` unless both are inside (0, 1).
pub fn samples_needed(p: f64, confidence: f64) -> Option<u64> {
    let inside = |value: f64| value > 0.0 && value < 1.0;
    (inside(p) && inside(confidence)).then(|| ((1.0 - confidence).ln() / p.ln()).ceil() as u64)
}

/// Whether `n` samples support the `p` quantile at [`SUPPORT_CONFIDENCE`]; below the median the lower tail decides.
pub fn supported(p: f64, n: u64) -> bool {
    samples_needed(p.max(1.0 - p), SUPPORT_CONFIDENCE).is_some_and(|needed| n >= needed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn agrees_with_numpy() {
        // numpy 2.4.6: np.quantile([12.1,11.9,12.4,12.0,13.7,12.2,11.8,12.05,12.3,12.15], p)
        let values = [12.1, 11.9, 12.4, 12.0, 13.7, 12.2, 11.8, 12.05, 12.3, 12.15];
        for (p, expected) in [
            (0.25, 12.0125),
            (0.5, 12.125),
            (0.9, 12.53),
            (0.95, 13.114999999999998),
            (0.99, 13.583),
            (0.0, 11.8),
            (1.0, 13.7),
        ] {
            let actual = quantile(&values, p).unwrap();
            assert!((actual - expected).abs() < 1e-14 * expected, "p = {p}: {actual}");
        }
    }

    #[test]
    fn nothing_in_gives_nothing_out() {
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(quantile(&[1.0], 1.5), None);
        assert_eq!(quantile(&[1.0], f64::NAN), None);
        assert_eq!(median(&[7.0]), Some(7.0));
    }

    #[test]
    fn sample_sizes_are_those_of_the_binomial_rule() {
        for (p, needed) in [(0.5, 7), (0.9, 44), (0.95, 90), (0.99, 459), (0.999, 4603)] {
            assert_eq!(samples_needed(p, 0.99), Some(needed), "p = {p}");
            // The definition itself: n is the first with pⁿ ≤ 1 %.
            assert!(p.powi(needed as i32) <= 0.01 && p.powi(needed as i32 - 1) > 0.01, "p = {p}");
            assert!(supported(p, needed) && !supported(p, needed - 1), "p = {p}");
        }
        assert!(supported(0.01, 459) && !supported(0.01, 458));
        assert_eq!(samples_needed(1.0, 0.99), None);
        assert!(!supported(1.0, u64::MAX));
    }

    proptest! {
        #[test]
        fn a_quantile_stays_inside_and_grows_with_p(
            values in prop::collection::vec(-1e6..1e6f64, 1..50), a in 0.0..=1.0f64, b in 0.0..=1.0f64,
        ) {
            let (low, high) = (a.min(b), a.max(b));
            let ordered = sorted(&values);
            let (q_low, q_high) = (quantile(&values, low).unwrap(), quantile(&values, high).unwrap());
            prop_assert!(q_low <= q_high);
            prop_assert!(ordered[0] <= q_low && q_high <= ordered[ordered.len() - 1]);
        }
    }
}
