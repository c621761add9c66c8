//! Quantized weights: how they are made here, and their way back to 16-bit values.

use half::f16;

use super::super::backend::{Address, Buffer, GpuResult};
use super::super::launch;
use super::super::pack::WeightFormat;
use super::Checks;
use super::comparison::{Comparison, E};
use super::device::Device;

/// Values of a block.
const BLOCK: usize = 32;

pub(super) fn run(checks: &mut Checks<'_>) {
    for format in [WeightFormat::Q8_0, WeightFormat::Q4_0, WeightFormat::Q4_1] {
        // Blocks that end within a block of threads.
        for blocks in checks.pick(vec![1, 65, 4096 * 128], vec![1, 65, 320]) {
            let name = format!("{}, {blocks} blocks", name(format));
            checks.case("dequantize", name, |device| dequantize(device, format, blocks));
        }
    }
}

/// `half`, `q8_0`, …
pub(super) const fn name(format: WeightFormat) -> &'static str {
    match format {
        WeightFormat::Half => "half",
        WeightFormat::Q8_0 => "q8_0",
        WeightFormat::Q4_0 => "q4_0",
        WeightFormat::Q4_1 => "q4_1",
    }
}

/// A matrix on the device and what its values are.
pub(super) struct Weights {
    quants: Buffer,
    scales: Option<Buffer>,
    mins: Option<Buffer>,
    pub(super) values: Vec<f64>,
    /// |scale · quant| + |min| of each value: what roundings on the way are relative to.
    sizes: Vec<f64>,
}

impl Weights {
    pub(super) fn quants(&self) -> Address {
        self.quants.address()
    }
    pub(super) fn scales(&self) -> Address {
        self.scales.as_ref().map_or(Address::NULL, Buffer::address)
    }
    pub(super) fn mins(&self) -> Address {
        self.mins.as_ref().map_or(Address::NULL, Buffer::address)
    }
}

/// `count` random weights of about ± 1, from random quants: every quant occurs, in every place.
///
/// Blocks of GGML: value i is `d · q[i]` in q8_0, q a signed byte; `d · (q[i] - 8)` in q4_0 and `d · q[i] + m` in q4_1, where q[i] is the low
/// nibble of byte i for i < 16, else the high one of byte i - 16.
pub(super) fn weights(device: &mut Device<'_>, format: WeightFormat, count: usize) -> GpuResult<Weights> {
    if format == WeightFormat::Half {
        let dense = device.random_halves(count, 1.0)?;
        return Ok(Weights { quants: dense.buffer, scales: None, mins: None, values: dense.values, sizes: Vec::new() });
    }
    let bytes_of_block = if format == WeightFormat::Q8_0 { BLOCK } else { BLOCK / 2 };
    let blocks = count / BLOCK;
    let mut quants = Vec::with_capacity(blocks * bytes_of_block);
    let (mut scales, mut mins) = (Vec::with_capacity(blocks * 2), Vec::new());
    let (mut values, mut sizes) = (Vec::with_capacity(count), Vec::with_capacity(count));
    for _ in 0..blocks {
        let steps = if format == WeightFormat::Q8_0 { 127.0 } else { 8.0 };
        let scale = f16::from_f64((1.0 + 0.9 * device.random.symmetric()) / steps);
        let min = if format == WeightFormat::Q4_1 { f16::from_f64(device.random.symmetric()) } else { f16::ZERO };
        scales.extend(scale.to_le_bytes());
        if format == WeightFormat::Q4_1 {
            mins.extend(min.to_le_bytes());
        }
        let first = quants.len();
        for _ in 0..bytes_of_block / 8 {
            quants.extend(device.random.bits().to_le_bytes());
        }
        let block = &quants[first..];
        for i in 0..BLOCK {
            let quant = match format {
                WeightFormat::Q8_0 => f64::from(block[i].cast_signed()),
                _ => f64::from(if i < 16 { block[i] & 15 } else { block[i - 16] >> 4 }),
            };
            let centred = if format == WeightFormat::Q4_0 { quant - 8.0 } else { quant };
            values.push(scale.to_f64() * centred + min.to_f64());
            sizes.push((scale.to_f64() * quant).abs() + (8.0 * scale.to_f64()).abs() + min.to_f64().abs());
        }
    }
    let mins = if mins.is_empty() { None } else { Some(device.bytes(&mins)?) };
    Ok(Weights { quants: device.bytes(&quants)?, scales: Some(device.bytes(&scales)?), mins, values, sizes })
}

/// A product and a sum in f32, then a rounding.
fn dequantize(device: &mut Device<'_>, format: WeightFormat, blocks: usize) -> GpuResult<Comparison> {
    let weights = weights(device, format, blocks * BLOCK)?;
    let out = device.output(blocks * BLOCK * 2)?;
    launch::dequantize(
        device.backend,
        device.half,
        format,
        out.address(),
        weights.quants(),
        weights.scales(),
        weights.mins(),
        blocks as u64,
    )?;
    let mut comparison = Comparison::default();
    let got = device.read_halves(&out, &mut comparison)?;
    let expected =
        weights.values.iter().zip(&weights.sizes).map(|(value, size)| device.rounded(*value, 2.0 * E * size));
    comparison.values(&got, expected);
    Ok(comparison)
}
