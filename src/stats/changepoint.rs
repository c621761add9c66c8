//! From which repeat on a series is steady: the end of the warm-up.
//!
//! The earliest change of the mean is tested by permutation: the largest standardised difference between the first k values and the rest,
//! over k, against the same of the series in random order (CUSUM of Page, Biometrika 41, 1954, in the scaling of Hawkins, JASA 72, 1977;
//! the permutation of change-point statistics: Antoch & Hušková, Statistics & Probability Letters 53, 2001). Whatever the distribution of a
//! steady series, at most [`ALPHA`] of them show a change, as long as its order carries no information. Barrett et al., "Virtual Machine
//! Warmup Blows Hot and Cold" (OOPSLA 2017) is why the end of a warm-up is measured and not supposed.

use serde::{Deserialize, Serialize};

use super::autocorrelation::integrated_time;
use super::bootstrap::Generator;
use super::power::logarithms;
use super::quantile::{median, sorted};
use super::slow_first::slow_first;

/// Fewest values that are judged.
pub const MIN_VALUES: usize = 6;
/// Significance below which a change is believed.
pub const ALPHA: f64 = 0.05;
/// Relative change below which a warm-up does not matter.
pub const MIN_SHIFT: f64 = 0.01;
/// Values that must follow the warm-up before the rest is called steady.
pub const MIN_STEADY: usize = 4;
/// Values from which on the dependence of neighbours can be estimated.
const MIN_DEPENDENCE: usize = 40;
const PERMUTATIONS: usize = 999;
/// A ramp's end is searched value by value this many deviations (1.4826·MAD) from the steady median.
const BAND: f64 = 3.0;

/// What is known about the warm-up of a series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WarmUp {
    /// First position of the steady part: 0 where no warm-up shows; null where the series had not become steady when it ended.
    pub steady_from: Option<usize>,
    /// p of the first change that was found, or of the most striking one where none was; null where the first value alone stood out so far
    /// that no permutation was asked ([`slow_first`]).
    pub p_value: Option<f64>,
    /// Median of the values before over that of the values after, minus 1; null where no change was found.
    pub shift: Option<f64>,
}

/// Where the warm-up of `values` (positive, in the order they were measured) ends; `None` for fewer than [`MIN_VALUES`] or a value that is
/// not positive and finite.
///
/// For "warm up until steady", call it after each repeat and stop when `steady_from` is some k with enough repeats after it. Values that
/// depend on their neighbours are permuted in blocks from 40 values on; with fewer, dependence can pass for a change.
pub fn warm_up(values: &[f64], seed: u64) -> Option<WarmUp> {
    if values.len() < MIN_VALUES {
        return None;
    }
    let logs = logarithms(values)?;
    let mut random = Generator::new(seed);
    let mut start = 0;
    let mut first_p = None;
    let mut steady = true;
    loop {
        let rest = &values[start..];
        if alone_slow(rest) {
            start += 1;
        } else {
            let Some(change) = change(&logs[start..], &mut random) else {
                steady = start == 0;
                break;
            };
            if start == 0 {
                first_p = Some(change.p_value);
            }
            let size = shift(rest, change.at).abs();
            if change.p_value >= ALPHA || size < MIN_SHIFT {
                break;
            }
            start += end_of_ramp(rest, change.at);
        }
        if values.len() - start < MIN_STEADY {
            steady = false;
            break;
        }
    }
    let shift = (start > 0 && start < values.len()).then(|| shift(values, start));
    Some(WarmUp { steady_from: steady.then_some(start), p_value: first_p, shift })
}

/// Whether the first value is far slower than all others and none of these stands out: a slow value among others like it is noise.
fn alone_slow(values: &[f64]) -> bool {
    values.len() > MIN_STEADY && slow_first(values).is_some() && {
        let rest = sorted(&values[1..]);
        let slowest = rest.len() - 1;
        let mut others = vec![rest[slowest]];
        others.extend(&rest[..slowest]);
        slow_first(&others).is_none()
    }
}

struct Change {
    at: usize,
    p_value: f64,
}

/// The most striking split with its p; `None` where too few values are left to split.
fn change(logs: &[f64], random: &mut Generator) -> Option<Change> {
    let n = logs.len();
    if n < MIN_VALUES {
        return None;
    }
    let (observed, at) = largest_split(logs);
    if observed == 0.0 {
        return Some(Change { at, p_value: 1.0 });
    }
    let length = if n >= MIN_DEPENDENCE {
        integrated_time(&logs[n / 2..]).map_or(1, |time| time.ceil().max(1.0) as usize)
    } else {
        1
    };
    let mut blocks: Vec<&[f64]> = logs.chunks(length).collect();
    let mut permuted = Vec::with_capacity(n);
    let mut extreme = 1;
    for _ in 0..PERMUTATIONS {
        for place in (1..blocks.len()).rev() {
            blocks.swap(place, random.below(place + 1));
        }
        permuted.clear();
        for block in &blocks {
            permuted.extend_from_slice(block);
        }
        extreme += usize::from(largest_split(&permuted).0 >= observed * (1.0 - 1e-12));
    }
    Some(Change { at, p_value: extreme as f64 / (PERMUTATIONS + 1) as f64 })
}

