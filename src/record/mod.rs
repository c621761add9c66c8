//! The run directory: what lands on disk, in which order, and how it is read back.
//!
//! Rows come first and are never rewritten; every other file can be derived from them, appears under its final name only when it
//! is whole, and is listed in a manifest written last. This module stores and reads; it computes no statistic.

pub mod ab;
pub mod atomic;
pub mod context;
pub mod environment;
pub mod error;
pub mod find;
pub mod gpu;
pub mod inputs;
pub mod load;
pub mod manifest;
pub mod metrics;
pub mod quality;
pub mod reader;
pub mod redact;
pub mod rows;
pub mod rows_writer;
pub mod run_dir;
pub mod spans;
pub mod stage2;
pub mod sweep;

pub use error::RecordError;
pub use rows_writer::RowsWriter;
pub use run_dir::{RunDir, RunRecord, RunStatus};
