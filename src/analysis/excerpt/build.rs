//! Cuts a stretch out of a timeline.

use rustc_hash::FxHashMap;

use super::{Lane, LaneKind, MAX_BARS, MAX_NAME_CHARS, NO_LINK, TimelineView};
use crate::analysis::classify::Classified;
use crate::analysis::idle::SHORT_GAP_NS;
use crate::analysis::kernel_names::shorten;
use crate::trace::activity::{OpKind, OpRef};
use crate::trace::host::RangeKind;
use crate::trace::timeline::Timeline;

/// Threads and streams drawn at most.
const MAX_LANES: usize = 48;
/// Nesting drawn at most; deeper bars lie on the deepest row.
const DEEPEST: usize = 11;

/// A named stretch of time: a step, a phase, a gap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Begin, ns on the clock of the trace.
    pub start_ns: i64,
    /// End, ns.
    pub end_ns: i64,
    /// Text on the bar.
    pub name: String,
    /// Class that colours it.
    pub class: String,
}

/// Gaps of one device, in order of begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GapLane {
    /// Row of `Timeline::devices`.
    pub device: u32,
    /// The gaps; the class is the cause.
    pub gaps: Vec<Span>,
}

/// What [`timeline_view`] draws beside the timeline itself.
#[derive(Debug, Clone, Copy)]
pub struct ExcerptOptions<'a> {
    /// Begin of the stretch asked for, ns.
    pub start_ns: i64,
    /// End of it, ns.
    pub end_ns: i64,
    /// Why this stretch, in words.
    pub chosen: &'a str,
    /// One for each row of `Timeline::kernel_names`; missing ones count as unclassified.
    pub classified: &'a [Classified],
    /// Phases or steps; empty for none.
    pub phases: &'a [Span],
    /// Gaps whose cause is known, by device. Others of at least 1 µs between two operations are drawn too, as `idle`.
    pub gaps: &'a [GapLane],
    /// Bars at most; 0 stands for [`MAX_BARS`].
    pub max_bars: usize,
}

/// One bar on its way into a lane.
#[derive(Debug, Clone, Copy)]
struct Bar {
    start_ns: i64,
    end_ns: i64,
    name: u32,
    class: u16,
    depth: u8,
    /// Row of `Timeline::api`: of itself for a call, of the launching call for device work; `u32::MAX` for none.
    call: u32,
}

/// Texts by number.
#[derive(Debug, Default)]
struct Texts {
    known: FxHashMap<(u8, u32), u32>,
    by_text: FxHashMap<String, u32>,
    classes: FxHashMap<String, u16>,
}

impl Texts {
    fn name(&mut self, view: &mut TimelineView, full: &str, label: impl FnOnce() -> String) -> u32 {
        let full: String = full.chars().take(MAX_NAME_CHARS).collect();
        *self.by_text.entry(full).or_insert_with_key(|full| {
            view.names.push(full.clone());
            view.labels.push(label());
            (view.names.len() - 1) as u32
        })
    }
    /// The name of a row of some table, looked up by text only once.
    fn known(&mut self, view: &mut TimelineView, key: (u8, u32), full: &str, label: impl FnOnce() -> String) -> u32 {
        if let Some(name) = self.known.get(&key) {
            return *name;
        }
        let name = self.name(view, full, label);
        self.known.insert(key, name);
        name
    }
    fn class(&mut self, view: &mut TimelineView, class: &str) -> u16 {
        if let Some(known) = self.classes.get(class) {
            return *known;
        }
        // Classes come from fixed vocabularies; a caller with more of its own gets the last one for the rest.
        let row = view.classes.len().min(usize::from(u16::MAX)) as u16;
        view.classes.push(class.to_owned());
        self.classes.insert(class.to_owned(), row);
        row
    }
}

