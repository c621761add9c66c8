//! The answer on top of every format: one sentence, what belongs to it, and what weakens it.

use serde::Serialize;

use super::model::CompareReport;
use super::words::{self, News, Outcome, size};
use crate::compare::result::{CompareMetrics, Comparison, DifferenceKind, RuleOutcome, Verdict};
use crate::diagnostics::Severity;
use crate::report::number::count;

/// What the sentence about a side that did other work says.
const OTHER_WORK: &str = "did not do the same work as";

/// Sentences below the first one.
const MORE: usize = 6;

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(in crate::report) struct Headline {
    /// One sentence.
    pub sentence: String,
    /// What belongs to it, one sentence each.
    pub more: Vec<String>,
    /// `ok` where the answer stands, `warn` where it is in doubt, `bad` where there is none or the gate failed.
    pub tone: &'static str,
}

/// One figure on top of the page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(in crate::report) struct Card {
    /// What it is of.
    pub label: String,
    /// The change.
    pub value: String,
    /// Verdict and interval.
    pub sub: String,
}

/// Whether any candidate did other work than the baseline.
pub(super) fn unequal(metrics: &CompareMetrics) -> bool {
    metrics.differences.iter().any(|row| row.kind == DifferenceKind::NotTheSameWork)
}

/// Labels of the candidates in the order of the subjects, then those only the comparisons know.
pub(super) fn candidates(metrics: &CompareMetrics) -> Vec<&str> {
    let mut labels: Vec<&str> = metrics.subjects.iter().skip(1).map(|subject| subject.label.as_str()).collect();
    let compared = metrics.comparisons.iter().map(|row| row.candidate_label.as_str());
    let differing = metrics.differences.iter().map(|row| row.candidate_label.as_str());
    for label in compared.chain(differing) {
        if !labels.contains(&label) {
            labels.push(label);
        }
    }
    labels
}

/// The baseline as the reports call it.
pub(super) fn baseline(metrics: &CompareMetrics) -> &str {
    metrics
        .subjects
        .first()
        .map(|subject| subject.label.as_str())
        .or_else(|| metrics.comparisons.first().map(|row| row.baseline_label.as_str()))
        .unwrap_or("the baseline")
}

/// What is compared, in a few words.
pub(super) fn title(metrics: &CompareMetrics) -> String {
    let candidates = candidates(metrics);
    let shown: Vec<&str> = candidates.iter().take(3).copied().collect();
    let more = candidates.len() - shown.len();
    let names = match (shown.is_empty(), more) {
        (true, _) => return format!("{} and nothing to compare it with", baseline(metrics)),
        (false, 0) => shown.join(", "),
        (false, more) => format!("{} and {more} more", shown.join(", ")),
    };
    format!("{names} against {}", baseline(metrics))
}

/// How the measures of one candidate came out, counted.
pub(super) fn tally(metrics: &CompareMetrics, candidate: &str) -> String {
    let rows: Vec<&Comparison> = metrics.comparisons.iter().filter(|row| row.candidate_label == candidate).collect();
    if rows.is_empty() {
        return format!("{candidate}: no measure was compared with {}", baseline(metrics));
    }
    let refused = |row: &Comparison| words::outcome(metrics, row) == Outcome::NotComparable;
    if rows.iter().all(|row| refused(row)) {
        let facts: Vec<&str> = words::not_the_same_work(metrics, candidate).map(|row| row.fact.as_str()).collect();
        return format!(
            "{candidate}: not the same work as {} ({}), so no measure is judged",
            rows[0].baseline_label,
            facts.join(", ")
        );
    }
    let of = |wanted: &dyn Fn(&Comparison) -> bool| rows.iter().filter(|row| wanted(row)).count() as u64;
    let news = |row: &Comparison| words::outcome(metrics, row).news(row.direction);
    let same = of(&|row| words::outcome(metrics, row) == Outcome::Verdict(Verdict::Same));
    let unequal = of(&refused);
    let parts = [
        (of(&|row| news(row) == News::Good), "better"),
        (of(&|row| news(row) == News::Bad), "worse"),
        (same, "the same"),
        (of(&|row| news(row) == News::Neutral) - same, "different where neither way is better"),
        (of(&|row| news(row) == News::Open) - unequal, "not decided"),
        (unequal, "not judged, as the work was not the same"),
    ];
    let parts: Vec<String> =
        parts.iter().filter(|part| part.0 > 0).map(|(number, what)| format!("{} {what}", count(*number))).collect();
    let n = rows.len() as u64;
    let measures = if n == 1 { "measure" } else { "measures" };
    format!("{candidate} against {}: {} {measures} compared, {}", rows[0].baseline_label, count(n), parts.join(", "))
}

