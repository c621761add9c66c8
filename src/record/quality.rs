//! `quality.json` of a stage1 run: how well the model predicts a text, and how far it is from the same weights in a wider format.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::RecordError;
use super::reader;

/// Version of [`QualityRecord`].
pub const QUALITY_SCHEMA_VERSION: u32 = 1;
/// Name of the file.
pub const QUALITY_FILE: &str = "quality.json";

/// Quality as `metrics.json` has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QualityBlock {
    /// `embedded`, or the name of the file.
    pub text: String,
    /// SHA-256 of the token ids as little-endian u32.
    pub token_ids_sha256: String,
    /// Tokens fed.
    pub tokens: u64,
    /// Tokens predicted: all but the first of each window.
    pub predicted: u64,
    /// Tokens of a window; each starts from an empty cache.
    pub window: u64,
    /// exp(mean of −ln p).
    pub perplexity: Option<f64>,
    /// 95 % interval over blocks of [`BLOCK`] neighbouring predictions.
    pub perplexity_ci95: Option<[f64; 2]>,
    /// Weight format of the reference; null where none was loaded.
    pub reference_dtype: Option<String>,
    /// Mean of KL(reference ‖ model) over the predictions, nats.
    pub kl_mean_nats: Option<f64>,
    /// Its 99th percentile.
    pub kl_p99_nats: Option<f64>,
    /// Share of the predictions for which both put the same token first.
    pub top1_agreement: Option<f64>,
    /// Why there is no result, or none of the reference; null where all was measured.
    pub error: Option<String>,
}

/// Neighbouring predictions that are resampled together: losses of one sentence rise and fall together.
pub const BLOCK: usize = 16;

/// `quality.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QualityRecord {
    /// [`QUALITY_SCHEMA_VERSION`].
    pub schema_version: u32,
    /// What was found.
    pub quality: QualityBlock,
    /// −ln p of each predicted token, nats.
    pub nll_nats: Vec<f64>,
    /// KL at each, nats; empty without a reference.
    pub kl_nats: Vec<f64>,
}

/// Reads `quality.json`; `None` where the run has none.
pub fn read_quality(dir: &Path) -> Result<Option<QualityRecord>, RecordError> {
    let path = dir.join(QUALITY_FILE);
    match std::fs::read(&path) {
        Ok(bytes) => reader::parse_versioned(&path, None, &bytes, QUALITY_SCHEMA_VERSION).map(Some),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(RecordError::Read { path, source }),
    }
}
