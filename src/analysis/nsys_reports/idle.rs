//! The two rules on the use of a GPU: gaps, and stretches of little use, for each device of each process.

use std::collections::BTreeMap;

use super::RuleOptions;
use super::csv::{Csv, round_tenths};
use crate::trace::host::OverheadOrigin;
use crate::trace::places::NO_ROW;
use crate::trace::timeline::Timeline;

/// Time the profiler takes for itself, which no user can win back.
const OVERHEADS: [&str; 3] =
    ["CUDA profiling data flush overhead", "CUDA profiling stop overhead", "CUDA profiling overhead"];

/// Something that keeps a device busy.
#[derive(Debug, Clone, Copy)]
struct Busy {
    start: i64,
    end: i64,
    context: u32,
}

/// First begin, last end, and the context of the operation that ends last.
#[derive(Debug, Clone, Copy)]
struct Extent {
    start: i64,
    end: i64,
    context: u32,
}

fn extent(busy: &[Busy]) -> Option<Extent> {
    let first = busy.first()?;
    let mut extent = Extent { start: first.start, end: first.end, context: first.context };
    for one in busy {
        extent.start = extent.start.min(one.start);
        if one.end > extent.end {
            extent.end = one.end;
            extent.context = one.context;
        }
    }
    Some(extent)
}

/// True if the time filter leaves this in: it touches the time asked for; nothing is cut.
fn wanted(options: RuleOptions, start: i64, end: i64) -> bool {
    if options.start_ns.is_none() && options.end_ns.is_none() {
        return true;
    }
    let (from, to) = (options.start_ns.unwrap_or(0), options.end_ns.unwrap_or(i64::MAX));
    (from..to).contains(&start) || (from..to).contains(&end) || (start < from && end >= to)
}

/// Kernels, copies and memory sets of each (process id, device ordinal), with the overheads of the process within their time first.
///
/// What begins at 0 or before was not collected and is left out.
fn busy_by_device(timeline: &Timeline, options: RuleOptions) -> BTreeMap<(u32, u32), Vec<Busy>> {
    let key_of: Vec<(u32, u32)> = timeline
        .streams
        .iter()
        .map(|stream| {
            let pid = timeline.processes.get(stream.process as usize).map_or(0, |process| process.pid);
            (pid, stream.ordinal)
        })
        .collect();
    let mut slots: BTreeMap<(u32, u32), usize> = BTreeMap::new();
    let slot_of: Vec<usize> = key_of
        .iter()
        .map(|key| {
            let next = slots.len();
            *slots.entry(*key).or_insert(next)
        })
        .collect();
    let mut ops: Vec<Vec<Busy>> = vec![Vec::new(); slots.len()];
    let (kernels, copies, memsets) = (&timeline.kernels, &timeline.copies, &timeline.memsets);
    let tables = [
        (&kernels.start_ns, &kernels.end_ns, &kernels.stream),
        (&copies.start_ns, &copies.end_ns, &copies.stream),
        (&memsets.start_ns, &memsets.end_ns, &memsets.stream),
    ];
    for (starts, ends, streams) in tables {
        for row in 0..starts.len() {
            let (start, end, stream) = (starts[row], ends[row], streams[row] as usize);
            if start > 0 && wanted(options, start, end) {
                ops[slot_of[stream]].push(Busy { start, end, context: timeline.streams[stream].context });
            }
        }
    }
    let overheads = &timeline.overheads;
    let of_profiler: Vec<(u32, i64, i64)> = (0..overheads.len())
        .filter(|row| {
            overheads.origin[*row] == OverheadOrigin::Profiler
                && overheads.thread[*row] != NO_ROW
                && OVERHEADS.contains(&timeline.text(overheads.name[*row]))
                && wanted(options, overheads.start_ns[*row], overheads.end_ns[*row])
        })
        .map(|row| {
            let process = timeline.threads[overheads.thread[row] as usize].process as usize;
            let pid = timeline.processes.get(process).map_or(0, |process| process.pid);
            (pid, overheads.start_ns[row], overheads.end_ns[row])
        })
        .collect();
    slots
        .into_iter()
        .filter_map(|(key, slot)| {
            let ops = std::mem::take(&mut ops[slot]);
            let within = extent(&ops)?;
            let mut busy: Vec<Busy> = of_profiler
                .iter()
                .filter(|(pid, start, end)| *pid == key.0 && *start > within.start && *end < within.end)
                .map(|(_, start, end)| Busy { start: *start, end: *end, context: within.context })
                .collect();
            if busy.is_empty() {
                return Some((key, ops));
            }
            busy.extend(ops);
            Some((key, busy))
        })
        .collect()
}

fn limited<T>(rows: impl Iterator<Item = T>, options: RuleOptions) -> Vec<T> {
    rows.take(options.rows.unwrap_or(usize::MAX)).collect()
}

