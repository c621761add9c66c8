//! The part of a stage in which the load was as asked: without the ramp at its begin and the drain at its end.

use crate::config::schema::load::ArrivalKind;
use crate::record::load::context::StageRecord;
use crate::record::load::row::RequestRow;
use crate::stats::quantile::median;

/// Share of the asked concurrency that must be in flight.
pub const STEADY_SHARE: f64 = 0.95;
/// Shorter windows say nothing.
pub const STEADY_LEAST_S: f64 = 1.0;
/// Nor do fewer requests.
pub const STEADY_LEAST_REQUESTS: usize = 10;
/// A slot is empty for a moment between the end of a request and the next one's begin: dips as short as this are no missing load.
const TURNOVER_NS: u64 = 5_000_000;

/// When a request was in flight, on the run's clock: from sending to its end, or to the last that was seen of it. One that was cancelled stayed
/// to the end of the stage if nothing says otherwise.
pub(super) fn flight(row: &RequestRow, stage_end_ns: u64) -> Option<(u64, u64)> {
    let sent = row.sent_ns?;
    let seen = [row.end_us, row.chunks.at_us.last().copied(), row.first_event_us, row.first_byte_us];
    let end = match row.end_us.or(row.gone_us) {
        Some(end) => row.at_ns(end)?,
        None if row.outcome.is_cancelled() => stage_end_ns.max(sent),
        _ => row.at_ns(seen.into_iter().flatten().max().unwrap_or(0))?,
    };
    Some((sent, end))
}

/// Requests in flight over time: each change as (ns, requests from then on).
pub(super) fn in_flight(rows: &[&RequestRow], stage_end_ns: u64) -> Vec<(u64, u32)> {
    let mut changes: Vec<(u64, i32)> = rows
        .iter()
        .filter_map(|row| flight(row, stage_end_ns))
        .filter(|(sent, end)| end > sent)
        .flat_map(|(sent, end)| [(sent, 1), (end, -1)])
        .collect();
    // What ends in the same nanosecond as another begins makes room for it.
    changes.sort_unstable();
    let mut now = 0i32;
    let mut steps: Vec<(u64, u32)> = Vec::with_capacity(changes.len());
    for (t, change) in changes {
        now += change;
        let level = now.max(0) as u32;
        match steps.last_mut() {
            Some(last) if last.0 == t => last.1 = level,
            _ => steps.push((t, level)),
        }
    }
    steps
}

/// The longest window in which at least [`STEADY_SHARE`] of `concurrency` were in flight, dips of a turnover bridged; `None` if on average fewer
/// were.
fn full_window(steps: &[(u64, u32)], concurrency: u32) -> Option<(u64, u64)> {
    let wanted = STEADY_SHARE * f64::from(concurrency);
    let full: Vec<(u64, u64)> =
        steps.windows(2).filter(|pair| f64::from(pair[0].1) >= wanted).map(|pair| (pair[0].0, pair[1].0)).collect();
    let mut windows: Vec<(u64, u64)> = Vec::new();
    for (from, to) in full {
        match windows.last_mut() {
            Some(last) if from - last.1 <= TURNOVER_NS => last.1 = to,
            _ => windows.push((from, to)),
        }
    }
    let (from, to) = windows.into_iter().rev().max_by_key(|(from, to)| to - from)?;
    let area: f64 = steps
        .windows(2)
        .filter(|pair| pair[0].0 >= from && pair[1].0 <= to)
        .map(|pair| f64::from(pair[0].1) * (pair[1].0 - pair[0].0) as f64)
        .sum();
    (area >= wanted * (to - from) as f64).then_some((from, to))
}

/// Where the load of an open loop is steady: from the median time a request takes after the begin, when as many leave as come, to the last issue.
/// Arrivals whose rate changes by plan have no such part.
fn open_window(record: &StageRecord, ok: &[&RequestRow]) -> Option<(u64, u64)> {
    if !matches!(record.plan.arrival, ArrivalKind::Constant | ArrivalKind::Poisson | ArrivalKind::Gamma) {
        return None;
    }
    let taken: Vec<f64> = ok.iter().filter_map(|row| row.e2e_ms()).collect();
    let filled = record.begin_ns.saturating_add((median(&taken)? * 1e6) as u64);
    (filled < record.issue_end_ns).then_some((filled, record.issue_end_ns))
}

