//! A GPU trace as a subject: durations of its steps, how long the GPU worked in them, kernels of a step.

use std::collections::{BTreeMap, BTreeSet};

use super::builder::{Builder, Series, clipped};
use crate::analysis::classify::Classifier;
use crate::analysis::coverage::{Coverage, GraphState, Verdict};
use crate::analysis::intervals::{op_interval, ops_by_device, union_ns};
use crate::analysis::kernel_summary::{SummaryKeys, classify_names, kernel_summary};
use crate::analysis::steps::{StepSource, Steps, Workload};
use crate::compare::subject::{OperatorTime, Subject, SubjectKind, fact};
use crate::diagnostics::{Diagnostic, Severity, Validity};
use crate::trace::timeline::Timeline;

/// Fact: whether kernels within CUDA graphs are in the trace.
pub const GRAPH_STATE: &str = "graph_state";
/// Fact: what steps were told by.
pub const STEPS_BY: &str = "steps_by";
/// Fact: inference or training.
pub const WORKLOAD: &str = "workload";
/// Fact: GPUs with work.
pub const GPUS: &str = "gpus";

/// A trace with the analyses its values come from.
#[derive(Debug, Clone, Copy)]
pub struct TraceParts<'a> {
    /// The trace.
    pub timeline: &'a Timeline,
    /// What it can say.
    pub coverage: &'a Coverage,
    /// Its steps.
    pub steps: &'a Steps,
    /// Files, without directories.
    pub files: &'a [String],
    /// What the readers found.
    pub diagnostics: &'a [Diagnostic],
}

/// Measures of the steps of one phase.
pub(super) struct PhaseNames {
    pub(super) phase: &'static str,
    pub(super) step: &'static str,
    pub(super) busy: &'static str,
    pub(super) kernels: &'static str,
}

/// Phases whose steps are measured; work in no step is not.
pub(super) const PHASES: [PhaseNames; 5] = [
    PhaseNames {
        phase: "prefill",
        step: "prefill_step_ms",
        busy: "prefill_step_gpu_busy_ms",
        kernels: "prefill_step_kernels",
    },
    PhaseNames {
        phase: "decode",
        step: "decode_step_ms",
        busy: "decode_step_gpu_busy_ms",
        kernels: "decode_step_kernels",
    },
    PhaseNames { phase: "mixed", step: "mixed_step_ms", busy: "mixed_step_gpu_busy_ms", kernels: "mixed_step_kernels" },
    PhaseNames { phase: "step", step: "step_ms", busy: "step_gpu_busy_ms", kernels: "step_kernels" },
    PhaseNames {
        phase: "training_step",
        step: "training_step_ms",
        busy: "training_step_gpu_busy_ms",
        kernels: "training_step_kernels",
    },
];

/// One step as both a timeline and `metrics.json` have it.
#[derive(Debug, Clone, Copy)]
pub(super) struct StepValues {
    pub(super) wall_ns: i64,
    pub(super) busy_ns: i64,
    pub(super) kernels: u64,
}

/// The measures of the steps of `phase`. What graphs hide is not counted: without it a count of kernels would be a count of graphs.
pub(super) fn step_measures(builder: &mut Builder, phase: &str, steps: &[StepValues], kernels_seen: bool) {
    let Some(names) = PHASES.iter().find(|names| names.phase == phase) else { return };
    let ms = |ns: i64| ns as f64 / 1e6;
    builder.series(None, &Series::of(names.step, "ms", steps.iter().map(|step| ms(step.wall_ns)).collect()), 0);
    builder.series(None, &Series::of(names.busy, "ms", steps.iter().map(|step| ms(step.busy_ns)).collect()), 0);
    if kernels_seen {
        let kernels = steps.iter().map(|step| step.kernels as f64).collect();
        builder.series(None, &Series::of(names.kernels, "kernels", kernels), 0);
    }
}

