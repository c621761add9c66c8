//! The report of a load test: HTML, Markdown, CSV, console text, and the same rows as other tools lay them out.
//!
//! `words` holds the vocabulary, `verdict` the answer, `page` decides which sections there are, `tables`, `facts` and `charts` write what is in
//! them; the formats only lay out. `layout` has other tools' files, `compat` their definitions.

mod assumptions;
mod charts;
pub mod compat;
mod console;
mod device;
mod facts;
mod hints;
mod html;
mod layout;
mod markdown;
mod model;
mod page;
mod spreadsheets;
mod stakeholder;
mod tables;
#[cfg(test)]
mod testing;
mod verdict;
mod words;

pub use console::load_console;
pub use html::load_html;
pub use layout::{file_word, layout_files};
pub use markdown::load_md;
pub use model::{LoadReport, OtherRun};
pub use spreadsheets::{requests_csv, stages_csv, summary_csv_header, summary_csv_line};
pub use stakeholder::load_stakeholder_summary_md;

use super::model::{AssumptionSection, ReportError};

/// The definitions and the method behind a load test, as assumptions.md has them.
pub fn load_assumptions(report: &LoadReport<'_>) -> Vec<AssumptionSection> {
    assumptions::sections(report)
}

/// Every file of the report with its name.
///
/// # Errors
/// If a template or a CSV file cannot be written, which is a defect.
pub fn files(report: &LoadReport<'_>) -> Result<Vec<(&'static str, String)>, ReportError> {
    let metrics = report.metrics;
    Ok(vec![
        ("report.html", load_html(report)?),
        ("report.md", load_md(report)),
        ("stakeholder_summary.md", load_stakeholder_summary_md(report)),
        (
            "assumptions.md",
            super::markdown::assumptions(&metrics.command, &metrics.run_id, &assumptions::sections(report))?,
        ),
        ("stages.csv", stages_csv(report)?),
        ("requests.csv", requests_csv(report)?),
    ])
}
