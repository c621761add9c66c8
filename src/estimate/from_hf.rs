//! Reads a Hugging Face `config.json` into an [`Architecture`], with the defaults of transformers' own config classes.
//!
//! Optional keys default as in `transformers/models/<type>/configuration_<type>.py`. The five sizes that every `config.json` states
//! (`hidden_size`, `intermediate_size`, `num_hidden_layers`, `num_attention_heads`, `vocab_size`) are required here, although
//! transformers would fill them in: a file without them is broken, and silently profiling a 7B shape in its place helps nobody.

use serde_json::{Map, Value};
use thiserror::Error;

use super::architecture::{Architecture, Family, Moe, Rope, RopeScaling};

/// Why a `config.json` does not describe a decoder this tool knows how to count.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum ArchitectureError {
    /// The document is not a JSON object.
    #[error("the model configuration is not a JSON object")]
    NotAnObject,
    /// A key that has no default is absent.
    #[error("`{key}` is missing")]
    Missing {
        /// The key.
        key: String,
    },
    /// A value has the wrong type.
    #[error("`{key}` must be {expected}, but is `{found}`")]
    WrongType {
        /// The key.
        key: String,
        /// What it must be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// A value makes no decoder.
    #[error("`{key}` = {value}: {reason}")]
    Invalid {
        /// The key.
        key: String,
        /// Its value.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A value is legal, but its meaning is not implemented.
    #[error("`{key}` = {value} is not supported: {reason}")]
    Unsupported {
        /// The key.
        key: String,
        /// Its value.
        value: String,
        /// What would be needed.
        reason: String,
    },
}

type Result<T> = std::result::Result<T, ArchitectureError>;

#[expect(clippy::needless_pass_by_value, reason = "callers hand over numbers and literals")]
fn invalid(key: &str, value: impl ToString, reason: impl Into<String>) -> ArchitectureError {
    ArchitectureError::Invalid { key: key.to_owned(), value: value.to_string(), reason: reason.into() }
}

#[expect(clippy::needless_pass_by_value, reason = "callers hand over numbers and literals")]
fn unsupported(key: &str, value: impl ToString, reason: impl Into<String>) -> ArchitectureError {
    ArchitectureError::Unsupported { key: key.to_owned(), value: value.to_string(), reason: reason.into() }
}

/// Typed access to the keys of one object; `prefix` names the object in messages.
#[derive(Clone, Copy)]
struct Keys<'a> {
    map: &'a Map<String, Value>,
    prefix: &'a str,
}

