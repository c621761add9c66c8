//! What a report says of the graphics processor that was looked at during a run; nothing where none was.

use super::model::Stage1Report;
use super::number::{self, digits, percent};
use super::table::{Cell, Table};
use super::tables::mean_with_interval;
use crate::record::gpu::GpuBlock;
use crate::units::Bytes;

/// Writes a value.
type Write = fn(f64) -> String;

/// Metrics of the table in order: name, words, and how a value is written.
const METRICS: [(&str, &str, Write); 10] = [
    ("utilisation", "Utilisation", percent),
    ("memory_utilisation", "Memory busy", percent),
    ("power_w", "Power (W)", digits),
    ("sm_mhz", "SM clock (MHz)", digits),
    ("memory_mhz", "Memory clock (MHz)", digits),
    ("temperature_c", "Temperature (°C)", digits),
    ("memory_used_bytes", "Memory in use", bytes),
    ("process_memory_bytes", "Memory of this process", bytes),
    ("pcie_rx_bytes_per_s", "PCIe to the device", bytes_per_s),
    ("pcie_tx_bytes_per_s", "PCIe from the device", bytes_per_s),
];

fn bytes(value: f64) -> String {
    Bytes(value).to_string()
}

fn bytes_per_s(value: f64) -> String {
    crate::units::Bandwidth(value).to_string()
}

/// Mean and extremes of each metric over the measured stretch.
pub(super) fn metrics(report: &Stage1Report<'_>) -> Table {
    report.metrics.gpu.as_ref().map_or_else(Table::default, metrics_of)
}

/// [`metrics`] of a block of any command.
pub(super) fn metrics_of(gpu: &GpuBlock) -> Table {
    let mut table = Table::new(&["metric", "#mean over time", "#min", "#max"]);
    for (name, label, write) in METRICS {
        let Some(metric) = gpu.metrics.get(name) else { continue };
        let cell = |value: f64| Cell::number(write(value), value);
        table.push(vec![Cell::text(label), cell(metric.mean), cell(metric.min), cell(metric.max)]);
    }
    table
}

/// The device, its energy and what the checks found: name and text.
pub(super) fn facts(report: &Stage1Report<'_>) -> Table {
    let mut table = Table::new(&["what", "value"]);
    let Some(gpu) = &report.metrics.gpu else { return table };
    let mut push = |name: &str, value: String| table.push(vec![Cell::text(name), Cell::text_up_to(&value, 300)]);
    let memory = gpu.memory_bytes.map_or_else(String::new, |all| format!(", {}", Bytes(all as f64)));
    let limit = gpu.power_limit_w.map_or_else(String::new, |watts| format!(", power limit {watts:.0} W"));
    let name = gpu.name.as_deref().unwrap_or("unnamed");
    let role = if gpu.ran_here { "" } else { "; watched only, the model ran on the CPU" };
    push("device", format!("{name}{memory}{limit}{role}"));
    if let Some(driver) = &gpu.driver_version {
        push("driver", driver.clone());
    }
    push("before the run", before(gpu));
    let failed = if gpu.failures > 0 { format!(", {} failed", gpu.failures) } else { String::new() };
    let pace = gpu.intervals.map_or_else(String::new, |intervals| {
        format!("; every {:.0} ms asked for, {} ms in the middle", gpu.interval_s * 1e3, digits(intervals.p50_s * 1e3))
    });
    push("looks", format!("{}{failed}{pace}", gpu.attempts));
    push(
        "measured stretch",
        format!("{} s, {} of it repeats", digits(gpu.to_s - gpu.from_s), percent(gpu.repeats_share)),
    );
    if let Some(energy) = gpu.energy_j {
        push("energy of the stretch, rests included", format!("{} J ({})", digits(energy), source(gpu)));
    }
    if gpu.ran_here {
        for (name, label) in [
            ("energy_per_token_j", "energy per new token (J)"),
            ("cost_usd_per_million_tokens", "cost per million new tokens (USD)"),
        ] {
            if let Some(summary) = report.metrics.measures.get(name).filter(|summary| summary.n > 0) {
                push(label, mean_with_interval(summary).text);
            }
        }
    }
    push("clocks held down", throttle(gpu));
    if let Some(spread) = gpu.sm_clock_spread {
        push("SM clock from repeat to repeat", format!("differs by {}", percent(spread)));
    }
    if let Some(errors) = gpu.ecc_uncorrected {
        push("uncorrected memory errors", number::count(errors));
    }
    if let Some(others) = gpu.other_processes_max {
        push("other processes during the repeats", number::count(others.into()));
    }
    if !gpu.unsupported.is_empty() {
        push("not told by this device", gpu.unsupported.join(", "));
    }
    table
}

