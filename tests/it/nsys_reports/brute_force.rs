//! Projection, kernels in ranges, gaps and utilisation against definitions written down plainly, O(n²), on small random timelines.

use std::collections::{BTreeMap, BTreeSet};

use perfprof::trace::builder::TimelineBuilder;
use perfprof::trace::host::RangeKind;
use perfprof::trace::timeline::Timeline;
use proptest::prelude::*;

use super::report;

#[derive(Debug, Clone)]
struct Range {
    thread: usize,
    name: usize,
    start: i64,
    end: i64,
    pushed: bool,
}

#[derive(Debug, Clone)]
struct Call {
    thread: usize,
    start: i64,
    end: i64,
    correlation: u32,
}

#[derive(Debug, Clone)]
struct Op {
    /// 0 and 1: kernels of these names, 2: copy, 3: memory set.
    what: usize,
    stream: usize,
    start: i64,
    end: i64,
    correlation: u32,
}

#[derive(Debug, Clone)]
struct Trace {
    ranges: Vec<Range>,
    calls: Vec<Call>,
    ops: Vec<Op>,
    overheads: Vec<(usize, i64, i64)>,
}

const THREADS: usize = 3;
/// Threads 0 and 1 are of process 10, thread 2 of process 20.
const PIDS: [u32; THREADS] = [10, 10, 20];
const KERNELS: [&str; 2] = ["ka", "kb"];
/// Process (by its first thread) and device ordinal of each stream.
const STREAMS: [(usize, u32); 4] = [(0, 0), (0, 1), (2, 0), (0, 0)];

fn times(length: i64) -> impl Strategy<Value = (i64, i64)> {
    (0..60_i64, 0..length).prop_map(|(start, length)| (start, start + length))
}

prop_compose! {
    /// A trace with at most so many calls and operations.
    fn trace_of(most: usize)(
        ranges in prop::collection::vec((0..THREADS, 0..3_usize, times(40), any::<bool>()), 0..12),
        calls in prop::collection::vec((0..THREADS, times(12), 1..8_u32), 0..most),
        ops in prop::collection::vec((0..4_usize, 0..STREAMS.len(), times(30), 0..9_u32), 0..most),
        overheads in prop::collection::vec((0..THREADS, times(9)), 0..3),
    ) -> Trace {
        Trace {
            ranges: ranges.into_iter().map(|(thread, name, (start, end), pushed)| Range { thread, name, start, end, pushed }).collect(),
            calls: calls.into_iter().map(|(thread, (start, end), correlation)| Call { thread, start, end, correlation }).collect(),
            ops: ops.into_iter().map(|(what, stream, (start, end), correlation)| Op { what, stream, start, end, correlation }).collect(),
            overheads: overheads.into_iter().map(|(thread, (start, end))| (thread, start, end)).collect(),
        }
    }
}

fn trace() -> impl Strategy<Value = Trace> {
    trace_of(14)
}

fn timeline(trace: &Trace) -> Timeline {
    use perfprof::trace::activity::CopyKind;
    let mut b = TimelineBuilder::new();
    let processes = [b.process(10), b.process(20)];
    let process = |thread: usize| processes[usize::from(thread == 2)];
    let threads: Vec<u32> = (0..THREADS).map(|thread| b.thread(process(thread), 100 + thread as u64)).collect();
    let devices = [b.device(0), b.device(1)];
    let streams: Vec<u32> = STREAMS
        .iter()
        .enumerate()
        .map(|(stream, (thread, device))| b.stream(process(*thread), devices[*device as usize], stream as u64))
        .collect();
    for range in &trace.ranges {
        let kind = if range.pushed { RangeKind::PushPop } else { RangeKind::StartEnd };
        b.range_of(kind, threads[range.thread], "", &format!("r{}", range.name), range.start, Some(range.end));
    }
    for call in &trace.calls {
        b.call(threads[call.thread], "launch", call.start, call.end, call.correlation);
    }
    for op in &trace.ops {
        let stream = streams[op.stream];
        match op.what {
            2 => b.copy(stream, CopyKind::HOST_TO_DEVICE, op.start, op.end, op.correlation, 1),
            3 => b.memset(stream, op.start, op.end, op.correlation, 1),
            name => b.kernel(stream, KERNELS[name], op.start, op.end, op.correlation),
        };
    }
    for (thread, start, end) in &trace.overheads {
        b.overhead(Some(threads[*thread]), "CUDA profiling data flush overhead", *start, *end);
        b.overhead(Some(threads[*thread]), "Buffer flush", *start, *end);
    }
    b.finish()
}

