//! Half-open intervals of time, their unions and overlaps, and the small statistics every pass over a trace needs.
//!
//! Times are `i64` ns on the clock of the trace, lengths `u64` ns: the difference of two `i64` always fits, so that no time a file holds
//! can overflow.

use serde::{Deserialize, Serialize};

use crate::trace::activity::{OpKind, OpRef};
use crate::trace::timeline::Timeline;

/// A stretch of time `[start_ns, end_ns)` on the clock of the trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Interval {
    /// Begin, ns.
    pub start_ns: i64,
    /// End, ns; an interval that ends at or before its begin is empty.
    pub end_ns: i64,
}

impl Interval {
    /// From `start_ns` to `end_ns`.
    pub fn new(start_ns: i64, end_ns: i64) -> Self {
        Self { start_ns, end_ns }
    }
    /// Length in ns, 0 if it ends before it begins.
    pub fn len_ns(self) -> u64 {
        length_ns(self.start_ns, self.end_ns)
    }
    /// True if no time is in it.
    pub fn is_empty(self) -> bool {
        self.end_ns <= self.start_ns
    }
    /// The part inside `other`; empty where they do not meet.
    #[must_use]
    pub fn clip(self, other: Self) -> Self {
        Self { start_ns: self.start_ns.max(other.start_ns), end_ns: self.end_ns.min(other.end_ns) }
    }
    /// Whether `time_ns` lies in it.
    pub fn contains(self, time_ns: i64) -> bool {
        self.start_ns <= time_ns && time_ns < self.end_ns
    }
}

/// Time from `start_ns` to `end_ns`, 0 if that is backwards.
pub fn length_ns(start_ns: i64, end_ns: i64) -> u64 {
    if end_ns > start_ns { end_ns.abs_diff(start_ns) } else { 0 }
}

/// Phases of the work as windows of time, found by another pass: to say how idle, launches and copies fall on them.
///
/// Windows may overlap and come in any order; of one phase they are united.
#[derive(Debug, Clone, Copy, Default)]
pub struct Phases<'a> {
    /// Names of the phases, such as `prefill` and `decode`.
    pub names: &'a [String],
    /// When they took place.
    pub windows: &'a [PhaseWindow],
}

impl Phases<'_> {
    /// Windows that concern `device`, as (interval, phase) by begin; of one phase they no longer overlap. Windows of unknown phases and
    /// empty ones are left out.
    pub fn on_device(&self, device: u32) -> Vec<(Interval, u32)> {
        let mut windows: Vec<(u32, Interval)> = self
            .windows
            .iter()
            .filter(|window| window.device.is_none_or(|of| of == device))
            .filter(|window| (window.phase as usize) < self.names.len() && !window.interval.is_empty())
            .map(|window| (window.phase, window.interval))
            .collect();
        windows.sort_unstable();
        let mut united: Vec<(Interval, u32)> = Vec::with_capacity(windows.len());
        for (phase, interval) in windows {
            match united.last_mut() {
                Some((last, of)) if *of == phase && interval.start_ns <= last.end_ns => {
                    last.end_ns = last.end_ns.max(interval.end_ns);
                }
                _ => united.push((interval, phase)),
            }
        }
        united.sort_unstable();
        united
    }
}

/// One stretch of a phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PhaseWindow {
    /// Row of [`Phases::names`].
    pub phase: u32,
    /// Row of the device it holds for; `None` for all.
    pub device: Option<u32>,
    /// When, on the clock of the trace; device time.
    pub interval: Interval,
}

/// Goes through windows in step with intervals that come by begin, so that each pair that meets is seen once.
#[derive(Debug, Clone)]
pub(crate) struct WindowSweep<'a> {
    windows: &'a [(Interval, u32)],
    next: usize,
    active: Vec<(Interval, u32)>,
}

impl<'a> WindowSweep<'a> {
    /// `windows` by begin.
    pub(crate) fn new(windows: &'a [(Interval, u32)]) -> Self {
        Self { windows, next: 0, active: Vec::new() }
    }
    /// Calls `each` with the phase and the common part for every window that meets `interval`; begins must not decrease between calls.
    pub(crate) fn meet(&mut self, interval: Interval, mut each: impl FnMut(u32, Interval)) {
        if self.windows.is_empty() {
            return;
        }
        while let Some(window) = self.windows.get(self.next)
            && window.0.start_ns < interval.end_ns
        {
            self.active.push(*window);
            self.next += 1;
        }
        self.active.retain(|(window, _)| window.end_ns > interval.start_ns);
        for (window, phase) in &self.active {
            let common = window.clip(interval);
            if !common.is_empty() {
                each(*phase, common);
            }
        }
    }
}

