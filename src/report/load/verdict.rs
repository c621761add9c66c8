//! The answer on top of every format: one sentence with the error rate beside it, what belongs to it, and what weakens it.

use std::cmp::Reverse;

use super::model::LoadReport;
use super::words::{self, ms, per_s};
use crate::diagnostics::{Diagnostic, Severity};
use crate::record::load::metrics::{LoadMetrics, StageBlock};
use crate::report::compare::verdict::{Card, Headline};
use crate::report::number::{count, load};

/// What was tested, in a few words.
pub(super) fn title(metrics: &LoadMetrics) -> String {
    let stages = metrics.stages.len();
    let many = match metrics.stages.as_slice() {
        [] => "no stage".to_owned(),
        [only] => only.plan.label.clone(),
        several @ [first, .., last] => {
            // A search goes up and down again.
            let axis = words::axis(metrics);
            let by_load = |a: &&StageBlock, b: &&StageBlock| {
                words::load(a, axis).unwrap_or(0.0).total_cmp(&words::load(b, axis).unwrap_or(0.0))
            };
            let low = several.iter().min_by(by_load).unwrap_or(first);
            let high = several.iter().max_by(by_load).unwrap_or(last);
            format!("{stages} stages, {} to {}", low.plan.label, high.plan.label)
        }
    };
    format!("{}, {}: {many}", metrics.backend, metrics.model)
}

/// A percentile, and whether there are enough values for it.
fn percentile(stage: &StageBlock, name: &str, which: &str) -> String {
    let Some(distribution) = words::of(stage, name) else { return ms(None) };
    let value = ms(words::statistic(distribution, which));
    words::weak(which, distribution.summary.n).map_or_else(|| value.clone(), |why| format!("{value} ({why})"))
}

/// What a stage reached, in one clause.
pub(super) fn figures(stage: &StageBlock) -> String {
    let mut parts = Vec::new();
    if stage.rates.output_tok_per_s.is_some() {
        parts.push(per_s(stage.rates.output_tok_per_s, &format!("output {}", words::tok_per_s(stage))));
    }
    if stage.rates.request_per_s.is_some() {
        parts.push(per_s(stage.rates.request_per_s, "req/s"));
    }
    if words::of(stage, "ttft_ms").is_some() {
        parts.push(format!(
            "TTFT p50 {} and p99 {}",
            percentile(stage, "ttft_ms", "p50"),
            percentile(stage, "ttft_ms", "p99")
        ));
        // What users wait who come when they come is not what a request takes once it is sent.
        if words::open(stage) && words::of(stage, "ttft_from_due_ms").is_some() {
            parts.push(format!("from due p99 {}", percentile(stage, "ttft_from_due_ms", "p99")));
        }
    } else if words::of(stage, "e2e_ms").is_some() {
        parts.push(format!(
            "E2E p50 {} and p99 {}",
            percentile(stage, "e2e_ms", "p50"),
            percentile(stage, "e2e_ms", "p99")
        ));
    }
    if words::of(stage, "tpot_ms").is_some() {
        let each = if words::by_chunks(stage) { " per chunk" } else { "" };
        parts.push(format!("TPOT {}{each}", percentile(stage, "tpot_ms", "p50")));
    }
    parts.push(words::errors(stage));
    parts.join(", ")
}

/// The best operating point in one sentence; none where nothing succeeded or nothing is best.
pub(super) fn best_sentence(metrics: &LoadMetrics) -> Option<String> {
    let stage = words::best(metrics)?;
    if words::ok(stage) == 0 {
        return None;
    }
    let what = if metrics.stages.len() > 1 { "Best at" } else { "At" };
    Some(format!("{what} {}: {}.", stage.plan.label, figures(stage)))
}

/// How all requests ended.
pub(super) fn outcomes(metrics: &LoadMetrics) -> String {
    let issued = metrics.stages.iter().map(|stage| stage.issued).fold(0, u64::saturating_add);
    let good = metrics.stages.iter().map(words::ok).fold(0, u64::saturating_add);
    let stages = metrics.stages.len() as u64;
    let stages = if stages == 1 { "1 stage".to_owned() } else { format!("{} stages", count(stages)) };
    if issued == 0 {
        return format!("No request was issued in {stages}.");
    }
    format!("Of {} in {stages} {} succeeded.", words::requests(issued), count(good))
}

/// Where throughput stops to grow, in a sentence.
pub(super) fn knee(metrics: &LoadMetrics) -> Option<String> {
    let saturation = metrics.saturation.as_ref()?;
    let knee = saturation.knee.as_ref()?;
    Some(format!(
        "Throughput stops to grow at {} {} (95 % interval {} to {}).",
        saturation.axis,
        load(knee.at),
        load(knee.ci95[0]),
        load(knee.ci95[1])
    ))
}

