//! Gives each turn of a study a process of its own.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::commands::Context;
use crate::commands::interrupt::Interrupt;
use crate::config::schema::stage1::Stage1Config;
use crate::config::study::Study;
use crate::diagnostics::{ExitStatus, Failure, escape_control};
use crate::record::ab::{AB_RUNS_DIRECTORY, AbPart, AbRow};
use crate::record::reader::{self, ROWS_FILE};
use crate::record::rows::RowStatus;
use crate::record::run_dir::RunDir;
use crate::record::{RecordError, RowsWriter};
use crate::runner::ab::drive::{Host, Outlook, Turn, TurnEnd};
use crate::runner::ab::process::{self, ChildCommand, ChildEnd};

/// Shortest limit of a process: a model may take long to load.
const LEAST_LIMIT_S: f64 = 600.0;
/// A limit nobody lives to see; longer spans overflow clocks.
const MOST_LIMIT_S: f64 = 1e8;

/// Where the words of the process of the run `child` are.
pub(super) fn log_of(runs: &Path, child: &str) -> PathBuf {
    runs.join("logs").join(format!("{child}.log"))
}

/// Progress on stderr; silent where stderr is not a terminal.
pub(super) struct StudyProgress(Option<ProgressBar>);

impl StudyProgress {
    pub(super) fn new(show: bool) -> Self {
        Self(show.then(|| {
            let bar = ProgressBar::new(0);
            let style = ProgressStyle::with_template("{msg} {bar:24} {pos}/{len} {elapsed}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸─"));
            bar
        }))
    }
    pub(super) fn turn(&self, turn: &Turn, label: &str, outlook: &Outlook) {
        let part = match turn.part {
            AbPart::WarmUp => "warm-up",
            AbPart::Control => "A/A control",
            AbPart::Study => "study",
        };
        let mut text = format!("{part}, block {}: {label}", turn.block + 1);
        if let Some(rest) = outlook.rest_at_most_s {
            let seconds = rest.ceil() as u64;
            text.push_str(&format!(", at most {}:{:02} left", seconds / 60, seconds % 60));
        }
        if outlook.disturbed > 0 {
            text.push_str(&format!(", {} of {} repeats disturbed", outlook.disturbed, outlook.repeats));
        }
        if let Some(bar) = &self.0 {
            bar.set_length(u64::from(outlook.turns_at_most));
            bar.set_position(u64::from(outlook.turns_done));
            bar.set_message(text);
            bar.tick();
        } else {
            tracing::info!("{text}");
        }
    }
    pub(super) fn clear(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

/// What a study needs to run processes.
pub(super) struct ProcessHost<'a> {
    program: PathBuf,
    runs: PathBuf,
    study: &'a Study,
    configs: &'a [Stage1Config],
    config_dir: Option<PathBuf>,
    interrupt: &'a Interrupt,
    rows: RowsWriter,
    began: Instant,
    limit: Duration,
    progress: StudyProgress,
}

impl<'a> ProcessHost<'a> {
    pub(super) fn new(
        directory: &RunDir,
        study: &'a Study,
        configs: &'a [Stage1Config],
        context: &Context,
        interrupt: &'a Interrupt,
    ) -> anyhow::Result<Self> {
        let program = std::env::current_exe().map_err(|error| {
            Failure::new(ExitStatus::CouldNotStart, "cannot find this program's own file, which each turn runs")
                .because(error)
        })?;
        let runs = directory.file(AB_RUNS_DIRECTORY);
        let logs = runs.join("logs");
        std::fs::create_dir_all(&logs).map_err(|error| {
            Failure::new(ExitStatus::ArtifactIo, format!("cannot make `{}`", logs.display())).because(error)
        })?;
        let limit = (2.0 * study.config.budget_s).clamp(LEAST_LIMIT_S, MOST_LIMIT_S);
        Ok(Self {
            program,
            runs,
            study,
            configs,
            config_dir: context.config_dir.clone(),
            interrupt,
            rows: RowsWriter::create(&directory.file(ROWS_FILE)).map_err(RecordError::into_failure)?,
            began: Instant::now(),
            limit: Duration::from_secs_f64(limit),
            progress: StudyProgress::new(context.progress),
        })
    }

    pub(super) fn close(self) -> anyhow::Result<()> {
        self.progress.clear();
        Ok(self.rows.close().map_err(RecordError::into_failure)?)
    }

