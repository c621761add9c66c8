//! Several runs of one variant as one subject.

use std::collections::BTreeSet;

use super::builder::clipped;
use super::error::ImportError;
use crate::compare::subject::{MeasureValues, OperatorTime, Outcomes, Subject};
use crate::diagnostics::{Diagnostics, Severity, Validity};
use crate::record::metrics::limit_of_disturbed_reason;

/// One subject of several runs of the same variant, in the order they were made.
///
/// `MeasureValues::runs` are numbered on from part to part. A fact in which the parts disagree, or that one of them does not tell, becomes
/// null, with a diagnostic that says what they have. `blocks` gives, for each part, the block it was measured in; empty where they were not
/// interleaved. The numbers of a part that may not be relied on make the whole unreliable; but whether too many repeats were disturbed by other work is
/// asked of the repeats of all parts together, as one run of all of them would be.
///
/// # Errors
/// If `parts` is empty or of different kinds, or `blocks` is neither empty nor as long as `parts`.
pub fn merge(label: &str, parts: Vec<Subject>, blocks: &[u32]) -> Result<Subject, ImportError> {
    let cannot = |reason: String| ImportError::CannotMerge { reason };
    if !blocks.is_empty() && blocks.len() != parts.len() {
        return Err(cannot(format!("{} runs of `{label}` and {} blocks do not fit", parts.len(), blocks.len())));
    }
    let count = parts.len();
    let mut parts = parts.into_iter();
    let Some(mut merged) = parts.next() else { return Err(cannot(format!("there is no run of `{label}`"))) };
    label.clone_into(&mut merged.label);
    let mut diagnostics = Diagnostics::default();
    diagnostics.extend(std::mem::take(&mut merged.diagnostics));
    let mut disagreeing: BTreeSet<String> = BTreeSet::new();
    let mut reasons = merged.validity.reasons.clone();
    let mut next_run = runs_of(&merged);
    if let Some(block) = blocks.first() {
        set_block(&mut merged.measures, *block);
    }
    for (index, mut part) in parts.enumerate() {
        if part.kind != merged.kind {
            return Err(cannot(format!("`{label}` cannot be made of {:?} and {:?}", merged.kind, part.kind)));
        }
        let runs = runs_of(&part);
        for values in &mut part.measures {
            for run in &mut values.runs {
                *run = run.saturating_add(next_run);
            }
        }
        if let Some(block) = blocks.get(index + 1) {
            set_block(&mut part.measures, *block);
        }
        next_run = next_run.saturating_add(runs);
        append(&mut merged.measures, part.measures, &mut diagnostics);
        merge_operators(&mut merged.operators, part.operators);
        merged.outcomes = sum_outcomes(merged.outcomes, part.outcomes);
        add_new(&mut merged.run_ids, part.run_ids);
        add_new(&mut merged.files, part.files);
        add_new(&mut reasons, part.validity.reasons);
        let names: BTreeSet<String> = merged.facts.keys().chain(part.facts.keys()).cloned().collect();
        for name in names {
            let (ours, theirs) = (merged.facts.get(&name).cloned().flatten(), part.facts.get(&name).cloned().flatten());
            if ours == theirs {
                merged.facts.entry(name).or_insert(None);
                continue;
            }
            if disagreeing.insert(name.clone()) {
                let text = |value: Option<String>| value.unwrap_or_else(|| "unknown".to_owned());
                let first = format!(
                    "`{name}` is not the same in all {count} runs of `{}`: {} and {}; it counts as unknown",
                    clipped(label),
                    text(ours),
                    text(theirs)
                );
                diagnostics.note("facts_disagree", Severity::Warn, first);
            }
            merged.facts.insert(name, None);
        }
        merged.price_usd_per_hour = merged.price_usd_per_hour.filter(|price| part.price_usd_per_hour == Some(*price));
        merged.power_w = merged.power_w.filter(|power| part.power_w == Some(*power));
        diagnostics.extend(part.diagnostics);
    }
    if count > 1 {
        judge_disturbance(&mut reasons, merged.outcomes, label, &mut diagnostics);
    }
    merged.validity = Validity::from_reasons(reasons);
    merged.diagnostics = diagnostics.into_vec();
    Ok(merged)
}

/// Takes back that single runs are INVALID for being disturbed where few of all repeats were: a study of an hour needs not to be thrown away for a
/// burst of seconds in one of its processes. The repeats stay marked, and in the values.
fn judge_disturbance(reasons: &mut Vec<String>, outcomes: Outcomes, label: &str, diagnostics: &mut Diagnostics) {
    let Outcomes { ok, disturbed, .. } = outcomes;
    let limits: Vec<f64> = reasons.iter().filter_map(|reason| limit_of_disturbed_reason(reason)).collect();
    let Some(limit) = limits.into_iter().min_by(f64::total_cmp) else { return };
    if ok == 0 || disturbed as f64 / ok as f64 > limit {
        return;
    }
    reasons.retain(|reason| limit_of_disturbed_reason(reason).is_none());
    let first = format!(
        "single runs of `{}` call themselves INVALID because most of their repeats were disturbed; of all its {ok} repeats {disturbed} were, so they are used",
        clipped(label)
    );
    diagnostics.note("disturbed_runs", Severity::Warn, first);
}

