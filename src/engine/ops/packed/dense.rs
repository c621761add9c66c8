//! Products of dense panels: f32, and f16 and bf16 widened to f32.

#[cfg(target_arch = "x86_64")]
use super::super::simd::{Avx2, Avx512};
use super::super::simd::{Isa, Portable, Vector};
use crate::engine::ops::kernels::{self, Element, PREFETCH_BYTES, prefetch};
use crate::estimate::format::Format;

/// Widens `values` to f32.
///
/// # Safety
/// The CPU must have `isa`; `from` must hold as many values as `to`.
pub(super) unsafe fn widen(isa: Isa, format: Format, from: *const u8, to: &mut [f32]) {
    // SAFETY: the caller's promise; panels begin on cache lines.
    unsafe {
        match format {
            Format::BF16 => kernels::widen_bf16(isa, std::slice::from_raw_parts(from.cast(), to.len()), to),
            Format::F16 => kernels::widen_f16(isa, std::slice::from_raw_parts(from.cast(), to.len()), to),
            _ => unreachable!("only half-width formats are widened"),
        }
    }
}

/// `M` dense panels, the tokens they are multiplied with, and where the results go.
#[derive(Clone, Copy)]
pub(super) struct DenseJob<const M: usize> {
    pub(super) values: [*const u8; M],
    pub(super) cols: usize,
    /// Activations of the first token: f32, `cols` each, or for tiles bf16, `bf16_pitch` each.
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
        #[expect(clippy::cast_ptr_alignment, reason = "they come from a slice of f32")]
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
