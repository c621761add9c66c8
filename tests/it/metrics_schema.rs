//! The published schema of `metrics.json` against the type that writes it.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::BTreeMap;

use perfprof::diagnostics::{Diagnostic, Severity, Validity};
use perfprof::estimate::architecture::{Architecture, Family, Moe, Rope, RopeScaling};
use perfprof::hardware::nvml::{IntervalStatistics, ThrottleEffect, ThrottleShare, TimeWeighted};
use perfprof::record::gpu::{GpuBefore, GpuBlock};
use perfprof::record::metrics::{
    CaseBlock, HardwareBlock, METRICS_SCHEMA_VERSION, ModelBlock, OperatorRow, Peak, PhaseBlock, Reconciliation,
    Stage1Metrics,
};
use perfprof::record::quality::QualityBlock;
use perfprof::stats::summary::Summary;
use serde_json::{Value, json};

/// A summary with every value set.
pub(crate) fn summary() -> Summary {
    let value = Some(1.5);
    Summary {
        unit: "ms".to_owned(),
        n: 3,
        mean: value,
        std: value,
        min: value,
        p50: value,
        p90: value,
        p95: value,
        p99: value,
        max: value,
        ci95: Some([1.0, 2.0]),
    }
}

/// A document with every optional value set.
pub(crate) fn example() -> Stage1Metrics {
    let peak = || Peak { value: Some(1e12), kind: "table".to_owned(), source: "vendor data sheet".to_owned() };
    let measures = || BTreeMap::from([("ttft_ms".to_owned(), summary())]);
    let diagnostic = Diagnostic::new("slow_first_run", Severity::Warn, "the first repeat took 2 × the median");
    Stage1Metrics {
        schema_version: METRICS_SCHEMA_VERSION,
        command: "stage1".to_owned(),
        run_id: "20260101-000000-abcd".to_owned(),
        status: "complete".to_owned(),
        validity: Validity::from_reasons(Vec::new()),
        measures: measures(),
        cases: vec![CaseBlock {
            name: "short".to_owned(),
            batch: 1,
            prompt_len: 8,
            new_tokens: 4,
            repeats: 3,
            measures: measures(),
        }],
        model: ModelBlock {
            name: "synthetic".to_owned(),
            source: "synthetic".to_owned(),
            architecture: Architecture {
                family: Family::Llama,
                hidden_size: 64,
                intermediate_size: 128,
                num_layers: 2,
                num_heads: 4,
                num_kv_heads: 2,
                head_dim: 16,
                vocab_size: 256,
                max_position_embeddings: 512,
                rms_norm_eps: 1e-5,
                rope: Rope {
                    theta: 10_000.0,
                    scaling: Some(RopeScaling::Yarn {
                        factor: 2.0,
                        beta_fast: 32.0,
                        beta_slow: 1.0,
                        original_max_position: 256,
                        attention_factor: Some(1.0),
                    }),
                },
                tie_word_embeddings: true,
                qkv_bias: false,
                o_bias: false,
                qk_norm: false,
                gated_mlp: true,
                sliding_window: Some(128),
                moe: Some(Moe {
                    num_experts: 8,
                    experts_per_token: 2,
                    expert_intermediate_size: 32,
                    shared_intermediate_size: 0,
                }),
            },
            parameters: Some(1_000),
            weights_bytes: 4_000,
            weights_bytes_by_format: BTreeMap::from([("f32".to_owned(), 4_000)]),
            dtype: "f32".to_owned(),
            compute_dtype: "f32".to_owned(),
            kv_dtype: "f32".to_owned(),
            kv_bytes_per_token: 512,
            ops: "reference".to_owned(),
        },
        hardware: HardwareBlock {
            device: "Test CPU".to_owned(),
            device_id: "cpu".to_owned(),
            threads: Some(2),
            compute_dtype: "f32".to_owned(),
            peak_flops_per_s: peak(),
            peak_bytes_per_s: peak(),
            memory_bytes: Some(1 << 30),
            price_usd_per_hour: Some(1.0),
            power_w: Some(100.0),
        },
        phases: vec![PhaseBlock {
            case: "short".to_owned(),
            phase: "decode".to_owned(),
            steps: 3,
            time_ms: Some(1.0),
            model_flops: 1,
            weight_bytes: 2,
            kv_bytes: 3,
            activation_bytes: 4,
            compute_time_ms: Some(0.1),
            memory_time_ms: Some(0.2),
            roofline_ms: Some(0.2),
            bound: Some("memory".to_owned()),
            mfu: Some(0.1),
            mbu: Some(0.2),
        }],
        operators: vec![OperatorRow {
            class: "linear".to_owned(),
            name: "q_proj".to_owned(),
            phase: "prefill".to_owned(),
            layer: Some(0),
            device: "cpu".to_owned(),
            shape: "8x64 · 64x64".to_owned(),
            calls: 3,
            total_ns: 300,
            mean_ns: 100.0,
            p50_ns: 100.0,
            p95_ns: 110.0,
            p99_ns: 110.0,
            std_ns: Some(5.0),
            share: 0.5,
            flops: 1_000,
            bytes: 100,
            flops_per_s: Some(1e9),
            bytes_per_s: Some(1e8),
            roofline_ns: Some(10.0),
            lost_ns: Some(290.0),
            bound: Some("compute".to_owned()),
        }],
        reconciliation: Reconciliation {
            phases_vs_total: Some(0.001),
            unattributed_by_phase: BTreeMap::from([("prefill".to_owned(), 0.01)]),
        },
        quality: Some(QualityBlock {
            text: "embedded".to_owned(),
            token_ids_sha256: "00".repeat(32),
            tokens: 512,
            predicted: 510,
            window: 256,
            perplexity: Some(12.5),
            perplexity_ci95: Some([11.0, 14.0]),
            reference_dtype: Some("f32".to_owned()),
            kl_mean_nats: Some(0.01),
            kl_p99_nats: Some(0.1),
            top1_agreement: Some(0.97),
            error: Some("x".to_owned()),
        }),
        gpu: Some(gpu()),
        diagnostics: vec![diagnostic],
    }
}

