//! The operators on the CPU, by the kernels of [`super::kernels`] on the engine's own thread pool.
//!
//! Activations are f32. Weights are used as they are stored: dense or quantized blocks are widened inside the kernels and multiplied
//! with f32 activations, so that the result differs from the dequantized model's only by the order of additions.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::quantized::k_quants::{
    BlockQ2K, BlockQ3K, BlockQ4K, BlockQ5_0, BlockQ5_1, BlockQ5K, BlockQ6K, GgmlType,
};
use candle_core::{CpuStorage, Device, Result, Storage as CandleStorage, Tensor, TensorId, bail};
use half::{bf16, f16};

use super::attention::scatter;
use super::kernels::{self as k, Strides};
use super::quant;
use super::simd::Isa;
use super::{AttentionShape, Operators, RopeTable};
use crate::engine::kv_cache::{HostBuffer, LayerCache, Storage};
use crate::engine::threads::{SharedMut, ThreadPool};
use crate::engine::weights::Weight;
use crate::estimate::format::Format;

/// Up to this many rows a product is done row by row (dot products); above, by panels (register tiles over tokens). Eight rows of
/// dot products cost as many multiplications as one panel of 16 half-empty lanes.
const DOT_ROWS: usize = 8;
/// Weight rows dequantized and multiplied together in panel products: 64 rows of 1,536 f32 fit beside a panel in a 2 MiB L2.
const ROW_BLOCK: usize = 64;
/// Inner dimension processed at once in panel products, so that a panel stays in L2 for wide models.
const INNER_BLOCK: usize = 2048;
/// Values below which an elementwise operator is not worth waking anyone for.
const SERIAL_VALUES: usize = 16 * 1024;

