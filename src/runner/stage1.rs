//! Warm-up and measured repeats of every case, with and without operator spans in turn.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::assemble::Engine;
use super::cases::PreparedCase;
use super::order::{RepeatKind, interleave};
use super::telemetry::{self, Telemetry};
use super::timer::RunTimer;
use super::traced::{self, TracedRepeat};
use crate::config::schema::choice::{Activity, InferMode, TraceMode};
use crate::config::schema::stage1::Stage1Config;
use crate::diagnostics::{Diagnostics, Severity};
use crate::engine::generate::{FinishReason, Generation, GenerationPlan, generate};
use crate::engine::sampling::SamplingPlan;
use crate::engine::tokenizer::Tokenizer;
use crate::estimate::format::Format;
use crate::hardware::contention::{ContentionProbe, ContentionSample, ContentionThresholds};
use crate::hardware::energy::EnergyMeter;
use crate::hardware::memory;
use crate::hardware::nvml::GpuUse;
use crate::instrument::composed::Both;
use crate::instrument::cupti::ActivitySource;
use crate::instrument::device_timer::DevicePhases;
use crate::instrument::heap;
use crate::instrument::host_timer::HostTimer;
use crate::instrument::nvtx::NvtxRanges;
use crate::instrument::profiler_control::MeasuredRegion;
use crate::instrument::range_recorder::RangeRecorder;
use crate::record::redact::Redactor;
use crate::record::rows::{Contention, HostTimes, MemoryUse, ROW_SCHEMA_VERSION, RepeatRow, RowStatus};
use crate::record::run_dir::rfc3339;
use crate::trace::timeline::Timeline;

/// Spans of one forward pass, at most: layers × (operators + modules + layer), and some outside.
const SPANS_PER_LAYER: usize = 24;

/// What the caller is told while the run goes on.
pub trait Events {
    /// What the caller returns when it cannot go on.
    type Error;
    /// A warm-up repeat begins.
    fn warmup(&mut self, case: &str, index: u32, of: u32);
    /// A measured repeat begins.
    fn repeat(&mut self, case: &str, index: u32, of: u32, spans: bool);
    /// A row is complete; `spans` holds its spans if it recorded any.
    fn row(&mut self, row: &RepeatRow, spans: Option<&Timeline>) -> Result<(), Self::Error>;
    /// What the built-in tracer recorded of the repeat whose row came last.
    fn traced(&mut self, _row: &RepeatRow, _traced: TracedRepeat) {}
    /// True when the user wants to stop; asked between repeats.
    fn interrupted(&self) -> bool;
}

/// How the repeats ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunEnd {
    /// All of them ran.
    Complete,
    /// The user stopped the run.
    Interrupted,
    /// A repeat failed and the run did not go on.
    Failed,
}

/// How many repeats of each case record operator spans: none only where `torch_profiler.activities` leaves the side of the device out and
/// `trace=spans` does not ask for them all the same.
///
/// On a GPU they are timed by events on its stream: the host's clock sees launches, not the work.
pub fn span_repeats(config: &Stage1Config, on_cpu: bool) -> u32 {
    let side = if on_cpu { Activity::Cpu } else { Activity::Cuda };
    let wanted = config.trace == TraceMode::Spans || config.torch_profiler.activities.contains(&side);
    if wanted { config.profiling.span_repeats.unwrap_or(config.repeats) } else { 0 }
}

/// How many repeats of each case run under the built-in tracer.
pub fn trace_repeats(config: &Stage1Config) -> u32 {
    let wanted = config.trace == TraceMode::Cupti;
    if wanted { config.profiling.trace_repeats.unwrap_or(config.repeats) } else { 0 }
}

/// One repeat as measured.
struct Measured {
    generation: Generation,
    /// The phases by the clock of the device; `None` on the CPU.
    device: Option<DevicePhases>,
    /// The one-token generation of two-pass mode.
    first_pass: Option<Generation>,
    contention: ContentionSample,
    memory: MemoryUse,
    cpu_energy_j: Option<f64>,
    gpu: Option<GpuUse>,
}