    fn command(&self, turn: &Turn, id: &str) -> ChildCommand {
        let variant = &self.study.variants[turn.settings_of()];
        let mut arguments: Vec<OsString> = vec!["stage1".into()];
        arguments.extend(variant.overrides.iter().map(OsString::from));
        // Measuring the ceilings in every process would only warm the machine.
        let chosen = |setting: &String| setting.starts_with("hardware=") || setting.starts_with("hardware.measure=");
        if !variant.overrides.iter().any(chosen) {
            arguments.push("hardware.measure=never".into());
        }
        let first = turn.part == AbPart::Study && turn.block == 0;
        if self.configs[turn.settings_of()].quality.text.is_some() && !first {
            // Once is enough: the same weights predict the same text alike.
            arguments.push("quality.text=null".into());
        }
        arguments.push("run.allow_invalid=true".into());
        arguments.push(format!("run.id={id}").into());
        arguments.push("--output-root".into());
        arguments.push(self.runs.clone().into());
        if let Some(dir) = &self.config_dir {
            arguments.push("--config-dir".into());
            arguments.push(dir.into());
        }
        arguments.extend(["--quiet".into(), "--color".into(), "never".into()]);
        ChildCommand {
            program: self.program.clone(),
            arguments,
            environment: variant.environment.clone(),
            log: log_of(&self.runs, id),
            limit: self.limit,
        }
    }
}

impl Host for ProcessHost<'_> {
    type Error = anyhow::Error;

    fn run(&mut self, turn: &Turn) -> anyhow::Result<TurnEnd> {
        let id = turn.run_id();
        let command = self.command(turn, &id);
        let end = process::run(&command, &|| self.interrupt.asked()).map_err(|error| {
            Failure::new(ExitStatus::CouldNotStart, format!("cannot run `{}`", self.program.display())).because(error)
        })?;
        let directory = self.runs.join("stage1").join(&id);
        // A process that was killed may leave half a row.
        let rows = match reader::read_rows(&directory, true) {
            Ok((rows, _)) => rows,
            Err(RecordError::Read { .. }) => Vec::new(),
            Err(other) => return Err(other.into_failure().into()),
        };
        let interrupted = self.interrupt.asked() && matches!(end.code, Some(130 | 143));
        let failure = if interrupted { None } else { failure(&end, &command) };
        if let Some((_, error)) = &failure {
            let label = &self.study.variants[turn.settings_of()].label;
            let line = format!("warning: variant `{label}`, block {}: {error}", turn.block);
            if let Some(bar) = &self.progress.0 {
                bar.suspend(|| drop(writeln!(anstream::stderr(), "{}", escape_control(&line))));
            } else {
                tracing::warn!("variant `{label}`, block {}: {error}", turn.block);
            }
        }
        Ok(TurnEnd { rows, child: id, failure, interrupted })
    }

    fn begins(&mut self, turn: &Turn, label: &str, outlook: &Outlook) {
        self.progress.turn(turn, label, outlook);
    }

    fn rows(&mut self, rows: &[AbRow]) -> anyhow::Result<()> {
        for row in rows {
            self.rows.append(row).map_err(RecordError::into_failure)?;
        }
        Ok(())
    }

    fn elapsed_s(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    fn interrupted(&self) -> bool {
        self.interrupt.asked()
    }
}

/// Why the process failed; `None` if it did not. INVALID runs are none: the judge of the study looks at them.
fn failure(end: &ChildEnd, command: &ChildCommand) -> Option<(RowStatus, String)> {
    let words = process::last_words(&command.log);
    let failed = |text: String| Some((RowStatus::Failed, text));
    if end.overran {
        return failed(format!("its process was ended after {:.0} s without an end", command.limit.as_secs_f64()));
    }
    match (end.code, end.signal) {
        (Some(0 | 3), _) => None,
        (Some(code), _) => {
            let text = words.unwrap_or_else(|| format!("its process ended with exit code {code}"));
            let lower = text.to_ascii_lowercase();
            let oom = ["out of memory", "cannot allocate", "but this process may use"]
                .iter()
                .any(|part| lower.contains(part));
            Some((if oom { RowStatus::Oom } else { RowStatus::Failed }, text))
        }
        // SIGKILL
        (None, Some(9)) => failed(
            "its process was killed by signal 9, as the system does where memory runs out (`dmesg` would say so)"
                .to_owned(),
        ),
        (None, Some(signal)) => failed(match words {
            Some(words) => format!("its process was ended by signal {signal}; it last said: {words}"),
            None => format!("its process was ended by signal {signal}"),
        }),
        (None, None) => failed("its process ended in an unknown way".to_owned()),
    }
}
