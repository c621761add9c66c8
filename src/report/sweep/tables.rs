//! The points as tables.

use std::borrow::Cow;
use std::cmp::Reverse;

use super::words;
use crate::diagnostics::Severity;
use crate::record::rows::RowStatus;
use crate::record::sweep::{HeatMap, SweepMetrics, SweepResult};
use crate::report::compare::tables::{dash, maybe_text};
use crate::report::escape::{cut, one_line};
use crate::report::number::{self, count};
use crate::report::table::{Cell, Table};

/// Longest sentence shown whole in a cell.
const SENTENCE: usize = 300;

/// A statistic of a measure of a result, its interval on hover.
fn measure(result: &SweepResult, name: &str) -> Cell {
    let (measure, statistic) = words::split(name);
    let Some(summary) = result.measures.get(measure) else { return dash() };
    let Some(value) = words::value_of(summary, statistic) else { return dash() };
    let percentile = statistic.strip_prefix('p').and_then(|digits| digits.parse::<u32>().ok()).unwrap_or(50);
    let mut cell = Cell::percentile_mark(value, percentile, summary.n);
    if !cell.weak {
        cell = Cell::number(number::in_unit(value, &summary.unit), value);
        let interval = summary.ci95.filter(|ends| ends.iter().all(|end| end.is_finite()));
        let interval = interval.map_or_else(
            || "no interval".to_owned(),
            |[low, high]| format!("95 % interval {}", number::interval(low, high, &summary.unit)),
        );
        cell.note = Some(format!("n = {}; {interval}", count(summary.n)));
    }
    cell
}

fn n_of(result: &SweepResult, names: &[String]) -> Cell {
    let n = names.iter().filter_map(|name| result.measures.get(words::split(name).0)).map(|summary| summary.n).max();
    n.map_or_else(dash, Cell::count)
}

/// The columns that say which point it is.
fn settings(metrics: &SweepMetrics, result: &SweepResult) -> Vec<Cell> {
    let mut cells: Vec<Cell> = metrics
        .axes
        .iter()
        .map(|axis| {
            let value = result.settings.get(&axis.key);
            // Numbers sort as numbers.
            let sort = value.and_then(|value| value.parse::<f64>().ok()).filter(|value| value.is_finite());
            Cell { sort, ..value.map_or_else(dash, |value| Cell::text_up_to(value, 40)) }
        })
        .collect();
    if words::several_cases(metrics) {
        cells.push(maybe_text(result.case.as_deref()));
    }
    cells
}

fn headings(metrics: &SweepMetrics) -> Vec<Cow<'static, str>> {
    let mut titles: Vec<Cow<'static, str>> =
        metrics.axes.iter().map(|axis| Cow::Owned(format!("#{}", cut(&one_line(&axis.key), 40)))).collect();
    if words::several_cases(metrics) {
        titles.push("Case".into());
    }
    titles
}

/// The results at these places, with the measures that are looked for and the usual ones.
fn table(metrics: &SweepMetrics, places: &[usize]) -> Table {
    let names = words::measures(metrics);
    let mut titles: Vec<Cow<'static, str>> = vec!["#Point".into()];
    titles.extend(headings(metrics));
    titles.push("Ended".into());
    titles.extend(names.iter().map(|name| Cow::Owned(format!("#{}", words::heading(metrics, name)))));
    titles.push("#n".into());
    let mut table = Table::with_headings(titles.into_iter());
    let best = metrics.best.as_ref().and_then(|best| best.result);
    for place in places {
        let Some(result) = metrics.results.get(*place) else { continue };
        let number =
            if best == Some(*place as u32) { format!("★ {}", result.point) } else { result.point.to_string() };
        let mut cells = vec![Cell::number(number, f64::from(result.point))];
        cells.extend(settings(metrics, result));
        cells.push(Cell::text(words::status(result)));
        cells.extend(names.iter().map(|name| measure(result, name)));
        cells.push(n_of(result, &names));
        table.push(cells);
    }
    table
}

