//! Tables of the analyses that say what was waited for: idle time, launching, transfers, overlap, the critical path; and the roofline.

use super::cells::{bytes, flag, maybe_time, rate, tail, time};
use super::format::duration;
use super::model::TraceReport;
use super::words;
use crate::analysis::class_roofline::ModelledWork;
use crate::analysis::critical_path::CriticalPath;
use crate::analysis::idle::DeviceIdle;
use crate::analysis::intervals::Spread;
use crate::analysis::launch::LaunchAnalysis;
use crate::analysis::overlap::OverlapAnalysis;
use crate::analysis::transfers::TransferAnalysis;
use crate::report::number::{self, UNKNOWN, percent};
use crate::report::table::{Cell, Table};
use crate::units::FlopsPerSecond;

/// What a device is called.
pub(super) fn device(report: &TraceReport<'_>, device: u32) -> String {
    let known = report.devices.iter().find(|known| known.device == device);
    known.map_or_else(|| format!("GPU #{device}"), |known| known.label.clone())
}

/// Median, 95th percentile and longest of a spread.
fn order_statistics(spread: &Spread) -> [Cell; 3] {
    let p95 = spread.p95_ns.map_or_else(|| Cell::maybe(None), |value| tail(value, 95, spread.count));
    [maybe_time(spread.p50_ns), p95, maybe_time(spread.max_ns.map(|ns| ns as f64))]
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// Busy time and idle time by cause; the rows of a device add up to its window.
pub(super) fn idle(report: &TraceReport<'_>) -> Table {
    let mut table = Table::new(&[
        "Device",
        "What",
        "#Time",
        "#Share of the window",
        "#Gaps",
        "#Median",
        "#p95",
        "#Longest",
        "In words",
    ]);
    for idle in report.idle.iter().filter(|idle| idle.window_ns > 0) {
        let name = device(report, idle.device);
        let share = |ns: u64| Cell::percent(ratio(ns, idle.window_ns));
        let blank = || Cell::text("");
        let mut row = |what: &str, ns: u64, cells: [Cell; 4], meaning: &str| {
            let [gaps, p50, p95, max] = cells;
            let meaning = Cell::text_up_to(meaning, 160);
            table.push(vec![
                Cell::text(&name),
                Cell::text(what),
                time(ns as f64),
                share(ns),
                gaps,
                p50,
                p95,
                max,
                meaning,
            ]);
        };
        row("busy", idle.busy_ns, [blank(), blank(), blank(), blank()], "at least one operation ran (union)");
        for (cause_name, cause, ns) in words::causes(idle) {
            let spread = cause.and_then(|cause| idle.idle_by_cause.iter().find(|row| row.cause == cause));
            let cells = match spread {
                Some(found) => {
                    let [p50, p95, max] = order_statistics(&found.spread);
                    [Cell::count(found.spread.count), p50, p95, max]
                }
                None => [Cell::count(idle.below_1us_gaps), blank(), blank(), blank()],
            };
            let meaning = cause.map_or("from one kernel to the next", words::cause);
            row(cause_name, ns, cells, meaning);
        }
        row("window", idle.window_ns, [blank(), blank(), blank(), blank()], "busy and all causes together");
    }
    table
}

/// Idle time by phase.
pub(super) fn idle_by_phase(report: &TraceReport<'_>) -> Table {
    let mut table =
        Table::new(&["Device", "Phase", "#Window", "#Busy", "#Idle", "#Busy share", "Largest cause", "#Its time"]);
    for idle in report.idle {
        for phase in &idle.phases {
            let largest = phase.idle_by_cause.iter().max_by_key(|(_, ns)| *ns);
            table.push(vec![
                Cell::text(&device(report, idle.device)),
                Cell::text(&phase.phase),
                time(phase.window_ns as f64),
                time(phase.busy_ns as f64),
                time(phase.idle_ns as f64),
                Cell::percent(ratio(phase.busy_ns, phase.window_ns)),
                Cell::text(largest.map_or(UNKNOWN, |(cause, _)| cause.name())),
                maybe_time(largest.map(|(_, ns)| *ns as f64)),
            ]);
        }
    }
    table
}

/// Where the time of gaps that the host caused went.
pub(super) fn host_parts(report: &TraceReport<'_>) -> Table {
    let mut table = Table::new(&["Device", "During the gaps the host caused, it was", "#Time", "#Share of the window"]);
    for idle in report.idle {
        let parts = &idle.host_parts;
        let mut rows = [
            ("still inside calls that wait for the device", parts.waiting_ns),
            ("allocating or releasing memory", parts.allocation_ns),
            ("loading modules", parts.module_load_ns),
            ("capturing or instantiating graphs", parts.graph_setup_ns),
            ("in other API calls", parts.other_calls_ns),
            ("outside the API: the program's own code, its libraries, the operating system", parts.outside_api_ns),
            ("inside the launch call", parts.launch_call_ns),
            ("done; the launch was on its way to the device", parts.after_call_ns),
        ];
        rows.sort_by_key(|row| std::cmp::Reverse(row.1));
        for (what, ns) in rows.into_iter().filter(|row| row.1 > 0) {
            table.push(vec![
                Cell::text(&device(report, idle.device)),
                Cell::text(what),
                time(ns as f64),
                Cell::percent(ratio(ns, idle.window_ns)),
            ]);
        }
    }
    table
}

/// The longest gaps.
pub(super) fn longest_gaps(report: &TraceReport<'_>, idle: &DeviceIdle, limit: usize) -> Table {
    let mut table = Table::new(&["#Begins at", "#Length", "Cause", "After", "Before", "Launched by", "Evidence"]);
    let maybe = |text: &Option<String>| Cell::text_up_to(text.as_deref().unwrap_or(UNKNOWN), 60);
    for gap in idle.longest.iter().take(limit) {
        let begin = gap.interval.start_ns.saturating_sub(report.origin_ns.unwrap_or(0));
        table.push(vec![
            time(begin as f64),
            time(gap.length_ns as f64),
            Cell::text(gap.cause.name()),
            maybe(&gap.previous),
            maybe(&gap.next),
            maybe(&gap.launch_call),
            Cell::text_up_to(&gap.evidence, 200),
        ]);
    }
    table
}

/// One row a device: does it wait for launches.
pub(super) fn launch(report: &TraceReport<'_>, launch: &LaunchAnalysis) -> Table {
    let mut table = Table::new(&[
        "Device",
        "Verdict",
        "#Launches",
        "#of graphs",
        "#Kernels",
        "#Launches/s",
        "#Median latency",
        "#p95 latency",
        "#Median queue",
        "#TKLQT (sum)",
        "#Mean kernel",
        "#Queue empty",
    ]);
    let told = report.coverage.is_none_or(|coverage| coverage.trust.idle_shares);
    for row in &launch.devices {
        let [latency, latency_p95, _] = order_statistics(&row.latency);
        table.push(vec![
            Cell::text(&device(report, row.device)),
            Cell::text(if told { words::launch(row.verdict) } else { UNKNOWN }),
            Cell::count(row.launches),
            Cell::count(row.graph_launches),
            Cell::count(row.kernels),
            Cell::maybe(row.launches_per_s),
            latency,
            latency_p95,
            maybe_time(row.queue.p50_ns),
            maybe_time(row.tklqt_ns.map(|ns| ns as f64)),
            maybe_time(row.akd_ns),
            Cell::percent(row.queue_depth.map(|depth| depth.empty_share)),
        ]);
    }
    table
}

/// Launches by phase.
pub(super) fn launch_phases(report: &TraceReport<'_>, launch: &LaunchAnalysis) -> Table {
    let mut table =
        Table::new(&["Device", "Phase", "#Steps", "#Kernels", "#Launches", "#Launches a step", "#TKLQT (sum)"]);
    for row in &launch.devices {
        for phase in &row.phases {
            table.push(vec![
                Cell::text(&device(report, row.device)),
                Cell::text(&phase.phase),
                Cell::count(phase.windows),
                Cell::count(phase.kernels),
                Cell::count(phase.launches),
                Cell::maybe(phase.launches_per_window),
                time(phase.tklqt_ns as f64),
            ]);
        }
    }
    table
}

/// Cost of the calls that put work on a device.
pub(super) fn calls(launch: &LaunchAnalysis, limit: usize) -> Table {
    let mut table = Table::new(&["Call", "#Calls", "#Time on the host (sum)", "#Median", "#p95", "#Longest"]);
    for call in launch.calls.iter().take(limit) {
        let [p50, p95, max] = order_statistics(&call.duration);
        let count = Cell::count(call.duration.count);
        table.push(vec![Cell::text(&call.call), count, time(call.duration.total_ns as f64), p50, p95, max]);
    }
    table
}

/// Host threads that launch.
pub(super) fn threads(launch: &LaunchAnalysis) -> Table {
    let mut table = Table::new(&["#Thread", "#Calls", "#In these calls (union)", "#From first to last", "#Share"]);
    for thread in &launch.threads {
        table.push(vec![
            Cell::number(thread.tid.to_string(), thread.tid as f64),
            Cell::count(thread.calls),
            time(thread.launching_ns as f64),
            time(thread.span_ns as f64),
            Cell::percent(thread.launching_share),
        ]);
    }
    table
}

/// Copies by direction.
pub(super) fn copies(report: &TraceReport<'_>, transfers: &TransferAnalysis) -> Table {
    let mut table = Table::new(&[
        "Device",
        "Direction",
        "Pageable",
        "#Copies",
        "#Bytes",
        "#Time (sum)",
        "#Mean rate",
        "#Median rate",
        "#Tiny",
        "#Blocking",
        "#Host blocked",
    ]);
    for copy in &transfers.copies {
        table.push(vec![
            Cell::text(&device(report, copy.device)),
            Cell::text(&copy.operation),
            flag(copy.pageable),
            Cell::count(copy.duration.count),
            bytes(Some(copy.bytes)),
            time(copy.duration.total_ns as f64),
            rate(copy.mean_bytes_per_s),
            rate(copy.p50_bytes_per_s),
            Cell::count(copy.tiny),
            Cell::count(copy.synchronous.saturating_add(copy.blocked_asynchronous)),
            time(copy.blocked_host_ns as f64),
        ]);
    }
    for set in &transfers.memsets {
        let unknown = || Cell::text("");
        table.push(vec![
            Cell::text(&device(report, set.device)),
            Cell::text("memory set"),
            unknown(),
            Cell::count(set.duration.count),
            bytes(Some(set.bytes)),
            time(set.duration.total_ns as f64),
            unknown(),
            unknown(),
            unknown(),
            unknown(),
            unknown(),
        ]);
    }
    table
}

/// Calls that allocate and release.
pub(super) fn allocations(transfers: &TransferAnalysis) -> Table {
    let mut table = Table::new(&["Call", "#Calls", "#Time on the host (sum)", "#in steady state", "#its time"]);
    for call in &transfers.allocations {
        table.push(vec![
            Cell::text(&call.call),
            Cell::count(call.duration.count),
            time(call.duration.total_ns as f64),
            Cell::count(call.steady_calls),
            time(call.steady_ns as f64),
        ]);
    }
    table
}

/// What ran at the same time.
pub(super) fn overlap(report: &TraceReport<'_>, overlap: &OverlapAnalysis) -> Table {
    let mut table = Table::new(&[
        "Device",
        "#Window",
        "#Compute (union)",
        "#Communication (union)",
        "#exposed",
        "#Copies (union)",
        "#exposed",
        "#Idle",
        "#Most streams at once",
        "#≥ 2 streams at work",
    ]);
    for row in &overlap.devices {
        let several: u64 = row.streams_active.iter().filter(|at| at.streams >= 2).map(|at| at.time_ns).sum();
        table.push(vec![
            Cell::text(&device(report, row.device)),
            time(row.total_ns as f64),
            time(row.compute_ns as f64),
            time(row.communication_ns as f64),
            time(row.exposed_communication_ns as f64),
            time(row.copy_ns as f64),
            time(row.exposed_copy_ns as f64),
            time(row.idle_ns as f64),
            Cell::count(u64::from(row.max_streams)),
            Cell::percent(ratio(several, row.total_ns)),
        ]);
    }
    table
}

/// How several devices compare.
pub(super) fn balance(report: &TraceReport<'_>, overlap: &OverlapAnalysis) -> Table {
    let mut table =
        Table::new(&["Device", "#Busy", "#Work without communication", "#Waited in collectives", "#Came last"]);
    let Some(balance) = &overlap.balance else { return table };
    for (of, busy) in &balance.busy_ns {
        let work = balance.work_ns.iter().find(|(other, _)| other == of).map(|(_, ns)| *ns as f64);
        let wait = balance.devices.iter().find(|wait| wait.device == *of);
        table.push(vec![
            Cell::text(&device(report, *of)),
            time(*busy as f64),
            maybe_time(work),
            maybe_time(wait.map(|wait| wait.waited_ns as f64)),
            super::cells::maybe_count(wait.map(|wait| wait.last)),
        ]);
    }
    table
}

/// What the comparison of devices says, in words.
pub(super) fn balance_words(report: &TraceReport<'_>, overlap: &OverlapAnalysis) -> Vec<String> {
    let Some(balance) = &overlap.balance else { return Vec::new() };
    let mut lines = Vec::new();
    if let Some(imbalance) = balance.imbalance {
        lines.push(format!(
            "The busiest GPU has {} times the mean work (communication left out).",
            number::digits(imbalance)
        ));
    }
    if balance.collectives > 0 {
        let skew = balance.skew.p50_ns.map_or_else(|| UNKNOWN.to_owned(), duration);
        let worst = balance.skew.max_ns.map_or_else(|| UNKNOWN.to_owned(), |ns| duration(ns as f64));
        lines.push(format!(
            "{} collectives were seen on all GPUs; from the first to arrive to the last passed {skew} in the median, {worst} at most, {} in all.",
            number::count(balance.collectives),
            duration(balance.skew.total_ns as f64)
        ));
    }
    if balance.unmatched > 0 {
        lines.push(format!(
            "{} communication kernels were not matched: their counts differ between GPUs.",
            number::count(balance.unmatched)
        ));
    }
    if let Some(straggler) = balance.straggler {
        lines.push(format!("{} came last more often than chance explains.", device(report, straggler)));
    }
    lines
}

/// Kinds of time on the critical path.
pub(super) fn path_kinds(path: &CriticalPath) -> Table {
    let mut table = Table::new(&["On the critical path", "#Time", "#Share", "#Pieces"]);
    for row in &path.by_kind {
        let kind = Cell::text(words::path_kind(row.kind));
        table.push(vec![kind, time(row.time_ns as f64), Cell::percent(row.share), Cell::count(row.pieces)]);
    }
    table
}

/// Kernels on the critical path.
pub(super) fn path_kernels(path: &CriticalPath) -> Table {
    let mut table = Table::new(&["Kernel", "#Time on the path", "#Share of the path", "#Kernels on the path"]);
    for row in &path.by_kernel {
        table.push(vec![
            Cell::text(&row.kernel),
            time(row.time_ns as f64),
            Cell::percent(ratio(row.time_ns, path.length_ns)),
            Cell::count(row.kernels),
        ]);
    }
    table
}

/// What each class is worth.
pub(super) fn what_if(path: &CriticalPath) -> Table {
    let mut table =
        Table::new(&["If this class cost nothing", "#Its kernels (sum)", "#The work would take", "#Gain", "#Speed-up"]);
    let mut rows: Vec<_> = path.what_if.iter().collect();
    rows.sort_by(|a, b| b.gain_ns.cmp(&a.gain_ns).then_with(|| a.class.cmp(&b.class)));
    for row in rows {
        let speedup = row.speedup.filter(|value| value.is_finite());
        table.push(vec![
            Cell::text(&row.class),
            time(row.kernel_ns as f64),
            time(row.length_ns as f64),
            time(row.gain_ns as f64),
            speedup.map_or_else(|| Cell::maybe(None), |value| Cell::number(number::factor(value), value)),
        ]);
    }
    table
}

/// MFU and MBU of each phase.
pub(super) fn utilisation(work: &ModelledWork) -> Table {
    let mut table = Table::new(&[
        "Phase",
        "#Steps",
        "#MFU",
        "#MFU while busy",
        "#MBU",
        "#MBU while busy",
        "#Least time (roofline)",
        "#Not modelled",
    ]);
    for phase in &work.phases {
        table.push(vec![
            Cell::text(&phase.phase),
            Cell::count(phase.steps),
            Cell::percent(phase.mfu),
            Cell::percent(phase.mfu_while_busy),
            Cell::percent(phase.mbu),
            Cell::percent(phase.mbu_while_busy),
            maybe_time(phase.roofline_ns),
            Cell::percent(phase.unmodelled_share),
        ]);
    }
    table
}

/// Operator classes against their roofline.
pub(super) fn roofline(work: &ModelledWork) -> Table {
    let mut table = Table::new(&[
        "Phase",
        "Class",
        "#GPU time (sum)",
        "#Roofline",
        "#Lost",
        "Bound",
        "#FLOP/s",
        "#Bandwidth",
        "#Attained",
    ]);
    for row in &work.classes {
        let flops = row.flops_per_s.filter(|value| value.is_finite());
        table.push(vec![
            Cell::text(&row.phase),
            Cell::text(&row.class),
            maybe_time(row.gpu_ns.map(|ns| ns as f64)),
            maybe_time(row.roofline_ns),
            maybe_time(row.lost_ns),
            Cell::text(row.bound.as_deref().unwrap_or(UNKNOWN)),
            flops.map_or_else(|| Cell::maybe(None), |value| Cell::number(FlopsPerSecond(value).to_string(), value)),
            rate(row.bytes_per_s),
            Cell::percent(row.attained),
        ]);
    }
    table
}

/// One line for each device: the window and how much of it was busy.
pub(super) fn busy_words(report: &TraceReport<'_>) -> Vec<String> {
    report
        .idle
        .iter()
        .filter_map(|idle| {
            let share = ratio(idle.busy_ns, idle.window_ns)?;
            Some(format!(
                "{}: busy {} of {} ({})",
                device(report, idle.device),
                duration(idle.busy_ns as f64),
                duration(idle.window_ns as f64),
                percent(share)
            ))
        })
        .collect()
}
