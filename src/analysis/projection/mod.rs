//! Ranges and the device work launched inside them.
//!
//! A device operation belongs to the ranges of the launching thread that contain its launch *call*: begin of the range ≤ begin of the call and
//! end of the call ≤ end of the range. GPU times play no part. Innermost is the shortest range that contains the call; of two of one length the
//! one that comes later in the table. The parent of a range is the shortest other range of its thread that contains it. A start/end range contains
//! a call if it was open from before the call until after it. Start/end ranges that another thread ended are left out, as in NVIDIA's reports.
//!
//! Device work without a range by its call falls back on the operator an external id names (Kineto). What remains is "outside" (its call is known
//! and lies in no range) or "unlinked" (no call is known), so that the own times of all ranges and these two add up to all time exactly.
//!
//! Kernels replayed by a graph belong to the range around the launch of the graph. Where the trace tells which node was captured when,
//! [`Projection::capture_range`] has the range around the capture too.

mod labels;
mod modules;
mod summary;
mod sweep;
#[cfg(test)]
mod tests;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use self::labels::Labels;
pub use self::modules::{Modules, modules};
pub use self::summary::{RangeSummary, RangeTotal, summary};
use self::sweep::{Queries, sweep};
use crate::trace::activity::{OpKind, OpRef};
use crate::trace::places::NO_ROW;
use crate::trace::timeline::Timeline;

/// Nodes of the tree of names at most; further ones become `(other)`.
pub const MAX_PATHS: usize = 1 << 20;

/// Durations that mostly fit 32 bits: 4 bytes a row, exact for all.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DurationColumn {
    low: Vec<u32>,
    /// Rows whose `low` is `u32::MAX`.
    long: FxHashMap<u32, i64>,
}

impl DurationColumn {
    /// Zeros.
    pub fn zeros(rows: usize) -> Self {
        Self { low: vec![0; rows], long: FxHashMap::default() }
    }
    /// Value of `row`, ns.
    pub fn get(&self, row: usize) -> i64 {
        match self.low[row] {
            u32::MAX => self.long.get(&(row as u32)).copied().unwrap_or(i64::from(u32::MAX)),
            low => i64::from(low),
        }
    }
    /// Adds to `row`; the sum stays at `i64::MAX` at most.
    pub fn add(&mut self, row: usize, ns: i64) {
        if ns == 0 {
            return;
        }
        let sum = self.get(row).saturating_add(ns);
        match u32::try_from(sum) {
            Ok(low) if low != u32::MAX => self.low[row] = low,
            _ => {
                self.low[row] = u32::MAX;
                self.long.insert(row as u32, sum);
            }
        }
    }
}

/// One node of the tree of range names: all ranges with the same names from the outermost down.
#[derive(Debug, Clone, Default, PartialEq)]
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
    /// Device operations in a range that contains their launch call.
    pub by_call_ops: u64,
    /// Sum of their durations, ns.
    pub by_call_ns: i64,
    /// By the operator an external id names (Kineto).
    pub by_operator_ops: u64,
    /// Sum of their durations, ns.
    pub by_operator_ns: i64,
    /// In no range: launched outside any.
    pub outside_ops: u64,
    /// Sum of their durations, ns.
    pub outside_ns: i64,
    /// In no range: no launch call is known.
    pub unlinked_ops: u64,
    /// Sum of their durations, ns.
    pub unlinked_ns: i64,
}

impl Attribution {
    /// Sum of the durations of all operations, ns.
    pub fn total_ns(&self) -> i64 {
        self.attributed_ns().saturating_add(self.outside_ns).saturating_add(self.unlinked_ns)
    }
    /// Sum of the durations of operations in some range, ns.
    pub fn attributed_ns(&self) -> i64 {
        self.by_call_ns.saturating_add(self.by_operator_ns)
    }
    fn count(&mut self, how: How, ns: i64) {
        let (ops, sum) = match how {
            How::Call => (&mut self.by_call_ops, &mut self.by_call_ns),
            How::Operator => (&mut self.by_operator_ops, &mut self.by_operator_ns),
            How::Outside => (&mut self.outside_ops, &mut self.outside_ns),
            How::Unlinked => (&mut self.unlinked_ops, &mut self.unlinked_ns),
        };
        *ops += 1;
        *sum = sum.saturating_add(ns);
    }
}

