//! Ranges and the device work launched inside them.
//!
//! A device operation belongs to the ranges of the launching thread that contain its launch *call*: begin of the range ≤ begin of the call and
//! end of the call ≤ end of the range. GPU times play no part. Innermost is the shortest range that contains the call; of two of one length the
//! one that comes later in the table. The parent of a range is the shortest other range of its thread that contains it. Start/end ranges that another
//! thread ended are left out, as NVIDIA's reports do.

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use crate::trace::activity::OpRef;
use crate::trace::timeline::Timeline;

/// Durations that mostly fit 32 bits: 4 bytes a row, exact for all.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DurationColumn {
    pub(super) low: Vec<u32>,
    pub(super) long: FxHashMap<u32, i64>,
}

/// One node of the tree of range names: all ranges with the same names from the outermost down.
#[derive(Debug, Clone, PartialEq)]
pub struct PathNode {
    /// Row in [`Projection::labels`].
    pub label: u32,
    /// Node of the enclosing range; `NO_ROW` for the outermost.
    pub parent: u32,
    /// 0 for the outermost.
    pub depth: u16,
    /// Ranges.
    pub instances: u32,
    /// Sum of the ranges' own durations on the host.
    pub wall_ns: i64,
    /// Time of kernels and whole graphs launched directly in the ranges and in no narrower range, sum.
    pub self_ns: i64,
    /// The same with narrower ranges, sum.
    pub inclusive_ns: i64,
    /// Sum over the ranges of the last end minus the first begin of their device operations.
    pub projected_ns: i64,
    /// Device operations of all kinds, with narrower ranges.
    pub ops: u64,
    /// Time of copies and memory sets launched directly in the ranges, sum.
    pub copy_self_ns: i64,
}

/// How device operations found their range.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attribution {
    /// Device operations and their time by containment of the launch call.
    pub by_call_ops: u64,
    /// Sum of durations, ns.
    pub by_call_ns: i64,
    /// By the operator an external id names (Kineto).
    pub by_operator_ops: u64,
    /// Sum of durations, ns.
    pub by_operator_ns: i64,
    /// In no range: launched outside any.
    pub outside_ops: u64,
    /// Sum of durations, ns.
    pub outside_ns: i64,
    /// In no range: no launch call is known.
    pub unlinked_ops: u64,
    /// Sum of durations, ns.
    pub unlinked_ns: i64,
}

/// Ranges with the device work launched inside them: columns by row of `Timeline::ranges` and by row of the device tables.
#[derive(Debug, Clone, Default)]
pub struct Projection {
    /// By range: row of the enclosing range or `NO_ROW`.
    pub parent: Vec<u32>,
    /// By range: node of [`Self::paths`], or `NO_ROW` for ranges left out.
    pub path: Vec<u32>,
    /// By range: device operations of all kinds launched inside, also in narrower ranges.
    pub ops: Vec<u32>,
    /// By range: the operation that starts first, `None` as `u32::MAX`; see [`Self::projected_ns`].
    pub first: Vec<Option<OpRef>>,
    /// By range: the operation that ends last.
    pub last: Vec<Option<OpRef>>,
    /// By range: time of kernels and whole graphs launched inside, sum of durations.
    pub inclusive: DurationColumn,
    /// By range: the same without narrower ranges.
    pub own: DurationColumn,
    /// By kernel: row of the innermost range or `NO_ROW`.
    pub kernel_range: Vec<u32>,
    /// By copy.
    pub copy_range: Vec<u32>,
    /// By memory set.
    pub memset_range: Vec<u32>,
    /// By whole-graph launch.
    pub graph_range: Vec<u32>,
    /// By API call: row of the innermost range that contains it or `NO_ROW`.
    pub call_range: Vec<u32>,
    /// From graph node to the innermost range in which it was captured.
    pub capture_range: FxHashMap<u64, u32>,
    /// Tree of range names; a parent stands before its children.
    pub paths: Vec<PathNode>,
    /// Names of ranges as `domain:name`, or `name` in the default domain.
    pub labels: Vec<String>,
    /// Kernels and whole graphs.
    pub kernels: Attribution,
    /// Copies and memory sets.
    pub copies: Attribution,
    /// Ranges ended by another thread: left out.
    pub cross_thread: u64,
    /// Ranges that cross another one of their thread.
    pub crossing: u64,
    /// Launch calls contained by ranges that cross each other.
    pub ambiguous_calls: u64,
}

