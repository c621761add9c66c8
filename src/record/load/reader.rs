//! Reads what a load test left: its context, its rows, and what was watched beside.

use std::io::{BufRead as _, BufReader};
use std::path::Path;

use serde::de::IgnoredAny;

use super::context::LoadContext;
use super::metrics::LoadMetrics;
use super::row::RequestRow;
use super::server_metrics::ServerMetrics;
use super::{LOAD_CONTEXT_FILE, LOAD_SCHEMA_VERSION, REQUESTS_FILE, SERVER_METRICS_FILE};
use crate::diagnostics::{Diagnostic, Diagnostics, Severity};
use crate::record::RecordError;
use crate::record::reader::{METRICS_FILE, parse_versioned};

/// `load.json`.
///
/// # Errors
/// If it is not there, damaged, or of a later version.
pub fn read_context(directory: &Path) -> Result<LoadContext, RecordError> {
    let path = directory.join(LOAD_CONTEXT_FILE);
    let bytes = std::fs::read(&path).map_err(|source| RecordError::Read { path: path.clone(), source })?;
    parse_versioned(&path, None, &bytes, LOAD_SCHEMA_VERSION)
}

/// `metrics.json` of a load test.
///
/// # Errors
/// If it is not there, damaged, or of a later version.
pub fn read_metrics(directory: &Path) -> Result<LoadMetrics, RecordError> {
    let path = directory.join(METRICS_FILE);
    let bytes = std::fs::read(&path).map_err(|source| RecordError::Read { path: path.clone(), source })?;
    parse_versioned(&path, None, &bytes, LOAD_SCHEMA_VERSION)
}

/// `server_metrics.json`, if there is one.
///
/// # Errors
/// If it is damaged, or of a later version.
pub fn read_server_metrics(directory: &Path) -> Result<Option<ServerMetrics>, RecordError> {
    let path = directory.join(SERVER_METRICS_FILE);
    match std::fs::read(&path) {
        Ok(bytes) => parse_versioned(&path, None, &bytes, LOAD_SCHEMA_VERSION).map(Some),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(RecordError::Read { path, source }),
    }
}

/// The rows, none where no request ended. A torn last line is dropped and counted; with `salvage` so is any other damaged line, else it is an
/// error. Read line by line: the file may be far larger than what is made of it.
///
/// # Errors
/// If the file is damaged in the middle, or cannot be read.
pub fn read_rows(directory: &Path, salvage: bool) -> Result<(Vec<RequestRow>, Vec<Diagnostic>), RecordError> {
    let path = directory.join(REQUESTS_FILE);
    let file = match std::fs::File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok((Vec::new(), Vec::new())),
        Err(source) => return Err(RecordError::Read { path, source }),
    };
    let failed = |source| RecordError::Read { path: path.clone(), source };
    let (mut reader, mut line, mut number) = (BufReader::with_capacity(1 << 20, file), Vec::new(), 0u64);
    let (mut rows, mut diagnostics) = (Vec::new(), Diagnostics::default());
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line).map_err(failed)? == 0 {
            return Ok((rows, diagnostics.into_vec()));
        }
        number += 1;
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        if text.is_empty() {
            continue;
        }
        let error = match serde_json::from_slice::<RequestRow>(text) {
            Ok(row) => {
                rows.push(row);
                continue;
            }
            Err(error) => error,
        };
        let place = format!("{}:{number}", path.display());
        let last = reader.fill_buf().map_err(failed)?.is_empty();
        if last && serde_json::from_slice::<IgnoredAny>(text).is_err() {
            let text = format!("{place}: the last line is not whole and was dropped, as after a crash");
            diagnostics.note("torn_last_row", Severity::DataLoss, text);
        } else if salvage {
            diagnostics.note(
                "bad_row",
                Severity::DataLoss,
                format!("{place}: the line is damaged and was dropped ({error})"),
            );
        } else {
            return Err(RecordError::Malformed { path: path.clone(), line: Some(number), reason: error.to_string() });
        }
    }
}
