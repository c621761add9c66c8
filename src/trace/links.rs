//! Sorts the tables of a timeline and joins device work to API calls on (process, correlation id).
//!
//! A correlation id is unique only within a process, and even there a second record of a call (nsys event class 67) and some pairs of calls
//! share one. Second records are left out; of several calls the one whose name says that it launches, copies or sets is taken, else the first.

use std::cmp::Reverse;

use rustc_hash::FxHashMap;

use super::host::ApiCalls;
use super::places::{NO_ROW, Stream};
use super::strings::{StringId, StringTable};
use super::timeline::Timeline;

/// Correlation ids up to this many times the number of calls are looked up in a plain vector.
const DENSE_FACTOR: usize = 8;

pub(super) fn finish(timeline: &mut Timeline) {
    sort_api(&mut timeline.api);
    sort_ranges(timeline);
    sort_device(timeline);
    link(timeline);
}

/// The order that sorts rows, or `None` if they are sorted already.
fn order<K: Ord>(rows: usize, key: impl Fn(usize) -> K) -> Option<Vec<u32>> {
    if (1..rows).all(|row| key(row - 1) <= key(row)) {
        return None;
    }
    let mut order: Vec<u32> = (0..rows as u32).collect();
    // Stable: rows that compare equal keep the order of the file.
    order.sort_by_key(|row| key(*row as usize));
    Some(order)
}

fn permute<T: Copy>(column: &mut Vec<T>, order: &[u32]) {
    if !column.is_empty() {
        *column = order.iter().map(|row| column[*row as usize]).collect();
    }
}

fn sort_api(api: &mut ApiCalls) {
    if let Some(order) = order(api.len(), |row| (api.thread[row], api.start_ns[row])) {
        permute(&mut api.start_ns, &order);
        permute(&mut api.end_ns, &order);
        permute(&mut api.thread, &order);
        permute(&mut api.name, &order);
        permute(&mut api.correlation, &order);
        permute(&mut api.class, &order);
        permute(&mut api.result, &order);
    }
}

fn sort_ranges(timeline: &mut Timeline) {
    let ranges = &mut timeline.ranges;
    let last = ranges.start_ns.iter().chain(&ranges.end_ns).max().copied().unwrap_or(0);
    for row in &ranges.open {
        ranges.end_ns[*row as usize] = last;
    }
    ranges.open.sort_unstable();
    let Some(order) =
        order(ranges.len(), |row| (ranges.thread[row], ranges.start_ns[row], Reverse(ranges.end_ns[row])))
    else {
        return;
    };
    permute(&mut ranges.start_ns, &order);
    permute(&mut ranges.end_ns, &order);
    permute(&mut ranges.thread, &order);
    permute(&mut ranges.end_thread, &order);
    permute(&mut ranges.kind, &order);
    permute(&mut ranges.name, &order);
    permute(&mut ranges.domain, &order);
    permute(&mut ranges.shape, &order);
    if ranges.open.is_empty() && timeline.kernels.operator.is_empty() {
        return;
    }
    let mut moved_to = vec![0_u32; order.len()];
    for (to, from) in order.iter().enumerate() {
        moved_to[*from as usize] = to as u32;
    }
    for row in &mut ranges.open {
        *row = moved_to[*row as usize];
    }
    ranges.open.sort_unstable();
    for row in timeline.kernels.operator.iter_mut().filter(|row| **row != NO_ROW) {
        *row = moved_to[*row as usize];
    }
}

