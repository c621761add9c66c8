//! Runs to render: values a real run could have, made from the shapes of a published model and a fixed sequence of noise.

use std::collections::BTreeMap;

use perfprof::diagnostics::{Diagnostic, Severity, Validity};
use perfprof::estimate::architecture::{Architecture, Family, Rope};
use perfprof::estimate::format::Format;
use perfprof::estimate::operator::Operator;
use perfprof::record::gpu::GpuTelemetry;
use perfprof::record::metrics::{
    CaseBlock, HardwareBlock, METRICS_SCHEMA_VERSION, ModelBlock, OperatorRow, Peak, PhaseBlock, Reconciliation,
    Stage1Metrics,
};
use perfprof::record::rows::{Contention, MemoryUse, ROW_SCHEMA_VERSION, RepeatRow, RowStatus};
use perfprof::report::{AssumptionSection, Stage1Report, StepSpan};
use perfprof::stats::summary::Summary;
use serde_json::json;

const PROMPT: u32 = 128;
const NEW: u32 = 64;
const LAYERS: u32 = 30;
const PEAK_FLOPS: f64 = 180e9;
const PEAK_BYTES: f64 = 21e9;

/// Everything a report borrows.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(crate) metrics: Stage1Metrics,
    pub(crate) rows: Vec<RepeatRow>,
    pub(crate) gpu: Option<GpuTelemetry>,
    pub(crate) assumptions: Vec<AssumptionSection>,
    pub(crate) steps: Vec<StepSpan>,
    pub(crate) environment: serde_json::Value,
}

impl Sample {
    pub(crate) fn report(&self) -> Stage1Report<'_> {
        Stage1Report {
            metrics: &self.metrics,
            rows: &self.rows,
            gpu: self.gpu.as_ref(),
            assumptions: &self.assumptions,
            steps: &self.steps,
            generated_at: "2026-11-23T06:00:00Z",
            environment: &self.environment,
        }
    }
}

/// A fixed sequence in [0, 1).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f64 / (1_u64 << 24) as f64
    }
}

/// Mean, spread and percentiles of `values`, computed apart from perfprof.
fn summary(unit: &str, values: &[f64]) -> Summary {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len();
    if n == 0 {
        return Summary { unit: unit.to_owned(), ..Summary::default() };
    }
    let mean = sorted.iter().sum::<f64>() / n as f64;
    let std = (n > 1).then(|| (sorted.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1) as f64).sqrt());
    let quantile = |q: f64| {
        let place = q * (n - 1) as f64;
        let low = sorted[place.floor() as usize];
        Some(low + (sorted[place.ceil() as usize] - low) * place.fract())
    };
    let half = std.map(|std| 1.96 * std / (n as f64).sqrt());
    Summary {
        unit: unit.to_owned(),
        n: n as u64,
        mean: Some(mean),
        std,
        min: sorted.first().copied(),
        p50: quantile(0.5),
        p90: quantile(0.9),
        p95: quantile(0.95),
        p99: quantile(0.99),
        max: sorted.last().copied(),
        ci95: half.map(|half| [mean - half, mean + half]),
    }
}

fn architecture() -> Architecture {
    Architecture {
        family: Family::Llama,
        hidden_size: 576,
        intermediate_size: 1536,
        num_layers: LAYERS as usize,
        num_heads: 9,
        num_kv_heads: 3,
        head_dim: 64,
        vocab_size: 49152,
        max_position_embeddings: 8192,
        rms_norm_eps: 1e-5,
        rope: Rope { theta: 100_000.0, scaling: None },
        tie_word_embeddings: true,
        qkv_bias: false,
        o_bias: false,
        qk_norm: false,
        gated_mlp: true,
        sliding_window: None,
        moe: None,
    }
}

