//! What limits the run and what to try, in plain words derived from its numbers.
//!
//! Rules over the metrics: each sentence quotes the numbers it rests on, each proposal a bound on what it can give, and where the
//! numbers do not allow an answer the answer is "cannot tell". Nothing here is measured, and no sentence is fixed.

use super::model::Stage1Report;
use super::number::{self, digits, percent};
use super::operators::{self, OperatorSum};
use super::tables;
use crate::record::metrics::PhaseBlock;
use crate::record::rows::RowStatus;
use crate::units::{Bandwidth, Bytes, FlopsPerSecond};

/// Share of its roofline above which a phase counts as close to the ceiling.
const CLOSE: f64 = 0.6;
/// Share of its roofline below which neither ceiling explains the time.
const FAR: f64 = 0.3;
/// Proposals that could save less than this share of the whole time are not worth a sentence.
const WORTH: f64 = 0.02;
/// MBU from which on fewer bytes can be expected to save time.
const BYTES_COUNT: f64 = 0.4;

/// The findings, ready for any format.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub(super) struct Findings {
    /// What was measured.
    pub measured: Vec<String>,
    /// What limits each phase.
    pub limits: Vec<String>,
    /// Where the time goes.
    pub time: Vec<String>,
    /// What to try, largest bounded gain first.
    pub proposals: Vec<String>,
    /// True where the proposals carry bounds and are ranked by them.
    pub ranked: bool,
    /// How far the numbers can be trusted.
    pub trust: Vec<String>,
}

/// A proposal and the factor it can give at most.
struct Proposal {
    factor: f64,
    text: String,
}

/// Derives the findings of `report`.
pub(super) fn findings(report: &Stage1Report<'_>) -> Findings {
    let mut findings = Findings { measured: measured(report), trust: trust(report), ..Findings::default() };
    if let Some(reason) = unusable(report) {
        findings.limits.push(format!("Cannot tell what limits this run: {reason}."));
        findings.proposals.push(format!("Nothing is proposed: {reason}. Repeat the run first."));
        return findings;
    }
    findings.limits = report.metrics.phases.iter().map(|phase| limit(report, phase)).collect();
    findings.time = time(report);
    let mut proposals = proposals(report);
    proposals.sort_by(|a, b| b.factor.total_cmp(&a.factor));
    findings.proposals = proposals.into_iter().map(|proposal| proposal.text).collect();
    findings.ranked = !findings.proposals.is_empty();
    if !findings.ranked {
        findings.proposals.push(nothing_to_try(report));
    }
    findings
}

/// Why no conclusion may be drawn, if so.
fn unusable(report: &Stage1Report<'_>) -> Option<String> {
    let metrics = report.metrics;
    if !metrics.validity.is_valid() {
        return Some(format!("the run is INVALID ({})", join(&metrics.validity.reasons)));
    }
    let used: Vec<_> = report.rows.iter().filter(|row| row.status == RowStatus::Ok && !row.spans).collect();
    if used.is_empty() {
        return Some("no repeat without spans ended well".to_owned());
    }
    let disturbed = used.iter().filter(|row| row.contention.disturbed).count();
    (disturbed * 2 >= used.len()).then(|| {
        format!("{disturbed} of the {} repeats behind the numbers were disturbed by other processes", used.len())
    })
}

fn join(reasons: &[String]) -> String {
    if reasons.is_empty() { "no reason recorded".to_owned() } else { reasons.join("; ") }
}

