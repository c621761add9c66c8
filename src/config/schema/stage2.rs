//! The settings of `stage2` beside those of `stage1`: what is captured, which kernels are profiled, and with which sections.

use std::path::PathBuf;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::keys::{Key, Kind, STAGE1};
use super::stage1::Stage1Config;

/// Kernels of one phase, and launches of one kernel, beyond which a profile takes hours.
const MOST_KERNELS: u64 = 100;
/// A day.
const MOST_SECONDS: u64 = 86_400;

const fn key(path: &'static str, kind: Kind, meaning: &'static str) -> Key {
    Key { path, kind, nullable: false, meaning }
}
const fn optional(path: &'static str, kind: Kind, meaning: &'static str) -> Key {
    Key { path, kind, nullable: true, meaning }
}

/// The keys of the block `stage2`.
pub const STAGE2_BLOCK: &[Key] = &[
    key("stage2", Kind::Section, "How the workload is profiled. `stage2=<name>` chooses a file of `configs/stage2/`."),
    key(
        "stage2.plain",
        Kind::Bool,
        "Run the workload once without a tracer first, so that the cost of tracing is known.",
    ),
    key("stage2.timeout_s", Kind::Integer(1, MOST_SECONDS), "The plain run is ended by force after so many seconds."),
    optional(
        "stage2.keep_reports",
        Kind::Bool,
        "Keep the `.nsys-rep` and `.ncu-rep` files. They hold the environment of the process: null keeps those of `stage1`, which gets no secrets, and none of another program.",
    ),
    key("stage2.nsys", Kind::Section, "The timeline."),
    key("stage2.nsys.enabled", Kind::Bool, "Capture a timeline. Without one, ncu profiles whatever kernels come."),
    optional("stage2.nsys.path", Kind::Path, "The program. Null looks for `nsys` on PATH."),
    key(
        "stage2.nsys.trace",
        Kind::Words(&["cuda", "cuda-sw", "nvtx", "osrt", "cublas", "cudnn", "mpi", "ucx"]),
        "What is traced.",
    ),
    key(
        "stage2.nsys.capture",
        Kind::Word(&["none", "cuda_profiler_api", "nvtx"]),
        "What opens the capture: nothing (the whole run), `cudaProfilerStart`, or NVTX ranges, one run for each of `ranges`.",
    ),
    key(
        "stage2.nsys.ranges",
        Kind::Texts,
        "With `capture=nvtx`: the ranges, as NAME or NAME@DOMAIN; from its begin to its end each is one capture.",
    ),
    key(
        "stage2.nsys.graph",
        Kind::Word(&["node", "graph"]),
        "Whether the kernels of a CUDA graph are records of their own, or a graph launch is one record, which costs less and hides them.",
    ),
    key("stage2.nsys.sample", Kind::Word(&["none", "process-tree"]), "Sampling of the CPU and of context switches."),
    key(
        "stage2.nsys.timeout_s",
        Kind::Integer(1, MOST_SECONDS),
        "A capture, and an export, is ended by force after so many seconds.",
    ),
    key("stage2.nsys.extra_args", Kind::Texts, "Further arguments of `nsys profile`."),
    key("stage2.ncu", Kind::Section, "Hardware counters of the costliest kernels."),
    key("stage2.ncu.enabled", Kind::Bool, "Profile kernels."),
    optional("stage2.ncu.path", Kind::Path, "The program. Null looks for `ncu` on PATH."),
    key(
        "stage2.ncu.top_n",
        Kind::Integer(1, MOST_KERNELS),
        "How many kernels of each phase, the longest in time first.",
    ),
    optional(
        "stage2.ncu.phases",
        Kind::Texts,
        "The phases kernels are chosen of. Null is `prefill` and `decode` where the timeline has them, else all work; `[]` is all work.",
    ),
    key(
        "stage2.ncu.preset",
        Kind::Word(&["default", "high", "compute", "memory"]),
        "Which sections and metrics are collected; those this ncu does not know are left out.",
    ),
    key(
        "stage2.ncu.gate",
        Kind::Word(&["launches", "nvtx", "none"]),
        "How the launches of a phase are met: by their number in the timeline, by an NVTX filter, or not at all.",
    ),
    key(
        "stage2.ncu.launch_skip",
        Kind::Integer(0, u32::MAX as u64),
        "Launches of the kernel in its phase that are passed over first.",
    ),
    key("stage2.ncu.launch_count", Kind::Integer(1, MOST_KERNELS), "Launches that are profiled."),
    key(
        "stage2.ncu.timeout_s",
        Kind::Integer(1, MOST_SECONDS),
        "The profile of one kernel is ended by force after so many seconds.",
    ),
    key("stage2.ncu.extra_args", Kind::Texts, "Further arguments of `ncu`."),
];