/// Runs repeats on an engine.
pub struct Stage1Runner<'a> {
    /// The settings.
    pub config: &'a Stage1Config,
    /// The run.
    pub run_id: &'a str,
    /// The engine.
    pub engine: &'a mut Engine,
    /// For eos ids and the text of the rows.
    pub tokenizer: &'a Tokenizer,
    /// Thresholds of disturbance.
    pub thresholds: ContentionThresholds,
    /// Keeps secrets out of the texts of the rows.
    pub redactor: &'a Redactor,
    /// Emits NVTX ranges, where that was asked for.
    pub nvtx: Option<&'a mut NvtxRanges>,
    /// The built-in tracer; without one no repeat is traced.
    pub tracer: Option<&'a mut dyn ActivitySource>,
    /// Tell a profiler that waits for it when the measured repeats begin and end.
    pub mark_region: bool,
    /// Looks at the graphics processor; none where nobody does.
    pub telemetry: Option<&'a mut Telemetry>,
}

impl Stage1Runner<'_> {
    /// Runs all cases and hands every row to `events` as soon as it is complete.
    ///
    /// # Errors
    /// What `events` returns; failures of the engine are rows.
    pub fn run<E: Events>(&mut self, cases: &[PreparedCase], events: &mut E) -> Result<RunEnd, E::Error> {
        let on_cpu = self.engine.device_id == "cpu";
        let spans = if self.engine.model.is_instrumented() { span_repeats(self.config, on_cpu) } else { 0 };
        let layers = self.engine.block.architecture.num_layers;
        let traced = if self.tracer.is_some() { trace_repeats(self.config) } else { 0 };
        let mut energy = EnergyMeter::open().ok();
        let mut index = 0;
        let mut failed = false;
        // From the first measured repeat to the last, whatever way the run ends: a profiler takes one region, not one for each case.
        let mut region: Option<MeasuredRegion> = None;
        for case in cases {
            for warmup in 0..self.config.warmup {
                if events.interrupted() {
                    return Ok(RunEnd::Interrupted);
                }
                events.warmup(&case.plan.name, warmup, self.config.warmup);
                // A warm-up that fails is not worth a row: the first measured repeat will fail likewise and be one.
                let warm = RunTimer::new(self.engine.backend.as_ref(), spans > 0, 0, 0);
                let _ = warm.and_then(|mut timer| self.warm_up(case, &mut timer, warmup));
            }
            if self.mark_region {
                region.get_or_insert_with(MeasuredRegion::begin);
            }
            let order = interleave(self.config.repeats, spans, traced);
            let phases = case.plan.new_tokens as usize + 1;
            let capacity = phases * (layers * SPANS_PER_LAYER + 16);
            let timed = if spans > 0 { capacity } else { 0 };
            let (mut timer, broken) = match RunTimer::new(self.engine.backend.as_ref(), false, timed, phases) {
                Ok(timer) => (timer, None),
                // The first repeat says so in its row.
                Err(error) => (RunTimer::Host(HostTimer::new(false, 0)), Some(error)),
            };
            let mut recorder = RangeRecorder::with_capacity(if traced > 0 { capacity } else { 0 });
            for (repeat, kind) in order.iter().enumerate() {
                let with_spans = *kind == RepeatKind::Spans;
                if events.interrupted() {
                    return Ok(RunEnd::Interrupted);
                }
                if self.config.profiling.cooldown_ms > 0 {
                    std::thread::sleep(Duration::from_millis(self.config.profiling.cooldown_ms));
                }
                events.repeat(&case.plan.name, repeat as u32, order.len() as u32, *kind != RepeatKind::Plain);
                let started_at = rfc3339(jiff::Timestamp::now());
                timer.restart(with_spans);
                if let Some(nvtx) = &mut self.nvtx {
                    nvtx.begin_request(index);
                }
                let (result, recorded) = match (&broken, kind) {
                    (Some(error), _) => (Err(error.clone()), None),
                    (None, RepeatKind::Traced) => self.traced(case, &mut timer, &mut recorder, &mut energy),
                    (None, RepeatKind::Plain | RepeatKind::Spans) => {
                        (self.guarded(case, &mut timer, None, &mut energy), None)
                    }
                };
                if let Some(nvtx) = &mut self.nvtx {
                    nvtx.end_repeat();
                }
                let mut row = self.row(case, index, repeat as u32, with_spans, started_at, &result);
                row.traced = *kind == RepeatKind::Traced;
                row.spans |= row.traced;
                if let Some(recorded) = &recorded {
                    row.diagnostics.extend(recorded.diagnostics.iter().cloned());
                }
                if let Some(telemetry) = &mut self.telemetry {
                    telemetry.note(&row);
                }
                let timeline = if with_spans && row.status == RowStatus::Ok {
                    let mut timeline = Timeline { device: self.engine.device_id.clone(), ..Timeline::default() };
                    let activation = Format::parse(&self.engine.block.compute_dtype).unwrap_or(Format::F32);
                    match timer.append_to(&mut timeline, index, activation) {
                        Ok(()) => Some(timeline),
                        Err(error) => {
                            row.status = RowStatus::Failed;
                            row.error = Some(self.redactor.text(&one_line(&error)));
                            None
                        }
                    }
                } else {
                    None
                };
                events.row(&row, timeline.as_ref())?;
                if let Some(recorded) = recorded.filter(|_| row.status == RowStatus::Ok) {
                    events.traced(&row, recorded);
                }
                index += 1;
                if row.status != RowStatus::Ok {
                    failed = true;
                    // The next repeat of this case would fail the same way; the next case may not.
                    if !self.config.run.keep_going {
                        return Ok(RunEnd::Failed);
                    }
                    break;
                }
            }
        }
        Ok(if failed { RunEnd::Failed } else { RunEnd::Complete })
    }

    /// One repeat before the measured ones.
    fn warm_up(&mut self, case: &PreparedCase, timer: &mut RunTimer, number: u32) -> Result<Measured, String> {
        // Inside its range there are none: warming up is no phase of the work. The ranges wait here meanwhile.
        let mut nvtx = self.nvtx.take();
        if let Some(nvtx) = &mut nvtx {
            nvtx.begin_warmup(number);
        }
        let result = self.guarded(case, timer, None, &mut None);
        if let Some(nvtx) = &mut nvtx {
            nvtx.end_repeat();
        }
        self.nvtx = nvtx;
        result
    }

    /// One repeat under the tracer.
    fn traced(
        &mut self,
        case: &PreparedCase,
        timer: &mut RunTimer,
        recorder: &mut RangeRecorder,
        energy: &mut Option<EnergyMeter>,
    ) -> (Result<Measured, String>, Option<TracedRepeat>) {
        let Some(tracer) = self.tracer.take() else { return (self.guarded(case, timer, None, energy), None) };
        let outcome = traced::record(tracer, recorder, |recorder| self.guarded(case, timer, Some(recorder), energy));
        self.tracer = Some(tracer);
        outcome
    }

    /// One repeat, with a panic of the engine turned into an error.
    fn guarded(
        &mut self,
        case: &PreparedCase,
        timer: &mut RunTimer,
        recorder: Option<&mut RangeRecorder>,
        energy: &mut Option<EnergyMeter>,
    ) -> Result<Measured, String> {
        let attempt = catch_unwind(AssertUnwindSafe(|| self.measure(case, timer, recorder, energy)));
        match attempt {
            Ok(result) => result,
            Err(payload) => {
                let text = payload
                    .downcast_ref::<String>()
                    .map(String::as_str)
                    .or_else(|| payload.downcast_ref::<&str>().copied())
                    .unwrap_or("no message");
                Err(format!("the engine panicked: {text}"))
            }
        }
    }

    fn measure(
        &mut self,
        case: &PreparedCase,
        timer: &mut RunTimer,
        recorder: Option<&mut RangeRecorder>,
        energy: &mut Option<EnergyMeter>,
    ) -> Result<Measured, String> {
        inject_fault(&case.plan.name)?;
        let infer = &self.config.infer;
        let mut plan = GenerationPlan {
            prompts: &case.prompts,
            new_tokens: case.plan.new_tokens as usize,
            ignore_eos: infer.ignore_eos,
            eos_ids: self.tokenizer.eos_ids(),
            sampling: SamplingPlan {
                temperature: infer.temperature,
                top_k: infer.top_k.map(|k| k as usize),
                top_p: infer.top_p,
                seed: infer.seed,
            },
        };
        let device = self.engine.device.clone();
        let text = |error: crate::engine::error::Error| one_line(&error.to_string());
        let first_pass = if infer.mode == InferMode::TwoPass {
            let mut silent = crate::instrument::observer::NoObserver;
            let short = GenerationPlan { new_tokens: 1, ..plan.clone() };
            Some(generate(&mut *self.engine.model, &short, &device, &mut silent, &|| true).map_err(text)?)
        } else {
            None
        };
        // Before the heap is watched: the looks need memory, too.
        if let Some(telemetry) = &mut self.telemetry {
            telemetry.begin();
        }
        let peak_was_reset = memory::reset_peak().is_ok();
        let live_before = heap::restart_peak();
        let joules_before = energy.as_mut().and_then(|meter| meter.read_joules().ok());
        let probe = ContentionProbe::start();
        plan.new_tokens = case.plan.new_tokens as usize;
        let model = &mut *self.engine.model;
        let keep_going = || true;
        let generation = match (self.nvtx.as_deref_mut(), recorder) {
            (None, None) => generate(model, &plan, &device, timer, &keep_going),
            (Some(nvtx), None) => generate(model, &plan, &device, &mut Both::new(nvtx, timer), &keep_going),
            (None, Some(recorder)) => generate(model, &plan, &device, &mut Both::new(recorder, timer), &keep_going),
            (Some(nvtx), Some(recorder)) => {
                generate(model, &plan, &device, &mut Both::new(nvtx, &mut Both::new(recorder, timer)), &keep_going)
            }
        };
        let generation = generation.map_err(text)?;
        // Only now: reading an event waits for it.
        let device = timer.device_phases().map_err(|error| one_line(&error))?;
        let contention = probe.finish();
        let gpu = self.telemetry.as_mut().and_then(|telemetry| telemetry.end());
        let joules_after = energy.as_mut().and_then(|meter| meter.read_joules().ok());
        let (kv_cache_bytes, kv_used_bytes) = self.engine.model.kv_cache_bytes();
        let vram = self
            .telemetry
            .as_ref()
            .zip(gpu.as_ref())
            .filter(|_| self.engine.device_id != "cpu")
            .and_then(|(telemetry, during)| telemetry.peak_vram(during));
        let memory = MemoryUse {
            // Without the reset the mark includes loading, which is not what this repeat needed.
            peak_rss_bytes: memory::process().peak_rss_bytes.filter(|_| peak_was_reset),
            peak_vram_bytes: vram.map(|(bytes, _)| bytes),
            peak_vram_source: vram.map(|(_, source)| source.to_owned()),
            weights_bytes: self.engine.block.weights_bytes,
            kv_cache_bytes,
            kv_used_bytes,
            activations_bytes: live_before.zip(heap::peak()).map(|(before, peak)| peak.saturating_sub(before)),
        };
        let cpu_energy_j = joules_before.zip(joules_after).map(|(before, after)| after - before);
        Ok(Measured { generation, device, first_pass, contention, memory, cpu_energy_j, gpu })
    }

    fn row(
        &self,
        case: &PreparedCase,
        index: u32,
        repeat: u32,
        spans: bool,
        started_at: String,
        result: &Result<Measured, String>,
    ) -> RepeatRow {
        let block = &self.engine.block;
        let mut row = RepeatRow {
            schema_version: ROW_SCHEMA_VERSION,
            run_id: self.run_id.to_owned(),
            index,
            case: case.plan.name.clone(),
            repeat,
            spans,
            traced: false,
            status: RowStatus::Ok,
            error: None,
            model: block.name.clone(),
            backend: "candle".to_owned(),
            dtype: block.dtype.clone(),
            device: self.engine.device_id.clone(),
            batch: case.plan.batch,
            prompt_len: case.plan.prompt_len,
            new_tokens: 0,
            mode: mode_name(self.config.infer.mode).to_owned(),
            started_at,
            ttft_ms: None,
            prefill_ms: None,
            decode_ms: None,
            total_ms: None,
            remainder_ms: None,
            host: None,
            tpot_ms: None,
            itl_ms: Vec::new(),
            prefill_tok_per_s: None,
            decode_tok_per_s: None,
            total_tok_per_s: None,
            ttft_s: None,
            tpot_s: None,
            dt_full_s: None,
            tok_s: None,
            peak_memory_allocated_gb: None,
            memory: MemoryUse::default(),
            contention: Contention::default(),
            cpu_utilisation: None,
            energy_j: None,
            energy_source: None,
            cpu_energy_j: None,
            gpu: None,
            tokens: Vec::new(),
            text: None,
            finish_reason: None,
            diagnostics: Vec::new(),
        };
        match result {
            Ok(measured) => self.fill(&mut row, measured),
            Err(error) => {
                row.status = if is_out_of_memory(error) { RowStatus::Oom } else { RowStatus::Failed };
                row.error = Some(self.redactor.text(error));
            }
        }
        row
    }

    fn fill(&self, row: &mut RepeatRow, measured: &Measured) {
        let generation = &measured.generation;
        let mut diagnostics = Diagnostics::default();
        let ms = |ns: u64| ns as f64 * 1e-6;
        let new_tokens = generation.decode.len() as u32 + 1;
        let batch = f64::from(row.batch);
        let host_prefill_ns = generation.prefill.end_ns - generation.prefill.start_ns;
        let host_decode_ns = generation.decode_ns();
        let host_total_ms = ms(generation.total_ns);
        // Phases are the device's business, what a user waits for is the host's.
        let (prefill_ns, decode_ns, total_ns) = match &measured.device {
            Some(device) => (device.prefill_ns, device.decode_ns.iter().sum(), device.total_ns),
            None => (host_prefill_ns, host_decode_ns, generation.total_ns),
        };
        let total_ms = ms(total_ns);
        row.host = measured.device.as_ref().map(|_| HostTimes {
            prefill_ms: ms(host_prefill_ns),
            decode_ms: ms(host_decode_ns),
            total_ms: host_total_ms,
            remainder_ms: host_total_ms - ms(host_prefill_ns) - ms(host_decode_ns),
        });
        let stamps: Vec<u64> = generation.token_stamps_ns().collect();
        row.new_tokens = new_tokens;
        row.prefill_ms = Some(ms(prefill_ns));
        row.decode_ms = Some(ms(decode_ns));
        row.total_ms = Some(total_ms);
        row.remainder_ms = Some(total_ms - ms(prefill_ns) - ms(decode_ns));
        row.itl_ms = stamps.windows(2).map(|pair| ms(pair[1] - pair[0])).collect();
        let later = f64::from(new_tokens - 1);
        let (ttft_ms, tpot_ms) = match &measured.first_pass {
            None => {
                let span = stamps.last().zip(stamps.first()).map(|(last, first)| ms(last - first));
                (ms(generation.prefill.end_ns), span.filter(|_| new_tokens > 1).map(|span| span / later))
            }
            Some(first) => {
                let ttft = ms(first.total_ns);
                (ttft, (new_tokens > 1).then(|| (host_total_ms - ttft) / later))
            }
        };
        row.ttft_ms = Some(ttft_ms);
        row.tpot_ms = tpot_ms;
        let rate = |tokens: f64, ns: u64| (ns > 0 && tokens > 0.0).then(|| tokens / (ns as f64 * 1e-9));
        row.prefill_tok_per_s = rate(batch * f64::from(row.prompt_len), prefill_ns);
        row.decode_tok_per_s = rate(batch * later, decode_ns);
        row.total_tok_per_s = rate(batch * f64::from(new_tokens), generation.total_ns);
        row.ttft_s = row.ttft_ms.map(|ms| ms * 1e-3);
        row.tpot_s = row.tpot_ms.map(|ms| ms * 1e-3);
        row.dt_full_s = Some(host_total_ms * 1e-3);
        row.tok_s = row.total_tok_per_s;
        row.memory = measured.memory.clone();
        let allocated = row.memory.peak_vram_bytes.or(row.memory.peak_rss_bytes);
        row.peak_memory_allocated_gb = allocated.map(|bytes| bytes as f64 / (1u64 << 30) as f64);
        let sample = &measured.contention;
        row.cpu_utilisation = sample.cpu_wall_ratio.map(|ratio| ratio / self.engine.threads as f64);
        row.contention = Contention {
            cpu_wall_ratio: sample.cpu_wall_ratio,
            involuntary_switches: Some(sample.involuntary_switches),
            voluntary_switches: Some(sample.voluntary_switches),
            pressure_cpu_some: sample.pressure_cpu_some,
            other_cpu_share: sample.other_cpu_share,
            disturbed: sample.is_disturbed(&self.thresholds),
        };
        for reason in sample.disturbances(&self.thresholds) {
            diagnostics.note("disturbed", Severity::Warn, format!("case `{}`, row {}: {reason}", row.case, row.index));
        }
        if sample.process_paused {
            diagnostics.note("process_paused", Severity::Error, format!("row {}: the process stood still", row.index));
        }
        row.cpu_energy_j = measured.cpu_energy_j;
        row.gpu.clone_from(&measured.gpu);
        (row.energy_j, row.energy_source) = telemetry::energy(row.device == "cpu", row.cpu_energy_j, row.gpu.as_ref());
        row.tokens = generation.tokens.first().cloned().unwrap_or_default();
        row.text = self.tokenizer.decode(&row.tokens).ok();
        row.finish_reason = Some(
            match generation.finish {
                FinishReason::Length => "length",
                FinishReason::Eos => "eos",
                FinishReason::Stopped => "stopped",
            }
            .to_owned(),
        );
        if generation.non_finite_logits > 0 {
            diagnostics.note(
                "non_finite_logits",
                Severity::Error,
                format!(
                    "row {}: {} logits were NaN or infinite; the weights or a kernel are broken",
                    row.index, generation.non_finite_logits
                ),
            );
        }
        row.diagnostics = diagnostics.into_vec();
    }
}

