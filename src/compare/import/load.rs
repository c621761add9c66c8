//! A run of `perfprof load` as a subject: a case for each stage, its values those of the requests that succeeded.

use super::builder::{Builder, Entry, Series, clipped};
use super::definition;
use super::error::ImportError;
use super::load_summary::{DATASET, REQUEST_RATE, REQUESTS, lengths};
use super::stage1::without_directories;
use crate::compare::subject::{Outcomes, Subject, SubjectKind, fact};
use crate::config::schema::load::{ArrivalKind, Slo};
use crate::diagnostics::{Diagnostic, Severity, Validity};
use crate::record::load::context::LoadContext;
use crate::record::load::metrics::{LoadMetrics, StageBlock};
use crate::record::load::outcome::Outcome;
use crate::record::load::row::{Phase, RequestRow};
use crate::record::run_dir::{RunRecord, RunStatus};
use crate::stats::summary::Summary;

/// Fact: when requests are sent; `closed` is when an earlier one has ended.
pub const ARRIVAL: &str = "arrival";
/// Fact: where the counts of output tokens come from.
pub const TOKEN_SOURCE: &str = "token_source";
/// Fact: the limits that goodput is counted by.
pub const SERVICE_LEVEL: &str = "service_level";

/// Gaps of a stage that are taken at most: of more, those of requests at even distances.
const MOST_GAPS: usize = 200_000;

/// What is on disk of a load test.
#[derive(Debug, Clone)]
pub struct LoadFiles {
    /// Name of the directory, or of the file.
    pub name: String,
    /// `run.json`.
    pub run: Option<RunRecord>,
    /// What the status means now; see [`RunRecord::effective_status`].
    pub status: Option<RunStatus>,
    /// `load.json`.
    pub context: Option<LoadContext>,
    /// `metrics.json`, or what the rows give where the run left none.
    pub metrics: LoadMetrics,
    /// `requests.jsonl`; empty where only a summary is there.
    pub rows: Vec<RequestRow>,
    /// What the readers of these files found.
    pub diagnostics: Vec<Diagnostic>,
}

/// The run as a subject, labelled with its tag, else its id.
///
/// Values are of measured requests that succeeded, in the order in which they were issued. All of them come from one run, as those of another
/// load client's file do: what differs between runs is not seen within one. A run without a successful request is an INVALID subject without values.
///
/// # Errors
/// If no stage began.
pub fn subject(files: &LoadFiles) -> Result<Subject, ImportError> {
    let metrics = &files.metrics;
    if metrics.stages.is_empty() {
        return Err(ImportError::Unusable {
            file: files.name.clone(),
            format: "load test".to_owned(),
            reason: "no stage began: nothing was measured".to_owned(),
        });
    }
    let tag = files.run.as_ref().and_then(|run| run.tag.as_deref());
    let version = files.run.as_ref().map(|run| run.perfprof_version.as_str());
    let tool = version.map_or_else(|| "perfprof load".to_owned(), |version| format!("perfprof {version} load"));
    let mut builder = Builder::new(SubjectKind::Load, tag.unwrap_or(&metrics.run_id), &tool);
    builder.extend(files.diagnostics.iter().cloned());
    builder.extend(metrics.diagnostics.iter().filter(|found| found.severity >= Severity::Warn).cloned());

    let mut rows: Vec<&RequestRow> =
        files.rows.iter().filter(|row| row.phase == Phase::Measured && row.outcome == Outcome::Ok).collect();
    rows.sort_by_key(|row| (row.stage, row.id, row.sent_ns));
    let mut entries: Vec<Entry> = Vec::new();
    for (index, stage) in metrics.stages.iter().enumerate() {
        let of_stage = |row: &RequestRow| row.stage as usize;
        let rows = &rows[rows.partition_point(|row| of_stage(row) < index)..];
        let rows = &rows[..rows.partition_point(|row| of_stage(row) == index)];
        let case = case_name(&stage.plan.label, &entries);
        let mut entry = facts(files, stage);
        let succeeded = outcome_count(stage, Outcome::Ok);
        if !rows.is_empty() {
            case_facts_of_rows(&mut entry, rows);
            entry.series = of_rows(rows, stage, &mut builder);
        } else if succeeded > 0 {
            entry.series = of_summary(stage);
            case_facts_of_summary(&mut entry, stage, succeeded);
            let first = format!(
                "of `{case}` of `{}` there is a summary and no requests: differences can be stated, but not judged",
                files.name
            );
            builder.note("no_rows", Severity::Warn, first);
        }
        entry.series.extend(rates(stage));
        entry.case = Some(case);
        entries.push(entry);
    }
    builder.fact(fact::TOOL, Some(tool));
    builder.entries(entries);

    let validity = validity(files, &mut builder);
    let subject = builder.subject();
    subject.run_ids = vec![clipped(&metrics.run_id)];
    subject.files = vec![clipped(&files.name)];
    subject.validity = validity;
    subject.price_usd_per_hour = files.context.as_ref().and_then(|context| context.price_usd_per_hour);
    Ok(builder.finish())
}

