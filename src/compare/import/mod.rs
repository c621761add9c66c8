//! Makes [`Subject`]s: of perfprof's own runs, of analysed traces, and of the result files of other tools.
//!
//! Everything here takes text, bytes or parsed records and returns values; no file is opened. A measure gets the name of a perfprof measure
//! only where the tool means the same by it; `docs/IMPORTS.md` lists every field that is read and every definition that differs.

mod aiperf;
pub mod analyzed;
mod builder;
pub mod error;
pub mod foreign;
#[cfg(test)]
mod foreign_tests;
mod google_benchmark;
mod guidellm;
mod hyperfine;
mod json;
pub mod labels;
mod llama_bench;
pub mod load;
mod load_summary;
#[cfg(test)]
mod load_tests;
pub mod merge;
mod operators;
mod sglang;
pub mod stage1;
#[cfg(test)]
mod stage1_tests;
pub mod trace;
#[cfg(test)]
mod trace_tests;
mod vllm;

pub use error::ImportError;

#[cfg(doc)]
use super::subject::Subject;

/// Facts that say how a tool defines a measure. Where they differ between subjects, so do the measures of that name, if only by a little.
pub mod definition {
    /// From where to where TTFT is measured.
    pub const TTFT: &str = "ttft_definition";
    /// What TPOT divides by what.
    pub const TPOT: &str = "tpot_definition";
    /// Where E2E ends.
    pub const E2E: &str = "e2e_definition";
    /// What a rate of prefill or decode counts.
    pub const PHASES: &str = "phase_definition";
    /// What one value of total time covers.
    pub const TOTAL: &str = "total_definition";
}
