//! Writes the reports of a sweep and prints its answer.

use std::path::Path;

use crate::commands::{Context, print_run};
use crate::diagnostics::ExitStatus;
use crate::record::atomic;
use crate::record::reader::METRICS_FILE;
use crate::record::run_dir::rfc3339;
use crate::record::sweep::{SweepMetrics, read_plan, read_rows};
use crate::record::{RecordError, reader};
use crate::report::sweep::{SweepReport, files, sweep_console};
use crate::runner::summary::Ending;
use crate::runner::sweep::summarize;

/// A sweep with everything its reports are made of.
#[derive(Debug)]
pub struct RenderedSweep {
    /// `metrics.json`.
    pub metrics: SweepMetrics,
    allow_invalid: bool,
    provenance: Vec<(String, String)>,
    generated_at: String,
}

impl RenderedSweep {
    fn report(&self) -> SweepReport<'_> {
        SweepReport { metrics: &self.metrics, provenance: &self.provenance, generated_at: &self.generated_at }
    }

    /// How a sweep that was not interrupted exits. Points that fail or do not fit are its results; without any result it is INVALID.
    pub fn exit_status(&self) -> ExitStatus {
        if self.metrics.validity.is_valid() || self.allow_invalid { ExitStatus::Success } else { ExitStatus::Invalid }
    }
}

/// Reads the sweep in `directory` and writes `metrics.json` and all reports into it. The manifest is the caller's to write, after everything
/// else.
///
/// # Errors
/// If the sweep cannot be read, or a file not be written.
pub fn render_sweep(directory: &Path, ending: Ending, salvage: bool) -> anyhow::Result<RenderedSweep> {
    let record = |error: RecordError| error.into_failure();
    let plan = read_plan(directory).map_err(record)?;
    let (rows, found) = read_rows(directory, salvage).map_err(record)?;
    let run = reader::read_run(directory).map_err(record)?;
    let rendered = RenderedSweep {
        metrics: summarize(&plan, &rows, ending, &found),
        allow_invalid: plan.allow_invalid,
        provenance: vec![
            ("Command".to_owned(), run.argv.join(" ")),
            ("perfprof".to_owned(), run.perfprof_version.clone()),
            ("Run".to_owned(), run.run_id.clone()),
            ("Began".to_owned(), run.started_at.clone()),
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

/// Prints the answer: JSON for machines, a short text for people.
///
/// # Errors
/// If stdout cannot be written for another reason than that its reader has gone.
pub fn print_summary(rendered: &RenderedSweep, directory: &Path, context: &Context) -> anyhow::Result<()> {
    print_run(&rendered.metrics, directory, "report.html", context, |color, width| {
        sweep_console(&rendered.report(), color, width)
    })
}
