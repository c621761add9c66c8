//! Products over the thread pool: which panels and tokens go to which task, and what is done with a finished tile.

use std::ops::Range;

use half::{bf16, f16};

use super::activations::{Form, PackedActivations, form};
#[cfg(target_arch = "x86_64")]
use super::blocks::Job;
use super::dense::{DenseJob, dense, widen};
use super::layout::{Encoding, bf16_pitch, padded_pairs};
use super::pack::{Order, PackedMatrix};
use super::{Kernels, portable};
#[cfg(target_arch = "x86_64")]
use super::{amx, bf16_dot, x86};
use crate::engine::ops::kernels;
use crate::engine::threads::{SharedMut, ThreadPool};
use crate::estimate::format::Format;

/// Tokens of a tile that goes through the scratch of a thread: a multiple of every register tile.
const TILE_TOKENS: usize = 96;
/// Up to this many tokens nibbles (or 16-bit values) are used as they are; with more it pays to turn them into bytes (or f32) once.
const EXPAND_TOKENS: usize = 12;
/// Bytes of activations that one task goes through, so that they stay in L2 beside the weights.
const ACTIVATION_BYTES: usize = 1 << 20;
/// Multiplications below which waking another thread costs more than it saves.
const SERIAL_PRODUCTS: usize = 16 * 1024;
/// Panels of one register tile.
const GROUP: usize = 2;

/// One cache line.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Scratch of one thread.
struct Scratch {
    /// Results that are not written straight to their place: gate and up, rows beyond the matrix.
    tile: Vec<f32>,
    /// Nibbles turned into bytes.
    bytes: Vec<Line>,
}

thread_local! {
    static SCRATCH: std::cell::RefCell<Scratch> =
        const { std::cell::RefCell::new(Scratch { tile: Vec::new(), bytes: Vec::new() }) };
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
    let rows = matrix.rows();
    check(matrix, activations, out.len(), rows, stride);
    let height = matrix.layout.panel_rows;
    let target = SharedMut::new(out);
    for_tasks(pool, matrix, activations.rows, &|groups, tokens, scratch| {
        for group in groups {
            let first = group * GROUP;
            if first + GROUP <= matrix.panels {
                plain_group::<GROUP>(
                    matrix,
                    first,
                    activations,
                    tokens.clone(),
                    scratch,
                    &target,
                    stride,
                    height,
                    rows,
                );
            } else {
                plain_group::<1>(matrix, first, activations, tokens.clone(), scratch, &target, stride, height, rows);
            }
        }
    });
}

/// `M` panels of a plain product: straight to their place, or, where the last panel is not full, through the scratch.
#[expect(clippy::too_many_arguments, reason = "the loop body of `matmul`, for a constant number of panels")]
fn plain_group<const M: usize>(
    matrix: &PackedMatrix,
    first: usize,
    activations: &PackedActivations,
    tokens: Range<usize>,
    scratch: &mut Scratch,
    target: &SharedMut<f32>,
    stride: usize,
    height: usize,
    rows: usize,
) {
    let group =
        Group::<M>::new(matrix, std::array::from_fn(|m| first + m), activations, tokens.len(), &mut scratch.bytes);
    let row = first * height;
    if row + M * height <= rows {
        let at = tokens.start * stride + row;
        // SAFETY: an empty part at the first result only checks that it lies inside; rows row.. of every token belong to this task
        // alone, and `check` found room for all tokens.
        unsafe {
            let out = target.slice(at..at + M * height).as_mut_ptr();
            group.product(activations, tokens, std::array::from_fn(|m| out.add(m * height)), stride);
        }
        return;
    }
    scratch.tile.resize(TILE_TOKENS * M * height, 0.0);
    for start in tokens.clone().step_by(TILE_TOKENS) {
        let end = (start + TILE_TOKENS).min(tokens.end);
        let tile = scratch.tile.as_mut_ptr();
        // SAFETY: the tile has room for these tokens of all panels.
        unsafe { group.product(activations, start..end, std::array::from_fn(|m| tile.add(m * height)), M * height) };
        for (token, values) in (start..end).zip(scratch.tile.chunks_exact(M * height)) {
            let at = token * stride + row;
            // SAFETY: these rows of every token belong to this task alone.
            unsafe { target.slice(at..token * stride + rows) }.copy_from_slice(&values[..rows - row]);
        }
    }
}

