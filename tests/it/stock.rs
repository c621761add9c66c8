//! Families that run through candle's own modules, on small checkpoints written here.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests are tests, too")]

use std::path::Path;

use candle_core::quantized::gguf_file::{self, Value as GgufValue};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Result, Tensor};
use candle_nn::{VarBuilder, VarMap};
use candle_transformers::models as candle_models;
use perfprof::engine::loader::{LoadError, describe};
use perfprof::engine::models::{CausalLm, stock};
use perfprof::estimate::format::Format;
use perfprof::estimate::operator::Operator;
use perfprof::instrument::observer::{Module, NoObserver, Observer, Span};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;

const PROMPT: [u32; 5] = [3, 17, 5, 60, 1];

/// Fills every variable that building a module has created with fixed values, and writes them as a checkpoint.
fn write_checkpoint(directory: &Path, weights: &VarMap, config: &Value) {
    {
        let data = weights.data().lock().unwrap();
        for (name, variable) in data.iter() {
            let salt: usize = name.bytes().map(usize::from).sum();
            let values: Vec<f32> = (0..variable.elem_count())
                .map(|i| (((i * 7919 + salt * 104_729) % 1009) as f32 / 1009.0 - 0.5) * 0.2)
                .map(|value| if name.contains("norm") { 1.0 + value } else { value })
                .collect();
            variable.set(&Tensor::from_vec(values, variable.dims(), &Device::Cpu).unwrap()).unwrap();
        }
    }
    weights.save(directory.join("model.safetensors")).unwrap();
    std::fs::write(directory.join("config.json"), config.to_string()).unwrap();
}

fn typed<T: DeserializeOwned>(config: &Value) -> T {
    serde_json::from_value(config.clone()).unwrap()
}

fn build(directory: &Path, dtype: Option<Format>) -> std::result::Result<Box<dyn CausalLm>, LoadError> {
    let description = describe(directory)?;
    stock::build(directory, &description, &Device::Cpu, dtype, &mut |_, _| {})
}

fn forward(model: &mut dyn CausalLm, ids: &[u32], position: usize) -> Vec<f32> {
    let tokens = Tensor::new(ids, &Device::Cpu).unwrap().unsqueeze(0).unwrap();
    let logits = model.forward(&tokens, position, &mut NoObserver).unwrap();
    assert_eq!(logits.dtype(), DType::F32);
    logits.squeeze(0).unwrap().to_vec1().unwrap()
}

fn assert_close(found: &[f32], expected: &[f32], what: &str) {
    let scale = expected.iter().fold(0.0_f32, |scale, value| scale.max(value.abs()));
    let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert_eq!(found.len(), expected.len(), "{what}");
    assert!(scale > 0.0 && worst <= 1e-4 * scale, "{what}: off by {worst} of {scale}");
}

/// A module called directly: token ids to logits.
type Forward = Box<dyn FnMut(&Tensor) -> Result<Tensor>>;

