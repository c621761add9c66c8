//! Adds up what was found: phases, the table of steps, drift and stragglers.

use std::cmp::Reverse;

use rustc_hash::FxHashMap;

use super::judge::{Features, Names};
use super::{
    Drift, Found, MAX_STEPS, MAX_STRAGGLERS, Phase, PhaseColumns, PhaseName, Spread, Step, StepSource, Steps,
    Straggler, Workload,
};
use crate::analysis::api_kind::{ApiKind, Calls};
use crate::analysis::intervals::length_ns;
use crate::stats::quantile::{median, quantile_of_sorted, sorted};
use crate::stats::summary::{mean, standard_deviation};
use crate::trace::activity::{OpKind, OpRef};
use crate::trace::places::NO_ROW;
use crate::trace::timeline::Timeline;

/// Steps a trend needs.
const LEAST_FOR_DRIFT: usize = 20;
/// Steps a trend is computed from; of more, every so many-th.
const MOST_FOR_DRIFT: usize = 400;
/// A gap between steps belongs to the step before it up to this many times the median gap.
const GAP_FACTOR: i64 = 3;
/// Scaled median absolute deviations above the median from which on a step is a straggler.
const STRAGGLER_MADS: f64 = 5.0;
/// And this many times the median.
const STRAGGLER_RATIO: f64 = 1.1;

fn ns(timeline: &Timeline, op: OpRef) -> i64 {
    i64::try_from(length_ns(timeline.op_start_ns(op), timeline.op_end_ns(op))).unwrap_or(i64::MAX)
}

/// What each step did, to tell steps apart by.
pub(super) fn features(timeline: &Timeline, found: &Found, names: &Names) -> Vec<Features> {
    let calls = Calls::new(timeline);
    let mut features = vec![Features::default(); found.steps.len()];
    let kernels = &timeline.kernels;
    for (row, step) in found.of.kernel.iter().enumerate().filter(|(_, step)| **step != NO_ROW) {
        let step = &mut features[*step as usize];
        let ns = ns(timeline, OpRef::new(OpKind::Kernel, row));
        let name = kernels.name[row] as usize;
        step.kernels += 1;
        step.gpu_ns = step.gpu_ns.saturating_add(ns);
        let call = kernels.call[row];
        if kernels.node(row).is_some() || call != NO_ROW && calls.kind(call as usize) == ApiKind::LaunchGraph {
            step.graph_ns = step.graph_ns.saturating_add(ns);
        }
        if names.decode[name] {
            step.decode_ns = step.decode_ns.saturating_add(ns);
        }
        if names.prefill[name] {
            step.prefill_ns = step.prefill_ns.saturating_add(ns);
        }
        let grid = timeline.launch_configs[kernels.config[row] as usize].grid;
        let blocks = grid.iter().map(|side| u64::from(*side)).fold(1, u64::saturating_mul);
        step.blocks = step.blocks.saturating_add(blocks);
    }
    for (row, step) in found.of.graph.iter().enumerate().filter(|(_, step)| **step != NO_ROW) {
        let step = &mut features[*step as usize];
        let ns = ns(timeline, OpRef::new(OpKind::Graph, row));
        step.gpu_ns = step.gpu_ns.saturating_add(ns);
        step.graph_ns = step.graph_ns.saturating_add(ns);
    }
    features
}

/// One step while it is added up.
#[derive(Clone, Copy)]
struct Sum {
    first_ns: i64,
    last_ns: i64,
    busy_until_ns: i64,
    busy_ns: i64,
    gpu_ns: i64,
    kernels: u32,
    launches: u32,
}

const EMPTY: Sum = Sum {
    first_ns: i64::MAX,
    last_ns: i64::MIN,
    busy_until_ns: i64::MIN,
    busy_ns: 0,
    gpu_ns: 0,
    kernels: 0,
    launches: 0,
};

/// Adds `start..end` to a union of intervals that come by begin; what is new in it.
fn extend(until: &mut i64, start: i64, end: i64) -> i64 {
    let new = end.saturating_sub(start.max(*until)).max(0);
    *until = (*until).max(end);
    new
}

/// The phases in the order of their ids: as they first come, `outside` last.
struct PhaseIds {
    names: Vec<PhaseName>,
}

