//! Stage1 runs as subjects: values and facts worked out by hand, and runs that ended badly.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::stage1::{BUILD_PROFILE, Stage1Files, WEIGHTS_SOURCE, subject};
use crate::compare::subject::{MeasureValues, Subject, fact};
use crate::diagnostics::ValidityStatus;
use crate::estimate::architecture::{Architecture, Family, Rope};
use crate::estimate::operator::{Cost, OperatorClass};
use crate::record::context::{CasePlan, Stage1Context};
use crate::record::inputs::{FileInput, Inputs, PromptInput};
use crate::record::manifest::sha256_hex;
use crate::record::metrics::{
    CaseBlock, HardwareBlock, ModelBlock, OperatorRow, Peak, PhaseBlock, Reconciliation, Stage1Metrics,
};
use crate::record::rows::RepeatRow;
use crate::record::run_dir::RunStatus;
use crate::stats::summary::Summary;
use crate::trace::timeline::{NONE, SpanKind, SpanRow, Timeline};

/// A repeat: prefill of 8 tokens in 4 ms, then 3 tokens at `gap` ms.
fn row(index: u32, gap: f64, change: Value) -> RepeatRow {
    let mut row = json!({
        "schema_version": 1, "run_id": "20260101-000000-aaaa", "index": index, "case": "p8", "repeat": index, "spans": false,
        "status": "ok", "error": null, "model": "models/tiny.gguf", "backend": "candle", "dtype": "q8_0", "device": "cpu", "batch": 2,
        "prompt_len": 8, "new_tokens": 4, "mode": "single_pass", "started_at": "2026-01-01T00:00:00.000Z",
        "ttft_ms": 5.0, "prefill_ms": 4.0, "decode_ms": 3.0 * gap, "total_ms": 5.0 + 3.0 * gap, "remainder_ms": 1.0, "tpot_ms": gap,
        "itl_ms": [gap, gap, gap], "prefill_tok_per_s": 4000.0, "decode_tok_per_s": 2000.0 / gap, "total_tok_per_s": 100.0,
        "ttft_s": null, "tpot_s": null, "dt_full_s": null, "tok_s": null, "peak_memory_allocated_gb": null,
        "memory": {"peak_rss_bytes": 1000 + index, "peak_vram_bytes": null, "weights_bytes": 2, "kv_cache_bytes": 3, "kv_used_bytes": 4, "activations_bytes": null},
        "contention": {"cpu_wall_ratio": null, "involuntary_switches": null, "voluntary_switches": null, "pressure_cpu_some": null, "other_cpu_share": null, "disturbed": index == 1},
        "cpu_utilisation": null, "energy_j": 4.0, "energy_source": "rapl", "tokens": [1, 2, 3, 4], "text": null, "finish_reason": "length", "diagnostics": []
    });
    if let (Value::Object(row), Value::Object(change)) = (&mut row, change) {
        row.extend(change);
    }
    serde_json::from_value(row).unwrap()
}

fn peak(value: f64) -> Peak {
    Peak { value: Some(value), kind: "override".to_owned(), source: "test".to_owned() }
}

fn model() -> ModelBlock {
    ModelBlock {
        name: "models/tiny.gguf".to_owned(),
        source: "gguf".to_owned(),
        architecture: Architecture {
            family: Family::Llama,
            hidden_size: 64,
            intermediate_size: 96,
            num_layers: 2,
            num_heads: 4,
            num_kv_heads: 2,
            head_dim: 16,
            vocab_size: 300,
            max_position_embeddings: 128,
            rms_norm_eps: 1e-5,
            rope: Rope { theta: 1e4, scaling: None },
            tie_word_embeddings: true,
            qkv_bias: false,
            o_bias: false,
            qk_norm: false,
            gated_mlp: true,
            sliding_window: None,
            moe: None,
        },
        parameters: Some(1),
        weights_bytes: 777,
        weights_bytes_by_format: BTreeMap::new(),
        dtype: "q8_0".to_owned(),
        compute_dtype: "f32".to_owned(),
        kv_dtype: "f16".to_owned(),
        kv_bytes_per_token: 1,
        ops: "fused".to_owned(),
    }
}

