//! Matrix products of `engine.ops=fused` on the CPU: weights repacked into panels, activations rounded to 8 bits.
//!
//! A panel is 16 matrix rows (8 for 256-bit vectors) interleaved so that one broadcast of four activations meets the same four columns
//! of all of them in one instruction (`vpdpbusd`, or its pair `vpmaddubsw`/`vpmaddwd`). Quantized weights (`q4_0`, `q4_1`, `q8_0`) stay
//! as small as in the file; activations are rounded to 8 bits in blocks of 32 with one scale each, sums over a block are exact
//! integers, and only the scaling of a block is done in f32. Dense weights (`f32`, `f16`, `bf16`) are multiplied in f32; `bf16` by the
//! tile unit or by `vdpbf16ps` where that is the best the CPU has (on Sapphire Rapids the latter was measured at 0.6 times the speed of f32
//! products, but there it has tiles).
//!
//! Plain slices only; no candle type and no allocation in a product but each thread's scratch, made once.

#![allow(clippy::needless_range_loop, reason = "register tiles are walked by index, over several arrays at once")]
#![allow(clippy::inline_always, reason = "a kernel must be inlined into the function that carries its target features")]

use super::simd::Isa;
#[cfg(test)]
use crate::estimate::format::Format;

mod activations;
#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod bf16_dot;
mod blocks;
mod dense;
mod layout;
pub(super) mod memory;
mod pack;
mod portable;
mod product;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(crate) use activations::PackedActivations;
pub(crate) use pack::PackedMatrix;
pub(crate) use product::{matmul, matmul_silu_mul};

/// Values that share a scale in the quantized formats, and in the activations multiplied with them.
pub(crate) const BLOCK: usize = 32;

/// Kernel sets, chosen at run time by what the CPU reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kernels {
    /// Plain Rust.
    Portable,
    /// AVX2 and FMA: `vpmaddubsw`, panels of 8 rows.
    Avx2,
    /// AVX2, FMA and AVX-VNNI: 256-bit `vpdpbusd`, panels of 8 rows.
    AvxVnni,
    /// AVX-512 with VNNI: 512-bit `vpdpbusd`, panels of 16 rows.
    Avx512Vnni,
    /// The same, and `vdpbf16ps` for bf16 products.
    Avx512Bf16,
    /// The same but for `vdpbf16ps`, and the tile unit (AMX) for 8-bit products with several tokens and all bf16 products.
    Amx,
}

impl Kernels {
    /// Every set, worst first.
    const ALL: [Self; 6] = [Self::Portable, Self::Avx2, Self::AvxVnni, Self::Avx512Vnni, Self::Avx512Bf16, Self::Amx];

    /// The best set this CPU has.
    pub(crate) fn detect() -> Self {
        Self::available().last().copied().unwrap_or(Self::Portable)
    }
    /// All sets this CPU has, worst first.
    pub(crate) fn available() -> Vec<Self> {
        Self::ALL.into_iter().filter(|kernels| kernels.is_available()).collect()
    }
    /// Its name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::AvxVnni => "avx-vnni",
            Self::Avx512Vnni => "avx512-vnni",
            Self::Avx512Bf16 => "avx512-bf16",
            Self::Amx => "amx",
        }
    }
    /// The set of f32 vector instructions that goes with it.
    pub(crate) fn isa(self) -> Isa {
        match self {
            Self::Portable => Isa::Portable,
            Self::Avx2 | Self::AvxVnni => Isa::Avx2,
            Self::Avx512Vnni | Self::Avx512Bf16 | Self::Amx => Isa::Avx512,
        }
    }
    fn is_available(self) -> bool {
        self.isa() <= Isa::detect()
            && match self {
                Self::Portable | Self::Avx2 => true,
                #[cfg(target_arch = "x86_64")]
                Self::AvxVnni => is_x86_feature_detected!("avxvnni"),
                #[cfg(target_arch = "x86_64")]
                Self::Avx512Vnni => is_x86_feature_detected!("avx512vnni"),
                #[cfg(target_arch = "x86_64")]
                Self::Avx512Bf16 => is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx512bf16"),
                #[cfg(target_arch = "x86_64")]
                Self::Amx => is_x86_feature_detected!("avx512vnni") && amx::is_available(),
                #[cfg(not(target_arch = "x86_64"))]
                Self::AvxVnni | Self::Avx512Vnni | Self::Avx512Bf16 | Self::Amx => false,
            }
    }
    /// Matrix rows in one panel.
    const fn panel_rows(self) -> usize {
        match self {
            Self::Portable | Self::Avx2 | Self::AvxVnni => 8,
            Self::Avx512Vnni | Self::Avx512Bf16 | Self::Amx => 16,
        }
    }
    /// Whether bf16 is multiplied as it is, two columns together.
    const fn multiplies_bf16(self) -> bool {
        matches!(self, Self::Avx512Bf16 | Self::Amx)
    }
    /// From how many tokens on quantized weights are turned into bf16 rather than multiplied with 8-bit activations.
    const fn fewest_bf16_tokens(self) -> Option<usize> {
        match self {
            Self::Amx => Some(24),
            _ => None,
        }
    }
}

impl std::fmt::Display for Kernels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}