fn measured(report: &Stage1Report<'_>) -> Vec<String> {
    let (model, hardware) = (&report.metrics.model, &report.metrics.hardware);
    let threads = hardware.threads.map_or_else(String::new, |threads| format!(" with {threads} threads"));
    let mut out = vec![format!(
        "{} ({} parameters, {} of {} weights) ran on {}{threads}.",
        model.name,
        number::parameters(model.parameters),
        Bytes(model.weights_bytes as f64),
        model.dtype,
        hardware.device
    )];
    for case in &report.metrics.cases {
        let median = |name: &str| case.measures.get(name).and_then(|summary| summary.p50);
        let mut parts = Vec::new();
        if let Some(ttft) = median("ttft_ms") {
            parts.push(format!("the first token came after {} ms", digits(ttft)));
        }
        if let Some(tpot) = median("tpot_ms") {
            parts.push(format!("each further token took {} ms", digits(tpot)));
        }
        if let Some(rate) = median("decode_tok_per_s") {
            parts.push(format!("decode ran at {} tokens per second", digits(rate)));
        }
        let result = if parts.is_empty() {
            "nothing was measured".to_owned()
        } else {
            format!("{} (medians)", parts.join(", "))
        };
        let repeats = match case.repeats {
            1 => "1 repeat".to_owned(),
            many => format!("{many} repeats"),
        };
        out.push(format!(
            "Case {}: {} × {} prompt tokens, {} new tokens, {} without spans: {result}.",
            case.name, case.batch, case.prompt_len, case.new_tokens, repeats
        ));
    }
    out
}

