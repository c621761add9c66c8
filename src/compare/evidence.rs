//! What the rows of one measure say: its statistics, ratio, shift and tests. What to make of it is `verdict`'s business.

use statrs::distribution::{ContinuousCDF, StudentsT};

use super::pairing::{Layout, Pair};
use super::subject::MeasureValues;
use crate::stats::bootstrap::{Bootstrap, Statistic};
use crate::stats::hodges_lehmann;
use crate::stats::power::{self, PowerDesign};
use crate::stats::quantile;
use crate::stats::rank_test;
use crate::stats::ratio::{Groups, IntervalMethod, RatioEstimate, ratio_interval_with};
use crate::stats::summary::{Summary, mean, standard_deviation};

/// The two sides of one measure, with the names the sentences use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sides<'a> {
    pub baseline: &'a MeasureValues,
    pub candidate: &'a MeasureValues,
    pub labels: [&'a str; 2],
}

/// Why nothing can be estimated, with what is known all the same.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Refusal {
    /// Statistic of each side, where there is one.
    pub values: [Option<f64>; 2],
    /// Name of the statistic.
    pub statistic: String,
    /// The reason, as a clause.
    pub reason: String,
}

/// A p value and the smallest that so many rows allow.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Test {
    pub p_value: f64,
    pub least: f64,
    pub name: &'static str,
}

/// A shift in the unit of the measure.
#[expect(clippy::struct_field_names, reason = "a shift is called so")]
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Shift {
    pub shift: f64,
    pub interval: Option<[f64; 2]>,
    /// With twice the tails, for equivalence.
    pub equivalence: Option<[f64; 2]>,
}

/// What the rows say.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Evidence {
    pub statistic: Statistic,
    pub pair: Pair,
    /// The statistic over all rows of each side.
    pub values: [f64; 2],
    pub ratio: Option<RatioEstimate>,
    pub shift: Option<Shift>,
    /// By ranks of the units: no assumption, but with few units no small p.
    pub rank: Option<Test>,
    /// By the method of the interval: small p values with few units, at the price of an assumption.
    pub smooth: Option<Test>,
    /// Standard deviation of the logarithms among units (among blocks: of the ratios).
    pub spread: Option<f64>,
    /// Whether no side varies from unit to unit.
    pub constant: bool,
}

impl Evidence {
    /// How powers are computed for this layout.
    pub(super) fn power_design(&self) -> PowerDesign {
        match self.pair.layout {
            Layout::Blocks { .. } => PowerDesign::Paired,
            Layout::Processes | Layout::OneProcess => PowerDesign::Independent,
        }
    }

    /// Units per side that powers are computed with: the harmonic mean, if they differ.
    pub(super) fn units(&self) -> u64 {
        let [one, other] = self.pair.units().map(|units| units as f64);
        if one == 0.0 || other == 0.0 { 0 } else { (2.0 / (1.0 / one + 1.0 / other)).floor() as u64 }
    }

    /// candidate − baseline of the statistics.
    pub(super) fn difference(&self) -> f64 {
        self.values[1] - self.values[0]
    }

    /// The p value to judge by where about `tests` are judged together: by ranks, if so many tests leave them a chance.
    ///
    /// The choice depends on numbers of rows and tests and on nothing that is tested, so it favours no result. Values that do not vary at all
    /// are judged by ranks in any case: no formula knows a spread of 0.
    pub(super) fn test(&self, tests: f64, alpha: f64) -> Option<&Test> {
        let reaches = |test: &&Test| self.constant || test.least * tests <= alpha / 10.0;
        self.rank.as_ref().filter(reaches).or(self.smooth.as_ref()).or(self.rank.as_ref())
    }
}

