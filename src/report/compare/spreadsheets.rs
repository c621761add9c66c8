//! The comparison for spreadsheets and data frames.

use super::model::CompareReport;
use super::words;
use crate::report::escape::spreadsheet;
use crate::report::model::ReportError;
use crate::report::spreadsheet::{float, number, write};

fn text(value: Option<&str>) -> String {
    spreadsheet(value.unwrap_or(""))
}

fn ends(interval: Option<[f64; 2]>) -> [String; 2] {
    let interval = interval.filter(|ends| ends.iter().all(|end| end.is_finite()));
    [float(interval.map(|ends| ends[0])), float(interval.map(|ends| ends[1]))]
}

/// `comparisons.csv`: every measure of every candidate against the baseline, then the A/A control (`control` is true there).
///
/// The verdict of a candidate that did not do the same work is `not_comparable`, whatever its numbers say.
pub fn comparisons_csv(report: &CompareReport<'_>) -> Result<String, ReportError> {
    let header = [
        "control",
        "case",
        "measure",
        "unit",
        "direction",
        "statistic",
        "baseline_label",
        "candidate_label",
        "baseline",
        "candidate",
        "ratio",
        "ratio_ci95_low",
        "ratio_ci95_high",
        "interval_method",
        "shift",
        "shift_ci95_low",
        "shift_ci95_high",
        "p_value",
        "p_adjusted",
        "test",
        "n_baseline",
        "n_candidate",
        "units_baseline",
        "units_candidate",
        "margin",
        "noise_floor",
        "minimal_detectable_effect",
        "n_needed",
        "verdict",
        "reason",
    ];
    let metrics = report.metrics;
    let control = metrics.study.iter().flat_map(|study| &study.control).map(|row| (true, row));
    let rows = metrics.comparisons.iter().map(|row| (false, row)).chain(control).map(|(control, row)| {
        let [low, high] = ends(row.ci95);
        let [shift_low, shift_high] = ends(row.shift_ci95);
        let outcome = words::outcome(metrics, row);
        vec![
            control.to_string(),
            text(row.case.as_deref()),
            spreadsheet(&row.measure),
            spreadsheet(&row.unit),
            words::direction_code(row.direction).to_owned(),
            spreadsheet(&row.statistic),
            spreadsheet(&row.baseline_label),
            spreadsheet(&row.candidate_label),
            float(row.baseline),
            float(row.candidate),
            float(row.ratio),
            low,
            high,
            text(row.interval_method.as_deref()),
            float(row.shift),
            shift_low,
            shift_high,
            float(row.p_value),
            float(row.p_adjusted),
            text(row.test.as_deref()),
            row.n[0].to_string(),
            row.n[1].to_string(),
            row.units[0].to_string(),
            row.units[1].to_string(),
            float(Some(row.margin)),
            float(row.noise_floor),
            float(row.minimal_detectable_effect),
            number(row.n_needed),
            outcome.code().to_owned(),
            spreadsheet(&words::reason(metrics, row)),
        ]
    });
    write("comparisons.csv", &header, rows)
}

/// `attribution.csv`: every part of every change; the remainder rows too, so that each phase sums to its change.
pub fn attribution_csv(report: &CompareReport<'_>) -> Result<String, ReportError> {
    let header = [
        "baseline_label",
        "candidate_label",
        "case",
        "per",
        "phase",
        "layer",
        "module",
        "class",
        "kernel",
        "baseline_kernel",
        "change",
        "baseline_ns",
        "candidate_ns",
        "delta_ns",
        "delta_ci95_low_ns",
        "delta_ci95_high_ns",
        "baseline_calls",
        "candidate_calls",
        "count_delta",
        "per_call_delta_ns",
        "count_ns",
        "per_call_ns",
        "share",
        "matched_by",
    ];
    let rows = report.metrics.attribution.iter().flat_map(|part| part.rows.iter().map(move |row| (part, row)));
    let rows = rows.map(|(part, row)| {
        let [low, high] = ends(row.delta_ci95_ns);
        vec![
            spreadsheet(&part.baseline_label),
            spreadsheet(&part.candidate_label),
            text(part.case.as_deref()),
            spreadsheet(&part.per),
            spreadsheet(&row.phase),
            number(row.layer),
            text(row.module.as_deref()),
            spreadsheet(&row.class),
            text(row.kernel.as_deref()),
            text(row.baseline_kernel.as_deref()),
            words::change_code(row.change).to_owned(),
            float(Some(row.baseline_ns)),
            float(Some(row.candidate_ns)),
            float(Some(row.delta_ns)),
            low,
            high,
            float(Some(row.baseline_calls)),
            float(Some(row.candidate_calls)),
            float(Some(row.count_delta)),
            float(row.per_call_delta_ns),
            float(Some(row.count_ns)),
            float(Some(row.per_call_ns)),
            float(Some(row.share)),
            spreadsheet(&row.matched_by),
        ]
    });
    write("attribution.csv", &header, rows)
}
