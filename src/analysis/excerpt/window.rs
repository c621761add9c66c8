//! Which stretch of a trace is worth looking at first.

use crate::analysis::steps::Steps;
use crate::trace::activity::OpKind;
use crate::trace::timeline::Timeline;

/// Steps shown.
const STEPS: usize = 3;
/// Length of the densest stretch of a trace without steps, ns.
const DENSE_NS: i64 = 50_000_000;

/// A stretch and why it was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stretch {
    /// Begin, ns.
    pub start_ns: i64,
    /// End, ns.
    pub end_ns: i64,
    /// Why, in words.
    pub chosen: String,
}

/// A stretch that stands for the whole trace: three steps in a row of the phase with the most steps, of the most ordinary length; without
/// steps the 50 ms in which the most device work begins. `None` without device work.
///
/// A twentieth is added on both sides, and the begin moves back, by the length of the stretch at most, to the call that launched its first
/// kernel: a host that runs ahead is part of the picture.
pub fn representative_stretch(timeline: &Timeline, steps: Option<&Steps>) -> Option<Stretch> {
    let mut stretch = steps.and_then(ordinary_steps).or_else(|| densest(timeline))?;
    let length = stretch.end_ns.saturating_sub(stretch.start_ns);
    let first = timeline.kernels.start_ns.partition_point(|start| *start < stretch.start_ns);
    let call = timeline.kernels.call.get(first).and_then(|call| timeline.api.start_ns.get(*call as usize)).copied();
    let margin = length / 20;
    stretch.end_ns = stretch.end_ns.saturating_add(margin);
    let ahead = call.unwrap_or(stretch.start_ns).min(stretch.start_ns).max(stretch.start_ns.saturating_sub(length));
    stretch.start_ns = ahead.saturating_sub(margin);
    Some(stretch)
}

fn ordinary_steps(steps: &Steps) -> Option<Stretch> {
    let mut counts = vec![0_usize; steps.phases.len()];
    for step in &steps.table {
        if let Some(count) = counts.get_mut(usize::from(step.phase)) {
            *count += 1;
        }
    }
    let (phase, _) =
        counts.iter().enumerate().rev().max_by_key(|(_, count)| **count).filter(|(_, count)| **count > 0)?;
    let wanted = STEPS.min(steps.table.len());
    let mut lengths: Vec<i64> = steps
        .table
        .iter()
        .filter(|step| usize::from(step.phase) == phase)
        .map(|step| step.end_ns.saturating_sub(step.start_ns))
        .collect();
    lengths.sort_unstable();
    let ordinary = lengths[lengths.len() / 2].saturating_mul(wanted as i64);
    let name = &steps.phases[phase].name;
    let (at, run) = steps
        .table
        .windows(wanted)
        .enumerate()
        .filter(|(_, run)| run.iter().all(|step| usize::from(step.phase) == phase))
        .min_by_key(|(at, run)| {
            let off = (run[wanted - 1].end_ns.saturating_sub(run[0].start_ns)).abs_diff(ordinary);
            // Of runs that are alike, the one in the middle: the ends of a trace are special.
            let off = if off <= ordinary.unsigned_abs() / 50 { 0 } else { off };
            (off, at.abs_diff(steps.table.len() / 2))
        })
        .or_else(|| {
            let at = steps.table.iter().position(|step| usize::from(step.phase) == phase)?;
            Some((at, &steps.table[at..=at]))
        })?;
    let (start_ns, end_ns) = (run.first()?.start_ns, run.last()?.end_ns);
    let chosen = match run.len() {
        1 => format!("Step {at} ({name})."),
        many => format!("Steps {at} to {} ({name}), of the most ordinary length.", at + many - 1),
    };
    Some(Stretch { start_ns, end_ns, chosen })
}

fn densest(timeline: &Timeline) -> Option<Stretch> {
    let (first, last) = timeline.device_span_ns()?;
    if last.saturating_sub(first) <= DENSE_NS {
        return Some(Stretch { start_ns: first, end_ns: last, chosen: "The whole trace.".to_owned() });
    }
    // Kernels decide; copies do only where there are none.
    let tables = [
        (OpKind::Kernel, &timeline.kernels.start_ns),
        (OpKind::Graph, &timeline.graphs.start_ns),
        (OpKind::Copy, &timeline.copies.start_ns),
        (OpKind::Memset, &timeline.memsets.start_ns),
    ];
    let (kind, starts) = tables.into_iter().find(|(_, starts)| !starts.is_empty())?;
    let (mut best, mut tail) = ((0, 0), 0);
    for head in 0..starts.len() {
        while starts[head].saturating_sub(starts[tail]) > DENSE_NS {
            tail += 1;
        }
        if head + 1 - tail > best.0 {
            best = (head + 1 - tail, tail);
        }
    }
    let start_ns = starts[best.1];
    let what = match kind {
        OpKind::Kernel => "kernels",
        OpKind::Graph => "graphs",
        OpKind::Copy => "copies",
        OpKind::Memset => "memory sets",
    };
    let chosen = format!("The 50 ms in which the most {what} begin.");
    Some(Stretch { start_ns, end_ns: start_ns.saturating_add(DENSE_NS), chosen })
}
