//! From records of the device and ranges of our own to a trace file that `analyze` splits: phases, steps, layers and modules exactly.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use perfprof::analysis::classify::Classifier;
use perfprof::analysis::kernel_names::{NameParts, demangle};
use perfprof::analysis::steps::{PhasePatterns, StepSource};
use perfprof::estimate::format::Format;
use perfprof::estimate::operator::OperatorClass;
use perfprof::instrument::cupti::clock::ClockSample;
use perfprof::instrument::cupti::records::{CallRecord, CopyRecord, DeviceRecord, Dropped, KernelRecord};
use perfprof::instrument::cupti::{ActivitySource, KernelNames, Recording, TracerError, assemble};
use perfprof::instrument::observer::{Module, Observer, Phase, Span};
use perfprof::instrument::range_names::RangeName;
use perfprof::instrument::range_recorder::{RangeRecorder, RecordedRange};
use perfprof::runner::analyze::{Analysis, AnalyzeMetrics, AnalyzeSettings, PeakSettings, analyze, metrics};
use perfprof::runner::traced::record;
use perfprof::trace::host::ApiClass;
use perfprof::trace::import::ReadOptions;
use perfprof::trace::nsys;
use perfprof::trace::timeline::Timeline;
use serde_json::json;

use crate::sandbox::{Sandbox, finish, json_of, rows_of, text_of};

const EPOCH: u64 = 1_790_000_000_000_000_000;
const LAYERS: u32 = 3;
const STEPS: u32 = 5;
const PREFILL_KERNEL_NS: u64 = 40_000;
const DECODE_KERNEL_NS: u64 = 4_000;

/// The operators of one layer with the kernels each launches.
const LAYER: [(Module, OperatorClass, u32); 5] = [
    (Module::InputLayernorm, OperatorClass::Norm, 1),
    (Module::QProj, OperatorClass::Linear, 1),
    (Module::SelfAttn, OperatorClass::Attention, 3),
    (Module::DownProj, OperatorClass::Linear, 2),
    (Module::Residual, OperatorClass::Elementwise, 1),
];

/// Plays a generation: what the host opens, launches and closes, and what the device then does, one kernel after another.
struct Play {
    recording: Recording,
    ranges: Vec<RecordedRange>,
    open: Vec<usize>,
    host: u64,
    device: u64,
    correlation: u32,
}

