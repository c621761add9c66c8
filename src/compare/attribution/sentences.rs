//! The largest findings in words. Every sentence is true of the numbers it stands beside, whatever they are.

use super::parts::REMAINDER;
use crate::compare::result::{Attribution, AttributionRow, ChangeKind, PhaseChange};
use crate::stats::summary::student_t_quantile;

/// Class of a record of a whole graph.
pub(super) const GRAPH: &str = "graph";
/// Code of the diagnostic of a trace that misses kernels.
pub(super) const KERNELS_LOST: &str = "kernels_lost";
/// Parts named for each phase at most.
const PARTS: usize = 3;
/// Parts below this share of all changes of a phase are not named.
const LEAST_SHARE: f64 = 0.05;

/// A duration with three significant digits, without sign: `412 µs`, `5.51 ms`.
pub(super) fn time(ns: f64) -> String {
    let ns = ns.abs();
    let (value, unit) = match ns {
        _ if ns < 999.5 => (ns, "ns"),
        _ if ns < 999.5e3 => (ns / 1e3, "µs"),
        _ if ns < 999.5e6 => (ns / 1e6, "ms"),
        _ => (ns / 1e9, "s"),
    };
    format!("{} {unit}", three(value))
}

fn signed(ns: f64) -> String {
    format!("{}{}", if ns < 0.0 { "−" } else { "+" }, time(ns))
}

/// Three significant digits of a number that is not negative.
fn three(value: f64) -> String {
    match value {
        _ if value == 0.0 => "0".to_owned(),
        _ if value < 0.995 => format!("{value:.2}"),
        _ if value < 9.995 => format!("{value:.2}"),
        _ if value < 99.95 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

fn percent(ratio: f64) -> String {
    format!("{} %", three(ratio.abs() * 100.0))
}

fn count(calls: f64) -> String {
    if (calls - calls.round()).abs() < 1e-9 { format!("{calls:.0}") } else { format!("{calls:.2}") }
}

/// Whether a change is more than noise; `None` where nothing tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Real,
    Noise,
    Untold,
}

/// Judges a change by its 95 % interval, widened for `looks` changes looked at together (Bonferroni).
fn seen(delta_ns: f64, interval: Option<[f64; 2]>, units: [u64; 2], looks: usize) -> Seen {
    let Some([low, high]) = interval else { return Seen::Untold };
    let freedom = units[0].min(units[1]).saturating_sub(1) as f64;
    let factor = student_t_quantile(1.0 - 0.025 / looks.max(1) as f64, freedom)
        .zip(student_t_quantile(0.975, freedom))
        .map_or(2.5, |(wide, single)| wide / single);
    if delta_ns.abs() > (high - low) / 2.0 * factor { Seen::Real } else { Seen::Noise }
}

/// What the noise of a phase is told by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Units {
    /// Steps or repeats of one process each: how one process differs from the next is not in them.
    OneProcess,
    /// Processes.
    Processes,
    /// Blocks in which both sides had a turn.
    Blocks,
}

/// What a phase is measured by.
struct Voice<'a> {
    units: Units,
    per: &'a str,
    busy_only: bool,
    baseline: &'a str,
    candidate: &'a str,
}

/// The sentences of an attribution, phase by phase.
pub(super) fn sentences(attribution: &Attribution, units: Units) -> Vec<String> {
    let lost = attribution.diagnostics.iter().filter(|diagnostic| diagnostic.code == KERNELS_LOST);
    let lost: Vec<String> = lost.map(|diagnostic| format!("{}.", diagnostic.first)).collect();
    if !lost.is_empty() {
        return lost;
    }
    let busy_only = attribution.diagnostics.iter().any(|diagnostic| diagnostic.code == "idle_refused");
    let mut out = Vec::new();
    for phase in attribution.phases.iter().filter(|phase| phase.units[0] > 0 && phase.units[1] > 0) {
        if phase.baseline_ns == 0.0 && phase.candidate_ns == 0.0 {
            continue;
        }
        let per = match (phase.phase.as_str(), attribution.per.as_str()) {
            ("trace" | "outside", _) => "",
            (_, "repeat") => " per repeat",
            _ => " per step",
        };
        let voice = Voice {
            units,
            per,
            busy_only,
            baseline: &attribution.baseline_label,
            candidate: &attribution.candidate_label,
        };
        let rows: Vec<&AttributionRow> =
            attribution.rows.iter().filter(|row| row.phase == phase.phase && row.class != REMAINDER).collect();
        let verdict = seen(phase.delta_ns, phase.delta_ci95_ns, phase.units, attribution.phases.len());
        out.push(of_phase(phase, verdict, &voice));
        let graphs = graphs_for_kernels(phase, &rows, &voice);
        let rows: Vec<&AttributionRow> = match &graphs {
            // What went into a graph, or came out of one, is no news of its own.
            Some(_) => {
                rows.into_iter().filter(|row| !matches!(row.change, ChangeKind::New | ChangeKind::Gone)).collect()
            }
            None => rows,
        };
        out.extend(graphs);
        out.extend(of_parts(phase, &rows, verdict, &voice));
    }
    out
}

