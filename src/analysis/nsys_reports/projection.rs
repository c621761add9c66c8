//! NVTX ranges projected onto the GPU: from the first begin to the last end of the work launched within a range.

use std::cmp::Reverse;

use rustc_hash::{FxHashMap, FxHashSet};

use super::calls::CallIndex;
use super::csv::Csv;
use super::enclosing::{Span, enclosing_rows, segments, spans_of, tightest};
use super::nvtx::{RangeNames, Style};
use super::summary::Collector;
use crate::trace::places::NO_ROW;
use crate::trace::timeline::Timeline;

/// Calls with device work on one thread, and what they launched. `launches` counts distinct correlation ids: 1 for a call; 0 or -1 where
/// several calls share one.
#[derive(Debug, Clone, Copy)]
struct Work {
    call: Span,
    first: i64,
    last: i64,
    launches: i64,
}

/// What a stretch of calls launched.
#[derive(Debug, Clone, Copy)]
struct Extent {
    latest_call_end: i64,
    first: i64,
    last: i64,
    launches: i64,
}

impl Extent {
    const EMPTY: Self = Self { latest_call_end: i64::MIN, first: i64::MAX, last: i64::MIN, launches: 0 };

    fn of(work: &Work) -> Self {
        Self { latest_call_end: work.call.end, first: work.first, last: work.last, launches: work.launches }
    }
    fn with(self, other: Self) -> Self {
        Self {
            latest_call_end: self.latest_call_end.max(other.latest_call_end),
            first: self.first.min(other.first),
            last: self.last.max(other.last),
            launches: self.launches + other.launches,
        }
    }
}

/// Work of one thread by begin of the call, with a tree over it, so that a range asks in O(log n).
struct WorkTree {
    work: Vec<Work>,
    /// Node 1 is the root, `2n` and `2n + 1` are below `n`.
    nodes: Vec<Extent>,
    leaves: usize,
}

impl WorkTree {
    fn new(mut work: Vec<Work>) -> Self {
        work.sort_by_key(|work| (work.call.start, Reverse(work.call.end)));
        let leaves = work.len().next_power_of_two();
        let mut nodes = vec![Extent::EMPTY; 2 * leaves];
        for (leaf, work) in nodes[leaves..].iter_mut().zip(&work) {
            *leaf = Extent::of(work);
        }
        for node in (1..leaves).rev() {
            nodes[node] = nodes[2 * node].with(nodes[2 * node + 1]);
        }
        Self { work, nodes, leaves }
    }
    /// What the calls `from..to` launched that ended by `end`.
    fn extent(&self, from: usize, to: usize, end: i64) -> Extent {
        /// Fewer calls than this are looked at one by one.
        const FEW: usize = 16;
        if to - from <= FEW {
            let within = self.work[from..to].iter().filter(|work| work.call.end <= end);
            return within.fold(Extent::EMPTY, |sum, work| sum.with(Extent::of(work)));
        }
        self.below(1, 0..self.leaves, from, to, end)
    }
    fn below(&self, node: usize, covers: std::ops::Range<usize>, from: usize, to: usize, end: i64) -> Extent {
        if covers.end <= from || to <= covers.start {
            return Extent::EMPTY;
        }
        let inside = from <= covers.start && covers.end <= to;
        if inside && self.nodes[node].latest_call_end <= end {
            return self.nodes[node];
        }
        if covers.len() == 1 {
            return Extent::EMPTY;
        }
        let middle = covers.start + covers.len() / 2;
        self.below(2 * node, covers.start..middle, from, to, end).with(self.below(
            2 * node + 1,
            middle..covers.end,
            from,
            to,
            end,
        ))
    }
}

/// First begin and last end of the work of each API call; `(MAX, MIN)` for none.
fn work_of_calls(timeline: &Timeline, index: &CallIndex) -> Vec<(i64, i64)> {
    let mut work = vec![(i64::MAX, i64::MIN); timeline.api.len()];
    let (kernels, copies, memsets) = (&timeline.kernels, &timeline.copies, &timeline.memsets);
    let tables = [
        (&kernels.start_ns, &kernels.end_ns, &kernels.stream, &kernels.correlation),
        (&copies.start_ns, &copies.end_ns, &copies.stream, &copies.correlation),
        (&memsets.start_ns, &memsets.end_ns, &memsets.stream, &memsets.correlation),
    ];
    for (starts, ends, streams, correlations) in tables {
        for row in 0..starts.len() {
            let process = timeline.streams[streams[row] as usize].process;
            for call in index.calls(process, correlations[row]) {
                let (first, last) = &mut work[*call as usize];
                *first = (*first).min(starts[row]);
                *last = (*last).max(ends[row]);
            }
        }
    }
    work
}

