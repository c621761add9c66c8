//! Rates of a stage and of its steady part, and the requests that kept a service level.

use std::collections::BTreeMap;

use super::measures::per_user_tok_per_s;
use super::steady::{arrived_in, tokens_received};
use crate::config::schema::load::Slo;
use crate::record::load::metrics::{Goodput, Rates};
use crate::record::load::row::RequestRow;
use crate::stats::quantile::median;
use crate::stats::summary::sum;

/// The sum of a number of every row; `None` for no row, or if one does not know it: a part would pass for the whole.
pub(super) fn total(rows: &[&RequestRow], get: impl Fn(&RequestRow) -> Option<u64>) -> Option<u64> {
    let sum = rows.iter().try_fold(0u64, |sum, row| Some(sum.saturating_add(get(row)?)));
    sum.filter(|_| !rows.is_empty())
}

/// Jain's index (Jain, Chiu & Hawe, DEC-TR-301, 1984): (Σx)² / (n Σx²); `None` without values or where all are 0.
fn fairness(rates: &[f64]) -> Option<f64> {
    let squares: Vec<f64> = rates.iter().map(|rate| rate * rate).collect();
    let squares = rates.len() as f64 * sum(&squares);
    (squares > 0.0).then(|| sum(rates).powi(2) / squares)
}

/// What users saw, without the length of a window.
fn of_requests(ok: &[&RequestRow]) -> Rates {
    let each = |get: &dyn Fn(&RequestRow) -> Option<f64>| ok.iter().filter_map(|row| get(row)).collect::<Vec<f64>>();
    let prefill = each(&|row| {
        let ttft = row.ttft_ms().filter(|ttft| *ttft > 0.0)?;
        Some(row.input_tokens? as f64 / ttft * 1e3)
    });
    let output = each(&|row| {
        let e2e = row.e2e_ms().filter(|e2e| *e2e > 0.0)?;
        Some(row.output_tokens? as f64 / e2e * 1e3)
    });
    Rates {
        prefill_tok_per_s: median(&prefill),
        per_user_tok_per_s: median(&each(&per_user_tok_per_s)),
        fairness: fairness(&output),
        ..Rates::default()
    }
}

/// Rates over a whole stage of `window_s` seconds, in which all of `ok` ended. Without a success nothing is known of the server's rates.
pub(super) fn whole(ok: &[&RequestRow], window_s: f64) -> Rates {
    let rate = |count: Option<f64>| count.filter(|_| window_s > 0.0 && !ok.is_empty()).map(|count| count / window_s);
    let input = total(ok, |row| row.input_tokens).map(|tokens| tokens as f64);
    let output = total(ok, |row| row.output_tokens).map(|tokens| tokens as f64);
    Rates {
        window_s: (window_s > 0.0).then_some(window_s),
        request_per_s: rate(Some(ok.len() as f64)),
        output_tok_per_s: rate(output),
        total_tok_per_s: rate(input.zip(output).map(|(input, output)| input + output)),
        ..of_requests(ok)
    }
}

/// Rates in a window (ns of the run's clock) of a stage: requests that ended in it, tokens that arrived in it, prompts whose first token did.
/// `sent` are the requests that were sent in it, over which users are asked.
pub(super) fn within(ok: &[&RequestRow], sent: &[&RequestRow], window: (u64, u64)) -> Rates {
    let window_s = (window.1 - window.0) as f64 / 1e9;
    let inside =
        |row: &RequestRow, us: Option<u64>| us.and_then(|us| row.at_ns(us)).is_some_and(|at| arrived_in(at, window));
    let ended = ok.iter().filter(|row| inside(row, row.end_us)).count() as f64;
    let output: Option<f64> = ok.iter().map(|row| tokens_received(row, window)).sum();
    let prompts = ok.iter().filter(|row| inside(row, row.chunks.at_us.first().copied().or(row.end_us)));
    let input: Option<f64> = prompts.map(|row| row.input_tokens.map(|tokens| tokens as f64)).sum();
    Rates {
        window_s: Some(window_s),
        request_per_s: Some(ended / window_s),
        output_tok_per_s: output.map(|tokens| tokens / window_s),
        total_tok_per_s: output.zip(input).map(|(output, input)| (output + input) / window_s),
        ..of_requests(sent)
    }
}

