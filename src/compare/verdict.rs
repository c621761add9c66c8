//! From evidence to a verdict and the sentence that says why.

use super::evidence::Evidence;
use super::measure::{Direction, MeasureKind};
use super::pairing::Layout;
use super::result::Verdict;
use super::settings::{ALPHA, POWER, statistic_name};
use super::{measure, words};
use crate::stats::power::{self, MOST_UNITS};
use crate::stats::ratio::{Design, IntervalMethod};

/// What a verdict depends on beside the evidence.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms<'a> {
    pub kind: MeasureKind,
    pub unit: &'a str,
    /// δ of the user.
    pub margin: f64,
    /// Absolute difference that is nothing, in the unit of the measure; 0 for none.
    pub floor: f64,
    /// Half width of an A/A control around 1.
    pub noise_floor: Option<f64>,
    /// Relative difference assumed between processes of the very same thing, for one process each.
    pub process_noise: f64,
    pub p_adjusted: Option<f64>,
    /// By how much p is multiplied at most.
    pub tests: f64,
    /// Why no winner may be named, as a clause.
    pub unequal: Option<&'a str>,
    /// Why both sides are the same rows, as a clause; `None` where they are not.
    pub identical: Option<&'static str>,
    /// Whether to compute how many units would decide.
    pub plans: bool,
}

/// A verdict, why, and how many units would decide.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ruling {
    pub verdict: Verdict,
    pub reason: String,
    pub n_needed: Option<u64>,
}

/// Relative difference that is nothing: δ, or the absolute floor where that is more.
pub(super) fn effective_margin(evidence: &Evidence, terms: &Terms<'_>) -> f64 {
    let baseline = evidence.values[0].abs();
    if terms.floor > 0.0 && baseline > 0.0 { terms.margin.max(terms.floor / baseline) } else { terms.margin }
}

/// What can be said of one measure.
pub(super) fn rule(evidence: &Evidence, terms: &Terms<'_>) -> Ruling {
    let numbers = numbers(evidence, terms.unit);
    let cannot = |why: String| Ruling {
        verdict: Verdict::CannotTell,
        reason: format!("{numbers}: cannot tell, {why}"),
        n_needed: None,
    };
    if let Some(why) = terms.unequal {
        return Ruling {
            verdict: Verdict::CannotTell,
            reason: format!("{numbers}: no winner is named, {why}"),
            n_needed: None,
        };
    }
    if let Some(why) = terms.identical {
        return Ruling { verdict: Verdict::Same, reason: format!("{numbers}: the same, since {why}"), n_needed: None };
    }
    let (first, constant) = (evidence.values[0], evidence.constant && evidence.values[0] == evidence.values[1]);
    if constant && measure::is_count(terms.unit) {
        let all = words::quantity(first, terms.unit);
        return Ruling {
            verdict: Verdict::Same,
            reason: format!("{numbers}: the same, every value of both sides is {all}"),
            n_needed: None,
        };
    }
    match &evidence.ratio {
        Some(_) => by_ratio(evidence, terms, &numbers),
        None if evidence.values.iter().all(|value| *value > 0.0)
            && evidence.shift.is_none_or(|shift| shift.interval.is_none()) =>
        {
            cannot(no_interval(evidence))
        }
        None => by_shift(evidence, terms, &numbers),
    }
}

