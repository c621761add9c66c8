//! The comparisons as tables: effects, statistics, matrix, differences, gate.

use std::borrow::Cow;

use super::model::CompareReport;
use super::verdict::{baseline, candidates};
use super::words;
use crate::compare::gate_rule::{Limit, Rule};
use crate::compare::result::{CompareMetrics, Comparison, RuleOutcome};
use crate::report::number::UNKNOWN;
use crate::report::table::{Cell, Table};

/// Longest sentence shown whole in a cell.
const SENTENCE: usize = 300;

pub(in crate::report) fn dash() -> Cell {
    Cell::text(UNKNOWN)
}

pub(in crate::report) fn maybe_text(text: Option<&str>) -> Cell {
    text.map_or_else(dash, Cell::text)
}

pub(super) fn value(value: Option<f64>, unit: &str) -> Cell {
    Cell { sort: value.filter(|value| value.is_finite()), ..Cell::text(&words::value(value, unit)) }
}

fn change(ratio: Option<f64>) -> Cell {
    Cell { sort: ratio.filter(|ratio| ratio.is_finite()), ..Cell::text(&words::maybe_change(ratio)) }
}

fn size(part: Option<f64>) -> Cell {
    Cell { sort: part.filter(|part| part.is_finite()), ..Cell::text(&words::size(part)) }
}

fn interval(ends: Option<[f64; 2]>) -> Cell {
    words::interval(ends)
        .map_or_else(|| Cell { note: Some("too few values".to_owned()), ..dash() }, |text| Cell::text(&text))
}

fn p(value: Option<f64>) -> Cell {
    Cell { sort: value.filter(|p| p.is_finite()), ..Cell::text(&words::p_value(value)) }
}

/// Verdict with its sign.
pub(super) fn verdict(metrics: &CompareMetrics, row: &Comparison) -> String {
    let outcome = words::outcome(metrics, row);
    format!("{} {}", outcome.news(row.direction).sign(outcome), outcome.words())
}

/// Which of the columns that are often all alike are worth their room.
struct Columns {
    case: bool,
    candidate: bool,
}

