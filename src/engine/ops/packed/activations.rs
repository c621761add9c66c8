//! Activations as the kernels want them.
//!
//! For quantized weights: blocks of 32 values rounded to `scale × q`, q in −127..=127. With two 16-bit tricks that cost nothing in the
//! kernels' inner loops:
//!
//! - The integer sum of a block starts at [`Header::start`] = bits of 1.5·2²³ − zero point × Σq. As long as the result's magnitude stays
//!   below 2²² (it stays below 32·255·127 ≈ 2²⁰), the same 32 bits read as f32 are 1.5·2²³ + Σ w·q exactly: no conversion is needed.
//! - The scale has at most 22 significant bits, so that 1.5·2²³ × scale is exact, and one fused multiply-add takes the offset off:
//!   (1.5·2²³ + v) × scale − 1.5·2²³ × scale = v × scale, rounded once.

use super::layout::{Encoding, Layout, bf16_pitch};
use super::{BLOCK, Kernels};
use crate::engine::threads::{SharedMut, ThreadPool};
use crate::estimate::format::Format;

/// 1.5·2²³: f32 values around it are one apart.
pub(super) const MAGIC: f32 = 12_582_912.0;
/// Blocks whose largest magnitude is below this (2⁻¹⁰⁰ ≈ 8e-31) are taken for zero.
const SMALLEST: f32 = f32::from_bits((127 - 100) << 23);
/// Above this (2¹⁰⁰ ≈ 1e30) the offset of [`MAGIC`] could overflow, and the plain kernels are taken instead.
const LARGEST: f32 = f32::from_bits((127 + 100) << 23);

/// What goes with one block of one row.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(super) struct Header {
    /// Scale of the block; NaN if any of its values is not finite.
    pub(super) scale: f32,
    /// −[`MAGIC`] × scale.
    pub(super) offset: f32,
    /// Where the integer sum starts.
    pub(super) start: i32,
    /// scale × Σq, for the minima of `q4_1`.
    pub(super) sum: f32,
}

/// Which of the buffers is filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Nothing yet.
    Empty,
    /// 8-bit blocks for weights with this zero point.
    Blocks { zero_point: i32 },
    /// f32.
    F32,
    /// bf16, two columns together.
    Bf16Pairs,
}

/// Rows of activations, rounded as a matrix of the given format needs them. The buffers are reused.
#[derive(Debug)]
pub(crate) struct PackedActivations {
    pub(super) form: Form,
    pub(super) rows: usize,
    pub(super) cols: usize,
    /// `[rows][cols]`.
    pub(super) quants: Vec<i8>,
    /// `[rows][blocks]`.
    pub(super) headers: Vec<Header>,
    /// Whether a scale is too large for the offset trick.
    pub(super) extreme: bool,
    /// `[rows][cols]`.
    pub(super) values: Vec<f32>,
    /// bf16 bits, `[rows]` of [`bf16_pitch`], zeros after the values.
    pub(super) pairs: Vec<u16>,
}

impl Default for PackedActivations {
    fn default() -> Self {
        Self::new()
    }
}

impl PackedActivations {
    /// Empty buffers.
    pub(crate) fn new() -> Self {
        Self {
            form: Form::Empty,
            rows: 0,
            cols: 0,
            quants: Vec::new(),
            headers: Vec::new(),
            extreme: false,
            values: Vec::new(),
            pairs: Vec::new(),
        }
    }

    /// Takes `rows` rows of `cols` values, for products with matrices of `format` packed for `kernels`.
    ///
    /// # Panics
    /// If `x` holds fewer than rows × cols values, or [`PackedMatrix::pack`](super::PackedMatrix::pack) would refuse the format or the width.
    pub(crate) fn fill(
        &mut self,
        kernels: Kernels,
        format: Format,
        x: &[f32],
        rows: usize,
        cols: usize,
        pool: &ThreadPool,
    ) {
        let layout = Layout::new(kernels, format, cols).expect("activations are packed for a matrix that was packed");
        let x = &x[..rows * cols];
        self.form = form(kernels, &layout, rows);
        self.rows = rows;
        self.cols = cols;
        self.extreme = false;
        let grain = if rows * cols <= 16 * 1024 { rows } else { rows.div_ceil(pool.threads() * 4) };
        match self.form {
            Form::Empty => unreachable!("no format leaves the activations empty"),
            Form::Blocks { zero_point } => {
                let blocks = layout.blocks;
                self.quants.resize(rows * cols, 0);
                self.headers.resize(rows * blocks, Header::default());
                let extreme = std::sync::atomic::AtomicBool::new(false);
                let (quants, headers) = (SharedMut::new(&mut self.quants), SharedMut::new(&mut self.headers));
                pool.for_ranges(rows, grain, &|range| {
                    // SAFETY: row ranges are disjoint.
                    let quants = unsafe { quants.slice(range.start * cols..range.end * cols) };
                    // SAFETY: as above.
                    let headers = unsafe { headers.slice(range.start * blocks..range.end * blocks) };
                    // SAFETY: the kernels are available, or nothing could have been packed for them.
                    if unsafe {
                        round_blocks(kernels, &x[range.start * cols..range.end * cols], zero_point, quants, headers)
                    } {
                        extreme.store(true, std::sync::atomic::Ordering::Relaxed);
                    }
                });
                self.extreme = extreme.into_inner();
            }
            Form::F32 => {
                self.values.clear();
                self.values.extend_from_slice(x);
            }
            Form::Bf16Pairs => {
                let width = bf16_pitch(cols);
                self.pairs.resize(rows * width, 0);
                let target = SharedMut::new(&mut self.pairs);
                pool.for_ranges(rows, grain, &|range| {
                    // SAFETY: row ranges are disjoint.
                    let out = unsafe { target.slice(range.start * width..range.end * width) };
                    let x = &x[range.start * cols..range.end * cols];
                    for (x, out) in x.chunks_exact(cols).zip(out.chunks_exact_mut(width)) {
                        let (values, padding) = out.split_at_mut(cols);
                        // SAFETY: the kernels are available, or nothing could have been packed for them.
                        unsafe { round_bf16(kernels, x, values) };
                        padding.fill(0);
                    }
                });
            }
        }
    }
}