/// The keys of `stage2`: those of `stage1`, which say what runs, and its own block.
pub static STAGE2: LazyLock<Vec<Key>> = LazyLock::new(|| STAGE1.iter().chain(STAGE2_BLOCK).copied().collect());

/// Everything `stage2` can be told.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage2Config {
    /// What runs.
    pub stage1: Stage1Config,
    /// How it is profiled.
    pub stage2: Stage2Settings,
}

/// How the workload is profiled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage2Settings {
    /// Run the workload without a tracer first.
    pub plain: bool,
    /// Limit of the plain run in seconds.
    pub timeout_s: u64,
    /// Keep the reports of the tools; `None` keeps those of `stage1` only.
    pub keep_reports: Option<bool>,
    /// The timeline.
    pub nsys: NsysSettings,
    /// Hardware counters.
    pub ncu: NcuSettings,
}

/// The timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NsysSettings {
    /// Capture one.
    pub enabled: bool,
    /// The program; `None` looks on PATH.
    pub path: Option<PathBuf>,
    /// What is traced, as nsys calls it.
    pub trace: Vec<String>,
    /// What opens the capture.
    pub capture: CaptureChoice,
    /// Ranges of [`CaptureChoice::Nvtx`], as NAME or NAME@DOMAIN.
    pub ranges: Vec<String>,
    /// How CUDA graphs are recorded.
    pub graph: GraphChoice,
    /// Sampling of the CPU, as nsys calls it.
    pub sample: String,
    /// Limit of a capture, and of an export, in seconds.
    pub timeout_s: u64,
    /// Further arguments.
    pub extra_args: Vec<String>,
}

/// What opens a capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaptureChoice {
    /// The whole run is captured.
    None,
    /// From `cudaProfilerStart` to `cudaProfilerStop`.
    CudaProfilerApi,
    /// NVTX ranges, one run for each.
    Nvtx,
}

/// How CUDA graphs are recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GraphChoice {
    /// Each node.
    Node,
    /// A launch as one record.
    Graph,
}

/// Hardware counters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NcuSettings {
    /// Profile kernels.
    pub enabled: bool,
    /// The program; `None` looks on PATH.
    pub path: Option<PathBuf>,
    /// Kernels of each phase.
    pub top_n: u32,
    /// The phases; `None` takes prefill and decode where there are any, an empty list all work.
    pub phases: Option<Vec<String>>,
    /// Sections and metrics.
    pub preset: NcuPreset,
    /// How the launches of a phase are met.
    pub gate: GateChoice,
    /// Launches of the kernel in its phase passed over first.
    pub launch_skip: u32,
    /// Launches profiled.
    pub launch_count: u32,
    /// Limit for one kernel in seconds.
    pub timeout_s: u64,
    /// Further arguments.
    pub extra_args: Vec<String>,
}

/// Which sections and metrics are collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NcuPreset {
    /// Throughputs, roofline, memory, occupancy, schedulers.
    Default,
    /// And warp states, instructions, the workload's distribution, tensor rooflines.
    High,
    /// What limits arithmetic.
    Compute,
    /// What limits memory.
    Memory,
}

impl NcuPreset {
    /// The name in settings and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::High => "high",
            Self::Compute => "compute",
            Self::Memory => "memory",
        }
    }
}

/// How the launches of a phase are met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GateChoice {
    /// By their number in the timeline.
    Launches,
    /// By an NVTX filter.
    Nvtx,
    /// Not at all.
    None,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema::keys::{children, tests::fields_of};

    #[test]
    fn the_table_lists_exactly_the_fields() {
        for (path, mut fields) in [
            ("stage2", fields_of::<Stage2Settings>()),
            ("stage2.nsys", fields_of::<NsysSettings>()),
            ("stage2.ncu", fields_of::<NcuSettings>()),
        ] {
            let mut keys = children(&STAGE2, path);
            keys.sort();
            fields.sort_unstable();
            assert_eq!(keys, fields, "{path}");
        }
        assert!(STAGE2.len() > STAGE1.len() && STAGE2.iter().any(|key| key.path == "repeats"));
    }
}
