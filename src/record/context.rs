//! `context.json`: what the rows alone do not say, written before the first repeat, so that every summary can be rebuilt from a run that was
//! killed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::metrics::{HardwareBlock, ModelBlock};
use crate::diagnostics::Diagnostic;
use crate::estimate::format::Format;

/// Version of [`Stage1Context`].
pub const CONTEXT_SCHEMA_VERSION: u32 = 1;
/// Name of the file.
pub const CONTEXT_FILE: &str = "context.json";

/// One case as planned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CasePlan {
    /// Name.
    pub name: String,
    /// Sequences.
    pub batch: u32,
    /// Prompt tokens of each.
    pub prompt_len: u32,
    /// New tokens asked for.
    pub new_tokens: u32,
    /// Where the prompt comes from: `synthetic`, `text` or `file`.
    pub source: String,
}

/// What the rows alone do not say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stage1Context {
    /// [`CONTEXT_SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The run.
    pub run_id: String,
    /// The model.
    pub model: ModelBlock,
    /// How each weight is stored, by name.
    pub weight_formats: BTreeMap<String, Format>,
    /// Whether operators are recorded inside the model.
    pub instrumented: bool,
    /// The machine's ceilings.
    pub hardware: HardwareBlock,
    /// Time to load the model.
    pub load_ms: f64,
    /// The cases.
    pub cases: Vec<CasePlan>,
    /// Repeats of each case without spans.
    pub repeats: u32,
    /// Repeats of each case with spans.
    pub span_repeats: u32,
    /// Repeats of each case under the built-in tracer.
    #[serde(default)]
    pub trace_repeats: u32,
    /// Warm-up repeats of each case, which are not recorded.
    pub warmup: u32,
    /// `single_pass` or `two_pass`.
    pub mode: String,
    /// Whether generation goes on after an end-of-sequence token.
    pub ignore_eos: bool,
    /// 0 is greedy.
    pub temperature: f64,
    /// Seeds by what they seed.
    pub seeds: BTreeMap<String, u64>,
    /// Largest share of disturbed repeats in a VALID run.
    pub max_disturbed_share: f64,
    /// What a reader should know: fallbacks, notes of the loader and the hardware look-up.
    pub notes: Vec<String>,
    /// Findings before the first repeat.
    pub diagnostics: Vec<Diagnostic>,
}
