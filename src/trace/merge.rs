//! Joins the traces of several files, one per rank or process, into one timeline.
//!
//! Processes, threads and streams stay apart even where their ids are equal: an id says nothing beyond its file. A GPU is one row where both
//! files name it by UUID. Clocks are aligned by the instant of time zero ([`Source::epoch_ns`](super::places::Source::epoch_ns)), which is as
//! good as the clocks of the hosts are.

use super::activity::{CudaEvents, Kernels};
use super::host::Ranges;
use super::import::Import;
use super::places::{Device, NO_ROW, Stream};
use super::strings::StringId;
use super::timeline::{NONE, Timeline};
use crate::diagnostics::{Diagnostics, Severity};

/// Merges `parts` in the order given: strings are interned anew, row numbers moved, files numbered by position, and all tables sorted and
/// joined again. Time zero is the earliest epoch of all files; a file without one begins there too, and a diagnostic says that its clock
/// could not be aligned.
pub fn merge(parts: Vec<Import>) -> Import {
    let mut diagnostics = Diagnostics::default();
    let several = parts.len() > 1;
    let epoch = parts.iter().filter_map(|part| epoch_of(&part.timeline)).min();
    let mut merged: Option<Timeline> = None;
    let mut spans: Vec<(String, i64, i64)> = Vec::new();
    let mut sampled = false;
    for part in parts {
        diagnostics.extend(part.diagnostics);
        let mut timeline = part.timeline;
        if several {
            let file = timeline.sources.first().map_or_else(String::new, |source| source.file.clone());
            match (epoch_of(&timeline), epoch) {
                (Some(own), Some(first)) => {
                    shift(&mut timeline, own.saturating_sub(first));
                    for source in &mut timeline.sources {
                        source.epoch_ns = Some(first);
                    }
                    spans.extend(timeline.device_span_ns().map(|(begin, end)| (file.clone(), begin, end)));
                }
                _ => diagnostics.note(
                    "clocks_not_aligned",
                    Severity::Warn,
                    format!("`{file}` does not say when it was recorded; its time zero was put at that of the others"),
                ),
            }
            if sampled && !timeline.metric_samples.is_empty() {
                diagnostics.note(
                    "gpu_metrics_of_several_files",
                    Severity::Warn,
                    format!("`{file}` and a file before it have GPU metrics, and GPUs of one number are not told apart in them"),
                );
            }
            sampled |= !timeline.metric_samples.is_empty();
        }
        let all = merged.get_or_insert_default();
        if all.sources.is_empty() && all.processes.is_empty() && all.op_count() == 0 && all.spans.is_empty() {
            *all = if several { number_files(timeline) } else { timeline };
        } else {
            append(all, timeline);
        }
    }
    note_files_apart(&spans, &mut diagnostics);
    let mut timeline = merged.unwrap_or_default();
    if several {
        timeline.finish();
    }
    Import { timeline, diagnostics: diagnostics.into_vec() }
}

/// The instant of time zero, if all sources of the timeline agree that there is one.
fn epoch_of(timeline: &Timeline) -> Option<i64> {
    let mut epochs = timeline.sources.iter().map(|source| source.epoch_ns);
    let first = epochs.next()??;
    epochs.all(|epoch| epoch == Some(first)).then_some(first)
}

/// Ranks of one run overlap in time; files that do not are more likely of different runs.
fn note_files_apart(spans: &[(String, i64, i64)], diagnostics: &mut Diagnostics) {
    let Some(((first, begin, end), rest)) = spans.split_first() else { return };
    for (file, other_begin, other_end) in rest {
        if other_begin > end || other_end < begin {
            diagnostics.note(
                "files_do_not_overlap",
                Severity::Warn,
                format!("the device work of `{file}` and of `{first}` does not overlap in time: they may be of different runs"),
            );
        }
    }
}

