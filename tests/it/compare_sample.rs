//! Comparisons to render: values that a real study could have, coherent with one another.

#![expect(clippy::unwrap_used, reason = "test support: a panic is how a test says no")]

use std::collections::BTreeMap;

use perfprof::compare::measure::{Direction, kind};
use perfprof::compare::result::{
    Attribution, AttributionRow, COMPARE_SCHEMA_VERSION, ChangeKind, CompareMetrics, Comparison, CostRow, Difference,
    DifferenceKind, GateResult, PhaseChange, QualityRow, RuleOutcome, RuleResult, StudyBlock, SubjectBlock,
    SubjectMeasure, Verdict,
};
use perfprof::compare::subject::{MeasureValues, Outcomes, SubjectKind};
use perfprof::diagnostics::{Diagnostic, Severity, Validity};
use perfprof::report::AssumptionSection;
use perfprof::report::compare::{CompareReport, Distribution, VALUES_KEPT};
use perfprof::stats::summary::Summary;

/// What a report is made from.
pub(crate) struct CompareSample {
    pub(crate) metrics: CompareMetrics,
    pub(crate) distributions: Vec<Distribution>,
    pub(crate) provenance: Vec<(String, String)>,
    pub(crate) assumptions: Vec<AssumptionSection>,
    pub(crate) generated_at: String,
}

impl CompareSample {
    pub(crate) fn report(&self) -> CompareReport<'_> {
        CompareReport {
            metrics: &self.metrics,
            distributions: &self.distributions,
            provenance: &self.provenance,
            assumptions: &self.assumptions,
            generated_at: &self.generated_at,
        }
    }
}

/// Values round `middle` with a relative spread of 1 %, and a slope over the blocks that both sides share.
fn values(middle: f64, seed: u64) -> Vec<f64> {
    let mut state = seed;
    (0..40_u32)
        .map(|at| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let noise = (state >> 33) as f64 / f64::from(u32::MAX >> 1) - 0.5;
            middle * (1.0 + 0.02 * noise + 0.0004 * f64::from(at / 4))
        })
        .collect()
}

fn measured(case: Option<&str>, name: &str, unit: &str, middle: f64, seed: u64) -> MeasureValues {
    MeasureValues {
        case: case.map(str::to_owned),
        name: name.to_owned(),
        unit: unit.to_owned(),
        values: values(middle, seed),
        runs: (0..40).map(|at| at / 4).collect(),
        blocks: (0..40).map(|at| at / 4).collect(),
        reported: None,
    }
}

fn block(label: &str, settings: &[(&str, &str)], measures: &[MeasureValues]) -> SubjectBlock {
    let facts = settings.iter().map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned())));
    SubjectBlock {
        label: label.to_owned(),
        kind: SubjectKind::Stage1,
        tool: "perfprof 0.1.0".to_owned(),
        run_ids: vec![format!("20260101-000000-{label}")],
        files: Vec::new(),
        facts: facts
            .chain([("model".to_owned(), Some("smollm2-135m".to_owned())), ("clock_mhz".to_owned(), None)])
            .collect(),
        outcomes: Outcomes { ok: 40, ..Outcomes::default() },
        validity: Validity::from_reasons(Vec::new()),
        measures: measures
            .iter()
            .map(|measure| SubjectMeasure {
                case: measure.case.clone(),
                name: measure.name.clone(),
                summary: Summary::from_values(&measure.unit, &measure.values),
            })
            .collect(),
    }
}

fn median(values: &[f64]) -> f64 {
    Summary::from_values("", values).p50.unwrap()
}

