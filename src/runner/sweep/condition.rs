//! A condition on a point: `ttft_ms<200`, `peak_rss_bytes.max<=2e9`.

use std::collections::BTreeMap;

use crate::stats::summary::Summary;

/// Which side of the limit is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relation {
    Below,
    AtMost,
    Above,
    AtLeast,
}

/// A condition, read.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// Measure.
    pub measure: String,
    /// Statistic of it: `p50` where none is given.
    pub statistic: String,
    relation: Relation,
    limit: f64,
}

/// A condition that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no condition: {reason}; expected e.g. `ttft_ms<200` or `itl_ms.p99<=30`")]
pub struct ConditionError {
    text: String,
    reason: String,
}

/// Statistics a summary has.
const STATISTICS: [&str; 8] = ["mean", "min", "p50", "p90", "p95", "p99", "max", "std"];

/// The statistic of a summary by its name.
pub(super) fn statistic(summary: &Summary, name: &str) -> Option<f64> {
    match name {
        "mean" => summary.mean,
        "std" => summary.std,
        "min" => summary.min,
        "p50" => summary.p50,
        "p90" => summary.p90,
        "p95" => summary.p95,
        "p99" => summary.p99,
        "max" => summary.max,
        _ => None,
    }
}

/// `measure.statistic` taken apart; `p50` where there is none.
pub(super) fn split(text: &str) -> (&str, &str) {
    match text.rsplit_once('.') {
        Some((measure, "median")) => (measure, "p50"),
        Some((measure, statistic)) if STATISTICS.contains(&statistic) => (measure, statistic),
        _ => (text, "p50"),
    }
}

impl Condition {
    /// Reads `MEASURE[.STATISTIC]` `<`, `<=`, `>` or `>=` `NUMBER`.
    ///
    /// # Errors
    /// If the relation or the number is missing.
    pub fn parse(text: &str) -> Result<Self, ConditionError> {
        let refuse = |reason: &str| ConditionError { text: text.to_owned(), reason: reason.to_owned() };
        let at = text.find(['<', '>']).ok_or_else(|| refuse("it has no `<` or `>`"))?;
        let (name, rest) = text.split_at(at);
        let (relation, number) = match rest.as_bytes() {
            [b'<', b'=', ..] => (Relation::AtMost, &rest[2..]),
            [b'>', b'=', ..] => (Relation::AtLeast, &rest[2..]),
            [b'<', ..] => (Relation::Below, &rest[1..]),
            _ => (Relation::Above, &rest[1..]),
        };
        let (measure, statistic) = split(name.trim());
        if measure.is_empty() {
            return Err(refuse("it names no measure"));
        }
        let limit: f64 = number.trim().parse().map_err(|_| refuse("what follows is no number"))?;
        if !limit.is_finite() {
            return Err(refuse("the limit is not finite"));
        }
        Ok(Self { measure: measure.to_owned(), statistic: statistic.to_owned(), relation, limit })
    }

    /// Whether `measures` meet it; `None` where they do not say.
    pub fn holds(&self, measures: &BTreeMap<String, Summary>) -> Option<bool> {
        let value = statistic(measures.get(&self.measure)?, &self.statistic)?;
        Some(match self.relation {
            Relation::Below => value < self.limit,
            Relation::AtMost => value <= self.limit,
            Relation::Above => value > self.limit,
            Relation::AtLeast => value >= self.limit,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read_and_held_against_the_right_statistic() {
        let measures = BTreeMap::from([("ttft_ms".to_owned(), Summary::from_values("ms", &[100.0, 200.0, 600.0]))]);
        for (text, met) in [
            ("ttft_ms<200", Some(false)),
            ("ttft_ms<=200", Some(true)),
            ("ttft_ms.median >= 200", Some(true)),
            ("ttft_ms.mean<300", Some(false)),
            ("ttft_ms.mean<=300", Some(true)),
            ("ttft_ms.max>599.5", Some(true)),
            ("tpot_ms<1", None),
        ] {
            assert_eq!(Condition::parse(text).unwrap().holds(&measures), met, "{text}");
        }
    }

    #[test]
    fn what_is_no_condition_is_refused_with_the_reason() {
        for (text, reason) in [("ttft_ms=3", "no `<`"), ("<3", "no measure"), ("a<b", "no number"), ("a<inf", "finite")]
        {
            assert!(Condition::parse(text).unwrap_err().to_string().contains(reason), "{text}");
        }
    }
}
