//! `compare.md`: the report without charts, to be read in an editor.

use super::model::CompareReport;
use super::page::{self, Block, Section};
use super::text::Text;
use super::verdict;
use crate::compare::result::DifferenceKind;

/// Rows of a table: what is read in an editor must end.
const ROWS: usize = 60;

/// `compare.md`.
pub fn compare_md(report: &CompareReport<'_>) -> String {
    let metrics = report.metrics;
    let mut text = Text::new();
    text.heading(1, &format!("perfprof {}: {}", metrics.command, verdict::title(metrics)));
    let headline = verdict::headline(report);
    text.strong(&headline.sentence);
    text.list(&headline.more);
    let unequal: Vec<String> = metrics
        .differences
        .iter()
        .filter(|row| row.kind == DifferenceKind::NotTheSameWork)
        .map(|row| format!("{} ({}): {}", row.fact, row.candidate_label, row.meaning))
        .collect();
    if !unequal.is_empty() {
        text.heading(2, "Not the same work");
        text.list(&unequal);
    }
    for section in page::sections(report) {
        self::section(&mut text, &section, "compare.html and the CSV files");
    }
    text.heading(2, "Files");
    let files: Vec<String> = page::FILES.iter().map(|(name, what)| format!("{name}: {what}")).collect();
    text.list(&files);
    text.paragraph(&format!("Run {}, made {}.", metrics.run_id, report.generated_at));
    text.finish()
}

/// One section; `whole` says where the rows are that a table here leaves out.
pub(in crate::report) fn section(text: &mut Text, section: &Section, whole: &str) {
    // What needs a picture is left to the page.
    if section.blocks.iter().all(|block| matches!(block, Block::Chart { .. } | Block::Choices { .. })) {
        return;
    }
    text.heading(2, &section.title);
    for block in &section.blocks {
        match block {
            Block::Reading { text: reading } => text.paragraph(reading),
            Block::Heading { text: heading } => text.heading(3, heading),
            Block::Lines { lines } => text.list(lines),
            Block::Table { heading, table, .. } => {
                if !heading.is_empty() {
                    text.heading(3, heading);
                }
                text.table(table, ROWS, whole);
            }
            Block::Terms { heading, terms } => {
                if !heading.is_empty() {
                    text.heading(3, heading);
                }
                let lines: Vec<String> = terms.iter().map(|(name, what)| format!("{name}: {what}")).collect();
                text.list(&lines);
            }
            Block::Chart { .. } | Block::Choices { .. } => {}
        }
    }
}
