//! Activity records and our own ranges as one timeline.
//!
//! Records come in any order, since buffers of several threads fill side by side; the timeline sorts them. A kernel is joined to its call by
//! the correlation id, and a call to our ranges by thread and time: both are on one thread row, and [`ClockMap`] brings them to one clock.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use rustc_hash::FxHashMap;

use super::super::range_names::{DOMAIN, SUBMITTING_THREAD};
use super::super::range_recorder::RecordedRange;
use super::clock::ClockMap;
use super::records::{CallRecord, DeviceRecord, NO_STREAM, Recording};
use crate::diagnostics::{Diagnostic, Diagnostics, Severity};
use crate::trace::activity::{CopyKind, KernelName, KernelRow, LaunchConfig, MemoryKind, SyncKind};
use crate::trace::host::{ApiClass, OverheadOrigin, RangeKind, RangeRow};
use crate::trace::places::{Device, GraphMode, Process, Source, Stream, Thread, ToolMessage};
use crate::trace::strings::StringId;
use crate::trace::timeline::Timeline;

/// How a kernel's name is made readable: from the driver's name to the one with template arguments and parameters, and to the base name.
#[derive(Clone, Copy)]
#[expect(missing_debug_implementations, reason = "callbacks have none")]
pub struct KernelNames<'a> {
    /// With template arguments and parameters.
    pub demangled: &'a dyn Fn(&str) -> String,
    /// The base name of a demangled one.
    pub short: &'a dyn Fn(&str) -> String,
}

/// A timeline of one recording, times in ns since its begin.
#[derive(Debug, Clone)]
pub struct Assembled {
    /// The timeline, finished.
    pub timeline: Timeline,
    /// What was lost or left out.
    pub diagnostics: Vec<Diagnostic>,
    /// How far our ranges may be off against the records, ns; null where they could not be placed.
    pub clock_error_ns: Option<f64>,
}

/// CUPTI's clock and the monotonic one may disagree by this share, and by [`STEP_NS`], before a step is suspected.
const STEP_SHARE: f64 = 1e-3;
/// See [`STEP_SHARE`].
const STEP_NS: f64 = 100_000.0;

/// Makes the timeline.
pub fn assemble(recording: &Recording, ranges: &[RecordedRange], names: KernelNames<'_>) -> Assembled {
    let clock = ClockMap::between(recording.began, recording.ended);
    let mut assembly = Assembly::new(recording, names);
    assembly.devices();
    assembly.kernels();
    assembly.copies_and_sets();
    assembly.graphs();
    assembly.calls();
    assembly.syncs();
    assembly.overheads();
    match clock {
        Some(clock) => assembly.ranges(ranges, clock),
        None => assembly.diagnostics.note(
            "trace_without_ranges",
            Severity::Error,
            "CUPTI's clock stood still or went back while recording: our own ranges could not be placed",
        ),
    }
    assembly.losses();
    let Assembly { mut timeline, diagnostics, .. } = assembly;
    timeline.finish();
    Assembled { timeline, diagnostics: diagnostics.into_vec(), clock_error_ns: clock.map(|clock| clock.error_ns()) }
}

struct Assembly<'a> {
    recording: &'a Recording,
    names: KernelNames<'a>,
    timeline: Timeline,
    diagnostics: Diagnostics,
    /// Row of each device, by CUDA ordinal.
    device_rows: BTreeMap<u32, u32>,
    /// Ordinal of the device of each context.
    context_device: FxHashMap<u32, u32>,
    threads: FxHashMap<u32, u32>,
    /// Records without usable times, by what they are.
    untimed: BTreeMap<&'static str, u64>,
}

impl<'a> Assembly<'a> {
    fn new(recording: &'a Recording, names: KernelNames<'a>) -> Self {
        let mut timeline = Timeline::default();
        let name = timeline.strings.intern("perfprof");
        timeline.processes.push(Process { pid: recording.process, name: Some(name), ..Process::default() });
        timeline.sources.push(Source {
            file: "trace.sqlite".to_owned(),
            tool: "perfprof".to_owned(),
            version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            epoch_ns: recording.epoch_ns,
            graph_mode: if recording.graphs.is_empty() { GraphMode::Node } else { GraphMode::Graph },
            skipped_api_calls: Some(false),
            ..Source::default()
        });
        let mut assembly = Self {
            recording,
            names,
            timeline,
            diagnostics: Diagnostics::default(),
            device_rows: BTreeMap::new(),
            context_device: FxHashMap::default(),
            threads: FxHashMap::default(),
            untimed: BTreeMap::new(),
        };
        let submitting = assembly.thread(recording.thread);
        let name = assembly.timeline.strings.intern(SUBMITTING_THREAD);
        assembly.timeline.threads[submitting as usize].name = Some(name);
        assembly
    }

