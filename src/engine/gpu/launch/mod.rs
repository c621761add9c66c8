//! The launches of our kernels: which module, which grid, which arguments. The contract of each kernel is in `kernels/README.md`.
//!
//! Addresses are on the device and aligned to 16 bytes; matrices are row-major. `half` is the 16-bit type of activations, dense weights and
//! cache. Nothing here waits for the device.

mod attention;
mod gemv;

pub use attention::{
    DecodeAttention, PrefillAttention, attention_decode, attention_partial_bytes, attention_prefill, splits,
    unsupported_head,
};
pub use gemv::{Gemv, GemvInput, GemvOutput, MAX_BATCH, gemv};

use super::backend::{Address, Arg, GpuBackend, GpuError, GpuResult, HalfType, Launch};
use super::kernel::{self, Kernel, Module, Source};
use super::pack::WeightFormat;

/// Threads of a block where a kernel does not ask for another number.
const BLOCK: u32 = 256;
/// Values of a row that a block of the gated activation and of dequantization makes.
const BLOCK_VALUES: u32 = BLOCK * 8;
/// Logits that a block looks at, if there are not too many blocks then.
const CHUNK: u32 = 2048;
const MAX_CHUNKS: u32 = 128;

/// `PP_T` of the kernels.
const fn half_number(half: HalfType) -> u32 {
    match half {
        HalfType::F16 => 0,
        HalfType::BF16 => 1,
    }
}

/// `function` of `source` compiled for `half` with further macros.
fn half_kernel(source: Source, function: &'static str, half: HalfType, defines: &[(&'static str, u32)]) -> Kernel {
    let mut all = Vec::with_capacity(defines.len() + 1);
    all.push(("PP_T", half_number(half)));
    all.extend_from_slice(defines);
    Kernel { module: Module::new(source, &all), function }
}

/// A launch without dynamic shared memory.
const fn plain(grid: [u32; 3]) -> Launch {
    Launch { grid, block: [BLOCK, 1, 1], shared_bytes: 0 }
}

/// An error where `value` is no multiple of `unit`: the kernels read `unit` values at once.
fn multiple(what: &str, name: &str, value: u32, unit: u32) -> GpuResult<()> {
    if value != 0 && value.is_multiple_of(unit) {
        return Ok(());
    }
    Err(GpuError::new(format!("launching {what}"), format!("{name} is {value}, not a multiple of {unit}")))
}

/// `out[rows, width]` f32 `= table[ids[row]]`; `width` is a multiple of 8, `table` of type `half`.
///
/// # Errors
/// If the width does not fit or the device refuses.
pub fn embedding(
    backend: &dyn GpuBackend,
    half: HalfType,
    out: Address,
    table: Address,
    ids: Address,
    rows: u32,
    width: u32,
) -> GpuResult<()> {
    multiple("embedding", "the width", width, 8)?;
    let kernel = half_kernel(kernel::EMBEDDING, "embedding", half, &[]);
    backend.launch(&kernel, plain([rows, 1, 1]), &[out.into(), table.into(), ids.into(), width.into()])
}

/// `out[rows, width]` = the RMS norm of the rows of f32 `x`, `x_stride` values apart; both widths are multiples of 4.
///
/// # Errors
/// If a width does not fit or the device refuses.
#[expect(clippy::too_many_arguments, reason = "the arguments of the kernel")]
pub fn rms_norm(
    backend: &dyn GpuBackend,
    half: HalfType,
    out: Address,
    x: Address,
    x_stride: u32,
    weight: Address,
    eps: f32,
    rows: u32,
    width: u32,
) -> GpuResult<()> {
    multiple("rms_norm", "the width", width, 4)?;
    multiple("rms_norm", "the stride", x_stride, 4)?;
    let kernel = half_kernel(kernel::RMS_NORM, "rms_norm", half, &[]);
    let args = [out.into(), x.into(), x_stride.into(), weight.into(), eps.into(), width.into()];
    backend.launch(&kernel, plain([rows, 1, 1]), &args)
}

/// RMS norms of `heads` heads of each of `rows` rows in place; `x` is the first head of the first row, rows are `stride` values apart.
///
/// # Errors
/// If the heads are no multiple of 2 wide or the device refuses.
#[expect(clippy::too_many_arguments, reason = "the arguments of the kernel")]
pub fn rms_norm_heads(
    backend: &dyn GpuBackend,
    half: HalfType,
    x: Address,
    stride: u32,
    heads: u32,
    rows: u32,
    head_dim: u32,
    weight: Address,
    eps: f32,
) -> GpuResult<()> {
    multiple("rms_norm_heads", "the width of a head", head_dim, 2)?;
    multiple("rms_norm_heads", "the stride", stride, 2)?;
    let kernel = half_kernel(kernel::RMS_NORM, "rms_norm_heads", half, &[]);
    // A thread for each pair of values, in whole warps.
    let block = (head_dim / 2).next_multiple_of(32).min(128);
    let launch = Launch { grid: [heads, rows, 1], block: [block, 1, 1], shared_bytes: 0 };
    backend.launch(&kernel, launch, &[x.into(), stride.into(), head_dim.into(), weight.into(), eps.into()])
}

/// Arguments of [`rope_kv_write`].
#[derive(Debug, Clone, Copy)]
pub struct RopeWrite {
    /// `[rows, stride]`: q heads, k heads, v heads. q is rotated in place.
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
    /// u32: position of the first query.
    pub position: Address,
    /// Sequences times queries.
    pub rows: u32,
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
}