fn sort_device(timeline: &mut Timeline) {
    let kernels = &mut timeline.kernels;
    if let Some(order) = order(kernels.len(), |row| kernels.start_ns[row]) {
        permute(&mut kernels.start_ns, &order);
        permute(&mut kernels.end_ns, &order);
        permute(&mut kernels.name, &order);
        permute(&mut kernels.stream, &order);
        permute(&mut kernels.correlation, &order);
        permute(&mut kernels.config, &order);
        permute(&mut kernels.graph_node, &order);
        permute(&mut kernels.operator, &order);
    }
    let copies = &mut timeline.copies;
    if let Some(order) = order(copies.len(), |row| copies.start_ns[row]) {
        permute(&mut copies.start_ns, &order);
        permute(&mut copies.end_ns, &order);
        permute(&mut copies.stream, &order);
        permute(&mut copies.correlation, &order);
        permute(&mut copies.bytes, &order);
        permute(&mut copies.kind, &order);
        permute(&mut copies.source, &order);
        permute(&mut copies.destination, &order);
        permute(&mut copies.graph_node, &order);
    }
    let memsets = &mut timeline.memsets;
    if let Some(order) = order(memsets.len(), |row| memsets.start_ns[row]) {
        permute(&mut memsets.start_ns, &order);
        permute(&mut memsets.end_ns, &order);
        permute(&mut memsets.stream, &order);
        permute(&mut memsets.correlation, &order);
        permute(&mut memsets.bytes, &order);
        permute(&mut memsets.value, &order);
        permute(&mut memsets.memory, &order);
        permute(&mut memsets.graph_node, &order);
    }
    let graphs = &mut timeline.graphs;
    if let Some(order) = order(graphs.len(), |row| graphs.start_ns[row]) {
        permute(&mut graphs.start_ns, &order);
        permute(&mut graphs.end_ns, &order);
        permute(&mut graphs.stream, &order);
        permute(&mut graphs.correlation, &order);
        permute(&mut graphs.graph, &order);
        permute(&mut graphs.executable, &order);
    }
    let syncs = &mut timeline.syncs;
    if let Some(order) = order(syncs.len(), |row| syncs.start_ns[row]) {
        permute(&mut syncs.start_ns, &order);
        permute(&mut syncs.end_ns, &order);
        permute(&mut syncs.stream, &order);
        permute(&mut syncs.correlation, &order);
        permute(&mut syncs.kind, &order);
        permute(&mut syncs.event, &order);
    }
}

/// From correlation id to row of the API call, for one process.
enum Lookup {
    Dense(Vec<u32>),
    Sparse(FxHashMap<u32, u32>),
}

impl Lookup {
    fn get(&self, correlation: u32) -> u32 {
        match self {
            Self::Dense(rows) => rows.get(correlation as usize).copied().unwrap_or(NO_ROW),
            Self::Sparse(rows) => rows.get(&correlation).copied().unwrap_or(NO_ROW),
        }
    }
    fn put(&mut self, correlation: u32, row: u32) {
        match self {
            Self::Dense(rows) => rows[correlation as usize] = row,
            Self::Sparse(rows) => {
                rows.insert(correlation, row);
            }
        }
    }
}

/// True if a call of this name puts work on a device.
fn puts_work(name: &str) -> bool {
    const VERBS: [&str; 5] = ["Launch", "Memcpy", "Memset", "Prefetch", "MemPrefetch"];
    VERBS.iter().any(|verb| name.contains(verb))
}

fn lookups(timeline: &Timeline) -> Vec<Lookup> {
    let api = &timeline.api;
    let mut highest = vec![0_u32; timeline.processes.len()];
    let mut calls = vec![0_usize; timeline.processes.len()];
    for row in 0..api.len() {
        let process = timeline.threads[api.thread[row] as usize].process as usize;
        highest[process] = highest[process].max(api.correlation[row]);
        calls[process] += 1;
    }
    let mut lookups: Vec<Lookup> = highest
        .iter()
        .zip(&calls)
        .map(|(highest, calls)| {
            if *highest as usize <= DENSE_FACTOR * calls + 1024 {
                Lookup::Dense(vec![NO_ROW; *highest as usize + 1])
            } else {
                Lookup::Sparse(FxHashMap::default())
            }
        })
        .collect();
    let mut works = Works { strings: &timeline.strings, known: Vec::new() };
    for row in 0..api.len() {
        let correlation = api.correlation[row];
        if correlation == 0 || !api.class[row].is_call() {
            continue;
        }
        let process = timeline.threads[api.thread[row] as usize].process as usize;
        let lookup = &mut lookups[process];
        let before = lookup.get(correlation);
        if before == NO_ROW || (!works.puts_work(api.name[before as usize]) && works.puts_work(api.name[row])) {
            lookup.put(correlation, row as u32);
        }
    }
    lookups
}

/// Remembers which names put work on a device.
struct Works<'a> {
    strings: &'a StringTable,
    known: Vec<Option<bool>>,
}

