use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::test_models;
use super::*;

/// The smallest complete file of a type.
fn config(model_type: &str) -> Value {
    json!({
        "model_type": model_type, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
        "num_attention_heads": 32, "vocab_size": 32000,
    })
}

fn with(mut config: Value, key: &str, value: Value) -> Value {
    config[key] = value;
    config
}

fn read(config: &Value) -> Architecture {
    Architecture::from_hf_config(config).unwrap()
}

fn message(config: &Value) -> String {
    Architecture::from_hf_config(config).unwrap_err().to_string()
}

#[test]
fn silence_means_what_the_config_class_says() {
    // transformers 4.57.6, attributes of CONFIG_MAPPING[type](): num_key_value_heads, head_dim, max_position_embeddings, rms_norm_eps, rope_theta,
    // tie_word_embeddings, sliding_window; and the biases of modeling_<type>.py.
    for (model_type, kv, head_dim, positions, eps, theta, window, qkv_bias, qk_norm) in [
        ("llama", 32, 128, 2048, 1e-6, 1e4, None, false, false),
        ("mistral", 8, 128, 131_072, 1e-6, 1e4, Some(4096), false, false),
        ("qwen2", 32, 128, 32_768, 1e-6, 1e4, None, true, false),
        ("qwen3", 32, 128, 32_768, 1e-6, 1e4, None, false, true),
        ("mixtral", 8, 128, 131_072, 1e-5, 1e6, None, false, false),
    ] {
        let shape = read(&config(model_type));
        assert_eq!(
            (shape.num_kv_heads, shape.head_dim, shape.max_position_embeddings, shape.rms_norm_eps, shape.rope.theta),
            (kv, head_dim, positions, eps, theta),
            "{model_type}"
        );
        assert_eq!((shape.sliding_window, shape.qkv_bias, shape.qk_norm), (window, qkv_bias, qk_norm), "{model_type}");
        assert!(!shape.tie_word_embeddings && !shape.o_bias && shape.gated_mlp, "{model_type}");
    }
}

#[test]
fn qwen3_has_its_own_head_width() {
    let small = with(with(config("qwen3"), "hidden_size", json!(1024)), "num_attention_heads", json!(16));
    let small = read(&with(small, "num_key_value_heads", json!(8)));
    assert_eq!((small.head_dim, small.q_width()), (128, 2048));
    // Llama divides instead.
    let llama = with(with(config("llama"), "hidden_size", json!(1024)), "num_attention_heads", json!(16));
    assert_eq!(read(&llama).head_dim, 64);
}

#[test]
fn null_is_not_absence() {
    assert_eq!(read(&with(config("mistral"), "sliding_window", Value::Null)).sliding_window, None);
    assert_eq!(read(&with(config("mistral"), "sliding_window", json!(1024))).sliding_window, Some(1024));
    assert_eq!(read(&with(config("mistral"), "num_key_value_heads", Value::Null)).num_kv_heads, 32);
    assert_eq!(read(&with(config("qwen3"), "head_dim", Value::Null)).head_dim, 128);
}

#[test]
fn attention_bias_sets_all_four_projections() {
    for model_type in ["llama", "qwen3"] {
        let shape = read(&with(config(model_type), "attention_bias", json!(true)));
        assert!(shape.qkv_bias && shape.o_bias, "{model_type}");
    }
    // Qwen2 has no such switch, and Mistral no biases at all.
    let qwen2 = read(&with(config("qwen2"), "attention_bias", json!(false)));
    assert!(qwen2.qkv_bias && !qwen2.o_bias);
    assert!(!read(&with(config("mistral"), "attention_bias", json!(true))).qkv_bias);
}

#[test]
fn a_window_of_qwen_counts_only_where_it_is_switched_on() {
    let windowed = with(config("qwen2"), "sliding_window", json!(2048));
    assert_eq!(read(&windowed).sliding_window, None);
    let on = with(windowed, "use_sliding_window", json!(true));
    // The first 28 of 32 layers attend in full: one window for all layers would be wrong either way.
    assert!(message(&on).contains("`max_window_layers` = 28 is not supported"), "{}", message(&on));
    assert_eq!(read(&with(on.clone(), "max_window_layers", json!(32))).sliding_window, None);
    assert_eq!(read(&with(on.clone(), "max_window_layers", json!(0))).sliding_window, Some(2048));
    let types = |kinds: [&str; 2]| with(on.clone(), "layer_types", json!(kinds));
    assert_eq!(read(&types(["sliding_attention"; 2])).sliding_window, Some(2048));
    assert_eq!(read(&types(["full_attention"; 2])).sliding_window, None);
    assert!(message(&types(["full_attention", "sliding_attention"])).contains("`layer_types`"));
}