/// The stretch `[options.start_ns, options.end_ns]` of `timeline` as lanes: phases, then each device with its gaps and streams, then the
/// host threads that called the API or had ranges in it.
///
/// Bars that reach into the stretch are there with their whole length. If more than `max_bars` would be, the stretch ends earlier, so
/// that what is shown is whole and no bar is missing from it; `left_out` says so. Python functions are left out, and threads and streams
/// beyond 48 lanes.
pub fn timeline_view(timeline: &Timeline, options: &ExcerptOptions<'_>) -> TimelineView {
    let (from, to) = (options.start_ns, options.end_ns.max(options.start_ns));
    let origin = timeline.device_span_ns().map_or(from, |(first, _)| first);
    let first_call = timeline.api.start_ns.iter().min().copied();
    let mut view = TimelineView {
        start_ns: from,
        end_ns: to,
        origin_ns: first_call.map_or(origin, |first| first.min(origin)),
        chosen: options.chosen.to_owned(),
        ..TimelineView::default()
    };
    let mut texts = Texts::default();
    let mut lanes: Vec<(Lane, Vec<Bar>)> = Vec::new();
    if !options.phases.is_empty() {
        let bars = spans(&mut view, &mut texts, options.phases, from, to);
        lanes.push((Lane::new("phases", LaneKind::Phases), bars));
    }
    let mut streams = stream_bars(timeline, options, &mut view, &mut texts, from, to);
    for device in 0..timeline.devices.len() as u32 {
        let of_device = |stream: u32| timeline.streams.get(stream as usize).is_some_and(|row| row.device == device);
        let work = streams.iter().filter(|(stream, _)| of_device(*stream)).flat_map(|(_, bars)| bars);
        let between = gaps_between(work.map(|bar| (bar.start_ns, bar.end_ns)).collect());
        let listed: Vec<&Span> =
            options.gaps.iter().filter(|lane| lane.device == device).flat_map(|lane| &lane.gaps).collect();
        let gaps = named_gaps(&between, &listed);
        let bars = spans(&mut view, &mut texts, &gaps, from, to);
        lanes.push((Lane::new(format!("{} idle", device_label(timeline, device)), LaneKind::Gaps), bars));
        for (stream, bars) in &mut streams {
            let row = timeline.streams.get(*stream as usize);
            if row.is_some_and(|row| row.device == device) {
                let number = row.map_or(0, |row| row.stream);
                let label = format!("{} stream {number}", device_label(timeline, device));
                lanes.push((Lane::new(label, LaneKind::Stream), std::mem::take(bars)));
            }
        }
    }
    lanes.extend(thread_bars(timeline, &mut view, &mut texts, from, to));
    lanes.retain(|(_, bars)| !bars.is_empty());
    if lanes.len() > MAX_LANES {
        view.left_out.push(format!("{} of {} lanes are not drawn.", lanes.len() - MAX_LANES, lanes.len()));
        lanes.truncate(MAX_LANES);
    }
    shorten_stretch(&mut view, &mut lanes, if options.max_bars == 0 { MAX_BARS } else { options.max_bars });
    link(&mut lanes);
    view.lanes = lanes.into_iter().map(|(lane, _)| lane).collect();
    view
}

/// Gaps of at least [`SHORT_GAP_NS`] between operations, by begin.
fn gaps_between(mut work: Vec<(i64, i64)>) -> Vec<(i64, i64)> {
    work.sort_unstable();
    let mut gaps = Vec::new();
    let mut busy_until: Option<i64> = None;
    for (start, end) in work {
        if let Some(until) = busy_until
            && start.saturating_sub(until) >= SHORT_GAP_NS as i64
        {
            gaps.push((until, start));
        }
        busy_until = Some(busy_until.map_or(end, |until| until.max(end)));
    }
    gaps
}

/// The gaps found, each with the name and cause of the listed one that begins where it does; listed ones that were not found, such as those
/// that reach out of the stretch, are there too.
fn named_gaps(found: &[(i64, i64)], listed: &[&Span]) -> Vec<Span> {
    let by_start: FxHashMap<i64, &Span> = listed.iter().map(|span| (span.start_ns, *span)).collect();
    let mut gaps: Vec<Span> = found
        .iter()
        .filter(|(start_ns, _)| !by_start.contains_key(start_ns))
        .map(|(start_ns, end_ns)| Span {
            start_ns: *start_ns,
            end_ns: *end_ns,
            name: "idle; the cause is listed only for the longest gaps".to_owned(),
            class: "idle".to_owned(),
        })
        .collect();
    gaps.extend(listed.iter().map(|span| (*span).clone()));
    gaps
}

fn device_label(timeline: &Timeline, device: u32) -> String {
    let ordinal = timeline.devices.get(device as usize).map_or(device, |device| device.ordinal);
    let alike = timeline.devices.iter().filter(|other| other.ordinal == ordinal).count();
    if alike > 1 { format!("GPU {ordinal} (#{device})") } else { format!("GPU {ordinal}") }
}

/// Whether a bar shows in `[from, to]`.
fn inside(start_ns: i64, end_ns: i64, from: i64, to: i64) -> bool {
    start_ns <= to && end_ns >= from
}

fn spans(view: &mut TimelineView, texts: &mut Texts, spans: &[Span], from: i64, to: i64) -> Vec<Bar> {
    let mut bars: Vec<Bar> = spans
        .iter()
        .filter(|span| inside(span.start_ns, span.end_ns, from, to))
        .map(|span| Bar {
            start_ns: span.start_ns,
            end_ns: span.end_ns.max(span.start_ns),
            name: texts.name(view, &span.name, || span.name.chars().take(100).collect()),
            class: texts.class(view, &span.class),
            depth: 0,
            call: u32::MAX,
        })
        .collect();
    bars.sort_by_key(|bar| bar.start_ns);
    bars
}

