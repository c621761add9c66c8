//! The decoder of `engine.ops=fused` on a GPU: our kernels, cuBLAS for prompts, and a decode step that can be captured into a CUDA graph.
//!
//! A decode step of up to eight sequences is five launches a layer: q, k and v with the norm before them; attention with rotation and
//! the write to the cache; the output projection onto the residual; gate and up with their norm and the activation; down onto the residual.
//! Everything a step reads lies at fixed addresses, positions and the chosen tokens included, so that a recorded step is every step.

#[macro_use]
mod span;
mod layers;
mod memory;

use candle_core::{Device, Result, Tensor, bail};

use memory::{State, Work};

use super::backend::{Buffer, GpuResult, Graph, HalfType, SharedBackend};
use super::launch::{self, Choice, GemvInput, GemvOutput};
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
