//! Stages and requests for spreadsheets and data frames, and the line a stage adds to a summary over many runs.

use super::device::device;
use super::model::LoadReport;
use super::words;
use crate::record::load::metrics::StageBlock;
use crate::record::load::row::{Phase, RequestRow};
use crate::report::escape::spreadsheet;
use crate::report::model::ReportError;
use crate::report::spreadsheet::{float, number, write};
use crate::stats::summary::mean;

/// Measures that have columns in stages.csv.
const MEASURES: [&str; 10] = [
    "ttft_ms",
    "ttfo_ms",
    "tpot_ms",
    "itl_ms",
    "inter_chunk_ms",
    "e2e_ms",
    "response_end_ms",
    "dispatch_delay_ms",
    "ttft_from_due_ms",
    "e2e_from_due_ms",
];
/// Their statistics.
const STATISTICS: [&str; 7] = ["mean", "p50", "p90", "p95", "p99", "p99.9", "max"];

/// `stages.csv`: one line a stage.
///
/// # Errors
/// If it cannot be written as CSV, which is a defect.
pub fn stages_csv(report: &LoadReport<'_>) -> Result<String, ReportError> {
    let fixed = [
        "run_id",
        "backend",
        "model",
        "stage",
        "label",
        "arrival",
        "concurrency",
        "rate",
        "valid",
        "issued",
        "ok",
        "failed",
        "error_rate",
        "elapsed_s",
        "peak_in_flight",
        "request_per_s",
        "output_tok_per_s",
        "total_tok_per_s",
        "prefill_tok_per_s",
        "per_user_tok_per_s",
        "fairness",
        "goodput_per_s",
        "input_tokens",
        "output_tokens",
        "cached_tokens",
        "client_lag_p99_ms",
        "client_limited",
        "cpu_us_per_chunk",
        "late",
        "energy_j",
        "usd_per_million_output_tokens",
        "stopped",
    ];
    let measured: Vec<String> = MEASURES
        .iter()
        .flat_map(|name| {
            let statistics = STATISTICS.iter().map(move |which| format!("{name}.{}", which.replace('.', "_")));
            std::iter::once(format!("{name}.n")).chain(statistics)
        })
        .collect();
    let header: Vec<&str> = fixed.into_iter().chain(measured.iter().map(String::as_str)).collect();
    let metrics = report.metrics;
    let rows = metrics.stages.iter().enumerate().map(|(at, stage)| {
        let ok = words::ok(stage);
        let failed = stage.errors.iter().map(|error| error.count).fold(0, u64::saturating_add);
        let mut row = vec![
            spreadsheet(&metrics.run_id),
            spreadsheet(&stage.backend),
            spreadsheet(&metrics.model),
            at.to_string(),
            spreadsheet(&stage.plan.label),
            stage.plan.arrival.name().to_owned(),
            number(stage.plan.concurrency),
            float(stage.plan.rate),
            stage.validity.is_valid().to_string(),
            stage.issued.to_string(),
            ok.to_string(),
            failed.to_string(),
            float(stage.error_rate),
            float(Some(stage.elapsed_s)),
            stage.peak_in_flight.to_string(),
            float(stage.rates.request_per_s),
            float(stage.rates.output_tok_per_s),
            float(stage.rates.total_tok_per_s),
            float(stage.rates.prefill_tok_per_s),
            float(stage.rates.per_user_tok_per_s),
            float(stage.rates.fairness),
            float(stage.goodput_per_s),
            number(stage.input_tokens),
            number(stage.output_tokens),
            number(stage.cached_tokens),
            float(stage.client.lag_ms),
            stage.client.limited.to_string(),
            float(stage.client.cpu_us_per_chunk),
            stage.late.to_string(),
            float(stage.cost.energy_j),
            float(stage.cost.usd_per_million_output_tokens),
            spreadsheet(stage.stopped.as_deref().unwrap_or("")),
        ];
        for name in MEASURES {
            let distribution = words::of(stage, name);
            row.push(distribution.map_or_else(|| "0".to_owned(), |one| one.summary.n.to_string()));
            row.extend(STATISTICS.map(|which| float(distribution.and_then(|one| words::statistic(one, which)))));
        }
        row
    });
    write("stages.csv", &header, rows)
}

