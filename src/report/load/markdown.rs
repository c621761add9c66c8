//! `report.md` of a load test: the report without charts, to be read in an editor.

use super::model::LoadReport;
use super::{page, verdict};
use crate::report::compare::markdown::section;
use crate::report::compare::page::Block;
use crate::report::compare::text::Text;

/// `report.md`.
pub fn load_md(report: &LoadReport<'_>) -> String {
    let metrics = report.metrics;
    let mut text = Text::new();
    text.heading(1, &format!("perfprof {}: {}", metrics.command, verdict::title(metrics)));
    let headline = verdict::headline(report);
    text.strong(&headline.sentence);
    text.list(&headline.more);
    let warnings = verdict::warnings(metrics);
    if !warnings.is_empty() {
        text.heading(2, "Before you rely on it");
        text.list(&warnings);
    }
    for part in page::sections(report) {
        // Where only pictures were, an empty heading would stay.
        if part.blocks.iter().any(|block| !matches!(block, Block::Chart { .. } | Block::Choices { .. })) {
            section(&mut text, &part, "report.html and stages.csv");
        }
    }
    text.heading(2, "Files");
    let files: Vec<String> = page::FILES.iter().map(|(name, what)| format!("{name}: {what}")).collect();
    text.list(&files);
    text.paragraph(&format!("Run {}, made {}.", metrics.run_id, report.generated_at));
    text.finish()
}
