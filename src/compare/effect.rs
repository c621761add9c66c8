//! The measures of a candidate against those of the baseline.

use std::collections::BTreeSet;

use super::equal_work;
use super::evidence::{self, Evidence, Refusal, Sides};
use super::fact_rules;
use super::family::{self, Families, Member};
use super::measure;
use super::pairing;
use super::result::{Comparison, Difference, DifferenceKind, Verdict};
use super::settings::{CONFIDENCE, CompareSettings, fits, split_statistic, statistic_name};
use super::subject::{MeasureValues, Subject};
use super::verdict::{self, Detectable, Terms};
use super::words;
use crate::diagnostics::{Diagnostic, Diagnostics, Severity};
use crate::stats::bootstrap::{Bootstrap, Statistic};
use crate::stats::ratio::Groups;

/// What came out of comparing two subjects.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Compared {
    /// Every measure both have, headline measures first.
    pub comparisons: Vec<Comparison>,
    /// Measures that could not be compared, and other findings.
    pub diagnostics: Vec<Diagnostic>,
}

/// Compares all measures of `candidate` with those of `baseline`.
///
/// `differences` are those of [`super::equal_work::differences`]; `controls` are the comparisons of an A/A control, which set the noise
/// floor (empty where none was run).
///
/// A measure is faster, slower, lower or higher where the 95 % interval of the ratio excludes 1, the p value adjusted over all measures
/// judged together is below 5 %, and the ratio lies beyond the margin, the absolute floor and the noise floor of the control; with one
/// process each and no control, the whole interval must lie beyond `process_noise`. It is the same where its 90 % interval lies within
/// the margin (two one-sided tests at 5 %). Anything else is "cannot tell".
pub fn compare_subjects(
    baseline: &Subject,
    candidate: &Subject,
    differences: &[Difference],
    controls: &[Comparison],
    settings: &CompareSettings,
) -> Compared {
    compare_with([baseline, candidate], differences, controls, settings, true)
}

/// [`compare_subjects`], with or without what longer studies would find.
fn compare_with(
    [baseline, candidate]: [&Subject; 2],
    differences: &[Difference],
    controls: &[Comparison],
    settings: &CompareSettings,
    plans: bool,
) -> Compared {
    let mut diagnostics = Diagnostics::default();
    let mut items = pair_up(baseline, candidate, settings, &mut diagnostics);
    let mut bootstrap = Bootstrap::new(settings.resamples, settings.seed);
    for item in &mut items {
        item.unequal = unequal(differences, item.case.as_deref(), item.name);
        item.evidence = evidence::gather(item.sides, item.statistic, CONFIDENCE, &mut bootstrap);
        if let Ok(Evidence { pair, .. }) = &item.evidence
            && pair.left_out > 0
        {
            let text = format!(
                "{} values of `{}` were measured in a block that has none of the other side",
                pair.left_out, item.name
            );
            diagnostics.note("unpaired_values", Severity::Warn, text);
        }
    }
    let adjusted = adjust(&items);
    let identical = identical(baseline, candidate);
    shared_runs([baseline, candidate], identical.is_some(), &mut diagnostics);
    let mut given = Given { identical, controls, settings, detectable: plans.then(Detectable::default) };
    let mut comparisons: Vec<(Place, Comparison)> = items
        .iter()
        .zip(&adjusted)
        .map(|(item, (p, tests))| (item.place(), item.comparison([baseline, candidate], *p, *tests, &mut given)))
        .collect();
    comparisons.sort_by_key(|left| left.0);
    Compared {
        comparisons: comparisons.into_iter().map(|(_, comparison)| comparison).collect(),
        diagnostics: diagnostics.into_vec(),
    }
}

/// The absolute difference that is nothing for a measure, in its unit: its own floor, or that of all times.
pub(super) fn floor_of(name: &str, unit: &str, settings: &CompareSettings) -> f64 {
    let base = split_statistic(name).0;
    let own = settings.floors.get(name).or_else(|| settings.floors.get(base)).copied();
    let time = || seconds_in(unit).map_or(0.0, |seconds| settings.time_floor_s / seconds);
    own.unwrap_or_else(time).max(0.0)
}

/// Seconds in a unit of time.
pub(super) fn seconds_in(unit: &str) -> Option<f64> {
    match unit {
        "ns" => Some(1e-9),
        "us" | "µs" => Some(1e-6),
        "ms" => Some(1e-3),
        "s" => Some(1.0),
        _ => None,
    }
}

