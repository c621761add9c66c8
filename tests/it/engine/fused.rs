//! `engine.ops=fused` against the reference operators on the same weights, for every family, format and set of kernels this machine has.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests, too")]

use std::sync::Arc;

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Tensor};
use perfprof::engine::models::CausalLm;
use perfprof::engine::models::decoder::CachePlan;
use perfprof::engine::models::fused::FusedDecoder;
use perfprof::engine::ops::fused::FusedOperators;
use perfprof::engine::threads::ThreadPool;
use perfprof::engine::weights::{Weight, WeightMap};
use perfprof::estimate::architecture::Architecture;
use perfprof::estimate::format::Format;
use perfprof::instrument::observer::NoObserver;

use super::fixture::{
    Tensors, decoder, dense, forward, llama, mistral, part, qwen2, qwen3, reference_operators, relative_error,
    sequences, tensors,
};

/// Every set of kernels on one thread, and the best one, last, on two.
pub(super) fn every_fused() -> Vec<FusedOperators> {
    let pool = |threads| Arc::new(ThreadPool::new(threads).unwrap());
    let mut all = FusedOperators::available(&pool(1));
    all.push(FusedOperators::new(pool(2)));
    all
}

pub(super) fn fused(
    architecture: &Architecture,
    weights: &WeightMap,
    operators: FusedOperators,
    (batch, capacity): (usize, usize),
    cache: Format,
) -> FusedDecoder {
    let plan = CachePlan { batch, capacity, format: cache };
    FusedDecoder::new(architecture.clone(), weights.clone(), operators, plan).unwrap()
}

/// `tensors` with matrices held as `format`.
pub(super) fn held(tensors: &Tensors, format: Format) -> WeightMap {
    let ggml = match format {
        Format::Q4_0 => Some(GgmlDType::Q4_0),
        Format::Q4_1 => Some(GgmlDType::Q4_1),
        Format::Q8_0 => Some(GgmlDType::Q8_0),
        Format::Q4K => Some(GgmlDType::Q4K),
        Format::Q5_0 => Some(GgmlDType::Q5_0),
        _ => None,
    };
    let dtype = match format {
        Format::BF16 => DType::BF16,
        Format::F16 => DType::F16,
        _ => DType::F32,
    };
    let hold = |tensor: &Tensor| match (tensor.rank(), ggml) {
        (1, _) => Weight::Dense(tensor.clone()),
        (_, Some(ggml)) => Weight::Quantized(Arc::new(QTensor::quantize(tensor, ggml).unwrap())),
        _ => Weight::Dense(tensor.to_dtype(dtype).unwrap()),
    };
    WeightMap(tensors.iter().map(|(name, tensor)| (name.clone(), hold(tensor))).collect())
}

/// The families with sizes that are multiples of nothing in particular.
fn families() -> Vec<Architecture> {
    vec![
        llama(),
        Architecture { sliding_window: Some(6), ..mistral() },
        Architecture { sliding_window: Some(1), ..mistral() },
        qwen2(),
        qwen3(),
        Architecture { o_bias: true, num_heads: 8, num_kv_heads: 2, ..llama() },
    ]
}

/// The same families in whole blocks of 32 or 256 values.
fn blockwise(architecture: Architecture) -> Architecture {
    let head_dim = 32;
    let (hidden_size, intermediate_size) = (256, 256);
    Architecture {
        hidden_size,
        intermediate_size,
        num_heads: 8,
        num_kv_heads: 2,
        head_dim,
        num_layers: 2,
        ..architecture
    }
}

/// Largest difference from the reference over prompts, decode steps and steps of several tokens: two sequences on every set of kernels, one
/// on the best.
fn error_of(architecture: &Architecture, weights: &WeightMap, cache: Format) -> f64 {
    const LENGTH: usize = 34;
    let mut worst = 0.0_f64;
    for batch in [2, 1] {
        let sequences = sequences(architecture, batch, LENGTH, 11);
        let passes = [0..21, 21..22, 22..24, 24..27, 27..28, 28..34];
        let mut reference = decoder(architecture, weights, &reference_operators(1), (batch, LENGTH), cache);
        let truth: Vec<_> = passes.iter().map(|range| forward(&mut reference, &sequences, range.clone())).collect();
        let mut all = every_fused();
        all.drain(..if batch == 1 { all.len() - 1 } else { 0 });
        for operators in all {
            let mut model = fused(architecture, weights, operators, (batch, LENGTH), cache);
            // One sequence runs twice, so that what a first generation left in the cache or the buffers would show.
            for _ in 0..3 - batch {
                model.reset().unwrap();
                for (range, truth) in passes.iter().zip(&truth) {
                    let error = relative_error(&forward(&mut model, &sequences, range.clone()), truth);
                    worst = if error.is_nan() || error > worst { error } else { worst };
                }
            }
        }
    }
    worst
}

