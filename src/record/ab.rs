//! What a study of variants (`ab`) keeps: its plan, written before the first process, and one row for each repeat that ended.
//!
//! Both are enough to rebuild every summary of a study that was killed.

use std::collections::BTreeMap;
use std::path::Path;

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

use super::error::RecordError;
use super::reader::{self, ROWS_FILE};
use super::rows::{RepeatRow, RowStatus};
use crate::diagnostics::{Diagnostic, Diagnostics, Severity};

/// Version of [`AbRow`] and [`AbContext`].
pub const AB_SCHEMA_VERSION: u32 = 1;
/// Name of the file that holds an [`AbContext`].
pub const AB_CONTEXT_FILE: &str = "study.json";
/// Name of the file that holds an [`AbEnd`].
pub const AB_END_FILE: &str = "study_end.json";
/// Folder of a study under which the runs of its processes lie, as `stage1/<run id>/`.
pub const AB_RUNS_DIRECTORY: &str = "runs";

/// What a process was run for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AbPart {
    /// Repeats before everything else that only make the engines of one shared process steady.
    WarmUp,
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
    /// Settings in which the variants differ on purpose, as dotted keys (`env.NAME` for a variable of the environment).
    pub studied: Vec<String>,
    /// Whether INVALID runs are relied on all the same.
    pub allow_invalid: bool,
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

/// How a study ended, written before its summary; a study without it was killed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AbEnd {
    /// [`AB_SCHEMA_VERSION`].
    pub schema_version: u32,
    /// `precise enough`, `budget`, `blocks`, `interrupted` or `failed`.
    pub stopped_because: String,
    /// Seconds it took.
    pub took_s: f64,
    /// What ended it, if a variant did.
    pub error: Option<String>,
    /// What was noticed on the way.
    pub diagnostics: Vec<Diagnostic>,
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

fn read<T: DeserializeOwned>(dir: &Path, name: &str) -> Result<T, RecordError> {
    let path = dir.join(name);
    let bytes = std::fs::read(&path).map_err(|source| RecordError::Read { path: path.clone(), source })?;
    reader::parse_versioned(&path, None, &bytes, AB_SCHEMA_VERSION)
}

/// `study.json` of a study.
///
/// # Errors
/// If it is not there, damaged, or of a later version.
pub fn read_context(dir: &Path) -> Result<AbContext, RecordError> {
    read(dir, AB_CONTEXT_FILE)
}

/// `study_end.json` of a study; `None` where the study was killed before it could be written.
///
/// # Errors
/// If it is damaged or of a later version.
pub fn read_end(dir: &Path) -> Result<Option<AbEnd>, RecordError> {
    if dir.join(AB_END_FILE).exists() { read(dir, AB_END_FILE).map(Some) } else { Ok(None) }
}

/// The rows of a study. A torn last line is dropped and counted; with `salvage` so is any other damaged line, else it is an error.
///
/// # Errors
/// If the file is not there, damaged in the middle, or of a later version.
pub fn read_rows(dir: &Path, salvage: bool) -> Result<(Vec<AbRow>, Vec<Diagnostic>), RecordError> {
    let path = dir.join(ROWS_FILE);
    let bytes = std::fs::read(&path).map_err(|source| RecordError::Read { path: path.clone(), source })?;
    let mut rows = Vec::new();
    let mut diagnostics = Diagnostics::default();
    let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let last = lines.iter().rposition(|line| !line.is_empty());
    for (index, line) in lines.iter().enumerate().filter(|(_, line)| !line.is_empty()) {
        let number = index as u64 + 1;
        match reader::parse_versioned(&path, Some(number), line, AB_SCHEMA_VERSION) {
            Ok(row) => rows.push(row),
            Err(newer @ RecordError::NewerSchema { .. }) => return Err(newer),
            Err(_) if last == Some(index) && serde_json::from_slice::<IgnoredAny>(line).is_err() => diagnostics.note(
                "torn_last_row",
                Severity::DataLoss,
                format!("{}:{number}: the last line is not whole and was dropped, as after a crash", path.display()),
            ),
            Err(error) if salvage => diagnostics.note(
                "bad_row",
                Severity::DataLoss,
                format!("{}:{number}: the line is damaged and was dropped ({error})", path.display()),
            ),
            Err(error) => return Err(error),
        }
    }
    Ok((rows, diagnostics.into_vec()))
}