/// `out[token][row] = silu(gate) × up`, where gate and up are the products of `activations[token]` with the two halves of a matrix made by
/// [`PackedMatrix::pack_gate_up`]; `out` has half the matrix's rows. The activation is applied while a tile is in cache.
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
    let rows = gate_up.rows() / 2;
    check(gate_up, activations, out.len(), rows, stride);
    let height = gate_up.layout.panel_rows;
    let isa = gate_up.kernels.isa();
    let target = SharedMut::new(out);
    for_tasks(pool, gate_up, activations.rows, &|groups, tokens, scratch| {
        scratch.tile.resize(TILE_TOKENS * 2 * height, 0.0);
        for pair in groups {
            let group =
                Group::<2>::new(gate_up, [2 * pair, 2 * pair + 1], activations, tokens.len(), &mut scratch.bytes);
            let first = pair * height;
            let count = height.min(rows - first);
            for start in tokens.clone().step_by(TILE_TOKENS) {
                let end = (start + TILE_TOKENS).min(tokens.end);
                let (gate, up) = scratch.tile.split_at_mut(TILE_TOKENS * height);
                // SAFETY: each half has room for these tokens of its panel.
                unsafe { group.product(activations, start..end, [gate.as_mut_ptr(), up.as_mut_ptr()], height) };
                for (token, (gate, up)) in (start..end).zip(gate.chunks_exact(height).zip(up.chunks_exact(height))) {
                    let at = token * stride + first;
                    // SAFETY: these rows of every token belong to this task alone; a matrix is only packed for kernels that the CPU has.
                    unsafe { kernels::silu_mul(isa, gate, up, target.slice(at..at + count)) };
                }
            }
        }
    });
}

/// What a task does with some groups of panels and some tokens.
type Work<'a> = &'a (dyn Fn(Range<usize>, Range<usize>, &mut Scratch) + Sync);

/// Cuts the product into tasks of some groups of panels and some tokens each.
fn for_tasks(pool: &ThreadPool, matrix: &PackedMatrix, tokens: usize, work: Work<'_>) {
    if tokens == 0 {
        return;
    }
    let groups = matrix.panels.div_ceil(GROUP);
    let serial = pool.threads() == 1 || (matrix.rows() * tokens).saturating_mul(matrix.cols()) < SERIAL_PRODUCTS;
    let grain = if serial { groups } else { groups.div_ceil(pool.threads() * 6) };
    let activation_bytes = matrix.cols() * if matrix.format().is_quantized() { 2 } else { 4 };
    // Whole tiles. Results do not depend on the cut: each is the same chain of additions in every register tile.
    let chunk = (ACTIVATION_BYTES / activation_bytes / TILE_TOKENS).max(1) * TILE_TOKENS;
    let (stretches, chunks) = (groups.div_ceil(grain), tokens.div_ceil(chunk));
    pool.run(stretches * chunks, &|task| {
        let (stretch, part) = (task % stretches, task / stretches);
        let groups = stretch * grain..((stretch + 1) * grain).min(groups);
        let tokens = part * chunk..((part + 1) * chunk).min(tokens);
        SCRATCH.with_borrow_mut(|scratch| work(groups, tokens, scratch));
    });
}

/// `M` panels, ready to be multiplied.
struct Group<'a, const M: usize> {
    matrix: &'a PackedMatrix,
    panels: [usize; M],
    /// The values in another form, in the scratch of the thread.
    expanded: Option<(Expanded, [*const u8; M])>,
}

/// What the values of a panel are turned into once, when many tokens are multiplied with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expanded {
    /// Nibbles to bytes.
    Bytes,
    /// Quantized values to bf16, two columns together.
    Pairs,
    /// f16 or bf16 to f32.
    Floats,
}

