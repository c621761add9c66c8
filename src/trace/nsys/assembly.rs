//! Puts the decoded chunks together: maps what they refer to onto processes, threads, devices, streams and strings of the timeline.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension};
use rustc_hash::FxHashMap;

use super::cells::{NULL_ID, Skips};
use super::facts::DeviceFacts;
use super::local::{Name, Names, readable};
use super::open::sqlite_error;
use super::schema::{Schema, quote};
use crate::diagnostics::{Diagnostic, Diagnostics, Severity};
use crate::trace::activity::OpRef;
use crate::trace::import::{ReadError, ReadErrorKind};
use crate::trace::places::{NO_ROW, Process, Stream, Thread};
use crate::trace::strings::StringId;
use crate::trace::timeline::Timeline;

/// Clears the thread from a `globalTid`: `<hardware:8><vm:8><pid:24><tid:24>`.
pub(super) const PROCESS_MASK: i64 = !0xFF_FFFF;

/// Process id in a `globalTid` or `globalPid`.
pub(super) fn pid_of(global: i64) -> u32 {
    ((global >> 24) & 0xFF_FFFF) as u32
}

/// Identity of a stream as the rows have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct StreamKey {
    pub(super) global_pid: i64,
    pub(super) device: u32,
    pub(super) context: u32,
    pub(super) stream: i64,
}

/// The timeline under construction.
pub(super) struct Assembly<'a> {
    pub(super) path: &'a Path,
    pub(super) file: u16,
    pub(super) timeline: Timeline,
    pub(super) diagnostics: Diagnostics,
    pub(super) facts: DeviceFacts,
    strings: Strings<'a>,
    processes: FxHashMap<i64, u32>,
    threads: FxHashMap<i64, u32>,
    devices: FxHashMap<DeviceKey, u32>,
    /// Name of each (process, domain id) that a row created.
    pub(super) domains: FxHashMap<(u32, i64), StringId>,
    /// The (process, domain id) that `ranges.domain` and `marks.domain` number until [`Self::name_domains`].
    pub(super) domain_keys: Vec<(u32, i64)>,
    pub(super) domain_rows: FxHashMap<(u32, i64), u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum DeviceKey {
    /// Row of `TARGET_INFO_GPU`.
    Gpu(usize),
    /// CUDA ordinal, where the file identifies no GPU.
    Ordinal(u32),
}

/// Looks texts up in `StringIds`, only those that something refers to.
struct Strings<'a> {
    path: &'a Path,
    source: StringSource<'a>,
    known: FxHashMap<i64, Option<StringId>>,
    cut: u64,
}

enum StringSource<'a> {
    /// The file has no such table.
    Missing,
    /// Looks up one row by its key.
    Keyed(&'a Connection, String),
    /// Edited files may have lost the key: every text by id.
    Loaded(FxHashMap<i64, Box<str>>),
}

impl<'a> Strings<'a> {
    fn new(path: &'a Path, connection: &'a Connection, schema: &Schema) -> Result<Self, ReadError> {
        let strings = |source| Self { path, source, known: FxHashMap::default(), cut: 0 };
        let Some(table) = schema.table(path, connection, "StringIds")? else {
            return Ok(strings(StringSource::Missing));
        };
        let (Some(id), Some(value)) = (table.column(&["id"]), table.column(&["value"])) else {
            return Ok(strings(StringSource::Missing));
        };
        let fail = |error| sqlite_error(path, &table.name, None, error);
        let keys: i64 = connection
            .query_row(
                "SELECT count(*) FROM pragma_table_xinfo(?1) WHERE pk > 0 AND lower(name) = 'id' AND upper(type) = 'INTEGER'",
                [&table.name],
                |row| row.get(0),
            )
            .map_err(fail)?;
        let (id, value, name) = (quote(id), quote(value), quote(&table.name));
        if keys == 1 {
            let sql = format!("SELECT {value} FROM {name} WHERE {id} = ?1");
            return Ok(strings(StringSource::Keyed(connection, sql)));
        }
        let mut texts = FxHashMap::default();
        let mut statement = connection.prepare(&format!("SELECT {id}, {value} FROM {name}")).map_err(fail)?;
        let mut rows = statement.query([]).map_err(fail)?;
        while let Some(row) = rows.next().map_err(fail)? {
            if let (Ok(rusqlite::types::ValueRef::Integer(id)), Ok(rusqlite::types::ValueRef::Text(text))) =
                (row.get_ref(0), row.get_ref(1))
            {
                texts.entry(id).or_insert_with(|| readable(text).0);
            }
        }
        Ok(strings(StringSource::Loaded(texts)))
    }
    /// The text of `id`, if the file has it.
    fn get(&mut self, id: i64, timeline: &mut Timeline) -> Result<Option<StringId>, ReadError> {
        if let Some(known) = self.known.get(&id) {
            return Ok(*known);
        }
        let text = match &self.source {
            StringSource::Missing => None,
            StringSource::Loaded(texts) => texts.get(&id).cloned(),
            StringSource::Keyed(connection, sql) => {
                let found = connection
                    .prepare_cached(sql)
                    .and_then(|mut statement| {
                        statement
                            .query_row([id], |row| {
                                Ok(match row.get_ref(0)? {
                                    rusqlite::types::ValueRef::Text(text) => Some(readable(text)),
                                    _ => None,
                                })
                            })
                            .optional()
                    })
                    .map_err(|error| sqlite_error(self.path, "StringIds", None, error))?;
                found.flatten().map(|(text, cut)| {
                    self.cut += u64::from(cut);
                    text
                })
            }
        };
        let interned = text.map(|text| timeline.strings.intern(&text));
        // nsys breaks ties in its reports by its own ids.
        timeline.string_ids.extend(interned.map(|interned| (interned, id)));
        self.known.insert(id, interned);
        Ok(interned)
    }
}

