//! The definitions and assumptions behind the numbers of one run, with the values put in.

use super::gpu::{BUSY_UTILISATION, CLOCK_SPREAD, POWER_LIMIT_SHARE, SLOWDOWN_LIMIT};
use crate::estimate::architecture::Architecture;
use crate::estimate::format::Format;
use crate::hardware::nvml::ENERGY_UPDATES;
use crate::record::context::Stage1Context;
use crate::record::gpu::GpuBlock;
use crate::record::metrics::Stage1Metrics;
use crate::units::{Bandwidth, Bytes, FlopsPerSecond};

/// A titled block of name and text.
pub type Section = (String, Vec<(String, String)>);

fn line(name: &str, text: impl Into<String>) -> (String, String) {
    (name.to_owned(), text.into())
}

/// Decode FLOPs of one token as a formula with this architecture's numbers.
fn decode_formula(architecture: &Architecture) -> String {
    let Architecture { hidden_size: d, intermediate_size: ff, num_layers: layers, vocab_size: vocabulary, .. } =
        *architecture;
    let (q, kv) = (architecture.q_width(), architecture.kv_width());
    format!(
        "per token at context L: {layers} layers × [2·{d}·({q} + 2·{kv}) + 2·{q}·{d} + 4·{q}·L + 6·{d}·{ff}] + 2·{d}·{vocabulary}"
    )
}

/// All sections.
pub fn sections(context: &Stage1Context, metrics: &Stage1Metrics) -> Vec<Section> {
    let model = &context.model;
    let architecture = &model.architecture;
    let hardware = &context.hardware;
    let peak = |value: Option<String>, kind: &str, source: &str| match value {
        Some(value) => format!("{value} ({kind}): {source}"),
        None => format!("unknown: {source}"),
    };
    let mut sections = vec![(
        "What ran".to_owned(),
        vec![
            line("model", format!("{} ({}, {})", model.name, model.source, architecture.family.model_type())),
            line("weights", format!("{} in {}", Bytes(model.weights_bytes as f64), formats(context))),
            line("activations", format!("{}; products accumulate in f32", model.compute_dtype)),
            line(
                "KV cache",
                format!(
                    "{}, {} per token of one sequence, allocated before the first repeat",
                    model.kv_dtype,
                    Bytes(model.kv_bytes_per_token as f64)
                ),
            ),
            line("operators", model.ops.clone()),
            line(
                "device",
                format!(
                    "{} ({}){}",
                    hardware.device,
                    hardware.device_id,
                    hardware.threads.map_or_else(String::new, |threads| format!(", {threads} engine threads"))
                ),
            ),
            line(
                "cases",
                context
                    .cases
                    .iter()
                    .map(|case| {
                        format!(
                            "`{}`: batch {}, {} prompt tokens ({}), {} new tokens",
                            case.name, case.batch, case.prompt_len, case.source, case.new_tokens
                        )
                    })
                    .collect::<Vec<_>>()
                    .join("; "),
            ),
            line(
                "decoding",
                format!(
                    "{}, ignore_eos {}",
                    if context.temperature > 0.0 {
                        format!("sampled at temperature {}", context.temperature)
                    } else {
                        "greedy".to_owned()
                    },
                    context.ignore_eos
                ),
            ),
            line(
                "seeds",
                context.seeds.iter().map(|(name, seed)| format!("{name} {seed}")).collect::<Vec<_>>().join(", "),
            ),
        ],
    )];
    sections.push((
        "Repeats".to_owned(),
        vec![
            line("warm-up", format!("{} per case, run and not recorded", context.warmup)),
            line(
                "measured",
                format!(
                    "{} per case without operator spans, {} with; they alternate ABBA",
                    context.repeats, context.span_repeats
                ),
            ),
            line("headline measures", "from repeats without operator spans only"),
            line("operator tables", "from repeats with operator spans only: the prompt pass and every second decode step (on, off, off, on)"),
            line("excluded", "loading, tokenizing and detokenizing are outside every repeat; no outlier is dropped"),
        ],
    ));
    let two_pass = context.mode == "two_pass";
    sections.push((
        "Time".to_owned(),
        vec![
            line("clock", "the host's monotonic clock, for spans the processor's time-stamp counter where it is invariant; on the CPU an operator has ended when its call returns"),
            line(
                "mode",
                if two_pass {
                    "two-pass: each repeat generates twice, first one token, then all of them; only TTFT comes from the first pass, prefill, decode, ITL, total, memory, energy and contention from the second, so TTFT need not equal prefill, and a short pass disturbed by other work makes TPOT too small"
                } else {
                    "single-pass: every time comes from the same generation"
                },
            ),
            line("prefill", "from the start of the prompt pass to the first token on the host, sampling included"),
            line("decode step", "from feeding a token to the next one on the host, sampling included"),
            line("remainder", "total − prefill − Σ decode steps: bookkeeping between steps"),
            line(
                "TTFT",
                if two_pass {
                    "two-pass: total time of a generation of one token"
                } else {
                    "single-pass: start to first token of the same generation"
                },
            ),
            line(
                "TPOT",
                if two_pass {
                    "two-pass: (total of the full generation − TTFT) / (n − 1); null for n < 2"
                } else {
                    "(t_last − t_first) / (n − 1); null for n < 2"
                },
            ),
            line(
                "ITL",
                "gap between consecutive tokens, pooled over the repeats; neighbouring gaps are not independent",
            ),
            line(
                "percentiles",
                "numpy's linear method (Hyndman & Fan type 7); printed bare only if n supports them at 99 % confidence",
            ),
            line("ci95", "Student t interval of the mean over repeats"),
            line("token source", "the engine's own token ids, exact"),
        ],
    ));
    let mut flops = vec![
        line(
            "counting",
            "a multiply-add is two FLOPs; softmax, norms and other elementwise work are not model FLOPs (PaLM, arXiv 2204.02311, appendix B)",
        ),
        line(
            "attention",
            "causal: a query at position p sees p + 1 positions (at most the sliding window); 4·heads·head_dim FLOPs per pair",
        ),
        line("LM head", "last position of each sequence only, in prefill as in decode"),
    ];
    if context.instrumented {
        flops.push(line("decode", decode_formula(architecture)));
        for phase in &metrics.phases {
            flops.push(line(
                &format!("{} of `{}`", phase.phase, phase.case),
                format!(
                    "{} steps: {} model FLOPs, {} weight bytes (each weight once per step), {} KV bytes",
                    phase.steps, phase.model_flops, phase.weight_bytes, phase.kv_bytes
                ),
            ));
        }
    }
    sections.push(("FLOPs and bytes".to_owned(), flops));
    sections.push((
        "Ceilings".to_owned(),
        vec![
            line("peak FLOP/s", peak(hardware.peak_flops_per_s.value.map(|v| FlopsPerSecond(v).to_string()), &hardware.peak_flops_per_s.kind, &hardware.peak_flops_per_s.source)),
            line("peak bandwidth", peak(hardware.peak_bytes_per_s.value.map(|v| Bandwidth(v).to_string()), &hardware.peak_bytes_per_s.kind, &hardware.peak_bytes_per_s.source)),
            line("MFU", "model FLOPs / (peak FLOP/s × phase time)"),
            line("MBU", "(weight bytes + KV bytes) / (peak bandwidth × phase time); above 1 means that part of them came from a cache faster than the memory the ceiling was taken from"),
            line("roofline of an operator", "max(FLOPs / peak, (weights + KV + activations) / bandwidth)"),
        ],
    ));
    if let Some(gpu) = &metrics.gpu {
        sections.push(("GPU".to_owned(), watched(gpu)));
    }
    let mut other = vec![line(
        "disturbed repeats",
        format!(
            "marked by contention thresholds; more than {:.0} % of them make the run INVALID",
            context.max_disturbed_share * 100.0
        ),
    )];
    other.extend(
        context.notes.iter().enumerate().map(|(index, note)| line(&format!("note {}", index + 1), note.clone())),
    );
    sections.push(("Validity and notes".to_owned(), other));
    sections
}

