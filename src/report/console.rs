//! The summary a command prints when it ends: readable without colour, never wider than the terminal.

use owo_colors::{OwoColorize, Style};

use super::model::Stage1Report;
use super::number::{self, digits, percent};
use super::tables::{self, status_word};
use super::{escape, gpu, view};
use crate::diagnostics::Severity;
use crate::record::rows::RowStatus;
use crate::units::Bytes;

/// Findings printed; the rest are counted.
const FINDINGS: usize = 8;

/// Collects lines that fit the width.
pub(super) struct Page {
    color: bool,
    width: usize,
    text: String,
}

impl Page {
    /// An empty page at least 40 columns wide.
    pub(super) fn new(color: bool, width: usize) -> Self {
        Self { color, width: width.max(40), text: String::new() }
    }
    /// The text.
    pub(super) fn finish(self) -> String {
        self.text
    }
    /// Appends one line, cut to the width before it is coloured: escape codes take no columns.
    pub(super) fn line(&mut self, text: &str, style: Style) {
        let text = escape::cut(&escape::one_line(text), self.width);
        let text = text.trim_end();
        if self.color && !text.is_empty() {
            self.text.push_str(&text.style(style).to_string());
        } else {
            self.text.push_str(text);
        }
        self.text.push('\n');
    }

    /// Appends a paragraph broken between words, its further lines indented by `indent`; at most six lines.
    pub(super) fn paragraph(&mut self, text: &str, indent: usize, style: Style) {
        let text = escape::one_line(text);
        let first = text.len() - text.trim_start().len();
        let mut line = " ".repeat(first);
        let mut lines = Vec::new();
        for word in text.split_whitespace() {
            let empty = line.trim().is_empty();
            if !empty && line.chars().count() + 1 + word.chars().count() > self.width {
                lines.push(std::mem::replace(&mut line, " ".repeat(indent)));
            } else if !empty {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push(line);
        let cut = lines.len() > 6;
        lines.truncate(6);
        if let Some(last) = lines.last_mut().filter(|_| cut) {
            last.push_str(" …");
        }
        for line in lines {
            self.line(&line, style);
        }
    }
}

/// The summary printed on the console, at most `width` columns wide, with ANSI colours if `color`.
pub fn console_summary(report: &Stage1Report<'_>, color: bool, width: usize) -> String {
    let metrics = report.metrics;
    let mut page = Page::new(color, width);
    let valid = metrics.validity.is_valid();
    let verdict = if valid { Style::new().bold().green() } else { Style::new().bold().red() };
    let (bold, plain, dim) = (Style::new().bold(), Style::new(), Style::new().dimmed());
    let ended = if metrics.status == "complete" { String::new() } else { format!(" ({})", metrics.status) };
    page.line(&format!("{} {}: {}{ended}", metrics.command, metrics.run_id, view::verdict(report)), verdict);
    for reason in &metrics.validity.reasons {
        page.paragraph(&format!("  because {reason}"), 4, verdict);
    }
    let (model, hardware) = (&metrics.model, &metrics.hardware);
    let threads = hardware.threads.map_or_else(String::new, |threads| format!(", {threads} threads"));
    page.paragraph(
        &format!(
            "{}, {} parameters, {} {}; {}{threads}",
            model.name,
            number::parameters(model.parameters),
            Bytes(model.weights_bytes as f64),
            model.dtype,
            hardware.device
        ),
        2,
        plain,
    );
    if let Some(line) = gpu::line(report) {
        page.paragraph(&line, 2, plain);
    }
    page.line("", plain);
    let lines: Vec<[String; 4]> = tables::headline(report)
        .rows
        .into_iter()
        .filter_map(|row| {
            let mut cells = row.into_iter().map(|cell| cell.text);
            let (name, mean, median, p95) = (cells.next()?, cells.next()?, cells.next()?, cells.next()?);
            let n = cells.nth(2)?;
            // A tail that the sample does not support is left to the reports, which say why.
            let p95 = if p95.contains('<') || p95 == number::UNKNOWN { String::new() } else { format!("  p95 {p95}") };
            Some([name, median, format!("mean {mean}{p95}"), n])
        })
        .collect();
    let wide = |at: usize| lines.iter().map(|line| line[at].chars().count()).max().unwrap_or(0);
    let (names, medians) = (wide(0), wide(1));
    for [name, median, rest, n] in &lines {
        page.line(&format!("  {name:<names$}  {median:>medians$}  {rest}  n={n}"), plain);
    }
    if lines.is_empty() {
        page.line("  nothing was measured", bold);
    }
    page.line("", plain);
    for phase in &metrics.phases {
        let text = match (&phase.bound, phase.roofline_ms, phase.time_ms) {
            (Some(bound), Some(best), Some(time)) if time > 0.0 => format!(
                "{} of {}: {bound} bound, {} of its roofline ({} ms at best, {} ms measured)",
                phase.phase,
                phase.case,
                percent(best / time),
                digits(best),
                digits(time)
            ),
            _ => format!("{} of {}: limit unknown", phase.phase, phase.case),
        };
        page.paragraph(&format!("  {text}"), 4, plain);
    }
    for row in report.rows.iter().filter(|row| row.status != RowStatus::Ok).take(FINDINGS) {
        let error = row.error.as_deref().unwrap_or("no reason recorded");
        page.paragraph(
            &format!("  repeat {} of {} {}: {error}", row.repeat, row.case, status_word(row.status)),
            4,
            verdict,
        );
    }
    let mut findings: Vec<_> = metrics.diagnostics.iter().collect();
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    if !findings.is_empty() {
        page.line("", plain);
    }
    for finding in findings.iter().take(FINDINGS) {
        let (word, style) = match finding.severity {
            Severity::Info => ("note", dim),
            Severity::Warn => ("warning", Style::new().yellow()),
            Severity::Error => ("error", Style::new().red()),
            Severity::DataLoss => ("data loss", Style::new().red().bold()),
        };
        let times = if finding.count > 1 { format!(" ({}×)", finding.count) } else { String::new() };
        page.paragraph(&format!("  {word}: {}{times}", finding.first), 4, style);
    }
    if findings.len() > FINDINGS {
        page.line(&format!("  and {} more in report.md", findings.len() - FINDINGS), dim);
    }
    page.finish()
}
