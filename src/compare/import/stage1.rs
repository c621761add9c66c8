//! A run of the in-process engine as a subject.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::builder::{Builder, Series, clipped};
use super::definition;
use super::error::ImportError;
use super::operators;
use crate::compare::subject::{Outcomes, Subject, SubjectKind, fact};
use crate::diagnostics::{Diagnostic, Severity, Validity};
use crate::record::context::Stage1Context;
use crate::record::inputs::Inputs;
use crate::record::manifest::sha256_hex;
use crate::record::metrics::{HardwareBlock, ModelBlock, PhaseBlock, Stage1Metrics};
use crate::record::rows::{RepeatRow, RowStatus};
use crate::record::run_dir::{RunRecord, RunStatus};
use crate::trace::timeline::Timeline;

/// Fact: release or debug build of the engine.
pub const BUILD_PROFILE: &str = "build_profile";
/// Fact: 0 is greedy.
pub const TEMPERATURE: &str = "temperature";
/// Fact: how weights came to be: file format, or `synthetic` with its seed.
pub const WEIGHTS_SOURCE: &str = "weights_source";

/// What is on disk of a stage1 run; everything but the rows may be missing.
#[derive(Debug, Clone, Default)]
pub struct Stage1Files {
    /// Name of the directory, or of the file the rows came from.
    pub name: String,
    /// `run.json`.
    pub run: Option<RunRecord>,
    /// What the status means now; see [`RunRecord::effective_status`].
    pub status: Option<RunStatus>,
    /// `context.json`.
    pub context: Option<Stage1Context>,
    /// `metrics.json`.
    pub metrics: Option<Stage1Metrics>,
    /// `per_run.jsonl`.
    pub rows: Vec<RepeatRow>,
    /// `inputs.yaml`.
    pub inputs: Option<Inputs>,
    /// `env.json`.
    pub environment: Option<Value>,
    /// Operator spans; `repeat` is the `index` of the row they belong to.
    pub spans: Option<Timeline>,
    /// What the readers of these files found.
    pub diagnostics: Vec<Diagnostic>,
}

impl Stage1Files {
    fn model(&self) -> Option<&ModelBlock> {
        let context = self.context.as_ref().map(|context| &context.model);
        context.or_else(|| self.metrics.as_ref().map(|metrics| &metrics.model))
    }
    fn hardware(&self) -> Option<&HardwareBlock> {
        let context = self.context.as_ref().map(|context| &context.hardware);
        context.or_else(|| self.metrics.as_ref().map(|metrics| &metrics.hardware))
    }
}

