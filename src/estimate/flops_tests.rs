use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::architecture::{Family, Moe, Rope};
use super::super::operator::Cost;
use super::super::parameters::{WeightTensor, active_parameters, parameters, weight_tensors, weights_bytes};
use super::super::step::{StepShape, operators_of_step};
use super::super::test_models::{self, llama_2_7b, llama_3_8b, mistral_7b, mixtral_8x7b, qwen2_5_0_5b, smollm2_135m};
use super::*;

/// The sum over the enumerated operators, in the form of the closed forms.
fn summed(architecture: &Architecture, storage: Storage<'_>, shape: StepShape) -> PhaseCost {
    let operators = operators_of_step(architecture, shape, storage.weights, storage.cache);
    let cost: Cost = operators.iter().map(|(_, _, operator)| operator.cost(storage.activation)).sum();
    let model = operators.iter().filter(|(_, _, operator)| operator.is_model_compute());
    PhaseCost {
        steps: 1,
        model_flops: model.map(|(_, _, operator)| operator.cost(storage.activation).flops).sum(),
        flops: cost.flops,
        weight_bytes: cost.weight_bytes,
        kv_bytes: cost.kv_bytes,
        activation_bytes: cost.activation_bytes,
    }
}

fn half(weights: &WeightFormats) -> Storage<'_> {
    Storage { weights, cache: Format::BF16, activation: Format::BF16 }
}

#[test]
fn closed_forms_equal_the_sum_of_operators_for_published_models() {
    for (name, model) in test_models::all() {
        for format in [Format::F32, Format::BF16, Format::Q8_0] {
            let weights = WeightFormats::uniform(format);
            let storage = half(&weights);
            for (batch, queries, past) in
                [(1, 1, 0), (1, 512, 0), (3, 1, 700), (2, 7, 0), (1, 5000, 0), (1, 1, 9000), (2, 64, 4090)]
            {
                let shape = StepShape { batch, queries, kv_len: past + queries };
                let closed = step(&model, storage, batch.into(), queries.into(), shape.kv_len.into());
                assert_eq!(closed, summed(&model, storage, shape), "{name} {format} {shape:?}");
            }
        }
    }
}

#[test]
fn the_phases_of_a_generation_are_the_sums_of_their_steps() {
    let weights = WeightFormats::uniform(Format::BF16);
    let storage = half(&weights);
    for (name, model) in test_models::all() {
        // The window of Mistral (4096) closes in the middle of the decode.
        for (batch, prompt, new) in [(1u32, 128u32, 64u32), (2, 4090, 20), (1, 6000, 3)] {
            let pass = |queries, kv_len| summed(&model, storage, StepShape { batch, queries, kv_len });
            let steps = (1..new).map(|step| pass(1, prompt + step)).fold(PhaseCost::default(), |sum, cost| sum + cost);
            let [b, p, n] = [batch, prompt, new].map(u64::from);
            assert_eq!(prefill(&model, storage, b, p), pass(prompt, prompt), "{name}");
            assert_eq!(decode(&model, storage, b, p, n), steps, "{name}");
            assert_eq!(generation(&model, storage, b, p, n), pass(prompt, prompt) + steps, "{name}");
        }
        assert_eq!(decode(&model, storage, 1, 10, 1), PhaseCost::default());
    }
}

#[test]
fn parameter_counts_are_the_published_ones() {
    // As stated by the safetensors metadata of each repository on the Hugging Face hub.
    for (name, published) in [
        ("llama-2-7b", 6_738_415_616),
        ("llama-3-8b", 8_030_261_248),
        ("llama-3.1-8b", 8_030_261_248),
        ("qwen2.5-0.5b", 494_032_768),
        ("qwen3-8b", 8_190_735_360),
        ("mistral-7b-v0.1", 7_241_732_096),
        ("smollm2-135m", 134_515_008),
        ("mixtral-8x7b", 46_702_792_704),
        ("qwen3-30b-a3b", 30_532_122_624),
        ("qwen1.5-moe-a2.7b", 14_315_784_192u64),
    ] {
        let (_, model) = test_models::all().into_iter().find(|(known, _)| *known == name).unwrap();
        assert_eq!(parameters(&model), published, "{name}");
        assert_eq!(weight_tensors(&model).iter().map(WeightTensor::elements).sum::<u64>(), published, "{name}");
    }
    // Mixtral's paper speaks of 13B active parameters; six of eight experts idle in 32 layers of 3 · 4096 · 14336.
    assert_eq!(active_parameters(&mixtral_8x7b()), 46_702_792_704 - 32 * 6 * 3 * 4096 * 14336);
    assert_eq!(active_parameters(&llama_2_7b()), parameters(&llama_2_7b()));
}

