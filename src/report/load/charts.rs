//! The pictures: measures over the load, requests and gaps over time, distributions, the device and the server.

use super::model::LoadReport;
use super::words::{self, ms};
use crate::record::load::metrics::{LoadMetrics, StageBlock};
use crate::record::load::outcome::Outcome;
use crate::record::load::row::{Phase, RequestRow};
use crate::report::chart::{
    Chart, Curve, CurvePoint, GapMap, KneeMark, Lane, LaneTone, Series, Span, Strip, curves, ecdf, gap_map, gpu,
    over_time, request_lanes,
};
use crate::report::compare::page::Choice;
use crate::report::escape::{cut, one_line};
use crate::report::number::{count, digits};

/// Stages that get a map of gaps and lanes of requests.
const STAGES: usize = 8;
/// Lanes in all, and of a stage at least and at most.
const LANES: usize = 600;
const LANES_OF_STAGE: [usize; 2] = [75, 300];
/// Values of a distribution that are drawn.
const VALUES: usize = 300;
/// Stages whose distributions are drawn.
const SERIES: usize = 8;

/// `wanted` of `all` places, evenly apart, the first and the last among them.
fn evenly(all: usize, wanted: usize) -> Vec<usize> {
    if all <= wanted {
        return (0..all).collect();
    }
    let last = wanted.saturating_sub(1).max(1);
    (0..wanted).map(|at| at * (all - 1) / last).collect()
}

/// What this run is called beside others.
pub(super) fn own_label(report: &LoadReport<'_>) -> String {
    let metrics = report.metrics;
    let taken = report.others.iter().any(|other| other.label == metrics.backend);
    if taken { format!("{} ({})", metrics.backend, metrics.run_id) } else { metrics.backend.clone() }
}

/// A value of a stage over the load.
struct Wanted<'a> {
    /// Behind the name of the run in the key.
    label: &'a str,
    get: &'a dyn Fn(&StageBlock) -> Option<f64>,
    weak: &'a dyn Fn(&StageBlock) -> Option<String>,
}

