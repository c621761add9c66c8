//! Runs every analysis over one timeline and sums up: `perfprof analyze` without its files and its terminal.

pub mod assumptions;
mod metrics;
mod modelled;

use std::collections::BTreeMap;

pub use metrics::{
    ANALYZE_SCHEMA_VERSION, AnalyzeMetrics, ClassesBlock, CoverageBlock, DeviceBlock, InputFile, NcuBlock,
    OperatorBlock, PhaseBlock, StepsBlock,
};
pub use modelled::{Ceiling, PeakSettings, WorkloadSettings};

use crate::analysis::classify::{Classified, Classifier, KernelClass};
use crate::analysis::coverage::{Coverage, Verdict, coverage};
use crate::analysis::critical_path::{CriticalPath, KernelClasses, critical_path};
use crate::analysis::excerpt::{ExcerptOptions, GapLane, Span, TimelineView, representative_stretch, timeline_view};
use crate::analysis::findings::{self, Finding, Results};
use crate::analysis::flame::{FlameNode, FlameOptions, flame};
use crate::analysis::idle::{DeviceIdle, IdleOptions, idle};
use crate::analysis::intervals::{Interval, PhaseWindow, Phases};
use crate::analysis::kernel_summary::{KernelSummary, SummaryKeys, classify_names, kernel_summary};
use crate::analysis::launch::{LaunchAnalysis, LaunchVerdict, launch};
use crate::analysis::ncu::{join, summarise};
use crate::analysis::overlap::{Category, OverlapAnalysis, overlap};
use crate::analysis::projection::{self, Modules, Projection, RangeSummary, project};
use crate::analysis::steps::{PatternError, PhasePatterns, Steps, steps};
use crate::analysis::transfers::{TransferAnalysis, transfers};
use crate::diagnostics::{Diagnostic, Diagnostics, Severity, Validity};
use crate::stats::summary::Summary;
use crate::trace::ncu::NcuImport;
use crate::trace::places::NO_ROW;
use crate::trace::timeline::Timeline;

/// Rows of operators.md over all layers; by layer; by module.
const OPERATOR_ROWS: usize = 2000;
const LAYER_ROWS: usize = 4000;
const MODULE_ROWS: usize = 4000;
/// Names of ranges in the tables.
const RANGE_ROWS: usize = 500;
/// Longest gaps listed for each device.
const LONGEST_GAPS: usize = 50;
/// Gaps drawn in the stretch of the timeline, for each device.
const GAPS_DRAWN: usize = 4000;
/// Kernels of a counter file listed.
const NCU_KERNELS: usize = 200;
/// Kernel names listed on the critical path.
const KERNELS_ON_PATH: usize = 30;

/// What an analysis is told beside the trace.
#[derive(Clone, Copy)]
#[expect(missing_debug_implementations, reason = "a callback has none")]
pub struct AnalyzeSettings<'a> {
    /// Kernel classes.
    pub classifier: &'a Classifier,
    /// Phase patterns.
    pub patterns: &'a PhasePatterns,
    /// The model that ran, if the user says so.
    pub workload: Option<&'a WorkloadSettings>,
    /// Ceilings the user gives.
    pub peaks: &'a PeakSettings,
    /// Stretch to draw, ns from the begin of the trace; `None` for a representative one.
    pub window_ns: Option<(i64, i64)>,
    /// Called with the name of each pass before it starts.
    pub progress: &'a dyn Fn(&'static str),
}

