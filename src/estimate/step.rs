//! The operators of one forward pass, in the order the engine issues them.
//!
//! This module enumerates; closed forms of the same totals are derived apart from it in [`super::flops`].

use std::collections::BTreeMap;

use super::architecture::{Architecture, Moe};
use super::format::Format;
use super::operator::Operator;
use super::parameters::{layer_weight, moe_names};

/// How each weight is stored, by its Hugging Face name.
#[derive(Debug, Clone, PartialEq)]
pub struct WeightFormats {
    default: Format,
    by_name: BTreeMap<String, Format>,
}

impl WeightFormats {
    /// Every matrix stored as `format`.
    pub fn uniform(format: Format) -> Self {
        Self { default: format, by_name: BTreeMap::new() }
    }
    /// `by_name` (e.g. `model.layers.0.self_attn.q_proj.weight`), and `default` for names not in it.
    pub fn from_names(default: Format, by_name: BTreeMap<String, Format>) -> Self {
        Self { default, by_name }
    }
    /// How `name` is stored.
    pub fn of(&self, name: &str) -> Format {
        self.by_name.get(name).copied().unwrap_or(self.default)
    }
    /// How the LM head is stored: as `lm_head.weight` where it is named, else, for tied models, as the embedding.
    pub fn of_lm_head(&self, architecture: &Architecture) -> Format {
        match self.by_name.get("lm_head.weight") {
            Some(format) => *format,
            None if architecture.tie_word_embeddings => self.of("model.embed_tokens.weight"),
            None => self.default,
        }
    }
}

/// One forward pass. `batch × queries × heads` must stay below 2³², as [`Operator`] counts rows in 32 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepShape {
    /// Sequences.
    pub batch: u32,
    /// New positions of each: the prompt length in prefill, 1 in decode.
    pub queries: u32,
    /// Positions in the cache after the pass.
    pub kv_len: u32,
}

/// Layer (`None` outside the layers), Hugging Face module name, operator.
pub type StepOperator = (Option<u32>, &'static str, Operator);

/// The operators of one forward pass and the sampling after it, in the order the engine issues them.
///
/// The LM head sees the last position of each sequence only. A mixture of experts is enumerated as routed evenly: `rows ×
/// experts_per_token` assignments over as many experts as they can reach, the first ones; a real router reaches as many or fewer.
pub fn operators_of_step(
    architecture: &Architecture,
    shape: StepShape,
    weights: &WeightFormats,
    cache: Format,
) -> Vec<StepOperator> {
    let hidden = dim(architecture.hidden_size);
    let rows = shape.batch * shape.queries;
    let mut operators = Vec::with_capacity(architecture.num_layers * 18 + 4);
    let embedding = weights.of("model.embed_tokens.weight");
    operators.push((None, "embed_tokens", Operator::Embedding { rows, width: hidden, weight: embedding }));
    for layer in 0..architecture.num_layers {
        let mut issue = Issue { operators: &mut operators, layer, weights };
        attention_block(&mut issue, architecture, shape, cache);
        issue.push("post_attention_layernorm", Operator::RmsNorm { rows, width: hidden });
        match &architecture.moe {
            None => {
                let names = ["gate_proj", "up_proj", "act_fn", "down_proj"];
                mlp(&mut issue, architecture, "mlp", names, rows, architecture.intermediate_size);
            }
            Some(moe) => experts(&mut issue, architecture, moe, rows),
        }
        issue.push("residual", Operator::Add { rows, width: hidden });
    }
    let (last, vocab) = (shape.batch, dim(architecture.vocab_size));
    let head = weights.of_lm_head(architecture);
    operators.push((None, "norm", Operator::RmsNorm { rows: last, width: hidden }));
    let lm_head = Operator::Linear { rows: last, inner: hidden, outer: vocab, weight: head, bias: false };
    operators.push((None, "lm_head", lm_head));
    operators.push((None, "sampler", Operator::Sample { rows: last, width: vocab }));
    operators
}

/// Appends the operators of one layer.
struct Issue<'a> {
    operators: &'a mut Vec<StepOperator>,
    layer: usize,
    weights: &'a WeightFormats,
}

impl Issue<'_> {
    fn push(&mut self, module: &'static str, operator: Operator) {
        self.operators.push((Some(dim(self.layer)), module, operator));
    }
    /// A projection stored as `tensor` (without layer prefix and `.weight`).
    fn linear(&mut self, module: &'static str, tensor: &str, rows: u32, inner: usize, outer: usize, bias: bool) {
        let weight = self.weights.of(&layer_weight(self.layer, tensor));
        self.push(module, Operator::Linear { rows, inner: dim(inner), outer: dim(outer), weight, bias });
    }
}