/// The steady window of a stage in ns of the run's clock; `None` if it is shorter than [`STEADY_LEAST_S`] or fewer than
/// [`STEADY_LEAST_REQUESTS`] successful requests were sent in it.
pub(super) fn window(record: &StageRecord, steps: &[(u64, u32)], ok: &[&RequestRow]) -> Option<(u64, u64)> {
    let (from, to) = match record.plan.concurrency {
        Some(concurrency) if record.plan.arrival == ArrivalKind::Closed => full_window(steps, concurrency)?,
        _ => open_window(record, ok)?,
    };
    let long = (to - from) as f64 >= STEADY_LEAST_S * 1e9;
    (long && sent_in(ok, (from, to)).len() >= STEADY_LEAST_REQUESTS).then_some((from, to))
}

/// The requests that were sent in a window.
pub(super) fn sent_in<'a>(rows: &[&'a RequestRow], (from, to): (u64, u64)) -> Vec<&'a RequestRow> {
    rows.iter().copied().filter(|row| row.sent_ns.is_some_and(|sent| (from..to).contains(&sent))).collect()
}

/// Whether what arrived at `at` belongs to a window. The window of a closed loop ends with the end of a request, which is part of it.
pub(super) fn arrived_in(at: u64, (from, to): (u64, u64)) -> bool {
    from < at && at <= to
}