/// A comparison of two lists; half the width of the interval is given.
fn compared(
    baseline: (&str, &MeasureValues),
    candidate: (&str, &MeasureValues),
    half: f64,
    verdict: Verdict,
) -> Comparison {
    let (a, b) = (median(&baseline.1.values), median(&candidate.1.values));
    let ratio = b / a;
    let direction = kind(&baseline.1.name).direction;
    let decided = !matches!(verdict, Verdict::Same | Verdict::CannotTell);
    Comparison {
        case: baseline.1.case.clone(),
        measure: baseline.1.name.clone(),
        unit: baseline.1.unit.clone(),
        direction,
        statistic: "median".to_owned(),
        baseline_label: baseline.0.to_owned(),
        candidate_label: candidate.0.to_owned(),
        baseline: Some(a),
        candidate: Some(b),
        ratio: Some(ratio),
        ci95: Some([ratio * (1.0 - half), ratio * (1.0 + half)]),
        interval_method: Some("BCa bootstrap over blocks, 10 000 resamples".to_owned()),
        shift: Some(b - a),
        shift_ci95: Some([b - a * (1.0 + half), b - a * (1.0 - half)]),
        p_value: Some(if decided { 0.000_01 } else { 0.21 }),
        p_adjusted: Some(if decided { 0.000_04 } else { 0.42 }),
        test: Some("permutation within blocks".to_owned()),
        n: [40, 40],
        units: [10, 10],
        margin: 0.01,
        noise_floor: Some(0.004),
        minimal_detectable_effect: Some(0.009),
        n_needed: (verdict == Verdict::CannotTell).then_some(34),
        verdict,
        reason: format!(
            "the 95 % interval of the ratio reaches from {:.3} to {:.3}; the margin is 1 %",
            ratio * (1.0 - half),
            ratio * (1.0 + half)
        ),
    }
}

#[expect(clippy::too_many_arguments, reason = "a row of a table of literals")]
fn part(
    phase: &str,
    module: Option<&str>,
    class: &str,
    change: ChangeKind,
    [baseline_ns, candidate_ns]: [f64; 2],
    [baseline_calls, candidate_calls]: [f64; 2],
    baseline_kernel: Option<&str>,
    whole: f64,
) -> AttributionRow {
    let both = change == ChangeKind::Changed;
    let count_delta = candidate_calls - baseline_calls;
    let per_call = |ns: f64, calls: f64| ns / calls.max(1.0);
    let (before, now) = (per_call(baseline_ns, baseline_calls), per_call(candidate_ns, candidate_calls));
    AttributionRow {
        phase: phase.to_owned(),
        layer: None,
        module: module.map(str::to_owned),
        class: class.to_owned(),
        kernel: module.map(|module| format!("{module}_q4")),
        baseline_kernel: baseline_kernel.map(str::to_owned),
        change,
        baseline_ns,
        candidate_ns,
        delta_ns: candidate_ns - baseline_ns,
        baseline_calls,
        candidate_calls,
        count_delta,
        per_call_delta_ns: both.then_some(now - before),
        count_ns: if both { count_delta * before } else { 0.0 },
        per_call_ns: if both { candidate_calls * (now - before) } else { 0.0 },
        share: (candidate_ns - baseline_ns) / whole,
        delta_ci95_ns: both.then_some([candidate_ns - baseline_ns - 4e4, candidate_ns - baseline_ns + 4e4]),
        matched_by: "same module, other kernel".to_owned(),
    }
}