impl<'a> Assembly<'a> {
    pub(super) fn new(
        path: &'a Path,
        file: u16,
        connection: &'a Connection,
        schema: &Schema,
        facts: DeviceFacts,
    ) -> Result<Self, ReadError> {
        Ok(Self {
            path,
            file,
            timeline: Timeline::default(),
            diagnostics: Diagnostics::default(),
            facts,
            strings: Strings::new(path, connection, schema)?,
            processes: FxHashMap::default(),
            threads: FxHashMap::default(),
            devices: FxHashMap::default(),
            domains: FxHashMap::default(),
            domain_keys: Vec::new(),
            domain_rows: FxHashMap::default(),
        })
    }
    /// Adds the rows a chunk left out.
    pub(super) fn skipped(&mut self, table: &str, skips: &Skips) {
        self.diagnostics.extend(skips.diagnostics(table));
    }
    /// Interned texts of the names of a chunk. A name without text is `none`.
    pub(super) fn names(&mut self, names: &Names, none: &str) -> Result<Vec<StringId>, ReadError> {
        self.strings.cut += names.cut;
        let mut ids = Vec::with_capacity(names.keys.len());
        for name in &names.keys {
            ids.push(self.name(name, none)?);
        }
        Ok(ids)
    }
    /// Interned text of one name.
    pub(super) fn name(&mut self, name: &Name, none: &str) -> Result<StringId, ReadError> {
        let (id, text) = match name {
            Name::Id(id) => (Some(*id), None),
            Name::Text(text) => (None, Some(text)),
            Name::Both(id, text) => (Some(*id), Some(text)),
            Name::Nothing => (None, None),
        };
        if let Some(id) = id
            && let Some(found) = self.strings.get(id, &mut self.timeline)?
        {
            return Ok(found);
        }
        if let Some(text) = text {
            return Ok(self.timeline.strings.intern(text));
        }
        let Some(id) = id else { return Ok(self.timeline.strings.intern(none)) };
        self.diagnostics.note(
            "string_missing",
            Severity::Warn,
            format!("`StringIds` has no row {id}; what it names is shown as `<id {id}>`"),
        );
        Ok(self.timeline.strings.intern(&format!("<id {id}>")))
    }
    /// Row of the process a `globalPid` or `globalTid` belongs to. Rows without one go to the only process there is, else to "pid 0".
    pub(super) fn process(&mut self, global: i64) -> u32 {
        if global == NULL_ID {
            return match self.timeline.processes.len() {
                1 => 0,
                _ => self.process_row(0),
            };
        }
        self.process_row(global & PROCESS_MASK)
    }
    fn process_row(&mut self, global_id: i64) -> u32 {
        if let Some(row) = self.processes.get(&global_id) {
            return *row;
        }
        let row = self.timeline.processes.len() as u32;
        self.timeline.processes.push(Process {
            pid: pid_of(global_id),
            global_id,
            file: self.file,
            ..Process::default()
        });
        self.processes.insert(global_id, row);
        row
    }
    /// The process row of `global_pid` if it has any activity.
    pub(super) fn known_process(&self, global_pid: i64) -> Option<u32> {
        self.processes.get(&(global_pid & PROCESS_MASK)).copied()
    }
    /// The thread row of `global_tid` if it has any activity.
    pub(super) fn known_thread(&self, global_tid: i64) -> Option<u32> {
        self.threads.get(&global_tid).copied()
    }
    /// Row of a thread; rows without an id share one of their process.
    pub(super) fn thread(&mut self, global_tid: i64) -> u32 {
        if let Some(row) = self.threads.get(&global_tid) {
            return *row;
        }
        let process = self.process(global_tid);
        let (tid, global_id) =
            if global_tid == NULL_ID { (0, 0) } else { ((global_tid & 0xFF_FFFF) as u64, global_tid) };
        let row = self.timeline.threads.len() as u32;
        self.timeline.threads.push(Thread { process, tid, global_id, name: None });
        self.threads.insert(global_tid, row);
        row
    }
    /// Row of a thread, or `NO_ROW` for none.
    pub(super) fn thread_or_none(&mut self, global_tid: i64) -> u32 {
        if global_tid == NULL_ID { NO_ROW } else { self.thread(global_tid) }
    }
    /// Row of the GPU that a process calls `ordinal`.
    pub(super) fn device(&mut self, global_pid: i64, ordinal: u32) -> u32 {
        let gpu = self.facts.gpu_of(global_pid, ordinal);
        let key = gpu.map_or(DeviceKey::Ordinal(ordinal), DeviceKey::Gpu);
        if let Some(row) = self.devices.get(&key) {
            return *row;
        }
        let row = self.timeline.devices.len() as u32;
        self.timeline.devices.push(self.facts.device(gpu, ordinal, self.file));
        self.devices.insert(key, row);
        row
    }
    /// Rows of the streams of a chunk.
    pub(super) fn streams(&mut self, keys: &[StreamKey]) -> Vec<u32> {
        keys.iter().map(|key| self.stream(*key)).collect()
    }
    fn stream(&mut self, key: StreamKey) -> u32 {
        // CUPTI writes all ones for "not one stream", in 32 bits.
        const WHOLE_CONTEXT: i64 = u32::MAX as i64;
        let process = self.process(key.global_pid);
        let global = self.timeline.processes[process as usize].global_id;
        let device = self.device(global, key.device);
        let stream = if key.stream == WHOLE_CONTEXT { u64::MAX } else { key.stream as u64 };
        self.timeline.stream(Stream { process, device, ordinal: key.device, context: key.context, stream })
    }
    /// An error if `rows` more than `before` is more than a table may have.
    pub(super) fn room(&self, table: &str, before: usize, rows: usize) -> Result<(), ReadError> {
        if before + rows < OpRef::MAX_ROWS {
            return Ok(());
        }
        Err(ReadError::new(
            self.path,
            ReadErrorKind::TooLarge,
            format!("has more than {} rows in `{table}`", OpRef::MAX_ROWS),
        )
        .hint("export a part of the report with `nsys export --times`"))
    }
    /// The number a (process, domain id) has in the columns `domain` until [`Self::name_domains`].
    pub(super) fn domain_number(&mut self, process: u32, domain: i64) -> StringId {
        let next = self.domain_keys.len() as u32;
        let row = *self.domain_rows.entry((process, domain)).or_insert(next);
        if row == next {
            self.domain_keys.push((process, domain));
        }
        StringId(row)
    }
    /// Replaces the numbers in the columns `domain` by names: the rows that create domains may come after those that use them.
    pub(super) fn name_domains(&mut self) {
        let names: Vec<StringId> = self
            .domain_keys
            .iter()
            .map(|key| match (self.domains.get(key), key.1) {
                (Some(name), _) => *name,
                (None, 0) => self.timeline.strings.intern(""),
                (None, id) => self.timeline.strings.intern(&format!("<domain {id}>")),
            })
            .collect();
        for domain in self.timeline.ranges.domain.iter_mut().chain(&mut self.timeline.marks.domain) {
            *domain = names[domain.0 as usize];
        }
    }
    /// The finished timeline and what is to be known about it.
    pub(super) fn finish(mut self) -> (Timeline, Vec<Diagnostic>) {
        self.name_domains();
        if self.strings.cut > 0 {
            self.diagnostics.push(Diagnostic {
                count: self.strings.cut,
                ..Diagnostic::new("text_cut", Severity::Info, "a text longer than 1 MiB was cut")
            });
        }
        self.timeline.finish();
        (self.timeline, self.diagnostics.into_vec())
    }
}
