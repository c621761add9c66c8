//! Which measures are judged together, so that their number does not make findings.
//!
//! The headline measures (times, rates, memory and energy of whole requests and tokens) are one family, all others a second one. Holm's
//! method holds each; where both exist, headlines get four fifths of the accepted chance of a false finding and the others one fifth
//! (Bonferroni over the two), so that the chance of any false finding of one candidate stays below it whatever the dependence.
//!
//! Measures whose rows are each other's multiples or reciprocals (`tpot_ms`, `decode_tok_per_s` and `mfu_decode` of one run), but for a
//! twentieth of how they vary, are the same evidence. They count as one test, with the largest of their p values.

use crate::stats::multiplicity::holm;
use crate::stats::summary::{mean, standard_deviation};

/// Measures people decide by, in the order in which they are reported. `x*` stands for all that begin with `x`.
const HEADLINES: [&str; 23] = [
    "tpot_ms",
    "itl_ms",
    "decode_tok_per_s",
    "ttft_ms",
    "prefill_tok_per_s",
    "total_ms",
    "e2e_ms",
    "total_tok_per_s",
    "output_tok_per_s",
    "request_per_s",
    "training_step_ms",
    "goodput*",
    "step_ms",
    "mixed_step_ms",
    "decode_step_ms",
    "prefill_step_ms",
    "peak_rss_bytes",
    "peak_vram_bytes",
    "energy_per_token_j",
    "energy_j",
    "mfu_*",
    "mbu_*",
    "perplexity*",
];

/// Share of the accepted chance of a false finding that headlines get where there are others too.
const HEADLINE_SHARE: f64 = 0.8;

/// Share of the variation of two measures that may be left where they are the same evidence.
const LEFT_OVER: f64 = 0.05;

/// Place of a measure among the headlines; `None` for the others.
pub(super) fn headline(name: &str) -> Option<usize> {
    let fits = |pattern: &str| pattern.strip_suffix('*').map_or(pattern == name, |start| name.starts_with(start));
    HEADLINES.iter().position(|pattern| fits(pattern))
}

/// One measure that is to be judged.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Member<'a> {
    /// Case and statistic: only measures of the same are each other's copies.
    pub scope: (Option<&'a str>, &'a str),
    pub headline: bool,
    /// Rows of the baseline, then of the candidate.
    pub rows: [&'a [f64]; 2],
}

/// How members share evidence and families.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Families {
    /// For each member the class of equal evidence it is in.
    pub class: Vec<usize>,
    /// For each class whether it is a headline.
    headline: Vec<bool>,
}