#[derive(Clone, Copy)]
enum How {
    Call,
    Operator,
    Outside,
    Unlinked,
}

/// Ranges with the device work launched inside them: columns by row of `Timeline::ranges` and by row of the device tables.
#[derive(Debug, Clone, Default)]
pub struct Projection {
    /// By range: row of the enclosing range or `NO_ROW`; a parent stands before its children.
    pub parent: Vec<u32>,
    /// By range: node of [`Self::paths`], or `NO_ROW` for ranges left out.
    pub path: Vec<u32>,
    /// By range: device operations of all kinds launched inside, also in narrower ranges.
    pub ops: Vec<u32>,
    /// By range: time of kernels and whole graphs launched inside, also in narrower ranges, sum of durations.
    pub inclusive: DurationColumn,
    /// By range: the same without narrower ranges.
    pub own: DurationColumn,
    /// By range: the operation that starts first, and the one that ends last; `NO_OP` for none.
    first: Vec<OpRef>,
    last: Vec<OpRef>,
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
    /// Names of ranges as `domain:name`, or `name` in the default domain. Names that differ in a counter only, more than 256 of them, share one
    /// with `#` for the counter.
    pub labels: Vec<String>,
    /// How kernels and whole graphs were attributed.
    pub kernels: Attribution,
    /// How copies and memory sets were attributed.
    pub copies: Attribution,
    /// Ranges ended by another thread: left out.
    pub cross_thread: u64,
    /// Ranges that begin inside another one of their thread and end after it.
    pub crossing: u64,
    /// Calls contained by two ranges that do not contain each other.
    pub ambiguous_calls: u64,
}

/// Stands for "no operation": no table has so many rows.
fn no_op() -> OpRef {
    OpRef::new(OpKind::Graph, OpRef::MAX_ROWS - 1)
}

/// Projects the ranges of `timeline` onto its device work.
pub fn project(timeline: &Timeline) -> Projection {
    let ranges = &timeline.ranges;
    let rows = ranges.len();
    let mut p = Projection {
        parent: vec![NO_ROW; rows],
        path: vec![NO_ROW; rows],
        ops: vec![0; rows],
        first: vec![no_op(); rows],
        last: vec![no_op(); rows],
        call_range: vec![NO_ROW; timeline.api.len()],
        ..Projection::default()
    };
    let ambiguous = p.walk(timeline);
    p.attribute(timeline);
    p.roll_up(timeline);
    if ambiguous {
        p.add_crossing(timeline);
    }
    p.build_paths(timeline);
    p.find_captures(timeline);
    p
}

fn api_queries(timeline: &Timeline) -> Queries<'_> {
    Queries { thread: &timeline.api.thread, start_ns: &timeline.api.start_ns, end_ns: &timeline.api.end_ns }
}

impl Projection {
    /// First begin and last end of the device operations of range `row`; `None` without any.
    pub fn projected_ns(&self, timeline: &Timeline, row: usize) -> Option<(i64, i64)> {
        let (first, last) = (self.first[row], self.last[row]);
        (first != no_op()).then(|| (timeline.op_start_ns(first), timeline.op_end_ns(last)))
    }
    /// Row of the innermost range of a device operation.
    pub fn op_range(&self, op: OpRef) -> Option<usize> {
        let column = match op.kind() {
            OpKind::Kernel => &self.kernel_range,
            OpKind::Copy => &self.copy_range,
            OpKind::Memset => &self.memset_range,
            OpKind::Graph => &self.graph_range,
        };
        let range = column[op.row()];
        (range != NO_ROW).then_some(range as usize)
    }
    /// The range in which kernel `row` was captured into a graph, where the trace tells.
    pub fn kernel_capture_range(&self, timeline: &Timeline, row: usize) -> Option<usize> {
        self.capture_range.get(&timeline.kernels.node(row)?).map(|range| *range as usize)
    }
    /// Name of a path node.
    pub fn label(&self, path: usize) -> &str {
        &self.labels[self.paths[path].label as usize]
    }
    /// Names of a path node from the outermost down, joined by `;`.
    pub fn path_text(&self, path: usize) -> String {
        let mut labels = vec![self.label(path)];
        let mut at = self.paths[path].parent;
        while at != NO_ROW {
            labels.push(self.label(at as usize));
            at = self.paths[at as usize].parent;
        }
        labels.reverse();
        labels.join(";")
    }

