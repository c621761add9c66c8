//! Closed forms: FLOPs and bytes of a forward pass and of a whole generation, derived by hand from the architecture.
//!
//! Nothing here adds up operators: [`super::step`] and [`super::operator`] do that, and tests hold the two equal, number by number.
//!
//! With T = batch × queries rows, H hidden, I intermediate, Q = heads × head_dim, K = kv_heads × head_dim, L layers, V vocabulary,
//! w the window (∞ without one), the model FLOPs of a pass are (PaLM, arXiv 2204.02311 appendix B, without its causal-mask
//! shortcut left open: masked pairs are not counted here)
//!
//! ```text
//! L · T · (4·H·Q + 4·H·K + 6·H·I + biases)      projections and gated MLP
//! + L · batch · 4 · Q · pairs                    scores and weighted sum
//! + batch · 2 · H · V                            LM head, last position only
//! pairs = f(kv_len) − f(kv_len − queries),  f(n) = Σᵢ₌₁ⁿ min(i, w) = n(n+1)/2, or w(w+1)/2 + (n − w)·w beyond the window
//! ```

use serde::Serialize;

use super::architecture::Architecture;
use super::format::Format;
use super::parameters::{layer_weight, moe_names};
use super::step::WeightFormats;

/// How everything is stored.
#[derive(Debug, Clone, Copy)]
pub struct Storage<'a> {
    /// Matrices.
    pub weights: &'a WeightFormats,
    /// KV cache.
    pub cache: Format,
    /// Activations.
    pub activation: Format,
}

/// What one or several forward passes cost at the least. All counts are exact integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct PhaseCost {
    /// Forward passes.
    pub steps: u64,
    /// FLOPs of matrix products and attention: those MFU counts.
    pub model_flops: u64,
    /// All FLOPs, elementwise ones too.
    pub flops: u64,
    /// Weight bytes, each weight once per pass.
    pub weight_bytes: u64,
    /// KV-cache bytes read and written.
    pub kv_bytes: u64,
    /// Activation bytes read and written.
    pub activation_bytes: u64,
}

impl PhaseCost {
    /// The bytes that MBU counts: weights and KV cache.
    pub fn model_bytes(&self) -> u64 {
        self.weight_bytes + self.kv_bytes
    }
}

impl std::ops::Add for PhaseCost {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            steps: self.steps + other.steps,
            model_flops: self.model_flops + other.model_flops,
            flops: self.flops + other.flops,
            weight_bytes: self.weight_bytes + other.weight_bytes,
            kv_bytes: self.kv_bytes + other.kv_bytes,
            activation_bytes: self.activation_bytes + other.activation_bytes,
        }
    }
}

/// The sizes as 64-bit integers, under the letters of the formulas.
struct Sizes {
    h: u64,
    q: u64,
    k: u64,
    d: u64,
    l: u64,
    v: u64,
    window: u64,
    mlp_matrices: u64,
}

impl Sizes {
    fn of(architecture: &Architecture) -> Self {
        Self {
            h: architecture.hidden_size as u64,
            q: architecture.q_width() as u64,
            k: architecture.kv_width() as u64,
            d: architecture.head_dim as u64,
            l: architecture.num_layers as u64,
            v: architecture.vocab_size as u64,
            window: architecture.sliding_window.filter(|window| *window > 0).map_or(u64::MAX, |window| window as u64),
            mlp_matrices: if architecture.gated_mlp { 3 } else { 2 },
        }
    }
}

/// f(n) = Σᵢ₌₁ⁿ min(i, w): positions seen by the first `n` queries of one sequence.
pub fn visible_sum(n: u64, window: u64) -> u64 {
    let triangle = |n: u64| if n.is_multiple_of(2) { n / 2 * (n + 1) } else { n.div_ceil(2) * n };
    if n <= window { triangle(n) } else { triangle(window) + (n - window) * window }
}

/// The prompt pass: `prompt` tokens of `batch` sequences into an empty cache, and the first token sampled.
pub fn prefill(architecture: &Architecture, storage: Storage<'_>, batch: u64, prompt: u64) -> PhaseCost {
    step(architecture, storage, batch, prompt, prompt)
}

/// One decode step after which the cache holds `kv_len` positions.
pub fn decode_step(architecture: &Architecture, storage: Storage<'_>, batch: u64, kv_len: u64) -> PhaseCost {
    step(architecture, storage, batch, 1, kv_len)
}

