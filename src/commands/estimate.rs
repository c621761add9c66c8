//! `perfprof estimate`: what a model must cost, before anything runs.

use crate::commands::Context;
use crate::diagnostics::ExitStatus;
use crate::estimate::architecture::Architecture;
use crate::estimate::format::Format;

/// What to estimate.
#[derive(Debug, Clone)]
pub struct EstimateOptions {
    /// The shape.
    pub architecture: Architecture,
    /// Name to print.
    pub name: String,
    /// Storage of the matrices.
    pub dtype: Format,
    /// Storage of the KV cache.
    pub kv_dtype: Format,
    /// Sequences.
    pub batch: u32,
    /// Prompt tokens of each.
    pub prompt_tokens: u32,
    /// Tokens generated for each, the first included.
    pub new_tokens: u32,
    /// Dense FLOP/s of the device.
    pub peak_flops_per_s: Option<f64>,
    /// Memory bytes per second of the device.
    pub peak_bytes_per_s: Option<f64>,
    /// Memory of the device.
    pub memory_bytes: Option<u64>,
    /// Power while it works.
    pub power_w: Option<f64>,
    /// Price per hour.
    pub price_usd_per_hour: Option<f64>,
}

/// Prints the estimate as a table, or as JSON with `--json`.
pub fn run(options: &EstimateOptions, context: &Context) -> anyhow::Result<ExitStatus> {
    let _ = (options, context);
    todo!()
}
