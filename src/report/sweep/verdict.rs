//! The answer on top of every format: one sentence, what belongs to it, and what weakens it.

use super::model::SweepReport;
use super::words;
use crate::diagnostics::Severity;
use crate::record::sweep::{Best, SweepMetrics, SweepResult};
use crate::report::compare::verdict::{Card, Headline};
use crate::report::number::count;

/// Names of points listed in a sentence.
const NAMED: usize = 4;

/// What was swept, in a few words.
pub(super) fn title(metrics: &SweepMetrics) -> String {
    let keys: Vec<&str> = metrics.axes.iter().map(|axis| axis.key.as_str()).take(NAMED).collect();
    let more = metrics.axes.len().saturating_sub(keys.len());
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    let points = if metrics.points == 1 { "1 point".to_owned() } else { format!("{} points", count(metrics.points)) };
    if keys.is_empty() {
        format!("{}: {points}", metrics.name)
    } else {
        format!("{}: {points} over {}{rest}", metrics.name, keys.join(", "))
    }
}

/// The best result, if there is one.
pub(super) fn best(metrics: &SweepMetrics) -> Option<(&Best, &SweepResult)> {
    let best = metrics.best.as_ref()?;
    let result = metrics.results.get(best.result? as usize)?;
    Some((best, result))
}

/// How the points ended, in one sentence.
pub(super) fn outcomes(metrics: &SweepMetrics) -> String {
    const ORDER: [&str; 5] = ["ok", "oom", "failed", "interrupted", "not_run"];
    let known = ORDER.iter().filter_map(|name| metrics.outcomes.get(*name).map(|number| (*name, *number)));
    let parts: Vec<String> = known
        .filter(|(_, number)| *number > 0)
        .map(|(name, number)| format!("{} {}", count(number), words::outcome(name)))
        .collect();
    format!("Of {} points {}.", count(metrics.points), parts.join(", "))
}

/// The sentence about the best point.
pub(super) fn best_sentence(metrics: &SweepMetrics) -> Option<String> {
    let Some((best, result)) = best(metrics) else {
        return metrics.best.as_ref().map(|best| format!("No point is best in {}: {}.", best.objective, best.reason));
    };
    let (measure, statistic) = words::split(&best.objective);
    let summary = result.measures.get(measure);
    let unit = summary.map_or("", |summary| summary.unit.as_str());
    let n = summary.map_or(0, |summary| summary.n);
    let under = if best.constraints.is_empty() {
        String::new()
    } else {
        format!(" among the points with {}", best.constraints.join(" and "))
    };
    Some(format!(
        "Best in {measure}{under}: {}, with a {} of {} (n = {}).",
        words::name(metrics, result),
        words::statistic(statistic),
        words::value(best.value, unit),
        count(n)
    ))
}

/// What the best point is sure of, in sentences.
pub(super) fn certainty(metrics: &SweepMetrics) -> Vec<String> {
    let Some((best, _)) = best(metrics) else { return Vec::new() };
    let mut lines = vec![format!("How sure that is: {}.", best.reason)];
    if !best.not_told_apart.is_empty() {
        let alike = best.not_told_apart.iter().filter_map(|index| metrics.results.get(*index as usize));
        let names: Vec<String> = alike.take(NAMED).map(|result| words::name(metrics, result)).collect();
        let more = best.not_told_apart.len().saturating_sub(names.len());
        let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
        let pieces = if metrics.runs == "load" { "requests" } else { "repeats" };
        lines.push(format!(
            "As good as it, as far as the {pieces} tell: {}{rest}. More {pieces} would decide.",
            names.join("; ")
        ));
    }
    lines
}

/// The answer.
pub(super) fn headline(report: &SweepReport<'_>) -> Headline {
    let metrics = report.metrics;
    let mut more = Vec::new();
    if !metrics.validity.is_valid() {
        more.extend(metrics.validity.reasons.iter().map(|reason| format!("Because {reason}.")));
        more.push(outcomes(metrics));
        return Headline { sentence: "INVALID: the sweep has no result to rely on.".to_owned(), more, tone: "bad" };
    }
    let sentence = best_sentence(metrics).unwrap_or_else(|| outcomes(metrics));
    if metrics.best.is_some() {
        more.push(outcomes(metrics));
        more.extend(certainty(metrics));
    } else {
        let example = if metrics.runs == "load" { "output_tok_per_s" } else { "decode_tok_per_s" };
        more.push(format!("No objective was given, so that no point is called best; `objective={example}` names one."));
    }
    let left: u64 = ["not_run", "interrupted"].iter().filter_map(|name| metrics.outcomes.get(*name)).sum();
    if metrics.status != "complete" || left > 0 {
        let ended =
            if metrics.status == "complete" { String::new() } else { format!("The sweep is {}. ", metrics.status) };
        more.push(format!("{ended}`perfprof sweep --resume {}` goes on with it.", metrics.run_id));
    }
    let found = best(metrics).is_some() || metrics.best.is_none();
    let whole =
        metrics.status == "complete" && left == 0 && metrics.outcomes.get("failed").is_none_or(|failed| *failed == 0);
    Headline { sentence, more, tone: if found && whole { "ok" } else { "warn" } }
}

/// What weakens the answer.
pub(super) fn warnings(metrics: &SweepMetrics) -> Vec<String> {
    let mut found: Vec<_> = metrics.diagnostics.iter().filter(|row| row.severity >= Severity::Warn).collect();
    found.sort_by_key(|row| std::cmp::Reverse(row.severity));
    let times = |number: u64| if number > 1 { format!(" ({} times)", count(number)) } else { String::new() };
    found.iter().map(|row| format!("{}{}", row.first, times(row.count))).collect()
}

/// Figures on top of the page: the measures of the best point.
pub(super) fn cards(metrics: &SweepMetrics) -> Vec<Card> {
    let Some((_, result)) = best(metrics) else { return Vec::new() };
    words::measures(metrics)
        .iter()
        .take(4)
        .filter_map(|name| {
            let (measure, statistic) = words::split(name);
            let summary = result.measures.get(measure)?;
            let interval = summary.ci95.filter(|ends| ends.iter().all(|end| end.is_finite())).map_or_else(
                || "no interval".to_owned(),
                |[low, high]| format!("95 %: {}", crate::report::number::interval(low, high, &summary.unit)),
            );
            Some(Card {
                label: format!("{measure} ({})", words::statistic(statistic)),
                value: words::value(words::value_of(summary, statistic), &summary.unit),
                sub: format!("n = {}; {interval}", count(summary.n)),
            })
        })
        .collect()
}
