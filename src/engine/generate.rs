//! The generation loop: one prompt pass, then one token at a time, stamped on the host.

use std::time::Instant;

use candle_core::{Device, Result, Tensor};

use super::models::{CausalLm, DeviceSampler};
use super::sampling::{Sampler, SamplingPlan};
use crate::estimate::operator::Operator;
use crate::instrument::observer::{Module, Observer, Phase, Span};

/// What to generate.
#[derive(Debug, Clone)]
pub struct GenerationPlan<'a> {
    /// Token ids of each sequence; all of one length, which is at least 1.
    pub prompts: &'a [Vec<u32>],
    /// Tokens to generate for each sequence, the first included; at least 1.
    pub new_tokens: usize,
    /// Go on after an end-of-sequence token, so that the length is exact.
    pub ignore_eos: bool,
    /// End-of-sequence tokens.
    pub eos_ids: &'a [u32],
    /// How tokens are chosen.
    pub sampling: SamplingPlan,
}

/// Why generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// All tokens asked for were generated.
    Length,
    /// Every sequence met an end-of-sequence token.
    Eos,
    /// The caller asked to stop.
    Stopped,
}

/// Begin and end of one decode step in ns since the start of the generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Begin.
    pub start_ns: u64,
    /// The token is on the host.
    pub end_ns: u64,
}

/// A finished generation, with host stamps in ns since its start.
#[derive(Debug, Clone)]
pub struct Generation {
    /// Generated token ids of each sequence.
    pub tokens: Vec<Vec<u32>>,
    /// The prefill phase; it ends with the first token on the host.
    pub prefill: Step,
    /// Each decode step.
    pub decode: Vec<Step>,
    /// End of the whole generation.
    pub total_ns: u64,
    /// Why it ended.
    pub finish: FinishReason,
    /// NaN or infinite logits seen.
    pub non_finite_logits: u64,
}

impl Generation {
    /// Σ of the decode steps.
    pub fn decode_ns(&self) -> u64 {
        self.decode.iter().map(|step| step.end_ns - step.start_ns).sum()
    }
    /// When each token was on the host.
    pub fn token_stamps_ns(&self) -> impl Iterator<Item = u64> + '_ {
        std::iter::once(self.prefill.end_ns).chain(self.decode.iter().map(|step| step.end_ns))
    }
}