/// Device work in the stretch by stream, streams in order of their rows.
fn stream_bars(
    timeline: &Timeline,
    options: &ExcerptOptions<'_>,
    view: &mut TimelineView,
    texts: &mut Texts,
    from: i64,
    to: i64,
) -> Vec<(u32, Vec<Bar>)> {
    let mut bars: Vec<Vec<Bar>> = vec![Vec::new(); timeline.streams.len()];
    let tables = [
        (OpKind::Kernel, &timeline.kernels.start_ns, &timeline.kernels.end_ns),
        (OpKind::Copy, &timeline.copies.start_ns, &timeline.copies.end_ns),
        (OpKind::Memset, &timeline.memsets.start_ns, &timeline.memsets.end_ns),
        (OpKind::Graph, &timeline.graphs.start_ns, &timeline.graphs.end_ns),
    ];
    for (kind, starts, ends) in tables {
        let last = starts.partition_point(|start| *start <= to);
        for row in 0..last {
            if ends[row] < from {
                continue;
            }
            let op = OpRef::new(kind, row);
            let (name, class) = match kind {
                OpKind::Kernel => kernel_text(timeline, options, view, texts, row),
                OpKind::Copy => {
                    let kind = timeline.copies.kind[row];
                    let name = texts.known(view, (1, u32::from(kind.0)), kind.label(), || kind.label().to_owned());
                    (name, texts.class(view, "memcpy"))
                }
                OpKind::Memset => {
                    let name = texts.known(view, (2, 0), "Memset", || "Memset".to_owned());
                    (name, texts.class(view, "memset"))
                }
                OpKind::Graph => {
                    let graph = timeline.graphs.executable[row];
                    let text = format!("CUDA graph {graph}");
                    (texts.known(view, (3, graph), &text, || text.clone()), texts.class(view, "cuda_graph"))
                }
            };
            let bar = Bar {
                start_ns: starts[row],
                end_ns: ends[row].max(starts[row]),
                name,
                class,
                depth: 0,
                call: timeline.op_call(op).map_or(u32::MAX, |call| call as u32),
            };
            if let Some(stream) = bars.get_mut(timeline.op_stream(op)) {
                stream.push(bar);
            }
        }
    }
    let mut streams: Vec<(u32, Vec<Bar>)> =
        bars.into_iter().enumerate().filter(|(_, bars)| !bars.is_empty()).map(|(at, bars)| (at as u32, bars)).collect();
    for (_, bars) in &mut streams {
        bars.sort_by_key(|bar| bar.start_ns);
    }
    streams
}

fn kernel_text(
    timeline: &Timeline,
    options: &ExcerptOptions<'_>,
    view: &mut TimelineView,
    texts: &mut Texts,
    row: usize,
) -> (u32, u16) {
    let name = timeline.kernels.name[row];
    let full = timeline.text(timeline.kernel_names[name as usize].demangled);
    let known = options.classified.get(name as usize);
    let number = texts.known(view, (0, name), full, || match known.and_then(|known| known.display_name.as_deref()) {
        Some(given) => given.chars().take(100).collect(),
        None => shorten(full),
    });
    let class = texts.class(view, known.map_or("unclassified", |known| known.class.name()));
    (number, class)
}

/// What an API call does, by its name.
fn call_class(name: &str) -> &'static str {
    let has = |word| name.contains(word);
    if has("Launch") {
        "launch_call"
    } else if has("Synchronize") || has("StreamWait") || has("EventQuery") || has("StreamQuery") {
        "sync_call"
    } else if has("Memcpy") || has("Memset") {
        "copy_call"
    } else if has("Alloc") || has("Free") {
        "memory_call"
    } else {
        "api_call"
    }
}

