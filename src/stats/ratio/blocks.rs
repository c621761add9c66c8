//! Rows of one process, in blocks of neighbours.

use super::super::autocorrelation::block_length;
use super::super::bootstrap::{Bootstrap, Generator, Side, Statistic};
use super::resampled::Resampled;
use super::{Found, IntervalMethod, Spread};

/// Fewest blocks a side is cut into: with fewer there is nothing to resample.
const MIN_BLOCKS: usize = 5;

pub(super) fn moving_blocks(
    bootstrap: &Bootstrap,
    candidate: &[f64],
    baseline: &[f64],
    statistic: Statistic,
    length: usize,
) -> Option<Found> {
    let ratio = statistic.estimate(candidate)? / statistic.estimate(baseline)?;
    let above = resample(bootstrap, Side::Candidate, candidate, statistic, length)?;
    let below = resample(bootstrap, Side::Baseline, baseline, statistic, length)?;
    let units = [above.blocks, below.blocks];
    let resampled = Resampled::new(&above.statistics, &below.statistics, units)?;
    Some(Found {
        ratio,
        method: IntervalMethod::BlockBootstrap,
        units: units.map(|blocks| blocks.floor() as u64),
        spread: Spread::Resampled(resampled),
    })
}

struct Blocks {
    statistics: Vec<f64>,
    blocks: f64,
}

/// Circular block bootstrap (Politis & Romano 1992). A resample is a sum over blocks, so a mean takes one difference of running sums per
/// block, and a quantile one pass over how often each row came.
fn resample(bootstrap: &Bootstrap, side: Side, rows: &[f64], statistic: Statistic, length: usize) -> Option<Blocks> {
    let n = rows.len();
    let length = if length > 0 { length } else { block_length(rows)?.circular.ceil() as usize };
    if n < MIN_BLOCKS * length {
        return None;
    }
    let mut random = Generator::stream(bootstrap.seed(), (n as u64) << 8 | 4 | u64::from(side == Side::Baseline));
    let full = n / length;
    let rest = n % length;
    let mut starts = vec![0; full + usize::from(rest > 0)];
    let mut once: Box<dyn FnMut(&[usize]) -> f64> = match statistic {
        Statistic::Mean => {
            let mut running = vec![0.0];
            running.extend(rows.iter().chain(rows).scan(0.0, |sum, row| {
                *sum += row;
                Some(*sum)
            }));
            Box::new(move |starts: &[usize]| {
                let mut total = 0.0;
                for (block, start) in starts.iter().enumerate() {
                    let length = if block < full { length } else { rest };
                    total += running[start + length] - running[*start];
                }
                total / n as f64
            })
        }
        Statistic::Median | Statistic::Quantile { .. } => {
            let per_mille = if let Statistic::Quantile { per_mille } = statistic { per_mille } else { 500 };
            let position = (n - 1) as f64 * f64::from(per_mille) / 1000.0;
            let (rank, fraction) = (position.floor() as usize, position.fract());
            let mut order: Vec<usize> = (0..n).collect();
            order.sort_unstable_by(|a, b| rows[*a].total_cmp(&rows[*b]));
            let sorted: Vec<f64> = order.iter().map(|row| rows[*row]).collect();
            let mut steps = vec![0i32; n + 1];
            let mut counts = vec![0i32; n];
            Box::new(move |starts: &[usize]| {
                steps.fill(0);
                for (block, start) in starts.iter().enumerate() {
                    let length = if block < full { length } else { rest };
                    let end = start + length;
                    steps[*start] += 1;
                    if end <= n {
                        steps[end] -= 1;
                    } else {
                        steps[0] += 1;
                        steps[end - n] -= 1;
                    }
                }
                let mut now = 0;
                for (count, step) in counts.iter_mut().zip(&steps) {
                    now += step;
                    *count = now;
                }
                quantile_of_counts(&order, &counts, &sorted, rank, fraction)
            })
        }
    };
    let mut draw = || {
        starts.fill_with(|| random.below(n));
        once(&starts)
    };
    let statistics = (0..bootstrap.resamples()).map(|_| draw()).collect();
    Some(Blocks { statistics, blocks: n as f64 / length as f64 })
}

/// Between the values of rank `rank` and `rank + 1` (from 0) where the row at `order[i]` comes `counts` times.
fn quantile_of_counts(order: &[usize], counts: &[i32], sorted: &[f64], rank: usize, fraction: f64) -> f64 {
    let mut seen = 0usize;
    let mut low = None;
    for (place, row) in order.iter().enumerate() {
        seen += counts[*row] as usize;
        if low.is_none() && seen > rank {
            low = Some(sorted[place]);
        }
        if let Some(low) = low
            && (seen > rank + 1 || fraction == 0.0)
        {
            return low + (sorted[place] - low) * fraction;
        }
    }
    low.unwrap_or(f64::NAN)
}
