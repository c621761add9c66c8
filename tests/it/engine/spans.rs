//! What the engine tells an observer against what the analytic model says it should run, and the sum of the one against the closed forms of the
//! other: equal, not close.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests, too")]

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device};
use perfprof::engine::generate::{GenerationPlan, generate};
use perfprof::engine::sampling::SamplingPlan;
use perfprof::engine::weights::{Weight, WeightMap};
use perfprof::estimate::architecture::Architecture;
use perfprof::estimate::flops::{self, PhaseCost, Storage};
use perfprof::estimate::format::Format;
use perfprof::estimate::operator::Operator;
use perfprof::estimate::step::{StepOperator, StepShape, WeightFormats, operators_of_step};
use perfprof::instrument::observer::{Module, Observer, Phase, Span};

use super::fixture::{
    Tensors, decoder, every_operators, llama, mistral, qwen2, qwen3, reference_operators, sequences, tensors,
};

/// Operators by pass, and the nesting they stood in.
#[derive(Default)]
struct Recorder {
    open: Vec<Span>,
    passes: Vec<(Phase, u32, Vec<StepOperator>)>,
    modules: Vec<(Option<u32>, Module)>,
}

impl Observer for Recorder {
    fn wants_operators(&self) -> bool {
        true
    }
    fn begin(&mut self, span: Span) {
        let layer = self.open.iter().find_map(|span| if let Span::Layer(layer) = span { Some(*layer) } else { None });
        match span {
            Span::Phase(phase, step) => {
                assert!(self.open.is_empty(), "a phase inside {:?}", self.open);
                self.passes.push((phase, step, Vec::new()));
            }
            Span::Layer(_) => assert_eq!(self.open.len(), 1, "a layer inside {:?}", self.open),
            Span::Module(module) => {
                assert!(matches!(self.open.last(), Some(Span::Layer(_))), "a module inside {:?}", self.open);
                self.modules.push((layer, module));
            }
            Span::Operator(module, operator) => {
                assert!(!matches!(self.open.last(), None | Some(Span::Operator(..))), "{:?}", self.open);
                self.passes.last_mut().unwrap().2.push((layer, module.name(), operator));
            }
        }
        self.open.push(span);
    }
    fn end(&mut self) {
        self.open.pop().expect("every end has a begin");
    }
}

/// Weights held in different formats: blocks for the MLP, 16 bits for attention, Q8_0 for the embedding, as GGUF files mix them.
fn mixed(tensors: &Tensors) -> WeightMap {
    let hold = |name: &str, tensor: &candle_core::Tensor| {
        let columns = *tensor.dims().last().unwrap();
        let quantized = |kind| Weight::Quantized(Arc::new(QTensor::quantize(tensor, kind).unwrap()));
        if tensor.rank() == 1 {
            Weight::Dense(tensor.clone())
        } else if name.contains("embed") && columns.is_multiple_of(32) {
            quantized(GgmlDType::Q8_0)
        } else if name.contains("mlp") && columns.is_multiple_of(32) {
            quantized(GgmlDType::Q4_1)
        } else if name.contains("self_attn.v") {
            Weight::Dense(tensor.to_dtype(DType::F16).unwrap())
        } else {
            Weight::Dense(tensor.to_dtype(DType::BF16).unwrap())
        }
    };
    WeightMap(tensors.iter().map(|(name, tensor)| (name.clone(), hold(name, tensor))).collect())
}

fn total<'a>(operators: impl Iterator<Item = &'a StepOperator>, steps: u64) -> PhaseCost {
    let mut sum = PhaseCost { steps, ..PhaseCost::default() };
    for (_, _, operator) in operators {
        let cost = operator.cost(Format::F32);
        sum.flops += cost.flops;
        sum.model_flops += operator.model_flops();
        sum.weight_bytes += cost.weight_bytes;
        sum.kv_bytes += cost.kv_bytes;
        sum.activation_bytes += cost.activation_bytes;
    }
    sum
}

fn architectures() -> Vec<Architecture> {
    vec![
        llama(),
        Architecture { hidden_size: 64, intermediate_size: 160, o_bias: true, qkv_bias: true, ..llama() },
        Architecture { sliding_window: Some(6), ..mistral() },
        Architecture { sliding_window: Some(1), ..mistral() },
        qwen2(),
        qwen3(),
        Architecture { tie_word_embeddings: false, num_heads: 6, num_kv_heads: 2, ..qwen3() },
    ]
}