#[test]
fn rope_scaling_is_read_in_its_three_spellings() {
    let llama3 =
        RopeScaling::Llama3 { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_max_position: 8192 };
    let rope = test_models::llama_3_1_8b().rope;
    assert_eq!((rope.theta, rope.scaling.as_ref()), (500_000.0, Some(&llama3)));
    // transformers 5.
    let parameters = json!({
        "rope_type": "llama3", "rope_theta": 500_000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    });
    assert_eq!(read(&with(config("llama"), "rope_parameters", parameters)).rope, rope);
    let plain = json!({ "rope_type": "default", "rope_theta": 1e6 });
    assert_eq!(read(&with(config("qwen2"), "rope_parameters", plain)).rope, Rope { theta: 1e6, scaling: None });
    // Before 4.43 the key was `type`.
    let old = with(config("llama"), "rope_scaling", json!({ "type": "linear", "factor": 4.0 }));
    assert_eq!(read(&old).rope.scaling, Some(RopeScaling::Linear { factor: 4.0 }));
}

#[test]
fn yarn_defaults_come_from_the_paper_and_the_model() {
    let yarn = |scaling: Value| read(&with(config("qwen2"), "rope_scaling", scaling)).rope.scaling.unwrap();
    assert_eq!(
        yarn(json!({ "rope_type": "yarn", "factor": 4.0 })),
        RopeScaling::Yarn {
            factor: 4.0,
            beta_fast: 32.0,
            beta_slow: 1.0,
            original_max_position: 32_768,
            attention_factor: None,
        }
    );
    // DeepSeek's pair: (0.1·1·ln 40 + 1) / (0.1·2·ln 40 + 1).
    let RopeScaling::Yarn { attention_factor: Some(factor), original_max_position, .. } = yarn(json!({
        "type": "yarn", "factor": 40.0, "mscale": 1.0, "mscale_all_dim": 2.0, "original_max_position_embeddings": 4096,
    })) else {
        panic!("an attention factor follows from the mscale pair")
    };
    assert!((factor - 1.368_887_945_411_394 / 1.737_775_890_822_787).abs() < 1e-12);
    assert_eq!(original_max_position, 4096);
}

#[test]
fn mixtures_of_experts_are_read() {
    let mixtral = test_models::mixtral_8x7b().moe.unwrap();
    let expected =
        Moe { num_experts: 8, experts_per_token: 2, expert_intermediate_size: 14336, shared_intermediate_size: 0 };
    assert_eq!(mixtral, expected);
    let qwen = test_models::qwen1_5_moe_a2_7b();
    let expected =
        Moe { num_experts: 60, experts_per_token: 4, expert_intermediate_size: 1408, shared_intermediate_size: 5632 };
    assert_eq!((qwen.moe, qwen.qkv_bias), (Some(expected), true));
    let dense = with(config("qwen3_moe"), "mlp_only_layers", json!([0]));
    assert!(message(&dense).contains("`mlp_only_layers`"));
}

#[test]
fn other_families_keep_what_is_known() {
    let gpt2 = json!({
        "model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024, "vocab_size": 50257,
        "layer_norm_epsilon": 1e-5, "activation_function": "gelu_new", "n_inner": null,
    });
    let shape = read(&gpt2);
    assert_eq!(shape.family, Family::Other("gpt2".to_owned()));
    assert_eq!((shape.intermediate_size, shape.head_dim, shape.max_position_embeddings), (3072, 64, 1024));
    assert!(!shape.gated_mlp && shape.tie_word_embeddings);
    // A multimodal model keeps its decoder one level down, and errors say so.
    let nested = json!({ "model_type": "mistral3", "text_config": config("mistral") });
    assert_eq!(read(&nested).family, Family::Mistral);
    let mut broken = nested;
    broken["text_config"]["vocab_size"] = json!("many");
    assert_eq!(message(&broken), "`text_config.vocab_size` must be a whole number, but is `\"many\"`");
}