fn of_phase(phase: &PhaseChange, verdict: Seen, voice: &Voice<'_>) -> String {
    let Voice { per, baseline, candidate, .. } = voice;
    let subject = match (voice.busy_only, phase.phase.as_str()) {
        (true, name) => format!("the busy time of {name}"),
        (false, "trace") => "the traced time".to_owned(),
        (false, "outside") => "the time before the first and after the last step".to_owned(),
        (false, "between_steps") => "the time between steps".to_owned(),
        (false, name) => name.to_owned(),
    };
    let is_step = !voice.busy_only && is_unit_of_steps(phase);
    if phase.delta_ns == 0.0 {
        let text = format!("{subject} takes {}{per} in both {baseline} and {candidate}.", time(phase.candidate_ns));
        return sentence_case(text, phase);
    }
    let relative = if phase.baseline_ns > 0.0 {
        format!(" ({})", percent(phase.delta_ns / phase.baseline_ns))
    } else {
        String::new()
    };
    let against =
        format!("{} in {candidate} against {} in {baseline}", time(phase.candidate_ns), time(phase.baseline_ns));
    let unit = match (voice.units, voice.per) {
        (Units::Processes, _) => "processes",
        (Units::Blocks, _) => "blocks",
        (Units::OneProcess, " per repeat") => "repeats",
        (Units::OneProcess, _) => "steps",
    };
    let units = match voice.units {
        Units::Blocks => format!("{} {unit}", phase.units[0]),
        _ => format!("{} and {} {unit}", phase.units[0], phase.units[1]),
    };
    let one_process = if voice.units == Units::OneProcess { " of one process each" } else { "" };
    let interval = phase
        .delta_ci95_ns
        .map(|[low, high]| format!("95 % interval {} to {} from {units}{one_process}", signed(low), signed(high)));
    let slower = match (phase.delta_ns > 0.0, is_step) {
        (true, true) => "slower",
        (false, true) => "faster",
        (true, false) => "longer",
        (false, false) => "shorter",
    };
    let text = match (verdict, interval) {
        (Seen::Noise, Some(interval)) => format!(
            "the difference of {}{relative}{per} in {subject} is within the noise of the {unit}: {against} ({interval}).",
            signed(phase.delta_ns)
        ),
        (Seen::Real, Some(interval)) => {
            format!("{subject} is {}{relative} {slower}{per}: {against} ({interval}).", time(phase.delta_ns))
        }
        _ => {
            let few = if is_unit_of_steps(phase) {
                format!("{units} are too few to tell this from noise")
            } else {
                "one trace of each does not tell this from noise".to_owned()
            };
            format!("{subject} is {}{relative} {slower}{per}: {against}; {few}.", time(phase.delta_ns))
        }
    };
    sentence_case(text, phase)
}

fn is_unit_of_steps(phase: &PhaseChange) -> bool {
    !matches!(phase.phase.as_str(), "trace" | "outside" | "between_steps")
}

/// A capital in front, but not where the name of a phase stands there.
fn sentence_case(text: String, phase: &PhaseChange) -> String {
    match text.chars().next() {
        Some(first) if !text.starts_with(&phase.phase) => first.to_uppercase().chain(text.chars().skip(1)).collect(),
        _ => text,
    }
}

/// One side has records of whole graphs where the other has kernels.
fn graphs_for_kernels(phase: &PhaseChange, rows: &[&AttributionRow], voice: &Voice<'_>) -> Option<String> {
    let graph =
        rows.iter().find(|row| row.class == GRAPH && matches!(row.change, ChangeKind::New | ChangeKind::Gone))?;
    let (opposite, with, without) = match graph.change {
        ChangeKind::New => (ChangeKind::Gone, voice.candidate, voice.baseline),
        _ => (ChangeKind::New, voice.baseline, voice.candidate),
    };
    let kernels = rows.iter().filter(|row| row.change == opposite);
    let (calls, ns) = kernels.fold((0.0, 0.0), |(calls, ns), row| {
        (calls + row.baseline_calls + row.candidate_calls, ns + row.baseline_ns + row.candidate_ns)
    });
    (calls > 0.0).then(|| {
        format!(
            "In {}: {} records of whole graphs{} ({}) in {with} stand beside {} operations ({}) that only {without} shows; which kernels ran inside the graphs cannot be told.",
            phase.phase,
            count(graph.baseline_calls + graph.candidate_calls),
            voice.per,
            time(graph.baseline_ns + graph.candidate_ns),
            count(calls),
            time(ns),
        )
    })
}

