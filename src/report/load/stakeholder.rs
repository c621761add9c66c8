//! `stakeholder_summary.md`: half a page for a colleague who decides and does not tune. No word of the trade without its meaning.

use super::model::LoadReport;
use super::{verdict, words};
use crate::record::load::metrics::{LoadMetrics, StageBlock};
use crate::report::compare::text::Text;
use crate::report::number::{self, count, digits, percent};

/// Caveats told.
const CAVEATS: usize = 6;

/// Milliseconds for somebody who does not think in them.
fn time(ms: f64) -> String {
    if ms >= 1000.0 { format!("{:.1} seconds", ms / 1e3) } else { format!("{} milliseconds", digits(ms)) }
}

/// What a stage asks of the server.
fn load(stage: &StageBlock) -> String {
    match (stage.plan.concurrency, stage.plan.rate) {
        (Some(1), _) => "one user at a time".to_owned(),
        (Some(users), _) => {
            format!("{} users at once, each asking again as soon as it was answered", count(users.into()))
        }
        (None, Some(rate)) => format!("{} requests arriving per second", number::load(rate)),
        (None, None) => format!("the load {}", stage.plan.label),
    }
}

/// [`load`] without what repeats.
fn short(stage: &StageBlock) -> String {
    load(stage).replace(", each asking again as soon as it was answered", "")
}

/// A stage in one line for those who read no tables: load, answers, waits and errors.
fn in_words(stage: &StageBlock) -> String {
    let ended = stage.stopped.as_ref().map_or_else(String::new, |why| format!("; given up: {why}"));
    if words::ok(stage) == 0 {
        return format!("With {}: none of {} succeeded{ended}", short(stage), words::requests(stage.issued));
    }
    let mut parts = Vec::new();
    parts.extend(stage.rates.request_per_s.map(|rate| format!("{} answers per second", digits(rate))));
    parts.extend(words::value(stage, "ttft_ms", "p50").map(|ms| format!("an answer begins after {}", time(ms))));
    parts.extend(
        words::value(stage, "e2e_ms", "p50").map(|ms| format!("and is whole after {} in the middle case", time(ms))),
    );
    parts.push(words::errors(stage));
    format!("With {}: {}{ended}", short(stage), parts.join(", "))
}

fn tested(report: &LoadReport<'_>) -> Vec<String> {
    let metrics = report.metrics;
    let workload = &metrics.workload;
    let mut lines = vec![format!(
        "The server `{}` with the model `{}`, asked with prompts of `{}` ({} different ones).",
        metrics.backend,
        metrics.model,
        workload.dataset,
        count(workload.distinct)
    )];
    if let (Some(first), Some(last)) = (metrics.stages.first(), metrics.stages.last()) {
        let steps = metrics.stages.len() as u64;
        lines.push(if steps == 1 {
            format!("One load: {}.", load(first))
        } else {
            format!("{} loads, from {} to {}.", count(steps), short(first), load(last))
        });
    }
    lines.push(verdict::outcomes(metrics));
    lines
}

