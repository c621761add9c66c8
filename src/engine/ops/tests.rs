//! The CPU kernels against plain candle operations, in every instruction set this machine has.

use std::sync::Arc;

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::cpu::CpuOperators;
use super::simd::Isa;
use super::tensor::TensorOperators;
use super::{AttentionShape, Operators, RopeTable};
use crate::engine::models::rope;
use crate::engine::threads::ThreadPool;
use crate::engine::weights::Weight;
use crate::estimate::architecture::Rope;
use crate::estimate::format::Format;

fn random(generator: &mut StdRng, dims: &[usize]) -> Tensor {
    let len = dims.iter().product::<usize>();
    let values: Vec<f32> = (0..len).map(|_| generator.random_range(-1.0f32..1.0)).collect();
    Tensor::from_vec(values, dims, &Device::Cpu).unwrap()
}

fn every_isa() -> Vec<CpuOperators> {
    [Isa::Portable, Isa::Avx2, Isa::Avx512]
        .into_iter()
        .filter(|isa| *isa <= Isa::detect())
        .flat_map(|isa| [1, 3].map(|threads| CpuOperators::with_isa(Arc::new(ThreadPool::new(threads).unwrap()), isa)))
        .collect()
}

/// Largest difference relative to the largest value of the truth.
fn difference(got: &Tensor, truth: &Tensor) -> f32 {
    assert_eq!(got.dims(), truth.dims());
    let largest = truth.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
    let error = (got - truth).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
    error / largest
}

#[test]
fn linear_equals_candle_for_every_format_and_number_of_rows() {
    let mut generator = StdRng::seed_from_u64(1);
    let formats = [
        None,
        Some(GgmlDType::Q8_0),
        Some(GgmlDType::Q4_0),
        Some(GgmlDType::Q4_1),
        Some(GgmlDType::Q5_0),
        Some(GgmlDType::Q5_1),
        Some(GgmlDType::Q4K),
        Some(GgmlDType::Q6K),
    ];
    let operators = every_isa();
    for (outer, inner) in [(70, 256), (5, 512), (129, 768)] {
        let dense = random(&mut generator, &[outer, inner]);
        for format in formats {
            let weight = match format {
                None => Weight::Dense(dense.clone()),
                Some(format) => Weight::Quantized(Arc::new(QTensor::quantize(&dense, format).unwrap())),
            };
            // The truth: dequantized weights in f64.
            let truth_weight = match &weight {
                Weight::Dense(tensor) => tensor.clone(),
                Weight::Quantized(tensor) => tensor.dequantize(&Device::Cpu).unwrap(),
            };
            let truth_weight = truth_weight.to_dtype(DType::F64).unwrap();
            for rows in [1, 2, 7, 8, 9, 16, 47, 48, 49, 100] {
                let x = random(&mut generator, &[rows, inner]);
                let truth = x.to_dtype(DType::F64).unwrap().matmul(&truth_weight.t().unwrap()).unwrap();
                let truth = truth.to_dtype(DType::F32).unwrap();
                for ops in &operators {
                    let got = ops.linear(&x, &weight, None).unwrap();
                    // Candle's own k-quant and q5 dot products quantize the activations to 8 bits; ours do not quantize them.
                    let own = matches!(weight.format(), Format::F32 | Format::Q8_0 | Format::Q4_0 | Format::Q4_1);
                    let tolerance = if own || rows > 1 { 2e-6 } else { 5e-2 };
                    let error = difference(&got, &truth);
                    assert!(error < tolerance, "{} {:?} {rows}×{inner}→{outer}: {error}", ops.name(), weight.format());
                }
            }
        }
    }
}

