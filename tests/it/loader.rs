//! Reading models: complete small ones made here, damaged ones, and the real one where it is installed.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests are tests, too")]

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use candle_core::quantized::gguf_file::{self, Value as GgufValue};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};
use perfprof::engine::loader::{self, LoadError, LoadRequest, LoadedModel, Source, tokenizer_source};
use perfprof::engine::tokenizer::TokenizerSource;
use perfprof::engine::weights::Weight;
use perfprof::estimate::architecture::{Architecture, Family, Rope, RopeScaling};
use perfprof::estimate::format::Format;
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::tokenizer::smollm2;

const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const HEAD_DIM: usize = 32;
const HIDDEN: usize = 64;
const WIDTH: usize = 96;
const VOCAB: usize = 258;
const LAYERS: usize = 2;

fn config() -> Value {
    json!({
        "model_type": "llama", "hidden_size": HIDDEN, "intermediate_size": WIDTH, "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "head_dim": HEAD_DIM, "vocab_size": VOCAB,
        "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": false,
        "hidden_act": "silu", "torch_dtype": "float32"
    })
}

/// Distinct values, so that a row or a tensor in the wrong place shows; all of them whole eighths, exact in every float format.
fn values(name: &str, dims: &[usize]) -> Tensor {
    let salt: usize = name.bytes().map(usize::from).sum();
    let count: usize = dims.iter().product();
    let values: Vec<f32> = (0..count).map(|i| (((i * 31 + salt * 17) % 255) as f32 - 127.0) / 8.0).collect();
    Tensor::from_vec(values, dims, &Device::Cpu).unwrap()
}

fn shapes() -> Vec<(String, Vec<usize>)> {
    let mut shapes = vec![
        ("model.embed_tokens.weight".to_owned(), vec![VOCAB, HIDDEN]),
        ("model.norm.weight".to_owned(), vec![HIDDEN]),
        ("lm_head.weight".to_owned(), vec![VOCAB, HIDDEN]),
    ];
    for layer in 0..LAYERS {
        for (name, dims) in [
            ("input_layernorm", vec![HIDDEN]),
            ("self_attn.q_proj", vec![HEADS * HEAD_DIM, HIDDEN]),
            ("self_attn.k_proj", vec![KV_HEADS * HEAD_DIM, HIDDEN]),
            ("self_attn.v_proj", vec![KV_HEADS * HEAD_DIM, HIDDEN]),
            ("self_attn.o_proj", vec![HIDDEN, HEADS * HEAD_DIM]),
            ("post_attention_layernorm", vec![HIDDEN]),
            ("mlp.gate_proj", vec![WIDTH, HIDDEN]),
            ("mlp.up_proj", vec![WIDTH, HIDDEN]),
            ("mlp.down_proj", vec![HIDDEN, WIDTH]),
        ] {
            shapes.push((format!("model.layers.{layer}.{name}.weight"), dims));
        }
    }
    shapes
}

fn tensors() -> HashMap<String, Tensor> {
    shapes().into_iter().map(|(name, dims)| (name.clone(), values(&name, &dims))).collect()
}

fn write_model(directory: &Path, config: &Value, tensors: &HashMap<String, Tensor>) {
    std::fs::write(directory.join("config.json"), config.to_string()).unwrap();
    candle_core::safetensors::save(tensors, directory.join("model.safetensors")).unwrap();
}

fn model_directory() -> TempDir {
    let directory = TempDir::new().unwrap();
    write_model(directory.path(), &config(), &tensors());
    directory
}

fn load(path: &Path, dtype: Option<Format>) -> Result<LoadedModel, LoadError> {
    let request = LoadRequest { source: Source::Path(path.to_owned()), dtype };
    loader::load(&request, &Device::Cpu, &mut |_, _| {})
}

fn floats(weight: &Weight) -> Vec<f32> {
    match weight {
        Weight::Dense(tensor) => tensor.to_dtype(DType::F32).unwrap(),
        Weight::Quantized(tensor) => tensor.dequantize(&Device::Cpu).unwrap(),
    }
    .flatten_all()
    .unwrap()
    .to_vec1()
    .unwrap()
}

