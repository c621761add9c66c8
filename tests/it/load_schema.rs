//! The published schema of `metrics.json` of `load` against the types that write it.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::BTreeMap;

use perfprof::config::schema::load::{ArrivalKind, Slo};
use perfprof::record::load::LOAD_SCHEMA_VERSION;
use perfprof::record::load::context::{ClientStage, LoadContext, StagePlan, StageRecord, TargetRecord, WorkloadRecord};
use perfprof::record::load::metrics::{
    CostBlock, Knee, LoadMetrics, MaxUnderSlo, Peak, Rates, Saturation, ServerBlock, SteadyBlock,
};
use perfprof::record::load::outcome::Outcome;
use perfprof::record::load::row::{ChunkKind, Chunks, Failed, Phase, RequestRow, TokenSource};
use perfprof::runner::load::summary::{Extras, MEASURES, summarize};
use serde_json::{Value, json};

fn schema() -> Value {
    serde_json::from_str(include_str!("../../docs/schema/metrics.load.schema.json")).unwrap()
}

fn errors(document: &Value) -> Vec<String> {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    validator.iter_errors(document).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

/// A request of a closed loop: 5 chunks, 20 ms apart after 100 ms, sent `sent_ms` after the begin of the run.
fn row(stage: u32, id: u64, sent_ms: u64) -> RequestRow {
    let mut chunks = Chunks::default();
    for chunk in 0..5 {
        chunks.push(100_000 + chunk * 20_000, ChunkKind::Content);
    }
    RequestRow {
        stage,
        phase: Phase::Measured,
        id,
        session: None,
        turn: 0,
        prompt: id,
        target: 0,
        due_ns: sent_ms * 1_000_000,
        sent_ns: Some(sent_ms * 1_000_000),
        held: false,
        outcome: Outcome::Ok,
        failed: None,
        status: Some(200),
        attempts: 1,
        first_sent_ns: None,
        connect_ms: None,
        first_byte_us: Some(900),
        first_event_us: Some(100_000),
        chunks,
        end_us: Some(181_000),
        gone_us: None,
        events: 6,
        input_tokens: Some(20),
        output_tokens: Some(5),
        token_source: Some(TokenSource::Usage),
        reasoning_tokens: None,
        cached_tokens: Some(0),
        max_tokens: Some(5),
        finish_reason: Some("length".to_owned()),
        notes: Vec::new(),
        lag_us: Some(15),
        text: None,
        server_timings: None,
    }
}

fn failed(row: RequestRow) -> RequestRow {
    RequestRow {
        outcome: Outcome::Http5xx,
        failed: Some(Failed { message: "busy".to_owned(), kind: "status".to_owned() }),
        status: Some(503),
        output_tokens: None,
        token_source: None,
        chunks: Chunks::default(),
        ..row
    }
}

fn stage(concurrency: u32, rows: &[RequestRow], begin_ms: u64) -> StageRecord {
    StageRecord {
        plan: StagePlan {
            label: format!("c={concurrency}"),
            arrival: ArrivalKind::Closed,
            concurrency: Some(concurrency),
            rate: None,
            requests: Some(rows.len() as u32),
            duration_s: None,
            warmup: 2,
        },
        begin_ns: begin_ms * 1_000_000,
        issue_end_ns: rows.iter().filter_map(|row| row.sent_ns).max().unwrap_or(0),
        end_ns: rows.iter().filter_map(|row| row.at_ns(row.end_us?)).max().unwrap_or(0),
        issued: rows.len() as u64,
        not_issued: 0,
        stopped: None,
        client: ClientStage {
            stamps: "kernel".to_owned(),
            lag_samples: 60,
            lag_ms: Some([0.01, 0.02, 0.03, 0.04, 0.05]),
            worker_cpu_s: 0.001,
            process_cpu_s: 0.002,
            busiest_worker: 0.01,
            chunks: 60,
            misplaced_chunks: 0,
            reads: 72,
            bytes: 9000,
            peak_in_flight: concurrency,
            connects: 1,
            connect_ms: Some([0.1, 0.2]),
            longest_turn_ms: 0.2,
            longest_pause_ms: 0.0,
        },
        in_flight: Vec::new(),
    }
}

/// Two stages of 12 requests for each of 1 and 2 slots, with a level and a price; one request of the second fails.
fn run() -> (LoadContext, Vec<RequestRow>) {
    let first: Vec<RequestRow> = (0..12).map(|id| row(0, id, id * 181)).collect();
    let mut second: Vec<RequestRow> = (0..24).map(|id| row(1, id, 5000 + (id / 2) * 181)).collect();
    second[23] = failed(second[23].clone());
    let context = LoadContext {
        schema_version: LOAD_SCHEMA_VERSION,
        run_id: "20260101-000000-abcd".to_owned(),
        backend: "test".to_owned(),
        model: "m".to_owned(),
        endpoint: "chat.completions".to_owned(),
        stream: true,
        targets: vec![TargetRecord {
            url: "http://127.0.0.1:1".to_owned(),
            server: Some("mock".to_owned()),
            http: "HTTP/1.1".to_owned(),
        }],
        workload: WorkloadRecord {
            dataset: "builtin".to_owned(),
            format: "builtin".to_owned(),
            prompts: 24,
            distinct: 24,
            sha256: "0".repeat(64),
            seed: 0,
            tokenizer: Some("tokenizer.json".to_owned()),
            notes: vec!["shuffled".to_owned()],
        },
        levels: vec![Slo {
            name: "chat".to_owned(),
            ttft_ms: Some(150.0),
            tpot_ms: None,
            itl_ms: None,
            e2e_ms: None,
            quantile: 0.9,
        }],
        seed: 0,
        started_at: "2026-01-01T00:00:00Z".to_owned(),
        started_wall_ns: 1_767_225_600_000_000_000,
        max_lag_ms: 2.0,
        max_dispatch_delay_ms: 10.0,
        max_error_rate: Some(0.5),
        price_usd_per_hour: Some(2.0),
        stages: vec![stage(1, &first, 0), stage(2, &second, 5000)],
        diagnostics: Vec::new(),
        complete: true,
    };
    (context, [first, second].concat())
}

fn summarized() -> LoadMetrics {
    let (context, rows) = run();
    summarize(&context, &rows, &Extras { status: "complete", ..Extras::default() })
}

/// A document in which every optional value is set and no list is empty.
fn example() -> LoadMetrics {
    let mut metrics = summarized();
    let mut stage = metrics.stages.remove(1);
    let mut measure = stage.measures["e2e_ms"].clone();
    measure.p99_9.get_or_insert(1.0);
    stage.measures = BTreeMap::from([("e2e_ms".to_owned(), measure)]);
    metrics.measures = stage.measures.clone();
    stage.plan.rate = Some(2.0);
    stage.plan.duration_s = Some(3.0);
    let rates = Rates { window_s: Some(2.0), ..stage.rates.clone() };
    stage.steady = Some(SteadyBlock { from_s: 0.1, to_s: 2.1, measures: stage.measures.clone(), rates });
    stage.cost =
        CostBlock { energy_j: Some(100.0), j_per_output_token: Some(1.0), usd_per_million_output_tokens: Some(2.0) };
    stage.server = Some(ServerBlock {
        dialect: "vllm".to_owned(),
        gauges: BTreeMap::from([("running".to_owned(), [1.5, 2.0])]),
        counters: BTreeMap::from([("generated_tokens".to_owned(), 120.0)]),
        latencies_ms: BTreeMap::from([("ttft".to_owned(), 99.0)]),
    });
    stage.stopped = Some("requests pile up".to_owned());
    metrics.stages = vec![stage];
    let peak = || Some(Peak { stage: "c=2".to_owned(), value: 2.0 });
    metrics.saturation = Some(Saturation {
        axis: "concurrency".to_owned(),
        knee: Some(Knee { at: 8.0, ci95: [7.0, 9.0], value: 700.0, slope_before: 90.0, slope_after: 1.0 }),
        peak_request_per_s: peak(),
        peak_output_tok_per_s: peak(),
        lowest_p99_e2e_ms: peak(),
        p99_rises_at: peak(),
        errors_rise_at: peak(),
        best: peak(),
        best_because: "it is".to_owned(),
        max_under_slo: Some(MaxUnderSlo { slo: "chat".to_owned(), value: Some(2.0), broken_at: Some(4.0) }),
        evidence: vec!["seen".to_owned()],
    });
    metrics.gpus = vec![crate::metrics_schema::gpu()];
    metrics.diagnostics.truncate(1);
    metrics
}

#[test]
fn the_schema_of_load_tests_is_a_schema_and_accepts_what_is_written() {
    assert!(jsonschema::meta::is_valid(&schema()));
    let (context, rows) = run();
    let nothing = summarize(
        &LoadContext { stages: Vec::new(), complete: false, ..context.clone() },
        &[],
        &Extras { status: "interrupted", ..Extras::default() },
    );
    let lost: Vec<RequestRow> = rows.iter().cloned().map(failed).collect();
    let all_failed = summarize(&context, &lost, &Extras { status: "complete", ..Extras::default() });
    assert_eq!((nothing.status.as_str(), all_failed.status.as_str()), ("interrupted", "invalid"));
    for metrics in [summarized(), example(), nothing, all_failed] {
        assert_eq!(errors(&serde_json::to_value(metrics).unwrap()), Vec::<String>::new());
    }
}

#[test]
fn a_hand_made_run_says_what_was_put_in() {
    let metrics = summarized();
    assert_eq!(metrics.status, "complete", "{:?}", metrics.validity.reasons);
    let [one, two] = metrics.stages.as_slice() else { panic!("two stages") };
    assert_eq!((one.outcomes["ok"], two.outcomes["ok"], two.outcomes["http_5xx"]), (12, 23, 1));
    assert_eq!((one.measures["ttft_ms"].summary.p50, one.measures["tpot_ms"].summary.p50), (Some(100.0), Some(20.0)));
    // 12 requests one after the other, 181 ms each.
    assert!((one.rates.request_per_s.unwrap() - 1.0 / 0.181).abs() < 1e-9);
    assert_eq!((two.goodput[0].good, two.goodput[0].of, two.goodput[0].kept), (23, 24, true));
    assert_eq!(metrics.saturation.unwrap().best.unwrap().stage, "c=2");
    let mut names: Vec<&str> = one.measures.keys().map(String::as_str).collect();
    let mut known = MEASURES;
    names.sort_unstable();
    known.sort_unstable();
    assert_eq!(names, known);
    let written = serde_json::to_value(&metrics.stages).unwrap();
    assert_eq!((&written[0]["client"]["lag_p99_ms"], &written[0]["client"]["lag_ms"][2]), (&json!(0.03), &json!(0.03)));
}

#[test]
fn every_measure_of_load_tests_is_defined_in_the_manual() {
    let manual = include_str!("../../docs/METRICS.md");
    let section = manual.split("\n## ").find(|section| section.starts_with("Measures of load")).expect("its section");
    for name in MEASURES {
        assert!(section.lines().any(|line| line.starts_with(&format!("| `{name}` |"))), "`{name}` is not defined");
    }
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

/// Both directions: a field the schema lacks is refused by `additionalProperties`, a field it demands must exist.
#[test]
fn the_schema_of_load_tests_knows_each_field_and_whether_it_may_be_null() {
    const MAPS: [&str; 9] = [
        "/measures",
        "/outcomes",
        "/token_sources",
        "/broken",
        "/gauges",
        "/counters",
        "/latencies_ms",
        "gpus/0/metrics",
        "/failure_messages",
    ];
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let document = serde_json::to_value(example()).unwrap();
    assert!(validator.is_valid(&document), "{:?}", errors(&document));
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
        let by_type = serde_json::from_value::<LoadMetrics>(null.clone()).is_ok();
        assert_eq!(validator.is_valid(&null), by_type, "{pointer}: the type and the schema disagree about null");
        nullable += u32::from(by_type);
    }
    assert!(nullable > 40, "{nullable}");
}

#[test]
fn broken_load_tests_are_rejected_and_every_field_is_described() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let document = serde_json::to_value(example()).unwrap();
    for (pointer, wrong) in [
        ("/schema_version", json!(2)),
        ("/command", json!("stage1")),
        ("/status", json!("running")),
        ("/run_id", json!("../x")),
        ("/validity/reasons", json!(["but VALID"])),
        ("/endpoint", json!("embeddings")),
        ("/stages/0/arrival", json!("bursty")),
        ("/stages/0/issued", json!(-1)),
        ("/stages/0/outcomes", json!({"lost": 1})),
        ("/stages/0/error_rate", json!(1.5)),
        ("/stages/0/measures/e2e_ms/p99_9", json!("NaN")),
        ("/stages/0/token_sources", json!({"guess": 1})),
        ("/stages/0/errors/0/outcome", json!("ok")),
        ("/stages/0/goodput/0/broken", json!({"speed_ms": 1})),
        ("/stages/0/client/lag_ms", json!([0.1])),
        ("/saturation/axis", json!("time")),
        ("/saturation/knee/ci95", json!([1.0])),
        ("/diagnostics/0/severity", json!("fatal")),
    ] {
        let mut broken = document.clone();
        *broken.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = wrong.clone();
        assert!(!validator.is_valid(&broken), "{pointer} = {wrong} is accepted");
    }
    fn check(schema: &Value, place: &str) {
        if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
            for (name, property) in properties {
                let branch = ["if", "then", "else"].iter().any(|word| place.ends_with(word));
                let described = property.get("description").is_some() || property.get("const").is_some();
                assert!(branch || described || place.contains("gpu"), "{place}/{name} has no description");
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
