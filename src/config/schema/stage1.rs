//! The settings of `stage1`: an in-process run of a model, warm-up and repeats, phases and operators.

use std::path::PathBuf;

use serde::Deserialize;

use super::choice::{
    Activity, DeviceChoice, GpuTelemetryMode, InferMode, MeasureCeilings, NvtxChoice, OpsChoice, Switch, TraceMode,
};
use super::model::{ModelConfig, format_or_null};
use crate::estimate::format::Format;

/// Everything `stage1` can be told.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage1Config {
    /// The model.
    pub model: ModelConfig,
    /// Where it runs.
    pub device: DeviceChoice,
    /// How it runs.
    pub engine: EngineConfig,
    /// Sequences generated side by side; at least 1.
    pub batch: u32,
    /// Measured repeats of each case; at least 1.
    pub repeats: u32,
    /// Repeats before them that are not recorded.
    pub warmup: u32,
    /// The exact prompt length in tokens, filled with synthetic ids.
    pub prompt_tokens: Option<u32>,
    /// The generation.
    pub infer: InferConfig,
    /// The cases; empty means one case of `prompt`/`prompt_tokens` and `infer.max_new_tokens`.
    pub cases: Vec<CaseConfig>,
    /// The prompt text.
    pub prompt: Option<String>,
    /// A set of prompts.
    pub dataset: DatasetConfig,
    /// What is traced beside the measures.
    pub trace: TraceMode,
    /// How the spans are taken and the machine is watched.
    pub profiling: ProfilingConfig,
    /// How well the model predicts a text.
    pub quality: QualityConfig,
    /// Accepted for compatibility with PyTorch-based tools.
    pub torch_profiler: TorchProfilerConfig,
    /// The machine's limits.
    pub hardware: HardwareConfig,
    /// How the run is named and judged.
    pub run: RunConfig,
}

impl Stage1Config {
    /// The cases to run, with what a case leaves out taken from the top; an empty list is one case.
    ///
    /// Each has a prompt or a prompt length, not both: an exact length is made of synthetic ids.
    pub fn effective_cases(&self) -> Vec<CaseConfig> {
        let whole = [CaseConfig { name: None, prompt: None, prompt_tokens: None, new_tokens: None }];
        let cases = if self.cases.is_empty() { &whole[..] } else { &self.cases[..] };
        cases
            .iter()
            .map(|case| {
                let (prompt, prompt_tokens) = match (&case.prompt, case.prompt_tokens) {
                    (_, Some(length)) => (None, Some(length)),
                    (Some(text), None) => (Some(text.clone()), None),
                    (None, None) if self.prompt_tokens.is_some() => (None, self.prompt_tokens),
                    (None, None) => (self.prompt.clone(), None),
                };
                let new_tokens = Some(case.new_tokens.unwrap_or(self.infer.max_new_tokens));
                CaseConfig { name: case.name.clone(), prompt, prompt_tokens, new_tokens }
            })
            .collect()
    }
}

/// How the model runs.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineConfig {
    /// Which implementation of the operators. `fused` has kernels of its own for the CPU and for CUDA devices.
    pub ops: OpsChoice,
    /// Threads; `None` takes the physical cores available to the process.
    pub threads: Option<u32>,
    /// Storage of the KV cache; `None` takes that of the activations.
    #[serde(deserialize_with = "format_or_null")]
    pub kv_dtype: Option<Format>,
    /// Decode through a captured CUDA graph.
    pub cuda_graph: Switch,
    /// Positions the KV cache is made for; `None` takes what the cases need.
    pub max_context: Option<u32>,
}

/// The generation.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InferConfig {
    /// Tokens to generate; at least 1.
    pub max_new_tokens: u32,
    /// Go on after an end-of-sequence token, so that lengths are exact.
    pub ignore_eos: bool,
    /// 0 takes the most likely token.
    pub temperature: f64,
    /// Sample among so many most likely tokens.
    pub top_k: Option<u32>,
    /// Sample among the most likely tokens that together reach this probability.
    pub top_p: Option<f64>,
    /// Seed of sampling and of synthetic prompts.
    pub seed: u64,
    /// Where the times come from.
    pub mode: InferMode,
    /// Wrap the prompt as a user turn of the model's chat format.
    pub chat_template: bool,
}