/// Sorts and unites intervals in place: disjoint, by begin, empty ones gone. Touching ones become one.
pub fn unite(intervals: &mut Vec<Interval>) {
    intervals.retain(|interval| !interval.is_empty());
    intervals.sort_unstable();
    let mut kept = 0;
    for row in 0..intervals.len() {
        let interval = intervals[row];
        if kept > 0 && interval.start_ns <= intervals[kept - 1].end_ns {
            intervals[kept - 1].end_ns = intervals[kept - 1].end_ns.max(interval.end_ns);
        } else {
            intervals[kept] = interval;
            kept += 1;
        }
    }
    intervals.truncate(kept);
}

/// Length of the union of intervals that come by begin.
pub fn union_ns(by_begin: impl Iterator<Item = Interval>) -> u64 {
    let mut total = 0_u64;
    let mut frontier = i64::MIN;
    for interval in by_begin {
        total += length_ns(interval.start_ns.max(frontier), interval.end_ns);
        frontier = frontier.max(interval.end_ns);
    }
    total
}

/// What is in `a` and not in `b`; both as [`unite`] leaves them.
pub fn subtract(a: &[Interval], b: &[Interval]) -> Vec<Interval> {
    let mut left = Vec::new();
    let mut next = 0;
    for interval in a {
        while b.get(next).is_some_and(|other| other.end_ns <= interval.start_ns) {
            next += 1;
        }
        let mut start = interval.start_ns;
        for other in &b[next..] {
            if other.start_ns >= interval.end_ns {
                break;
            }
            if other.start_ns > start {
                left.push(Interval::new(start, other.start_ns));
            }
            start = start.max(other.end_ns);
        }
        if start < interval.end_ns {
            left.push(Interval::new(start, interval.end_ns));
        }
    }
    left
}

/// Total length of disjoint intervals.
pub fn total_ns(disjoint: &[Interval]) -> u64 {
    disjoint.iter().map(|interval| interval.len_ns()).sum()
}

/// Device operations of each device by begin: one list a row of `devices`.
pub fn ops_by_device(timeline: &Timeline) -> Vec<Vec<OpRef>> {
    let ops = timeline.ops_by_start();
    if timeline.devices.len() == 1 {
        return vec![ops];
    }
    let mut counts = vec![0_usize; timeline.devices.len()];
    for op in &ops {
        counts[timeline.op_device(*op)] += 1;
    }
    let mut lists: Vec<Vec<OpRef>> = counts.into_iter().map(Vec::with_capacity).collect();
    for op in ops {
        lists[timeline.op_device(op)].push(op);
    }
    lists
}

/// When a device operation ran.
pub fn op_interval(timeline: &Timeline, op: OpRef) -> Interval {
    Interval::new(timeline.op_start_ns(op), timeline.op_end_ns(op))
}

/// What a device operation is called in a report: a kernel by its short name, a copy by its direction.
pub fn op_name(timeline: &Timeline, op: OpRef) -> String {
    let row = op.row();
    match op.kind() {
        OpKind::Kernel => timeline.text(timeline.kernel_names[timeline.kernels.name[row] as usize].short).to_owned(),
        OpKind::Copy => {
            let kind = timeline.copies.kind[row];
            let own = timeline.copy_labels.iter().find(|(of, label)| *of == kind.0 && !label.is_empty());
            format!("[memcpy {}]", own.map_or(kind.label(), |(_, label)| label.as_str()))
        }
        OpKind::Memset => "[memset]".to_owned(),
        OpKind::Graph => format!("[graph {}]", timeline.graphs.executable[row]),
    }
}

/// How durations are spread: count, sum and order statistics, in ns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// How many.
    pub count: u64,
    /// Their sum, ns.
    pub total_ns: u64,
    /// Median, ns; null if there are none.
    pub p50_ns: Option<f64>,
    /// 95th percentile, ns.
    pub p95_ns: Option<f64>,
    /// Longest, ns.
    pub max_ns: Option<u64>,
}

impl Spread {
    /// Of `values`, which are reordered. Percentiles as in [`crate::stats::quantile`] (Hyndman & Fan's type 7), in O(n).
    pub fn of(values: &mut [u64]) -> Self {
        Self {
            count: values.len() as u64,
            total_ns: values.iter().fold(0, |sum, value| sum.saturating_add(*value)),
            p50_ns: quantile_ns(values, 0.5),
            p95_ns: quantile_ns(values, 0.95),
            max_ns: values.iter().max().copied(),
        }
    }
}

