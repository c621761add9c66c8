//! Further files under the names and with the fields that other tools gave theirs, for scripts that read those.

use serde_json::{Map, Value, json};

use super::device::{Device, Span, device};
use super::model::LoadReport;
use super::spreadsheets::{Figures, measured};
use super::words;
use crate::config::schema::load::LayoutChoice;
use crate::record::load::metrics::StageBlock;
use crate::record::load::outcome::Outcome;
use crate::record::load::row::RequestRow;
use crate::report::escape::spreadsheet;
use crate::report::model::ReportError;
use crate::report::spreadsheet::{float, number, write};
use crate::stats::quantile::quantile;
use crate::stats::summary::{mean, sum};

/// Longest word in a file name.
const WORD: usize = 60;

/// `text` as a part of a file name on every system: letters, digits, `.`, `_` and `-`; never empty and never hidden.
pub fn file_word(text: &str) -> String {
    let keep = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    let word: String = text.chars().take(WORD).map(keep).collect();
    let word = word.trim_start_matches('.');
    if word.is_empty() { "unknown".to_owned() } else { word.to_owned() }
}

/// The further files of a layout with their names; none for perfprof's own.
///
/// # Errors
/// If a file cannot be written as CSV or JSON, which is a defect.
pub fn layout_files(report: &LoadReport<'_>, layout: LayoutChoice) -> Result<Vec<(String, String)>, ReportError> {
    match layout {
        LayoutChoice::Perfprof => Ok(Vec::new()),
        LayoutChoice::InfraBench => infra_bench(report),
        LayoutChoice::BenchPack => bench_pack(report),
    }
}

fn pretty(value: &Value) -> Result<String, ReportError> {
    Ok(format!("{}\n", serde_json::to_string_pretty(value)?))
}

/// A name that is not taken yet.
fn fresh(taken: &mut Vec<String>, name: &str) -> String {
    let mut unique = name.to_owned();
    let mut next = 2;
    while taken.contains(&unique) {
        unique = format!("{name}_{next}");
        next += 1;
    }
    taken.push(unique.clone());
    unique
}

/// What a failed request has of a latency: nothing.
fn of_ok(row: &RequestRow, value: Option<f64>) -> Option<f64> {
    value.filter(|value| row.outcome == Outcome::Ok && value.is_finite())
}

fn infra_bench(report: &LoadReport<'_>) -> Result<Vec<(String, String)>, ReportError> {
    let mut files = Vec::new();
    let mut taken = Vec::new();
    for (at, stage) in report.metrics.stages.iter().enumerate() {
        let figures = Figures::of(report, at, stage);
        let name = fresh(&mut taken, &format!("{}_{}", file_word(&stage.backend), figures.timestamp));
        let rows = measured(report, at);
        files.push((format!("{name}.json"), pretty(&infra_bench_json(report, at, stage, &figures, &rows))?));
        let header = ["request_id", "input_tokens", "output_tokens", "ttft_ms", "e2e_ms", "tpot_ms"];
        let lines = rows.iter().map(|row| {
            vec![
                row.id.to_string(),
                number(row.input_tokens),
                number(row.output_tokens),
                float(of_ok(row, row.ttft_ms())),
                float(of_ok(row, row.e2e_ms())),
                float(of_ok(row, row.tpot_ms())),
            ]
        });
        files.push((format!("{name}_requests.csv"), write("requests.csv", &header, lines)?));
    }
    Ok(files)
}

