//! Many resamples of many metrics, fast.
//!
//! Nothing here draws row by row for every metric:
//!
//! - A resample's *mean* and *variance* depend only on how often each row was drawn. The counts are drawn once per sample size (row by row, so they are
//!   multinomial) and kept, one byte each; a metric then costs one product of counts and values per resample. Metrics of the same rows share
//!   the draws, as they do when whole rows are resampled, so each metric's interval is that of an ordinary bootstrap.
//! - A resample's *quantile* of type 7 lies between two neighbouring order statistics of n draws from n sorted rows. The k-th smallest of n
//!   uniform numbers is Beta(k, n + 1 − k), the next one is the smallest of n − k uniform numbers above it (David & Nagaraja, "Order
//!   Statistics", 3rd ed., §2.2, §2.5), and a uniform number u stands for the row ⌊u·n⌋: two numbers per resample have exactly the
//!   distribution that n draws and a sort would give.

use std::collections::HashMap;

use rand_distr::{Beta, Distribution};

use super::generator::Generator;
use crate::stats::summary::{mean, standard_deviation};

/// Bytes of counts that are kept per sample size and side; larger samples are counted anew for each metric.
const MOST_KEPT: usize = 64 << 20;
/// Draws per side of an interval above which means are not resampled.
pub const MOST_DRAWN: u64 = 400_000_000;
/// Rows whose products are summed in single precision before they join the total.
const CHUNK: usize = 1024;
const LANES: usize = 16;

/// Draws for one side of a comparison; the sides must not share them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The variant under test.
    Candidate,
    /// What it is compared with.
    Baseline,
}

/// Of one resample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moments {
    /// Its mean.
    pub mean: f64,
    /// Its sample variance (n − 1); 0 where all its rows are equal.
    pub variance: f64,
}

/// A plan of resampling that many metrics share: what was drawn is kept per sample size.
#[derive(Debug)]
pub struct Bootstrap {
    resamples: u32,
    seed: u64,
    counts: HashMap<(Side, usize), Vec<u8>>,
    ranks: HashMap<(Side, usize, u16), Vec<[u32; 2]>>,
}

impl Bootstrap {
    /// A plan of `resamples` resamples that depends on `seed` alone.
    pub fn new(resamples: u32, seed: u64) -> Self {
        Self { resamples, seed, counts: HashMap::new(), ranks: HashMap::new() }
    }
    /// Resamples per interval.
    pub fn resamples(&self) -> u32 {
        self.resamples
    }
    /// The seed.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Mean and sample variance of resamples of `values`; `None` for fewer than two values, one that is not finite, or more than
    /// [`MOST_DRAWN`] draws (with 10,000 resamples: more than 40,000 rows, of which a mean is normal for every purpose here).
    pub fn moments(&mut self, side: Side, values: &[f64]) -> Option<Vec<Moments>> {
        let n = values.len();
        let (centre, spread) = centre_and_spread(values)?;
        if u64::from(self.resamples) * n as u64 > MOST_DRAWN {
            return None;
        }
        if spread == 0.0 {
            return Some(vec![Moments { mean: centre, variance: 0.0 }; self.resamples as usize]);
        }
        // Around 0 and of size 1, so that single precision keeps seven digits of the spread, not of the value.
        let scaled: Vec<f32> = values.iter().map(|value| ((value - centre) / spread) as f32).collect();
        let rows = n as f64;
        let unscale = |[first, second]: [f64; 2]| {
            let mean = first / rows;
            // Rounding leaves a trace of variance where one row was drawn throughout.
            let variance = (second - first * mean) / (rows - 1.0);
            let variance = if variance > 1e-6 { variance } else { 0.0 };
            Moments { mean: centre + spread * mean, variance: spread * spread * variance }
        };
        let (resamples, seed) = (self.resamples as usize, self.seed);
        if resamples.saturating_mul(n) <= MOST_KEPT {
            let counts = self.counts.entry((side, n)).or_insert_with(|| {
                let mut counts = vec![0; resamples * n];
                let mut random = Generator::stream(seed, stream(side, n));
                counts.chunks_exact_mut(n).for_each(|counts| draw_counts(&mut random, counts));
                counts
            });
            return Some(counts.chunks_exact(n).map(|counts| unscale(products(counts, &scaled))).collect());
        }
        let mut random = Generator::stream(seed, stream(side, n));
        let mut counts = vec![0; n];
        let mut once = || {
            counts.fill(0);
            draw_counts(&mut random, &mut counts);
            unscale(products(&counts, &scaled))
        };
        Some((0..resamples).map(|_| once()).collect())
    }