    fn thread(&mut self, tid: u32) -> u32 {
        let threads = &mut self.timeline.threads;
        *self.threads.entry(tid).or_insert_with(|| {
            threads.push(Thread { process: 0, tid: u64::from(tid), ..Thread::default() });
            (threads.len() - 1) as u32
        })
    }

    /// Begin and end since the begin of the recording; `None`, and counted, if the record has no times or ends before it begins.
    fn times(&mut self, what: &'static str, start: u64, end: u64) -> Option<(i64, i64)> {
        if start == 0 || end < start {
            *self.untimed.entry(what).or_default() += 1;
            return None;
        }
        let ns = |stamp: u64| stamp.wrapping_sub(self.recording.began.cupti_ns).cast_signed();
        Some((ns(start), ns(end)))
    }

    fn stream(&mut self, device: u32, context: u32, stream: u32) -> u32 {
        self.context_device.entry(context).or_insert(device);
        let row = self.device_row(device);
        let stream = if stream == NO_STREAM { u64::MAX } else { u64::from(stream) };
        self.timeline.stream(Stream { process: 0, device: row, ordinal: device, context, stream })
    }

    /// The device's row; a device that only its work tells of has a row without a name.
    fn device_row(&mut self, ordinal: u32) -> u32 {
        let devices = &mut self.timeline.devices;
        *self.device_rows.entry(ordinal).or_insert_with(|| {
            devices.push(Device { ordinal, ..Device::default() });
            (devices.len() - 1) as u32
        })
    }

    /// Devices that did work; CUPTI lists every GPU of the machine.
    fn devices(&mut self) {
        let recording = self.recording;
        let used: BTreeSet<u32> = recording
            .kernels
            .iter()
            .map(|record| record.device)
            .chain(recording.copies.iter().map(|record| record.device))
            .chain(recording.memsets.iter().map(|record| record.device))
            .chain(recording.graphs.iter().map(|record| record.device))
            .collect();
        for ordinal in used {
            let row = self.device_row(ordinal) as usize;
            if let Some(record) = recording.devices.iter().find(|record| record.id == ordinal) {
                self.timeline.devices[row] = device(record);
            }
        }
    }

    fn kernels(&mut self) {
        let recording = self.recording;
        let names: Vec<u32> = recording.kernel_names.iter().map(|name| self.kernel_name(name)).collect();
        let nameless = names.is_empty().then(|| self.kernel_name(""));
        for record in &recording.kernels {
            let Some((start_ns, end_ns)) = self.times("kernels", record.start, record.end) else { continue };
            let stream = self.stream(record.device, record.context, record.stream);
            let config = self.timeline.launch_config(LaunchConfig {
                grid: record.grid,
                block: record.block,
                registers: Some(u32::from(record.registers)),
                static_shared_bytes: Some(record.static_shared_bytes),
                dynamic_shared_bytes: Some(record.dynamic_shared_bytes),
                local_bytes_per_thread: Some(record.local_bytes_per_thread),
                cluster: (record.cluster != [0; 3]).then_some(record.cluster),
            });
            let name = names.get(record.name as usize).copied().or(nameless).unwrap_or(0);
            let (correlation, graph_node) = (record.correlation, record.graph_node);
            self.timeline.push_kernel(KernelRow { start_ns, end_ns, name, stream, correlation, config, graph_node });
        }
    }

    fn kernel_name(&mut self, name: &str) -> u32 {
        let name = if name.is_empty() { "(kernel without a name)" } else { name };
        let demangled = (self.names.demangled)(name);
        let short = (self.names.short)(&demangled);
        let strings = &mut self.timeline.strings;
        let mangled = (demangled != name).then(|| strings.intern(name));
        let demangled = strings.intern(&demangled);
        let short = if short.is_empty() { demangled } else { strings.intern(&short) };
        self.timeline.kernel_name(KernelName { demangled, short, mangled })
    }