/// Processes behind a subject: one more than the largest number, at least one.
fn runs_of(subject: &Subject) -> u32 {
    let largest = subject.measures.iter().flat_map(|values| values.runs.iter()).max();
    largest.map_or(1, |largest| largest.saturating_add(1))
}

fn set_block(measures: &mut [MeasureValues], block: u32) {
    for values in measures {
        values.blocks = vec![block; values.values.len()];
    }
}

fn append(into: &mut Vec<MeasureValues>, from: Vec<MeasureValues>, diagnostics: &mut Diagnostics) {
    for part in from {
        let Some(known) = into.iter_mut().find(|known| known.case == part.case && known.name == part.name) else {
            into.push(part);
            continue;
        };
        if part.reported.is_some() || known.reported.is_some() {
            // Summaries of different runs cannot be joined to one without the values.
            let first = format!("`{}`: summaries without values were left out of the merge", known.name);
            diagnostics.note("summary_not_merged", Severity::Warn, first);
        }
        known.reported = None;
        known.values.extend(part.values);
        known.runs.extend(part.runs);
        known.blocks.extend(part.blocks);
    }
}

/// Operators of the same place add up: calls, times, and the repeats they were counted in.
fn merge_operators(into: &mut Vec<OperatorTime>, from: Vec<OperatorTime>) {
    let key = |row: &OperatorTime| {
        (row.case.clone(), row.phase.clone(), row.layer, row.module.clone(), row.class.clone(), row.name.clone())
    };
    if into.is_empty() {
        *into = from;
        return;
    }
    let mut places: std::collections::BTreeMap<_, usize> =
        into.iter().enumerate().map(|(index, row)| (key(row), index)).collect();
    // A row that one run lacks was still looked for in its repeats: they count for the mean of a repeat.
    let repeats_of = |rows: &[OperatorTime]| {
        let mut repeats: std::collections::BTreeMap<(Option<String>, String), u64> = std::collections::BTreeMap::new();
        for row in rows {
            let known = repeats.entry((row.case.clone(), row.phase.clone())).or_insert(0);
            *known = (*known).max(row.repeats);
        }
        repeats
    };
    let (ours, theirs) = (repeats_of(into), repeats_of(&from));
    let place = |row: &OperatorTime| (row.case.clone(), row.phase.clone());
    for row in from {
        if let Some(&index) = places.get(&key(&row)) {
            let known = &mut into[index];
            known.calls = known.calls.saturating_add(row.calls);
            known.total_ns = known.total_ns.saturating_add(row.total_ns);
            if known.shape != row.shape {
                known.shape = None;
            }
        } else {
            places.insert(key(&row), into.len());
            into.push(row);
        }
    }
    for row in into {
        let of = |repeats: &std::collections::BTreeMap<_, u64>| repeats.get(&place(row)).copied().unwrap_or(0);
        row.repeats = of(&ours).saturating_add(of(&theirs));
    }
}

/// Outcomes of both.
pub(super) fn sum_outcomes(a: Outcomes, b: Outcomes) -> Outcomes {
    Outcomes {
        ok: a.ok.saturating_add(b.ok),
        failed: a.failed.saturating_add(b.failed),
        oom: a.oom.saturating_add(b.oom),
        interrupted: a.interrupted.saturating_add(b.interrupted),
        disturbed: a.disturbed.saturating_add(b.disturbed),
    }
}