impl Trace {
    fn pid_of(op: &Op) -> u32 {
        PIDS[STREAMS[op.stream].0]
    }
    fn calls_of(&self, op: &Op) -> Vec<&Call> {
        self.calls
            .iter()
            .filter(|call| {
                op.correlation != 0 && call.correlation == op.correlation && PIDS[call.thread] == Self::pid_of(op)
            })
            .collect()
    }
    fn around(&self, call: &Call) -> Vec<usize> {
        let within = |range: &Range| range.thread == call.thread && range.start <= call.start && range.end >= call.end;
        (0..self.ranges.len()).filter(|range| within(&self.ranges[*range])).collect()
    }
    fn label(&self, range: usize) -> (String, &'static str) {
        let range = &self.ranges[range];
        (format!(":r{}", range.name), if range.pushed { "PushPop" } else { "StartEnd" })
    }
    /// The shortest other range on the same thread around this one, the earlier of equally short ones.
    fn parent(&self, of: usize) -> Option<usize> {
        let child = &self.ranges[of];
        let encloses =
            |range: &Range| range.thread == child.thread && range.start <= child.start && range.end >= child.end;
        (0..self.ranges.len())
            .filter(|range| *range != of && encloses(&self.ranges[*range]))
            .min_by_key(|range| (self.ranges[*range].end - self.ranges[*range].start, self.ranges[*range].start))
    }
    /// How deep a range is; ranges of the same times enclose each other and have no depth, nor has what is within.
    fn level(&self, of: usize) -> Option<i64> {
        let (mut at, mut level) = (of, 0);
        while let Some(parent) = self.parent(at) {
            (at, level) = (parent, level + 1);
            if level > self.ranges.len() as i64 {
                return None;
            }
        }
        Some(level)
    }
}

/// One decimal, half away from zero, digit by digit on the exact decimal expansion.
fn tenths(value: f64) -> String {
    let exact = format!("{value:.60}");
    let (whole, fraction) = exact.split_once('.').unwrap();
    let up = i128::from(fraction.as_bytes()[1] >= b'5');
    let number: i128 = format!("{whole}{}", &fraction[..1]).parse::<i128>().unwrap() + up;
    format!("{}.{}", number / 10, number % 10)
}

fn mean(values: &[i64]) -> f64 {
    values.iter().sum::<i64>() as f64 / values.len() as f64
}

fn median(values: &[i64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] as f64 } else { (sorted[middle - 1] + sorted[middle]) as f64 / 2.0 }
}

fn deviation(values: &[i64]) -> f64 {
    let n = values.len() as i64;
    if n < 2 {
        return 0.0;
    }
    let (sum, squares): (i64, i64) = (values.iter().sum(), values.iter().map(|value| value * value).sum());
    ((n * squares - sum * sum) as f64 / (n * (n - 1)) as f64).sqrt()
}

/// Mean, median, least, greatest and deviation as printed.
fn printed(values: &[i64]) -> String {
    format!(
        "{},{},{},{},{}",
        tenths(mean(values)),
        tenths(median(values)),
        values.iter().min().unwrap(),
        values.iter().max().unwrap(),
        tenths(deviation(values))
    )
}

