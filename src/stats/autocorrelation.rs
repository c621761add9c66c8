//! Rows that depend on their neighbours: autocorrelation, effective sample size, block length, block resampling.

use rand_distr::{Distribution, Geometric};
use serde::{Deserialize, Serialize};

use super::bootstrap::Generator;
use super::summary::mean;

/// Fewest rows from which a block length is chosen: the rule looks at √n + 5 lags.
pub const MIN_ROWS: usize = 16;

/// Block lengths chosen from the data, rows; real numbers, at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BlockLength {
    /// Mean length for the stationary bootstrap.
    pub stationary: f64,
    /// Length for the circular block bootstrap.
    pub circular: f64,
}

/// How blocks of rows are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlockScheme {
    /// Blocks of equal length, wrapped around the end (Politis & Romano, in "Exploring the Limits of Bootstrap", 1992).
    Circular,
    /// Blocks of geometric length, wrapped around the end (Politis & Romano, JASA 89, 1994).
    Stationary,
}

/// Sample autocorrelation at lags 0..=`max_lag` (fewer if there are fewer rows), with the divisor n at every lag; `None` for fewer than two
/// rows, a row that is not finite, or no variance.
pub fn autocorrelation(values: &[f64], max_lag: usize) -> Option<Vec<f64>> {
    let deviations = deviations(values)?;
    let variance = covariance(&deviations, 0);
    let lags = 0..=max_lag.min(values.len() - 1);
    Some(lags.map(|lag| covariance(&deviations, lag) / variance).collect())
}

/// Integrated autocorrelation time τ = 1 + 2·Σρ: n rows weigh as n / τ independent ones. `None` as for [`autocorrelation`].
///
/// The sum ends by Geyer's initial positive sequence ("Practical Markov Chain Monte Carlo", Statistical Science 7, 1992, §3.3): pairs
/// ρ(2k) + ρ(2k + 1) are added while they are positive, so that the noise of far lags is left out.
pub fn integrated_time(values: &[f64]) -> Option<f64> {
    let deviations = deviations(values)?;
    let variance = covariance(&deviations, 0);
    let mut pairs = 0.0;
    for lag in (0..values.len() - 1).step_by(2) {
        let pair = (covariance(&deviations, lag) + covariance(&deviations, lag + 1)) / variance;
        if pair <= 0.0 {
            break;
        }
        pairs += pair;
    }
    Some(2.0 * pairs - 1.0)
}

/// Effective sample size n / τ, at most n: rows that alternate are not counted as more than they are. `None` as for [`autocorrelation`].
pub fn effective_sample_size(values: &[f64]) -> Option<f64> {
    let n = values.len() as f64;
    integrated_time(values).map(|time| n / time.max(1.0))
}

/// Block lengths by Politis & White, "Automatic block-length selection for the dependent bootstrap" (Econometric Reviews 23, 2004) with the
/// correction of Patton, Politis & White (Econometric Reviews 28, 2009); `None` for fewer than [`MIN_ROWS`] rows, a row that is not
/// finite, or no variance.
pub fn block_length(values: &[f64]) -> Option<BlockLength> {
    let n = values.len();
    if n < MIN_ROWS {
        return None;
    }
    let deviations = deviations(values)?;
    let rows = n as f64;
    let longest = (3.0 * rows.sqrt()).min(rows / 3.0).ceil();
    // The lag after which k_n autocorrelations in a row are insignificant, doubled, is how far the flat-top window reaches.
    let run = 5.max(rows.log10() as usize);
    let most = (rows.sqrt().ceil() as usize + run).min(n - 2);
    let bound = 2.0 * (rows.log10() / rows).sqrt();
    let correlation = |lag: usize| {
        let (late, early) = (&deviations[lag + 1..], &deviations[..n - lag - 1]);
        let squares = |part: &[f64]| part.iter().map(|value| value * value).sum::<f64>();
        covariance(&deviations, lag).abs() * rows / (squares(late) * squares(early)).sqrt()
    };
    let correlations: Vec<f64> = (0..=most).map(correlation).collect();
    let quiet = (run..=most).find(|end| correlations[end - run..*end].iter().all(|value| *value < bound));
    let reach = quiet.map_or(most, |end| (2 * (end - run).max(1)).min(most));
    let (mut slope, mut long_run) = (0.0, covariance(&deviations, 0));
    for lag in 1..=reach {
        let share = lag as f64 / reach as f64;
        let weight = if share <= 0.5 { 1.0 } else { 2.0 * (1.0 - share) };
        let weighted = 2.0 * weight * covariance(&deviations, lag);
        slope += lag as f64 * weighted;
        long_run += weighted;
    }
    if long_run == 0.0 {
        return None;
    }
    let length = |factor: f64| (2.0 * slope * slope / (factor * long_run * long_run) * rows).cbrt().clamp(1.0, longest);
    Some(BlockLength { stationary: length(2.0), circular: length(4.0 / 3.0) })
}

/// Row positions of one block resample of `n` rows with (mean) block `length`; a length below 1 counts as 1.
pub fn block_indices(n: usize, length: f64, scheme: BlockScheme, random: &mut Generator) -> Vec<usize> {
    let mut rows = Vec::with_capacity(n);
    let length = if length >= 1.0 { length } else { 1.0 };
    let geometric = Geometric::new(1.0 / length).ok();
    while rows.len() < n {
        let start = random.below(n);
        let block = match (scheme, geometric) {
            (BlockScheme::Circular, _) | (_, None) => length.round() as usize,
            // The geometric distribution of the crate counts failures before a success.
            (BlockScheme::Stationary, Some(geometric)) => geometric.sample(random).saturating_add(1) as usize,
        };
        rows.extend((0..block.min(n - rows.len())).map(|step| (start + step) % n));
    }
    rows
}

