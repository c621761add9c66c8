//! Products of dense panels: f32, f16 and bf16 widened to f32, and bf16 by the CPU's own products.

#[cfg(target_arch = "x86_64")]
use super::super::simd::{Avx2, Avx512};
use super::super::simd::{Isa, Portable, Vector};
use crate::engine::ops::kernels::{Element, PREFETCH_BYTES, prefetch};

/// `M` dense panels, the tokens they are multiplied with, and where the results go.
#[derive(Clone, Copy)]
pub(super) struct DenseJob<const M: usize> {
    pub(super) values: [*const u8; M],
    pub(super) cols: usize,
    /// Activations of the first token, `cols` each (bf16: 32-bit pairs, half as many, rounded up).
    pub(super) x: *const u8,
    pub(super) tokens: usize,
    /// First result of each panel.
    pub(super) out: [*mut f32; M],
    /// Values between the results of two tokens.
    pub(super) stride: usize,
}

#[inline(always)]
unsafe fn tile<V: Vector, E: Element, const M: usize, const N: usize>(job: &DenseJob<M>, token: usize) {
    // SAFETY: the caller promises panels and activations of `cols` columns and room for the results.
    unsafe {
        let x = job.x.cast::<f32>().add(token * job.cols);
        let mut totals = [[V::splat(0.0); N]; M];
        for column in 0..job.cols {
            let mut weights = [V::splat(0.0); M];
            for (m, weights) in weights.iter_mut().enumerate() {
                let at = job.values[m].cast::<E>().add(column * V::LANES);
                if N <= 2 {
                    prefetch(at.cast::<u8>().wrapping_add(PREFETCH_BYTES));
                }
                *weights = E::load::<V>(at);
            }
            for n in 0..N {
                let value = V::splat(*x.add(n * job.cols + column));
                for m in 0..M {
                    totals[m][n] = weights[m].fma(value, totals[m][n]);
                }
            }
        }
        for (totals, out) in totals.iter().zip(job.out) {
            for (n, total) in totals.iter().enumerate() {
                total.store(out.add((token + n) * job.stride));
            }
        }
    }
}

/// All tokens of a job; `R` is 8 where there are 32 registers.
#[inline(always)]
unsafe fn panels<V: Vector, const R: usize, E: Element, const M: usize>(job: &DenseJob<M>) {
    let mut token = 0;
    // SAFETY: the caller's promise; tiles stay inside `tokens`.
    unsafe {
        if R == 8 {
            while token + 8 <= job.tokens {
                tile::<V, E, M, 8>(job, token);
                token += 8;
            }
        }
        while token + 4 <= job.tokens {
            tile::<V, E, M, 4>(job, token);
            token += 4;
        }
        while token + 2 <= job.tokens {
            tile::<V, E, M, 2>(job, token);
            token += 2;
        }
        if token < job.tokens {
            tile::<V, E, M, 1>(job, token);
        }
    }
}

/// Widening products of `E`.
///
/// # Safety
/// The CPU must have `isa`; the job's pointers must be good for its sizes, panels as high as the vectors of `isa`.
pub(super) unsafe fn dense<E: Element, const M: usize>(isa: Isa, job: &DenseJob<M>) {
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")]
    unsafe fn avx512<E: Element, const M: usize>(job: &DenseJob<M>) {
        // SAFETY: the caller's promise.
        unsafe { panels::<Avx512, 8, E, M>(job) }
    }
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn avx2<E: Element, const M: usize>(job: &DenseJob<M>) {
        // SAFETY: the caller's promise.
        unsafe { panels::<Avx2, 4, E, M>(job) }
    }
    match isa {
        // SAFETY: the caller's promise.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { avx512::<E, M>(job) },
        // SAFETY: the caller's promise.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { avx2::<E, M>(job) },
        // SAFETY: needs no instruction set.
        _ => unsafe { panels::<Portable, 4, E, M>(job) },
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) mod bf16 {
    #[allow(clippy::wildcard_imports, reason = "intrinsics of one prefix")]
    use std::arch::x86_64::*;

    use super::{DenseJob, PREFETCH_BYTES, prefetch};

    const ROWS: usize = 16;

    #[inline(always)]
    unsafe fn tile<const M: usize, const N: usize>(job: &DenseJob<M>, token: usize) {
        let pairs = job.cols.div_ceil(2);
        // SAFETY: the caller promises panels and activations of `pairs` pairs and room for the results; any bits are a `__m512bh`.
        unsafe {
            let x = job.x.cast::<i32>().add(token * pairs);
            let mut totals = [[_mm512_setzero_ps(); N]; M];
            for pair in 0..pairs {
                let mut weights = [_mm512_setzero_si512(); M];
                for (m, weights) in weights.iter_mut().enumerate() {
                    let at = job.values[m].add(pair * ROWS * 4);
                    if N <= 2 {
                        prefetch(at.wrapping_add(PREFETCH_BYTES));
                    }
                    *weights = _mm512_loadu_si512(at.cast());
                }
                for n in 0..N {
                    let value = _mm512_set1_epi32(*x.add(n * pairs + pair));
                    for m in 0..M {
                        totals[m][n] = _mm512_dpbf16_ps(
                            totals[m][n],
                            std::mem::transmute::<__m512i, __m512bh>(weights[m]),
                            std::mem::transmute::<__m512i, __m512bh>(value),
                        );
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

    /// Products of bf16 pairs.
    ///
    /// # Safety
    /// The CPU must have AVX-512 with BF16; the job's pointers must be good for its sizes.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx2,fma,f16c")]
    pub(in super::super) unsafe fn pairs<const M: usize>(job: &DenseJob<M>) {
        let mut token = 0;
        // SAFETY: the caller's promise; tiles stay inside `tokens`.
        unsafe {
            while token + 8 <= job.tokens {
                tile::<M, 8>(job, token);
                token += 8;
            }
            while token + 4 <= job.tokens {
                tile::<M, 4>(job, token);
                token += 4;
            }
            while token + 2 <= job.tokens {
                tile::<M, 2>(job, token);
                token += 2;
            }
            if token < job.tokens {
                tile::<M, 1>(job, token);
            }
        }
    }
}
