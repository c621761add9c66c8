//! Which ranges of a thread are open when: one pass over ranges and calls in order of (thread, begin).
//!
//! While ranges nest, the open ones are a stack and everything is decided at its top. Ranges that cross (start/end ranges) bury ranges that end
//! earlier; from then on until the buried ones ended, all open ranges are looked at.

use crate::trace::host::Ranges;
use crate::trace::places::NO_ROW;

/// Intervals to look up, sorted by (thread, begin).
#[derive(Clone, Copy)]
pub(super) struct Queries<'a> {
    pub(super) thread: &'a [u32],
    pub(super) start_ns: &'a [i64],
    pub(super) end_ns: &'a [i64],
}

/// The ranges of one thread that have begun and not ended, in order of their rows.
#[derive(Default)]
pub(super) struct Open {
    entries: Vec<Entry>,
    /// True if some entry ends after one below it.
    crossed: bool,
    /// No entry that something above it outlives ends before this.
    buried_until: i64,
}

#[derive(Clone, Copy)]
struct Entry {
    row: u32,
    start_ns: i64,
    end_ns: i64,
}

impl Open {
    /// Lets go of what ended before `time`. Ends are inclusive: a range contains a call that ends with it.
    fn advance(&mut self, time: i64) {
        let before = self.entries.len();
        while self.entries.last().is_some_and(|top| top.end_ns < time) {
            self.entries.pop();
        }
        if self.crossed && (self.entries.len() < before || time > self.buried_until) {
            self.entries.retain(|entry| entry.end_ns >= time);
            self.look_for_crossings();
        }
    }
    fn look_for_crossings(&mut self) {
        self.crossed = false;
        self.buried_until = i64::MAX;
        let mut latest_above = i64::MIN;
        for entry in self.entries.iter().rev() {
            if entry.end_ns < latest_above {
                self.crossed = true;
                self.buried_until = self.buried_until.min(entry.end_ns);
            }
            latest_above = latest_above.max(entry.end_ns);
        }
    }
    /// Adds a range; true if it begins inside an open one and ends after it.
    fn push(&mut self, row: u32, start_ns: i64, end_ns: i64) -> bool {
        let mut crosses = false;
        if self.crossed || self.entries.last().is_some_and(|top| top.end_ns < end_ns) {
            for entry in self.entries.iter().filter(|entry| entry.end_ns < end_ns) {
                // One that ends just where this one begins is buried for a moment, but does not cross it.
                crosses |= entry.end_ns > start_ns;
                self.buried_until = if self.crossed { self.buried_until.min(entry.end_ns) } else { entry.end_ns };
                self.crossed = true;
            }
        }
        self.entries.push(Entry { row, start_ns, end_ns });
        crosses
    }
    /// The shortest open range that does not end before `end_ns`, the later row of two of one length; `NO_ROW` for none.
    fn innermost(&self, end_ns: i64) -> u32 {
        if !self.crossed {
            return self.entries.iter().rev().find(|entry| entry.end_ns >= end_ns).map_or(NO_ROW, |entry| entry.row);
        }
        self.containing(end_ns)
            .min_by_key(|entry| (entry.end_ns.saturating_sub(entry.start_ns), std::cmp::Reverse(entry.row)))
            .map_or(NO_ROW, |entry| entry.row)
    }
    fn containing(&self, end_ns: i64) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| entry.end_ns >= end_ns)
    }
    /// True if two of the ranges that contain an interval ending at `end_ns` do not contain each other.
    pub(super) fn is_ambiguous(&self, end_ns: i64) -> bool {
        if !self.crossed {
            return false;
        }
        let mut ends = self.containing(end_ns).map(|entry| entry.end_ns);
        let Some(mut last) = ends.next() else { return false };
        ends.any(|end| {
            let longer = end > last;
            last = end;
            longer
        })
    }
    /// Rows of all ranges that contain an interval ending at `end_ns`.
    pub(super) fn rows_containing(&self, end_ns: i64) -> impl Iterator<Item = u32> {
        self.containing(end_ns).map(|entry| entry.row)
    }
}

/// Walks ranges and queries. `on_range` gets (row, row of the parent, whether it crosses an earlier one); `on_query` gets (query, innermost
/// range, open ranges). Ranges that `skip` are not opened and not reported.
pub(super) fn sweep(
    ranges: &Ranges,
    skip: impl Fn(usize) -> bool,
    queries: Queries<'_>,
    mut on_range: impl FnMut(usize, u32, bool),
    mut on_query: impl FnMut(usize, u32, &Open),
) {
    let mut open = Open::default();
    let mut thread = None;
    let (mut range, mut query) = (0, 0);
    loop {
        let next_range = (range < ranges.len()).then(|| (ranges.thread[range], ranges.start_ns[range]));
        let next_query = (query < queries.thread.len()).then(|| (queries.thread[query], queries.start_ns[query]));
        let range_first = match (next_range, next_query) {
            (None, None) => return,
            (Some(range), Some(query)) => range <= query,
            (range, None) => range.is_some(),
            (None, Some(_)) => false,
        };
        let Some((at_thread, time)) = (if range_first { next_range } else { next_query }) else { return };
        if thread != Some(at_thread) {
            thread = Some(at_thread);
            open = Open::default();
        }
        open.advance(time);
        if range_first {
            if !skip(range) {
                let end_ns = ranges.end_ns[range];
                let parent = open.innermost(end_ns);
                let crosses = open.push(range as u32, time, end_ns);
                on_range(range, parent, crosses);
            }
            range += 1;
        } else {
            on_query(query, open.innermost(queries.end_ns[query]), &open);
            query += 1;
        }
    }
}
