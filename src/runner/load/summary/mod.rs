//! The summary of a load test, from its rows and its context alone: the same code makes it after a run and when a report is rebuilt.

mod beside;
mod judge;
mod measures;
mod rates;
mod series;
mod steady;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use judge::{BUSY_LIMIT, ERRORS_WORTH_A_WORD, LAG_SHARE, LATE_MS, PAUSE_LIMIT_MS, PEAK_SHARE};
pub use measures::MEASURES;
pub use rates::broken_limits;
pub use steady::{STEADY_LEAST_REQUESTS, STEADY_LEAST_S, STEADY_SHARE};

use super::saturation::{max_under_slo, saturation};
use crate::config::schema::load::ArrivalKind;
use crate::diagnostics::{Diagnostic, Diagnostics, Severity, Validity};
use crate::record::gpu::GpuTelemetry;
use crate::record::load::LOAD_SCHEMA_VERSION;
use crate::record::load::context::{LoadContext, StageRecord};
use crate::record::load::metrics::{ClientBlock, ErrorBlock, LoadMetrics, Measures, StageBlock, SteadyBlock};
use crate::record::load::outcome::Outcome;
use crate::record::load::row::{Phase, RequestRow};
use crate::record::load::server_metrics::ServerMetrics;

/// What is known of a run beside its rows and its context.
#[derive(Debug, Default)]
pub struct Extras<'a> {
    /// How it ended: `complete`, `interrupted` or `failed`; a complete run that is INVALID is written as `invalid`.
    pub status: &'a str,
    /// Looks at the GPUs; their times are seconds of the run's clock.
    pub gpus: &'a [GpuTelemetry],
    /// What the server said of itself.
    pub server: Option<&'a ServerMetrics>,
    /// Findings of whoever read the files.
    pub salvaged: Vec<Diagnostic>,
}

/// Everything `metrics.json` says. The order of `rows` does not matter.
pub fn summarize(context: &LoadContext, rows: &[RequestRow], extras: &Extras<'_>) -> LoadMetrics {
    let mut diagnostics = Diagnostics::default();
    diagnostics.extend(context.diagnostics.iter().cloned());
    diagnostics.extend(extras.salvaged.iter().cloned());
    let mut ordered: Vec<&RequestRow> = rows.iter().filter(|row| row.phase == Phase::Measured).collect();
    ordered.sort_by_key(|row| (row.stage, row.id, row.due_ns, row.sent_ns));
    let stray = rows.iter().filter(|row| row.stage as usize >= context.stages.len()).count();
    if stray > 0 {
        diagnostics.push(Diagnostic {
            count: stray as u64,
            ..Diagnostic::new(
                "rows_without_stage",
                Severity::DataLoss,
                format!("{stray} rows belong to no stage that is written down; they are in no figure"),
            )
        });
    }
    let interrupted = extras.status == "interrupted" || !context.complete;
    let last = context.stages.len().saturating_sub(1);
    let stages: Vec<StageBlock> = context
        .stages
        .iter()
        .enumerate()
        .map(|(index, record)| {
            let begin = ordered.partition_point(|row| (row.stage as usize) < index);
            let end = ordered.partition_point(|row| row.stage as usize <= index);
            let measured = &ordered[begin..end];
            // The record of a stage is whole when it has ended; of one that was cut off only its begin is sure.
            let whole = record.end_ns > record.begin_ns && record.issued == measured.len() as u64;
            let cut_off = !context.complete && index == last && !whole;
            stage_block(context, record, measured, cut_off, extras, &mut diagnostics)
        })
        .collect();
    // Later turns of a conversation are none of the dataset's.
    let begun = ordered.iter().filter(|row| row.turn == 0).count();
    if context.workload.distinct == 1 && begun > 1 {
        diagnostics.note(
            "identical_prompts",
            Severity::Warn,
            format!(
                "all {begun} requests had the same prompt: a prompt cache answers them faster than real ones; `prompts.salt=true` tells them apart"
            ),
        );
    } else if context.workload.distinct > 1 && begun as u64 > context.workload.distinct {
        diagnostics.note(
            "repeated_prompts",
            Severity::Warn,
            format!(
                "{begun} requests had {} different prompts: what a prompt cache knows it answers faster; `prompts.salt=true` tells them apart",
                context.workload.distinct
            ),
        );
    }

    let sought = context.levels.first().and_then(|level| max_under_slo(&stages, &level.name));
    let saturation = saturation(&stages, sought);
    let best = saturation.as_ref().and_then(|saturation| saturation.best.as_ref()).map(|best| best.stage.as_str());
    let measures = match stages.as_slice() {
        [only] => only.measures.clone(),
        several => several
            .iter()
            .find(|stage| Some(stage.plan.label.as_str()) == best)
            .map_or_else(Measures::new, |stage| stage.measures.clone()),
    };
    let mut reasons = run_reasons(&stages, interrupted, extras.status == "failed");
    let devices = beside::devices(extras.gpus, &context.stages);
    let mut gpus = Vec::new();
    for verdict in devices {
        diagnostics.extend(verdict.diagnostics);
        reasons.extend(verdict.reasons);
        gpus.push(verdict.block);
    }
    let validity = Validity::from_reasons(reasons);
    let status = match extras.status {
        "failed" => "failed",
        _ if interrupted => "interrupted",
        _ if validity.is_valid() => "complete",
        _ => "invalid",
    };
    LoadMetrics {
        schema_version: LOAD_SCHEMA_VERSION,
        command: "load".to_owned(),
        run_id: context.run_id.clone(),
        status: status.to_owned(),
        validity,
        measures,
        backend: context.backend.clone(),
        model: context.model.clone(),
        endpoint: context.endpoint.clone(),
        stream: context.stream,
        targets: context.targets.clone(),
        workload: context.workload.clone(),
        stages,
        saturation,
        gpus,
        diagnostics: diagnostics.into_vec(),
    }
}

