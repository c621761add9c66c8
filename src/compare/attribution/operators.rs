//! Two operator tables, of in-process runs or of analysed traces.

use std::collections::BTreeMap;

use super::families::{Family, family};
use super::noise::{LEAST_UNITS, interval};
use super::parts::{Part, by_size, finish_phase};
use super::sentences::{Units, sentences};
use crate::compare::result::{Attribution, AttributionRow, ChangeKind, PhaseChange};
use crate::compare::subject::{MeasureValues, OperatorTime, Subject, SubjectKind};
use crate::diagnostics::{Diagnostic, Severity};
use crate::stats::quantile::median;
use crate::stats::summary::{mean, standard_deviation};

/// Where the difference between two subjects comes from, by their operator tables: one attribution for each case that both have operators of.
///
/// Operators are matched by phase, module, class and name; layers are added up. Operators that one side runs fused (`q_proj + k_proj + v_proj` and
/// `qkv_proj`) are one row. Times are per repeat (per step for traces). The time of a phase is the median of its measured values (`prefill_ms`,
/// `decode_ms`, or `<phase>_step_ms`), and what the operators do not explain of it is its row `unattributed`; where a side has no
/// such measure, the time of the phase is the sum of its operators and a diagnostic says so.
///
/// The intervals of phases are approximate: the standard error of a median of normal values, √(π/2) · s/√n. Where a side has several processes,
/// the medians of the processes are its values and their mean is its time: repeats of one process share what makes it fast or slow. Where both
/// sides were measured in the same blocks, the interval is that of the differences within blocks (Student's t): what all variants of a block share cancels.
pub fn attribute_operators(baseline: &Subject, candidate: &Subject) -> Vec<Attribution> {
    let sides = [baseline, candidate];
    let cases = sides.map(|side| {
        let mut cases: Vec<Option<&str>> = side.operators.iter().map(|row| row.case.as_deref()).collect();
        cases.sort_unstable();
        cases.dedup();
        cases
    });
    match (cases[0].as_slice(), cases[1].as_slice()) {
        // The only case of each side is the same one under two names.
        ([a], [b]) => vec![of_case(sides, [*a, *b])],
        (a, b) => a.iter().filter(|case| b.contains(case)).map(|case| of_case(sides, [*case, *case])).collect(),
    }
}

