//! Runs the commands of a run and keeps its files.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use super::settings::{Workload, record};
use crate::commands::child::{Children, Progress};
use crate::commands::interrupt::Interrupt;
use crate::commands::{Context, analyze};
use crate::diagnostics::{ExitStatus, Failure};
use crate::record::redact::{Redactor, is_secret_name};
use crate::record::run_dir::{RunDir, rfc3339};
use crate::record::stage2::{
    COMMANDS_FILE, CommandRecord, CommandsFile, ModelRecord, STAGE2_FILE, STAGE2_RUNS_DIRECTORY, STAGE2_SCHEMA_VERSION,
    Stage2State, ToolRecord, WorkloadRun,
};
use crate::record::{RecordError, atomic, reader};
use crate::runner::stage2::tool::{self, Cut, ToolCommand};
use crate::runner::stage2::{Ended, Job, Stage2Host};
use crate::trace::nsys;

/// Where the words of commands are.
const LOGS: &str = "logs";
/// Of a command's words so much is looked at.
const WORDS_LIMIT_BYTES: u64 = 64 << 20;

/// The run directory and what runs below it.
pub(super) struct Host<'a> {
    directory: &'a RunDir,
    workload: &'a Workload,
    kept: Children,
    scratch: TempDir,
    scratch_runs: Children,
    commands: CommandsFile,
    tools: Vec<ToolRecord>,
    /// Variables that the workload does without, where it needs no secret.
    without: Vec<OsString>,
    interrupt: Interrupt,
    progress: Progress,
}

impl<'a> Host<'a> {
    pub(super) fn new(
        directory: &'a RunDir,
        workload: &'a Workload,
        state: &Stage2State,
        context: &Context,
        interrupt: &Interrupt,
    ) -> anyhow::Result<Self> {
        make_folder(&directory.file(LOGS))?;
        let scratch = tempfile::Builder::new().prefix(".scratch-").tempdir_in(directory.path()).map_err(|error| {
            Failure::new(ExitStatus::ArtifactIo, format!("cannot make a folder in `{}`", directory.path().display()))
                .because(error)
        })?;
        let secret = |name: &OsString| is_secret_name(&name.to_string_lossy());
        let without = if workload.is_own() {
            std::env::vars_os().map(|(name, _)| name).filter(secret).collect()
        } else {
            Vec::new()
        };
        Ok(Self {
            directory,
            workload,
            kept: Children::new(directory.file(STAGE2_RUNS_DIRECTORY), context)?,
            scratch_runs: Children::new(scratch.path().join("runs"), context)?,
            scratch,
            commands: CommandsFile {
                schema_version: STAGE2_SCHEMA_VERSION,
                run_id: state.run_id.clone(),
                commands: Vec::new(),
            },
            tools: state.tools.clone(),
            without,
            interrupt: interrupt.clone(),
            progress: Progress::new(context.progress),
        })
    }

    /// Removes what nobody keeps.
    pub(super) fn close(self) {
        self.progress.clear();
        // What cannot be removed is of no consequence but its size.
        let _ = self.scratch.close();
    }

    fn redactor(&self) -> &Redactor {
        self.directory.redactor()
    }

    fn keep_commands(&self) -> anyhow::Result<()> {
        Ok(self.directory.write_json(COMMANDS_FILE, &self.commands).map_err(RecordError::into_failure)?)
    }

    /// The words of a command, with secrets taken out of the file too.
    fn words(&self, path: &Path) -> String {
        let mut bytes = Vec::new();
        if let Ok(file) = std::fs::File::open(path) {
            // What cannot be read is empty: the exit code says enough.
            let _ = file.take(WORDS_LIMIT_BYTES).read_to_end(&mut bytes);
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let redacted = self.redactor().text(&text);
        if redacted != text {
            let _ = atomic::write_atomic(path, redacted.as_bytes());
        }
        redacted
    }
}

fn make_folder(path: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(path).map_err(|error| {
        Failure::new(ExitStatus::ArtifactIo, format!("cannot make `{}`", path.display())).because(error)
    })
}

impl Stage2Host for Host<'_> {
    type Error = anyhow::Error;

    fn directory(&self) -> &Path {
        self.directory.path()
    }

    fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    fn workload(&self, id: &str, kept: bool) -> Vec<OsString> {
        if !self.workload.is_own() {
            return self.workload.words().to_vec();
        }
        let runs = if kept { &self.kept } else { &self.scratch_runs };
        let command = runs.stage1(id, self.workload.overrides(), &BTreeMap::new(), Duration::MAX);
        let mut words = vec![command.program.into_os_string()];
        words.extend(command.arguments);
        words
    }

