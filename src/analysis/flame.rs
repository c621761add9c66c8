//! GPU time by range path: a tree and folded stacks.

use std::cmp::Reverse;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::intervals::length_ns;
use super::kernel_names::shorten;
use super::projection::Projection;
use crate::trace::activity::{OpKind, OpRef};
use crate::trace::places::NO_ROW;
use crate::trace::timeline::Timeline;

/// Frames above a leaf at most. What is nested deeper stands in the deepest frame kept: trees are walked, dropped and written level by level.
pub const MAX_DEPTH: usize = 120;

/// One frame. `total_ns` is `self_ns` plus the totals of the children, always.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FlameNode {
    /// Name: thread, range or kernel. `(other)` stands for what was too small, `(no range)` for work outside any range.
    pub name: String,
    /// Sum of durations of kernels and whole graphs, children included, ns.
    pub total_ns: i64,
    /// Sum of what stands directly here.
    pub self_ns: i64,
    /// Parts, the longest first, `(other)` last.
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

/// Where some time belongs: thread, path node and leaf; `NO_ROW` for none.
type Place = (u32, u32, u32);

/// A frame while the tree is made: a parent stands before its children.
struct Frame {
    name: String,
    parent: u32,
    depth: usize,
    self_ns: i64,
}

/// What tells frames below one parent apart.
#[derive(PartialEq, Eq, Hash)]
enum Part {
    Thread(u32),
    Path(u32),
    Leaf(u32),
    NoRange,
}

#[derive(Default)]
struct Tree {
    frames: Vec<Frame>,
    known: FxHashMap<(u32, Part), u32>,
}

impl Tree {
    fn child(&mut self, parent: u32, part: Part, name: impl FnOnce() -> String) -> u32 {
        let Self { frames, known } = self;
        *known.entry((parent, part)).or_insert_with(|| {
            let depth = frames[parent as usize].depth + 1;
            frames.push(Frame { name: name(), parent, depth, self_ns: 0 });
            (frames.len() - 1) as u32
        })
    }
}

/// Names of the leaves: kernels by short name, so that two that look the same are one.
struct Leaves {
    names: Vec<String>,
    /// By row of `kernel_names`.
    of_kernel: Vec<u32>,
    graph: u32,
}

impl Leaves {
    fn of(timeline: &Timeline) -> Self {
        let mut ids: FxHashMap<String, u32> = FxHashMap::default();
        let mut names: Vec<String> = Vec::new();
        let mut id = |name: String| {
            *ids.entry(name).or_insert_with_key(|name| {
                names.push(name.clone());
                (names.len() - 1) as u32
            })
        };
        let of_kernel = timeline.kernel_names.iter().map(|name| id(shorten(timeline.text(name.demangled)))).collect();
        let graph = id("[CUDA graph]".to_owned());
        Self { names, of_kernel, graph }
    }
}

/// The tree of GPU time by thread, range path and kernel; the root stands for all of it.
pub fn flame(timeline: &Timeline, projection: &Projection, options: FlameOptions) -> FlameNode {
    let leaves = Leaves::of(timeline);
    let mut tree = Tree::default();
    tree.frames.push(Frame { name: "all GPU time".to_owned(), parent: NO_ROW, depth: 0, self_ns: 0 });
    // In order of place, so that the same trace always gives the same tree.
    let mut weights: Vec<(Place, i64)> = weights(timeline, projection, &leaves, options).into_iter().collect();
    weights.sort_unstable();
    let mut branches: FxHashMap<(u32, u32), u32> = FxHashMap::default();
    for ((thread, path, leaf), ns) in weights {
        let mut frame = *branches
            .entry((thread, path))
            .or_insert_with(|| branch(&mut tree, timeline, projection, options, thread, path));
        if leaf != NO_ROW {
            frame = tree.child(frame, Part::Leaf(leaf), || leaves.names[leaf as usize].clone());
        }
        let self_ns = &mut tree.frames[frame as usize].self_ns;
        *self_ns = self_ns.saturating_add(ns);
    }
    gather(tree.frames, options.min_fraction)
}

