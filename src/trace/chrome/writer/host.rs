//! Host events: API calls, ranges, operating-system calls, overhead, marks, and the spans of a live run.

use std::cmp::Reverse;
use std::io;

use super::WriteOptions;
use super::layout::{Layout, Stack};
use super::out::{Out, Track};
use crate::trace::host::{ApiClass, RangeKind};
use crate::trace::places::NO_ROW;
use crate::trace::timeline::{SpanKind, Timeline};

/// What sorts host spans: thread, begin, an enclosing one first.
type Key = (u32, i64, Reverse<i64>);

/// A table of spans in the order of [`Key`], and how far it was written.
struct Cursor<'a> {
    rows: usize,
    /// Rows in order, where the table is not.
    order: Option<Vec<u32>>,
    next: usize,
    key: Box<dyn Fn(usize) -> Key + 'a>,
}

impl<'a> Cursor<'a> {
    fn new(rows: usize, key: impl Fn(usize) -> Key + 'a) -> Self {
        let order = (1..rows).any(|row| key(row - 1) > key(row)).then(|| {
            let mut order: Vec<u32> = (0..rows as u32).collect();
            order.sort_by_key(|row| key(*row as usize));
            order
        });
        Self { rows, order, next: 0, key: Box::new(key) }
    }
    fn row(&self) -> usize {
        self.order.as_ref().map_or(self.next, |order| order[self.next] as usize)
    }
    fn peek(&self) -> Option<Key> {
        (self.next < self.rows).then(|| (self.key)(self.row()))
    }
}

/// Writes all host events; the track of each API call, for the arrows.
pub(super) fn write(
    timeline: &Timeline,
    layout: &mut Layout,
    out: &mut Out<'_>,
    options: &WriteOptions,
) -> io::Result<Vec<u64>> {
    let Timeline { api, ranges, os_calls, overheads, .. } = timeline;
    let mut tables = [
        Cursor::new(ranges.len(), |row| (ranges.thread[row], ranges.start_ns[row], Reverse(ranges.end_ns[row]))),
        Cursor::new(api.len(), |row| (api.thread[row], api.start_ns[row], Reverse(api.end_ns[row]))),
        Cursor::new(os_calls.len(), |row| {
            (os_calls.thread[row], os_calls.start_ns[row], Reverse(os_calls.end_ns[row]))
        }),
        Cursor::new(overheads.len(), |row| {
            (overheads.thread[row], overheads.start_ns[row], Reverse(overheads.end_ns[row]))
        }),
    ];
    let mut call_tracks = vec![0; api.len()];
    let mut current = None;
    let mut stack = Stack::default();
    // Of equal keys the first table's goes first.
    while let Some((key, table)) =
        tables.iter().enumerate().filter_map(|(table, cursor)| Some((cursor.peek()?, table))).min()
    {
        let row = tables[table].row();
        tables[table].next += 1;
        let (thread, start_ns, Reverse(end_ns)) = key;
        if !options.wants(start_ns, end_ns) || (table == 1 && api.class[row] == ApiClass::BACKTRACE) {
            continue;
        }
        if current != Some(thread) {
            current = Some(thread);
            stack = Stack::default();
            if thread == NO_ROW {
                out.name("process_name", layout.thread(thread), "profiler")?;
            }
        }
        let track = if let Some(track) = stack.place(start_ns, end_ns, true) {
            track
        } else {
            let own = layout.thread(thread);
            let is_first = stack.len() == 0;
            let label = || thread_label(timeline, thread, stack.len());
            let track = if is_first { own } else { layout.extra(own, &label(), out)? };
            stack.add(track, end_ns);
            track
        };
        match table {
            0 => range(timeline, row, track, out)?,
            1 => {
                call_tracks[row] = track.tid;
                let category = if api.class[row] == ApiClass::DRIVER { "cuda_driver" } else { "cuda_runtime" };
                out.span(category, timeline.text(api.name[row]), track, start_ns, end_ns)?;
                if api.correlation[row] != 0 {
                    out.arg("correlation", api.correlation[row])?;
                }
                if api.result[row] != 0 {
                    out.arg("result", api.result[row])?;
                }
            }
            2 => out.span("osrt", timeline.text(os_calls.name[row]), track, start_ns, end_ns)?,
            _ => out.span("overhead", timeline.text(overheads.name[row]), track, start_ns, end_ns)?,
        }
        out.end()?;
    }
    marks(timeline, layout, out, options)?;
    live_spans(timeline, layout, out, options)?;
    Ok(call_tracks)
}