/// All results of one trace.
#[derive(Debug)]
pub struct Analysis {
    /// What the trace can say.
    pub coverage: Coverage,
    /// Phases and steps.
    pub steps: Steps,
    /// Class of each kernel name.
    pub classified: Vec<Classified>,
    /// Kernels by name, phase and device.
    pub summary: KernelSummary,
    /// Kernels by layer; empty where the ranges name none.
    pub by_layer: Option<KernelSummary>,
    /// Kernels by module; empty where the ranges name none.
    pub by_module: Option<KernelSummary>,
    /// Range tables; `None` without ranges.
    pub ranges: Option<RangeSummary>,
    /// GPU time by range and kernel.
    pub flame: FlameNode,
    /// Idle time by device.
    pub idle: Vec<DeviceIdle>,
    /// Launching.
    pub launch: LaunchAnalysis,
    /// Overlap.
    pub overlap: OverlapAnalysis,
    /// Copies and allocations.
    pub transfers: TransferAnalysis,
    /// Critical path; `None` where idle time is refused.
    pub critical_path: Option<CriticalPath>,
    /// Modelled work beside the measured.
    pub modelled: Option<crate::analysis::class_roofline::ModelledWork>,
    /// Ceilings by device and where they come from.
    pub ceilings: Vec<Ceiling>,
    /// Ranked findings.
    pub findings: Vec<Finding>,
    /// The stretch to draw; `None` without device work.
    pub view: Option<TimelineView>,
}

/// Runs every analysis.
///
/// # Errors
/// If a phase pattern is no regular expression.
pub fn analyze(timeline: &Timeline, settings: &AnalyzeSettings<'_>) -> Result<Analysis, PatternError> {
    let progress = settings.progress;
    progress("coverage");
    let coverage = coverage(timeline);
    progress("ranges");
    let projection = project(timeline);
    let modules = projection::modules(timeline, &projection);
    progress("steps");
    let steps = steps(timeline, &projection, settings.patterns)?;
    progress("operators");
    let classified = classify_names(timeline, settings.classifier);
    let phase_names: Vec<String> = steps.phases.iter().map(|phase| phase.name.clone()).collect();
    let keys = SummaryKeys {
        phase_names: &phase_names,
        kernel_phase: Some(&steps.columns.kernel),
        copy_phase: Some(&steps.columns.copy),
        memset_phase: Some(&steps.columns.memset),
        by_device: timeline.devices.len() > 1,
        max_rows: OPERATOR_ROWS,
        ..SummaryKeys::default()
    };
    let summary = kernel_summary(timeline, &classified, &keys);
    let (by_layer, by_module) = by_place(timeline, &projection, &modules, &classified, &keys);
    let ranges = (!timeline.ranges.is_empty()).then(|| projection::summary(timeline, &projection, RANGE_ROWS));
    progress("flame graph");
    let flame = flame(timeline, &projection, FlameOptions::default());
    drop(projection);
    progress("idle time");
    let windows = phase_windows(&steps);
    let phases = Phases { names: &phase_names, windows: &windows };
    let idle = idle(timeline, &IdleOptions { phases, longest: LONGEST_GAPS, ..IdleOptions::default() });
    progress("launches");
    let mut launch = launch(timeline, &idle, phases);
    if !coverage.trust.idle_shares {
        refuse_launch_verdicts(&mut launch);
    }
    progress("overlap");
    let categories: Vec<Category> = classified
        .iter()
        .map(|name| match name.class {
            KernelClass::Communication => Category::Communication,
            _ => Category::Compute,
        })
        .collect();
    let overlap = overlap(timeline, &categories, None);
    progress("transfers");
    let transfers = transfers(timeline, phases);
    progress("critical path");
    let critical_path = if coverage.trust.idle_shares { path(timeline, &classified) } else { None };
    progress("summary");
    let ceilings = modelled::ceilings(timeline, settings.peaks);
    let modelled = settings.workload.map(|workload| modelled::modelled(workload, &ceilings, &steps, &summary));
    let findings = findings::findings(&Results {
        coverage: &coverage,
        idle: &idle,
        launch: &launch,
        overlap: &overlap,
        transfers: &transfers,
        critical_path: critical_path.as_ref(),
        steps: &steps,
        kernels: &summary,
        modelled: modelled.as_ref(),
    });
    let view = view(timeline, settings.window_ns, &steps, &classified, coverage.trust.idle_shares);
    Ok(Analysis {
        coverage,
        steps,
        classified,
        summary,
        by_layer,
        by_module,
        ranges,
        flame,
        idle,
        launch,
        overlap,
        transfers,
        critical_path,
        modelled,
        ceilings,
        findings,
        view,
    })
}

