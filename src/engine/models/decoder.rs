//! Our own decoder for the Llama family, instrumented down to the operator.
//!
//! Llama 2/3, SmolLM2, Mistral, Qwen2 and Qwen3 differ in biases, q/k norms, rotary scaling, tied embeddings and windows only, so
//! one forward pass serves all. Every operator is announced to the observer with its dimensions before it runs.

use std::sync::Arc;

use candle_core::{Result, Tensor, bail};

use super::{CausalLm, rope};
use crate::engine::kv_cache::LayerCache;
use crate::engine::ops::{AttentionShape, Operators, RopeTable};
use crate::engine::weights::{Weight, WeightMap};
use crate::estimate::architecture::{Architecture, Family};
use crate::estimate::format::Format;
use crate::estimate::operator::Operator;
use crate::instrument::observer::{Module, Observer, Span};

/// A projection with its bias.
struct Linear {
    weight: Weight,
    bias: Option<Tensor>,
}

struct Layer {
    input_layernorm: Tensor,
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    q_norm: Option<Tensor>,
    k_norm: Option<Tensor>,
    o_proj: Linear,
    post_attention_layernorm: Tensor,
    gate_proj: Linear,
    up_proj: Linear,
    down_proj: Linear,
}

/// Memory the decoder sets aside.
#[derive(Debug, Clone, Copy)]
pub struct CachePlan {
    /// Sequences.
    pub batch: usize,
    /// Positions of each.
    pub capacity: usize,
    /// Storage of keys and values.
    pub format: Format,
}

/// See the module documentation.
pub struct Decoder {
    architecture: Architecture,
    operators: Arc<dyn Operators>,
    embed_tokens: Weight,
    layers: Vec<Layer>,
    norm: Tensor,
    lm_head: Linear,
    rope: RopeTable,
    caches: Vec<LayerCache>,
    filled: usize,
}

/// Runs `$body` as one operator span and passes its error on after the span is closed.
///
/// `$last` are tensors that this operator is the last to read: giving their memory back is part of it.
macro_rules! operator {
    ($observer:ident, $on:ident, $module:ident, $operator:expr, $body:expr $(, last $last:ident)*) => {{
        if $on {
            $observer.begin(Span::Operator(Module::$module, $operator));
        }
        let result = $body;
        $(drop($last);)*
        if $on {
            $observer.end();
        }
        result?
    }};
}

/// Takes weights out of a map by name.
struct Names<'a>(&'a WeightMap);

impl Names<'_> {
    fn weight(&self, name: &str) -> Result<Weight> {
        match self.0.0.get(name) {
            Some(weight) => Ok(weight.clone()),
            None => bail!("the model has no tensor `{name}`"),
        }
    }
    fn vector(&self, name: &str) -> Result<Tensor> {
        match self.weight(name)? {
            Weight::Dense(tensor) => Ok(tensor),
            Weight::Quantized(_) => bail!("`{name}` is quantized; norms and biases must be dense"),
        }
    }
    fn linear(&self, name: &str, bias: bool) -> Result<Linear> {
        let bias = if bias { Some(self.vector(&format!("{name}.bias"))?) } else { None };
        Ok(Linear { weight: self.weight(&format!("{name}.weight"))?, bias })
    }
}

impl Decoder {
    /// Whether this decoder can run `architecture`; if not, candle-transformers' own module has to.
    pub fn supports(architecture: &Architecture) -> bool {
        let known = matches!(architecture.family, Family::Llama | Family::Mistral | Family::Qwen2 | Family::Qwen3);
        known && architecture.moe.is_none() && architecture.gated_mlp && architecture.head_dim.is_multiple_of(2)
    }

