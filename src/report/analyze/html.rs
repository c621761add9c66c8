//! `report.html` of an analyzed trace: one file with everything in it, under the same policy as [`crate::report::html`].

use tera::{Context, Tera};

use super::model::TraceReport;
use super::{excerpt, findings, page, verdict};
use crate::report::escape;
use crate::report::html::csp_hash;
use crate::report::markdown::describe;
use crate::report::model::ReportError;

const STYLES: [&str; 2] = [include_str!("../assets/report.css"), include_str!("../assets/analyze.css")];
const SCRIPTS: [&str; 3] =
    [include_str!("../assets/report.js"), include_str!("../assets/timeline.js"), include_str!("../assets/flame.js")];
const TEMPLATES: [(&str, &str); 3] = [
    ("analyze.html", include_str!("../templates/analyze.html")),
    ("table.html", include_str!("../templates/table.html")),
    ("chart.html", include_str!("../templates/chart.html")),
];

/// `report.html`.
pub fn analyze_html(report: &TraceReport<'_>) -> Result<String, ReportError> {
    let mut context = Context::new();
    let (style, script) = (STYLES.join("\n"), SCRIPTS.join("\n"));
    context.insert("style_hash", &csp_hash(&style));
    context.insert("script_hash", &csp_hash(&script));
    context.insert("style", &style);
    context.insert("script", &script);
    context.insert("run_id", &escape::cut(&escape::one_line(report.run_id), 200));
    context.insert("generated_at", &escape::cut(&escape::one_line(report.generated_at), 60));
    context.insert("title", &title(report));
    context.insert("device_line", &device_line(report));
    context.insert("verdict", &verdict::verdict(report));
    context.insert("warnings", &verdict::warnings(report));
    context.insert("cards", &verdict::cards(report));
    context.insert("findings", &findings::findings(report));
    context.insert("sections", &page::sections(report));
    context.insert("files", &page::files(report));
    context.insert("command", command(report));
    let data = serde_json::json!({ "view": report.view.map(excerpt::packed) });
    context.insert("data", &escape::script_json(&serde_json::to_string(&data)?));
    let failed = |error: tera::Error| ReportError::Template { template: "analyze.html", detail: describe(&error) };
    let mut tera = Tera::new();
    tera.set_escape_fn(|text, out| out.write_all(escape::html(text).as_bytes()));
    tera.add_raw_templates(TEMPLATES).map_err(failed)?;
    tera.render("analyze.html", &context).map_err(failed)
}

/// The command that made the run.
pub(super) fn command(report: &TraceReport<'_>) -> &'static str {
    if report.stage2.is_some() { "stage2" } else { "analyze" }
}

/// The files, or what was profiled, in a few words.
pub(super) fn title(report: &TraceReport<'_>) -> String {
    if let Some(stage2) = report.stage2 {
        return crate::report::stage2::title(stage2);
    }
    let name = |at: usize| report.files.get(at).map(|file| escape::cut(&escape::one_line(&file.name), 100));
    match (name(0), report.files.len()) {
        (None, _) => "a trace".to_owned(),
        (Some(first), 1) => first,
        (Some(first), many) => format!("{first} and {} more", many - 1),
    }
}

/// The devices and who wrote the trace.
pub(super) fn device_line(report: &TraceReport<'_>) -> String {
    let mut parts: Vec<String> = Vec::new();
    for device in report.devices.iter().take(4) {
        let name = device.name.as_deref().unwrap_or("product not known");
        parts.push(format!("{}: {name}", device.label));
    }
    if report.devices.len() > 4 {
        parts.push(format!("{} more devices", report.devices.len() - 4));
    }
    if let Some(file) = report.files.first().filter(|file| !file.tool.is_empty()) {
        parts.push(file.tool.clone());
    }
    escape::cut(&escape::one_line(&parts.join(" · ")), 300)
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

    /// Relative luminance of `#rrggbb` (WCAG 2.2).
    fn luminance(hex: &str) -> f64 {
        let channel = |at: usize| {
            let value = f64::from(u8::from_str_radix(&hex[at..at + 2], 16).unwrap()) / 255.0;
            if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5)
    }

    #[test]
    fn text_on_every_cause_has_the_contrast_of_wcag_aa() {
        let style = STYLES[1];
        for number in 0..15 {
            let back = style.split(&format!("--i{number}: ")).nth(1).unwrap().split(';').next().unwrap();
            let rule =
                style.lines().find(|line| line.split([',', ' ']).any(|word| word == format!(".on-i{number}"))).unwrap();
            let ink = rule.split("fill: ").nth(1).unwrap().split(';').next().unwrap();
            let (a, b) = (luminance(ink), luminance(back));
            let contrast = (a.max(b) + 0.05) / (a.min(b) + 0.05);
            assert!(contrast >= 4.5, "i{number}: {contrast}");
        }
    }
}
