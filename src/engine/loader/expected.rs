//! The tensors that follow from an architecture, by Hugging Face name and shape.
//!
//! One list serves three purposes: what a file must hold, what synthetic weights are made of, and what may be left unread.

use crate::estimate::architecture::Architecture;

/// What a tensor is for; it decides how it is held and how it is made up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Role {
    /// `embed_tokens` and `lm_head`.
    Vocabulary,
    /// A projection.
    Matrix,
    /// The scale of a norm.
    Norm,
    /// A bias.
    Bias,
}

/// One tensor the architecture needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::engine) struct Expected {
    /// The Hugging Face name.
    pub(in crate::engine) name: String,
    /// The shape, outermost first.
    pub(in crate::engine) dims: Vec<usize>,
    /// Its purpose.
    pub(in crate::engine) role: Role,
}

/// Every tensor of `architecture`, in the order a forward pass meets them.
pub(in crate::engine) fn tensors(architecture: &Architecture) -> Vec<Expected> {
    let shape = architecture;
    let (hidden, vocab) = (shape.hidden_size, shape.vocab_size);
    let mut list = Vec::new();
    let mut add = |name: String, dims: Vec<usize>, role: Role| list.push(Expected { name, dims, role });
    add("model.embed_tokens.weight".to_owned(), vec![vocab, hidden], Role::Vocabulary);
    for layer in 0..shape.num_layers {
        let mut add =
            |name: &str, dims: Vec<usize>, role: Role| add(format!("model.layers.{layer}.{name}"), dims, role);
        add("input_layernorm.weight", vec![hidden], Role::Norm);
        for (name, rows) in [("q", shape.q_width()), ("k", shape.kv_width()), ("v", shape.kv_width())] {
            add(&format!("self_attn.{name}_proj.weight"), vec![rows, hidden], Role::Matrix);
            if shape.qkv_bias {
                add(&format!("self_attn.{name}_proj.bias"), vec![rows], Role::Bias);
            }
        }
        if shape.qk_norm {
            add("self_attn.q_norm.weight", vec![shape.head_dim], Role::Norm);
            add("self_attn.k_norm.weight", vec![shape.head_dim], Role::Norm);
        }
        add("self_attn.o_proj.weight", vec![hidden, shape.q_width()], Role::Matrix);
        if shape.o_bias {
            add("self_attn.o_proj.bias", vec![hidden], Role::Bias);
        }
        add("post_attention_layernorm.weight", vec![hidden], Role::Norm);
        if let Some(moe) = &shape.moe {
            let width = moe.expert_intermediate_size;
            add("mlp.gate.weight", vec![moe.num_experts, hidden], Role::Matrix);
            for expert in 0..moe.num_experts {
                add_mlp(&mut add, &format!("mlp.experts.{expert}"), hidden, width, shape.gated_mlp);
            }
            if moe.shared_intermediate_size > 0 {
                add_mlp(&mut add, "mlp.shared_expert", hidden, moe.shared_intermediate_size, shape.gated_mlp);
            }
        } else {
            add_mlp(&mut add, "mlp", hidden, shape.intermediate_size, shape.gated_mlp);
        }
    }
    add("model.norm.weight".to_owned(), vec![hidden], Role::Norm);
    if !shape.tie_word_embeddings {
        add("lm_head.weight".to_owned(), vec![vocab, hidden], Role::Vocabulary);
    }
    list
}

fn add_mlp(add: &mut dyn FnMut(&str, Vec<usize>, Role), prefix: &str, hidden: usize, width: usize, gated: bool) {
    if gated {
        add(&format!("{prefix}.gate_proj.weight"), vec![width, hidden], Role::Matrix);
    }
    add(&format!("{prefix}.up_proj.weight"), vec![width, hidden], Role::Matrix);
    add(&format!("{prefix}.down_proj.weight"), vec![hidden, width], Role::Matrix);
}

#[cfg(test)]
pub(in crate::engine) mod tests {
    use super::*;
    use crate::estimate::architecture::{Family, Rope};

    /// A Llama small enough to write by hand, with grouped heads and a head width that is not `hidden / heads`.
    pub(in crate::engine) fn tiny() -> Architecture {
        Architecture {
            family: Family::Llama,
            hidden_size: 64,
            intermediate_size: 96,
            num_layers: 2,
            num_heads: 4,
            num_kv_heads: 2,
            head_dim: 32,
            vocab_size: 258,
            max_position_embeddings: 128,
            rms_norm_eps: 1e-5,
            rope: Rope { theta: 10_000.0, scaling: None },
            tie_word_embeddings: false,
            qkv_bias: false,
            o_bias: false,
            qk_norm: false,
            gated_mlp: true,
            sliding_window: None,
            moe: None,
        }
    }

    #[test]
    fn llama_3_8b_has_its_published_number_of_parameters() {
        let shape = Architecture {
            hidden_size: 4096,
            intermediate_size: 14336,
            num_layers: 32,
            num_heads: 32,
            num_kv_heads: 8,
            head_dim: 128,
            vocab_size: 128_256,
            ..tiny()
        };
        let list = tensors(&shape);
        let parameters: usize = list.iter().map(|tensor| tensor.dims.iter().product::<usize>()).sum();
        // The model card of Meta-Llama-3-8B counts 8 030 261 248; its index file lists 291 tensors.
        assert_eq!((parameters, list.len()), (8_030_261_248, 291));
    }
}