fn weights(
    timeline: &Timeline,
    projection: &Projection,
    leaves: &Leaves,
    options: FlameOptions,
) -> FxHashMap<Place, i64> {
    let mut weights: FxHashMap<Place, i64> = FxHashMap::default();
    let mut last: Option<(Place, i64)> = None;
    for (kind, rows) in [(OpKind::Kernel, timeline.kernels.len()), (OpKind::Graph, timeline.graphs.len())] {
        for row in 0..rows {
            let op = OpRef::new(kind, row);
            let range = projection.op_range(op);
            let thread = match range {
                Some(range) => timeline.ranges.thread[range],
                None => timeline.op_call(op).map_or(NO_ROW, |call| timeline.api.thread[call]),
            };
            let leaf = match kind {
                _ if !options.kernels => NO_ROW,
                OpKind::Kernel => leaves.of_kernel[timeline.kernels.name[row] as usize],
                _ => leaves.graph,
            };
            let place = (
                if options.threads { thread } else { NO_ROW },
                range.map_or(NO_ROW, |range| projection.path[range]),
                leaf,
            );
            let ns = i64::try_from(length_ns(timeline.op_start_ns(op), timeline.op_end_ns(op))).unwrap_or(i64::MAX);
            match &mut last {
                // Neighbours often belong together.
                Some((known, sum)) if *known == place => *sum = sum.saturating_add(ns),
                _ => {
                    flush(&mut weights, last.replace((place, ns)));
                }
            }
        }
    }
    flush(&mut weights, last);
    weights
}

fn flush(weights: &mut FxHashMap<Place, i64>, run: Option<(Place, i64)>) {
    if let Some((place, ns)) = run {
        let sum = weights.entry(place).or_default();
        *sum = sum.saturating_add(ns);
    }
}

/// The frame of a path below its thread.
fn branch(
    tree: &mut Tree,
    timeline: &Timeline,
    projection: &Projection,
    options: FlameOptions,
    thread: u32,
    path: u32,
) -> u32 {
    let mut frame = 0;
    if options.threads {
        frame = tree.child(frame, Part::Thread(thread), || thread_name(timeline, thread));
    }
    if path == NO_ROW {
        return tree.child(frame, Part::NoRange, || "(no range)".to_owned());
    }
    let mut chain = vec![path];
    while let Some(parent) =
        chain.last().map(|last| projection.paths[*last as usize].parent).filter(|row| *row != NO_ROW)
    {
        chain.push(parent);
    }
    for path in chain.into_iter().rev() {
        if tree.frames[frame as usize].depth >= MAX_DEPTH {
            break;
        }
        frame = tree.child(frame, Part::Path(path), || projection.label(path as usize).to_owned());
    }
    frame
}

fn thread_name(timeline: &Timeline, row: u32) -> String {
    let Some(thread) = timeline.threads.get(row as usize) else { return "(no launch call)".to_owned() };
    let pid = timeline.processes.get(thread.process as usize).map_or(0, |process| process.pid);
    match thread.name {
        Some(name) => format!("{} (process {pid}, thread {})", timeline.text(name), thread.tid),
        None => format!("process {pid}, thread {}", thread.tid),
    }
}

/// The tree of frames, those below the least fraction added up in `(other)`.
fn gather(frames: Vec<Frame>, min_fraction: f64) -> FlameNode {
    let mut totals: Vec<i64> = frames.iter().map(|frame| frame.self_ns).collect();
    for row in (1..frames.len()).rev() {
        let parent = frames[row].parent as usize;
        totals[parent] = totals[parent].saturating_add(totals[row]);
    }
    let least = totals[0] as f64 * min_fraction;
    let mut children: Vec<Vec<FlameNode>> = frames.iter().map(|_| Vec::new()).collect();
    let mut other: Vec<(u64, i64)> = vec![(0, 0); frames.len()];
    let mut root = None;
    for (row, frame) in frames.into_iter().enumerate().rev() {
        let mut parts = std::mem::take(&mut children[row]);
        parts.sort_by_key(|part| Reverse(part.total_ns));
        let (small, small_ns) = other[row];
        if small > 0 {
            parts.push(FlameNode {
                name: "(other)".to_owned(),
                total_ns: small_ns,
                self_ns: small_ns,
                children: Vec::new(),
            });
        }
        let node = FlameNode { name: frame.name, total_ns: totals[row], self_ns: frame.self_ns, children: parts };
        if row == 0 {
            root = Some(node);
        } else if (node.total_ns as f64) < least {
            let (count, sum) = &mut other[frame.parent as usize];
            *count += 1;
            *sum = sum.saturating_add(node.total_ns);
        } else {
            children[frame.parent as usize].push(node);
        }
    }
    root.unwrap_or_else(|| FlameNode { name: String::new(), total_ns: 0, self_ns: 0, children: Vec::new() })
}

