//! Who did what where: processes, threads and GPU streams of a trace, as its events name them.
//!
//! Events of a GPU carry the device where host events carry the process, and nothing in them says which process the work belongs to. So
//! they get a [`Track`] first; `finish` finds the process.

use rustc_hash::FxHashMap;

use super::scan::{Value, unescape};
use crate::trace::places::{Process, Thread};
use crate::trace::strings::{StringId, StringTable};

/// An id as written: a number, a number in quotes, or a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Id {
    /// The key is missing.
    None,
    Number(i64),
    Word(StringId),
}

impl Id {
    pub(super) fn read(value: Option<Value<'_>>, strings: &mut StringTable) -> Self {
        let Some(value) = value else { return Self::None };
        if let Some(number) = value.number() {
            return Self::Number(number);
        }
        match value {
            Value::String(text) => {
                let mut scratch = String::new();
                let text = unescape(text, &mut scratch);
                match text.trim().parse() {
                    Ok(number) => Self::Number(number),
                    Err(_) => Self::Word(strings.intern(text)),
                }
            }
            _ => Self::None,
        }
    }
    /// The number, or the one at the end of a word such as `stream 7`.
    pub(super) fn ordinal(self, strings: &StringTable) -> Option<i64> {
        match self {
            Self::None => None,
            Self::Number(number) => Some(number),
            Self::Word(word) => {
                let text = strings.get(word);
                let digits = text.len() - text.trim_end_matches(|c: char| c.is_ascii_digit()).len();
                text[text.len() - digits..].parse().ok()
            }
        }
    }
}

/// A stream of a GPU before its process is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Track {
    /// What stands in `pid`: the device.
    pub(super) pid: Id,
    pub(super) ordinal: u32,
    pub(super) context: u32,
    pub(super) stream: u64,
}

/// Processes, threads and tracks met so far.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    processes: FxHashMap<Id, u32>,
    threads: FxHashMap<(Id, Id), u32>,
    tracks: FxHashMap<Track, u32>,
    pub(super) track_list: Vec<Track>,
    pub(super) process_ids: Vec<Id>,
    pub(super) thread_ids: Vec<(Id, Id)>,
    /// The thread of the event before: most events come in runs.
    last: Option<((Id, Id), u32)>,
}

impl Lanes {
    /// Row of a host thread, new or known.
    pub(super) fn thread(&mut self, pid: Id, tid: Id, processes: &mut Vec<Process>, threads: &mut Vec<Thread>) -> u32 {
        if let Some((ids, row)) = self.last
            && ids == (pid, tid)
        {
            return row;
        }
        let row = *self.threads.entry((pid, tid)).or_insert_with(|| {
            let process = *self.processes.entry(pid).or_insert_with(|| {
                self.process_ids.push(pid);
                processes.push(process_of(pid));
                (processes.len() - 1) as u32
            });
            self.thread_ids.push((pid, tid));
            threads.push(thread_of(process, tid));
            (threads.len() - 1) as u32
        });
        self.last = Some(((pid, tid), row));
        row
    }
    /// Row of a track, new or known.
    pub(super) fn track(&mut self, track: Track) -> u32 {
        *self.tracks.entry(track).or_insert_with(|| {
            self.track_list.push(track);
            (self.track_list.len() - 1) as u32
        })
    }
}

fn process_of(pid: Id) -> Process {
    let (pid, name) = match pid {
        Id::Number(number) => (u32::try_from(number).unwrap_or(0), None),
        Id::Word(word) => (0, Some(word)),
        Id::None => (0, None),
    };
    Process { pid, name, ..Process::default() }
}

fn thread_of(process: u32, tid: Id) -> Thread {
    let (tid, name) = match tid {
        // Files of 2020 and 2021 have the lower half of a pthread handle, as a signed number.
        Id::Number(number) => (i32::try_from(number).map_or(number as u64, |low| u64::from(low as u32)), None),
        Id::Word(word) => (0, Some(word)),
        Id::None => (0, None),
    };
    Thread { process, tid, name, ..Thread::default() }
}
