//! One vocabulary for every format: what a point, a measure and an outcome are called.

use crate::compare::measure::{Direction, kind};
use crate::record::rows::RowStatus;
use crate::record::sweep::{SweepMetrics, SweepResult};
use crate::report::number::{self, UNKNOWN};
use crate::stats::summary::Summary;

/// Measures of a table beside those that are looked for.
const USUAL: [&str; 9] = [
    "ttft_ms",
    "tpot_ms",
    "prefill_tok_per_s",
    "decode_tok_per_s",
    "peak_rss_bytes",
    "output_tok_per_s",
    "request_per_s",
    "e2e_ms",
    "error_rate",
];
/// Statistics that may stand behind the name of a measure.
const STATISTICS: [&str; 9] = ["mean", "std", "min", "p50", "median", "p90", "p95", "p99", "max"];

/// `measure.statistic` taken apart; the median where no statistic is named.
pub(super) fn split(name: &str) -> (&str, &str) {
    match name.rsplit_once('.') {
        Some((measure, "median")) => (measure, "p50"),
        Some((measure, statistic)) if STATISTICS.contains(&statistic) => (measure, statistic),
        _ => (name, "p50"),
    }
}

/// The statistic as a reader says it.
pub(super) fn statistic(name: &str) -> &str {
    if name == "p50" { "median" } else { name }
}

/// The value that `name` asks for.
pub(super) fn value_of(summary: &Summary, name: &str) -> Option<f64> {
    let value = match name {
        "mean" => summary.mean,
        "std" => summary.std,
        "min" => summary.min,
        "p90" => summary.p90,
        "p95" => summary.p95,
        "p99" => summary.p99,
        "max" => summary.max,
        _ => summary.p50,
    };
    value.filter(|value| value.is_finite())
}

/// A value with its unit, e.g. `12.30 ms`.
pub(super) fn value(value: Option<f64>, unit: &str) -> String {
    let Some(value) = value.filter(|value| value.is_finite()) else { return UNKNOWN.to_owned() };
    let text = number::in_unit(value, unit);
    let unit = number::unit_label(unit);
    if unit.is_empty() { text } else { format!("{text} {unit}") }
}

/// Whether small values of the measure are the good ones.
pub(super) fn lower_is_better(name: &str) -> bool {
    kind(split(name).0).direction == Direction::LowerIsBetter
}

/// The settings that vary, with the case where a point has several.
pub(super) fn name(metrics: &SweepMetrics, result: &SweepResult) -> String {
    let mut parts: Vec<String> = metrics
        .axes
        .iter()
        .filter_map(|axis| result.settings.get(&axis.key).map(|value| format!("{}={value}", axis.key)))
        .collect();
    // Of a single point nothing varies.
    if parts.is_empty() {
        parts = result.settings.iter().map(|(key, value)| format!("{key}={value}")).collect();
    }
    if several_cases(metrics)
        && let Some(case) = &result.case
    {
        parts.push(format!("case {case}"));
    }
    parts.join(" ")
}

/// Whether a point has more than one case.
pub(super) fn several_cases(metrics: &SweepMetrics) -> bool {
    metrics.results.windows(2).any(|pair| pair[0].point == pair[1].point)
}

/// How an attempt ended, in one or a few words.
pub(super) fn status(result: &SweepResult) -> &'static str {
    match (result.status, result.valid) {
        (None, _) => "not tried",
        (Some(RowStatus::Ok), Some(false)) => "INVALID",
        (Some(RowStatus::Ok), _) => "ok",
        (Some(RowStatus::Oom), _) => "out of memory",
        (Some(RowStatus::Failed), _) => "failed",
        (Some(RowStatus::Interrupted), _) => "interrupted",
    }
}

/// An outcome of `metrics.json` as a reader says it.
pub(super) fn outcome(name: &str) -> &str {
    match name {
        "ok" => "ended well",
        "oom" => "did not fit into the memory",
        "not_run" => "not tried yet",
        "interrupted" => "interrupted",
        "failed" => "failed",
        other => other,
    }
}

/// The measures a table shows: what is looked for, then the usual ones; each only where any point has it.
pub(super) fn measures(metrics: &SweepMetrics) -> Vec<String> {
    let best = metrics.best.iter();
    let conditions =
        best.clone().flat_map(|best| best.constraints.iter().filter_map(|text| text.split(['<', '>']).next()));
    let front = metrics.pareto.iter().flat_map(|front| front.measures.iter().map(String::as_str));
    let wanted = best.clone().map(|best| best.objective.as_str()).chain(conditions).chain(front).chain(USUAL);
    let mut names: Vec<String> = Vec::new();
    for name in wanted.map(str::trim) {
        let (measure, statistic) = split(name);
        let known = metrics
            .results
            .iter()
            .any(|result| result.measures.get(measure).is_some_and(|summary| value_of(summary, statistic).is_some()));
        if known && !names.iter().any(|other| split(other) == (measure, statistic)) {
            names.push(name.to_owned());
        }
    }
    names
}

/// The unit of a measure, from any point that has it.
pub(super) fn unit<'a>(metrics: &'a SweepMetrics, name: &str) -> &'a str {
    let measure = split(name).0;
    metrics.results.iter().find_map(|result| result.measures.get(measure)).map_or("", |summary| summary.unit.as_str())
}

/// A measure as a heading: `decode_tok_per_s (median, tok/s)`.
pub(super) fn heading(metrics: &SweepMetrics, name: &str) -> String {
    let (measure, part) = split(name);
    let unit = number::unit_label(unit(metrics, name)).to_owned();
    let unit = if unit.is_empty() { String::new() } else { format!(", {unit}") };
    format!("{measure} ({}{unit})", statistic(part))
}
