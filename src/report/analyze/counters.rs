//! Tables of the counters of Nsight Compute.

use super::cells::{maybe_count, maybe_time, rate, time};
use super::format::duration;
use super::verdict::Card;
use crate::analysis::ncu::{Bound, NcuJoin, NcuKernelSummary, NcuSummary};
use crate::report::number::{self, UNKNOWN, count, digits};
use crate::report::table::{Cell, Table};
use crate::runner::analyze::NcuBlock;
use crate::units::FlopsPerSecond;

/// Kernels shown.
const KERNELS: usize = 100;
/// Advice shown.
const RULES: usize = 60;

/// What bounds a kernel.
pub(in crate::report) fn bound(bound: Bound) -> &'static str {
    match bound {
        Bound::Compute => "compute",
        Bound::Memory => "memory",
        Bound::Latency => "latency",
        Bound::Balanced => "balanced",
    }
}

/// A value in per cent, as the tool has it.
pub(in crate::report) fn per_cent(value: Option<f64>) -> Cell {
    Cell::percent(value.map(|value| value / 100.0))
}

/// Profiled kernels.
pub(super) fn kernels(summary: &NcuSummary) -> Table {
    let mut table = Table::new(&[
        "Kernel",
        "#Launches",
        "#Duration (sum)",
        "#Mean",
        "Bound",
        "#Compute",
        "#Memory",
        "#DRAM",
        "#L2 hits",
        "#Occupancy",
        "#Registers",
        "#Waves",
        "#DRAM rate",
        "#FLOP/s",
    ]);
    for kernel in summary.kernels.iter().take(KERNELS) {
        let sum = kernel.duration.as_ref().map(|duration| duration.sum_ns);
        let mean = kernel.duration.as_ref().map(|duration| duration.mean_ns);
        let flops = kernel.flops_per_s.filter(|value| value.is_finite());
        table.push(vec![
            Cell::text_up_to(&kernel.name, 70),
            Cell::count(kernel.launches),
            maybe_time(sum),
            maybe_time(mean),
            Cell::text(kernel.bound.map_or(UNKNOWN, bound)),
            per_cent(kernel.sm_percent),
            per_cent(kernel.memory_percent),
            per_cent(kernel.dram_percent),
            per_cent(kernel.l2_hit_percent),
            occupancy(kernel),
            maybe_count(kernel.registers_per_thread.map(u64::from)),
            Cell::maybe(kernel.waves_per_sm),
            rate(kernel.dram_bytes_per_s),
            flops.map_or_else(|| Cell::maybe(None), |value| Cell::number(FlopsPerSecond(value).to_string(), value)),
        ]);
    }
    table
}

/// Achieved occupancy, of what the launch configuration allows.
fn occupancy(kernel: &NcuKernelSummary) -> Cell {
    let mut cell = per_cent(kernel.achieved_occupancy_percent);
    if let Some(most) = kernel.theoretical_occupancy_percent.filter(|most| most.is_finite()) {
        cell.note = Some(format!("{} are possible with this launch configuration", number::percent(most / 100.0)));
    }
    cell
}

/// What the tool advises.
pub(super) fn rules(summary: &NcuSummary) -> Table {
    let mut table = Table::new(&["Kernel", "Rule", "#Fired", "#Estimated speed-up", "What it says"]);
    let rules = summary.kernels.iter().flat_map(|kernel| kernel.rules.iter().map(move |rule| (kernel, rule)));
    for (kernel, rule) in rules.take(RULES) {
        let mut speedup = per_cent(rule.speedup_percent);
        speedup.note.clone_from(&rule.speedup_kind);
        table.push(vec![
            Cell::text_up_to(&kernel.name, 50),
            Cell::text(&rule.name),
            Cell::count(rule.fired),
            speedup,
            Cell::text_up_to(&rule.description, 300),
        ]);
    }
    table
}

/// What is not in the tables.
pub(super) fn words(block: &NcuBlock) -> Vec<String> {
    let mut lines = Vec::new();
    let summary = &block.summary;
    let shown = summary.kernels.len().min(KERNELS);
    let left = summary.names.saturating_sub(shown as u64);
    if left > 0 {
        lines.push(format!("{} of {} kernel names are not listed.", count(left), count(summary.names)));
    }
    if let Some(join) = &block.join {
        lines.push(format!(
            "{} of the profiled names are in the timeline, {} are not.",
            count(join.matched.len() as u64),
            count(join.only_in_ncu.len() as u64)
        ));
    }
    lines
}

