//! The report of a sweep: HTML, Markdown, CSV and console text.
//!
//! `verdict` holds the answer, `page` decides which sections there are, `tables` and `charts` write what is in them; the formats only lay out.

mod assumptions;
mod charts;
mod console;
mod html;
mod markdown;
mod model;
mod page;
mod spreadsheets;
mod stakeholder;
mod tables;
mod verdict;
mod words;

pub use console::sweep_console;
pub use html::sweep_html;
pub use markdown::sweep_md;
pub use model::SweepReport;
pub use spreadsheets::points_csv;
pub use stakeholder::sweep_stakeholder_summary_md;

use super::model::ReportError;

/// Every file of the report with its name.
///
/// # Errors
/// If a template or a CSV file cannot be written, which is a defect.
pub fn files(report: &SweepReport<'_>) -> Result<Vec<(&'static str, String)>, ReportError> {
    let metrics = report.metrics;
    Ok(vec![
        ("report.html", sweep_html(report)?),
        ("report.md", sweep_md(report)),
        ("stakeholder_summary.md", sweep_stakeholder_summary_md(report)),
        (
            "assumptions.md",
            super::markdown::assumptions(&metrics.command, &metrics.run_id, &assumptions::sections(report))?,
        ),
        ("points.csv", points_csv(report)?),
    ])
}