    /// Parents of ranges and innermost ranges of calls; true if crossing ranges share calls.
    fn walk(&mut self, timeline: &Timeline) -> bool {
        let ranges = &timeline.ranges;
        self.cross_thread = ranges.end_thread.iter().filter(|thread| **thread != NO_ROW).count() as u64;
        let Self { parent, call_range, crossing, ambiguous_calls, .. } = self;
        let ends = &timeline.api.end_ns;
        sweep(
            ranges,
            |row| ranges.other_end_thread(row).is_some(),
            api_queries(timeline),
            |row, enclosing, crosses| {
                parent[row] = enclosing;
                *crossing += u64::from(crosses);
            },
            |call, innermost, open| {
                call_range[call] = innermost;
                *ambiguous_calls += u64::from(open.is_ambiguous(ends[call]));
            },
        );
        self.ambiguous_calls > 0
    }

    /// Gives every device operation its range, and the ranges what was launched directly in them.
    fn attribute(&mut self, timeline: &Timeline) {
        self.own = DurationColumn::zeros(timeline.ranges.len());
        let kinds = [
            (OpKind::Kernel, &timeline.kernels.call, timeline.kernels.operator.as_slice()),
            (OpKind::Copy, &timeline.copies.call, &[]),
            (OpKind::Memset, &timeline.memsets.call, &[]),
            (OpKind::Graph, &timeline.graphs.call, &[]),
        ];
        for (kind, calls, operators) in kinds {
            let computes = matches!(kind, OpKind::Kernel | OpKind::Graph);
            let mut column = vec![NO_ROW; calls.len()];
            for (row, call) in calls.iter().enumerate() {
                let op = OpRef::new(kind, row);
                let by_call = if *call == NO_ROW { NO_ROW } else { self.call_range[*call as usize] };
                let operator = operators.get(row).copied().unwrap_or(NO_ROW);
                let (range, how) = match (by_call, operator) {
                    (NO_ROW, NO_ROW) if *call == NO_ROW => (NO_ROW, How::Unlinked),
                    (NO_ROW, NO_ROW) => (NO_ROW, How::Outside),
                    (NO_ROW, operator) => (operator, How::Operator),
                    (range, _) => (range, How::Call),
                };
                let ns = timeline.op_end_ns(op).saturating_sub(timeline.op_start_ns(op));
                if computes {
                    self.kernels.count(how, ns);
                } else {
                    self.copies.count(how, ns);
                }
                if range == NO_ROW {
                    continue;
                }
                column[row] = range;
                let range = range as usize;
                self.ops[range] += 1;
                self.extend(timeline, range, op, op);
                if computes {
                    self.own.add(range, ns);
                }
            }
            match kind {
                OpKind::Kernel => self.kernel_range = column,
                OpKind::Copy => self.copy_range = column,
                OpKind::Memset => self.memset_range = column,
                OpKind::Graph => self.graph_range = column,
            }
        }
    }

    /// Lets the projection of `range` reach from the begin of `first` to the end of `last` at least.
    fn extend(&mut self, timeline: &Timeline, range: usize, first: OpRef, last: OpRef) {
        let known = self.first[range];
        if known == no_op() {
            self.first[range] = first;
            self.last[range] = last;
            return;
        }
        if timeline.op_start_ns(first) < timeline.op_start_ns(known) {
            self.first[range] = first;
        }
        if timeline.op_end_ns(last) > timeline.op_end_ns(self.last[range]) {
            self.last[range] = last;
        }
    }