/// What one stage means for those who use the server.
fn can_do(stage: &StageBlock) -> Vec<String> {
    let mut lines = Vec::new();
    let mut push = |text: String| lines.push(text);
    if let Some(rate) = stage.rates.request_per_s {
        push(format!("It answers {} requests per second.", digits(rate)));
    }
    if let Some(rate) = stage.rates.output_tok_per_s {
        push(if words::by_chunks(stage) {
            format!(
                "All users together get {} pieces of text per second; how many tokens that is the server does not say.",
                digits(rate)
            )
        } else {
            format!("All users together get {} tokens (pieces of words) per second.", digits(rate))
        });
    }
    if let Some(rate) = stage.rates.per_user_tok_per_s.filter(|_| !words::by_chunks(stage)) {
        push(format!("One user sees {} tokens per second.", digits(rate)));
    }
    let at = |name: &str, which: &str| words::value(stage, name, which).map(time);
    // Too few requests do not say what 1 of 20 waits.
    let slow = |name: &str, does: &str| {
        let enough = words::of(stage, name).is_some_and(|one| words::weak("p95", one.summary.n).is_none());
        let slow = at(name, "p95").filter(|_| enough);
        slow.map_or_else(String::new, |slow| format!("; 1 of 20 {does} {slow} or more"))
    };
    if let Some(usual) = at("ttft_ms", "p50") {
        let slow = slow("ttft_ms", "waits");
        push(format!("An answer begins to appear after {usual} in the middle case{slow}."));
    }
    if let Some(usual) = at("e2e_ms", "p50") {
        push(format!("A whole answer takes {usual} in the middle case{}.", slow("e2e_ms", "takes")));
    }
    match stage.error_rate {
        Some(0.0) => push("No request failed.".to_owned()),
        Some(rate) => push(format!("{} of the requests failed.", percent(rate))),
        None => {}
    }
    for good in &stage.goodput {
        if let Some(share) = good.share {
            let kept = if good.kept { "which is what was asked for" } else { "which is too few" };
            push(format!("{} of the requests kept the service level `{}`, {kept}.", percent(share), good.slo));
        }
    }
    if let Some(cost) = stage.cost.usd_per_million_output_tokens {
        push(format!("A million tokens of answers cost {} USD at the given price.", digits(cost)));
    }
    lines
}

fn breaks(metrics: &LoadMetrics) -> Vec<String> {
    let mut lines = Vec::new();
    // Where the numbers must not be relied on, nothing is concluded from them.
    let valid = metrics.validity.is_valid();
    let by_label = |label: &str| metrics.stages.iter().find(|stage| stage.plan.label == label).map(short);
    if let Some(saturation) = metrics.saturation.as_ref().filter(|_| valid) {
        let what = if saturation.axis == "rate" { "requests per second" } else { "users at once" };
        if let Some(knee) = &saturation.knee {
            lines.push(format!(
                "Beyond about {} {what} (between {} and {}) more load brings hardly more answers, only longer waits.",
                number::load(knee.at),
                number::load(knee.ci95[0]),
                number::load(knee.ci95[1])
            ));
        }
        let place =
            |peak: &crate::record::load::metrics::Peak| by_label(&peak.stage).unwrap_or_else(|| peak.stage.clone());
        if let Some(peak) = &saturation.p99_rises_at {
            lines.push(format!(
                "The slowest answers take at least twice as long as at the lightest load from {} on.",
                place(peak)
            ));
        }
        if let Some(peak) = &saturation.errors_rise_at {
            lines.push(format!("Requests begin to fail at {}.", place(peak)));
        }
        if let Some(most) = &saturation.max_under_slo {
            lines.push(match most.value {
                Some(value) => {
                    format!("The service level `{}` is kept up to {} {what}.", most.slo, number::load(value))
                }
                None => format!("The service level `{}` was kept at no load that was tried.", most.slo),
            });
        }
    }
    for stage in metrics.stages.iter().filter(|stage| stage.stopped.is_some()) {
        lines.push(format!("The test gave up at {}: {}.", load(stage), stage.stopped.as_deref().unwrap_or_default()));
    }
    if lines.is_empty() && !valid {
        lines.push("An INVALID test does not tell.".to_owned());
    } else if lines.is_empty() {
        lines.push(if metrics.stages.len() > 1 {
            "Not within the loads that were tried.".to_owned()
        } else {
            "One load does not tell; several, e.g. `concurrency=1-64x2`, would.".to_owned()
        });
    }
    lines
}

/// Whether the heaviest load gave clearly more than all lighter ones.
fn still_grows(metrics: &LoadMetrics) -> bool {
    let axis = words::axis(metrics);
    let rate = |stage: &StageBlock| stage.rates.output_tok_per_s.or(stage.rates.request_per_s);
    let mut seen: Vec<(f64, f64)> =
        metrics.stages.iter().filter_map(|stage| Some((words::load(stage, axis)?, rate(stage)?))).collect();
    seen.sort_by(|a, b| a.0.total_cmp(&b.0));
    let Some(((_, last), lighter)) = seen.split_last() else { return false };
    lighter.iter().all(|(_, rate)| *last > 1.05 * rate)
}

