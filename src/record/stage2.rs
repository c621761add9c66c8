//! Files of a stage2 run: what was asked for and what became of each part, and every command that was run.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::atomic;
use super::error::RecordError;
use super::reader;
use crate::config::schema::stage2::Stage2Settings;
use crate::diagnostics::Diagnostic;
use crate::estimate::architecture::Architecture;

/// Version of [`Stage2State`] and [`CommandsFile`].
pub const STAGE2_SCHEMA_VERSION: u32 = 1;
/// What was asked for and what became of it; rewritten after every command.
pub const STAGE2_FILE: &str = "stage2.json";
/// Every command; rewritten when one begins and when it has ended.
pub const COMMANDS_FILE: &str = "commands.json";
/// Where the runs of the workload lie.
pub const STAGE2_RUNS_DIRECTORY: &str = "runs";
/// The timeline of the whole run.
pub const TRACE_FILE: &str = "trace.sqlite";

/// `stage2.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stage2State {
    /// [`STAGE2_SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The run.
    pub run_id: String,
    /// The command line of the program that was profiled, without secrets; null for `perfprof stage1`.
    pub program: Option<Vec<String>>,
    /// Settings of the workload, without secrets.
    pub overrides: Vec<String>,
    /// How it was profiled.
    pub settings: Stage2Settings,
    /// The model that ran; null where nobody says.
    pub model: Option<ModelRecord>,
    /// Ceilings given by the user.
    pub peaks: PeaksRecord,
    /// nsys and ncu as they were found.
    pub tools: Vec<ToolRecord>,
    /// The run without a tracer; null where there was none.
    pub plain: Option<WorkloadRun>,
    /// Captures in the order in which they were made.
    pub captures: Vec<CaptureRecord>,
    /// Profiles of kernels in the order in which they were made.
    pub profiles: Vec<ProfileRecord>,
    /// What went wrong or was left out.
    pub diagnostics: Vec<Diagnostic>,
}

/// A tool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolRecord {
    /// `nsys` or `ncu`.
    pub name: String,
    /// Where it is; null if it was not found.
    pub path: Option<String>,
    /// Its version; null if it did not say one.
    pub version: Option<String>,
    /// Why it cannot be used; null if it can.
    pub problem: Option<String>,
}

/// The model behind the workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelRecord {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub architecture: Architecture,
    /// Storage of its matrices.
    pub dtype: String,
    /// Storage of the KV cache.
    pub kv_dtype: String,
    /// Sequences in a step.
    pub batch: u32,
    /// Prompt tokens of each; null where nobody says.
    pub prompt_tokens: Option<u32>,
    /// Who says so.
    pub said_by: String,
}

/// Ceilings given by the user; null ones are looked up by the name of the device.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PeaksRecord {
    /// FLOP/s.
    pub flops_per_s: Option<f64>,
    /// Bytes per second.
    pub bytes_per_s: Option<f64>,
    /// Arithmetic that a looked-up peak is for.
    pub dtype: String,
}

/// One run of the workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkloadRun {
    /// Its run directory, relative to that of stage2; null for another program.
    pub run: Option<String>,
    /// From the start of its process to its end, s. Under a tracer the tracer's own work is in it.
    pub wall_s: f64,
    /// Median of its `total_ms`; null for another program, or where no repeat ended well.
    pub total_ms: Option<f64>,
}

/// One capture of nsys.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CaptureRecord {
    /// `all`, or the range that opened it.
    pub name: String,
    /// Range that opened it, as nsys was told; null for the whole run.
    pub range: Option<String>,
    /// Directory of its reports, relative to the run; empty for the run itself.
    pub directory: String,
    /// The scrubbed export, relative to the run; null if there is none.
    pub database: Option<String>,
    /// The report of the tool, relative to the run; null if it was not kept.
    pub report: Option<String>,
    /// The run of the workload in it; null if it did not run.
    pub workload: Option<WorkloadRun>,
    /// Why there is no timeline; null if there is one.
    pub error: Option<String>,
}

