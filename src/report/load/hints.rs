//! What to try, by what was seen: each hint names its symptom and the numbers that show it. Rules of thumb, and said to be so.

use super::words;
use crate::record::load::metrics::{LoadMetrics, StageBlock};
use crate::report::number::{self, digits, percent};
use crate::report::table::{Cell, Table};

/// Share of the end-to-end time before the first token that is worth a word.
const TTFT_SHARE: f64 = 0.3;
/// Requests that wait in the server on average, from which its queue is one.
const WAITING: f64 = 0.5;
/// Share of the KV cache that is full.
const KV_FULL: f64 = 0.9;
/// TPOT at the shown stage over that of the lightest from which decoding is what suffers.
const TPOT_GROWTH: f64 = 1.5;
/// Utilisation of a GPU below which it is not what limits.
const GPU_IDLE: f64 = 0.5;
/// Utilisation from which it is.
const GPU_BUSY: f64 = 0.9;

/// A symptom, what shows it, and what to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hint {
    /// What is wrong.
    pub symptom: &'static str,
    /// The numbers.
    pub seen: String,
    /// What may help.
    pub attempt: &'static str,
}

fn gauge(stage: &StageBlock, name: &str) -> Option<[f64; 2]> {
    stage.server.as_ref()?.gauges.get(name).copied()
}

fn counter(stage: &StageBlock, name: &str) -> Option<f64> {
    stage.server.as_ref()?.counters.get(name).copied()
}

/// The highest mean utilisation of the devices that worked.
fn gpu_utilisation(metrics: &LoadMetrics) -> Option<f64> {
    let worked = metrics.gpus.iter().filter(|gpu| gpu.ran_here);
    worked.filter_map(|gpu| Some(gpu.metrics.get("utilisation")?.mean)).reduce(f64::max)
}

/// The stage the hints are about: the heaviest in which anything succeeded, since what limits is seen under load.
fn heaviest(metrics: &LoadMetrics) -> Option<&StageBlock> {
    let axis = words::axis(metrics);
    let load = |stage: &StageBlock| words::load(stage, axis).unwrap_or(0.0);
    metrics.stages.iter().filter(|stage| words::ok(stage) > 0).max_by(|a, b| load(a).total_cmp(&load(b)))
}

fn lightest(metrics: &LoadMetrics) -> Option<&StageBlock> {
    let axis = words::axis(metrics);
    let load = |stage: &StageBlock| words::load(stage, axis).unwrap_or(f64::INFINITY);
    metrics.stages.iter().filter(|stage| words::ok(stage) > 0).min_by(|a, b| load(a).total_cmp(&load(b)))
}

/// All hints; none of a run that is INVALID or in which nothing succeeded.
pub(super) fn hints(metrics: &LoadMetrics) -> Vec<Hint> {
    if !metrics.validity.is_valid() {
        return Vec::new();
    }
    let Some(stage) = heaviest(metrics) else { return Vec::new() };
    let mut found = Vec::new();
    first_token(stage, &mut found);
    tokens(metrics, stage, &mut found);
    requests(metrics, stage, &mut found);
    unseen(metrics, stage, &mut found);
    found
}

/// TTFT high.
fn first_token(stage: &StageBlock, found: &mut Vec<Hint>) {
    let median = |name: &str| words::value(stage, name, "p50");
    let Some((ttft, e2e)) = median("ttft_ms").zip(median("e2e_ms")).filter(|(_, e2e)| *e2e > 0.0) else { return };
    if ttft / e2e < TTFT_SHARE {
        return;
    }
    let seen = format!("{}: TTFT p50 is {} of the end-to-end time", stage.plan.label, percent(ttft / e2e));
    match gauge(stage, "waiting").map(|[mean, _]| mean) {
        Some(waiting) if waiting >= WAITING => found.push(Hint {
            symptom: "TTFT high: requests wait in the server",
            seen: format!("{seen}; {} waited there on average", digits(waiting)),
            attempt: "let more run at once (vLLM --max-num-seqs, SGLang --max-running-requests, llama.cpp --parallel), if the KV cache has room; else \
                      shorter answers, another replica, or less load",
        }),
        Some(_) => found.push(Hint {
            symptom: "TTFT high: the prompt takes the time",
            seen: format!("{seen}; hardly a request waited in the server"),
            attempt: "prefix caching where prompts share a beginning, shorter prompts, a larger prefill budget (vLLM --max-num-batched-tokens, SGLang \
                      --chunked-prefill-size), tensor parallelism",
        }),
        None => found.push(Hint {
            symptom: "TTFT high",
            seen: format!("{seen}; the server does not say whether requests waited"),
            attempt: "read its queue (`telemetry.server`): waiting requests want more room or less load, long prompts want prefix caching or a larger \
                      prefill budget",
        }),
    }
}