/// The label of the stage; stages of one label are told apart by a number, since they are no runs of their own.
fn case_name(label: &str, before: &[Entry]) -> String {
    let taken = |name: &str| before.iter().any(|entry| entry.case.as_deref() == Some(name));
    let numbered = (2..).map(|number| format!("{label} #{number}"));
    std::iter::once(label.to_owned()).chain(numbered).find(|name| !taken(name)).unwrap_or_else(|| label.to_owned())
}

fn outcome_count(stage: &StageBlock, outcome: Outcome) -> u64 {
    stage.outcomes.get(outcome.name()).copied().unwrap_or(0)
}

/// What was asked, and how what was answered is to be read.
fn facts(files: &LoadFiles, stage: &StageBlock) -> Entry {
    let metrics = &files.metrics;
    let mut entry = Entry::default();
    entry.fact(fact::BACKEND, Some(metrics.backend.clone()));
    entry.fact(fact::MODEL, Some(without_directories(&metrics.model)));
    entry.fact("endpoint", Some(metrics.endpoint.clone()));
    entry.fact("streaming", Some(metrics.stream.to_string()));
    entry.fact(DATASET, Some(without_directories(&metrics.workload.dataset)));
    entry.fact(fact::PROMPTS_SHA256, Some(metrics.workload.sha256.clone()));
    entry.fact(fact::SEED, Some(metrics.workload.seed.to_string()));
    if !stage.token_sources.is_empty() {
        let sources: Vec<&str> = stage.token_sources.keys().map(String::as_str).collect();
        entry.fact(TOKEN_SOURCE, Some(sources.join(", ")));
    }
    if !stage.goodput.is_empty() {
        let level = files.context.as_ref().and_then(|context| context.levels.first());
        entry.fact(SERVICE_LEVEL, level.map(limits_in_words));
    }
    if metrics.stream {
        entry.fact(definition::TTFT, Some("sent to the first chunk with content, reasoning or tool calls".to_owned()));
        let tpot = "(last output − first) / (tokens − tokens of the first chunk)";
        entry.fact(definition::TPOT, Some(tpot.to_owned()));
        entry.fact(definition::E2E, Some("sent to the last output".to_owned()));
    } else {
        entry.fact(definition::E2E, Some("sent to the end of the answer, in one piece".to_owned()));
    }
    let plan = &stage.plan;
    entry.case_fact(ARRIVAL, Some(plan.arrival.name().to_owned()));
    if let Some(concurrency) = plan.concurrency {
        entry.case_fact(fact::CONCURRENCY, Some(concurrency.to_string()));
    }
    if let Some(rate) = plan.rate {
        entry.case_fact(REQUEST_RATE, Some(rate.to_string()));
    }
    entry.case_fact(REQUESTS, Some(stage.issued.to_string()));
    let cancelled = outcome_count(stage, Outcome::CancelledUser) + outcome_count(stage, Outcome::CancelledDeadline);
    let (ok, all) = (outcome_count(stage, Outcome::Ok), stage.outcomes.values().sum::<u64>());
    entry.outcomes = Outcomes {
        ok,
        failed: all.saturating_sub(ok).saturating_sub(cancelled),
        interrupted: cancelled,
        ..Outcomes::default()
    };
    entry
}

