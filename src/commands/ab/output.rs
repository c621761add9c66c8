//! Writes the reports of a study and prints its answer.

use std::path::Path;

use crate::commands::{Context, print_run};
use crate::compare::gate::Standing;
use crate::diagnostics::{ExitStatus, Failure};
use crate::record::atomic;
use crate::record::reader::METRICS_FILE;
use crate::record::run_dir::rfc3339;
use crate::record::{RecordError, reader};
use crate::report::compare::{CompareReport, Distribution, compare_console, distributions, files};
use crate::runner::ab::rebuild::{RebuildError, Rebuilt, rebuild};

/// A study with everything its reports are made of.
#[derive(Debug)]
pub struct RenderedStudy {
    /// The study.
    pub rebuilt: Rebuilt,
    distributions: Vec<Distribution>,
    provenance: Vec<(String, String)>,
    generated_at: String,
}

impl RenderedStudy {
    fn report(&self) -> CompareReport<'_> {
        CompareReport {
            metrics: &self.rebuilt.metrics,
            distributions: &self.distributions,
            provenance: &self.provenance,
            assumptions: &[],
            generated_at: &self.generated_at,
        }
    }

    /// How a study that was neither interrupted nor failed exits: INVALID weighs more than the gate, whose evidence it takes away.
    pub fn exit_status(&self) -> ExitStatus {
        let metrics = &self.rebuilt.metrics;
        if !metrics.validity.is_valid() && !self.rebuilt.context.allow_invalid {
            return ExitStatus::Invalid;
        }
        match metrics.gate.as_ref().map(crate::compare::result::GateResult::standing) {
            Some(Standing::Failed) => ExitStatus::Regression,
            Some(Standing::CouldNotJudge) => ExitStatus::CouldNotStart,
            Some(Standing::Passed) | None => ExitStatus::Success,
        }
    }
}

/// Reads the study in `directory` and writes `metrics.json` and all reports into it. The manifest is the caller's to write, after everything
/// else.
///
/// # Errors
/// If the study cannot be read, or a file not be written.
pub fn render_study(directory: &Path, salvage: bool) -> anyhow::Result<RenderedStudy> {
    let record = |error: RecordError| error.into_failure();
    let rebuilt = rebuild(directory, salvage).map_err(|error| match error {
        RebuildError::Record(error) => error.into_failure(),
        RebuildError::Judge(error) => Failure::new(ExitStatus::CouldNotStart, error.to_string()),
    })?;
    let run = reader::read_run(directory).map_err(record)?;
    let rendered = RenderedStudy {
        distributions: distributions(&rebuilt.subjects),
        provenance: vec![
            ("Command".to_owned(), run.argv.join(" ")),
            ("perfprof".to_owned(), run.perfprof_version.clone()),
            ("Run".to_owned(), run.run_id.clone()),
            ("Began".to_owned(), run.started_at.clone()),
        ],
        generated_at: rfc3339(jiff::Timestamp::now()),
        rebuilt,
    };
    let files = files(&rendered.report())?;
    atomic::write_json_atomic(&directory.join(METRICS_FILE), &rendered.rebuilt.metrics).map_err(record)?;
    for (name, text) in files {
        atomic::write_atomic(&directory.join(name), text.as_bytes()).map_err(record)?;
    }
    Ok(rendered)
}

/// Prints the answer: JSON for machines, a short text for people.
///
/// # Errors
/// If stdout cannot be written for another reason than that its reader has gone.
pub fn print_summary(rendered: &RenderedStudy, directory: &Path, context: &Context) -> anyhow::Result<()> {
    let metrics = &rendered.rebuilt.metrics;
    print_run(metrics, directory, "compare.html", context, |color, width| {
        compare_console(&rendered.report(), color, width)
    })
}
