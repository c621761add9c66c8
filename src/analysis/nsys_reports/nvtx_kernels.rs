//! Kernels by the NVTX ranges around their launch.

use rustc_hash::{FxHashMap, FxHashSet};

use super::calls::{CallIndex, duration, ids_of_thread};
use super::csv::Csv;
use super::enclosing::{enclosing_rows, segments};
use super::kernels::KernelGroups;
use super::nvtx::{RangeNames, Style, has_table};
use super::summary::Collector;
use super::{KernelNaming, KernelOptions};
use crate::trace::timeline::Timeline;

/// Where kernels were launched from: process id and thread id, `None` for a kernel without call; name and style of the range, `None` for a
/// call in no range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Caller {
    thread: Option<(u32, u64)>,
    range: Option<(u32, Style)>,
}

#[derive(Debug, Default)]
struct Callers {
    names: RangeNames,
    places: Vec<Caller>,
    known: FxHashMap<Caller, u32>,
}

impl Callers {
    fn id(&mut self, caller: Caller) -> u32 {
        *self.known.entry(caller).or_insert_with(|| {
            self.places.push(caller);
            (self.places.len() - 1) as u32
        })
    }
}

/// What kernels are grouped by: a caller and a kernel name.
type Key = (u32, u32);

#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    ranges: u64,
    kernels: u64,
    last_kernel: Option<u32>,
}

/// Kernel names already seen in a range: a list while there are few.
#[derive(Debug, Default)]
struct Seen {
    few: Vec<u32>,
    many: FxHashSet<u32>,
}

impl Seen {
    const FEW: usize = 16;

    fn clear(&mut self) {
        self.few.clear();
        self.many.clear();
    }
    /// True for the first time.
    fn insert(&mut self, name: u32) -> bool {
        if self.few.len() < Self::FEW {
            let new = !self.few.contains(&name);
            if new {
                self.few.push(name);
            }
            return new;
        }
        !self.few.contains(&name) && self.many.insert(name)
    }
}

/// A range that is open while a thread is swept.
#[derive(Debug)]
struct Open {
    end: i64,
    caller: u32,
    seen: Seen,
}

/// Kernels of every call: those of row `call` are `kernels[starts[call]..starts[call + 1]]`.
#[derive(Debug)]
struct KernelsOfCalls {
    starts: Vec<u32>,
    kernels: Vec<u32>,
    /// Kernels joined with several calls.
    several: FxHashSet<u32>,
    /// Kernels joined with none.
    without: Vec<u32>,
}

impl KernelsOfCalls {
    fn new(timeline: &Timeline) -> Self {
        let index = CallIndex::new(timeline);
        let kernels = &timeline.kernels;
        let calls = |kernel: usize| {
            let stream = kernels.stream[kernel] as usize;
            index.calls(timeline.streams[stream].process, kernels.correlation[kernel])
        };
        let mut starts = vec![0_u32; timeline.api.len() + 1];
        let mut several = FxHashSet::default();
        let mut without = Vec::new();
        for kernel in 0..kernels.len() {
            let calls = calls(kernel);
            match calls.len() {
                0 => without.push(kernel as u32),
                1 => {}
                _ => {
                    several.insert(kernel as u32);
                }
            }
            for call in calls {
                starts[*call as usize + 1] += 1;
            }
        }
        for call in 0..timeline.api.len() {
            starts[call + 1] += starts[call];
        }
        let mut next = starts.clone();
        let mut of_calls = vec![0_u32; starts.last().copied().unwrap_or(0) as usize];
        for kernel in 0..kernels.len() {
            for call in calls(kernel) {
                let next = &mut next[*call as usize];
                of_calls[*next as usize] = kernel as u32;
                *next += 1;
            }
        }
        Self { starts, kernels: of_calls, several, without }
    }
    fn of(&self, call: usize) -> &[u32] {
        &self.kernels[self.starts[call] as usize..self.starts[call + 1] as usize]
    }
}

/// Calls `visit` for every pair of a kernel and a range around its launch: kernel, key, whether the range has this kernel name for the
/// first time.
fn sweep(
    timeline: &Timeline,
    kernels: &KernelsOfCalls,
    kernel_names: &KernelGroups<'_>,
    callers: &mut Callers,
    mut visit: impl FnMut(u32, Key, bool),
) {
    if !kernels.without.is_empty() {
        let caller = callers.id(Caller { thread: None, range: None });
        for kernel in &kernels.without {
            visit(*kernel, (caller, kernel_names.group(*kernel as usize)), false);
        }
    }
    let (api, ranges) = (&timeline.api, &timeline.ranges);
    let threads = timeline.threads.len();
    let mut spare: Vec<Seen> = Vec::new();
    for (thread, (calls, rows)) in
        segments(&api.thread, threads).into_iter().zip(segments(&ranges.thread, threads)).enumerate()
    {
        let thread = Some(ids_of_thread(timeline, thread as u32));
        let rows = enclosing_rows(timeline, rows);
        let mut rows = rows.iter().map(|row| *row as usize).peekable();
        let mut open: Vec<Open> = Vec::new();
        for call in calls {
            let of_call = kernels.of(call);
            if of_call.is_empty() {
                continue;
            }
            let (start, end) = (api.start_ns[call], api.end_ns[call]);
            while let Some(row) = rows.next_if(|row| ranges.start_ns[*row] <= start) {
                while let Some(mut over) = open.pop_if(|top| top.end < ranges.start_ns[row]) {
                    over.seen.clear();
                    spare.push(over.seen);
                }
                if ranges.end_ns[row] >= start {
                    let range = Some((callers.names.id(timeline, row), Style::of(ranges.kind[row])));
                    let caller = callers.id(Caller { thread, range });
                    open.push(Open { end: ranges.end_ns[row], caller, seen: spare.pop().unwrap_or_default() });
                }
            }
            // Ranges that cross may be over below the top.
            if open.iter().filter(|range| range.end < start).count() * 2 > open.len() {
                open.retain(|range| range.end >= start);
            }
            for kernel in of_call {
                let name = kernel_names.group(*kernel as usize);
                let mut in_none = true;
                for range in open.iter_mut().filter(|range| range.end >= end) {
                    in_none = false;
                    let first = range.seen.insert(name);
                    visit(*kernel, (range.caller, name), first);
                }
                if in_none {
                    visit(*kernel, (callers.id(Caller { thread, range: None }), name), false);
                }
            }
        }
    }
}

