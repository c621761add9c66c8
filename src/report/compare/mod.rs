//! The report of a comparison: HTML, Markdown, CSV, JUnit XML and console text.
//!
//! `words` holds the vocabulary, `verdict` the answer, `page` decides which sections there are, `tables` and `charts` write what is in
//! them; the formats only lay out. Where the work was not the same, no format names a winner: see `words::outcome`.

mod junit;
pub mod model;
mod spreadsheets;
mod words;

pub use junit::junit_xml;
pub use model::{CompareReport, Distribution, VALUES_KEPT, distributions};
pub use spreadsheets::{attribution_csv, comparisons_csv};

use super::model::ReportError;

/// Every file of the report with its name.
pub fn files(report: &CompareReport<'_>) -> Result<Vec<(&'static str, String)>, ReportError> {
    Ok(vec![
        ("comparisons.csv", comparisons_csv(report)?),
        ("attribution.csv", attribution_csv(report)?),
        ("junit.xml", junit_xml(report)),
    ])
}
