//! What a kernel name says beside the class: number formats, tensor cores, library, tile.

use serde::{Deserialize, Serialize};

use super::class::Collective;

/// What the name says. Unknown is `None` or empty.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct KernelTraits {
    /// Library it comes from, e.g. `cublas`, `cutlass3`, `flash_attn2`, `vllm`, `triton`, `candle`, `llama.cpp`, `nccl`, `pytorch`.
    pub library: Option<String>,
    /// Number formats in the name in order of appearance, each once, e.g. `bf16`, `fp8_e4m3`, `q8_0`.
    pub dtypes: Vec<String>,
    /// Whether it computes on tensor cores, where the name tells.
    pub tensor_cores: Option<bool>,
    /// Tile of a block, where the name has it.
    pub tile: Option<Tile>,
    /// Head dimension of an attention kernel, where the name has it.
    pub head_dim: Option<u32>,
    /// Kind of communication.
    pub collective: Option<Collective>,
}

/// Tile of a matrix product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tile {
    /// Rows.
    pub m: u32,
    /// Columns.
    pub n: u32,
    /// Depth, where the name has it.
    pub k: Option<u32>,
}
