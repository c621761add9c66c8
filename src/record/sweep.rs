//! Files of a sweep: the plan, one row for every point that was tried, and the summary.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::de::IoRead;

use super::error::RecordError;
use super::reader;
use super::rows::RowStatus;
use crate::diagnostics::{Diagnostic, Diagnostics, Severity, Validity};
use crate::stats::summary::Summary;

/// Version of [`SweepPlanFile`], [`SweepRow`] and [`SweepMetrics`].
pub const SWEEP_SCHEMA_VERSION: u32 = 1;
/// The plan, written before the first point.
pub const SWEEP_PLAN_FILE: &str = "sweep.json";
/// One row for every attempt at a point.
pub const SWEEP_ROWS_FILE: &str = "points.jsonl";
/// Where the runs of the points lie.
pub const SWEEP_RUNS_DIRECTORY: &str = "runs";

/// One point as planned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedPoint {
    /// What tells it from the others: key and value, in the order of the axes.
    pub settings: Vec<(String, String)>,
    /// All overrides of its run, without secrets.
    pub overrides: Vec<String>,
    /// SHA-256 of its settings and of the files they name: a point that was finished under another one is not this point.
    pub fingerprint: String,
}

/// `sweep.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SweepPlanFile {
    /// [`SWEEP_SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The run.
    pub run_id: String,
    /// Command that runs a point: `stage1` or `load`.
    pub runs: String,
    /// Name of the configuration.
    pub name: String,
    /// Points in order of their numbers.
    pub points: Vec<PlannedPoint>,
    /// Order in which they are tried.
    pub order: Vec<u32>,
    /// Measure the best point is sought by, e.g. `decode_tok_per_s`.
    pub objective: Option<String>,
    /// Conditions a point must meet to be best, e.g. `ttft_ms<200`.
    pub constraints: Vec<String>,
    /// Measures of the Pareto front.
    pub pareto: Vec<String>,
    /// Whether points that call themselves INVALID may be best.
    pub allow_invalid: bool,
    /// Findings of this sweep that its rows do not tell, each from the start or from when it was gone on with.
    pub diagnostics: Vec<Diagnostic>,
}

impl SweepPlanFile {
    /// The number of the point that `row` is an attempt at: the one it names, else the only one with its fingerprint, as after a change of the
    /// plan that moved the points; `None` where it belongs to no point of this plan.
    pub fn point_of(&self, row: &SweepRow) -> Option<u32> {
        let is_it = |point: &PlannedPoint| point.fingerprint == row.fingerprint;
        if self.points.get(row.point as usize).is_some_and(is_it) {
            return Some(row.point);
        }
        let mut found = self.points.iter().enumerate().filter(|(_, point)| is_it(point));
        match (found.next(), found.next()) {
            (Some((index, _)), None) => Some(index as u32),
            _ => None,
        }
    }
    /// The last attempt at each point, by number.
    pub fn last_attempts<'a>(&self, rows: &'a [SweepRow]) -> Vec<Option<&'a SweepRow>> {
        let mut last = vec![None; self.points.len()];
        for row in rows {
            if let Some(place) = self.point_of(row).and_then(|point| last.get_mut(point as usize)) {
                *place = Some(row);
            }
        }
        last
    }

    /// Points in which `other` differs from this plan, by number; lengths included.
    pub fn differing(&self, other: &Self) -> Vec<u32> {
        let longest = self.points.len().max(other.points.len());
        (0..longest)
            .filter(|index| {
                let of = |plan: &Self| plan.points.get(*index).map(|point| point.fingerprint.clone());
                of(self) != of(other)
            })
            .map(|index| index as u32)
            .collect()
    }
}

/// The measures of one case of a point.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CaseResult {
    /// Case.
    pub case: String,
    /// Its measures.
    pub measures: BTreeMap<String, Summary>,
}

/// One attempt at a point.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SweepRow {
    /// [`SWEEP_SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The sweep.
    pub run_id: String,
    /// Number of the point.
    pub point: u32,
    /// Attempt from 0.
    pub attempt: u32,
    /// As [`PlannedPoint::fingerprint`].
    pub fingerprint: String,
    /// Run id below `runs/stage1/` or `runs/load/`.
    pub child: String,
    /// How it ended.
    pub status: RowStatus,
    /// What went wrong.
    pub error: Option<String>,
    /// Whether its run calls itself VALID; null without a run.
    pub valid: Option<bool>,
    /// Wall-clock start, RFC 3339 UTC.
    pub started_at: String,
    /// Seconds it took.
    pub took_s: f64,
    /// Measures by case; empty unless it ended well.
    pub cases: Vec<CaseResult>,
}

impl SweepRow {
    /// Whether the point need not be tried again: it ended well, or will not fit into the memory the next time either.
    pub fn is_final(&self) -> bool {
        matches!(self.status, RowStatus::Ok | RowStatus::Oom)
    }
}

