//! From collected rows to a timeline: begins meet ends, streams their process, kernels their operator, and times their origin.

use std::path::Path;

use rustc_hash::FxHashMap;

use super::collect::{Collector, Half, NO_TIME};
use super::lanes::Id;
use super::owners;
use super::properties::Properties;
use crate::diagnostics::{Diagnostic, Severity};
use crate::trace::import::Import;
use crate::trace::places::{Device, GraphMode, NO_ROW, Source};
use crate::trace::timeline::Timeline;

/// Times this large can only count from 1970: 2001 in nanoseconds. Kineto did so until it wrote `baseTimeNanoseconds`.
const FIRST_EPOCH_NS: i64 = 1_000_000_000_000_000_000;

/// Makes the timeline.
pub(super) fn finish(path: &Path, file: u16, mut collector: Collector, about: Properties) -> Import {
    let mut diagnostics = Vec::new();
    pair_halves(&mut collector, &mut diagnostics);
    owners::drop_process_zero(&mut collector);
    name_lanes(&mut collector);
    let tables = tables(&collector);
    let is_kineto = about.is_kineto || collector.kineto_events > 0;
    place(&mut collector, file, &about);
    operators(&mut collector);
    let Collector { mut timeline, skipped, unsized_copies, .. } = collector;
    diagnostics.extend(skipped.diagnostics());
    let shapes = &mut timeline.ranges.shape;
    if !shapes.is_empty() {
        let none = timeline.strings.intern("");
        shapes.resize(timeline.ranges.start_ns.len(), none);
    }
    let origin = origin(&timeline);
    shift(&mut timeline, origin);
    timeline.finish();
    note_duplicates(&timeline, &mut diagnostics);
    for process in &mut timeline.processes {
        process.file = file;
        process.rank = about.rank;
    }
    let epoch_ns = match about.base_ns {
        Some(base) => base.checked_add(origin),
        None => (origin >= FIRST_EPOCH_NS).then_some(origin),
    };
    timeline.sources.push(Source {
        file: path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
        tool: String::from(if is_kineto { "kineto" } else { "chrome" }),
        version: None,
        schema: about.schema,
        epoch_ns,
        graph_mode: graph_mode(&timeline),
        skipped_api_calls: None,
        tables,
    });
    if about.unclosed {
        let text =
            "the array of events has no closing bracket: the writer may have been stopped, and events may be missing";
        diagnostics.push(Diagnostic::new("trace_not_closed", Severity::Warn, text));
    }
    for key in about.unreadable {
        let text = format!("`{key}` is not what Kineto writes and was left out");
        diagnostics.push(Diagnostic::new("property_not_read", Severity::Warn, text));
    }
    if unsized_copies > 0 {
        let text = "a copy or memory set has no size (`bytes`); its bytes count as 0";
        diagnostics
            .push(Diagnostic { count: unsized_copies, ..Diagnostic::new("copy_without_bytes", Severity::Warn, text) });
    }
    Import { timeline, diagnostics }
}

/// Completes the rows of begin events with the time of the end event that closes them, thread by thread, innermost first.
fn pair_halves(collector: &mut Collector, diagnostics: &mut Vec<Diagnostic>) {
    let timeline = &mut collector.timeline;
    let mut orphans = 0;
    let mut open = 0;
    let mut lanes: Vec<_> = std::mem::take(&mut collector.halves).into_values().collect();
    for halves in &mut lanes {
        // Stable: at one time the order of the file decides.
        halves.sort_by_key(|(at_ns, _)| *at_ns);
        let mut stack: Vec<Half> = Vec::new();
        for (at_ns, half) in halves {
            if *half != Half::End {
                stack.push(*half);
                continue;
            }
            let Some(begun) = stack.pop() else {
                orphans += 1;
                continue;
            };
            let (ends, row) = match begun {
                Half::Kernel(row) => (&mut timeline.kernels.end_ns, row),
                Half::Copy(row) => (&mut timeline.copies.end_ns, row),
                Half::Memset(row) => (&mut timeline.memsets.end_ns, row),
                Half::Graph(row) => (&mut timeline.graphs.end_ns, row),
                Half::Api(row) => (&mut timeline.api.end_ns, row),
                Half::Range(row) => (&mut timeline.ranges.end_ns, row),
                Half::Sync(row) => (&mut timeline.syncs.end_ns, row),
                Half::Overhead(row) => (&mut timeline.overheads.end_ns, row),
                Half::End => continue,
            };
            ends[row as usize] = *at_ns;
        }
        for half in stack {
            if let Half::Range(row) = half {
                timeline.ranges.open.push(row);
            } else {
                open += 1;
            }
        }
    }
    timeline.ranges.open.sort_unstable();
    if orphans > 0 {
        let text = "an end event (`E`) has no begin event (`B`) on its thread";
        diagnostics
            .push(Diagnostic { count: orphans, ..Diagnostic::new("event_end_without_begin", Severity::Warn, text) });
    }
    if open > 0 {
        let text = "device work or an API call has a begin event (`B`) and no end; it counts with no duration";
        diagnostics.push(Diagnostic { count: open, ..Diagnostic::new("event_never_ended", Severity::DataLoss, text) });
    }
}

