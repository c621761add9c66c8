//! What launching costs, and whether the device waits for it.
//!
//! Definitions, for an operation `o` and the API call `c` that launched it:
//! - *API time* is `c.end - c.start`.
//! - *Queue time* is `o.start - c.end` where that is not negative, as in nsys' `cuda_kern_exec_sum`; an operation that starts before the call
//!   returns has none (it is counted in `started_before_return`), and one that starts before the call *begins* shows that the clocks disagree
//!   and enters no statistic (`clock_skew`).
//! - *Launch latency* `t_l` is `o.start - c.start`. `TKLQT` is its sum and `AKD` the mean duration of kernels (SKIP, arXiv 2504.11750).
//! - A graph launch counts once, with the first operation it started: the others wait for each other, not for the host.
//! - *Queue depth* is the number of launches whose call had returned and whose work had not started, weighted with time.

use serde::{Deserialize, Serialize};

use super::api_kind::ApiKind;
use super::intervals::Spread;

/// Cost of the calls of one name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallCost {
    /// Name without version suffixes.
    pub call: String,
    /// What it does.
    pub kind: ApiKind,
    /// Durations of the calls.
    pub duration: Spread,
}

/// Launching of the whole trace and of each device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LaunchAnalysis {
    /// Calls that put work on a device, by name, dearest first.
    pub calls: Vec<CallCost>,
    /// Threads that put work on a device, most calls first, at most 16.
    pub threads: Vec<ThreadLaunches>,
    /// Threads not listed.
    pub threads_left_out: u64,
    /// Each device.
    pub devices: Vec<DeviceLaunch>,
}

/// A host thread that launches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ThreadLaunches {
    /// Row of `threads`.
    pub thread: u32,
    /// Thread id of the operating system.
    pub tid: u64,
    /// Its calls that put work on a device.
    pub calls: u64,
    /// Union of these calls, ns.
    pub launching_ns: u64,
    /// From its first such call to the end of its last, ns.
    pub span_ns: u64,
    /// `launching_ns / span_ns`.
    pub launching_share: Option<f64>,
}

/// Launching for one device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceLaunch {
    /// Row of `devices`.
    pub device: u32,
    /// Operations of the device of all kinds.
    pub operations: u64,
    /// Kernels among them.
    pub kernels: u64,
    /// Operations with a linked call.
    pub linked_operations: u64,
    /// Distinct calls that launched them: a graph launch counts once.
    pub launches: u64,
    /// Graph launches among them.
    pub graph_launches: u64,
    /// Queue time of the launches that have one.
    pub queue: Spread,
    /// Launches whose work started before the call returned: no queue time.
    pub started_before_return: u64,
    /// Launches whose work started before the call began: clocks disagree, not in any statistic.
    pub clock_skew: u64,
    /// Launch latency `t_l`; its total is TKLQT.
    pub latency: Spread,
    /// Total kernel launch and queue time, ns; null without a reliable launch.
    pub tklqt_ns: Option<u64>,
    /// Mean duration of kernels, ns.
    pub akd_ns: Option<f64>,
    /// Launches per second of the device's span.
    pub launches_per_s: Option<f64>,
    /// How many launches waited in the queue over the device's span; null without a reliable launch.
    pub queue_depth: Option<QueueDepth>,
    /// Launches of each phase, by where their work starts.
    pub phases: Vec<PhaseLaunches>,
    /// Whether the device waits for launches.
    pub verdict: LaunchVerdict,
    /// What speaks for it, in words with numbers.
    pub evidence: Vec<String>,
    /// `window / (window - idle caused by the host)`: the most that launching for free could gain; null without links or a window.
    pub speedup_bound: Option<f64>,
}

/// Depth of the launch queue, weighted with time over the device's span.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct QueueDepth {
    /// Mean.
    pub mean: f64,
    /// Median.
    pub p50: u64,
    /// 95th percentile.
    pub p95: u64,
    /// Most.
    pub max: u64,
    /// Share of the time in which nothing waits.
    pub empty_share: f64,
}

/// Launches of one phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhaseLaunches {
    /// Its name.
    pub phase: String,
    /// Windows of the phase, such as decode steps.
    pub windows: u64,
    /// Kernels that start in them.
    pub kernels: u64,
    /// Launches whose first operation starts in them; a graph launch counts once.
    pub launches: u64,
    /// `launches / windows`.
    pub launches_per_window: Option<f64>,
    /// Sum of launch latencies, ns.
    pub tklqt_ns: u64,
}

/// Whether a device waits for launches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LaunchVerdict {
    /// At least a quarter of the window is idle for the host, and half of the time nothing waits in the queue.
    LaunchBound,
    /// At most 5 % of the window is idle for the host.
    GpuBound,
    /// In between.
    Mixed,
    /// Fewer than half of the operations are linked to calls, or no window.
    Unknown,
}
