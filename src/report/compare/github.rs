//! A summary for the job page of a CI system, in GitHub-flavoured Markdown.

use super::model::CompareReport;
use super::text::Text;
use super::{context, tables, verdict, words};
use crate::compare::result::Comparison;

/// Measures in the first table.
const MEASURES: usize = 20;
/// Rows in folded tables: a job page takes 1 MiB.
const ROWS: usize = 100;

/// `ci_summary.md`: verdict, gate and the main measures; the rest is folded. For `$GITHUB_STEP_SUMMARY`.
pub fn ci_summary_md(report: &CompareReport<'_>) -> String {
    let metrics = report.metrics;
    let mut text = Text::new();
    text.heading(2, &format!("perfprof {}: {}", metrics.command, verdict::title(metrics)));
    let headline = verdict::headline(report);
    text.strong(&headline.sentence);
    text.list(&headline.more);
    let gate = tables::gate(report);
    text.table(&gate, ROWS, "compare.md");
    let rows = words::ranked(metrics);
    let first: Vec<&Comparison> = rows.iter().take(MEASURES).copied().collect();
    if first.is_empty() {
        text.paragraph("No measure was compared.");
    }
    text.table(&tables::effects(metrics, &first), MEASURES, "compare.md");
    if !first.is_empty() {
        text.raw(
            "✓ better · ✗ worse · = the same · ≠ different, neither way is better · ? not decided or not the same work",
        );
    }
    let warnings = verdict::warnings(report);
    if !warnings.is_empty() {
        text.heading(3, "Before you rely on it");
        text.list(&warnings.into_iter().take(12).collect::<Vec<_>>());
    }
    if !rows.is_empty() {
        folded(&mut text, "Reasons of the verdicts", |text| {
            text.table(&tables::reasons(metrics, &rows), ROWS, "compare.md");
        });
        if rows.len() > MEASURES {
            folded(&mut text, "All measures", |text| text.table(&tables::effects(metrics, &rows), ROWS, "compare.md"));
        }
        folded(&mut text, "Statistics behind the verdicts", |text| {
            text.table(&tables::statistics(&rows), ROWS, "compare.md");
        });
    }
    if !metrics.differences.is_empty() {
        folded(&mut text, "What differs between the sides", |text| {
            text.table(&tables::differences(metrics), ROWS, "compare.md");
        });
    }
    for part in metrics.attribution.iter().take(6) {
        let case = part.case.as_ref().map_or_else(String::new, |case| format!(", {case}"));
        let title = format!("Where {} differs from {}{case}", part.candidate_label, part.baseline_label);
        folded(&mut text, &title, |text| {
            text.table(&context::phases(part), ROWS, "compare.md");
            text.table(&context::attribution(part, 20), 20, "attribution.csv");
        });
    }
    text.finish()
}

fn folded(text: &mut Text, title: &str, content: impl FnOnce(&mut Text)) {
    let title = crate::report::escape::html(&crate::report::escape::cut(&crate::report::escape::one_line(title), 200));
    text.raw(&format!("<details><summary>{title}</summary>"));
    content(text);
    text.raw("</details>");
}
