//! `stakeholder_summary.md`: half a page for those who decide and do not tune. No word of the trade without its meaning.

use super::model::CompareReport;
use super::text::Text;
use super::verdict::{self, baseline, candidates};
use super::words::{self, News, Outcome, size};
use crate::compare::result::{CompareMetrics, Comparison, Verdict};
use crate::report::number::count;

/// Measures told.
const MEASURES: usize = 6;
/// Caveats told.
const CAVEATS: usize = 6;

/// A measure in plain words.
fn plain(row: &Comparison) -> String {
    let (base, suffix) = row.measure.split_once('.').unwrap_or((&row.measure, ""));
    let name = match base {
        "tpot_ms" => "time per generated token",
        "itl_ms" => "time between two generated tokens",
        "ttft_ms" => "time to the first generated token",
        "e2e_ms" | "total_ms" => "time of a whole request",
        "prefill_ms" => "time to read the prompt",
        "decode_ms" => "time to generate the answer",
        "load_ms" => "time to load the model",
        "prefill_tok_per_s" => "prompt tokens read per second",
        "decode_tok_per_s" => "tokens generated per second once the prompt is read",
        "output_tok_per_s" => "tokens generated per second",
        "total_tok_per_s" => "tokens generated per second of a whole request",
        "input_output_tok_per_s" => "tokens read and generated per second",
        "request_per_s" => "requests per second",
        "goodput" | "goodput_per_s" => "requests per second that met their time limits",
        "peak_rss_bytes" => "most memory used",
        "peak_vram_bytes" => "most GPU memory used",
        "weights_bytes" => "memory of the model's weights",
        "energy_j" => "energy",
        "perplexity" => "perplexity (how badly the model predicts a text)",
        _ => return words::measured(row),
    };
    let tail = match suffix {
        "" => String::new(),
        "p50" => " (median)".to_owned(),
        other => match other.strip_prefix('p').filter(|digits| digits.parse::<u32>().is_ok()) {
            Some(percent) => format!(" ({percent} % of cases are at or below it)"),
            None => format!(" ({other})"),
        },
    };
    match &row.case {
        Some(case) => format!("{name}{tail}, case {case}"),
        None => format!("{name}{tail}"),
    }
}

fn told(metrics: &CompareMetrics, row: &Comparison) -> String {
    let name = plain(row);
    let who = &row.candidate_label;
    let outcome = words::outcome(metrics, row);
    let change = words::maybe_change(row.ratio);
    let interval = words::interval(row.ci95).map_or_else(
        || "; there are too few values to say how sure that is".to_owned(),
        |interval| format!("; with 95 % confidence between {}", interval.replace(" to ", " and ")),
    );
    let news = match outcome.news(row.direction) {
        News::Good => "better",
        News::Bad => "worse",
        News::Neutral | News::Open => "different",
    };
    match outcome {
        Outcome::NotComparable => format!("{who}, {name}: not judged, because the work was not the same"),
        // Copies, and counts that never vary, have no interval to speak of.
        Outcome::Verdict(Verdict::Same) if row.ci95.is_none() => format!("{who}, {name}: the same"),
        Outcome::Verdict(Verdict::Same) => {
            format!(
                "{who}, {name}: the same; with 95 % confidence any difference is smaller than {}",
                size(Some(row.margin))
            )
        }
        Outcome::Verdict(Verdict::CannotTell) => {
            let more = row.n_needed.map_or_else(String::new, |needed| {
                format!("; about {} independent runs of each side would decide", count(needed))
            });
            format!("{who}, {name}: cannot tell (measured change {change}{interval}){more}")
        }
        Outcome::Verdict(_) => format!("{who}, {name}: {news}, {change}{interval}"),
    }
}

fn certainty(report: &CompareReport<'_>) -> Vec<String> {
    let metrics = report.metrics;
    let mut lines = Vec::new();
    let judged: Vec<&Comparison> =
        metrics.comparisons.iter().filter(|row| words::outcome(metrics, row) != Outcome::NotComparable).collect();
    if judged.is_empty() {
        lines.push("No measure was judged.".to_owned());
        return lines;
    }
    let open = judged.iter().filter(|row| row.verdict == Verdict::CannotTell).count() as u64;
    let decided = judged.len() as u64 - open;
    lines.push(format!(
        "Of {} measures, {} could be decided and {} could not. A difference is only named where chance alone is an unlikely explanation; \
         \"the same\" is only said where a difference that matters is ruled out.",
        count(judged.len() as u64),
        count(decided),
        count(open)
    ));
    lines.push(match judged.iter().flat_map(|row| row.units).min().unwrap_or(0) {
        0 => "For at least one measure no independent runs were counted.".to_owned(),
        1 => "For at least one measure a side is a single run, and what differs from run to run is not seen in it."
            .to_owned(),
        least => {
            format!("For every measure each side was measured in at least {} independent runs or blocks.", count(least))
        }
    });
    match metrics.study.as_ref().map(|study| (study.control.len() as u64, study.false_alarms)) {
        Some((0, _)) => lines.push("No control run of a version against itself was made.".to_owned()),
        Some((n, alarms)) => lines.push(format!(
            "As a control, one version was compared with itself: {} of {} measures came out different although nothing differed.",
            count(alarms),
            count(n)
        )),
        None => {}
    }
    lines
}