/// A weight's memory, by type.
enum Matrix<'a> {
    F32(&'a [f32]),
    BF16(&'a [bf16]),
    F16(&'a [f16]),
    /// q8_0, q4_0 or q4_1 blocks, which have kernels.
    Blocks(Format, &'a [u8]),
    /// Other blocks, through candle's reference conversions.
    Other(Format, &'a [u8]),
}

/// Activations packed for panel products.
struct Packed {
    of: TensorId,
    panels: Arc<[f32]>,
}

/// See the module documentation.
pub struct CpuOperators {
    pub(super) pool: Arc<ThreadPool>,
    pub(super) isa: Isa,
    /// The last packed activations: q, k and v (gate and up) multiply the same ones.
    packed: Mutex<Option<Packed>>,
}

impl std::fmt::Debug for CpuOperators {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CpuOperators").field("isa", &self.isa).field("pool", &self.pool).finish_non_exhaustive()
    }
}

/// Calls `f` with the f32 values of a contiguous CPU tensor.
pub(super) fn with_f32<R>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> Result<R>) -> Result<R> {
    let (storage, layout) = tensor.storage_and_layout();
    let CandleStorage::Cpu(CpuStorage::F32(values)) = &*storage else { bail!("expected f32 values on the CPU") };
    let Some((start, end)) = layout.contiguous_offsets() else { bail!("expected a contiguous tensor") };
    f(&values[start..end])
}

/// Calls `f` with the bytes of a weight as they lie in memory, and their format.
pub(super) fn with_bytes<R>(weight: &Weight, f: impl FnOnce(Format, &[u8]) -> Result<R>) -> Result<R> {
    // SAFETY: plain numbers without padding; bytes have no alignment.
    unsafe fn bytes<T>(values: &[T]) -> &[u8] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
    }
    with_matrix(weight, |matrix| match matrix {
        // SAFETY: f32, bf16 and f16 are plain numbers.
        Matrix::F32(values) => f(Format::F32, unsafe { bytes(values) }),
        // SAFETY: as above.
        Matrix::BF16(values) => f(Format::BF16, unsafe { bytes(values) }),
        // SAFETY: as above.
        Matrix::F16(values) => f(Format::F16, unsafe { bytes(values) }),
        Matrix::Blocks(format, bytes) | Matrix::Other(format, bytes) => f(format, bytes),
    })
}

/// Calls `f` with the memory of a weight.
fn with_matrix<R>(weight: &Weight, f: impl FnOnce(Matrix<'_>) -> Result<R>) -> Result<R> {
    match weight {
        Weight::Dense(tensor) => {
            let (storage, layout) = tensor.storage_and_layout();
            let Some((start, end)) = layout.contiguous_offsets() else { bail!("expected a contiguous weight") };
            match &*storage {
                CandleStorage::Cpu(CpuStorage::F32(values)) => f(Matrix::F32(&values[start..end])),
                CandleStorage::Cpu(CpuStorage::BF16(values)) => f(Matrix::BF16(&values[start..end])),
                CandleStorage::Cpu(CpuStorage::F16(values)) => f(Matrix::F16(&values[start..end])),
                _ => bail!("the CPU operators take f32, f16 or bf16 weights, not {:?}", tensor.dtype()),
            }
        }
        Weight::Quantized(tensor) => {
            let data: Cow<'_, [u8]> = tensor.data()?;
            let format = weight.format();
            match format {
                Format::Q8_0 | Format::Q4_0 | Format::Q4_1 => f(Matrix::Blocks(format, &data)),
                Format::Q5_0 | Format::Q5_1 | Format::Q2K | Format::Q3K | Format::Q4K | Format::Q5K | Format::Q6K => {
                    f(Matrix::Other(format, &data))
                }
                other => bail!("the CPU operators do not support {other} weights"),
            }
        }
    }
}

/// Typed view of blocks.
fn blocks<T: GgmlType>(bytes: &[u8]) -> &[T] {
    // SAFETY: candle's block structs are plain `repr(C)` data without padding or invalid bit patterns; the prefix is empty because
    // candle allocates the bytes as a `Vec` of these very structs.
    let (prefix, blocks, suffix) = unsafe { bytes.align_to::<T>() };
    assert!(prefix.is_empty() && suffix.is_empty(), "quantized weights are whole, aligned blocks");
    blocks
}

/// Values of whole blocks of a format without a kernel of ours.
fn dequantize_other(format: Format, bytes: &[u8], out: &mut [f32]) {
    match format {
        Format::Q5_0 => BlockQ5_0::to_float(blocks(bytes), out),
        Format::Q5_1 => BlockQ5_1::to_float(blocks(bytes), out),
        Format::Q2K => BlockQ2K::to_float(blocks(bytes), out),
        Format::Q3K => BlockQ3K::to_float(blocks(bytes), out),
        Format::Q4K => BlockQ4K::to_float(blocks(bytes), out),
        Format::Q5K => BlockQ5K::to_float(blocks(bytes), out),
        Format::Q6K => BlockQ6K::to_float(blocks(bytes), out),
        other => unreachable!("with_matrix admits no {other}"),
    }
}

/// `out[r] = rows[r] · x` by candle's dot products over quantized activations, the fastest path candle has for its k-quants.
fn gemv_other<T: GgmlType>(bytes: &[u8], x: &[f32], out: &mut [f32]) {
    let inner = x.len();
    let mut quantized = vec![T::VecDotType::zeros(); inner / T::VecDotType::BLCK_SIZE];
    T::VecDotType::from_float(x, &mut quantized);
    let rows = blocks::<T>(bytes);
    for (row, out) in rows.chunks_exact(inner / T::BLCK_SIZE).zip(out) {
        *out = T::vec_dot(inner, row, &quantized);
    }
}

impl Matrix<'_> {
    /// Writes rows `range` of an `inner`-wide matrix, columns `columns`, as f32; f32 weights are not copied but borrowed.
    fn widen<'m>(
        &'m self,
        isa: Isa,
        inner: usize,
        range: std::ops::Range<usize>,
        columns: std::ops::Range<usize>,
        scratch: &'m mut Vec<f32>,
    ) -> (*const f32, usize) {
        let width = columns.len();
        if let Self::F32(values) = self {
            return (values[range.start * inner + columns.start..].as_ptr(), inner);
        }
        scratch.resize(range.len() * width, 0.0);
        for (row, out) in range.zip(scratch.chunks_exact_mut(width)) {
            let dense = row * inner + columns.start..row * inner + columns.end;
            // SAFETY: `isa` was detected; source and target have equal lengths, whole blocks for block formats.
            unsafe {
                match self {
                    Self::F32(_) => unreachable!("returned above"),
                    Self::BF16(values) => k::widen_bf16(isa, &values[dense], out),
                    Self::F16(values) => k::widen_f16(isa, &values[dense], out),
                    Self::Blocks(format, bytes) | Self::Other(format, bytes) => {
                        let (elements, size) = format.block();
                        let part = &bytes[dense.start / elements * size..dense.end / elements * size];
                        match format {
                            Format::Q8_0 => quant::dequantize_q8_0(isa, part, out),
                            Format::Q4_0 => quant::dequantize_q4_0(isa, part, out),
                            Format::Q4_1 => quant::dequantize_q4_1(isa, part, out),
                            other => dequantize_other(*other, part, out),
                        }
                    }
                }
            }
        }
        (scratch.as_ptr(), width)
    }

    /// `out[r] = row r · x` for the rows of `range`.
    fn gemv(&self, isa: Isa, range: std::ops::Range<usize>, x: &[f32], x_sums: &[f32], out: &mut [f32]) {
        let inner = x.len();
        let dense = range.start * inner..range.end * inner;
        // SAFETY: `isa` was detected; `out` has one place per row, `x_sums` one value per block.
        unsafe {
            match self {
                Self::F32(values) => k::gemv_f32(isa, &values[dense], x, out),
                Self::BF16(values) => k::gemv_bf16(isa, &values[dense], x, out),
                Self::F16(values) => k::gemv_f16(isa, &values[dense], x, out),
                Self::Blocks(format, bytes) | Self::Other(format, bytes) => {
                    let (elements, size) = format.block();
                    let part = &bytes[dense.start / elements * size..dense.end / elements * size];
                    match format {
                        Format::Q8_0 => quant::gemv_q8_0(isa, part, x, x_sums, out),
                        Format::Q4_0 => quant::gemv_q4_0(isa, part, x, x_sums, out),
                        Format::Q4_1 => quant::gemv_q4_1(isa, part, x, x_sums, out),
                        Format::Q5_0 => gemv_other::<BlockQ5_0>(part, x, out),
                        Format::Q5_1 => gemv_other::<BlockQ5_1>(part, x, out),
                        Format::Q2K => gemv_other::<BlockQ2K>(part, x, out),
                        Format::Q3K => gemv_other::<BlockQ3K>(part, x, out),
                        Format::Q4K => gemv_other::<BlockQ4K>(part, x, out),
                        Format::Q5K => gemv_other::<BlockQ5K>(part, x, out),
                        Format::Q6K => gemv_other::<BlockQ6K>(part, x, out),
                        other => unreachable!("with_matrix admits no {other}"),
                    }
                }
            }
        }
    }
}

