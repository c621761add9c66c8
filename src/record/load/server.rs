//! `server_metrics.json`: what the server said of itself over time, on the clock of the run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The server's own gauges over time. All columns are as long as `t_s`; a value that a scrape did not give is null.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ServerSeries {
    /// Which server's names were known, e.g. `vllm`.
    pub dialect: String,
    /// When each scrape was answered, in seconds on the run's clock.
    pub t_s: Vec<f64>,
    /// Values by name: `running`, `waiting`, `kv_usage` (0 to 1), and what else is known.
    pub gauges: BTreeMap<String, Vec<Option<f64>>>,
}