/// One point with its case, as the tables show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SweepResult {
    /// Number of the point.
    pub point: u32,
    /// Case; null where the point did not end well.
    pub case: Option<String>,
    /// What tells the point from the others.
    pub settings: BTreeMap<String, String>,
    /// How its last attempt ended; null if it was not tried yet.
    pub status: Option<RowStatus>,
    /// What went wrong.
    pub error: Option<String>,
    /// Whether its run calls itself VALID.
    pub valid: Option<bool>,
    /// Its run, below `runs/stage1/` or `runs/load/`.
    pub run: Option<String>,
    /// Measures.
    pub measures: BTreeMap<String, Summary>,
}

/// A key and the values it took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Axis {
    /// The key.
    pub key: String,
    /// Its values in the order of the plan.
    pub values: Vec<String>,
}

/// Points none of which is beaten in every measure by another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParetoFront {
    /// The measures.
    pub measures: Vec<String>,
    /// Positions among the results, in the order of the first measure, best first.
    pub results: Vec<u32>,
    /// Results that could not be placed: a measure is missing.
    pub left_out: u64,
}

/// The best point.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// The measure it is best in.
    pub objective: String,
    /// Conditions it meets.
    pub constraints: Vec<String>,
    /// Position among the results; null where none meets them.
    pub result: Option<u32>,
    /// Median of the objective there.
    pub value: Option<f64>,
    /// Other results that meet the conditions and whose 95 % interval of the objective reaches into that of the best: the sweep does not tell them apart.
    pub not_told_apart: Vec<u32>,
    /// Results that meet the conditions.
    pub candidates: u64,
    /// Why there is none, or how sure it is, in one sentence.
    pub reason: String,
    /// The command line that runs the best point by itself; null where there is none.
    pub command_line: Option<String>,
}

/// Medians of one measure over two axes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeatMap {
    /// The measure.
    pub measure: String,
    /// Unit.
    pub unit: String,
    /// Axis across.
    pub x: Axis,
    /// Axis down.
    pub y: Axis,
    /// What the other keys (and the case) are in this map.
    pub fixed: BTreeMap<String, String>,
    /// `values[y][x]`; null where the point has none.
    pub values: Vec<Vec<Option<f64>>>,
    /// Why a value is missing: `oom`, `failed`, `not run`; null where there is one.
    pub missing: Vec<Vec<Option<String>>>,
}

/// `metrics.json` of a sweep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SweepMetrics {
    /// [`SWEEP_SCHEMA_VERSION`].
    pub schema_version: u32,
    /// `sweep`.
    pub command: String,
    /// The run.
    pub run_id: String,
    /// `complete`, `interrupted`, `failed` or `invalid`.
    pub status: String,
    /// Whether the numbers may be relied on.
    pub validity: Validity,
    /// Empty: measures belong to the points. Kept because all commands share it.
    pub measures: BTreeMap<String, Summary>,
    /// Command that ran the points.
    pub runs: String,
    /// Name of the configuration.
    pub name: String,
    /// Points planned.
    pub points: u64,
    /// Points by how they ended: `ok`, `oom`, `failed`, `interrupted`, `not_run`.
    pub outcomes: BTreeMap<String, u64>,
    /// Keys that vary.
    pub axes: Vec<Axis>,
    /// Every point and case.
    pub results: Vec<SweepResult>,
    /// The front; null without measures for it.
    pub pareto: Option<ParetoFront>,
    /// The best point; null without an objective.
    pub best: Option<Best>,
    /// Maps of the objective and the measures of the front over pairs of axes.
    pub heat_maps: Vec<HeatMap>,
    /// Findings.
    pub diagnostics: Vec<Diagnostic>,
}

/// `sweep.json` of a sweep.
///
/// # Errors
/// If it is not there, damaged, or of a later version.
pub fn read_plan(dir: &Path) -> Result<SweepPlanFile, RecordError> {
    let path = dir.join(SWEEP_PLAN_FILE);
    let bytes = std::fs::read(&path).map_err(|source| RecordError::Read { path: path.clone(), source })?;
    reader::parse_versioned(&path, None, &bytes, SWEEP_SCHEMA_VERSION)
}

/// The rows of a sweep, none where no point was tried. A torn last line is dropped and counted; with `salvage` so is any other damaged line, else it
/// is an error.
///
/// # Errors
/// If the file is damaged in the middle, or of a later version.
pub fn read_rows(dir: &Path, salvage: bool) -> Result<(Vec<SweepRow>, Vec<Diagnostic>), RecordError> {
    let path = dir.join(SWEEP_ROWS_FILE);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok((Vec::new(), Vec::new())),
        Err(source) => return Err(RecordError::Read { path, source }),
    };
    let mut rows = Vec::new();
    let mut diagnostics = Diagnostics::default();
    let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let last = lines.iter().rposition(|line| !line.is_empty());
    for (index, line) in lines.iter().enumerate().filter(|(_, line)| !line.is_empty()) {
        let number = index as u64 + 1;
        match reader::parse_versioned(&path, Some(number), line, SWEEP_SCHEMA_VERSION) {
            Ok(row) => rows.push(row),
            Err(newer @ RecordError::NewerSchema { .. }) => return Err(newer),
            Err(_) if last == Some(index) && !is_json(line) => diagnostics.note(
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

fn is_json(line: &[u8]) -> bool {
    let mut values = serde_json::Deserializer::new(IoRead::new(line)).into_iter::<serde::de::IgnoredAny>();
    values.next().is_some_and(|value| value.is_ok())
}
