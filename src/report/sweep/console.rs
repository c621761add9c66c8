//! The summary `perfprof sweep` prints: readable without colour, never wider than the terminal.

use owo_colors::Style;

use super::model::SweepReport;
use super::{verdict, words};
use crate::record::rows::RowStatus;
use crate::record::sweep::{SweepMetrics, SweepResult};
use crate::report::console::Page;
use crate::report::escape::{cut, one_line};
use crate::report::number::{UNKNOWN, in_unit, unit_label};

/// Points printed.
const POINTS: usize = 16;
/// Measures printed of each.
const MEASURES: usize = 4;
/// Warnings printed.
const LINES: usize = 5;
/// Lines that the command line of the best point may take.
const LONGEST_COMMAND: usize = 4;

/// The summary printed on the console, at most `width` columns wide, with ANSI colours if `color`.
pub fn sweep_console(report: &SweepReport<'_>, color: bool, width: usize) -> String {
    let metrics = report.metrics;
    let mut page = Page::new(color, width);
    let (bold, plain, dim) = (Style::new().bold(), Style::new(), Style::new().dimmed());
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
    let warnings = verdict::warnings(metrics);
    for line in warnings.iter().take(LINES) {
        page.paragraph(&format!("  ! {line}"), 4, Style::new().yellow());
    }
    if warnings.len() > LINES {
        page.line(&format!("  ! more in report.md: {}", warnings.len() - LINES), dim);
    }
    page.line("", plain);
    points(metrics, &mut page, width);
    if let Some(line) = metrics.best.as_ref().and_then(|best| best.command_line.as_ref()) {
        page.line("", plain);
        // Half a command line helps nobody.
        if line.chars().count() < LONGEST_COMMAND * width {
            page.paragraph(&format!("  run it alone: {line}"), 4, plain);
        } else {
            page.paragraph("  run it alone: the command line is in report.md", 4, plain);
        }
    }
    page.finish()
}

/// The points in the order of the objective, else of the plan.
fn ranked(metrics: &SweepMetrics) -> Vec<(usize, &SweepResult)> {
    let mut all: Vec<(usize, &SweepResult)> = metrics.results.iter().enumerate().collect();
    let Some(best) = &metrics.best else { return all };
    let (measure, statistic) = words::split(&best.objective);
    let lower = words::lower_is_better(&best.objective);
    let key = |result: &SweepResult| {
        let value = result.measures.get(measure).and_then(|summary| words::value_of(summary, statistic));
        value.map_or(f64::INFINITY, |value| if lower { value } else { -value })
    };
    all.sort_by(|a, b| key(a.1).total_cmp(&key(b.1)));
    // What is best under conditions comes first, whatever is beyond them.
    if let Some(place) = best.result.and_then(|place| all.iter().position(|(index, _)| *index == place as usize)) {
        let winner = all.remove(place);
        all.insert(0, winner);
    }
    all
}

/// A measure as a narrow heading: `tpot_ms`, `itl_ms.p99`, `decode_tok_per_s tok/s` where the name does not say the unit.
fn heading(metrics: &SweepMetrics, name: &str) -> String {
    let (measure, statistic) = words::split(name);
    let unit = unit_label(words::unit(metrics, name));
    let told = unit.is_empty() || measure.ends_with(&format!("_{}", unit.to_lowercase()));
    let unit = if told { String::new() } else { format!(" {unit}") };
    if statistic == "p50" { format!("{measure}{unit}") } else { format!("{measure}.{statistic}{unit}") }
}

fn points(metrics: &SweepMetrics, page: &mut Page, width: usize) {
    let (plain, dim) = (Style::new(), Style::new().dimmed());
    let names: Vec<String> = words::measures(metrics).into_iter().take(MEASURES).collect();
    let best = metrics.best.as_ref().and_then(|best| best.result);
    let ranked = ranked(metrics);
    let mut lines: Vec<(Vec<String>, Style)> = vec![(
        std::iter::once("  point".to_owned()).chain(names.iter().map(|name| heading(metrics, name))).collect(),
        dim,
    )];
    for (place, result) in ranked.iter().take(POINTS) {
        let mark = if best == Some(*place as u32) { "★" } else { " " };
        let mut cells = vec![format!("{mark} {}", cut(&one_line(&words::name(metrics, result)), 48))];
        let ok = result.status == Some(RowStatus::Ok);
        cells.extend(names.iter().enumerate().map(|(column, name)| {
            let (measure, statistic) = words::split(name);
            let value = result.measures.get(measure);
            match value.and_then(|summary| words::value_of(summary, statistic)) {
                Some(value) => in_unit(value, words::unit(metrics, name)),
                None if !ok && column == 0 => words::status(result).to_owned(),
                None => UNKNOWN.to_owned(),
            }
        }));
        if names.is_empty() {
            cells.push(words::status(result).to_owned());
        }
        let style = if best == Some(*place as u32) {
            Style::new().green()
        } else if ok {
            plain
        } else {
            Style::new().yellow()
        };
        lines.push((cells, style));
    }
    let wide = |at: usize| lines.iter().filter_map(|(cells, _)| cells.get(at)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..=names.len().max(1)).map(|at| wide(at).unwrap_or(0)).collect();
    // Half a number is worse than none.
    let mut room = width.max(40);
    let fits = widths.iter().enumerate().take_while(|(at, wide)| {
        let needed = **wide + if *at > 0 { 2 } else { 0 };
        let fits = needed <= room || *at < 2;
        room = room.saturating_sub(needed);
        fits
    });
    let columns = fits.count();
    for (cells, style) in &lines {
        let mut text = String::new();
        for (at, cell) in cells.iter().enumerate().take(columns) {
            let padding = " ".repeat(widths.get(at).copied().unwrap_or(0).saturating_sub(cell.chars().count()));
            text.push_str(&if at == 0 { format!("{cell}{padding}") } else { format!("  {padding}{cell}") });
        }
        page.line(&text, *style);
    }
    if ranked.len() > POINTS {
        page.line(&format!("  more points in report.md and points.csv: {}", ranked.len() - POINTS), dim);
    }
}