fn projection(trace: &Trace) -> Vec<String> {
    // First begin, last end and correlation ids of each range.
    let mut projected: BTreeMap<usize, (i64, i64, BTreeSet<u32>)> = BTreeMap::new();
    for op in &trace.ops {
        for call in trace.calls_of(op) {
            for range in trace.around(call) {
                let entry = projected.entry(range).or_insert((i64::MAX, i64::MIN, BTreeSet::new()));
                entry.0 = entry.0.min(op.start);
                entry.1 = entry.1.max(op.end);
                entry.2.insert(op.correlation);
            }
        }
    }
    let mut groups: BTreeMap<(String, &str), Vec<usize>> = BTreeMap::new();
    for range in projected.keys() {
        groups.entry(trace.label(*range)).or_default().push(*range);
    }
    let mut lines: Vec<(i64, String)> = groups
        .iter()
        .map(|((name, style), ranges)| {
            let of = |value: &dyn Fn(usize) -> i64| -> Vec<i64> { ranges.iter().map(|range| value(*range)).collect() };
            let durations = of(&|range| projected[&range].1 - projected[&range].0);
            let whole = of(&|range| trace.ranges[range].end - trace.ranges[range].start);
            let ops = of(&|range| projected[&range].2.len() as i64);
            let children =
                of(&|range| projected.keys().filter(|child| trace.parent(**child) == Some(range)).count() as i64);
            let levels: Vec<i64> = ranges.iter().filter_map(|range| trace.level(*range)).collect();
            let level = if levels.is_empty() { String::new() } else { tenths(mean(&levels)) };
            let total: i64 = durations.iter().sum();
            let line = format!(
                "{name},{style},{total},{},{},{},{},{},{level},{}",
                whole.iter().sum::<i64>(),
                ranges.len(),
                printed(&durations),
                ops.iter().sum::<i64>(),
                tenths(mean(&ops)),
                tenths(mean(&children))
            );
            (total, line)
        })
        .collect();
    lines.sort_by_key(|(total, _)| -total);
    lines.into_iter().map(|(_, line)| line).collect()
}

fn kernels_in_ranges(trace: &Trace) -> Vec<String> {
    type Place = (String, Option<(u32, u64)>);
    /// Ranges, kernels and durations.
    type Group = (BTreeSet<usize>, BTreeSet<usize>, Vec<i64>);
    let mut groups: BTreeMap<(Place, &str, &str), Group> = BTreeMap::new();
    for (kernel, op) in trace.ops.iter().enumerate().filter(|(_, op)| op.what < 2) {
        let mut add = |range: Option<usize>, thread: Option<usize>| {
            let (name, style) = range.map_or((String::new(), ""), |range| trace.label(range));
            let place = (name, thread.map(|thread| (PIDS[thread], 100 + thread as u64)));
            let group = groups.entry((place, style, KERNELS[op.what])).or_default();
            group.0.extend(range);
            group.1.insert(kernel);
            group.2.push(op.end - op.start);
        };
        let calls = trace.calls_of(op);
        if calls.is_empty() {
            add(None, None);
        }
        for call in calls {
            let ranges = trace.around(call);
            if ranges.is_empty() {
                add(None, Some(call.thread));
            }
            for range in ranges {
                add(Some(range), Some(call.thread));
            }
        }
    }
    let mut lines: Vec<_> = groups.into_iter().collect();
    lines.sort_by_key(|((place, ..), (_, _, times))| (place.clone(), -times.iter().sum::<i64>()));
    lines
        .into_iter()
        .map(|(((name, thread), style, kernel), (ranges, kernels, times))| {
            let thread = thread.map_or(",".to_owned(), |(pid, tid)| format!("{pid},{tid}"));
            let total: i64 = times.iter().sum();
            format!("{name},{style},{thread},{},{},{total},{},{kernel}", ranges.len(), kernels.len(), printed(&times))
        })
        .collect()
}

