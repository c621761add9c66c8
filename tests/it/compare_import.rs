//! What `compare`, `ab` and `sweep` read: runs written by perfprof itself, however they ended, real files of other tools, and bad ones.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests fail as tests do, and say what they skip"
)]

use std::fs;
use std::path::{Path, PathBuf};

use perfprof::commands::compare::inputs::{LoadOptions, Loaded, load_subject};
use perfprof::compare::import::labels;
use perfprof::compare::import::trace::trace_operators;
use perfprof::compare::subject::{MeasureValues, OperatorTime, Subject, SubjectKind, fact};
use perfprof::diagnostics::{ExitStatus, Severity, render_error, status_of};
use perfprof::record::inputs::{Inputs, PromptInput, to_yaml};
use perfprof::record::run_dir::RunOptions;
use perfprof::record::spans::SpanLine;
use perfprof::record::{RowsWriter, RunDir, RunStatus, environment};
use perfprof::stats::summary::Summary;
use perfprof::trace::timeline::{NONE, SpanKind, SpanRow, Timeline};
use serde_json::{Value, json};

use crate::sandbox::Sandbox;

fn shared(below: &str) -> Option<PathBuf> {
    let root = std::env::var_os("PERFPROF_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let path = root.join(below);
    if !path.exists() {
        eprintln!("skipped: no `{}`", path.display());
        return None;
    }
    Some(path.canonicalize().unwrap())
}

fn load_with(root: &Path, spec: &str, salvage: bool) -> anyhow::Result<Loaded> {
    load_subject(spec, None, &LoadOptions { root, salvage, traces_of_runs: true, cancelled: &|| false })
}

#[track_caller]
fn load(root: &Path, spec: &str) -> Loaded {
    load_with(root, spec, false).unwrap_or_else(|error| panic!("{}", render_error(&error)))
}

#[track_caller]
fn refused(root: &Path, path: &Path) -> (String, ExitStatus) {
    let error = load_with(root, path.to_str().unwrap(), false).expect_err("it was read");
    (render_error(&error), status_of(&error))
}

#[track_caller]
fn measure<'a>(subject: &'a Subject, name: &str) -> &'a MeasureValues {
    let found = subject.measures.iter().find(|values| values.name == name);
    found.unwrap_or_else(|| panic!("no `{name}` in {:?}", subject.measures.iter().map(|m| &m.name).collect::<Vec<_>>()))
}

fn told<'a>(subject: &'a Subject, name: &str) -> Option<&'a str> {
    subject.facts.get(name).and_then(Option::as_deref)
}

fn counted(subject: &Subject, code: &str) -> u64 {
    subject.diagnostics.iter().filter(|found| found.code == code).map(|found| found.count).sum()
}

fn row(index: u32, tpot_ms: f64, spans: bool) -> Value {
    json!({
        "schema_version": 1, "run_id": "r", "index": index, "case": "p8", "repeat": index, "spans": spans, "status": "ok", "error": null,
        "model": "synthetic", "backend": "candle", "dtype": "f32", "device": "cpu", "batch": 1, "prompt_len": 8, "new_tokens": 3,
        "mode": "single_pass", "started_at": "2026-01-01T00:00:00.000Z", "ttft_ms": 5.0, "prefill_ms": 5.0, "decode_ms": 2.0 * tpot_ms,
        "total_ms": 5.0 + 2.0 * tpot_ms, "remainder_ms": 0.0, "tpot_ms": tpot_ms, "itl_ms": [tpot_ms, tpot_ms],
        "prefill_tok_per_s": 1600.0, "decode_tok_per_s": 1e3 / tpot_ms, "total_tok_per_s": 1.0, "ttft_s": null, "tpot_s": null,
        "dt_full_s": null, "tok_s": null, "peak_memory_allocated_gb": null,
        "memory": {"peak_rss_bytes": 1, "peak_vram_bytes": null, "weights_bytes": 2, "kv_cache_bytes": 3, "kv_used_bytes": 4, "activations_bytes": null},
        "contention": {"cpu_wall_ratio": null, "involuntary_switches": null, "voluntary_switches": null, "pressure_cpu_some": null, "other_cpu_share": null, "disturbed": false},
        "cpu_utilisation": null, "energy_j": null, "energy_source": null, "tokens": [1, 2, 3], "text": null, "finish_reason": "length", "diagnostics": []
    })
}

