//! Measures how well a model predicts a text, and how far its predictions are from those of the same weights in a wider format.
//!
//! Engines of its own are built for it, after the measured one is gone: its cache has room for one window and one sequence, and nothing
//! of this touches a measured repeat.

use std::path::Path;

use super::assemble::{self, AssembleError, Engine, Room};
use crate::config::schema::choice::{DeviceChoice, OpsChoice, Switch};
use crate::config::schema::stage1::{QualityConfig, Stage1Config};
use crate::engine::quality::{EMBEDDED_TEXT, Predictions, predict};
use crate::engine::tokenizer::Tokenizer;
use crate::estimate::format::Format;
use crate::record::manifest::sha256_hex;
use crate::record::quality::{BLOCK, QUALITY_SCHEMA_VERSION, QualityBlock, QualityRecord};
use crate::stats::bootstrap::{Method, RESAMPLES, Statistic, interval};
use crate::stats::quantile::quantile;
use crate::stats::summary::mean;

/// Seed of the interval: fixed, so that a rebuilt summary is the same.
const SEED: u64 = 0x9e37_79b9;
/// A text larger than this is no text to measure quality on, but a mistake.
const TEXT_LIMIT_BYTES: u64 = 64 << 20;

/// A text and what the record calls it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QualityText {
    /// `embedded` or the name of the file.
    pub name: String,
    /// The text.
    pub text: String,
}

