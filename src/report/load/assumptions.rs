//! The definitions and the method behind a load test.

use super::model::LoadReport;
use super::words;
use crate::record::load::metrics::StageBlock;
use crate::report::model::AssumptionSection;
use crate::report::number::{digits, percent};

fn section(title: &str, lines: Vec<(&str, String)>) -> AssumptionSection {
    let lines = lines.into_iter().map(|(name, text)| (name.to_owned(), text));
    AssumptionSection { title: title.to_owned(), lines: lines.collect() }
}

/// Definitions of the measures that this run has, and of the rates.
fn measures(report: &LoadReport<'_>) -> AssumptionSection {
    let has = |name: &str| report.metrics.stages.iter().any(|stage: &StageBlock| stage.measures.contains_key(name));
    let lines = words::MEASURES.iter().filter(|measure| has(measure.name));
    let mut all: Vec<(String, String)> =
        lines.map(|measure| (format!("{} ({})", measure.label, measure.name), measure.definition.to_owned())).collect();
    let rates = [
        ("req/s", "successful requests that ended in the window, over its length"),
        ("output tok/s", "output tokens of successful requests in the window, over its length: all users together"),
        ("per user tok/s", "1 / TPOT, the median over requests: what one user sees"),
        ("prefill tok/s", "prompt tokens over TTFT, the median over requests; queueing in the server is in it"),
        (
            "fairness",
            "Jain's index over the output rates of the requests: 1 is even, 1/n is one request taking everything",
        ),
    ];
    all.extend(rates.map(|(name, text)| (name.to_owned(), text.to_owned())));
    AssumptionSection { title: "Measures".to_owned(), lines: all }
}

/// All sections.
pub(super) fn sections(report: &LoadReport<'_>) -> Vec<AssumptionSection> {
    let context = report.context;
    let limit = context.max_error_rate.map_or_else(
        || "no share of errors ends a stage early".to_owned(),
        |rate| format!("a stage is given up when more than {} of its last requests failed", percent(rate)),
    );
    let levels: Vec<String> = context.levels.iter().map(super::facts::level).collect();
    vec![
        measures(report),
        section(
            "What counts",
            vec![
                (
                    "only ok",
                    "only requests whose outcome is `ok` enter latencies, rates and token counts. Failed ones keep their times in requests.jsonl"
                        .to_owned(),
                ),
                (
                    "issued = sum of outcomes",
                    "each request that was issued has exactly one outcome; the table of outcomes shows both sums".to_owned(),
                ),
                (
                    "error rate",
                    "failed requests over all that were not cancelled by the test itself; it stands beside every headline".to_owned(),
                ),
                (
                    "warm-up",
                    "requests sent before a stage to warm the server up are in requests.jsonl and in no figure".to_owned(),
                ),
                (
                    "steady window",
                    "the part of a stage in which the load was as asked: ramp and drain left out, requests that were sent in it. It stands beside \
                     the whole stage"
                        .to_owned(),
                ),
                ("errors", limit),
            ],
        ),
        section(
            "Clock and stamps",
            vec![
                (
                    "clock",
                    "all times are of one monotonic clock that begins with the run; steps of the wall clock do not reach them".to_owned(),
                ),
                (
                    "stamps",
                    "`kernel` means that the kernel stamped the data when it arrived at the socket, so that a client that reads late does not delay it (what it reads together shares the last stamp, and is counted); `user` \
                     that this program did when it read"
                        .to_owned(),
                ),
                (
                    "client lag",
                    format!(
                        "from data at the socket to this program's own stamp. A stage whose p99 of it is above {} ms is client-limited and INVALID",
                        digits(context.max_lag_ms)
                    ),
                ),
                (
                    "dispatch delay",
                    format!(
                        "from due to sent. In an open loop latencies are also counted from the due instant, and a stage whose p99 of the delay is \
                         above {} ms is INVALID",
                        digits(context.max_dispatch_delay_ms)
                    ),
                ),
            ],
        ),
        section(
            "Tokens and statistics",
            vec![
                (
                    "tokens",
                    "by the server's `usage`, else by the configured tokenizer, else the number of chunks, which is right only where each is one \
                     token. The source is told for every stage"
                        .to_owned(),
                ),
                (
                    "percentiles",
                    "by linear interpolation: numpy's `linear`, R's type 7. One that too few values support at 99 % confidence is marked (p90 needs \
                     44, p95 90, p99 459, p99.9 4603)"
                        .to_owned(),
                ),
                (
                    "goodput",
                    "requests that kept every limit of a service level, per second; failed ones count as not kept, cancelled ones not at all"
                        .to_owned(),
                ),
                ("service levels", if levels.is_empty() { "none were given".to_owned() } else { levels.join("; ") }),
                (
                    "knee",
                    "two straight lines are fitted to throughput over the load; the knee is where they meet, its interval from resampling the \
                     residuals"
                        .to_owned(),
                ),
                (
                    "energy and cost",
                    "energy of the boards of this machine during the stage, idle share included; cost is the given price over the output tokens"
                        .to_owned(),
                ),
            ],
        ),
    ]
}
