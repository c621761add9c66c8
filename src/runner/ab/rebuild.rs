//! Derives the answer of a study from what is in its directory: the same code after a study and when its report is made again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::plan;
use super::widths::whole_blocks;
use crate::compare::attribution::attribute_operators;
use crate::compare::gate_rule::Rule;
use crate::compare::import::merge::merge;
use crate::compare::import::stage1::{Stage1Files, subject as subject_of_run};
use crate::compare::judge::{JudgeError, judge};
use crate::compare::result::{CompareMetrics, Comparison, QualityRow, StudyBlock, Verdict};
use crate::compare::settings::CompareSettings;
use crate::compare::subject::{Outcomes, Subject, SubjectKind};
use crate::config::yaml;
use crate::diagnostics::{Diagnostic, Diagnostics, Severity, Validity};
use crate::record::RecordError;
use crate::record::ab::{self, AB_RUNS_DIRECTORY, AbContext, AbEnd, AbPart, AbRow, Isolation};
use crate::record::gpu::read_gpu;
use crate::record::inputs::INPUTS_FILE;
use crate::record::quality::read_quality;
use crate::record::reader;
use crate::record::rows::{RepeatRow, RowStatus};
use crate::record::spans::{SPANS_FILE, SPANS_SCHEMA_VERSION, SpanLine};
use crate::runner::summary::{Ending, summarize};
use crate::trace::timeline::Timeline;

/// What a study came to.
#[derive(Debug, Clone)]
pub struct Rebuilt {
    /// The plan.
    pub context: AbContext,
    /// How it ended; null if it was killed.
    pub end: Option<AbEnd>,
    /// The variants, baseline first.
    pub subjects: Vec<Subject>,
    /// The answer.
    pub metrics: CompareMetrics,
}

/// Why a study cannot be rebuilt.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// A file of the study.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The variants cannot be judged.
    #[error(transparent)]
    Judge(#[from] JudgeError),
}

/// Reads the study in `dir` and judges it. With `salvage`, damaged rows are left out and counted.
///
/// # Errors
/// If the plan or the rows cannot be read.
pub fn rebuild(dir: &Path, salvage: bool) -> Result<Rebuilt, RebuildError> {
    let context = ab::read_context(dir)?;
    let end = ab::read_end(dir)?;
    let (rows, found) = ab::read_rows(dir, salvage)?;
    let mut diagnostics = Diagnostics::default();
    diagnostics.extend(context.diagnostics.iter().cloned());
    diagnostics.extend(found);
    if let Some(end) = &end {
        diagnostics.extend(end.diagnostics.iter().cloned());
    }
    let settings = settings(&context);
    let mut files = RunFiles { dir, known: BTreeMap::new() };

    let control_labels = context.control_labels();
    let has_control = rows.iter().any(|row| row.part == AbPart::Control && row.status == RowStatus::Ok);
    let control = if has_control {
        let subjects = subjects(&context, &rows, AbPart::Control, &control_labels, &mut files, &mut diagnostics);
        // A control is judged as any study is, but gates nothing.
        let settings = CompareSettings { gate: Vec::new(), ..settings.clone() };
        judge(&subjects, &[], Vec::new(), &settings)?.comparisons
    } else {
        Vec::new()
    };

    let labels: Vec<String> = context.variants.iter().map(|variant| variant.label.clone()).collect();
    let subjects = subjects(&context, &rows, AbPart::Study, &labels, &mut files, &mut diagnostics);
    let attribution = match subjects.split_first() {
        Some((baseline, candidates)) => {
            candidates.iter().flat_map(|candidate| attribute_operators(baseline, candidate)).collect()
        }
        None => Vec::new(),
    };
    let judged = judge(&subjects, &control, attribution, &settings)?;
    let study = study_block(&context, end.as_ref(), &rows, control);
    let status = match study.stopped_because.as_str() {
        "interrupted" => "interrupted",
        "failed" => "failed",
        _ => "complete",
    };
    let quality = quality(&context, dir, &mut diagnostics);
    note_disturbance(&rows, &mut diagnostics);
    if study.false_alarms > 0 {
        diagnostics.note(
            "control_found_a_difference",
            Severity::Warn,
            format!(
                "the A/A control called {} of {} measures different although nothing differed: differences of that size mean little here",
                study.false_alarms,
                study.control.len()
            ),
        );
    }
    let mut metrics = judged.into_metrics("ab", &context.run_id, status, quality, Some(study));
    diagnostics.extend(std::mem::take(&mut metrics.diagnostics));
    metrics.diagnostics = diagnostics.into_vec();
    Ok(Rebuilt { context, end, subjects, metrics })
}

