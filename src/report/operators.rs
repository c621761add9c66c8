//! Operator rows summed for display: by class and by layer. Sums only; percentiles of calls cannot be summed and are left out.

use crate::record::metrics::{OperatorRow, Stage1Metrics};

/// Operators of one phase, added up.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct OperatorSum {
    /// Class, or `layer N`.
    pub label: String,
    /// Calls.
    pub calls: u64,
    /// Time.
    pub total_ns: u64,
    /// Share of the operator time of the phase.
    pub share: f64,
    /// FLOPs.
    pub flops: u64,
    /// Least bytes.
    pub bytes: u64,
    /// Time the roofline allows; null if any part is unknown.
    pub roofline_ns: Option<f64>,
    /// Time above the roofline; null if any part is unknown.
    pub lost_ns: Option<f64>,
    /// `compute`, `memory` or `mixed`; null without peaks.
    pub bound: Option<String>,
    /// Name of the costliest row in the sum.
    pub costliest: String,
    /// Time of the costliest row.
    costliest_ns: u64,
}

impl OperatorSum {
    /// FLOP/s over the whole time.
    pub(super) fn flops_per_s(&self) -> Option<f64> {
        (self.total_ns > 0 && self.flops > 0).then(|| self.flops as f64 / (self.total_ns as f64 * 1e-9))
    }
    /// Bytes per second over the whole time.
    pub(super) fn bytes_per_s(&self) -> Option<f64> {
        (self.total_ns > 0 && self.bytes > 0).then(|| self.bytes as f64 / (self.total_ns as f64 * 1e-9))
    }
    /// FLOPs per byte.
    pub(super) fn intensity(&self) -> Option<f64> {
        (self.bytes > 0 && self.flops > 0).then(|| self.flops as f64 / self.bytes as f64)
    }
}

/// Names of the phases that have operators, prefill first, then decode, then any other.
pub(super) fn phase_names(metrics: &Stage1Metrics) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let known = metrics.phases.iter().map(|phase| &phase.phase);
    for name in metrics.operators.iter().map(|row| &row.phase).chain(known) {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names.sort_by_key(|name| match name.as_str() {
        "prefill" => 0,
        "decode" => 1,
        _ => 2,
    });
    names
}

/// Rows summed over layers (and those outside them) of `phase`, costliest first.
pub(super) fn modules<'a>(metrics: &'a Stage1Metrics, phase: &str) -> Vec<&'a OperatorRow> {
    let mut rows: Vec<&OperatorRow> =
        metrics.operators.iter().filter(|row| row.phase == phase && row.layer.is_none()).collect();
    rows.sort_by(|a, b| b.total_ns.cmp(&a.total_ns).then_with(|| a.name.cmp(&b.name)));
    rows
}

/// Rows of single layers of `phase`, in order of layers.
pub(super) fn layers(metrics: &Stage1Metrics, phase: &str) -> Vec<OperatorSum> {
    let mut numbers: Vec<u32> =
        metrics.operators.iter().filter(|row| row.phase == phase).filter_map(|row| row.layer).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let inside = |number| metrics.operators.iter().filter(move |row| row.phase == phase && row.layer == Some(number));
    numbers.into_iter().filter_map(|number| sum(&number.to_string(), inside(number))).collect()
}

/// Operator classes of `phase`, costliest first.
pub(super) fn classes(metrics: &Stage1Metrics, phase: &str) -> Vec<OperatorSum> {
    let rows = modules(metrics, phase);
    let mut names: Vec<&str> = Vec::new();
    for row in &rows {
        if !names.contains(&row.class.as_str()) {
            names.push(&row.class);
        }
    }
    let mut sums: Vec<OperatorSum> =
        names.into_iter().filter_map(|name| sum(name, rows.iter().copied().filter(|row| row.class == name))).collect();
    sums.sort_by(|a, b| b.total_ns.cmp(&a.total_ns).then_with(|| a.label.cmp(&b.label)));
    sums
}

/// Everything of `phase`; null if it has no operators.
pub(super) fn total(metrics: &Stage1Metrics, phase: &str) -> Option<OperatorSum> {
    sum(phase, modules(metrics, phase).into_iter())
}

fn sum<'a>(label: &str, rows: impl Iterator<Item = &'a OperatorRow>) -> Option<OperatorSum> {
    rows.fold(None, |sum: Option<OperatorSum>, row| {
        let Some(mut sum) = sum else {
            return Some(OperatorSum {
                label: label.to_owned(),
                calls: row.calls,
                total_ns: row.total_ns,
                share: row.share,
                flops: row.flops,
                bytes: row.bytes,
                roofline_ns: row.roofline_ns,
                lost_ns: row.lost_ns,
                bound: row.bound.clone(),
                costliest: row.name.clone(),
                costliest_ns: row.total_ns,
            });
        };
        sum.calls += row.calls;
        sum.total_ns += row.total_ns;
        sum.share += row.share;
        sum.flops += row.flops;
        sum.bytes += row.bytes;
        sum.roofline_ns = sum.roofline_ns.zip(row.roofline_ns).map(|(a, b)| a + b);
        sum.lost_ns = sum.lost_ns.zip(row.lost_ns).map(|(a, b)| a + b);
        sum.bound = match (sum.bound, &row.bound) {
            (Some(a), Some(b)) if a == *b => Some(a),
            (Some(_), Some(_)) => Some("mixed".to_owned()),
            _ => None,
        };
        if row.total_ns > sum.costliest_ns {
            sum.costliest_ns = row.total_ns;
            sum.costliest.clone_from(&row.name);
        }
        Some(sum)
    })
}