fn of_case(sides: [&Subject; 2], cases: [Option<&str>; 2]) -> Attribution {
    let mut diagnostics = Vec::new();
    let groups = [0, 1].map(|side| groups(sides[side], cases[side], &mut diagnostics));
    let mut phases: Vec<&str> = Vec::new();
    for name in groups.iter().flatten().map(|group| group.phase) {
        if !phases.contains(&name) {
            phases.push(name);
        }
    }
    // Phases in the order of a request, others behind.
    phases.sort_by_key(|name| match *name {
        "prefill" => 0,
        "decode" => 1,
        _ => 2,
    });
    let mut rows = Vec::new();
    let mut changes = Vec::new();
    let mut several = false;
    let mut in_blocks = false;
    let mut totals = [0.0_f64; 2];
    let mut unexplained = [0.0_f64; 2];
    for phase in phases {
        let own = [0, 1].map(|side| groups[side].iter().filter(|group| group.phase == phase).collect::<Vec<_>>());
        let sums = own
            .each_ref()
            .map(|groups| crate::stats::summary::sum(&groups.iter().map(|group| group.ns).collect::<Vec<_>>()));
        let repeats = own.each_ref().map(|groups| groups.iter().map(|group| group.repeats).max().unwrap_or(0));
        let mut phase_rows: Vec<AttributionRow> = matched(&own).into_iter().map(|pair| pair.row(phase)).collect();
        let processes = [0, 1].map(|side| several_processes(sides[side], cases[side], phase)).contains(&true);
        several |= processes;
        let measured = [0, 1].map(|side| phase_time(sides[side], cases[side], phase, processes));
        let (times, units, interval) = if let [Some(a), Some(b)] = &measured
            && repeats[0] > 0
            && repeats[1] > 0
        {
            phase_rows.push(unattributed(phase, [a.ns - sums[0], b.ns - sums[1]]));
            negative_remainder(sides, phase, [a.ns, b.ns], sums, &mut diagnostics);
            let values = [0, 1].map(|side| phase_values(sides[side], cases[side], phase));
            match if processes { within_blocks(values) } else { None } {
                Some((blocks, interval)) => {
                    in_blocks = true;
                    ([a.ns, b.ns], [blocks; 2], Some(interval))
                }
                None => ([a.ns, b.ns], [a.n, b.n], a.interval(b)),
            }
        } else {
            let text = format!(
                "{phase} has no measured time on both sides: the time of its operators is compared, which leaves out what no operator explains"
            );
            diagnostics.push(Diagnostic::new("phase_time_missing", Severity::Info, text));
            (sums, repeats, None)
        };
        for side in [0, 1] {
            totals[side] += times[side];
            unexplained[side] += (times[side] - sums[side]).abs();
        }
        changes.push(PhaseChange {
            phase: phase.to_owned(),
            units,
            baseline_ns: times[0],
            candidate_ns: times[1],
            delta_ns: times[1] - times[0],
            delta_ci95_ns: interval,
        });
        finish_phase(&mut phase_rows, phase, 0);
        rows.append(&mut phase_rows);
    }
    rows.sort_by(by_size);
    let larger = usize::from(totals[1] > totals[0]);
    let of_traces = sides.iter().any(|side| side.kind == SubjectKind::Trace);
    let mut attribution = Attribution {
        baseline_label: sides[0].label.clone(),
        candidate_label: sides[1].label.clone(),
        case: cases[1].or(cases[0]).map(str::to_owned),
        per: if of_traces { "step of its phase" } else { "repeat" }.to_owned(),
        phases: changes,
        rows,
        rows_omitted: 0,
        accounted_share: (totals[larger] > 0.0).then(|| (1.0 - unexplained[larger] / totals[larger]).max(0.0)),
        sentences: Vec::new(),
        diagnostics,
    };
    let units = match (in_blocks, several) {
        (true, _) => Units::Blocks,
        (false, true) => Units::Processes,
        (false, false) => Units::OneProcess,
    };
    attribution.sentences = sentences(&attribution, units);
    attribution
}

/// Operators of one phase that are alike, all layers together; per repeat.
#[derive(Debug, Clone)]
struct Group<'a> {
    phase: &'a str,
    module: Option<&'a str>,
    class: &'a str,
    name: &'a str,
    shape: Option<&'a str>,
    layer: Option<u32>,
    layers: u32,
    ns: f64,
    calls: f64,
    repeats: u64,
}

impl Group<'_> {
    fn family(&self) -> Option<Family> {
        self.module.and_then(family).or_else(|| family(self.name))
    }
}

fn groups<'a>(subject: &'a Subject, case: Option<&str>, diagnostics: &mut Vec<Diagnostic>) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    let mut known: BTreeMap<(&str, Option<&str>, &str, &str), usize> = BTreeMap::new();
    let mut uncounted = 0_u64;
    for row in subject.operators.iter().filter(|row| row.case.as_deref() == case) {
        if row.repeats == 0 {
            uncounted += 1;
            continue;
        }
        let OperatorTime { phase, layer, module, class, name, shape, repeats, calls, total_ns, .. } = row;
        let (ns, calls) = (*total_ns as f64 / *repeats as f64, *calls as f64 / *repeats as f64);
        let key = (phase.as_str(), module.as_deref(), class.as_str(), name.as_str());
        if let Some(at) = known.get(&key) {
            let group = &mut groups[*at];
            group.ns += ns;
            group.calls += calls;
            group.repeats = group.repeats.max(*repeats);
            group.layers += u32::from(group.layer != *layer);
            group.shape = group.shape.filter(|known| Some(*known) == shape.as_deref());
            continue;
        }
        known.insert(key, groups.len());
        groups.push(Group {
            phase,
            module: module.as_deref(),
            class,
            name,
            shape: shape.as_deref(),
            layer: *layer,
            layers: 1,
            ns,
            calls,
            repeats: *repeats,
        });
    }
    if uncounted > 0 {
        let text = format!(
            "{uncounted} operators of {} do not say in how many repeats they were counted, and are left out",
            subject.label
        );
        diagnostics.push(Diagnostic::new("operators_without_repeats", Severity::DataLoss, text));
    }
    groups
}

