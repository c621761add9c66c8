//! `perfprof compare`: runs, traces and results of other tools against a baseline.

pub mod inputs;
mod output;
mod sides;

use std::path::PathBuf;

use super::Context;
use super::interrupt::Interrupt;
use crate::analysis::classify::Classifier;
use crate::analysis::steps::PhasePatterns;
use crate::compare::attribution::{TraceSettings, TraceSide, attribute_operators, attribute_traces};
use crate::compare::gate::{self, Unknown};
use crate::compare::gate_rule::Rule;
use crate::compare::result::Attribution;
use crate::compare::settings::{CompareSettings, split_statistic};
use crate::compare::stored::{STORED_SCHEMA_VERSION, StoredComparison};
use crate::diagnostics::{ExitStatus, Failure};
use crate::record::run_dir::{RunDir, RunOptions, RunStatus};
use crate::record::{RecordError, environment};

pub use output::{print_summary, render_comparison};
pub use sides::Side;

/// Rows of one phase of an attribution; the rest is summed up.
const ATTRIBUTION_ROWS: usize = 200;

/// Options of `perfprof compare`.
#[derive(Debug, Clone, Default)]
pub struct CompareOptions {
    /// What is compared, the baseline first: `[LABEL=]WHAT[,WHAT…]`.
    pub sides: Vec<String>,
    /// Rules of the gate.
    pub fail_on: Vec<String>,
    /// δ in percent: smaller differences count as the same.
    pub margin_percent: Option<f64>,
    /// Other margins as `MEASURE=PERCENT`.
    pub margins: Vec<String>,
    /// Measures to compare, with `*`; empty for all.
    pub measures: Vec<String>,
    /// Further statistics such as `tpot_ms.p99`.
    pub statistics: Vec<String>,
    /// Facts or keys that differ on purpose.
    pub studied: Vec<String>,
    /// Name winners although the work differs.
    pub allow_unequal: bool,
    /// Rely on runs that are INVALID.
    pub allow_invalid: bool,
    /// Read past damaged rows.
    pub salvage: bool,
    /// YAML file with kernel classes and phase patterns.
    pub rules: Option<PathBuf>,
    /// Seed of the resampling.
    pub seed: u64,
    /// Tag of the run.
    pub tag: Option<String>,
    /// Also write the JUnit report to this file.
    pub junit: Option<PathBuf>,
    /// Also append the Markdown summary to this file (as `$GITHUB_STEP_SUMMARY` wants it).
    pub summary: Option<PathBuf>,
}

/// Runs `perfprof compare`.
pub fn run(options: &CompareOptions, context: &Context) -> anyhow::Result<ExitStatus> {
    let settings = settings(options)?;
    let (classifier, patterns) = super::analyze::name_rules(options.rules.as_deref())?;
    if options.sides.len() < 2 {
        return Err(Failure::new(ExitStatus::Usage, "a comparison needs a baseline and at least one candidate")
            .hint("`perfprof compare BASELINE CANDIDATE`; `perfprof runs` lists the runs there are")
            .into());
    }
    let interrupt = Interrupt::install()?;
    let sides = sides::load(options, context, &interrupt)?;
    gate::check(&settings.gate, &sides[0].subject).map_err(|error| {
        let failure = Failure::new(ExitStatus::Usage, error.to_string());
        match error.unknown {
            Some(Unknown::Measure) => failure.hint(format!("measures of the baseline: {}", measures_of(&sides[0]))),
            Some(Unknown::Case) => failure.hint(format!("cases of the baseline: {}", cases_of(&sides[0]))),
            None => failure,
        }
    })?;
    let attribution = attribution(&sides, &classifier, &patterns)?;
    if interrupt.asked() {
        return Ok(interrupt.status());
    }

    let run_options = RunOptions { id: None, argv: None, tag: options.tag.clone(), config_sha256: None };
    let mut directory =
        RunDir::create_with(&context.output_root, "compare", run_options).map_err(RecordError::into_failure)?;
    let stored = StoredComparison {
        schema_version: STORED_SCHEMA_VERSION,
        quality: sides.iter().filter_map(Side::quality).collect(),
        subjects: sides.into_iter().map(|side| side.subject).collect(),
        attribution,
        settings,
        fail_on: options.fail_on.clone(),
        allow_invalid: options.allow_invalid,
    };
    let outcome = write(&mut directory, &stored, options, context);
    if let Err(error) = &outcome
        && directory.record().status == RunStatus::Running
    {
        // The directory may be gone or full; the error that brought us here matters more than a second one.
        let _ = directory.finish(RunStatus::Failed, Some(&format!("{error:#}")));
    }
    outcome
}