pub(crate) fn gpu() -> GpuBlock {
    GpuBlock {
        name: Some("Test GPU".to_owned()),
        uuid: Some("GPU-1".to_owned()),
        cuda_ordinal: Some(0),
        driver_version: Some("570.1".to_owned()),
        memory_bytes: Some(1 << 34),
        power_limit_w: Some(700.0),
        ran_here: true,
        before: Some(GpuBefore {
            utilisation: Some(0.0),
            memory_used_bytes: Some(1 << 20),
            processes: Some(0),
            power_w: Some(60.0),
            sm_mhz: Some(345.0),
            temperature_c: Some(31.0),
            throttle_reasons: vec!["gpu_idle".to_owned()],
            persistence_mode: Some(true),
        }),
        from_s: 0.5,
        to_s: 2.5,
        repeats_share: 0.9,
        interval_s: 0.05,
        intervals: Some(IntervalStatistics { n: 39, mean_s: 0.05, min_s: 0.049, p50_s: 0.05, max_s: 0.06, late: 0 }),
        attempts: 42,
        failures: 2,
        failure_messages: BTreeMap::from([("timeout".to_owned(), 2)]),
        failed_metrics: 0,
        repeats_missed: 0,
        lost_at_s: Some(2.4),
        last_good_s: Some(2.3),
        metrics: BTreeMap::from([(
            "power_w".to_owned(),
            TimeWeighted { mean: 400.0, min: 90.0, max: 650.0, covered_s: 2.0 },
        )]),
        energy_j: Some(800.0),
        energy_source: Some("nvml:counter".to_owned()),
        throttle: vec![ThrottleShare {
            reason: "sw_power_cap".to_owned(),
            share: 0.5,
            effect: ThrottleEffect::PowerLimit,
        }],
        slowdown_share: Some(0.0),
        power_limit_share: Some(0.5),
        sm_clock_spread: Some(0.01),
        ecc_uncorrected: Some(0),
        processes_max: Some(1),
        other_processes_max: Some(0),
        unsupported: vec!["processes".to_owned()],
    }
}

fn schema() -> Value {
    serde_json::from_str(include_str!("../../docs/schema/metrics.stage1.schema.json")).unwrap()
}

/// Pointers of all values in `value`, the outermost first.
fn pointers(value: &Value) -> Vec<String> {
    let mut all = vec![String::new()];
    let mut inner = |key: &str, value: &Value| {
        let key = key.replace('~', "~0").replace('/', "~1");
        all.extend(pointers(value).into_iter().map(|rest| format!("/{key}{rest}")));
    };
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| inner(key, value)),
        Value::Array(items) => items.iter().enumerate().for_each(|(index, value)| inner(&index.to_string(), value)),
        _ => {}
    }
    all
}

/// Maps with free keys, where leaving one out is no error.
const MAPS: [&str; 5] =
    ["measures", "weights_bytes_by_format", "unattributed_by_phase", "gpu/metrics", "failure_messages"];