fn attribution(baseline: &str, candidate: &str) -> Attribution {
    let decode =
        |module, class, change, ns, calls, kernel| part("decode", module, class, change, ns, calls, kernel, 3.9e6);
    let changed = ChangeKind::Changed;
    Attribution {
        baseline_label: baseline.to_owned(),
        candidate_label: candidate.to_owned(),
        case: None,
        per: "step of its phase".to_owned(),
        phases: vec![
            PhaseChange {
                phase: "decode".to_owned(),
                units: [640, 640],
                baseline_ns: 12.0e6,
                candidate_ns: 8.9e6,
                delta_ns: -3.1e6,
                delta_ci95_ns: Some([-3.2e6, -3.0e6]),
            },
            PhaseChange {
                phase: "prefill".to_owned(),
                units: [40, 40],
                baseline_ns: 80.0e6,
                candidate_ns: 80.1e6,
                delta_ns: 0.1e6,
                delta_ci95_ns: None,
            },
        ],
        rows: vec![
            decode(Some("down_proj"), "linear", changed, [4.0e6, 2.5e6], [30.0, 30.0], Some("matvec_q4_0")),
            decode(Some("gate_up_proj"), "linear", ChangeKind::New, [0.0, 3.0e6], [0.0, 30.0], None),
            decode(Some("gate_proj"), "linear", ChangeKind::Gone, [2.2e6, 0.0], [30.0, 0.0], None),
            decode(Some("up_proj"), "linear", ChangeKind::Gone, [2.2e6, 0.0], [30.0, 0.0], None),
            decode(Some("norm"), "norm", changed, [0.6e6, 0.3e6], [61.0, 30.0], Some("norm_q4")),
            decode(None, "threads waited for each other", ChangeKind::Idle, [0.5e6, 0.6e6], [0.0, 0.0], None),
            decode(None, "remainder", ChangeKind::Unattributed, [2.5e6, 2.5e6], [0.0, 0.0], None),
            part("prefill", Some("attention"), "attention", changed, [9.0e6, 9.1e6], [30.0, 30.0], None, 0.1e6),
        ],
        rows_omitted: 3,
        accounted_share: Some(0.992),
        sentences: vec!["down_proj takes 1.5 ms less in a step of decode, all of it from faster calls.".to_owned()],
        diagnostics: Vec::new(),
    }
}

fn rule(text: &str, candidate: &str, outcome: RuleOutcome, change: Option<f64>) -> RuleResult {
    RuleResult {
        rule: text.to_owned(),
        candidate_label: candidate.to_owned(),
        case: (outcome != RuleOutcome::Missing).then(|| "chat-128".to_owned()),
        change,
        interval: change.map(|change| [change - 0.01, change + 0.01]),
        confidence: 0.95,
        outcome,
        reason: match outcome {
            RuleOutcome::Passed => "the whole interval lies below the limit",
            RuleOutcome::Failed => "the whole interval lies above +3 %",
            RuleOutcome::Undecided => "the interval holds the limit",
            RuleOutcome::Missing => "neither side has this measure",
        }
        .to_owned(),
    }
}

