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