impl Families {
    /// Sorts the members. Without any headline all of them are.
    pub(super) fn of(members: &[Member<'_>]) -> Self {
        let mut class: Vec<usize> = Vec::with_capacity(members.len());
        let mut first: Vec<usize> = Vec::new();
        let mut headline: Vec<bool> = Vec::new();
        for member in members {
            let copy = first.iter().position(|first| {
                members[*first].scope == member.scope && same_evidence(&members[*first].rows, &member.rows)
            });
            let at = copy.unwrap_or(headline.len());
            if copy.is_none() {
                first.push(class.len());
                headline.push(false);
            }
            headline[at] |= member.headline;
            class.push(at);
        }
        if !headline.contains(&true) {
            headline.fill(true);
        }
        Self { class, headline }
    }

    /// By how much the p value of a member is multiplied at most.
    pub(super) fn tests(&self, member: usize) -> f64 {
        let headline = self.headline[self.class[member]];
        self.headline.iter().filter(|other| **other == headline).count() as f64 / self.share(headline)
    }

    fn share(&self, headline: bool) -> f64 {
        match (self.headline.contains(&false), headline) {
            (false, _) => 1.0,
            (true, true) => HEADLINE_SHARE,
            (true, false) => 1.0 - HEADLINE_SHARE,
        }
    }

    /// The adjusted p values of the members.
    pub(super) fn adjust(&self, p_values: &[Option<f64>]) -> Vec<Option<f64>> {
        let mut of_class: Vec<Option<f64>> = vec![None; self.headline.len()];
        for (class, p) in self.class.iter().zip(p_values) {
            of_class[*class] = match (of_class[*class], *p) {
                (Some(known), Some(p)) => Some(f64::max(known, p)),
                (known, p) => known.or(p),
            };
        }
        let mut adjusted = vec![None; of_class.len()];
        for headline in [true, false] {
            let of_family: Vec<Option<f64>> =
                of_class.iter().zip(&self.headline).map(|(p, of)| p.filter(|_| *of == headline)).collect();
            for (place, p) in adjusted.iter_mut().zip(holm(&of_family)) {
                *place = place.or_else(|| p.map(|p| (p / self.share(headline)).min(1.0)));
            }
        }
        self.class.iter().zip(p_values).map(|(class, p)| p.and(adjusted[*class])).collect()
    }
}

/// Whether all rows of one measure are the same multiple, or the same multiple of the reciprocal, of the other's: what is left beside that
/// varies by no more than [`LEFT_OVER`] of what the rows vary by (on the logarithmic scale a correlation above 0.998).
///
/// Exact multiples alone would miss the very measures that are meant: a rate leaves out what lies between the steps, or was divided by another
/// clock reading, and differs from the reciprocal of the time in the fourth digit.
fn same_evidence(left: &[&[f64]; 2], right: &[&[f64]; 2]) -> bool {
    let pairs = || left.iter().zip(right).flat_map(|(left, right)| left.iter().zip(right.iter()));
    let lengths = left.iter().zip(right).all(|(left, right)| left.len() == right.len() && !left.is_empty());
    let positive = |value: &f64| *value > 0.0 && value.is_finite();
    if !lengths || !pairs().all(|(left, right)| positive(left) && positive(right)) {
        return false;
    }
    let logs = |rows: &[f64]| rows.iter().map(|row| row.ln()).collect::<Vec<f64>>();
    let (left, right) = (left.map(logs), right.map(logs));
    let spread = |values: &[f64]| mean(values).and_then(|centre| standard_deviation(values, centre)).unwrap_or(0.0);
    // Within the sides: that two measures changed alike does not make them one.
    let within = |sides: &[Vec<f64>; 2]| {
        let centred = sides.iter().flat_map(|side| {
            let centre = mean(side).unwrap_or(0.0);
            side.iter().map(move |value| value - centre)
        });
        spread(&centred.collect::<Vec<f64>>())
    };
    let least = within(&left).min(within(&right));
    let (left, right) = (left.concat(), right.concat());
    let beside = |sign: f64| {
        let rest: Vec<f64> = left.iter().zip(&right).map(|(left, right)| left - sign * right).collect();
        spread(&rest)
    };
    // Values that do not vary are multiples of everything.
    least > 1e-12 && beside(1.0).min(beside(-1.0)) <= LEFT_OVER * least
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member<'a>(name: &str, rows: &'a [f64]) -> Member<'a> {
        Member { scope: (None, "median"), headline: headline(name).is_some(), rows: [rows, rows] }
    }

    #[test]
    fn copies_of_one_measure_are_one_test() {
        let tpot = [10.0, 11.0, 12.0];
        let rate = tpot.map(|ms| 1000.0 / ms);
        let mfu = rate.map(|rate| rate * 0.001);
        let ttft = [50.0, 40.0, 45.0];
        let members = [
            member("tpot_ms", &tpot),
            member("decode_tok_per_s", &rate),
            member("ttft_ms", &ttft),
            member("mfu_decode", &mfu),
        ];
        let families = Families::of(&members);
        assert_eq!(families.class, [0, 0, 1, 0]);
        // Two tests: the larger of 0.010 and 0.011 is doubled, 0.04 stays.
        let adjusted = families.adjust(&[Some(0.010), Some(0.011), Some(0.04), None]);
        assert_eq!(adjusted, [Some(0.022), Some(0.022), Some(0.04), None]);
        assert_eq!(families.tests(0), 2.0);
    }

    #[test]
    fn other_measures_take_a_fifth_and_do_not_weaken_the_headlines_more_than_that() {
        let rows = [[1.0, 2.0], [1.0, 3.0], [1.0, 4.0]];
        let members = [member("tpot_ms", &rows[0]), member("load_ms", &rows[1]), member("remainder_ms", &rows[2])];
        let adjusted = Families::of(&members).adjust(&[Some(0.01), Some(0.001), Some(0.5)]);
        assert_eq!(adjusted[0], Some(0.01 / 0.8));
        assert!((adjusted[1].unwrap() - 0.01).abs() < 1e-12);
        assert_eq!(adjusted[2], Some(1.0));
    }

    #[test]
    fn without_headlines_all_are_one_family() {
        let rows = [[1.0, 2.0], [1.0, 3.0]];
        let families = Families::of(&[member("x", &rows[0]), member("y", &rows[1])]);
        assert_eq!(families.adjust(&[Some(0.01), Some(0.03)]), [Some(0.02), Some(0.03)]);
    }

    #[test]
    fn a_rate_that_leaves_out_a_little_is_still_the_same_evidence_and_a_likeness_is_not() {
        // Of a stage1 run on a busy machine: 1000 / tpot_ms but for the time between steps, and the mean gap of the same repeats.
        let tpot = [1.06973, 2.11853, 1.98467, 1.64971, 2.0312];
        let rate = [935.156_03, 472.118_55, 503.990_87, 606.307_44, 492.41];
        let itl = [1.0711, 2.05, 2.11, 1.60, 1.97];
        let members = [member("tpot_ms", &tpot), member("decode_tok_per_s", &rate), member("itl_ms", &itl)];
        assert_eq!(Families::of(&members).class, [0, 0, 1]);
    }

    #[test]
    fn values_that_do_not_vary_copy_nothing() {
        let constant = [5.0, 5.0];
        let families = Families::of(&[member("tpot_ms", &constant), member("ttft_ms", &constant)]);
        assert_eq!(families.class, [0, 1]);
    }
}