/// Runs `plan` on `model`, whose cache it empties first.
///
/// `keep_going` is asked before every decode step.
///
/// # Errors
/// What the model returns; an empty or ragged prompt, or no token asked for.
pub fn generate(
    model: &mut dyn CausalLm,
    plan: &GenerationPlan<'_>,
    device: &Device,
    observer: &mut dyn Observer,
    keep_going: &dyn Fn() -> bool,
) -> Result<Generation> {
    let length = plan.prompts.first().map_or(0, Vec::len);
    if length == 0 || plan.new_tokens == 0 {
        candle_core::bail!("a generation needs at least one prompt token and one new token");
    }
    if plan.prompts.iter().any(|prompt| prompt.len() != length) {
        candle_core::bail!("the prompts of one batch must have one length");
    }
    let batch = plan.prompts.len();
    let flat: Vec<u32> = plan.prompts.concat();
    model.reset()?;
    let on_device = plan.sampling.fits_device() && model.device_sampler().is_some();
    let mut source = if on_device {
        Source::Device
    } else {
        Source::Host {
            sampler: Box::new(Sampler::new(plan.sampling)),
            vocabulary: model.architecture().vocab_size as u32,
        }
    };
    // A tensor made from the host may wait for a copy, which is not part of the prompt pass.
    let prompt = match source {
        Source::Host { .. } => Some(Tensor::from_slice(&flat, (batch, length), device)?),
        Source::Device => {
            if let Some(sampler) = model.device_sampler() {
                sampler.start(plan.sampling)?;
            }
            None
        }
    };
    let mut tokens: Vec<Vec<u32>> = vec![Vec::with_capacity(plan.new_tokens); batch];
    let mut decode = Vec::with_capacity(plan.new_tokens);
    let mut ended = vec![false; batch];

    let origin = Instant::now();
    let now = || origin.elapsed().as_nanos() as u64;
    let start_ns = now();
    observer.begin(Span::Phase(Phase::Prefill, 0));
    let first = match (&mut source, &prompt) {
        (Source::Host { sampler, vocabulary }, Some(prompt)) => {
            forward(model, prompt, 0, sampler, *vocabulary, observer)
        }
        _ => device_sampler(model).and_then(|sampler| sampler.prefill(&flat, observer)),
    };
    observer.end();
    let prefill = Step { start_ns, end_ns: now() };
    let mut last = first?;
    record(&last, &mut tokens, &mut ended, plan);
    let mut finish = FinishReason::Length;
    for step in 1..plan.new_tokens {
        if !plan.ignore_eos && ended.iter().all(|ended| *ended) {
            finish = FinishReason::Eos;
            break;
        }
        if !keep_going() {
            finish = FinishReason::Stopped;
            break;
        }
        let start_ns = now();
        observer.begin(Span::Phase(Phase::Decode, step as u32));
        let next = match &mut source {
            Source::Host { sampler, vocabulary } => Tensor::from_slice(&last, (batch, 1), device)
                .and_then(|input| forward(model, &input, length + step - 1, sampler, *vocabulary, observer)),
            Source::Device => device_sampler(model).and_then(|sampler| sampler.step(observer)),
        };
        observer.end();
        decode.push(Step { start_ns, end_ns: now() });
        last = next?;
        record(&last, &mut tokens, &mut ended, plan);
    }
    let total_ns = now();
    let non_finite_logits = match &source {
        Source::Host { sampler, .. } => sampler.check.non_finite,
        Source::Device => device_sampler(model)?.non_finite_logits()?,
    };
    Ok(Generation { tokens, prefill, decode, total_ns, finish, non_finite_logits })
}

/// Where the next tokens come from.
enum Source {
    /// Logits come to the host.
    Host { sampler: Box<Sampler>, vocabulary: u32 },
    /// The model chooses.
    Device,
}

fn device_sampler(model: &mut dyn CausalLm) -> Result<&mut dyn DeviceSampler> {
    model.device_sampler().ok_or_else(|| candle_core::Error::Msg("the model has no sampler on its device".to_owned()))
}

/// One forward pass and the choice of its tokens on the host.
fn forward(
    model: &mut dyn CausalLm,
    input: &Tensor,
    position: usize,
    sampler: &mut Sampler,
    vocabulary: u32,
    observer: &mut dyn Observer,
) -> Result<Vec<u32>> {
    let logits = model.forward(input, position, observer)?;
    let on = observer.wants_operators();
    if on {
        let rows = input.dims()[0] as u32;
        observer.begin(Span::Operator(Module::Sampler, Operator::Sample { rows, width: vocabulary }));
    }
    let chosen = choose(&logits, sampler);
    if on {
        observer.end();
    }
    chosen
}

/// One token per row of `[batch, vocabulary]` logits.
fn choose(logits: &Tensor, sampler: &mut Sampler) -> Result<Vec<u32>> {
    let (rows, width) = logits.dims2()?;
    let values = logits.flatten_all()?.to_vec1::<f32>()?;
    Ok(values.chunks_exact(width).take(rows).map(|row| sampler.choose(row)).collect())
}

fn record(chosen: &[u32], tokens: &mut [Vec<u32>], ended: &mut [bool], plan: &GenerationPlan<'_>) {
    for ((token, sequence), ended) in chosen.iter().zip(tokens).zip(ended) {
        if plan.ignore_eos || !*ended {
            sequence.push(*token);
        }
        *ended |= plan.eos_ids.contains(token);
    }
}
