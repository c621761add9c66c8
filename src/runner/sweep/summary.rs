//! `metrics.json` of a sweep from its plan and rows.

use std::collections::{BTreeMap, BTreeSet};

use super::condition::{Condition, split, statistic};
use super::measures::usual_maps;
use crate::compare::measure::{Direction, kind};
use crate::diagnostics::{Diagnostic, Diagnostics, Severity, Validity};
use crate::record::rows::RowStatus;
use crate::record::sweep::{
    Axis, Best, HeatMap, ParetoFront, PlannedPoint, SWEEP_SCHEMA_VERSION, SweepMetrics, SweepPlanFile, SweepResult,
    SweepRow,
};
use crate::runner::summary::Ending;
use crate::stats::summary::Summary;

/// Maps beyond this number are left out: a sweep of many keys has one for every combination of the others.
const MOST_MAPS: usize = 64;
/// The key under which maps and tables name the case, where points have several.
const CASE: &str = "case";

/// Everything `metrics.json` says.
pub fn summarize(plan: &SweepPlanFile, rows: &[SweepRow], ending: Ending, found: &[Diagnostic]) -> SweepMetrics {
    let mut diagnostics = Diagnostics::default();
    diagnostics.extend(found.iter().cloned());
    diagnostics.extend(plan.diagnostics.iter().cloned());
    let last = plan.last_attempts(rows);
    let results = results(plan, &last);
    let outcomes = outcomes(plan, &last, &mut diagnostics);
    let axes = axes(plan);
    let best = plan.objective.as_deref().map(|objective| best(plan, objective, &results, &mut diagnostics));
    let pareto = (!plan.pareto.is_empty()).then(|| front(plan, &results, &mut diagnostics));
    let heat_maps = heat_maps(plan, &axes, &results, &mut diagnostics);

    let reasons = if ending == Ending::Complete { reasons(plan, &last) } else { Vec::new() };
    let invalid = last.iter().flatten().filter(|row| row.valid == Some(false)).count();
    if invalid > 0 {
        diagnostics.push(Diagnostic {
            code: "invalid_points".to_owned(),
            severity: Severity::Warn,
            count: invalid as u64,
            first: if plan.allow_invalid {
                format!("{invalid} of the points call themselves INVALID; their reports say why")
            } else {
                format!("{invalid} of the points call themselves INVALID and cannot be best; their reports say why")
            },
        });
    }
    let left = last.iter().filter(|row| row.is_none_or(|row| row.status == RowStatus::Interrupted)).count();
    if left > 0 {
        diagnostics.push(Diagnostic {
            code: "points_not_tried".to_owned(),
            severity: Severity::Info,
            count: left as u64,
            first: format!("{left} of {} points were not tried to their end; `--resume` goes on with them", last.len()),
        });
    }
    let validity = Validity::from_reasons(reasons);
    let status = match ending {
        Ending::Interrupted => "interrupted",
        Ending::Failed => "failed",
        Ending::Complete if validity.is_valid() => "complete",
        Ending::Complete => "invalid",
    };
    SweepMetrics {
        schema_version: SWEEP_SCHEMA_VERSION,
        command: "sweep".to_owned(),
        run_id: plan.run_id.clone(),
        status: status.to_owned(),
        validity,
        measures: BTreeMap::new(),
        runs: plan.runs.clone(),
        name: plan.name.clone(),
        points: plan.points.len() as u64,
        outcomes,
        axes,
        results,
        pareto,
        best,
        heat_maps,
        diagnostics: diagnostics.into_vec(),
    }
}

