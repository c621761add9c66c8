//! Profiled kernels: tables for every format, and `kernels.md`.

use super::model::Stage2Report;
use super::words;
use crate::analysis::ncu::RooflineBound;
use crate::record::stage2::ProfileOutcome;
use crate::report::analyze::cells::{maybe_count, maybe_time, rate};
use crate::report::analyze::counters::{bound, per_cent};
use crate::report::chart::{self, Chart, RooflinePoint};
use crate::report::escape::{self, cut, markdown, one_line};
use crate::report::number::{UNKNOWN, digits, percent};
use crate::report::table::{Cell, Table};
use crate::runner::stage2::KernelProfileBlock;
use crate::units::FlopsPerSecond;

/// Advice shown for one kernel.
const RULES: usize = 5;

/// What became of a profile, in words.
pub(super) fn outcome(outcome: ProfileOutcome) -> &'static str {
    match outcome {
        ProfileOutcome::Ok => "profiled",
        ProfileOutcome::NoKernels => "not met",
        ProfileOutcome::NoPermission => "no permission",
        ProfileOutcome::Failed => "failed",
        ProfileOutcome::TimedOut => "took too long",
        ProfileOutcome::NotRun => "not tried",
    }
}

fn phase(kernel: &KernelProfileBlock) -> Cell {
    Cell::text_up_to(kernel.phase.as_deref().unwrap_or("all"), 30)
}

fn name(kernel: &KernelProfileBlock) -> Cell {
    let mut cell = Cell::text_up_to(if kernel.name.is_empty() { "any" } else { &kernel.name }, 60);
    if !kernel.full_name.is_empty() && kernel.full_name != kernel.name {
        cell.full = Some(cut(&one_line(&kernel.full_name), 2000));
    }
    cell
}

fn flops(value: Option<f64>) -> Cell {
    value
        .filter(|value| value.is_finite())
        .map_or_else(|| Cell::maybe(None), |value| Cell::number(FlopsPerSecond(value).to_string(), value))
}

/// What bounds each kernel.
pub(super) fn bounds(report: &Stage2Report<'_>) -> Table {
    let mut table = Table::new(&[
        "Phase",
        "Kernel",
        "#Calls",
        "#Time (sum)",
        "#Share",
        "Bound",
        "#Compute",
        "#Memory",
        "#DRAM",
        "#L2 hits",
        "#Occupancy",
        "#Registers",
        "#Waves",
        "#Mean",
        "#ncu ÷ timeline",
    ]);
    for kernel in &report.metrics.kernels {
        let counters = kernel.counters.as_ref();
        let mut says = Cell::text(match counters.and_then(|counters| counters.bound) {
            Some(found) => bound(found),
            None if kernel.outcome == ProfileOutcome::Ok => UNKNOWN,
            None => outcome(kernel.outcome),
        });
        says.note = kernel.error.as_ref().map(|error| cut(&one_line(error), 300));
        table.push(vec![
            phase(kernel),
            name(kernel),
            maybe_count(kernel.calls),
            maybe_time(kernel.total_ns.map(|ns| ns as f64)),
            Cell::percent(kernel.share),
            says,
            per_cent(counters.and_then(|one| one.sm_percent)),
            per_cent(counters.and_then(|one| one.memory_percent)),
            per_cent(counters.and_then(|one| one.dram_percent)),
            per_cent(counters.and_then(|one| one.l2_hit_percent)),
            per_cent(counters.and_then(|one| one.achieved_occupancy_percent)),
            maybe_count(counters.and_then(|one| one.registers_per_thread).map(u64::from)),
            Cell::maybe(counters.and_then(|one| one.waves_per_sm)),
            maybe_time(kernel.mean_ns),
            Cell::maybe(kernel.ncu_to_timeline),
        ]);
    }
    table
}

