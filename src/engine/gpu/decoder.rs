//! The decoder of `engine.ops=fused` on a GPU: our kernels, cuBLAS for prompts, and a decode step that can be captured into a CUDA graph.
//!
//! A decode step of up to eight sequences is five launches a layer: q, k and v with the norm before them; attention with rotation and
//! the write to the cache; the output projection onto the residual; gate and up with their norm and the activation; down onto the residual.
//! Everything a step reads lies at fixed addresses, positions and the chosen tokens included, so that a recorded step is every step.

use candle_core::{Device, Result, Tensor, bail};

use super::backend::{Address, Buffer, Gemm, GpuBackend, GpuResult, Graph, HalfType, SharedBackend};
use super::launch::{self, Choice, DecodeAttention, Gemv, GemvInput, GemvOutput, PrefillAttention, RopeWrite};
use super::pack::WeightFormat;
use super::weights::{Matrix, Placer, bytes_of_f32, bytes_of_u32, half_format};
use crate::engine::models::decoder::CachePlan;
use crate::engine::models::{CausalLm, DeviceSampler, rope};
use crate::engine::sampling::SamplingPlan;
use crate::engine::weights::WeightMap;
use crate::estimate::architecture::Architecture;
use crate::estimate::format::Format;
use crate::estimate::operator::Operator;
use crate::instrument::observer::{Module, Observer, Span};

/// Sequences that are multiplied as vectors; more go through cuBLAS, which reads the weights as often and computes on tensor cores.
const MAX_VECTORS: usize = launch::MAX_BATCH as usize;
/// Rows of a prompt that are worked on at once: what bounds the memory of activations.
const MAX_ROWS: usize = 8192;

/// One layer.
struct Layer {
    input_layernorm: Buffer,
    qkv: Matrix,
    q_norm: Option<Buffer>,
    k_norm: Option<Buffer>,
    o_proj: Matrix,
    post_attention_layernorm: Buffer,
    /// Gate rows, then up rows.
    gate_up: Matrix,
    down_proj: Matrix,
    k_cache: Buffer,
    v_cache: Buffer,
}

/// Memory used by every step, at fixed addresses.
struct Work {
    rows: usize,
    /// Tokens of this step, `[rows]` u32; the next step's are written by the choice.
    ids: Buffer,
    /// `[rows, hidden]` f32.
    residual: Buffer,
    /// `[rows, hidden]`.
    normed: Buffer,
    /// `[rows, q + k + v]`.
    qkv: Buffer,
    /// `[rows, q]`.
    attended: Buffer,
    /// `[rows, 2 × intermediate]`; prompts only.
    gate_up: Buffer,
    /// `[rows, intermediate]`.
    activated: Buffer,
    /// One dequantized matrix, for products of quantized weights with many rows.
    dequantized: Option<Buffer>,
}

/// Memory of the choice of tokens and of attention.
struct State {
    /// `[batch, vocabulary]` f32.
    logits: Buffer,
    /// Position, step, non-finite logits, unused: u32 each.
    position: Buffer,
    /// `[batch, history_stride]` u32.
    history: Buffer,
    history_stride: u32,
    partial_values: Buffer,
    partial_ids: Buffer,
    choice_counters: Buffer,
    attention_partials: Buffer,
    attention_counters: Buffer,
    splits: u32,
}

/// See the module documentation.
pub struct GpuDecoder {
    architecture: Architecture,
    backend: SharedBackend,
    half: HalfType,
    embed_tokens: Matrix,
    layers: Vec<Layer>,
    norm: Buffer,
    lm_head: Matrix,
    cos: Buffer,
    sin: Buffer,
    work: Work,
    state: State,
    batch: usize,
    capacity: usize,
    filled: usize,
    wants_graph: bool,
    graph: Option<Box<dyn Graph>>,
    /// Whether a step was launched kernel by kernel, so that all its modules are loaded.
    is_loaded: bool,
    plan: SamplingPlan,
    notes: Vec<String>,
}

