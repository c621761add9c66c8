//! A condition on a point: `ttft_ms<200`, `peak_rss_bytes.max<=2e9`.

use std::collections::BTreeMap;

use super::measures::measures_of;
use crate::compare::measure::{Direction, kind};
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

/// What a sweep cannot look for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GoalError {
    /// A condition that cannot be read.
    #[error(transparent)]
    Condition(#[from] ConditionError),
    /// A name that no measure has.
    #[error("`{name}` is no measure of a run")]
    Unknown {
        /// As written.
        name: String,
        /// Measures like it, best first.
        near: Vec<&'static str>,
    },
    /// A measure of which neither more nor less is better.
    #[error("`{name}` has no better side, so no point is best in it")]
    Neutral {
        /// As written.
        name: String,
    },
}

impl GoalError {
    /// What would be right.
    /// `command` is what runs the points.
    pub fn hint(&self, command: &str) -> String {
        match self {
            Self::Unknown { near, .. } if !near.is_empty() => {
                format!("did you mean {}?", near.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "))
            }
            Self::Condition(_) | Self::Unknown { .. } => {
                format!("the measures are {}; see docs/METRICS.md", measures_of(command).join(", "))
            }
            Self::Neutral { .. } => "times, rates, memory, energy, MFU and MBU have a better side".to_owned(),
        }
    }
}

/// Refuses measures that no run of `command` will have, before hours are spent on looking for the best of them.
///
/// # Errors
/// The first that cannot be looked for.
pub fn check_goals(
    command: &str,
    objective: Option<&str>,
    constraints: &[String],
    pareto: &[String],
) -> Result<(), GoalError> {
    let measures = measures_of(command);
    for text in constraints {
        known(&Condition::parse(text)?.measure, &measures)?;
    }
    for name in objective.into_iter().chain(pareto.iter().map(String::as_str)) {
        let (measure, _) = split(name);
        known(measure, &measures)?;
        if kind(measure).direction == Direction::Neutral {
            return Err(GoalError::Neutral { name: name.to_owned() });
        }
    }
    Ok(())
}

fn known(measure: &str, measures: &[&'static str]) -> Result<(), GoalError> {
    if measures.contains(&measure) {
        return Ok(());
    }
    let mut near: Vec<(f64, &'static str)> =
        measures.iter().map(|name| (strsim::jaro_winkler(name, measure), *name)).filter(|near| near.0 > 0.8).collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    Err(GoalError::Unknown { name: measure.to_owned(), near: near.into_iter().take(3).map(|near| near.1).collect() })
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

    #[test]
    fn measures_that_no_run_has_or_that_have_no_better_side_are_refused() {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let pareto = texts(&["ttft_ms.p99", "decode_tok_per_s"]);
        assert_eq!(check_goals("stage1", Some("tpot_ms"), &texts(&["cpu_utilisation>0.5"]), &pareto), Ok(()));
        let error = check_goals("stage1", Some("decode_tok_per_sec"), &[], &[]).unwrap_err();
        assert!(error.hint("stage1").contains("did you mean `decode_tok_per_s`"), "{}", error.hint("stage1"));
        assert!(matches!(check_goals("stage1", None, &texts(&["speed<1"]), &[]), Err(GoalError::Unknown { .. })));
        assert!(matches!(check_goals("stage1", Some("cpu_utilisation"), &[], &[]), Err(GoalError::Neutral { .. })));
        assert!(matches!(check_goals("stage1", None, &texts(&["ttft_ms=1"]), &[]), Err(GoalError::Condition(_))));
        let of_load = check_goals("load", Some("output_tok_per_s"), &texts(&["error_rate<=0", "e2e_ms.p99<9"]), &[]);
        assert_eq!(of_load, Ok(()));
        assert!(matches!(check_goals("load", Some("decode_tok_per_s"), &[], &[]), Err(GoalError::Unknown { .. })));
    }
}
