//! What a kernel does, in the words of a person who tunes LLM inference.

use serde::{Deserialize, Serialize};

macro_rules! classes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal),* $(,)?) => {
        /// What a kernel does. Ordered as tables list classes of equal time.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum KernelClass {
            $($(#[doc = $doc])+ $variant,)*
            /// No rule knows the name.
            #[default]
            Unclassified,
        }

        impl KernelClass {
            /// Every class, `Unclassified` last.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)* Self::Unclassified];

            /// Name in files and tables, e.g. `attention_decode`.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                    Self::Unclassified => "unclassified",
                }
            }
            /// What the class holds, in a sentence.
            pub fn description(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!($($doc),+).trim_ascii_start(),)*
                    Self::Unclassified => "No rule knows the name.",
                }
            }
        }
    };
}

classes! {
    /// Matrix times matrix, dense or with quantised weights, batched or not.
    Gemm = "gemm",
    /// Matrix times one vector (or a handful of columns) or dot product, dense or quantised: the linear layers of small-batch decode.
    Gemv = "gemv",
    /// Second pass of a split-K or stream-K product: adds partial sums, sometimes with the epilogue.
    GemmReduce = "gemm_reduce",
    /// Grouped product of the experts of a mixture-of-experts layer.
    MoeGemm = "moe_gemm",
    /// Routing of a mixture of experts: gate top-k, alignment, permutation, weighted sum of the experts' outputs.
    MoeRouting = "moe_routing",
    /// Low-rank adapters (LoRA): shrink and expand products.
    Lora = "lora",
    /// Attention made for many query tokens at once (prefill, extend, chunked prefill).
    AttentionPrefill = "attention_prefill",
    /// Attention made for one or a few query tokens of each sequence (decode).
    AttentionDecode = "attention_decode",
    /// Attention whose name does not say whether it serves prefill or decode.
    Attention = "attention",
    /// Second pass of a split attention: merges partial outputs by their log-sum-exp.
    AttentionCombine = "attention_combine",
    /// Chooses what a sparse attention reads: index scores over cached tokens and their selection.
    AttentionIndex = "attention_index",
    /// Writes keys and values into the cache.
    KvWrite = "kv_write",
    /// Layer norm, RMS norm and relatives, with a fused residual addition, rotation or quantisation or without.
    Norm = "norm",
    /// Rotary position embedding.
    Rope = "rope",
    /// Activation function, gated (SwiGLU, GeGLU) or not.
    Activation = "activation",
    /// Softmax on its own, outside fused attention and sampling.
    Softmax = "softmax",
    /// From logits to a token: top-k, top-p, argmax, multinomial, penalties, verification of drafted tokens.
    Sampling = "sampling",
    /// Embedding lookup, index select, gather.
    Gather = "gather",
    /// Index put, scatter, index add.
    Scatter = "scatter",
    /// Converts to a narrower format with scales.
    Quantize = "quantize",
    /// Expands quantised weights or activations to a floating-point format.
    Dequantize = "dequantize",
    /// Changes the number format without scales.
    Cast = "cast",
    /// Arithmetic, comparison or selection on each element, fused or not.
    Elementwise = "elementwise",
    /// Moves elements unchanged: copy, transpose, concatenation, split, padding, weight repacking.
    Copy = "copy",
    /// Writes one value or a simple pattern: fill, zero, arange.
    Fill = "fill",
    /// Sum, mean, maximum and other reductions.
    Reduction = "reduction",
    /// Prefix sum and other scans.
    Scan = "scan",
    /// Sorting, and top-k selection whose purpose the name does not say.
    Sort = "sort",
    /// Convolution, its data transforms and its offset tables.
    Convolution = "convolution",
    /// Pooling and resampling.
    Pooling = "pooling",
    /// State-space and other recurrent layers (Mamba, RWKV, gated delta rule, linear attention) with their causal convolution.
    Ssm = "ssm",
    /// Collective or point-to-point communication between GPUs.
    Communication = "communication",
    /// Prepares a step: positions, slot mapping, block tables, attention plans and masks.
    InputPreparation = "input_preparation",
    /// Random numbers.
    Random = "random",
    /// Fourier and Walsh-Hadamard transforms.
    Fft = "fft",
    /// Loss functions.
    Loss = "loss",
    /// Copies between memories (not a kernel unless the driver uses one).
    Memcpy = "memcpy",
    /// Memory sets (not a kernel unless the driver uses one).
    Memset = "memset",
}

impl std::fmt::Display for KernelClass {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.pad(self.name())
    }
}

/// Kind of a communication kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Collective {
    /// All-reduce, fused with a norm or not.
    AllReduce,
    /// All-gather.
    AllGather,
    /// Reduce-scatter.
    ReduceScatter,
    /// Broadcast.
    Broadcast,
    /// Reduce to one rank.
    Reduce,
    /// Send and receive; all-to-all of NCCL runs as this.
    SendRecv,
    /// All-to-all, and dispatch and combine of expert parallelism.
    AllToAll,
    /// Synchronisation of ranks without payload.
    Barrier,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_class_is_how_it_is_serialised() {
        for class in KernelClass::ALL {
            assert_eq!(serde_json::to_string(class).unwrap(), format!("\"{}\"", class.name()));
            assert!(class.description().ends_with('.') && !class.description().starts_with(' '));
        }
        assert_eq!(KernelClass::default(), KernelClass::Unclassified);
    }
}
