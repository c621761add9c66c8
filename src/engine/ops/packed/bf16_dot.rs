//! Products of bf16 by `vdpbf16ps`, on CPUs that have it without a tile unit (AMD from Zen 4 on).
//!
//! The same panels and activations as for tiles ([`super::amx`]), so that quantized weights can go this way too. One instruction adds two
//! products to each of 16 f32 sums; it rounds to nearest even and takes denormals for zero (Intel SDM, `VDPBF16PS`).

#[allow(clippy::wildcard_imports, reason = "intrinsics of one prefix")]
use std::arch::x86_64::*;

use super::dense::DenseJob;
use super::layout::{bf16_pitch, padded_pairs};
use crate::engine::ops::kernels::{PREFETCH_BYTES, prefetch};

/// Bytes of one pair of columns of a panel: 16 rows of two values.
const VECTOR: usize = 64;

/// Products of bf16, for any number of tokens.
///
/// # Safety
/// The CPU must have AVX-512 with BF16; the job's pointers must be good for its sizes, with widths padded (see [`padded_pairs`] and
/// [`bf16_pitch`]).
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx2,fma")]
pub(super) unsafe fn pairs<const M: usize>(job: &DenseJob<M>) {
    let mut token = 0;
    // SAFETY: the caller's promise; tiles stay inside `tokens`.
    unsafe {
        while token + 8 <= job.tokens {
            tile::<M, 8>(job, token);
            token += 8;
        }
        if token + 4 <= job.tokens {
            tile::<M, 4>(job, token);
            token += 4;
        }
        if token + 2 <= job.tokens {
            tile::<M, 2>(job, token);
            token += 2;
        }
        if token < job.tokens {
            tile::<M, 1>(job, token);
        }
    }
}

/// `M` panels times `N` tokens. Every result is the same chain of additions for every `M` and `N`; only what the instruction takes for zero, products and
/// sums below 2⁻¹²⁶, one or two tokens keep.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx2,fma")]
#[inline]
unsafe fn tile<const M: usize, const N: usize>(job: &DenseJob<M>, token: usize) {
    let row_bytes = bf16_pitch(job.cols) * 2;
    // SAFETY: the caller's promise; a prefetch never faults.
    unsafe {
        let x = job.x.add(token * row_bytes);
        let mut totals = [[_mm512_setzero_ps(); N]; M];
        for pair in 0..padded_pairs(job.cols) {
            let mut weights = [_mm512_setzero_si512(); M];
            for (weights, values) in weights.iter_mut().zip(job.values) {
                let at = values.add(pair * VECTOR);
                if N <= 2 {
                    prefetch(at.wrapping_add(PREFETCH_BYTES));
                }
                *weights = _mm512_loadu_si512(at.cast());
            }
            for n in 0..N {
                let both = _mm512_set1_epi32(x.add(n * row_bytes + pair * 4).cast::<i32>().read_unaligned());
                for m in 0..M {
                    totals[m][n] = if N <= 2 {
                        // Too few sums to hide the instruction's latency; widened, the same two products are added in the same order.
                        let sum = _mm512_fmadd_ps(second(weights[m]), second(both), totals[m][n]);
                        _mm512_fmadd_ps(first(weights[m]), first(both), sum)
                    } else {
                        _mm512_dpbf16_ps(
                            totals[m][n],
                            std::mem::transmute::<__m512i, __m512bh>(weights[m]),
                            std::mem::transmute::<__m512i, __m512bh>(both),
                        )
                    };
                }
            }
        }
        for (totals, out) in totals.iter().zip(job.out) {
            for (n, total) in totals.iter().enumerate() {
                _mm512_storeu_ps(out.add((token + n) * job.stride), *total);
            }
        }
    }
}

/// The first value of each pair as f32.
#[target_feature(enable = "avx512f")]
#[inline]
fn first(pairs: __m512i) -> __m512 {
    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(pairs))
}

/// The second value of each pair as f32.
#[target_feature(enable = "avx512f")]
#[inline]
fn second(pairs: __m512i) -> __m512 {
    _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(-0x1_0000)))
}
