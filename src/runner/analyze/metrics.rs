//! `metrics.json` of an analysed trace: the public contract. `docs/schema/metrics.analyze.schema.json` is its published JSON schema.
//!
//! Null is "not known", or "refused": a share of idle time is null where kernels are hidden in graphs or were lost, however easy it would
//! be to divide. `coverage.detail.trust` says what is refused and why.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::analysis::class_roofline::ModelledWork;
use crate::analysis::coverage::{Coverage, GraphState};
use crate::analysis::critical_path::CriticalPath;
use crate::analysis::findings::Finding;
use crate::analysis::idle::DeviceIdle;
use crate::analysis::kernel_summary;
use crate::analysis::launch::LaunchAnalysis;
use crate::analysis::ncu::{NcuJoin, NcuSummary};
use crate::analysis::overlap::OverlapAnalysis;
use crate::analysis::projection::RangeSummary;
use crate::analysis::steps::{Drift, Spread, Step, StepSource, Steps, Straggler, Workload};
use crate::analysis::transfers::TransferAnalysis;
use crate::diagnostics::{Diagnostic, Validity};
use crate::stats::summary::Summary;

/// Version of [`AnalyzeMetrics`].
pub const ANALYZE_SCHEMA_VERSION: u32 = 1;

/// An input file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputFile {
    /// Name without its directory.
    pub name: String,
    /// Bytes on disk.
    pub bytes: u64,
    /// The tool that wrote it with its version and schema, in words.
    pub tool: String,
}

/// What the trace holds of what was launched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CoverageBlock {
    /// Kernel and graph launch calls.
    pub launches: u64,
    /// Kernels.
    pub kernels: u64,
    /// Kernels joined to the call that launched them.
    pub linked_kernels: u64,
    /// Whether the kernels within CUDA graphs can be seen.
    pub graph_state: GraphState,
    /// Share of the kernel time whose class is known; null without kernels.
    pub classified_share: Option<f64>,
    /// Share of the kernel time in some range; null without ranges or kernels.
    pub attributed_share: Option<f64>,
    /// Everything else.
    pub detail: Coverage,
}

/// One GPU.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceBlock {
    /// Row of the device in the trace.
    pub id: u32,
    /// Product name.
    pub name: Option<String>,
    /// Rank of the process that used it, where the trace says it.
    pub rank: Option<u32>,
    /// From its first operation to its last, ns.
    pub window_ns: i64,
    /// Time in which at least one operation ran, ns.
    pub busy_ns: i64,
    /// window − busy, ns; null where idle time cannot be told from work that was not traced.
    pub idle_ns: Option<i64>,
    /// `idle_ns` by cause, gaps below 1 µs as `below_1us`; the causes add up to it. Empty where it is null.
    pub idle_by_cause: BTreeMap<String, i64>,
    /// Gaps in detail; null where idle time is refused.
    pub idle: Option<DeviceIdle>,
}

/// One phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhaseBlock {
    /// `prefill`, `decode`, `step`, `training_step`, `unknown` or `outside`.
    pub name: String,
    /// Steps.
    pub steps: u64,
    /// Kernels.
    pub kernels: u64,
    /// Sum of the durations of kernels and whole graphs, ns.
    pub gpu_ns: i64,
    /// Time in which at least one of its operations ran, ns.
    pub busy_ns: i64,
    /// Sum of the durations of its steps, ns; null without steps.
    pub wall_ns: Option<i64>,
    /// Durations of its steps, ns.
    pub step_ns: Option<Spread>,
    /// Kernels of a step.
    pub kernels_per_step: Option<Spread>,
    /// Kernel and graph launches of a step.
    pub launches_per_step: Option<Spread>,
}

/// Steps of the trace and how they were told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepsBlock {
    /// What the trace is of.
    pub workload: Workload,
    /// What steps were told by.
    pub source: StepSource,
    /// 0 to 1; null where nothing was decided.
    pub confidence: Option<f64>,
    /// What spoke for the decision.
    pub evidence: Vec<String>,
    /// What names and shapes say of batch and sequence.
    pub hints: Vec<String>,
    /// Steps in order of begin, bounded.
    pub table: Vec<Step>,
    /// Steps beyond those.
    pub steps_omitted: u64,
    /// Trends.
    pub drift: Vec<Drift>,
    /// Steps far above the others.
    pub stragglers: Vec<Straggler>,
}

impl StepsBlock {
    /// The part of `steps` that goes into the file; phases stand beside it.
    pub fn of(steps: &Steps) -> Self {
        Self {
            workload: steps.workload,
            source: steps.source,
            confidence: steps.confidence,
            evidence: steps.evidence.clone(),
            hints: steps.hints.clone(),
            table: steps.table.clone(),
            steps_omitted: steps.steps_omitted,
            drift: steps.drift.clone(),
            stragglers: steps.stragglers.clone(),
        }
    }
}

