//! `stakeholder_summary.md`: half a page for those who decide and do not tune. No word of the trade without its meaning.

use super::model::SweepReport;
use super::{verdict, words};
use crate::record::sweep::SweepMetrics;
use crate::report::compare::text::Text;
use crate::report::number::count;

/// Caveats told.
const CAVEATS: usize = 6;

/// A measure in plain words.
fn plain(name: &str) -> String {
    let (measure, statistic) = words::split(name);
    let what = match measure {
        "tpot_ms" => "time per generated token",
        "itl_ms" => "time between two generated tokens",
        "ttft_ms" => "time to the first generated token",
        "total_ms" | "e2e_ms" => "time of a whole request",
        "prefill_ms" => "time to read the prompt",
        "decode_ms" => "time to generate the answer",
        "load_ms" => "time to load the model",
        "prefill_tok_per_s" => "prompt tokens read per second",
        "decode_tok_per_s" => "tokens generated per second",
        "total_tok_per_s" => "tokens read and generated per second",
        "peak_rss_bytes" => "most memory used",
        "peak_vram_bytes" => "most GPU memory used",
        "output_tok_per_s" => "tokens generated per second, for all users together",
        "request_per_s" => "requests answered per second",
        "goodput_per_s" => "requests answered per second that kept the service level",
        "error_rate" => "share of requests that failed",
        "energy_j" => "energy",
        "energy_per_token_j" => "energy for each generated token",
        other => other,
    };
    if statistic == "p50" { what.to_owned() } else { format!("{what} ({statistic})") }
}

fn figures(metrics: &SweepMetrics) -> Vec<String> {
    let Some((_, result)) = verdict::best(metrics) else { return Vec::new() };
    words::measures(metrics)
        .iter()
        .filter_map(|name| {
            let (measure, statistic) = words::split(name);
            let summary = result.measures.get(measure)?;
            let value = words::value(words::value_of(summary, statistic), &summary.unit);
            let of = match (metrics.runs.as_str(), summary.n) {
                // A rate is one number, whatever many requests it was made of.
                ("load", 1) => String::new(),
                ("load", n) => format!(" ({} values)", count(n)),
                (_, n) => format!(" ({} repeats)", count(n)),
            };
            Some(format!("{}: {value}{of}", plain(name)))
        })
        .collect()
}

/// `stakeholder_summary.md`.
pub fn sweep_stakeholder_summary_md(report: &SweepReport<'_>) -> String {
    let metrics = report.metrics;
    let mut text = Text::new();
    text.heading(1, &format!("What came out: {}", verdict::title(metrics)));
    if metrics.validity.is_valid() {
        let sentence = match verdict::best(metrics) {
            Some((best, result)) => {
                let under = if best.constraints.is_empty() {
                    String::new()
                } else {
                    format!(", of the settings that keep to {}", best.constraints.join(" and "))
                };
                format!("Best for {}{under}: {}.", plain(&best.objective), words::name(metrics, result))
            }
            None => verdict::best_sentence(metrics).unwrap_or_else(|| {
                "The settings were measured; which of them is best depends on what is wanted.".to_owned()
            }),
        };
        text.strong(&sentence);
        let figures = figures(metrics);
        if !figures.is_empty() {
            text.heading(2, "What it gives");
            text.list(&figures);
        }
        let certainty = verdict::certainty(metrics);
        if !certainty.is_empty() {
            text.heading(2, "How sure it is");
            text.list(&certainty);
        }
    } else {
        text.strong("Nothing is concluded: no setting has a result to rely on.");
        text.list(&metrics.validity.reasons);
    }
    text.heading(2, "What was tried");
    let mut tried = vec![verdict::outcomes(metrics)];
    tried.extend(metrics.axes.iter().take(8).map(|axis| {
        let shown: Vec<&str> = axis.values.iter().take(8).map(String::as_str).collect();
        let more = axis.values.len().saturating_sub(shown.len());
        let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("{}: {}{rest}", axis.key, shown.join(", "))
    }));
    text.list(&tried);
    let warnings = verdict::warnings(metrics);
    if !warnings.is_empty() {
        text.heading(2, "Before you rely on it");
        text.list(&warnings.into_iter().take(CAVEATS).collect::<Vec<_>>());
    }
    text.paragraph(&format!("Run {}, made {}. The whole report is report.html.", metrics.run_id, report.generated_at));
    text.finish()
}
