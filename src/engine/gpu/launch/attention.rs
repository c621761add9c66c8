//! Attention over the cache.

use super::super::backend::{Address, Arg, DeviceFacts, GpuBackend, GpuError, GpuResult, HalfType, Launch};
use super::super::kernel;
use super::half_kernel;

/// Widest head.
const MAX_HEAD_DIM: u32 = 256;
/// Most heads of a group: the rows of a tensor core's operand.
const MAX_GROUP: u32 = 16;
/// Most splits of a context: what combines them has room for no more.
const MAX_SPLITS: u32 = 64;
/// Positions below which a context is not split: a tile of 16 for each of four warps.
const SPLIT_POSITIONS: u32 = 64;
/// Queries of a prompt that a block works on.
const QUERIES: u32 = 64;

/// Arguments of [`attention_decode`].
#[derive(Debug, Clone, Copy)]
pub struct DecodeAttention {
    /// `[batch, heads * head_dim]`.
    pub out: Address,
    /// `[batch, stride]`: q heads, k heads, v heads of the new position.
    pub qkv: Address,
    /// Values from row to row.
    pub stride: u32,
    /// `[capacity, head_dim / 2]` f32.
    pub cos: Address,
    /// `[capacity, head_dim / 2]` f32.
    pub sin: Address,
    /// `[batch, kv_heads, capacity, head_dim]`.
    pub k_cache: Address,
    /// `[batch, kv_heads, capacity, head_dim]`.
    pub v_cache: Address,
    /// u32: the new position.
    pub position: Address,
    /// [`attention_partial_bytes`].
    pub partials: Address,
    /// `[batch, kv_heads]` u32, zero.
    pub counters: Address,
    /// [`splits`].
    pub splits: u32,
    /// Sequences.
    pub batch: u32,
    /// Query heads.
    pub heads: u32,
    /// Key/value heads.
    pub kv_heads: u32,
    /// Values of a head.
    pub head_dim: u32,
    /// Positions a cache has room for.
    pub capacity: u32,
    /// How many of the last positions are seen; 0: all.
    pub window: u32,
    /// Of the scores, usually `1 / sqrt(head_dim)`.
    pub scale: f32,
    /// Whether q and k are to be rotated and k and v to be written to the cache; else [`super::rope_kv_write`] ran before.
    pub rotate: bool,
}

/// Arguments of [`attention_prefill`].
#[derive(Debug, Clone, Copy)]
pub struct PrefillAttention {
    /// `[batch * queries, heads * head_dim]`.
    pub out: Address,
    /// `[batch * queries, stride]`: rotated q heads first.
    pub qkv: Address,
    /// Values from row to row.
    pub stride: u32,
    /// `[batch, kv_heads, capacity, head_dim]`, the new positions included.
    pub k_cache: Address,
    /// `[batch, kv_heads, capacity, head_dim]`, the new positions included.
    pub v_cache: Address,
    /// u32: position of the first query.
    pub position: Address,
    /// Sequences.
    pub batch: u32,
    /// New positions of a sequence.
    pub queries: u32,
    /// Query heads.
    pub heads: u32,
    /// Key/value heads.
    pub kv_heads: u32,
    /// Values of a head.
    pub head_dim: u32,
    /// Positions a cache has room for.
    pub capacity: u32,
    /// How many of the last positions are seen; 0: all.
    pub window: u32,
    /// Of the scores, usually `1 / sqrt(head_dim)`.
    pub scale: f32,
}

/// Why there is no attention kernel for heads of `head_dim` values in groups of `group` per key/value head; `None` if there is one.
pub fn unsupported_head(head_dim: u32, group: u32) -> Option<String> {
    if head_dim == 0 || !head_dim.is_multiple_of(16) || head_dim > MAX_HEAD_DIM {
        return Some(format!(
            "heads of {head_dim} values have no attention kernel; multiples of 16 up to {MAX_HEAD_DIM} have"
        ));
    }
    if group == 0 || group > MAX_GROUP {
        return Some(format!(
            "{group} query heads for each key/value head have no attention kernel; 1 to {MAX_GROUP} have"
        ));
    }
    None
}

/// Splits of the context in a decode step: enough blocks for two on each multiprocessor, where the context is long enough.
pub fn splits(facts: &DeviceFacts, batch: u32, kv_heads: u32, capacity: u32) -> u32 {
    let wanted = (2 * facts.multiprocessors).div_ceil((batch * kv_heads).max(1));
    wanted.min(capacity.div_ceil(SPLIT_POSITIONS)).clamp(1, MAX_SPLITS)
}

