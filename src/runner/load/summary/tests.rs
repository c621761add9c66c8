use proptest::prelude::*;

use super::*;
use crate::diagnostics::ValidityStatus;
use crate::record::load::context::StagePlan;
use crate::record::load::row::TokenSource;
use crate::runner::load::testing::{MS, closed, context, even, failed, open, row, stage, stream, ttft_level};

fn complete() -> Extras<'static> {
    Extras { status: "complete", ..Extras::default() }
}

/// The summary of one stage with these rows.
fn one(plan: StagePlan, rows: &[RequestRow]) -> LoadMetrics {
    summarize(&context(vec![stage(plan, rows)]), rows, &complete())
}

/// Two slots, 6 requests each, 10 tokens 20 ms apart after 100 ms: 280 ms to the last token, 281 to the end.
fn plain_rows() -> Vec<RequestRow> {
    (0..12).map(|id| even(id, (id / 2) * 281, 100, 20, 10)).collect()
}

fn diagnostic<'a>(metrics: &'a LoadMetrics, code: &str) -> Option<&'a Diagnostic> {
    metrics.diagnostics.iter().find(|diagnostic| diagnostic.code == code)
}

fn reasons(metrics: &LoadMetrics) -> String {
    metrics.validity.reasons.join("\n")
}

#[test]
fn a_small_run_adds_up_by_hand() {
    let metrics = one(closed(2), &plain_rows());
    assert_eq!((metrics.status.as_str(), metrics.validity.status), ("complete", ValidityStatus::Valid));
    assert_eq!(metrics.saturation, None);
    let [stage] = metrics.stages.as_slice() else { panic!("one stage") };
    assert!((stage.elapsed_s - 1.686).abs() < 1e-12, "6 · 281 ms");
    assert_eq!((stage.issued, stage.outcomes["ok"], stage.error_rate), (12, 12, Some(0.0)));
    assert_eq!((stage.input_tokens, stage.output_tokens, stage.cached_tokens), (Some(96), Some(120), None));
    assert_eq!(stage.token_sources, BTreeMap::from([("usage".to_owned(), 120)]));
    assert!((stage.rates.request_per_s.unwrap() - 12.0 / 1.686).abs() < 1e-9);
    assert!((stage.rates.output_tok_per_s.unwrap() - 120.0 / 1.686).abs() < 1e-9);
    assert!((stage.rates.total_tok_per_s.unwrap() - 216.0 / 1.686).abs() < 1e-9);
    assert_eq!((stage.rates.prefill_tok_per_s, stage.rates.per_user_tok_per_s), (Some(80.0), Some(50.0)));
    assert!((stage.rates.fairness.unwrap() - 1.0).abs() < 1e-12);
    assert_eq!(stage.measures["tpot_ms"].summary.p50, Some(20.0));
    assert_eq!(stage.measures["itl_ms"].summary.n, 12 * 9);
    assert_eq!(metrics.measures, stage.measures, "one stage speaks for the run");
    let steady = stage.steady.as_ref().expect("both slots were full all the time");
    assert_eq!((steady.from_s, steady.to_s), (0.0, 1.686));
    assert_eq!(steady.rates.output_tok_per_s, stage.rates.output_tok_per_s);
    assert_eq!((stage.late, stage.peak_in_flight, stage.goodput.len(), stage.goodput_per_s), (0, 2, 0, None));
    assert_eq!(stage.client.lag_ms, Some(0.05));
    assert_eq!(stage.client.cpu_us_per_chunk, Some(20.0));
    assert!(!stage.client.limited);
    let few = diagnostic(&metrics, "few_requests").unwrap();
    assert!(few.first.contains("12 requests do not support a p99, which needs 459"), "{}", few.first);
}

