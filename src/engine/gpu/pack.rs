//! Quantized weights as the kernels read them: the quants, the scales and the mins of all blocks, each in a plane of their own.
//!
//! A block of GGML is 18 to 34 bytes long; a thread that reads sixteen bytes at a time needs the quants without the scales between them.

use crate::estimate::format::Format;

/// How a matrix is stored on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WeightFormat {
    /// 16-bit values.
    Half,
    /// Blocks of 32 bytes with a scale.
    Q8_0,
    /// Blocks of 32 four-bit values with a scale.
    Q4_0,
    /// Blocks of 32 four-bit values with a scale and a min.
    Q4_1,
}

impl WeightFormat {
    /// `PP_WEIGHT` of the kernels.
    pub const fn number(self) -> u32 {
        match self {
            Self::Half => 0,
            Self::Q8_0 => 1,
            Self::Q4_0 => 2,
            Self::Q4_1 => 3,
        }
    }

    /// Bytes of a block of GGML: scale, min and quants.
    const fn block(self) -> Option<(usize, usize, usize)> {
        match self {
            Self::Half => None,
            Self::Q8_0 => Some((2, 0, 32)),
            Self::Q4_0 => Some((2, 0, 16)),
            Self::Q4_1 => Some((2, 2, 16)),
        }
    }
}

/// The quantized format of `format` that has kernels; `None` where there is none, or `format` is not quantized.
pub const fn native(format: Format) -> Option<WeightFormat> {
    match format {
        Format::Q8_0 => Some(WeightFormat::Q8_0),
        Format::Q4_0 => Some(WeightFormat::Q4_0),
        Format::Q4_1 => Some(WeightFormat::Q4_1),
        _ => None,
    }
}

/// The planes of one matrix, in the order of its blocks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Planes {
    /// Bytes, or pairs of four-bit values: byte j of a block holds value j in its low half and value j + 16 in its high one.
    pub quants: Vec<u8>,
    /// f16, one for each block.
    pub scales: Vec<u8>,
    /// f16, one for each block of [`WeightFormat::Q4_1`]; else empty.
    pub mins: Vec<u8>,
}

impl Planes {
    /// Appends the rows whose blocks are `ggml_blocks`; dense values have no planes, and nothing is appended then.
    pub fn append(&mut self, format: WeightFormat, ggml_blocks: &[u8]) {
        let Some((scale, min, quants)) = format.block() else { return };
        let bytes = scale + min + quants;
        debug_assert_eq!(ggml_blocks.len() % bytes, 0, "whole blocks");
        let blocks = ggml_blocks.len() / bytes;
        self.scales.reserve(blocks * scale);
        self.mins.reserve(blocks * min);
        self.quants.reserve(blocks * quants);
        for block in ggml_blocks.chunks_exact(bytes) {
            let (head, values) = block.split_at(scale + min);
            self.scales.extend_from_slice(&head[..scale]);
            self.mins.extend_from_slice(&head[scale..]);
            self.quants.extend_from_slice(values);
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::quantized::{GgmlDType, QTensor};
    use candle_core::{Device, Tensor};

    use super::*;

    fn halves(bytes: &[u8]) -> Vec<f32> {
        bytes.as_chunks::<2>().0.iter().map(|two| half::f16::from_le_bytes(*two).to_f32()).collect()
    }

    /// The values of planes, as `kernels/README.md` defines them.
    fn values(format: WeightFormat, planes: &Planes) -> Vec<f32> {
        let (scales, mins) = (halves(&planes.scales), halves(&planes.mins));
        let nibble = |block: usize, i: usize| {
            let byte = planes.quants[block * 16 + i % 16];
            f32::from(if i < 16 { byte & 15 } else { byte >> 4 })
        };
        (0..scales.len() * 32)
            .map(|at| {
                let (block, i) = (at / 32, at % 32);
                match format {
                    WeightFormat::Half => unreachable!("not quantized"),
                    WeightFormat::Q8_0 => scales[block] * f32::from(planes.quants[at].cast_signed()),
                    WeightFormat::Q4_0 => scales[block] * (nibble(block, i) - 8.0),
                    WeightFormat::Q4_1 => scales[block] * nibble(block, i) + mins[block],
                }
            })
            .collect()
    }

    #[test]
    fn planes_hold_what_another_engine_reads_from_the_blocks() {
        let data: Vec<f32> = (0..3 * 96_u16).map(|i| (f32::from(i) * 0.37).sin() * f32::from(1 + i % 7)).collect();
        let dense = Tensor::from_vec(data, (3, 96), &Device::Cpu).unwrap();
        for (format, dtype, name) in [
            (WeightFormat::Q8_0, GgmlDType::Q8_0, Format::Q8_0),
            (WeightFormat::Q4_0, GgmlDType::Q4_0, Format::Q4_0),
            (WeightFormat::Q4_1, GgmlDType::Q4_1, Format::Q4_1),
        ] {
            assert_eq!(native(name), Some(format));
            let tensor = QTensor::quantize(&dense, dtype).unwrap();
            let expected = tensor.dequantize(&Device::Cpu).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let blocks = tensor.data().unwrap();
            let mut planes = Planes::default();
            // Twice, as the matrices of one product are put one after the other.
            planes.append(format, &blocks);
            planes.append(format, &blocks);
            let got = values(format, &planes);
            assert_eq!(got.len(), 2 * expected.len());
            assert_eq!(got[..expected.len()], expected, "{format:?}");
            assert_eq!(got[expected.len()..], expected, "{format:?}");
            assert_eq!(planes.mins.is_empty(), format != WeightFormat::Q4_1);
        }
    }

    #[test]
    fn formats_without_kernels_stay_out() {
        for format in [Format::F16, Format::Q4K, Format::Q6K, Format::Q5_0] {
            assert_eq!(native(format), None);
        }
    }
}