/// Finds what the rows of `sides` say about `statistic`, with intervals at `confidence`.
pub(super) fn gather(
    sides: Sides<'_>,
    statistic: Statistic,
    confidence: f64,
    bootstrap: &mut Bootstrap,
) -> Result<Evidence, Refusal> {
    usable(sides, statistic)?;
    let pair = Pair::new(sides.baseline, sides.candidate);
    let values = [&pair.baseline, &pair.candidate].map(|side| statistic.estimate(&side.pooled()));
    let [Some(baseline), Some(candidate)] = values else {
        return Err(refusal(values, statistic, "the values are too large to sum up".to_owned()));
    };
    if let Some(reason) = unsupported(&pair, statistic) {
        return Err(refusal(values, statistic, reason));
    }
    let ratio = (baseline > 0.0 && candidate > 0.0)
        .then(|| ratio_interval_with(bootstrap, &pair.candidate, &pair.baseline, statistic, pair.design, confidence))
        .flatten();
    let units = [&pair.baseline, &pair.candidate].map(|side| unit_statistics(side, statistic));
    let [below, above] = &units;
    let logs: Option<Vec<f64>> = below.iter().zip(above).map(|(below, above)| log_ratio(*above, *below)).collect();
    let differences: Vec<f64> = below.iter().zip(above).map(|(below, above)| above - below).collect();
    let same = |values: &[f64]| values.windows(2).all(|pair| pair[0] == pair[1]);
    let median = matches!(statistic, Statistic::Median);
    let (spread, shift, rank, smooth, constant);
    match pair.layout {
        Layout::Blocks { .. } => {
            spread = power::paired_log_spread(above, below);
            shift = shift_of(|confidence| hodges_lehmann::one_sample(&differences, confidence), confidence);
            rank = signed_rank(logs.as_deref().unwrap_or(&differences));
            smooth = logs.as_deref().and_then(student);
            constant = same(&differences);
        }
        Layout::Processes => {
            spread = power::pooled_log_spread(above, below);
            shift = shift_of(|confidence| hodges_lehmann::two_sample(above, below, confidence), confidence);
            rank = mann_whitney(above, below);
            smooth = ratio.as_ref().map(by_interval);
            constant = same(above) && same(below);
        }
        Layout::OneProcess => {
            spread = None;
            let rows = [&pair.baseline, &pair.candidate].map(Groups::pooled);
            let point = hodges_lehmann::two_sample(&rows[1], &rows[0], confidence).filter(|_| median);
            shift = point.map(|point| Shift { shift: point.shift, interval: None, equivalence: None });
            rank = None;
            smooth = ratio.as_ref().map(by_interval);
            constant = same(&rows[0]) && same(&rows[1]);
        }
    }
    Ok(Evidence { statistic, values: [baseline, candidate], ratio, shift, rank, smooth, spread, constant, pair })
}

/// What the interval's own p value is called.
fn by_interval(ratio: &RatioEstimate) -> Test {
    let name = match ratio.method {
        IntervalMethod::BcaBootstrap | IntervalMethod::PercentileBootstrap => "bootstrap of the ratio",
        IntervalMethod::BootstrapT => "bootstrap of the studentized ratio",
        IntervalMethod::WelchDelta => "Welch's t test on the logarithm of the ratio of means",
        IntervalMethod::HierarchicalBootstrap => "bootstrap of the processes",
        IntervalMethod::BlockBootstrap => "bootstrap of blocks of consecutive values",
        IntervalMethod::WelchLog => "Welch's t test on the logarithms, one per process",
        IntervalMethod::StudentLog => "Student's t test on the logarithms of the blocks' ratios",
        IntervalMethod::SignedRank => "Wilcoxon's signed-rank test on the blocks' ratios",
        IntervalMethod::Extremes => {
            "whether all values of one side lie beyond all of the other (extreme outcome of Mann–Whitney)"
        }
    };
    Test { p_value: ratio.p_value, least: 0.0, name }
}

/// How an interval was made, in words.
pub(super) fn method_in_words(method: IntervalMethod) -> &'static str {
    match method {
        IntervalMethod::BootstrapT => "bootstrap-t on the logarithm of the ratio of means",
        IntervalMethod::WelchDelta => "Welch's t on the logarithm of the ratio of means, by the delta method",
        IntervalMethod::BcaBootstrap => "BCa bootstrap of the ratio",
        IntervalMethod::PercentileBootstrap => "percentile bootstrap of the ratio",
        IntervalMethod::HierarchicalBootstrap => "bootstrap of the processes, tails widened for their number",
        IntervalMethod::BlockBootstrap => {
            "bootstrap of blocks of consecutive values of one process each, tails widened for their number"
        }
        IntervalMethod::WelchLog => "Welch's t on the logarithms, one per process",
        IntervalMethod::StudentLog => "Student's t on the logarithms of the blocks' ratios",
        IntervalMethod::SignedRank => "exact signed-rank interval of the blocks' ratios",
        IntervalMethod::Extremes => "least value of one side over the largest of the other, one process each",
    }
}