/// Name, operator of one pass over `rows` tokens that see `kv_len` positions, and whether it runs in every layer.
fn modules(rows: u32, kv_len: u32) -> Vec<(&'static str, Operator, bool)> {
    let weight = Format::BF16;
    let linear = |inner, outer| Operator::Linear { rows, inner, outer, weight, bias: false };
    let last = Operator::Linear { rows: 1, inner: 576, outer: 49152, weight, bias: false };
    vec![
        ("embed_tokens", Operator::Embedding { rows, width: 576, weight }, false),
        ("input_norm", Operator::RmsNorm { rows, width: 576 }, true),
        ("q_proj", linear(576, 576), true),
        ("k_proj", linear(576, 192), true),
        ("v_proj", linear(576, 192), true),
        ("rope", Operator::Rope { rows, heads: 12, head_dim: 64 }, true),
        ("kv_write", Operator::KvWrite { rows, width: 192, cache: weight }, true),
        (
            "attention",
            Operator::Attention {
                batch: 1,
                queries: rows,
                kv_len,
                heads: 9,
                kv_heads: 3,
                head_dim: 64,
                window: 0,
                cache: weight,
            },
            true,
        ),
        ("o_proj", linear(576, 576), true),
        ("attn_residual", Operator::Add { rows, width: 576 }, true),
        ("post_norm", Operator::RmsNorm { rows, width: 576 }, true),
        ("gate_proj", linear(576, 1536), true),
        ("up_proj", linear(576, 1536), true),
        ("act_mul", Operator::SiluMul { rows, width: 1536 }, true),
        ("down_proj", linear(1536, 576), true),
        ("mlp_residual", Operator::Add { rows, width: 576 }, true),
        ("final_norm", Operator::RmsNorm { rows: 1, width: 576 }, false),
        ("lm_head", last, false),
        ("sample", Operator::Sample { rows: 1, width: 49152 }, false),
    ]
}

/// Rows by layer and summed over layers; each takes `slow` × its roofline, small operators at least 2 µs.
fn operators(phase: &str, passes: u64, slow: &dyn Fn(&str) -> f64) -> Vec<OperatorRow> {
    let mut noise = Noise(7);
    let (rows, kv_len) = if phase == "prefill" { (PROMPT, PROMPT) } else { (1, PROMPT + NEW / 2) };
    let mut out = Vec::new();
    for (name, operator, in_layers) in modules(rows, kv_len) {
        let cost = operator.cost(Format::F32);
        let class = operator.class().name();
        let (compute, memory) = (cost.flops as f64 / PEAK_FLOPS, cost.bytes() as f64 / PEAK_BYTES);
        let best_ns = compute.max(memory) * 1e9;
        let bound = if compute > memory { "compute" } else { "memory" };
        let mean = (best_ns * slow(class)).max(2000.0);
        let row = |layer: Option<u32>, calls: u64, mean: f64| OperatorRow {
            class: class.to_owned(),
            name: name.to_owned(),
            phase: phase.to_owned(),
            layer,
            device: "cpu".to_owned(),
            shape: format!("{rows}×…"),
            calls,
            total_ns: (mean * calls as f64) as u64,
            mean_ns: mean,
            p50_ns: mean * 0.985,
            p95_ns: mean * 1.1,
            p99_ns: mean * 1.31,
            std_ns: (calls > 1).then_some(mean * 0.06),
            share: 0.0,
            flops: cost.flops * calls,
            bytes: cost.bytes() * calls,
            flops_per_s: Some(cost.flops as f64 / mean * 1e9).filter(|rate| *rate > 0.0),
            bytes_per_s: Some(cost.bytes() as f64 / mean * 1e9),
            roofline_ns: Some(best_ns * calls as f64),
            lost_ns: Some((mean - best_ns) * calls as f64),
            bound: Some(bound.to_owned()),
        };
        if in_layers {
            out.push(row(None, passes * u64::from(LAYERS), mean));
            for layer in 0..LAYERS {
                out.push(row(Some(layer), passes, mean * (0.97 + 0.06 * noise.next())));
            }
        } else {
            out.push(row(None, passes, mean));
        }
    }
    let total: u64 = out.iter().filter(|row| row.layer.is_none()).map(|row| row.total_ns).sum();
    for row in &mut out {
        row.share = row.total_ns as f64 / total as f64;
    }
    out
}