fn lines(runs: &[(String, &LoadMetrics)], axis: &str, wanted: &[Wanted<'_>], unit: &str) -> Vec<Curve> {
    let mut all = Vec::new();
    for (run, (name, metrics)) in runs.iter().enumerate().filter(|(_, (_, metrics))| words::axis(metrics) == axis) {
        for one in wanted {
            let label = match (runs.len() > 1, one.label.is_empty()) {
                (true, true) => name.clone(),
                (true, false) => format!("{name} {}", one.label),
                (false, true) => unit.to_owned(),
                (false, false) => one.label.to_owned(),
            };
            let points = metrics.stages.iter().filter_map(|stage| {
                let at = [words::load(stage, axis)?, (one.get)(stage)?];
                let why = (one.weak)(stage);
                let mark = why.as_ref().map_or_else(String::new, |why| format!(" ({why})"));
                let title = format!(
                    "{label} at {}: {} {unit}{mark}; {}",
                    stage.plan.label,
                    digits(at[1]),
                    words::errors(stage)
                );
                Some(CurvePoint { at, title, weak: why.is_some() })
            });
            all.push(Curve { points: points.collect(), label, run });
        }
    }
    all
}

/// The measures over the load, all runs in the same pictures; empty where there is one stage and nothing beside it.
pub(super) fn over_load(report: &LoadReport<'_>) -> Vec<Chart> {
    let metrics = report.metrics;
    let axis = words::axis(metrics);
    let mut runs = vec![(own_label(report), metrics)];
    runs.extend(report.others.iter().map(|other| (other.label.to_owned(), other.metrics)));
    let knee = metrics.saturation.as_ref().and_then(|saturation| {
        let knee = saturation.knee.as_ref().filter(|_| saturation.axis == axis)?;
        Some(KneeMark { at: knee.at, interval: knee.ci95 })
    });
    let title = words::axis_title(axis);
    let never = |_: &StageBlock| None;
    let latency = |id: &str, heading: &str, reading: &str, name: &str, which: &[&str]| {
        let gets: Vec<_> =
            which.iter().map(|which| move |stage: &StageBlock| words::value(stage, name, which)).collect();
        let weak: Vec<_> = which
            .iter()
            .map(|which| move |stage: &StageBlock| words::weak(which, words::of(stage, name)?.summary.n))
            .collect();
        let wanted: Vec<Wanted<'_>> =
            which.iter().zip(gets.iter().zip(&weak)).map(|(&label, (get, weak))| Wanted { label, get, weak }).collect();
        let drawn = lines(&runs, axis, &wanted, "ms");
        curves(Chart::new(id, heading, reading), &drawn, title, "ms", knee)
    };
    let rate = |id: &str, heading: &str, reading: &str, unit: &str, get: &dyn Fn(&StageBlock) -> Option<f64>| {
        let drawn = lines(&runs, axis, &[Wanted { label: "", get, weak: &never }], unit);
        curves(Chart::new(id, heading, reading), &drawn, title, unit, knee)
    };
    let mut charts = vec![
        rate(
            "load-tokens",
            "Output tokens per second",
            "All requests together, over the whole stage. Where the line bends, more load buys longer waits and little else.",
            "tok/s",
            &|stage| stage.rates.output_tok_per_s,
        ),
        rate(
            "load-requests",
            "Requests per second",
            "Successful requests that ended, over the whole stage.",
            "req/s",
            &|stage| stage.rates.request_per_s,
        ),
        latency(
            "load-ttft",
            "Time to first token",
            "Median and 99th percentile of successful requests, from sending.",
            "ttft_ms",
            &["p50", "p99"],
        ),
        latency(
            "load-e2e",
            "End-to-end time",
            "Median, 95th and 99th percentile of successful requests, from sending to the last token.",
            "e2e_ms",
            &["p50", "p95", "p99"],
        ),
    ];
    if runs.iter().any(|(_, metrics)| metrics.stages.iter().any(|stage| stage.goodput_per_s.is_some())) {
        charts.push(rate(
            "load-goodput",
            "Goodput",
            "Requests per second that kept all limits of the first service level.",
            "req/s",
            &|stage| stage.goodput_per_s,
        ));
    }
    charts
}

/// Measured requests of a stage in the order in which they were issued.
fn of_stage<'a>(report: &LoadReport<'a>, stage: usize) -> Vec<&'a RequestRow> {
    let measured = |row: &&RequestRow| row.phase == Phase::Measured && row.stage as usize == stage;
    let mut rows: Vec<&RequestRow> = report.rows.iter().filter(measured).collect();
    rows.sort_by_key(|row| row.id);
    rows
}

/// Seconds from `begin_ns` to `ns`; negative before it.
fn seconds(ns: u64, begin_ns: u64) -> f64 {
    (ns as f64 - begin_ns as f64) / 1e9
}

fn lane(row: &RequestRow, begin_ns: u64) -> Lane {
    let due = seconds(row.due_ns, begin_ns);
    let sent = row.sent_ns.map(|sent| seconds(sent, begin_ns));
    let at = |offset: Option<u64>| Some(sent? + offset? as f64 / 1e6);
    let (first, last) = (at(row.chunks.at_us.first().copied()), at(row.chunks.at_us.last().copied()));
    let known = [at(row.end_us), last, at(row.first_event_us), at(row.first_byte_us), sent];
    let end = known.into_iter().flatten().next().unwrap_or(due);
    let tone = match row.outcome {
        Outcome::Ok => LaneTone::Ok,
        outcome if outcome.is_cancelled() => LaneTone::Cancelled,
        _ => LaneTone::Failed,
    };
    let tokens = row.output_tokens.map_or_else(String::new, |tokens| format!(", {} tokens", count(tokens)));
    let why = row.failed.as_ref().map_or_else(String::new, |failed| format!(": {}", failed.message));
    let title = format!(
        "request {}: {}{}; due at {} s, sent {} later; TTFT {}, E2E {}{tokens}",
        row.id,
        row.outcome.name(),
        cut(&one_line(&why), 120),
        digits(due),
        ms(row.dispatch_delay_ms()),
        ms(row.ttft_ms()),
        ms(row.e2e_ms())
    );
    Lane { due, sent, first, last, end, tone, title }
}