fn by_ratio(evidence: &Evidence, terms: &Terms<'_>, numbers: &str) -> Ruling {
    let Some(estimate) = &evidence.ratio else { return by_shift(evidence, terms, numbers) };
    let margin = effective_margin(evidence, terms);
    let beyond = |ratio: f64, by: f64| ratio > 1.0 + by || ratio < 1.0 / (1.0 + by);
    let [low, high] = estimate.interval;
    let [lower, upper] = estimate.equivalence_interval;
    let one_process = evidence.pair.layout == Layout::OneProcess;
    let within = |by: f64| lower >= 1.0 / (1.0 + by) && upper <= 1.0 + by;
    let nothing = nothing_in_words(margin, terms);
    let ruling =
        |verdict, reason: String, n_needed| Ruling { verdict, reason: format!("{numbers}: {reason}"), n_needed };
    let cannot = |why: String, n_needed: Option<u64>| {
        let more = n_needed
            .map(|n| format!("; {} would decide in 4 of 5 studies if the truth is as estimated", about(n, evidence)));
        ruling(Verdict::CannotTell, format!("cannot tell, {why}{}", more.unwrap_or_default()), n_needed)
    };
    let excludes_one = low > 1.0 || high < 1.0;
    let p = terms.p_adjusted.unwrap_or(1.0);
    let needed = || terms.plans.then(|| needed(evidence, margin, terms.tests)).flatten();

    if within(margin) {
        if one_process && terms.noise_floor.is_none() {
            return cannot(format!("although these runs are {nothing} of each other: {}", unseen(evidence)), None);
        }
        if let Some(control) = terms.noise_floor.filter(|noise| *noise > terms.process_noise.max(margin)) {
            let control = words::percent(control);
            return cannot(format!("since the A/A control allows {control} between two sides that are the same"), None);
        }
        return ruling(Verdict::Same, format!("the same, {nothing}"), None);
    }
    if !excludes_one {
        return cannot("since the interval holds 1".to_owned(), if one_process { None } else { needed() });
    }
    if p >= ALPHA {
        let tests = terms.tests.ceil() as u64;
        let judged = if tests > 1 {
            format!(" (up to {tests} times the raw p, for all that is judged together)")
        } else {
            String::new()
        };
        return cannot(format!("since p is {}{judged}", words::p_value(p)), if one_process { None } else { needed() });
    }
    if !beyond(estimate.ratio, margin) {
        return cannot(format!("since the difference is not clearly {nothing} and not beyond it either"), needed());
    }
    if let Some(noise) = terms.noise_floor.filter(|noise| !beyond(estimate.ratio, *noise)) {
        return cannot(
            format!("since the A/A control allows {} between two sides that are the same", words::percent(noise)),
            None,
        );
    }
    if one_process
        && terms.noise_floor.is_none()
        && !(beyond(low, terms.process_noise) && beyond(high, terms.process_noise))
    {
        return cannot(
            format!(
                "although the values of these runs differ: {}, and differences of up to {} are put down to that",
                unseen(evidence),
                words::percent(terms.process_noise)
            ),
            None,
        );
    }
    let verdict = direction(estimate.ratio > 1.0, terms.kind);
    let mut reason = word(verdict).to_owned();
    match evidence.pair.layout {
        Layout::OneProcess => reason.push_str(&format!("; {}", unseen(evidence))),
        Layout::Blocks { one_process: true } => {
            reason.push_str("; all blocks are of one process each, and what differs between processes is not seen");
        }
        _ => {}
    }
    ruling(verdict, reason, None)
}

/// For measures that have no ratio: zeros and negative values.
fn by_shift(evidence: &Evidence, terms: &Terms<'_>, numbers: &str) -> Ruling {
    let scale = evidence.values[0].abs();
    let nothing = terms.floor.max(terms.margin * scale);
    let ruling = |verdict, reason: String| Ruling { verdict, reason: format!("{numbers}: {reason}"), n_needed: None };
    let cannot = |why: String| ruling(Verdict::CannotTell, format!("cannot tell, {why}"));
    let Some((shift, [low, high])) = evidence.shift.and_then(|shift| Some((shift, shift.interval?))) else {
        return cannot(no_interval(evidence));
    };
    let p = terms.p_adjusted.unwrap_or(1.0);
    if shift.equivalence.is_some_and(|[lower, upper]| lower >= -nothing && upper <= nothing) {
        let within =
            if nothing > 0.0 { format!(" within {}", words::quantity(nothing, terms.unit)) } else { String::new() };
        return ruling(Verdict::Same, format!("the same{within}"));
    }
    if low <= 0.0 && high >= 0.0 {
        return cannot("since the interval of the shift holds 0".to_owned());
    }
    if p >= ALPHA {
        return cannot(format!("since p is {} for all that is judged together", words::p_value(p)));
    }
    if shift.shift.abs() <= nothing {
        return cannot(format!(
            "since the shift is not beyond {}, which counts as nothing",
            words::quantity(nothing, terms.unit)
        ));
    }
    if terms.noise_floor.is_some() {
        return cannot("since the A/A control was measured as a ratio, which these values do not have".to_owned());
    }
    let verdict = direction(shift.shift > 0.0, terms.kind);
    ruling(verdict, word(verdict).to_owned())
}

