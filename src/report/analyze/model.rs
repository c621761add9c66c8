//! What the report of `perfprof analyze` is rendered from. Values only: nothing here is read from a file or computed by this module.

use serde::{Deserialize, Serialize};

use crate::analysis::class_roofline::ModelledWork;
use crate::analysis::coverage::Coverage;
use crate::analysis::critical_path::CriticalPath;
use crate::analysis::excerpt::TimelineView;
use crate::analysis::flame::FlameNode;
use crate::analysis::idle::DeviceIdle;
use crate::analysis::kernel_summary::KernelSummary;
use crate::analysis::launch::LaunchAnalysis;
use crate::analysis::overlap::OverlapAnalysis;
use crate::analysis::projection::RangeSummary;
use crate::analysis::steps::Steps;
use crate::analysis::transfers::TransferAnalysis;
use crate::diagnostics::{Diagnostic, Severity};
use crate::report::model::AssumptionSection;

/// Something the trace shows that costs time, with what it rests on and what it can give at most.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Stable snake_case code, e.g. `launch_bound`.
    pub code: String,
    /// One plain sentence.
    pub title: String,
    /// How much it matters.
    pub severity: Severity,
    /// The numbers it rests on, each with its unit and where it stands.
    pub evidence: Vec<String>,
    /// Least time of the window that removing it gives, ns; null where nothing bounds it from below.
    pub gain_low_ns: Option<i64>,
    /// Most time of the window that removing it can give, ns; null where nothing bounds it.
    pub gain_high_ns: Option<i64>,
    /// How a person checks it or tries the change.
    pub how_to_check: String,
}

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

/// A device as reports call it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceLabel {
    /// Row of `Timeline::devices`.
    pub device: u32,
    /// Short, e.g. `GPU 0`.
    pub label: String,
    /// Product name, if known.
    pub name: Option<String>,
}

/// A section that only some traces have, such as the counters of Nsight Compute: the caller says what is in it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ExtraSection {
    /// Heading.
    pub title: String,
    /// How to read it.
    pub reading: String,
    /// Headings of the columns; one that begins with `#` is of a column of numbers (the mark is dropped).
    pub columns: Vec<String>,
    /// Cells as they are to be shown, with their units.
    pub rows: Vec<Vec<String>>,
    /// What a reader must know.
    pub notes: Vec<String>,
}

/// Everything the report of an analyzed trace shows. A part that is `None` or empty was not computed, and the report says so.
#[derive(Debug, Clone, Copy, Default)]
pub struct AnalyzeReport<'a> {
    /// Id of the run directory.
    pub run_id: &'a str,
    /// When the report was made, RFC 3339 UTC.
    pub generated_at: &'a str,
    /// The files the trace was read from.
    pub files: &'a [InputFile],
    /// Its devices.
    pub devices: &'a [DeviceLabel],
    /// Begin of the device work, ns on the clock of the trace: times in tables count from here. Null without device work.
    pub origin_ns: Option<i64>,
    /// What the trace can and cannot say.
    pub coverage: Option<&'a Coverage>,
    /// Where the device time goes.
    pub kernels: Option<&'a KernelSummary>,
    /// Phases and steps.
    pub steps: Option<&'a Steps>,
    /// Ranges and the device work launched inside them.
    pub ranges: Option<&'a RangeSummary>,
    /// GPU time by range path.
    pub flame: Option<&'a FlameNode>,
    /// Idle time of each device; empty where it was not computed.
    pub idle: &'a [DeviceIdle],
    /// What launching costs.
    pub launch: Option<&'a LaunchAnalysis>,
    /// What ran at the same time.
    pub overlap: Option<&'a OverlapAnalysis>,
    /// Copies, memory sets, allocations.
    pub transfers: Option<&'a TransferAnalysis>,
    /// What decided how long the work took.
    pub critical_path: Option<&'a CriticalPath>,
    /// Modelled work beside measured time; only where the user named the model.
    pub roofline: Option<&'a ModelledWork>,
    /// Sections that only some traces have.
    pub extras: &'a [ExtraSection],
    /// Ranked findings, the most promising first.
    pub findings: &'a [Finding],
    /// Findings about the data.
    pub diagnostics: &'a [Diagnostic],
    /// Definitions and assumptions behind the numbers.
    pub assumptions: &'a [AssumptionSection],
    /// The stretch that the zoomable timeline shows.
    pub view: Option<&'a TimelineView>,
}
