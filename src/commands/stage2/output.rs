//! Derives every summary of a stage2 run from what the tools left on disk, writes them, and prints the answer.

use std::path::Path;

use crate::commands::{Context, print_run};
use crate::diagnostics::{Diagnostic, ExitStatus, Severity};
use crate::record::reader::{self, METRICS_FILE};
use crate::record::run_dir::rfc3339;
use crate::record::stage2::{CommandsFile, Stage2State, read_commands, read_state};
use crate::record::{RecordError, atomic};
use crate::report::AssumptionSection;
use crate::report::stage2::{CaptureReport, Stage2Report, console, files};
use crate::runner::analyze::assumptions as of_trace;
use crate::runner::stage2::{Examined, Read, Stage2Metrics, assumptions, examine, profiles, summarize, workload};
use crate::runner::summary::Ending;
use crate::trace::import::ReadOptions;

/// A run with everything its reports are made of.
#[derive(Debug)]
pub struct RenderedStage2 {
    /// `metrics.json`.
    pub metrics: Stage2Metrics,
    commands: CommandsFile,
    examined: Vec<Examined>,
    /// Of each examined capture, and then of the run.
    assumptions: Vec<Vec<AssumptionSection>>,
    error: Option<String>,
    generated_at: String,
}

impl RenderedStage2 {
    /// Whether its numbers may be relied on.
    pub fn is_valid(&self) -> bool {
        self.metrics.validity.is_valid()
    }

    /// How a run that was not interrupted exits.
    pub fn exit_status(&self) -> ExitStatus {
        if self.is_valid() { ExitStatus::Success } else { ExitStatus::Invalid }
    }

    fn captures(&self) -> Vec<CaptureReport<'_>> {
        self.examined
            .iter()
            .zip(&self.assumptions)
            .filter_map(|(examined, assumptions)| {
                let block = self.metrics.captures.iter().find(|block| block.name == examined.name)?;
                Some(CaptureReport {
                    name: &block.name,
                    directory: &block.directory,
                    metrics: block.analysis.as_ref()?,
                    analysis: &examined.analysis,
                    assumptions,
                })
            })
            .collect()
    }

    fn report<'a>(&'a self, captures: &'a [CaptureReport<'a>]) -> Stage2Report<'a> {
        Stage2Report {
            metrics: &self.metrics,
            captures,
            commands: &self.commands.commands,
            assumptions: self.assumptions.last().map_or(&[], Vec::as_slice),
            error: self.error.as_deref(),
            generated_at: &self.generated_at,
        }
    }
}

/// Reads the run in `directory`, but for the timelines that were `examined` already, and writes `metrics.json` and all reports into it. The
/// manifest is the caller's to write, after everything else.
///
/// # Errors
/// If the run cannot be read, or a file not be written.
pub fn render_stage2(
    directory: &Path,
    ending: Ending,
    error: Option<&str>,
    examined: Option<Vec<Examined>>,
) -> anyhow::Result<RenderedStage2> {
    let record = |error: RecordError| error.into_failure();
    let state = read_state(directory).map_err(record)?;
    let run = reader::read_run(directory).map_err(record)?;
    // A run that was killed before its first command has none.
    let commands = read_commands(directory).or_else(|error| match error {
        RecordError::Read { .. } => Ok(CommandsFile {
            schema_version: state.schema_version,
            run_id: state.run_id.clone(),
            commands: Vec::new(),
        }),
        other => Err(other.into_failure()),
    })?;
    let mut found = Vec::new();
    let examined = examined.unwrap_or_else(|| again(directory, &state, &mut found));
    let (counted, unread) = profiles(directory, &state);
    found.extend(unread);
    let read = Read { state: &state, captures: &examined, profiles: &counted, found: &found, ending };
    let metrics = summarize(&read);
    let model = state.model.as_ref().and_then(workload);
    let titled = |sections: Vec<(String, Vec<(String, String)>)>| -> Vec<AssumptionSection> {
        sections.into_iter().map(|(title, lines)| AssumptionSection { title, lines }).collect()
    };
    let mut all: Vec<Vec<AssumptionSection>> = examined
        .iter()
        .map(|one| {
            let block = metrics.captures.iter().find(|block| block.name == one.name);
            let analysis = block.and_then(|block| block.analysis.as_ref());
            analysis
                .map_or_else(Vec::new, |metrics| titled(of_trace::sections(metrics, &one.analysis, model.as_ref(), 0)))
        })
        .collect();
    all.push(titled(assumptions(&metrics, &state.settings)));
    let rendered = RenderedStage2 {
        metrics,
        commands,
        examined,
        assumptions: all,
        error: error.map(str::to_owned).or(run.error),
        generated_at: rfc3339(jiff::Timestamp::now()),
    };
    let captures = rendered.captures();
    let files = files(&rendered.report(&captures))?;
    atomic::write_json_atomic(&directory.join(METRICS_FILE), &rendered.metrics).map_err(record)?;
    for capture in captures.iter().filter(|capture| !capture.directory.is_empty()) {
        let path = directory.join(capture.directory).join(METRICS_FILE);
        atomic::write_json_atomic(&path, capture.metrics).map_err(record)?;
    }
    for (name, text) in files {
        atomic::write_atomic(&directory.join(name), text.as_bytes()).map_err(record)?;
    }
    drop(captures);
    Ok(rendered)
}

/// Reads the timelines of a run again.
fn again(directory: &Path, state: &Stage2State, found: &mut Vec<Diagnostic>) -> Vec<Examined> {
    let mut all = Vec::new();
    for capture in state.captures.iter().filter(|capture| capture.database.is_some() && capture.error.is_none()) {
        match examine(directory, capture, state, &ReadOptions::default(), &|_| {}) {
            Ok(examined) => all.push(examined),
            Err(error) => {
                let text = format!("the timeline of `{}` cannot be read any more: {}", capture.name, error.detail);
                found.push(Diagnostic::new("timeline_unreadable", Severity::DataLoss, text));
            }
        }
    }
    all
}

/// Prints the answer: JSON for machines, a short text for people.
///
/// # Errors
/// If stdout cannot be written for another reason than that its reader has gone.
pub fn print_summary(rendered: &RenderedStage2, directory: &Path, context: &Context) -> anyhow::Result<()> {
    let captures = rendered.captures();
    print_run(&rendered.metrics, directory, "report.html", context, |color, width| {
        console(&rendered.report(&captures), color, width)
    })
}
