//! The effect of an A/B study: candidate / baseline, with an interval that fits how the rows were gathered.

use serde::{Deserialize, Serialize};

mod blocks;
mod extremes;
mod fieller;
mod resampled;
mod studentized;
mod units;

pub use fieller::fieller_interval;

use super::bootstrap::{Bootstrap, Statistic};
use super::power::logarithms;
use super::quantile::supported;
use resampled::Resampled;
use studentized::Studentized;

/// The rows of one side, unit by unit: a unit is a process, a run or a block, and its rows stand in the order they were measured.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Groups(pub Vec<Vec<f64>>);

impl Groups {
    /// All rows as one unit.
    pub fn single(rows: Vec<f64>) -> Self {
        Self(vec![rows])
    }
    /// Number of units.
    pub fn units(&self) -> usize {
        self.0.len()
    }
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.0.iter().map(Vec::len).sum()
    }
    /// The rows of all units in one list.
    pub fn pooled(&self) -> Vec<f64> {
        self.0.concat()
    }
}

/// How the rows of a study came about, which decides what varies independently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Design {
    /// Every row is a unit of its own (e.g. one value per process); the grouping is ignored.
    Independent,
    /// Units (processes, runs) vary and so do the rows inside them; the units of the two sides do not belong together.
    Hierarchical,
    /// Unit `i` of the candidate was measured side by side with unit `i` of the baseline: drift that both saw cancels.
    Blocked,
    /// Rows of one process that depend on their neighbours; needs `length` consecutive rows to stay together.
    MovingBlocks {
        /// Rows per block; see [`super::autocorrelation::block_length`]. 0 chooses it from the data.
        length: usize,
    },
}

/// Where an interval comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IntervalMethod {
    /// Symmetric bootstrap-t on the logarithm of the ratio of means.
    BootstrapT,
    /// BCa bootstrap.
    BcaBootstrap,
    /// Percentile bootstrap.
    PercentileBootstrap,
    /// Bootstrap of units, each with its rows.
    HierarchicalBootstrap,
    /// Bootstrap of blocks of consecutive rows.
    BlockBootstrap,
    /// Welch's t on the logarithms of the units: the ratio of geometric means.
    WelchLog,
    /// Welch's t on the logarithm of the ratio of means, its error by the delta method.
    WelchDelta,
    /// Student's t on the logarithms of the per-block ratios.
    StudentLog,
    /// Hodges–Lehmann estimate of the logarithms of the per-block ratios, with the exact interval of Wilcoxon's signed-rank test.
    SignedRank,
    /// Least row of one side over the largest of the other: the widest interval of the Mann–Whitney test.
    Extremes,
}

/// Rows per side from which on independent rows are resampled; with fewer, bootstrap intervals are too narrow.
pub const MIN_RESAMPLED: usize = 10;
/// Units per side from which on they are resampled; with fewer, Welch's t on the logarithms holds its confidence better.
pub const MIN_UNITS_RESAMPLED: usize = 20;
/// Blocks from which on the exact signed-rank interval exists at 95 %: 2·2⁻⁶ < 0.05 < 2·2⁻⁵.
pub const MIN_SIGNED_RANK: usize = 6;

/// The estimated ratio candidate / baseline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RatioEstimate {
    /// candidate / baseline; below 1 the candidate's value is lower.
    pub ratio: f64,
    /// Interval at the confidence asked for.
    pub interval: [f64; 2],
    /// Interval at 1 − 2·(1 − confidence), e.g. 90 % for 95 %: two one-sided tests at 5 % each (TOST), for equivalence.
    pub equivalence_interval: [f64; 2],
    /// Two-sided p of ratio = 1 by the same method: below 1 − confidence exactly where the interval excludes 1.
    pub p_value: f64,
    /// How the interval was made.
    pub method: IntervalMethod,
    /// Rows of the candidate.
    pub n_candidate: u64,
    /// Rows of the baseline.
    pub n_baseline: u64,
    /// Independent units of the candidate.
    pub units_candidate: u64,
    /// Independent units of the baseline.
    pub units_baseline: u64,
}

/// The ratio of `statistic` of the candidate to that of the baseline with its interval.
pub fn ratio_interval(
    candidate: &Groups,
    baseline: &Groups,
    statistic: Statistic,
    design: Design,
    confidence: f64,
    resamples: u32,
    seed: u64,
) -> Option<RatioEstimate> {
    ratio_interval_with(&mut Bootstrap::new(resamples, seed), candidate, baseline, statistic, design, confidence)
}

/// [`ratio_interval`] with resamples shared among many metrics: several times faster, and the same result.
pub fn ratio_interval_with(
    bootstrap: &mut Bootstrap,
    candidate: &Groups,
    baseline: &Groups,
    statistic: Statistic,
    design: Design,
    confidence: f64,
) -> Option<RatioEstimate> {
    // The equivalence interval has twice the tails.
    let sensible = confidence > 0.5 && confidence < 1.0 && bootstrap.resamples() > 0;
    let sides = [candidate, baseline];
    let finite = |groups: &Groups| groups.0.iter().flatten().all(|row| row.is_finite());
    if !sensible || !sides.into_iter().all(finite) {
        return None;
    }
    let found = match design {
        Design::Independent => independent(bootstrap, &candidate.pooled(), &baseline.pooled(), statistic)?,
        Design::Hierarchical => hierarchical(bootstrap, candidate, baseline, statistic)?,
        Design::Blocked => units::blocked(candidate, baseline, statistic)?,
        Design::MovingBlocks { length } => {
            let (candidate, baseline) = (candidate.pooled(), baseline.pooled());
            blocks::moving_blocks(bootstrap, &candidate, &baseline, statistic, length)
                .or_else(|| extremes::extremes(&candidate, &baseline, statistic))?
        }
    };
    found.estimate([candidate.rows(), baseline.rows()], confidence)
}

