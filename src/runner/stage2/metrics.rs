//! `metrics.json` of `perfprof stage2`: the public contract. `docs/schema/metrics.stage2.schema.json` is its published JSON schema.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::analysis::ncu::{KernelRoofline, NameMatch, NcuKernelSummary};
use crate::diagnostics::{Diagnostic, Validity};
use crate::record::stage2::{ModelRecord, ProfileOutcome, ToolRecord, WorkloadRun};
use crate::runner::analyze::AnalyzeMetrics;
use crate::stats::summary::Summary;

/// Version of [`Stage2Metrics`].
pub const STAGE2_METRICS_SCHEMA_VERSION: u32 = 1;

/// What was profiled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkloadBlock {
    /// Command line of another program, without secrets; null for `perfprof stage1`.
    pub program: Option<Vec<String>>,
    /// Settings of the workload, without secrets.
    pub overrides: Vec<String>,
    /// The model that ran; null where nobody says.
    pub model: Option<ModelRecord>,
    /// The run without a tracer; null where there was none.
    pub plain: Option<WorkloadRun>,
}

/// What two runs were compared by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OverheadBasis {
    /// Medians of `total_ms`: loading and the tracer's own begin and end are not in it.
    TotalMs,
    /// Wall time of the processes: everything is in it.
    WallS,
}

/// What tracing cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OverheadBlock {
    /// The capture.
    pub capture: String,
    /// What was compared.
    pub basis: OverheadBasis,
    /// Without the tracer, in the unit of the basis.
    pub plain: f64,
    /// Under it.
    pub traced: f64,
    /// traced / plain.
    pub ratio: f64,
}

/// One capture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CaptureBlock {
    /// `all`, or the range that opened it.
    pub name: String,
    /// The range as nsys was told; null for the whole run.
    pub range: Option<String>,
    /// Directory of its reports, relative to the run; empty for the run itself.
    pub directory: String,
    /// Its timeline, relative to the run; null if there is none.
    pub database: Option<String>,
    /// The run of the workload in it.
    pub workload: Option<WorkloadRun>,
    /// Why there is no timeline; null if there is one.
    pub error: Option<String>,
    /// What it says: a document of `metrics.analyze.schema.json`; null without a timeline.
    pub analysis: Option<AnalyzeMetrics>,
}

/// A profiled kernel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KernelProfileBlock {
    /// Number of the profile.
    pub number: u32,
    /// The capture it was chosen from; null without a timeline.
    pub capture: Option<String>,
    /// The phase it was chosen for; null for all work.
    pub phase: Option<String>,
    /// Operator class; null without a timeline.
    pub class: Option<String>,
    /// Shortened name.
    pub name: String,
    /// Demangled name.
    pub full_name: String,
    /// Calls in the phase, on all devices; null without a timeline.
    pub calls: Option<u64>,
    /// Sum of their durations, ns.
    pub total_ns: Option<i64>,
    /// Their mean, ns.
    pub mean_ns: Option<f64>,
    /// Share of the kernel time of the phase, or of all kernels.
    pub share: Option<f64>,
    /// Matching launches passed over.
    pub skip: u64,
    /// Matching launches asked for.
    pub count: u32,
    /// What became of it.
    pub outcome: ProfileOutcome,
    /// True if it was tried again without gate, sections and metrics.
    pub retried: bool,
    /// Why there are no counters; null if there are.
    pub error: Option<String>,
    /// Counters; null if there are none.
    pub counters: Option<NcuKernelSummary>,
    /// How the name in the report was found in the timeline; null if it was not.
    pub matched_by: Option<NameMatch>,
    /// Mean duration under ncu over the mean in the phase of the timeline.
    pub ncu_to_timeline: Option<f64>,
    /// Where it stands under the roofline; null without counters.
    pub roofline: Option<KernelRoofline>,
}

/// `metrics.json` of `perfprof stage2`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stage2Metrics {
    /// [`STAGE2_METRICS_SCHEMA_VERSION`].
    pub schema_version: u32,
    /// `stage2`.
    pub command: String,
    /// The run.
    pub run_id: String,
    /// `complete`, `invalid`, `interrupted` or `failed`.
    pub status: String,
    /// Whether the numbers may be relied on.
    pub validity: Validity,
    /// `tracer_overhead_ratio` over the captures.
    pub measures: BTreeMap<String, Summary>,
    /// What was profiled.
    pub workload: WorkloadBlock,
    /// nsys and ncu as they were found.
    pub tools: Vec<ToolRecord>,
    /// What tracing cost, by capture.
    pub overhead: Vec<OverheadBlock>,
    /// The captures.
    pub captures: Vec<CaptureBlock>,
    /// The profiled kernels, phase by phase, the longest in time first.
    pub kernels: Vec<KernelProfileBlock>,
    /// What went wrong, was left out, or must be known.
    pub diagnostics: Vec<Diagnostic>,
}