#[test]
fn llama_2_7b_by_hand() {
    let weights = WeightFormats::uniform(Format::F16);
    let storage = Storage { weights: &weights, cache: Format::F16, activation: Format::F16 };
    let model = llama_2_7b();
    // One token and layer: q, k, v, o 4 · 2 · 4096² = 134,217,728; MLP 3 · 2 · 4096 · 11008 = 270,532,608: 404,750,336.
    // 32 layers: 12,952,010,752. LM head 2 · 4096 · 32000 = 262,144,000. Attention at 512 positions 32 · 4 · 4096 · 512 = 268,435,456.
    assert_eq!(decode_step(&model, storage, 1, 512).model_flops, 12_952_010_752 + 262_144_000 + 268_435_456);
    // The rule of thumb, two FLOPs per parameter, without embedding (131,072,000) and norms (65 · 4096), is the same number.
    assert_eq!(12_952_010_752 + 262_144_000, 2 * (6_738_415_616u64 - 131_072_000 - 65 * 4096));
    // 512 tokens: 512 · 12,952,010,752 = 6,631,429,505,024; one LM-head row; 512 · 513 / 2 = 131,328 pairs, each 32 · 4 · 4096 FLOPs.
    let prompt = prefill(&model, storage, 1, 512);
    assert_eq!(prompt.model_flops, 6_700_545_343_488);
    assert_eq!(6_700_545_343_488, 6_631_429_505_024 + 262_144_000 + 131_328 * 32 * 4 * 4096u64);
    // The cache is written once (512 · 512 KiB) and read once.
    assert_eq!(prompt.kv_bytes, 2 * 512 * 524_288);
}

#[test]
fn llama_3_8b_by_hand() {
    let weights = WeightFormats::uniform(Format::BF16);
    let storage = half(&weights);
    let model = llama_3_8b();
    // One token and layer: q, o 2 · 2 · 4096² = 67,108,864; k, v 2 · 2 · 4096 · 1024 = 16,777,216; MLP 6 · 4096 · 14336 = 352,321,536:
    // 436,207,616. 32 layers 13,958,643,712; LM head 2 · 4096 · 128256 = 1,050,673,152; attention at 8192 32 · 4 · 4096 · 8192 =
    // 4,294,967,296.
    let token = decode_step(&model, storage, 1, 8192);
    assert_eq!(token.model_flops, 19_304_284_160);
    // Weights: all but the embedding (525,336,576) and the norms (266,240) at two bytes, 15,009,316,864; one row of the embedding,
    // 8192; the norms in f32, 1,064,960.
    assert_eq!(token.weight_bytes, 15_009_316_864 + 8192 + 1_064_960);
    // 8192 positions read and one written, 128 KiB each.
    assert_eq!(token.kv_bytes, 8193 * 131_072);
    // 8192 tokens at 13,958,643,712; LM head once; 8192 · 8193 / 2 = 33,558,528 pairs at 32 · 4 · 4096.
    assert_eq!(prefill(&model, storage, 1, 8192).model_flops, 131_944_593_489_920);
}

#[test]
fn qwen_2_5_0_5b_by_hand() {
    let weights = WeightFormats::uniform(Format::BF16);
    let storage = half(&weights);
    let model = qwen2_5_0_5b();
    // One token and layer: q, o 4 · 896² = 3,211,264; k, v 4 · 896 · 128 = 458,752; MLP 6 · 896 · 4864 = 26,148,864; biases of q, k, v
    // 896 + 128 + 128 = 1,152: 29,820,032. 24 layers 715,680,768; LM head 2 · 896 · 151936 = 272,269,312; attention at 100 24 · 4 ·
    // 896 · 100 = 8,601,600.
    assert_eq!(decode_step(&model, storage, 1, 100).model_flops, 996_551_680);
    // Three prompts of seven: 21 · 715,680,768 + 3 · 272,269,312 + 3 · 24 · 4 · 896 · 28.
    assert_eq!(prefill(&model, storage, 3, 7).model_flops, 15_853_329_408);
}

