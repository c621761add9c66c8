//! The summary of a stage1 run, from its rows, spans and context alone: the same code makes it after a run and when a report is rebuilt.

use std::collections::BTreeMap;

use super::gpu;
use crate::analysis::operators::{Ceilings, operator_table};
use crate::analysis::overhead::{Overhead, span_overhead};
use crate::analysis::phases::{host_vs_device, phases_vs_total, unattributed_by_phase};
use crate::diagnostics::{Diagnostic, Diagnostics, Severity, Validity};
use crate::estimate::flops::{self, PhaseCost, Storage};
use crate::estimate::format::Format;
use crate::estimate::step::WeightFormats;
use crate::instrument::host_timer::records_step;
use crate::record::context::{CasePlan, Stage1Context};
use crate::record::gpu::GpuTelemetry;
use crate::record::metrics::{
    CaseBlock, METRICS_SCHEMA_VERSION, PhaseBlock, Reconciliation, Stage1Metrics, disturbed_reason,
};
use crate::record::rows::{RepeatRow, RowStatus};
use crate::stats::bootstrap::{Method, RESAMPLES, Statistic, interval};
use crate::stats::outliers::outliers;
use crate::stats::quantile::median;
use crate::stats::slow_first::slow_first;
use crate::stats::steady_state::trend;
use crate::stats::summary::Summary;
use crate::trace::timeline::Timeline;

/// Overhead of operator spans on the time per token that is still called small.
pub const SPAN_OVERHEAD_LIMIT: f64 = 0.01;
/// Share by which phases may miss the total, and operators their phase.
pub const RECONCILIATION_LIMIT: f64 = 0.01;
/// Seed of the bootstrap, so that a rebuilt report says the same.
const BOOTSTRAP_SEED: u64 = 0x5eed;
/// Complete repeats below which spread cannot be judged.
const FEW_REPEATS: u64 = 3;

/// How the run ended, as far as the rows cannot tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Every planned repeat was tried.
    Complete,
    /// Stopped by the user or by a signal, or the process died.
    Interrupted,
    /// Ended by a failure.
    Failed,
}

/// FLOPs and bytes of the phases of every case, each worked out once however many rows ask for it.
struct PhaseCosts {
    prefill: BTreeMap<String, PhaseCost>,
    /// By case and number of generated tokens: without `ignore_eos` repeats may differ in length.
    decode: BTreeMap<(String, u32), PhaseCost>,
}

impl PhaseCosts {
    /// Empty for models whose operators are not known.
    fn of(context: &Stage1Context, rows: &[&RepeatRow]) -> Self {
        let mut costs = Self { prefill: BTreeMap::new(), decode: BTreeMap::new() };
        let formats = Format::parse(&context.model.compute_dtype).zip(Format::parse(&context.model.kv_dtype));
        let Some((activation, cache)) = formats.filter(|_| context.instrumented) else { return costs };
        let architecture = &context.model.architecture;
        let default = Format::parse(&context.model.dtype).unwrap_or(Format::F32);
        let weights = WeightFormats::from_names(default, context.weight_formats.clone());
        let storage = Storage { weights: &weights, cache, activation };
        for case in &context.cases {
            let (batch, prompt) = (u64::from(case.batch), u64::from(case.prompt_len));
            costs.prefill.insert(case.name.clone(), flops::prefill(architecture, storage, batch, prompt));
            let met = rows.iter().filter(|row| row.case == case.name).map(|row| row.new_tokens);
            for new_tokens in met.chain([case.new_tokens]) {
                costs
                    .decode
                    .entry((case.name.clone(), new_tokens))
                    .or_insert_with(|| flops::decode(architecture, storage, batch, prompt, u64::from(new_tokens)));
            }
        }
        costs
    }

    /// `None` where the operators are not known or the phase has no step.
    fn get(&self, case: &str, new_tokens: u32, prefill: bool) -> Option<&PhaseCost> {
        let found = if prefill { self.prefill.get(case) } else { self.decode.get(&(case.to_owned(), new_tokens)) };
        found.filter(|cost| cost.steps > 0)
    }
}

