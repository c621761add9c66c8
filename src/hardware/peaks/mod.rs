//! What data sheets say a device can do at the most: dense arithmetic per format, memory bandwidth, sizes.
//!
//! Only published figures stand here, each with its source; nothing is measured and nothing is guessed. Two traps decide how the
//! figures are written down:
//!
//! * Vendors print tensor figures *with structured sparsity*, twice the dense ones (H100 SXM bf16: 1979 with, 989.4 without).
//!   Every figure here is dense.
//! * GeForce parts multiply fp16 twice as fast when they also accumulate in fp16. Inference libraries accumulate in fp32, and that
//!   is the figure here (RTX 4090: 165.2, not 330.3).

mod apple;
mod nvidia_datacenter;
mod nvidia_desktop;
mod others;

use crate::estimate::format::Format;

/// 10^12 FLOP/s.
const T: f64 = 1e12;
/// 10^9 B/s.
const GB: f64 = 1e9;
/// 2^20 bytes.
const MIB: u64 = 1 << 20;
/// 2^30 bytes.
const GIB: u64 = 1 << 30;

/// Dense FLOP/s (integer operations per second for `int8`) by input format; `None` where the part has no such unit or no figure
/// is published. Matrix units where the part has them, with 32-bit accumulation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dense {
    /// Double precision: the faster of vector and matrix units.
    pub fp64: Option<f64>,
    /// Single precision on the vector units.
    pub fp32: Option<f64>,
    /// TF32 (or AMD's and Intel's like) on matrix units.
    pub tf32: Option<f64>,
    /// Half precision, accumulated in fp32.
    pub fp16: Option<f64>,
    /// Brain floating point, accumulated in fp32.
    pub bf16: Option<f64>,
    /// 8-bit floating point, accumulated in fp32.
    pub fp8: Option<f64>,
    /// 8-bit integers, accumulated in int32.
    pub int8: Option<f64>,
    /// 4-bit floating point, accumulated in fp32.
    pub fp4: Option<f64>,
}

impl Dense {
    /// Nothing is published.
    pub(super) const NONE: Self =
        Self { fp64: None, fp32: None, tf32: None, fp16: None, bf16: None, fp8: None, int8: None, fp4: None };

    /// Every figure with its name.
    pub fn named(&self) -> [(&'static str, Option<f64>); 8] {
        [
            ("fp64", self.fp64),
            ("fp32", self.fp32),
            ("tf32", self.tf32),
            ("fp16", self.fp16),
            ("bf16", self.bf16),
            ("fp8", self.fp8),
            ("int8", self.int8),
            ("fp4", self.fp4),
        ]
    }
}

/// What is published of one product.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DevicePeaks {
    /// The product; one entry has it.
    pub product: &'static str,
    /// Names drivers report for it. Several products may share a name and differ in memory.
    pub names: &'static [&'static str],
    /// Chip architecture, e.g. `Hopper`.
    pub architecture: &'static str,
    /// CUDA compute capability.
    pub compute_capability: Option<(u8, u8)>,
    /// Streaming multiprocessors, compute units or Xe cores.
    pub units: Option<u32>,
    /// Clock the arithmetic figures are for, in MHz: of the matrix units where they differ.
    pub boost_mhz: Option<f64>,
    /// Dense arithmetic.
    pub dense: Dense,
    /// Memory bandwidth in B/s.
    pub bandwidth_bytes_per_s: f64,
    /// Memory as sold.
    pub memory_bytes: u64,
    /// Level-2 cache.
    pub l2_bytes: Option<u64>,
    /// Thermal design power or total board power in watts.
    pub tdp_w: Option<f64>,
    /// Host link (PCIe, NVLink-C2C) in B/s, one direction.
    pub host_link_bytes_per_s: Option<f64>,
    /// Links between devices (NVLink, Infinity Fabric) in B/s, both directions together as vendors count them.
    pub peer_link_bytes_per_s: Option<f64>,
    /// What a reader of the figures must know; empty mostly.
    pub note: &'static str,
    /// Document and place.
    pub source: &'static str,
}

