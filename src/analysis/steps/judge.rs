//! Prefill or decode of steps that no range names, and whether a trace is of training.

use std::sync::LazyLock;

use regex::{Regex, RegexSet};

use super::by_range::RangeSteps;
use super::patterns::Compiled;
use super::{PhaseName, percent};
use crate::analysis::intervals::length_ns;
use crate::analysis::projection::Projection;
use crate::stats::quantile::{median, sorted};
use crate::trace::timeline::Timeline;

/// Share of the GPU time in ranges of training from which on a trace is of training.
const TRAINING_RANGES: f64 = 0.02;
/// The same for kernels.
const TRAINING_KERNELS: f64 = 0.05;
/// Steps of prefill take at least this many times the GPU time of steps of decode.
const LEAST_RATIO: f64 = 3.0;
/// Between the two there is at least this ratio without any step.
const LEAST_GAP: f64 = 1.5;
/// Decode steps, where the phases are told by GPU time, are at least this share of all: about two for each of prefill.
const LEAST_SHORT: f64 = 0.65;

/// Families of kernels that a language model has.
static LANGUAGE_MODEL: LazyLock<RegexSet> = LazyLock::new(|| {
    RegexSet::new([
        r"(?i)flash|fmha|attention|paged_|mha_|splitkv|_attn|attn_",
        r"(?i)rope|rotary",
        r"(?i)rms_?norm|layer_?norm",
        r"(?i)kv_?cache|reshape_and_cache|kv_append",
        r"(?i)gemv|gemvx|mul_mat_vec|gemm|nvjet|matmul|mul_mat",
        r"(?i)silu|swiglu|gelu|act_and_mul",
        r"(?i)arg_?max|sampl|top_?[kp]|logits|embedding|softmax",
    ])
    .expect("the patterns are constants and tested")
});
/// Kernels of attention and of matrices with one vector, as decode has them.
static DECODE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?i)paged_attention|decode|splitkv|mul_mat_vec|gemv|flash_decoding|masked_multihead|mmha|xqa|single_query",
    )
    .expect("the pattern is a constant and tested")
});
/// Kernels of attention over a whole prompt.
static PREFILL: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)prefill|context_attention|context_fmha|fmha_v2|flash_fwd_kernel|varlen_fwd")
        .expect("the pattern is a constant and tested")
});

/// What one step did, to tell it from others by.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Features {
    pub(super) kernels: u32,
    /// Sum of kernels and whole graphs.
    pub(super) gpu_ns: i64,
    /// Part of `gpu_ns` launched by graphs.
    pub(super) graph_ns: i64,
    /// Parts of `gpu_ns` whose kernels say decode or prefill.
    pub(super) decode_ns: i64,
    pub(super) prefill_ns: i64,
    /// Blocks of all grids.
    pub(super) blocks: u64,
}

/// What kernel names say, by row of `kernel_names`.
pub(super) struct Names {
    pub(super) decode: Vec<bool>,
    pub(super) prefill: Vec<bool>,
    training: Vec<bool>,
    families: usize,
}

impl Names {
    pub(super) fn of(timeline: &Timeline, patterns: &Compiled) -> Self {
        let mut names = Self { decode: Vec::new(), prefill: Vec::new(), training: Vec::new(), families: 0 };
        let mut families = vec![false; LANGUAGE_MODEL.len()];
        for name in &timeline.kernel_names {
            let (demangled, short) = (timeline.text(name.demangled), timeline.text(name.short));
            let either = |regex: &Regex| regex.is_match(demangled) || regex.is_match(short);
            names.decode.push(either(&DECODE));
            names.prefill.push(either(&PREFILL));
            names.training.push(patterns.is_training(demangled) || patterns.is_training(short));
            for text in [demangled, short] {
                for family in LANGUAGE_MODEL.matches(text) {
                    families[family] = true;
                }
            }
        }
        names.families = families.iter().filter(|family| **family).count();
        names
    }
    /// Whether kernel names tell of a language model: three of the families of kernels, norms and attention among many.
    pub(super) fn is_language_model(&self) -> bool {
        self.families >= 3
    }
    /// Whether the trace is of training.
    pub(super) fn is_training(
        &self,
        timeline: &Timeline,
        projection: &Projection,
        ranges: &RangeSteps,
        evidence: &mut Vec<String>,
    ) -> bool {
        if ranges.training_share >= TRAINING_RANGES {
            let share = percent(ranges.training_share);
            evidence.push(format!("ranges of backward passes and optimisers hold {share} of the GPU time: training"));
            return true;
        }
        let kernels = &timeline.kernels;
        let in_training: u64 = (0..kernels.len())
            .filter(|row| self.training[kernels.name[*row] as usize])
            .map(|row| length_ns(kernels.start_ns[row], kernels.end_ns[row]))
            .fold(0, u64::saturating_add);
        let all = projection.kernels.total_ns();
        let share = if all > 0 { in_training as f64 / all as f64 } else { 0.0 };
        if share >= TRAINING_KERNELS {
            evidence.push(format!(
                "kernels of backward passes and optimisers take {} of the GPU time: training",
                percent(share)
            ));
        }
        share >= TRAINING_KERNELS
    }
}

/// Whether most GPU time of the steps was launched by graphs.
pub(super) fn mostly_graphs(features: &[Features]) -> bool {
    let sum = |part: fn(&Features) -> i64| features.iter().map(part).fold(0_i64, i64::saturating_add);
    let all = sum(|step| step.gpu_ns);
    all > 0 && sum(|step| step.graph_ns) >= all / 2
}

/// Phases of steps.
pub(super) struct Judged {
    pub(super) phases: Vec<PhaseName>,
    pub(super) confidence: f64,
}