fn infra_bench_json(
    report: &LoadReport<'_>,
    at: usize,
    stage: &StageBlock,
    figures: &Figures,
    rows: &[&RequestRow],
) -> Value {
    let url = report.metrics.targets.first().map(|target| target.url.as_str());
    let device = device(report, at);
    let started_s = report.context.started_wall_ns as f64 / 1e9;
    let samples: Vec<Value> = device
        .iter()
        .flat_map(|device| &device.looks)
        .map(|look| {
            json!({
                // The sampler starts with the run.
                "timestamp": started_s + look.at_s,
                "gpu_util": look.utilisation,
                "memory_mb": look.memory,
                "power_w": look.power,
                "temp_c": look.temperature,
            })
        })
        .collect();
    let requests: Vec<Value> = rows
        .iter()
        .map(|row| {
            json!({
                "request_id": row.id,
                "input_tokens": row.input_tokens,
                "output_tokens": row.output_tokens,
                "ttft_ms": of_ok(row, row.ttft_ms()),
                "e2e_ms": of_ok(row, row.e2e_ms()),
                "tpot_ms": of_ok(row, row.tpot_ms()),
            })
        })
        .collect();
    json!({
        "metadata": {
            "backend": stage.backend,
            "timestamp": figures.timestamp,
            "url": url,
            "concurrency": stage.plan.concurrency,
            "dataset": report.metrics.workload.dataset,
            "total_duration_sec": stage.elapsed_s,
            "total_requests": stage.issued,
        },
        "summary": {
            "ttft_mean_ms": figures.ttft[0],
            "ttft_p99_ms": figures.ttft[1],
            "e2e_mean_ms": figures.e2e[0],
            "e2e_p99_ms": figures.e2e[1],
            "itl_mean_ms": figures.itl[0],
            "itl_p99_ms": figures.itl[1],
            "tpot_mean_ms": figures.tpot_mean,
            "system_tps": figures.system_tps,
            "system_rps": figures.system_rps,
            "mean_prefill_speed_tokens_per_sec": figures.prefill_mean,
        },
        "gpu": device.as_ref().map(gpu_json),
        "per_request": requests,
        "gpu_samples": samples,
    })
}

fn gpu_json(device: &Device) -> Value {
    let mean = |span: Option<Span>| span.map(|span| span.mean);
    let max = |span: Option<Span>| span.map(|span| span.max);
    json!({
        "gpu_name": device.name,
        "samples_count": device.looks.len(),
        "gpu_util_mean": mean(device.utilisation),
        "gpu_util_max": max(device.utilisation),
        "gpu_util_min": device.utilisation.map(|span| span.min),
        "memory_used_mean_mb": mean(device.memory),
        "memory_used_max_mb": max(device.memory),
        "memory_total_mb": device.memory_total,
        "power_mean_watts": mean(device.power),
        "power_max_watts": max(device.power),
        "temp_mean_c": mean(device.temperature),
        "temp_max_c": max(device.temperature),
    })
}

/// From sending to the end of the answer in seconds.
fn latency_s(row: &RequestRow) -> Option<f64> {
    row.end_us.map(|us| us as f64 / 1e6)
}

fn ttft_s(row: &RequestRow) -> Option<f64> {
    row.ttft_ms().map(|ms| ms / 1e3)
}

/// Columns of `requests_cN.csv`.
const REQUESTS: [&str; 9] = [
    "completion_tokens",
    "concurrency",
    "error",
    "latency",
    "prompt_tokens",
    "req_id",
    "status",
    "total_tokens",
    "ttft",
];

fn request_line(row: &RequestRow, concurrency: Option<u32>) -> Vec<String> {
    let total = row.input_tokens.zip(row.output_tokens).map(|(input, output)| input + output);
    let error = row.failed.as_ref().map(|failed| format!("{}: {}", row.outcome.name(), failed.message));
    let error = error.or_else(|| (row.outcome != Outcome::Ok).then(|| row.outcome.name().to_owned()));
    vec![
        number(row.output_tokens),
        number(concurrency),
        spreadsheet(error.as_deref().unwrap_or("")),
        float(latency_s(row)),
        number(row.input_tokens),
        row.id.to_string(),
        number(row.status),
        number(total),
        float(ttft_s(row)),
    ]
}

/// Fields of `summary_cN.json` in their order, latencies in seconds.
fn summary(stage: &StageBlock, rows: &[&RequestRow]) -> Vec<(&'static str, Value)> {
    let ok: Vec<&&RequestRow> = rows.iter().filter(|row| row.outcome == Outcome::Ok).collect();
    let latencies: Vec<f64> = ok.iter().filter_map(|row| latency_s(row)).collect();
    let ttfts: Vec<f64> = ok.iter().filter_map(|row| ttft_s(row)).collect();
    let generating: Vec<f64> =
        ok.iter().filter_map(|row| latency_s(row).map(|latency| latency - ttft_s(row).unwrap_or(0.0))).collect();
    let tokens: Option<u64> = ok.iter().filter_map(|row| row.output_tokens).reduce(u64::saturating_add);
    let generated_s = (!generating.is_empty()).then(|| sum(&generating));
    let speed =
        tokens.zip(generated_s.filter(|seconds| *seconds > 0.0)).map(|(tokens, seconds)| tokens as f64 / seconds);
    vec![
        ("concurrency", json!(stage.plan.concurrency)),
        ("requests", json!(stage.issued)),
        ("success", json!(words::ok(stage))),
        ("error_rate", json!(stage.error_rate)),
        ("elapsed_sec", json!(stage.elapsed_s)),
        ("qps", json!(stage.rates.request_per_s)),
        ("latency_avg", json!(mean(&latencies))),
        ("latency_p50", json!(quantile(&latencies, 0.5))),
        ("latency_p95", json!(quantile(&latencies, 0.95))),
        ("latency_p99", json!(quantile(&latencies, 0.99))),
        ("ttft_avg", json!(mean(&ttfts))),
        ("ttft_p99", json!(quantile(&ttfts, 0.99))),
        ("total_completion_tokens", json!(tokens)),
        ("total_gen_time_sec", json!(generated_s)),
        ("tps_tokens_per_sec", json!(speed)),
    ]
}

