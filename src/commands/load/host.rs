//! What a load test does to the outside while it runs: rows to the disk, progress to the terminal.

use std::io::Write as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::commands::interrupt::Interrupt;
use crate::config::schema::load::UiChoice;
use crate::diagnostics::escape_control;
use crate::record::RecordError;
use crate::record::load::context::StagePlan;
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
    last_line: Instant,
    kept: Vec<RequestRow>,
    last_tokens: (u64, u64),
}

impl<'a> Host<'a> {
    pub(super) fn new(rows: RowsWriter, redactor: Redactor, interrupt: &'a Interrupt, ui: UiChoice) -> Self {
        let bar = (ui == UiChoice::Auto).then(|| {
            let bar = ProgressBar::new_spinner();
            bar.set_style(
                ProgressStyle::with_template("{spinner} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()),
            );
            bar
        });
        let label = String::new();
        Self {
            rows,
            redactor,
            interrupt,
            ui,
            bar,
            label,
            last_line: Instant::now(),
            kept: Vec::new(),
            last_tokens: (0, 0),
        }
    }

    /// A stage begins.
    pub(super) fn stage(&mut self, plan: &StagePlan) {
        self.label.clone_from(&plan.label);
        self.kept.clear();
        self.last_tokens = (0, 0);
    }

    /// The rows of the stage that has ended.
    pub(super) fn take_rows(&mut self) -> Vec<RequestRow> {
        std::mem::take(&mut self.kept)
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
            self.kept.push(row);
        } else {
            self.rows.append(row)?;
            self.kept.push(row.clone());
        }
        Ok(())
    }

    fn progress(&mut self, _stage: u32, progress: &Progress) {
        let seconds = progress.elapsed_ns as f64 / 1e9;
        let (tokens, at) = self.last_tokens;
        let span = progress.elapsed_ns.saturating_sub(at) as f64 / 1e9;
        let rate = if span > 0.0 { progress.tokens.saturating_sub(tokens) as f64 / span } else { 0.0 };
        let mut line = format!(
            "{}{} {} done, {} in flight, {rate:.0} tok/s, {seconds:.0} s",
            self.label,
            if progress.warmup { " warm-up:" } else { ":" },
            progress.ended,
            progress.in_flight,
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
