//! Which model, from where, and the shape of a synthetic one.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer};

use super::choice::ModelSource;
use crate::estimate::architecture::{Architecture, Family, Moe, Rope, RopeScaling};
use crate::estimate::format::Format;

/// The model: what it is called, where its weights come from, how they are stored.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// The alias it was chosen by, or the name given, or the file's.
    pub name: String,
    /// A file (`.gguf`, `.safetensors`) or a directory with `config.json`.
    pub path: Option<PathBuf>,
    /// The Hugging Face repository, looked up in the local cache.
    pub hf_id: Option<String>,
    /// Only the local cache may be used.
    pub local_files_only: bool,
    /// Which kind of weights.
    pub source: ModelSource,
    /// Storage of the weights; `None` keeps what the file has (or `dtype_default`).
    #[serde(deserialize_with = "format_or_null")]
    pub dtype: Option<Format>,
    /// Storage of dense weights where `dtype` is not given.
    #[serde(deserialize_with = "format_or_null")]
    pub dtype_default: Option<Format>,
    /// A `tokenizer.json`, where it does not lie beside the weights.
    pub tokenizer: Option<PathBuf>,
    /// Seed of synthetic weights.
    pub seed: u64,
    /// The shape of a synthetic model, written flat with the names of Hugging Face's `config.json`.
    #[serde(deserialize_with = "architecture_or_null")]
    pub architecture: Option<Architecture>,
}

/// Reads a [`Format`] by any name that [`Format::parse`] knows, or null.
pub(super) fn format_or_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Format>, D::Error> {
    let Some(name) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    Format::parse(&name).map(Some).ok_or_else(|| {
        let names: Vec<&str> = Format::ALL.iter().map(|format| format.name()).collect();
        serde::de::Error::custom(format!("`{name}` is not a storage format: expected one of {}", names.join(", ")))
    })
}

fn architecture_or_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Architecture>, D::Error> {
    let Some(flat) = Option::<FlatArchitecture>::deserialize(deserializer)? else { return Ok(None) };
    flat.into_architecture().map(Some).map_err(serde::de::Error::custom)
}

/// `rope_scaling` as in `config.json`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlatRopeScaling {
    /// `linear`, `llama3` or `yarn`.
    pub rope_type: String,
    /// The divisor of the positions or of the long wavelengths.
    pub factor: f64,
    /// Llama 3.1: wavelengths above `original_max_position_embeddings / low_freq_factor` are divided.
    pub low_freq_factor: Option<f64>,
    /// Llama 3.1: wavelengths below `original_max_position_embeddings / high_freq_factor` are kept.
    pub high_freq_factor: Option<f64>,
    /// The context length of the original training.
    pub original_max_position_embeddings: Option<usize>,
    /// YaRN: rotations above which a dimension is kept (32).
    pub beta_fast: Option<f64>,
    /// YaRN: rotations below which a dimension is interpolated fully (1).
    pub beta_slow: Option<f64>,
    /// YaRN: overrides the attention temperature.
    pub attention_factor: Option<f64>,
}

/// A shape as `config.json` writes it; what is left out has the default of the family's `transformers` configuration class.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlatArchitecture {
    /// `llama`, `mistral`, `qwen2`, `qwen3`.
    pub model_type: Option<String>,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// Decoder layers.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key/value heads; as many as query heads if left out.
    pub num_key_value_heads: Option<usize>,
    /// Width of a head; `hidden_size / num_attention_heads` if left out.
    pub head_dim: Option<usize>,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// The longest context, 2048 if left out.
    pub max_position_embeddings: Option<usize>,
    /// Epsilon of the norms, 1e-6 if left out.
    pub rms_norm_eps: Option<f64>,
    /// Base of the rotary frequencies, 10000 if left out.
    pub rope_theta: Option<f64>,
    /// Rescaling for long contexts.
    pub rope_scaling: Option<FlatRopeScaling>,
    /// Whether the LM head reuses the embedding; false if left out.
    pub tie_word_embeddings: Option<bool>,
    /// Bias on q, k, v (and o, except for Qwen2); true for Qwen2, else false, if left out.
    pub attention_bias: Option<bool>,
    /// RMS norm on each q and k head; true for Qwen3, else false, if left out.
    pub qk_norm: Option<bool>,
    /// Attention sees only the last so many positions.
    pub sliding_window: Option<usize>,
    /// Experts per layer; a dense MLP if left out.
    pub num_experts: Option<usize>,
    /// Experts each token is sent to.
    pub num_experts_per_tok: Option<usize>,
    /// Width of one expert; `intermediate_size` if left out.
    pub moe_intermediate_size: Option<usize>,
    /// Width of the shared expert; none if left out.
    pub shared_expert_intermediate_size: Option<usize>,
}

