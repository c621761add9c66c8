//! `perfprof stage2`: a workload under nsys and ncu, then the analysis of what they recorded.

mod host;
mod output;
mod settings;

use std::ffi::OsString;

use super::Context;
use super::interrupt::Interrupt;
use crate::config::compose::{ComposeRequest, Composed, compose};
use crate::config::schema::stage2::Stage2Config;
use crate::diagnostics::{Diagnostics, ExitStatus, Failure, Severity};
use crate::hardware::contention::{ContentionThresholds, machine_state};
use crate::hardware::identify;
use crate::record::environment::{self, ENVIRONMENT_FILE};
use crate::record::inputs::{FileInput, INPUTS_FILE, to_yaml};
use crate::record::redact::Redactor;
use crate::record::run_dir::{RunDir, RunOptions, RunStatus};
use crate::record::stage2::{STAGE2_SCHEMA_VERSION, Stage2State};
use crate::record::{RecordError, manifest};
use crate::runner::stage2::{self, Stage2End, Tools};
use crate::runner::summary::Ending;

use self::host::Host;
use self::settings::{Workload, tools};

pub use output::{print_summary, render_stage2};

/// How long the machine is looked at before a run.
const LOOK: std::time::Duration = std::time::Duration::from_millis(200);

/// Options of `perfprof stage2`.
#[derive(Debug, Clone, Default)]
pub struct Stage2Options {
    /// `key=value` overrides in order.
    pub overrides: Vec<String>,
    /// The program to profile, with its arguments; empty for `perfprof stage1`.
    pub program: Vec<OsString>,
    /// Print the composed settings and their origins, run nothing.
    pub print_config: bool,
}

/// Runs `perfprof stage2`.
pub fn run(options: &Stage2Options, context: &Context) -> anyhow::Result<ExitStatus> {
    let request = ComposeRequest {
        command: "stage2".to_owned(),
        overrides: options.overrides.clone(),
        run_config: None,
        config_dir: context.config_dir.clone(),
    };
    let tree = compose(&request).map_err(Failure::from)?;
    let config = tree.stage2().map_err(Failure::from)?;
    if options.print_config {
        super::print_answer(&Redactor::from_env().text(&tree.to_yaml_with_provenance()))?;
        return Ok(ExitStatus::Success);
    }
    // What can be refused is refused before a directory is made.
    let workload = Workload::resolve(options, &tree, &config, context)?;
    let (tools, found) = tools(&config.stage2);
    let interrupt = Interrupt::install()?;
    let run_options = RunOptions {
        id: config.stage1.run.id.clone(),
        argv: None,
        tag: config.stage1.run.tag.clone(),
        config_sha256: Some(tree.sha256()),
    };
    let mut directory =
        RunDir::create_with(&context.output_root, "stage2", run_options).map_err(RecordError::into_failure)?;
    let redactor = directory.redactor().clone();
    let state = Stage2State {
        schema_version: STAGE2_SCHEMA_VERSION,
        run_id: directory.run_id().to_owned(),
        program: (!workload.is_own()).then(|| redactor.argv(&workload.argv())),
        overrides: redactor.argv(workload.overrides()),
        settings: config.stage2.clone(),
        model: workload.model().cloned(),
        peaks: workload.peaks().clone(),
        tools: found,
        plain: None,
        captures: Vec::new(),
        profiles: Vec::new(),
        diagnostics: Vec::new(),
    };
    let outcome = run_in(&mut directory, state, &tree, &config, &workload, &tools, context, &interrupt);
    if let Err(error) = &outcome
        && directory.record().status == RunStatus::Running
    {
        // The directory may be gone or full; the error that brought us here matters more than a second one.
        let _ = directory.finish(RunStatus::Failed, Some(&format!("{error:#}")));
    }
    outcome
}

#[expect(clippy::too_many_arguments, reason = "everything a run begins with, once")]
fn run_in(
    directory: &mut RunDir,
    mut state: Stage2State,
    tree: &Composed,
    config: &Stage2Config,
    workload: &Workload,
    tools: &Tools,
    context: &Context,
    interrupt: &Interrupt,
) -> anyhow::Result<ExitStatus> {
    let record = |error: RecordError| error.into_failure();
    let text = directory.redactor().text(&tree.to_yaml_with_provenance());
    directory.write("config.yaml", text.as_bytes()).map_err(record)?;
    let gpu = serde_json::to_value(&identify::machine().gpu)?;
    directory.write_json(ENVIRONMENT_FILE, &environment::capture(gpu)).map_err(record)?;
    directory.write(INPUTS_FILE, to_yaml(&inputs(workload))?.as_bytes()).map_err(record)?;
    let mut found = Diagnostics::default();
    for warning in machine_state(LOOK).warnings(&ContentionThresholds::default()) {
        found.note("busy_machine", Severity::Warn, warning);
    }
    found.extend(workload.notes().iter().cloned());
    state.diagnostics = found.into_vec();

    let mut host = Host::new(directory, workload, &state, context, interrupt)?;
    let (end, examined) = stage2::run(&mut state, tools, &mut host)?;
    host.close();

    let ending = match &end {
        Stage2End::Complete => Ending::Complete,
        Stage2End::Interrupted => Ending::Interrupted,
        Stage2End::Failed(..) => Ending::Failed,
    };
    let error = match &end {
        Stage2End::Failed(why, _) => Some(directory.redactor().text(why)),
        _ => None,
    };
    let rendered = render_stage2(directory.path(), ending, error.as_deref(), Some(examined))?;
    let status = match ending {
        Ending::Interrupted => RunStatus::Interrupted,
        Ending::Failed => RunStatus::Failed,
        Ending::Complete if rendered.is_valid() => RunStatus::Complete,
        Ending::Complete => RunStatus::Invalid,
    };
    directory.finish(status, error.as_deref()).map_err(record)?;
    if let Stage2End::Failed(_, hints) = end {
        let why = error.unwrap_or_default();
        let failure =
            hints.iter().fold(Failure::new(ExitStatus::CouldNotStart, why), |failure, hint| failure.hint(hint.clone()));
        return Err(failure.hint(format!("what was finished is in `{}`", directory.path().display())).into());
    }
    print_summary(&rendered, directory.path(), context)?;
    Ok(match status {
        RunStatus::Interrupted => interrupt.status(),
        RunStatus::Invalid if !config.stage1.run.allow_invalid => ExitStatus::Invalid,
        _ => ExitStatus::Success,
    })
}

#[derive(serde::Serialize)]
struct ProgramInput {
    schema_version: u32,
    files: Vec<FileInput>,
}

/// The program; what `stage1` is fed is in its own run.
fn inputs(workload: &Workload) -> ProgramInput {
    let path = workload.program();
    let bytes = std::fs::metadata(path).map_or(0, |data| data.len());
    let hashed = bytes <= super::stage1::HASH_LIMIT_BYTES;
    let file = FileInput {
        role: "program".to_owned(),
        path: path.display().to_string(),
        bytes,
        sha256: hashed.then(|| manifest::entry(path).ok().map(|entry| entry.sha256)).flatten(),
    };
    ProgramInput { schema_version: 1, files: vec![file] }
}
