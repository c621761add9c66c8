//! Serialised ids: 8 bits hardware, 8 bits virtual machine, 24 bits process, 24 bits thread.

use std::collections::BTreeSet;

use super::super::super::places::NO_ROW;
use super::super::super::timeline::Timeline;

const LOW_24: i64 = 0xFF_FFFF;

/// `globalPid` and `globalTid` of the processes and threads of a timeline: those of the file it was read from, else made of pid and tid with
/// hardware and virtual machine 0.
pub(super) struct GlobalIds {
    processes: Vec<i64>,
    threads: Vec<i64>,
    /// Which processes have anything: threads or streams.
    pub(super) active: Vec<bool>,
    /// Threads whose own id could not be used.
    pub(super) renumbered: usize,
}

impl GlobalIds {
    pub(super) fn new(timeline: &Timeline) -> Self {
        let mut taken = BTreeSet::new();
        let processes: Vec<i64> = timeline
            .processes
            .iter()
            .map(|process| {
                let mut id = match process.global_id {
                    0 => (i64::from(process.pid) & LOW_24) << 24,
                    id => id & !LOW_24,
                };
                // Files of several hosts may hold one pid twice; another virtual machine keeps them apart.
                while !taken.insert(id) {
                    id = id.wrapping_add(1 << 48);
                }
                id
            })
            .collect();
        let mut renumbered = 0;
        let mut taken = BTreeSet::new();
        let mut next = vec![1_i64; processes.len()];
        let mut threads = vec![0; timeline.threads.len()];
        // Threads that keep their id first, so that a made-up one never takes it.
        let own = |row: usize| {
            let thread = &timeline.threads[row];
            let process = processes.get(thread.process as usize).copied().unwrap_or(0);
            match thread.global_id {
                0 => i64::try_from(thread.tid).ok().filter(|tid| *tid <= LOW_24).map(|tid| process | tid),
                id => Some(process | (id & LOW_24)),
            }
        };
        let mut homeless = Vec::new();
        for (row, id) in threads.iter_mut().enumerate() {
            match own(row) {
                Some(wanted) if taken.insert(wanted) => *id = wanted,
                _ => homeless.push(row),
            }
        }
        for row in homeless {
            renumbered += 1;
            let process = timeline.threads[row].process as usize;
            let (Some(base), Some(next)) = (processes.get(process), next.get_mut(process)) else { continue };
            while *next < LOW_24 && !taken.insert(base | *next) {
                *next += 1;
            }
            threads[row] = base | *next;
        }
        let mut active = vec![false; processes.len()];
        let used = timeline.threads.iter().map(|thread| thread.process);
        for process in used.chain(timeline.streams.iter().map(|stream| stream.process)) {
            if let Some(active) = active.get_mut(process as usize) {
                *active = true;
            }
        }
        Self { processes, threads, active, renumbered }
    }
    /// `globalPid` of a process row.
    pub(super) fn process(&self, row: u32) -> Option<i64> {
        self.processes.get(row as usize).copied()
    }
    /// `globalTid` of a thread row; none for [`NO_ROW`].
    pub(super) fn thread(&self, row: u32) -> Option<i64> {
        (row != NO_ROW).then(|| self.threads.get(row as usize).copied()).flatten()
    }
}

/// Hardware id, virtual machine id and pid of a serialised id.
pub(super) fn parts(id: i64) -> (i64, i64, i64) {
    ((id >> 56) & 0xFF, (id >> 48) & 0xFF, (id >> 24) & LOW_24)
}
