//! The KV cache of the fused operators: keys in blocks of positions, so that scores need no horizontal sums.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use candle_core::{Result, bail};
use half::{bf16, f16};

use super::super::packed::memory::Region;
use crate::estimate::format::Format;

/// Positions in one block of keys: one vector of AVX-512, two of AVX2.
pub(crate) const KEY_BLOCK: usize = 16;

/// Numbers in huge pages, all zero at first: every block of keys is a page of 4 KiB of its own in a small model, and each would need an
/// address translation in every step.
#[derive(Debug)]
pub(crate) struct Values<T> {
    region: Region,
    len: usize,
    element: PhantomData<T>,
}

impl<T: Number> Values<T> {
    fn zeros(len: usize) -> Result<Self> {
        match len.checked_mul(size_of::<T>()).and_then(Region::new) {
            Some(region) => Ok(Self { region, len, element: PhantomData }),
            None => bail!("a KV cache of {len} values fits no memory"),
        }
    }
}

impl<T: Number> Deref for Values<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: the region is aligned to a cache line and holds `len` numbers, of which any bits are a value.
        unsafe { std::slice::from_raw_parts(self.region.bytes().as_ptr().cast(), self.len) }
    }
}

impl<T: Number> DerefMut for Values<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.region.bytes_mut().as_mut_ptr().cast(), self.len) }
    }
}

/// Plain numbers: any bits are a value, zero bits are zero.
///
/// # Safety
/// The type must be such, and need no stricter alignment than a cache line.
pub(crate) unsafe trait Number: Copy {}
// SAFETY: IEEE numbers.
unsafe impl Number for f32 {}
// SAFETY: a transparent u16.
unsafe impl Number for bf16 {}
// SAFETY: a transparent u16.
unsafe impl Number for f16 {}

/// Keys, or values, of one layer.
#[derive(Debug)]
pub(crate) enum Buffer {
    F32(Values<f32>),
    BF16(Values<bf16>),
    F16(Values<f16>),
}

/// Keys and values of one layer, allocated once.
#[derive(Debug)]
pub struct BlockedCache {
    /// `[batch][kv_heads][positions / KEY_BLOCK][head_dim][KEY_BLOCK]`.
    pub(crate) keys: Buffer,
    /// `[batch][kv_heads][positions][head_dim]`.
    pub(crate) values: Buffer,
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
                Format::F32 => Buffer::F32(Values::zeros(len)?),
                Format::BF16 => Buffer::BF16(Values::zeros(len)?),
                Format::F16 => Buffer::F16(Values::zeros(len)?),
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
