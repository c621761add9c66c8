//! Phases and steps of a timeline, and how well the operators add up to them.

use std::collections::BTreeMap;

use crate::record::rows::RepeatRow;
use crate::trace::timeline::Timeline;

/// One phase of one repeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PhaseTotals {
    /// Repeat.
    pub repeat: u32,
    /// `prefill` or `decode`.
    pub phase: String,
    /// Phase spans: 1 for prefill, one per token in decode.
    pub steps: u64,
    /// Sum of the phase spans.
    pub wall_ns: u64,
    /// Sum of the operator spans; null where the repeat recorded none.
    pub operator_ns: Option<u64>,
}

/// One phase span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepDuration {
    /// Repeat.
    pub repeat: u32,
    /// 0 for prefill, decode steps from 1.
    pub step: u32,
    /// Begin since the origin of the timeline.
    pub start_ns: u64,
    /// Duration.
    pub duration_ns: u64,
}

/// The phases of every repeat, in order of repeat, then of first appearance.
pub fn phase_totals(timeline: &Timeline) -> Vec<PhaseTotals> {
    let _ = timeline;
    todo!()
}

/// The spans of `phase`, by repeat and step.
pub fn step_durations(timeline: &Timeline, phase: &str) -> Vec<StepDuration> {
    let _ = (timeline, phase);
    todo!()
}

/// 1 − Σ operators / Σ phase spans by phase, over the repeats that recorded operators; phases without any time are left out.
pub fn unattributed_by_phase(timeline: &Timeline) -> BTreeMap<String, f64> {
    let _ = timeline;
    todo!()
}

/// Largest |prefill + decode + remainder − total| / total over the complete rows; null without one that has all four.
pub fn phases_vs_total(rows: &[RepeatRow]) -> Option<f64> {
    let _ = rows;
    todo!()
}
