//! Kernels over quantized blocks: dot products with f32 activations, and conversion to f32.

#![allow(clippy::inline_always, reason = "a kernel must be inlined into the function that carries its target features")]

use std::sync::LazyLock;

use half::f16;

use super::kernels::{PREFETCH_BYTES, prefetch};
#[cfg(target_arch = "x86_64")]
use super::simd::{Avx2, Avx512};
use super::simd::{Isa, Portable, Vector};

/// Values in one block of the formats below.
pub(crate) const BLOCK: usize = 32;

/// f32 values of all f16 bit patterns. A conversion by instruction takes two of the vector ports that the products need; a load takes
/// none, and the scales of one model are few enough to stay in cache.
static F16_VALUES: LazyLock<Box<[f32]>> =
    LazyLock::new(|| (0..=u16::MAX).map(|bits| f16::from_bits(bits).to_f32()).collect());

/// The values of the little-endian f16 at `at`.
#[inline(always)]
unsafe fn scale(values: *const f32, at: *const u8) -> f32 {
    // SAFETY: the caller promises two readable bytes and the whole table.
    unsafe { *values.add(usize::from(at.cast::<u16>().read_unaligned())) }
}

/// A GGML format with blocks of 32 values `scale × q + minimum`, computed on directly.
pub(crate) trait QuantBlock {
    /// Bytes of one block.
    const BYTES: usize;
    /// The minimum: a multiple of the f16 at a byte offset; `None` where there is none.
    const MINIMUM: Option<(usize, f32)>;
    /// Σ q × x over one block, by lanes.
    unsafe fn products<V: Vector>(block: *const u8, x: *const f32) -> V;
    /// Writes the 32 values of one block.
    unsafe fn dequantize<V: Vector>(values: *const f32, block: *const u8, out: *mut f32);
}

/// `q8_0`: f16 scale, 32 × i8.
pub(crate) struct Q8_0;
/// `q4_0`: f16 scale, 32 nibbles with an offset of 8; the low nibbles come first.
pub(crate) struct Q4_0;
/// `q4_1`: f16 scale, f16 minimum, 32 nibbles.
pub(crate) struct Q4_1;

impl QuantBlock for Q8_0 {
    const BYTES: usize = 34;
    const MINIMUM: Option<(usize, f32)> = None;
    #[inline(always)]
    unsafe fn products<V: Vector>(block: *const u8, x: *const f32) -> V {
        // SAFETY: the caller's promise.
        unsafe {
            let q = block.add(2).cast::<i8>();
            let mut products = V::load_i8(q).mul(V::load(x));
            let mut i = V::LANES;
            while i < BLOCK {
                products = V::load_i8(q.add(i)).fma(V::load(x.add(i)), products);
                i += V::LANES;
            }
            products
        }
    }
    #[inline(always)]
    unsafe fn dequantize<V: Vector>(values: *const f32, block: *const u8, out: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe {
            let d = V::splat(scale(values, block));
            let mut i = 0;
            while i < BLOCK {
                V::load_i8(block.add(2 + i).cast()).mul(d).store(out.add(i));
                i += V::LANES;
            }
        }
    }
}

/// Σ nibble × x over one block of packed nibbles at `q`.
#[inline(always)]
unsafe fn nibble_products<V: Vector>(q: *const u8, x: *const f32) -> V {
    // SAFETY: the caller's promise.
    unsafe {
        let mut products = V::load_low_nibbles(q).mul(V::load(x));
        products = V::load_high_nibbles(q).fma(V::load(x.add(16)), products);
        let mut i = V::LANES;
        while i < 16 {
            products = V::load_low_nibbles(q.add(i)).fma(V::load(x.add(i)), products);
            products = V::load_high_nibbles(q.add(i)).fma(V::load(x.add(16 + i)), products);
            i += V::LANES;
        }
        products
    }
}
/// `nibble × d + m` over one block.
#[inline(always)]
unsafe fn nibble_values<V: Vector>(q: *const u8, d: f32, m: f32, out: *mut f32) {
    // SAFETY: the caller's promise.
    unsafe {
        let (d, m) = (V::splat(d), V::splat(m));
        let mut i = 0;
        while i < 16 {
            V::load_low_nibbles(q.add(i)).fma(d, m).store(out.add(i));
            V::load_high_nibbles(q.add(i)).fma(d, m).store(out.add(16 + i));
            i += V::LANES;
        }
    }
}

impl QuantBlock for Q4_0 {
    const BYTES: usize = 18;
    const MINIMUM: Option<(usize, f32)> = Some((0, -8.0));
    #[inline(always)]
    unsafe fn products<V: Vector>(block: *const u8, x: *const f32) -> V {
        // SAFETY: the caller's promise.
        unsafe { nibble_products::<V>(block.add(2), x) }
    }
    #[inline(always)]
    unsafe fn dequantize<V: Vector>(values: *const f32, block: *const u8, out: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe {
            let d = scale(values, block);
            nibble_values::<V>(block.add(2), d, -8.0 * d, out);
        }
    }
}

impl QuantBlock for Q4_1 {
    const BYTES: usize = 20;
    const MINIMUM: Option<(usize, f32)> = Some((2, 1.0));
    #[inline(always)]
    unsafe fn products<V: Vector>(block: *const u8, x: *const f32) -> V {
        // SAFETY: the caller's promise.
        unsafe { nibble_products::<V>(block.add(4), x) }
    }
    #[inline(always)]
    unsafe fn dequantize<V: Vector>(values: *const f32, block: *const u8, out: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { nibble_values::<V>(block.add(4), scale(values, block), scale(values, block.add(2)), out) }
    }
}