/// Output tokens of a request that arrived in a window: those of its chunks where the server counts them, else spread evenly over the chunks; of
/// an answer in one piece all at its end. `None` if their number is not known.
pub(super) fn tokens_received(row: &RequestRow, window: (u64, u64)) -> Option<f64> {
    let inside = |us: u64| row.at_ns(us).is_some_and(|at| arrived_in(at, window));
    let tokens = row.output_tokens? as f64;
    if row.chunks.is_empty() {
        return Some(if row.end_us.is_some_and(inside) { tokens } else { 0.0 });
    }
    let counted = row.chunks.tokens.as_ref().filter(|tokens| tokens.len() == row.chunks.len());
    let each = tokens / row.chunks.len() as f64;
    let arrived = row.chunks.at_us.iter().enumerate().filter(|(_, us)| inside(**us));
    Some(arrived.map(|(index, _)| counted.map_or(each, |tokens| f64::from(tokens[index]))).sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::load::outcome::Outcome;
    use crate::runner::load::testing::{MS, closed, even, failed, open, row, stage, stream};

    fn refs(rows: &[RequestRow]) -> Vec<&RequestRow> {
        rows.iter().collect()
    }

    #[test]
    fn what_is_in_flight_is_counted_from_sending_to_the_end() {
        // 0-101 ms and 50-151 ms, and one that failed 5 ms after 60 ms.
        let rows = [stream(0, 0, &[100]), stream(1, 50, &[100]), failed(2, 60, Outcome::Http5xx, "status", "no")];
        let steps = in_flight(&refs(&rows), 0);
        let expected = [(0, 1), (50, 2), (60, 3), (65, 2), (101, 1), (151, 0)].map(|(ms, level)| (ms * MS, level));
        assert_eq!(steps, expected);
    }

    #[test]
    fn a_request_that_ends_makes_room_for_the_next_in_the_same_instant() {
        let rows = [row(0, 0), row(1, 100)];
        assert_eq!(in_flight(&refs(&rows), 0), [(0, 1), (100 * MS, 1), (200 * MS, 0)]);
    }

    #[test]
    fn what_was_cancelled_without_an_end_stayed_to_the_end_of_the_stage() {
        let mut cut = failed(0, 10, Outcome::CancelledDeadline, "deadline", "over");
        cut.end_us = None;
        assert_eq!(in_flight(&[&cut], 500 * MS), [(10 * MS, 1), (500 * MS, 0)]);
        cut.sent_ns = None;
        assert_eq!(in_flight(&[&cut], 500 * MS), []);
    }

    /// Four slots one after the other, begun 90 ms apart; each sends 10 requests of 200 ms, 1 ms between them.
    fn four_slots() -> Vec<RequestRow> {
        (0..4u64)
            .flat_map(|slot| (0..10u64).map(move |turn| row(turn * 4 + slot, slot * 90 + turn * 201)))
            .map(|mut row| {
                row.end_us = Some(200_000);
                row
            })
            .collect()
    }

    #[test]
    fn the_steady_part_begins_with_the_last_slot_and_ends_with_the_first_that_is_done() {
        let rows = four_slots();
        let record = stage(closed(4), &rows);
        let ok = refs(&rows);
        let steps = in_flight(&ok, record.end_ns);
        // The fourth slot begins at 270 ms; the first ends at 9 · 201 + 200 = 2009 ms.
        assert_eq!(window(&record, &steps, &ok), Some((270 * MS, 2009 * MS)));
        assert_eq!(window(&stage(closed(5), &rows), &steps, &ok), None, "five were never in flight");
    }

    #[test]
    fn pauses_that_are_no_turnover_end_the_steady_part() {
        // One slot: 12 requests of 100 ms back to back, a pause of 50 ms, 15 more.
        let rows: Vec<RequestRow> = (0..27).map(|id| row(id, id * 100 + if id < 12 { 0 } else { 50 })).collect();
        let record = stage(closed(1), &rows);
        let ok = refs(&rows);
        let steps = in_flight(&ok, record.end_ns);
        assert_eq!(window(&record, &steps, &ok), Some((1250 * MS, 2750 * MS)));
        assert_eq!(window(&record, &steps[..12], &ok[..9]), None, "nine requests are too few");
    }

    #[test]
    fn slots_that_are_empty_half_of_the_time_are_not_the_load_that_was_asked_for() {
        // 4 ms of work, 4 ms of pause: each dip is as short as a turnover, the load is half of what was asked for.
        let rows: Vec<RequestRow> = (0..400)
            .map(|id| {
                let mut row = row(id, id * 8);
                row.end_us = Some(4000);
                row
            })
            .collect();
        let record = stage(closed(1), &rows);
        let ok = refs(&rows);
        assert_eq!(window(&record, &in_flight(&ok, record.end_ns), &ok), None);
    }

    #[test]
    fn an_open_loop_is_steady_from_one_median_time_on_to_the_last_issue() {
        // 30 requests, one each 100 ms, 250 ms to the last chunk.
        let rows: Vec<RequestRow> = (0..30).map(|id| even(id, id * 100, 50, 50, 5)).collect();
        let record = stage(open(10.0), &rows);
        let ok = refs(&rows);
        assert_eq!(window(&record, &[], &ok), Some((250 * MS, 2900 * MS)));
        let mut ramp = record;
        ramp.plan.arrival = ArrivalKind::Ramp;
        assert_eq!(window(&ramp, &[], &ok), None, "a ramp is never steady");
    }

    #[test]
    fn tokens_are_counted_where_they_arrive() {
        let request = even(0, 1000, 100, 100, 4);
        let within = |from: u64, to: u64| tokens_received(&request, (from * MS, to * MS));
        assert_eq!(within(0, 9000), Some(4.0));
        assert_eq!(
            within(1200, 1400),
            Some(2.0),
            "chunks at 1100, 1200, 1300, 1400; the begin is outside, the end is not"
        );
        let mut counted = request.clone();
        counted.chunks.tokens = Some(vec![1, 5, 2, 2]);
        counted.output_tokens = Some(10);
        assert_eq!(tokens_received(&counted, (1150 * MS, 1300 * MS)), Some(7.0));
        counted.chunks.tokens = None;
        assert_eq!(tokens_received(&counted, (1200 * MS, 1400 * MS)), Some(5.0), "10 tokens in 4 chunks");
        assert_eq!(tokens_received(&row(0, 1000), (1000 * MS, 1099 * MS)), Some(0.0), "it ends at 1100");
        assert_eq!(tokens_received(&row(0, 1000), (1000 * MS, 1100 * MS)), Some(4.0));
        counted.output_tokens = None;
        assert_eq!(tokens_received(&counted, (0, 9000 * MS)), None);
    }
}