impl DevicePeaks {
    /// Dense FLOP/s for products of `format`: the ceiling of an engine that computes in that format. 32-bit floats are held
    /// against the vector units, not TF32, which has fewer bits.
    pub fn dense(&self, format: Format) -> Option<f64> {
        match format {
            Format::F64 => self.dense.fp64,
            Format::F32 => self.dense.fp32,
            Format::F16 => self.dense.fp16,
            Format::BF16 => self.dense.bf16,
            Format::F8E4M3 => self.dense.fp8,
            Format::I8 => self.dense.int8,
            // Block formats are storage: what they are computed in is for the engine to say.
            _ => None,
        }
    }
}

/// The answer to [`lookup`].
#[derive(Debug, Clone, PartialEq)]
pub enum Lookup {
    /// The one product of that name (and memory).
    Found(&'static DevicePeaks),
    /// The name fits several products, or only part of a name was given; these are the products.
    Ambiguous(Vec<&'static str>),
    /// No product of that name.
    Unknown,
}

/// Every entry.
pub fn all() -> impl Iterator<Item = &'static DevicePeaks> {
    nvidia_datacenter::DEVICES.iter().chain(nvidia_desktop::DEVICES).chain(others::DEVICES).chain(apple::DEVICES)
}

/// Words that stand in some reports of a name and not in others and never tell two products apart.
const NOISE: &[&str] =
    &["nvidia", "tesla", "quadro", "geforce", "amd", "instinct", "radeon", "intel", "r", "tm", "graphics", "gpu"];

/// The words of a name that tell products apart, in order: `NVIDIA A100-SXM4-80GB` is `a100 sxm4 80gb`.
fn words(name: &str) -> Vec<String> {
    name.split(|c: char| !c.is_ascii_alphanumeric())
        .map(str::to_ascii_lowercase)
        .filter(|word| !word.is_empty() && !NOISE.contains(&word.as_str()))
        .collect()
}

/// Looks up a device by the name its driver reports (or the product's name), with its memory to tell apart products that share
/// a name (RTX 3080 with 10 and with 12 GB).
///
/// All words must be the same: `NVIDIA GeForce RTX 4090 Laptop GPU` is no RTX 4090, `A100-PCIE-40GB` no A100 SXM, a MIG slice no
/// whole device. A name that is only part of others is answered with those.
pub fn lookup(name: &str, memory_bytes: Option<u64>) -> Lookup {
    let asked = words(name);
    if asked.is_empty() {
        return Lookup::Unknown;
    }
    let names = |entry: &'static DevicePeaks| entry.names.iter().copied().chain([entry.product]);
    let mut found: Vec<&DevicePeaks> = all().filter(|entry| names(entry).any(|known| words(known) == asked)).collect();
    if found.len() > 1
        && let Some(memory) = memory_bytes
    {
        // Drivers report a few per cent less than is sold (ECC, reserved pages) and count GiB where the sheet says GB.
        let fits = |entry: &&DevicePeaks| {
            let ratio = memory as f64 / entry.memory_bytes as f64;
            (0.88..=1.08).contains(&ratio)
        };
        found.retain(fits);
    }
    match found.as_slice() {
        [entry] => Lookup::Found(entry),
        [] => {
            let candidates: Vec<&'static str> = all()
                .filter(|entry| {
                    names(entry).any(|known| {
                        let known = words(known);
                        asked.iter().all(|word| known.contains(word))
                    })
                })
                .map(|entry| entry.product)
                .collect();
            if candidates.is_empty() { Lookup::Unknown } else { Lookup::Ambiguous(candidates) }
        }
        several => Lookup::Ambiguous(several.iter().map(|entry| entry.product).collect()),
    }
}