/// What the judge is told of the study.
fn settings(context: &AbContext) -> CompareSettings {
    CompareSettings {
        margin: context.margin,
        studied: context.studied.clone(),
        allow_invalid: context.allow_invalid,
        seed: context.seed,
        // They were read before the study began.
        gate: context.fail_on.iter().filter_map(|rule| Rule::parse(rule).ok()).collect(),
        ..CompareSettings::default()
    }
}

/// The files of the runs of a study, each read once.
struct RunFiles<'a> {
    dir: &'a Path,
    known: BTreeMap<String, Stage1Files>,
}

impl RunFiles<'_> {
    /// What is on disk of the run `child`, without rows and spans; parts that cannot be read are missing.
    fn of(&mut self, child: &str) -> Stage1Files {
        let dir = self.dir.join(AB_RUNS_DIRECTORY).join("stage1").join(child);
        self.known
            .entry(child.to_owned())
            .or_insert_with(|| {
                let run = reader::read_run(&dir).ok();
                Stage1Files {
                    name: child.to_owned(),
                    status: run.as_ref().map(crate::record::RunRecord::effective_status),
                    run,
                    context: reader::read_context(&dir).ok(),
                    metrics: reader::read_metrics(&dir).ok(),
                    rows: Vec::new(),
                    inputs: yaml::read(&dir.join(INPUTS_FILE))
                        .ok()
                        .and_then(|document| serde_json::from_value(document.value).ok()),
                    environment: std::fs::read(dir.join("env.json"))
                        .ok()
                        .and_then(|bytes| serde_json::from_slice(&bytes).ok()),
                    spans: None,
                    diagnostics: Vec::new(),
                }
            })
            .clone()
    }

    /// The run `child` with `kept` of its rows.
    fn with_rows(&mut self, child: &str, kept: Vec<RepeatRow>, all: usize, isolation: Isolation) -> Stage1Files {
        let mut files = self.of(child);
        // In one process a run holds the rows of all blocks, of which these are one.
        if (kept.len() != all || isolation == Isolation::InProcess)
            && let Some(context) = &files.context
        {
            // The operators must be those of the rows that are kept.
            let dir = self.dir.join(AB_RUNS_DIRECTORY).join("stage1").join(child);
            let rows: BTreeSet<u32> = kept.iter().map(|row| row.index).collect();
            let spans = spans_of(&dir, &rows).unwrap_or_default();
            let gpu = read_gpu(&dir).ok().flatten();
            files.metrics = Some(summarize(context, &kept, &spans, Ending::Complete, &[], gpu.as_ref()));
            files.spans = Some(spans);
        }
        files.rows = kept;
        files
    }
}

/// The spans of the repeats `rows`.
fn spans_of(dir: &Path, rows: &BTreeSet<u32>) -> Option<Timeline> {
    let path = dir.join(SPANS_FILE);
    let bytes = std::fs::read(&path).ok()?;
    let mut timeline = Timeline::default();
    for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let parsed: Result<SpanLine, RecordError> = reader::parse_versioned(&path, None, line, SPANS_SCHEMA_VERSION);
        if let Ok(line) = parsed
            && rows.contains(&line.row)
        {
            line.append_to(&mut timeline).ok()?;
        }
    }
    Some(timeline)
}

