//! Turns events into rows, in the order of the file. Times are absolute until `finish`.

use rustc_hash::FxHashMap;

use super::category::{Category, copy_kind, memory_kinds, sync_kind};
use super::document::NOT_AN_OBJECT;
use super::event::{Args, Event, plain};
use super::lanes::{Id, Lanes, Track};
use super::scan::{Cursor, Text, Value, microseconds_as_ns, unescape};
use super::skipped::{Reason, Skipped};
use crate::trace::activity::{KernelName, KernelRow, LaunchConfig, push_sparse};
use crate::trace::host::{OverheadOrigin, RangeKind, RangeRow};
use crate::trace::places::NO_ROW;
use crate::trace::strings::StringId;
use crate::trace::timeline::Timeline;

/// Stands for a time the device did not give.
pub(super) const NO_TIME: i64 = i64::MIN;

/// Rows that a begin event (`B`) has made and an end event (`E`) will complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Half {
    End,
    Kernel(u32),
    Copy(u32),
    Memset(u32),
    Graph(u32),
    Api(u32),
    Range(u32),
    Sync(u32),
    Overhead(u32),
}

/// What was read so far.
#[derive(Debug, Default)]
pub(super) struct Collector {
    pub(super) timeline: Timeline,
    pub(super) lanes: Lanes,
    pub(super) skipped: Skipped,
    /// External id of a kernel, 0 for none; as sparse as `graph_node`.
    pub(super) kernel_external: Vec<u64>,
    /// External ids of operators and annotations, with their row.
    pub(super) range_external: Vec<(u64, u32)>,
    /// Begins and ends by (pid, tid): time, row.
    pub(super) halves: FxHashMap<(Id, Id), Vec<(i64, Half)>>,
    /// Names of processes and threads from metadata events.
    pub(super) process_names: FxHashMap<Id, StringId>,
    pub(super) thread_names: FxHashMap<(Id, Id), StringId>,
    /// Ordinal of the device of each allocation.
    pub(super) allocation_devices: Vec<u32>,
    /// `pid` of each counter sample.
    pub(super) sample_pids: Vec<Id>,
    /// Flow events between host and device.
    pub(super) flows: u64,
    /// GPU rows without a correlation id.
    pub(super) uncorrelated: u64,
    /// Copies without a size.
    pub(super) unsized_copies: u64,
    /// Events with a category only Kineto has.
    pub(super) kineto_events: u64,
    scratch: String,
}

/// Begin and end of an event.
#[derive(Debug, Clone, Copy)]
struct Span {
    start_ns: i64,
    /// `None` for a begin event, and for a complete one without duration.
    end_ns: Option<i64>,
    /// It is a begin event.
    begin: bool,
}

impl Span {
    fn end_or_start(self) -> i64 {
        self.end_ns.unwrap_or(self.start_ns)
    }
}

impl Collector {
    /// Takes the event that begins at byte `offset`.
    pub(super) fn event(&mut self, event: &Event<'_>, offset: u64) {
        match event.phase {
            b'X' | b'B' => self.span(event, offset),
            b'E' => self.end(event, offset),
            b'i' | b'I' | b'R' => self.instant(event, offset),
            b'M' => self.metadata(event),
            b'C' => self.counter(event, offset),
            b's' | b't' | b'f' => {
                self.flows += u64::from(event.kind == Category::Flow);
            }
            NOT_AN_OBJECT => self.skipped.note(Reason::NotAnObject, event, offset),
            _ => self.skipped.note(Reason::Phase, event, offset),
        }
    }

    fn intern(&mut self, text: Option<Text<'_>>) -> StringId {
        match text {
            Some(text) => self.timeline.strings.intern(unescape(text, &mut self.scratch)),
            None => self.timeline.strings.intern(""),
        }
    }
    fn thread(&mut self, event: &Event<'_>) -> u32 {
        let pid = Id::read(event.pid, &mut self.timeline.strings);
        let tid = Id::read(event.tid, &mut self.timeline.strings);
        self.lanes.thread(pid, tid, &mut self.timeline.processes, &mut self.timeline.threads)
    }
    fn track(&mut self, event: &Event<'_>) -> u32 {
        let strings = &mut self.timeline.strings;
        let pid = Id::read(event.pid, strings);
        let device = event.args.device.and_then(Value::number::<u32>);
        let ordinal = device.or_else(|| u32::try_from(pid.ordinal(strings)?).ok()).unwrap_or(0);
        let context = event.args.context.and_then(Value::number).unwrap_or(0);
        let stream = match event.args.stream.and_then(Value::number::<i64>) {
            Some(stream) => stream,
            None => Id::read(event.tid, strings).ordinal(strings).unwrap_or(0),
        };
        // CUPTI's "no stream" is all ones in 32 bits, and Kineto writes it as -1.
        let stream = if stream == -1 || stream == i64::from(u32::MAX) { u64::MAX } else { stream as u64 };
        self.lanes.track(Track { pid, ordinal, context, stream })
    }