/// A run with rows, inputs and environment, as stage1 writes them; it has not ended.
fn begun(root: &Path, id: &str, tag: Option<&str>, tpot_ms: &[f64]) -> RunDir {
    let options = RunOptions {
        id: Some(id.to_owned()),
        tag: tag.map(str::to_owned),
        argv: Some(Vec::new()),
        config_sha256: None,
    };
    let run = RunDir::create_with(root, "stage1", options).unwrap();
    let mut rows = RowsWriter::create(&run.file("per_run.jsonl")).unwrap();
    for (index, tpot_ms) in tpot_ms.iter().enumerate() {
        rows.append(&row(index as u32, *tpot_ms, false)).unwrap();
    }
    rows.close().unwrap();
    let prompt = PromptInput::new("p8", "synthetic", &[1, 2, 3, 4, 5, 6, 7, 8], None, Some(3));
    let inputs = Inputs {
        schema_version: 1,
        count: 1,
        dataset_root: None,
        subset_filelist: None,
        seeds: [("prompt".to_owned(), 3)].into(),
        files: Vec::new(),
        prompts: vec![prompt],
    };
    run.write("inputs.yaml", to_yaml(&inputs).unwrap().as_bytes()).unwrap();
    run.write_json("env.json", &environment::capture(Value::Null)).unwrap();
    run
}

fn finished(root: &Path, id: &str, tag: Option<&str>, tpot_ms: &[f64]) -> PathBuf {
    let mut run = begun(root, id, tag, tpot_ms);
    run.finish(RunStatus::Complete, None).unwrap();
    run.path().to_owned()
}

#[test]
fn a_run_is_found_by_every_name_and_by_its_files() {
    let root = tempfile::tempdir().unwrap();
    let path = finished(root.path(), "20260101-000000-aaaa", Some("base"), &[2.0, 4.0]);
    for spec in ["latest", "base", "20260101-000000-aaaa", "stage1/2026"] {
        let found = load(root.path(), spec);
        assert_eq!((found.subject.label.as_str(), found.subject.kind), ("base", SubjectKind::Stage1), "{spec}");
    }
    for spec in [path.clone(), path.join("run.json"), path.join("per_run.jsonl")] {
        let found = load(root.path(), spec.to_str().unwrap());
        assert_eq!(measure(&found.subject, "tpot_ms").values, [2.0, 4.0], "{}", spec.display());
        assert_eq!(measure(&found.subject, "itl_ms").values, [2.0, 2.0, 4.0, 4.0]);
        assert_eq!(told(&found.subject, "case:p8.prompt_tokens"), Some("8"));
        assert!(told(&found.subject, "case:p8.prompts_sha256").is_some() && told(&found.subject, fact::HOST).is_some());
        assert_eq!(told(&found.subject, fact::SEED), Some("prompt 3"));
        assert_eq!((found.label.tag.as_deref(), found.run_dir.is_some()), (Some("base"), true));
    }
    let named = LoadOptions { root: root.path(), salvage: false, traces_of_runs: false, cancelled: &|| false };
    assert_eq!(load_subject("base", Some("mine"), &named).unwrap().subject.label, "mine");
}

#[test]
fn equal_prompts_have_equal_hashes_and_others_do_not() {
    let root = tempfile::tempdir().unwrap();
    let hash = |id: &str| told(&load(root.path(), id).subject, "case:p8.prompts_sha256").unwrap().to_owned();
    finished(root.path(), "a", None, &[2.0]);
    finished(root.path(), "b", None, &[2.0]);
    let other = finished(root.path(), "c", None, &[2.0]);
    let inputs = fs::read_to_string(other.join("inputs.yaml")).unwrap();
    let at = inputs.find("token_ids_sha256: \"").unwrap() + "token_ids_sha256: \"".len();
    let flipped = if inputs.as_bytes()[at] == b'0' { "1" } else { "0" };
    fs::write(other.join("inputs.yaml"), format!("{}{flipped}{}", &inputs[..at], &inputs[at + 1..])).unwrap();
    assert_eq!(hash("a"), hash("b"));
    assert_ne!(hash("a"), hash("c"));
}