/// Builds `full` (candle's own type needs every key) into a checkpoint whose `config.json` leaves out what `omitted` names, then compares the
/// engine's logits with those of the module called directly, whole prompt and token by token, before and after a reset.
fn check_family(full: &Value, omitted: &[&str], make: &dyn Fn(&Value, VarBuilder<'_>) -> Result<Forward>) {
    let family = full["model_type"].as_str().unwrap().to_owned();
    let directory = TempDir::new().unwrap();
    let weights = VarMap::new();
    let builder = || VarBuilder::from_varmap(&weights, DType::F32, &Device::Cpu);
    drop(make(full, builder()).unwrap());
    let mut written = full.clone();
    for key in omitted {
        written.as_object_mut().unwrap().remove(*key).unwrap();
    }
    write_checkpoint(directory.path(), &weights, &written);
    let mut direct = make(full, builder()).unwrap();
    let tokens = Tensor::new(&PROMPT, &Device::Cpu).unwrap().unsqueeze(0).unwrap();
    let expected: Vec<f32> = direct(&tokens).unwrap().flatten_all().unwrap().to_vec1().unwrap();

    let mut model = build(directory.path(), None).unwrap_or_else(|error| panic!("{family}: {error} {error:?}"));
    assert!(!model.is_instrumented());
    assert_eq!(model.compute_format(), Format::F32);
    assert_close(&forward(model.as_mut(), &PROMPT, 0), &expected, &family);
    model.reset().unwrap();
    assert_eq!(model.kv_cache_bytes().1, 0);
    for (position, id) in PROMPT.iter().enumerate() {
        let logits = forward(model.as_mut(), &[*id], position);
        if position + 1 == PROMPT.len() {
            assert_close(&logits, &expected, &format!("{family} token by token"));
        }
    }
    let shape = model.architecture();
    let per_token = 2 * shape.num_layers * shape.num_kv_heads * shape.head_dim * 4;
    assert_eq!(model.kv_cache_bytes().1, (PROMPT.len() * per_token) as u64, "{family}");
    model.reset().unwrap();
    assert_close(&forward(model.as_mut(), &PROMPT, 0), &expected, &format!("{family} after a reset"));
}

macro_rules! family_test {
    ($name:ident, $config:expr, omit $omitted:expr, |$settings:ident, $weights:ident| $model:expr) => {
        #[test]
        fn $name() {
            check_family(&$config, &$omitted, &|$settings, $weights| {
                let mut model = $model;
                Ok(Box::new(move |tokens: &Tensor| model.forward(tokens, 0)))
            });
        }
    };
}

fn base(family: &str) -> Value {
    json!({
        "model_type": family, "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64, "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0, "hidden_act": "silu", "attention_bias": false, "tie_word_embeddings": false
    })
}

fn with(mut config: Value, more: &Value) -> Value {
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config
}

fn gemma(family: &str) -> Value {
    let more = json!({
        "head_dim": 8, "hidden_activation": "gelu_pytorch_tanh", "query_pre_attn_scalar": 256, "sliding_window": 4096,
        "sliding_window_pattern": 6, "rope_local_base_freq": 10000.0, "tie_word_embeddings": true
    });
    let mut config = with(base(family), &more);
    // Gemma refuses two activations at once.
    config.as_object_mut().unwrap().remove("hidden_act");
    config
}

family_test!(gemma_1, gemma("gemma"), omit["attention_bias", "tie_word_embeddings", "hidden_activation"], |config, weights| {
    candle_models::gemma::Model::new(false, &typed(config), weights)?
});
family_test!(gemma_2, gemma("gemma2"), omit["query_pre_attn_scalar", "rope_theta"], |config, weights| {
    candle_models::gemma2::Model::new(false, &typed(config), weights)?
});
family_test!(
    gemma_3,
    with(gemma("gemma3_text"), &json!({ "rope_theta": 1e6 })),
    omit["sliding_window_pattern", "rope_local_base_freq", "rope_theta"],
    |config, weights| candle_models::gemma3::Model::new(false, &typed(config), weights)?
);
family_test!(phi_3, base("phi3"), omit["attention_bias", "tie_word_embeddings"], |config, weights| {
    candle_models::phi3::Model::new(&typed(config), weights)?
});
family_test!(olmo_2, base("olmo2"), omit["attention_bias"], |config, weights| {
    candle_models::olmo2::Model::new(&typed(config), weights)?
});
family_test!(
    starcoder_2,
    with(
        base("starcoder2"),
        &json!({ "norm_epsilon": 1e-5, "use_bias": true, "hidden_act": "gelu_pytorch_tanh", "tie_word_embeddings": true })
    ),
    omit["use_bias", "hidden_act"],
    |config, weights| candle_models::starcoder2::Model::new(&typed(config), weights)?
);
family_test!(
    mixtral,
    with(
        base("mixtral"),
        &json!({ "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 64, "use_flash_attn": false })
    ),
    omit["sliding_window", "use_flash_attn"],
    |config, weights| candle_models::mixtral::Model::new(&typed(config), weights)?
);
family_test!(smollm_3, base("smollm3"), omit["tie_word_embeddings", "attention_bias"], |config, weights| {
    candle_models::smol::smollm3::ModelForCausalLM::new(&typed(config), weights)?
});

family_test!(
    qwen_3_moe,
    with(
        base("qwen3_moe"),
        &json!({
            "head_dim": 8, "max_window_layers": 2, "use_sliding_window": false, "decoder_sparse_step": 1, "num_experts": 4,
            "moe_intermediate_size": 24, "num_experts_per_tok": 2, "norm_topk_prob": true
        })
    ),
    omit["max_window_layers", "use_sliding_window", "attention_bias"],
    |config, weights| candle_models::qwen3_moe::ModelForCausalLM::new(&typed(config), weights)?
);

#[test]
fn falcon_counts_its_own_positions() {
    let config = json!({
        "model_type": "falcon", "vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "layer_norm_epsilon": 1e-5, "initializer_range": 0.02, "use_cache": true, "bos_token_id": 1, "eos_token_id": 2,
        "hidden_dropout": 0.0, "attention_dropout": 0.0, "alibi": false, "new_decoder_architecture": false,
        "multi_query": true, "parallel_attn": true, "bias": false, "tie_word_embeddings": false
    });
    check_family(&config, &["hidden_dropout", "parallel_attn", "bias"], &|config, weights| {
        let mut model = candle_models::falcon::Falcon::load(weights, typed(config))?;
        Ok(Box::new(move |tokens: &Tensor| model.forward(tokens)))
    });
}

fn phi3_directory(change: impl Fn(&mut Value)) -> TempDir {
    let directory = TempDir::new().unwrap();
    let weights = VarMap::new();
    let config = base("phi3");
    candle_models::phi3::Model::new(&typed(&config), VarBuilder::from_varmap(&weights, DType::F32, &Device::Cpu))
        .unwrap();
    let mut written = config;
    change(&mut written);
    write_checkpoint(directory.path(), &weights, &written);
    directory
}

#[test]
fn phi_3_runs_from_gguf() {
    const LAYERS: usize = 2;
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("phi3.gguf");
    let (hidden, width, kv) = (32, 64, 16);
    let mut shapes = vec![
        ("token_embd.weight".to_owned(), vec![64, hidden]),
        ("output_norm.weight".to_owned(), vec![hidden]),
        ("output.weight".to_owned(), vec![64, hidden]),
    ];
    for layer in 0..LAYERS {
        for (name, dims) in [
            ("attn_norm", vec![hidden]),
            ("attn_qkv", vec![hidden + 2 * kv, hidden]),
            ("attn_output", vec![hidden, hidden]),
            ("ffn_norm", vec![hidden]),
            ("ffn_up", vec![2 * width, hidden]),
            ("ffn_down", vec![hidden, width]),
        ] {
            shapes.push((format!("blk.{layer}.{name}.weight"), dims));
        }
    }
    let tensors: Vec<(String, QTensor)> = shapes
        .into_iter()
        .map(|(name, dims)| {
            let count: usize = dims.iter().product();
            let salt = name.len();
            let values: Vec<f32> = (0..count).map(|i| ((i * 7919 + salt * 31) % 1009) as f32 / 1009.0 - 0.5).collect();
            let kind = if dims.len() == 1 { GgmlDType::F32 } else { GgmlDType::Q8_0 };
            let tensor = Tensor::from_vec(values, dims, &Device::Cpu).unwrap();
            (name, QTensor::quantize(&tensor, kind).unwrap())
        })
        .collect();
    let metadata = [
        ("general.architecture", GgufValue::String("phi3".to_owned())),
        ("phi3.attention.head_count", GgufValue::U32(4)),
        ("phi3.attention.head_count_kv", GgufValue::U32(2)),
        ("phi3.block_count", GgufValue::U32(LAYERS as u32)),
        ("phi3.embedding_length", GgufValue::U32(hidden as u32)),
        ("phi3.context_length", GgufValue::U32(64)),
        ("phi3.feed_forward_length", GgufValue::U32(width as u32)),
        ("phi3.rope.dimension_count", GgufValue::U32(8)),
        ("phi3.attention.layer_norm_rms_epsilon", GgufValue::F32(1e-5)),
    ];
    let metadata: Vec<(&str, &GgufValue)> = metadata.iter().map(|(key, value)| (*key, value)).collect();
    let named: Vec<(&str, &QTensor)> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    gguf_file::write(&mut std::fs::File::create(&path).unwrap(), &metadata, &named).unwrap();

    let mut reader = std::fs::File::open(&path).unwrap();
    let content = gguf_file::Content::read(&mut reader).unwrap();
    let mut direct =
        candle_models::quantized_phi3::ModelWeights::from_gguf(false, content, &mut reader, &Device::Cpu).unwrap();
    let tokens = Tensor::new(&PROMPT, &Device::Cpu).unwrap().unsqueeze(0).unwrap();
    let expected: Vec<f32> = direct.forward(&tokens, 0).unwrap().flatten_all().unwrap().to_vec1().unwrap();

    let mut model = build(&path, None).unwrap();
    assert!(model.architecture().gated_mlp);
    assert_close(&forward(model.as_mut(), &PROMPT, 0), &expected, "phi3 from GGUF");
    model.reset().unwrap();
    assert_close(&forward(model.as_mut(), &PROMPT, 0), &expected, "phi3 from GGUF after a reset");
    assert!(matches!(build(&path, Some(Format::F32)).err().unwrap(), LoadError::Target { .. }));
}

/// Remembers what it was told.
#[derive(Default)]
struct Recorder(Vec<Option<Span>>);

impl Observer for Recorder {
    fn wants_operators(&self) -> bool {
        true
    }
    fn begin(&mut self, span: Span) {
        self.0.push(Some(span));
    }
    fn end(&mut self) {
        self.0.push(None);
    }
}

#[test]
fn a_forward_pass_is_one_opaque_operator() {
    let directory = phi3_directory(|_| {});
    let mut model = build(directory.path(), None).unwrap();
    let tokens = Tensor::new(&[[1_u32, 2, 3], [4, 5, 6]], &Device::Cpu).unwrap();
    let mut recorder = Recorder::default();
    let logits = model.forward(&tokens, 0, &mut recorder).unwrap();
    assert_eq!(logits.dims(), [2, 64]);
    let operator = Span::Operator(Module::Model, Operator::Opaque { rows: 6 });
    assert_eq!(recorder.0, [Some(Span::Module(Module::Model)), Some(operator), None, None]);
}

#[test]
fn the_format_may_be_dense_only() {
    let directory = phi3_directory(|_| {});
    let mut model = build(directory.path(), Some(Format::BF16)).unwrap();
    assert_eq!((model.compute_format(), model.kv_format()), (Format::BF16, Format::BF16));
    assert!(forward(model.as_mut(), &PROMPT, 0).iter().all(|value| value.is_finite()));
    let error = build(directory.path(), Some(Format::Q8_0)).err().unwrap();
    assert!(matches!(error, LoadError::Target { format: Format::Q8_0, .. }), "{error}");
}

#[test]
fn what_candle_would_misread_is_refused() {
    let say = |change: fn(&mut Value)| build(phi3_directory(change).path(), None).err().unwrap().to_string();
    let unknown = say(|config| config["model_type"] = "quux".into());
    assert!(unknown.contains("`quux`") && unknown.contains("gemma2") && unknown.contains("phi3"), "{unknown}");
    let scaled = say(|config| {
        config["rope_parameters"] =
            json!({ "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16 });
    });
    assert!(scaled.contains("yarn"), "{scaled}");
    let wrong_shape = say(|config| config["intermediate_size"] = 40.into());
    assert!(wrong_shape.contains("does not fit"), "{wrong_shape}");
    let wrong_type = say(|config| config["hidden_act"] = "swoosh".into());
    assert!(wrong_type.contains("hidden_act") && wrong_type.contains("swoosh"), "{wrong_type}");
}
