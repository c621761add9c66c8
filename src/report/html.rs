//! `report.html`: one file with everything in it. Style and script are allowed by their hashes, all else is forbidden by the page's
//! own content security policy; data travels as JSON that no browser runs.

use serde::Serialize;
use sha2::{Digest, Sha256};
use tera::{Context, Tera};

use super::chart::{self, Chart};
use super::markdown::{Section, describe};
use super::model::{ReportError, Stage1Report};
use super::table::Table;
use super::{advice, escape, gpu, number, tables, view};
use crate::units::Bytes;

const STYLE: &str = include_str!("assets/report.css");
const SCRIPT: &str = include_str!("assets/report.js");
const TEMPLATES: [(&str, &str); 3] = [
    ("report.html", include_str!("templates/report.html")),
    ("table.html", include_str!("templates/table.html")),
    ("chart.html", include_str!("templates/chart.html")),
];
/// Cases whose inter-token latencies get a chart.
const ITL_CHARTS: usize = 4;
/// Modules in the operator table of a phase; operators.md has all.
const MODULES: usize = 400;

/// One number on top of the page.
#[derive(Serialize)]
struct Card {
    label: &'static str,
    value: String,
    unit: String,
    sub: String,
}

/// Chart and tables of one phase.
#[derive(Serialize)]
struct PhaseOperators {
    phase: String,
    chart: Chart,
    by_class: Table,
    by_module: Table,
    by_layer: Table,
    layers: usize,
}

/// What the script and other programs may read from the page.
#[derive(Serialize)]
struct Data<'a> {
    metrics: &'a crate::record::metrics::Stage1Metrics,
    itl: serde_json::Map<String, serde_json::Value>,
}

/// `report.html`.
pub fn report_html(report: &Stage1Report<'_>) -> Result<String, ReportError> {
    let metrics = report.metrics;
    let mut context = Context::new();
    context.insert("style", STYLE);
    context.insert("script", SCRIPT);
    context.insert("style_hash", &csp_hash(STYLE));
    context.insert("script_hash", &csp_hash(SCRIPT));
    context.insert("command", &metrics.command);
    context.insert("run_id", &metrics.run_id);
    context.insert("generated_at", report.generated_at);
    context.insert("valid", &metrics.validity.is_valid());
    context.insert("verdict", view::verdict(report));
    context.insert("verdict_text", &verdict_text(report));
    context.insert("reasons", &short(&metrics.validity.reasons));
    context.insert("model", &escape::cut(&escape::one_line(&metrics.model.name), 120));
    context.insert("device", &escape::cut(&escape::one_line(&metrics.hardware.device), 120));
    context.insert("model_line", &model_line(report));
    context.insert("cards", &cards(report));
    context.insert("findings", &advice::findings(report));
    context.insert("headline", &tables::headline(report));
    context.insert("cases", &tables::cases(report));
    context.insert("many_cases", &(metrics.cases.len() != 1));
    context.insert("phases", &tables::phases(report));
    context.insert("reconciliation", &tables::reconciliation(report));
    context.insert("measurement", &tables::measurement(report));
    context.insert("prediction_quality", &tables::prediction_quality(report));
    context.insert("repeats", &tables::repeats(report, view::REPEATS_SHOWN));
    context.insert("repeats_left_out", &view::repeats_left_out(report));
    context.insert("memory", &tables::memory(report));
    context.insert("gpu_facts", &gpu::facts(report));
    context.insert("gpu_metrics", &gpu::metrics(report));
    context.insert("gpu_repeats", &gpu::repeats(report, view::REPEATS_SHOWN));
    context.insert(
        "gpu_chart",
        &report.gpu.map(|telemetry| {
            chart::gpu(telemetry, &|row| chart::repeat_name(report.rows, row), "s since the first look")
        }),
    );
    context.insert("diagnostics", &tables::diagnostics(report));
    context.insert("setup", &tables::setup(report));
    context.insert("outputs", &tables::outputs(report, view::REPEATS_SHOWN));
    context.insert("environment", &tables::environment(report));
    context.insert("assumptions", &report.assumptions.iter().map(Section::from).collect::<Vec<_>>());
    context.insert("files", &view::files(report));

    context.insert("repeats_chart", &chart::repeats(&metrics.cases, report.rows));
    context.insert("timeline", &chart::timeline(report.steps));
    context.insert("roofline", &chart::roofline(metrics));
    context.insert("memory_chart", &chart::memory(&tables::memory_by_case(report)));
    let mut itls = Vec::new();
    let mut data = Data { metrics, itl: serde_json::Map::new() };
    for (at, case) in metrics.cases.iter().take(ITL_CHARTS).enumerate() {
        let (chart, series) = chart::itl(at, case, report.rows);
        data.itl.insert(chart.id.clone(), serde_json::to_value(series)?);
        itls.push(chart);
    }
    context.insert("itls", &itls);
    context.insert("itls_left_out", &metrics.cases.len().saturating_sub(ITL_CHARTS));
    let parts: Vec<PhaseOperators> = view::operator_phases(report)
        .into_iter()
        .map(|phase| {
            let by_layer = tables::by_layer(report, &phase);
            PhaseOperators {
                chart: chart::breakdown(metrics, &phase),
                by_class: tables::by_class(report, &phase),
                by_module: tables::by_module(report, &phase, MODULES),
                layers: by_layer.rows.len(),
                by_layer,
                phase,
            }
        })
        .collect();
    context.insert("operators", &parts);
    context.insert("data", &escape::script_json(&serde_json::to_string(&data)?));
    render(&context)
}