/// Moves every time of a timeline by `by_ns`.
fn shift(timeline: &mut Timeline, by_ns: i64) {
    if by_ns == 0 {
        return;
    }
    let Timeline { kernels, copies, memsets, graphs, syncs, api, ranges, marks, os_calls, overheads, .. } = timeline;
    let columns = [
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
        &mut os_calls.start_ns,
        &mut os_calls.end_ns,
        &mut overheads.start_ns,
        &mut overheads.end_ns,
        &mut timeline.graph_nodes.start_ns,
        &mut timeline.graph_nodes.end_ns,
        &mut timeline.graph_events.start_ns,
        &mut timeline.graph_events.end_ns,
        &mut timeline.allocations.time_ns,
        &mut timeline.metric_samples.time_ns,
    ];
    for time in columns.into_iter().flatten() {
        *time = time.saturating_add(by_ns);
    }
    // `i64::MIN` is no time but the lack of one.
    for time in timeline.events.time_ns.iter_mut().filter(|time| **time != i64::MIN) {
        *time = time.saturating_add(by_ns);
    }
    for time in timeline.messages.iter_mut().filter_map(|message| message.time_ns.as_mut()) {
        *time = time.saturating_add(by_ns);
    }
}

/// Numbers the files of the first part from 0.
fn number_files(mut timeline: Timeline) -> Timeline {
    let last = timeline.sources.len().saturating_sub(1) as u16;
    for file in timeline.processes.iter_mut().map(|process| &mut process.file) {
        *file = (*file).min(last);
    }
    for file in timeline.devices.iter_mut().map(|device| &mut device.file) {
        *file = (*file).min(last);
    }
    timeline
}

/// Where the rows of a part go.
struct Moved {
    strings: Vec<StringId>,
    process: u32,
    thread: u32,
    devices: Vec<u32>,
    streams: Vec<u32>,
    kernel_names: Vec<u32>,
    launch_configs: Vec<u32>,
}

impl Moved {
    fn text(&self, id: StringId) -> StringId {
        self.strings[id.0 as usize]
    }
    fn thread(&self, row: u32) -> u32 {
        if row == NO_ROW { NO_ROW } else { row + self.thread }
    }
    fn device(&self, row: u32) -> u32 {
        self.devices.get(row as usize).copied().unwrap_or(NO_ROW)
    }
}