fn hardware() -> HardwareBlock {
    HardwareBlock {
        device: "A CPU".to_owned(),
        device_id: "cpu".to_owned(),
        threads: Some(2),
        compute_dtype: "f32".to_owned(),
        peak_flops_per_s: peak(1e9),
        peak_bytes_per_s: peak(1e8),
        memory_bytes: None,
        price_usd_per_hour: Some(1.5),
        power_w: Some(65.0),
        measured: None,
    }
}

fn context() -> Stage1Context {
    let case = |name: &str| CasePlan {
        name: name.to_owned(),
        batch: 2,
        prompt_len: 8,
        new_tokens: 4,
        source: "synthetic".to_owned(),
    };
    Stage1Context {
        schema_version: 1,
        run_id: "20260101-000000-aaaa".to_owned(),
        model: model(),
        weight_formats: BTreeMap::new(),
        instrumented: true,
        hardware: hardware(),
        load_ms: 12.5,
        cases: vec![case("p8"), case("never")],
        repeats: 3,
        span_repeats: 1,
        trace_repeats: 0,
        warmup: 1,
        mode: "single_pass".to_owned(),
        ignore_eos: true,
        temperature: 0.0,
        seeds: BTreeMap::from([("weights".to_owned(), 7), ("prompt".to_owned(), 3)]),
        max_disturbed_share: 0.5,
        notes: Vec::new(),
        diagnostics: Vec::new(),
    }
}

fn metrics() -> Stage1Metrics {
    let phase = |phase: &str, steps: u64| PhaseBlock {
        case: "p8".to_owned(),
        phase: phase.to_owned(),
        steps,
        time_ms: None,
        model_flops: 2_000_000,
        weight_bytes: 100_000,
        kv_bytes: 20_000,
        activation_bytes: 1,
        compute_time_ms: None,
        memory_time_ms: None,
        roofline_ms: None,
        bound: None,
        mfu: None,
        mbu: None,
    };
    serde_json::from_value::<Stage1Metrics>(json!({
        "schema_version": 1, "command": "stage1", "run_id": "20260101-000000-aaaa", "status": "complete",
        "validity": {"status": "VALID", "reasons": []}, "measures": {}, "cases": [], "model": model(), "hardware": hardware(),
        "phases": [phase("prefill", 1), phase("decode", 3)], "operators": [],
        "reconciliation": Reconciliation { phases_vs_total: None, host_vs_device: None, unattributed_by_phase: BTreeMap::new() }, "diagnostics": []
    }))
    .unwrap()
}

fn files(rows: Vec<RepeatRow>) -> Stage1Files {
    Stage1Files { name: "20260101-000000-aaaa".to_owned(), context: Some(context()), rows, ..Stage1Files::default() }
}

#[track_caller]
fn measure<'a>(subject: &'a Subject, name: &str) -> &'a MeasureValues {
    subject.measures.iter().find(|values| values.name == name).unwrap_or_else(|| panic!("no `{name}`"))
}

fn told<'a>(subject: &'a Subject, name: &str) -> Option<&'a str> {
    subject.facts.get(name).and_then(Option::as_deref)
}

fn found(subject: &Subject, code: &str) -> bool {
    subject.diagnostics.iter().any(|found| found.code == code)
}

