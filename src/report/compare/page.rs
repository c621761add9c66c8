//! The sections of the report as data: every format lays out the same ones.

use serde::Serialize;

use super::charts::{self, GROUPS};
use super::model::CompareReport;
use super::{assumptions, context, tables, words};
use crate::compare::result::{Attribution, Comparison};
use crate::report::chart::Chart;
use crate::report::number::count;
use crate::report::table::Table;

/// Comparisons shown; comparisons.csv has all.
const MEASURES: usize = 400;
/// Rows of an attribution shown; attribution.csv has all.
const PARTS: usize = 400;
/// Attributions drawn; the others stand in attribution.csv.
const ATTRIBUTIONS: usize = 12;

/// Charts of one measure.
#[derive(Debug, Clone, Serialize)]
pub(in crate::report) struct Choice {
    /// What it is.
    pub title: String,
    /// Its charts.
    pub charts: Vec<Chart>,
}

/// One piece of a section.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(in crate::report) enum Block {
    /// How to read what follows.
    Reading { text: String },
    /// Begins a part of the section.
    Heading { text: String },
    /// Sentences.
    Lines { lines: Vec<String> },
    /// A table with its heading; folded ones open on demand, long ones can be filtered.
    Table { heading: String, table: Table, sortable: bool, folded: bool, filter: bool },
    /// A chart.
    Chart { chart: Chart },
    /// Charts of which one set is shown at a time.
    Choices { what: String, choices: Vec<Choice> },
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

/// An empty section.
pub(in crate::report) fn section(id: &str, title: &str, short: &str) -> Section {
    Section { id: id.to_owned(), title: title.to_owned(), short: short.to_owned(), blocks: Vec::new() }
}

impl Section {
    pub(in crate::report) fn reading(&mut self, text: &str) {
        self.blocks.push(Block::Reading { text: text.to_owned() });
    }
    pub(in crate::report) fn heading(&mut self, text: &str) {
        self.blocks.push(Block::Heading { text: text.to_owned() });
    }
    pub(in crate::report) fn lines(&mut self, lines: Vec<String>) {
        if !lines.is_empty() {
            self.blocks.push(Block::Lines { lines });
        }
    }
    pub(in crate::report) fn missing(&mut self, text: &str) {
        self.lines(vec![text.to_owned()]);
    }
    pub(in crate::report) fn chart(&mut self, chart: Chart) {
        self.blocks.push(Block::Chart { chart });
    }
    pub(in crate::report) fn push(&mut self, heading: &str, table: Table, [sortable, folded, filter]: [bool; 3]) {
        if !table.rows.is_empty() {
            self.blocks.push(Block::Table { heading: heading.to_owned(), table, sortable, folded, filter });
        }
    }
    pub(in crate::report) fn table(&mut self, heading: &str, table: Table) {
        self.push(heading, table, [false, false, false]);
    }
    pub(in crate::report) fn folded(&mut self, heading: &str, table: Table) {
        self.push(heading, table, [true, true, false]);
    }
}

/// All sections in order.
pub(super) fn sections(report: &CompareReport<'_>) -> Vec<Section> {
    let mut all = vec![work(report), effects(report)];
    all.extend(gate(report));
    all.extend(quality(report));
    all.push(spread(report));
    all.push(why(report));
    all.extend(cost(report));
    all.extend(study(report));
    all.extend([subjects(report), trust(report), method(report)]);
    all
}

fn work(report: &CompareReport<'_>) -> Section {
    let metrics = report.metrics;
    let mut part = section("work", "Was it the same work?", "Same work");
    if metrics.differences.is_empty() {
        part.missing("No difference in the recorded facts was found; what neither side recorded cannot be checked.");
        return part;
    }
    part.reading(
        "Studied differences are what the comparison is about. Those that weaken it stand beside every verdict. Where the work was not the same, \
         no winner is named.",
    );
    part.table("", tables::differences(metrics));
    part
}