fn add_new(into: &mut Vec<String>, from: Vec<String>) {
    for text in from {
        if !into.contains(&text) {
            into.push(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::compare::subject::{SubjectKind, fact};
    use crate::diagnostics::ValidityStatus;
    use crate::record::metrics::disturbed_reason;

    fn part(values: &[f64], threads: Option<&str>) -> Subject {
        Subject {
            label: "x".to_owned(),
            kind: SubjectKind::Stage1,
            tool: "t".to_owned(),
            run_ids: vec![format!("r{}", values[0])],
            files: Vec::new(),
            facts: BTreeMap::from([(fact::THREADS.to_owned(), threads.map(str::to_owned))]),
            measures: vec![MeasureValues {
                case: Some("c".to_owned()),
                name: "tpot_ms".to_owned(),
                unit: "ms".to_owned(),
                values: values.to_vec(),
                runs: vec![0; values.len()],
                blocks: Vec::new(),
                reported: None,
            }],
            operators: Vec::new(),
            outcomes: Outcomes { ok: values.len() as u64, ..Outcomes::default() },
            validity: Validity::from_reasons(Vec::new()),
            price_usd_per_hour: Some(2.0),
            power_w: None,
            diagnostics: Vec::new(),
        }
    }

    #[test]
    fn runs_are_numbered_on_and_keep_the_block_they_were_measured_in() {
        let parts = vec![part(&[1.0, 2.0], Some("2")), part(&[3.0], Some("2")), part(&[4.0, 5.0], Some("2"))];
        let merged = merge("two", parts, &[0, 1, 1]).unwrap();
        let values = &merged.measures[0];
        assert_eq!(values.values, [1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(values.runs, [0, 0, 1, 2, 2]);
        assert_eq!(values.blocks, [0, 0, 1, 1, 1]);
        assert_eq!((merged.label.as_str(), merged.outcomes.ok, merged.run_ids.len()), ("two", 5, 3));
        assert_eq!((merged.facts[fact::THREADS].as_deref(), merged.price_usd_per_hour), (Some("2"), Some(2.0)));
        assert_eq!(merged.diagnostics, []);
    }

    #[test]
    fn merging_in_steps_gives_what_merging_at_once_gives() {
        let parts = || [part(&[1.0, 2.0], Some("2")), part(&[3.0], Some("2")), part(&[4.0], Some("2"))];
        let at_once = merge("m", parts().to_vec(), &[]).unwrap();
        let [a, b, c] = parts();
        let in_steps = merge("m", vec![merge("m", vec![a, b], &[]).unwrap(), c], &[]).unwrap();
        assert_eq!(at_once, in_steps);
    }

    #[test]
    fn facts_that_disagree_become_unknown_and_say_so_once() {
        let parts = vec![part(&[1.0], Some("1")), part(&[2.0], Some("2")), part(&[3.0], None)];
        let merged = merge("m", parts, &[]).unwrap();
        assert_eq!(merged.facts[fact::THREADS], None);
        assert_eq!(merged.diagnostics.len(), 1);
        assert_eq!((merged.diagnostics[0].code.as_str(), merged.diagnostics[0].count), ("facts_disagree", 1));
        assert!(merged.diagnostics[0].first.contains("1 and 2"), "{:?}", merged.diagnostics);
    }

    #[test]
    fn one_unreliable_run_makes_the_whole_unreliable() {
        let mut bad = part(&[2.0], Some("2"));
        bad.validity = Validity::from_reasons(vec!["disturbed".to_owned()]);
        let merged = merge("m", vec![part(&[1.0], Some("2")), bad], &[]).unwrap();
        assert_eq!((merged.validity.status, merged.validity.reasons.len()), (ValidityStatus::Invalid, 1));
    }

    #[test]
    fn a_burst_in_one_run_of_many_does_not_make_the_whole_unreliable_and_many_do() {
        let disturbed = |of: u64, repeats: usize| {
            let mut part = part(&vec![2.0; repeats], Some("2"));
            part.outcomes.disturbed = of;
            if of * 2 > repeats as u64 {
                part.validity = Validity::from_reasons(vec![disturbed_reason(of as usize, repeats, 0.5)]);
            }
            part
        };
        let merged = merge("m", vec![disturbed(0, 6), disturbed(6, 6), disturbed(1, 6)], &[]).unwrap();
        assert!(merged.validity.is_valid(), "7 of 18: {:?}", merged.validity);
        assert_eq!(merged.diagnostics[0].code, "disturbed_runs");
        assert!(merged.diagnostics[0].first.contains("of all its 18 repeats 7 were"), "{:?}", merged.diagnostics);
        let merged = merge("m", vec![disturbed(2, 6), disturbed(6, 6), disturbed(5, 6)], &[]).unwrap();
        assert_eq!(merged.validity.reasons.len(), 2, "13 of 18");
        // Another reason stays whatever the share.
        let mut bad = disturbed(6, 6);
        bad.validity.reasons.push("logits are not finite".to_owned());
        let merged = merge("m", vec![disturbed(0, 6), bad], &[]).unwrap();
        assert_eq!(merged.validity.reasons, ["logits are not finite"]);
    }

    #[test]
    fn operators_add_up_over_the_repeats_of_all_runs() {
        let row = |name: &str, repeats: u64, total_ns: u64| OperatorTime {
            case: None,
            phase: "decode".to_owned(),
            layer: Some(0),
            module: Some(name.to_owned()),
            class: "linear".to_owned(),
            name: name.to_owned(),
            shape: Some("1x2".to_owned()),
            repeats,
            calls: 10,
            total_ns,
        };
        let (mut a, mut b) = (part(&[1.0], None), part(&[2.0], None));
        a.operators = vec![row("q_proj", 2, 100), row("old", 2, 7)];
        b.operators = vec![row("q_proj", 3, 300), row("new", 3, 9)];
        let merged = merge("m", vec![a, b], &[]).unwrap();
        let found: Vec<_> =
            merged.operators.iter().map(|row| (row.name.as_str(), row.repeats, row.calls, row.total_ns)).collect();
        assert_eq!(found, [("q_proj", 5, 20, 400), ("old", 5, 10, 7), ("new", 5, 10, 9)]);
    }

    #[test]
    fn nothing_different_kinds_and_wrong_blocks_are_refused() {
        assert!(matches!(merge("m", Vec::new(), &[]), Err(ImportError::CannotMerge { .. })));
        assert!(merge("m", vec![part(&[1.0], None)], &[0, 1]).is_err());
        let mut trace = part(&[1.0], None);
        trace.kind = SubjectKind::Trace;
        assert!(merge("m", vec![part(&[1.0], None), trace], &[]).is_err());
    }
}