fn render(context: &Context) -> Result<String, ReportError> {
    let failed = |error: tera::Error| ReportError::Template { template: "report.html", detail: describe(&error) };
    let mut tera = Tera::new();
    tera.set_escape_fn(|text, out| out.write_all(escape::html(text).as_bytes()));
    tera.add_raw_templates(TEMPLATES).map_err(failed)?;
    tera.render("report.html", context).map_err(failed)
}

fn short(texts: &[String]) -> Vec<String> {
    texts.iter().map(|text| escape::cut(&escape::one_line(text), 600)).collect()
}

fn verdict_text(report: &Stage1Report<'_>) -> String {
    let metrics = report.metrics;
    let ok = report.rows.iter().filter(|row| row.status == crate::record::rows::RowStatus::Ok).count();
    let disturbed = report.rows.iter().filter(|row| row.contention.disturbed).count();
    let mut text = format!("{ok} of {} repeats ended well", report.rows.len());
    if disturbed > 0 {
        text.push_str(&format!(", {disturbed} disturbed by other processes"));
    }
    if !matches!(metrics.status.as_str(), "complete" | "invalid") {
        text.push_str(&format!("; the run is {}", metrics.status));
    }
    text.push_str(if metrics.validity.is_valid() { "." } else { ". The numbers must not be relied on:" });
    text
}

fn model_line(report: &Stage1Report<'_>) -> String {
    let (model, hardware) = (&report.metrics.model, &report.metrics.hardware);
    let threads = hardware.threads.map_or_else(String::new, |threads| format!(" · {threads} threads"));
    let line = format!(
        "{} parameters · {} {} · {}{threads} · {} operators",
        number::parameters(model.parameters),
        Bytes(model.weights_bytes as f64),
        model.dtype,
        hardware.device_id,
        model.ops
    );
    escape::cut(&escape::one_line(&line), 200)
}

