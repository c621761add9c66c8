//! GPU time by range path: a tree and folded stacks.

use serde::{Deserialize, Serialize};

use super::projection::Projection;
use crate::trace::timeline::Timeline;

/// One frame. `total_ns` is `self_ns` plus the totals of the children, always.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FlameNode {
    /// Name: thread, range or kernel. `(other)` stands for what was too small, `(no range)` for work outside any range.
    pub name: String,
    /// Sum of durations of kernels and whole graphs, children included, ns.
    pub total_ns: i64,
    /// Sum of what stands directly here.
    pub self_ns: i64,
    /// Parts, the longest first.
    pub children: Vec<Self>,
}

/// What goes into a flame graph.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FlameOptions {
    /// Frames below this fraction of all time go to `(other)`.
    pub min_fraction: f64,
    /// Whether kernels stand as leaves under their range.
    pub kernels: bool,
    /// Whether the launching thread stands above its ranges.
    pub threads: bool,
}

impl Default for FlameOptions {
    fn default() -> Self {
        Self { min_fraction: 0.0005, kernels: true, threads: true }
    }
}

/// The tree of GPU time by thread, range path and kernel; the root stands for all of it.
pub fn flame(timeline: &Timeline, projection: &Projection, options: FlameOptions) -> FlameNode {
    let _ = (timeline, projection, options);
    unimplemented!()
}

/// Folded stacks: `thread;range;range;kernel weight` a line, weight in ns; read by flamegraph.pl, inferno and speedscope.
pub fn folded(root: &FlameNode) -> String {
    let _ = root;
    unimplemented!()
}
