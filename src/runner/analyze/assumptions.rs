//! The definitions and assumptions behind the numbers of one analysis, with the values put in.

use super::{Analysis, AnalyzeMetrics, WorkloadSettings};
use crate::analysis::steps::StepSource;
use crate::runner::assumptions::Section;
use crate::units::{Bandwidth, FlopsPerSecond};

fn line(name: &str, text: impl Into<String>) -> (String, String) {
    (name.to_owned(), text.into())
}

fn told_by(source: StepSource) -> &'static str {
    match source {
        StepSource::PhaseRanges => "names of ranges that say the phase",
        StepSource::StepRanges => "ranges that mark steps",
        StepSource::GraphReplays => "repeated launches of one graph",
        StepSource::Repetition => "a repeating sequence of operations",
        StepSource::None => "nothing: no steps were found",
    }
}

/// All sections.
pub fn sections(
    metrics: &AnalyzeMetrics,
    analysis: &Analysis,
    workload: Option<&WorkloadSettings>,
    user_rules: usize,
) -> Vec<Section> {
    let mut sections = vec![
        (
            "The trace".to_owned(),
            metrics
                .inputs
                .iter()
                .map(|file| line(&file.name, format!("{}, {} bytes", file.tool, file.bytes)))
                .chain([line(
                    "coverage",
                    format!(
                        "{} launches, {} kernels, {} of them joined to their launch call on (process, correlation id)",
                        metrics.coverage.launches, metrics.coverage.kernels, metrics.coverage.linked_kernels
                    ),
                )])
                .chain(analysis.coverage.graphs.reasons.iter().map(|reason| line("CUDA graphs", reason.clone())))
                .chain(analysis.coverage.trust.reasons.iter().map(|reason| line("refused", reason.clone())))
                .collect(),
        ),
        (
            "Time".to_owned(),
            vec![
                line("sum", "durations added up: work that overlaps on several streams counts as often as it runs"),
                line(
                    "busy",
                    "union of kernels, copies, memory sets and whole-graph records of a device; never above its window",
                ),
                line("window", "of each device, from the begin of its first operation to the end of its last"),
                line(
                    "idle",
                    "window less busy; each gap from 1 us up has one cause, shorter ones are `below_1us`: busy + causes = window, exactly",
                ),
                line(
                    "percentiles",
                    "linear interpolation between order statistics (Hyndman & Fan type 7); marked where calls are too few",
                ),
            ],
        ),
        (
            "Ranges".to_owned(),
            vec![
                line(
                    "belonging",
                    "an operation belongs to the ranges of the launching thread that contain its launch call, not to those open while it runs",
                ),
                line(
                    "left out",
                    analysis.ranges.as_ref().map_or_else(
                        || "the trace has no ranges".to_owned(),
                        |ranges| format!("{} ranges ended by another thread", ranges.cross_thread),
                    ),
                ),
            ],
        ),
        (
            "Phases".to_owned(),
            [line(
                "told by",
                format!(
                    "{}, confidence {}",
                    told_by(analysis.steps.source),
                    analysis.steps.confidence.map_or_else(|| "none".to_owned(), |value| format!("{value:.2}"))
                ),
            )]
            .into_iter()
            .chain(analysis.steps.evidence.iter().map(|text| line("evidence", text.clone())))
            .collect(),
        ),
        (
            "Kernel classes".to_owned(),
            vec![
                line(
                    "rules",
                    format!(
                        "built-in table, {user_rules} rules of the user before it; what no rule knows is `unclassified`"
                    ),
                ),
                line(
                    "classified",
                    metrics.coverage.classified_share.map_or_else(
                        || "no kernels".to_owned(),
                        |share| format!("{:.1} % of the kernel time", share * 100.0),
                    ),
                ),
            ],
        ),
        (
            "Ceilings".to_owned(),
            analysis
                .ceilings
                .iter()
                .flat_map(|ceiling| {
                    let flops =
                        ceiling.values.flops_per_s.map_or("–".to_owned(), |peak| FlopsPerSecond(peak).to_string());
                    let bytes = ceiling.values.bytes_per_s.map_or("–".to_owned(), |peak| Bandwidth(peak).to_string());
                    [
                        line(&format!("GPU {} compute", ceiling.device), format!("{flops}: {}", ceiling.flops_source)),
                        line(&format!("GPU {} memory", ceiling.device), format!("{bytes}: {}", ceiling.bytes_source)),
                    ]
                })
                .collect(),
        ),
        (
            "Critical path and what-if".to_owned(),
            vec![
                line(
                    "model",
                    "launch call → operation, operation → next on its stream, operation → return of the call that waits for it, order of each host thread, and event waits where they are recorded",
                ),
                line(
                    "what if",
                    "the schedule simulated again with the kernels of one class taking no time and the host unchanged; an estimate, never below the host's own path",
                ),
            ],
        ),
    ];
    let model = match workload {
        Some(workload) => {
            let mut lines = vec![
                line("model", format!("{} ({})", workload.name, workload.said_by)),
                line("storage", format!("weights {}, KV cache {}", workload.dtype.name(), workload.kv_dtype.name())),
                line(
                    "shape",
                    format!(
                        "batch {}, prompt {} tokens",
                        workload.batch,
                        workload.prompt_tokens.map_or("not known".to_owned(), |tokens| tokens.to_string())
                    ),
                ),
                line(
                    "MFU",
                    "model FLOPs (products with weights, attention) / (peak × time); by wall time of the steps and by busy time",
                ),
                line("MBU", "weight bytes once a step and KV bytes / (bandwidth × time)"),
                line(
                    "kernel classes",
                    "products, quantisation and dequantisation stand for linear layers, a softmax of its own for attention; single products of unfused attention cannot be told from linear layers",
                ),
            ];
            if let Some(modelled) = &analysis.modelled {
                lines.extend(modelled.notes.iter().map(|note| line("note", note.clone())));
            }
            lines
        }
        None => {
            vec![line("model", "not given: no FLOPs, no bytes, no MFU; give `model=`, `batch=` and `prompt_tokens=`")]
        }
    };
    sections.push(("The model".to_owned(), model));
    sections
}