#[test]
fn errors_name_the_key() {
    assert_eq!(message(&json!([])), "the model configuration is not a JSON object");
    for key in
        ["model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size"]
    {
        let mut missing = config("llama");
        missing.as_object_mut().unwrap().remove(key);
        assert_eq!(message(&missing), format!("`{key}` is missing"));
    }
    for (key, value, expected) in [
        ("hidden_size", json!(-1), "`hidden_size` must be a whole number, but is `-1`"),
        ("hidden_size", json!(0), "`hidden_size` = 0: must not be zero"),
        ("vocab_size", json!(1u64 << 40), "`vocab_size` = 1099511627776: absurdly large (at most 268435456)"),
        ("num_attention_heads", json!(0), "`num_attention_heads` = 0: must not be zero"),
        (
            "num_attention_heads",
            json!(33),
            "`num_attention_heads` = 33: does not divide `hidden_size` = 4096, and there is no `head_dim`",
        ),
        ("num_key_value_heads", json!(5), "`num_key_value_heads` = 5: does not divide `num_attention_heads` = 32"),
        ("num_key_value_heads", json!(0), "`num_key_value_heads` = 0: must not be zero"),
        ("head_dim", json!(127), "`head_dim` = 127: rotary embedding rotates pairs, so it must be even"),
        ("rms_norm_eps", json!(0.0), "`rms_norm_eps` = 0: must lie between 0 and 1"),
        ("rope_theta", json!(-1.0), "`rope_theta` = -1: must be positive"),
        ("tie_word_embeddings", json!("yes"), "`tie_word_embeddings` must be true or false, but is `\"yes\"`"),
        ("hidden_act", json!("gelu"), "`hidden_act` = gelu is not supported: these models gate with SiLU"),
        ("mlp_bias", json!(true), "`mlp_bias` = true is not supported: MLP biases are not implemented"),
        (
            "rope_scaling",
            json!({ "rope_type": "dynamic", "factor": 2.0 }),
            "`rope_scaling.rope_type` = dynamic is not supported: known are default, linear, llama3 and yarn",
        ),
        ("rope_scaling", json!({ "type": "linear" }), "`rope_scaling.factor` is missing"),
        ("rope_scaling", json!({ "type": "linear", "factor": 0.0 }), "`rope_scaling.factor` = 0: must be at least 1"),
        ("rope_scaling", json!("linear"), "`rope_scaling` must be an object, but is `\"linear\"`"),
        (
            "kv_lora_rank",
            json!(512),
            "`kv_lora_rank` = 512 is not supported: multi-head latent attention is not modelled",
        ),
    ] {
        assert_eq!(message(&with(config("llama"), key, value)), expected);
    }
    let huge = with(with(config("llama"), "intermediate_size", json!(1 << 24)), "num_hidden_layers", json!(10_000));
    assert!(message(&huge).contains("parameters"), "{}", message(&huge));
}

proptest! {
    /// Whatever stands in the file, reading it ends in a shape that passes its own checks or in an error, never in a panic.
    #[test]
    fn no_value_panics(
        model_type in prop::sample::select(vec!["llama", "mistral", "qwen2", "qwen3", "mixtral", "qwen3_moe", "gpt2", "x"]),
        changes in prop::collection::vec((prop::sample::select(KEYS.to_vec()), value()), 0..6),
    ) {
        let mut config = config(model_type);
        for (key, value) in changes {
            config[key] = value;
        }
        if let Ok(shape) = Architecture::from_hf_config(&config) {
            prop_assert_eq!(shape.validate(), Ok(()));
            prop_assert!(super::super::parameters::parameters(&shape) > 0);
        }
    }
}

const KEYS: [&str; 22] = [
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
    "rms_norm_eps",
    "rope_theta",
    "rope_scaling",
    "rope_parameters",
    "sliding_window",
    "use_sliding_window",
    "max_window_layers",
    "layer_types",
    "num_experts",
    "num_local_experts",
    "num_experts_per_tok",
    "moe_intermediate_size",
    "n_shared_experts",
    "max_position_embeddings",
    "text_config",
];

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        prop::sample::select(vec![0u64, 1, 2, 3, 8, 64, 128, 4096, 1 << 20, 1 << 24, 1 << 40, u64::MAX])
            .prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
        Just(json!({ "rope_type": "yarn", "factor": 1e300 })),
        Just(json!({ "type": "llama3", "factor": 2 })),
        Just(json!({ "full_attention": {} })),
        Just(json!(["sliding_attention", 3])),
    ]
}
