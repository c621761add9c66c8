//! The sections of the report as data: every format lays out the same ones.

use serde::Serialize;

use super::charts;
use super::model::TraceReport;
use super::{counters, tables, waits};
use crate::report::chart::{self, Chart};
use crate::report::number::{count, percent};
use crate::report::stage2;
use crate::report::table::Table;
use crate::units::{Bandwidth, FlopsPerSecond};

/// Rows of the operator table in report.html; operators.md and kernels.csv have more.
pub(super) const OPERATORS: usize = 500;
/// Rows of side tables.
const ROWS: usize = 60;
/// Gaps listed for each device.
const GAPS: usize = 20;

/// One piece of a section.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(in crate::report) enum Block {
    /// How to read what follows.
    Reading { text: String },
    /// Sentences.
    Lines { lines: Vec<String> },
    /// A table with its heading; folded ones open on demand.
    Table { heading: String, table: Table, sortable: bool, folded: bool },
    /// A chart.
    Chart { chart: Chart },
    /// The flame graph.
    Flame { chart: Chart },
    /// The zoomable timeline.
    Timeline { reading: String, notes: Vec<String>, label: String, bars: Table },
    /// Names and texts.
    Terms { heading: String, terms: Vec<(String, String)> },
}

/// One section.
#[derive(Debug, Clone, Serialize)]
pub(in crate::report) struct Section {
    /// Anchor.
    pub id: String,
    /// Heading.
    pub title: String,
    /// Word in the list of contents.
    pub short: String,
    /// What is in it; never empty.
    pub blocks: Vec<Block>,
}

pub(in crate::report) fn section(id: &str, title: &str, short: &str) -> Section {
    Section { id: id.to_owned(), title: title.to_owned(), short: short.to_owned(), blocks: Vec::new() }
}

impl Section {
    pub(in crate::report) fn reading(&mut self, text: &str) {
        self.blocks.push(Block::Reading { text: text.to_owned() });
    }
    pub(in crate::report) fn lines(&mut self, lines: Vec<String>) {
        if !lines.is_empty() {
            self.blocks.push(Block::Lines { lines });
        }
    }
    pub(in crate::report) fn chart(&mut self, chart: Chart) {
        self.blocks.push(Block::Chart { chart });
    }
    pub(in crate::report) fn push(&mut self, heading: &str, table: Table, sortable: bool, folded: bool) {
        if !table.rows.is_empty() {
            self.blocks.push(Block::Table { heading: heading.to_owned(), table, sortable, folded });
        }
    }
    pub(in crate::report) fn table(&mut self, heading: &str, table: Table) {
        self.push(heading, table, false, false);
    }
    pub(in crate::report) fn folded(&mut self, heading: &str, table: Table) {
        self.push(heading, table, false, true);
    }
    pub(in crate::report) fn missing(&mut self, text: &str) {
        self.lines(vec![text.to_owned()]);
    }
}

/// All sections in order.
pub(super) fn sections(report: &TraceReport<'_>) -> Vec<Section> {
    // Of a run of stage2 the profiled kernels come first, and what was run last.
    let (first, last) = report.stage2.map_or_else(Default::default, stage2::sections);
    if super::verdict::counters_only(report) || (report.stage2.is_some() && report.coverage.is_none()) {
        return first.into_iter().chain(ncu(report)).chain(last).chain([data(report), method(report)]).collect();
    }
    let mut all = first;
    all.extend([time(report), idle(report)]);
    all.extend(timeline(report));
    all.extend([
        flame(report),
        steps(report),
        launch(report),
        transfers(report),
        overlap(report),
        critical_path(report),
    ]);
    all.extend(roofline(report));
    all.push(operators(report));
    all.extend(ncu(report));
    all.extend(last);
    all.extend([data(report), method(report)]);
    all
}

