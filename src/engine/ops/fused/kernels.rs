//! Kernels of the fused operators over raw slices, compiled for each instruction set like those of [`super::super::kernels`].

#![allow(clippy::inline_always, reason = "a kernel must be inlined into the function that carries its target features")]
#![allow(clippy::too_many_arguments, reason = "kernels take raw dimensions")]
#![allow(clippy::needless_pass_by_value, reason = "the dispatching macro hands arguments on")]

use half::{bf16, f16};

use super::super::kernels::{Element, prefetch};
#[cfg(target_arch = "x86_64")]
use super::super::simd::{Avx2, Avx512};
use super::super::simd::{Isa, Portable, Vector};
use super::cache::KEY_BLOCK;

#[inline(always)]
unsafe fn add_rms_norm_rows<V: Vector, const R: usize>(
    residual: &mut [f32],
    delta: &[f32],
    weight: &[f32],
    eps: f32,
    out: &mut [f32],
) {
    let width = weight.len();
    let rows = residual.chunks_exact_mut(width).zip(delta.chunks_exact(width)).zip(out.chunks_exact_mut(width));
    for ((x, delta), out) in rows {
        // SAFETY: indices stay below `width`.
        unsafe {
            let mut sums = [V::splat(0.0); 2];
            let mut i = 0;
            while i + 2 * V::LANES <= width {
                let a = V::load(x.as_ptr().add(i)).add(V::load(delta.as_ptr().add(i)));
                let b = V::load(x.as_ptr().add(i + V::LANES)).add(V::load(delta.as_ptr().add(i + V::LANES)));
                a.store(x.as_mut_ptr().add(i));
                b.store(x.as_mut_ptr().add(i + V::LANES));
                sums = [a.fma(a, sums[0]), b.fma(b, sums[1])];
                i += 2 * V::LANES;
            }
            let mut square = sums[0].add(sums[1]).sum();
            for (x, delta) in x[i..].iter_mut().zip(&delta[i..]) {
                *x += delta;
                square += *x * *x;
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
    /// `residual += delta`, and the RMS norm of the sum into `out`, row by row of `weight.len()` values.
    fn add_rms_norm(residual: &mut [f32], delta: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) = add_rms_norm_rows
);

#[inline(always)]
unsafe fn add_to<V: Vector, const R: usize>(values: &mut [f32], delta: &[f32]) {
    for (value, delta) in values.iter_mut().zip(delta) {
        *value += delta;
    }
}
kernel!(
    /// `values += delta`.
    fn add_assign(values: &mut [f32], delta: &[f32]) = add_to
);

#[inline(always)]
unsafe fn silu_mul_values<V: Vector, const R: usize>(gates: &[f32], out: &mut [f32]) {
    let n = out.len().min(gates.len());
    let mut i = 0;
    // SAFETY: indices stay below `n`.
    unsafe {
        while i + V::LANES <= n {
            let gate = V::load(gates.as_ptr().add(i));
            let e = V::splat(0.0).sub(gate).exp();
            let up = V::load(out.as_ptr().add(i));
            gate.div(V::splat(1.0).add(e)).mul(up).store(out.as_mut_ptr().add(i));
            i += V::LANES;
        }
    }
    for j in i..n {
        out[j] *= gates[j] / (1.0 + (-gates[j]).exp());
    }
}
kernel!(
    /// `out = silu(gates) × out`.
    fn silu_mul_in_place(gates: &[f32], out: &mut [f32]) = silu_mul_values
);

/// RMS norm of each stretch of `weight.len()` values, in place: the norms of q and k heads.
#[inline(always)]
unsafe fn rms_norm_heads<V: Vector, const R: usize>(x: &mut [f32], weight: &[f32], eps: f32) {
    let width = weight.len();
    for x in x.chunks_exact_mut(width) {
        // SAFETY: indices stay below `width`.
        unsafe {
            let mut sum = V::splat(0.0);
            let mut i = 0;
            while i + V::LANES <= width {
                let a = V::load(x.as_ptr().add(i));
                sum = a.fma(a, sum);
                i += V::LANES;
            }
            let mut square = sum.sum();
            for value in &x[i..] {
                square += value * value;
            }
            let factor = 1.0 / (square / width as f32 + eps).sqrt();
            for (value, weight) in x.iter_mut().zip(weight) {
                *value = *value * factor * weight;
            }
        }
    }
}
kernel!(
    /// RMS norm of each stretch of `weight.len()` values of `x`, in place.
    fn rms_norm_in_place(x: &mut [f32], weight: &[f32], eps: f32) = rms_norm_heads
);

/// Where one position of one sequence goes in the cache.
pub(super) struct Place<'a, E> {
    /// Keys of the sequence, `[kv_heads][positions / KEY_BLOCK][head_dim][KEY_BLOCK]`.
    pub(super) keys: *mut E,
    /// Values of the sequence, `[kv_heads][positions][head_dim]`.
    pub(super) values: *mut E,
    /// Positions there is memory for, a whole number of blocks.
    pub(super) positions: usize,
    /// The position.
    pub(super) position: usize,
    /// Cosines of the position.
    pub(super) cos: &'a [f32],
    /// Sines of the position.
    pub(super) sin: &'a [f32],
}

#[inline(always)]
fn rotate(x: &mut [f32], cos: &[f32], sin: &[f32]) {
    let half = x.len() / 2;
    let (low, high) = x.split_at_mut(half);
    for i in 0..half {
        let (a, b) = (low[i], high[i]);
        low[i] = a * cos[i] - b * sin[i];
        high[i] = b * cos[i] + a * sin[i];
    }
}

#[inline(always)]
unsafe fn rope_write_row<V: Vector, const R: usize, E: Element>(
    row: &mut [f32],
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    place: Place<'_, E>,
) {
    let (queries, rest) = row.split_at_mut(heads * head_dim);
    let (keys, values) = rest.split_at_mut(kv_heads * head_dim);
    for head in queries.chunks_exact_mut(head_dim) {
        rotate(head, place.cos, place.sin);
    }
    let (block, lane) = (place.position / KEY_BLOCK, place.position % KEY_BLOCK);
    for (index, head) in keys.chunks_exact_mut(head_dim).enumerate() {
        rotate(head, place.cos, place.sin);
        // SAFETY: the position lies inside the cache, so its block and lane do.
        unsafe {
            let to = place.keys.add(index * place.positions * head_dim + block * KEY_BLOCK * head_dim + lane);
            for (d, value) in head.iter().enumerate() {
                *to.add(d * KEY_BLOCK) = E::from_f32(*value);
            }
        }
    }
    for (index, head) in values.chunks_exact(head_dim).enumerate() {
        // SAFETY: as above.
        unsafe {
            let to = place.values.add((index * place.positions + place.position) * head_dim);
            for (d, value) in head.iter().enumerate() {
                *to.add(d) = E::from_f32(*value);
            }
        }
    }
}
kernel!(
    /// Rotates q and k of one token (`row` is q, k, v) and writes k and v to an f32 cache.
    fn rope_write_f32(row: &mut [f32], heads: usize, kv_heads: usize, head_dim: usize, place: Place<'_, f32>) = rope_write_row::<f32>
);
kernel!(
    /// As [`rope_write_f32`] to a bf16 cache.
    fn rope_write_bf16(row: &mut [f32], heads: usize, kv_heads: usize, head_dim: usize, place: Place<'_, bf16>) = rope_write_row::<bf16>
);
kernel!(
    /// As [`rope_write_f32`] to an f16 cache.
    fn rope_write_f16(row: &mut [f32], heads: usize, kv_heads: usize, head_dim: usize, place: Place<'_, f16>) = rope_write_row::<f16>
);

/// What the heads of one group see of the cache in one task.
pub(super) struct Stretch<'a, E> {
    /// Whole blocks of keys, the first of which holds the first visible position.
    pub(super) keys: &'a [E],
    /// Values from the first visible position to the last.
    pub(super) values: &'a [E],
    /// Positions of the first block that are not visible.
    pub(super) skip: usize,
    /// Visible positions.
    pub(super) positions: usize,
}

/// Statistics before the weighted values of a partial result: the largest score and the sum of weights.
pub(super) const STATISTICS: usize = 2;

/// Scaled scores of `G` heads against `N` vectors of positions. Meanwhile it asks for the keys that come next and for the values of these
/// positions: a stretch is too short for the hardware to find out by itself.
#[inline(always)]
unsafe fn score<V: Vector, E: Element, const G: usize, const N: usize>(
    queries: *const f32,
    head_dim: usize,
    keys: *const E,
    values: *const E,
    first_vector: usize,
    scale: f32,
    scores: *mut f32,
    stride: usize,
) {
    // SAFETY: the caller promises G heads of queries, and keys and scores for the vectors.
    unsafe {
        let mut sums = [[V::splat(0.0); N]; G];
        let offsets: [usize; N] = std::array::from_fn(|n| {
            let position = (first_vector + n) * V::LANES;
            position / KEY_BLOCK * KEY_BLOCK * head_dim + position % KEY_BLOCK
        });
        let size = first_vector * V::LANES * head_dim;
        let (next_keys, values) = (keys.wrapping_add(size + N * V::LANES * head_dim), values.wrapping_add(size));
        for d in 0..head_dim {
            for n in 0..N {
                let ahead = (d * N + n) * V::LANES;
                prefetch(next_keys.wrapping_add(ahead));
                prefetch(values.wrapping_add(ahead));
            }
            let loaded: [V; N] = std::array::from_fn(|n| E::load::<V>(keys.add(offsets[n] + d * KEY_BLOCK)));
            for (g, sums) in sums.iter_mut().enumerate() {
                let query = V::splat(*queries.add(g * head_dim + d));
                for (sum, key) in sums.iter_mut().zip(loaded) {
                    *sum = key.fma(query, *sum);
                }
            }
        }
        let scale = V::splat(scale);
        for (g, sums) in sums.iter().enumerate() {
            for (n, sum) in sums.iter().enumerate() {
                sum.mul(scale).store(scores.add(g * stride + (first_vector + n) * V::LANES));
            }
        }
    }
}

/// Σ weight × value of `G` heads, for `N` vectors of the values' width.
#[inline(always)]
unsafe fn weigh<V: Vector, E: Element, const G: usize, const N: usize>(
    weights: *const f32,
    stride: usize,
    positions: usize,
    values: *const E,
    head_dim: usize,
    out: *mut f32,
    out_stride: usize,
) {
    // SAFETY: the caller promises `positions` rows of values, and weights and results of G heads.
    unsafe {
        let mut sums = [[V::splat(0.0); N]; G];
        for position in 0..positions {
            let row = values.add(position * head_dim);
            let loaded: [V; N] = std::array::from_fn(|n| E::load::<V>(row.add(n * V::LANES)));
            for (g, sums) in sums.iter_mut().enumerate() {
                let weight = V::splat(*weights.add(g * stride + position));
                for (sum, value) in sums.iter_mut().zip(loaded) {
                    *sum = weight.fma(value, *sum);
                }
            }
        }
        for (g, sums) in sums.iter().enumerate() {
            for (n, sum) in sums.iter().enumerate() {
                sum.store(out.add(g * out_stride + n * V::LANES));
            }
        }
    }
}

/// `G` heads against one stretch: scores, softmax relative to the largest, weighted values.
#[inline(always)]
unsafe fn attend_heads<V: Vector, E: Element, const G: usize>(
    queries: *const f32,
    head_dim: usize,
    stretch: &Stretch<'_, E>,
    scale: f32,
    scores: *mut f32,
    stride: usize,
    out: *mut f32,
) {
    let place = head_dim + STATISTICS;
    let (keys, values) = (stretch.keys.as_ptr(), stretch.values.as_ptr());
    let positions = stretch.positions;
    // SAFETY: the blocks of `stretch` cover skip + positions, `scores` has `stride` values per head, `out` a place per head.
    unsafe {
        let vectors = (stretch.skip + positions).div_ceil(V::LANES);
        let mut vector = 0;
        while vector + 4 <= vectors {
            score::<V, E, G, 4>(queries, head_dim, keys, values, vector, scale, scores, stride);
            vector += 4;
        }
        while vector < vectors {
            score::<V, E, G, 1>(queries, head_dim, keys, values, vector, scale, scores, stride);
            vector += 1;
        }
        let visible = scores.add(stretch.skip);
        for g in 0..G {
            let scores = std::slice::from_raw_parts_mut(visible.add(g * stride), positions);
            let mut largest = f32::NEG_INFINITY;
            let mut i = 0;
            if V::LANES <= positions {
                let mut widest = V::load(scores.as_ptr());
                while i + V::LANES <= positions {
                    widest = widest.max(V::load(scores.as_ptr().add(i)));
                    i += V::LANES;
                }
                let mut lanes = [f32::NEG_INFINITY; KEY_BLOCK];
                widest.store(lanes.as_mut_ptr());
                largest = lanes.iter().fold(largest, |largest, lane| largest.max(*lane));
            }
            for score in &scores[i..] {
                largest = largest.max(*score);
            }
            let shift = V::splat(largest);
            let mut sums = V::splat(0.0);
            let mut i = 0;
            while i + V::LANES <= positions {
                let weight = V::load(scores.as_ptr().add(i)).sub(shift).exp();
                sums = sums.add(weight);
                weight.store(scores.as_mut_ptr().add(i));
                i += V::LANES;
            }
            let mut sum = sums.sum();
            for score in &mut scores[i..] {
                *score = (*score - largest).exp();
                sum += *score;
            }
            *out.add(g * place) = largest;
            *out.add(g * place + 1) = sum;
        }
        let mut d = 0;
        while d + 4 * V::LANES <= head_dim {
            let to = out.add(STATISTICS + d);
            weigh::<V, E, G, 4>(visible, stride, positions, values.add(d), head_dim, to, place);
            d += 4 * V::LANES;
        }
        while d + V::LANES <= head_dim {
            let to = out.add(STATISTICS + d);
            weigh::<V, E, G, 1>(visible, stride, positions, values.add(d), head_dim, to, place);
            d += V::LANES;
        }
        for g in 0..G {
            for d in d..head_dim {
                let mut sum = 0.0;
                for position in 0..positions {
                    sum += *visible.add(g * stride + position) * (*values.add(position * head_dim + d)).to_f32();
                }
                *out.add(g * place + STATISTICS + d) = sum;
            }
        }
    }
}

#[inline(always)]
unsafe fn attend_group<V: Vector, const R: usize, E: Element>(
    queries: &[f32],
    head_dim: usize,
    stretch: Stretch<'_, E>,
    scale: f32,
    scores: &mut [f32],
    stride: usize,
    out: &mut [f32],
) {
    let heads = queries.len() / head_dim;
    let place = head_dim + STATISTICS;
    let mut head = 0;
    // Three heads × four vectors of sums fit in the registers of every instruction set with a few left for keys.
    while head < heads {
        // SAFETY: the caller's promise, from this head on.
        unsafe {
            let (queries, out) = (queries.as_ptr().add(head * head_dim), out.as_mut_ptr().add(head * place));
            let scores = scores.as_mut_ptr();
            match heads - head {
                1 => attend_heads::<V, E, 1>(queries, head_dim, &stretch, scale, scores, stride, out),
                2 | 4 => attend_heads::<V, E, 2>(queries, head_dim, &stretch, scale, scores, stride, out),
                _ => attend_heads::<V, E, 3>(queries, head_dim, &stretch, scale, scores, stride, out),
            }
        }
        head += match heads - head {
            1 => 1,
            2 | 4 => 2,
            _ => 3,
        };
    }
}
kernel!(
    /// The query heads of one group against a stretch of an f32 cache. `out` has `head_dim + 2` values a head: largest score, sum of the
    /// weights relative to it, weighted sum of values. `scores` is scratch: three times `stride`, which covers the blocks of keys.
    fn attend_f32(queries: &[f32], head_dim: usize, stretch: Stretch<'_, f32>, scale: f32, scores: &mut [f32], stride: usize, out: &mut [f32]) = attend_group::<f32>
);
kernel!(
    /// As [`attend_f32`] over a bf16 cache.
    fn attend_bf16(queries: &[f32], head_dim: usize, stretch: Stretch<'_, bf16>, scale: f32, scores: &mut [f32], stride: usize, out: &mut [f32]) = attend_group::<bf16>
);
kernel!(
    /// As [`attend_f32`] over an f16 cache.
    fn attend_f16(queries: &[f32], head_dim: usize, stretch: Stretch<'_, f16>, scale: f32, scores: &mut [f32], stride: usize, out: &mut [f32]) = attend_group::<f16>
);

#[inline(always)]
unsafe fn merge_parts<V: Vector, const R: usize>(parts: &mut [f32], out: &mut [f32]) {
    let head_dim = out.len();
    let place = head_dim + STATISTICS;
    // A part that saw no position has the sum 0; every other has at least 1, or NaN, which must reach the result.
    let mut largest = f32::NEG_INFINITY;
    for part in parts.chunks_exact(place).filter(|part| part[1] != 0.0) {
        largest = largest.max(part[0]);
    }
    let mut total = 0.0;
    for part in parts.chunks_exact_mut(place).filter(|part| part[1] != 0.0) {
        part[0] = (part[0] - largest).exp();
        total += part[1] * part[0];
    }
    let factor = 1.0 / total;
    // SAFETY: indices stay below `head_dim`.
    unsafe {
        let mut d = 0;
        while d + V::LANES <= head_dim {
            let mut sum = V::splat(0.0);
            for part in parts.chunks_exact(place).filter(|part| part[1] != 0.0) {
                sum = V::splat(part[0]).fma(V::load(part.as_ptr().add(STATISTICS + d)), sum);
            }
            sum.mul(V::splat(factor)).store(out.as_mut_ptr().add(d));
            d += V::LANES;
        }
        for (d, out) in out.iter_mut().enumerate().skip(d) {
            let mut sum = 0.0;
            for part in parts.chunks_exact(place).filter(|part| part[1] != 0.0) {
                sum += part[0] * part[STATISTICS + d];
            }
            *out = sum * factor;
        }
    }
}
kernel!(
    /// Merges the partial results of one head; the statistics of `parts` are used up.
    fn merge(parts: &mut [f32], out: &mut [f32]) = merge_parts
);
