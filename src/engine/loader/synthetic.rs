//! Makes up weights for any architecture: seeded, in parallel, directly in the format they are held in.
//!
//! Every value is a function of the seed, the tensor's name and its index alone, so the number of threads changes nothing. Blocks of quantized
//! formats are written as blocks: no f32 copy of the model ever exists.

use std::mem::MaybeUninit;
use std::sync::Arc;

use candle_core::quantized::{GgmlDType, QStorage, QTensor, k_quants};
use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};

use super::convert;
use super::expected::{Expected, Role};
use crate::engine::weights::Weight;
use crate::estimate::format::Format;

/// One tensor of made-up weights, held as `format` (vectors: f32) on `device`, by `threads` threads.
///
/// Matrices have mean 0 and standard deviation `1/√columns`, which keeps activations of unit size; norms are 1; biases have deviation 0.02.
pub(super) fn weight(
    tensor: &Expected,
    format: Format,
    seed: u64,
    threads: usize,
    device: &Device,
) -> candle_core::Result<Weight> {
    let dims = tensor.dims.as_slice();
    let stream = Stream::new(seed, &tensor.name);
    if tensor.role == Role::Norm {
        return Ok(Weight::Dense(Tensor::ones(dims, DType::F32, device)?));
    }
    let elements: usize = dims.iter().product();
    if dims.len() < 2 || tensor.role == Role::Bias {
        let values = dense(elements, threads, stream, 0.02, |value| value);
        return Ok(Weight::Dense(Tensor::from_vec(values, dims, device)?));
    }
    let columns = dims[dims.len() - 1];
    let deviation = 1.0 / (columns as f32).sqrt();
    let format = convert::fitting(format, columns);
    match convert::ggml_of(format) {
        Some(kind) => {
            Ok(Weight::Quantized(Arc::new(quantized(kind, dims, elements, threads, stream, deviation, device)?)))
        }
        None => Ok(Weight::Dense(match format {
            Format::F16 => Tensor::from_vec(dense(elements, threads, stream, deviation, f16::from_f32), dims, device)?,
            Format::BF16 => {
                Tensor::from_vec(dense(elements, threads, stream, deviation, bf16::from_f32), dims, device)?
            }
            _ => Tensor::from_vec(dense(elements, threads, stream, deviation, |value| value), dims, device)?,
        })),
    }
}

/// A counter-based random stream: the n-th number is computed from n, not from the one before it.
#[derive(Debug, Clone, Copy)]
struct Stream(u64);