/// An interleaved study of two implementations with every verdict there is, one failed rule, and a cost.
pub(crate) fn study() -> CompareSample {
    let (a, b) = ("stock", "fused");
    let chat = Some("chat-128");
    let long = Some("long-1024");
    let sides = |scale: [f64; 6], seed: u64| {
        vec![
            measured(chat, "tpot_ms", "ms", 12.0 * scale[0], seed),
            measured(chat, "ttft_ms", "ms", 80.0 * scale[1], seed + 1),
            measured(chat, "decode_tok_per_s", "tok/s", 83.3 * scale[2], seed + 2),
            measured(long, "tpot_ms", "ms", 14.0 * scale[3], seed + 3),
            measured(chat, "peak_rss_bytes", "bytes", 3.1e8 * scale[4], seed + 4),
            measured(chat, "tokens", "", 64.0 * scale[5], seed + 5),
        ]
    };
    let stock = sides([1.0; 6], 1);
    let fused = sides([0.742, 1.0, 1.348, 0.99, 1.08, 1.5], 50);
    let verdicts = [
        (0.004, Verdict::Faster),
        (0.004, Verdict::Same),
        (0.004, Verdict::Faster),
        (0.02, Verdict::CannotTell),
        (0.003, Verdict::Higher),
        (0.01, Verdict::Higher),
    ];
    let comparisons: Vec<Comparison> = stock
        .iter()
        .zip(&fused)
        .zip(verdicts)
        .map(|((old, new), (half, verdict))| compared((a, old), (b, new), half, verdict))
        .collect();
    let control: Vec<Comparison> = stock
        .iter()
        .take(3)
        .map(|one| {
            let again = measured(one.case.as_deref(), &one.name, &one.unit, median(&one.values) / 1.0018, 900);
            compared((a, one), ("stock again", &again), 0.004, Verdict::Same)
        })
        .collect();
    let distributions = [(a, &stock), (b, &fused)]
        .iter()
        .flat_map(|(label, side)| side.iter().map(|one| Distribution::new(label, one, VALUES_KEPT)))
        .collect();
    let cost = |label: &str, rate: f64| CostRow {
        label: label.to_owned(),
        case: chat.map(str::to_owned),
        output_tok_per_s: Some(rate),
        usd_per_hour: Some(0.5),
        usd_per_million_output_tokens: Some(0.5 / 3600.0 / rate * 1e6),
        joule_per_output_token: None,
        energy_source: None,
    };
    let mut stock_block = block(a, &[("engine.ops", "stock")], &stock);
    stock_block.outcomes.disturbed = 2;
    let metrics = CompareMetrics {
        schema_version: COMPARE_SCHEMA_VERSION,
        command: "ab".to_owned(),
        run_id: "20260101-000000-abcd".to_owned(),
        status: "complete".to_owned(),
        validity: Validity::from_reasons(Vec::new()),
        measures: BTreeMap::new(),
        subjects: vec![stock_block, block(b, &[("engine.ops", "fused")], &fused)],
        differences: vec![
            Difference {
                fact: "engine.ops".to_owned(),
                baseline: Some("stock".to_owned()),
                candidate_label: b.to_owned(),
                candidate: Some("fused".to_owned()),
                kind: DifferenceKind::Studied,
                meaning: "the study sets it".to_owned(),
            },
            Difference {
                fact: "clock_mhz".to_owned(),
                baseline: None,
                candidate_label: b.to_owned(),
                candidate: None,
                kind: DifferenceKind::Note,
                meaning: "neither side says how fast its clock ran".to_owned(),
            },
        ],
        comparisons,
        attribution: vec![attribution(a, b)],
        gate: Some(GateResult {
            passed: false,
            rules: vec![
                rule("tpot_ms.p50>+3%", b, RuleOutcome::Passed, Some(-0.258)),
                rule("peak_rss_bytes>+3%", b, RuleOutcome::Failed, Some(0.08)),
                rule("ttft_ms.p50>+1%", b, RuleOutcome::Undecided, Some(0.005)),
                rule("energy_j>+3%", b, RuleOutcome::Missing, None),
            ],
        }),
        cost: vec![cost(a, 83.3), cost(b, 112.3)],
        quality: Vec::new(),
        study: Some(StudyBlock {
            seed: 7,
            isolation: "own process".to_owned(),
            blocks: 10,
            order: (0..10).map(|block| if block % 2 == 0 { vec![0, 1, 1, 0] } else { vec![1, 0, 0, 1] }).collect(),
            variants: vec![
                BTreeMap::from([("engine.ops".to_owned(), "stock".to_owned())]),
                BTreeMap::from([("engine.ops".to_owned(), "fused".to_owned())]),
            ],
            labels: vec![a.to_owned(), b.to_owned()],
            stopped_because: "precise enough".to_owned(),
            took_s: 312.5,
            warmup_dropped: BTreeMap::from([(a.to_owned(), vec![1, 2, 1]), (b.to_owned(), vec![1, 1])]),
            control,
            false_alarms: 0,
        }),
        sentences: vec![
            "fused is faster: tpot_ms of chat-128 is 25.8 % lower.".to_owned(),
            "Memory is higher by 8 %".to_owned(),
        ],
        diagnostics: vec![Diagnostic::new("no_clock", Severity::Info, "the clock could not be read")],
    };
    CompareSample {
        metrics,
        distributions,
        provenance: vec![("command line".to_owned(), "perfprof ab --config ops.yaml".to_owned())],
        assumptions: vec![AssumptionSection {
            title: "This study".to_owned(),
            lines: vec![("prompt".to_owned(), "128 tokens of English".to_owned())],
        }],
        generated_at: "2026-01-01T00:05:12Z".to_owned(),
    }
}

/// The study with prompts that differ; the numbers and sentences still name a winner, which no report may repeat.
pub(crate) fn unequal() -> CompareSample {
    let mut sample = study();
    sample.metrics.differences.push(Difference {
        fact: "prompts_sha256".to_owned(),
        baseline: Some("aaaa".to_owned()),
        candidate_label: "fused".to_owned(),
        candidate: Some("bbbb".to_owned()),
        kind: DifferenceKind::NotTheSameWork,
        meaning: "the sides read different prompts".to_owned(),
    });
    for row in &mut sample.metrics.comparisons {
        "fused is faster or slower".clone_into(&mut row.reason);
    }
    sample.metrics.gate = None;
    sample
}

