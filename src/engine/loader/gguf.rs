//! Reads a model from a GGUF file: its architecture, its tokenizer's raw material and its tensors under Hugging Face names.

use std::borrow::Cow;
use std::path::Path;

use candle_core::Device;

use super::convert::{self, Stored};
use super::gguf_header::{self, Header, Value};
use super::{Finished, LoadError, Progress, expected};
use crate::engine::tokenizer::{GgufVocabulary, TokenizerSource};
use crate::engine::weights::WeightMap;
use crate::estimate::architecture::{Architecture, Family, Moe, Rope, RopeScaling};
use crate::estimate::format::Format;

/// A parsed header with the path for its errors.
pub(super) struct Gguf<'a> {
    path: &'a Path,
    file: &'a [u8],
    header: Header<'a>,
}

impl<'a> Gguf<'a> {
    /// Parses the header of `file`, the bytes of `path`.
    pub(super) fn parse(path: &'a Path, file: &'a [u8]) -> Result<Self, LoadError> {
        let header = gguf_header::parse(file).map_err(|error| LoadError::Damaged {
            path: path.to_owned(),
            offset: error.offset,
            reason: error.reason,
        })?;
        Ok(Self { path, file, header })
    }

    fn wrong(&self, key: &str, reason: impl Into<String>) -> LoadError {
        LoadError::Metadata { path: self.path.to_owned(), key: key.to_owned(), reason: reason.into() }
    }
    fn value(&self, key: &str) -> Option<&Value<'a>> {
        self.header.metadata.get(key)
    }
    fn text(&self, key: &str) -> Option<&'a str> {
        match self.value(key) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }
    fn size(&self, key: &str) -> Result<Option<usize>, LoadError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        // Some converters write one value per layer; only models whose layers are all alike fit the architecture.
        if let Value::Array(values) = value {
            let mut sizes = values.iter().map(|value| value.as_u64());
            let first = sizes.next().flatten();
            return match first {
                Some(size) if sizes.all(|other| other == Some(size)) => Ok(Some(size as usize)),
                _ => Err(self.wrong(key, "differs from layer to layer, which is not supported")),
            };
        }
        // 2^32 bounds every real dimension and keeps products of two inside 64 bits.
        match value.as_u64().and_then(|size| u32::try_from(size).ok()) {
            Some(size) => Ok(Some(size as usize)),
            None => Err(self.wrong(key, format!("is {value:?}, a size is needed"))),
        }
    }
    fn needed_size(&self, key: &str) -> Result<usize, LoadError> {
        match self.size(key)? {
            Some(0) => Err(self.wrong(key, "is 0")),
            Some(size) => Ok(size),
            None => Err(self.wrong(key, "is missing")),
        }
    }
    fn float(&self, key: &str) -> Result<Option<f64>, LoadError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        match value.as_f64().filter(|number| number.is_finite()) {
            Some(number) => Ok(Some(number)),
            None => Err(self.wrong(key, format!("is {value:?}, a number is needed"))),
        }
    }
    fn has_tensor(&self, name: &str) -> bool {
        self.header.tensors.iter().any(|tensor| tensor.name == name)
    }
    /// `general.architecture`.
    pub(super) fn family(&self) -> Result<&'a str, LoadError> {
        self.text("general.architecture").ok_or_else(|| self.wrong("general.architecture", "is missing or no text"))
    }

    /// The shape of the model, from metadata and from which tensors there are.
    pub(super) fn architecture(&self) -> Result<Architecture, LoadError> {
        let family = self.family()?;
        if let Some(parts) = self.size("split.count")?
            && parts > 1
        {
            return Err(self
                .wrong("split.count", format!("is {parts}: the model is split over several files; merge them first")));
        }
        let key = |name: &str| format!("{family}.{name}");
        let moe = match self.size(&key("expert_count"))? {
            None | Some(0) => None,
            Some(num_experts) => Some(Moe {
                num_experts,
                experts_per_token: self.needed_size(&key("expert_used_count"))?,
                expert_intermediate_size: match self.size(&key("expert_feed_forward_length"))? {
                    Some(size) => size,
                    None => self.needed_size(&key("feed_forward_length"))?,
                },
                shared_intermediate_size: self.size(&key("expert_shared_feed_forward_length"))?.unwrap_or(0),
            }),
        };
        let hidden_size = self.needed_size(&key("embedding_length"))?;
        let num_heads = self.needed_size(&key("attention.head_count"))?;
        let num_kv_heads = self.size(&key("attention.head_count_kv"))?.unwrap_or(num_heads);
        let head_dim = match self.size(&key("attention.key_length"))? {
            Some(size) => size,
            None => hidden_size / num_heads,
        };
        if num_kv_heads == 0 || !num_heads.is_multiple_of(num_kv_heads) {
            let reason = format!("is {num_kv_heads}, which does not divide the {num_heads} query heads");
            return Err(self.wrong(&key("attention.head_count_kv"), reason));
        }
        if head_dim == 0 || head_dim % 2 == 1 {
            return Err(self.wrong(&key("attention.key_length"), format!("gives heads of width {head_dim}")));
        }
        if let Some(width) = self.size(&key("attention.value_length"))?
            && width != head_dim
        {
            return Err(
                self.wrong(&key("attention.value_length"), format!("is {width}, but keys have width {head_dim}"))
            );
        }
        // Families outside the instrumented decoder rotate as their own module does.
        if let Some(width) = self.size(&key("rope.dimension_count"))?
            && width != head_dim
            && !matches!(family_of(family), Family::Other(_))
        {
            let reason = format!("is {width}, but heads have width {head_dim}: partial rotation is not supported");
            return Err(self.wrong(&key("rope.dimension_count"), reason));
        }
        let embedding = self.header.tensors.iter().find(|tensor| tensor.name == "token_embd.weight");
        let vocab_size = embedding.and_then(|tensor| tensor.dims.first().copied()).ok_or_else(|| {
            LoadError::MissingTensors { path: self.path.to_owned(), names: vec!["token_embd.weight".to_owned()] }
        })?;
        let intermediate_size = self.needed_size(&key("feed_forward_length"))?;
        // Phi-3 keeps gate and up in one matrix of twice the rows.
        let fused_gate = self.header.tensors.iter().any(|tensor| {
            tensor.name == "blk.0.ffn_up.weight" && tensor.dims.first() == Some(&(2 * intermediate_size))
        });
        let gated_mlp =
            fused_gate || self.has_tensor("blk.0.ffn_gate.weight") || self.has_tensor("blk.0.ffn_gate_exps.weight");
        let theta = self.float(&key("rope.freq_base"))?.unwrap_or(10_000.0);
        let architecture = Architecture {
            family: family_of(family),
            hidden_size,
            intermediate_size,
            num_layers: self.needed_size(&key("block_count"))?,
            num_heads,
            num_kv_heads,
            head_dim,
            vocab_size,
            max_position_embeddings: self.needed_size(&key("context_length"))?,
            rms_norm_eps: self
                .float(&key("attention.layer_norm_rms_epsilon"))?
                .ok_or_else(|| self.wrong(&key("attention.layer_norm_rms_epsilon"), "is missing"))?,
            rope: Rope { theta, scaling: self.rope_scaling(family, theta, head_dim)? },
            tie_word_embeddings: !self.has_tensor("output.weight"),
            qkv_bias: self.has_tensor("blk.0.attn_q.bias"),
            o_bias: self.has_tensor("blk.0.attn_output.bias"),
            qk_norm: self.has_tensor("blk.0.attn_q_norm.weight"),
            gated_mlp,
            sliding_window: self.size(&key("attention.sliding_window"))?.filter(|window| *window > 0),
            moe,
        };
        architecture
            .validate()
            .map_err(|error| LoadError::Config { path: self.path.to_owned(), reason: error.to_string() })?;
        Ok(architecture)
    }

    fn rope_scaling(&self, family: &str, theta: f64, head_dim: usize) -> Result<Option<RopeScaling>, LoadError> {
        let key = |name: &str| format!("{family}.rope.{name}");
        let original = self.size(&key("scaling.original_context_length"))?;
        if let Some(tensor) = self.header.tensors.iter().find(|tensor| tensor.name == "rope_freqs.weight") {
            if tensor.storage != Ok(Format::F32) || tensor.dims != [head_dim / 2] {
                return Err(LoadError::Shape {
                    path: self.path.to_owned(),
                    tensor: "rope_freqs.weight".to_owned(),
                    expected: vec![head_dim / 2],
                    found: tensor.dims.clone(),
                });
            }
            let factors: Vec<f64> = self.file[tensor.data.clone()]
                .as_chunks::<4>()
                .0
                .iter()
                .map(|bytes| f64::from(f32::from_le_bytes(*bytes)))
                .collect();
            return llama3_from_factors(&factors, theta, original)
                .map_err(|reason| self.wrong("rope_freqs.weight", reason));
        }
        let factor = match self.float(&key("scaling.factor"))? {
            Some(factor) => Some(factor),
            None => self.float(&key("scale_linear"))?,
        };
        let kind = self.text(&key("scaling.type")).unwrap_or(if factor.is_some() { "linear" } else { "none" });
        let factor = match (kind, factor) {
            ("none", _) => return Ok(None),
            (_, Some(factor)) if factor > 0.0 => factor,
            (_, factor) => {
                return Err(self.wrong(&key("scaling.factor"), format!("is {factor:?} for scaling `{kind}`")));
            }
        };
        match kind {
            "linear" if factor == 1.0 => Ok(None),
            "linear" => Ok(Some(RopeScaling::Linear { factor })),
            "yarn" => Ok(Some(RopeScaling::Yarn {
                factor,
                beta_fast: self.float(&key("scaling.yarn_beta_fast"))?.unwrap_or(32.0),
                beta_slow: self.float(&key("scaling.yarn_beta_slow"))?.unwrap_or(1.0),
                original_max_position: original
                    .ok_or_else(|| self.wrong(&key("scaling.original_context_length"), "is missing"))?,
                attention_factor: None,
            })),
            other => Err(self.wrong(&key("scaling.type"), format!("is `{other}`, which is not supported"))),
        }
    }

    /// The `tokenizer.*` metadata.
    pub(super) fn tokenizer(&self) -> Result<TokenizerSource, LoadError> {
        const TOKENS: &str = "tokenizer.ggml.tokens";
        let Some(model) = self.text("tokenizer.ggml.model") else {
            return Ok(TokenizerSource::Missing(self.path.to_owned()));
        };
        let texts = |key: &str| -> Result<Vec<String>, LoadError> {
            let Some(value) = self.value(key) else { return Ok(Vec::new()) };
            let Value::Array(values) = value else { return Err(self.wrong(key, "is no array")) };
            values
                .iter()
                .map(|value| match value {
                    Value::Text(text) => Ok(text.to_owned()),
                    _ => Err(self.wrong(key, "holds something other than text")),
                })
                .collect()
        };
        let tokens = texts(TOKENS)?;
        if tokens.is_empty() {
            return Err(self.wrong(TOKENS, "is missing or empty"));
        }
        let numbers = |key: &str| -> Result<Vec<f64>, LoadError> {
            let Some(value) = self.value(key) else { return Ok(Vec::new()) };
            let Value::Array(values) = value else { return Err(self.wrong(key, "is no array")) };
            if values.len() != tokens.len() {
                return Err(self.wrong(key, format!("has {} entries for {} tokens", values.len(), tokens.len())));
            }
            values
                .iter()
                .map(|value| value.as_f64().ok_or_else(|| self.wrong(key, "holds something other than numbers")))
                .collect()
        };
        let id = |name: &str| -> Result<Option<u32>, LoadError> {
            let key = format!("tokenizer.ggml.{name}_token_id");
            match self.size(&key)? {
                // All bits set is how converters write "none".
                None => Ok(None),
                Some(id) if id == u32::MAX as usize => Ok(None),
                Some(id) if id < tokens.len() => Ok(Some(id as u32)),
                Some(id) => Err(self.wrong(&key, format!("is {id}, but there are only {} tokens", tokens.len()))),
            }
        };
        let flag = |name: &str| self.value(&format!("tokenizer.ggml.{name}")).and_then(Value::as_bool);
        Ok(TokenizerSource::Gguf(Box::new(GgufVocabulary {
            model: model.to_owned(),
            pre: self.text("tokenizer.ggml.pre").map(str::to_owned),
            merges: texts("tokenizer.ggml.merges")?,
            scores: numbers("tokenizer.ggml.scores")?.into_iter().map(|score| score as f32).collect(),
            token_types: numbers("tokenizer.ggml.token_type")?.into_iter().map(|kind| kind as i32).collect(),
            bos_id: id("bos")?,
            eos_id: id("eos")?,
            eot_id: id("eot")?,
            unknown_id: id("unknown")?,
            add_bos: flag("add_bos_token"),
            add_eos: flag("add_eos_token"),
            add_space_prefix: flag("add_space_prefix"),
            chat_template: self.text("tokenizer.chat_template").map(str::to_owned),
            tokens,
        })))
    }

    /// The weights, checked against `architecture` and held as `target` on `device`.
    pub(super) fn weights(
        &self,
        architecture: &Architecture,
        target: Option<Format>,
        device: &Device,
        progress: &mut Progress<'_>,
    ) -> Result<Finished, LoadError> {
        let mut notes = Vec::new();
        let mut by_name = std::collections::BTreeMap::new();
        for tensor in &self.header.tensors {
            match hugging_face_name(tensor.name) {
                Some(name) => {
                    by_name.insert(name, tensor);
                }
                None if tensor.name == "rope_freqs.weight" => {}
                None => {
                    notes.push(format!("tensor `{}` is not part of the architecture and was not read", tensor.name));
                }
            }
        }
        let wanted = expected::tensors(architecture);
        super::check_presence(
            self.path,
            &wanted,
            by_name.iter().map(|(name, tensor)| (name.as_str(), tensor.dims.as_slice())),
            &mut notes,
        )?;
        progress.expect(wanted.iter().map(|tensor| by_name[&tensor.name].data.len() as u64).sum());

        let mut weights = WeightMap::default();
        let mut fallbacks = super::Fallbacks::default();
        for tensor in wanted {
            let info = by_name[&tensor.name];
            let format = info.storage.map_err(|kind| LoadError::Storage {
                path: self.path.to_owned(),
                tensor: tensor.name.clone(),
                stored: gguf_header::type_name(kind),
            })?;
            let mut bytes = Cow::Borrowed(&self.file[info.data.clone()]);
            if let Some(heads) = interleaved_heads(architecture, &tensor.name) {
                bytes = Cow::Owned(convert::half_rotation_rows(&bytes, info.dims[0], heads));
            }
            fallbacks.record(target, &tensor.dims);
            let stored = Stored { format, dims: &tensor.dims, bytes };
            let weight = convert::weight(stored, target, device).map_err(LoadError::candle(format!(
                "cannot hold tensor `{}` of `{}`",
                tensor.name,
                self.path.display()
            )))?;
            weights.0.insert(tensor.name, weight);
            progress.advance(info.data.len() as u64);
        }
        notes.extend(fallbacks.notes());
        Ok(Finished { weights, notes })
    }
}