/// A device that seems to wait for the host may be busy with work the trace does not show.
fn refuse_launch_verdicts(launch: &mut LaunchAnalysis) {
    for device in &mut launch.devices {
        device.verdict = LaunchVerdict::Unknown;
        device.speedup_bound = None;
        device.evidence = vec!["idle time cannot be told from work that is not in the trace".to_owned()];
    }
}

/// Kernels by layer and by module, where the ranges tell them.
fn by_place(
    timeline: &Timeline,
    projection: &Projection,
    modules: &Modules,
    classified: &[Classified],
    keys: &SummaryKeys<'_>,
) -> (Option<KernelSummary>, Option<KernelSummary>) {
    let kernels = timeline.kernels.len();
    let has_layers = modules.path_layer.iter().any(|layer| *layer != NO_ROW);
    let has_modules = modules.path_module.iter().any(|module| *module != NO_ROW);
    let by_layer = has_layers.then(|| {
        let mut highest = 0;
        let column: Vec<u32> = (0..kernels)
            .map(|row| {
                let layer = modules.layer_of_kernel(timeline, projection, row);
                highest = highest.max(layer.unwrap_or(0));
                layer.unwrap_or(NO_ROW)
            })
            .collect();
        let names: Vec<String> = (0..=highest).map(|layer| layer.to_string()).collect();
        let keys = SummaryKeys { module_names: &names, kernel_module: Some(&column), max_rows: LAYER_ROWS, ..*keys };
        kernel_summary(timeline, classified, &keys)
    });
    let by_module = has_modules.then(|| {
        let column: Vec<u32> = (0..kernels)
            .map(|row| modules.module_of_kernel(timeline, projection, row).map_or(NO_ROW, |module| module as u32))
            .collect();
        let keys =
            SummaryKeys { module_names: &modules.names, kernel_module: Some(&column), max_rows: MODULE_ROWS, ..*keys };
        kernel_summary(timeline, classified, &keys)
    });
    (by_layer, by_module)
}

fn phase_windows(steps: &Steps) -> Vec<PhaseWindow> {
    // The table for people is bounded, this is not.
    steps
        .columns
        .steps
        .iter()
        .map(|step| PhaseWindow {
            phase: u32::from(step.phase),
            device: None,
            interval: Interval { start_ns: step.start_ns, end_ns: step.end_ns },
        })
        .collect()
}

fn path(timeline: &Timeline, classified: &[Classified]) -> Option<CriticalPath> {
    let names: Vec<String> = KernelClass::ALL.iter().map(|class| class.name().to_owned()).collect();
    let of_name: Vec<u16> = classified
        .iter()
        .map(|name| KernelClass::ALL.iter().position(|class| *class == name.class).map_or(u16::MAX, |row| row as u16))
        .collect();
    let classes = KernelClasses { names: &names, of_kernel_name: &of_name };
    let mut path = critical_path(timeline, classes, KERNELS_ON_PATH)?;
    path.what_if.retain(|row| row.kernel_ns > 0);
    Some(path)
}

fn view(
    timeline: &Timeline,
    window_ns: Option<(i64, i64)>,
    steps: &Steps,
    classified: &[Classified],
    with_gaps: bool,
) -> Option<TimelineView> {
    let (origin, _) = timeline.device_span_ns()?;
    let stretch = representative_stretch(timeline, Some(steps))?;
    let (start_ns, end_ns, chosen) = match window_ns {
        Some((begin, end)) => {
            let origin = timeline.api.start_ns.iter().min().map_or(origin, |first| origin.min(*first));
            (origin.saturating_add(begin), origin.saturating_add(end), "asked for with --window".to_owned())
        }
        None => (stretch.start_ns, stretch.end_ns, stretch.chosen),
    };
    let phases: Vec<Span> = steps
        .columns
        .steps
        .iter()
        .enumerate()
        .filter(|(_, step)| step.end_ns > start_ns && step.start_ns < end_ns)
        .map(|(index, step)| {
            let name = steps.phases.get(usize::from(step.phase)).map_or("", |phase| phase.name.as_str());
            Span {
                start_ns: step.start_ns,
                end_ns: step.end_ns,
                name: format!("{name} {index}"),
                class: name.to_owned(),
            }
        })
        .collect();
    // Every gap of the stretch with its cause, not only the longest of the trace.
    let window = Some(Interval { start_ns, end_ns });
    let in_stretch = if with_gaps && end_ns > start_ns {
        idle(timeline, &IdleOptions { window, longest: GAPS_DRAWN, ..IdleOptions::default() })
    } else {
        Vec::new()
    };
    let gaps: Vec<GapLane> = in_stretch
        .iter()
        .map(|device| GapLane {
            device: device.device,
            gaps: {
                let mut gaps: Vec<Span> = device
                    .longest
                    .iter()
                    .filter(|gap| gap.interval.end_ns > start_ns && gap.interval.start_ns < end_ns)
                    .map(|gap| Span {
                        start_ns: gap.interval.start_ns,
                        end_ns: gap.interval.end_ns,
                        name: gap.evidence.clone(),
                        class: gap.cause.name().to_owned(),
                    })
                    .collect();
                gaps.sort_by_key(|gap| gap.start_ns);
                gaps
            },
        })
        .filter(|lane| !lane.gaps.is_empty())
        .collect();
    Some(timeline_view(
        timeline,
        &ExcerptOptions { start_ns, end_ns, chosen: &chosen, classified, phases: &phases, gaps: &gaps, max_bars: 0 },
    ))
}