fn cost(metrics: &CompareMetrics) -> Vec<String> {
    let lines: Vec<String> = metrics
        .cost
        .iter()
        .filter_map(|row| {
            let mut parts = Vec::new();
            if let Some(usd) = row.usd_per_million_output_tokens.filter(|usd| usd.is_finite()) {
                let price = row.usd_per_hour.filter(|usd| usd.is_finite());
                let at = price.map_or_else(String::new, |price| format!(" at {} USD an hour", words::money(price)));
                parts.push(format!("{} USD for a million generated tokens{at}", words::money(usd)));
            }
            if let Some(joule) = row.joule_per_output_token.filter(|joule| joule.is_finite()) {
                let source = row.energy_source.as_ref().map_or_else(String::new, |source| format!(" ({source})"));
                parts.push(format!("{} joule for each generated token{source}", words::value(Some(joule), "")));
            }
            let case = row.case.as_ref().map_or_else(String::new, |case| format!(", case {case}"));
            (!parts.is_empty()).then(|| format!("{}{case}: {}", row.label, parts.join(", ")))
        })
        .collect();
    if lines.is_empty() {
        vec!["Not known: no price or power was given, or no rate was measured.".to_owned()]
    } else {
        lines
    }
}

/// The first sentence: of the best-known measure, unless something else weighs more.
fn first(report: &CompareReport<'_>) -> String {
    let metrics = report.metrics;
    let judged = words::ranked(metrics).into_iter().find(|row| words::outcome(metrics, row) != Outcome::NotComparable);
    match judged.filter(|_| metrics.validity.is_valid()) {
        Some(row) => format!("{}.", told(metrics, row)),
        None => verdict::headline(report).sentence,
    }
}

/// `stakeholder_summary.md`.
pub fn compare_stakeholder_summary_md(report: &CompareReport<'_>) -> String {
    let metrics = report.metrics;
    let mut text = Text::new();
    text.heading(1, &format!("What came out: {}", verdict::title(metrics)));
    text.strong(&first(report));
    text.heading(2, "What was compared");
    let mut compared = vec![format!("Baseline, which the others are held against: {}", baseline(metrics))];
    let names = candidates(metrics);
    compared.push(if names.is_empty() {
        "Nothing stands against it.".to_owned()
    } else {
        let more = names.len().saturating_sub(8);
        let listed = names.iter().take(8).copied().collect::<Vec<_>>().join(", ");
        format!("Compared with it: {listed}{}", if more > 0 { format!(" and {more} more") } else { String::new() })
    });
    for subject in metrics.subjects.iter().take(4) {
        compared.push(format!(
            "{}: {}, {}, {} measured pieces ended well",
            subject.label,
            words::subject(subject.kind),
            subject.tool,
            count(subject.outcomes.ok)
        ));
    }
    text.list(&compared);
    text.heading(2, "What came out");
    if metrics.validity.is_valid() {
        let rows = words::ranked(metrics);
        let mut lines: Vec<String> =
            candidates(metrics).iter().take(6).map(|label| verdict::tally(metrics, label)).collect();
        let judged = rows.iter().filter(|row| words::outcome(metrics, row) != Outcome::NotComparable);
        lines.extend(judged.clone().take(MEASURES).map(|row| told(metrics, row)));
        let more = judged.count().saturating_sub(MEASURES) as u64;
        if more > 0 {
            lines.push(format!("{} more measures are in compare.md", count(more)));
        }
        if lines.is_empty() {
            lines.push("No measure was compared.".to_owned());
        }
        lines.extend(verdict::gate(metrics));
        text.list(&lines);
        text.heading(2, "How sure it is");
        text.list(&certainty(report));
    } else {
        let mut lines = vec!["The comparison is INVALID, so nothing is concluded from it:".to_owned()];
        lines.extend(metrics.validity.reasons.iter().cloned());
        text.list(&lines);
    }
    text.heading(2, "What it costs");
    text.list(&cost(metrics));
    let mut caveats = verdict::warnings(report);
    let more = caveats.len().saturating_sub(CAVEATS);
    caveats.truncate(CAVEATS);
    if more > 0 {
        caveats.push(format!("{more} more are in compare.md."));
    }
    text.heading(2, "Before you decide");
    if caveats.is_empty() {
        caveats.push("No caveat was found beyond the uncertainty given above.".to_owned());
    }
    text.list(&caveats);
    text.paragraph(&format!("Run {}, report made {}.", metrics.run_id, report.generated_at));
    text.finish()
}
