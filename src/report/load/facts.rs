//! What stands beside the stages: saturation, workload, servers, the server's own words, the device, and how far to trust it all.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::model::LoadReport;
use super::tables::{SENTENCE, narrow};
use super::words;
use crate::diagnostics::Severity;
use crate::record::load::metrics::{Distribution, LoadMetrics, Peak};
use crate::record::load::row::{Phase, RequestRow};
use crate::report::compare::tables::dash;
use crate::report::number::{self, count, digits};
use crate::report::table::{Cell, Table};
use crate::stats::quantile::quantile_of_sorted;
use crate::stats::summary::Summary;

/// Where the server is best used, and by what that is known.
pub(super) fn saturation(metrics: &LoadMetrics) -> Table {
    let mut table = Table::new(&["What", "Stage", "#Value", "Unit"]);
    let Some(saturation) = &metrics.saturation else { return table };
    let mut push = |what: &str, peak: &Option<Peak>, unit: &str| {
        let Some(peak) = peak else { return };
        let value = Cell::number(number::in_unit(peak.value, unit), peak.value);
        table.push(vec![
            Cell::text(what),
            Cell::text_up_to(&peak.stage, 40),
            value,
            Cell::text(number::unit_label(unit)),
        ]);
    };
    let objective = if metrics.stages.iter().any(|stage| stage.goodput_per_s.is_some()) { "req/s" } else { "tok/s" };
    push("best stage", &saturation.best, objective);
    push("most requests per second", &saturation.peak_request_per_s, "req/s");
    push("most output tokens per second", &saturation.peak_output_tok_per_s, "tok/s");
    push("lowest p99 of E2E", &saturation.lowest_p99_e2e_ms, "ms");
    push("p99 of E2E at least twice that of the first stage", &saturation.p99_rises_at, "ms");
    push("more than 1 % of errors", &saturation.errors_rise_at, "ratio");
    if let Some(knee) = &saturation.knee {
        let [low, high] = knee.ci95.map(number::load);
        table.push(vec![
            Cell::text("knee: where more load stops to pay"),
            Cell::text(&format!("95 % interval {low} to {high}")),
            Cell::number(number::load(knee.at), knee.at),
            Cell::text_up_to(&saturation.axis, 40),
        ]);
        for (what, slope) in [("slope before the knee", knee.slope_before), ("slope after it", knee.slope_after)] {
            table.push(vec![
                Cell::text(what),
                dash(),
                Cell::number(digits(slope), slope),
                Cell::text_up_to(&format!("tok/s per unit of {}", saturation.axis), 60),
            ]);
        }
    }
    if let Some(most) = &saturation.max_under_slo {
        for (what, value) in [("greatest load that keeps", most.value), ("smallest load that breaks", most.broken_at)] {
            table.push(vec![
                Cell::text_up_to(&format!("{what} {}", most.slo), 60),
                dash(),
                Cell::maybe(value),
                Cell::text_up_to(&saturation.axis, 40),
            ]);
        }
    }
    table
}

/// Each server apart, over the measured requests of all stages; empty where there is one.
pub(super) fn by_target(report: &LoadReport<'_>) -> Table {
    let mut table =
        Table::new(&["Server", "#ok / measured", "#Errors", "#TTFT p50 ms", "#TTFT p99", "#E2E p50 ms", "#E2E p99"]);
    if report.metrics.targets.len() < 2 {
        return table;
    }
    let mut by: BTreeMap<u32, Vec<&RequestRow>> = BTreeMap::new();
    for row in report.rows.iter().filter(|row| row.phase == Phase::Measured) {
        by.entry(row.target).or_default().push(row);
    }
    for (target, rows) in by {
        let name = report.metrics.targets.get(target as usize).map_or("not known", |target| target.url.as_str());
        let good: Vec<&&RequestRow> = rows.iter().filter(|row| row.outcome.name() == "ok").collect();
        let failed = rows.iter().filter(|row| row.outcome.is_error()).count();
        let judged = failed + good.len();
        let rate = (judged > 0).then(|| failed as f64 / judged as f64);
        let of = |get: fn(&RequestRow) -> Option<f64>| {
            let values: Vec<f64> = good.iter().filter_map(|row| get(row)).collect();
            let sorted = crate::stats::quantile::sorted(&values);
            Distribution { summary: Summary::from_values("ms", &values), p99_9: quantile_of_sorted(&sorted, 0.999) }
        };
        let (ttft, e2e) = (of(RequestRow::ttft_ms), of(RequestRow::e2e_ms));
        table.push(vec![
            Cell::text(name),
            Cell::number(format!("{} / {}", count(good.len() as u64), count(rows.len() as u64)), good.len() as f64),
            Cell::percent(rate),
            narrow(Some(&ttft), "p50"),
            narrow(Some(&ttft), "p99"),
            narrow(Some(&e2e), "p50"),
            narrow(Some(&e2e), "p99"),
        ]);
    }
    table
}

/// What was asked.
pub(super) fn workload(report: &LoadReport<'_>) -> Vec<(String, String)> {
    let (metrics, workload) = (report.metrics, &report.metrics.workload);
    let mut lines = vec![
        ("Dataset".to_owned(), format!("{} ({})", workload.dataset, workload.format)),
        ("Prompts".to_owned(), format!("{}, {} of them different", count(workload.prompts), count(workload.distinct))),
        ("SHA-256 of prompts and lengths".to_owned(), workload.sha256.clone()),
        ("Seed".to_owned(), format!("{} (arrivals {})", workload.seed, report.context.seed)),
        (
            "Tokenizer".to_owned(),
            workload
                .tokenizer
                .clone()
                .unwrap_or_else(|| "none: tokens as the server counts them, else one for each chunk".to_owned()),
        ),
        (
            "API".to_owned(),
            format!("{}, {}", metrics.endpoint, if metrics.stream { "streamed" } else { "not streamed" }),
        ),
    ];
    let levels: Vec<String> = report.context.levels.iter().map(level).collect();
    if !levels.is_empty() {
        lines.push(("Service levels".to_owned(), levels.join("; ")));
    }
    lines.extend(workload.notes.iter().map(|note| ("Note".to_owned(), note.clone())));
    lines
}