fn row(index: u32, noise: &mut Noise) -> RepeatRow {
    let spans = index % 2 == 1;
    let slower = 1.0 + 0.02 * noise.next() + if spans { 0.004 } else { 0.0 };
    let prefill_ms = 268.0 * slower;
    let itl_ms: Vec<f64> = (0..NEW - 1)
        .map(|step| {
            let spike = if noise.next() > 0.97 { 6.0 } else { 0.0 };
            18.2 * slower + 0.012 * f64::from(step) + 0.5 * noise.next() + spike
        })
        .collect();
    let decode_ms: f64 = itl_ms.iter().sum();
    let remainder_ms = 1.9;
    let total_ms = prefill_ms + decode_ms + remainder_ms;
    let tpot_ms = decode_ms / f64::from(NEW - 1);
    RepeatRow {
        schema_version: ROW_SCHEMA_VERSION,
        run_id: "20261123-060000-abcd".to_owned(),
        index,
        case: "chat-128".to_owned(),
        repeat: index,
        spans,
        traced: false,
        status: RowStatus::Ok,
        error: None,
        model: "smollm2".to_owned(),
        backend: "candle".to_owned(),
        dtype: "bf16".to_owned(),
        device: "cpu".to_owned(),
        batch: 1,
        prompt_len: PROMPT,
        new_tokens: NEW,
        mode: "single_pass".to_owned(),
        started_at: "2026-11-23T05:59:00Z".to_owned(),
        ttft_ms: Some(prefill_ms),
        prefill_ms: Some(prefill_ms),
        decode_ms: Some(decode_ms),
        total_ms: Some(total_ms),
        remainder_ms: Some(remainder_ms),
        host: None,
        tpot_ms: Some(tpot_ms),
        prefill_tok_per_s: Some(f64::from(PROMPT) / prefill_ms * 1e3),
        decode_tok_per_s: Some(f64::from(NEW - 1) / decode_ms * 1e3),
        total_tok_per_s: Some(f64::from(NEW) / total_ms * 1e3),
        ttft_s: Some(prefill_ms / 1e3),
        tpot_s: Some(tpot_ms / 1e3),
        dt_full_s: Some(total_ms / 1e3),
        tok_s: Some(f64::from(NEW) / total_ms * 1e3),
        peak_memory_allocated_gb: Some(0.36),
        itl_ms,
        memory: MemoryUse {
            peak_rss_bytes: Some(386_000_000 + u64::from(index) * 1_000_000),
            peak_vram_bytes: None,
            peak_vram_source: None,
            weights_bytes: 269_060_352,
            kv_cache_bytes: 4_423_680,
            kv_used_bytes: 4_400_640,
            activations_bytes: Some(21_000_000),
        },
        contention: Contention {
            cpu_wall_ratio: Some(3.7 + 0.1 * noise.next()),
            involuntary_switches: Some(12 + u64::from(index)),
            voluntary_switches: Some(240),
            pressure_cpu_some: Some(0.012),
            other_cpu_share: Some(0.008),
            disturbed: false,
        },
        cpu_utilisation: Some(0.93),
        energy_j: Some(31.0 + noise.next()),
        energy_source: Some("rapl:package-0".to_owned()),
        cpu_energy_j: None,
        gpu: None,
        tokens: vec![1, 2, 3],
        text: Some("The capital of France is Paris.".to_owned()),
        finish_reason: Some("length".to_owned()),
        diagnostics: Vec::new(),
    }
}

