//! Random small architectures: the CPU kernels against candle's operations, and both against f64.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests, too")]

use std::sync::Arc;

use candle_core::Device;
use perfprof::engine::ops::Operators;
use perfprof::engine::ops::tensor::TensorOperators;
use perfprof::estimate::architecture::{Architecture, Family, Rope};
use perfprof::estimate::format::Format;
use proptest::prelude::*;

use super::fixture::{decoder, dense, forward, llama, reference_operators, relative_error, sequences, tensors};
use super::reference;

fn architecture() -> impl Strategy<Value = Architecture> {
    let family = prop_oneof![Just(Family::Llama), Just(Family::Mistral), Just(Family::Qwen2), Just(Family::Qwen3)];
    let sizes = (1usize..70, 1usize..90, 1usize..4, 1usize..4, 1usize..4, 1usize..20, 2usize..90);
    let flags = any::<[bool; 4]>();
    let window = prop::option::of(1usize..20);
    let theta = prop_oneof![Just(100.0), Just(10_000.0), Just(1e6)];
    (family, sizes, flags, window, theta).prop_map(|(family, sizes, flags, sliding_window, theta)| {
        let (hidden_size, intermediate_size, num_layers, kv_heads, group, half_dim, vocab_size) = sizes;
        let [tie_word_embeddings, qkv_bias, o_bias, qk_norm] = flags;
        Architecture {
            family,
            hidden_size,
            intermediate_size,
            num_layers,
            num_heads: kv_heads * group,
            num_kv_heads: kv_heads,
            head_dim: 2 * half_dim,
            vocab_size,
            rope: Rope { theta, scaling: None },
            tie_word_embeddings,
            qkv_bias,
            o_bias,
            qk_norm,
            sliding_window,
            ..llama()
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Sizes of one included: a head of one pair, one hidden value, a window of one position.
    #[test]
    fn both_kinds_of_operators_compute_the_same_decoder(
        architecture in architecture(),
        batch in 1usize..4,
        prompt in 1usize..24,
        together in 1usize..5,
        threads in 1usize..4,
        seed in any::<u64>(),
    ) {
        let tensors = tensors(&architecture, seed);
        let weights = dense(&tensors);
        let length = prompt + 2 + together;
        let sequences = sequences(&architecture, batch, length, seed ^ 1);
        let candle: Arc<dyn Operators> = Arc::new(TensorOperators::new(Device::Cpu));
        let mut ours = decoder(&architecture, &weights, &reference_operators(threads), (batch, length), Format::F32);
        let mut theirs = decoder(&architecture, &weights, &candle, (batch, length), Format::F32);
        let truth: Vec<Vec<Vec<f64>>> =
            sequences.iter().map(|ids| reference::logits(&architecture, &tensors, ids, |value| value)).collect();
        for range in [0..prompt, prompt..prompt + 1, prompt + 1..prompt + 2, prompt + 2..length] {
            let expected: Vec<Vec<f64>> = truth.iter().map(|rows| rows[range.end - 1].clone()).collect();
            let found = forward(&mut ours, &sequences, range.clone());
            let candle = forward(&mut theirs, &sequences, range.clone());
            let between = relative_error(&found, &candle);
            prop_assert!(between <= 1e-4, "positions {range:?}: {between:e} between ours and candle's");
            let error = relative_error(&found, &expected);
            prop_assert!(error <= 1e-4, "positions {range:?}: ours off by {error:e}");
        }
    }
}
