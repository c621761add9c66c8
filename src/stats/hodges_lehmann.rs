//! Hodges–Lehmann shift with its distribution-free interval.
//!
//! Hodges & Lehmann, "Estimates of location based on rank tests", Ann. Math. Statist. 34 (1963); intervals as in Hollander & Wolfe,
//! "Nonparametric Statistical Methods" (2nd ed. 1999), §3.3 and §4.3, and R's `wilcox.test(conf.int = TRUE)`. The k-th smallest of the n·m
//! differences is found without listing them: bisection over the floating-point numbers, each step one O(n + m) count.

use serde::{Deserialize, Serialize};

use super::quantile::sorted;
use super::rank_test::{mann_whitney_rank, signed_rank_rank};

/// A shift and its interval, in the unit of the values.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Shift {
    /// The Hodges–Lehmann estimate.
    pub shift: f64,
    /// The interval; null where n is too small for the confidence asked for.
    pub interval: Option<[f64; 2]>,
    /// Confidence the interval has in truth (at least the one asked for, by the discreteness of ranks); null without an interval.
    pub achieved: Option<f64>,
}

/// The shift candidate − baseline of two independent samples: the median of all differences.
///
/// The interval inverts the Mann–Whitney test. `None` for an empty side, a value that is not finite or a confidence outside (0, 1).
pub fn two_sample(candidate: &[f64], baseline: &[f64], confidence: f64) -> Option<Shift> {
    if !usable(candidate, confidence) || !usable(baseline, confidence) {
        return None;
    }
    let (high, low) = (sorted(candidate), sorted(baseline));
    let total = high.len() as u64 * low.len() as u64;
    let select = |rank| select(rank, |bound| differences_up_to(&high, &low, bound));
    let (rank, below) = mann_whitney_rank(high.len(), low.len(), (1.0 - confidence) / 2.0);
    Some(shift(total, rank, below, select))
}

/// The centre of one sample (or of paired differences): the median of all pairwise averages (Walsh averages).
///
/// The interval inverts Wilcoxon's signed-rank test and supposes a symmetric distribution, which differences of exchangeable pairs have.
/// `None` as in [`two_sample`].
pub fn one_sample(values: &[f64], confidence: f64) -> Option<Shift> {
    if !usable(values, confidence) {
        return None;
    }
    let sorted = sorted(values);
    let n = sorted.len() as u64;
    let (rank, below) = signed_rank_rank(sorted.len(), (1.0 - confidence) / 2.0);
    Some(shift(n * (n + 1) / 2, rank, below, |rank| select(rank, |bound| averages_up_to(&sorted, bound))))
}

fn usable(values: &[f64], confidence: f64) -> bool {
    !values.is_empty() && values.iter().all(|value| value.is_finite()) && confidence > 0.0 && confidence < 1.0
}

/// Estimate and interval from the `total` sorted values that `select` picks by rank (1-based).
fn shift(total: u64, rank: u64, below: f64, select: impl Fn(u64) -> f64) -> Shift {
    let upper = select(total / 2 + 1);
    let centre = if total % 2 == 1 {
        upper
    } else {
        let lower = select(total / 2);
        lower + (upper - lower) / 2.0
    };
    let interval = (rank > 0).then(|| [select(rank), select(total + 1 - rank)]);
    Shift { shift: centre, interval, achieved: interval.map(|_| 1.0 - 2.0 * below) }
}

/// The smallest number for which `count` reaches `rank`, in at most 64 counts: `count` must not fall as its bound grows.
fn select(rank: u64, count: impl Fn(f64) -> u64) -> f64 {
    // Floating-point numbers in the order of their value, as whole numbers.
    let (mut low, mut high) = (order(f64::NEG_INFINITY), order(f64::INFINITY));
    while low < high {
        let middle = low.wrapping_add((high.wrapping_sub(low) as u64 / 2) as i64);
        if count(number(middle)) >= rank { high = middle } else { low = middle + 1 }
    }
    // −0 comes before 0 in that order and equals it.
    number(low) + 0.0
}

fn order(value: f64) -> i64 {
    let bits = value.to_bits() as i64;
    bits ^ (((bits >> 63) as u64) >> 1) as i64
}

fn number(order: i64) -> f64 {
    f64::from_bits((order ^ (((order >> 63) as u64) >> 1) as i64) as u64)
}

/// How many differences high − low are at most `bound`; both sorted.
fn differences_up_to(high: &[f64], low: &[f64], bound: f64) -> u64 {
    let mut first = 0;
    let mut count = 0;
    for value in high {
        while first < low.len() && value - low[first] > bound {
            first += 1;
        }
        count += (low.len() - first) as u64;
    }
    count
}