    fn span(&mut self, event: &Event<'_>, offset: u64) {
        let category = event.kind;
        if matches!(category, Category::DeviceAnnotation | Category::Profiler) {
            let reason = if category == Category::Profiler { Reason::OfTheProfiler } else { Reason::DeviceAnnotation };
            self.skipped.note(reason, event, offset);
            return;
        }
        let Some(start_ns) = time(event.ts) else {
            self.skipped.note(Reason::NoTime, event, offset);
            return;
        };
        let begin = event.phase == b'B';
        let is_range = matches!(category, Category::Range(_) | Category::Other);
        let end_ns = match event.dur {
            _ if begin => None,
            Some(dur) => {
                let Some(duration) = time(Some(dur)) else {
                    self.skipped.note(Reason::NoDuration, event, offset);
                    return;
                };
                if duration < 0 {
                    self.skipped.note(Reason::NegativeDuration, event, offset);
                    return;
                }
                let Some(end) = start_ns.checked_add(duration) else {
                    self.skipped.note(Reason::NoTime, event, offset);
                    return;
                };
                Some(end)
            }
            None if is_range || category == Category::CudaEvent => None,
            None => {
                self.skipped.note(Reason::NoDuration, event, offset);
                return;
            }
        };
        let span = Span { start_ns, end_ns, begin };
        self.kineto_events += u64::from(category != Category::Other);
        let half = match category {
            Category::Kernel => self.kernel(event, span),
            Category::Copy => self.copy(event, span),
            Category::Memset => self.memset(event, span),
            Category::Graph => self.graph(event, span),
            Category::Sync => self.sync(event, span),
            Category::CudaEvent => return self.cuda_event(event, start_ns),
            Category::Api(class) => {
                let row = self.timeline.api.len() as u32;
                let thread = self.thread(event);
                let name = self.intern(event.name);
                let api = &mut self.timeline.api;
                api.start_ns.push(start_ns);
                api.end_ns.push(span.end_or_start());
                api.thread.push(thread);
                api.name.push(name);
                api.correlation.push(event.args.correlation.and_then(Value::number).unwrap_or(0));
                api.class.push(class);
                api.result.push(0);
                Half::Api(row)
            }
            Category::Overhead => self.overhead(event, span),
            Category::Range(kind) => self.range(event, kind, span),
            _ => self.range(event, RangeKind::Annotation, span),
        };
        if begin {
            self.half(event, start_ns, half);
        }
    }

    fn half(&mut self, event: &Event<'_>, at_ns: i64, half: Half) {
        let pid = Id::read(event.pid, &mut self.timeline.strings);
        let tid = Id::read(event.tid, &mut self.timeline.strings);
        self.halves.entry((pid, tid)).or_default().push((at_ns, half));
    }
    fn end(&mut self, event: &Event<'_>, offset: u64) {
        match time(event.ts) {
            Some(at_ns) => self.half(event, at_ns, Half::End),
            None => self.skipped.note(Reason::NoTime, event, offset),
        }
    }

    fn correlation(&mut self, args: &Args<'_>) -> u32 {
        let correlation = args.correlation.and_then(Value::number::<u32>).unwrap_or(0);
        self.uncorrelated += u64::from(correlation == 0);
        correlation
    }

