//! Tables of the analyses that say what ran: coverage, phases, steps, operators, ranges.

use super::cells::{bytes, flag, maybe_time, tail, time};
use super::format::duration;
use super::model::TraceReport;
use crate::analysis::coverage::{Coverage, GraphState, Verdict};
use crate::analysis::kernel_summary::{KernelSummary, KernelSummaryRow};
use crate::analysis::projection::RangeTotal;
use crate::analysis::steps::{Spread, StepSource, Steps, Workload};
use crate::diagnostics::Severity;
use crate::report::number::{self, UNKNOWN};
use crate::report::table::{Cell, Table};

/// What the trace can and cannot say, in figures.
pub(super) fn coverage(coverage: &Coverage) -> Table {
    let mut table = Table::new(&["What", "#Value", "Reading"]);
    let launches = &coverage.launches;
    let mut row = |what: &str, value: Cell, reading: String| {
        table.push(vec![Cell::text(what), value, Cell::text_up_to(&reading, 300)]);
    };
    row(
        "Completeness",
        Cell::text(match coverage.verdict {
            Verdict::Complete => "complete",
            Verdict::Partial => "partial",
            Verdict::NoGpuWork => "no GPU work",
        }),
        coverage.reasons.first().cloned().unwrap_or_else(|| "nothing is known to be missing".to_owned()),
    );
    row("Kernels", Cell::count(launches.kernels), String::new());
    row(
        "Kernels joined to their launch call",
        Cell::count(launches.linked_kernels),
        launches.unlinked_share.map_or_else(String::new, |share| {
            format!("{} without a call ({})", number::count(launches.unlinked_kernels), number::percent(share))
        }),
    );
    row(
        "Kernel launch calls",
        Cell::count(launches.kernel_launch_calls),
        match launches.kernel_coverage {
            Some(share) => {
                format!("{} of those that should have put a kernel on the device have one", number::percent(share))
            }
            None => String::new(),
        },
    );
    row(
        "Launch calls without a kernel",
        Cell::count(launches.launches_without_kernel),
        if launches.failed_launches > 0 {
            format!("{} more failed", number::count(launches.failed_launches))
        } else {
            String::new()
        },
    );
    row(
        "CUDA graphs",
        Cell::text(match coverage.graphs.state {
            GraphState::Carried => "node by node",
            GraphState::Absent => "none",
            GraphState::Hidden => "hidden",
            GraphState::Unknown => "not known",
        }),
        coverage.graphs.reasons.join("; "),
    );
    if let Some(share) = coverage.graphs.hidden_share.filter(|share| *share > 0.0) {
        let hidden = duration(coverage.graphs.hidden_sum_ns as f64);
        row("Time hidden inside graphs", Cell::percent(Some(share)), format!("{hidden} (sum) in whole-graph records"));
    }
    row(
        "Kernels that start before their launch call",
        Cell::count(coverage.clock.before_call),
        match (coverage.clock.queue_times_reliable, coverage.clock.worst_ns) {
            (Some(false), Some(worst)) => {
                format!(
                    "the clocks of host and device disagree, by up to {}; queue times are refused",
                    duration(worst as f64)
                )
            }
            (Some(true), Some(worst)) => format!("up to {} early", duration(worst as f64)),
            (None, _) => "not known: no kernel is joined to a call".to_owned(),
            _ => String::new(),
        },
    );
    let ranges = &coverage.ranges;
    row(
        "Ranges",
        Cell::count(ranges.nvtx + ranges.operators + ranges.python),
        format!(
            "{} NVTX ({} of libraries), {} operators, {} Python functions; {} never closed",
            number::count(ranges.nvtx),
            number::count(ranges.library),
            number::count(ranges.operators),
            number::count(ranges.python),
            number::count(ranges.open)
        ),
    );
    if let Some(overhead) = coverage.overhead_union_ns {
        row("Overhead of the profiler", time(overhead as f64), "union of what it recorded of itself".to_owned());
    }
    for note in &coverage.notes {
        let word =
            ["tool message", "tool information", "tool warning", "tool error"][usize::from(note.severity.min(3))];
        row(word, Cell::count(note.count), note.text.clone());
    }
    table
}

