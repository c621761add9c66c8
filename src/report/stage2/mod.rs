//! The report of a stage2 run: that of its timeline, with the profiled kernels before it and the commands behind it.
//!
//! A run with one capture has one report of everything. Where each range was captured by itself, each has a report of its own in its folder,
//! and that of the run says what they have in common.

mod commands;
mod kernels;
mod model;
mod sections;
mod words;

pub use model::{CaptureReport, Stage2Report};

pub(super) use sections::sections;
pub(super) use words::{cards, sentences, title, verdict};

use super::analyze::{self, AnalyzeReport, TraceReport};
use super::model::{AssumptionSection, ReportError};
use crate::diagnostics::Diagnostic;

/// Files of a run of stage2 beside those of an analysis, and what each is for.
const FILES: [(&str, &str); 6] = [
    ("kernels.md", "every profiled kernel: what bounds it, where it stands under the roofline, what ncu advises"),
    ("commands.md", "every command with its versions, times and exit codes"),
    ("commands.json", "the same for programs"),
    ("stage2.json", "what was asked for and what became of it; `perfprof report` starts from it"),
    ("ncu/", "the pages of Nsight Compute, and its reports where they are kept"),
    ("runs/", "the runs of the workload, alone and under nsys, where it is `perfprof stage1`"),
];

/// The same of a run with a timeline of its own.
const FILES_WITH_TRACE: [(&str, &str); 7] = [
    FILES[0],
    FILES[1],
    FILES[2],
    FILES[3],
    FILES[4],
    FILES[5],
    (
        "trace.sqlite",
        "the timeline, without the environment and the command lines it was captured with; `perfprof analyze` reads it",
    ),
];

/// Files of the run `report` and what each is for.
pub(super) fn files_of(report: &Stage2Report<'_>) -> &'static [(&'static str, &'static str)] {
    if report.single().is_some() { &FILES_WITH_TRACE } else { &FILES }
}

/// Every file of the reports with its path below the run.
///
/// # Errors
/// If a template or a table cannot be written.
pub fn files(report: &Stage2Report<'_>) -> Result<Vec<(String, String)>, ReportError> {
    let whole = Whole::of(report);
    let parts = whole.parts(report);
    let mut files: Vec<(String, String)> = analyze::files_of(&parts)?
        .into_iter()
        // What only a timeline has is in the folder of each.
        .filter(|(name, _)| parts.coverage.is_some() || ["report.html", "report.md", "assumptions.md"].contains(name))
        .map(|(name, text)| (name.to_owned(), text))
        .collect();
    if parts.coverage.is_none() {
        files.push(("operators.md".to_owned(), sections::operators_md(report)));
    }
    files.push(("kernels.md".to_owned(), kernels::kernels_md(report)));
    files.push(("commands.md".to_owned(), commands::commands_md(report)));
    for capture in report.captures.iter().filter(|capture| !capture.directory.is_empty()) {
        let view = AnalyzeReport {
            metrics: capture.metrics,
            analysis: capture.analysis,
            assumptions: capture.assumptions,
            generated_at: report.generated_at,
        };
        for (name, text) in analyze::files(&view)? {
            files.push((format!("{}/{name}", capture.directory), text));
        }
    }
    Ok(files)
}

/// The summary printed on the console, at most `width` columns wide, with ANSI colours if `color`.
pub fn console(report: &Stage2Report<'_>, color: bool, width: usize) -> String {
    let whole = Whole::of(report);
    analyze::analyze_console(&whole.parts(report), color, width)
}

/// What the parts of a report borrow.
struct Whole {
    devices: Vec<analyze::DeviceLabel>,
    diagnostics: Vec<Diagnostic>,
    assumptions: Vec<AssumptionSection>,
}

impl Whole {
    fn of(report: &Stage2Report<'_>) -> Self {
        let single = report.single();
        let view = single.map(|capture| AnalyzeReport {
            metrics: capture.metrics,
            analysis: capture.analysis,
            assumptions: capture.assumptions,
            generated_at: report.generated_at,
        });
        let mut diagnostics = report.metrics.diagnostics.clone();
        let mut assumptions = report.assumptions.to_vec();
        if let Some(capture) = single {
            diagnostics.extend(capture.metrics.diagnostics.iter().cloned());
            assumptions.extend(capture.assumptions.iter().cloned());
        }
        Self { devices: view.map_or_else(Vec::new, |view| view.device_labels()), diagnostics, assumptions }
    }

    fn parts<'a>(&'a self, report: &'a Stage2Report<'a>) -> TraceReport<'a> {
        let mut parts = match report.single() {
            Some(capture) => {
                let view = AnalyzeReport {
                    metrics: capture.metrics,
                    analysis: capture.analysis,
                    assumptions: &self.assumptions,
                    generated_at: report.generated_at,
                };
                view.parts(&self.devices)
            }
            None => TraceReport::default(),
        };
        parts.run_id = &report.metrics.run_id;
        parts.generated_at = report.generated_at;
        parts.invalid = &report.metrics.validity.reasons;
        parts.diagnostics = &self.diagnostics;
        parts.assumptions = &self.assumptions;
        parts.stage2 = Some(report);
        parts
    }
}