/// Why nothing of the sweep may be relied on; empty where something may.
fn reasons(plan: &SweepPlanFile, last: &[Option<&SweepRow>]) -> Vec<String> {
    let ended_well = || last.iter().flatten().filter(|row| row.status == RowStatus::Ok && !row.cases.is_empty());
    if ended_well().next().is_none() {
        let mut reasons = vec![format!("no point of {} ended well", plan.points.len())];
        for (status, words) in [(RowStatus::Oom, "did not fit into the memory"), (RowStatus::Failed, "failed")] {
            let rows: Vec<&SweepRow> = last.iter().flatten().filter(|row| row.status == status).copied().collect();
            if let Some(first) = rows.first() {
                let error = first.error.as_deref().unwrap_or("no reason is known");
                reasons.push(format!("{} {words}, the first because: {error}", rows.len()));
            }
        }
        return reasons;
    }
    if !plan.allow_invalid && ended_well().all(|row| row.valid == Some(false)) {
        return vec!["every point that ended well calls itself INVALID".to_owned()];
    }
    Vec::new()
}

fn results(plan: &SweepPlanFile, last: &[Option<&SweepRow>]) -> Vec<SweepResult> {
    let mut all = Vec::new();
    for (index, (point, row)) in plan.points.iter().zip(last).enumerate() {
        let of = |case: Option<String>, measures: BTreeMap<String, Summary>| SweepResult {
            point: index as u32,
            case,
            settings: point.settings.iter().cloned().collect(),
            status: row.map(|row| row.status),
            error: row.and_then(|row| row.error.clone()),
            valid: row.and_then(|row| row.valid),
            run: row.map(|row| row.child.clone()),
            measures,
        };
        match row {
            Some(row) if row.status == RowStatus::Ok && !row.cases.is_empty() => {
                all.extend(row.cases.iter().map(|case| of(Some(case.case.clone()), case.measures.clone())));
            }
            _ => all.push(of(None, BTreeMap::new())),
        }
    }
    all
}

fn status_name(status: Option<RowStatus>) -> &'static str {
    match status {
        Some(RowStatus::Ok) => "ok",
        Some(RowStatus::Oom) => "oom",
        Some(RowStatus::Failed) => "failed",
        Some(RowStatus::Interrupted) => "interrupted",
        None => "not_run",
    }
}

fn outcomes(plan: &SweepPlanFile, last: &[Option<&SweepRow>], diagnostics: &mut Diagnostics) -> BTreeMap<String, u64> {
    let mut outcomes = BTreeMap::new();
    for (index, row) in last.iter().enumerate() {
        let name = status_name(row.map(|row| row.status));
        *outcomes.entry(name.to_owned()).or_insert(0) += 1;
        let (code, severity, what) = match name {
            "oom" => ("point_out_of_memory", Severity::Info, "did not fit into the memory"),
            "failed" => ("point_failed", Severity::Warn, "failed"),
            _ => continue,
        };
        let settings = words(&plan.points[index].settings);
        let error = row.and_then(|row| row.error.as_deref()).unwrap_or("no reason is known");
        diagnostics.note(code, severity, format!("the point {settings} {what}: {error}"));
    }
    outcomes
}

fn words(settings: &[(String, String)]) -> String {
    settings.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
}

/// The keys that take more than one value, in the order of the plan.
fn axes(plan: &SweepPlanFile) -> Vec<Axis> {
    let mut axes: Vec<Axis> = Vec::new();
    for point in &plan.points {
        for (key, value) in &point.settings {
            let at = axes.iter().position(|axis| axis.key == *key).unwrap_or_else(|| {
                axes.push(Axis { key: key.clone(), values: Vec::new() });
                axes.len() - 1
            });
            if !axes[at].values.contains(value) {
                axes[at].values.push(value.clone());
            }
        }
    }
    axes.retain(|axis| axis.values.len() > 1);
    axes
}

/// A measure's statistic as a number that is better when larger; `None` where it is unknown or no way is better.
fn goodness(measures: &BTreeMap<String, Summary>, name: &str) -> Option<f64> {
    let (measure, part) = split(name);
    let value = statistic(measures.get(measure)?, part)?;
    match kind(measure).direction {
        Direction::HigherIsBetter => Some(value),
        Direction::LowerIsBetter => Some(-value),
        Direction::Neutral => None,
    }
}

