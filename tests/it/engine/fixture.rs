//! Small architectures, random weights for them, and the operators to run them on.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests, too")]

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use perfprof::engine::models::CausalLm;
use perfprof::engine::models::decoder::{CachePlan, Decoder};
use perfprof::engine::ops::cpu::CpuOperators;
use perfprof::engine::ops::simd::Isa;
use perfprof::engine::ops::tensor::TensorOperators;
use perfprof::engine::ops::{self, Operators};
use perfprof::engine::threads::ThreadPool;
use perfprof::engine::weights::{Weight, WeightMap};
use perfprof::estimate::architecture::{Architecture, Family, Rope};
use perfprof::estimate::format::Format;
use perfprof::instrument::observer::NoObserver;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rand_distr::StandardNormal;

/// f32 tensors under Hugging Face names.
pub(super) type Tensors = BTreeMap<String, Tensor>;

/// A Llama with grouped heads and sizes that are multiples of nothing in particular: head width 20, vocabulary 131.
pub(super) fn llama() -> Architecture {
    Architecture {
        family: Family::Llama,
        hidden_size: 120,
        intermediate_size: 172,
        num_layers: 3,
        num_heads: 6,
        num_kv_heads: 2,
        head_dim: 20,
        vocab_size: 131,
        max_position_embeddings: 128,
        rms_norm_eps: 1e-5,
        rope: Rope { theta: 10_000.0, scaling: None },
        tie_word_embeddings: false,
        qkv_bias: false,
        o_bias: false,
        qk_norm: false,
        gated_mlp: true,
        sliding_window: None,
        moe: None,
    }
}

/// Heads wider than the residual stream divided by their number.
pub(super) fn mistral() -> Architecture {
    Architecture {
        family: Family::Mistral,
        hidden_size: 90,
        intermediate_size: 201,
        num_heads: 4,
        num_kv_heads: 1,
        head_dim: 24,
        vocab_size: 77,
        rope: Rope { theta: 1e6, scaling: None },
        ..llama()
    }
}

/// Biases on q, k and v; tied; seven query heads for each key head, of width 10 (five rotated pairs).
pub(super) fn qwen2() -> Architecture {
    Architecture {
        family: Family::Qwen2,
        hidden_size: 140,
        num_heads: 14,
        num_kv_heads: 2,
        head_dim: 10,
        vocab_size: 203,
        rms_norm_eps: 1e-6,
        rope: Rope { theta: 1e6, scaling: None },
        tie_word_embeddings: true,
        qkv_bias: true,
        ..llama()
    }
}

/// Norms on the heads of q and k.
pub(super) fn qwen3() -> Architecture {
    Architecture {
        family: Family::Qwen3,
        hidden_size: 96,
        num_heads: 5,
        num_kv_heads: 5,
        head_dim: 32,
        vocab_size: 99,
        rms_norm_eps: 1e-6,
        rope: Rope { theta: 1e6, scaling: None },
        tie_word_embeddings: true,
        qk_norm: true,
        ..llama()
    }
}

/// Random weights of `architecture`: projections that keep the size of what passes through them times 1.5, so that attention is sharp enough
/// for a wrong mask, position or head to show; norms round 1; biases of half a unit.
pub(super) fn tensors(architecture: &Architecture, seed: u64) -> Tensors {
    let mut generator = StdRng::seed_from_u64(seed);
    let mut tensors = Tensors::new();
    let mut add = |name: String, dims: &[usize], mean: f32, deviation: f32| {
        let mut draw = || mean + deviation * generator.sample::<f32, _>(StandardNormal);
        let values: Vec<f32> = (0..dims.iter().product()).map(|_| draw()).collect();
        tensors.insert(name, Tensor::from_vec(values, dims, &Device::Cpu).unwrap());
    };
    let (hidden, inner) = (architecture.hidden_size, architecture.intermediate_size);
    let (q, k) = (architecture.q_width(), architecture.kv_width());
    let scale = |columns: usize| 1.5 / (columns as f32).sqrt();
    add("model.embed_tokens.weight".into(), &[architecture.vocab_size, hidden], 0.0, 1.0);
    if !architecture.tie_word_embeddings {
        add("lm_head.weight".into(), &[architecture.vocab_size, hidden], 0.0, scale(hidden));
    }
    add("model.norm.weight".into(), &[hidden], 1.0, 0.3);
    for layer in 0..architecture.num_layers {
        let name = |part: &str| format!("model.layers.{layer}.{part}");
        for part in ["input_layernorm.weight", "post_attention_layernorm.weight"] {
            add(name(part), &[hidden], 1.0, 0.3);
        }
        for (part, rows) in [("q", q), ("k", k), ("v", k)] {
            add(name(&format!("self_attn.{part}_proj.weight")), &[rows, hidden], 0.0, scale(hidden));
            if architecture.qkv_bias {
                add(name(&format!("self_attn.{part}_proj.bias")), &[rows], 0.0, 0.5);
            }
        }
        add(name("self_attn.o_proj.weight"), &[hidden, q], 0.0, scale(q));
        if architecture.o_bias {
            add(name("self_attn.o_proj.bias"), &[hidden], 0.0, 0.5);
        }
        if architecture.qk_norm {
            for part in ["self_attn.q_norm.weight", "self_attn.k_norm.weight"] {
                add(name(part), &[architecture.head_dim], 1.0, 0.3);
            }
        }
        add(name("mlp.gate_proj.weight"), &[inner, hidden], 0.0, scale(hidden));
        add(name("mlp.up_proj.weight"), &[inner, hidden], 0.0, scale(hidden));
        add(name("mlp.down_proj.weight"), &[hidden, inner], 0.0, scale(inner));
    }
    tensors
}

