//! Rules of the gate as users write them: `tpot_ms.p50>+3%`, `case:p128/ttft_ms.p99>+5ms@99%`.

use serde::{Deserialize, Serialize};

use crate::stats::bootstrap::Statistic;

/// Which changes break a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Changes above the limit.
    Above,
    /// Changes below the limit.
    Below,
}

/// What a limit is a limit of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// Of candidate / baseline − 1, e.g. 0.03 for `+3%`.
    Relative(f64),
    /// Of candidate − baseline, in the unit that was written.
    Absolute {
        /// As written.
        value: f64,
        /// As written, e.g. `ms`, `MiB`, `pp`; empty for the unit of the measure.
        unit: String,
    },
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// As written.
    pub text: String,
    /// Cases it is for, with `*`; null for all.
    pub case: Option<String>,
    /// Measures it is for, with `*`.
    pub measure: String,
    /// Statistic of the values.
    pub statistic: Statistic,
    /// Which changes break it.
    pub side: Side,
    /// The limit.
    pub limit: Limit,
    /// Confidence of the two-sided interval that must lie beyond the limit, e.g. 0.95.
    pub confidence: f64,
}

/// A rule that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("rule `{rule}`, character {position}: expected {expected}, found {found}")]
pub struct RuleError {
    /// As written.
    pub rule: String,
    /// Characters before the fault, + 1.
    pub position: usize,
    /// What would have been right.
    pub expected: String,
    /// What stands there.
    pub found: String,
}

impl Rule {
    /// Reads a rule: `[case:CASE/]MEASURE[.STATISTIC]` `>` or `<` `[+|-]NUMBER[UNIT]` `[@CONFIDENCE%]`.
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        Err(RuleError {
            rule: text.to_owned(),
            position: 1,
            expected: "a version of this tool that reads rules".to_owned(),
            found: "one that does not yet".to_owned(),
        })
    }
}
