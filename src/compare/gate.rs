//! Holds the rules of a gate against the evidence.
//!
//! A rule fails only where the whole two-sided interval (95 % unless the rule says otherwise) lies beyond its limit, and passes where the
//! whole interval lies on the other side; else it is undecided. The interval is that of the reports, so the gate never contradicts them.
//! Each end of it errs in half of the remaining cases: where the truth is exactly at the limit, a rule at 95 % fails in 2.5 % of the studies.
//! Rules are not adjusted for their number: each is a question of its own, with a confidence of its own.
//!
//! With one process on a side the interval is widened by `process_noise`, unless an A/A control was run; a change within the noise floor of
//! a control, or within the absolute floor of the measure, breaks no rule.

use super::effect::{floor_of, unequal};
use super::equal_work;
use super::evidence::{self, Evidence, Sides};
use super::gate_rule::{Limit, Rule, Side, unit};
use super::pairing::{self, Layout};
use super::result::{Comparison, Difference, GateResult, RuleOutcome, RuleResult};
use super::settings::{CompareSettings, POWER, fits, statistic_name};
use super::subject::{MeasureValues, Subject};
use super::words;
use crate::stats::bootstrap::Bootstrap;
use crate::stats::power;

/// What a gate says as a whole: what an exit code is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// No rule is broken as far as the values tell.
    Passed,
    /// A rule is broken, and the evidence holds.
    Failed,
    /// A rule could not be held against anything: a side has no such measure.
    CouldNotJudge,
}

impl GateResult {
    /// What the gate says as a whole; a broken rule weighs more than one that could not be judged. Undecided rules pass.
    pub fn standing(&self) -> Standing {
        let any = |outcome| self.rules.iter().any(|rule| rule.outcome == outcome);
        if any(RuleOutcome::Failed) {
            Standing::Failed
        } else if any(RuleOutcome::Missing) {
            Standing::CouldNotJudge
        } else {
            Standing::Passed
        }
    }
}

/// A rule that fits no subject, found before anything is judged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("rule `{rule}`: {problem}")]
pub struct RuleMismatch {
    /// As written.
    pub rule: String,
    /// What does not fit, with the nearest name that would.
    pub problem: String,
    /// Which name nobody knows; `None` where the unit does not fit.
    pub unknown: Option<Unknown>,
}

/// A name in a rule that the baseline does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// The measure.
    Measure,
    /// The case.
    Case,
}

/// Checks that each rule names a measure the baseline has, in a unit that fits it.
pub fn check(rules: &[Rule], baseline: &Subject) -> Result<(), RuleMismatch> {
    for rule in rules {
        let mismatch = |problem: String, unknown| Err(RuleMismatch { rule: rule.text.clone(), problem, unknown });
        let mut of_rule = baseline.measures.iter().filter(|measure| is_for(rule, measure)).peekable();
        if of_rule.peek().is_none() {
            let named = baseline.measures.iter().any(|measure| fits(&rule.measure, &measure.name));
            let what = if named { Unknown::Case } else { Unknown::Measure };
            return mismatch(unknown(rule, baseline), Some(what));
        }
        for measure in of_rule {
            if let Err(problem) = limit_in(rule, &measure.unit) {
                return mismatch(format!("`{}` {problem}", measure.name), None);
            }
        }
    }
    Ok(())
}

/// Every rule against every candidate, for each case and measure it is for.
///
/// `controls` are the comparisons of an A/A control, empty where none was run.
pub fn evaluate(
    baseline: &Subject,
    candidates: &[Subject],
    controls: &[Comparison],
    settings: &CompareSettings,
) -> GateResult {
    let mut rules = Vec::new();
    for candidate in candidates {
        let differences = equal_work::differences(baseline, candidate, settings);
        let against = Against { baseline, candidate, differences: &differences, controls, settings };
        for rule in &settings.gate {
            rules.extend(against.results(rule));
        }
    }
    GateResult { passed: rules.iter().all(|rule| rule.outcome != RuleOutcome::Failed), rules }
}

