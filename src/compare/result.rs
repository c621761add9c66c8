//! `metrics.json` of `compare` and `ab`: the public contract. `docs/schema/metrics.compare.schema.json` is its published JSON schema.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::measure::Direction;
use super::subject::{Outcomes, SubjectKind};
use crate::diagnostics::{Diagnostic, Validity};
use crate::record::quality::QualityBlock;
use crate::stats::summary::Summary;

/// Version of [`CompareMetrics`].
pub const COMPARE_SCHEMA_VERSION: u32 = 1;

/// What can be said of one measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// A measure of speed is better.
    Faster,
    /// A measure of speed is worse.
    Slower,
    /// Any other measure is lower (which is better or worse as its direction says).
    Lower,
    /// Any other measure is higher.
    Higher,
    /// The same within the margin δ.
    Same,
    /// The values do not decide; `n_needed` says how many would.
    CannotTell,
}

/// A measure of the candidate against the baseline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Case; null where there is one only or none.
    pub case: Option<String>,
    /// Name of the measure.
    pub measure: String,
    /// Unit.
    pub unit: String,
    /// Which way is better.
    pub direction: Direction,
    /// What the values were summed up by: `median`, `mean`, `p99`.
    pub statistic: String,
    /// Label of the baseline.
    pub baseline_label: String,
    /// Label of the candidate.
    pub candidate_label: String,
    /// Statistic of the baseline; null without values.
    pub baseline: Option<f64>,
    /// Statistic of the candidate.
    pub candidate: Option<f64>,
    /// candidate / baseline.
    pub ratio: Option<f64>,
    /// 95 % interval of the ratio; null where there are too few values.
    pub ci95: Option<[f64; 2]>,
    /// How the interval was made, in words.
    pub interval_method: Option<String>,
    /// Hodges–Lehmann shift, candidate − baseline, in the unit of the measure.
    pub shift: Option<f64>,
    /// Its 95 % interval.
    pub shift_ci95: Option<[f64; 2]>,
    /// Two-sided p value of the rank or permutation test.
    pub p_value: Option<f64>,
    /// The same, adjusted by Holm over the measures of this comparison that are judged.
    pub p_adjusted: Option<f64>,
    /// Which test, in words.
    pub test: Option<String>,
    /// Values of the two sides: baseline, candidate.
    pub n: [u64; 2],
    /// Independent units behind them (processes, or blocks).
    pub units: [u64; 2],
    /// Margin δ within which a ratio counts as the same, e.g. 0.01.
    pub margin: f64,
    /// Ratio noise of an A/A control of the same length, if one was run: the half width of its interval around 1.
    pub noise_floor: Option<f64>,
    /// Smallest relative change that this many values would find in 80 % of the studies; null where it cannot be told.
    pub minimal_detectable_effect: Option<f64>,
    /// Units of each side needed to decide, if the verdict is `cannot_tell` and it can be told.
    pub n_needed: Option<u64>,
    /// What can be said.
    pub verdict: Verdict,
    /// Why, in one sentence with its numbers.
    pub reason: String,
}

/// How much a difference between the subjects matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DifferenceKind {
    /// Meant to differ: a key the variants of a study set.
    Studied,
    /// Worth knowing.
    Note,
    /// Weakens the comparison; stands beside every verdict.
    Flag,
    /// Not the same work: no winner is named.
    NotTheSameWork,
}

/// A fact in which two subjects differ, or that one of them does not tell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Name of the fact.
    pub fact: String,
    /// Value of the baseline; null if unknown.
    pub baseline: Option<String>,
    /// Label of the candidate.
    pub candidate_label: String,
    /// Value of the candidate; null if unknown.
    pub candidate: Option<String>,
    /// How much it matters.
    pub kind: DifferenceKind,
    /// What it means, in a sentence.
    pub meaning: String,
}

/// Why a part of the time changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// Both have it; `count_ns` + `per_call_ns` = `delta_ns`.
    Changed,
    /// Only the candidate has it.
    New,
    /// Only the baseline has it.
    Gone,
    /// Idle time of one cause; `class` names the cause.
    Idle,
    /// Work that ran at the same time as other work (negative: more of it), which sums of kernels count twice.
    Overlap,
    /// Time no operator explains.
    Unattributed,
}