/// Position of each text among all in order.
fn ranks<'t>(count: usize, text: impl Fn(usize) -> &'t str) -> Vec<u32> {
    let mut order: Vec<u32> = (0..count as u32).collect();
    order.sort_unstable_by_key(|id| text(*id as usize));
    let mut ranks = vec![0; count];
    for (rank, id) in order.into_iter().enumerate() {
        ranks[id as usize] = rank as u32;
    }
    ranks
}

/// `nvtx_kern_sum`. A kernel counts in every range around its launch; one in no range has a line without range.
pub(super) fn kern_sum(timeline: &Timeline, naming: KernelNaming) -> String {
    let tables = [
        ("nvtx", timeline.ranges.kind.iter().filter(|kind| kind.is_nvtx()).take(1).count()),
        ("runtime", timeline.api.len()),
    ];
    if !tables.iter().all(|(kind, rows)| has_table(timeline, kind, *rows)) {
        return String::new();
    }
    let kernel_names = KernelGroups::new(timeline, KernelOptions { naming, nvtx_name: false });
    let kernels = KernelsOfCalls::new(timeline);
    let mut callers = Callers::default();
    let mut keys: Vec<Key> = Vec::new();
    let mut counts: Vec<Counts> = Vec::new();
    let mut known: FxHashMap<Key, u32> = FxHashMap::default();
    let mut twice: FxHashSet<(u32, u32)> = FxHashSet::default();
    let mut collector = Collector::default();
    sweep(timeline, &kernels, &kernel_names, &mut callers, |kernel, key, first| {
        let group = *known.entry(key).or_insert_with(|| {
            keys.push(key);
            counts.push(Counts::default());
            (keys.len() - 1) as u32
        });
        let counts = &mut counts[group as usize];
        counts.ranges += u64::from(first);
        // The calls of one kernel come one after another unless it is joined with several.
        let new = if kernels.several.contains(&kernel) {
            twice.insert((group, kernel))
        } else {
            counts.last_kernel != Some(kernel)
        };
        counts.kernels += u64::from(new);
        counts.last_kernel = Some(kernel);
        collector.add(group, duration(timeline, kernel as usize));
    });
    collector.start_filling();
    sweep(timeline, &kernels, &kernel_names, &mut callers, |kernel, key, _| {
        collector.add(known[&key], duration(timeline, kernel as usize));
    });
    let summaries = collector.finish();

    let caller = |group: usize| callers.places[keys[group].0 as usize];
    let range_ranks = ranks(callers.names.len(), |id| callers.names.text(id as u32));
    let kernel_ranks = ranks(kernel_names.len(), |id| kernel_names.name(id as u32));
    let mut order: Vec<usize> = (0..keys.len()).collect();
    // `None` sorts before any value, as NULL does.
    order.sort_by_cached_key(|group| {
        let Caller { thread, range } = caller(*group);
        let total = summaries[*group].map_or(0, |summary| summary.total);
        let range_rank = range.map(|(name, _)| range_ranks[name as usize]);
        (range_rank, thread, -total, range.map(|(_, style)| style), kernel_ranks[keys[*group].1 as usize])
    });
    let mut csv = Csv::new(&[
        "NVTX Range",
        "Style",
        "PID",
        "TID",
        "NVTX Inst",
        "Kern Inst",
        "Total Time (ns)",
        "Avg (ns)",
        "Med (ns)",
        "Min (ns)",
        "Max (ns)",
        "StdDev (ns)",
        "Kernel Name",
    ]);
    for group in order {
        let Some(summary) = summaries[group] else { continue };
        match caller(group).range {
            Some((name, style)) => {
                csv.text(callers.names.text(name));
                csv.text(style.text());
            }
            None => (0..2).for_each(|_| csv.empty()),
        }
        match caller(group).thread {
            Some((pid, tid)) => {
                csv.int(pid);
                csv.int(tid);
            }
            None => (0..2).for_each(|_| csv.empty()),
        }
        csv.int(counts[group].ranges);
        csv.int(counts[group].kernels);
        csv.int(summary.total);
        csv.tenth(summary.mean);
        csv.tenth(summary.median);
        csv.int(summary.min);
        csv.int(summary.max);
        csv.tenth(summary.deviation);
        csv.text(kernel_names.name(keys[group].1));
        csv.end_row();
    }
    csv.finish()
}

#[cfg(test)]
mod tests {
    use super::Seen;

    #[test]
    fn a_name_is_new_once_however_many_there_are() {
        let mut seen = Seen::default();
        for _ in 0..2 {
            for name in 0..100 {
                assert!(seen.insert(name));
            }
            assert!((0..100).all(|name| !seen.insert(name)));
            seen.clear();
        }
    }
}
