//! Makes [`Subject`]s: of perfprof's own runs, of analysed traces, and of the result files of other tools.
//!
//! Everything here takes text, bytes or parsed records and returns values; no file is opened. A measure gets the name of a perfprof measure
//! only where the tool means the same by it; `docs/IMPORTS.md` lists every field that is read and every definition that differs.

mod builder;
pub mod error;
pub mod foreign;
pub mod labels;
pub mod merge;
pub mod stage1;
pub mod trace;

pub use error::ImportError;

#[cfg(doc)]
use super::subject::Subject;
