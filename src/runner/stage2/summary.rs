//! Sums a run up: captures, kernels beside the timeline and under the roofline, what tracing cost.

use std::collections::BTreeMap;

use super::examine::{Examined, ExaminedProfile};
use super::metrics::{
    CaptureBlock, KernelProfileBlock, OverheadBasis, OverheadBlock, STAGE2_METRICS_SCHEMA_VERSION, Stage2Metrics,
    WorkloadBlock,
};
use crate::analysis::kernel_names::{demangle, prefix, shorten};
use crate::analysis::kernel_summary::{Activity, KernelSummaryRow};
use crate::analysis::ncu::{NcuKernelSummary, NcuMatch, Peaks, join, kernel_roofline, summarise};
use crate::diagnostics::{Diagnostic, Diagnostics, Severity, Validity};
use crate::hardware::peaks::{self, Lookup};
use crate::record::stage2::{CaptureRecord, PeaksRecord, ProfileRecord, Stage2State, WorkloadRun};
use crate::runner::analyze::{AnalyzeMetrics, metrics};
use crate::runner::summary::Ending;
use crate::stats::summary::Summary;
use crate::trace::ncu::{NcuImport, NcuKernel, NcuReport};
use crate::trace::timeline::Timeline;

/// Above this the traced run is not the run without a tracer any more, and the report says so.
const MUCH_OVERHEAD: f64 = 1.25;
/// Names listed of one profile; more than one only where no kernel was named.
const NAMES: usize = 100;
/// Bytes at which summaries of a timeline cut names.
const CUT_AT: usize = 4096;

/// Everything that was read of a run.
#[derive(Debug, Clone, Copy)]
pub struct Read<'a> {
    /// What was asked for and what became of it.
    pub state: &'a Stage2State,
    /// The timelines.
    pub captures: &'a [Examined],
    /// The counters.
    pub profiles: &'a [ExaminedProfile],
    /// Findings of the readers.
    pub found: &'a [Diagnostic],
    /// How the run ended.
    pub ending: Ending,
}

/// Sums it up.
pub fn summarize(read: &Read<'_>) -> Stage2Metrics {
    let state = read.state;
    let captures: Vec<CaptureBlock> = state.captures.iter().map(|capture| capture_block(read, capture)).collect();
    let overhead: Vec<OverheadBlock> =
        state.captures.iter().filter_map(|capture| overhead(state.plain.as_ref(), capture)).collect();
    let mut reasons = Vec::new();
    let several = captures.len() > 1;
    for capture in &captures {
        let of = if several { format!("{}: ", capture.name) } else { String::new() };
        reasons.extend(capture.error.iter().map(|error| format!("{of}{error}")));
        let invalid = capture.analysis.iter().flat_map(|analysis| &analysis.validity.reasons);
        reasons.extend(invalid.map(|reason| format!("{of}{reason}")));
    }
    let kernels = kernels(read);
    let counted = kernels.iter().any(|kernel| kernel.counters.is_some());
    if captures.iter().all(|capture| capture.analysis.is_none()) && !counted && reasons.is_empty() {
        reasons.push("neither a timeline nor counters were captured".to_owned());
    }
    match read.ending {
        Ending::Complete => {}
        Ending::Interrupted => reasons.push("the run was interrupted".to_owned()),
        Ending::Failed => reasons.push("the run failed".to_owned()),
    }
    let validity = Validity::from_reasons(reasons);
    let mut diagnostics = Diagnostics::default();
    diagnostics.extend(state.diagnostics.iter().cloned());
    diagnostics.extend(read.found.iter().cloned());
    for block in overhead.iter().filter(|block| block.ratio > MUCH_OVERHEAD) {
        diagnostics.note(
            "tracer_overhead",
            Severity::Warn,
            format!(
                "under nsys the workload took {:.2} × the time it takes alone ({}): times of the timeline are those of the slower run; \
                 trace less, e.g. `stage2.nsys.trace=[cuda,nvtx]`",
                block.ratio, block.capture
            ),
        );
    }
    let ratios: Vec<f64> = overhead.iter().map(|block| block.ratio).collect();
    let mut measures = BTreeMap::new();
    if !ratios.is_empty() {
        measures.insert("tracer_overhead_ratio".to_owned(), Summary::from_values("ratio", &ratios));
    }
    let status = match read.ending {
        Ending::Interrupted => "interrupted",
        Ending::Failed => "failed",
        Ending::Complete if validity.is_valid() => "complete",
        Ending::Complete => "invalid",
    };
    Stage2Metrics {
        schema_version: STAGE2_METRICS_SCHEMA_VERSION,
        command: "stage2".to_owned(),
        run_id: state.run_id.clone(),
        status: status.to_owned(),
        validity,
        measures,
        workload: WorkloadBlock {
            program: state.program.clone(),
            overrides: state.overrides.clone(),
            model: state.model.clone(),
            plain: state.plain.clone(),
        },
        tools: state.tools.clone(),
        overhead,
        captures,
        kernels,
        diagnostics: diagnostics.into_vec(),
    }
}

