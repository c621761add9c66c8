//! Rank tests: Mann–Whitney for two independent samples, Wilcoxon's signed ranks for pairs.
//!
//! Mann & Whitney, Ann. Math. Statist. 18 (1947); Wilcoxon, Biometrics Bulletin 1 (1945). Effect sizes: Cliff, Psychological Bulletin
//! 114 (1993); Vargha & Delaney, J. Educational and Behavioral Statistics 25 (2000); Kerby, Comprehensive Psychology 3 (2014).

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};

/// Rows (differences, for signed ranks) up to which p is exact: the counts of rearrangements are whole numbers below 2⁵³.
pub const EXACT_UP_TO: usize = 50;

/// How a p-value was computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PMethod {
    /// The whole null distribution, ties included.
    Exact,
    /// Normal approximation with correction for ties and continuity.
    Normal,
}

/// Mann–Whitney's test of candidate against baseline.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MannWhitney {
    /// U of the candidate: pairs in which the candidate is higher, ties counted half.
    pub u: f64,
    /// Two-sided p.
    pub p_value: f64,
    /// How p was computed.
    pub method: PMethod,
    /// Chance that a row of the candidate is higher than one of the baseline, ties counted half (common-language effect size, A).
    pub probability_higher: f64,
    /// Rank-biserial correlation 2A − 1, which is Cliff's δ: −1 all lower, 0 no tendency, 1 all higher.
    pub rank_biserial: f64,
}

/// Wilcoxon's signed-rank test of paired differences.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SignedRank {
    /// Sum of the ranks of the positive differences.
    pub w_plus: f64,
    /// Sum of the ranks of the negative differences.
    pub w_minus: f64,
    /// Two-sided p.
    pub p_value: f64,
    /// How p was computed.
    pub method: PMethod,
    /// Matched-pairs rank-biserial correlation (w⁺ − w⁻) / (w⁺ + w⁻); null where no difference is other than 0.
    pub rank_biserial: Option<f64>,
}

/// Mann–Whitney's U test; `None` for an empty side or a value that is not finite.
///
/// Exact for up to [`EXACT_UP_TO`] rows in all: every way to share out the ranks (mid-ranks, if there are ties) is counted. Beyond, the
/// normal approximation with correction for ties and continuity (Lehmann, "Nonparametrics", 1975, §1.3–1.4). Two-sided: twice the
/// smaller tail.
pub fn mann_whitney(candidate: &[f64], baseline: &[f64]) -> Option<MannWhitney> {
    let (n, m) = (candidate.len(), baseline.len());
    if n == 0 || m == 0 || candidate.iter().chain(baseline).any(|value| !value.is_finite()) {
        return None;
    }
    let all: Vec<f64> = candidate.iter().chain(baseline).copied().collect();
    let ranks = doubled_ranks(&all);
    let sum: u64 = ranks.doubled[..n].iter().sum();
    let pairs = n as f64 * m as f64;
    // Doubled ranks sum to n(n + 1) where the candidate is lowest throughout.
    let u = (sum - (n * (n + 1)) as u64) as f64 / 2.0;
    let (p_value, method) = if n + m <= EXACT_UP_TO {
        let ways = subset_sums(&ranks.doubled, n);
        (two_sided(&ways, sum as usize), PMethod::Exact)
    } else {
        let total = (n + m) as f64;
        let variance = pairs / 12.0 * ((total + 1.0) - ranks.ties / (total * (total - 1.0)));
        (normal_p(u - pairs / 2.0, variance)?, PMethod::Normal)
    };
    let probability_higher = u / pairs;
    Some(MannWhitney { u, p_value, method, probability_higher, rank_biserial: (2.0 * u - pairs) / pairs })
}