#[test]
fn repeats_that_ended_well_without_spans_are_the_values() {
    let rows = vec![
        row(0, 2.0, json!({})),
        row(1, 4.0, json!({})),
        row(2, 900.0, json!({"spans": true})),
        row(3, 0.0, json!({"status": "oom", "ttft_ms": 1.0, "itl_ms": []})),
        row(4, 0.0, json!({"status": "failed", "error": "x", "itl_ms": []})),
        row(5, 0.0, json!({"status": "interrupted", "itl_ms": [1.0]})),
    ];
    let got = subject(&files(rows)).unwrap();
    for (name, values) in [
        ("ttft_ms", &[5.0, 5.0][..]),
        ("prefill_ms", &[4.0, 4.0]),
        ("tpot_ms", &[2.0, 4.0]),
        ("itl_ms", &[2.0, 2.0, 2.0, 4.0, 4.0, 4.0]),
        ("decode_ms", &[6.0, 12.0]),
        ("decode_tok_per_s", &[1000.0, 500.0]),
        ("total_ms", &[11.0, 17.0]),
        ("peak_rss_bytes", &[1000.0, 1001.0]),
        ("energy_j", &[4.0, 4.0]),
        // 2 sequences of 4 tokens.
        ("energy_per_token_j", &[0.5, 0.5]),
    ] {
        let measure = measure(&got, name);
        assert_eq!((measure.values.as_slice(), measure.case.as_deref()), (values, Some("p8")), "{name}");
        assert_eq!(measure.runs, vec![0; values.len()]);
    }
    assert_eq!((measure(&got, "load_ms").values.as_slice(), &measure(&got, "load_ms").case), (&[12.5][..], &None));
    assert!(!got.measures.iter().any(|values| values.name == "peak_vram_bytes"));
    let outcomes = got.outcomes;
    assert_eq!((outcomes.ok, outcomes.failed, outcomes.oom, outcomes.interrupted, outcomes.disturbed), (2, 1, 1, 1, 1));
    assert_eq!((got.price_usd_per_hour, got.power_w), (Some(1.5), Some(65.0)));
    assert_eq!((got.label.as_str(), got.validity.is_valid()), ("20260101-000000-aaaa", true));
}

#[test]
fn facts_say_what_was_run_and_where() {
    let prompt = PromptInput::new("p8", "synthetic", &[1, 2, 3], None, Some(3));
    let hash = prompt.token_ids_sha256.clone();
    let inputs = Inputs {
        schema_version: 1,
        count: 1,
        dataset_root: None,
        subset_filelist: None,
        seeds: BTreeMap::new(),
        files: vec![FileInput {
            role: "weights".to_owned(),
            path: "m".to_owned(),
            bytes: 1,
            sha256: Some("abc".to_owned()),
        }],
        prompts: vec![prompt],
    };
    let environment = json!({
        "os": {"kernel": "6.1", "host_hash": "h1"}, "cpu": {"model": "Xeon", "governor": "performance", "turbo": true},
        "build": {"profile": "debug", "commit": null}, "gpu": null
    });
    let files = Stage1Files {
        inputs: Some(inputs),
        environment: Some(environment),
        ..files(vec![row(0, 2.0, json!({})), row(1, 2.0, json!({"new_tokens": 3}))])
    };
    let got = subject(&files).unwrap();
    for (name, value) in [
        (fact::MODEL, "tiny.gguf"),
        (fact::DTYPE, "q8_0"),
        (fact::COMPUTE_DTYPE, "f32"),
        (fact::KV_DTYPE, "f16"),
        (fact::OPS, "fused"),
        (fact::THREADS, "2"),
        (fact::DEVICE, "cpu"),
        (fact::CPU, "Xeon"),
        (fact::GOVERNOR, "performance"),
        (fact::HOST, "h1"),
        (fact::KERNEL, "6.1"),
        (fact::MODE, "single_pass"),
        (fact::WEIGHTS_SHA256, "abc"),
        (fact::SEED, "prompt 3, weights 7"),
        (BUILD_PROFILE, "debug"),
        (WEIGHTS_SOURCE, "gguf"),
        ("case:p8.batch", "2"),
        ("case:p8.prompt_tokens", "8"),
        ("case:p8.new_tokens", "3 to 4, mean 3.50"),
        ("case:never.new_tokens", "4"),
    ] {
        assert_eq!(told(&got, name), Some(value), "{name}");
    }
    assert_eq!(told(&got, fact::GPU), None);
    // The hash of the one prompt, hashed again.
    assert_eq!(told(&got, "case:p8.prompts_sha256"), Some(sha256_hex(hash.as_bytes()).as_str()));
    // printf '\x01\0\0\0\x02\0\0\0\x03\0\0\0\x04\0\0\0' | sha256sum
    let output = "cf97adeedb59e05bfd73a2b4c2a8885708c4f4f70c84c64b27120e72ab733b72";
    assert_eq!(told(&got, "case:p8.output_sha256"), Some(output));
}

