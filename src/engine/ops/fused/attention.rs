//! Attention over the blocked cache: stretches of positions for a few queries, blocks of queries for many.

use std::cell::RefCell;
use std::ops::Range;

use super::super::AttentionShape;
use super::super::kernels::{self as k, Strides};
use super::cache::{BlockedCache, Buffer, KEY_BLOCK};
use super::kernels::{self, STATISTICS, Stretch};
use super::{Cached, FusedOperators, Task};
use crate::engine::threads::SharedMut;

/// Most positions of the cache in one task of decode attention: 128 keys of 64 f32 are 32 KiB, as are their values.
const LONGEST_STRETCH: usize = 128;
/// Fewest: below it, merging costs more than another thread saves.
const SHORTEST_STRETCH: usize = 32;
/// Up to this many new positions of a sequence, each query goes over the cache by itself.
const FEW_QUERIES: usize = 2;
/// Heads that one kernel call takes at once.
const HEADS_AT_ONCE: usize = 3;

/// Scratch of one thread.
#[derive(Default)]
struct Scratch {
    /// Packed queries and the results for them.
    panel: Vec<f32>,
    /// A stretch of the cache as f32.
    widened: Vec<f32>,
    /// Attention scores.
    scores: Vec<f32>,
    /// First and last visible position of each lane.
    visible: [Vec<u32>; 2],
    /// Denominators.
    sums: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch::default());
}

/// Where the first visible position of a query is.
fn visible_from(position: usize, window: Option<usize>) -> usize {
    window.map_or(0, |window| (position + 1).saturating_sub(window))
}

impl FusedOperators {
    /// Causal attention over the cache of the queries in `qkv` (rows of q, k and v): `[rows, heads × head_dim]`.
    ///
    /// `partials` keeps its memory between calls.
    pub fn attention(
        &self,
        qkv: &[f32],
        cache: &BlockedCache,
        shape: &AttentionShape,
        partials: &mut Vec<f32>,
        out: &mut [f32],
    ) {
        match (&cache.keys, &cache.values) {
            (Buffer::F32(keys), Buffer::F32(values)) => {
                self.attend(qkv, cache, keys, values, shape, partials, out);
            }
            (Buffer::BF16(keys), Buffer::BF16(values)) => {
                self.attend(qkv, cache, keys, values, shape, partials, out);
            }
            (Buffer::F16(keys), Buffer::F16(values)) => {
                self.attend(qkv, cache, keys, values, shape, partials, out);
            }
            _ => unreachable!("keys and values have one format"),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "a cache taken apart by its element type")]
    fn attend<E: Cached>(
        &self,
        qkv: &[f32],
        cache: &BlockedCache,
        keys: &[E],
        values: &[E],
        shape: &AttentionShape,
        partials: &mut Vec<f32>,
        out: &mut [f32],
    ) {
        if shape.queries <= FEW_QUERIES {
            self.few_queries(qkv, cache, keys, values, shape, partials, out);
        } else {
            self.many_queries(qkv, cache, keys, values, shape, out);
        }
    }

    /// Positions in one task: long stretches where there are many heads and sequences, short ones where threads would be idle.
    fn stretch(&self, positions: usize, groups: usize) -> usize {
        let wanted = (4 * self.pool.threads()).div_ceil(groups.max(1));
        positions.div_ceil(wanted).next_multiple_of(KEY_BLOCK).clamp(SHORTEST_STRETCH, LONGEST_STRETCH)
    }