/// Gives processes and threads the names of the metadata events.
fn name_lanes(collector: &mut Collector) {
    for (process, id) in collector.timeline.processes.iter_mut().zip(&collector.lanes.process_ids) {
        if let Some(name) = collector.process_names.get(id) {
            process.name = Some(*name);
        }
    }
    for (thread, ids) in collector.timeline.threads.iter_mut().zip(&collector.lanes.thread_ids) {
        if let Some(name) = collector.thread_names.get(ids) {
            thread.name = Some(*name);
        }
    }
}

/// Makes streams of tracks and devices of their ordinals.
fn place(collector: &mut Collector, file: u16, about: &Properties) {
    let mut device_of: FxHashMap<(Id, u32), u32> = FxHashMap::default();
    let timeline = &mut collector.timeline;
    for track in &collector.lanes.track_list {
        device_of.entry((track.pid, track.ordinal)).or_insert_with(|| {
            timeline.devices.push(device(track.ordinal, file, about));
            (timeline.devices.len() - 1) as u32
        });
    }
    let mut by_ordinal: FxHashMap<u32, u32> = FxHashMap::default();
    for (row, device) in (0_u32..).zip(&timeline.devices) {
        by_ordinal.entry(device.ordinal).or_insert(row);
    }
    for (row, ordinal) in collector.allocation_devices.iter().enumerate().filter(|(_, ordinal)| **ordinal != NO_ROW) {
        timeline.allocations.device[row] = *by_ordinal.entry(*ordinal).or_insert_with(|| {
            timeline.devices.push(device(*ordinal, file, about));
            (timeline.devices.len() - 1) as u32
        });
    }
    let mut ordinal_of: FxHashMap<Id, u32> = FxHashMap::default();
    for track in &collector.lanes.track_list {
        ordinal_of.entry(track.pid).or_insert(track.ordinal);
    }
    for (gpu, pid) in timeline.metric_samples.gpu.iter_mut().zip(&collector.sample_pids) {
        *gpu = ordinal_of.get(pid).and_then(|ordinal| u16::try_from(*ordinal).ok()).unwrap_or(u16::MAX);
    }
    owners::assign(collector, |track| device_of[&(track.pid, track.ordinal)]);
}

/// A device as the properties of the file describe it.
fn device(ordinal: u32, file: u16, about: &Properties) -> Device {
    let known = about.devices.iter().find(|device| device.ordinal == ordinal).cloned();
    Device { ordinal, file, ..known.unwrap_or_default() }
}

/// Points kernels at the operator their external id names.
fn operators(collector: &mut Collector) {
    let external = std::mem::take(&mut collector.kernel_external);
    if external.is_empty() {
        return;
    }
    let timeline = &mut collector.timeline;
    let process_of_range = |row: u32| timeline.threads[timeline.ranges.thread[row as usize] as usize].process;
    // Sorted by process, id and row: of several ranges with one id the first in the file counts.
    let mut ranges: Vec<(u32, u64, u32)> =
        collector.range_external.iter().map(|(id, row)| (process_of_range(*row), *id, *row)).collect();
    ranges.sort_unstable();
    let mut operators = vec![NO_ROW; timeline.kernels.len()];
    for (kernel, id) in external.iter().enumerate().filter(|(_, id)| **id != 0) {
        let process = timeline.streams[timeline.kernels.stream[kernel] as usize].process;
        let at = ranges.partition_point(|(of, range, _)| (*of, *range) < (process, *id));
        if let Some((of, range, row)) = ranges.get(at)
            && (*of, *range) == (process, *id)
        {
            operators[kernel] = *row;
        }
    }
    timeline.kernels.operator = operators;
}