#[test]
fn a_gpu_is_told_by_the_ordinal_it_ran_on() {
    let gpu = |ordinal: u32, name: &str, mhz: u32| json!({"cuda_ordinal": ordinal, "name": name, "max_sm_mhz": mhz, "power_limit_w": 700.0});
    let environment = json!({"cpu": {"model": "Xeon"}, "gpu": {"driver_version": "570.1", "cuda_driver_version": "12.8", "devices": [gpu(1, "B", 2000), gpu(0, "A", 1000)]}});
    let files = Stage1Files { environment: Some(environment), ..files(vec![row(0, 1.0, json!({"device": "cuda:1"}))]) };
    let got = subject(&files).unwrap();
    assert_eq!((told(&got, fact::GPU), told(&got, fact::CLOCK_MHZ)), (Some("B"), Some("2000")));
    assert_eq!(
        (told(&got, fact::DRIVER), told(&got, fact::CUDA), told(&got, fact::CPU)),
        (Some("570.1"), Some("12.8"), Some("Xeon"))
    );
}

#[test]
fn greedy_outputs_that_differ_are_reported_and_have_no_hash() {
    let got = subject(&files(vec![row(0, 1.0, json!({})), row(1, 1.0, json!({"tokens": [9]}))])).unwrap();
    assert!(found(&got, "outputs_differ"));
    assert_eq!(told(&got, "case:p8.output_sha256"), None);
    // Sampled outputs are meant to differ.
    let mut sampled = files(vec![row(0, 1.0, json!({})), row(1, 1.0, json!({"tokens": [9]}))]);
    sampled.context.as_mut().unwrap().temperature = 0.8;
    assert!(!found(&subject(&sampled).unwrap(), "outputs_differ"));
}

#[test]
fn mfu_and_mbu_are_of_the_rows_whose_length_the_model_is_for() {
    let mut files = files(vec![row(0, 2.0, json!({})), row(1, 2.0, json!({"new_tokens": 3, "decode_ms": 4.0}))]);
    files.metrics = Some(metrics());
    let got = subject(&files).unwrap();
    // 2 MFLOP in 4 ms of 1 GFLOP/s; 120 kB in 4 ms of 100 MB/s.
    assert_eq!(measure(&got, "mfu_prefill").values, [0.5, 0.5]);
    assert_eq!(measure(&got, "mbu_prefill").values, [0.3, 0.3]);
    // 3 decode steps took 6 ms; the row with 2 steps did less than the figures are for.
    assert_eq!(measure(&got, "mfu_decode").values, [1.0 / 3.0]);
    assert_eq!(measure(&got, "mbu_decode").values, [0.2]);
}

#[test]
fn a_run_in_which_everything_failed_is_an_invalid_subject() {
    let rows = vec![row(0, 1.0, json!({"status": "oom"})), row(1, 1.0, json!({"status": "failed"}))];
    let got = subject(&files(rows)).unwrap();
    assert_eq!(got.validity.status, ValidityStatus::Invalid);
    assert!(got.validity.reasons[0].contains("1 failed, 1 out of memory"), "{:?}", got.validity);
    assert!(got.measures.iter().all(|values| values.name == "load_ms"), "{:?}", got.measures);
    assert_eq!((got.outcomes.ok, got.outcomes.oom, got.outcomes.failed), (0, 1, 1));
    let error = subject(&files(Vec::new())).unwrap_err().to_string();
    assert!(error.contains("no repeat"), "{error}");
}

#[test]
fn a_run_that_was_killed_is_used_as_far_as_it_came_and_says_so() {
    let killed = Stage1Files { status: Some(RunStatus::Interrupted), ..files(vec![row(0, 2.0, json!({}))]) };
    let got = subject(&killed).unwrap();
    assert!(got.validity.is_valid() && found(&got, "unfinished_run"));
    assert_eq!(measure(&got, "tpot_ms").values, [2.0]);
    let failed = Stage1Files { status: Some(RunStatus::Failed), ..killed };
    assert_eq!(subject(&failed).unwrap().validity.reasons, ["the run failed"]);
}

