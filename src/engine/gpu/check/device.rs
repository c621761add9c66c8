//! Inputs and outputs of a case in the memory of a device.

use half::{bf16, f16};

use super::super::backend::{Address, Buffer, GpuBackend, GpuResult, HalfType};
use super::comparison::{Comparison, Expected};

/// Bytes behind each output that must stay as they were.
const MARGIN: usize = 256;
/// NaN in every type.
const POISON: u8 = 0xff;

/// SplitMix64: small, and the same everywhere.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    /// Uniform in [-1, 1).
    pub(super) fn symmetric(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * 2.0_f64.powi(-52) - 1.0
    }
    /// Below `bound`.
    pub(super) fn below(&mut self, bound: u32) -> u32 {
        (((self.bits() >> 32) * u64::from(bound)) >> 32) as u32
    }
}

/// An operand: where it is and the values in it.
pub(super) struct Operand {
    pub(super) buffer: Buffer,
    pub(super) values: Vec<f64>,
}

impl Operand {
    pub(super) fn address(&self) -> Address {
        self.buffer.address()
    }
}

/// An output with poison in it and behind it.
pub(super) struct Output {
    buffer: Buffer,
    bytes: usize,
}

impl Output {
    pub(super) fn address(&self) -> Address {
        self.buffer.address()
    }
}

/// The device a case runs on, with its type and its source of numbers.
pub(super) struct Device<'a> {
    pub(super) backend: &'a dyn GpuBackend,
    pub(super) half: HalfType,
    pub(super) random: Random,
}

impl<'a> Device<'a> {
    pub(super) fn new(backend: &'a dyn GpuBackend, half: HalfType, seed: u64) -> Self {
        Self { backend, half, random: Random(seed) }
    }

    /// Unit roundoff of the 16-bit type.
    pub(super) fn u(&self) -> f64 {
        match self.half {
            HalfType::F16 => 2.0_f64.powi(-11),
            HalfType::BF16 => 2.0_f64.powi(-8),
        }
    }

    /// What rounding `value` to the 16-bit type may change: relative, or half of the step of the subnormal numbers.
    pub(super) fn rounding(&self, value: f64) -> f64 {
        let smallest = match self.half {
            HalfType::F16 => 2.0_f64.powi(-25),
            HalfType::BF16 => 2.0_f64.powi(-134),
        };
        (self.u() * value.abs()).max(smallest)
    }

    fn encode(&self, value: f64) -> u16 {
        match self.half {
            HalfType::F16 => f16::from_f64(value).to_bits(),
            HalfType::BF16 => bf16::from_f64(value).to_bits(),
        }
    }

    fn decode(&self, bits: u16) -> f64 {
        match self.half {
            HalfType::F16 => f16::from_bits(bits).to_f64(),
            HalfType::BF16 => bf16::from_bits(bits).to_f64(),
        }
    }

    /// Bytes on the device.
    pub(super) fn bytes(&self, bytes: &[u8]) -> GpuResult<Buffer> {
        let buffer = self.backend.alloc(bytes.len() as u64)?;
        self.backend.upload(buffer.address(), bytes)?;
        Ok(buffer)
    }

    /// u32 values on the device.
    pub(super) fn u32s(&self, values: &[u32]) -> GpuResult<Buffer> {
        self.bytes(&values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>())
    }

    /// These values, rounded to the 16-bit type.
    pub(super) fn halves(&self, values: impl IntoIterator<Item = f64>) -> GpuResult<Operand> {
        let bits: Vec<u16> = values.into_iter().map(|value| self.encode(value)).collect();
        let buffer = self.bytes(&bits.iter().flat_map(|bits| bits.to_le_bytes()).collect::<Vec<_>>())?;
        Ok(Operand { buffer, values: bits.into_iter().map(|bits| self.decode(bits)).collect() })
    }

    /// These values, rounded to f32.
    pub(super) fn f32s(&self, values: impl IntoIterator<Item = f64>) -> GpuResult<Operand> {
        let values: Vec<f32> = values.into_iter().map(|value| value as f32).collect();
        let buffer = self.bytes(&values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>())?;
        Ok(Operand { buffer, values: values.into_iter().map(f64::from).collect() })
    }

