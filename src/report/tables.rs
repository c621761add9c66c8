//! The tables of a stage1 report, from its metrics and rows. Formats; computes nothing but sums and ratios of what is given.

use super::model::Stage1Report;
use super::number::{self, digits, maybe, percent};
use super::operators::{self, OperatorSum};
use super::table::{Cell, Table};
use crate::diagnostics::Severity;
use crate::hardware::ceilings::Measured;
use crate::record::metrics::{OperatorRow, Peak};
use crate::record::rows::{RepeatRow, RowStatus};
use crate::stats::summary::Summary;
use crate::units::{Bandwidth, Bytes, FlopsPerSecond};

/// Measures of the headline table in order, with the words they are shown under.
pub(super) const HEADLINE: [(&str, &str); 17] = [
    ("ttft_ms", "Time to first token"),
    ("prefill_ms", "Prefill time"),
    ("prefill_tok_per_s", "Prefill rate"),
    ("tpot_ms", "Time per output token"),
    ("itl_ms", "Inter-token latency"),
    ("decode_ms", "Decode time"),
    ("decode_tok_per_s", "Decode rate"),
    ("total_ms", "Whole generation"),
    ("total_tok_per_s", "Whole-generation rate"),
    ("remainder_ms", "Between the phases and steps"),
    ("mfu_prefill", "MFU prefill"),
    ("mbu_prefill", "MBU prefill"),
    ("mfu_decode", "MFU decode"),
    ("mbu_decode", "MBU decode"),
    ("peak_rss_bytes", "Peak resident memory"),
    ("peak_vram_bytes", "Peak device memory"),
    ("load_ms", "Model load time"),
];

/// The mean with its interval, e.g. `12.30 (12.10 to 12.50)`.
pub(super) fn mean_with_interval(summary: &Summary) -> Cell {
    let Some(mean) = summary.mean.filter(|mean| mean.is_finite()) else { return Cell::maybe(None) };
    let written = number::in_unit(mean, &summary.unit);
    match summary.ci95 {
        Some([low, high]) if low.is_finite() && high.is_finite() => {
            Cell::number(format!("{written} ({})", number::interval(low, high, &summary.unit)), mean)
        }
        _ => Cell {
            text: format!("{written} (n={}, no interval)", summary.n),
            weak: true,
            note: Some("an interval needs at least two values".to_owned()),
            sort: Some(mean),
            full: None,
        },
    }
}

/// A label with the unit it is shown in.
fn with_unit(label: &str, unit: &str) -> String {
    let unit = number::unit_label(unit);
    if unit.is_empty() { label.to_owned() } else { format!("{label} ({unit})") }
}

/// Headline measures over all cases.
pub(super) fn headline(report: &Stage1Report<'_>) -> Table {
    let mut table = Table::new(&["measure", "#mean (95 % interval)", "#p50", "#p95", "#min", "#max", "#n"]);
    for (name, label) in HEADLINE {
        let Some(summary) = report.metrics.measures.get(name) else { continue };
        if summary.n == 0 && name == "peak_vram_bytes" {
            continue;
        }
        let unit = summary.unit.as_str();
        let value = |value: Option<f64>| match value.filter(|value| value.is_finite()) {
            Some(value) => Cell::number(number::in_unit(value, unit), value),
            None => Cell::maybe(None),
        };
        table.push(vec![
            Cell::text(&with_unit(label, unit)),
            mean_with_interval(summary),
            value(summary.p50),
            Cell::percentile(summary.p95, unit, 95, summary.n),
            value(summary.min),
            value(summary.max),
            Cell::count(summary.n),
        ]);
    }
    table
}

