//! What the report of a stage2 run is rendered from. Values only.

use crate::record::stage2::CommandRecord;
use crate::report::model::AssumptionSection;
use crate::runner::analyze::{Analysis, AnalyzeMetrics};
use crate::runner::stage2::Stage2Metrics;

/// Everything the report of a stage2 run is made from.
#[derive(Debug, Clone, Copy)]
pub struct Stage2Report<'a> {
    /// The summary, as written to `metrics.json`.
    pub metrics: &'a Stage2Metrics,
    /// The captures that have a timeline.
    pub captures: &'a [CaptureReport<'a>],
    /// Every command.
    pub commands: &'a [CommandRecord],
    /// Definitions and assumptions of what is not the timeline's.
    pub assumptions: &'a [AssumptionSection],
    /// What ended a failed run.
    pub error: Option<&'a str>,
    /// When the report was made, RFC 3339 UTC.
    pub generated_at: &'a str,
}

/// One timeline.
#[derive(Debug, Clone, Copy)]
pub struct CaptureReport<'a> {
    /// The capture.
    pub name: &'a str,
    /// Folder of its report below the run; empty for the run itself.
    pub directory: &'a str,
    /// Its summary.
    pub metrics: &'a AnalyzeMetrics,
    /// The results of the analyses.
    pub analysis: &'a Analysis,
    /// Definitions and assumptions behind them.
    pub assumptions: &'a [AssumptionSection],
}

impl<'a> Stage2Report<'a> {
    /// The timeline of the run, where it has exactly one.
    pub(super) fn single(&self) -> Option<&'a CaptureReport<'a>> {
        match self.captures {
            [one] if one.directory.is_empty() => Some(one),
            _ => None,
        }
    }
}