fn best(plan: &SweepPlanFile, objective: &str, results: &[SweepResult], diagnostics: &mut Diagnostics) -> Best {
    let mut none = Best {
        objective: objective.to_owned(),
        constraints: plan.constraints.clone(),
        result: None,
        value: None,
        not_told_apart: Vec::new(),
        candidates: 0,
        reason: String::new(),
        command_line: None,
    };
    let (measure, part) = split(objective);
    if kind(measure).direction == Direction::Neutral {
        none.reason = format!("`{objective}` has no better side, so no point is best in it");
        return none;
    }
    let mut conditions = Vec::new();
    for text in &plan.constraints {
        match Condition::parse(text) {
            Ok(condition) => conditions.push(condition),
            Err(error) => {
                none.reason = error.to_string();
                return none;
            }
        }
    }
    let mut fit: Vec<(usize, f64)> = Vec::new();
    let mut unknown = 0u64;
    for (index, result) in results.iter().enumerate().filter(|(_, result)| counts(plan, result)) {
        let held: Vec<Option<bool>> = conditions.iter().map(|condition| condition.holds(&result.measures)).collect();
        match goodness(&result.measures, objective) {
            Some(value) if held.iter().all(|held| *held == Some(true)) => fit.push((index, value)),
            Some(_) if !held.contains(&None) => {}
            // It may have met everything; nobody knows.
            _ => unknown += 1,
        }
    }
    if unknown > 0 {
        diagnostics.push(Diagnostic {
            code: "objective_unknown".to_owned(),
            severity: Severity::Warn,
            count: unknown,
            first: format!("{unknown} results lack a measure of the objective or of a condition and were left out"),
        });
    }
    fit.sort_by(|a, b| b.1.total_cmp(&a.1));
    let Some((winner, _)) = fit.first().copied() else {
        none.reason = if !results.iter().any(|result| counts(plan, result)) {
            "no point has a result that may be relied on".to_owned()
        } else if conditions.is_empty() {
            format!("no result has `{objective}`")
        } else {
            format!("no result meets {}", plan.constraints.join(" and "))
        };
        return none;
    };
    let interval = |index: usize| results[index].measures.get(measure).and_then(|summary| summary.ci95);
    let mut alike = Vec::new();
    let mut without_interval = false;
    for (index, _) in &fit[1..] {
        match (interval(winner), interval(*index)) {
            (Some(a), Some(b)) if a[0] <= b[1] && b[0] <= a[1] => alike.push(*index as u32),
            (Some(_), Some(_)) => {}
            _ => without_interval = true,
        }
    }
    let others = fit.len() - 1;
    let reason = if others == 0 {
        "it is the only result that meets the conditions".to_owned()
    } else if without_interval {
        "some results have too few values for an interval, so a neighbour may be as good".to_owned()
    } else if alike.is_empty() {
        format!("its 95 % interval lies apart from those of all {others} others")
    } else {
        let (verb, own) = if alike.len() == 1 { ("reaches", "it is") } else { ("reach", "they are") };
        format!("the 95 % interval of {} of {others} others {verb} into its own: {own} not told apart", alike.len())
    };
    Best {
        value: results[winner].measures.get(measure).and_then(|summary| statistic(summary, part)),
        result: Some(winner as u32),
        not_told_apart: alike,
        candidates: fit.len() as u64,
        reason,
        command_line: plan.points.get(results[winner].point as usize).map(|point| command_line(plan, point)),
        ..none
    }
}

/// Whether a result may be best: it has measures, and its run does not call itself INVALID.
fn counts(plan: &SweepPlanFile, result: &SweepResult) -> bool {
    result.case.is_some() && (plan.allow_invalid || result.valid != Some(false))
}

/// What runs the point by itself, to be typed into a shell.
fn command_line(plan: &SweepPlanFile, point: &PlannedPoint) -> String {
    let (environment, settings): (Vec<&String>, Vec<&String>) =
        point.overrides.iter().partition(|text| text.starts_with("env."));
    let mut words: Vec<String> = Vec::new();
    for text in environment {
        if let Some((name, value)) = text.strip_prefix("env.").and_then(|rest| rest.split_once('=')) {
            words.push(format!("{name}={}", shell_word(value)));
        }
    }
    words.extend(["perfprof".to_owned(), plan.runs.clone()]);
    words.extend(settings.iter().map(|text| shell_word(text)));
    words.join(" ")
}