/// One row per case.
pub(super) fn cases(report: &Stage1Report<'_>) -> Table {
    let mut table = Table::new(&[
        "case",
        "#batch",
        "#prompt",
        "#new tokens",
        "#repeats",
        "#TTFT p50 (ms)",
        "#TPOT p50 (ms)",
        "#prefill tok/s",
        "#decode tok/s",
    ]);
    for case in &report.metrics.cases {
        let median = |name: &str| Cell::maybe(case.measures.get(name).and_then(|summary| summary.p50));
        table.push(vec![
            Cell::text(&case.name),
            Cell::count(case.batch.into()),
            Cell::count(case.prompt_len.into()),
            Cell::count(case.new_tokens.into()),
            Cell::count(case.repeats),
            median("ttft_ms"),
            median("tpot_ms"),
            median("prefill_tok_per_s"),
            median("decode_tok_per_s"),
        ]);
    }
    table
}

/// Phases against the roofline.
pub(super) fn phases(report: &Stage1Report<'_>) -> Table {
    let mut table = Table::new(&[
        "case",
        "phase",
        "#steps",
        "#time (ms)",
        "#GFLOP",
        "#weights (MB)",
        "#KV (MB)",
        "#compute (ms)",
        "#memory (ms)",
        "#roofline (ms)",
        "#of roofline",
        "bound",
        "#MFU",
        "#MBU",
    ]);
    for phase in &report.metrics.phases {
        let reached =
            phase.roofline_ms.zip(phase.time_ms).filter(|(_, time)| *time > 0.0).map(|(best, time)| best / time);
        table.push(vec![
            Cell::text(&phase.case),
            Cell::text(&phase.phase),
            Cell::count(phase.steps),
            Cell::maybe(phase.time_ms),
            Cell::maybe(Some(phase.model_flops as f64 / 1e9)),
            Cell::maybe(Some(phase.weight_bytes as f64 / 1e6)),
            Cell::maybe(Some(phase.kv_bytes as f64 / 1e6)),
            Cell::maybe(phase.compute_time_ms),
            Cell::maybe(phase.memory_time_ms),
            Cell::maybe(phase.roofline_ms),
            Cell::percent(reached),
            Cell::text(phase.bound.as_deref().unwrap_or(number::UNKNOWN)),
            Cell::percent(phase.mfu),
            Cell::percent(phase.mbu),
        ]);
    }
    table
}

fn ms(ns: Option<f64>) -> Cell {
    Cell::maybe(ns.map(|ns| ns / 1e6))
}

fn per_s(rate: Option<f64>) -> Cell {
    Cell::maybe(rate.map(|rate| rate / 1e9))
}

/// Columns every operator table ends with.
fn sum_cells(sum: &OperatorSum) -> Vec<Cell> {
    vec![
        Cell::maybe(Some(sum.flops as f64 / 1e9)),
        Cell::maybe(Some(sum.bytes as f64 / 1e6)),
        per_s(sum.flops_per_s()),
        per_s(sum.bytes_per_s()),
        ms(sum.roofline_ns),
        ms(sum.lost_ns),
        Cell::text(sum.bound.as_deref().unwrap_or(number::UNKNOWN)),
    ]
}

/// Operator classes of one phase.
pub(super) fn by_class(report: &Stage1Report<'_>, phase: &str) -> Table {
    let mut table = Table::new(&[
        "class",
        "#calls",
        "#total (ms)",
        "#mean (µs)",
        "#share",
        "#GFLOP",
        "#MB",
        "#GFLOP/s",
        "#GB/s",
        "#roofline (ms)",
        "#lost (ms)",
        "bound",
    ]);
    let sums = operators::classes(report.metrics, phase);
    for sum in sums.iter().chain(operators::total(report.metrics, phase).filter(|_| sums.len() > 1).as_ref()) {
        let mean = (sum.calls > 0).then(|| sum.total_ns as f64 / sum.calls as f64 / 1e3);
        let label = if sum.label == phase { "all".to_owned() } else { sum.label.clone() };
        let mut row = vec![
            Cell::text(&label),
            Cell::count(sum.calls),
            ms(Some(sum.total_ns as f64)),
            Cell::maybe(mean),
            Cell::percent(Some(sum.share)),
        ];
        row.extend(sum_cells(sum));
        table.push(row);
    }
    table
}

