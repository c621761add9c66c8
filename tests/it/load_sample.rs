//! A run of a load test built by hand, for the tests of its reports.

use std::collections::BTreeMap;

use perfprof::config::schema::load::{ArrivalKind, Slo};
use perfprof::diagnostics::{Diagnostic, Severity, Validity};
use perfprof::hardware::identify::GpuIdentity;
use perfprof::record::gpu::{GPU_SCHEMA_VERSION, GpuColumns, GpuRepeat, GpuTelemetry, SlowColumns};
use perfprof::record::load::LOAD_SCHEMA_VERSION;
use perfprof::record::load::context::{ClientStage, LoadContext, StagePlan, StageRecord, TargetRecord, WorkloadRecord};
use perfprof::record::load::metrics::{
    ClientBlock, CostBlock, Distribution, ErrorBlock, Goodput, Knee, LoadMetrics, Measures, Peak, Rates, Saturation,
    ServerBlock, StageBlock, SteadyBlock,
};
use perfprof::record::load::outcome::Outcome;
use perfprof::record::load::row::{ChunkKind, Chunks, Failed, Phase, RequestRow, TokenSource};
use perfprof::record::load::server::ServerSeries;
use perfprof::report::load::LoadReport;
use perfprof::stats::quantile::quantile;
use perfprof::stats::summary::Summary;

pub(crate) const SECOND: u64 = 1_000_000_000;

/// A run as it lies on the disk.
pub(crate) struct Sample {
    pub(crate) metrics: LoadMetrics,
    pub(crate) context: LoadContext,
    pub(crate) rows: Vec<RequestRow>,
    pub(crate) gpus: Vec<GpuTelemetry>,
    pub(crate) server: Option<ServerSeries>,
}

impl Sample {
    pub(crate) fn report(&self) -> LoadReport<'_> {
        LoadReport {
            metrics: &self.metrics,
            context: &self.context,
            rows: &self.rows,
            gpus: &self.gpus,
            server: self.server.as_ref(),
            command: "perfprof load base_url=http://127.0.0.1:8000 concurrency=1,4,16",
            generated_at: "2026-01-01T00:01:00.000Z",
            others: Vec::new(),
        }
    }
}

/// A request: due and sent, the first token after `ttft_ms`, then `later` chunks `gap_ms` apart.
pub(crate) fn row(stage: u32, id: u64, due_ns: u64, ttft_ms: u64, later: u64, gap_ms: u64) -> RequestRow {
    let mut chunks = Chunks::default();
    for at in 0..=later {
        chunks.push((ttft_ms + at * gap_ms) * 1000, ChunkKind::Content);
    }
    RequestRow {
        stage,
        phase: Phase::Measured,
        id,
        session: None,
        turn: 0,
        prompt: id,
        target: 0,
        due_ns,
        sent_ns: Some(due_ns + 200_000),
        held: false,
        outcome: Outcome::Ok,
        failed: None,
        status: Some(200),
        attempts: 1,
        first_sent_ns: None,
        connect_ms: None,
        first_byte_us: Some(1000),
        first_event_us: Some(1000),
        chunks,
        end_us: Some((ttft_ms + later * gap_ms + 1) * 1000),
        gone_us: None,
        events: later as u32 + 3,
        input_tokens: Some(32),
        output_tokens: Some(later + 1),
        token_source: Some(TokenSource::Usage),
        reasoning_tokens: None,
        cached_tokens: None,
        max_tokens: Some(16),
        finish_reason: Some("length".to_owned()),
        notes: Vec::new(),
        lag_us: Some(40),
        text: None,
        server_timings: None,
    }
}

pub(crate) fn fail(row: RequestRow, outcome: Outcome, message: &str) -> RequestRow {
    let failed = Failed { message: message.to_owned(), kind: "status".to_owned() };
    RequestRow {
        outcome,
        failed: Some(failed),
        status: (outcome == Outcome::Http5xx).then_some(503),
        chunks: Chunks::default(),
        output_tokens: None,
        token_source: None,
        finish_reason: None,
        end_us: Some(5000),
        ..row
    }
}

