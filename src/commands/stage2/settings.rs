//! What runs, and with which tools.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Stage2Options;
use crate::commands::{Context, analyze, stage1, wiring};
use crate::config::compose::Composed;
use crate::config::overrides;
use crate::config::provenance::Origin;
use crate::config::schema::choice::TraceMode;
use crate::config::schema::stage2::{Stage2Config, Stage2Settings};
use crate::diagnostics::{Diagnostic, ExitStatus, Failure, Severity};
use crate::hardware::tools::{NCU, NSYS, Tool, ToolState, find_on_path};
use crate::record::stage2::{ModelRecord, PeaksRecord, ToolRecord};
use crate::runner::analyze::{PeakSettings, WorkloadSettings};
use crate::runner::stage2::Tools;

/// How long a tool may take to say its version: it may lie on a slow disk.
const VERSION_LIMIT: Duration = Duration::from_secs(30);
/// Repeats of a traced run where nobody says otherwise: a timeline of more says the same.
const REPEATS: u32 = 3;

/// What is profiled.
#[derive(Debug)]
pub(super) struct Workload {
    kind: Kind,
    /// Settings of `stage1`, or of the model behind another program.
    overrides: Vec<String>,
    model: Option<ModelRecord>,
    peaks: PeaksRecord,
    notes: Vec<Diagnostic>,
}

#[derive(Debug)]
enum Kind {
    /// `perfprof stage1`; the file of this program.
    Stage1(PathBuf),
    /// Another program with its arguments.
    Program(Vec<OsString>),
}

impl Workload {
    pub(super) fn resolve(
        options: &Stage2Options,
        tree: &Composed,
        config: &Stage2Config,
        context: &Context,
    ) -> anyhow::Result<Self> {
        let for_workload: Vec<String> = options.overrides.iter().filter(|text| !is_of_stage2(text)).cloned().collect();
        if options.program.is_empty() {
            Self::stage1(for_workload, tree, config, context)
        } else {
            Self::other(options, for_workload, context)
        }
    }

    fn stage1(
        mut overrides: Vec<String>,
        tree: &Composed,
        config: &Stage2Config,
        context: &Context,
    ) -> anyhow::Result<Self> {
        if config.stage1.trace == TraceMode::Cupti {
            return Err(Failure::new(ExitStatus::Usage, "`trace=cupti` and nsys cannot trace one process together")
                .hint("leave it out: stage2 traces by nsys")
                .into());
        }
        // Refuses what cannot run, before a directory is made.
        drop(stage1::prepare(&config.stage1)?);
        let estimate = wiring::estimate_options(&overrides, context)?;
        let given = |key: &str| match tree.provenance.origin(key) {
            Some(Origin::Override { .. }) => true,
            Some(Origin::File { file, .. }) => !file.ends_with("config.yaml"),
            _ => false,
        };
        if !given("repeats") {
            overrides.push(format!("repeats={REPEATS}"));
        }
        // One observer at a time: spans would be in the timeline, and their cost in its times.
        overrides.extend(["trace=none", "profiling.span_repeats=0"].map(str::to_owned));
        let mut notes = Vec::new();
        if config.stage1.cases.len() > 1 {
            let text =
                "the workload has several cases: MFU, MBU and the model's roofline are of the first one's lengths";
            notes.push(Diagnostic::new("several_cases", Severity::Warn, text));
        }
        let program = std::env::current_exe().map_err(|error| {
            Failure::new(ExitStatus::CouldNotStart, "cannot find this program's own file, which is the workload")
                .because(error)
        })?;
        let peaks = PeaksRecord {
            flops_per_s: estimate.peak_flops_per_s,
            bytes_per_s: estimate.peak_bytes_per_s,
            dtype: estimate.dtype.name().to_owned(),
        };
        Ok(Self { kind: Kind::Stage1(program), overrides, model: None, peaks, notes })
    }

    fn other(options: &Stage2Options, overrides: Vec<String>, context: &Context) -> anyhow::Result<Self> {
        let (model, peaks) = analyze::told(&overrides, context)?;
        let mut program = options.program.clone();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = program.first().and_then(|name| resolve_program(name, &path));
        let Some(found) = found else {
            let name = program.first().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
            return Err(Failure::new(ExitStatus::CouldNotStart, format!("`{name}` is no program that can be run"))
                .hint("name an executable file, or a program on PATH, after `--`")
                .into());
        };
        program[0] = found.into();
        Ok(Self {
            kind: Kind::Program(program),
            overrides,
            model: model.map(|model| record(&model)),
            peaks: peaks_record(&peaks),
            notes: Vec::new(),
        })
    }

    /// True for `perfprof stage1`.
    pub(super) fn is_own(&self) -> bool {
        matches!(self.kind, Kind::Stage1(_))
    }