/// The run as a subject, labelled with its tag, else its id.
///
/// Values are of repeats that ended well and recorded no spans. A run without such a repeat is still a subject: an INVALID one without values.
///
/// # Errors
/// If there are neither rows nor a summary.
pub fn subject(files: &Stage1Files) -> Result<Subject, ImportError> {
    if files.rows.is_empty() && files.metrics.is_none() {
        return Err(ImportError::Unusable {
            file: files.name.clone(),
            format: "stage1 run".to_owned(),
            reason: "it has no repeat: nothing was measured".to_owned(),
        });
    }
    let run_id = files
        .run
        .as_ref()
        .map(|run| run.run_id.clone())
        .or_else(|| files.metrics.as_ref().map(|metrics| metrics.run_id.clone()))
        .or_else(|| files.rows.first().map(|row| row.run_id.clone()))
        .filter(|id| !id.is_empty())
        .unwrap_or_else(|| files.name.clone());
    let tag = files.run.as_ref().and_then(|run| run.tag.clone());
    let version = files.run.as_ref().map(|run| run.perfprof_version.clone());
    let tool = version.map_or_else(|| "perfprof stage1".to_owned(), |version| format!("perfprof {version} stage1"));
    let mut builder = Builder::new(SubjectKind::Stage1, tag.as_deref().unwrap_or(&run_id), &tool);
    builder.extend(files.diagnostics.iter().cloned());
    builder.extend(findings(files));

    let plain: Vec<&RepeatRow> = files.rows.iter().filter(|row| row.status == RowStatus::Ok && !row.spans).collect();
    let cases = case_order(files, &plain);
    let mut by_case: BTreeMap<&str, Vec<&RepeatRow>> = BTreeMap::new();
    for row in &plain {
        by_case.entry(&row.case).or_default().push(row);
    }
    let rows_of = |case: &str| by_case.get(case).map_or(&[][..], Vec::as_slice);
    if files.rows.is_empty() {
        summaries(&mut builder, files);
    } else {
        for case in &cases {
            measures(&mut builder, files, case, rows_of(case));
        }
    }
    if let Some(context) = &files.context {
        builder.series(None, &Series::one("load_ms", "ms", Some(context.load_ms)), 0);
    }

    facts(&mut builder, files, &plain, &tool);
    for case in &cases {
        case_facts(&mut builder, files, case, rows_of(case));
    }

    let outcomes = outcomes(files);
    let validity = validity(&mut builder, files, &plain, outcomes);
    let operators = operators::of_stage1(files);
    let subject = builder.subject();
    subject.run_ids = vec![run_id];
    subject.files = vec![clipped(&files.name)];
    subject.outcomes = outcomes;
    subject.validity = validity;
    subject.operators = operators;
    subject.price_usd_per_hour = files.hardware().and_then(|hardware| hardware.price_usd_per_hour);
    subject.power_w = files.hardware().and_then(|hardware| hardware.power_w);
    Ok(builder.finish())
}

/// What the run itself found that may affect a number.
fn findings(files: &Stage1Files) -> Vec<Diagnostic> {
    // The summary holds those of the context and the rows too.
    let all: Vec<&Diagnostic> = if let Some(metrics) = &files.metrics {
        metrics.diagnostics.iter().collect()
    } else {
        let before = files.context.iter().flat_map(|context| context.diagnostics.iter());
        before.chain(files.rows.iter().flat_map(|row| row.diagnostics.iter())).collect()
    };
    all.into_iter().filter(|found| found.severity >= Severity::Warn).cloned().collect()
}

/// Cases in the order they were planned, then those that only rows name.
fn case_order(files: &Stage1Files, plain: &[&RepeatRow]) -> Vec<String> {
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    let planned = files.context.iter().flat_map(|context| context.cases.iter().map(|case| case.name.as_str()));
    let summarised = files.metrics.iter().flat_map(|metrics| metrics.cases.iter().map(|case| case.name.as_str()));
    planned
        .chain(summarised)
        .chain(plain.iter().map(|row| row.case.as_str()))
        .filter(|case| seen.insert(case))
        .map(str::to_owned)
        .collect()
}

/// The values of the rows of one case.
fn measures(builder: &mut Builder, files: &Stage1Files, case: &str, rows: &[&RepeatRow]) {
    let mut put = |name: &'static str, unit: &'static str, values: Vec<f64>| {
        builder.series(Some(case), &Series::of(name, unit, values), 0);
    };
    let each = |get: &dyn Fn(&RepeatRow) -> Option<f64>| rows.iter().filter_map(|row| get(row)).collect::<Vec<f64>>();
    put("ttft_ms", "ms", each(&|row| row.ttft_ms));
    put("prefill_ms", "ms", each(&|row| row.prefill_ms));
    put("prefill_tok_per_s", "tok/s", each(&|row| row.prefill_tok_per_s));
    put("tpot_ms", "ms", each(&|row| row.tpot_ms));
    put("itl_ms", "ms", rows.iter().flat_map(|row| row.itl_ms.iter().copied()).collect());
    put("decode_ms", "ms", each(&|row| row.decode_ms));
    put("decode_tok_per_s", "tok/s", each(&|row| row.decode_tok_per_s));
    put("total_ms", "ms", each(&|row| row.total_ms));
    put("total_tok_per_s", "tok/s", each(&|row| row.total_tok_per_s));
    put("peak_rss_bytes", "bytes", each(&|row| row.memory.peak_rss_bytes.map(|bytes| bytes as f64)));
    put("peak_vram_bytes", "bytes", each(&|row| row.memory.peak_vram_bytes.map(|bytes| bytes as f64)));
    put("energy_j", "J", each(&|row| row.energy_j));
    let tokens = |row: &RepeatRow| f64::from(row.batch) * f64::from(row.new_tokens);
    let per_token = |row: &RepeatRow| row.energy_j.filter(|_| tokens(row) > 0.0).map(|joules| joules / tokens(row));
    put("energy_per_token_j", "J/tok", each(&per_token));
    let (Some(metrics), Some(hardware)) = (&files.metrics, files.hardware()) else { return };
    let phase = |name: &str| metrics.phases.iter().find(|phase| phase.case == case && phase.phase == name);
    let (flops, bytes) = (hardware.peak_flops_per_s.value, hardware.peak_bytes_per_s.value);
    put("mfu_prefill", "ratio", shares(rows, phase("prefill"), flops, |phase| phase.model_flops, true));
    put("mbu_prefill", "ratio", shares(rows, phase("prefill"), bytes, model_bytes, true));
    put("mfu_decode", "ratio", shares(rows, phase("decode"), flops, |phase| phase.model_flops, false));
    put("mbu_decode", "ratio", shares(rows, phase("decode"), bytes, model_bytes, false));
}