/// Projects the ranges of `timeline` onto its device work.
pub fn project(timeline: &Timeline) -> Projection {
    let _ = timeline;
    unimplemented!()
}

impl Projection {
    /// First begin and last end of the device operations of range `row`; `None` without any.
    pub fn projected_ns(&self, timeline: &Timeline, row: usize) -> Option<(i64, i64)> {
        Some((timeline.op_start_ns(self.first[row]?), timeline.op_end_ns(self.last[row]?)))
    }
    /// Innermost range of a device operation.
    pub fn op_range(&self, op: OpRef) -> Option<usize> {
        let _ = op;
        unimplemented!()
    }
}

/// Totals of all ranges of one name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RangeTotal {
    /// `domain:name`, or `name` in the default domain; for a path, names from the outermost down, joined by `;`.
    pub name: String,
    /// Ranges.
    pub instances: u64,
    /// Sum of the ranges' own durations on the host, ns.
    pub wall_sum_ns: i64,
    /// Time of kernels and whole graphs, with narrower ranges, sum; a range within one of the same name is not counted twice.
    pub gpu_inclusive_sum_ns: i64,
    /// The same, launched directly in these ranges.
    pub gpu_self_sum_ns: i64,
    /// Sum over the ranges of the last end minus the first begin of their device operations, ns; idle time inside included.
    pub projected_sum_ns: i64,
    /// Device operations of all kinds, with narrower ranges.
    pub ops: u64,
    /// Time of copies and memory sets launched directly in these ranges, sum.
    pub copy_self_sum_ns: i64,
}

/// Range tables for the report, bounded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RangeSummary {
    /// Ranges in all.
    pub ranges: u64,
    /// By name, the most GPU time first.
    pub by_name: Vec<RangeTotal>,
    /// Names beyond those.
    pub names_omitted: u64,
    /// By path, the most GPU time first.
    pub by_path: Vec<RangeTotal>,
    /// Paths beyond those.
    pub paths_omitted: u64,
    /// How kernels and whole graphs were attributed.
    pub kernels: Attribution,
    /// How copies and memory sets were attributed.
    pub copies: Attribution,
    /// Share of the time of kernels and whole graphs in some range; null without any.
    pub attributed_share: Option<f64>,
    /// Ranges ended by another thread: left out.
    pub cross_thread: u64,
    /// Ranges that cross another one of their thread.
    pub crossing: u64,
    /// Launch calls contained by ranges that cross each other; the shortest is taken as the innermost.
    pub ambiguous_calls: u64,
}

/// The range tables of a projection, `top` rows each.
pub fn summary(timeline: &Timeline, projection: &Projection, top: usize) -> RangeSummary {
    let _ = (timeline, projection, top);
    unimplemented!()
}

/// Modules and layers of the kernels.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Modules {
    /// Module names, as the ranges have them with the layer number taken out (`self_attn`, `LlamaDecoderLayer`).
    pub names: Vec<String>,
    /// By path node: row in `names` or `NO_ROW`.
    pub path_module: Vec<u32>,
    /// By path node: layer or `NO_ROW`.
    pub path_layer: Vec<u32>,
}

/// Modules and layers that the range names of `projection` tell.
pub fn modules(timeline: &Timeline, projection: &Projection) -> Modules {
    let _ = (timeline, projection);
    unimplemented!()
}

impl Modules {
    /// Row in `names` of the module of kernel `row`.
    pub fn module_of_kernel(&self, timeline: &Timeline, projection: &Projection, row: usize) -> Option<usize> {
        let _ = (timeline, projection, row);
        unimplemented!()
    }
    /// Layer of kernel `row`.
    pub fn layer_of_kernel(&self, timeline: &Timeline, projection: &Projection, row: usize) -> Option<u32> {
        let _ = (timeline, projection, row);
        unimplemented!()
    }
}
