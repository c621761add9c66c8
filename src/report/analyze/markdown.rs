//! `report.md` and `operators.md` of an analyzed trace. Built line by line; every text from outside passes [`escape::markdown`].

use super::model::TraceReport;
use super::page::{self, Block, Section};
use super::verdict::{cards, verdict, warnings};
use super::{findings, html, tables};
use crate::report::escape::{self, markdown};
use crate::report::table::Table;

/// Rows of a table in report.md: what is read in an editor must end.
const ROWS: usize = 40;

/// Collects paragraphs.
struct Text(String);

impl Text {
    fn paragraph(&mut self, text: &str) {
        if !text.is_empty() {
            self.0.push_str(text);
            self.0.push_str("\n\n");
        }
    }
    fn heading(&mut self, level: usize, text: &str) {
        self.paragraph(&format!("{} {}", "#".repeat(level), markdown(&escape::cut(text, 200))));
    }
    fn list(&mut self, lines: &[String]) {
        for line in lines {
            self.0.push_str(&format!("- {}\n", markdown(&escape::cut(line, 1000))));
        }
        if !lines.is_empty() {
            self.0.push('\n');
        }
    }
    fn table(&mut self, table: &Table, limit: usize) {
        if table.rows.is_empty() {
            return;
        }
        if table.rows.len() <= limit {
            return self.paragraph(&table.markdown());
        }
        let mut short = table.clone();
        short.rows.truncate(limit);
        self.paragraph(&short.markdown());
        self.paragraph(&format!("{} more rows are in report.html and the CSV files.", table.rows.len() - limit));
    }
    fn finish(mut self) -> String {
        while self.0.ends_with("\n\n") {
            self.0.pop();
        }
        self.0
    }
}

/// `report.md`.
pub fn analyze_md(report: &TraceReport<'_>) -> String {
    let mut text = Text(String::new());
    text.heading(1, &format!("perfprof {}: {}", html::command(report), html::title(report)));
    let verdict = verdict(report);
    text.paragraph(&format!("**{}**", markdown(&verdict.sentence)));
    text.list(&verdict.more);
    text.paragraph(&markdown(&html::device_line(report)));
    let warnings = warnings(report);
    if !warnings.is_empty() {
        text.heading(2, "Before you read any share");
        text.list(&warnings);
    }
    let mut table = Table::new(&["Figure", "Value", "Of what"]);
    for card in cards(report) {
        table.push([card.label, &card.value, &card.sub].map(crate::report::table::Cell::text).to_vec());
    }
    text.table(&table, usize::MAX);
    text.heading(2, "What to do about it");
    let findings = findings::findings(report);
    if findings.is_empty() {
        text.paragraph("No finding: nothing that the rules look for stands out.");
    } else {
        text.paragraph(
            "The most promising first. Gains are bounds on what removing the cause alone can give; they do not add up.",
        );
    }
    for (at, finding) in findings.iter().enumerate() {
        text.0.push_str(&format!("{}. {} ({})\n", at + 1, markdown(&finding.title), markdown(&finding.gain)));
        for line in &finding.evidence {
            text.0.push_str(&format!("   - {}\n", markdown(line)));
        }
        if !finding.check.is_empty() {
            text.0.push_str(&format!("   - To check: {}\n", markdown(&finding.check)));
        }
    }
    if !findings.is_empty() {
        text.0.push('\n');
    }
    for section in page::sections(report) {
        self::section(&mut text, &section);
    }
    text.heading(2, "Files");
    let files: Vec<String> = page::files(report).iter().map(|(name, what)| format!("{name}: {what}")).collect();
    text.list(&files);
    text.paragraph(&format!("Run {}, made {}.", markdown(report.run_id), markdown(report.generated_at)));
    text.finish()
}

fn section(text: &mut Text, section: &Section) {
    // What needs a picture is left to report.html.
    let pictures = |block: &Block| matches!(block, Block::Chart { .. } | Block::Flame { .. } | Block::Timeline { .. });
    if section.blocks.iter().all(pictures) {
        return;
    }
    text.heading(2, &section.title);
    for block in &section.blocks {
        match block {
            Block::Reading { text: reading } => text.paragraph(&markdown(reading)),
            Block::Lines { lines } => text.list(lines),
            Block::Table { heading, table, .. } => {
                if !heading.is_empty() {
                    text.heading(3, heading);
                }
                text.table(table, ROWS);
            }
            Block::Terms { heading, terms } => {
                text.heading(3, heading);
                let lines: Vec<String> = terms.iter().map(|(name, what)| format!("{name}: {what}")).collect();
                text.list(&lines);
            }
            Block::Chart { .. } | Block::Flame { .. } | Block::Timeline { .. } => {}
        }
    }
}

/// `operators.md`: every operator class by phase, and every row of the operator table.
pub fn analyze_operators_md(report: &TraceReport<'_>) -> String {
    let mut text = Text(String::new());
    text.heading(1, &format!("Operators of {}", html::title(report)));
    let Some(kernels) = report.kernels.filter(|kernels| !kernels.rows.is_empty()) else {
        text.paragraph("The trace has no kernels, copies or memory sets.");
        return text.finish();
    };
    text.paragraph(
        "Times are sums of durations: work that overlaps on several streams counts as often as it runs. Shares are of the kernel time. † marks \
         percentiles of fewer calls than they need at 99 % confidence (p95: 90, p99: 459).",
    );
    text.list(&warnings(report));
    text.heading(2, "Classes");
    text.table(&tables::classes(kernels, None), usize::MAX);
    for (phase, _) in tables::class_phases(kernels) {
        text.heading(2, &format!("Classes of {phase}"));
        text.table(&tables::classes(kernels, Some(&phase)), usize::MAX);
    }
    text.heading(2, "Kernels, copies and memory sets");
    text.table(&tables::operators(kernels, usize::MAX), usize::MAX);
    if kernels.remainder.rows > 0 {
        text.paragraph(&format!(
            "{} rows of {} calls and {} in all are left out.",
            crate::report::number::count(kernels.remainder.rows),
            crate::report::number::count(kernels.remainder.calls),
            super::format::duration(kernels.remainder.total_ns as f64)
        ));
    }
    text.finish()
}