/// Rotates q in place, and writes rotated k and v to the caches.
///
/// # Errors
/// If a width does not fit or the device refuses.
pub fn rope_kv_write(backend: &dyn GpuBackend, half: HalfType, call: &RopeWrite) -> GpuResult<()> {
    multiple("rope_kv_write", "the width of a head", call.head_dim, 4)?;
    multiple("rope_kv_write", "the stride", call.stride, 4)?;
    let kernel = half_kernel(kernel::ROPE_KV, "rope_kv_write", half, &[]);
    let args = [
        call.qkv.into(),
        call.stride.into(),
        call.cos.into(),
        call.sin.into(),
        call.k_cache.into(),
        call.v_cache.into(),
        call.position.into(),
        call.queries.into(),
        call.heads.into(),
        call.kv_heads.into(),
        call.head_dim.into(),
        call.capacity.into(),
    ];
    backend.launch(&kernel, plain([call.rows, 1, 1]), &args)
}

/// `out[rows, width] = silu(gate) * up` of `gate_up[rows, 2 * width]`; `width` is a multiple of 8.
///
/// # Errors
/// If the width does not fit or the device refuses.
pub fn swiglu(
    backend: &dyn GpuBackend,
    half: HalfType,
    out: Address,
    gate_up: Address,
    rows: u32,
    width: u32,
) -> GpuResult<()> {
    multiple("swiglu", "the width", width, 8)?;
    let kernel = half_kernel(kernel::SWIGLU, "swiglu", half, &[]);
    let grid = [width.div_ceil(BLOCK_VALUES), rows, 1];
    backend.launch(&kernel, plain(grid), &[out.into(), gate_up.into(), width.into()])
}

/// `x[rows, width] += bias[width]`; `x` is f32 where `is_f32`, else of type `half`.
///
/// # Errors
/// If the device refuses.
pub fn add_bias(
    backend: &dyn GpuBackend,
    half: HalfType,
    x: Address,
    bias: Address,
    rows: u32,
    width: u32,
    is_f32: bool,
) -> GpuResult<()> {
    let kernel = half_kernel(kernel::BIAS, if is_f32 { "add_bias_f32" } else { "add_bias" }, half, &[]);
    backend.launch(&kernel, plain([width.div_ceil(BLOCK), rows, 1]), &[x.into(), bias.into(), width.into()])
}

/// `out` of type `half` = the values of `blocks` quantized blocks of 32.
///
/// # Errors
/// If `format` is not quantized, there are too many blocks for a grid, or the device refuses.
#[expect(clippy::too_many_arguments, reason = "the arguments of the kernel")]
pub fn dequantize(
    backend: &dyn GpuBackend,
    half: HalfType,
    format: WeightFormat,
    out: Address,
    quants: Address,
    scales: Address,
    mins: Address,
    blocks: u64,
) -> GpuResult<()> {
    let error = |reason| GpuError::new("launching dequantize", reason);
    if format == WeightFormat::Half {
        return Err(error("the weights are not quantized"));
    }
    let grid = u32::try_from((blocks * 32).div_ceil(u64::from(BLOCK_VALUES)))
        .ok()
        .filter(|grid| i32::try_from(*grid).is_ok())
        .ok_or_else(|| error("the matrix has too many blocks for one grid"))?;
    let kernel = half_kernel(kernel::DEQUANTIZE, "dequantize", half, &[("PP_WEIGHT", format.number())]);
    let args = [out.into(), quants.into(), scales.into(), mins.into(), Arg::U64(blocks)];
    backend.launch(&kernel, plain([grid, 1, 1]), &args)
}

/// Arguments of [`choose`].
#[derive(Debug, Clone, Copy)]
pub struct Choice {
    /// `[batch]` u32: gets the ids.
    pub ids: Address,
    /// `[batch, width]` f32.
    pub logits: Address,
    /// Vocabulary.
    pub width: u32,
    /// Sequences.
    pub batch: u32,
    /// 0: the most likely token; else one is sampled.
    pub inverse_temperature: f32,
    /// Key of the noise.
    pub seed: u64,
    /// u32: position, step, non-finite logits seen.
    pub state: Address,
    /// Added to the position.
    pub advance: u32,
    /// `[batch, history_stride]` u32: gets the id at the step.
    pub history: Address,
    /// Values from row to row of the history.
    pub history_stride: u32,
    /// `[batch, choice_chunks(width)]` f32.
    pub partial_values: Address,
    /// `[batch, choice_chunks(width)]` u32.
    pub partial_ids: Address,
    /// `[batch + 1]` u32, zero.
    pub counters: Address,
}

/// Blocks that look for the best of `width` logits.
pub fn choice_chunks(width: u32) -> u32 {
    width.div_ceil(CHUNK).clamp(1, MAX_CHUNKS)
}

/// Chooses a token for each sequence and moves the state on.
///
/// # Errors
/// If the device refuses.
pub fn choose(backend: &dyn GpuBackend, call: &Choice) -> GpuResult<()> {
    let kernel = Kernel { module: Module::new(kernel::SAMPLING, &[]), function: "choose" };
    let args = [
        call.ids.into(),
        call.logits.into(),
        call.width.into(),
        call.inverse_temperature.into(),
        Arg::U64(call.seed),
        call.state.into(),
        call.advance.into(),
        call.history.into(),
        call.history_stride.into(),
        call.partial_values.into(),
        call.partial_ids.into(),
        call.counters.into(),
    ];
    backend.launch(&kernel, plain([choice_chunks(call.width), call.batch, 1]), &args)
}

#[cfg(test)]
mod tests;
