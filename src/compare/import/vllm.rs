//! `vllm bench serve`, `latency` and `throughput`, and `benchmark_serving.py` before them.
//!
//! TPOT is (E2E − TTFT) / (tokens − 1), E2E ends with the last chunk that has choices, and `itls` are gaps between chunks, whatever they hold
//! (`vllm/benchmarks/serve.py`, `lib/endpoint_request_func.py`). What counts as the first token depends on the client: the Rust client takes
//! the first chunk with choices, the Python client the first with output.

use serde_json::Value;

use super::builder::{Entry, Series};
use super::definition;
use super::json;
use super::load_summary::{self, INPUT_TOKENS_TOTAL, REQUESTS};
use crate::compare::subject::{Outcomes, fact};

pub(super) fn is_serve(value: &Value) -> bool {
    let has = |key: &str| value.get(key).is_some();
    has("completed")
        && has("duration")
        && (has("output_throughput") || has("mean_ttft_ms"))
        && (has("model_id") || has("tokenizer_id"))
}

pub(super) fn serve(documents: &[Value]) -> Vec<Entry> {
    documents.iter().map(serve_entry).collect()
}

fn serve_entry(value: &Value) -> Entry {
    let mut entry = Entry::default();
    let requests = load_summary::requests(value);
    load_summary::common(&mut entry, value, requests.as_deref());
    entry.fact(
        "tokenizer",
        value.get("tokenizer_id").and_then(json::scalar).map(|name| super::stage1::without_directories(&name)),
    );
    entry.fact(definition::TTFT, Some("sent to the first chunk the vLLM client counts as output".to_owned()));
    entry.fact(definition::TPOT, Some("(last output − first) / (tokens − 1)".to_owned()));
    entry.fact(definition::E2E, Some("sent to the last output".to_owned()));
    entry.series = load_summary::request_series(value, requests.as_deref(), Some("e2el_ms"));
    entry
}

pub(super) fn latency(documents: &[Value]) -> Vec<Entry> {
    let entry = |value: &Value| {
        let mut entry = Entry::default();
        let values: Vec<f64> =
            json::list(value, "latencies").unwrap_or_default().iter().map(|v| json::element(v) * 1e3).collect();
        entry.outcomes = Outcomes { ok: values.len() as u64, ..Outcomes::default() };
        let whole = "one `LLM.generate` of a batch, scheduling and detokenisation included";
        entry.fact(definition::TOTAL, Some(whole.to_owned()));
        entry.series = vec![Series::of("total_ms", "ms", values)];
        entry
    };
    documents.iter().map(entry).collect()
}

pub(super) fn throughput(documents: &[Value]) -> Vec<Entry> {
    let entry = |value: &Value| {
        let mut entry = Entry::default();
        let requests = json::count(value, "num_requests");
        entry.outcomes = Outcomes { ok: requests.unwrap_or(0), ..Outcomes::default() };
        entry.fact(REQUESTS, requests.map(|requests| requests.to_string()));
        entry.fact("tokens_total", value.get("total_num_tokens").and_then(json::scalar));
        entry.fact(INPUT_TOKENS_TOTAL, value.get("total_prompt_tokens").and_then(json::scalar));
        entry.fact(fact::BACKEND, Some("vllm".to_owned()));
        entry.series = vec![
            Series::one("request_per_s", "req/s", json::number(value, "requests_per_second")),
            // Prompt and generated tokens together.
            Series::one("input_output_tok_per_s", "tok/s", json::number(value, "tokens_per_second")),
        ];
        entry
    };
    documents.iter().map(entry).collect()
}
