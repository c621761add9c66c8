//! Rows of an attribution from the amounts of the two sides.

use crate::compare::result::{AttributionRow, ChangeKind};

/// A part of a phase on both sides, times and calls per unit.
#[derive(Debug, Clone, Default)]
pub(super) struct Part {
    pub(super) layer: Option<u32>,
    pub(super) module: Option<String>,
    pub(super) class: String,
    /// Names in the baseline and in the candidate.
    pub(super) names: [Option<String>; 2],
    pub(super) ns: [f64; 2],
    pub(super) calls: [f64; 2],
    pub(super) interval: Option<[f64; 2]>,
    pub(super) matched_by: String,
}

impl Part {
    /// The row, its share still 0.
    pub(super) fn row(self, phase: &str, change: ChangeKind) -> AttributionRow {
        let [baseline_ns, candidate_ns] = self.ns;
        let [baseline_calls, candidate_calls] = self.calls;
        let delta_ns = candidate_ns - baseline_ns;
        let count_delta = candidate_calls - baseline_calls;
        let both = baseline_calls > 0.0 && candidate_calls > 0.0;
        let means = [0, 1].map(|side| self.ns[side] / self.calls[side]);
        let per_call_delta_ns = both.then(|| means[1] - means[0]);
        // The two parts must add up to the change: what only one side has is all count, unless it has time and no call.
        let count_ns = match (baseline_calls > 0.0, candidate_calls > 0.0) {
            (true, true) => count_delta * means[0],
            (false, false) => 0.0,
            _ => delta_ns,
        };
        let [baseline_name, candidate_name] = self.names;
        let (kernel, baseline_kernel) = match (baseline_name, candidate_name) {
            (Some(before), Some(after)) if before != after => (Some(after), Some(before)),
            (before, after) => (after.or(before), None),
        };
        AttributionRow {
            phase: phase.to_owned(),
            layer: self.layer,
            module: self.module,
            class: self.class,
            kernel,
            baseline_kernel,
            change,
            baseline_ns,
            candidate_ns,
            delta_ns,
            baseline_calls,
            candidate_calls,
            count_delta,
            per_call_delta_ns,
            count_ns,
            per_call_ns: delta_ns - count_ns,
            share: 0.0,
            delta_ci95_ns: self.interval,
            matched_by: self.matched_by,
        }
    }
}

/// Class of the row that sums up what was left out.
pub(super) const REMAINDER: &str = "(other)";

/// Fills the shares of the rows of one phase, orders them and sums up what is beyond `max_rows` (0: nothing); the number left out.
pub(super) fn finish_phase(rows: &mut Vec<AttributionRow>, phase: &str, max_rows: usize) -> u64 {
    let all: f64 = rows.iter().map(|row| row.delta_ns.abs()).sum();
    let share = |delta: f64| if all > 0.0 { delta / all } else { 0.0 };
    for row in rows.iter_mut() {
        row.share = share(row.delta_ns);
    }
    rows.sort_by(by_size);
    if max_rows == 0 || rows.len() <= max_rows {
        return 0;
    }
    let rest = rows.split_off(max_rows);
    let mut part =
        Part { class: REMAINDER.to_owned(), matched_by: format!("{} further rows", rest.len()), ..Part::default() };
    for row in &rest {
        part.ns[0] += row.baseline_ns;
        part.ns[1] += row.candidate_ns;
        part.calls[0] += row.baseline_calls;
        part.calls[1] += row.candidate_calls;
    }
    let mut row = part.row(phase, ChangeKind::Changed);
    // Calls of unlike things have no mean worth a difference.
    (row.per_call_delta_ns, row.count_ns, row.per_call_ns) = (None, 0.0, row.delta_ns);
    row.share = share(row.delta_ns);
    rows.push(row);
    rest.len() as u64
}

/// Largest change first; of equal ones the longer, then by name.
pub(super) fn by_size(a: &AttributionRow, b: &AttributionRow) -> std::cmp::Ordering {
    let longer = |row: &AttributionRow| row.baseline_ns.abs().max(row.candidate_ns.abs());
    let name = |row: &AttributionRow| (row.module.clone(), row.class.clone(), row.kernel.clone());
    (a.class == REMAINDER)
        .cmp(&(b.class == REMAINDER))
        .then(b.delta_ns.abs().total_cmp(&a.delta_ns.abs()))
        .then(longer(b).total_cmp(&longer(a)))
        .then_with(|| name(a).cmp(&name(b)))
}
