//! Keeps all variants of a study loaded in this process, and lets them take turns repeat by repeat.

use std::time::Instant;

use crate::commands::Context;
use crate::commands::ab::host::StudyProgress;
use crate::commands::interrupt::Interrupt;
use crate::commands::stage1::{self, Begun};
use crate::config::schema::stage1::Stage1Config;
use crate::config::study::Study;
use crate::engine::tokenizer::Tokenizer;
use crate::record::ab::{AB_RUNS_DIRECTORY, AB_SCHEMA_VERSION, AbContext, AbPart, AbRow};
use crate::record::reader::ROWS_FILE;
use crate::record::rows::{RepeatRow, RowStatus};
use crate::record::run_dir::{RunDir, RunOptions, RunStatus};
use crate::record::spans::{SPANS_FILE, SpanLine};
use crate::record::{RecordError, RowsWriter};
use crate::runner::ab::drive::{Host, Outlook, Turn, TurnEnd};
use crate::runner::cases::PreparedCase;
use crate::runner::stage1::{Events, Stage1Runner};
use crate::stats::changepoint::{MIN_VALUES, warm_up};
use crate::trace::timeline::Timeline;

/// Warm-up repeats of a variant at most.
const MOST_WARMUP: usize = 20;
/// Steady repeats that end a warm-up.
const STEADY_REPEATS: usize = 3;
/// Every so many blocks one turn of each variant records operator spans.
const SPAN_EVERY: u32 = 3;

/// One variant with its engine.
struct Loaded {
    label: String,
    config: Stage1Config,
    begun: Begun,
    tokenizer: Tokenizer,
    cases: Vec<PreparedCase>,
    directory: RunDir,
    rows: RowsWriter,
    spans: RowsWriter,
    next: u32,
}

/// What a study needs to run in this process.
pub(super) struct SharedHost<'a> {
    loaded: Vec<Loaded>,
    interrupt: &'a Interrupt,
    rows: RowsWriter,
    written: u64,
    began: Instant,
    progress: StudyProgress,
}

impl<'a> SharedHost<'a> {
    pub(super) fn new(
        directory: &RunDir,
        study: &Study,
        configs: &[Stage1Config],
        context: &Context,
        interrupt: &'a Interrupt,
    ) -> anyhow::Result<Self> {
        let record = |error: RecordError| error.into_failure();
        let began = Instant::now();
        let mut loaded = Vec::new();
        for (index, (variant, config)) in study.variants.iter().zip(configs).enumerate() {
            let prepared = stage1::prepare(config)?;
            let options = RunOptions {
                id: Some(format!("v{index}")),
                config_sha256: Some(variant.composed.sha256()),
                ..RunOptions::default()
            };
            let run = RunDir::create_with(&directory.file(AB_RUNS_DIRECTORY), "stage1", options).map_err(record)?;
            let (begun, tokenizer, cases) = stage1::begin_turns(&run, &variant.composed, config, prepared)?;
            loaded.push(Loaded {
                label: variant.label.clone(),
                config: config.clone(),
                begun,
                tokenizer,
                cases,
                rows: RowsWriter::create(&run.file(ROWS_FILE)).map_err(record)?,
                spans: RowsWriter::create(&run.file(SPANS_FILE)).map_err(record)?,
                directory: run,
                next: 0,
            });
        }
        Ok(Self {
            loaded,
            interrupt,
            rows: RowsWriter::create(&directory.file(ROWS_FILE)).map_err(record)?,
            written: 0,
            began,
            progress: StudyProgress::new(context.progress),
        })
    }

    /// Repeats of every variant until each is steady; their rows are kept, marked as left out.
    pub(super) fn warm_up(&mut self, plan: &AbContext) -> anyhow::Result<()> {
        for variant in 0..self.loaded.len() {
            let mut totals = Vec::new();
            for repeat in 0..MOST_WARMUP {
                let steady = warm_up(&totals, plan.seed).and_then(|found| found.steady_from);
                if totals.len() >= MIN_VALUES && steady.is_some_and(|from| totals.len() - from >= STEADY_REPEATS) {
                    break;
                }
                if self.interrupt.asked() {
                    return Ok(());
                }
                let turn = Turn {
                    part: AbPart::WarmUp,
                    block: repeat as u32,
                    position: 0,
                    variant: variant as u32,
                    process: variant as u32,
                };
                let end = self.run(&turn)?;
                totals.push(end.rows.iter().filter_map(|row| row.total_ms).sum());
                let rows: Vec<AbRow> = end
                    .rows
                    .iter()
                    .map(|row| AbRow {
                        schema_version: AB_SCHEMA_VERSION,
                        run_id: plan.run_id.clone(),
                        index: 0,
                        part: turn.part,
                        variant: turn.variant,
                        label: self.loaded[variant].label.clone(),
                        block: turn.block,
                        position: 0,
                        process: turn.process,
                        child: end.child.clone(),
                        dropped_as_warmup: true,
                        status: row.status,
                        error: row.error.clone(),
                        row: Some(row.clone()),
                    })
                    .collect();
                self.rows(&rows)?;
                if end.rows.iter().any(|row| row.status != RowStatus::Ok) {
                    // The first block will fail likewise, and say so.
                    break;
                }
            }
        }
        Ok(())
    }