    /// Builds the decoder over `weights` and allocates its cache.
    ///
    /// # Errors
    /// If a tensor is missing or the cache cannot be allocated.
    pub fn new(
        architecture: Architecture,
        weights: &WeightMap,
        operators: Arc<dyn Operators>,
        plan: CachePlan,
    ) -> Result<Self> {
        let names = Names(weights);
        let layers = (0..architecture.num_layers).map(|index| {
            let name = |part: &str| format!("model.layers.{index}.{part}");
            let norm = |part: &str| {
                if architecture.qk_norm { names.vector(&name(part)).map(Some) } else { Ok(None) }
            };
            Ok(Layer {
                input_layernorm: names.vector(&name("input_layernorm.weight"))?,
                q_proj: names.linear(&name("self_attn.q_proj"), architecture.qkv_bias)?,
                k_proj: names.linear(&name("self_attn.k_proj"), architecture.qkv_bias)?,
                v_proj: names.linear(&name("self_attn.v_proj"), architecture.qkv_bias)?,
                q_norm: norm("self_attn.q_norm.weight")?,
                k_norm: norm("self_attn.k_norm.weight")?,
                o_proj: names.linear(&name("self_attn.o_proj"), architecture.o_bias)?,
                post_attention_layernorm: names.vector(&name("post_attention_layernorm.weight"))?,
                gate_proj: names.linear(&name("mlp.gate_proj"), false)?,
                up_proj: names.linear(&name("mlp.up_proj"), false)?,
                down_proj: names.linear(&name("mlp.down_proj"), false)?,
            })
        });
        let layers = layers.collect::<Result<Vec<_>>>()?;
        let embed_tokens = names.weight("model.embed_tokens.weight")?;
        let lm_head = if architecture.tie_word_embeddings {
            Linear { weight: embed_tokens.clone(), bias: None }
        } else {
            names.linear("lm_head", false)?
        };
        let caches = (0..architecture.num_layers).map(|_| {
            let (kv_heads, head_dim) = (architecture.num_kv_heads, architecture.head_dim);
            operators.new_cache(plan.batch, kv_heads, plan.capacity, head_dim, plan.format)
        });
        let caches = caches.collect::<Result<Vec<_>>>()?;
        let rope = rope::table(&architecture.rope, architecture.head_dim, plan.capacity);
        let norm = names.vector("model.norm.weight")?;
        Ok(Self { architecture, operators, embed_tokens, layers, norm, lm_head, rope, caches, filled: 0 })
    }

    /// The operators in use.
    pub fn operators(&self) -> &Arc<dyn Operators> {
        &self.operators
    }
}

/// The operator of one linear.
fn linear_operator(rows: u32, linear: &Linear) -> Operator {
    let dims = linear.weight.dims();
    Operator::Linear {
        rows,
        inner: dims[1] as u32,
        outer: dims[0] as u32,
        weight: linear.weight.format(),
        bias: linear.bias.is_some(),
    }
}