/// The limits of a level that a successful request broke. What is not known cannot be called kept, but a single token has no TPOT and no gap.
pub fn broken_limits(row: &RequestRow, level: &Slo) -> Vec<&'static str> {
    let above = |limit: Option<f64>, value: Option<f64>, without: bool| {
        limit.is_some_and(|limit| value.map_or(!without, |value| value > limit))
    };
    let single = row.output_tokens.is_some_and(|tokens| tokens <= 1);
    let largest_gap = row.gaps_ms().reduce(f64::max);
    let limits = [
        ("ttft_ms", above(level.ttft_ms, row.ttft_ms(), false)),
        ("tpot_ms", above(level.tpot_ms, row.tpot_ms(), single)),
        ("itl_ms", above(level.itl_ms, largest_gap, single)),
        ("e2e_ms", above(level.e2e_ms, row.e2e_ms(), false)),
    ];
    limits.into_iter().filter(|(_, broken)| *broken).map(|(name, _)| name).collect()
}

/// The limits that a level sets.
fn set_limits(level: &Slo) -> impl Iterator<Item = &'static str> {
    let limits =
        [("ttft_ms", level.ttft_ms), ("tpot_ms", level.tpot_ms), ("itl_ms", level.itl_ms), ("e2e_ms", level.e2e_ms)];
    limits.into_iter().filter(|(_, limit)| limit.is_some()).map(|(name, _)| name)
}

