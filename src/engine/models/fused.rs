//! The decoder of `engine.ops=fused`: the model of [`Decoder`](super::decoder::Decoder) in half as many operators.
//!
//! One layer is eight operators (ten with norms on the heads of q and k), each announced to the observer as what it is. Activations live in
//! buffers that are made once and grow only for a longer prompt; weights are packed one layer at a time while their loaded form is
//! given back.

use std::collections::BTreeSet;

use candle_core::{Device, Result, Tensor, bail};

use super::decoder::CachePlan;
use super::{CausalLm, rope};
use crate::engine::ops::fused::{
    Biased, BlockedCache, FusedOperators, GatedProjection, Input, InputBuffers, Projection,
};
use crate::engine::ops::{AttentionShape, RopeTable};
use crate::engine::weights::{Weight, WeightMap};
use crate::estimate::architecture::Architecture;
use crate::estimate::format::Format;
use crate::estimate::operator::Operator;
use crate::instrument::observer::{Module, Observer, Span};

/// Projections of one input side by side in the rows of their result.
enum Qkv {
    One(Projection),
    /// Formats differ or have no kernels.
    Three(Box<[Projection; 3]>),
}

/// Gate, up and activation.
enum GateUp {
    One(GatedProjection),
    /// Formats differ or have no kernels.
    Two(Box<[Projection; 2]>),
}

struct Layer {
    input_layernorm: Vec<f32>,
    qkv: Qkv,
    q_norm: Option<Vec<f32>>,
    k_norm: Option<Vec<f32>>,
    o_proj: Projection,
    post_attention_layernorm: Vec<f32>,
    gate_up: GateUp,
    down_proj: Projection,
}

/// Activations, kept between steps.
#[derive(Default)]
struct Buffers {
    ids: Vec<u32>,
    residual: Vec<f32>,
    normed: Vec<f32>,
    qkv: Vec<f32>,
    attended: Vec<f32>,
    /// What a block adds to the residual.
    delta: Vec<f32>,
    /// The gate, where it is a product of its own.
    gates: Vec<f32>,
    activated: Vec<f32>,
    partials: Vec<f32>,
    input: InputBuffers,
}

/// See the module documentation.
pub struct FusedDecoder {
    architecture: Architecture,
    operators: FusedOperators,
    embed_tokens: Weight,
    layers: Vec<Layer>,
    norm: Vec<f32>,
    lm_head: Projection,
    rope: RopeTable,
    caches: Vec<BlockedCache>,
    capacity: usize,
    filled: usize,
    buffers: Buffers,
    unpacked: BTreeSet<&'static str>,
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

/// Takes weights out of a map, so that their memory is given back as soon as they are packed.
struct Names(WeightMap);

impl Names {
    fn weight(&mut self, name: &str) -> Result<Weight> {
        match self.0.0.remove(name) {
            Some(weight) => Ok(weight),
            None => bail!("the model has no tensor `{name}`"),
        }
    }
    fn vector(&mut self, name: &str) -> Result<Vec<f32>> {
        match self.weight(name)? {
            Weight::Dense(tensor) => FusedOperators::vector(&tensor),
            Weight::Quantized(_) => bail!("`{name}` is quantized; norms and biases must be dense"),
        }
    }
    fn linear(&mut self, name: &str, bias: bool) -> Result<Biased> {
        let bias = if bias { Some(self.vector(&format!("{name}.bias"))?) } else { None };
        Ok((self.weight(&format!("{name}.weight"))?, bias))
    }
}

impl FusedDecoder {
    /// Builds the decoder of an architecture that [`Decoder::supports`](super::decoder::Decoder::supports), and allocates its cache.
    ///
    /// The weights are taken: each is given back once it is packed, if the caller holds no other copy of it.
    ///
    /// # Errors
    /// If a tensor is missing or the cache cannot be allocated.
    pub fn new(
        architecture: Architecture,
        weights: WeightMap,
        operators: FusedOperators,
        plan: CachePlan,
    ) -> Result<Self> {
        let mut names = Names(weights);
        let mut unpacked = BTreeSet::new();
        let mut layers = Vec::with_capacity(architecture.num_layers);
        for index in 0..architecture.num_layers {
            let layer = layer(&architecture, &operators, &mut names, index)?;
            let qkv: &[Projection] = match &layer.qkv {
                Qkv::One(projection) => std::slice::from_ref(projection),
                Qkv::Three(projections) => &**projections,
            };
            let gate_up: &[Projection] = match &layer.gate_up {
                GateUp::One(_) => &[],
                GateUp::Two(projections) => &**projections,
            };
            let projections = qkv.iter().chain([&layer.o_proj, &layer.down_proj]).chain(gate_up);
            unpacked.extend(projections.filter(|one| !one.is_packed()).map(|one| one.format().name()));
            layers.push(layer);
        }
        let embed_tokens = names.weight("model.embed_tokens.weight")?;
        let head = if architecture.tie_word_embeddings {
            // Rows are looked up in the loaded form, products need the packed one.
            embed_tokens.clone()
        } else {
            names.weight("lm_head.weight")?
        };
        let lm_head = operators.projection(head, None)?;
        if !lm_head.is_packed() {
            unpacked.insert(lm_head.format().name());
        }
        let caches = (0..architecture.num_layers).map(|_| {
            let (kv_heads, head_dim) = (architecture.num_kv_heads, architecture.head_dim);
            BlockedCache::new(plan.batch, kv_heads, plan.capacity, head_dim, plan.format)
        });
        let caches = caches.collect::<Result<Vec<_>>>()?;
        let rope = rope::table(&architecture.rope, architecture.head_dim, plan.capacity);
        let norm = names.vector("model.norm.weight")?;
        let (capacity, buffers) = (plan.capacity, Buffers::default());
        Ok(Self {
            architecture,
            operators,
            embed_tokens,
            layers,
            norm,
            lm_head,
            rope,
            caches,
            capacity,
            filled: 0,
            buffers,
            unpacked,
        })
    }

