//! The comparison as charts.

use super::context::part_name;
use super::model::{CompareReport, Distribution};
use super::tables::verdict;
use super::words::{self, News, Outcome, signed_duration, size};
use crate::compare::result::{Attribution, AttributionRow, CompareMetrics, Comparison, PhaseChange};
use crate::report::analyze::format::duration;
use crate::report::chart::{
    Chart, ForestItem, ForestRow, Series, Tone, WaterfallStep, boxes, ecdf, forest, in_order, waterfall,
};
use crate::report::escape::{cut, one_line};
use crate::report::number::count;

/// Measures whose values are drawn; the others stand in the tables.
pub(super) const GROUPS: usize = 24;
/// Parts of one waterfall; the others are drawn as one.
const PARTS: usize = 14;
/// Phases drawn of one attribution.
const PHASES: usize = 8;

fn row(metrics: &CompareMetrics, row: &Comparison) -> ForestRow {
    let outcome = words::outcome(metrics, row);
    let judged = outcome != Outcome::NotComparable;
    let band = |part: f64| (part.is_finite() && part > 0.0).then(|| [1.0 / (1.0 + part), 1.0 + part]);
    let text = match words::interval(row.ci95) {
        Some(interval) => format!("{} ({interval})", words::maybe_change(row.ratio)),
        None => format!("{} (no interval)", words::maybe_change(row.ratio)),
    };
    ForestRow {
        label: row.measure.clone(),
        below: format!("{}, {}", row.statistic, words::direction(row.direction)),
        ratio: row.ratio,
        interval: row.ci95,
        margin: band(row.margin).filter(|_| judged),
        noise: row.noise_floor.and_then(band),
        text,
        verdict: verdict(metrics, row),
        tone: match outcome.news(row.direction) {
            News::Good => Tone::Good,
            News::Bad => Tone::Bad,
            News::Neutral => Tone::Even,
            News::Open => Tone::Open,
        },
        title: format!(
            "{}: {} against {} of {}. {}",
            words::measured(row),
            words::value(row.candidate, &row.unit),
            words::value(row.baseline, &row.unit),
            row.baseline_label,
            words::reason(metrics, row)
        ),
    }
}

/// Candidate, baseline and case.
type Key<'a> = (&'a str, &'a str, Option<&'a str>);

/// Rows grouped by candidate and case, the best-known measures first within each group.
fn grouped<'a>(rows: &[&'a Comparison]) -> Vec<(Key<'a>, Vec<&'a Comparison>)> {
    let mut groups: Vec<(Key<'_>, Vec<&Comparison>)> = Vec::new();
    for row in rows {
        let key = (row.candidate_label.as_str(), row.baseline_label.as_str(), row.case.as_deref());
        match groups.iter_mut().find(|(known, _)| *known == key) {
            Some((_, members)) => members.push(row),
            None => groups.push((key, vec![row])),
        }
    }
    for (_, members) in &mut groups {
        members.sort_by_key(|row| words::rank(&row.measure));
    }
    groups
}

fn items(metrics: &CompareMetrics, rows: &[&Comparison]) -> Vec<ForestItem> {
    let mut items = Vec::new();
    for ((candidate, baseline, case), members) in grouped(rows) {
        let case = case.map_or_else(String::new, |case| format!(" · {case}"));
        items.push(ForestItem::Heading(format!("{candidate} against {baseline}{case}")));
        items.extend(members.into_iter().map(|row| ForestItem::Row(self::row(metrics, row))));
    }
    items
}

/// Every effect with its interval.
pub(super) fn effects(metrics: &CompareMetrics) -> Chart {
    let chart = Chart::new(
        "effects",
        "Effects with their intervals",
        "Each row is one measure as candidate / baseline on a logarithmic axis: the diamond is the estimate, the line its 95 % interval. The \
         wide band is what counts as the same, the narrow one the noise of the A/A control where one was run.",
    );
    let rows: Vec<&Comparison> = metrics.comparisons.iter().collect();
    forest(chart, &items(metrics, &rows), "No measure has a ratio to draw.")
}

/// The A/A control.
pub(super) fn control(metrics: &CompareMetrics) -> Option<Chart> {
    let study = metrics.study.as_ref().filter(|study| !study.control.is_empty())?;
    let chart = Chart::new(
        "control",
        "The baseline against itself",
        "Nothing differs here, so every interval should hold 1; how far they reach is the noise of this machine.",
    );
    let items: Vec<ForestItem> = study
        .control
        .iter()
        .map(|one| {
            let mut row = row(metrics, one);
            // A baseline against itself is neither better nor worse.
            row.tone = if words::outcome(metrics, one).decided() { Tone::Bad } else { Tone::Even };
            if let Some(case) = &one.case {
                row.label = format!("{} of {case}", row.label);
            }
            ForestItem::Row(row)
        })
        .collect();
    let mut chart = forest(chart, &items, "No measure of the control has a ratio to draw.");
    for (class, text) in &mut chart.legend {
        match class.as_str() {
            "worse" => "found different although nothing differed".clone_into(text),
            "even" => "no difference found".clone_into(text),
            _ => {}
        }
    }
    Some(chart)
}

/// The values of one measure of one case of every subject.
pub(super) struct Group<'a> {
    /// Measure and case.
    pub title: String,
    /// Unit.
    pub unit: &'a str,
    /// Values, in the order of the subjects.
    pub members: Vec<&'a Distribution>,
}

