//! One trace cut into units: every operation and every gap falls into the steps in which it took place.
//!
//! The time of each device, from its first operation or step to its last, is cut at the begins and ends of the steps. An instant belongs to the step
//! that began last and has not ended; what lies in no step is `between_steps`, or `outside` before the first and after the last. An operation
//! that crosses a cut is cut too; its call counts where it begins. So for every unit, to the nanosecond,
//!
//! `wall = Σ operations − overlap + Σ idle by cause`
//!
//! where `overlap` is what operations that ran side by side have in common.

use rustc_hash::FxHashMap;

use super::names::normal_name;
use super::sentences::GRAPH;
use super::{TraceSettings, TraceSide};
use crate::analysis::classify::KernelClass;
use crate::analysis::coverage::{Coverage, coverage};
use crate::analysis::idle::{IdleCause, SHORT_GAP_NS, survey};
use crate::analysis::idle_causes::{Gap, Rules};
use crate::analysis::intervals::{Interval, length_ns, op_name, ops_by_device};
use crate::analysis::kernel_names::shorten;
use crate::analysis::kernel_summary::classify_names;
use crate::analysis::projection::{Modules, Projection, modules, project};
use crate::analysis::steps::{PatternError, Steps, steps};
use crate::trace::activity::{OpKind, OpRef};
use crate::trace::places::NO_ROW;
use crate::trace::timeline::Timeline;

/// Idle time in gaps shorter than 1 us, after all causes.
pub(super) const SHORT_GAPS: usize = IdleCause::ALL.len();
/// Causes of idle time with that.
pub(super) const CAUSES: usize = SHORT_GAPS + 1;
/// Stands for "the operation began in another unit" in [`Piece::nth`].
const CONTINUED: u32 = 1 << 31;

/// How the units of a phase are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PhaseKind {
    /// Each step is a unit.
    Steps,
    /// Divided by the number of steps.
    Between,
    /// Once for each device.
    Whole,
}

/// A phase.
#[derive(Debug, Clone)]
pub(super) struct PhaseOf {
    pub(super) name: String,
    pub(super) kind: PhaseKind,
    /// What times are divided by.
    pub(super) units: u64,
}

/// A step on one device, or what lies outside of steps on it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Unit {
    pub(super) phase: u16,
    pub(super) wall_ns: u64,
    pub(super) busy_ns: u64,
    /// Operations that begin in it.
    pub(super) calls: u32,
    /// Its pieces lie in this range of [`Profile::pieces`].
    first: u32,
    last: u32,
}

/// An operation within one unit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    pub(super) ns: u64,
    pub(super) unit: u32,
    pub(super) role: u32,
    nth: u32,
    pub(super) op: OpRef,
}

impl Piece {
    /// Which of the calls of its role in the unit it is, from 0.
    pub(super) fn nth(self) -> usize {
        (self.nth & !CONTINUED) as usize
    }
    /// Whether the operation begins here.
    pub(super) fn is_call(self) -> bool {
        self.nth & CONTINUED == 0
    }
}

/// Idle time within one unit.
#[derive(Debug, Clone, Copy)]
pub(super) struct IdlePiece {
    pub(super) ns: u64,
    pub(super) unit: u32,
    pub(super) cause: u8,
}

/// What operations are told apart by: module, class and name.
#[derive(Debug, Clone)]
pub(super) struct Role {
    /// Module; `None` where no range tells.
    pub(super) module: Option<String>,
    /// Class.
    pub(super) class: &'static str,
    /// Name without tiles and numbers.
    pub(super) normal: String,
    /// Name of the variant that took most time.
    pub(super) shown: String,
    /// True for a record of a whole graph: what ran inside is not known.
    pub(super) hidden: bool,
}

/// One trace.
pub(super) struct Profile<'a> {
    pub(super) label: &'a str,
    pub(super) timeline: &'a Timeline,
    pub(super) phases: Vec<PhaseOf>,
    pub(super) units: Vec<Unit>,
    pub(super) pieces: Vec<Piece>,
    pub(super) idle: Vec<IdlePiece>,
    pub(super) roles: Vec<Role>,
    pub(super) coverage: Coverage,
    /// Devices with work.
    pub(super) devices: u64,
    /// Layer of each kernel, `u16::MAX` where none is known; empty if no range names layers.
    layers: Vec<u16>,
}

