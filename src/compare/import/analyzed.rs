//! The `metrics.json` of `perfprof analyze` as a subject.
//!
//! The module that writes it stands above this one, so the part of it that is read has a form of its own here. What is missing is null, so that
//! files of earlier versions are read too.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::builder::{Builder, Series, clipped};
use super::error::ImportError;
use super::trace::{
    GPUS, GRAPH_STATE, OperatorRow, PHASES, STEPS_BY, StepValues, WORKLOAD, operator_times, step_measures,
};
use crate::compare::subject::{OperatorTime, Subject, SubjectKind, fact};
use crate::diagnostics::{Diagnostic, Severity, Validity};
use crate::stats::summary::Summary;

/// Newest version of the file that is read.
const KNOWN_VERSION: u64 = 1;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Metrics {
    run_id: String,
    validity: Option<Validity>,
    measures: BTreeMap<String, Summary>,
    inputs: Vec<Input>,
    coverage: Coverage,
    devices: Vec<Device>,
    phases: Vec<Phase>,
    steps: Steps,
    operators: Vec<Operator>,
    diagnostics: Vec<Diagnostic>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Input {
    name: String,
    tool: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Coverage {
    graph_state: Option<String>,
    detail: Detail,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Detail {
    trust: Trust,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Trust {
    kernel_shares: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Device {
    name: Option<String>,
    window_ns: i64,
    busy_ns: i64,
    idle_ns: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Phase {
    name: String,
    steps: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Steps {
    workload: Option<String>,
    source: Option<String>,
    table: Vec<Step>,
    #[serde(rename = "steps_omitted")]
    omitted: u64,
    hints: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Step {
    start_ns: i64,
    end_ns: i64,
    phase: usize,
    kernels: u64,
    busy_ns: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Operator {
    class: String,
    name: String,
    phase: Option<String>,
    layer: Option<u32>,
    module: Option<String>,
    calls: u64,
    total_ns: i64,
}

/// The analysis in `metrics`, the content of `file`, as a subject, labelled with `tag`, else its run id.
///
/// # Errors
/// If it was written by a later perfprof, or is no such file.
pub fn analyzed_subject(file: &str, metrics: &Value, tag: Option<&str>) -> Result<Subject, ImportError> {
    let version = metrics.get("schema_version").and_then(Value::as_u64).unwrap_or(0);
    if version > KNOWN_VERSION {
        return Err(ImportError::NewerSchema { file: file.to_owned(), found: version, known: KNOWN_VERSION as u32 });
    }
    let parsed: Result<Metrics, _> = serde_path_to_error::deserialize(metrics);
    let metrics = parsed.map_err(|error| ImportError::Unusable {
        file: file.to_owned(),
        format: "metrics.json of `perfprof analyze`".to_owned(),
        reason: format!("{}: {}", error.path(), error.inner()),
    })?;
    let run_id = if metrics.run_id.is_empty() { file.to_owned() } else { metrics.run_id.clone() };
    let mut tools: Vec<String> =
        metrics.inputs.iter().map(|input| input.tool.clone()).filter(|tool| !tool.is_empty()).collect();
    tools.sort();
    tools.dedup();
    let tool = tools.join(", ");
    let mut builder = Builder::new(SubjectKind::Trace, tag.unwrap_or(&run_id), &tool);
    builder.extend(metrics.diagnostics.iter().cloned());
    measures(&mut builder, &metrics);
    facts(&mut builder, &metrics, tool);
    let operators = operators(&metrics);
    let subject = builder.subject();
    subject.run_ids = vec![clipped(&run_id)];
    subject.files = metrics.inputs.iter().map(|input| clipped(&input.name)).collect();
    subject.outcomes.ok = metrics.phases.iter().map(|phase| phase.steps).fold(0, u64::saturating_add);
    subject.operators = operators;
    subject.validity = metrics.validity.unwrap_or_else(|| Validity::from_reasons(Vec::new()));
    Ok(builder.finish())
}

fn measures(builder: &mut Builder, metrics: &Metrics) {
    let coverage = &metrics.coverage;
    let kernels_seen =
        coverage.graph_state.as_deref() != Some("hidden") && coverage.detail.trust.kernel_shares.unwrap_or(true);
    for (row, phase) in metrics.phases.iter().enumerate() {
        let steps: Vec<StepValues> = metrics
            .steps
            .table
            .iter()
            .filter(|step| step.phase == row)
            .map(|step| StepValues {
                wall_ns: step.end_ns.saturating_sub(step.start_ns),
                busy_ns: step.busy_ns,
                kernels: step.kernels,
            })
            .collect();
        if !steps.is_empty() {
            step_measures(builder, &phase.name, &steps, kernels_seen);
        } else if let Some((names, summary)) = PHASES
            .iter()
            .find(|names| names.phase == phase.name)
            .and_then(|names| Some((names, metrics.measures.get(&format!("{}_step_ms", phase.name))?)))
        {
            builder.series(None, &Series::of(names.step, "ms", Vec::new()).reported(Some(summary.clone())), 0);
        }
    }
    if metrics.steps.omitted > 0 {
        let first = format!(
            "the file lists the first {} steps; {} later ones are not among the values",
            metrics.steps.table.len(),
            metrics.steps.omitted
        );
        builder.note("steps_omitted", Severity::Warn, first);
    }
    // Null idle time means that busy time cannot be told from work that was not traced.
    let shares: Vec<f64> = metrics
        .devices
        .iter()
        .filter(|device| device.idle_ns.is_some() && device.window_ns > 0)
        .map(|device| device.busy_ns as f64 / device.window_ns as f64)
        .collect();
    builder.series(None, &Series::of("gpu_busy_ratio", "ratio", shares), 0);
}

fn facts(builder: &mut Builder, metrics: &Metrics, tool: String) {
    builder.fact(fact::TOOL, Some(tool).filter(|tool| !tool.is_empty()));
    let mut names: Vec<String> = metrics.devices.iter().filter_map(|device| device.name.clone()).collect();
    names.sort();
    names.dedup();
    builder.fact(fact::GPU, Some(names.join(", ")).filter(|names| !names.is_empty()));
    builder.fact(GPUS, Some(metrics.devices.len().to_string()));
    builder.fact(GRAPH_STATE, metrics.coverage.graph_state.clone());
    builder.fact(STEPS_BY, metrics.steps.source.clone());
    let workload = metrics.steps.workload.clone().filter(|workload| workload != "unknown");
    builder.fact(WORKLOAD, workload);
    builder.fact("shape_hints", Some(metrics.steps.hints.join("; ")).filter(|hints| !hints.is_empty()));
    for phase in metrics.phases.iter().filter(|phase| phase.steps > 0) {
        builder.fact(&format!("steps.{}", clipped(&phase.name)), Some(phase.steps.to_string()));
    }
}

/// The rows over all layers and modules: the tables by layer and by module hold the same time again.
fn operators(metrics: &Metrics) -> Vec<OperatorTime> {
    let steps_of = |name: &str| metrics.phases.iter().find(|phase| phase.name == name).map_or(0, |phase| phase.steps);
    let rows = metrics.operators.iter().filter(|row| row.layer.is_none() && row.module.is_none()).filter_map(|row| {
        let phase = row.phase.clone().unwrap_or_else(|| "unknown".to_owned());
        Some(OperatorRow {
            steps: steps_of(&phase),
            phase,
            class: row.class.clone(),
            name: row.name.clone(),
            calls: row.calls,
            total_ns: u64::try_from(row.total_ns).ok()?,
        })
    });
    operator_times(rows)
}
