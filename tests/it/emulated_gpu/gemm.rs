//! The matrix product of the emulated device.

use half::{bf16, f16};
use perfprof::engine::gpu::backend::{Gemm, HalfType};

/// Half values as f32.
pub(crate) fn decode(half: HalfType, bits: &[u16]) -> Vec<f32> {
    match half {
        HalfType::F16 => bits.iter().map(|bits| f16::from_bits(*bits).to_f32()).collect(),
        HalfType::BF16 => bits.iter().map(|bits| bf16::from_bits(*bits).to_f32()).collect(),
    }
}

fn encode(half: HalfType, value: f32) -> u16 {
    match half {
        HalfType::F16 => f16::from_f32(value).to_bits(),
        HalfType::BF16 => bf16::from_f32(value).to_bits(),
    }
}

/// Sum of products in eight running sums, which the compiler turns into vectors.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0_f32; 8];
    let (a_chunks, b_chunks) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a_chunks.zip(b_chunks) {
        for lane in 0..8 {
            sums[lane] += x[lane] * y[lane];
        }
    }
    sums.iter().sum::<f32>() + rest
}

/// Runs a product whose operands the caller has found to lie in live memory.
pub(crate) fn run(gemm: &Gemm) {
    let (m, n, k) = (gemm.m as usize, gemm.n as usize, gemm.k as usize);
    let stride = gemm.c_stride as usize;
    // SAFETY: the caller has checked addresses and lengths, and no launch runs at the same time.
    let (a, w) = unsafe {
        (
            std::slice::from_raw_parts(gemm.a.0 as *const u16, m * k),
            std::slice::from_raw_parts(gemm.w.0 as *const u16, n * k),
        )
    };
    let (a, w) = (decode(gemm.half, a), decode(gemm.half, w));
    for (row, a) in a.chunks_exact(k).enumerate() {
        for (column, w) in w.chunks_exact(k).enumerate() {
            let value = dot(a, w);
            let index = row * stride + column;
            // SAFETY: as above; `index` is below (m - 1) * stride + n.
            unsafe {
                if gemm.accumulate_f32 {
                    *(gemm.c.0 as *mut f32).add(index) += value;
                } else {
                    *(gemm.c.0 as *mut u16).add(index) = encode(gemm.half, value);
                }
            }
        }
    }
}
