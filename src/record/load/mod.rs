//! What a load test writes: a row for each request as it ends, what was planned, what was watched beside, and the summary.

pub mod context;
pub mod metrics;
pub mod outcome;
pub mod reader;
pub mod row;
pub mod server;
pub mod server_metrics;

/// One row for each request, warm-up included.
pub const REQUESTS_FILE: &str = "requests.jsonl";
/// What was planned, and when each stage began and ended.
pub const LOAD_CONTEXT_FILE: &str = "load.json";
/// What the server said of itself while the test ran.
pub const SERVER_METRICS_FILE: &str = "server_metrics.json";
/// Version of the rows, the context and the metrics.
pub const LOAD_SCHEMA_VERSION: u32 = 1;
