//! One side of a comparison: what was run, and the values that were measured.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::diagnostics::{Diagnostic, Validity};
use crate::stats::summary::Summary;

/// Names of facts that several readers know. Other facts may be added under names of their own; equal names are compared.
///
/// Facts of one case carry the prefix `case:NAME.`, for instance `case:p128.prompt_tokens`.
pub mod fact {
    /// Model as its author names it, without directories.
    pub const MODEL: &str = "model";
    /// SHA-256 of the weights.
    pub const WEIGHTS_SHA256: &str = "weights_sha256";
    /// Format of most weights.
    pub const DTYPE: &str = "dtype";
    /// Format of activations.
    pub const COMPUTE_DTYPE: &str = "compute_dtype";
    /// Format of the KV cache.
    pub const KV_DTYPE: &str = "kv_dtype";
    /// Operator implementation.
    pub const OPS: &str = "engine.ops";
    /// Engine threads.
    pub const THREADS: &str = "engine.threads";
    /// Sequences side by side.
    pub const BATCH: &str = "batch";
    /// Requests in flight that a load test asked for.
    pub const CONCURRENCY: &str = "concurrency";
    /// Prompt tokens of a sequence.
    pub const PROMPT_TOKENS: &str = "prompt_tokens";
    /// Generated tokens of a sequence.
    pub const NEW_TOKENS: &str = "new_tokens";
    /// SHA-256 over the hashes of all prompts in order.
    pub const PROMPTS_SHA256: &str = "prompts_sha256";
    /// SHA-256 of the generated token ids, where generation is greedy.
    pub const OUTPUT_SHA256: &str = "output_sha256";
    /// Seeds, as text.
    pub const SEED: &str = "seed";
    /// `cpu` or `cuda:N`.
    pub const DEVICE: &str = "device";
    /// Processor.
    pub const CPU: &str = "cpu";
    /// GPU product name.
    pub const GPU: &str = "gpu";
    /// Driver version.
    pub const DRIVER: &str = "driver";
    /// CUDA version.
    pub const CUDA: &str = "cuda";
    /// GPU clock in MHz.
    pub const CLOCK_MHZ: &str = "clock_mhz";
    /// Frequency governor.
    pub const GOVERNOR: &str = "governor";
    /// Hash of the host name.
    pub const HOST: &str = "host";
    /// Kernel release of the system.
    pub const KERNEL: &str = "os_kernel";
    /// Tool that measured, with its version.
    pub const TOOL: &str = "tool";
    /// Engine or server.
    pub const BACKEND: &str = "backend";
    /// How TTFT and TPOT were found.
    pub const MODE: &str = "mode";
}

/// Where the values come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SubjectKind {
    /// Runs of the in-process engine.
    Stage1,
    /// A GPU trace, or an analysis of one.
    Trace,
    /// A load test of a server.
    Load,
    /// Results of another tool.
    Imported,
}

/// How the measured pieces ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Outcomes {
    /// Complete: only these have values.
    pub ok: u64,
    /// Failed for any other reason.
    pub failed: u64,
    /// Out of memory.
    pub oom: u64,
    /// Cut short by the user.
    pub interrupted: u64,
    /// Complete, but marked as disturbed by other processes. They stay in the values.
    pub disturbed: u64,
}

/// The values of one measure of one case.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct MeasureValues {
    /// Case; null where the source has none.
    pub case: Option<String>,
    /// Name with its unit as suffix, e.g. `tpot_ms`; see [`super::measure`].
    pub name: String,
    /// Unit as written in reports.
    pub unit: String,
    /// Values of the pieces that ended well, in the order they were measured.
    pub values: Vec<f64>,
    /// For each value the process (run) that measured it, from 0 within the subject: what varies between processes is not seen within one.
    pub runs: Vec<u32>,
    /// For each value the block in which it was measured side by side with the other subjects; empty where they were not interleaved.
    pub blocks: Vec<u32>,
    /// What the source says where it gives a summary and no values.
    pub reported: Option<Summary>,
}

/// One side of a comparison.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Subject {
    /// What the reports call it; unique within a comparison.
    pub label: String,
    /// Where it comes from.
    pub kind: SubjectKind,
    /// Tool with version, in words.
    pub tool: String,
    /// Run ids behind it.
    pub run_ids: Vec<String>,
    /// Files behind it, without directories.
    pub files: Vec<String>,
    /// What was run, by the names in [`fact`]; null is "not known".
    pub facts: BTreeMap<String, Option<String>>,
    /// Values.
    pub measures: Vec<MeasureValues>,
    /// Operators of an in-process run or an analysed trace, for the attribution; empty where the source has none.
    pub operators: Vec<OperatorTime>,
    /// How the pieces ended.
    pub outcomes: Outcomes,
    /// Whether its own numbers may be relied on.
    pub validity: Validity,
    /// Price of the machine per hour, if it was given.
    pub price_usd_per_hour: Option<f64>,
    /// Power as configured, for energy estimates where nothing is measured.
    pub power_w: Option<f64>,
    /// Findings of the reader.
    pub diagnostics: Vec<Diagnostic>,
}

/// Time of one operator or kernel within one phase: what a table of operators keeps of a run.
///
/// A trace that is at hand is attributed from its timeline instead, which knows more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OperatorTime {
    /// Case; null where the source has none.
    pub case: Option<String>,
    /// `prefill`, `decode`, …
    pub phase: String,
    /// Decoder layer.
    pub layer: Option<u32>,
    /// Module path or name, e.g. `down_proj`.
    pub module: Option<String>,
    /// Operator class.
    pub class: String,
    /// Kernel or operator name.
    pub name: String,
    /// Dimensions, if known.
    pub shape: Option<String>,
    /// Repeats (or steps of the phase) in which the calls were counted: times are compared per repeat.
    pub repeats: u64,
    /// Calls in all of them; where only some steps were recorded, extrapolated to all.
    pub calls: u64,
    /// Time of all calls, ns; extrapolated likewise.
    pub total_ns: u64,
}