/// A stretch of a device's time, in one unit.
#[derive(Debug, Clone, Copy)]
struct Segment {
    start_ns: i64,
    end_ns: i64,
    unit: u32,
}

impl<'a> Profile<'a> {
    /// Takes a trace apart; `None` without device work.
    pub(super) fn of(side: &TraceSide<'a>, settings: &TraceSettings<'_>) -> Result<Option<Self>, PatternError> {
        let timeline = side.timeline;
        if timeline.op_count() == 0 {
            return Ok(None);
        }
        let coverage = coverage(timeline);
        let projection = project(timeline);
        let steps = steps(timeline, &projection, settings.patterns)?;
        let modules = modules(timeline, &projection);
        let mut profile = Self {
            label: side.label,
            timeline,
            phases: Vec::new(),
            units: Vec::new(),
            pieces: Vec::with_capacity(timeline.op_count() + timeline.op_count() / 64),
            idle: Vec::new(),
            roles: Vec::new(),
            coverage,
            devices: 0,
            layers: Vec::new(),
        };
        let phase_of = profile.name_phases(&steps);
        let layers = layers(timeline, &projection, &modules);
        let mut roles = Roles::new(timeline, settings, &modules, &projection, &layers);
        let mut rules = Rules::new(timeline);
        let by_device = ops_by_device(timeline);
        for ops in by_device.iter().filter(|ops| !ops.is_empty()) {
            profile.devices += 1;
            let segments = profile.cut(&steps, &phase_of, ops);
            let latency_ns = survey(timeline, &rules, ops).0;
            profile.sweep(ops, &segments, &mut roles, &mut rules, latency_ns);
        }
        profile.count_units();
        profile.roles = roles.finish();
        profile.layers = layers;
        Ok(Some(profile))
    }

    /// Phases that have steps, then `between_steps` and `outside`; row of each phase of `steps`.
    fn name_phases(&mut self, steps: &Steps) -> Vec<Option<u16>> {
        let mut phase_of = vec![None; steps.phases.len()];
        for step in &steps.columns.steps {
            let row = &mut phase_of[usize::from(step.phase)];
            if row.is_none() {
                *row = Some(self.phases.len() as u16);
                let name = steps.phases[usize::from(step.phase)].name.clone();
                self.phases.push(PhaseOf { name, kind: PhaseKind::Steps, units: 0 });
            }
        }
        if self.phases.is_empty() {
            self.phases.push(PhaseOf { name: "trace".to_owned(), kind: PhaseKind::Whole, units: 0 });
        } else {
            self.phases.push(PhaseOf { name: "between_steps".to_owned(), kind: PhaseKind::Between, units: 0 });
            self.phases.push(PhaseOf { name: "outside".to_owned(), kind: PhaseKind::Whole, units: 0 });
        }
        phase_of
    }

    /// Whether any step was found.
    pub(super) fn has_steps(&self) -> bool {
        self.phases.len() > 1
    }

    fn new_unit(&mut self, phase: u16) -> u32 {
        self.units.push(Unit { phase, first: u32::MAX, ..Unit::default() });
        (self.units.len() - 1) as u32
    }

