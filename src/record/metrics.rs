//! `metrics.json` of a stage1 run: the public contract. `docs/schema/metrics.stage1.schema.json` is its published JSON schema.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::gpu::GpuBlock;
use super::quality::QualityBlock;
use crate::diagnostics::{Diagnostic, Validity};
use crate::estimate::architecture::Architecture;
use crate::hardware::ceilings::Ceilings;
use crate::stats::summary::Summary;

/// Version of [`Stage1Metrics`].
pub const METRICS_SCHEMA_VERSION: u32 = 1;

/// A ceiling of the machine and where its value comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Peak {
    /// The value, in FLOP/s or B/s as the field name says; null if unknown.
    pub value: Option<f64>,
    /// `table`, `override`, `measured` or `unknown`.
    pub kind: String,
    /// Citation, override name or how it was measured; for unknown: how to set it.
    pub source: String,
}

/// The ceilings used for MFU, MBU and the roofline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HardwareBlock {
    /// Device name as the system reports it.
    pub device: String,
    /// `cpu` or `cuda:N`.
    pub device_id: String,
    /// Engine threads; null on a GPU.
    pub threads: Option<u32>,
    /// Arithmetic format the FLOP/s ceiling is for.
    pub compute_dtype: String,
    /// Dense FLOP/s.
    pub peak_flops_per_s: Peak,
    /// Memory bytes per second.
    pub peak_bytes_per_s: Peak,
    /// Memory of the device in bytes.
    pub memory_bytes: Option<u64>,
    /// Price per hour as configured.
    pub price_usd_per_hour: Option<f64>,
    /// Power as configured, for energy estimates where nothing is measured.
    pub power_w: Option<f64>,
    /// What was measured on a GPU, beside the peaks; absent where nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured: Option<Ceilings>,
}

/// The model that ran.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelBlock {
    /// Alias or path as asked for.
    pub name: String,
    /// `safetensors`, `gguf` or `synthetic`.
    pub source: String,
    /// Its shape.
    pub architecture: Architecture,
    /// Parameters; null for models that candle-transformers loads itself.
    pub parameters: Option<u64>,
    /// Bytes of all weights in memory.
    pub weights_bytes: u64,
    /// Bytes of weights by format name.
    pub weights_bytes_by_format: BTreeMap<String, u64>,
    /// Weight format that holds most of the bytes.
    pub dtype: String,
    /// Format of activations.
    pub compute_dtype: String,
    /// Format of the KV cache.
    pub kv_dtype: String,
    /// KV-cache bytes for one token of one sequence.
    pub kv_bytes_per_token: u64,
    /// `reference` or `fused`.
    pub ops: String,
}

/// What the analytic model says of one phase, and how far the measurement is from it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhaseBlock {
    /// Case name.
    pub case: String,
    /// `prefill` or `decode`.
    pub phase: String,
    /// Steps behind the figures (1 for prefill, new_tokens − 1 for decode).
    pub steps: u64,
    /// Median measured time of the whole phase in ms (repeats without spans).
    pub time_ms: Option<f64>,
    /// Model FLOPs (matrix products and attention) of the phase.
    pub model_flops: u64,
    /// Weight bytes of the phase, each weight once per step.
    pub weight_bytes: u64,
    /// KV-cache bytes of the phase.
    pub kv_bytes: u64,
    /// Activation bytes of the phase.
    pub activation_bytes: u64,
    /// model_flops / peak.
    pub compute_time_ms: Option<f64>,
    /// (weight + KV bytes) / bandwidth.
    pub memory_time_ms: Option<f64>,
    /// Larger of the two.
    pub roofline_ms: Option<f64>,
    /// `compute` or `memory`; null without peaks.
    pub bound: Option<String>,
    /// model_flops / (peak × time).
    pub mfu: Option<f64>,
    /// (weight + KV bytes) / (bandwidth × time).
    pub mbu: Option<f64>,
}

