//! The text format of Prometheus metrics, and the names that servers of language models use in it.

use std::collections::BTreeMap;

use crate::record::load::server_metrics::{HistogramTotal, ServerSample};

/// One server's names for what is wanted: (name here, name there).
struct Dialect {
    name: &'static str,
    /// What all its names begin with.
    prefix: &'static str,
    gauges: &'static [(&'static str, &'static str)],
    counters: &'static [(&'static str, &'static str)],
    histograms: &'static [(&'static str, &'static str)],
}

/// The names as the servers' own `/metrics` showed them (vLLM 0.32, llama.cpp b11434) or as their sources write them (SGLang 0.5, TGI 3).
const DIALECTS: [Dialect; 4] = [
    Dialect {
        name: "vllm",
        prefix: "vllm:",
        gauges: &[
            ("running", "num_requests_running"),
            ("waiting", "num_requests_waiting"),
            ("kv_usage", "kv_cache_usage_perc"),
            ("kv_usage", "gpu_cache_usage_perc"),
        ],
        counters: &[
            ("prompt_tokens", "prompt_tokens_total"),
            ("generated_tokens", "generation_tokens_total"),
            ("preemptions", "num_preemptions_total"),
            ("cache_hits", "prefix_cache_hits_total"),
            ("cache_queries", "prefix_cache_queries_total"),
        ],
        histograms: &[
            ("ttft", "time_to_first_token_seconds"),
            ("itl", "inter_token_latency_seconds"),
            ("itl", "time_per_output_token_seconds"),
            ("tpot", "request_time_per_output_token_seconds"),
            ("e2e", "e2e_request_latency_seconds"),
            ("queue", "request_queue_time_seconds"),
            ("prefill", "request_prefill_time_seconds"),
            ("decode", "request_decode_time_seconds"),
        ],
    },
    Dialect {
        name: "sglang",
        prefix: "sglang:",
        gauges: &[("running", "num_running_reqs"), ("waiting", "num_queue_reqs"), ("kv_usage", "token_usage")],
        counters: &[("prompt_tokens", "prompt_tokens_total"), ("generated_tokens", "generation_tokens_total")],
        histograms: &[
            ("ttft", "time_to_first_token_seconds"),
            ("itl", "inter_token_latency_seconds"),
            ("tpot", "time_per_output_token_seconds"),
            ("e2e", "e2e_request_latency_seconds"),
        ],
    },
    Dialect {
        name: "llama.cpp",
        prefix: "llamacpp:",
        gauges: &[
            ("running", "requests_processing"),
            ("waiting", "requests_deferred"),
            ("kv_usage", "kv_cache_usage_ratio"),
        ],
        counters: &[("prompt_tokens", "prompt_tokens_total"), ("generated_tokens", "tokens_predicted_total")],
        histograms: &[],
    },
    Dialect {
        name: "tgi",
        prefix: "tgi_",
        gauges: &[("running", "batch_current_size"), ("waiting", "queue_size")],
        counters: &[],
        histograms: &[
            ("e2e", "request_duration"),
            ("queue", "request_queue_duration"),
            ("tpot", "request_mean_time_per_token_duration"),
        ],
    },
];

/// A line of the format: name, labels as they stand, value.
fn line(text: &str) -> Option<(&str, f64)> {
    let text = text.trim();
    if text.is_empty() || text.starts_with('#') {
        return None;
    }
    let (name, rest) = match text.find('{') {
        Some(open) => (&text[..open], after_labels(&text[open..])?),
        None => text.split_once(char::is_whitespace)?,
    };
    // A time stamp may follow the value.
    let value: f64 = rest.split_whitespace().next()?.parse().ok()?;
    value.is_finite().then_some((name.trim(), value))
}

/// What follows the closing brace; a brace within quotes closes nothing.
fn after_labels(text: &str) -> Option<&str> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '}' if !quoted => return Some(&text[at + 1..]),
            _ => {}
        }
    }
    None
}

/// Reads `text`, taken at `t_ns`: whose names they are, and the values known by name. `None` if no known name is in it.
///
/// A metric with several series, such as one for each engine, is the sum of them; a share is their mean.
pub fn read(text: &str, t_ns: u64) -> Option<(&'static str, ServerSample)> {
    let mut sums: BTreeMap<&str, (f64, u32)> = BTreeMap::new();
    for (name, value) in text.lines().filter_map(line) {
        let entry = sums.entry(name).or_insert((0.0, 0));
        entry.0 += value;
        entry.1 += 1;
    }
    let dialect = DIALECTS.iter().find(|dialect| sums.keys().any(|name| name.starts_with(dialect.prefix)))?;
    let find = |name: &str| sums.get(format!("{}{name}", dialect.prefix).as_str()).copied();
    let mut sample = ServerSample { t_ns, ..ServerSample::default() };
    for (ours, theirs) in dialect.gauges {
        if let Some((sum, series)) = find(theirs) {
            let value = if *ours == "kv_usage" { sum / f64::from(series) } else { sum };
            sample.gauges.entry((*ours).to_owned()).or_insert(value);
        }
    }
    for (ours, theirs) in dialect.counters {
        if let Some((sum, _)) = find(theirs) {
            sample.counters.entry((*ours).to_owned()).or_insert(sum);
        }
    }
    for (ours, theirs) in dialect.histograms {
        if let (Some((sum, _)), Some((count, _))) = (find(&format!("{theirs}_sum")), find(&format!("{theirs}_count"))) {
            sample.histograms.entry((*ours).to_owned()).or_insert(HistogramTotal { sum, count });
        }
    }
    Some((dialect.name, sample))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_vllm_are_known_and_series_are_added() {
        let text = "# HELP vllm:num_requests_running x\n# TYPE vllm:num_requests_running gauge\n\
            vllm:num_requests_running{engine=\"0\",model_name=\"a } b\"} 3.0\nvllm:num_requests_running{engine=\"1\",model_name=\"q\\\"}\"} 4.0 1795349015345\n\
            vllm:kv_cache_usage_perc{engine=\"0\"} 0.5\nvllm:kv_cache_usage_perc{engine=\"1\"} 0.25\n\
            vllm:generation_tokens_total{engine=\"0\"} 1.5e+03\nvllm:time_to_first_token_seconds_sum{} 2.5\nvllm:time_to_first_token_seconds_count{} 5\n\
            vllm:num_requests_waiting{} NaN\npython_gc 3\n";
        let (dialect, sample) = read(text, 7).unwrap();
        assert_eq!((dialect, sample.t_ns), ("vllm", 7));
        assert_eq!(sample.gauges["running"], 7.0);
        assert_eq!(sample.gauges["kv_usage"], 0.375);
        assert_eq!(sample.counters["generated_tokens"], 1500.0);
        assert_eq!(sample.histograms["ttft"], HistogramTotal { sum: 2.5, count: 5.0 });
        assert!(!sample.gauges.contains_key("waiting"), "what is no number is unknown");
    }

    #[test]
    fn the_names_of_others_are_known_too() {
        let (dialect, sample) = read(
            "llamacpp:requests_processing 2\nllamacpp:requests_deferred 4\nllamacpp:tokens_predicted_total 46\n",
            0,
        )
        .unwrap();
        assert_eq!((dialect, sample.gauges["waiting"], sample.counters["generated_tokens"]), ("llama.cpp", 4.0, 46.0));
        assert_eq!(read("sglang:num_queue_reqs{} 1\n", 0).unwrap().0, "sglang");
        assert!(read("<html>not found</html>", 0).is_none());
        assert!(read("up 1\n{} 3\nvllm", 0).is_none());
    }
}