/// What became of a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProfileOutcome {
    /// Counters are there.
    Ok,
    /// No launch matched, also without gate and sections.
    NoKernels,
    /// The driver keeps the counters for root.
    NoPermission,
    /// The tool failed.
    Failed,
    /// It took longer than its limit.
    TimedOut,
    /// It was not run, for a reason that holds for all that follow.
    NotRun,
}

/// The profile of one kernel in one phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProfileRecord {
    /// Number from 1; files are called by it.
    pub number: u32,
    /// The capture the kernel was chosen from; null without a timeline.
    pub capture: Option<String>,
    /// The phase it was chosen for; null for all work.
    pub phase: Option<String>,
    /// Demangled name; null for whatever kernels come.
    pub kernel: Option<String>,
    /// Matching launches passed over.
    pub skip: u64,
    /// Matching launches asked for.
    pub count: u32,
    /// What became of it.
    pub outcome: ProfileOutcome,
    /// True if it was tried again without gate, sections and metrics.
    pub retried: bool,
    /// Why there are no counters; null if there are.
    pub error: Option<String>,
    /// The raw page, relative to the run; null if there is none.
    pub raw: Option<String>,
    /// The page with the tool's advice; null if there is none.
    pub details: Option<String>,
    /// The report of the tool; null if it was not kept.
    pub report: Option<String>,
    /// Seconds of all its commands.
    pub took_s: f64,
}

/// `commands.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CommandsFile {
    /// [`STAGE2_SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The run.
    pub run_id: String,
    /// In the order in which they were run.
    pub commands: Vec<CommandRecord>,
}

/// One command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CommandRecord {
    /// What it was for, e.g. `nsys profile all`.
    pub purpose: String,
    /// Program and arguments, without secrets.
    pub argv: Vec<String>,
    /// Variables set for it, without secrets, as `NAME=value`.
    pub environment: Vec<String>,
    /// Version of the tool; null where it is not known.
    pub version: Option<String>,
    /// Begin, RFC 3339 UTC.
    pub started_at: String,
    /// Seconds; null while it runs, and where it never ended.
    pub took_s: Option<f64>,
    /// Exit code; null while it runs and where a signal ended it.
    pub exit_code: Option<i32>,
    /// Signal that ended it.
    pub signal: Option<i32>,
    /// `running`, `ended`, `interrupted`, `over_limit`, `not_started`.
    pub state: String,
    /// Its stdout, relative to the run.
    pub stdout: String,
    /// Its stderr, relative to the run.
    pub stderr: String,
}

/// Reads `stage2.json` of the run in `directory`.
///
/// # Errors
/// If it is absent, damaged, or of a later version.
pub fn read_state(directory: &Path) -> Result<Stage2State, RecordError> {
    read(&directory.join(STAGE2_FILE))
}

/// Reads `commands.json` of the run in `directory`.
///
/// # Errors
/// As [`read_state`].
pub fn read_commands(directory: &Path) -> Result<CommandsFile, RecordError> {
    read(&directory.join(COMMANDS_FILE))
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T, RecordError> {
    let bytes = std::fs::read(path).map_err(|source| RecordError::Read { path: path.to_owned(), source })?;
    reader::parse_versioned(path, None, &bytes, STAGE2_SCHEMA_VERSION)
}

/// Writes `stage2.json`.
///
/// # Errors
/// If it cannot be written.
pub fn write_state(directory: &Path, state: &Stage2State) -> Result<(), RecordError> {
    atomic::write_json_atomic(&directory.join(STAGE2_FILE), state)
}

/// Writes `commands.json`.
///
/// # Errors
/// If it cannot be written.
pub fn write_commands(directory: &Path, commands: &CommandsFile) -> Result<(), RecordError> {
    atomic::write_json_atomic(&directory.join(COMMANDS_FILE), commands)
}
