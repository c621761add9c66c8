//! Runs a study turn by turn: the control first, then block after block until the rule for the end says so.

use super::plan;
use super::steady::steady;
use super::stop::{StopReason, StopRule};
use super::widths::half_widths;
use crate::diagnostics::{Diagnostics, Severity};
use crate::record::ab::{AB_SCHEMA_VERSION, AbContext, AbPart, AbRow};
use crate::record::rows::{RepeatRow, RowStatus};

/// Blocks running in which a variant may fail before the study ends.
pub const FAILURES_RUNNING: u32 = 3;
/// Share of the budget that the control may use: without the study itself it is worth nothing.
pub const CONTROL_SHARE: f64 = 0.4;

/// One turn of one variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// What for.
    pub part: AbPart,
    /// Block of its part, from 0.
    pub block: u32,
    /// Position in the block.
    pub position: u32,
    /// Which label of its part.
    pub variant: u32,
    /// Turn from 0 over the whole study.
    pub process: u32,
}

impl Turn {
    /// Run id of the turn's process: part, block, position, variant.
    pub fn run_id(&self) -> String {
        let part = match self.part {
            AbPart::WarmUp => 'w',
            AbPart::Control => 'c',
            AbPart::Study => 'b',
        };
        format!("{part}{:03}-{}-v{}", self.block, self.position, self.variant)
    }
    /// Whose settings it runs: those of the baseline throughout the control.
    pub fn settings_of(&self) -> usize {
        match self.part {
            AbPart::Control => 0,
            AbPart::WarmUp | AbPart::Study => self.variant as usize,
        }
    }
}

/// What became of a turn.
#[derive(Debug, Clone, PartialEq)]
pub struct TurnEnd {
    /// The repeats, in the order they were measured.
    pub rows: Vec<RepeatRow>,
    /// Where the rows are.
    pub child: String,
    /// Why the turn as a whole failed, if it did; rows that ended well before stay.
    pub failure: Option<(RowStatus, String)>,
    /// Cut short by the user.
    pub interrupted: bool,
}

/// Where a study stands, for those who wait.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outlook {
    /// Turns that ended.
    pub turns_done: u32,
    /// Turns at most.
    pub turns_at_most: u32,
    /// Seconds since the study began.
    pub elapsed_s: f64,
    /// Seconds the rest takes at most, if a turn takes as long as those so far; null before the first ended.
    pub rest_at_most_s: Option<f64>,
    /// Repeats marked as disturbed by other processes so far.
    pub disturbed: u64,
    /// Repeats so far.
    pub repeats: u64,
}

/// What a study needs of its surroundings.
pub trait Host {
    /// What it returns when it cannot go on.
    type Error;
    /// Runs one turn to its end. A variant that fails is a [`TurnEnd`]; an error is for what ends the study, such as a full disk.
    fn run(&mut self, turn: &Turn) -> Result<TurnEnd, Self::Error>;
    /// A turn begins.
    fn begins(&mut self, turn: &Turn, label: &str, outlook: &Outlook);
    /// Rows are complete.
    fn rows(&mut self, rows: &[AbRow]) -> Result<(), Self::Error>;
    /// Seconds since the study began.
    fn elapsed_s(&self) -> f64;
    /// True when the user wants to stop; asked between turns.
    fn interrupted(&self) -> bool;
}

/// A variant that ended the study.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VariantFailure {
    /// Its label.
    pub label: String,
    /// What its last failure said.
    pub error: String,
    /// Run id of that failure.
    pub child: String,
    /// No repeat of it ever ended well.
    pub never_worked: bool,
}

/// How a study ended.
#[derive(Debug, Clone)]
pub struct StudyEnd {
    /// Why.
    pub reason: StopReason,
    /// The variant that ended it, if one did.
    pub failure: Option<VariantFailure>,
    /// Seconds it took.
    pub took_s: f64,
    /// All rows.
    pub rows: Vec<AbRow>,
    /// What was noticed on the way.
    pub diagnostics: Diagnostics,
}