impl Columns {
    fn of(rows: &[&Comparison]) -> Self {
        let differ = |pick: fn(&Comparison) -> Option<&str>| rows.windows(2).any(|pair| pick(pair[0]) != pick(pair[1]));
        Self { case: differ(|row| row.case.as_deref()), candidate: differ(|row| Some(row.candidate_label.as_str())) }
    }
    fn headings(&self, rest: &[&'static str]) -> Table {
        let mut all = Vec::new();
        if self.candidate {
            all.push("Candidate");
        }
        if self.case {
            all.push("Case");
        }
        all.push("Measure");
        all.extend(rest);
        Table::new(&all)
    }
    fn cells(&self, row: &Comparison) -> Vec<Cell> {
        let mut cells = Vec::new();
        if self.candidate {
            cells.push(Cell::text_up_to(&row.candidate_label, 40));
        }
        if self.case {
            cells.push(row.case.as_deref().map_or_else(dash, |case| Cell::text_up_to(case, 40)));
        }
        let name = format!("{} ({})", row.measure, row.statistic);
        cells.push(Cell { note: Some(words::direction(row.direction).to_owned()), ..Cell::text_up_to(&name, 48) });
        cells
    }
}

/// Why the verdicts are what they are.
pub(super) fn reasons(metrics: &CompareMetrics, rows: &[&Comparison]) -> Table {
    let columns = Columns::of(rows);
    let mut table = columns.headings(&["Verdict", "Why"]);
    for row in rows {
        let mut cells = columns.cells(row);
        cells.push(Cell::text(&verdict(metrics, row)));
        cells.push(Cell::text_up_to(&words::reason(metrics, row), SENTENCE));
        table.push(cells);
    }
    table
}

/// Effects: both sides, the change with its interval, the verdict.
pub(super) fn effects(metrics: &CompareMetrics, rows: &[&Comparison]) -> Table {
    let columns = Columns::of(rows);
    let mut table =
        columns.headings(&["Better is", "#Baseline", "#Candidate", "#Change", "95 % interval", "Verdict", "#n"]);
    for row in rows {
        let mut cells = columns.cells(row);
        cells.extend([
            Cell::text(match row.direction {
                crate::compare::measure::Direction::LowerIsBetter => "lower",
                crate::compare::measure::Direction::HigherIsBetter => "higher",
                crate::compare::measure::Direction::Neutral => "neither",
            }),
            value(row.baseline, &row.unit),
            value(row.candidate, &row.unit),
            change(row.ratio),
            interval(row.ci95),
            Cell::text(&verdict(metrics, row)),
            pair(row.n),
        ]);
        table.push(cells);
    }
    table
}

/// A number of each side.
fn pair(pair: [u64; 2]) -> Cell {
    let [a, b] = pair.map(crate::report::number::count);
    Cell::number(format!("{a} / {b}"), pair[0].min(pair[1]) as f64)
}

/// Where a change is not the quotient of the two values beside it, why; none where all are.
pub(super) fn change_of_units(rows: &[&Comparison]) -> Option<String> {
    let other = |row: &&Comparison| {
        let quotient = row.candidate.zip(row.baseline).map(|(candidate, baseline)| candidate / baseline);
        row.ratio.zip(quotient).is_some_and(|(ratio, quotient)| (ratio / quotient - 1.0).abs() > 1e-3)
    };
    rows.iter().any(other).then(|| {
        "Where a side has several processes, or the sides were measured in blocks, the change is the mean of theirs on the logarithmic scale, so that \
         it need not be the quotient of the two columns before it, which sum up all values alike."
            .to_owned()
    })
}

/// The statistics behind the verdicts.
pub(super) fn statistics(rows: &[&Comparison]) -> Table {
    let columns = Columns::of(rows);
    let mut table = columns.headings(&[
        "#n",
        "#Units",
        "#Shift",
        "95 % interval of the shift",
        "#p",
        "#p (Holm)",
        "#Margin",
        "#Noise floor",
        "#Finds from",
        "#Units needed",
        "Interval",
        "Test",
    ]);
    for row in rows {
        let shift =
            row.shift_ci95.filter(|ends| ends.iter().all(|end| end.is_finite())).map_or_else(dash, |[low, high]| {
                Cell::text(&format!(
                    "{} to {}",
                    words::shift(Some(low), &row.unit),
                    words::shift(Some(high), &row.unit)
                ))
            });
        let mut cells = columns.cells(row);
        cells.extend([
            pair(row.n),
            pair(row.units),
            Cell {
                sort: row.shift.filter(|shift| shift.is_finite()),
                ..Cell::text(&words::shift(row.shift, &row.unit))
            },
            shift,
            p(row.p_value),
            p(row.p_adjusted),
            size(Some(row.margin)),
            size(row.noise_floor),
            size(row.minimal_detectable_effect),
            row.n_needed.map_or_else(dash, Cell::count),
            maybe_text(row.interval_method.as_deref()),
            maybe_text(row.test.as_deref()),
        ]);
        table.push(cells);
    }
    table
}

/// Every candidate beside every other: a row a measure, a column a candidate. Empty for one candidate.
pub(super) fn matrix(metrics: &CompareMetrics) -> Table {
    let labels = candidates(metrics);
    if labels.len() < 2 {
        return Table::default();
    }
    let headings = ["Measure".to_owned(), format!("#{}", baseline(metrics))].into_iter().chain(
        labels
            .iter()
            .map(|label| format!("#{}", crate::report::escape::cut(&crate::report::escape::one_line(label), 40))),
    );
    let mut table = Table::with_headings(headings.map(Cow::Owned));
    let mut keys: Vec<(Option<&str>, &str, &str)> = Vec::new();
    for row in words::ranked(metrics) {
        let key = (row.case.as_deref(), row.measure.as_str(), row.statistic.as_str());
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    for (case, measure, statistic) in keys {
        let of = |label: &str| {
            metrics.comparisons.iter().find(|row| {
                row.candidate_label == label
                    && row.case.as_deref() == case
                    && row.measure == measure
                    && row.statistic == statistic
            })
        };
        let rows: Vec<Option<&Comparison>> = labels.iter().map(|label| of(label)).collect();
        let name = case
            .map_or_else(|| format!("{measure} ({statistic})"), |case| format!("{measure} of {case} ({statistic})"));
        let mut cells = vec![Cell::text_up_to(&name, 60)];
        cells.push(rows.iter().flatten().next().map_or_else(dash, |row| value(row.baseline, &row.unit)));
        for row in rows {
            cells.push(row.map_or_else(dash, |row| {
                let text = format!("{} {}", words::maybe_change(row.ratio), verdict(metrics, row));
                Cell { note: words::interval(row.ci95), sort: row.ratio.filter(|r| r.is_finite()), ..Cell::text(&text) }
            }));
        }
        table.push(cells);
    }
    table
}

/// Facts in which the sides differ, those that matter most first.
pub(super) fn differences(metrics: &CompareMetrics) -> Table {
    let mut rows: Vec<_> = metrics.differences.iter().collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.kind));
    let mut table = Table::new(&["Fact", "Baseline", "Candidate", "Value of the candidate", "Kind", "What it means"]);
    for row in rows {
        let known = |value: &Option<String>| value.as_deref().map_or_else(|| Cell::text("not known"), fact);
        table.push(vec![
            Cell::text(&row.fact),
            known(&row.baseline),
            Cell::text_up_to(&row.candidate_label, 40),
            known(&row.candidate),
            Cell::text(words::difference(row.kind)),
            Cell::text_up_to(&row.meaning, SENTENCE),
        ]);
    }
    table
}