/// The decode phase of a generation of `new_tokens`: `new_tokens` − 1 steps, with `prompt` + 1 … `prompt` + `new_tokens` − 1
/// positions in the cache.
pub fn decode(
    architecture: &Architecture,
    storage: Storage<'_>,
    batch: u64,
    prompt: u64,
    new_tokens: u64,
) -> PhaseCost {
    let steps = new_tokens.saturating_sub(1);
    if steps == 0 {
        return PhaseCost::default();
    }
    let sizes = Sizes::of(architecture);
    let last = prompt + steps;
    let seen = visible_sum(last, sizes.window) - visible_sum(prompt, sizes.window);
    // One query reads exactly the positions it sees, so pairs and positions read are the same sum.
    pass(architecture, &sizes, storage, batch, Pass { steps, queries: 1, pairs: seen, read: seen })
}

/// A whole generation: [`prefill`], then [`decode`].
pub fn generation(
    architecture: &Architecture,
    storage: Storage<'_>,
    batch: u64,
    prompt: u64,
    new_tokens: u64,
) -> PhaseCost {
    prefill(architecture, storage, batch, prompt) + decode(architecture, storage, batch, prompt, new_tokens)
}

/// One pass of `queries` new positions, after which the cache holds `kv_len`.
pub fn step(architecture: &Architecture, storage: Storage<'_>, batch: u64, queries: u64, kv_len: u64) -> PhaseCost {
    let sizes = Sizes::of(architecture);
    let past = kv_len - queries;
    let pairs = visible_sum(kv_len, sizes.window) - visible_sum(past, sizes.window);
    // The first new position still sees w − 1 positions before it; nothing older is read.
    let read = queries + past.min(sizes.window - 1);
    pass(architecture, &sizes, storage, batch, Pass { steps: 1, queries, pairs, read })
}

/// `steps` passes of the same size: `pairs` and `read` are sums over them, per sequence.
#[derive(Clone, Copy)]
struct Pass {
    steps: u64,
    queries: u64,
    pairs: u64,
    read: u64,
}

fn pass(architecture: &Architecture, sizes: &Sizes, storage: Storage<'_>, batch: u64, pass: Pass) -> PhaseCost {
    let Sizes { h, q, k, l, v, .. } = *sizes;
    let Pass { steps, queries, pairs, read } = pass;
    // Rows over all steps, and in one of them.
    let (rows, step_rows) = (steps * batch * queries, batch * queries);
    let last = steps * batch;
    let feed_forward = feed_forward(architecture, sizes, step_rows);
    let head_norm = u64::from(architecture.qk_norm);
    let biases = u64::from(architecture.qkv_bias) * (q + 2 * k) + u64::from(architecture.o_bias) * h;

    let projections = rows * (4 * h * q + 4 * h * k + biases) + steps * feed_forward.model_flops;
    let model_flops = l * (projections + 4 * batch * q * pairs) + 2 * last * h * v;
    // Norms 4, head norms 4, rotation 3, residual additions 1 per value.
    let elementwise = rows * (8 * h + (4 * head_norm + 3) * (q + k) + 2 * h) + steps * feed_forward.elementwise_flops;
    let flops = model_flops + l * elementwise + 4 * last * h + last * v;

    let weight_bytes = rows * storage.weights.of("model.embed_tokens.weight").bytes(h)
        + steps * (layer_weight_bytes(architecture, sizes, storage.weights, step_rows) + 4 * h)
        + steps * v * storage.weights.of_lm_head(architecture).bytes(h);
    // Keys and values: written once per new token, read once per pass.
    let kv_bytes = l * 2 * storage.cache.bytes(k) * (rows + batch * read);

    // Read and written, per row: two norms, q/k/v, head norms, rotation, cache write, attention, o, two additions.
    let layer_values = rows
        * (4 * h + (3 * h + q + 2 * k) + (2 * head_norm + 2) * (q + k) + 2 * k + 2 * q + (q + h) + 6 * h)
        + steps * feed_forward.activation_values;
    let values = rows * h + l * layer_values + last * (2 * h + h + v + v);
    PhaseCost {
        steps,
        model_flops,
        flops,
        weight_bytes,
        kv_bytes,
        activation_bytes: storage.activation.bytes(1) * values,
    }
}

