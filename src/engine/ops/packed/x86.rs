//! The x86 instruction sets of [`blocks`](super::blocks), and what is compiled for each.

#[allow(clippy::wildcard_imports, reason = "some thirty intrinsics, all of one prefix")]
use std::arch::x86_64::*;

use super::blocks::{Integers, Job, NIBBLES, SIGNED, UNSIGNED, expand, panels};

/// AVX2 without VNNI.
#[derive(Clone, Copy)]
struct Avx2(__m256i);
/// AVX2 with AVX-VNNI.
#[derive(Clone, Copy)]
struct AvxVnni(__m256i);
/// AVX-512 with VNNI.
#[derive(Clone, Copy)]
struct Avx512Vnni(__m512i);

// SAFETY (all unsafe blocks of the implementations): the caller of an `Integers` method guarantees the instruction set and the pointers.
macro_rules! integers_256 {
    ($name:ident, |$sum:ident, $weights:ident, $activations:ident| $dot:expr) => {
        impl Integers for $name {
            type Floats = __m256;
            const ROWS: usize = 8;
            const TOKENS: usize = 3;
            #[inline(always)]
            unsafe fn splat(value: i32) -> Self {
                unsafe { Self(_mm256_set1_epi32(value)) }
            }
            #[inline(always)]
            unsafe fn load(from: *const u8) -> Self {
                unsafe { Self(_mm256_loadu_si256(from.cast())) }
            }
            #[inline(always)]
            unsafe fn store(self, to: *mut u8) {
                unsafe { _mm256_storeu_si256(to.cast(), self.0) }
            }
            #[inline(always)]
            unsafe fn low_nibbles(self) -> Self {
                unsafe { Self(_mm256_and_si256(self.0, _mm256_set1_epi8(15))) }
            }
            #[inline(always)]
            unsafe fn high_nibbles(self) -> Self {
                unsafe { Self(_mm256_and_si256(_mm256_srli_epi16::<4>(self.0), _mm256_set1_epi8(15))) }
            }
            #[inline(always)]
            unsafe fn dot<const SIGNED: bool>(self, weights: Self, activations: Self) -> Self {
                let $sum = self.0;
                // With signed weights: magnitudes times activations that carry the sign of the weight.
                let ($weights, $activations) = if SIGNED {
                    unsafe { (_mm256_abs_epi8(weights.0), _mm256_sign_epi8(activations.0, weights.0)) }
                } else {
                    (weights.0, activations.0)
                };
                Self(unsafe { $dot })
            }
            #[inline(always)]
            unsafe fn scaled(self, scale: __m256, offset: __m256) -> __m256 {
                unsafe { _mm256_fmadd_ps(_mm256_castsi256_ps(self.0), scale, offset) }
            }
            #[inline(always)]
            unsafe fn floats(value: f32) -> __m256 {
                unsafe { _mm256_set1_ps(value) }
            }
            #[inline(always)]
            unsafe fn load_f16(from: *const u8) -> __m256 {
                unsafe { _mm256_cvtph_ps(_mm_loadu_si128(from.cast())) }
            }
            #[inline(always)]
            unsafe fn fma(a: __m256, b: __m256, c: __m256) -> __m256 {
                unsafe { _mm256_fmadd_ps(a, b, c) }
            }
            #[inline(always)]
            unsafe fn store_floats(value: __m256, to: *mut f32) {
                unsafe { _mm256_storeu_ps(to, value) }
            }
        }
    };
}

integers_256!(Avx2, |sum, weights, activations| {
    // No pair of products leaves 16 bits: 2·15·127 for nibbles, 2·128·127 for magnitudes.
    let pairs = _mm256_maddubs_epi16(weights, activations);
    _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
});
integers_256!(AvxVnni, |sum, weights, activations| _mm256_dpbusd_avx_epi32(sum, weights, activations));

impl Integers for Avx512Vnni {
    type Floats = __m512;
    const ROWS: usize = 16;
    const TOKENS: usize = 6;
    #[inline(always)]
    unsafe fn splat(value: i32) -> Self {
        unsafe { Self(_mm512_set1_epi32(value)) }
    }
    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self {
        unsafe { Self(_mm512_loadu_si512(from.cast())) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut u8) {
        unsafe { _mm512_storeu_si512(to.cast(), self.0) }
    }
    #[inline(always)]
    unsafe fn low_nibbles(self) -> Self {
        unsafe { Self(_mm512_and_si512(self.0, _mm512_set1_epi8(15))) }
    }
    #[inline(always)]
    unsafe fn high_nibbles(self) -> Self {
        unsafe { Self(_mm512_and_si512(_mm512_srli_epi16::<4>(self.0), _mm512_set1_epi8(15))) }
    }
    #[inline(always)]
    unsafe fn dot<const SIGNED: bool>(self, weights: Self, activations: Self) -> Self {
        // Bytes are stored biased for these kernels; `tile` asks for signed ones only where they are stored so.
        unsafe { Self(_mm512_dpbusd_epi32(self.0, weights.0, activations.0)) }
    }
    #[inline(always)]
    unsafe fn scaled(self, scale: __m512, offset: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(_mm512_castsi512_ps(self.0), scale, offset) }
    }
    #[inline(always)]
    unsafe fn floats(value: f32) -> __m512 {
        unsafe { _mm512_set1_ps(value) }
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const u8) -> __m512 {
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
    }
    #[inline(always)]
    unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn store_floats(value: __m512, to: *mut f32) {
        unsafe { _mm512_storeu_ps(to, value) }
    }
}

/// The functions of one instruction set; all need that set, and jobs with good pointers.
macro_rules! compiled {
    ($module:ident, $vector:ident, $features:literal, $bytes:expr) => {
        pub(super) mod $module {
            use super::*;
            /// Panels of nibbles as stored.
            ///
            /// # Safety
            /// The CPU must have the instruction set; the job's pointers must be good for its sizes.
            #[target_feature(enable = $features)]
            pub(in super::super) unsafe fn nibbles<const M: usize, const MINIMA: bool>(job: &Job<M>) {
                // SAFETY: the caller's promise.
                unsafe { panels::<$vector, M, NIBBLES, MINIMA>(job) }
            }
            /// Panels of `q8_0` bytes.
            ///
            /// # Safety
            /// As [`nibbles`].
            #[target_feature(enable = $features)]
            pub(in super::super) unsafe fn bytes<const M: usize>(job: &Job<M>) {
                // SAFETY: the caller's promise.
                unsafe { panels::<$vector, M, { $bytes }, false>(job) }
            }
            /// Panels of nibbles after [`expand_nibbles`].
            ///
            /// # Safety
            /// As [`nibbles`].
            #[target_feature(enable = $features)]
            pub(in super::super) unsafe fn expanded<const M: usize, const MINIMA: bool>(job: &Job<M>) {
                // SAFETY: the caller's promise.
                unsafe { panels::<$vector, M, UNSIGNED, MINIMA>(job) }
            }
            /// Nibbles of a panel to bytes.
            ///
            /// # Safety
            /// As [`expand`].
            #[target_feature(enable = $features)]
            pub(in super::super) unsafe fn expand_nibbles(from: *const u8, blocks: usize, to: *mut u8) {
                // SAFETY: the caller's promise.
                unsafe { expand::<$vector>(from, blocks, to) }
            }
        }
    };
}

compiled!(avx2, Avx2, "avx2,fma,f16c", SIGNED);
compiled!(avx_vnni, AvxVnni, "avx2,fma,f16c,avxvnni", UNSIGNED);
compiled!(avx512_vnni, Avx512Vnni, "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c", UNSIGNED);
