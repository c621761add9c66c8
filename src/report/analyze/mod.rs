//! The report of an analyzed trace: HTML, Markdown, CSV and console text.

pub mod model;
