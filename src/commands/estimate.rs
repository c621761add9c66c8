//! `perfprof estimate`: what a model must cost, before anything runs.

use serde::Serialize;

use crate::commands::Context;
use crate::diagnostics::{ExitStatus, Failure};
use crate::estimate::architecture::Architecture;
use crate::estimate::cost::{joules_per_million_tokens, usd_per_million_tokens};
use crate::estimate::flops::{self, PhaseCost, Storage};
use crate::estimate::format::Format;
use crate::estimate::memory::{self, MemoryNeed};
use crate::estimate::parameters::{active_parameters, parameters};
use crate::estimate::roofline::{Roofline, roofline};
use crate::estimate::step::WeightFormats;
use crate::estimate::{from_hf::ArchitectureError, kv_cache};
use crate::units::{Bandwidth, Bytes, Flops, FlopsPerSecond, Seconds};

/// Version of [`Estimate`].
pub const ESTIMATE_SCHEMA_VERSION: u32 = 1;

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

/// One phase of the estimate.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PhaseEstimate {
    /// `prefill` or `decode`.
    pub phase: &'static str,
    /// FLOPs and bytes.
    #[serde(flatten)]
    pub cost: PhaseCost,
    /// Least times, from model FLOPs and from weight and KV-cache bytes.
    #[serde(flatten)]
    pub roofline: Roofline,
    /// Tokens per second at the roofline: prompt tokens in prefill, generated ones in decode.
    pub tok_per_s: Option<f64>,
}

/// What `--json` prints. Unknown is null.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Estimate {
    /// [`ESTIMATE_SCHEMA_VERSION`].
    pub schema_version: u32,
    /// `estimate`.
    pub command: &'static str,
    /// The model's name.
    pub name: String,
    /// Its shape.
    pub architecture: Architecture,
    /// Storage of the matrices.
    pub dtype: Format,
    /// Storage of activations: that of the matrices, or what their kernels compute in where they are quantized.
    pub compute_dtype: Format,
    /// Storage of the KV cache.
    pub kv_dtype: Format,
    /// Sequences.
    pub batch: u32,
    /// Prompt tokens of each.
    pub prompt_tokens: u32,
    /// Tokens generated for each.
    pub new_tokens: u32,
    /// Parameters.
    pub parameters: u64,
    /// Parameters one token passes through.
    pub active_parameters: u64,
    /// KV-cache bytes for one token of one sequence.
    pub kv_bytes_per_token: u64,
    /// Memory by use.
    pub memory: MemoryNeed,
    /// Sum of it.
    pub memory_total_bytes: u64,
    /// Memory of the device.
    pub memory_bytes: Option<u64>,
    /// Whether the run fits.
    pub fits: Option<bool>,
    /// The most sequences of this length that fit.
    pub max_batch: Option<u64>,
    /// The longest context that fits at this batch size; what the model was made for is `architecture.max_position_embeddings`.
    pub max_context: Option<u64>,
    /// Prefill and decode.
    pub phases: Vec<PhaseEstimate>,
    /// Least time of the whole generation in milliseconds.
    pub total_ms: Option<f64>,
    /// Generated tokens per second over the whole generation, at the roofline.
    pub total_tok_per_s: Option<f64>,
    /// Joules of the generation at the roofline.
    pub energy_j: Option<f64>,
    /// Joules per million generated tokens at the roofline.
    pub joules_per_million_tokens: Option<f64>,
    /// US dollars per million generated tokens at the roofline.
    pub usd_per_million_tokens: Option<f64>,
    /// What a reader should know.
    pub notes: Vec<String>,
}

/// Prints the estimate as a table, or as JSON with `--json`.
pub fn run(options: &EstimateOptions, context: &Context) -> anyhow::Result<ExitStatus> {
    let estimate = estimate(options)?;
    let text = if context.json {
        let mut json = serde_json::to_string_pretty(&estimate)?;
        json.push('\n');
        json
    } else {
        table(&estimate, options)
    };
    super::print_answer(&text)?;
    Ok(ExitStatus::Success)
}