fn thread_label(timeline: &Timeline, thread: u32, below: usize) -> String {
    let name = timeline.threads.get(thread as usize).and_then(|thread| thread.name);
    let name = name.map_or("thread", |name| timeline.text(name));
    format!("{name} (overlapping {below})")
}

fn range(timeline: &Timeline, row: usize, track: Track, out: &mut Out<'_>) -> io::Result<()> {
    let ranges = &timeline.ranges;
    let domain = timeline.text(ranges.domain[row]);
    let category = match ranges.kind[row] {
        RangeKind::Operator => "cpu_op",
        RangeKind::Python => "python_function",
        RangeKind::Annotation if !domain.is_empty() => domain,
        RangeKind::Annotation => "user_annotation",
        _ => "nvtx",
    };
    out.span(category, timeline.text(ranges.name[row]), track, ranges.start_ns[row], ranges.end_ns[row])?;
    if category == "nvtx" && !domain.is_empty() {
        out.arg_text("domain", domain)?;
    }
    if category == "cpu_op" {
        // The row names the operator to the kernels that were launched within it.
        out.arg("External id", row + 1)?;
    }
    if let Some(shape) = ranges.shape.get(row).map(|shape| timeline.text(*shape)).filter(|shape| !shape.is_empty()) {
        if serde_json::from_str::<serde::de::IgnoredAny>(shape).is_ok() {
            out.arg("Input Dims", shape)?;
        } else {
            out.arg_text("Input Dims", shape)?;
        }
    }
    if ranges.is_open(row) {
        out.arg("never closed", true)?;
    }
    Ok(())
}

fn marks(timeline: &Timeline, layout: &Layout, out: &mut Out<'_>, options: &WriteOptions) -> io::Result<()> {
    let marks = &timeline.marks;
    for row in 0..marks.len() {
        let time_ns = marks.time_ns[row];
        if !options.wants(time_ns, time_ns) {
            continue;
        }
        let domain = timeline.text(marks.domain[row]);
        let category = if domain.is_empty() { "cpu_instant_event" } else { domain };
        out.begin('i', category, timeline.text(marks.name[row]), layout.thread(marks.thread[row]))?;
        out.time("ts", time_ns)?;
        out.raw("s", "\"t\"")?;
        out.end()?;
    }
    Ok(())
}

/// Spans of a live run of our own engine: one track, where they nest.
fn live_spans(timeline: &Timeline, layout: &mut Layout, out: &mut Out<'_>, options: &WriteOptions) -> io::Result<()> {
    let spans = &timeline.spans;
    if spans.is_empty() {
        return Ok(());
    }
    let own = layout.extra(layout.thread(NO_ROW), &timeline.device, out)?;
    out.name("process_name", own, "perfprof")?;
    let time = |time: u64| i64::try_from(time).unwrap_or(i64::MAX);
    let mut order: Vec<u32> = (0..spans.len() as u32).collect();
    order.sort_by_key(|row| (spans.start_ns[*row as usize], Reverse(spans.end_ns[*row as usize])));
    let mut stack = Stack::default();
    for row in order.into_iter().map(|row| row as usize) {
        let (start_ns, end_ns) = (time(spans.start_ns[row]), time(spans.end_ns[row]));
        if !options.wants(start_ns, end_ns) {
            continue;
        }
        let track = if let Some(track) = stack.place(start_ns, end_ns, true) {
            track
        } else {
            let track = if stack.len() == 0 { own } else { layout.extra(own, &timeline.device, out)? };
            stack.add(track, end_ns);
            track
        };
        let category = match spans.kind[row] {
            SpanKind::Phase => "phase",
            SpanKind::Layer => "layer",
            SpanKind::Module => "module",
            SpanKind::Operator => "operator",
        };
        out.span(category, timeline.text(spans.name[row]), track, start_ns, end_ns)?;
        out.arg("repeat", spans.repeat[row])?;
        out.arg("step", spans.step[row])?;
        if spans.kind[row] == SpanKind::Operator {
            out.arg("flops", spans.cost[row].flops)?;
            out.arg("bytes", spans.cost[row].bytes())?;
            out.arg_text("shape", timeline.text(spans.shape[row]))?;
        }
        out.end()?;
    }
    Ok(())
}
