//! What a `stage1` run traces beside its measures: NVTX ranges for a tool that listens, and the files of the built-in tracer.

use std::io::Write as _;
use std::path::PathBuf;

use crate::analysis::classify::Classifier;
use crate::analysis::steps::PhasePatterns;
use crate::config::schema::choice::{NvtxChoice, TraceMode};
use crate::config::schema::stage1::Stage1Config;
use crate::diagnostics::{Diagnostic, Diagnostics, ExitStatus, Failure, Severity, escape_control};
use crate::estimate::format::Format;
use crate::instrument::cupti::{self, ActivitySource, TracerError};
use crate::instrument::nvtx::{self, NvtxDetail, NvtxRanges};
use crate::record::RecordError;
use crate::record::context::Stage1Context;
use crate::record::reader::read_context;
use crate::record::rows::RepeatRow;
use crate::record::run_dir::{RunDir, rfc3339};
use crate::report::AssumptionSection;
use crate::report::analyze::{self as report, AnalyzeReport};
use crate::runner::analyze::{self, AnalyzeSettings, InputFile, PeakSettings, WorkloadSettings, assumptions};
use crate::runner::assemble::CUPTI_NEEDS_CUDA;
use crate::runner::traced::TracedRepeat;
use crate::trace::import::ReadOptions;
use crate::trace::nsys;
use crate::trace::timeline::Timeline;

/// Opens the built-in tracer, if the run is to be traced.
pub(super) fn open_tracer(config: &Stage1Config, device_id: &str) -> anyhow::Result<Option<Box<dyn ActivitySource>>> {
    if config.trace != TraceMode::Cupti {
        return Ok(None);
    }
    if device_id == "cpu" {
        return Err(
            Failure::new(ExitStatus::Usage, format!("`trace=cupti` is not available: {CUPTI_NEEDS_CUDA}")).into()
        );
    }
    match cupti::open() {
        Ok(tracer) => Ok(Some(tracer)),
        Err(error) => {
            let status = if error == TracerError::NotBuiltIn { ExitStatus::Usage } else { ExitStatus::CouldNotStart };
            let failure = Failure::new(status, format!("`trace=cupti`: {error}"));
            Err(match error.hint() {
                Some(hint) => failure.hint(hint),
                None => failure,
            }
            .into())
        }
    }
}

/// NVTX ranges of a run, and what its reader should know of them.
#[derive(Debug, Default)]
pub(super) struct NvtxPlan {
    /// What emits them; `None` where none are.
    pub ranges: Option<NvtxRanges>,
    /// For the notes of the run.
    pub notes: Vec<String>,
    /// Findings before the first repeat.
    pub diagnostics: Diagnostics,
}

/// Decides what is emitted, and measures what a range costs where no tool records it.
pub(super) fn plan_nvtx(config: &Stage1Config, layers: u32) -> NvtxPlan {
    let mut plan = NvtxPlan::default();
    let tool = nvtx::attached_tool();
    let detail = match (config.profiling.nvtx, &tool) {
        (Some(NvtxChoice::Off), _) => return plan,
        (Some(NvtxChoice::Phases), _) | (None, None) => NvtxDetail::Phases,
        (Some(NvtxChoice::All), _) | (None, Some(_)) => NvtxDetail::All,
    };
    let Ok(mut ranges) = NvtxRanges::new(detail, layers) else {
        if let Some(tool) = tool {
            plan.diagnostics.note(
                "nvtx_not_built_in",
                Severity::Warn,
                format!(
                    "a tool listens to NVTX ({}), and this build emits no ranges: its trace will not say which work is prefill and which decode; {}",
                    tool.variable,
                    nvtx::NotBuiltIn::HINT
                ),
            );
        }
        return plan;
    };
    let what = match detail {
        NvtxDetail::Phases => "repeats and phases",
        NvtxDetail::All => "repeats, phases, layers, modules and operators",
    };
    match tool {
        Some(tool) => plan.diagnostics.note(
            "nvtx_tool_attached",
            Severity::Info,
            format!(
                "a tool listens to NVTX ({}): all measures of this run carry what it costs; ranges of {what} are emitted",
                tool.variable
            ),
        ),
        None => plan.notes.push(format!(
            "NVTX ranges of {what} are emitted; one costs {:.0} ns without a tool attached, measured before the first repeat",
            ranges.measure_cost_ns()
        )),
    }
    plan.ranges = Some(ranges);
    plan
}

/// The traced repeat of one case that is written.
#[derive(Debug)]
struct Kept {
    case: String,
    row: u32,
    total_ms: f64,
    traced: TracedRepeat,
    /// Traced repeats of the case so far.
    of: u32,
}

/// Keeps one traced repeat of each case: the fastest, which is the one least disturbed. Several in one file would show the device idle while
/// the repeats between them ran unrecorded.
#[derive(Debug, Default)]
pub(super) struct TraceKeeper(Vec<Kept>);

impl TraceKeeper {
    pub(super) fn add(&mut self, row: &RepeatRow, traced: TracedRepeat) {
        let total_ms = row.total_ms.unwrap_or(f64::INFINITY);
        let new = Kept { case: row.case.clone(), row: row.index, total_ms, traced, of: 1 };
        match self.0.iter_mut().find(|kept| kept.case == row.case) {
            None => self.0.push(new),
            Some(kept) => {
                let of = kept.of + 1;
                if total_ms < kept.total_ms {
                    *kept = new;
                }
                kept.of = of;
            }
        }
    }

