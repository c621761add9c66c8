//! What a load test does to the outside while it runs: rows to the disk, progress to the terminal.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::tui::{Screen, Tui};
use crate::commands::interrupt::Interrupt;
use crate::config::schema::load::UiChoice;
use crate::diagnostics::{ExitStatus, Failure, escape_control};
use crate::record::RecordError;
use crate::record::load::context::{StagePlan, StageRecord};
use crate::record::load::row::RequestRow;
use crate::record::redact::Redactor;
use crate::record::rows_writer::RowsWriter;
use crate::runner::load::drive::{LoadEvents, Progress};

/// How often a line is printed where progress is plain text.
const PLAIN: Duration = Duration::from_secs(5);

/// Keeps rows and shows progress.
pub(super) struct Host<'a> {
    rows: RowsWriter,
    redactor: Redactor,
    interrupt: &'a Interrupt,
    ui: UiChoice,
    bar: Option<ProgressBar>,
    label: String,
    /// Number of the stage from 1, how many were planned, and what of this one is known beforehand.
    place: (usize, usize),
    planned: String,
    duration: Option<f64>,
    last_line: Instant,
    /// Rows of the stage, where somebody looks at them when it has ended: a long test must not fill the memory.
    kept: Vec<RequestRow>,
    keeps: bool,
    last_tokens: (u64, u64),
    tui: Option<Tui>,
}

/// What stands on top of the screen.
pub(super) struct Title<'a> {
    pub backend: &'a str,
    pub model: &'a str,
    pub url: &'a str,
    pub stages: usize,
}

impl<'a> Host<'a> {
    pub(super) fn new(
        rows: RowsWriter,
        redactor: Redactor,
        interrupt: &'a Interrupt,
        ui: UiChoice,
        title: &Title<'_>,
        keeps: bool,
    ) -> Result<Self, Failure> {
        let tui = if ui == UiChoice::Tui {
            if !std::io::stdout().is_terminal() {
                return Err(
                    Failure::new(ExitStatus::Usage, "`output.ui=tui` needs a terminal").hint("use `output.ui=plain`")
                );
            }
            let words = format!("perfprof load: {} at {}, model {}", title.backend, title.url, title.model);
            let tui = Tui::start(Screen::new(&words, title.stages)).map_err(|error| {
                Failure::new(ExitStatus::CouldNotStart, "the terminal cannot be taken over").because(error)
            })?;
            Some(tui)
        } else {
            None
        };
        let bar = (ui == UiChoice::Auto).then(|| {
            let bar = ProgressBar::new_spinner();
            bar.set_style(
                ProgressStyle::with_template("{spinner} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()),
            );
            bar
        });
        let label = String::new();
        Ok(Self {
            rows,
            redactor,
            interrupt,
            ui,
            bar,
            label,
            place: (0, title.stages),
            planned: String::new(),
            duration: None,
            last_line: Instant::now(),
            kept: Vec::new(),
            keeps,
            last_tokens: (0, 0),
            tui,
        })
    }

    /// A stage begins.
    pub(super) fn stage(&mut self, plan: &StagePlan) {
        self.label.clone_from(&plan.label);
        self.place.0 += 1;
        // A search adds stages to those that were planned.
        self.place.1 = self.place.1.max(self.place.0);
        self.planned = plan.requests.map_or_else(String::new, |requests| format!(" of {requests}"));
        self.duration = plan.duration_s;
        self.kept.clear();
        self.last_tokens = (0, 0);
        if let Some(tui) = &mut self.tui {
            tui.screen().stage(plan);
            tui.refresh(true);
        }
    }

    /// A stage has ended; its rows are given out.
    pub(super) fn stage_ended(&mut self, stage: &StageRecord) -> Vec<RequestRow> {
        let rows = std::mem::take(&mut self.kept);
        if let Some(tui) = &mut self.tui {
            tui.screen().stage_ended(stage, &rows);
            tui.refresh(true);
        }
        rows
    }

    fn keep(&mut self, row: &RequestRow) {
        if self.keeps || self.tui.is_some() {
            self.kept.push(row.clone());
        }
    }

    /// Waits, unless the user wants to end.
    pub(super) fn pause(&self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end && !self.interrupt.asked() {
            std::thread::sleep(Duration::from_millis(20).min(end.saturating_duration_since(Instant::now())));
        }
    }

    /// Everything has ended.
    pub(super) fn finish(self) -> Result<(), RecordError> {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
        self.rows.close()
    }
}

impl LoadEvents for Host<'_> {
    type Error = RecordError;

    fn row(&mut self, row: &RequestRow) -> Result<(), RecordError> {
        if let Some(tui) = &mut self.tui {
            tui.screen().row(row);
        }
        // What a server sends back may hold what was sent to it.
        let needs = row.failed.as_ref().is_some_and(|failed| self.redactor.text(&failed.message) != failed.message)
            || row.text.as_ref().is_some_and(|text| self.redactor.text(text) != *text);
        if needs {
            let mut row = row.clone();
            if let Some(failed) = &mut row.failed {
                failed.message = self.redactor.text(&failed.message);
            }
            row.text = row.text.map(|text| self.redactor.text(&text));
            self.rows.append(&row)?;
            self.keep(&row);
        } else {
            self.rows.append(row)?;
            self.keep(row);
        }
        Ok(())
    }

    fn progress(&mut self, _stage: u32, progress: &Progress) {
        if let Some(tui) = &mut self.tui {
            tui.screen().progress(progress);
            tui.refresh(false);
            return;
        }
        let seconds = progress.elapsed_ns as f64 / 1e9;
        let (tokens, at) = self.last_tokens;
        let span = progress.elapsed_ns.saturating_sub(at) as f64 / 1e9;
        let rate = if span > 0.0 { progress.tokens.saturating_sub(tokens) as f64 / span } else { 0.0 };
        let (place, stages) = self.place;
        let planned = if progress.warmup { "" } else { &self.planned };
        let mut line = format!(
            "[{place}/{stages}] {}{} {}{planned} done, {} in flight, {rate:.0} tok/s, {seconds:.0}{} s",
            self.label,
            if progress.warmup { " warm-up:" } else { ":" },
            progress.ended,
            progress.in_flight,
            self.duration.filter(|_| !progress.warmup).map_or_else(String::new, |all| format!(" of {all:.0}")),
        );
        if progress.failed > 0 {
            line.push_str(&format!(", {} failed", progress.failed));
        }
        if let Some(bar) = &self.bar {
            bar.set_message(escape_control(&line));
            bar.tick();
        }
        if span >= 1.0 {
            self.last_tokens = (progress.tokens, progress.elapsed_ns);
        }
        if self.ui == UiChoice::Plain && self.last_line.elapsed() >= PLAIN {
            self.last_line = Instant::now();
            // A stderr that is full or gone must not end a test.
            let _ = writeln!(anstream::stderr(), "{}", escape_control(&line));
        }
    }

    fn interrupted(&self) -> bool {
        self.interrupt.asked()
    }
}
