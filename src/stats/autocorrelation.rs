//! Rows that depend on their neighbours: autocorrelation, effective sample size, block length, block resampling.

use serde::{Deserialize, Serialize};

/// Block lengths chosen from the data, rows; real numbers, at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BlockLength {
    /// Mean length for the stationary bootstrap.
    pub stationary: f64,
    /// Length for the circular block bootstrap.
    pub circular: f64,
}

/// How blocks of rows are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlockScheme {
    /// Blocks of equal length, wrapped around the end (Politis & Romano 1992).
    Circular,
    /// Blocks of geometric length, wrapped around the end (Politis & Romano 1994).
    Stationary,
}

/// Sample autocorrelation at lags 0..=`max_lag`; `None` for fewer than two rows, a row that is not finite, or no variance.
pub fn autocorrelation(values: &[f64], max_lag: usize) -> Option<Vec<f64>> {
    let _ = (values, max_lag);
    None
}

/// Integrated autocorrelation time τ = 1 + 2·Σρ, by Geyer's initial positive sequence: n rows weigh as n / τ independent ones.
pub fn integrated_time(values: &[f64]) -> Option<f64> {
    let _ = values;
    None
}

/// Effective sample size n / τ, at most n.
pub fn effective_sample_size(values: &[f64]) -> Option<f64> {
    let _ = values;
    None
}

/// Block lengths by Politis & White (2004) with the correction of Patton, Politis & White (2009).
pub fn block_length(values: &[f64]) -> Option<BlockLength> {
    let _ = values;
    None
}

/// Row positions of one block resample of `n` rows with (mean) block `length`, from a seeded generator.
pub fn block_indices(n: usize, length: f64, scheme: BlockScheme, seed: u64) -> Vec<usize> {
    let _ = (length, scheme, seed);
    (0..n).collect()
}