impl Works<'_> {
    fn puts_work(&mut self, name: StringId) -> bool {
        let index = name.0 as usize;
        if self.known.len() <= index {
            self.known.resize(self.strings.len().max(index + 1), None);
        }
        *self.known[index].get_or_insert_with(|| puts_work(self.strings.get(name)))
    }
}

fn link(timeline: &mut Timeline) {
    let lookups = lookups(timeline);
    let join = |streams: &[Stream], stream: &[u32], correlation: &[u32]| -> Vec<u32> {
        stream
            .iter()
            .zip(correlation)
            .map(|(stream, correlation)| match correlation {
                0 => NO_ROW,
                id => lookups.get(streams[*stream as usize].process as usize).map_or(NO_ROW, |rows| rows.get(*id)),
            })
            .collect()
    };
    timeline.kernels.call = join(&timeline.streams, &timeline.kernels.stream, &timeline.kernels.correlation);
    timeline.copies.call = join(&timeline.streams, &timeline.copies.stream, &timeline.copies.correlation);
    timeline.memsets.call = join(&timeline.streams, &timeline.memsets.stream, &timeline.memsets.correlation);
    timeline.graphs.call = join(&timeline.streams, &timeline.graphs.stream, &timeline.graphs.correlation);
    timeline.syncs.call = join(&timeline.streams, &timeline.syncs.stream, &timeline.syncs.correlation);
}

#[cfg(test)]
mod tests {
    use super::super::builder::TimelineBuilder;
    use super::super::host::{ApiClass, RangeKind};
    use super::NO_ROW;

    #[test]
    fn a_kernel_is_joined_within_its_process_only() {
        let mut b = TimelineBuilder::new();
        let (p, q) = (b.process(10), b.process(20));
        let (tp, tq) = (b.thread(p, 10), b.thread(q, 20));
        let device = b.device(0);
        let (sp, sq) = (b.stream(p, device, 7), b.stream(q, device, 7));
        b.call(tq, "cudaLaunchKernel_v7000", 5, 6, 1);
        b.call(tp, "cudaLaunchKernel_v7000", 1, 2, 1);
        b.kernel(sq, "late", 30, 40, 1);
        b.kernel(sp, "early", 10, 20, 1);
        b.kernel(sp, "unlinked", 50, 60, 9);
        let t = b.finish();
        let names: Vec<&str> = t.kernels.name.iter().map(|name| t.text(t.kernel_names[*name as usize].short)).collect();
        assert_eq!(names, ["early", "late", "unlinked"]);
        let starts: Vec<Option<i64>> =
            t.kernels.call.iter().map(|call| (*call != NO_ROW).then(|| t.api.start_ns[*call as usize])).collect();
        assert_eq!(starts, [Some(1), Some(5), None]);
    }

    #[test]
    fn a_second_record_of_a_call_is_left_out_and_a_launching_call_goes_first() {
        let mut b = TimelineBuilder::new();
        let p = b.process(1);
        let thread = b.thread(p, 1);
        let device = b.device(0);
        let stream = b.stream(p, device, 7);
        b.call(thread, "cuCtxSynchronize", 1, 2, 5);
        b.call(thread, "cuLaunchKernel", 3, 4, 5);
        b.call(thread, "cuLaunchKernel", 0, 9, 5);
        *b.timeline().api.class.last_mut().unwrap() = ApiClass::BACKTRACE;
        b.kernel(stream, "k", 10, 11, 5);
        let t = b.finish();
        assert_eq!(t.api.start_ns[t.kernels.call[0] as usize], 3);
    }

    #[test]
    fn ranges_come_outermost_first_and_open_ones_end_at_the_last_time() {
        let mut b = TimelineBuilder::new();
        let p = b.process(1);
        let thread = b.thread(p, 1);
        b.range(thread, "inner", 10, Some(20));
        b.range(thread, "outer", 10, Some(30));
        b.range(thread, "open", 5, None);
        b.range_of(RangeKind::StartEnd, thread, "d", "last", 40, Some(50));
        let t = b.finish();
        let names: Vec<&str> = t.ranges.name.iter().map(|name| t.text(*name)).collect();
        assert_eq!(names, ["open", "outer", "inner", "last"]);
        assert_eq!(t.ranges.end_ns[0], 50);
        assert!(t.ranges.is_open(0) && !t.ranges.is_open(1));
    }
}