/// Corrects for calls of one thread that share a correlation id, which counts once however many of them a range encloses.
///
/// A call around another of the same id says nothing new: whoever encloses it encloses the other. It is dropped. What remains is in order of
/// both begin and end, and a range encloses a run of it; one launch less for each pair of neighbours it encloses leaves one.
fn shared_ids(mut calls: Vec<Work>, out: &mut Vec<Work>) {
    calls.sort_by_key(|work| (Reverse(work.call.start), work.call.end));
    let mut earliest_end = i64::MAX;
    calls.retain(|work| {
        let keeps = work.call.end < earliest_end;
        earliest_end = earliest_end.min(work.call.end);
        keeps
    });
    for pair in calls.windows(2) {
        let both = Span { start: pair[1].call.start, end: pair[0].call.end };
        out.push(Work { call: both, first: i64::MAX, last: i64::MIN, launches: -1 });
    }
    out.append(&mut calls);
}

/// A range that launched something.
#[derive(Debug, Clone, Copy)]
struct Projected {
    group: u32,
    duration: i64,
    range_duration: i64,
    launches: i64,
    level: Option<u32>,
    children: u32,
}

/// Sums over the ranges of one name and style.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    range_duration: i128,
    launches: i128,
    levels: i128,
    /// Ranges that have a level.
    with_level: u64,
    children: i128,
}

impl Sums {
    fn add(&mut self, row: &Projected) {
        self.range_duration += i128::from(row.range_duration);
        self.launches += i128::from(row.launches);
        self.levels += i128::from(row.level.unwrap_or(0));
        self.with_level += u64::from(row.level.is_some());
        self.children += i128::from(row.children);
    }
}

/// Projects the ranges of one thread; `rows` are rows of `ranges` that can enclose work.
fn project_thread(
    timeline: &Timeline,
    rows: &[u32],
    work: Vec<Work>,
    mut group_of: impl FnMut(usize) -> u32,
) -> Vec<Projected> {
    let spans = spans_of(timeline, rows);
    let tree = WorkTree::new(work);
    let mut from = 0;
    let extents: Vec<Extent> = spans
        .iter()
        .map(|span| {
            while tree.work.get(from).is_some_and(|work| work.call.start < span.start) {
                from += 1;
            }
            let to = from + tree.work[from..].partition_point(|work| work.call.start <= span.end);
            tree.extent(from, to, span.end)
        })
        .collect();

    // A range may find those before it, ranges of its own times left out: such ranges enclose each other, and have no level.
    let mut first_equal = 0;
    let known: Vec<usize> = (0..spans.len())
        .map(|at| {
            if spans[first_equal] != spans[at] {
                first_equal = at;
            }
            first_equal
        })
        .collect();
    let mut parents = tightest(&spans, spans.iter().copied().zip(known.iter().copied()));
    let mut levels: Vec<Option<u32>> = Vec::with_capacity(spans.len());
    for at in 0..spans.len() {
        let first = known[at];
        if first != at {
            parents[at] = first as u32;
            levels.push(None);
        } else if spans.get(at + 1) == Some(&spans[at]) {
            parents[at] = at as u32 + 1;
            levels.push(None);
        } else {
            let level = match parents[at] {
                NO_ROW => Some(0),
                parent => levels[parent as usize].map(|level| level + 1),
            };
            levels.push(level);
        }
    }
    let mut children = vec![0_u32; spans.len()];
    for (extent, parent) in extents.iter().zip(&parents) {
        if extent.launches > 0 && *parent != NO_ROW {
            children[*parent as usize] += 1;
        }
    }
    let projected = |at: usize| Projected {
        group: group_of(rows[at] as usize),
        duration: extents[at].last.saturating_sub(extents[at].first),
        range_duration: spans[at].end.saturating_sub(spans[at].start),
        launches: extents[at].launches,
        level: levels[at],
        children: children[at],
    };
    (0..spans.len()).filter(|at| extents[*at].launches > 0).map(projected).collect()
}