#[test]
fn spans_on_disk_become_operators() {
    let root = tempfile::tempdir().unwrap();
    let run = begun(root.path(), "r", None, &[2.0]);
    let mut text = fs::read(run.file("per_run.jsonl")).unwrap();
    text.extend_from_slice(format!("{}\n", row(1, 9.0, true)).as_bytes());
    fs::write(run.file("per_run.jsonl"), text).unwrap();
    let mut timeline = Timeline { device: "cpu".to_owned(), ..Timeline::default() };
    for (start_ns, end_ns, layer) in [(0, 10, 0), (10, 25, 1), (30, 37, 0)] {
        timeline.push_span(SpanRow {
            start_ns,
            end_ns,
            kind: SpanKind::Operator,
            name: "q_proj",
            parent: NONE,
            repeat: 1,
            phase: "decode",
            step: 1,
            layer,
            class: None,
            shape: "1x2",
            cost: perfprof::estimate::operator::Cost::default(),
            model_compute: true,
        });
    }
    let line = serde_json::to_string(&SpanLine::from_timeline(&timeline, 1)).unwrap();
    run.write("spans.jsonl", format!("{line}\n{}", &line[..line.len() / 2]).as_bytes()).unwrap();
    let found = load(root.path(), "r");
    let rows: Vec<_> =
        found.subject.operators.iter().map(|row| (row.layer, row.calls, row.total_ns, row.repeats)).collect();
    // Two steps were run and the first was recorded: its 17 and 15 ns stand for both, at the pace of the repeat without spans: 2 ms for 9.
    assert_eq!(rows, [(Some(0), 4, 8, 1), (Some(1), 2, 7, 1)]);
    // The repeat with spans is slower by its spans and is no value.
    assert_eq!(measure(&found.subject, "tpot_ms").values, [2.0]);
    assert_eq!(counted(&found.subject, "torn_last_spans"), 1);
    assert_eq!(found.spans.unwrap().spans.len(), 3);
}

#[test]
fn a_run_without_an_end_is_used_and_a_torn_row_is_counted() {
    let root = tempfile::tempdir().unwrap();
    let run = begun(root.path(), "r", None, &[2.0, 4.0]);
    let whole = fs::read(run.file("per_run.jsonl")).unwrap();
    fs::write(run.file("per_run.jsonl"), &whole[..whole.len() - 30]).unwrap();
    let subject = load(root.path(), "r").subject;
    assert_eq!(measure(&subject, "tpot_ms").values, [2.0]);
    assert_eq!((counted(&subject, "torn_last_row"), counted(&subject, "unfinished_run")), (1, 1));
    assert!(subject.diagnostics.iter().any(|found| found.severity == Severity::DataLoss));
}

#[test]
fn a_damaged_row_is_refused_by_line_and_salvaged_on_request() {
    let root = tempfile::tempdir().unwrap();
    let path = finished(root.path(), "r", None, &[2.0]);
    let lines = [row(0, 2.0, false).to_string(), "{\"schema_version\":1,".to_owned(), row(2, 4.0, false).to_string()];
    fs::write(path.join("per_run.jsonl"), lines.join("\n")).unwrap();
    let alone = root.path().join("copy.jsonl");
    fs::copy(path.join("per_run.jsonl"), &alone).unwrap();
    for spec in [path, alone] {
        let (text, _) = refused(root.path(), &spec);
        assert!(text.contains(".jsonl:2: ") && text.contains("--salvage"), "{text}");
        let subject = load_with(root.path(), spec.to_str().unwrap(), true).unwrap().subject;
        assert_eq!(measure(&subject, "tpot_ms").values, [2.0, 4.0]);
        assert_eq!(counted(&subject, "bad_row"), 1);
    }
}