fn is_for(rule: &Rule, measure: &MeasureValues) -> bool {
    let of_case = |pattern: &String| fits(pattern, measure.case.as_deref().unwrap_or_default());
    fits(&rule.measure, &measure.name) && rule.case.as_ref().is_none_or(of_case)
}

/// What is unknown of a rule, and the nearest name that is known.
fn unknown(rule: &Rule, subject: &Subject) -> String {
    let named = subject.measures.iter().any(|measure| fits(&rule.measure, &measure.name));
    let (what, wanted, known): (&str, &str, Vec<&str>) = match &rule.case {
        Some(case) if named => {
            ("case", case, subject.measures.iter().filter_map(|measure| measure.case.as_deref()).collect())
        }
        _ => ("measure", &rule.measure, subject.measures.iter().map(|measure| measure.name.as_str()).collect()),
    };
    let nearest = known
        .iter()
        .map(|name| (strsim::jaro_winkler(wanted, name), *name))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|left, right| left.0.total_cmp(&right.0).then(right.1.cmp(left.1)));
    let hint = nearest.map(|(_, name)| format!(", did you mean `{name}`?")).unwrap_or_default();
    format!("`{}` has no {what} `{wanted}`{hint}", subject.label)
}

/// The limit of a rule, relative or in the unit of the measure; a clause where its unit does not fit.
fn limit_in(rule: &Rule, measure_unit: &str) -> Result<Limit, String> {
    let Limit::Absolute { value, unit: written } = &rule.limit else { return Ok(rule.limit.clone()) };
    let absolute = |value| Limit::Absolute { value, unit: measure_unit.to_owned() };
    if written.is_empty() || written == measure_unit {
        return Ok(absolute(*value));
    }
    // A share may be written as a percentage.
    if written == "pp" && matches!(measure_unit, "%" | "percent") {
        return Ok(absolute(*value));
    }
    match unit(written).zip(unit(measure_unit)) {
        Some(((from, kind), (to, of_measure))) if kind == of_measure => Ok(absolute(value * from / to)),
        _ => Err(format!("is in `{measure_unit}`, and the limit is in `{written}`")),
    }
}

struct Against<'a> {
    baseline: &'a Subject,
    candidate: &'a Subject,
    differences: &'a [Difference],
    controls: &'a [Comparison],
    settings: &'a CompareSettings,
}

/// A change and how sure it is: in the terms of the limit.
struct Change {
    change: f64,
    interval: Option<[f64; 2]>,
}

