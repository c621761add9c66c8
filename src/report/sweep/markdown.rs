//! `report.md` of a sweep: the report without charts, to be read in an editor.

use super::model::SweepReport;
use super::{page, verdict};
use crate::report::compare::markdown::section;
use crate::report::compare::page::Block;
use crate::report::compare::text::Text;
use crate::report::escape::{cut, one_line};

/// A command line as a block of code, to be copied; one with signs that could end the block, or be taken for markup by a careless reader of it, is told
/// as text.
fn command(text: &mut Text, line: &str) {
    if line.contains(['`', '<']) || one_line(line) != line {
        text.paragraph(line);
    } else {
        text.raw(&format!("```sh\n{}\n```", cut(line, 20_000)));
    }
}

/// `report.md`.
pub fn sweep_md(report: &SweepReport<'_>) -> String {
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
            section(&mut text, &part, "report.html and points.csv");
        }
        if part.id == "best"
            && let Some(line) = page::command_line(report)
        {
            text.heading(3, "Run it alone");
            command(&mut text, line);
        }
    }
    text.heading(2, "Files");
    let files: Vec<String> = page::FILES.iter().map(|(name, what)| format!("{name}: {what}")).collect();
    text.list(&files);
    text.paragraph(&format!("Run {}, made {}.", metrics.run_id, report.generated_at));
    text.finish()
}
