//! Studies whose turns are drawn instead of measured: what the rule for the end does to the verdicts, and what becomes of failures.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use rand_distr::{Distribution as _, Normal};

use super::drive::{self, FAILURES_RUNNING, Host, Outlook, StudyEnd, Turn, TurnEnd};
use super::stop::StopReason;
use super::widths::{counts, half_widths, whole_blocks};
use crate::record::ab::{AB_SCHEMA_VERSION, AbContext, AbPart, AbRow, AbVariant, Isolation};
use crate::record::rows::{Contention, MemoryUse, ROW_SCHEMA_VERSION, RepeatRow, RowStatus};
use crate::stats::bootstrap::Statistic;
use crate::stats::ratio::{Design, Groups, ratio_interval};

fn context(labels: &[&str], control_blocks: u32, blocks: u32, precision: f64) -> AbContext {
    AbContext {
        schema_version: AB_SCHEMA_VERSION,
        run_id: "study".to_owned(),
        variants: labels.iter().map(|label| AbVariant { label: (*label).to_owned(), overrides: Vec::new() }).collect(),
        shared: Vec::new(),
        isolation: Isolation::OwnProcess,
        seed: 1,
        min_blocks: 6,
        blocks,
        control_blocks,
        budget_s: 1e6,
        precision,
        margin: 0.0,
        fail_on: Vec::new(),
        studied: Vec::new(),
        allow_invalid: false,
        diagnostics: Vec::new(),
    }
}

fn repeat(index: u32, total_ms: f64) -> RepeatRow {
    RepeatRow {
        schema_version: ROW_SCHEMA_VERSION,
        run_id: "r".to_owned(),
        index,
        case: "case".to_owned(),
        repeat: index,
        spans: false,
        traced: false,
        status: RowStatus::Ok,
        error: None,
        model: "m".to_owned(),
        backend: "candle".to_owned(),
        dtype: "f32".to_owned(),
        device: "cpu".to_owned(),
        batch: 1,
        prompt_len: 8,
        new_tokens: 5,
        mode: "single_pass".to_owned(),
        started_at: "2026-01-01T00:00:00.000Z".to_owned(),
        ttft_ms: None,
        prefill_ms: None,
        decode_ms: None,
        total_ms: Some(total_ms),
        remainder_ms: None,
        host: None,
        tpot_ms: None,
        itl_ms: Vec::new(),
        prefill_tok_per_s: None,
        decode_tok_per_s: None,
        total_tok_per_s: None,
        ttft_s: None,
        tpot_s: None,
        dt_full_s: None,
        tok_s: None,
        peak_memory_allocated_gb: None,
        memory: MemoryUse::default(),
        contention: Contention::default(),
        cpu_utilisation: None,
        energy_j: None,
        energy_source: None,
        cpu_energy_j: None,
        gpu: None,
        tokens: Vec::new(),
        text: None,
        finish_reason: None,
        diagnostics: Vec::new(),
    }
}

/// Turns drawn from log-normal times: blocks drift together, processes differ, repeats scatter.
struct Simulated {
    generator: StdRng,
    /// True ratio of each variant to the baseline.
    ratios: Vec<f64>,
    /// Spread (of the logarithm) between processes and between the repeats of one.
    spread: [f64; 2],
    drift: Vec<f64>,
    now_s: f64,
    turns: Vec<Turn>,
    /// What a turn does instead of measuring.
    fails: fn(&Turn) -> Option<TurnEnd>,
    interrupt_after: usize,
}

impl Simulated {
    fn new(seed: u64, ratios: &[f64], spread: [f64; 2]) -> Self {
        Self {
            generator: StdRng::seed_from_u64(seed),
            ratios: ratios.to_vec(),
            spread,
            drift: Vec::new(),
            now_s: 0.0,
            turns: Vec::new(),
            fails: |_| None,
            interrupt_after: usize::MAX,
        }
    }
    fn normal(&mut self, spread: f64) -> f64 {
        Normal::new(0.0, spread).unwrap().sample(&mut self.generator)
    }
}

