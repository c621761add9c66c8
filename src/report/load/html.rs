//! `report.html` of a load test: one file with everything in it, under the same policy as [`crate::report::html`] and laid out as a
//! comparison is.

use serde::Serialize;
use tera::{Context, Tera};

use super::model::LoadReport;
use super::{page, verdict};
use crate::record::load::metrics::LoadMetrics;
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
    ("load.html", include_str!("../templates/compare.html")),
    ("table.html", include_str!("../templates/table.html")),
    ("chart.html", include_str!("../templates/chart.html")),
];
/// Warnings shown on top; the section on trust has all.
const WARNINGS: usize = 8;

/// A further run, as other programs may read it from the page.
#[derive(Serialize)]
struct Other<'a> {
    label: &'a str,
    metrics: &'a LoadMetrics,
}

/// What other programs may read from the page.
#[derive(Serialize)]
struct Data<'a> {
    metrics: &'a LoadMetrics,
    others: Vec<Other<'a>>,
}

/// `report.html`.
///
/// # Errors
/// If the template fails, which is a defect.
pub fn load_html(report: &LoadReport<'_>) -> Result<String, ReportError> {
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
    // Big figures invite to be quoted: none where they must not be.
    let cards = if metrics.validity.is_valid() { verdict::cards(metrics) } else { Vec::new() };
    context.insert("cards", &cards);
    context.insert("sections", &page::sections(report));
    context.insert("files", &page::FILES);
    let others = report.others.iter().map(|other| Other { label: other.label, metrics: other.metrics }).collect();
    let data = serde_json::to_string(&Data { metrics, others })?;
    context.insert("data", &escape::script_json(&data));
    let failed = |error: tera::Error| ReportError::Template { template: "load.html", detail: describe(&error) };
    let mut tera = Tera::new();
    tera.set_escape_fn(|text, out| out.write_all(escape::html(text).as_bytes()));
    tera.add_raw_templates(TEMPLATES).map_err(failed)?;
    tera.render("load.html", &context).map_err(failed)
}

fn line(text: &str) -> String {
    escape::cut(&escape::one_line(text), 600)
}