/// The family under its Hugging Face name; llama.cpp writes a few differently.
fn family_of(architecture: &str) -> Family {
    Family::from_model_type(match architecture {
        "qwen3moe" => "qwen3_moe",
        other => other,
    })
}

/// How many heads the rows of `name` must be re-ordered over; `None` where GGUF keeps Hugging Face's order.
///
/// llama.cpp's converter interleaves q and k of the llama architecture only (which Mistral files use too).
fn interleaved_heads(architecture: &Architecture, name: &str) -> Option<usize> {
    if !matches!(architecture.family, Family::Llama | Family::Mistral) {
        return None;
    }
    if name.contains("self_attn.q_proj.") {
        Some(architecture.num_heads)
    } else if name.contains("self_attn.k_proj.") {
        Some(architecture.num_kv_heads)
    } else {
        None
    }
}

/// The Hugging Face name of a GGUF tensor of a dense decoder (llama.cpp's `gguf-py/gguf/tensor_mapping.py`).
fn hugging_face_name(name: &str) -> Option<String> {
    let fixed = match name {
        "token_embd.weight" => Some("model.embed_tokens.weight"),
        "output_norm.weight" => Some("model.norm.weight"),
        "output.weight" => Some("lm_head.weight"),
        _ => None,
    };
    if let Some(fixed) = fixed {
        return Some(fixed.to_owned());
    }
    let (layer, rest) = name.strip_prefix("blk.")?.split_once('.')?;
    let layer: u32 = layer.parse().ok()?;
    let (module, kind) = rest.rsplit_once('.')?;
    if kind != "weight" && kind != "bias" {
        return None;
    }
    let module = match module {
        "attn_norm" => "input_layernorm",
        "attn_q" => "self_attn.q_proj",
        "attn_k" => "self_attn.k_proj",
        "attn_v" => "self_attn.v_proj",
        "attn_output" => "self_attn.o_proj",
        "attn_q_norm" => "self_attn.q_norm",
        "attn_k_norm" => "self_attn.k_norm",
        "ffn_norm" => "post_attention_layernorm",
        "ffn_gate" => "mlp.gate_proj",
        "ffn_up" => "mlp.up_proj",
        "ffn_down" => "mlp.down_proj",
        _ => return None,
    };
    Some(format!("model.layers.{layer}.{module}.{kind}"))
}

