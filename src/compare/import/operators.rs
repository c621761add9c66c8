//! Operators of an in-process run, from its spans or from the table its summary keeps.

use std::collections::BTreeMap;

use super::stage1::Stage1Files;
use crate::compare::subject::OperatorTime;
use crate::estimate::operator::OperatorClass;
use crate::instrument::host_timer::records_step;
use crate::record::metrics::OperatorRow;
use crate::record::rows::{RepeatRow, RowStatus};
use crate::stats::quantile::median;
use crate::stats::summary::mean;
use crate::trace::strings::StringId;
use crate::trace::timeline::{NONE, SpanKind, Timeline};

/// Decode steps that were run, and those of them whose operators were recorded.
#[derive(Debug, Clone, Copy, Default)]
struct Steps {
    run: u64,
    recorded: u64,
}

impl Steps {
    /// Adds one repeat of `new_tokens` tokens.
    fn add(&mut self, new_tokens: u32) {
        let steps = new_tokens.saturating_sub(1);
        self.run += u64::from(steps);
        self.recorded += (1..=steps).filter(|step| records_step(*step)).count() as u64;
    }
    /// What was recorded in `phase` as an amount of whole repeats. Every second decode step is recorded, on and off mirrored, so that the recorded
    /// ones stand for all; the prompt pass is recorded whole.
    fn whole(self, phase: &str, amount: u64) -> u64 {
        if phase != "decode" || self.recorded == 0 {
            return amount;
        }
        (u128::from(amount) * u128::from(self.run) / u128::from(self.recorded)).try_into().unwrap_or(u64::MAX)
    }
}

/// How fast the repeats without spans were beside those with spans, by phase.
///
/// The time of a phase is told by repeats without spans, its parts by a few others, which a slower minute or the recording itself may have
/// stretched. Brought to the same pace, the parts add up to the phase but for what no operator explains.
#[derive(Debug, Clone, Copy)]
struct Pace {
    prefill: f64,
    decode: f64,
}

impl Pace {
    /// Time of whole repeats that were recorded, as unchanged.
    const AS_RECORDED: Self = Self { prefill: 1.0, decode: 1.0 };

    /// Median without spans / mean with spans of the repeats of `case` that ended well; 1 where one of them is not known.
    fn of(rows: &[RepeatRow], case: &str) -> Self {
        let pace = |time: fn(&RepeatRow) -> Option<f64>| {
            let times = |spans: bool| -> Vec<f64> {
                let of_kind = |row: &&RepeatRow| row.case == case && row.spans == spans && row.status == RowStatus::Ok;
                rows.iter().filter(of_kind).filter_map(time).filter(|ms| ms.is_finite() && *ms > 0.0).collect()
            };
            median(&times(false)).zip(mean(&times(true))).map_or(1.0, |(plain, recorded)| plain / recorded)
        };
        Self { prefill: pace(|row| row.prefill_ms), decode: pace(|row| row.decode_ms) }
    }
    fn apply(self, phase: &str, ns: u64) -> u64 {
        let pace = match phase {
            "prefill" => self.prefill,
            "decode" => self.decode,
            _ => return ns,
        };
        (ns as f64 * pace).round() as u64
    }
}

/// Operators by case, phase, layer and name, of the repeats that ended well; calls and times are those of whole repeats, at the pace of the repeats
/// without spans ([`Pace`]).
///
/// Spans know the case; the table of the summary does only where there is one case.
pub(super) fn of_stage1(files: &Stage1Files) -> Vec<OperatorTime> {
    if let Some(spans) = files.spans.as_ref().filter(|spans| !spans.spans.is_empty()) {
        return of_spans(spans, &files.rows);
    }
    let Some(metrics) = &files.metrics else { return Vec::new() };
    let case = match metrics.cases.as_slice() {
        [only] => Some(only.name.clone()),
        _ => None,
    };
    let spanned = files.rows.iter().filter(|row| row.spans && row.status == RowStatus::Ok).count() as u64;
    let repeats = files
        .context
        .as_ref()
        .map_or(spanned, |context| if spanned > 0 { spanned } else { u64::from(context.span_repeats) });
    let mut steps = Steps::default();
    match (files.rows.iter().find(|row| row.spans && row.status == RowStatus::Ok), metrics.cases.first()) {
        (Some(row), _) => steps.add(row.new_tokens),
        (None, Some(case)) => steps.add(case.new_tokens),
        (None, None) => {}
    }
    let pace = case.as_deref().map_or(Pace::AS_RECORDED, |case| Pace::of(&files.rows, case));
    if repeats == 0 { Vec::new() } else { of_table(&metrics.operators, case.as_deref(), repeats, steps, pace) }
}

