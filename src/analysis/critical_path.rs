//! The chain of events that decided how long the work took, and what would change if a class of kernels cost nothing.
//!
//! Model, limits and the simulation are described in [`super::schedule`].

use serde::{Deserialize, Serialize};

use super::intervals::Interval;

/// Where time on the critical path went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PathKind {
    /// A kernel ran.
    Kernel,
    /// A copy ran.
    Copy,
    /// A memory set ran.
    Memset,
    /// A whole graph ran.
    Graph,
    /// From one operation to the next that had already been launched.
    DeviceGap,
    /// From the begin of a launch call to the begin of its work.
    LaunchLatency,
    /// From the end of the awaited work to the return of the waiting call.
    SyncReturn,
    /// The host, in API calls.
    HostApi,
    /// The host, outside of API calls.
    HostOther,
    /// Before the first event the chain leads back to.
    Unexplained,
}

/// The critical path of one window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CriticalPath {
    /// The window: from the first launch (or operation) to the end of the last operation.
    pub window: Interval,
    /// Its length, ns: the parts add up to it.
    pub length_ns: u64,
    /// Time by kind, longest first.
    pub by_kind: Vec<PathShare>,
    /// Kernel time on the path by class, longest first.
    pub by_class: Vec<PathClass>,
    /// Kernel time on the path by name, longest first, at most as many as asked for.
    pub by_kernel: Vec<PathKernel>,
    /// Kernel time on the path of names not listed, ns.
    pub other_kernels_ns: u64,
    /// Share of the path on the host (`host_api`, `host_other`, `launch_latency`, `sync_return`).
    pub host_share: Option<f64>,
    /// What each class is worth, in the order of the classes given.
    pub what_if: Vec<WhatIf>,
    /// Operations that no call is linked to: for them the chain knows the order of the stream only.
    pub unlinked_operations: u64,
    /// Operations that begin before their launch call does; treated as unlinked.
    pub clock_skew_operations: u64,
}

/// Time of one kind on the path.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PathShare {
    /// The kind.
    pub kind: PathKind,
    /// Time, ns.
    pub time_ns: u64,
    /// Of the length.
    pub share: Option<f64>,
    /// Pieces of the path.
    pub pieces: u64,
}

/// Kernel time of one class on the path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PathClass {
    /// The class.
    pub class: String,
    /// Time on the path, ns.
    pub time_ns: u64,
    /// Kernels on the path.
    pub kernels: u64,
}

/// Kernel time of one name on the path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PathKernel {
    /// Short name.
    pub kernel: String,
    /// Time on the path, ns.
    pub time_ns: u64,
    /// Kernels on the path.
    pub kernels: u64,
}

/// The work simulated with the kernels of one class taking no time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WhatIf {
    /// The class.
    pub class: String,
    /// Sum of the class' kernels, ns.
    pub kernel_ns: u64,
    /// How long the work would take, ns; never more than the window.
    pub length_ns: u64,
    /// Window less that, ns.
    pub gain_ns: u64,
    /// `window / length_ns`; null where nothing would be left.
    pub speedup: Option<f64>,
}

/// Classes of kernels, for [`CriticalPath::by_class`] and [`CriticalPath::what_if`].
#[derive(Debug, Clone, Copy)]
pub struct KernelClasses<'a> {
    /// Names of the classes.
    pub names: &'a [String],
    /// Class of each row of `kernel_names`; rows beyond the end, and classes without a name, have none.
    pub of_kernel_name: &'a [u16],
}