impl CausalLm for Decoder {
    fn forward(&mut self, tokens: &Tensor, position: usize, observer: &mut dyn Observer) -> Result<Tensor> {
        let (batch, queries) = tokens.dims2()?;
        let Some(cache) = self.caches.first() else { bail!("the model has no layers") };
        let (capacity, cache_format) = (cache.capacity, cache.format);
        if position + queries > capacity {
            bail!("the KV cache has room for {capacity} positions, not {}", position + queries);
        }
        let on = observer.wants_operators();
        let arch = &self.architecture;
        let ops = &*self.operators;
        let (eps, hidden) = (arch.rms_norm_eps as f32, arch.hidden_size as u32);
        let rows = (batch * queries) as u32;
        let shape = AttentionShape {
            batch,
            queries,
            position,
            heads: arch.num_heads,
            kv_heads: arch.num_kv_heads,
            head_dim: arch.head_dim,
            window: arch.sliding_window,
        };
        let (heads, kv_heads, head_dim) = (arch.num_heads as u32, arch.num_kv_heads as u32, arch.head_dim as u32);
        let attention = Operator::Attention {
            batch: batch as u32,
            queries: queries as u32,
            kv_len: (position + queries) as u32,
            heads,
            kv_heads,
            head_dim,
            window: arch.sliding_window.unwrap_or(0) as u32,
            cache: cache_format,
        };
        let norm_operator = |rows: u32, width: u32| Operator::RmsNorm { rows, width };

        let embedding = Operator::Embedding { rows, width: hidden, weight: self.embed_tokens.format() };
        let mut x = operator!(observer, on, EmbedTokens, embedding, ops.embedding(&self.embed_tokens, tokens));
        for (index, (layer, cache)) in self.layers.iter().zip(&mut self.caches).enumerate() {
            if on {
                observer.begin(Span::Layer(index as u32));
            }
            let residual = x;
            let normed = operator!(
                observer,
                on,
                InputLayernorm,
                norm_operator(rows, hidden),
                ops.rms_norm(&residual, &layer.input_layernorm, eps)
            );
            if on {
                observer.begin(Span::Module(Module::SelfAttn));
            }
            let project = |linear: &Linear, x: &Tensor| ops.linear(x, &linear.weight, linear.bias.as_ref());
            let mut q =
                operator!(observer, on, QProj, linear_operator(rows, &layer.q_proj), project(&layer.q_proj, &normed));
            let mut k =
                operator!(observer, on, KProj, linear_operator(rows, &layer.k_proj), project(&layer.k_proj, &normed));
            let v = operator!(
                observer,
                on,
                VProj,
                linear_operator(rows, &layer.v_proj),
                project(&layer.v_proj, &normed),
                last normed
            );
            if let (Some(q_norm), Some(k_norm)) = (&layer.q_norm, &layer.k_norm) {
                let operator = norm_operator(rows * heads, head_dim);
                q = operator!(observer, on, QNorm, operator, ops.rms_norm(&q, q_norm, eps));
                let operator = norm_operator(rows * kv_heads, head_dim);
                k = operator!(observer, on, KNorm, operator, ops.rms_norm(&k, k_norm, eps));
            }
            let rotate = Operator::Rope { rows, heads: heads + kv_heads, head_dim };
            let (q, k) =
                operator!(observer, on, RotaryEmb, rotate, ops.rope(&q, &k, &self.rope, &shape), last q, last k);
            let write = Operator::KvWrite { rows, width: kv_heads * head_dim, cache: cache_format };
            operator!(observer, on, SelfAttn, write, ops.write_kv(cache, &k, &v, &shape), last k, last v);
            let attended = operator!(observer, on, SelfAttn, attention, ops.attention(&q, cache, &shape), last q);
            let projected = operator!(
                observer,
                on,
                OProj,
                linear_operator(rows, &layer.o_proj),
                project(&layer.o_proj, &attended),
                last attended
            );
            if on {
                observer.end();
            }
            let add = Operator::Add { rows, width: hidden };
            let residual =
                operator!(observer, on, Residual, add, ops.add(&residual, &projected), last residual, last projected);
            let normed = operator!(
                observer,
                on,
                PostAttentionLayernorm,
                norm_operator(rows, hidden),
                ops.rms_norm(&residual, &layer.post_attention_layernorm, eps)
            );
            if on {
                observer.begin(Span::Module(Module::Mlp));
            }
            let gate = operator!(
                observer,
                on,
                GateProj,
                linear_operator(rows, &layer.gate_proj),
                project(&layer.gate_proj, &normed)
            );
            let up = operator!(
                observer,
                on,
                UpProj,
                linear_operator(rows, &layer.up_proj),
                project(&layer.up_proj, &normed),
                last normed
            );
            let activation = Operator::SiluMul { rows, width: arch.intermediate_size as u32 };
            let activated = operator!(observer, on, ActFn, activation, ops.silu_mul(&gate, &up), last gate, last up);
            let mlp = operator!(
                observer,
                on,
                DownProj,
                linear_operator(rows, &layer.down_proj),
                project(&layer.down_proj, &activated),
                last activated
            );
            if on {
                observer.end();
            }
            x = operator!(observer, on, Residual, add, ops.add(&residual, &mlp), last residual, last mlp);
            if on {
                observer.end();
            }
        }
        // Only the last position of each sequence is needed for the next token.
        let last = if queries == 1 {
            x
        } else {
            x.reshape((batch, queries, ()))?.narrow(1, queries - 1, 1)?.squeeze(1)?.contiguous()?
        };
        let operator = norm_operator(batch as u32, hidden);
        let normed = operator!(observer, on, Norm, operator, ops.rms_norm(&last, &self.norm, eps));
        let head = linear_operator(batch as u32, &self.lm_head);
        let logits = operator!(observer, on, LmHead, head, ops.linear(&normed, &self.lm_head.weight, None));
        self.filled = position + queries;
        logits.to_dtype(candle_core::DType::F32)
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
        let of = |positions: Option<usize>| {
            self.caches.iter().map(|cache| cache.bytes(positions.unwrap_or(cache.capacity))).sum()
        };
        (of(None), of(Some(self.filled)))
    }
    fn kv_format(&self) -> Format {
        self.caches.first().map_or(Format::F32, |cache| cache.format)
    }
    fn compute_format(&self) -> Format {
        self.operators.activation_format()
    }
    fn is_instrumented(&self) -> bool {
        true
    }
}
