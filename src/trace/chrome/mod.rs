//! Chrome trace JSON as the PyTorch profiler (Kineto) writes it, and its export for Perfetto.

use std::path::Path;

use super::import::{Import, ReadError, ReadErrorKind, ReadOptions};

pub mod writer;

/// Reads a Kineto or Chrome trace: plain, gzip or zstd.
pub fn read(path: &Path, _options: &ReadOptions<'_>) -> Result<Import, ReadError> {
    Err(ReadError::new(path, ReadErrorKind::NotATrace, "the Chrome reader is not there yet"))
}

/// Reads a trace held in memory; `name` stands for its path in messages.
pub fn read_bytes(name: &Path, _bytes: &[u8], _options: &ReadOptions<'_>) -> Result<Import, ReadError> {
    Err(ReadError::new(name, ReadErrorKind::NotATrace, "the Chrome reader is not there yet"))
}