#[test]
fn rows_alone_tell_what_they_can() {
    let rows = vec![
        row(0, 2.0, json!({"dtype": "unknown", "device": "unknown"})),
        row(1, 2.0, json!({"dtype": "unknown", "device": "unknown"})),
    ];
    let got = subject(&Stage1Files { name: "per_run.jsonl".to_owned(), rows, ..Stage1Files::default() }).unwrap();
    assert!(found(&got, "rows_only"));
    assert_eq!((told(&got, fact::MODEL), told(&got, fact::BACKEND)), (Some("tiny.gguf"), Some("candle")));
    assert_eq!((told(&got, fact::DTYPE), told(&got, fact::DEVICE), told(&got, fact::THREADS)), (None, None, None));
    assert_eq!((got.run_ids.as_slice(), got.measures.len()), (&["20260101-000000-aaaa".to_owned()][..], 12));
}

#[test]
fn a_summary_without_rows_is_stated_and_cannot_be_judged() {
    let mut metrics = metrics();
    let summary = Summary { unit: "ms".to_owned(), n: 5, mean: Some(2.0), p50: Some(1.9), ..Summary::default() };
    metrics.cases = vec![CaseBlock {
        name: "p8".to_owned(),
        batch: 2,
        prompt_len: 8,
        new_tokens: 4,
        repeats: 5,
        measures: BTreeMap::from([
            ("tpot_ms".to_owned(), summary.clone()),
            ("energy_j".to_owned(), Summary::default()),
        ]),
    }];
    let got =
        subject(&Stage1Files { name: "metrics.json".to_owned(), metrics: Some(metrics), ..Stage1Files::default() })
            .unwrap();
    assert_eq!(got.measures.len(), 1);
    assert_eq!(
        (measure(&got, "tpot_ms").reported.as_ref(), measure(&got, "tpot_ms").values.len()),
        (Some(&summary), 0)
    );
    assert!(found(&got, "no_rows"));
    assert_eq!(
        (told(&got, "case:p8.prompt_tokens"), told(&got, fact::OPS), got.outcomes.ok),
        (Some("8"), Some("fused"), 5)
    );
}

fn span<'a>(repeat: u32, phase: &'a str, name: &'a str, layer: u32, ns: (u64, u64), shape: &'a str) -> SpanRow<'a> {
    SpanRow {
        start_ns: ns.0,
        end_ns: ns.1,
        kind: SpanKind::Operator,
        name,
        parent: NONE,
        repeat,
        phase,
        step: 0,
        layer,
        class: Some(OperatorClass::Linear),
        shape,
        cost: Cost::default(),
        model_compute: true,
    }
}

#[test]
fn the_recorded_half_of_the_decode_steps_stands_for_all_of_them() {
    let mut timeline = Timeline::default();
    // Of the steps 1 to 4 the first and the last are recorded.
    for row in [
        span(2, "decode", "q_proj", 0, (0, 10), "1x2"),
        span(2, "decode", "q_proj", 0, (40, 60), "1x2"),
        span(2, "prefill", "q_proj", 0, (0, 7), "4x2"),
    ] {
        timeline.push_span(row);
    }
    let rows = vec![row(2, 1.0, json!({"spans": true, "case": "p8", "status": "ok", "new_tokens": 5}))];
    let got = subject(&Stage1Files { spans: Some(timeline), ..files(rows) }).unwrap();
    let rows: Vec<_> = got.operators.iter().map(|row| (row.phase.as_str(), row.calls, row.total_ns)).collect();
    assert_eq!(rows, [("decode", 4, 60), ("prefill", 1, 7)]);
}

#[test]
fn operators_go_at_the_pace_of_the_repeats_without_spans() {
    let mut timeline = Timeline::default();
    for row in [span(3, "decode", "q_proj", 0, (0, 40), "1x2"), span(3, "prefill", "q_proj", 0, (0, 7), "4x2")] {
        timeline.push_span(row);
    }
    // Without spans decode takes 3, 3 and 27 ms, with spans 6 ms: the operators were recorded at half the speed. Prefill took the same.
    let mut rows = vec![row(0, 1.0, json!({})), row(1, 9.0, json!({})), row(2, 1.0, json!({}))];
    rows.push(row(3, 2.0, json!({"spans": true, "new_tokens": 2})));
    // Repeats that failed say nothing.
    rows.push(row(4, 0.01, json!({"status": "failed"})));
    let got = subject(&Stage1Files { spans: Some(timeline), ..files(rows) }).unwrap();
    let rows: Vec<_> = got.operators.iter().map(|row| (row.phase.as_str(), row.calls, row.total_ns)).collect();
    assert_eq!(rows, [("decode", 1, 20), ("prefill", 1, 7)]);
}