/// Modules of one phase, summed over layers; at most `limit` of them.
pub(super) fn by_module(report: &Stage1Report<'_>, phase: &str, limit: usize) -> Table {
    let mut table = Table::new(&[
        "module",
        "class",
        "shape",
        "#calls",
        "#total (ms)",
        "#mean (µs)",
        "#p50 (µs)",
        "#p95 (µs)",
        "#p99 (µs)",
        "#share",
        "#GFLOP",
        "#MB",
        "#GFLOP/s",
        "#GB/s",
        "#roofline (ms)",
        "#lost (ms)",
        "bound",
    ]);
    for row in operators::modules(report.metrics, phase).into_iter().take(limit) {
        table.push(module_row(row));
    }
    table
}

fn module_row(row: &OperatorRow) -> Vec<Cell> {
    vec![
        Cell::text(&row.name),
        Cell::text(&row.class),
        Cell::text(&row.shape),
        Cell::count(row.calls),
        ms(Some(row.total_ns as f64)),
        Cell::maybe(Some(row.mean_ns / 1e3)),
        Cell::maybe(Some(row.p50_ns / 1e3)),
        Cell::percentile_mark(row.p95_ns / 1e3, 95, row.calls),
        Cell::percentile_mark(row.p99_ns / 1e3, 99, row.calls),
        Cell::percent(Some(row.share)),
        Cell::maybe(Some(row.flops as f64 / 1e9)),
        Cell::maybe(Some(row.bytes as f64 / 1e6)),
        per_s(row.flops_per_s),
        per_s(row.bytes_per_s),
        ms(row.roofline_ns),
        ms(row.lost_ns),
        Cell::text(row.bound.as_deref().unwrap_or(number::UNKNOWN)),
    ]
}

/// Layers of one phase.
pub(super) fn by_layer(report: &Stage1Report<'_>, phase: &str) -> Table {
    let mut table = Table::new(&[
        "#layer",
        "costliest module",
        "#calls",
        "#total (ms)",
        "#share",
        "#GFLOP",
        "#MB",
        "#GFLOP/s",
        "#GB/s",
        "#roofline (ms)",
        "#lost (ms)",
        "bound",
    ]);
    for sum in operators::layers(report.metrics, phase) {
        let mut row = vec![
            Cell { sort: sum.label.parse().ok(), ..Cell::text(&sum.label) },
            Cell::text(&sum.costliest),
            Cell::count(sum.calls),
            ms(Some(sum.total_ns as f64)),
            Cell::percent(Some(sum.share)),
        ];
        row.extend(sum_cells(&sum));
        table.push(row);
    }
    table
}