/// What keeps each (process id, device) busy: operations that begin after 0, and overheads strictly within their time.
fn busy(trace: &Trace) -> BTreeMap<(u32, u32), Vec<(i64, i64)>> {
    let mut devices: BTreeMap<(u32, u32), Vec<(i64, i64)>> = BTreeMap::new();
    for op in trace.ops.iter().filter(|op| op.start > 0) {
        devices.entry((Trace::pid_of(op), STREAMS[op.stream].1)).or_default().push((op.start, op.end));
    }
    for ((pid, _), times) in &mut devices {
        let (first, last) = (times.iter().map(|t| t.0).min().unwrap(), times.iter().map(|t| t.1).max().unwrap());
        let within = |(thread, start, end): &&(usize, i64, i64)| PIDS[*thread] == *pid && *start > first && *end < last;
        times.extend(trace.overheads.iter().filter(within).map(|(_, start, end)| (*start, *end)));
    }
    devices
}

/// Gaps found by looking at every nanosecond in which nothing runs. An operation without duration ends a gap and begins another.
fn gaps(trace: &Trace) -> Vec<(i64, i64, u32, u32)> {
    let mut gaps = Vec::new();
    for ((pid, device), times) in busy(trace) {
        let (first, last) = (times.iter().map(|t| t.0).min().unwrap(), times.iter().map(|t| t.1).max().unwrap());
        let mut since: Option<i64> = None;
        for time in first..=last {
            let runs = times.iter().any(|t| t.0 <= time && time < t.1);
            let begins_or_ends = times.iter().any(|t| t.0 == time || t.1 == time);
            if (runs || begins_or_ends)
                && let Some(start) = since.take().filter(|start| *start < time)
            {
                gaps.push((time - start, start, pid, device));
            }
            if !runs {
                since.get_or_insert(time);
            }
        }
    }
    gaps.sort_by_key(|(duration, start, pid, device)| (-duration, *start, *pid, *device));
    gaps
}