/// Bytes of the partial results of [`attention_decode`].
pub fn attention_partial_bytes(batch: u32, kv_heads: u32, splits: u32, group: u32, head_dim: u32) -> u64 {
    u64::from(batch) * u64::from(kv_heads) * u64::from(splits) * u64::from(group) * u64::from(head_dim + 2) * 4
}

/// Threads and dynamic shared memory of a block of `attention_decode.cu`.
pub(super) const fn decode_block(head_dim: u32) -> (u32, u32) {
    let warps = if head_dim <= 128 { 4 } else { 2 };
    let dim = head_dim.next_multiple_of(16);
    let stride = dim + 8;
    // q, the new k and v, and for each warp two stages of 16 rows of K and of V.
    (warps * 32, 2 * (16 * stride + 2 * dim + warps * 64 * stride))
}

/// Dynamic shared memory of a block of `attention_prefill.cu`.
pub(super) const fn prefill_shared_bytes(head_dim: u32) -> u32 {
    let keys = if head_dim <= 128 { 64 } else { 32 };
    // q, and two stages of K and of V.
    2 * (head_dim + 8) * (QUERIES + 4 * keys)
}

/// Heads for each key/value head.
fn group(what: &str, heads: u32, kv_heads: u32, head_dim: u32) -> GpuResult<u32> {
    let error = |reason| GpuError::new(format!("launching {what}"), reason);
    if kv_heads == 0 || !heads.is_multiple_of(kv_heads) {
        return Err(error(format!("{heads} query heads cannot share {kv_heads} key/value heads")));
    }
    unsupported_head(head_dim, heads / kv_heads).map_or(Ok(heads / kv_heads), |reason| Err(error(reason)))
}

/// Attention of one new position of each sequence.
///
/// # Errors
/// If the heads have no kernel or the device refuses.
pub fn attention_decode(backend: &dyn GpuBackend, half: HalfType, call: &DecodeAttention) -> GpuResult<()> {
    let group = group("attention_decode", call.heads, call.kv_heads, call.head_dim)?;
    if call.splits == 0 || call.splits > MAX_SPLITS {
        let reason = format!("{} splits of the context; 1 to {MAX_SPLITS} have room", call.splits);
        return Err(GpuError::new("launching attention_decode", reason));
    }
    let defines = [("PP_GROUP", group), ("PP_HEAD_DIM", call.head_dim)];
    let kernel = half_kernel(kernel::ATTENTION_DECODE, "attention_decode", half, &defines);
    let (threads, shared_bytes) = decode_block(call.head_dim);
    let launch = Launch { grid: [call.splits, call.kv_heads, call.batch], block: [threads, 1, 1], shared_bytes };
    let args = [
        call.out.into(),
        call.qkv.into(),
        call.stride.into(),
        call.cos.into(),
        call.sin.into(),
        call.k_cache.into(),
        call.v_cache.into(),
        call.position.into(),
        call.partials.into(),
        call.counters.into(),
        call.heads.into(),
        call.kv_heads.into(),
        call.capacity.into(),
        call.window.into(),
        call.scale.into(),
        Arg::U32(u32::from(call.rotate)),
    ];
    backend.launch(&kernel, launch, &args)
}

/// Causal attention of a prompt.
///
/// # Errors
/// If the heads have no kernel or the device refuses.
pub fn attention_prefill(backend: &dyn GpuBackend, half: HalfType, call: &PrefillAttention) -> GpuResult<()> {
    group("attention_prefill", call.heads, call.kv_heads, call.head_dim)?;
    let defines = [("PP_HEAD_DIM", call.head_dim)];
    let kernel = half_kernel(kernel::ATTENTION_PREFILL, "attention_prefill", half, &defines);
    let launch = Launch {
        grid: [call.queries.div_ceil(QUERIES), call.heads, call.batch],
        block: [128, 1, 1],
        shared_bytes: prefill_shared_bytes(call.head_dim),
    };
    let args = [
        call.out.into(),
        call.qkv.into(),
        call.stride.into(),
        call.k_cache.into(),
        call.v_cache.into(),
        call.position.into(),
        call.queries.into(),
        call.heads.into(),
        call.kv_heads.into(),
        call.capacity.into(),
        call.window.into(),
        call.scale.into(),
    ];
    backend.launch(&kernel, launch, &args)
}
