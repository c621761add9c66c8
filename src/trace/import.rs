//! What every reader takes and returns: options with progress and cancellation, a timeline with diagnostics, or an error that names the file.

use std::path::{Path, PathBuf};

use super::timeline::Timeline;
use crate::diagnostics::Diagnostic;

/// A trace that was read, and what is to be known about it.
#[derive(Debug, Clone, Default)]
pub struct Import {
    /// The trace; `finish` has been called.
    pub timeline: Timeline,
    /// Rows left out by reason, tables missing, what the tool itself reported: code, severity, count, first example.
    pub diagnostics: Vec<Diagnostic>,
}

/// How far a reader is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Rows or bytes done.
    pub done: u64,
    /// Rows or bytes in all; 0 if not known.
    pub total: u64,
}

/// What a reader may be told.
#[derive(Clone, Copy)]
pub struct ReadOptions<'a> {
    /// Position of the file among those given; goes into `Process::file` and `Device::file`.
    pub file: u16,
    /// True leaves out calls, ranges and everything else of the host, for figures that need none of it. A hint: a reader may read all.
    pub device_only: bool,
    /// Called now and then, at least every 100,000 rows.
    pub progress: &'a (dyn Fn(Progress) + Sync),
    /// Asked as often; true makes the reader return [`ReadErrorKind::Interrupted`].
    pub cancelled: &'a (dyn Fn() -> bool + Sync),
}

impl Default for ReadOptions<'_> {
    fn default() -> Self {
        Self { file: 0, device_only: false, progress: &|_| {}, cancelled: &|| false }
    }
}

impl std::fmt::Debug for ReadOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReadOptions").field("file", &self.file).finish_non_exhaustive()
    }
}

/// Why a trace could not be read.
#[derive(Debug, thiserror::Error)]
#[error("`{}`: {detail}", path.display())]
pub struct ReadError {
    /// The file.
    pub path: PathBuf,
    /// Which kind of trouble.
    pub kind: ReadErrorKind,
    /// What is wrong, with table, key, row or byte offset where there is one; no full stop.
    pub detail: String,
    /// What the user can do.
    pub hints: Vec<String>,
}

/// Kinds of trouble with a trace file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadErrorKind {
    /// It cannot be opened or read.
    Io,
    /// It is something else than a trace of the format asked for.
    NotATrace,
    /// It is damaged or cut off.
    Malformed,
    /// It is being written, or locked.
    Busy,
    /// A tool that is needed is missing, or refused.
    Tool,
    /// It has more rows than perfprof addresses.
    TooLarge,
    /// The user asked to stop.
    Interrupted,
}

impl ReadError {
    /// An error about `path`.
    pub fn new(path: &Path, kind: ReadErrorKind, detail: impl Into<String>) -> Self {
        Self { path: path.to_owned(), kind, detail: detail.into(), hints: Vec::new() }
    }
    /// Adds a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
    /// The user asked to stop.
    pub fn interrupted(path: &Path) -> Self {
        Self::new(path, ReadErrorKind::Interrupted, "reading was interrupted")
    }
}