/// One row of `operators.md`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OperatorRow {
    /// Operator class, e.g. `linear`.
    pub class: String,
    /// Module that issued it, e.g. `q_proj`.
    pub name: String,
    /// `prefill` or `decode`.
    pub phase: String,
    /// Decoder layer; null where the row sums over layers or stands outside them.
    pub layer: Option<u32>,
    /// Device.
    pub device: String,
    /// Dimensions, the most frequent.
    pub shape: String,
    /// Calls in all repeats with spans.
    pub calls: u64,
    /// Time in all of them.
    pub total_ns: u64,
    /// Mean of a call.
    pub mean_ns: f64,
    /// Median of a call.
    pub p50_ns: f64,
    /// 95th percentile of a call.
    pub p95_ns: f64,
    /// 99th percentile of a call.
    pub p99_ns: f64,
    /// Standard deviation of a call (n − 1); null for one call.
    pub std_ns: Option<f64>,
    /// Share of the operator time of its phase.
    pub share: f64,
    /// FLOPs of all calls.
    pub flops: u64,
    /// Least bytes of all calls.
    pub bytes: u64,
    /// flops / total.
    pub flops_per_s: Option<f64>,
    /// bytes / total.
    pub bytes_per_s: Option<f64>,
    /// Time the roofline allows for all calls; null without peaks.
    pub roofline_ns: Option<f64>,
    /// total − roofline; null without peaks.
    pub lost_ns: Option<f64>,
    /// `compute` or `memory`: which ceiling is nearer; null without peaks.
    pub bound: Option<String>,
}

/// How well the parts add up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reconciliation {
    /// Largest |prefill + decode + remainder − total| / total over the repeats.
    pub phases_vs_total: Option<f64>,
    /// Largest |host's total − device's total| / device's total over the repeats; absent on a CPU, which has one clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_vs_device: Option<f64>,
    /// 1 − Σ operators / Σ phases, by phase name, over repeats with spans.
    pub unattributed_by_phase: BTreeMap<String, f64>,
}

/// The summary of one case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CaseBlock {
    /// Name.
    pub name: String,
    /// Sequences.
    pub batch: u32,
    /// Prompt tokens.
    pub prompt_len: u32,
    /// New tokens asked for.
    pub new_tokens: u32,
    /// Measured repeats without spans that ended well.
    pub repeats: u64,
    /// Measures over them.
    pub measures: BTreeMap<String, Summary>,
}

/// `metrics.json` of stage1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stage1Metrics {
    /// [`METRICS_SCHEMA_VERSION`].
    pub schema_version: u32,
    /// `stage1`.
    pub command: String,
    /// The run.
    pub run_id: String,
    /// `complete`, `interrupted`, `failed` or `invalid`.
    pub status: String,
    /// Whether the numbers may be relied on.
    pub validity: Validity,
    /// Measures over all cases; the names are in `docs/METRICS.md`.
    pub measures: BTreeMap<String, Summary>,
    /// Per case.
    pub cases: Vec<CaseBlock>,
    /// The model.
    pub model: ModelBlock,
    /// The ceilings.
    pub hardware: HardwareBlock,
    /// Analytic model and MFU/MBU by case and phase.
    pub phases: Vec<PhaseBlock>,
    /// Operators by class × module × phase (summed over layers) and by layer.
    pub operators: Vec<OperatorRow>,
    /// How well the parts add up.
    pub reconciliation: Reconciliation,
    /// Quality of the predictions; null where none was measured. Runs of before it existed read as null.
    #[serde(default)]
    pub quality: Option<QualityBlock>,
    /// The graphics processor during the run; null where none was looked at. Runs of before it existed read as null.
    #[serde(default)]
    pub gpu: Option<GpuBlock>,
    /// Findings.
    pub diagnostics: Vec<Diagnostic>,
}

/// What the reason of a run that other processes disturbed has behind its counts.
const DISTURBED: &str = " repeats were disturbed by other work on the machine (limit ";

/// Why a run is INVALID of whose `repeats` more than the share `limit` were disturbed.
pub fn disturbed_reason(disturbed: usize, repeats: usize, limit: f64) -> String {
    format!("{disturbed} of {repeats}{DISTURBED}{:.0} %)", limit * 100.0)
}

/// The limit, as a share, in a reason made by [`disturbed_reason`]; `None` for any other reason.
pub fn limit_of_disturbed_reason(reason: &str) -> Option<f64> {
    let (_, limit) = reason.split_once(DISTURBED)?;
    limit.strip_suffix(" %)")?.parse::<f64>().ok().map(|percent| percent / 100.0)
}