impl<'a> Keys<'a> {
    fn name(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }
    /// The value of the first of `keys` that is present; a JSON null counts as present.
    fn get(&self, keys: &[&'static str]) -> Option<(&'static str, &'a Value)> {
        keys.iter().find_map(|key| self.map.get(*key).map(|value| (*key, value)))
    }
    fn wrong(&self, key: &str, expected: &'static str, value: &Value) -> ArchitectureError {
        let mut found = value.to_string();
        if found.chars().count() > 60 {
            found = found.chars().take(59).chain(['…']).collect();
        }
        ArchitectureError::WrongType { key: self.name(key), expected, found }
    }
    /// `None` where absent or null.
    fn size(&self, keys: &[&'static str]) -> Result<Option<usize>> {
        let Some((key, value)) = self.get(keys) else { return Ok(None) };
        if value.is_null() {
            return Ok(None);
        }
        let size = value.as_u64().and_then(|size| usize::try_from(size).ok());
        size.map(Some).ok_or_else(|| self.wrong(key, "a whole number", value))
    }
    fn required(&self, keys: &[&'static str]) -> Result<usize> {
        self.size(keys)?.ok_or_else(|| ArchitectureError::Missing { key: self.name(keys[0]) })
    }
    fn number(&self, keys: &[&'static str]) -> Result<Option<f64>> {
        let Some((key, value)) = self.get(keys) else { return Ok(None) };
        if value.is_null() {
            return Ok(None);
        }
        value.as_f64().map(Some).ok_or_else(|| self.wrong(key, "a number", value))
    }
    fn flag(&self, key: &'static str, default: bool) -> Result<bool> {
        match self.map.get(key) {
            None | Some(Value::Null) => Ok(default),
            Some(value) => value.as_bool().ok_or_else(|| self.wrong(key, "true or false", value)),
        }
    }
    fn text(&self, key: &'static str) -> Result<Option<&'a str>> {
        match self.map.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => value.as_str().map(Some).ok_or_else(|| self.wrong(key, "a string", value)),
        }
    }
    fn object(&self, key: &'static str) -> Result<Option<&'a Map<String, Value>>> {
        match self.map.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => value.as_object().map(Some).ok_or_else(|| self.wrong(key, "an object", value)),
        }
    }
    fn list(&self, key: &'static str) -> Result<Option<&'a Vec<Value>>> {
        match self.map.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => value.as_array().map(Some).ok_or_else(|| self.wrong(key, "a list", value)),
        }
    }
    /// Whether the key stands there at all, null included: Mistral's `"sliding_window": null` is not its absence.
    fn has(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }
}

/// What a transformers config class assumes where the file is silent.
struct Defaults {
    kv_heads: Option<usize>,
    head_dim: Option<usize>,
    max_position: usize,
    rms_norm_eps: f64,
    rope_theta: f64,
    tie: bool,
}

impl Defaults {
    fn of(model_type: &str) -> Self {
        // `kv_heads: None` is "as many as query heads", `head_dim: None` is hidden_size / heads.
        let llama = Self {
            kv_heads: None,
            head_dim: None,
            max_position: 2048,
            rms_norm_eps: 1e-6,
            rope_theta: 10_000.0,
            tie: false,
        };
        match model_type {
            "llama" => llama,
            "mistral" => Self { kv_heads: Some(8), max_position: 131_072, ..llama },
            "qwen2" => Self { kv_heads: Some(32), max_position: 32_768, ..llama },
            "qwen3" => Self { kv_heads: Some(32), head_dim: Some(128), max_position: 32_768, ..llama },
            "mixtral" => {
                Self { kv_heads: Some(8), max_position: 131_072, rms_norm_eps: 1e-5, rope_theta: 1e6, ..llama }
            }
            "qwen2_moe" => Self { kv_heads: Some(16), max_position: 32_768, ..llama },
            "qwen3_moe" => Self { kv_heads: Some(4), max_position: 32_768, ..llama },
            // `PretrainedConfig`, the base of all, ties the embeddings, and a file only states what differs from it.
            _ => Self { tie: true, ..llama },
        }
    }
}

/// Decoders with a two-matrix MLP.
const UNGATED: [&str; 12] = [
    "gpt2",
    "gpt_neo",
    "gpt_neox",
    "gptj",
    "gpt_bigcode",
    "opt",
    "bloom",
    "falcon",
    "mpt",
    "phi",
    "starcoder2",
    "nemotron",
];

/// Types whose blocks are counted exactly; for all others a Llama-like block of the stated sizes is assumed.
const EXACT: [&str; 7] = ["llama", "mistral", "qwen2", "qwen3", "mixtral", "qwen2_moe", "qwen3_moe"];

impl Architecture {
    /// The shape described by a Hugging Face `config.json`, checked by [`Self::validate`].
    ///
    /// Llama, Mistral, Qwen2, Qwen3, Mixtral, Qwen2-MoE and Qwen3-MoE are read exactly, and settings of theirs that cannot be
    /// represented are errors. Any other `model_type` becomes [`Family::Other`] with the sizes the file states: position embeddings
    /// other than rotary, layer-wise windows and biases it may have are not counted.
    pub fn from_hf_config(config: &Value) -> Result<Self> {
        let mut map = config.as_object().ok_or(ArchitectureError::NotAnObject)?;
        let mut prefix = "";
        // Multimodal models keep their decoder one level down.
        if let (false, Some(Value::Object(text))) = (map.contains_key("hidden_size"), map.get("text_config")) {
            (map, prefix) = (text, "text_config.");
        }
        let keys = Keys { map, prefix };
        let model_type =
            keys.text("model_type")?.ok_or_else(|| ArchitectureError::Missing { key: keys.name("model_type") })?;
        let exact = EXACT.contains(&model_type);
        refuse_other_designs(&keys)?;
        let defaults = Defaults::of(model_type);

        let hidden_size = keys.required(&["hidden_size", "n_embd", "d_model"])?;
        let num_layers = keys.required(&["num_hidden_layers", "n_layer", "n_layers", "num_layers"])?;
        let num_heads = keys.required(&["num_attention_heads", "n_head", "n_heads"])?;
        let vocab_size = keys.required(&["vocab_size"])?;
        let intermediate_size = match keys.size(&["intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size"])? {
            Some(size) => size,
            None if exact => return Err(ArchitectureError::Missing { key: keys.name("intermediate_size") }),
            // The rule of GPT-2 and its descendants where `n_inner` is null.
            None => hidden_size.saturating_mul(4),
        };
        let num_kv_heads = kv_heads(&keys, &defaults, num_heads)?;
        let head_dim = match keys.size(&["head_dim"])?.or(defaults.head_dim) {
            Some(head_dim) => head_dim,
            None if num_heads == 0 => return Err(invalid(&keys.name("num_attention_heads"), 0, "must not be zero")),
            None if !hidden_size.is_multiple_of(num_heads) => {
                let reason = format!("does not divide `hidden_size` = {hidden_size}, and there is no `head_dim`");
                return Err(invalid(&keys.name("num_attention_heads"), num_heads, reason));
            }
            None => hidden_size / num_heads,
        };
        let max_position_embeddings = keys
            .size(&["max_position_embeddings", "n_positions", "n_ctx", "max_sequence_length", "max_seq_len"])?
            .unwrap_or(defaults.max_position);
        let eps = keys.number(&["rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_eps"])?;
        let (qkv_bias, o_bias) = match model_type {
            "mistral" | "mixtral" => (false, false),
            "qwen2" => (true, false),
            "qwen2_moe" => (keys.flag("qkv_bias", true)?, false),
            _ => {
                let bias = keys.flag("attention_bias", false)?;
                (bias, bias)
            }
        };
        if exact {
            refuse_unknown_blocks(&keys)?;
        }
        let architecture = Self {
            family: Family::from_model_type(model_type),
            hidden_size,
            intermediate_size,
            num_layers,
            num_heads,
            num_kv_heads,
            head_dim,
            vocab_size,
            max_position_embeddings,
            rms_norm_eps: eps.unwrap_or(defaults.rms_norm_eps),
            rope: rope(&keys, &defaults, max_position_embeddings, exact)?,
            tie_word_embeddings: keys.flag("tie_word_embeddings", defaults.tie)?,
            qkv_bias,
            o_bias,
            qk_norm: matches!(model_type, "qwen3" | "qwen3_moe"),
            gated_mlp: !UNGATED.contains(&model_type),
            sliding_window: sliding_window(&keys, model_type, num_layers, exact)?,
            moe: moe(&keys, model_type, intermediate_size)?,
        };
        architecture.validate()?;
        Ok(architecture)
    }

    /// Whether the analytic model describes every block of this family; for others it counts a Llama-like decoder of the same sizes.
    pub fn is_counted_exactly(&self) -> bool {
        EXACT.contains(&self.family.model_type())
    }

    /// Refuses shapes that are no decoder: zero or absurd sizes, heads that do not divide. Errors name the `config.json` key.
    pub fn validate(&self) -> Result<()> {
        let sizes = [
            ("hidden_size", self.hidden_size, 1 << 20),
            ("num_hidden_layers", self.num_layers, 10_000),
            ("num_attention_heads", self.num_heads, 1 << 15),
            ("num_key_value_heads", self.num_kv_heads, 1 << 15),
            ("head_dim", self.head_dim, 1 << 14),
            ("vocab_size", self.vocab_size, 1 << 28),
            ("max_position_embeddings", self.max_position_embeddings, 1 << 31),
        ];
        for (key, size, most) in sizes {
            within(key, size, most)?;
        }
        // A mixture of experts may leave the dense width unused, but not absurd.
        if self.moe.is_none() || self.intermediate_size != 0 {
            within("intermediate_size", self.intermediate_size, 1 << 24)?;
        }
        if !self.num_heads.is_multiple_of(self.num_kv_heads) {
            let reason = format!("does not divide `num_attention_heads` = {}", self.num_heads);
            return Err(invalid("num_key_value_heads", self.num_kv_heads, reason));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(invalid("head_dim", self.head_dim, "rotary embedding rotates pairs, so it must be even"));
        }
        if !(self.rms_norm_eps > 0.0 && self.rms_norm_eps < 1.0) {
            return Err(invalid("rms_norm_eps", self.rms_norm_eps, "must lie between 0 and 1"));
        }
        if !(self.rope.theta.is_finite() && self.rope.theta > 0.0) {
            return Err(invalid("rope_theta", self.rope.theta, "must be positive"));
        }
        if let Some(scaling) = &self.rope.scaling {
            validate_scaling(scaling)?;
        }
        if self.sliding_window == Some(0) {
            return Err(invalid("sliding_window", 0, "must not be zero; null means no window"));
        }
        if let Some(moe) = &self.moe {
            within("num_experts", moe.num_experts, 1 << 16)?;
            within("num_experts_per_tok", moe.experts_per_token, 1 << 16)?;
            within("moe_intermediate_size", moe.expert_intermediate_size, 1 << 24)?;
            if moe.experts_per_token > moe.num_experts {
                let reason = format!("exceeds the {} experts there are", moe.num_experts);
                return Err(invalid("num_experts_per_tok", moe.experts_per_token, reason));
            }
            if moe.shared_intermediate_size > 1 << 24 {
                return Err(invalid("shared_expert_intermediate_size", moe.shared_intermediate_size, "absurdly large"));
            }
        }
        // Each size may be plausible alone; exact integer counts below need the product to be so as well.
        let width = self.moe.as_ref().map_or(self.intermediate_size as f64, |moe| {
            moe.num_experts as f64 * moe.expert_intermediate_size as f64 + moe.shared_intermediate_size as f64
        });
        let layer = self.hidden_size as f64 * (2.0 * (self.q_width() + self.kv_width()) as f64 + 3.0 * width);
        let parameters = self.num_layers as f64 * layer + 2.0 * self.vocab_size as f64 * self.hidden_size as f64;
        if parameters > MOST_PARAMETERS {
            let reason = format!("with the other sizes this is a model of {parameters:.1e} parameters");
            return Err(invalid("num_hidden_layers", self.num_layers, reason));
        }
        Ok(())
    }
}

/// A hundred times the largest model ever published, and small enough that counts of a step fit 64 bits.
const MOST_PARAMETERS: f64 = 1e14;

fn within(key: &str, size: usize, most: usize) -> Result<()> {
    match size {
        0 => Err(invalid(key, size, "must not be zero")),
        size if size > most => Err(invalid(key, size, format!("absurdly large (at most {most})"))),
        _ => Ok(()),
    }
}

fn validate_scaling(scaling: &RopeScaling) -> Result<()> {
    let (factor, rest) = match scaling {
        RopeScaling::Linear { factor } => (*factor, None),
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position } => {
            if !(*low_freq_factor > 0.0 && low_freq_factor < high_freq_factor) {
                let reason = format!("must be positive and below `high_freq_factor` = {high_freq_factor}");
                return Err(invalid("rope_scaling.low_freq_factor", low_freq_factor, reason));
            }
            (*factor, Some(*original_max_position))
        }
        RopeScaling::Yarn { factor, beta_fast, beta_slow, original_max_position, .. } => {
            if !(*beta_slow > 0.0 && beta_slow < beta_fast) {
                let reason = format!("must be positive and below `beta_fast` = {beta_fast}");
                return Err(invalid("rope_scaling.beta_slow", beta_slow, reason));
            }
            (*factor, Some(*original_max_position))
        }
    };
    if !(factor.is_finite() && factor >= 1.0) {
        return Err(invalid("rope_scaling.factor", factor, "must be at least 1"));
    }
    if rest == Some(0) {
        return Err(invalid("rope_scaling.original_max_position_embeddings", 0, "must not be zero"));
    }
    Ok(())
}

/// Designs whose cost a decoder of plain attention and MLP blocks does not describe.
fn refuse_other_designs(keys: &Keys<'_>) -> Result<()> {
    if keys.flag("is_encoder_decoder", false)? {
        return Err(unsupported(&keys.name("is_encoder_decoder"), true, "only decoder-only models can be counted"));
    }
    for (key, reason) in [
        ("kv_lora_rank", "multi-head latent attention is not modelled"),
        ("mamba_d_state", "state-space layers are not modelled"),
        ("ssm_cfg", "state-space layers are not modelled"),
        ("linear_num_key_heads", "linear attention is not modelled"),
    ] {
        if let Some(value) = keys.map.get(key).filter(|value| !value.is_null()) {
            return Err(unsupported(&keys.name(key), value, reason));
        }
    }
    Ok(())
}

/// Settings of the exactly counted types that would change their blocks.
fn refuse_unknown_blocks(keys: &Keys<'_>) -> Result<()> {
    if keys.flag("mlp_bias", false)? {
        return Err(unsupported(&keys.name("mlp_bias"), true, "MLP biases are not implemented"));
    }
    if let Some(act) = keys.text("hidden_act")?.filter(|act| !matches!(*act, "silu" | "swish")) {
        return Err(unsupported(&keys.name("hidden_act"), act, "these models gate with SiLU"));
    }
    if let Some(factor) = keys.number(&["partial_rotary_factor"])?.filter(|factor| *factor != 1.0) {
        return Err(unsupported(&keys.name("partial_rotary_factor"), factor, "the whole head is rotated"));
    }
    Ok(())
}

fn kv_heads(keys: &Keys<'_>, defaults: &Defaults, num_heads: usize) -> Result<usize> {
    let aliases = ["num_key_value_heads", "num_kv_heads", "n_head_kv"];
    if let Some(heads) = keys.size(&aliases)? {
        return Ok(heads);
    }
    // Falcon-7B and GPT-BigCode: one key/value head for all.
    if keys.flag("multi_query", false)? && !keys.flag("new_decoder_architecture", false)? {
        return Ok(1);
    }
    // An explicit null means "as many as query heads" in every class; absence means the class's default.
    let silent = keys.get(&aliases).is_none();
    Ok(defaults.kv_heads.filter(|_| silent).unwrap_or(num_heads))
}

fn rope(keys: &Keys<'_>, defaults: &Defaults, max_position: usize, exact: bool) -> Result<Rope> {
    let (scaling, prefix) = match keys.object("rope_parameters")? {
        // transformers 5 keeps theta and scaling together.
        Some(parameters) => (Some(parameters), keys.name("rope_parameters.")),
        None => (keys.object("rope_scaling")?, keys.name("rope_scaling.")),
    };
    let top = keys.number(&["rope_theta", "rotary_emb_base"])?;
    let Some(map) = scaling else { return Ok(Rope { theta: top.unwrap_or(defaults.rope_theta), scaling: None }) };
    let inner = Keys { map, prefix: &prefix };
    let theta = inner.number(&["rope_theta"])?.or(top).unwrap_or(defaults.rope_theta);
    if map.values().all(Value::is_object) && !map.is_empty() {
        return if exact {
            Err(unsupported(prefix.trim_end_matches('.'), "one entry per layer type", "all layers share one rotation"))
        } else {
            Ok(Rope { theta, scaling: None })
        };
    }
    if let Some(factor) = inner.number(&["partial_rotary_factor"])?.filter(|factor| exact && *factor != 1.0) {
        return Err(unsupported(&inner.name("partial_rotary_factor"), factor, "the whole head is rotated"));
    }
    let kind = match inner.text("rope_type")? {
        Some(kind) => Some(kind),
        None => inner.text("type")?,
    };
    let required =
        |key: &'static str| inner.number(&[key])?.ok_or_else(|| ArchitectureError::Missing { key: inner.name(key) });
    let original = || -> Result<Option<usize>> {
        let key = ["original_max_position_embeddings"];
        Ok(inner.size(&key)?.or(keys.size(&key)?))
    };
    let scaling = match kind {
        None | Some("default") => None,
        Some("linear") => Some(RopeScaling::Linear { factor: required("factor")? }),
        Some("llama3") => Some(RopeScaling::Llama3 {
            factor: required("factor")?,
            low_freq_factor: required("low_freq_factor")?,
            high_freq_factor: required("high_freq_factor")?,
            original_max_position: original()?
                .ok_or_else(|| ArchitectureError::Missing { key: inner.name("original_max_position_embeddings") })?,
        }),
        Some("yarn") => Some(yarn(&inner, required("factor")?, original()?.unwrap_or(max_position), exact)?),
        Some(_) if !exact => None,
        Some(other) => {
            let key = if inner.has("rope_type") { "rope_type" } else { "type" };
            let reason = "known are default, linear, llama3 and yarn";
            return Err(unsupported(&inner.name(key), other, reason));
        }
    };
    Ok(Rope { theta, scaling })
}

fn yarn(keys: &Keys<'_>, factor: f64, original_max_position: usize, exact: bool) -> Result<RopeScaling> {
    if exact && !keys.flag("truncate", true)? {
        return Err(unsupported(&keys.name("truncate"), false, "the ramp ends on whole dimensions"));
    }
    // `modeling_rope_utils.py`: DeepSeek's mscale pair stands for an attention factor.
    let temperature = |mscale: f64| if factor <= 1.0 { 1.0 } else { 0.1 * mscale * factor.ln() + 1.0 };
    let scales =
        keys.number(&["mscale"])?.zip(keys.number(&["mscale_all_dim"])?).filter(|(a, b)| *a != 0.0 && *b != 0.0);
    let attention_factor = match keys.number(&["attention_factor"])? {
        Some(given) => Some(given),
        None => scales.map(|(mscale, all_dim)| temperature(mscale) / temperature(all_dim)),
    };
    Ok(RopeScaling::Yarn {
        factor,
        beta_fast: keys.number(&["beta_fast"])?.unwrap_or(32.0),
        beta_slow: keys.number(&["beta_slow"])?.unwrap_or(1.0),
        original_max_position,
        attention_factor,
    })
}

fn sliding_window(keys: &Keys<'_>, model_type: &str, num_layers: usize, exact: bool) -> Result<Option<usize>> {
    let window = keys.size(&["sliding_window"])?;
    let layered = |window: Option<usize>| -> Result<Option<usize>> {
        let Some(types) = keys.list("layer_types")? else { return Ok(window) };
        let sliding = types.iter().filter(|kind| kind.as_str() == Some("sliding_attention")).count();
        match sliding {
            0 => Ok(None),
            all if all == types.len() => Ok(window),
            _ if !exact => Ok(None),
            some => {
                let value = format!("{some} of {} layers with a sliding window", types.len());
                Err(unsupported(&keys.name("layer_types"), value, "all layers share one window"))
            }
        }
    };
    match model_type {
        "mistral" if !keys.has("sliding_window") => layered(Some(4096)),
        "qwen2" | "qwen3" | "qwen2_moe" | "qwen3_moe" => {
            if !keys.flag("use_sliding_window", false)? {
                return Ok(None);
            }
            let window = if keys.has("sliding_window") { window } else { Some(4096) };
            if keys.has("layer_types") {
                return layered(window);
            }
            // The first `max_window_layers` layers attend in full.
            match keys.size(&["max_window_layers"])?.unwrap_or(28) {
                0 => Ok(window),
                full if full >= num_layers => Ok(None),
                _ if window.is_none() => Ok(None),
                full => Err(unsupported(
                    &keys.name("max_window_layers"),
                    full,
                    format!("all {num_layers} layers share one window"),
                )),
            }
        }
        // Llama has no window whatever the file says.
        "llama" => Ok(None),
        _ => layered(window),
    }
}

fn moe(keys: &Keys<'_>, model_type: &str, intermediate_size: usize) -> Result<Option<Moe>> {
    let experts = keys.size(&["num_local_experts", "num_experts", "n_routed_experts"])?;
    let default = match model_type {
        "mixtral" => Some((8, 2, intermediate_size, 0)),
        "qwen2_moe" => Some((60, 4, 1408, 5632)),
        "qwen3_moe" => Some((128, 8, 768, 0)),
        _ => None,
    };
    if matches!(model_type, "llama" | "mistral" | "qwen2" | "qwen3") || (experts.is_none() && default.is_none()) {
        return Ok(None);
    }
    if default.is_none() && matches!(experts, Some(0 | 1)) {
        return Ok(None);
    }
    for (key, plain) in [("decoder_sparse_step", 1), ("first_k_dense_replace", 0), ("moe_layer_freq", 1)] {
        if let Some(value) = keys.size(&[key])?.filter(|value| *value != plain) {
            return Err(unsupported(&keys.name(key), value, "every layer must be a mixture of experts"));
        }
    }
    if let Some(dense) = keys.list("mlp_only_layers")?.filter(|dense| !dense.is_empty()) {
        let value = format!("{} layers", dense.len());
        return Err(unsupported(&keys.name("mlp_only_layers"), value, "every layer must be a mixture of experts"));
    }
    let (num_experts, per_token, width, shared) = default.unwrap_or((0, 0, intermediate_size, 0));
    let expert_intermediate_size = match model_type {
        "mixtral" => intermediate_size,
        _ => keys.size(&["moe_intermediate_size", "expert_intermediate_size"])?.unwrap_or(width),
    };
    let experts_per_token = match keys.size(&["num_experts_per_tok", "num_experts_per_token", "top_k"])? {
        Some(count) => count,
        None if default.is_some() => per_token,
        None => return Err(ArchitectureError::Missing { key: keys.name("num_experts_per_tok") }),
    };
    let shared_intermediate_size = match keys.size(&["shared_expert_intermediate_size"])? {
        Some(size) => size,
        None => match keys.size(&["n_shared_experts"])? {
            Some(count) => count.saturating_mul(expert_intermediate_size),
            None => shared,
        },
    };
    Ok(Some(Moe {
        num_experts: experts.unwrap_or(num_experts),
        experts_per_token,
        expert_intermediate_size,
        shared_intermediate_size,
    }))
}

#[cfg(test)]
#[path = "from_hf_tests.rs"]
mod tests;
