//! The operator table: where the time of each phase went, and how far each operator is from the roofline.

use rustc_hash::FxHashMap;

use crate::estimate::operator::{Cost, OperatorClass};
use crate::estimate::roofline::roofline;
use crate::record::metrics::OperatorRow;
use crate::stats::quantile::quantile_of_sorted;
use crate::stats::summary::{mean, standard_deviation};
use crate::trace::strings::StringId;
use crate::trace::timeline::{NONE, SpanKind, Timeline};

/// Ceilings of the device the spans ran on; null where unknown.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Ceilings {
    /// Dense FLOP/s.
    pub flops_per_s: Option<f64>,
    /// Memory bytes per second.
    pub bytes_per_s: Option<f64>,
}

/// What one row of the table stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    phase: StringId,
    class: Option<OperatorClass>,
    name: StringId,
    layer: u32,
}

/// The calls of one row.
#[derive(Debug, Default)]
struct Calls {
    durations_ns: Vec<f64>,
    total_ns: u64,
    cost: Cost,
    shapes: FxHashMap<StringId, u64>,
}

/// Operators by class × module × phase, and by layer too if `by_layer`. Rows are ordered by phase as it first appears, then by
/// total time, largest first.
///
/// All operator spans enter, whatever their repeat: a repeat without operator spans adds none. The roofline time of a row is
/// max(flops / peak, bytes / bandwidth) of the sums over its calls, with all bytes of the operator, activations included.
pub fn operator_table(timeline: &Timeline, ceilings: &Ceilings, by_layer: bool) -> Vec<OperatorRow> {
    let spans = &timeline.spans;
    let mut order: Vec<Key> = Vec::new();
    let mut groups: FxHashMap<Key, Calls> = FxHashMap::default();
    let mut phases: Vec<(StringId, u64)> = Vec::new();
    for row in 0..spans.len() {
        if spans.kind[row] != SpanKind::Operator {
            continue;
        }
        let layer = if by_layer { spans.layer[row] } else { NONE };
        let key = Key { phase: spans.phase[row], class: spans.class[row], name: spans.name[row], layer };
        let duration = spans.duration_ns(row);
        match phases.iter_mut().find(|(phase, _)| *phase == key.phase) {
            Some((_, total)) => *total += duration,
            None => phases.push((key.phase, duration)),
        }
        let calls = groups.entry(key).or_insert_with(|| {
            order.push(key);
            Calls::default()
        });
        calls.durations_ns.push(duration as f64);
        calls.total_ns += duration;
        calls.cost = calls.cost + spans.cost[row];
        *calls.shapes.entry(spans.shape[row]).or_insert(0) += 1;
    }
    let mut rows: Vec<(usize, OperatorRow)> = order
        .into_iter()
        .filter_map(|key| {
            let calls = groups.remove(&key)?;
            let rank = phases.iter().position(|(phase, _)| *phase == key.phase)?;
            Some((rank, operator_row(timeline, ceilings, key, calls, phases[rank].1)))
        })
        .collect();
    // Stable: rows of equal time keep the order in which the engine issued them.
    rows.sort_by(|(rank_a, a), (rank_b, b)| rank_a.cmp(rank_b).then(b.total_ns.cmp(&a.total_ns)));
    rows.into_iter().map(|(_, row)| row).collect()
}