fn overhead(plain: Option<&WorkloadRun>, capture: &CaptureRecord) -> Option<OverheadBlock> {
    let (plain, traced) = (plain?, capture.workload.as_ref()?);
    // A capture of one range traces a part of the run: what its whole run took says nothing about that part.
    if capture.range.is_some() {
        return None;
    }
    let (basis, plain, traced) = match (plain.total_ms, traced.total_ms) {
        (Some(plain), Some(traced)) => (OverheadBasis::TotalMs, plain, traced),
        _ => (OverheadBasis::WallS, plain.wall_s, traced.wall_s),
    };
    (plain > 0.0).then(|| OverheadBlock { capture: capture.name.clone(), basis, plain, traced, ratio: traced / plain })
}

fn capture_block(read: &Read<'_>, capture: &CaptureRecord) -> CaptureBlock {
    let examined = read.captures.iter().find(|examined| examined.name == capture.name);
    CaptureBlock {
        name: capture.name.clone(),
        range: capture.range.clone(),
        directory: capture.directory.clone(),
        database: capture.database.clone(),
        workload: capture.workload.clone(),
        error: capture.error.clone(),
        analysis: examined.map(|examined| analysis(read, examined)),
    }
}

/// The metrics of one timeline with the counters of its kernels, all profiles as one report.
fn analysis(read: &Read<'_>, examined: &Examined) -> AnalyzeMetrics {
    let of_capture = |profile: &&ExaminedProfile| {
        let record = record(read.state, profile.number);
        record.is_some_and(|record| record.capture.as_deref() == Some(examined.name.as_str()))
    };
    let mut all =
        NcuImport { report: NcuReport { file: "ncu".to_owned(), kernels: Vec::new() }, diagnostics: Vec::new() };
    for profile in read.profiles.iter().filter(of_capture) {
        all.report.kernels.extend(profile.import.report.kernels.iter().cloned());
        all.diagnostics.extend(profile.import.diagnostics.iter().cloned());
    }
    let counters = if all.report.kernels.is_empty() { Vec::new() } else { vec![all] };
    let inputs = std::slice::from_ref(&examined.input);
    metrics(&read.state.run_id, &examined.timeline, &examined.analysis, &counters, inputs, &examined.diagnostics)
}

fn record(state: &Stage2State, number: u32) -> Option<&ProfileRecord> {
    state.profiles.iter().find(|record| record.number == number)
}

fn kernels(read: &Read<'_>) -> Vec<KernelProfileBlock> {
    let mut blocks = Vec::new();
    for record in &read.state.profiles {
        let examined = read.captures.iter().find(|examined| record.capture.as_deref() == Some(examined.name.as_str()));
        let profile = read.profiles.iter().find(|profile| profile.number == record.number);
        let summaries = profile.map_or_else(Vec::new, |profile| summarise(&profile.import.report, NAMES).kernels);
        match (&record.kernel, summaries.as_slice()) {
            (Some(name), _) => blocks.push(block(read, record, name, summaries.first(), profile, examined)),
            (None, []) => blocks.push(block(read, record, "", None, profile, examined)),
            (None, many) => {
                blocks.extend(many.iter().map(|one| block(read, record, &one.name, Some(one), profile, examined)));
            }
        }
    }
    blocks
}

