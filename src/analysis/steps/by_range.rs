//! Steps as ranges tell them.

use rustc_hash::FxHashMap;

use super::patterns::{Compiled, Says, is_one_step, is_strong};
use super::{Found, FoundStep, PhaseName, StepColumns};
use crate::analysis::intervals::length_ns;
use crate::analysis::projection::{Modules, Projection};
use crate::trace::activity::{OpKind, OpRef};
use crate::trace::host::RangeKind;
use crate::trace::places::NO_ROW;
use crate::trace::timeline::Timeline;

/// What the paths of a projection say of phases and steps.
pub(super) struct RangeSteps {
    /// By path: whether its ranges name a phase or mark a step, and whether narrower ones inside do.
    phase: Vec<Option<PhaseName>>,
    step: Vec<bool>,
    /// True if every name that says a phase does so in the words prefill or decode.
    pub(super) strong: bool,
    /// True if some name is known to stand for exactly one step.
    pub(super) exact: bool,
    /// Names by which phases and steps were told, a few of each.
    phase_names: Vec<String>,
    step_names: Vec<String>,
    /// Share of all GPU time launched in ranges of training.
    pub(super) training_share: f64,
}

/// Names shown as examples.
const EXAMPLES: usize = 4;

impl RangeSteps {
    pub(super) fn of(timeline: &Timeline, projection: &Projection, modules: &Modules, patterns: &Compiled) -> Self {
        let paths = &projection.paths;
        let mut kinds: Vec<Option<RangeKind>> = vec![None; paths.len()];
        for (row, path) in projection.path.iter().enumerate() {
            if let Some(kind) = kinds.get_mut(*path as usize) {
                kind.get_or_insert(timeline.ranges.kind[row]);
            }
        }
        // Labels are few and paths are many.
        let says: Vec<Says> = projection.labels.iter().map(|label| patterns.says(label)).collect();
        let trains: Vec<bool> = projection.labels.iter().map(|label| patterns.is_training(label)).collect();
        let of = |allowed: &dyn Fn(RangeKind) -> bool| -> Vec<Says> {
            (0..paths.len())
                .map(|path| {
                    let in_layer = modules.path_layer[path] != NO_ROW;
                    let fits = paths[path].ops > 0 && !in_layer && kinds[path].is_some_and(allowed);
                    if fits { says[paths[path].label as usize] } else { Says::Nothing }
                })
                .collect()
        };
        let user = |kind: RangeKind| !matches!(kind, RangeKind::Operator | RangeKind::Python);
        let mut said = of(&user);
        if !said.iter().any(|says| matches!(says, Says::Phase(_))) {
            // Functions of Python only where nothing of the user's own names a phase.
            let by_python = of(&|kind| kind == RangeKind::Python);
            for (known, more) in said.iter_mut().zip(by_python) {
                if matches!(more, Says::Phase(_)) {
                    *known = more;
                }
            }
        }
        let phase: Vec<Option<PhaseName>> =
            said.iter().map(|says| if let Says::Phase(phase) = says { Some(*phase) } else { None }).collect();
        let step: Vec<bool> = said.iter().map(|says| *says == Says::Step).collect();
        let named: Vec<&str> =
            (0..paths.len()).filter(|path| phase[*path].is_some()).map(|path| projection.label(path)).collect();
        let marking = (0..paths.len()).filter(|path| step[*path]).map(|path| projection.label(path));
        let mut training_ns = 0_i64;
        let mut inside = vec![false; paths.len()];
        for (path, node) in paths.iter().enumerate() {
            let within = node.parent != NO_ROW && inside[node.parent as usize];
            inside[path] = within || trains[node.label as usize];
            if inside[path] {
                training_ns = training_ns.saturating_add(node.self_ns);
            }
        }
        let all_ns = projection.kernels.total_ns();
        Self {
            exact: named.iter().any(|name| is_one_step(name)),
            strong: named.iter().all(|name| is_strong(name)),
            phase_names: distinct(named.iter().copied()),
            step_names: distinct(marking),
            phase,
            step,
            training_share: if all_ns > 0 { training_ns as f64 / all_ns as f64 } else { 0.0 },
        }
    }

    /// A few of the names, for a sentence.
    pub(super) fn examples(&self, _timeline: &Timeline, phases: bool) -> String {
        let names = if phases { &self.phase_names } else { &self.step_names };
        names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
    }