/// Operators of both sides that stand for each other.
#[derive(Debug, Default)]
struct Pair<'a> {
    sides: [Vec<&'a Group<'a>>; 2],
    matched_by: &'static str,
}

impl Pair<'_> {
    fn change(&self) -> ChangeKind {
        match (self.sides[0].is_empty(), self.sides[1].is_empty()) {
            (false, true) => ChangeKind::Gone,
            (true, false) => ChangeKind::New,
            _ => ChangeKind::Changed,
        }
    }
    fn row(self, phase: &str) -> AttributionRow {
        let change = self.change();
        let joined = |side: usize, part: &dyn Fn(&Group<'_>) -> Option<String>| {
            let mut seen: Vec<String> = Vec::new();
            for text in self.sides[side].iter().filter_map(|group| part(group)) {
                if !seen.contains(&text) {
                    seen.push(text);
                }
            }
            (!seen.is_empty()).then(|| seen.join(" + "))
        };
        let module = [0, 1].map(|side| joined(side, &|group| group.module.map(str::to_owned)));
        let module = match module {
            [Some(before), Some(after)] if before != after => Some(format!("{before} → {after}")),
            [before, after] => after.or(before),
        };
        let class = joined(1, &|group| Some(group.class.to_owned()))
            .or_else(|| joined(0, &|group| Some(group.class.to_owned())));
        let mut layers = self.sides.iter().flatten().map(|group| group.layer.filter(|_| group.layers == 1));
        let layer = layers.next().flatten();
        let layer =
            layer.filter(|_| layers.all(|other| other == layer) && self.sides.iter().all(|side| !side.is_empty()));
        let sum =
            |side: usize, of: &dyn Fn(&Group<'_>) -> f64| self.sides[side].iter().map(|group| of(group)).sum::<f64>();
        let matched_by = match change {
            ChangeKind::Gone => "only in the baseline",
            ChangeKind::New => "only in the candidate",
            _ => self.matched_by,
        };
        Part {
            layer,
            module,
            class: class.unwrap_or_default(),
            names: [0, 1].map(|side| joined(side, &|group| Some(group.name.to_owned()))),
            ns: [0, 1].map(|side| sum(side, &|group| group.ns)),
            calls: [0, 1].map(|side| sum(side, &|group| group.calls)),
            interval: None,
            matched_by: matched_by.to_owned(),
        }
        .row(phase, change)
    }
}