#[test]
fn failed_requests_are_counted_grouped_and_in_no_latency() {
    let mut rows = plain_rows();
    rows.push(failed(12, 100, Outcome::Http5xx, "status", "first"));
    rows.push(failed(13, 110, Outcome::Http5xx, "status", "second"));
    rows.push(failed(14, 120, Outcome::ConnectError, "refused", "nobody listens"));
    rows.push(failed(15, 130, Outcome::CancelledDeadline, "deadline", "over"));
    rows[12].status = Some(503);
    rows[13].status = Some(503);
    let metrics = one(closed(2), &rows);
    let stage = &metrics.stages[0];
    assert_eq!(stage.measures, one(closed(2), &plain_rows()).stages[0].measures);
    assert_eq!(stage.error_rate, Some(3.0 / 15.0), "what was cancelled is no answer of the server");
    assert_eq!(stage.outcomes.values().sum::<u64>(), stage.issued);
    let grouped: Vec<(&str, &str, Option<u16>, u64, &str)> = stage
        .errors
        .iter()
        .map(|error| (error.outcome.as_str(), error.kind.as_str(), error.status, error.count, error.first.as_str()))
        .collect();
    assert_eq!(
        grouped,
        [("http_5xx", "status", Some(503), 2, "first"), ("connect_error", "refused", None, 1, "nobody listens")]
    );
    let errors = diagnostic(&metrics, "errors").unwrap();
    assert!(errors.first.contains("3 requests failed (20.0 %)") && errors.first.contains("status 503: first"));
    assert!(reasons(&metrics).contains("20.0 % of the requests failed (limit 10.0 %)"), "{}", reasons(&metrics));
}

#[test]
fn too_many_errors_make_a_stage_invalid_and_none_that_succeeded_the_run() {
    let mut rows: Vec<RequestRow> = (0..9).map(|id| failed(id, id, Outcome::Http5xx, "status", "no")).collect();
    let metrics = one(closed(1), &rows);
    assert_eq!((metrics.status.as_str(), metrics.validity.status), ("invalid", ValidityStatus::Invalid));
    assert!(metrics.validity.reasons.contains(&"no request succeeded".to_owned()), "{}", reasons(&metrics));
    let stage = &metrics.stages[0];
    assert_eq!((stage.rates.request_per_s, stage.rates.output_tok_per_s, stage.output_tokens), (None, None, None));
    assert_eq!(stage.measures["e2e_ms"].summary.p50, None);
    rows.push(row(9, 20));
    let metrics = one(closed(1), &rows);
    assert!(
        reasons(&metrics).contains("stage `c=1`: 90.0 % of the requests failed (limit 10.0 %)"),
        "{}",
        reasons(&metrics)
    );
    assert!(!reasons(&metrics).contains("no request succeeded"));
}

#[test]
fn requests_without_an_outcome_break_the_law_and_the_run() {
    let rows = plain_rows();
    let mut context = context(vec![stage(closed(2), &rows)]);
    context.stages[0].issued = 14;
    let metrics = summarize(&context, &rows, &complete());
    let law = diagnostic(&metrics, "accounting").unwrap();
    assert_eq!((law.severity, law.count), (Severity::Error, 2));
    assert!(reasons(&metrics).contains("14 requests were issued, but their outcomes add up to 12"));
}

#[test]
fn a_run_that_was_cut_off_says_what_it_has() {
    let rows = plain_rows();
    let mut context = context(vec![stage(closed(2), &rows)]);
    context.complete = false;
    context.stages[0] = StageRecord { issued: 0, end_ns: 0, issue_end_ns: 0, ..context.stages[0].clone() };
    let metrics = summarize(&context, &rows, &Extras { status: "complete", ..Extras::default() });
    assert_eq!(metrics.status, "interrupted");
    assert!((metrics.stages[0].elapsed_s - 1.686).abs() < 1e-12, "its end is that of its rows");
    assert_eq!(metrics.stages[0].issued, 12);
    assert!(reasons(&metrics).contains("interrupted: 12 of 12 requests"), "{}", reasons(&metrics));
    assert_eq!(diagnostic(&metrics, "accounting"), None);
    context.stages[0].issued = 15;
    let metrics = summarize(&context, &rows, &complete());
    assert_eq!(
        diagnostic(&metrics, "rows_lost").map(|lost| (lost.severity, lost.count)),
        Some((Severity::DataLoss, 3))
    );
}