/// What the stages show together, in sentences.
pub(super) fn saturation(metrics: &LoadMetrics) -> Vec<String> {
    let Some(saturation) = &metrics.saturation else { return Vec::new() };
    let mut lines = Vec::new();
    if saturation.best.is_some() && !saturation.best_because.is_empty() {
        lines.push(format!("Why it is the best: {}.", saturation.best_because.trim_end_matches('.')));
    } else if saturation.best.is_none() && !saturation.best_because.is_empty() {
        lines.push(format!("No stage is called best: {}.", saturation.best_because.trim_end_matches('.')));
    }
    lines.extend(knee(metrics));
    if let Some(most) = &saturation.max_under_slo {
        let kept = most.value.map_or_else(
            || format!("No {} that was tried keeps `{}`", saturation.axis, most.slo),
            |value| format!("`{}` is kept up to {} {}", most.slo, saturation.axis, load(value)),
        );
        let broken = most.broken_at.map_or_else(
            || ", and nothing that was tried broke it".to_owned(),
            |value| format!(", and broken at {}", load(value)),
        );
        lines.push(format!("{kept}{}.", if most.value.is_some() { broken } else { String::new() }));
    }
    lines
}

/// The answer.
pub(super) fn headline(report: &LoadReport<'_>) -> Headline {
    let metrics = report.metrics;
    let valid = metrics.validity.is_valid();
    let best = best_sentence(metrics);
    let mut more = Vec::new();
    let sentence = if valid {
        best.unwrap_or_else(|| outcomes(metrics))
    } else {
        more.extend(metrics.validity.reasons.iter().map(|reason| format!("Because {}.", reason.trim_end_matches('.'))));
        more.extend(best.map(|best| format!("What was measured all the same: {best}")));
        "INVALID: these numbers must not be relied on.".to_owned()
    };
    let said = outcomes(metrics);
    if sentence != said {
        more.push(said);
    }
    more.extend(saturation(metrics));
    if metrics.status != "complete" && metrics.status != "invalid" {
        more.push(format!("The run is {}: what it measured until then is here.", metrics.status));
    }
    let clean = words::best(metrics).is_some_and(|stage| stage.error_rate.is_some_and(|rate| rate <= 0.01));
    let tone = if !valid {
        "bad"
    } else if metrics.status == "complete" && clean {
        "ok"
    } else {
        "warn"
    };
    Headline { sentence: format!("{}{sentence}", if valid { "VALID. " } else { "" }), more, tone }
}

/// What weakens the answer, the gravest first.
pub(super) fn warnings(metrics: &LoadMetrics) -> Vec<String> {
    let mut found: Vec<_> = metrics.diagnostics.iter().filter(|row| row.severity >= Severity::Warn).collect();
    found.sort_by_key(|row| Reverse(row.severity));
    // The sentence is of the first; where it has the number itself, or there is no further, that is all.
    let all = |row: &Diagnostic| {
        let number = count(row.count);
        let told = row.first.split(|c: char| !c.is_ascii_digit()).any(|word| word == number);
        if row.count > 1 && !told { format!(" (in all: {number})") } else { String::new() }
    };
    found.iter().map(|row| format!("{}{}", row.first, all(row))).collect()
}

/// Figures on top of the page, of the stage that stands for the run; the error rate stands beside each.
pub(super) fn cards(metrics: &LoadMetrics) -> Vec<Card> {
    let Some(stage) = words::best(metrics).filter(|stage| words::ok(stage) > 0) else { return Vec::new() };
    let beside = |what: String| format!("{what}; {}", words::errors(stage));
    let at = |label: &str| format!("{label} at {}", stage.plan.label);
    let mut cards = vec![Card {
        label: at(if words::by_chunks(stage) { "Output chunks, tokens not counted" } else { "Output tokens" }),
        value: per_s(stage.rates.output_tok_per_s, words::tok_per_s(stage)),
        sub: beside(per_s(stage.rates.request_per_s, "req/s")),
    }];
    for (name, label) in [("ttft_ms", "TTFT"), ("tpot_ms", "TPOT"), ("e2e_ms", "E2E")] {
        let Some(distribution) = words::of(stage, name) else { continue };
        cards.push(Card {
            label: at(label),
            value: ms(words::statistic(distribution, "p50")),
            sub: beside(format!("median of {}; p99 {}", count(distribution.summary.n), percentile(stage, name, "p99"))),
        });
    }
    if let Some(goodput) = stage.goodput.first() {
        cards.push(Card {
            label: at(&format!("Goodput, {}", goodput.slo)),
            value: per_s(goodput.request_per_s, "req/s"),
            sub: beside(format!("{} of {} kept it", count(goodput.good), count(goodput.of))),
        });
    }
    cards.truncate(4);
    cards
}