fn append(all: &mut Timeline, part: Timeline) {
    let strings: Vec<StringId> =
        (0..part.strings.len()).map(|id| all.strings.intern(part.strings.get(StringId(id as u32)))).collect();
    let file = all.sources.len() as u16;
    let last_file = part.sources.len().saturating_sub(1) as u16;
    let mut moved = Moved {
        strings,
        process: all.processes.len() as u32,
        thread: all.threads.len() as u32,
        devices: Vec::new(),
        streams: Vec::new(),
        kernel_names: Vec::new(),
        launch_configs: Vec::new(),
    };
    all.sources.extend(part.sources);
    for mut process in part.processes {
        // The reader of a file may have been told its position already; within a part of one file it does not matter.
        process.file = file + process.file.min(last_file);
        process.name = process.name.map(|name| moved.text(name));
        all.processes.push(process);
    }
    for mut thread in part.threads {
        thread.process += moved.process;
        thread.name = thread.name.map(|name| moved.text(name));
        all.threads.push(thread);
    }
    for mut device in part.devices {
        device.file = file + device.file.min(last_file);
        let known = all.devices.iter().position(|known| same_gpu(known, &device));
        moved.devices.push(known.unwrap_or(all.devices.len()) as u32);
        if known.is_none() {
            all.devices.push(device);
        }
    }
    for stream in part.streams {
        let process = stream.process + moved.process;
        let row = all.stream(Stream { process, device: moved.device(stream.device), ..stream });
        moved.streams.push(row);
    }
    for mut name in part.kernel_names {
        name.demangled = moved.text(name.demangled);
        name.short = moved.text(name.short);
        name.mangled = name.mangled.map(|mangled| moved.text(mangled));
        let row = all.kernel_name(name);
        moved.kernel_names.push(row);
    }
    for config in part.launch_configs {
        let row = all.launch_config(config);
        moved.launch_configs.push(row);
    }
    for mut message in part.messages {
        message.process = if message.process == NO_ROW { NO_ROW } else { message.process + moved.process };
        all.messages.push(message);
    }
    for (kind, label) in part.copy_labels {
        if all.copy_labels.iter().all(|(known, _)| *known != kind) {
            all.copy_labels.push((kind, label));
        }
    }
    if all.device.is_empty() {
        all.device = part.device;
    }

    let ranges_before = all.ranges.len();
    let no_shape = all.strings.intern("");
    append_ranges(&mut all.ranges, part.ranges, &moved, no_shape);
    append_kernels(&mut all.kernels, part.kernels, &moved, ranges_before as u32);

    let (copies, from) = (&mut all.copies, part.copies);
    append_sparse(&mut copies.graph_node, from.graph_node, copies.start_ns.len(), from.start_ns.len(), 0);
    copies.start_ns.extend(from.start_ns);
    copies.end_ns.extend(from.end_ns);
    copies.stream.extend(from.stream.iter().map(|row| moved.streams[*row as usize]));
    copies.correlation.extend(from.correlation);
    copies.bytes.extend(from.bytes);
    copies.kind.extend(from.kind);
    copies.source.extend(from.source);
    copies.destination.extend(from.destination);

    let (memsets, from) = (&mut all.memsets, part.memsets);
    append_sparse(&mut memsets.graph_node, from.graph_node, memsets.start_ns.len(), from.start_ns.len(), 0);
    memsets.start_ns.extend(from.start_ns);
    memsets.end_ns.extend(from.end_ns);
    memsets.stream.extend(from.stream.iter().map(|row| moved.streams[*row as usize]));
    memsets.correlation.extend(from.correlation);
    memsets.bytes.extend(from.bytes);
    memsets.value.extend(from.value);
    memsets.memory.extend(from.memory);

    let (graphs, from) = (&mut all.graphs, part.graphs);
    graphs.start_ns.extend(from.start_ns);
    graphs.end_ns.extend(from.end_ns);
    graphs.stream.extend(from.stream.iter().map(|row| moved.streams[*row as usize]));
    graphs.correlation.extend(from.correlation);
    graphs.graph.extend(from.graph);
    graphs.executable.extend(from.executable);

    let (syncs, from) = (&mut all.syncs, part.syncs);
    syncs.start_ns.extend(from.start_ns);
    syncs.end_ns.extend(from.end_ns);
    syncs.stream.extend(from.stream.iter().map(|row| moved.streams[*row as usize]));
    syncs.correlation.extend(from.correlation);
    syncs.kind.extend(from.kind);
    syncs.event.extend(from.event);

    let CudaEvents { time_ns, stream, correlation, event } = part.events;
    all.events.time_ns.extend(time_ns);
    all.events.stream.extend(stream.iter().map(|row| moved.streams[*row as usize]));
    all.events.correlation.extend(correlation);
    all.events.event.extend(event);

    let (api, from) = (&mut all.api, part.api);
    api.start_ns.extend(from.start_ns);
    api.end_ns.extend(from.end_ns);
    api.thread.extend(from.thread.iter().map(|row| moved.thread(*row)));
    api.name.extend(from.name.iter().map(|name| moved.text(*name)));
    api.correlation.extend(from.correlation);
    api.class.extend(from.class);
    api.result.extend(from.result);

    let (marks, from) = (&mut all.marks, part.marks);
    marks.time_ns.extend(from.time_ns);
    marks.thread.extend(from.thread.iter().map(|row| moved.thread(*row)));
    marks.name.extend(from.name.iter().map(|name| moved.text(*name)));
    marks.domain.extend(from.domain.iter().map(|name| moved.text(*name)));

    let (os_calls, from) = (&mut all.os_calls, part.os_calls);
    os_calls.start_ns.extend(from.start_ns);
    os_calls.end_ns.extend(from.end_ns);
    os_calls.thread.extend(from.thread.iter().map(|row| moved.thread(*row)));
    os_calls.name.extend(from.name.iter().map(|name| moved.text(*name)));
    os_calls.class.extend(from.class);

    let (overheads, from) = (&mut all.overheads, part.overheads);
    overheads.start_ns.extend(from.start_ns);
    overheads.end_ns.extend(from.end_ns);
    overheads.thread.extend(from.thread.iter().map(|row| moved.thread(*row)));
    overheads.name.extend(from.name.iter().map(|name| moved.text(*name)));
    overheads.origin.extend(from.origin);

    let (nodes, from) = (&mut all.graph_nodes, part.graph_nodes);
    nodes.start_ns.extend(from.start_ns);
    nodes.end_ns.extend(from.end_ns);
    nodes.thread.extend(from.thread.iter().map(|row| moved.thread(*row)));
    nodes.name.extend(from.name.iter().map(|name| moved.text(*name)));
    nodes.node.extend(from.node);
    nodes.original.extend(from.original);

    let (graphs, from) = (&mut all.graph_events, part.graph_events);
    graphs.start_ns.extend(from.start_ns);
    graphs.end_ns.extend(from.end_ns);
    graphs.thread.extend(from.thread.iter().map(|row| moved.thread(*row)));
    graphs.name.extend(from.name.iter().map(|name| moved.text(*name)));
    graphs.graph.extend(from.graph);
    graphs.original.extend(from.original);
    graphs.executable.extend(from.executable);

    let (allocations, from) = (&mut all.allocations, part.allocations);
    allocations.time_ns.extend(from.time_ns);
    allocations.device.extend(from.device.iter().map(|row| moved.device(*row)));
    allocations.bytes.extend(from.bytes);
    allocations.total_bytes.extend(from.total_bytes);

    let (samples, from) = (&mut all.metric_samples, part.metric_samples);
    samples.time_ns.extend(from.time_ns);
    samples.gpu.extend(from.gpu);
    samples.metric.extend(from.metric.iter().map(|name| moved.text(*name)));
    samples.value.extend(from.value);

    let spans_before = all.spans.len() as u32;
    let (spans, from) = (&mut all.spans, part.spans);
    spans.start_ns.extend(from.start_ns);
    spans.end_ns.extend(from.end_ns);
    spans.kind.extend(from.kind);
    spans.name.extend(from.name.iter().map(|name| moved.text(*name)));
    spans.parent.extend(from.parent.iter().map(|row| if *row == NONE { NONE } else { row + spans_before }));
    spans.repeat.extend(from.repeat);
    spans.phase.extend(from.phase.iter().map(|name| moved.text(*name)));
    spans.step.extend(from.step);
    spans.layer.extend(from.layer);
    spans.class.extend(from.class);
    spans.shape.extend(from.shape.iter().map(|name| moved.text(*name)));
    spans.cost.extend(from.cost);
    spans.model_compute.extend(from.model_compute);
}