/// Profiled kernels beside the same in the timeline.
pub(super) fn matched(join: &NcuJoin) -> Table {
    let mut table = Table::new(&[
        "Kernel",
        "#Launches profiled",
        "#Mean there",
        "#Launches in the timeline",
        "#Mean there",
        "#Sum in the timeline",
        "#Profiled ÷ timeline",
    ]);
    for row in join.matched.iter().take(KERNELS) {
        table.push(vec![
            Cell::text_up_to(&row.ncu_name, 70),
            Cell::count(row.ncu_launches),
            maybe_time(row.ncu_mean_ns),
            Cell::count(row.timeline_launches),
            maybe_time(row.timeline_mean_ns),
            time(row.timeline_sum_ns as f64),
            Cell::maybe(row.ncu_to_timeline),
        ]);
    }
    table
}

/// Kernels of the timeline that were not profiled.
pub(super) fn unmatched(join: &NcuJoin) -> Table {
    let mut table = Table::new(&["Kernel", "#Launches", "#Time (sum)"]);
    for row in join.only_in_timeline.iter().take(KERNELS) {
        table.push(vec![Cell::text(&row.name), Cell::count(row.launches), time(row.sum_ns as f64)]);
    }
    table
}

/// What limits the costliest profiled kernel, where counters are all there is.
pub(super) fn sentence(blocks: &[NcuBlock]) -> Option<String> {
    let kernels = blocks.iter().flat_map(|block| &block.summary.kernels);
    let sum = |kernel: &NcuKernelSummary| kernel.duration.as_ref().map_or(-1.0, |duration| duration.sum_ns);
    let top = kernels.max_by(|a, b| sum(a).total_cmp(&sum(b)).then(a.bound.is_some().cmp(&b.bound.is_some())))?;
    let name = crate::report::escape::cut(&crate::report::escape::one_line(&top.name), 90);
    let took = top.duration.as_ref().map_or_else(String::new, |took| format!(" ({} in all)", duration(took.sum_ns)));
    let percent =
        |value: Option<f64>| value.map_or_else(|| "not known".to_owned(), |value| format!("{} %", digits(value)));
    Some(match top.bound {
        Some(Bound::Latency) => format!(
            "The costliest profiled kernel, {name}{took}, waits rather than works: compute {} and memory {} of their peaks.",
            percent(top.sm_percent),
            percent(top.memory_percent.or(top.dram_percent))
        ),
        Some(found) => format!(
            "The costliest profiled kernel, {name}{took}, is bound by {}: compute {} and memory {} of their peaks.",
            if found == Bound::Balanced { "compute and memory alike" } else { bound(found) },
            percent(top.sm_percent),
            percent(top.memory_percent.or(top.dram_percent))
        ),
        None => format!("The costliest profiled kernel is {name}{took}; the counters do not say what bounds it."),
    })
}

/// The cards of a run that has counters and no trace.
pub(super) fn cards(blocks: &[NcuBlock]) -> Vec<Card> {
    let names: u64 = blocks.iter().map(|block| block.summary.names).sum();
    let launches: u64 = blocks.iter().map(|block| block.summary.launches).sum();
    let timed: Vec<f64> = blocks.iter().filter_map(|block| block.summary.duration_sum_ns).collect();
    let kernels = || blocks.iter().flat_map(|block| &block.summary.kernels);
    let bounds = [Bound::Memory, Bound::Compute, Bound::Latency, Bound::Balanced]
        .map(|wanted| (bound(wanted), kernels().filter(|kernel| kernel.bound == Some(wanted)).count()));
    let most = bounds.into_iter().max_by_key(|(_, many)| *many).filter(|(_, many)| *many > 0);
    let told: usize = bounds.iter().map(|(_, many)| many).sum();
    vec![
        Card { label: "Profiled kernels", value: count(names), sub: "distinct names".to_owned() },
        Card { label: "Profiled launches", value: count(launches), sub: "each replayed by the tool".to_owned() },
        Card {
            label: "Duration",
            value: if timed.is_empty() { UNKNOWN.to_owned() } else { duration(timed.iter().sum()) },
            sub: "sum over the launches, on the tool's clocks".to_owned(),
        },
        Card {
            label: "Most kernels are bound by",
            value: most.map_or(UNKNOWN, |(name, _)| name).to_owned(),
            sub: most.map_or_else(
                || "not known: throughputs were not collected".to_owned(),
                |(_, many)| format!("{many} of {told} that can be told"),
            ),
        },
    ]
}
