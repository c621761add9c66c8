//! Rank tests: Mann–Whitney for two independent samples, Wilcoxon's signed ranks for pairs.

use serde::{Deserialize, Serialize};

/// How a p-value was computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PMethod {
    /// The whole null distribution, ties included.
    Exact,
    /// Normal approximation with correction for ties and continuity.
    Normal,
}

/// Mann–Whitney's test of candidate against baseline.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MannWhitney {
    /// U of the candidate: pairs in which the candidate is higher, ties counted half.
    pub u: f64,
    /// Two-sided p.
    pub p_value: f64,
    /// How p was computed.
    pub method: PMethod,
    /// Chance that a row of the candidate is higher than one of the baseline, ties counted half (common-language effect size, A).
    pub probability_higher: f64,
    /// Rank-biserial correlation 2A − 1, which is Cliff's δ: −1 all lower, 0 no tendency, 1 all higher.
    pub rank_biserial: f64,
}

/// Wilcoxon's signed-rank test of paired differences.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SignedRank {
    /// Sum of the ranks of the positive differences.
    pub w_plus: f64,
    /// Sum of the ranks of the negative differences.
    pub w_minus: f64,
    /// Two-sided p.
    pub p_value: f64,
    /// How p was computed.
    pub method: PMethod,
    /// Matched-pairs rank-biserial correlation (w⁺ − w⁻) / (w⁺ + w⁻); null where no difference is other than 0.
    pub rank_biserial: Option<f64>,
}

/// Mann–Whitney's U test; `None` for an empty side or a value that is not finite.
pub fn mann_whitney(candidate: &[f64], baseline: &[f64]) -> Option<MannWhitney> {
    let _ = (candidate, baseline);
    None
}

/// Wilcoxon's signed-rank test of `differences` (candidate − baseline, or logarithms of ratios); `None` for none or one that is not
/// finite.
pub fn signed_rank(differences: &[f64]) -> Option<SignedRank> {
    let _ = differences;
    None
}
