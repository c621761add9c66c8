//! Finds the process that device work belongs to.
//!
//! A Kineto file is of one process, and then there is nothing to find. Files that a tool has joined hold several; there each operation goes to
//! the process that made the call with its correlation id, the latest before it began if several did.

use rustc_hash::FxHashMap;

use super::collect::Collector;
use super::lanes::{Id, Track};
use crate::trace::places::{Process, Stream};

/// Kineto puts Python threads it cannot place on process 0, thread 0, and no traced process has that id: where there is one other process it
/// is theirs.
pub(super) fn drop_process_zero(collector: &mut Collector) {
    let ids = &mut collector.lanes.process_ids;
    let Some(zero) = ids.iter().position(|id| *id == Id::Number(0)) else { return };
    if ids.len() != 2 {
        return;
    }
    ids.remove(zero);
    collector.timeline.processes.remove(zero);
    for thread in &mut collector.timeline.threads {
        thread.process = 0;
    }
}

/// Makes a stream of each pair of track and process and points the rows of the device at it.
pub(super) fn assign(collector: &mut Collector, device_of: impl Fn(&Track) -> u32) {
    let timeline = &mut collector.timeline;
    let tracks = std::mem::take(&mut collector.lanes.track_list);
    if tracks.is_empty() {
        return;
    }
    let calls = Calls::new(&timeline.api.correlation, &timeline.api.start_ns, |row| {
        timeline.threads[timeline.api.thread[row] as usize].process
    });
    if timeline.processes.is_empty() {
        // Device work only: its process is not in the file. The metadata of the device's lane names it.
        let name = collector.process_names.get(&tracks[0].pid).copied();
        timeline.processes.push(Process { name, ..Process::default() });
    }
    let mut stream_of: FxHashMap<(u32, u32), u32> = FxHashMap::default();
    let usual = usual_owners(collector, &tracks, &calls);
    let timeline = &mut collector.timeline;
    let mut streams: Vec<Stream> = Vec::new();
    let mut move_to = |rows: &mut [u32], starts: &[i64], correlations: &[u32]| {
        for ((row, start_ns), correlation) in rows.iter_mut().zip(starts).zip(correlations) {
            let process = calls.owner(*correlation, *start_ns).unwrap_or(usual[*row as usize]);
            *row = *stream_of.entry((*row, process)).or_insert_with(|| {
                let track = &tracks[*row as usize];
                streams.push(Stream {
                    process,
                    device: device_of(track),
                    ordinal: track.ordinal,
                    context: track.context,
                    stream: track.stream,
                });
                (streams.len() - 1) as u32
            });
        }
    };
    move_to(&mut timeline.kernels.stream, &timeline.kernels.start_ns, &timeline.kernels.correlation);
    move_to(&mut timeline.copies.stream, &timeline.copies.start_ns, &timeline.copies.correlation);
    move_to(&mut timeline.memsets.stream, &timeline.memsets.start_ns, &timeline.memsets.correlation);
    move_to(&mut timeline.graphs.stream, &timeline.graphs.start_ns, &timeline.graphs.correlation);
    move_to(&mut timeline.syncs.stream, &timeline.syncs.start_ns, &timeline.syncs.correlation);
    move_to(&mut timeline.events.stream, &timeline.events.time_ns, &timeline.events.correlation);
    for stream in streams {
        timeline.stream(stream);
    }
}

/// The process of each track for operations whose correlation id no call has: the one that owns most of the others of the track, else of the
/// same device, else the one with most calls.
fn usual_owners(collector: &Collector, tracks: &[Track], calls: &Calls) -> Vec<u32> {
    let timeline = &collector.timeline;
    let most_calls = (0..timeline.processes.len()).max_by_key(|process| {
        let count = calls.count.get(*process).copied().unwrap_or(0);
        (count, std::cmp::Reverse(*process))
    });
    let fallback = most_calls.unwrap_or(0) as u32;
    if calls.only.is_some() || calls.by_correlation.is_empty() {
        return vec![calls.only.unwrap_or(fallback); tracks.len()];
    }
    let mut votes: FxHashMap<(u32, u32), u64> = FxHashMap::default();
    let tables = [
        (&timeline.kernels.stream, &timeline.kernels.start_ns, &timeline.kernels.correlation),
        (&timeline.copies.stream, &timeline.copies.start_ns, &timeline.copies.correlation),
        (&timeline.memsets.stream, &timeline.memsets.start_ns, &timeline.memsets.correlation),
    ];
    for (rows, starts, correlations) in tables {
        for ((track, start_ns), correlation) in rows.iter().zip(starts).zip(correlations) {
            if let Some(process) = calls.owner(*correlation, *start_ns) {
                *votes.entry((*track, process)).or_default() += 1;
            }
        }
    }
    let winner = |wanted: &dyn Fn(u32) -> bool| {
        let mut sums: FxHashMap<u32, u64> = FxHashMap::default();
        for ((track, process), count) in &votes {
            if wanted(*track) {
                *sums.entry(*process).or_default() += count;
            }
        }
        sums.into_iter()
            .max_by_key(|(process, count)| (*count, std::cmp::Reverse(*process)))
            .map(|(process, _)| process)
    };
    let same_device = |one: &Track, other: &Track| (one.pid, one.ordinal) == (other.pid, other.ordinal);
    tracks
        .iter()
        .enumerate()
        .map(|(row, track)| {
            winner(&|other| other == row as u32)
                .or_else(|| winner(&|other| same_device(track, &tracks[other as usize])))
                .unwrap_or(fallback)
        })
        .collect()
}

/// Calls by correlation id, where more than one process makes any.
struct Calls {
    /// The only process that makes calls with a correlation id.
    only: Option<u32>,
    /// Sorted (correlation, begin, process); empty where one process makes them all.
    by_correlation: Vec<(u32, i64, u32)>,
    /// How many calls each process makes.
    count: Vec<u64>,
}

impl Calls {
    fn new(correlations: &[u32], starts: &[i64], process_of: impl Fn(usize) -> u32) -> Self {
        let mut count: Vec<u64> = Vec::new();
        for (row, correlation) in correlations.iter().enumerate() {
            let process = process_of(row) as usize;
            if count.len() <= process {
                count.resize(process + 1, 0);
            }
            count[process] += u64::from(*correlation != 0);
        }
        let mut callers = (0_u32..).zip(&count).filter(|(_, count)| **count > 0).map(|(process, _)| process);
        let only = match (callers.next(), callers.next()) {
            (Some(process), None) => Some(process),
            _ => None,
        };
        let mut by_correlation = Vec::new();
        if only.is_none() {
            let rows = correlations.iter().zip(starts).enumerate().filter(|(_, (correlation, _))| **correlation != 0);
            by_correlation.extend(rows.map(|(row, (correlation, start))| (*correlation, *start, process_of(row))));
            by_correlation.sort_unstable();
        }
        Self { only, by_correlation, count }
    }
    /// The process whose call an operation that begins at `start_ns` comes from: that of the latest call before it, else of the first.
    fn owner(&self, correlation: u32, start_ns: i64) -> Option<u32> {
        if self.only.is_some() {
            return self.only;
        }
        let after = self.by_correlation.partition_point(|(id, start, _)| (*id, *start) <= (correlation, start_ns));
        let is_same = |(id, ..): &&(u32, i64, u32)| *id == correlation;
        let before = after.checked_sub(1).and_then(|row| self.by_correlation.get(row)).filter(is_same);
        before.or_else(|| self.by_correlation.get(after).filter(is_same)).map(|(.., process)| *process)
    }
}
