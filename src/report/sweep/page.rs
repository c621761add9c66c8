//! The sections of the report as data: every format lays out the same ones.

use super::model::SweepReport;
use super::{assumptions, charts, tables, verdict};
use crate::report::compare::page::{Block, Choice, Section, section};
use crate::report::number::count;

/// Points shown; points.csv has all.
const POINTS: usize = 400;

/// All sections in order.
pub(super) fn sections(report: &SweepReport<'_>) -> Vec<Section> {
    let metrics = report.metrics;
    let mut all = vec![best(report)];
    if metrics.pareto.is_some() {
        all.push(front(report));
    }
    if !metrics.heat_maps.is_empty() {
        all.push(maps(report));
    }
    all.push(points(report));
    let failures = tables::failures(metrics);
    if !failures.rows.is_empty() {
        let mut part = section("failures", "Points without a result", "Without result");
        part.reading("A point that fails or does not fit into the memory is a result too; the sweep goes on after it.");
        part.table("", failures);
        all.push(part);
    }
    all.extend([how(report), trust(report), method(report)]);
    all
}

fn best(report: &SweepReport<'_>) -> Section {
    let metrics = report.metrics;
    let mut part = section("best", "The best point", "Best");
    if metrics.best.is_none() {
        part.missing("No objective was given.");
        return part;
    }
    part.lines(verdict::best_sentence(metrics).into_iter().chain(verdict::certainty(metrics)).collect());
    part.table("It and those that are not told apart from it", tables::best(metrics));
    part
}

/// The command line of the best point as a block of its own; text formats write it so that it can be copied.
pub(super) fn command(report: &SweepReport<'_>) -> Option<Block> {
    let line = command_line(report)?.to_owned();
    Some(Block::Terms { heading: "Run it alone".to_owned(), terms: vec![("Command".to_owned(), line)] })
}

/// The command line of the best point.
pub(super) fn command_line<'a>(report: &SweepReport<'a>) -> Option<&'a str> {
    report.metrics.best.as_ref()?.command_line.as_deref()
}

fn front(report: &SweepReport<'_>) -> Section {
    let metrics = report.metrics;
    let mut part = section("pareto", "What can be had together", "Front");
    if let Some(chart) = charts::front(metrics) {
        part.chart(chart);
    }
    let table = tables::front(metrics);
    if table.rows.is_empty() {
        part.missing("No point has all the measures of the front.");
    }
    part.push("The front", table, [true, false, false]);
    if let Some(left_out) = metrics.pareto.as_ref().map(|front| front.left_out).filter(|number| *number > 0) {
        part.missing(&format!("{} results lack a measure of the front and were left out.", count(left_out)));
    }
    part
}

fn maps(report: &SweepReport<'_>) -> Section {
    let metrics = report.metrics;
    let mut part = section("maps", "Over two settings at a time", "Maps");
    let drawn: Vec<_> =
        metrics.heat_maps.iter().enumerate().map(|(at, map)| (charts::map(metrics, at, map), map)).collect();
    let choices = drawn
        .iter()
        .map(|((chart, _), map)| Choice { title: charts::map_title(metrics, map), charts: vec![chart.clone()] });
    let choices: Vec<Choice> = choices.collect();
    if choices.len() > 1 {
        part.blocks.push(Block::Choices { what: "Map".to_owned(), choices });
    } else {
        for ((chart, _), _) in &drawn {
            part.chart(chart.clone());
        }
    }
    for ((_, table), map) in drawn {
        part.push(&charts::map_title(metrics, map), table, [false, true, false]);
    }
    part
}

fn points(report: &SweepReport<'_>) -> Section {
    let metrics = report.metrics;
    let mut part = section("points", "Every point", "Points");
    part.missing(&verdict::outcomes(metrics));
    let table = tables::points(metrics, POINTS);
    let filter = table.rows.len() > 12;
    if table.rows.iter().flatten().any(|cell| cell.weak) {
        part.reading("† too few values for this percentile.");
    }
    part.push("", table, [true, false, filter]);
    let hidden = metrics.results.len().saturating_sub(POINTS) as u64;
    if hidden > 0 {
        part.missing(&format!("{} more are in points.csv.", count(hidden)));
    }
    part
}

fn how(report: &SweepReport<'_>) -> Section {
    let metrics = report.metrics;
    let mut part = section("how", "What was swept", "Settings");
    let table = tables::axes(metrics);
    if table.rows.is_empty() {
        part.missing("No setting varies.");
    }
    part.table("", table);
    if !report.provenance.is_empty() {
        part.blocks.push(Block::Terms { heading: "Where it comes from".to_owned(), terms: report.provenance.to_vec() });
    }
    part
}

fn trust(report: &SweepReport<'_>) -> Section {
    let mut part = section("trust", "How far to trust it", "Trust");
    let table = tables::diagnostics(report.metrics);
    if table.rows.is_empty() {
        part.missing("No diagnostics.");
    }
    part.table("Diagnostics", table);
    part
}

fn method(report: &SweepReport<'_>) -> Section {
    let mut part = section("method", "Definitions and method", "Method");
    for block in assumptions::sections(report) {
        part.blocks.push(Block::Terms { heading: block.title, terms: block.lines });
    }
    part
}

/// The files of a sweep and what each is for.
pub(super) const FILES: [(&str, &str); 12] = [
    ("report.html", "everything here with charts, in one file that can be passed on"),
    ("report.md", "this report without charts"),
    ("stakeholder_summary.md", "what came out and how sure it is, in plain words"),
    ("assumptions.md", "definitions and method"),
    ("points.csv", "every point, case and measure with all its statistics"),
    ("points.jsonl", "one row for each attempt at a point, failures included"),
    ("sweep.json", "the plan: every point with its settings"),
    ("runs/", "the run of each point with all its reports, and what its process said"),
    ("metrics.json", "the answer for programs; its schema is published in docs/schema"),
    ("config.yaml", "the settings of the sweep and where each came from"),
    ("run.json", "status, times, command line"),
    ("MANIFEST.json", "sha256 of every file"),
];