/// Why no winner may be named for a measure, as a clause.
pub(super) fn unequal(differences: &[Difference], case: Option<&str>, name: &str) -> Option<String> {
    let facts = |kind: DifferenceKind| -> Vec<String> {
        let of_work = |row: &&Difference| {
            kind == DifferenceKind::NotTheSameWork || fact_rules::is_work(equal_work::split_case(&row.fact).1)
        };
        let side = |value: &Option<String>| value.clone().unwrap_or_else(|| "not known".to_owned());
        equal_work::of_case(differences, kind, case)
            .filter(of_work)
            .map(|row| {
                let (left, right) = (side(&row.baseline), side(&row.candidate));
                // Hashes say nothing to a reader.
                let values = if row.fact.ends_with("sha256") { String::new() } else { format!(" {left} → {right}") };
                format!("{}{values}", equal_work::split_case(&row.fact).1)
            })
            .collect()
    };
    let not_the_same = facts(DifferenceKind::NotTheSameWork);
    if !not_the_same.is_empty() {
        return Some(format!("since the work was not the same ({})", not_the_same.join(", ")));
    }
    let kind = measure::kind(name);
    if !kind.is_speed || fact_rules::is_per_token(name) {
        return None;
    }
    let studied = facts(DifferenceKind::Studied);
    let what = "since the amount of work is varied on purpose and this is not a measure of one token";
    (!studied.is_empty()).then(|| format!("{what} ({})", studied.join(", ")))
}

/// Order of the results: the case, then what says most.
type Place = (usize, bool, bool, usize, usize);

/// One statistic of one measure of both.
struct Item<'a> {
    /// Place of the case and of the measure.
    at: (usize, usize),
    case: Option<String>,
    name: &'a str,
    statistic: Statistic,
    sides: Sides<'a>,
    unequal: Option<String>,
    evidence: Result<Evidence, Refusal>,
}

/// What all measures of a comparison share.
struct Given<'a> {
    identical: Option<&'static str>,
    controls: &'a [Comparison],
    settings: &'a CompareSettings,
    detectable: Option<Detectable>,
}