/// How many averages of a value with itself or a later one are at most `bound`.
fn averages_up_to(sorted: &[f64], bound: f64) -> u64 {
    let mut end = sorted.len();
    let mut count = 0;
    for (index, value) in sorted.iter().enumerate() {
        while end > index && value / 2.0 + sorted[end - 1] / 2.0 > bound {
            end -= 1;
        }
        if end <= index {
            break;
        }
        count += (end - index) as u64;
    }
    count
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn close(actual: f64, expected: f64) {
        assert!((actual - expected).abs() < 1e-12, "{actual} is not {expected}");
    }

    #[test]
    fn agrees_with_brute_force() {
        // numpy 2.4.6: d = np.sort(np.subtract.outer(A, B).ravel()); np.median(d); with U over all 6435 choices of 7 ranks of 15 the largest
        // c with P(U < c) <= .025 is 11: d[10], d[-11], and 1 − 2·P(U < 11)
        let a = [10.1, 10.25, 10.0, 10.2, 10.15, 10.05, 10.5];
        let b = [10.0, 10.22, 9.9, 10.12, 10.06, 9.95, 10.3, 9.97];
        let found = two_sample(&a, &b, 0.95).unwrap();
        close(found.shift, 0.1);
        let [low, high] = found.interval.unwrap();
        close(low, -0.07);
        close(high, 0.28);
        close(found.achieved.unwrap(), 0.9599067599067599);
        // The same for the 36 Walsh averages and all 2⁸ signs: c = 4.
        let found = one_sample(&[0.3, -0.1, 0.5, 0.7, -0.2, 0.9, 0.4, 1.1], 0.95).unwrap();
        close(found.shift, 0.45);
        let [low, high] = found.interval.unwrap();
        close(low, 0.05);
        close(high, 0.9);
        close(found.achieved.unwrap(), 0.9609375);
    }

    #[test]
    fn five_values_have_no_interval_at_95_percent_and_six_do() {
        assert_eq!(one_sample(&[1.0, 2.0, 3.0, 4.0, 5.0], 0.95).unwrap().interval, None);
        let six = one_sample(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 0.95).unwrap();
        assert_eq!((six.interval, six.achieved), (Some([1.0, 6.0]), Some(1.0 - 2.0 / 64.0)));
        let three = two_sample(&[1.0, 2.0, 3.0], &[4.0, 5.0, 6.0], 0.95).unwrap();
        assert_eq!((three.shift, three.interval), (-3.0, None));
        assert_eq!(one_sample(&[], 0.95), None);
        assert_eq!(two_sample(&[1.0], &[f64::NAN], 0.95), None);
    }

    #[test]
    fn a_thousand_rows_on_each_side_take_no_million_differences() {
        let a: Vec<f64> = (0..1000).map(|i| f64::from(i * 7919 % 1000) / 10.0).collect();
        let shifted: Vec<f64> = a.iter().map(|value| value + 3.0).collect();
        let found = two_sample(&shifted, &a, 0.95).unwrap();
        assert!((found.shift - 3.0).abs() < 1e-9);
        // The normal approximation: (n·m/2 − 1.96·√(n·m·(n + m + 1)/12)) = 474,685 of a million sorted differences.
        let mut all: Vec<f64> = shifted.iter().flat_map(|x| a.iter().map(move |y| x - y)).collect();
        all.sort_unstable_by(f64::total_cmp);
        let [low, high] = found.interval.unwrap();
        let rank = 474_688;
        assert!((all[rank - 10]..=all[rank + 10]).contains(&low), "{low}");
        assert!((all[1_000_000 - rank - 10]..=all[1_000_000 - rank + 10]).contains(&high), "{high}");
    }

    proptest! {
        #[test]
        fn selection_finds_what_a_sort_finds(
            a in prop::collection::vec(-1e3..1e3f64, 1..12), b in prop::collection::vec(-1e3..1e3f64, 1..12),
        ) {
            let mut all: Vec<f64> = a.iter().flat_map(|x| b.iter().map(move |y| x - y)).collect();
            all.sort_unstable_by(f64::total_cmp);
            let (high, low) = (sorted(&a), sorted(&b));
            for (index, value) in all.iter().enumerate() {
                prop_assert_eq!(select(index as u64 + 1, |bound| differences_up_to(&high, &low, bound)), *value);
            }
            let mut walsh: Vec<f64> =
                (0..a.len()).flat_map(|i| a[i..].iter().map(|y| a[i] / 2.0 + y / 2.0).collect::<Vec<_>>()).collect();
            walsh.sort_unstable_by(f64::total_cmp);
            for (index, value) in walsh.iter().enumerate() {
                prop_assert_eq!(select(index as u64 + 1, |bound| averages_up_to(&high, bound)), *value);
            }
        }
    }
}
