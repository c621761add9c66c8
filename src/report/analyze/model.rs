//! What the report of `perfprof analyze` is rendered from. Values only: nothing here is read from a file or computed by this module.

use serde::{Deserialize, Serialize};

use crate::analysis::excerpt::TimelineView;
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

/// Everything the report of an analyzed trace shows. A part that is `None` or empty was not computed, and the report says so.
#[derive(Debug, Clone, Copy)]
pub struct AnalyzeReport<'a> {
    /// Id of the run directory.
    pub run_id: &'a str,
    /// When the report was made, RFC 3339 UTC.
    pub generated_at: &'a str,
    /// The files the trace was read from.
    pub files: &'a [InputFile],
    /// Ranked findings, the most promising first.
    pub findings: &'a [Finding],
    /// Findings about the data.
    pub diagnostics: &'a [Diagnostic],
    /// Definitions and assumptions behind the numbers.
    pub assumptions: &'a [AssumptionSection],
    /// The stretch that the zoomable timeline shows.
    pub view: Option<&'a TimelineView>,
}