/// Processes, where there are several.
pub(super) fn processes(coverage: &Coverage) -> Table {
    let mut table = Table::new(&["Process", "#PID", "#API calls", "#Launch calls", "#Kernels", "GPU work"]);
    for process in &coverage.processes {
        table.push(vec![
            Cell::text(process.name.as_deref().unwrap_or(UNKNOWN)),
            Cell::number(process.pid.to_string(), f64::from(process.pid)),
            Cell::count(process.api_calls),
            Cell::count(process.launches.kernel_launch_calls + process.launches.graph_launch_calls),
            Cell::count(process.launches.kernels),
            flag(Some(process.has_gpu_work)),
        ]);
    }
    table
}

/// One row a phase.
pub(super) fn phases(steps: &Steps) -> Table {
    let mut table = Table::new(&[
        "Phase",
        "#Steps",
        "#Kernels",
        "#GPU time (sum)",
        "#GPU busy (union)",
        "#Wall time of steps",
        "#Median step",
        "#p95 step",
        "#Kernels a step",
        "#Launches a step",
    ]);
    let median = |spread: &Option<Spread>| Cell::maybe(spread.as_ref().map(|spread| spread.p50));
    for phase in &steps.phases {
        let spread = phase.step_ns.as_ref();
        table.push(vec![
            Cell::text(&phase.name),
            Cell::count(phase.steps),
            Cell::count(phase.kernels),
            time(phase.gpu_sum_ns as f64),
            time(phase.busy_union_ns as f64),
            maybe_time(phase.wall_ns.map(|ns| ns as f64)),
            maybe_time(spread.map(|spread| spread.p50)),
            spread.map_or_else(|| Cell::maybe(None), |spread| tail(spread.p95, 95, spread.n)),
            median(&phase.kernels_per_step),
            median(&phase.launches_per_step),
        ]);
    }
    table
}

/// Steps far above the others.
pub(super) fn stragglers(steps: &Steps, origin_ns: i64) -> Table {
    let mut table = Table::new(&["#Step", "Phase", "#Begins at", "#Duration", "#× median"]);
    for straggler in &steps.stragglers {
        table.push(vec![
            Cell::count(straggler.step),
            Cell::text(&straggler.phase),
            time(straggler.start_ns.saturating_sub(origin_ns) as f64),
            time(straggler.duration_ns as f64),
            Cell::maybe(Some(straggler.times_median)),
        ]);
    }
    table
}

/// How steps were told, in words.
pub(super) fn step_source(steps: &Steps) -> Vec<String> {
    let mut lines = vec![format!(
        "The trace is of {}; steps were told by {}{}.",
        match steps.workload {
            Workload::Inference => "inference",
            Workload::Training => "training",
            Workload::Unknown => "a workload that is not known",
        },
        match steps.source {
            StepSource::PhaseRanges => "ranges that name the phase",
            StepSource::StepRanges => "ranges that mark steps",
            StepSource::GraphReplays => "repeated launches of one graph",
            StepSource::Repetition => "what repeats once in each step",
            StepSource::None => "nothing: none were found",
        },
        steps
            .confidence
            .map_or_else(String::new, |confidence| format!(" (confidence {})", number::percent(confidence)))
    )];
    lines.extend(steps.evidence.iter().cloned());
    lines.extend(steps.hints.iter().cloned());
    for drift in &steps.drift {
        let [low, high] = drift.interval;
        let clear = (low > 0.0) == (high > 0.0) && low != 0.0 && high != 0.0;
        if clear {
            lines.push(format!(
                "Steps of {} {} by {} each (95 % interval {} to {}, n = {}), {} of the median over the trace.",
                drift.phase,
                if drift.slope_ns_per_step > 0.0 { "grow" } else { "shrink" },
                duration(drift.slope_ns_per_step.abs()),
                duration(low),
                duration(high),
                drift.n,
                number::percent(drift.relative_change.abs())
            ));
        }
    }
    lines
}

