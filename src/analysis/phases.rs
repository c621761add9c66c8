//! Phases and steps of a timeline, and how well the operators add up to them.

use std::collections::BTreeMap;

use crate::record::rows::{RepeatRow, RowStatus};
use crate::trace::timeline::{SpanKind, Timeline};

/// One phase of one repeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PhaseTotals {
    /// Repeat.
    pub repeat: u32,
    /// `prefill` or `decode`.
    pub phase: String,
    /// Phase spans: 1 for prefill, one per token in decode.
    pub steps: u64,
    /// Sum of the phase spans.
    pub wall_ns: u64,
    /// Sum of the operator spans; null where the repeat recorded none.
    pub operator_ns: Option<u64>,
}

/// One phase span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepDuration {
    /// Repeat.
    pub repeat: u32,
    /// 0 for prefill, decode steps from 1.
    pub step: u32,
    /// Begin since the origin of the timeline.
    pub start_ns: u64,
    /// Duration.
    pub duration_ns: u64,
}

/// The phases of every repeat, in order of repeat, then of first appearance. Phases of one name in one repeat are summed: a decode
/// phase is all its steps.
pub fn phase_totals(timeline: &Timeline) -> Vec<PhaseTotals> {
    let spans = &timeline.spans;
    // (repeat, rank of the phase) → (spans, wall, operators); repeats and phases are few, so a map of pairs is enough.
    let mut phases = Vec::new();
    let mut totals: BTreeMap<(u32, usize), (u64, u64, Option<u64>)> = BTreeMap::new();
    for row in 0..spans.len() {
        let kind = spans.kind[row];
        if !matches!(kind, SpanKind::Phase | SpanKind::Operator) {
            continue;
        }
        let phase = spans.phase[row];
        let rank = phases.iter().position(|known| *known == phase).unwrap_or_else(|| {
            phases.push(phase);
            phases.len() - 1
        });
        let (steps, wall_ns, operator_ns) = totals.entry((spans.repeat[row], rank)).or_insert((0, 0, None));
        let duration = spans.duration_ns(row);
        if kind == SpanKind::Phase {
            *steps += 1;
            *wall_ns += duration;
        } else {
            *operator_ns = Some(operator_ns.unwrap_or(0) + duration);
        }
    }
    totals
        .into_iter()
        .map(|((repeat, rank), (steps, wall_ns, operator_ns))| PhaseTotals {
            repeat,
            phase: timeline.strings.get(phases[rank]).to_owned(),
            steps,
            wall_ns,
            operator_ns,
        })
        .collect()
}

/// The spans of `phase`, by repeat and step.
pub fn step_durations(timeline: &Timeline, phase: &str) -> Vec<StepDuration> {
    let spans = &timeline.spans;
    let mut steps: Vec<StepDuration> = (0..spans.len())
        .filter(|row| spans.kind[*row] == SpanKind::Phase && timeline.strings.get(spans.phase[*row]) == phase)
        .map(|row| StepDuration {
            repeat: spans.repeat[row],
            step: spans.step[row],
            start_ns: spans.start_ns[row],
            duration_ns: spans.duration_ns(row),
        })
        .collect();
    steps.sort_by_key(|step| (step.repeat, step.step, step.start_ns));
    steps
}

/// 1 − Σ operators / Σ phase spans by phase, over the repeats that recorded operators in that phase; phases without any time are
/// left out. Negative if operators overlap or outlast their phase, which a single-threaded observer cannot produce.
pub fn unattributed_by_phase(timeline: &Timeline) -> BTreeMap<String, f64> {
    let mut sums: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for totals in phase_totals(timeline) {
        let Some(operator_ns) = totals.operator_ns else { continue };
        let (wall, operators) = sums.entry(totals.phase).or_default();
        *wall += totals.wall_ns;
        *operators += operator_ns;
    }
    sums.into_iter()
        .filter(|(_, (wall, _))| *wall > 0)
        .map(|(phase, (wall, operators))| (phase, 1.0 - operators as f64 / wall as f64))
        .collect()
}

/// Largest |prefill + decode + remainder − total| / total over the complete rows; null without one that has all four.
///
/// The remainder is recorded as total − prefill − decode, so this is rounding and nothing else as long as the rows are whole; it
/// catches rows that were edited or written by another version.
pub fn phases_vs_total(rows: &[RepeatRow]) -> Option<f64> {
    rows.iter()
        .filter(|row| row.status == RowStatus::Ok)
        .filter_map(|row| {
            let total = row.total_ms.filter(|total| *total > 0.0)?;
            Some((row.prefill_ms? + row.decode_ms? + row.remainder_ms? - total).abs() / total)
        })
        .reduce(f64::max)
}

