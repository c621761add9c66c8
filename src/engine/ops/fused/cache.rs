//! The KV cache of the fused operators: keys in blocks of positions, so that scores need no horizontal sums.

use candle_core::{Result, bail};
use half::{bf16, f16};

use crate::engine::kv_cache::HostBuffer;
use crate::estimate::format::Format;

/// Positions in one block of keys: one vector of AVX-512, two of AVX2.
pub(crate) const KEY_BLOCK: usize = 16;

/// Keys and values of one layer, allocated once.
#[derive(Debug)]
pub struct BlockedCache {
    /// `[batch][kv_heads][positions / KEY_BLOCK][head_dim][KEY_BLOCK]`.
    pub(crate) keys: HostBuffer,
    /// `[batch][kv_heads][positions][head_dim]`.
    pub(crate) values: HostBuffer,
    pub(crate) batch: usize,
    pub(crate) kv_heads: usize,
    /// Positions there is memory for: the capacity asked for, rounded up to whole blocks.
    pub(crate) positions: usize,
    pub(crate) head_dim: usize,
    pub(crate) format: Format,
}

impl BlockedCache {
    /// A cache with room for at least `capacity` positions of `batch` sequences.
    ///
    /// # Errors
    /// If `format` is none that keys and values can be stored in.
    pub fn new(batch: usize, kv_heads: usize, capacity: usize, head_dim: usize, format: Format) -> Result<Self> {
        let positions = capacity.next_multiple_of(KEY_BLOCK);
        let len = batch * kv_heads * positions * head_dim;
        let buffer = || {
            Ok(match format {
                Format::F32 => HostBuffer::F32(vec![0.0; len]),
                Format::BF16 => HostBuffer::BF16(vec![bf16::ZERO; len]),
                Format::F16 => HostBuffer::F16(vec![f16::ZERO; len]),
                other => bail!("a KV cache in {other} is not supported; use f32, f16 or bf16"),
            })
        };
        Ok(Self { keys: buffer()?, values: buffer()?, batch, kv_heads, positions, head_dim, format })
    }
    /// Bytes of `positions` positions of all sequences, keys and values.
    pub fn bytes(&self, positions: usize) -> u64 {
        self.format.bytes((2 * self.batch * self.kv_heads * self.head_dim * positions) as u64)
    }
    /// Bytes allocated.
    pub fn allocated_bytes(&self) -> u64 {
        self.bytes(self.positions)
    }
    /// How keys and values are stored.
    pub fn format(&self) -> Format {
        self.format
    }
    /// Offset of the first key, and of the first value, of (sequence, head).
    pub(super) fn offset(&self, sequence: usize, head: usize) -> usize {
        (sequence * self.kv_heads + head) * self.positions * self.head_dim
    }
}
