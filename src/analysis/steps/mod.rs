//! Phases and steps of a GPU trace: prefill and decode of inference, steps of training, or "unknown" where the evidence is weak.

use serde::{Deserialize, Serialize};

use super::projection::Projection;
use crate::trace::activity::OpRef;
use crate::trace::timeline::Timeline;

/// Regular expressions that tell what a range name stands for; matched anywhere in the name, ignoring case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PhasePatterns {
    /// Prefill.
    pub prefill: Vec<String>,
    /// Decode.
    pub decode: Vec<String>,
    /// A step of any kind.
    pub step: Vec<String>,
    /// Training: names of backward passes and optimisers.
    pub training: Vec<String>,
}

/// A pattern that is not a regular expression.
#[derive(Debug, thiserror::Error)]
#[error("`{pattern}` of `{list}` is not a regular expression")]
pub struct PatternError {
    /// `prefill`, `decode`, `step` or `training`.
    pub list: &'static str,
    /// The pattern.
    pub pattern: String,
    /// Why.
    #[source]
    pub source: Box<regex::Error>,
}

/// What the trace is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Workload {
    /// Generation of text.
    Inference,
    /// Training: backward passes or an optimiser.
    Training,
    /// Neither is evident.
    Unknown,
}

/// What steps were told by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepSource {
    /// Names of ranges say the phase.
    PhaseRanges,
    /// Ranges mark steps, not phases.
    StepRanges,
    /// Repeated launches of one graph.
    GraphReplays,
    /// Something that happens once in each step: a copy to the host, a sampling kernel, a repeating sequence of kernels.
    Repetition,
    /// No steps were found.
    None,
}

/// How durations of steps are spread, ns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Values.
    pub n: u64,
    /// Mean.
    pub mean: f64,
    /// Sample standard deviation; null below two values.
    pub std: Option<f64>,
    /// Smallest.
    pub min: f64,
    /// Median.
    pub p50: f64,
    /// 95th percentile.
    pub p95: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Largest.
    pub max: f64,
}

/// One phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// `prefill`, `decode`, `step`, `training_step`, `unknown`, `outside`.
    pub name: String,
    /// Steps.
    pub steps: u64,
    /// Kernels.
    pub kernels: u64,
    /// Copies and memory sets.
    pub copies_and_sets: u64,
    /// Whole-graph records.
    pub graphs: u64,
    /// Sum of the durations of kernels and whole graphs.
    pub gpu_sum_ns: i64,
    /// Time in which at least one device operation of the phase ran, of each device and added up over devices.
    pub busy_union_ns: i64,
    /// Sum over its steps of end minus begin; null without steps.
    pub wall_ns: Option<i64>,
    /// Durations of its steps; null without steps.
    pub step_ns: Option<Spread>,
    /// Kernels of a step.
    pub kernels_per_step: Option<Spread>,
    /// Kernel and graph launch calls of a step.
    pub launches_per_step: Option<Spread>,
}

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Begin, ns.
    pub start_ns: i64,
    /// End, ns.
    pub end_ns: i64,
    /// Row in [`Steps::phases`].
    pub phase: u16,
    /// Kernels.
    pub kernels: u32,
    /// Kernel and graph launch calls.
    pub launches: u32,
    /// Time in which at least one of its device operations ran, ns.
    pub busy_ns: i64,
    /// Sum of the durations of its kernels and whole graphs, ns.
    pub gpu_sum_ns: i64,
}

/// Trend of step durations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    /// Phase.
    pub phase: String,
    /// Theil–Sen slope, ns a step.
    pub slope_ns_per_step: f64,
    /// 95 % interval of the slope (Sen 1968).
    pub interval: [f64; 2],
    /// Slope times number of steps over the median duration.
    pub relative_change: f64,
    /// Steps used.
    pub n: u64,
}

/// A step far above the others of its phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Straggler {
    /// Row in the list of all steps, in order of begin.
    pub step: u64,
    /// Phase.
    pub phase: String,
    /// Begin, ns.
    pub start_ns: i64,
    /// Duration, ns.
    pub duration_ns: i64,
    /// Duration over the median of the phase.
    pub times_median: f64,
}

/// Phases and steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Steps {
    /// What the trace is of.
    pub workload: Workload,
    /// What steps were told by.
    pub source: StepSource,
    /// 0 to 1; see the module documentation for how it is computed. Null where nothing was decided.
    pub confidence: Option<f64>,
    /// What spoke for the decision, and what was tried in vain.
    pub evidence: Vec<String>,
    /// Phases, in the order of the ids in [`Self::columns`].
    pub phases: Vec<Phase>,
    /// Steps in order of begin, at most [`MAX_STEPS`].
    pub table: Vec<Step>,
    /// Steps beyond those.
    pub steps_omitted: u64,
    /// Trends of phases with enough steps.
    pub drift: Vec<Drift>,
    /// Steps beyond median + 5 scaled MAD of their phase and 1.1 × median, the longest first, at most [`MAX_STRAGGLERS`].
    pub stragglers: Vec<Straggler>,
    /// Stragglers beyond those.
    pub stragglers_omitted: u64,
    /// What names and shapes say of batch and sequence.
    pub hints: Vec<String>,
    /// Phase of each device operation.
    #[serde(skip)]
    pub columns: PhaseColumns,
}

/// Phase of each device operation: rows in [`Steps::phases`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PhaseColumns {
    /// By kernel.
    pub kernel: Vec<u16>,
    /// By copy.
    pub copy: Vec<u16>,
    /// By memory set.
    pub memset: Vec<u16>,
    /// By whole-graph launch.
    pub graph: Vec<u16>,
}

impl PhaseColumns {
    /// Phase of an operation.
    pub fn of(&self, op: OpRef) -> usize {
        use crate::trace::activity::OpKind;
        let column = match op.kind() {
            OpKind::Kernel => &self.kernel,
            OpKind::Copy => &self.copy,
            OpKind::Memset => &self.memset,
            OpKind::Graph => &self.graph,
        };
        column[op.row()] as usize
    }
}

/// Steps listed at most.
pub const MAX_STEPS: usize = 10_000;
/// Stragglers listed at most.
pub const MAX_STRAGGLERS: usize = 20;

impl Default for PhasePatterns {
    fn default() -> Self {
        unimplemented!()
    }
}

/// Phases and steps of `timeline`.
pub fn steps(timeline: &Timeline, projection: &Projection, patterns: &PhasePatterns) -> Result<Steps, PatternError> {
    let _ = (timeline, projection, patterns);
    unimplemented!()
}