/// One word of a POSIX shell.
fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./=:,+@%^".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// The results that no other beats in all measures at once.
fn front(plan: &SweepPlanFile, results: &[SweepResult], diagnostics: &mut Diagnostics) -> ParetoFront {
    let measures = plan.pareto.as_slice();
    let neutral: Vec<&String> =
        measures.iter().filter(|name| kind(split(name).0).direction == Direction::Neutral).collect();
    for name in neutral {
        diagnostics.note(
            "pareto_neutral",
            Severity::Warn,
            format!("`{name}` has no better side: it can have no front"),
        );
    }
    let mut placed: Vec<(u32, Vec<f64>)> = Vec::new();
    let mut left_out = 0;
    for (index, result) in results.iter().enumerate().filter(|(_, result)| counts(plan, result)) {
        let values: Option<Vec<f64>> = measures.iter().map(|name| goodness(&result.measures, name)).collect();
        match values {
            Some(values) => placed.push((index as u32, values)),
            None => left_out += 1,
        }
    }
    let beaten = |values: &[f64]| {
        placed.iter().any(|(_, other)| {
            other.iter().zip(values).all(|(other, own)| other >= own)
                && other.iter().zip(values).any(|(o, own)| o > own)
        })
    };
    let mut kept: Vec<&(u32, Vec<f64>)> = placed.iter().filter(|(_, values)| !beaten(values)).collect();
    kept.sort_by(|a, b| b.1[0].total_cmp(&a.1[0]).then(a.0.cmp(&b.0)));
    ParetoFront { measures: measures.to_vec(), results: kept.iter().map(|(index, _)| *index).collect(), left_out }
}