impl Play {
    fn new() -> Self {
        let recording = Recording {
            process: 4_000,
            thread: 4_001,
            kernel_names: vec!["_Z11gemm_kernelILi16EEvPKfPf".to_owned(), "softmax_f32".to_owned()],
            began: ClockSample { ticks: 0, cupti_ns: EPOCH, error_ticks: 1 },
            ..Recording::default()
        };
        Self { recording, ranges: Vec::new(), open: Vec::new(), host: 1_000, device: 0, correlation: 0 }
    }
    fn begin(&mut self, name: RangeName) {
        self.open.push(self.ranges.len());
        self.ranges.push(RecordedRange { name, start: self.host, end: 0 });
        self.host += 100;
    }
    fn end(&mut self) {
        self.host += 100;
        let row = self.open.pop().unwrap();
        self.ranges[row].end = self.host;
    }
    fn call(&mut self, function: u32) -> u32 {
        self.correlation += 1;
        let (start, end) = (EPOCH + self.host, EPOCH + self.host + 2_000);
        self.recording.calls.push(CallRecord {
            class: ApiClass::DRIVER,
            function,
            start,
            end,
            process: 4_000,
            thread: 4_001,
            correlation: self.correlation,
            result: 0,
        });
        self.host += 2_100;
        self.correlation
    }
    fn launch(&mut self, name: u32, ns: u64) {
        let correlation = self.call(307);
        let start = self.device.max(self.host + 1_500);
        self.device = start + ns;
        self.recording.kernels.push(KernelRecord {
            start: EPOCH + start,
            end: EPOCH + self.device,
            context: 1,
            stream: 7,
            correlation,
            name,
            grid: [64, 1, 1],
            block: [128, 1, 1],
            ..KernelRecord::default()
        });
        self.device += 300;
    }
    /// The token comes back: the host waits until the device is done.
    fn fetch(&mut self) {
        let correlation = self.call(276);
        let start = self.device.max(self.host);
        let end = start + 2_000;
        self.recording.copies.push(CopyRecord {
            start: EPOCH + start,
            end: EPOCH + end,
            context: 1,
            stream: 7,
            correlation,
            bytes: 4_096,
            kind: 2,
            source: 3,
            destination: 1,
            ..CopyRecord::default()
        });
        self.device = end;
        let call = self.recording.calls.last_mut().unwrap();
        call.end = EPOCH + end + 1_000;
        self.host = end + 1_100;
    }
    fn phase(&mut self, phase: Phase, ns: u64) {
        self.begin(RangeName::Phase(phase));
        for layer in 0..LAYERS {
            self.begin(RangeName::Layer(layer));
            for (module, class, kernels) in LAYER {
                let outer = (module == Module::SelfAttn).then_some(Module::SelfAttn);
                if let Some(outer) = outer {
                    self.begin(RangeName::Module(outer));
                }
                self.begin(RangeName::Operator(module, class));
                for _ in 0..kernels {
                    self.launch(u32::from(class == OperatorClass::Attention), ns);
                }
                self.end();
                if outer.is_some() {
                    self.end();
                }
            }
            self.end();
        }
        self.begin(RangeName::Operator(Module::LmHead, OperatorClass::Linear));
        self.launch(0, ns);
        self.end();
        self.begin(RangeName::Operator(Module::Sampler, OperatorClass::Sampling));
        self.fetch();
        self.end();
        self.end();
    }
    fn finish(mut self) -> (Recording, Vec<RecordedRange>) {
        let end = self.host + 10_000;
        self.recording.ended = ClockSample { ticks: end, cupti_ns: EPOCH + end, error_ticks: 1 };
        self.recording.elapsed_ns = Some(end);
        self.recording.call_names.insert((ApiClass::DRIVER, 307), "cuLaunchKernel".to_owned());
        self.recording.call_names.insert((ApiClass::DRIVER, 276), "cuMemcpyDtoHAsync_v2".to_owned());
        self.recording.devices.push(DeviceRecord {
            name: Some("NVIDIA H200".to_owned()),
            sm_count: 132,
            ..DeviceRecord::default()
        });
        (self.recording, self.ranges)
    }
}

fn generation() -> (Recording, Vec<RecordedRange>) {
    let mut play = Play::new();
    play.begin(RangeName::Request);
    play.phase(Phase::Prefill, PREFILL_KERNEL_NS);
    for _ in 0..STEPS {
        play.phase(Phase::Decode, DECODE_KERNEL_NS);
    }
    play.end();
    play.finish()
}

/// Assembles, writes as an nsys export, reads back, analyses: what `stage1 trace=cupti` does with a recording.
fn round_trip(recording: &Recording, ranges: &[RecordedRange]) -> (Timeline, Analysis, AnalyzeMetrics) {
    let names = KernelNames { demangled: &|name| demangle(name).into_owned(), short: &|name| NameParts::of(name).base };
    let assembled = assemble(recording, ranges, names);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.sqlite");
    nsys::writer::write(&assembled.timeline, &path).unwrap();
    let import = nsys::read(&path, &ReadOptions::default()).unwrap();
    let classifier = Classifier::with_user_rules(&[]).unwrap();
    let settings = AnalyzeSettings {
        classifier: &classifier,
        patterns: &PhasePatterns::default(),
        workload: None,
        peaks: &PeakSettings { flops_per_s: None, bytes_per_s: None, dtype: Format::BF16 },
        window_ns: None,
        progress: &|_| {},
    };
    let analysis = analyze(&import.timeline, &settings).unwrap();
    let metrics = metrics("run", &import.timeline, &analysis, &[], &[], &import.diagnostics);
    (import.timeline, analysis, metrics)
}