impl PhaseIds {
    fn id(&mut self, name: PhaseName) -> u16 {
        let known = self.names.iter().position(|known| *known == name).unwrap_or_else(|| {
            self.names.push(name);
            self.names.len() - 1
        });
        known as u16
    }
}

/// Sums up steps and phases. `otherwise` is the phase of what lies in no step; a step whose phase is open is a `step`.
pub(super) fn sum_up(
    timeline: &Timeline,
    found: &Found,
    otherwise: PhaseName,
    workload: Workload,
    source: StepSource,
    confidence: Option<f64>,
    mut evidence: Vec<String>,
) -> Steps {
    let mut ids = PhaseIds { names: Vec::new() };
    let phase_of_step: Vec<u16> =
        found.steps.iter().map(|step| ids.id(step.phase.unwrap_or(PhaseName::Step))).collect();
    for (_, phase) in &found.loose {
        ids.id(*phase);
    }
    let otherwise = ids.id(otherwise);
    let column = |steps: &[u32]| -> Vec<u16> {
        steps.iter().map(|step| if *step == NO_ROW { otherwise } else { phase_of_step[*step as usize] }).collect()
    };
    let mut columns = PhaseColumns {
        kernel: column(&found.of.kernel),
        copy: column(&found.of.copy),
        memset: column(&found.of.memset),
        graph: column(&found.of.graph),
        steps: Vec::new(),
        step_process: Vec::new(),
    };
    for (op, phase) in &found.loose {
        if found.of.get(*op) == NO_ROW {
            let id = ids.id(*phase);
            match op.kind() {
                OpKind::Kernel => columns.kernel[op.row()] = id,
                OpKind::Copy => columns.copy[op.row()] = id,
                OpKind::Memset => columns.memset[op.row()] = id,
                OpKind::Graph => columns.graph[op.row()] = id,
            }
        }
    }
    let (mut sums, mut phases) = add_up(timeline, found, &columns, &ids.names);
    (columns.steps, columns.step_process) =
        step_rows(found, &mut sums, &phase_of_step, &mut evidence).into_iter().unzip();
    let steps = &columns.steps;
    let mut drift = Vec::new();
    let mut stragglers = Vec::new();
    for (id, phase) in phases.iter_mut().enumerate() {
        let mine: Vec<(usize, &Step)> =
            steps.iter().enumerate().filter(|(_, step)| usize::from(step.phase) == id).collect();
        if mine.is_empty() {
            continue;
        }
        let durations: Vec<f64> =
            mine.iter().map(|(_, step)| step.end_ns.saturating_sub(step.start_ns) as f64).collect();
        phase.steps = mine.len() as u64;
        phase.wall_ns =
            Some(mine.iter().map(|(_, step)| step.end_ns.saturating_sub(step.start_ns)).fold(0, i64::saturating_add));
        phase.kernels_per_step = spread(&mine.iter().map(|(_, step)| f64::from(step.kernels)).collect::<Vec<_>>());
        phase.launches_per_step = spread(&mine.iter().map(|(_, step)| f64::from(step.launches)).collect::<Vec<_>>());
        drift.extend(trend(&phase.name, &durations));
        find_stragglers(&phase.name, &mine, &durations, &mut stragglers);
        phase.step_ns = spread(&durations);
    }
    stragglers.sort_by_key(|straggler| (Reverse(straggler.duration_ns), straggler.step));
    let stragglers_omitted = stragglers.len().saturating_sub(MAX_STRAGGLERS) as u64;
    stragglers.truncate(MAX_STRAGGLERS);
    Steps {
        workload,
        source,
        confidence: confidence.map(|confidence| confidence.clamp(0.0, 1.0)),
        evidence,
        phases,
        table: steps.iter().take(MAX_STEPS).copied().collect(),
        steps_omitted: steps.len().saturating_sub(MAX_STEPS) as u64,
        drift,
        stragglers,
        stragglers_omitted,
        hints: Vec::new(),
        columns,
    }
}