/// The values by measure and case, the best-known measures first.
pub(super) fn groups<'a>(report: &CompareReport<'a>) -> Vec<Group<'a>> {
    let mut keys: Vec<(&str, Option<&str>, &str)> = Vec::new();
    for one in report.distributions.iter().filter(|one| !one.values.is_empty()) {
        let key = (one.measure.as_str(), one.case.as_deref(), one.unit.as_str());
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys.sort_by_key(|key| words::rank(key.0));
    let order: Vec<&str> = report.metrics.subjects.iter().map(|subject| subject.label.as_str()).collect();
    keys.into_iter()
        .map(|(measure, case, unit)| {
            let mut members: Vec<&Distribution> = report
                .distributions
                .iter()
                .filter(|one| one.measure == measure && one.case.as_deref() == case && one.unit == unit)
                .filter(|one| !one.values.is_empty())
                .collect();
            members.sort_by_key(|one| order.iter().position(|label| *label == one.label).unwrap_or(order.len()));
            let title = case.map_or_else(|| measure.to_owned(), |case| format!("{measure} of {case}"));
            Group { title, unit, members }
        })
        .collect()
}

/// Box, distribution and order of one group; `number` makes their ids.
pub(super) fn spread(number: usize, group: &Group<'_>) -> Vec<Chart> {
    let series: Vec<Series> = group
        .members
        .iter()
        .map(|one| Series {
            label: one.label.clone(),
            values: one.values.clone(),
            blocks: one.blocks.clone(),
            total: one.total.max(one.values.len() as u64),
        })
        .collect();
    let title = cut(&one_line(&group.title), 80);
    let chart = |kind: &str, heading: &str, reading: &str| {
        Chart::new(&format!("{kind}-{number}"), &format!("{title}: {heading}"), reading)
    };
    vec![
        boxes(
            chart(
                "box",
                "box and values",
                "Every dot is a value; the box reaches from the first to the third quartile, the bar in it is the median, the lines reach to the \
                 last value within 1.5 times the box. Fewer than five values get no box.",
            ),
            &series,
            group.unit,
        ),
        ecdf(
            chart(
                "ecdf",
                "distribution",
                "The share of values at or below each value: a line further left has lower values, a flat stretch between two steep ones means \
                 two modes.",
            ),
            &series,
            group.unit,
        ),
        in_order(
            chart(
                "order",
                "in the order of measurement",
                "Where blocks are known, each slot is one block with the subjects side by side and the line joins the medians of the blocks: a \
                 slope shared by all is drift of the machine, which interleaving cancels.",
            ),
            &series,
            group.unit,
        ),
    ]
}