/// The MLP or the experts of one layer in one pass of `rows` rows.
struct FeedForward {
    model_flops: u64,
    elementwise_flops: u64,
    activation_values: u64,
}

fn feed_forward(architecture: &Architecture, sizes: &Sizes, rows: u64) -> FeedForward {
    let (h, matrices) = (sizes.h, sizes.mlp_matrices);
    // Per row of width `width`: each matrix reads one side and writes the other; the activation reads two values and writes one.
    let block = |rows: u64, width: u64| FeedForward {
        model_flops: 2 * matrices * rows * h * width,
        elementwise_flops: 5 * rows * width,
        activation_values: rows * (matrices * (h + width) + 3 * width),
    };
    let Some(moe) = &architecture.moe else { return block(rows, architecture.intermediate_size as u64) };
    let (experts, per_token) = (moe.num_experts as u64, moe.experts_per_token as u64);
    let routed = block(rows * per_token, moe.expert_intermediate_size as u64);
    let mut all = FeedForward {
        model_flops: 2 * rows * h * experts + routed.model_flops,
        // Routing, and the sum of the experts' outputs.
        elementwise_flops: rows * experts + routed.elementwise_flops + rows * per_token * h,
        activation_values: rows * (h + experts)
            + 2 * rows * experts
            + routed.activation_values
            + 3 * rows * per_token * h,
    };
    if moe.shared_intermediate_size > 0 {
        let shared = block(rows, moe.shared_intermediate_size as u64);
        let gate = u64::from(moe_names(architecture).shared_gate);
        all.model_flops += shared.model_flops + gate * 2 * rows * h;
        all.elementwise_flops += shared.elementwise_flops + rows * h;
        all.activation_values += shared.activation_values + 3 * rows * h + gate * rows * (h + 1);
    }
    all
}

/// Weight bytes all layers read in one pass of `rows` rows: matrices in their formats, norms and biases in f32, and of the experts
/// as many as evenly routed rows reach.
fn layer_weight_bytes(architecture: &Architecture, sizes: &Sizes, formats: &WeightFormats, rows: u64) -> u64 {
    let Sizes { h, q, k, d, .. } = *sizes;
    let biases = u64::from(architecture.qkv_bias) * (q + 2 * k) + u64::from(architecture.o_bias) * h;
    let vectors = 2 * h + u64::from(architecture.qk_norm) * 2 * d + biases;
    (0..architecture.num_layers)
        .map(|layer| {
            let matrix =
                |name: &str, outer: u64, inner: u64| outer * formats.of(&layer_weight(layer, name)).bytes(inner);
            let block = |prefix: &str, [gate, up, down]: [&str; 3], width: u64| {
                let gate = if architecture.gated_mlp { matrix(&format!("{prefix}.{gate}"), width, h) } else { 0 };
                gate + matrix(&format!("{prefix}.{up}"), width, h) + matrix(&format!("{prefix}.{down}"), h, width)
            };
            let plain = ["gate_proj", "up_proj", "down_proj"];
            let feed_forward = match &architecture.moe {
                None => block("mlp", plain, architecture.intermediate_size as u64),
                Some(moe) => {
                    let names = moe_names(architecture);
                    let (prefix, width) = (names.block, moe.expert_intermediate_size as u64);
                    let active = (moe.num_experts as u64).min(rows * moe.experts_per_token as u64);
                    let routed: u64 = (0..active)
                        .map(|expert| block(&format!("{prefix}.experts.{expert}"), names.projections, width))
                        .sum();
                    let shared = match moe.shared_intermediate_size as u64 {
                        0 => 0,
                        width => {
                            let gate = if names.shared_gate {
                                matrix(&format!("{prefix}.shared_expert_gate"), 1, h)
                            } else {
                                0
                            };
                            gate + block(&format!("{prefix}.{}", names.shared), plain, width)
                        }
                    };
                    matrix(&format!("{prefix}.gate"), moe.num_experts as u64, h) + routed + shared
                }
            };
            let attention = matrix("self_attn.q_proj", q, h)
                + matrix("self_attn.k_proj", k, h)
                + matrix("self_attn.v_proj", k, h)
                + matrix("self_attn.o_proj", h, q);
            attention + feed_forward + Format::F32.bytes(vectors)
        })
        .sum()
}

#[cfg(test)]
#[path = "flops_tests.rs"]
mod tests;
