//! Attention over the KV cache on the CPU: one kernel for a few queries, one for many.

use super::AttentionShape;
use super::cpu::{CpuOperators, SCRATCH};
use super::kernels::{self as k, Partial, Strides};
use super::simd::Isa;
use crate::engine::kv_cache::{HostBuffer, LayerCache};
use crate::engine::threads::SharedMut;

/// Positions of the cache in one task of decode attention: 128 keys of 64 f32 are 32 KiB, which stay in L1 for the heads of a group.
const ATTENTION_CHUNK: usize = 128;

/// Writes `[batch·queries, kv_heads·head_dim]` into `[batch, kv_heads, capacity, head_dim]`.
pub(super) fn scatter<E: k::Element>(
    buffer: &mut [E],
    new: &[f32],
    shape: &AttentionShape,
    kv_heads: usize,
    head_dim: usize,
    head_stride: usize,
) {
    for sequence in 0..shape.batch {
        for query in 0..shape.queries {
            let row = (sequence * shape.queries + query) * kv_heads * head_dim;
            for head in 0..kv_heads {
                let at = (sequence * kv_heads + head) * head_stride + (shape.position + query) * head_dim;
                let from = &new[row + head * head_dim..row + (head + 1) * head_dim];
                for (to, value) in buffer[at..at + head_dim].iter_mut().zip(from) {
                    *to = E::from_f32(*value);
                }
            }
        }
    }
}

impl CpuOperators {
    /// One or two queries per sequence: each query head reads the keys and values of its group, in chunks of positions whose
    /// partial softmaxes are merged (flash decoding).
    pub(super) fn decode_attention(
        &self,
        q: &[f32],
        cache: &LayerCache,
        keys: &HostBuffer,
        values: &HostBuffer,
        shape: &AttentionShape,
        out: &mut [f32],
    ) {
        let AttentionShape { batch, queries, heads, kv_heads, head_dim, .. } = *shape;
        let group = heads / kv_heads;
        let scale = 1.0 / (head_dim as f32).sqrt();
        let longest = shape.position + queries;
        let chunks = longest.div_ceil(ATTENTION_CHUNK);
        let rows = batch * queries;
        // One place per (row, query head, chunk): largest, sum, values.
        let place = head_dim + 2;
        let mut partials = vec![0.0f32; rows * heads * chunks * place];
        let target = SharedMut::new(&mut partials);
        // Heads of one group share their keys and values: in one task the second head finds them in cache. With few tasks that would leave
        // threads idle at the end, so a short context is shared out by head.
        let per_task = if rows * kv_heads * chunks >= 4 * self.pool.threads() { group } else { 1 };
        let head_tasks = heads / per_task;
        self.pool.run(rows * chunks * head_tasks, &|task| {
            let (row, rest) = (task / (chunks * head_tasks), task % (chunks * head_tasks));
            let (chunk, first_head) = (rest / head_tasks, rest % head_tasks * per_task);
            let (sequence, query) = (row / queries, row % queries);
            let position = shape.position + query;
            let window_start = shape.window.map_or(0, |window| (position + 1).saturating_sub(window));
            let first = (chunk * ATTENTION_CHUNK).max(window_start);
            let last = ((chunk + 1) * ATTENTION_CHUNK).min(position + 1);
            for head in first_head..first_head + per_task {
                let at = ((row * heads + head) * chunks + chunk) * place;
                // SAFETY: each (row, head, chunk) has a place of its own.
                let slot = unsafe { target.slice(at..at + place) };
                let ([largest, sum], weighted) = {
                    let (stats, weighted) = slot.split_at_mut(2);
                    let [largest, sum] = stats else { unreachable!("two statistics come before the values") };
                    ([largest, sum], weighted)
                };
                if first >= last {
                    *largest = f32::NEG_INFINITY;
                    continue;
                }
                let base = cache.offset(sequence, head / group);
                let range = base + first * head_dim..base + last * head_dim;
                let query = &q[(row * heads + head) * head_dim..(row * heads + head + 1) * head_dim];
                let partial = Partial { largest, sum, values: weighted };
                SCRATCH.with_borrow_mut(|[_, _, scores]| {
                    scores.resize(ATTENTION_CHUNK, 0.0);
                    // SAFETY: `isa` was detected; keys and values hold `last − first` rows.
                    unsafe {
                        match (keys, values) {
                            (HostBuffer::F32(keys), HostBuffer::F32(values)) => {
                                k::attend_f32(
                                    self.isa,
                                    query,
                                    &keys[range.clone()],
                                    &values[range],
                                    scale,
                                    scores,
                                    partial,
                                );
                            }
                            (HostBuffer::BF16(keys), HostBuffer::BF16(values)) => {
                                k::attend_bf16(
                                    self.isa,
                                    query,
                                    &keys[range.clone()],
                                    &values[range],
                                    scale,
                                    scores,
                                    partial,
                                );
                            }
                            (HostBuffer::F16(keys), HostBuffer::F16(values)) => {
                                k::attend_f16(
                                    self.isa,
                                    query,
                                    &keys[range.clone()],
                                    &values[range],
                                    scale,
                                    scores,
                                    partial,
                                );
                            }
                            _ => unreachable!("keys and values have one format"),
                        }
                    }
                });
            }
        });
        for (out, parts) in out.chunks_exact_mut(head_dim).zip(partials.chunks_exact(chunks * place)) {
            let largest = parts.chunks_exact(place).map(|part| part[0]).fold(f32::NEG_INFINITY, f32::max);
            let mut total = 0.0;
            for part in parts.chunks_exact(place).filter(|part| part[0] > f32::NEG_INFINITY || part[0].is_nan()) {
                let weight = (part[0] - largest).exp();
                total += part[1] * weight;
                for (out, value) in out.iter_mut().zip(&part[2..]) {
                    *out += value * weight;
                }
            }
            for out in out {
                *out /= total;
            }
        }
    }