/// A phase of one case with its measured and its modelled time.
fn phase_block(
    context: &Stage1Context,
    costs: &PhaseCosts,
    case: &CasePlan,
    rows: &[&RepeatRow],
    prefill: bool,
) -> Option<PhaseBlock> {
    // With `ignore_eos=false` lengths may differ; the model is then that of the most common length.
    let new_tokens = most_common(rows.iter().map(|row| row.new_tokens)).unwrap_or(case.new_tokens);
    let cost = costs.get(&case.name, new_tokens, prefill)?;
    let times: Vec<f64> = rows
        .iter()
        .filter(|row| prefill || row.new_tokens == new_tokens)
        .filter_map(|row| if prefill { row.prefill_ms } else { row.decode_ms })
        .collect();
    let time_ms = median(&times);
    let flops_peak = context.hardware.peak_flops_per_s.value;
    let bytes_peak = context.hardware.peak_bytes_per_s.value;
    let model_bytes = cost.model_bytes();
    let compute_time_ms = flops_peak.map(|peak| cost.model_flops as f64 / peak * 1e3);
    let memory_time_ms = bytes_peak.map(|peak| model_bytes as f64 / peak * 1e3);
    let roofline_ms = compute_time_ms.zip(memory_time_ms).map(|(compute, memory)| compute.max(memory));
    let bound = compute_time_ms
        .zip(memory_time_ms)
        .map(|(compute, memory)| if compute >= memory { "compute".to_owned() } else { "memory".to_owned() });
    let share = |modelled: Option<f64>| modelled.zip(time_ms).filter(|(_, time)| *time > 0.0).map(|(m, time)| m / time);
    Some(PhaseBlock {
        case: case.name.clone(),
        phase: if prefill { "prefill" } else { "decode" }.to_owned(),
        steps: cost.steps,
        time_ms,
        model_flops: cost.model_flops,
        weight_bytes: cost.weight_bytes,
        kv_bytes: cost.kv_bytes,
        activation_bytes: cost.activation_bytes,
        mfu: share(compute_time_ms),
        mbu: share(memory_time_ms),
        compute_time_ms,
        memory_time_ms,
        roofline_ms,
        bound,
    })
}

/// The value met most often, of several the largest.
fn most_common(values: impl Iterator<Item = u32>) -> Option<u32> {
    let mut counts: BTreeMap<u32, u32> = BTreeMap::new();
    values.for_each(|value| *counts.entry(value).or_default() += 1);
    counts.into_iter().max_by_key(|(_, count)| *count).map(|(value, _)| value)
}

/// Names of all measures of a case.
pub const MEASURES: [&str; 22] = [
    "load_ms",
    "ttft_ms",
    "prefill_ms",
    "prefill_tok_per_s",
    "tpot_ms",
    "itl_ms",
    "decode_ms",
    "decode_tok_per_s",
    "total_ms",
    "remainder_ms",
    "total_tok_per_s",
    "peak_rss_bytes",
    "peak_vram_bytes",
    "energy_j",
    "cpu_utilisation",
    "energy_per_token_j",
    "cost_usd_per_million_tokens",
    "mfu_prefill",
    "mbu_prefill",
    "mfu_decode",
    "mbu_decode",
    "tracer_overhead_ratio",
];

