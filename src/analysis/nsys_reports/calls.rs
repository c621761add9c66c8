//! Which calls launched a kernel as a plain SQL join sees it, and the report on launch, wait and execution.

use std::cmp::Ordering;

use rustc_hash::FxHashMap;

use super::KernelOptions;
use super::csv::{Csv, round_tenths};
use super::kernels::KernelGroups;
use super::summary::{Collector, Summary};
use crate::trace::places::NO_ROW;
use crate::trace::strings::StringTable;
use crate::trace::timeline::Timeline;

/// Marks an entry of which there are several; rows stay below it.
const SEVERAL: u32 = 1 << 31;
/// Correlation ids up to this many times the number of calls are looked up in a plain vector.
const DENSE_FACTOR: usize = 8;

/// All API calls by (process, correlation id). Unlike `Kernels::call` it keeps every record that shares an id, second records included.
#[derive(Debug)]
pub(super) struct CallIndex {
    /// For each process the row of the call, or [`SEVERAL`] and an index into `several`, or [`NO_ROW`].
    processes: Vec<Lookup>,
    several: Vec<Vec<u32>>,
}

#[derive(Debug)]
enum Lookup {
    Dense(Vec<u32>),
    Sparse(FxHashMap<u32, u32>),
}

impl CallIndex {
    pub(super) fn new(timeline: &Timeline) -> Self {
        let api = &timeline.api;
        let process_of = |row: usize| timeline.threads[api.thread[row] as usize].process as usize;
        let mut sizes = vec![(0_u32, 0_usize); timeline.processes.len()];
        for row in 0..api.len() {
            let (highest, calls) = &mut sizes[process_of(row)];
            *highest = (*highest).max(api.correlation[row]);
            *calls += 1;
        }
        let mut processes: Vec<Lookup> = sizes
            .into_iter()
            .map(|(highest, calls)| {
                if highest as usize <= DENSE_FACTOR * calls + 1024 {
                    Lookup::Dense(vec![NO_ROW; highest as usize + 1])
                } else {
                    Lookup::Sparse(FxHashMap::default())
                }
            })
            .collect();
        let mut several: Vec<Vec<u32>> = Vec::new();
        for row in 0..api.len() {
            let correlation = api.correlation[row];
            if correlation == 0 {
                continue;
            }
            let entry = match &mut processes[process_of(row)] {
                Lookup::Dense(rows) => &mut rows[correlation as usize],
                Lookup::Sparse(rows) => rows.entry(correlation).or_insert(NO_ROW),
            };
            if *entry == NO_ROW {
                *entry = row as u32;
            } else if *entry & SEVERAL == 0 {
                several.push(vec![*entry, row as u32]);
                *entry = SEVERAL | (several.len() - 1) as u32;
            } else {
                several[(*entry & !SEVERAL) as usize].push(row as u32);
            }
        }
        Self { processes, several }
    }
    /// Rows of the calls of `process` with this correlation id.
    pub(super) fn calls(&self, process: u32, correlation: u32) -> &[u32] {
        let Some(lookup) = self.processes.get(process as usize) else { return &[] };
        let entry = match lookup {
            Lookup::Dense(rows) => rows.get(correlation as usize),
            Lookup::Sparse(rows) => rows.get(&correlation),
        };
        match entry {
            None | Some(&NO_ROW) => &[],
            Some(entry) if *entry & SEVERAL == 0 => std::slice::from_ref(entry),
            Some(entry) => &self.several[(*entry & !SEVERAL) as usize],
        }
    }
    /// The calls that share an id with another.
    pub(super) fn shared(&self) -> &[Vec<u32>] {
        &self.several
    }
}

/// The name as nsys prints it: without `_v` and four characters at the end.
pub(super) fn without_version(name: &str) -> &str {
    match name.char_indices().rev().nth(5) {
        Some((at, _)) if name[at..].starts_with("_v") => &name[..at],
        _ => name,
    }
}

/// Process and thread id of a thread as the operating system has them.
pub(super) fn ids_of_thread(timeline: &Timeline, thread: u32) -> (u32, u64) {
    let thread = &timeline.threads[thread as usize];
    (timeline.processes.get(thread.process as usize).map_or(0, |process| process.pid), thread.tid)
}

/// What kernels are grouped by: process id, thread id, device ordinal, function, kernel name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    pid: u32,
    tid: u64,
    device: u32,
    function: u32,
    kernel: u32,
}

/// Kernels joined with the calls that launched them.
struct Launches<'a> {
    timeline: &'a Timeline,
    /// Rows of kernel and call.
    rows: Vec<(u32, u32)>,
    /// Group of each row.
    group: Vec<u32>,
}

impl Launches<'_> {
    fn summaries(&self, groups: usize, value: impl Fn(&Timeline, usize, usize) -> Option<i64>) -> Vec<Option<Summary>> {
        Collector::collect(groups, |out| {
            for ((kernel, call), group) in self.rows.iter().zip(&self.group) {
                if let Some(value) = value(self.timeline, *kernel as usize, *call as usize) {
                    out.add(*group, value);
                }
            }
        })
    }
}

