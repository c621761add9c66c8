//! Range tables for the report: by name and by path, bounded.

use std::cmp::Reverse;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::{Attribution, PathNode, Projection};
use crate::trace::places::NO_ROW;
use crate::trace::timeline::Timeline;

/// Totals of all ranges of one name or path.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RangeTotal {
    /// `domain:name`, or `name` in the default domain; for a path, names from the outermost down, joined by `;`.
    pub name: String,
    /// Ranges. A range within one of the same name counts here and in `gpu_self_sum_ns`, and not in the other figures, which it is part of already.
    pub instances: u64,
    /// Sum of the ranges' own durations on the host, ns.
    pub wall_sum_ns: i64,
    /// Time of kernels and whole graphs launched in these ranges or in narrower ones, sum.
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
    /// Ranges that begin inside another one of their thread and end after it.
    pub crossing: u64,
    /// Calls contained by two ranges that do not contain each other; the shorter is taken as the innermost.
    pub ambiguous_calls: u64,
}

/// The range tables of a projection, at most `top` rows each.
pub fn summary(timeline: &Timeline, projection: &Projection, top: usize) -> RangeSummary {
    let (by_name, names_omitted) = by_name(projection, top);
    let (by_path, paths_omitted) = by_path(projection, top);
    let total = projection.kernels.total_ns();
    RangeSummary {
        ranges: timeline.ranges.len() as u64,
        by_name,
        names_omitted,
        by_path,
        paths_omitted,
        kernels: projection.kernels,
        copies: projection.copies,
        attributed_share: (total > 0).then(|| projection.kernels.attributed_ns() as f64 / total as f64),
        cross_thread: projection.cross_thread,
        crossing: projection.crossing,
        ambiguous_calls: projection.ambiguous_calls,
    }
}

/// Whether a node stands below another one of its name.
fn is_within_its_name(projection: &Projection, node: &PathNode) -> bool {
    let mut at = node.parent;
    while at != NO_ROW {
        let above = &projection.paths[at as usize];
        if above.label == node.label {
            return true;
        }
        at = above.parent;
    }
    false
}

fn add(total: &mut RangeTotal, node: &PathNode, with_inclusive: bool) {
    total.instances += u64::from(node.instances);
    total.gpu_self_sum_ns = total.gpu_self_sum_ns.saturating_add(node.self_ns);
    total.copy_self_sum_ns = total.copy_self_sum_ns.saturating_add(node.copy_self_ns);
    if with_inclusive {
        total.wall_sum_ns = total.wall_sum_ns.saturating_add(node.wall_ns);
        total.gpu_inclusive_sum_ns = total.gpu_inclusive_sum_ns.saturating_add(node.inclusive_ns);
        total.projected_sum_ns = total.projected_sum_ns.saturating_add(node.projected_ns);
        total.ops += node.ops;
    }
}

fn by_name(projection: &Projection, top: usize) -> (Vec<RangeTotal>, u64) {
    let mut totals: FxHashMap<u32, RangeTotal> = FxHashMap::default();
    for node in &projection.paths {
        let outermost = !is_within_its_name(projection, node);
        add(totals.entry(node.label).or_default(), node, outermost);
    }
    let mut totals: Vec<(u32, RangeTotal)> = totals.into_iter().collect();
    totals.sort_by_key(|(label, total)| (Reverse(total.gpu_inclusive_sum_ns), Reverse(total.wall_sum_ns), *label));
    let omitted = totals.len().saturating_sub(top) as u64;
    let rows = totals
        .into_iter()
        .take(top)
        .map(|(label, total)| RangeTotal { name: projection.labels[label as usize].clone(), ..total })
        .collect();
    (rows, omitted)
}

fn by_path(projection: &Projection, top: usize) -> (Vec<RangeTotal>, u64) {
    let mut order: Vec<usize> = (0..projection.paths.len()).collect();
    order.sort_by_key(|path| {
        let node = &projection.paths[*path];
        (Reverse(node.inclusive_ns), Reverse(node.wall_ns), *path)
    });
    let omitted = order.len().saturating_sub(top) as u64;
    let rows = order
        .into_iter()
        .take(top)
        .map(|path| {
            let mut total = RangeTotal { name: projection.path_text(path), ..RangeTotal::default() };
            add(&mut total, &projection.paths[path], true);
            total
        })
        .collect();
    (rows, omitted)
}