fn time(report: &TraceReport<'_>) -> Section {
    let mut part = section("time", "Where the time goes", "Time");
    let Some(kernels) = report.kernels else {
        part.missing("Kernels were not summarised.");
        return part;
    };
    part.reading(
        "Kernel time by operator class. Times are sums of durations: work that overlaps on several streams counts as often as it runs.",
    );
    if !super::verdict::kernel_shares(report) {
        part.missing(
            "Shares here are of the kernels that are in the trace, not of all GPU time: see the warnings on top.",
        );
    }
    part.chart(charts::classes(kernels));
    part.push("All phases", tables::classes(kernels, None), true, false);
    let phases = tables::class_phases(kernels);
    // One phase that is everything would be the same table again.
    if phases.len() > 1 {
        for (phase, _) in phases.iter().take(6) {
            part.folded(&format!("Phase {phase}"), tables::classes(kernels, Some(phase)));
        }
    }
    let coverage = &kernels.coverage;
    if coverage.kernel_ns > 0 && coverage.classified < coverage.kernels {
        let left = coverage.kernel_ns.saturating_sub(coverage.classified_ns) as f64 / coverage.kernel_ns as f64;
        part.lines(vec![format!(
            "Kernel names that no rule knows: {}, with {} of the kernel time.",
            count(coverage.unclassified_names),
            percent(left)
        )]);
        part.folded("Kernels of no known class", tables::unclassified(kernels));
    }
    part
}

fn idle(report: &TraceReport<'_>) -> Section {
    let mut part = section("idle", "Why the GPU waited", "Idle");
    if report.idle.is_empty() {
        part.missing("Idle time was not computed.");
        return part;
    }
    if report.coverage.is_some_and(|coverage| !coverage.trust.idle_shares) {
        part.missing("Idle time is not stated, because the trace cannot carry it: see the warnings on top.");
        return part;
    }
    part.reading(
        "Busy is the union of all work of a device, so it never exceeds the window; every gap has exactly one cause; busy and the causes add up \
         to the window.",
    );
    part.chart(charts::idle(report));
    part.table("", waits::idle(report));
    part.chart(charts::gaps(report));
    part.table("What the host did during the gaps it caused", waits::host_parts(report));
    part.table("By phase", waits::idle_by_phase(report));
    for idle in report.idle {
        let heading = format!("Longest gaps of {}", waits::device(report, idle.device));
        part.folded(&heading, waits::longest_gaps(report, idle, GAPS));
    }
    part
}

fn timeline(report: &TraceReport<'_>) -> Option<Section> {
    let view = report.view?;
    let mut part = section("timeline", "Timeline", "Timeline");
    if view.bar_count() == 0 {
        part.missing("There is nothing to draw: no work or call in the stretch.");
        return Some(part);
    }
    let length = super::format::duration(view.end_ns.saturating_sub(view.start_ns) as f64);
    part.blocks.push(Block::Timeline {
        reading: format!(
            "{} {length} from {} after the begin of the trace. Wheel to zoom (shift: sideways), drag to move, click a bar to select it and \
             see which call launched what; keys: + − ← → 0, shift+← → from bar to bar, n for the next match.",
            view.chosen,
            super::format::duration(view.start_ns.saturating_sub(view.origin_ns) as f64)
        ),
        notes: view.left_out.clone(),
        label: format!("Timeline of {length}: {} lanes, {} bars; the longest are in the table below", view.lanes.len(), view.bar_count()),
        bars: super::excerpt::longest_bars(view),
    });
    Some(part)
}

fn flame(report: &TraceReport<'_>) -> Section {
    let mut part = section("flame", "GPU time by range", "Flame graph");
    part.blocks.push(Block::Flame { chart: chart::flame(report.flame) });
    if let Some(ranges) = report.ranges {
        let mut lines = Vec::new();
        if let Some(share) = ranges.attributed_share {
            lines.push(format!(
                "{} of the kernel time was launched inside some range. A kernel belongs to the range that contains its launch call, whatever \
                 is open while it runs.",
                percent(share)
            ));
        }
        if ranges.cross_thread > 0 {
            lines.push(format!("{} ranges that another thread ended are left out.", count(ranges.cross_thread)));
        }
        part.lines(lines);
        part.push("By range name", tables::ranges(&ranges.by_name, ROWS), true, false);
        part.push("By range path", tables::ranges(&ranges.by_path, ROWS), true, true);
    }
    part
}

fn steps(report: &TraceReport<'_>) -> Section {
    let mut part = section("steps", "Phases and steps", "Steps");
    let Some(steps) = report.steps else {
        part.missing("Phases and steps were not looked for.");
        return part;
    };
    part.lines(tables::step_source(steps));
    part.table("Phases", tables::phases(steps));
    part.chart(charts::steps(steps, report.origin_ns.unwrap_or(0)));
    part.table("Stragglers", tables::stragglers(steps, report.origin_ns.unwrap_or(0)));
    if steps.stragglers_omitted > 0 {
        part.lines(vec![format!("{} more stragglers are not listed.", count(steps.stragglers_omitted))]);
    }
    part
}