    /// The means of resamples of `values`; `None` as for [`Bootstrap::moments`].
    pub fn means(&mut self, side: Side, values: &[f64]) -> Option<Vec<f64>> {
        self.moments(side, values).map(|moments| moments.iter().map(|moments| moments.mean).collect())
    }

    /// The quantiles of resamples of sorted values; empty for none or a level above 1000.
    pub fn quantiles(&mut self, side: Side, sorted: &[f64], per_mille: u16) -> Vec<f64> {
        let n = sorted.len();
        if n == 0 || per_mille > 1000 || u32::try_from(n).is_err() {
            return Vec::new();
        }
        let position = (n - 1) as f64 * f64::from(per_mille) / 1000.0;
        let (below, fraction) = (position.floor() as usize, position.fract());
        let (resamples, seed) = (self.resamples, self.seed);
        let ranks = self.ranks.entry((side, n, per_mille)).or_insert_with(|| {
            let mut random = Generator::stream(seed, stream(side, n) ^ (u64::from(per_mille) + 1) << 40);
            draw_ranks(&mut random, n, below + 1, resamples)
        });
        let between = |[low, high]: &[u32; 2]| {
            let (low, high) = (sorted[*low as usize], sorted[*high as usize]);
            low + (high - low) * fraction
        };
        ranks.iter().map(between).collect()
    }
}

fn stream(side: Side, n: usize) -> u64 {
    (n as u64) << 1 | u64::from(side == Side::Baseline)
}

/// Mean and sample standard deviation; `None` for fewer than two values or one that is not finite.
fn centre_and_spread(values: &[f64]) -> Option<(f64, f64)> {
    let centre = mean(values)?;
    Some((centre, standard_deviation(values, centre)?))
}

/// How often each row is drawn in one resample. Two 32-bit halves of a number make two draws: no row is likelier than another by more
/// than n / 2³².
fn draw_counts(random: &mut Generator, counts: &mut [u8]) {
    let n = counts.len() as u64;
    for draw in 0..counts.len().div_ceil(2) {
        let bits = random.next();
        let (one, other) = (((bits >> 32) * n) >> 32, ((bits & 0xffff_ffff) * n) >> 32);
        // 255 draws of one row do not happen by chance: the expected number is 1.
        counts[one as usize] = counts[one as usize].saturating_add(1);
        if 2 * draw + 1 < counts.len() {
            counts[other as usize] = counts[other as usize].saturating_add(1);
        }
    }
}

/// Σ count × value and Σ count × value². The lanes fix the order of the additions, so that the result does not depend on the width of a
/// machine's registers.
fn products(counts: &[u8], values: &[f32]) -> [f64; 2] {
    let (mut first, mut second) = (0.0, 0.0);
    for (counts, values) in counts.chunks(CHUNK).zip(values.chunks(CHUNK)) {
        let (mut firsts, mut seconds) = ([0.0f32; LANES], [0.0f32; LANES]);
        let (count_parts, value_parts) = (counts.chunks_exact(LANES), values.chunks_exact(LANES));
        for (count, value) in count_parts.remainder().iter().zip(value_parts.remainder()) {
            let weighted = f64::from(*count) * f64::from(*value);
            first += weighted;
            second += weighted * f64::from(*value);
        }
        for (counts, values) in count_parts.zip(value_parts) {
            for lane in 0..LANES {
                let weighted = f32::from(counts[lane]) * values[lane];
                firsts[lane] += weighted;
                seconds[lane] += weighted * values[lane];
            }
        }
        first += firsts.iter().map(|lane| f64::from(*lane)).sum::<f64>();
        second += seconds.iter().map(|lane| f64::from(*lane)).sum::<f64>();
    }
    [first, second]
}

/// Rows that the `rank`-th smallest of n draws and the next one hit, for each resample.
fn draw_ranks(random: &mut Generator, n: usize, rank: usize, resamples: u32) -> Vec<[u32; 2]> {
    let Ok(beta) = Beta::new(rank as f64, (n + 1 - rank) as f64) else { return Vec::new() };
    let row = |u: f64| ((u * n as f64) as usize).min(n - 1) as u32;
    let above = n - rank;
    let mut draw = || {
        let u = beta.sample(random);
        if above == 0 {
            return [row(u); 2];
        }
        let next = 1.0 - (1.0 - u) * (1.0 - random.uniform()).powf(1.0 / above as f64);
        [row(u), row(next.max(u))]
    };
    (0..resamples).map(|_| draw()).collect()
}
