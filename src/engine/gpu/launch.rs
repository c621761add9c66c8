//! STUB
#![allow(missing_docs, unused_variables, clippy::too_many_arguments)]
use super::backend::*;
use super::pack::WeightFormat;
pub const MAX_BATCH: u32 = 8;
fn stub() -> GpuResult<()> {
    Err(GpuError::new("launch", "stub"))
}
pub fn embedding(
    b: &dyn GpuBackend,
    half: HalfType,
    out: Address,
    table: Address,
    ids: Address,
    rows: u32,
    width: u32,
) -> GpuResult<()> {
    stub()
}
pub fn rms_norm(
    b: &dyn GpuBackend,
    half: HalfType,
    out: Address,
    x: Address,
    x_stride: u32,
    weight: Address,
    eps: f32,
    rows: u32,
    width: u32,
) -> GpuResult<()> {
    stub()
}
pub fn rms_norm_heads(
    b: &dyn GpuBackend,
    half: HalfType,
    x: Address,
    stride: u32,
    heads: u32,
    rows: u32,
    head_dim: u32,
    weight: Address,
    eps: f32,
) -> GpuResult<()> {
    stub()
}
pub struct RopeWrite {
    pub qkv: Address,
    pub stride: u32,
    pub cos: Address,
    pub sin: Address,
    pub k_cache: Address,
    pub v_cache: Address,
    pub position: Address,
    pub rows: u32,
    pub queries: u32,
    pub heads: u32,
    pub kv_heads: u32,
    pub head_dim: u32,
    pub capacity: u32,
}
pub fn rope_kv_write(b: &dyn GpuBackend, half: HalfType, call: &RopeWrite) -> GpuResult<()> {
    stub()
}
pub fn swiglu(
    b: &dyn GpuBackend,
    half: HalfType,
    out: Address,
    gate_up: Address,
    rows: u32,
    width: u32,
) -> GpuResult<()> {
    stub()
}
pub struct DecodeAttention {
    pub out: Address,
    pub qkv: Address,
    pub stride: u32,
    pub cos: Address,
    pub sin: Address,
    pub k_cache: Address,
    pub v_cache: Address,
    pub position: Address,
    pub partials: Address,
    pub counters: Address,
    pub splits: u32,
    pub batch: u32,
    pub heads: u32,
    pub kv_heads: u32,
    pub head_dim: u32,
    pub capacity: u32,
    pub window: u32,
    pub scale: f32,
    pub rotate: bool,
}
pub fn attention_decode(b: &dyn GpuBackend, half: HalfType, call: &DecodeAttention) -> GpuResult<()> {
    stub()
}
pub struct PrefillAttention {
    pub out: Address,
    pub qkv: Address,
    pub stride: u32,
    pub k_cache: Address,
    pub v_cache: Address,
    pub position: Address,
    pub batch: u32,
    pub queries: u32,
    pub heads: u32,
    pub kv_heads: u32,
    pub head_dim: u32,
    pub capacity: u32,
    pub window: u32,
    pub scale: f32,
}
pub fn attention_prefill(b: &dyn GpuBackend, half: HalfType, call: &PrefillAttention) -> GpuResult<()> {
    stub()
}
#[derive(Clone, Copy)]
pub enum GemvInput {
    Half(Address),
    Normed { x: Address, weight: Address, eps: f32 },
}
#[derive(Clone, Copy)]
pub enum GemvOutput {
    Half(Address),
    Add(Address),
    SwiGlu(Address),
    F32(Address),
}
pub struct Gemv {
    pub batch: u32,
    pub input: GemvInput,
    pub output: GemvOutput,
    pub format: WeightFormat,
    pub w: Address,
    pub scales: Address,
    pub mins: Address,
    pub bias: Address,
    pub inner: u32,
    pub outer: u32,
}
pub fn gemv(b: &dyn GpuBackend, half: HalfType, call: &Gemv) -> GpuResult<()> {
    stub()
}
pub struct Choice {
    pub ids: Address,
    pub logits: Address,
    pub width: u32,
    pub batch: u32,
    pub inverse_temperature: f32,
    pub seed: u64,
    pub state: Address,
    pub advance: u32,
    pub history: Address,
    pub history_stride: u32,
    pub partial_values: Address,
    pub partial_ids: Address,
    pub counters: Address,
}
pub fn choose(b: &dyn GpuBackend, call: &Choice) -> GpuResult<()> {
    stub()
}
pub fn choice_chunks(width: u32) -> u32 {
    1
}
pub fn dequantize(
    b: &dyn GpuBackend,
    half: HalfType,
    format: WeightFormat,
    out: Address,
    quants: Address,
    scales: Address,
    mins: Address,
    blocks: u64,
) -> GpuResult<()> {
    stub()
}
pub fn add_bias(
    b: &dyn GpuBackend,
    half: HalfType,
    x: Address,
    bias: Address,
    rows: u32,
    width: u32,
    f32_x: bool,
) -> GpuResult<()> {
    stub()
}
pub fn splits(facts: &DeviceFacts, batch: u32, kv_heads: u32, capacity: u32) -> u32 {
    1
}
pub fn attention_partial_bytes(batch: u32, kv_heads: u32, splits: u32, group: u32, head_dim: u32) -> u64 {
    16
}
pub fn unsupported_head(head_dim: u32, group: u32) -> Option<String> {
    None
}
