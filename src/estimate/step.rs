//! The operators of one forward pass, in the order the engine issues them.

use std::collections::BTreeMap;

use super::architecture::Architecture;
use super::format::Format;
use super::operator::Operator;

/// How each weight is stored, by its Hugging Face name.
#[derive(Debug, Clone, PartialEq)]
pub struct WeightFormats {
    default: Format,
    by_name: BTreeMap<String, Format>,
}

impl WeightFormats {
    /// Every matrix stored as `format`.
    pub fn uniform(format: Format) -> Self {
        Self { default: format, by_name: BTreeMap::new() }
    }
    /// `by_name` (e.g. `model.layers.0.self_attn.q_proj.weight`), and `default` for names not in it.
    pub fn from_names(default: Format, by_name: BTreeMap<String, Format>) -> Self {
        Self { default, by_name }
    }
    /// How `name` is stored.
    pub fn of(&self, name: &str) -> Format {
        self.by_name.get(name).copied().unwrap_or(self.default)
    }
    /// How the LM head is stored: as `lm_head.weight` where it is named, else, for tied models, as the embedding.
    pub fn of_lm_head(&self, architecture: &Architecture) -> Format {
        match self.by_name.get("lm_head.weight") {
            Some(format) => *format,
            None if architecture.tie_word_embeddings => self.of("model.embed_tokens.weight"),
            None => self.default,
        }
    }
}

/// One forward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepShape {
    /// Sequences.
    pub batch: u32,
    /// New positions of each: the prompt length in prefill, 1 in decode.
    pub queries: u32,
    /// Positions in the cache after the pass.
    pub kv_len: u32,
}

/// Layer (`None` outside the layers), Hugging Face module name, operator.
pub type StepOperator = (Option<u32>, &'static str, Operator);

/// The operators of one forward pass and the sampling after it, in the order the engine issues them.
pub fn operators_of_step(
    architecture: &Architecture,
    shape: StepShape,
    weights: &WeightFormats,
    cache: Format,
) -> Vec<StepOperator> {
    let _ = (architecture, shape, weights, cache);
    todo!()
}
