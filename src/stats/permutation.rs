//! Permutation tests of a difference of means, medians or quantiles.
//!
//! Fisher (1935); Phipson & Smyth, "Permutation p-values should never be zero", Stat. Appl. Genet. Mol. Biol. 9 (2010), for (k + 1)/(m + 1).
//! Two-sided p is twice the smaller tail, as in SciPy. Under exchangeability the test is exact whatever the distribution; a test of medians
//! or quantiles is one of the same null hypothesis (no difference at all), with power against that statistic.

use serde::{Deserialize, Serialize};

use super::bootstrap::{Generator, Statistic};

/// Most rearrangements that are all listed; beyond, they are drawn.
pub const EXACT_UP_TO: u64 = 20_000;

/// Result of a permutation test.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PermutationTest {
    /// statistic(candidate) − statistic(baseline), or the statistic of the differences.
    pub difference: f64,
    /// Two-sided p: share of rearrangements at least as extreme; (k + 1)/(m + 1) where they are drawn.
    pub p_value: f64,
    /// Rearrangements looked at.
    pub permutations: u64,
    /// Whether these are all.
    pub exact: bool,
}

/// Two independent samples: labels are exchanged. Pass logarithms to test a ratio.
///
/// `None` for an empty side, a value that is not finite, or no permutations where not all can be listed.
pub fn two_sample(
    candidate: &[f64],
    baseline: &[f64],
    statistic: Statistic,
    permutations: u32,
    seed: u64,
) -> Option<PermutationTest> {
    let difference = statistic.estimate(candidate)? - statistic.estimate(baseline)?;
    let n = candidate.len();
    let mut all: Vec<f64> = candidate.iter().chain(baseline).copied().collect();
    let mut buffer = vec![0.0; all.len()];
    let mut of = |all: &[f64]| {
        buffer.copy_from_slice(all);
        let (candidate, baseline) = buffer.split_at_mut(n);
        statistic.of(candidate) - statistic.of(baseline)
    };
    let mut tails = Tails::new(difference);
    if let Some(ways) = choose(all.len(), n).filter(|ways| *ways <= EXACT_UP_TO) {
        let source = all.clone();
        let mut chosen: Vec<usize> = (0..n).collect();
        loop {
            split(&source, &chosen, &mut all);
            tails.add(of(&all));
            if !next_choice(&mut chosen, source.len()) {
                break;
            }
        }
        return Some(tails.exact(ways));
    }
    if permutations == 0 {
        return None;
    }
    let mut random = Generator::new(seed);
    for _ in 0..permutations {
        // The first n of a partial shuffle are a random choice.
        for place in 0..n {
            let from = place + random.below(all.len() - place);
            all.swap(place, from);
        }
        tails.add(of(&all));
    }
    Some(tails.drawn(permutations))
}

/// Paired differences: signs are flipped. Pass differences of logarithms to test a ratio.
///
/// `None` for no difference, one that is not finite, or no permutations where not all can be listed.
pub fn paired(differences: &[f64], statistic: Statistic, permutations: u32, seed: u64) -> Option<PermutationTest> {
    let mut tails = Tails::new(statistic.estimate(differences)?);
    let mut flipped = vec![0.0; differences.len()];
    let exact = 1u64.checked_shl(differences.len() as u32).filter(|ways| *ways <= EXACT_UP_TO);
    if let Some(ways) = exact.filter(|_| differences.len() < 64) {
        for signs in 0..ways {
            for (index, (slot, value)) in flipped.iter_mut().zip(differences).enumerate() {
                *slot = if signs >> index & 1 == 1 { -value } else { *value };
            }
            tails.add(statistic.of(&mut flipped));
        }
        return Some(tails.exact(ways));
    }
    if permutations == 0 {
        return None;
    }
    let mut random = Generator::new(seed);
    for _ in 0..permutations {
        for (slots, values) in flipped.chunks_mut(64).zip(differences.chunks(64)) {
            let signs = random.next();
            for (index, (slot, value)) in slots.iter_mut().zip(values).enumerate() {
                *slot = if signs >> index & 1 == 1 { -value } else { *value };
            }
        }
        tails.add(statistic.of(&mut flipped));
    }
    Some(tails.drawn(permutations))
}

/// Counts of rearrangements at least as extreme on either side.
struct Tails {
    observed: f64,
    slack: f64,
    below: u64,
    above: u64,
}

impl Tails {
    fn new(observed: f64) -> Self {
        // Sums in another order round apart: what differs by less than this is equal.
        Self { observed, slack: 1e-12 * observed.abs(), below: 0, above: 0 }
    }
    fn add(&mut self, difference: f64) {
        self.below += u64::from(difference <= self.observed + self.slack);
        self.above += u64::from(difference >= self.observed - self.slack);
    }
    fn exact(&self, ways: u64) -> PermutationTest {
        let p_value = (2.0 * self.below.min(self.above) as f64 / ways as f64).min(1.0);
        PermutationTest { difference: self.observed, p_value, permutations: ways, exact: true }
    }
    fn drawn(&self, permutations: u32) -> PermutationTest {
        let smaller = (self.below.min(self.above) + 1) as f64;
        let p_value = (2.0 * smaller / (f64::from(permutations) + 1.0)).min(1.0);
        PermutationTest { difference: self.observed, p_value, permutations: permutations.into(), exact: false }
    }
}