/// `gpu_gaps`: like nsys it takes the first gaps in time where there are more than rows asked for, and sorts these by length.
pub(super) fn gaps(timeline: &Timeline, gap_ms: i64, options: RuleOptions) -> String {
    let threshold = gap_ms.saturating_mul(1_000_000);
    let mut found = Vec::new();
    for ((pid, device), mut busy) in busy_by_device(timeline, options) {
        let mut starts: Vec<i64> = busy.iter().map(|one| one.start).collect();
        starts.sort_unstable();
        // Stable: of operations that end together the last one in the order of the tables names the context.
        busy.sort_by_key(|one| one.end);
        for (last, start) in busy.iter().zip(&starts[1..]) {
            let duration = start.saturating_sub(last.end);
            if duration > threshold && last.end < *start {
                found.push((duration, last.end, pid, device, last.context));
            }
        }
    }
    let mut found = limited(found.into_iter(), options);
    found.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    let mut csv = Csv::new(&["Row#", "Duration (ns)", "Start (ns)", "PID", "Device ID", "Context ID"]);
    for (row, (duration, start, pid, device, context)) in (1_u64..).zip(found) {
        csv.int(row);
        csv.int(duration);
        csv.int(start);
        csv.int(pid);
        csv.int(device);
        csv.int(context);
        csv.end_row();
    }
    csv.finish()
}

/// A part of the time of a device.
#[derive(Debug, Clone, Copy)]
struct Chunk {
    start: i64,
    end: i64,
    /// Sum of the time operations take of it, ns; may exceed its length.
    busy: i128,
}

/// Cuts the time of a device into parts of equal length, rounded up to whole ns.
fn chunks(busy: &[Busy], extent: Extent, count: u32) -> Vec<Chunk> {
    let size = ((extent.end as f64 - extent.start as f64) / f64::from(count)).ceil() as i64;
    if size <= 0 {
        return Vec::new();
    }
    let mut chunks: Vec<Chunk> = (0..i64::from(count))
        .map(|index| extent.start.saturating_add(index.saturating_mul(size)))
        .take_while(|start| *start < extent.end)
        .map(|start| Chunk { start, end: start.saturating_add(size).min(extent.end), busy: 0 })
        .collect();
    // How many operations begin or stop to cover whole chunks.
    let mut whole = vec![0_i64; chunks.len() + 1];
    let last = chunks.len() - 1;
    for one in busy {
        let chunk_at = |time: i64| ((time.saturating_sub(extent.start) / size) as usize).min(last);
        let (from, to) = (chunk_at(one.start), chunk_at(one.end));
        if from == to {
            chunks[from].busy += i128::from(one.end - one.start);
            continue;
        }
        chunks[from].busy += i128::from(chunks[from].end - one.start);
        chunks[to].busy += i128::from(one.end - chunks[to].start);
        whole[from + 1] += 1;
        whole[to] -= 1;
    }
    let mut covering = 0;
    for (chunk, change) in chunks.iter_mut().zip(&whole) {
        covering += change;
        chunk.busy += i128::from(covering) * i128::from(chunk.end - chunk.start);
    }
    chunks
}

/// A stretch of little use.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    percent: f64,
    start: i64,
    end: i64,
    pid: u32,
    device: u32,
    context: u32,
}

/// `gpu_time_util`.
pub(super) fn time_util(timeline: &Timeline, threshold_percent: i64, count: u32, options: RuleOptions) -> String {
    // With the number nsys groups neighbouring chunks by, which orders stretches of equal use.
    let mut stretches: Vec<(i64, Stretch)> = Vec::new();
    for ((pid, device), busy) in busy_by_device(timeline, options) {
        let Some(extent) = extent(&busy) else { continue };
        let chunks = chunks(&busy, extent, count.clamp(1, 1000));
        let percent = |chunk: &Chunk| chunk.busy as f64 / (chunk.end - chunk.start) as f64 * 100.0;
        let low: Vec<(usize, Chunk)> =
            chunks.into_iter().enumerate().filter(|(_, chunk)| percent(chunk) < threshold_percent as f64).collect();
        let mut before = 0_i64;
        for run in low.chunk_by(|a, b| a.0 + 1 == b.0) {
            let length = |chunk: &Chunk| (chunk.end - chunk.start) as f64;
            let weighted: f64 = run.iter().map(|(_, chunk)| length(chunk) * percent(chunk)).sum();
            let all: f64 = run.iter().map(|(_, chunk)| length(chunk)).sum();
            let stretch = Stretch {
                percent: round_tenths(weighted / all),
                start: run[0].1.start,
                end: run[run.len() - 1].1.end,
                pid,
                device,
                context: extent.context,
            };
            stretches.push((run[0].0 as i64 - before, stretch));
            before += run.len() as i64;
        }
    }
    stretches.sort_by_key(|(group, stretch)| (*group, stretch.device, stretch.pid));
    let mut stretches = limited(stretches.into_iter().map(|(_, stretch)| stretch), options);
    stretches.sort_by(|a, b| a.percent.total_cmp(&b.percent).then((a.end - a.start).cmp(&(b.end - b.start))));
    let mut csv = Csv::new(&["Row#", "In-Use (%)", "Duration (ns)", "Start (ns)", "PID", "Device ID", "Context ID"]);
    for (row, stretch) in (1_u64..).zip(stretches) {
        csv.int(row);
        csv.tenth(stretch.percent);
        csv.int(stretch.end - stretch.start);
        csv.int(stretch.start);
        csv.int(stretch.pid);
        csv.int(stretch.device);
        csv.int(stretch.context);
        csv.end_row();
    }
    csv.finish()
}