/// Every weight as f32, for comparison.
fn contents(model: &LoadedModel) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    model.weights.0.iter().map(|(name, weight)| (name.clone(), (weight.dims().to_vec(), floats(weight)))).collect()
}

fn written() -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    tensors()
        .into_iter()
        .map(|(name, tensor)| (name, (tensor.dims().to_vec(), tensor.flatten_all().unwrap().to_vec1().unwrap())))
        .collect()
}

/// What llama.cpp's converter does to q and k of a Llama: `reshape(heads, 2, half, columns).swapaxes(1, 2)`.
fn interleaved(tensor: &Tensor, heads: usize) -> Tensor {
    let (rows, columns) = tensor.dims2().unwrap();
    tensor
        .reshape((heads, 2, rows / heads / 2, columns))
        .unwrap()
        .transpose(1, 2)
        .unwrap()
        .contiguous()
        .unwrap()
        .reshape((rows, columns))
        .unwrap()
}

/// The same model as GGUF, written by candle; matrices as `matrices`.
fn write_gguf(path: &Path, architecture: &str, matrices: GgmlDType, changed: &[(&str, GgufValue)]) {
    let mut named = Vec::new();
    for (name, tensor) in tensors() {
        let mut tensor = tensor;
        if architecture == "llama" {
            if name.contains("q_proj") {
                tensor = interleaved(&tensor, HEADS);
            } else if name.contains("k_proj") {
                tensor = interleaved(&tensor, KV_HEADS);
            }
        }
        let gguf_name = name
            .replace("model.layers.", "blk.")
            .replace("input_layernorm", "attn_norm")
            .replace("post_attention_layernorm", "ffn_norm")
            .replace("self_attn.o_proj", "attn_output")
            .replace("self_attn.", "attn_")
            .replace("mlp.", "ffn_")
            .replace("_proj", "")
            .replace("model.embed_tokens", "token_embd")
            .replace("model.norm", "output_norm")
            .replace("lm_head", "output");
        let dtype = if tensor.rank() == 1 { GgmlDType::F32 } else { matrices };
        named.push((gguf_name, QTensor::quantize(&tensor, dtype).unwrap()));
    }
    let key = |name: &str| format!("{architecture}.{name}");
    let mut metadata: BTreeMap<String, GgufValue> = [
        ("general.architecture".to_owned(), GgufValue::String(architecture.to_owned())),
        (key("block_count"), GgufValue::U32(LAYERS as u32)),
        (key("context_length"), GgufValue::U32(128)),
        (key("embedding_length"), GgufValue::U32(HIDDEN as u32)),
        (key("feed_forward_length"), GgufValue::U32(WIDTH as u32)),
        (key("attention.head_count"), GgufValue::U32(HEADS as u32)),
        (key("attention.head_count_kv"), GgufValue::U32(KV_HEADS as u32)),
        (key("attention.key_length"), GgufValue::U32(HEAD_DIM as u32)),
        (key("attention.layer_norm_rms_epsilon"), GgufValue::F32(1e-5)),
        (key("rope.freq_base"), GgufValue::F32(10000.0)),
    ]
    .into();
    for (name, value) in changed {
        metadata.insert((*name).to_owned(), value.clone());
    }
    let metadata: Vec<(&str, &GgufValue)> = metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
    let named: Vec<(&str, &QTensor)> = named.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let mut file = std::fs::File::create(path).unwrap();
    gguf_file::write(&mut file, &metadata, &named).unwrap();
}

#[test]
fn a_safetensors_directory_and_its_file_are_read_value_for_value() {
    let directory = model_directory();
    for path in [directory.path().to_owned(), directory.path().join("model.safetensors")] {
        let model = load(&path, None).unwrap();
        assert_eq!(model.source, "safetensors");
        assert_eq!(contents(&model), written());
        assert_eq!(model.architecture.num_kv_heads, KV_HEADS);
        assert!(model.notes.is_empty(), "{:?}", model.notes);
        assert_eq!(model.tokenizer_source, TokenizerSource::Missing(directory.path().to_owned()));
    }
}