impl Stream {
    fn new(seed: u64, name: &str) -> Self {
        // FNV-1a over the name, so that tensors of equal shape differ.
        let hash = name
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        Self(mix(seed ^ mix(hash)))
    }
    fn at(self, counter: u64) -> u64 {
        // SplitMix64 (Steele, Lea, Flood 2014) addressed by index.
        mix(self.0.wrapping_add(counter.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Fills `slots` on `threads` threads; `fill` gets the index of its first slot. Chunk borders are multiples of `grain`.
fn in_parallel<T: Send>(
    slots: &mut [MaybeUninit<T>],
    grain: usize,
    threads: usize,
    fill: impl Fn(usize, &mut [MaybeUninit<T>]) + Sync,
) {
    let chunk = slots.len().div_ceil(threads.max(1)).next_multiple_of(grain).max(grain);
    std::thread::scope(|scope| {
        for (index, slots) in slots.chunks_mut(chunk).enumerate() {
            let fill = &fill;
            scope.spawn(move || fill(index * chunk, slots));
        }
    });
}

/// `elements` uniform values of the given standard deviation, four from each random word.
fn dense<T: Copy + Send + Sync>(
    elements: usize,
    threads: usize,
    stream: Stream,
    deviation: f32,
    convert: impl Fn(f32) -> T,
) -> Vec<T> {
    const LANES: usize = 4;
    const LEVELS: usize = 4096;
    // Looking up one of 4096 levels costs less than converting each value, and 4096 fit the first-level cache.
    let scale = deviation / rms(-(LEVELS as f32 - 1.0) / 2.0, LEVELS as f32);
    let levels: Vec<T> =
        (0..LEVELS).map(|level| convert((level as f32 - (LEVELS as f32 - 1.0) / 2.0) * scale)).collect();
    // The top twelve bits of each sixteen: always below `LEVELS`.
    let level = |bits: u64, lane: usize| levels[(bits >> (16 * lane + 4)) as usize % LEVELS];
    let mut values = Vec::with_capacity(elements);
    in_parallel(&mut values.spare_capacity_mut()[..elements], LANES, threads, |first, slots| {
        let (quads, rest) = slots.as_chunks_mut::<LANES>();
        let mut word = (first / LANES) as u64;
        for quad in quads {
            let bits = stream.at(word);
            for (lane, slot) in quad.iter_mut().enumerate() {
                slot.write(level(bits, lane));
            }
            word += 1;
        }
        let bits = stream.at(word);
        for (lane, slot) in rest.iter_mut().enumerate() {
            slot.write(level(bits, lane));
        }
    });
    // SAFETY: `in_parallel` hands every one of the first `elements` slots to the closure once, and that writes each of its slots.
    unsafe { values.set_len(elements) };
    values
}

/// The root mean square of `levels` whole numbers in a row, the first being `lowest` (which may be a half).
fn rms(lowest: f32, levels: f32) -> f32 {
    let middle = lowest + (levels - 1.0) / 2.0;
    ((levels * levels - 1.0) / 12.0 + middle * middle).sqrt()
}

fn quantized(
    kind: GgmlDType,
    dims: &[usize],
    elements: usize,
    threads: usize,
    stream: Stream,
    deviation: f32,
    device: &Device,
) -> candle_core::Result<QTensor> {
    macro_rules! blocks {
        ($block:ty) => {{
            let blocks = random_blocks::<$block>(kind, elements, threads, stream, deviation);
            if device.is_cpu() {
                QStorage::Cpu(Box::new(blocks))
            } else {
                // SAFETY: ggml blocks are `repr(C)` without padding (candle asserts their sizes), so all their bytes are initialised.
                let bytes = unsafe {
                    std::slice::from_raw_parts(blocks.as_ptr().cast::<u8>(), std::mem::size_of_val(blocks.as_slice()))
                };
                QStorage::from_data(bytes.into(), device, kind)?
            }
        }};
    }
    let storage = match kind {
        GgmlDType::Q4_0 => blocks!(k_quants::BlockQ4_0),
        GgmlDType::Q4_1 => blocks!(k_quants::BlockQ4_1),
        GgmlDType::Q5_0 => blocks!(k_quants::BlockQ5_0),
        GgmlDType::Q5_1 => blocks!(k_quants::BlockQ5_1),
        GgmlDType::Q8_0 => blocks!(k_quants::BlockQ8_0),
        GgmlDType::Q2K => blocks!(k_quants::BlockQ2K),
        GgmlDType::Q3K => blocks!(k_quants::BlockQ3K),
        GgmlDType::Q4K => blocks!(k_quants::BlockQ4K),
        GgmlDType::Q5K => blocks!(k_quants::BlockQ5K),
        GgmlDType::Q6K => blocks!(k_quants::BlockQ6K),
        other => candle_core::bail!("no weights are made up in {other:?}"),
    };
    QTensor::new(storage, dims)
}

/// Random blocks of `kind`, whose Rust type is `B`.
fn random_blocks<B: k_quants::GgmlType>(
    kind: GgmlDType,
    elements: usize,
    threads: usize,
    stream: Stream,
    deviation: f32,
) -> Vec<B> {
    let count = elements / B::BLCK_SIZE;
    let scales = Scales::new(kind, deviation);
    let mut blocks: Vec<B> = Vec::with_capacity(count);
    in_parallel(&mut blocks.spare_capacity_mut()[..count], 1, threads, |first, slots| {
        let mut bytes = [0_u8; MAX_BLOCK_BYTES];
        for (index, slot) in slots.iter_mut().enumerate() {
            let block = &mut bytes[..size_of::<B>()];
            scales.write_block(block, stream, (first + index) as u64);
            // SAFETY: the slot has room for one `B`, which is as long as `block`. Every pattern of bits is a valid block: the fields of ggml's
            // blocks are integers and floats in a `repr(C)` struct.
            unsafe { std::ptr::copy_nonoverlapping(block.as_ptr(), slot.as_mut_ptr().cast::<u8>(), size_of::<B>()) };
        }
    });
    // SAFETY: each of the first `count` slots was written by exactly one call of the closure.
    unsafe { blocks.set_len(count) };
    blocks
}

/// The longest block, of Q6_K with 210 bytes, in whole random words.
const MAX_BLOCK_BYTES: usize = 216;
/// Random words set aside for one block, the last for its sign.
const WORDS_PER_BLOCK: u64 = MAX_BLOCK_BYTES as u64 / 8 + 1;

/// What all blocks of one tensor share: the scales that give uniformly random quants the wanted deviation and mean 0.
///
/// Layouts and formulas are those of `ggml-common.h` and `dequantize_row_*` in `ggml-quants.c`.
struct Scales {
    kind: GgmlDType,
    /// `d` as f16, and where it stands in the block.
    scale: [u8; 2],
    scale_at: usize,
    /// `m` or `dmin` as f16, and where it stands; only formats with minima.
    minimum: Option<([u8; 2], usize)>,
}

impl Scales {
    fn new(kind: GgmlDType, deviation: f32) -> Self {
        // Of `levels` quants the lowest stands for `-middle` scales, so that they lie evenly round zero.
        let (scale, scale_at, minimum) = match kind {
            GgmlDType::Q4_0 => (deviation / rms(-8.0, 16.0), 0, None),
            GgmlDType::Q5_0 => (deviation / rms(-16.0, 32.0), 0, None),
            GgmlDType::Q8_0 => (deviation / rms(-128.0, 256.0), 0, None),
            // value = d·q + m
            GgmlDType::Q4_1 => {
                let scale = deviation / rms(-7.5, 16.0);
                (scale, 0, Some((-7.5 * scale, 2)))
            }
            GgmlDType::Q5_1 => {
                let scale = deviation / rms(-15.5, 32.0);
                (scale, 0, Some((-15.5 * scale, 2)))
            }
            // value = d·s·q − dmin·m, with m = s (see `write_block`): dmin is the middle quant in units of d. Sub-scales s are 8…15 in Q2_K and
            // 32…63 in Q4_K and Q5_K.
            GgmlDType::Q2K => {
                let scale = deviation / (rms(-1.5, 4.0) * rms(8.0, 8.0));
                (scale, 80, Some((1.5 * scale, 82)))
            }
            GgmlDType::Q4K => {
                let scale = deviation / (rms(-7.5, 16.0) * rms(32.0, 32.0));
                (scale, 0, Some((7.5 * scale, 2)))
            }
            GgmlDType::Q5K => {
                let scale = deviation / (rms(-15.5, 32.0) * rms(32.0, 32.0));
                (scale, 0, Some((15.5 * scale, 2)))
            }
            // value = d·(s − 32)·q with q in −4…3 and s in 0…63, both from random bits.
            GgmlDType::Q3K => (deviation / (rms(-4.0, 8.0) * rms(-32.0, 64.0)), 108, None),
            // value = d·s·(q − 32) with s any i8 and q in 0…63; the arm takes Q6_K, the only kind left that `quantized` asks for.
            _ => (deviation / (rms(-32.0, 64.0) * rms(-128.0, 256.0)), 208, None),
        };
        let bytes = |value: f32| f16::from_f32(value).to_le_bytes();
        Self { kind, scale: bytes(scale), scale_at, minimum: minimum.map(|(value, at)| (bytes(value), at)) }
    }

    /// Writes the block at `index`: random bits for quants and sub-scales, then the shared scales.
    fn write_block(&self, block: &mut [u8], stream: Stream, index: u64) {
        let base = index * WORDS_PER_BLOCK;
        for (word, bytes) in block.chunks_mut(8).enumerate() {
            let random = stream.at(base + word as u64).to_le_bytes();
            bytes.copy_from_slice(&random[..bytes.len()]);
        }
        let mut scale = self.scale;
        if let Some((minimum, at)) = self.minimum {
            block[at..at + 2].copy_from_slice(&minimum);
        } else {
            // Quants lie unsymmetrically round zero here (−8…7): a random sign makes the mean over many blocks 0. The sign of an f16 is its
            // top bit.
            scale[1] |= (stream.at(base + WORDS_PER_BLOCK - 1) as u8) & 0x80;
        }
        block[self.scale_at..self.scale_at + 2].copy_from_slice(&scale);
        match self.kind {
            GgmlDType::Q2K => {
                for byte in &mut block[..16] {
                    let sub_scale = (*byte & 7) | 8;
                    *byte = sub_scale | sub_scale << 4;
                }
            }
            GgmlDType::Q4K | GgmlDType::Q5K => pack_equal_scales(&mut block[4..16]),
            _ => {}
        }
    }
}

/// Turns twelve random bytes into the packed eight scales and eight minima of Q4_K and Q5_K, with each minimum equal to its scale (32…63).
///
/// Packing as in `get_scale_min_k4` of `ggml-quants.c`: sub-blocks 0–3 use the low six bits of bytes 0–3 and 4–7, sub-blocks 4–7 the nibbles of
/// bytes 8–11 and the top two bits of the first eight.
fn pack_equal_scales(packed: &mut [u8]) {
    let mut scales = [0_u8; 8];
    for (scale, byte) in scales.iter_mut().zip(packed.iter()) {
        *scale = (byte & 31) | 32;
    }
    for j in 0..4 {
        let (low, high) = (scales[j], scales[j + 4]);
        packed[j] = low | (high >> 4) << 6;
        packed[j + 4] = low | (high >> 4) << 6;
        packed[j + 8] = (high & 15) | (high & 15) << 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(rows: usize, columns: usize) -> Expected {
        Expected { name: "model.layers.0.mlp.up_proj.weight".to_owned(), dims: vec![rows, columns], role: Role::Matrix }
    }
    fn values(weight: &Weight) -> Vec<f32> {
        match weight {
            Weight::Dense(tensor) => tensor.to_dtype(DType::F32).unwrap(),
            Weight::Quantized(tensor) => tensor.dequantize(&Device::Cpu).unwrap(),
        }
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap()
    }
    const FORMATS: [Format; 13] = [
        Format::F32,
        Format::F16,
        Format::BF16,
        Format::Q4_0,
        Format::Q4_1,
        Format::Q5_0,
        Format::Q5_1,
        Format::Q8_0,
        Format::Q2K,
        Format::Q3K,
        Format::Q4K,
        Format::Q5K,
        Format::Q6K,
    ];

    #[test]
    fn the_values_have_the_wanted_size_in_every_format() {
        for format in FORMATS {
            let weight = weight(&matrix(256, 1024), format, 7, 2, &Device::Cpu).unwrap();
            assert_eq!(weight.format(), format);
            let values = values(&weight);
            let n = values.len() as f64;
            let mean = values.iter().map(|value| f64::from(*value)).sum::<f64>() / n;
            let deviation =
                (values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>() / n - mean * mean).sqrt();
            let wanted = 1.0 / 32.0;
            assert!((deviation / wanted - 1.0).abs() < 0.05, "{format}: {deviation} instead of {wanted}");
            assert!(mean.abs() < 0.05 * wanted, "{format}: mean {mean}");
        }
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        for format in FORMATS {
            let one = values(&weight(&matrix(33, 256), format, 1, 1, &Device::Cpu).unwrap());
            for threads in [2, 3, 7, 64] {
                assert_eq!(
                    one,
                    values(&weight(&matrix(33, 256), format, 1, threads, &Device::Cpu).unwrap()),
                    "{format}"
                );
            }
            assert_ne!(
                one,
                values(&weight(&matrix(33, 256), format, 2, 1, &Device::Cpu).unwrap()),
                "{format}: seed ignored"
            );
        }
    }

    #[test]
    fn tensors_of_one_shape_differ_and_norms_are_one() {
        let mut other = matrix(4, 32);
        other.name = "model.layers.1.mlp.up_proj.weight".to_owned();
        let first = values(&weight(&matrix(4, 32), Format::BF16, 1, 1, &Device::Cpu).unwrap());
        assert_ne!(first, values(&weight(&other, Format::BF16, 1, 1, &Device::Cpu).unwrap()));
        let norm = Expected { name: "model.norm.weight".to_owned(), dims: vec![5], role: Role::Norm };
        assert_eq!(values(&weight(&norm, Format::Q4K, 1, 1, &Device::Cpu).unwrap()), [1.0; 5]);
    }
}
