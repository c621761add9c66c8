//! A run of the in-process engine as a subject.

use serde_json::Value;

use super::error::ImportError;
use crate::compare::subject::Subject;
use crate::diagnostics::Diagnostic;
use crate::record::context::Stage1Context;
use crate::record::inputs::Inputs;
use crate::record::metrics::Stage1Metrics;
use crate::record::rows::RepeatRow;
use crate::record::run_dir::{RunRecord, RunStatus};
use crate::trace::timeline::Timeline;

/// What is on disk of a stage1 run; everything but the rows may be missing.
#[derive(Debug, Clone, Default)]
pub struct Stage1Files {
    /// Name of the directory, or of the file the rows came from.
    pub name: String,
    /// `run.json`.
    pub run: Option<RunRecord>,
    /// What the status means now; see [`RunRecord::effective_status`].
    pub status: Option<RunStatus>,
    /// `context.json`.
    pub context: Option<Stage1Context>,
    /// `metrics.json`.
    pub metrics: Option<Stage1Metrics>,
    /// `per_run.jsonl`.
    pub rows: Vec<RepeatRow>,
    /// `inputs.yaml`.
    pub inputs: Option<Inputs>,
    /// `env.json`.
    pub environment: Option<Value>,
    /// Operator spans.
    pub spans: Option<Timeline>,
    /// What the readers of these files found.
    pub diagnostics: Vec<Diagnostic>,
}

/// The run as a subject, labelled with its tag, else its id.
///
/// # Errors
/// If there is no row at all.
pub fn subject(files: &Stage1Files) -> Result<Subject, ImportError> {
    Err(ImportError::Unusable {
        file: files.name.clone(),
        format: "stage1 run".to_owned(),
        reason: "not read yet".to_owned(),
    })
}