/// Matches the groups of one phase.
fn matched<'a>(own: &[Vec<&'a Group<'a>>; 2]) -> Vec<Pair<'a>> {
    let mut pairs: Vec<Pair<'a>> = Vec::new();
    let mut left = own.clone();
    let [left_a, left_b] = &mut left;
    // The same module (or no module), class and name; then with another class; then another name in the same module and class.
    type Same = fn(&Group<'_>, &Group<'_>) -> bool;
    let rules: [(Same, &str); 2] = [
        (|a, b| a.module == b.module && a.class == b.class && a.name == b.name, "same operator"),
        (|a, b| a.module == b.module && a.name == b.name, "same operator, other class"),
    ];
    for (same, words) in rules {
        left_a.retain(|a| {
            let Some(at) = left_b.iter().position(|b| same(a, b)) else { return true };
            let b = left_b.remove(at);
            let other_shape = a.shape.is_some() && b.shape.is_some() && a.shape != b.shape;
            let matched_by = if other_shape && words == "same operator" { "same operator, other shape" } else { words };
            pairs.push(Pair { sides: [vec![a], vec![b]], matched_by });
            false
        });
    }
    for family in [Family::Qkv, Family::GateUp, Family::Norm] {
        let mut fused = Pair { matched_by: "one side runs as one what the other runs in parts", ..Pair::default() };
        for side in [0, 1] {
            let (mine, rest) = left[side].iter().partition(|group| group.family() == Some(family));
            (fused.sides[side], left[side]) = (mine, rest);
        }
        let alone = fused.sides[0].is_empty() != fused.sides[1].is_empty();
        if alone && family == Family::Norm {
            // The addition went into the norms, which kept their names.
            let (mine, rest): (Vec<Pair<'a>>, Vec<Pair<'a>>) = pairs
                .into_iter()
                .partition(|pair| pair.sides[0].first().is_some_and(|group| group.family() == Some(family)));
            pairs = rest;
            for pair in mine {
                let [a, b] = pair.sides;
                fused.sides[0].splice(0..0, a);
                fused.sides[1].splice(0..0, b);
            }
        }
        if fused.sides.iter().all(|side| !side.is_empty()) {
            pairs.push(fused);
        } else {
            left[0].append(&mut fused.sides[0]);
            left[1].append(&mut fused.sides[1]);
        }
    }
    // Other kernels in the same module: all of a module and class together, as nothing tells which replaces which.
    while let Some(first) = left[0]
        .iter()
        .position(|a| a.module.is_some() && left[1].iter().any(|b| b.module == a.module && b.class == a.class))
    {
        let (module, class) = (left[0][first].module, left[0][first].class);
        let mut pair = Pair { matched_by: "same module, other kernel", ..Pair::default() };
        for side in [0, 1] {
            let (mine, rest) = left[side].iter().partition(|group| group.module == module && group.class == class);
            (pair.sides[side], left[side]) = (mine, rest);
        }
        pairs.push(pair);
    }
    for side in [0, 1] {
        for group in std::mem::take(&mut left[side]) {
            let mut pair = Pair::default();
            pair.sides[side].push(group);
            pairs.push(pair);
        }
    }
    pairs
}

/// Measured time of a phase.
struct PhaseTime {
    ns: f64,
    /// Repeats, or processes where there are several.
    n: u64,
    /// Whether `n` counts processes.
    processes: bool,
    /// Variance of `ns`.
    variance: Option<f64>,
}

/// Fewer processes of a side than this say nothing of how they differ.
const LEAST_PROCESSES: u64 = 3;

impl PhaseTime {
    fn interval(&self, candidate: &Self) -> Option<[f64; 2]> {
        let (a, b) = (self.variance?, candidate.variance?);
        // Processes are few and each is a median of many.
        (self.n.min(candidate.n) >= if self.processes { LEAST_PROCESSES } else { LEAST_UNITS })
            .then(|| interval(candidate.ns - self.ns, (a, self.n), (b, candidate.n)))?
    }
}

/// The values of a phase.
fn phase_values<'a>(subject: &'a Subject, case: Option<&str>, phase: &str) -> Option<&'a MeasureValues> {
    let names = [format!("{phase}_ms"), format!("{phase}_step_ms")];
    let find = |name: &String| subject.measures.iter().find(|of| of.name == *name && of.case.as_deref() == case);
    names.iter().find_map(find)
}

/// The median of each process, ns; empty where it is not known which process measured what.
fn by_process(measure: &MeasureValues) -> Vec<f64> {
    let mut processes: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
    if measure.runs.len() == measure.values.len() {
        for (run, ms) in measure.runs.iter().zip(&measure.values).filter(|(_, ms)| ms.is_finite()) {
            processes.entry(*run).or_default().push(ms * 1e6);
        }
    }
    processes.values().filter_map(|values| median(values)).collect()
}