/// Runs `$body` as one operator span; its error is passed on after the span is closed.
macro_rules! operator {
    ($observer:ident, $on:ident, $module:ident, $operator:expr, $body:expr) => {{
        if $on {
            $observer.begin(Span::Operator(Module::$module, $operator));
        }
        let result = $body;
        if $on {
            $observer.end();
        }
        result
    }};
}

/// The engine's error of a device error.
fn engine(error: impl std::fmt::Display) -> candle_core::Error {
    candle_core::Error::Msg(error.to_string())
}

impl GpuDecoder {
    /// Builds the decoder of an architecture that [`Decoder::supports`](crate::engine::models::decoder::Decoder::supports), places its weights
    /// and allocates its cache.
    ///
    /// `plan.format` is the 16-bit type of activations, dense weights and cache. Weights are taken: each is given back on the host once it is on
    /// the device.
    ///
    /// # Errors
    /// If a tensor is missing, a dimension has no kernel, or the device has no room.
    pub fn new(
        architecture: Architecture,
        weights: WeightMap,
        backend: SharedBackend,
        plan: CachePlan,
        wants_graph: bool,
    ) -> Result<Self> {
        let half = match plan.format {
            Format::F16 => HalfType::F16,
            Format::BF16 => HalfType::BF16,
            other => bail!("the kernels compute in f16 and bf16, not in {other}"),
        };
        if let Some(reason) = unsupported(&architecture) {
            bail!("{reason}");
        }
        Self::build(architecture, weights, backend, half, plan, wants_graph).map_err(engine)
    }