    /// Steps by ranges that name phases, or by ranges that mark steps. `regularity` is the share of GPU time in them.
    pub(super) fn steps_of(&self, timeline: &Timeline, projection: &Projection, phases: bool) -> Found {
        let levels = self.levels(projection, phases);
        let Levels { nearest, container, conflicting } = &levels;
        let mut found = Found { of: StepColumns::outside(timeline), ..Found::default() };
        let mut walk =
            Walk { step_of_range: FxHashMap::default(), ranges_in_order: Vec::new(), last: (NO_ROW, NO_ROW) };
        for kind in [OpKind::Kernel, OpKind::Graph, OpKind::Copy, OpKind::Memset] {
            let column = match kind {
                OpKind::Kernel => &projection.kernel_range,
                OpKind::Graph => &projection.graph_range,
                OpKind::Copy => &projection.copy_range,
                OpKind::Memset => &projection.memset_range,
            };
            for (row, range) in column.iter().enumerate() {
                let op = OpRef::new(kind, row);
                if *range == NO_ROW {
                    continue;
                }
                let path = projection.path[*range as usize];
                let target = if path == NO_ROW { NO_ROW } else { nearest[path as usize] };
                if target == NO_ROW {
                    continue;
                }
                let target = target as usize;
                if container[target] {
                    if phases && !conflicting[target] {
                        found.loose.push((op, self.phase[target].unwrap_or(PhaseName::Outside)));
                    }
                    continue;
                }
                found.of.set(op, walk.step(projection, *range, target as u32));
            }
        }
        self.order(timeline, projection, &mut found, &walk.ranges_in_order, phases);
        fill_unlinked(timeline, &mut found.of);
        if !phases {
            fill_by_time(timeline, &mut found);
        }
        found.regularity = share_inside(timeline, &found);
        found
    }

    /// Which paths say something, and which of two that do, one inside the other, is to be taken.
    fn levels(&self, projection: &Projection, phases: bool) -> Levels {
        let paths = &projection.paths;
        let mut says: Vec<bool> =
            (0..paths.len()).map(|path| if phases { self.phase[path].is_some() } else { self.step[path] }).collect();
        // Where a range holds about one of its kind, the outer is the step: the inner leaves out what comes around it.
        let mut inner = vec![0_u64; paths.len()];
        let mut conflicts = vec![false; paths.len()];
        let mut dissolve = vec![false; paths.len()];
        let mut above = vec![NO_ROW; paths.len()];
        for path in 0..paths.len() {
            let parent = paths[path].parent;
            if parent != NO_ROW {
                above[path] = if says[parent as usize] { parent } else { above[parent as usize] };
            }
        }
        for path in (0..paths.len()).rev().filter(|path| says[*path]) {
            let instances = u64::from(paths[path].instances);
            dissolve[path] = inner[path] > 0 && !conflicts[path] && 2 * inner[path] <= 3 * instances;
            if above[path] != NO_ROW {
                let outer = above[path] as usize;
                let kept = if inner[path] == 0 || dissolve[path] { instances } else { inner[path] };
                inner[outer] += kept;
                conflicts[outer] |= conflicts[path] || phases && self.phase[outer] != self.phase[path];
            }
        }
        let mut inside = vec![false; paths.len()];
        for path in 0..paths.len() {
            let parent = paths[path].parent;
            inside[path] = parent != NO_ROW && (inside[parent as usize] || dissolve[parent as usize]);
            says[path] &= !inside[path];
        }
        let mut levels = Levels {
            nearest: vec![NO_ROW; paths.len()],
            container: vec![false; paths.len()],
            conflicting: vec![false; paths.len()],
        };
        for path in 0..paths.len() {
            let outer = match paths[path].parent {
                NO_ROW => NO_ROW,
                parent => levels.nearest[parent as usize],
            };
            levels.nearest[path] = if says[path] { path as u32 } else { outer };
            if says[path] && outer != NO_ROW {
                let mut at = outer;
                while at != NO_ROW {
                    levels.container[at as usize] = true;
                    levels.conflicting[at as usize] |= self.phase[at as usize] != self.phase[path];
                    at = match paths[at as usize].parent {
                        NO_ROW => NO_ROW,
                        parent => levels.nearest[parent as usize],
                    };
                }
            }
        }
        levels
    }

    /// Numbers the steps in order of begin.
    fn order(&self, timeline: &Timeline, projection: &Projection, found: &mut Found, rows: &[u32], phases: bool) {
        let ranges = &timeline.ranges;
        let mut order: Vec<u32> = (0..rows.len() as u32).collect();
        order.sort_by_key(|step| (ranges.start_ns[rows[*step as usize] as usize], rows[*step as usize]));
        let mut rank = vec![0_u32; rows.len()];
        for (to, from) in order.iter().enumerate() {
            rank[*from as usize] = to as u32;
            let row = rows[*from as usize] as usize;
            let path = projection.path[row];
            found.steps.push(FoundStep {
                phase: if phases { self.phase.get(path as usize).copied().flatten() } else { None },
                process: timeline.threads[ranges.thread[row] as usize].process,
                host_ns: Some((ranges.start_ns[row], ranges.end_ns[row])),
            });
        }
        let of = &mut found.of;
        for column in [&mut of.kernel, &mut of.copy, &mut of.memset, &mut of.graph] {
            for step in column.iter_mut().filter(|step| **step != NO_ROW) {
                *step = rank[*step as usize];
            }
        }
    }
}