/// Maps of the objective and of the measures of the front over the first two axes, one for each combination of the rest.
fn heat_maps(
    plan: &SweepPlanFile,
    axes: &[Axis],
    results: &[SweepResult],
    diagnostics: &mut Diagnostics,
) -> Vec<HeatMap> {
    let mut names: Vec<String> = Vec::new();
    for name in plan.objective.iter().chain(&plan.pareto) {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    if names.is_empty() {
        names.extend(usual_maps(&plan.runs).map(str::to_owned));
    }
    // The longest axes make the map; ties go to the plan's order.
    let mut longest: Vec<&Axis> = axes.iter().collect();
    longest.sort_by_key(|axis| std::cmp::Reverse(axis.values.len()));
    let [x, y, rest @ ..] = longest.as_slice() else { return Vec::new() };
    let cases: BTreeSet<&str> = results.iter().filter_map(|result| result.case.as_deref()).collect();
    // A case is named after the settings of its point, so that it tells nothing new unless points have several.
    let several = plan_has_several_cases(results);
    let mut combinations: Vec<BTreeMap<String, String>> = vec![BTreeMap::new()];
    for axis in rest {
        combinations = combinations
            .iter()
            .flat_map(|fixed| {
                axis.values.iter().map(|value| {
                    let mut fixed = fixed.clone();
                    fixed.insert(axis.key.clone(), value.clone());
                    fixed
                })
            })
            .collect();
        if combinations.len() > MOST_MAPS {
            break;
        }
    }
    if several {
        combinations = combinations
            .iter()
            .flat_map(|fixed| {
                cases.iter().map(|case| {
                    let mut fixed = fixed.clone();
                    fixed.insert(CASE.to_owned(), (*case).to_owned());
                    fixed
                })
            })
            .collect();
    }
    if combinations.len() * names.len() > MOST_MAPS {
        diagnostics.note(
            "heat_maps_left_out",
            Severity::Info,
            format!(
                "{} combinations of the other keys are too many for maps; the table has every point",
                combinations.len()
            ),
        );
        return Vec::new();
    }
    let mut maps = Vec::new();
    for name in &names {
        for fixed in &combinations {
            maps.extend(heat_map(name, x, y, fixed, results));
        }
    }
    maps
}

fn plan_has_several_cases(results: &[SweepResult]) -> bool {
    results.windows(2).any(|pair| pair[0].point == pair[1].point)
}

fn heat_map(
    name: &str,
    x: &Axis,
    y: &Axis,
    fixed: &BTreeMap<String, String>,
    results: &[SweepResult],
) -> Option<HeatMap> {
    let (measure, part) = split(name);
    let mut unit = None;
    let mut values = Vec::new();
    let mut missing = Vec::new();
    let fits = |result: &SweepResult| {
        fixed.iter().all(|(key, value)| {
            if key == CASE && !result.settings.contains_key(CASE) {
                result.case.as_ref().is_none_or(|case| case == value)
            } else {
                result.settings.get(key) == Some(value)
            }
        })
    };
    for down in &y.values {
        let (mut line, mut why) = (Vec::new(), Vec::new());
        for across in &x.values {
            let found: Vec<&SweepResult> = results
                .iter()
                .filter(|result| {
                    result.settings.get(&x.key) == Some(across)
                        && result.settings.get(&y.key) == Some(down)
                        && fits(result)
                })
                .collect();
            let value = match found.as_slice() {
                [one] => one.measures.get(measure).and_then(|summary| {
                    unit.get_or_insert_with(|| summary.unit.clone());
                    statistic(summary, part)
                }),
                // Several points stand here, told apart by a key that is no axis of the map: one number would hide the others.
                _ => None,
            };
            why.push(match (value, found.as_slice()) {
                (Some(_), _) => None,
                (None, []) => Some("not planned".to_owned()),
                (None, [one]) if one.case.is_some() => Some("no value".to_owned()),
                (None, [one]) => Some(status_name(one.status).replace('_', " ")),
                (None, several) => Some(format!("{} points", several.len())),
            });
            line.push(value);
        }
        values.push(line);
        missing.push(why);
    }
    // A map without a single number says nothing that the table does not.
    let unit = unit?;
    // Nor does one of points that form no grid, as those drawn at random.
    let cells = x.values.len() * y.values.len();
    let planned = missing.iter().flatten().filter(|why| why.as_deref() != Some("not planned")).count();
    if planned * 3 < cells {
        return None;
    }
    Some(HeatMap { measure: name.to_owned(), unit, x: x.clone(), y: y.clone(), fixed: fixed.clone(), values, missing })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::sweep::CaseResult;

    fn plan(points: &[&[(&str, &str)]]) -> SweepPlanFile {
        SweepPlanFile {
            schema_version: 1,
            run_id: "s".to_owned(),
            runs: "stage1".to_owned(),
            name: "grid".to_owned(),
            points: points
                .iter()
                .enumerate()
                .map(|(index, settings)| PlannedPoint {
                    settings: settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
                    overrides: Vec::new(),
                    fingerprint: format!("f{index}"),
                })
                .collect(),
            order: (0..points.len() as u32).collect(),
            objective: Some("decode_tok_per_s".to_owned()),
            constraints: vec!["ttft_ms<100".to_owned()],
            pareto: vec!["decode_tok_per_s".to_owned(), "ttft_ms".to_owned()],
            allow_invalid: false,
            diagnostics: Vec::new(),
        }
    }

    fn row(point: u32, status: RowStatus, speeds: &[f64], ttft: f64) -> SweepRow {
        let measures = BTreeMap::from([
            ("decode_tok_per_s".to_owned(), Summary::from_values("tok/s", speeds)),
            ("ttft_ms".to_owned(), Summary::from_values("ms", &[ttft])),
        ]);
        let cases =
            if status == RowStatus::Ok { vec![CaseResult { case: format!("c{point}"), measures }] } else { Vec::new() };
        SweepRow {
            schema_version: 1,
            run_id: "s".to_owned(),
            point,
            attempt: 0,
            fingerprint: format!("f{point}"),
            child: format!("p{point}"),
            status,
            error: (status != RowStatus::Ok).then(|| "out of memory".to_owned()),
            valid: Some(true),
            started_at: String::new(),
            took_s: 1.0,
            cases,
        }
    }

    const GRID: [&[(&str, &str)]; 4] = [
        &[("batch", "1"), ("prompt_tokens", "32")],
        &[("batch", "1"), ("prompt_tokens", "512")],
        &[("batch", "4"), ("prompt_tokens", "32")],
        &[("batch", "4"), ("prompt_tokens", "512")],
    ];

    #[test]
    fn the_best_point_meets_the_conditions_and_says_who_is_as_good() {
        let rows = [
            row(0, RowStatus::Ok, &[10.0, 10.2, 9.8], 20.0),
            row(1, RowStatus::Ok, &[9.9, 10.1, 10.0], 90.0),
            row(2, RowStatus::Ok, &[30.0, 30.1, 29.9], 150.0),
            row(3, RowStatus::Oom, &[], 0.0),
        ];
        let metrics = summarize(&plan(&GRID), &rows, Ending::Complete, &[]);
        let best = metrics.best.unwrap();
        assert_eq!((best.result, best.candidates, best.not_told_apart.as_slice()), (Some(0), 2, &[1][..]));
        assert!(best.reason.contains("not told apart"), "{}", best.reason);
        // 2 is fastest, 0 answers first and is not slower than 1 by the median, which is 10 for both, so 1 is beaten.
        assert_eq!(metrics.pareto.unwrap().results, [2, 0]);
        assert_eq!(metrics.outcomes, BTreeMap::from([("ok".to_owned(), 3), ("oom".to_owned(), 1)]));
        assert_eq!(metrics.status, "complete");
        let map = &metrics.heat_maps[0];
        assert_eq!((map.x.key.as_str(), map.y.key.as_str()), ("batch", "prompt_tokens"));
        assert_eq!(map.values, [[Some(10.0), Some(30.0)], [Some(10.0), None]]);
        assert_eq!(map.missing[1][1].as_deref(), Some("oom"));
    }

    #[test]
    fn nothing_is_best_where_nothing_meets_the_conditions() {
        let rows = [row(0, RowStatus::Ok, &[10.0, 10.0], 500.0)];
        let metrics = summarize(&plan(&GRID[..1]), &rows, Ending::Complete, &[]);
        let best = metrics.best.unwrap();
        assert_eq!((best.result, best.reason.as_str()), (None, "no result meets ttft_ms<100"));
    }

    #[test]
    fn points_of_other_settings_and_missing_points_are_not_counted_as_results() {
        let mut stale = row(0, RowStatus::Ok, &[10.0], 1.0);
        stale.fingerprint = "another".to_owned();
        let metrics = summarize(&plan(&GRID), &[stale], Ending::Interrupted, &[]);
        assert_eq!(metrics.outcomes["not_run"], 4);
        assert_eq!(metrics.status, "interrupted");
        assert!(metrics.best.unwrap().result.is_none());
    }

    #[test]
    fn a_front_is_what_brute_force_finds() {
        // Every pair of small numbers: a point is on the front if no other is at least as good in both and better in one.
        let mut rows = Vec::new();
        let mut points: Vec<[(&str, &str); 1]> = Vec::new();
        let names: Vec<String> = (0..25).map(|index| index.to_string()).collect();
        for (index, name) in names.iter().enumerate() {
            points.push([("seed", name)]);
            let speed = ((index * 7) % 5) as f64 + 1.0;
            let ttft = ((index * 11) % 6) as f64 + 1.0;
            rows.push(row(index as u32, RowStatus::Ok, &[speed], ttft));
        }
        let points: Vec<&[(&str, &str)]> = points.iter().map(|point| &point[..]).collect();
        let metrics = summarize(&plan(&points), &rows, Ending::Complete, &[]);
        let of = |index: u32| {
            let measures = &metrics.results[index as usize].measures;
            (measures["decode_tok_per_s"].p50.unwrap(), measures["ttft_ms"].p50.unwrap())
        };
        let mut truth: Vec<u32> = (0..25)
            .filter(|index| {
                !(0..25).any(|other| {
                    let (a, b) = (of(*index), of(other));
                    b.0 >= a.0 && b.1 <= a.1 && (b.0 > a.0 || b.1 < a.1)
                })
            })
            .collect();
        let mut found = metrics.pareto.clone().unwrap().results;
        truth.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, truth);
    }

    #[test]
    fn results_that_must_not_be_relied_on_are_never_best() {
        let mut fast = row(0, RowStatus::Ok, &[100.0, 100.0], 1.0);
        fast.valid = Some(false);
        let slow = row(1, RowStatus::Ok, &[10.0, 10.0], 50.0);
        let rows = [fast, slow];
        let strict = summarize(&plan(&GRID[..2]), &rows, Ending::Complete, &[]);
        assert_eq!(strict.best.as_ref().unwrap().result, Some(1));
        assert_eq!(strict.pareto.unwrap().results, [1]);
        assert!(strict.validity.is_valid());
        let relaxed =
            summarize(&SweepPlanFile { allow_invalid: true, ..plan(&GRID[..2]) }, &rows, Ending::Complete, &[]);
        assert_eq!(relaxed.best.unwrap().result, Some(0));
        let none = summarize(&plan(&GRID[..1]), &rows[..1], Ending::Complete, &[]);
        assert_eq!(none.status, "invalid");
        assert_eq!(none.validity.reasons, ["every point that ended well calls itself INVALID"]);
        assert!(none.best.unwrap().command_line.is_none());
    }

    #[test]
    fn a_sweep_of_failures_says_why_they_failed() {
        let mut failed = row(1, RowStatus::Failed, &[], 0.0);
        failed.error = Some("the model is gone".to_owned());
        let metrics = summarize(&plan(&GRID[..2]), &[row(0, RowStatus::Oom, &[], 0.0), failed], Ending::Complete, &[]);
        assert_eq!(
            metrics.validity.reasons,
            [
                "no point of 2 ended well",
                "1 did not fit into the memory, the first because: out of memory",
                "1 failed, the first because: the model is gone"
            ]
        );
    }

    #[test]
    fn rows_find_their_point_after_the_plan_has_moved_it() {
        let mut moved = plan(&GRID);
        moved.points.rotate_left(1);
        let rows = [row(2, RowStatus::Ok, &[10.0], 1.0)];
        assert_eq!(moved.point_of(&rows[0]), Some(1));
        moved.points[0].fingerprint = "f2".to_owned();
        moved.points[1].fingerprint = "f2".to_owned();
        assert_eq!(moved.point_of(&rows[0]), None, "two points could be meant");
    }

    #[test]
    fn the_best_point_comes_with_a_command_line_for_a_shell() {
        let mut plan = plan(&GRID[..1]);
        plan.points[0].overrides = ["prompt=it's me", "env.A=b c", "batch=1"].map(str::to_owned).to_vec();
        let best = summarize(&plan, &[row(0, RowStatus::Ok, &[10.0], 1.0)], Ending::Complete, &[]).best.unwrap();
        assert_eq!(best.command_line.as_deref(), Some("A='b c' perfprof stage1 'prompt=it'\\''s me' batch=1"));
    }

    #[test]
    fn points_that_form_no_grid_have_no_map() {
        let names: Vec<String> = (0..9).map(|index| index.to_string()).collect();
        let settings: Vec<[(&str, &str); 2]> =
            names.iter().map(|name| [("a", name.as_str()), ("b", name.as_str())]).collect();
        let points: Vec<&[(&str, &str)]> = settings.iter().map(|point| &point[..]).collect();
        let rows: Vec<SweepRow> = (0..9).map(|index| row(index, RowStatus::Ok, &[10.0], 1.0)).collect();
        assert!(summarize(&plan(&points), &rows, Ending::Complete, &[]).heat_maps.is_empty());
    }
}
