//! The report of an analyzed trace: HTML, Markdown, CSV and console text.
//!
//! `verdict` says what limits the work, `page` decides which sections there are and what is in them, `tables`, `waits` and `charts` write
//! the results of the analyses; the formats only lay out.

mod cells;
mod charts;
mod console;
mod excerpt;
mod findings;
pub(in crate::report) mod format;
mod html;
mod markdown;
pub mod model;
mod page;
mod spreadsheets;
mod tables;
mod verdict;
mod waits;
mod words;

pub use console::analyze_console;
pub use html::analyze_html;
pub use markdown::{analyze_md, analyze_operators_md};
pub use model::{AnalyzeReport, DeviceLabel, ExtraSection, Finding, InputFile};
pub use spreadsheets::{analyze_operators_csv, gaps_csv, kernels_csv, steps_csv};

/// What limits the traced work, in one plain sentence: the one on top of every format.
pub fn verdict_sentence(report: &AnalyzeReport<'_>) -> String {
    verdict::verdict(report).sentence
}