/// The measures of rows that carry no spans, each with its unit.
fn measures(context: &Stage1Context, costs: &PhaseCosts, rows: &[&RepeatRow]) -> BTreeMap<String, Summary> {
    let mut map = BTreeMap::new();
    let mut put = |name: &str, unit: &str, values: Vec<f64>| {
        map.insert(name.to_owned(), Summary::from_values(unit, &values));
    };
    let each = |get: &dyn Fn(&RepeatRow) -> Option<f64>| rows.iter().filter_map(|row| get(row)).collect::<Vec<f64>>();
    put("load_ms", "ms", vec![context.load_ms]);
    put("ttft_ms", "ms", each(&|row| row.ttft_ms));
    put("prefill_ms", "ms", each(&|row| row.prefill_ms));
    put("prefill_tok_per_s", "tok/s", each(&|row| row.prefill_tok_per_s));
    put("tpot_ms", "ms", each(&|row| row.tpot_ms));
    put("itl_ms", "ms", rows.iter().flat_map(|row| row.itl_ms.iter().copied()).collect());
    put("decode_ms", "ms", each(&|row| row.decode_ms));
    put("decode_tok_per_s", "tok/s", each(&|row| row.decode_tok_per_s));
    put("total_ms", "ms", each(&|row| row.total_ms));
    put("remainder_ms", "ms", each(&|row| row.remainder_ms));
    put("total_tok_per_s", "tok/s", each(&|row| row.total_tok_per_s));
    put("peak_rss_bytes", "bytes", each(&|row| row.memory.peak_rss_bytes.map(|bytes| bytes as f64)));
    put("peak_vram_bytes", "bytes", each(&|row| row.memory.peak_vram_bytes.map(|bytes| bytes as f64)));
    put("energy_j", "J", each(&|row| row.energy_j));
    put("cpu_utilisation", "ratio", each(&|row| row.cpu_utilisation));
    let joules_per_token =
        |row: &RepeatRow| row.energy_j.map(|joules| joules / f64::from(row.batch * row.new_tokens.max(1)));
    put("energy_per_token_j", "J/tok", each(&joules_per_token));
    let price = context.hardware.price_usd_per_hour;
    let usd = |row: &RepeatRow| price.zip(row.total_tok_per_s).map(|(price, rate)| price / 3600.0 / rate * 1e6);
    put("cost_usd_per_million_tokens", "USD/Mtok", each(&usd));
    for prefill in [true, false] {
        let phase = if prefill { "prefill" } else { "decode" };
        let shares = |peak: Option<f64>, amount: &dyn Fn(&PhaseCost) -> u64| {
            let of = |row: &&RepeatRow| {
                let cost = costs.get(&row.case, row.new_tokens, prefill)?;
                let ms = if prefill { row.prefill_ms } else { row.decode_ms }?;
                peak.filter(|_| ms > 0.0).map(|peak| amount(cost) as f64 / (peak * ms * 1e-3))
            };
            rows.iter().filter_map(of).collect::<Vec<f64>>()
        };
        put(
            &format!("mfu_{phase}"),
            "ratio",
            shares(context.hardware.peak_flops_per_s.value, &|cost| cost.model_flops),
        );
        put(&format!("mbu_{phase}"), "ratio", shares(context.hardware.peak_bytes_per_s.value, &PhaseCost::model_bytes));
    }
    put(TRACER_OVERHEAD, "ratio", Vec::new());
    map
}

/// Findings about the spread of the repeats of one case.
fn judge_spread(case: &str, rows: &[&RepeatRow], diagnostics: &mut Diagnostics) {
    let totals: Vec<f64> = rows.iter().filter_map(|row| row.total_ms).collect();
    if let Some(slow) = slow_first(&totals) {
        diagnostics.note(
            "slow_first_run",
            Severity::Warn,
            format!(
                "case `{case}`: the first repeat took {:.2} ms, the median of the others is {:.2} ms; raise `warmup=`",
                slow.first, slow.median_of_others
            ),
        );
    }
    for outlier in outliers(&totals) {
        diagnostics.note(
            "outlier",
            Severity::Warn,
            format!(
                "case `{case}`: repeat {} took {:.2} ms (modified z-score {:.0}); it is kept in all figures",
                outlier.index, outlier.value, outlier.score
            ),
        );
    }
    if let Some(trend) = trend(&totals).filter(crate::stats::steady_state::Trend::is_drifting) {
        diagnostics.note(
            "drift",
            Severity::Warn,
            format!(
                "case `{case}`: the {} repeats change by {:+.3} ms each (p = {:.3}); the machine had not settled",
                totals.len(),
                trend.slope,
                trend.p_value
            ),
        );
    }
}