/// The variants of one part as subjects, in the order of `labels`: only whole blocks have values.
fn subjects(
    context: &AbContext,
    rows: &[AbRow],
    part: AbPart,
    labels: &[String],
    files: &mut RunFiles<'_>,
    diagnostics: &mut Diagnostics,
) -> Vec<Subject> {
    let whole = whole_blocks(rows, part, labels.len());
    let of_part = || rows.iter().filter(|row| row.part == part);
    let unfinished: BTreeSet<u32> = of_part().map(|row| row.block).filter(|block| !whole.contains(block)).collect();
    if !unfinished.is_empty() {
        let list: Vec<String> = unfinished.iter().map(u32::to_string).collect();
        let part = match part {
            AbPart::Control => "the control",
            AbPart::WarmUp | AbPart::Study => "the study",
        };
        diagnostics.note(
            "unfinished_block",
            Severity::Info,
            format!(
                "block {} of {part} lacks a variant that ended well; its repeats are in the rows and in no comparison",
                list.join(", ")
            ),
        );
    }
    labels
        .iter()
        .enumerate()
        .map(|(variant, label)| {
            let own: Vec<&AbRow> = of_part().filter(|row| row.variant == variant as u32).collect();
            subject(context, label, &own, &whole, files, diagnostics)
        })
        .collect()
}

fn subject(
    context: &AbContext,
    label: &str,
    own: &[&AbRow],
    whole: &BTreeSet<u32>,
    files: &mut RunFiles<'_>,
    diagnostics: &mut Diagnostics,
) -> Subject {
    let mut turns: BTreeMap<(u32, &str), Vec<&AbRow>> = BTreeMap::new();
    for row in own {
        turns.entry((row.block, &row.child)).or_default().push(row);
    }
    let (mut parts, mut blocks) = (Vec::new(), Vec::new());
    let mut left_out = Outcomes::default();
    for ((block, child), rows) in turns {
        let repeats = rows.iter().filter_map(|row| row.row.as_ref()).count();
        let kept: Vec<RepeatRow> =
            rows.iter().filter(|row| !row.dropped_as_warmup).filter_map(|row| row.row.clone()).collect();
        let without_row = rows.iter().filter(|row| row.row.is_none());
        let unused = !whole.contains(&block);
        for row in without_row.chain(rows.iter().filter(|row| unused && row.row.is_some())) {
            match row.status {
                RowStatus::Oom => left_out.oom += 1,
                RowStatus::Failed => left_out.failed += 1,
                RowStatus::Interrupted => left_out.interrupted += 1,
                RowStatus::Ok => {}
            }
        }
        if unused || kept.is_empty() {
            continue;
        }
        match subject_of_run(&files.with_rows(child, kept, repeats, context.isolation)) {
            Ok(part) => {
                parts.push(part);
                blocks.push(block);
            }
            Err(error) => diagnostics.note(
                "unreadable_run",
                Severity::DataLoss,
                format!("`{label}`: the run `{child}` cannot be used: {error}"),
            ),
        }
    }
    let mut subject = if parts.is_empty() {
        nothing(label)
    } else {
        merge(label, parts, &blocks).unwrap_or_else(|error| {
            diagnostics.note(
                "unreadable_run",
                Severity::DataLoss,
                format!("the runs of `{label}` cannot be put together: {error}"),
            );
            nothing(label)
        })
    };
    label.clone_into(&mut subject.label);
    subject.outcomes.failed += left_out.failed;
    subject.outcomes.oom += left_out.oom;
    subject.outcomes.interrupted += left_out.interrupted;
    if context.isolation == Isolation::InProcess {
        // The process is the same for all, and so is its peak.
        subject.measures.retain(|measure| measure.name != "peak_rss_bytes");
        for measure in &mut subject.measures {
            measure.runs.fill(0);
        }
    }
    subject
}

/// A variant without any value.
fn nothing(label: &str) -> Subject {
    Subject {
        label: label.to_owned(),
        kind: SubjectKind::Stage1,
        tool: format!("perfprof {}", env!("CARGO_PKG_VERSION")),
        run_ids: Vec::new(),
        files: Vec::new(),
        facts: BTreeMap::new(),
        measures: Vec::new(),
        operators: Vec::new(),
        outcomes: Outcomes::default(),
        validity: Validity::from_reasons(vec![format!("`{label}` has no repeat that ended well in a whole block")]),
        price_usd_per_hour: None,
        power_w: None,
        diagnostics: Vec::new(),
    }
}