/// Totals of operator classes, of one phase or of all.
pub(super) fn classes(summary: &KernelSummary, phase: Option<&str>) -> Table {
    let mut table = Table::new(&["Class", "#Kernel names", "#Calls", "#Time (sum)", "#Share", "What it is"]);
    for (class, names, calls, total, share) in class_totals(summary, phase) {
        table.push(vec![
            Cell::text(class.name()),
            maybe_names(names),
            Cell::count(calls),
            time(total as f64),
            Cell::percent(share),
            Cell::text_up_to(class.description(), 200),
        ]);
    }
    table
}

fn maybe_names(names: Option<u64>) -> Cell {
    names.map_or_else(|| Cell::maybe(None), Cell::count)
}

/// A class with its distinct names (unknown where phases were added up), calls, time in ns and share.
pub(super) type ClassSum = (crate::analysis::classify::KernelClass, Option<u64>, u64, i64, Option<f64>);

/// Class totals of `phase`, or over all phases, the longest first. Shares are of the kernel time of the same rows.
pub(super) fn class_totals(summary: &KernelSummary, phase: Option<&str>) -> Vec<ClassSum> {
    let mut sums: Vec<ClassSum> = Vec::new();
    for total in &summary.classes {
        if phase.is_some() && total.phase.as_deref() != phase {
            continue;
        }
        match sums.iter_mut().find(|sum| sum.0 == total.class) {
            Some(sum) => {
                // The same name may run in two phases: names of several rows do not add up.
                sum.1 = None;
                sum.2 += total.calls;
                sum.3 = sum.3.saturating_add(total.total_ns);
                sum.4 = sum.4.zip(total.share).map(|(a, b)| a + b);
            }
            None => {
                let share = if phase.is_some() { total.share_of_phase } else { total.share };
                sums.push((total.class, Some(total.names), total.calls, total.total_ns, share));
            }
        }
    }
    sums.sort_by(|a, b| b.3.cmp(&a.3).then_with(|| a.0.cmp(&b.0)));
    sums
}

/// Phases that have class totals, the one with the most time first.
pub(super) fn class_phases(summary: &KernelSummary) -> Vec<(String, i64)> {
    let mut phases: Vec<(String, i64)> = Vec::new();
    for total in &summary.classes {
        let Some(name) = &total.phase else { continue };
        match phases.iter_mut().find(|phase| phase.0 == *name) {
            Some(phase) => phase.1 = phase.1.saturating_add(total.total_ns),
            None => phases.push((name.clone(), total.total_ns)),
        }
    }
    phases.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    phases
}

/// The operator table: one row for each kernel name and group, at most `limit`.
pub(super) fn operators(summary: &KernelSummary, limit: usize) -> Table {
    let grouped = Grouped::of(summary);
    let mut headings = vec!["Class", "Kernel"];
    if grouped.phase {
        headings.push("Phase");
    }
    if grouped.module {
        headings.push("Module");
    }
    if grouped.device {
        headings.push("#Device");
    }
    headings.extend(["#Calls", "#Total (sum)", "#Share", "#Mean", "#Median", "#p95", "#p99", "#Min", "#Max"]);
    if grouped.bytes {
        headings.push("#Bytes");
    }
    let mut table = Table::new(&headings);
    for row in summary.rows.iter().take(limit) {
        table.push(operator(row, grouped));
    }
    table
}

/// Which columns of the operator table have anything in them.
#[derive(Debug, Clone, Copy)]
struct Grouped {
    phase: bool,
    module: bool,
    device: bool,
    bytes: bool,
}