/// Everything `metrics.json` says, from what is on disk.
pub fn summarize(
    context: &Stage1Context,
    rows: &[RepeatRow],
    timeline: &Timeline,
    ending: Ending,
    found: &[Diagnostic],
    telemetry: Option<&GpuTelemetry>,
) -> Stage1Metrics {
    let mut diagnostics = Diagnostics::default();
    diagnostics.extend(context.diagnostics.iter().cloned());
    diagnostics.extend(found.iter().cloned());
    let gpu = telemetry.map(|telemetry| gpu::judge(telemetry, rows, context.hardware.device_id != "cpu"));
    diagnostics.extend(gpu.iter().flat_map(|gpu| gpu.diagnostics.iter().cloned()));
    diagnostics.extend(rows.iter().flat_map(|row| row.diagnostics.iter().cloned()));
    let complete: Vec<&RepeatRow> = rows.iter().filter(|row| row.status == RowStatus::Ok).collect();
    let plain: Vec<&RepeatRow> = complete.iter().copied().filter(|row| !row.spans).collect();
    let spanned: Vec<&RepeatRow> = complete.iter().copied().filter(|row| row.spans && !row.traced).collect();
    let traced: Vec<&RepeatRow> = complete.iter().copied().filter(|row| row.traced).collect();

    let costs = PhaseCosts::of(context, &plain);
    let mut cases = Vec::new();
    let mut phases = Vec::new();
    for case in &context.cases {
        let of_case: Vec<&RepeatRow> = plain.iter().copied().filter(|row| row.case == case.name).collect();
        judge_spread(&case.name, &of_case, &mut diagnostics);
        let mut measured = measures(context, &costs, &of_case);
        let under_tracer: Vec<&RepeatRow> = traced.iter().copied().filter(|row| row.case == case.name).collect();
        measured.insert(TRACER_OVERHEAD.to_owned(), tracer_overhead(&of_case, &under_tracer));
        let repeats = of_case.len() as u64;
        if repeats < FEW_REPEATS && ending == Ending::Complete {
            diagnostics.note(
                "few_repeats",
                Severity::Info,
                format!(
                    "case `{}`: {repeats} repeats cannot show the spread; use `repeats=` of at least {FEW_REPEATS}",
                    case.name
                ),
            );
        }
        phases.extend(
            [true, false].into_iter().filter_map(|prefill| phase_block(context, &costs, case, &of_case, prefill)),
        );
        cases.push(CaseBlock {
            name: case.name.clone(),
            batch: case.batch,
            prompt_len: case.prompt_len,
            new_tokens: case.new_tokens,
            repeats,
            measures: measured,
        });
    }
    if context.cases.len() > 1 {
        diagnostics.note(
            "mixed_cases",
            Severity::Info,
            format!("the run-wide measures pool {} cases of different work; compare case by case", context.cases.len()),
        );
    }
    let mut all = measures(context, &costs, &plain);
    all.insert("span_overhead_ratio".to_owned(), overhead(&plain, &spanned, &mut diagnostics));
    let tax = tracer_overhead(&plain, &traced);
    if let Some(share) = tax.p50.filter(|_| tax.ci95.is_some_and(|[low, _]| low > SPAN_OVERHEAD_LIMIT)) {
        diagnostics.note(
            "tracer_overhead",
            Severity::Info,
            format!(
                "the tracer slows a token down by {:.2} %; the trace carries that, the headline measures do not",
                share * 100.0
            ),
        );
    }
    all.insert(TRACER_OVERHEAD.to_owned(), tax);

    let ceilings = Ceilings {
        flops_per_s: context.hardware.peak_flops_per_s.value,
        bytes_per_s: context.hardware.peak_bytes_per_s.value,
    };
    // Sums over the layers first, then each layer.
    let mut operators = operator_table(timeline, &ceilings, false);
    operators.extend(operator_table(timeline, &ceilings, true).into_iter().filter(|row| row.layer.is_some()));
    let reconciliation = Reconciliation {
        phases_vs_total: phases_vs_total(rows),
        host_vs_device: host_vs_device(rows),
        unattributed_by_phase: unattributed_by_phase(timeline),
    };
    for (phase, share) in &reconciliation.unattributed_by_phase {
        if *share > RECONCILIATION_LIMIT {
            diagnostics.note(
                "unattributed_time",
                Severity::Warn,
                format!("{:.1} % of the {phase} time lies between operators", share * 100.0),
            );
        }
    }
    if let Some(share) = reconciliation.host_vs_device.filter(|share| *share > RECONCILIATION_LIMIT) {
        diagnostics.note(
            "clocks_disagree",
            Severity::Warn,
            format!(
                "the host's clock and the events of the device differ by {:.1} % of the total: for generations this short the first launch and the \
                 copies of the tokens count",
                share * 100.0
            ),
        );
    }
    if !context.instrumented {
        diagnostics.note(
            "not_instrumented",
            Severity::Info,
            format!(
                "`{}` runs through a module that is timed as one piece: no operators, no MFU, no MBU",
                context.model.architecture.family.model_type()
            ),
        );
    }

    let mut reasons = invalid_reasons(context, rows, &plain, ending, &reconciliation, &diagnostics);
    reasons.extend(gpu.iter().flat_map(|gpu| gpu.reasons.iter().cloned()));
    let validity = Validity::from_reasons(reasons);
    let status = match ending {
        Ending::Interrupted => "interrupted",
        Ending::Failed => "failed",
        Ending::Complete if validity.is_valid() => "complete",
        Ending::Complete => "invalid",
    };
    Stage1Metrics {
        schema_version: METRICS_SCHEMA_VERSION,
        command: "stage1".to_owned(),
        run_id: context.run_id.clone(),
        status: status.to_owned(),
        validity,
        measures: all,
        cases,
        model: context.model.clone(),
        hardware: context.hardware.clone(),
        phases,
        operators,
        reconciliation,
        // Measured apart from the rows; whoever has the file adds it.
        quality: None,
        gpu: gpu.map(|gpu| gpu.block),
        diagnostics: diagnostics.into_vec(),
    }
}

