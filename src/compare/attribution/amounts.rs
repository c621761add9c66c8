//! Adds up the time of every row over the units of a phase.

use super::matching::Matching;
use super::noise::Moments;
use super::profile::{CAUSES, PhaseKind, Profile};

/// Time of one part on one side.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Amount {
    pub(super) moments: Moments,
    /// Calls, or gaps.
    pub(super) calls: u64,
    /// Unit that is being added up, plus one.
    unit: u32,
    pending: u64,
}

impl Amount {
    fn add(&mut self, unit: u32, ns: u64, calls: u64) {
        if self.unit != unit + 1 {
            self.close();
            self.unit = unit + 1;
        }
        self.pending = self.pending.saturating_add(ns);
        self.calls += calls;
    }
    fn close(&mut self) {
        if self.pending > 0 {
            self.moments.add(self.pending);
            self.pending = 0;
        }
    }
    pub(super) fn ns(&self) -> u64 {
        self.moments.sum
    }
}

/// All parts of one phase on one side.
#[derive(Debug, Clone)]
pub(super) struct PhaseAmounts {
    /// By row of the matching.
    pub(super) rows: Vec<Amount>,
    pub(super) idle: [Amount; CAUSES],
    pub(super) overlap: Amount,
    pub(super) wall: Amount,
    pub(super) busy: Amount,
    /// Units that times are divided by; 0 where the side has no such phase.
    pub(super) units: u64,
    /// Whether they are steps, which vary.
    pub(super) vary: bool,
    /// Time in records of whole graphs.
    pub(super) hidden_ns: u64,
}

impl PhaseAmounts {
    /// Nothing.
    pub(super) fn empty(rows: usize) -> Self {
        Self {
            rows: vec![Amount::default(); rows],
            idle: [Amount::default(); CAUSES],
            overlap: Amount::default(),
            wall: Amount::default(),
            busy: Amount::default(),
            units: 0,
            vary: false,
            hidden_ns: 0,
        }
    }
}

/// The phases of `profile` in its own order; `matchings` has the matching of each of them. `side` is 0 for the baseline.
pub(super) fn amounts(profile: &Profile<'_>, side: usize, matchings: &[&Matching]) -> Vec<PhaseAmounts> {
    let mut phases: Vec<PhaseAmounts> = profile
        .phases
        .iter()
        .zip(matchings)
        .map(|(phase, matching)| PhaseAmounts {
            units: phase.units,
            vary: phase.kind == PhaseKind::Steps,
            ..PhaseAmounts::empty(matching.rows.len())
        })
        .collect();
    let mut summed = vec![0_u64; profile.units.len()];
    for piece in &profile.pieces {
        let phase = usize::from(profile.units[piece.unit as usize].phase);
        let row = matchings[phase].row(side, profile, *piece);
        let phase = &mut phases[phase];
        phase.rows[row].add(piece.unit, piece.ns, u64::from(piece.is_call()));
        if profile.roles[piece.role as usize].hidden {
            phase.hidden_ns = phase.hidden_ns.saturating_add(piece.ns);
        }
        let summed = &mut summed[piece.unit as usize];
        *summed = summed.saturating_add(piece.ns);
    }
    for gap in &profile.idle {
        let phase = usize::from(profile.units[gap.unit as usize].phase);
        phases[phase].idle[usize::from(gap.cause)].add(gap.unit, gap.ns, 1);
    }
    for (row, unit) in profile.units.iter().enumerate() {
        let phase = &mut phases[usize::from(unit.phase)];
        phase.wall.add(row as u32, unit.wall_ns, 1);
        phase.busy.add(row as u32, unit.busy_ns, 1);
        phase.overlap.add(row as u32, summed[row].saturating_sub(unit.busy_ns), 0);
    }
    for phase in &mut phases {
        phase.rows.iter_mut().chain(&mut phase.idle).for_each(Amount::close);
        [&mut phase.overlap, &mut phase.wall, &mut phase.busy].into_iter().for_each(Amount::close);
    }
    phases
}
