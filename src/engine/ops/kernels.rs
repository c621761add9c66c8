//! CPU kernels over raw slices, written once over [`Vector`] and compiled for each instruction set.
//!
//! Layouts: activations are row-major `[rows, width]` f32; weights are row-major `[outer, inner]` as stored in the file; packed
//! activations ("panels") are `[inner][lanes]`, lanes being tokens. Nothing here allocates or knows about threads.

use std::sync::LazyLock;

use half::{bf16, f16};

#[cfg(target_arch = "x86_64")]
use super::simd::{Avx2, Avx512};
use super::simd::{Isa, Portable, Vector};

/// Largest number of vectors a panel is wide.
const PANEL_VECTORS: usize = 3;

/// Tokens in a full panel of `isa`.
pub(crate) fn panel_width(isa: Isa) -> usize {
    PANEL_VECTORS * lanes(isa)
}
/// f32 lanes of one vector.
pub(crate) fn lanes(isa: Isa) -> usize {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => Avx512::LANES,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => Avx2::LANES,
        _ => Portable::LANES,
    }
}
/// Weight rows in one register tile.
pub(crate) fn tile_rows(isa: Isa) -> usize {
    match isa {
        Isa::Avx512 => 8,
        _ => 4,
    }
}

/// Defines `$name(isa, …)`, which runs the generic `$generic` compiled for `isa`.
///
/// `F16C` tells the generic whether the hardware converts f16.
macro_rules! kernel {
    ($(#[$meta:meta])* fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $ret:ty)? = $generic:ident $(::<$($param:tt),*>)?) => {
        $(#[$meta])*
        /// # Safety
        /// `isa` must come from [`Isa::detect`] (or be lower); slices must have the lengths stated above.
        #[expect(clippy::too_many_arguments, clippy::allow_attributes, reason = "kernels take raw dimensions")]
        #[allow(unfulfilled_lint_expectations, reason = "some kernels have few arguments")]
        pub(crate) unsafe fn $name(isa: Isa, $($arg: $type),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")]
            #[allow(clippy::too_many_arguments)]
            unsafe fn avx512($($arg: $type),*) $(-> $ret)? {
                // SAFETY: the features are enabled; the rest is the caller's promise.
                unsafe { $generic::<Avx512, true, 8 $($(, $param)*)?>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            #[allow(clippy::too_many_arguments)]
            unsafe fn avx2($($arg: $type),*) $(-> $ret)? {
                // SAFETY: the features are enabled; the rest is the caller's promise.
                unsafe { $generic::<Avx2, true, 4 $($(, $param)*)?>($($arg),*) }
            }
            match isa {
                // SAFETY: the caller promises that the CPU has `isa`.
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512 => unsafe { avx512($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => unsafe { avx2($($arg),*) },
                // SAFETY: needs no instruction set.
                _ => unsafe { $generic::<Portable, false, 4 $($(, $param)*)?>($($arg),*) },
            }
        }
    };
}

/// A dense element type that loads as f32.
pub(crate) trait Element: Copy + Send + Sync {
    unsafe fn load<V: Vector>(from: *const Self) -> V;
    fn to_f32(self) -> f32;
    fn from_f32(value: f32) -> Self;
}
impl Element for f32 {
    #[inline(always)]
    unsafe fn load<V: Vector>(from: *const Self) -> V {
        // SAFETY: the caller's promise.
        unsafe { V::load(from) }
    }
    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }
    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        value
    }
}
impl Element for bf16 {
    #[inline(always)]
    unsafe fn load<V: Vector>(from: *const Self) -> V {
        // SAFETY: the caller's promise; bf16 is a transparent u16.
        unsafe { V::load_bf16(from.cast()) }
    }
    #[inline(always)]
    fn to_f32(self) -> f32 {
        self.to_f32()
    }
    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        Self::from_f32(value)
    }
}
impl Element for f16 {
    #[inline(always)]
    unsafe fn load<V: Vector>(from: *const Self) -> V {
        // SAFETY: the caller's promise; f16 is a transparent u16.
        unsafe { V::load_f16(from.cast()) }
    }
    #[inline(always)]
    fn to_f32(self) -> f32 {
        self.to_f32()
    }
    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        Self::from_f32(value)
    }
}

/// Dot product of one dense row with `x`.
#[inline(always)]
unsafe fn dot<V: Vector, E: Element>(row: *const E, x: *const f32, n: usize) -> f32 {
    // SAFETY: reads stay below `n`.
    unsafe {
        let mut sums = [V::splat(0.0); 4];
        let step = V::LANES * 4;
        let mut i = 0;
        while i + step <= n {
            let mut ahead = 0;
            while ahead < step * size_of::<E>() {
                prefetch(row.cast::<u8>().wrapping_add(i * size_of::<E>() + PREFETCH_BYTES + ahead));
                ahead += 64;
            }
            for (lane, sum) in sums.iter_mut().enumerate() {
                let at = i + lane * V::LANES;
                *sum = E::load::<V>(row.add(at)).fma(V::load(x.add(at)), *sum);
            }
            i += step;
        }
        while i + V::LANES <= n {
            sums[0] = E::load::<V>(row.add(i)).fma(V::load(x.add(i)), sums[0]);
            i += V::LANES;
        }
        let mut total = sums[0].add(sums[1]).add(sums[2].add(sums[3])).sum();
        while i < n {
            total += (*row.add(i)).to_f32() * *x.add(i);
            i += 1;
        }
        total
    }
}

#[inline(always)]
unsafe fn gemv_dense<V: Vector, const F16C: bool, const R: usize, E: Element>(rows: &[E], x: &[f32], out: &mut [f32]) {
    let inner = x.len();
    for (row, out) in rows.chunks_exact(inner).zip(out) {
        // SAFETY: `row` and `x` have `inner` elements.
        *out = unsafe { dot::<V, E>(row.as_ptr(), x.as_ptr(), inner) };
    }
}
kernel!(
    /// `out[r] = rows[r] · x` for f32 rows of `x.len()` values.
    fn gemv_f32(rows: &[f32], x: &[f32], out: &mut [f32]) = gemv_dense::<f32>
);
kernel!(
    /// `out[r] = rows[r] · x` for bf16 rows.
    fn gemv_bf16(rows: &[bf16], x: &[f32], out: &mut [f32]) = gemv_dense::<bf16>
);
kernel!(
    /// `out[r] = rows[r] · x` for f16 rows.
    fn gemv_f16(rows: &[f16], x: &[f32], out: &mut [f32]) = gemv_dense::<f16>
);

/// How far ahead of a row weights are asked for: the hardware prefetcher alone leaves a third of the bandwidth unused.
const PREFETCH_BYTES: usize = 8192;

/// Asks for the cache line at `at`, which need not be readable.
#[inline(always)]
fn prefetch<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch never faults.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

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
unsafe fn gemv_quantized<V: Vector, const F16C: bool, const R: usize, Q: QuantBlock>(
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
unsafe fn dequantize_blocks<V: Vector, const F16C: bool, const R: usize, Q: QuantBlock>(
    blocks: &[u8],
    out: &mut [f32],
) {
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

#[inline(always)]
unsafe fn widen<V: Vector, const F16C: bool, const R: usize, E: Element>(values: &[E], out: &mut [f32]) {
    let n = values.len().min(out.len());
    let mut i = 0;
    // SAFETY: reads and writes stay below `n`.
    unsafe {
        while i + V::LANES <= n {
            E::load::<V>(values.as_ptr().add(i)).store(out.as_mut_ptr().add(i));
            i += V::LANES;
        }
    }
    for j in i..n {
        out[j] = values[j].to_f32();
    }
}
kernel!(
    /// bf16 to f32.
    fn widen_bf16(values: &[bf16], out: &mut [f32]) = widen::<bf16>
);
kernel!(
    /// f16 to f32.
    fn widen_f16(values: &[f16], out: &mut [f32]) = widen::<f16>
);

/// The register tile: `R` rows of `a` times a panel of `NV` vectors, over `k` steps.
#[inline(always)]
unsafe fn tile<V: Vector, const R: usize, const NV: usize>(
    a: *const f32,
    a_row: usize,
    a_k: usize,
    k: usize,
    b: *const f32,
    b_k: usize,
    c: *mut f32,
    c_row: usize,
    accumulate: bool,
) {
    // SAFETY: the caller promises `a`, `b` and `c` of these strides and extents.
    unsafe {
        let mut sums = [[V::splat(0.0); NV]; R];
        if accumulate {
            for (r, row) in sums.iter_mut().enumerate() {
                for (v, sum) in row.iter_mut().enumerate() {
                    *sum = V::load(c.add(r * c_row + v * V::LANES));
                }
            }
        }
        for step in 0..k {
            let mut columns = [V::splat(0.0); NV];
            for (v, column) in columns.iter_mut().enumerate() {
                *column = V::load(b.add(step * b_k + v * V::LANES));
            }
            for (r, row) in sums.iter_mut().enumerate() {
                let value = V::splat(*a.add(r * a_row + step * a_k));
                for (sum, column) in row.iter_mut().zip(columns) {
                    *sum = value.fma(column, *sum);
                }
            }
        }
        for (r, row) in sums.iter().enumerate() {
            for (v, sum) in row.iter().enumerate() {
                sum.store(c.add(r * c_row + v * V::LANES));
            }
        }
    }
}

/// Strides of the left operand of [`gemm_panel`]: row `r`, step `k` is at `r·row + k·step`.
#[derive(Clone, Copy)]
pub(crate) struct Strides {
    pub(crate) row: usize,
    pub(crate) step: usize,
}

#[inline(always)]
unsafe fn panel<V: Vector, const F16C: bool, const R: usize>(
    a: *const f32,
    strides: Strides,
    rows: usize,
    k: usize,
    b: *const f32,
    width: usize,
    c: *mut f32,
    accumulate: bool,
) {
    // SAFETY: tiles stay inside `rows` × `width`; `width` is a whole number of vectors, at most `PANEL_VECTORS`.
    unsafe {
        let mut r = 0;
        while r < rows {
            let left = a.add(r * strides.row);
            let out = c.add(r * width);
            if r + R <= rows {
                match width / V::LANES {
                    1 => tile::<V, R, 1>(left, strides.row, strides.step, k, b, width, out, width, accumulate),
                    2 => tile::<V, R, 2>(left, strides.row, strides.step, k, b, width, out, width, accumulate),
                    _ => tile::<V, R, 3>(left, strides.row, strides.step, k, b, width, out, width, accumulate),
                }
                r += R;
            } else {
                match width / V::LANES {
                    1 => tile::<V, 1, 1>(left, strides.row, strides.step, k, b, width, out, width, accumulate),
                    2 => tile::<V, 1, 2>(left, strides.row, strides.step, k, b, width, out, width, accumulate),
                    _ => tile::<V, 1, 3>(left, strides.row, strides.step, k, b, width, out, width, accumulate),
                }
                r += 1;
            }
        }
    }
}
kernel!(
    /// `c[rows × width] (+)= a[rows × k] · b[k × width]`, with `b` and `c` dense and `a` strided. `width` is 1, 2 or 3 vectors.
    ///
    /// The lanes of `b` are tokens and `a` is read one value at a time, so weights need no repacking: they are used as they lie in
    /// memory, each value broadcast once for all tokens of the panel.
    fn gemm_panel(
        a: *const f32,
        strides: Strides,
        rows: usize,
        k: usize,
        b: *const f32,
        width: usize,
        c: *mut f32,
        accumulate: bool,
    ) = panel
);

#[inline(always)]
unsafe fn rms_norm_rows<V: Vector, const F16C: bool, const R: usize>(
    x: &[f32],
    weight: &[f32],
    eps: f32,
    out: &mut [f32],
) {
    let width = weight.len();
    for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
        // SAFETY: indices stay below `width`.
        unsafe {
            let mut sums = [V::splat(0.0); 2];
            let mut i = 0;
            while i + 2 * V::LANES <= width {
                let (a, b) = (V::load(x.as_ptr().add(i)), V::load(x.as_ptr().add(i + V::LANES)));
                sums = [a.fma(a, sums[0]), b.fma(b, sums[1])];
                i += 2 * V::LANES;
            }
            let mut square = sums[0].add(sums[1]).sum();
            for value in &x[i..] {
                square += value * value;
            }
            let factor = 1.0 / (square / width as f32 + eps).sqrt();
            let scale = V::splat(factor);
            let mut i = 0;
            while i + V::LANES <= width {
                V::load(x.as_ptr().add(i))
                    .mul(scale)
                    .mul(V::load(weight.as_ptr().add(i)))
                    .store(out.as_mut_ptr().add(i));
                i += V::LANES;
            }
            for j in i..width {
                out[j] = x[j] * factor * weight[j];
            }
        }
    }
}
kernel!(
    /// RMS norm of each row of `weight.len()` values: `x / sqrt(mean(x²) + eps) × weight`.
    fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) = rms_norm_rows
);

#[inline(always)]
unsafe fn silu_mul_values<V: Vector, const F16C: bool, const R: usize>(gate: &[f32], up: &[f32], out: &mut [f32]) {
    let n = out.len().min(gate.len()).min(up.len());
    let mut i = 0;
    // SAFETY: indices stay below `n`.
    unsafe {
        while i + V::LANES <= n {
            let g = V::load(gate.as_ptr().add(i));
            let e = V::splat(0.0).sub(g).exp();
            g.div(V::splat(1.0).add(e)).mul(V::load(up.as_ptr().add(i))).store(out.as_mut_ptr().add(i));
            i += V::LANES;
        }
    }
    for j in i..n {
        out[j] = gate[j] / (1.0 + (-gate[j]).exp()) * up[j];
    }
}
kernel!(
    /// `silu(gate) × up`, silu(x) = x / (1 + e^−x).
    fn silu_mul(gate: &[f32], up: &[f32], out: &mut [f32]) = silu_mul_values
);

#[inline(always)]
unsafe fn add_values<V: Vector, const F16C: bool, const R: usize>(a: &[f32], b: &[f32], out: &mut [f32]) {
    for ((a, b), out) in a.iter().zip(b).zip(out) {
        *out = a + b;
    }
}
kernel!(
    /// `a + b`.
    fn add(a: &[f32], b: &[f32], out: &mut [f32]) = add_values
);

#[inline(always)]
unsafe fn rope_heads<V: Vector, const F16C: bool, const R: usize>(
    x: &[f32],
    head_dim: usize,
    cos: &[f32],
    sin: &[f32],
    out: &mut [f32],
) {
    let half = head_dim / 2;
    for (x, out) in x.chunks_exact(head_dim).zip(out.chunks_exact_mut(head_dim)) {
        let (low, high) = x.split_at(half);
        let (out_low, out_high) = out.split_at_mut(half);
        for i in 0..half {
            out_low[i] = low[i] * cos[i] - high[i] * sin[i];
            out_high[i] = high[i] * cos[i] + low[i] * sin[i];
        }
    }
}
kernel!(
    /// Half-rotation RoPE of every head of one token; `cos` and `sin` hold head_dim / 2 values of its position.
    fn rope(x: &[f32], head_dim: usize, cos: &[f32], sin: &[f32], out: &mut [f32]) = rope_heads
);

#[inline(always)]
unsafe fn softmax_lanes<V: Vector, const F16C: bool, const R: usize>(
    scores: &mut [f32],
    width: usize,
    scale: f32,
    first: &[u32],
    last: &[u32],
    sums: &mut [f32],
) {
    let positions = scores.len() / width;
    // Mask first: a lane sees positions first[lane]..=last[lane] of the buffer. Only the edges of the buffer can be masked.
    let (common_first, common_last) =
        (first.iter().copied().max().unwrap_or(0) as usize, last.iter().copied().min().unwrap_or(0) as usize);
    for position in (0..positions).filter(|position| *position < common_first || *position > common_last) {
        for lane in 0..width {
            if position < first[lane] as usize || position > last[lane] as usize {
                scores[position * width + lane] = f32::NEG_INFINITY;
            }
        }
    }
    // SAFETY: indices stay inside `positions` × `width`, `width` is a whole number of vectors.
    unsafe {
        let mut v = 0;
        while v < width {
            let at = |position: usize| position * width + v;
            let mut largest = V::splat(f32::MIN);
            for position in 0..positions {
                largest = largest.max(V::load(scores.as_ptr().add(at(position))));
            }
            let scale = V::splat(scale);
            let shift = V::splat(0.0).sub(largest.mul(scale));
            let mut total = V::splat(0.0);
            for position in 0..positions {
                let weight = V::load(scores.as_ptr().add(at(position))).fma(scale, shift).exp();
                total = total.add(weight);
                weight.store(scores.as_mut_ptr().add(at(position)));
            }
            total.store(sums.as_mut_ptr().add(v));
            v += V::LANES;
        }
    }
}
kernel!(
    /// Unnormalised softmax down each lane of `scores[position][lane]`, times `scale`; lanes see `first..=last`; `sums` gets the
    /// denominators.
    fn softmax(scores: &mut [f32], width: usize, scale: f32, first: &[u32], last: &[u32], sums: &mut [f32]) = softmax_lanes
);

/// One query against a stretch of the cache: what [`attend`] writes per query head.
pub(crate) struct Partial<'a> {
    /// Largest scaled score.
    pub(crate) largest: &'a mut f32,
    /// Sum of the weights relative to `largest`.
    pub(crate) sum: &'a mut f32,
    /// Weighted sum of values, head_dim long.
    pub(crate) values: &'a mut [f32],
}

#[inline(always)]
unsafe fn attend_one<V: Vector, const F16C: bool, const R: usize, E: Element>(
    query: &[f32],
    keys: &[E],
    values: &[E],
    scale: f32,
    scores: &mut [f32],
    out: Partial<'_>,
) {
    let head_dim = query.len();
    let positions = keys.len() / head_dim;
    // SAFETY: `keys` and `values` hold `positions` × `head_dim` elements, `scores` at least `positions` + one vector.
    unsafe {
        let mut largest = f32::NEG_INFINITY;
        for (position, score) in scores[..positions].iter_mut().enumerate() {
            *score = dot::<V, E>(keys.as_ptr().add(position * head_dim), query.as_ptr(), head_dim) * scale;
            largest = largest.max(*score);
        }
        let mut sum = 0.0;
        let mut i = 0;
        let shift = V::splat(largest);
        let mut sums = V::splat(0.0);
        while i + V::LANES <= positions {
            let weight = V::load(scores.as_ptr().add(i)).sub(shift).exp();
            sums = sums.add(weight);
            weight.store(scores.as_mut_ptr().add(i));
            i += V::LANES;
        }
        for score in &mut scores[i..positions] {
            *score = (*score - largest).exp();
            sum += *score;
        }
        *out.largest = largest;
        *out.sum = sum + sums.sum();
        let mut d = 0;
        while d + 4 * V::LANES <= head_dim {
            weigh::<V, E, 4>(&scores[..positions], values, head_dim, d, out.values);
            d += 4 * V::LANES;
        }
        while d + V::LANES <= head_dim {
            weigh::<V, E, 1>(&scores[..positions], values, head_dim, d, out.values);
            d += V::LANES;
        }
        for d in d..head_dim {
            out.values[d] =
                scores[..positions].iter().enumerate().map(|(p, w)| w * values[p * head_dim + d].to_f32()).sum();
        }
    }
}
/// Σ weight × value over the positions, for `N` vectors from column `d`.
#[inline(always)]
unsafe fn weigh<V: Vector, E: Element, const N: usize>(
    weights: &[f32],
    values: &[E],
    head_dim: usize,
    d: usize,
    out: &mut [f32],
) {
    // SAFETY: `values` holds `weights.len()` rows of `head_dim`, and d + N vectors lie inside a row.
    unsafe {
        // Two sets of sums, or the latency of the fused multiply-add sets the pace.
        let mut sums = [[V::splat(0.0); N]; 2];
        for (position, weight) in weights.iter().enumerate() {
            let weight = V::splat(*weight);
            for (v, sum) in sums[position & 1].iter_mut().enumerate() {
                *sum = weight.fma(E::load::<V>(values.as_ptr().add(position * head_dim + d + v * V::LANES)), *sum);
            }
        }
        for v in 0..N {
            sums[0][v].add(sums[1][v]).store(out.as_mut_ptr().add(d + v * V::LANES));
        }
    }
}
kernel!(
    /// One query head against a stretch of an f32 cache; `scores` is scratch of one value per position.
    fn attend_f32(query: &[f32], keys: &[f32], values: &[f32], scale: f32, scores: &mut [f32], out: Partial<'_>) = attend_one::<f32>
);
kernel!(
    /// As [`attend_f32`] over a bf16 cache.
    fn attend_bf16(query: &[f32], keys: &[bf16], values: &[bf16], scale: f32, scores: &mut [f32], out: Partial<'_>) = attend_one::<bf16>
);
kernel!(
    /// As [`attend_f32`] over an f16 cache.
    fn attend_f16(query: &[f32], keys: &[f16], values: &[f16], scale: f32, scores: &mut [f32], out: Partial<'_>) = attend_one::<f16>
);