/// The trace as a subject. Without device work, or with none that can be relied on, it is an INVALID one.
pub fn trace_subject(parts: &TraceParts<'_>) -> Subject {
    let TraceParts { timeline, coverage, steps, .. } = *parts;
    let tools: BTreeSet<String> = timeline
        .sources
        .iter()
        .map(|source| {
            // As `analyze` words it, so that a trace and its analysis are seen to be of one tool.
            let version = source.version.as_ref().map_or_else(String::new, |version| format!(" {version}"));
            let schema = source.schema.as_ref().map_or_else(String::new, |schema| format!(" (schema {schema})"));
            format!("{}{version}{schema}", source.tool)
        })
        .collect();
    let tool = tools.into_iter().collect::<Vec<_>>().join(", ");
    let label = parts.files.first().map_or_else(|| "trace".to_owned(), |file| stem(file));
    let mut builder = Builder::new(SubjectKind::Trace, &label, &tool);
    builder.extend(parts.diagnostics.iter().cloned());
    builder.extend(
        coverage.trust.reasons.iter().map(|reason| Diagnostic::new("figures_refused", Severity::Warn, reason.clone())),
    );

    let kernels_seen = coverage.graphs.state != GraphState::Hidden && coverage.trust.kernel_shares;
    let mut by_phase: BTreeMap<usize, Vec<StepValues>> = BTreeMap::new();
    for step in &steps.columns.steps {
        by_phase.entry(usize::from(step.phase)).or_default().push(StepValues {
            wall_ns: step.end_ns.saturating_sub(step.start_ns),
            busy_ns: step.busy_ns,
            kernels: u64::from(step.kernels),
        });
    }
    for (row, values) in &by_phase {
        if let Some(phase) = steps.phases.get(*row) {
            step_measures(&mut builder, &phase.name, values, kernels_seen);
            builder.fact(&format!("steps.{}", clipped(&phase.name)), Some(values.len().to_string()));
        }
    }
    if by_phase.is_empty() {
        let first = "no steps were found in the trace: only its operators can be compared".to_owned();
        builder.note("no_steps", Severity::Warn, first);
    }
    if coverage.trust.idle_shares {
        let shares = busy_shares(timeline);
        builder.series(None, &Series::of("gpu_busy_ratio", "ratio", shares), 0);
    }

    builder.fact(fact::TOOL, Some(tool.clone()).filter(|tool| !tool.is_empty()));
    let used: BTreeSet<u32> = timeline.streams.iter().map(|stream| stream.device).collect();
    let devices = || used.iter().filter_map(|row| timeline.devices.get(*row as usize));
    let names: BTreeSet<String> = devices().filter_map(|device| device.name.clone()).collect();
    builder.fact(fact::GPU, joined(names));
    builder.fact(GPUS, Some(used.len().to_string()));
    let clocks: BTreeSet<String> =
        devices().filter_map(|device| device.clock_hz).map(|hz| format!("{:.0}", hz / 1e6)).collect();
    builder.fact(fact::CLOCK_MHZ, joined(clocks));
    builder.fact(GRAPH_STATE, Some(graph_state(coverage.graphs.state).to_owned()));
    builder.fact(STEPS_BY, Some(steps_by(steps.source).to_owned()));
    builder.fact(WORKLOAD, workload(steps.workload));
    builder.fact("shape_hints", Some(steps.hints.join("; ")).filter(|hints| !hints.is_empty()));

    let mut reasons = Vec::new();
    if coverage.verdict == Verdict::NoGpuWork {
        reasons.push("no GPU work was captured".to_owned());
    } else if !coverage.trust.kernel_shares {
        reasons.extend(coverage.trust.reasons.iter().cloned());
    }
    let subject = builder.subject();
    subject.files = parts.files.iter().map(|file| clipped(file)).collect();
    subject.outcomes.ok = steps.columns.steps.len() as u64;
    subject.validity = Validity::from_reasons(reasons);
    builder.finish()
}