/// Wilcoxon's signed-rank test of `differences` (candidate − baseline, or logarithms of ratios); `None` for none or one that is not
/// finite.
///
/// Differences of 0 are left out, as Wilcoxon did. Exact for up to [`EXACT_UP_TO`] others (all 2ⁿ signs are counted, ties included),
/// normal approximation with correction for ties and continuity beyond (Lehmann 1975, §3.2). Two-sided: twice the smaller tail.
pub fn signed_rank(differences: &[f64]) -> Option<SignedRank> {
    if differences.is_empty() || differences.iter().any(|value| !value.is_finite()) {
        return None;
    }
    let others: Vec<f64> = differences.iter().copied().filter(|value| *value != 0.0).collect();
    let sizes: Vec<f64> = others.iter().map(|value| value.abs()).collect();
    let ranks = doubled_ranks(&sizes);
    let positive: u64 =
        ranks.doubled.iter().zip(&others).filter(|(_, value)| **value > 0.0).map(|(rank, _)| rank).sum();
    let total: u64 = ranks.doubled.iter().sum();
    let (w_plus, w_minus) = (positive as f64 / 2.0, (total - positive) as f64 / 2.0);
    let n = others.len() as f64;
    let (p_value, method) = if others.len() <= EXACT_UP_TO {
        (two_sided(&sign_sums(&ranks.doubled), positive as usize), PMethod::Exact)
    } else {
        let variance = n * (n + 1.0) * (2.0 * n + 1.0) / 24.0 - ranks.ties / 48.0;
        (normal_p(w_plus - n * (n + 1.0) / 4.0, variance)?, PMethod::Normal)
    };
    let rank_biserial = (total > 0).then(|| (w_plus - w_minus) / (w_plus + w_minus));
    Some(SignedRank { w_plus, w_minus, p_value, method, rank_biserial })
}

/// Mid-ranks.
struct Ranks {
    /// Twice the rank of each value, so that mid-ranks are whole numbers.
    doubled: Vec<u64>,
    /// Σ(t³ − t) over groups of t equal values.
    ties: f64,
}

fn doubled_ranks(values: &[f64]) -> Ranks {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_unstable_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut doubled = vec![0; values.len()];
    let (mut begin, mut ties) = (0, 0.0);
    for group in order.chunk_by(|a, b| values[*a] == values[*b]) {
        let end = begin + group.len();
        for &index in group {
            // The mean of the ranks begin + 1 ..= end, doubled.
            doubled[index] = (begin + 1 + end) as u64;
        }
        let t = group.len() as f64;
        ties += t * t * t - t;
        begin = end;
    }
    Ranks { doubled, ties }
}

/// Ways to choose `size` of the weights with each sum. At most C(50, 25) < 2⁵³ ways, so the counts are exact.
fn subset_sums(weights: &[u64], size: usize) -> Vec<f64> {
    let most = weights.iter().sum::<u64>() as usize;
    let mut ways = vec![vec![0.0f64; most + 1]; size + 1];
    ways[0][0] = 1.0;
    let mut reached = 0;
    for (seen, &weight) in weights.iter().enumerate() {
        let weight = weight as usize;
        reached += weight;
        for chosen in (1..=size.min(seen + 1)).rev() {
            let (fewer, more) = ways.split_at_mut(chosen);
            for sum in weight..=reached {
                more[0][sum] += fewer[chosen - 1][sum - weight];
            }
        }
    }
    ways.swap_remove(size)
}

/// Ways to choose any of the weights with each sum: 2ⁿ ≤ 2⁵⁰ in all, so the counts are exact.
fn sign_sums(weights: &[u64]) -> Vec<f64> {
    let mut ways = vec![1.0f64];
    for &weight in weights {
        let weight = weight as usize;
        let mut next = ways.clone();
        next.resize(ways.len() + weight, 0.0);
        for (sum, count) in ways.iter().enumerate() {
            next[sum + weight] += count;
        }
        ways = next;
    }
    ways
}

/// Twice the smaller tail at `observed`, of counts that belong to the sums 0, 1, ….
fn two_sided(ways: &[f64], observed: usize) -> f64 {
    let total: f64 = ways.iter().sum();
    let below: f64 = ways[..=observed].iter().sum();
    let above: f64 = ways[observed..].iter().sum();
    (2.0 * below.min(above) / total).min(1.0)
}

