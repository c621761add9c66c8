//! Brings one tensor from its bytes in a file into the format that was asked for.

use std::borrow::Cow;
use std::sync::Arc;

use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use candle_core::{DType, Device, Tensor};

use super::LoadError;
use crate::engine::weights::Weight;
use crate::estimate::format::Format;

/// A tensor's bytes as they lie in a file.
pub(super) struct Stored<'a> {
    pub(super) format: Format,
    pub(super) dims: &'a [usize],
    pub(super) bytes: Cow<'a, [u8]>,
}

/// The format that `target` becomes for rows of `columns` values.
///
/// Blocks run along rows, so a row that is no multiple of the block cannot be stored. The way down is llama.cpp's (`llama-quant.cpp`): a
/// 256-block type gives way to the 32-block type next above it in bits, and that to f16.
pub(super) fn fitting(target: Format, columns: usize) -> Format {
    let fits = |format: Format| columns.is_multiple_of(format.block().0);
    if fits(target) {
        return target;
    }
    let smaller_blocks = match target {
        Format::Q2K | Format::Q3K => Format::Q4_0,
        Format::Q4K => Format::Q5_0,
        Format::Q5K => Format::Q5_1,
        Format::Q6K | Format::Q8K => Format::Q8_0,
        _ => Format::F16,
    };
    if fits(smaller_blocks) { smaller_blocks } else { Format::F16 }
}

/// Whether weights can be held in `format` at all.
pub(super) fn check_target(format: Format) -> Result<(), LoadError> {
    let reason = match format {
        // Both are formats of activations inside a dot product; no model is published in them.
        Format::Q8_1 | Format::Q8K => "it is a format of activations",
        Format::F64 | Format::I8 | Format::U32 | Format::F8E4M3 => {
            "the engine computes in f32, f16, bf16 and ggml's block formats"
        }
        _ => return Ok(()),
    };
    Err(LoadError::Target { format, reason: reason.to_owned() })
}

/// candle's dtype of a dense format.
pub(in crate::engine) fn dtype_of(format: Format) -> Option<DType> {
    Some(match format {
        Format::F64 => DType::F64,
        Format::F32 => DType::F32,
        Format::F16 => DType::F16,
        Format::BF16 => DType::BF16,
        _ => return None,
    })
}

/// candle's block type of a quantized format.
pub(super) fn ggml_of(format: Format) -> Option<GgmlDType> {
    Some(match format {
        Format::Q4_0 => GgmlDType::Q4_0,
        Format::Q4_1 => GgmlDType::Q4_1,
        Format::Q5_0 => GgmlDType::Q5_0,
        Format::Q5_1 => GgmlDType::Q5_1,
        Format::Q8_0 => GgmlDType::Q8_0,
        Format::Q8_1 => GgmlDType::Q8_1,
        Format::Q2K => GgmlDType::Q2K,
        Format::Q3K => GgmlDType::Q3K,
        Format::Q4K => GgmlDType::Q4K,
        Format::Q5K => GgmlDType::Q5K,
        Format::Q6K => GgmlDType::Q6K,
        Format::Q8K => GgmlDType::Q8K,
        _ => return None,
    })
}

/// Holds `stored` as `target` (`None`: as it is) on `device`. Vectors become f32 whatever the target.
pub(super) fn weight(stored: Stored<'_>, target: Option<Format>, device: &Device) -> candle_core::Result<Weight> {
    let vector = stored.dims.len() < 2;
    let target = if vector { Format::F32 } else { target.unwrap_or(stored.format) };
    // f64 weights exist in a few old checkpoints; nothing here computes in f64.
    let target = if target == Format::F64 { Format::F32 } else { target };
    let target = fitting(target, *stored.dims.last().unwrap_or(&1));
    match (ggml_of(stored.format), ggml_of(target)) {
        (Some(from), Some(to)) if from == to => {
            let storage = QStorage::from_data(aligned(stored.bytes), device, from)?;
            Ok(Weight::Quantized(Arc::new(QTensor::new(storage, stored.dims)?)))
        }
        (_, Some(to)) => {
            let values = dense(stored, DType::F32, &Device::Cpu)?;
            Ok(Weight::Quantized(Arc::new(QTensor::quantize_onto(&values, to, device)?)))
        }
        (_, None) => {
            let dtype = dtype_of(target).unwrap_or(DType::F32);
            Ok(Weight::Dense(dense(stored, dtype, device)?))
        }
    }
}