impl Against<'_> {
    fn results(&self, rule: &Rule) -> Vec<RuleResult> {
        let mut results = Vec::new();
        for pair in pairing::case_pairs(self.baseline, self.candidate) {
            let named = |case: &Option<String>| {
                rule.case.as_ref().is_none_or(|pattern| fits(pattern, case.as_deref().unwrap_or_default()))
            };
            if !named(&pair.baseline) && !named(&pair.candidate) {
                continue;
            }
            let of_case = self.baseline.measures.iter().filter(|measure| measure.case == pair.baseline);
            for left in of_case.filter(|measure| fits(&rule.measure, &measure.name)) {
                match pairing::measure(self.candidate, pair.candidate.as_deref(), &left.name) {
                    Some(right) => results.push(self.result(rule, pair.name(), left, right)),
                    // A wildcard speaks of what both have.
                    None if rule.measure.contains('*') => {}
                    None => {
                        let reason = format!("`{}` has no measure `{}`", self.candidate.label, left.name);
                        results.push(self.without_change(rule, pair.name(), RuleOutcome::Missing, reason));
                    }
                }
            }
        }
        if results.is_empty() {
            let lacking = [self.baseline, self.candidate]
                .into_iter()
                .find(|subject| !subject.measures.iter().any(|measure| is_for(rule, measure)));
            let reason = lacking.map_or_else(
                || {
                    format!(
                        "`{}` and `{}` have no such measure in a case of both",
                        self.baseline.label, self.candidate.label
                    )
                },
                |subject| unknown(rule, subject),
            );
            results.push(self.without_change(rule, None, RuleOutcome::Missing, reason));
        }
        results
    }

    fn without_change(&self, rule: &Rule, case: Option<String>, outcome: RuleOutcome, reason: String) -> RuleResult {
        RuleResult {
            rule: rule.text.clone(),
            candidate_label: self.candidate.label.clone(),
            case,
            change: None,
            interval: None,
            confidence: rule.confidence,
            outcome,
            reason,
        }
    }

    fn result(&self, rule: &Rule, case: Option<String>, left: &MeasureValues, right: &MeasureValues) -> RuleResult {
        let name = format!("{} {}", left.name, statistic_name(rule.statistic));
        let limit = match limit_in(rule, &left.unit) {
            Ok(limit) => limit,
            Err(problem) => {
                let reason = format!("`{}` {problem}", left.name);
                return self.without_change(rule, case, RuleOutcome::Missing, reason);
            }
        };
        let undecided = |reason: String| self.without_change(rule, case.clone(), RuleOutcome::Undecided, reason);
        let sides = Sides { baseline: left, candidate: right, labels: [&self.baseline.label, &self.candidate.label] };
        let mut bootstrap = Bootstrap::new(self.settings.resamples, self.settings.seed);
        let evidence = match evidence::gather(sides, rule.statistic, rule.confidence, &mut bootstrap) {
            Ok(evidence) => evidence,
            Err(refused) => return undecided(format!("{name}: {}", refused.reason)),
        };
        let noise = self.noise_floor(case.as_deref(), &left.name, &evidence);
        let assumed = evidence.pair.layout == Layout::OneProcess && noise.is_none();
        let assumed = if assumed { super::effect::process_noise(&evidence, &left.unit, self.settings) } else { 0.0 };
        let Some(change) = change(&evidence, &limit, 1.0 + assumed) else {
            return undecided(format!("{name}: the baseline is not above 0, so a limit in per cent has no meaning"));
        };
        let mut result = self.without_change(rule, case.clone(), RuleOutcome::Undecided, String::new());
        result.change = Some(change.change);
        result.interval = change.interval;
        let at = |value: f64| match &limit {
            Limit::Relative(_) => words::signed_percent(value),
            Limit::Absolute { .. } => words::signed(value, &left.unit),
        };
        let bound = match limit {
            Limit::Relative(value) | Limit::Absolute { value, .. } => value,
        };
        let confidence = words::percent(rule.confidence);
        let numbers = match change.interval {
            Some([low, high]) => {
                format!("{name} changed by {} ({confidence} {} to {})", at(change.change), at(low), at(high))
            }
            None => format!("{name} changed by {}", at(change.change)),
        };
        let side = if rule.side == Side::Above { "above" } else { "below" };
        let limit_text = format!("{side} the limit of {}", at(bound));
        if let Some(why) = unequal(self.differences, case.as_deref(), &left.name) {
            result.reason = format!("{numbers}: undecided, {why}");
            return result;
        }
        let Some([low, high]) = change.interval else {
            let few = if evidence.pair.rows().iter().any(|rows| *rows < 2) {
                "a side has one value only"
            } else {
                "there are too few values for an interval"
            };
            result.reason = format!("{numbers}: undecided, {few}");
            return result;
        };
        let [broken, kept] = match rule.side {
            Side::Above => [low > bound, high <= bound],
            Side::Below => [high < bound, low >= bound],
        };
        let widened = if assumed > 0.0 {
            format!(
                " (the interval is widened by {}, since one process on a side does not show what differs between processes)",
                words::percent(assumed)
            )
        } else {
            String::new()
        };
        // A change that is nothing breaks no rule, but a rule may ask for an improvement, which nothing is not.
        let asks_for_more =
            matches!((rule.side, bound < 0.0), (Side::Above, true)) || (rule.side == Side::Below && bound > 0.0);
        let floor = floor_of(&left.name, &left.unit, self.settings);
        let tiny = floor > 0.0 && evidence.difference().abs() <= floor;
        let drowned = noise.is_some_and(|noise| {
            evidence.ratio.as_ref().is_some_and(|found| found.ratio.ln().abs() <= (1.0 + noise).ln())
        });
        (result.outcome, result.reason) = if broken && !asks_for_more && tiny {
            let floor = words::quantity(floor, &left.unit);
            (RuleOutcome::Passed, format!("{numbers}: passed, a difference of up to {floor} counts as nothing"))
        } else if broken && !asks_for_more && drowned {
            let noise = words::percent(noise.unwrap_or_default());
            (
                RuleOutcome::Undecided,
                format!("{numbers}: undecided, the A/A control allows {noise} between two sides that are the same"),
            )
        } else if broken {
            (RuleOutcome::Failed, format!("{numbers}: failed, the whole interval is {limit_text}{widened}"))
        } else if kept {
            (RuleOutcome::Passed, format!("{numbers}: passed, no part of the interval is {limit_text}{widened}"))
        } else {
            let more = self.needed(&evidence, &limit).map(|n| format!("; {n}")).unwrap_or_default();
            let limit = at(bound);
            (
                RuleOutcome::Undecided,
                format!("{numbers}: undecided, the interval holds the limit of {limit}{widened}{more}"),
            )
        };
        result
    }

    /// The largest ratio − 1 that the A/A control allows.
    fn noise_floor(&self, case: Option<&str>, name: &str, evidence: &Evidence) -> Option<f64> {
        let statistic = statistic_name(evidence.statistic);
        let mine = |row: &&Comparison| row.measure == name && row.case.as_deref() == case && row.statistic == statistic;
        self.controls.iter().filter(mine).filter_map(super::effect::noise_of).reduce(f64::max)
    }

    /// How many units would decide, if the truth is as estimated.
    #[expect(clippy::unused_self, reason = "it stands beside its sisters")]
    fn needed(&self, evidence: &Evidence, limit: &Limit) -> Option<String> {
        let baseline = evidence.values[0];
        let bound = match limit {
            Limit::Relative(value) => 1.0 + value,
            Limit::Absolute { value, .. } => (baseline + value) / baseline,
        };
        let ratio = evidence.ratio.as_ref()?.ratio / bound;
        let spread = evidence.spread.filter(|spread| *spread > 0.0)?;
        let n = power::units_needed(ratio, spread, evidence.power_design(), super::settings::ALPHA, POWER)?
            .max(evidence.units() + 1);
        let units = match evidence.pair.layout {
            Layout::Blocks { .. } => format!("{n} blocks"),
            _ => format!("{n} processes of each side"),
        };
        (n <= 100_000).then(|| format!("about {units} would decide in 4 of 5 studies if the truth is as estimated"))
    }
}