/// `ttft_ms 500, tpot_ms 50`.
fn limits_in_words(level: &Slo) -> String {
    let limits =
        [("ttft_ms", level.ttft_ms), ("tpot_ms", level.tpot_ms), ("itl_ms", level.itl_ms), ("e2e_ms", level.e2e_ms)];
    let words: Vec<String> = limits.iter().filter_map(|(name, limit)| Some(format!("{name} {}", (*limit)?))).collect();
    words.join(", ")
}

/// What was really sent and answered.
fn case_facts_of_rows(entry: &mut Entry, rows: &[&RequestRow]) {
    entry.case_fact(fact::PROMPT_TOKENS, lengths(rows.iter().map(|row| row.input_tokens)));
    entry.case_fact(fact::NEW_TOKENS, lengths(rows.iter().map(|row| row.output_tokens)));
}

/// The same from a summary; unknown unless it knows every request.
fn case_facts_of_summary(entry: &mut Entry, stage: &StageBlock, succeeded: u64) {
    for (fact, name) in [(fact::PROMPT_TOKENS, "input_tokens"), (fact::NEW_TOKENS, "output_tokens")] {
        let summary = stage.measures.get(name).map(|distribution| &distribution.summary);
        let of = |summary: &Summary| match (summary.min?, summary.max?, summary.mean?) {
            (low, high, _) if low == high => Some(format!("{low:.0}")),
            (low, high, mean) => Some(format!("{low:.0} to {high:.0}, mean {mean:.2}")),
        };
        entry.case_fact(fact, summary.filter(|summary| summary.n == succeeded).and_then(of));
    }
}

/// The values of the requests of a stage.
fn of_rows(rows: &[&RequestRow], stage: &StageBlock, builder: &mut Builder) -> Vec<Series> {
    let each = |get: &dyn Fn(&RequestRow) -> Option<f64>| rows.iter().filter_map(|row| get(row)).collect::<Vec<f64>>();
    let mut series = vec![
        Series::of("ttft_ms", "ms", each(&RequestRow::ttft_ms)),
        Series::of("tpot_ms", "ms", each(&RequestRow::tpot_ms)),
        gaps(rows, &stage.plan.label, builder),
        Series::of("e2e_ms", "ms", each(&RequestRow::e2e_ms)),
    ];
    if stage.plan.arrival != ArrivalKind::Closed {
        // What a user waits who comes when the plan says so: requests held back by this client must not look fast.
        series.push(Series::of("ttft_from_due_ms", "ms", each(&|row| from_due_ms(row, row.ttft_ms()))));
        series.push(Series::of("e2e_from_due_ms", "ms", each(&|row| from_due_ms(row, row.e2e_ms()))));
    }
    series
}

fn from_due_ms(row: &RequestRow, after_sending_ms: Option<f64>) -> Option<f64> {
    Some(row.dispatch_delay_ms()? + after_sending_ms?)
}

/// Tokens of each chunk, where the server counts them.
fn counted(row: &RequestRow) -> Option<&[u32]> {
    row.chunks.tokens.as_deref().filter(|tokens| tokens.len() == row.chunks.len())
}