/// Tokens per second low.
fn tokens(metrics: &LoadMetrics, stage: &StageBlock, found: &mut Vec<Hint>) {
    let kv = gauge(stage, "kv_usage").map(|[_, most]| most).filter(|most| *most >= KV_FULL);
    let preempted = counter(stage, "preemptions").filter(|count| *count > 0.0);
    if kv.is_some() || preempted.is_some() {
        let mut seen = vec![stage.plan.label.clone()];
        seen.extend(kv.map(|most| format!("the KV cache was up to {} full", percent(most))));
        seen.extend(preempted.map(|count| format!("{} requests were preempted", digits(count))));
        found.push(Hint {
            symptom: "TPS low: the KV cache is full",
            seen: seen.join("; "),
            attempt: "more memory for it (vLLM --gpu-memory-utilization, SGLang --mem-fraction-static, llama.cpp --ctx-size), an 8-bit KV cache, \
                      quantized weights, a shorter --max-model-len",
        });
    }
    if let Some(light) = lightest(metrics).filter(|light| light.plan.label != stage.plan.label) {
        let tpot = |stage: &StageBlock| words::value(stage, "tpot_ms", "p50");
        if let Some((least, most)) =
            tpot(light).zip(tpot(stage)).filter(|(least, most)| *least > 0.0 && most / least >= TPOT_GROWTH)
        {
            found.push(Hint {
                symptom: "TPS per user low: decoding slows down with the load",
                seen: format!("TPOT p50 {} ms at {}, {} ms at {}", digits(least), light.plan.label, digits(most), stage.plan.label),
                attempt: "fewer requests at once for users who wait for each token; quantized weights, speculative decoding or tensor parallelism \
                          for more of both; chunked prefill if long prompts interrupt decoding",
            });
        }
    }
}

/// Requests per second low.
fn requests(metrics: &LoadMetrics, stage: &StageBlock, found: &mut Vec<Hint>) {
    let utilisation = gpu_utilisation(metrics);
    let knee = metrics.saturation.as_ref().and_then(|all| Some((all.axis.as_str(), all.knee.as_ref()?)));
    match (utilisation, knee) {
        (Some(share), _) if share < GPU_IDLE => found.push(Hint {
            symptom: "QPS low: the GPU waits for its host",
            seen: format!("the GPU was busy {} of the time on average", percent(share)),
            attempt: "look at the CPU: CUDA graphs on (no --enforce-eager), fewer log lines, tokenizer and API in processes of their own, and a trace \
                      (`perfprof analyze`) of what the GPU waits for",
        }),
        (share, Some((axis, knee))) => {
            let busy = share.filter(|share| *share >= GPU_BUSY);
            found.push(Hint {
                symptom: "QPS low: the server is at its limit",
                seen: format!(
                    "throughput stops to grow at {axis} {}{}",
                    number::load(knee.at),
                    busy.map_or_else(String::new, |share| format!("; the GPU was busy {}", percent(share)))
                ),
                attempt: "another replica or more GPUs; quantized weights; shorter answers (`max_tokens`); beyond the knee more load only waits longer",
            });
        }
        _ => {}
    }
    if stage.error_rate.is_some_and(|rate| rate > 0.01) {
        found.push(Hint {
            symptom: "requests fail",
            seen: format!("{}: {}", stage.plan.label, words::errors(stage)),
            attempt: "the table of errors names them: 429 and 503 want a longer queue or less load, timeouts want `timeout.*` or a look at the server's log",
        });
    }
}

/// What was not seen and would say more.
fn unseen(metrics: &LoadMetrics, stage: &StageBlock, found: &mut Vec<Hint>) {
    if stage.server.is_none() {
        found.push(Hint {
            symptom: "what limits is not seen",
            seen: "the server's own metrics were not read".to_owned(),
            attempt: "record queue length, running requests, KV usage, preemptions and prompt times from its /metrics (vLLM has it, SGLang wants \
                      --enable-metrics, llama.cpp --metrics; `telemetry.metrics_url` if it is elsewhere)",
        });
    }
    if metrics.gpus.is_empty() {
        found.push(Hint {
            symptom: "the GPU is not seen",
            seen: "no GPU was looked at".to_owned(),
            attempt: "run perfprof on the server's machine, or record utilisation, memory, power and clocks there (`nvidia-smi dmon`)",
        });
    }
}

/// The hints as a table.
pub(super) fn table(metrics: &LoadMetrics) -> Table {
    let mut table = Table::new(&["Symptom", "Seen", "What to try"]);
    for hint in hints(metrics) {
        table.push(vec![
            Cell::text(hint.symptom),
            Cell::text_up_to(&hint.seen, 200),
            Cell::text_up_to(hint.attempt, 400),
        ]);
    }
    table
}