pub(crate) fn distribution(unit: &str, values: &[f64]) -> Distribution {
    Distribution { summary: Summary::from_values(unit, values), p99_9: quantile(values, 0.999) }
}

pub(crate) fn measures(rows: &[&RequestRow]) -> Measures {
    let of =
        |get: &dyn Fn(&RequestRow) -> Option<f64>| -> Vec<f64> { rows.iter().filter_map(|row| get(row)).collect() };
    let gaps: Vec<f64> = rows.iter().flat_map(|row| row.gaps_ms()).collect();
    let all = [
        ("ttft_ms", of(&RequestRow::ttft_ms)),
        ("tpot_ms", of(&RequestRow::tpot_ms)),
        ("e2e_ms", of(&RequestRow::e2e_ms)),
        ("dispatch_delay_ms", of(&RequestRow::dispatch_delay_ms)),
        ("itl_ms", gaps.clone()),
        ("inter_chunk_ms", gaps),
    ];
    all.into_iter().map(|(name, values)| (name.to_owned(), distribution("ms", &values))).collect()
}

pub(crate) fn client(concurrency: u32) -> ClientStage {
    ClientStage {
        stamps: "kernel".to_owned(),
        lag_samples: 900,
        lag_ms: Some([0.01, 0.02, 0.04, 0.06, 0.08]),
        worker_cpu_s: 0.01,
        process_cpu_s: 0.02,
        busiest_worker: 0.05,
        chunks: 900,
        misplaced_chunks: 0,
        reads: 950,
        bytes: 180_000,
        peak_in_flight: concurrency,
        connects: u64::from(concurrency),
        connect_ms: Some([0.2, 0.5]),
        longest_turn_ms: 0.3,
        longest_pause_ms: 0.0,
    }
}