thread_local! {
    /// Scratch of one worker: widened weights, a block of results, attention scores.
    pub(super) static SCRATCH: std::cell::RefCell<[Vec<f32>; 3]> = const { std::cell::RefCell::new([Vec::new(), Vec::new(), Vec::new()]) };
}

impl CpuOperators {
    /// On `pool`, with the best instruction set of this CPU.
    pub fn new(pool: Arc<ThreadPool>) -> Self {
        Self::with_isa(pool, Isa::detect())
    }
    /// With an instruction set of at most what the CPU has, e.g. to test the others.
    pub fn with_isa(pool: Arc<ThreadPool>, isa: Isa) -> Self {
        Self { pool, isa: isa.min(Isa::detect()), packed: Mutex::new(None) }
    }

    /// Tasks of rows: enough for every thread to get several, so that a late one takes fewer.
    fn row_grain(&self, rows: usize) -> usize {
        if self.pool.threads() == 1 { rows.max(1) } else { rows.div_ceil(self.pool.threads() * 6).next_multiple_of(4) }
    }

    /// A product with few rows: each weight row is read once and multiplied with every activation row.
    fn dot_product(&self, matrix: &Matrix<'_>, x: &[f32], rows: usize, inner: usize, outer: usize, out: &mut [f32]) {
        let x_sums: Vec<f32> = match matrix {
            Matrix::Blocks(..) => x.chunks_exact(quant::BLOCK).map(|block| block.iter().sum()).collect(),
            _ => Vec::new(),
        };
        let target = SharedMut::new(out);
        let grain = self.row_grain(outer);
        self.pool.for_ranges(outer, grain, &|range| {
            if rows == 1 {
                // SAFETY: ranges are disjoint.
                let out = unsafe { target.slice(range.clone()) };
                matrix.gemv(self.isa, range, x, &x_sums, out);
                return;
            }
            SCRATCH.with_borrow_mut(|[scratch, _, _]| {
                // A few weight rows at a time are widened once and stay in L1 for all activation rows.
                for first in range.clone().step_by(4) {
                    let last = (first + 4).min(range.end);
                    let (weights, stride) = matrix.widen(self.isa, inner, first..last, 0..inner, scratch);
                    for row in 0..rows {
                        // SAFETY: (row, first..last) belongs to this task alone; `weights` holds the widened rows.
                        unsafe {
                            let out = target.slice(row * outer + first..row * outer + last);
                            let weights = std::slice::from_raw_parts(weights, (last - first - 1) * stride + inner);
                            k::gemv_f32(self.isa, weights, &x[row * inner..(row + 1) * inner], out);
                        }
                    }
                }
            });
        });
    }

