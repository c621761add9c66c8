//! The decoder of `engine.ops=fused` on a GPU, its kernels run on the host: against the reference decoder in f32, kernel by kernel and as a graph.
//!
//! What a real device adds is the device: `perfprof kernels check` and scripts/gpu/accept.sh say there what this says here.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests, too")]

use std::sync::Arc;

use perfprof::engine::generate::{Generation, GenerationPlan, generate};
use perfprof::engine::gpu::backend::SharedBackend;
use perfprof::engine::gpu::clock::EventClock;
use perfprof::engine::gpu::decoder::{GpuDecoder, unsupported};
use perfprof::engine::models::CausalLm;
use perfprof::engine::models::decoder::CachePlan;
use perfprof::engine::sampling::SamplingPlan;
use perfprof::engine::weights::WeightMap;
use perfprof::estimate::architecture::Architecture;
use perfprof::estimate::format::Format;
use perfprof::instrument::device_timer::DeviceTimer;
use perfprof::instrument::observer::NoObserver;
use perfprof::trace::timeline::{SpanKind, Timeline};

use super::fixture::{
    decoder, forward, llama, mistral, qwen2, qwen3, reference_operators, relative_error, sequences, tensors,
};
use super::fused::held;
use crate::emulated_gpu;

/// Widths the kernels take: heads in whole tiles, rows in whole blocks.
fn regular(architecture: Architecture) -> Architecture {
    Architecture { hidden_size: 128, intermediate_size: 192, head_dim: 32, num_layers: 2, ..architecture }
}

fn families() -> Vec<Architecture> {
    vec![
        regular(Architecture { num_heads: 8, num_kv_heads: 2, ..llama() }),
        regular(Architecture { sliding_window: Some(6), num_heads: 4, num_kv_heads: 1, ..mistral() }),
        regular(Architecture { num_heads: 7, num_kv_heads: 1, ..qwen2() }),
        regular(Architecture { num_heads: 3, num_kv_heads: 3, ..qwen3() }),
        regular(Architecture { o_bias: true, num_heads: 4, num_kv_heads: 2, ..llama() }),
    ]
}

fn gpu(
    backend: &SharedBackend,
    architecture: &Architecture,
    weights: &WeightMap,
    (batch, capacity): (usize, usize),
    half: Format,
    graph: bool,
) -> GpuDecoder {
    let plan = CachePlan { batch, capacity, format: half };
    GpuDecoder::new(architecture.clone(), weights.clone(), Arc::clone(backend), plan, graph).unwrap()
}

/// Largest difference of the logits from the f32 decoder over the same weights, relative to the largest logit: a prompt, single tokens, several tokens
/// at once, and a second generation in the same memory.
fn error_of(
    backend: &SharedBackend,
    architecture: &Architecture,
    weights: &WeightMap,
    batch: usize,
    half: Format,
) -> f64 {
    const LENGTH: usize = 26;
    let sequences = sequences(architecture, batch, LENGTH, 11);
    let passes = [0..19, 19..20, 20..21, 21..24, 24..25, 25..26];
    let mut reference = decoder(architecture, weights, &reference_operators(1), (batch, LENGTH), Format::F32);
    let mut model = gpu(backend, architecture, weights, (batch, LENGTH), half, false);
    let mut worst = 0.0_f64;
    for _ in 0..2 {
        reference.reset().unwrap();
        model.reset().unwrap();
        for range in &passes {
            let truth = forward(&mut reference, &sequences, range.clone());
            let error = relative_error(&forward(&mut model, &sequences, range.clone()), &truth);
            worst = if error.is_nan() || error > worst { error } else { worst };
        }
    }
    worst
}

/// bf16 keeps 8 bits: activations, keys and values are each off by up to 2⁻⁹, and the models of the tests are chosen to be sharp. f16 keeps 11.
#[test]
fn logits_are_those_of_the_f32_decoder_within_the_rounding_of_the_type() {
    let Some(backend) = emulated_gpu::shared() else { return };
    for (seed, architecture) in (1..).zip(families()) {
        let tensors = tensors(&architecture, seed);
        for (half, bound) in [(Format::F16, 1e-2), (Format::BF16, 8e-2)] {
            let weights = held(&tensors, half);
            for batch in [1, 3] {
                let error = error_of(&backend, &architecture, &weights, batch, half);
                assert!(error <= bound, "{:?} {half} batch {batch}: off by {error:e}", architecture.family);
                assert!(
                    error > 1e-6,
                    "{:?} {half}: as exact as f32, so it was not computed in {half}",
                    architecture.family
                );
            }
        }
    }
}

/// Batches beyond the vectors go through matrix products, their attention through the kernel without rotation.
#[test]
fn many_sequences_are_multiplied_as_a_matrix_and_give_the_same_logits() {
    let Some(backend) = emulated_gpu::shared() else { return };
    let architecture = &families()[2];
    let weights = held(&tensors(architecture, 7), Format::F16);
    let error = error_of(&backend, architecture, &weights, 9, Format::F16);
    assert!(error <= 1e-2, "off by {error:e}");
}

