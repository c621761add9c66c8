//! The KV cache: allocated once for the whole context, written in place, read where it lies.

use candle_core::Tensor;
use half::{bf16, f16};

use crate::estimate::format::Format;

/// Keys and values of one layer on the CPU, each `[batch, kv_heads, capacity, head_dim]`.
#[derive(Debug)]
pub enum HostBuffer {
    /// f32 values.
    F32(Vec<f32>),
    /// bf16 values.
    BF16(Vec<bf16>),
    /// f16 values.
    F16(Vec<f16>),
}

/// Where a layer's keys and values are.
#[derive(Debug)]
pub enum Storage {
    /// In host memory, for the CPU kernels.
    Host {
        /// Keys.
        k: HostBuffer,
        /// Values.
        v: HostBuffer,
    },
    /// In candle tensors on any device.
    Device {
        /// Keys.
        k: Tensor,
        /// Values.
        v: Tensor,
    },
}

/// The cache of one layer.
#[derive(Debug)]
pub struct LayerCache {
    /// The memory.
    pub storage: Storage,
    /// Sequences.
    pub batch: usize,
    /// Key/value heads.
    pub kv_heads: usize,
    /// Positions there is room for.
    pub capacity: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// How values are stored.
    pub format: Format,
}

impl LayerCache {
    /// Bytes of `positions` positions of all sequences, keys and values.
    pub fn bytes(&self, positions: usize) -> u64 {
        self.format.bytes((2 * self.batch * self.kv_heads * self.head_dim * positions) as u64)
    }
    /// Offset of the first value of (sequence, head).
    pub(crate) fn offset(&self, sequence: usize, head: usize) -> usize {
        (sequence * self.kv_heads + head) * self.capacity * self.head_dim
    }
}