#[test]
fn the_spans_of_a_generation_are_the_operators_of_the_analytic_model_and_add_up_to_its_closed_forms() {
    for (seed, architecture) in (1..).zip(architectures()) {
        let weights = mixed(&tensors(&architecture, seed));
        let by_name: BTreeMap<String, Format> =
            weights.0.iter().map(|(name, weight)| (name.clone(), weight.format())).collect();
        let formats = WeightFormats::from_names(Format::F32, by_name);
        let mut distinct: Vec<&str> = weights.0.values().map(|weight| weight.format().name()).collect();
        distinct.sort_unstable();
        distinct.dedup();
        assert!(distinct.len() >= 3, "the formats are mixed: {distinct:?}");
        for (batch, prompt, new) in [(1, 9, 4), (2, 5, 6), (3, 1, 2), (1, 12, 1)] {
            for cache in [Format::F32, Format::F16] {
                let what = format!("{:?} batch {batch}, {prompt}+{new}, cache {cache}", architecture.family);
                let prompts = sequences(&architecture, batch, prompt, seed);
                let plan = GenerationPlan {
                    prompts: &prompts,
                    new_tokens: new,
                    ignore_eos: true,
                    eos_ids: &[],
                    sampling: SamplingPlan::greedy(),
                };
                let mut model = decoder(&architecture, &weights, &reference_operators(2), (batch, prompt + new), cache);
                let mut recorder = Recorder::default();
                generate(&mut model, &plan, &Device::Cpu, &mut recorder, &|| true).unwrap();

                assert!(recorder.open.is_empty(), "{what}: every begin has an end");
                assert_eq!(recorder.passes.len(), new, "{what}");
                for (step, (phase, number, operators)) in recorder.passes.iter().enumerate() {
                    let expected_phase = if step == 0 { Phase::Prefill } else { Phase::Decode };
                    assert_eq!((*phase, *number), (expected_phase, step as u32), "{what}");
                    let queries = if step == 0 { prompt } else { 1 };
                    let shape =
                        StepShape { batch: batch as u32, queries: queries as u32, kv_len: (prompt + step) as u32 };
                    let expected = operators_of_step(&architecture, shape, &formats, cache);
                    for (index, (found, expected)) in operators.iter().zip(&expected).enumerate() {
                        assert_eq!(found, expected, "{what}, pass {step}, operator {index}");
                    }
                    assert_eq!(operators.len(), expected.len(), "{what}, pass {step}");
                }
                let per_pass: Vec<(Option<u32>, Module)> = (0..architecture.num_layers as u32)
                    .flat_map(|layer| [(Some(layer), Module::SelfAttn), (Some(layer), Module::Mlp)])
                    .collect();
                assert_eq!(recorder.modules, per_pass.repeat(new), "{what}");

                let storage = Storage { weights: &formats, cache, activation: Format::F32 };
                let (batch, prompt, new) = (batch as u64, prompt as u64, new as u64);
                let prefill = flops::prefill(&architecture, storage, batch, prompt);
                assert_eq!(total(recorder.passes[0].2.iter(), 1), prefill, "{what}: prefill");
                let decode = flops::decode(&architecture, storage, batch, prompt, new);
                let decoded = recorder.passes[1..].iter().flat_map(|(_, _, operators)| operators);
                assert_eq!(total(decoded, new - 1), decode, "{what}: decode");
                let all = recorder.passes.iter().flat_map(|(_, _, operators)| operators);
                let generation = flops::generation(&architecture, storage, batch, prompt, new);
                assert_eq!(total(all, new), generation, "{what}: generation");
            }
        }
    }
}