/// The `p` quantile of values in any order, which are reordered; `None` if there are none.
pub fn quantile_ns(values: &mut [u64], p: f64) -> Option<f64> {
    if values.is_empty() || !(0.0..=1.0).contains(&p) {
        return None;
    }
    let position = (values.len() - 1) as f64 * p;
    let below = position.floor() as usize;
    let fraction = position - below as f64;
    let (_, low, above) = values.select_nth_unstable(below);
    let low = *low as f64;
    let high = above.iter().min().map_or(low, |value| *value as f64);
    Some(if fraction < 0.5 { low + (high - low) * fraction } else { high - (high - low) * (1.0 - fraction) })
}

/// `part / whole`, `None` where there is no whole.
pub(crate) fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// A duration for a sentence: `412 ns`, `15.3 us`, `2.41 ms`, `1.20 s`.
pub(crate) fn words(ns: u64) -> String {
    let value = ns as f64;
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{:.1} us", value / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2} ms", value / 1e6),
        _ => format!("{:.2} s", value / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn covered(intervals: &[Interval]) -> Vec<bool> {
        (0..64).map(|time| intervals.iter().any(|interval| interval.contains(time))).collect()
    }

    fn some() -> impl Strategy<Value = Vec<Interval>> {
        prop::collection::vec((0_i64..64, 0_i64..64).prop_map(|(a, b)| Interval::new(a, b)), 0..12)
    }

    proptest! {
        #[test]
        fn a_union_and_a_difference_cover_what_a_bitmap_says(mut a in some(), mut b in some()) {
            let (bits_a, bits_b) = (covered(&a), covered(&b));
            a.sort_unstable();
            let length = union_ns(a.iter().copied());
            unite(&mut a);
            unite(&mut b);
            prop_assert_eq!(covered(&a), bits_a.clone());
            prop_assert_eq!(length, bits_a.iter().filter(|bit| **bit).count() as u64);
            prop_assert_eq!(total_ns(&a), length);
            prop_assert!(a.windows(2).all(|pair| pair[0].end_ns < pair[1].start_ns));
            let difference = subtract(&a, &b);
            let expected: Vec<bool> = bits_a.iter().zip(&bits_b).map(|(a, b)| *a && !*b).collect();
            prop_assert_eq!(covered(&difference), expected.clone());
            prop_assert_eq!(total_ns(&difference), expected.iter().filter(|bit| **bit).count() as u64);
        }

        #[test]
        fn a_sweep_over_windows_meets_the_pairs_that_overlap(
            windows in prop::collection::vec((0_u32..3, 0_i64..60, 1_i64..20), 0..10),
            mut intervals in some(),
        ) {
            let names = vec!["a".to_owned(), "b".to_owned(), "c".to_owned()];
            let windows: Vec<PhaseWindow> = windows
                .into_iter()
                .map(|(phase, start, len)| PhaseWindow { phase, device: None, interval: Interval::new(start, start + len) })
                .collect();
            let united = Phases { names: &names, windows: &windows }.on_device(0);
            intervals.retain(|interval| !interval.is_empty());
            intervals.sort_unstable();
            let mut sweep = WindowSweep::new(&united);
            for interval in intervals {
                let mut got = [0_u64; 3];
                sweep.meet(interval, |phase, common| got[phase as usize] += common.len_ns());
                for phase in 0..3_u32 {
                    let expected = (interval.start_ns..interval.end_ns)
                        .filter(|time| windows.iter().any(|w| w.phase == phase && w.interval.contains(*time)))
                        .count() as u64;
                    prop_assert_eq!(got[phase as usize], expected);
                }
            }
        }

        #[test]
        fn quantiles_are_those_of_the_stats_module(mut values in prop::collection::vec(0_u64..1000, 1..40), p in 0.0..=1.0_f64) {
            let floats: Vec<f64> = values.iter().map(|value| *value as f64).collect();
            let expected = crate::stats::quantile::quantile(&floats, p).unwrap();
            let got = quantile_ns(&mut values, p).unwrap();
            prop_assert!((got - expected).abs() < 1e-9, "{got} {expected}");
        }
    }

    #[test]
    fn extreme_times_have_a_length() {
        assert_eq!(Interval::new(i64::MIN, i64::MAX).len_ns(), u64::MAX);
        assert_eq!(Interval::new(i64::MAX, i64::MIN).len_ns(), 0);
    }
}