impl FlatArchitecture {
    /// Fills in what was left out and refuses a shape that cannot be built.
    pub fn into_architecture(self) -> Result<Architecture, String> {
        let family = Family::from_model_type(self.model_type.as_deref().unwrap_or("llama"));
        for (name, value) in [
            ("hidden_size", Some(self.hidden_size)),
            ("intermediate_size", Some(self.intermediate_size)),
            ("num_hidden_layers", Some(self.num_hidden_layers)),
            ("num_attention_heads", Some(self.num_attention_heads)),
            ("num_key_value_heads", self.num_key_value_heads),
            ("head_dim", self.head_dim),
            ("vocab_size", Some(self.vocab_size)),
            ("max_position_embeddings", self.max_position_embeddings),
            ("sliding_window", self.sliding_window),
            ("num_experts", self.num_experts),
            ("num_experts_per_tok", self.num_experts_per_tok),
            ("moe_intermediate_size", self.moe_intermediate_size),
        ] {
            if value == Some(0) {
                return Err(format!("`{name}` is 0: expected 1 or more"));
            }
        }
        let num_kv_heads = self.num_key_value_heads.unwrap_or(self.num_attention_heads);
        if !self.num_attention_heads.is_multiple_of(num_kv_heads) {
            return Err(format!(
                "`num_attention_heads` ({}) is not a multiple of `num_key_value_heads` ({num_kv_heads})",
                self.num_attention_heads
            ));
        }
        let head_dim = match self.head_dim {
            Some(width) => width,
            None if self.hidden_size.is_multiple_of(self.num_attention_heads) => {
                self.hidden_size / self.num_attention_heads
            }
            None => {
                return Err(format!(
                    "`hidden_size` ({}) is not a multiple of `num_attention_heads` ({}) and `head_dim` is not given",
                    self.hidden_size, self.num_attention_heads
                ));
            }
        };
        if !head_dim.is_multiple_of(2) {
            return Err(format!("`head_dim` ({head_dim}) is odd: rotary embedding turns pairs of dimensions"));
        }
        let theta = positive("rope_theta", self.rope_theta.unwrap_or(10_000.0))?;
        let rms_norm_eps = positive("rms_norm_eps", self.rms_norm_eps.unwrap_or(1e-6))?;
        let moe = match (self.num_experts, self.num_experts_per_tok) {
            (None, None) => None,
            (Some(num_experts), Some(experts_per_token)) if experts_per_token <= num_experts => Some(Moe {
                num_experts,
                experts_per_token,
                expert_intermediate_size: self.moe_intermediate_size.unwrap_or(self.intermediate_size),
                shared_intermediate_size: self.shared_expert_intermediate_size.unwrap_or(0),
            }),
            (Some(experts), Some(active)) => {
                return Err(format!("`num_experts_per_tok` ({active}) is more than `num_experts` ({experts})"));
            }
            _ => return Err("`num_experts` and `num_experts_per_tok` go together: one is missing".to_owned()),
        };
        let max_position_embeddings = self.max_position_embeddings.unwrap_or(2048);
        let attention_bias = self.attention_bias.unwrap_or(family == Family::Qwen2);
        Ok(Architecture {
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            num_layers: self.num_hidden_layers,
            num_heads: self.num_attention_heads,
            num_kv_heads,
            head_dim,
            vocab_size: self.vocab_size,
            max_position_embeddings,
            rms_norm_eps,
            rope: Rope {
                theta,
                scaling: match self.rope_scaling {
                    None => None,
                    Some(scaling) => Some(scaling.into_scaling(max_position_embeddings)?),
                },
            },
            tie_word_embeddings: self.tie_word_embeddings.unwrap_or(false),
            qkv_bias: attention_bias,
            // Qwen2 has a bias on q, k and v but none on o; Llama's switch sets all four.
            o_bias: attention_bias && family != Family::Qwen2,
            qk_norm: self.qk_norm.unwrap_or(family == Family::Qwen3),
            gated_mlp: true,
            sliding_window: self.sliding_window,
            moe,
            family,
        })
    }
}