#[test]
fn files_of_a_later_version_are_refused_with_it() {
    let root = tempfile::tempdir().unwrap();
    for (file, text) in [
        ("run.json", "{\"schema_version\": 7}".to_owned()),
        ("context.json", "{\"schema_version\": 7}".to_owned()),
        ("metrics.json", "{\"schema_version\": 7}".to_owned()),
        ("inputs.yaml", "schema_version: 7\nfiles: []\n".to_owned()),
        ("per_run.jsonl", row(0, 2.0, false).to_string().replace("\"schema_version\":1", "\"schema_version\":7")),
    ] {
        let path = finished(root.path(), &file.replace('.', "-"), None, &[2.0]);
        fs::write(path.join(file), text).unwrap();
        let (message, status) = refused(root.path(), &path);
        assert!(message.contains(file) && message.contains("schema_version 7 is newer than"), "{message}");
        assert_eq!(status, ExitStatus::CouldNotStart);
    }
}

#[test]
fn what_is_damaged_beside_the_rows_is_done_without() {
    let root = tempfile::tempdir().unwrap();
    let path = finished(root.path(), "r", None, &[2.0]);
    for file in ["context.json", "metrics.json", "env.json", "inputs.yaml"] {
        fs::write(path.join(file), "{\"schema_version\": 0, \"x\": [").unwrap();
    }
    let subject = load(root.path(), "r").subject;
    assert_eq!(measure(&subject, "tpot_ms").values, [2.0]);
    assert_eq!(counted(&subject, "unreadable_file"), 3, "{:?}", subject.diagnostics);
    assert_eq!(told(&subject, fact::CPU), None);
}

#[test]
fn rows_of_version_0_are_read_in_their_seconds() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("old.jsonl");
    let old = |tpot: f64| {
        json!({"run_id": "20240101", "model": "m", "backend": "hf", "dtype": "fp16", "prompt_len": 128, "new_tokens": 64,
                                "ttft_s": 0.25, "tpot_s": tpot, "dt_full_s": 1.25, "tok_s": 51.2, "env": {}})
    };
    fs::write(&file, format!("{}\n{}\n", old(0.015625), old(0.03125))).unwrap();
    let subject = load(root.path(), file.to_str().unwrap()).subject;
    assert_eq!(measure(&subject, "tpot_ms").values, [15.625, 31.25]);
    assert_eq!(measure(&subject, "ttft_ms").case.as_deref(), Some("prompt128_new64"));
    assert_eq!((told(&subject, fact::DTYPE), told(&subject, fact::MODE)), (Some("fp16"), Some("two_pass")));
    // Unknown to a row of that version, and never 0 or a guess.
    assert_eq!((told(&subject, fact::DEVICE), told(&subject, fact::THREADS)), (None, None));
    assert!(!subject.measures.iter().any(|values| values.name.ends_with("_bytes")));
    assert_eq!(counted(&subject, "old_row_schema"), 2);
}