/// The verdict for a measure that rose or fell.
fn direction(rose: bool, kind: MeasureKind) -> Verdict {
    match (kind.is_speed, kind.direction, rose) {
        (true, Direction::LowerIsBetter, false) | (true, Direction::HigherIsBetter, true) => Verdict::Faster,
        (true, Direction::LowerIsBetter, true) | (true, Direction::HigherIsBetter, false) => Verdict::Slower,
        (_, _, true) => Verdict::Higher,
        (_, _, false) => Verdict::Lower,
    }
}

/// The verdict as a word.
pub(super) fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Faster => "faster",
        Verdict::Slower => "slower",
        Verdict::Lower => "lower",
        Verdict::Higher => "higher",
        Verdict::Same => "the same",
        Verdict::CannotTell => "cannot tell",
    }
}

/// `within 1 %`, or the absolute floor where that is what counts.
fn nothing_in_words(margin: f64, terms: &Terms<'_>) -> String {
    if margin > terms.margin {
        format!("within {}", words::quantity(terms.floor, terms.unit))
    } else {
        format!("within {}", words::percent(margin))
    }
}

fn unseen(evidence: &Evidence) -> String {
    match evidence.pair.processes {
        [1, 1] => "one process each, and what differs between processes is not seen".to_owned(),
        _ => "one process on a side, and what differs between processes is not seen".to_owned(),
    }
}

fn about(n: u64, evidence: &Evidence) -> String {
    match evidence.pair.layout {
        Layout::Blocks { .. } => format!("about {n} blocks"),
        Layout::Processes | Layout::OneProcess => format!("about {n} processes of each side"),
    }
}

/// Why there is no interval.
fn no_interval(evidence: &Evidence) -> String {
    let [baseline, candidate] = evidence.pair.rows();
    if baseline.min(candidate) < 2 {
        let side = if baseline == candidate { "one value each" } else { "one value on a side" };
        return format!("{side} has no spread");
    }
    match evidence.pair.design {
        Design::MovingBlocks { .. } => {
            let fewest = baseline.min(candidate);
            if fewest < 5 {
                format!("{fewest} values of one process are too few for an interval (each side needs 5)")
            } else {
                "the values of one process hang together too long for an interval".to_owned()
            }
        }
        _ => "there are too few values for an interval".to_owned(),
    }
}

/// `median 12.31 ms → 13.02 ms, ratio 1.058 (95 % 1.049–1.066, n = 12 + 12 processes)`.
fn numbers(evidence: &Evidence, unit: &str) -> String {
    let [baseline, candidate] = evidence.values;
    let values = format!(
        "{} {} → {}",
        statistic_name(evidence.statistic),
        words::quantity(baseline, unit),
        words::quantity(candidate, unit)
    );
    let n = n_in_words(evidence);
    if let Some(estimate) = &evidence.ratio {
        let what = match estimate.method {
            IntervalMethod::StudentLog | IntervalMethod::SignedRank => "ratio within blocks",
            IntervalMethod::WelchLog | IntervalMethod::HierarchicalBootstrap => "ratio of the processes",
            _ => "ratio",
        };
        let interval = words::ratio_interval(estimate.interval);
        return format!(
            "{values}, {what} {} (95 % {interval}, {n})",
            words::ratio(estimate.ratio, Some(estimate.interval))
        );
    }
    let positive = baseline > 0.0 && candidate > 0.0;
    match evidence.shift {
        Some(shift) if !positive => {
            let interval = shift.interval.map(|interval| format!("95 % {}, ", words::signed_interval(interval, unit)));
            format!("{values}, shift {} ({}{n})", words::signed(shift.shift, unit), interval.unwrap_or_default())
        }
        _ if positive => format!("{values}, ratio {} ({n})", words::ratio(candidate / baseline, None)),
        _ => format!("{values} ({n})"),
    }
}