impl FlatRopeScaling {
    fn into_scaling(self, max_position_embeddings: usize) -> Result<RopeScaling, String> {
        let factor = positive("rope_scaling.factor", self.factor)?;
        let needed = |name: &str, value: Option<f64>| {
            let value = value.ok_or_else(|| format!("`rope_scaling.{name}` is missing: `llama3` needs it"))?;
            positive(&format!("rope_scaling.{name}"), value)
        };
        let original_max_position = self.original_max_position_embeddings.unwrap_or(max_position_embeddings);
        if original_max_position == 0 {
            return Err("`rope_scaling.original_max_position_embeddings` is 0: expected 1 or more".to_owned());
        }
        match self.rope_type.as_str() {
            "linear" => Ok(RopeScaling::Linear { factor }),
            "llama3" => {
                let low_freq_factor = needed("low_freq_factor", self.low_freq_factor)?;
                let high_freq_factor = needed("high_freq_factor", self.high_freq_factor)?;
                if high_freq_factor <= low_freq_factor {
                    return Err("`rope_scaling.high_freq_factor` must be above `low_freq_factor`".to_owned());
                }
                Ok(RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position })
            }
            "yarn" => Ok(RopeScaling::Yarn {
                factor,
                beta_fast: self.beta_fast.unwrap_or(32.0),
                beta_slow: self.beta_slow.unwrap_or(1.0),
                original_max_position,
                attention_factor: self.attention_factor,
            }),
            other => Err(format!("`rope_scaling.rope_type` is `{other}`: expected `linear`, `llama3` or `yarn`")),
        }
    }
}

fn positive(name: &str, value: f64) -> Result<f64, String> {
    if value.is_finite() && value > 0.0 { Ok(value) } else { Err(format!("`{name}` is {value}: expected more than 0")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn shape(changes: &Value) -> Result<Architecture, String> {
        let mut flat = json!({
            "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 300,
        });
        for (key, value) in changes.as_object().unwrap() {
            flat[key] = value.clone();
        }
        serde_json::from_value::<FlatArchitecture>(flat).map_err(|error| error.to_string())?.into_architecture()
    }

    #[test]
    fn what_is_left_out_has_the_default_of_the_family() {
        let llama = shape(&json!({})).unwrap();
        assert_eq!((llama.num_kv_heads, llama.head_dim, llama.max_position_embeddings), (4, 16, 2048));
        assert_eq!((llama.rope.theta, llama.rms_norm_eps), (10_000.0, 1e-6));
        assert!(
            !llama.qkv_bias && !llama.o_bias && !llama.qk_norm && !llama.tie_word_embeddings && llama.moe.is_none()
        );
        let qwen2 = shape(&json!({"model_type": "qwen2"})).unwrap();
        assert!(qwen2.qkv_bias && !qwen2.o_bias);
        assert!(shape(&json!({"model_type": "qwen3"})).unwrap().qk_norm);
        let biased = shape(&json!({"attention_bias": true})).unwrap();
        assert!(biased.qkv_bias && biased.o_bias);
    }

    #[test]
    fn scalings_and_experts_are_read() {
        let llama3 = json!({"rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4,
                            "original_max_position_embeddings": 8192});
        let expected = RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position: 8192,
        };
        assert_eq!(shape(&json!({"rope_scaling": llama3})).unwrap().rope.scaling, Some(expected));
        let yarn = shape(&json!({"rope_scaling": {"rope_type": "yarn", "factor": 4}})).unwrap().rope.scaling;
        let expected = RopeScaling::Yarn {
            factor: 4.0,
            beta_fast: 32.0,
            beta_slow: 1.0,
            original_max_position: 2048,
            attention_factor: None,
        };
        assert_eq!(yarn, Some(expected));
        let moe = shape(&json!({"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32}))
            .unwrap()
            .moe
            .unwrap();
        assert_eq!((moe.num_experts, moe.experts_per_token, moe.expert_intermediate_size), (8, 2, 32));
    }

    #[test]
    fn a_shape_that_cannot_be_built_is_refused_by_the_name_of_its_key() {
        for (changes, words) in [
            (
                json!({"num_key_value_heads": 3}),
                "`num_attention_heads` (4) is not a multiple of `num_key_value_heads` (3)",
            ),
            (json!({"hidden_size": 66}), "`head_dim` is not given"),
            (json!({"head_dim": 15}), "`head_dim` (15) is odd"),
            (json!({"vocab_size": 0}), "`vocab_size` is 0"),
            (json!({"rope_theta": -1}), "`rope_theta` is -1"),
            (json!({"num_experts": 4}), "one is missing"),
            (json!({"num_experts": 4, "num_experts_per_tok": 5}), "is more than `num_experts`"),
            (json!({"rope_scaling": {"rope_type": "ntk", "factor": 2}}), "`rope_scaling.rope_type` is `ntk`"),
            (
                json!({"rope_scaling": {"rope_type": "llama3", "factor": 2}}),
                "`rope_scaling.low_freq_factor` is missing",
            ),
            (json!({"rope_scaling": {"rope_type": "linear", "factor": 0}}), "`rope_scaling.factor` is 0"),
            (json!({"hidden_act": "silu"}), "unknown field `hidden_act`"),
        ] {
            let message = shape(&changes).expect_err(words);
            assert!(message.contains(words), "{message}");
        }
    }
}
