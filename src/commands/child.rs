//! Runs of other commands as processes of their own, below the directory of the run that asked for them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::Context;
use super::interrupt::Interrupt;
use crate::diagnostics::{ExitStatus, Failure, escape_control};
use crate::runner::process::{self, ChildCommand, ChildEnd};

/// A limit nobody lives to see; longer spans overflow clocks.
pub(super) const MOST_LIMIT_S: f64 = 1e8;

/// Where processes of this program are run, and what all of them are told.
pub(super) struct Children {
    program: PathBuf,
    root: PathBuf,
    config_dir: Option<PathBuf>,
}

impl Children {
    /// Makes `root`, below which the runs will lie, and the folder of their logs in it.
    pub(super) fn new(root: PathBuf, context: &Context) -> Result<Self, Failure> {
        let program = std::env::current_exe().map_err(|error| {
            Failure::new(ExitStatus::CouldNotStart, "cannot find this program's own file, which each process runs")
                .because(error)
        })?;
        let logs = root.join("logs");
        std::fs::create_dir_all(&logs).map_err(|error| {
            Failure::new(ExitStatus::ArtifactIo, format!("cannot make `{}`", logs.display())).because(error)
        })?;
        Ok(Self { program, root, config_dir: context.config_dir.clone() })
    }

    /// Where the run `id` of stage1 lies.
    pub(super) fn stage1_directory(&self, id: &str) -> PathBuf {
        self.directory("stage1", id)
    }

    /// Where the run `id` of `command` lies.
    pub(super) fn directory(&self, command: &str, id: &str) -> PathBuf {
        self.root.join(command).join(id)
    }

    /// `perfprof stage1` with these settings, whose numbers are taken even if it calls itself INVALID.
    pub(super) fn stage1(
        &self,
        id: &str,
        overrides: &[String],
        environment: &BTreeMap<String, String>,
        limit: Duration,
    ) -> ChildCommand {
        self.command("stage1", id, overrides, environment, limit)
    }

    /// The same of `command`, which may be `load`.
    pub(super) fn command(
        &self,
        command: &str,
        id: &str,
        overrides: &[String],
        environment: &BTreeMap<String, String>,
        limit: Duration,
    ) -> ChildCommand {
        let mut arguments: Vec<OsString> = vec![command.into()];
        arguments.extend(overrides.iter().map(OsString::from));
        arguments.push("run.allow_invalid=true".into());
        arguments.push(format!("run.id={id}").into());
        arguments.push("--output-root".into());
        arguments.push(self.root.clone().into());
        if let Some(dir) = &self.config_dir {
            arguments.push("--config-dir".into());
            arguments.push(dir.into());
        }
        arguments.extend(["--quiet".into(), "--color".into(), "never".into()]);
        ChildCommand {
            program: self.program.clone(),
            arguments,
            environment: environment.clone(),
            log: log_of(&self.root, id),
            limit,
        }
    }
}

/// Where the words of the process of the run `child` are.
pub(super) fn log_of(root: &Path, child: &str) -> PathBuf {
    root.join("logs").join(format!("{child}.log"))
}

/// Runs the process to its end; an interrupt is passed on.
pub(super) fn run(command: &ChildCommand, interrupt: &Interrupt) -> Result<ChildEnd, Failure> {
    process::run(command, &|| interrupt.asked()).map_err(|error| {
        Failure::new(ExitStatus::CouldNotStart, format!("cannot run `{}`", command.program.display())).because(error)
    })
}

/// Whether the process was cut short by the user.
pub(super) fn was_interrupted(end: &ChildEnd, interrupt: &Interrupt) -> bool {
    interrupt.asked() && matches!(end.code, Some(130 | 143))
}

/// Minutes and seconds, rounded up.
pub(super) fn minutes(seconds: f64) -> String {
    let seconds = seconds.ceil() as u64;
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

/// Progress on stderr; a line in the log where stderr is not a terminal.
pub(super) struct Progress(Option<ProgressBar>);

impl Progress {
    pub(super) fn new(show: bool) -> Self {
        Self(show.then(|| {
            let bar = ProgressBar::new(0);
            let style = ProgressStyle::with_template("{msg} {bar:24} {pos}/{len} {elapsed}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸─"));
            bar
        }))
    }
    /// `done` of `of` have ended, and what `text` says goes on.
    pub(super) fn at(&self, text: String, done: u32, of: u32) {
        if let Some(bar) = &self.0 {
            bar.set_length(u64::from(of));
            bar.set_position(u64::from(done));
            bar.set_message(text);
            bar.tick();
        } else {
            tracing::info!("{text}");
        }
    }
    /// A warning that does not break the bar.
    pub(super) fn warn(&self, text: &str) {
        if let Some(bar) = &self.0 {
            let line = format!("warning: {text}");
            bar.suspend(|| drop(writeln!(anstream::stderr(), "{}", escape_control(&line))));
        } else {
            tracing::warn!("{text}");
        }
    }
    pub(super) fn clear(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