#[test]
fn half_precision_weights_are_widened_exactly() {
    let mut generator = StdRng::seed_from_u64(2);
    for dtype in [DType::BF16, DType::F16] {
        let weight = random(&mut generator, &[37, 200]).to_dtype(dtype).unwrap();
        let truth_weight = weight.to_dtype(DType::F64).unwrap();
        for rows in [1, 5, 33] {
            let x = random(&mut generator, &[rows, 200]);
            let truth = x.to_dtype(DType::F64).unwrap().matmul(&truth_weight.t().unwrap()).unwrap();
            let truth = truth.to_dtype(DType::F32).unwrap();
            for ops in every_isa() {
                let got = ops.linear(&x, &Weight::Dense(weight.clone()), None).unwrap();
                assert!(difference(&got, &truth) < 2e-6, "{} {dtype:?} {rows}", ops.name());
            }
        }
    }
}

#[test]
fn a_wide_inner_dimension_is_summed_over_all_its_blocks() {
    let mut generator = StdRng::seed_from_u64(3);
    let weight = random(&mut generator, &[16, 5000]);
    let x = random(&mut generator, &[20, 5000]);
    let truth = x.to_dtype(DType::F64).unwrap().matmul(&weight.t().unwrap().to_dtype(DType::F64).unwrap()).unwrap();
    let truth = truth.to_dtype(DType::F32).unwrap();
    for ops in every_isa() {
        let got = ops.linear(&x, &Weight::Dense(weight.clone()), None).unwrap();
        assert!(difference(&got, &truth) < 5e-6, "{}", ops.name());
    }
}

#[test]
fn elementwise_operators_equal_candle() {
    let mut generator = StdRng::seed_from_u64(4);
    let truth_ops = TensorOperators::new(Device::Cpu);
    for (rows, width) in [(1, 64), (3, 100), (70, 576)] {
        let a = (random(&mut generator, &[rows, width]) * 20.0).unwrap();
        let b = random(&mut generator, &[rows, width]);
        let weight = random(&mut generator, &[width]);
        for ops in every_isa() {
            let name = ops.name();
            let pairs = [
                (ops.silu_mul(&a, &b).unwrap(), truth_ops.silu_mul(&a, &b).unwrap()),
                (ops.add(&a, &b).unwrap(), truth_ops.add(&a, &b).unwrap()),
                (ops.rms_norm(&a, &weight, 1e-5).unwrap(), truth_ops.rms_norm(&a, &weight, 1e-5).unwrap()),
            ];
            for (index, (got, truth)) in pairs.iter().enumerate() {
                assert!(difference(got, truth) < 2e-6, "{name} operator {index} {rows}×{width}");
            }
        }
    }
}

#[test]
fn biases_are_added_and_embeddings_are_rows() {
    let mut generator = StdRng::seed_from_u64(5);
    let truth_ops = TensorOperators::new(Device::Cpu);
    let table = random(&mut generator, &[50, 64]);
    let quantized = Weight::Quantized(Arc::new(QTensor::quantize(&table, GgmlDType::Q8_0).unwrap()));
    let ids = Tensor::new(&[[3u32, 49, 0]], &Device::Cpu).unwrap();
    let bias = random(&mut generator, &[50]);
    for ops in every_isa() {
        for weight in [&Weight::Dense(table.clone()), &quantized] {
            let got = ops.embedding(weight, &ids).unwrap();
            assert!(difference(&got, &truth_ops.embedding(weight, &ids).unwrap()) < 1e-6);
        }
        let x = random(&mut generator, &[4, 64]);
        let weight = Weight::Dense(table.clone());
        let got = ops.linear(&x, &weight, Some(&bias)).unwrap();
        assert!(difference(&got, &truth_ops.linear(&x, &weight, Some(&bias)).unwrap()) < 2e-6);
        let outside = Tensor::new(&[[50u32]], &Device::Cpu).unwrap();
        assert!(ops.embedding(&weight, &outside).unwrap_err().to_string().contains("token 50"));
    }
}