/// The summary of `rows` as a runner would write it.
fn measures(rows: &[RepeatRow]) -> BTreeMap<String, Summary> {
    let used: Vec<&RepeatRow> = rows.iter().filter(|row| row.status == RowStatus::Ok && !row.spans).collect();
    let all = |pick: fn(&RepeatRow) -> Option<f64>| used.iter().filter_map(|row| pick(row)).collect::<Vec<f64>>();
    let mut out = BTreeMap::new();
    let mut put = |name: &str, unit: &str, values: Vec<f64>| {
        out.insert(name.to_owned(), summary(unit, &values));
    };
    put("ttft_ms", "ms", all(|row| row.ttft_ms));
    put("prefill_ms", "ms", all(|row| row.prefill_ms));
    put("prefill_tok_per_s", "tok/s", all(|row| row.prefill_tok_per_s));
    put("tpot_ms", "ms", all(|row| row.tpot_ms));
    put("itl_ms", "ms", used.iter().flat_map(|row| row.itl_ms.iter().copied()).collect());
    put("decode_ms", "ms", all(|row| row.decode_ms));
    put("decode_tok_per_s", "tok/s", all(|row| row.decode_tok_per_s));
    put("total_ms", "ms", all(|row| row.total_ms));
    put("remainder_ms", "ms", all(|row| row.remainder_ms));
    put("total_tok_per_s", "tok/s", all(|row| row.total_tok_per_s));
    put("peak_rss_bytes", "bytes", all(|row| row.memory.peak_rss_bytes.map(|bytes| bytes as f64)));
    put("energy_j", "J", all(|row| row.energy_j));
    put("load_ms", "ms", vec![143.0]);
    put("span_overhead_ratio", "ratio", vec![0.0041, 0.0036, 0.0052]);
    out
}

fn model() -> ModelBlock {
    ModelBlock {
        name: "HuggingFaceTB/SmolLM2-135M-Instruct".to_owned(),
        source: "safetensors".to_owned(),
        architecture: architecture(),
        parameters: Some(134_515_008),
        weights_bytes: 269_060_352,
        weights_bytes_by_format: BTreeMap::from([("bf16".to_owned(), 269_030_016), ("f32".to_owned(), 30_336)]),
        dtype: "bf16".to_owned(),
        compute_dtype: "f32".to_owned(),
        kv_dtype: "bf16".to_owned(),
        kv_bytes_per_token: 23_040,
        ops: "reference".to_owned(),
    }
}

fn peak(value: f64, source: &str) -> Peak {
    Peak { value: Some(value), kind: "measured".to_owned(), source: source.to_owned() }
}

fn phase(name: &str, steps: u64, time_ms: f64, model_flops: u64, weight_bytes: u64, kv_bytes: u64) -> PhaseBlock {
    let compute = model_flops as f64 / PEAK_FLOPS * 1e3;
    let memory = (weight_bytes + kv_bytes) as f64 / PEAK_BYTES * 1e3;
    PhaseBlock {
        case: "chat-128".to_owned(),
        phase: name.to_owned(),
        steps,
        time_ms: Some(time_ms),
        model_flops,
        weight_bytes,
        kv_bytes,
        activation_bytes: 40_000_000,
        compute_time_ms: Some(compute),
        memory_time_ms: Some(memory),
        roofline_ms: Some(compute.max(memory)),
        bound: Some(if compute > memory { "compute" } else { "memory" }.to_owned()),
        mfu: Some(compute / time_ms),
        mbu: Some(memory / time_ms),
    }
}

