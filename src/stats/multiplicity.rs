//! p-values of several tests, adjusted so that their number does not make findings.
//!
//! Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statist. 6 (1979): the chance of any false finding stays
//! at α whatever the dependence of the tests. Benjamini & Hochberg, J. R. Statist. Soc. B 57 (1995): the expected share of false
//! findings stays at α for independent (or positively dependent) tests.

/// Holm's adjusted p-values, in the order of the input.
///
/// A test that gave no p-value (`None`, NaN or outside [0, 1]) stays `None` and does not count as a test.
pub fn holm(p_values: &[Option<f64>]) -> Vec<Option<f64>> {
    let order = ascending(p_values);
    let tests = order.len();
    let mut adjusted = vec![None; p_values.len()];
    let mut largest = 0.0f64;
    for (rank, (index, p)) in order.into_iter().enumerate() {
        largest = largest.max(p * (tests - rank) as f64).min(1.0);
        adjusted[index] = Some(largest);
    }
    adjusted
}

/// Benjamini and Hochberg's adjusted p-values, in the order of the input; tests without a p-value as in [`holm`].
pub fn benjamini_hochberg(p_values: &[Option<f64>]) -> Vec<Option<f64>> {
    let order = ascending(p_values);
    let tests = order.len();
    let mut adjusted = vec![None; p_values.len()];
    let mut smallest = 1.0f64;
    for (rank, (index, p)) in order.into_iter().enumerate().rev() {
        smallest = smallest.min(p * tests as f64 / (rank + 1) as f64);
        adjusted[index] = Some(smallest);
    }
    adjusted
}

/// The usable p-values with their positions, smallest first.
fn ascending(p_values: &[Option<f64>]) -> Vec<(usize, f64)> {
    let usable = |p: &f64| (0.0..=1.0).contains(p);
    let mut order: Vec<(usize, f64)> =
        p_values.iter().enumerate().filter_map(|(index, p)| p.filter(usable).map(|p| (index, p))).collect();
    order.sort_by(|a, b| a.1.total_cmp(&b.1));
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: [Option<f64>; 6] = [Some(0.01), Some(0.04), Some(0.03), Some(0.005), Some(0.2), Some(0.04)];

    fn close(actual: &[Option<f64>], expected: &[Option<f64>]) {
        assert_eq!(actual.len(), expected.len());
        for (actual, expected) in actual.iter().zip(expected) {
            match (actual, expected) {
                (Some(actual), Some(expected)) => {
                    assert!((actual - expected).abs() < 1e-12, "{actual} is not {expected}");
                }
                _ => assert_eq!(actual, expected),
            }
        }
    }

    #[test]
    fn agrees_with_statsmodels() {
        // statsmodels 0.15.0: multipletests([0.01, 0.04, 0.03, 0.005, 0.2, 0.04], method='holm')[1], and 'fdr_bh'
        close(&holm(&P), &[0.05, 0.12, 0.12, 0.03, 0.2, 0.12].map(Some));
        close(&benjamini_hochberg(&P), &[0.03, 0.048, 0.048, 0.03, 0.2, 0.048].map(Some));
    }

    #[test]
    fn a_metric_without_a_p_value_is_no_test() {
        let with_gaps = [None, P[0], Some(f64::NAN), P[1], P[2], Some(1.5), P[3], P[4], P[5]];
        let gaps = |p: [f64; 6]| {
            let [a, b, c, d, e, f] = p.map(Some);
            [None, a, None, b, c, None, d, e, f]
        };
        close(&holm(&with_gaps), &gaps([0.05, 0.12, 0.12, 0.03, 0.2, 0.12]));
        close(&benjamini_hochberg(&with_gaps), &gaps([0.03, 0.048, 0.048, 0.03, 0.2, 0.048]));
        assert!(holm(&[]).is_empty());
        close(&holm(&[None, Some(f64::NAN)]), &[None, None]);
        close(&holm(&[Some(0.7), Some(0.6), Some(0.0)]), &[Some(1.0), Some(1.0), Some(0.0)]);
    }
}
