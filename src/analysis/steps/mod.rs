//! Phases and steps of a GPU trace: prefill and decode of inference, steps of training, or just "step" where the evidence is weak.
//!
//! In this order, and the evidence says which held:
//!
//! 1. Training: ranges or kernels of backward passes and optimisers take at least 2 % or 5 % of the GPU time. Steps are then those that ranges mark, and
//!    nothing is split into prefill and decode.
//! 2. Ranges whose names say the phase ([`PhasePatterns`], or vLLM's `execute_context_…_generation_…`), by launch containment. Ranges inside a
//!    layer and operators do not count. Of nested ranges of one phase the inner
//!    are the steps, unless there is about one in each outer one. Confidence: the share of GPU time inside these
//!    ranges, times 0.99 where the words are prefill or decode, else 0.9.
//! 3. Ranges that mark steps without a phase (`ProfilerStep#7`, `step 3`), told apart as under 5. Confidence: that of the phases, or the share of GPU time
//!    inside the ranges where phases stay open.
//! 4. Repetition on the stream with the most work of each process: symbols (kernels, graphs, copies by size) that come again at the same
//!    distance; of these preferably one that an LLM does once a token (sampling, a copy to the host, a graph launch). The cut is where the device
//!    idles longest. Confidence: the share of the stream's operations in steps that have the ordinary length, times that of the phases.
//! 5. Prefill or decode of unnamed steps, only if something in them happens once a token and kernel names tell of a language model: a few steps with
//!    at least 3 times the GPU time of at least twice as many others are prefill (confidence from 0.6, more with a larger ratio, short steps that
//!    are alike, larger grids, names that agree; less with names that disagree); else kernel names that say decode or prefill, or graph replays
//!    (confidence from 0.5). Below 0.5 after all factors the phase stays `step`.
//!
//! A step lasts from its first device operation to the first of the next step, if the gap between them is at most three times the median gap,
//! else to its own last operation. Steps from ranges last as long as the range on the host where device work ends within it (the host waits
//! for each step).

mod by_range;
mod judge;
mod patterns;
mod repetition;
mod tally;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use self::by_range::RangeSteps;
use self::patterns::Compiled;
use super::projection::{Projection, modules};
use crate::trace::activity::{OpKind, OpRef};
use crate::trace::places::NO_ROW;
use crate::trace::timeline::Timeline;

/// Regular expressions that tell what a range name stands for; matched anywhere in the name, ignoring case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PhasePatterns {
    /// Prefill.
    pub prefill: Vec<String>,
    /// Decode.
    pub decode: Vec<String>,
    /// A step of any kind.
    pub step: Vec<String>,
    /// Training: names of backward passes and optimisers.
    pub training: Vec<String>,
}

/// A pattern that is not a regular expression.
#[derive(Debug, thiserror::Error)]
#[error("`{pattern}` of `{list}` is not a regular expression")]
pub struct PatternError {
    /// `prefill`, `decode`, `step` or `training`.
    pub list: &'static str,
    /// The pattern.
    pub pattern: String,
    /// Why.
    #[source]
    pub source: Box<regex::Error>,
}

/// What the trace is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Workload {
    /// Generation of text.
    Inference,
    /// Training: backward passes or an optimiser.
    Training,
    /// Neither is evident.
    Unknown,
}

/// What steps were told by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepSource {
    /// Names of ranges say the phase.
    PhaseRanges,
    /// Ranges mark steps, not phases.
    StepRanges,
    /// Repeated launches of one graph.
    GraphReplays,
    /// Something that happens once in each step: a copy to the host, a sampling kernel, a repeating sequence of kernels.
    Repetition,
    /// No steps were found.
    None,
}

/// How durations of steps are spread, ns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Values.
    pub n: u64,
    /// Mean.
    pub mean: f64,
    /// Sample standard deviation; null below two values.
    pub std: Option<f64>,
    /// Smallest.
    pub min: f64,
    /// Median.
    pub p50: f64,
    /// 95th percentile.
    pub p95: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Largest.
    pub max: f64,
}