/// A valid CPU run whose decode waits for memory: bf16 weights, batch 1, 70 % of the bandwidth.
pub(crate) fn memory_bound() -> Sample {
    let mut noise = Noise(42);
    let rows: Vec<RepeatRow> = (0..6).map(|index| row(index, &mut noise)).collect();
    let mut measures = measures(&rows);
    let at = |name: &str| measures.get(name).and_then(|summary| summary.p50).expect("the sample has it");
    let (prefill_ms, decode_ms) = (at("prefill_ms"), at("decode_ms"));
    let phases = vec![
        phase("prefill", 1, prefill_ms, 27_400_000_000, 212_429_952, 5_898_240),
        phase("decode", 63, decode_ms, 16_940_000_000, 63 * 269_030_016, 63 * 160 * 23_040),
    ];
    for block in &phases {
        measures.insert(format!("mfu_{}", block.phase), summary("ratio", &[block.mfu.unwrap_or(0.0); 3]));
        measures.insert(format!("mbu_{}", block.phase), summary("ratio", &[block.mbu.unwrap_or(0.0); 3]));
    }
    let mut operators = operators("prefill", 3, &|class| if class == "attention" { 3.4 } else { 1.7 });
    operators.extend(self::operators("decode", 189, &|class| if class == "linear" { 1.32 } else { 2.6 }));
    let mut steps = Vec::new();
    let mut clock = 5_000_000_u64;
    for step in 0..NEW {
        let length = if step == 0 { 268_000_000 } else { 18_300_000 + u64::from(step) * 12_000 };
        let name = if step == 0 { "prefill" } else { "decode" };
        steps.push(StepSpan { phase: name.to_owned(), step, start_ns: clock, end_ns: clock + length });
        clock += length + 30_000;
    }
    let case = CaseBlock {
        name: "chat-128".to_owned(),
        batch: 1,
        prompt_len: PROMPT,
        new_tokens: NEW,
        repeats: 3,
        measures: measures.clone(),
    };
    let metrics = Stage1Metrics {
        schema_version: METRICS_SCHEMA_VERSION,
        command: "stage1".to_owned(),
        run_id: "20261123-060000-abcd".to_owned(),
        status: "complete".to_owned(),
        validity: Validity::from_reasons(Vec::new()),
        measures,
        cases: vec![case],
        model: model(),
        hardware: HardwareBlock {
            device: "AMD EPYC 7B13 64-Core Processor".to_owned(),
            device_id: "cpu".to_owned(),
            threads: Some(4),
            compute_dtype: "f32".to_owned(),
            peak_flops_per_s: peak(PEAK_FLOPS, "GEMM micro-benchmark, f32, 4 threads"),
            peak_bytes_per_s: peak(PEAK_BYTES, "read micro-benchmark, 4 threads"),
            memory_bytes: Some(16_000_000_000),
            price_usd_per_hour: None,
            power_w: None,
            measured: None,
        },
        phases,
        operators,
        reconciliation: Reconciliation {
            phases_vs_total: Some(0.0),
            host_vs_device: None,
            unattributed_by_phase: BTreeMap::from([("decode".to_owned(), 0.0042), ("prefill".to_owned(), 0.0008)]),
        },
        quality: None,
        gpu: None,
        diagnostics: vec![
            Diagnostic::new(
                "slow_first_run",
                Severity::Warn,
                "the first repeat took 1.3 times the median; raise `warmup` above 1",
            ),
            Diagnostic::new("no_price", Severity::Info, "no price is configured, so cost per token is unknown"),
        ],
    };
    Sample {
        metrics,
        rows,
        gpu: None,
        assumptions: vec![
            AssumptionSection {
                title: "FLOPs".to_owned(),
                lines: vec![
                    ("linear".to_owned(), "2 × rows × inner × outer; a multiply-add is two".to_owned()),
                    ("attention".to_owned(), "4 × heads × head_dim × visible pairs = 4 × 9 × 64 × pairs".to_owned()),
                ],
            },
            AssumptionSection {
                title: "Percentiles".to_owned(),
                lines: vec![("method".to_owned(), "Hyndman & Fan type 7 (numpy `linear`)".to_owned())],
            },
        ],
        steps,
        environment: json!({
            "os": {"name": "Linux", "kernel": "6.8"},
            "cpu": {"model": "AMD EPYC 7B13", "flags": ["avx2", "fma"]},
            "gpu": null,
            "environment": {"RAYON_NUM_THREADS": "4"}
        }),
    }
}