/// The phases of steps by what they did; `None` where that does not tell.
pub(super) fn phases(names: &Names, features: &[Features], marked: bool, evidence: &mut Vec<String>) -> Option<Judged> {
    if !names.is_language_model() && !mostly_graphs(features) {
        evidence.push(
            "kernel names do not tell of a language model: steps are not split into prefill and decode".to_owned(),
        );
        return None;
    }
    if !marked {
        evidence.push("nothing in the steps tells of a token: they are not split into prefill and decode".to_owned());
        return None;
    }
    if features.len() < 2 {
        evidence.push("one step alone cannot be told to be prefill or decode".to_owned());
        return None;
    }
    by_time(names, features, evidence).or_else(|| all_alike(names, features, evidence))
}

/// A few long steps among many short ones.
fn by_time(names: &Names, features: &[Features], evidence: &mut Vec<String>) -> Option<Judged> {
    if !names.is_language_model() {
        return None;
    }
    let times: Vec<f64> = features.iter().map(|step| step.gpu_ns.max(1) as f64).collect();
    let by_size = sorted(&times);
    // The widest gap, as a ratio, above most of the steps.
    let from = ((times.len() as f64 * LEAST_SHORT).ceil() as usize).max(1);
    let (at, gap) =
        (from..times.len()).map(|at| (at, by_size[at] / by_size[at - 1])).max_by(|a, b| a.1.total_cmp(&b.1))?;
    let (short, long) = (median(&by_size[..at])?, median(&by_size[at..])?);
    let ratio = long / short;
    if gap < LEAST_GAP || ratio < LEAST_RATIO {
        evidence.push(format!(
            "GPU times of the steps do not part: the largest ratio between neighbours by size is {gap:.2}, and the two parts differ by {ratio:.2} times"
        ));
        return None;
    }
    let limit = by_size[at];
    let phases: Vec<PhaseName> =
        times.iter().map(|time| if *time >= limit { PhaseName::Prefill } else { PhaseName::Decode }).collect();
    let (many, few) = (at, times.len() - at);
    let deviations: Vec<f64> = by_size[..at].iter().map(|time| (time - short).abs()).collect();
    let tight = median(&deviations)? <= 0.15 * short;
    let of = |phase: PhaseName, value: &dyn Fn(&Features) -> f64| {
        let values: Vec<f64> =
            features.iter().zip(&phases).filter(|(_, known)| **known == phase).map(|(step, _)| value(step)).collect();
        median(&values).unwrap_or(0.0)
    };
    let blocks = |step: &Features| step.blocks as f64;
    let grown = of(PhaseName::Prefill, &blocks) >= 2.0 * of(PhaseName::Decode, &blocks).max(1.0);
    let hint = |step: &Features| (step.prefill_ns - step.decode_ns) as f64 / step.gpu_ns.max(1) as f64;
    let named = of(PhaseName::Prefill, &hint) > of(PhaseName::Decode, &hint) + 0.02;
    let against = of(PhaseName::Prefill, &hint) < of(PhaseName::Decode, &hint) - 0.02;
    let mut confidence = 0.6 + 0.15 * ((ratio - LEAST_RATIO) / 7.0).min(1.0);
    confidence += 0.05 * f64::from(u8::from(tight)) + 0.1 * f64::from(u8::from(many >= 8 * few));
    confidence += 0.05 * f64::from(u8::from(grown)) + 0.05 * f64::from(u8::from(named));
    confidence -= 0.2 * f64::from(u8::from(against));
    evidence.push(format!(
        "{few} steps take {ratio:.1} times the GPU time of the {many} others (median), nothing in between ({gap:.1} times): prefill and decode"
    ));
    let signs = [
        (tight, "the short steps are alike to 15 % or better"),
        (grown, "grids of the long steps are at least twice as large"),
        (named, "kernel names of the long steps say prefill, or those of the short ones decode"),
        (against, "kernel names speak against it"),
    ];
    evidence.extend(signs.iter().filter(|(holds, _)| *holds).map(|(_, words)| (*words).to_owned()));
    Some(Judged { phases, confidence: confidence.clamp(0.0, 0.99) })
}

/// Steps that are all alike, named by their kernels or by being replayed.
fn all_alike(names: &Names, features: &[Features], evidence: &mut Vec<String>) -> Option<Judged> {
    let share =
        |has: fn(&Features) -> i64| features.iter().filter(|step| has(step) > 0).count() as f64 / features.len() as f64;
    let (decode, prefill) = (share(|step| step.decode_ns), share(|step| step.prefill_ns));
    let graphs = mostly_graphs(features);
    let mut confidence = 0.5;
    let phase = if decode >= 0.8 && prefill <= 0.2 {
        evidence.push(format!("kernel names say decode in {} of the steps", percent(decode)));
        confidence += 0.1;
        PhaseName::Decode
    } else if prefill >= 0.8 && decode <= 0.2 {
        evidence.push(format!("kernel names say prefill in {} of the steps", percent(prefill)));
        confidence += 0.1;
        PhaseName::Prefill
    } else if graphs && prefill <= 0.2 {
        PhaseName::Decode
    } else {
        evidence.push("nothing tells whether these steps are prefill or decode".to_owned());
        return None;
    };
    if graphs && phase == PhaseName::Decode {
        evidence.push("the steps are replays of graphs, as servers use them for decode".to_owned());
        confidence += 0.15;
    }
    // What is called here was marked by something that a language model does once a token.
    confidence += 0.1;
    if names.is_language_model() {
        confidence += 0.05;
    }
    Some(Judged { phases: vec![phase; features.len()], confidence })
}