/// Requests as lanes, a picture for each stage that is shown.
pub(super) fn lanes(report: &LoadReport<'_>) -> Vec<Choice> {
    let stages = &report.context.stages;
    let shown = evenly(stages.len(), STAGES);
    let limit = (LANES / shown.len().max(1)).clamp(LANES_OF_STAGE[0], LANES_OF_STAGE[1]);
    let choice = |at: usize| {
        let stage = &stages[at];
        let label = cut(&one_line(&stage.plan.label), 60);
        let rows = of_stage(report, at);
        let picked: Vec<Lane> =
            evenly(rows.len(), limit).into_iter().map(|place| lane(rows[place], stage.begin_ns)).collect();
        let chart = Chart::new(
            &format!("requests-{at}"),
            &format!("Requests of {label}"),
            "One line a request from the top down in the order of issue: grey is waiting in this client, then waiting for the first token, \
             then the stream. Hover a line for its figures.",
        );
        Choice { title: label, charts: vec![request_lanes(chart, &picked, rows.len())] }
    };
    shown.into_iter().map(choice).collect()
}

/// Gaps between chunks over time, a picture for each stage that is shown.
pub(super) fn gaps(report: &LoadReport<'_>) -> Vec<Choice> {
    let stages = &report.context.stages;
    let choice = |at: usize| {
        let stage = &stages[at];
        let label = cut(&one_line(&stage.plan.label), 60);
        let mut gaps = Vec::new();
        for row in of_stage(report, at).into_iter().filter(|row| row.outcome == Outcome::Ok) {
            let Some(sent) = row.sent_ns else { continue };
            let begin = seconds(sent, stage.begin_ns);
            let ends = row.chunks.at_us.iter().skip(1).map(|us| begin + *us as f64 / 1e6);
            gaps.extend(ends.zip(row.gaps_ms()));
        }
        let chart = Chart::new(
            &format!("gaps-{at}"),
            &format!("Gaps between chunks of {label}"),
            "Each cell counts the gaps of one length that ended in one stretch of time; darker is more, by the logarithm. A second band above \
             the first is work that holds the batch up, such as the prefill of other requests; the lowest row holds chunks that came together.",
        );
        Choice { title: label, charts: vec![gap_map(chart, GapMap::new(&gaps).as_ref())] }
    };
    evenly(stages.len(), STAGES).into_iter().map(choice).collect()
}

fn spans(report: &LoadReport<'_>) -> Vec<Span> {
    let span = |stage: &crate::record::load::context::StageRecord| Span {
        from: stage.begin_ns as f64 / 1e9,
        to: stage.end_ns as f64 / 1e9,
        name: stage.plan.label.clone(),
    };
    report.context.stages.iter().map(span).collect()
}

/// Requests in flight over the run.
pub(super) fn in_flight(report: &LoadReport<'_>) -> Chart {
    let mut points = Vec::new();
    for stage in &report.context.stages {
        if let Some((at, _)) = points.last().copied() {
            points.push((at, f64::NAN));
        }
        points.extend(stage.in_flight.iter().map(|(ns, number)| (*ns as f64 / 1e9, f64::from(*number))));
    }
    let chart = Chart::new(
        "in-flight",
        "Requests in flight",
        "Sent and not yet ended, over the whole run; grey stretches are the measured stages.",
    );
    let strip = Strip { name: "requests in flight".to_owned(), points, steps: true, ..Strip::default() };
    over_time(chart, &[strip], &spans(report), "No request was in flight.")
}