/// A service level with its limits.
pub(super) fn level(slo: &crate::config::schema::load::Slo) -> String {
    let limits = [("TTFT", slo.ttft_ms), ("TPOT", slo.tpot_ms), ("ITL", slo.itl_ms), ("E2E", slo.e2e_ms)];
    let limits: Vec<String> =
        limits.iter().filter_map(|(name, limit)| limit.map(|limit| format!("{name} ≤ {} ms", digits(limit)))).collect();
    format!("{}: {} for {} of the requests", slo.name, limits.join(" and "), number::percent(slo.quantile))
}

/// The plan of each stage.
pub(super) fn plan(metrics: &LoadMetrics) -> Table {
    let mut table = Table::new(&[
        "Stage",
        "Arrivals",
        "#In flight asked for",
        "#Rate asked for /s",
        "#Requests at most",
        "#Seconds of sending",
        "#Warm-up",
        "#Took s",
        "Given up because",
    ]);
    for stage in &metrics.stages {
        let plan = &stage.plan;
        table.push(vec![
            Cell::text_up_to(&plan.label, 40),
            Cell::text(plan.arrival.name()),
            plan.concurrency.map_or_else(dash, |value| Cell::count(value.into())),
            Cell::maybe(plan.rate),
            plan.requests.map_or_else(dash, |value| Cell::count(value.into())),
            Cell::maybe(plan.duration_s),
            Cell::count(plan.warmup.into()),
            Cell::maybe(Some(stage.elapsed_s)),
            stage.stopped.as_deref().map_or_else(dash, |why| Cell::text_up_to(why, SENTENCE)),
        ]);
    }
    table
}

/// What the server said of itself in each stage.
pub(super) fn server(metrics: &LoadMetrics) -> Table {
    let mut table = Table::new(&["Stage", "What", "#Mean", "#Most", "#Grew by"]);
    for stage in &metrics.stages {
        let Some(server) = &stage.server else { continue };
        let label = || Cell::text_up_to(&stage.plan.label, 40);
        for (name, [mean, most]) in &server.gauges {
            table.push(vec![label(), Cell::text(name), Cell::maybe(Some(*mean)), Cell::maybe(Some(*most)), dash()]);
        }
        for (name, growth) in &server.counters {
            table.push(vec![label(), Cell::text(name), dash(), dash(), Cell::maybe(Some(*growth))]);
        }
        for (name, mean) in &server.latencies_ms {
            let name = format!("{name} (ms)");
            table.push(vec![label(), Cell::text(&name), Cell::maybe(Some(*mean)), dash(), dash()]);
        }
    }
    table
}

/// The findings, the gravest first.
pub(super) fn diagnostics(metrics: &LoadMetrics) -> Table {
    let mut all: Vec<_> = metrics.diagnostics.iter().collect();
    all.sort_by_key(|row| Reverse(row.severity));
    let mut table = Table::new(&["Severity", "Code", "#Times", "First"]);
    for row in all {
        table.push(vec![
            Cell::text(match row.severity {
                Severity::Info => "note",
                Severity::Warn => "warning",
                Severity::Error => "error",
                Severity::DataLoss => "data lost",
            }),
            Cell::text(&row.code),
            Cell::count(row.count),
            Cell::text_up_to(&row.first, 600),
        ]);
    }
    table
}

/// Stages whose numbers must not be relied on, with the reasons.
pub(super) fn invalid(metrics: &LoadMetrics) -> Vec<String> {
    metrics
        .stages
        .iter()
        .filter(|stage| !stage.validity.is_valid())
        .map(|stage| format!("{} is INVALID: {}.", stage.plan.label, stage.validity.reasons.join("; ")))
        .collect()
}

/// How one run stands beside another: the stage that stands for each.
pub(super) fn runs(report: &LoadReport<'_>, label: &str) -> Table {
    let mut table = Table::new(&[
        "Run",
        "Status",
        "Best stage",
        "#Output tok/s",
        "#req/s",
        "#TTFT p50 ms",
        "#TPOT p50 ms",
        "#Errors",
    ]);
    let all = std::iter::once((label, report.metrics)).chain(report.others.iter().map(|run| (run.label, run.metrics)));
    for (label, metrics) in all {
        let best = words::best(metrics);
        let of =
            |get: &dyn Fn(&crate::record::load::metrics::StageBlock) -> Option<f64>| Cell::maybe(best.and_then(get));
        table.push(vec![
            Cell::text_up_to(label, 60),
            Cell::text(if metrics.validity.is_valid() { metrics.status.as_str() } else { "INVALID" }),
            best.map_or_else(dash, |stage| Cell::text_up_to(&stage.plan.label, 40)),
            of(&|stage| stage.rates.output_tok_per_s),
            of(&|stage| stage.rates.request_per_s),
            best.map_or_else(dash, |stage| narrow(words::of(stage, "ttft_ms"), "p50")),
            best.map_or_else(dash, |stage| narrow(words::of(stage, "tpot_ms"), "p50")),
            Cell::percent(best.and_then(|stage| stage.error_rate)),
        ]);
    }
    table
}