/// Where each stands under the roofline.
pub(super) fn rooflines(report: &Stage2Report<'_>) -> Table {
    let mut table = Table::new(&[
        "Phase",
        "Kernel",
        "Arithmetic",
        "#FLOP per byte",
        "#Ridge",
        "Below",
        "#FLOP/s",
        "#Attainable",
        "#Of attainable",
        "#DRAM rate",
        "#Of bandwidth",
    ]);
    for kernel in &report.metrics.kernels {
        let (Some(counters), Some(roofline)) = (&kernel.counters, &kernel.roofline) else { continue };
        table.push(vec![
            phase(kernel),
            name(kernel),
            Cell::text(roofline.arithmetic.as_deref().unwrap_or(UNKNOWN)),
            Cell::maybe(roofline.flops_per_dram_byte),
            Cell::maybe(roofline.ridge_flops_per_byte),
            Cell::text(match roofline.bound {
                Some(RooflineBound::Memory) => "the memory's slope",
                Some(RooflineBound::Compute) => "the arithmetic's flat part",
                None => UNKNOWN,
            }),
            flops(roofline.flops_per_s),
            flops(roofline.attainable_flops_per_s),
            Cell::percent(roofline.share_of_attainable),
            rate(counters.dram_bytes_per_s),
            Cell::percent(roofline.share_of_bandwidth),
        ]);
    }
    table
}

/// How the profiles were made.
pub(super) fn profiles(report: &Stage2Report<'_>) -> Table {
    let mut table =
        Table::new(&["#", "Phase", "Kernel", "Outcome", "#Skipped", "#Launches", "Again", "Found as", "Why not"]);
    for kernel in &report.metrics.kernels {
        let launches = kernel.counters.as_ref().map(|counters| counters.launches);
        let matched = kernel.matched_by.map(|matched| serde_json::to_value(matched).ok());
        let matched = matched.flatten().and_then(|value| value.as_str().map(|text| text.replace('_', " ")));
        table.push(vec![
            Cell::count(u64::from(kernel.number)),
            phase(kernel),
            name(kernel),
            Cell::text(outcome(kernel.outcome)),
            Cell::count(kernel.skip),
            maybe_count(launches),
            Cell::text(if kernel.retried { "yes" } else { "no" }),
            Cell::text(matched.as_deref().unwrap_or(UNKNOWN)),
            Cell::text_up_to(kernel.error.as_deref().unwrap_or(""), 200),
        ]);
    }
    table
}

/// The kernels under the ceilings of their device.
pub(super) fn roofline(report: &Stage2Report<'_>) -> Chart {
    let chart = Chart::new(
        "kernel-roofline",
        "Roofline of the profiled kernels",
        "Each mark is a kernel in one phase (circle: prefill or all work, diamond: decode), by what ncu counted; under the slope memory is the \
         limit, under the flat part arithmetic.",
    );
    let kernels = || report.metrics.kernels.iter().filter_map(|kernel| Some((kernel, kernel.roofline.as_ref()?)));
    let points = kernels()
        .filter_map(|(kernel, roofline)| {
            let (intensity, rate) = (roofline.flops_per_dram_byte?, roofline.flops_per_s?);
            let class = kernel.class.as_deref().unwrap_or("unclassified");
            let phase = cut(&one_line(kernel.phase.as_deref().unwrap_or("all")), 24);
            let reached = roofline.share_of_attainable.map(|share| format!(", {} of attainable", percent(share)));
            Some(RooflinePoint {
                label: format!("{} {phase}", class.replace('_', " ").split(' ').next().unwrap_or(class)),
                title: format!(
                    "{}, {phase}: {} FLOP/byte, {}{}",
                    cut(&one_line(&kernel.name), 80),
                    digits(intensity),
                    FlopsPerSecond(rate),
                    reached.unwrap_or_default()
                ),
                color: chart::kernel_color(class),
                decode: phase == "decode",
                whole: false,
                intensity,
                rate,
            })
        })
        .collect();
    let highest = |pick: fn(&crate::analysis::ncu::KernelRoofline) -> Option<f64>| {
        kernels().filter_map(|(_, roofline)| pick(roofline)).max_by(f64::total_cmp)
    };
    let peak = highest(|roofline| roofline.peak_flops_per_s);
    let several = kernels().filter_map(|(_, roofline)| roofline.peak_flops_per_s).any(|one| Some(one) != peak);
    let unknown = ["give `hardware.peak_tflops=`", "give `hardware.peak_bandwidth_gbs=`"];
    let mut chart =
        chart::under_roofline(chart, points, [peak, highest(|roofline| roofline.peak_bytes_per_s)], unknown);
    if several && chart.note.is_none() {
        chart.note = Some(
            "The flat part is the highest peak of the arithmetic of these kernels; the table holds each against its own.".to_owned(),
        );
    }
    chart
}

