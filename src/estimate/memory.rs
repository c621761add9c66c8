//! What fits: memory of a run, and the largest batch and context a device can hold.

use serde::Serialize;

use super::architecture::Architecture;
use super::flops::Storage;
use super::kv_cache;
use super::parameters::weights_bytes;

/// Memory of one run by use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MemoryNeed {
    /// All weights.
    pub weights_bytes: u64,
    /// KV cache for the whole context.
    pub kv_cache_bytes: u64,
    /// Activations of the largest pass, by the bound of [`activation_bytes`].
    pub activation_bytes: u64,
}

impl MemoryNeed {
    /// Sum of all.
    pub fn total_bytes(&self) -> u64 {
        self.weights_bytes.saturating_add(self.kv_cache_bytes).saturating_add(self.activation_bytes)
    }
}

/// Activations alive at once in a pass of `batch` × `queries` rows, at the widest point of a layer, plus the logits in f32.
///
/// Per row, in values of the activation format: the residual stream and the normalised input (2·H), and the larger of
/// attention (q, k, v and its output: 2·Q + 2·K) and the MLP (gate, up and their product: 3·I; of a mixture of experts, as many rows
/// as are routed). Attention scores are not counted: kernels that tile them (FlashAttention and every CPU kernel that walks the
/// cache row by row) never hold them whole.
pub fn activation_bytes(architecture: &Architecture, storage: Storage<'_>, batch: u64, queries: u64) -> u64 {
    let [h, q, k] = [architecture.hidden_size, architecture.q_width(), architecture.kv_width()].map(|size| size as u64);
    let live = if architecture.gated_mlp { 3 } else { 2 };
    let feed_forward = match &architecture.moe {
        None => live * architecture.intermediate_size as u64,
        Some(moe) => {
            let routed = moe.experts_per_token as u64 * (live * moe.expert_intermediate_size as u64 + h);
            routed.max(live * moe.shared_intermediate_size as u64)
        }
    };
    let row = storage.activation.bytes(1) * (2 * h + feed_forward.max(2 * q + 2 * k));
    let logits = 4 * architecture.vocab_size as u64;
    batch.saturating_mul(queries).saturating_mul(row).saturating_add(batch.saturating_mul(logits))
}

/// Memory of generating up to `context` positions after a prompt pass of `prompt` tokens.
pub fn need(architecture: &Architecture, storage: Storage<'_>, batch: u64, prompt: u64, context: u64) -> MemoryNeed {
    let weights = weights_bytes(architecture, storage.weights);
    need_with_weights(architecture, storage, weights, batch, prompt, context)
}

fn need_with_weights(
    architecture: &Architecture,
    storage: Storage<'_>,
    weights_bytes: u64,
    batch: u64,
    prompt: u64,
    context: u64,
) -> MemoryNeed {
    let token = kv_cache::bytes_per_token(architecture, storage.cache);
    MemoryNeed {
        weights_bytes,
        kv_cache_bytes: batch.saturating_mul(context).saturating_mul(token),
        activation_bytes: activation_bytes(architecture, storage, batch, prompt),
    }
}

/// The most sequences of `context` positions (prompt pass of `prompt` tokens) that fit `memory_bytes`; 0 if not even one does.
pub fn max_batch(
    architecture: &Architecture,
    storage: Storage<'_>,
    memory_bytes: u64,
    prompt: u64,
    context: u64,
) -> u64 {
    let weights = weights_bytes(architecture, storage.weights);
    largest(|batch| {
        need_with_weights(architecture, storage, weights, batch, prompt, context).total_bytes() <= memory_bytes
    })
}

/// The longest context of `batch` sequences that fits `memory_bytes`, with the whole of it able to come in one prompt pass of at
/// most `max_prompt` tokens; 0 if none does. What the model was made for is a limit of its own
/// (`max_position_embeddings`) and not applied here.
pub fn max_context(
    architecture: &Architecture,
    storage: Storage<'_>,
    memory_bytes: u64,
    batch: u64,
    max_prompt: u64,
) -> u64 {
    let weights = weights_bytes(architecture, storage.weights);
    largest(|context| {
        let prompt = context.min(max_prompt);
        need_with_weights(architecture, storage, weights, batch, prompt, context).total_bytes() <= memory_bytes
    })
}

/// The largest n ≥ 1 with `fits(n)`, or 0; `fits` must stay false once it is.
fn largest(fits: impl Fn(u64) -> bool) -> u64 {
    if !fits(1) {
        return 0;
    }
    let mut low = 1u64;
    let mut high = 2u64;
    while fits(high) {
        low = high;
        high *= 2;
        if high >= 1 << 50 {
            return low;
        }
    }
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if fits(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::super::format::Format;
    use super::super::step::WeightFormats;
    use super::super::test_models::llama_3_8b;
    use super::*;

    fn bf16(weights: &WeightFormats) -> Storage<'_> {
        Storage { weights, cache: Format::BF16, activation: Format::BF16 }
    }

    #[test]
    fn llama_3_8b_on_24_gib_by_hand() {
        let (model, weights) = (llama_3_8b(), WeightFormats::uniform(Format::BF16));
        let storage = bf16(&weights);
        // 8,030,261,248 parameters · 2 bytes, and 65 norms of 4096 at two bytes more each.
        assert_eq!(weights_bytes(&model, &weights), 16_060_522_496 + 65 * 4096 * 2);
        let memory = 24u64 << 30;
        let batch = max_batch(&model, storage, memory, 1, 8192);
        // 25,769,803,776 − 16,061,054,976 = 9,708,748,800 left; one sequence takes 8192 · 131072 for its cache, 2 · (2·4096 +
        // 3·14336) for its row and 4 · 128256 for its logits: 1,074,357,248 in all. That goes in nine times.
        assert_eq!(batch, 9_708_748_800 / 1_074_357_248);
        assert_eq!(batch, 9);
    }

    #[test]
    fn the_largest_fits_and_one_more_does_not() {
        let (model, weights) = (llama_3_8b(), WeightFormats::uniform(Format::Q8_0));
        let storage = bf16(&weights);
        for memory in [1u64 << 30, 9 << 30, 10 << 30, 80 << 30, 640 << 30] {
            let context = max_context(&model, storage, memory, 3, 2048);
            let fits = |context: u64| need(&model, storage, 3, context.min(2048), context).total_bytes() <= memory;
            assert!(context == 0 || fits(context));
            assert!(!fits(context + 1));
        }
        assert_eq!(max_context(&model, storage, 1 << 30, 1, 2048), 0);
    }
}
