//! Operators of a decoder behind one trait, so that a variant can be studied against another (`engine.ops=`).
//!
//! - [`cpu::CpuOperators`]: our kernels on the CPU, one per operator (`reference` on `device=cpu`).
//! - [`fused::FusedOperators`]: fewer, larger operators over plain memory and packed weights (`fused` on `device=cpu`), driven by
//!   [`FusedDecoder`](super::models::fused::FusedDecoder); not behind the trait, as nothing in it is a tensor.
//! - [`tensor::TensorOperators`]: plain candle operations on any device (`reference` elsewhere, and the oracle of the tests).
//!
//! Activations are `[rows, width]` tensors with rows = batch × queries, sequence by sequence.

use std::sync::Arc;

use candle_core::{Device, Result, Tensor};

use super::kv_cache::LayerCache;
use super::threads::ThreadPool;
use super::weights::Weight;
use crate::estimate::format::Format;

#[macro_use]
mod dispatch;

mod attention;
pub mod cpu;
pub mod fused;
pub(crate) mod kernels;
pub(crate) mod packed;
pub(crate) mod quant;
pub mod simd;
pub mod tensor;
#[cfg(test)]
mod tests;

/// Cosines and sines of every position, `[positions, head_dim / 2]` each, row-major.
#[derive(Debug, Clone)]
pub struct RopeTable {
    /// Cosines, scaled by the attention factor where the scaling has one.
    pub cos: Arc<[f32]>,
    /// Sines, scaled likewise.
    pub sin: Arc<[f32]>,
    /// Width of one row.
    pub half_dim: usize,
}

/// The dimensions of one attention call.
#[derive(Debug, Clone, Copy)]
pub struct AttentionShape {
    /// Sequences.
    pub batch: usize,
    /// New positions of each sequence.
    pub queries: usize,
    /// Position of the first of them.
    pub position: usize,
    /// Query heads.
    pub heads: usize,
    /// Key/value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Sliding window, if any.
    pub window: Option<usize>,
}

/// The operators a decoder is made of.
pub trait Operators: Send + Sync {
    /// Name for the record, e.g. `reference (cpu, avx512)`.
    fn name(&self) -> String;
    /// How activations are stored between operators.
    fn activation_format(&self) -> Format;
    /// Prepares a layer cache of `capacity` positions.
    fn new_cache(
        &self,
        batch: usize,
        kv_heads: usize,
        capacity: usize,
        head_dim: usize,
        format: Format,
    ) -> Result<LayerCache>;
    /// Rows of `table` picked by `ids`: `[rows, width]`.
    fn embedding(&self, table: &Weight, ids: &Tensor) -> Result<Tensor>;
    /// RMS norm of each stretch of `weight.len()` values.
    fn rms_norm(&self, x: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor>;
    /// `x · weightᵀ + bias`.
    fn linear(&self, x: &Tensor, weight: &Weight, bias: Option<&Tensor>) -> Result<Tensor>;
    /// Half-rotation RoPE of `q` and `k`, whose rows stand at `shape.position..` in each sequence.
    fn rope(&self, q: &Tensor, k: &Tensor, table: &RopeTable, shape: &AttentionShape) -> Result<(Tensor, Tensor)>;
    /// Writes `k` and `v` at `shape.position..` of the cache.
    fn write_kv(&self, cache: &mut LayerCache, k: &Tensor, v: &Tensor, shape: &AttentionShape) -> Result<()>;
    /// Causal attention of `q` over the cache: `[rows, heads × head_dim]`.
    fn attention(&self, q: &Tensor, cache: &LayerCache, shape: &AttentionShape) -> Result<Tensor>;
    /// `silu(gate) × up`.
    fn silu_mul(&self, gate: &Tensor, up: &Tensor) -> Result<Tensor>;
    /// `a + b`.
    fn add(&self, a: &Tensor, b: &Tensor) -> Result<Tensor>;
}

/// The `reference` operators for `device`.
pub fn reference(device: &Device, pool: &Arc<ThreadPool>) -> Arc<dyn Operators> {
    match device {
        Device::Cpu => Arc::new(cpu::CpuOperators::new(Arc::clone(pool))),
        other => Arc::new(tensor::TensorOperators::new(other.clone())),
    }
}
