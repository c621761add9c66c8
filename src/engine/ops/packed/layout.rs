//! How a panel lies in memory.
//!
//! - Quantized: per block of 32 columns the f16 scales of all rows of the panel, block after block (for `q4_1` then the f16 minima
//!   likewise), padded to a cache line; then per block the values. `q8_0`: eight groups of four columns, `[group][row][4]` bytes.
//!   `q4_*`: four groups `[group][row][4]` bytes, whose low nibbles are columns 4·group.. and high nibbles columns 16 + 4·group.., as
//!   the file has them.
//! - Dense: `[column][row]`; for bf16 products `[column / 2][row][2]`, zeros up to a multiple of 32 columns.

use super::{BLOCK, Kernels};
use crate::estimate::format::Format;

/// How the values of a panel are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// Nibbles 0..=15.
    Nibbles,
    /// Bytes with 128 added, for instructions whose one operand is unsigned.
    BiasedBytes,
    /// Signed bytes.
    SignedBytes,
    /// Dense values, column by column.
    Columns,
    /// bf16, two columns together.
    ColumnPairs,
}

/// Pairs of columns of a row of bf16, filled up with zeros to whole tiles.
pub(super) fn padded_pairs(cols: usize) -> usize {
    cols.div_ceil(32) * 16
}

/// bf16 values from one row of activations to the next: an odd number of cache lines, so that the rows of a tile fall into different
/// sets of the cache whatever the width.
pub(super) fn bf16_pitch(cols: usize) -> usize {
    (cols.div_ceil(32) | 1) * 32
}

/// Sizes and offsets of the panels of one matrix.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    pub(super) format: Format,
    pub(super) encoding: Encoding,
    /// Matrix rows in a panel.
    pub(super) panel_rows: usize,
    pub(super) cols: usize,
    /// Blocks of a row; 0 for dense formats.
    pub(super) blocks: usize,
    /// Where the values begin in a panel.
    pub(super) values: usize,
    /// Bytes of a panel, a multiple of a cache line.
    pub(super) panel_bytes: usize,
}

impl Layout {
    /// `None` where the format or the width has no packed form, or sizes overflow.
    pub(super) fn new(kernels: Kernels, format: Format, cols: usize) -> Option<Self> {
        let encoding = match format {
            Format::Q4_0 | Format::Q4_1 => Encoding::Nibbles,
            Format::Q8_0 => match kernels {
                // `vpmaddubsw` saturates at 16 bits, so that its unsigned operand has to stay within 128: magnitudes, not biased values.
                Kernels::Portable | Kernels::Avx2 => Encoding::SignedBytes,
                _ => Encoding::BiasedBytes,
            },
            Format::BF16 if kernels.multiplies_bf16() => Encoding::ColumnPairs,
            Format::F32 | Format::F16 | Format::BF16 => Encoding::Columns,
            _ => return None,
        };
        if cols == 0 || (format.is_quantized() && !cols.is_multiple_of(BLOCK)) {
            return None;
        }
        let panel_rows = kernels.panel_rows();
        let blocks = if format.is_quantized() { cols / BLOCK } else { 0 };
        let scale_vectors = match format {
            Format::Q4_1 => 2,
            Format::Q4_0 | Format::Q8_0 => 1,
            _ => 0,
        };
        let values = blocks.checked_mul(scale_vectors * panel_rows * 2)?.checked_next_multiple_of(64)?;
        let row_bytes = match encoding {
            Encoding::Nibbles => cols / 2,
            Encoding::BiasedBytes | Encoding::SignedBytes => cols,
            Encoding::Columns => cols.checked_mul(format.block().1)?,
            Encoding::ColumnPairs => padded_pairs(cols).checked_mul(4)?,
        };
        let panel_bytes = row_bytes.checked_mul(panel_rows)?.checked_add(values)?.checked_next_multiple_of(64)?;
        Some(Self { format, encoding, panel_rows, cols, blocks, values, panel_bytes })
    }
    /// Where the f16 scales of `block` begin in a panel.
    pub(super) fn scales(&self, block: usize) -> usize {
        block * self.panel_rows * 2
    }
    /// Where the f16 minima of `block` begin in a panel (`q4_1` only).
    pub(super) fn minima(&self, block: usize) -> usize {
        (self.blocks + block) * self.panel_rows * 2
    }
    /// What is subtracted from every stored value of the quantized formats.
    pub(super) fn zero_point(&self) -> i32 {
        match (self.format, self.encoding) {
            (Format::Q4_0, _) => 8,
            (_, Encoding::BiasedBytes) => 128,
            _ => 0,
        }
    }
}
