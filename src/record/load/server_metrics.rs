//! `server_metrics.json`: what the server said of itself while a load test ran, as it was read from its `/metrics`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Names of the gauges: requests being computed, requests waiting, share of the KV cache in use.
pub const GAUGES: [&str; 3] = ["running", "waiting", "kv_usage"];
/// Names of the counters.
pub const COUNTERS: [&str; 5] = ["prompt_tokens", "generated_tokens", "preemptions", "cache_hits", "cache_queries"];
/// Names of the histograms, all of seconds.
pub const HISTOGRAMS: [&str; 7] = ["ttft", "itl", "tpot", "e2e", "queue", "prefill", "decode"];

/// Sum and count of a histogram since the server started.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct HistogramTotal {
    /// Sum of the observations, in seconds.
    pub sum: f64,
    /// Number of observations.
    pub count: f64,
}

/// One scrape. A name the server does not have is absent, never 0.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ServerSample {
    /// When it was read, on the run's clock, in ns: the middle between asking and the answer.
    pub t_ns: u64,
    /// Gauges by their name in [`GAUGES`].
    pub gauges: BTreeMap<String, f64>,
    /// Counters by their name in [`COUNTERS`], since the server started.
    pub counters: BTreeMap<String, f64>,
    /// Histograms by their name in [`HISTOGRAMS`].
    pub histograms: BTreeMap<String, HistogramTotal>,
}

/// `server_metrics.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServerMetrics {
    /// [`super::LOAD_SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The run.
    pub run_id: String,
    /// Where they were read, without secrets.
    pub url: String,
    /// Whose names were found, e.g. `vllm`, `sglang`, `llama.cpp`, `tgi`.
    pub dialect: String,
    /// Seconds between two scrapes as asked for.
    pub interval_s: f64,
    /// Scrapes that succeeded, in order of time.
    pub samples: Vec<ServerSample>,
    /// Scrapes that failed.
    pub failures: u64,
    /// What the first of them said.
    pub first_failure: Option<String>,
}

impl ServerMetrics {
    /// A gauge over time: (ns on the run's clock, value), in order.
    pub fn gauge(&self, name: &str) -> Vec<(u64, f64)> {
        self.samples.iter().filter_map(|sample| Some((sample.t_ns, *sample.gauges.get(name)?))).collect()
    }
    /// A counter over time.
    pub fn counter(&self, name: &str) -> Vec<(u64, f64)> {
        self.samples.iter().filter_map(|sample| Some((sample.t_ns, *sample.counters.get(name)?))).collect()
    }
    /// A histogram over time.
    pub fn histogram(&self, name: &str) -> Vec<(u64, HistogramTotal)> {
        self.samples.iter().filter_map(|sample| Some((sample.t_ns, *sample.histograms.get(name)?))).collect()
    }
}
