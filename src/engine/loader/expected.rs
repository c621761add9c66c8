//! The tensors that follow from an architecture, as the loader needs them: with shape and purpose.
//!
//! The list itself is the analytic model's ([`weight_tensors`]); what a file must hold and what is counted must not drift apart.

use crate::estimate::architecture::Architecture;
use crate::estimate::parameters::weight_tensors;

/// What a tensor is for; it decides how it is made up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// A projection, the embedding or the LM head.
    Matrix,
    /// The scale of a norm.
    Norm,
    /// A bias.
    Bias,
}

/// One tensor the architecture needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expected {
    /// The Hugging Face name.
    pub(super) name: String,
    /// The shape, outermost first.
    pub(super) dims: Vec<usize>,
    /// Its purpose.
    pub(super) role: Role,
}

/// Every tensor of `architecture`.
pub(super) fn tensors(architecture: &Architecture) -> Vec<Expected> {
    weight_tensors(architecture)
        .into_iter()
        .map(|tensor| {
            let bias = tensor.name.rsplit('.').next() == Some("bias");
            let role = if tensor.cols.is_some() {
                Role::Matrix
            } else if bias {
                Role::Bias
            } else {
                Role::Norm
            };
            Expected { name: tensor.name, dims: std::iter::once(tensor.rows).chain(tensor.cols).collect(), role }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::estimate::architecture::{Family, Rope};

    /// A Llama small enough to write by hand, with grouped heads and a head width that is not `hidden / heads`.
    fn tiny() -> Architecture {
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