/// One part of a change. All times are per unit of `Attribution::per`, so that runs of different length compare.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttributionRow {
    /// Phase.
    pub phase: String,
    /// Layer, where both sides know it.
    pub layer: Option<u32>,
    /// Module.
    pub module: Option<String>,
    /// Operator class, or cause of idle time.
    pub class: String,
    /// Kernel or operator of the candidate (of the baseline where it is gone).
    pub kernel: Option<String>,
    /// Kernel of the baseline where it has another name.
    pub baseline_kernel: Option<String>,
    /// Why.
    pub change: ChangeKind,
    /// Time in the baseline, ns.
    pub baseline_ns: f64,
    /// Time in the candidate, ns.
    pub candidate_ns: f64,
    /// candidate − baseline, ns.
    pub delta_ns: f64,
    /// Calls in the baseline.
    pub baseline_calls: f64,
    /// Calls in the candidate.
    pub candidate_calls: f64,
    /// candidate − baseline calls.
    pub count_delta: f64,
    /// Mean of a call in the candidate − in the baseline, ns; null where one has none.
    pub per_call_delta_ns: Option<f64>,
    /// Part of `delta_ns` from more or fewer calls: count_delta × mean of the baseline.
    pub count_ns: f64,
    /// Part of `delta_ns` from slower or faster calls: candidate calls × per_call_delta.
    pub per_call_ns: f64,
    /// delta_ns / Σ |delta_ns| of all rows of the phase.
    pub share: f64,
    /// 95 % interval of `delta_ns` from how the time of the part varies from step to step (Welch); null where either side has fewer than five steps.
    /// It knows nothing of how one run differs from the next.
    #[serde(default)]
    pub delta_ci95_ns: Option<[f64; 2]>,
    /// How the two sides were matched, in words (`same kernel`, `same module, other kernel`, `same place in the step`).
    pub matched_by: String,
}

/// Where the difference between two subjects comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attribution {
    /// Label of the baseline.
    pub baseline_label: String,
    /// Label of the candidate.
    pub candidate_label: String,
    /// Case, where there are several.
    pub case: Option<String>,
    /// What times are divided by, in words: `repeat`, `step of its phase`, `whole trace`.
    pub per: String,
    /// By phase: time of the baseline, of the candidate, and their difference.
    pub phases: Vec<PhaseChange>,
    /// Largest changes first, by absolute time; every phase ends with its remainder row where rows were left out.
    pub rows: Vec<AttributionRow>,
    /// Rows left out, summed up in the remainder rows.
    pub rows_omitted: u64,
    /// Share of the larger side's time that was matched or explained; 1 where all of it was.
    pub accounted_share: Option<f64>,
    /// The largest findings in words, each a true sentence.
    pub sentences: Vec<String>,
    /// What could not be told and why.
    pub diagnostics: Vec<Diagnostic>,
}

/// One phase of both sides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhaseChange {
    /// Phase.
    pub phase: String,
    /// Units (repeats, steps) the times are means over: baseline, candidate.
    pub units: [u64; 2],
    /// Wall time of the baseline, ns.
    pub baseline_ns: f64,
    /// Wall time of the candidate, ns.
    pub candidate_ns: f64,
    /// candidate − baseline; equals the sum of the rows of this phase (remainder row included).
    pub delta_ns: f64,
    /// 95 % interval of `delta_ns` from how its units vary within each side; null where either side has fewer than five of them.
    #[serde(default)]
    pub delta_ci95_ns: Option<[f64; 2]>,
}

/// How one rule of a gate came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleOutcome {
    /// The evidence says that the rule is not broken.
    Passed,
    /// The evidence says that it is.
    Failed,
    /// The values do not decide.
    Undecided,
    /// A side has no such measure.
    Missing,
}

/// One rule of a gate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RuleResult {
    /// As written, e.g. `tpot_ms.p50>+3%`.
    pub rule: String,
    /// Label of the candidate it was held against.
    pub candidate_label: String,
    /// Case; null where there is one only.
    pub case: Option<String>,
    /// Relative (or absolute) change found.
    pub change: Option<f64>,
    /// Its interval at the confidence of the rule.
    pub interval: Option<[f64; 2]>,
    /// Confidence of the interval, e.g. 0.95.
    pub confidence: f64,
    /// How it came out.
    pub outcome: RuleOutcome,
    /// Why, in one sentence with its numbers.
    pub reason: String,
}

/// The gate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GateResult {
    /// No rule failed.
    pub passed: bool,
    /// All rules.
    pub rules: Vec<RuleResult>,
}

/// What a million tokens cost on one subject.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CostRow {
    /// Label.
    pub label: String,
    /// Case.
    pub case: Option<String>,
    /// Output tokens per second that the cost is of.
    pub output_tok_per_s: Option<f64>,
    /// Price of the machine.
    pub usd_per_hour: Option<f64>,
    /// USD for a million generated tokens, prompt processing included.
    pub usd_per_million_output_tokens: Option<f64>,
    /// Energy of a generated token in J.
    pub joule_per_output_token: Option<f64>,
    /// `measured`, or `configured power`.
    pub energy_source: Option<String>,
}