#[test]
fn operators_are_summed_by_case_phase_and_layer_over_repeats_that_ended_well() {
    let mut timeline = Timeline::default();
    for row in [
        span(2, "decode", "q_proj", 0, (0, 10), "1x2"),
        span(2, "decode", "q_proj", 0, (10, 30), "1x3"),
        span(2, "decode", "q_proj", 1, (30, 35), "1x2"),
        span(3, "decode", "q_proj", 0, (0, 7), "1x3"),
        span(4, "decode", "q_proj", 0, (0, 1000), "1x2"),
        span(5, "prefill", "lm_head", NONE, (0, 100), ""),
        SpanRow { kind: SpanKind::Phase, ..span(2, "decode", "decode", NONE, (0, 35), "") },
    ] {
        timeline.push_span(row);
    }
    let spanned = |index: u32, case: &str, status: &str| {
        row(index, 1.0, json!({"spans": true, "case": case, "status": status, "new_tokens": 2}))
    };
    let rows = vec![
        row(0, 1.0, json!({})),
        spanned(2, "p8", "ok"),
        spanned(3, "p8", "ok"),
        spanned(4, "p8", "failed"),
        spanned(5, "never", "ok"),
    ];
    let got = subject(&Stage1Files { spans: Some(timeline), ..files(rows) }).unwrap();
    let rows: Vec<_> = got
        .operators
        .iter()
        .map(|row| {
            (
                row.case.as_deref().unwrap(),
                row.phase.as_str(),
                row.layer,
                row.name.as_str(),
                row.repeats,
                row.calls,
                row.total_ns,
            )
        })
        .collect();
    assert_eq!(
        rows,
        [
            ("p8", "decode", Some(0), "q_proj", 2, 3, 37),
            ("p8", "decode", Some(1), "q_proj", 2, 1, 5),
            ("never", "prefill", None, "lm_head", 1, 1, 100)
        ]
    );
    assert_eq!((got.operators[0].shape.as_deref(), got.operators[0].class.as_str()), (Some("1x3"), "linear"));
}

#[test]
fn the_operator_table_of_a_summary_counts_each_time_once() {
    let row = |name: &str, layer: Option<u32>, calls: u64, total_ns: u64| OperatorRow {
        class: "linear".to_owned(),
        name: name.to_owned(),
        phase: "decode".to_owned(),
        layer,
        device: "cpu".to_owned(),
        shape: "1x2".to_owned(),
        calls,
        total_ns,
        mean_ns: 0.0,
        p50_ns: 0.0,
        p95_ns: 0.0,
        p99_ns: 0.0,
        std_ns: None,
        share: 0.0,
        flops: 0,
        bytes: 0,
        flops_per_s: None,
        bytes_per_s: None,
        roofline_ns: None,
        lost_ns: None,
        bound: None,
    };
    let mut metrics = metrics();
    // Sums over the layers first, then by layer; `norm` also runs once outside of them.
    metrics.operators = vec![
        row("q_proj", None, 4, 40),
        row("norm", None, 3, 33),
        row("lm_head", None, 2, 50),
        row("q_proj", Some(0), 2, 15),
        row("q_proj", Some(1), 2, 25),
        row("norm", Some(0), 2, 22),
    ];
    let got = subject(&Stage1Files {
        metrics: Some(metrics),
        ..files(vec![self::row(0, 2.0, json!({"spans": true, "new_tokens": 2}))])
    })
    .unwrap();
    let rows: Vec<_> =
        got.operators.iter().map(|row| (row.name.as_str(), row.layer, row.calls, row.total_ns, row.repeats)).collect();
    assert_eq!(
        rows,
        [
            ("norm", None, 1, 11, 1),
            ("lm_head", None, 2, 50, 1),
            ("q_proj", Some(0), 2, 15, 1),
            ("q_proj", Some(1), 2, 25, 1),
            ("norm", Some(0), 2, 22, 1)
        ]
    );
}