/// How the gate came out; none without one.
pub(super) fn gate(metrics: &CompareMetrics) -> Option<String> {
    let gate = metrics.gate.as_ref()?;
    let of = |outcome| gate.rules.iter().filter(|rule| rule.outcome == outcome).count() as u64;
    let parts: Vec<String> = [
        (RuleOutcome::Passed, "passed"),
        (RuleOutcome::Failed, "failed"),
        (RuleOutcome::Undecided, "undecided"),
        (RuleOutcome::Missing, "without such a measure"),
    ]
    .into_iter()
    .filter(|(outcome, _)| of(*outcome) > 0)
    .map(|(outcome, what)| format!("{} {what}", count(of(outcome))))
    .collect();
    let parts = if parts.is_empty() { "no rule was checked".to_owned() } else { parts.join(", ") };
    let word = match (gate.passed, of(RuleOutcome::Missing)) {
        (false, _) => "FAILED",
        (true, 0) if of(RuleOutcome::Undecided) > 0 => "did not fail",
        (true, 0) => "passed",
        (true, _) => "could not be judged in full",
    };
    Some(format!("The gate {word}: {parts}"))
}

fn full_stop(text: &str) -> String {
    let text = text.trim_end();
    if text.ends_with(['.', '!', '?', ':']) { text.to_owned() } else { format!("{text}.") }
}

/// The answer of the comparison in order of weight: those of the file where all did the same work, otherwise our own, which keep silent
/// about whoever did not.
pub(super) fn answers(metrics: &CompareMetrics) -> Vec<String> {
    if !unequal(metrics) && !metrics.sentences.is_empty() {
        return metrics.sentences.iter().map(|sentence| full_stop(sentence)).collect();
    }
    // Who did other work before all counts, everyone's count before anyone's details.
    let candidates = candidates(metrics);
    let refused: Vec<String> = metrics.sentences.iter().filter(|said| said.contains(OTHER_WORK)).cloned().collect();
    let mut all: Vec<String> = refused;
    all.extend(candidates.iter().map(|candidate| full_stop(&tally(metrics, candidate))));
    let each = if candidates.len() > 1 { 1 } else { 3 };
    for candidate in candidates {
        let rows = words::ranked(metrics).into_iter().filter(|row| row.candidate_label == candidate);
        let judged = rows.filter(|row| words::outcome(metrics, row) != Outcome::NotComparable);
        all.extend(judged.take(each).map(|row| full_stop(&words::finding(metrics, row))));
    }
    all
}

/// The answer.
pub(super) fn headline(report: &CompareReport<'_>) -> Headline {
    let metrics = report.metrics;
    let mut more: Vec<String> = Vec::new();
    let gate_failed = metrics.gate.as_ref().is_some_and(|gate| !gate.passed);
    let gate = gate(metrics).map(|text| full_stop(&text));
    if !matches!(metrics.status.as_str(), "complete" | "invalid") {
        more.push(full_stop(&format!(
            "The status of this comparison is {}: it says what was finished",
            metrics.status
        )));
    }
    let mut answers = answers(metrics);
    let open = |row: &&Comparison| words::outcome(metrics, row).news(row.direction) == News::Open;
    let all_open = metrics.comparisons.iter().all(|row| open(&row));
    let comparable = metrics.comparisons.iter().any(|row| words::outcome(metrics, row) != Outcome::NotComparable);
    // The sentence of the comparison says more than the count.
    let told = answers.iter().position(|said| said.starts_with("The gate ")).map(|at| answers.remove(at)).or(gate);
    let failed = told.clone().filter(|_| gate_failed);
    if failed.is_none() || !metrics.validity.is_valid() {
        more.extend(told);
    }
    let (sentence, tone) = if !metrics.validity.is_valid() {
        more.extend(metrics.validity.reasons.iter().map(|reason| full_stop(reason)));
        // What must not be relied on is not repeated on top; the tables have it, below the warning.
        answers.clear();
        ("This comparison is INVALID: its verdicts must not be relied on.".to_owned(), "bad")
    } else if let Some(failed) = failed {
        // Who asked for a gate wants to know that first.
        (failed, "bad")
    } else if metrics.comparisons.is_empty() {
        ("Cannot tell: no measure was compared.".to_owned(), "warn")
    } else if !comparable && answers.first().is_none_or(|said| !said.contains(OTHER_WORK)) {
        ("The sides did not do the same work, so no winner is named.".to_owned(), "bad")
    } else {
        let first = if answers.is_empty() { String::new() } else { answers.remove(0) };
        let tone = match () {
            () if !comparable || unequal(metrics) => "bad",
            () if all_open => "warn",
            () => "ok",
        };
        (first, tone)
    };
    let room = MORE.saturating_sub(more.len()).max(2);
    more.extend(answers.into_iter().take(room));
    Headline { sentence, more, tone }
}