/// What ran, as name and text.
pub(super) fn setup(report: &Stage1Report<'_>) -> Table {
    let metrics = report.metrics;
    let (model, hardware, shape) = (&metrics.model, &metrics.hardware, &metrics.model.architecture);
    let mut table = Table::new(&["what", "value"]);
    let mut push = |name: &str, value: String| table.push(vec![Cell::text(name), Cell::text(&value)]);
    push("model", format!("{} ({}, {})", model.name, model.source, shape.family.model_type()));
    push(
        "shape",
        format!(
            "{} layers, hidden {}, {} query heads, {} KV heads of {}, MLP {}, vocabulary {}",
            shape.num_layers,
            shape.hidden_size,
            shape.num_heads,
            shape.num_kv_heads,
            shape.head_dim,
            shape.intermediate_size,
            shape.vocab_size
        ),
    );
    push("parameters", model.parameters.map_or_else(|| "unknown".to_owned(), number::count));
    let formats: Vec<String> = model
        .weights_bytes_by_format
        .iter()
        .map(|(format, bytes)| format!("{format} {}", Bytes(*bytes as f64)))
        .collect();
    push("weights", format!("{} ({})", Bytes(model.weights_bytes as f64), formats.join(", ")));
    push(
        "formats",
        format!("weights {}, activations {}, KV cache {}", model.dtype, model.compute_dtype, model.kv_dtype),
    );
    push("KV cache per token", Bytes(model.kv_bytes_per_token as f64).to_string());
    push("operators", format!("candle engine, `{}` operators", model.ops).replace('`', ""));
    let threads = hardware.threads.map_or_else(String::new, |threads| format!(", {threads} engine threads"));
    push("device", format!("{} ({}){threads}", hardware.device, hardware.device_id));
    let peak = |peak: &Peak, write: &dyn Fn(f64) -> String| {
        let value = peak.value.map_or_else(|| "unknown".to_owned(), write);
        format!("{value} ({}: {})", peak.kind, peak.source)
    };
    push(
        &format!("peak arithmetic, {}", hardware.compute_dtype),
        peak(&hardware.peak_flops_per_s, &|value| FlopsPerSecond(value).to_string()),
    );
    push("peak memory rate", peak(&hardware.peak_bytes_per_s, &|value| Bandwidth(value).to_string()));
    if let Some(measured) = &hardware.measured {
        let value = |one: &Measured, text: String| format!("{text} ({})", one.describe());
        for (format, one) in &measured.flops_per_s {
            push(&format!("arithmetic measured here, {format}"), value(one, FlopsPerSecond(one.value).to_string()));
        }
        let rates = [("copy", &measured.copy_bytes_per_s), ("read", &measured.read_bytes_per_s)];
        for (name, one) in rates.into_iter().filter_map(|(name, one)| Some((name, one.as_ref()?))) {
            push(&format!("memory {name} rate measured here"), value(one, Bandwidth(one.value).to_string()));
        }
    }
    if let Some(memory) = hardware.memory_bytes {
        push("device memory", Bytes(memory as f64).to_string());
    }
    let modes: Vec<&str> = distinct(report.rows.iter().map(|row| row.mode.as_str()));
    if !modes.is_empty() {
        push("mode", modes.join(", "));
    }
    table
}

fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut out: Vec<&str> = Vec::new();
    for name in names {
        if !out.contains(&name) {
            out.push(name);
        }
    }
    out
}

/// How a row ended, in a word.
pub(super) fn status_word(status: RowStatus) -> &'static str {
    match status {
        RowStatus::Ok => "ok",
        RowStatus::Oom => "oom",
        RowStatus::Failed => "failed",
        RowStatus::Interrupted => "interrupted",
    }
}

/// One row per repeat.
pub(super) fn repeats(report: &Stage1Report<'_>, limit: usize) -> Table {
    let mut table = Table::new(&[
        "#row",
        "case",
        "status",
        "spans",
        "#TTFT (ms)",
        "#TPOT (ms)",
        "#decode tok/s",
        "#total (ms)",
        "#CPU/wall",
        "#switched out",
        "#CPU pressure",
        "#other CPU",
        "disturbed",
        "error",
    ]);
    for row in report.rows.iter().take(limit) {
        table.push(vec![
            Cell::count(row.index.into()),
            Cell::text(&row.case),
            Cell::text(status_word(row.status)),
            Cell::text(match (row.traced, row.spans) {
                (true, _) => "traced",
                (false, true) => "on",
                (false, false) => "off",
            }),
            Cell::maybe(row.ttft_ms),
            Cell::maybe(row.tpot_ms),
            Cell::maybe(row.decode_tok_per_s),
            Cell::maybe(row.total_ms),
            Cell::maybe(row.contention.cpu_wall_ratio),
            row.contention.involuntary_switches.map_or_else(|| Cell::maybe(None), Cell::count),
            Cell::percent(row.contention.pressure_cpu_some),
            Cell::percent(row.contention.other_cpu_share),
            Cell::text(if row.contention.disturbed { "yes" } else { "no" }),
            Cell::text(row.error.as_deref().unwrap_or("")),
        ]);
    }
    table
}