/// Stretches of little use, chunk by chunk and operation by operation: percentage as printed, duration, start, process id, device.
fn stretches(trace: &Trace, threshold: f64, count: i64) -> Vec<(String, i64, i64, u32, u32)> {
    let mut found = Vec::new();
    for ((pid, device), times) in busy(trace) {
        let (first, last) = (times.iter().map(|t| t.0).min().unwrap(), times.iter().map(|t| t.1).max().unwrap());
        let size = (last - first + count - 1) / count;
        let mut runs: Vec<Vec<(i64, i64, f64)>> = vec![Vec::new()];
        for chunk in 0..count {
            let (start, end) = (first + chunk * size, last.min(first + (chunk + 1) * size));
            if start >= end {
                break;
            }
            let used: i64 = times.iter().map(|t| (t.1.min(end) - t.0.max(start)).max(0)).sum();
            let percent = used as f64 / (end - start) as f64 * 100.0;
            if percent < threshold {
                runs.last_mut().unwrap().push((start, end, percent));
            } else {
                runs.push(Vec::new());
            }
        }
        for run in runs.iter().filter(|run| !run.is_empty()) {
            let all: i64 = run.iter().map(|(start, end, _)| end - start).sum();
            let weighted: f64 = run.iter().map(|(start, end, percent)| (end - start) as f64 * percent).sum();
            let start = run[0].0;
            found.push((tenths(weighted / all as f64), run.last().unwrap().1 - start, start, pid, device));
        }
    }
    found.sort_by_key(|(_, _, start, pid, device)| (*pid, *device, *start));
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn ranges_are_projected_as_the_definition_says(trace in trace()) {
        let text = report("nvtx_gpu_proj_sum", &timeline(&trace));
        let lines: Vec<&str> = text.lines().skip(1).collect();
        prop_assert_eq!(lines, projection(&trace));
    }

    #[test]
    fn ranges_around_many_calls_are_projected_as_the_definition_says(trace in trace_of(120)) {
        // An id of its own for most calls, so that few share one.
        let mut trace = trace;
        for (index, call) in (0_u32..).zip(&mut trace.calls) {
            call.correlation = if index % 5 == 0 { call.correlation } else { 10 + index };
        }
        for (index, op) in (0_u32..).zip(&mut trace.ops) {
            op.correlation = if index % 5 == 0 { op.correlation } else { 10 + index };
        }
        let text = report("nvtx_gpu_proj_sum", &timeline(&trace));
        let lines: Vec<&str> = text.lines().skip(1).collect();
        prop_assert_eq!(lines, projection(&trace));
    }

    #[test]
    fn a_kernel_counts_in_every_range_around_its_launch(trace in trace()) {
        // Without ranges or calls nsys has no such report.
        prop_assume!(!trace.ranges.is_empty() && !trace.calls.is_empty());
        let text = report("nvtx_kern_sum", &timeline(&trace));
        let lines: Vec<&str> = text.lines().skip(1).collect();
        prop_assert_eq!(lines, kernels_in_ranges(&trace));
    }

    #[test]
    fn gaps_are_the_times_in_which_nothing_runs(trace in trace()) {
        let text = report("gpu_gaps:gap=0:rows=-1", &timeline(&trace));
        let mut ours: Vec<(i64, i64, u32, u32)> = super::cells(&text)
            .iter()
            .map(|row| (row[1].parse().unwrap(), row[2].parse().unwrap(), row[3].parse().unwrap(), row[4].parse().unwrap()))
            .collect();
        prop_assert!(ours.is_sorted_by_key(|(duration, start, ..)| (-duration, *start)));
        ours.sort_by_key(|(duration, start, pid, device)| (-duration, *start, *pid, *device));
        prop_assert_eq!(ours, gaps(&trace));
    }

    #[test]
    fn stretches_of_little_use_are_those_of_the_definition(trace in trace(), threshold in 0..150_i64, chunks in 1..12_i64) {
        let text = report(&format!("gpu_time_util:threshold={threshold}:chunks={chunks}:rows=-1"), &timeline(&trace));
        let rows = super::cells(&text);
        let percent = |row: &Vec<&str>| row[1].parse::<f64>().unwrap();
        prop_assert!(rows.is_sorted_by(|a, b| percent(a) <= percent(b)));
        let mut ours: Vec<(String, i64, i64, u32, u32)> = rows
            .iter()
            .map(|row| {
                (row[1].to_owned(), row[2].parse().unwrap(), row[3].parse().unwrap(), row[4].parse().unwrap(), row[5].parse().unwrap())
            })
            .collect();
        ours.sort_by_key(|(_, _, start, pid, device)| (*pid, *device, *start));
        prop_assert_eq!(ours, stretches(&trace, threshold as f64, chunks));
    }

    #[test]
    fn the_innermost_range_names_a_kernel(trace in trace()) {
        let mut trace = trace;
        // One call for each id of a process, so that there is one innermost range.
        let mut ids = BTreeSet::new();
        trace.calls.retain(|call| ids.insert((PIDS[call.thread], call.correlation)));
        let mut expected: BTreeMap<String, i64> = BTreeMap::new();
        let mut unsure = BTreeSet::new();
        for op in trace.ops.iter().filter(|op| op.what < 2) {
            let around = trace.calls_of(op).first().map_or(Vec::new(), |call| trace.around(call));
            let length = |range: &usize| trace.ranges[*range].end - trace.ranges[*range].start;
            let shortest = around.iter().map(length).min();
            let names: BTreeSet<usize> = around.iter().filter(|range| Some(length(range)) == shortest).map(|range| trace.ranges[*range].name).collect();
            let name = names.first().map_or(KERNELS[op.what].to_owned(), |name| format!("r{name}/{}", KERNELS[op.what]));
            if names.len() > 1 {
                unsure.insert(name.clone());
            }
            *expected.entry(name).or_default() += op.end - op.start;
        }
        prop_assume!(unsure.is_empty());
        let text = report("cuda_gpu_kern_sum:nvtx-name", &timeline(&trace));
        let ours: BTreeMap<String, i64> = super::cells(&text).iter().map(|row| (row[8].to_owned(), row[1].parse().unwrap())).collect();
        prop_assert_eq!(ours, expected);
    }
}
