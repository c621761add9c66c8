//! Hand-made rows, stages and contexts for the tests of what reads them.

use crate::config::schema::load::{ArrivalKind, Slo};
use crate::record::load::LOAD_SCHEMA_VERSION;
use crate::record::load::context::{ClientStage, LoadContext, StagePlan, StageRecord, TargetRecord, WorkloadRecord};
use crate::record::load::outcome::Outcome;
use crate::record::load::row::{ChunkKind, Chunks, Failed, Phase, RequestRow, TokenSource};

/// Nanoseconds of a millisecond.
pub(crate) const MS: u64 = 1_000_000;

/// A successful request without chunks: sent when it was due, at `sent_ms` of the run, ended 100 ms later.
pub(crate) fn row(id: u64, sent_ms: u64) -> RequestRow {
    RequestRow {
        stage: 0,
        phase: Phase::Measured,
        id,
        session: None,
        turn: 0,
        prompt: id,
        target: 0,
        due_ns: sent_ms * MS,
        sent_ns: Some(sent_ms * MS),
        held: false,
        outcome: Outcome::Ok,
        failed: None,
        status: Some(200),
        attempts: 1,
        first_sent_ns: None,
        connect_ms: None,
        first_byte_us: Some(1_000),
        first_event_us: None,
        chunks: Chunks::default(),
        end_us: Some(100_000),
        gone_us: None,
        events: 0,
        input_tokens: Some(8),
        output_tokens: Some(4),
        token_source: Some(TokenSource::Usage),
        reasoning_tokens: None,
        cached_tokens: None,
        max_tokens: None,
        finish_reason: Some("stop".to_owned()),
        notes: Vec::new(),
        lag_us: Some(20),
        text: None,
        server_timings: None,
    }
}

/// A successful stream: chunks of content at the given milliseconds after sending, one token each; it ends 1 ms after the last.
pub(crate) fn stream(id: u64, sent_ms: u64, at_ms: &[u64]) -> RequestRow {
    let mut chunks = Chunks::default();
    for ms in at_ms {
        chunks.push(ms * 1000, ChunkKind::Content);
    }
    let last = at_ms.last().copied().unwrap_or(0);
    RequestRow {
        first_event_us: at_ms.first().map(|ms| ms * 1000),
        end_us: Some((last + 1) * 1000),
        events: at_ms.len() as u32 + 1,
        output_tokens: Some(at_ms.len() as u64),
        chunks,
        ..row(id, sent_ms)
    }
}

/// A stream of `tokens` chunks, the first after `ttft_ms`, the others `gap_ms` apart.
pub(crate) fn even(id: u64, sent_ms: u64, ttft_ms: u64, gap_ms: u64, tokens: u64) -> RequestRow {
    let at: Vec<u64> = (0..tokens).map(|token| ttft_ms + token * gap_ms).collect();
    stream(id, sent_ms, &at)
}

/// A request that failed 5 ms after sending.
pub(crate) fn failed(id: u64, sent_ms: u64, outcome: Outcome, kind: &str, message: &str) -> RequestRow {
    RequestRow {
        outcome,
        failed: Some(Failed { message: message.to_owned(), kind: kind.to_owned() }),
        status: None,
        end_us: Some(5_000),
        first_byte_us: None,
        input_tokens: None,
        output_tokens: None,
        token_source: None,
        finish_reason: None,
        ..row(id, sent_ms)
    }
}

/// A stage of a closed loop.
pub(crate) fn closed(concurrency: u32) -> StagePlan {
    StagePlan {
        label: format!("c={concurrency}"),
        arrival: ArrivalKind::Closed,
        concurrency: Some(concurrency),
        rate: None,
        requests: None,
        duration_s: None,
        warmup: 0,
    }
}

/// A stage of an open loop.
pub(crate) fn open(rate: f64) -> StagePlan {
    StagePlan {
        label: format!("{rate}/s"),
        arrival: ArrivalKind::Poisson,
        concurrency: None,
        rate: Some(rate),
        requests: None,
        duration_s: None,
        warmup: 0,
    }
}

/// A client that had nothing to do.
pub(crate) fn idle_client() -> ClientStage {
    ClientStage {
        stamps: "kernel".to_owned(),
        lag_samples: 100,
        lag_ms: Some([0.01, 0.02, 0.05, 0.1, 0.2]),
        worker_cpu_s: 0.01,
        process_cpu_s: 0.02,
        busiest_worker: 0.05,
        chunks: 1000,
        misplaced_chunks: 0,
        reads: 900,
        bytes: 100_000,
        peak_in_flight: 0,
        connects: 1,
        connect_ms: Some([0.2, 0.4]),
        longest_turn_ms: 0.3,
        longest_pause_ms: 0.0,
    }
}

/// The stage that these rows are: from 0 to the last end, issued as many as there are.
pub(crate) fn stage(plan: StagePlan, rows: &[RequestRow]) -> StageRecord {
    let measured = || rows.iter().filter(|row| row.phase == Phase::Measured);
    let end_ns = measured().filter_map(|row| row.at_ns(row.end_us?)).max().unwrap_or(0);
    StageRecord {
        begin_ns: 0,
        issue_end_ns: measured().filter_map(|row| row.sent_ns).max().unwrap_or(0),
        end_ns,
        issued: measured().count() as u64,
        not_issued: 0,
        stopped: None,
        client: ClientStage { peak_in_flight: plan.concurrency.unwrap_or(1), ..idle_client() },
        in_flight: Vec::new(),
        plan,
    }
}

/// A level that sets a limit to the time to the first token alone.
pub(crate) fn ttft_level(limit_ms: f64) -> Slo {
    Slo { name: "slo".to_owned(), ttft_ms: Some(limit_ms), tpot_ms: None, itl_ms: None, e2e_ms: None, quantile: 0.9 }
}

/// The run these stages are.
pub(crate) fn context(stages: Vec<StageRecord>) -> LoadContext {
    LoadContext {
        schema_version: LOAD_SCHEMA_VERSION,
        run_id: "20260101-000000-abcd".to_owned(),
        backend: "test".to_owned(),
        model: "m".to_owned(),
        endpoint: "chat.completions".to_owned(),
        stream: true,
        targets: vec![TargetRecord {
            url: "http://127.0.0.1:8000".to_owned(),
            server: None,
            http: "HTTP/1.1".to_owned(),
        }],
        workload: WorkloadRecord {
            dataset: "builtin".to_owned(),
            format: "builtin".to_owned(),
            prompts: 10,
            distinct: 10,
            sha256: "0".repeat(64),
            seed: 0,
            tokenizer: None,
            notes: Vec::new(),
        },
        levels: Vec::new(),
        seed: 0,
        started_at: "2026-01-01T00:00:00Z".to_owned(),
        started_wall_ns: 1_767_225_600_000_000_000,
        max_lag_ms: 2.0,
        max_dispatch_delay_ms: 10.0,
        max_error_rate: Some(0.5),
        price_usd_per_hour: None,
        stages,
        diagnostics: Vec::new(),
        complete: true,
    }
}
