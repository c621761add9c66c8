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
    if equivalence_interval[0] >= bounds[0] && equivalence_interval[1] <= bounds[1] {
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

#[cfg(test)]
mod tests {
    use super::super::ratio::IntervalMethod;
    use super::*;

    const RULE: Rule = Rule { alpha: 0.05, margin: 0.01 };

    fn estimate(ratio: f64, half: f64, p_value: f64) -> RatioEstimate {
        RatioEstimate {
            ratio,
            interval: [ratio - half, ratio + half],
            equivalence_interval: [ratio - 0.84 * half, ratio + 0.84 * half],
            p_value,
            method: IntervalMethod::BootstrapT,
            n_candidate: 20,
            n_baseline: 20,
            units_candidate: 20,
            units_baseline: 20,
        }
    }

    #[test]
    fn each_verdict_has_its_evidence() {
        let verdict = |ratio, half, p| decide(&estimate(ratio, half, p), None, RULE);
        assert_eq!(verdict(1.05, 0.02, 0.001), Decision::Higher);
        assert_eq!(verdict(0.95, 0.02, 0.001), Decision::Lower);
        assert_eq!(verdict(1.001, 0.005, 0.6), Decision::Same);
        assert_eq!(verdict(1.02, 0.05, 0.4), Decision::CannotTell);
        // Sure to be higher, and sure not to matter.
        assert_eq!(verdict(1.004, 0.002, 0.0001), Decision::Same);
        // Sure to be higher, but whether by more than the margin is open.
        assert_eq!(verdict(1.008, 0.004, 0.0001), Decision::CannotTell);
    }

    #[test]
    fn a_difference_must_survive_the_other_metrics() {
        let found = estimate(1.05, 0.04, 0.02);
        assert_eq!(decide(&found, Some(0.02), RULE), Decision::Higher);
        assert_eq!(decide(&found, Some(0.12), RULE), Decision::CannotTell);
    }

    #[test]
    fn without_a_margin_only_what_is_equal_is_the_same() {
        let rule = Rule { margin: 0.0, ..RULE };
        assert_eq!(decide(&estimate(1.0, 1e-9, 1.0), None, rule), Decision::CannotTell);
        assert_eq!(decide(&estimate(1.0, 0.0, 1.0), None, rule), Decision::Same);
        assert_eq!(decide(&estimate(1.002, 0.001, 0.001), None, rule), Decision::Higher);
        assert_eq!(decide(&estimate(1.0, 0.0, 1.0), None, Rule { margin: f64::NAN, ..RULE }), Decision::CannotTell);
        assert_eq!(decide(&estimate(f64::NAN, 0.1, 0.0), None, RULE), Decision::CannotTell);
    }
}