/// Why the run is INVALID: the reasons of its stages, and those of the whole.
fn run_reasons(stages: &[StageBlock], interrupted: bool, failed: bool) -> Vec<String> {
    let mut reasons = Vec::new();
    if failed {
        reasons.push("an error ended the run".to_owned());
    }
    if stages.is_empty() {
        reasons.push("no stage began".to_owned());
    } else if stages.iter().all(|stage| !stage.outcomes.contains_key(Outcome::Ok.name())) {
        reasons.push("no request succeeded".to_owned());
    }
    let of_stages: Vec<String> = stages
        .iter()
        .flat_map(|stage| {
            stage.validity.reasons.iter().map(move |reason| format!("stage `{}`: {reason}", stage.plan.label))
        })
        .collect();
    let told =
        stages.iter().flat_map(|stage| &stage.validity.reasons).any(|reason| reason.starts_with("interrupted: "));
    if interrupted && !told {
        reasons.push("interrupted before all stages had run".to_owned());
    }
    reasons.extend(of_stages);
    reasons
}

/// One stage, of its measured rows in the order of issue.
fn stage_block(
    context: &LoadContext,
    record: &StageRecord,
    measured: &[&RequestRow],
    cut_off: bool,
    extras: &Extras<'_>,
    diagnostics: &mut Diagnostics,
) -> StageBlock {
    let ok: Vec<&RequestRow> = measured.iter().copied().filter(|row| row.outcome == Outcome::Ok).collect();
    let open = record.plan.arrival != ArrivalKind::Closed;
    let end_ns = end_ns(record, measured);
    let elapsed_s = (end_ns.saturating_sub(record.begin_ns) as f64 / 1e9).max(planned_s(record, cut_off));
    let steps = steady::in_flight(measured, end_ns);
    let peak_seen = steps.iter().map(|step| step.1).max().unwrap_or(0);
    let peak_in_flight = if record.client.peak_in_flight > 0 { record.client.peak_in_flight } else { peak_seen };
    let errors = errors(measured);
    let failed = measured.iter().filter(|row| row.outcome.is_error()).count();
    let judged = measured.iter().filter(|row| !row.outcome.is_cancelled()).count();
    let error_rate = (judged > 0).then(|| failed as f64 / judged as f64);
    let facts = judge::Facts {
        context,
        record,
        measured,
        ok: &ok,
        error_rate,
        errors: &errors,
        peak_in_flight,
        cut_off,
        elapsed_s,
    };
    let verdict = facts.judge(diagnostics);

    let steady = steady::window(record, &steps, &ok).map(|window| {
        let sent = steady::sent_in(&ok, window);
        SteadyBlock {
            from_s: (window.0 as f64 - record.begin_ns as f64) / 1e9,
            to_s: (window.1 as f64 - record.begin_ns as f64) / 1e9,
            measures: measures::measures(&sent, &steady::sent_in(measured, window), open),
            rates: rates::within(&ok, &sent, window),
        }
    });
    let goodput: Vec<_> = context.levels.iter().map(|level| rates::goodput(measured, &ok, level, elapsed_s)).collect();
    let output_tokens = rates::total(&ok, |row| row.output_tokens);
    let cached: Vec<u64> = ok.iter().filter_map(|row| row.cached_tokens).collect();
    let energy = beside::energy_of_all(extras.gpus, &context.stages, record.begin_ns as f64 / 1e9, end_ns as f64 / 1e9);
    StageBlock {
        plan: record.plan.clone(),
        backend: context.backend.clone(),
        validity: Validity::from_reasons(verdict.reasons),
        elapsed_s,
        // A run that was cut off may have rows its record does not know of.
        issued: if cut_off { record.issued.max(measured.len() as u64) } else { record.issued },
        outcomes: count(measured.iter().map(|row| (row.outcome.name(), 1))),
        error_rate,
        measures: measures::measures(&ok, measured, open),
        rates: rates::whole(&ok, elapsed_s),
        steady,
        token_sources: count(ok.iter().filter_map(|row| Some((row.token_source?.name(), row.output_tokens?)))),
        input_tokens: rates::total(&ok, |row| row.input_tokens),
        output_tokens,
        cached_tokens: (!cached.is_empty())
            .then(|| cached.iter().fold(0, |sum: u64, tokens| sum.saturating_add(*tokens))),
        peak_in_flight,
        late: if open { late(measured) } else { 0 },
        goodput_per_s: goodput.first().and_then(|first| first.request_per_s),
        goodput,
        errors,
        client: client_block(record, verdict.client_limited),
        cost: beside::cost(energy, context.price_usd_per_hour, elapsed_s, output_tokens),
        server: extras.server.and_then(|server| beside::server(server, record.begin_ns, end_ns)),
        stopped: record.stopped.clone(),
    }
}