fn cards(report: &Stage1Report<'_>) -> Vec<Card> {
    const CARDS: [(&str, &str); 8] = [
        ("ttft_ms", "Time to first token"),
        ("tpot_ms", "Time per output token"),
        ("prefill_tok_per_s", "Prefill"),
        ("decode_tok_per_s", "Decode"),
        ("mfu_prefill", "MFU prefill"),
        ("mbu_decode", "MBU decode"),
        ("peak_rss_bytes", "Peak memory"),
        ("span_overhead_ratio", "Cost of operator spans"),
    ];
    CARDS
        .into_iter()
        .map(|(name, label)| {
            let summary = report.metrics.measures.get(name);
            let Some((summary, value)) = summary.and_then(|summary| Some((summary, summary.p50.or(summary.mean)?)))
            else {
                return Card {
                    label,
                    value: number::UNKNOWN.to_owned(),
                    unit: String::new(),
                    sub: "unknown".to_owned(),
                };
            };
            let written = number::in_unit(value, &summary.unit);
            let unit = number::unit_label(&summary.unit);
            // The prefix of bytes and the sign of per cent are units too.
            let (value, unit) = match written.split_once(' ') {
                Some((value, unit)) if !unit.is_empty() && unit.chars().all(|c| c.is_alphabetic() || c == '%') => {
                    (value.to_owned(), unit.to_owned())
                }
                _ => (written, unit.to_owned()),
            };
            let what = if summary.p50.is_some() { "median" } else { "mean" };
            let n = summary.n;
            let sub = match summary.ci95 {
                Some([low, high]) if low.is_finite() && high.is_finite() => {
                    let whose = if summary.mean.is_some() { "mean" } else { "median" };
                    format!("{what} of {n}; {whose} {}", number::interval(low, high, &summary.unit))
                }
                _ => format!("{what} of {n}; no interval"),
            };
            Card { label, value, unit, sub }
        })
        .collect()
}

/// The source expression of a content security policy for an inline block.
pub(super) fn csp_hash(text: &str) -> String {
    format!("sha256-{}", base64(&Sha256::digest(text.as_bytes())))
}

/// Base64 with padding (RFC 4648 §4).
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().enumerate().fold(0_u32, |word, (at, byte)| word | u32::from(*byte) << (16 - 8 * at));
        for place in 0..4 {
            let index = (word >> (18 - 6 * place)) & 63;
            out.push(if place <= chunk.len() { char::from(ALPHABET[index as usize]) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_matches_the_vectors_of_rfc_4648() {
        let vectors = ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"];
        for (length, expected) in vectors.into_iter().enumerate() {
            assert_eq!(base64(&b"foobar"[..length]), expected);
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
    fn every_theme_has_the_contrast_of_wcag_aa() {
        let themes: Vec<&str> = STYLE.split(":root {").skip(1).map(|part| part.split('}').next().unwrap()).collect();
        assert_eq!(themes.len(), 3, "light, dark and print");
        let text = [
            ("ink", "page"),
            ("ink", "panel"),
            ("muted", "panel"),
            ("muted", "page"),
            ("accent", "panel"),
            ("ok", "ok-back"),
            ("panel", "bad"),
            ("ink", "bad-back"),
            ("bad", "bad-back"),
            ("top-ink", "top"),
            ("on-dark", "k0"),
            ("on-dark", "k7"),
            ("on-dark", "k8"),
            ("on-dark", "k9"),
            ("on-light", "k1"),
            ("on-light", "k2"),
            ("on-light", "k3"),
            ("on-light", "k4"),
            ("on-light", "k5"),
            ("on-light", "k6"),
            ("on-light", "k10"),
        ];
        let lines = ["s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7"].map(|line| (line, "panel"));
        for theme in themes {
            let color = |name: &str| theme.split(&format!("--{name}: ")).nth(1).unwrap().split(';').next().unwrap();
            let contrast = |(a, b): (&str, &str)| {
                let (a, b) = (luminance(color(a)), luminance(color(b)));
                (a.max(b) + 0.05) / (a.min(b) + 0.05)
            };
            for pair in text {
                assert!(contrast(pair) >= 4.5, "{pair:?}: {} in {theme}", contrast(pair));
            }
            for pair in lines {
                assert!(contrast(pair) >= 3.0, "{pair:?}: {} in {theme}", contrast(pair));
            }
        }
    }

    #[test]
    fn style_and_script_cannot_end_their_blocks() {
        // They are pasted raw between tags and their hash must be of exactly that text.
        assert!(!STYLE.contains("</") && !SCRIPT.contains("</") && !SCRIPT.contains("<!--"));
        assert!(!STYLE.contains("url(") && !STYLE.contains("@import"));
        assert!(!STYLE.contains('\r') && !SCRIPT.contains('\r'));
    }
}