    fn kernel(&mut self, event: &Event<'_>, span: Span) -> Half {
        let row = self.timeline.kernels.len();
        let text = self.intern(event.name);
        let name = self.timeline.kernel_name(KernelName { demangled: text, short: text, mangled: None });
        let args = &event.args;
        let config = self.timeline.launch_config(LaunchConfig {
            grid: args.grid.and_then(triple).unwrap_or_default(),
            block: args.block.and_then(triple).unwrap_or_default(),
            registers: args.registers.and_then(Value::number),
            static_shared_bytes: None,
            // The format has the sum of static and dynamic only; it stands where a reader of either finds the whole.
            dynamic_shared_bytes: args.shared.and_then(Value::number),
            ..LaunchConfig::default()
        });
        let external = args.external.and_then(Value::number).unwrap_or(0);
        push_sparse(&mut self.kernel_external, row, external);
        let stream = self.track(event);
        let correlation = self.correlation(args);
        let graph_node = args.graph_node.and_then(Value::number).unwrap_or(0);
        let (start_ns, end_ns) = (span.start_ns, span.end_or_start());
        self.timeline.push_kernel(KernelRow { start_ns, end_ns, name, stream, correlation, config, graph_node });
        Half::Kernel(row as u32)
    }

    fn copy(&mut self, event: &Event<'_>, span: Span) -> Half {
        let row = self.timeline.copies.len();
        let args = &event.args;
        let mut scratch = String::new();
        let name = event.name.map_or(&b""[..], |name| plain(name, &mut scratch));
        let mut scratch = String::new();
        let kind = copy_kind(name).or_else(|| copy_kind(plain(args.kind?.text()?, &mut scratch))).unwrap_or_default();
        let (source, destination) = memory_kinds(name);
        let bytes = args.bytes.and_then(Value::number);
        self.unsized_copies += u64::from(bytes.is_none());
        let stream = self.track(event);
        let correlation = self.correlation(args);
        let copies = &mut self.timeline.copies;
        push_sparse(&mut copies.graph_node, row, args.graph_node.and_then(Value::number).unwrap_or(0));
        copies.start_ns.push(span.start_ns);
        copies.end_ns.push(span.end_or_start());
        copies.stream.push(stream);
        copies.correlation.push(correlation);
        copies.bytes.push(bytes.unwrap_or(0));
        copies.kind.push(kind);
        copies.source.push(source);
        copies.destination.push(destination);
        Half::Copy(row as u32)
    }

    fn memset(&mut self, event: &Event<'_>, span: Span) -> Half {
        let row = self.timeline.memsets.len();
        let args = &event.args;
        let bytes = args.bytes.and_then(Value::number);
        self.unsized_copies += u64::from(bytes.is_none());
        let stream = self.track(event);
        let correlation = self.correlation(args);
        let memsets = &mut self.timeline.memsets;
        push_sparse(&mut memsets.graph_node, row, args.graph_node.and_then(Value::number).unwrap_or(0));
        memsets.start_ns.push(span.start_ns);
        memsets.end_ns.push(span.end_or_start());
        memsets.stream.push(stream);
        memsets.correlation.push(correlation);
        memsets.bytes.push(bytes.unwrap_or(0));
        memsets.value.push(0);
        let mut scratch = String::new();
        memsets.memory.push(memory_kinds(event.name.map_or(&b""[..], |name| plain(name, &mut scratch))).1);
        Half::Memset(row as u32)
    }

    fn graph(&mut self, event: &Event<'_>, span: Span) -> Half {
        let row = self.timeline.graphs.len() as u32;
        let stream = self.track(event);
        let correlation = self.correlation(&event.args);
        let graphs = &mut self.timeline.graphs;
        graphs.start_ns.push(span.start_ns);
        graphs.end_ns.push(span.end_or_start());
        graphs.stream.push(stream);
        graphs.correlation.push(correlation);
        graphs.graph.push(event.args.graph.and_then(Value::number).unwrap_or(0));
        graphs.executable.push(event.args.graph_exec.and_then(Value::number).unwrap_or(0));
        Half::Graph(row)
    }

    fn sync(&mut self, event: &Event<'_>, span: Span) -> Half {
        let row = self.timeline.syncs.len() as u32;
        let stream = self.track(event);
        let args = &event.args;
        let mut scratch = String::new();
        let kind = args.sync_kind.and_then(Value::text).or(event.name);
        let kind = kind.map_or(&b""[..], |text| plain(text, &mut scratch));
        let syncs = &mut self.timeline.syncs;
        syncs.start_ns.push(span.start_ns);
        syncs.end_ns.push(span.end_or_start());
        syncs.stream.push(stream);
        syncs.correlation.push(args.correlation.and_then(Value::number).unwrap_or(0));
        syncs.kind.push(sync_kind(kind));
        syncs.event.push(args.sync_event.and_then(Value::number).unwrap_or(0));
        Half::Sync(row)
    }

