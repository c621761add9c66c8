//! What a trace can and cannot say: lost activity, graphs, clocks, ranges. Read before any other figure.
//!
//! Tracing tools lose kernels without a word, hide them inside CUDA graphs, or begin late. A share of idle time computed from such a trace is
//! wrong by any factor. This pass compares what the calls launched with what the device tables hold, process by process, and says what may be stated.

mod count;
mod libraries;
#[cfg(test)]
mod tests;
mod verdict;

pub(in crate::analysis) use verdict::LOST_SHARE_IDLE;

use serde::{Deserialize, Serialize};

pub(crate) use self::libraries::{is_framework_range, is_library_range};
use crate::trace::timeline::Timeline;

/// Whether the trace holds the GPU work that its calls launched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing is known to be missing.
    Complete,
    /// Some work is missing, hidden inside graphs or in doubt; the reasons say which.
    Partial,
    /// There is no device work at all.
    NoGpuWork,
}

/// Whether kernels launched by graphs can be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GraphState {
    /// Graphs were launched and their nodes are in the trace.
    Carried,
    /// No graph was launched.
    Absent,
    /// Graphs were launched and the trace has one record for each launch; the kernels within are not there.
    Hidden,
    /// It cannot be told.
    Unknown,
}

/// How CUDA graphs appear in the trace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GraphCoverage {
    /// The state.
    pub state: GraphState,
    /// Why, in words with numbers.
    pub reasons: Vec<String>,
    /// Calls of `cudaGraphLaunch` and the like.
    pub launch_calls: u64,
    /// Records of whole graphs.
    pub whole_graph_records: u64,
    /// Kernels, copies and memory sets with a graph node.
    pub node_ops: u64,
    /// Device operations without a node whose launch call is a graph launch.
    pub ops_by_graph_call: u64,
    /// Graph launch calls without any device operation or record.
    pub calls_without_work: u64,
    /// Time inside whole-graph records, as the sum of their durations.
    pub hidden_sum_ns: u64,
    /// `hidden_sum_ns` over the sum of all kernels and whole-graph records; null without device work.
    pub hidden_share: Option<f64>,
    /// Calls that begin or end a stream capture: launches between them put no kernel on the device.
    pub capture_calls: u64,
    /// Kernel launch calls issued during a stream capture on the same thread.
    pub launches_in_capture: u64,
}

/// Launch calls and kernels, of the whole trace or of one process.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LaunchCoverage {
    /// Kernel launch calls (`cudaLaunchKernel`, `cuLaunchKernelEx`, …).
    pub kernel_launch_calls: u64,
    /// Graph launch calls.
    pub graph_launch_calls: u64,
    /// Kernels.
    pub kernels: u64,
    /// Kernels joined to a call.
    pub linked_kernels: u64,
    /// Kernels without a call.
    pub unlinked_kernels: u64,
    /// `unlinked_kernels / kernels`; null without kernels.
    pub unlinked_share: Option<f64>,
    /// Kernel launch calls, outside any stream capture and not failed, to which no kernel is joined.
    pub launches_without_kernel: u64,
    /// Kernel launch calls that returned an error.
    pub failed_launches: u64,
    /// Share of the kernel launch calls that should have put a kernel on the device and have one; null without such calls.
    pub kernel_coverage: Option<f64>,
    /// Copies and memory sets.
    pub copies_and_sets: u64,
    /// Copies and memory sets without a call.
    pub unlinked_copies_and_sets: u64,
}

/// One process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProcessCoverage {
    /// Process id.
    pub pid: u32,
    /// Name, if known.
    pub name: Option<String>,
    /// Input file, in the order given.
    pub file: u16,
    /// API calls.
    pub api_calls: u64,
    /// Its launches and kernels.
    pub launches: LaunchCoverage,
    /// True if it has any device work.
    pub has_gpu_work: bool,
}