/// `requests.csv`: one line a request, warm-up included; the stamps of the chunks are in requests.jsonl.
///
/// # Errors
/// If it cannot be written as CSV, which is a defect.
pub fn requests_csv(report: &LoadReport<'_>) -> Result<String, ReportError> {
    let header = [
        "stage",
        "label",
        "phase",
        "id",
        "session",
        "turn",
        "prompt",
        "target",
        "outcome",
        "http_status",
        "attempts",
        "due_s",
        "sent_s",
        "dispatch_delay_ms",
        "connect_ms",
        "first_byte_ms",
        "first_event_ms",
        "ttft_ms",
        "ttfo_ms",
        "tpot_ms",
        "e2e_ms",
        "response_end_ms",
        "chunks",
        "input_tokens",
        "output_tokens",
        "token_source",
        "reasoning_tokens",
        "cached_tokens",
        "max_tokens",
        "finish_reason",
        "client_lag_ms",
        "notes",
        "error_kind",
        "error",
    ];
    let ms = |us: Option<u64>| float(us.map(|us| us as f64 / 1e3));
    let seconds = |ns: u64| float(Some(ns as f64 / 1e9));
    let rows = report.rows.iter().map(|row| {
        let label = report.context.stages.get(row.stage as usize).map_or("", |stage| stage.plan.label.as_str());
        let failed = row.failed.as_ref();
        vec![
            row.stage.to_string(),
            spreadsheet(label),
            match row.phase {
                Phase::Warmup => "warmup",
                Phase::Measured => "measured",
            }
            .to_owned(),
            row.id.to_string(),
            number(row.session),
            row.turn.to_string(),
            row.prompt.to_string(),
            row.target.to_string(),
            row.outcome.name().to_owned(),
            number(row.status),
            row.attempts.to_string(),
            seconds(row.due_ns),
            row.sent_ns.map_or_else(String::new, seconds),
            float(row.dispatch_delay_ms()),
            float(row.connect_ms),
            ms(row.first_byte_us),
            ms(row.first_event_us),
            float(row.ttft_ms()),
            float(row.ttfo_ms()),
            float(row.tpot_ms()),
            float(row.e2e_ms()),
            ms(row.end_us),
            row.chunks.len().to_string(),
            number(row.input_tokens),
            number(row.output_tokens),
            row.token_source.map_or_else(String::new, |source| source.name().to_owned()),
            number(row.reasoning_tokens),
            number(row.cached_tokens),
            number(row.max_tokens),
            spreadsheet(row.finish_reason.as_deref().unwrap_or("")),
            ms(row.lag_us),
            spreadsheet(&row.notes.join(" ")),
            spreadsheet(failed.map_or("", |failed| failed.kind.as_str())),
            spreadsheet(failed.map_or("", |failed| failed.message.as_str())),
        ]
    });
    write("requests.csv", &header, rows)
}

/// Columns of `benchmark_summary.csv`.
const SUMMARY: [&str; 25] = [
    "timestamp",
    "backend",
    "concurrency",
    "total_requests",
    "duration_sec",
    "ttft_mean_ms",
    "ttft_p99_ms",
    "e2e_mean_ms",
    "e2e_p99_ms",
    "itl_mean_ms",
    "itl_p99_ms",
    "tpot_mean_ms",
    "system_tps",
    "system_rps",
    "prefill_speed",
    "gpu_name",
    "gpu_util_mean",
    "gpu_util_max",
    "mem_used_mean_mb",
    "mem_used_max_mb",
    "mem_total_mb",
    "power_mean_w",
    "power_max_w",
    "temp_mean_c",
    "temp_max_c",
];

/// The first line of `benchmark_summary.csv`, without a line end.
pub fn summary_csv_header() -> String {
    SUMMARY.join(",")
}

