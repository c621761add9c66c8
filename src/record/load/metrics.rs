//! `metrics.json` of a load test. `docs/schema/metrics.load.schema.json` is its published JSON schema.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::context::{ClientStage, StagePlan, TargetRecord, WorkloadRecord};
use crate::diagnostics::{Diagnostic, Validity};
use crate::record::gpu::GpuBlock;
use crate::stats::summary::Summary;

/// A summary with one more percentile.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Distribution {
    /// The summary.
    #[serde(flatten)]
    pub summary: Summary,
    /// 99.9th percentile.
    pub p99_9: Option<f64>,
}

/// The measures of one window of a stage, by name; the names are in `docs/METRICS.md`.
pub type Measures = BTreeMap<String, Distribution>;

/// Rates of one window of a stage. Unknown is null.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Rates {
    /// Length of the window in seconds.
    pub window_s: Option<f64>,
    /// Successful requests that ended in it, per second.
    pub request_per_s: Option<f64>,
    /// Output tokens per second.
    pub output_tok_per_s: Option<f64>,
    /// Input and output tokens per second.
    pub total_tok_per_s: Option<f64>,
    /// Prompt tokens over TTFT, the median over requests, in tokens per second.
    pub prefill_tok_per_s: Option<f64>,
    /// Output tokens per second of one user: 1 / TPOT, the median over requests.
    pub per_user_tok_per_s: Option<f64>,
    /// Jain's index over the rates of the requests: 1 is even, 1/n is one user taking all.
    pub fairness: Option<f64>,
}

/// Requests that kept a service level.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Goodput {
    /// Name of the level.
    pub slo: String,
    /// Requests that kept all of it.
    pub good: u64,
    /// Measured requests, failed ones included, cancelled ones left out.
    pub of: u64,
    /// `good` / `of`.
    pub share: Option<f64>,
    /// Good requests per second.
    pub request_per_s: Option<f64>,
    /// Output tokens of good requests per second.
    pub output_tok_per_s: Option<f64>,
    /// Requests that broke each limit, by its name.
    pub broken: BTreeMap<String, u64>,
    /// Whether at least the wanted share kept it.
    pub kept: bool,
}

/// Errors of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBlock {
    /// Outcome.
    pub outcome: String,
    /// The word for it within its outcome.
    pub kind: String,
    /// HTTP status.
    pub status: Option<u16>,
    /// How often.
    pub count: u64,
    /// The first of them, in words.
    pub first: String,
}

/// A window in which the load was as asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SteadyBlock {
    /// Begin after the begin of the stage, in seconds.
    pub from_s: f64,
    /// End.
    pub to_s: f64,
    /// Measures over the requests that were sent in it.
    pub measures: Measures,
    /// Rates.
    pub rates: Rates,
}

/// Energy and cost of a stage, by the board of the GPUs of this machine.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct CostBlock {
    /// Energy in J; null where no GPU tells.
    pub energy_j: Option<f64>,
    /// Energy over output tokens.
    pub j_per_output_token: Option<f64>,
    /// Price of a million output tokens in USD; null without a price.
    pub usd_per_million_output_tokens: Option<f64>,
}

/// What the server's own metrics said during a stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServerBlock {
    /// Which server's names were known, e.g. `vllm`.
    pub dialect: String,
    /// Mean and largest of each gauge: running, waiting, KV usage.
    pub gauges: BTreeMap<String, [f64; 2]>,
    /// Growth of each counter: prompt and generated tokens, preemptions, cache hits.
    pub counters: BTreeMap<String, f64>,
    /// Means of the server's own latencies in ms, from its histograms.
    pub latencies_ms: BTreeMap<String, f64>,
}

/// One stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageBlock {
    /// What it was to do.
    #[serde(flatten)]
    pub plan: StagePlan,
    /// What the reports call the server.
    pub backend: String,
    /// Whether its numbers may be relied on.
    pub validity: Validity,
    /// Length from the first request to the end of the last, in seconds.
    pub elapsed_s: f64,
    /// Requests issued: the sum of `outcomes`.
    pub issued: u64,
    /// Number of each outcome.
    pub outcomes: BTreeMap<String, u64>,
    /// Failed requests over all that were not cancelled; null without any.
    pub error_rate: Option<f64>,
    /// Measures over successful requests of the whole stage.
    pub measures: Measures,
    /// Rates over the whole stage, ramp and drain included.
    #[serde(flatten)]
    pub rates: Rates,
    /// The part in which the load was as asked; null if it was too short.
    pub steady: Option<SteadyBlock>,
    /// Output tokens by source of their number.
    pub token_sources: BTreeMap<String, u64>,
    /// Prompt tokens of successful requests.
    pub input_tokens: Option<u64>,
    /// Output tokens of successful requests.
    pub output_tokens: Option<u64>,
    /// Prompt tokens from the server's cache.
    pub cached_tokens: Option<u64>,
    /// Most requests in flight at once.
    pub peak_in_flight: u32,
    /// Requests sent late by more than 1 ms (open loop).
    pub late: u64,
    /// Requests that kept each service level.
    pub goodput: Vec<Goodput>,
    /// The first level's requests per second, for programs that know one level.
    pub goodput_per_s: Option<f64>,
    /// Errors by kind.
    pub errors: Vec<ErrorBlock>,
    /// This client.
    pub client: ClientBlock,
    /// Energy and cost.
    pub cost: CostBlock,
    /// What the server said of itself.
    pub server: Option<ServerBlock>,
    /// Why it was given up.
    pub stopped: Option<String>,
}

