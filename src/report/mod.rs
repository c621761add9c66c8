//! Renders values it is given as Markdown, HTML, CSV and console text; runs, measures and reads nothing.
//!
//! `tables` decides what is shown and how it is written, `advice` what the numbers mean, `chart` draws; the formats only lay out.
//! Every text from outside is escaped by the format that writes it, see `escape`.

mod advice;
pub mod analyze;
mod chart;
pub mod compare;
mod console;
mod escape;
mod gpu;
mod html;
pub mod load;
mod markdown;
pub mod model;
mod number;
mod operators;
mod spreadsheet;
pub mod stage2;
pub mod sweep;
mod table;
mod tables;
mod view;

pub use console::console_summary;
pub use html::report_html;
pub use markdown::{assumptions_md, operators_md, report_md, stakeholder_summary_md};
pub use model::{AssumptionSection, ReportError, Stage1Report, StepSpan};
pub use spreadsheet::{operators_csv, rows_csv};
