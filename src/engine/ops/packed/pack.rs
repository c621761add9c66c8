//! Repacking of a weight matrix, once at load time.

use super::layout::{Encoding, Layout};
use super::memory::Region;
use super::{BLOCK, Kernels};
use crate::engine::threads::{SharedMut, ThreadPool};
use crate::estimate::format::Format;

/// Which matrix rows a panel holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Panel p holds rows p·panel_rows onwards.
    Plain,
    /// Panels alternate between the first half of the rows (gate) and the second (up).
    Alternating,
}

/// A weight matrix `[rows, cols]` repacked for the kernels of one instruction set.
#[derive(Debug)]
pub(crate) struct PackedMatrix {
    pub(super) kernels: Kernels,
    pub(super) layout: Layout,
    pub(super) order: Order,
    rows: usize,
    pub(super) panels: usize,
    data: Region,
}

impl PackedMatrix {
    /// From the blocks (GGUF layout, row-major) or the dense little-endian values of `format`. `None` where the format or the shape is
    /// not supported, or `bytes` has another length than the shape needs.
    #[cfg(test)]
    pub(crate) fn pack(
        kernels: Kernels,
        format: Format,
        rows: usize,
        cols: usize,
        bytes: &[u8],
        pool: &ThreadPool,
    ) -> Option<Self> {
        Self::pack_rows(kernels, format, &[(rows, bytes)], cols, pool)
    }

    /// Several matrices of equal width, one below the other: queries, keys and values in one product.
    pub(crate) fn pack_rows(
        kernels: Kernels,
        format: Format,
        parts: &[(usize, &[u8])],
        cols: usize,
        pool: &ThreadPool,
    ) -> Option<Self> {
        Self::build(kernels, format, parts, cols, Order::Plain, pool)
    }

    /// Gate and up projections of `rows` rows each, their panels alternating, for [`matmul_silu_mul`](super::matmul_silu_mul).
    pub(crate) fn pack_gate_up(
        kernels: Kernels,
        format: Format,
        rows: usize,
        cols: usize,
        gate: &[u8],
        up: &[u8],
        pool: &ThreadPool,
    ) -> Option<Self> {
        Self::build(kernels, format, &[(rows, gate), (rows, up)], cols, Order::Alternating, pool)
    }

    fn build(
        kernels: Kernels,
        format: Format,
        parts: &[(usize, &[u8])],
        cols: usize,
        order: Order,
        pool: &ThreadPool,
    ) -> Option<Self> {
        if !kernels.is_available() {
            return None;
        }
        let layout = Layout::new(kernels, format, cols)?;
        let (elements, size) = format.block();
        let row_bytes = (cols / elements).checked_mul(size)?;
        let mut rows = 0usize;
        for (count, bytes) in parts {
            if count.checked_mul(row_bytes)? != bytes.len() {
                return None;
            }
            rows = rows.checked_add(*count)?;
        }
        if rows == 0 {
            return None;
        }
        let height = layout.panel_rows;
        let panels = match order {
            Order::Plain => rows.div_ceil(height),
            Order::Alternating => 2 * (rows / 2).div_ceil(height),
        };
        // Row `lane` of panel `panel`, where there is one.
        let row_of = |panel: usize, lane: usize| -> Option<&[u8]> {
            let mut row = match order {
                Order::Plain => panel * height + lane,
                Order::Alternating => {
                    let within = panel / 2 * height + lane;
                    if within >= rows / 2 {
                        return None;
                    }
                    within + panel % 2 * (rows / 2)
                }
            };
            for (count, bytes) in parts {
                if row < *count {
                    return Some(&bytes[row * row_bytes..(row + 1) * row_bytes]);
                }
                row -= count;
            }
            None
        };
        let mut data = Region::new(layout.panel_bytes.checked_mul(panels)?)?;
        let target = SharedMut::new(data.bytes_mut());
        pool.for_ranges(panels, panels.div_ceil(pool.threads() * 4), &|range| {
            for panel in range {
                // SAFETY: each panel has a stretch of its own.
                let out = unsafe { target.slice(panel * layout.panel_bytes..(panel + 1) * layout.panel_bytes) };
                for lane in 0..height {
                    // Rows that only fill up the last panel stay zero; what they give is never read.
                    if let Some(row) = row_of(panel, lane) {
                        pack_row(&layout, row, lane, out);
                    }
                }
            }
        });
        Some(Self { kernels, layout, order, rows, panels, data })
    }

    /// Rows of the matrix; for gate and up together, of both.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }
    /// Its width.
    pub(crate) fn cols(&self) -> usize {
        self.layout.cols
    }
    /// The format it was packed from.
    pub(crate) fn format(&self) -> Format {
        self.layout.format
    }
    /// The bytes of one panel.
    pub(super) fn panel(&self, panel: usize) -> &[u8] {
        &self.data.bytes()[panel * self.layout.panel_bytes..(panel + 1) * self.layout.panel_bytes]
    }
}

/// Writes one row into its lane of a panel.
fn pack_row(layout: &Layout, row: &[u8], lane: usize, out: &mut [u8]) {
    let height = layout.panel_rows;
    let size = layout.format.block().1;
    match layout.encoding {
        Encoding::Nibbles | Encoding::BiasedBytes | Encoding::SignedBytes => {
            let header = if layout.format == Format::Q4_1 { 4 } else { 2 };
            let flip = if layout.encoding == Encoding::BiasedBytes { 0x80 } else { 0 };
            let groups = (size - header) / 4;
            for (block, bytes) in row.chunks_exact(size).enumerate() {
                let at = layout.scales(block) + 2 * lane;
                out[at..at + 2].copy_from_slice(&bytes[..2]);
                if header == 4 {
                    let at = layout.minima(block) + 2 * lane;
                    out[at..at + 2].copy_from_slice(&bytes[2..4]);
                }
                for (group, bytes) in bytes[header..].chunks_exact(4).enumerate() {
                    let at = layout.values + ((block * groups + group) * height + lane) * 4;
                    for (out, byte) in out[at..at + 4].iter_mut().zip(bytes) {
                        *out = byte ^ flip;
                    }
                }
            }
        }
        Encoding::Columns => {
            for (column, bytes) in row.chunks_exact(size).enumerate() {
                let at = (column * height + lane) * size;
                out[at..at + size].copy_from_slice(bytes);
            }
        }
        Encoding::ColumnPairs => {
            for (pair, bytes) in row.chunks(4).enumerate() {
                let at = (pair * height + lane) * 4;
                out[at..at + bytes.len()].copy_from_slice(bytes);
            }
        }
    }
}

const _: () = assert!(BLOCK == 32, "blocks of all supported formats hold 32 values");