/// Whether the rows can be used at all.
fn usable(sides: Sides<'_>, statistic: Statistic) -> Result<(), Refusal> {
    let Sides { baseline, candidate, labels } = sides;
    let both = [baseline, candidate];
    let none = |reason: String| Err(refusal([None, None], statistic, reason));
    if baseline.unit != candidate.unit {
        return none(format!("the units differ: `{}` and `{}`", baseline.unit, candidate.unit));
    }
    for (side, label) in both.iter().zip(labels) {
        let bad = side.values.iter().filter(|value| !value.is_finite()).count();
        if bad > 0 {
            return none(format!("{bad} of {} values of `{label}` are not finite numbers", side.values.len()));
        }
    }
    let empty: Vec<&str> =
        both.iter().zip(labels).filter(|(side, _)| side.values.is_empty()).map(|(_, label)| label).collect();
    if empty.is_empty() {
        return Ok(());
    }
    let of = |side: &MeasureValues, statistic| {
        if side.values.is_empty() {
            side.reported.as_ref().and_then(|reported| reported_statistic(reported, statistic))
        } else {
            statistic.estimate(&side.values)
        }
    };
    // Tools that report a mean and no median are met half-way.
    let found = [statistic, Statistic::Mean]
        .into_iter()
        .map(|statistic| (statistic, both.map(|side| of(side, statistic))))
        .find(|(_, values)| values.iter().all(Option::is_some));
    let sides = super::words::list(&empty.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>());
    match found {
        Some((statistic, values)) => Err(refusal(
            values,
            statistic,
            format!("of {sides} there is a summary and no single values, so there is no interval"),
        )),
        None => {
            Err(refusal(both.map(|side| of(side, statistic)), statistic, format!("of {sides} there are no values")))
        }
    }
}

fn reported_statistic(reported: &Summary, statistic: Statistic) -> Option<f64> {
    let value = match statistic {
        Statistic::Mean => reported.mean,
        Statistic::Median | Statistic::Quantile { per_mille: 500 } => reported.p50,
        Statistic::Quantile { per_mille: 900 } => reported.p90,
        Statistic::Quantile { per_mille: 950 } => reported.p95,
        Statistic::Quantile { per_mille: 990 } => reported.p99,
        Statistic::Quantile { .. } => None,
    };
    value.filter(|value| value.is_finite())
}

fn refusal(values: [Option<f64>; 2], statistic: Statistic, reason: String) -> Refusal {
    Refusal { values, statistic: super::settings::statistic_name(statistic), reason }
}

/// Why a quantile cannot be told from so few rows. Each process must support it: they are summed up one by one.
fn unsupported(pair: &Pair, statistic: Statistic) -> Option<String> {
    let Statistic::Quantile { per_mille } = statistic else { return None };
    let level = f64::from(per_mille) / 1000.0;
    let needed = quantile::samples_needed(level.max(1.0 - level), quantile::SUPPORT_CONFIDENCE)?;
    let fewest = |groups: &Groups| match pair.design {
        crate::stats::ratio::Design::Independent => groups.rows(),
        _ => groups.0.iter().map(Vec::len).min().unwrap_or(0),
    };
    let least = fewest(&pair.baseline).min(fewest(&pair.candidate)) as u64;
    let place = match (pair.layout, pair.design) {
        (Layout::Blocks { .. }, _) => " in each block",
        (_, crate::stats::ratio::Design::Hierarchical) => " in each process",
        _ => "",
    };
    let name = super::settings::statistic_name(statistic);
    (least < needed).then(|| format!("{name} needs {needed} values{place}, and there are {least}"))
}

/// The statistic of each unit.
fn unit_statistics(side: &Groups, statistic: Statistic) -> Vec<f64> {
    side.0.iter().filter_map(|rows| statistic.estimate(rows)).collect()
}

fn log_ratio(above: f64, below: f64) -> Option<f64> {
    (above > 0.0 && below > 0.0).then(|| (above / below).ln())
}

fn shift_of(of: impl Fn(f64) -> Option<hodges_lehmann::Shift>, confidence: f64) -> Option<Shift> {
    let found = of(confidence)?;
    let equivalence = of(2.0 * confidence - 1.0).and_then(|found| found.interval);
    Some(Shift { shift: found.shift, interval: found.interval, equivalence })
}

fn mann_whitney(above: &[f64], below: &[f64]) -> Option<Test> {
    let found = rank_test::mann_whitney(above, below)?;
    // 2 / C(n + m, n): both orders in which one side is wholly above the other.
    let (n, m) = (above.len(), below.len());
    let ways = (1..=n).fold(1.0, |ways, i| ways * (m + i) as f64 / i as f64);
    Some(Test { p_value: found.p_value, least: (2.0 / ways).min(1.0), name: "Mann–Whitney test of the processes" })
}

fn signed_rank(differences: &[f64]) -> Option<Test> {
    let found = rank_test::signed_rank(differences)?;
    let least = (2.0 * 0.5f64.powi(differences.len().min(1000) as i32)).min(1.0);
    Some(Test { p_value: found.p_value, least, name: "Wilcoxon's signed-rank test of the blocks" })
}