/// `kernels.md`.
pub(super) fn kernels_md(report: &Stage2Report<'_>) -> String {
    let mut text = format!("# Profiled kernels of {}\n\n", markdown(&words::title(report)));
    let kernels = &report.metrics.kernels;
    if kernels.is_empty() {
        text.push_str("No kernel was profiled.\n\n");
        for diagnostic in report.metrics.diagnostics.iter().filter(|one| one.code.starts_with("ncu_")) {
            text.push_str(&format!("- {}\n", markdown(&escape::cut(&diagnostic.first, 1000))));
        }
        return text;
    }
    text.push_str(
        "Nsight Compute replays each launch, by default with flushed caches and clocks locked to their base: use its ratios, and the times of the \
         timeline. What bounds a kernel is told by the tool's own rule (below 60 % of both peaks: latency; within 10 points: balanced). A roofline is \
         made of what was counted: operations of the units that did most of them, bytes of DRAM traffic, and the peaks of the device.\n\n",
    );
    for line in words::sentences(report) {
        text.push_str(&format!("- {}\n", markdown(&line)));
    }
    text.push_str("\n## What bounds them\n\n");
    text.push_str(&bounds(report).markdown());
    let rooflines = rooflines(report);
    if !rooflines.rows.is_empty() {
        text.push_str("\n\n## Under the roofline\n\n");
        text.push_str(&rooflines.markdown());
    }
    text.push_str("\n\n## Profiles\n\n");
    text.push_str(&profiles(report).markdown());
    text.push_str("\n\n");
    for kernel in kernels.iter().filter(|kernel| kernel.counters.is_some()) {
        one(&mut text, kernel);
    }
    text.push_str(&format!("Run {}, made {}.\n", markdown(&report.metrics.run_id), markdown(report.generated_at)));
    text
}

fn one(text: &mut String, kernel: &KernelProfileBlock) {
    let phase = kernel.phase.as_deref().map_or_else(String::new, |phase| format!(" in {phase}"));
    text.push_str(&format!("## {}{}\n\n", markdown(&cut(&one_line(&kernel.name), 120)), markdown(&cut(&phase, 40))));
    text.push_str(&format!("Full name: {}\n\n", markdown(&cut(&one_line(&kernel.full_name), 4000))));
    let rules = kernel.counters.iter().flat_map(|counters| &counters.rules).take(RULES);
    let mut some = false;
    for rule in rules {
        some = true;
        let gain = rule.speedup_percent.map_or_else(String::new, |gain| {
            let kind = rule.speedup_kind.as_deref().map_or_else(String::new, |kind| format!(", {}", one_line(kind)));
            format!(" (estimated {}{kind})", percent(gain / 100.0))
        });
        let line = format!("{}{gain}: {}", one_line(&rule.name), cut(&one_line(&rule.description), 600));
        text.push_str(&format!("- {}\n", markdown(&line)));
    }
    text.push_str(if some { "\n" } else { "ncu gave no advice.\n\n" });
}
