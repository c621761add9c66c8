//! `report.html` of a sweep: one file with everything in it, under the same policy as [`crate::report::html`] and laid out as a comparison is.

use serde::Serialize;
use tera::{Context, Tera};

use super::model::SweepReport;
use super::{page, verdict};
use crate::record::sweep::SweepMetrics;
use crate::report::compare::verdict::Headline;
use crate::report::escape;
use crate::report::html::csp_hash;
use crate::report::markdown::describe;
use crate::report::model::ReportError;

const STYLES: [&str; 4] = [
    include_str!("../assets/report.css"),
    include_str!("../assets/analyze.css"),
    include_str!("../assets/compare.css"),
    include_str!("../assets/sweep.css"),
];
const SCRIPTS: [&str; 2] = [include_str!("../assets/report.js"), include_str!("../assets/compare.js")];
const TEMPLATES: [(&str, &str); 3] = [
    // Sections of blocks below a verdict: nothing in it is about a comparison.
    ("sweep.html", include_str!("../templates/compare.html")),
    ("table.html", include_str!("../templates/table.html")),
    ("chart.html", include_str!("../templates/chart.html")),
];
/// Warnings shown on top; the section on trust has all.
const WARNINGS: usize = 8;

/// What other programs may read from the page.
#[derive(Serialize)]
struct Data<'a> {
    metrics: &'a SweepMetrics,
}

/// `report.html`.
///
/// # Errors
/// If the template fails, which is a defect.
pub fn sweep_html(report: &SweepReport<'_>) -> Result<String, ReportError> {
    let metrics = report.metrics;
    let mut context = Context::new();
    let (style, script) = (STYLES.join("\n"), SCRIPTS.join("\n"));
    context.insert("style_hash", &csp_hash(&style));
    context.insert("script_hash", &csp_hash(&script));
    context.insert("style", &style);
    context.insert("script", &script);
    context.insert("command", &escape::cut(&escape::one_line(&metrics.command), 40));
    context.insert("run_id", &escape::cut(&escape::one_line(&metrics.run_id), 200));
    context.insert("generated_at", &escape::cut(&escape::one_line(report.generated_at), 60));
    context.insert("title", &escape::cut(&escape::one_line(&verdict::title(metrics)), 160));
    let headline = verdict::headline(report);
    let headline = Headline {
        sentence: line(&headline.sentence),
        more: headline.more.iter().map(|text| line(text)).collect(),
        tone: headline.tone,
    };
    context.insert("headline", &headline);
    context.insert("unequal", &Vec::<String>::new());
    let mut warnings: Vec<String> = verdict::warnings(metrics).iter().map(|text| line(text)).collect();
    let more = warnings.len().saturating_sub(WARNINGS);
    warnings.truncate(WARNINGS);
    context.insert("warnings", &warnings);
    context.insert("warnings_left_out", &more);
    let cards = if metrics.validity.is_valid() { verdict::cards(metrics) } else { Vec::new() };
    context.insert("cards", &cards);
    let mut sections = page::sections(report);
    if let Some(first) = sections.first_mut() {
        first.blocks.extend(page::command(report));
    }
    context.insert("sections", &sections);
    context.insert("files", &page::FILES);
    context.insert("data", &escape::script_json(&serde_json::to_string(&Data { metrics })?));
    let failed = |error: tera::Error| ReportError::Template { template: "sweep.html", detail: describe(&error) };
    let mut tera = Tera::new();
    tera.set_escape_fn(|text, out| out.write_all(escape::html(text).as_bytes()));
    tera.add_raw_templates(TEMPLATES).map_err(failed)?;
    tera.render("sweep.html", &context).map_err(failed)
}

fn line(text: &str) -> String {
    escape::cut(&escape::one_line(text), 600)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::chart::STEPS;

    /// Relative luminance of `#rrggbb` (WCAG 2.2).
    fn luminance(hex: &str) -> f64 {
        let channel = |at: usize| {
            let value = f64::from(u8::from_str_radix(&hex[at..at + 2], 16).unwrap()) / 255.0;
            if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5)
    }

    #[test]
    fn every_step_of_a_map_has_a_colour_on_which_its_text_can_be_read() {
        let color = |class: &str| {
            let rest = STYLES[3].split(&format!(".{class} {{ fill: ")).nth(1).unwrap_or_else(|| panic!("{class}"));
            rest[..7].to_owned()
        };
        let mut before = f64::INFINITY;
        for step in 0..STEPS {
            let (back, text) = (luminance(&color(&format!("h{step}"))), luminance(&color(&format!("on-h{step}"))));
            assert!(back < before, "each step is darker than the one before");
            before = back;
            assert!((back.max(text) + 0.05) / (back.min(text) + 0.05) >= 4.5, "step {step}");
        }
        assert!(STYLES[3].contains(".no-cell ") && STYLES[3].contains(".cell "));
    }

    #[test]
    fn style_cannot_end_its_block() {
        assert!(!STYLES[3].contains("</") && !STYLES[3].contains("url(") && !STYLES[3].contains("@import"));
    }
}