fn add_up(timeline: &Timeline, found: &Found, columns: &PhaseColumns, names: &[PhaseName]) -> (Vec<Sum>, Vec<Phase>) {
    let mut sums = vec![EMPTY; found.steps.len()];
    let mut phases: Vec<Phase> = names
        .iter()
        .map(|name| Phase {
            name: name.text().to_owned(),
            steps: 0,
            kernels: 0,
            copies_and_sets: 0,
            graphs: 0,
            gpu_sum_ns: 0,
            busy_union_ns: 0,
            wall_ns: None,
            step_ns: None,
            kernels_per_step: None,
            launches_per_step: None,
        })
        .collect();
    let calls = Calls::new(timeline);
    let mut seen = vec![0_u64; timeline.api.len().div_ceil(64)];
    // By device and phase: until when it was busy.
    let mut until: FxHashMap<(usize, u16), i64> = FxHashMap::default();
    for op in timeline.ops_by_start() {
        let (start, end) = (timeline.op_start_ns(op), timeline.op_end_ns(op));
        let phase_id = columns.of(op) as u16;
        let phase = &mut phases[usize::from(phase_id)];
        let until = until.entry((timeline.op_device(op), phase_id)).or_insert(i64::MIN);
        phase.busy_union_ns = phase.busy_union_ns.saturating_add(extend(until, start, end));
        let computes = match op.kind() {
            OpKind::Kernel => {
                phase.kernels += 1;
                true
            }
            OpKind::Graph => {
                phase.graphs += 1;
                true
            }
            OpKind::Copy | OpKind::Memset => {
                phase.copies_and_sets += 1;
                false
            }
        };
        let ns = if computes { ns(timeline, op) } else { 0 };
        phase.gpu_sum_ns = phase.gpu_sum_ns.saturating_add(ns);
        let step = found.of.get(op);
        if step == NO_ROW {
            continue;
        }
        let sum = &mut sums[step as usize];
        sum.first_ns = sum.first_ns.min(start);
        sum.last_ns = sum.last_ns.max(end);
        sum.busy_ns = sum.busy_ns.saturating_add(extend(&mut sum.busy_until_ns, start, end));
        sum.gpu_ns = sum.gpu_ns.saturating_add(ns);
        sum.kernels += u32::from(op.kind() == OpKind::Kernel);
        // A graph launch counts once, with its first operation.
        if let Some(call) = timeline.op_call(op)
            && calls.kind(call).is_launch()
            && seen[call / 64] >> (call % 64) & 1 == 0
        {
            seen[call / 64] |= 1 << (call % 64);
            sum.launches += 1;
        }
    }
    (sums, phases)
}

/// Times of the steps, in order of begin, each with its process.
fn step_rows(found: &Found, sums: &mut [Sum], phase_of_step: &[u16], evidence: &mut Vec<String>) -> Vec<(Step, u32)> {
    let filled = (0..sums.len()).filter(|step| sums[*step].first_ns <= sums[*step].last_ns);
    let mut order: Vec<usize> = filled.collect();
    order.sort_by_key(|step| (sums[*step].first_ns, *step));
    let waited = order
        .iter()
        .filter(|step| {
            found.steps[**step]
                .host_ns
                .is_some_and(|(begin, end)| sums[**step].first_ns >= begin && sums[**step].last_ns <= end)
        })
        .count();
    let by_host = !order.is_empty() && found.steps[order[0]].host_ns.is_some() && 10 * waited >= 9 * order.len();
    if by_host {
        evidence.push("the host waits for the device in each step: steps last as long as their ranges".to_owned());
    } else {
        if found.steps.iter().any(|step| step.host_ns.is_some()) {
            evidence.push("device work goes on after its range ended: steps last from their first device operation to that of the next".to_owned());
        }
        close_gaps(found, sums, &order);
    }
    let mut rows: Vec<(Step, u32)> = order
        .into_iter()
        .map(|step| {
            let sum = &sums[step];
            let (start_ns, end_ns) = match found.steps[step].host_ns {
                Some(host) if by_host => host,
                _ => (sum.first_ns, sum.last_ns),
            };
            let row = Step {
                start_ns,
                end_ns,
                phase: phase_of_step[step],
                kernels: sum.kernels,
                launches: sum.launches,
                busy_ns: sum.busy_ns,
                gpu_sum_ns: sum.gpu_ns,
            };
            (row, found.steps[step].process)
        })
        .collect();
    rows.sort_by_key(|(step, _)| (step.start_ns, step.end_ns));
    rows
}