/// Folded stacks: `thread;range;range;kernel weight` a line, weight in ns; read by flamegraph.pl, inferno and speedscope. The root is left out.
pub fn folded(root: &FlameNode) -> String {
    let mut text = String::new();
    let mut open: Vec<(&FlameNode, usize)> = vec![(root, 0)];
    let mut stack: Vec<String> = Vec::new();
    while let Some((node, depth)) = open.pop() {
        stack.truncate(depth.saturating_sub(1));
        if depth > 0 {
            // The semicolon parts frames and a line break parts stacks.
            stack.push(node.name.replace(|c: char| c == ';' || c.is_control(), " "));
        }
        if node.self_ns > 0 {
            let line = if stack.is_empty() { node.name.clone() } else { stack.join(";") };
            text.push_str(&format!("{line} {}\n", node.self_ns));
        }
        open.extend(node.children.iter().rev().map(|child| (child, depth + 1)));
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::projection::project;
    use super::*;
    use crate::trace::builder::TimelineBuilder;

    /// Launches at 10, 20, … inside `ranges`, each with a kernel of the length given.
    fn trace(ranges: &[(&str, i64, i64)], kernels: &[(&str, i64)]) -> Timeline {
        let mut b = TimelineBuilder::new();
        let p = b.process(5);
        let thread = b.thread(p, 6);
        let device = b.device(0);
        let stream = b.stream(p, device, 7);
        for (name, start, end) in ranges {
            b.range(thread, name, *start, Some(*end));
        }
        for (at, (name, ns)) in kernels.iter().enumerate() {
            let time = 10 * (at as i64 + 1);
            b.call(thread, "cudaLaunchKernel", time, time + 1, at as u32 + 1);
            b.kernel(stream, name, time + 1000, time + 1000 + ns, at as u32 + 1);
        }
        b.finish()
    }

    fn adds_up(node: &FlameNode) -> bool {
        node.total_ns == node.self_ns + node.children.iter().map(|child| child.total_ns).sum::<i64>()
            && node.children.iter().all(adds_up)
    }

    #[test]
    fn time_stands_under_thread_range_and_kernel() {
        let t = trace(&[("decode", 5, 25), ("a;tt\nn", 15, 22)], &[("gemm", 100), ("flash", 50), ("copy", 7)]);
        let root = flame(&t, &project(&t), FlameOptions { min_fraction: 0.0, ..FlameOptions::default() });
        assert_eq!(root.total_ns, 157);
        let mut lines: Vec<String> = folded(&root).lines().map(str::to_owned).collect();
        lines.sort();
        assert_eq!(
            lines,
            [
                "process 5, thread 6;(no range);copy 7",
                "process 5, thread 6;decode;a tt n;flash 50",
                "process 5, thread 6;decode;gemm 100",
            ]
        );
    }

    #[test]
    fn frames_too_small_are_added_up_in_other() {
        let t = trace(&[], &[("large", 960), ("s1", 10), ("s2", 10), ("s3", 20)]);
        let options = FlameOptions { min_fraction: 0.02, threads: false, kernels: true };
        let root = flame(&t, &project(&t), options);
        let parts: Vec<(&str, i64)> =
            root.children[0].children.iter().map(|child| (child.name.as_str(), child.total_ns)).collect();
        assert_eq!(parts, [("large", 960), ("s3", 20), ("(other)", 20)]);
        assert!(adds_up(&root) && root.total_ns == 1000);
    }

    #[test]
    fn a_trace_nested_without_end_gives_a_tree_of_bounded_depth() {
        let names: Vec<String> = (0..3000).map(|n| format!("f{}", char::from(b'a' + (n % 7) as u8))).collect();
        let ranges: Vec<(&str, i64, i64)> =
            names.iter().enumerate().map(|(n, name)| (name.as_str(), n as i64 - 5000, 9000 - n as i64)).collect();
        let t = trace(&ranges, &[("k", 11)]);
        let root = flame(&t, &project(&t), FlameOptions::default());
        let mut depth = 0;
        let mut at = &root;
        while let Some(child) = at.children.first() {
            (depth, at) = (depth + 1, child);
        }
        assert_eq!((depth, at.self_ns), (MAX_DEPTH + 1, 11));
    }

    proptest! {
        #[test]
        fn whatever_is_cut_the_sums_stay_exact(
            kernels in prop::collection::vec((0..5_usize, 0..1000_i64), 0..30),
            ranges in prop::collection::vec((0..4_usize, 0..300_i64, 0..200_i64), 0..10),
            min_fraction in 0.0..0.6_f64,
            threads in any::<bool>(),
            with_kernels in any::<bool>(),
        ) {
            const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
            let kernels: Vec<(&str, i64)> = kernels.iter().map(|(name, ns)| (NAMES[*name], *ns)).collect();
            let ranges: Vec<(&str, i64, i64)> = ranges.iter().map(|(n, at, ns)| (NAMES[*n], *at, at + ns)).collect();
            let t = trace(&ranges, &kernels);
            let root = flame(&t, &project(&t), FlameOptions { min_fraction, threads, kernels: with_kernels });
            let all: i64 = kernels.iter().map(|(_, ns)| ns).sum();
            prop_assert_eq!(root.total_ns, all);
            prop_assert!(adds_up(&root));
            let written: i64 =
                folded(&root).lines().filter_map(|line| line.rsplit_once(' ')?.1.parse::<i64>().ok()).sum();
            prop_assert_eq!(written, all);
        }
    }
}