fn operator_row(timeline: &Timeline, ceilings: &Ceilings, key: Key, mut calls: Calls, phase_ns: u64) -> OperatorRow {
    calls.durations_ns.sort_unstable_by(f64::total_cmp);
    let durations = &calls.durations_ns;
    let mean_ns = mean(durations).expect("a row has at least one call, and durations are finite");
    let percentile = |p| quantile_of_sorted(durations, p).expect("a row has at least one call");
    let (flops, bytes) = (calls.cost.flops, calls.cost.bytes());
    let line = roofline(flops, bytes, ceilings.flops_per_s, ceilings.bytes_per_s);
    let roofline_ns = line.time_s.map(|seconds| seconds * 1e9);
    let seconds = calls.total_ns as f64 * 1e-9;
    // A rate over no time is unknown, not infinite.
    let rate = |amount: u64| (calls.total_ns > 0).then(|| amount as f64 / seconds);
    OperatorRow {
        class: key.class.map_or("unknown", OperatorClass::name).to_owned(),
        name: timeline.strings.get(key.name).to_owned(),
        phase: timeline.strings.get(key.phase).to_owned(),
        layer: (key.layer != NONE).then_some(key.layer),
        device: timeline.device.clone(),
        shape: most_frequent(timeline, &calls.shapes),
        calls: durations.len() as u64,
        total_ns: calls.total_ns,
        mean_ns,
        p50_ns: percentile(0.5),
        p95_ns: percentile(0.95),
        p99_ns: percentile(0.99),
        std_ns: standard_deviation(durations, mean_ns),
        share: if phase_ns == 0 { 0.0 } else { calls.total_ns as f64 / phase_ns as f64 },
        flops,
        bytes,
        flops_per_s: rate(flops),
        bytes_per_s: rate(bytes),
        roofline_ns,
        lost_ns: roofline_ns.map(|roofline| calls.total_ns as f64 - roofline),
        bound: line.bound.map(|bound| bound.name().to_owned()),
    }
}

