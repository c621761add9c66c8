//! Two traces: kernels, copies, graphs, idle time and overlap of each phase.

use super::amounts::{Amount, PhaseAmounts, amounts};
use super::layers::stand_out;
use super::matching::{Common, How, Matching, Row, matching};
use super::noise::welch;
use super::parts::{Part, by_size, finish_phase};
use super::profile::{CAUSES, PhaseKind, Profile, SHORT_GAPS, grid_words};
use super::sentences::{KERNELS_LOST, Units, sentences};
use super::{TraceSettings, TraceSide};
use crate::analysis::coverage::GraphState;
use crate::analysis::idle::IdleCause;
use crate::analysis::steps::PatternError;
use crate::compare::result::{Attribution, AttributionRow, ChangeKind, PhaseChange};
use crate::diagnostics::{Diagnostic, Severity};

/// A trace that has less than this share of the kernels it launched explains nothing.
const LEAST_COVERAGE: f64 = 0.99;

/// Where the difference between two traces comes from: one attribution, over all devices.
///
/// Times are means over the steps of a phase (`prefill`, `decode`, …), each step counted once for each device that took part, so that the
/// parts add up to the time on the clock also where devices work side by side. Time between steps is divided by the number of steps; time before the first
/// and after the last step (`outside`), and a trace without steps (`trace`), are not divided but averaged over devices.
///
/// In every phase: `Σ rows = wall time` on each side, where the rows are operations, idle time by cause and (as a negative amount) overlap. Where the idle time
/// of a trace cannot be relied on, `Σ rows = busy time` instead, and a diagnostic says so.
///
/// # Errors
/// If a phase pattern is no regular expression.
pub fn attribute_traces(
    baseline: &TraceSide<'_>,
    candidate: &TraceSide<'_>,
    settings: &TraceSettings<'_>,
) -> Result<Vec<Attribution>, PatternError> {
    let sides = [Profile::of(baseline, settings)?, Profile::of(candidate, settings)?];
    let [Some(a), Some(b)] = sides else {
        let missing: Vec<&str> =
            [baseline, candidate].iter().filter(|side| side.timeline.op_count() == 0).map(|side| side.label).collect();
        let text = format!("there is no GPU work in {}: nothing to compare", missing.join(" and "));
        return Ok(vec![Attribution {
            baseline_label: baseline.label.to_owned(),
            candidate_label: candidate.label.to_owned(),
            case: None,
            per: "whole trace".to_owned(),
            phases: Vec::new(),
            rows: Vec::new(),
            rows_omitted: 0,
            accounted_share: None,
            sentences: Vec::new(),
            diagnostics: vec![Diagnostic::new("no_gpu_work", Severity::Error, text)],
        }]);
    };
    Ok(vec![compare([a, b], settings.max_rows)])
}