/// Lets each step last until the next one of its process begins, where the gap is an ordinary one.
fn close_gaps(found: &Found, sums: &mut [Sum], order: &[usize]) {
    let mut last: FxHashMap<u32, usize> = FxHashMap::default();
    let mut next: Vec<(usize, i64)> = Vec::with_capacity(order.len());
    for step in order {
        if let Some(before) = last.insert(found.steps[*step].process, *step) {
            next.push((before, sums[*step].first_ns));
        }
    }
    let mut gaps: Vec<i64> =
        next.iter().map(|(step, begin)| begin.saturating_sub(sums[*step].last_ns)).filter(|gap| *gap >= 0).collect();
    if gaps.is_empty() {
        return;
    }
    let middle = gaps.len() / 2;
    let ordinary = gaps.select_nth_unstable(middle).1.saturating_mul(GAP_FACTOR);
    for (step, begin) in next {
        // Steps may also overlap on the device by a little; the next one's begin parts them.
        let gap = begin.saturating_sub(sums[step].last_ns);
        if gap <= ordinary && begin > sums[step].first_ns {
            sums[step].last_ns = begin;
        }
    }
}

fn spread(values: &[f64]) -> Option<Spread> {
    let by_size = sorted(values);
    let mean = mean(values)?;
    let at = |p: f64| quantile_of_sorted(&by_size, p);
    Some(Spread {
        n: values.len() as u64,
        mean,
        std: standard_deviation(values, mean),
        min: at(0.0)?,
        p50: at(0.5)?,
        p95: at(0.95)?,
        p99: at(0.99)?,
        max: at(1.0)?,
    })
}

/// Theil–Sen slope of durations over the number of the step, with Sen's interval (JASA 63, 1968), normal approximation of Kendall's S.
fn trend(phase: &str, durations: &[f64]) -> Option<Drift> {
    if durations.len() < LEAST_FOR_DRIFT {
        return None;
    }
    let stride = durations.len().div_ceil(MOST_FOR_DRIFT);
    let points: Vec<(f64, f64)> =
        durations.iter().enumerate().step_by(stride).map(|(at, value)| (at as f64, *value)).collect();
    let n = points.len();
    let mut slopes = Vec::with_capacity(n * (n - 1) / 2);
    for later in 1..n {
        for earlier in 0..later {
            slopes.push((points[later].1 - points[earlier].1) / (points[later].0 - points[earlier].0));
        }
    }
    slopes.sort_unstable_by(f64::total_cmp);
    let slope = quantile_of_sorted(&slopes, 0.5)?;
    let count = n as f64;
    let spread = 1.959_964 * (count * (count - 1.0) * (2.0 * count + 5.0) / 18.0).sqrt();
    let pairs = slopes.len() as f64;
    let low = ((pairs - spread) / 2.0).floor().max(0.0) as usize;
    let high = (f64::midpoint(pairs, spread).ceil() as usize).min(slopes.len() - 1);
    let centre = median(durations)?;
    (centre > 0.0).then(|| Drift {
        phase: phase.to_owned(),
        slope_ns_per_step: slope,
        interval: [slopes[low], slopes[high]],
        relative_change: slope * (durations.len() - 1) as f64 / centre,
        n: n as u64,
    })
}

fn find_stragglers(phase: &str, mine: &[(usize, &Step)], durations: &[f64], stragglers: &mut Vec<Straggler>) {
    let Some(centre) = median(durations).filter(|centre| *centre > 0.0) else { return };
    let deviations: Vec<f64> = durations.iter().map(|value| (value - centre).abs()).collect();
    let scale = 1.4826 * median(&deviations).unwrap_or(0.0);
    let limit = (centre + STRAGGLER_MADS * scale).max(STRAGGLER_RATIO * centre);
    for ((row, step), duration) in mine.iter().zip(durations) {
        if *duration > limit {
            stragglers.push(Straggler {
                step: *row as u64,
                phase: phase.to_owned(),
                start_ns: step.start_ns,
                duration_ns: step.end_ns.saturating_sub(step.start_ns),
                times_median: duration / centre,
            });
        }
    }
}
