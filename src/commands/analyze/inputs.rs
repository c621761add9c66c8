//! Reads the files given, each with the reader of its format, with progress.

use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};

use super::super::Context;
use super::super::interrupt::Interrupt;
use crate::diagnostics::{ExitStatus, Failure};
use crate::runner::analyze::InputFile;
use crate::trace::detect::{TraceFormat, detect};
use crate::trace::import::{Import, Progress, ReadError, ReadErrorKind, ReadOptions};
use crate::trace::ncu::NcuImport;
use crate::trace::{chrome, merge, ncu, nsys};

/// What was read.
#[derive(Debug)]
pub(super) struct Read {
    /// All traces as one.
    pub trace: Import,
    /// All Nsight Compute files.
    pub ncu: Vec<NcuImport>,
    /// The files, in the order given.
    pub files: Vec<InputFile>,
    /// Their paths, for hashing.
    pub paths: Vec<PathBuf>,
}

/// A reader's error as a failure of the program.
#[expect(clippy::needless_pass_by_value, reason = "it stands in `map_err`")]
pub(super) fn failure(error: ReadError) -> Failure {
    let status = match error.kind {
        ReadErrorKind::Interrupted => ExitStatus::Interrupted,
        _ => ExitStatus::CouldNotStart,
    };
    error.hints.iter().fold(Failure::new(status, error.to_string()), |failure, hint| failure.hint(hint.clone()))
}

pub(super) fn read(
    paths: &[PathBuf],
    device_only: bool,
    context: &Context,
    interrupt: &Interrupt,
) -> Result<Read, Failure> {
    // All formats first: a typo in the last name must not cost the reading of the others.
    let formats = paths.iter().map(|path| detect(path)).collect::<Result<Vec<_>, _>>().map_err(failure)?;
    let (mut traces, mut reports, mut files) = (Vec::new(), Vec::new(), Vec::new());
    for (path, format) in paths.iter().zip(formats) {
        let bar = bar(context, path);
        let progress = |at: Progress| {
            if let Some(bar) = &bar {
                bar.set_length(at.total);
                bar.set_position(at.done);
            }
        };
        let cancelled = || interrupt.asked();
        let options = ReadOptions {
            file: u16::try_from(traces.len()).map_err(|_| Failure::new(ExitStatus::Usage, "more than 65535 files"))?,
            device_only,
            progress: &progress,
            cancelled: &cancelled,
        };
        let bytes = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let tool = match format {
            TraceFormat::Nsys | TraceFormat::Chrome => {
                let import = match format {
                    TraceFormat::Nsys => nsys::read(path, &options),
                    _ => chrome::read(path, &options),
                }
                .map_err(failure)?;
                let tool = import.timeline.sources.first().map_or_else(String::new, describe);
                traces.push(import);
                tool
            }
            TraceFormat::Ncu => {
                reports.push(ncu::read(path, &options).map_err(failure)?);
                "Nsight Compute CSV".to_owned()
            }
        };
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
        files.push(InputFile { name, bytes, tool });
    }
    let trace = if traces.len() == 1 { traces.remove(0) } else { merge::merge(traces) };
    Ok(Read { trace, ncu: reports, files, paths: paths.to_vec() })
}

fn describe(source: &crate::trace::places::Source) -> String {
    let mut text = source.tool.clone();
    if let Some(version) = &source.version {
        text.push_str(&format!(" {version}"));
    }
    if let Some(schema) = &source.schema {
        text.push_str(&format!(" (schema {schema})"));
    }
    text
}

fn bar(context: &Context, path: &Path) -> Option<ProgressBar> {
    context.progress.then(|| {
        let bar = ProgressBar::new(0);
        let style = ProgressStyle::with_template("reading {msg} {bar:30} {percent} % {elapsed}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸─"));
        let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        bar.set_message(crate::diagnostics::escape_control(&name));
        bar
    })
}