/// The gaps of all requests. They are gaps between tokens only where it can be seen how many tokens each chunk held.
fn gaps(rows: &[&RequestRow], label: &str, builder: &mut Builder) -> Series {
    let count: usize = rows.iter().map(|row| row.chunks.len().saturating_sub(1)).sum();
    let step = count.div_ceil(MOST_GAPS).max(1);
    if step > 1 {
        let first = format!("`{label}`: of {count} gaps those of one request in {step} are compared");
        builder.note("gaps_thinned", Severity::Info, first);
    }
    let one_each = |row: &RequestRow| row.output_tokens == Some(row.chunks.len() as u64);
    let by_token = rows.iter().all(|row| counted(row).is_some() || one_each(row));
    let mut values = Vec::new();
    for row in rows.iter().step_by(step) {
        match counted(row).filter(|_| by_token) {
            Some(tokens) => split_gaps(row, tokens, &mut values),
            None => values.extend(row.gaps_ms()),
        }
    }
    Series::of(if by_token { "itl_ms" } else { "inter_chunk_ms" }, "ms", values)
}

/// A gap in front of several tokens is shared among them; one in front of none adds to the next.
fn split_gaps(row: &RequestRow, tokens: &[u32], into: &mut Vec<f64>) {
    let mut waited = 0.0;
    for (gap, tokens) in row.gaps_ms().zip(tokens.iter().skip(1)) {
        waited += gap;
        if *tokens > 0 {
            into.extend(std::iter::repeat_n(waited / f64::from(*tokens), *tokens as usize));
            waited = 0.0;
        }
    }
}

/// What the summary says where the requests are not there.
fn of_summary(stage: &StageBlock) -> Vec<Series> {
    let summary = |name: &str| {
        stage.measures.get(name).map(|distribution| distribution.summary.clone()).filter(|summary| summary.n > 0)
    };
    let (by_token, by_chunk) = (summary("itl_ms"), summary("inter_chunk_ms"));
    // As many tokens as chunks behind the first, after the same time on average: each chunk held one.
    let same = by_token.as_ref().zip(by_chunk.as_ref()).is_some_and(|(token, chunk)| {
        let means = token.mean.zip(chunk.mean);
        token.n == chunk.n && means.is_some_and(|(token, chunk)| (token - chunk).abs() <= 1e-9 * chunk.abs())
    });
    let gaps = if same { ("itl_ms", by_token) } else { ("inter_chunk_ms", by_chunk) };
    let mut named =
        vec![("ttft_ms", summary("ttft_ms")), ("tpot_ms", summary("tpot_ms")), gaps, ("e2e_ms", summary("e2e_ms"))];
    if stage.plan.arrival != ArrivalKind::Closed {
        named.extend(["ttft_from_due_ms", "e2e_from_due_ms"].map(|name| (name, summary(name))));
    }
    named.into_iter().map(|(name, summary)| Series::of(name, "ms", Vec::new()).reported(summary)).collect()
}

/// Rates of the whole stage, ramp and drain included, as other load clients give them; one value each.
fn rates(stage: &StageBlock) -> Vec<Series> {
    vec![
        Series::one("request_per_s", "req/s", stage.rates.request_per_s),
        Series::one("output_tok_per_s", "tok/s", stage.rates.output_tok_per_s),
        Series::one("input_output_tok_per_s", "tok/s", stage.rates.total_tok_per_s),
        Series::one("goodput_per_s", "req/s", stage.goodput_per_s),
        Series::one("energy_per_token_j", "J/tok", stage.cost.j_per_output_token),
    ]
}

fn validity(files: &LoadFiles, builder: &mut Builder) -> Validity {
    let mut reasons = files.metrics.validity.reasons.clone();
    match files.status {
        Some(RunStatus::Failed) => {
            let why = files.run.as_ref().and_then(|run| run.error.as_deref());
            reasons.push(
                why.map_or_else(|| "the run failed".to_owned(), |why| format!("the run failed: {}", clipped(why))),
            );
        }
        Some(RunStatus::Running) => {
            let first = format!("run `{}` is still going on: the requests that have ended are used", files.name);
            builder.note("unfinished_run", Severity::Warn, first);
        }
        _ => {}
    }
    Validity::from_reasons(reasons)
}