fn study_block(context: &AbContext, end: Option<&AbEnd>, rows: &[AbRow], control: Vec<Comparison>) -> StudyBlock {
    let labels: Vec<String> = context.variants.iter().map(|variant| variant.label.clone()).collect();
    let blocks = whole_blocks(rows, AbPart::Study, labels.len()).len() as u64;
    let begun = rows.iter().filter(|row| row.part == AbPart::Study).map(|row| row.block + 1).max().unwrap_or(0);
    let mut warmup_dropped: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    let mut processes: BTreeMap<(u32, &str), u32> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.part != AbPart::Control && row.row.is_some()) {
        let process = if context.isolation == Isolation::InProcess { row.variant } else { row.process };
        let dropped = row.dropped_as_warmup && row.row.as_ref().is_some_and(|row| !row.spans);
        *processes.entry((process, &row.label)).or_default() += u32::from(dropped);
    }
    for ((_, label), dropped) in processes {
        warmup_dropped.entry(label.to_owned()).or_default().push(dropped);
    }
    let differs = |comparison: &&Comparison| {
        matches!(comparison.verdict, Verdict::Faster | Verdict::Slower | Verdict::Lower | Verdict::Higher)
    };
    let false_alarms = control.iter().filter(differs).count() as u64;
    StudyBlock {
        seed: context.seed,
        isolation: context.isolation.words().to_owned(),
        blocks,
        order: plan::order(labels.len(), begun, context.seed),
        variants: context.settings(),
        labels,
        stopped_because: end.map_or_else(|| "interrupted".to_owned(), |end| end.stopped_because.clone()),
        took_s: end.map_or_else(|| seconds_of(rows), |end| end.took_s),
        warmup_dropped,
        control,
        false_alarms,
    }
}

/// From the begin of the first repeat to the begin of the last one: all that the rows of a killed study tell.
fn seconds_of(rows: &[AbRow]) -> f64 {
    let stamp = |row: &AbRow| row.row.as_ref()?.started_at.parse::<jiff::Timestamp>().ok();
    let mut stamps = rows.iter().filter_map(stamp);
    let Some(first) = stamps.next() else { return 0.0 };
    let last = stamps.next_back().unwrap_or(first);
    last.duration_since(first).as_secs_f64().max(0.0)
}

/// The quality of each variant that measured it.
fn quality(context: &AbContext, dir: &Path, diagnostics: &mut Diagnostics) -> Vec<QualityRow> {
    let runs = dir.join(AB_RUNS_DIRECTORY).join("stage1");
    let mut all = Vec::new();
    for (variant, settings) in context.variants.iter().enumerate() {
        // It is measured by the first process of a variant, whose position in the block is drawn.
        let found = (0..context.variants.len())
            .map(|position| runs.join(format!("b000-{position}-v{variant}")))
            .find_map(|run| read_quality(&run).ok().flatten());
        let Some(record) = found else { continue };
        let block = record.quality;
        if let Some(error) = &block.error {
            diagnostics.push(Diagnostic::new(
                "quality_not_measured",
                Severity::Warn,
                format!("`{}`: {error}", settings.label),
            ));
        }
        all.push(QualityRow::of(&settings.label, block));
    }
    all
}

fn note_disturbance(rows: &[AbRow], diagnostics: &mut Diagnostics) {
    let repeats: Vec<&RepeatRow> = rows.iter().filter_map(|row| row.row.as_ref()).collect();
    let disturbed = repeats.iter().filter(|row| row.contention.disturbed).count();
    if disturbed > 0 {
        diagnostics.push(Diagnostic {
            code: "disturbed_repeats".to_owned(),
            severity: Severity::Warn,
            count: disturbed as u64,
            first: format!(
                "other processes disturbed {disturbed} of {} repeats; they stay in the values, since leaving them out would choose among the \
                 variants",
                repeats.len()
            ),
        });
    }
}