    fn copies_and_sets(&mut self) {
        let recording = self.recording;
        // Columns of graph nodes stay empty where no row has one.
        let has_nodes = recording.copies.iter().any(|record| record.graph_node != 0);
        for record in &recording.copies {
            let Some((start_ns, end_ns)) = self.times("copies", record.start, record.end) else { continue };
            let stream = self.stream(record.device, record.context, record.stream);
            let copies = &mut self.timeline.copies;
            copies.start_ns.push(start_ns);
            copies.end_ns.push(end_ns);
            copies.stream.push(stream);
            copies.correlation.push(record.correlation);
            copies.bytes.push(record.bytes);
            copies.kind.push(CopyKind(record.kind));
            copies.source.push(MemoryKind(record.source));
            copies.destination.push(MemoryKind(record.destination));
            if has_nodes {
                copies.graph_node.push(record.graph_node);
            }
        }
        let has_nodes = recording.memsets.iter().any(|record| record.graph_node != 0);
        for record in &recording.memsets {
            let Some((start_ns, end_ns)) = self.times("memory sets", record.start, record.end) else { continue };
            let stream = self.stream(record.device, record.context, record.stream);
            let memsets = &mut self.timeline.memsets;
            memsets.start_ns.push(start_ns);
            memsets.end_ns.push(end_ns);
            memsets.stream.push(stream);
            memsets.correlation.push(record.correlation);
            memsets.bytes.push(record.bytes);
            memsets.value.push(record.value);
            memsets.memory.push(MemoryKind(record.memory));
            if has_nodes {
                memsets.graph_node.push(record.graph_node);
            }
        }
    }

    fn graphs(&mut self) {
        for record in &self.recording.graphs {
            let Some((start_ns, end_ns)) = self.times("graph launches", record.start, record.end) else { continue };
            let stream = self.stream(record.device, record.context, record.stream);
            let graphs = &mut self.timeline.graphs;
            graphs.start_ns.push(start_ns);
            graphs.end_ns.push(end_ns);
            graphs.stream.push(stream);
            graphs.correlation.push(record.correlation);
            graphs.graph.push(record.graph);
            graphs.executable.push(0);
        }
    }

    /// Calls of the program. The runtime's calls of the driver carry the id of the call they are part of and are no calls of their own.
    fn calls(&mut self) {
        let recording = self.recording;
        let mut runtime: FxHashMap<(u32, u32), Vec<(u64, u64)>> = FxHashMap::default();
        for record in recording.calls.iter().filter(|record| record.class == ApiClass::RUNTIME) {
            runtime.entry((record.thread, record.correlation)).or_default().push((record.start, record.end));
        }
        let is_inner = |record: &CallRecord| {
            record.class == ApiClass::DRIVER
                && runtime
                    .get(&(record.thread, record.correlation))
                    .is_some_and(|outer| outer.iter().any(|(start, end)| *start <= record.start && record.end <= *end))
        };
        let mut names: FxHashMap<(ApiClass, u32), StringId> = FxHashMap::default();
        for record in &recording.calls {
            if is_inner(record) {
                continue;
            }
            let Some((start_ns, end_ns)) = self.times("calls", record.start, record.end) else { continue };
            let thread = self.thread(record.thread);
            let key = (record.class, record.function);
            let strings = &mut self.timeline.strings;
            let name = *names.entry(key).or_insert_with(|| {
                let name: Cow<'_, str> = match recording.call_names.get(&key) {
                    Some(name) => name.as_str().into(),
                    None if record.class == ApiClass::RUNTIME => format!("runtime call {}", record.function).into(),
                    None => format!("driver call {}", record.function).into(),
                };
                strings.intern(&name)
            });
            let api = &mut self.timeline.api;
            api.start_ns.push(start_ns);
            api.end_ns.push(end_ns);
            api.thread.push(thread);
            api.name.push(name);
            api.correlation.push(record.correlation);
            api.class.push(record.class);
            api.result.push(record.result.cast_signed());
        }
    }

    fn syncs(&mut self) {
        let only_device = (self.device_rows.len() == 1).then(|| self.device_rows.keys().next().copied()).flatten();
        let mut homeless = 0_u64;
        for record in &self.recording.syncs {
            let Some(device) = self.context_device.get(&record.context).copied().or(only_device) else {
                homeless += 1;
                continue;
            };
            let Some((start_ns, end_ns)) = self.times("synchronisations", record.start, record.end) else { continue };
            let stream = self.stream(device, record.context, record.stream);
            let syncs = &mut self.timeline.syncs;
            syncs.start_ns.push(start_ns);
            syncs.end_ns.push(end_ns);
            syncs.stream.push(stream);
            syncs.correlation.push(record.correlation);
            syncs.kind.push(SyncKind(record.kind));
            syncs.event.push(if record.event == NO_STREAM { 0 } else { record.event });
        }
        if homeless > 0 {
            self.diagnostics.note(
                "trace_syncs_left_out",
                Severity::Info,
                format!("{homeless} synchronisations of contexts without device work were left out"),
            );
        }
    }

    fn overheads(&mut self) {
        for record in &self.recording.overheads {
            let Some((start_ns, end_ns)) = self.times("overheads", record.start, record.end) else { continue };
            let thread = record.thread.map_or(crate::trace::places::NO_ROW, |thread| self.thread(thread));
            let name = self.timeline.strings.intern(overhead_name(record.kind));
            let overheads = &mut self.timeline.overheads;
            overheads.start_ns.push(start_ns);
            overheads.end_ns.push(end_ns);
            overheads.thread.push(thread);
            overheads.name.push(name);
            overheads.origin.push(OverheadOrigin::Cupti);
        }
    }

    fn ranges(&mut self, ranges: &[RecordedRange], clock: ClockMap) {
        let thread = self.thread(self.recording.thread);
        let domain = self.timeline.strings.intern(DOMAIN);
        for range in ranges {
            let name = self.timeline.strings.intern(&range.name.text());
            self.timeline.ranges.push(RangeRow {
                start_ns: clock.ns_of_ticks(range.start),
                end_ns: (range.end >= range.start).then(|| clock.ns_of_ticks(range.end)),
                thread,
                kind: RangeKind::PushPop,
                name,
                domain,
            });
        }
        let elapsed = self.recording.elapsed_ns.map(|ns| ns as f64);
        let by_cupti = clock.ns_of_stamp(self.recording.ended.cupti_ns) as f64;
        if let Some(elapsed) = elapsed
            && (by_cupti - elapsed).abs() > STEP_NS.max(elapsed * STEP_SHARE)
        {
            self.diagnostics.note(
                "trace_clock_stepped",
                Severity::Warn,
                format!(
                    "CUPTI's clock went {:.3} ms while {:.3} ms passed: it was set anew meanwhile, and our ranges may stand beside the work they hold",
                    by_cupti * 1e-6,
                    elapsed * 1e-6
                ),
            );
        }
    }

    /// What is missing, as diagnostics of the run and as messages in the file, where an analysis of it finds them.
    fn losses(&mut self) {
        let recording = self.recording;
        let dropped = recording.dropped_records();
        if dropped > 0 {
            let queues: Vec<String> = recording
                .dropped
                .iter()
                .filter(|queue| queue.records > 0)
                .map(|queue| match (queue.context, queue.stream) {
                    (0, _) => format!("{} of the process", queue.records),
                    (context, stream) => format!("{} of stream {stream} of context {context:#x}", queue.records),
                })
                .collect();
            let text = format!("{dropped} activity records were dropped by CUPTI: {}", queues.join(", "));
            self.lose("trace_records_dropped", text);
        }
        for (what, count) in std::mem::take(&mut self.untimed) {
            let text = format!("{count} {what} came without usable times and were left out");
            self.lose("trace_records_without_time", text);
        }
        let unknown: u64 = recording.unknown_kinds.values().sum();
        if unknown > 0 {
            let kinds: Vec<String> = recording.unknown_kinds.keys().map(u32::to_string).collect();
            self.diagnostics.note(
                "trace_unknown_records",
                Severity::Info,
                format!("{unknown} activity records of kinds this version does not read ({})", kinds.join(", ")),
            );
        }
    }

    fn lose(&mut self, code: &str, text: String) {
        const WARNING: u8 = 2;
        self.timeline.messages.push(ToolMessage { time_ns: None, severity: WARNING, text: text.clone(), process: 0 });
        self.diagnostics.note(code, Severity::Warn, text);
    }
}