/// Which paths are steps.
struct Levels {
    /// By path: the nearest one from there upwards that says something.
    nearest: Vec<u32>,
    /// By path: whether others that say something stand below it, and whether they say something else.
    container: Vec<bool>,
    conflicting: Vec<bool>,
}

/// Share of the time of kernels and whole graphs that lies in steps or has a phase.
fn share_inside(timeline: &Timeline, found: &Found) -> f64 {
    let (mut inside, mut all) = (0_u64, 0_u64);
    let ns = |op: OpRef| length_ns(timeline.op_start_ns(op), timeline.op_end_ns(op));
    for (kind, column) in [(OpKind::Kernel, &found.of.kernel), (OpKind::Graph, &found.of.graph)] {
        for (row, step) in column.iter().enumerate() {
            let ns = ns(OpRef::new(kind, row));
            all = all.saturating_add(ns);
            if *step != NO_ROW {
                inside = inside.saturating_add(ns);
            }
        }
    }
    for (op, _) in &found.loose {
        if matches!(op.kind(), OpKind::Kernel | OpKind::Graph) {
            inside = inside.saturating_add(ns(*op));
        }
    }
    if all > 0 { inside as f64 / all as f64 } else { 0.0 }
}

/// Steps mark the time of a whole process: work that another of its threads launched meanwhile (a backward pass) belongs to them too, if the
/// steps of the process do not overlap.
fn fill_by_time(timeline: &Timeline, found: &mut Found) {
    let mut of_process: FxHashMap<u32, Vec<(i64, i64, u32)>> = FxHashMap::default();
    for (row, step) in found.steps.iter().enumerate() {
        if let Some((begin, end)) = step.host_ns {
            of_process.entry(step.process).or_default().push((begin, end, row as u32));
        }
    }
    of_process.retain(|_, steps| steps.windows(2).all(|pair| pair[0].1 <= pair[1].0));
    if of_process.is_empty() {
        return;
    }
    for op in timeline.ops_by_start() {
        let Some(call) = timeline.op_call(op).filter(|_| found.of.get(op) == NO_ROW) else { continue };
        let process = timeline.streams[timeline.op_stream(op)].process;
        let Some(steps) = of_process.get(&process) else { continue };
        let (begin, end) = (timeline.api.start_ns[call], timeline.api.end_ns[call]);
        let after = steps.partition_point(|step| step.0 <= begin);
        if let Some(step) = after.checked_sub(1).map(|at| steps[at]).filter(|step| end <= step.1) {
            found.of.set(op, step.2);
        }
    }
}

/// Finds the step of a range by going up to the range that says it.
struct Walk {
    step_of_range: FxHashMap<u32, u32>,
    ranges_in_order: Vec<u32>,
    last: (u32, u32),
}

impl Walk {
    fn step(&mut self, projection: &Projection, range: u32, target: u32) -> u32 {
        let mut at = range;
        while projection.path[at as usize] != target {
            at = projection.parent[at as usize];
        }
        if self.last.0 != at {
            let Self { step_of_range, ranges_in_order, last } = self;
            let step = *step_of_range.entry(at).or_insert_with(|| {
                ranges_in_order.push(at);
                (ranges_in_order.len() - 1) as u32
            });
            *last = (at, step);
        }
        self.last.1
    }
}

/// Gives work without a launch call to a step if its neighbours before and after on its stream are of that step.
fn fill_unlinked(timeline: &Timeline, of: &mut StepColumns) {
    if !timeline.kernels.call.contains(&NO_ROW) {
        return;
    }
    let mut waiting: Vec<(u32, Vec<OpRef>)> = vec![(NO_ROW, Vec::new()); timeline.streams.len()];
    for op in timeline.ops_by_start() {
        let (last, between) = &mut waiting[timeline.op_stream(op)];
        let step = of.get(op);
        if step == NO_ROW {
            if timeline.op_call(op).is_none() && *last != NO_ROW {
                between.push(op);
            }
            continue;
        }
        if step == *last {
            for op in between.iter() {
                of.set(*op, step);
            }
        }
        between.clear();
        *last = step;
    }
}

fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut some: Vec<String> = Vec::new();
    for name in names {
        if !some.iter().any(|known| known == name) {
            some.push(name.chars().take(80).collect());
            if some.len() == EXAMPLES {
                break;
            }
        }
    }
    some
}