fn of_parts(phase: &PhaseChange, rows: &[&AttributionRow], verdict: Seen, voice: &Voice<'_>) -> Vec<String> {
    let total: f64 = rows.iter().map(|row| row.delta_ns.abs()).sum();
    let large = |row: &&&AttributionRow| row.delta_ns != 0.0 && row.delta_ns.abs() >= LEAST_SHARE * total;
    let judged = |row: &AttributionRow| seen(row.delta_ns, row.delta_ci95_ns, phase.units, rows.len());
    // Of a phase that did not change beyond its noise, a part of which nothing is known but its change is no finding.
    let worth_naming = |part: Seen| part == Seen::Real || part == Seen::Untold && verdict != Seen::Noise;
    let named: Vec<&&AttributionRow> =
        rows.iter().filter(large).filter(|row| worth_naming(judged(row))).take(PARTS).collect();
    if named.is_empty() {
        let any_judged = rows.iter().any(|row| row.delta_ci95_ns.is_some());
        let none = any_judged && rows.iter().all(|row| row.delta_ns == 0.0 || judged(row) == Seen::Noise);
        return if none && phase.delta_ns != 0.0 {
            vec![format!("No part of {} changed by more than its noise.", phase.phase)]
        } else {
            Vec::new()
        };
    }
    named.into_iter().map(|row| of_part(phase, row, verdict, voice)).collect()
}

fn of_part(phase: &PhaseChange, row: &AttributionRow, verdict: Seen, voice: &Voice<'_>) -> String {
    let name = part_name(row);
    let per = voice.per;
    let more = if row.delta_ns > 0.0 { "more" } else { "less" };
    let detail = detail(row, per);
    let share = row.delta_ns / phase.delta_ns;
    if verdict != Seen::Noise && phase.delta_ns != 0.0 && share > 0.0 && share <= 1.0 + 1e-9 {
        let of = format!("{} of it ({}) is {name}", time(row.delta_ns), percent(share.min(1.0)));
        return format!("In {}: {of}{detail}.", phase.phase);
    }
    let rest = if verdict == Seen::Noise || phase.delta_ns == 0.0 {
        String::new()
    } else if share > 0.0 {
        ", part of which other changes make up for".to_owned()
    } else {
        ", against the change of the whole".to_owned()
    };
    format!("In {}: {name} takes {} {more}{per}{rest}{detail}.", phase.phase, time(row.delta_ns))
}

/// Whether the module says what the names of the operators say already.
fn names_the_same(row: &AttributionRow, module: &str) -> bool {
    match (&row.kernel, &row.baseline_kernel) {
        (Some(kernel), Some(before)) => module == kernel || module == format!("{before} → {kernel}"),
        (kernel, _) => Some(module) == kernel.as_deref(),
    }
}

fn part_name(row: &AttributionRow) -> String {
    match row.change {
        ChangeKind::Idle if row.class == "below_1us" => "idle time in gaps below 1 µs".to_owned(),
        ChangeKind::Idle => format!("idle time of cause {}", row.class),
        ChangeKind::Overlap => "the correction for work side by side".to_owned(),
        ChangeKind::Unattributed => "time that no operator explains".to_owned(),
        _ => {
            let kernel = row.kernel.as_deref().unwrap_or(&row.class);
            let kernel = match &row.baseline_kernel {
                Some(before) => format!("{kernel} in place of {before}"),
                None => kernel.to_owned(),
            };
            match &row.module {
                Some(module) if !names_the_same(row, module) => format!("{kernel} in {module}"),
                _ => kernel,
            }
        }
    }
}

/// How it came about: ` (same count …)`.
fn detail(row: &AttributionRow, per: &str) -> String {
    let mean = |ns: f64, calls: f64| if calls > 0.0 { format!(" of {}", time(ns / calls)) } else { String::new() };
    match row.change {
        ChangeKind::New => {
            format!(": new, {} calls{}{per}", count(row.candidate_calls), mean(row.candidate_ns, row.candidate_calls))
        }
        ChangeKind::Gone => {
            format!(": gone, {} calls{}{per}", count(row.baseline_calls), mean(row.baseline_ns, row.baseline_calls))
        }
        ChangeKind::Overlap | ChangeKind::Unattributed => String::new(),
        ChangeKind::Idle | ChangeKind::Changed => {
            let Some(per_call) = row.per_call_delta_ns else { return String::new() };
            let what = if row.change == ChangeKind::Idle { "gap" } else { "call" };
            let more = if per_call > 0.0 { "more" } else { "less" };
            if row.count_delta.abs() < 1e-9 {
                return format!(": same count ({}), {} {more} per {what}", count(row.candidate_calls), time(per_call));
            }
            format!(
                ": {} instead of {} {what}s{per} ({}), {} {more} per {what} ({})",
                count(row.candidate_calls),
                count(row.baseline_calls),
                signed(row.count_ns),
                time(per_call),
                signed(row.per_call_ns)
            )
        }
    }
}