    /// Cuts the time of the device with these operations into units.
    fn cut(&mut self, steps: &Steps, phase_of: &[Option<u16>], ops: &[OpRef]) -> Vec<Segment> {
        let timeline = self.timeline;
        let mut begin = timeline.op_start_ns(ops[0]);
        let mut end = ops.iter().map(|op| timeline.op_end_ns(*op)).max().unwrap_or(begin);
        let mut works = vec![false; timeline.processes.len().max(1)];
        for op in ops {
            if let Some(works) = works.get_mut(timeline.streams[timeline.op_stream(*op)].process as usize) {
                *works = true;
            }
        }
        let outside = (self.phases.len() - 1) as u16;
        if !self.has_steps() {
            let unit = self.new_unit(outside);
            return vec![Segment { start_ns: begin, end_ns: end, unit }];
        }
        // Steps of the processes that work on this device.
        let mine: Vec<(i64, i64, u16)> = steps
            .columns
            .steps
            .iter()
            .zip(&steps.columns.step_process)
            .filter(|(step, process)| {
                works.get(**process as usize).copied().unwrap_or(false) && step.end_ns >= step.start_ns
            })
            .filter_map(|(step, _)| Some((step.start_ns, step.end_ns, phase_of[usize::from(step.phase)]?)))
            .collect();
        let edge = self.new_unit(outside);
        let between = self.new_unit(outside - 1);
        let first_step = mine.iter().map(|(start, ..)| *start).min();
        let last_step = mine.iter().map(|(_, end, _)| *end).max();
        begin = first_step.map_or(begin, |step| step.min(begin));
        end = last_step.map_or(end, |step| step.max(end));

        let mut segments: Vec<Segment> = Vec::with_capacity(mine.len() + 2);
        let mut open: Vec<(i64, u32)> = Vec::new();
        let mut cursor = begin;
        let mut advance = |upto: i64, open: &mut Vec<(i64, u32)>, idle_unit: u32| {
            while cursor < upto {
                let (until, unit) = match open.last() {
                    Some((step_end, _)) if *step_end <= cursor => {
                        open.pop();
                        continue;
                    }
                    Some((step_end, unit)) => ((*step_end).min(upto), *unit),
                    None => (upto, idle_unit),
                };
                segments.push(Segment { start_ns: cursor, end_ns: until, unit });
                cursor = until;
            }
        };
        for (row, (start, step_end, phase)) in mine.iter().enumerate() {
            advance(*start, &mut open, if row == 0 { edge } else { between });
            open.push((*step_end, self.new_unit(*phase)));
        }
        advance(last_step.unwrap_or(begin), &mut open, between);
        advance(end, &mut open, edge);
        if segments.is_empty() {
            segments.push(Segment { start_ns: begin, end_ns: end, unit: edge });
        }
        for segment in &segments {
            self.units[segment.unit as usize].wall_ns += length_ns(segment.start_ns, segment.end_ns);
        }
        segments
    }

    /// Puts every operation and every gap of one device into its units.
    fn sweep(
        &mut self,
        ops: &[OpRef],
        segments: &[Segment],
        roles: &mut Roles<'_>,
        rules: &mut Rules<'_>,
        latency_ns: u64,
    ) {
        let timeline = self.timeline;
        let (Some(head), Some(tail)) = (segments.first(), segments.last()) else { return };
        if !self.has_steps() {
            self.units[head.unit as usize].wall_ns = length_ns(head.start_ns, tail.end_ns);
        }
        let mut before_on_stream: Vec<Option<OpRef>> = vec![None; timeline.streams.len()];
        let mut frontier: Option<(i64, OpRef)> = None;
        // Rows of the segments that hold the begin of the operation, and of the gap.
        let (mut at, mut gap_at) = (0_usize, 0_usize);
        for op in ops {
            let (start, end) = (timeline.op_start_ns(*op), timeline.op_end_ns(*op));
            let (idle_from, cause) = match frontier {
                None => (head.start_ns, IdleCause::BeforeWork as usize),
                Some((from, previous)) if start > from => {
                    let interval = Interval::new(from, start);
                    if interval.len_ns() < SHORT_GAP_NS {
                        (from, SHORT_GAPS)
                    } else {
                        let before_on_stream = before_on_stream[timeline.op_stream(*op)];
                        let gap = Gap { interval, previous, next: *op, before_on_stream };
                        (from, rules.judge(gap, latency_ns).cause as usize)
                    }
                }
                Some((from, _)) => (from, SHORT_GAPS),
            };
            self.add_idle(segments, &mut gap_at, Interval::new(idle_from, start), cause);

            while at + 1 < segments.len() && segments[at].end_ns <= start {
                at += 1;
            }
            let busy_from = frontier.map_or(start, |(from, _)| from.max(start));
            let role = roles.of(*op);
            let mut nth = roles.count(role, segments[at].unit);
            roles.add_time(length_ns(start, end));
            let mut row = at;
            loop {
                let segment = segments[row];
                // The last one takes what is beyond the end, which cannot be.
                let upto = if row + 1 < segments.len() { end.min(segment.end_ns) } else { end };
                let unit = &mut self.units[segment.unit as usize];
                let from = start.max(segment.start_ns);
                unit.busy_ns += length_ns(from.max(busy_from), upto);
                unit.calls += u32::from(nth & CONTINUED == 0);
                unit.first = unit.first.min(self.pieces.len() as u32);
                unit.last = self.pieces.len() as u32 + 1;
                self.pieces.push(Piece { ns: length_ns(from, upto), unit: segment.unit, role, nth, op: *op });
                nth |= CONTINUED;
                row += 1;
                if row >= segments.len() || segments[row].start_ns >= end {
                    break;
                }
            }
            before_on_stream[timeline.op_stream(*op)] = Some(*op);
            if frontier.is_none_or(|(latest, _)| end > latest) {
                frontier = Some((end, *op));
            }
        }
        if let Some((end, _)) = frontier {
            self.add_idle(segments, &mut gap_at, Interval::new(end, tail.end_ns), IdleCause::AfterWork as usize);
        }
    }