/// Calls and ranges of each thread that has any in the stretch, nested.
fn thread_bars(
    timeline: &Timeline,
    view: &mut TimelineView,
    texts: &mut Texts,
    from: i64,
    to: i64,
) -> Vec<(Lane, Vec<Bar>)> {
    let mut bars: Vec<Vec<Bar>> = vec![Vec::new(); timeline.threads.len()];
    let mut python = 0_u64;
    let ranges = &timeline.ranges;
    for row in 0..ranges.len() {
        if !inside(ranges.start_ns[row], ranges.end_ns[row], from, to) {
            continue;
        }
        if ranges.kind[row] == RangeKind::Python {
            python += 1;
            continue;
        }
        let id = ranges.name[row];
        let text = timeline.text(id);
        let bar = Bar {
            start_ns: ranges.start_ns[row],
            end_ns: ranges.end_ns[row].max(ranges.start_ns[row]),
            name: texts.known(view, (4, id.0), text, || text.chars().take(100).collect()),
            class: texts.class(view, if ranges.kind[row] == RangeKind::Operator { "operator" } else { "range" }),
            depth: 0,
            call: u32::MAX,
        };
        if let Some(thread) = bars.get_mut(ranges.thread[row] as usize) {
            thread.push(bar);
        }
    }
    let api = &timeline.api;
    for row in 0..api.len() {
        if !inside(api.start_ns[row], api.end_ns[row], from, to) || !api.class[row].is_call() {
            continue;
        }
        let id = api.name[row];
        let text = timeline.text(id);
        let bar = Bar {
            start_ns: api.start_ns[row],
            end_ns: api.end_ns[row].max(api.start_ns[row]),
            name: texts.known(view, (4, id.0), text, || text.chars().take(100).collect()),
            class: texts.class(view, call_class(text)),
            depth: 0,
            call: row as u32,
        };
        if let Some(thread) = bars.get_mut(api.thread[row] as usize) {
            thread.push(bar);
        }
    }
    if python > 0 {
        view.left_out.push(format!("{python} Python functions are not drawn."));
    }
    let mut lanes = Vec::new();
    for (thread, mut bars) in bars.into_iter().enumerate().filter(|(_, bars)| !bars.is_empty()) {
        nest(&mut bars);
        let row = &timeline.threads[thread];
        let label = match row.name {
            Some(name) => {
                format!("{} ({})", timeline.text(name).chars().take(60).collect::<String>(), row.tid)
            }
            None => format!("thread {}", row.tid),
        };
        lanes.push((Lane::new(label, LaneKind::Thread), bars));
    }
    // The busiest thread first: it is the one that feeds the GPU.
    lanes.sort_by_key(|(_, bars)| std::cmp::Reverse(bars.len()));
    lanes
}

/// Sorts bars so that an enclosing one stands before what it encloses, and counts how deep each lies.
fn nest(bars: &mut [Bar]) {
    bars.sort_by_key(|bar| (bar.start_ns, std::cmp::Reverse(bar.end_ns)));
    let mut open: Vec<i64> = Vec::new();
    for bar in bars {
        while open.last().is_some_and(|end| *end <= bar.start_ns) {
            open.pop();
        }
        bar.depth = open.len().min(DEEPEST) as u8;
        open.push(bar.end_ns);
    }
}

/// Ends the stretch where the bar beyond `limit` begins, then fills the columns of the lanes.
fn shorten_stretch(view: &mut TimelineView, lanes: &mut [(Lane, Vec<Bar>)], limit: usize) {
    let mut starts: Vec<i64> = lanes.iter().flat_map(|(_, bars)| bars.iter().map(|bar| bar.start_ns)).collect();
    if starts.len() > limit {
        let all = starts.len();
        let (_, cut, _) = starts.select_nth_unstable(limit);
        let cut = *cut;
        let asked = view.end_ns.saturating_sub(view.start_ns);
        for (_, bars) in lanes.iter_mut() {
            bars.retain(|bar| bar.start_ns < cut);
        }
        // Bars that all reach in from before the stretch leave no end to shorten to.
        view.end_ns = cut.max(view.start_ns.saturating_add(1));
        let kept: usize = lanes.iter().map(|(_, bars)| bars.len()).sum();
        view.left_out.push(format!(
            "{} of {all} bars are not drawn: the stretch ends after {} of {} µs, so that what is shown is whole.",
            all - kept,
            micros(view.end_ns.saturating_sub(view.start_ns)),
            micros(asked)
        ));
    }
    for (lane, bars) in lanes {
        let nests = lane.kind == LaneKind::Thread;
        for bar in bars.iter() {
            lane.start_ns.push(bar.start_ns);
            lane.end_ns.push(bar.end_ns);
            lane.name.push(bar.name);
            lane.class.push(bar.class);
            if nests {
                lane.depth.push(bar.depth);
            }
        }
    }
}

fn micros(ns: i64) -> String {
    format!("{:.1}", ns as f64 / 1e3)
}

/// Numbers the bars and says which call launched which.
fn link(lanes: &mut [(Lane, Vec<Bar>)]) {
    let mut number = 0_u32;
    let mut of_call: FxHashMap<u32, u32> = FxHashMap::default();
    for (lane, bars) in lanes.iter() {
        for bar in bars {
            if lane.kind == LaneKind::Thread && bar.call != u32::MAX {
                of_call.insert(bar.call, number);
            }
            number += 1;
        }
    }
    for (lane, bars) in lanes.iter_mut().filter(|(lane, _)| lane.kind == LaneKind::Stream) {
        let links: Vec<u32> = bars.iter().map(|bar| of_call.get(&bar.call).copied().unwrap_or(NO_LINK)).collect();
        if links.iter().any(|link| *link != NO_LINK) {
            lane.link = links;
        }
    }
}