/// The block of a stage from its rows, as far as a report needs one.
pub(crate) fn block(plan: &StagePlan, rows: &[RequestRow], elapsed_s: f64, levels: &[Slo]) -> StageBlock {
    let good: Vec<&RequestRow> = rows.iter().filter(|row| row.outcome == Outcome::Ok).collect();
    let mut outcomes: BTreeMap<String, u64> = BTreeMap::new();
    let mut errors: Vec<ErrorBlock> = Vec::new();
    for row in rows {
        *outcomes.entry(row.outcome.name().to_owned()).or_default() += 1;
        let Some(failed) = row.failed.as_ref().filter(|_| row.outcome.is_error()) else { continue };
        match errors.iter_mut().find(|error| error.outcome == row.outcome.name()) {
            Some(error) => error.count += 1,
            None => errors.push(ErrorBlock {
                outcome: row.outcome.name().to_owned(),
                kind: failed.kind.clone(),
                status: row.status,
                count: 1,
                first: failed.message.clone(),
            }),
        }
    }
    let failed = rows.iter().filter(|row| row.outcome.is_error()).count();
    let judged = failed + good.len();
    let tokens: u64 = good.iter().filter_map(|row| row.output_tokens).sum();
    let some = |value: f64| (!good.is_empty()).then_some(value);
    let rates = Rates {
        window_s: Some(elapsed_s),
        request_per_s: some(good.len() as f64 / elapsed_s),
        output_tok_per_s: some(tokens as f64 / elapsed_s),
        total_tok_per_s: some((tokens + 32 * good.len() as u64) as f64 / elapsed_s),
        prefill_tok_per_s: some(640.0),
        per_user_tok_per_s: some(50.0),
        fairness: some(0.99),
    };
    let goodput: Vec<Goodput> = levels
        .iter()
        .map(|level| {
            let kept = good.iter().filter(|row| row.ttft_ms() <= level.ttft_ms).count() as u64;
            Goodput {
                slo: level.name.clone(),
                good: kept,
                of: judged as u64,
                share: (judged > 0).then(|| kept as f64 / judged as f64),
                request_per_s: some(kept as f64 / elapsed_s),
                output_tok_per_s: None,
                broken: BTreeMap::from([("ttft_ms".to_owned(), good.len() as u64 - kept)]),
                kept: kept * 100 >= judged as u64 * 95,
            }
        })
        .collect();
    let half = &good[..good.len() / 2];
    StageBlock {
        backend: "vllm".to_owned(),
        validity: Validity::from_reasons(Vec::new()),
        elapsed_s,
        issued: rows.len() as u64,
        outcomes,
        error_rate: (judged > 0).then(|| failed as f64 / judged as f64),
        measures: measures(&good),
        rates: rates.clone(),
        steady: (half.len() > 5).then(|| SteadyBlock {
            from_s: 0.5,
            to_s: elapsed_s - 0.5,
            measures: measures(half),
            rates,
        }),
        token_sources: BTreeMap::from([("usage".to_owned(), tokens)]),
        input_tokens: Some(32 * good.len() as u64),
        output_tokens: Some(tokens),
        cached_tokens: None,
        peak_in_flight: plan.concurrency.unwrap_or(1),
        late: 0,
        goodput_per_s: goodput.first().and_then(|good| good.request_per_s),
        goodput,
        errors,
        client: ClientBlock {
            lag_ms: Some(0.04),
            cpu_us_per_chunk: Some(9.5),
            limited: false,
            stage: client(plan.concurrency.unwrap_or(1)),
        },
        cost: CostBlock { energy_j: Some(800.0), j_per_output_token: Some(1.25), usd_per_million_output_tokens: None },
        server: Some(ServerBlock {
            dialect: "vllm".to_owned(),
            gauges: BTreeMap::from([("running".to_owned(), [2.0, 4.0])]),
            counters: BTreeMap::from([("generated_tokens".to_owned(), tokens as f64)]),
            latencies_ms: BTreeMap::from([("ttft".to_owned(), 48.0)]),
        }),
        stopped: None,
        plan: plan.clone(),
    }
}

pub(crate) fn plan(concurrency: u32, requests: u64) -> StagePlan {
    StagePlan {
        label: format!("c={concurrency}"),
        arrival: ArrivalKind::Closed,
        concurrency: Some(concurrency),
        rate: None,
        requests: Some(requests as u32),
        duration_s: None,
        warmup: 1,
    }
}

pub(crate) fn record(plan: StagePlan, begin_ns: u64, end_ns: u64, issued: u64) -> StageRecord {
    let peak = plan.concurrency.unwrap_or(1);
    StageRecord {
        client: client(peak),
        in_flight: vec![(begin_ns, peak), (end_ns - SECOND / 10, 1), (end_ns, 0)],
        plan,
        begin_ns,
        issue_end_ns: end_ns,
        end_ns,
        issued,
        not_issued: 0,
        stopped: None,
    }
}

