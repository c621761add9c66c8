//! Load tests as subjects: values worked out by hand.

use serde_json::{Value, json};

use super::load::{LoadFiles, SERVICE_LEVEL, TOKEN_SOURCE, subject};
use super::{ImportError, definition};
use crate::compare::subject::{MeasureValues, Subject, SubjectKind, fact};
use crate::diagnostics::ValidityStatus;
use crate::record::load::context::LoadContext;
use crate::record::load::metrics::LoadMetrics;
use crate::record::load::row::{ChunkKind, Chunks, RequestRow};

/// A successful request of `stage` sent at `sent_ms`, with chunks so many milliseconds after sending, one token each.
fn row(stage: u32, id: u64, sent_ms: u64, at_ms: &[u64]) -> RequestRow {
    let mut chunks = Chunks::default();
    for at in at_ms {
        chunks.push(at * 1000, ChunkKind::Content);
    }
    let row = json!({
        "stage": stage, "phase": "measured", "id": id, "prompt": id, "target": 0, "due_ns": sent_ms * 1_000_000 - 2_500_000,
        "sent_ns": sent_ms * 1_000_000, "outcome": "ok", "status": 200, "attempts": 1, "first_byte_us": 900, "first_event_us": 1000,
        "chunks": chunks, "end_us": 1_000_000, "events": at_ms.len() + 1, "input_tokens": 8, "output_tokens": at_ms.len(),
        "token_source": "usage", "lag_us": 5
    });
    serde_json::from_value(row).unwrap()
}

fn summary(unit: &str, n: u64, value: f64) -> Value {
    json!({
        "unit": unit, "n": n, "mean": value, "std": 0.0, "min": value, "p50": value, "p90": value, "p95": value, "p99": value,
        "max": value, "ci95": null, "p99_9": value
    })
}

fn stage(label: &str, arrival: &str, concurrency: Option<u32>, rate: Option<f64>) -> Value {
    let mut stage = json!({
        "label": label, "arrival": arrival, "concurrency": concurrency, "rate": rate, "requests": 4, "duration_s": null, "warmup": 1,
        "backend": "vllm", "validity": {"status": "VALID", "reasons": []}, "elapsed_s": 2.0, "issued": 4,
        "outcomes": {"ok": 2, "http_5xx": 1, "cancelled_deadline": 1}, "error_rate": 0.25,
        "measures": {
            "ttft_ms": summary("ms", 2, 100.0), "tpot_ms": summary("ms", 2, 20.0), "itl_ms": summary("ms", 4, 20.0),
            "inter_chunk_ms": summary("ms", 4, 20.0), "e2e_ms": summary("ms", 2, 140.0), "output_tokens": summary("tok", 2, 3.0),
            "input_tokens": summary("tok", 1, 8.0)
        },
        "window_s": 2.0, "request_per_s": 1.0, "output_tok_per_s": 3.0, "total_tok_per_s": 11.0, "prefill_tok_per_s": null,
        "per_user_tok_per_s": null, "fairness": null, "steady": null, "token_sources": {"usage": 6}, "input_tokens": 16,
        "output_tokens": 6, "cached_tokens": null, "peak_in_flight": 2, "late": 0, "goodput": [
            {"slo": "chat", "good": 1, "of": 3, "share": 0.33, "request_per_s": 0.5, "output_tok_per_s": 1.5, "broken": {"ttft_ms": 1}, "kept": false}
        ],
        "goodput_per_s": 0.5, "errors": [], "cost": {"energy_j": null, "j_per_output_token": null, "usd_per_million_output_tokens": null},
        "server": null, "stopped": null
    });
    stage["client"] = json!({
            "lag_p99_ms": 0.1, "cpu_us_per_chunk": 1.0, "limited": false, "stamps": "kernel", "lag_samples": 6, "lag_ms": null,
            "worker_cpu_s": 0.0, "process_cpu_s": 0.0, "busiest_worker": 0.0, "chunks": 6, "misplaced_chunks": 0, "reads": 6, "bytes": 600, "peak_in_flight": 2,
            "connects": 2, "connect_ms": null, "longest_turn_ms": 0.1, "longest_pause_ms": 0.0
    });
    stage
}

fn metrics(stages: &[Value]) -> LoadMetrics {
    let metrics = json!({
        "schema_version": 1, "command": "load", "run_id": "20260101-000000-aaaa", "status": "complete",
        "validity": {"status": "VALID", "reasons": []}, "measures": {}, "backend": "vllm", "model": "org/tiny", "endpoint": "chat.completions",
        "stream": true, "targets": [], "workload": {
            "dataset": "prompts/mine.jsonl", "format": "prompts", "prompts": 4, "distinct": 4, "sha256": "ab", "seed": 7, "tokenizer": null, "notes": []
        },
        "stages": stages, "saturation": null, "gpus": [], "diagnostics": [
            {"code": "errors", "severity": "warn", "count": 1, "first": "one failed"},
            {"code": "few_requests", "severity": "info", "count": 1, "first": "few"}
        ]
    });
    serde_json::from_value(metrics).unwrap()
}