/// What recording spans costs a decode step, relative: in repeats with spans steps record on, off, off, on, and each four give one ratio of
/// neighbours. Where no repeat has four steps, repeats with and without spans are compared.
fn overhead(plain: &[&RepeatRow], spanned: &[&RepeatRow], diagnostics: &mut Diagnostics) -> Summary {
    let ratios: Vec<f64> = spanned
        .iter()
        .flat_map(|row| row.itl_ms.chunks_exact(4))
        .map(|steps| {
            let sum = |recorded: bool| -> f64 {
                (1u32..).zip(steps).filter(|(step, _)| records_step(*step) == recorded).map(|(_, ms)| *ms).sum()
            };
            sum(true) / sum(false) - 1.0
        })
        .filter(|ratio| ratio.is_finite())
        .collect();
    let summary = if ratios.len() >= 2 {
        let ci95 = interval(&ratios, Statistic::Median, Method::Percentile, 0.95, RESAMPLES, BOOTSTRAP_SEED);
        Summary {
            unit: "ratio".to_owned(),
            n: ratios.len() as u64,
            p50: median(&ratios),
            ci95,
            ..Summary::from_values("ratio", &[])
        }
    } else {
        let steps = |rows: &[&RepeatRow]| rows.iter().filter_map(|row| row.tpot_ms).collect::<Vec<f64>>();
        match span_overhead(&steps(plain), &steps(spanned), BOOTSTRAP_SEED) {
            Some(overhead) => overhead.to_summary(),
            None => return Summary::from_values("ratio", &[]),
        }
    };
    if let Some(share) = summary.p50.filter(|_| summary.ci95.is_some_and(|[low, _]| low > SPAN_OVERHEAD_LIMIT)) {
        diagnostics.note(
            "span_overhead",
            Severity::Warn,
            format!(
                "operator spans slow a token down by {:.2} %; the operator tables carry that, the headline measures do not",
                share * 100.0
            ),
        );
    }
    summary
}