fn device(record: &DeviceRecord) -> Device {
    let known = |value: u32| (value > 0).then_some(value);
    Device {
        ordinal: record.id,
        name: record.name.clone(),
        identity: record.uuid.clone(),
        sm_count: known(record.sm_count),
        clock_hz: known(record.clock_khz).map(|khz| f64::from(khz) * 1e3),
        bandwidth_bytes_per_s: (record.bandwidth_kbytes_per_s > 0)
            .then_some(record.bandwidth_kbytes_per_s as f64 * 1e3),
        memory_bytes: (record.memory_bytes > 0).then_some(record.memory_bytes),
        l2_bytes: known(record.l2_bytes).map(u64::from),
        compute_capability: (record.compute_capability != (0, 0)).then_some(record.compute_capability),
        max_warps_per_sm: known(record.max_warps_per_sm),
        ..Device::default()
    }
}

/// `CUpti_ActivityOverheadKind` in the words exports of nsys have, by which analyses tell the profiler's own time from the loading of code.
pub fn overhead_name(kind: u32) -> &'static str {
    match kind {
        1 => "Driver Compiler",
        0x1_0000 => "CUPTI Buffer flush",
        0x2_0000 => "CUPTI Instrumentation",
        0x3_0000 => "CUPTI Resource",
        0x4_0000 => "Runtime Triggered Module Loading",
        0x5_0000 => "Lazy Function Loading",
        0x6_0000 => "Command Buffer Full",
        0x7_0000 => "Activity Buffer Request",
        0x8_0000 => "UVM Activity Init",
        _ => "CUPTI overhead of an unknown kind",
    }
}

#[cfg(test)]
#[path = "assemble_tests.rs"]
mod tests;