    /// One or two queries per sequence. The cache is cut into stretches of positions whose partial softmaxes are merged (flash
    /// decoding); in each, the heads of a group share every key and value that is loaded.
    #[expect(clippy::too_many_arguments, reason = "a cache taken apart by its element type")]
    fn few_queries<E: Cached>(
        &self,
        qkv: &[f32],
        cache: &BlockedCache,
        keys: &[E],
        values: &[E],
        shape: &AttentionShape,
        partials: &mut Vec<f32>,
        out: &mut [f32],
    ) {
        let AttentionShape { batch, queries, heads, kv_heads, head_dim, .. } = *shape;
        let (group, width) = (heads / kv_heads, (heads + 2 * kv_heads) * head_dim);
        let scale = 1.0 / (head_dim as f32).sqrt();
        let rows = batch * queries;
        // Stretches before the first window of all queries have nothing to do, and are not made.
        let (start, end) = (visible_from(shape.position, shape.window), shape.position + queries);
        let start = start / KEY_BLOCK * KEY_BLOCK;
        let length = self.stretch(end - start, rows * kv_heads);
        let stretches = (end - start).div_ceil(length);
        let place = head_dim + STATISTICS;
        // One place per (row, query head, stretch), the stretches of a head one after the other.
        partials.resize(rows * heads * stretches * place, 0.0);
        let target = SharedMut::new(partials);
        let isa = self.isa;
        // The kernel writes the heads of a group one after the other; they go to their places from here.
        let stride = length + KEY_BLOCK;
        self.pool.run(rows * kv_heads * stretches, &|task| {
            let (row, rest) = (task / (kv_heads * stretches), task % (kv_heads * stretches));
            let (kv_head, index) = (rest / stretches, rest % stretches);
            let (sequence, position) = (row / queries, shape.position + row % queries);
            let first = (start + index * length).max(visible_from(position, shape.window));
            let last = (start + (index + 1) * length).min(position + 1);
            let places = |head: usize| ((row * heads + kv_head * group + head) * stretches + index) * place;
            if first >= last {
                for head in 0..group {
                    // SAFETY: each (row, head, stretch) has a place of its own.
                    unsafe { target.slice(places(head)..places(head) + STATISTICS) }.fill(0.0);
                }
                return;
            }
            let base = cache.offset(sequence, kv_head);
            let first_block = first / KEY_BLOCK * KEY_BLOCK;
            let end_block = last.next_multiple_of(KEY_BLOCK);
            let key_range = base + first_block * head_dim..base + end_block * head_dim;
            let value_range = base + first * head_dim..base + last * head_dim;
            let queries = row * width + kv_head * group * head_dim;
            SCRATCH.with_borrow_mut(|scratch| {
                scratch.scores.resize(HEADS_AT_ONCE * stride, 0.0);
                scratch.panel.resize(group * place, 0.0);
                // SAFETY: `isa` is what the CPU has; the blocks hold skip + positions keys, and scratch is as long as stated.
                unsafe {
                    E::attend(
                        isa,
                        Task {
                            queries: &qkv[queries..queries + group * head_dim],
                            head_dim,
                            stretch: Stretch {
                                keys: &keys[key_range],
                                values: &values[value_range],
                                skip: first - first_block,
                                positions: last - first,
                            },
                            scale,
                            scores: &mut scratch.scores,
                            stride,
                            out: &mut scratch.panel,
                        },
                    );
                }
                for (head, result) in scratch.panel.chunks_exact(place).take(group).enumerate() {
                    // SAFETY: as above.
                    unsafe { target.slice(places(head)..places(head) + place) }.copy_from_slice(result);
                }
            });
        });
        for (out, parts) in out.chunks_exact_mut(head_dim).zip(partials.chunks_exact_mut(stretches * place)) {
            // SAFETY: `isa` is what the CPU has.
            unsafe { kernels::merge(isa, parts, out) };
        }
    }

    /// Many queries: blocks of queries are lanes; scores and weighted sums are panel products with keys and values as they lie.
    fn many_queries<E: Cached>(
        &self,
        qkv: &[f32],
        cache: &BlockedCache,
        keys: &[E],
        values: &[E],
        shape: &AttentionShape,
        out: &mut [f32],
    ) {
        let AttentionShape { batch, queries, heads, kv_heads, head_dim, .. } = *shape;
        let isa = self.isa;
        let row_width = (heads + 2 * kv_heads) * head_dim;
        let (width, lanes) = (k::panel_width(isa), k::lanes(isa));
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
            let (start, end) = (visible_from(position(0), shape.window), position(count - 1) + 1);
            let base = cache.offset(sequence, head / (heads / kv_heads));
            SCRATCH.with_borrow_mut(|scratch| {
                let Scratch { panel, widened, scores, visible: [first, last], sums } = scratch;
                panel.clear();
                panel.resize(head_dim * padded * 2, 0.0);
                let (packed, result) = panel.split_at_mut(head_dim * padded);
                for lane in 0..count {
                    let row = (sequence * queries + first_query + lane) * row_width + head * head_dim;
                    for (d, value) in qkv[row..row + head_dim].iter().enumerate() {
                        packed[d * padded + lane] = *value;
                    }
                }
                let (first_block, end_block) = (start / KEY_BLOCK * KEY_BLOCK, end.next_multiple_of(KEY_BLOCK));
                scores.resize((end_block - first_block) * padded, 0.0);
                first.clear();
                first.extend((0..padded).map(|lane| (visible_from(position(lane), shape.window) - start) as u32));
                last.clear();
                last.extend((0..padded).map(|lane| (position(lane) - start) as u32));
                sums.resize(padded, 0.0);
                let blocks = |range: Range<usize>| base + range.start * head_dim..base + range.end * head_dim;
                // SAFETY: `isa` is what the CPU has; keys are whole blocks, values `end − start` rows, scores hold a row for each.
                unsafe {
                    let keys = E::widened(isa, &keys[blocks(first_block..end_block)], widened);
                    let by_block = Strides { row: 1, step: KEY_BLOCK };
                    for (keys, scores) in
                        keys.chunks_exact(KEY_BLOCK * head_dim).zip(scores.chunks_exact_mut(KEY_BLOCK * padded))
                    {
                        let (keys, scores) = (keys.as_ptr(), scores.as_mut_ptr());
                        k::gemm_panel(isa, keys, by_block, KEY_BLOCK, head_dim, packed.as_ptr(), padded, scores, false);
                    }
                    let scores = &mut scores[(start - first_block) * padded..(end - first_block) * padded];
                    k::softmax(isa, scores, padded, scale, first, last, sums);
                    let values = E::widened(isa, &values[blocks(start..end)], widened);
                    let by_column = Strides { row: 1, step: head_dim };
                    k::gemm_panel(
                        isa,
                        values.as_ptr(),
                        by_column,
                        head_dim,
                        end - start,
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