/// `cuda_kern_exec_sum`.
pub(super) fn kern_exec_sum(timeline: &Timeline, options: KernelOptions) -> String {
    let names = KernelGroups::new(timeline, options);
    let index = CallIndex::new(timeline);
    let mut functions = StringTable::default();
    let mut function_of: FxHashMap<u32, u32> = FxHashMap::default();
    let mut keys: Vec<Key> = Vec::new();
    let mut known: FxHashMap<Key, u32> = FxHashMap::default();
    let mut joined = Launches { timeline, rows: Vec::new(), group: Vec::new() };
    let mut last: Option<(Key, u32)> = None;
    for kernel in 0..timeline.kernels.len() {
        let stream = timeline.streams[timeline.kernels.stream[kernel] as usize];
        for call in index.calls(stream.process, timeline.kernels.correlation[kernel]) {
            let name = timeline.api.name[*call as usize];
            let function =
                *function_of.entry(name.0).or_insert_with(|| functions.intern(without_version(timeline.text(name))).0);
            let (pid, tid) = ids_of_thread(timeline, timeline.api.thread[*call as usize]);
            let key = Key { pid, tid, device: stream.ordinal, function, kernel: names.group(kernel) };
            let group = match last {
                Some((before, group)) if before == key => group,
                _ => *known.entry(key).or_insert_with(|| {
                    keys.push(key);
                    (keys.len() - 1) as u32
                }),
            };
            last = Some((key, group));
            joined.rows.push((kernel as u32, *call));
            joined.group.push(group);
        }
    }
    let whole = joined.summaries(keys.len(), |t, kernel, call| {
        Some(t.kernels.end_ns[kernel].max(t.api.end_ns[call]).saturating_sub(t.api.start_ns[call]))
    });
    let api = joined.summaries(keys.len(), |t, _, call| Some(t.api.end_ns[call].saturating_sub(t.api.start_ns[call])));
    let queue = joined.summaries(keys.len(), |t, kernel, call| {
        Some(t.kernels.start_ns[kernel].saturating_sub(t.api.end_ns[call])).filter(|wait| *wait >= 0)
    });
    let execution = joined.summaries(keys.len(), |t, kernel, _| Some(duration(t, kernel)));

    let function_text = |key: &Key| functions.get(crate::trace::strings::StringId(key.function));
    let mut order: Vec<usize> = (0..keys.len()).collect();
    order.sort_by(|a, b| {
        let (a, b) = (&keys[*a], &keys[*b]);
        (a.pid, a.tid, a.device)
            .cmp(&(b.pid, b.tid, b.device))
            .then_with(|| function_text(a).cmp(function_text(b)))
            .then_with(|| names.name(a.kernel).cmp(names.name(b.kernel)))
    });
    // By the mean as it is printed; equal ones keep the order of their groups.
    let printed = |group: usize| whole[group].map_or(0.0, |summary| round_tenths(summary.mean));
    order.sort_by(|a, b| printed(*b).partial_cmp(&printed(*a)).unwrap_or(Ordering::Equal));

    let mut csv = Csv::new(&[
        "PID",
        "TID",
        "DevId",
        "Count",
        "QCount",
        "TAvg (ns)",
        "TMed (ns)",
        "TMin (ns)",
        "TMax (ns)",
        "TStdDev (ns)",
        "AAvg (ns)",
        "AMed (ns)",
        "AMin (ns)",
        "AMax (ns)",
        "AStdDev (ns)",
        "QAvg (ns)",
        "QMed (ns)",
        "QMin (ns)",
        "QMax (ns)",
        "QStdDev (ns)",
        "KAvg (ns)",
        "KMed (ns)",
        "KMin (ns)",
        "KMax (ns)",
        "KStdDev (ns)",
        "API Name",
        "Kernel Name",
    ]);
    for group in order {
        let key = &keys[group];
        csv.int(key.pid);
        csv.int(key.tid);
        csv.int(key.device);
        csv.int(whole[group].map_or(0, |summary| summary.count));
        csv.int(queue[group].map_or(0, |summary| summary.count));
        for summary in [&whole[group], &api[group], &queue[group], &execution[group]] {
            if let Some(summary) = summary {
                csv.tenth(summary.mean);
                csv.tenth(summary.median);
                csv.int(summary.min);
                csv.int(summary.max);
                csv.tenth(summary.deviation);
            } else {
                // nsys has a deviation of 0 where it has no values.
                (0..4).for_each(|_| csv.empty());
                csv.tenth(0.0);
            }
        }
        csv.text(function_text(key));
        csv.text(names.name(key.kernel));
        csv.end_row();
    }
    csv.finish()
}

/// Duration of a kernel, ns.
pub(super) fn duration(timeline: &Timeline, kernel: usize) -> i64 {
    timeline.kernels.end_ns[kernel].saturating_sub(timeline.kernels.start_ns[kernel])
}

#[cfg(test)]
mod tests {
    use super::without_version;

    #[test]
    fn a_version_of_four_characters_is_dropped_and_others_stay() {
        for (name, printed) in [
            ("cudaLaunchKernel_v7000", "cudaLaunchKernel"),
            ("cudaLaunchKernelExC_v11060", "cudaLaunchKernelExC_v11060"),
            ("cuMemcpyHtoDAsync_v2", "cuMemcpyHtoDAsync_v2"),
            ("cudaLaunchKernel_ptsz", "cudaLaunchKernel_ptsz"),
            ("_v1000", ""),
            ("_v10", "_v10"),
            ("é_v1000", "é"),
        ] {
            assert_eq!(without_version(name), printed);
        }
    }
}