/// One case: a prompt and a length.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaseConfig {
    /// What the report calls it.
    #[serde(default)]
    pub name: Option<String>,
    /// The prompt text.
    #[serde(default)]
    pub prompt: Option<String>,
    /// The exact prompt length in tokens, filled with synthetic ids.
    #[serde(default)]
    pub prompt_tokens: Option<u32>,
    /// Tokens to generate.
    #[serde(default)]
    pub new_tokens: Option<u32>,
}

/// A set of prompts.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetConfig {
    /// A JSON or JSONL file of prompts, or a directory of such files and of `.txt` files.
    pub root: Option<PathBuf>,
    /// A file that lists ids or file names, one per line; the others are left out.
    pub subset: Option<PathBuf>,
    /// At most so many prompts.
    pub limit: Option<u32>,
    /// Seed of the shuffle.
    pub seed: u64,
    /// Shuffle before `limit` is applied.
    pub randomize: bool,
}

/// How the spans are taken and the machine is watched.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfilingConfig {
    /// Repeats with operator spans, interleaved with those without; `None` means as many as `repeats`.
    pub span_repeats: Option<u32>,
    /// Repeats under the built-in tracer of `trace=cupti`, interleaved with the others; `None` means as many as `repeats`.
    pub trace_repeats: Option<u32>,
    /// NVTX ranges; `None` means all of them where a tool listens, else repeats and phases, as far as the build has any.
    pub nvtx: Option<NvtxChoice>,
    /// Rest before each repeat, in milliseconds.
    pub cooldown_ms: u64,
    /// The share of disturbed repeats above which a run is INVALID.
    pub max_disturbed_share: f64,
    /// When the graphics processor is looked at.
    pub gpu_telemetry: GpuTelemetryMode,
    /// Interval between looks at it, in milliseconds.
    pub gpu_interval_ms: u64,
}

/// How well the model predicts a text, measured after the repeats.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QualityConfig {
    /// `embedded` or a file; `None` measures nothing.
    pub text: Option<String>,
    /// At most so many tokens from its begin.
    pub tokens: u32,
    /// Tokens of one window.
    pub window: u32,
    /// Storage of the reference's weights; `None` loads none.
    #[serde(deserialize_with = "format_or_null")]
    pub reference_dtype: Option<Format>,
}

/// What PyTorch-based tools call their profiler's settings.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TorchProfilerConfig {
    /// Which sides get operator spans.
    pub activities: Vec<Activity>,
}

/// The machine's limits.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HardwareConfig {
    /// `auto`, or the id of an entry of the peaks table.
    pub name: String,
    /// Peak dense TFLOP/s of the dtype in use, in place of the table's.
    pub peak_tflops: Option<f64>,
    /// Peak memory bandwidth in GB/s (10⁹), in place of the table's.
    pub peak_bandwidth_gbs: Option<f64>,
    /// Memory in GiB, in place of the device's.
    pub memory_gib: Option<f64>,
    /// Price of the machine per hour, for the cost per token.
    pub price_usd_per_hour: Option<f64>,
    /// Power in watts where no meter is readable.
    pub power_w: Option<f64>,
    /// When the ceilings of this machine are measured.
    pub measure: MeasureCeilings,
}

/// How the run is named and judged.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// The run id; `None` makes one from the time.
    pub id: Option<String>,
    /// A word to find the run by.
    pub tag: Option<String>,
    /// Free text kept with the run.
    pub notes: Option<String>,
    /// Exit 0 even if the run is INVALID.
    pub allow_invalid: bool,
    /// Go on with the next case after one failed.
    pub keep_going: bool,
}