fn model_bytes(phase: &PhaseBlock) -> u64 {
    phase.weight_bytes.saturating_add(phase.kv_bytes)
}

/// amount / (peak × time) of each row that has the number of steps the amount is for.
fn shares(
    rows: &[&RepeatRow],
    phase: Option<&PhaseBlock>,
    peak: Option<f64>,
    amount: fn(&PhaseBlock) -> u64,
    prefill: bool,
) -> Vec<f64> {
    let Some((phase, peak)) = phase.zip(peak.filter(|peak| *peak > 0.0)) else { return Vec::new() };
    rows.iter()
        .filter(|row| prefill || u64::from(row.new_tokens.saturating_sub(1)) == phase.steps)
        .filter_map(|row| if prefill { row.prefill_ms } else { row.decode_ms })
        .filter(|ms| *ms > 0.0)
        .map(|ms| amount(phase) as f64 / (peak * ms * 1e-3))
        .collect()
}

/// Summaries of a run whose rows are not there.
fn summaries(builder: &mut Builder, files: &Stage1Files) {
    const NAMES: [(&str, &str); 17] = [
        ("ttft_ms", "ms"),
        ("prefill_ms", "ms"),
        ("prefill_tok_per_s", "tok/s"),
        ("tpot_ms", "ms"),
        ("itl_ms", "ms"),
        ("decode_ms", "ms"),
        ("decode_tok_per_s", "tok/s"),
        ("total_ms", "ms"),
        ("total_tok_per_s", "tok/s"),
        ("peak_rss_bytes", "bytes"),
        ("peak_vram_bytes", "bytes"),
        ("energy_j", "J"),
        ("energy_per_token_j", "J/tok"),
        ("mfu_prefill", "ratio"),
        ("mbu_prefill", "ratio"),
        ("mfu_decode", "ratio"),
        ("mbu_decode", "ratio"),
    ];
    let Some(metrics) = &files.metrics else { return };
    for case in &metrics.cases {
        for (name, unit) in NAMES {
            if let Some(summary) = case.measures.get(name).filter(|summary| summary.n > 0) {
                let series = Series::of(name, unit, Vec::new()).reported(Some(summary.clone()));
                builder.series(Some(&case.name), &series, 0);
            }
        }
    }
    let first = format!("`{}` has a summary and no rows: differences can be stated, but not judged", files.name);
    builder.note("no_rows", Severity::Warn, first);
}

/// The value all rows share; null where they differ or one does not know it.
fn shared(rows: &[&RepeatRow], get: impl Fn(&RepeatRow) -> String) -> Option<String> {
    let first = rows.first().map(|row| get(row))?;
    let known = first != "unknown" && !first.is_empty();
    (known && rows.iter().all(|row| get(row) == first)).then_some(first)
}