/// What each repeat with text or an error said.
pub(super) fn outputs(report: &Stage1Report<'_>, limit: usize) -> Table {
    let mut table = Table::new(&["#row", "case", "end", "#tokens", "text"]);
    let speaks = |row: &&RepeatRow| row.text.is_some();
    for row in report.rows.iter().filter(speaks).take(limit) {
        table.push(vec![
            Cell::count(row.index.into()),
            Cell::text(&row.case),
            Cell::text(row.finish_reason.as_deref().unwrap_or(number::UNKNOWN)),
            Cell::count(row.tokens.len() as u64),
            Cell::text(row.text.as_deref().unwrap_or("")),
        ]);
    }
    table
}

/// How well the parts add up.
pub(super) fn reconciliation(report: &Stage1Report<'_>) -> Table {
    let mut table = Table::new(&["check", "#difference", "#allowed", "result"]);
    let parts = &report.metrics.reconciliation;
    let mut push = |name: String, value: Option<f64>| {
        let result = match value.filter(|value| value.is_finite()) {
            None => "unknown",
            Some(value) if value.abs() <= 0.01 => "adds up",
            Some(_) => "does not add up",
        };
        table.push(vec![Cell::text(&name), Cell::percent(value), Cell::text("1 %"), Cell::text(result)]);
    };
    push("prefill + decode + remainder against total, worst repeat".to_owned(), parts.phases_vs_total);
    if let Some(share) = parts.host_vs_device {
        push("total by the host's clock against total by events of the device, worst repeat".to_owned(), Some(share));
    }
    for (phase, share) in &parts.unattributed_by_phase {
        push(format!("{phase}: phase time outside every operator"), Some(*share));
    }
    table
}

/// Quality of the predictions; without rows where none was measured.
pub(super) fn prediction_quality(report: &Stage1Report<'_>) -> Table {
    let mut table = Table::new(&["what", "value"]);
    let Some(quality) = &report.metrics.quality else { return table };
    let mut push = |name: &str, value: String| table.push(vec![Cell::text(name), Cell::text(&value)]);
    push("text", format!("{}, {} tokens predicted in windows of {}", quality.text, quality.predicted, quality.window));
    let interval = quality
        .perplexity_ci95
        .map_or_else(String::new, |[low, high]| format!(" (95 % {}–{})", number::digits(low), number::digits(high)));
    push("perplexity", format!("{}{interval}", number::maybe(quality.perplexity)));
    if let Some(reference) = &quality.reference_dtype {
        push("reference", format!("the same weights in {reference}"));
        push("KL divergence from it, mean", nats(quality.kl_mean_nats));
        push("KL divergence from it, 99th percentile", nats(quality.kl_p99_nats));
        push("same first choice", number::maybe_percent(quality.top1_agreement));
    }
    if let Some(error) = &quality.error {
        push("missing", error.clone());
    }
    table
}

fn nats(value: Option<f64>) -> String {
    value.map_or_else(|| number::UNKNOWN.to_owned(), |value| format!("{} nats", number::digits(value)))
}