fn bench_pack(report: &LoadReport<'_>) -> Result<Vec<(String, String)>, ReportError> {
    let mut files = Vec::new();
    let mut taken = Vec::new();
    let mut all = Vec::new();
    let mut summaries = Vec::new();
    for (at, stage) in report.metrics.stages.iter().enumerate() {
        let word = stage.plan.concurrency.map_or_else(|| file_word(&stage.plan.label), |number| format!("c{number}"));
        let word = fresh(&mut taken, &word);
        let rows = measured(report, at);
        let lines: Vec<Vec<String>> = rows.iter().map(|row| request_line(row, stage.plan.concurrency)).collect();
        files.push((format!("requests_{word}.csv"), write("requests_cN.csv", &REQUESTS, lines.iter().cloned())?));
        all.extend(lines);
        let fields = summary(stage, &rows);
        let object: Map<String, Value> =
            fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        files.push((format!("summary_{word}.json"), pretty(&Value::Object(object))?));
        summaries.push(fields);
    }
    files.push(("requests_all.csv".to_owned(), write("requests_all.csv", &REQUESTS, all.into_iter())?));
    let header: Vec<&str> = match summaries.first() {
        Some(fields) => fields.iter().map(|(name, _)| *name).collect(),
        None => Vec::new(),
    };
    if !header.is_empty() {
        let cell = |value: &Value| if value.is_null() { String::new() } else { value.to_string() };
        let lines = summaries.iter().map(|fields| fields.iter().map(|(_, value)| cell(value)).collect());
        files.push(("summary_all.csv".to_owned(), write("summary_all.csv", &header, lines)?));
    }
    files.push(("overall_summary.json".to_owned(), pretty(&overall(report, &summaries))?));
    Ok(files)
}

fn overall(report: &LoadReport<'_>, summaries: &[Vec<(&'static str, Value)>]) -> Value {
    let stages = report.metrics.stages.iter().filter(|stage| words::ok(stage) > 0);
    let best = stages.filter_map(|stage| Some((stage, stage.rates.request_per_s?))).max_by(|a, b| a.1.total_cmp(&b.1));
    let p99 = |fields: &Vec<(&'static str, Value)>| {
        fields.iter().find(|(name, _)| *name == "latency_p99").and_then(|(_, value)| value.as_f64())
    };
    let lowest = summaries.iter().filter_map(p99).reduce(f64::min);
    let mut hint = super::verdict::saturation(report.metrics);
    hint.extend(report.metrics.saturation.iter().flat_map(|saturation| saturation.evidence.iter().cloned()));
    json!({
        "best_qps": best.map(|(_, rate)| rate),
        "best_qps_at_concurrency": best.and_then(|(stage, _)| stage.plan.concurrency),
        "min_p99_latency": lowest,
        "saturation_hint": if hint.is_empty() { Value::Null } else { Value::String(hint.join("; ")) },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leaves_its_directory_or_hides() {
        assert_eq!(file_word("vllm"), "vllm");
        assert_eq!(file_word("../../etc/passwd"), "_.._etc_passwd");
        assert_eq!(file_word("a b\u{1b}[0m/ü"), "a_b__0m__");
        assert_eq!(file_word("..."), "unknown");
        assert_eq!(file_word(""), "unknown");
        assert_eq!(file_word(&"x".repeat(500)).len(), WORD);
    }

    #[test]
    fn names_of_the_same_second_are_told_apart() {
        let mut taken = Vec::new();
        let names: Vec<String> = (0..3).map(|_| fresh(&mut taken, "a_1")).collect();
        assert_eq!(names, ["a_1", "a_1_2", "a_1_3"]);
    }
}
