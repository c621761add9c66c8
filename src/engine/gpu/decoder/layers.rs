//! The layers of a decode step and of a prompt, as launches.

use super::{GpuDecoder, Layer, MAX_VECTORS};
use crate::engine::gpu::backend::{Address, Buffer, Gemm, GpuError, GpuResult};
use crate::engine::gpu::launch::{self, DecodeAttention, Gemv, GemvInput, GemvOutput, PrefillAttention, RopeWrite};
use crate::engine::gpu::pack::WeightFormat;
use crate::engine::gpu::weights::{Matrix, half_format};
use crate::estimate::operator::Operator;
use crate::instrument::observer::{Module, Observer, Span};

impl GpuDecoder {
    /// Embeds and runs all layers over `queries` new positions of each of `batch` sequences, whose ids lie in `work.ids`.
    pub(super) fn run_layers(
        &self,
        batch: usize,
        queries: usize,
        position: usize,
        observer: &mut dyn Observer,
    ) -> GpuResult<()> {
        let on = observer.wants_operators();
        let arch = &self.architecture;
        let (rows, width) = ((batch * queries) as u32, arch.hidden_size as u32);
        let embedding = Operator::Embedding { rows, width, weight: half_format(self.half) };
        let device = &*self.backend;
        operator!(
            observer,
            on,
            EmbedTokens,
            embedding,
            launch::embedding(
                device,
                self.half,
                self.work.residual.address(),
                self.embed_tokens.values(),
                self.work.ids.address(),
                rows,
                width
            )
        )?;
        for (index, layer) in self.layers.iter().enumerate() {
            if on {
                observer.begin(Span::Layer(index as u32));
            }
            let result = if queries == 1 && batch <= MAX_VECTORS {
                self.vector_layer(layer, batch, position, on, observer)
            } else {
                self.matrix_layer(layer, batch, queries, position, on, observer)
            };
            if on {
                observer.end();
            }
            result?;
        }
        Ok(())
    }

    pub(super) fn attention_operator(&self, batch: usize, queries: usize, position: usize) -> Operator {
        let arch = &self.architecture;
        Operator::Attention {
            batch: batch as u32,
            queries: queries as u32,
            kv_len: (position + queries) as u32,
            heads: arch.num_heads as u32,
            kv_heads: arch.num_kv_heads as u32,
            head_dim: arch.head_dim as u32,
            window: arch.sliding_window.unwrap_or(0) as u32,
            cache: half_format(self.half),
        }
    }

    pub(super) fn linear_operator(&self, rows: u32, matrix: &Matrix) -> Operator {
        Operator::Linear {
            rows,
            inner: matrix.inner,
            outer: matrix.outer,
            weight: matrix.record_format(self.half),
            bias: matrix.has_bias(),
        }
    }

    /// One layer of a decode step of few sequences. The norms are computed inside the projections that follow them.
    pub(super) fn vector_layer(
        &self,
        layer: &Layer,
        batch: usize,
        position: usize,
        on: bool,
        observer: &mut dyn Observer,
    ) -> GpuResult<()> {
        let (arch, work) = (&self.architecture, &self.work);
        let rows = batch as u32;
        let eps = arch.rms_norm_eps as f32;
        let residual = work.residual.address();
        if on {
            observer.begin(Span::Module(Module::SelfAttn));
        }
        let normed = GemvInput::Normed { x: residual, weight: layer.input_layernorm.address(), eps };
        operator!(
            observer,
            on,
            QkvProj,
            self.linear_operator(rows, &layer.qkv),
            self.gemv(&layer.qkv, rows, normed, GemvOutput::Half(work.qkv.address()))
        )?;
        self.norm_heads(layer, rows, on, observer)?;
        operator!(
            observer,
            on,
            SelfAttn,
            self.attention_operator(batch, 1, position),
            self.decode_attention(layer, rows, true)
        )?;
        operator!(
            observer,
            on,
            OProj,
            self.linear_operator(rows, &layer.o_proj),
            self.gemv(&layer.o_proj, rows, GemvInput::Half(work.attended.address()), GemvOutput::Add(residual))
        )?;
        if on {
            observer.end();
            observer.begin(Span::Module(Module::Mlp));
        }
        let gated = Operator::GatedLinear {
            rows,
            inner: arch.hidden_size as u32,
            width: arch.intermediate_size as u32,
            weight: layer.gate_up.record_format(self.half),
        };
        let normed = GemvInput::Normed { x: residual, weight: layer.post_attention_layernorm.address(), eps };
        operator!(
            observer,
            on,
            GateUpProj,
            gated,
            self.gemv(&layer.gate_up, rows, normed, GemvOutput::SwiGlu(work.activated.address()))
        )?;
        operator!(
            observer,
            on,
            DownProj,
            self.linear_operator(rows, &layer.down_proj),
            self.gemv(&layer.down_proj, rows, GemvInput::Half(work.activated.address()), GemvOutput::Add(residual))
        )?;
        if on {
            observer.end();
        }
        Ok(())
    }