/// The change in the terms of the limit; `None` for a relative limit without a ratio.
///
/// The interval of an absolute change is that of the ratio times the baseline's statistic, or that of the Hodges–Lehmann shift where there
/// is no ratio.
fn change(evidence: &Evidence, limit: &Limit, widening: f64) -> Option<Change> {
    let [baseline, candidate] = evidence.values;
    let interval = evidence.ratio.as_ref().map(|found| [found.interval[0] / widening, found.interval[1] * widening]);
    let ratio = evidence.ratio.as_ref().map_or(candidate / baseline, |found| found.ratio);
    match limit {
        Limit::Relative(_) if baseline > 0.0 && candidate >= 0.0 => {
            Some(Change { change: ratio - 1.0, interval: interval.map(|ends| ends.map(|end| end - 1.0)) })
        }
        Limit::Relative(_) => None,
        Limit::Absolute { .. } if evidence.ratio.is_some() => Some(Change {
            change: baseline * (ratio - 1.0),
            interval: interval.map(|ends| ends.map(|end| baseline * (end - 1.0))),
        }),
        Limit::Absolute { .. } => {
            let shift = evidence.shift;
            let change = shift.map_or(candidate - baseline, |shift| shift.shift);
            Some(Change { change, interval: shift.and_then(|shift| shift.interval) })
        }
    }
}