/// The numbers [`run`] prints.
pub fn estimate(options: &EstimateOptions) -> Result<Estimate, Failure> {
    check(options)?;
    let model = &options.architecture;
    let weights = WeightFormats::uniform(options.dtype);
    let compute_dtype = compute_format(options.dtype);
    let storage = Storage { weights: &weights, cache: options.kv_dtype, activation: compute_dtype };
    let [batch, prompt, new] = [options.batch, options.prompt_tokens, options.new_tokens].map(u64::from);
    // The last token is sampled but never fed back.
    let context = prompt + new - 1;
    let need = memory::need(model, storage, batch, prompt, context);
    let phase = |phase, cost: PhaseCost, tokens: u64| {
        let roofline =
            roofline(cost.model_flops, cost.model_bytes(), options.peak_flops_per_s, options.peak_bytes_per_s);
        let tok_per_s = roofline.time_s.filter(|time| *time > 0.0).map(|time| tokens as f64 / time);
        PhaseEstimate { phase, cost, roofline, tok_per_s }
    };
    let mut phases = vec![phase("prefill", flops::prefill(model, storage, batch, prompt), batch * prompt)];
    if new > 1 {
        phases.push(phase("decode", flops::decode(model, storage, batch, prompt, new), batch * (new - 1)));
    }
    let total_s: Option<f64> = phases.iter().map(|phase| phase.roofline.time_s).sum();
    let total_tok_per_s = total_s.filter(|time| *time > 0.0).map(|time| (batch * new) as f64 / time);
    Ok(Estimate {
        schema_version: ESTIMATE_SCHEMA_VERSION,
        command: "estimate",
        name: options.name.clone(),
        architecture: model.clone(),
        dtype: options.dtype,
        compute_dtype,
        kv_dtype: options.kv_dtype,
        batch: options.batch,
        prompt_tokens: options.prompt_tokens,
        new_tokens: options.new_tokens,
        parameters: parameters(model),
        active_parameters: active_parameters(model),
        kv_bytes_per_token: kv_cache::bytes_per_token(model, options.kv_dtype),
        memory: need,
        memory_total_bytes: need.total_bytes(),
        memory_bytes: options.memory_bytes,
        fits: options.memory_bytes.map(|memory| need.total_bytes() <= memory),
        max_batch: options.memory_bytes.map(|bytes| memory::max_batch(model, storage, bytes, prompt, context)),
        max_context: options.memory_bytes.map(|bytes| memory::max_context(model, storage, bytes, batch, prompt)),
        phases,
        total_ms: total_s.map(|time| time * 1e3),
        total_tok_per_s,
        energy_j: total_s.zip(options.power_w).map(|(time, power)| time * power),
        joules_per_million_tokens: joules_per_million_tokens(options.power_w, total_tok_per_s),
        usd_per_million_tokens: usd_per_million_tokens(options.price_usd_per_hour, total_tok_per_s),
        notes: notes(options, context),
    })
}

/// Quantized matrices are multiplied with f32 activations by candle's kernels, 8-bit floats with bf16 ones.
fn compute_format(dtype: Format) -> Format {
    match dtype {
        Format::F64 | Format::F32 | Format::F16 | Format::BF16 => dtype,
        Format::F8E4M3 => Format::BF16,
        _ => Format::F32,
    }
}

fn check(options: &EstimateOptions) -> Result<(), Failure> {
    options.architecture.validate().map_err(|error: ArchitectureError| {
        Failure::new(ExitStatus::Usage, format!("the shape of `{}` is not valid", options.name)).because(error)
    })?;
    for (key, value) in
        [("batch", options.batch), ("prompt_tokens", options.prompt_tokens), ("new_tokens", options.new_tokens)]
    {
        if value == 0 {
            return Err(Failure::new(ExitStatus::Usage, format!("`{key}` must be at least 1")));
        }
    }
    for (key, value) in [
        ("peak_flops_per_s", options.peak_flops_per_s),
        ("peak_bytes_per_s", options.peak_bytes_per_s),
        ("power_w", options.power_w),
        ("price_usd_per_hour", options.price_usd_per_hour),
    ] {
        if let Some(value) = value.filter(|value| !value.is_finite() || *value < 0.0) {
            return Err(Failure::new(ExitStatus::Usage, format!("`{key}` = {value} must be a positive number"))
                .hint("leave it out if it is unknown"));
        }
    }
    // Counts are exact 64-bit integers. No count exceeds this bound: attention takes 2·L·Q·n² FLOPs and its cache traffic at most
    // 8·L·K·n² bytes, everything else is a small multiple of the parameters per token.
    let model = &options.architecture;
    let (batch, new) = (f64::from(options.batch), f64::from(options.new_tokens));
    let length = f64::from(options.prompt_tokens) + new;
    let parameters = parameters(model) as f64;
    let width = (model.q_width() + model.kv_width()) as f64;
    let bound =
        32.0 * parameters * (batch * length + new) + 8.0 * model.num_layers as f64 * width * batch * length * length;
    if bound > 1e19 {
        let message = "`batch`, `prompt_tokens` and `new_tokens` together give more work than can be counted exactly";
        return Err(Failure::new(ExitStatus::Usage, message).hint("estimate a smaller batch: costs grow with it"));
    }
    Ok(())
}