impl Host for Simulated {
    type Error = std::convert::Infallible;
    fn run(&mut self, turn: &Turn) -> Result<TurnEnd, Self::Error> {
        self.turns.push(*turn);
        self.now_s += 1.0;
        if let Some(end) = (self.fails)(turn) {
            return Ok(end);
        }
        while self.drift.len() <= turn.block as usize {
            let step = self.normal(0.02);
            let last = self.drift.last().copied().unwrap_or(0.0);
            self.drift.push(last + step);
        }
        let level =
            self.drift[turn.block as usize] + self.normal(self.spread[0]) + self.ratios[turn.settings_of()].ln();
        let rows = (0..3).map(|index| repeat(index, 100.0 * (level + self.normal(self.spread[1])).exp())).collect();
        Ok(TurnEnd { rows, child: turn.run_id(), failure: None, interrupted: false })
    }
    fn begins(&mut self, _: &Turn, _: &str, _: &Outlook) {}
    fn rows(&mut self, _: &[AbRow]) -> Result<(), Self::Error> {
        Ok(())
    }
    fn elapsed_s(&self) -> f64 {
        self.now_s
    }
    fn interrupted(&self) -> bool {
        self.turns.len() >= self.interrupt_after
    }
}

fn study(context: &AbContext, host: &mut Simulated) -> StudyEnd {
    let Ok(end) = drive::run(context, host);
    end
}

/// Whether the 95 % interval of the ratio excludes 1 when the study is over.
fn finds_a_difference(end: &StudyEnd) -> bool {
    let side = |variant: u32| {
        let blocks = whole_blocks(&end.rows, AbPart::Study, 2);
        Groups(
            blocks
                .iter()
                .map(|block| {
                    let of_turn =
                        end.rows.iter().filter(|row| row.block == *block && row.variant == variant && counts(row));
                    of_turn.filter_map(|row| row.row.as_ref()?.total_ms).collect()
                })
                .collect(),
        )
    };
    let estimate = ratio_interval(&side(1), &side(0), Statistic::Median, Design::Blocked, 0.95, 1000, 5).unwrap();
    estimate.interval[0] > 1.0 || estimate.interval[1] < 1.0
}

#[test]
fn ending_when_precise_enough_keeps_the_rate_of_false_alarms() {
    // Spread 2 % between processes: 8 to 40 blocks until the interval is ±1 %, so the rule really chooses the length.
    let context = context(&["a", "b"], 0, 60, 0.01);
    let (mut alarms, mut precise, mut lengths) = (0, 0, std::collections::BTreeSet::new());
    let studies = 400;
    for seed in 0..studies {
        let end = study(&context, &mut Simulated::new(seed, &[1.0, 1.0], [0.02, 0.005]));
        alarms += u32::from(finds_a_difference(&end));
        precise += u32::from(end.reason == StopReason::PreciseEnough);
        lengths.insert(end.rows.last().unwrap().block);
    }
    assert!(precise > 390 && lengths.len() > 5, "{precise} of {studies} ended for precision, after {lengths:?}");
    // 5 % of 400 is 20; the 99th percentile of Binomial(400, 0.05) is 31.
    assert!(alarms <= 31, "{alarms} false alarms in {studies} studies");
}

#[test]
fn stopping_at_the_first_winner_would_not() {
    // What the rule above is spared: the same studies, looked at after every round, ended at the first interval that excludes 1.
    let studies = 100;
    let context = context(&["a", "b"], 0, 60, 0.0);
    let mut alarms = 0;
    for seed in 0..studies {
        let end = study(&context, &mut Simulated::new(seed, &[1.0, 1.0], [0.02, 0.005]));
        let looks = (6..=60).step_by(2);
        let found = looks.into_iter().any(|blocks| {
            let rows = end.rows.iter().filter(|row| row.block < blocks).cloned().collect();
            finds_a_difference(&StudyEnd { rows, ..end.clone() })
        });
        alarms += u32::from(found);
    }
    assert!(alarms > 12, "{alarms} false alarms in {studies} studies: then this rule would have been good enough");
}

