//! Which track of the export each row goes to.

use std::io;

use super::out::{Out, Track};
use crate::trace::places::{Device, NO_ROW};
use crate::trace::timeline::Timeline;

/// Processes whose id is 0, too large or not their own are numbered from here.
const FIRST_PROCESS: i64 = 1_000_000_000;
/// GPUs are numbered from here, so that no process has their id.
const FIRST_DEVICE: i64 = 2_000_000_000;
/// The process of what has none; Kineto writes the same.
const NOBODY: i64 = -1;
/// Threads without a usable id, and further tracks, are numbered from here.
const FIRST_EXTRA: u64 = 1_000_000_000;
/// Ids above are not shown as they are by the viewer.
const LARGEST_ID: i64 = FIRST_PROCESS - 1;

/// Tracks of threads, streams and GPUs.
pub(super) struct Layout {
    pub(super) threads: Vec<Track>,
    pub(super) streams: Vec<Track>,
    pub(super) devices: Vec<i64>,
    processes: Vec<i64>,
    next_extra: u64,
}

impl Layout {
    pub(super) fn new(timeline: &Timeline) -> Self {
        let mut taken = rustc_hash::FxHashSet::default();
        let processes: Vec<i64> = (0_i64..)
            .zip(&timeline.processes)
            .map(|(row, process)| {
                let pid = i64::from(process.pid);
                let usable = pid != 0 && pid <= LARGEST_ID && taken.insert(pid);
                if usable { pid } else { FIRST_PROCESS + row }
            })
            .collect();
        let mut next_extra = FIRST_EXTRA;
        let mut taken = rustc_hash::FxHashSet::default();
        let threads = timeline
            .threads
            .iter()
            .map(|thread| {
                let pid = processes[thread.process as usize];
                let usable = thread.tid != 0 && thread.tid <= LARGEST_ID as u64 && taken.insert((pid, thread.tid));
                let tid = if usable { thread.tid } else { fresh(&mut next_extra) };
                Track { pid, tid }
            })
            .collect();
        let devices: Vec<i64> = (0..timeline.devices.len() as i64).map(|row| FIRST_DEVICE + row).collect();
        let streams = (1_u64..)
            .zip(&timeline.streams)
            .map(|(tid, stream)| Track { pid: devices[stream.device as usize], tid })
            .collect();
        Self { threads, streams, devices, processes, next_extra }
    }
    /// Track of a thread, or that of nobody.
    pub(super) fn thread(&self, row: u32) -> Track {
        if row == NO_ROW { Track { pid: NOBODY, tid: 1 } } else { self.threads[row as usize] }
    }
    /// Another track below `track`, named.
    pub(super) fn extra(&mut self, track: Track, name: &str, out: &mut Out<'_>) -> io::Result<Track> {
        let extra = Track { pid: track.pid, tid: fresh(&mut self.next_extra) };
        out.name("thread_name", extra, name)?;
        out.sort_index("thread_sort_index", extra, track.tid)?;
        Ok(extra)
    }
    /// Names all processes, GPUs, threads and streams.
    pub(super) fn write_names(&self, timeline: &Timeline, out: &mut Out<'_>) -> io::Result<()> {
        for (row, (process, pid)) in timeline.processes.iter().zip(&self.processes).enumerate() {
            let mut name = process.name.map_or_else(|| String::from("process"), |name| timeline.text(name).to_owned());
            if let Some(rank) = process.rank {
                name.push_str(&format!(" (rank {rank})"));
            }
            let track = Track { pid: *pid, tid: 0 };
            out.name("process_name", track, &name)?;
            out.sort_index("process_sort_index", track, row as u64)?;
        }
        for (thread, track) in timeline.threads.iter().zip(&self.threads) {
            if let Some(name) = thread.name {
                out.name("thread_name", *track, timeline.text(name))?;
            }
        }
        for (row, (device, pid)) in timeline.devices.iter().zip(&self.devices).enumerate() {
            let track = Track { pid: *pid, tid: 0 };
            let product = device.name.as_deref().map(|name| format!(" {name}")).unwrap_or_default();
            out.name("process_name", track, &format!("GPU {}{product}", device.ordinal))?;
            out.sort_index("process_sort_index", track, FIRST_DEVICE as u64 + row as u64)?;
        }
        for (stream, track) in timeline.streams.iter().zip(&self.streams) {
            // CUPTI has no stream for what concerns a whole context.
            let mut name =
                if stream.stream == u64::MAX { String::from("context") } else { format!("stream {}", stream.stream) };
            if timeline.processes.len() > 1 {
                name.push_str(&format!(" of process {}", self.processes[stream.process as usize]));
            }
            out.name("thread_name", *track, &name)?;
            out.sort_index("thread_sort_index", *track, track.tid)?;
        }
        Ok(())
    }
}

fn fresh(next: &mut u64) -> u64 {
    *next += 1;
    *next
}

/// A device as Kineto describes one.
pub(super) fn properties(device: &Device) -> serde_json::Value {
    let mut keys = serde_json::Map::new();
    keys.insert("id".into(), device.ordinal.into());
    let mut put = |key: &str, value: Option<serde_json::Value>| {
        if let Some(value) = value {
            keys.insert(key.to_owned(), value);
        }
    };
    put("name", device.name.as_deref().map(Into::into));
    put("totalGlobalMem", device.memory_bytes.map(Into::into));
    put("numSms", device.sm_count.map(Into::into));
    put("computeMajor", device.compute_capability.map(|(major, _)| major.into()));
    put("computeMinor", device.compute_capability.map(|(_, minor)| minor.into()));
    if let (Some(warps), Some(_)) = (device.max_warps_per_sm, device.compute_capability) {
        put("warpSize", Some(32.into()));
        put("maxThreadsPerMultiprocessor", Some((u64::from(warps) * 32).into()));
    }
    keys.into()
}

/// A thread or stream has no more tracks than this. On the last one spans may cross, and the viewer may drop some of them.
const MOST_TRACKS: usize = 256;

/// The tracks of one thread or stream: its own and those below.
#[derive(Debug, Default)]
pub(super) struct Stack {
    tracks: Vec<Track>,
    /// Ends of what is open on each track, outermost first.
    open: Vec<Vec<i64>>,
}

impl Stack {
    /// The first track on which the span crosses no other; with `nesting`, one that encloses it is no obstacle. `None` if there is none.
    /// Spans come in order of their begin.
    pub(super) fn place(&mut self, start_ns: i64, end_ns: i64, nesting: bool) -> Option<Track> {
        for (track, open) in self.tracks.iter().zip(&mut self.open) {
            while open.last().is_some_and(|end| *end <= start_ns) {
                open.pop();
            }
            if open.last().is_none_or(|end| nesting && *end >= end_ns) {
                open.push(end_ns);
                return Some(*track);
            }
        }
        if self.tracks.len() < MOST_TRACKS { None } else { self.tracks.last().copied() }
    }
    /// Adds a track on which the span goes.
    pub(super) fn add(&mut self, track: Track, end_ns: i64) {
        self.tracks.push(track);
        self.open.push(vec![end_ns]);
    }
    /// Number of tracks.
    pub(super) fn len(&self) -> usize {
        self.tracks.len()
    }
}
