//! Many resamples of many metrics, fast.
//!
//! Nothing here draws row by row for every metric:
//!
//! - A resample's *mean* depends only on how often each row was drawn. The counts are drawn once per sample size (row by row, so they are
//!   multinomial) and kept, one byte each; a metric then costs one product of counts and values per resample. Metrics of the same rows share
//!   the draws, as they do when whole rows are resampled, so each metric's interval is that of an ordinary bootstrap.
//! - A resample's *quantile* of type 7 lies between two neighbouring order statistics of n draws from n sorted rows. The k-th smallest of n
//!   uniform numbers is Beta(k, n + 1 − k), the next one is the smallest of n − k uniform numbers above it (David & Nagaraja, "Order
//!   Statistics", 3rd ed., §2.2, §2.5), and a uniform number u stands for the row ⌊u·n⌋: two numbers per resample have exactly the
//!   distribution that n draws and a sort would give.

use std::collections::HashMap;

use rand_distr::{Beta, Distribution, StandardNormal};

use super::generator::Generator;
use crate::stats::summary::{mean, standard_deviation};

/// Bytes of counts that are kept per sample size and side; larger samples are counted anew for each metric.
const MOST_KEPT: usize = 64 << 20;
/// Draws per interval above which a mean's resampling distribution is written down instead of drawn, see [`Bootstrap::means`].
const MOST_DRAWN: u64 = 400_000_000;
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

    /// The means of resamples of `values`; empty for fewer than two values or one that is not finite.
    ///
    /// Where resamples × rows exceeds 4·10⁸, the distribution of the mean is taken from its Edgeworth expansion (normal with the sample's
    /// variance and skewness), whose error is of order 1/n: with 10,000 resamples that is n > 40,000.
    pub fn means(&mut self, side: Side, values: &[f64]) -> Vec<f64> {
        let n = values.len();
        let Some((centre, spread)) = moments(values) else { return Vec::new() };
        if spread == 0.0 {
            return vec![centre; self.resamples as usize];
        }
        if u64::from(self.resamples) * n as u64 > MOST_DRAWN {
            return self.expanded_means(side, values, centre, spread);
        }
        // Around 0 and of size 1, so that single precision keeps seven digits of the spread, not of the value.
        let scaled: Vec<f32> = values.iter().map(|value| ((value - centre) / spread) as f32).collect();
        let unscale = |total: f64| centre + spread * total / n as f64;
        let (resamples, seed) = (self.resamples as usize, self.seed);
        if resamples.saturating_mul(n) <= MOST_KEPT {
            let counts = self.counts.entry((side, n)).or_insert_with(|| {
                let mut counts = vec![0; resamples * n];
                let mut random = Generator::stream(seed, stream(side, n));
                counts.chunks_exact_mut(n).for_each(|counts| draw_counts(&mut random, counts));
                counts
            });
            return counts.chunks_exact(n).map(|counts| unscale(product(counts, &scaled))).collect();
        }
        let mut random = Generator::stream(seed, stream(side, n));
        let mut counts = vec![0; n];
        let mut once = || {
            counts.fill(0);
            draw_counts(&mut random, &mut counts);
            unscale(product(&counts, &scaled))
        };
        (0..resamples).map(|_| once()).collect()
    }

    fn expanded_means(&self, side: Side, values: &[f64], centre: f64, spread: f64) -> Vec<f64> {
        let n = values.len() as f64;
        // The bootstrap's own variance has the divisor n.
        let deviation = spread * ((n - 1.0) / n).sqrt();
        let skewness = values.iter().map(|value| ((value - centre) / deviation).powi(3)).sum::<f64>() / n;
        let mut random = Generator::stream(self.seed, stream(side, values.len()));
        let mut draw = || {
            let z: f64 = StandardNormal.sample(&mut random);
            centre + deviation / n.sqrt() * (z + skewness * (z * z - 1.0) / (6.0 * n.sqrt()))
        };
        (0..self.resamples).map(|_| draw()).collect()
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
fn moments(values: &[f64]) -> Option<(f64, f64)> {
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

/// Σ count × value. The lanes fix the order of the additions, so that the result does not depend on the width of a machine's registers.
fn product(counts: &[u8], values: &[f32]) -> f64 {
    let mut total = 0.0;
    for (counts, values) in counts.chunks(CHUNK).zip(values.chunks(CHUNK)) {
        let mut lanes = [0.0f32; LANES];
        let (count_parts, value_parts) = (counts.chunks_exact(LANES), values.chunks_exact(LANES));
        let rest = count_parts.remainder().iter().zip(value_parts.remainder());
        total += rest.map(|(count, value)| f64::from(*count) * f64::from(*value)).sum::<f64>();
        for (counts, values) in count_parts.zip(value_parts) {
            for lane in 0..LANES {
                lanes[lane] += f32::from(counts[lane]) * values[lane];
            }
        }
        total += lanes.iter().map(|lane| f64::from(*lane)).sum::<f64>();
    }
    total
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