/// Kernels of one layer in one pass.
fn kernels_of_layer() -> u64 {
    LAYER.iter().map(|(.., kernels)| u64::from(*kernels)).sum()
}

#[test]
fn a_recording_with_our_ranges_is_split_into_phases_steps_layers_and_modules() {
    let (recording, ranges) = generation();
    let (timeline, analysis, metrics) = round_trip(&recording, &ranges);
    assert!(metrics.validity.is_valid(), "{:?}", metrics.validity);
    assert_eq!(timeline.devices[0].name.as_deref(), Some("NVIDIA H200"));
    let name = timeline.kernel_names.iter().find(|name| timeline.text(name.short) == "gemm_kernel").unwrap();
    assert_eq!(timeline.text(name.demangled), "void gemm_kernel<16>(float const*, float*)");

    // Phases and steps.
    let steps = &analysis.steps;
    assert_eq!(steps.source, StepSource::PhaseRanges, "{:?}", steps.evidence);
    let phases: Vec<(&str, u64, u64)> =
        steps.phases.iter().map(|phase| (phase.name.as_str(), phase.steps, phase.kernels)).collect();
    let pass = u64::from(LAYERS) * kernels_of_layer() + 1;
    let steps_n = u64::from(STEPS);
    assert_eq!(phases, [("prefill", 1, pass), ("decode", steps_n, steps_n * pass), ("outside", 0, 0)]);
    let gpu_ns: Vec<i64> = steps.phases.iter().map(|phase| phase.gpu_sum_ns).collect();
    assert_eq!(
        gpu_ns,
        [(pass * PREFILL_KERNEL_NS) as i64, (steps_n * pass * DECODE_KERNEL_NS) as i64, 0],
        "every kernel belongs to the phase that launched it"
    );

    // Layers: the passes' kernels of each, and the rest outside.
    let passes = 1 + steps_n;
    let mut by_layer: BTreeMap<String, u64> = BTreeMap::new();
    for row in &analysis.by_layer.as_ref().unwrap().rows {
        *by_layer.entry(row.module.clone().unwrap_or_default()).or_default() += row.calls;
    }
    let mut expected: BTreeMap<String, u64> =
        (0..LAYERS).map(|layer| (layer.to_string(), passes * kernels_of_layer())).collect();
    // The head, and the copies of the tokens.
    expected.insert(String::new(), 2 * passes);
    assert_eq!(by_layer, expected);

    // Modules, under their paths in the layer and without a domain.
    let mut by_module: BTreeMap<String, u64> = BTreeMap::new();
    for row in &analysis.by_module.as_ref().unwrap().rows {
        *by_module.entry(row.module.clone().unwrap_or_default()).or_default() += row.calls;
    }
    let in_layers = u64::from(LAYERS) * passes;
    let expected = BTreeMap::from(
        [
            ("input_layernorm", in_layers),
            ("self_attn.q_proj", in_layers),
            ("self_attn.attention", 3 * in_layers),
            ("mlp.down_proj", 2 * in_layers),
            ("residual", in_layers),
            ("lm_head", passes),
            // Copies are not asked for their module.
            ("", passes),
        ]
        .map(|(name, calls)| (name.to_owned(), calls)),
    );
    assert_eq!(by_module, expected);
}

#[test]
fn launches_and_kernels_of_a_recording_are_all_linked() {
    let (recording, ranges) = generation();
    let (_, _, metrics) = round_trip(&recording, &ranges);
    let kernels = recording.kernels.len() as u64;
    assert_eq!((metrics.coverage.launches, metrics.coverage.kernels), (kernels, kernels));
    assert_eq!(metrics.coverage.linked_kernels, kernels);
}