/// Operators of a trace by phase, class and name, as `perfprof analyze` lists them: for traces that are joined to one subject, or compared with
/// an analysis whose traces are gone. A trace at hand is better attributed from its timeline, which knows more, so [`trace_subject`] leaves this out.
pub fn trace_operators(timeline: &Timeline, steps: &Steps) -> Vec<OperatorTime> {
    let phase_names: Vec<String> = steps.phases.iter().map(|phase| phase.name.clone()).collect();
    let classified = classify_names(timeline, &Classifier::builtin());
    let keys = SummaryKeys {
        phase_names: &phase_names,
        kernel_phase: Some(&steps.columns.kernel),
        copy_phase: Some(&steps.columns.copy),
        memset_phase: Some(&steps.columns.memset),
        ..SummaryKeys::default()
    };
    let summary = kernel_summary(timeline, &classified, &keys);
    let steps_of = |name: &str| steps.phases.iter().find(|phase| phase.name == name).map_or(0, |phase| phase.steps);
    let rows = summary.rows.into_iter().map(|row| {
        let phase = row.phase.unwrap_or_else(|| "unknown".to_owned());
        OperatorRow {
            steps: steps_of(&phase),
            phase,
            class: row.class.name().to_owned(),
            name: row.name,
            calls: row.calls,
            total_ns: u64::try_from(row.total_ns).unwrap_or(0),
        }
    });
    operator_times(rows)
}

/// A row of an operator table of a trace.
pub(super) struct OperatorRow {
    pub(super) phase: String,
    /// Steps of the phase.
    pub(super) steps: u64,
    pub(super) class: String,
    pub(super) name: String,
    pub(super) calls: u64,
    pub(super) total_ns: u64,
}

/// The rows with those of several devices added up, largest time first.
pub(super) fn operator_times(rows: impl Iterator<Item = OperatorRow>) -> Vec<OperatorTime> {
    let mut sums: BTreeMap<(String, String, String), OperatorTime> = BTreeMap::new();
    for row in rows.filter(|row| row.calls > 0) {
        let sum =
            sums.entry((row.phase.clone(), row.class.clone(), row.name.clone())).or_insert_with(|| OperatorTime {
                case: None,
                phase: row.phase,
                layer: None,
                module: None,
                class: row.class,
                name: row.name,
                shape: None,
                // Work outside of any step is compared for the whole trace.
                repeats: row.steps.max(1),
                calls: 0,
                total_ns: 0,
            });
        sum.calls = sum.calls.saturating_add(row.calls);
        sum.total_ns = sum.total_ns.saturating_add(row.total_ns);
    }
    let mut times: Vec<OperatorTime> = sums.into_values().collect();
    times.sort_by_key(|row| std::cmp::Reverse(row.total_ns));
    times
}

/// Busy time over window of each device with work.
fn busy_shares(timeline: &Timeline) -> Vec<f64> {
    ops_by_device(timeline)
        .iter()
        .filter_map(|ops| {
            let begin = ops.iter().map(|op| timeline.op_start_ns(*op)).min()?;
            let end = ops.iter().map(|op| timeline.op_end_ns(*op)).max()?;
            let window = end.checked_sub(begin).filter(|window| *window > 0)?;
            Some(union_ns(ops.iter().map(|op| op_interval(timeline, *op))) as f64 / window as f64)
        })
        .collect()
}

fn joined(names: BTreeSet<String>) -> Option<String> {
    Some(names.into_iter().collect::<Vec<_>>().join(", ")).filter(|names| !names.is_empty())
}

pub(super) fn graph_state(state: GraphState) -> &'static str {
    match state {
        GraphState::Carried => "carried",
        GraphState::Absent => "absent",
        GraphState::Hidden => "hidden",
        GraphState::Unknown => "unknown",
    }
}

fn steps_by(source: StepSource) -> &'static str {
    match source {
        StepSource::PhaseRanges => "phase_ranges",
        StepSource::StepRanges => "step_ranges",
        StepSource::GraphReplays => "graph_replays",
        StepSource::Repetition => "repetition",
        StepSource::None => "none",
    }
}

fn workload(workload: Workload) -> Option<String> {
    match workload {
        Workload::Inference => Some("inference".to_owned()),
        Workload::Training => Some("training".to_owned()),
        Workload::Unknown => None,
    }
}

/// A file name without what stands behind its last points: `a.pt.trace.json.gz` is `a`.
pub(super) fn stem(file: &str) -> String {
    let mut name = file;
    while let Some((before, extension)) = name.rsplit_once('.') {
        let known = ["json", "jsonl", "gz", "zst", "sqlite", "sqlite3", "db", "csv", "trace", "pt", "nsys-rep"];
        if before.is_empty() || !known.contains(&extension.to_ascii_lowercase().as_str()) {
            break;
        }
        name = before;
    }
    name.to_owned()
}