impl Item<'_> {
    /// Per-token figures come first where the work was not the same.
    fn place(&self) -> Place {
        let headline = family::headline(self.name);
        let per_token = self.unequal.is_some() && !fact_rules::is_per_token(self.name);
        (self.at.0, per_token, headline.is_none(), headline.unwrap_or(0), self.at.1)
    }

    fn key(&self) -> String {
        format!("{}.{}", self.name, statistic_name(self.statistic))
    }

    /// δ of this statistic of this measure.
    fn margin(&self, settings: &CompareSettings) -> f64 {
        let own = settings.margins.get(&self.key()).or_else(|| settings.margins.get(self.name));
        own.copied().unwrap_or(settings.margin).max(0.0)
    }

    /// The largest ratio (or its reciprocal) − 1 that the A/A control of this measure allows.
    fn noise_floor(&self, controls: &[Comparison]) -> Option<f64> {
        let statistic = statistic_name(self.statistic);
        let mine = |row: &&Comparison| row.measure == self.name && row.case == self.case && row.statistic == statistic;
        controls.iter().filter(mine).filter_map(noise_of).reduce(f64::max)
    }

    fn comparison(
        &self,
        [baseline, candidate]: [&Subject; 2],
        p_adjusted: Option<f64>,
        tests: f64,
        given: &mut Given<'_>,
    ) -> Comparison {
        let settings = given.settings;
        let kind = measure::kind(self.name);
        let unit = self.sides.baseline.unit.as_str();
        let margin = self.margin(settings);
        let mut comparison = Comparison {
            case: self.case.clone(),
            measure: self.name.to_owned(),
            unit: unit.to_owned(),
            direction: kind.direction,
            statistic: statistic_name(self.statistic),
            baseline_label: baseline.label.clone(),
            candidate_label: candidate.label.clone(),
            baseline: None,
            candidate: None,
            ratio: None,
            ci95: None,
            interval_method: None,
            shift: None,
            shift_ci95: None,
            p_value: None,
            p_adjusted,
            test: None,
            n: [self.sides.baseline, self.sides.candidate].map(|side| side.values.len() as u64),
            units: [0, 0],
            margin,
            noise_floor: self.noise_floor(given.controls),
            minimal_detectable_effect: None,
            n_needed: None,
            verdict: Verdict::CannotTell,
            reason: String::new(),
        };
        match &self.evidence {
            Err(refused) => {
                comparison.statistic.clone_from(&refused.statistic);
                [comparison.baseline, comparison.candidate] = refused.values;
                comparison.ratio = ratio_of(refused.values);
                comparison.reason = self.refused(refused, &comparison, [baseline, candidate]);
                let [left, right] = [self.sides.baseline, self.sides.candidate];
                if let Some(why) =
                    given.identical.filter(|_| left.values == right.values && left.reported == right.reported)
                {
                    comparison.verdict = Verdict::Same;
                    comparison.reason = format!("the same, since {why}");
                }
            }
            Ok(evidence) => {
                let terms = Terms {
                    kind,
                    unit,
                    margin,
                    floor: floor_of(self.name, unit, settings).max(quantum(&self.sides)),
                    noise_floor: comparison.noise_floor,
                    process_noise: process_noise(evidence, unit, settings),
                    p_adjusted,
                    tests,
                    unequal: self.unequal.as_deref(),
                    identical: given.identical.filter(|_| same_rows(&evidence.pair.baseline, &evidence.pair.candidate)),
                    plans: given.detectable.is_some(),
                };
                comparison.margin = verdict::effective_margin(evidence, &terms);
                let ruling = verdict::rule(evidence, &terms);
                let test = evidence.test(tests, super::settings::ALPHA);
                let multiple = evidence.pair.layout != pairing::Layout::OneProcess;
                [comparison.baseline, comparison.candidate] = evidence.values.map(Some);
                comparison.ratio =
                    evidence.ratio.as_ref().map(|found| found.ratio).or_else(|| ratio_of(evidence.values.map(Some)));
                comparison.ci95 = evidence.ratio.as_ref().map(|found| found.interval);
                comparison.interval_method =
                    evidence.ratio.as_ref().map(|found| evidence::method_in_words(found.method).to_owned());
                comparison.shift = evidence.shift.map(|shift| shift.shift);
                comparison.shift_ci95 = evidence.shift.and_then(|shift| shift.interval);
                comparison.p_value = test.map(|test| test.p_value);
                comparison.test = test.map(|test| test.name.to_owned());
                comparison.units = evidence.pair.units();
                let detectable = given.detectable.as_mut().filter(|_| multiple);
                comparison.minimal_detectable_effect =
                    detectable.and_then(|known| known.effect(evidence, comparison.margin, tests));
                comparison.n_needed = ruling.n_needed;
                comparison.verdict = ruling.verdict;
                comparison.reason = ruling.reason;
            }
        }
        comparison
    }

    #[expect(clippy::unused_self, reason = "it stands beside its sisters")]
    fn refused(&self, refused: &Refusal, comparison: &Comparison, subjects: [&Subject; 2]) -> String {
        let value =
            |value: Option<f64>| value.map_or("not known".to_owned(), |value| words::quantity(value, &comparison.unit));
        let ratio = comparison.ratio.map(|ratio| format!(", ratio {}", words::ratio(ratio, None))).unwrap_or_default();
        let numbers = match refused.values {
            [None, None] => String::new(),
            [left, right] => format!("{} {} → {}{ratio}: ", refused.statistic, value(left), value(right)),
        };
        let failed = subjects.iter().filter(|subject| all_failed(subject)).map(|subject| {
            let pieces = subject.outcomes.failed + subject.outcomes.oom;
            format!(
                "; {} of `{}` failed",
                if pieces == 1 { "the only piece".to_owned() } else { format!("all {pieces} pieces") },
                subject.label
            )
        });
        format!("{numbers}cannot tell, {}{}", refused.reason, failed.collect::<String>())
    }
}

/// Numbers that two files must share, and in which they do not differ, before they are taken for copies.
const COPIED_NUMBERS: usize = 3;

/// What two processes of the very same thing may differ by: nothing, for a count that never varies.
pub(super) fn process_noise(evidence: &Evidence, unit: &str, settings: &CompareSettings) -> f64 {
    if evidence.constant && measure::is_count(unit) { 0.0 } else { settings.process_noise.max(0.0) }
}

/// Why two subjects are one and the same, as a clause; `None` where they are not.
fn identical(baseline: &Subject, candidate: &Subject) -> Option<&'static str> {
    let runs = |subject: &Subject| subject.run_ids.iter().cloned().collect::<BTreeSet<String>>();
    if !baseline.run_ids.is_empty() && runs(baseline) == runs(candidate) {
        return Some("both sides are the same values of the same run");
    }
    // Files have no id. No two measurements agree in every digit of every value, so that files that do are copies.
    let same = baseline.run_ids.is_empty()
        && candidate.run_ids.is_empty()
        && baseline.measures.len() == candidate.measures.len()
        && baseline.measures.iter().zip(&candidate.measures).all(|(left, right)| {
            left.case == right.case
                && left.name == right.name
                && left.values == right.values
                && left.reported == right.reported
        });
    if !same {
        return None;
    }
    let mut numbers: BTreeSet<u64> = BTreeSet::new();
    for measure in &baseline.measures {
        numbers.extend(measure.values.iter().map(|value| value.to_bits()));
        numbers.extend(measure.reported.iter().filter_map(|summary| summary.mean).map(f64::to_bits));
    }
    let same_files = !baseline.files.is_empty() && baseline.files == candidate.files && !numbers.is_empty();
    (same_files || numbers.len() >= COPIED_NUMBERS).then_some("both sides hold the very same values")
}