/// A study under way.
struct Study<'a, H: Host> {
    context: &'a AbContext,
    host: &'a mut H,
    rows: Vec<AbRow>,
    diagnostics: Diagnostics,
    turns: u32,
    turns_at_most: u32,
    disturbed: u64,
    repeats: u64,
    /// Blocks running in which each variant failed.
    failing: Vec<u32>,
}

/// Why a block ended the study.
enum Cut {
    Interrupted,
    Failed(VariantFailure),
}

/// Runs the study that `context` describes.
///
/// # Errors
/// What `host` returns. A variant that fails in its first block, or in [`FAILURES_RUNNING`] blocks running, ends the study with
/// [`StopReason::Failed`], and all rows stay.
pub fn run<H: Host>(context: &AbContext, host: &mut H) -> Result<StudyEnd, H::Error> {
    let variants = context.variants.len();
    let mut study = Study {
        context,
        host,
        rows: Vec::new(),
        diagnostics: Diagnostics::default(),
        turns: 0,
        turns_at_most: 2 * context.control_blocks + variants as u32 * context.blocks,
        disturbed: 0,
        repeats: 0,
        failing: vec![0; variants.max(2)],
    };
    let cut = study.control()?;
    let (reason, failure) = match cut {
        Some(cut) => cut.into_end(),
        None => study.blocks()?,
    };
    Ok(StudyEnd { reason, failure, took_s: study.host.elapsed_s(), rows: study.rows, diagnostics: study.diagnostics })
}

impl Cut {
    fn into_end(self) -> (StopReason, Option<VariantFailure>) {
        match self {
            Self::Interrupted => (StopReason::Interrupted, None),
            Self::Failed(failure) => (StopReason::Failed, Some(failure)),
        }
    }
}

