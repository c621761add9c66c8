//! Rows of `per_run.jsonl`: one per measured repeat, written when it ends. Summaries are derived from them, never the reverse.

use serde::{Deserialize, Serialize};

use crate::diagnostics::Diagnostic;
use crate::hardware::nvml::GpuUse;

/// Version of [`RepeatRow`]; a reader refuses newer ones and keeps reading older ones.
pub const ROW_SCHEMA_VERSION: u32 = 1;

/// How a repeat ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowStatus {
    /// Complete; only these enter statistics.
    Ok,
    /// Out of memory.
    Oom,
    /// Any other failure; `error` says which.
    Failed,
    /// Cut short by the user.
    Interrupted,
}

/// CPU contention during one repeat: what other processes took away.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Contention {
    /// CPU seconds of this process / wall seconds; near the thread count when nothing interferes with busy threads.
    pub cpu_wall_ratio: Option<f64>,
    /// Involuntary context switches of this process.
    pub involuntary_switches: Option<u64>,
    /// Voluntary context switches of this process.
    pub voluntary_switches: Option<u64>,
    /// Share of the wall time in which some task on the machine waited for a CPU (`/proc/pressure/cpu`, `some total`).
    pub pressure_cpu_some: Option<f64>,
    /// CPU seconds of other processes / (wall seconds × online CPUs).
    pub other_cpu_share: Option<f64>,
    /// Whether this repeat is marked as disturbed, by the thresholds in `docs/METRICS.md`.
    pub disturbed: bool,
}

/// Peak memory of one repeat, split by use.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct MemoryUse {
    /// Peak resident set of the process in the repeat (`VmHWM`, reset before it where the kernel allows).
    pub peak_rss_bytes: Option<u64>,
    /// Peak device memory of the process, the largest of the looks at it; null on the CPU.
    pub peak_vram_bytes: Option<u64>,
    /// `process` where the driver tells the memory of this process, `device` for that of the whole device less what was in use before the
    /// run; null with `peak_vram_bytes`.
    #[serde(default)]
    pub peak_vram_source: Option<String>,
    /// Weights held by the engine.
    pub weights_bytes: u64,
    /// KV cache allocated.
    pub kv_cache_bytes: u64,
    /// KV cache filled at the end.
    pub kv_used_bytes: u64,
    /// Largest sum of live activation buffers, from the engine's own count; null where it is not instrumented.
    pub activations_bytes: Option<u64>,
}

/// The phases by the host's clock, beside those by the device's. Each step ends with a token on the host, which waits for the device.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct HostTimes {
    /// The prefill phase.
    pub prefill_ms: f64,
    /// Sum of the decode steps.
    pub decode_ms: f64,
    /// Whole generation.
    pub total_ms: f64,
    /// total − prefill − decode.
    pub remainder_ms: f64,
}

/// One measured repeat of one case. Unknown is null.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RepeatRow {
    /// [`ROW_SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The run it belongs to.
    pub run_id: String,
    /// Row number from 0 over all cases.
    pub index: u32,
    /// Name of the case.
    pub case: String,
    /// Repeat of this case from 0.
    pub repeat: u32,
    /// Whether operator spans were recorded: only repeats without them enter the headline measures.
    pub spans: bool,
    /// Whether the built-in tracer recorded the device too; `spans` is then true as well, for our own ranges.
    #[serde(default)]
    pub traced: bool,
    /// How it ended.
    pub status: RowStatus,
    /// What went wrong, if anything.
    pub error: Option<String>,
    /// Model alias or path.
    pub model: String,
    /// Always `candle` for the in-process engine.
    pub backend: String,
    /// Weight format that holds most of the bytes.
    pub dtype: String,
    /// `cpu` or `cuda:N`: the device that really ran it.
    pub device: String,
    /// Sequences generated side by side.
    pub batch: u32,
    /// Prompt tokens of each sequence.
    pub prompt_len: u32,
    /// Tokens generated for each sequence, the first included.
    pub new_tokens: u32,
    /// `single_pass` (one generation gives everything) or `two_pass` (1 token, then N tokens).
    pub mode: String,
    /// Wall-clock start, RFC 3339 UTC.
    pub started_at: String,
    /// Start of the prompt pass to the first sampled token.
    pub ttft_ms: Option<f64>,
    /// The prefill phase: first operator of the prompt pass to the first sampled token on the host.
    pub prefill_ms: Option<f64>,
    /// Sum of the decode steps.
    pub decode_ms: Option<f64>,
    /// Whole generation.
    pub total_ms: Option<f64>,
    /// total − prefill − decode: callbacks, detokenisation, bookkeeping between steps.
    pub remainder_ms: Option<f64>,
    /// On a GPU, where the four above are times of events on its stream: the same by the host's clock. Absent on a CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostTimes>,
    /// (t_last − t_first) / (n − 1); null if n < 2. In two-pass mode (full − ttft) / (n − 1).
    pub tpot_ms: Option<f64>,
    /// Gap before each token after the first.
    pub itl_ms: Vec<f64>,
    /// batch × prompt_len / prefill time.
    pub prefill_tok_per_s: Option<f64>,
    /// batch × (new_tokens − 1) / decode time.
    pub decode_tok_per_s: Option<f64>,
    /// batch × new_tokens / total time.
    pub total_tok_per_s: Option<f64>,
    /// `ttft_ms` in seconds, under the name perf-lab users know.
    pub ttft_s: Option<f64>,
    /// `tpot_ms` in seconds.
    pub tpot_s: Option<f64>,
    /// `total_ms` in seconds.
    pub dt_full_s: Option<f64>,
    /// `total_tok_per_s` under its old name.
    pub tok_s: Option<f64>,
    /// Peak allocated GiB: device memory on a GPU, resident set on a CPU.
    pub peak_memory_allocated_gb: Option<f64>,
    /// Memory.
    pub memory: MemoryUse,
    /// Contention.
    pub contention: Contention,
    /// Mean CPU utilisation of the process: CPU seconds / (wall seconds × engine threads).
    pub cpu_utilisation: Option<f64>,
    /// Energy of the device that ran it over the repeat: the CPU packages (RAPL) or the GPU; null if unreadable.
    pub energy_j: Option<f64>,
    /// Where the energy came from: `rapl`, `nvml:counter` or `nvml:power`.
    pub energy_source: Option<String>,
    /// Energy of the CPU packages, whatever ran it; null if unreadable.
    #[serde(default)]
    pub cpu_energy_j: Option<f64>,
    /// The graphics processor during the repeat; null where none was looked at.
    #[serde(default)]
    pub gpu: Option<GpuUse>,
    /// Generated token ids of the first sequence.
    pub tokens: Vec<u32>,
    /// Text of the first sequence, if the tokenizer can tell.
    pub text: Option<String>,
    /// Why generation ended: `length`, `eos`.
    pub finish_reason: Option<String>,
    /// Findings about this repeat.
    pub diagnostics: Vec<Diagnostic>,
}
