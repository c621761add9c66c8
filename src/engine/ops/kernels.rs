//! CPU kernels over raw slices, written once over [`Vector`] and compiled for each instruction set.
//!
//! Layouts: activations are row-major `[rows, width]` f32; weights are row-major `[outer, inner]` as stored in the file; packed
//! activations ("panels") are `[inner][lanes]`, lanes being tokens. Nothing here allocates or knows about threads.

#![allow(clippy::inline_always, reason = "a kernel must be inlined into the function that carries its target features")]
#![allow(clippy::too_many_arguments, reason = "kernels take raw dimensions")]
#![allow(clippy::needless_pass_by_value, reason = "the dispatching macro hands arguments on")]

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
unsafe fn gemv_dense<V: Vector, const R: usize, E: Element>(rows: &[E], x: &[f32], out: &mut [f32]) {
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
pub(super) const PREFETCH_BYTES: usize = 8192;

/// Asks for the cache line at `at`, which need not be readable.
#[inline(always)]
pub(super) fn prefetch<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch never faults.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

#[inline(always)]
unsafe fn widen<V: Vector, const R: usize, E: Element>(values: &[E], out: &mut [f32]) {
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
unsafe fn panel<V: Vector, const R: usize>(
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
unsafe fn rms_norm_rows<V: Vector, const R: usize>(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
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
unsafe fn silu_mul_values<V: Vector, const R: usize>(gate: &[f32], up: &[f32], out: &mut [f32]) {
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
unsafe fn add_values<V: Vector, const R: usize>(a: &[f32], b: &[f32], out: &mut [f32]) {
    for ((a, b), out) in a.iter().zip(b).zip(out) {
        *out = a + b;
    }
}
kernel!(
    /// `a + b`.
    fn add(a: &[f32], b: &[f32], out: &mut [f32]) = add_values
);

#[inline(always)]
unsafe fn rope_heads<V: Vector, const R: usize>(x: &[f32], head_dim: usize, cos: &[f32], sin: &[f32], out: &mut [f32]) {
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
unsafe fn softmax_lanes<V: Vector, const R: usize>(
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
unsafe fn attend_one<V: Vector, const R: usize, E: Element>(
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
        let [even, odd] = sums;
        for (v, (even, odd)) in even.into_iter().zip(odd).enumerate() {
            even.add(odd).store(out.as_mut_ptr().add(d + v * V::LANES));
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
