//! The fused operators against plain candle operations, in every set of kernels this machine has.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::super::tensor::TensorOperators;
use super::super::{AttentionShape, Operators, RopeTable};
use super::{BlockedCache, FusedOperators};
use crate::engine::models::rope;
use crate::engine::threads::ThreadPool;
use crate::estimate::architecture::Rope;
use crate::estimate::format::Format;

fn random(generator: &mut StdRng, len: usize) -> Vec<f32> {
    (0..len).map(|_| generator.random_range(-1.0f32..1.0)).collect()
}

fn every_kernel() -> Vec<FusedOperators> {
    let mut all = FusedOperators::available(&Arc::new(ThreadPool::new(1).unwrap()));
    all.push(FusedOperators::new(Arc::new(ThreadPool::new(3).unwrap())));
    all
}

/// Columns `columns` of rows of `width` values.
fn columns(values: &[f32], width: usize, columns: std::ops::Range<usize>) -> Tensor {
    let part: Vec<f32> = values.chunks_exact(width).flat_map(|row| row[columns.clone()].iter().copied()).collect();
    Tensor::from_vec(part, (values.len() / width, columns.len()), &Device::Cpu).unwrap()
}

/// Largest difference relative to the largest value of the truth; NaN if anything is.
fn difference(got: &[f32], truth: &Tensor) -> f32 {
    let truth: Vec<f32> = truth.flatten_all().unwrap().to_vec1().unwrap();
    assert_eq!(got.len(), truth.len());
    let largest = truth.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    let worst = got.iter().zip(&truth).fold(0.0f32, |worst, (got, truth)| {
        let error = (got - truth).abs();
        if error.is_nan() || error > worst { error } else { worst }
    });
    worst / largest
}

/// Prompts in parts and single steps over a cache of many stretches: groups of one to seven heads, batches, windows, every cache format.
#[test]
fn rotation_cache_and_attention_equal_candle() {
    let mut generator = StdRng::seed_from_u64(6);
    let truth_ops = TensorOperators::new(Device::Cpu);
    let cases = [
        (1, 9, 3, 64, None),
        (2, 4, 4, 32, None),
        (1, 8, 2, 80, Some(37)),
        (3, 7, 1, 16, Some(5)),
        (1, 10, 2, 20, None),
        (1, 3, 3, 6, Some(200)),
    ];
    for (batch, heads, kv_heads, head_dim, window) in cases {
        let table: RopeTable = rope::table(&Rope { theta: 10_000.0, scaling: None }, head_dim, 500);
        let (q_end, k_end) = (heads * head_dim, (heads + kv_heads) * head_dim);
        let width = k_end + kv_heads * head_dim;
        for format in [Format::F32, Format::BF16, Format::F16] {
            let mut truth_cache = truth_ops.new_cache(batch, kv_heads, 500, head_dim, format).unwrap();
            let all = every_kernel();
            let mut caches: Vec<BlockedCache> =
                all.iter().map(|_| BlockedCache::new(batch, kv_heads, 500, head_dim, format).unwrap()).collect();
            let mut position = 0;
            for queries in [50, 3, 1, 1, 2, 270, 1, 14, 1, 2] {
                let shape = AttentionShape { batch, queries, position, heads, kv_heads, head_dim, window };
                let rows = batch * queries;
                let mut qkv = random(&mut generator, rows * width);
                // Sharp scores, so that a wrong mask or maximum shows.
                for row in qkv.chunks_exact_mut(width) {
                    row[..q_end].iter_mut().for_each(|value| *value *= 3.0);
                }
                let (q, k) = (columns(&qkv, width, 0..q_end), columns(&qkv, width, q_end..k_end));
                let (q, k) = truth_ops.rope(&q, &k, &table, &shape).unwrap();
                truth_ops.write_kv(&mut truth_cache, &k, &columns(&qkv, width, k_end..width), &shape).unwrap();
                let truth = truth_ops.attention(&q, &truth_cache, &shape).unwrap();
                for (ops, cache) in all.iter().zip(&mut caches) {
                    let mut own = qkv.clone();
                    ops.rope_write(&mut own, &table, cache, &shape).unwrap();
                    let rotated: Vec<f32> = own.chunks_exact(width).flat_map(|row| row[..q_end].to_vec()).collect();
                    assert!(difference(&rotated, &q) < 1e-6, "{} rotation", ops.name());
                    // What an earlier call left in the result and the scratch must not matter.
                    let (mut partials, mut out) = (vec![f32::NAN; 7], vec![f32::NAN; rows * q_end]);
                    ops.attention(&own, cache, &shape, &mut partials, &mut out);
                    // A key next to the middle of two 16-bit values may round either way: f32 rotations differ in the last bit.
                    let bound = if format == Format::F32 { 5e-6 } else { 4e-3 };
                    let error = difference(&out, &truth);
                    assert!(error < bound, "{} {format} {shape:?}: {error}", ops.name());
                }
                position += queries;
            }
        }
    }
}

