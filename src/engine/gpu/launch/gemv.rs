//! A matrix times one to eight vectors.

use super::super::backend::{Address, DeviceFacts, GpuBackend, GpuError, GpuResult, HalfType, Launch};
use super::super::kernel;
use super::super::pack::WeightFormat;
use super::{BLOCK, half_kernel, multiple};

/// Vectors that one launch multiplies at most.
pub const MAX_BATCH: u32 = 8;

/// Warps of a block.
const WARPS: u32 = BLOCK / 32;
/// Values of all vectors together that are staged in shared memory at a time: 64 KiB.
const STAGED_VALUES: u32 = 32768;

/// The vectors.
#[derive(Debug, Clone, Copy)]
pub enum GemvInput {
    /// `[batch, inner]` in 16 bits.
    Half(Address),
    /// The RMS norm of f32 `[batch, inner]`, computed by the launch.
    Normed {
        /// `[batch, inner]` f32.
        x: Address,
        /// `[inner]` f32.
        weight: Address,
        /// Added to the mean of the squares.
        eps: f32,
    },
}

/// What becomes of the products.
#[derive(Debug, Clone, Copy)]
pub enum GemvOutput {
    /// `[batch, outer]` in 16 bits.
    Half(Address),
    /// Added to f32 `[batch, outer]`.
    Add(Address),
    /// The matrix is `[2 * outer, inner]`, gate rows first: `[batch, outer]` in 16 bits is `silu(gate) * up`.
    SwiGlu(Address),
    /// `[batch, outer]` f32.
    F32(Address),
}

/// Arguments of [`gemv`].
#[derive(Debug, Clone, Copy)]
pub struct Gemv {
    /// Vectors, 1 to [`MAX_BATCH`].
    pub batch: u32,
    /// The vectors.
    pub input: GemvInput,
    /// What becomes of the products.
    pub output: GemvOutput,
    /// How the matrix is stored.
    pub format: WeightFormat,
    /// Its values or quants.
    pub w: Address,
    /// Its scales, or null.
    pub scales: Address,
    /// Its mins, or null.
    pub mins: Address,
    /// f32, one for each row of the matrix, or null.
    pub bias: Address,
    /// Columns.
    pub inner: u32,
    /// Outputs of one vector.
    pub outer: u32,
}

/// How `gemv.cu` lays out its work; the same rules as its macros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Geometry {
    /// Outputs a warp makes at a time.
    pub(super) outputs: u32,
    /// Columns a warp reads in one step (`PP_STEP_VALUES`).
    pub(super) step_values: u32,
    /// Columns of a vector that are staged at a time.
    pub(super) tile_values: u32,
    /// Dynamic shared memory.
    pub(super) shared_bytes: u32,
    /// Blocks that run on a multiprocessor at a time.
    pub(super) resident: u32,
}

impl Geometry {
    /// The layout of a matrix of `inner` columns.
    pub(super) fn new(batch: u32, format: WeightFormat, is_gated: bool, inner: u32) -> Self {
        let few = batch <= 2;
        let rows = if few || format != WeightFormat::Half { 2 } else { 4 };
        let load_values = match format {
            WeightFormat::Half => 8,
            WeightFormat::Q8_0 => 16,
            WeightFormat::Q4_0 | WeightFormat::Q4_1 => 32,
        };
        let unroll = if few && load_values <= 16 { 2 } else { 1 };
        let step_values = unroll * 32 * load_values;
        let tile_steps = inner.div_ceil(step_values).min(STAGED_VALUES / batch / step_values);
        let tile_values = tile_steps * step_values;
        // The sums of each 32 values, which the 4-bit formats need for few vectors.
        let sums = if few && load_values == 32 { batch * tile_values / 8 } else { 0 };
        Self {
            outputs: if is_gated { rows / 2 } else { rows },
            step_values,
            tile_values,
            shared_bytes: batch * tile_values * 2 + sums,
            resident: if few { 3 } else { 2 },
        }
    }

    /// Blocks: one for each group of outputs, but no more than run at a time, as each block stages the vectors once.
    pub(super) fn blocks(&self, facts: &DeviceFacts, outer: u32) -> u32 {
        // A block has a kilobyte more than it asks for.
        let fit = (facts.max_shared_bytes / (self.shared_bytes + 1024)).max(1);
        outer.div_ceil(WARPS * self.outputs).min(facts.multiprocessors.max(1) * self.resident.min(fit))
    }
}

/// Multiplies a matrix by one to eight vectors.
///
/// # Errors
/// If the number of vectors or the width has no kernel, or the device refuses.
pub fn gemv(backend: &dyn GpuBackend, half: HalfType, call: &Gemv) -> GpuResult<()> {
    let error = |reason| GpuError::new("launching gemv", reason);
    if call.batch == 0 || call.batch > MAX_BATCH {
        return Err(error(format!("{} vectors at once; 1 to {MAX_BATCH} have kernels", call.batch)));
    }
    multiple("gemv", "the number of columns", call.inner, if call.format == WeightFormat::Half { 8 } else { 32 })?;
    let (input, x, norm_weight, eps) = match call.input {
        GemvInput::Half(x) => (0, x, Address::NULL, 0.0),
        GemvInput::Normed { x, weight, eps } => (1, x, weight, eps),
    };
    let (output, y) = match call.output {
        GemvOutput::Half(y) => (0, y),
        GemvOutput::Add(y) => (1, y),
        GemvOutput::SwiGlu(y) => (2, y),
        GemvOutput::F32(y) => (3, y),
    };
    let geometry = Geometry::new(call.batch, call.format, output == 2, call.inner);
    let facts = backend.facts();
    if geometry.shared_bytes > facts.max_shared_bytes {
        return Err(error(format!(
            "{} bytes of shared memory are needed, and {} has {}",
            geometry.shared_bytes, facts.name, facts.max_shared_bytes
        )));
    }
    let defines =
        [("PP_BATCH", call.batch), ("PP_INPUT", input), ("PP_OUTPUT", output), ("PP_WEIGHT", call.format.number())];
    let kernel = half_kernel(kernel::GEMV, "gemv", half, &defines);
    let launch = Launch {
        grid: [geometry.blocks(facts, call.outer), 1, 1],
        block: [BLOCK, 1, 1],
        shared_bytes: geometry.shared_bytes,
    };
    let args = [
        y.into(),
        x.into(),
        norm_weight.into(),
        eps.into(),
        call.w.into(),
        call.scales.into(),
        call.mins.into(),
        call.bias.into(),
        call.inner.into(),
        call.outer.into(),
    ];
    backend.launch(&kernel, launch, &args)
}
