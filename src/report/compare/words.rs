//! The answer in words: one vocabulary for every format. Nothing here names a winner where the work was not the same.

use crate::compare::equal_work::split_case;
use crate::compare::measure::{self, Direction};
use crate::compare::result::{
    ChangeKind, CompareMetrics, Comparison, Difference, DifferenceKind, RuleOutcome, Verdict,
};
use crate::compare::subject::SubjectKind;
use crate::report::analyze::format::duration;
use crate::report::number::{self, UNKNOWN, digits};

/// What the report says of one comparison: the verdict, or that there can be none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The verdict of the comparison.
    Verdict(Verdict),
    /// The candidate did not do the same work: no verdict is shown, whatever the numbers say.
    NotComparable,
}

/// Whether an outcome is good news. The words say it; colour and sign repeat it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// Better.
    Good,
    /// Worse.
    Bad,
    /// Neither: the same, or a measure of which no side is better.
    Neutral,
    /// Not decided, or not comparable.
    Open,
}

impl Outcome {
    /// Stable word for files.
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::NotComparable => "not_comparable",
            Self::Verdict(verdict) => match verdict {
                Verdict::Faster => "faster",
                Verdict::Slower => "slower",
                Verdict::Lower => "lower",
                Verdict::Higher => "higher",
                Verdict::Same => "same",
                Verdict::CannotTell => "cannot_tell",
            },
        }
    }
    /// The verdict as a reader says it.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::NotComparable => "not the same work",
            Self::Verdict(Verdict::Same) => "the same",
            Self::Verdict(Verdict::CannotTell) => "cannot tell",
            Self::Verdict(Verdict::Faster | Verdict::Slower | Verdict::Lower | Verdict::Higher) => self.code(),
        }
    }
    /// Good or bad news, for a measure of `direction`.
    pub(super) fn news(self, direction: Direction) -> News {
        match self {
            Self::Verdict(Verdict::Faster) => News::Good,
            Self::Verdict(Verdict::Slower) => News::Bad,
            Self::Verdict(Verdict::Lower) => match direction {
                Direction::LowerIsBetter => News::Good,
                Direction::HigherIsBetter => News::Bad,
                Direction::Neutral => News::Neutral,
            },
            Self::Verdict(Verdict::Higher) => match direction {
                Direction::LowerIsBetter => News::Bad,
                Direction::HigherIsBetter => News::Good,
                Direction::Neutral => News::Neutral,
            },
            Self::Verdict(Verdict::Same) => News::Neutral,
            Self::Verdict(Verdict::CannotTell) | Self::NotComparable => News::Open,
        }
    }
    /// Whether a difference was found.
    pub(super) fn decided(self) -> bool {
        !matches!(self, Self::NotComparable | Self::Verdict(Verdict::Same | Verdict::CannotTell))
    }
}

impl News {
    /// A sign that needs no colour.
    pub(super) fn sign(self, outcome: Outcome) -> &'static str {
        match (self, outcome) {
            (Self::Good, _) => "✓",
            (Self::Bad, _) => "✗",
            (Self::Open, _) => "?",
            (Self::Neutral, Outcome::Verdict(Verdict::Same)) => "=",
            (Self::Neutral, _) => "≠",
        }
    }
}

/// The facts that make `candidate` incomparable, those of single cases too.
pub(super) fn not_the_same_work<'a>(
    metrics: &'a CompareMetrics,
    candidate: &'a str,
) -> impl Iterator<Item = &'a Difference> {
    let of = move |row: &&Difference| row.kind == DifferenceKind::NotTheSameWork && row.candidate_label == candidate;
    metrics.differences.iter().filter(of)
}

/// The facts that make one comparison impossible: a fact of a case speaks for that case only.
fn refusals<'a>(metrics: &'a CompareMetrics, row: &'a Comparison) -> impl Iterator<Item = &'a Difference> {
    not_the_same_work(metrics, &row.candidate_label).filter(|difference| {
        let case = split_case(&difference.fact).0;
        case.is_none() || case == row.case.as_deref()
    })
}

/// What is said of `row`. Rows of an A/A control carry a label of their own, so no difference applies to them.
pub(super) fn outcome(metrics: &CompareMetrics, row: &Comparison) -> Outcome {
    match refusals(metrics, row).next() {
        Some(_) => Outcome::NotComparable,
        None => Outcome::Verdict(row.verdict),
    }
}