    fn cuda_event(&mut self, event: &Event<'_>, start_ns: i64) {
        let stream = self.track(event);
        let events = &mut self.timeline.events;
        // Before CUDA 12.8 Kineto has no time of the device and writes 0.
        events.time_ns.push(if start_ns > 0 { start_ns } else { NO_TIME });
        events.stream.push(stream);
        events.correlation.push(event.args.correlation.and_then(Value::number).unwrap_or(0));
        events.event.push(event.args.sync_event.and_then(Value::number).unwrap_or(0));
    }

    fn overhead(&mut self, event: &Event<'_>, span: Span) -> Half {
        let row = self.timeline.overheads.len() as u32;
        // Kineto writes -1 where CUPTI names no process.
        let placed = event.pid.and_then(Value::number::<i64>).is_some_and(|pid| pid >= 0);
        let thread = if placed { self.thread(event) } else { NO_ROW };
        let name = self.intern(event.name);
        let overheads = &mut self.timeline.overheads;
        overheads.start_ns.push(span.start_ns);
        overheads.end_ns.push(span.end_or_start());
        overheads.thread.push(thread);
        overheads.name.push(name);
        overheads.origin.push(OverheadOrigin::Cupti);
        Half::Overhead(row)
    }

    fn range(&mut self, event: &Event<'_>, kind: RangeKind, span: Span) -> Half {
        let thread = self.thread(event);
        let name = self.intern(event.name);
        let known = matches!(event.kind, Category::Range(_));
        let domain = self.intern(event.category.filter(|_| !known));
        // Whether a begin is ever ended shows at the end of the file.
        let end_ns = if span.begin { Some(span.start_ns) } else { span.end_ns };
        let ranges = &mut self.timeline.ranges;
        let row = ranges.push(RangeRow { start_ns: span.start_ns, end_ns, thread, kind, name, domain });
        if let Some(external) = event.args.external.and_then(Value::number::<u64>).filter(|id| *id != 0) {
            self.range_external.push((external, row));
        }
        if let Some(Value::Nested(shapes)) = event.args.shapes {
            normalise(shapes, &mut self.scratch);
            let shape = self.timeline.strings.intern(&self.scratch);
            if self.timeline.ranges.shape.len() < row as usize {
                let none = self.timeline.strings.intern("");
                self.timeline.ranges.shape.resize(row as usize, none);
            }
            self.timeline.ranges.shape.push(shape);
        }
        Half::Range(row)
    }

    fn instant(&mut self, event: &Event<'_>, offset: u64) {
        let mut scratch = String::new();
        let is_memory = event.name.is_some_and(|name| plain(name, &mut scratch) == b"[memory]");
        // The profiler marks the begin and end of its window for all processes.
        if event.scope == b'g' || (event.pid.is_none() && !is_memory) {
            self.skipped.note(Reason::OfTheProfiler, event, offset);
            return;
        }
        let Some(time_ns) = time(event.ts) else {
            self.skipped.note(Reason::NoTime, event, offset);
            return;
        };
        if !is_memory {
            let thread = self.thread(event);
            let name = self.intern(event.name);
            let known = event.kind == Category::Instant;
            let domain = self.intern(event.category.filter(|_| !known));
            let marks = &mut self.timeline.marks;
            marks.time_ns.push(time_ns);
            marks.thread.push(thread);
            marks.name.push(name);
            marks.domain.push(domain);
            return;
        }
        let args = &event.args;
        let Some(bytes) = args.alloc_bytes.and_then(Value::number::<i64>) else {
            self.skipped.note(Reason::NoBytes, event, offset);
            return;
        };
        // c10::DeviceType::CPU is 0.
        if args.device_type.and_then(Value::number::<i64>).is_none_or(|kind| kind == 0) {
            self.skipped.note(Reason::HostMemory, event, offset);
            return;
        }
        let device = args.device_id.and_then(Value::number).unwrap_or(NO_ROW);
        self.allocation_devices.push(device);
        let allocations = &mut self.timeline.allocations;
        allocations.time_ns.push(time_ns);
        allocations.device.push(NO_ROW);
        allocations.bytes.push(bytes);
        allocations.total_bytes.push(args.alloc_total.and_then(Value::number).unwrap_or(-1));
    }