    /// Name for the record: the kernels, and the formats that the reference operator multiplies, e.g.
    /// `fused (cpu, avx512-vnni, 2 threads; reference products for q6_k)`.
    pub fn operators_name(&self) -> String {
        let name = self.operators.name();
        match (self.unpacked_formats(), name.strip_suffix(')')) {
            (Some(formats), Some(name)) => format!("{name}; reference products for {formats})"),
            _ => name,
        }
    }
    /// Formats of the matrices that have no packed kernels, e.g. `q4_k, q6_k`; none if all are packed.
    pub fn unpacked_formats(&self) -> Option<String> {
        let formats: Vec<&str> = self.unpacked.iter().copied().collect();
        (!formats.is_empty()).then(|| formats.join(", "))
    }

    /// One layer over the residual in `buffers`; what its MLP adds is left in `buffers.delta`.
    fn run_layer(&mut self, index: usize, shape: &AttentionShape, on: bool, observer: &mut dyn Observer) -> Result<()> {
        let (ops, arch) = (&self.operators, &self.architecture);
        let (layer, cache) = (&self.layers[index], &mut self.caches[index]);
        let Buffers { residual, normed, qkv, attended, delta, gates, activated, partials, input, .. } =
            &mut self.buffers;
        let AttentionShape { batch, queries, position, heads, kv_heads, head_dim, .. } = *shape;
        let (eps, hidden) = (arch.rms_norm_eps as f32, arch.hidden_size as u32);
        let count = batch * queries;
        let rows = count as u32;
        let stride = arch.q_width() + 2 * arch.kv_width();
        let (q_end, k_end) = (arch.q_width(), arch.q_width() + arch.kv_width());

        // The first layer has nothing to add yet.
        if index == 0 {
            let norm = Operator::RmsNorm { rows, width: hidden };
            operator!(observer, on, InputLayernorm, norm, ops.rms_norm(residual, &layer.input_layernorm, eps, normed));
        } else {
            let norm = Operator::AddRmsNorm { rows, width: hidden };
            operator!(
                observer,
                on,
                InputLayernorm,
                norm,
                ops.add_rms_norm(residual, delta, &layer.input_layernorm, eps, normed)
            );
        }
        if on {
            observer.begin(Span::Module(Module::SelfAttn));
        }
        let mut x = Input::new(normed, count, input);
        match &layer.qkv {
            Qkv::One(projection) => {
                let operator = linear_operator(rows, projection);
                operator!(observer, on, QkvProj, operator, ops.project(projection, &mut x, qkv, stride))?;
            }
            Qkv::Three(projections) => {
                let [q, k, v] = &**projections;
                operator!(observer, on, QProj, linear_operator(rows, q), ops.project(q, &mut x, qkv, stride))?;
                let at = &mut qkv[q_end..];
                operator!(observer, on, KProj, linear_operator(rows, k), ops.project(k, &mut x, at, stride))?;
                let at = &mut qkv[k_end..];
                operator!(observer, on, VProj, linear_operator(rows, v), ops.project(v, &mut x, at, stride))?;
            }
        }
        let head_width = head_dim as u32;
        if let (Some(q_norm), Some(k_norm)) = (&layer.q_norm, &layer.k_norm) {
            let norm = Operator::RmsNorm { rows: rows * heads as u32, width: head_width };
            operator!(observer, on, QNorm, norm, ops.norm_heads(qkv, stride, 0..q_end, q_norm, eps));
            let norm = Operator::RmsNorm { rows: rows * kv_heads as u32, width: head_width };
            operator!(observer, on, KNorm, norm, ops.norm_heads(qkv, stride, q_end..k_end, k_norm, eps));
        }
        let (heads, kv_heads) = (heads as u32, kv_heads as u32);
        let rotate = Operator::RopeKvWrite { rows, heads, kv_heads, head_dim: head_width, cache: cache.format() };
        operator!(observer, on, RotaryEmb, rotate, ops.rope_write(qkv, &self.rope, cache, shape))?;
        let attention = Operator::Attention {
            batch: batch as u32,
            queries: queries as u32,
            kv_len: (position + queries) as u32,
            heads,
            kv_heads,
            head_dim: head_width,
            window: arch.sliding_window.unwrap_or(0) as u32,
            cache: cache.format(),
        };
        operator!(observer, on, SelfAttn, attention, ops.attention(qkv, cache, shape, partials, attended));
        let mut x = Input::new(attended, count, input);
        let (o_proj, width) = (&layer.o_proj, arch.hidden_size);
        operator!(observer, on, OProj, linear_operator(rows, o_proj), ops.project(o_proj, &mut x, delta, width))?;
        if on {
            observer.end();
        }
        let norm = Operator::AddRmsNorm { rows, width: hidden };
        operator!(
            observer,
            on,
            PostAttentionLayernorm,
            norm,
            ops.add_rms_norm(residual, delta, &layer.post_attention_layernorm, eps, normed)
        );
        if on {
            observer.begin(Span::Module(Module::Mlp));
        }
        let mut x = Input::new(normed, count, input);
        match &layer.gate_up {
            GateUp::One(gated) => {
                let (width, weight) = (gated.width() as u32, gated.format());
                let operator = Operator::GatedLinear { rows, inner: hidden, width, weight };
                operator!(observer, on, GateUpProj, operator, ops.project_gated(gated, &mut x, activated))?;
            }
            GateUp::Two(projections) => {
                let [gate, up] = &**projections;
                let width = arch.intermediate_size;
                gates.resize(count * width, 0.0);
                operator!(
                    observer,
                    on,
                    GateProj,
                    linear_operator(rows, gate),
                    ops.project(gate, &mut x, gates, width)
                )?;
                operator!(observer, on, UpProj, linear_operator(rows, up), ops.project(up, &mut x, activated, width))?;
                let activation = Operator::SiluMul { rows, width: width as u32 };
                operator!(observer, on, ActFn, activation, ops.silu_mul(gates, activated, width));
            }
        }
        let mut x = Input::new(activated, count, input);
        let down_proj = &layer.down_proj;
        operator!(
            observer,
            on,
            DownProj,
            linear_operator(rows, down_proj),
            ops.project(down_proj, &mut x, delta, width)
        )?;
        if on {
            observer.end();
        }
        Ok(())
    }
}

/// Takes and packs the weights of layer `index`.
fn layer(architecture: &Architecture, operators: &FusedOperators, names: &mut Names, index: usize) -> Result<Layer> {
    let name = |part: &str| format!("model.layers.{index}.{part}");
    let norm = |names: &mut Names, part: &str| {
        if architecture.qk_norm { names.vector(&name(part)).map(Some) } else { Ok(None) }
    };
    let (q_norm, k_norm) = (norm(names, "self_attn.q_norm.weight")?, norm(names, "self_attn.k_norm.weight")?);
    let mut parts = Vec::with_capacity(3);
    for part in ["q", "k", "v"] {
        parts.push(names.linear(&name(&format!("self_attn.{part}_proj")), architecture.qkv_bias)?);
    }
    let qkv = match operators.pack(parts)? {
        Ok(projection) => Qkv::One(projection),
        Err(parts) => {
            let mut projections = Vec::with_capacity(3);
            for (weight, bias) in parts {
                projections.push(operators.projection(weight, bias)?);
            }
            let Ok(projections) = <[Projection; 3]>::try_from(projections) else { bail!("q, k and v are three") };
            Qkv::Three(Box::new(projections))
        }
    };
    let (gate, _) = names.linear(&name("mlp.gate_proj"), false)?;
    let (up, _) = names.linear(&name("mlp.up_proj"), false)?;
    let gate_up = match operators.pack_gated(gate, up)? {
        Ok(gated) => GateUp::One(gated),
        Err((gate, up)) => GateUp::Two(Box::new([operators.projection(gate, None)?, operators.projection(up, None)?])),
    };
    let (o_weight, o_bias) = names.linear(&name("self_attn.o_proj"), architecture.o_bias)?;
    let (down, _) = names.linear(&name("mlp.down_proj"), false)?;
    Ok(Layer {
        input_layernorm: names.vector(&name("input_layernorm.weight"))?,
        qkv,
        q_norm,
        k_norm,
        o_proj: operators.projection(o_weight, o_bias)?,
        post_attention_layernorm: names.vector(&name("post_attention_layernorm.weight"))?,
        gate_up,
        down_proj: operators.projection(down, None)?,
    })
}

/// The operator of one projection.
fn linear_operator(rows: u32, projection: &Projection) -> Operator {
    Operator::Linear {
        rows,
        inner: projection.inner() as u32,
        outer: projection.outer() as u32,
        weight: projection.format(),
        bias: projection.has_bias(),
    }
}

impl CausalLm for FusedDecoder {
    fn forward(&mut self, tokens: &Tensor, position: usize, observer: &mut dyn Observer) -> Result<Tensor> {
        let (batch, queries) = tokens.dims2()?;
        if position + queries > self.capacity {
            bail!("the KV cache has room for {} positions, not {}", self.capacity, position + queries);
        }
        let on = observer.wants_operators();
        let arch = &self.architecture;
        let (count, hidden) = (batch * queries, arch.hidden_size);
        let (rows, width, eps) = (count as u32, hidden as u32, arch.rms_norm_eps as f32);
        let shape = AttentionShape {
            batch,
            queries,
            position,
            heads: arch.num_heads,
            kv_heads: arch.num_kv_heads,
            head_dim: arch.head_dim,
            window: arch.sliding_window,
        };
        let buffers = &mut self.buffers;
        buffers.ids = tokens.flatten_all()?.to_vec1::<u32>()?;
        for (buffer, width) in [
            (&mut buffers.residual, hidden),
            (&mut buffers.normed, hidden),
            (&mut buffers.delta, hidden),
            (&mut buffers.qkv, arch.q_width() + 2 * arch.kv_width()),
            (&mut buffers.attended, arch.q_width()),
            (&mut buffers.activated, arch.intermediate_size),
        ] {
            // A step after a prompt is shorter; memory is kept for the next prompt.
            buffer.resize(count * width, 0.0);
        }
        let embedding = Operator::Embedding { rows, width, weight: self.embed_tokens.format() };
        let (ids, residual) = (&buffers.ids, &mut buffers.residual);
        operator!(observer, on, EmbedTokens, embedding, self.operators.embedding(&self.embed_tokens, ids, residual))?;
        for index in 0..self.layers.len() {
            if on {
                observer.begin(Span::Layer(index as u32));
            }
            let result = self.run_layer(index, &shape, on, observer);
            if on {
                observer.end();
            }
            result?;
        }
        let (ops, buffers) = (&self.operators, &mut self.buffers);
        let Buffers { residual, delta, normed, input, .. } = buffers;
        // Only the last position of each sequence is needed for the next token.
        let normed = &mut normed[..batch * hidden];
        if queries == 1 {
            let operator = Operator::AddRmsNorm { rows, width };
            operator!(observer, on, Norm, operator, ops.add_rms_norm(residual, delta, &self.norm, eps, normed));
        } else {
            operator!(observer, on, Residual, Operator::Add { rows, width }, ops.add(residual, delta, hidden));
            for sequence in 1..=batch {
                let last = (sequence * queries - 1) * hidden;
                residual.copy_within(last..last + hidden, (sequence - 1) * hidden);
            }
            let operator = Operator::RmsNorm { rows: batch as u32, width };
            let residual = &residual[..batch * hidden];
            operator!(observer, on, Norm, operator, ops.rms_norm(residual, &self.norm, eps, normed));
        }
        let vocabulary = self.lm_head.outer();
        // The caller keeps the logits, so their memory cannot be ours.
        let mut logits = vec![0.0; batch * vocabulary];
        let mut x = Input::new(normed, batch, input);
        let head = linear_operator(batch as u32, &self.lm_head);
        operator!(observer, on, LmHead, head, ops.project(&self.lm_head, &mut x, &mut logits, vocabulary))?;
        self.filled = position + queries;
        Tensor::from_vec(logits, (batch, vocabulary), &Device::Cpu)
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
        let allocated = self.caches.iter().map(BlockedCache::allocated_bytes).sum();
        (allocated, self.caches.iter().map(|cache| cache.bytes(self.filled)).sum())
    }
    fn kv_format(&self) -> Format {
        self.caches.first().map_or(Format::F32, BlockedCache::format)
    }
    fn compute_format(&self) -> Format {
        Format::F32
    }
    fn is_instrumented(&self) -> bool {
        true
    }
}