/// The requests of a stage that kept `level`; failed ones did not, cancelled ones are not asked.
pub(super) fn goodput(measured: &[&RequestRow], ok: &[&RequestRow], level: &Slo, window_s: f64) -> Goodput {
    let of = measured.iter().filter(|row| !row.outcome.is_cancelled()).count() as u64;
    let mut broken: BTreeMap<String, u64> = set_limits(level).map(|name| (name.to_owned(), 0)).collect();
    let mut good: Vec<&RequestRow> = Vec::new();
    for row in ok {
        let limits = broken_limits(row, level);
        if limits.is_empty() {
            good.push(row);
        }
        for name in limits {
            *broken.entry(name.to_owned()).or_default() += 1;
        }
    }
    let share = (of > 0).then(|| good.len() as f64 / of as f64);
    let rate = |count: f64| (of > 0 && window_s > 0.0).then(|| count / window_s);
    // No good request has no tokens, which is known.
    let tokens = if good.is_empty() { Some(0) } else { total(&good, |row| row.output_tokens) };
    Goodput {
        slo: level.name.clone(),
        good: good.len() as u64,
        of,
        share,
        request_per_s: rate(good.len() as f64),
        output_tok_per_s: tokens.and_then(|tokens| rate(tokens as f64)),
        broken,
        kept: share.is_some_and(|share| share >= level.quantile),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::load::outcome::Outcome;
    use crate::runner::load::testing::{MS, even, failed, row, stream, ttft_level};

    fn refs(rows: &[RequestRow]) -> Vec<&RequestRow> {
        rows.iter().collect()
    }

    #[test]
    fn rates_of_a_stage_are_sums_over_its_length() {
        // 8 prompt tokens in 100 ms and 200 ms; 5 tokens to 300 ms and 6 tokens to 700 ms.
        let rows = [even(0, 0, 100, 50, 5), even(1, 0, 200, 100, 6)];
        let rates = whole(&refs(&rows), 2.0);
        assert_eq!((rates.window_s, rates.request_per_s), (Some(2.0), Some(1.0)));
        assert_eq!((rates.output_tok_per_s, rates.total_tok_per_s), (Some(5.5), Some(13.5)));
        assert_eq!(rates.prefill_tok_per_s, Some(60.0), "the median of 80 and 40");
        assert_eq!(rates.per_user_tok_per_s, Some(15.0), "the median of 1/50 ms and 1/100 ms");
        // 5 / 0.3 s = 16.67 and 6 / 0.7 s = 8.57: (25.238)² / (2 · 351.25).
        assert!((rates.fairness.unwrap() - 0.906_714).abs() < 1e-6, "{:?}", rates.fairness);
    }

    #[test]
    fn one_unknown_count_makes_the_sum_unknown_and_no_success_makes_no_rate() {
        let mut rows = [even(0, 0, 100, 50, 5), even(1, 0, 200, 100, 6)];
        rows[1].output_tokens = None;
        let rates = whole(&refs(&rows), 2.0);
        assert_eq!((rates.request_per_s, rates.output_tok_per_s, rates.total_tok_per_s), (Some(1.0), None, None));
        let nothing = whole(&[], 2.0);
        assert_eq!((nothing.request_per_s, nothing.output_tok_per_s, nothing.fairness), (None, None, None));
        assert_eq!(whole(&refs(&rows), 0.0).request_per_s, None);
    }

    #[test]
    fn one_user_who_takes_all_is_one_nth_fair() {
        assert_eq!(fairness(&[8.0, 0.0, 0.0, 0.0]), Some(0.25));
        assert_eq!(fairness(&[3.0, 3.0, 3.0]), Some(1.0));
        assert_eq!((fairness(&[]), fairness(&[0.0])), (None, None));
    }

    #[test]
    fn a_window_counts_what_happens_in_it() {
        // Chunks at 1100, 1200, …, 1500 and 1600, …, 2000; ends at 1501 and 2001.
        let rows = [even(0, 1000, 100, 100, 5), even(1, 1500, 100, 100, 5)];
        let rates = within(&refs(&rows), &refs(&rows[1..]), (1300 * MS, 1700 * MS));
        assert_eq!(rates.window_s, Some(0.4));
        assert_eq!(rates.request_per_s, Some(2.5), "one of them ended in it");
        assert_eq!(rates.output_tok_per_s, Some(10.0), "1300, 1400, 1500, 1600; 1700 is outside");
        assert_eq!(rates.total_tok_per_s, Some(30.0), "and the 8 tokens of the second prompt");
        assert_eq!(rates.per_user_tok_per_s, Some(10.0));
    }

    #[test]
    fn a_level_is_kept_by_requests_that_keep_all_of_it() {
        let level = Slo { tpot_ms: Some(20.0), e2e_ms: Some(300.0), quantile: 0.5, ..ttft_level(100.0) };
        let mut cancelled = even(5, 0, 50, 10, 5);
        cancelled.outcome = Outcome::CancelledDeadline;
        let rows = [
            even(0, 0, 100, 20, 5),
            even(1, 0, 101, 10, 5),
            even(2, 0, 120, 30, 8),
            even(3, 0, 50, 10, 5),
            failed(4, 0, Outcome::RateLimited, "status", "slow down"),
            cancelled,
        ];
        let all = refs(&rows);
        let ok: Vec<&RequestRow> = all.iter().copied().filter(|row| row.outcome == Outcome::Ok).collect();
        let found = goodput(&all, &ok, &level, 2.0);
        assert_eq!((found.good, found.of, found.share), (2, 5, Some(0.4)));
        assert_eq!((found.request_per_s, found.output_tok_per_s, found.kept), (Some(1.0), Some(5.0), false));
        let broken: Vec<(&str, u64)> = found.broken.iter().map(|(name, count)| (name.as_str(), *count)).collect();
        assert_eq!(broken, [("e2e_ms", 1), ("tpot_ms", 1), ("ttft_ms", 2)]);
        assert!(goodput(&all, &ok, &Slo { quantile: 0.4, ..level.clone() }, 2.0).kept);
        let none = goodput(&[], &[], &level, 2.0);
        assert_eq!((none.of, none.share, none.request_per_s, none.kept), (0, None, None, false));
    }

    #[test]
    fn a_single_token_keeps_what_it_cannot_have_and_an_answer_in_one_piece_does_not() {
        let level = Slo { ttft_ms: None, tpot_ms: Some(1.0), itl_ms: Some(1.0), ..ttft_level(0.0) };
        assert!(broken_limits(&stream(0, 0, &[50]), &level).is_empty());
        assert_eq!(broken_limits(&row(0, 0), &level), ["tpot_ms", "itl_ms"], "four tokens nobody saw coming");
        assert_eq!(broken_limits(&row(0, 0), &ttft_level(1e9)), ["ttft_ms"]);
        let mut one = row(0, 0);
        one.output_tokens = Some(1);
        assert!(broken_limits(&one, &level).is_empty());
        // The largest gap decides, not the mean.
        let gaps = Slo { itl_ms: Some(30.0), tpot_ms: None, ..level };
        assert!(broken_limits(&stream(0, 0, &[10, 20, 50]), &gaps).is_empty());
        assert_eq!(broken_limits(&stream(0, 0, &[10, 20, 51]), &gaps), ["itl_ms"]);
    }
}