/// What measuring cost, what others took, and energy: name and text.
pub(super) fn measurement(report: &Stage1Report<'_>) -> Table {
    let mut table = Table::new(&["what", "value"]);
    let measures = &report.metrics.measures;
    let mut push = |name: &str, value: String| table.push(vec![Cell::text(name), Cell::text(&value)]);
    let overhead = |name: &str, absent: &str| match measures.get(name) {
        Some(summary) if summary.mean.is_some() || summary.p50.is_some() => {
            let mid = summary.p50.or(summary.mean).map_or_else(String::new, percent);
            let interval = summary.ci95.map_or_else(
                || format!("no interval, n={}", summary.n),
                |[low, high]| {
                    // An overhead is a median of ratios; only where a mean is given does the interval belong to it.
                    let whose = if summary.mean.is_some() { "mean" } else { "median" };
                    format!("95 % interval of the {whose} {} to {}, n={}", percent(low), percent(high), summary.n)
                },
            );
            format!("{mid} ({interval})")
        }
        _ => absent.to_owned(),
    };
    push("operator spans: time added to a step", overhead("span_overhead_ratio", "not measured"));
    if measures.get("tracer_overhead_ratio").is_some_and(|summary| summary.n > 0) {
        push("tracer: time added to a step", overhead("tracer_overhead_ratio", "not measured"));
    }
    let count = |pick: &dyn Fn(&RepeatRow) -> bool| report.rows.iter().filter(|row| pick(row)).count();
    let (with, without) = (count(&|row| row.spans && !row.traced), count(&|row| !row.spans));
    let traced = match count(&|row| row.traced) {
        0 => String::new(),
        traced => format!(", {traced} under the tracer (`trace.sqlite`, analysed in `trace/report.html`)"),
    };
    push(
        "repeats",
        format!("{without} without spans (headline numbers), {with} with spans (operator numbers){traced}"),
    );
    let disturbed = report.rows.iter().filter(|row| row.contention.disturbed).count();
    push("disturbed by other processes", format!("{disturbed} of {} repeats", report.rows.len()));
    let range = |name: &str, pick: &dyn Fn(&RepeatRow) -> Option<f64>, write: &dyn Fn(f64) -> String| {
        let values: Vec<f64> = report.rows.iter().filter_map(pick).filter(|value| value.is_finite()).collect();
        let low = values.iter().copied().reduce(f64::min);
        let high = values.iter().copied().reduce(f64::max);
        let text = match (low, high) {
            (Some(low), Some(high)) if write(low) == write(high) => write(low),
            (Some(low), Some(high)) => format!("{} to {}", write(low), write(high)),
            _ => "unreadable on this machine".to_owned(),
        };
        (name.to_owned(), text)
    };
    let ranges = [
        range("CPU seconds per wall second", &|row| row.contention.cpu_wall_ratio, &digits),
        range("engine threads busy", &|row| row.cpu_utilisation, &percent),
        range("CPU taken by other processes", &|row| row.contention.other_cpu_share, &percent),
        range("time some task waited for a CPU", &|row| row.contention.pressure_cpu_some, &percent),
        range("energy of a repeat (J)", &|row| row.energy_j, &digits),
    ];
    for (name, text) in &ranges {
        push(name, text.clone());
    }
    let sources = distinct(report.rows.iter().filter_map(|row| row.energy_source.as_deref()));
    if !sources.is_empty() {
        push("energy source", sources.join(", "));
    }
    if let (Some(energy), Some(tokens)) = (
        measures.get("energy_j").and_then(|summary| summary.mean),
        report
            .rows
            .iter()
            .find(|row| row.energy_j.is_some())
            .map(|row| u64::from(row.batch) * u64::from(row.new_tokens)),
    ) && report.metrics.cases.len() == 1
        && tokens > 0
    {
        push("energy per new token (J)", digits(energy / tokens as f64));
    }
    table
}

/// Peak memory by use, one row per case.
pub(super) fn memory(report: &Stage1Report<'_>) -> Table {
    let mut table = Table::new(&["case", "#weights", "#KV cache", "#KV filled", "#activations", "#other", "#peak"]);
    for part in memory_by_case(report) {
        let bytes = |value: Option<u64>| match value {
            Some(value) => Cell::number(Bytes(value as f64).to_string(), value as f64),
            None => Cell::maybe(None),
        };
        table.push(vec![
            Cell::text(&part.case),
            bytes(Some(part.weights)),
            bytes(Some(part.kv_cache)),
            bytes(Some(part.kv_used)),
            bytes(part.activations),
            bytes(part.other),
            bytes(part.peak),
        ]);
    }
    table
}