fn launch(report: &TraceReport<'_>) -> Section {
    let mut part = section("launch", "Launch and queue", "Launch");
    let Some(launch) = report.launch else {
        part.missing("Launching was not analysed.");
        return part;
    };
    if report.coverage.is_some_and(|coverage| !coverage.trust.queue_times) {
        part.lines(vec![
            "Launch latency and queue times must not be read off this trace (see the warnings on top); they are shown for completeness only."
                .to_owned(),
        ]);
    }
    part.reading(
        "Latency is from the begin of the launch call to the begin of the work, queue time from the end of the call; TKLQT is the sum of all \
         latencies.",
    );
    let told = report.coverage.is_none_or(|coverage| coverage.trust.idle_shares);
    if !told {
        part.missing("Whether a GPU waits for launches is not stated: that is a share of idle time.");
    }
    for row in launch.devices.iter().filter(|_| told) {
        if !row.evidence.is_empty() {
            let name = waits::device(report, row.device);
            let text = row.evidence.join("; ");
            part.lines(vec![format!("{name}: {}: {text}", super::words::launch(row.verdict))]);
        }
    }
    part.table("", waits::launch(report, launch));
    part.table("By phase", waits::launch_phases(report, launch));
    part.push("Calls that put work on a device", waits::calls(launch, ROWS), true, false);
    part.folded("Host threads that launch", waits::threads(launch));
    part
}

fn transfers(report: &TraceReport<'_>) -> Section {
    let mut part = section("transfers", "Transfers and allocations", "Transfers");
    let Some(transfers) = report.transfers else {
        part.missing("Transfers were not analysed.");
        return part;
    };
    if transfers.copies.is_empty() && transfers.memsets.is_empty() && transfers.allocations.is_empty() {
        part.missing("The trace has no copies, memory sets or allocations.");
        return part;
    }
    part.reading(
        "Tiny copies are those below 64 KiB: their time is latency, not bandwidth, and the median rate leaves them out. Blocking ones held up \
         the host until the copy was done.",
    );
    part.table("", waits::copies(report, transfers));
    part.table("Allocations", waits::allocations(transfers));
    part
}

fn overlap(report: &TraceReport<'_>) -> Section {
    let title = if report.devices.len() > 1 { "Overlap and balance of the GPUs" } else { "Overlap" };
    let mut part = section("overlap", title, "Overlap");
    let Some(overlap) = report.overlap else {
        part.missing("Overlap was not analysed.");
        return part;
    };
    part.reading("Exposed is what no compute covers: compute, exposed communication, exposed copies and idle time add up to the window.");
    part.table("", waits::overlap(report, overlap));
    part.lines(waits::balance_words(report, overlap));
    part.table("GPUs side by side", waits::balance(report, overlap));
    if part.blocks.len() == 1 {
        part.missing("No device had work.");
    }
    part
}

fn critical_path(report: &TraceReport<'_>) -> Section {
    let mut part = section("critical", "Critical path and what-if", "Critical path");
    let Some(path) = report.critical_path else {
        part.missing("No critical path was computed.");
        return part;
    };
    part.reading(
        "The chain of events that decided how long the work took. What-if simulates the same work with one class taking no time: an upper bound \
         for any optimisation of that class alone.",
    );
    part.lines(
        path.host_share.map(|share| format!("{} of the path is on the host.", percent(share))).into_iter().collect(),
    );
    part.table("", waits::path_kinds(path));
    part.table("What if", waits::what_if(path));
    part.folded("Kernels on the path", waits::path_kernels(path));
    if path.unlinked_operations > 0 {
        part.lines(vec![format!(
            "{} operations have no launch call: for them only the order of their stream is known.",
            count(path.unlinked_operations)
        )]);
    }
    part
}

fn roofline(report: &TraceReport<'_>) -> Option<Section> {
    let work = report.roofline?;
    let mut part = section("rooflines", "Distance to the machine's limits", "Roofline");
    part.reading(
        "What the model's architecture must compute and move beside the time it took. Lost is the time above the least the ceilings allow.",
    );
    part.table("MFU and MBU", waits::utilisation(work));
    part.push("By operator class", waits::roofline(work), true, false);
    part.lines(work.notes.clone());
    let sources = report.ceilings.iter().map(|ceiling| {
        let name = waits::device(report, ceiling.device);
        let known = |value: Option<String>| value.unwrap_or_else(|| "not known".to_owned());
        format!(
            "{name}: {} ({}), {} ({})",
            known(ceiling.values.flops_per_s.map(|value| FlopsPerSecond(value).to_string())),
            ceiling.flops_source,
            known(ceiling.values.bytes_per_s.map(|value| Bandwidth(value).to_string())),
            ceiling.bytes_source
        )
    });
    part.lines(sources.collect());
    Some(part)
}

