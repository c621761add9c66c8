//! The sections of a stage2 report that are not the timeline's.

use super::model::Stage2Report;
use super::{commands, kernels, words};
use crate::report::analyze::page::{Section, section};
use crate::report::escape::{markdown, one_line};
use crate::report::number::{UNKNOWN, digits, factor};
use crate::report::table::{Cell, Table};
use crate::runner::stage2::OverheadBasis;

/// Those before the timeline's, and those behind them.
pub(in crate::report) fn sections(report: &Stage2Report<'_>) -> (Vec<Section>, Vec<Section>) {
    let mut first = Vec::new();
    if report.single().is_none() && !report.metrics.captures.is_empty() {
        first.push(captures(report));
    }
    first.push(profiled(report));
    (first, vec![cost(report), run(report)])
}

fn profiled(report: &Stage2Report<'_>) -> Section {
    let mut part = section("profiled", "The costliest kernels under Nsight Compute", "Kernels");
    if report.metrics.kernels.is_empty() {
        let why = report.metrics.diagnostics.iter().filter(|one| one.code.starts_with("ncu_"));
        let lines: Vec<String> = why.map(|one| one.first.clone()).collect();
        if lines.is_empty() {
            part.missing("No kernel was profiled.");
        } else {
            part.lines(lines);
        }
        return part;
    }
    part.reading(
        "Chosen from the timeline by their time in each phase. Nsight Compute replays a launch, by default with flushed caches and clocks locked to \
         their base: use its ratios, and the times of the timeline.",
    );
    part.lines(words::sentences(report));
    part.push("What bounds them", kernels::bounds(report), true, false);
    if report.metrics.kernels.iter().any(|kernel| kernel.roofline.is_some()) {
        part.chart(kernels::roofline(report));
    }
    part.push("Under the roofline", kernels::rooflines(report), true, false);
    let failed = report.metrics.kernels.iter().any(|kernel| kernel.error.is_some());
    part.push("How they were profiled", kernels::profiles(report), true, !failed);
    part
}

fn captures(report: &Stage2Report<'_>) -> Section {
    let mut part = section("captures", "Captures", "Captures");
    part.reading("Each range was captured in a run of its own; what a timeline says is in its own report.");
    part.table("", capture_table(report));
    part
}

fn capture_table(report: &Stage2Report<'_>) -> Table {
    let mut table = Table::new(&["Capture", "Range", "Report", "Timeline", "Why not"]);
    for capture in &report.metrics.captures {
        let there = report.captures.iter().any(|known| known.name == capture.name);
        let page = if there { format!("{}/report.html", capture.directory) } else { UNKNOWN.to_owned() };
        table.push(vec![
            Cell::text(&capture.name),
            Cell::text(capture.range.as_deref().unwrap_or("the whole run")),
            Cell::text(&page),
            Cell::text(capture.database.as_deref().unwrap_or(UNKNOWN)),
            Cell::text_up_to(capture.error.as_deref().unwrap_or(""), 300),
        ]);
    }
    table
}

fn cost(report: &Stage2Report<'_>) -> Section {
    let mut part = section("cost", "What tracing cost", "Cost");
    let mut table = Table::new(&["Capture", "Compared", "#Alone", "#Under nsys", "#Ratio"]);
    for block in &report.metrics.overhead {
        let (what, unit) = match block.basis {
            OverheadBasis::TotalMs => ("median total_ms of a repeat", "ms"),
            OverheadBasis::WallS => ("wall time of the process", "s"),
        };
        table.push(vec![
            Cell::text(&block.capture),
            Cell::text(what),
            Cell::number(format!("{} {unit}", digits(block.plain)), block.plain),
            Cell::number(format!("{} {unit}", digits(block.traced)), block.traced),
            Cell::number(factor(block.ratio), block.ratio),
        ]);
    }
    if table.rows.is_empty() {
        part.missing("Not known: the whole run was not both traced and run alone.");
    } else {
        part.reading(
            "The same workload with and without the tracer. Times of the timeline are those of the traced run.",
        );
        part.table("", table);
    }
    part
}

fn run(report: &Stage2Report<'_>) -> Section {
    let mut part = section("run", "What was run", "Commands");
    let mut tools = Table::new(&["Tool", "Version", "Path", "Problem"]);
    for tool in &report.metrics.tools {
        tools.push(vec![
            Cell::text(&tool.name),
            Cell::text(tool.version.as_deref().unwrap_or(UNKNOWN)),
            Cell::text(tool.path.as_deref().unwrap_or(UNKNOWN)),
            Cell::text_up_to(tool.problem.as_deref().unwrap_or(""), 300),
        ]);
    }
    let workload = &report.metrics.workload;
    let text = match &workload.program {
        Some(program) => one_line(&program.join(" ")),
        None => one_line(&format!("perfprof stage1 {}", workload.overrides.join(" "))),
    };
    part.lines(vec![format!("Workload: {text}")]);
    part.table("Tools", tools);
    part.push("Commands", commands::table(report), false, false);
    if report.metrics.tools.is_empty() && report.commands.is_empty() {
        part.missing("Nothing was run.");
    }
    part
}

/// `operators.md` of a run without a timeline of its own: where the operators are.
pub(super) fn operators_md(report: &Stage2Report<'_>) -> String {
    let mut text = format!("# Operators of {}\n\n", markdown(&words::title(report)));
    if report.captures.is_empty() {
        text.push_str("There is no timeline, and so there are no operators.\n");
        return text;
    }
    text.push_str("Each capture has its own:\n\n");
    for capture in report.captures {
        text.push_str(&format!("- {}: {}/operators.md\n", markdown(capture.name), markdown(capture.directory)));
    }
    text
}