impl Grouped {
    fn of(summary: &KernelSummary) -> Self {
        Self {
            phase: summary.rows.iter().any(|row| row.phase.is_some()),
            module: summary.rows.iter().any(|row| row.module.is_some()),
            device: summary.rows.iter().any(|row| row.device.is_some()),
            bytes: summary.rows.iter().any(|row| row.bytes.is_some()),
        }
    }
}

fn operator(row: &KernelSummaryRow, grouped: Grouped) -> Vec<Cell> {
    let maybe = |text: &Option<String>| Cell::text(text.as_deref().unwrap_or(UNKNOWN));
    let mut name = Cell::text(&row.name);
    if row.full_name != row.name {
        name.full = Some(crate::report::escape::cut(&crate::report::escape::one_line(&row.full_name), 20_000));
    }
    let mut cells = vec![Cell::text(row.class.name()), name];
    if grouped.phase {
        cells.push(maybe(&row.phase));
    }
    if grouped.module {
        cells.push(maybe(&row.module));
    }
    if grouped.device {
        cells.push(row.device.map_or_else(|| Cell::maybe(None), |device| Cell::count(u64::from(device))));
    }
    cells.extend([
        Cell::count(row.calls),
        time(row.total_ns as f64),
        Cell::percent(row.share),
        time(row.mean_ns),
        time(row.p50_ns),
        tail(row.p95_ns, 95, row.calls),
        tail(row.p99_ns, 99, row.calls),
        time(row.min_ns as f64),
        time(row.max_ns as f64),
    ]);
    if grouped.bytes {
        cells.push(bytes(row.bytes));
    }
    cells
}

/// Kernel names no rule knows.
pub(super) fn unclassified(summary: &KernelSummary) -> Table {
    let mut table = Table::new(&["Kernel", "#Calls", "#Time (sum)"]);
    for name in &summary.coverage.top_unclassified {
        table.push(vec![Cell::text(&name.full_name), Cell::count(name.calls), time(name.total_ns as f64)]);
    }
    table
}

/// Ranges by name or by path.
pub(super) fn ranges(totals: &[RangeTotal], limit: usize) -> Table {
    let mut table = Table::new(&[
        "Range",
        "#Ranges",
        "#GPU time (sum)",
        "#direct (sum)",
        "#First to last (sum)",
        "#On the host (sum)",
        "#Operations",
    ]);
    for total in totals.iter().take(limit) {
        table.push(vec![
            Cell::text(&total.name),
            Cell::count(total.instances),
            time(total.gpu_inclusive_sum_ns as f64),
            time(total.gpu_self_sum_ns as f64),
            time(total.projected_sum_ns as f64),
            time(total.wall_sum_ns as f64),
            Cell::count(total.ops),
        ]);
    }
    table
}

/// Findings about the data, the gravest first.
pub(super) fn diagnostics(report: &TraceReport<'_>) -> Table {
    let mut table = Table::new(&["Severity", "Code", "#Count", "First example"]);
    let mut sorted: Vec<_> = report.diagnostics.iter().collect();
    sorted.sort_by_key(|diagnostic| std::cmp::Reverse(diagnostic.severity));
    for diagnostic in sorted {
        table.push(vec![
            Cell::text(severity(diagnostic.severity)),
            Cell::text(&diagnostic.code),
            Cell::count(diagnostic.count),
            Cell::text_up_to(&diagnostic.first, 400),
        ]);
    }
    table
}

/// A severity in words.
pub(super) fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warn => "warning",
        Severity::Error => "error",
        Severity::DataLoss => "data loss",
    }
}

/// The input files.
pub(super) fn files(report: &TraceReport<'_>) -> Table {
    let mut table = Table::new(&["File", "#Size", "Written by"]);
    for file in report.files {
        table.push(vec![Cell::text(&file.name), bytes(Some(file.bytes)), Cell::text(&file.tool)]);
    }
    table
}