#[test]
fn shards_give_the_same_weights_as_one_file() {
    let directory = TempDir::new().unwrap();
    let mut shards = [HashMap::new(), HashMap::new()];
    let mut map = serde_json::Map::new();
    for (index, (name, tensor)) in tensors().into_iter().enumerate() {
        map.insert(name.clone(), format!("model-0000{}-of-00002.safetensors", index % 2 + 1).into());
        shards[index % 2].insert(name, tensor);
    }
    for (index, shard) in shards.iter().enumerate() {
        let path = directory.path().join(format!("model-0000{}-of-00002.safetensors", index + 1));
        candle_core::safetensors::save(shard, path).unwrap();
    }
    let index = directory.path().join("model.safetensors.index.json");
    std::fs::write(&index, json!({ "weight_map": map.clone() }).to_string()).unwrap();
    std::fs::write(directory.path().join("config.json"), config().to_string()).unwrap();
    assert_eq!(contents(&load(directory.path(), None).unwrap()), written());

    // The index names a tensor that its shard lacks.
    let mut wrong = map.clone();
    wrong.insert("model.extra.weight".to_owned(), "model-00001-of-00002.safetensors".into());
    std::fs::write(&index, json!({ "weight_map": wrong }).to_string()).unwrap();
    let error = load(directory.path(), None).unwrap_err();
    assert!(matches!(&error, LoadError::NotInShard { tensor, .. } if tensor == "model.extra.weight"), "{error}");

    // A shard is absent.
    std::fs::write(&index, json!({ "weight_map": map }).to_string()).unwrap();
    std::fs::remove_file(directory.path().join("model-00002-of-00002.safetensors")).unwrap();
    let error = load(directory.path(), None).unwrap_err();
    assert!(matches!(error, LoadError::MissingShard { .. }));
    assert!(error.to_string().contains("model-00002-of-00002.safetensors"), "{error}");

    // An index must not reach outside its directory.
    let outside = json!({ "weight_map": { "a": "../secret.safetensors" } });
    std::fs::write(&index, outside.to_string()).unwrap();
    assert!(load(directory.path(), None).unwrap_err().to_string().contains("a file name is needed"));
}

#[test]
fn gguf_gives_the_same_weights_as_safetensors() {
    let directory = TempDir::new().unwrap();
    // The llama architecture is stored with interleaved rows, qwen2 is not; f32, f16 and bf16 hold these values exactly.
    for (architecture, matrices) in
        [("llama", GgmlDType::F32), ("llama", GgmlDType::F16), ("llama", GgmlDType::BF16), ("qwen2", GgmlDType::F32)]
    {
        let path = directory.path().join(format!("{architecture}-{matrices:?}.gguf"));
        write_gguf(&path, architecture, matrices, &[]);
        let model = load(&path, None).unwrap();
        assert_eq!(model.source, "gguf");
        assert_eq!(contents(&model), written(), "{architecture} {matrices:?}");
        assert_eq!(model.architecture.head_dim, HEAD_DIM);
        assert!(!model.architecture.tie_word_embeddings);
    }
}

#[test]
fn quantized_rows_are_put_in_order_without_being_opened() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("q8.gguf");
    write_gguf(&path, "llama", GgmlDType::Q8_0, &[]);
    let model = load(&path, None).unwrap();
    let name = "model.layers.0.self_attn.q_proj.weight";
    assert_eq!(model.weights.0[name].format(), Format::Q8_0);
    // Quantizing before or after moving whole rows gives the same blocks.
    let direct = QTensor::quantize(&tensors()[name], GgmlDType::Q8_0).unwrap();
    let Weight::Quantized(loaded) = &model.weights.0[name] else { panic!("dense") };
    assert_eq!(loaded.data().unwrap(), direct.data().unwrap());
}

#[test]
fn matrices_take_the_format_asked_for_and_vectors_stay_f32() {
    let directory = model_directory();
    for format in [Format::F16, Format::BF16, Format::Q8_0, Format::Q4_1] {
        let model = load(directory.path(), Some(format)).unwrap();
        for (name, weight) in &model.weights.0 {
            let expected = if weight.dims().len() == 1 { Format::F32 } else { format };
            assert_eq!(weight.format(), expected, "{name}");
        }
        // Half a quantization step: values reach ±16, so a block's step is at most 32/15 for four bits, 32/254 for eight.
        let tolerance = match format {
            Format::Q8_0 => 0.07,
            Format::Q4_1 => 1.1,
            _ => 0.0,
        };
        for (name, (_, found)) in contents(&model) {
            let (_, expected) = &written()[&name];
            let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst <= tolerance, "{name} as {format}: off by {worst}");
        }
    }
}

