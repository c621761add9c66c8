//! Families outside the instrumented decoder, run by candle-transformers' own modules and timed as one piece.
//!
//! A forward pass is one opaque operator: nothing inside these modules can be observed. A configuration that a module would silently
//! misread (rotary scaling, tied or untied heads it does not know) is refused.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use candle_core::quantized::gguf_file;
use candle_core::{DType, Device, Result, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models as candle_models;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::CausalLm;
use crate::engine::loader::{self, Description, LoadError};
use crate::estimate::architecture::{Architecture, Family};
use crate::estimate::format::Format;
use crate::estimate::operator::Operator;
use crate::instrument::observer::{Module, Observer, Span};

/// Families that [`build`] runs from safetensors, by Hugging Face `model_type`.
pub const SAFETENSORS_FAMILIES: [&str; 11] = [
    "falcon",
    "gemma",
    "gemma2",
    "gemma3",
    "gemma3_text",
    "mixtral",
    "olmo2",
    "phi3",
    "qwen3_moe",
    "smollm3",
    "starcoder2",
];
/// Families that [`build`] runs from GGUF. candle's `quantized_qwen3_moe` is not among them: its cache cannot be emptied.
pub const GGUF_FAMILIES: [&str; 2] = ["gemma3", "phi3"];

/// One of candle's models, seen through what they have in common.
trait Network: Send {
    /// Logits of the last position, in any shape with `batch · vocab` elements.
    fn run(&mut self, tokens: &Tensor, position: usize) -> Result<Tensor>;
    fn clear(&mut self);
}

/// A model that can empty its own cache.
macro_rules! network {
    ($model:ty) => {
        impl Network for $model {
            fn run(&mut self, tokens: &Tensor, position: usize) -> Result<Tensor> {
                self.forward(tokens, position)
            }
            fn clear(&mut self) {
                self.clear_kv_cache();
            }
        }
    };
}
network!(candle_models::gemma::Model);
network!(candle_models::gemma2::Model);
network!(candle_models::gemma3::Model);
network!(candle_models::olmo2::Model);
network!(candle_models::phi3::Model);
network!(candle_models::qwen3_moe::ModelForCausalLM);
network!(candle_models::smol::smollm3::ModelForCausalLM);
network!(candle_models::starcoder2::Model);

impl Network for candle_models::falcon::Falcon {
    fn run(&mut self, tokens: &Tensor, _position: usize) -> Result<Tensor> {
        // It counts positions by its own cache.
        self.forward(tokens)
    }
    fn clear(&mut self) {
        self.clear_kv_cache();
    }
}

/// A model without a way to empty its cache: a copy from before the first token takes its place. Copies share the weights.
struct Restarted<M> {
    fresh: M,
    used: M,
}

macro_rules! restarted {
    ($model:ty) => {
        impl Network for Restarted<$model> {
            fn run(&mut self, tokens: &Tensor, position: usize) -> Result<Tensor> {
                self.used.forward(tokens, position)
            }
            fn clear(&mut self) {
                self.used = self.fresh.clone();
            }
        }
    };
}
restarted!(candle_models::mixtral::Model);
restarted!(candle_models::quantized_gemma3::ModelWeights);
restarted!(candle_models::quantized_phi3::ModelWeights);

impl<M: Clone> Restarted<M> {
    fn new(model: M) -> Self {
        Self { used: model.clone(), fresh: model }
    }
}

/// A [`Network`] as the engine sees it.
struct Stock {
    network: Box<dyn Network>,
    architecture: Architecture,
    format: Format,
    /// Sequences times positions in the cache.
    cached_tokens: u64,
}

impl CausalLm for Stock {
    fn forward(&mut self, tokens: &Tensor, position: usize, observer: &mut dyn Observer) -> Result<Tensor> {
        let (batch, queries) = tokens.dims2()?;
        let observed = observer.wants_operators();
        if observed {
            observer.begin(Span::Module(Module::Model));
            observer.begin(Span::Operator(Module::Model, Operator::Opaque { rows: (batch * queries) as u32 }));
        }
        let logits = self.network.run(tokens, position);
        if observed {
            observer.end();
            observer.end();
        }
        self.cached_tokens = (batch * (position + queries)) as u64;
        let logits = logits?;
        let vocab = logits.elem_count() / batch;
        logits.reshape((batch, vocab))?.to_dtype(DType::F32)
    }
    fn reset(&mut self) -> Result<()> {
        self.network.clear();
        self.cached_tokens = 0;
        Ok(())
    }
    fn architecture(&self) -> &Architecture {
        &self.architecture
    }
    /// These caches grow with each token, so what is allocated is what is filled.
    fn kv_cache_bytes(&self) -> (u64, u64) {
        let values = 2 * self.architecture.num_layers * self.architecture.kv_width();
        let bytes = self.cached_tokens * self.format.bytes(values as u64);
        (bytes, bytes)
    }
    fn kv_format(&self) -> Format {
        self.format
    }
    fn compute_format(&self) -> Format {
        self.format
    }
    fn is_instrumented(&self) -> bool {
        false
    }
}

/// Builds candle's own module for the model at `path`, which [`loader::describe`] has described.
///
/// `dtype` must be dense for safetensors (`None`: as stored) and `None` for GGUF, whose matrices stay in their blocks.
pub fn build(
    path: &Path,
    description: &Description,
    device: &Device,
    dtype: Option<Format>,
    progress: &mut dyn FnMut(u64, u64),
) -> std::result::Result<Box<dyn CausalLm>, LoadError> {
    let family = description.architecture.family.model_type();
    let (network, format) = match &description.config {
        Some(config) => from_safetensors(path, family, config, device, dtype, progress)?,
        None => (from_gguf(description, family, device, dtype)?, Format::F32),
    };
    Ok(Box::new(Stock { network, architecture: description.architecture.clone(), format, cached_tokens: 0 }))
}

fn refuse(family: &str, reason: impl Into<String>) -> LoadError {
    LoadError::Family { family: family.to_owned(), reason: reason.into() }
}

fn from_safetensors(
    path: &Path,
    family: &str,
    config: &Value,
    device: &Device,
    dtype: Option<Format>,
    progress: &mut dyn FnMut(u64, u64),
) -> std::result::Result<(Box<dyn Network>, Format), LoadError> {
    if !SAFETENSORS_FAMILIES.contains(&family) {
        let reason = format!("is not supported; candle's modules run {}", SAFETENSORS_FAMILIES.join(", "));
        return Err(refuse(family, reason));
    }
    let config = prepared(family, config)?;
    let (mut tensors, format) = loader::dense_tensors(path, dtype, device, progress)?;
    // Some modules always read a head of their own; a tied checkpoint has none, so it gets the embedding's (shared, not copied).
    if config["tie_word_embeddings"] == Value::Bool(true)
        && let Some(embedding) = tensors.get("model.embed_tokens.weight").cloned()
    {
        tensors.insert("lm_head.weight".to_owned(), embedding);
    }
    let dtype = loader::dtype_of(format).unwrap_or(DType::F32);
    let weights = VarBuilder::from_tensors(tensors, dtype, device);
    let failed = || LoadError::candle(format!("candle's `{family}` module does not fit `{}`", path.display()));
    let network: Box<dyn Network> = match family {
        "falcon" => Box::new(candle_models::falcon::Falcon::load(weights, typed(path, &config)?).map_err(failed())?),
        "gemma" => {
            Box::new(candle_models::gemma::Model::new(false, &typed(path, &config)?, weights).map_err(failed())?)
        }
        "gemma2" => {
            Box::new(candle_models::gemma2::Model::new(false, &typed(path, &config)?, weights).map_err(failed())?)
        }
        "gemma3" | "gemma3_text" => {
            Box::new(candle_models::gemma3::Model::new(false, &typed(path, &config)?, weights).map_err(failed())?)
        }
        "mixtral" => Box::new(Restarted::new(
            candle_models::mixtral::Model::new(&typed(path, &config)?, weights).map_err(failed())?,
        )),
        "olmo2" => Box::new(candle_models::olmo2::Model::new(&typed(path, &config)?, weights).map_err(failed())?),
        "phi3" => Box::new(candle_models::phi3::Model::new(&typed(path, &config)?, weights).map_err(failed())?),
        "qwen3_moe" => Box::new(
            candle_models::qwen3_moe::ModelForCausalLM::new(&typed(path, &config)?, weights).map_err(failed())?,
        ),
        "smollm3" => Box::new(
            candle_models::smol::smollm3::ModelForCausalLM::new(&typed(path, &config)?, weights).map_err(failed())?,
        ),
        _ => Box::new(candle_models::starcoder2::Model::new(&typed(path, &config)?, weights).map_err(failed())?),
    };
    Ok((network, format))
}

/// candle's configuration type of a module, from the prepared `config.json`.
fn typed<T: DeserializeOwned>(path: &Path, config: &Value) -> std::result::Result<T, LoadError> {
    serde_path_to_error::deserialize(config)
        .map_err(|error| LoadError::Config { path: path.join("config.json"), reason: error.to_string() })
}

/// The configuration with what candle's types demand filled in, or a refusal of what they would overlook.
fn prepared(family: &str, config: &Value) -> std::result::Result<Value, LoadError> {
    // Multimodal Gemma 3 keeps the language model's configuration one level down.
    let mut config = config.get("text_config").unwrap_or(config).clone();
    let Some(fields) = config.as_object_mut() else {
        return Err(refuse(family, "has a `config.json` that is no object"));
    };
    // transformers 5 moved the rotary settings into one object.
    if let Some(rope) = fields.get("rope_parameters").cloned() {
        if let Some(theta) = rope.get("rope_theta").filter(|_| !fields.contains_key("rope_theta")) {
            fields.insert("rope_theta".to_owned(), theta.clone());
        }
        if rope.get("rope_type").is_some_and(|kind| kind != "default") {
            fields.entry("rope_scaling").or_insert(rope);
        }
    }
    let scaling = fields.get("rope_scaling").filter(|scaling| !scaling.is_null());
    let scaling_kind = scaling.and_then(|scaling| scaling.get("rope_type").or(scaling.get("type")));
    match scaling_kind.and_then(Value::as_str) {
        _ if scaling.is_none() => {}
        Some("default") => {
            fields.remove("rope_scaling");
        }
        // candle's type spells the short and long factors of Phi-3 only.
        Some("longrope" | "su") if family == "phi3" => {}
        kind => {
            let kind = kind.unwrap_or("unknown").to_owned();
            return Err(refuse(family, format!("with rotary scaling `{kind}` is not supported by candle's module")));
        }
    }
    let tied = fields.get("tie_word_embeddings").and_then(Value::as_bool);
    let always_tied = family.starts_with("gemma") || family == "starcoder2";
    if always_tied && tied == Some(false) {
        return Err(refuse(family, "with an LM head of its own is not supported by candle's module"));
    }
    let mut default = |key: &str, value: Value| {
        let absent = fields.get(key).is_none_or(Value::is_null);
        if absent {
            fields.insert(key.to_owned(), value);
        }
    };
    // Defaults of transformers' configuration classes; files written by it leave out what equals them.
    default("tie_word_embeddings", Value::Bool(always_tied));
    default("attention_bias", Value::Bool(false));
    match family {
        "gemma" | "gemma2" | "gemma3" | "gemma3_text" => {
            default("hidden_activation", "gelu_pytorch_tanh".into());
            default("head_dim", 256.into());
            default("query_pre_attn_scalar", 256.into());
            default("rope_theta", if family.starts_with("gemma3") { 1e6 } else { 1e4 }.into());
            default("rope_local_base_freq", 1e4.into());
            default("sliding_window", 4096.into());
            default("max_position_embeddings", 8192.into());
            default("sliding_window_pattern", 6.into());
        }
        "falcon" => {
            default("hidden_dropout", 0.0.into());
            default("attention_dropout", 0.0.into());
            default("initializer_range", 0.02.into());
            default("layer_norm_epsilon", 1e-5.into());
            default("use_cache", true.into());
            default("bos_token_id", 11.into());
            default("eos_token_id", 11.into());
            for key in ["alibi", "new_decoder_architecture", "bias"] {
                default(key, false.into());
            }
            default("multi_query", true.into());
            default("parallel_attn", true.into());
        }
        "mixtral" => {
            default("rope_theta", 1e6.into());
            default("hidden_act", "silu".into());
            // No window: one as wide as the context hides nothing.
            let context = config_size(&config, "max_position_embeddings").unwrap_or(131_072);
            let fields =
                config.as_object_mut().ok_or_else(|| refuse(family, "has a `config.json` that is no object"))?;
            if fields.get("sliding_window").is_none_or(Value::is_null) {
                fields.insert("sliding_window".to_owned(), context.into());
            }
        }
        "qwen3_moe" => {
            default("use_sliding_window", false.into());
            default("max_window_layers", 28.into());
            default("decoder_sparse_step", 1.into());
            default("rope_theta", 1e4.into());
            default("hidden_act", "silu".into());
        }
        _ => {
            default("rope_theta", 1e4.into());
            default("hidden_act", if family == "starcoder2" { "gelu_pytorch_tanh" } else { "silu" }.into());
            default("use_bias", true.into());
        }
    }
    if let Some(fields) = config.as_object_mut() {
        if family.starts_with("gemma") {
            // The old key, superseded by `hidden_activation`; candle refuses both at once.
            fields.remove("hidden_act");
        }
        // With the flag set and the feature off, candle panics.
        fields.insert("use_flash_attn".to_owned(), false.into());
    }
    Ok(config)
}

fn config_size(config: &Value, key: &str) -> Option<u64> {
    config.get(key).and_then(Value::as_u64)
}

fn from_gguf(
    description: &Description,
    family: &str,
    device: &Device,
    dtype: Option<Format>,
) -> std::result::Result<Box<dyn Network>, LoadError> {
    if let Some(format) = dtype {
        let reason = format!("candle's module for `{family}` keeps the blocks of its GGUF file");
        return Err(LoadError::Target { format, reason });
    }
    let (true, [file]) = (GGUF_FAMILIES.contains(&family), description.files.as_slice()) else {
        let reason = format!("is not supported from GGUF; candle's modules run {}", GGUF_FAMILIES.join(", "));
        return Err(refuse(family, reason));
    };
    let io = |source| LoadError::Io { path: file.clone(), source };
    let failed = || LoadError::candle(format!("candle's `{family}` module does not fit `{}`", file.display()));
    let mut reader = BufReader::new(File::open(file).map_err(io)?);
    // candle's reader trusts counts; `describe` has checked them all against the size of this file.
    let content = gguf_file::Content::read(&mut reader).map_err(failed())?;
    Ok(match family {
        "gemma3" => Box::new(Restarted::new(
            candle_models::quantized_gemma3::ModelWeights::from_gguf(content, &mut reader, device).map_err(failed())?,
        )),
        _ => Box::new(Restarted::new(
            candle_models::quantized_phi3::ModelWeights::from_gguf(false, content, &mut reader, device)
                .map_err(failed())?,
        )),
    })
}

/// Whether [`build`] has a module for `family` in this kind of file.
pub fn supports(family: &Family, from_gguf: bool) -> bool {
    let name = family.model_type();
    if from_gguf { GGUF_FAMILIES.contains(&name) } else { SAFETENSORS_FAMILIES.contains(&name) }
}
