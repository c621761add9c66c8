//! The report of an analyzed trace: HTML, Markdown, CSV and console text.

pub(in crate::report) mod format;
pub mod model;