#[test]
fn quantized_weights_are_multiplied_as_they_are() {
    let Some(backend) = emulated_gpu::shared() else { return };
    let architecture = Architecture { intermediate_size: 256, ..families().remove(0) };
    let tensors = tensors(&architecture, 5);
    for format in [Format::Q8_0, Format::Q4_0, Format::Q4_1] {
        let weights = held(&tensors, format);
        // The reference multiplies quantized weights by activations in 8 bits; the same weights in f32 are the plainer truth.
        let plain = dequantized(&weights);
        const LENGTH: usize = 12;
        let sequences = sequences(&architecture, 2, LENGTH, 3);
        let mut reference = decoder(&architecture, &plain, &reference_operators(1), (2, LENGTH), Format::F32);
        let mut model = gpu(&backend, &architecture, &weights, (2, LENGTH), Format::F16, false);
        for range in [0..9, 9..10, 10..12] {
            let truth = forward(&mut reference, &sequences, range.clone());
            let error = relative_error(&forward(&mut model, &sequences, range), &truth);
            assert!(error <= 1e-2, "{format}: off by {error:e}");
        }
        assert!(model.notes().is_empty(), "{:?}", model.notes());
    }
    // A format without a kernel is held in 16 bits, and the record says so.
    let wide = Architecture { hidden_size: 256, num_heads: 8, intermediate_size: 256, ..architecture };
    let weights = held(&super::fixture::tensors(&wide, 6), Format::Q4K);
    let model = gpu(&backend, &wide, &weights, (1, 8), Format::F16, false);
    assert!(model.notes()[0].contains("q4_k are held as f16"), "{:?}", model.notes());
}

fn dequantized(weights: &WeightMap) -> WeightMap {
    use candle_core::Device;
    use perfprof::engine::weights::Weight;
    let plain = |weight: &Weight| match weight {
        Weight::Dense(tensor) => Weight::Dense(tensor.clone()),
        Weight::Quantized(tensor) => Weight::Dense(tensor.dequantize(&Device::Cpu).unwrap()),
    };
    WeightMap(weights.0.iter().map(|(name, weight)| (name.clone(), plain(weight))).collect())
}

fn generation(model: &mut dyn CausalLm, prompts: &[Vec<u32>], new_tokens: usize, sampling: SamplingPlan) -> Generation {
    let plan = GenerationPlan { prompts, new_tokens, ignore_eos: true, eos_ids: &[], sampling };
    generate(model, &plan, &candle_core::Device::Cpu, &mut NoObserver, &|| true).unwrap()
}

#[test]
fn a_recorded_step_gives_the_tokens_of_the_launches_it_was_recorded_from() {
    let Some(backend) = emulated_gpu::shared() else { return };
    for (seed, architecture) in (31..).zip(families()) {
        for batch in [1, 4] {
            let weights = held(&tensors(&architecture, seed), Format::BF16);
            let prompts = sequences(&architecture, batch, 7, seed);
            let room = (batch, 7 + 12);
            let mut eager = gpu(&backend, &architecture, &weights, room, Format::BF16, false);
            let mut graph = gpu(&backend, &architecture, &weights, room, Format::BF16, true);
            let expected = generation(&mut eager, &prompts, 12, SamplingPlan::greedy());
            // Twice: the graph recorded in the first generation must serve the second.
            for _ in 0..2 {
                let found = generation(&mut graph, &prompts, 12, SamplingPlan::greedy());
                assert_eq!(found.tokens, expected.tokens, "{:?} batch {batch}", architecture.family);
                assert_eq!(found.non_finite_logits, 0);
            }
            // Five launches a layer, two norms more where q and k have them; embedding, head and choice.
            let per_layer = if architecture.qk_norm { 7 } else { 5 };
            assert_eq!(graph.graph_nodes(), Some(architecture.num_layers * per_layer + 3));
            assert_eq!(eager.graph_nodes(), None);
        }
    }
}

/// Greedy on the device is the largest of the very logits the host would get.
#[test]
fn tokens_chosen_on_the_device_are_the_largest_of_its_logits() {
    let Some(backend) = emulated_gpu::shared() else { return };
    let architecture = &families()[0];
    let weights = held(&tensors(architecture, 3), Format::F16);
    let prompts = sequences(architecture, 2, 6, 9);
    let mut model = gpu(&backend, architecture, &weights, (2, 16), Format::F16, false);
    let chosen = generation(&mut model, &prompts, 8, SamplingPlan::greedy()).tokens;
    let mut rows = prompts.clone();
    for (row, tokens) in rows.iter_mut().zip(&chosen) {
        row.extend(tokens);
    }
    model.reset().unwrap();
    for step in 0..8 {
        let range = if step == 0 { 0..6 } else { 5 + step..6 + step };
        for (logits, tokens) in forward(&mut model, &rows, range).iter().zip(&chosen) {
            let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(logits[tokens[step] as usize], largest, "step {step}");
        }
    }
}

