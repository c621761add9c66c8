//! The real model, greedy, against llama.cpp: SmolLM2-135M-Instruct, 24 prompts × at most 32 tokens.
//!
//! llama.cpp multiplies quantized weights with activations rounded to 8 bits; the engine keeps activations in f32. The exact truth for the
//! engine is therefore llama.cpp on the same weights as F32, whatever format the engine holds them in as long as it adds no rounding: the F32 file is
//! the Q4_1 file dequantized. Against llama.cpp's Q4_1 and Q8_0 answers only a tie within llama.cpp's own rounding may fall differently.
//!
//! Default: the 22 prompts of at most 60 ids, the first 10 tokens of each, on the Q4_1 file as it is. The rest is `#[ignore]`d for its time in unoptimised builds:
//! `cargo nextest run --release --test it --run-ignored only engine::greedy`.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests are tests, too")]

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{Device, Result, Tensor};
use perfprof::engine::generate::{FinishReason, GenerationPlan, generate};
use perfprof::engine::loader::{LoadRequest, LoadedModel, Source, load};
use perfprof::engine::models::CausalLm;
use perfprof::engine::models::decoder::{CachePlan, Decoder};
use perfprof::engine::models::fused::FusedDecoder;
use perfprof::engine::ops::fused::FusedOperators;
use perfprof::engine::sampling::SamplingPlan;
use perfprof::engine::threads::ThreadPool;
use perfprof::engine::tokenizer::Tokenizer;
use perfprof::estimate::architecture::Architecture;
use perfprof::estimate::format::Format;
use perfprof::instrument::observer::{NoObserver, Observer};
use serde::Deserialize;

use super::fixture::reference_operators;

/// Ids a prompt and its answer need at most (227 + 32), with room.
const CAPACITY: usize = 320;

#[derive(Deserialize)]
struct Answer {
    ids: Vec<u32>,
    gaps: Vec<Option<f64>>,
    text: String,
    stop: String,
}

#[derive(Deserialize)]
struct Prompt {
    name: String,
    #[serde(rename = "prompt_ids")]
    ids: Vec<u32>,
    answers: BTreeMap<String, Answer>,
}

#[derive(Deserialize)]
struct Reference {
    prompts: Vec<Prompt>,
}

fn prompts() -> Vec<Prompt> {
    let reference: Reference = serde_json::from_str(include_str!("../../data/greedy_smollm2.json")).unwrap();
    reference.prompts
}

/// A decoder that also keeps how far the largest logit was above the second at every pass: `log p(best) − log p(second)`.
struct Watched {
    decoder: Box<dyn CausalLm>,
    gaps: Vec<f64>,
}

impl CausalLm for Watched {
    fn forward(&mut self, tokens: &Tensor, position: usize, observer: &mut dyn Observer) -> Result<Tensor> {
        let logits = self.decoder.forward(tokens, position, observer)?;
        let mut sorted = logits.squeeze(0)?.to_vec1::<f32>()?;
        sorted.sort_unstable_by(|a, b| b.total_cmp(a));
        self.gaps.push(f64::from(sorted[0]) - f64::from(sorted[1]));
        Ok(logits)
    }
    fn reset(&mut self) -> Result<()> {
        self.gaps.clear();
        self.decoder.reset()
    }
    fn architecture(&self) -> &Architecture {
        self.decoder.architecture()
    }
    fn kv_cache_bytes(&self) -> (u64, u64) {
        self.decoder.kv_cache_bytes()
    }
    fn kv_format(&self) -> Format {
        self.decoder.kv_format()
    }
    fn compute_format(&self) -> Format {
        self.decoder.compute_format()
    }
    fn is_instrumented(&self) -> bool {
        true
    }
}

/// Which operators answer.
#[derive(Clone, Copy, PartialEq)]
enum Ops {
    Reference,
    Fused,
}