fn attention_block(issue: &mut Issue<'_>, architecture: &Architecture, shape: StepShape, cache: Format) {
    let (hidden, head_dim) = (architecture.hidden_size, dim(architecture.head_dim));
    let (heads, kv_heads) = (dim(architecture.num_heads), dim(architecture.num_kv_heads));
    let (q_width, kv_width) = (architecture.q_width(), architecture.kv_width());
    let StepShape { batch, queries, kv_len } = shape;
    let rows = batch * queries;
    issue.push("input_layernorm", Operator::RmsNorm { rows, width: dim(hidden) });
    issue.linear("q_proj", "self_attn.q_proj", rows, hidden, q_width, architecture.qkv_bias);
    issue.linear("k_proj", "self_attn.k_proj", rows, hidden, kv_width, architecture.qkv_bias);
    issue.linear("v_proj", "self_attn.v_proj", rows, hidden, kv_width, architecture.qkv_bias);
    if architecture.qk_norm {
        issue.push("q_norm", Operator::RmsNorm { rows: rows * heads, width: head_dim });
        issue.push("k_norm", Operator::RmsNorm { rows: rows * kv_heads, width: head_dim });
    }
    issue.push("rotary_emb", Operator::Rope { rows, heads: heads + kv_heads, head_dim });
    issue.push("self_attn", Operator::KvWrite { rows, width: dim(kv_width), cache });
    let window = architecture.sliding_window.map_or(0, dim);
    let attention = Operator::Attention { batch, queries, kv_len, heads, kv_heads, head_dim, window, cache };
    issue.push("self_attn", attention);
    issue.linear("o_proj", "self_attn.o_proj", rows, q_width, hidden, architecture.o_bias);
    issue.push("residual", Operator::Add { rows, width: dim(hidden) });
}

/// Gate and up, activation, down; `modules` in that order. `tensor` is where the three matrices lie.
///
/// The activation of an ungated MLP is counted as the gated one of the same width: there is no such model in the engine, and it
/// touches neither model FLOPs nor weight bytes.
fn mlp(
    issue: &mut Issue<'_>,
    architecture: &Architecture,
    tensor: &str,
    modules: [&'static str; 4],
    rows: u32,
    width: usize,
) {
    let names = moe_names(architecture);
    // Only the experts of Mixtral are called w1, w3, w2.
    let [gate, up, down] =
        if tensor.contains(".experts.") { names.projections } else { ["gate_proj", "up_proj", "down_proj"] };
    let hidden = architecture.hidden_size;
    if architecture.gated_mlp {
        issue.linear(modules[0], &format!("{tensor}.{gate}"), rows, hidden, width, false);
    }
    issue.linear(modules[1], &format!("{tensor}.{up}"), rows, hidden, width, false);
    issue.push(modules[2], Operator::SiluMul { rows, width: dim(width) });
    issue.linear(modules[3], &format!("{tensor}.{down}"), rows, width, hidden, false);
}

fn experts(issue: &mut Issue<'_>, architecture: &Architecture, moe: &Moe, rows: u32) {
    let names = moe_names(architecture);
    let (hidden, block) = (architecture.hidden_size, names.block);
    issue.linear("router", &format!("{block}.gate"), rows, hidden, moe.num_experts, false);
    issue.push("router", Operator::Routing { rows, experts: dim(moe.num_experts) });
    let assignments = rows * dim(moe.experts_per_token);
    let active = assignments.min(dim(moe.num_experts));
    for expert in 0..active {
        // The first few take one more where the assignments do not divide.
        let share = assignments / active + u32::from(expert < assignments % active);
        let tensor = format!("{block}.experts.{expert}");
        mlp(issue, architecture, &tensor, ["experts"; 4], share, moe.expert_intermediate_size);
    }
    issue.push("experts", Operator::Add { rows: assignments, width: dim(hidden) });
    if moe.shared_intermediate_size > 0 {
        if names.shared_gate {
            issue.linear("router", &format!("{block}.shared_expert_gate"), rows, hidden, 1, false);
        }
        let tensor = format!("{block}.{}", names.shared);
        let modules = ["gate_proj", "up_proj", "act_fn", "down_proj"];
        mlp(issue, architecture, &tensor, modules, rows, moe.shared_intermediate_size);
        issue.push("experts", Operator::Add { rows, width: dim(hidden) });
    }
}

/// Sizes are bounded by [`Architecture::validate`] far below 2³².
fn dim(size: usize) -> u32 {
    u32::try_from(size).expect("validated sizes fit in 32 bits")
}
