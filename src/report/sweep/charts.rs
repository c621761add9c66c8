//! Heat maps and the Pareto front.

use super::{tables, words};
use crate::record::sweep::{HeatMap, SweepMetrics, SweepResult};
use crate::report::chart::{Chart, Grid, GridCell, ScatterAxis, ScatterPoint, heat_map, scatter};
use crate::report::escape::{cut, one_line};
use crate::report::number;
use crate::report::table::Table;

/// Points drawn at most.
const POINTS: usize = 2000;

fn summary_words(metrics: &SweepMetrics, result: &SweepResult, name: &str) -> String {
    let (measure, statistic) = words::split(name);
    let Some(summary) = result.measures.get(measure) else { return format!("{measure}: not known") };
    format!(
        "{measure} ({}): {}, n = {}",
        words::statistic(statistic),
        words::value(words::value_of(summary, statistic), words::unit(metrics, name)),
        number::count(summary.n)
    )
}

/// What a map shows, without its axes.
pub(super) fn map_title(metrics: &SweepMetrics, map: &HeatMap) -> String {
    let fixed: Vec<String> = map.fixed.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let heading = words::heading(metrics, &map.measure);
    let title = if fixed.is_empty() { heading } else { format!("{heading} at {}", fixed.join(" ")) };
    cut(&one_line(&title), 120)
}

/// One map, and the same as a table.
pub(super) fn map(metrics: &SweepMetrics, at: usize, map: &HeatMap) -> (Chart, Table) {
    let lower = words::lower_is_better(&map.measure);
    let reading = format!(
        "Each cell says the value of one point; darker is better, here {}.",
        if lower { "smaller" } else { "larger" }
    );
    let chart = Chart::new(&format!("map-{at}"), &map_title(metrics, map), &reading);
    let best = metrics.best.as_ref().and_then(|best| metrics.results.get(best.result? as usize));
    let is_best = |x: &String, y: &String| {
        best.is_some_and(|best| {
            let fixed = map.fixed.iter().all(|(key, value)| {
                best.settings.get(key) == Some(value) || (key == "case" && best.case.as_ref() == Some(value))
            });
            fixed && best.settings.get(&map.x.key) == Some(x) && best.settings.get(&map.y.key) == Some(y)
        })
    };
    let cell = |value: Option<f64>, why: Option<&String>, x: &String, y: &String| {
        let place = format!("{}={x} {}={y}", map.x.key, map.y.key);
        let text = match value {
            Some(value) => number::in_unit(value, &map.unit),
            None => why.cloned().unwrap_or_else(|| "no value".to_owned()),
        };
        let whole = if value.is_some() { words::value(value, &map.unit) } else { text.clone() };
        GridCell {
            value,
            best: value.is_some() && is_best(x, y),
            title: cut(&one_line(&format!("{place}: {whole}")), 300),
            text,
        }
    };
    let rows = map.y.values.iter().zip(map.values.iter().zip(&map.missing)).map(|(y, (values, missing))| {
        let cells = map.x.values.iter().zip(values.iter().zip(missing));
        cells.map(|(x, (value, why))| cell(*value, why.as_ref(), x, y)).collect()
    });
    let grid = Grid {
        x_title: map.x.key.clone(),
        y_title: map.y.key.clone(),
        x: map.x.values.clone(),
        y: map.y.values.clone(),
        cells: rows.collect(),
        lower_is_better: lower,
    };
    (heat_map(chart, &grid, &|value| words::value(Some(value), &map.unit)), tables::map(map))
}

/// The front over its first two measures; none where it has fewer.
pub(super) fn front(metrics: &SweepMetrics) -> Option<Chart> {
    let front = metrics.pareto.as_ref()?;
    let [x, y, ..] = front.measures.as_slice() else { return None };
    let (first, second) = (words::heading(metrics, x), words::heading(metrics, y));
    let reading = "Every point that has both measures. A point of the front is beaten by no other in all measures at once: which of them is right \
                   depends on what matters more.";
    let chart = Chart::new("pareto", &cut(&format!("{first} against {second}"), 120), reading);
    let best = metrics.best.as_ref().and_then(|best| best.result);
    let value = |result: &SweepResult, name: &str| {
        let (measure, statistic) = words::split(name);
        words::value_of(result.measures.get(measure)?, statistic)
    };
    let points: Vec<ScatterPoint> = metrics
        .results
        .iter()
        .enumerate()
        .filter_map(|(place, result)| {
            let at = [value(result, x)?, value(result, y)?];
            let label = words::name(metrics, result);
            let title =
                format!("{label}; {}; {}", summary_words(metrics, result, x), summary_words(metrics, result, y));
            Some(ScatterPoint {
                at,
                title: cut(&one_line(&title), 400),
                label,
                front: front.results.contains(&(place as u32)),
                best: best == Some(place as u32),
            })
        })
        .take(POINTS)
        .collect();
    let axis = |name: &str, title: &str| ScatterAxis {
        title: title.to_owned(),
        lower_is_better: words::lower_is_better(name),
    };
    Some(scatter(chart, &[axis(x, &first), axis(y, &second)], &points))
}
