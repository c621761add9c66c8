//! The operator table: where the time of each phase went, and how far each operator is from the roofline.

use crate::record::metrics::OperatorRow;
use crate::trace::timeline::Timeline;

/// Ceilings of the device the spans ran on; null where unknown.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Ceilings {
    /// Dense FLOP/s.
    pub flops_per_s: Option<f64>,
    /// Memory bytes per second.
    pub bytes_per_s: Option<f64>,
}

/// Operators by class × module × phase, and by layer too if `by_layer`. Rows are ordered by phase as it first appears, then by
/// total time, largest first.
pub fn operator_table(timeline: &Timeline, ceilings: &Ceilings, by_layer: bool) -> Vec<OperatorRow> {
    let _ = (timeline, ceilings, by_layer);
    todo!()
}