/// The line of the stage `stage` in `benchmark_summary.csv`, without a line end; none where there is no such stage.
///
/// Unknown is an empty cell. A stage without successes has empty latencies, never 0.
///
/// # Errors
/// If it cannot be written as CSV, which is a defect.
pub fn summary_csv_line(report: &LoadReport<'_>, stage: usize) -> Result<Option<String>, ReportError> {
    let Some(block) = report.metrics.stages.get(stage) else { return Ok(None) };
    let figures = Figures::of(report, stage, block);
    let device = device(report, stage).unwrap_or_default();
    let pair =
        |span: Option<super::device::Span>| [float(span.map(|span| span.mean)), float(span.map(|span| span.max))];
    let mut row = vec![
        figures.timestamp,
        spreadsheet(&block.backend),
        number(block.plan.concurrency),
        block.issued.to_string(),
        float(Some(block.elapsed_s)),
    ];
    row.extend([figures.ttft, figures.e2e, figures.itl].iter().flatten().map(|value| float(*value)));
    row.extend([figures.tpot_mean, figures.system_tps, figures.system_rps, figures.prefill_mean].map(float));
    row.push(spreadsheet(device.name.as_deref().unwrap_or("")));
    row.extend(pair(device.utilisation));
    row.extend(pair(device.memory));
    row.push(float(device.memory_total));
    row.extend(pair(device.power));
    row.extend(pair(device.temperature));
    let text = write("benchmark_summary.csv", &SUMMARY, std::iter::once(row))?;
    // Behind the header; a quoted cell may hold line breaks of its own.
    Ok(text.split_once("\r\n").map(|(_, line)| line.trim_end_matches("\r\n").to_owned()))
}

/// The figures that the layouts of other tools have in common.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Figures {
    /// Begin of the stage, `YYYYmmdd_HHMMSS` in UTC.
    pub timestamp: String,
    /// Mean and p99 in ms.
    pub ttft: [Option<f64>; 2],
    /// Mean and p99 in ms.
    pub e2e: [Option<f64>; 2],
    /// Mean and p99 of the gaps between chunks in ms, which is what those tools call ITL.
    pub itl: [Option<f64>; 2],
    /// In ms.
    pub tpot_mean: Option<f64>,
    /// Output tokens of all requests per second.
    pub system_tps: Option<f64>,
    /// Successful requests per second.
    pub system_rps: Option<f64>,
    /// Mean over requests of prompt tokens over TTFT, per second.
    pub prefill_mean: Option<f64>,
}

impl Figures {
    pub(super) fn of(report: &LoadReport<'_>, stage: usize, block: &StageBlock) -> Self {
        let of = |name: &str| ["mean", "p99"].map(|which| words::value(block, name, which));
        let gaps = of("inter_chunk_ms");
        let succeeded = words::ok(block) > 0;
        let speed = |row: &&RequestRow| {
            let ttft = row.ttft_ms().filter(|ttft| *ttft > 0.0)?;
            Some(row.input_tokens? as f64 / (ttft / 1e3))
        };
        let speeds: Vec<f64> = successes(report, stage).filter_map(|row| speed(&row)).collect();
        Self {
            timestamp: timestamp(report, stage),
            ttft: of("ttft_ms"),
            e2e: of("e2e_ms"),
            itl: if gaps[0].is_some() { gaps } else { of("itl_ms") },
            tpot_mean: words::value(block, "tpot_ms", "mean"),
            system_tps: block.rates.output_tok_per_s.filter(|_| succeeded),
            system_rps: block.rates.request_per_s.filter(|_| succeeded),
            prefill_mean: mean(&speeds),
        }
    }
}

/// Measured requests of a stage in the order of their issue.
pub(super) fn measured<'a>(report: &LoadReport<'a>, stage: usize) -> Vec<&'a RequestRow> {
    let mut rows: Vec<&RequestRow> =
        report.rows.iter().filter(|row| row.phase == Phase::Measured && row.stage as usize == stage).collect();
    rows.sort_by_key(|row| row.id);
    rows
}

fn successes<'a>(report: &LoadReport<'a>, stage: usize) -> impl Iterator<Item = &'a RequestRow> {
    measured(report, stage).into_iter().filter(|row| row.outcome == crate::record::load::outcome::Outcome::Ok)
}

/// Begin of a stage by the wall clock, `YYYYmmdd_HHMMSS` in UTC; empty where it is no time.
pub(super) fn timestamp(report: &LoadReport<'_>, stage: usize) -> String {
    let begin = report.context.stages.get(stage).map_or(0, |stage| stage.begin_ns);
    let wall = i128::from(report.context.started_wall_ns) + i128::from(begin);
    jiff::Timestamp::from_nanosecond(wall)
        .map_or_else(|_| String::new(), |time| time.strftime("%Y%m%d_%H%M%S").to_string())
}
