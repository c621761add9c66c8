//! The fused operators (`engine.ops=fused`) on the CPU: fewer, larger operators over plain memory.
//!
//! - Weights are packed once for the products of [`super::packed`]; q, k and v are one matrix, gate and up another with the activation
//!   at its end. Activations of quantized weights are rounded to 8 bits in blocks of 32, once for all products that read them.
//! - The residual is added while it is normed; q and k are rotated while keys and values go to the cache.
//! - Attention cuts the cache into stretches, so that every thread has work however few key/value heads there are, and reads each key and
//!   value once for all query heads of its group.
//! - Buffers belong to the caller and are kept between steps.
//!
//! A weight in a format without packed kernels (k-quants, q5) is multiplied by the `reference` operator; [`Projection::is_packed`] says so.

use std::sync::Arc;

use candle_core::{Result, Tensor, bail};
use half::{bf16, f16};

use super::cpu::{self, CpuOperators};
use super::kernels as k;
use super::packed::Kernels;
use super::simd::Isa;
use super::{AttentionShape, RopeTable};
use crate::engine::threads::{SharedMut, ThreadPool};
use crate::engine::weights::Weight;

mod attention;
mod cache;
mod kernels;
mod linear;
#[cfg(test)]
mod tests;

pub use cache::BlockedCache;
use cache::Buffer;
pub use linear::{Biased, GatedProjection, Input, InputBuffers, Projection};

/// Values below which an elementwise operator is not worth waking anyone for.
const SERIAL_VALUES: usize = 16 * 1024;

/// See the module documentation.
#[derive(Debug)]
pub struct FusedOperators {
    pool: Arc<ThreadPool>,
    reference: CpuOperators,
    kernels: Kernels,
    isa: Isa,
}

impl FusedOperators {
    /// On `pool`, with the best kernels this CPU has.
    pub fn new(pool: Arc<ThreadPool>) -> Self {
        Self::with_kernels(pool, Kernels::detect())
    }
    /// One for each set of kernels this CPU has, e.g. to test them all; the best last.
    pub fn available(pool: &Arc<ThreadPool>) -> Vec<Self> {
        Kernels::available().into_iter().map(|kernels| Self::with_kernels(Arc::clone(pool), kernels)).collect()
    }
    fn with_kernels(pool: Arc<ThreadPool>, kernels: Kernels) -> Self {
        let isa = kernels.isa();
        Self { reference: CpuOperators::with_isa(Arc::clone(&pool), isa), pool, kernels, isa }
    }

    /// Name for the record, e.g. `fused (cpu, avx512-vnni, 2 threads)`.
    pub fn name(&self) -> String {
        format!("fused (cpu, {}, {} threads)", self.kernels.name(), self.pool.threads())
    }

    /// The f32 values of a norm or a bias.
    ///
    /// # Errors
    /// If `tensor` is not f32 in the host's memory.
    pub fn vector(tensor: &Tensor) -> Result<Vec<f32>> {
        cpu::with_f32(tensor, |values| Ok(values.to_vec()))
    }

    /// Rows of `table` picked by `ids`.
    ///
    /// # Errors
    /// If an id lies outside the table.
    pub fn embedding(&self, table: &Weight, ids: &[u32], out: &mut [f32]) -> Result<()> {
        self.reference.embed_into(table, ids, out)
    }

    /// RMS norm of each row of `weight.len()` values.
    pub fn rms_norm(&self, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
        let width = weight.len();
        self.reference.by_rows(out, width, &|rows, out| {
            // SAFETY: `isa` is what the CPU has.
            unsafe { k::rms_norm(self.isa, &x[rows.start * width..rows.end * width], weight, eps, out) }
        });
    }

    /// `residual += delta`, and the RMS norm of the sum into `out`.
    pub fn add_rms_norm(&self, residual: &mut [f32], delta: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
        let width = weight.len();
        let residual = SharedMut::new(residual);
        self.reference.by_rows(out, width, &|rows, out| {
            let range = rows.start * width..rows.end * width;
            // SAFETY: row ranges are disjoint; `isa` is what the CPU has.
            unsafe {
                kernels::add_rms_norm(self.isa, residual.slice(range.clone()), &delta[range], weight, eps, out);
            }
        });
    }

    /// `residual += delta`.
    pub fn add(&self, residual: &mut [f32], delta: &[f32], width: usize) {
        self.reference.by_rows(residual, width, &|rows, residual| {
            // SAFETY: `isa` is what the CPU has.
            unsafe { kernels::add_assign(self.isa, residual, &delta[rows.start * width..rows.end * width]) }
        });
    }

    /// RMS norm of each head of `columns` of every row of `x`, in place.
    pub fn norm_heads(&self, x: &mut [f32], stride: usize, columns: std::ops::Range<usize>, weight: &[f32], eps: f32) {
        self.reference.by_rows(x, stride, &|_, rows| {
            for row in rows.chunks_exact_mut(stride) {
                // SAFETY: `isa` is what the CPU has.
                unsafe { kernels::rms_norm_in_place(self.isa, &mut row[columns.clone()], weight, eps) }
            }
        });
    }