fn context() -> LoadContext {
    serde_json::from_value(json!({
        "schema_version": 1, "run_id": "20260101-000000-aaaa", "backend": "vllm", "model": "org/tiny", "endpoint": "chat.completions",
        "stream": true, "targets": [], "workload": {
            "dataset": "d", "format": "prompts", "prompts": 4, "distinct": 4, "sha256": "ab", "seed": 7, "tokenizer": null, "notes": []
        },
        "levels": [{"name": "chat", "ttft_ms": 150.0, "tpot_ms": 25.5, "itl_ms": null, "e2e_ms": null, "quantile": 0.9}], "seed": 7,
        "started_at": "2026-01-01T00:00:00Z", "started_wall_ns": 0, "max_lag_ms": 2.0, "max_dispatch_delay_ms": 10.0, "max_error_rate": 0.5,
        "price_usd_per_hour": 3.6, "stages": [], "diagnostics": [], "complete": true
    }))
    .unwrap()
}

fn files(stages: &[Value], rows: Vec<RequestRow>) -> LoadFiles {
    LoadFiles {
        name: "run".to_owned(),
        run: None,
        status: None,
        context: Some(context()),
        metrics: metrics(stages),
        rows,
        diagnostics: Vec::new(),
    }
}

#[track_caller]
fn values<'a>(subject: &'a Subject, case: &str, name: &str) -> &'a MeasureValues {
    let found = subject.measures.iter().find(|of| of.case.as_deref() == Some(case) && of.name == name);
    found.unwrap_or_else(|| panic!("no `{name}` of `{case}` in {:?}", subject.measures))
}

fn told<'a>(subject: &'a Subject, name: &str) -> Option<&'a str> {
    subject.facts.get(name).and_then(Option::as_deref)
}

fn closed() -> Value {
    stage("c=2", "closed", Some(2), None)
}

#[test]
fn a_stage_is_a_case_with_the_values_of_the_requests_that_succeeded() {
    let mut warmup = row(0, 0, 10, &[999]);
    warmup.phase = crate::record::load::row::Phase::Warmup;
    let mut failed = row(0, 2, 300, &[5]);
    failed.outcome = crate::record::load::outcome::Outcome::Http5xx;
    // Written as they ended, not as they were issued.
    let rows = vec![row(0, 1, 200, &[110, 130, 160]), row(0, 0, 100, &[100, 110, 120]), failed, warmup];
    let got = subject(&files(&[closed()], rows)).unwrap();
    assert_eq!(
        (got.kind, got.tool.as_str(), got.label.as_str()),
        (SubjectKind::Load, "perfprof load", "20260101-000000-aaaa")
    );
    assert_eq!(values(&got, "c=2", "ttft_ms").values, [100.0, 110.0]);
    assert_eq!(values(&got, "c=2", "tpot_ms").values, [10.0, 25.0]);
    assert_eq!(values(&got, "c=2", "itl_ms").values, [10.0, 10.0, 20.0, 30.0]);
    assert_eq!(values(&got, "c=2", "e2e_ms").values, [120.0, 160.0]);
    for (name, value) in
        [("request_per_s", 1.0), ("output_tok_per_s", 3.0), ("input_output_tok_per_s", 11.0), ("goodput_per_s", 0.5)]
    {
        assert_eq!(values(&got, "c=2", name).values, [value], "{name}");
    }
    assert_eq!(values(&got, "c=2", "ttft_ms").runs, [0, 0], "requests of one run are not runs of their own");
    assert!(!got.measures.iter().any(|of| of.name.ends_with("_from_due_ms")), "a closed loop has no schedule");
    assert_eq!((got.outcomes.ok, got.outcomes.failed, got.outcomes.interrupted), (2, 1, 1));
    assert_eq!(got.price_usd_per_hour, Some(3.6));
    let codes: Vec<&str> = got.diagnostics.iter().map(|found| found.code.as_str()).collect();
    assert_eq!(codes, ["errors"], "what the run warned of, and no more");
}