/// The model held as `dtype`, and its tokenizer; `None` with a message where it is not installed.
fn smollm2(dtype: Option<Format>, ops: Ops) -> Option<(Box<dyn CausalLm>, Tokenizer)> {
    let source = Source::Path(crate::tokenizer::smollm2()?);
    let LoadedModel { architecture, weights, tokenizer_source, .. } =
        load(&LoadRequest { source, dtype }, &Device::Cpu, &mut |_, _| {}).unwrap();
    let tokenizer = Tokenizer::from_source(&tokenizer_source, architecture.vocab_size).unwrap();
    let plan = CachePlan { batch: 1, capacity: CAPACITY, format: Format::F32 };
    let decoder: Box<dyn CausalLm> = match ops {
        Ops::Reference => Box::new(Decoder::new(architecture, &weights, reference_operators(2), plan).unwrap()),
        Ops::Fused => {
            let operators = FusedOperators::new(Arc::new(ThreadPool::new(2).unwrap()));
            Box::new(FusedDecoder::new(architecture, weights, operators, plan).unwrap())
        }
    };
    Some((decoder, tokenizer))
}

/// Free greedy generation from the prompt's text: the same tokens, end and text as llama.cpp on F32 weights, and at every step the same gap
/// between the two most likely tokens.
///
/// Measured over all 645 steps, with F32 weights and with the Q4_1 file as it is: all 24 answers equal, gaps equal to 6.4e-5, of which 5e-5 is
/// the rounding of the reference file to four digits. The bound leaves room for other instruction sets; the closest of llama.cpp's choices has
/// a gap of 0.0077.
fn equals_llama_cpp_on_f32(dtype: Option<Format>, ops: Ops, longest_prompt: usize, tokens: usize) {
    const GAP_BOUND: f64 = 5e-4;
    let Some((decoder, tokenizer)) = smollm2(dtype, ops) else { return };
    let mut model = Watched { decoder, gaps: Vec::new() };
    let mut worst = 0.0_f64;
    let prompts: Vec<Prompt> = prompts().into_iter().filter(|prompt| prompt.ids.len() <= longest_prompt).collect();
    assert!(prompts.len() >= 20);
    for prompt in &prompts {
        let (name, answer) = (&prompt.name, &prompt.answers["f32"]);
        let expected = &answer.ids[..tokens.min(answer.ids.len())];
        let plan = GenerationPlan {
            prompts: std::slice::from_ref(&prompt.ids),
            new_tokens: tokens,
            ignore_eos: false,
            eos_ids: tokenizer.eos_ids(),
            sampling: SamplingPlan::greedy(),
        };
        let generation = generate(&mut model, &plan, &Device::Cpu, &mut NoObserver, &|| true).unwrap();
        let found = &generation.tokens[0];
        let equal = found.iter().zip(expected).take_while(|(a, b)| a == b).count();
        assert!(found == expected, "{name}: {equal} of {} tokens equal, then {found:?}", expected.len());
        let ended = answer.stop == "eos" && answer.ids.len() < tokens;
        assert_eq!(generation.finish, if ended { FinishReason::Eos } else { FinishReason::Length }, "{name}");
        assert_eq!(generation.non_finite_logits, 0);
        let text = tokenizer.decode(found).unwrap();
        if tokens >= answer.ids.len() {
            assert_eq!(text, answer.text, "{name}");
        } else if !name.contains("unicode") {
            // Elsewhere characters end with tokens, so a part of the tokens is a part of the text.
            assert!(answer.text.starts_with(&text), "{name}: {text:?}");
        }
        for (step, (ours, theirs)) in model.gaps.iter().zip(&answer.gaps).enumerate() {
            let Some(theirs) = theirs else { continue };
            worst = worst.max((ours - theirs).abs());
            assert!((ours - theirs).abs() <= GAP_BOUND, "{name} step {step}: gap {ours}, llama.cpp's {theirs}");
        }
    }
    eprintln!("largest difference of the gaps: {worst:e} nats");
}

#[test]
fn the_q4_1_file_answers_22_prompts_as_llama_cpp_does_on_its_f32_weights() {
    equals_llama_cpp_on_f32(None, Ops::Reference, 60, 10);
}

#[test]
#[ignore = "minutes in an unoptimised build"]
fn whole_answers_of_the_q4_1_file() {
    equals_llama_cpp_on_f32(None, Ops::Reference, 300, 32);
}

#[test]
#[ignore = "minutes in an unoptimised build"]
fn whole_answers_of_the_dequantized_file() {
    equals_llama_cpp_on_f32(Some(Format::F32), Ops::Reference, 300, 32);
}

#[test]
#[ignore = "minutes in an unoptimised build"]
fn whole_answers_of_the_dequantized_file_by_the_fused_operators() {
    equals_llama_cpp_on_f32(Some(Format::F32), Ops::Fused, 300, 32);
}