/// A fact; of a hash only as much as tells it from others at a glance. `metrics.json` has all of it.
fn fact(value: &str) -> Cell {
    let hash = value.len() == 64 && value.bytes().all(|byte| byte.is_ascii_hexdigit());
    if hash { Cell::text_up_to(value, 13) } else { Cell::text(value) }
}

/// The rules of the gate, the failed ones first.
pub(super) fn gate(report: &CompareReport<'_>) -> Table {
    let mut table = Table::new(&["Rule", "Candidate", "Case", "Outcome", "#Change", "Interval", "Why"]);
    let mut rules: Vec<_> = report.metrics.gate.iter().flat_map(|gate| &gate.rules).collect();
    rules.sort_by_key(|rule| match rule.outcome {
        RuleOutcome::Failed => 0,
        RuleOutcome::Undecided => 1,
        RuleOutcome::Missing => 2,
        RuleOutcome::Passed => 3,
    });
    for rule in rules {
        // The change is in the terms of the limit: relative where that is in per cent, otherwise in the unit of the rule.
        let parsed = Rule::parse(&rule.rule).ok();
        let relative = parsed.is_some_and(|rule| matches!(rule.limit, Limit::Relative(_)));
        let plain = |value: f64| if relative { words::change(1.0 + value) } else { words::value(Some(value), "") };
        let interval = rule.interval.filter(|ends| ends.iter().all(|end| end.is_finite()));
        table.push(vec![
            Cell::text(&rule.rule),
            Cell::text_up_to(&rule.candidate_label, 40),
            rule.case.as_deref().map_or_else(dash, |case| Cell::text_up_to(case, 40)),
            Cell::text(words::rule(rule.outcome)),
            rule.change
                .filter(|change| change.is_finite())
                .map_or_else(dash, |change| Cell::number(plain(change), change)),
            interval.map_or_else(dash, |[low, high]| {
                Cell::text(&format!("{} to {} (at {})", plain(low), plain(high), words::size(Some(rule.confidence))))
            }),
            Cell::text_up_to(&rule.reason, SENTENCE),
        ]);
    }
    table
}