/// `n = 12 + 12 processes`.
fn n_in_words(evidence: &Evidence) -> String {
    let [left, right] = evidence.pair.rows();
    let [one, other] = evidence.pair.units();
    match evidence.pair.layout {
        Layout::Blocks { .. } if left == one && right == one => format!("n = {}", words::count(one, "block", "blocks")),
        Layout::Blocks { .. } => format!("n = {left} + {right} values in {}", words::count(one, "block", "blocks")),
        Layout::Processes if left == one && right == other => format!("n = {one} + {other} processes"),
        Layout::OneProcess if one == 1 && other == 1 => format!("n = {left} + {right} values of one process each"),
        Layout::Processes | Layout::OneProcess => format!("n = {left} + {right} values of {one} + {other} processes"),
    }
}

/// Chance of a false finding each measure may have where about `tests` are judged together.
pub(super) fn alpha_of(tests: f64) -> f64 {
    ALPHA / tests.max(1.0)
}

/// Smallest relative changes that are found in 80 % of the studies; they hang on few numbers that many measures share.
#[derive(Debug, Default)]
pub(super) struct Detectable(Vec<((u64, power::PowerDesign, u64), Option<f64>)>);

impl Detectable {
    /// Spread the effects are kept for: ln(ratio) is proportional to it, since noncentrality is ln(ratio) over the spread.
    const SPREAD: f64 = 0.01;

    /// For the units of `evidence`, never below the margin; `None` where it cannot be told.
    pub(super) fn effect(&mut self, evidence: &Evidence, margin: f64, tests: f64) -> Option<f64> {
        let spread = evidence.spread?;
        let (units, design, alpha) = (evidence.units(), evidence.power_design(), alpha_of(tests));
        let key = (units, design, alpha.to_bits());
        let known = self.0.iter().find(|(known, _)| *known == key).map(|(_, effect)| *effect);
        let effect = known.unwrap_or_else(|| {
            let ratio = power::minimal_detectable_ratio(Self::SPREAD, units, design, alpha, POWER);
            self.0.push((key, ratio.map(f64::ln)));
            ratio.map(f64::ln)
        });
        Some(((effect? * spread / Self::SPREAD).exp() - 1.0).max(margin)).filter(|effect| effect.is_finite())
    }
}

/// Units that would decide if the truth is as estimated: find a difference beyond the margin, or show that it is within.
fn needed(evidence: &Evidence, margin: f64, tests: f64) -> Option<u64> {
    let spread = evidence.spread.filter(|spread| *spread > 0.0)?;
    let truth = evidence.ratio.as_ref()?.ratio;
    let design = evidence.power_design();
    let units = evidence.units();
    let n = if truth.ln().abs() > (1.0 + margin).ln() {
        // Beyond the margin: the test must find it.
        power::units_needed(truth, spread, design, alpha_of(tests), POWER)?
    } else {
        units_for_equivalence(truth.ln().abs(), (1.0 + margin).ln(), spread, design)?
    };
    // The estimate was lucky or unlucky, but these units did not decide.
    Some(n.max(units + 1)).filter(|n| *n <= MOST_PLANNED)
}

/// More units than this are not a plan.
const MOST_PLANNED: u64 = 100_000;

/// Units for two one-sided tests at 5 % to show with chance 0.8 that a true log ratio `truth` lies within ± `margin`: the two tests share
/// the remaining 20 % where the truth is 0, the nearer one has them all where it is not (Chow, Shao & Wang 2008, §3.2.3, normal quantiles).
fn units_for_equivalence(truth: f64, margin: f64, spread: f64, design: power::PowerDesign) -> Option<u64> {
    let room = margin - truth;
    if room <= 0.0 {
        return None;
    }
    // z(0.95) = 1.6449; z(0.9) = 1.2816 and z(0.8) = 0.8416.
    let quantiles = 1.6449 + if truth < margin / 10.0 { 1.2816 } else { 0.8416 };
    let sides = if design == power::PowerDesign::Paired { 1.0 } else { 2.0 };
    let n = (sides * (quantiles * spread / room).powi(2)).ceil();
    (n < MOST_UNITS as f64).then(|| (n as u64).max(2))
}
