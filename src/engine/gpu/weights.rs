//! Weights in the memory of the device.

use candle_core::{DType, Tensor};

use super::backend::{Address, Buffer, GpuBackend, GpuError, GpuResult, HalfType};
use super::pack::{self, WeightFormat};
use crate::engine::weights::{Weight, WeightMap};
use crate::estimate::format::Format;

/// A matrix `[outer, inner]` on the device.
#[derive(Debug)]
pub struct Matrix {
    /// How it is stored.
    pub format: WeightFormat,
    /// Columns.
    pub inner: u32,
    /// Rows.
    pub outer: u32,
    values: Buffer,
    scales: Option<Buffer>,
    mins: Option<Buffer>,
    bias: Option<Buffer>,
}

impl Matrix {
    /// The values, or the quants.
    pub fn values(&self) -> Address {
        self.values.address()
    }
    /// The scales of quantized values, or null.
    pub fn scales(&self) -> Address {
        address(self.scales.as_ref())
    }
    /// The mins of quantized values, or null.
    pub fn mins(&self) -> Address {
        address(self.mins.as_ref())
    }
    /// The bias in f32, or null.
    pub fn bias(&self) -> Address {
        address(self.bias.as_ref())
    }
    /// Whether there is a bias.
    pub fn has_bias(&self) -> bool {
        self.bias.is_some()
    }
    /// Bytes on the device, the bias not counted.
    pub fn bytes(&self) -> u64 {
        self.values.bytes()
            + self.scales.as_ref().map_or(0, Buffer::bytes)
            + self.mins.as_ref().map_or(0, Buffer::bytes)
    }
    /// How it is stored, in the words of the record.
    pub fn record_format(&self, half: HalfType) -> Format {
        match self.format {
            WeightFormat::Half => half_format(half),
            WeightFormat::Q8_0 => Format::Q8_0,
            WeightFormat::Q4_0 => Format::Q4_0,
            WeightFormat::Q4_1 => Format::Q4_1,
        }
    }
}

fn address(buffer: Option<&Buffer>) -> Address {
    buffer.map_or(Address::NULL, Buffer::address)
}

/// The format of a 16-bit type.
pub fn half_format(half: HalfType) -> Format {
    match half {
        HalfType::F16 => Format::F16,
        HalfType::BF16 => Format::BF16,
    }
}

/// Takes weights out of a map and puts them on the device; the host's copy of each is given back at once.
pub struct Placer<'a> {
    backend: &'a dyn GpuBackend,
    half: HalfType,
    map: WeightMap,
    /// Matrices that are held in 16 bits because their format has no kernel: (format, how many).
    pub converted: std::collections::BTreeMap<&'static str, u32>,
}

impl<'a> Placer<'a> {
    /// Places the weights of `map`.
    pub fn new(backend: &'a dyn GpuBackend, half: HalfType, map: WeightMap) -> Self {
        Self { backend, half, map, converted: std::collections::BTreeMap::new() }
    }

    fn take(&mut self, name: &str) -> GpuResult<Weight> {
        self.map
            .0
            .remove(name)
            .ok_or_else(|| GpuError::new("placing weights", format!("the model has no tensor `{name}`")))
    }

    /// A vector in f32.
    pub fn vector(&mut self, name: &str) -> GpuResult<Buffer> {
        let values = self.host_vector(name)?;
        self.upload(bytes_of_f32(&values))
    }

    fn host_vector(&mut self, name: &str) -> GpuResult<Vec<f32>> {
        match self.take(name)? {
            Weight::Dense(tensor) => {
                let flat = tensor.to_dtype(DType::F32).and_then(|t| t.flatten_all()?.to_vec1::<f32>());
                flat.map_err(|error| GpuError::new(format!("reading `{name}`"), error))
            }
            Weight::Quantized(_) => {
                Err(GpuError::new(format!("placing `{name}`"), "it is quantized; norms and biases must be dense"))
            }
        }
    }

    /// The matrix of an embedding, in 16 bits, and what the head of a tied model is made of.
    pub fn embedding(&mut self, name: &str, tied: bool) -> GpuResult<(Matrix, Option<Matrix>)> {
        let weight = self.take(name)?;
        let head = tied.then(|| weight.clone());
        let table = self.matrix_of(name, vec![weight], false)?;
        let head = head.map(|weight| self.matrix_of(name, vec![weight], true)).transpose()?;
        Ok((table, head))
    }

    /// The matrices `names` with their rows one after the other, and their biases where `bias`.
    pub fn matrix(&mut self, names: &[String], bias: bool) -> GpuResult<Matrix> {
        let weights = names.iter().map(|name| self.take(&format!("{name}.weight"))).collect::<GpuResult<Vec<_>>>()?;
        let label = names.join(" and ");
        let mut matrix = self.matrix_of(&label, weights, true)?;
        if bias {
            let mut values = Vec::with_capacity(matrix.outer as usize);
            for name in names {
                values.extend(self.host_vector(&format!("{name}.bias"))?);
            }
            matrix.bias = Some(self.upload(bytes_of_f32(&values))?);
        }
        Ok(matrix)
    }