/// What to try, by what was seen.
fn proposals(metrics: &LoadMetrics) -> Vec<String> {
    let mut lines = Vec::new();
    if metrics.stages.iter().any(|stage| stage.client.limited) {
        lines.push(
            "Measure again from a faster or less busy machine, or with more `client.threads`: this client was the limit, not the server."
                .to_owned(),
        );
    }
    if metrics.stages.iter().any(|stage| stage.error_rate.is_some_and(|rate| rate > 0.01)) {
        lines.push(
            "Look at the table of errors in report.html first: a server that fails is not compared by its speed."
                .to_owned(),
        );
    }
    if !metrics.validity.is_valid() {
        lines.push("Mend what made the test INVALID, and measure again.".to_owned());
        return lines;
    }
    if let Some(best) = words::best(metrics).filter(|_| metrics.stages.len() > 1) {
        lines.push(format!("Run the server at about {} ({}).", short(best), best.plan.label));
    }
    let waits = words::best(metrics).and_then(|stage| {
        let [first, whole] = ["ttft_ms", "e2e_ms"].map(|name| words::value(stage, name, "p50"));
        Some(first? / whole?)
    });
    if let Some(share) = waits.filter(|share| *share > 0.3) {
        lines.push(format!(
            "{} of an answer's time passes before its first word: look at queueing, prompt lengths and the prompt cache.",
            percent(share)
        ));
    }
    if metrics.saturation.as_ref().is_some_and(|saturation| saturation.knee.is_none()) && still_grows(metrics) {
        lines.push("Try higher loads: throughput still grew at the last one.".to_owned());
    }
    let few = words::best(metrics).and_then(|stage| words::of(stage, "e2e_ms")).map(|one| one.summary.n);
    if let Some(n) = few.filter(|n| words::weak("p99", *n).is_some()) {
        lines.push(format!(
            "Send more requests ({} were measured, 459 are needed) before quoting the slowest 1 in 100.",
            count(n)
        ));
    }
    lines
}

/// `stakeholder_summary.md`.
pub fn load_stakeholder_summary_md(report: &LoadReport<'_>) -> String {
    let metrics = report.metrics;
    let mut text = Text::new();
    text.heading(1, &format!("What the load test says: {}", verdict::title(metrics)));
    if metrics.validity.is_valid() {
        let best =
            words::best(metrics).filter(|stage| words::ok(stage) > 0).map(|stage| format!("{}.", in_words(stage)));
        text.strong(&best.unwrap_or_else(|| verdict::outcomes(metrics)));
    } else {
        text.strong("Nothing is concluded: these numbers must not be relied on.");
        text.list(&metrics.validity.reasons);
    }
    text.heading(2, "What was tested");
    text.list(&tested(report));
    if let Some(stage) = words::best(metrics).filter(|stage| words::ok(stage) > 0) {
        text.heading(2, &format!("What it can do: {}", load(stage)));
        text.list(&can_do(stage));
    }
    text.heading(2, "Where it breaks");
    text.list(&breaks(metrics));
    if metrics.stages.len() > 1 {
        text.heading(2, "Load by load");
        text.list(&metrics.stages.iter().map(in_words).collect::<Vec<_>>());
    }
    let proposals = proposals(metrics);
    if !proposals.is_empty() {
        text.heading(2, "What to try");
        text.list(&proposals);
    }
    let warnings = verdict::warnings(metrics);
    if !warnings.is_empty() {
        text.heading(2, "Before you rely on it");
        text.list(&warnings.into_iter().take(CAVEATS).collect::<Vec<_>>());
    }
    text.paragraph(&format!("Run {}, made {}. The whole report is report.html.", metrics.run_id, report.generated_at));
    text.finish()
}
