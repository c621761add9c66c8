//! `load.json`: what was planned and how each stage went, without which the rows cannot be summed up.

use serde::{Deserialize, Serialize};

use crate::config::schema::load::{ArrivalKind, Slo};
use crate::diagnostics::Diagnostic;

/// What a stage was to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StagePlan {
    /// What reports call it, e.g. `c=16` or `8/s`.
    pub label: String,
    /// When requests are sent.
    pub arrival: ArrivalKind,
    /// Requests to keep in flight; null in an open loop.
    pub concurrency: Option<u32>,
    /// Requests per second; null in a closed loop.
    pub rate: Option<f64>,
    /// Requests at most.
    pub requests: Option<u32>,
    /// Seconds in which requests are sent.
    pub duration_s: Option<f64>,
    /// Requests before it that count nowhere.
    pub warmup: u32,
}

/// What this client was while it drove a stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClientStage {
    /// Who stamped what arrived: `kernel` or `user`.
    pub stamps: String,
    /// Reads whose lag is known.
    pub lag_samples: u64,
    /// Quantiles of the time from data at the socket to the stamp of this program, in ms: p50, p90, p99, p99.9, largest.
    pub lag_ms: Option<[f64; 5]>,
    /// CPU time of the threads that drive connections, in seconds.
    pub worker_cpu_s: f64,
    /// CPU time of the whole process, in seconds.
    pub process_cpu_s: f64,
    /// Largest share of its time that a thread driving connections was busy.
    pub busiest_worker: f64,
    /// Chunks with output that arrived.
    pub chunks: u64,
    /// Chunks among them that a late thread read together with a later one, so that they have its stamp.
    pub misplaced_chunks: u64,
    /// Reads.
    pub reads: u64,
    /// Bytes read.
    pub bytes: u64,
    /// The most requests in flight at once.
    pub peak_in_flight: u32,
    /// Connections made, those before the stage included.
    pub connects: u64,
    /// Median and largest time of connecting in ms, TLS included.
    pub connect_ms: Option<[f64; 2]>,
    /// Longest turn of an event loop in ms: nothing is read while it lasts.
    pub longest_turn_ms: f64,
    /// The process stood still for so long in ms, at most: stopped, suspended, or without a CPU.
    pub longest_pause_ms: f64,
}

/// How a stage went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageRecord {
    /// What it was to do.
    pub plan: StagePlan,
    /// Begin of the measured phase on the run's clock, in ns.
    pub begin_ns: u64,
    /// When the last request was issued.
    pub issue_end_ns: u64,
    /// When the last request had ended.
    pub end_ns: u64,
    /// Requests that were issued in the measured phase: the sum of their outcomes.
    pub issued: u64,
    /// Requests that were due and never issued, because the stage was given up.
    pub not_issued: u64,
    /// Why it was given up, if it was.
    pub stopped: Option<String>,
    /// This client.
    pub client: ClientStage,
    /// Requests in flight over time: (ns on the run's clock, requests), one point for each change of at most some thousand.
    pub in_flight: Vec<(u64, u32)>,
}

/// Where the answers came from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TargetRecord {
    /// Its URL, without secrets.
    pub url: String,
    /// What `Server` said.
    pub server: Option<String>,
    /// HTTP version spoken.
    pub http: String,
}

/// What was asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkloadRecord {
    /// `builtin`, `random`, … or the file.
    pub dataset: String,
    /// Its format.
    pub format: String,
    /// Prompts.
    pub prompts: u64,
    /// Different prompts among them.
    pub distinct: u64,
    /// SHA-256 over all prompts and lengths in order: the same for the same settings and seed.
    pub sha256: String,
    /// Seed.
    pub seed: u64,
    /// The tokenizer, if there was one.
    pub tokenizer: Option<String>,
    /// What was done to it, in words.
    pub notes: Vec<String>,
}

/// `load.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoadContext {
    /// [`super::LOAD_SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The run.
    pub run_id: String,
    /// What the reports call the server.
    pub backend: String,
    /// The model as asked for.
    pub model: String,
    /// The API.
    pub endpoint: String,
    /// Whether a stream was asked for.
    pub stream: bool,
    /// Where the answers came from.
    pub targets: Vec<TargetRecord>,
    /// What was asked.
    pub workload: WorkloadRecord,
    /// Service levels.
    pub levels: Vec<Slo>,
    /// Seed of the arrivals.
    pub seed: u64,
    /// Wall clock at the begin of the run's clock, RFC 3339 UTC.
    pub started_at: String,
    /// Wall clock at the begin of the run's clock, in ns since the epoch.
    pub started_wall_ns: u64,
    /// The largest p99 of the client's lag a valid stage may have, in ms.
    pub max_lag_ms: f64,
    /// The largest p99 of the dispatch delay a valid stage of an open loop may have, in ms.
    pub max_dispatch_delay_ms: f64,
    /// The share of failed requests above which a stage is given up.
    pub max_error_rate: Option<f64>,
    /// Price of the server.
    pub price_usd_per_hour: Option<f64>,
    /// Stages that have begun, in order.
    pub stages: Vec<StageRecord>,
    /// Findings of the run itself.
    pub diagnostics: Vec<Diagnostic>,
    /// Whether the run ended by itself.
    pub complete: bool,
}