/// Why a text cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum QualityError {
    /// The file cannot be read.
    #[error("cannot read the text `{path}` of `quality.text`: {reason}")]
    Text {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// An engine could not be built.
    #[error(transparent)]
    Engine(#[from] AssembleError),
    /// A model failed, or the text has too few tokens.
    #[error("{0}")]
    Failed(String),
}

/// The text that `config` asks for, if any; read before anything runs, so that a wrong path costs nothing.
///
/// # Errors
/// If the file cannot be read, is too large or is no UTF-8.
pub fn text(config: &QualityConfig) -> Result<Option<QualityText>, QualityError> {
    let Some(choice) = &config.text else { return Ok(None) };
    if choice == "embedded" {
        return Ok(Some(QualityText { name: choice.clone(), text: EMBEDDED_TEXT.to_owned() }));
    }
    let path = Path::new(choice);
    let refuse = |reason: String| QualityError::Text { path: choice.clone(), reason };
    let bytes = std::fs::metadata(path).map_err(|error| refuse(error.to_string()))?.len();
    if bytes > TEXT_LIMIT_BYTES {
        return Err(refuse(format!("{bytes} bytes are more than the limit of {TEXT_LIMIT_BYTES}")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| refuse(error.to_string()))?;
    let name = path.file_name().map_or_else(|| choice.clone(), |name| name.to_string_lossy().into_owned());
    Ok(Some(QualityText { name, text }))
}

/// Measures the quality of the model of `config` on `text`. What fails is in the record, since the measured repeats stand by themselves.
pub fn measure(
    config: &Stage1Config,
    text: &QualityText,
    threads: usize,
    tokenizer: &Tokenizer,
    keep_going: &dyn Fn() -> bool,
) -> QualityRecord {
    let window = config.quality.window as usize;
    let mut block = QualityBlock {
        text: text.name.clone(),
        token_ids_sha256: String::new(),
        tokens: 0,
        predicted: 0,
        window: window as u64,
        perplexity: None,
        perplexity_ci95: None,
        reference_dtype: None,
        kl_mean_nats: None,
        kl_p99_nats: None,
        top1_agreement: None,
        error: None,
    };
    let mut found = Predictions::default();
    match predictions(config, text, threads, tokenizer, keep_going, &mut block) {
        Ok(predictions) => found = predictions,
        Err(error) => {
            let cause = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
            block.error = Some(format!("quality was not measured: {error}{cause}"));
        }
    }
    fill(&mut block, &found);
    QualityRecord {
        schema_version: QUALITY_SCHEMA_VERSION,
        quality: block,
        nll_nats: found.nll_nats,
        kl_nats: found.kl_nats,
    }
}

fn predictions(
    config: &Stage1Config,
    text: &QualityText,
    threads: usize,
    tokenizer: &Tokenizer,
    keep_going: &dyn Fn() -> bool,
    block: &mut QualityBlock,
) -> Result<Predictions, QualityError> {
    let mut ids = tokenizer.encode(&text.text, true).map_err(|error| QualityError::Failed(error.to_string()))?;
    ids.truncate(config.quality.tokens as usize);
    if ids.len() < 2 {
        return Err(QualityError::Failed(format!("the text `{}` has fewer than two tokens", text.name)));
    }
    let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
    block.tokens = ids.len() as u64;
    block.token_ids_sha256 = sha256_hex(&bytes);
    let room = Room { batch: 1, context: (config.quality.window as usize).min(ids.len()).max(2) };
    let mut engine = build(config, room, threads)?;
    let mut reference = None;
    let stored = Format::parse(&engine.block.dtype);
    // Seeded weights of a quantized format are drawn as blocks: no other format holds the same values.
    let other_weights = engine.block.source == "synthetic"
        && stored != config.quality.reference_dtype
        && stored.is_none_or(Format::is_quantized);
    if let (true, Some(format)) = (other_weights, config.quality.reference_dtype) {
        block.error = Some(format!(
            "no divergence was measured: seeded weights in {} are other weights than in {}",
            engine.block.dtype,
            format.name()
        ));
    } else if let Some(format) = config.quality.reference_dtype {
        let mut settings = config.clone();
        settings.model.dtype = Some(format);
        // The fused operators of a GPU take tokens from the host, and so does a reference on the CPU, which is the plainer judge of the two.
        if settings.engine.ops == OpsChoice::Fused {
            settings.device = DeviceChoice::Cpu;
        }
        settings.engine.ops = OpsChoice::Reference;
        settings.engine.cuda_graph = Switch::Off;
        settings.engine.kv_dtype = None;
        // Without the reference perplexity is still worth having.
        match build(&settings, room, threads) {
            Ok(built) => {
                block.reference_dtype = Some(format.name().to_owned());
                reference = Some(built);
            }
            Err(error) => {
                block.error = Some(format!("no divergence was measured: the reference cannot be built: {error}"));
            }
        }
    }
    let device = engine.device.clone();
    let found = predict(
        &mut *engine.model,
        reference.as_mut().map(|engine| &mut *engine.model),
        &ids,
        config.quality.window as usize,
        &device,
        keep_going,
    )
    .map_err(|error| QualityError::Failed(error.to_string()))?;
    if !keep_going() {
        return Err(QualityError::Failed("it was interrupted".to_owned()));
    }
    Ok(found)
}

fn build(config: &Stage1Config, room: Room, threads: usize) -> Result<Engine, AssembleError> {
    let chosen = assemble::choose(config)?;
    let device_id = assemble::open_device(config)?.device_id;
    assemble::check_memory(config, &chosen, room, &device_id)?;
    assemble::build(config, chosen, room, threads, &mut |_, _| {})
}

/// The statistics of `found`.
fn fill(block: &mut QualityBlock, found: &Predictions) {
    block.predicted = found.nll_nats.len() as u64;
    let infinite = found.nll_nats.iter().chain(&found.kl_nats).filter(|value| !value.is_finite()).count();
    if infinite > 0 {
        block.error = Some(format!("{infinite} of the predictions are not finite: no mean can be given"));
        return;
    }
    block.perplexity = mean(&found.nll_nats).map(f64::exp);
    let blocks: Vec<f64> = found.nll_nats.chunks_exact(BLOCK).filter_map(mean).collect();
    block.perplexity_ci95 =
        interval(&blocks, Statistic::Mean, Method::Bca, 0.95, RESAMPLES, SEED).map(|ends| ends.map(f64::exp));
    if !found.kl_nats.is_empty() {
        block.kl_mean_nats = mean(&found.kl_nats);
        block.kl_p99_nats = quantile(&found.kl_nats, 0.99);
        let same = found.same_top1.iter().filter(|same| **same).count();
        block.top1_agreement = Some(same as f64 / found.same_top1.len() as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty() -> QualityBlock {
        QualityBlock {
            text: String::new(),
            token_ids_sha256: String::new(),
            tokens: 0,
            predicted: 0,
            window: 2,
            perplexity: None,
            perplexity_ci95: None,
            reference_dtype: None,
            kl_mean_nats: None,
            kl_p99_nats: None,
            top1_agreement: None,
            error: None,
        }
    }

    #[test]
    fn a_model_that_knows_nothing_has_the_perplexity_of_its_vocabulary() {
        let mut block = empty();
        let nll = vec![50f64.ln(); 64];
        fill(&mut block, &Predictions { nll_nats: nll, kl_nats: Vec::new(), same_top1: Vec::new() });
        assert!((block.perplexity.unwrap() - 50.0).abs() < 1e-9);
        let ends = block.perplexity_ci95.unwrap();
        assert!((ends[0] - 50.0).abs() < 1e-9 && (ends[1] - 50.0).abs() < 1e-9);
        assert_eq!((block.kl_mean_nats, block.top1_agreement), (None, None));
    }

    #[test]
    fn one_prediction_that_is_not_finite_leaves_no_mean() {
        let mut block = empty();
        fill(
            &mut block,
            &Predictions { nll_nats: vec![1.0, f64::INFINITY], kl_nats: vec![0.0, 0.0], same_top1: vec![true, true] },
        );
        assert_eq!(block.perplexity, None);
        assert!(block.error.unwrap().starts_with("1 of the predictions"));
    }
}
