//! One vocabulary for every format: what a measure, an outcome and a stage are called, and how a value of them is written.

use crate::config::schema::load::ArrivalKind;
use crate::record::load::metrics::{Distribution, LoadMetrics, StageBlock};
use crate::report::number::{self, UNKNOWN, count, digits};
use crate::stats::quantile::{SUPPORT_CONFIDENCE, samples_needed, supported};

/// What is known of a measure by its name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measure {
    /// Name in `metrics.json`.
    pub name: &'static str,
    /// What reports call it.
    pub label: &'static str,
    /// What it is.
    pub definition: &'static str,
}

const fn measure(name: &'static str, label: &'static str, definition: &'static str) -> Measure {
    Measure { name, label, definition }
}

/// The measures in the order of reports. A measure that is not among them is shown under its own name.
pub(super) const MEASURES: [Measure; 19] = [
    measure(
        "ttft_ms",
        "TTFT",
        "time to first token: from the first byte of the request handed to the system to the first chunk that carries content, reasoning or a \
         part of a tool call. Role-only, empty and comment events do not count",
    ),
    measure(
        "ttfo_ms",
        "TTFO",
        "time to first output: as TTFT, to the first chunk of the answer itself, reasoning left out",
    ),
    measure("ttfb_ms", "TTFB", "from sending to the first byte of the answer, whatever it holds"),
    measure("first_event_ms", "first event", "from sending to the first event of the stream, whatever it holds"),
    measure(
        "tpot_ms",
        "TPOT",
        "time per output token: (last chunk − first chunk) / (output tokens − tokens of the first chunk) of each request; none where that is no \
         division. The tokens of the first chunk are as the server counts them, else 1; an end token that is counted and not sent is left out",
    ),
    measure(
        "itl_ms",
        "ITL",
        "inter-token latency: one value for each token after the first chunk, all requests together: the gap before its chunk over the tokens of \
         the chunk, which the server counts, else spread evenly over the chunks",
    ),
    measure(
        "inter_chunk_ms",
        "inter-chunk",
        "the gap between two chunks with output, whatever number of tokens they carry. One value a gap, all requests together",
    ),
    measure(
        "e2e_ms",
        "E2E",
        "end to end: from sending to the last chunk with output; without a stream to the end of the answer",
    ),
    measure("response_end_ms", "response end", "from sending to the end of the answer, usage and `[DONE]` included"),
    measure(
        "dispatch_delay_ms",
        "dispatch delay",
        "of an open loop: from the instant a request was due to its first byte sent, of all requests that were sent: lateness of this client",
    ),
    measure("queue_ms", "queued", "due to sent of successful requests: how long they waited in this client"),
    measure(
        "ttft_from_due_ms",
        "TTFT from due",
        "TTFT counted from the instant the request was due, so that requests held back by a slow server are not left out (coordinated omission)",
    ),
    measure(
        "e2e_from_due_ms",
        "E2E from due",
        "E2E counted from the instant the request was due, as users wait who come when they come",
    ),
    measure(
        "connect_ms",
        "connect",
        "connecting, TLS included, of requests that had to wait for a connection of their own",
    ),
    measure("input_tokens", "input tokens", "tokens of the prompt, by the server's `usage`, else by the tokenizer"),
    measure("output_tokens", "output tokens", "output tokens of a request: reasoning, content and tool calls"),
    measure(
        "server_prompt_ms",
        "server: prompt",
        "what the server says it took for the prompt (llama.cpp's `timings`); TTFT beyond it is waiting and the way",
    ),
    measure(
        "server_decode_ms",
        "server: decode",
        "what the server says it took for generating (llama.cpp's `timings`)",
    ),
    measure(
        "beyond_server_ms",
        "beyond server",
        "first chunk to the end of the answer here minus what the server says it took for generating: what the way, and this client, add",
    ),
];

/// What reports call the measure `name`.
pub(super) fn label(name: &str) -> &str {
    MEASURES.iter().find(|known| known.name == name).map_or(name, |known| known.label)
}

/// The place of a measure in tables: those known in their order, then the others by name.
pub(super) fn place(name: &str) -> usize {
    MEASURES.iter().position(|known| known.name == name).unwrap_or(MEASURES.len())
}

/// The distribution of a measure of a stage, if it has any value.
pub(super) fn of<'a>(stage: &'a StageBlock, name: &str) -> Option<&'a Distribution> {
    stage.measures.get(name).filter(|distribution| distribution.summary.n > 0)
}

/// A statistic of a distribution: `mean`, `p50`, … `p99.9`, `max`.
pub(super) fn statistic(distribution: &Distribution, name: &str) -> Option<f64> {
    let summary = &distribution.summary;
    let value = match name {
        "mean" => summary.mean,
        "min" => summary.min,
        "p50" => summary.p50,
        "p90" => summary.p90,
        "p95" => summary.p95,
        "p99" => summary.p99,
        "p99.9" => distribution.p99_9,
        "max" => summary.max,
        _ => None,
    };
    value.filter(|value| value.is_finite() && summary.n > 0)
}

/// [`statistic`] of a measure of a stage.
pub(super) fn value(stage: &StageBlock, name: &str, wanted: &str) -> Option<f64> {
    statistic(of(stage, name)?, wanted)
}

/// Why the statistic `name` of `n` values is weaker than it looks, e.g. `n=20 < 459`. The median always stands, with its n beside it.
pub(super) fn weak(name: &str, n: u64) -> Option<String> {
    let quantile = name.strip_prefix('p')?.parse::<f64>().ok()? / 100.0;
    if quantile <= 0.5 || supported(quantile, n) {
        return None;
    }
    samples_needed(quantile, SUPPORT_CONFIDENCE).map(|needed| format!("n={n} < {needed}"))
}

