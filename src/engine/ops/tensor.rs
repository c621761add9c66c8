//! The operators as plain candle operations: any device, no kernel of ours. The tests hold the CPU kernels against them.

use std::sync::{Mutex, PoisonError};

use candle_core::quantized::QMatMul;
use candle_core::{D, DType, Device, IndexOp, Module, Result, Tensor};

use super::{AttentionShape, Operators, RopeTable};
use crate::engine::kv_cache::{LayerCache, Storage};
use crate::engine::weights::{Weight, format_of_dtype};
use crate::estimate::format::Format;

/// Candle operations on `device`.
#[derive(Debug)]
pub struct TensorOperators {
    device: Device,
    dtype: DType,
    /// The mask made last and what it is for: position, queries, window.
    mask: Mutex<Option<(MaskKey, Tensor)>>,
}

/// Position, queries and window of a mask.
type MaskKey = (usize, usize, Option<usize>);

impl TensorOperators {
    /// f32 activations on the CPU, bf16 elsewhere (the f32 units of a GPU are not what inference runs on).
    pub fn new(device: Device) -> Self {
        let dtype = if device.is_cpu() { DType::F32 } else { device.bf16_default_to_f32() };
        Self { device, dtype, mask: Mutex::new(None) }
    }

    /// What is added to the scores, `[queries, length]`; `None` where every key may be seen. One mask serves all layers of a step.
    fn mask(&self, shape: &AttentionShape) -> Result<Option<Tensor>> {
        let key = (shape.position, shape.queries, shape.window);
        let length = shape.position + shape.queries;
        if shape.queries == 1 && shape.window.is_none_or(|window| window >= length) {
            return Ok(None);
        }
        let mut kept = self.mask.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, mask)) = &*kept
            && *known == key
        {
            return Ok(Some(mask.clone()));
        }
        let values: Vec<f32> = (0..shape.queries)
            .flat_map(|query| {
                let position = shape.position + query;
                let first = shape.window.map_or(0, |window| (position + 1).saturating_sub(window));
                (0..length).map(move |seen| if seen < first || seen > position { f32::NEG_INFINITY } else { 0.0 })
            })
            .collect();
        let mask = Tensor::from_vec(values, (shape.queries, length), &self.device)?;
        *kept = Some((key, mask.clone()));
        Ok(Some(mask))
    }

    /// Flash attention for a prompt in 16 bits on a GPU; `None` where it does not apply.
    #[cfg(feature = "flash-attn")]
    fn flash_attention(&self, q: &Tensor, k: &Tensor, v: &Tensor, shape: &AttentionShape) -> Option<Result<Tensor>> {
        let half = matches!(self.dtype, DType::BF16 | DType::F16) && k.dtype() == self.dtype;
        if !self.device.is_cuda() || !half || shape.queries == 1 || shape.head_dim % 8 != 0 || shape.head_dim > 256 {
            return None;
        }
        let attend = || {
            let length = shape.position + shape.queries;
            // Keys end where queries end: the causal mask of the kernel is aligned to the last of both.
            let by_position = |cache: &Tensor| cache.i((.., .., ..length))?.transpose(1, 2);
            let q = q.reshape((shape.batch, shape.queries, shape.heads, shape.head_dim))?;
            let scale = (shape.head_dim as f32).sqrt().recip();
            let left = shape.window.map(|window| window - 1);
            candle_flash_attn::flash_attn_windowed(&q, &by_position(k)?, &by_position(v)?, scale, left, Some(0))?
                .reshape((shape.batch * shape.queries, shape.heads * shape.head_dim))
        };
        Some(attend())
    }

    fn cache_dtype(format: Format) -> Result<DType> {
        Ok(match format {
            Format::F32 => DType::F32,
            Format::F16 => DType::F16,
            Format::BF16 => DType::BF16,
            other => candle_core::bail!("a KV cache in {other} is not supported; use f32, f16 or bf16"),
        })
    }
}

/// `[batch·queries, heads·head_dim]` → `[batch, heads, queries, head_dim]`.
fn split_heads(x: &Tensor, shape: &AttentionShape, heads: usize) -> Result<Tensor> {
    x.reshape((shape.batch, shape.queries, heads, shape.head_dim))?.transpose(1, 2)?.contiguous()
}