    fn is_own(&self) -> bool {
        self.workload.is_own()
    }

    fn workload_run(&self, id: &str, wall_s: f64) -> WorkloadRun {
        if !self.workload.is_own() {
            return WorkloadRun { run: None, wall_s, total_ms: None };
        }
        let metrics = reader::read_metrics(&self.kept.stage1_directory(id)).ok();
        WorkloadRun {
            run: Some(format!("{STAGE2_RUNS_DIRECTORY}/stage1/{id}")),
            wall_s,
            total_ms: metrics.and_then(|metrics| metrics.measures.get("total_ms")?.p50),
        }
    }

    fn model(&self, id: &str) -> Option<ModelRecord> {
        if !self.workload.is_own() {
            return None;
        }
        let metrics = reader::read_metrics(&self.kept.stage1_directory(id)).ok()?;
        let mut model = record(&analyze::workload_of(&metrics)?);
        "the run of stage1 itself".clone_into(&mut model.said_by);
        Some(model)
    }

    fn command(&mut self, job: &Job) -> anyhow::Result<Ended> {
        let name = |extension: &str| format!("{LOGS}/{}.{extension}", job.log);
        let argv = std::iter::once(job.program.as_os_str())
            .chain(job.arguments.iter().map(OsString::as_os_str))
            .map(|word| word.to_string_lossy().into_owned())
            .collect::<Vec<_>>();
        let version = job.tool.and_then(|tool| self.tools.iter().find(|known| known.name == tool)?.version.clone());
        self.commands.commands.push(CommandRecord {
            purpose: job.purpose.clone(),
            argv: self.redactor().argv(&argv),
            environment: Vec::new(),
            version,
            started_at: rfc3339(jiff::Timestamp::now()),
            took_s: None,
            exit_code: None,
            signal: None,
            state: "running".to_owned(),
            stdout: name("out"),
            stderr: name("err"),
        });
        self.keep_commands()?;
        let command = ToolCommand {
            program: job.program.clone(),
            arguments: job.arguments.clone(),
            environment: BTreeMap::new(),
            without: self.without.clone(),
            stdout: self.directory.file(&name("out")),
            stderr: self.directory.file(&name("err")),
            limit: job.limit,
        };
        let interrupt = self.interrupt.clone();
        let end = tool::run(&command, &|| interrupt.asked());
        let (stdout, stderr) = (self.words(&command.stdout), self.words(&command.stderr));
        let ended = match &end {
            Ok(end) => Ended {
                code: end.code,
                cut: end.cut,
                took_s: end.took.as_secs_f64(),
                stdout,
                stderr,
                not_started: None,
            },
            Err(error) => {
                Ended { code: None, cut: None, took_s: 0.0, stdout, stderr, not_started: Some(error.to_string()) }
            }
        };
        if let Some(last) = self.commands.commands.last_mut() {
            last.took_s = end.as_ref().ok().map(|_| ended.took_s);
            last.exit_code = ended.code;
            last.signal = end.as_ref().ok().and_then(|end| end.signal);
            let state = match (&end, ended.cut) {
                (Err(_), _) => "not_started",
                (_, Some(Cut::Interrupted)) => "interrupted",
                (_, Some(Cut::Limit)) => "over_limit",
                (_, None) => "ended",
            };
            state.clone_into(&mut last.state);
        }
        self.keep_commands()?;
        Ok(ended)
    }

    fn folder(&mut self, name: &str) -> anyhow::Result<()> {
        Ok(make_folder(&self.directory.file(name))?)
    }

    fn write(&mut self, name: &str, text: &str) -> anyhow::Result<()> {
        Ok(self.directory.write(name, text.as_bytes()).map_err(RecordError::into_failure)?)
    }

    fn remove(&mut self, name: &str) {
        // What is left is of no consequence but its size.
        let _ = std::fs::remove_file(self.directory.file(name));
    }

    fn keep(&mut self, state: &Stage2State) -> anyhow::Result<()> {
        Ok(self.directory.write_json(STAGE2_FILE, state).map_err(RecordError::into_failure)?)
    }

    fn scrub(&mut self, export: &Path, database: &Path) -> Result<(), String> {
        let done = nsys::scrub(export, database);
        let _ = std::fs::remove_file(export);
        match done {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("the exported timeline cannot be used: {}", error.detail)),
        }
    }

    fn progress(&mut self, text: &str) {
        let done = self.commands.commands.len() as u32;
        self.progress.at(text.to_owned(), done, done + 1);
    }

    fn canceller(&self) -> Arc<dyn Fn() -> bool + Send + Sync> {
        let interrupt = self.interrupt.clone();
        Arc::new(move || interrupt.asked())
    }
}