#[test]
fn rows_that_fill_no_blocks_fall_back_with_a_note() {
    let directory = model_directory();
    let model = load(directory.path(), Some(Format::Q4K)).unwrap();
    assert_eq!(model.weights.0["model.layers.0.mlp.up_proj.weight"].format(), Format::Q5_0);
    assert!(
        model.notes.iter().any(|note| note.contains("q5_0 instead of q4_k") && note.contains("64 values")),
        "{:?}",
        model.notes
    );
    let error = load(directory.path(), Some(Format::Q8K)).unwrap_err();
    assert!(matches!(error, LoadError::Target { format: Format::Q8K, .. }), "{error}");
}

#[test]
fn gguf_can_be_opened_and_closed_again() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("q8.gguf");
    write_gguf(&path, "llama", GgmlDType::Q8_0, &[]);
    let kept = contents(&load(&path, None).unwrap());
    let opened = load(&path, Some(Format::F32)).unwrap();
    assert!(opened.weights.0.values().all(|weight| weight.format() == Format::F32));
    assert_eq!(contents(&opened), kept);
    let closed = load(&path, Some(Format::Q4_0)).unwrap();
    assert_eq!(closed.weights.0["model.layers.1.mlp.down_proj.weight"].format(), Format::Q4_0);
}

#[test]
fn progress_runs_from_nothing_to_everything() {
    let directory = model_directory();
    let mut seen = Vec::new();
    let request = LoadRequest { source: Source::Path(directory.path().to_owned()), dtype: None };
    loader::load(&request, &Device::Cpu, &mut |done, total| seen.push((done, total))).unwrap();
    let bytes: u64 = shapes().iter().map(|(_, dims)| 4 * dims.iter().product::<usize>() as u64).sum();
    assert_eq!(seen.first(), Some(&(0, bytes)));
    assert_eq!(seen.last(), Some(&(bytes, bytes)));
    assert!(seen.windows(2).all(|pair| pair[0].0 <= pair[1].0));
}

// E01: damaged files.

#[test]
fn every_truncation_is_an_error_that_names_the_file() {
    let directory = TempDir::new().unwrap();
    let gguf = directory.path().join("whole.gguf");
    write_gguf(&gguf, "llama", GgmlDType::F32, &[]);
    write_model(directory.path(), &config(), &tensors());
    for (whole, cut) in [
        (gguf, directory.path().join("cut.gguf")),
        (directory.path().join("model.safetensors"), directory.path().join("cut.safetensors")),
    ] {
        let bytes = std::fs::read(&whole).unwrap();
        let lengths = (0..64).chain((64..bytes.len()).step_by(997)).chain([bytes.len() - 1]);
        for length in lengths {
            std::fs::write(&cut, &bytes[..length]).unwrap();
            let error = load(&cut, None).unwrap_err();
            assert!(matches!(error, LoadError::Damaged { .. }), "{length}: {error}");
            assert!(error.to_string().contains("cut.") && error.to_string().contains("at byte"), "{error}");
            assert!(error.hint().is_some());
        }
    }
}