fn notes(options: &EstimateOptions, context: u64) -> Vec<String> {
    let model = &options.architecture;
    let mut notes = vec![
        "times are the least the roofline allows: a real run takes longer".to_owned(),
        "activations are an estimate of one layer at its widest, without attention scores".to_owned(),
    ];
    if context > model.max_position_embeddings as u64 {
        notes.push(format!(
            "the context of {context} tokens exceeds the {} the model was made for",
            model.max_position_embeddings
        ));
    }
    if options.peak_flops_per_s.is_none() || options.peak_bytes_per_s.is_none() {
        notes.push("without both peaks there are no times: choose a `hardware=` that is in the table".to_owned());
    }
    if model.moe.is_some() {
        notes.push("experts are counted as routed evenly".to_owned());
    }
    if !model.is_counted_exactly() {
        notes.push(format!("`{}` is counted as a Llama-like decoder of its sizes", model.family.model_type()));
    }
    notes
}

fn table(estimate: &Estimate, options: &EstimateOptions) -> String {
    let bytes = |bytes: u64| Bytes(bytes as f64).to_string();
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "–".to_owned());
    let mut text = format!(
        "{}: {} weights, {} KV cache, batch {}, {} prompt + {} new tokens\n\n",
        crate::diagnostics::escape_control(&estimate.name),
        estimate.dtype,
        estimate.kv_dtype,
        estimate.batch,
        estimate.prompt_tokens,
        estimate.new_tokens
    );
    let mut facts = vec![("parameters", thousands(estimate.parameters))];
    if estimate.active_parameters != estimate.parameters {
        facts.push(("active parameters", thousands(estimate.active_parameters)));
    }
    facts.extend([
        ("weights", bytes(estimate.memory.weights_bytes)),
        ("KV cache per token", bytes(estimate.kv_bytes_per_token)),
        ("KV cache", bytes(estimate.memory.kv_cache_bytes)),
        ("activations", bytes(estimate.memory.activation_bytes)),
        ("memory in all", bytes(estimate.memory_total_bytes)),
    ]);
    if let (Some(memory), Some(fits)) = (estimate.memory_bytes, estimate.fits) {
        facts.push(("device memory", format!("{}, {}", bytes(memory), if fits { "fits" } else { "does NOT fit" })));
    }
    facts.extend([
        ("largest batch that fits", or_dash(estimate.max_batch.map(thousands))),
        ("longest context that fits", or_dash(estimate.max_context.map(thousands))),
        ("peak compute", or_dash(options.peak_flops_per_s.map(|peak| FlopsPerSecond(peak).to_string()))),
        ("peak bandwidth", or_dash(options.peak_bytes_per_s.map(|peak| Bandwidth(peak).to_string()))),
    ]);
    for (name, value) in facts {
        text.push_str(&format!("  {name:<26} {value}\n"));
    }
    text.push('\n');
    let header =
        ["phase", "steps", "model FLOPs", "weights", "KV cache", "compute", "memory", "roofline", "bound", "tok/s"];
    let mut rows = vec![header.map(str::to_owned)];
    for phase in &estimate.phases {
        let seconds = |time: Option<f64>| or_dash(time.map(|time| Seconds(time).to_string()));
        rows.push([
            phase.phase.to_owned(),
            thousands(phase.cost.steps),
            Flops(phase.cost.model_flops as f64).to_string(),
            bytes(phase.cost.weight_bytes),
            bytes(phase.cost.kv_bytes),
            seconds(phase.roofline.compute_time_s),
            seconds(phase.roofline.memory_time_s),
            seconds(phase.roofline.time_s),
            or_dash(phase.roofline.bound.map(|bound| bound.name().to_owned())),
            or_dash(phase.tok_per_s.map(|rate| format!("{rate:.1}"))),
        ]);
    }
    text.push_str(&aligned(&rows));
    text.push('\n');
    for (name, value) in [
        ("whole generation", estimate.total_ms.map(|time| Seconds(time / 1e3).to_string())),
        ("energy", estimate.energy_j.map(|energy| format!("{energy:.3} J"))),
        (
            "energy per million tokens",
            estimate.joules_per_million_tokens.map(|energy| format!("{:.2} kWh", energy / 3.6e6)),
        ),
        ("cost per million tokens", estimate.usd_per_million_tokens.map(|cost| format!("{cost:.4} USD"))),
    ] {
        text.push_str(&format!("  {name:<26} {}\n", or_dash(value)));
    }
    text.push('\n');
    for note in &estimate.notes {
        text.push_str(&format!("note: {note}\n"));
    }
    text
}