/// Whether both sides are the same rows, in whatever order the runs were named.
fn same_rows(left: &Groups, right: &Groups) -> bool {
    let sorted = |groups: &Groups| {
        let mut units: Vec<Vec<u64>> =
            groups.0.iter().map(|rows| rows.iter().map(|row| row.to_bits()).collect()).collect();
        units.sort_unstable();
        units
    };
    left == right || sorted(left) == sorted(right)
}

/// Runs that stand on both sides make their values depend on each other.
fn shared_runs([baseline, candidate]: [&Subject; 2], identical: bool, diagnostics: &mut Diagnostics) {
    let shared: Vec<String> = baseline.run_ids.iter().filter(|run| candidate.run_ids.contains(run)).cloned().collect();
    if !identical && !shared.is_empty() {
        let text = format!(
            "`{}` and `{}` share {} ({}): their values are not independent, and a difference between them looks smaller than it is",
            baseline.label,
            candidate.label,
            words::count(shared.len() as u64, "run", "runs"),
            words::list(&shared)
        );
        diagnostics.note("shared_runs", Severity::Warn, text);
    }
}

/// The largest ratio (or its reciprocal) − 1 that a comparison of two equal sides allows.
pub(super) fn noise_of(control: &Comparison) -> Option<f64> {
    let [low, high] = control.ci95.filter(|[low, high]| *low > 0.0 && high.is_finite())?;
    Some((high - 1.0).max(1.0 / low - 1.0).max(0.0))
}

/// Whether pieces of a subject failed and none ended well.
pub(super) fn all_failed(subject: &Subject) -> bool {
    subject.outcomes.ok == 0 && subject.outcomes.failed + subject.outcomes.oom > 0
}

fn ratio_of([baseline, candidate]: [Option<f64>; 2]) -> Option<f64> {
    let (baseline, candidate) = baseline.zip(candidate)?;
    (baseline > 0.0 && candidate > 0.0).then(|| candidate / baseline).filter(|ratio| ratio.is_finite())
}

/// The step of a clock that shows: times of which at least half repeat others and that differ by multiples of one step. 0 for none.
fn quantum(sides: &Sides<'_>) -> f64 {
    if seconds_in(&sides.baseline.unit).is_none() {
        return 0.0;
    }
    let step = |side: &MeasureValues| {
        let sorted = crate::stats::quantile::sorted(&side.values);
        let gaps: Vec<f64> = sorted.windows(2).map(|pair| pair[1] - pair[0]).filter(|gap| *gap > 0.0).collect();
        let repeats = sorted.len().saturating_sub(gaps.len() + 1);
        let least = gaps.iter().copied().fold(f64::INFINITY, f64::min);
        // What is left beside a multiple of the step, as a share of it; the values carry the rounding of their own size.
        let multiples = gaps.iter().all(|gap| (gap / least - (gap / least).round()).abs() < 1e-3);
        if sorted.len() >= 4 && !gaps.is_empty() && 2 * repeats >= sorted.len() && multiples { least } else { 0.0 }
    };
    step(sides.baseline).max(step(sides.candidate))
}

