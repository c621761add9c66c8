//! The generation loop: lengths, ends, batches, seeds, repeats, limits, poisoned weights, threads.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests, too")]

use std::cell::Cell;

use candle_core::{DType, Device, Result, Tensor};
use perfprof::engine::generate::{FinishReason, Generation, GenerationPlan, generate};
use perfprof::engine::models::CausalLm;
use perfprof::engine::models::decoder::Decoder;
use perfprof::engine::sampling::SamplingPlan;
use perfprof::engine::weights::{Weight, WeightMap};
use perfprof::estimate::architecture::Architecture;
use perfprof::estimate::format::Format;
use perfprof::instrument::observer::NoObserver;

use super::fixture::{
    decoder, dense, every_operators, forward, llama, mistral, qwen2, qwen3, reference_operators, relative_error,
    sequences, tensors,
};
use super::reference;

fn plan(prompts: &[Vec<u32>], new_tokens: usize) -> GenerationPlan<'_> {
    GenerationPlan { prompts, new_tokens, ignore_eos: true, eos_ids: &[], sampling: SamplingPlan::greedy() }
}

fn try_run(model: &mut dyn CausalLm, plan: &GenerationPlan<'_>) -> Result<Generation> {
    generate(model, plan, &Device::Cpu, &mut NoObserver, &|| true)
}

fn run(model: &mut dyn CausalLm, plan: &GenerationPlan<'_>) -> Generation {
    try_run(model, plan).unwrap()
}

fn model(architecture: &Architecture, batch: usize, capacity: usize) -> Decoder {
    let weights = dense(&tensors(architecture, 1));
    decoder(architecture, &weights, &reference_operators(2), (batch, capacity), Format::F32)
}

/// Greedy continuation by the f64 reference, which keeps no cache.
fn greedy_in_f64(architecture: &Architecture, prompt: &[u32], new_tokens: usize) -> Vec<u32> {
    let tensors = tensors(architecture, 1);
    let mut ids = prompt.to_vec();
    for _ in 0..new_tokens {
        let logits = reference::logits(architecture, &tensors, &ids, |value| value).pop().unwrap();
        let best = (0..).zip(&logits).max_by(|a: &(u32, _), b| f64::total_cmp(a.1, b.1)).unwrap().0;
        ids.push(best);
    }
    ids.split_off(prompt.len())
}

#[test]
fn greedy_tokens_are_those_of_the_f64_reference() {
    for architecture in [llama(), Architecture { sliding_window: Some(4), ..mistral() }, qwen2(), qwen3()] {
        let prompts = sequences(&architecture, 2, 6, 9);
        let expected: Vec<Vec<u32>> = prompts.iter().map(|ids| greedy_in_f64(&architecture, ids, 12)).collect();
        let generation = run(&mut model(&architecture, 2, 18), &plan(&prompts, 12));
        assert_eq!(generation.tokens, expected, "{:?}", architecture.family);
    }
}

#[test]
fn lengths_are_exact_and_stamps_are_ordered() {
    let architecture = llama();
    for (batch, prompt, new) in [(1, 1, 1), (1, 1, 5), (2, 7, 1), (3, 4, 9)] {
        let prompts = sequences(&architecture, batch, prompt, 2);
        // The last token is chosen but never fed, so this is one position more than is filled.
        let mut model = model(&architecture, batch, prompt + new);
        let generation = run(&mut model, &plan(&prompts, new));
        assert!(generation.tokens.iter().all(|tokens| tokens.len() == new), "{batch} {prompt} {new}");
        assert_eq!((generation.tokens.len(), generation.decode.len()), (batch, new - 1));
        assert_eq!((generation.finish, generation.non_finite_logits), (FinishReason::Length, 0));
        let stamps: Vec<u64> = generation.token_stamps_ns().collect();
        assert_eq!(stamps.len(), new);
        assert!(stamps.windows(2).all(|pair| pair[0] <= pair[1]) && *stamps.last().unwrap() <= generation.total_ns);
        let mut end = generation.prefill.end_ns;
        for step in &generation.decode {
            assert!(end <= step.start_ns && step.start_ns <= step.end_ns);
            end = step.end_ns;
        }
        let (allocated, filled) = model.kv_cache_bytes();
        assert_eq!(filled * (prompt + new) as u64, allocated * (prompt + new - 1) as u64);
    }
}

