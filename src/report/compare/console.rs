//! The summary `perfprof compare` and `perfprof ab` print: readable without colour, never wider than the terminal.

use owo_colors::Style;

use super::context::part_name;
use super::model::CompareReport;
use super::words::{self, News, signed_duration};
use super::{tables, verdict};
use crate::compare::result::{Attribution, AttributionRow, RuleOutcome};
use crate::report::console::Page;
use crate::report::escape::{cut, one_line};

/// Measures printed.
const MEASURES: usize = 10;
/// Parts of a change printed for each attribution.
const PARTS: usize = 5;
/// Attributions printed.
const ATTRIBUTIONS: usize = 2;
/// Rules, warnings and hints printed.
const LINES: usize = 5;

/// The summary printed on the console, at most `width` columns wide, with ANSI colours if `color`.
pub fn compare_console(report: &CompareReport<'_>, color: bool, width: usize) -> String {
    let metrics = report.metrics;
    let mut page = Page::new(color, width);
    let (bold, plain, dim) = (Style::new().bold(), Style::new(), Style::new().dimmed());
    let (green, red, yellow) = (Style::new().green(), Style::new().red(), Style::new().yellow());
    let headline = verdict::headline(report);
    let tone = match headline.tone {
        "ok" => bold.green(),
        "warn" => bold.yellow(),
        _ => bold.red(),
    };
    page.line(&format!("{} {}: {}", metrics.command, metrics.run_id, verdict::title(metrics)), bold);
    page.paragraph(&headline.sentence, 0, tone);
    for line in headline.more.iter().take(LINES) {
        page.paragraph(&format!("  {line}"), 2, plain);
    }
    let warnings = verdict::warnings(report);
    for line in warnings.iter().take(LINES) {
        page.paragraph(&format!("  ! {line}"), 4, yellow);
    }
    if warnings.len() > LINES {
        page.line(&format!("  ! more in compare.md: {}", warnings.len() - LINES), dim);
    }

    let rows = words::ranked(metrics);
    if !rows.is_empty() {
        page.line("", plain);
    }
    let many = super::context::many(metrics);
    let cases: std::collections::BTreeSet<&str> = rows.iter().filter_map(|row| row.case.as_deref()).collect();
    let several_cases = cases.len() > 1;
    let name = |row: &crate::compare::result::Comparison| {
        let who = if many { format!("{}: ", cut(&one_line(&row.candidate_label), 24)) } else { String::new() };
        let what = if several_cases { words::measured(row) } else { row.measure.clone() };
        cut(&one_line(&format!("{who}{what} ({})", row.statistic)), 52)
    };
    let widest = |lengths: &mut dyn Iterator<Item = usize>| lengths.max().unwrap_or(0);
    let names = widest(&mut rows.iter().take(MEASURES).map(|row| name(row).chars().count()));
    let changes = widest(&mut rows.iter().take(MEASURES).map(|row| words::maybe_change(row.ratio).chars().count()));
    let verdicts = widest(&mut rows.iter().take(MEASURES).map(|row| tables::verdict(metrics, row).chars().count()));
    for row in rows.iter().take(MEASURES) {
        let outcome = words::outcome(metrics, row);
        let style = match outcome.news(row.direction) {
            News::Good => green,
            News::Bad => red,
            News::Neutral => plain,
            News::Open => yellow,
        };
        let interval =
            words::interval(row.ci95).map_or_else(|| "no interval".to_owned(), |text| format!("95 %: {text}"));
        page.line(
            &format!(
                "  {:<verdicts$}  {:<names$}  {:>changes$}  {interval}  n = {} + {}",
                tables::verdict(metrics, row),
                name(row),
                words::maybe_change(row.ratio),
                row.n[0],
                row.n[1]
            ),
            style,
        );
    }
    if rows.len() > MEASURES {
        page.line(&format!("  more measures in compare.md: {}", rows.len() - MEASURES), dim);
    }

    for part in metrics.attribution.iter().filter(|part| !part.rows.is_empty()).take(ATTRIBUTIONS) {
        page.line("", plain);
        let case = part.case.as_ref().map_or_else(String::new, |case| format!(", {case}"));
        page.line(
            &format!("  where {} differs from {}{case} (per {})", part.candidate_label, part.baseline_label, part.per),
            bold,
        );
        if within_noise(part) {
            let phases: Vec<&str> = part.phases.iter().map(|phase| phase.phase.as_str()).collect();
            page.line(&format!("  {}: within their noise; the parts are in compare.md", phases.join(", ")), dim);
            continue;
        }
        let changed = |row: &&AttributionRow| row.delta_ns.is_finite() && row.delta_ns != 0.0;
        let mut largest: Vec<&AttributionRow> = part.rows.iter().filter(changed).collect();
        largest.sort_by(|a, b| b.delta_ns.abs().total_cmp(&a.delta_ns.abs()));
        for row in largest.iter().take(PARTS) {
            page.line(
                &format!(
                    "  {:>12}  {:>8}  {}: {}",
                    signed_duration(row.delta_ns),
                    words::signed_share(row.share),
                    row.phase,
                    part_name(row)
                ),
                plain,
            );
        }
        if largest.is_empty() {
            page.line("  in no part", plain);
        }
        if largest.len() > PARTS {
            page.line(&format!("  more parts in compare.md: {}", largest.len() - PARTS), dim);
        }
    }

    if let Some(text) = verdict::gate(metrics) {
        page.line("", plain);
        let passed = metrics.gate.as_ref().is_some_and(|gate| gate.passed);
        page.line(&format!("  {text}"), if passed { bold.green() } else { bold.red() });
        let open = metrics.gate.iter().flat_map(|gate| &gate.rules).filter(|rule| rule.outcome != RuleOutcome::Passed);
        for rule in open.take(LINES * 2) {
            page.paragraph(
                &format!("    {} ({}) {}: {}", rule.rule, rule.candidate_label, words::rule(rule.outcome), rule.reason),
                6,
                if rule.outcome == RuleOutcome::Failed { red } else { yellow },
            );
        }
    }
    let hints = verdict::hints(metrics);
    if !hints.is_empty() {
        page.line("", plain);
        for line in hints.iter().take(LINES) {
            page.paragraph(&format!("  hint: {line}"), 4, plain);
        }
    }
    page.finish()
}

/// Whether the interval of every phase holds "no change": the largest parts of noise would then read as causes.
fn within_noise(part: &Attribution) -> bool {
    let holds_zero = |ends: [f64; 2]| ends[0] <= 0.0 && 0.0 <= ends[1];
    !part.phases.is_empty() && part.phases.iter().all(|phase| phase.delta_ci95_ns.is_some_and(holds_zero))
}