/// This client in a stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClientBlock {
    /// p99 of the lag in ms: from data at the socket to the stamp of this program. Its key differs from that of the quantiles of
    /// [`ClientStage`], which stand in the same object.
    #[serde(rename = "lag_p99_ms")]
    pub lag_ms: Option<f64>,
    /// CPU time of the process per chunk in µs.
    pub cpu_us_per_chunk: Option<f64>,
    /// Whether it, and not the server, set the figures.
    pub limited: bool,
    /// All that is known of it.
    #[serde(flatten)]
    pub stage: ClientStage,
}

/// Where a server is best used, over the stages of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Saturation {
    /// What the stages differ in: `concurrency` or `rate`.
    pub axis: String,
    /// The knee of output tokens (requests where tokens are unknown) over the axis, from a fit of two lines.
    pub knee: Option<Knee>,
    /// Label and value of the stage with the most requests per second.
    pub peak_request_per_s: Option<Peak>,
    /// Label and value of the stage with the most output tokens per second.
    pub peak_output_tok_per_s: Option<Peak>,
    /// Label and value of the stage with the lowest p99 of the end-to-end time in ms.
    pub lowest_p99_e2e_ms: Option<Peak>,
    /// The first stage whose p99 is at least twice that of the first.
    pub p99_rises_at: Option<Peak>,
    /// The first stage with more than 1 % of errors.
    pub errors_rise_at: Option<Peak>,
    /// The best stage: the most goodput, or without a level the most output tokens per second before the knee ends.
    pub best: Option<Peak>,
    /// Why it is the best.
    pub best_because: String,
    /// The greatest load that keeps the first level, if it was looked for: value, and whether the next one tried broke it.
    pub max_under_slo: Option<MaxUnderSlo>,
    /// What was seen, in sentences.
    pub evidence: Vec<String>,
}

/// A stage and a value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Peak {
    /// Label of the stage.
    pub stage: String,
    /// The value.
    pub value: f64,
}

/// A knee with its interval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Knee {
    /// Where on the axis.
    pub at: f64,
    /// 95 % interval, from resampling the residuals.
    pub ci95: [f64; 2],
    /// Throughput there.
    pub value: f64,
    /// Slope before it, per unit of the axis.
    pub slope_before: f64,
    /// Slope after it.
    pub slope_after: f64,
}

/// The greatest load under a service level.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MaxUnderSlo {
    /// Name of the level.
    pub slo: String,
    /// The greatest value of the axis that kept it; null if none did.
    pub value: Option<f64>,
    /// The smallest value that broke it; null if none did.
    pub broken_at: Option<f64>,
}

/// `metrics.json` of a load test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoadMetrics {
    /// [`super::LOAD_SCHEMA_VERSION`].
    pub schema_version: u32,
    /// `load`.
    pub command: String,
    /// The run.
    pub run_id: String,
    /// `complete`, `interrupted`, `failed` or `invalid`.
    pub status: String,
    /// Whether the numbers may be relied on.
    pub validity: Validity,
    /// The measures of the best stage, for programs that want one number.
    pub measures: Measures,
    /// What the reports call the server.
    pub backend: String,
    /// The model.
    pub model: String,
    /// The API.
    pub endpoint: String,
    /// Whether a stream was asked for.
    pub stream: bool,
    /// Where the answers came from.
    pub targets: Vec<TargetRecord>,
    /// What was asked.
    pub workload: WorkloadRecord,
    /// The stages.
    pub stages: Vec<StageBlock>,
    /// Where the server is best used; null for one stage.
    pub saturation: Option<Saturation>,
    /// The graphics processors of this machine; empty where none was looked at. `ran_here` tells those that worked.
    pub gpus: Vec<GpuBlock>,
    /// Findings.
    pub diagnostics: Vec<Diagnostic>,
}