/// `single_pass` or `two_pass`.
pub fn mode_name(mode: InferMode) -> &'static str {
    match mode {
        InferMode::SinglePass => "single_pass",
        InferMode::TwoPass => "two_pass",
    }
}

fn is_out_of_memory(error: &str) -> bool {
    let error = error.to_ascii_lowercase();
    ["out of memory", "out_of_memory", "cannot allocate", "memory allocation"].iter().any(|text| error.contains(text))
}

/// Candle appends a backtrace to some errors; a row keeps the first line.
fn one_line(error: &str) -> String {
    error.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("unknown error").to_owned()
}

/// Faults for the tests, in builds with debug assertions only: `PERFPROF_FAULT=panic:CASE` or `error:CASE`.
fn inject_fault(case: &str) -> Result<(), String> {
    if cfg!(debug_assertions)
        && let Ok(fault) = std::env::var("PERFPROF_FAULT")
        && let Some((kind, target)) = fault.split_once(':')
        && (target == case || target == "*")
    {
        assert!(kind != "panic", "injected panic");
        return Err(format!("injected {kind}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_errors_are_told_apart() {
        assert!(is_out_of_memory("CUDA_ERROR_OUT_OF_MEMORY"));
        assert!(is_out_of_memory("cannot allocate 3 GiB for the KV cache"));
        assert!(!is_out_of_memory("shape mismatch"));
    }
}