fn normal_p(distance: f64, variance: f64) -> Option<f64> {
    if variance <= 0.0 {
        // All values are equal: no order says anything.
        return Some(1.0);
    }
    let z = (distance.abs() - 0.5).max(0.0) / variance.sqrt();
    Some((2.0 * Normal::new(0.0, 1.0).ok()?.sf(z)).min(1.0))
}

/// The largest c for which P(U < c) ≤ `tail` without ties, by counting: the c-th smallest difference bounds a distribution-free interval.
/// With it, P(U < c) itself.
pub(super) fn mann_whitney_rank(n: usize, m: usize, tail: f64) -> (u64, f64) {
    let pairs = n as f64 * m as f64;
    if n + m > EXACT_UP_TO {
        return normal_rank(pairs / 2.0, pairs * (n + m + 1) as f64 / 12.0, tail);
    }
    let ranks: Vec<u64> = (1..=(n + m) as u64).collect();
    let ways = subset_sums(&ranks, n);
    rank_of(&ways[n * (n + 1) / 2..], tail)
}

/// The same for the sum of the positive signed ranks of n values.
pub(super) fn signed_rank_rank(n: usize, tail: f64) -> (u64, f64) {
    let whole = n as f64;
    if n > EXACT_UP_TO {
        return normal_rank(whole * (whole + 1.0) / 4.0, whole * (whole + 1.0) * (2.0 * whole + 1.0) / 24.0, tail);
    }
    let ranks: Vec<u64> = (1..=n as u64).collect();
    rank_of(&sign_sums(&ranks), tail)
}

fn rank_of(ways: &[f64], tail: f64) -> (u64, f64) {
    let total: f64 = ways.iter().sum();
    let (mut rank, mut below) = (0, 0.0);
    for count in ways {
        let share = (below + count) / total;
        if share > tail {
            break;
        }
        rank += 1;
        below += count;
    }
    (rank, below / total)
}