fn step_text(row: &AttributionRow) -> String {
    let mut text = format!(
        "{} ({}): {} → {}, {}",
        part_name(row),
        row.phase,
        duration(row.baseline_ns),
        duration(row.candidate_ns),
        signed_duration(row.delta_ns)
    );
    if row.per_call_delta_ns.is_some() {
        text.push_str(&format!(
            "; {} from the number of calls, {} from the time per call",
            signed_duration(row.count_ns),
            signed_duration(row.per_call_ns)
        ));
    }
    cut(&one_line(&text), 400)
}

/// The parts of one phase, the largest first, and what is left to its change.
pub(super) fn steps(part: &Attribution, phase: &PhaseChange) -> Vec<WaterfallStep> {
    let mut rows: Vec<&AttributionRow> = part
        .rows
        .iter()
        .filter(|row| row.phase == phase.phase && row.delta_ns.is_finite() && row.delta_ns != 0.0)
        .collect();
    rows.sort_by(|a, b| b.delta_ns.abs().total_cmp(&a.delta_ns.abs()));
    let step =
        |label: String, delta: f64, title: String| WaterfallStep { text: signed_duration(delta), label, delta, title };
    let shown = if rows.len() > PARTS + 1 { PARTS } else { rows.len() };
    let mut steps: Vec<WaterfallStep> =
        rows[..shown].iter().map(|row| step(part_name(row), row.delta_ns, step_text(row))).collect();
    if rows.len() > shown {
        let rest = &rows[shown..];
        let sum: f64 = rest.iter().map(|row| row.delta_ns).sum();
        let label = format!("{} smaller parts together", count(rest.len() as u64));
        steps.push(step(label.clone(), sum, format!("{label}: {}", signed_duration(sum))));
    }
    let whole = phase.candidate_ns - phase.baseline_ns;
    let left = whole - rows.iter().map(|row| row.delta_ns).sum::<f64>();
    if left.is_finite() && left.abs() > 1e-9 * phase.baseline_ns.abs().max(phase.candidate_ns.abs()).max(1.0) {
        let label = "not in any part".to_owned();
        steps.push(step(label.clone(), left, format!("{label}: {}", signed_duration(left))));
    }
    steps
}

/// From baseline to candidate, phase by phase; `number` makes their ids.
pub(super) fn waterfalls(number: usize, part: &Attribution) -> Vec<Chart> {
    part.phases
        .iter()
        .take(PHASES)
        .enumerate()
        .map(|(at, phase)| {
            let chart = Chart::new(
                &format!("waterfall-{number}-{at}"),
                &format!(
                    "{}: {} → {} ({})",
                    cut(&one_line(&phase.phase), 40),
                    duration(phase.baseline_ns),
                    duration(phase.candidate_ns),
                    signed_duration(phase.candidate_ns - phase.baseline_ns)
                ),
                &format!(
                    "From the baseline down to the candidate: every bar begins where the one above it ended. Times are per {}.",
                    cut(&one_line(&part.per), 80)
                ),
            );
            let from = cut(&one_line(&part.baseline_label), 40);
            let to = cut(&one_line(&part.candidate_label), 40);
            waterfall(
                chart,
                (&from, phase.baseline_ns),
                &steps(part, phase),
                (&to, phase.candidate_ns),
                "No part of this phase changed, or its times cannot be drawn.",
            )
        })
        .collect()
}

/// Phases that are not drawn.
pub(super) fn phases_left_out(part: &Attribution) -> usize {
    part.phases.len().saturating_sub(PHASES)
}

/// What the whole of the attribution covers, in one sentence; none where it is not known.
pub(super) fn accounted(part: &Attribution) -> Option<String> {
    let share = part.accounted_share.filter(|share| share.is_finite())?;
    Some(format!("{} of the time of the larger side was matched or explained.", size(Some(share))))
}

