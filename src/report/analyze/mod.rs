//! The report of an analyzed trace: HTML, Markdown, CSV and console text.
//!
//! `verdict` says what limits the work, `page` decides which sections there are and what is in them, `tables`, `waits` and `charts` write
//! the results of the analyses; the formats only lay out.

pub(in crate::report) mod cells;
mod charts;
mod console;
pub(in crate::report) mod counters;
mod excerpt;
mod findings;
pub(in crate::report) mod format;
mod html;
mod markdown;
pub mod model;
pub(in crate::report) mod page;
mod spreadsheets;
mod tables;
pub(in crate::report) mod verdict;
mod waits;
mod words;

pub use console::analyze_console;
pub use html::analyze_html;
pub use markdown::{analyze_md, analyze_operators_md};
pub use model::{AnalyzeReport, DeviceLabel, TraceReport};
pub use spreadsheets::{analyze_operators_csv, gaps_csv, kernels_csv, steps_csv};

use super::model::ReportError;

/// Every file of the report with its name.
pub fn files(report: &AnalyzeReport<'_>) -> Result<Vec<(&'static str, String)>, ReportError> {
    let devices = report.device_labels();
    files_of(&report.parts(&devices))
}

/// [`files`] of parts.
pub(in crate::report) fn files_of(parts: &TraceReport<'_>) -> Result<Vec<(&'static str, String)>, ReportError> {
    Ok(vec![
        ("report.html", analyze_html(parts)?),
        ("report.md", analyze_md(parts)),
        ("operators.md", analyze_operators_md(parts)),
        ("operators.csv", analyze_operators_csv(parts)?),
        ("kernels.csv", kernels_csv(parts)?),
        ("gaps.csv", gaps_csv(parts)?),
        ("steps.csv", steps_csv(parts)?),
        ("assumptions.md", super::markdown::assumptions(html::command(parts), parts.run_id, parts.assumptions)?),
    ])
}

/// The summary printed on the console, at most `width` columns wide, with ANSI colours if `color`.
pub fn console(report: &AnalyzeReport<'_>, color: bool, width: usize) -> String {
    let devices = report.device_labels();
    analyze_console(&report.parts(&devices), color, width)
}

/// What limits the traced work, in one plain sentence: the one on top of every format.
pub fn verdict_sentence(report: &AnalyzeReport<'_>) -> String {
    let devices = report.device_labels();
    verdict::verdict(&report.parts(&devices)).sentence
}