/// Columns of times, each once.
fn columns(timeline: &mut Timeline) -> [&mut Vec<i64>; 20] {
    let Timeline { kernels, copies, memsets, graphs, syncs, events, api, ranges, marks, overheads, .. } = timeline;
    [
        &mut kernels.start_ns,
        &mut kernels.end_ns,
        &mut copies.start_ns,
        &mut copies.end_ns,
        &mut memsets.start_ns,
        &mut memsets.end_ns,
        &mut graphs.start_ns,
        &mut graphs.end_ns,
        &mut syncs.start_ns,
        &mut syncs.end_ns,
        &mut api.start_ns,
        &mut api.end_ns,
        &mut ranges.start_ns,
        &mut ranges.end_ns,
        &mut marks.time_ns,
        &mut overheads.start_ns,
        &mut overheads.end_ns,
        &mut events.time_ns,
        &mut timeline.allocations.time_ns,
        &mut timeline.metric_samples.time_ns,
    ]
}

/// The earliest begin of anything that was imported; 0 for an empty trace.
fn origin(timeline: &Timeline) -> i64 {
    let starts = [
        &timeline.kernels.start_ns,
        &timeline.copies.start_ns,
        &timeline.memsets.start_ns,
        &timeline.graphs.start_ns,
        &timeline.syncs.start_ns,
        &timeline.api.start_ns,
        &timeline.ranges.start_ns,
        &timeline.marks.time_ns,
        &timeline.overheads.start_ns,
        &timeline.allocations.time_ns,
        &timeline.metric_samples.time_ns,
        &timeline.events.time_ns,
    ];
    starts.into_iter().flatten().copied().filter(|time| *time != NO_TIME).min().unwrap_or(0)
}

fn shift(timeline: &mut Timeline, origin: i64) {
    for column in columns(timeline) {
        for time in column.iter_mut().filter(|time| **time != NO_TIME) {
            *time = time.saturating_sub(origin);
        }
    }
}

/// Tools that join traces can put a file in twice. The rows stay: with times in whole microseconds two kernels may well look alike.
fn note_duplicates(timeline: &Timeline, diagnostics: &mut Vec<Diagnostic>) {
    let kernels = &timeline.kernels;
    let same = |a: usize, b: usize| {
        kernels.start_ns[a] == kernels.start_ns[b]
            && kernels.end_ns[a] == kernels.end_ns[b]
            && kernels.stream[a] == kernels.stream[b]
            && kernels.name[a] == kernels.name[b]
            && kernels.correlation[a] == kernels.correlation[b]
            && kernels.duration_ns(a) > 0
    };
    let count = (1..kernels.len()).filter(|row| same(row - 1, *row)).count() as u64;
    if count > 0 {
        let text =
            "a kernel is there twice with the same name, stream, correlation id, begin and end, and counts twice";
        diagnostics.push(Diagnostic { count, ..Diagnostic::new("duplicate_kernels", Severity::Warn, text) });
    }
}

fn tables(collector: &Collector) -> Vec<String> {
    use crate::trace::host::RangeKind;
    let timeline = &collector.timeline;
    let has = |kind: RangeKind| timeline.ranges.kind.contains(&kind);
    let kinds = [
        ("kernel", !timeline.kernels.is_empty()),
        ("memcpy", !timeline.copies.is_empty()),
        ("memset", !timeline.memsets.is_empty()),
        ("graph_trace", !timeline.graphs.is_empty()),
        ("runtime", !timeline.api.is_empty()),
        ("sync", !timeline.syncs.is_empty()),
        ("cuda_event", !timeline.events.is_empty()),
        ("overhead", !timeline.overheads.is_empty()),
        ("operator", has(RangeKind::Operator)),
        ("python", has(RangeKind::Python)),
        ("annotation", has(RangeKind::Annotation)),
        ("mark", !timeline.marks.is_empty()),
        ("allocation", !timeline.allocations.is_empty()),
        ("counter", !timeline.metric_samples.is_empty()),
    ];
    kinds.into_iter().filter(|(_, there)| *there).map(|(kind, _)| kind.to_owned()).collect()
}

/// Kineto has one record for each node of a graph, so one kernel of a graph launch settles it.
fn graph_mode(timeline: &Timeline) -> GraphMode {
    if !timeline.kernels.graph_node.is_empty() {
        return GraphMode::Node;
    }
    if !timeline.graphs.is_empty() {
        return GraphMode::Graph;
    }
    let launches: Vec<bool> =
        timeline.api.name.iter().map(|name| timeline.text(*name).contains("GraphLaunch")).collect();
    let of_graph = timeline.kernels.call.iter().any(|call| launches.get(*call as usize).is_some_and(|yes| *yes));
    if of_graph { GraphMode::Node } else { GraphMode::Unknown }
}