#[test]
fn dropped_records_are_in_the_file_and_forbid_shares_of_idle_time() {
    let (mut recording, ranges) = generation();
    // CUPTI lost the last third of the kernels.
    let kept = recording.kernels.len() * 2 / 3;
    let lost = recording.kernels.len() - kept;
    recording.kernels.truncate(kept);
    recording.dropped.push(Dropped { context: 0, stream: 0, records: lost as u64 });
    let (_, analysis, metrics) = round_trip(&recording, &ranges);
    assert!(!analysis.coverage.trust.idle_shares);
    let told = metrics.diagnostics.iter().any(|finding| {
        finding.code == "tool_warning" && finding.first.contains(&format!("{lost} activity records were dropped"))
    });
    assert!(told, "{:?}", metrics.diagnostics);
}

/// A device for the runner: its clock is another than ours, and each launch is a record.
struct HandDevice {
    origin: Instant,
    recording: Recording,
    began: u64,
    refuse_begin: bool,
    refuse_end: bool,
}

impl HandDevice {
    fn new() -> Self {
        Self {
            origin: Instant::now(),
            recording: Recording::default(),
            began: 0,
            refuse_begin: false,
            refuse_end: false,
        }
    }
    /// Runs 200 ppm fast, from the epoch.
    fn clock(&self) -> u64 {
        EPOCH + (self.origin.elapsed().as_nanos() as f64 * 1.0002) as u64
    }
    fn sample(&self) -> ClockSample {
        ClockSample::take(|| Ok::<u64, TracerError>(self.clock())).unwrap()
    }
    fn launch(&mut self) {
        let correlation = self.recording.calls.len() as u32 + 1;
        let start = self.clock();
        std::thread::sleep(Duration::from_micros(200));
        let end = self.clock();
        self.recording.calls.push(CallRecord {
            class: ApiClass::DRIVER,
            function: 307,
            start,
            end,
            thread: 4_001,
            correlation,
            ..CallRecord::default()
        });
        self.recording.kernels.push(KernelRecord {
            start: end + 1_000,
            end: end + 2_000,
            context: 1,
            stream: 7,
            correlation,
            ..KernelRecord::default()
        });
    }
}

/// Shared between the runner, which begins and ends, and the work, which launches.
struct Shared<'a>(&'a RefCell<HandDevice>);

impl ActivitySource for Shared<'_> {
    fn begin(&mut self) -> Result<(), TracerError> {
        let mut device = self.0.borrow_mut();
        if device.refuse_begin {
            return Err(TracerError::AnotherProfiler);
        }
        device.began += 1;
        let began = device.sample();
        device.recording = Recording { process: 4_000, thread: 4_001, began, ..Recording::default() };
        Ok(())
    }
    fn end(&mut self) -> Result<Recording, TracerError> {
        let mut device = self.0.borrow_mut();
        if device.refuse_end {
            return Err(TracerError::WorkerGone);
        }
        device.recording.ended = device.sample();
        Ok(std::mem::take(&mut device.recording))
    }
}

#[test]
fn ranges_stamped_with_our_counter_hold_the_calls_made_inside_them() {
    let device = RefCell::new(HandDevice::new());
    let mut recorder = RangeRecorder::with_capacity(64);
    let (result, traced) = record(&mut Shared(&device), &mut recorder, |recorder| {
        for step in 0..6 {
            recorder.begin(Span::Phase(if step == 0 { Phase::Prefill } else { Phase::Decode }, step));
            recorder.begin(Span::Layer(step));
            device.borrow_mut().launch();
            recorder.end();
            recorder.end();
        }
        Ok(6)
    });
    let traced = traced.unwrap();
    let t = &traced.timeline;
    assert_eq!(result, Ok(6));
    assert_eq!(t.ranges.len(), 1 + 2 * 6, "the request is around all");
    assert!(traced.clock_error_ns.is_some_and(|ns| ns < 50_000.0), "{:?}", traced.clock_error_ns);
    for call in 0..6 {
        let holding: Vec<&str> = (0..t.ranges.len())
            .filter(|range| {
                t.ranges.start_ns[*range] <= t.api.start_ns[call] && t.api.end_ns[call] <= t.ranges.end_ns[*range]
            })
            .map(|range| t.text(t.ranges.name[range]))
            .collect();
        let phase = if call == 0 { "prefill" } else { "decode" };
        assert_eq!(holding, ["request", phase, &format!("layers.{call}")], "call {call}");
    }
}