impl Operators for TensorOperators {
    fn name(&self) -> String {
        let flash =
            if cfg!(feature = "flash-attn") && self.device.is_cuda() { ", flash attention for prompts" } else { "" };
        format!("reference (candle, {:?}{flash})", self.device.location())
    }
    fn activation_format(&self) -> Format {
        format_of_dtype(self.dtype)
    }
    fn new_cache(
        &self,
        batch: usize,
        kv_heads: usize,
        capacity: usize,
        head_dim: usize,
        format: Format,
    ) -> Result<LayerCache> {
        let dtype = Self::cache_dtype(format)?;
        let zeros = || Tensor::zeros((batch, kv_heads, capacity, head_dim), dtype, &self.device);
        let storage = Storage::Device { k: zeros()?, v: zeros()? };
        Ok(LayerCache { storage, batch, kv_heads, capacity, head_dim, format })
    }
    fn embedding(&self, table: &Weight, ids: &Tensor) -> Result<Tensor> {
        let ids = ids.flatten_all()?;
        match table {
            Weight::Dense(table) => table.index_select(&ids, 0)?.to_dtype(self.dtype),
            Weight::Quantized(table) => table.embedding(&ids)?.to_dtype(self.dtype),
        }
    }
    fn rms_norm(&self, x: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor> {
        let (rows, width) = x.dims2()?;
        let part = weight.elem_count();
        let x = x.reshape((rows * width / part, part))?.to_dtype(DType::F32)?;
        let mean = (x.sqr()?.sum_keepdim(D::Minus1)? / part as f64)?;
        let normed = x.broadcast_div(&(mean + f64::from(eps))?.sqrt()?)?;
        normed.broadcast_mul(&weight.to_dtype(DType::F32)?)?.reshape((rows, width))?.to_dtype(self.dtype)
    }
    fn linear(&self, x: &Tensor, weight: &Weight, bias: Option<&Tensor>) -> Result<Tensor> {
        let y = match weight {
            Weight::Dense(weight) => x.to_dtype(weight.dtype())?.matmul(&weight.t()?)?.to_dtype(self.dtype)?,
            Weight::Quantized(weight) => QMatMul::from_arc(weight.clone())?.forward(x)?,
        };
        match bias {
            Some(bias) => y.broadcast_add(&bias.to_dtype(self.dtype)?),
            None => Ok(y),
        }
    }
    fn rope(&self, q: &Tensor, k: &Tensor, table: &RopeTable, shape: &AttentionShape) -> Result<(Tensor, Tensor)> {
        let half = table.half_dim;
        let range = shape.position * half..(shape.position + shape.queries) * half;
        let part = |values: &[f32]| {
            Tensor::from_slice(&values[range.clone()], (shape.queries, half), &self.device)?.to_dtype(self.dtype)
        };
        let (cos, sin) = (part(&table.cos)?, part(&table.sin)?);
        let rotate = |x: &Tensor, heads: usize| {
            let rotated = candle_nn::rotary_emb::rope(&split_heads(x, shape, heads)?, &cos, &sin)?;
            rotated.transpose(1, 2)?.reshape((shape.batch * shape.queries, heads * shape.head_dim))
        };
        Ok((rotate(q, shape.heads)?, rotate(k, shape.kv_heads)?))
    }
    fn write_kv(&self, cache: &mut LayerCache, k: &Tensor, v: &Tensor, shape: &AttentionShape) -> Result<()> {
        let Storage::Device { k: keys, v: values } = &cache.storage else {
            candle_core::bail!("the cache was made by other operators")
        };
        for (buffer, new) in [(keys, k), (values, v)] {
            let new = split_heads(new, shape, shape.kv_heads)?.to_dtype(buffer.dtype())?;
            buffer.slice_set(&new, 2, shape.position)?;
        }
        Ok(())
    }
    fn attention(&self, q: &Tensor, cache: &LayerCache, shape: &AttentionShape) -> Result<Tensor> {
        let Storage::Device { k, v } = &cache.storage else {
            candle_core::bail!("the cache was made by other operators")
        };
        #[cfg(feature = "flash-attn")]
        if let Some(attended) = self.flash_attention(q, k, v, shape) {
            return attended;
        }
        let length = shape.position + shape.queries;
        let group = shape.heads / shape.kv_heads;
        // Query heads of one group become rows of one product, so keys and values need no repetition.
        let q = split_heads(q, shape, shape.heads)?.to_dtype(DType::F32)?;
        let q = q.reshape((shape.batch, shape.kv_heads, group * shape.queries, shape.head_dim))?;
        let k = k.i((.., .., ..length))?.to_dtype(DType::F32)?.contiguous()?;
        let v = v.i((.., .., ..length))?.to_dtype(DType::F32)?.contiguous()?;
        let mut scores = (q.matmul(&k.t()?)? / (shape.head_dim as f64).sqrt())?;
        if let Some(mask) = self.mask(shape)? {
            let by_head = (shape.batch, shape.kv_heads, group, shape.queries, length);
            scores = scores.reshape(by_head)?.broadcast_add(&mask)?.reshape(scores.shape())?;
        }
        let weights = candle_nn::ops::softmax_last_dim(&scores)?;
        weights
            .matmul(&v)?
            .reshape((shape.batch, shape.heads, shape.queries, shape.head_dim))?
            .transpose(1, 2)?
            .reshape((shape.batch * shape.queries, shape.heads * shape.head_dim))?
            .to_dtype(self.dtype)
    }
    fn silu_mul(&self, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
        gate.silu()? * up
    }
    fn add(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        a + b
    }
}