    fn metadata(&mut self, event: &Event<'_>) {
        let Some(Value::String(text)) = event.args.name else { return };
        let mut scratch = String::new();
        let is_thread = match event.name.map(|name| plain(name, &mut scratch)) {
            Some(b"process_name") => false,
            Some(b"thread_name") => true,
            _ => return,
        };
        let name = self.intern(Some(text));
        let pid = Id::read(event.pid, &mut self.timeline.strings);
        if is_thread {
            let tid = Id::read(event.tid, &mut self.timeline.strings);
            self.thread_names.insert((pid, tid), name);
        } else {
            self.process_names.insert(pid, name);
        }
    }

    fn counter(&mut self, event: &Event<'_>, offset: u64) {
        let (Some(time_ns), Some(raw)) = (time(event.ts), event.args.raw) else {
            let reason = if event.args.raw.is_some() { Reason::NoTime } else { Reason::NoBytes };
            self.skipped.note(reason, event, offset);
            return;
        };
        let pid = Id::read(event.pid, &mut self.timeline.strings);
        let mut cursor = Cursor::new(raw);
        let mut name = String::new();
        let mut key = String::new();
        let mut more = cursor.open(b'{', b'}', "").unwrap_or(false);
        while more {
            // The text was scanned once, so nothing can be wrong with it.
            let (Ok(series), Ok(())) = (cursor.string(""), cursor.expect(b':', "")) else { return };
            let Ok(value) = cursor.value() else { return };
            more = cursor.another(b'}').unwrap_or(false);
            let Some(value) = real(value) else { continue };
            name.clear();
            name.push_str(event.name.map_or("", |name| unescape(name, &mut key)));
            let series = unescape(series, &mut key);
            if series != "value" {
                name.push('.');
                name.push_str(series);
            }
            let metric = self.timeline.strings.intern(&name);
            let samples = &mut self.timeline.metric_samples;
            samples.time_ns.push(time_ns);
            samples.gpu.push(u16::MAX);
            samples.metric.push(metric);
            samples.value.push(value);
            self.sample_pids.push(pid);
        }
    }
}

/// A time in microseconds, as ns; numbers in quotes too.
fn time(value: Option<Value<'_>>) -> Option<i64> {
    match value? {
        Value::Number(raw) | Value::String(Text { raw, escaped: false }) => microseconds_as_ns(raw),
        _ => None,
    }
}

fn real(value: Value<'_>) -> Option<f64> {
    match value {
        Value::Number(raw) | Value::String(Text { raw, escaped: false }) => {
            std::str::from_utf8(raw).ok()?.parse().ok().filter(|value: &f64| value.is_finite())
        }
        _ => None,
    }
}

/// Three whole numbers in square brackets.
fn triple(value: Value<'_>) -> Option<[u32; 3]> {
    let Value::Nested(raw) = value else { return None };
    let inner = raw.strip_prefix(b"[")?.strip_suffix(b"]")?;
    let mut parts = inner.split(|byte| *byte == b',');
    let mut next = || {
        let part = parts.next()?.trim_ascii();
        let quoted = part.strip_prefix(b"\"").and_then(|part| part.strip_suffix(b"\""));
        Value::Number(quoted.unwrap_or(part)).number()
    };
    Some([next()?, next()?, next()?])
}

/// Nested arrays with one space after each comma and no other white space, whoever wrote them.
fn normalise(raw: &[u8], into: &mut String) {
    into.clear();
    let mut in_string = false;
    let mut escaped = false;
    for piece in String::from_utf8_lossy(raw).chars() {
        if in_string {
            into.push(piece);
            in_string = escaped || piece != '"';
            escaped = !escaped && piece == '\\';
            continue;
        }
        match piece {
            ' ' | '\n' | '\r' | '\t' => {}
            ',' => into.push_str(", "),
            ':' => into.push_str(": "),
            '"' => {
                in_string = true;
                into.push('"');
            }
            other => into.push(other),
        }
    }
}