/// One phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// `prefill`, `decode`, `mixed`, `step`, `training_step`, `training`, or `outside` for work in no step.
    pub name: String,
    /// Steps.
    pub steps: u64,
    /// Kernels.
    pub kernels: u64,
    /// Copies and memory sets.
    pub copies_and_sets: u64,
    /// Whole-graph records.
    pub graphs: u64,
    /// Sum of the durations of kernels and whole graphs.
    pub gpu_sum_ns: i64,
    /// Time in which at least one device operation of the phase ran, of each device and added up over devices.
    pub busy_union_ns: i64,
    /// Sum over its steps of end minus begin; null without steps.
    pub wall_ns: Option<i64>,
    /// Durations of its steps; null without steps.
    pub step_ns: Option<Spread>,
    /// Kernels of a step.
    pub kernels_per_step: Option<Spread>,
    /// Kernel and graph launch calls of a step.
    pub launches_per_step: Option<Spread>,
}

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Begin, ns.
    pub start_ns: i64,
    /// End, ns.
    pub end_ns: i64,
    /// Row in [`Steps::phases`].
    pub phase: u16,
    /// Kernels.
    pub kernels: u32,
    /// Kernel and graph launch calls.
    pub launches: u32,
    /// Time in which at least one of its device operations ran, ns.
    pub busy_ns: i64,
    /// Sum of the durations of its kernels and whole graphs, ns.
    pub gpu_sum_ns: i64,
}

/// Trend of step durations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    /// Phase.
    pub phase: String,
    /// Theil–Sen slope, ns a step.
    pub slope_ns_per_step: f64,
    /// 95 % interval of the slope (Sen 1968).
    pub interval: [f64; 2],
    /// Slope times number of steps over the median duration.
    pub relative_change: f64,
    /// Steps used.
    pub n: u64,
}

/// A step far above the others of its phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Straggler {
    /// Row in the list of all steps, in order of begin.
    pub step: u64,
    /// Phase.
    pub phase: String,
    /// Begin, ns.
    pub start_ns: i64,
    /// Duration, ns.
    pub duration_ns: i64,
    /// Duration over the median of the phase.
    pub times_median: f64,
}

/// Phases and steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Steps {
    /// What the trace is of.
    pub workload: Workload,
    /// What steps were told by.
    pub source: StepSource,
    /// 0 to 1, computed as the module documentation says. Null where nothing was decided.
    pub confidence: Option<f64>,
    /// What spoke for the decision, and what was tried in vain.
    pub evidence: Vec<String>,
    /// Phases, in the order of the ids in [`Self::columns`].
    pub phases: Vec<Phase>,
    /// Steps in order of begin, at most [`MAX_STEPS`].
    pub table: Vec<Step>,
    /// Steps beyond those.
    pub steps_omitted: u64,
    /// Trends of phases with enough steps.
    pub drift: Vec<Drift>,
    /// Steps beyond median + 5 scaled MAD of their phase and 1.1 × median, the longest first, at most [`MAX_STRAGGLERS`].
    pub stragglers: Vec<Straggler>,
    /// Stragglers beyond those.
    pub stragglers_omitted: u64,
    /// What names and shapes say of batch and sequence.
    pub hints: Vec<String>,
    /// Phase of each device operation.
    #[serde(skip)]
    pub columns: PhaseColumns,
}

/// Phase of each device operation: rows in [`Steps::phases`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PhaseColumns {
    /// By kernel.
    pub kernel: Vec<u16>,
    /// By copy.
    pub copy: Vec<u16>,
    /// By memory set.
    pub memset: Vec<u16>,
    /// By whole-graph launch.
    pub graph: Vec<u16>,
    /// All steps in order of begin, also those beyond [`MAX_STEPS`].
    pub steps: Vec<Step>,
    /// Row of `processes` of each of them.
    pub step_process: Vec<u32>,
}

impl PhaseColumns {
    /// Phase of an operation.
    pub fn of(&self, op: OpRef) -> usize {
        let column = match op.kind() {
            OpKind::Kernel => &self.kernel,
            OpKind::Copy => &self.copy,
            OpKind::Memset => &self.memset,
            OpKind::Graph => &self.graph,
        };
        column[op.row()] as usize
    }
}

/// Steps listed at most.
pub const MAX_STEPS: usize = 10_000;
/// Stragglers listed at most.
pub const MAX_STRAGGLERS: usize = 20;

/// What a step is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum PhaseName {
    Prefill,
    Decode,
    Mixed,
    Step,
    TrainingStep,
    Training,
    Outside,
}

impl PhaseName {
    fn text(self) -> &'static str {
        match self {
            Self::Prefill => "prefill",
            Self::Decode => "decode",
            Self::Mixed => "mixed",
            Self::Step => "step",
            Self::TrainingStep => "training_step",
            Self::Training => "training",
            Self::Outside => "outside",
        }
    }
}

/// Row of the step of each device operation, or `NO_ROW`.
#[derive(Debug, Clone, Default)]
struct StepColumns {
    kernel: Vec<u32>,
    copy: Vec<u32>,
    memset: Vec<u32>,
    graph: Vec<u32>,
}