/// The fused decoder says what it runs: its operators have the FLOPs, weight bytes and cache bytes of the closed forms to the last integer, model
/// FLOPs likewise; activation bytes are fewer by what fused operators do not hand on, counted here by hand.
#[test]
fn the_spans_of_the_fused_decoder_add_up_to_the_closed_forms_of_the_same_model() {
    for (seed, architecture) in (1..).zip(architectures()) {
        let dense = super::fixture::dense(&tensors(&architecture, seed));
        let formats = WeightFormats::uniform(Format::F32);
        for (batch, prompt, new) in [(1, 9, 4), (2, 5, 3), (3, 1, 2), (1, 12, 1)] {
            let what = format!("{:?} batch {batch}, {prompt}+{new}", architecture.family);
            let prompts = sequences(&architecture, batch, prompt, seed);
            let plan = GenerationPlan {
                prompts: &prompts,
                new_tokens: new,
                ignore_eos: true,
                eos_ids: &[],
                sampling: SamplingPlan::greedy(),
            };
            let operators = super::fused::every_fused().pop().unwrap();
            let mut model = super::fused::fused(&architecture, &dense, operators, (batch, prompt + new), Format::F16);
            let mut recorder = Recorder::default();
            generate(&mut model, &plan, &Device::Cpu, &mut recorder, &|| true).unwrap();
            assert!(recorder.open.is_empty(), "{what}: every begin has an end");

            let modules = |pass: usize, layer: u32| -> Vec<&str> {
                let operators = recorder.passes[pass].2.iter();
                operators.filter(|(of, _, _)| *of == Some(layer)).map(|(_, module, _)| *module).collect()
            };
            let norms: &[&str] = if architecture.qk_norm { &["q_norm", "k_norm"] } else { &[] };
            let mut expected = vec!["input_layernorm", "qkv_proj"];
            expected.extend(norms);
            expected.extend([
                "rotary_emb",
                "self_attn",
                "o_proj",
                "post_attention_layernorm",
                "gate_up_proj",
                "down_proj",
            ]);
            for pass in 0..new {
                for layer in 0..architecture.num_layers as u32 {
                    assert_eq!(modules(pass, layer), expected, "{what}");
                }
            }

            let storage = Storage { weights: &formats, cache: Format::F16, activation: Format::F32 };
            let closed = |pass: usize| {
                if pass == 0 {
                    return flops::prefill(&architecture, storage, batch as u64, prompt as u64);
                }
                let upto = |new: usize| flops::decode(&architecture, storage, batch as u64, prompt as u64, new as u64);
                let (with, before) = (upto(pass + 1), upto(pass));
                PhaseCost {
                    steps: 1,
                    flops: with.flops - before.flops,
                    model_flops: with.model_flops - before.model_flops,
                    weight_bytes: with.weight_bytes - before.weight_bytes,
                    kv_bytes: with.kv_bytes - before.kv_bytes,
                    activation_bytes: with.activation_bytes - before.activation_bytes,
                }
            };
            for (pass, (_, _, operators)) in recorder.passes.iter().enumerate() {
                let (found, truth) = (total(operators.iter(), 1), closed(pass));
                let rows = (batch * if pass == 0 { prompt } else { 1 }) as u64;
                let (hidden, inner) = (architecture.hidden_size as u64, architecture.intermediate_size as u64);
                // Per layer: q, k and v read their input once, not three times; gate and up once, not twice, and neither is written or read;
                // rotated keys are not written and read; two sums are not read back (that of the last layer in decode after it).
                let per_layer = 2 * hidden + hidden + 4 * inner + 2 * architecture.kv_width() as u64 + hidden;
                let layers = architecture.num_layers as u64;
                let steps = layers * per_layer + (layers - 1) * hidden;
                let last = if rows == batch as u64 { hidden } else { 0 };
                assert_eq!(found.flops, truth.flops, "{what}: pass {pass}");
                assert_eq!(found.model_flops, truth.model_flops, "{what}: pass {pass}");
                assert_eq!(found.weight_bytes, truth.weight_bytes, "{what}: pass {pass}");
                assert_eq!(found.kv_bytes, truth.kv_bytes, "{what}: pass {pass}");
                assert_eq!(
                    found.activation_bytes + 4 * rows * (steps + last),
                    truth.activation_bytes,
                    "{what}: pass {pass}"
                );
            }
        }
    }
}

/// What is announced is what runs: rows and widths of the announced operators, multiplied out by hand for one small case.
#[test]
fn announced_linears_have_the_dimensions_of_the_weights() {
    let architecture = llama();
    let tensors = tensors(&architecture, 3);
    for operators in every_operators() {
        let mut model = decoder(&architecture, &super::fixture::dense(&tensors), &operators, (2, 8), Format::F32);
        let prompts = sequences(&architecture, 2, 7, 3);
        let plan = GenerationPlan {
            prompts: &prompts,
            new_tokens: 1,
            ignore_eos: true,
            eos_ids: &[],
            sampling: SamplingPlan::greedy(),
        };
        let mut recorder = Recorder::default();
        generate(&mut model, &plan, &Device::Cpu, &mut recorder, &|| true).unwrap();
        let linears: Vec<(&str, u32, u32, u32)> = recorder.passes[0]
            .2
            .iter()
            .filter_map(|(layer, module, operator)| match operator {
                Operator::Linear { rows, inner, outer, .. } if layer.is_none_or(|layer| layer == 2) => {
                    Some((*module, *rows, *inner, *outer))
                }
                _ => None,
            })
            .collect();
        let expected = [
            ("q_proj", 14, 120, 120),
            ("k_proj", 14, 120, 40),
            ("v_proj", 14, 120, 40),
            ("o_proj", 14, 120, 120),
            ("gate_proj", 14, 120, 172),
            ("up_proj", 14, 120, 172),
            ("down_proj", 14, 172, 120),
            ("lm_head", 2, 120, 131),
        ];
        assert_eq!(linears, expected);
    }
}