/// The form that products of `rows` rows with matrices of `layout` need.
pub(super) fn form(kernels: Kernels, layout: &Layout, rows: usize) -> Form {
    match layout.encoding {
        Encoding::Columns => Form::F32,
        Encoding::ColumnPairs => Form::Bf16Pairs,
        _ if kernels.fewest_bf16_tokens().is_some_and(|fewest| rows >= fewest) => Form::Bf16Pairs,
        _ => Form::Blocks { zero_point: layout.zero_point() },
    }
}

/// Rounds blocks; true if one is too large for the offset trick.
///
/// # Safety
/// The CPU must have `kernels`.
unsafe fn round_blocks(
    kernels: Kernels,
    x: &[f32],
    zero_point: i32,
    quants: &mut [i8],
    headers: &mut [Header],
) -> bool {
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")]
    fn avx512(x: &[f32], zero_point: i32, quants: &mut [i8], headers: &mut [Header]) -> bool {
        round_all(x, zero_point, quants, headers)
    }
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    fn avx2(x: &[f32], zero_point: i32, quants: &mut [i8], headers: &mut [Header]) -> bool {
        round_all(x, zero_point, quants, headers)
    }
    match kernels.isa() {
        // SAFETY: the caller's promise.
        #[cfg(target_arch = "x86_64")]
        super::Isa::Avx512 => unsafe { avx512(x, zero_point, quants, headers) },
        // SAFETY: the caller's promise.
        #[cfg(target_arch = "x86_64")]
        super::Isa::Avx2 => unsafe { avx2(x, zero_point, quants, headers) },
        _ => round_all(x, zero_point, quants, headers),
    }
}

#[inline(always)]
fn round_all(x: &[f32], zero_point: i32, quants: &mut [i8], headers: &mut [Header]) -> bool {
    let mut extreme = false;
    for ((x, q), header) in x.as_chunks::<BLOCK>().0.iter().zip(quants.as_chunks_mut::<BLOCK>().0).zip(headers) {
        *header = round_block(x, zero_point, q);
        extreme |= header.scale > LARGEST / 127.0;
    }
    extreme
}

#[inline(always)]
fn round_block(x: &[f32; BLOCK], zero_point: i32, q: &mut [i8; BLOCK]) -> Header {
    // Magnitudes compare as integers, and so do infinities and NaN: above all finite values.
    let largest = x.iter().fold(0u32, |largest, value| largest.max(value.to_bits() & 0x7fff_ffff));
    let start = MAGIC.to_bits() as i32;
    if largest >= f32::INFINITY.to_bits() {
        *q = [0; BLOCK];
        return Header { scale: f32::NAN, offset: f32::NAN, start, sum: f32::NAN };
    }
    let largest = f32::from_bits(largest);
    if largest < SMALLEST {
        *q = [0; BLOCK];
        return Header { scale: 0.0, offset: 0.0, start, sum: 0.0 };
    }
    // Rounded up to 22 significant bits: q stays within ±127, and MAGIC × scale is exact.
    let scale = f32::from_bits(((largest / 127.0).to_bits() + 3) & !3);
    let inverse = 1.0 / scale;
    let mut sum = 0i32;
    for (q, x) in q.iter_mut().zip(x) {
        // Adding and subtracting MAGIC rounds to the nearest integer, ties to even.
        let rounded = ((x * inverse + MAGIC).to_bits() as i32).wrapping_sub(start);
        *q = rounded as i8;
        sum += rounded;
    }
    Header { scale, offset: -MAGIC * scale, start: start - zero_point * sum, sum: scale * sum as f32 }
}

/// Rounds to bf16, to nearest even; NaN stays NaN.
///
/// # Safety
/// The CPU must have `kernels`.
unsafe fn round_bf16(kernels: Kernels, x: &[f32], out: &mut [u16]) {
    #[inline(always)]
    fn round_all(x: &[f32], out: &mut [u16]) {
        for (x, out) in x.iter().zip(out) {
            let bits = x.to_bits();
            let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
            *out = if bits & 0x7fff_ffff > 0x7f80_0000 { (bits >> 16 | 0x40) as u16 } else { rounded as u16 };
        }
    }
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")]
    fn avx512(x: &[f32], out: &mut [u16]) {
        round_all(x, out);
    }
    match kernels.isa() {
        // SAFETY: the caller's promise.
        #[cfg(target_arch = "x86_64")]
        super::Isa::Avx512 => unsafe { avx512(x, out) },
        _ => round_all(x, out),
    }
}