/// Quartiles of every group in a row each.
pub(super) fn quartiles(groups: &[Group<'_>]) -> crate::report::table::Table {
    use crate::report::table::{Cell, Table};
    use crate::stats::quantile::quantile_of_sorted;
    let mut table = Table::new(&[
        "Measure",
        "Subject",
        "#n",
        "#Least",
        "#Lower quartile",
        "#Median",
        "#Upper quartile",
        "#Largest",
    ]);
    for group in groups {
        for one in &group.members {
            let mut sorted: Vec<f64> = one.values.iter().copied().filter(|value| value.is_finite()).collect();
            sorted.sort_by(f64::total_cmp);
            let mut cells = vec![Cell::text_up_to(&group.title, 60), Cell::text_up_to(&one.label, 40)];
            cells.push(Cell::count(one.total.max(one.values.len() as u64)));
            cells.extend(
                [0.0, 0.25, 0.5, 0.75, 1.0].map(|p| super::tables::value(quantile_of_sorted(&sorted, p), &one.unit)),
            );
            table.push(cells);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(deltas: &[f64], [baseline_ns, candidate_ns]: [f64; 2]) -> (Attribution, PhaseChange) {
        let phase = PhaseChange {
            phase: "decode".to_owned(),
            units: [5, 5],
            baseline_ns,
            candidate_ns,
            delta_ns: candidate_ns - baseline_ns,
            delta_ci95_ns: None,
        };
        let row = |delta_ns: f64| AttributionRow {
            phase: "decode".to_owned(),
            layer: None,
            module: None,
            class: format!("class {delta_ns}"),
            kernel: None,
            baseline_kernel: None,
            change: crate::compare::result::ChangeKind::Changed,
            baseline_ns: 0.0,
            candidate_ns: delta_ns,
            delta_ns,
            baseline_calls: 1.0,
            candidate_calls: 1.0,
            count_delta: 0.0,
            per_call_delta_ns: Some(delta_ns),
            count_ns: 0.0,
            per_call_ns: delta_ns,
            share: 0.0,
            delta_ci95_ns: None,
            matched_by: "same kernel".to_owned(),
        };
        let attribution = Attribution {
            baseline_label: "a".to_owned(),
            candidate_label: "b".to_owned(),
            case: None,
            per: "step".to_owned(),
            phases: vec![phase.clone()],
            rows: deltas.iter().map(|delta| row(*delta)).collect(),
            rows_omitted: 0,
            accounted_share: None,
            sentences: Vec::new(),
            diagnostics: Vec::new(),
        };
        (attribution, phase)
    }

    #[test]
    fn the_steps_of_a_waterfall_add_up_whatever_is_left_out_or_unexplained() {
        let hundred: Vec<f64> = (0..100).map(|at| f64::from(at * at % 37) - 18.0).collect();
        for (deltas, ends) in [
            (vec![5.0, -2.0], [100.0, 103.0]),
            (vec![5.0, -2.0], [100.0, 90.0]),
            (hundred, [1e6, 1.001e6]),
            (Vec::new(), [100.0, 90.0]),
        ] {
            let (attribution, phase) = part(&deltas, ends);
            let steps = steps(&attribution, &phase);
            let sum: f64 = steps.iter().map(|step| step.delta).sum();
            assert!((sum - (ends[1] - ends[0])).abs() < 1e-6, "{deltas:?}: {sum}");
            assert!(steps.len() <= PARTS + 2);
            assert!(waterfalls(0, &attribution)[0].svg.is_some());
        }
        let (attribution, phase) = part(&[5.0, -2.0], [100.0, 103.0]);
        let labels: Vec<String> = steps(&attribution, &phase).into_iter().map(|step| step.label).collect();
        assert_eq!(labels, ["class 5", "class -2"], "largest first, nothing invented");
    }
}