/// How far the clocks of host and device agree.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ClockSkew {
    /// Kernels joined to a call.
    pub kernels: u64,
    /// Kernels that start before their launch call begins.
    pub before_call: u64,
    /// `before_call / kernels`; null without kernels.
    pub share: Option<f64>,
    /// The furthest a kernel starts before its call, ns; null if none does.
    pub worst_ns: Option<u64>,
    /// False if launch latency and queue times must not be read off this trace; null if there is nothing to judge by.
    pub queue_times_reliable: Option<bool>,
}

/// What ranges the trace has.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RangeCoverage {
    /// NVTX ranges.
    pub nvtx: u64,
    /// NVTX ranges of known libraries (cub, thrust, NCCL, cuBLAS, TensorRT, MPI, …).
    pub library: u64,
    /// NVTX ranges that are not of a library, and annotations.
    pub user: u64,
    /// Operators of a framework.
    pub operators: u64,
    /// Python functions and modules.
    pub python: u64,
    /// Ranges never closed.
    pub open: u64,
    /// Start/end ranges ended by another thread.
    pub cross_thread: u64,
    /// True if there are NVTX ranges and all are of libraries.
    pub only_library: bool,
}

/// A message of the tool, repeats counted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolNote {
    /// 0 unknown, 1 information, 2 warning, 3 error.
    pub severity: u8,
    /// The text.
    pub text: String,
    /// How often.
    pub count: u64,
}

/// Time of the profiler itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OverheadTotal {
    /// What it says.
    pub name: String,
    /// Records.
    pub count: u64,
    /// Sum of their durations; they may overlap.
    pub sum_ns: u64,
}

/// Things about single operations that bend figures.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Oddities {
    /// Device operations that start before an earlier one of their stream ended.
    pub overlapping_on_stream: u64,
    /// Kernels of zero length.
    pub zero_length_kernels: u64,
    /// From the first launch call to the first device operation, ns; null if either is missing. Negative under clock skew.
    pub first_op_after_first_launch_ns: Option<i64>,
    /// Launch calls before the first device operation to which no kernel is joined: the GPU trace began late.
    pub launches_before_first_op: u64,
}

/// Whether shares of idle time may be stated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trust {
    /// False: refuse idle shares, utilisation and anything computed from gaps.
    pub idle_shares: bool,
    /// False: refuse launch latency and queue times.
    pub queue_times: bool,
    /// False: refuse shares of kernels in all GPU time.
    pub kernel_shares: bool,
    /// Why something is refused.
    pub reasons: Vec<String>,
}

/// What the trace can and cannot say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Coverage {
    /// In one word.
    pub verdict: Verdict,
    /// Why, in plain English, the gravest first.
    pub reasons: Vec<String>,
    /// What may be stated.
    pub trust: Trust,
    /// Launches and kernels of all processes.
    pub launches: LaunchCoverage,
    /// Graphs.
    pub graphs: GraphCoverage,
    /// Clocks.
    pub clock: ClockSkew,
    /// Ranges.
    pub ranges: RangeCoverage,
    /// Oddities.
    pub oddities: Oddities,
    /// Every process that made an API call or has device work, at most [`MAX_PROCESSES`].
    pub processes: Vec<ProcessCoverage>,
    /// Processes beyond those.
    pub processes_omitted: u64,
    /// Processes that made API calls and have no device work.
    pub processes_without_gpu_work: u64,
    /// Messages of the tool, the gravest first, at most [`MAX_NOTES`].
    pub notes: Vec<ToolNote>,
    /// Distinct messages beyond those.
    pub notes_omitted: u64,
    /// Overhead of the profiler by name, the longest first.
    pub overhead: Vec<OverheadTotal>,
    /// Union of the overhead of the profiler, ns; null if none was recorded.
    pub overhead_union_ns: Option<u64>,
}

/// Processes listed at most.
pub const MAX_PROCESSES: usize = 64;
/// Distinct messages listed at most.
pub const MAX_NOTES: usize = 32;

/// What `timeline` can and cannot say.
pub fn coverage(timeline: &Timeline) -> Coverage {
    let counted = count::Counted::of(timeline);
    verdict::judge(timeline, counted)
}
