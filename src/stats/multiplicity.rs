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