/// Five formats of one model with quality, speed and memory.
pub(crate) fn formats() -> CompareSample {
    let variants = [
        ("f32", 1.0, 5.4e8, 18.21, None),
        ("f16", 1.7, 2.7e8, 18.21, Some(0.000_01)),
        ("bf16", 1.7, 2.7e8, 18.25, Some(0.0009)),
        ("q8_0", 2.9, 1.45e8, 18.27, Some(0.0013)),
        ("q4_k", 4.6, 0.9e8, 19.4, Some(0.058)),
    ];
    let mut sample = study();
    let sides: Vec<Vec<MeasureValues>> = variants
        .iter()
        .zip(1..)
        .map(|((_, speed, weights, ..), seed)| {
            vec![
                measured(None, "prefill_tok_per_s", "tok/s", 400.0 * speed, seed),
                measured(None, "decode_tok_per_s", "tok/s", 20.0 * speed, seed + 10),
                measured(None, "weights_bytes", "bytes", *weights, seed + 20),
            ]
        })
        .collect();
    let metrics = &mut sample.metrics;
    metrics.subjects =
        variants.iter().zip(&sides).map(|(variant, side)| block(variant.0, &[("dtype", variant.0)], side)).collect();
    metrics.comparisons = variants[1..]
        .iter()
        .zip(&sides[1..])
        .flat_map(|(variant, side)| {
            side.iter().zip(&sides[0]).map(|(new, old)| {
                let verdict = if new.name == "weights_bytes" { Verdict::Lower } else { Verdict::Faster };
                compared(("f32", old), (variant.0, new), 0.01, verdict)
            })
        })
        .collect();
    metrics.differences.clear();
    metrics.attribution.clear();
    metrics.gate = None;
    metrics.cost.clear();
    metrics.study = None;
    metrics.sentences.clear();
    metrics.quality = variants
        .iter()
        .map(|(label, _, _, perplexity, kl)| QualityRow {
            label: (*label).to_owned(),
            text: "embedded text".to_owned(),
            tokens: 2047,
            perplexity: Some(*perplexity),
            perplexity_ci95: Some([perplexity - 0.9, perplexity + 0.9]),
            kl_mean_nats: *kl,
            kl_p99_nats: kl.map(|kl| kl * 12.0),
            top1_agreement: kl.map(|kl| 1.0 - kl * 2.0),
            reference: kl.map(|_| "f32".to_owned()),
        })
        .collect();
    sample.distributions = variants
        .iter()
        .zip(&sides)
        .flat_map(|(variant, side)| side.iter().map(|one| Distribution::new(variant.0, one, VALUES_KEPT)))
        .collect();
    sample
}

/// A comparison in which nothing is known.
pub(crate) fn empty() -> CompareSample {
    let mut sample = study();
    sample.metrics = CompareMetrics {
        subjects: Vec::new(),
        differences: Vec::new(),
        comparisons: Vec::new(),
        attribution: Vec::new(),
        gate: None,
        cost: Vec::new(),
        quality: Vec::new(),
        study: None,
        sentences: Vec::new(),
        diagnostics: Vec::new(),
        ..sample.metrics
    };
    sample.distributions.clear();
    sample.provenance.clear();
    sample.assumptions.clear();
    sample
}