fn block(
    read: &Read<'_>,
    record: &ProfileRecord,
    name: &str,
    counters: Option<&NcuKernelSummary>,
    profile: Option<&ExaminedProfile>,
    examined: Option<&Examined>,
) -> KernelProfileBlock {
    let rows: Vec<&KernelSummaryRow> = examined.map_or_else(Vec::new, |examined| rows(examined, name, record));
    let calls = rows.iter().map(|row| row.calls).sum::<u64>();
    let total_ns = rows.iter().fold(0_i64, |sum, row| sum.saturating_add(row.total_ns));
    let shares = rows.iter().map(|row| if record.phase.is_some() { row.share_of_phase } else { row.share });
    let mean_ns = (calls > 0).then(|| total_ns as f64 / calls as f64);
    let counted_ns = counters.and_then(|counters| counters.duration.as_ref()).map(|duration| duration.mean_ns);
    let launches: Vec<&NcuKernel> = match (counters, profile) {
        (Some(counters), Some(profile)) => {
            profile.import.report.kernels.iter().filter(|kernel| *kernel.name == *counters.name).collect()
        }
        _ => Vec::new(),
    };
    let matched_by = profile.zip(examined).and_then(|(profile, examined)| {
        let found = join(&profile.import.report, &examined.timeline, NAMES).matched;
        let is_it = |row: &&NcuMatch| counters.is_some_and(|one| one.name == row.ncu_name);
        Some(found.iter().find(is_it)?.matched_by)
    });
    KernelProfileBlock {
        number: record.number,
        capture: record.capture.clone(),
        phase: record.phase.clone(),
        class: rows.first().map(|row| row.class.name().to_owned()),
        name: rows.first().map_or_else(|| shorten(name), |row| row.name.clone()),
        full_name: name.to_owned(),
        calls: (!rows.is_empty()).then_some(calls),
        total_ns: (!rows.is_empty()).then_some(total_ns),
        mean_ns,
        share: if rows.is_empty() { None } else { shares.sum() },
        skip: record.skip,
        count: record.count,
        outcome: record.outcome,
        retried: record.retried,
        error: record.error.clone(),
        counters: counters.cloned(),
        matched_by,
        ncu_to_timeline: counted_ns.zip(mean_ns.filter(|mean| *mean > 0.0)).map(|(counted, mean)| counted / mean),
        roofline: counters.map(|counters| {
            kernel_roofline(counters, &launches, &ceilings(&read.state.peaks, examined.map(|one| &one.timeline)))
        }),
    }
}

/// Rows of the kernel `name` in the phase of the profile, over devices.
fn rows<'a>(examined: &'a Examined, name: &str, record: &ProfileRecord) -> Vec<&'a KernelSummaryRow> {
    let demangled = demangle(name);
    let name = prefix(&demangled, CUT_AT);
    let is_it = |row: &&KernelSummaryRow| {
        let same = row.activity == Activity::Kernel && row.full_name == name;
        same && (record.phase.is_none() || row.phase == record.phase)
    };
    examined.analysis.summary.rows.iter().filter(is_it).collect()
}

/// The ceilings of the device: the user's, else those of the table.
fn ceilings(given: &PeaksRecord, timeline: Option<&Timeline>) -> Peaks {
    let device = timeline.and_then(|timeline| timeline.devices.first());
    let entry = device.and_then(|device| match peaks::lookup(device.name.as_deref()?, device.memory_bytes) {
        Lookup::Found(entry) => Some(entry),
        _ => None,
    });
    let listed = entry.map(|entry| entry.dense.named()).into_iter().flatten();
    Peaks {
        flops_per_s: listed.filter_map(|(name, value)| Some((name.to_owned(), value?))).collect(),
        given_flops_per_s: given.flops_per_s,
        bytes_per_s: given
            .bytes_per_s
            .or(entry.map(|entry| entry.bandwidth_bytes_per_s))
            .or(device.and_then(|device| device.bandwidth_bytes_per_s)),
    }
}