#[test]
fn huge_lengths_are_refused_at_once() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("huge.safetensors");
    std::fs::write(directory.path().join("config.json"), config().to_string()).unwrap();
    std::fs::write(&path, u64::MAX.to_le_bytes()).unwrap();
    assert!(load(&path, None).unwrap_err().to_string().contains("18446744073709551615"));

    // A GGUF that announces absurd sizes in its metadata: no list of four billion layers is made.
    let path = directory.path().join("huge.gguf");
    write_gguf(&path, "llama", GgmlDType::F32, &[("llama.block_count", GgufValue::U32(u32::MAX))]);
    let error = load(&path, None).unwrap_err();
    assert!(error.to_string().contains("4294967295"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever happens to the header of a file, loading answers: with a model that fits its shape, or with an error.
    #[test]
    fn changed_bytes_never_bring_the_loader_down(
        gguf in any::<bool>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
    ) {
        static FILES: OnceLock<[Vec<u8>; 2]> = OnceLock::new();
        let files = FILES.get_or_init(|| {
            let directory = model_directory();
            let path = directory.path().join("model.gguf");
            write_gguf(&path, "llama", GgmlDType::Q8_0, &[]);
            [std::fs::read(directory.path().join("model.safetensors")).unwrap(), std::fs::read(path).unwrap()]
        });
        let mut bytes = files[usize::from(gguf)].clone();
        for (at, byte) in changes {
            // Both headers end within the first two thousand bytes.
            let at = at.index(2000);
            bytes[at] = byte;
        }
        let directory = TempDir::new().unwrap();
        std::fs::write(directory.path().join("config.json"), config().to_string()).unwrap();
        let path = directory.path().join(if gguf { "changed.gguf" } else { "changed.safetensors" });
        std::fs::write(&path, bytes).unwrap();
        if let Ok(model) = load(&path, None) {
            prop_assert_eq!(model.weights.0["model.embed_tokens.weight"].dims(), [model.architecture.vocab_size, model.architecture.hidden_size]);
        }
        let _ = tokenizer_source(&path);
    }
}

#[test]
fn what_is_no_model_is_said_plainly() {
    let directory = TempDir::new().unwrap();
    let say = |path: &Path| load(path, None).unwrap_err().to_string();
    assert!(say(directory.path()).contains("neither a `config.json` nor a `.gguf` file"));
    assert!(say(&directory.path().join("absent")).contains("does not exist"));
    let text = directory.path().join("model.txt");
    std::fs::write(&text, "hello").unwrap();
    assert!(say(&text).contains("neither `.gguf` nor `.safetensors`"));
    std::fs::write(directory.path().join("config.json"), "{\n  \"model_type\": }").unwrap();
    std::fs::write(directory.path().join("model.safetensors"), "").unwrap();
    let error = say(directory.path());
    assert!(error.contains("config.json") && error.contains("line 2"), "{error}");
}

#[test]
fn a_directory_with_one_gguf_is_that_model_and_with_two_is_ambiguous() {
    let directory = TempDir::new().unwrap();
    write_gguf(&directory.path().join("a.gguf"), "llama", GgmlDType::F32, &[]);
    assert_eq!(load(directory.path(), None).unwrap().path.unwrap(), directory.path().join("a.gguf"));
    std::fs::copy(directory.path().join("a.gguf"), directory.path().join("b.gguf")).unwrap();
    assert!(load(directory.path(), None).unwrap_err().to_string().contains("2 `.gguf` files"));
}

// E02: weights that disagree with their configuration.

#[test]
fn a_wrong_shape_is_named_with_both_shapes() {
    let directory = TempDir::new().unwrap();
    let mut tensors = tensors();
    tensors.insert("model.layers.1.mlp.up_proj.weight".to_owned(), values("x", &[WIDTH + 1, HIDDEN]));
    write_model(directory.path(), &config(), &tensors);
    let error = load(directory.path(), None).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("`model.layers.1.mlp.up_proj.weight`"), "{text}");
    assert!(text.contains("[97, 64]") && text.contains("[96, 64]"), "{text}");
}

#[test]
fn missing_tensors_are_listed() {
    let directory = TempDir::new().unwrap();
    let mut tensors = tensors();
    tensors.remove("model.norm.weight");
    tensors.remove("model.layers.0.self_attn.v_proj.weight");
    write_model(directory.path(), &config(), &tensors);
    let error = load(directory.path(), None).unwrap_err();
    let LoadError::MissingTensors { names, .. } = &error else { panic!("{error}") };
    assert_eq!(names, &["model.layers.0.self_attn.v_proj.weight", "model.norm.weight"]);
}