/// The study with `change` applied to every text that is free: not to the words of closed vocabularies.
pub(crate) fn poisoned(change: &dyn Fn(&str) -> String) -> CompareSample {
    let mut sample = study();
    sample.metrics.quality = formats().metrics.quality;
    let mut document = serde_json::to_value(&sample.metrics).unwrap();
    for pointer in texts(&document) {
        let old = document.pointer(&pointer).unwrap().clone();
        *document.pointer_mut(&pointer).unwrap() = change(old.as_str().unwrap()).into();
        if serde_json::from_value::<CompareMetrics>(document.clone()).is_err() {
            *document.pointer_mut(&pointer).unwrap() = old;
        }
    }
    sample.metrics = serde_json::from_value(document).unwrap();
    for subject in &mut sample.metrics.subjects {
        subject.facts = subject.facts.iter().map(|(name, value)| (change(name), value.clone())).collect();
    }
    let study = sample.metrics.study.as_mut().unwrap();
    study.warmup_dropped = study.warmup_dropped.iter().map(|(name, value)| (change(name), value.clone())).collect();
    "complete".clone_into(&mut sample.metrics.status);
    for one in &mut sample.distributions {
        (one.label, one.measure, one.unit) = (change(&one.label), change(&one.measure), change(&one.unit));
        one.case = one.case.as_deref().map(change);
    }
    sample.provenance = vec![(change("name"), change("text"))];
    sample.assumptions =
        vec![AssumptionSection { title: change("title"), lines: vec![(change("name"), change("text"))] }];
    sample.generated_at = change("2026");
    sample
}

/// Pointers of all texts in `value`.
fn texts(value: &serde_json::Value) -> Vec<String> {
    use serde_json::Value;
    let below =
        |key: String, value: &Value| texts(value).into_iter().map(|rest| format!("/{key}{rest}")).collect::<Vec<_>>();
    match value {
        Value::String(_) => vec![String::new()],
        Value::Object(map) => {
            map.iter().flat_map(|(key, value)| below(key.replace('~', "~0").replace('/', "~1"), value)).collect()
        }
        Value::Array(items) => items.iter().enumerate().flat_map(|(at, value)| below(at.to_string(), value)).collect(),
        _ => Vec::new(),
    }
}

/// A generator of comparisons that a reader or a study could hand over, however odd: a value of every kind wherever one is allowed.
pub(crate) struct Odd(u64);

