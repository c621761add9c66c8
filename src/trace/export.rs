//! What every writer of trace files returns: a report of the rows written, or an error that names the file.

use std::path::{Path, PathBuf};

use crate::diagnostics::Diagnostic;

/// Rows of one table, or of one file where each table is a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableRows {
    /// Table or file name.
    pub table: String,
    /// Rows written.
    pub rows: u64,
}

/// What was written.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WriteReport {
    /// Tables that have rows, in the order written.
    pub tables: Vec<TableRows>,
    /// Size of all files written, bytes.
    pub bytes: u64,
    /// What the format cannot hold and was left out or renumbered: code, count, first example.
    pub diagnostics: Vec<Diagnostic>,
}

impl WriteReport {
    /// Rows of `table`; 0 if it was not written.
    pub fn rows(&self, table: &str) -> u64 {
        self.tables.iter().find(|rows| rows.table == table).map_or(0, |rows| rows.rows)
    }
    /// Notes the rows of a table; tables without rows are not written, hence not listed.
    pub(super) fn wrote(&mut self, table: &str, rows: usize) {
        if rows > 0 {
            self.tables.push(TableRows { table: table.to_owned(), rows: rows as u64 });
        }
    }
}

/// Why a trace could not be written. What stood at `path` before is untouched.
#[derive(Debug, thiserror::Error)]
#[error("cannot write `{}`: {doing}", path.display())]
pub struct WriteError {
    /// The file.
    pub path: PathBuf,
    /// What failed; no full stop.
    pub doing: String,
    /// The cause.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl WriteError {
    /// For `map_err`: an error about `path` while `doing` something.
    pub(super) fn at<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
        path: &Path,
        doing: impl Into<String>,
    ) -> impl FnOnce(E) -> Self {
        let (path, doing) = (path.to_owned(), doing.into());
        move |source| Self { path, doing, source: source.into() }
    }
}

/// A file beside `path` that takes its place only when it is whole.
pub(super) fn temporary_beside(path: &Path) -> Result<tempfile::NamedTempFile, WriteError> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".perfprof-").suffix(".tmp");
    // Readable as other files are; the default is the owner alone.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder
        .tempfile_in(directory)
        .map_err(WriteError::at(path, format!("no temporary file in `{}`", directory.display())))
}

/// Syncs `temporary`, renames it to `path` and returns its size in bytes.
pub(super) fn put_in_place(temporary: tempfile::NamedTempFile, path: &Path) -> Result<u64, WriteError> {
    temporary.as_file().sync_all().map_err(WriteError::at(path, "the data did not reach the disk"))?;
    let file = temporary
        .persist(path)
        .map_err(|error| WriteError::at(path, "the finished file could not be renamed")(error.error))?;
    Ok(file.metadata().map_err(WriteError::at(path, "its size is not known"))?.len())
}