/// A run over stages, each with its rows and its length in ns.
pub(crate) fn run(stages: Vec<(StagePlan, Vec<RequestRow>, u64)>, levels: &[Slo]) -> Sample {
    let mut begin = SECOND / 10;
    let (mut records, mut blocks, mut rows) = (Vec::new(), Vec::new(), Vec::new());
    for (plan, of_stage, length) in stages {
        blocks.push(block(&plan, &of_stage, length as f64 / 1e9, levels));
        records.push(record(plan, begin, begin + length, of_stage.len() as u64));
        rows.extend(of_stage.into_iter().map(|row| RequestRow {
            due_ns: row.due_ns + begin,
            sent_ns: row.sent_ns.map(|sent| sent + begin),
            ..row
        }));
        begin += length + SECOND;
    }
    let workload = WorkloadRecord {
        dataset: "builtin".to_owned(),
        format: "builtin".to_owned(),
        prompts: 18,
        distinct: 18,
        sha256: "00ff".repeat(16),
        seed: 7,
        tokenizer: None,
        notes: vec!["prompts are taken in their order".to_owned()],
    };
    let targets = vec![TargetRecord {
        url: "http://127.0.0.1:8000/v1".to_owned(),
        server: Some("uvicorn".to_owned()),
        http: "1.1".to_owned(),
    }];
    let context = LoadContext {
        schema_version: LOAD_SCHEMA_VERSION,
        run_id: "20260101-000000-abcd".to_owned(),
        backend: "vllm".to_owned(),
        model: "Qwen/Qwen3-8B".to_owned(),
        endpoint: "chat.completions".to_owned(),
        stream: true,
        targets: targets.clone(),
        workload: workload.clone(),
        levels: levels.to_vec(),
        seed: 7,
        started_at: "2026-01-01T00:00:00.000Z".to_owned(),
        started_wall_ns: 1_767_225_600 * SECOND,
        max_lag_ms: 1.0,
        max_dispatch_delay_ms: 10.0,
        max_error_rate: Some(0.5),
        price_usd_per_hour: None,
        stages: records,
        diagnostics: Vec::new(),
        complete: true,
    };
    let metrics = LoadMetrics {
        schema_version: LOAD_SCHEMA_VERSION,
        command: "load".to_owned(),
        run_id: context.run_id.clone(),
        status: "complete".to_owned(),
        validity: Validity::from_reasons(Vec::new()),
        measures: blocks.last().map(|block| block.measures.clone()).unwrap_or_default(),
        backend: context.backend.clone(),
        model: context.model.clone(),
        endpoint: context.endpoint.clone(),
        stream: true,
        targets,
        workload,
        stages: blocks,
        saturation: None,
        gpus: Vec::new(),
        diagnostics: Vec::new(),
    };
    Sample { metrics, context, rows, gpus: Vec::new(), server: None }
}

pub(crate) fn slo() -> Slo {
    Slo { name: "chat".to_owned(), ttft_ms: Some(100.0), tpot_ms: None, itl_ms: None, e2e_ms: None, quantile: 0.95 }
}

/// Stages of 1, 4 and 16 in flight; in the last TTFT has doubled, three requests failed and one was cancelled.
pub(crate) fn sample() -> Sample {
    let stage = |number: u32, concurrency: u32, requests: u64, ttft_ms: u64| {
        let each = 15 * 20 + ttft_ms;
        let rows: Vec<RequestRow> = (0..requests)
            .map(|id| {
                let due = id / u64::from(concurrency) * each * 1_000_000;
                row(number, id, due, ttft_ms + id % 5, 15, 20 + id % 3)
            })
            .collect();
        (plan(concurrency, requests), rows, requests.div_ceil(u64::from(concurrency)) * each * 1_000_000 + SECOND / 10)
    };
    let mut last = stage(2, 16, 64, 98);
    for (id, outcome) in
        [(5, Outcome::Http5xx), (20, Outcome::Http5xx), (40, Outcome::Http5xx), (63, Outcome::CancelledDeadline)]
    {
        last.1[id] = fail(last.1[id].clone(), outcome, "engine overloaded");
    }
    let mut sample = run(vec![stage(0, 1, 20, 50), stage(1, 4, 40, 50), last], &[slo()]);
    sample.rows.push(RequestRow { phase: Phase::Warmup, ..row(0, 0, 0, 900, 1, 1) });
    sample.metrics.saturation = Some(Saturation {
        axis: "concurrency".to_owned(),
        knee: Some(Knee { at: 8.0, ci95: [4.0, 12.0], value: 600.0, slope_before: 45.0, slope_after: 5.0 }),
        peak_request_per_s: Some(Peak { stage: "c=16".to_owned(), value: 37.0 }),
        peak_output_tok_per_s: Some(Peak { stage: "c=16".to_owned(), value: 600.0 }),
        lowest_p99_e2e_ms: Some(Peak { stage: "c=1".to_owned(), value: 384.0 }),
        p99_rises_at: None,
        errors_rise_at: Some(Peak { stage: "c=16".to_owned(), value: 0.0476 }),
        best: Some(Peak { stage: "c=4".to_owned(), value: 11.1 }),
        best_because: "it has the most goodput of `chat`".to_owned(),
        max_under_slo: None,
        evidence: vec!["from c=4 to c=16 load grows by 4 and throughput by 3.4".to_owned()],
    });
    sample.metrics.diagnostics =
        vec![Diagnostic::new("few_requests", Severity::Warn, "the p99 of c=1 rests on 20 requests; 459 are needed")];
    sample.server = Some(ServerSeries {
        dialect: "vllm".to_owned(),
        t_s: (0..20).map(f64::from).collect(),
        gauges: BTreeMap::from([
            ("kv_usage".to_owned(), (0..20).map(|at| Some(f64::from(at) / 40.0)).collect()),
            ("running".to_owned(), (0..20).map(|at| (at != 7).then_some(f64::from(at % 4))).collect()),
        ]),
    });
    sample.gpus = vec![telemetry()];
    sample.metrics.gpus = vec![crate::metrics_schema::gpu()];
    sample
}