    /// One matrix of the rows of several. Quantized ones stay so where all have one format that has kernels.
    fn matrix_of(&mut self, name: &str, weights: Vec<Weight>, quantized: bool) -> GpuResult<Matrix> {
        let what = || format!("placing `{name}`");
        let mut outer = 0;
        let mut inner = 0;
        for weight in &weights {
            let [rows, columns] = *weight.dims() else { return Err(GpuError::new(what(), "it is no matrix")) };
            if inner != 0 && columns != inner {
                return Err(GpuError::new(what(), "the matrices have different widths"));
            }
            inner = columns;
            outer += rows;
        }
        let format = weights.first().map_or(Format::F32, Weight::format);
        let one_format = weights.iter().all(|weight| weight.format() == format);
        let native = pack::native(format).filter(|_| quantized && one_format);
        let (inner, outer) = (inner as u32, outer as u32);
        let Some(native) = native else {
            if quantized && weights.iter().any(|weight| matches!(weight, Weight::Quantized(_))) {
                *self.converted.entry(format.name()).or_default() += 1;
            }
            // Straight from where the loader put them: a copy of a large model on the host would need its memory twice.
            let values = self.backend.alloc(u64::from(outer) * u64::from(inner) * 2)?;
            let mut offset = 0;
            for weight in weights {
                let tensor = half_tensor(&weight, self.half).map_err(|error| GpuError::new(what(), error))?;
                drop(weight);
                let at = values.address().offset(offset);
                let length =
                    with_half_bytes(&tensor, |bytes| self.backend.upload(at, bytes).map(|()| bytes.len() as u64));
                offset += length.map_err(|error| GpuError::new(what(), error))??;
            }
            return Ok(Matrix {
                format: WeightFormat::Half,
                inner,
                outer,
                values,
                scales: None,
                mins: None,
                bias: None,
            });
        };
        let mut planes = pack::Planes::default();
        for weight in weights {
            let Weight::Quantized(tensor) = weight else { return Err(GpuError::new(what(), "it is not quantized")) };
            let blocks = tensor.data().map_err(|error| GpuError::new(what(), error))?;
            planes.append(native, &blocks);
        }
        let values = self.upload(&planes.quants)?;
        let scales = Some(self.upload(&planes.scales)?);
        let mins = if planes.mins.is_empty() { None } else { Some(self.upload(&planes.mins)?) };
        Ok(Matrix { format: native, inner, outer, values, scales, mins, bias: None })
    }

    fn upload(&self, bytes: &[u8]) -> GpuResult<Buffer> {
        let buffer = self.backend.alloc(bytes.len() as u64)?;
        self.backend.upload(buffer.address(), bytes)?;
        Ok(buffer)
    }
}

/// A weight in 16 bits; not copied where it has that type.
fn half_tensor(weight: &Weight, half: HalfType) -> candle_core::Result<Tensor> {
    let dtype = match half {
        HalfType::F16 => DType::F16,
        HalfType::BF16 => DType::BF16,
    };
    match weight {
        Weight::Dense(tensor) => tensor.to_dtype(dtype)?.contiguous(),
        Weight::Quantized(tensor) => tensor.dequantize(&candle_core::Device::Cpu)?.to_dtype(dtype),
    }
}

/// Gives `read` the bytes of a contiguous 16-bit tensor in host memory.
fn with_half_bytes<R>(tensor: &Tensor, read: impl FnOnce(&[u8]) -> R) -> candle_core::Result<R> {
    let (storage, layout) = tensor.storage_and_layout();
    let candle_core::Storage::Cpu(storage) = &*storage else { candle_core::bail!("the tensor is not in host memory") };
    let Some((start, end)) = layout.contiguous_offsets() else { candle_core::bail!("the tensor has gaps") };
    let (first, count) = match tensor.dtype() {
        DType::F16 => (storage.as_slice::<half::f16>()?[start..end].as_ptr().cast::<u8>(), end - start),
        DType::BF16 => (storage.as_slice::<half::bf16>()?[start..end].as_ptr().cast::<u8>(), end - start),
        other => candle_core::bail!("{other:?} is no 16-bit type"),
    };
    // SAFETY: f16 and bf16 are two bytes without padding; the storage is borrowed until `read` is done.
    Ok(read(unsafe { std::slice::from_raw_parts(first, count * 2) }))
}

/// The bytes of f32 values as they lie in memory.
pub fn bytes_of_f32(values: &[f32]) -> &[u8] {
    // SAFETY: every f32 is four bytes without padding, and a byte has no alignment.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), std::mem::size_of_val(values)) }
}

/// The bytes of u32 values as they lie in memory.
pub fn bytes_of_u32(values: &[u32]) -> &[u8] {
    // SAFETY: every u32 is four bytes without padding, and a byte has no alignment.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), std::mem::size_of_val(values)) }
}