/// Why: the reason of the comparison, or what was not the same.
pub(super) fn reason(metrics: &CompareMetrics, row: &Comparison) -> String {
    let facts: Vec<&str> = refusals(metrics, row).map(|difference| difference.fact.as_str()).collect();
    if facts.is_empty() { row.reason.clone() } else { format!("not the same work: {}", facts.join(", ")) }
}

/// Stable word for files.
pub(super) fn direction_code(direction: Direction) -> &'static str {
    match direction {
        Direction::LowerIsBetter => "lower_is_better",
        Direction::HigherIsBetter => "higher_is_better",
        Direction::Neutral => "neutral",
    }
}

/// Which way is better, in words.
pub(super) fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::LowerIsBetter => "lower is better",
        Direction::HigherIsBetter => "higher is better",
        Direction::Neutral => "neither way is better",
    }
}

/// Stable word for files.
pub(super) fn change_code(change: ChangeKind) -> &'static str {
    match change {
        ChangeKind::Changed => "changed",
        ChangeKind::New => "new",
        ChangeKind::Gone => "gone",
        ChangeKind::Idle => "idle",
        ChangeKind::Overlap => "overlap",
        ChangeKind::Unattributed => "unattributed",
    }
}

/// How much a difference matters, in words.
pub(super) fn difference(kind: DifferenceKind) -> &'static str {
    match kind {
        DifferenceKind::Studied => "studied",
        DifferenceKind::Note => "note",
        DifferenceKind::Flag => "weakens the comparison",
        DifferenceKind::NotTheSameWork => "not the same work",
    }
}

/// Where a subject comes from, in words.
pub(super) fn subject(kind: SubjectKind) -> &'static str {
    match kind {
        SubjectKind::Stage1 => "in-process runs",
        SubjectKind::Trace => "GPU trace",
        SubjectKind::Load => "load test",
        SubjectKind::Imported => "imported from another tool",
    }
}

/// How a rule came out, in words.
pub(super) fn rule(outcome: RuleOutcome) -> &'static str {
    match outcome {
        RuleOutcome::Passed => "passed",
        RuleOutcome::Failed => "FAILED",
        RuleOutcome::Undecided => "undecided",
        RuleOutcome::Missing => "no such measure",
    }
}

/// A relative change with its sign, e.g. `−4.90 %`, `+12.3 %`, `12.4×` from three times on; `–` if it is not finite.
pub(super) fn change(ratio: f64) -> String {
    let value = (ratio - 1.0) * 100.0;
    if !value.is_finite() {
        return UNKNOWN.to_owned();
    }
    if ratio.abs() >= 3.0 {
        return format!("{}×", digits(ratio));
    }
    let text = if value.abs() >= 9.995 { format!("{:.1}", value.abs()) } else { format!("{:.2}", value.abs()) };
    let nothing = text.bytes().all(|byte| matches!(byte, b'0' | b'.'));
    let sign = match () {
        () if nothing => "",
        () if value < 0.0 => "−",
        () => "+",
    };
    format!("{sign}{text} %")
}

/// A difference of two values, e.g. `+1.200 ms`; of two shares in percentage points, which a relative change is not.
pub(super) fn shift(value: Option<f64>, unit: &str) -> String {
    let Some(value) = value.filter(|value| value.is_finite()) else { return UNKNOWN.to_owned() };
    let sign = match () {
        () if value > 0.0 => "+",
        () if value < 0.0 => "−",
        () => "",
    };
    let size = value.abs();
    if unit == "ratio" {
        format!("{sign}{} pp", digits(size * 100.0))
    } else {
        format!("{sign}{}", self::value(Some(size), unit))
    }
}

/// [`change`] of a ratio that may be unknown.
pub(super) fn maybe_change(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| UNKNOWN.to_owned(), change)
}

/// A relative size without a sign, e.g. `0.82 %`; `–` if it is not known.
pub(super) fn size(part: Option<f64>) -> String {
    match part.filter(|part| part.is_finite()) {
        None => UNKNOWN.to_owned(),
        Some(part) if part.abs() >= 1e4 => format!("{} %", digits(part * 100.0)),
        Some(part) => number::percent(part),
    }
}

