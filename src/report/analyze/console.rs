//! The summary `perfprof analyze` prints: readable without colour, never wider than the terminal.

use owo_colors::Style;

use super::model::TraceReport;
use super::verdict::{cards, verdict, warnings};
use super::{findings, format, html, tables, waits};
use crate::report::console::Page;
use crate::report::number::{count, percent};

/// Findings printed.
const FINDINGS: usize = 5;
/// Operator classes printed.
const CLASSES: usize = 8;
/// Warnings printed.
const WARNINGS: usize = 4;

/// The summary printed on the console, at most `width` columns wide, with ANSI colours if `color`.
pub fn analyze_console(report: &TraceReport<'_>, color: bool, width: usize) -> String {
    let mut page = Page::new(color, width);
    let (bold, plain, dim) = (Style::new().bold(), Style::new(), Style::new().dimmed());
    let verdict = verdict(report);
    let tone = match verdict.tone {
        "ok" => Style::new().bold().green(),
        "warn" => Style::new().bold().yellow(),
        _ => Style::new().bold().red(),
    };
    page.line(&format!("{} {}: {}", html::command(report), report.run_id, html::title(report)), bold);
    page.paragraph(&verdict.sentence, 0, tone);
    for line in &verdict.more {
        page.paragraph(&format!("  {line}"), 2, plain);
    }
    let warnings = warnings(report);
    for line in warnings.iter().take(WARNINGS) {
        page.paragraph(&format!("  ! {line}"), 4, Style::new().yellow());
    }
    if warnings.len() > WARNINGS {
        page.line(&format!("  ! more warnings in report.md: {}", warnings.len() - WARNINGS), dim);
    }
    page.line("", plain);
    let cards = cards(report);
    let names = cards.iter().map(|card| card.label.chars().count()).max().unwrap_or(0);
    let values = cards.iter().map(|card| card.value.chars().count()).max().unwrap_or(0);
    for card in &cards {
        page.line(&format!("  {:<names$}  {:<values$}  {}", card.label, card.value, card.sub), plain);
    }
    if let Some(kernels) = report.kernels {
        let totals = tables::class_totals(kernels, None);
        let shown: Vec<_> = totals.iter().filter(|total| total.4.is_some()).take(CLASSES).collect();
        if !shown.is_empty() {
            page.line("", plain);
            let of = if super::verdict::kernel_shares(report) { "" } else { ", share of the kernels seen" };
            page.line(&format!("  kernel time by class (sum){of}"), bold);
        }
        for (class, _, calls, ns, share) in shown {
            page.line(
                &format!(
                    "  {:<20} {:>8} {:>12}  {} calls",
                    class.name(),
                    share.map_or_else(String::new, percent),
                    format::duration(*ns as f64),
                    count(*calls)
                ),
                plain,
            );
        }
    }
    let busy = waits::busy_words(report);
    if busy.len() > 1 && report.coverage.is_none_or(|coverage| coverage.trust.idle_shares) {
        page.line("", plain);
        for line in busy.iter().take(16) {
            page.line(&format!("  {line}"), plain);
        }
    }
    let findings = findings::findings(report);
    if !findings.is_empty() {
        page.line("", plain);
        page.line("  what to do about it", bold);
        for (at, finding) in findings.iter().take(FINDINGS).enumerate() {
            page.paragraph(&format!("  {}. {} ({})", at + 1, finding.title, finding.gain), 5, plain);
        }
        if findings.len() > FINDINGS {
            page.line(&format!("  more in report.html: {}", findings.len() - FINDINGS), dim);
        }
    }
    page.finish()
}