fn source(gpu: &GpuBlock) -> &'static str {
    if gpu.energy_source.as_deref() == Some("nvml:counter") { "its counter" } else { "integral of its power readings" }
}

fn before(gpu: &GpuBlock) -> String {
    let Some(before) = &gpu.before else { return "not known".to_owned() };
    let mut parts = Vec::new();
    if let Some(busy) = before.utilisation {
        parts.push(format!("{} busy", percent(busy)));
    }
    if let Some(processes) = before.processes {
        parts.push(format!("{processes} processes"));
    }
    if let Some(used) = before.memory_used_bytes {
        parts.push(format!("{} in use", Bytes(used as f64)));
    }
    if let Some(celsius) = before.temperature_c {
        parts.push(format!("{} °C", digits(celsius)));
    }
    if before.persistence_mode == Some(false) {
        parts.push("persistence mode off".to_owned());
    }
    if parts.is_empty() { "it tells nothing".to_owned() } else { parts.join(", ") }
}

/// Reasons that held the clocks down, idling and the user's own settings included.
fn throttle(gpu: &GpuBlock) -> String {
    if gpu.slowdown_share.is_none() {
        return "not told".to_owned();
    }
    let parts: Vec<String> = gpu
        .throttle
        .iter()
        .map(|reason| format!("{} in {} of the looks", reason.reason, percent(reason.share)))
        .collect();
    if parts.is_empty() { "never".to_owned() } else { parts.join(", ") }
}

/// The device during each repeat.
pub(super) fn repeats(report: &Stage1Report<'_>, limit: usize) -> Table {
    let mut table = Table::new(&[
        "#row",
        "case",
        "#looks",
        "#energy (J)",
        "#power (W)",
        "#SM clock (MHz)",
        "#lowest",
        "#temperature (°C)",
        "#memory in use",
        "#held down",
        "reasons",
    ]);
    for row in report.rows.iter().take(limit) {
        let Some(gpu) = &row.gpu else { continue };
        table.push(vec![
            Cell::count(row.index.into()),
            Cell::text(&row.case),
            Cell::count(gpu.looks),
            Cell::maybe(gpu.energy_j),
            Cell::maybe(gpu.power_w),
            Cell::maybe(gpu.sm_mhz),
            Cell::maybe(gpu.sm_mhz_min),
            Cell::maybe(gpu.temperature_c),
            gpu.memory_used_bytes
                .map_or_else(|| Cell::maybe(None), |used| Cell::number(bytes(used as f64), used as f64)),
            Cell::percent(gpu.throttled_share),
            Cell::text(&gpu.throttle_reasons.join(", ")),
        ]);
    }
    table
}

/// The device in one line, for the console.
pub(super) fn line(report: &Stage1Report<'_>) -> Option<String> {
    let gpu = report.metrics.gpu.as_ref()?;
    let mut parts = vec![format!("GPU {}", gpu.name.as_deref().unwrap_or("without a name"))];
    if let Some(power) = gpu.metrics.get("power_w") {
        parts.push(format!("{} W (max {})", digits(power.mean), digits(power.max)));
    }
    if let Some(clock) = gpu.metrics.get("sm_mhz") {
        parts.push(format!("SM {} MHz", digits(clock.mean)));
    }
    if let Some(celsius) = gpu.metrics.get("temperature_c") {
        parts.push(format!("up to {} °C", digits(celsius.max)));
    }
    if let Some(memory) = gpu.metrics.get("memory_used_bytes") {
        parts.push(format!("{} in use at most", bytes(memory.max)));
    }
    let per_token = report.metrics.measures.get("energy_per_token_j").and_then(|summary| summary.mean);
    if let Some(energy) = per_token.filter(|_| gpu.ran_here) {
        parts.push(format!("{} J per token", digits(energy)));
    }
    if !gpu.ran_here {
        parts.push("watched only".to_owned());
    }
    Some(parts.join(", "))
}