/// Work of every thread.
fn work_by_thread(timeline: &Timeline) -> Vec<Vec<Work>> {
    let index = CallIndex::new(timeline);
    let of_calls = work_of_calls(timeline, &index);
    let api = &timeline.api;
    let mut shared: FxHashSet<u32> = FxHashSet::default();
    index.shared().iter().for_each(|calls| shared.extend(calls));
    let mut by_thread: Vec<Vec<Work>> = vec![Vec::new(); timeline.threads.len()];
    let mut same_id: FxHashMap<(u32, u32), Vec<Work>> = FxHashMap::default();
    for (call, (first, last)) in of_calls.into_iter().enumerate() {
        if first == i64::MAX {
            continue;
        }
        let span = Span { start: api.start_ns[call], end: api.end_ns[call] };
        let work = Work { call: span, first, last, launches: 1 };
        let thread = api.thread[call];
        if shared.contains(&(call as u32)) {
            same_id.entry((thread, api.correlation[call])).or_default().push(work);
        } else {
            by_thread[thread as usize].push(work);
        }
    }
    for ((thread, _), calls) in same_id {
        shared_ids(calls, &mut by_thread[thread as usize]);
    }
    by_thread
}

/// `nvtx_gpu_proj_sum`.
pub(super) fn proj_sum(timeline: &Timeline) -> String {
    if timeline.ranges.is_empty() {
        return String::new();
    }
    let mut names = RangeNames::default();
    let mut keys: Vec<(u32, Style)> = Vec::new();
    let mut known: FxHashMap<(u32, Style), u32> = FxHashMap::default();
    let mut rows: Vec<Projected> = Vec::new();
    let threads = timeline.threads.len();
    for (work, ranges) in work_by_thread(timeline).into_iter().zip(segments(&timeline.ranges.thread, threads)) {
        if work.is_empty() || ranges.is_empty() {
            continue;
        }
        let of_thread = enclosing_rows(timeline, ranges);
        rows.append(&mut project_thread(timeline, &of_thread, work, |row| {
            let key = (names.id(timeline, row), Style::of(timeline.ranges.kind[row]));
            *known.entry(key).or_insert_with(|| {
                keys.push(key);
                (keys.len() - 1) as u32
            })
        }));
    }
    let projected = Collector::collect(keys.len(), |out| {
        for row in &rows {
            out.add(row.group, row.duration);
        }
    });
    let mut sums = vec![Sums::default(); keys.len()];
    for row in &rows {
        sums[row.group as usize].add(row);
    }

    let mut order: Vec<usize> = (0..keys.len()).collect();
    order.sort_by(|a, b| {
        let total = |group: usize| projected[group].map_or(0, |summary| summary.total);
        let text = |group: usize| (names.text(keys[group].0), keys[group].1);
        total(*b).cmp(&total(*a)).then_with(|| text(*a).cmp(&text(*b)))
    });
    let mut csv = Csv::new(&[
        "Range",
        "Style",
        "Total Proj Time (ns)",
        "Total Range Time (ns)",
        "Range Instances",
        "Proj Avg (ns)",
        "Proj Med (ns)",
        "Proj Min (ns)",
        "Proj Max (ns)",
        "Proj StdDev (ns)",
        "Total GPU Ops",
        "Avg GPU Ops",
        "Avg Range Lvl",
        "Avg Num Child",
    ]);
    for group in order {
        let (Some(projected), sums) = (projected[group], &sums[group]) else { continue };
        let mean = |sum: i128, count: u64| sum as f64 / count as f64;
        csv.text(names.text(keys[group].0));
        csv.text(keys[group].1.text());
        csv.int(projected.total);
        csv.int(sums.range_duration);
        csv.int(projected.count);
        csv.tenth(projected.mean);
        csv.tenth(projected.median);
        csv.int(projected.min);
        csv.int(projected.max);
        csv.tenth(projected.deviation);
        csv.int(sums.launches);
        csv.tenth(mean(sums.launches, projected.count));
        if sums.with_level > 0 {
            csv.tenth(mean(sums.levels, sums.with_level));
        } else {
            csv.empty();
        }
        csv.tenth(mean(sums.children, projected.count));
        csv.end_row();
    }
    csv.finish()
}