#[test]
fn a_true_difference_is_found_by_a_study_that_ends_when_precise_enough() {
    let context = context(&["a", "b"], 0, 60, 0.01);
    let found = (0..50)
        .filter(|seed| finds_a_difference(&study(&context, &mut Simulated::new(*seed, &[1.0, 1.05], [0.02, 0.005]))))
        .count();
    assert!(found >= 49, "a slowdown of 5 % was found in {found} of 50 studies");
}

#[test]
fn the_control_runs_the_baseline_twice_before_the_study() {
    let context = context(&["a", "b", "c"], 6, 9, 0.0);
    let mut host = Simulated::new(1, &[1.0, 2.0, 3.0], [0.01, 0.01]);
    let end = study(&context, &mut host);
    assert_eq!(end.reason, StopReason::Blocks);
    let control: Vec<&Turn> = host.turns.iter().filter(|turn| turn.part == AbPart::Control).collect();
    assert_eq!(control.len(), 12);
    assert!(host.turns[..12].iter().all(|turn| turn.part == AbPart::Control && turn.settings_of() == 0));
    let labels: std::collections::BTreeSet<&str> =
        end.rows.iter().filter(|row| row.part == AbPart::Control).map(|row| row.label.as_str()).collect();
    assert_eq!(labels.into_iter().collect::<Vec<_>>(), ["a", "a again"]);
    assert_eq!(host.turns.len(), 12 + 27);
    let ids: std::collections::BTreeSet<String> = host.turns.iter().map(Turn::run_id).collect();
    assert_eq!(ids.len(), host.turns.len(), "every turn has an id of its own");
    let indices: Vec<u64> = end.rows.iter().map(|row| row.index).collect();
    assert_eq!(indices, (0..end.rows.len() as u64).collect::<Vec<_>>());
}

#[test]
fn a_budget_ends_the_study_after_whole_blocks_and_the_control_leaves_it_its_share() {
    // A turn takes a second.
    let context = AbContext { budget_s: 50.0, ..context(&["a", "b"], 30, 1000, 0.0) };
    let mut host = Simulated::new(1, &[1.0, 1.0], [0.01, 0.01]);
    let end = study(&context, &mut host);
    assert_eq!(end.reason, StopReason::Budget);
    assert!(end.took_s <= 50.0, "{}", end.took_s);
    let turns = |part| host.turns.iter().filter(|turn| turn.part == part).count();
    assert_eq!((turns(AbPart::Control), turns(AbPart::Study)), (20, 30));
    assert!(end.diagnostics.as_slice().iter().any(|found| found.code == "short_control"));
}

#[test]
fn a_study_whose_budget_is_spent_already_still_runs_one_block() {
    let context = AbContext { budget_s: 0.5, ..context(&["a", "b"], 0, 1000, 0.0) };
    let mut host = Simulated::new(1, &[1.0, 1.0], [0.01, 0.01]);
    let end = study(&context, &mut host);
    assert_eq!((end.reason, host.turns.len()), (StopReason::Budget, 2));
}

fn failing(status: RowStatus) -> TurnEnd {
    let failure = Some((status, "no weights".to_owned()));
    TurnEnd { rows: Vec::new(), child: "x".to_owned(), failure, interrupted: false }
}