fn append_kernels(kernels: &mut Kernels, from: Kernels, moved: &Moved, ranges_before: u32) {
    let (before, added) = (kernels.len(), from.len());
    append_sparse(&mut kernels.graph_node, from.graph_node, before, added, 0);
    let operator = from.operator.iter().map(|row| if *row == NO_ROW { NO_ROW } else { row + ranges_before }).collect();
    append_sparse(&mut kernels.operator, operator, before, added, NO_ROW);
    kernels.start_ns.extend(from.start_ns);
    kernels.end_ns.extend(from.end_ns);
    kernels.name.extend(from.name.iter().map(|row| moved.kernel_names[*row as usize]));
    kernels.stream.extend(from.stream.iter().map(|row| moved.streams[*row as usize]));
    kernels.correlation.extend(from.correlation);
    kernels.config.extend(from.config.iter().map(|row| moved.launch_configs[*row as usize]));
}

fn append_ranges(ranges: &mut Ranges, from: Ranges, moved: &Moved, no_shape: StringId) {
    let (before, added) = (ranges.len(), from.len());
    let end_thread = from.end_thread.iter().map(|row| moved.thread(*row)).collect();
    append_sparse(&mut ranges.end_thread, end_thread, before, added, NO_ROW);
    let shape: Vec<StringId> = from.shape.iter().map(|name| moved.text(*name)).collect();
    append_sparse(&mut ranges.shape, shape, before, added, no_shape);
    ranges.start_ns.extend(from.start_ns);
    ranges.end_ns.extend(from.end_ns);
    ranges.thread.extend(from.thread.iter().map(|row| moved.thread(*row)));
    ranges.kind.extend(from.kind);
    ranges.name.extend(from.name.iter().map(|name| moved.text(*name)));
    ranges.domain.extend(from.domain.iter().map(|name| moved.text(*name)));
    ranges.open.extend(from.open.iter().map(|row| row + before as u32));
}

/// Appends a column that is empty where no row has a value.
fn append_sparse<T: Copy>(column: &mut Vec<T>, from: Vec<T>, before: usize, added: usize, none: T) {
    if column.is_empty() && from.is_empty() {
        return;
    }
    column.resize(before, none);
    column.extend(from);
    column.resize(before + added, none);
}

/// Two rows are one GPU only where both have the same UUID: a PCI address or an ordinal is another GPU on another host.
fn same_gpu(one: &Device, other: &Device) -> bool {
    let is_uuid = |text: &str| text.chars().filter(char::is_ascii_hexdigit).count() >= 32;
    one.identity.as_deref().is_some_and(is_uuid) && one.identity == other.identity
}
