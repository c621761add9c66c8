//! Projections: packed products where the format has kernels, the reference operator where it has none.

use std::sync::Arc;

use candle_core::{Result, bail};

use super::super::cpu;
use super::super::packed::{self, PackedActivations, PackedMatrix};
use super::FusedOperators;
use crate::engine::threads::SharedMut;
use crate::engine::weights::Weight;
use crate::estimate::format::Format;

/// A weight, packed or as loaded.
enum Matrix {
    Packed(PackedMatrix),
    Loaded(Weight),
}

/// One linear, or several of one input and one format as one: its outputs are theirs, one after the other.
pub struct Projection {
    matrix: Matrix,
    bias: Option<Vec<f32>>,
    outer: usize,
    inner: usize,
    format: Format,
}

impl std::fmt::Debug for Projection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { outer, inner, format, .. } = self;
        write!(f, "Projection({inner} → {outer} {format}, packed: {})", self.is_packed())
    }
}

impl Projection {
    /// Outputs.
    pub fn outer(&self) -> usize {
        self.outer
    }
    /// Inputs.
    pub fn inner(&self) -> usize {
        self.inner
    }
    /// How the weight was stored.
    pub fn format(&self) -> Format {
        self.format
    }
    /// Whether a bias is added.
    pub fn has_bias(&self) -> bool {
        self.bias.is_some()
    }
    /// False where the reference operator multiplies.
    pub fn is_packed(&self) -> bool {
        matches!(self.matrix, Matrix::Packed(_))
    }
}

/// Gate and up projections in one packed matrix, with SiLU(gate) × up as the epilogue of their product.
pub struct GatedProjection(PackedMatrix);

impl std::fmt::Debug for GatedProjection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GatedProjection({} → 2 × {} {})", self.inner(), self.width(), self.format())
    }
}

impl GatedProjection {
    /// Outputs.
    pub fn width(&self) -> usize {
        self.0.rows() / 2
    }
    /// Inputs.
    pub fn inner(&self) -> usize {
        self.0.cols()
    }
    /// How the weights were stored.
    pub fn format(&self) -> Format {
        self.0.format()
    }
}

/// What is made of activations for products with them, kept between steps.
#[derive(Debug, Default)]
pub struct InputBuffers {
    packed: PackedActivations,
    /// Results of products that the reference operator cannot write to their place.
    results: Vec<f32>,
}

/// Rows of activations that several projections read: rounded or packed once for all of them.
#[derive(Debug)]
pub struct Input<'a> {
    values: &'a [f32],
    rows: usize,
    buffers: &'a mut InputBuffers,
    /// The format `buffers.packed` is filled for, if it holds these values.
    filled: Option<Format>,
    panels: Option<Arc<[f32]>>,
}

impl<'a> Input<'a> {
    /// `rows` rows of equal width.
    pub fn new(values: &'a [f32], rows: usize, buffers: &'a mut InputBuffers) -> Self {
        Self { values, rows, buffers, filled: None, panels: None }
    }
}

/// A weight with its bias.
pub type Biased = (Weight, Option<Vec<f32>>);

impl FusedOperators {
    /// Packs `parts` (weights of one width and one format, with their biases) as one projection. Gives them back where they cannot be one.
    ///
    /// # Errors
    /// If a weight is of a type the CPU operators do not know.
    pub fn pack(&self, parts: Vec<Biased>) -> Result<std::result::Result<Projection, Vec<Biased>>> {
        let Some((first, _)) = parts.first() else { bail!("a projection has at least one weight") };
        let [_, inner] = *first.dims() else { bail!("a linear weight has two dimensions") };
        let format = first.format();
        let alike = parts
            .iter()
            .all(|(weight, _)| weight.format() == format && matches!(*weight.dims(), [_, columns] if columns == inner));
        let biased = parts.iter().filter(|(_, bias)| bias.is_some()).count();
        if !alike || (biased != 0 && biased != parts.len()) {
            return Ok(Err(parts));
        }
        let outer = parts.iter().map(|(weight, _)| weight.dims()[0]).sum();
        let matrix = self.pack_bytes(&parts, format, inner, &mut Vec::new())?;
        let bias = |parts: &[Biased]| {
            (biased > 0).then(|| parts.iter().filter_map(|(_, bias)| bias.as_deref()).flatten().copied().collect())
        };
        match matrix {
            Some(matrix) => {
                Ok(Ok(Projection { matrix: Matrix::Packed(matrix), bias: bias(&parts), outer, inner, format }))
            }
            None if parts.len() == 1 => {
                let bias = bias(&parts);
                let Some((weight, _)) = parts.into_iter().next() else { bail!("a projection has at least one weight") };
                Ok(Ok(Projection { matrix: Matrix::Loaded(weight), bias, outer, inner, format }))
            }
            None => Ok(Err(parts)),
        }
    }

    /// Opens the memory of one weight after the other, then packs all.
    fn pack_bytes(
        &self,
        parts: &[Biased],
        format: Format,
        inner: usize,
        opened: &mut Vec<(usize, &[u8])>,
    ) -> Result<Option<PackedMatrix>> {
        match parts.split_first() {
            None => Ok(PackedMatrix::pack_rows(self.kernels, format, opened, inner, &self.pool)),
            Some(((weight, _), rest)) => cpu::with_bytes(weight, |_, bytes| {
                let mut opened = opened.clone();
                opened.push((weight.dims()[0], bytes));
                self.pack_bytes(rest, format, inner, &mut opened)
            }),
        }
    }

