//! Gives each turn of a study a process of its own.

use std::time::{Duration, Instant};

use crate::commands::Context;
use crate::commands::child::{self, Children, MOST_LIMIT_S, Progress, minutes};
use crate::commands::interrupt::Interrupt;
use crate::config::schema::stage1::Stage1Config;
use crate::config::study::Study;
use crate::record::ab::{AB_RUNS_DIRECTORY, AbPart, AbRow};
use crate::record::reader::{self, ROWS_FILE};
use crate::record::run_dir::RunDir;
use crate::record::{RecordError, RowsWriter};
use crate::runner::ab::drive::{Host, Outlook, Turn, TurnEnd};
use crate::runner::process::{self, ChildCommand};

/// Shortest limit of a process: a model may take long to load.
const LEAST_LIMIT_S: f64 = 600.0;

/// Progress of a study on stderr.
pub(super) struct StudyProgress(Progress);

impl StudyProgress {
    pub(super) fn new(show: bool) -> Self {
        Self(Progress::new(show))
    }
    pub(super) fn turn(&self, turn: &Turn, label: &str, outlook: &Outlook) {
        let part = match turn.part {
            AbPart::WarmUp => "warm-up",
            AbPart::Control => "A/A control",
            AbPart::Study => "study",
        };
        let mut text = format!("{part}, block {}: {label}", turn.block + 1);
        if let Some(rest) = outlook.rest_at_most_s {
            text.push_str(&format!(", at most {} left", minutes(rest)));
        }
        if outlook.disturbed > 0 {
            text.push_str(&format!(", {} of {} repeats disturbed", outlook.disturbed, outlook.repeats));
        }
        self.0.at(text, outlook.turns_done, outlook.turns_at_most);
    }
    pub(super) fn clear(&self) {
        self.0.clear();
    }
}

/// What a study needs to run processes.
pub(super) struct ProcessHost<'a> {
    runs: Children,
    study: &'a Study,
    configs: &'a [Stage1Config],
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
        let runs = Children::new(directory.file(AB_RUNS_DIRECTORY), context)?;
        let limit = (2.0 * study.config.budget_s).clamp(LEAST_LIMIT_S, MOST_LIMIT_S);
        Ok(Self {
            runs,
            study,
            configs,
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
        let mut overrides = variant.overrides.clone();
        // Measuring the ceilings in every process would only warm the machine.
        let chosen = |setting: &String| setting.starts_with("hardware=") || setting.starts_with("hardware.measure=");
        if !variant.overrides.iter().any(chosen) {
            overrides.push("hardware.measure=never".to_owned());
        }
        let first = turn.part == AbPart::Study && turn.block == 0;
        if self.configs[turn.settings_of()].quality.text.is_some() && !first {
            // Once is enough: the same weights predict the same text alike.
            overrides.push("quality.text=null".to_owned());
        }
        self.runs.stage1(id, &overrides, &variant.environment, self.limit)
    }
}

impl Host for ProcessHost<'_> {
    type Error = anyhow::Error;

    fn run(&mut self, turn: &Turn) -> anyhow::Result<TurnEnd> {
        let id = turn.run_id();
        let command = self.command(turn, &id);
        let end = child::run(&command, self.interrupt)?;
        let directory = self.runs.stage1_directory(&id);
        // A process that was killed may leave half a row.
        let rows = match reader::read_rows(&directory, true) {
            Ok((rows, _)) => rows,
            Err(RecordError::Read { .. }) => Vec::new(),
            Err(other) => return Err(other.into_failure().into()),
        };
        let interrupted = child::was_interrupted(&end, self.interrupt);
        let failure = if interrupted { None } else { process::failure(&end, &command) };
        if let Some((_, error)) = &failure {
            let label = &self.study.variants[turn.settings_of()].label;
            self.progress.0.warn(&format!("variant `{label}`, block {}: {error}", turn.block));
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