fn write(
    directory: &mut RunDir,
    stored: &StoredComparison,
    options: &CompareOptions,
    context: &Context,
) -> anyhow::Result<ExitStatus> {
    let record = |error: RecordError| error.into_failure();
    directory.write_json("env.json", &environment::capture(serde_json::Value::Null)).map_err(record)?;
    directory.write_json(output::SUBJECTS_FILE, stored).map_err(record)?;
    let rendered = render_comparison(directory.path())?;
    let status = if rendered.metrics.validity.is_valid() { RunStatus::Complete } else { RunStatus::Invalid };
    directory.finish(status, None).map_err(record)?;
    output::copies(&rendered, options)?;
    print_summary(&rendered, directory.path(), context)?;
    Ok(rendered.exit_status())
}

/// Names of the baseline's measures, for a hint.
fn measures_of(side: &Side) -> String {
    let names: std::collections::BTreeSet<&str> =
        side.subject.measures.iter().map(|measure| measure.name.as_str()).collect();
    names.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Names of the baseline's cases, for a hint.
fn cases_of(side: &Side) -> String {
    let names: std::collections::BTreeSet<&str> =
        side.subject.measures.iter().filter_map(|measure| measure.case.as_deref()).collect();
    if names.is_empty() {
        return "it has none".to_owned();
    }
    names.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// The settings, checked.
fn settings(options: &CompareOptions) -> Result<CompareSettings, Failure> {
    let usage = |message: String| Failure::new(ExitStatus::Usage, message);
    let percent = |name: &str, value: f64| {
        // Half of the baseline is no margin within which two things are the same.
        if value.is_finite() && (0.0..50.0).contains(&value) {
            Ok(value / 100.0)
        } else {
            Err(usage(format!("{name}: {value} % is no margin: expected a number from 0 to below 50")))
        }
    };
    let mut settings = CompareSettings {
        studied: options.studied.clone(),
        measures: options.measures.clone(),
        statistics: options.statistics.clone(),
        allow_unequal: options.allow_unequal,
        allow_invalid: options.allow_invalid,
        seed: options.seed,
        ..CompareSettings::default()
    };
    if let Some(value) = options.margin_percent {
        settings.margin = percent("`--margin`", value)?;
    }
    for text in &options.margins {
        let parsed = text.split_once('=').and_then(|(name, value)| {
            Some((name.trim(), value.trim().trim_end_matches('%').trim_end().parse::<f64>().ok()?))
        });
        let Some((name, value)) = parsed.filter(|(name, _)| !name.is_empty()) else {
            return Err(usage(format!("`--margin-of {text}`: expected `MEASURE=PERCENT`, e.g. `peak_rss_bytes=5`")));
        };
        settings.margins.insert(name.to_owned(), percent(&format!("`--margin-of {text}`"), value)?);
    }
    for text in &options.statistics {
        if split_statistic(text).1.is_none() {
            return Err(usage(format!("`--statistic {text}`: expected a measure and a statistic, e.g. `tpot_ms.p99`")));
        }
    }
    for rule in &options.fail_on {
        settings.gate.push(Rule::parse(rule).map_err(|error| {
            usage(error.to_string())
                .hint("for instance `tpot_ms.p50>+3%`, `ttft_ms.p99>+5ms`, `decode_tok_per_s<-2%@99%`")
        })?);
    }
    Ok(settings)
}

/// Where each candidate's difference comes from: by the traces where both sides have one, else by their tables of operators.
fn attribution(sides: &[Side], classifier: &Classifier, patterns: &PhasePatterns) -> anyhow::Result<Vec<Attribution>> {
    let Some((baseline, candidates)) = sides.split_first() else { return Ok(Vec::new()) };
    let settings = TraceSettings { classifier, patterns, max_rows: ATTRIBUTION_ROWS };
    let mut all = Vec::new();
    for candidate in candidates {
        match (&baseline.trace, &candidate.trace) {
            (Some(before), Some(after)) => {
                let before = TraceSide { label: &baseline.subject.label, timeline: &before.timeline };
                let after = TraceSide { label: &candidate.subject.label, timeline: &after.timeline };
                all.extend(
                    attribute_traces(&before, &after, &settings)
                        .map_err(|error| Failure::new(ExitStatus::Usage, error.to_string()))?,
                );
            }
            _ => all.extend(attribute_operators(&baseline.subject, &candidate.subject)),
        }
    }
    Ok(all)
}
