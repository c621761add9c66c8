//! Hand-made rows and contexts for unit tests.

use crate::config::schema::load::ArrivalKind;
use crate::record::load::LOAD_SCHEMA_VERSION;
use crate::record::load::context::{ClientStage, LoadContext, StagePlan, StageRecord, WorkloadRecord};
use crate::record::load::outcome::Outcome;
use crate::record::load::row::{Chunks, Phase, RequestRow, TokenSource};

/// A successful request without an answer yet.
pub(super) fn row(stage: u32, id: u64) -> RequestRow {
    RequestRow {
        stage,
        phase: Phase::Measured,
        id,
        session: None,
        turn: 0,
        prompt: id,
        target: 0,
        due_ns: 0,
        sent_ns: None,
        held: false,
        outcome: Outcome::Ok,
        failed: None,
        status: Some(200),
        attempts: 1,
        first_sent_ns: None,
        connect_ms: None,
        first_byte_us: None,
        first_event_us: None,
        chunks: Chunks::default(),
        end_us: None,
        gone_us: None,
        events: 4,
        input_tokens: None,
        output_tokens: None,
        token_source: Some(TokenSource::Usage),
        reasoning_tokens: None,
        cached_tokens: None,
        max_tokens: None,
        finish_reason: Some("stop".to_owned()),
        notes: Vec::new(),
        lag_us: None,
        text: None,
        server_timings: None,
    }
}

/// A closed loop with stages one after the other: label, requests kept in flight, length in ns.
pub(super) fn context(stages: &[(&str, u32, u64)]) -> LoadContext {
    let mut begin = 0;
    let stages = stages.iter().map(|(label, concurrency, length)| {
        let from = begin;
        begin += length;
        StageRecord {
            plan: StagePlan {
                label: (*label).to_owned(),
                arrival: ArrivalKind::Closed,
                concurrency: Some(*concurrency),
                rate: None,
                requests: None,
                duration_s: None,
                warmup: 0,
            },
            begin_ns: from,
            issue_end_ns: begin,
            end_ns: begin,
            issued: 0,
            not_issued: 0,
            stopped: None,
            client: ClientStage {
                stamps: "kernel".to_owned(),
                lag_samples: 0,
                lag_ms: None,
                worker_cpu_s: 0.0,
                process_cpu_s: 0.0,
                busiest_worker: 0.0,
                chunks: 0,
                misplaced_chunks: 0,
                reads: 0,
                bytes: 0,
                peak_in_flight: *concurrency,
                connects: 1,
                connect_ms: None,
                longest_turn_ms: 0.0,
                longest_pause_ms: 0.0,
            },
            in_flight: Vec::new(),
        }
    });
    LoadContext {
        schema_version: LOAD_SCHEMA_VERSION,
        run_id: "20260101-000000-abcd".to_owned(),
        backend: "vllm".to_owned(),
        model: "m".to_owned(),
        endpoint: "chat.completions".to_owned(),
        stream: true,
        targets: Vec::new(),
        workload: WorkloadRecord {
            dataset: "builtin".to_owned(),
            format: "builtin".to_owned(),
            prompts: 1,
            distinct: 1,
            sha256: String::new(),
            seed: 0,
            tokenizer: None,
            notes: Vec::new(),
        },
        levels: Vec::new(),
        seed: 0,
        started_at: "2026-01-01T00:00:00.000Z".to_owned(),
        started_wall_ns: 1_767_225_600_000_000_000,
        max_lag_ms: 1.0,
        max_dispatch_delay_ms: 10.0,
        max_error_rate: None,
        price_usd_per_hour: None,
        stages: stages.collect(),
        diagnostics: Vec::new(),
        complete: true,
    }
}