    /// [`Self::panels`] of the tensor `id`, packed once for all that multiply it.
    fn pack(&self, id: TensorId, x: &[f32], rows: usize, inner: usize) -> Arc<[f32]> {
        let mut cached = self.packed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(packed) = cached.as_ref().filter(|packed| packed.of == id) {
            return Arc::clone(&packed.panels);
        }
        let panels = self.panels(x, rows, inner);
        *cached = Some(Packed { of: id, panels: Arc::clone(&panels) });
        panels
    }

    /// Packs `[rows, inner]` into panels: tokens become lanes.
    fn panels(&self, x: &[f32], rows: usize, inner: usize) -> Arc<[f32]> {
        let width = k::panel_width(self.isa);
        let lanes = k::lanes(self.isa);
        let panels = rows.div_ceil(width);
        let mut buffer = vec![0.0f32; (rows / width * width + (rows % width).next_multiple_of(lanes)) * inner];
        let target = SharedMut::new(&mut buffer);
        self.pool.run(panels, &|panel| {
            let first = panel * width;
            let count = (rows - first).min(width);
            let padded = count.next_multiple_of(lanes);
            // SAFETY: each panel has a stretch of its own.
            let out = unsafe { target.slice(first * inner..(first + padded) * inner) };
            // Sixteen columns at a time: one cache line of each token, and a block of the panel that stays in L1.
            for column in (0..inner).step_by(16) {
                let end = (column + 16).min(inner);
                for token in 0..count {
                    let from = &x[(first + token) * inner + column..(first + token) * inner + end];
                    for (value, step) in from.iter().zip(column..) {
                        out[step * padded + token] = *value;
                    }
                }
            }
        });
        buffer.into()
    }

    /// [`Operators::linear`] without a bias over plain memory: `out[rows × outer] = x[rows × inner] · weightᵀ`.
    ///
    /// `panels` keeps the packed `x` for further products with it.
    ///
    /// # Errors
    /// If the weight is of a type without a kernel.
    pub(super) fn linear_into(
        &self,
        x: &[f32],
        rows: usize,
        weight: &Weight,
        panels: &mut Option<Arc<[f32]>>,
        out: &mut [f32],
    ) -> Result<()> {
        let [outer, inner] = *weight.dims() else { bail!("a linear weight has two dimensions") };
        if x.len() != rows * inner || out.len() != rows * outer {
            bail!("a linear of {inner} inputs and {outer} outputs got {} and {} for {rows} rows", x.len(), out.len());
        }
        with_matrix(weight, |matrix| {
            if rows <= DOT_ROWS {
                self.dot_product(&matrix, x, rows, inner, outer, out);
            } else {
                let panels = panels.get_or_insert_with(|| self.panels(x, rows, inner));
                self.panel_product(&matrix, panels, rows, inner, outer, out);
            }
            Ok(())
        })
    }

