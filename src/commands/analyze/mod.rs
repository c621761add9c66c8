//! `perfprof analyze`: reads traces that other tools made and explains them.

mod exports;
mod inputs;
mod settings;
mod write;

use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use super::Context;
use super::interrupt::Interrupt;
use crate::analysis::nsys_reports::{self, NsysReport};
use crate::diagnostics::{ExitStatus, Failure};
use crate::record::redact::Redactor;
use crate::runner::analyze::{PeakSettings, WorkloadSettings};

pub use exports::Export;
pub(crate) use settings::{name_rules, workload_of};

/// How often the main thread looks whether the user wants to stop.
const LOOK: Duration = Duration::from_millis(50);

/// Options of `perfprof analyze`.
#[derive(Debug, Clone, Default)]
pub struct AnalyzeOptions {
    /// Trace files and `key=value` settings, in any order.
    pub arguments: Vec<String>,
    /// A stage1 run that says which model ran, at which batch and length.
    pub run: Option<String>,
    /// Reports of `nsys stats` to print instead of an analysis.
    pub nsys_reports: Vec<String>,
    /// What else to write: `FORMAT` or `FORMAT=FILE`.
    pub exports: Vec<String>,
    /// `BEGIN..END` of the stretch the timeline of the report shows.
    pub window: Option<String>,
    /// YAML file with rules for kernel classes and patterns for phases.
    pub rules: Option<PathBuf>,
}

/// Runs `perfprof analyze`.
pub fn run(options: &AnalyzeOptions, context: &Context) -> anyhow::Result<ExitStatus> {
    let (paths, overrides) = settings::split_arguments(&options.arguments);
    if paths.is_empty() {
        return Err(Failure::new(ExitStatus::Usage, "no trace was given")
            .hint("name one or more files: `perfprof analyze report.sqlite`, `perfprof analyze rank*.json.gz`")
            .into());
    }
    // What can be refused is refused before a gigabyte is read.
    let reports = options
        .nsys_reports
        .iter()
        .flat_map(|list| list.split(','))
        .map(|name| {
            name.trim().parse::<NsysReport>().map_err(|error| {
                Failure::new(ExitStatus::Usage, error.to_string()).hint(format!(
                    "reports: {}",
                    nsys_reports::REPORTS.map(|(name, arguments, _)| format!("{name}{arguments}")).join(", ")
                ))
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    let exports = options.exports.iter().map(|text| Export::parse(text)).collect::<Result<Vec<_>, _>>()?;
    let settings = settings::Settings::resolve(options, &overrides, context)?;

    // Sums over kernels and copies need neither calls nor ranges, which are most of a file.
    let device_only = !reports.is_empty() && reports.iter().all(|report| report.is_of_device_work());
    let interrupt = Interrupt::install()?;
    let redactor = Redactor::from_env();
    let context = context.clone();
    let worker_interrupt = interrupt.clone();
    let (sender, receiver) = mpsc::channel();
    // The work runs beside the main thread, which only waits: so Ctrl-C ends the program at once, wherever an analysis is.
    std::thread::Builder::new().name("analyze".to_owned()).spawn(move || {
        let done = (|| {
            let read = inputs::read(&paths, device_only, &context, &worker_interrupt)?;
            if reports.is_empty() {
                write::analyze(read, &settings, &exports, &context, &redactor)
            } else {
                print_reports(&reports, &read)
            }
        })();
        // The main thread may have left.
        let _ = sender.send(done);
    })?;
    loop {
        match receiver.recv_timeout(LOOK) {
            Ok(done) => return done,
            Err(mpsc::RecvTimeoutError::Timeout) if interrupt.asked() => return Ok(interrupt.status()),
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                return Err(Failure::new(
                    ExitStatus::CouldNotStart,
                    "the analysis ended without an answer; this is a defect",
                )
                .hint("run again with `-v` and report what it prints")
                .into());
            }
        }
    }
}

/// What `overrides` say of the model that a trace is of, and of the ceilings; settings that mean nothing to a trace are refused.
pub(super) fn told(
    overrides: &[String],
    context: &Context,
) -> anyhow::Result<(Option<WorkloadSettings>, PeakSettings)> {
    let settings = settings::Settings::resolve(&AnalyzeOptions::default(), overrides, context)?;
    Ok((settings.workload, settings.peaks))
}

fn print_reports(reports: &[NsysReport], read: &inputs::Read) -> anyhow::Result<ExitStatus> {
    let text: Vec<String> = reports.iter().map(|report| nsys_reports::render(*report, &read.trace.timeline)).collect();
    super::print_answer(&text.join("\n"))?;
    Ok(ExitStatus::Success)
}

/// Runs `perfprof analyze scrub`.
pub fn scrub(source: &std::path::Path, target: &std::path::Path, context: &Context) -> anyhow::Result<ExitStatus> {
    let report = crate::trace::nsys::scrub(source, target).map_err(inputs::failure)?;
    let text = if context.json {
        serde_json::to_string_pretty(&report)? + "\n"
    } else {
        let mut text = String::new();
        for row in &report.removed {
            text.push_str(&format!("{:<40} {:>8} deleted {:>8} blanked\n", row.table, row.deleted, row.blanked));
        }
        if report.kept_in_activity > 0 {
            text.push_str(&format!(
                "{} pieces of removed text are also in names of activity rows, which stay as they are\n",
                report.kept_in_activity
            ));
        }
        text.push_str(&format!("{}\n", target.display()));
        text
    };
    super::print_answer(&text)?;
    Ok(ExitStatus::Success)
}