    /// Writes each case's trace beside the rows, and the analysis of that file below it.
    pub(super) fn write(self, directory: &RunDir, config: &Stage1Config) -> anyhow::Result<Vec<TraceFiles>> {
        if self.0.is_empty() {
            return Ok(Vec::new());
        }
        let context = read_context(directory.path()).map_err(RecordError::into_failure)?;
        let mut written = Vec::new();
        for (number, kept) in self.0.into_iter().enumerate() {
            let stem = if number == 0 { "trace".to_owned() } else { format!("trace-{}", number + 1) };
            written.push(write_one(directory, config, &context, &stem, kept)?);
        }
        Ok(written)
    }
}

/// Where a trace and its analysis are, and what it says.
#[derive(Debug)]
pub(super) struct TraceFiles {
    pub(super) case: String,
    pub(super) report: PathBuf,
    pub(super) sentence: String,
}

impl TraceFiles {
    /// Says it on stderr.
    pub(super) fn announce(&self) {
        let line = format!("trace of case `{}`: {} {}", self.case, self.sentence, self.report.display());
        // A stderr that is full or gone must not fail a run that is done.
        let _ = writeln!(anstream::stderr(), "{}", escape_control(&line));
    }
}

fn write_one(
    directory: &RunDir,
    config: &Stage1Config,
    context: &Stage1Context,
    stem: &str,
    mut kept: Kept,
) -> anyhow::Result<TraceFiles> {
    let record = |error: RecordError| error.into_failure();
    let name = format!("{stem}.sqlite");
    let path = directory.file(&name);
    let written = nsys::writer::write(&kept.traced.timeline, &path)
        .map_err(|error| Failure::new(ExitStatus::CouldNotStart, error.to_string()).because(error))?;
    tracing::info!(path = %path.display(), bytes = written.bytes, "trace written");
    kept.traced.timeline = Timeline::default();
    // What is analysed is the file: whoever analyses it again gets the same.
    let import = nsys::read(&path, &ReadOptions::default())
        .map_err(|error| Failure::new(ExitStatus::CouldNotStart, error.to_string()).because(error))?;

    let case = context.cases.iter().find(|case| case.name == kept.case);
    let format = |name: &str| Format::parse(name).unwrap_or(Format::BF16);
    let workload = WorkloadSettings {
        name: context.model.name.clone(),
        architecture: context.model.architecture.clone(),
        dtype: format(&context.model.dtype),
        kv_dtype: format(&context.model.kv_dtype),
        batch: case.map_or(config.batch, |case| case.batch),
        prompt_tokens: case.map(|case| case.prompt_len),
        said_by: format!("run {}", context.run_id),
    };
    let peaks = PeakSettings {
        flops_per_s: context.hardware.peak_flops_per_s.value,
        bytes_per_s: context.hardware.peak_bytes_per_s.value,
        dtype: format(&context.hardware.compute_dtype),
    };
    let classifier =
        Classifier::with_user_rules(&[]).map_err(|error| Failure::new(ExitStatus::CouldNotStart, error.to_string()))?;
    let analysis = analyze::analyze(
        &import.timeline,
        &AnalyzeSettings {
            classifier: &classifier,
            patterns: &PhasePatterns::default(),
            workload: Some(&workload),
            peaks: &peaks,
            window_ns: None,
            progress: &|pass| tracing::debug!(pass, "analysing the trace"),
        },
    )?;
    let mut diagnostics = import.diagnostics;
    diagnostics.extend(kept.traced.diagnostics.iter().cloned());
    diagnostics.push(said_of(&kept));
    let inputs = [InputFile {
        name,
        bytes: written.bytes,
        tool: format!("perfprof {} (trace=cupti)", env!("CARGO_PKG_VERSION")),
    }];
    let metrics = analyze::metrics(directory.run_id(), &import.timeline, &analysis, &[], &inputs, &diagnostics);
    let sections: Vec<AssumptionSection> = assumptions::sections(&metrics, &analysis, Some(&workload), 0)
        .into_iter()
        .map(|(title, lines)| AssumptionSection { title, lines })
        .collect();
    let generated_at = rfc3339(jiff::Timestamp::now());
    let view =
        AnalyzeReport { metrics: &metrics, analysis: &analysis, assumptions: &sections, generated_at: &generated_at };
    std::fs::create_dir_all(directory.file(stem))?;
    directory.write_json(&format!("{stem}/metrics.json"), &metrics).map_err(record)?;
    for (file, text) in report::files(&view)? {
        directory.write(&format!("{stem}/{file}"), text.as_bytes()).map_err(record)?;
    }
    Ok(TraceFiles {
        case: kept.case,
        report: directory.file(stem).join("report.html"),
        sentence: report::verdict_sentence(&view),
    })
}

/// Which repeat the file holds, and how well its two clocks agree.
fn said_of(kept: &Kept) -> Diagnostic {
    let clocks = match kept.traced.clock_error_ns {
        Some(ns) => format!("perfprof's ranges are placed to within {:.1} µs of the device's records", ns * 1e-3),
        None => "perfprof's ranges could not be placed among the device's records".to_owned(),
    };
    Diagnostic::new(
        "traced_repeat",
        Severity::Info,
        format!("case `{}`: row {}, the fastest of {} traced repeats; {clocks}", kept.case, kept.row, kept.of),
    )
}