#[test]
fn surplus_is_noted_but_a_bias_nobody_adds_is_an_error() {
    let directory = TempDir::new().unwrap();
    let mut tensors = tensors();
    tensors.insert("model.layers.0.self_attn.rotary_emb.inv_freq".to_owned(), values("x", &[16]));
    write_model(directory.path(), &config(), &tensors);
    let model = load(directory.path(), None).unwrap();
    assert!(model.notes.iter().any(|note| note.contains("rotary_emb.inv_freq")), "{:?}", model.notes);
    assert_eq!(contents(&model), written());

    tensors.insert("model.layers.0.mlp.up_proj.bias".to_owned(), values("x", &[WIDTH]));
    write_model(directory.path(), &config(), &tensors);
    let error = load(directory.path(), None).unwrap_err();
    assert!(matches!(&error, LoadError::UnexpectedBias { tensor, .. } if tensor.ends_with("up_proj.bias")), "{error}");
}

#[test]
fn a_tied_head_is_not_read_twice() {
    let directory = TempDir::new().unwrap();
    let mut config = config();
    config["tie_word_embeddings"] = true.into();
    write_model(directory.path(), &config, &tensors());
    let model = load(directory.path(), None).unwrap();
    assert!(!model.weights.0.contains_key("lm_head.weight"));
    assert!(model.notes.iter().any(|note| note.contains("ties it to the embedding")), "{:?}", model.notes);
}

#[test]
fn weights_in_a_dtype_nobody_computes_in_are_named() {
    let directory = TempDir::new().unwrap();
    let mut tensors = tensors();
    let name = "model.layers.0.mlp.up_proj.weight";
    tensors.insert(name.to_owned(), Tensor::zeros((WIDTH, HIDDEN), DType::U8, &Device::Cpu).unwrap());
    write_model(directory.path(), &config(), &tensors);
    let error = load(directory.path(), None).unwrap_err();
    assert!(matches!(&error, LoadError::Storage { tensor, stored, .. } if tensor == name && stored == "U8"), "{error}");
}

#[test]
fn gguf_metadata_is_checked_key_by_key() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("wrong.gguf");
    for (key, value, word) in [
        ("llama.attention.head_count_kv", GgufValue::U32(3), "does not divide the 4 query heads"),
        ("llama.attention.head_count", GgufValue::String("four".into()), "a size is needed"),
        ("llama.rope.scaling.type", GgufValue::String("spiral".into()), "scaling"),
        ("llama.rope.dimension_count", GgufValue::U32(16), "partial rotation"),
        ("split.count", GgufValue::U16(3), "merge them first"),
        ("llama.expert_count", GgufValue::U32(8), "expert_used_count"),
        ("general.architecture", GgufValue::U32(1), "is missing or no text"),
    ] {
        write_gguf(&path, "llama", GgmlDType::F32, &[(key, value)]);
        let text = load(&path, None).unwrap_err().to_string();
        assert!(text.contains(word), "{key}: {text}");
    }
    let rope = [
        ("llama.rope.scaling.type", GgufValue::String("yarn".into())),
        ("llama.rope.scaling.factor", GgufValue::F32(4.0)),
        ("llama.rope.scaling.original_context_length", GgufValue::U32(32)),
    ];
    write_gguf(&path, "llama", GgmlDType::F32, &rope);
    let scaling = load(&path, None).unwrap().architecture.rope.scaling;
    assert!(matches!(scaling, Some(RopeScaling::Yarn { factor: 4.0, original_max_position: 32, .. })), "{scaling:?}");
}

#[test]
fn other_families_are_described_but_not_loaded_here() {
    let directory = TempDir::new().unwrap();
    let mut config = config();
    config["model_type"] = "gemma".into();
    write_model(directory.path(), &config, &tensors());
    let described = loader::describe(directory.path()).unwrap();
    assert!(!described.is_instrumented());
    assert_eq!(described.config.unwrap()["model_type"], "gemma");
    let error = load(directory.path(), None).unwrap_err();
    assert!(matches!(&error, LoadError::Family { family, .. } if family == "gemma"), "{error}");
}

// Synthetic weights.