#[test]
fn a_run_stopped_by_the_user_is_interrupted_and_keeps_its_rows() {
    let mut rows = plain_rows();
    rows[11].outcome = Outcome::CancelledUser;
    let metrics = summarize(
        &context(vec![stage(closed(2), &rows)]),
        &rows,
        &Extras { status: "interrupted", ..Extras::default() },
    );
    assert_eq!((metrics.status.as_str(), metrics.validity.reasons.len()), ("interrupted", 1));
    assert!(reasons(&metrics).contains("interrupted: 11 of 12 requests had ended by themselves"));
    let between = summarize(
        &context(vec![stage(closed(2), &plain_rows())]),
        &plain_rows(),
        &Extras { status: "interrupted", ..Extras::default() },
    );
    assert_eq!(reasons(&between), "interrupted before all stages had run");
    let lost = summarize(&context(Vec::new()), &rows, &Extras { status: "failed", ..Extras::default() });
    assert_eq!((lost.status.as_str(), reasons(&lost).as_str()), ("failed", "an error ended the run\nno stage began"));
    assert_eq!(diagnostic(&lost, "rows_without_stage").unwrap().count, 12);
}

#[test]
fn a_client_that_is_too_slow_says_so_with_its_numbers() {
    let rows = plain_rows();
    let with = |change: &dyn Fn(&mut StageRecord)| {
        let mut record = stage(closed(2), &rows);
        change(&mut record);
        summarize(&context(vec![record]), &rows, &complete())
    };
    let lag = with(&|record| record.client.lag_ms = Some([0.1, 1.0, 3.5, 4.0, 9.0]));
    assert!(lag.stages[0].client.limited && lag.stages[0].client.lag_ms == Some(3.5));
    let text = reasons(&lag);
    assert!(text.contains("client-limited: p99 of this client's lag is 3.50 ms (limit 2.8 ms)"), "{text}");
    assert!(text.contains("sent late"), "the kernel's stamps are not late: {text}");
    let little = with(&|record| record.client.lag_ms = Some([0.1, 1.0, 2.7, 4.0, 9.0]));
    assert!(little.validity.is_valid(), "a hundredth of the median request of 280 ms: {}", reasons(&little));
    let user = with(&|record| {
        record.client.lag_ms = Some([0.1, 1.0, 3.5, 4.0, 9.0]);
        record.client.stamps = "user".to_owned();
    });
    assert!(reasons(&user).contains("stamped as late"), "{}", reasons(&user));
    let busy = with(&|record| record.client.busiest_worker = 0.97);
    assert!(busy.stages[0].client.limited && reasons(&busy).contains("busy 97.0 % of its time (limit 90.0 %)"));
    let paused = with(&|record| record.client.longest_pause_ms = 3000.0);
    assert!(diagnostic(&paused, "process_paused").unwrap().first.contains("stood still for 3.00 s"));
    assert!(!paused.validity.is_valid() && !paused.stages[0].client.limited);
    let few = with(&|record| {
        record.plan = closed(10);
        record.client.peak_in_flight = 9;
    });
    assert!(reasons(&few).contains("at most 9 of 10 requests were in flight at once"), "{}", reasons(&few));
    let fewer = with(&|record| record.plan = closed(50));
    assert!(reasons(&fewer).contains("only 12 were issued; raise `requests_per_stage`"), "{}", reasons(&fewer));
    let stopped = with(&|record| {
        record.stopped = Some("requests pile up".to_owned());
        record.not_issued = 7;
    });
    assert!(reasons(&stopped).contains("given up: requests pile up"));
    assert_eq!(diagnostic(&stopped, "not_issued").unwrap().count, 7);
}

#[test]
fn an_open_loop_that_is_late_is_invalid_and_a_closed_one_has_no_schedule() {
    let mut rows: Vec<RequestRow> = (0..40).map(|id| even(id, id * 100, 10, 10, 5)).collect();
    for late in &mut rows[10..20] {
        late.due_ns -= 25 * MS;
    }
    let metrics = one(open(10.0), &rows);
    assert!(
        reasons(&metrics)
            .contains("load generator late: p99 of the delay between due and sent is 25.00 ms (limit 10 ms)")
    );
    let stage = &metrics.stages[0];
    assert_eq!((stage.late, stage.measures["dispatch_delay_ms"].summary.n), (10, 40));
    assert_eq!(stage.measures["ttft_from_due_ms"].summary.max, Some(35.0));
    assert_eq!(stage.measures["ttft_ms"].summary.max, Some(10.0));
    let closed_loop = one(closed(1), &rows);
    assert!(closed_loop.validity.is_valid());
    assert_eq!(closed_loop.stages[0].measures["queue_ms"].summary.max, Some(25.0));
    assert_eq!(closed_loop.stages[0].late, 0);
}

