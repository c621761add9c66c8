//! Renders values it is given as Markdown, HTML, CSV and console text; runs, measures and reads nothing.

pub mod model;

pub use model::{AssumptionSection, ReportError, Stage1Report, StepSpan};

/// `report.md`.
pub fn report_md(_report: &Stage1Report<'_>) -> Result<String, ReportError> {
    Ok(String::new())
}
/// `operators.md`.
pub fn operators_md(_report: &Stage1Report<'_>) -> Result<String, ReportError> {
    Ok(String::new())
}
/// `stakeholder_summary.md`.
pub fn stakeholder_summary_md(_report: &Stage1Report<'_>) -> Result<String, ReportError> {
    Ok(String::new())
}
/// `assumptions.md`.
pub fn assumptions_md(_report: &Stage1Report<'_>) -> Result<String, ReportError> {
    Ok(String::new())
}
/// `report.html`.
pub fn report_html(_report: &Stage1Report<'_>) -> Result<String, ReportError> {
    Ok(String::new())
}
/// `operators.csv`.
pub fn operators_csv(_report: &Stage1Report<'_>) -> Result<String, ReportError> {
    Ok(String::new())
}
/// `per_run.csv`: the scalar fields of every repeat.
pub fn rows_csv(_report: &Stage1Report<'_>) -> Result<String, ReportError> {
    Ok(String::new())
}
/// The summary printed on the console, at most `width` columns wide, with ANSI colours if `color`.
pub fn console_summary(_report: &Stage1Report<'_>, _color: bool, _width: usize) -> String {
    String::new()
}