/// Looks of 20 s, each second; the first stage is marked from 0 to 9.
pub(crate) fn telemetry() -> GpuTelemetry {
    let looks = 20;
    let column = |value: &dyn Fn(f64) -> f64| Some((0..looks).map(|at| Some(value(f64::from(at)))).collect());
    GpuTelemetry {
        schema_version: GPU_SCHEMA_VERSION,
        run_id: "20260101-000000-abcd".to_owned(),
        complete: true,
        driver_version: Some("570.1".to_owned()),
        device: GpuIdentity {
            nvml_index: 0,
            cuda_ordinal: Some(0),
            uuid: None,
            name: Some("Test GPU".to_owned()),
            pci_bus_id: None,
            memory_bytes: Some(1 << 34),
            compute_capability: None,
            power_limit_w: Some(700.0),
            max_sm_mhz: None,
            max_memory_mhz: None,
            mig: None,
            ecc: None,
            compute_processes: None,
        },
        interval_s: 1.0,
        before: None,
        repeats: vec![GpuRepeat { row: 0, start_s: 0.0, end_s: 9.0, looked: true }],
        gaps: Vec::new(),
        samples: GpuColumns {
            t_s: (0..looks).map(f64::from).collect(),
            edge: vec![false; looks as usize],
            // 0 to 9 is half busy at 200 W, then all busy at 400 W.
            utilisation: column(&|at| if at < 10.0 { 0.5 } else { 1.0 }),
            power_w: column(&|at| if at < 10.0 { 200.0 } else { 400.0 }),
            memory_used_bytes: column(&|_| 1_073_741_824.0),
            temperature_c: column(&|at| 40.0 + at),
            failed_metrics: vec![0; looks as usize],
            ..GpuColumns::default()
        },
        slow_samples: SlowColumns::default(),
    }
}

/// One stage whose requests all failed.
pub(crate) fn all_failed() -> Sample {
    let rows = (0..10).map(|id| fail(row(0, id, id * SECOND / 10, 50, 3, 20), Outcome::Http5xx, "boom")).collect();
    let mut sample = run(vec![(plan(2, 10), rows, SECOND)], &[]);
    let reasons = vec!["all 10 requests of c=2 failed".to_owned()];
    sample.metrics.validity = Validity::from_reasons(reasons.clone());
    sample.metrics.stages[0].validity = Validity::from_reasons(reasons);
    "invalid".clone_into(&mut sample.metrics.status);
    sample
}
