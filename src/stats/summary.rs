//! The summary every measure is reported with.

use serde::{Deserialize, Serialize};

/// Location, spread and tails of one measure. Fields that `n` does not allow are null, never 0.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Summary {
    /// Unit of the values as written in the reports, e.g. `ms`, `tok/s`, `ratio`, `bytes`, `J`.
    pub unit: String,
    /// Number of values.
    pub n: u64,
    /// Arithmetic mean.
    pub mean: Option<f64>,
    /// Sample standard deviation (n − 1); null for n < 2.
    pub std: Option<f64>,
    /// Smallest value.
    pub min: Option<f64>,
    /// Median. Percentiles are numpy's `linear` method (Hyndman & Fan type 7).
    pub p50: Option<f64>,
    /// 90th percentile.
    pub p90: Option<f64>,
    /// 95th percentile.
    pub p95: Option<f64>,
    /// 99th percentile.
    pub p99: Option<f64>,
    /// Largest value.
    pub max: Option<f64>,
    /// 95 % confidence interval of the mean; null for n < 2.
    pub ci95: Option<[f64; 2]>,
}

impl Summary {
    /// Summarises `values`, dropping none.
    ///
    /// If any value is not finite, every statistic is null and `n` counts the finite ones: the caller sees `n` fall short of what
    /// it passed in and says so. An empty slice gives `n` = 0 and nulls.
    pub fn from_values(unit: &str, values: &[f64]) -> Self {
        let _ = values;
        todo!("{unit}")
    }
}