/// Sums an analysis up as `metrics.json`.
pub fn metrics(
    run_id: &str,
    timeline: &Timeline,
    analysis: &Analysis,
    ncu: &[NcuImport],
    inputs: &[InputFile],
    found: &[Diagnostic],
) -> AnalyzeMetrics {
    let coverage = &analysis.coverage;
    let mut reasons = Vec::new();
    // A file of counters alone is a whole answer to the question it was asked.
    let counters_only = !ncu.is_empty() && timeline.sources.is_empty();
    if coverage.verdict == Verdict::NoGpuWork && !counters_only {
        reasons.push("no GPU work was captured".to_owned());
    } else if !coverage.trust.kernel_shares && !counters_only {
        reasons.extend(coverage.trust.reasons.iter().cloned());
    }
    if counters_only && ncu.iter().all(|import| import.report.kernels.is_empty()) {
        reasons.push("no kernel was profiled".to_owned());
    }
    let validity = Validity::from_reasons(reasons);
    let mut diagnostics = Diagnostics::default();
    diagnostics.extend(found.iter().cloned());
    for reason in coverage.trust.reasons.iter().filter(|_| !counters_only) {
        diagnostics.push(Diagnostic::new("figures_refused", Severity::Warn, reason.clone()));
    }
    for note in coverage.notes.iter().filter(|note| note.severity >= 2) {
        let severity = if note.severity >= 3 { Severity::Error } else { Severity::Warn };
        let code = if note.severity >= 3 { "tool_error" } else { "tool_warning" };
        diagnostics.push(Diagnostic { code: code.to_owned(), severity, count: note.count, first: note.text.clone() });
    }
    for import in ncu {
        diagnostics.extend(import.diagnostics.iter().cloned());
    }
    AnalyzeMetrics {
        schema_version: ANALYZE_SCHEMA_VERSION,
        command: "analyze".to_owned(),
        run_id: run_id.to_owned(),
        status: if validity.is_valid() { "complete" } else { "invalid" }.to_owned(),
        validity,
        measures: measures(&analysis.steps),
        inputs: inputs.to_vec(),
        coverage: CoverageBlock {
            launches: coverage.launches.kernel_launch_calls + coverage.launches.graph_launch_calls,
            kernels: coverage.launches.kernels,
            linked_kernels: coverage.launches.linked_kernels,
            graph_state: coverage.graphs.state,
            classified_share: {
                let classes = &analysis.summary.coverage;
                (classes.kernel_ns > 0).then(|| classes.classified_ns as f64 / classes.kernel_ns as f64)
            },
            attributed_share: analysis.ranges.as_ref().and_then(|ranges| ranges.attributed_share),
            detail: coverage.clone(),
        },
        devices: analysis.idle.iter().map(|idle| device_block(timeline, coverage, idle)).collect(),
        phases: analysis
            .steps
            .phases
            .iter()
            .map(|phase| PhaseBlock {
                name: phase.name.clone(),
                steps: phase.steps,
                kernels: phase.kernels,
                gpu_ns: phase.gpu_sum_ns,
                busy_ns: phase.busy_union_ns,
                wall_ns: phase.wall_ns,
                step_ns: phase.step_ns.clone(),
                kernels_per_step: phase.kernels_per_step.clone(),
                launches_per_step: phase.launches_per_step.clone(),
            })
            .collect(),
        steps: StepsBlock::of(&analysis.steps),
        operators: operators(timeline, analysis),
        classes: ClassesBlock {
            totals: analysis.summary.classes.clone(),
            coverage: analysis.summary.coverage.clone(),
            operators_omitted: analysis.summary.remainder,
        },
        ranges: analysis.ranges.clone(),
        launch: analysis.launch.clone(),
        overlap: analysis.overlap.clone(),
        transfers: analysis.transfers.clone(),
        critical_path: analysis.critical_path.clone(),
        modelled: analysis.modelled.clone(),
        ncu: ncu
            .iter()
            .map(|import| NcuBlock {
                summary: summarise(&import.report, NCU_KERNELS),
                join: (!timeline.kernels.is_empty()).then(|| join(&import.report, timeline, NCU_KERNELS)),
            })
            .collect(),
        findings: analysis.findings.clone(),
        diagnostics: diagnostics.into_vec(),
    }
}