/// The tensors as they are.
pub(super) fn dense(tensors: &Tensors) -> WeightMap {
    WeightMap(tensors.iter().map(|(name, tensor)| (name.clone(), Weight::Dense(tensor.clone()))).collect())
}

/// Every kind of operators there is for this machine's CPU: the reference ones on two threads, each narrower instruction set, and candle's.
pub(super) fn every_operators() -> Vec<Arc<dyn Operators>> {
    let mut all: Vec<Arc<dyn Operators>> = vec![reference_operators(2), Arc::new(TensorOperators::new(Device::Cpu))];
    for isa in [Isa::Portable, Isa::Avx2].into_iter().filter(|isa| *isa < Isa::detect()) {
        all.push(Arc::new(CpuOperators::with_isa(Arc::new(ThreadPool::new(1).unwrap()), isa)));
    }
    all
}

/// The operators a run on the CPU uses.
pub(super) fn reference_operators(threads: usize) -> Arc<dyn Operators> {
    ops::reference(&Device::Cpu, &Arc::new(ThreadPool::new(threads).unwrap()))
}

pub(super) fn decoder(
    architecture: &Architecture,
    weights: &WeightMap,
    operators: &Arc<dyn Operators>,
    (batch, capacity): (usize, usize),
    cache: Format,
) -> Decoder {
    let plan = CachePlan { batch, capacity, format: cache };
    Decoder::new(architecture.clone(), weights, Arc::clone(operators), plan).unwrap()
}

/// `batch` sequences of `length` tokens, no two alike.
pub(super) fn sequences(architecture: &Architecture, batch: usize, length: usize, seed: u64) -> Vec<Vec<u32>> {
    let mut generator = StdRng::seed_from_u64(seed);
    let mut token = || generator.random_range(0..architecture.vocab_size as u32);
    (0..batch).map(|_| (0..length).map(|_| token()).collect()).collect()
}

/// `[batch, range]` of `sequences` as the input of one pass.
pub(super) fn part(sequences: &[Vec<u32>], range: std::ops::Range<usize>) -> Tensor {
    let ids: Vec<u32> = sequences.iter().flat_map(|ids| ids[range.clone()].iter().copied()).collect();
    Tensor::from_vec(ids, (sequences.len(), range.len()), &Device::Cpu).unwrap()
}

/// One pass over `range` of `sequences`.
pub(super) fn forward(
    model: &mut dyn CausalLm,
    sequences: &[Vec<u32>],
    range: std::ops::Range<usize>,
) -> Vec<Vec<f32>> {
    let logits = model.forward(&part(sequences, range.clone()), range.start, &mut NoObserver).unwrap();
    logits.to_vec2().unwrap()
}

/// Largest difference over all rows relative to the largest value of the truth. NaN if anything is NaN.
pub(super) fn relative_error<T: Copy + Into<f64>>(found: &[Vec<f32>], truth: &[Vec<T>]) -> f64 {
    assert_eq!(found.len(), truth.len());
    let (mut scale, mut worst) = (0.0_f64, 0.0_f64);
    for (found, truth) in found.iter().zip(truth) {
        assert_eq!(found.len(), truth.len());
        for (found, truth) in found.iter().zip(truth) {
            let truth: f64 = (*truth).into();
            let error = (f64::from(*found) - truth).abs();
            // `max` would drop a NaN.
            worst = if error.is_nan() || error > worst { error } else { worst };
            scale = scale.max(truth.abs());
        }
    }
    worst / scale
}