/// One subject as it stands in the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SubjectBlock {
    /// What the reports call it.
    pub label: String,
    /// Where it comes from.
    pub kind: SubjectKind,
    /// Tool with version.
    pub tool: String,
    /// Runs behind it.
    pub run_ids: Vec<String>,
    /// Files behind it.
    pub files: Vec<String>,
    /// What was run.
    pub facts: BTreeMap<String, Option<String>>,
    /// How the pieces ended.
    pub outcomes: Outcomes,
    /// Whether its own numbers may be relied on.
    pub validity: Validity,
    /// Summaries by case and measure.
    pub measures: Vec<SubjectMeasure>,
}

/// One measure of one subject.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SubjectMeasure {
    /// Case.
    pub case: Option<String>,
    /// Name.
    pub name: String,
    /// Its summary.
    pub summary: Summary,
}

/// Quality of one variant beside the reference, where it was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QualityRow {
    /// Label.
    pub label: String,
    /// Text the quality was measured on.
    pub text: String,
    /// Tokens predicted.
    pub tokens: u64,
    /// exp(mean negative log likelihood).
    pub perplexity: Option<f64>,
    /// 95 % interval of the perplexity over the tokens (blocks of tokens resampled).
    pub perplexity_ci95: Option<[f64; 2]>,
    /// Mean Kullback–Leibler divergence from the reference's distribution of the next token, nats.
    pub kl_mean_nats: Option<f64>,
    /// Its 99th percentile.
    pub kl_p99_nats: Option<f64>,
    /// Share of positions where both would pick the same token.
    pub top1_agreement: Option<f64>,
    /// What it was compared with, e.g. `f32`.
    pub reference: Option<String>,
}

impl QualityRow {
    /// What a run of the variant `label` measured.
    pub fn of(label: &str, block: QualityBlock) -> Self {
        Self {
            label: label.to_owned(),
            text: block.text,
            tokens: block.predicted,
            perplexity: block.perplexity,
            perplexity_ci95: block.perplexity_ci95,
            kl_mean_nats: block.kl_mean_nats,
            kl_p99_nats: block.kl_p99_nats,
            top1_agreement: block.top1_agreement,
            reference: block.reference_dtype,
        }
    }
}

/// How a study was run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StudyBlock {
    /// Seed of the order.
    pub seed: u64,
    /// `own process` or `in process`.
    pub isolation: String,
    /// Blocks that were finished.
    pub blocks: u64,
    /// Order of the variants in each block, by index.
    pub order: Vec<Vec<u32>>,
    /// Settings of each variant, in order of the labels.
    pub variants: Vec<BTreeMap<String, String>>,
    /// Labels.
    pub labels: Vec<String>,
    /// Why it ended: `precise enough`, `budget`, `blocks`, `interrupted`.
    pub stopped_because: String,
    /// Seconds it took.
    pub took_s: f64,
    /// Repeats left out as warm-up, by label: one number for each process.
    pub warmup_dropped: BTreeMap<String, Vec<u32>>,
    /// The A/A control: baseline against itself; empty where none was run.
    pub control: Vec<Comparison>,
    /// Measures the control found different although nothing differed.
    pub false_alarms: u64,
}

/// `metrics.json` of `compare` and `ab`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CompareMetrics {
    /// [`COMPARE_SCHEMA_VERSION`].
    pub schema_version: u32,
    /// `compare` or `ab`.
    pub command: String,
    /// The run.
    pub run_id: String,
    /// `complete`, `interrupted`, `failed` or `invalid`.
    pub status: String,
    /// Whether the verdicts may be relied on.
    pub validity: Validity,
    /// Empty: measures belong to the subjects. Kept because all commands share it.
    pub measures: BTreeMap<String, Summary>,
    /// The subjects, baseline first.
    pub subjects: Vec<SubjectBlock>,
    /// Facts in which they differ.
    pub differences: Vec<Difference>,
    /// Every measure of every candidate against the baseline.
    pub comparisons: Vec<Comparison>,
    /// Where the differences come from.
    pub attribution: Vec<Attribution>,
    /// The gate; null where no rule was given.
    pub gate: Option<GateResult>,
    /// Cost; empty without price and power.
    pub cost: Vec<CostRow>,
    /// Quality; empty where it was not measured.
    pub quality: Vec<QualityRow>,
    /// How the study was run; null for `compare`.
    pub study: Option<StudyBlock>,
    /// The answer in words, most important first; each sentence is true by itself.
    pub sentences: Vec<String>,
    /// Findings.
    pub diagnostics: Vec<Diagnostic>,
}