#[test]
fn what_cannot_be_compared_is_named_and_the_formats_that_can_are() {
    let root = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &[u8]| {
        let path = root.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    for (path, parts) in [
        (file("empty.json", b""), &["`", "empty.json` is empty", "hint: formats that are read"][..]),
        (file("prose.txt", b"hello"), &["prose.txt` is neither JSON nor a trace", "llama-bench"]),
        (file("bad.json", b"{\n  \"a\": 1,\n  b\n}"), &["`bad.json`:3:3: key must be a string"]),
        (
            file("other.json", b"{\"a\": 1}"),
            &["`other.json`: a JSON object with `a` of no format perfprof compares", "hint: "],
        ),
        (file("deep.json", "[".repeat(200_000).as_bytes()), &["`deep.json`:1:"]),
        (
            file("load.json", b"{\"schema_version\":1,\"command\":\"load\",\"run_id\":\"r\"}"),
            &["load.json: missing field `status`"],
        ),
        (root.path().join("missing.json"), &["missing.json` is neither a file nor a run under"]),
        (root.path().to_owned(), &["it has no run.json"]),
    ] {
        let (text, _) = refused(root.path(), &path);
        for part in parts {
            assert!(text.contains(part), "`{part}` is not in:\n{text}");
        }
    }
    let mut other = RunDir::create(root.path(), "sweep", Some("s")).unwrap();
    other.finish(RunStatus::Complete, None).unwrap();
    let (text, status) = refused(root.path(), other.path());
    assert!(text.contains("is a run of `sweep`") && status == ExitStatus::Usage, "{text}");
    if let Some(ncu) = shared("traces/ncu/candle_mmq.csv") {
        assert!(refused(root.path(), &ncu).0.contains("counters of Nsight Compute"));
    }
}

/// The numbers are numpy's, computed by vLLM itself and written beside the lists they are of; for TPOT and the counts:
/// `python3 -c "import json; d=json.load(open('vllm-bench-serve-result.json')); print(len(sum(d['itls'],[])), [(l-t)/(n-1)*1e3 for
/// l,t,n in zip(d['latencies'],d['ttfts'],d['output_lens'])][0])"` gives 744 and 67.43043912903828.
#[test]
fn a_real_result_of_vllm_gives_the_numbers_vllm_states() {
    let Some(path) = shared("sse/vllm-bench-serve-result.json") else { return };
    let root = tempfile::tempdir().unwrap();
    let subject = load(root.path(), path.to_str().unwrap()).subject;
    assert_eq!((subject.kind, subject.outcomes.ok, subject.diagnostics.as_slice()), (SubjectKind::Load, 24, &[][..]));
    let stated: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for (name, key, n) in
        [("ttft_ms", "ttft", 24), ("tpot_ms", "tpot", 24), ("itl_ms", "itl", 744), ("e2e_ms", "e2el", 24)]
    {
        let values = &measure(&subject, name).values;
        assert_eq!(values.len(), n, "{name}");
        let summary = Summary::from_values("ms", values);
        for (found, statistic) in [
            (summary.mean, "mean"),
            (summary.p50, "median"),
            (summary.p90, "p90"),
            (summary.p95, "p95"),
            (summary.p99, "p99"),
        ] {
            let expected = stated[format!("{statistic}_{key}_ms")].as_f64().unwrap();
            assert!(
                (found.unwrap() - expected).abs() < 1e-9 * expected,
                "{statistic} of {name}: {found:?} is not {expected}"
            );
        }
    }
    assert!((measure(&subject, "tpot_ms").values[0] - 67.430_439_129_038_28).abs() < 1e-9);
    for (name, value) in [
        (fact::MODEL, "smollm2"),
        (fact::CONCURRENCY, "4"),
        (fact::PROMPT_TOKENS, "64"),
        (fact::NEW_TOKENS, "32"),
        ("input_tokens_total", "1536"),
        ("output_tokens_total", "768"),
    ] {
        assert_eq!(told(&subject, name), Some(value), "{name}");
    }

    // The same file as saved without `--save-detailed`: the same numbers, as statements.
    let mut summary = stated.clone();
    for key in [
        "input_lens",
        "output_lens",
        "ttfts",
        "itls",
        "latencies",
        "start_times",
        "queue_times",
        "generated_texts",
        "errors",
    ] {
        summary.as_object_mut().unwrap().remove(key);
    }
    let short = root.path().join("short.json");
    fs::write(&short, summary.to_string()).unwrap();
    let subject = load(root.path(), short.to_str().unwrap()).subject;
    let ttft = measure(&subject, "ttft_ms").reported.as_ref().unwrap();
    assert_eq!((ttft.mean, ttft.p99, ttft.n), (stated["mean_ttft_ms"].as_f64(), stated["p99_ttft_ms"].as_f64(), 24));
    let sample = Summary::from_values(
        "ms",
        &stated["ttfts"].as_array().unwrap().iter().map(|s| s.as_f64().unwrap() * 1e3).collect::<Vec<_>>(),
    );
    assert!((ttft.std.unwrap() - sample.std.unwrap()).abs() < 1e-6);
}

/// Python 3, over the `kernel`, `gpu_memcpy` and `gpu_memset` events of the file read with `json.load(f, parse_float=Decimal)`, times in whole
/// ns: the union of the sorted intervals is 10717708 ns of a window of 10743181 ns from the first begin to the last end.
#[test]
fn a_real_trace_is_as_busy_as_the_union_of_its_intervals() {
    let Some(path) = shared("traces/kineto/vllm_decode_graph_replay.json.gz") else { return };
    let root = tempfile::tempdir().unwrap();
    let found = load(root.path(), path.to_str().unwrap());
    assert_eq!((found.subject.kind, found.subject.label.as_str()), (SubjectKind::Trace, "vllm_decode_graph_replay"));
    let busy = measure(&found.subject, "gpu_busy_ratio").values[0];
    assert!((busy - 10_717_708.0 / 10_743_181.0).abs() < 1e-9, "{busy}");
    assert_eq!(told(&found.subject, "steps.decode"), Some("1"));
    let trace = found.trace.unwrap();
    assert_eq!((trace.paths.as_slice(), trace.timeline.kernels.is_empty()), (&[path][..], false));
}

#[test]
fn every_shared_trace_is_a_subject_whatever_is_missing_in_it() {
    for folder in ["traces/nsys", "traces/kineto"] {
        let Some(folder) = shared(folder) else { continue };
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let root = tempfile::tempdir().unwrap();
            let subject = load(root.path(), path.to_str().unwrap()).subject;
            assert_eq!(subject.kind, SubjectKind::Trace, "{}", path.display());
            assert!(!subject.validity.is_valid() || !subject.measures.is_empty() || counted(&subject, "no_steps") == 1);
            for values in &subject.measures {
                assert!(values.values.iter().all(|value| value.is_finite() && *value >= 0.0), "{}", path.display());
            }
        }
    }
}

