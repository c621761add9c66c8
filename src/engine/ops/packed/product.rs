//! Products over the thread pool: which panels and tokens go to which task, and what is done with a finished tile.

use super::activations::{PackedActivations, form};
use super::pack::{Order, PackedMatrix};
use super::{grain, portable};
use crate::engine::ops::kernels;
use crate::engine::threads::{SharedMut, ThreadPool};

/// Tokens of a tile that goes through the scratch of a thread.
const TILE_TOKENS: usize = 16;

thread_local! {
    /// Results of a tile that are not written straight to their place: gate and up, rows beyond the matrix.
    static TILE: std::cell::RefCell<Vec<f32>> = const { std::cell::RefCell::new(Vec::new()) };
}

/// `out[token][row] = activations[token] · matrix[row]`, with `stride` values between the tokens of `out`. The same bits for every
/// number of threads.
///
/// # Panics
/// If the activations were packed for another format, kernel set or width, if `stride` or `out` is too small, or if `matrix` was made by
/// [`PackedMatrix::pack_gate_up`].
pub(crate) fn matmul(
    pool: &ThreadPool,
    matrix: &PackedMatrix,
    activations: &PackedActivations,
    out: &mut [f32],
    stride: usize,
) {
    assert!(matrix.order == Order::Plain, "a gate and up matrix goes through matmul_silu_mul");
    let (rows, tokens) = (matrix.rows(), activations.rows);
    check(matrix, activations, out.len(), rows, stride);
    let height = matrix.layout.panel_rows;
    let target = SharedMut::new(out);
    let products = rows * matrix.cols() * tokens;
    pool.for_ranges(matrix.panels, grain(pool, matrix.panels, products), &|range| {
        TILE.with_borrow_mut(|tile| {
            tile.resize(TILE_TOKENS * height, 0.0);
            for panel in range {
                let first = panel * height;
                let count = height.min(rows - first);
                for start in (0..tokens).step_by(TILE_TOKENS) {
                    let end = (start + TILE_TOKENS).min(tokens);
                    portable::panel(&matrix.layout, matrix.panel(panel), activations, start..end, tile, height);
                    for (token, values) in (start..end).zip(tile.chunks_exact(height)) {
                        let at = token * stride + first;
                        // SAFETY: these rows of every token belong to this panel alone.
                        unsafe { target.slice(at..at + count) }.copy_from_slice(&values[..count]);
                    }
                }
            }
        });
    });
}

/// `out[token][row] = silu(gate) × up`, where gate and up are the products of `activations[token]` with the two halves of a matrix made by
/// [`PackedMatrix::pack_gate_up`]; `out` has half the matrix's rows.
///
/// # Panics
/// As [`matmul`], or if the matrix was not made by `pack_gate_up`.
pub(crate) fn matmul_silu_mul(
    pool: &ThreadPool,
    gate_up: &PackedMatrix,
    activations: &PackedActivations,
    out: &mut [f32],
    stride: usize,
) {
    assert!(gate_up.order == Order::Alternating, "the matrix holds gate and up in turn");
    let (rows, tokens) = (gate_up.rows() / 2, activations.rows);
    check(gate_up, activations, out.len(), rows, stride);
    let height = gate_up.layout.panel_rows;
    let isa = gate_up.kernels.isa();
    let target = SharedMut::new(out);
    let pairs = gate_up.panels / 2;
    pool.for_ranges(pairs, grain(pool, pairs, rows * 2 * gate_up.cols() * tokens), &|range| {
        TILE.with_borrow_mut(|tile| {
            tile.resize(2 * TILE_TOKENS * height, 0.0);
            let (gate, up) = tile.split_at_mut(TILE_TOKENS * height);
            for pair in range {
                let first = pair * height;
                let count = height.min(rows - first);
                for start in (0..tokens).step_by(TILE_TOKENS) {
                    let end = (start + TILE_TOKENS).min(tokens);
                    let layout = &gate_up.layout;
                    portable::panel(layout, gate_up.panel(2 * pair), activations, start..end, gate, height);
                    portable::panel(layout, gate_up.panel(2 * pair + 1), activations, start..end, up, height);
                    for (token, (gate, up)) in (start..end).zip(gate.chunks_exact(height).zip(up.chunks_exact(height)))
                    {
                        let at = token * stride + first;
                        // SAFETY: these rows of every token belong to this pair of panels alone; the matrix was packed, so the CPU
                        // has its kernels.
                        unsafe { kernels::silu_mul(isa, gate, up, target.slice(at..at + count)) };
                    }
                }
            }
        });
    });
}

/// The conditions stated at [`matmul`].
fn check(matrix: &PackedMatrix, activations: &PackedActivations, out: usize, rows: usize, stride: usize) {
    assert_eq!(activations.form, form(&matrix.layout), "activations are packed for the matrix's format and kernels");
    assert_eq!(activations.cols, matrix.cols(), "activations are as wide as the matrix");
    assert!(stride >= rows, "rows of the result do not overlap");
    let needed = activations.rows.checked_sub(1).map_or(0, |last| last * stride + rows);
    assert!(out >= needed, "the result has room for all rows");
}