fn deviations(values: &[f64]) -> Option<Vec<f64>> {
    if values.len() < 2 || values.iter().any(|value| !value.is_finite()) {
        return None;
    }
    let centre = mean(values)?;
    let deviations: Vec<f64> = values.iter().map(|value| value - centre).collect();
    values.iter().any(|value| *value != values[0]).then_some(deviations)
}

/// Σ of products `lag` apart, over n.
fn covariance(deviations: &[f64], lag: usize) -> f64 {
    let later = deviations.get(lag..).unwrap_or_default();
    later.iter().zip(deviations).map(|(a, b)| a * b).sum::<f64>() / deviations.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Uniform noise of a linear congruential generator, and an autoregression of it, which Python repeats to the last bit:
    /// `st = (1103515245*st + 12345) % 2**31; u.append(st/2**31 - 0.5)` from 12345; `v = 0.6*v + u[i]`.
    fn series() -> (Vec<f64>, Vec<f64>) {
        let mut state = 12345u64;
        let mut next = || {
            state = (1_103_515_245 * state + 12345) % (1 << 31);
            state as f64 / f64::from(1u32 << 31) - 0.5
        };
        let noise: Vec<f64> = (0..200).map(|_| next()).collect();
        let mut value = 0.0;
        let mut step = |noise: &f64| {
            value = 0.6 * value + noise;
            value
        };
        let smooth = noise.iter().map(&mut step).collect();
        (noise, smooth)
    }

    fn close(actual: f64, expected: f64) {
        assert!((actual - expected).abs() < 1e-9, "{actual} is not {expected}");
    }

    #[test]
    fn agrees_with_statsmodels_and_arch() {
        let (noise, smooth) = series();
        // statsmodels 0.15.0: acf(z, nlags=5, fft=False, adjusted=False)
        let expected =
            [1.0, 0.5773108776554035, 0.30372018965404474, 0.148070374911736, 0.108370112842486, 0.10938662913374453];
        for (actual, expected) in autocorrelation(&smooth, 5).unwrap().into_iter().zip(expected) {
            close(actual, expected);
        }
        // Pairs of acf(z, nlags=199) added in Python while positive.
        close(integrated_time(&smooth).unwrap(), 3.4937163683948285);
        close(effective_sample_size(&smooth).unwrap(), 200.0 / 3.4937163683948285);
        // arch 8.0.0: optimal_block_length(z); of the noise it says 0.54 and 0.62, and a block holds at least one row.
        let length = block_length(&smooth).unwrap();
        close(length.stationary, 6.9026578297917975);
        close(length.circular, 7.901570729234944);
        assert_eq!(block_length(&noise), Some(BlockLength { stationary: 1.0, circular: 1.0 }));
    }

    #[test]
    fn an_autoregression_weighs_as_theory_says() {
        // τ of AR(1) is (1 + φ)/(1 − φ): 3 for φ = 0.5.
        let mut random = Generator::new(1);
        let mut value = 0.0;
        let mut step = |_| {
            value = 0.5 * value + random.uniform() - 0.5;
            value
        };
        let series: Vec<f64> = (0..100_000).map(&mut step).collect();
        let time = integrated_time(&series).unwrap();
        assert!((time - 3.0).abs() < 0.15, "{time}");
        // Rows that alternate average out faster than independent ones, but do not count as more.
        let alternating: Vec<f64> = (0..100).map(|i| f64::from(i % 2)).collect();
        assert_eq!(effective_sample_size(&alternating), Some(100.0));
    }

    #[test]
    fn blocks_are_neighbours_and_every_row_is_as_likely() {
        let mut random = Generator::new(2);
        let mut counts = [0u32; 50];
        let mut breaks = [0u32; 2];
        for (scheme, breaks) in [BlockScheme::Circular, BlockScheme::Stationary].into_iter().zip(&mut breaks) {
            for _ in 0..2000 {
                let rows = block_indices(50, 5.0, scheme, &mut random);
                assert_eq!(rows.len(), 50);
                #[expect(clippy::needless_for_each, reason = "one line says it")]
                rows.iter().for_each(|row| counts[*row] += 1);
                *breaks += rows.windows(2).filter(|pair| pair[1] != (pair[0] + 1) % 50).count() as u32;
            }
        }
        // 4000 resamples in which each row is expected once; blocks of 5 quintuple the variance.
        assert!(counts.iter().all(|count| count.abs_diff(4000) < 5 * 142), "{counts:?}");
        // 9 seams between 10 blocks; a geometric block ends after each row with chance 1/5. One in 50 seams joins neighbours by chance.
        for (breaks, expected) in breaks.into_iter().zip([9.0, 49.0 / 5.0]) {
            let each = f64::from(breaks) / 2000.0;
            assert!((each - expected * 0.98).abs() < 0.25, "{each}");
        }
        assert!(block_indices(0, 5.0, BlockScheme::Circular, &mut random).is_empty());
    }

    #[test]
    fn what_does_not_vary_has_no_dependence() {
        assert_eq!(autocorrelation(&[1.0; 30], 3), None);
        assert_eq!(integrated_time(&[1.0, f64::NAN]), None);
        assert_eq!(block_length(&[1.0; 30]), None);
        assert_eq!(block_length(&[1.0, 2.0, 3.0]), None);
        assert_eq!(autocorrelation(&[1.0], 3), None);
    }
}