fn facts(builder: &mut Builder, files: &Stage1Files, plain: &[&RepeatRow], tool: &str) {
    let all: Vec<&RepeatRow> = files.rows.iter().collect();
    let rows = if plain.is_empty() { all.as_slice() } else { plain };
    let model = files.model();
    let hardware = files.hardware();
    let name = model.map(|model| model.name.clone()).or_else(|| shared(rows, |row| row.model.clone()));
    builder.fact(fact::MODEL, name.map(|name| without_directories(&name)));
    let of_model = |get: fn(&ModelBlock) -> &String| model.map(|model| get(model).clone());
    builder.fact(fact::DTYPE, of_model(|model| &model.dtype).or_else(|| shared(rows, |row| row.dtype.clone())));
    builder.fact(fact::COMPUTE_DTYPE, of_model(|model| &model.compute_dtype));
    builder.fact(fact::KV_DTYPE, of_model(|model| &model.kv_dtype));
    builder.fact(fact::OPS, of_model(|model| &model.ops));
    builder.fact("weights_bytes", model.map(|model| model.weights_bytes.to_string()));
    let seeds = files
        .context
        .as_ref()
        .map(|context| &context.seeds)
        .or_else(|| files.inputs.as_ref().map(|inputs| &inputs.seeds));
    let source = model.map(|model| match seeds.and_then(|seeds| seeds.get("weights")) {
        Some(seed) if model.source == "synthetic" => format!("synthetic, seed {seed}"),
        _ => model.source.clone(),
    });
    builder.fact(WEIGHTS_SOURCE, source);
    builder.fact(fact::WEIGHTS_SHA256, files.inputs.as_ref().and_then(weights_sha256));
    builder.fact(fact::SEED, seeds.filter(|seeds| !seeds.is_empty()).map(seed_text));
    let threads = hardware.and_then(|hardware| hardware.threads).map(|threads| threads.to_string());
    builder.fact(fact::THREADS, threads);
    let device = shared(rows, |row| row.device.clone());
    let device = device.or_else(|| hardware.map(|hardware| hardware.device_id.clone()));
    builder.fact(fact::DEVICE, device.clone());
    builder.fact(fact::BACKEND, shared(rows, |row| row.backend.clone()));
    let mode = files.context.as_ref().map(|context| context.mode.clone());
    builder.fact(fact::MODE, mode.or_else(|| shared(rows, |row| row.mode.clone())));
    builder.fact(TEMPERATURE, files.context.as_ref().map(|context| context.temperature.to_string()));
    builder.fact("ignore_eos", files.context.as_ref().map(|context| context.ignore_eos.to_string()));
    builder.fact(fact::TOOL, Some(tool.to_owned()));
    builder.fact(definition::TTFT, Some("begin of the prompt pass to the first sampled token, in process".to_owned()));
    builder.fact(definition::TPOT, Some("(last token − first) / (tokens − 1)".to_owned()));
    builder.fact(definition::PHASES, Some("sampling and the step of the first token included".to_owned()));
    builder.fact(definition::TOTAL, Some("one generation, in process".to_owned()));
    environment(builder, files, device.as_deref());
}