#[test]
fn token_counts_of_two_sources_are_not_mixed_and_missing_usage_is_said() {
    let mut rows = plain_rows();
    for row in &mut rows {
        row.token_source = Some(TokenSource::Chunks);
    }
    let metrics = one(closed(2), &rows);
    assert!(metrics.validity.is_valid(), "one source is one source");
    let missing = diagnostic(&metrics, "usage_missing").unwrap();
    assert_eq!((missing.severity, missing.count), (Severity::Warn, 12));
    assert!(missing.first.contains("come from chunks"), "{}", missing.first);
    rows[0].token_source = Some(TokenSource::Usage);
    let metrics = one(closed(2), &rows);
    assert!(reasons(&metrics).contains("mixed sources of token counts, with their requests: chunks (11), usage (1)"));
    assert_eq!(metrics.stages[0].token_sources, BTreeMap::from([("chunks".to_owned(), 110), ("usage".to_owned(), 10)]));
    assert_eq!(diagnostic(&one(closed(2), &plain_rows()), "usage_missing"), None);
}

#[test]
fn what_is_odd_about_requests_is_said_and_kept() {
    let mut rows: Vec<RequestRow> = (0..30).map(|id| even(id, id * 281, 100 + id % 3, 20, 10)).collect();
    rows[0] = even(0, 0, 900, 20, 10);
    rows[17] = even(17, 17 * 281, 100, 400, 10);
    rows[3].notes = vec!["done_missing".to_owned(), "<script>".to_owned()];
    rows[5].notes = vec!["done_missing".to_owned()];
    let mut context = context(vec![stage(closed(1), &rows)]);
    context.workload.distinct = 1;
    let metrics = summarize(&context, &rows, &complete());
    let slow = diagnostic(&metrics, "slow_first_request").unwrap();
    assert!(slow.first.contains("the first request waited 900.00 ms"), "{}", slow.first);
    let outlier = diagnostic(&metrics, "outlier").unwrap();
    assert_eq!(outlier.count, 2, "{}", outlier.first);
    assert!(outlier.first.contains("request 0 had a TTFT of 900.00 ms, the median is 101.00 ms"), "{}", outlier.first);
    assert_eq!(metrics.stages[0].measures["e2e_ms"].summary.max, Some(3700.0), "nothing is dropped");
    let done = diagnostic(&metrics, "done_missing").unwrap();
    assert_eq!((done.severity, done.count), (Severity::Info, 2));
    assert!(metrics.diagnostics.iter().all(|found| !found.code.contains('<')));
    assert_eq!(diagnostic(&metrics, "identical_prompts").unwrap().severity, Severity::Warn);
}

#[test]
fn without_streams_there_are_ends_and_no_first_tokens() {
    let rows: Vec<RequestRow> = (0..12).map(|id| row(id, id * 100)).collect();
    let mut context = context(vec![stage(closed(1), &rows)]);
    context.levels = vec![ttft_level(1e6)];
    context.price_usd_per_hour = Some(3.6);
    let metrics = summarize(&context, &rows, &complete());
    let stage = &metrics.stages[0];
    assert_eq!((stage.measures["ttft_ms"].summary.n, stage.measures["e2e_ms"].summary.p50), (0, Some(100.0)));
    assert_eq!((stage.rates.prefill_tok_per_s, stage.rates.per_user_tok_per_s), (None, None));
    assert_eq!((stage.rates.output_tok_per_s, stage.goodput[0].good, stage.goodput_per_s), (Some(40.0), 0, Some(0.0)));
    // 1.2 s at 0.001 USD per second for 48 tokens.
    assert!((stage.cost.usd_per_million_output_tokens.unwrap() - 25.0).abs() < 1e-9);
    assert_eq!(stage.cost.energy_j, None);
}