#[test]
fn facts_say_what_was_asked_and_how_it_was_counted() {
    let got =
        subject(&files(&[closed()], vec![row(0, 0, 100, &[100, 110, 120]), row(0, 1, 200, &[100, 120])])).unwrap();
    for (name, value) in [
        (fact::BACKEND, "vllm"),
        (fact::MODEL, "tiny"),
        ("endpoint", "chat.completions"),
        ("dataset", "mine.jsonl"),
        (fact::PROMPTS_SHA256, "ab"),
        (fact::SEED, "7"),
        (TOKEN_SOURCE, "usage"),
        (SERVICE_LEVEL, "ttft_ms 150, tpot_ms 25.5"),
        (definition::TTFT, "sent to the first chunk with content, reasoning or tool calls"),
        ("case:c=2.arrival", "closed"),
        ("case:c=2.concurrency", "2"),
        ("case:c=2.requests", "4"),
        ("case:c=2.prompt_tokens", "8"),
        ("case:c=2.new_tokens", "2 to 3, mean 2.50"),
    ] {
        assert_eq!(told(&got, name), Some(value), "{name}");
    }
    assert!(!got.facts.contains_key("case:c=2.request_rate"), "a closed loop has no rate");
}

#[test]
fn an_open_loop_has_what_users_waited_from_when_they_were_due() {
    let stages = [stage("2/s", "poisson", None, Some(2.0)), stage("2/s", "poisson", None, Some(2.0))];
    let got = subject(&files(&stages, vec![row(0, 0, 100, &[100, 110]), row(1, 0, 900, &[50, 60])])).unwrap();
    assert_eq!(values(&got, "2/s", "ttft_from_due_ms").values, [102.5]);
    assert_eq!(values(&got, "2/s", "e2e_from_due_ms").values, [112.5]);
    assert_eq!(told(&got, "case:2/s.request_rate"), Some("2"));
    // Two stages of one label are not two runs of one case.
    assert_eq!(values(&got, "2/s #2", "ttft_ms").values, [50.0]);
}

#[test]
fn gaps_are_of_tokens_only_where_it_is_known_how_many_a_chunk_held() {
    let mut several = row(0, 0, 100, &[100, 120, 140]);
    several.output_tokens = Some(12);
    let got = subject(&files(&[closed()], vec![several.clone()])).unwrap();
    assert_eq!(values(&got, "c=2", "inter_chunk_ms").values, [20.0, 20.0]);
    // 1 token, then none, then 4 after 40 ms in all.
    several.chunks.tokens = Some(vec![1, 0, 4]);
    let got = subject(&files(&[closed()], vec![several, row(0, 1, 200, &[10, 17])])).unwrap();
    assert_eq!(values(&got, "c=2", "itl_ms").values, [10.0, 10.0, 10.0, 10.0, 7.0]);
}

#[test]
fn a_summary_alone_states_and_does_not_judge() {
    let files = LoadFiles { context: None, ..files(&[closed()], Vec::new()) };
    let got = subject(&files).unwrap();
    let ttft = values(&got, "c=2", "ttft_ms");
    assert_eq!((ttft.values.len(), ttft.reported.as_ref().and_then(|of| of.p50)), (0, Some(100.0)));
    // Each of the four gaps was of one token.
    assert_eq!(values(&got, "c=2", "itl_ms").reported.as_ref().unwrap().n, 4);
    assert_eq!(told(&got, "case:c=2.new_tokens"), Some("3"));
    assert_eq!(told(&got, "case:c=2.prompt_tokens"), None, "one of two requests did not say");
    assert_eq!((told(&got, SERVICE_LEVEL), got.price_usd_per_hour), (None, None));
    assert!(got.diagnostics.iter().any(|found| found.code == "no_rows"));
}

#[test]
fn a_run_without_a_success_is_an_invalid_subject_and_one_without_a_stage_none() {
    let mut nothing = closed();
    nothing["outcomes"] = json!({"connect_error": 4});
    nothing["request_per_s"] = Value::Null;
    nothing["output_tok_per_s"] = Value::Null;
    nothing["total_tok_per_s"] = Value::Null;
    nothing["goodput_per_s"] = Value::Null;
    let mut files = files(&[nothing], Vec::new());
    files.metrics.validity = crate::diagnostics::Validity::from_reasons(vec!["no request succeeded".to_owned()]);
    let got = subject(&files).unwrap();
    assert_eq!((got.validity.status, got.measures.len(), got.outcomes.failed), (ValidityStatus::Invalid, 0, 4));
    files.metrics.stages.clear();
    assert!(matches!(subject(&files), Err(ImportError::Unusable { .. })));
}

#[test]
fn of_very_many_gaps_those_of_every_so_manyth_request_are_taken() {
    // 500 requests of 801 chunks: 400,000 gaps, of which every second request's are kept.
    let at: Vec<u64> = (0..801).map(|chunk| 100 + chunk).collect();
    let rows: Vec<RequestRow> = (0..500).map(|id| row(0, id, 100 + id, &at)).collect();
    let got = subject(&files(&[closed()], rows)).unwrap();
    assert_eq!(values(&got, "c=2", "itl_ms").values.len(), 200_000);
    assert_eq!(values(&got, "c=2", "tpot_ms").values.len(), 500);
    assert!(got.diagnostics.iter().any(|found| found.code == "gaps_thinned"));
}
