//! What the report of `perfprof analyze` is rendered from. Values only: nothing here is read from a file or computed by this module.

use serde::{Deserialize, Serialize};

use crate::analysis::class_roofline::ModelledWork;
use crate::analysis::coverage::Coverage;
use crate::analysis::critical_path::CriticalPath;
use crate::analysis::excerpt::TimelineView;
use crate::analysis::findings::Finding;
use crate::analysis::flame::FlameNode;
use crate::analysis::idle::DeviceIdle;
use crate::analysis::kernel_summary::KernelSummary;
use crate::analysis::launch::LaunchAnalysis;
use crate::analysis::overlap::OverlapAnalysis;
use crate::analysis::projection::RangeSummary;
use crate::analysis::steps::Steps;
use crate::analysis::transfers::TransferAnalysis;
use crate::diagnostics::Diagnostic;
use crate::report::model::AssumptionSection;
use crate::report::stage2::Stage2Report;
use crate::runner::analyze::{Analysis, AnalyzeMetrics, Ceiling, InputFile, NcuBlock};

/// A device as reports call it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceLabel {
    /// Row of `Timeline::devices`.
    pub device: u32,
    /// Short, e.g. `GPU 0`.
    pub label: String,
    /// Product name, if known.
    pub name: Option<String>,
}

/// The parts of the report of an analyzed trace. One that is `None` or empty was not computed, and the report says so.
#[derive(Debug, Clone, Copy, Default)]
pub struct TraceReport<'a> {
    /// Id of the run directory.
    pub run_id: &'a str,
    /// When the report was made, RFC 3339 UTC.
    pub generated_at: &'a str,
    /// The files the trace was read from.
    pub files: &'a [InputFile],
    /// Its devices.
    pub devices: &'a [DeviceLabel],
    /// Begin of the device work, ns on the clock of the trace: times in tables count from here. Null without device work.
    pub origin_ns: Option<i64>,
    /// What the trace can and cannot say.
    pub coverage: Option<&'a Coverage>,
    /// Where the device time goes.
    pub kernels: Option<&'a KernelSummary>,
    /// Phases and steps.
    pub steps: Option<&'a Steps>,
    /// Ranges and the device work launched inside them.
    pub ranges: Option<&'a RangeSummary>,
    /// GPU time by range path.
    pub flame: Option<&'a FlameNode>,
    /// Idle time of each device; empty where it was not computed.
    pub idle: &'a [DeviceIdle],
    /// What launching costs.
    pub launch: Option<&'a LaunchAnalysis>,
    /// What ran at the same time.
    pub overlap: Option<&'a OverlapAnalysis>,
    /// Copies, memory sets, allocations.
    pub transfers: Option<&'a TransferAnalysis>,
    /// What decided how long the work took.
    pub critical_path: Option<&'a CriticalPath>,
    /// Modelled work beside measured time; only where the user named the model.
    pub roofline: Option<&'a ModelledWork>,
    /// The ceilings it was held against.
    pub ceilings: &'a [Ceiling],
    /// Kernels by layer, where ranges tell layers.
    pub by_layer: Option<&'a KernelSummary>,
    /// Kernels by module, where ranges tell modules.
    pub by_module: Option<&'a KernelSummary>,
    /// Counters of Nsight Compute.
    pub ncu: &'a [NcuBlock],
    /// Why the run is INVALID; empty if it is not.
    pub invalid: &'a [String],
    /// Ranked findings, the most promising first.
    pub findings: &'a [Finding],
    /// Findings about the data.
    pub diagnostics: &'a [Diagnostic],
    /// Definitions and assumptions behind the numbers.
    pub assumptions: &'a [AssumptionSection],
    /// The stretch that the zoomable timeline shows.
    pub view: Option<&'a TimelineView>,
    /// What `stage2` ran to get the trace; null for a trace of somebody else.
    pub stage2: Option<&'a Stage2Report<'a>>,
}

/// Everything the report of an analyzed trace is made from.
#[derive(Debug, Clone, Copy)]
pub struct AnalyzeReport<'a> {
    /// The summary, as written to `metrics.json`.
    pub metrics: &'a AnalyzeMetrics,
    /// The results of the analyses.
    pub analysis: &'a Analysis,
    /// Definitions and assumptions behind the numbers.
    pub assumptions: &'a [AssumptionSection],
    /// When the report was made, RFC 3339 UTC.
    pub generated_at: &'a str,
}

impl<'a> AnalyzeReport<'a> {
    /// What its devices are called.
    pub(in crate::report) fn device_labels(&self) -> Vec<DeviceLabel> {
        let devices = &self.metrics.devices;
        let ranked = devices.len() > 1 && devices.iter().all(|device| device.rank.is_some());
        devices
            .iter()
            .map(|device| DeviceLabel {
                device: device.id,
                label: match device.rank.filter(|_| ranked) {
                    Some(rank) => format!("GPU {} (rank {rank})", device.id),
                    None => format!("GPU {}", device.id),
                },
                name: device.name.clone(),
            })
            .collect()
    }
    /// The parts; `devices` from [`Self::device_labels`].
    pub(in crate::report) fn parts(&self, devices: &'a [DeviceLabel]) -> TraceReport<'a> {
        let (metrics, analysis) = (self.metrics, self.analysis);
        TraceReport {
            run_id: &metrics.run_id,
            generated_at: self.generated_at,
            files: &metrics.inputs,
            devices,
            origin_ns: analysis.idle.iter().filter_map(|idle| Some(idle.window?.start_ns)).min(),
            coverage: Some(&analysis.coverage),
            kernels: Some(&analysis.summary),
            steps: Some(&analysis.steps),
            ranges: analysis.ranges.as_ref(),
            flame: Some(&analysis.flame),
            idle: &analysis.idle,
            launch: Some(&analysis.launch),
            overlap: Some(&analysis.overlap),
            transfers: Some(&analysis.transfers),
            critical_path: analysis.critical_path.as_ref(),
            roofline: analysis.modelled.as_ref(),
            ceilings: &analysis.ceilings,
            by_layer: analysis.by_layer.as_ref(),
            by_module: analysis.by_module.as_ref(),
            ncu: &metrics.ncu,
            invalid: &metrics.validity.reasons,
            findings: &analysis.findings,
            diagnostics: &metrics.diagnostics,
            assumptions: self.assumptions,
            view: analysis.view.as_ref(),
            stage2: None,
        }
    }
}