#[test]
fn a_tracer_that_refuses_makes_the_repeat_fail_and_the_engines_own_failure_says_more() {
    let device = RefCell::new(HandDevice::new());
    let mut recorder = RangeRecorder::with_capacity(4);
    device.borrow_mut().refuse_end = true;
    let lost = record(&mut Shared(&device), &mut recorder, |_| Ok(1)).0.unwrap_err();
    assert!(lost.contains("the tracer lost its records"), "{lost}");
    let failed = record(&mut Shared(&device), &mut recorder, |_| Err::<u32, _>("out of memory".to_owned())).0;
    assert_eq!(failed.unwrap_err(), "out of memory");
    device.borrow_mut().refuse_begin = true;
    let mut ran = false;
    let (refused, traced) = record(&mut Shared(&device), &mut recorder, |_| {
        ran = true;
        Ok(1)
    });
    assert!(refused.unwrap_err().contains("another profiler") && traced.is_none() && !ran);
    assert_eq!(device.borrow().began, 2);
}

/// A real run whose repeats with spans are passed off as traced ones, with times that make the tax known.
fn run_with_traced_rows(sandbox: &Sandbox) -> std::path::PathBuf {
    finish(sandbox.stage1(&["repeats=4", CASES, "prompt_tokens=null"])).exits(0);
    let run = sandbox.the_run();
    let rows: Vec<String> = rows_of(&run)
        .into_iter()
        .map(|mut row| {
            let traced = row["spans"] == json!(true);
            // Case b takes twice as long; the tracer adds a tenth to each.
            let case = if row["case"] == json!("b") { 20.0 } else { 10.0 };
            row["traced"] = json!(traced);
            row["tpot_ms"] = json!(case * if traced { 1.1 } else { 1.0 });
            row.to_string()
        })
        .collect();
    std::fs::write(run.join("per_run.jsonl"), rows.join("\n") + "\n").unwrap();
    std::fs::remove_file(run.join("spans.jsonl")).unwrap();
    let mut context = json_of(&run, "context.json");
    context["span_repeats"] = json!(0);
    context["trace_repeats"] = json!(4);
    std::fs::write(run.join("context.json"), context.to_string()).unwrap();
    sandbox.run(&["report", run.to_str().unwrap()]).exits(0);
    run
}

const CASES: &str = "cases=[{name: a, prompt_tokens: 8}, {name: b, prompt_tokens: 4}]";

#[test]
fn traced_repeats_give_the_tracers_tax_and_stay_out_of_every_other_measure() {
    let sandbox = Sandbox::new();
    let run = run_with_traced_rows(&sandbox);
    let metrics = json_of(&run, "metrics.json");
    for measures in [&metrics["measures"], &metrics["cases"][0]["measures"], &metrics["cases"][1]["measures"]] {
        let tax = &measures["tracer_overhead_ratio"];
        assert!((tax["p50"].as_f64().unwrap() - 0.1).abs() < 1e-9, "{tax}");
        assert_eq!(tax["ci95"].as_array().map(Vec::len), Some(2), "{tax}");
    }
    assert_eq!(metrics["measures"]["span_overhead_ratio"]["n"], json!(0), "traced repeats are not span repeats");
    let tpot = &metrics["measures"]["tpot_ms"];
    assert_eq!((&tpot["n"], &tpot["min"], &tpot["max"]), (&json!(8), &json!(10.0), &json!(20.0)));
    let told = metrics["diagnostics"].as_array().unwrap().iter().find(|found| found["code"] == "tracer_overhead");
    assert!(told.unwrap()["first"].as_str().unwrap().contains("10.00 %"), "{metrics}");
    let report = text_of(&run, "report.md");
    assert!(report.contains("tracer: time added to a step") && report.contains("8 under the tracer"), "{report}");
}