/// Pairs the measures, by case and name.
fn pair_up<'a>(
    baseline: &'a Subject,
    candidate: &'a Subject,
    settings: &CompareSettings,
    diagnostics: &mut Diagnostics,
) -> Vec<Item<'a>> {
    let labels = [baseline.label.as_str(), candidate.label.as_str()];
    let wanted =
        |name: &str| settings.measures.is_empty() || settings.measures.iter().any(|pattern| fits(pattern, name));
    let pairs = pairing::case_pairs(baseline, candidate);
    let paired: [BTreeSet<_>; 2] =
        [pairs.iter().map(|pair| &pair.baseline).collect(), pairs.iter().map(|pair| &pair.candidate).collect()];
    for (subject, (other, paired)) in [baseline, candidate].iter().zip(labels.iter().rev().zip(&paired)) {
        for case in pairing::cases(subject).iter().filter(|case| !paired.contains(case)) {
            let text = match case {
                Some(case) => {
                    format!("`{}` has the case `{case}` and `{other}` has not: it is not compared", subject.label)
                }
                None => {
                    format!("`{}` has measures of no case and `{other}` has not: they are not compared", subject.label)
                }
            };
            diagnostics.note("case_missing", Severity::Warn, text);
        }
    }
    let mut items = Vec::new();
    // A side without cases meets a lone case and what has no case: a name found in one of the two is not missing in the other.
    let elsewhere = |subject: &Subject, name: &str| {
        pairs.len() == 2
            && pairs[0].name().is_some()
            && (pairs[0].baseline.is_none() || pairs[0].candidate.is_none())
            && subject.measures.iter().any(|measure| measure.name == name)
    };
    for (case_at, pair) in pairs.iter().enumerate() {
        let of = |subject: &'a Subject, case: &Option<String>| {
            let case = case.clone();
            subject.measures.iter().filter(move |measure| measure.case == case && wanted(&measure.name))
        };
        let lone = |subject: &Subject, other: &str, name: &str, diagnostics: &mut Diagnostics| {
            let case = pair.name().map(|case| format!(" in case `{case}`")).unwrap_or_default();
            let text = format!("`{}` has `{name}`{case} and `{other}` has not: it is not compared", subject.label);
            diagnostics.note("measure_missing", Severity::Info, text);
        };
        for (at, left) in of(baseline, &pair.baseline).enumerate() {
            let Some(right) = pairing::measure(candidate, pair.candidate.as_deref(), &left.name) else {
                if !elsewhere(candidate, &left.name) {
                    lone(baseline, labels[1], &left.name, diagnostics);
                }
                continue;
            };
            // A name that comes twice is compared once, with the first of each side.
            if items.iter().any(|item: &Item<'_>| item.at.0 == case_at && item.name == left.name) {
                continue;
            }
            for statistic in statistics(&left.name, settings) {
                items.push(Item {
                    at: (case_at, at),
                    case: pair.name(),
                    name: &left.name,
                    statistic,
                    sides: Sides { baseline: left, candidate: right, labels },
                    unequal: None,
                    evidence: Err(Refusal { values: [None; 2], statistic: String::new(), reason: String::new() }),
                });
            }
        }
        for right in of(candidate, &pair.candidate) {
            if pairing::measure(baseline, pair.baseline.as_deref(), &right.name).is_none()
                && !elsewhere(baseline, &right.name)
            {
                lone(candidate, labels[0], &right.name, diagnostics);
            }
        }
    }
    items
}

/// The median, and what was asked for.
fn statistics(name: &str, settings: &CompareSettings) -> Vec<Statistic> {
    let mut statistics = vec![Statistic::Median];
    for wanted in &settings.statistics {
        if let (pattern, Some(statistic)) = split_statistic(wanted)
            && fits(pattern, name)
            && !statistics.contains(&statistic)
        {
            statistics.push(statistic);
        }
    }
    statistics
}

/// The adjusted p value of each item and by how much its p is multiplied at most.
fn adjust(items: &[Item<'_>]) -> Vec<(Option<f64>, f64)> {
    let names: Vec<String> = items.iter().map(|item| statistic_name(item.statistic)).collect();
    let judged = |item: &Item<'_>| {
        let tested = item.evidence.as_ref().is_ok_and(|found| found.rank.is_some() || found.smooth.is_some());
        tested && item.unequal.is_none()
    };
    let of_family: Vec<usize> = (0..items.len()).filter(|at| judged(&items[*at])).collect();
    let members: Vec<Member<'_>> = of_family
        .iter()
        .map(|at| {
            let item = &items[*at];
            Member {
                scope: (item.case.as_deref(), names[*at].as_str()),
                headline: family::headline(item.name).is_some(),
                rows: [&item.sides.baseline.values, &item.sides.candidate.values],
            }
        })
        .collect();
    let families = Families::of(&members);
    let tests: Vec<f64> = (0..members.len()).map(|member| families.tests(member)).collect();
    let p_values: Vec<Option<f64>> = of_family
        .iter()
        .zip(&tests)
        .map(|(at, tests)| {
            let found = items[*at].evidence.as_ref().ok()?;
            found.test(*tests, super::settings::ALPHA).map(|test| test.p_value)
        })
        .collect();
    let mut all = vec![(None, 1.0); items.len()];
    for ((at, p), tests) in of_family.iter().zip(families.adjust(&p_values)).zip(tests) {
        all[*at] = (p, tests);
    }
    all
}

#[cfg(test)]
#[path = "effect_tests.rs"]
mod tests;