impl StepColumns {
    fn outside(timeline: &Timeline) -> Self {
        Self {
            kernel: vec![NO_ROW; timeline.kernels.len()],
            copy: vec![NO_ROW; timeline.copies.len()],
            memset: vec![NO_ROW; timeline.memsets.len()],
            graph: vec![NO_ROW; timeline.graphs.len()],
        }
    }
    fn get(&self, op: OpRef) -> u32 {
        match op.kind() {
            OpKind::Kernel => self.kernel[op.row()],
            OpKind::Copy => self.copy[op.row()],
            OpKind::Memset => self.memset[op.row()],
            OpKind::Graph => self.graph[op.row()],
        }
    }
    fn set(&mut self, op: OpRef, step: u32) {
        match op.kind() {
            OpKind::Kernel => self.kernel[op.row()] = step,
            OpKind::Copy => self.copy[op.row()] = step,
            OpKind::Memset => self.memset[op.row()] = step,
            OpKind::Graph => self.graph[op.row()] = step,
        }
    }
}

/// A step as it was found: what it is of, where that is known, and its time on the host, where a range says it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct FoundStep {
    phase: Option<PhaseName>,
    process: u32,
    host_ns: Option<(i64, i64)>,
}

/// Steps before they are summed up.
#[derive(Debug, Default)]
struct Found {
    steps: Vec<FoundStep>,
    of: StepColumns,
    /// Phases of operations in no step, by path of their range.
    loose: Vec<(OpRef, PhaseName)>,
    /// Share of what was looked at that speaks for these steps.
    regularity: f64,
    /// Whether something that an LLM does once a token marks them.
    marked: bool,
}

/// Phases and steps of `timeline`.
pub fn steps(timeline: &Timeline, projection: &Projection, patterns: &PhasePatterns) -> Result<Steps, PatternError> {
    let compiled = Compiled::of(patterns)?;
    let mut evidence = Vec::new();
    let names = judge::Names::of(timeline, &compiled);
    if timeline.op_count() == 0 {
        evidence.push("there is no device work".to_owned());
        let found = Found { of: StepColumns::outside(timeline), ..Found::default() };
        return Ok(tally::sum_up(
            timeline,
            &found,
            PhaseName::Outside,
            Workload::Unknown,
            StepSource::None,
            None,
            evidence,
        ));
    }
    let modules = modules(timeline, projection);
    let ranges = RangeSteps::of(timeline, projection, &modules, &compiled);
    let mut steps = if names.is_training(timeline, projection, &ranges, &mut evidence) {
        training(timeline, projection, &ranges, evidence)
    } else {
        inference(timeline, projection, &ranges, &names, evidence)
    };
    steps.hints = patterns::hints(timeline, projection);
    Ok(steps)
}

fn training(timeline: &Timeline, projection: &Projection, ranges: &RangeSteps, mut evidence: Vec<String>) -> Steps {
    let mut found = ranges.steps_of(timeline, projection, false);
    for step in &mut found.steps {
        step.phase = Some(PhaseName::TrainingStep);
    }
    if found.steps.is_empty() {
        evidence.push("no range marks the steps of training".to_owned());
        let source = StepSource::None;
        return tally::sum_up(timeline, &found, PhaseName::Training, Workload::Training, source, None, evidence);
    }
    evidence.push(format!("{} ranges mark steps, {}", found.steps.len(), ranges.examples(timeline, false)));
    let confidence = Some(found.regularity);
    tally::sum_up(
        timeline,
        &found,
        PhaseName::Outside,
        Workload::Training,
        StepSource::StepRanges,
        confidence,
        evidence,
    )
}

/// Ranges that name phases or steps must hold at least this share of the GPU time.
const LEAST_SHARE: f64 = 0.05;
/// Repetition is looked for inside ranges that name phases if these are no more than this.
const FEW_RANGES: usize = 256;
/// Phases are stated from this confidence on.
const LEAST_CONFIDENCE: f64 = 0.5;

