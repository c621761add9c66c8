//! Models behind one trait: our instrumented decoder, and candle-transformers' modules for other families.

pub mod decoder;
pub mod fused;
pub mod rope;
pub mod slowed;
pub mod stock;

use candle_core::{Result, Tensor};

use crate::engine::sampling::SamplingPlan;
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
    /// The sampler that chooses tokens where the logits are; `None` where logits come to the host.
    fn device_sampler(&mut self) -> Option<&mut dyn DeviceSampler> {
        None
    }
}

/// Generation with the choice of tokens on the device: only token ids come to the host.
pub trait DeviceSampler {
    /// Begins a generation that chooses by `plan`, which is greedy or samples from all tokens.
    fn start(&mut self, plan: SamplingPlan) -> Result<()>;
    /// Runs a prompt (`ids` of all sequences, one after the other) and returns the first token of each sequence.
    fn prefill(&mut self, ids: &[u32], observer: &mut dyn Observer) -> Result<Vec<u32>>;
    /// Feeds the tokens chosen last and returns the next ones.
    fn step(&mut self, observer: &mut dyn Observer) -> Result<Vec<u32>>;
    /// NaN and infinite logits seen since the start.
    fn non_finite_logits(&mut self) -> Result<u64>;
}

impl SamplingPlan {
    /// Whether a [`DeviceSampler`] can follow this plan.
    pub fn fits_device(&self) -> bool {
        self.temperature <= 0.0 || (self.top_k.is_none() && self.top_p.is_none_or(|p| p >= 1.0))
    }
}