/// Facts of the machine and the build.
fn environment(builder: &mut Builder, files: &Stage1Files, device: Option<&str>) {
    let environment = files.environment.as_ref();
    let at = |path: &str| -> Option<String> {
        super::json::scalar(path.split('.').try_fold(environment?, |value, key| value.get(key))?)
    };
    let on_gpu = device.and_then(|device| device.strip_prefix("cuda:"));
    let hardware = files.hardware();
    let cpu = at("cpu.model").or_else(|| hardware.filter(|_| on_gpu.is_none()).map(|hardware| hardware.device.clone()));
    builder.fact(fact::CPU, cpu);
    builder.fact(fact::GOVERNOR, at("cpu.governor"));
    builder.fact("cpu_turbo", at("cpu.turbo"));
    builder.fact("usable_cpus", at("cpu.available_parallelism"));
    let host = at("os.host_hash").or_else(|| files.run.as_ref().and_then(|run| run.host_hash.clone()));
    builder.fact(fact::HOST, host);
    builder.fact(fact::KERNEL, at("os.kernel"));
    builder.fact("transparent_huge_pages", at("os.transparent_huge_pages"));
    builder.fact(BUILD_PROFILE, at("build.profile"));
    builder.fact("build_commit", at("build.commit"));
    if let Some(ordinal) = on_gpu {
        let gpu = environment.and_then(|environment| {
            let devices = environment.get("gpu")?.get("devices")?.as_array()?;
            devices.iter().find(|gpu| {
                let known = gpu.get("cuda_ordinal").and_then(Value::as_u64);
                known.is_some_and(|known| known.to_string() == ordinal)
            })
        });
        let of_gpu = |key: &str| super::json::scalar(gpu?.get(key)?);
        builder.fact(fact::GPU, of_gpu("name").or_else(|| hardware.map(|hardware| hardware.device.clone())));
        builder.fact(fact::DRIVER, at("gpu.driver_version"));
        builder.fact(fact::CUDA, at("gpu.cuda_driver_version"));
        builder.fact(fact::CLOCK_MHZ, of_gpu("max_sm_mhz"));
        builder.fact("gpu_power_limit_w", of_gpu("power_limit_w"));
    }
}

fn case_facts(builder: &mut Builder, files: &Stage1Files, case: &str, rows: &[&RepeatRow]) {
    let plan = files.context.as_ref().and_then(|context| context.cases.iter().find(|plan| plan.name == case));
    let summary = files.metrics.as_ref().and_then(|metrics| metrics.cases.iter().find(|block| block.name == case));
    // What was really done counts; the plan only speaks for a case of which nothing was done.
    let fact = |done: fn(&RepeatRow) -> u32, planned: Option<u32>| -> Option<String> {
        if rows.is_empty() { planned.map(|planned| planned.to_string()) } else { Some(counts(rows, done)) }
    };
    let batch = plan.map(|plan| plan.batch).or_else(|| summary.map(|block| block.batch));
    let prompt = plan.map(|plan| plan.prompt_len).or_else(|| summary.map(|block| block.prompt_len));
    let new = plan.map(|plan| plan.new_tokens).or_else(|| summary.map(|block| block.new_tokens));
    builder.case_fact(case, fact::BATCH, fact(|row| row.batch, batch));
    builder.case_fact(case, fact::PROMPT_TOKENS, fact(|row| row.prompt_len, prompt));
    builder.case_fact(case, fact::NEW_TOKENS, fact(|row| row.new_tokens, new));
    let hashes: Vec<&str> = files
        .inputs
        .iter()
        .flat_map(|inputs| inputs.prompts.iter())
        .filter(|prompt| prompt.case == case)
        .map(|prompt| prompt.token_ids_sha256.as_str())
        .collect();
    let prompts = (!hashes.is_empty()).then(|| sha256_hex(hashes.join("\n").as_bytes()));
    builder.case_fact(case, fact::PROMPTS_SHA256, prompts);
    let greedy = files.context.as_ref().is_some_and(|context| context.temperature == 0.0);
    if !greedy {
        return;
    }
    let outputs: BTreeSet<&[u32]> =
        rows.iter().map(|row| row.tokens.as_slice()).filter(|tokens| !tokens.is_empty()).collect();
    if outputs.len() > 1 {
        let first = format!(
            "case `{case}`: greedy generation gave {} different token sequences in {} repeats",
            outputs.len(),
            rows.len()
        );
        builder.note("outputs_differ", Severity::Warn, first);
    }
    let output = outputs.first().filter(|_| outputs.len() == 1).map(|tokens| {
        let bytes: Vec<u8> = tokens.iter().flat_map(|id| id.to_le_bytes()).collect();
        sha256_hex(&bytes)
    });
    builder.case_fact(case, fact::OUTPUT_SHA256, output);
}