fn normal_rank(mean: f64, variance: f64, tail: f64) -> (u64, f64) {
    let Ok(normal) = Normal::new(0.0, 1.0) else { return (0, 0.0) };
    let rank = (mean + 0.5 + normal.inverse_cdf(tail) * variance.sqrt()).floor().max(0.0);
    (rank as u64, normal.cdf((rank - 0.5 - mean) / variance.sqrt()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: [f64; 7] = [10.1, 10.25, 10.0, 10.2, 10.15, 10.05, 10.5];
    const B: [f64; 8] = [10.0, 10.22, 9.9, 10.12, 10.06, 9.95, 10.3, 9.97];
    const D: [f64; 8] = [0.3, -0.1, 0.5, 0.7, -0.2, 0.9, 0.4, 1.1];

    fn close(actual: f64, expected: f64) {
        assert!((actual - expected).abs() <= 1e-10 * expected.abs().max(1e-3), "{actual} is not {expected}");
    }

    #[test]
    fn mann_whitney_agrees_with_scipy() {
        // scipy 1.17.1: stats.mannwhitneyu(t, u, method=stats.PermutationMethod(n_resamples=np.inf)), which lists all 6435 ways.
        let (t, u) = ([1.0, 2.0, 2.0, 3.0, 4.0, 5.0, 5.0, 5.0], [2.0, 3.0, 3.0, 1.0, 1.0, 2.0, 4.0]);
        let tied = mann_whitney(&t, &u).unwrap();
        assert_eq!((tied.u, tied.method), (39.5, PMethod::Exact));
        close(tied.p_value, 0.206_993_006_993_007);
        close(tied.rank_biserial, 2.0 * 39.5 / 56.0 - 1.0);
        // The same of A and B, which share a 10.0.
        let test = mann_whitney(&A, &B).unwrap();
        assert_eq!(test.u, 39.5);
        close(test.p_value, 0.199_533_799_533_799_53);
        close(test.probability_higher, 39.5 / 56.0);
        let reversed = mann_whitney(&B, &A).unwrap();
        assert_eq!((reversed.u, reversed.p_value, reversed.rank_biserial), (16.5, test.p_value, -test.rank_biserial));
    }

    #[test]
    fn without_ties_p_is_that_of_the_tables() {
        // scipy 1.17.1: stats.mannwhitneyu([1.5, 2.5, 6.5, 7.5, 9.5], [1, 2, 3, 4, 5], method='exact')
        let test = mann_whitney(&[1.5, 2.5, 6.5, 7.5, 9.5], &[1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
        assert_eq!(test.u, 18.0);
        close(test.p_value, 0.309_523_809_523_809_53);
        // The least p of 4 against 4 is 2/70.
        close(mann_whitney(&[5.0, 6.0, 7.0, 8.0], &[1.0, 2.0, 3.0, 4.0]).unwrap().p_value, 2.0 / 70.0);
    }

    #[test]
    fn many_rows_agree_with_scipys_approximation() {
        // x = np.arange(40) + 0.5; y = np.round(np.arange(30) * 1.37) + 3; stats.mannwhitneyu(x, y, method='asymptotic')
        let x: Vec<f64> = (0..40).map(|i| f64::from(i) + 0.5).collect();
        let y: Vec<f64> = (0..30).map(|i| (f64::from(i) * 1.37).round_ties_even() + 3.0).collect();
        let test = mann_whitney(&x, &y).unwrap();
        assert_eq!((test.u, test.method), (518.0, PMethod::Normal));
        close(test.p_value, 0.333_430_541_827_048_1);
        // With ties: np.repeat(t, 4) against np.repeat(u, 4)
        let repeat = |values: &[f64]| values.iter().flat_map(|value| [*value; 4]).collect::<Vec<_>>();
        let (t, u) = ([1.0, 2.0, 2.0, 3.0, 4.0, 5.0, 5.0, 5.0], [2.0, 3.0, 3.0, 1.0, 1.0, 2.0, 4.0]);
        close(mann_whitney(&repeat(&t), &repeat(&u)).unwrap().p_value, 0.005_395_636_244_109_424);
    }

    #[test]
    fn signed_ranks_agree_with_scipy() {
        // scipy 1.17.1: stats.wilcoxon(D, method='exact')
        let test = signed_rank(&D).unwrap();
        assert_eq!((test.w_plus, test.w_minus, test.method), (33.0, 3.0, PMethod::Exact));
        close(test.p_value, 0.0390625);
        close(test.rank_biserial.unwrap(), 30.0 / 36.0);
        // stats.wilcoxon(d, method=stats.PermutationMethod(n_resamples=np.inf)), with ties and a zero
        let tied = signed_rank(&[0.5, -0.5, 1.0, 1.0, 0.0, 2.0, -1.0, 3.0, 2.0]).unwrap();
        assert_eq!((tied.w_plus, tied.w_minus), (30.5, 5.5));
        close(tied.p_value, 0.1015625);
        // big = [((i*37) % 23 - 8)*0.25 + 0.01*i for i in range(60)]; stats.wilcoxon(big, method='approx', correction=True)
        let big: Vec<f64> = (0..60).map(|i| f64::from(i * 37 % 23 - 8) * 0.25 + 0.01 * f64::from(i)).collect();
        let many = signed_rank(&big).unwrap();
        assert_eq!((many.w_plus, many.method), (1433.0, PMethod::Normal));
        close(many.p_value, 0.000_139_175_164_636_065_37);
    }

    #[test]
    fn equal_values_differ_in_nothing() {
        assert_eq!(mann_whitney(&[2.0; 5], &[2.0; 6]).unwrap().p_value, 1.0);
        assert_eq!(mann_whitney(&[2.0; 50], &[2.0; 60]).unwrap().p_value, 1.0);
        let none = signed_rank(&[0.0; 5]).unwrap();
        assert_eq!((none.p_value, none.rank_biserial), (1.0, None));
        assert_eq!(mann_whitney(&[], &[1.0]), None);
        assert_eq!(mann_whitney(&[f64::NAN], &[1.0]), None);
        assert_eq!(signed_rank(&[]), None);
        assert_eq!(signed_rank(&[f64::INFINITY]), None);
    }
}