/// Student's t test of mean 0.
fn student(logs: &[f64]) -> Option<Test> {
    let centre = mean(logs)?;
    let error = standard_deviation(logs, centre)? / (logs.len() as f64).sqrt();
    let p_value = if error > 0.0 {
        let freedom = (logs.len() - 1) as f64;
        2.0 * StudentsT::new(0.0, 1.0, freedom).ok()?.sf((centre / error).abs())
    } else if centre == 0.0 {
        1.0
    } else {
        0.0
    };
    Some(Test {
        p_value: p_value.min(1.0),
        least: 0.0,
        name: "Student's t test on the logarithms of the blocks' ratios",
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::measure_of;
    use super::*;

    fn gather_rows(
        baseline: &MeasureValues,
        candidate: &MeasureValues,
        statistic: Statistic,
    ) -> Result<Evidence, Refusal> {
        let sides = Sides { baseline, candidate, labels: ["a", "b"] };
        gather(sides, statistic, 0.95, &mut Bootstrap::new(2000, 1))
    }

    #[test]
    fn ranks_decide_only_where_they_can() {
        let rows = |values: &[f64]| measure_of(None, "tpot_ms", "ms", values);
        let five = gather_rows(&rows(&[1.0, 1.1, 1.2, 1.3, 1.4]), &rows(&[2.0, 2.1, 2.2, 2.3, 2.4]), Statistic::Median)
            .unwrap();
        // 2 / C(10, 5)
        assert!((five.rank.as_ref().unwrap().least - 2.0 / 252.0).abs() < 1e-12);
        assert_eq!(five.test(10.0, 0.05).unwrap().name, "Welch's t test on the logarithms, one per process");
        let many: Vec<f64> = (0..12).map(|i| 1.0 + f64::from(i) / 100.0).collect();
        let twelve = gather_rows(&rows(&many), &rows(&many), Statistic::Median).unwrap();
        assert_eq!(twelve.test(10.0, 0.05).unwrap().name, "Mann–Whitney test of the processes");
        let constant = gather_rows(&rows(&[5.0; 3]), &rows(&[6.0; 3]), Statistic::Median).unwrap();
        // All of one side above the other: 2 of 20 orders.
        assert!((constant.test(1.0, 0.05).unwrap().p_value - 0.1).abs() < 1e-12);
    }

    #[test]
    fn students_test_agrees_with_its_closed_form() {
        // Two values: t = mean / (|a − b| / 2) with one degree of freedom, p = 1 − 2·atan(|t|)/π.
        let t: f64 = 0.05 / 0.01;
        let expected = 1.0 - 2.0 * t.atan() / std::f64::consts::PI;
        assert!((student(&[0.04, 0.06]).unwrap().p_value - expected).abs() < 1e-9);
    }

    #[test]
    fn bad_values_refuse_the_measure_and_are_counted() {
        let good = measure_of(None, "tpot_ms", "ms", &[1.0, 2.0]);
        let bad = measure_of(None, "tpot_ms", "ms", &[1.0, f64::NAN, f64::INFINITY]);
        let refused = gather_rows(&good, &bad, Statistic::Median).unwrap_err();
        assert_eq!(refused.reason, "2 of 3 values of `b` are not finite numbers");
        assert_eq!(refused.values, [None, None]);
        let empty = measure_of(None, "tpot_ms", "ms", &[]);
        let refused = gather_rows(&good, &empty, Statistic::Median).unwrap_err();
        assert_eq!((refused.reason.as_str(), refused.values), ("of `b` there are no values", [Some(1.5), None]));
        let other = MeasureValues { unit: "s".to_owned(), ..good.clone() };
        assert_eq!(gather_rows(&good, &other, Statistic::Median).unwrap_err().reason, "the units differ: `ms` and `s`");
    }

    #[test]
    fn a_summary_without_values_gives_numbers_and_no_interval() {
        let summary = Summary { mean: Some(3.0), ..Summary::default() };
        let reported = MeasureValues { reported: Some(summary), ..measure_of(None, "tpot_ms", "ms", &[]) };
        let values = measure_of(None, "tpot_ms", "ms", &[1.0, 3.0, 5.0]);
        let refused = gather_rows(&values, &reported, Statistic::Median).unwrap_err();
        assert_eq!((refused.statistic.as_str(), refused.values), ("mean", [Some(3.0), Some(3.0)]));
        assert!(refused.reason.contains("of `b` there is a summary and no single values"), "{}", refused.reason);
    }

    #[test]
    fn a_tail_needs_values_in_it() {
        let rows: Vec<f64> = (0..100).map(f64::from).collect();
        let of = measure_of(None, "ttft_ms", "ms", &rows);
        let p99 = Statistic::Quantile { per_mille: 990 };
        let refused = gather_rows(&of, &of, p99).unwrap_err();
        assert_eq!(refused.reason, "p99 needs 459 values, and there are 100");
        let mut one = of.clone();
        one.values = (0..920).map(f64::from).collect();
        one.runs = (0..920).map(|row| row / 460).collect();
        assert!(gather_rows(&one, &one, p99).is_ok());
        one.runs = (0..920).map(|row| row / 400).collect();
        let refused = gather_rows(&one, &one, p99).unwrap_err();
        assert_eq!(refused.reason, "p99 needs 459 values in each process, and there are 120");
    }
}