    fn add_idle(&mut self, segments: &[Segment], at: &mut usize, gap: Interval, cause: usize) {
        if gap.is_empty() {
            return;
        }
        let cause = if gap.len_ns() < SHORT_GAP_NS { SHORT_GAPS } else { cause };
        while *at + 1 < segments.len() && segments[*at].end_ns <= gap.start_ns {
            *at += 1;
        }
        for segment in &segments[*at..] {
            if segment.start_ns >= gap.end_ns {
                break;
            }
            let ns = length_ns(segment.start_ns.max(gap.start_ns), segment.end_ns.min(gap.end_ns));
            if ns > 0 {
                self.idle.push(IdlePiece { ns, unit: segment.unit, cause: cause as u8 });
            }
        }
    }

    fn count_units(&mut self) {
        let mut steps = 0;
        for unit in &self.units {
            let phase = &mut self.phases[usize::from(unit.phase)];
            if phase.kind == PhaseKind::Steps {
                phase.units += 1;
                steps += 1;
            }
        }
        let devices = self.devices;
        for phase in &mut self.phases {
            match phase.kind {
                PhaseKind::Steps => {}
                PhaseKind::Between => phase.units = steps,
                PhaseKind::Whole => phase.units = devices,
            }
        }
    }

    /// Gives all steps the phase `step`.
    pub(super) fn merge_phases(&mut self) {
        let steps: u64 =
            self.phases.iter().filter(|phase| phase.kind == PhaseKind::Steps).map(|phase| phase.units).sum();
        let is_step: Vec<bool> = self.phases.iter().map(|phase| phase.kind == PhaseKind::Steps).collect();
        let dropped = is_step.iter().filter(|is_step| **is_step).count() as u16;
        for unit in &mut self.units {
            unit.phase = if is_step[usize::from(unit.phase)] { 0 } else { unit.phase + 1 - dropped };
        }
        self.phases.retain(|phase| phase.kind != PhaseKind::Steps);
        self.phases.insert(0, PhaseOf { name: "step".to_owned(), kind: PhaseKind::Steps, units: steps });
    }

    /// Forgets the steps: everything is one unit of each device.
    pub(super) fn forget_steps(&mut self) {
        for unit in &mut self.units {
            unit.phase = 0;
        }
        self.phases = vec![PhaseOf { name: "trace".to_owned(), kind: PhaseKind::Whole, units: self.devices }];
    }

    /// The unit of `phase` whose number of calls is the most frequent one, the middle one of these; `None` without any.
    pub(super) fn representative(&self, phase: usize) -> Option<u32> {
        let mine =
            || self.units.iter().enumerate().filter(|(_, unit)| usize::from(unit.phase) == phase && unit.calls > 0);
        let mut often: FxHashMap<u32, u32> = FxHashMap::default();
        for (_, unit) in mine() {
            *often.entry(unit.calls).or_insert(0) += 1;
        }
        let (calls, count) = often.into_iter().max_by_key(|(calls, count)| (*count, *calls))?;
        mine().filter(|(_, unit)| unit.calls == calls).nth(count as usize / 2).map(|(row, _)| row as u32)
    }

