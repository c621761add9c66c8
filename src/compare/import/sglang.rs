//! `sglang.bench_serving --output-file`: JSONL, one line appended by each run.
//!
//! Its E2E and the TPOT it states end with the last line of the stream, usage and `[DONE]` included, so its E2E is `stream_end_ms` here. Where
//! `--output-details` saved the gaps, TPOT is computed from them and ends with the last output, as everywhere else. On `/generate` a gap is
//! divided by the tokens of its chunk (`python/sglang/bench_serving.py`).

use serde_json::Value;

use super::builder::{Entry, Series};
use super::definition;
use super::json;
use super::load_summary::{self, DATASET, REQUEST_RATE};
use crate::compare::subject::fact;

pub(super) fn is_result(value: &Value) -> bool {
    let has = |key: &str| value.get(key).is_some();
    has("completed") && has("duration") && has("mean_e2e_latency_ms") && has("backend")
}

pub(super) fn entries(documents: &[Value]) -> Vec<Entry> {
    documents.iter().map(entry).collect()
}

fn entry(value: &Value) -> Entry {
    let mut entry = Entry::default();
    let requests = load_summary::requests(value);
    load_summary::common(&mut entry, value, requests.as_deref());
    for (key, name) in [
        ("random_input_len", "random_input_len"),
        ("random_output_len", "random_output_len"),
        ("random_range_ratio", "random_range_ratio"),
        ("sharegpt_output_len", "sharegpt_output_len"),
        ("accept_length", "speculative_accept_length"),
    ] {
        entry.fact(name, value.get(key).and_then(json::scalar));
    }
    // All at once is the default; Python writes it as `Infinity`, which is read as null.
    if value.get("request_rate").is_some_and(Value::is_null) {
        entry.fact(REQUEST_RATE, Some("inf".to_owned()));
        entry.tells.push(("rate", "inf".to_owned()));
    }
    let server = value.get("server_info").filter(|info| info.is_object());
    if let Some(server) = server {
        let of = |keys: &[&str]| json::find(server, keys, 2).and_then(json::scalar);
        entry.fact(
            fact::MODEL,
            of(&["served_model_name", "model_path"]).map(|name| super::stage1::without_directories(&name)),
        );
        entry.fact(fact::DTYPE, of(&["dtype"]));
        entry.fact("quantization", of(&["quantization"]));
        entry.fact(fact::KV_DTYPE, of(&["kv_cache_dtype"]));
        entry.fact("tensor_parallel", of(&["tp_size"]));
        entry.fact("server_version", of(&["version"]));
    }
    if entry.facts.get(DATASET).is_none_or(Option::is_none) {
        entry.fact(DATASET, value.get("dataset").and_then(json::scalar));
    }
    let detailed = requests.as_ref().is_some_and(|requests| requests.iter().any(|request| !request.gaps_s.is_empty()));
    entry.fact(definition::TTFT, Some("sent to the first chunk with text".to_owned()));
    let tpot = if detailed {
        "(last output − first) / (tokens − 1)"
    } else {
        "(end of the stream − first output) / (tokens − 1)"
    };
    entry.fact(definition::TPOT, Some(tpot.to_owned()));
    entry.fact(definition::E2E, Some("sent to the end of the stream".to_owned()));
    entry.series = load_summary::request_series(value, requests.as_deref(), None);
    for series in &mut entry.series {
        // Stated by another definition than the values: the two must not be held against each other.
        if series.name == "tpot_ms" && detailed {
            series.reported = None;
        }
    }
    let completed = json::count(value, "completed");
    let ends = load_summary::stated(value, "e2e_latency_ms", "ms", completed);
    entry.series.push(Series::of("stream_end_ms", "ms", Vec::new()).reported(ends));
    entry
}
