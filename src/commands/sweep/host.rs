//! Runs each point as a `perfprof stage1` or `perfprof load` of its own.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::commands::Context;
use crate::commands::child::{self, Children, MOST_LIMIT_S, Progress, minutes};
use crate::commands::interrupt::Interrupt;
use crate::config::sweep::SweepPoint;
use crate::record::load::reader as load_reader;
use crate::record::reader;
use crate::record::rows::RowStatus;
use crate::record::run_dir::{RunDir, rfc3339};
use crate::record::sweep::{CaseResult, SWEEP_ROWS_FILE, SWEEP_RUNS_DIRECTORY, SweepRow};
use crate::record::{RecordError, RowsWriter};
use crate::runner::process;
use crate::runner::sweep::{Outlook, PointEnd, PointRunner, load_result};

/// What became of the process of a point: status, error, whether its run calls itself VALID, its cases.
type Judged = (RowStatus, Option<String>, Option<bool>, Vec<CaseResult>);

/// Points of one command.
pub(super) struct Points<'a> {
    directory: &'a RunDir,
    runs: Children,
    command: &'a str,
    points: &'a [SweepPoint],
    interrupt: &'a Interrupt,
    rows: RowsWriter,
    began: Instant,
    limit: Duration,
    progress: Progress,
}

impl<'a> Points<'a> {
    pub(super) fn new(
        directory: &'a RunDir,
        command: &'a str,
        points: &'a [SweepPoint],
        limit_s: Option<f64>,
        context: &Context,
        interrupt: &'a Interrupt,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            directory,
            runs: Children::new(directory.file(SWEEP_RUNS_DIRECTORY), context)?,
            command,
            points,
            interrupt,
            rows: RowsWriter::reopen(&directory.file(SWEEP_ROWS_FILE)).map_err(RecordError::into_failure)?,
            began: Instant::now(),
            limit: Duration::from_secs_f64(limit_s.unwrap_or(MOST_LIMIT_S).min(MOST_LIMIT_S)),
            progress: Progress::new(context.progress),
        })
    }

    pub(super) fn close(self) -> anyhow::Result<()> {
        self.progress.clear();
        Ok(self.rows.close().map_err(RecordError::into_failure)?)
    }

    fn name(&self, point: u32) -> String {
        let Some(point) = self.points.get(point as usize) else { return String::new() };
        let text: Vec<String> = point.settings.iter().map(|(key, value)| format!("{key}={value}")).collect();
        self.directory.redactor().text(&text.join(" "))
    }

    /// An id that no attempt has had, also none whose row was lost with the process that should have written it.
    fn fresh_id(&self, point: u32, attempt: u32) -> String {
        let ids = (attempt..).map(|attempt| format!("p{point:04}-{attempt}"));
        let mut fresh = ids.skip_while(|id| self.runs.directory(self.command, id).exists());
        fresh.next().unwrap_or_else(|| format!("p{point:04}-x"))
    }

    /// What the run of a process that ended by itself says.
    fn read(&self, id: &str) -> Judged {
        let run = self.runs.directory(self.command, id);
        match self.command {
            "load" => Self::read_load(&run),
            _ => Self::read_stage1(&run),
        }
    }

    fn unreadable(error: &RecordError) -> Judged {
        (RowStatus::Failed, Some(format!("its metrics.json cannot be read: {error}")), None, Vec::new())
    }

    fn read_load(run: &Path) -> Judged {
        let metrics = match load_reader::read_metrics(run) {
            Ok(metrics) => metrics,
            Err(error) => return Self::unreadable(&error),
        };
        let valid = Some(metrics.validity.is_valid());
        if let Some(result) = load_result(&metrics) {
            return (RowStatus::Ok, None, valid, vec![result]);
        }
        // No request succeeded: what went wrong with the first says more than that.
        let first = metrics.stages.iter().flat_map(|stage| &stage.errors).next();
        let error =
            first.map(|error| format!("no request succeeded: {} ({}): {}", error.outcome, error.kind, error.first));
        let error = error.or_else(|| metrics.validity.reasons.first().cloned());
        (RowStatus::Failed, Some(error.unwrap_or_else(|| "no request succeeded".to_owned())), valid, Vec::new())
    }

    fn read_stage1(run: &Path) -> Judged {
        let metrics = match reader::read_metrics(run) {
            Ok(metrics) => metrics,
            Err(error) => return Self::unreadable(&error),
        };
        let valid = Some(metrics.validity.is_valid());
        let cases: Vec<CaseResult> = metrics
            .cases
            .into_iter()
            .filter(|case| case.repeats > 0)
            .map(|case| CaseResult { case: case.name, measures: case.measures })
            .collect();
        if !cases.is_empty() {
            return (RowStatus::Ok, None, valid, cases);
        }
        // With `run.keep_going` a run ends although every repeat failed.
        let rows = reader::read_rows(run, true).map(|(rows, _)| rows).unwrap_or_default();
        let first = rows.into_iter().find(|row| row.status != RowStatus::Ok);
        let status = first.as_ref().map_or(RowStatus::Failed, |row| row.status);
        let error = first.and_then(|row| row.error).unwrap_or_else(|| "no repeat ended well".to_owned());
        (status, Some(error), valid, Vec::new())
    }
}

impl PointRunner for Points<'_> {
    type Error = anyhow::Error;

    fn run(&mut self, point: u32, attempt: u32) -> anyhow::Result<PointEnd> {
        let id = self.fresh_id(point, attempt);
        let settings = &self.points[point as usize];
        let command = self.runs.command(self.command, &id, &settings.overrides, &settings.environment, self.limit);
        let started_at = rfc3339(jiff::Timestamp::now());
        let begin = Instant::now();
        let end = child::run(&command, self.interrupt)?;
        let took_s = begin.elapsed().as_secs_f64();
        let (status, error, valid, cases) = if child::was_interrupted(&end, self.interrupt) {
            (RowStatus::Interrupted, Some("interrupted by the user".to_owned()), None, Vec::new())
        } else {
            match process::failure(&end, &command) {
                // One process runs at a time, and nobody but the system kills it for want of memory.
                Some((_, error)) if end.signal == Some(process::SIGKILL) && !end.overran => {
                    (RowStatus::Oom, Some(error), None, Vec::new())
                }
                Some((status, error)) => (status, Some(error), None, Vec::new()),
                None => self.read(&id),
            }
        };
        let error = error.map(|error| self.directory.redactor().text(&error));
        if let Some(error) = error.as_ref().filter(|_| status != RowStatus::Interrupted) {
            let why = if status == RowStatus::Oom { "does not fit into the memory" } else { "failed" };
            self.progress.warn(&format!("point {point} ({}) {why}: {error}", self.name(point)));
        }
        Ok(PointEnd { child: id, status, error, valid, started_at, took_s, cases })
    }

    fn begins(&mut self, point: u32, outlook: &Outlook) {
        let mut text = self.name(point);
        if let Some(rest) = outlook.rest_s {
            text.push_str(&format!(", about {} left", minutes(rest)));
        }
        self.progress.at(text, outlook.done, outlook.planned);
    }

    fn row(&mut self, row: &SweepRow) -> anyhow::Result<()> {
        self.rows.append(row).map_err(RecordError::into_failure)?;
        // A point may have taken an hour: it is worth waiting for the disk.
        Ok(self.rows.sync().map_err(RecordError::into_failure)?)
    }

    fn elapsed_s(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    fn interrupted(&self) -> bool {
        self.interrupt.asked()
    }
}
