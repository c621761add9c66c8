//! Counts behind the verdict: launches against kernels, by process.

use rustc_hash::FxHashMap;

use super::{ClockSkew, LaunchCoverage, Oddities, OverheadTotal, RangeCoverage, ToolNote};
use crate::analysis::api_kind::{ApiKind, Calls, base_name};
use crate::analysis::coverage::{is_framework_range, is_library_range};
use crate::analysis::intervals::{Interval, length_ns, share, total_ns, unite};
use crate::trace::activity::{OpKind, OpRef};
use crate::trace::host::RangeKind;
use crate::trace::places::NO_ROW;
use crate::trace::timeline::Timeline;

/// One bit for each API call.
struct Bits(Vec<u64>);

impl Bits {
    fn new(len: usize) -> Self {
        Self(vec![0; len.div_ceil(64)])
    }
    fn set(&mut self, at: usize) {
        self.0[at / 64] |= 1 << (at % 64);
    }
    fn get(&self, at: usize) -> bool {
        self.0[at / 64] >> (at % 64) & 1 == 1
    }
}

/// Everything counted, before it is judged.
pub(super) struct Counted {
    pub(super) total: LaunchCoverage,
    /// Kernel launches that should have put a kernel on a device.
    pub(super) expected: u64,
    /// By row of `processes`.
    pub(super) processes: Vec<ProcessCounts>,
    pub(super) graphs: GraphCounts,
    pub(super) clock: ClockSkew,
    pub(super) ranges: RangeCoverage,
    pub(super) oddities: Oddities,
    pub(super) notes: Vec<ToolNote>,
    pub(super) overhead: Vec<OverheadTotal>,
    pub(super) overhead_union_ns: Option<u64>,
    /// Sum of the durations of kernels and whole graphs.
    pub(super) compute_sum_ns: u64,
}

#[derive(Default, Clone)]
pub(super) struct ProcessCounts {
    pub(super) launches: LaunchCoverage,
    pub(super) api_calls: u64,
    pub(super) ops: u64,
    /// Launches that should have put a kernel on the device.
    expected: u64,
}

/// Graphs in numbers.
#[derive(Default, Clone)]
pub(super) struct GraphCounts {
    pub(super) launch_calls: u64,
    pub(super) whole_records: u64,
    pub(super) node_kernels: u64,
    pub(super) node_copies_and_sets: u64,
    pub(super) ops_by_call: u64,
    pub(super) kernels_by_call: u64,
    pub(super) calls_without_work: u64,
    pub(super) hidden_sum_ns: u64,
    pub(super) capture_calls: u64,
    pub(super) launches_in_capture: u64,
}

impl Counted {
    pub(super) fn of(timeline: &Timeline) -> Self {
        let calls = Calls::new(timeline);
        let mut counted = Self {
            total: LaunchCoverage::default(),
            expected: 0,
            processes: vec![ProcessCounts::default(); timeline.processes.len()],
            graphs: GraphCounts::default(),
            clock: ClockSkew::default(),
            ranges: ranges(timeline),
            oddities: Oddities::default(),
            notes: notes(timeline),
            overhead: Vec::new(),
            overhead_union_ns: None,
            compute_sum_ns: 0,
        };
        let has_work = counted.device_work(timeline, &calls);
        counted.launch_calls(timeline, &calls, &has_work);
        counted.order_on_streams(timeline);
        counted.overhead(timeline);
        counted
    }

    /// Counts device operations; returns which calls have one.
    fn device_work(&mut self, timeline: &Timeline, calls: &Calls) -> Bits {
        let mut has_work = Bits::new(timeline.api.len());
        let streams = &timeline.streams;
        let kernels = &timeline.kernels;
        for row in 0..kernels.len() {
            let process = &mut self.processes[streams[kernels.stream[row] as usize].process as usize];
            let ns = length_ns(kernels.start_ns[row], kernels.end_ns[row]);
            self.compute_sum_ns = self.compute_sum_ns.saturating_add(ns);
            self.oddities.zero_length_kernels += u64::from(ns == 0);
            process.ops += 1;
            process.launches.kernels += 1;
            let node = kernels.node(row).is_some();
            self.graphs.node_kernels += u64::from(node);
            let call = kernels.call[row];
            if call == NO_ROW {
                process.launches.unlinked_kernels += 1;
                continue;
            }
            let call = call as usize;
            has_work.set(call);
            process.launches.linked_kernels += 1;
            let by_graph = calls.kind(call) == ApiKind::LaunchGraph;
            self.graphs.ops_by_call += u64::from(by_graph && !node);
            self.graphs.kernels_by_call += u64::from(by_graph);
            let early = length_ns(kernels.start_ns[row], timeline.api.start_ns[call]);
            self.clock.kernels += 1;
            if early > 0 {
                self.clock.before_call += 1;
                self.clock.worst_ns = Some(self.clock.worst_ns.map_or(early, |worst| worst.max(early)));
            }
        }
        self.clock.share = share(self.clock.before_call, self.clock.kernels);
        for (kind, column, nodes) in [
            (OpKind::Copy, &timeline.copies.call, &timeline.copies.graph_node),
            (OpKind::Memset, &timeline.memsets.call, &timeline.memsets.graph_node),
        ] {
            for (row, call) in column.iter().enumerate() {
                let stream = timeline.op_stream(OpRef::new(kind, row));
                let process = &mut self.processes[streams[stream].process as usize];
                process.ops += 1;
                process.launches.copies_and_sets += 1;
                let node = nodes.get(row).is_some_and(|node| *node != 0);
                self.graphs.node_copies_and_sets += u64::from(node);
                if *call == NO_ROW {
                    process.launches.unlinked_copies_and_sets += 1;
                } else {
                    has_work.set(*call as usize);
                    let by_graph = calls.kind(*call as usize) == ApiKind::LaunchGraph;
                    self.graphs.ops_by_call += u64::from(by_graph && !node);
                }
            }
        }
        let graphs = &timeline.graphs;
        for (row, call) in graphs.call.iter().enumerate() {
            self.processes[streams[graphs.stream[row] as usize].process as usize].ops += 1;
            let ns = length_ns(graphs.start_ns[row], graphs.end_ns[row]);
            self.graphs.whole_records += 1;
            self.graphs.hidden_sum_ns = self.graphs.hidden_sum_ns.saturating_add(ns);
            self.compute_sum_ns = self.compute_sum_ns.saturating_add(ns);
            if *call != NO_ROW {
                has_work.set(*call as usize);
            }
        }
        has_work
    }