impl<H: Host> Study<'_, H> {
    /// The A/A control: whole rounds of the baseline against itself, in its own share of the budget.
    fn control(&mut self) -> Result<Option<Cut>, H::Error> {
        let labels = self.context.control_labels();
        // Another seed: the control must not have the order of the study.
        let order = plan::order(2, self.context.control_blocks, self.context.seed ^ 0x5a5a_5a5a);
        let began = self.host.elapsed_s();
        for (block, turns) in order.iter().enumerate() {
            let done = block as f64;
            let elapsed = self.host.elapsed_s();
            let block_s = if block > 0 { (elapsed - began) / done } else { 0.0 };
            if block > 0 && elapsed + block_s > CONTROL_SHARE * self.context.budget_s {
                self.diagnostics.note(
                    "short_control",
                    Severity::Info,
                    format!(
                        "the A/A control ended after {block} of {} blocks, to leave the budget to the study; raise `budget_s=`",
                        self.context.control_blocks
                    ),
                );
                break;
            }
            if let Some(cut) = self.block(AbPart::Control, block as u32, turns, &labels)? {
                return Ok(Some(cut));
            }
        }
        self.failing.fill(0);
        Ok(None)
    }

    fn blocks(&mut self) -> Result<(StopReason, Option<VariantFailure>), H::Error> {
        let labels: Vec<String> = self.context.variants.iter().map(|variant| variant.label.clone()).collect();
        let order = plan::order(labels.len(), self.context.blocks, self.context.seed);
        let rule = StopRule {
            min_blocks: self.context.min_blocks,
            max_blocks: self.context.blocks,
            round: plan::round_length(labels.len()),
            budget_s: self.context.budget_s,
            precision: self.context.precision,
        };
        let began = self.host.elapsed_s();
        for (block, turns) in order.iter().enumerate() {
            if let Some(cut) = self.block(AbPart::Study, block as u32, turns, &labels)? {
                return Ok(cut.into_end());
            }
            let elapsed = self.host.elapsed_s();
            let done = block as u32 + 1;
            let block_s = (elapsed - began) / f64::from(done);
            let widths = || half_widths(&self.rows, labels.len(), self.context.seed);
            if let Some(reason) = rule.after_block(done, elapsed, block_s, widths) {
                return Ok((reason, None));
            }
        }
        Ok((StopReason::Blocks, None))
    }

    /// One block; `None` if the study may go on.
    fn block(&mut self, part: AbPart, block: u32, order: &[u32], labels: &[String]) -> Result<Option<Cut>, H::Error> {
        for (position, &variant) in order.iter().enumerate() {
            if self.host.interrupted() {
                return Ok(Some(Cut::Interrupted));
            }
            let turn = Turn { part, block, position: position as u32, variant, process: self.turns };
            let label = labels.get(variant as usize).cloned().unwrap_or_default();
            let outlook = self.outlook();
            self.host.begins(&turn, &label, &outlook);
            let end = self.host.run(&turn)?;
            self.turns += 1;
            let worked = self.take(&turn, &label, &end)?;
            if end.interrupted {
                return Ok(Some(Cut::Interrupted));
            }
            let failing = &mut self.failing[variant as usize];
            *failing = if worked { 0 } else { *failing + 1 };
            if !worked && (block == 0 || *failing >= FAILURES_RUNNING) {
                let never_worked = !self
                    .rows
                    .iter()
                    .any(|row| row.status == RowStatus::Ok && row.part == part && row.variant == variant);
                let error = self
                    .rows
                    .iter()
                    .rev()
                    .find_map(|row| row.error.clone())
                    .unwrap_or_else(|| "no repeat ended well".to_owned());
                return Ok(Some(Cut::Failed(VariantFailure { label, error, child: end.child, never_worked })));
            }
        }
        Ok(None)
    }

    /// Takes the rows of a turn; true if at least one repeat ended well and the turn as a whole did not fail.
    fn take(&mut self, turn: &Turn, label: &str, end: &TurnEnd) -> Result<bool, H::Error> {
        let found = steady(&end.rows, self.context.seed);
        for case in &found.never_steady {
            self.diagnostics.note(
                "not_steady",
                Severity::Warn,
                format!(
                    "`{label}`, block {}: the times of case `{case}` were still changing when the process ended; all its repeats were kept; raise \
                     `warmup=` or `repeats=`",
                    turn.block
                ),
            );
        }
        let row = |row: Option<&RepeatRow>, dropped: bool, status: RowStatus, error: Option<String>| AbRow {
            schema_version: AB_SCHEMA_VERSION,
            run_id: self.context.run_id.clone(),
            index: 0,
            part: turn.part,
            variant: turn.variant,
            label: label.to_owned(),
            block: turn.block,
            position: turn.position,
            process: turn.process,
            child: end.child.clone(),
            dropped_as_warmup: dropped,
            status,
            error,
            row: row.cloned(),
        };
        let mut rows: Vec<AbRow> = end
            .rows
            .iter()
            .zip(&found.dropped)
            .map(|(repeat, dropped)| row(Some(repeat), *dropped, repeat.status, repeat.error.clone()))
            .collect();
        // A failure that a row tells already needs no row of its own.
        if let Some((status, error)) = &end.failure
            && !end.rows.iter().any(|row| row.status != RowStatus::Ok)
        {
            rows.push(row(None, false, *status, Some(error.clone())));
        }
        if end.interrupted {
            rows.push(row(None, false, RowStatus::Interrupted, Some("cut short by the user".to_owned())));
        }
        let begin = self.rows.len() as u64;
        for (index, row) in rows.iter_mut().enumerate() {
            row.index = begin + index as u64;
        }
        self.host.rows(&rows)?;
        self.repeats += end.rows.len() as u64;
        self.disturbed += end.rows.iter().filter(|row| row.contention.disturbed).count() as u64;
        let worked = end.failure.is_none() && end.rows.iter().any(|row| row.status == RowStatus::Ok);
        self.rows.extend(rows);
        Ok(worked)
    }

    fn outlook(&self) -> Outlook {
        let elapsed_s = self.host.elapsed_s();
        let left = f64::from(self.turns_at_most.saturating_sub(self.turns));
        let rest = (self.turns > 0).then(|| elapsed_s / f64::from(self.turns) * left);
        Outlook {
            turns_done: self.turns,
            turns_at_most: self.turns_at_most,
            elapsed_s,
            rest_at_most_s: rest.map(|rest| rest.min((self.context.budget_s - elapsed_s).max(0.0))),
            disturbed: self.disturbed,
            repeats: self.repeats,
        }
    }
}