#[test]
fn an_end_of_sequence_token_stops_only_where_it_is_heeded() {
    let architecture = llama();
    let prompts = sequences(&architecture, 2, 5, 3);
    let mut model = model(&architecture, 2, 20);
    let free = run(&mut model, &plan(&prompts, 12)).tokens;
    // A token that ends the first sequence at its fourth place, and one that ends the second later, so that the batch goes on between.
    let eos_of = |row: usize, place: usize| {
        let token = free[row][place];
        assert!(!free[row][..place].contains(&token) && !free[1 - row].contains(&token), "the seed fits: {free:?}");
        token
    };
    let eos = [eos_of(0, 3), eos_of(1, 7)];
    let ignoring = GenerationPlan { eos_ids: &eos, ..plan(&prompts, 12) };
    let generation = run(&mut model, &ignoring);
    assert_eq!((&generation.tokens, generation.finish), (&free, FinishReason::Length));

    let heeding = GenerationPlan { ignore_eos: false, ..ignoring };
    let generation = run(&mut model, &heeding);
    assert_eq!(generation.finish, FinishReason::Eos);
    assert_eq!(generation.tokens, [free[0][..4].to_vec(), free[1][..8].to_vec()]);
    assert_eq!(generation.decode.len(), 7, "the batch runs until its last sequence ends");

    let first = [eos[0]];
    let heeding = GenerationPlan { eos_ids: &first, ..heeding };
    let generation = run(&mut model, &heeding);
    assert_eq!(generation.tokens, [free[0][..4].to_vec(), free[1].clone()]);
    assert_eq!(generation.finish, FinishReason::Length);
}

#[test]
fn the_caller_can_stop_between_tokens() {
    let architecture = llama();
    let prompts = sequences(&architecture, 1, 5, 3);
    let mut model = model(&architecture, 1, 20);
    let whole = run(&mut model, &plan(&prompts, 12)).tokens;
    let asked = Cell::new(0);
    let keep_going = || {
        asked.set(asked.get() + 1);
        asked.get() <= 3
    };
    let generation = generate(&mut model, &plan(&prompts, 12), &Device::Cpu, &mut NoObserver, &keep_going).unwrap();
    assert_eq!((generation.finish, generation.tokens[0].as_slice()), (FinishReason::Stopped, &whole[0][..4]));
}

#[test]
fn rows_of_a_batch_do_not_see_each_other() {
    for architecture in [llama(), Architecture { sliding_window: Some(4), ..mistral() }, qwen2(), qwen3()] {
        let prompts = sequences(&architecture, 3, 9, 4);
        let together = run(&mut model(&architecture, 3, 24), &plan(&prompts, 15)).tokens;
        let mut single = model(&architecture, 1, 24);
        for (row, prompt) in prompts.iter().enumerate() {
            let alone = run(&mut single, &plan(std::slice::from_ref(prompt), 15)).tokens;
            assert_eq!(together[row], alone[0], "{:?} row {row}", architecture.family);
        }
        assert_ne!(together[0], together[1]);
    }
}

#[test]
fn a_repeat_starts_from_an_empty_cache() {
    let architecture = llama();
    let prompts = sequences(&architecture, 1, 9, 5);
    let other = sequences(&architecture, 1, 14, 6);
    let mut model = model(&architecture, 1, 24);
    let first = run(&mut model, &plan(&prompts, 10)).tokens;
    // A longer run with another prompt leaves other keys at every position.
    run(&mut model, &plan(&other, 10));
    assert_eq!(run(&mut model, &plan(&prompts, 10)).tokens, first);
    model.reset().unwrap();
    let reset = forward(&mut model, &prompts, 0..9);
    assert_eq!(reset, forward(&mut self::model(&architecture, 1, 24), &prompts, 0..9), "bit for bit");
}

#[test]
fn a_seed_decides_the_draws() {
    let architecture = llama();
    let prompts = sequences(&architecture, 2, 5, 7);
    let mut model = model(&architecture, 2, 40);
    let mut sampled = |temperature: f64, top_k: Option<usize>, seed: u64| {
        let sampling = SamplingPlan { temperature, top_k, top_p: None, seed };
        run(&mut model, &GenerationPlan { sampling, ..plan(&prompts, 30) }).tokens
    };
    let first = sampled(1.0, None, 11);
    assert_eq!(first, sampled(1.0, None, 11));
    assert_ne!(first, sampled(1.0, None, 12));
    let greedy = sampled(0.0, None, 11);
    assert_ne!(first, greedy);
    assert_eq!(sampled(1.0, Some(1), 11), greedy, "the best of one is the best");
    assert_eq!(sampled(1e-6, None, 11), greedy, "no heat, no choice");
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let architecture = llama();
    let prompts = sequences(&architecture, 1, 10, 8);
    let mut model = model(&architecture, 1, 16);
    assert_eq!(run(&mut model, &plan(&prompts, 6)).tokens[0].len(), 6, "prompt + new = capacity");
    // Seventeen tokens need sixteen positions: the last is not fed.
    assert_eq!(run(&mut model, &plan(&prompts, 7)).tokens[0].len(), 7);
    let error = |model: &mut Decoder, plan: &GenerationPlan<'_>| try_run(model, plan).unwrap_err().to_string();
    let overflow = error(&mut model, &plan(&prompts, 8));
    assert!(overflow.contains("room for 16 positions, not 17"), "{overflow}");
    let long = sequences(&architecture, 1, 17, 8);
    let overflow = error(&mut model, &plan(&long, 1));
    assert!(overflow.contains("room for 16 positions, not 17"), "{overflow}");
    for (prompts, new) in [(vec![], 3), (vec![vec![]], 3), (prompts.clone(), 0)] {
        let none = error(&mut model, &plan(&prompts, new));
        assert!(none.contains("at least one prompt token and one new token"), "{none}");
    }
    let ragged = error(&mut model, &plan(&[vec![1, 2], vec![3]], 2));
    assert!(ragged.contains("one length"), "{ragged}");
    let outside = error(&mut model, &plan(&[vec![5, 131]], 2));
    assert!(outside.contains("token 131"), "{outside}");
    let batch = try_run(&mut model, &plan(&[vec![1], vec![2]], 2));
    assert!(batch.is_err(), "two sequences in a cache for one");
    assert_eq!(run(&mut model, &plan(&prompts, 6)).tokens[0].len(), 6, "the model still works after all that");
}