/// A share that must not be rounded up to all, e.g. `99.9988 %`; `–` if it is not known.
pub(super) fn share(part: Option<f64>) -> String {
    match part.filter(|part| part.is_finite()) {
        Some(part) if part < 1.0 && part > 0.9995 => {
            let text = format!("{:.4} %", part * 100.0);
            if text.starts_with("100") { "> 99.9999 %".to_owned() } else { text }
        }
        part => size(part),
    }
}

/// A share of a change with its sign, e.g. `−38.5 %`.
pub(super) fn signed_share(part: f64) -> String {
    match part {
        part if !part.is_finite() || part == 0.0 => size(Some(part)),
        part if part < 0.0 => format!("−{}", size(Some(-part))),
        part => format!("+{}", size(Some(part))),
    }
}

/// An interval of durations with their signs, a common unit written once; none if it is not known.
pub(super) fn duration_interval(ends: Option<[f64; 2]>) -> Option<String> {
    let [low, high] = ends.filter(|ends| ends.iter().all(|end| end.is_finite()))?;
    let (low, high) = (signed_duration(low), signed_duration(high));
    let low = match (low.split_once(' '), high.split_once(' ')) {
        (Some((value, a)), Some((_, b))) if a == b => value.to_owned(),
        _ => low,
    };
    Some(format!("{low} to {high}"))
}

/// An amount of money in three digits, e.g. `1.67`, `0.00412`.
pub(super) fn money(value: f64) -> String {
    match value.abs() {
        magnitude if !value.is_finite() || magnitude >= 1e9 => digits(value),
        magnitude if magnitude >= 0.0995 => format!("{value:.2}"),
        0.0 => "0".to_owned(),
        magnitude => {
            let decimals = (2 - magnitude.log10().floor() as i32).clamp(2, 12) as usize;
            format!("{value:.decimals$}")
        }
    }
}

/// The interval of a ratio as changes, e.g. `−6.01 % to −3.80 %`; none if it is not known.
pub(super) fn interval(ends: Option<[f64; 2]>) -> Option<String> {
    let [low, high] = ends?;
    (low.is_finite() && high.is_finite()).then(|| format!("{} to {}", change(low), change(high)))
}

/// A p value: four digits, or `< 0.0001`.
pub(super) fn p_value(p: Option<f64>) -> String {
    match p.filter(|p| p.is_finite()) {
        None => UNKNOWN.to_owned(),
        Some(p) if p < 1e-4 => "< 0.0001".to_owned(),
        Some(p) => format!("{p:.4}"),
    }
}

/// A duration with its sign, e.g. `+1.200 µs`.
pub(super) fn signed_duration(ns: f64) -> String {
    if !ns.is_finite() {
        return UNKNOWN.to_owned();
    }
    // Minus nothing is nothing.
    let sign = match () {
        () if ns > 0.0 => "+",
        () if ns < 0.0 => "−",
        () => "",
    };
    format!("{sign}{}", duration(ns.abs()))
}

/// A value with its unit, e.g. `12.30 ms`.
pub(super) fn value(value: Option<f64>, unit: &str) -> String {
    let Some(value) = value.filter(|value| value.is_finite()) else { return UNKNOWN.to_owned() };
    let text = if unit == "ratio" { size(Some(value)) } else { number::in_unit(value, unit) };
    // A minus as long as the plus; exponents keep their hyphen.
    let text = text.strip_prefix('-').map_or_else(|| text.clone(), |rest| format!("−{rest}"));
    let unit = number::unit_label(unit);
    if unit.is_empty() { text } else { format!("{text} {unit}") }
}

/// The measure with its case, e.g. `tpot_ms of chat-128`.
pub(super) fn measured(row: &Comparison) -> String {
    match &row.case {
        Some(case) => format!("{} of {case}", row.measure),
        None => row.measure.clone(),
    }
}

