//! The products of quantized panels in plain Rust, for CPUs without the instruction sets of the others and for activations too large for their tricks.

use half::f16;

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
///
/// # Safety
/// `out` must have room for a panel's rows for every token, at `stride`.
pub(super) unsafe fn panel(
    layout: &Layout,
    panel: &[u8],
    activations: &PackedActivations,
    tokens: std::ops::Range<usize>,
    out: *mut f32,
    stride: usize,
) {
    for (token, index) in tokens.zip(0..) {
        let mut sums = [0.0f32; MAX_ROWS];
        let sums = &mut sums[..layout.panel_rows];
        blocks(layout, panel, activations, token, sums);
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(out.add(index * stride), sums.len()) }.copy_from_slice(sums);
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
            // The scales first: a large one of the activations times the sum could leave the range of f32.
            *sum += product as f32 * (header.scale * f16_at(panel, layout.scales(block) + 2 * row));
            if layout.format == Format::Q4_1 {
                *sum += header.sum * f16_at(panel, layout.minima(block) + 2 * row);
            }
        }
    }
}