/// What limits one phase of one case.
fn limit(report: &Stage1Report<'_>, phase: &PhaseBlock) -> String {
    let what =
        if report.metrics.cases.len() > 1 { format!("{} of {}", phase.phase, phase.case) } else { phase.phase.clone() };
    let hardware = &report.metrics.hardware;
    let Some(time) = phase.time_ms.filter(|time| time.is_finite() && *time > 0.0) else {
        return format!("Cannot tell what limits {what}: its time was not measured.");
    };
    let (Some(compute), Some(memory), Some(best)) = (phase.compute_time_ms, phase.memory_time_ms, phase.roofline_ms)
    else {
        let missing = match (hardware.peak_flops_per_s.value, hardware.peak_bytes_per_s.value) {
            (None, None) => format!(
                "the peaks of this machine are unknown ({}; {})",
                hardware.peak_flops_per_s.source, hardware.peak_bytes_per_s.source
            ),
            (None, _) => format!("its peak arithmetic rate is unknown ({})", hardware.peak_flops_per_s.source),
            (_, None) => format!("its peak memory rate is unknown ({})", hardware.peak_bytes_per_s.source),
            _ => "its roofline is unknown".to_owned(),
        };
        return format!("Cannot tell what limits {what}: {missing}.");
    };
    let reached = best / time;
    let memory_bound = memory >= compute;
    // A decode step is what users know; the sum over all steps says little.
    let steps = phase.steps.max(1) as f64;
    let each = if phase.steps > 1 { format!("each of its {} steps", phase.steps) } else { "it".to_owned() };
    let bytes = Bytes((phase.weight_bytes + phase.kv_bytes) as f64 / steps);
    let gflop = digits(phase.model_flops as f64 / steps / 1e9);
    let (memory, compute) = (digits(memory / steps), digits(compute / steps));
    let (bound, ceiling) = if memory_bound {
        (
            format!(
                "{each} must move {bytes} of weights and KV cache, at least {memory} ms; the arithmetic needs only {compute} ms"
            ),
            "memory",
        )
    } else {
        (
            format!("{each} must do {gflop} GFLOP, at least {compute} ms; moving the bytes needs only {memory} ms"),
            "arithmetic",
        )
    };
    let evidence = format!(
        "{bound}; it took {} ms (MBU {}, MFU {})",
        digits(time / steps),
        number::maybe_percent(phase.mbu),
        number::maybe_percent(phase.mfu)
    );
    let name = capital(&what);
    if reached > 1.02 {
        return format!(
            "Cannot tell what limits {what}: it ran faster than its {ceiling} ceiling allows ({evidence}). The ceiling is too low for this \
             case: data served from a cache, or a peak that is set too low ({}).",
            if memory_bound { &hardware.peak_bytes_per_s.source } else { &hardware.peak_flops_per_s.source }
        );
    }
    if reached >= CLOSE {
        format!(
            "{name} is {ceiling} bound and close to the ceiling: {evidence}. A better program can make it at most {} faster; beyond that \
             only {} helps.",
            number::factor(1.0 / reached),
            if memory_bound { "fewer bytes or more bandwidth" } else { "less arithmetic or a faster unit" }
        )
    } else if reached >= FAR {
        format!(
            "{name} is {ceiling} bound, but reaches only {} of the ceiling: {evidence}. Both the program and the ceiling matter.",
            percent(reached)
        )
    } else {
        format!(
            "{name} is far from both ceilings ({} of the nearer one, {ceiling}): {evidence}. {} of the time is explained by neither; it is \
             overhead of the program, not the limit of the machine.",
            percent(reached),
            percent(1.0 - reached)
        )
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// Which operators take the time, and where it is lost.
fn time(report: &Stage1Report<'_>) -> Vec<String> {
    let metrics = report.metrics;
    let mut out = Vec::new();
    for phase in operators::phase_names(metrics) {
        let classes = operators::classes(metrics, &phase);
        let (Some(top), Some(all)) = (classes.first(), operators::total(metrics, &phase)) else { continue };
        let mut text = format!(
            "In {phase}, {} operators take {} of the operator time, the costliest is {}",
            top.label,
            percent(top.share),
            top.costliest
        );
        if let Some(second) = classes.get(1) {
            text.push_str(&format!("; next are {} operators with {}", second.label, percent(second.share)));
        }
        text.push_str(". ");
        match (all.lost_ns, loser(&classes)) {
            (Some(lost), Some(worst)) if all.total_ns > 0 => text.push_str(&format!(
                "Against the roofline of each operator {} of the time is lost, {} of that loss in {}.",
                percent(lost / all.total_ns as f64),
                percent(worst.lost_ns.unwrap_or(0.0) / lost),
                worst.label
            )),
            (Some(lost), None) if all.total_ns > 0 => {
                text.push_str(&format!(
                    "Against the roofline of each operator {} of the time is lost.",
                    percent(lost / all.total_ns as f64)
                ));
            }
            _ => text.push_str("How much of it is lost cannot be told without the peaks of the machine."),
        }
        out.push(text);
    }
    if out.is_empty() {
        out.push("Cannot tell which operators take the time: no repeat with spans was recorded.".to_owned());
    }
    out
}

/// The class with the largest loss.
fn loser(classes: &[OperatorSum]) -> Option<&OperatorSum> {
    classes
        .iter()
        .filter(|class| class.lost_ns.is_some_and(|lost| lost > 0.0))
        .max_by(|a, b| a.lost_ns.unwrap_or(0.0).total_cmp(&b.lost_ns.unwrap_or(0.0)))
}

/// Time of `phase` over all cases, one pass of each; null if any case lacks it.
fn phase_time(report: &Stage1Report<'_>, phase: &str) -> Option<f64> {
    let finite = |block: &PhaseBlock| block.time_ms.filter(|time| time.is_finite() && *time >= 0.0);
    let mut times = report.metrics.phases.iter().filter(|block| block.phase == phase).map(finite).peekable();
    times.peek()?;
    times.sum()
}

fn proposals(report: &Stage1Report<'_>) -> Vec<Proposal> {
    let mut out = Vec::new();
    let known: Vec<f64> = ["prefill", "decode"].iter().filter_map(|phase| phase_time(report, phase)).collect();
    let between: f64 = report
        .metrics
        .cases
        .iter()
        .filter_map(|case| case.measures.get("remainder_ms").and_then(|summary| summary.p50))
        .sum();
    let whole = known.iter().sum::<f64>() + between.max(0.0);
    if known.is_empty() || whole <= 0.0 {
        return out;
    }
    for phase in ["prefill", "decode"] {
        if let Some(time) = phase_time(report, phase) {
            faster_operators(report, phase, time, whole, &mut out);
        }
    }
    fewer_bytes(report, whole, &mut out);
    larger_batch(report, &mut out);
    idle_threads(report, &mut out);
    if between / whole >= WORTH {
        out.push(Proposal {
            factor: whole / (whole - between),
            text: format!(
                "Shorten what happens between the passes of the model (sampling hand-over, detokenisation, callbacks): {} ms of {} ms; without \
                 it the whole generation would be at most {} faster.",
                digits(between),
                digits(whole),
                number::factor(whole / (whole - between))
            ),
        });
    }
    out
}

/// Kernels: each class at its roofline.
fn faster_operators(report: &Stage1Report<'_>, phase: &str, time: f64, whole: f64, out: &mut Vec<Proposal>) {
    let classes = operators::classes(report.metrics, phase);
    let total: u64 = classes.iter().map(|class| class.total_ns).sum();
    if total == 0 {
        return;
    }
    for class in &classes {
        let Some(lost) = class.lost_ns.filter(|lost| *lost > 0.0) else { continue };
        // Spans and headline numbers come from different repeats: the share carries over, the nanoseconds do not.
        let saved = time * lost / total as f64;
        if saved / whole < WORTH || saved >= time {
            continue;
        }
        let reached = class.roofline_ns.map_or(0.0, |ns| ns / class.total_ns as f64);
        let how = match class.bound.as_deref() {
            Some("memory") => format!(
                "they move {} where {} is possible",
                class.bytes_per_s().map_or_else(|| "nothing".to_owned(), |rate| Bandwidth(rate).to_string()),
                report
                    .metrics
                    .hardware
                    .peak_bytes_per_s
                    .value
                    .map_or_else(|| "more".to_owned(), |peak| Bandwidth(peak).to_string())
            ),
            Some("compute") => format!(
                "they reach {} where {} is possible",
                class.flops_per_s().map_or_else(|| "nothing".to_owned(), |rate| FlopsPerSecond(rate).to_string()),
                report
                    .metrics
                    .hardware
                    .peak_flops_per_s
                    .value
                    .map_or_else(|| "more".to_owned(), |peak| FlopsPerSecond(peak).to_string())
            ),
            _ => "some are limited by memory, some by arithmetic".to_owned(),
        };
        out.push(Proposal {
            factor: whole / (whole - saved),
            text: format!(
                "Speed up the {} operators of {phase} ({} of their roofline; {how}; start with {}): if all of them ran at their roofline, {phase} \
                 would take {} ms instead of {} ms, and the whole generation would be at most {} faster.",
                class.label,
                percent(reached),
                class.costliest,
                digits(time - saved),
                digits(time),
                number::factor(whole / (whole - saved))
            ),
        });
    }
}

/// Quantization of the weights or the KV cache, where their bytes are what decode waits for.
fn fewer_bytes(report: &Stage1Report<'_>, whole: f64, out: &mut Vec<Proposal>) {
    let model = &report.metrics.model;
    let decode: Vec<&PhaseBlock> = report.metrics.phases.iter().filter(|block| block.phase == "decode").collect();
    let Some(time) = phase_time(report, "decode").filter(|time| *time > 0.0) else { return };
    let memory_bound = !decode.is_empty() && decode.iter().all(|block| block.bound.as_deref() == Some("memory"));
    // A phase that is far from the bandwidth does not wait for bytes: fewer of them would not be felt.
    let waits = decode.iter().all(|block| block.mbu.is_some_and(|mbu| (BYTES_COUNT..=1.02).contains(&mbu)));
    let weights: u64 = decode.iter().map(|block| block.weight_bytes).sum();
    let cache: u64 = decode.iter().map(|block| block.kv_bytes).sum();
    let all = (weights + cache) as f64;
    let Some(parameters) = model.parameters.filter(|parameters| *parameters > 0) else { return };
    if !(memory_bound && waits && all > 0.0) {
        return;
    }
    let used = weights as f64 / all;
    let bits = model.weights_bytes as f64 * 8.0 / parameters as f64;
    // Q8_0 stores 32 weights in 34 bytes, Q4_0 in 18 (the block formats of GGML).
    let target = if bits > 12.0 {
        Some(("q8_0", 8.5))
    } else if bits > 6.5 {
        Some(("q4_0", 4.5))
    } else {
        None
    };
    if let Some((format, target_bits)) = target.filter(|_| used >= 0.6) {
        let saved = time * used * (1.0 - target_bits / bits);
        out.push(Proposal {
            factor: whole / (whole - saved),
            text: format!(
                "Quantize the weights: they are {} of the bytes decode moves and take {} bits each ({}). In {format} ({target_bits} bits), at the \
                 same use of the bandwidth, decode would take {} ms instead of {} ms and the whole generation be at most {} faster; check \
                 the quality of the output.",
                percent(used),
                digits(bits),
                model.dtype,
                digits(time - saved),
                digits(time),
                number::factor(whole / (whole - saved))
            ),
        });
    }
    let wide = matches!(model.kv_dtype.as_str(), "f32" | "f16" | "bf16");
    if wide && 1.0 - used >= 0.3 {
        let saved = time * (1.0 - used) * 0.5;
        out.push(Proposal {
            factor: whole / (whole - saved),
            text: format!(
                "Store the KV cache in half the width: it is {} of the bytes decode moves ({} now); decode would take at least {} ms instead of {} \
                 ms, and the whole generation would be at most {} faster.",
                percent(1.0 - used),
                model.kv_dtype,
                digits(time - saved),
                digits(time),
                number::factor(whole / (whole - saved))
            ),
        });
    }
}

/// More sequences side by side, where one sequence leaves the arithmetic idle.
fn larger_batch(report: &Stage1Report<'_>, out: &mut Vec<Proposal>) {
    for case in report.metrics.cases.iter().filter(|case| case.batch == 1) {
        let Some(block) = report.metrics.phases.iter().find(|block| block.phase == "decode" && block.case == case.name)
        else {
            continue;
        };
        let (Some(compute), Some(memory)) = (block.compute_time_ms, block.memory_time_ms) else { continue };
        let all = (block.weight_bytes + block.kv_bytes) as f64;
        // Far from the ceiling a step is overhead, and the roofline says nothing about what a batch gives.
        let near = block.roofline_ms.zip(block.time_ms).is_some_and(|(best, time)| best >= FAR * time);
        if block.bound.as_deref() != Some("memory") || !near || all <= 0.0 || compute <= 0.0 {
            continue;
        }
        let weights = memory * block.weight_bytes as f64 / all;
        let cache = memory - weights;
        // One step of a batch b costs max(b·compute, weights + b·cache): weights are read once for all sequences.
        let step = |batch: f64| (batch * compute).max(weights + batch * cache);
        let batch = 8.0;
        let gain = batch * step(1.0) / step(batch);
        if gain < 1.2 {
            continue;
        }
        out.push(Proposal {
            factor: gain,
            text: format!(
                "Generate more sequences side by side if there are any (throughput only; no token comes sooner): decode of {} reads {} of weights \
                 for one token a step. By the roofline a batch of 8 gives at most {} the tokens per second.",
                case.name,
                Bytes(block.weight_bytes as f64 / block.steps.max(1) as f64),
                number::factor(gain)
            ),
        });
        // The same advice for each case would bury the others.
        break;
    }
}

/// Threads that wait.
fn idle_threads(report: &Stage1Report<'_>, out: &mut Vec<Proposal>) {
    let Some(threads) = report.metrics.hardware.threads.filter(|threads| *threads > 1) else { return };
    let busy: Vec<f64> = report
        .rows
        .iter()
        .filter(|row| row.status == RowStatus::Ok && !row.spans)
        .filter_map(|row| row.cpu_utilisation)
        .filter(|busy| busy.is_finite() && *busy > 0.0)
        .collect();
    if busy.is_empty() {
        return;
    }
    let mean = busy.iter().sum::<f64>() / busy.len() as f64;
    if mean < 0.7 {
        out.push(Proposal {
            factor: 1.0 / mean,
            text: format!(
                "Keep the threads busy: the {threads} engine threads work {} of the time (mean of {} repeats). Operators that run on one thread or are \
                 too small to share are the place to look; if no thread waited, the run would be at most {} faster.",
                percent(mean),
                busy.len(),
                number::factor(1.0 / mean)
            ),
        });
    }
}

/// Said when no rule applies.
fn nothing_to_try(report: &Stage1Report<'_>) -> String {
    let reached: Vec<String> = report
        .metrics
        .phases
        .iter()
        .filter_map(|block| {
            let share = block.roofline_ms? / block.time_ms?;
            Some(format!("{} of {} reaches {} of its roofline", block.phase, block.case, percent(share)))
        })
        .collect();
    if reached.is_empty() {
        "Cannot tell what to try: without the peaks of the machine no gain can be bounded. Set them or let perfprof measure them.".to_owned()
    } else {
        format!("Nothing found that could save {} of the time or more: {}.", percent(WORTH), reached.join(", "))
    }
}

/// How far the numbers can be trusted.
fn trust(report: &Stage1Report<'_>) -> Vec<String> {
    let metrics = report.metrics;
    let mut out = Vec::new();
    if metrics.validity.is_valid() {
        out.push("The run is VALID: every condition set for it was met.".to_owned());
    } else {
        out.push(format!("The run is INVALID: {}.", join(&metrics.validity.reasons)));
    }
    let ok = report.rows.iter().filter(|row| row.status == RowStatus::Ok).count();
    if ok < report.rows.len() {
        out.push(format!(
            "{} of {} repeats did not end well and are in no statistic.",
            report.rows.len() - ok,
            report.rows.len()
        ));
    }
    let disturbed = report.rows.iter().filter(|row| row.contention.disturbed).count();
    if disturbed > 0 {
        out.push(format!(
            "{disturbed} of {} repeats were disturbed by other processes; their times can be too long.",
            report.rows.len()
        ));
    }
    if let Some(summary) = metrics.measures.get("tpot_ms")
        && let (Some(mean), Some([low, high])) = (summary.mean, summary.ci95)
        && mean > 0.0
    {
        out.push(format!(
            "The mean time per token is known to ± {} ({} repeats).",
            percent((high - low) / 2.0 / mean),
            summary.n
        ));
    } else {
        out.push("The spread of the time per token is unknown: too few repeats.".to_owned());
    }
    if let Some(overhead) = metrics.measures.get("span_overhead_ratio").and_then(|summary| summary.p50) {
        out.push(format!(
            "Recording operator spans changed a step by {}; headline numbers come from repeats without them.",
            percent(overhead)
        ));
    }
    let peaks = [("arithmetic", &metrics.hardware.peak_flops_per_s), ("memory", &metrics.hardware.peak_bytes_per_s)];
    for (name, peak) in peaks {
        let text = match peak.kind.as_str() {
            "measured" => {
                "was measured on this machine: shares of it are of what this machine reaches in a micro-benchmark"
            }
            "table" => "comes from a table of published figures: shares of it are of what the maker states",
            "override" => "was set by the user",
            _ => continue,
        };
        out.push(format!("The {name} ceiling {text} ({}).", peak.source));
    }
    for (phase, share) in &metrics.reconciliation.unattributed_by_phase {
        if share.abs() > 0.01 {
            out.push(format!("{} of the {phase} time lies outside every operator span, so the operator tables explain only the rest.", percent(*share)));
        }
    }
    out
}

/// The run in one line, for the head of every report.
pub(super) fn one_line(report: &Stage1Report<'_>) -> String {
    format!(
        "TTFT {}, TPOT {}, decode {}, MBU decode {}, MFU prefill {}",
        tables::median(report, "ttft_ms"),
        tables::median(report, "tpot_ms"),
        tables::median(report, "decode_tok_per_s"),
        tables::median(report, "mbu_decode"),
        tables::median(report, "mfu_prefill")
    )
}