    /// [`Operators::embedding`] over plain memory: the rows of `table` picked by `ids`.
    ///
    /// # Errors
    /// If an id lies outside the table, or the table is of a type without a kernel.
    pub(super) fn embed_into(&self, table: &Weight, ids: &[u32], out: &mut [f32]) -> Result<()> {
        let [vocabulary, width] = *table.dims() else { bail!("an embedding has two dimensions") };
        if let Some(id) = ids.iter().find(|id| **id as usize >= vocabulary) {
            bail!("token {id} lies outside the embedding of {vocabulary} rows");
        }
        with_matrix(table, |matrix| {
            let mut scratch = Vec::new();
            for (id, out) in ids.iter().zip(out.chunks_exact_mut(width)) {
                let row = *id as usize;
                let (values, _) = matrix.widen(self.isa, width, row..row + 1, 0..width, &mut scratch);
                // SAFETY: `widen` gives `width` values.
                out.copy_from_slice(unsafe { std::slice::from_raw_parts(values, width) });
            }
            Ok(())
        })
    }

    /// A product with many rows.
    fn panel_product(
        &self,
        matrix: &Matrix<'_>,
        panels: &[f32],
        rows: usize,
        inner: usize,
        outer: usize,
        out: &mut [f32],
    ) {
        let isa = self.isa;
        let width = k::panel_width(isa);
        let lanes = k::lanes(isa);
        let target = SharedMut::new(out);
        let grain = ROW_BLOCK.min(outer.div_ceil(self.pool.threads() * 2).next_multiple_of(k::tile_rows(isa)));
        self.pool.for_ranges(outer, grain, &|range| {
            SCRATCH.with_borrow_mut(|[scratch, block, _]| {
                let count = range.len();
                let panel_count = rows.div_ceil(width);
                // Results of the whole row block, panel by panel, `[count][padded]` each.
                block.resize(count * panel_count * width, 0.0);
                for column in (0..inner).step_by(INNER_BLOCK) {
                    let columns = column..(column + INNER_BLOCK).min(inner);
                    let (weights, stride) = matrix.widen(isa, inner, range.clone(), columns.clone(), scratch);
                    for panel in 0..panel_count {
                        let first = panel * width;
                        let padded = (rows - first).min(width).next_multiple_of(lanes);
                        let b = &panels[first * inner + columns.start * padded..first * inner + columns.end * padded];
                        let c = &mut block[panel * count * width..panel * count * width + count * padded];
                        // SAFETY: `weights` has `count` rows of `columns.len()` values at `stride`; `b` and `c` have the stated sizes.
                        unsafe {
                            k::gemm_panel(
                                isa,
                                weights,
                                Strides { row: stride, step: 1 },
                                count,
                                columns.len(),
                                b.as_ptr(),
                                padded,
                                c.as_mut_ptr(),
                                column > 0,
                            );
                        }
                    }
                }
                for panel in 0..panel_count {
                    let first = panel * width;
                    let tokens = (rows - first).min(width);
                    let padded = tokens.next_multiple_of(lanes);
                    let c = &block[panel * count * width..panel * count * width + count * padded];
                    for token in 0..tokens {
                        let at = (first + token) * outer;
                        // SAFETY: (token, range) belongs to this task alone.
                        let out = unsafe { target.slice(at + range.start..at + range.end) };
                        for (row, value) in out.iter_mut().enumerate() {
                            *value = c[row * padded + token];
                        }
                    }
                }
            });
        });
    }