/// Products and sums are in f32 on both sides, so only the order of additions differs. Measured: at most 3.0e-6 of the largest logit.
#[test]
fn f32_and_f16_weights_give_the_logits_of_the_reference() {
    for (seed, architecture) in (1..).zip(families()) {
        let tensors = tensors(&architecture, seed);
        for format in [Format::F32, Format::F16] {
            let error = error_of(&architecture, &held(&tensors, format), Format::F32);
            assert!(error <= 1e-5, "{:?} {format}: off by {error:e}", architecture.family);
        }
    }
}

/// Where the CPU multiplies bf16 by bf16, activations are rounded to 8 bits of mantissa (2⁻⁹ each); elsewhere the products are exact. Measured: at
/// most 2.0e-2 of the largest logit (these small models are chosen to be sharp: see `tensors`).
#[test]
fn bf16_weights_give_the_logits_of_the_reference_within_the_rounding_of_bf16() {
    for (seed, architecture) in (11..).zip(families()) {
        let tensors = tensors(&architecture, seed);
        let error = error_of(&architecture, &held(&tensors, Format::BF16), Format::F32);
        assert!(error <= 4e-2, "{:?}: off by {error:e}", architecture.family);
    }
}

/// Activations in 8 bits, one scale for 32 values: each is off by at most 1/254 of the largest of its block. Measured, of the largest logit: at most
/// 5.7e-2 for Q8_0, 5.5e-2 for Q4_1, 5.4e-2 for Q4_0, like candle's own 8-bit products (5.9e-2, see `formats`).
#[test]
fn quantized_weights_give_the_logits_of_the_reference_within_8_bit_activations() {
    let mut worst = 0.0_f64;
    for (seed, architecture) in (21..).zip(families().into_iter().map(blockwise)) {
        let tensors = tensors(&architecture, seed);
        for format in [Format::Q8_0, Format::Q4_1, Format::Q4_0] {
            let error = error_of(&architecture, &held(&tensors, format), Format::F32);
            worst = worst.max(error);
            assert!(error <= 1e-1, "{:?} {format}: off by {error:e}", architecture.family);
        }
    }
    // Were activations not rounded, nothing but the order of additions would differ: the bound is about something.
    assert!(worst > 1e-4, "{worst:e}");
}

#[test]
fn a_16_bit_cache_gives_the_logits_of_the_reference_with_the_same_cache() {
    for (seed, architecture) in (31..).zip([llama(), Architecture { sliding_window: Some(7), ..mistral() }]) {
        let weights = dense(&tensors(&architecture, seed));
        // A key next to the middle of two representable values may round either way. Measured: 1.7e-3 and 1.2e-4.
        for (cache, bound) in [(Format::BF16, 5e-3), (Format::F16, 5e-4)] {
            let error = error_of(&architecture, &weights, cache);
            assert!(error <= bound, "{:?} {cache}: off by {error:e}", architecture.family);
        }
    }
}

#[test]
fn formats_without_kernels_go_through_the_reference_and_the_name_says_so() {
    let architecture = blockwise(llama());
    let tensors = tensors(&architecture, 41);
    for format in [Format::Q4K, Format::Q5_0] {
        let weights = held(&tensors, format);
        let error = error_of(&architecture, &weights, Format::F32);
        // Both sides multiply alike; the sums of norms and attention differ in order, and a rounding to 8 bits may tip over. Measured: 2.0e-6.
        assert!(error <= 1e-2, "{format}: off by {error:e}");
        let model = fused(
            &architecture,
            &weights,
            FusedOperators::new(Arc::new(ThreadPool::new(1).unwrap())),
            (1, 8),
            Format::F32,
        );
        assert_eq!(model.unpacked_formats(), Some(format.name().to_owned()));
        let name = model.operators_name();
        assert!(
            name.starts_with("fused (cpu, ") && name.ends_with(&format!("; reference products for {format})")),
            "{name}"
        );
    }
    // One odd matrix among q, k and v, and one among gate and up: those are multiplied one by one, the others fused.
    let mut weights = held(&tensors, Format::F32);
    let odd = held(&tensors, Format::Q5_0);
    for name in ["model.layers.1.self_attn.k_proj.weight", "model.layers.0.mlp.up_proj.weight"] {
        weights.0.insert(name.to_owned(), odd.0[name].clone());
    }
    let error = error_of(&architecture, &weights, Format::F32);
    assert!(error <= 1e-2, "mixed: off by {error:e}");
    let model = fused(&architecture, &weights, every_fused().remove(0), (1, 8), Format::F32);
    assert_eq!(model.unpacked_formats().as_deref(), Some("q5_0"));
    let plain = fused(&architecture, &held(&tensors, Format::Q4_1), every_fused().remove(0), (1, 8), Format::F32);
    assert_eq!((plain.unpacked_formats(), plain.operators_name().contains("reference")), (None, false));
}

