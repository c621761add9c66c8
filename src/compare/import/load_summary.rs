//! What the load clients of vLLM and SGLang share: their result is one flat object, with lists of one element a request where details were saved.

use serde_json::Value;

use super::builder::{Entry, Series};
use super::json;
use super::stage1::without_directories;
use crate::compare::subject::{Outcomes, fact};
use crate::stats::summary::Summary;

/// Fact: requests that were sent.
pub(super) const REQUESTS: &str = "requests";
/// Fact: requests per second that were asked for; `inf` is all at once.
pub(super) const REQUEST_RATE: &str = "request_rate";
/// Fact: prompt tokens of all requests that ended well.
pub(super) const INPUT_TOKENS_TOTAL: &str = "input_tokens_total";
/// Fact: generated tokens of all requests that ended well.
pub(super) const OUTPUT_TOKENS_TOTAL: &str = "output_tokens_total";
/// Fact: data set the prompts come from.
pub(super) const DATASET: &str = "dataset";

/// The summary of `metric` (`mean_ttft_ms`, `p99_ttft_ms`, …) over `n` values.
///
/// Both tools call `numpy.std`, which divides by n; here it is brought to n − 1. Without a known n it stays out.
pub(super) fn stated(value: &Value, metric: &str, unit: &str, n: Option<u64>) -> Option<Summary> {
    let of = |prefix: &str| json::number(value, &format!("{prefix}_{metric}"));
    // A metric that was not measured is 0 in these files, in every statistic.
    let mean = of("mean").filter(|mean| *mean > 0.0)?;
    let n = n.filter(|n| *n > 1);
    let std = of("std").zip(n).map(|(std, n)| std * (n as f64 / (n - 1) as f64).sqrt());
    Some(Summary {
        unit: unit.to_owned(),
        n: n.unwrap_or(0),
        mean: Some(mean),
        std,
        min: of("min"),
        p50: of("median").or_else(|| of("p50")),
        p90: of("p90"),
        p95: of("p95"),
        p99: of("p99"),
        max: of("max"),
        ci95: None,
    })
}

/// One request of a file with details.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) ttft_s: f64,
    /// Gaps between chunks.
    pub(super) gaps_s: &'a [Value],
    pub(super) input_tokens: Option<u64>,
    pub(super) output_tokens: Option<u64>,
    /// Sent to last output, where the file has it.
    pub(super) latency_s: Option<f64>,
}

impl Request<'_> {
    /// Sum of the gaps; NaN if one is no number.
    fn gaps_sum_s(&self) -> f64 {
        self.gaps_s.iter().map(json::element).sum()
    }
    /// Sent to last output.
    fn e2e_s(&self) -> f64 {
        self.latency_s.unwrap_or_else(|| self.ttft_s + self.gaps_sum_s())
    }
    /// (last − first) / (tokens − 1); `None` for one token.
    fn tpot_s(&self) -> Option<f64> {
        let tokens = self.output_tokens.filter(|tokens| *tokens > 1)?;
        let after_first = self.latency_s.map_or_else(|| self.gaps_sum_s(), |latency| latency - self.ttft_s);
        Some(after_first / (tokens - 1) as f64)
    }
    /// Whether each chunk after the first held one token.
    fn one_token_a_chunk(&self) -> bool {
        self.output_tokens.is_some_and(|tokens| tokens == self.gaps_s.len() as u64 + 1)
    }
}

/// The requests that ended well; `None` if the file has no details.
pub(super) fn requests(value: &Value) -> Option<Vec<Request<'_>>> {
    let ttfts = json::list(value, "ttfts")?;
    let gaps = json::list(value, "itls").unwrap_or_default();
    let (inputs, outputs) = (json::list(value, "input_lens"), json::list(value, "output_lens"));
    let errors = json::list(value, "errors");
    let latencies = json::list(value, "latencies");
    let at = |list: Option<&[Value]>, index: usize| list.and_then(|list| list.get(index)).and_then(Value::as_u64);
    let ended_well = |index: usize, ttft: f64| {
        let error = errors.and_then(|errors| errors.get(index));
        let no_error = error.is_none_or(|error| error.is_null() || error.as_str().is_some_and(str::is_empty));
        // A failed request has no output and a TTFT of 0; what is no number is left for the check of values.
        no_error && outputs.is_none_or(|_| at(outputs, index) != Some(0)) && ttft != 0.0
    };
    let all = ttfts.iter().enumerate().map(|(index, ttft)| (index, json::element(ttft)));
    Some(
        all.filter(|(index, ttft)| ended_well(*index, *ttft))
            .map(|(index, ttft_s)| Request {
                ttft_s,
                gaps_s: gaps.get(index).and_then(Value::as_array).map_or(&[], Vec::as_slice),
                input_tokens: at(inputs, index),
                output_tokens: at(outputs, index),
                latency_s: latencies.and_then(|list| list.get(index)).and_then(Value::as_f64),
            })
            .collect(),
    )
}