    /// Adds what is in narrower ranges to their parents. Rows of parents are smaller than those of their children.
    fn roll_up(&mut self, timeline: &Timeline) {
        self.inclusive = self.own.clone();
        for row in (0..self.parent.len()).rev() {
            let parent = self.parent[row];
            if parent == NO_ROW || self.ops[row] == 0 {
                continue;
            }
            let parent = parent as usize;
            self.ops[parent] = self.ops[parent].saturating_add(self.ops[row]);
            self.inclusive.add(parent, self.inclusive.get(row));
            let (first, last) = (self.first[row], self.last[row]);
            self.extend(timeline, parent, first, last);
        }
    }

    /// Adds work to the ranges that contain its call without containing the innermost one: those that cross it.
    fn add_crossing(&mut self, timeline: &Timeline) {
        let ranges = &timeline.ranges;
        let by_call = OpsByCall::new(timeline);
        let ends = &timeline.api.end_ns;
        let mut beyond: Vec<u32> = Vec::new();
        sweep(
            ranges,
            |row| ranges.other_end_thread(row).is_some(),
            api_queries(timeline),
            |_, _, _| {},
            |call, innermost, open| {
                let ops = by_call.of(call);
                if ops.is_empty() || !open.is_ambiguous(ends[call]) {
                    return;
                }
                beyond.clear();
                beyond.extend(open.rows_containing(ends[call]));
                let mut at = innermost;
                while at != NO_ROW {
                    beyond.retain(|row| *row != at);
                    at = self.parent[at as usize];
                }
                for range in &beyond {
                    let range = *range as usize;
                    for op in ops {
                        self.ops[range] = self.ops[range].saturating_add(1);
                        self.extend(timeline, range, *op, *op);
                        if matches!(op.kind(), OpKind::Kernel | OpKind::Graph) {
                            let ns = timeline.op_end_ns(*op).saturating_sub(timeline.op_start_ns(*op));
                            self.inclusive.add(range, ns);
                        }
                    }
                }
            },
        );
    }

    fn build_paths(&mut self, timeline: &Timeline) {
        let ranges = &timeline.ranges;
        let mut labels = Labels::of(timeline);
        let mut nodes: FxHashMap<(u32, u32), u32> = FxHashMap::default();
        let mut other = NO_ROW;
        for row in 0..ranges.len() {
            if ranges.other_end_thread(row).is_some() {
                continue;
            }
            let label = labels.get(ranges.domain[row], ranges.name[row]);
            let parent = match self.parent[row] {
                NO_ROW => NO_ROW,
                enclosing => self.path[enclosing as usize],
            };
            let path = match nodes.get(&(parent, label)) {
                Some(path) => *path,
                None if self.paths.len() < MAX_PATHS => {
                    let path = self.push_path(label, parent);
                    nodes.insert((parent, label), path);
                    path
                }
                None => {
                    if other == NO_ROW {
                        labels.texts.push("(other)".to_owned());
                        other = self.push_path((labels.texts.len() - 1) as u32, NO_ROW);
                    }
                    other
                }
            };
            self.path[row] = path;
            let projected = self.projected_ns(timeline, row).map_or(0, |(first, last)| last.saturating_sub(first));
            let node = &mut self.paths[path as usize];
            node.instances += 1;
            node.wall_ns = node.wall_ns.saturating_add(ranges.end_ns[row].saturating_sub(ranges.start_ns[row]));
            node.self_ns = node.self_ns.saturating_add(self.own.get(row));
            node.inclusive_ns = node.inclusive_ns.saturating_add(self.inclusive.get(row));
            node.projected_ns = node.projected_ns.saturating_add(projected);
            node.ops += u64::from(self.ops[row]);
        }
        let copies = self.copy_range.iter().enumerate().map(|(row, range)| (OpRef::new(OpKind::Copy, row), *range));
        let memsets =
            self.memset_range.iter().enumerate().map(|(row, range)| (OpRef::new(OpKind::Memset, row), *range));
        for (op, range) in copies.chain(memsets).filter(|(_, range)| *range != NO_ROW) {
            let path = self.path[range as usize];
            if let Some(node) = self.paths.get_mut(path as usize) {
                let ns = timeline.op_end_ns(op).saturating_sub(timeline.op_start_ns(op));
                node.copy_self_ns = node.copy_self_ns.saturating_add(ns);
            }
        }
        self.labels = labels.texts;
    }