/// Whether output tokens of a stage are chunks that nobody counted the tokens of, so that what is called a token may be several.
pub(super) fn by_chunks(stage: &StageBlock) -> bool {
    stage.token_sources.contains_key("chunks")
}

/// What a stage has per second: tokens, or chunks where nobody counted the tokens in them.
pub(super) fn tok_per_s(stage: &StageBlock) -> &'static str {
    if by_chunks(stage) { "chunk/s" } else { "tok/s" }
}

/// Whether the server reasoned before it answered: its first output is then later than its first token.
pub(super) fn reasons(stage: &StageBlock) -> bool {
    let [first, output] = ["ttft_ms", "ttfo_ms"].map(|name| value(stage, name, "mean"));
    first.zip(output).is_some_and(|(first, output)| first < output)
}

/// Whether requests of a stage came when a plan said so.
pub(super) fn open(stage: &StageBlock) -> bool {
    stage.plan.arrival != ArrivalKind::Closed
}

/// Successful requests of a stage.
pub(super) fn ok(stage: &StageBlock) -> u64 {
    stage.outcomes.get("ok").copied().unwrap_or(0)
}

/// What the stages of a run differ in, as an axis says it.
pub(super) fn axis(metrics: &LoadMetrics) -> &'static str {
    let by_rate = metrics.stages.first().is_some_and(|stage| stage.plan.concurrency.is_none());
    if by_rate { "rate" } else { "concurrency" }
}

/// The words below an axis.
pub(super) fn axis_title(axis: &str) -> &'static str {
    if axis == "rate" { "requests per second sent" } else { "requests kept in flight" }
}

/// Where a stage stands on the axis.
pub(super) fn load(stage: &StageBlock, axis: &str) -> Option<f64> {
    if axis == "rate" { stage.plan.rate } else { stage.plan.concurrency.map(f64::from) }
}

/// The stage a summary shows: the best one, else the last in which anything succeeded, else the last.
pub(super) fn shown(metrics: &LoadMetrics) -> Option<&StageBlock> {
    best(metrics).or_else(|| metrics.stages.iter().rev().find(|stage| ok(stage) > 0)).or_else(|| metrics.stages.last())
}

/// The stage that stands for the run: the best one, else the only one.
pub(super) fn best(metrics: &LoadMetrics) -> Option<&StageBlock> {
    let named = metrics.saturation.as_ref().and_then(|saturation| saturation.best.as_ref());
    match (named, metrics.stages.as_slice()) {
        (Some(best), stages) => stages.iter().find(|stage| stage.plan.label == best.stage),
        (None, [only]) => Some(only),
        (None, _) => None,
    }
}

/// Milliseconds with their unit, or seconds where there are many of them.
pub(super) fn ms(value: Option<f64>) -> String {
    match value.filter(|value| value.is_finite()) {
        None => UNKNOWN.to_owned(),
        Some(value) if value.abs() >= 10_000.0 => format!("{} s", digits(value / 1e3)),
        Some(value) => format!("{} ms", digits(value)),
    }
}

/// A rate with its unit.
pub(super) fn per_s(value: Option<f64>, unit: &str) -> String {
    value
        .filter(|value| value.is_finite())
        .map_or_else(|| UNKNOWN.to_owned(), |value| format!("{} {unit}", digits(value)))
}

/// The share of failed requests in words.
pub(super) fn errors(stage: &StageBlock) -> String {
    match stage.error_rate {
        Some(0.0) => "no errors".to_owned(),
        Some(rate) => format!("{} errors", number::percent(rate)),
        None => "error rate not known".to_owned(),
    }
}

/// Outcomes in the order of reports, those that did not happen left out: `ok 190, http_5xx 10`.
pub(super) fn outcomes(stage: &StageBlock) -> String {
    let parts: Vec<String> =
        ordered(stage).into_iter().map(|(name, number)| format!("{name} {}", count(number))).collect();
    if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
}

/// Outcomes that happened, in the order of reports.
pub(super) fn ordered(stage: &StageBlock) -> Vec<(&str, u64)> {
    let order = |name: &str| {
        crate::record::load::outcome::Outcome::ALL.iter().position(|known| known.name() == name).unwrap_or(usize::MAX)
    };
    let happened = stage.outcomes.iter().filter(|(_, number)| **number > 0);
    let mut all: Vec<(&str, u64)> = happened.map(|(name, number)| (name.as_str(), *number)).collect();
    all.sort_by_key(|(name, _)| order(name));
    all
}

/// The law: what was issued is the sum of the outcomes.
pub(super) fn law(stage: &StageBlock) -> String {
    let sum = stage.outcomes.values().copied().fold(0, u64::saturating_add);
    let sign = if sum == stage.issued { "=" } else { "≠" };
    format!("{}: {} issued {sign} {}", stage.plan.label, count(stage.issued), outcomes(stage))
}

/// `1 request`, `2 requests`.
pub(super) fn requests(number: u64) -> String {
    format!("{} {}", count(number), if number == 1 { "request" } else { "requests" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_says_how_many_values_it_lacks() {
        assert_eq!(weak("p99", 20).as_deref(), Some("n=20 < 459"));
        assert_eq!(weak("p99", 459), None);
        assert_eq!(weak("p99.9", 4602).as_deref(), Some("n=4602 < 4603"));
        assert_eq!(weak("p50", 1), None);
        assert_eq!(weak("mean", 1), None);
    }

    #[test]
    fn long_times_are_told_in_seconds_and_unknown_ones_not_as_zero() {
        assert_eq!(ms(Some(12.345)), "12.35 ms");
        assert_eq!(ms(Some(12_345.0)), "12.35 s");
        assert_eq!(ms(None), "–");
        assert_eq!(per_s(Some(f64::NAN), "tok/s"), "–");
    }
}