fn device_block(timeline: &Timeline, coverage: &Coverage, idle: &DeviceIdle) -> DeviceBlock {
    let device = timeline.devices.get(idle.device as usize);
    let told = coverage.trust.idle_shares;
    let mut by_cause: BTreeMap<String, i64> =
        idle.idle_by_cause.iter().map(|row| (row.cause.name().to_owned(), row.spread.total_ns as i64)).collect();
    by_cause.insert("below_1us".to_owned(), idle.below_1us_ns as i64);
    DeviceBlock {
        id: idle.device,
        name: device.and_then(|device| device.name.clone()),
        rank: timeline
            .streams
            .iter()
            .find(|stream| stream.device == idle.device)
            .and_then(|stream| timeline.processes.get(stream.process as usize)?.rank),
        window_ns: idle.window_ns as i64,
        busy_ns: idle.busy_ns as i64,
        idle_ns: told.then_some(idle.idle_ns as i64),
        idle_by_cause: if told { by_cause } else { BTreeMap::new() },
        idle: told.then(|| idle.clone()),
    }
}

fn operators(timeline: &Timeline, analysis: &Analysis) -> Vec<OperatorBlock> {
    let stream = |row: Option<u32>| row.and_then(|row| timeline.streams.get(row as usize)).map(|stream| stream.stream);
    let mut rows: Vec<OperatorBlock> =
        analysis.summary.rows.iter().map(|row| OperatorBlock::of(row, None, stream(row.stream))).collect();
    if let Some(modelled) = &analysis.modelled {
        modelled::fill(&mut rows, &analysis.summary.rows, modelled);
    }
    if let Some(summary) = &analysis.by_layer {
        rows.extend(summary.rows.iter().filter_map(|row| {
            let layer = row.module.as_ref()?.parse().ok()?;
            Some(OperatorBlock::of(row, Some(layer), stream(row.stream)))
        }));
    }
    if let Some(summary) = &analysis.by_module {
        rows.extend(
            summary
                .rows
                .iter()
                .filter(|row| row.module.is_some())
                .map(|row| OperatorBlock::of(row, None, stream(row.stream))),
        );
    }
    rows
}

/// Step durations as measures: `<phase>_step_ms`, over all steps.
fn measures(steps: &Steps) -> BTreeMap<String, Summary> {
    let mut measures = BTreeMap::new();
    for (row, phase) in steps.phases.iter().enumerate() {
        let values: Vec<f64> = steps
            .columns
            .steps
            .iter()
            .filter(|step| usize::from(step.phase) == row)
            .map(|step| step.end_ns.saturating_sub(step.start_ns) as f64 / 1e6)
            .collect();
        if !values.is_empty() {
            measures.insert(format!("{}_step_ms", phase.name), Summary::from_values("ms", &values));
        }
    }
    measures
}