    /// The file that runs.
    pub(super) fn program(&self) -> &Path {
        match &self.kind {
            Kind::Stage1(path) => path,
            Kind::Program(argv) => argv.first().map_or(Path::new(""), Path::new),
        }
    }

    /// The command line of another program; empty for `stage1`, whose run ids differ.
    pub(super) fn argv(&self) -> Vec<String> {
        self.words().iter().map(|word| word.to_string_lossy().into_owned()).collect()
    }

    pub(super) fn words(&self) -> &[OsString] {
        match &self.kind {
            Kind::Stage1(_) => &[],
            Kind::Program(argv) => argv,
        }
    }

    pub(super) fn overrides(&self) -> &[String] {
        &self.overrides
    }
    pub(super) fn model(&self) -> Option<&ModelRecord> {
        self.model.as_ref()
    }
    pub(super) fn peaks(&self) -> &PeaksRecord {
        &self.peaks
    }
    pub(super) fn notes(&self) -> &[Diagnostic] {
        &self.notes
    }
}

/// Whether an override is about the profile and not about the workload; the name of a run is that of the profile.
fn is_of_stage2(text: &str) -> bool {
    let Ok(parsed) = overrides::parse(text) else { return false };
    let key = parsed.key.as_str();
    key == "stage2"
        || key.starts_with("stage2.")
        || matches!(key, "run.id" | "run.tag" | "run.notes" | "run.allow_invalid")
}

/// The file that `name` runs, as a shell finds it.
fn resolve_program(name: &OsStr, path: &OsStr) -> Option<PathBuf> {
    if Path::new(name).components().count() > 1 {
        let folder = Path::new(name).parent()?;
        return find_on_path(Path::new(name).file_name()?.to_str()?, folder.as_os_str());
    }
    find_on_path(name.to_str()?, path)
}

pub(super) fn record(model: &WorkloadSettings) -> ModelRecord {
    ModelRecord {
        name: model.name.clone(),
        architecture: model.architecture.clone(),
        dtype: model.dtype.name().to_owned(),
        kv_dtype: model.kv_dtype.name().to_owned(),
        batch: model.batch,
        prompt_tokens: model.prompt_tokens,
        said_by: model.said_by.clone(),
    }
}

fn peaks_record(peaks: &PeakSettings) -> PeaksRecord {
    PeaksRecord { flops_per_s: peaks.flops_per_s, bytes_per_s: peaks.bytes_per_s, dtype: peaks.dtype.name().to_owned() }
}

/// The tools that are asked for, and what is known of them.
pub(super) fn tools(settings: &Stage2Settings) -> (Tools, Vec<ToolRecord>) {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut records = Vec::new();
    let mut look = |tool: Tool, asked: bool, file: Option<&PathBuf>| {
        if !asked {
            return None;
        }
        let state = match file {
            Some(file) => tool.probe_file(file.clone(), &path, VERSION_LIMIT),
            None => tool.probe(&path, VERSION_LIMIT),
        };
        let (usable, record) = judged(tool, &state, file);
        records.push(record);
        usable
    };
    let nsys = look(NSYS, settings.nsys.enabled, settings.nsys.path.as_ref());
    let ncu = look(NCU, settings.ncu.enabled, settings.ncu.path.as_ref());
    (Tools { nsys, ncu }, records)
}

/// A tool that answers strangely is not used: another program may have its name.
fn judged(tool: Tool, state: &ToolState, file: Option<&PathBuf>) -> (Option<PathBuf>, ToolRecord) {
    let record = |path: Option<&Path>, version: Option<&String>, problem: Option<String>| ToolRecord {
        name: tool.name.to_owned(),
        path: path.map(|path| path.display().to_string()),
        version: version.cloned(),
        problem,
    };
    match state {
        ToolState::Found { path, version } => (Some(path.clone()), record(Some(path), Some(version), None)),
        ToolState::Missing => {
            let problem = match file {
                Some(file) => format!("`{}` is no program", file.display()),
                None => format!("`{}` is not on PATH", tool.name),
            };
            (None, record(file.map(PathBuf::as_path), None, Some(problem)))
        }
        ToolState::Unexpected { path, said } => {
            let problem = format!("`{}` does not answer `--version` like {}: {said}", path.display(), tool.says);
            (None, record(Some(path), None, Some(problem)))
        }
        ToolState::TimedOut { path, limit } => {
            let problem = format!("`{} --version` did not end within {} s", path.display(), limit.as_secs());
            (None, record(Some(path), None, Some(problem)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_the_profile_do_not_reach_the_workload() {
        for (text, of_stage2) in [
            ("stage2.ncu.top_n=3", true),
            ("stage2=timeline", true),
            ("+stage2.nsys.extra_args=[a]", true),
            ("run.id=x", true),
            ("run=quick", false),
            ("repeats=3", false),
            ("prompt='stage2.ncu=1'", false),
        ] {
            assert_eq!(is_of_stage2(text), of_stage2, "{text}");
        }
    }
}
