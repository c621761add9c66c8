//! What a study of variants (`ab`) keeps: its plan, written before the first process, and one row for each repeat that ended.
//!
//! Both are enough to rebuild every summary of a study that was killed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::rows::{RepeatRow, RowStatus};
use crate::diagnostics::Diagnostic;

/// Version of [`AbRow`] and [`AbContext`].
pub const AB_SCHEMA_VERSION: u32 = 1;
/// Name of the file that holds an [`AbContext`].
pub const AB_CONTEXT_FILE: &str = "study.json";
/// Folder of a study under which the runs of its processes lie, as `stage1/<run id>/`.
pub const AB_RUNS_DIRECTORY: &str = "runs";

/// What a process was run for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AbPart {
    /// The A/A control: the baseline against itself.
    Control,
    /// The study.
    Study,
}

/// Whether variants share a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// Each turn of a variant is a process of its own.
    OwnProcess,
    /// All variants live in one process and take turns repeat by repeat.
    InProcess,
}

impl Isolation {
    /// In words, as reports have it.
    pub const fn words(self) -> &'static str {
        match self {
            Self::OwnProcess => "own process",
            Self::InProcess => "in process",
        }
    }
}

/// One variant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AbVariant {
    /// What the reports call it.
    pub label: String,
    /// The settings it adds to the shared ones, in order, as overrides.
    pub overrides: Vec<String>,
}

/// What was planned, and what the rows do not say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AbContext {
    /// [`AB_SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The study.
    pub run_id: String,
    /// The variants, baseline first.
    pub variants: Vec<AbVariant>,
    /// Settings of all variants, as overrides.
    pub shared: Vec<String>,
    /// How variants are kept apart.
    pub isolation: Isolation,
    /// Seed of the order and of the statistics.
    pub seed: u64,
    /// Blocks before the study may end.
    pub min_blocks: u32,
    /// Blocks after which it ends.
    pub blocks: u32,
    /// Blocks of the A/A control; 0 for none.
    pub control_blocks: u32,
    /// Seconds after which no further block is begun.
    pub budget_s: f64,
    /// Half width of the intervals, relative, at which the study ends.
    pub precision: f64,
    /// δ within which a ratio counts as the same.
    pub margin: f64,
    /// Rules of the gate.
    pub fail_on: Vec<String>,
    /// Findings before the first process.
    pub diagnostics: Vec<Diagnostic>,
}

impl AbContext {
    /// The labels of the control: the baseline, and the baseline under another name.
    pub fn control_labels(&self) -> [String; 2] {
        let base = self.variants.first().map_or_else(String::new, |variant| variant.label.clone());
        [base.clone(), format!("{base} again")]
    }
    /// The settings of each variant by key, as reports show them.
    pub fn settings(&self) -> Vec<BTreeMap<String, String>> {
        let pair = |text: &String| match text.split_once('=') {
            Some((key, value)) => (key.to_owned(), value.to_owned()),
            None => (text.clone(), String::new()),
        };
        self.variants.iter().map(|variant| variant.overrides.iter().map(pair).collect()).collect()
    }
}

/// One repeat of one variant, or a process that ended without any. Unknown is null.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AbRow {
    /// [`AB_SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The study.
    pub run_id: String,
    /// Row number from 0.
    pub index: u64,
    /// Control or study.
    pub part: AbPart,
    /// Position of the variant among the labels of its part.
    pub variant: u32,
    /// Its label.
    pub label: String,
    /// Block from 0, counted in each part.
    pub block: u32,
    /// Position of the variant in its block.
    pub position: u32,
    /// Process from 0 over the whole study; in one shared process, the turn.
    pub process: u32,
    /// Run id below `runs/stage1/`.
    pub child: String,
    /// Whether the repeat was left out because the process had not become steady yet.
    pub dropped_as_warmup: bool,
    /// How the repeat (or the process) ended.
    pub status: RowStatus,
    /// What went wrong, if anything.
    pub error: Option<String>,
    /// The repeat; null where the process ended without one.
    pub row: Option<RepeatRow>,
}