/// When the last request had ended; from the rows where the record was never finished.
fn end_ns(record: &StageRecord, measured: &[&RequestRow]) -> u64 {
    if record.end_ns > record.begin_ns {
        return record.end_ns;
    }
    let ends = measured.iter().filter_map(|row| steady::flight(row, 0)).map(|(_, end)| end);
    ends.max().unwrap_or(record.begin_ns).max(record.begin_ns)
}

/// Seconds for which a stage was to send: it lasts as long even if the answer to its last request comes before. 0 where requests, a trace or a
/// stop ended it.
fn planned_s(record: &StageRecord, cut_off: bool) -> f64 {
    let by_time = record.plan.arrival != ArrivalKind::Trace
        && record.stopped.is_none()
        && !cut_off
        && record.plan.requests.is_none_or(|requests| record.issued < u64::from(requests));
    record.plan.duration_s.filter(|_| by_time).unwrap_or(0.0)
}

fn late(measured: &[&RequestRow]) -> u64 {
    let late = |row: &&&RequestRow| !row.held && measures::waited_ms(row).is_some_and(|ms| ms > LATE_MS);
    measured.iter().filter(late).count() as u64
}

/// Sums by name.
fn count<'a>(values: impl Iterator<Item = (&'a str, u64)>) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for (name, value) in values {
        let count: &mut u64 = counts.entry(name.to_owned()).or_default();
        *count = count.saturating_add(value);
    }
    counts
}

/// Errors by outcome, kind and status, the most frequent first; each with the message of the first that was issued.
fn errors(measured: &[&RequestRow]) -> Vec<ErrorBlock> {
    let mut found: BTreeMap<(Outcome, &str, Option<u16>), ErrorBlock> = BTreeMap::new();
    for row in measured.iter().filter(|row| row.outcome.is_error()) {
        let kind = row.failed.as_ref().map_or(row.outcome.name(), |failed| failed.kind.as_str());
        found
            .entry((row.outcome, kind, row.status))
            .or_insert_with(|| ErrorBlock {
                outcome: row.outcome.name().to_owned(),
                kind: kind.to_owned(),
                status: row.status,
                count: 0,
                first: row.failed.as_ref().map_or_else(String::new, |failed| failed.message.clone()),
            })
            .count += 1;
    }
    let mut errors: Vec<ErrorBlock> = found.into_values().collect();
    errors.sort_by_key(|error| std::cmp::Reverse(error.count));
    errors
}

fn client_block(record: &StageRecord, limited: bool) -> ClientBlock {
    let client = &record.client;
    ClientBlock {
        lag_ms: client.lag_ms.map(|quantiles| quantiles[2]),
        cpu_us_per_chunk: (client.chunks > 0).then(|| client.process_cpu_s * 1e6 / client.chunks as f64),
        limited,
        stage: client.clone(),
    }
}