    fn launch_calls(&mut self, timeline: &Timeline, calls: &Calls, has_work: &Bits) {
        let api = &timeline.api;
        let captured = captured(timeline, &mut self.graphs);
        let first_op = timeline.device_span_ns().map(|(first, _)| first);
        let mut first_launch: Option<i64> = None;
        for row in 0..api.len() {
            if !api.class[row].is_call() {
                continue;
            }
            let kind = calls.kind(row);
            let process = &mut self.processes[timeline.threads[api.thread[row] as usize].process as usize];
            process.api_calls += 1;
            if !kind.is_launch() {
                continue;
            }
            let failed = api.result[row] != 0;
            if kind == ApiKind::LaunchGraph {
                process.launches.graph_launch_calls += 1;
                self.graphs.launch_calls += 1;
                self.graphs.calls_without_work += u64::from(!failed && !has_work.get(row));
                continue;
            }
            process.launches.kernel_launch_calls += 1;
            process.launches.failed_launches += u64::from(failed);
            if failed {
                continue;
            }
            if captured.get(row) && !has_work.get(row) {
                self.graphs.launches_in_capture += 1;
                continue;
            }
            process.expected += 1;
            first_launch = Some(first_launch.map_or(api.start_ns[row], |first| first.min(api.start_ns[row])));
            if !has_work.get(row) {
                process.launches.launches_without_kernel += 1;
                self.oddities.launches_before_first_op +=
                    u64::from(first_op.is_some_and(|first| api.start_ns[row] < first));
            }
        }
        self.oddities.first_op_after_first_launch_ns =
            first_op.zip(first_launch).map(|(op, launch)| op.saturating_sub(launch));
        for process in &mut self.processes {
            let total = &mut self.total;
            let part = &mut process.launches;
            part.unlinked_share = share(part.unlinked_kernels, part.kernels);
            part.kernel_coverage = share(process.expected - part.launches_without_kernel, process.expected);
            self.expected += process.expected;
            total.kernel_launch_calls += part.kernel_launch_calls;
            total.graph_launch_calls += part.graph_launch_calls;
            total.kernels += part.kernels;
            total.linked_kernels += part.linked_kernels;
            total.unlinked_kernels += part.unlinked_kernels;
            total.launches_without_kernel += part.launches_without_kernel;
            total.failed_launches += part.failed_launches;
            total.copies_and_sets += part.copies_and_sets;
            total.unlinked_copies_and_sets += part.unlinked_copies_and_sets;
        }
        self.total.unlinked_share = share(self.total.unlinked_kernels, self.total.kernels);
        self.total.kernel_coverage = share(self.expected - self.total.launches_without_kernel, self.expected);
    }

    fn order_on_streams(&mut self, timeline: &Timeline) {
        let mut last_end: Vec<Option<i64>> = vec![None; timeline.streams.len()];
        for op in timeline.ops_by_start() {
            let last = &mut last_end[timeline.op_stream(op)];
            let (start, end) = (timeline.op_start_ns(op), timeline.op_end_ns(op));
            self.oddities.overlapping_on_stream += u64::from(last.is_some_and(|last| start < last));
            *last = Some(last.map_or(end, |last| last.max(end)));
        }
    }

