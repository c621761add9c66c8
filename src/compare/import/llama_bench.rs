//! `llama-bench -o json` and `-o jsonl` of llama.cpp: one entry for each test, with the time and rate of every repetition.
//!
//! Fields as in `tools/llama-bench/README.md` of llama.cpp. A test `pp` processes a prompt of random tokens, `tg` generates tokens one by one from
//! an empty cache (or one of `n_depth` tokens); neither samples, so a rate of it counts less work than that of an engine that does.

use serde_json::Value;

use super::builder::{Entry, Series};
use super::definition;
use super::json;
use super::stage1::without_directories;
use crate::compare::subject::{Outcomes, fact};
use crate::stats::summary::Summary;

/// Fields that are results, names of the build, or read under other names.
const NOT_SETTINGS: [&str; 20] = [
    "build_commit",
    "build_number",
    "cpu_info",
    "gpu_info",
    "backends",
    "model_filename",
    "n_threads",
    "type_k",
    "type_v",
    "n_prompt",
    "n_gen",
    "n_depth",
    "test_time",
    "avg_ns",
    "stddev_ns",
    "avg_ts",
    "stddev_ts",
    "samples_ns",
    "samples_ts",
    "model_size",
];
/// Settings a file may sweep that name its tests.
const TELLING: [(&str, &str); 12] = [
    ("model_filename", "model"),
    ("n_threads", "threads"),
    ("n_batch", "n_batch"),
    ("n_ubatch", "n_ubatch"),
    ("type_k", "type_k"),
    ("type_v", "type_v"),
    ("n_gpu_layers", "ngl"),
    ("flash_attn", "fa"),
    ("split_mode", "sm"),
    ("use_mmap", "mmap"),
    ("cpu_mask", "cpu_mask"),
    ("backends", "backends"),
];
/// Settings at most, of an entry somebody made up.
const SETTINGS: usize = 64;

pub(super) fn is_entry(value: &Value) -> bool {
    let has = |key: &str| value.get(key).is_some();
    has("n_prompt") && has("n_gen") && (has("model_filename") || has("model_type")) && (has("avg_ts") || has("avg_ns"))
}

fn all(documents: &[Value]) -> impl Iterator<Item = &Value> {
    documents.iter().flat_map(|document| match document {
        Value::Array(items) => items.iter().collect::<Vec<_>>(),
        entry => vec![entry],
    })
}

pub(super) fn tool(documents: &[Value]) -> String {
    let mut builds: Vec<String> = all(documents)
        .filter_map(|entry| {
            let commit = json::text(entry, "build_commit")?;
            Some(
                json::count(entry, "build_number")
                    .map_or_else(|| commit.to_owned(), |number| format!("{commit} ({number})")),
            )
        })
        .collect();
    builds.sort();
    builds.dedup();
    if builds.is_empty() { "llama-bench".to_owned() } else { format!("llama-bench {}", builds.join(", ")) }
}

pub(super) fn entries(documents: &[Value]) -> Vec<Entry> {
    all(documents).filter(|entry| is_entry(entry)).map(entry).collect()
}

fn entry(value: &Value) -> Entry {
    let count = |key: &str| json::count(value, key).unwrap_or(0);
    let (prompt, generated, depth) = (count("n_prompt"), count("n_gen"), count("n_depth"));
    let test = match (prompt, generated) {
        (prompt, 0) => format!("pp{prompt}"),
        (0, generated) => format!("tg{generated}"),
        (prompt, generated) => format!("pp{prompt}+tg{generated}"),
    };
    let case = if depth > 0 { format!("{test} @ d{depth}") } else { test };
    let scalar = |key: &str| value.get(key).and_then(json::scalar);
    let mut entry = Entry { case: Some(case), ..Entry::default() };
    entry.tells = TELLING
        .iter()
        .filter_map(|(key, name)| {
            let value = scalar(key)?;
            Some((*name, if *key == "model_filename" { without_directories(&value) } else { value }))
        })
        .collect();
    entry.fact(fact::MODEL, scalar("model_filename").map(|name| without_directories(&name)));
    entry.fact("weights_bytes", scalar("model_size"));
    entry.fact(fact::BACKEND, scalar("backends").map(|backends| format!("llama.cpp {backends}")));
    entry.fact(fact::THREADS, scalar("n_threads"));
    entry.fact(fact::CPU, scalar("cpu_info"));
    entry.fact(fact::GPU, scalar("gpu_info"));
    entry.fact(
        fact::KV_DTYPE,
        match (scalar("type_k"), scalar("type_v")) {
            (Some(k), Some(v)) if k == v => Some(k),
            (Some(k), Some(v)) => Some(format!("{k}, {v}")),
            _ => None,
        },
    );
    entry.fact(definition::PHASES, Some("llama.cpp decode calls on random tokens, without sampling".to_owned()));
    if let Value::Object(map) = value {
        let settings = map.iter().filter(|(key, _)| !NOT_SETTINGS.contains(&key.as_str())).take(SETTINGS);
        for (key, value) in settings {
            entry.fact(key, json::scalar(value));
        }
    }
    entry.case_fact(fact::PROMPT_TOKENS, Some(prompt.to_string()));
    entry.case_fact(fact::NEW_TOKENS, Some(generated.to_string()));
    entry.case_fact(fact::BATCH, Some("1".to_owned()));
    entry.case_fact("context_tokens_before", Some(depth.to_string()));
    let name = match (prompt, generated) {
        (_, 0) => "prefill_tok_per_s",
        (0, _) => "decode_tok_per_s",
        _ => "input_output_tok_per_s",
    };
    entry.series =
        vec![Series::of(name, "tok/s", rates(value, prompt.saturating_add(generated))).reported(stated(value))];
    let repeats = entry.series[0].values.len() as u64;
    entry.outcomes = Outcomes { ok: repeats.max(1), ..Outcomes::default() };
    entry
}

/// Tokens per second of each repetition: as stated, else from its time.
fn rates(value: &Value, tokens: u64) -> Vec<f64> {
    if let Some(rates) = json::list(value, "samples_ts") {
        return rates.iter().map(json::element).collect();
    }
    let times = json::list(value, "samples_ns").unwrap_or_default();
    times.iter().map(json::element).map(|ns| if ns > 0.0 { tokens as f64 * 1e9 / ns } else { f64::NAN }).collect()
}

/// Files of old versions have mean and standard deviation only.
fn stated(value: &Value) -> Option<Summary> {
    let mean = json::number(value, "avg_ts")?;
    let n = json::list(value, "samples_ns").map_or(0, <[Value]>::len) as u64;
    Some(Summary {
        unit: "tok/s".to_owned(),
        n,
        mean: Some(mean),
        std: json::number(value, "stddev_ts"),
        ..Summary::default()
    })
}