#[test]
fn sampling_on_the_device_follows_its_seed_and_its_temperature() {
    let Some(backend) = emulated_gpu::shared() else { return };
    let architecture = &families()[0];
    let weights = held(&tensors(architecture, 3), Format::F16);
    let prompts = sequences(architecture, 2, 4, 9);
    let plan = |temperature, seed| SamplingPlan { temperature, top_k: None, top_p: None, seed };
    for graph in [false, true] {
        let mut model = gpu(&backend, architecture, &weights, (2, 24), Format::F16, graph);
        let mut draw = |plan| generation(&mut model, &prompts, 20, plan).tokens;
        let first = draw(plan(1.0, 1));
        assert_eq!(first, draw(plan(1.0, 1)), "one seed, one draw");
        assert_ne!(first, draw(plan(1.0, 2)));
        assert_ne!(first[0], first[1], "sequences draw apart");
        // Where the largest logit has all of the weight, sampling is greedy.
        assert_eq!(draw(plan(1e-4, 3)), draw(SamplingPlan::greedy()));
    }
}

#[test]
fn phases_and_operators_are_stamped_on_the_stream() {
    let Some(backend) = emulated_gpu::virtual_clock(1_000) else { return };
    let architecture = &families()[0];
    let weights = held(&tensors(architecture, 3), Format::BF16);
    let prompts = sequences(architecture, 1, 5, 9);
    let mut model = gpu(&backend, architecture, &weights, (1, 16), Format::BF16, true);
    let clock = EventClock::new(Arc::clone(&backend), 8).unwrap();
    let mut timer = DeviceTimer::new(Box::new(clock), false, 0);
    let plan = GenerationPlan {
        prompts: &prompts,
        new_tokens: 6,
        ignore_eos: true,
        eos_ids: &[],
        sampling: SamplingPlan::greedy(),
    };
    let mut run = |timer: &mut DeviceTimer| {
        generate(&mut model, &plan, &candle_core::Device::Cpu, timer, &|| true).unwrap();
    };
    run(&mut timer);
    let phases = timer.phases().unwrap().unwrap();
    // One µs a launch on this clock: five a layer, and embedding, head and choice.
    let step = (architecture.num_layers as u64 * 5 + 3) * 1_000;
    assert_eq!(phases.decode_ns, [step; 5]);
    // A prompt's layer: norm, qkv, rotation, attention, output, norm, gate and up, activation, down; then norm, head and choice.
    assert_eq!(phases.prefill_ns, (architecture.num_layers as u64 * 9 + 4) * 1_000);
    assert_eq!(phases.total_ns, phases.prefill_ns + 5 * step);

    timer.restart(true);
    run(&mut timer);
    let mut timeline = Timeline::default();
    timer.append_to(&mut timeline, 0, Format::BF16).unwrap();
    let spans = &timeline.spans;
    let operators: Vec<usize> = (0..spans.len()).filter(|row| spans.kind[*row] == SpanKind::Operator).collect();
    // Every launch is one operator, and nothing runs outside of them.
    assert!(operators.iter().all(|row| spans.duration_ns(*row) == 1_000));
    let sum: u64 = operators.iter().map(|row| spans.duration_ns(*row)).sum();
    let phases: u64 =
        (0..spans.len()).filter(|row| spans.kind[*row] == SpanKind::Phase).map(|row| spans.duration_ns(row)).sum();
    assert_eq!(sum, phases);
    // Steps 1, 4 and 5 record operators: the prompt and three steps.
    let expected = architecture.num_layers * (9 + 3 * 5) + 4 + 3 * 3;
    assert_eq!(operators.len(), expected);
}

#[test]
fn what_the_kernels_cannot_run_is_refused_in_words() {
    let odd = |head_dim: usize| Architecture { head_dim, ..regular(llama()) };
    assert!(unsupported(&odd(32)).is_none());
    assert!(unsupported(&odd(20)).is_some_and(|reason| reason.contains("20")));
    assert!(unsupported(&odd(512)).is_some_and(|reason| reason.contains("512")));
    let narrow = Architecture { hidden_size: 120, ..regular(llama()) };
    assert!(unsupported(&narrow).is_some_and(|reason| reason.contains("120")));
    let Some(backend) = emulated_gpu::shared() else { return };
    let architecture = &families()[0];
    let weights = held(&tensors(architecture, 3), Format::F32);
    let plan = CachePlan { batch: 1, capacity: 8, format: Format::F32 };
    let refused = GpuDecoder::new(architecture.clone(), weights.clone(), Arc::clone(&backend), plan, false);
    assert!(refused.err().is_some_and(|error| error.to_string().contains("f16 and bf16")));
    let mut model = gpu(&backend, architecture, &weights, (1, 8), Format::F16, false);
    let tokens = sequences(architecture, 1, 9, 1);
    let error = model.forward(&super::fixture::part(&tokens, 0..9), 0, &mut NoObserver).unwrap_err();
    assert!(error.to_string().contains("room for 8 positions"), "{error}");
}
