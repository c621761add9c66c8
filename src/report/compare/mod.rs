//! The report of a comparison: HTML, Markdown, CSV, JUnit XML and console text.
//!
//! `words` holds the vocabulary, `verdict` the answer, `page` decides which sections there are, `tables`, `context` and `charts` write what
//! is in them; the formats only lay out. Where the work was not the same, no format names a winner: see `words::outcome`.

mod assumptions;
mod charts;
mod console;
mod context;
mod github;
mod html;
mod junit;
pub(super) mod markdown;
pub mod model;
pub(super) mod page;
mod spreadsheets;
mod stakeholder;
pub(super) mod tables;
pub(super) mod text;
pub(super) mod verdict;
mod words;

pub use assumptions::assumption_sections;
pub use console::compare_console;
pub use github::ci_summary_md;
pub use html::compare_html;
pub use junit::junit_xml;
pub use markdown::compare_md;
pub use model::{CompareReport, Distribution, VALUES_KEPT, distributions};
pub use spreadsheets::{attribution_csv, comparisons_csv};
pub use stakeholder::compare_stakeholder_summary_md;

use super::model::ReportError;

/// Every file of the report with its name.
pub fn files(report: &CompareReport<'_>) -> Result<Vec<(&'static str, String)>, ReportError> {
    let metrics = report.metrics;
    Ok(vec![
        ("compare.html", compare_html(report)?),
        ("compare.md", compare_md(report)),
        ("stakeholder_summary.md", compare_stakeholder_summary_md(report)),
        ("assumptions.md", super::markdown::assumptions(&metrics.command, &metrics.run_id, &assumptions::all(report))?),
        ("comparisons.csv", comparisons_csv(report)?),
        ("attribution.csv", attribution_csv(report)?),
        ("junit.xml", junit_xml(report)),
        ("ci_summary.md", ci_summary_md(report)),
    ])
}