/// Feeds llama.cpp's own answer for the format, token by token, and asks at each step whether the engine would have chosen the same.
///
/// What 8-bit activations do to llama.cpp's gaps can be read off its Q4_1 and F32 answers: up to the first token that differs they have the same
/// weights and inputs. `most_differing` and the gaps below stand on a run of this test; see the callers.
fn agrees_within_rounding(
    (dtype, ops): (Option<Format>, Ops),
    key: &str,
    (longest_prompt, tokens): (usize, usize),
    widest_tie: f64,
    most_differing: usize,
    fewest_whole: usize,
) {
    let Some((mut decoder, _)) = smollm2(dtype, ops) else { return };
    let (mut differing, mut steps, mut whole) = (0, 0, 0);
    let mut differences = Vec::new();
    for prompt in prompts().into_iter().filter(|prompt| prompt.ids.len() <= longest_prompt) {
        let answer = &prompt.answers[key];
        decoder.reset().unwrap();
        let mut input = prompt.ids.clone();
        let (mut position, before) = (0, differing);
        for (step, (id, gap)) in answer.ids.iter().zip(&answer.gaps).take(tokens).enumerate() {
            let tokens = Tensor::new(&input[..], &Device::Cpu).unwrap().unsqueeze(0).unwrap();
            let logits = decoder.forward(&tokens, position, &mut NoObserver).unwrap();
            let logits: Vec<f32> = logits.squeeze(0).unwrap().to_vec1().unwrap();
            let rival = (0..).zip(&logits).filter(|(other, _)| other != id).map(|(_, logit)| *logit);
            let ours = f64::from(logits[*id as usize]) - f64::from(rival.fold(f32::NEG_INFINITY, f32::max));
            if ours < 0.0 {
                differing += 1;
                let name = &prompt.name;
                assert!(gap.is_none_or(|gap| gap <= widest_tie), "{name} step {step}: {ours}, llama.cpp {gap:?}");
            }
            differences.extend(gap.map(|gap| (ours - gap).abs()));
            steps += 1;
            position += input.len();
            input = vec![*id];
        }
        whole += usize::from(differing == before);
    }
    differences.sort_unstable_by(f64::total_cmp);
    let (median, largest) = (differences[differences.len() / 2], differences[differences.len() - 1]);
    let found = format!(
        "{key}: {differing} of {steps} choices differ, {whole} answers whole; gaps differ by {median:.3} (median) to {largest:.3} nats"
    );
    eprintln!("{found}");
    assert!(differing <= most_differing && whole >= fewest_whole && median <= 0.15 && largest <= 1.5, "{found}");
}

/// Measured: 16 of 669 choices differ, where llama.cpp's gap is at most 0.427; 11 answers whole; gaps differ by 0.094 (median) to 1.11.
#[test]
#[ignore = "minutes in an unoptimised build"]
fn q4_1_differs_from_llama_cpp_only_within_its_8_bit_activations() {
    agrees_within_rounding((None, Ops::Reference), "q4_1", (300, 32), 0.5, 20, 9);
}

/// Measured: 21 of 671 choices differ, where llama.cpp's gap is at most 0.797; 9 answers whole; gaps differ by 0.101 (median) to 1.03.
#[test]
#[ignore = "minutes in an unoptimised build"]
fn q8_0_differs_from_llama_cpp_only_within_its_8_bit_activations() {
    agrees_within_rounding((Some(Format::Q8_0), Ops::Reference), "q8_0", (300, 32), 0.9, 26, 7);
}

/// The fused operators round activations to 8 bits, too (prompts to bf16 where the CPU has tiles), though not in the same places.
#[test]
fn the_fused_operators_answer_short_prompts_as_llama_cpp_does_within_8_bit_activations() {
    agrees_within_rounding((None, Ops::Fused), "q4_1", (40, 8), 0.5, 6, 6);
}

#[test]
#[ignore = "minutes in an unoptimised build"]
fn the_fused_operators_on_q4_1_differ_from_llama_cpp_only_within_8_bit_activations() {
    agrees_within_rounding((None, Ops::Fused), "q4_1", (300, 32), 0.5, 20, 9);
}

#[test]
#[ignore = "minutes in an unoptimised build"]
fn the_fused_operators_on_q8_0_differ_from_llama_cpp_only_within_8_bit_activations() {
    agrees_within_rounding((Some(Format::Q8_0), Ops::Fused), "q8_0", (300, 32), 0.9, 26, 7);
}