/// Columns as wide as their widest cell; the first to the left, the others to the right.
fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let widths: [usize; N] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = (0..N)
            .map(|column| {
                let (cell, width) = (&row[column], widths[column]);
                if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            })
            .collect();
        text.push_str(&format!("  {}\n", cells.join("  ").trim_end()));
    }
    text
}

/// `8030261248` as `8,030,261,248`.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mixtral() -> EstimateOptions {
        let config = include_str!("../../tests/data/hf_configs/mixtral-8x7b.json");
        EstimateOptions {
            architecture: Architecture::from_hf_config(&serde_json::from_str(config).unwrap()).unwrap(),
            name: "mixtral\u{1b}[31m".to_owned(),
            dtype: Format::Q8_0,
            kv_dtype: Format::F16,
            batch: 2,
            prompt_tokens: 100,
            new_tokens: 28,
            peak_flops_per_s: Some(1e14),
            peak_bytes_per_s: Some(1e12),
            memory_bytes: Some(64 << 30),
            power_w: None,
            price_usd_per_hour: Some(3.6),
        }
    }

    #[test]
    fn the_table_says_what_the_numbers_say() {
        let options = mixtral();
        let text = table(&estimate(&options).unwrap(), &options);
        // Terminal escapes in a name are shown and not obeyed.
        assert!(
            text.starts_with("mixtral\\u{1b}[31m: q8_0 weights, f16 KV cache, batch 2, 100 prompt + 28 new tokens\n")
        );
        // Six of eight experts idle; 2 sequences · 127 positions · 128 KiB; matrices at 34/32 bytes.
        for line in [
            "  active parameters          12,879,925,248\n",
            "  KV cache per token         128 KiB\n",
            "  KV cache                   31.8 MiB\n",
            "  weights                    46.2 GiB\n",
            "  device memory              64.0 GiB, fits\n",
            "  energy                     –\n",
            "note: experts are counted as routed evenly\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
        // The columns of the phase table end at the same place.
        let lines: Vec<&str> = text
            .lines()
            .filter(|line| line.contains("phase ") || line.contains("fill ") || line.contains("decode "))
            .collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines.iter().all(|line| line.chars().count() == lines[0].chars().count()), "{text}");
    }

    #[test]
    fn a_family_that_is_not_modelled_exactly_says_so() {
        let config = serde_json::json!({
            "model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024, "vocab_size": 50257,
        });
        let options = EstimateOptions { architecture: Architecture::from_hf_config(&config).unwrap(), ..mixtral() };
        let notes = estimate(&options).unwrap().notes;
        assert!(notes.iter().any(|note| note.contains("`gpt2` is counted as a Llama-like decoder")), "{notes:?}");
    }

    #[test]
    fn thousands_are_set_apart() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (8_030_261_248, "8,030,261,248")] {
            assert_eq!(thousands(number), text);
        }
    }
}
