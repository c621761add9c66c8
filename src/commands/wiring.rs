//! Settings turned into the options of commands that are not told them one by one.

use super::Context;
use super::estimate::EstimateOptions;
use crate::config::compose::{ComposeRequest, compose};
use crate::diagnostics::{ExitStatus, Failure};
use crate::estimate::format::Format;
use crate::hardware::peaks::{self, Lookup};
use crate::hardware::resolve::PeakOverrides;
use crate::runner::assemble;

/// Prompt tokens of an estimate that names none.
const DEFAULT_PROMPT_TOKENS: u32 = 512;

/// The options of `perfprof estimate` from stage1's settings.
///
/// Ceilings come from the table or from overrides; an estimate measures nothing.
pub fn estimate_options(overrides: &[String], context: &Context) -> anyhow::Result<EstimateOptions> {
    let request = ComposeRequest {
        command: "stage1".to_owned(),
        overrides: overrides.to_vec(),
        run_config: None,
        config_dir: context.config_dir.clone(),
    };
    let config = compose(&request).map_err(Failure::from)?.stage1().map_err(Failure::from)?;
    let chosen = assemble::choose(&config).map_err(|error| {
        let failure = Failure::new(ExitStatus::CouldNotStart, error.to_string());
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    })?;
    let dtype = config.model.dtype.or(config.model.dtype_default).or(chosen.stored_format()).unwrap_or(Format::BF16);
    let kv_dtype = config.engine.kv_dtype.unwrap_or(if dtype.is_quantized() { Format::F16 } else { dtype });
    let settings = &config.hardware;
    let overrides = PeakOverrides {
        name: None,
        peak_flops_per_s: settings.peak_tflops.map(|tera| tera * 1e12),
        peak_bytes_per_s: settings.peak_bandwidth_gbs.map(|giga| giga * 1e9),
        memory_bytes: settings.memory_gib.map(|gib| (gib * (1u64 << 30) as f64) as u64),
    };
    let compute_dtype = if dtype.is_quantized() { Format::BF16 } else { dtype };
    // The machine this runs on says nothing about the device that is asked about, so only a name or an override counts.
    let entry = match settings.name.as_str() {
        "auto" => None,
        name => match peaks::lookup(name, overrides.memory_bytes) {
            Lookup::Found(entry) => Some(entry),
            _ => {
                return Err(Failure::new(
                    ExitStatus::Usage,
                    format!("`hardware.name={name}` is not in the peaks table, or names several products"),
                )
                .hint("give `hardware.peak_tflops=` and `hardware.peak_bandwidth_gbs=` instead")
                .into());
            }
        },
    };
    Ok(EstimateOptions {
        architecture: chosen.architecture,
        name: chosen.name,
        dtype,
        kv_dtype,
        batch: config.batch,
        prompt_tokens: config.prompt_tokens.unwrap_or(DEFAULT_PROMPT_TOKENS),
        new_tokens: config.infer.max_new_tokens,
        peak_flops_per_s: overrides.peak_flops_per_s.or(entry.and_then(|entry| entry.dense(compute_dtype))),
        peak_bytes_per_s: overrides.peak_bytes_per_s.or(entry.map(|entry| entry.bandwidth_bytes_per_s)),
        memory_bytes: overrides.memory_bytes.or(entry.map(|entry| entry.memory_bytes)),
        power_w: settings.power_w.or(entry.and_then(|entry| entry.tdp_w)),
        price_usd_per_hour: settings.price_usd_per_hour,
    })
}