    fn overhead(&mut self, timeline: &Timeline) {
        let overheads = &timeline.overheads;
        if overheads.is_empty() {
            return;
        }
        let mut totals: FxHashMap<u32, (u64, u64)> = FxHashMap::default();
        let mut intervals = Vec::with_capacity(overheads.len());
        for row in 0..overheads.len() {
            let interval = Interval::new(overheads.start_ns[row], overheads.end_ns[row]);
            let (count, sum) = totals.entry(overheads.name[row].0).or_default();
            *count += 1;
            *sum = sum.saturating_add(interval.len_ns());
            intervals.push(interval);
        }
        unite(&mut intervals);
        self.overhead_union_ns = Some(total_ns(&intervals));
        self.overhead = totals
            .into_iter()
            .map(|(name, (count, sum_ns))| {
                let name = timeline.text(crate::trace::strings::StringId(name)).to_owned();
                OverheadTotal { name, count, sum_ns }
            })
            .collect();
        self.overhead.sort_by(|a, b| b.sum_ns.cmp(&a.sum_ns).then_with(|| a.name.cmp(&b.name)));
    }
}

/// Launch calls that were recorded into a graph instead of run: those between begin and end of a stream capture on their thread, and those inside which
/// a graph node was created.
fn captured(timeline: &Timeline, graphs: &mut GraphCounts) -> Bits {
    let api = &timeline.api;
    let mut captured = Bits::new(api.len());
    let mut known: FxHashMap<u32, u8> = FxHashMap::default();
    let (mut thread, mut depth) = (NO_ROW, 0_u32);
    for row in 0..api.len() {
        if api.thread[row] != thread {
            (thread, depth) = (api.thread[row], 0);
        }
        let name = api.name[row];
        let edge = *known.entry(name.0).or_insert_with(|| {
            let base = base_name(timeline.text(name));
            u8::from(base.ends_with("StreamBeginCapture") || base.ends_with("StreamBeginCaptureToGraph"))
                + 2 * u8::from(base.ends_with("StreamEndCapture"))
        });
        match edge {
            1 if api.result[row] == 0 && api.class[row].is_call() => {
                depth += 1;
                graphs.capture_calls += 1;
            }
            2 if api.class[row].is_call() => {
                depth = depth.saturating_sub(1);
                graphs.capture_calls += 1;
            }
            _ if depth > 0 => captured.set(row),
            _ => {}
        }
    }
    let nodes = &timeline.graph_nodes;
    for row in 0..nodes.len() {
        let key = (nodes.thread[row], nodes.start_ns[row]);
        let after = partition(api.len(), |call| (api.thread[call], api.start_ns[call]) <= key);
        // The innermost call around the node: a launch of the runtime may contain a call of the driver.
        let found =
            (0..after).rev().take(4).find(|call| api.thread[*call] == key.0 && api.end_ns[*call] >= nodes.end_ns[row]);
        if let Some(call) = found {
            captured.set(call);
        }
    }
    captured
}

/// How many of `0..len` satisfy `before`, which holds for a beginning of them.
fn partition(len: usize, before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, len);
    while low < high {
        let middle = low + (high - low) / 2;
        if before(middle) { low = middle + 1 } else { high = middle }
    }
    low
}

fn ranges(timeline: &Timeline) -> RangeCoverage {
    let ranges = &timeline.ranges;
    let mut counts = RangeCoverage { open: ranges.open.len() as u64, ..RangeCoverage::default() };
    counts.cross_thread = ranges.end_thread.iter().filter(|thread| **thread != NO_ROW).count() as u64;
    // 0 user, 1 library, 2 framework, by (domain, name).
    let mut known: FxHashMap<(u32, u32), u8> = FxHashMap::default();
    for row in 0..ranges.len() {
        match ranges.kind[row] {
            RangeKind::Operator => counts.operators += 1,
            RangeKind::Python => counts.python += 1,
            RangeKind::Annotation => counts.user += 1,
            kind => {
                debug_assert!(kind.is_nvtx(), "every other kind is of NVTX");
                counts.nvtx += 1;
                let (domain, name) = (ranges.domain[row], ranges.name[row]);
                let whose = *known.entry((domain.0, name.0)).or_insert_with(|| {
                    let (domain, name) = (timeline.text(domain), timeline.text(name));
                    let label = if domain.is_empty() { name.to_owned() } else { format!("{domain}:{name}") };
                    if is_library_range(&label) { 1 } else { 2 * u8::from(is_framework_range(name)) }
                });
                match whose {
                    0 => counts.user += 1,
                    1 => counts.library += 1,
                    _ => counts.operators += 1,
                }
            }
        }
    }
    counts.only_library = counts.nvtx > 0 && counts.library == counts.nvtx;
    counts
}

/// The messages of the tool, the gravest first, then the most frequent.
fn notes(timeline: &Timeline) -> Vec<ToolNote> {
    let mut counts: FxHashMap<(u8, &str), u64> = FxHashMap::default();
    for message in &timeline.messages {
        *counts.entry((message.severity, message.text.as_str())).or_default() += 1;
    }
    let mut notes: Vec<ToolNote> = counts
        .into_iter()
        .map(|((severity, text), count)| ToolNote { severity, text: text.to_owned(), count })
        .collect();
    notes.sort_by(|a, b| b.severity.cmp(&a.severity).then(b.count.cmp(&a.count)).then_with(|| a.text.cmp(&b.text)));
    notes
}
