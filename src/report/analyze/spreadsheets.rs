//! The CSV files of an analyzed trace, by the rules of [`crate::report::spreadsheet`]: numbers in the unit of their column, unknown is empty.

use super::model::TraceReport;
use crate::report::escape::spreadsheet;
use crate::report::model::ReportError;
use crate::report::spreadsheet::{float, number, write};

fn text(value: Option<&String>) -> String {
    spreadsheet(value.map_or("", String::as_str))
}

/// `operators.csv`: totals of operator classes by phase.
pub fn analyze_operators_csv(report: &TraceReport<'_>) -> Result<String, ReportError> {
    let header = ["class", "phase", "kernel_names", "calls", "total_sum_ns", "share_of_phase", "share"];
    let rows = report.kernels.into_iter().flat_map(|kernels| &kernels.classes).map(|row| {
        vec![
            row.class.name().to_owned(),
            text(row.phase.as_ref()),
            row.names.to_string(),
            row.calls.to_string(),
            row.total_ns.to_string(),
            float(row.share_of_phase),
            float(row.share),
        ]
    });
    write("operators.csv", &header, rows)
}

/// `kernels.csv`: every row of the operator table.
pub fn kernels_csv(report: &TraceReport<'_>) -> Result<String, ReportError> {
    let header = [
        "class",
        "name",
        "full_name",
        "phase",
        "module",
        "device",
        "stream",
        "calls",
        "total_sum_ns",
        "mean_ns",
        "min_ns",
        "p50_ns",
        "p95_ns",
        "p95_supported",
        "p99_ns",
        "p99_supported",
        "max_ns",
        "std_ns",
        "share_of_phase",
        "share",
        "bytes",
    ];
    let rows = report.kernels.into_iter().flat_map(|kernels| &kernels.rows).map(|row| {
        vec![
            row.class.name().to_owned(),
            spreadsheet(&row.name),
            spreadsheet(&row.full_name),
            text(row.phase.as_ref()),
            text(row.module.as_ref()),
            number(row.device),
            number(row.stream),
            row.calls.to_string(),
            row.total_ns.to_string(),
            float(Some(row.mean_ns)),
            row.min_ns.to_string(),
            float(Some(row.p50_ns)),
            float(Some(row.p95_ns)),
            row.p95_supported.to_string(),
            float(Some(row.p99_ns)),
            row.p99_supported.to_string(),
            row.max_ns.to_string(),
            float(row.std_ns),
            float(row.share_of_phase),
            float(row.share),
            number(row.bytes),
        ]
    });
    write("kernels.csv", &header, rows)
}

/// `gaps.csv`: the longest gaps of each device. Times are on the clock of the trace.
pub fn gaps_csv(report: &TraceReport<'_>) -> Result<String, ReportError> {
    let header = ["device", "start_ns", "end_ns", "length_ns", "cause", "previous", "next", "launch_call", "evidence"];
    let rows = report.idle.iter().flat_map(|idle| idle.longest.iter().map(move |gap| (idle.device, gap))).map(
        |(device, gap)| {
            vec![
                device.to_string(),
                gap.interval.start_ns.to_string(),
                gap.interval.end_ns.to_string(),
                gap.length_ns.to_string(),
                gap.cause.name().to_owned(),
                text(gap.previous.as_ref()),
                text(gap.next.as_ref()),
                text(gap.launch_call.as_ref()),
                spreadsheet(&gap.evidence),
            ]
        },
    );
    write("gaps.csv", &header, rows)
}

/// `steps.csv`: every step, counted from 0. Times are on the clock of the trace.
pub fn steps_csv(report: &TraceReport<'_>) -> Result<String, ReportError> {
    let header =
        ["step", "phase", "start_ns", "end_ns", "duration_ns", "kernels", "launches", "busy_union_ns", "gpu_sum_ns"];
    let rows = report.steps.into_iter().flat_map(|steps| {
        steps.table.iter().enumerate().map(|(at, step)| {
            vec![
                at.to_string(),
                text(steps.phases.get(usize::from(step.phase)).map(|phase| &phase.name)),
                step.start_ns.to_string(),
                step.end_ns.to_string(),
                step.end_ns.saturating_sub(step.start_ns).to_string(),
                step.kernels.to_string(),
                step.launches.to_string(),
                step.busy_ns.to_string(),
                step.gpu_sum_ns.to_string(),
            ]
        })
    });
    write("steps.csv", &header, rows)
}