#[test]
fn smollm2_generation_by_hand() {
    let weights = WeightFormats::uniform(Format::F32);
    let storage = Storage { weights: &weights, cache: Format::F32, activation: Format::F32 };
    // One token: 30 · (4 · 576² + 4 · 576 · 192 + 6 · 576 · 1536) = 212,336,640; LM head 2 · 576 · 49152 = 56,623,104.
    // 63 decode steps see 129 + … + 191 = 10,080 positions, 30 · 4 · 576 FLOPs each.
    let tokens = decode(&smollm2_135m(), storage, 1, 128, 64);
    assert_eq!(tokens.model_flops, 63 * (212_336_640 + 56_623_104) + 10_080 * 30 * 4 * 576);
    assert_eq!((tokens.steps, tokens.model_flops), (63, 17_641_193_472));
    assert_eq!(prefill(&smollm2_135m(), storage, 1, 128).model_flops, 27_806_367_744);
}

#[test]
fn a_sliding_window_bounds_attention_and_traffic() {
    let weights = WeightFormats::uniform(Format::BF16);
    let storage = half(&weights);
    let model = mistral_7b();
    let (at, beyond) = (decode_step(&model, storage, 1, 4096), decode_step(&model, storage, 1, 10_000));
    assert_eq!(at, beyond);
    // Layers as Llama-3-8B, LM head 2 · 4096 · 32000, 4096 positions: 13,958,643,712 + 262,144,000 + 2,147,483,648.
    assert_eq!(beyond.model_flops, 16_368_271_360);
    // 6000 tokens: 4096 · 4097 / 2 + 1904 · 4096 = 16,189,440 pairs.
    assert_eq!(prefill(&model, storage, 1, 6000).model_flops, 92_240_053_534_720);
}

#[test]
fn a_mixture_computes_two_experts_and_reads_up_to_eight() {
    let weights = WeightFormats::uniform(Format::BF16);
    let storage = half(&weights);
    let model = mixtral_8x7b();
    // One token and layer: 83,886,080 attention, 2 · 4096 · 8 router, 2 · 6 · 4096 · 14336 experts: 788,594,688.
    assert_eq!(decode_step(&model, storage, 1, 100).model_flops, 25_549_602_816);
    let expert = 32 * 2 * 3 * 4096 * 14336u64;
    let read = |batch| decode_step(&model, storage, batch, 100).weight_bytes;
    let row = 2 * 4096;
    assert_eq!(read(2) - read(1), 2 * expert + row);
    assert_eq!(read(4) - read(1), 6 * expert + 3 * row);
    assert_eq!(read(9) - read(4), 5 * row);
}

#[test]
fn each_tensor_counts_in_its_own_format() {
    let model = smollm2_135m();
    // A k-quant file as llama.cpp makes it: embedding (and so the tied head) q8_0, everything else q4_1 but one tensor.
    let names = BTreeMap::from([
        ("model.embed_tokens.weight".to_owned(), Format::Q8_0),
        ("model.layers.3.mlp.down_proj.weight".to_owned(), Format::F16),
    ]);
    let weights = WeightFormats::from_names(Format::Q4_1, names);
    assert_eq!(weights.of_lm_head(&model), Format::Q8_0);
    let storage = Storage { weights: &weights, cache: Format::F16, activation: Format::F32 };
    let shape = StepShape { batch: 2, queries: 1, kv_len: 9 };
    assert_eq!(decode_step(&model, storage, 2, 9), summed(&model, storage, shape));
    // Matrices by hand: 49152 · 576 values at 34/32 bytes; 30 layers of 2 · 576² + 2 · 576 · 192 + 3 · 576 · 1536 = 3,538,944 values
    // at 20/32; one matrix of 884,736 at 2 bytes instead; 61 norms of 576 in f32.
    let expected = 49152 * 576 / 32 * 34 + (30 * 3_538_944 - 884_736) / 32 * 20 + 884_736 * 2 + 61 * 576 * 4u64;
    assert_eq!(weights_bytes(&model, &weights), expected);
}

