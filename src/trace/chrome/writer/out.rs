//! Formats events. One buffer, no allocation an event.

use std::io::{self, Write};

/// Bytes collected before they are written.
const FLUSH_AT: usize = 1 << 16;

/// Where an event goes: process and thread of the export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Track {
    pub(super) pid: i64,
    pub(super) tid: u64,
}

/// The stream of events.
pub(super) struct Out<'w> {
    inner: &'w mut dyn Write,
    buffer: Vec<u8>,
    first: bool,
    args: bool,
}

impl<'w> Out<'w> {
    pub(super) fn new(inner: &'w mut dyn Write) -> Self {
        Self { inner, buffer: Vec::with_capacity(2 * FLUSH_AT), first: true, args: false }
    }
    /// The keys before the events.
    pub(super) fn head(&mut self, keys: &serde_json::Map<String, serde_json::Value>) -> io::Result<()> {
        self.buffer.extend_from_slice(b"{\n");
        for (key, value) in keys {
            serde_json::to_writer(&mut self.buffer, key)?;
            self.buffer.push(b':');
            serde_json::to_writer(&mut self.buffer, value)?;
            self.buffer.extend_from_slice(b",\n");
        }
        self.buffer.extend_from_slice(b"\"traceEvents\":[");
        Ok(())
    }
    /// Begins an event of phase `phase`; `end` must follow.
    pub(super) fn begin(&mut self, phase: char, category: &str, name: &str, track: Track) -> io::Result<()> {
        self.buffer.extend_from_slice(if self.first { b"\n" } else { b",\n" });
        self.first = false;
        self.args = false;
        write!(self.buffer, "{{\"ph\":\"{phase}\",\"pid\":{},\"tid\":{}", track.pid, track.tid)?;
        if !category.is_empty() {
            self.buffer.extend_from_slice(b",\"cat\":");
            serde_json::to_writer(&mut self.buffer, category)?;
        }
        self.buffer.extend_from_slice(b",\"name\":");
        serde_json::to_writer(&mut self.buffer, name)?;
        Ok(())
    }
    /// A key of the event with a time in ns, written in microseconds.
    pub(super) fn time(&mut self, key: &str, time_ns: i64) -> io::Result<()> {
        let sign = if time_ns < 0 { "-" } else { "" };
        let time = time_ns.unsigned_abs();
        write!(self.buffer, ",\"{key}\":{sign}{}.{:03}", time / 1000, time % 1000)
    }
    /// A key of the event with a value that is JSON already.
    pub(super) fn raw(&mut self, key: &str, value: impl std::fmt::Display) -> io::Result<()> {
        write!(self.buffer, ",\"{key}\":{value}")
    }
    /// An argument with a value that is JSON already.
    pub(super) fn arg(&mut self, key: &str, value: impl std::fmt::Display) -> io::Result<()> {
        self.arg_key(key)?;
        write!(self.buffer, "{value}")
    }
    /// An argument that is text.
    pub(super) fn arg_text(&mut self, key: &str, value: &str) -> io::Result<()> {
        self.arg_key(key)?;
        serde_json::to_writer(&mut self.buffer, value)?;
        Ok(())
    }
    fn arg_key(&mut self, key: &str) -> io::Result<()> {
        self.buffer.extend_from_slice(if self.args { b"," } else { b",\"args\":{" });
        self.args = true;
        serde_json::to_writer(&mut self.buffer, key)?;
        self.buffer.push(b':');
        Ok(())
    }
    /// Ends the event.
    pub(super) fn end(&mut self) -> io::Result<()> {
        self.buffer.extend_from_slice(if self.args { b"}}" } else { b"}" });
        if self.buffer.len() >= FLUSH_AT {
            self.inner.write_all(&self.buffer)?;
            self.buffer.clear();
        }
        Ok(())
    }
    /// A whole event from `start_ns` to `end_ns` without arguments; more may be added, and `end` must follow.
    pub(super) fn span(
        &mut self,
        category: &str,
        name: &str,
        track: Track,
        start_ns: i64,
        end_ns: i64,
    ) -> io::Result<()> {
        self.begin('X', category, name, track)?;
        self.time("ts", start_ns)?;
        self.time("dur", end_ns.saturating_sub(start_ns).max(0))
    }
    /// Metadata that names something.
    pub(super) fn name(&mut self, what: &str, track: Track, name: &str) -> io::Result<()> {
        self.begin('M', "", what, track)?;
        self.arg_text("name", name)?;
        self.end()
    }
    /// Metadata that says in which order tracks stand.
    pub(super) fn sort_index(&mut self, what: &str, track: Track, index: u64) -> io::Result<()> {
        self.begin('M', "", what, track)?;
        self.arg("sort_index", index)?;
        self.end()
    }
    /// Closes the document.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.buffer.extend_from_slice(b"\n]}\n");
        self.inner.write_all(&self.buffer)?;
        self.inner.flush()
    }
}
