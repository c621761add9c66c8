//! Weights in memory: dense candle tensors or quantized ones kept in their blocks, under Hugging Face names.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Tensor};

use crate::estimate::format::Format;

/// One weight: a matrix `[rows, cols]` (rows are outputs, as in `torch.nn.Linear`) or a vector `[rows]`.
#[derive(Debug, Clone)]
pub enum Weight {
    /// f32, f16 or bf16, contiguous.
    Dense(Tensor),
    /// GGML blocks along the columns of each row.
    Quantized(Arc<QTensor>),
}

impl Weight {
    /// The dimensions, outermost first.
    pub fn dims(&self) -> &[usize] {
        match self {
            Self::Dense(tensor) => tensor.dims(),
            Self::Quantized(tensor) => tensor.shape().dims(),
        }
    }
    /// Number of values.
    pub fn elements(&self) -> u64 {
        self.dims().iter().map(|dim| *dim as u64).product()
    }
    /// How it is stored.
    pub fn format(&self) -> Format {
        match self {
            Self::Dense(tensor) => format_of_dtype(tensor.dtype()),
            Self::Quantized(tensor) => format_of_ggml(tensor.dtype()),
        }
    }
    /// Bytes in memory.
    pub fn bytes(&self) -> u64 {
        let row = *self.dims().last().unwrap_or(&1) as u64;
        let rows = self.elements().checked_div(row).unwrap_or(0);
        rows * self.format().bytes(row)
    }
}

/// The [`Format`] of a candle dtype.
pub fn format_of_dtype(dtype: DType) -> Format {
    match dtype {
        DType::F64 => Format::F64,
        DType::F16 => Format::F16,
        DType::BF16 => Format::BF16,
        DType::F8E4M3 => Format::F8E4M3,
        DType::U32 => Format::U32,
        DType::U8 => Format::I8,
        _ => Format::F32,
    }
}

/// The [`Format`] of a GGML dtype.
pub fn format_of_ggml(dtype: GgmlDType) -> Format {
    match dtype {
        GgmlDType::F32 => Format::F32,
        GgmlDType::F16 => Format::F16,
        GgmlDType::BF16 => Format::BF16,
        GgmlDType::Q4_0 => Format::Q4_0,
        GgmlDType::Q4_1 => Format::Q4_1,
        GgmlDType::Q5_0 => Format::Q5_0,
        GgmlDType::Q5_1 => Format::Q5_1,
        GgmlDType::Q8_0 => Format::Q8_0,
        GgmlDType::Q8_1 => Format::Q8_1,
        GgmlDType::Q2K => Format::Q2K,
        GgmlDType::Q3K => Format::Q3K,
        GgmlDType::Q4K => Format::Q4K,
        GgmlDType::Q5K => Format::Q5K,
        GgmlDType::Q6K => Format::Q6K,
        GgmlDType::Q8K => Format::Q8K,
    }
}

/// All weights of a model by Hugging Face name, e.g. `model.layers.0.self_attn.q_proj.weight`.
///
/// Rows of q and k are always in half-rotation (Hugging Face) order, whatever file they came from. A tied model has no
/// `lm_head.weight`.
#[derive(Debug, Clone, Default)]
pub struct WeightMap(pub BTreeMap<String, Weight>);

impl WeightMap {
    /// Bytes of all weights by format name.
    pub fn bytes_by_format(&self) -> BTreeMap<String, u64> {
        let mut bytes = BTreeMap::new();
        for weight in self.0.values() {
            *bytes.entry(weight.format().name().to_owned()).or_insert(0) += weight.bytes();
        }
        bytes
    }
    /// Number of parameters.
    pub fn parameters(&self) -> u64 {
        self.0.values().map(Weight::elements).sum()
    }
}
