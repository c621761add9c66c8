//! `compare.html`: one file with everything in it, under the same policy as [`crate::report::html`].

use serde::Serialize;
use tera::{Context, Tera};

use super::charts::{self, GROUPS};
use super::model::{CompareReport, Distribution};
use super::{page, verdict};
use crate::compare::result::{CompareMetrics, DifferenceKind};
use crate::report::escape;
use crate::report::html::csp_hash;
use crate::report::markdown::describe;
use crate::report::model::ReportError;

const STYLES: [&str; 3] = [
    include_str!("../assets/report.css"),
    include_str!("../assets/analyze.css"),
    include_str!("../assets/compare.css"),
];
const SCRIPTS: [&str; 2] = [include_str!("../assets/report.js"), include_str!("../assets/compare.js")];
const TEMPLATES: [(&str, &str); 3] = [
    ("compare.html", include_str!("../templates/compare.html")),
    ("table.html", include_str!("../templates/table.html")),
    ("chart.html", include_str!("../templates/chart.html")),
];
/// Warnings shown on top; the section on trust has all.
const WARNINGS: usize = 8;

/// What the script and other programs may read from the page.
#[derive(Serialize)]
struct Data<'a> {
    metrics: &'a CompareMetrics,
    distributions: Vec<&'a Distribution>,
}

/// `compare.html`.
pub fn compare_html(report: &CompareReport<'_>) -> Result<String, ReportError> {
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
    context.insert("headline", &short(&verdict::headline(report)));
    let unequal: Vec<String> = metrics
        .differences
        .iter()
        .filter(|row| row.kind == DifferenceKind::NotTheSameWork)
        .map(|row| {
            let known = |value: &Option<String>| value.clone().unwrap_or_else(|| "not known".to_owned());
            line(&format!(
                "{}: {} of the baseline, {} of {}: {}",
                row.fact,
                known(&row.baseline),
                known(&row.candidate),
                row.candidate_label,
                row.meaning
            ))
        })
        .collect();
    context.insert("unequal", &unequal);
    let mut warnings: Vec<String> = verdict::warnings(report).iter().map(|text| line(text)).collect();
    let more = warnings.len().saturating_sub(WARNINGS);
    warnings.truncate(WARNINGS);
    context.insert("warnings", &warnings);
    context.insert("warnings_left_out", &more);
    let cards = if metrics.validity.is_valid() { verdict::cards(metrics) } else { Vec::new() };
    context.insert("cards", &cards);
    context.insert("sections", &page::sections(report));
    context.insert("files", &page::FILES);
    let groups = charts::groups(report);
    let distributions = groups.iter().take(GROUPS).flat_map(|group| group.members.iter().copied()).collect();
    let data = Data { metrics, distributions };
    context.insert("data", &escape::script_json(&serde_json::to_string(&data)?));
    let failed = |error: tera::Error| ReportError::Template { template: "compare.html", detail: describe(&error) };
    let mut tera = Tera::new();
    tera.set_escape_fn(|text, out| out.write_all(escape::html(text).as_bytes()));
    tera.add_raw_templates(TEMPLATES).map_err(failed)?;
    tera.render("compare.html", &context).map_err(failed)
}

fn line(text: &str) -> String {
    escape::cut(&escape::one_line(text), 600)
}

fn short(headline: &verdict::Headline) -> verdict::Headline {
    verdict::Headline {
        sentence: line(&headline.sentence),
        more: headline.more.iter().map(|text| line(text)).collect(),
        tone: headline.tone,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn style_and_script_cannot_end_their_blocks() {
        for text in STYLES.iter().chain(&SCRIPTS) {
            assert!(!text.contains("</") && !text.contains("<!--") && !text.contains('\r'));
            assert!(!text.contains("url(") && !text.contains("@import"));
            assert!(
                !text.contains("innerHTML") && !text.contains("insertAdjacent") && !text.contains("document.write")
            );
        }
    }

    #[test]
    fn every_class_of_the_charts_has_a_style() {
        let style = STYLES.join("\n");
        let classes = [
            "good",
            "worse",
            "even",
            "open",
            "good-line",
            "worse-line",
            "even-line",
            "open-line",
            "whisker",
            "one",
            "margin-band",
            "noise-band",
            "box",
            "median",
            "dots",
            "total-bar",
            "more-time",
            "less-time",
            "step-edge",
            "group",
            "m0",
            "m7",
            "d1",
            "d3",
        ];
        for class in classes {
            assert!(style.contains(&format!(".{class} ")) || style.contains(&format!(".{class},")), "{class}");
        }
    }
}