/// An INVALID run on a disturbed machine: failed repeats, unknown peaks, no spans, one value of each measure.
pub(crate) fn invalid() -> Sample {
    let mut sample = memory_bound();
    sample.rows.truncate(3);
    for row in &mut sample.rows {
        row.spans = false;
        row.contention.disturbed = true;
        row.contention.other_cpu_share = Some(0.61);
        row.contention.pressure_cpu_some = None;
        row.energy_j = None;
        row.energy_source = None;
        row.memory.activations_bytes = None;
    }
    for (row, status) in sample.rows.iter_mut().skip(1).zip([RowStatus::Oom, RowStatus::Interrupted]) {
        row.status = status;
        row.error =
            Some(if status == RowStatus::Oom { "out of memory: 512 MiB asked for" } else { "SIGINT" }.to_owned());
        (row.ttft_ms, row.prefill_ms, row.decode_ms, row.total_ms, row.tpot_ms) = (None, None, None, None, None);
        (row.remainder_ms, row.decode_tok_per_s, row.total_tok_per_s, row.prefill_tok_per_s) = (None, None, None, None);
        row.itl_ms.clear();
        row.memory.peak_rss_bytes = None;
    }
    let metrics = &mut sample.metrics;
    "invalid".clone_into(&mut metrics.status);
    metrics.validity = Validity::from_reasons(vec![
        "2 of 3 repeats failed".to_owned(),
        "other processes took 61 % of the CPUs".to_owned(),
    ]);
    metrics.measures = measures(&sample.rows);
    metrics.measures.remove("span_overhead_ratio");
    metrics.cases[0].measures = metrics.measures.clone();
    metrics.cases[0].repeats = 1;
    for peak in [&mut metrics.hardware.peak_flops_per_s, &mut metrics.hardware.peak_bytes_per_s] {
        *peak = Peak {
            value: None,
            kind: "unknown".to_owned(),
            source: "set `hardware.peak_flops_per_s` and `hardware.peak_bytes_per_s`".to_owned(),
        };
    }
    for block in &mut metrics.phases {
        (block.compute_time_ms, block.memory_time_ms, block.roofline_ms) = (None, None, None);
        (block.bound, block.mfu, block.mbu) = (None, None, None);
    }
    metrics.operators.clear();
    metrics.reconciliation =
        Reconciliation { phases_vs_total: Some(0.031), host_vs_device: None, unattributed_by_phase: BTreeMap::new() };
    metrics.diagnostics = vec![Diagnostic {
        code: "disturbed".to_owned(),
        severity: Severity::Error,
        count: 3,
        first: "other processes took 61 % of the CPUs in repeat 0; stop them or use fewer `engine.threads`".to_owned(),
    }];
    sample.steps.clear();
    sample
}

/// A valid run far from every ceiling: 4-bit weights, idle threads, long pauses between the passes.
pub(crate) fn far_from_ceilings() -> Sample {
    let mut sample = memory_bound();
    let metrics = &mut sample.metrics;
    "q4_0".clone_into(&mut metrics.model.dtype);
    metrics.model.weights_bytes = 75_700_000;
    metrics.model.weights_bytes_by_format = BTreeMap::from([("q4_0".to_owned(), 75_700_000)]);
    for row in &mut sample.rows {
        row.cpu_utilisation = Some(0.41);
    }
    let block = phase("decode", 63, 2400.0, 16_940_000_000, 63 * 75_700_000, 63 * 160 * 23_040);
    metrics.phases[1] = block;
    for case in &mut metrics.cases {
        case.measures.insert("remainder_ms".to_owned(), summary("ms", &[310.0, 300.0, 305.0]));
    }
    metrics.operators.retain(|row| row.phase == "prefill");
    metrics.operators.extend(operators("decode", 189, &|class| if class == "attention" { 40.0 } else { 4.0 }));
    sample
}
