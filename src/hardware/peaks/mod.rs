//! What data sheets say a device can do at the most: dense arithmetic per format, memory bandwidth, sizes.
//!
//! Only published figures stand here, each with its source; nothing is measured and nothing is guessed. Two traps decide how the
//! figures are written down:
//!
//! * Vendors print tensor figures *with structured sparsity*, twice the dense ones (H100 SXM bf16: 1979 with, 989.4 without).
//!   Every figure here is dense.
//! * GeForce parts multiply fp16 twice as fast when they also accumulate in fp16. Inference libraries accumulate in fp32, and that
//!   is the figure here (RTX 4090: 165.2, not 330.3).

use crate::estimate::format::Format;

/// 10^12 FLOP/s.
const T: f64 = 1e12;
/// 10^9 B/s.
const GB: f64 = 1e9;
/// 2^20 bytes.
const MIB: f64 = 1048576.0;
/// 2^30 bytes.
const GIB: u64 = 1 << 30;

/// One entry, in the units data sheets use.
macro_rules! device {
    (
        $product:literal, [$($name:literal),*],
        chip $chip:literal, $capability:expr, units $units:expr, mhz $mhz:expr,
        tflops { $($format:ident: $tflops:literal),* },
        gbs $gbs:literal, gib $gib:literal, l2 $l2_mib:expr, watts $watts:expr, host $host:expr, peer $peer_gbs:expr,
        note $note:literal,
        source $source:expr
    ) => {
        $crate::hardware::peaks::DevicePeaks {
            product: $product,
            names: &[$($name),*],
            architecture: $chip,
            compute_capability: $capability,
            units: $units,
            boost_mhz: $mhz,
            dense: $crate::hardware::peaks::Dense {
                $($format: Some($tflops * $crate::hardware::peaks::T),)*
                ..$crate::hardware::peaks::Dense::NONE
            },
            bandwidth_bytes_per_s: $gbs * $crate::hardware::peaks::GB,
            memory_bytes: $gib * $crate::hardware::peaks::GIB,
            l2_bytes: $crate::hardware::peaks::mebibytes($l2_mib),
            tdp_w: $watts,
            host_link_bytes_per_s: $host,
            peer_link_bytes_per_s: $crate::hardware::peaks::gigabytes($peer_gbs),
            note: $note,
            source: $source,
        }
    };
}

const fn mebibytes(mebibytes: Option<f64>) -> Option<u64> {
    match mebibytes {
        Some(value) => Some((value * MIB) as u64),
        None => None,
    }
}

const fn gigabytes(gigabytes: Option<f64>) -> Option<f64> {
    match gigabytes {
        Some(value) => Some(value * GB),
        None => None,
    }
}

// PCI Express Base Specification: 8, 16 and 32 GT/s per lane with 128b/130b encoding, one direction.
const PCIE3_X16: Option<f64> = Some(8.0e9 * 16.0 / 8.0 * 128.0 / 130.0);
const PCIE4_X8: Option<f64> = Some(16.0e9 * 8.0 / 8.0 * 128.0 / 130.0);
const PCIE4_X16: Option<f64> = Some(16.0e9 * 16.0 / 8.0 * 128.0 / 130.0);
const PCIE5_X8: Option<f64> = Some(32.0e9 * 8.0 / 8.0 * 128.0 / 130.0);
const PCIE5_X16: Option<f64> = Some(32.0e9 * 16.0 / 8.0 * 128.0 / 130.0);
/// NVLink-C2C of Grace superchips: 900 GB/s in both directions together (GH200 datasheet).
const NVLINK_C2C: Option<f64> = Some(450.0 * GB);

mod apple;
#[allow(clippy::needless_update, reason = "the macro fills what an entry leaves out, and some leave out nothing")]
mod nvidia_datacenter;
mod nvidia_desktop;
mod others;
#[cfg(test)]
mod tests;

/// Dense FLOP/s (integer operations per second for `int8`) by input format; `None` where the part has no such unit or no figure
/// is published. Matrix units where the part has them, with 32-bit accumulation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dense {
    /// Double precision: the faster of vector and matrix units.
    pub fp64: Option<f64>,
    /// Single precision with all its bits: vector units, or matrix units that keep them (AMD CDNA).
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
    /// against full single precision, not TF32, which has fewer bits.
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

/// Whether `memory` as a driver reports it can be that of `entry`. Drivers report a few per cent less than is sold (ECC, reserved
/// pages), and count in GiB what some sheets sell as GB.
fn fits(entry: &DevicePeaks, memory: u64) -> bool {
    (0.88..=1.08).contains(&(memory as f64 / entry.memory_bytes as f64))
}

/// Looks up a device by the name its driver reports (or the product's name), with its memory to tell apart products that share
/// a name (RTX 3080 with 10 and with 12 GB).
///
/// `memory_bytes` that fit no variant of the name give no answer either: that part is not in the table.
///
/// All words must be the same: `NVIDIA GeForce RTX 4090 Laptop GPU` is no RTX 4090, `A100-PCIE-40GB` no A100 SXM, a MIG slice no
/// whole device. A name that is only part of others is answered with those.
pub fn lookup(name: &str, memory_bytes: Option<u64>) -> Lookup {
    let asked = words(name);
    if asked.is_empty() {
        return Lookup::Unknown;
    }
    let names = |entry: &'static DevicePeaks| entry.names.iter().copied().chain([entry.product]);
    let mut found: Vec<&'static DevicePeaks> =
        all().filter(|entry| names(entry).any(|known| words(known) == asked)).collect();
    if let Some(memory) = memory_bytes
        && !found.is_empty()
    {
        let variants: Vec<&'static str> = found.iter().map(|entry| entry.product).collect();
        found.retain(|entry| fits(entry, memory));
        if found.is_empty() {
            return Lookup::Ambiguous(variants);
        }
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