/// The largest |mean of the first k − mean of the rest| · √(k(n − k)/n) and its k, with [`MIN_STEADY`] values left after it and no more
/// than two thirds before.
fn largest_split(logs: &[f64]) -> (f64, usize) {
    let n = logs.len() as f64;
    let total: f64 = logs.iter().sum();
    let most = (logs.len() * 2 / 3).min(logs.len() - MIN_STEADY);
    let (mut before, mut best) = (0.0, (0.0, 1));
    for (index, value) in logs[..most].iter().enumerate() {
        before += value;
        let k = (index + 1) as f64;
        let gap = (before / k - (total - before) / (n - k)).abs() * (k * (n - k) / n).sqrt();
        if gap > best.0 {
            best = (gap, index + 1);
        }
    }
    best
}

/// Where a change at `at` has ended: values after it that still lie on its side outside the band of the later half belong to the ramp.
fn end_of_ramp(values: &[f64], at: usize) -> usize {
    let tail = &values[(values.len() / 2).max(at).min(values.len() - MIN_STEADY)..];
    let centre = median(tail).unwrap_or(0.0);
    let deviations: Vec<f64> = tail.iter().map(|value| (value - centre).abs()).collect();
    let band = BAND * 1.4826 * median(&deviations).unwrap_or(0.0);
    let side = shift(values, at).signum();
    let outside = |value: &f64| (value - centre) * side > band;
    at + values[at..].iter().take_while(|value| outside(value)).count()
}

fn shift(values: &[f64], at: usize) -> f64 {
    let (before, after) = (median(&values[..at]), median(&values[at..]));
    before.zip(after).map_or(0.0, |(before, after)| before / after - 1.0)
}

#[cfg(test)]
mod tests {
    use rand_distr::{Distribution, LogNormal, Normal};

    use super::*;

    const SERIES: usize = 2000;

    fn normal(random: &mut Generator, spread: f64) -> f64 {
        Normal::new(0.0, spread).unwrap().sample(random)
    }

    /// Share of steady series of `n` values in which a warm-up is seen.
    fn false_detections(n: usize, mut value: impl FnMut(&mut Generator) -> f64) -> f64 {
        let mut random = Generator::new(3);
        let seen = (0..SERIES).filter(|seed| {
            let values: Vec<f64> = (0..n).map(|_| value(&mut random)).collect();
            warm_up(&values, *seed as u64).unwrap().steady_from != Some(0)
        });
        seen.count() as f64 / SERIES as f64
    }

    #[test]
    fn steady_noise_is_not_eaten() {
        // The standard error of 5 % over 2000 series is 0.5 %.
        let spike = |random: &mut Generator, share: f64| if random.uniform() < share { 1.0 } else { 0.0 };
        let shares = [
            false_detections(15, |random| 100.0 + normal(random, 1.0)),
            false_detections(15, |random| 100.0 + normal(random, 10.0)),
            false_detections(8, |random| 100.0 + normal(random, 3.0)),
            false_detections(30, |random| LogNormal::new(0.0, 0.3).unwrap().sample(random)),
            false_detections(15, |random| 1.0 + spike(random, 0.5) + normal(random, 0.002).abs()),
            false_detections(15, |random| 1.0 + spike(random, 0.07) + normal(random, 0.002).abs()),
        ];
        assert!(shares.iter().all(|share| *share <= 0.06), "{shares:?}");
    }

    #[test]
    fn a_ramp_of_a_tenth_is_found_and_ends_where_it_ends() {
        let mut random = Generator::new(5);
        for length in 3..=5usize {
            let (mut found, mut right) = (0, 0);
            for seed in 0..400 {
                let value = |index: usize, random: &mut Generator| {
                    let ramp = 0.1 * length.saturating_sub(index) as f64 / length as f64;
                    100.0 * (1.0 + ramp + normal(random, 0.01))
                };
                let values: Vec<f64> = (0..15).map(|index| value(index, &mut random)).collect();
                let seen = warm_up(&values, seed).unwrap();
                found += usize::from(seen.steady_from.is_some_and(|from| from > 0) && seen.shift.unwrap() > 0.0);
                right += usize::from(seen.steady_from.is_some_and(|from| from.abs_diff(length) <= 2));
            }
            assert!(found >= 380, "{found} of 400 ramps over {length} values were found");
            assert!(right >= 340, "{right} of 400 ramps over {length} values ended where they end");
        }
    }
}
