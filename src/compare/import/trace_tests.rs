//! Traces and their analyses as subjects: a trace made by hand, and the same trace as `metrics.json` tells of it.

use serde_json::{Value, json};

use super::ImportError;
use super::analyzed::analyzed_subject;
use super::trace::{GPUS, GRAPH_STATE, STEPS_BY, TraceParts, stem, trace_subject};
use crate::analysis::coverage::coverage;
use crate::analysis::steps::{Phase, PhaseColumns, Step, StepSource, Steps, Workload};
use crate::compare::subject::{MeasureValues, Subject, SubjectKind, fact};
use crate::diagnostics::ValidityStatus;
use crate::trace::builder::TimelineBuilder;
use crate::trace::places::Source;
use crate::trace::timeline::Timeline;

/// Two kernels of 2 and 4 µs that overlap by 1 µs, then 5 µs of nothing, then one of 1 µs: busy 6 of 11 µs.
fn timeline() -> Timeline {
    let mut b = TimelineBuilder::new();
    let process = b.process(1);
    let thread = b.thread(process, 1);
    let device = b.device(0);
    b.timeline().devices[0].name = Some("GPU X".to_owned());
    b.timeline().devices[0].clock_hz = Some(1.98e9);
    b.timeline().sources.push(Source {
        tool: "nsys".to_owned(),
        version: Some("2025.1".to_owned()),
        ..Source::default()
    });
    let (one, two) = (b.stream(process, device, 7), b.stream(process, device, 8));
    for (index, (stream, start, end)) in
        [(one, 10_000, 12_000), (two, 11_000, 15_000), (one, 20_000, 21_000)].into_iter().enumerate()
    {
        let id = index as u32 + 1;
        b.call(thread, "cudaLaunchKernel", start - 5_000, start - 4_000, id);
        b.kernel(stream, "k", start, end, id);
    }
    b.finish()
}

fn phase(name: &str, steps: u64) -> Phase {
    Phase {
        name: name.to_owned(),
        steps,
        kernels: 0,
        copies_and_sets: 0,
        graphs: 0,
        gpu_sum_ns: 0,
        busy_union_ns: 0,
        wall_ns: None,
        step_ns: None,
        kernels_per_step: None,
        launches_per_step: None,
    }
}

fn steps() -> Steps {
    let step = |phase: u16, start_ns: i64, end_ns: i64, busy_ns: i64, kernels: u32| Step {
        start_ns,
        end_ns,
        phase,
        kernels,
        launches: kernels,
        busy_ns,
        gpu_sum_ns: busy_ns,
    };
    let all = vec![
        step(1, 0, 5_000_000, 4_000_000, 40),
        step(2, 5_000_000, 6_000_000, 900_000, 10),
        step(2, 6_000_000, 7_500_000, 1_000_000, 10),
        step(0, 8_000_000, 9_000_000, 1, 1),
    ];
    Steps {
        workload: Workload::Inference,
        source: StepSource::PhaseRanges,
        confidence: Some(0.9),
        evidence: Vec::new(),
        phases: vec![phase("outside", 1), phase("prefill", 1), phase("decode", 2)],
        table: all.clone(),
        steps_omitted: 0,
        drift: Vec::new(),
        stragglers: Vec::new(),
        stragglers_omitted: 0,
        hints: vec!["batch 8".to_owned()],
        columns: PhaseColumns { steps: all, ..PhaseColumns::default() },
    }
}

fn imported(timeline: &Timeline, steps: &Steps) -> Subject {
    let coverage = coverage(timeline);
    let files = ["a.sqlite".to_owned()];
    trace_subject(&TraceParts { timeline, coverage: &coverage, steps, files: &files, diagnostics: &[] })
}

#[track_caller]
fn measure<'a>(subject: &'a Subject, name: &str) -> &'a MeasureValues {
    subject
        .measures
        .iter()
        .find(|values| values.name == name)
        .unwrap_or_else(|| panic!("no `{name}` in {:?}", subject.measures))
}

fn told<'a>(subject: &'a Subject, name: &str) -> Option<&'a str> {
    subject.facts.get(name).and_then(Option::as_deref)
}

#[test]
fn steps_of_a_trace_are_its_values() {
    let got = imported(&timeline(), &steps());
    assert_eq!((got.kind, got.label.as_str(), got.tool.as_str()), (SubjectKind::Trace, "a", "nsys 2025.1"));
    for (name, values) in [
        ("prefill_step_ms", &[5.0][..]),
        ("prefill_step_gpu_busy_ms", &[4.0]),
        ("prefill_step_kernels", &[40.0]),
        ("decode_step_ms", &[1.0, 1.5]),
        ("decode_step_gpu_busy_ms", &[0.9, 1.0]),
        ("decode_step_kernels", &[10.0, 10.0]),
        ("gpu_busy_ratio", &[6.0 / 11.0]),
    ] {
        assert_eq!(measure(&got, name).values, values, "{name}");
    }
    assert_eq!(got.measures.len(), 7);
    assert_eq!(
        (told(&got, fact::GPU), told(&got, fact::CLOCK_MHZ), told(&got, GPUS)),
        (Some("GPU X"), Some("1980"), Some("1"))
    );
    assert_eq!((told(&got, GRAPH_STATE), told(&got, STEPS_BY)), (Some("absent"), Some("phase_ranges")));
    assert_eq!((told(&got, "steps.decode"), told(&got, "shape_hints")), (Some("2"), Some("batch 8")));
}