    /// The calls of a unit, in order of begin.
    pub(super) fn calls_of(&self, unit: u32) -> impl Iterator<Item = &Piece> {
        let of = self.units[unit as usize];
        let range = if of.first == u32::MAX { 0..0 } else { of.first as usize..of.last as usize };
        self.pieces[range].iter().filter(move |piece| piece.unit == unit && piece.is_call())
    }

    /// Whether ranges name layers.
    pub(super) fn has_layers(&self) -> bool {
        !self.layers.is_empty()
    }

    /// Layer of an operation.
    pub(super) fn layer(&self, op: OpRef) -> Option<u32> {
        if op.kind() != OpKind::Kernel {
            return None;
        }
        self.layers.get(op.row()).copied().filter(|layer| *layer != u16::MAX).map(u32::from)
    }

    /// Grid of a kernel, or bytes of a copy; 0 where unknown.
    pub(super) fn shape(&self, op: OpRef) -> u64 {
        let timeline = self.timeline;
        match op.kind() {
            OpKind::Kernel => {
                let config = timeline.launch_configs.get(timeline.kernels.config[op.row()] as usize);
                let [x, y, z] = config.map_or([0; 3], |config| config.grid);
                u64::from(x) << 32 | u64::from(y.min(0xffff)) << 16 | u64::from(z.min(0xffff))
            }
            OpKind::Copy | OpKind::Memset | OpKind::Graph => 0,
        }
    }
}

/// `64×8×1` of [`Profile::shape`].
pub(super) fn grid_words(shape: u64) -> String {
    format!("{}×{}×{}", shape >> 32, shape >> 16 & 0xffff, shape & 0xffff)
}

fn layers(timeline: &Timeline, projection: &Projection, modules: &Modules) -> Vec<u16> {
    if modules.path_layer.iter().all(|layer| *layer == NO_ROW) {
        return Vec::new();
    }
    (0..timeline.kernels.len())
        .map(|row| {
            let layer = modules.layer_of_kernel(timeline, projection, row);
            layer.and_then(|layer| u16::try_from(layer).ok()).unwrap_or(u16::MAX)
        })
        .collect()
}

/// A kernel name within a module.
struct Variant {
    role: u32,
    ns: u64,
    /// Row of `kernel_names`, or an operation to take the name of.
    shown: Result<u32, OpRef>,
}

/// Gives operations their roles.
#[expect(clippy::struct_field_names, reason = "roles by role, rules by rule")]
struct Roles<'a> {
    timeline: &'a Timeline,
    modules: &'a Modules,
    projection: &'a Projection,
    layers: &'a [u16],
    class: Vec<&'static str>,
    display: Vec<Option<String>>,
    /// By kernel name: row of its normal name.
    normal: Vec<u32>,
    normals: Vec<String>,
    variants: Vec<Variant>,
    by_variant: FxHashMap<(u32, u32), u32>,
    by_role: FxHashMap<(u32, &'static str, u32), u32>,
    roles: Vec<Role>,
    /// By role: unit it was last met in, and how often.
    met: Vec<(u32, u32)>,
    current: u32,
}

const COPY: u32 = u32::MAX - 1;

impl<'a> Roles<'a> {
    fn new(
        timeline: &'a Timeline,
        settings: &TraceSettings<'_>,
        modules: &'a Modules,
        projection: &'a Projection,
        layers: &'a [u16],
    ) -> Self {
        let classified = classify_names(timeline, settings.classifier);
        let mut known: FxHashMap<String, u32> = FxHashMap::default();
        let mut normals = Vec::new();
        let normal = timeline
            .kernel_names
            .iter()
            .map(|name| {
                *known.entry(normal_name(timeline.text(name.demangled))).or_insert_with_key(|text| {
                    normals.push(text.clone());
                    (normals.len() - 1) as u32
                })
            })
            .collect();
        Self {
            timeline,
            modules,
            projection,
            layers,
            class: classified.iter().map(|name| name.class.name()).collect(),
            display: classified.into_iter().map(|name| name.display_name).collect(),
            normal,
            normals,
            variants: Vec::new(),
            by_variant: FxHashMap::default(),
            by_role: FxHashMap::default(),
            roles: Vec::new(),
            met: Vec::new(),
            current: 0,
        }
    }