    /// One layer over many rows: products through cuBLAS.
    pub(super) fn matrix_layer(
        &self,
        layer: &Layer,
        batch: usize,
        queries: usize,
        position: usize,
        on: bool,
        observer: &mut dyn Observer,
    ) -> GpuResult<()> {
        let (device, arch, work, half) = (&*self.backend, &self.architecture, &self.work, self.half);
        let rows = (batch * queries) as u32;
        let (eps, hidden) = (arch.rms_norm_eps as f32, arch.hidden_size as u32);
        let (residual, normed) = (work.residual.address(), work.normed.address());
        let norm = Operator::RmsNorm { rows, width: hidden };
        let weight = layer.input_layernorm.address();
        operator!(
            observer,
            on,
            InputLayernorm,
            norm,
            launch::rms_norm(device, half, normed, residual, hidden, weight, eps, rows, hidden)
        )?;
        if on {
            observer.begin(Span::Module(Module::SelfAttn));
        }
        operator!(
            observer,
            on,
            QkvProj,
            self.linear_operator(rows, &layer.qkv),
            self.product(&layer.qkv, rows, normed, work.qkv.address(), false)
        )?;
        self.norm_heads(layer, rows, on, observer)?;
        let (heads, kv_heads, head_dim) = (arch.num_heads as u32, arch.num_kv_heads as u32, arch.head_dim as u32);
        let rotate = Operator::RopeKvWrite { rows, heads, kv_heads, head_dim, cache: half_format(half) };
        let write = RopeWrite {
            qkv: work.qkv.address(),
            stride: layer.qkv.outer,
            cos: self.cos.address(),
            sin: self.sin.address(),
            k_cache: layer.k_cache.address(),
            v_cache: layer.v_cache.address(),
            position: self.state.position.address(),
            rows,
            queries: queries as u32,
            heads,
            kv_heads,
            head_dim,
            capacity: self.capacity as u32,
        };
        operator!(observer, on, RotaryEmb, rotate, launch::rope_kv_write(device, half, &write))?;
        let attention = self.attention_operator(batch, queries, position);
        operator!(
            observer,
            on,
            SelfAttn,
            attention,
            if queries == 1 {
                self.decode_attention(layer, batch as u32, false)
            } else {
                launch::attention_prefill(
                    device,
                    half,
                    &PrefillAttention {
                        out: work.attended.address(),
                        qkv: work.qkv.address(),
                        stride: layer.qkv.outer,
                        k_cache: layer.k_cache.address(),
                        v_cache: layer.v_cache.address(),
                        position: self.state.position.address(),
                        batch: batch as u32,
                        queries: queries as u32,
                        heads,
                        kv_heads,
                        head_dim,
                        capacity: self.capacity as u32,
                        window: arch.sliding_window.unwrap_or(0) as u32,
                        scale: self.attention_scale(),
                    },
                )
            }
        )?;
        operator!(
            observer,
            on,
            OProj,
            self.linear_operator(rows, &layer.o_proj),
            self.product(&layer.o_proj, rows, work.attended.address(), residual, true)
        )?;
        if on {
            observer.end();
        }
        let weight = layer.post_attention_layernorm.address();
        operator!(
            observer,
            on,
            PostAttentionLayernorm,
            norm,
            launch::rms_norm(device, half, normed, residual, hidden, weight, eps, rows, hidden)
        )?;
        if on {
            observer.begin(Span::Module(Module::Mlp));
        }
        let width = arch.intermediate_size as u32;
        operator!(
            observer,
            on,
            GateUpProj,
            self.linear_operator(rows, &layer.gate_up),
            self.product(&layer.gate_up, rows, normed, work.gate_up.address(), false)
        )?;
        let (activated, gate_up) = (work.activated.address(), work.gate_up.address());
        operator!(
            observer,
            on,
            ActFn,
            Operator::SiluMul { rows, width },
            launch::swiglu(device, half, activated, gate_up, rows, width)
        )?;
        operator!(
            observer,
            on,
            DownProj,
            self.linear_operator(rows, &layer.down_proj),
            self.product(&layer.down_proj, rows, activated, residual, true)
        )?;
        if on {
            observer.end();
        }
        Ok(())
    }