impl Expanded {
    /// The form that pays for `tokens`.
    fn choose(matrix: &PackedMatrix, activations: &PackedActivations, tokens: usize) -> Option<Self> {
        let layout = &matrix.layout;
        match (matrix.kernels, layout.encoding) {
            (_, Encoding::ColumnPairs) => None,
            _ if activations.form == Form::Bf16Pairs => Some(Self::Pairs),
            (_, Encoding::Columns) => (tokens > EXPAND_TOKENS && layout.format != Format::F32).then_some(Self::Floats),
            (Kernels::Portable, _) => None,
            (_, Encoding::Nibbles) => (tokens > EXPAND_TOKENS).then_some(Self::Bytes),
            _ => None,
        }
    }
    /// Writes the values of a panel in this form.
    ///
    /// # Safety
    /// The CPU must have the kernels of `matrix`; `to` must have room for a panel in this form.
    unsafe fn write(self, matrix: &PackedMatrix, panel: &[u8], to: *mut u8) {
        let layout = &matrix.layout;
        let from = panel[layout.values..].as_ptr();
        // SAFETY: the caller's promise.
        unsafe {
            match (self, matrix.kernels) {
                (Self::Floats, kernels) => {
                    #[expect(clippy::cast_ptr_alignment, reason = "the scratch is made of cache lines")]
                    let to = std::slice::from_raw_parts_mut(to.cast::<f32>(), layout.panel_rows * layout.cols);
                    widen(kernels.isa(), layout.format, from, to);
                }
                #[cfg(target_arch = "x86_64")]
                (Self::Pairs, _) => amx::expand(layout, panel, to),
                #[cfg(target_arch = "x86_64")]
                (Self::Bytes, Kernels::Avx2) => x86::avx2::expand_nibbles(from, layout.blocks, to),
                #[cfg(target_arch = "x86_64")]
                (Self::Bytes, Kernels::AvxVnni) => x86::avx_vnni::expand_nibbles(from, layout.blocks, to),
                #[cfg(target_arch = "x86_64")]
                (Self::Bytes, Kernels::Avx512Vnni | Kernels::Avx512Bf16 | Kernels::Amx) => {
                    x86::avx512_vnni::expand_nibbles(from, layout.blocks, to);
                }
                _ => unreachable!("the portable kernels read nibbles"),
            }
        }
    }
}

impl<'a, const M: usize> Group<'a, M> {
    /// Expands the values into `scratch` where there are enough tokens for it. The group must not outlive the next change of `scratch`.
    fn new(
        matrix: &'a PackedMatrix,
        panels: [usize; M],
        activations: &PackedActivations,
        tokens: usize,
        scratch: &mut Vec<Line>,
    ) -> Self {
        let layout = &matrix.layout;
        let expanded = Expanded::choose(matrix, activations, tokens).map(|form| {
            let bytes = match form {
                Expanded::Bytes => layout.panel_rows * layout.cols,
                Expanded::Pairs => layout.panel_rows * padded_pairs(layout.cols) * 4,
                Expanded::Floats => layout.panel_rows * layout.cols * 4,
            };
            let lines = bytes.div_ceil(64);
            if scratch.len() < M * lines {
                scratch.resize(M * lines, Line([0; 64]));
            }
            let base = scratch.as_mut_ptr();
            let values = std::array::from_fn(|m| {
                // SAFETY: `M` stretches of `lines` lines each; the matrix was packed, so the CPU has its kernels.
                unsafe {
                    let to = base.add(m * lines).cast::<u8>();
                    form.write(matrix, matrix.panel(panels[m]), to);
                    to.cast_const()
                }
            });
            (form, values)
        });
        Self { matrix, panels, expanded }
    }