fn operators(report: &TraceReport<'_>) -> Section {
    let mut part = section("operators", "Operators", "Operators");
    let Some(kernels) = report.kernels.filter(|kernels| !kernels.rows.is_empty()) else {
        part.missing("The trace has no kernels, copies or memory sets.");
        return part;
    };
    part.reading("† marks percentiles of fewer calls than they need (p95: 90, p99: 459).");
    part.push("", tables::operators(kernels, OPERATORS), true, false);
    let hidden = kernels.rows.len().saturating_sub(OPERATORS) as u64 + kernels.remainder.rows;
    if hidden > 0 {
        part.lines(vec![format!("{} more rows are not shown here.", count(hidden))]);
    }
    for (heading, summary) in [("By layer", report.by_layer), ("By module", report.by_module)] {
        if let Some(summary) = summary {
            part.push(heading, tables::operators(summary, OPERATORS), true, true);
        }
    }
    part
}

fn ncu(report: &TraceReport<'_>) -> Option<Section> {
    if report.ncu.is_empty() {
        return None;
    }
    let mut part = section("counters", "Counters of Nsight Compute", "Counters");
    part.reading(
        "Nsight Compute replays each kernel, by default with flushed caches and clocks locked to their base: use its ratios, and the durations of \
         the timeline. What bounds a kernel is told by the tool's own rule.",
    );
    for block in report.ncu {
        let file = crate::report::escape::cut(&block.summary.file, 80);
        part.push(&format!("Kernels of {file}"), counters::kernels(&block.summary), true, false);
        part.table("What the tool advises", counters::rules(&block.summary));
        part.lines(counters::words(block));
        if let Some(join) = &block.join {
            part.push("The same kernels in the timeline", counters::matched(join), true, false);
            part.folded("In the timeline and not profiled", counters::unmatched(join));
        }
    }
    Some(part)
}

fn data(report: &TraceReport<'_>) -> Section {
    let mut part = section("data", "How far to trust it", "Trust");
    if report.diagnostics.is_empty() {
        part.missing("No diagnostics.");
    }
    part.table("Diagnostics", tables::diagnostics(report));
    if let Some(coverage) = report.coverage.filter(|_| !super::verdict::counters_only(report)) {
        part.table("What the trace holds", tables::coverage(coverage));
        if coverage.processes.len() > 1 {
            part.folded("Processes", tables::processes(coverage));
        }
    }
    part.table("Input", tables::files(report));
    part
}

fn method(report: &TraceReport<'_>) -> Section {
    let mut part = section("method", "Method and assumptions", "Method");
    for block in report.assumptions {
        part.blocks.push(Block::Terms { heading: block.title.clone(), terms: block.lines.clone() });
    }
    if report.assumptions.is_empty() {
        part.missing("None were recorded.");
    }
    part
}

/// The files of the run and what each is for.
pub(super) fn files(report: &TraceReport<'_>) -> Vec<(&'static str, &'static str)> {
    let of_stage2 = report.stage2.map_or(&[][..], stage2::files_of);
    let whole = report.stage2.is_none() || report.coverage.is_some();
    let mut files: Vec<(&str, &str)> =
        FILES.iter().filter(|(name, _)| whole || !TRACE_FILES.contains(name)).copied().collect();
    files.splice(2..2, of_stage2.iter().copied());
    files
}

/// Of them those that only one timeline has.
const TRACE_FILES: [&str; 5] = ["operators.md", "operators.csv", "kernels.csv", "gaps.csv", "steps.csv"];

/// The files of an analysis and what each is for.
const FILES: [(&str, &str); 13] = [
    ("report.html", "everything here with charts, in one file that can be passed on"),
    ("report.md", "this report without charts"),
    ("operators.md", "every operator class and kernel"),
    ("operators.csv", "operator classes by phase, for spreadsheets"),
    ("kernels.csv", "every row of the operator table with all its statistics"),
    ("gaps.csv", "the longest gaps of each device with their causes"),
    ("steps.csv", "every step"),
    ("assumptions.md", "definitions, formulas with their values, what was refused and why"),
    ("metrics.json", "the summary for programs"),
    ("inputs.yaml", "the files with their hashes"),
    ("env.json", "machine, software and versions"),
    ("run.json", "status, times, command line"),
    ("MANIFEST.json", "sha256 of every file"),
];