/// Prefill in two parts, then decode steps, with GQA, batches, windows and every cache format.
#[test]
fn attention_over_the_cache_equals_candle() {
    let mut generator = StdRng::seed_from_u64(6);
    let truth_ops = TensorOperators::new(Device::Cpu);
    let cases = [(1, 9, 3, 64, None), (2, 4, 4, 32, None), (1, 8, 2, 80, Some(37)), (3, 6, 1, 16, Some(5))];
    for (batch, heads, kv_heads, head_dim, window) in cases {
        let table: RopeTable = rope::table(&Rope { theta: 10_000.0, scaling: None }, head_dim, 700);
        for format in [Format::F32, Format::BF16, Format::F16] {
            for ops in every_isa() {
                let mut cache = ops.new_cache(batch, kv_heads, 700, head_dim, format).unwrap();
                let mut truth_cache = truth_ops.new_cache(batch, kv_heads, 700, head_dim, format).unwrap();
                let mut position = 0;
                for queries in [50, 3, 1, 1, 2, 270, 1] {
                    let shape = AttentionShape { batch, queries, position, heads, kv_heads, head_dim, window };
                    let rows = batch * queries;
                    let q = random(&mut generator, &[rows, heads * head_dim]);
                    let k = random(&mut generator, &[rows, kv_heads * head_dim]);
                    let v = random(&mut generator, &[rows, kv_heads * head_dim]);
                    let (q_got, k_got) = ops.rope(&q, &k, &table, &shape).unwrap();
                    let (q_truth, k_truth) = truth_ops.rope(&q, &k, &table, &shape).unwrap();
                    assert!(difference(&q_got, &q_truth) < 1e-6 && difference(&k_got, &k_truth) < 1e-6);
                    ops.write_kv(&mut cache, &k_truth, &v, &shape).unwrap();
                    truth_ops.write_kv(&mut truth_cache, &k_truth, &v, &shape).unwrap();
                    // Sharp scores, so that a wrong mask or maximum shows.
                    let q = (q_truth * 3.0).unwrap();
                    let got = ops.attention(&q, &cache, &shape).unwrap();
                    let truth = truth_ops.attention(&q, &truth_cache, &shape).unwrap();
                    let error = difference(&got, &truth);
                    assert!(error < 5e-6, "{} {format} b{batch} h{heads}/{kv_heads} {shape:?}: {error}", ops.name());
                    position += queries;
                }
            }
        }
    }
}

#[test]
fn writing_past_the_cache_is_refused() {
    for ops in every_isa() {
        let mut cache = ops.new_cache(1, 1, 4, 8, Format::F32).unwrap();
        let shape =
            AttentionShape { batch: 1, queries: 2, position: 3, heads: 1, kv_heads: 1, head_dim: 8, window: None };
        let x = Tensor::zeros((2, 8), DType::F32, &Device::Cpu).unwrap();
        assert!(ops.write_kv(&mut cache, &x, &x, &shape).unwrap_err().to_string().contains("room for 1 × 4"));
    }
}

#[test]
fn nan_is_never_hidden() {
    let x = Tensor::new(
        &[[f32::NAN, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]],
        &Device::Cpu,
    );
    let x = x.unwrap();
    let has_nan =
        |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().any(|value| value.is_nan());
    for ops in every_isa() {
        assert!(has_nan(&ops.silu_mul(&x, &x).unwrap()), "{}", ops.name());
        let mut cache = ops.new_cache(1, 1, 8, 16, Format::F32).unwrap();
        for queries in [1, 4] {
            let shape =
                AttentionShape { batch: 1, queries, position: 0, heads: 1, kv_heads: 1, head_dim: 16, window: None };
            let rows = Tensor::cat(&vec![&x; queries], 0).unwrap();
            let ones = rows.ones_like().unwrap();
            ops.write_kv(&mut cache, &rows, &ones, &shape).unwrap();
            assert!(has_nan(&ops.attention(&ones, &cache, &shape).unwrap()), "{} {queries}", ops.name());
        }
    }
}