/// What weakens the answer, the worst first.
pub(super) fn warnings(report: &CompareReport<'_>) -> Vec<String> {
    let metrics = report.metrics;
    let mut lines = Vec::new();
    for row in metrics.differences.iter().filter(|row| row.kind == DifferenceKind::Flag) {
        // The name of the fact stands in front already.
        let meaning = row.meaning.split_once("`: ").map_or(row.meaning.as_str(), |(_, meaning)| meaning);
        let known = |value: &Option<String>| value.clone().unwrap_or_else(|| "not known".to_owned());
        let values = if row.fact.ends_with("sha256") {
            format!("not the same in {} and the baseline", row.candidate_label)
        } else {
            format!("{} in {}, {} in the baseline", known(&row.candidate), row.candidate_label, known(&row.baseline))
        };
        lines.push(full_stop(&format!("{}: {values}: {meaning}", row.fact)));
    }
    for subject in &metrics.subjects {
        // Where that makes the whole comparison INVALID, the reasons stand on top.
        if !subject.validity.is_valid() && metrics.validity.is_valid() {
            let reasons = subject.validity.reasons.join("; ");
            lines.push(full_stop(&format!("{} is INVALID by itself: {reasons}", subject.label)));
        }
        let outcomes = subject.outcomes;
        let bad: Vec<String> =
            [(outcomes.failed, "failed"), (outcomes.oom, "ran out of memory"), (outcomes.interrupted, "interrupted")]
                .iter()
                .filter(|(number, _)| *number > 0)
                .map(|(number, what)| format!("{} {what}", count(*number)))
                .collect();
        if !bad.is_empty() {
            lines.push(format!(
                "{}: {}; {}.",
                subject.label,
                bad.join(", "),
                if outcomes.ok > 0 {
                    format!("only what ended well ({}) has values", count(outcomes.ok))
                } else {
                    "nothing ended well, so there are no values".to_owned()
                }
            ));
        }
        if outcomes.disturbed > 0 {
            lines.push(format!(
                "{}: {} of {} pieces ran while other processes disturbed them; their values are kept.",
                subject.label,
                count(outcomes.disturbed),
                count(outcomes.ok)
            ));
        }
    }
    if let Some(study) = &metrics.study {
        if study.control.is_empty() {
            lines.push("No A/A control was run, so the noise of this machine is not known.".to_owned());
        } else if study.false_alarms > 0 {
            lines.push(format!(
                "The A/A control (the baseline against itself) found {} of {} measures different although nothing differed.",
                count(study.false_alarms),
                count(study.control.len() as u64)
            ));
        }
    }
    // Told above, from the counts of each side.
    let told = |code: &str| matches!(code, "failed_pieces" | "disturbed_pieces" | "invalid_side");
    let shown: Vec<_> = metrics
        .diagnostics
        .iter()
        .filter(|row| row.severity != Severity::Info && (metrics.subjects.is_empty() || !told(&row.code)))
        .collect();
    lines.extend(shown.iter().map(|row| full_stop(&row.first)));
    let mut seen: Vec<String> = Vec::new();
    for line in lines {
        if !seen.contains(&line) {
            seen.push(line);
        }
    }
    seen
}

/// Figures on top of the page: the best-known measures of the candidates that can be judged.
pub(super) fn cards(metrics: &CompareMetrics) -> Vec<Card> {
    let many = candidates(metrics).len() > 1;
    words::ranked(metrics)
        .into_iter()
        .filter(|row| words::outcome(metrics, row) != Outcome::NotComparable && row.ratio.is_some())
        .take(8)
        .map(|row| {
            let outcome = words::outcome(metrics, row);
            let who = if many { format!(" · {}", row.candidate_label) } else { String::new() };
            let interval = words::interval(row.ci95).unwrap_or_else(|| "no interval".to_owned());
            Card {
                label: format!("{}{who}", words::measured(row)),
                value: words::maybe_change(row.ratio),
                sub: format!("{} {} · {interval}", outcome.news(row.direction).sign(outcome), outcome.words()),
            }
        })
        .collect()
}

/// What would decide what is not decided.
pub(super) fn hints(metrics: &CompareMetrics) -> Vec<String> {
    let mut lines = Vec::new();
    for row in words::ranked(metrics) {
        if words::outcome(metrics, row) != Outcome::Verdict(Verdict::CannotTell) {
            continue;
        }
        let what = format!("{} of {}", words::measured(row), row.candidate_label);
        if let Some(needed) = row.n_needed {
            lines.push(format!(
                "To decide {what}: about {} independent units (processes or blocks) of each side; now there are {} and {}.",
                count(needed),
                count(row.units[0]),
                count(row.units[1])
            ));
        } else if let Some(effect) = row.minimal_detectable_effect.filter(|effect| effect.is_finite()) {
            lines.push(format!(
                "{what}: this many values find changes from {} on in four of five studies.",
                size(Some(effect))
            ));
        }
    }
    lines
}