impl Odd {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }
    /// SplitMix64 (Steele, Lea & Flood, OOPSLA 2014).
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
    fn pick<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize].clone()
    }
    fn text(&mut self) -> String {
        const TEXTS: [&str; 11] = [
            "a",
            "b",
            "",
            "q4|0",
            "=1+1",
            "<b>&amp;",
            "#x",
            "- x",
            "عربي",
            "\u{202e}x\u{1b}[0m\u{fffe}",
            "`x` *y* _z_ ]]>",
        ];
        if self.below(40) == 0 { "long ".repeat(400) } else { self.pick(&TEXTS).to_owned() }
    }
    fn number(&mut self) -> f64 {
        const NUMBERS: [f64; 14] = [
            0.0,
            -0.0,
            1.0,
            1.05,
            0.97,
            0.3,
            -3.5,
            12.4,
            1e-300,
            1e300,
            f64::MAX,
            f64::MIN_POSITIVE,
            123_456.789,
            2.5e6,
        ];
        self.pick(&NUMBERS)
    }
    fn maybe(&mut self) -> Option<f64> {
        (self.below(3) > 0).then(|| self.number())
    }
    fn interval(&mut self) -> Option<[f64; 2]> {
        (self.below(3) > 0).then(|| [self.number(), self.number()])
    }
    fn maybe_text(&mut self) -> Option<String> {
        (self.below(2) > 0).then(|| self.text())
    }
    fn some<T>(&mut self, most: u64, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(most + 1)).map(|_| make(self)).collect()
    }
    fn measure(&mut self) -> String {
        self.pick(&["tpot_ms", "ttft_ms.p99", "decode_tok_per_s", "peak_rss_bytes", "mfu_decode", "tokens", "<x>"])
            .to_owned()
    }
    fn comparison(&mut self) -> Comparison {
        use Verdict::{CannotTell, Faster, Higher, Lower, Same, Slower};
        let measure = self.measure();
        Comparison {
            case: self.maybe_text(),
            direction: self.pick(&[Direction::LowerIsBetter, Direction::HigherIsBetter, Direction::Neutral]),
            measure,
            unit: self.pick(&["ms", "tok/s", "bytes", "ratio", "", "<u>"]).to_owned(),
            statistic: self.pick(&["median", "p99", "mean"]).to_owned(),
            baseline_label: self.text(),
            candidate_label: self.text(),
            baseline: self.maybe(),
            candidate: self.maybe(),
            ratio: self.maybe(),
            ci95: self.interval(),
            interval_method: self.maybe_text(),
            shift: self.maybe(),
            shift_ci95: self.interval(),
            p_value: self.maybe(),
            p_adjusted: self.maybe(),
            test: self.maybe_text(),
            n: [self.below(3), self.next()],
            units: [self.below(3), self.below(100)],
            margin: self.number(),
            noise_floor: self.maybe(),
            minimal_detectable_effect: self.maybe(),
            n_needed: (self.below(2) > 0).then(|| self.next()),
            verdict: self.pick(&[Faster, Slower, Lower, Higher, Same, CannotTell]),
            reason: self.text(),
        }
    }
    fn validity(&mut self) -> Validity {
        let reasons = if self.below(4) == 0 { vec![self.text()] } else { Vec::new() };
        Validity::from_reasons(reasons)
    }
    fn diagnostic(&mut self) -> Diagnostic {
        let severity = self.pick(&[Severity::Info, Severity::Warn, Severity::Error, Severity::DataLoss]);
        Diagnostic { code: self.text(), severity, count: self.next(), first: self.text() }
    }
    fn summary(&mut self) -> Summary {
        Summary { unit: self.text(), n: self.below(9), p50: self.maybe(), mean: self.maybe(), ..Summary::default() }
    }
    fn subject(&mut self) -> SubjectBlock {
        SubjectBlock {
            label: self.text(),
            kind: self.pick(&[SubjectKind::Stage1, SubjectKind::Trace, SubjectKind::Load, SubjectKind::Imported]),
            tool: self.text(),
            run_ids: self.some(2, Self::text),
            files: self.some(2, Self::text),
            facts: self.some(4, |odd| (odd.text(), odd.maybe_text())).into_iter().collect(),
            outcomes: Outcomes {
                ok: self.below(3),
                failed: self.below(3),
                oom: self.below(2),
                interrupted: self.below(2),
                disturbed: self.below(2),
            },
            validity: self.validity(),
            measures: self.some(3, |odd| SubjectMeasure {
                case: odd.maybe_text(),
                name: odd.pick(&["decode_tok_per_s", "weights_bytes", "other"]).to_owned(),
                summary: odd.summary(),
            }),
        }
    }
    fn attribution(&mut self) -> Attribution {
        use ChangeKind::{Changed, Gone, Idle, New, Overlap, Unattributed};
        let phase = |odd: &mut Self| odd.pick(&["decode", "prefill", "<p>"]).to_owned();
        Attribution {
            baseline_label: self.text(),
            candidate_label: self.text(),
            case: self.maybe_text(),
            per: self.text(),
            phases: self.some(3, |odd| PhaseChange {
                phase: phase(odd),
                units: [odd.below(9), odd.next()],
                baseline_ns: odd.number(),
                candidate_ns: odd.number(),
                delta_ns: odd.number(),
                delta_ci95_ns: odd.interval(),
            }),
            rows: self.some(20, |odd| AttributionRow {
                phase: phase(odd),
                layer: (odd.below(2) > 0).then_some(3),
                module: odd.maybe_text(),
                class: odd.text(),
                kernel: odd.maybe_text(),
                baseline_kernel: odd.maybe_text(),
                change: odd.pick(&[Changed, New, Gone, Idle, Overlap, Unattributed]),
                baseline_ns: odd.number(),
                candidate_ns: odd.number(),
                delta_ns: odd.number(),
                baseline_calls: odd.number(),
                candidate_calls: odd.number(),
                count_delta: odd.number(),
                per_call_delta_ns: odd.maybe(),
                count_ns: odd.number(),
                per_call_ns: odd.number(),
                share: odd.number(),
                delta_ci95_ns: odd.interval(),
                matched_by: odd.text(),
            }),
            rows_omitted: self.below(3),
            accounted_share: self.maybe(),
            sentences: self.some(2, Self::text),
            diagnostics: self.some(2, Self::diagnostic),
        }
    }
    /// The next sample.
    pub(crate) fn sample(&mut self) -> CompareSample {
        use DifferenceKind::{Flag, NotTheSameWork, Note, Studied};
        use RuleOutcome::{Failed, Missing, Passed, Undecided};
        let metrics = CompareMetrics {
            schema_version: COMPARE_SCHEMA_VERSION,
            command: self.pick(&["compare", "ab"]).to_owned(),
            run_id: self.text(),
            status: self.pick(&["complete", "interrupted", "failed", "invalid"]).to_owned(),
            validity: self.validity(),
            measures: BTreeMap::new(),
            subjects: self.some(4, Self::subject),
            differences: self.some(3, |odd| Difference {
                fact: odd.text(),
                baseline: odd.maybe_text(),
                candidate_label: odd.text(),
                candidate: odd.maybe_text(),
                kind: odd.pick(&[Studied, Note, Flag, Flag, NotTheSameWork]),
                meaning: odd.text(),
            }),
            comparisons: self.some(12, Self::comparison),
            attribution: self.some(3, Self::attribution),
            gate: (self.below(2) > 0).then(|| GateResult {
                passed: self.below(2) > 0,
                rules: self.some(4, |odd| RuleResult {
                    rule: odd.text(),
                    candidate_label: odd.text(),
                    case: odd.maybe_text(),
                    change: odd.maybe(),
                    interval: odd.interval(),
                    confidence: odd.number(),
                    outcome: odd.pick(&[Passed, Failed, Undecided, Missing]),
                    reason: odd.text(),
                }),
            }),
            cost: self.some(2, |odd| CostRow {
                label: odd.text(),
                case: odd.maybe_text(),
                output_tok_per_s: odd.maybe(),
                usd_per_hour: odd.maybe(),
                usd_per_million_output_tokens: odd.maybe(),
                joule_per_output_token: odd.maybe(),
                energy_source: odd.maybe_text(),
            }),
            quality: self.some(3, |odd| QualityRow {
                label: odd.text(),
                text: odd.text(),
                tokens: odd.next(),
                perplexity: odd.maybe(),
                perplexity_ci95: odd.interval(),
                kl_mean_nats: odd.maybe(),
                kl_p99_nats: odd.maybe(),
                top1_agreement: odd.maybe(),
                reference: odd.maybe_text(),
            }),
            study: (self.below(2) > 0).then(|| StudyBlock {
                seed: self.next(),
                isolation: self.text(),
                blocks: self.below(5),
                order: self.some(3, |odd| odd.some(4, |odd| odd.below(6) as u32)),
                variants: self.some(3, |odd| odd.some(2, |odd| (odd.text(), odd.text())).into_iter().collect()),
                labels: self.some(3, Self::text),
                stopped_because: self.text(),
                took_s: self.number(),
                warmup_dropped: self
                    .some(2, |odd| (odd.text(), odd.some(3, |odd| odd.below(9) as u32)))
                    .into_iter()
                    .collect(),
                control: self.some(3, Self::comparison),
                false_alarms: self.below(3),
            }),
            sentences: self.some(3, Self::text),
            diagnostics: self.some(3, Self::diagnostic),
        };
        CompareSample {
            metrics,
            distributions: self.some(6, |odd| {
                let values = odd.some(8, Self::number);
                let blocks =
                    if odd.below(2) > 0 { values.iter().map(|_| odd.below(3) as u32).collect() } else { Vec::new() };
                Distribution {
                    label: odd.text(),
                    case: odd.maybe_text(),
                    measure: odd.measure(),
                    unit: odd.text(),
                    runs: Vec::new(),
                    total: odd.below(20),
                    values,
                    blocks,
                }
            }),
            provenance: self.some(2, |odd| (odd.text(), odd.text())),
            assumptions: Vec::new(),
            generated_at: self.text(),
        }
    }
}