    /// Runs `f` over equal stretches of whole rows of `out`, in parallel when there is enough to do.
    pub(super) fn by_rows(
        &self,
        out: &mut [f32],
        width: usize,
        f: &(dyn Fn(std::ops::Range<usize>, &mut [f32]) + Sync),
    ) {
        let rows = out.len() / width.max(1);
        let grain =
            if out.len() <= SERIAL_VALUES { rows.max(1) } else { rows.div_ceil(self.pool.threads() * 4).max(1) };
        let target = SharedMut::new(out);
        self.pool.for_ranges(rows, grain, &|range| {
            // SAFETY: row ranges are disjoint.
            f(range.clone(), unsafe { target.slice(range.start * width..range.end * width) });
        });
    }
}

/// A new buffer for results that are all written.
fn output(len: usize) -> Vec<f32> {
    vec![0.0; len]
}

impl Operators for CpuOperators {
    fn name(&self) -> String {
        format!("reference (cpu, {}, {} threads)", self.isa.name(), self.pool.threads())
    }
    fn activation_format(&self) -> Format {
        Format::F32
    }
    fn new_cache(
        &self,
        batch: usize,
        kv_heads: usize,
        capacity: usize,
        head_dim: usize,
        format: Format,
    ) -> Result<LayerCache> {
        let len = batch * kv_heads * capacity * head_dim;
        let buffer = || {
            Ok(match format {
                Format::F32 => HostBuffer::F32(vec![0.0; len]),
                Format::BF16 => HostBuffer::BF16(vec![bf16::ZERO; len]),
                Format::F16 => HostBuffer::F16(vec![f16::ZERO; len]),
                other => bail!("a KV cache in {other} is not supported; use f32, f16 or bf16"),
            })
        };
        let storage = Storage::Host { k: buffer()?, v: buffer()? };
        Ok(LayerCache { storage, batch, kv_heads, capacity, head_dim, format })
    }

    fn embedding(&self, table: &Weight, ids: &Tensor) -> Result<Tensor> {
        let ids = ids.flatten_all()?.to_vec1::<u32>()?;
        let [_, width] = *table.dims() else { bail!("an embedding has two dimensions") };
        let mut out = output(ids.len() * width);
        self.embed_into(table, &ids, &mut out)?;
        Tensor::from_vec(out, (ids.len(), width), &Device::Cpu)
    }