/// The BCa interval (Efron & Tibshirani 1993, §14.3) of the ratio for independent rows, for comparison with other tools: what
/// [`ratio_interval`] gives holds its confidence better (`stats::simulation_tests::table` prints how often). `None` as there.
pub fn bca_interval(
    bootstrap: &mut Bootstrap,
    candidate: &[f64],
    baseline: &[f64],
    statistic: Statistic,
    confidence: f64,
) -> Option<RatioEstimate> {
    if !(confidence > 0.5 && confidence < 1.0) || bootstrap.resamples() == 0 {
        return None;
    }
    let found = match statistic {
        Statistic::Mean => resampled::bca_of_means(bootstrap, candidate, baseline)?,
        Statistic::Median | Statistic::Quantile { .. } => {
            resampled::quantiles(bootstrap, candidate, baseline, statistic, true)?
        }
    };
    found.estimate([candidate.len(), baseline.len()], confidence)
}

/// An estimate before its confidence is chosen.
struct Found {
    ratio: f64,
    method: IntervalMethod,
    units: [u64; 2],
    spread: Spread,
}

/// What its intervals are read from.
enum Spread {
    Resampled(Resampled),
    Studentized(Studentized),
    LogT {
        log_ratio: f64,
        error: f64,
        freedom: f64,
    },
    SignedRank(Vec<f64>),
    /// Ends, and p where they leave out 1.
    Extremes {
        ends: [f64; 2],
        least_p: f64,
    },
}

impl Found {
    fn estimate(&self, rows: [usize; 2], confidence: f64) -> Option<RatioEstimate> {
        let tail = (1.0 - confidence) / 2.0;
        let estimate = RatioEstimate {
            ratio: self.ratio,
            interval: self.interval(tail)?,
            equivalence_interval: self.interval(2.0 * tail)?,
            p_value: self.p_value()?,
            method: self.method,
            n_candidate: rows[0] as u64,
            n_baseline: rows[1] as u64,
            units_candidate: self.units[0],
            units_baseline: self.units[1],
        };
        let known = [estimate.interval, estimate.equivalence_interval].concat().iter().all(|end| end.is_finite());
        (known && estimate.ratio.is_finite()).then_some(estimate)
    }
    fn interval(&self, tail: f64) -> Option<[f64; 2]> {
        match &self.spread {
            Spread::Resampled(resampled) => resampled.interval(tail),
            Spread::Studentized(studentized) => studentized.interval(tail),
            Spread::LogT { log_ratio, error, freedom } => units::t_interval(*log_ratio, *error, *freedom, tail),
            Spread::SignedRank(logs) => units::signed_rank_interval(logs, tail),
            // No narrower one is worth having of rows that may depend on each other.
            Spread::Extremes { ends, least_p } => (*least_p <= 2.0 * tail).then_some(*ends),
        }
    }
    fn p_value(&self) -> Option<f64> {
        match &self.spread {
            Spread::Resampled(resampled) => resampled.p_value(),
            Spread::Studentized(studentized) => Some(studentized.p_value()),
            Spread::LogT { log_ratio, error, freedom } => units::t_p_value(*log_ratio, *error, *freedom),
            Spread::SignedRank(logs) => super::rank_test::signed_rank(logs).map(|test| test.p_value),
            Spread::Extremes { ends: [low, high], least_p } => {
                Some(if *low > 1.0 || *high < 1.0 { *least_p } else { 1.0 })
            }
        }
    }
}

fn independent(bootstrap: &mut Bootstrap, candidate: &[f64], baseline: &[f64], statistic: Statistic) -> Option<Found> {
    let fewest = candidate.len().min(baseline.len());
    if fewest < MIN_RESAMPLED {
        if matches!(statistic, Statistic::Quantile { .. }) {
            return None;
        }
        return units::welch(&logarithms(candidate)?, &logarithms(baseline)?, IntervalMethod::WelchLog);
    }
    if let Statistic::Quantile { per_mille } = statistic
        && !supported(f64::from(per_mille) / 1000.0, fewest as u64)
    {
        return None;
    }
    match statistic {
        Statistic::Mean => studentized::independent(bootstrap, candidate, baseline),
        Statistic::Median | Statistic::Quantile { .. } => {
            resampled::quantiles(bootstrap, candidate, baseline, statistic, false)
        }
    }
}

fn hierarchical(
    bootstrap: &mut Bootstrap,
    candidate: &Groups,
    baseline: &Groups,
    statistic: Statistic,
) -> Option<Found> {
    let logs = |groups: &Groups| -> Option<Vec<f64>> {
        logarithms(&groups.0.iter().map(|rows| statistic.estimate(rows)).collect::<Option<Vec<f64>>>()?)
    };
    let (candidate, baseline) = (logs(candidate)?, logs(baseline)?);
    if candidate.len().min(baseline.len()) < MIN_UNITS_RESAMPLED {
        return units::welch(&candidate, &baseline, IntervalMethod::WelchLog);
    }
    resampled::units(bootstrap, &candidate, &baseline)
}

#[cfg(test)]
mod tests;
