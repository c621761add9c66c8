//! Names of ranges that say a phase, a step, or what a batch holds.

use std::sync::LazyLock;

use regex::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};
use rustc_hash::FxHashMap;

use super::{PatternError, PhaseName, PhasePatterns};
use crate::analysis::projection::Projection;
use crate::instrument::observer::Phase;
use crate::instrument::range_names::{self, Meaning};
use crate::trace::timeline::Timeline;

impl Default for PhasePatterns {
    fn default() -> Self {
        let own = |list: &[&str]| list.iter().map(|pattern| (*pattern).to_owned()).collect();
        Self {
            prefill: own(&[
                r"pre_?fill",
                r"(^|[^a-z])prompt[ _-]?(processing|eval|phase|forward|run|step)",
                r"(^|[^a-z])context[ _-]?(phase|encoding|forward|step|stage)",
                r"(^|[^a-z])(forward[ _-]?)?extend([^a-z]|$)",
                r"first[ _-]?token",
            ]),
            decode: own(&[
                r"(^|[^a-z])(de)?decod(e|ing)([^a-z]|$)",
                r"(^|[^a-z])generation[ _-]?(phase|step|stage)",
                r"(^|[^a-z])token[ _-]?gen(eration)?([^a-z]|$)",
                r"(^|[^a-z])(next|generate|gen)[ _-]?token",
                r"^token[ _#-]*\d+$",
            ]),
            step: own(&[
                r"^ProfilerStep#\d+",
                r"(^|[^a-z])(step|iteration|iter)([ _#:-]*\d+)?$",
                r"^(step|iteration|iter)([^a-z]|$)",
                r"(^|[^a-z])(execute_model|model_forward|forward_pass|run_batch)([^a-z]|$)",
            ]),
            training: own(&[
                r"[a-z0-9]Backward\d*([^a-z]|$)",
                r"(^|[^a-z])backward([^a-z]|$)",
                r"autograd::engine",
                r"Optimizer\.(step|zero_grad)",
                r"(^|[^a-z])optimizer([^a-z]|$)",
                r"fused_?adam|(^|[^a-z])adamw?([^a-z]|$)",
                r"[a-z_]bwd([^a-z]|$)|(^|[^a-z])bwd_",
                r"dgrad|wgrad",
            ]),
        }
    }
}

/// Words that make a decoding one of pictures or sound, not of tokens.
static OTHER_DECODING: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)vae|image|video|jpe?g|audio|huffman|beam_search_decode_result|detok")
        .expect("the pattern is a constant and tested")
});
/// vLLM's annotation of a model execution: requests in prefill, then requests in decode.
static VLLM: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"context_(\d+)\((.*?)\)_generation_(\d+)\((.*?)\)").expect("the pattern is a constant and tested")
});
static STRONG: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?i)pre_?fill|decod|context_\d+\(").expect("the pattern is a constant and tested"));

/// What the name of a range says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Says {
    Nothing,
    Phase(PhaseName),
    Step,
}

/// Patterns ready to use.
pub(super) struct Compiled {
    prefill: RegexSet,
    decode: RegexSet,
    step: RegexSet,
    training: RegexSet,
}

fn compile(list: &'static str, patterns: &[String]) -> Result<RegexSet, PatternError> {
    RegexSetBuilder::new(patterns).case_insensitive(true).build().map_err(|source| {
        let wrong = patterns.iter().find(|pattern| RegexBuilder::new(pattern).case_insensitive(true).build().is_err());
        PatternError { list, pattern: wrong.cloned().unwrap_or_else(|| patterns.join(", ")), source: Box::new(source) }
    })
}

impl Compiled {
    pub(super) fn of(patterns: &PhasePatterns) -> Result<Self, PatternError> {
        Ok(Self {
            prefill: compile("prefill", &patterns.prefill)?,
            decode: compile("decode", &patterns.decode)?,
            step: compile("step", &patterns.step)?,
            training: compile("training", &patterns.training)?,
        })
    }
    pub(super) fn says(&self, name: &str) -> Says {
        // Our own ranges mean what they say, whatever patterns a user has for those of others.
        match range_names::meaning(name) {
            Some(Meaning::Step(Phase::Prefill)) => return Says::Phase(PhaseName::Prefill),
            Some(Meaning::Step(Phase::Decode)) => return Says::Phase(PhaseName::Decode),
            Some(_) => return Says::Nothing,
            None => {}
        }
        if let Some(found) = VLLM.captures(name) {
            let none = |group: usize| found[group].bytes().all(|digit| digit == b'0');
            match (none(1), none(3)) {
                (false, true) => return Says::Phase(PhaseName::Prefill),
                (true, false) => return Says::Phase(PhaseName::Decode),
                (false, false) => return Says::Phase(PhaseName::Mixed),
                (true, true) => return Says::Nothing,
            }
        }
        if !OTHER_DECODING.is_match(name) {
            match (self.prefill.is_match(name), self.decode.is_match(name)) {
                (true, false) => return Says::Phase(PhaseName::Prefill),
                (false, true) => return Says::Phase(PhaseName::Decode),
                (true, true) => return Says::Phase(PhaseName::Mixed),
                (false, false) => {}
            }
        }
        // The step of an optimiser is not the step of training.
        if self.step.is_match(name) && !self.training.is_match(name) { Says::Step } else { Says::Nothing }
    }
    pub(super) fn is_training(&self, name: &str) -> bool {
        self.training.is_match(name)
    }
}

/// Whether a name says its phase in the words prefill or decode.
pub(super) fn is_strong(name: &str) -> bool {
    STRONG.is_match(name)
}