    fn rms_norm(&self, x: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor> {
        with_f32(x, |values| {
            with_f32(weight, |weight| {
                let mut out = output(values.len());
                let width = weight.len();
                self.by_rows(&mut out, width, &|rows, out| {
                    // SAFETY: `isa` was detected.
                    unsafe { k::rms_norm(self.isa, &values[rows.start * width..rows.end * width], weight, eps, out) }
                });
                Tensor::from_vec(out, x.shape(), &Device::Cpu)
            })
        })
    }

    fn linear(&self, x: &Tensor, weight: &Weight, bias: Option<&Tensor>) -> Result<Tensor> {
        let (rows, inner) = x.dims2()?;
        let [outer, weight_inner] = *weight.dims() else { bail!("a linear weight has two dimensions") };
        if inner != weight_inner {
            bail!("a linear of {weight_inner} inputs got {inner}");
        }
        let out = with_f32(x, |values| {
            with_matrix(weight, |matrix| {
                let mut out = output(rows * outer);
                if rows <= DOT_ROWS {
                    self.dot_product(&matrix, values, rows, inner, outer, &mut out);
                } else {
                    let panels = self.pack(x.id(), values, rows, inner);
                    self.panel_product(&matrix, &panels, rows, inner, outer, &mut out);
                }
                if let Some(bias) = bias {
                    with_f32(bias, |bias| {
                        for row in out.chunks_exact_mut(outer) {
                            for (value, bias) in row.iter_mut().zip(bias) {
                                *value += bias;
                            }
                        }
                        Ok(())
                    })?;
                }
                Ok(out)
            })
        })?;
        Tensor::from_vec(out, (rows, outer), &Device::Cpu)
    }

    fn rope(&self, q: &Tensor, k: &Tensor, table: &RopeTable, shape: &AttentionShape) -> Result<(Tensor, Tensor)> {
        let rotate = |x: &Tensor| {
            with_f32(x, |values| {
                let (_, width) = x.dims2()?;
                let mut out = output(values.len());
                self.by_rows(&mut out, width, &|rows, out| {
                    for (row, out) in rows.zip(out.chunks_exact_mut(width)) {
                        let position = shape.position + row % shape.queries;
                        let angles = position * table.half_dim..(position + 1) * table.half_dim;
                        // SAFETY: `isa` was detected.
                        unsafe {
                            k::rope(
                                self.isa,
                                &values[row * width..(row + 1) * width],
                                shape.head_dim,
                                &table.cos[angles.clone()],
                                &table.sin[angles],
                                out,
                            );
                        }
                    }
                });
                Tensor::from_vec(out, x.shape(), &Device::Cpu)
            })
        };
        Ok((rotate(q)?, rotate(k)?))
    }

    fn write_kv(&self, cache: &mut LayerCache, k: &Tensor, v: &Tensor, shape: &AttentionShape) -> Result<()> {
        if shape.position + shape.queries > cache.capacity || shape.batch > cache.batch {
            bail!(
                "the KV cache has room for {} × {} positions, not {} × {}",
                cache.batch,
                cache.capacity,
                shape.batch,
                shape.position + shape.queries
            );
        }
        let head_stride = cache.capacity * cache.head_dim;
        let (kv_heads, head_dim) = (cache.kv_heads, cache.head_dim);
        let Storage::Host { k: keys, v: values } = &mut cache.storage else {
            bail!("the cache was made by other operators")
        };
        for (buffer, new) in [(keys, k), (values, v)] {
            with_f32(new, |new| {
                match buffer {
                    HostBuffer::F32(buffer) => scatter(buffer, new, shape, kv_heads, head_dim, head_stride),
                    HostBuffer::BF16(buffer) => scatter(buffer, new, shape, kv_heads, head_dim, head_stride),
                    HostBuffer::F16(buffer) => scatter(buffer, new, shape, kv_heads, head_dim, head_stride),
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    fn attention(&self, q: &Tensor, cache: &LayerCache, shape: &AttentionShape) -> Result<Tensor> {
        let Storage::Host { k, v } = &cache.storage else { bail!("the cache was made by other operators") };
        with_f32(q, |values| {
            let mut out = output(values.len());
            if shape.queries <= 2 {
                self.decode_attention(values, cache, k, v, shape, &mut out);
            } else {
                self.prefill_attention(values, cache, k, v, shape, &mut out);
            }
            Tensor::from_vec(out, q.shape(), &Device::Cpu)
        })
    }

    fn silu_mul(&self, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
        with_f32(gate, |gate_values| {
            with_f32(up, |up_values| {
                let mut out = output(gate_values.len());
                let width = gate.dims2()?.1;
                self.by_rows(&mut out, width, &|rows, out| {
                    let range = rows.start * width..rows.end * width;
                    let (gates, ups) = (&gate_values[range.clone()], &up_values[range]);
                    let inputs = gates.chunks_exact(width).zip(ups.chunks_exact(width));
                    for ((gate, up), out) in inputs.zip(out.chunks_exact_mut(width)) {
                        // SAFETY: `isa` was detected.
                        unsafe { k::silu_mul(self.isa, gate, up, out) }
                    }
                });
                Tensor::from_vec(out, gate.shape(), &Device::Cpu)
            })
        })
    }

    fn add(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        with_f32(a, |left| {
            with_f32(b, |right| {
                let mut out = output(left.len());
                let width = a.dims2()?.1;
                self.by_rows(&mut out, width, &|rows, out| {
                    let range = rows.start * width..rows.end * width;
                    // SAFETY: `isa` was detected.
                    unsafe { k::add(self.isa, &left[range.clone()], &right[range], out) }
                });
                Tensor::from_vec(out, a.shape(), &Device::Cpu)
            })
        })
    }
}
