//! The screen of a load test (`output.ui=tui`): what is going on now, and how the stages before went.

use std::collections::VecDeque;
use std::io::Stdout;
use std::time::{Duration, Instant};

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyModifiers};
use ratatui::crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use ratatui::crossterm::{execute, terminal};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Cell, Gauge, Paragraph, Row, Sparkline, Table};

use crate::diagnostics::escape_control;
use crate::record::load::context::{StagePlan, StageRecord};
use crate::record::load::outcome::Outcome;
use crate::record::load::row::{Phase, RequestRow};
use crate::runner::load::drive::Progress;
use crate::stats::quantile::quantile;

/// Time between two drawings.
const FRAME: Duration = Duration::from_millis(200);
/// Time that one column of a curve stands for.
const COLUMN_NS: u64 = 500_000_000;
/// Columns kept.
const COLUMNS: usize = 240;
/// Requests that the latencies shown are of.
const RECENT: usize = 500;
/// Failures shown.
const FAILURES: usize = 4;

/// A stage that has ended.
#[derive(Debug, Clone)]
struct Ended {
    label: String,
    ok: u64,
    failed: u64,
    tok_per_s: Option<f64>,
    ttft_ms: [Option<f64>; 2],
    lag_ms: Option<f64>,
}

/// What is shown.
#[derive(Debug, Default)]
pub(super) struct Screen {
    title: String,
    stages: usize,
    plan: Option<StagePlan>,
    progress: Progress,
    ended: Vec<Ended>,
    /// Output tokens per second and requests in flight, a column each half second.
    tok_per_s: VecDeque<u64>,
    in_flight: VecDeque<u64>,
    column: (u64, u64),
    ttft_ms: VecDeque<f64>,
    gap_ms: VecDeque<f64>,
    failures: VecDeque<String>,
}

fn keep<T>(queue: &mut VecDeque<T>, value: T, most: usize) {
    if queue.len() == most {
        queue.pop_front();
    }
    queue.push_back(value);
}

/// A number for a narrow place; a dash for what is unknown.
fn short(value: Option<f64>) -> String {
    match value {
        None => "–".to_owned(),
        Some(value) if value.abs() >= 1000.0 => format!("{value:.0}"),
        Some(value) if value.abs() >= 10.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.2}"),
    }
}

impl Screen {
    /// A test of `stages` stages.
    pub(super) fn new(title: &str, stages: usize) -> Self {
        Self { title: escape_control(title), stages, ..Self::default() }
    }

    /// A stage begins.
    pub(super) fn stage(&mut self, plan: &StagePlan) {
        self.plan = Some(plan.clone());
        self.progress = Progress::default();
        self.column = (0, 0);
        self.tok_per_s.clear();
        self.in_flight.clear();
        self.ttft_ms.clear();
        self.gap_ms.clear();
    }

    /// A request has ended.
    pub(super) fn row(&mut self, row: &RequestRow) {
        if row.outcome == Outcome::Ok {
            if let Some(ttft) = row.ttft_ms().or_else(|| row.e2e_ms()) {
                keep(&mut self.ttft_ms, ttft, RECENT);
            }
            // One gap of each request is enough to see how they lie, and its median is the fairest.
            let gaps: Vec<f64> = row.gaps_ms().collect();
            if let Some(gap) = quantile(&gaps, 0.5) {
                keep(&mut self.gap_ms, gap, RECENT);
            }
        } else if let Some(failed) = &row.failed {
            keep(&mut self.failures, escape_control(&format!("{}: {}", row.outcome.name(), failed.message)), FAILURES);
        }
    }

    /// How it goes.
    pub(super) fn progress(&mut self, progress: &Progress) {
        let (at, tokens) = self.column;
        if progress.elapsed_ns < at {
            // The warm-up is over and the clock of the measured phase begins.
            self.column = (progress.elapsed_ns, progress.tokens);
        } else if progress.elapsed_ns - at >= COLUMN_NS {
            let seconds = (progress.elapsed_ns - at) as f64 / 1e9;
            let rate = progress.tokens.saturating_sub(tokens) as f64 / seconds;
            keep(&mut self.tok_per_s, rate as u64, COLUMNS);
            keep(&mut self.in_flight, u64::from(progress.in_flight), COLUMNS);
            self.column = (progress.elapsed_ns, progress.tokens);
        }
        self.progress = *progress;
    }