    fn push_path(&mut self, label: u32, parent: u32) -> u32 {
        let depth = self.paths.get(parent as usize).map_or(0, |parent| parent.depth.saturating_add(1));
        self.paths.push(PathNode { label, parent, depth, ..PathNode::default() });
        (self.paths.len() - 1) as u32
    }

    /// The ranges in which graph nodes were captured: a node of an executable graph leads by its originals to the node a captured call created.
    fn find_captures(&mut self, timeline: &Timeline) {
        /// Executable graphs are clones of captured ones; clones of clones are rare, cycles are damage.
        const MAX_CLONES: usize = 16;
        let nodes = &timeline.graph_nodes;
        if nodes.is_empty() {
            return;
        }
        let mut order: Vec<u32> = (0..nodes.len() as u32).filter(|row| nodes.thread[*row as usize] != NO_ROW).collect();
        order.sort_by_key(|row| (nodes.thread[*row as usize], nodes.start_ns[*row as usize]));
        let column = |values: &[i64]| -> Vec<i64> { order.iter().map(|row| values[*row as usize]).collect() };
        let threads: Vec<u32> = order.iter().map(|row| nodes.thread[*row as usize]).collect();
        let (starts, ends) = (column(&nodes.start_ns), column(&nodes.end_ns));
        let mut created_in = vec![NO_ROW; nodes.len()];
        let ranges = &timeline.ranges;
        sweep(
            ranges,
            |row| ranges.other_end_thread(row).is_some(),
            Queries { thread: &threads, start_ns: &starts, end_ns: &ends },
            |_, _, _| {},
            |query, innermost, _| created_in[order[query] as usize] = innermost,
        );
        let by_node: FxHashMap<u64, usize> =
            nodes.node.iter().copied().enumerate().map(|(row, node)| (node, row)).collect();
        for node in &nodes.node {
            let mut at = *node;
            for _ in 0..MAX_CLONES {
                let Some(row) = by_node.get(&at) else { break };
                match nodes.original[*row] {
                    0 => break,
                    original if by_node.contains_key(&original) => at = original,
                    _ => break,
                }
            }
            if let Some(row) = by_node.get(&at)
                && created_in[*row] != NO_ROW
            {
                self.capture_range.insert(*node, created_in[*row]);
            }
        }
    }
}

/// Device operations by the call that launched them.
struct OpsByCall {
    /// Begin of each call's operations in `ops`, one more than calls.
    offsets: Vec<u32>,
    ops: Vec<OpRef>,
}

impl OpsByCall {
    fn new(timeline: &Timeline) -> Self {
        let tables = [
            (OpKind::Kernel, &timeline.kernels.call),
            (OpKind::Copy, &timeline.copies.call),
            (OpKind::Memset, &timeline.memsets.call),
            (OpKind::Graph, &timeline.graphs.call),
        ];
        let mut offsets = vec![0_u32; timeline.api.len() + 1];
        for call in tables.iter().flat_map(|(_, calls)| calls.iter()).filter(|call| **call != NO_ROW) {
            offsets[*call as usize + 1] += 1;
        }
        for call in 1..offsets.len() {
            offsets[call] += offsets[call - 1];
        }
        let mut next = offsets.clone();
        let mut ops = vec![no_op(); offsets.last().map_or(0, |total| *total as usize)];
        for (kind, calls) in tables {
            for (row, call) in calls.iter().enumerate().filter(|(_, call)| **call != NO_ROW) {
                ops[next[*call as usize] as usize] = OpRef::new(kind, row);
                next[*call as usize] += 1;
            }
        }
        Self { offsets, ops }
    }
    fn of(&self, call: usize) -> &[OpRef] {
        &self.ops[self.offsets[call] as usize..self.offsets[call + 1] as usize]
    }
}
