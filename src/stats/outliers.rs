//! Outliers by modified z-score. They are reported, never dropped: a slow repeat is a fact about the system.
//!
//! Iglewicz & Hoaglin, "How to Detect and Handle Outliers" (ASQC Basic References in Quality Control 16, 1993). The score is
//! (x − median) / MAD and the threshold hyperfine's, 14.826: MAD × 1.4826 estimates the standard deviation of normal data, so a
//! value is flagged ten such deviations away. Iglewicz & Hoaglin's own 3.5 flags ordinary repeats of timings, whose right tail
//! is longer than normal.

use super::quantile::median;

/// Least |score| of an outlier: 1.4826 × 10, as in hyperfine.
pub const OUTLIER_THRESHOLD: f64 = 14.826;

/// Least MAD as a share of the |median|.
///
/// Where more than half of the values are equal (a coarse clock), the MAD is 0 and any other value would be infinitely far away;
/// with this floor a value must differ from the median by 1.5 % before it is flagged.
pub const MAD_FLOOR: f64 = 1e-3;

/// One outlier.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outlier {
    /// Position in the input.
    pub index: usize,
    /// The value.
    pub value: f64,
    /// Its modified z-score; positive above the median.
    pub score: f64,
}

/// (x − median) / MAD of each value, in input order; empty if there is no value or one is not finite.
pub fn modified_z_scores(values: &[f64]) -> Vec<f64> {
    if values.iter().any(|value| !value.is_finite()) {
        return Vec::new();
    }
    let Some(centre) = median(values) else { return Vec::new() };
    let deviations: Vec<f64> = values.iter().map(|value| (value - centre).abs()).collect();
    let mad = median(&deviations).unwrap_or(0.0).max(MAD_FLOOR * centre.abs()).max(f64::MIN_POSITIVE);
    values.iter().map(|value| (value - centre) / mad).collect()
}

/// The values whose |score| exceeds [`OUTLIER_THRESHOLD`], in input order.
pub fn outliers(values: &[f64]) -> Vec<Outlier> {
    modified_z_scores(values)
        .into_iter()
        .zip(values)
        .enumerate()
        .filter(|(_, (score, _))| score.abs() > OUTLIER_THRESHOLD)
        .map(|(index, (score, &value))| Outlier { index, value, score })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_agree_with_scipy() {
        // scipy 1.17.1: (x - np.median(x)) / stats.median_abs_deviation(x)
        let values = [12.1, 11.9, 12.4, 12.0, 13.7, 12.2, 11.8, 12.05, 12.3, 12.15];
        let expected = [
            -0.166_666_67,
            -1.5,
            1.833_333_33,
            -0.833_333_33,
            10.5,
            0.5,
            -2.166_666_67,
            -0.5,
            1.166_666_67,
            0.166_666_67,
        ];
        for (score, expected) in modified_z_scores(&values).into_iter().zip(expected) {
            assert!((score - expected).abs() < 1e-7, "{score} is not {expected}");
        }
        assert!(outliers(&values).is_empty());
    }

    #[test]
    fn one_delayed_repeat_of_thirty_is_found_and_kept() {
        let mut values: Vec<f64> = (0..30).map(|repeat| 10.0 + 0.01 * f64::from(repeat % 7)).collect();
        values[17] *= 20.0;
        let found = outliers(&values);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].index, found[0].value), (17, values[17]));
        assert!(found[0].score > OUTLIER_THRESHOLD);
    }

    #[test]
    fn a_coarse_clock_does_not_make_outliers_of_its_ticks() {
        let mut values = vec![100.0; 9];
        values.push(101.0);
        assert!(outliers(&values).is_empty());
        values.push(103.0);
        assert_eq!(outliers(&values).len(), 1);
    }

    #[test]
    fn nothing_finite_nothing_flagged() {
        assert!(outliers(&[]).is_empty());
        assert!(outliers(&[1.0, f64::NAN, 900.0]).is_empty());
        assert!(outliers(&[0.0, 0.0, 0.0]).is_empty());
    }
}
