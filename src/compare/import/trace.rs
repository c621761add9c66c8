//! A GPU trace, or the `metrics.json` of an analysed one, as a subject.

use serde_json::Value;

use super::error::ImportError;
use crate::analysis::coverage::Coverage;
use crate::analysis::steps::Steps;
use crate::compare::subject::Subject;
use crate::diagnostics::Diagnostic;
use crate::trace::timeline::Timeline;

/// A trace with the analyses its values come from.
#[derive(Debug, Clone, Copy)]
pub struct TraceParts<'a> {
    /// The trace.
    pub timeline: &'a Timeline,
    /// What it can say.
    pub coverage: &'a Coverage,
    /// Its steps.
    pub steps: &'a Steps,
    /// Files, without directories.
    pub files: &'a [String],
    /// What the readers found.
    pub diagnostics: &'a [Diagnostic],
}

/// The trace as a subject: times of its steps, kernels of a step, how busy the GPUs were.
pub fn trace_subject(parts: &TraceParts<'_>) -> Result<Subject, ImportError> {
    Err(ImportError::Unusable {
        file: parts.files.first().cloned().unwrap_or_default(),
        format: "trace".to_owned(),
        reason: "not read yet".to_owned(),
    })
}

/// The `metrics.json` of `perfprof analyze` as a subject; `environment` is the `env.json` beside it.
///
/// # Errors
/// If it is of a later schema, or no such file.
pub fn analyzed_subject(file: &str, metrics: &Value, tag: Option<&str>) -> Result<Subject, ImportError> {
    let _ = (metrics, tag);
    Err(ImportError::Unusable { file: file.to_owned(), format: "analyze run".to_owned(), reason: "not read yet".to_owned() })
}
