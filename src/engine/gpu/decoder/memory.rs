//! The memory of a decoder: made once, since a recorded step knows addresses.

use crate::engine::gpu::backend::{Buffer, GpuBackend, GpuResult};
use crate::engine::gpu::launch;
use crate::engine::models::decoder::CachePlan;
use crate::estimate::architecture::Architecture;

/// Rows of a prompt that are worked on at once: what bounds the memory of activations.
const MAX_ROWS: usize = 8192;

/// Memory used by every step, at fixed addresses.
pub(super) struct Work {
    pub(super) rows: usize,
    /// Tokens of this step, `[rows]` u32; the next step's are written by the choice.
    pub(super) ids: Buffer,
    /// `[rows, hidden]` f32.
    pub(super) residual: Buffer,
    /// `[rows, hidden]`.
    pub(super) normed: Buffer,
    /// `[rows, q + k + v]`.
    pub(super) qkv: Buffer,
    /// `[rows, q]`.
    pub(super) attended: Buffer,
    /// `[rows, 2 × intermediate]`; prompts only.
    pub(super) gate_up: Buffer,
    /// `[rows, intermediate]`.
    pub(super) activated: Buffer,
    /// One dequantized matrix, for products of quantized weights with many rows.
    pub(super) dequantized: Option<Buffer>,
}

/// Memory of the choice of tokens and of attention.
pub(super) struct State {
    /// `[batch, vocabulary]` f32.
    pub(super) logits: Buffer,
    /// Position, step, non-finite logits, unused: u32 each.
    pub(super) position: Buffer,
    /// `[batch, history_stride]` u32.
    pub(super) history: Buffer,
    pub(super) history_stride: u32,
    pub(super) partial_values: Buffer,
    pub(super) partial_ids: Buffer,
    pub(super) choice_counters: Buffer,
    pub(super) attention_partials: Buffer,
    pub(super) attention_counters: Buffer,
    pub(super) splits: u32,
}

impl Work {
    pub(super) fn new(
        device: &dyn GpuBackend,
        arch: &Architecture,
        plan: &CachePlan,
        dequantized: u64,
    ) -> GpuResult<Self> {
        // Made once, as addresses must not move: for the longest prompt there is room for, or as much of it as is worked on at once.
        let rows = plan.batch.max(MAX_ROWS.min(plan.batch * plan.capacity));
        let half = |width: usize| device.alloc((rows * width * 2) as u64);
        Ok(Self {
            rows,
            ids: device.alloc((rows * 4) as u64)?,
            residual: device.alloc((rows * arch.hidden_size * 4) as u64)?,
            normed: half(arch.hidden_size)?,
            qkv: half(arch.q_width() + 2 * arch.kv_width())?,
            attended: half(arch.q_width())?,
            gate_up: half(2 * arch.intermediate_size)?,
            activated: half(arch.intermediate_size)?,
            dequantized: if dequantized > 0 { Some(device.alloc(dequantized)?) } else { None },
        })
    }
}

impl State {
    pub(super) fn new(device: &dyn GpuBackend, arch: &Architecture, plan: &CachePlan) -> GpuResult<Self> {
        let (batch, kv_heads) = (plan.batch as u32, arch.num_kv_heads as u32);
        let splits = launch::splits(device.facts(), batch, kv_heads, plan.capacity as u32);
        let vocabulary = arch.vocab_size as u32;
        let chunks = u64::from(launch::choice_chunks(vocabulary));
        let zeroed = |bytes: u64| {
            let buffer = device.alloc(bytes)?;
            device.fill(buffer.address(), bytes, 0)?;
            Ok(buffer)
        };
        let history_stride = plan.capacity as u32 + 1;
        Ok(Self {
            logits: device.alloc(u64::from(batch) * u64::from(vocabulary) * 4)?,
            position: zeroed(16)?,
            history: zeroed(u64::from(batch) * u64::from(history_stride) * 4)?,
            history_stride,
            partial_values: device.alloc(u64::from(batch) * chunks * 4)?,
            partial_ids: device.alloc(u64::from(batch) * chunks * 4)?,
            choice_counters: zeroed(u64::from(batch + 1) * 4)?,
            attention_partials: device.alloc(launch::attention_partial_bytes(
                batch,
                kv_heads,
                splits,
                arch.num_heads as u32 / kv_heads.max(1),
                arch.head_dim as u32,
            ))?,
            attention_counters: zeroed(u64::from(batch) * u64::from(kv_heads) * 4)?,
            splits,
        })
    }
}