#[test]
fn operators_come_in_the_order_of_the_engine() {
    let weights = WeightFormats::uniform(Format::BF16);
    let modules = |model: &Architecture| -> Vec<(Option<u32>, &'static str)> {
        let shape = StepShape { batch: 2, queries: 3, kv_len: 3 };
        operators_of_step(model, shape, &weights, Format::BF16).into_iter().map(|(l, m, _)| (l, m)).collect()
    };
    let layer = [
        "input_layernorm",
        "q_proj",
        "k_proj",
        "v_proj",
        "rotary_emb",
        "self_attn",
        "self_attn",
        "o_proj",
        "residual",
        "post_attention_layernorm",
        "gate_proj",
        "up_proj",
        "act_fn",
        "down_proj",
        "residual",
    ];
    let mut expected = vec![(None, "embed_tokens")];
    for index in 0..30 {
        expected.extend(layer.map(|module| (Some(index), module)));
    }
    expected.extend(["norm", "lm_head", "sampler"].map(|module| (None, module)));
    assert_eq!(modules(&smollm2_135m()), expected);
    let qwen3: Vec<_> =
        modules(&test_models::qwen3_8b()).into_iter().skip(4).take(4).map(|(_, module)| module).collect();
    assert_eq!(qwen3, ["v_proj", "q_norm", "k_norm", "rotary_emb"]);
}

fn architecture() -> impl Strategy<Value = Architecture> {
    let sizes = (1usize..6, 1usize..5, 1usize..5, 1usize..9, 1usize..100, 1usize..200, 1usize..300);
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    let moe = prop::option::of((1usize..9, 1usize..9, 1usize..70, 0usize..50));
    let family = prop::sample::select(vec!["llama", "qwen2_moe", "mixtral", "qwen3_moe"]);
    (sizes, flags, prop::option::of(1usize..20), moe, family).prop_map(
        |((layers, kv, group, half_dim, hidden, intermediate, vocab), flags, sliding_window, moe, family)| {
            Architecture {
                family: Family::from_model_type(family),
                hidden_size: hidden,
                intermediate_size: intermediate,
                num_layers: layers,
                num_heads: kv * group,
                num_kv_heads: kv,
                head_dim: 2 * half_dim,
                vocab_size: vocab,
                max_position_embeddings: 64,
                rms_norm_eps: 1e-5,
                rope: Rope { theta: 1e4, scaling: None },
                tie_word_embeddings: flags.0,
                qkv_bias: flags.1,
                o_bias: flags.2,
                qk_norm: flags.3,
                gated_mlp: flags.4,
                sliding_window,
                moe: moe.map(|(experts, per_token, width, shared)| Moe {
                    num_experts: experts,
                    experts_per_token: per_token.min(experts),
                    expert_intermediate_size: width,
                    shared_intermediate_size: shared,
                }),
            }
        },
    )
}

proptest! {
    #[test]
    fn closed_forms_equal_the_sum_of_operators(
        model in architecture(),
        formats in (0usize..Format::ALL.len(), 0usize..Format::ALL.len(), 0usize..Format::ALL.len()),
        (batch, queries, past, new) in (1u32..5, 1u32..12, 0u32..30, 1u32..12),
    ) {
        let names = BTreeMap::from([("model.layers.0.self_attn.k_proj.weight".to_owned(), Format::ALL[formats.2])]);
        let weights = WeightFormats::from_names(Format::ALL[formats.0], names);
        let storage = Storage { weights: &weights, cache: Format::ALL[formats.1], activation: Format::F16 };
        let shape = StepShape { batch, queries, kv_len: past + queries };
        let [b, q, kv, n] = [batch, queries, shape.kv_len, new].map(u64::from);
        prop_assert_eq!(step(&model, storage, b, q, kv), summed(&model, storage, shape));
        let steps = (1..new)
            .map(|step| summed(&model, storage, StepShape { batch, queries: 1, kv_len: shape.kv_len + step }))
            .fold(PhaseCost::default(), |sum, cost| sum + cost);
        prop_assert_eq!(decode(&model, storage, b, kv, n), steps);
        let tensors = weight_tensors(&model);
        prop_assert_eq!(tensors.iter().map(WeightTensor::elements).sum::<u64>(), parameters(&model));
        prop_assert_eq!(model.validate(), Ok(()));
    }

    #[test]
    fn visible_positions_add_up(n in 0u64..200, window in 1u64..60) {
        prop_assert_eq!(visible_sum(n, window), (1..=n).map(|i| i.min(window)).sum::<u64>());
        prop_assert_eq!(visible_sum(n, u64::MAX), n * (n + 1) / 2);
    }
}