/// The measures of requests, beside what the file states of them. `e2e` is `None` where the tool's E2E ends elsewhere than the last output.
pub(super) fn request_series(value: &Value, requests: Option<&[Request<'_>]>, e2e: Option<&str>) -> Vec<Series> {
    let completed = json::count(value, "completed");
    let reported = |metric: &str| stated(value, metric, "ms", completed);
    let requests = requests.unwrap_or_default();
    let ms = |seconds: f64| seconds * 1e3;
    let mut series = vec![
        Series::of("ttft_ms", "ms", requests.iter().map(|request| ms(request.ttft_s)).collect())
            .reported(reported("ttft_ms")),
        Series::of("tpot_ms", "ms", requests.iter().filter_map(Request::tpot_s).map(ms).collect())
            .reported(reported("tpot_ms")),
    ];
    if let Some(metric) = e2e {
        let has_gaps = requests.iter().any(|request| !request.gaps_s.is_empty() || request.latency_s.is_some());
        let values = if has_gaps { requests.iter().map(|request| ms(request.e2e_s())).collect() } else { Vec::new() };
        series.push(Series::of("e2e_ms", "ms", values).reported(reported(metric)));
    }
    // Gaps are between chunks. They are gaps between tokens only where it can be seen that every chunk held one.
    let gaps: Vec<f64> = requests.iter().flat_map(|request| request.gaps_s.iter()).map(json::element).map(ms).collect();
    let by_token = !gaps.is_empty() && requests.iter().all(Request::one_token_a_chunk);
    let name = if by_token { "itl_ms" } else { "inter_chunk_ms" };
    series.push(Series::of(name, "ms", gaps).reported(stated(value, "itl_ms", "ms", None)));
    for (key, name, unit) in [
        ("request_throughput", "request_per_s", "req/s"),
        ("output_throughput", "output_tok_per_s", "tok/s"),
        ("request_goodput", "goodput_per_s", "req/s"),
    ] {
        series.push(Series::one(name, unit, json::number(value, key)));
    }
    let total = json::number(value, "total_token_throughput").or_else(|| json::number(value, "total_throughput"));
    series.push(Series::one("input_output_tok_per_s", "tok/s", total));
    series
}

/// Facts and outcomes both tools give under the same names.
pub(super) fn common(entry: &mut Entry, value: &Value, requests: Option<&[Request<'_>]>) {
    let scalar = |key: &str| value.get(key).and_then(json::scalar);
    entry.fact(fact::BACKEND, scalar("backend").or_else(|| scalar("endpoint_type")));
    entry.fact(fact::CONCURRENCY, scalar("max_concurrency"));
    entry.fact(REQUEST_RATE, scalar("request_rate"));
    entry.fact("burstiness", scalar("burstiness"));
    entry.fact(DATASET, scalar("dataset_name"));
    entry.fact(INPUT_TOKENS_TOTAL, scalar("total_input_tokens").or_else(|| scalar("total_input")));
    entry.fact(OUTPUT_TOKENS_TOTAL, scalar("total_output_tokens").or_else(|| scalar("total_output")));
    if let Some(model) = scalar("model_id") {
        entry.fact(fact::MODEL, Some(without_directories(&model)));
    }
    if let Some(requests) = requests {
        entry.fact(fact::PROMPT_TOKENS, lengths(requests.iter().map(|request| request.input_tokens)));
        entry.fact(fact::NEW_TOKENS, lengths(requests.iter().map(|request| request.output_tokens)));
    }
    let completed = json::count(value, "completed").or_else(|| requests.map(|requests| requests.len() as u64));
    let sent = json::count(value, "num_prompts").or_else(|| json::list(value, "ttfts").map(|list| list.len() as u64));
    let failed = json::count(value, "failed")
        .unwrap_or_else(|| sent.zip(completed).map_or(0, |(sent, completed)| sent.saturating_sub(completed)));
    entry.outcomes = Outcomes { ok: completed.unwrap_or(0), failed, ..Outcomes::default() };
    entry.fact(REQUESTS, sent.map(|sent| sent.to_string()));
    entry.tells = [
        ("model", entry.facts.get(fact::MODEL).cloned().flatten()),
        ("backend", scalar("backend")),
        ("dataset", scalar("dataset_name")),
        ("rate", scalar("request_rate")),
        ("concurrency", scalar("max_concurrency")),
        ("input_len", scalar("random_input_len").or_else(|| scalar("random_input"))),
        ("output_len", scalar("random_output_len").or_else(|| scalar("random_output"))),
        ("requests", sent.map(|sent| sent.to_string())),
        ("label", scalar("label").or_else(|| scalar("tag"))),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect();
}

/// `64`, or `60 to 64, mean 62.50` where the requests differ; `None` where one does not say.
pub(super) fn lengths(values: impl Iterator<Item = Option<u64>>) -> Option<String> {
    let values: Vec<u64> = values.collect::<Option<_>>()?;
    let (low, high) = (values.iter().min()?, values.iter().max()?);
    if low == high {
        return Some(low.to_string());
    }
    let mean = values.iter().map(|value| *value as f64).sum::<f64>() / values.len() as f64;
    Some(format!("{low} to {high}, mean {mean:.2}"))
}