#[test]
fn a_variant_that_never_works_ends_the_study_in_its_first_block() {
    let mut host = Simulated::new(1, &[1.0, 1.0], [0.01, 0.01]);
    host.fails = |turn| (turn.variant == 1).then(|| failing(RowStatus::Oom));
    let end = study(&context(&["a", "b"], 0, 20, 0.01), &mut host);
    let failure = end.failure.expect("b failed");
    assert_eq!((end.reason, failure.label.as_str(), failure.never_worked), (StopReason::Failed, "b", true));
    assert_eq!(failure.error, "no weights");
    assert!(host.turns.len() <= 2);
    let last = end.rows.last().expect("the failure is a row");
    assert_eq!((last.status, last.error.as_deref(), &last.row), (RowStatus::Oom, Some("no weights"), &None));
}

#[test]
fn a_failure_in_between_is_a_row_and_its_block_does_not_count() {
    let mut host = Simulated::new(1, &[1.0, 1.0], [0.01, 0.01]);
    host.fails = |turn| (turn.block == 3 && turn.variant == 1).then(|| failing(RowStatus::Failed));
    let end = study(&context(&["a", "b"], 0, 10, 0.0), &mut host);
    assert_eq!((end.reason, &end.failure), (StopReason::Blocks, &None));
    assert_eq!(end.rows.iter().filter(|row| row.status == RowStatus::Failed).count(), 1);
    let whole: Vec<u32> = whole_blocks(&end.rows, AbPart::Study, 2).into_iter().collect();
    assert_eq!(whole, [0, 1, 2, 4, 5, 6, 7, 8, 9]);
    assert!(half_widths(&end.rows, 2, 1).iter().all(Option::is_some));
}

#[test]
fn a_variant_that_fails_again_and_again_ends_the_study_and_all_rows_stay() {
    let mut host = Simulated::new(1, &[1.0, 1.0], [0.01, 0.01]);
    host.fails = |turn| (turn.block >= 4 && turn.variant == 1).then(|| failing(RowStatus::Failed));
    let end = study(&context(&["a", "b"], 0, 20, 0.0), &mut host);
    let failure = end.failure.expect("b failed");
    assert!(!failure.never_worked);
    assert_eq!(host.turns.last().map(|turn| turn.block), Some(4 + FAILURES_RUNNING - 1));
    assert!(whole_blocks(&end.rows, AbPart::Study, 2).len() == 4);
}

#[test]
fn an_interrupt_ends_the_study_between_turns() {
    let mut host = Simulated::new(1, &[1.0, 1.0], [0.01, 0.01]);
    host.interrupt_after = 7;
    let end = study(&context(&["a", "b"], 0, 20, 0.0), &mut host);
    assert_eq!((end.reason, host.turns.len()), (StopReason::Interrupted, 7));
    assert_eq!(whole_blocks(&end.rows, AbPart::Study, 2).len(), 3, "the seventh turn is half a block");
}

#[test]
fn a_process_that_warms_up_leaves_out_its_slow_repeats_and_says_so() {
    // The warm-up of a process: three repeats at twice the time, then nine steady ones.
    let mut host = Simulated::new(1, &[1.0, 1.0], [0.001, 0.001]);
    host.fails = |turn| {
        let mut generator = StdRng::seed_from_u64(u64::from(turn.process));
        let mut noise = move || 1.0 + 0.004 * (generator.random::<f64>() - 0.5);
        let rows = (0..12).map(|index| repeat(index, if index < 3 { 200.0 } else { 100.0 } * noise())).collect();
        Some(TurnEnd { rows, child: turn.run_id(), failure: None, interrupted: false })
    };
    let end = study(&context(&["a", "b"], 0, 6, 0.0), &mut host);
    for turn in 0..12 {
        let dropped: Vec<bool> =
            end.rows.iter().filter(|row| row.process == turn).map(|row| row.dropped_as_warmup).collect();
        assert_eq!(dropped, [[true; 3].as_slice(), &[false; 9]].concat(), "turn {turn}");
    }
    assert!(end.rows.iter().filter(|row| counts(row)).all(|row| row.row.as_ref().unwrap().total_ms.unwrap() < 150.0));
}
