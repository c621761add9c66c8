//! The innermost of the ranges around a call or another range, on one thread.
//!
//! Push/pop ranges nest, and a stack answers in one pass. Start/end ranges may cross; a thread on which any do is answered from a tree
//! over the ends instead, in O(n log n).

use std::ops::Range;

use crate::trace::places::NO_ROW;
use crate::trace::timeline::Timeline;

/// A stretch of time, ns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: i64,
    pub(super) end: i64,
}

impl Span {
    fn duration(self) -> i64 {
        self.end.saturating_sub(self.start)
    }
}

/// Rows of each thread in a column that is sorted by thread.
pub(super) fn segments(threads: &[u32], count: usize) -> Vec<Range<usize>> {
    let mut segments = vec![0..0; count];
    let mut start = 0;
    for rows in threads.chunk_by(|a, b| a == b) {
        let end = start + rows.len();
        if let Some(segment) = segments.get_mut(rows[0] as usize) {
            *segment = start..end;
        }
        start = end;
    }
    segments
}

/// Rows of the ranges among `rows` that can enclose work: NVTX ranges that ended on the thread they began on.
pub(super) fn enclosing_rows(timeline: &Timeline, rows: Range<usize>) -> Vec<u32> {
    let ranges = &timeline.ranges;
    rows.filter(|row| ranges.kind[*row].is_nvtx() && ranges.other_end_thread(*row).is_none())
        .map(|row| row as u32)
        .collect()
}

/// Times of these rows of `ranges`.
pub(super) fn spans_of(timeline: &Timeline, rows: &[u32]) -> Vec<Span> {
    let ranges = &timeline.ranges;
    rows.iter().map(|row| Span { start: ranges.start_ns[*row as usize], end: ranges.end_ns[*row as usize] }).collect()
}

/// For each query the index of the shortest span that encloses it, the first of equal ones, or [`NO_ROW`].
///
/// `spans` are sorted by (begin, end descending), queries by begin. A query comes with the number of spans it may find: those before it in
/// order. The spans it may not find must not be needed by it, and a later query may find no fewer.
pub(super) fn tightest(spans: &[Span], queries: impl Iterator<Item = (Span, usize)> + Clone) -> Vec<u32> {
    nested(spans, queries.clone()).unwrap_or_else(|| crossing(spans, queries))
}

/// [`tightest`] for spans that nest; `None` if they do not.
fn nested(spans: &[Span], queries: impl Iterator<Item = (Span, usize)>) -> Option<Vec<u32>> {
    let mut found = Vec::new();
    // Ends do not grow from the bottom to the top.
    let mut open: Vec<u32> = Vec::new();
    let mut next = 0;
    let end = |index: &u32| spans[*index as usize].end;
    for (query, known) in queries {
        while next < known {
            let span = spans[next];
            while open.pop_if(|top| end(top) < span.start).is_some() {}
            if open.last().is_some_and(|top| end(top) < span.end) {
                return None;
            }
            open.push(next as u32);
            next += 1;
        }
        while open.pop_if(|top| end(top) < query.start).is_some() {}
        let mut best = open.iter().rposition(|index| end(index) >= query.end);
        while let Some(at) = best
            && at > 0
            && spans[open[at] as usize] == spans[open[at - 1] as usize]
        {
            best = Some(at - 1);
        }
        found.push(best.map_or(NO_ROW, |at| open[at]));
    }
    Some(found)
}

/// [`tightest`] for any spans.
fn crossing(spans: &[Span], queries: impl Iterator<Item = (Span, usize)>) -> Vec<u32> {
    let mut ends: Vec<i64> = spans.iter().map(|span| span.end).collect();
    ends.sort_unstable();
    ends.dedup();
    // Least (duration, index) of the spans that end at or after a time: a Fenwick tree over the ends, the last end first.
    let none = (i64::MAX, NO_ROW);
    let mut tree = vec![none; ends.len() + 1];
    let slot = |from_end: usize| ends.len() - from_end;
    let mut next = 0;
    queries
        .map(|(query, known)| {
            while next < known {
                let span = spans[next];
                let mut at = slot(ends.partition_point(|end| *end < span.end));
                while at < tree.len() {
                    tree[at] = tree[at].min((span.duration(), next as u32));
                    at += at & at.wrapping_neg();
                }
                next += 1;
            }
            let mut at = slot(ends.partition_point(|end| *end < query.end));
            let mut best = none;
            while at > 0 {
                best = best.min(tree[at]);
                at -= at & at.wrapping_neg();
            }
            best.1
        })
        .collect()
}

/// For each API call the row of the innermost range around it, or [`NO_ROW`].
pub(super) fn innermost_of_calls(timeline: &Timeline) -> Vec<u32> {
    let api = &timeline.api;
    let mut innermost = vec![NO_ROW; api.len()];
    let threads = timeline.threads.len();
    let calls = segments(&api.thread, threads);
    for (rows, calls) in segments(&timeline.ranges.thread, threads).into_iter().zip(calls) {
        if rows.is_empty() || calls.is_empty() {
            continue;
        }
        let rows = enclosing_rows(timeline, rows);
        let spans = spans_of(timeline, &rows);
        let queries = calls.clone().scan(0, |known, call| {
            let query = Span { start: api.start_ns[call], end: api.end_ns[call] };
            while spans.get(*known).is_some_and(|span| span.start <= query.start) {
                *known += 1;
            }
            Some((query, *known))
        });
        for (call, index) in calls.clone().zip(tightest(&spans, queries)) {
            if index != NO_ROW {
                innermost[call] = rows[index as usize];
            }
        }
    }
    innermost
}

#[cfg(test)]
mod tests {
    use super::{NO_ROW, Span, crossing, nested, tightest};

    fn spans(times: &[(i64, i64)]) -> Vec<Span> {
        times.iter().map(|(start, end)| Span { start: *start, end: *end }).collect()
    }
    fn ask(spans: &[Span], queries: &[(i64, i64)]) -> Vec<u32> {
        tightest(
            spans,
            queries.iter().map(|(start, end)| {
                (Span { start: *start, end: *end }, spans.iter().filter(|span| span.start <= *start).count())
            }),
        )
    }

    #[test]
    fn the_innermost_of_nested_spans_is_found_and_a_call_that_outlasts_it_belongs_to_the_next() {
        let spans = spans(&[(0, 100), (10, 50), (20, 30), (60, 70)]);
        assert!(nested(&spans, std::iter::empty()).is_some());
        assert_eq!(ask(&spans, &[(5, 8), (22, 25), (25, 31), (40, 55), (90, 101)]), [0, 2, 1, 0, NO_ROW]);
    }

    #[test]
    fn of_crossing_spans_the_shortest_around_a_call_is_found() {
        let spans = spans(&[(0, 50), (10, 30), (20, 90)]);
        let query = || std::iter::once((Span { start: 22, end: 25 }, 3));
        assert_eq!(nested(&spans, query()), None);
        assert_eq!(crossing(&spans, query()), [1]);
        assert_eq!(ask(&spans, &[(22, 40), (45, 60), (95, 96)]), [0, 2, NO_ROW]);
    }

    #[test]
    fn the_first_of_equal_spans_is_found_both_ways() {
        let spans = spans(&[(0, 9), (0, 9), (3, 4)]);
        let query = || std::iter::once((Span { start: 5, end: 6 }, 3));
        assert_eq!(nested(&spans, query()), Some(vec![0]));
        assert_eq!(crossing(&spans, query()), [0]);
    }
}
