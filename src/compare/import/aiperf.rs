//! AIPerf and genai-perf: a summary by metric (`profile_export_aiperf.json`, `profile_export_genai_perf.json`), and one line a request
//! (`profile_export.jsonl` of AIPerf).
//!
//! `inter_token_latency` of AIPerf is one value a request, (E2E − TTFT) / (tokens − tokens of the first chunk), so it is TPOT here; gaps between
//! chunks are its `inter_chunk_latency`. genai-perf has one value a response, gap / tokens of the later response, which no other tool has.

use serde_json::Value;

use super::builder::{Entry, Series};
use super::definition;
use super::json;
use super::load_summary::{REQUEST_RATE, REQUESTS, lengths};
use super::stage1::without_directories;
use crate::compare::subject::{Outcomes, fact};
use crate::stats::summary::Summary;

/// Metric of the file, measure, and its unit.
const TIMES: [(&str, &str); 6] = [
    ("time_to_first_token", "ttft_ms"),
    ("time_to_second_token", "second_token_ms"),
    ("request_latency", "e2e_ms"),
    ("inter_token_latency", "tpot_ms"),
    ("inter_chunk_latency", "inter_chunk_ms"),
    ("time_to_first_output_token", "first_answer_token_ms"),
];
const RATES: [(&str, &str, &str); 5] = [
    ("request_throughput", "request_per_s", "req/s"),
    ("output_token_throughput", "output_tok_per_s", "tok/s"),
    ("total_token_throughput", "input_output_tok_per_s", "tok/s"),
    ("output_token_throughput_per_user", "output_tok_per_user_per_s", "tok/s"),
    ("goodput", "goodput_per_s", "req/s"),
];

pub(super) fn is_summary(value: &Value) -> bool {
    let metric =
        |key: &str| value.get(key).is_some_and(|metric| metric.get("avg").is_some() && metric.get("unit").is_some());
    metric("request_latency") || metric("request_throughput") || metric("request_count")
}

/// genai-perf knows neither the version nor the schema of its files, but the tool it calls.
pub(super) fn is_genai_perf(value: &Value) -> bool {
    value.get("aiperf_version").is_none()
        && value.get("input_config").is_some_and(|config| {
            config.get("perf_analyzer").is_some()
                || config.get("formatted_model_name").is_some()
                || config.get("service_kind").is_some()
        })
}

pub(super) fn tool(documents: &[Value]) -> String {
    let version = documents.first().and_then(|document| json::text(document, "aiperf_version"));
    version.map_or_else(|| "aiperf".to_owned(), |version| format!("aiperf {version}"))
}

/// Factor that brings a time in `unit` to ms.
fn to_ms(unit: &str) -> Option<f64> {
    match unit.trim() {
        "ns" | "nanoseconds" => Some(1e-6),
        "us" | "µs" | "microseconds" => Some(1e-3),
        "ms" | "milliseconds" => Some(1.0),
        "s" | "sec" | "seconds" => Some(1e3),
        _ => None,
    }
}

/// The summary of `metric`, times in ms; `None` for a unit that is not known.
fn stated(metric: &Value, scale: f64, unit: &str) -> Option<Summary> {
    let of = |key: &str| json::number(metric, key).map(|value| value * scale);
    Some(Summary {
        unit: unit.to_owned(),
        n: json::count(metric, "count").unwrap_or(0),
        mean: Some(of("avg")?),
        std: of("std"),
        min: of("min"),
        p50: of("p50"),
        p90: of("p90"),
        p95: of("p95"),
        p99: of("p99"),
        max: of("max"),
        ci95: None,
    })
}

pub(super) fn summary(documents: &[Value], genai_perf: bool) -> Vec<Entry> {
    documents.iter().map(|document| summary_entry(document, genai_perf)).collect()
}

