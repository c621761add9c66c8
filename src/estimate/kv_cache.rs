//! Size of the KV cache.

use super::architecture::Architecture;
use super::format::Format;

/// Bytes of one token of one sequence over all layers: 2 · L · kv_heads · head_dim values (keys and values).
pub fn bytes_per_token(architecture: &Architecture, cache: Format) -> u64 {
    2 * architecture.num_layers as u64 * cache.bytes(architecture.kv_width() as u64)
}

/// Bytes of `batch` sequences of `tokens` positions, all of them kept: what the engine allocates.
pub fn bytes(architecture: &Architecture, cache: Format, batch: u64, tokens: u64) -> u64 {
    batch * tokens * bytes_per_token(architecture, cache)
}

/// Bytes a cache would need that forgets positions outside the sliding window (a ring buffer).
pub fn bytes_in_window(architecture: &Architecture, cache: Format, batch: u64, tokens: u64) -> u64 {
    let window = architecture.sliding_window.filter(|window| *window > 0).map_or(u64::MAX, |window| window as u64);
    bytes(architecture, cache, batch, tokens.min(window))
}

#[cfg(test)]
mod tests {
    use super::super::test_models::{llama_2_7b, llama_3_8b, mistral_7b};
    use super::*;

    #[test]
    fn bytes_per_token_are_those_of_the_literature() {
        // Llama-2-7B: 2 · 32 layers · 4096 · 2 bytes = 512 KiB; Llama-3-8B with 8 of 32 heads: a quarter, 128 KiB.
        assert_eq!(bytes_per_token(&llama_2_7b(), Format::F16), 524_288);
        assert_eq!(bytes_per_token(&llama_3_8b(), Format::BF16), 131_072);
        // q8_0: 34 bytes for 32 values.
        assert_eq!(bytes_per_token(&llama_3_8b(), Format::Q8_0), 2 * 32 * 1024 / 32 * 34);
    }

    #[test]
    fn a_window_bounds_what_must_be_kept() {
        let model = mistral_7b();
        assert_eq!(bytes(&model, Format::F16, 2, 10_000), 2 * 10_000 * 131_072);
        assert_eq!(bytes_in_window(&model, Format::F16, 2, 10_000), 2 * 4096 * 131_072);
        assert_eq!(bytes_in_window(&model, Format::F16, 2, 100), 2 * 100 * 131_072);
    }
}
