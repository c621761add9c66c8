//! What the report of a load test is rendered from. Values only: nothing here is read from a file or measured.

use crate::record::gpu::GpuTelemetry;
use crate::record::load::context::LoadContext;
use crate::record::load::metrics::LoadMetrics;
use crate::record::load::row::RequestRow;
use crate::record::load::server::ServerSeries;

/// Everything the report of a load test is made from.
#[derive(Debug, Clone)]
pub struct LoadReport<'a> {
    /// The summary, as written to `metrics.json`.
    pub metrics: &'a LoadMetrics,
    /// What was planned and how it went, as written to `load.json`.
    pub context: &'a LoadContext,
    /// Every request, warm-up included, as written to `requests.jsonl`.
    pub rows: &'a [RequestRow],
    /// The looks at the graphics processors of this machine, in the order of [`LoadMetrics::gpus`]; empty where none was looked at.
    pub gpus: &'a [GpuTelemetry],
    /// The server's own gauges; none where it tells none.
    pub server: Option<&'a ServerSeries>,
    /// The command line, secrets masked.
    pub command: &'a str,
    /// When the report was made, RFC 3339 UTC.
    pub generated_at: &'a str,
    /// Further runs to stand beside this one in the same charts and tables.
    pub others: Vec<OtherRun<'a>>,
}

/// A further run.
#[derive(Debug, Clone, Copy)]
pub struct OtherRun<'a> {
    /// What it is called.
    pub label: &'a str,
    /// Its summary.
    pub metrics: &'a LoadMetrics,
}