#[test]
fn sums_norms_and_activations_equal_candle() {
    let mut generator = StdRng::seed_from_u64(7);
    let truth_ops = TensorOperators::new(Device::Cpu);
    for (rows, width) in [(1, 64), (3, 100), (70, 576)] {
        let tensor = |values: &[f32]| Tensor::from_slice(values, (rows, width), &Device::Cpu).unwrap();
        let (a, b) = (random(&mut generator, rows * width), random(&mut generator, rows * width));
        let a: Vec<f32> = a.into_iter().map(|value| value * 20.0).collect();
        let weight = random(&mut generator, width);
        let weight_tensor = Tensor::from_slice(&weight, width, &Device::Cpu).unwrap();
        let sum = truth_ops.add(&tensor(&a), &tensor(&b)).unwrap();
        for ops in every_kernel() {
            let name = ops.name();
            let (mut residual, mut normed) = (a.clone(), vec![0.0; rows * width]);
            ops.add_rms_norm(&mut residual, &b, &weight, 1e-5, &mut normed);
            assert!(difference(&residual, &sum) < 1e-6, "{name}");
            assert!(difference(&normed, &truth_ops.rms_norm(&sum, &weight_tensor, 1e-5).unwrap()) < 2e-6, "{name}");
            let mut plain = a.clone();
            ops.add(&mut plain, &b, width);
            assert!(plain == residual, "{name}: one sum, whether normed or not");
            ops.rms_norm(&a, &weight, 1e-5, &mut normed);
            assert!(
                difference(&normed, &truth_ops.rms_norm(&tensor(&a), &weight_tensor, 1e-5).unwrap()) < 2e-6,
                "{name}"
            );
            let mut activated = b.clone();
            ops.silu_mul(&a, &mut activated, width);
            assert!(difference(&activated, &truth_ops.silu_mul(&tensor(&a), &tensor(&b)).unwrap()) < 2e-6, "{name}");
            // Norms of heads: the last 4 × 16 columns of each row, the others untouched.
            let mut heads = a.clone();
            ops.norm_heads(&mut heads, width, width - 64..width, &weight[..16], 1e-6);
            let head_weight = Tensor::from_slice(&weight[..16], 16, &Device::Cpu).unwrap();
            let truth = truth_ops.rms_norm(&columns(&a, width, width - 64..width), &head_weight, 1e-6).unwrap();
            let found: Vec<f32> = heads.chunks_exact(width).flat_map(|row| row[width - 64..].to_vec()).collect();
            assert!(difference(&found, &truth) < 2e-6, "{name}");
            for (row, before) in heads.chunks_exact(width).zip(a.chunks_exact(width)) {
                assert_eq!(row[..width - 64], before[..width - 64]);
            }
        }
    }
}

/// One NaN key, in a stretch of its own among many: every head of its group has it in the result.
#[test]
fn a_nan_in_the_cache_is_never_hidden() {
    let table = rope::table(&Rope { theta: 10_000.0, scaling: None }, 16, 400);
    for ops in every_kernel() {
        for (first, queries) in [(300, 1), (300, 2), (290, 20)] {
            let mut cache = BlockedCache::new(1, 1, 400, 16, Format::F32).unwrap();
            let shape = |position, queries| AttentionShape {
                batch: 1,
                queries,
                position,
                heads: 2,
                kv_heads: 1,
                head_dim: 16,
                window: None,
            };
            let mut rows = vec![0.5f32; first * 64];
            // Key 17 of the prompt.
            rows[17 * 64 + 32] = f32::NAN;
            ops.rope_write(&mut rows, &table, &mut cache, &shape(0, first)).unwrap();
            let mut rows = vec![0.5f32; queries * 64];
            let shape = shape(first, queries);
            ops.rope_write(&mut rows, &table, &mut cache, &shape).unwrap();
            let mut out = vec![0.0; queries * 32];
            ops.attention(&rows, &cache, &shape, &mut Vec::new(), &mut out);
            assert!(
                out.chunks_exact(16).all(|head| head.iter().any(|value| value.is_nan())),
                "{} {queries}",
                ops.name()
            );
        }
    }
}