/// One row of `operators.md`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OperatorBlock {
    /// What the kernel does.
    pub class: String,
    /// Shortened name.
    pub name: String,
    /// Demangled name.
    pub full_name: String,
    /// Phase; null where the trace has none.
    pub phase: Option<String>,
    /// Layer; null where the row sums over layers or none is known.
    pub layer: Option<u32>,
    /// Module; null where the row sums over modules or none is known.
    pub module: Option<String>,
    /// Row of the device; null where the row sums over devices.
    pub device: Option<u32>,
    /// Stream id; null where the row sums over streams.
    pub stream: Option<u64>,
    /// Calls.
    pub calls: u64,
    /// Sum of durations, ns.
    pub total_ns: i64,
    /// Mean, ns.
    pub mean_ns: f64,
    /// Shortest, ns.
    pub min_ns: i64,
    /// Median, ns.
    pub p50_ns: f64,
    /// 95th percentile, ns.
    pub p95_ns: f64,
    /// 99th percentile, ns.
    pub p99_ns: f64,
    /// Longest, ns.
    pub max_ns: i64,
    /// Sample standard deviation, ns; null for one call.
    pub std_ns: Option<f64>,
    /// Whether there are enough calls for the 95th percentile.
    pub p95_supported: bool,
    /// Whether there are enough calls for the 99th percentile.
    pub p99_supported: bool,
    /// Share of the time of all kernels; null for copies and memory sets.
    pub share: Option<f64>,
    /// Share of the kernel time of its phase.
    pub share_of_phase: Option<f64>,
    /// FLOPs by the analytic model; null unless the row is the only one of its operator class in its phase, see `modelled` for classes.
    pub flops: Option<u64>,
    /// Bytes moved (copies and memory sets), or least bytes by the analytic model, as `flops`.
    pub bytes: Option<u64>,
    /// Time at the roofline; null as `flops`.
    pub roofline_ns: Option<f64>,
}

impl OperatorBlock {
    /// A row of the kernel summary.
    pub fn of(row: &kernel_summary::KernelSummaryRow, layer: Option<u32>, stream: Option<u64>) -> Self {
        Self {
            class: row.class.name().to_owned(),
            name: row.name.clone(),
            full_name: row.full_name.clone(),
            phase: row.phase.clone(),
            layer,
            module: if layer.is_some() { None } else { row.module.clone() },
            device: row.device,
            stream,
            calls: row.calls,
            total_ns: row.total_ns,
            mean_ns: row.mean_ns,
            min_ns: row.min_ns,
            p50_ns: row.p50_ns,
            p95_ns: row.p95_ns,
            p99_ns: row.p99_ns,
            max_ns: row.max_ns,
            std_ns: row.std_ns,
            p95_supported: row.p95_supported,
            p99_supported: row.p99_supported,
            share: row.share,
            share_of_phase: row.share_of_phase,
            flops: None,
            bytes: row.bytes,
            roofline_ns: None,
        }
    }
}

/// Kernels by class and name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassesBlock {
    /// Totals by class and phase.
    pub totals: Vec<kernel_summary::ClassTotal>,
    /// How much is classified, and the names that are not.
    pub coverage: kernel_summary::Coverage,
    /// Rows of `operators` that were left out.
    pub operators_omitted: kernel_summary::SummaryRemainder,
}

/// One file of Nsight Compute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NcuBlock {
    /// Profiled kernels.
    pub summary: NcuSummary,
    /// The same kernels in the trace; null without a trace.
    pub join: Option<NcuJoin>,
}

/// `metrics.json` of `perfprof analyze`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnalyzeMetrics {
    /// [`ANALYZE_SCHEMA_VERSION`].
    pub schema_version: u32,
    /// `analyze`.
    pub command: String,
    /// The run.
    pub run_id: String,
    /// `complete` or `invalid`.
    pub status: String,
    /// Whether the numbers may be relied on.
    pub validity: Validity,
    /// Step durations and the like in the form all commands share.
    pub measures: BTreeMap<String, Summary>,
    /// The files.
    pub inputs: Vec<InputFile>,
    /// What the trace can and cannot say. Read first.
    pub coverage: CoverageBlock,
    /// GPUs.
    pub devices: Vec<DeviceBlock>,
    /// Phases.
    pub phases: Vec<PhaseBlock>,
    /// Steps.
    pub steps: StepsBlock,
    /// Kernels, copies and memory sets by name, phase and device, then by layer and by module.
    pub operators: Vec<OperatorBlock>,
    /// Kernel classes.
    pub classes: ClassesBlock,
    /// Ranges with the work launched inside them; null without ranges.
    pub ranges: Option<RangeSummary>,
    /// Launch cost and queue times.
    pub launch: LaunchAnalysis,
    /// Computation, communication and copies beside each other.
    pub overlap: OverlapAnalysis,
    /// Copies, memory sets, allocations.
    pub transfers: TransferAnalysis,
    /// Longest chain of dependencies and what-if estimates; null where idle time is refused.
    pub critical_path: Option<CriticalPath>,
    /// Analytic model beside the measured times; null without `model=`.
    pub modelled: Option<ModelledWork>,
    /// Hardware counters of Nsight Compute, one block for each file.
    pub ncu: Vec<NcuBlock>,
    /// Ranked findings.
    pub findings: Vec<Finding>,
    /// Findings about the data.
    pub diagnostics: Vec<Diagnostic>,
}
