//! The shape of a decoder-only transformer: everything the analytic model and the engine need to know about it.
//!
//! This module describes; costs are in [`super::operator`] and [`super::flops`], weights in `engine`.

use serde::{Deserialize, Serialize};

/// Which decoder the shape belongs to: it decides how tensors are named and which variant of each block is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// Llama 2 and 3, SmolLM2, TinyLlama and the like.
    Llama,
    /// Mistral (sliding window in v0.1).
    Mistral,
    /// Qwen2 and Qwen2.5 (bias on q, k and v).
    Qwen2,
    /// Qwen3 (RMS norm on each q and k head).
    Qwen3,
    /// Any other, by its Hugging Face `model_type`; runs through candle-transformers' own module.
    Other(String),
}

impl Family {
    /// The Hugging Face `model_type`.
    pub fn model_type(&self) -> &str {
        match self {
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Other(name) => name,
        }
    }
    /// From the Hugging Face `model_type` or GGUF `general.architecture`.
    pub fn from_model_type(name: &str) -> Self {
        match name {
            "llama" => Self::Llama,
            "mistral" => Self::Mistral,
            "qwen2" => Self::Qwen2,
            "qwen3" => Self::Qwen3,
            other => Self::Other(other.to_owned()),
        }
    }
}

/// Rescaling of the rotary frequencies for long contexts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "rope_type")]
pub enum RopeScaling {
    /// Positions divided by `factor`.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Llama 3.1: long wavelengths divided by `factor`, short ones kept, a smooth ramp between.
    Llama3 {
        /// The divisor of the long wavelengths.
        factor: f64,
        /// Wavelengths above `original_max_position / low_freq_factor` are divided.
        low_freq_factor: f64,
        /// Wavelengths below `original_max_position / high_freq_factor` are kept.
        high_freq_factor: f64,
        /// The context length of the original training.
        original_max_position: usize,
    },
    /// YaRN (arXiv 2309.00071): NTK-by-parts interpolation with an attention temperature.
    Yarn {
        /// The divisor of the long wavelengths.
        factor: f64,
        /// Number of rotations above which a dimension is kept (32 in the paper).
        beta_fast: f64,
        /// Number of rotations below which a dimension is interpolated fully (1 in the paper).
        beta_slow: f64,
        /// The context length of the original training.
        original_max_position: usize,
        /// Overrides the attention temperature `0.1·ln(factor) + 1`.
        attention_factor: Option<f64>,
    },
}

/// Rotary position embedding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rope {
    /// The base of the frequencies.
    pub theta: f64,
    /// Rescaling for long contexts, if any.
    pub scaling: Option<RopeScaling>,
}

/// A mixture of experts in place of each dense MLP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moe {
    /// Experts per layer.
    pub num_experts: usize,
    /// Experts each token is sent to.
    pub experts_per_token: usize,
    /// Width of one expert.
    pub expert_intermediate_size: usize,
    /// Width of the expert every token passes through; 0 if there is none.
    pub shared_intermediate_size: usize,
}

/// The shape of a decoder-only transformer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Architecture {
    /// The family.
    pub family: Family,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the dense MLP (unused where `moe` is set).
    pub intermediate_size: usize,
    /// Decoder layers.
    pub num_layers: usize,
    /// Query heads.
    pub num_heads: usize,
    /// Key/value heads; equal to `num_heads` without grouped-query attention.
    pub num_kv_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// The longest context the model was made for, in tokens.
    pub max_position_embeddings: usize,
    /// Epsilon of the RMS norms.
    pub rms_norm_eps: f64,
    /// Position embedding.
    pub rope: Rope,
    /// Whether the LM head reuses the embedding matrix.
    pub tie_word_embeddings: bool,
    /// Bias on the q, k and v projections.
    pub qkv_bias: bool,
    /// Bias on the output projection (Llama's `attention_bias` sets both).
    pub o_bias: bool,
    /// RMS norm on each q and k head.
    pub qk_norm: bool,
    /// Gate × up MLP (three matrices) instead of two matrices.
    pub gated_mlp: bool,
    /// Attention sees only the last so many positions.
    pub sliding_window: Option<usize>,
    /// Mixture of experts, if any.
    pub moe: Option<Moe>,
}

impl Architecture {
    /// Width of the concatenated query heads.
    pub fn q_width(&self) -> usize {
        self.num_heads * self.head_dim
    }
    /// Width of the concatenated key (or value) heads.
    pub fn kv_width(&self) -> usize {
        self.num_kv_heads * self.head_dim
    }
    /// How many positions a query at `position` (0-based) sees: itself, those before it, at most the window.
    pub fn visible_positions(&self, position: usize) -> usize {
        (position + 1).min(self.sliding_window.unwrap_or(usize::MAX))
    }
}