    /// Packs one weight with its bias; as loaded where its format has no kernels.
    ///
    /// # Errors
    /// As [`Self::pack`].
    pub fn projection(&self, weight: Weight, bias: Option<Vec<f32>>) -> Result<Projection> {
        match self.pack(vec![(weight, bias)])? {
            Ok(projection) => Ok(projection),
            Err(_) => bail!("one weight is always one projection"),
        }
    }

    /// Packs gate and up together. Gives them back where they cannot be: formats differ, or have no kernels.
    ///
    /// # Errors
    /// As [`Self::pack`].
    pub fn pack_gated(
        &self,
        gate: Weight,
        up: Weight,
    ) -> Result<std::result::Result<GatedProjection, (Weight, Weight)>> {
        let [rows, inner] = *gate.dims() else { bail!("a linear weight has two dimensions") };
        if gate.format() != up.format() || gate.dims() != up.dims() {
            return Ok(Err((gate, up)));
        }
        let matrix = cpu::with_bytes(&gate, |format, gate| {
            cpu::with_bytes(&up, |_, up| {
                Ok(PackedMatrix::pack_gate_up(self.kernels, format, rows, inner, gate, up, &self.pool))
            })
        })?;
        Ok(matrix.map(GatedProjection).ok_or((gate, up)))
    }

    /// Writes `input · weightᵀ + bias` to the first `outer` of every `stride` values of `out`.
    ///
    /// # Errors
    /// If the widths do not fit.
    pub fn project(
        &self,
        projection: &Projection,
        input: &mut Input<'_>,
        out: &mut [f32],
        stride: usize,
    ) -> Result<()> {
        let (rows, outer) = (input.rows, projection.outer);
        let needed = rows.checked_sub(1).map_or(0, |last| last * stride + outer);
        if input.values.len() != rows * projection.inner || stride < outer || out.len() < needed {
            bail!("{projection:?} got {} values and {} places for {rows} rows", input.values.len(), out.len());
        }
        match &projection.matrix {
            Matrix::Packed(matrix) => {
                self.fill(matrix, input);
                packed::matmul(&self.pool, matrix, &input.buffers.packed, out, stride);
            }
            Matrix::Loaded(weight) if stride == outer || rows == 1 => {
                let out = &mut out[..rows * outer];
                self.reference.linear_into(input.values, rows, weight, &mut input.panels, out)?;
            }
            Matrix::Loaded(weight) => {
                let results = &mut input.buffers.results;
                results.resize(rows * outer, 0.0);
                self.reference.linear_into(input.values, rows, weight, &mut input.panels, results)?;
                for (row, out) in results.chunks_exact(outer).zip(out.chunks_mut(stride)) {
                    out[..outer].copy_from_slice(row);
                }
            }
        }
        if let Some(bias) = &projection.bias {
            self.add_bias(bias, &mut out[..needed], stride);
        }
        Ok(())
    }

    /// Writes SiLU(gate) × up to `out`, `[rows, width]`.
    ///
    /// # Errors
    /// If the widths do not fit.
    pub fn project_gated(&self, gated: &GatedProjection, input: &mut Input<'_>, out: &mut [f32]) -> Result<()> {
        let (rows, width) = (input.rows, gated.width());
        if input.values.len() != rows * gated.inner() || out.len() != rows * width {
            bail!("{gated:?} got {} values and {} places for {rows} rows", input.values.len(), out.len());
        }
        self.fill(&gated.0, input);
        packed::matmul_silu_mul(&self.pool, &gated.0, &input.buffers.packed, out, width);
        Ok(())
    }

    /// `out = silu(gates) × out`, in rows of `width`.
    pub fn silu_mul(&self, gates: &[f32], out: &mut [f32], width: usize) {
        self.reference.by_rows(out, width, &|rows, out| {
            let gates = &gates[rows.start * width..rows.end * width];
            // SAFETY: `isa` is what the CPU has.
            unsafe { super::kernels::silu_mul_in_place(self.isa, gates, out) }
        });
    }

    /// Rounds the input for products with `matrix`, unless it already is.
    fn fill(&self, matrix: &PackedMatrix, input: &mut Input<'_>) {
        if input.filled != Some(matrix.format()) {
            let (rows, columns) = (input.rows, matrix.cols());
            input.buffers.packed.fill(self.kernels, matrix.format(), input.values, rows, columns, &self.pool);
            input.filled = Some(matrix.format());
        }
    }

    /// Adds `bias` to the first values of every row.
    fn add_bias(&self, bias: &[f32], out: &mut [f32], stride: usize) {
        let rows = out.len().div_ceil(stride);
        let grain =
            if rows * bias.len() <= super::SERIAL_VALUES { rows } else { rows.div_ceil(self.pool.threads() * 4) };
        let target = SharedMut::new(out);
        self.pool.for_ranges(rows, grain, &|range| {
            for row in range {
                // SAFETY: rows are disjoint.
                let out = unsafe { target.slice(row * stride..row * stride + bias.len()) };
                // SAFETY: `isa` is what the CPU has.
                unsafe { super::kernels::add_assign(self.isa, out, bias) };
            }
        });
    }
}
