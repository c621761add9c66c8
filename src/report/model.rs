//! What a report is rendered from. Values only: nothing here is read from a file or measured by this module.

use crate::record::gpu::GpuTelemetry;
use crate::record::metrics::Stage1Metrics;
use crate::record::rows::RepeatRow;

/// A titled block of definitions and assumptions behind the numbers of one run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AssumptionSection {
    /// What the block is about, e.g. `FLOPs`.
    pub title: String,
    /// Name and text of each assumption, in order.
    pub lines: Vec<(String, String)>,
}

/// One phase span of one instrumented repeat: the prefill, or one decode step.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StepSpan {
    /// `prefill` or `decode`.
    pub phase: String,
    /// 0 for prefill, the decode step from 1.
    pub step: u32,
    /// Begin, ns since any fixed origin.
    pub start_ns: u64,
    /// End, ns since the same origin.
    pub end_ns: u64,
}

/// Everything the report of a stage1 run shows.
#[derive(Debug, Clone, Copy)]
pub struct Stage1Report<'a> {
    /// The summary, as written to `metrics.json`.
    pub metrics: &'a Stage1Metrics,
    /// Every repeat, as written to `per_run.jsonl`.
    pub rows: &'a [RepeatRow],
    /// The looks at the graphics processor; none where none was looked at.
    pub gpu: Option<&'a GpuTelemetry>,
    /// The assumptions of this run.
    pub assumptions: &'a [AssumptionSection],
    /// Phase timeline of one instrumented repeat; empty if none ran.
    pub steps: &'a [StepSpan],
    /// When the report was made, RFC 3339 UTC.
    pub generated_at: &'a str,
    /// The content of `env.json`.
    pub environment: &'a serde_json::Value,
}

/// Why a report could not be rendered.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A template failed; with embedded templates this is a defect of perfprof.
    #[error("cannot render `{template}`: {detail}")]
    Template {
        /// Name of the template.
        template: &'static str,
        /// What the template engine said, with its causes.
        detail: String,
    },
    /// A value could not be written as JSON.
    #[error("cannot embed the data of the report as JSON")]
    Json(#[from] serde_json::Error),
    /// A value could not be written as CSV.
    #[error("cannot write `{file}` as CSV")]
    Csv {
        /// Name of the file.
        file: &'static str,
        /// The cause.
        #[source]
        source: csv::Error,
    },
}