fn summary_entry(value: &Value, genai_perf: bool) -> Entry {
    let mut entry = Entry::default();
    for (key, name) in TIMES {
        let Some(metric) = value.get(key) else { continue };
        let Some(scale) = json::text(metric, "unit").and_then(to_ms) else { continue };
        let name = if genai_perf && key == "inter_token_latency" { "itl_per_response_ms" } else { name };
        entry.series.push(Series::of(name, "ms", Vec::new()).reported(stated(metric, scale, "ms")));
    }
    for (key, name, unit) in RATES {
        let Some(metric) = value.get(key) else { continue };
        let one = name != "output_tok_per_user_per_s";
        let mean = json::number(metric, "avg");
        // A rate of the whole run is a value; the rates of users are many, of which only the summary is here.
        entry.series.push(if one {
            Series::one(name, unit, mean)
        } else {
            Series::of(name, unit, Vec::new()).reported(stated(metric, 1.0, unit))
        });
    }
    let total = |key: &str| {
        value.get(key).and_then(|metric| json::number(metric, "avg")).filter(|n| n.is_finite() && *n >= 0.0)
    };
    let ok = total("request_count").map_or(0, |count| count as u64);
    let failed = total("error_request_count").map_or(0, |count| count as u64);
    entry.outcomes = Outcomes { ok, failed, ..Outcomes::default() };
    for (key, name) in [("input_sequence_length", fact::PROMPT_TOKENS), ("output_sequence_length", fact::NEW_TOKENS)] {
        let metric = value.get(key);
        let of = |statistic: &str| metric.and_then(|metric| json::number(metric, statistic));
        let text = match (of("min"), of("max"), of("avg")) {
            (Some(low), Some(high), _) if low == high => Some(format!("{low:.0}")),
            (Some(low), Some(high), Some(mean)) => Some(format!("{low:.0} to {high:.0}, mean {mean:.2}")),
            (_, _, Some(mean)) => Some(format!("mean {mean:.2}")),
            _ => None,
        };
        entry.fact(name, text);
    }
    let config = value.get("input_config").unwrap_or(&Value::Null);
    let of = |keys: &[&str]| json::find(config, keys, 4).and_then(|found| json::scalar(found.get(0).unwrap_or(found)));
    entry.fact(fact::MODEL, of(&["model_names", "model", "model_name"]).map(|name| without_directories(&name)));
    entry.fact(fact::CONCURRENCY, of(&["concurrency"]));
    entry.fact(REQUEST_RATE, of(&["request_rate"]));
    entry.fact(fact::SEED, of(&["random_seed"]));
    entry.fact("streaming", of(&["streaming"]));
    entry.fact(REQUESTS, (ok.saturating_add(failed) > 0).then(|| ok.saturating_add(failed).to_string()));
    definitions(&mut entry, genai_perf);
    entry.tells = [fact::MODEL, fact::CONCURRENCY, REQUEST_RATE]
        .into_iter()
        .filter_map(|name| Some((name, entry.facts.get(name).cloned().flatten()?)))
        .collect();
    entry
}

fn definitions(entry: &mut Entry, genai_perf: bool) {
    let ttft = if genai_perf {
        "sent to the first response"
    } else {
        "sent to the first chunk with content, reasoning or tool calls"
    };
    entry.fact(definition::TTFT, Some(ttft.to_owned()));
    if !genai_perf {
        entry.fact(definition::TPOT, Some("(last output − first) / (tokens − tokens of the first chunk)".to_owned()));
    }
    entry.fact(definition::E2E, Some("sent to the last output".to_owned()));
}

/// One line a request.
pub(super) fn records(documents: &[Value]) -> Vec<Entry> {
    let mut entry = Entry::default();
    let measured: Vec<&Value> = documents
        .iter()
        .filter(|record| {
            let phase = record.get("metadata").and_then(|metadata| json::text(metadata, "benchmark_phase"));
            phase.is_none_or(|phase| phase == "profiling")
        })
        .collect();
    let failed = |record: &Value| record.get("error").is_some_and(|error| !error.is_null());
    let cancelled = |record: &Value| record["metadata"]["was_cancelled"] == Value::Bool(true);
    let ok: Vec<&Value> = measured.iter().copied().filter(|record| !failed(record) && !cancelled(record)).collect();
    let stopped = measured.iter().filter(|record| cancelled(record)).count() as u64;
    entry.outcomes = Outcomes {
        ok: ok.len() as u64,
        interrupted: stopped,
        failed: measured.len() as u64 - ok.len() as u64 - stopped,
        ..Outcomes::default()
    };
    let metric = |record: &'_ Value, key: &str| -> Option<Value> { record.get("metrics")?.get(key).cloned() };
    for (key, name) in TIMES {
        let mut values = Vec::new();
        for record in &ok {
            // Older files have short names.
            let short = match key {
                "time_to_first_token" => "ttft",
                "time_to_second_token" => "ttst",
                other => other,
            };
            let Some(found) = metric(record, key).or_else(|| metric(record, short)) else { continue };
            let scale = json::text(&found, "unit").and_then(to_ms).unwrap_or(f64::NAN);
            match found.get("value") {
                Some(Value::Array(gaps)) => values.extend(gaps.iter().map(|gap| json::element(gap) * scale)),
                Some(value) => values.push(json::element(value) * scale),
                None => {}
            }
        }
        entry.series.push(Series::of(name, "ms", values));
    }
    let tokens = |key: &str| {
        let of = |record: &&Value| metric(record, key).and_then(|metric| json::count(&metric, "value"));
        lengths(ok.iter().map(of))
    };
    entry.fact(fact::PROMPT_TOKENS, tokens("input_sequence_length"));
    entry.fact(fact::NEW_TOKENS, tokens("output_sequence_length"));
    entry.fact(REQUESTS, Some(measured.len().to_string()));
    definitions(&mut entry, false);
    vec![entry]
}