    /// Rotates q and k in `qkv` (rows of q, k and v) and writes k and v at `shape.position..` of the cache.
    ///
    /// # Errors
    /// If the cache has no room for them.
    pub fn rope_write(
        &self,
        qkv: &mut [f32],
        table: &RopeTable,
        cache: &mut BlockedCache,
        shape: &AttentionShape,
    ) -> Result<()> {
        let AttentionShape { batch, queries, position, heads, kv_heads, head_dim, .. } = *shape;
        if position + queries > cache.positions || batch > cache.batch {
            bail!(
                "the KV cache has room for {} × {} positions, not {batch} × {}",
                cache.batch,
                cache.positions,
                position + queries
            );
        }
        let width = (heads + 2 * kv_heads) * head_dim;
        let rows = batch * queries;
        // About whole blocks of keys a task, so that two threads seldom write to one line of the cache.
        let grain = if rows * width <= SERIAL_VALUES { rows } else { cache::KEY_BLOCK };
        let (sequence_values, positions) = (kv_heads * cache.positions * head_dim, cache.positions);
        let (isa, target) = (self.isa, SharedMut::new(qkv));
        macro_rules! write {
            ($keys:ident, $values:ident, $kernel:path) => {{
                let (keys, values) = (SharedMut::new(&mut $keys[..]), SharedMut::new(&mut $values[..]));
                self.pool.for_ranges(rows, grain, &|range| {
                    for index in range {
                        let (sequence, position) = (index / queries, position + index % queries);
                        let cached = sequence * sequence_values..(sequence + 1) * sequence_values;
                        let angles = position * table.half_dim..(position + 1) * table.half_dim;
                        // SAFETY: each row and each position of a sequence belongs to one task; tasks write to disjoint elements of the
                        // cache through raw pointers only; `isa` is what the CPU has.
                        unsafe {
                            let place = kernels::Place {
                                keys: keys.pointer(cached.clone()),
                                values: values.pointer(cached),
                                positions,
                                position,
                                cos: &table.cos[angles.clone()],
                                sin: &table.sin[angles],
                            };
                            let row = target.slice(index * width..(index + 1) * width);
                            $kernel(isa, row, heads, kv_heads, head_dim, place);
                        }
                    }
                });
            }};
        }
        match (&mut cache.keys, &mut cache.values) {
            (Buffer::F32(keys), Buffer::F32(values)) => write!(keys, values, kernels::rope_write_f32),
            (Buffer::BF16(keys), Buffer::BF16(values)) => write!(keys, values, kernels::rope_write_bf16),
            (Buffer::F16(keys), Buffer::F16(values)) => write!(keys, values, kernels::rope_write_f16),
            _ => unreachable!("keys and values have one format"),
        }
        Ok(())
    }
}

/// Element types of a cache, with the kernels for them.
trait Cached: k::Element {
    /// The elements as f32: borrowed, or widened into `scratch`.
    ///
    /// # Safety
    /// `isa` must be what the CPU has.
    unsafe fn widened<'a>(isa: Isa, values: &'a [Self], scratch: &'a mut Vec<f32>) -> &'a [f32]
    where
        Self: Sized;
    /// See [`kernels::attend_f32`].
    ///
    /// # Safety
    /// As there.
    unsafe fn attend(isa: Isa, task: Task<'_, Self>)
    where
        Self: Sized;
}

/// The arguments of one call of [`kernels::attend_f32`].
struct Task<'a, E> {
    queries: &'a [f32],
    head_dim: usize,
    stretch: kernels::Stretch<'a, E>,
    scale: f32,
    scores: &'a mut [f32],
    stride: usize,
    out: &'a mut [f32],
}

macro_rules! cached {
    ($type:ty, $attend:ident, |$isa:ident, $values:ident, $scratch:ident| $widen:expr) => {
        impl Cached for $type {
            unsafe fn widened<'a>($isa: Isa, $values: &'a [Self], $scratch: &'a mut Vec<f32>) -> &'a [f32] {
                $widen
            }
            unsafe fn attend(isa: Isa, task: Task<'_, Self>) {
                let Task { queries, head_dim, stretch, scale, scores, stride, out } = task;
                // SAFETY: the caller's promise.
                unsafe { kernels::$attend(isa, queries, head_dim, stretch, scale, scores, stride, out) }
            }
        }
    };
}
cached!(f32, attend_f32, |_isa, values, _scratch| values);
cached!(bf16, attend_bf16, |isa, values, scratch| {
    scratch.resize(values.len(), 0.0);
    // SAFETY: the caller's promise; lengths are equal.
    unsafe { k::widen_bf16(isa, values, scratch) };
    scratch
});
cached!(f16, attend_f16, |isa, values, scratch| {
    scratch.resize(values.len(), 0.0);
    // SAFETY: the caller's promise; lengths are equal.
    unsafe { k::widen_f16(isa, values, scratch) };
    scratch
});