    fn build(
        architecture: Architecture,
        weights: WeightMap,
        backend: SharedBackend,
        half: HalfType,
        plan: CachePlan,
        wants_graph: bool,
    ) -> GpuResult<Self> {
        let arch = &architecture;
        let device = &*backend;
        let mut placer = Placer::new(device, half, weights);
        let cache_bytes = (plan.batch * arch.num_kv_heads * plan.capacity * arch.head_dim * 2) as u64;
        let mut layers = Vec::with_capacity(arch.num_layers);
        for index in 0..arch.num_layers {
            let name = |part: &str| format!("model.layers.{index}.{part}");
            let names = |parts: &[&str]| parts.iter().map(|part| name(part)).collect::<Vec<_>>();
            let qkv = names(&["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]);
            let norm = |placer: &mut Placer<'_>, part: &str| {
                if arch.qk_norm { placer.vector(&name(part)).map(Some) } else { Ok(None) }
            };
            layers.push(Layer {
                input_layernorm: placer.vector(&name("input_layernorm.weight"))?,
                qkv: placer.matrix(&qkv, arch.qkv_bias)?,
                q_norm: norm(&mut placer, "self_attn.q_norm.weight")?,
                k_norm: norm(&mut placer, "self_attn.k_norm.weight")?,
                o_proj: placer.matrix(&names(&["self_attn.o_proj"]), arch.o_bias)?,
                post_attention_layernorm: placer.vector(&name("post_attention_layernorm.weight"))?,
                gate_up: placer.matrix(&names(&["mlp.gate_proj", "mlp.up_proj"]), false)?,
                down_proj: placer.matrix(&names(&["mlp.down_proj"]), false)?,
                k_cache: device.alloc(cache_bytes)?,
                v_cache: device.alloc(cache_bytes)?,
            });
        }
        let tied = arch.tie_word_embeddings;
        let (embed_tokens, head) = placer.embedding("model.embed_tokens.weight", tied)?;
        let lm_head = match head {
            Some(head) => head,
            None => placer.matrix(&["lm_head".to_owned()], false)?,
        };
        let norm = placer.vector("model.norm.weight")?;
        let notes = placer
            .converted
            .iter()
            .map(|(format, count)| format!("{count} matrices of {format} are held as {} on the device: the format has no kernel, or its neighbours in one product have another", half.name()))
            .collect();
        let table = rope::table(&arch.rope, arch.head_dim, plan.capacity);
        let upload = |values: &[f32]| {
            let buffer = device.alloc(std::mem::size_of_val(values) as u64)?;
            device.upload(buffer.address(), bytes_of_f32(values))?;
            Ok(buffer)
        };
        let (cos, sin) = (upload(&table.cos)?, upload(&table.sin)?);
        let quantized = layers.iter().any(|layer| {
            [&layer.qkv, &layer.o_proj, &layer.gate_up, &layer.down_proj].iter().any(|m| m.format != WeightFormat::Half)
        });
        let largest = layers.first().map_or(0, |layer| {
            let size = |matrix: &Matrix| u64::from(matrix.inner) * u64::from(matrix.outer) * 2;
            [&layer.qkv, &layer.o_proj, &layer.gate_up, &layer.down_proj].map(size).into_iter().max().unwrap_or(0)
        });
        let work = Work::new(device, arch, &plan, if quantized { largest } else { 0 })?;
        let state = State::new(device, arch, &plan)?;
        Ok(Self {
            backend,
            half,
            embed_tokens,
            layers,
            norm,
            lm_head,
            cos,
            sin,
            work,
            state,
            batch: plan.batch,
            capacity: plan.capacity,
            filled: 0,
            wants_graph,
            graph: None,
            is_loaded: false,
            plan: SamplingPlan::greedy(),
            notes,
            architecture,
        })
    }

    /// What a reader of the results should know.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
    /// Name for the record, e.g. `fused (NVIDIA H200, bf16, graph)`.
    pub fn operators_name(&self) -> String {
        let graph = if self.wants_graph { ", graph" } else { "" };
        format!("fused ({}, {}{graph})", self.backend.facts().name, self.half.name())
    }
    /// Launches in the recorded step; `None` before one was recorded.
    pub fn graph_nodes(&self) -> Option<usize> {
        self.graph.as_ref().map(|graph| graph.nodes())
    }

    /// Embeds and runs all layers over `queries` new positions of each of `batch` sequences, whose ids lie in `work.ids`.
    fn run_layers(&self, batch: usize, queries: usize, position: usize, observer: &mut dyn Observer) -> GpuResult<()> {
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

    fn attention_operator(&self, batch: usize, queries: usize, position: usize) -> Operator {
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

    fn linear_operator(&self, rows: u32, matrix: &Matrix) -> Operator {
        Operator::Linear {
            rows,
            inner: matrix.inner,
            outer: matrix.outer,
            weight: matrix.record_format(self.half),
            bias: matrix.has_bias(),
        }
    }

    /// One layer of a decode step of few sequences. The norms are computed inside the projections that follow them.
    fn vector_layer(
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
    fn matrix_layer(
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
    fn norm_heads(&self, layer: &Layer, rows: u32, on: bool, observer: &mut dyn Observer) -> GpuResult<()> {
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

    fn attention_scale(&self) -> f32 {
        (self.architecture.head_dim as f32).sqrt().recip()
    }

    /// Attention of one new position of each sequence; with `rotate` it rotates q and k and writes k and v to the cache itself.
    fn decode_attention(&self, layer: &Layer, batch: u32, rotate: bool) -> GpuResult<()> {
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

    fn gemv(&self, matrix: &Matrix, batch: u32, input: GemvInput, output: GemvOutput) -> GpuResult<()> {
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
    fn product(&self, matrix: &Matrix, rows: u32, a: Address, c: Address, accumulate_f32: bool) -> GpuResult<()> {
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
                return Err(super::backend::GpuError::new("multiplying", "no room to dequantize was set aside"));
            }
        };
        let (m, n, k) = (rows, matrix.outer, matrix.inner);
        device.gemm(&Gemm { half: self.half, m, n, k, a, w, c, accumulate_f32, c_stride: n })?;
        if matrix.has_bias() {
            launch::add_bias(device, self.half, c, matrix.bias(), rows, n, accumulate_f32)?;
        }
        Ok(())
    }

    /// Logits of the last position of each sequence, into `state.logits`.
    fn run_head(&self, batch: usize, queries: usize, observer: &mut dyn Observer) -> GpuResult<()> {
        let on = observer.wants_operators();
        let (device, arch, work) = (&*self.backend, &self.architecture, &self.work);
        let (rows, hidden, eps) = (batch as u32, arch.hidden_size as u32, arch.rms_norm_eps as f32);
        let logits = self.state.logits.address();
        let head = self.linear_operator(rows, &self.lm_head);
        let residual = work.residual.address();
        if queries == 1 && batch <= MAX_VECTORS {
            let input = GemvInput::Normed { x: residual, weight: self.norm.address(), eps };
            return operator!(
                observer,
                on,
                LmHead,
                head,
                self.gemv(&self.lm_head, rows, input, GemvOutput::F32(logits))
            );
        }
        let last = residual.offset((queries as u64 - 1) * u64::from(hidden) * 4);
        let stride = queries as u32 * hidden;
        let normed = work.normed.address();
        operator!(
            observer,
            on,
            Norm,
            Operator::RmsNorm { rows, width: hidden },
            launch::rms_norm(device, self.half, normed, last, stride, self.norm.address(), eps, rows, hidden)
        )?;
        operator!(
            observer,
            on,
            LmHead,
            head,
            if batch <= MAX_VECTORS {
                self.gemv(&self.lm_head, rows, GemvInput::Half(normed), GemvOutput::F32(logits))
            } else {
                device
                    .fill(logits, self.state.logits.bytes(), 0)
                    .and_then(|()| self.product(&self.lm_head, rows, normed, logits, true))
            }
        )
    }

    /// Chooses a token for each sequence into `work.ids` and moves the position on.
    fn run_choice(&self, batch: usize, advance: usize, observer: &mut dyn Observer) -> GpuResult<()> {
        let on = observer.wants_operators();
        let state = &self.state;
        let width = self.lm_head.outer;
        let temperature = self.plan.temperature as f32;
        let choice = Choice {
            ids: self.work.ids.address(),
            logits: state.logits.address(),
            width,
            batch: batch as u32,
            inverse_temperature: if temperature > 0.0 { temperature.recip() } else { 0.0 },
            seed: self.plan.seed,
            state: state.position.address(),
            advance: advance as u32,
            history: state.history.address(),
            history_stride: state.history_stride,
            partial_values: state.partial_values.address(),
            partial_ids: state.partial_ids.address(),
            counters: state.choice_counters.address(),
        };
        let sample = Operator::Sample { rows: batch as u32, width };
        operator!(observer, on, Sampler, sample, launch::choose(&*self.backend, &choice))
    }

    fn set_state(&self, position: usize, step: usize) -> GpuResult<()> {
        self.backend.upload(self.state.position.address(), bytes_of_u32(&[position as u32, step as u32, 0, 0]))
    }

    /// Runs a prompt in stretches that fit the activations; the logits of its last position are left in `state.logits`.
    ///
    /// Returns the length of the last stretch, by which the position on the device still has to move.
    fn run_prompt(&mut self, ids: &[u32], position: usize, observer: &mut dyn Observer) -> Result<usize> {
        let batch = self.batch;
        let queries = ids.len() / batch;
        if ids.len() != queries * batch || queries == 0 {
            bail!("the engine was made for {batch} sequences, not for {} tokens", ids.len());
        }
        if position + queries > self.capacity {
            bail!("the KV cache has room for {} positions, not {}", self.capacity, position + queries);
        }
        let longest = (self.work.rows / batch).max(1);
        let mut begin = 0;
        let mut length = 0;
        while begin < queries {
            length = longest.min(queries - begin);
            let stretch: Vec<u32> =
                (0..batch).flat_map(|b| &ids[b * queries + begin..b * queries + begin + length]).copied().collect();
            let backend = &self.backend;
            backend.upload(self.work.ids.address(), bytes_of_u32(&stretch)).map_err(engine)?;
            let at = bytes_of_u32(&[(position + begin) as u32]).to_vec();
            backend.upload(self.state.position.address(), &at).map_err(engine)?;
            self.run_layers(batch, length, position + begin, observer).map_err(engine)?;
            begin += length;
        }
        self.run_head(batch, length, observer).map_err(engine)?;
        self.filled = position + queries;
        Ok(length)
    }

    fn download_ids(&self) -> Result<Vec<u32>> {
        let mut bytes = vec![0; self.batch * 4];
        self.backend.download(self.work.ids.address(), &mut bytes).map_err(engine)?;
        Ok(bytes.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word)).collect())
    }

    /// The launches of one decode step.
    fn run_step(&self, observer: &mut dyn Observer) -> GpuResult<()> {
        self.run_layers(self.batch, 1, self.filled, observer)?;
        self.run_head(self.batch, 1, observer)?;
        self.run_choice(self.batch, 1, observer)
    }
}

/// Why the kernels cannot run `architecture`; `None` if they can.
pub fn unsupported(architecture: &Architecture) -> Option<String> {
    launch::unsupported_head(
        architecture.head_dim as u32,
        (architecture.num_heads / architecture.num_kv_heads.max(1)) as u32,
    )
    .or_else(|| {
        let widths = [architecture.hidden_size, architecture.intermediate_size, architecture.q_width()];
        widths.iter().find(|width| **width % 32 != 0).map(|width| format!("a width of {width} is no multiple of 32"))
    })
}

impl Work {
    fn new(device: &dyn GpuBackend, arch: &Architecture, plan: &CachePlan, dequantized: u64) -> GpuResult<Self> {
        // Made once, as addresses must not move: for the longest prompt there is room for, or as much of it as is worked on at once.
        let rows = plan.batch.max(MAX_ROWS.min(plan.batch * plan.capacity));
        let half = |width: usize| device.alloc((rows * width * 2) as u64);
        Ok(Self {
            rows,
            ids: device.alloc((rows * 4) as u64)?,
            residual: device.alloc((rows * arch.hidden_size * 4) as u64)?,
            normed: half(arch.hidden_size)?,
            qkv: half(arch.q_width() + 2 * arch.kv_width())?,
            attended: half(arch.q_width())?,
            gate_up: half(2 * arch.intermediate_size)?,
            activated: half(arch.intermediate_size)?,
            dequantized: if dequantized > 0 { Some(device.alloc(dequantized)?) } else { None },
        })
    }
}

impl State {
    fn new(device: &dyn GpuBackend, arch: &Architecture, plan: &CachePlan) -> GpuResult<Self> {
        let (batch, kv_heads) = (plan.batch as u32, arch.num_kv_heads as u32);
        let splits = launch::splits(device.facts(), batch, kv_heads, plan.capacity as u32);
        let vocabulary = arch.vocab_size as u32;
        let chunks = u64::from(launch::choice_chunks(vocabulary));
        let zeroed = |bytes: u64| {
            let buffer = device.alloc(bytes)?;
            device.fill(buffer.address(), bytes, 0)?;
            Ok(buffer)
        };
        let history_stride = plan.capacity as u32 + 1;
        Ok(Self {
            logits: device.alloc(u64::from(batch) * u64::from(vocabulary) * 4)?,
            position: zeroed(16)?,
            history: zeroed(u64::from(batch) * u64::from(history_stride) * 4)?,
            history_stride,
            partial_values: device.alloc(u64::from(batch) * chunks * 4)?,
            partial_ids: device.alloc(u64::from(batch) * chunks * 4)?,
            choice_counters: zeroed(u64::from(batch + 1) * 4)?,
            attention_partials: device.alloc(launch::attention_partial_bytes(
                batch,
                kv_heads,
                splits,
                arch.num_heads as u32 / kv_heads.max(1),
                arch.head_dim as u32,
            ))?,
            attention_counters: zeroed(u64::from(batch) * u64::from(kv_heads) * 4)?,
            splits,
        })
    }
}

impl CausalLm for GpuDecoder {
    fn forward(&mut self, tokens: &Tensor, position: usize, observer: &mut dyn Observer) -> Result<Tensor> {
        let ids = tokens.flatten_all()?.to_vec1::<u32>()?;
        self.run_prompt(&ids, position, observer)?;
        let mut bytes = vec![0; self.batch * self.lm_head.outer as usize * 4];
        self.backend.download(self.state.logits.address(), &mut bytes).map_err(engine)?;
        let logits: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|word| f32::from_le_bytes(*word)).collect();
        Tensor::from_vec(logits, (self.batch, self.lm_head.outer as usize), &Device::Cpu)
    }

    fn reset(&mut self) -> Result<()> {
        // Positions past `filled` are never read, so there is nothing to erase.
        self.filled = 0;
        Ok(())
    }
    fn architecture(&self) -> &Architecture {
        &self.architecture
    }
    fn kv_cache_bytes(&self) -> (u64, u64) {
        let allocated: u64 = self.layers.iter().map(|layer| layer.k_cache.bytes() + layer.v_cache.bytes()).sum();
        (allocated, allocated / self.capacity.max(1) as u64 * self.filled as u64)
    }
    fn kv_format(&self) -> Format {
        half_format(self.half)
    }
    fn compute_format(&self) -> Format {
        half_format(self.half)
    }
    fn is_instrumented(&self) -> bool {
        true
    }
    fn device_sampler(&mut self) -> Option<&mut dyn DeviceSampler> {
        Some(self)
    }
}

impl DeviceSampler for GpuDecoder {
    fn start(&mut self, plan: SamplingPlan) -> Result<()> {
        // The temperature is an argument of a launch, so a graph holds that of the plan it was recorded with.
        if plan != self.plan {
            self.graph = None;
            self.plan = plan;
        }
        self.set_state(0, 0).map_err(engine)
    }

    fn prefill(&mut self, ids: &[u32], observer: &mut dyn Observer) -> Result<Vec<u32>> {
        let length = self.run_prompt(ids, 0, observer)?;
        self.run_choice(self.batch, length, observer).map_err(engine)?;
        self.download_ids()
    }

    fn step(&mut self, observer: &mut dyn Observer) -> Result<Vec<u32>> {
        if self.filled + 1 > self.capacity {
            bail!("the KV cache has room for {} positions, not {}", self.capacity, self.filled + 1);
        }
        // A graph is one launch: operators inside it can only be seen by a tracer.
        if self.wants_graph && self.is_loaded && !observer.separates_operators() {
            if self.graph.is_none() {
                self.graph = Some(self.capture().map_err(engine)?);
            }
            if let Some(graph) = &self.graph {
                graph.launch().map_err(engine)?;
            }
        } else {
            self.run_step(observer).map_err(engine)?;
            self.is_loaded = true;
        }
        self.filled += 1;
        self.download_ids()
    }

    fn non_finite_logits(&mut self) -> Result<u64> {
        let mut bytes = [0; 16];
        self.backend.download(self.state.position.address(), &mut bytes).map_err(engine)?;
        Ok(u64::from(u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]])))
    }
}

impl GpuDecoder {
    /// Records one decode step, after one was launched kernel by kernel: loading a module is no part of a graph.
    fn capture(&self) -> GpuResult<Box<dyn Graph>> {
        self.backend.synchronize()?;
        self.backend.begin_capture()?;
        let recorded = self.run_step(&mut crate::instrument::observer::NoObserver);
        let graph = self.backend.end_capture();
        recorded?;
        graph
    }
}
