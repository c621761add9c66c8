//! The verdict on a ratio: lower, higher, the same within a margin, or cannot tell.

use serde::{Deserialize, Serialize};

use super::ratio::RatioEstimate;

/// What the evidence says about candidate / baseline. Whether lower is better is the caller's knowledge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// The candidate's value is lower, and by more than the margin as far as can be estimated.
    Lower,
    /// The candidate's value is higher, and by more than the margin as far as can be estimated.
    Higher,
    /// Any difference is smaller than the margin.
    Same,
    /// The rows allow neither.
    CannotTell,
}

/// What counts as evidence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// Chance of a false difference that is accepted, e.g. 0.05.
    pub alpha: f64,
    /// Relative difference that does not matter, e.g. 0.01: ratios in [1/(1 + margin), 1 + margin] are the same.
    pub margin: f64,
}

/// The verdict: lower or higher where the p-value is below α, the interval excludes 1 and the estimate lies beyond the margin; the same
/// where the equivalence interval lies wholly within the margin; otherwise cannot tell.
///
/// `adjusted_p` is the p-value after [`super::multiplicity::holm`] over all metrics judged together; `None` takes the estimate's own.
pub fn decide(estimate: &RatioEstimate, adjusted_p: Option<f64>, rule: Rule) -> Decision {
    let RatioEstimate { ratio, interval, equivalence_interval, p_value, .. } = *estimate;
    let bounds = [1.0 / (1.0 + rule.margin), 1.0 + rule.margin];
    let known = rule.margin >= 0.0 && [ratio, interval[0], interval[1]].into_iter().all(|value| !value.is_nan());
    if !known {
        return Decision::CannotTell;
    }
    if equivalence_interval[0] > bounds[0] && equivalence_interval[1] < bounds[1] {
        return Decision::Same;
    }
    if adjusted_p.unwrap_or(p_value) < rule.alpha {
        if interval[1] < 1.0 && ratio < bounds[0] {
            return Decision::Lower;
        }
        if interval[0] > 1.0 && ratio > bounds[1] {
            return Decision::Higher;
        }
    }
    Decision::CannotTell
}