    /// Role of an operation.
    fn of(&mut self, op: OpRef) -> u32 {
        let row = op.row();
        let (module, name) = match op.kind() {
            OpKind::Kernel => {
                let module = self.modules.module_of_kernel(self.timeline, self.projection, row);
                let in_layer = self.layers.get(row).is_some_and(|layer| *layer != u16::MAX);
                // The same words inside and outside of layers are two modules.
                let module = module.map_or(NO_ROW, |module| (module as u32) << 1 | u32::from(in_layer));
                (module, self.timeline.kernels.name[row])
            }
            OpKind::Copy => (COPY, u32::from(self.timeline.copies.kind[row].0)),
            OpKind::Memset => (COPY, 1 << 8),
            OpKind::Graph => (COPY, 1 << 9),
        };
        if let Some(variant) = self.by_variant.get(&(module, name)) {
            self.current = *variant;
            return self.variants[*variant as usize].role;
        }
        let role = self.new_role(op, module, name);
        self.current = self.variants.len() as u32;
        let shown = if module == COPY { Err(op) } else { Ok(name) };
        self.variants.push(Variant { role, ns: 0, shown });
        self.by_variant.insert((module, name), self.current);
        role
    }

    fn new_role(&mut self, op: OpRef, module: u32, name: u32) -> u32 {
        let (class, normal, text, hidden) = match op.kind() {
            OpKind::Kernel => {
                let class = self.class.get(name as usize).copied().unwrap_or(KernelClass::Unclassified.name());
                let normal = self.normal[name as usize];
                (class, normal, self.normals[normal as usize].clone(), false)
            }
            OpKind::Copy => (KernelClass::Memcpy.name(), name, op_name(self.timeline, op), false),
            OpKind::Memset => (KernelClass::Memset.name(), name, "[memset]".to_owned(), false),
            OpKind::Graph => (GRAPH, name, "[whole graph]".to_owned(), true),
        };
        *self.by_role.entry((module, class, normal)).or_insert_with(|| {
            let module = (module < COPY).then(|| {
                let name = &self.modules.names[(module >> 1) as usize];
                match (module & 1 == 1, name.as_str()) {
                    (true, "(layer)") => "layers.*".to_owned(),
                    (true, name) => format!("layers.*.{name}"),
                    (false, name) => name.to_owned(),
                }
            });
            self.roles.push(Role { module, class, shown: text.clone(), normal: text, hidden });
            self.met.push((u32::MAX, 0));
            (self.roles.len() - 1) as u32
        })
    }

    /// Which call of its role in `unit` this one is.
    fn count(&mut self, role: u32, unit: u32) -> u32 {
        let (last, count) = &mut self.met[role as usize];
        if *last != unit {
            (*last, *count) = (unit, 0);
        }
        *count += 1;
        (*count - 1) & !CONTINUED
    }

    /// Adds time to the variant asked for last.
    fn add_time(&mut self, ns: u64) {
        let sum = &mut self.variants[self.current as usize].ns;
        *sum = sum.saturating_add(ns);
    }

    /// The roles, with the name of their longest variant.
    fn finish(mut self) -> Vec<Role> {
        let mut longest: Vec<Option<&Variant>> = vec![None; self.roles.len()];
        for variant in &self.variants {
            let best = &mut longest[variant.role as usize];
            if best.is_none_or(|best| variant.ns > best.ns) {
                *best = Some(variant);
            }
        }
        for (role, variant) in self.roles.iter_mut().zip(longest) {
            if let Some(Variant { shown: Ok(name), .. }) = variant {
                let row = *name as usize;
                let given = self.display.get(row).cloned().flatten();
                role.shown =
                    given.unwrap_or_else(|| shorten(self.timeline.text(self.timeline.kernel_names[row].demangled)));
            }
        }
        self.roles
    }
}