#[derive(Debug, Default)]
struct Sum {
    calls: u64,
    total_ns: u64,
    shapes: BTreeMap<StringId, u64>,
}

/// Sums the operator spans of the rows that ended well.
pub(super) fn of_spans(timeline: &Timeline, rows: &[RepeatRow]) -> Vec<OperatorTime> {
    let mut case_of_row: BTreeMap<u32, &str> = BTreeMap::new();
    let mut repeats: BTreeMap<&str, u64> = BTreeMap::new();
    let mut steps: BTreeMap<&str, Steps> = BTreeMap::new();
    let mut paces: BTreeMap<&str, Pace> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.spans && row.status == RowStatus::Ok) {
        if case_of_row.insert(row.index, &row.case).is_none() {
            *repeats.entry(&row.case).or_insert(0) += 1;
            steps.entry(&row.case).or_default().add(row.new_tokens);
            paces.entry(&row.case).or_insert_with(|| Pace::of(rows, &row.case));
        }
    }
    type Key<'a> = (&'a str, StringId, u32, Option<OperatorClass>, StringId);
    let mut order: Vec<Key<'_>> = Vec::new();
    let mut sums: rustc_hash::FxHashMap<Key<'_>, Sum> = rustc_hash::FxHashMap::default();
    let spans = &timeline.spans;
    for row in 0..spans.len() {
        if spans.kind[row] != SpanKind::Operator {
            continue;
        }
        let Some(case) = case_of_row.get(&spans.repeat[row]) else { continue };
        let key = (*case, spans.phase[row], spans.layer[row], spans.class[row], spans.name[row]);
        let sum = sums.entry(key).or_insert_with(|| {
            order.push(key);
            Sum::default()
        });
        sum.calls += 1;
        sum.total_ns = sum.total_ns.saturating_add(spans.duration_ns(row));
        *sum.shapes.entry(spans.shape[row]).or_insert(0) += 1;
    }
    order
        .into_iter()
        .filter_map(|key| {
            let sum = sums.get(&key)?;
            let (case, phase, layer, class, name) = key;
            // The shape met most often; of several the one met first.
            let shape = sum.shapes.iter().max_by_key(|(id, count)| (**count, std::cmp::Reverse(**id)));
            let name = timeline.text(name).to_owned();
            let phase = timeline.text(phase);
            let steps = steps.get(case).copied().unwrap_or_default();
            let pace = paces.get(case).copied().unwrap_or(Pace::AS_RECORDED);
            Some(OperatorTime {
                case: Some(case.to_owned()),
                phase: phase.to_owned(),
                layer: (layer != NONE).then_some(layer),
                module: Some(name.clone()),
                class: class.map_or("unknown", OperatorClass::name).to_owned(),
                name,
                shape: shape.map(|(id, _)| timeline.text(*id).to_owned()).filter(|shape| !shape.is_empty()),
                repeats: repeats.get(case).copied().unwrap_or(1),
                calls: steps.whole(phase, sum.calls),
                total_ns: pace.apply(phase, steps.whole(phase, sum.total_ns)),
            })
        })
        .collect()
}

/// The rows of `metrics.json`, which has sums over the layers first and then the same time again by layer: each time is taken once.
fn of_table(table: &[OperatorRow], case: Option<&str>, repeats: u64, steps: Steps, pace: Pace) -> Vec<OperatorTime> {
    type Key<'a> = (&'a str, &'a str, &'a str);
    fn key(row: &OperatorRow) -> Key<'_> {
        (&row.phase, &row.class, &row.name)
    }
    let mut layered: BTreeMap<Key<'_>, (u64, u64)> = BTreeMap::new();
    for row in table.iter().filter(|row| row.layer.is_some()) {
        let sum = layered.entry(key(row)).or_insert((0, 0));
        sum.0 = sum.0.saturating_add(row.calls);
        sum.1 = sum.1.saturating_add(row.total_ns);
    }
    table
        .iter()
        .filter_map(|row| {
            // What the layers do not explain of a sum over them ran outside of them.
            let (calls, total_ns) = match (row.layer, layered.get(&key(row))) {
                (None, Some((calls, total_ns))) => {
                    (row.calls.saturating_sub(*calls), row.total_ns.saturating_sub(*total_ns))
                }
                _ => (row.calls, row.total_ns),
            };
            (calls > 0).then(|| OperatorTime {
                case: case.map(str::to_owned),
                phase: row.phase.clone(),
                layer: row.layer,
                module: Some(row.name.clone()),
                class: row.class.clone(),
                name: row.name.clone(),
                shape: Some(row.shape.clone()).filter(|shape| !shape.is_empty()),
                repeats,
                calls: steps.whole(&row.phase, calls),
                total_ns: pace.apply(&row.phase, steps.whole(&row.phase, total_ns)),
            })
        })
        .collect()
}