    /// Many queries: blocks of queries are lanes; scores and weighted sums are panel products with keys and values as they lie.
    pub(super) fn prefill_attention(
        &self,
        q: &[f32],
        cache: &LayerCache,
        keys: &HostBuffer,
        values: &HostBuffer,
        shape: &AttentionShape,
        out: &mut [f32],
    ) {
        let AttentionShape { batch, queries, heads, kv_heads, head_dim, .. } = *shape;
        let isa = self.isa;
        let width = k::panel_width(isa);
        let lanes = k::lanes(isa);
        let query_blocks = queries.div_ceil(width);
        let scale = 1.0 / (head_dim as f32).sqrt();
        let target = SharedMut::new(out);
        self.pool.run(batch * heads * query_blocks, &|task| {
            // The last blocks see most positions; they go first, so that no thread is left with a big one at the end.
            let block = query_blocks - 1 - task / (batch * heads);
            let (sequence, head) = (task % (batch * heads) / heads, task % heads);
            let first_query = block * width;
            let count = (queries - first_query).min(width);
            let padded = count.next_multiple_of(lanes);
            let position = |lane: usize| shape.position + first_query + lane.min(count - 1);
            let visible_from = |position: usize| shape.window.map_or(0, |window| (position + 1).saturating_sub(window));
            let (start, end) = (visible_from(position(0)), position(count - 1) + 1);
            let length = end - start;
            let base = cache.offset(sequence, head / (heads / kv_heads));
            let range = base + start * head_dim..base + end * head_dim;
            SCRATCH.with_borrow_mut(|[panel, widened, scores]| {
                panel.clear();
                panel.resize(head_dim * padded * 2, 0.0);
                let (packed, result) = panel.split_at_mut(head_dim * padded);
                for lane in 0..count {
                    let row = ((sequence * queries + first_query + lane) * heads + head) * head_dim;
                    for (d, value) in q[row..row + head_dim].iter().enumerate() {
                        packed[d * padded + lane] = *value;
                    }
                }
                scores.resize(length * padded, 0.0);
                let first: Vec<u32> = (0..padded).map(|lane| (visible_from(position(lane)) - start) as u32).collect();
                let last: Vec<u32> = (0..padded).map(|lane| (position(lane) - start) as u32).collect();
                let mut sums = vec![0.0f32; padded];
                // SAFETY: `isa` was detected; keys and values are `length` × `head_dim`, scores `length` × `padded`.
                unsafe {
                    let keys = host_f32(isa, keys, range.clone(), widened);
                    let by_row = Strides { row: head_dim, step: 1 };
                    k::gemm_panel(
                        isa,
                        keys,
                        by_row,
                        length,
                        head_dim,
                        packed.as_ptr(),
                        padded,
                        scores.as_mut_ptr(),
                        false,
                    );
                    k::softmax(isa, &mut scores[..length * padded], padded, scale, &first, &last, &mut sums);
                    let values = host_f32(isa, values, range, widened);
                    let by_column = Strides { row: 1, step: head_dim };
                    k::gemm_panel(
                        isa,
                        values,
                        by_column,
                        head_dim,
                        length,
                        scores.as_ptr(),
                        padded,
                        result.as_mut_ptr(),
                        false,
                    );
                }
                for lane in 0..count {
                    let row = ((sequence * queries + first_query + lane) * heads + head) * head_dim;
                    // SAFETY: (query, head) belongs to this task alone.
                    let out = unsafe { target.slice(row..row + head_dim) };
                    let factor = 1.0 / sums[lane];
                    for (d, value) in out.iter_mut().enumerate() {
                        *value = result[d * padded + lane] * factor;
                    }
                }
            });
        });
    }
}

/// The f32 values of a stretch of the cache: borrowed if it is f32, widened into `scratch` otherwise.
///
/// # Safety
/// `isa` must be what the CPU has. The pointer lives as long as `buffer` and `scratch` are not touched.
unsafe fn host_f32(isa: Isa, buffer: &HostBuffer, range: std::ops::Range<usize>, scratch: &mut Vec<f32>) -> *const f32 {
    match buffer {
        HostBuffer::F32(values) => values[range].as_ptr(),
        HostBuffer::BF16(values) => {
            scratch.resize(range.len(), 0.0);
            // SAFETY: the caller's promise; lengths are equal.
            unsafe { k::widen_bf16(isa, &values[range], scratch) };
            scratch.as_ptr()
        }
        HostBuffer::F16(values) => {
            scratch.resize(range.len(), 0.0);
            // SAFETY: as above.
            unsafe { k::widen_f16(isa, &values[range], scratch) };
            scratch.as_ptr()
        }
    }
}