/// Largest |host's total − device's total| / device's total over the complete rows that have both clocks.
///
/// Every step ends with a token on the host, which waits for the device, so both clocks see the same work; what is left is the first
/// launch and the copy of the last token. A larger difference means that work was under way outside the events, or the events outside the work.
pub fn host_vs_device(rows: &[RepeatRow]) -> Option<f64> {
    rows.iter()
        .filter(|row| row.status == RowStatus::Ok)
        .filter_map(|row| {
            let device = row.total_ms.filter(|total| *total > 0.0)?;
            Some((row.host?.total_ms - device).abs() / device)
        })
        .reduce(f64::max)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::test_timeline::{Entry, timeline, timelines};
    use super::*;

    fn span(kind: SpanKind, phase: &'static str, repeat: u32, step: u32, start_ns: u64, end_ns: u64) -> Entry {
        Entry { kind, phase, repeat, step, start_ns, end_ns, ..Entry::default() }
    }

    /// Repeat 0 without operator spans, repeat 1 with them.
    fn two_repeats() -> Timeline {
        use SpanKind::{Operator, Phase};
        timeline(&[
            span(Phase, "prefill", 0, 0, 0, 100),
            span(Phase, "decode", 0, 1, 100, 110),
            span(Phase, "decode", 0, 2, 112, 124),
            span(Phase, "prefill", 1, 0, 200, 320),
            span(Operator, "prefill", 1, 0, 200, 290),
            span(Operator, "prefill", 1, 0, 290, 314),
            span(Phase, "decode", 1, 2, 341, 351),
            span(Phase, "decode", 1, 1, 330, 340),
            span(Operator, "decode", 1, 1, 330, 340),
            span(Operator, "decode", 1, 2, 341, 350),
        ])
    }

    #[test]
    fn totals_by_hand() {
        let totals = phase_totals(&two_repeats());
        let plain: Vec<_> =
            totals.iter().map(|t| (t.repeat, t.phase.as_str(), t.steps, t.wall_ns, t.operator_ns)).collect();
        assert_eq!(
            plain,
            [
                (0, "prefill", 1, 100, None),
                (0, "decode", 2, 22, None),
                (1, "prefill", 1, 120, Some(114)),
                (1, "decode", 2, 20, Some(19)),
            ]
        );
    }

    #[test]
    fn repeats_without_operators_do_not_look_unattributed() {
        let unattributed = unattributed_by_phase(&two_repeats());
        assert!((unattributed["prefill"] - 0.05).abs() < 1e-12 && (unattributed["decode"] - 0.05).abs() < 1e-12);
        assert_eq!(unattributed.len(), 2);
    }

    #[test]
    fn steps_come_in_order() {
        let steps: Vec<_> =
            step_durations(&two_repeats(), "decode").iter().map(|s| (s.repeat, s.step, s.duration_ns)).collect();
        assert_eq!(steps, [(0, 1, 10), (0, 2, 12), (1, 1, 10), (1, 2, 10)]);
        assert!(step_durations(&two_repeats(), "warmup").is_empty());
    }

    #[test]
    fn nothing_reconciles_to_nothing() {
        assert!(unattributed_by_phase(&Timeline::default()).is_empty());
        assert_eq!(phases_vs_total(&[]), None);
    }

    #[test]
    fn the_worst_complete_row_decides() {
        let row = |status: RowStatus, total: Option<f64>| -> RepeatRow {
            let text = r#"{"schema_version":1,"run_id":"r","index":0,"case":"c","repeat":0,"spans":false,"status":"ok","model":"m",
                "backend":"candle","dtype":"f32","device":"cpu","batch":1,"prompt_len":1,"new_tokens":1,"mode":"single_pass",
                "started_at":"","itl_ms":[],"memory":{"weights_bytes":0,"kv_cache_bytes":0,"kv_used_bytes":0},
                "contention":{"disturbed":false},"tokens":[],"diagnostics":[],"prefill_ms":10.0,"decode_ms":80.0,
                "remainder_ms":5.0}"#;
            let mut row: RepeatRow = serde_json::from_str(text).unwrap();
            (row.status, row.total_ms) = (status, total);
            row
        };
        let ok = RowStatus::Ok;
        assert_eq!(phases_vs_total(&[row(ok, Some(95.0))]), Some(0.0));
        // |95 − 100| / 100; the failed row and the row without a total do not count.
        let rows = [row(ok, Some(95.0)), row(ok, Some(100.0)), row(RowStatus::Failed, Some(1.0)), row(ok, None)];
        assert_eq!(phases_vs_total(&rows), Some(0.05));
        assert_eq!(phases_vs_total(&rows[2..]), None);
    }

    proptest! {
        #[test]
        fn reconciliation_equals_a_brute_force_count(entries in timelines()) {
            let spans = timeline(&entries);
            let found = unattributed_by_phase(&spans);
            for phase in ["prefill", "decode"] {
                let (mut wall, mut operators) = (0u64, 0u64);
                for repeat in 0..3 {
                    let sum = |kind: SpanKind| -> (usize, u64) {
                        let own = entries.iter().filter(|e| e.kind == kind && e.phase == phase && e.repeat == repeat);
                        own.fold((0, 0), |(count, sum), e| (count + 1, sum + e.end_ns - e.start_ns))
                    };
                    let (count, time) = sum(SpanKind::Operator);
                    if count > 0 {
                        operators += time;
                        wall += sum(SpanKind::Phase).1;
                    }
                }
                match found.get(phase) {
                    None => prop_assert_eq!(wall, 0),
                    Some(share) => prop_assert!((share - (1.0 - operators as f64 / wall as f64)).abs() < 1e-12),
                }
            }
        }
    }
}