/// Every point and case.
pub(super) fn points(metrics: &SweepMetrics, limit: usize) -> Table {
    let places: Vec<usize> = (0..metrics.results.len()).take(limit).collect();
    table(metrics, &places)
}

/// The best result and those that are not told apart from it.
pub(super) fn best(metrics: &SweepMetrics) -> Table {
    let Some(best) = &metrics.best else { return Table::default() };
    let places: Vec<usize> = best.result.iter().chain(&best.not_told_apart).map(|place| *place as usize).collect();
    if places.is_empty() { Table::default() } else { table(metrics, &places) }
}

/// The front in its order.
pub(super) fn front(metrics: &SweepMetrics) -> Table {
    let Some(front) = &metrics.pareto else { return Table::default() };
    let places: Vec<usize> = front.results.iter().map(|place| *place as usize).collect();
    table(metrics, &places)
}

/// Points that did not end well, each with its reason.
pub(super) fn failures(metrics: &SweepMetrics) -> Table {
    let mut titles: Vec<Cow<'static, str>> = vec!["#Point".into()];
    titles.extend(headings(metrics));
    titles.extend(["Ended", "Why", "Run"].map(Cow::Borrowed));
    let mut table = Table::with_headings(titles.into_iter());
    for result in metrics.results.iter().filter(|result| !matches!(result.status, Some(RowStatus::Ok) | None)) {
        let mut cells = vec![Cell::number(result.point.to_string(), f64::from(result.point))];
        cells.extend(settings(metrics, result));
        cells.push(Cell::text(words::status(result)));
        cells.push(result.error.as_deref().map_or_else(dash, |error| Cell::text_up_to(error, SENTENCE)));
        cells.push(maybe_text(result.run.as_deref()));
        table.push(cells);
    }
    table
}

/// The axes with their values.
pub(super) fn axes(metrics: &SweepMetrics) -> Table {
    let mut table = Table::new(&["Setting", "#Values", "Which"]);
    for axis in &metrics.axes {
        let values = cut(&one_line(&axis.values.join(", ")), SENTENCE);
        table.push(vec![
            Cell::text_up_to(&axis.key, 60),
            Cell::count(axis.values.len() as u64),
            Cell::text_up_to(&values, SENTENCE),
        ]);
    }
    table
}

/// A map as a table: rows down, columns across.
pub(super) fn map(map: &HeatMap) -> Table {
    let first = format!("{} ↓ {} →", cut(&one_line(&map.y.key), 40), cut(&one_line(&map.x.key), 40));
    let across = map.x.values.iter().map(|value| Cow::Owned(format!("#{}", cut(&one_line(value), 40))));
    let mut table = Table::with_headings(std::iter::once(Cow::Owned(first)).chain(across));
    for (down, (values, missing)) in map.y.values.iter().zip(map.values.iter().zip(&map.missing)) {
        let mut cells = vec![Cell::text_up_to(down, 40)];
        cells.extend(values.iter().zip(missing).map(|(value, why)| match value {
            Some(value) => Cell::number(number::in_unit(*value, &map.unit), *value),
            None => Cell::text(why.as_deref().unwrap_or("no value")),
        }));
        table.push(cells);
    }
    table
}

/// The findings, the gravest first.
pub(super) fn diagnostics(metrics: &SweepMetrics) -> Table {
    let mut all: Vec<_> = metrics.diagnostics.iter().collect();
    all.sort_by_key(|row| Reverse(row.severity));
    let mut table = Table::new(&["Severity", "Code", "#Times", "First"]);
    for row in all {
        table.push(vec![
            Cell::text(match row.severity {
                Severity::Info => "note",
                Severity::Warn => "warning",
                Severity::Error => "error",
                Severity::DataLoss => "data lost",
            }),
            Cell::text(&row.code),
            Cell::count(row.count),
            Cell::text_up_to(&row.first, 600),
        ]);
    }
    table
}
