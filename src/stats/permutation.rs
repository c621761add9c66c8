//! Permutation tests of a difference of means or medians.

use serde::{Deserialize, Serialize};

use super::bootstrap::Statistic;

/// Most rearrangements that are all listed; beyond, they are drawn.
pub const EXACT_UP_TO: u64 = 20_000;

/// Result of a permutation test.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PermutationTest {
    /// statistic(candidate) − statistic(baseline), or the statistic of the differences.
    pub difference: f64,
    /// Two-sided p: share of rearrangements at least as extreme; (k + 1)/(m + 1) where they are drawn.
    pub p_value: f64,
    /// Rearrangements looked at.
    pub permutations: u64,
    /// Whether these are all.
    pub exact: bool,
}

/// Two independent samples: labels are exchanged. Pass logarithms to test a ratio.
pub fn two_sample(
    candidate: &[f64],
    baseline: &[f64],
    statistic: Statistic,
    permutations: u32,
    seed: u64,
) -> Option<PermutationTest> {
    let _ = (candidate, baseline, statistic, permutations, seed);
    None
}

/// Paired differences: signs are flipped. Pass differences of logarithms to test a ratio.
pub fn paired(differences: &[f64], statistic: Statistic, permutations: u32, seed: u64) -> Option<PermutationTest> {
    let _ = (differences, statistic, permutations, seed);
    None
}