#[test]
fn warm_up_is_in_no_figure_and_stages_stay_apart() {
    let mut rows = plain_rows();
    let mut slow = even(0, 0, 5000, 20, 10);
    slow.phase = Phase::Warmup;
    let second: Vec<RequestRow> =
        (0..12).map(|id| RequestRow { stage: 1, ..even(id, 10_000 + (id / 4) * 281, 100, 20, 10) }).collect();
    let mut records = vec![stage(closed(2), &rows), stage(closed(4), &second)];
    records[1].begin_ns = 10_000 * MS;
    rows.push(slow);
    rows.extend(second);
    let metrics = summarize(&context(records), &rows, &complete());
    assert_eq!(metrics.stages[0].measures["ttft_ms"].summary.max, Some(100.0));
    assert!((metrics.stages[1].elapsed_s - 0.843).abs() < 1e-9);
    let rate = |stage: &StageBlock| stage.rates.request_per_s.unwrap();
    assert!((rate(&metrics.stages[1]) - 2.0 * rate(&metrics.stages[0])).abs() < 1e-9);
    let saturation = metrics.saturation.as_ref().unwrap();
    assert_eq!(saturation.best.as_ref().unwrap().stage, "c=4");
    assert_eq!(metrics.measures, metrics.stages[1].measures, "the best stage speaks for the run");
}

fn any_row(id: u64) -> impl Strategy<Value = RequestRow> {
    (0u64..2000, 1u64..200, 0u64..50, 1u64..12, 0usize..Outcome::ALL.len() * 2).prop_map(
        move |(sent, ttft, gap, tokens, outcome)| match Outcome::ALL.get(outcome) {
            Some(outcome) if *outcome != Outcome::Ok => failed(id, sent, *outcome, "kind", "words"),
            _ => even(id, sent, ttft, gap, tokens),
        },
    )
}

fn any_rows() -> impl Strategy<Value = Vec<RequestRow>> {
    (1u64..40).prop_flat_map(|n| (0..n).map(any_row).collect::<Vec<_>>())
}

proptest! {
    #[test]
    fn the_order_of_the_rows_changes_nothing(rows in any_rows(), seed in any::<u64>()) {
        let context = context(vec![stage(closed(3), &rows)]);
        let mut random = crate::stats::bootstrap::Generator::new(seed);
        let mut shuffled = rows.clone();
        for place in (1..shuffled.len()).rev() {
            shuffled.swap(place, random.below(place + 1));
        }
        prop_assert_eq!(summarize(&context, &rows, &complete()), summarize(&context, &shuffled, &complete()));
    }

    #[test]
    fn failed_rows_change_no_latency_and_no_sum_of_outcomes(rows in any_rows(), more in 1u64..20) {
        let before = one(closed(3), &rows);
        let mut with = rows.clone();
        let next = rows.len() as u64;
        with.extend((0..more).map(|extra| failed(next + extra, extra * 7, Outcome::StreamTruncated, "eof", "gone")));
        let after = one(closed(3), &with);
        prop_assert_eq!(&before.stages[0].measures, &after.stages[0].measures);
        prop_assert_eq!(before.stages[0].output_tokens, after.stages[0].output_tokens);
        for stage in before.stages.iter().chain(&after.stages) {
            prop_assert_eq!(stage.outcomes.values().sum::<u64>(), stage.issued);
        }
        prop_assert_eq!(after.stages[0].issued, with.len() as u64);
    }

    #[test]
    fn a_summary_survives_being_written_and_read(rows in any_rows()) {
        let metrics = one(closed(3), &rows);
        let text = serde_json::to_string(&metrics).unwrap();
        prop_assert_eq!(serde_json::from_str::<LoadMetrics>(&text).unwrap(), metrics);
    }
}

#[test]
fn rows_somebody_edited_give_figures_and_no_panic() {
    let mut rows = plain_rows();
    rows[0].chunks.at_us = vec![u64::MAX, 0, 7];
    rows[1].output_tokens = Some(u64::MAX);
    rows[2].chunks.tokens = Some(vec![0; 10]);
    rows[3].end_us = Some(u64::MAX);
    rows[4].sent_ns = Some(u64::MAX);
    rows[5].connect_ms = Some(f64::INFINITY);
    let metrics = one(closed(2), &rows);
    assert_eq!(metrics.stages[0].outcomes["ok"], 12);
    assert_eq!(metrics.stages[0].measures["connect_ms"].summary.mean, None);
}

#[test]
fn the_stream_helper_and_the_even_one_agree() {
    assert_eq!(stream(1, 5, &[10, 30, 50]), even(1, 5, 10, 20, 3));
}