/// What was found for one measure, one sentence without a full stop.
pub(super) fn finding(metrics: &CompareMetrics, row: &Comparison) -> String {
    let outcome = outcome(metrics, row);
    let what = format!("{} ({})", measured(row), row.statistic);
    let of = |verb: &str| format!("{}: {what} {verb}", row.candidate_label);
    let change = match row.ratio.filter(|ratio| ratio.is_finite()) {
        Some(ratio) => {
            let interval = interval(row.ci95).map_or_else(
                || "no interval: too few values".to_owned(),
                |interval| format!("95 % interval {interval}"),
            );
            format!("{} against {} ({interval})", self::change(ratio), row.baseline_label)
        }
        None => format!("no ratio to {} is known", row.baseline_label),
    };
    match outcome {
        Outcome::NotComparable => of("is not judged, because the work was not the same"),
        Outcome::Verdict(verdict) => match verdict {
            Verdict::Faster | Verdict::Slower => of(&format!("is {}: {change}", outcome.words())),
            Verdict::Lower | Verdict::Higher => {
                let good = match outcome.news(row.direction) {
                    News::Good => ", which is better",
                    News::Bad => ", which is worse",
                    News::Neutral | News::Open => "",
                };
                of(&format!("is {}{good}: {change}", outcome.words()))
            }
            Verdict::Same => of(&format!("is the same within ±{}: {change}", size(Some(row.margin)))),
            Verdict::CannotTell => of(&format!("cannot be told: {change}")),
        },
    }
}

/// Rank of a measure among those that stand on top: what users ask for first. Lower comes first.
pub(super) fn rank(name: &str) -> usize {
    const FIRST: [&str; 14] = [
        "tpot_ms",
        "ttft_ms",
        "decode_tok_per_s",
        "prefill_tok_per_s",
        "output_tok_per_s",
        "request_per_s",
        "goodput",
        "itl_ms",
        "e2e_ms",
        "total_ms",
        "total_tok_per_s",
        "decode_ms",
        "prefill_ms",
        "peak_rss_bytes",
    ];
    let base = name.split('.').next().unwrap_or(name);
    let known = FIRST.iter().position(|first| *first == base);
    known.unwrap_or(if measure::kind(name).is_speed { FIRST.len() } else { FIRST.len() + 1 })
}

/// The comparisons, those of the best-known measures first, otherwise in their order.
pub(super) fn ranked(metrics: &CompareMetrics) -> Vec<&Comparison> {
    let mut rows: Vec<&Comparison> = metrics.comparisons.iter().collect();
    rows.sort_by_key(|row| rank(&row.measure));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_signed_and_rounded_for_their_size() {
        for (ratio, text) in [
            (0.951, "−4.90 %"),
            (1.123, "+12.3 %"),
            (1.0, "0.00 %"),
            (0.99999, "0.00 %"),
            (12.4, "12.40×"),
            (0.0, "−100.0 %"),
            (f64::NAN, "–"),
        ] {
            assert_eq!(change(ratio), text, "{ratio}");
        }
        assert_eq!(interval(Some([0.94, 1.02])).as_deref(), Some("−6.00 % to +2.00 %"));
        assert_eq!(interval(Some([f64::NAN, 1.0])), None);
        assert_eq!((p_value(Some(0.0)).as_str(), p_value(Some(0.0312)).as_str()), ("< 0.0001", "0.0312"));
        assert_eq!(value(Some(-1.5), "ms"), "−1.500 ms");
        assert_eq!((share(Some(0.999_988)).as_str(), share(Some(0.999_999_9)).as_str()), ("99.9988 %", "> 99.9999 %"));
        assert_eq!((share(Some(1.0)).as_str(), share(Some(0.5)).as_str()), ("100 %", "50.0 %"));
        assert_eq!((signed_share(-0.385).as_str(), signed_share(0.0).as_str()), ("−38.5 %", "0.0 %"));
        assert_eq!(duration_interval(Some([-1.54e6, -1.46e6])).as_deref(), Some("−1.540 to −1.460 ms"));
        assert_eq!(duration_interval(Some([-1.54e6, 20.0])).as_deref(), Some("−1.540 ms to +20 ns"));
        assert_eq!((money(1.6667), money(0.5), money(0.004_123)), ("1.67".into(), "0.50".into(), "0.00412".into()));
        assert_eq!((signed_duration(-1500.0).as_str(), signed_duration(0.0).as_str()), ("−1.500 µs", "0 ns"));
    }

    #[test]
    fn lower_memory_is_good_news_and_lower_utilisation_bad() {
        let lower = Outcome::Verdict(Verdict::Lower);
        assert_eq!(lower.news(Direction::LowerIsBetter), News::Good);
        assert_eq!(lower.news(Direction::HigherIsBetter), News::Bad);
        assert_eq!(lower.news(Direction::Neutral), News::Neutral);
        assert_eq!(Outcome::NotComparable.news(Direction::LowerIsBetter), News::Open);
    }
}