/// The worst repeat of one case, by peak memory.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct MemorySplit {
    /// Case.
    pub case: String,
    /// Weights.
    pub weights: u64,
    /// KV cache allocated.
    pub kv_cache: u64,
    /// KV cache filled.
    pub kv_used: u64,
    /// Live activations at their peak.
    pub activations: Option<u64>,
    /// Peak minus the known parts; null where the peak is unknown or smaller than they are.
    pub other: Option<u64>,
    /// Peak of the process: device memory where there is one, else the resident set.
    pub peak: Option<u64>,
}

/// Memory of each case in its repeat with the highest peak.
pub(super) fn memory_by_case(report: &Stage1Report<'_>) -> Vec<MemorySplit> {
    let peak = |row: &RepeatRow| row.memory.peak_vram_bytes.or(row.memory.peak_rss_bytes);
    distinct(report.rows.iter().map(|row| row.case.as_str()))
        .into_iter()
        .filter_map(|case| {
            let row = report.rows.iter().filter(|row| row.case == case).max_by_key(|row| peak(row))?;
            let memory = &row.memory;
            let known = memory.weights_bytes + memory.kv_cache_bytes + memory.activations_bytes.unwrap_or(0);
            Some(MemorySplit {
                case: case.to_owned(),
                weights: memory.weights_bytes,
                kv_cache: memory.kv_cache_bytes,
                kv_used: memory.kv_used_bytes,
                activations: memory.activations_bytes,
                other: peak(row).and_then(|peak| peak.checked_sub(known)),
                peak: peak(row),
            })
        })
        .collect()
}

/// Findings, gravest first.
pub(super) fn diagnostics(report: &Stage1Report<'_>) -> Table {
    let mut table = Table::new(&["severity", "code", "#count", "first"]);
    let mut findings: Vec<_> = report.metrics.diagnostics.iter().collect();
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    for finding in findings {
        let severity = match finding.severity {
            Severity::Info => "info",
            Severity::Warn => "warning",
            Severity::Error => "error",
            Severity::DataLoss => "data loss",
        };
        table.push(vec![
            Cell::text(severity),
            Cell::text(&finding.code),
            Cell::count(finding.count),
            Cell::text_up_to(&finding.first, 400),
        ]);
    }
    table
}

/// `env.json` as dotted names and values.
pub(super) fn environment(report: &Stage1Report<'_>) -> Table {
    let mut table = Table::new(&["name", "value"]);
    let mut pairs = Vec::new();
    flatten("", report.environment, &mut pairs);
    for (name, value) in pairs {
        table.push(vec![Cell::text(&name), Cell::text(&value)]);
    }
    table
}

fn flatten(prefix: &str, value: &serde_json::Value, out: &mut Vec<(String, String)>) {
    let join = |name: &str| if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") };
    match value {
        serde_json::Value::Object(map) => map.iter().for_each(|(name, inner)| flatten(&join(name), inner, out)),
        serde_json::Value::Array(items) if items.iter().any(|item| item.is_object() || item.is_array()) => {
            items.iter().enumerate().for_each(|(at, inner)| flatten(&join(&at.to_string()), inner, out));
        }
        serde_json::Value::Array(items) => {
            let texts: Vec<String> = items.iter().map(scalar).collect();
            out.push((prefix.to_owned(), texts.join(", ")));
        }
        other => out.push((prefix.to_owned(), scalar(other))),
    }
}

fn scalar(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Null => number::UNKNOWN.to_owned(),
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The median of a measure with its unit, e.g. `12.30 ms`; `–` if unknown.
pub(super) fn median(report: &Stage1Report<'_>, name: &str) -> String {
    let Some(summary) = report.metrics.measures.get(name) else { return maybe(None) };
    let Some(value) = summary.p50.filter(|value| value.is_finite()) else { return maybe(None) };
    let unit = number::unit_label(&summary.unit);
    let text = number::in_unit(value, &summary.unit);
    if unit.is_empty() { text } else { format!("{text} {unit}") }
}