    /// Writes the products of all rows of the panels with `tokens`.
    ///
    /// # Safety
    /// Each place of `out` must have room for a panel's rows for every token, at `stride`.
    unsafe fn product(&self, activations: &PackedActivations, tokens: Range<usize>, out: [*mut f32; M], stride: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            match activations.form {
                Form::F32 | Form::Bf16Pairs => self.dense(activations, tokens, out, stride),
                _ if activations.extreme || self.matrix.kernels == Kernels::Portable => {
                    let layout = &self.matrix.layout;
                    for (panel, out) in self.panels.iter().zip(out) {
                        portable::panel(layout, self.matrix.panel(*panel), activations, tokens.clone(), out, stride);
                    }
                }
                #[cfg(target_arch = "x86_64")]
                _ => self.blocks(activations, tokens, out, stride),
                #[cfg(not(target_arch = "x86_64"))]
                _ => unreachable!("no other kernels than the portable ones are available"),
            }
        }
    }

    /// [`Self::product`] of dense panels.
    unsafe fn dense(&self, activations: &PackedActivations, tokens: Range<usize>, out: [*mut f32; M], stride: usize) {
        let (matrix, layout) = (self.matrix, &self.matrix.layout);
        let x = if activations.form == Form::F32 {
            activations.values[tokens.start * layout.cols..].as_ptr().cast::<u8>()
        } else {
            activations.pairs[tokens.start * bf16_pitch(layout.cols)..].as_ptr().cast::<u8>()
        };
        let values = match self.expanded {
            Some((_, values)) => values,
            None => self.panels.map(|panel| matrix.panel(panel).as_ptr()),
        };
        let job = DenseJob { values, cols: layout.cols, x, tokens: tokens.len(), out, stride };
        let isa = matrix.kernels.isa();
        // SAFETY: the CPU has the kernels; panels and activations have `cols` columns; `out` is the caller's promise.
        unsafe {
            match (activations.form, layout.format) {
                #[cfg(target_arch = "x86_64")]
                (Form::Bf16Pairs, _) if matrix.kernels == Kernels::Amx => amx::pairs(&job),
                #[cfg(target_arch = "x86_64")]
                (Form::Bf16Pairs, _) => bf16_dot::pairs(&job),
                (_, Format::BF16) if self.expanded.is_none() => dense::<bf16, M>(isa, &job),
                (_, Format::F16) if self.expanded.is_none() => dense::<f16, M>(isa, &job),
                _ => dense::<f32, M>(isa, &job),
            }
        }
    }

    /// [`Self::product`] of quantized panels with 8-bit activations.
    #[cfg(target_arch = "x86_64")]
    unsafe fn blocks(&self, activations: &PackedActivations, tokens: Range<usize>, out: [*mut f32; M], stride: usize) {
        let (matrix, layout) = (self.matrix, &self.matrix.layout);
        let panels = self.panels.map(|panel| matrix.panel(panel));
        let minima = layout.format == Format::Q4_1;
        let mut job = Job {
            values: panels.map(|panel| panel[layout.values..].as_ptr()),
            scales: panels.map(<[u8]>::as_ptr),
            minima: panels.map(|panel| if minima { panel[layout.minima(0)..].as_ptr() } else { panel.as_ptr() }),
            blocks: layout.blocks,
            quants: activations.quants[tokens.start * layout.cols..].as_ptr(),
            headers: activations.headers[tokens.start * layout.blocks..].as_ptr(),
            tokens: tokens.len(),
            out,
            stride,
        };
        let mut stored = if layout.encoding == Encoding::Nibbles { Stored::Nibbles } else { Stored::Bytes };
        if let Some((_, values)) = self.expanded {
            job.values = values;
            stored = Stored::Expanded;
        }
        macro_rules! run {
            ($set:ident) => {
                match (stored, minima) {
                    (Stored::Nibbles, false) => x86::$set::nibbles::<M, false>(&job),
                    (Stored::Nibbles, true) => x86::$set::nibbles::<M, true>(&job),
                    (Stored::Expanded, false) => x86::$set::expanded::<M, false>(&job),
                    (Stored::Expanded, true) => x86::$set::expanded::<M, true>(&job),
                    (Stored::Bytes, _) => x86::$set::bytes::<M>(&job),
                }
            };
        }
        // SAFETY: the CPU has the kernels; panels and activations have `blocks` blocks; `out` is the caller's promise.
        unsafe {
            match matrix.kernels {
                Kernels::Portable => unreachable!("portable kernels are called before"),
                Kernels::Avx2 => run!(avx2),
                Kernels::AvxVnni => run!(avx_vnni),
                Kernels::Avx512Vnni | Kernels::Avx512Bf16 | Kernels::Amx => run!(avx512_vnni),
            }
        }
    }
}

/// What the values of a job are.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
enum Stored {
    /// As packed.
    Nibbles,
    /// As packed.
    Bytes,
    /// Nibbles made bytes.
    Expanded,
}

/// The conditions stated at [`matmul`].
fn check(matrix: &PackedMatrix, activations: &PackedActivations, out: usize, rows: usize, stride: usize) {
    assert_eq!(
        activations.form,
        form(matrix.kernels, &matrix.layout, activations.rows),
        "activations are packed for the matrix's format and kernels"
    );
    assert_eq!(activations.cols, matrix.cols(), "activations are as wide as the matrix");
    assert!(stride >= rows, "rows of the result do not overlap");
    let needed = activations.rows.checked_sub(1).map_or(0, |last| last * stride + rows);
    assert!(out >= needed, "the result has room for all rows");
}