/// How the graphics processor was looked at.
fn watched(gpu: &GpuBlock) -> Vec<(String, String)> {
    let energy = match gpu.energy_source.as_deref() {
        Some("nvml:counter") => "the device's own counter, read before and after each repeat",
        Some(_) => "integral of the power readings between the looks before and after each repeat",
        None => "not told by this device",
    };
    vec![
        line(
            "looks",
            format!(
                "NVML, every {:.0} ms on a thread of its own, and before and after each repeat, outside its clock",
                gpu.interval_s * 1e3
            ),
        ),
        line(
            "energy",
            format!(
                "{energy}; of the whole board, idle share included; null for a repeat shorter than {ENERGY_UPDATES:.0} updates of the meter"
            ),
        ),
        line("means", "weighted with the time between looks; time next to a failed look is left out"),
        line(
            "utilisation",
            "share of the driver's last sample period (up to a second) with any kernel running: says nothing of how full the device was",
        ),
        line(
            "INVALID if",
            format!(
                "the device is lost; another process was on it, with {:.0} % utilisation or more before the run; heat or hardware slowed it down in more than {:.0} % of the looks; \
                 or the power limit held in more than {:.0} % of them and the clocks of the repeats differ by {:.0} % or more",
                BUSY_UTILISATION * 100.0,
                SLOWDOWN_LIMIT * 100.0,
                POWER_LIMIT_SHARE * 100.0,
                CLOCK_SPREAD * 100.0
            ),
        ),
    ]
}

fn formats(context: &Stage1Context) -> String {
    let mut by_bytes: Vec<(&String, &u64)> = context.model.weights_bytes_by_format.iter().collect();
    by_bytes.sort_by(|a, b| b.1.cmp(a.1));
    let known = |name: &str| Format::parse(name).map_or_else(|| name.to_owned(), |format| format.name().to_owned());
    by_bytes
        .iter()
        .map(|(name, bytes)| format!("{} ({})", known(name), Bytes(**bytes as f64)))
        .collect::<Vec<_>>()
        .join(", ")
}