fn inference(
    timeline: &Timeline,
    projection: &Projection,
    ranges: &RangeSteps,
    names: &judge::Names,
    mut evidence: Vec<String>,
) -> Steps {
    let mut found = ranges.steps_of(timeline, projection, true);
    if !found.steps.is_empty() && found.regularity >= LEAST_SHARE {
        evidence.push(format!(
            "{} ranges name their phase, {}; {} of the GPU time was launched inside them",
            found.steps.len(),
            ranges.examples(timeline, true),
            percent(found.regularity)
        ));
        let confidence = found.regularity * if ranges.strong { 0.99 } else { 0.9 };
        if found.steps.len() <= FEW_RANGES && !ranges.exact {
            refine(timeline, &mut found, &mut evidence);
        }
        let (source, workload) = (StepSource::PhaseRanges, Workload::Inference);
        return tally::sum_up(timeline, &found, PhaseName::Outside, workload, source, Some(confidence), evidence);
    }
    evidence.push(match found.steps.len() {
        0 => "no range with device work names a phase".to_owned(),
        n => format!(
            "{n} ranges name a phase, but only {} of the GPU time was launched inside them",
            percent(found.regularity)
        ),
    });
    drop(found);
    let mut found = ranges.steps_of(timeline, projection, false);
    let mut source = StepSource::StepRanges;
    let marked_by_range = found.steps.len() > 1 && found.regularity >= LEAST_SHARE;
    if marked_by_range {
        evidence.push(format!("{} ranges mark steps, {}", found.steps.len(), ranges.examples(timeline, false)));
    } else {
        let single = (found.steps.len() == 1 && found.regularity >= LEAST_SHARE).then_some(found);
        found = repetition::find(timeline, &mut evidence);
        source = StepSource::Repetition;
        if !found.steps.is_empty() && !found.marked && (names.is_language_model() || single.is_some()) {
            evidence.push(format!(
                "nothing in these {} sequences tells of a token: they may be layers, and are not taken as steps",
                found.steps.len()
            ));
            found = Found { of: StepColumns::outside(timeline), ..Found::default() };
        }
        if found.steps.is_empty() {
            let Some(one) = single else {
                let (workload, source) = (Workload::Unknown, StepSource::None);
                return tally::sum_up(timeline, &found, PhaseName::Outside, workload, source, None, evidence);
            };
            evidence.push(format!("one range marks a step, {}", ranges.examples(timeline, false)));
            (found, source) = (one, StepSource::StepRanges);
        }
    }
    let features = tally::features(timeline, &found, names);
    if source == StepSource::Repetition && judge::mostly_graphs(&features) {
        source = StepSource::GraphReplays;
        evidence.push("most of the GPU time of the steps is replayed from graphs".to_owned());
    }
    // A range that marks a step is as good as a sampling kernel.
    let judged = judge::phases(names, &features, found.marked || marked_by_range, &mut evidence);
    let regularity = found.regularity;
    let confidence = match &judged {
        Some(judged) if marked_by_range => judged.confidence,
        Some(judged) => judged.confidence * regularity,
        None => regularity,
    };
    match judged {
        Some(judged) if confidence >= LEAST_CONFIDENCE => {
            for (step, phase) in found.steps.iter_mut().zip(judged.phases) {
                step.phase = Some(phase);
            }
            let workload = Workload::Inference;
            tally::sum_up(timeline, &found, PhaseName::Outside, workload, source, Some(confidence), evidence)
        }
        judged => {
            if judged.is_some() {
                evidence.push(format!("confidence in phases would be {confidence:.2}: too little to state any"));
            }
            tally::sum_up(timeline, &found, PhaseName::Outside, Workload::Unknown, source, Some(regularity), evidence)
        }
    }
}

/// Where a range stands for a whole phase of many tokens, its steps are those that repeat inside.
fn refine(timeline: &Timeline, found: &mut Found, evidence: &mut Vec<String>) {
    let mut notes = Vec::new();
    let mut inner = repetition::find(timeline, &mut notes);
    if !inner.marked || inner.steps.len() < 3 * found.steps.len() || inner.regularity < LEAST_CONFIDENCE {
        return;
    }
    // The phase of a step is that of the range which most of its operations were launched in.
    let mut votes: Vec<[u32; 4]> = vec![[0; 4]; inner.steps.len()];
    for op in timeline.ops_by_start() {
        let (fine, coarse) = (inner.of.get(op), found.of.get(op));
        if fine != NO_ROW {
            let vote = match (coarse != NO_ROW).then(|| found.steps[coarse as usize].phase).flatten() {
                Some(PhaseName::Prefill) => 0,
                Some(PhaseName::Decode) => 1,
                Some(PhaseName::Mixed) => 2,
                _ => 3,
            };
            votes[fine as usize][vote] += 1;
        }
    }
    let clear =
        votes.iter().filter(|votes| votes.iter().max().is_some_and(|most| 10 * most >= 9 * votes.iter().sum::<u32>()));
    if 10 * clear.count() < 9 * inner.steps.len() {
        evidence.push("sequences that repeat do not keep to the ranges; the ranges are taken as steps".to_owned());
        return;
    }
    let known = [Some(PhaseName::Prefill), Some(PhaseName::Decode), Some(PhaseName::Mixed), None];
    for (step, votes) in inner.steps.iter_mut().zip(&votes) {
        let most = (0..votes.len()).max_by_key(|vote| votes[*vote]).unwrap_or(3);
        step.phase = Some(known[most].unwrap_or(PhaseName::Outside));
    }
    evidence.append(&mut notes);
    evidence.push(format!("{} steps repeat inside the {} ranges", inner.steps.len(), found.steps.len()));
    inner.loose = std::mem::take(&mut found.loose);
    *found = inner;
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}