/// One token at a time is another way through the attention and the products than all at once.
#[test]
fn a_prompt_in_one_go_equals_the_prompt_token_by_token() {
    for (seed, architecture) in
        (51..).zip([llama(), qwen2(), qwen3(), Architecture { sliding_window: Some(9), ..mistral() }])
    {
        let weights = dense(&tensors(&architecture, seed));
        let sequences = sequences(&architecture, 2, 53, seed);
        for operators in every_fused() {
            let name = operators.name();
            let mut model = fused(&architecture, &weights, operators, (2, 53), Format::F32);
            let whole = forward(&mut model, &sequences, 0..53);
            model.reset().unwrap();
            let mut last = Vec::new();
            for position in 0..53 {
                last = forward(&mut model, &sequences, position..position + 1);
            }
            let error = relative_error(&last, &whole);
            assert!(error <= 1e-5, "{:?} on {name}: off by {error:e}", architecture.family);
        }
    }
}

/// The result must not depend on which thread did what: studies compare runs with different numbers of threads.
#[test]
fn the_number_of_threads_does_not_change_a_bit_of_a_prompt() {
    let architecture = blockwise(llama());
    let weights = held(&tensors(&architecture, 61), Format::Q4_1);
    let sequences = sequences(&architecture, 1, 40, 61);
    let logits = |threads| {
        let operators = FusedOperators::new(Arc::new(ThreadPool::new(threads).unwrap()));
        forward(&mut fused(&architecture, &weights, operators, (1, 40), Format::F32), &sequences, 0..40)
    };
    assert_eq!(logits(1), logits(3));
}

#[test]
fn a_nan_in_the_weights_is_seen_in_the_logits() {
    let architecture = blockwise(llama());
    for name in ["model.layers.0.input_layernorm.weight", "model.layers.1.mlp.down_proj.weight", "model.norm.weight"] {
        let mut tensors = tensors(&architecture, 71);
        let tensor = &tensors[name];
        let mut values: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
        values[3] = f32::NAN;
        let spoilt = Tensor::from_vec(values, tensor.dims(), tensor.device()).unwrap();
        tensors.insert(name.to_owned(), spoilt);
        let sequences = sequences(&architecture, 1, 20, 71);
        // A quantized norm does not exist, and a quantized NaN is the file's affair: matrices are f32 here.
        for format in [Format::F32, Format::Q8_0] {
            if format == Format::Q8_0 && name.contains("mlp") {
                continue;
            }
            for operators in every_fused() {
                let kernels = operators.name();
                let mut model = fused(&architecture, &held(&tensors, format), operators, (1, 20), Format::F32);
                for range in [0..18, 18..19] {
                    let logits = forward(&mut model, &sequences, range);
                    assert!(logits[0].iter().any(|logit| logit.is_nan()), "{name} {format} on {kernels}");
                }
            }
        }
    }
}

#[test]
fn wrong_inputs_are_errors() {
    let architecture = llama();
    let weights = dense(&tensors(&architecture, 81));
    let mut model = fused(&architecture, &weights, every_fused().remove(0), (1, 8), Format::F32);
    let sequences = sequences(&architecture, 1, 20, 81);
    let mut run = |sequences: &[Vec<u32>], range: std::ops::Range<usize>| {
        model
            .forward(&part(sequences, range.clone()), range.start, &mut NoObserver)
            .map(|_| ())
            .unwrap_err()
            .to_string()
    };
    assert!(run(&sequences, 0..9).contains("room for 8 positions, not 9"));
    assert!(run(&sequences, 8..9).contains("room for 8 positions"));
    let outside = vec![vec![architecture.vocab_size as u32; 2]];
    assert!(run(&outside, 0..1).contains("outside the embedding"));
    let two = super::fixture::sequences(&architecture, 2, 4, 1);
    assert!(run(&two, 0..4).contains("room for 1 × "));
    let mut missing = weights.clone();
    missing.0.remove("model.layers.2.mlp.up_proj.weight");
    let plan = CachePlan { batch: 1, capacity: 8, format: Format::F32 };
    let error = FusedDecoder::new(architecture.clone(), missing, every_fused().remove(0), plan).err().unwrap();
    assert!(error.to_string().contains("model.layers.2.mlp.up_proj.weight"));
    let plan = CachePlan { format: Format::Q8_0, ..plan };
    let error = FusedDecoder::new(architecture, weights, every_fused().remove(0), plan).err().unwrap();
    assert!(error.to_string().contains("use f32, f16 or bf16"));
}

/// Weights are given back as they are packed: the map is the caller's only copy, so nothing of the loaded form stays but the embedding.
#[test]
fn packed_weights_are_not_kept_twice() {
    let architecture = blockwise(llama());
    let weights = held(&tensors(&architecture, 91), Format::Q4_1);
    let watch: Vec<(String, std::sync::Weak<QTensor>)> = weights
        .0
        .iter()
        .filter_map(|(name, weight)| match weight {
            Weight::Quantized(tensor) => Some((name.clone(), Arc::downgrade(tensor))),
            Weight::Dense(_) => None,
        })
        .collect();
    let plan = CachePlan { batch: 1, capacity: 8, format: Format::F32 };
    let model = FusedDecoder::new(architecture, weights, every_fused().remove(0), plan).unwrap();
    let alive: Vec<&str> =
        watch.iter().filter(|(_, tensor)| tensor.strong_count() > 0).map(|(name, _)| name.as_str()).collect();
    assert_eq!(alive, ["model.embed_tokens.weight"]);
    drop(model);
}