/// Whether a name is known to stand for exactly one step: vLLM's annotation, or a range of our own.
pub(super) fn is_one_step(name: &str) -> bool {
    VLLM.is_match(name) || matches!(range_names::meaning(name), Some(Meaning::Step(_)))
}

/// What names and shapes say of batch and sequence: requests and tokens of vLLM's annotations, shapes of embeddings.
pub(super) fn hints(timeline: &Timeline, projection: &Projection) -> Vec<String> {
    const MOST: usize = 4;
    let mut hints = Vec::new();
    let annotations = projection.labels.iter().filter_map(|label| VLLM.captures(label));
    for found in annotations.take(MOST) {
        hints.push(format!(
            "a step of {} requests in prefill ({}) and {} in decode ({})",
            &found[1],
            detail(&found[2]),
            &found[3],
            detail(&found[4])
        ));
    }
    let ranges = &timeline.ranges;
    if ranges.shape.is_empty() {
        return hints;
    }
    let mut shapes: FxHashMap<&str, u64> = FxHashMap::default();
    let mut is_embedding: FxHashMap<u32, bool> = FxHashMap::default();
    for (name, shape) in ranges.name.iter().zip(&ranges.shape) {
        if *is_embedding.entry(name.0).or_insert_with(|| timeline.text(*name) == "aten::embedding") {
            *shapes.entry(timeline.text(*shape)).or_default() += 1;
        }
    }
    let mut shapes: Vec<(&str, u64)> = shapes.into_iter().filter(|(shape, _)| !shape.is_empty()).collect();
    shapes.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    for (shape, count) in shapes.into_iter().take(MOST) {
        let shape: String = shape.chars().take(120).collect();
        hints.push(format!("aten::embedding takes {shape}, {count} times"));
    }
    hints
}

/// vLLM's sums in words: `sq` new tokens, `sk` tokens of context; a bare number is tokens.
fn detail(text: &str) -> String {
    static SUMS: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"^sq(\d+)sk(\d+)").expect("the pattern is a constant and tested"));
    match SUMS.captures(text) {
        Some(found) => format!("{} new tokens, {} with their context", &found[1], &found[2]),
        None => format!("{text} tokens"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_seen_in_servers_say_their_phase() {
        let compiled = Compiled::of(&PhasePatterns::default()).unwrap();
        let cases = [
            ("prefill", Says::Phase(PhaseName::Prefill)),
            ("Prefill #3", Says::Phase(PhaseName::Prefill)),
            ("pre_fill_chunk", Says::Phase(PhaseName::Prefill)),
            ("forward_extend", Says::Phase(PhaseName::Prefill)),
            ("context phase", Says::Phase(PhaseName::Prefill)),
            ("decode", Says::Phase(PhaseName::Decode)),
            ("model:decode_step_12", Says::Phase(PhaseName::Decode)),
            ("forward_decode", Says::Phase(PhaseName::Decode)),
            ("token 17", Says::Phase(PhaseName::Decode)),
            ("prefill+decode", Says::Phase(PhaseName::Mixed)),
            ("execute_context_1(512)_generation_0(0)", Says::Phase(PhaseName::Prefill)),
            (
                "execute_32_context_0(sq0sk0sqsq0sqsk0)_generation_32(sq32sk55086sqsq32sqsk55086)",
                Says::Phase(PhaseName::Decode),
            ),
            ("execute_context_2(9)_generation_3(3)", Says::Phase(PhaseName::Mixed)),
            ("ProfilerStep#6", Says::Step),
            ("step 4", Says::Step),
            ("execute_model", Says::Step),
            ("decoder", Says::Nothing),
            ("LlamaDecoderLayer", Says::Nothing),
            ("encoder.embeddings", Says::Nothing),
            ("vae.decode", Says::Nothing),
            ("decode_image", Says::Nothing),
            ("layer.3", Says::Nothing),
            ("Loop", Says::Nothing),
            ("perfprof:prefill", Says::Phase(PhaseName::Prefill)),
            ("perfprof:decode", Says::Phase(PhaseName::Decode)),
            ("perfprof:request", Says::Nothing),
            ("perfprof:layers.3", Says::Nothing),
            ("stepper motor", Says::Nothing),
            ("Optimizer.step#SGD.step", Says::Nothing),
        ];
        for (name, says) in cases {
            assert_eq!(compiled.says(name), says, "{name}");
        }
    }

    #[test]
    fn names_of_training_are_known_and_inference_has_none_of_them() {
        let compiled = Compiled::of(&PhasePatterns::default()).unwrap();
        for name in [
            "autograd::engine::evaluate_function: MmBackward0",
            "## backward ##",
            "Optimizer.step#SGD.step",
            "flash_bwd_dq_dk_dv_loop_kernel",
            "void multi_tensor_apply_kernel<FusedAdamMathFunctor>",
            "sm80_xmma_dgrad_implicit_gemm",
            "void at::native::layer_norm_backward_kernel",
        ] {
            assert!(compiled.is_training(name), "{name}");
        }
        for name in
            ["flash_fwd_kernel", "rms_norm", "aten::linear", "nn.Module: Linear_0", "void gemvNSP_kernel<float>"]
        {
            assert!(!compiled.is_training(name), "{name}");
        }
    }

    #[test]
    fn a_wrong_pattern_is_named() {
        let patterns =
            PhasePatterns { decode: vec!["fine".to_owned(), "(open".to_owned()], ..PhasePatterns::default() };
        let error = Compiled::of(&patterns).err().unwrap();
        assert_eq!(error.to_string(), "`(open` of `decode` is not a regular expression");
    }
}
