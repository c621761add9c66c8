//! Weights by name and shape, how many parameters they are and how many bytes.

use super::architecture::Architecture;
use super::format::Format;
use super::step::WeightFormats;

/// One weight tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightTensor {
    /// Hugging Face name.
    pub name: String,
    /// Outputs of a matrix, or the length of a vector.
    pub rows: usize,
    /// Inputs of a matrix; `None` for a vector (norm weight or bias).
    pub cols: Option<usize>,
}

impl WeightTensor {
    /// Number of values.
    pub fn elements(&self) -> u64 {
        self.rows as u64 * self.cols.unwrap_or(1) as u64
    }
    /// Bytes: matrices row by row in their format, vectors in f32 as the engine holds them.
    pub fn bytes(&self, formats: &WeightFormats) -> u64 {
        match self.cols {
            Some(cols) => self.rows as u64 * formats.of(&self.name).bytes(cols as u64),
            None => Format::F32.bytes(self.rows as u64),
        }
    }
}

/// Names inside a mixture-of-experts block.
pub(super) struct MoeNames {
    pub(super) block: &'static str,
    /// Gate, up, down of an expert.
    pub(super) projections: [&'static str; 3],
    pub(super) shared: &'static str,
    /// Qwen2-MoE weighs its shared expert by a gate of one output.
    pub(super) shared_gate: bool,
}

pub(super) fn moe_names(architecture: &Architecture) -> MoeNames {
    match architecture.family.model_type() {
        "mixtral" => MoeNames {
            block: "block_sparse_moe",
            projections: ["w1", "w3", "w2"],
            shared: "shared_expert",
            shared_gate: false,
        },
        model_type => MoeNames {
            block: "mlp",
            projections: ["gate_proj", "up_proj", "down_proj"],
            shared: "shared_expert",
            shared_gate: model_type == "qwen2_moe",
        },
    }
}

/// `model.layers.<layer>.<tensor>.weight`.
pub(super) fn layer_weight(layer: usize, tensor: &str) -> String {
    format!("model.layers.{layer}.{tensor}.weight")
}

/// Every weight of the model, in file order; a tied LM head is not listed again.
pub fn weight_tensors(architecture: &Architecture) -> Vec<WeightTensor> {
    let (hidden, vocab) = (architecture.hidden_size, architecture.vocab_size);
    let (q_width, kv_width) = (architecture.q_width(), architecture.kv_width());
    let mut tensors = vec![matrix("model.embed_tokens.weight".to_owned(), vocab, hidden)];
    for layer in 0..architecture.num_layers {
        tensors.push(vector(layer_weight(layer, "input_layernorm"), hidden));
        for (name, outer, inner, bias) in [
            ("q_proj", q_width, hidden, architecture.qkv_bias),
            ("k_proj", kv_width, hidden, architecture.qkv_bias),
            ("v_proj", kv_width, hidden, architecture.qkv_bias),
            ("o_proj", hidden, q_width, architecture.o_bias),
        ] {
            tensors.push(matrix(layer_weight(layer, &format!("self_attn.{name}")), outer, inner));
            if bias {
                tensors.push(vector(format!("model.layers.{layer}.self_attn.{name}.bias"), outer));
            }
        }
        if architecture.qk_norm {
            tensors.push(vector(layer_weight(layer, "self_attn.q_norm"), architecture.head_dim));
            tensors.push(vector(layer_weight(layer, "self_attn.k_norm"), architecture.head_dim));
        }
        tensors.push(vector(layer_weight(layer, "post_attention_layernorm"), hidden));
        feed_forward(&mut tensors, architecture, layer);
    }
    tensors.push(vector("model.norm.weight".to_owned(), hidden));
    if !architecture.tie_word_embeddings {
        tensors.push(matrix("lm_head.weight".to_owned(), vocab, hidden));
    }
    tensors
}

fn matrix(name: String, rows: usize, cols: usize) -> WeightTensor {
    WeightTensor { name, rows, cols: Some(cols) }
}

fn vector(name: String, rows: usize) -> WeightTensor {
    WeightTensor { name, rows, cols: None }
}

fn feed_forward(tensors: &mut Vec<WeightTensor>, architecture: &Architecture, layer: usize) {
    let hidden = architecture.hidden_size;
    let mut block = |prefix: &str, [gate, up, down]: [&str; 3], width: usize| {
        if architecture.gated_mlp {
            tensors.push(matrix(layer_weight(layer, &format!("{prefix}.{gate}")), width, hidden));
        }
        tensors.push(matrix(layer_weight(layer, &format!("{prefix}.{up}")), width, hidden));
        tensors.push(matrix(layer_weight(layer, &format!("{prefix}.{down}")), hidden, width));
    };
    let plain = ["gate_proj", "up_proj", "down_proj"];
    let Some(moe) = &architecture.moe else {
        block("mlp", plain, architecture.intermediate_size);
        return;
    };
    let names = moe_names(architecture);
    for expert in 0..moe.num_experts {
        block(&format!("{}.experts.{expert}", names.block), names.projections, moe.expert_intermediate_size);
    }
    if moe.shared_intermediate_size > 0 {
        block(&format!("{}.{}", names.block, names.shared), plain, moe.shared_intermediate_size);
        if names.shared_gate {
            tensors.push(matrix(layer_weight(layer, &format!("{}.shared_expert_gate", names.block)), 1, hidden));
        }
    }
    tensors.push(matrix(layer_weight(layer, &format!("{}.gate", names.block)), moe.num_experts, hidden));
}

/// Bytes of all weights in memory: matrices in their formats, norms and biases in f32.
pub fn weights_bytes(architecture: &Architecture, formats: &WeightFormats) -> u64 {
    weight_tensors(architecture).iter().map(|tensor| tensor.bytes(formats)).sum()
}

/// Parameters as a polynomial of the sizes, e.g. for a dense Llama
/// `V·H·(2 − tied) + L·(2·H·Q + 2·H·K + 3·H·I + 2·H) + H` with Q = heads × head_dim and K = kv_heads × head_dim.
pub fn parameters(architecture: &Architecture) -> u64 {
    let [h, v, l] =
        [architecture.hidden_size, architecture.vocab_size, architecture.num_layers].map(|size| size as u64);
    let [q, k, d] = [architecture.q_width(), architecture.kv_width(), architecture.head_dim].map(|size| size as u64);
    let mlp_matrices = if architecture.gated_mlp { 3 } else { 2 };
    let feed_forward = match &architecture.moe {
        None => mlp_matrices * h * architecture.intermediate_size as u64,
        Some(moe) => {
            let [experts, width, shared] =
                [moe.num_experts, moe.expert_intermediate_size, moe.shared_intermediate_size].map(|size| size as u64);
            let gate = if shared > 0 && moe_names(architecture).shared_gate { h } else { 0 };
            experts * h + mlp_matrices * h * (experts * width + shared) + gate
        }
    };
    let biases = u64::from(architecture.qkv_bias) * (q + 2 * k) + u64::from(architecture.o_bias) * h;
    let head_norms = u64::from(architecture.qk_norm) * 2 * d;
    let layer = 2 * h * q + 2 * h * k + biases + head_norms + 2 * h + feed_forward;
    let embeddings = if architecture.tie_word_embeddings { v * h } else { 2 * v * h };
    embeddings + l * layer + h
}

/// Parameters one token passes through: those of [`parameters`] without the experts it is not sent to.
pub fn active_parameters(architecture: &Architecture) -> u64 {
    let idle = architecture.moe.as_ref().map_or(0, |moe| {
        let matrices = if architecture.gated_mlp { 3 } else { 2 };
        let idle = (moe.num_experts - moe.experts_per_token) as u64;
        architecture.num_layers as u64
            * idle
            * matrices
            * architecture.hidden_size as u64
            * moe.expert_intermediate_size as u64
    });
    parameters(architecture) - idle
}