/// C(n, k); `None` where it is above [`EXACT_UP_TO`] by far.
fn choose(n: usize, k: usize) -> Option<u64> {
    let mut ways = 1u64;
    for step in 0..k.min(n - k) {
        ways = ways.checked_mul((n - step) as u64)? / (step as u64 + 1);
        if ways > EXACT_UP_TO * 1000 {
            return None;
        }
    }
    Some(ways)
}

/// The chosen values first, then the others.
fn split(source: &[f64], chosen: &[usize], into: &mut [f64]) {
    let (mut front, mut back, mut next) = (0, chosen.len(), 0);
    for (index, value) in source.iter().enumerate() {
        if chosen.get(next) == Some(&index) {
            into[front] = *value;
            front += 1;
            next += 1;
        } else {
            into[back] = *value;
            back += 1;
        }
    }
}

/// The next choice in lexicographic order.
fn next_choice(chosen: &mut [usize], n: usize) -> bool {
    let k = chosen.len();
    let Some(place) = (0..k).rev().find(|place| chosen[*place] < n - k + place) else { return false };
    chosen[place] += 1;
    for after in place + 1..k {
        chosen[after] = chosen[after - 1] + 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: [f64; 7] = [10.1, 10.25, 10.0, 10.2, 10.15, 10.05, 10.5];
    const B: [f64; 8] = [10.0, 10.22, 9.9, 10.12, 10.06, 9.95, 10.3, 9.97];
    const D: [f64; 8] = [0.3, -0.1, 0.5, 0.7, -0.2, 0.9, 0.4, 1.1];

    fn close(actual: f64, expected: f64) {
        assert!((actual - expected).abs() < 1e-12, "{actual} is not {expected}");
    }

    #[test]
    fn agrees_with_counting_and_scipy() {
        // Counted in fractions by Python over itertools.combinations(range(15), 7): 2·581/6435. scipy 1.17.1's stats.permutation_test((A, B),
        // ..., n_resamples=np.inf) says 0.18026 = 2·580/6435: it takes one equal difference that rounds apart for a smaller one.
        let mean = two_sample(&A, &B, Statistic::Mean, 0, 1).unwrap();
        assert_eq!((mean.permutations, mean.exact), (6435, true));
        close(mean.difference, 0.113_571_428_571_429_32);
        close(mean.p_value, 2.0 * 581.0 / 6435.0);
        // With np.median both agree.
        close(two_sample(&A, &B, Statistic::Median, 0, 1).unwrap().p_value, 0.296_814_296_814_296_83);
        // permutation_type='samples' of (D,), np.mean and np.median
        let signs = paired(&D, Statistic::Mean, 0, 1).unwrap();
        assert_eq!((signs.permutations, signs.exact), (256, true));
        close(signs.p_value, 0.0390625);
        close(paired(&D, Statistic::Median, 0, 1).unwrap().p_value, 0.0625);
    }

    #[test]
    fn drawn_permutations_come_near_the_listed_ones() {
        // C(20, 10) = 184,756 ways are too many. scipy: the same two samples with n_resamples=np.inf: 0.0656; 2¹⁶ signs of np.array(D + D) − .05*np.arange(16): 0.5174.
        let a = [3.1, 2.9, 3.4, 3.3, 3.0, 3.6, 3.2, 3.5, 2.8, 3.7];
        let b = [3.0, 2.7, 3.1, 2.95, 3.25, 2.85, 3.05, 3.15, 2.75, 3.35];
        let test = two_sample(&a, &b, Statistic::Mean, 100_000, 3).unwrap();
        assert!(!test.exact && (test.p_value - 0.0656).abs() < 0.002, "{}", test.p_value);
        assert_eq!(test, two_sample(&a, &b, Statistic::Mean, 100_000, 3).unwrap());
        let d: Vec<f64> = D.iter().chain(&D).enumerate().map(|(i, d)| d - 0.05 * i as f64).collect();
        let test = paired(&d, Statistic::Mean, 100_000, 3).unwrap();
        assert!(!test.exact && (test.p_value - 0.5174).abs() < 0.002, "{}", test.p_value);
    }

    #[test]
    fn no_p_value_is_zero() {
        let (low, high): (Vec<f64>, Vec<f64>) = (0..30).map(|i| (f64::from(i), f64::from(i) + 1000.0)).unzip();
        assert_eq!(two_sample(&high, &low, Statistic::Mean, 999, 1).unwrap().p_value, 2.0 / 1000.0);
        assert_eq!(paired(&high, Statistic::Median, 999, 1).unwrap().p_value, 2.0 / 1000.0);
        assert_eq!(two_sample(&[1.0; 4], &[1.0; 4], Statistic::Mean, 0, 1).unwrap().p_value, 1.0);
        assert_eq!(two_sample(&low, &high, Statistic::Mean, 0, 1), None);
        assert_eq!(two_sample(&[], &high, Statistic::Mean, 9, 1), None);
        assert_eq!(paired(&[f64::NAN], Statistic::Mean, 9, 1), None);
    }
}
