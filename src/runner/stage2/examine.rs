//! Reads what the tools left behind and analyses it: the same for a run that has just ended and for one that is looked at again.

use std::path::Path;

use crate::analysis::classify::Classifier;
use crate::analysis::steps::PhasePatterns;
use crate::diagnostics::{Diagnostic, Diagnostics, Severity};
use crate::estimate::format::Format;
use crate::record::stage2::{CaptureRecord, ModelRecord, PeaksRecord, Stage2State};
use crate::runner::analyze::{Analysis, AnalyzeSettings, InputFile, PeakSettings, WorkloadSettings, analyze};
use crate::trace::import::{ReadError, ReadErrorKind, ReadOptions};
use crate::trace::ncu::{self, NcuImport};
use crate::trace::nsys;
use crate::trace::timeline::Timeline;

/// A capture that was read and analysed.
#[derive(Debug)]
pub struct Examined {
    /// The capture.
    pub name: String,
    /// What was captured.
    pub timeline: Timeline,
    /// What it says.
    pub analysis: Analysis,
    /// Findings of the reader.
    pub diagnostics: Vec<Diagnostic>,
    /// Its file.
    pub input: InputFile,
}

/// Counters of one profile.
#[derive(Debug)]
pub struct ExaminedProfile {
    /// Number of the profile.
    pub number: u32,
    /// What ncu wrote.
    pub import: NcuImport,
}

/// The model of a run as analyses take it; `None` where a format of it is not known.
pub fn workload(model: &ModelRecord) -> Option<WorkloadSettings> {
    Some(WorkloadSettings {
        name: model.name.clone(),
        architecture: model.architecture.clone(),
        dtype: Format::parse(&model.dtype)?,
        kv_dtype: Format::parse(&model.kv_dtype)?,
        batch: model.batch,
        prompt_tokens: model.prompt_tokens,
        said_by: model.said_by.clone(),
    })
}

/// Ceilings of a run as analyses take them.
pub(super) fn peaks(peaks: &PeaksRecord) -> PeakSettings {
    PeakSettings {
        flops_per_s: peaks.flops_per_s,
        bytes_per_s: peaks.bytes_per_s,
        dtype: Format::parse(&peaks.dtype).unwrap_or(Format::BF16),
    }
}

/// Reads the timeline of `capture` below `directory` and analyses it.
///
/// # Errors
/// If it cannot be read.
pub fn examine(
    directory: &Path,
    capture: &CaptureRecord,
    state: &Stage2State,
    options: &ReadOptions<'_>,
    progress: &dyn Fn(&'static str),
) -> Result<Examined, ReadError> {
    let name = capture.database.as_deref().unwrap_or_default();
    let path = directory.join(name);
    let import = nsys::read(&path, options)?;
    let workload = state.model.as_ref().and_then(workload);
    let (classifier, patterns) = (Classifier::builtin(), PhasePatterns::default());
    let analysis = analyze(
        &import.timeline,
        &AnalyzeSettings {
            classifier: &classifier,
            patterns: &patterns,
            workload: workload.as_ref(),
            peaks: &peaks(&state.peaks),
            window_ns: None,
            progress,
        },
    )
    .map_err(|error| ReadError::new(&path, ReadErrorKind::NotATrace, error.to_string()))?;
    let source = import.timeline.sources.first();
    let input = InputFile {
        name: name.to_owned(),
        bytes: std::fs::metadata(&path).map_or(0, |data| data.len()),
        tool: source.map_or_else(String::new, |source| match &source.version {
            Some(version) => format!("{} {version}", source.tool),
            None => source.tool.clone(),
        }),
    };
    Ok(Examined {
        name: capture.name.clone(),
        timeline: import.timeline,
        analysis,
        diagnostics: import.diagnostics,
        input,
    })
}

/// Reads the counters of every profile that has some, with the advice of the tool beside them.
pub fn profiles(directory: &Path, state: &Stage2State) -> (Vec<ExaminedProfile>, Vec<Diagnostic>) {
    let mut found = Diagnostics::default();
    let mut profiles = Vec::new();
    for record in &state.profiles {
        let Some(raw) = &record.raw else { continue };
        match ncu::read(&directory.join(raw), &ReadOptions::default()) {
            Ok(mut import) => {
                if let Some(details) = &record.details
                    && let Ok(details) = ncu::read(&directory.join(details), &ReadOptions::default())
                {
                    advise(&mut import, &details);
                }
                // Where the file stands below the run, not its bare name: there are many of them.
                import.report.file.clone_from(raw);
                profiles.push(ExaminedProfile { number: record.number, import });
            }
            Err(error) => found.note("ncu_file_unreadable", Severity::Warn, format!("`{raw}`: {}", error.detail)),
        }
    }
    (profiles, found.into_vec())
}

/// Takes the tool's advice on each launch over from another page of the same profile.
fn advise(import: &mut NcuImport, details: &NcuImport) {
    for kernel in &mut import.report.kernels {
        let same = details.report.kernels.iter().find(|other| {
            other.launch_id == kernel.launch_id && other.name == kernel.name && other.process == kernel.process
        });
        if let Some(same) = same {
            kernel.rules.extend(same.rules.iter().cloned());
        }
    }
}