#[test]
fn the_schema_is_a_schema_and_accepts_what_is_written() {
    assert!(jsonschema::meta::is_valid(&schema()));
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let document = serde_json::to_value(example()).unwrap();
    let errors: Vec<String> =
        validator.iter_errors(&document).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{errors:#?}");
    let other = serde_json::to_value(Family::Other("phi".to_owned())).unwrap();
    let mut document = document;
    document["model"]["architecture"]["family"] = other;
    for scaling in [
        None,
        Some(RopeScaling::Linear { factor: 2.0 }),
        Some(RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position: 8192,
        }),
    ] {
        document["model"]["architecture"]["rope"]["scaling"] = serde_json::to_value(scaling).unwrap();
        assert!(validator.is_valid(&document), "{document:#}");
    }
}

/// Both directions: a field the schema lacks is refused by `additionalProperties`, a field it demands must exist.
#[test]
fn the_schema_knows_each_field_and_whether_it_may_be_null() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let document = serde_json::to_value(example()).unwrap();
    let mut nullable = 0;
    for pointer in pointers(&document) {
        let Some((parent, key)) = pointer.rsplit_once('/') else { continue };
        let in_map = MAPS.iter().any(|map| parent.ends_with(map));
        if document.pointer(parent).unwrap().is_object() && !in_map {
            let mut without = document.clone();
            without.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(key);
            assert!(!validator.is_valid(&without), "{pointer} may be left out");
            let mut more = document.clone();
            more.pointer_mut(parent).unwrap().as_object_mut().unwrap().insert(format!("{key}_x"), Value::Null);
            assert!(!validator.is_valid(&more), "{pointer}_x is accepted");
        }
        let mut null = document.clone();
        *null.pointer_mut(&pointer).unwrap() = Value::Null;
        // A peak may be null only where its kind is `unknown`, which the type cannot say.
        if parent.ends_with("peak_flops_per_s") || parent.ends_with("peak_bytes_per_s") {
            assert!(!validator.is_valid(&null));
            if key == "value" {
                *null.pointer_mut(&format!("{parent}/kind")).unwrap() = "unknown".into();
            }
        }
        let by_type = serde_json::from_value::<Stage1Metrics>(null.clone()).is_ok();
        assert_eq!(validator.is_valid(&null), by_type, "{pointer}: the type and the schema disagree about null");
        nullable += u32::from(by_type);
    }
    assert!(nullable > 20, "{nullable}");
}

#[test]
fn broken_documents_are_rejected() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let document = serde_json::to_value(example()).unwrap();
    for (pointer, wrong) in [
        ("/schema_version", json!(2)),
        ("/command", json!("load")),
        ("/status", json!("running")),
        ("/run_id", json!("../x")),
        ("/validity/status", json!("INVALID")),
        ("/validity/reasons", json!(["but VALID"])),
        ("/measures/ttft_ms/mean", json!("NaN")),
        ("/measures/ttft_ms/n", json!(-1)),
        ("/measures/ttft_ms/ci95", json!([1.0])),
        ("/measures/ttft_ms/ci95", json!([1.0, 2.0, 3.0])),
        ("/hardware/device_id", json!("gpu")),
        ("/hardware/peak_flops_per_s/kind", json!("guess")),
        ("/hardware/peak_flops_per_s/value", json!(0)),
        ("/phases/0/bound", json!("latency")),
        ("/phases/0/steps", json!(1.5)),
        ("/operators/0/phase", json!("warmup")),
        ("/operators/0/share", json!(1.5)),
        ("/diagnostics/0/severity", json!("fatal")),
        ("/gpu/energy_source", json!("rapl")),
        ("/gpu/throttle/0/effect", json!("bad")),
        ("/gpu/slowdown_share", json!(1.5)),
        ("/gpu/metrics/power_w/mean", json!("400 W")),
        ("/model/architecture/family", json!("gpt9")),
        ("/model/architecture/rope/scaling/rope_type", json!("magic")),
    ] {
        let mut broken = document.clone();
        *broken.pointer_mut(pointer).unwrap() = wrong.clone();
        assert!(!validator.is_valid(&broken), "{pointer} = {wrong} is accepted");
    }
}

/// Every field is explained, and every quantity says its unit.
#[test]
fn the_schema_describes_every_field() {
    fn check(schema: &Value, place: &str) {
        if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
            for (name, property) in properties {
                // The branches of `if` repeat a property that is described elsewhere.
                if place.ends_with("if") || place.ends_with("then") || place.ends_with("else") {
                    continue;
                }
                let described = property.get("description").is_some() || property.get("$ref").is_some();
                assert!(described || property.get("const").is_some(), "{place}/{name} has no description");
            }
        }
        match schema {
            Value::Object(map) => map.iter().for_each(|(key, value)| check(value, &format!("{place}/{key}"))),
            Value::Array(items) => items.iter().for_each(|value| check(value, place)),
            _ => {}
        }
    }
    check(&schema(), "");
}
