//! The products in plain Rust, for CPUs without the instruction sets of the others and for activations too large for their tricks.

use half::{bf16, f16};

use super::BLOCK;
use super::activations::{MAGIC, PackedActivations};
use super::layout::{Encoding, Layout};
use crate::estimate::format::Format;

/// Most rows a panel has.
const MAX_ROWS: usize = 16;

fn f16_at(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

/// `out[token][row]` of one panel for `tokens`, at `stride` values between tokens. All rows of the panel are written.
pub(super) fn panel(
    layout: &Layout,
    panel: &[u8],
    activations: &PackedActivations,
    tokens: std::ops::Range<usize>,
    out: &mut [f32],
    stride: usize,
) {
    for (token, index) in tokens.zip(0..) {
        let mut sums = [0.0f32; MAX_ROWS];
        let sums = &mut sums[..layout.panel_rows];
        match layout.encoding {
            Encoding::Columns | Encoding::ColumnPairs => dense(layout, panel, activations, token, sums),
            _ => blocks(layout, panel, activations, token, sums),
        }
        out[index * stride..index * stride + sums.len()].copy_from_slice(sums);
    }
}

fn blocks(layout: &Layout, panel: &[u8], activations: &PackedActivations, token: usize, sums: &mut [f32]) {
    let height = layout.panel_rows;
    let packed = layout.encoding == Encoding::Nibbles;
    let block_bytes = if packed { height * BLOCK / 2 } else { height * BLOCK };
    let values = panel[layout.values..].chunks_exact(block_bytes);
    let headers = &activations.headers[token * layout.blocks..(token + 1) * layout.blocks];
    let quants = activations.quants[token * layout.cols..(token + 1) * layout.cols].chunks_exact(BLOCK);
    for (block, ((values, header), quants)) in values.zip(headers).zip(quants).enumerate() {
        let mut products = [header.start - MAGIC.to_bits() as i32; MAX_ROWS];
        for (group, values) in values.chunks_exact(height * 4).enumerate() {
            for (product, bytes) in products.iter_mut().zip(values.as_chunks::<4>().0) {
                for (i, byte) in bytes.iter().enumerate() {
                    let column = group * 4 + i;
                    *product += match layout.encoding {
                        Encoding::Nibbles => {
                            i32::from(byte & 15) * i32::from(quants[column])
                                + i32::from(byte >> 4) * i32::from(quants[BLOCK / 2 + column])
                        }
                        Encoding::SignedBytes => i32::from(*byte as i8) * i32::from(quants[column]),
                        _ => i32::from(*byte) * i32::from(quants[column]),
                    };
                }
            }
        }
        for (row, (sum, product)) in sums.iter_mut().zip(products).enumerate() {
            *sum += product as f32 * header.scale * f16_at(panel, layout.scales(block) + 2 * row);
            if layout.format == Format::Q4_1 {
                *sum += header.sum * f16_at(panel, layout.minima(block) + 2 * row);
            }
        }
    }
}

fn dense(layout: &Layout, panel: &[u8], activations: &PackedActivations, token: usize, sums: &mut [f32]) {
    let height = layout.panel_rows;
    if layout.encoding == Encoding::ColumnPairs {
        let pairs = layout.cols.div_ceil(2);
        let x = &activations.pairs[token * pairs..(token + 1) * pairs];
        for (values, x) in panel.chunks_exact(height * 4).zip(x) {
            for (sum, bytes) in sums.iter_mut().zip(values.as_chunks::<4>().0) {
                let weights = u32::from_le_bytes(*bytes);
                *sum += f32::from_bits(weights << 16) * f32::from_bits(x << 16)
                    + f32::from_bits(weights & 0xffff_0000) * f32::from_bits(x & 0xffff_0000);
            }
        }
        return;
    }
    let x = &activations.values[token * layout.cols..(token + 1) * layout.cols];
    let size = layout.format.block().1;
    for (values, x) in panel.chunks_exact(height * size).zip(x) {
        for (sum, bytes) in sums.iter_mut().zip(values.chunks_exact(size)) {
            let weight = match (layout.format, bytes) {
                (Format::BF16, [a, b]) => bf16::from_le_bytes([*a, *b]).to_f32(),
                (Format::F16, [a, b]) => f16::from_le_bytes([*a, *b]).to_f32(),
                (_, [a, b, c, d]) => f32::from_le_bytes([*a, *b, *c, *d]),
                _ => unreachable!("dense values have two or four bytes"),
            };
            *sum += weight * x;
        }
    }
}