#[test]
fn a_trace_without_device_work_is_an_invalid_subject() {
    let mut none = steps();
    none.columns.steps.clear();
    let got = imported(&Timeline::default(), &none);
    assert_eq!((got.validity.status, got.measures.len()), (ValidityStatus::Invalid, 0));
    assert!(got.diagnostics.iter().any(|found| found.code == "no_steps"));
}

/// `metrics.json` as `perfprof analyze` would write it of the trace above.
fn metrics() -> Value {
    let table: Vec<Value> = steps().table.iter().map(|step| serde_json::to_value(step).unwrap()).collect();
    json!({
        "schema_version": 1, "command": "analyze", "run_id": "20260101-000000-bbbb", "status": "complete",
        "validity": {"status": "VALID", "reasons": []}, "measures": {},
        "inputs": [{"name": "a.sqlite", "bytes": 1, "tool": "nsys 2025.1"}],
        "coverage": {"graph_state": "absent", "detail": {"trust": {"kernel_shares": true}}},
        "devices": [{"id": 0, "name": "GPU X", "window_ns": 11_000, "busy_ns": 6_000, "idle_ns": 5_000}],
        "phases": [{"name": "outside", "steps": 1}, {"name": "prefill", "steps": 1}, {"name": "decode", "steps": 2}],
        "steps": {"workload": "inference", "source": "phase_ranges", "table": table, "steps_omitted": 0, "hints": ["batch 8"]},
        "operators": [
            {"class": "gemm", "name": "g", "phase": "decode", "layer": null, "module": null, "calls": 8, "total_ns": 800},
            {"class": "gemm", "name": "g", "phase": "decode", "layer": 0, "module": null, "calls": 8, "total_ns": 800},
            {"class": "gemm", "name": "g", "phase": "decode", "layer": null, "module": "mlp", "calls": 8, "total_ns": 800},
            {"class": "memcpy", "name": "c", "phase": "outside", "layer": null, "module": null, "calls": 1, "total_ns": 5}
        ],
        "diagnostics": [], "added_by_a_later_version": {"x": 1}
    })
}

#[test]
fn an_analysis_says_of_a_trace_what_the_trace_says() {
    let (of_trace, of_analysis) =
        (imported(&timeline(), &steps()), analyzed_subject("metrics.json", &metrics(), None).unwrap());
    assert_eq!(of_analysis.measures, of_trace.measures);
    let mut facts = of_trace.facts;
    // The one thing the summary leaves out.
    facts.remove(fact::CLOCK_MHZ);
    assert_eq!(
        of_analysis.facts,
        facts
            .into_iter()
            .filter(|(name, _)| name != "steps.outside")
            .chain([("steps.outside".to_owned(), Some("1".to_owned()))])
            .collect()
    );
    assert_eq!(
        (of_analysis.label.as_str(), of_analysis.files.as_slice()),
        ("20260101-000000-bbbb", &["a.sqlite".to_owned()][..])
    );
    let operators: Vec<_> = of_analysis
        .operators
        .iter()
        .map(|row| (row.name.as_str(), row.phase.as_str(), row.repeats, row.total_ns))
        .collect();
    assert_eq!(operators, [("g", "decode", 2, 800), ("c", "outside", 1, 5)]);
}

#[test]
fn an_analysis_of_a_later_version_is_refused_with_it() {
    let mut newer = metrics();
    newer["schema_version"] = json!(7);
    let error = analyzed_subject("metrics.json", &newer, None).unwrap_err();
    assert_eq!(error, ImportError::NewerSchema { file: "metrics.json".to_owned(), found: 7, known: 1 });
    assert!(error.to_string().contains("schema_version 7 is newer than 1"), "{error}");
}

#[test]
fn what_an_analysis_refuses_is_no_measure() {
    let mut refused = metrics();
    refused["devices"][0]["idle_ns"] = Value::Null;
    refused["coverage"] = json!({"graph_state": "hidden"});
    refused["steps"]["steps_omitted"] = json!(3);
    let got = analyzed_subject("metrics.json", &refused, Some("tagged")).unwrap();
    assert!(!got.measures.iter().any(|values| values.name == "gpu_busy_ratio" || values.name.ends_with("_kernels")));
    assert!(got.diagnostics.iter().any(|found| found.code == "steps_omitted"));
    assert_eq!(got.label, "tagged");
}

#[test]
fn a_damaged_analysis_names_the_key() {
    let mut damaged = metrics();
    damaged["devices"][0]["busy_ns"] = json!("much");
    let error = analyzed_subject("metrics.json", &damaged, None).unwrap_err().to_string();
    assert!(error.contains("devices[0].busy_ns"), "{error}");
}

#[test]
fn the_stem_of_a_trace_is_its_name_without_what_tools_append() {
    for (file, name) in [("a.pt.trace.json.gz", "a"), ("v1.2.sqlite", "v1.2"), ("plain", "plain"), (".json", ".json")] {
        assert_eq!(stem(file), name);
    }
}