    /// A stage has ended.
    pub(super) fn stage_ended(&mut self, stage: &StageRecord, rows: &[RequestRow]) {
        let measured: Vec<&RequestRow> = rows.iter().filter(|row| row.phase == Phase::Measured).collect();
        let ok: Vec<&&RequestRow> = measured.iter().filter(|row| row.outcome == Outcome::Ok).collect();
        let ttft: Vec<f64> = ok.iter().filter_map(|row| row.ttft_ms()).collect();
        let seconds = stage.end_ns.saturating_sub(stage.begin_ns) as f64 / 1e9;
        let tokens: u64 = ok.iter().filter_map(|row| row.output_tokens).sum();
        self.ended.push(Ended {
            label: stage.plan.label.clone(),
            ok: ok.len() as u64,
            failed: measured.iter().filter(|row| row.outcome.is_error()).count() as u64,
            tok_per_s: (seconds > 0.0 && tokens > 0).then(|| tokens as f64 / seconds),
            ttft_ms: [quantile(&ttft, 0.5), quantile(&ttft, 0.99)],
            lag_ms: stage.client.lag_ms.map(|lag| lag[2]),
        });
    }

    /// The share of the stage that is done.
    fn share(&self) -> f64 {
        let Some(plan) = &self.plan else { return 0.0 };
        let by_count = plan.requests.map(|requests| self.progress.ended as f64 / f64::from(requests.max(1)));
        let by_time = plan.duration_s.map(|seconds| self.progress.elapsed_ns as f64 / 1e9 / seconds);
        by_count.into_iter().chain(by_time).fold(0.0, f64::max).clamp(0.0, 1.0)
    }

    fn draw(&self, frame: &mut ratatui::Frame<'_>) {
        let failures = if self.failures.is_empty() { 0 } else { self.failures.len() as u16 + 2 };
        let [head, gauge, facts, curves, table, errors] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(1),
            Constraint::Length(3),
            Constraint::Min(6),
            Constraint::Length((self.ended.len() as u16 + 3).min(14)),
            Constraint::Length(failures),
        ])
        .areas(frame.area());
        frame.render_widget(Paragraph::new(self.title.as_str()).style(Style::new().add_modifier(Modifier::BOLD)), head);
        let label = self.plan.as_ref().map_or(String::new(), |plan| {
            let phase = if self.progress.warmup { " warm-up" } else { "" };
            format!(
                "{}{phase}, stage {} of {}",
                plan.label,
                self.ended.len() + 1,
                self.stages.max(self.ended.len() + 1)
            )
        });
        frame.render_widget(Gauge::default().ratio(self.share()).label(label), gauge);
        frame.render_widget(self.facts(), facts);
        self.draw_curves(frame, curves);
        frame.render_widget(self.table(), table);
        if failures > 0 {
            let lines: Vec<Line<'_>> = self.failures.iter().map(|text| Line::from(text.as_str())).collect();
            frame.render_widget(Paragraph::new(lines).block(Block::bordered().title("last failures")), errors);
        }
    }

    fn facts(&self) -> Paragraph<'_> {
        let of = |values: &VecDeque<f64>| {
            let values: Vec<f64> = values.iter().copied().collect();
            format!("{} / {} ms", short(quantile(&values, 0.5)), short(quantile(&values, 0.99)))
        };
        let now = self.tok_per_s.back().map(|rate| *rate as f64);
        Paragraph::new(vec![
            Line::from(format!(
                "{} done, {} failed, {} in flight, {:.0} s",
                self.progress.ended,
                self.progress.failed,
                self.progress.in_flight,
                self.progress.elapsed_ns as f64 / 1e9
            )),
            Line::from(format!("{} output tok/s now", short(now))),
            Line::from(format!("TTFT p50 / p99 {}    gaps (medians) {}", of(&self.ttft_ms), of(&self.gap_ms))),
        ])
    }

    fn draw_curves(&self, frame: &mut ratatui::Frame<'_>, area: Rect) {
        let halves = Layout::horizontal([Constraint::Percentage(50), Constraint::Percentage(50)]).split(area);
        for (title, values, area) in
            [("output tok/s", &self.tok_per_s, halves[0]), ("requests in flight", &self.in_flight, halves[1])]
        {
            let room = area.width.saturating_sub(2) as usize;
            let shown: Vec<u64> = values.iter().skip(values.len().saturating_sub(room)).copied().collect();
            let most = shown.iter().max().copied().unwrap_or(0);
            let block = Block::bordered().title(format!("{title}, up to {most}"));
            frame.render_widget(Sparkline::default().data(&shown).block(block), area);
        }
    }

    fn table(&self) -> Table<'_> {
        let from = self.ended.len().saturating_sub(11);
        let rows = self.ended[from..].iter().map(|stage| {
            Row::new([
                stage.label.clone(),
                stage.ok.to_string(),
                stage.failed.to_string(),
                short(stage.tok_per_s),
                short(stage.ttft_ms[0]),
                short(stage.ttft_ms[1]),
                short(stage.lag_ms),
            ])
        });
        let names = ["stage", "ok", "failed", "tok/s", "TTFT p50", "p99 ms", "lag p99"];
        let widths = [Constraint::Min(8)].into_iter().chain([Constraint::Length(9); 6]);
        Table::new(rows, widths)
            .header(Row::new(names.map(Cell::from)).style(Style::new().add_modifier(Modifier::BOLD)))
            .block(Block::bordered().title("stages so far"))
    }
}