#[test]
fn a_real_run_gives_the_values_of_its_rows_and_the_summary_of_its_metrics() {
    let sandbox = Sandbox::new();
    let command = sandbox.stage1(&["repeats=3", "run.tag=real"]);
    crate::sandbox::finish(command).exits(0);
    let run = sandbox.the_run();
    let root = sandbox.path().join("tmp");
    let found = load(&root, "real");
    let metrics = crate::sandbox::json_of(&run, "metrics.json");
    let case = &metrics["cases"][0];
    for name in
        ["ttft_ms", "tpot_ms", "itl_ms", "decode_tok_per_s", "total_ms", "peak_rss_bytes", "mfu_prefill", "mbu_decode"]
    {
        let values = measure(&found.subject, name);
        let summary = Summary::from_values(&values.unit, &values.values);
        let stated = &case["measures"][name];
        assert_eq!(Some(summary.n), stated["n"].as_u64(), "{name}");
        for (found, statistic) in [(summary.mean, "mean"), (summary.p50, "p50"), (summary.max, "max")] {
            let expected = stated[statistic].as_f64().unwrap();
            assert!((found.unwrap() - expected).abs() <= 1e-9 * expected.abs(), "{statistic} of {name}");
        }
        assert_eq!(values.unit, stated["unit"].as_str().unwrap(), "{name}");
    }
    // Operators hold the time of the table of the summary, once, at the pace of the repeats without spans.
    let table = metrics["operators"].as_array().unwrap();
    // The prompt pass is recorded whole; of the decode steps every second, which the subject extrapolates to all.
    let expected: u64 = table
        .iter()
        .filter(|row| row["layer"].is_null() && row["phase"] == "prefill")
        .map(|row| row["total_ns"].as_u64().unwrap())
        .sum();
    let rows: Vec<Value> = fs::read_to_string(run.join("per_run.jsonl"))
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let pace = |phase: &str| {
        let times = |spans: bool| -> Vec<f64> {
            rows.iter().filter(|row| row["spans"] == spans).map(|row| row[phase].as_f64().unwrap()).collect()
        };
        let recorded = times(true);
        let mut plain = times(false);
        plain.sort_by(f64::total_cmp);
        assert_eq!(plain.len(), 3);
        plain[1] * recorded.len() as f64 / recorded.iter().sum::<f64>()
    };
    // Each row is rounded.
    let near = |a: f64, b: f64| (a - b).abs() <= 2.0 * found.subject.operators.len() as f64 + 1e-9 * b;
    let sum = |rows: &[OperatorTime], phase: &str| -> u64 {
        rows.iter().filter(|row| row.phase == phase).map(|row| row.total_ns).sum()
    };
    let prefill = sum(&found.subject.operators, "prefill") as f64;
    assert!(near(prefill, expected as f64 * pace("prefill_ms")), "{prefill}, {expected}");
    assert_eq!(told(&found.subject, fact::OPS), Some("reference"));
    assert!(told(&found.subject, fact::CPU).is_some() && told(&found.subject, fact::THREADS).is_some());

    // Its summary alone, as somebody might keep it: the same statements, and no values.
    let kept = sandbox.write("kept.json", fs::read(run.join("metrics.json")).unwrap());
    let summary = load(&root, kept.to_str().unwrap()).subject;
    let stated = measure(&summary, "tpot_ms").reported.as_ref().unwrap().mean;
    assert_eq!(stated, case["measures"]["tpot_ms"]["mean"].as_f64());
    let without_rows = sandbox.path().join("without-rows");
    fs::create_dir(&without_rows).unwrap();
    for file in ["run.json", "metrics.json", "context.json"] {
        fs::copy(run.join(file), without_rows.join(file)).unwrap();
    }
    let summary = load(&root, without_rows.to_str().unwrap()).subject;
    assert_eq!(counted(&summary, "no_rows"), 1);
    // Without rows no pace is known.
    assert_eq!(sum(&summary.operators, "prefill"), expected, "the table of the summary counts a time twice");
    // Rows and summary extrapolate alike.
    let (by_spans, by_table) = (sum(&found.subject.operators, "decode"), sum(&summary.operators, "decode"));
    assert!(by_spans > 0 && near(by_spans as f64, by_table as f64 * pace("decode_ms")), "{by_spans} and {by_table}");
}