fn compare(mut sides: [Profile<'_>; 2], max_rows: usize) -> Attribution {
    let mut diagnostics = Vec::new();
    same_phases(&mut sides, &mut diagnostics);
    let sides = [&sides[0], &sides[1]];
    let with_idle = sides.iter().all(|side| side.coverage.trust.idle_shares);
    doubts(sides, &mut diagnostics);

    let phases = phase_pairs(sides);
    let common = Common::of(sides.map(|side| side.roles.as_slice()));
    let calls = sides.map(calls_by_phase);
    let mut matchings: Vec<Matching> = phases
        .iter()
        .map(|pair| {
            let none = [0, 1].map(|side| vec![0_u64; sides[side].roles.len()]);
            let of = |side: usize| pair[side].map_or(none[side].as_slice(), |phase| calls[side][phase].as_slice());
            matching(sides, &common, *pair, [of(0), of(1)])
        })
        .collect();
    // Every phase of a side stands in exactly one pair.
    let matching_of = [0, 1].map(|side| {
        let number = |phase: usize| phases.iter().position(|pair| pair[side] == Some(phase)).unwrap_or(0);
        (0..sides[side].phases.len()).map(number).collect::<Vec<usize>>()
    });
    let sums = |matchings: &[Matching]| {
        [0, 1].map(|side| {
            let own: Vec<&Matching> = matching_of[side].iter().map(|number| &matchings[*number]).collect();
            amounts(sides[side], side, &own)
        })
    };
    let mut by_side = sums(&matchings);
    let splits = stand_out(sides, &matchings, &matching_of, &by_side);
    if !splits.is_empty() {
        for (number, row, layer) in splits {
            matchings[number].part(row, layer);
        }
        by_side = sums(&matchings);
    }

    let mut rows = Vec::new();
    let mut changes = Vec::new();
    let mut rows_omitted = 0;
    let mut explained = [Explained::default(), Explained::default()];
    for (pair, matching) in phases.iter().zip(&matchings) {
        let name = [0, 1].iter().find_map(|side| Some(sides[*side].phases[pair[*side]?].name.clone()));
        let Some(name) = name else { continue };
        let of = [0, 1].map(|side| match pair[side] {
            Some(phase) => by_side[side][phase].clone(),
            None => PhaseAmounts::empty(matching.rows.len()),
        });
        if !matching.aligned {
            let text = format!(
                "the steps of {name} are too long to align: kernels were matched by name and module, not by place"
            );
            diagnostics.push(Diagnostic::new("steps_not_aligned", Severity::Info, text));
        }
        let change = phase_change(&name, &of, with_idle);
        if !of[0].vary && !of[1].vary && of.iter().all(|side| side.wall.ns() == 0) {
            continue;
        }
        missing_phase(sides, &change, &mut diagnostics);
        let mut own = phase_rows(sides, &name, matching, &of, with_idle);
        rows_omitted += finish_phase(&mut own, &name, max_rows);
        rows.append(&mut own);
        changes.push(change);
        for side in [0, 1] {
            explained[side].add(&of[side], with_idle);
        }
    }
    rows.sort_by(by_size);
    let larger = usize::from(explained[1].total_ns > explained[0].total_ns);
    let per = if sides[0].has_steps() { "step of its phase" } else { "whole trace" };
    let lost = diagnostics.iter().any(|diagnostic| diagnostic.code == KERNELS_LOST);
    let mut attribution = Attribution {
        baseline_label: sides[0].label.to_owned(),
        candidate_label: sides[1].label.to_owned(),
        case: None,
        per: per.to_owned(),
        phases: changes,
        rows,
        rows_omitted,
        accounted_share: explained[larger].share().filter(|_| !lost),
        sentences: Vec::new(),
        diagnostics,
    };
    if attribution.phases.iter().any(|phase| phase.delta_ci95_ns.is_some()) {
        let text = "intervals are of how steps vary within each trace, taken as independent; how one run differs from the next is not in them";
        attribution.diagnostics.push(Diagnostic::new("noise_within_traces", Severity::Info, text));
    }
    attribution.sentences = sentences(&attribution, Units::OneProcess);
    attribution
}

/// Time of one side and how much of it has a name.
#[derive(Debug, Default)]
struct Explained {
    total_ns: u64,
    unknown_ns: u64,
}

impl Explained {
    fn add(&mut self, phase: &PhaseAmounts, with_idle: bool) {
        let total = if with_idle { phase.wall } else { phase.busy };
        self.total_ns = self.total_ns.saturating_add(total.ns());
        self.unknown_ns = self.unknown_ns.saturating_add(phase.hidden_ns);
        if with_idle {
            self.unknown_ns = self.unknown_ns.saturating_add(phase.idle[IdleCause::Unknown as usize].ns());
        }
    }
    fn share(&self) -> Option<f64> {
        (self.total_ns > 0).then(|| 1.0 - self.unknown_ns.min(self.total_ns) as f64 / self.total_ns as f64)
    }
}

/// Brings the phases of both sides to common names.
fn same_phases(sides: &mut [Profile<'_>; 2], diagnostics: &mut Vec<Diagnostic>) {
    if sides[0].has_steps() != sides[1].has_steps() {
        let without = if sides[0].has_steps() { sides[1].label } else { sides[0].label };
        let text = format!(
            "no steps were found in {without}: whole traces are compared, which differ if they hold more or fewer steps"
        );
        diagnostics.push(Diagnostic::new("steps_on_one_side", Severity::Warn, text));
        sides.iter_mut().for_each(Profile::forget_steps);
        return;
    }
    let names = [0, 1].map(|side| {
        let steps = sides[side].phases.iter().filter(|phase| phase.kind == PhaseKind::Steps);
        steps.map(|phase| phase.name.clone()).collect::<Vec<_>>()
    });
    if sides[0].has_steps() && !names[0].iter().any(|name| names[1].contains(name)) {
        let text = format!(
            "the steps of {} are of {}, those of {} of {}: all steps are compared together, which differ if their mix does",
            sides[0].label,
            names[0].join(", "),
            sides[1].label,
            names[1].join(", "),
        );
        diagnostics.push(Diagnostic::new("phases_differ", Severity::Warn, text));
        sides.iter_mut().for_each(Profile::merge_phases);
    }
}

/// Rows of the phases on both sides by name: steps first, as they come in the baseline, then the rest.
fn phase_pairs(sides: [&Profile<'_>; 2]) -> Vec<[Option<usize>; 2]> {
    let find = |side: usize, name: &str| sides[side].phases.iter().position(|phase| phase.name == name);
    let mut pairs = Vec::new();
    for steps in [true, false] {
        for side in [0, 1] {
            for (row, phase) in sides[side].phases.iter().enumerate() {
                let other = find(1 - side, &phase.name);
                if (phase.kind == PhaseKind::Steps) == steps && (side == 0 || other.is_none()) {
                    let mut pair = [None, None];
                    (pair[side], pair[1 - side]) = (Some(row), other);
                    pairs.push(pair);
                }
            }
        }
    }
    pairs
}

/// By phase and role: calls.
fn calls_by_phase(profile: &Profile<'_>) -> Vec<Vec<u64>> {
    let mut calls = vec![vec![0_u64; profile.roles.len()]; profile.phases.len()];
    for piece in &profile.pieces {
        // Pieces without a call count too: their role must have a row.
        calls[usize::from(profile.units[piece.unit as usize].phase)][piece.role as usize] += 1;
    }
    calls
}

fn missing_phase(sides: [&Profile<'_>; 2], change: &PhaseChange, diagnostics: &mut Vec<Diagnostic>) {
    for side in [0, 1] {
        if change.units[side] == 0 && change.units[1 - side] > 0 {
            let text = format!(
                "{} has no {}: its parts stand as new or gone and say nothing about speed",
                sides[side].label, change.phase
            );
            diagnostics.push(Diagnostic::new("phase_on_one_side", Severity::Warn, text));
        }
    }
}

/// What the traces cannot tell.
fn doubts(sides: [&Profile<'_>; 2], diagnostics: &mut Vec<Diagnostic>) {
    for side in sides {
        if !side.coverage.trust.idle_shares {
            let why = side.coverage.trust.reasons.first().map_or("", String::as_str);
            let text = format!(
                "idle time of {} cannot be relied on ({why}): only the time in which devices were busy is attributed",
                side.label
            );
            diagnostics.push(Diagnostic::new("idle_refused", Severity::Warn, text));
        }
        if let Some(kept) = side.coverage.launches.kernel_coverage.filter(|kept| *kept < LEAST_COVERAGE) {
            let text = format!(
                "{:.1} % of the kernels that {} launched are not in its trace: what stands as new or gone may only be missing, so no cause is named",
                (1.0 - kept) * 100.0,
                side.label
            );
            diagnostics.push(Diagnostic::new(KERNELS_LOST, Severity::DataLoss, text));
        }
        let records = side.coverage.graphs.whole_graph_records;
        if side.coverage.graphs.state == GraphState::Hidden || records > 0 {
            let text = format!(
                "{} has {records} records of whole graphs: which kernels ran inside, and how long the device idled between them, cannot be told. Trace with `nsys profile --cuda-graph-trace=node` to compare kernels",
                side.label
            );
            diagnostics.push(Diagnostic::new("graph_hides_kernels", Severity::Warn, text));
        }
    }
    if sides[0].devices != sides[1].devices || sides[0].devices > 1 {
        let text = format!(
            "times are means over the devices at work: {} in {}, {} in {}",
            sides[0].devices, sides[0].label, sides[1].devices, sides[1].label
        );
        diagnostics.push(Diagnostic::new("mean_over_devices", Severity::Info, text));
    }
}

/// `ns` per unit.
fn per(ns: u64, units: u64) -> f64 {
    if units == 0 { 0.0 } else { ns as f64 / units as f64 }
}

fn interval(amounts: [&Amount; 2], of: &[PhaseAmounts; 2]) -> Option<[f64; 2]> {
    if !(of[0].vary && of[1].vary) {
        return None;
    }
    welch((amounts[0].moments, of[0].units), (amounts[1].moments, of[1].units))
}

fn phase_change(name: &str, of: &[PhaseAmounts; 2], with_idle: bool) -> PhaseChange {
    let total = [0, 1].map(|side| if with_idle { &of[side].wall } else { &of[side].busy });
    let [baseline_ns, candidate_ns] = [0, 1].map(|side| per(total[side].ns(), of[side].units));
    PhaseChange {
        phase: name.to_owned(),
        units: [of[0].units, of[1].units],
        baseline_ns,
        candidate_ns,
        delta_ns: candidate_ns - baseline_ns,
        delta_ci95_ns: interval(total, of),
    }
}

fn phase_rows(
    sides: [&Profile<'_>; 2],
    phase: &str,
    matching: &Matching,
    of: &[PhaseAmounts; 2],
    with_idle: bool,
) -> Vec<AttributionRow> {
    let mut rows = Vec::new();
    let part = |amounts: [&Amount; 2]| Part {
        ns: [0, 1].map(|side| per(amounts[side].ns(), of[side].units)),
        calls: [0, 1].map(|side| per(amounts[side].calls, of[side].units)),
        interval: interval(amounts, of),
        ..Part::default()
    };
    for (number, row) in matching.rows.iter().enumerate() {
        let amounts = [0, 1].map(|side| &of[side].rows[number]);
        let has = amounts.map(|amount| amount.calls > 0 || amount.ns() > 0);
        let change = match has {
            [false, false] => continue,
            [true, false] => ChangeKind::Gone,
            [false, true] => ChangeKind::New,
            [true, true] => ChangeKind::Changed,
        };
        let words = Words::of(sides, matching, row);
        let mut matched_by = match change {
            ChangeKind::Gone => "only in the baseline",
            ChangeKind::New => "only in the candidate",
            _ => words.matched_by,
        }
        .to_owned();
        if let Some(layer) = matching.without(number) {
            matched_by.push_str(&format!(", without layer {layer}"));
        }
        let [before, after] = words.names;
        let names = [before.filter(|_| has[0]), after.filter(|_| has[1])];
        rows.push(
            Part { layer: row.layer, module: words.module, class: words.class, names, matched_by, ..part(amounts) }
                .row(phase, change),
        );
    }
    if with_idle {
        for cause in 0..CAUSES {
            let amounts = [0, 1].map(|side| &of[side].idle[cause]);
            if amounts.iter().any(|amount| amount.ns() > 0) {
                let class = if cause == SHORT_GAPS { "below_1us" } else { IdleCause::ALL[cause].name() };
                let matched_by = "same cause of idle time".to_owned();
                rows.push(Part { class: class.to_owned(), matched_by, ..part(amounts) }.row(phase, ChangeKind::Idle));
            }
        }
    }
    let overlap = [0, 1].map(|side| &of[side].overlap);
    if overlap.iter().any(|amount| amount.ns() > 0) {
        let mut part = Part {
            class: "overlap".to_owned(),
            matched_by: "work that ran beside other work".to_owned(),
            ..part(overlap)
        };
        part.ns = part.ns.map(|ns| 0.0 - ns);
        part.interval = part.interval.map(|[low, high]| [0.0 - high, 0.0 - low]);
        rows.push(part.row(phase, ChangeKind::Overlap));
    }
    rows
}

/// What a row is called.
struct Words {
    module: Option<String>,
    class: String,
    names: [Option<String>; 2],
    matched_by: &'static str,
}

impl Words {
    fn of(sides: [&Profile<'_>; 2], matching: &Matching, row: &Row) -> Self {
        let roles = |side: usize| row.halves[side].iter().map(move |(role, _)| &sides[side].roles[*role as usize]);
        let joined = |parts: Vec<&str>| {
            let mut seen: Vec<&str> = Vec::new();
            for part in parts {
                if !seen.contains(&part) {
                    seen.push(part);
                }
            }
            (!seen.is_empty()).then(|| seen.join(" + "))
        };
        let module_of = |side: usize| joined(roles(side).filter_map(|role| role.module.as_deref()).collect());
        let modules = [module_of(0), module_of(1)];
        let first = [roles(0).next(), roles(1).next()];
        let mut names = [0, 1].map(|side| joined(roles(side).map(|role| role.shown.as_str()).collect()));
        let matched_by = match (row.how, first) {
            (How::Fused, _) => "one side runs as one what the other runs in parts",
            (how, [Some(a), Some(b)]) => {
                let same_module = a.module.is_some() && a.module == b.module;
                match (a.class == b.class && a.normal == b.normal, how) {
                    (true, _) if a.shown == b.shown => "same kernel",
                    (true, _) => "same kernel, other tile or template arguments",
                    (false, _) if same_module => "same module, other kernel",
                    (false, _) => "same place in the step, other kernel",
                }
            }
            _ => "",
        };
        for side in [0, 1] {
            if let (Some(name), [(_, shape)]) = (&mut names[side], row.halves[side].as_slice())
                && *shape != 0
                && Self::is_one_of_several(matching, row, side)
            {
                name.push_str(&format!(" [grid {}]", grid_words(*shape)));
            }
        }
        let module = match modules {
            [Some(before), Some(after)] if before != after => Some(format!("{before} → {after}")),
            [before, after] => after.or(before),
        };
        let module = match row.layer {
            Some(layer) => module.map(|module| module.replace("layers.*", &format!("layers.{layer}"))),
            None => module,
        };
        let class = first[1].or(first[0]).map_or("", |role| role.class).to_owned();
        Self { module, class, names, matched_by }
    }

    /// Whether other rows have the same role on `side`, so that the grid tells them apart.
    fn is_one_of_several(matching: &Matching, row: &Row, side: usize) -> bool {
        let role = row.halves[side].first().map(|(role, _)| *role);
        let same = |other: &&Row| other.layer.is_none() && other.halves[side].first().map(|(role, _)| *role) == role;
        matching.rows.iter().filter(same).count() > 1
    }
}