fn effects(report: &CompareReport<'_>) -> Section {
    let metrics = report.metrics;
    let mut part = section("effects", "What changed, and how sure that is", "Effects");
    if metrics.comparisons.is_empty() {
        part.missing("No measure was compared.");
        return part;
    }
    let mut rows = words::ranked(metrics);
    let hidden = rows.len().saturating_sub(MEASURES) as u64;
    rows.truncate(MEASURES);
    part.chart(charts::effects(metrics));
    if context::many(metrics) {
        part.push("All candidates side by side", tables::matrix(metrics), [true, false, false]);
    }
    part.push("Every measure", tables::effects(metrics, &rows), [true, false, rows.len() > 12]);
    part.lines(tables::change_of_units(&rows).into_iter().collect());
    part.push("Reasons", tables::reasons(metrics, &rows), [false, rows.len() > 12, false]);
    part.folded("Statistics behind the verdicts", tables::statistics(&rows));
    if hidden > 0 {
        part.missing(&format!("{} more comparisons are in comparisons.csv.", count(hidden)));
    }
    part
}

fn gate(report: &CompareReport<'_>) -> Option<Section> {
    let mut part = section("gate", "The gate", "Gate");
    part.missing(&format!("{}.", super::verdict::gate(report.metrics)?));
    part.reading(
        "A rule fails only where the evidence says that it is broken; what the values do not decide is undecided.",
    );
    part.table("", tables::gate(report));
    Some(part)
}

fn quality(report: &CompareReport<'_>) -> Option<Section> {
    if report.metrics.quality.is_empty() {
        return None;
    }
    let mut part = section("quality", "Speed, memory and quality together", "Quality");
    part.reading(
        "Measures of speed and memory are medians (means where no median is known). Perplexity is exp of the mean negative log likelihood of the \
         text: lower is better. KL is how far the predictions are from those of the reference, 0 for none. The same first choice is the share of \
         positions where both would pick the same token.",
    );
    part.push("", context::quality(report.metrics), [true, false, false]);
    Some(part)
}

fn spread(report: &CompareReport<'_>) -> Section {
    let mut part = section("spread", "The values behind it", "Values");
    let groups = charts::groups(report);
    if groups.is_empty() {
        part.missing("There are no single values to draw.");
        return part;
    }
    let choices = groups
        .iter()
        .take(GROUPS)
        .enumerate()
        .map(|(at, group)| Choice { title: group.title.clone(), charts: charts::spread(at, group) })
        .collect();
    part.blocks.push(Block::Choices { what: "Measure".to_owned(), choices });
    if groups.len() > GROUPS {
        part.missing(&format!(
            "{} more measures are not drawn; the table has them.",
            count((groups.len() - GROUPS) as u64)
        ));
    }
    part.folded("Quartiles of the values", charts::quartiles(&groups));
    part
}

fn why(report: &CompareReport<'_>) -> Section {
    let metrics = report.metrics;
    let mut part = section("why", "Where the difference comes from", "Why");
    if metrics.attribution.is_empty() {
        part.missing(
            "Nothing was attributed: there are no operators or kernels of both sides to attribute a difference to.",
        );
        return part;
    }
    part.reading(
        "The change of each phase as the sum of its parts. A part that both sides have splits into what more or fewer calls do (calls before and \
         after, at the old time per call) and what slower or faster calls do.",
    );
    let many = metrics.attribution.len() > 1;
    for (at, attribution) in metrics.attribution.iter().take(ATTRIBUTIONS).enumerate() {
        one(report, &mut part, at, attribution, many);
    }
    if metrics.attribution.len() > ATTRIBUTIONS {
        part.missing(&format!(
            "{} more attributions are in attribution.csv.",
            count((metrics.attribution.len() - ATTRIBUTIONS) as u64)
        ));
    }
    part
}

fn one(report: &CompareReport<'_>, part: &mut Section, at: usize, attribution: &Attribution, many: bool) {
    let case = attribution.case.as_ref().map_or_else(String::new, |case| format!(" · {case}"));
    if many {
        part.heading(&format!("{} against {}{case}", attribution.candidate_label, attribution.baseline_label));
    }
    let unequal = words::not_the_same_work(report.metrics, &attribution.candidate_label).next().is_some();
    if unequal {
        part.missing("The work was not the same: these parts say where the time is, not which side is better.");
    } else {
        part.lines(attribution.sentences.clone());
    }
    part.lines(charts::accounted(attribution).into_iter().collect());
    part.table("Phases", context::phases(attribution));
    for chart in charts::waterfalls(at, attribution) {
        part.chart(chart);
    }
    let left_out = charts::phases_left_out(attribution);
    if left_out > 0 {
        part.missing(&format!("{left_out} more phases are not drawn; the table has them."));
    }
    let table = context::attribution(attribution, PARTS);
    if table.rows.is_empty() {
        part.missing("No parts are known.");
    }
    part.push("Parts of the change", table, [true, at > 0, true]);
    let hidden = attribution.rows.len().saturating_sub(PARTS) as u64;
    if hidden > 0 {
        part.missing(&format!("{} more parts are in attribution.csv.", count(hidden)));
    }
    if attribution.rows_omitted > 0 {
        part.missing(&format!("{} small parts were summed up in the remainder rows.", count(attribution.rows_omitted)));
    }
}