/// Recovers Llama 3's scaling parameters from the per-frequency divisors that GGUF stores instead of them.
///
/// The divisors follow from `factor`, `low`, `high` and `original` (Hugging Face `_compute_llama3_parameters`): 1 where the wavelength is
/// below `original/high`, `factor` above `original/low`, and `1/((1−s)/factor + s)` with `s = (original/wavelength − low)/(high − low)`
/// between. Only `original/(high−low)` and `low/(high−low)` can be told from them, so `low` is taken as 1, as in every published model; any
/// parameters that reproduce all divisors are the right ones.
fn llama3_from_factors(factors: &[f64], theta: f64, original: Option<usize>) -> Result<Option<RopeScaling>, String> {
    let inverse_wavelengths: Vec<f64> =
        (0..factors.len()).map(|i| theta.powf(-(i as f64) / factors.len() as f64) / std::f64::consts::TAU).collect();
    let factor = factors.iter().copied().fold(1.0, f64::max);
    if factors.iter().any(|value| !value.is_finite() || *value < 1.0) {
        return Err("holds divisors below 1".to_owned());
    }
    if factor == 1.0 {
        return Ok(None);
    }
    let reproduces = |low: f64, high: f64, original: f64| {
        factors.iter().zip(&inverse_wavelengths).all(|(stored, inverse)| {
            let smooth = ((original * inverse - low) / (high - low)).clamp(0.0, 1.0);
            let computed = 1.0 / ((1.0 - smooth) / factor + smooth);
            (computed - stored).abs() <= 1e-4 * stored
        })
    };
    let mut candidates: Vec<(f64, f64, f64)> =
        original.into_iter().chain([8192, 4096, 16384, 32768]).map(|original| (1.0, 4.0, original as f64)).collect();
    // Two points inside the ramp fix the line `s` over the inverse wavelength.
    let ramp: Vec<(f64, f64)> = factors
        .iter()
        .zip(&inverse_wavelengths)
        .filter(|(stored, _)| **stored > 1.0 && **stored < factor)
        .map(|(stored, inverse)| (*inverse, (1.0 / stored - 1.0 / factor) / (1.0 - 1.0 / factor)))
        .collect();
    if let (Some(first), Some(last)) = (ramp.first(), ramp.last())
        && ramp.len() >= 2
    {
        let slope = (first.1 - last.1) / (first.0 - last.0);
        let intercept = first.1 - slope * first.0;
        let span = -1.0 / intercept;
        candidates.push((1.0, 1.0 + span, (slope * span).round()));
    }
    candidates
        .into_iter()
        .find(|(low, high, original)| reproduces(*low, *high, *original))
        .map(|(low_freq_factor, high_freq_factor, original)| {
            Some(RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_position: original as usize,
            })
        })
        .ok_or_else(|| "holds divisors that are not those of Llama 3's scaling".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hugging Face's own piecewise form, written out separately from the clamped one above.
    fn divisors(factor: f64, low: f64, high: f64, original: f64, theta: f64, half: usize) -> Vec<f64> {
        (0..half)
            .map(|i| {
                let wavelength = std::f64::consts::TAU * theta.powf(i as f64 / half as f64);
                if wavelength < original / high {
                    1.0
                } else if wavelength > original / low {
                    factor
                } else {
                    let smooth = (original / wavelength - low) / (high - low);
                    f64::from((1.0 / ((1.0 - smooth) / factor + smooth)) as f32)
                }
            })
            .collect()
    }

    #[test]
    fn llama3_scaling_is_recovered_from_its_divisors() {
        for (factor, original) in [(8.0, 8192), (32.0, 8192)] {
            let stored = divisors(factor, 1.0, 4.0, original as f64, 500_000.0, 64);
            let expected = RopeScaling::Llama3 {
                factor,
                low_freq_factor: 1.0,
                high_freq_factor: 4.0,
                original_max_position: original,
            };
            assert_eq!(llama3_from_factors(&stored, 500_000.0, None), Ok(Some(expected)));
        }
    }

    #[test]
    fn unusual_llama3_scaling_is_fitted_and_nonsense_refused() {
        let stored = divisors(16.0, 1.0, 8.0, 3000.0, 10_000.0, 64);
        let Ok(Some(RopeScaling::Llama3 { high_freq_factor, original_max_position, .. })) =
            llama3_from_factors(&stored, 10_000.0, None)
        else {
            panic!("not recovered")
        };
        assert!((high_freq_factor - 8.0).abs() < 0.01, "{high_freq_factor}");
        assert_eq!(original_max_position, 3000);
        let mut broken = stored;
        broken[10] = 5.0;
        assert!(llama3_from_factors(&broken, 10_000.0, None).is_err());
        assert_eq!(llama3_from_factors(&[1.0; 64], 10_000.0, None), Ok(None));
    }

    #[test]
    fn names_map_to_hugging_face() {
        assert_eq!(hugging_face_name("blk.11.attn_k.bias").unwrap(), "model.layers.11.self_attn.k_proj.bias");
        assert_eq!(hugging_face_name("blk.0.attn_q_norm.weight").unwrap(), "model.layers.0.self_attn.q_norm.weight");
        assert_eq!(hugging_face_name("blk.x.attn_k.weight"), None);
        assert_eq!(hugging_face_name("blk.0.ffn_gate_exps.weight"), None);
    }
}
