//! Whether the first repeat was slow: caches, page faults, clocks or lazy set-up that the warm-up did not cover.

use super::outliers::{OUTLIER_THRESHOLD, modified_z_scores};
use super::quantile::median;

/// A slow first repeat.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SlowFirst {
    /// Its value.
    pub first: f64,
    /// The median of the others.
    pub median_of_others: f64,
    /// Its modified z-score among all.
    pub score: f64,
}

/// hyperfine's rule: the first value's modified z-score over all values exceeds [`OUTLIER_THRESHOLD`] (`SlowInitialRun` in its
/// `src/benchmark`). Only slow counts: a fast first run is an outlier, not a warm-up problem. `None` for fewer than three values,
/// where a score says nothing.
pub fn slow_first(values: &[f64]) -> Option<SlowFirst> {
    if values.len() < 3 {
        return None;
    }
    let score = modified_z_scores(values).first().copied()?;
    (score > OUTLIER_THRESHOLD).then_some(SlowFirst {
        first: values[0],
        median_of_others: median(&values[1..])?,
        score,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_first_repeat_is_told_from_a_slow_later_one() {
        let mut values = vec![30.0, 10.0, 10.1, 10.2, 10.05, 10.15];
        let found = slow_first(&values).unwrap();
        assert_eq!((found.first, found.median_of_others), (30.0, 10.1));
        values.swap(0, 3);
        assert_eq!(slow_first(&values), None);
    }

    #[test]
    fn a_fast_first_repeat_is_not_slow() {
        assert_eq!(slow_first(&[1.0, 10.0, 10.1, 10.2, 10.05, 10.15]), None);
    }

    #[test]
    fn two_repeats_cannot_tell() {
        assert_eq!(slow_first(&[99.0, 1.0]), None);
    }
}