/// Number of blocks, and the 95 % interval of the mean difference of their medians, ns, where both sides were measured in the same blocks, at least
/// [`LEAST_PROCESSES`], one process of a side in each.
fn within_blocks(measures: [Option<&MeasureValues>; 2]) -> Option<(u64, [f64; 2])> {
    let [baseline, candidate] = measures.map(|measure| medians_of_blocks(measure?));
    let (baseline, candidate) = (baseline?, candidate?);
    if baseline.len() < LEAST_PROCESSES as usize || !baseline.keys().eq(candidate.keys()) {
        return None;
    }
    let differences: Vec<f64> = baseline.values().zip(candidate.values()).map(|(a, b)| b - a).collect();
    let (n, delta) = (differences.len() as u64, mean(&differences)?);
    let variance = standard_deviation(&differences, delta).map(|std| std * std / n as f64)?;
    Some((n, interval(delta, (variance, n), (0.0, n))?))
}

/// The median of each block, ns; `None` where blocks are not known or hold several processes of a side.
fn medians_of_blocks(measure: &MeasureValues) -> Option<BTreeMap<u32, f64>> {
    let MeasureValues { values, runs, blocks, .. } = measure;
    if blocks.len() != values.len() || runs.len() != values.len() {
        return None;
    }
    let mut found: BTreeMap<u32, (u32, Vec<f64>)> = BTreeMap::new();
    for ((block, run), ms) in blocks.iter().zip(runs).zip(values).filter(|(_, ms)| ms.is_finite()) {
        let (first, values) = found.entry(*block).or_insert((*run, Vec::new()));
        if first != run {
            return None;
        }
        values.push(ms * 1e6);
    }
    Some(found.into_iter().filter_map(|(block, (_, values))| Some((block, median(&values)?))).collect())
}

/// Whether a side of this case and phase was measured by several processes.
fn several_processes(subject: &Subject, case: Option<&str>, phase: &str) -> bool {
    phase_values(subject, case, phase).is_some_and(|measure| by_process(measure).len() > 1)
}

fn phase_time(subject: &Subject, case: Option<&str>, phase: &str, processes: bool) -> Option<PhaseTime> {
    let measure = phase_values(subject, case, phase)?;
    if processes {
        let medians = by_process(measure);
        let ns = mean(&medians)?;
        let n = medians.len() as u64;
        let variance = standard_deviation(&medians, ns).map(|std| std * std / n as f64);
        return Some(PhaseTime { ns, n, processes, variance });
    }
    let MeasureValues { values, reported, .. } = measure;
    let finite: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).map(|ms| ms * 1e6).collect();
    if let Some(ns) = median(&finite) {
        let n = finite.len() as u64;
        let std = mean(&finite).and_then(|mean| standard_deviation(&finite, mean));
        let variance = std.map(|std| std::f64::consts::FRAC_PI_2 * std * std / n as f64);
        return Some(PhaseTime { ns, n, processes, variance });
    }
    let reported = reported.as_ref()?;
    Some(PhaseTime { ns: reported.p50? * 1e6, n: reported.n, processes, variance: None })
}

fn unattributed(phase: &str, ns: [f64; 2]) -> AttributionRow {
    Part {
        class: "unattributed".to_owned(),
        ns,
        matched_by: "measured time of the phase less its operators".to_owned(),
        ..Part::default()
    }
    .row(phase, ChangeKind::Unattributed)
}

/// Operators that take longer than their phase: they were timed in other repeats, or timing them took time.
fn negative_remainder(
    sides: [&Subject; 2],
    phase: &str,
    times: [f64; 2],
    sums: [f64; 2],
    diagnostics: &mut Vec<Diagnostic>,
) {
    for side in [0, 1] {
        if sums[side] > times[side] * 1.02 {
            let text = format!(
                "the operators of {phase} in {} take {:.1} % longer than the phase as measured: they were timed in other repeats, or timing them cost time",
                sides[side].label,
                (sums[side] / times[side] - 1.0) * 100.0
            );
            diagnostics.push(Diagnostic::new("operators_exceed_phase", Severity::Warn, text));
        }
    }
}