/// E04 of the reliability list: a NaN in the weights must not pass for a result.
#[test]
fn poisoned_weights_are_counted() {
    let architecture = llama();
    for (name, at) in [
        ("model.layers.1.mlp.up_proj.weight", 40),
        ("model.layers.0.self_attn.k_proj.weight", 0),
        ("model.layers.2.self_attn.v_proj.weight", 7),
        ("model.norm.weight", 3),
    ] {
        for poison in [f32::NAN, f32::INFINITY] {
            let mut tensors = tensors(&architecture, 1);
            let mut values: Vec<f32> = tensors[name].flatten_all().unwrap().to_vec1().unwrap();
            values[at] = poison;
            let poisoned = Tensor::from_vec(values, tensors[name].dims(), &Device::Cpu).unwrap();
            tensors.insert(name.to_owned(), poisoned);
            for operators in every_operators() {
                let mut model = decoder(&architecture, &dense(&tensors), &operators, (2, 20), Format::F32);
                let generation = run(&mut model, &plan(&sequences(&architecture, 2, 11, 1), 3));
                let what = format!("{poison} in {name} on {}", operators.name());
                assert!(generation.non_finite_logits > 0, "{what} was not seen");
                assert_eq!(generation.tokens[0].len(), 3, "{what}");
            }
        }
    }
}

/// One row of the LM head gives exactly one bad logit per row and pass.
#[test]
fn bad_logits_are_counted_one_by_one() {
    let architecture = llama();
    let mut tensors = tensors(&architecture, 1);
    let head = &tensors["lm_head.weight"];
    let mut values: Vec<f32> = head.flatten_all().unwrap().to_vec1().unwrap();
    values[100 * 120 + 5] = f32::NAN;
    tensors.insert("lm_head.weight".into(), Tensor::from_vec(values, head.dims(), &Device::Cpu).unwrap());
    for operators in every_operators() {
        let mut model = decoder(&architecture, &dense(&tensors), &operators, (2, 20), Format::F32);
        let generation = run(&mut model, &plan(&sequences(&architecture, 2, 11, 1), 5));
        assert_eq!(generation.non_finite_logits, 2 * 5, "{}", operators.name());
        assert!(generation.tokens.iter().flatten().all(|token| *token != 100), "NaN is never the largest");
    }
}

/// Bit for bit, whatever the widths (172 and 201 leave a rest that fills no vector): each output value is summed by one thread, in an order that
/// does not depend on how rows are shared out.
#[test]
fn the_number_of_threads_changes_no_bit() {
    for architecture in [llama(), Architecture { sliding_window: Some(270), ..mistral() }] {
        for (intermediate_size, bound) in [(176, 0.0), (architecture.intermediate_size, 0.0)] {
            let architecture = Architecture { intermediate_size, ..architecture.clone() };
            let tensors = tensors(&architecture, 1);
            let half = |tensor: &Tensor| {
                let dtype = if tensor.rank() == 2 { DType::BF16 } else { DType::F32 };
                Weight::Dense(tensor.to_dtype(dtype).unwrap())
            };
            let halved = tensors.iter().map(|(name, tensor)| (name.clone(), half(tensor))).collect();
            for weights in [dense(&tensors), WeightMap(halved)] {
                // Long enough for several chunks of decode attention and several panels.
                let sequences = sequences(&architecture, 2, 310, 1);
                let passes = |threads: usize| {
                    let operators = reference_operators(threads);
                    let mut model = decoder(&architecture, &weights, &operators, (2, 310), Format::F32);
                    [0..290, 290..291, 291..294, 294..310].map(|range| forward(&mut model, &sequences, range))
                };
                let one = passes(1);
                for threads in [2, 3] {
                    for (pass, (found, expected)) in passes(threads).iter().zip(&one).enumerate() {
                        let error = relative_error(found, expected);
                        let what = format!("{:?} of width {intermediate_size}", architecture.family);
                        assert!(error <= bound, "{what}, pass {pass}: {threads} threads differ from one by {error:e}");
                    }
                }
            }
        }
    }
}