fn tiny() -> Architecture {
    Architecture {
        family: Family::Qwen3,
        hidden_size: HIDDEN,
        intermediate_size: WIDTH,
        num_layers: LAYERS,
        num_heads: HEADS,
        num_kv_heads: KV_HEADS,
        head_dim: HEAD_DIM,
        vocab_size: VOCAB,
        max_position_embeddings: 128,
        rms_norm_eps: 1e-6,
        rope: Rope { theta: 1e4, scaling: None },
        tie_word_embeddings: true,
        qkv_bias: true,
        o_bias: false,
        qk_norm: true,
        gated_mlp: true,
        sliding_window: None,
        moe: None,
    }
}

fn synthetic(seed: u64, dtype: Option<Format>) -> LoadedModel {
    let request = LoadRequest { source: Source::Synthetic { architecture: tiny(), seed }, dtype };
    loader::load(&request, &Device::Cpu, &mut |_, _| {}).unwrap()
}

#[test]
fn synthetic_weights_follow_the_seed_and_fit_the_shape() {
    let model = synthetic(7, None);
    assert_eq!((model.source, &model.tokenizer_source), ("synthetic", &TokenizerSource::Bytes));
    assert_eq!(contents(&model), contents(&synthetic(7, None)));
    assert_ne!(contents(&model), contents(&synthetic(8, None)));
    let weights = &model.weights.0;
    assert_eq!(weights["model.layers.0.self_attn.k_proj.weight"].format(), Format::BF16);
    assert_eq!(weights["model.layers.1.self_attn.q_norm.weight"].dims(), [HEAD_DIM]);
    assert_eq!(weights["model.layers.1.self_attn.k_proj.bias"].format(), Format::F32);
    assert!(!weights.contains_key("lm_head.weight"));
    // Counted by hand: embedding, per layer q k v o with biases, two norms and two head norms, three MLP matrices; the last norm.
    let attention = HIDDEN * HEAD_DIM * (2 * HEADS + 2 * KV_HEADS) + HEAD_DIM * (HEADS + 2 * KV_HEADS);
    let layer = attention + 2 * HIDDEN + 2 * HEAD_DIM + 3 * HIDDEN * WIDTH;
    assert_eq!(model.weights.parameters(), (VOCAB * HIDDEN + LAYERS * layer + HIDDEN) as u64);
}

#[test]
fn synthetic_progress_counts_the_bytes_that_are_held() {
    let request =
        LoadRequest { source: Source::Synthetic { architecture: tiny(), seed: 1 }, dtype: Some(Format::Q4_0) };
    let mut last = (0, 0);
    let model = loader::load(&request, &Device::Cpu, &mut |done, total| last = (done, total)).unwrap();
    let held: u64 = model.weights.bytes_by_format().values().sum();
    assert_eq!(last, (held, held));
}

// The real model.

#[test]
fn smollm2_is_read_as_it_was_written() {
    let Some(path) = smollm2() else { return };
    let model = load(&path, None).unwrap();
    let shape = &model.architecture;
    assert_eq!(
        (
            shape.num_layers,
            shape.hidden_size,
            shape.num_heads,
            shape.num_kv_heads,
            shape.head_dim,
            shape.intermediate_size
        ),
        (30, 576, 9, 3, 64, 1536)
    );
    assert_eq!((shape.vocab_size, shape.max_position_embeddings, shape.rope.theta), (49_152, 8192, 100_000.0));
    assert!(shape.tie_word_embeddings);
    assert_eq!(shape.family, Family::Llama);
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for weight in model.weights.0.values() {
        *counts.entry(weight.format().name()).or_default() += 1;
    }
    // Counted with the gguf Python package.
    assert_eq!(counts, BTreeMap::from([("q4_1", 210), ("q8_0", 1), ("f32", 61)]));
    assert_eq!(model.weights.parameters(), 134_515_008);
}

#[test]
fn smollm2_cut_short_is_an_error_with_a_place() {
    let Some(path) = smollm2() else { return };
    let directory = TempDir::new().unwrap();
    let whole = std::fs::read(path).unwrap();
    let cut: PathBuf = directory.path().join("cut.gguf");
    for length in [1000, 500_000, 3_000_000, whole.len() - 1] {
        std::fs::write(&cut, &whole[..length]).unwrap();
        let error = load(&cut, None).unwrap_err();
        assert!(matches!(error, LoadError::Damaged { .. }), "{length}: {error}");
    }
}
