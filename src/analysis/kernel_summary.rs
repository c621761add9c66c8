//! Operator summary: where the device time goes, by kernel name and class and, as asked, by phase, module, device and stream.
//!
//! Times are sums of durations: work that overlaps on several streams counts as often as it runs. `total_ns` of all rows is therefore no
//! wall-clock time; see the analyses of busy time for unions.

use serde::{Deserialize, Serialize};

use super::classify::{Classified, KernelClass};
use crate::trace::timeline::Timeline;

/// "No phase" in a phase column.
pub const NO_PHASE: u16 = u16::MAX;

/// Columns beside the timeline that rows may be grouped by; all `None` for none. Each has one entry for each row of its table.
#[derive(Debug, Clone, Copy, Default)]
pub struct SummaryKeys<'a> {
    /// Names the phase columns point into.
    pub phase_names: &'a [String],
    /// Phase of each kernel, or [`NO_PHASE`].
    pub kernel_phase: Option<&'a [u16]>,
    /// Phase of each copy, or [`NO_PHASE`].
    pub copy_phase: Option<&'a [u16]>,
    /// Phase of each memory set, or [`NO_PHASE`].
    pub memset_phase: Option<&'a [u16]>,
    /// Names the module column points into (modules or layers).
    pub module_names: &'a [String],
    /// Module of each kernel, or [`crate::trace::places::NO_ROW`].
    pub kernel_module: Option<&'a [u32]>,
    /// A row for each device instead of one over all.
    pub by_device: bool,
    /// A row for each stream instead of one over all; implies `by_device`.
    pub by_stream: bool,
    /// Rows kept, largest total first; 0 for all. The rest is summed up in `KernelSummary::remainder`.
    pub max_rows: usize,
}

/// One row: the calls of one kernel name (or one kind of copy) in one group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KernelSummaryRow {
    /// What it does.
    pub class: KernelClass,
    /// Shortened name, or the label of a copy kind.
    pub name: String,
    /// Demangled name, cut at 4096 bytes.
    pub full_name: String,
    /// Phase, where grouped by it and known.
    pub phase: Option<String>,
    /// Module or layer, where grouped by it and known.
    pub module: Option<String>,
    /// Row of `Timeline::devices`, where grouped by it.
    pub device: Option<u32>,
    /// Row of `Timeline::streams`, where grouped by it.
    pub stream: Option<u32>,
    /// Number of calls.
    pub calls: u64,
    /// Sum of durations, ns.
    pub total_ns: i64,
    /// Mean duration, ns.
    pub mean_ns: f64,
    /// Shortest, ns.
    pub min_ns: i64,
    /// Median, ns (type 7, see [`crate::stats::quantile`]).
    pub p50_ns: f64,
    /// 95th percentile, ns.
    pub p95_ns: f64,
    /// 99th percentile, ns.
    pub p99_ns: f64,
    /// Longest, ns.
    pub max_ns: i64,
    /// Sample standard deviation (n − 1), ns; `None` for one call.
    pub std_ns: Option<f64>,
    /// Whether `calls` supports the 95th percentile ([`crate::stats::quantile::supported`]).
    pub p95_supported: bool,
    /// Whether `calls` supports the 99th percentile.
    pub p99_supported: bool,
    /// Share of the kernel time of its phase; `None` without phases, for copies and memory sets, and where that time is 0.
    pub share_of_phase: Option<f64>,
    /// Share of the time of all kernels; `None` for copies and memory sets, and where that time is 0.
    pub share: Option<f64>,
    /// Bytes moved or set, for copies and memory sets.
    pub bytes: Option<u64>,
}

/// Totals of a class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassTotal {
    /// The class.
    pub class: KernelClass,
    /// Phase, where grouped by it and known.
    pub phase: Option<String>,
    /// Distinct names.
    pub names: u64,
    /// Number of calls.
    pub calls: u64,
    /// Sum of durations, ns.
    pub total_ns: i64,
    /// As for a row.
    pub share_of_phase: Option<f64>,
    /// As for a row.
    pub share: Option<f64>,
}

/// How much of the kernels the classes cover.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Coverage {
    /// Kernels launched.
    pub kernels: u64,
    /// Kernels of a known class.
    pub classified: u64,
    /// Time of all kernels (sum), ns.
    pub kernel_ns: i64,
    /// Time of the kernels of a known class (sum), ns.
    pub classified_ns: i64,
    /// Unclassified names with the most time, at most 20: full name cut at 4096 bytes, calls, ns.
    pub top_unclassified: Vec<UnclassifiedName>,
    /// Distinct unclassified names.
    pub unclassified_names: u64,
}

/// A name no rule knows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UnclassifiedName {
    /// Demangled name, cut at 4096 bytes.
    pub full_name: String,
    /// Number of calls.
    pub calls: u64,
    /// Sum of durations, ns.
    pub total_ns: i64,
}

/// Rows beyond `max_rows`, together.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SummaryRemainder {
    /// Rows left out.
    pub rows: u64,
    /// Their calls.
    pub calls: u64,
    /// Their sum of durations, ns.
    pub total_ns: i64,
}

/// The operator summary.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KernelSummary {
    /// Rows by total time, descending; ties by name.
    pub rows: Vec<KernelSummaryRow>,
    /// What `max_rows` left out.
    pub remainder: SummaryRemainder,
    /// Totals of classes (by phase where grouped by it), descending; never cut.
    pub classes: Vec<ClassTotal>,
    /// How much is classified.
    pub coverage: Coverage,
}

/// Summarises the kernels, copies and memory sets of a timeline.
///
/// `classified` has one entry for each row of `Timeline::kernel_names`, see [`classify_names`]; missing entries count as unclassified.
pub fn kernel_summary(_timeline: &Timeline, _classified: &[Classified], _keys: &SummaryKeys<'_>) -> KernelSummary {
    KernelSummary {
        rows: Vec::new(),
        remainder: SummaryRemainder::default(),
        classes: Vec::new(),
        coverage: Coverage::default(),
    }
}

/// Classifies every kernel name of a timeline once.
pub fn classify_names(timeline: &Timeline, classifier: &super::classify::Classifier) -> Vec<Classified> {
    timeline
        .kernel_names
        .iter()
        .map(|name| classifier.classify(timeline.text(name.demangled), timeline.text(name.short)))
        .collect()
}
