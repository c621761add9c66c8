//! The points for spreadsheets and data frames.

use super::model::SweepReport;
use super::words;
use crate::record::rows::RowStatus;
use crate::report::escape::spreadsheet;
use crate::report::model::ReportError;
use crate::report::spreadsheet::{float, write};

/// `points.csv`: a line for every measure of every case of every point; a point without a result has one line without a measure.
///
/// # Errors
/// If it cannot be written as CSV, which is a defect.
pub fn points_csv(report: &SweepReport<'_>) -> Result<String, ReportError> {
    let metrics = report.metrics;
    let fixed = ["point", "case", "run", "status", "valid", "error", "best", "on_front"];
    let measured =
        ["measure", "unit", "n", "mean", "std", "min", "p50", "p90", "p95", "p99", "max", "ci95_low", "ci95_high"];
    let axes: Vec<String> = metrics.axes.iter().map(|axis| spreadsheet(&axis.key)).collect();
    let header: Vec<&str> = fixed.into_iter().chain(axes.iter().map(String::as_str)).chain(measured).collect();
    let best = metrics.best.as_ref().and_then(|best| best.result);
    let mut rows: Vec<Vec<String>> = Vec::new();
    for (place, result) in metrics.results.iter().enumerate() {
        let text = |value: &Option<String>| spreadsheet(value.as_deref().unwrap_or(""));
        let place = place as u32;
        let mut begin = vec![
            result.point.to_string(),
            text(&result.case),
            text(&result.run),
            match result.status {
                None => "not_run",
                Some(RowStatus::Ok) => "ok",
                Some(RowStatus::Oom) => "oom",
                Some(RowStatus::Failed) => "failed",
                Some(RowStatus::Interrupted) => "interrupted",
            }
            .to_owned(),
            result.valid.map_or_else(String::new, |valid| valid.to_string()),
            text(&result.error),
            (best == Some(place)).to_string(),
            metrics.pareto.as_ref().map_or_else(String::new, |front| front.results.contains(&place).to_string()),
        ];
        begin.extend(metrics.axes.iter().map(|axis| text(&result.settings.get(&axis.key).cloned())));
        if result.measures.is_empty() {
            let empty = vec![String::new(); measured.len()];
            rows.push(begin.into_iter().chain(empty).collect());
            continue;
        }
        for (name, summary) in &result.measures {
            let ends = summary.ci95.filter(|ends| ends.iter().all(|end| end.is_finite()));
            let mut row = begin.clone();
            row.extend([spreadsheet(name), spreadsheet(&summary.unit), summary.n.to_string()]);
            let statistics = ["mean", "std", "min", "p50", "p90", "p95", "p99", "max"];
            row.extend(statistics.map(|statistic| float(words::value_of(summary, statistic))));
            row.extend([float(ends.map(|ends| ends[0])), float(ends.map(|ends| ends[1]))]);
            rows.push(row);
        }
    }
    write("points.csv", &header, rows.into_iter())
}