    /// Uniform in ± `size`.
    pub(super) fn uniform(&mut self, count: usize, size: f64) -> Vec<f64> {
        (0..count).map(|_| self.random.symmetric() * size).collect()
    }

    /// Uniform 16-bit values in ± `size`.
    pub(super) fn random_halves(&mut self, count: usize, size: f64) -> GpuResult<Operand> {
        let values = self.uniform(count, size);
        self.halves(values)
    }

    /// Uniform f32 values in `center` ± `size`.
    pub(super) fn random_f32s(&mut self, count: usize, center: f64, size: f64) -> GpuResult<Operand> {
        let values = self.uniform(count, size);
        self.f32s(values.into_iter().map(|value| center + value))
    }

    /// Room for an output of `bytes` bytes.
    pub(super) fn output(&self, bytes: usize) -> GpuResult<Output> {
        let buffer = self.backend.alloc((bytes + MARGIN) as u64)?;
        self.backend.fill(buffer.address(), (bytes + MARGIN) as u64, POISON)?;
        Ok(Output { buffer, bytes })
    }

    /// The bytes of an output; a changed margin is a fault.
    pub(super) fn read(&self, output: &Output, comparison: &mut Comparison) -> GpuResult<Vec<u8>> {
        let mut bytes = vec![0; output.bytes + MARGIN];
        self.backend.download(output.address(), &mut bytes)?;
        let margin = bytes.split_off(output.bytes);
        if let Some(at) = margin.iter().position(|byte| *byte != POISON) {
            comparison.fault(format!("byte {at} past the end of an output was written"));
        }
        Ok(bytes)
    }

    /// An output of 16-bit values.
    pub(super) fn read_halves(&self, output: &Output, comparison: &mut Comparison) -> GpuResult<Vec<f64>> {
        let bytes = self.read(output, comparison)?;
        Ok(bytes.chunks_exact(2).map(|pair| self.decode(u16::from_le_bytes([pair[0], pair[1]]))).collect())
    }

    /// An output of f32 values.
    pub(super) fn read_f32s(&self, output: &Output, comparison: &mut Comparison) -> GpuResult<Vec<f64>> {
        let bytes = self.read(output, comparison)?;
        Ok(bytes.chunks_exact(4).map(|four| f64::from(f32::from_bits(word(four)))).collect())
    }

    /// An output of u32 values.
    pub(super) fn read_u32s(&self, output: &Output, comparison: &mut Comparison) -> GpuResult<Vec<u32>> {
        Ok(self.read(output, comparison)?.chunks_exact(4).map(word).collect())
    }

    /// What is in a buffer that is input and output: 16-bit values.
    pub(super) fn download_halves(&self, buffer: &Buffer) -> GpuResult<Vec<f64>> {
        let mut bytes = vec![0; buffer.bytes() as usize];
        self.backend.download(buffer.address(), &mut bytes)?;
        Ok(bytes.chunks_exact(2).map(|pair| self.decode(u16::from_le_bytes([pair[0], pair[1]]))).collect())
    }

    /// What is in a buffer that is input and output: f32 values.
    pub(super) fn download_f32s(&self, buffer: &Buffer) -> GpuResult<Vec<f64>> {
        Ok(self.download_u32s(buffer)?.into_iter().map(|bits| f64::from(f32::from_bits(bits))).collect())
    }

    /// What is in a buffer that is input and output: u32 values.
    pub(super) fn download_u32s(&self, buffer: &Buffer) -> GpuResult<Vec<u32>> {
        let mut bytes = vec![0; buffer.bytes() as usize];
        self.backend.download(buffer.address(), &mut bytes)?;
        Ok(bytes.chunks_exact(4).map(word).collect())
    }

    /// A value that is computed with an error of at most `error` and then rounded to the 16-bit type.
    pub(super) fn rounded(&self, value: f64, error: f64) -> Expected {
        Expected { value, tolerance: self.rounding(value) * (1.0 + self.u()) + error }
    }
}

fn word(four: &[u8]) -> u32 {
    u32::from_le_bytes([four[0], four[1], four[2], four[3]])
}