/// Blocks whose minima are collected before they are multiplied with the sums of the activations.
const MINIMA: usize = 64;

#[inline(always)]
unsafe fn gemv_quantized<V: Vector, const R: usize, Q: QuantBlock>(
    rows: &[u8],
    x: &[f32],
    x_sums: &[f32],
    out: &mut [f32],
) {
    let values = F16_VALUES.as_ptr();
    let row_bytes = x_sums.len() * Q::BYTES;
    let mut minima = [0.0f32; MINIMA];
    for (row, out) in rows.chunks_exact(row_bytes).zip(out) {
        let mut total = 0.0;
        for (part, sums) in x_sums.chunks(MINIMA).enumerate() {
            // SAFETY: `row` holds one block for each of `x_sums`, `x` 32 values for each; `part` of them lie behind.
            unsafe {
                let row = row.as_ptr().add(part * MINIMA * Q::BYTES);
                let x = x.as_ptr().add(part * MINIMA * BLOCK);
                // Two named sums, not an indexed array: an index known only at run time would keep them in memory.
                let (mut even, mut odd) = (V::splat(0.0), V::splat(0.0));
                let blocks = sums.len();
                let mut b = 0;
                while b + 2 <= blocks {
                    let (first, second) = (row.add(b * Q::BYTES), row.add((b + 1) * Q::BYTES));
                    prefetch(first.wrapping_add(PREFETCH_BYTES));
                    let products = Q::products::<V>(first, x.add(b * BLOCK));
                    even = products.fma(V::splat(scale(values, first)), even);
                    let products = Q::products::<V>(second, x.add((b + 1) * BLOCK));
                    odd = products.fma(V::splat(scale(values, second)), odd);
                    if let Some((at, _)) = Q::MINIMUM {
                        *minima.get_unchecked_mut(b) = scale(values, first.add(at));
                        *minima.get_unchecked_mut(b + 1) = scale(values, second.add(at));
                    }
                    b += 2;
                }
                if b < blocks {
                    let last = row.add(b * Q::BYTES);
                    even = Q::products::<V>(last, x.add(b * BLOCK)).fma(V::splat(scale(values, last)), even);
                    if let Some((at, _)) = Q::MINIMUM {
                        minima[b] = scale(values, last.add(at));
                    }
                }
                let sum = even.add(odd);
                total += match Q::MINIMUM {
                    // The lanes of the minima join those of the products, so that one reduction does for both.
                    Some((_, factor)) => add_minima(sum, &minima[..blocks], sums, factor),
                    None => sum.sum(),
                };
            }
        }
        *out = total;
    }
}

/// Σ lanes of `sum` + factor × minima · sums.
#[inline(always)]
unsafe fn add_minima<V: Vector>(sum: V, minima: &[f32], sums: &[f32], factor: f32) -> f32 {
    // SAFETY: indices stay below the common length.
    unsafe {
        let mut lanes = V::splat(0.0);
        let mut i = 0;
        while i + V::LANES <= minima.len() {
            lanes = V::load(minima.as_ptr().add(i)).fma(V::load(sums.as_ptr().add(i)), lanes);
            i += V::LANES;
        }
        let rest: f32 = minima[i..].iter().zip(&sums[i..]).map(|(minimum, sum)| minimum * sum).sum();
        lanes.fma(V::splat(factor), sum).sum() + rest * factor
    }
}
kernel!(
    /// `out[r] = rows[r] · x` for q8_0 rows; `x_sums[b]` is the sum of activations 32·b..32·(b+1).
    fn gemv_q8_0(rows: &[u8], x: &[f32], x_sums: &[f32], out: &mut [f32]) = gemv_quantized::<Q8_0>
);
kernel!(
    /// `out[r] = rows[r] · x` for q4_0 rows.
    fn gemv_q4_0(rows: &[u8], x: &[f32], x_sums: &[f32], out: &mut [f32]) = gemv_quantized::<Q4_0>
);
kernel!(
    /// `out[r] = rows[r] · x` for q4_1 rows.
    fn gemv_q4_1(rows: &[u8], x: &[f32], x_sums: &[f32], out: &mut [f32]) = gemv_quantized::<Q4_1>
);

#[inline(always)]
unsafe fn dequantize_blocks<V: Vector, const R: usize, Q: QuantBlock>(blocks: &[u8], out: &mut [f32]) {
    for (block, out) in blocks.chunks_exact(Q::BYTES).zip(out.chunks_exact_mut(BLOCK)) {
        // SAFETY: both chunks have the size of a block.
        unsafe { Q::dequantize::<V>(F16_VALUES.as_ptr(), block.as_ptr(), out.as_mut_ptr()) }
    }
}
kernel!(
    /// Values of q8_0 blocks.
    fn dequantize_q8_0(blocks: &[u8], out: &mut [f32]) = dequantize_blocks::<Q8_0>
);
kernel!(
    /// Values of q4_0 blocks.
    fn dequantize_q4_0(blocks: &[u8], out: &mut [f32]) = dequantize_blocks::<Q4_0>
);
kernel!(
    /// Values of q4_1 blocks.
    fn dequantize_q4_1(blocks: &[u8], out: &mut [f32]) = dequantize_blocks::<Q4_1>
);