fn cost(report: &CompareReport<'_>) -> Option<Section> {
    if report.metrics.cost.is_empty() {
        return None;
    }
    let mut part = section("cost", "What it costs", "Cost");
    part.reading(
        "From the price and power that were given or measured; prompt processing is included in the cost of generated tokens. It follows from the \
         measured rates and is not judged by itself.",
    );
    part.push("", context::cost(&report.metrics.cost), [true, false, false]);
    Some(part)
}

fn study(report: &CompareReport<'_>) -> Option<Section> {
    let metrics = report.metrics;
    let study = metrics.study.as_ref()?;
    let mut part = section("study", "How the study was run", "Study");
    part.blocks.push(Block::Terms { heading: String::new(), terms: context::study(metrics) });
    part.table("Variants", context::variants(metrics));
    part.folded("Order in each block", context::order(metrics));
    if study.control.is_empty() {
        part.missing("No A/A control was run, so the noise of this machine is not known.");
        return Some(part);
    }
    part.heading("A/A control");
    part.blocks.extend(charts::control(metrics).map(|chart| Block::Chart { chart }));
    let rows: Vec<&Comparison> = study.control.iter().collect();
    part.push("", tables::effects(metrics, &rows), [true, false, false]);
    part.folded("Reasons", tables::reasons(metrics, &rows));
    part.folded("Statistics", tables::statistics(&rows));
    Some(part)
}

fn subjects(report: &CompareReport<'_>) -> Section {
    let metrics = report.metrics;
    let mut part = section("subjects", "What was compared", "Subjects");
    if metrics.subjects.is_empty() {
        part.missing("No subject was read.");
    }
    part.table("", context::subjects(metrics));
    part.folded("Recorded facts", context::facts(metrics));
    if !report.provenance.is_empty() {
        part.blocks.push(Block::Terms { heading: "Where it comes from".to_owned(), terms: report.provenance.to_vec() });
    }
    part
}

fn trust(report: &CompareReport<'_>) -> Section {
    let mut part = section("trust", "How far to trust it", "Trust");
    let warnings = super::verdict::warnings(report);
    part.lines(warnings);
    let hints = super::verdict::hints(report.metrics);
    if !hints.is_empty() {
        part.heading("What would decide it");
        part.lines(hints.into_iter().take(40).collect());
    }
    let table = context::diagnostics(report);
    if table.rows.is_empty() {
        part.missing("No diagnostics.");
    }
    part.table("Diagnostics", table);
    part
}

fn method(report: &CompareReport<'_>) -> Section {
    let mut part = section("method", "Definitions and method", "Method");
    for block in assumptions::all(report) {
        part.blocks.push(Block::Terms { heading: block.title, terms: block.lines });
    }
    part
}

/// The files of a comparison and what each is for.
pub(super) const FILES: [(&str, &str); 12] = [
    ("compare.html", "everything here with charts, in one file that can be passed on"),
    ("compare.md", "this report without charts"),
    ("stakeholder_summary.md", "what came out, how sure it is and what it costs, in plain words"),
    ("assumptions.md", "definitions and method"),
    ("comparisons.csv", "every measure of every candidate with all its statistics"),
    ("attribution.csv", "every part of every change"),
    ("junit.xml", "gate and comparisons for CI systems"),
    ("ci_summary.md", "a summary for the job page of a CI system"),
    ("metrics.json", "the answer for programs; its schema is published in docs/schema"),
    ("env.json", "machine, software and versions"),
    ("run.json", "status, times, command line"),
    ("MANIFEST.json", "sha256 of every file"),
];