/// The server's own gauges over the run.
pub(super) fn server(report: &LoadReport<'_>) -> Option<Chart> {
    let series = report.server?;
    let unit = |name: &str| if name.contains("usage") || name.contains("kv") { ("%", 100.0) } else { ("", 1.0) };
    let strips: Vec<Strip> = series
        .gauges
        .iter()
        .map(|(name, values)| {
            let (unit, factor) = unit(name);
            let value = |value: &Option<f64>| value.map_or(f64::NAN, |value| value * factor);
            Strip {
                name: name.clone(),
                unit: unit.to_owned(),
                points: series.t_s.iter().copied().zip(values.iter().map(value)).collect(),
                steps: false,
            }
        })
        .collect();
    let chart = Chart::new(
        "server-gauges",
        &format!("What the server said of itself ({})", cut(&one_line(&series.dialect), 40)),
        "Requests it was working on, requests it kept waiting, and how full its KV cache was, as its own metrics say; grey stretches are the \
         measured stages.",
    );
    Some(over_time(chart, &strips, &spans(report), "The server's metrics held none of the gauges that are known."))
}

/// A device over the run: the `place`-th of [`LoadReport::gpus`].
pub(super) fn device(report: &LoadReport<'_>, place: usize) -> Option<Chart> {
    let telemetry = report.gpus.get(place)?;
    let stages = &report.context.stages;
    let name = |stage: u32| {
        stages
            .get(stage as usize)
            .map_or_else(|| format!("stage {stage}"), |stage| cut(&one_line(&stage.plan.label), 60))
    };
    let mut chart = gpu(telemetry, &name, "s since the begin of the run");
    "Every look at the device, over the whole run; grey stretches are the stages. A line is broken where a look failed. Clock and temperature \
     do not begin at zero."
        .clone_into(&mut chart.reading);
    if report.gpus.len() > 1 {
        chart.id = format!("{}-{place}", chart.id);
        let name = telemetry.device.name.as_deref().unwrap_or("without a name");
        chart.title = format!("GPU {} ({}) over time", telemetry.device.nvml_index, cut(&one_line(name), 40));
    }
    Some(chart)
}

/// The distributions of a measure, one line a stage.
fn distribution(report: &LoadReport<'_>, id: &str, title: &str, get: fn(&RequestRow) -> Option<f64>) -> Chart {
    let stages = &report.context.stages;
    let shown = evenly(stages.len(), SERIES);
    let left_out = stages.len() - shown.len();
    let series = shown.into_iter().map(|at| {
        let rows = of_stage(report, at).into_iter().filter(|row| row.outcome == Outcome::Ok);
        let mut values: Vec<f64> = rows.filter_map(get).filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let values: Vec<f64> = evenly(values.len(), VALUES).into_iter().map(|place| values[place]).collect();
        // Every n-th of the sorted values has the same distribution, so that nothing is left out of it.
        Series { label: stages[at].plan.label.clone(), total: values.len() as u64, values, blocks: Vec::new() }
    });
    let series: Vec<Series> = series.filter(|one| !one.values.is_empty()).collect();
    let reading = "The share of successful requests that took at most so long, one line a stage; steep is even, a long flat end is a tail.";
    let mut chart = ecdf(Chart::new(id, title, reading), &series, "ms");
    if left_out > 0 {
        chart.note = Some(format!("{left_out} more stages are not drawn; the tables have them."));
    }
    chart
}

/// The distributions of TTFT and E2E.
pub(super) fn distributions(report: &LoadReport<'_>) -> Vec<Chart> {
    let mut charts = Vec::new();
    if report.metrics.stages.iter().any(|stage| words::of(stage, "ttft_ms").is_some()) {
        charts.push(distribution(report, "cdf-ttft", "How time to first token is spread", RequestRow::ttft_ms));
    }
    charts.push(distribution(report, "cdf-e2e", "How end-to-end time is spread", RequestRow::e2e_ms));
    charts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_picked_evenly_begins_with_the_first_and_ends_with_the_last() {
        assert_eq!(evenly(3, 8), [0, 1, 2]);
        assert_eq!(evenly(9, 5), [0, 2, 4, 6, 8]);
        assert_eq!(evenly(10_000, 300).len(), 300);
        assert_eq!(evenly(10_000, 300).last(), Some(&9_999));
        assert!(evenly(0, 8).is_empty());
    }
}