/// `64`, or `60 to 64, mean 62.5` where the rows differ.
fn counts(rows: &[&RepeatRow], get: fn(&RepeatRow) -> u32) -> String {
    let values: Vec<u32> = rows.iter().map(|row| get(row)).collect();
    let (low, high) = (values.iter().min().copied().unwrap_or(0), values.iter().max().copied().unwrap_or(0));
    if low == high {
        return low.to_string();
    }
    let mean = values.iter().map(|value| f64::from(*value)).sum::<f64>() / values.len() as f64;
    format!("{low} to {high}, mean {mean:.2}")
}

/// The hash of one weight file, or one over the hashes of several in their order; null if one was not hashed.
fn weights_sha256(inputs: &Inputs) -> Option<String> {
    let files: Vec<_> = inputs.files.iter().filter(|file| file.role == "weights").collect();
    let hashes: Vec<&str> = files.iter().map(|file| file.sha256.as_deref()).collect::<Option<_>>()?;
    match hashes.as_slice() {
        [] => None,
        [only] => Some((*only).to_owned()),
        several => Some(sha256_hex(several.join("\n").as_bytes())),
    }
}

fn seed_text(seeds: &BTreeMap<String, u64>) -> String {
    seeds.iter().map(|(name, seed)| format!("{name} {seed}")).collect::<Vec<_>>().join(", ")
}

/// The last part of a path or a repository name.
pub(super) fn without_directories(name: &str) -> String {
    name.trim_end_matches('/').rsplit(['/', '\\']).next().unwrap_or(name).to_owned()
}

fn outcomes(files: &Stage1Files) -> Outcomes {
    let mut outcomes = Outcomes::default();
    for row in files.rows.iter().filter(|row| !row.spans) {
        match row.status {
            RowStatus::Ok => outcomes.ok += 1,
            RowStatus::Oom => outcomes.oom += 1,
            RowStatus::Failed => outcomes.failed += 1,
            RowStatus::Interrupted => outcomes.interrupted += 1,
        }
        if row.status == RowStatus::Ok && row.contention.disturbed {
            outcomes.disturbed += 1;
        }
    }
    if files.rows.is_empty() {
        outcomes.ok = files.metrics.iter().flat_map(|metrics| metrics.cases.iter().map(|case| case.repeats)).sum();
    }
    outcomes
}

fn validity(builder: &mut Builder, files: &Stage1Files, plain: &[&RepeatRow], outcomes: Outcomes) -> Validity {
    let mut reasons: Vec<String> =
        files.metrics.as_ref().map(|metrics| metrics.validity.reasons.clone()).unwrap_or_default();
    let mut add = |reason: String| {
        if !reasons.contains(&reason) {
            reasons.push(reason);
        }
    };
    if !files.rows.is_empty() && plain.is_empty() {
        add(format!(
            "no repeat ended well without recording spans ({} failed, {} out of memory, {} interrupted)",
            outcomes.failed, outcomes.oom, outcomes.interrupted
        ));
    }
    match files.status {
        Some(RunStatus::Failed) => {
            let why = files.run.as_ref().and_then(|run| run.error.clone());
            add(why.map_or_else(|| "the run failed".to_owned(), |why| format!("the run failed: {}", clipped(&why))));
        }
        Some(RunStatus::Invalid) if files.metrics.as_ref().is_none_or(|metrics| metrics.validity.is_valid()) => {
            add("the run is marked invalid".to_owned());
        }
        Some(RunStatus::Interrupted | RunStatus::Running) => {
            let state = if files.status == Some(RunStatus::Running) { "is still going on" } else { "was cut short" };
            let first = format!("run `{}` {state}: {} repeats that ended well are used", files.name, outcomes.ok);
            builder.note("unfinished_run", Severity::Warn, first);
        }
        _ => {}
    }
    if files.context.is_none() && files.metrics.is_none() {
        let first = format!(
            "`{}` has rows only: weights, threads, formats of activations and cache, and the machine are not known",
            files.name
        );
        builder.note("rows_only", Severity::Info, first);
    }
    Validity::from_reasons(reasons)
}