#[test]
fn an_analysis_and_its_trace_give_the_same_values() {
    let Some(path) = shared("traces/kineto/vllm_decode_graph_replay.json.gz") else { return };
    let sandbox = Sandbox::new();
    let trace = sandbox.write("copy.json.gz", fs::read(path).unwrap());
    sandbox.run(&["analyze", trace.to_str().unwrap()]).exits(0);
    let root = sandbox.path().join("tmp");
    let (analysed, alone) = (load(&root, "latest:analyze"), load(&root, trace.to_str().unwrap()));
    assert_eq!(analysed.subject.measures, alone.subject.measures);
    assert_eq!(analysed.subject.facts.get(fact::TOOL), alone.subject.facts.get(fact::TOOL));
    assert!(analysed.trace.is_some() && !analysed.subject.operators.is_empty());
    let (timeline, steps) = alone.trace.as_ref().map(|trace| (&trace.timeline, &trace.steps)).unwrap();
    assert_eq!(trace_operators(timeline, steps), analysed.subject.operators);
    let all: i64 =
        (0..timeline.kernels.len()).map(|row| timeline.kernels.end_ns[row] - timeline.kernels.start_ns[row]).sum();
    let kernels = analysed.subject.operators.iter().filter(|row| !row.class.starts_with("mem"));
    assert_eq!(kernels.map(|row| row.total_ns).sum::<u64>(), all as u64);
    // Another file of that name is not the trace that was analysed.
    let mut bytes = fs::read(&trace).unwrap();
    bytes.push(0);
    fs::write(&trace, bytes).unwrap();
    let changed = load(&root, "latest:analyze");
    assert_eq!((changed.trace.is_none(), counted(&changed.subject, "trace_not_used")), (true, 1));
}

#[test]
fn subjects_are_named_by_what_tells_them_apart() {
    let root = tempfile::tempdir().unwrap();
    for (name, threads) in [("one.json", 1), ("two.json", 2)] {
        let entry = json!([{"model_filename": "m.gguf", "model_type": "llama", "n_threads": threads, "n_prompt": 8, "n_gen": 0, "avg_ts": 10.0, "samples_ts": [10.0]}]);
        fs::write(root.path().join(name), entry.to_string()).unwrap();
    }
    let loaded: Vec<Loaded> = ["one.json", "two.json", "two.json"]
        .iter()
        .map(|name| load(root.path(), root.path().join(name).to_str().unwrap()))
        .collect();
    let name = |loaded: &[Loaded]| {
        let mut subjects: Vec<Subject> = loaded.iter().map(|loaded| loaded.subject.clone()).collect();
        let sources: Vec<_> = loaded.iter().map(|loaded| loaded.label.clone()).collect();
        labels::assign(&mut subjects, &sources);
        subjects.into_iter().map(|subject| subject.label).collect::<Vec<_>>()
    };
    assert_eq!(name(&loaded[..2]), ["threads=1", "threads=2"]);
    // Two of three are alike: no fact names them all, so the files do.
    assert_eq!(name(&loaded), ["one", "two", "two #2"]);
}