/// The shape met most often; of several, the one interned first, i.e. met first.
fn most_frequent(timeline: &Timeline, shapes: &FxHashMap<StringId, u64>) -> String {
    let best = shapes.iter().max_by_key(|(id, count)| (**count, std::cmp::Reverse(**id)));
    best.map(|(id, _)| timeline.strings.get(*id).to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::test_timeline::{Entry, timeline, timelines};
    use super::*;

    fn operator(phase: &'static str, name: &'static str, layer: u32, ns: (u64, u64), cost: Cost) -> Entry {
        Entry { kind: SpanKind::Operator, phase, name, layer, start_ns: ns.0, end_ns: ns.1, cost, ..Entry::default() }
    }

    fn cost(flops: u64, bytes: u64) -> Cost {
        Cost { flops, weight_bytes: bytes, ..Cost::default() }
    }

    #[test]
    fn a_hand_made_timeline_gives_the_rows_worked_out_by_hand() {
        let spans = timeline(&[
            Entry {
                kind: SpanKind::Phase,
                phase: "prefill",
                name: "prefill",
                start_ns: 0,
                end_ns: 1000,
                ..Entry::default()
            },
            operator("prefill", "q_proj", 0, (0, 100), cost(50, 10)),
            operator("prefill", "q_proj", 1, (100, 400), cost(50, 10)),
            operator("prefill", "norm", NONE, (400, 500), cost(0, 1000)),
            operator("decode", "q_proj", 0, (2000, 2010), cost(5, 10)),
        ]);
        // 1 FLOP and 2 bytes per nanosecond.
        let ceilings = Ceilings { flops_per_s: Some(1e9), bytes_per_s: Some(2e9) };
        let rows = operator_table(&spans, &ceilings, false);
        let names: Vec<_> = rows.iter().map(|row| (row.phase.as_str(), row.name.as_str(), row.calls)).collect();
        assert_eq!(names, [("prefill", "q_proj", 2), ("prefill", "norm", 1), ("decode", "q_proj", 1)]);
        let q_proj = &rows[0];
        assert_eq!((q_proj.total_ns, q_proj.mean_ns, q_proj.p50_ns, q_proj.p95_ns), (400, 200.0, 200.0, 290.0));
        assert!((q_proj.p99_ns - 298.0).abs() < 1e-9);
        // Deviations ±100 about the mean of two values: √(20000 / 1).
        assert!((q_proj.std_ns.unwrap() - 20_000f64.sqrt()).abs() < 1e-9);
        assert_eq!((q_proj.share, q_proj.flops, q_proj.bytes), (0.8, 100, 20));
        assert!(
            (q_proj.flops_per_s.unwrap() - 0.25e9).abs() < 1.0 && (q_proj.bytes_per_s.unwrap() - 0.05e9).abs() < 1.0
        );
        assert_eq!(q_proj.bound.as_deref(), Some("compute"));
        assert!((q_proj.roofline_ns.unwrap() - 100.0).abs() < 1e-9 && (q_proj.lost_ns.unwrap() - 300.0).abs() < 1e-9);
        // 1000 bytes at 2 per ns: the operator beat the ceiling, and the row says so with a negative loss.
        let norm = &rows[1];
        assert_eq!((norm.bound.as_deref(), norm.std_ns, norm.share), (Some("memory"), None, 0.2));
        assert!((norm.lost_ns.unwrap() + 400.0).abs() < 1e-9);

        let by_layer = operator_table(&spans, &ceilings, true);
        let layers: Vec<_> = by_layer.iter().map(|row| (row.name.as_str(), row.layer, row.total_ns)).collect();
        let expected =
            [("q_proj", Some(1), 300), ("q_proj", Some(0), 100), ("norm", None, 100), ("q_proj", Some(0), 10)];
        assert_eq!(layers, expected);
    }

    #[test]
    fn unknown_ceilings_leave_null() {
        let spans = timeline(&[operator("decode", "q_proj", 0, (0, 10), cost(5, 10))]);
        let row = &operator_table(&spans, &Ceilings { flops_per_s: Some(1e9), bytes_per_s: None }, false)[0];
        assert_eq!((row.roofline_ns, row.lost_ns, &row.bound), (None, None, &None));
        assert!(row.flops_per_s.is_some());
    }

    #[test]
    fn an_operator_of_no_time_has_no_rate() {
        let spans = timeline(&[operator("decode", "add", 0, (7, 7), cost(5, 10))]);
        let row = &operator_table(&spans, &Ceilings::default(), false)[0];
        assert_eq!((row.flops_per_s, row.bytes_per_s, row.share, row.total_ns), (None, None, 0.0, 0));
    }

    #[test]
    fn an_empty_timeline_has_no_rows() {
        assert!(operator_table(&Timeline::default(), &Ceilings::default(), true).is_empty());
    }

    proptest! {
        /// Against a count that filters the entries again for every row.
        #[test]
        fn rows_equal_a_brute_force_count(entries in timelines(), by_layer in any::<bool>()) {
            let spans = timeline(&entries);
            let ceilings = Ceilings { flops_per_s: Some(3e9), bytes_per_s: Some(2e9) };
            let rows = operator_table(&spans, &ceilings, by_layer);
            let operators: Vec<&Entry> = entries.iter().filter(|entry| entry.kind == SpanKind::Operator).collect();
            prop_assert_eq!(rows.iter().map(|row| row.calls).sum::<u64>(), operators.len() as u64);
            let mut shares: BTreeMap<&str, f64> = BTreeMap::new();
            for row in &rows {
                let mut own: Vec<u64> = operators
                    .iter()
                    .filter(|entry| entry.phase == row.phase && entry.name == row.name)
                    .filter(|entry| !by_layer || row.layer.unwrap_or(NONE) == entry.layer)
                    .map(|entry| entry.end_ns - entry.start_ns)
                    .collect();
                own.sort_unstable();
                prop_assert_eq!(row.calls, own.len() as u64);
                prop_assert_eq!(row.total_ns, own.iter().sum::<u64>());
                let middle = (own[(own.len() - 1) / 2] + own[own.len() / 2]) as f64 / 2.0;
                prop_assert!((row.p50_ns - middle).abs() < 1e-6);
                prop_assert!(row.p50_ns <= row.p95_ns && row.p95_ns <= row.p99_ns && row.p99_ns <= own[own.len() - 1] as f64);
                let all: u64 = operators
                    .iter()
                    .filter(|entry| entry.phase == row.phase)
                    .map(|entry| entry.end_ns - entry.start_ns)
                    .sum();
                if all > 0 {
                    prop_assert!((row.share - row.total_ns as f64 / all as f64).abs() < 1e-12);
                    *shares.entry(row.phase.as_str()).or_insert(0.0) += row.share;
                }
                let roofline = (row.flops as f64 / 3.0).max(row.bytes as f64 / 2.0);
                prop_assert!((row.roofline_ns.unwrap() - roofline).abs() < 1e-6 * roofline.max(1.0));
            }
            for share in shares.values() {
                prop_assert!((share - 1.0).abs() < 1e-9);
            }
            for pair in rows.windows(2) {
                prop_assert!(pair[0].phase != pair[1].phase || pair[0].total_ns >= pair[1].total_ns);
            }
        }
    }
}