    pub(super) fn close(self) -> anyhow::Result<()> {
        self.progress.clear();
        for loaded in self.loaded {
            let Loaded { mut directory, rows, spans, .. } = loaded;
            rows.close().map_err(RecordError::into_failure)?;
            spans.close().map_err(RecordError::into_failure)?;
            directory.finish(RunStatus::Complete, None).map_err(RecordError::into_failure)?;
        }
        Ok(self.rows.close().map_err(RecordError::into_failure)?)
    }
}

/// Takes the rows of one turn, numbered on from the turns before.
#[expect(clippy::struct_field_names, reason = "the rows that were taken")]
struct Taken<'a> {
    next: &'a mut u32,
    repeat: u32,
    rows: &'a mut RowsWriter,
    spans: &'a mut RowsWriter,
    taken: Vec<RepeatRow>,
}

impl Events for Taken<'_> {
    type Error = RecordError;
    fn warmup(&mut self, _case: &str, _index: u32, _of: u32) {}
    fn repeat(&mut self, _case: &str, _index: u32, _of: u32, _spans: bool) {}
    fn row(&mut self, row: &RepeatRow, spans: Option<&Timeline>) -> Result<(), RecordError> {
        let row = RepeatRow { index: *self.next, repeat: self.repeat, ..row.clone() };
        *self.next += 1;
        self.rows.append(&row)?;
        if let Some(timeline) = spans {
            self.spans.append(&SpanLine::from_timeline(timeline, row.index))?;
        }
        self.taken.push(row);
        Ok(())
    }
    fn interrupted(&self) -> bool {
        // A turn is a repeat: it ends by itself, and the study asks between turns.
        false
    }
}

impl Host for SharedHost<'_> {
    type Error = anyhow::Error;

    fn run(&mut self, turn: &Turn) -> anyhow::Result<TurnEnd> {
        let loaded = &mut self.loaded[turn.settings_of()];
        let spans = loaded.begun.spans > 0 && turn.part == AbPart::Study && turn.block.is_multiple_of(SPAN_EVERY);
        let mut config = loaded.config.clone();
        config.repeats = 1;
        config.warmup = 0;
        config.profiling.span_repeats = Some(u32::from(spans));
        let run_id = loaded.directory.run_id().to_owned();
        let mut events = Taken {
            next: &mut loaded.next,
            repeat: turn.block,
            rows: &mut loaded.rows,
            spans: &mut loaded.spans,
            taken: Vec::new(),
        };
        let mut runner = Stage1Runner {
            config: &config,
            run_id: &run_id,
            engine: &mut loaded.begun.engine,
            tokenizer: &loaded.tokenizer,
            thresholds: loaded.begun.thresholds,
            redactor: loaded.directory.redactor(),
            nvtx: loaded.begun.nvtx.as_mut(),
            tracer: None,
            mark_region: false,
            // Each variant would need one of its own, and all would look at the same device.
            telemetry: None,
        };
        runner.run(&loaded.cases, &mut events).map_err(RecordError::into_failure)?;
        let rows = events.taken;
        let failure = rows
            .iter()
            .find(|row| row.status != RowStatus::Ok)
            .map(|row| (row.status, row.error.clone().unwrap_or_else(|| "no reason was given".to_owned())));
        Ok(TurnEnd { rows, child: run_id, failure, interrupted: false })
    }

    fn begins(&mut self, turn: &Turn, label: &str, outlook: &Outlook) {
        self.progress.turn(turn, label, outlook);
    }

    fn rows(&mut self, rows: &[AbRow]) -> anyhow::Result<()> {
        for row in rows {
            // The warm-up has rows before the study's own.
            self.rows.append(&AbRow { index: self.written, ..row.clone() }).map_err(RecordError::into_failure)?;
            self.written += 1;
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
