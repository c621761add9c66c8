//! `guidellm benchmark` JSON: a list of benchmarks, each with a summary by metric and, unless they were sampled away, its requests.
//!
//! Its `inter_token_latency_ms` is one value a request, (last − first) / (tokens − 1), so it is TPOT here. Its `time_per_output_token_ms` divides
//! the whole request by all tokens, the first included, as no other tool does; it keeps a name of its own. Times are of a wall clock
//! (`src/guidellm/schemas/base/request_stats.py`).

use serde_json::Value;

use super::builder::{Entry, Series};
use super::definition;
use super::json;
use super::load_summary::{REQUEST_RATE, REQUESTS, lengths};
use super::stage1::without_directories;
use crate::compare::subject::{Outcomes, fact};
use crate::stats::summary::Summary;

/// Metric, measure, and the factor to ms.
const TIMES: [(&str, &str, f64); 4] = [
    ("time_to_first_token_ms", "ttft_ms", 1.0),
    ("inter_token_latency_ms", "tpot_ms", 1.0),
    ("time_per_output_token_ms", "tpot_incl_first_ms", 1.0),
    ("request_latency", "stream_end_ms", 1e3),
];
const RATES: [(&str, &str, &str); 3] = [
    ("requests_per_second", "request_per_s", "req/s"),
    ("output_tokens_per_second", "output_tok_per_s", "tok/s"),
    ("tokens_per_second", "input_output_tok_per_s", "tok/s"),
];

pub(super) fn tool(documents: &[Value]) -> String {
    let version = documents
        .first()
        .and_then(|document| document.get("metadata"))
        .and_then(|metadata| json::text(metadata, "guidellm_version"));
    version.map_or_else(|| "guidellm".to_owned(), |version| format!("guidellm {version}"))
}

pub(super) fn entries(documents: &[Value]) -> Vec<Entry> {
    documents
        .iter()
        .flat_map(|document| {
            json::list(document, "benchmarks")
                .unwrap_or_default()
                .iter()
                .map(move |benchmark| entry(document, benchmark))
        })
        .collect()
}

fn entry(document: &Value, benchmark: &Value) -> Entry {
    let mut entry = Entry::default();
    let requests =
        benchmark.get("requests").and_then(|requests| json::list(requests, "successful")).unwrap_or_default();
    let metrics = benchmark.get("metrics").unwrap_or(&Value::Null);
    let summary = |key: &str| metrics.get(key).and_then(|metric| metric.get("successful"));
    let totals = metrics.get("request_totals").unwrap_or(&Value::Null);
    let count = |key: &str| json::count(totals, key);
    let ok = count("successful").unwrap_or(requests.len() as u64);
    // A sample of the requests is no substitute for the summary of all.
    let whole = !requests.is_empty() && requests.len() as u64 == ok;
    for (key, name, scale) in TIMES {
        let values: Vec<f64> = if whole {
            let known = requests.iter().filter(|request| request.get(key).is_some_and(|value| !value.is_null()));
            known.map(|request| json::element(&request[key]) * scale).collect()
        } else {
            Vec::new()
        };
        // TPOT of a benchmark is weighted by tokens, that of its requests is not: the two may differ.
        let stated = summary(key).and_then(|summary| stated(summary, scale, "ms"));
        let stated = if values.is_empty() { stated } else { None };
        entry.series.push(Series::of(name, "ms", values).reported(stated));
    }
    for (key, name, unit) in RATES {
        entry.series.push(Series::one(name, unit, summary(key).and_then(|summary| json::number(summary, "mean"))));
    }
    let config = benchmark.get("config").or_else(|| benchmark.get("args")).unwrap_or(&Value::Null);
    let strategy = config.get("strategy").or_else(|| benchmark.get("scheduler")).unwrap_or(config);
    let of = |value: &Value, keys: &[&str]| json::find(value, keys, 3).and_then(json::scalar);
    entry.fact("strategy", of(strategy, &["type_", "kind"]));
    entry.fact(fact::CONCURRENCY, of(strategy, &["streams", "max_concurrency"]));
    entry.fact(REQUEST_RATE, of(strategy, &["rate"]));
    let model = of(config, &["model"]).or_else(|| document.get("args").and_then(|args| of(args, &["model"])));
    entry.fact(fact::MODEL, model.map(|name| without_directories(&name)));
    let (failed, cut) = (count("errored").unwrap_or(0), count("incomplete").unwrap_or(0));
    entry.outcomes = Outcomes { ok, failed, interrupted: cut, ..Outcomes::default() };
    entry.fact(REQUESTS, Some(ok.saturating_add(failed).saturating_add(cut).to_string()));
    for (keys, metric, name) in [
        ("prompt_tokens", "prompt_token_count", fact::PROMPT_TOKENS),
        ("output_tokens", "output_token_count", fact::NEW_TOKENS),
    ] {
        let by_request = whole.then(|| lengths(requests.iter().map(|request| json::count(request, keys)))).flatten();
        let mean =
            || summary(metric).and_then(|summary| json::number(summary, "mean")).map(|mean| format!("mean {mean:.2}"));
        entry.fact(name, by_request.or_else(mean));
    }
    entry.fact(definition::TTFT, Some("sent to the first chunk with content or reasoning".to_owned()));
    entry.fact(definition::TPOT, Some("(last output − first) / (tokens − 1)".to_owned()));
    entry.fact(definition::E2E, Some("sent to the end of the stream".to_owned()));
    entry.tells = ["strategy", fact::CONCURRENCY, REQUEST_RATE]
        .into_iter()
        .filter_map(|name| Some((name, entry.facts.get(name).cloned().flatten()?)))
        .collect();
    entry
}

fn stated(summary: &Value, scale: f64, unit: &str) -> Option<Summary> {
    let percentiles = summary.get("percentiles").unwrap_or(&Value::Null);
    let of = |value: &Value, key: &str| json::number(value, key).map(|value| value * scale);
    let n = json::count(summary, "count").unwrap_or(0);
    // Nothing was measured: guidellm writes zeros.
    if n == 0 && summary.get("count").is_some() {
        return None;
    }
    Some(Summary {
        unit: unit.to_owned(),
        n,
        mean: of(summary, "mean"),
        std: of(summary, "std_dev"),
        min: of(summary, "min"),
        p50: of(summary, "median").or_else(|| of(percentiles, "p50")),
        p90: of(percentiles, "p90"),
        p95: of(percentiles, "p95"),
        p99: of(percentiles, "p99"),
        max: of(summary, "max"),
        ci95: None,
    })
}
