//! Models behind one trait: our instrumented decoder, and candle-transformers' modules for other families.

pub mod decoder;
pub mod fused;
pub mod rope;
pub mod slowed;
pub mod stock;

use candle_core::{Result, Tensor};

use crate::estimate::architecture::Architecture;
use crate::estimate::format::Format;
use crate::instrument::observer::Observer;

/// A causal language model with its KV cache.
pub trait CausalLm: Send {
    /// Runs `tokens` (`[batch, queries]`, u32) at positions `position..` and returns the logits of the last position,
    /// `[batch, vocab]` in f32.
    fn forward(&mut self, tokens: &Tensor, position: usize, observer: &mut dyn Observer) -> Result<Tensor>;
    /// Empties the KV cache; its memory stays allocated.
    fn reset(&mut self) -> Result<()>;
    /// The shape.
    fn architecture(&self) -> &Architecture;
    /// Bytes the KV cache has allocated, and bytes filled at present.
    fn kv_cache_bytes(&self) -> (u64, u64);
    /// How the KV cache is stored.
    fn kv_format(&self) -> Format;
    /// How activations are stored.
    fn compute_format(&self) -> Format;
    /// True if layer, module and operator spans are reported; false for modules timed as one piece.
    fn is_instrumented(&self) -> bool;
}