/// The terminal while the screen is shown; it is put back as it was in any case.
pub(super) struct Tui {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    screen: Screen,
    last: Instant,
    asked: bool,
}

impl Tui {
    /// Takes the terminal over.
    ///
    /// # Errors
    /// If it cannot be.
    pub(super) fn start(screen: Screen) -> std::io::Result<Self> {
        enable_raw_mode()?;
        let mut out = std::io::stdout();
        if let Err(error) = execute!(out, EnterAlternateScreen, terminal::Clear(terminal::ClearType::All)) {
            let _ = disable_raw_mode();
            return Err(error);
        }
        let terminal = Terminal::new(CrosstermBackend::new(out)).inspect_err(|_| restore())?;
        Ok(Self { terminal, screen, last: Instant::now(), asked: false })
    }

    /// What is shown.
    pub(super) fn screen(&mut self) -> &mut Screen {
        &mut self.screen
    }

    /// Draws, if it is time to, and looks at the keys: `q` and Ctrl-C ask for an orderly end, a second time for an end at once.
    pub(super) fn refresh(&mut self, force: bool) {
        while event::poll(Duration::ZERO).unwrap_or(false) {
            let Ok(Event::Key(key)) = event::read() else { continue };
            let interrupt = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
            if interrupt || key.code == KeyCode::Char('q') {
                if self.asked {
                    // The second signal ends the process, which must not leave the terminal behind.
                    restore();
                }
                self.asked = true;
                // SAFETY: raising a signal in one's own process is always allowed; the handlers only set flags.
                unsafe { libc::raise(libc::SIGINT) };
            }
        }
        if force || self.last.elapsed() >= FRAME {
            self.last = Instant::now();
            let screen = &self.screen;
            // A terminal that has gone must not end a test.
            let _ = self.terminal.draw(|frame| screen.draw(frame));
        }
    }
}

fn restore() {
    let _ = disable_raw_mode();
    let _ = execute!(std::io::stdout(), LeaveAlternateScreen);
}

impl Drop for Tui {
    fn drop(&mut self) {
        restore();
    }
}

#[cfg(test)]
mod tests {
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::config::schema::load::ArrivalKind;

    fn text(screen: &Screen, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| screen.draw(frame)).unwrap();
        let buffer = terminal.backend().buffer().clone();
        (0..height)
            .map(|y| {
                (0..width).map(|x| buffer[(x, y)].symbol().to_owned()).collect::<String>().trim_end().to_owned() + "\n"
            })
            .collect()
    }

    fn plan() -> StagePlan {
        StagePlan {
            label: "c=8".to_owned(),
            arrival: ArrivalKind::Closed,
            concurrency: Some(8),
            rate: None,
            requests: Some(40),
            duration_s: None,
            warmup: 0,
        }
    }

    #[test]
    fn the_screen_shows_what_goes_on() {
        let mut screen = Screen::new("vllm at http://h\u{1b}[2J/v1", 3);
        screen.stage(&plan());
        for step in 1..=4u64 {
            screen.progress(&Progress {
                ended: step * 5,
                failed: 1,
                in_flight: 8,
                tokens: step * 600,
                elapsed_ns: step * COLUMN_NS,
                warmup: false,
            });
        }
        let shown = text(&screen, 100, 30);
        assert!(shown.contains("20 done, 1 failed, 8 in flight, 2 s"), "{shown}");
        assert!(shown.contains("1200 output tok/s now"), "{shown}");
        assert!(shown.contains("c=8, stage 1 of 3"), "{shown}");
        assert!(shown.contains("up to 1200"), "{shown}");
        assert!(!shown.contains('\u{1b}'), "what a server says moves no cursor");
    }

    #[test]
    fn a_small_terminal_is_no_reason_to_end() {
        let mut screen = Screen::new("x", 1);
        screen.stage(&plan());
        for (width, height) in [(1, 1), (20, 3), (500, 2)] {
            text(&screen, width, height);
        }
    }
}
