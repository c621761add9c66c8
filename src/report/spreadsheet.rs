//! CSV by RFC 4180: one header line, CRLF, quotes where needed; text that a spreadsheet would run as a formula is defused.

use super::escape::spreadsheet;
use super::model::{ReportError, Stage1Report};
use super::tables::status_word;

/// A field: text is defused, numbers stay numbers, unknown is empty.
pub(super) fn number<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

/// A float; unknown and not finite are empty.
pub(super) fn float(value: Option<f64>) -> String {
    number(value.filter(|value| value.is_finite()))
}

/// A whole file.
pub(super) fn write(
    file: &'static str,
    header: &[&str],
    rows: impl Iterator<Item = Vec<String>>,
) -> Result<String, ReportError> {
    let failed = |source| ReportError::Csv { file, source };
    let mut writer = ::csv::WriterBuilder::new().terminator(::csv::Terminator::CRLF).from_writer(Vec::new());
    writer.write_record(header).map_err(failed)?;
    for row in rows {
        writer.write_record(&row).map_err(failed)?;
    }
    let bytes = writer.into_inner().map_err(|error| failed(error.into_error().into()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// `operators.csv`: every row of the operator table, summed over layers and by layer.
pub fn operators_csv(report: &Stage1Report<'_>) -> Result<String, ReportError> {
    let header = [
        "class",
        "name",
        "phase",
        "layer",
        "device",
        "shape",
        "calls",
        "total_ns",
        "mean_ns",
        "p50_ns",
        "p95_ns",
        "p99_ns",
        "std_ns",
        "share",
        "flops",
        "bytes",
        "flops_per_s",
        "bytes_per_s",
        "roofline_ns",
        "lost_ns",
        "bound",
    ];
    let rows = report.metrics.operators.iter().map(|row| {
        vec![
            spreadsheet(&row.class),
            spreadsheet(&row.name),
            spreadsheet(&row.phase),
            number(row.layer),
            spreadsheet(&row.device),
            spreadsheet(&row.shape),
            row.calls.to_string(),
            row.total_ns.to_string(),
            float(Some(row.mean_ns)),
            float(Some(row.p50_ns)),
            float(Some(row.p95_ns)),
            float(Some(row.p99_ns)),
            float(row.std_ns),
            float(Some(row.share)),
            row.flops.to_string(),
            row.bytes.to_string(),
            float(row.flops_per_s),
            float(row.bytes_per_s),
            float(row.roofline_ns),
            float(row.lost_ns),
            spreadsheet(row.bound.as_deref().unwrap_or("")),
        ]
    });
    write("operators.csv", &header, rows)
}

/// `per_run.csv`: the scalar fields of every repeat; lists and nested findings stay in `per_run.jsonl`.
pub fn rows_csv(report: &Stage1Report<'_>) -> Result<String, ReportError> {
    let header = [
        "run_id",
        "index",
        "case",
        "repeat",
        "spans",
        "status",
        "error",
        "model",
        "backend",
        "dtype",
        "device",
        "batch",
        "prompt_len",
        "new_tokens",
        "mode",
        "started_at",
        "ttft_ms",
        "prefill_ms",
        "decode_ms",
        "total_ms",
        "remainder_ms",
        "tpot_ms",
        "prefill_tok_per_s",
        "decode_tok_per_s",
        "total_tok_per_s",
        "peak_rss_bytes",
        "peak_vram_bytes",
        "weights_bytes",
        "kv_cache_bytes",
        "kv_used_bytes",
        "activations_bytes",
        "cpu_wall_ratio",
        "involuntary_switches",
        "voluntary_switches",
        "pressure_cpu_some",
        "other_cpu_share",
        "disturbed",
        "cpu_utilisation",
        "energy_j",
        "energy_source",
        "cpu_energy_j",
        "gpu_energy_j",
        "gpu_power_w",
        "gpu_sm_mhz",
        "gpu_temperature_c",
        "gpu_memory_used_bytes",
        "gpu_throttled_share",
        "finish_reason",
        "text",
    ];
    let rows = report.rows.iter().map(|row| {
        let text = |value: &Option<String>| spreadsheet(value.as_deref().unwrap_or(""));
        let (memory, contention, gpu) = (&row.memory, &row.contention, row.gpu.as_ref());
        vec![
            spreadsheet(&row.run_id),
            row.index.to_string(),
            spreadsheet(&row.case),
            row.repeat.to_string(),
            row.spans.to_string(),
            status_word(row.status).to_owned(),
            text(&row.error),
            spreadsheet(&row.model),
            spreadsheet(&row.backend),
            spreadsheet(&row.dtype),
            spreadsheet(&row.device),
            row.batch.to_string(),
            row.prompt_len.to_string(),
            row.new_tokens.to_string(),
            spreadsheet(&row.mode),
            spreadsheet(&row.started_at),
            float(row.ttft_ms),
            float(row.prefill_ms),
            float(row.decode_ms),
            float(row.total_ms),
            float(row.remainder_ms),
            float(row.tpot_ms),
            float(row.prefill_tok_per_s),
            float(row.decode_tok_per_s),
            float(row.total_tok_per_s),
            number(memory.peak_rss_bytes),
            number(memory.peak_vram_bytes),
            memory.weights_bytes.to_string(),
            memory.kv_cache_bytes.to_string(),
            memory.kv_used_bytes.to_string(),
            number(memory.activations_bytes),
            float(contention.cpu_wall_ratio),
            number(contention.involuntary_switches),
            number(contention.voluntary_switches),
            float(contention.pressure_cpu_some),
            float(contention.other_cpu_share),
            contention.disturbed.to_string(),
            float(row.cpu_utilisation),
            float(row.energy_j),
            text(&row.energy_source),
            float(row.cpu_energy_j),
            float(gpu.and_then(|gpu| gpu.energy_j)),
            float(gpu.and_then(|gpu| gpu.power_w)),
            float(gpu.and_then(|gpu| gpu.sm_mhz)),
            float(gpu.and_then(|gpu| gpu.temperature_c)),
            number(gpu.and_then(|gpu| gpu.memory_used_bytes)),
            float(gpu.and_then(|gpu| gpu.throttled_share)),
            text(&row.finish_reason),
            text(&row.text),
        ]
    });
    write("per_run.csv", &header, rows)
}