/// The values of `stored` as `dtype`.
pub(super) fn dense(stored: Stored<'_>, dtype: DType, device: &Device) -> candle_core::Result<Tensor> {
    let values = match (dtype_of(stored.format), ggml_of(stored.format)) {
        (Some(from), _) => Tensor::from_raw_buffer(&stored.bytes, from, stored.dims, &Device::Cpu)?,
        (None, Some(from)) => {
            let storage = QStorage::from_data(aligned(stored.bytes), &Device::Cpu, from)?;
            QTensor::new(storage, stored.dims)?.dequantize(&Device::Cpu)?
        }
        (None, None) => candle_core::bail!("{} is no format of weights", stored.format),
    };
    values.to_dtype(dtype)?.to_device(device)
}

/// candle reads blocks in place and panics on a pointer that is not aligned to their scale.
fn aligned(bytes: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
    const WIDEST_SCALE: usize = 4;
    if (bytes.as_ptr() as usize).is_multiple_of(WIDEST_SCALE) { bytes } else { Cow::Owned(bytes.into_owned()) }
}

/// Puts the rows of a q or k projection from GGUF's interleaved rotary order into Hugging Face's half-rotation order.
///
/// llama.cpp's converter moves row `j·half + i` of each head to row `2·i + j` (`LlamaModel.permute` in `convert_hf_to_gguf.py`); this is the way back.
/// It moves whole rows, so it works on blocks as well as on plain values, and on biases (rows of one value).
pub(super) fn half_rotation_rows(bytes: &[u8], rows: usize, heads: usize) -> Vec<u8> {
    let row_bytes = bytes.len() / rows;
    let head_dim = rows / heads;
    let half = head_dim / 2;
    let mut moved = Vec::with_capacity(bytes.len());
    for head in 0..heads {
        for j in 0..2 {
            for i in 0..half {
                let row = head * head_dim + 2 * i + j;
                moved.extend_from_slice(&bytes[row * row_bytes..(row + 1) * row_bytes]);
            }
        }
    }
    moved
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_return_to_half_rotation_order() {
        // Two heads of width 4; the converter's order of rows 0 1 2 3 is 0 2 1 3 (reshape 2×2, swap).
        let interleaved = [0, 2, 1, 3, 4, 6, 5, 7].map(|row: u8| [row; 3]).concat();
        let expected: Vec<u8> = (0..8).flat_map(|row| [row; 3]).collect();
        assert_eq!(half_rotation_rows(&interleaved, 8, 2), expected);
    }

    #[test]
    fn rows_that_do_not_fill_blocks_get_the_next_format() {
        assert_eq!(fitting(Format::Q4K, 512), Format::Q4K);
        assert_eq!(fitting(Format::Q4K, 576), Format::Q5_0);
        assert_eq!(fitting(Format::Q6K, 576), Format::Q8_0);
        assert_eq!(fitting(Format::Q8_0, 40), Format::F16);
        assert_eq!(fitting(Format::BF16, 7), Format::BF16);
    }

    #[test]
    fn vectors_are_f32_and_unaligned_blocks_are_read() {
        let bytes: Vec<u8> =
            [1.5_f32, -2.0].iter().flat_map(|value| half::bf16::from_f32(*value).to_le_bytes()).collect();
        let stored = Stored { format: Format::BF16, dims: &[2], bytes: bytes.into() };
        let Weight::Dense(vector) = weight(stored, Some(Format::Q8_0), &Device::Cpu).unwrap() else {
            panic!("quantized")
        };
        assert_eq!(vector.to_vec1::<f32>().unwrap(), [1.5, -2.0]);

        // One q8_0 block: scale 0.5, values 0..32, begun at an odd address.
        let mut file = vec![0_u8; 1];
        file.extend(half::f16::from_f32(0.5).to_le_bytes());
        file.extend(0..32_u8);
        for skip in 0..2 {
            let block = if skip == 0 { file[1..].to_vec() } else { file.clone() };
            let stored = Stored { format: Format::Q8_0, dims: &[1, 32], bytes: Cow::Borrowed(&block[skip..]) };
            let Weight::Quantized(blocks) = weight(stored, None, &Device::Cpu).unwrap() else { panic!("dense") };
            let values = blocks.dequantize(&Device::Cpu).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(values, (0..32).map(|value| value as f32 * 0.5).collect::<Vec<_>>());
        }
    }
}