    /// Norms of the heads of q and k, where the model has them.
    pub(super) fn norm_heads(&self, layer: &Layer, rows: u32, on: bool, observer: &mut dyn Observer) -> GpuResult<()> {
        let (Some(q_norm), Some(k_norm)) = (&layer.q_norm, &layer.k_norm) else { return Ok(()) };
        let (device, arch) = (&*self.backend, &self.architecture);
        let (eps, head_dim, stride) = (arch.rms_norm_eps as f32, arch.head_dim as u32, layer.qkv.outer);
        let (heads, kv_heads) = (arch.num_heads as u32, arch.num_kv_heads as u32);
        let q = self.work.qkv.address();
        let k = q.offset(arch.q_width() as u64 * 2);
        let norm = |heads: u32| Operator::RmsNorm { rows: rows * heads, width: head_dim };
        let run = |at: Address, heads: u32, weight: &Buffer| {
            launch::rms_norm_heads(device, self.half, at, stride, heads, rows, head_dim, weight.address(), eps)
        };
        operator!(observer, on, QNorm, norm(heads), run(q, heads, q_norm))?;
        operator!(observer, on, KNorm, norm(kv_heads), run(k, kv_heads, k_norm))
    }

    pub(super) fn attention_scale(&self) -> f32 {
        (self.architecture.head_dim as f32).sqrt().recip()
    }

    /// Attention of one new position of each sequence; with `rotate` it rotates q and k and writes k and v to the cache itself.
    pub(super) fn decode_attention(&self, layer: &Layer, batch: u32, rotate: bool) -> GpuResult<()> {
        let arch = &self.architecture;
        launch::attention_decode(
            &*self.backend,
            self.half,
            &DecodeAttention {
                out: self.work.attended.address(),
                qkv: self.work.qkv.address(),
                stride: layer.qkv.outer,
                cos: self.cos.address(),
                sin: self.sin.address(),
                k_cache: layer.k_cache.address(),
                v_cache: layer.v_cache.address(),
                position: self.state.position.address(),
                partials: self.state.attention_partials.address(),
                counters: self.state.attention_counters.address(),
                splits: self.state.splits,
                batch,
                heads: arch.num_heads as u32,
                kv_heads: arch.num_kv_heads as u32,
                head_dim: arch.head_dim as u32,
                capacity: self.capacity as u32,
                window: arch.sliding_window.unwrap_or(0) as u32,
                scale: self.attention_scale(),
                rotate,
            },
        )
    }

    pub(super) fn gemv(&self, matrix: &Matrix, batch: u32, input: GemvInput, output: GemvOutput) -> GpuResult<()> {
        launch::gemv(
            &*self.backend,
            self.half,
            &Gemv {
                batch,
                input,
                output,
                format: matrix.format,
                w: matrix.values(),
                scales: matrix.scales(),
                mins: matrix.mins(),
                bias: matrix.bias(),
                inner: matrix.inner,
                // Gate and up rows make one output each.
                outer: if matches!(output, GemvOutput::SwiGlu(_)) { matrix.outer / 2 } else { matrix.outer },
            },
        )
    }

    /// `c = a · matrixᵀ + bias` over many rows; into f32 `c` it is added.
    pub(super) fn product(
        &self,
        matrix: &Matrix,
        rows: u32,
        a: Address,
        c: Address,
        accumulate_f32: bool,
    ) -> GpuResult<()> {
        let device = &*self.backend;
        let w = match (&self.work.dequantized, matrix.format) {
            (_, WeightFormat::Half) => matrix.values(),
            (Some(scratch), format) => {
                let values = u64::from(matrix.inner) * u64::from(matrix.outer);
                let (quants, scales, mins) = (matrix.values(), matrix.scales(), matrix.mins());
                launch::dequantize(device, self.half, format, scratch.address(), quants, scales, mins, values / 32)?;
                scratch.address()
            }
            (None, _) => {
                return Err(GpuError::new("multiplying", "no room to dequantize was set aside"));
            }
        };
        let (m, n, k) = (rows, matrix.outer, matrix.inner);
        device.gemm(&Gemm { half: self.half, m, n, k, a, w, c, accumulate_f32, c_stride: n })?;
        if matrix.has_bias() {
            launch::add_bias(device, self.half, c, matrix.bias(), rows, n, accumulate_f32)?;
        }
        Ok(())
    }
}
