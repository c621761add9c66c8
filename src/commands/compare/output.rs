//! Judges what was stored, writes the reports, and prints the answer.

use std::io::Write as _;
use std::path::Path;

use super::CompareOptions;
use crate::commands::{Context, print_run};
use crate::compare::gate::Standing;
use crate::compare::gate_rule::Rule;
use crate::compare::judge::judge;
use crate::compare::result::{CompareMetrics, GateResult};
use crate::compare::settings::CompareSettings;
use crate::compare::stored::{STORED_SCHEMA_VERSION, StoredComparison};
use crate::diagnostics::{ExitStatus, Failure};
use crate::record::reader::METRICS_FILE;
use crate::record::run_dir::rfc3339;
use crate::record::{RecordError, atomic, reader};
use crate::report::compare::{
    CompareReport, Distribution, ci_summary_md, compare_console, distributions, files, junit_xml,
};

/// What the comparison was made of, so that its report can be made again.
pub(super) const SUBJECTS_FILE: &str = "subjects.json";

/// A comparison with everything its reports are made of.
#[derive(Debug)]
pub struct RenderedComparison {
    /// `metrics.json`.
    pub metrics: CompareMetrics,
    allow_invalid: bool,
    distributions: Vec<Distribution>,
    provenance: Vec<(String, String)>,
    generated_at: String,
}

impl RenderedComparison {
    fn report(&self) -> CompareReport<'_> {
        CompareReport {
            metrics: &self.metrics,
            distributions: &self.distributions,
            provenance: &self.provenance,
            assumptions: &[],
            generated_at: &self.generated_at,
        }
    }

    /// How the process must exit: INVALID weighs more than the gate, whose evidence it takes away.
    pub fn exit_status(&self) -> ExitStatus {
        if !self.metrics.validity.is_valid() && !self.allow_invalid {
            return ExitStatus::Invalid;
        }
        match self.metrics.gate.as_ref().map(GateResult::standing) {
            Some(Standing::Failed) => ExitStatus::Regression,
            Some(Standing::CouldNotJudge) => ExitStatus::CouldNotStart,
            Some(Standing::Passed) | None => ExitStatus::Success,
        }
    }
}

/// Judges the comparison stored in `directory` and writes `metrics.json` and all reports into it. The manifest is the caller's to write, after
/// everything else.
///
/// # Errors
/// If what was stored cannot be read, or a file not be written.
pub fn render_comparison(directory: &Path) -> anyhow::Result<RenderedComparison> {
    let record = |error: RecordError| error.into_failure();
    let path = directory.join(SUBJECTS_FILE);
    let bytes = std::fs::read(&path).map_err(|error| {
        Failure::new(ExitStatus::CouldNotStart, format!("cannot read `{}`", path.display())).because(error)
    })?;
    let stored: StoredComparison =
        reader::parse_versioned(&path, None, &bytes, STORED_SCHEMA_VERSION).map_err(record)?;
    let mut rules = Vec::new();
    for rule in &stored.fail_on {
        rules.push(Rule::parse(rule).map_err(|error| Failure::new(ExitStatus::CouldNotStart, error.to_string()))?);
    }
    let settings = CompareSettings { gate: rules, ..stored.settings };
    let judged = judge(&stored.subjects, &[], stored.attribution, &settings)
        .map_err(|error| Failure::new(ExitStatus::CouldNotStart, error.to_string()))?;
    let run = reader::read_run(directory).map_err(record)?;
    let rendered = RenderedComparison {
        metrics: judged.into_metrics("compare", &run.run_id, "complete", stored.quality, None),
        allow_invalid: stored.allow_invalid,
        distributions: distributions(&stored.subjects),
        provenance: vec![
            ("Command".to_owned(), run.argv.join(" ")),
            ("perfprof".to_owned(), run.perfprof_version.clone()),
            ("Run".to_owned(), run.run_id.clone()),
            ("Made".to_owned(), run.started_at.clone()),
        ],
        generated_at: rfc3339(jiff::Timestamp::now()),
    };
    let files = files(&rendered.report())?;
    atomic::write_json_atomic(&directory.join(METRICS_FILE), &rendered.metrics).map_err(record)?;
    for (name, text) in files {
        atomic::write_atomic(&directory.join(name), text.as_bytes()).map_err(record)?;
    }
    Ok(rendered)
}

/// The copies a pipeline asked for, outside the run.
pub(super) fn copies(rendered: &RenderedComparison, options: &CompareOptions) -> anyhow::Result<()> {
    let failed = |path: &Path, error: std::io::Error| {
        Failure::new(ExitStatus::ArtifactIo, format!("cannot write `{}`", path.display())).because(error)
    };
    if let Some(path) = &options.junit {
        std::fs::write(path, junit_xml(&rendered.report())).map_err(|error| failed(path, error))?;
    }
    if let Some(path) = &options.summary {
        // Other steps of a pipeline write to the same file.
        std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .and_then(|mut file| file.write_all(ci_summary_md(&rendered.report()).as_bytes()))
            .map_err(|error| failed(path, error))?;
    }
    Ok(())
}

/// Prints the answer: JSON for machines, a short text for people.
///
/// # Errors
/// If stdout cannot be written for another reason than that its reader has gone.
pub fn print_summary(rendered: &RenderedComparison, directory: &Path, context: &Context) -> anyhow::Result<()> {
    print_run(&rendered.metrics, directory, "compare.html", context, |color, width| {
        compare_console(&rendered.report(), color, width)
    })
}