/// Name of the measure of what the tracer costs.
const TRACER_OVERHEAD: &str = "tracer_overhead_ratio";

/// What the built-in tracer costs a decode step, or a repeat of one token, relative: traced repeats against the interleaved ones without. Each
/// time is first divided by the median of its own case without the tracer, so that cases of different work can stand together.
fn tracer_overhead(plain: &[&RepeatRow], traced: &[&RepeatRow]) -> Summary {
    let time = |row: &RepeatRow| row.tpot_ms.or(row.total_ms);
    let mut usual: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for row in plain {
        usual.entry(&row.case).or_default().extend(time(row));
    }
    let usual: BTreeMap<&str, f64> = usual
        .into_iter()
        .filter_map(|(case, times)| Some((case, median(&times).filter(|time| *time > 0.0)?)))
        .collect();
    let relative = |rows: &[&RepeatRow]| -> Vec<f64> {
        rows.iter().filter_map(|row| Some(time(row)? / usual.get(row.case.as_str())?)).collect()
    };
    span_overhead(&relative(plain), &relative(traced), BOOTSTRAP_SEED)
        .map_or_else(|| Summary::from_values("ratio", &[]), Overhead::to_summary)
}

/// Why the numbers may not be relied on.
fn invalid_reasons(
    context: &Stage1Context,
    rows: &[RepeatRow],
    plain: &[&RepeatRow],
    ending: Ending,
    reconciliation: &Reconciliation,
    diagnostics: &Diagnostics,
) -> Vec<String> {
    let mut reasons = Vec::new();
    let each = context.repeats + context.span_repeats + context.trace_repeats;
    let planned = context.cases.len() as u64 * u64::from(each);
    if ending == Ending::Interrupted {
        reasons.push(format!("interrupted: {} of {planned} repeats were done", rows.len()));
    }
    let done_well = rows.iter().all(|row| row.status == RowStatus::Ok);
    if ending == Ending::Failed && done_well {
        // What ended it is no row's doing, e.g. a full disk; run.json has the words.
        reasons.push(format!("an error ended the run after {} of {planned} repeats", rows.len()));
    }
    if plain.is_empty() {
        reasons.push("no repeat without spans ended well".to_owned());
    }
    let failures: Vec<&RepeatRow> =
        rows.iter().filter(|row| matches!(row.status, RowStatus::Failed | RowStatus::Oom)).collect();
    if let Some(first) = failures.first() {
        reasons.push(format!(
            "{} of {} repeats failed, the first with: {}",
            failures.len(),
            rows.len(),
            first.error.as_deref().unwrap_or("no message")
        ));
    }
    let disturbed = plain.iter().filter(|row| row.contention.disturbed).count();
    if !plain.is_empty() && disturbed as f64 / plain.len() as f64 > context.max_disturbed_share {
        reasons.push(disturbed_reason(disturbed, plain.len(), context.max_disturbed_share));
    }
    let has = |code: &str| diagnostics.as_slice().iter().find(|diagnostic| diagnostic.code == code);
    for code in ["non_finite_logits", "process_paused"] {
        if let Some(found) = has(code) {
            reasons.push(found.first.clone());
        }
    }
    if let Some(share) = reconciliation.phases_vs_total.filter(|share| *share > RECONCILIATION_LIMIT) {
        reasons.push(format!("prefill + decode + remainder miss the total by {:.1} %", share * 100.0));
    }
    reasons
}
