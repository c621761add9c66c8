//! An analyzed trace to render: twelve decode steps of a small model on one GPU that waits for its host, made by hand.

use perfprof::analysis::api_kind::ApiKind;
use perfprof::analysis::classify::{Classified, KernelClass};
use perfprof::analysis::coverage::{
    ClockSkew, Coverage, GraphCoverage, GraphState, LaunchCoverage, Oddities, OverheadTotal, ProcessCoverage,
    RangeCoverage, ToolNote, Trust, Verdict,
};
use perfprof::analysis::critical_path::{CriticalPath, PathClass, PathKernel, PathKind, PathShare, WhatIf};
use perfprof::analysis::excerpt::{ExcerptOptions, GapLane, Span, TimelineView, timeline_view};
use perfprof::analysis::findings::Finding;
use perfprof::analysis::flame::FlameNode;
use perfprof::analysis::idle::{CauseIdle, DeviceIdle, GapBin, HostParts, IdleCause, LongGap, PhaseIdle};
use perfprof::analysis::intervals::{Interval, Spread};
use perfprof::analysis::kernel_summary::{
    ClassTotal, Coverage as ClassCoverage, KernelSummary, KernelSummaryRow, SummaryRemainder, UnclassifiedName,
};
use perfprof::analysis::launch::{
    CallCost, DeviceLaunch, LaunchAnalysis, LaunchVerdict, PhaseLaunches, QueueDepth, ThreadLaunches,
};
use perfprof::analysis::overlap::{DeviceOverlap, OverlapAnalysis, StreamsActive};
use perfprof::analysis::projection::{Attribution, RangeSummary, RangeTotal};
use perfprof::analysis::steps::{
    Drift, Phase, PhaseColumns, Spread as StepSpread, Step, StepSource, Steps, Straggler, Workload,
};
use perfprof::analysis::transfers::{AllocationCalls, CopyGroup, MemsetGroup, TransferAnalysis};
use perfprof::diagnostics::{Diagnostic, Severity};
use perfprof::report::AssumptionSection;
use perfprof::report::analyze::{DeviceLabel, TraceReport};
use perfprof::runner::analyze::InputFile;
use perfprof::trace::activity::CopyKind;
use perfprof::trace::builder::TimelineBuilder;

/// Everything a report of a trace borrows.
#[derive(Debug, Clone)]
pub(crate) struct TraceSample {
    pub(crate) run_id: String,
    pub(crate) files: Vec<InputFile>,
    pub(crate) devices: Vec<DeviceLabel>,
    pub(crate) coverage: Coverage,
    pub(crate) kernels: KernelSummary,
    pub(crate) steps: Steps,
    pub(crate) ranges: RangeSummary,
    pub(crate) flame: FlameNode,
    pub(crate) idle: Vec<DeviceIdle>,
    pub(crate) launch: LaunchAnalysis,
    pub(crate) overlap: OverlapAnalysis,
    pub(crate) transfers: TransferAnalysis,
    pub(crate) critical_path: CriticalPath,
    pub(crate) findings: Vec<Finding>,
    pub(crate) diagnostics: Vec<Diagnostic>,
    pub(crate) assumptions: Vec<AssumptionSection>,
    pub(crate) invalid: Vec<String>,
    pub(crate) view: TimelineView,
}

impl TraceSample {
    pub(crate) fn report(&self) -> TraceReport<'_> {
        TraceReport {
            run_id: &self.run_id,
            generated_at: "2026-11-25T20:00:00Z",
            files: &self.files,
            devices: &self.devices,
            origin_ns: Some(0),
            coverage: Some(&self.coverage),
            kernels: Some(&self.kernels),
            steps: Some(&self.steps),
            ranges: Some(&self.ranges),
            flame: Some(&self.flame),
            idle: &self.idle,
            launch: Some(&self.launch),
            overlap: Some(&self.overlap),
            transfers: Some(&self.transfers),
            critical_path: Some(&self.critical_path),
            invalid: &self.invalid,
            findings: &self.findings,
            diagnostics: &self.diagnostics,
            assumptions: &self.assumptions,
            view: Some(&self.view),
            ..TraceReport::default()
        }
    }
}

/// Steps of the sample.
const STEPS: i64 = 12;
/// One step: four kernels of 20, 40, 10 and 5 µs with gaps, 200 µs in all.
const STEP_NS: i64 = 200_000;
/// The kernels of a step: name, class, begin in the step, duration.
const KERNELS: [(&str, KernelClass, i64, i64); 4] = [
    ("void gemvNSP_kernel<float, 128>(float const*)", KernelClass::Gemv, 0, 40_000),
    ("flash_fwd_splitkv_kernel<128, 64>", KernelClass::AttentionDecode, 70_000, 20_000),
    ("rms_norm_f32", KernelClass::Norm, 110_000, 10_000),
    ("my_custom_thing", KernelClass::Unclassified, 150_000, 5_000),
];

fn spread(count: u64, each: u64) -> Spread {
    Spread {
        count,
        total_ns: count * each,
        p50_ns: (count > 0).then_some(each as f64),
        p95_ns: (count > 0).then_some(each as f64),
        max_ns: (count > 0).then_some(each),
    }
}

fn step_spread(n: u64, p50: f64) -> StepSpread {
    StepSpread {
        n,
        mean: p50,
        std: Some(p50 / 10.0),
        min: p50 * 0.9,
        p50,
        p95: p50 * 1.2,
        p99: p50 * 1.3,
        max: p50 * 1.4,
    }
}

/// The stretch of the sample, cut from a timeline as any other.
fn view(names: &dyn Fn(&str) -> String) -> TimelineView {
    let mut builder = TimelineBuilder::new();
    let process = builder.process(100);
    let thread = builder.thread(process, 4242);
    let device = builder.device(0);
    let stream = builder.stream(process, device, 7);
    let mut correlation = 0;
    for step in 0..STEPS {
        let begin = step * STEP_NS;
        builder.range(thread, &names("decode step"), begin - 20_000, Some(begin + 160_000));
        for (name, _, at, duration) in KERNELS {
            correlation += 1;
            builder.call(
                thread,
                &names("cudaLaunchKernel_v7000"),
                begin + at - 12_000,
                begin + at - 5_000,
                correlation,
            );
            builder.kernel(stream, &names(name), begin + at, begin + at + duration, correlation);
        }
    }
    correlation += 1;
    builder.call(thread, "cudaMemcpyAsync_v3020", 2_380_000, 2_390_000, correlation);
    builder.copy(stream, CopyKind::DEVICE_TO_HOST, 2_392_000, 2_395_000, correlation, 4096);
    let timeline = builder.finish();
    let classified: Vec<Classified> =
        KERNELS.iter().map(|(_, class, ..)| Classified { class: *class, ..Classified::default() }).collect();
    let phases: Vec<Span> = (0..STEPS)
        .map(|step| Span {
            start_ns: step * STEP_NS,
            end_ns: step * STEP_NS + 155_000,
            name: names(&format!("decode {}", step + 1)),
            class: "decode".to_owned(),
        })
        .collect();
    let gaps = [GapLane {
        device: 0,
        gaps: (0..STEPS - 1)
            .map(|step| Span {
                start_ns: step * STEP_NS + 155_000,
                end_ns: (step + 1) * STEP_NS,
                name: names("the launch call began after the previous kernel ended"),
                class: "host_busy".to_owned(),
            })
            .collect(),
    }];
    timeline_view(
        &timeline,
        &ExcerptOptions {
            start_ns: -30_000,
            end_ns: STEPS * STEP_NS,
            chosen: "The whole trace.",
            classified: &classified,
            phases: &phases,
            gaps: &gaps,
            max_bars: 0,
        },
    )
}

fn coverage() -> Coverage {
    let launches = LaunchCoverage {
        kernel_launch_calls: 48,
        kernels: 48,
        linked_kernels: 48,
        unlinked_share: Some(0.0),
        kernel_coverage: Some(1.0),
        copies_and_sets: 1,
        ..LaunchCoverage::default()
    };
    Coverage {
        verdict: Verdict::Complete,
        reasons: Vec::new(),
        trust: Trust { idle_shares: true, queue_times: true, kernel_shares: true, reasons: Vec::new() },
        launches: launches.clone(),
        graphs: GraphCoverage {
            state: GraphState::Absent,
            reasons: vec!["no graph was launched".to_owned()],
            launch_calls: 0,
            whole_graph_records: 0,
            node_ops: 0,
            ops_by_graph_call: 0,
            calls_without_work: 0,
            hidden_sum_ns: 0,
            hidden_share: Some(0.0),
            capture_calls: 0,
            launches_in_capture: 0,
        },
        clock: ClockSkew {
            kernels: 48,
            before_call: 0,
            share: Some(0.0),
            worst_ns: None,
            queue_times_reliable: Some(true),
        },
        ranges: RangeCoverage { nvtx: 12, user: 12, ..RangeCoverage::default() },
        oddities: Oddities::default(),
        processes: vec![ProcessCoverage {
            pid: 100,
            name: Some("python".to_owned()),
            file: 0,
            api_calls: 49,
            launches,
            has_gpu_work: true,
        }],
        processes_omitted: 0,
        processes_without_gpu_work: 0,
        notes: vec![ToolNote { severity: 2, text: "CPU sampling was not possible".to_owned(), count: 1 }],
        notes_omitted: 0,
        overhead: vec![OverheadTotal { name: "CUPTI buffer flush".to_owned(), count: 1, sum_ns: 9_000 }],
        overhead_union_ns: Some(9_000),
    }
}

fn kernels() -> KernelSummary {
    let calls = STEPS as u64;
    let kernel_ns: i64 = KERNELS.iter().map(|kernel| kernel.3 * STEPS).sum();
    let share = |ns: i64| Some(ns as f64 / kernel_ns as f64);
    let mut rows: Vec<KernelSummaryRow> = KERNELS
        .iter()
        .map(|(name, class, _, duration)| KernelSummaryRow {
            class: *class,
            name: name.split('(').next().unwrap_or(name).trim_start_matches("void ").to_owned(),
            full_name: (*name).to_owned(),
            phase: Some("decode".to_owned()),
            module: None,
            device: None,
            stream: None,
            calls,
            total_ns: duration * STEPS,
            mean_ns: *duration as f64,
            min_ns: *duration,
            p50_ns: *duration as f64,
            p95_ns: *duration as f64,
            p99_ns: *duration as f64,
            max_ns: *duration,
            std_ns: Some(0.0),
            p95_supported: false,
            p99_supported: false,
            share_of_phase: share(duration * STEPS),
            share: share(duration * STEPS),
            bytes: None,
        })
        .collect();
    let mut copy = rows[3].clone();
    copy.class = KernelClass::Memcpy;
    (copy.name, copy.full_name) = ("Device-to-Host".to_owned(), "Device-to-Host".to_owned());
    (copy.calls, copy.total_ns, copy.std_ns) = (1, 3_000, None);
    (copy.mean_ns, copy.p50_ns, copy.p95_ns, copy.p99_ns) = (3e3, 3e3, 3e3, 3e3);
    (copy.min_ns, copy.max_ns, copy.bytes) = (3_000, 3_000, Some(4096));
    (copy.share, copy.share_of_phase) = (None, None);
    rows.push(copy);
    let classes = rows
        .iter()
        .map(|row| ClassTotal {
            class: row.class,
            phase: row.phase.clone(),
            names: 1,
            calls: row.calls,
            total_ns: row.total_ns,
            share_of_phase: row.share_of_phase,
            share: row.share,
        })
        .collect();
    KernelSummary {
        rows,
        remainder: SummaryRemainder::default(),
        classes,
        coverage: ClassCoverage {
            kernels: 48,
            classified: 36,
            kernel_ns,
            classified_ns: kernel_ns - 60_000,
            top_unclassified: vec![UnclassifiedName {
                full_name: "my_custom_thing".to_owned(),
                calls: 12,
                total_ns: 60_000,
            }],
            unclassified_names: 1,
        },
    }
}

fn steps() -> Steps {
    let table: Vec<Step> = (0..STEPS)
        .map(|step| Step {
            start_ns: step * STEP_NS,
            end_ns: step * STEP_NS + if step == 7 { 199_000 } else { 155_000 },
            phase: 0,
            kernels: 4,
            launches: 4,
            busy_ns: 75_000,
            gpu_sum_ns: 75_000,
        })
        .collect();
    Steps {
        workload: Workload::Inference,
        source: StepSource::PhaseRanges,
        confidence: Some(1.0),
        evidence: vec!["12 ranges named `decode step`".to_owned()],
        phases: vec![Phase {
            name: "decode".to_owned(),
            steps: 12,
            kernels: 48,
            copies_and_sets: 1,
            graphs: 0,
            gpu_sum_ns: 900_000,
            busy_union_ns: 903_000,
            wall_ns: Some(1_904_000),
            step_ns: Some(step_spread(12, 155_000.0)),
            kernels_per_step: Some(step_spread(12, 4.0)),
            launches_per_step: Some(step_spread(12, 4.0)),
        }],
        table,
        steps_omitted: 0,
        drift: vec![Drift {
            phase: "decode".to_owned(),
            slope_ns_per_step: 120.0,
            interval: [80.0, 160.0],
            relative_change: 0.009,
            n: 12,
        }],
        stragglers: vec![Straggler {
            step: 7,
            phase: "decode".to_owned(),
            start_ns: 1_400_000,
            duration_ns: 199_000,
            times_median: 1.28,
        }],
        stragglers_omitted: 0,
        hints: vec!["batch 1, from the name of the gemv".to_owned()],
        columns: PhaseColumns::default(),
    }
}

fn ranges() -> RangeSummary {
    let total = RangeTotal {
        name: "decode step".to_owned(),
        instances: 12,
        wall_sum_ns: 2_160_000,
        gpu_inclusive_sum_ns: 900_000,
        gpu_self_sum_ns: 900_000,
        projected_sum_ns: 1_860_000,
        ops: 48,
        copy_self_sum_ns: 0,
    };
    let attribution = Attribution { by_call_ops: 48, by_call_ns: 900_000, ..Attribution::default() };
    RangeSummary {
        ranges: 12,
        by_name: vec![total.clone()],
        names_omitted: 0,
        by_path: vec![total],
        paths_omitted: 0,
        kernels: attribution,
        copies: Attribution::default(),
        attributed_share: Some(1.0),
        cross_thread: 0,
        crossing: 0,
        ambiguous_calls: 0,
    }
}

fn flame() -> FlameNode {
    let leaf = |(name, _, _, duration): &(&str, KernelClass, i64, i64)| FlameNode {
        name: (*name).to_owned(),
        total_ns: duration * STEPS,
        self_ns: duration * STEPS,
        children: Vec::new(),
    };
    let inner = |name: &str, children: Vec<FlameNode>| FlameNode {
        name: name.to_owned(),
        total_ns: children.iter().map(|child| child.total_ns).sum(),
        self_ns: 0,
        children,
    };
    inner("GPU time", vec![inner("thread 4242", vec![inner("decode step", KERNELS.iter().map(leaf).collect())])])
}

/// Window 2 395 µs: busy 903, the rest idle.
fn idle() -> DeviceIdle {
    let window_ns = 2_395_000;
    let busy_ns = 903_000;
    let host_busy = spread(47, 30_000);
    let launch = Spread { count: 1, total_ns: window_ns - busy_ns - 47 * 30_000, ..spread(1, 82_000) };
    DeviceIdle {
        device: 0,
        window: Some(Interval::new(0, window_ns as i64)),
        window_ns,
        busy_ns,
        idle_ns: window_ns - busy_ns,
        idle_by_cause: vec![
            CauseIdle { cause: IdleCause::HostBusy, spread: host_busy },
            CauseIdle { cause: IdleCause::HostLaunch, spread: launch },
        ],
        below_1us_ns: 0,
        below_1us_gaps: 0,
        host_parts: HostParts {
            outside_api_ns: 1_080_000,
            launch_call_ns: 329_000,
            after_call_ns: 83_000,
            ..HostParts::default()
        },
        launch_latency_ns: 5_000,
        operations: 49,
        unlinked_operations: 0,
        clock_skew_operations: 0,
        gap_lengths: vec![
            GapBin { from_ns: 0, below_ns: Some(1_000), gaps: 0, total_ns: 0 },
            GapBin { from_ns: 1_000, below_ns: Some(10_000), gaps: 0, total_ns: 0 },
            GapBin { from_ns: 10_000, below_ns: Some(100_000), gaps: 48, total_ns: window_ns - busy_ns },
            GapBin { from_ns: 100_000, below_ns: None, gaps: 0, total_ns: 0 },
        ],
        longest: vec![LongGap {
            interval: Interval::new(155_000, 200_000),
            length_ns: 45_000,
            cause: IdleCause::HostBusy,
            previous: Some("my_custom_thing".to_owned()),
            next: Some("gemvNSP_kernel".to_owned()),
            launch_call: Some("cudaLaunchKernel".to_owned()),
            evidence: "the launch call began 33.0 us after the previous kernel ended".to_owned(),
        }],
        phases: vec![PhaseIdle {
            phase: "decode".to_owned(),
            window_ns: 1_904_000,
            busy_ns: 900_000,
            idle_ns: 1_004_000,
            idle_by_cause: vec![(IdleCause::HostBusy, 1_004_000)],
            below_1us_ns: 0,
        }],
    }
}

fn launch() -> LaunchAnalysis {
    LaunchAnalysis {
        calls: vec![CallCost {
            call: "cudaLaunchKernel".to_owned(),
            kind: ApiKind::LaunchKernel,
            duration: spread(48, 7_000),
        }],
        threads: vec![ThreadLaunches {
            thread: 0,
            tid: 4242,
            calls: 48,
            launching_ns: 336_000,
            span_ns: 2_380_000,
            launching_share: Some(0.1412),
        }],
        threads_left_out: 0,
        devices: vec![DeviceLaunch {
            device: 0,
            operations: 49,
            kernels: 48,
            linked_operations: 49,
            launches: 49,
            graph_launches: 0,
            queue: spread(48, 5_000),
            started_before_return: 0,
            clock_skew: 0,
            latency: spread(48, 12_000),
            tklqt_ns: Some(576_000),
            akd_ns: Some(18_750.0),
            launches_per_s: Some(20_459.0),
            queue_depth: Some(QueueDepth { mean: 0.1, p50: 0, p95: 1, max: 1, empty_share: 0.9 }),
            phases: vec![PhaseLaunches {
                phase: "decode".to_owned(),
                windows: 12,
                kernels: 48,
                launches: 48,
                launches_per_window: Some(4.0),
                tklqt_ns: 576_000,
            }],
            verdict: LaunchVerdict::LaunchBound,
            evidence: vec![
                "62.3 % of the window is idle for the host".to_owned(),
                "nothing waits 90.0 % of the time".to_owned(),
            ],
            speedup_bound: Some(2.652),
        }],
    }
}

fn overlap() -> OverlapAnalysis {
    OverlapAnalysis {
        devices: vec![DeviceOverlap {
            device: 0,
            window: Interval::new(0, 2_395_000),
            total_ns: 2_395_000,
            compute_ns: 900_000,
            communication_ns: 0,
            copy_ns: 3_000,
            exposed_communication_ns: 0,
            exposed_copy_ns: 3_000,
            idle_ns: 1_492_000,
            busy_ns: 903_000,
            summed_ns: 903_000,
            streams_active: vec![
                StreamsActive { streams: 0, time_ns: 1_492_000 },
                StreamsActive { streams: 1, time_ns: 903_000 },
            ],
            max_streams: 1,
            max_operations: 1,
        }],
        balance: None,
    }
}

fn transfers() -> TransferAnalysis {
    TransferAnalysis {
        copies: vec![CopyGroup {
            device: 0,
            operation: "Device-to-Host".to_owned(),
            pageable: Some(true),
            duration: spread(1, 3_000),
            union_ns: 3_000,
            bytes: 4096,
            mean_bytes_per_s: Some(1.365e9),
            p50_bytes_per_s: None,
            best_bytes_per_s: None,
            tiny: 1,
            tiny_ns: 3_000,
            synchronous: 0,
            blocked_asynchronous: 1,
            blocked_host_ns: 10_000,
        }],
        memsets: vec![MemsetGroup { device: 0, duration: spread(2, 1_500), bytes: 1024 }],
        allocations: vec![AllocationCalls {
            call: "cudaMalloc".to_owned(),
            kind: ApiKind::Allocate,
            duration: spread(3, 80_000),
            steady_calls: 0,
            steady_ns: 0,
        }],
        steady_from_ns: Some(1_197_500),
        phases: Vec::new(),
    }
}

fn critical_path() -> CriticalPath {
    let share =
        |kind, time_ns: u64, pieces| PathShare { kind, time_ns, share: Some(time_ns as f64 / 2_407_000.0), pieces };
    CriticalPath {
        window: Interval::new(-12_000, 2_395_000),
        length_ns: 2_407_000,
        by_kind: vec![
            share(PathKind::HostOther, 1_507_000, 48),
            share(PathKind::Kernel, 560_000, 12),
            share(PathKind::LaunchLatency, 340_000, 49),
        ],
        by_class: vec![PathClass { class: "gemv".to_owned(), time_ns: 480_000, kernels: 12 }],
        by_kernel: vec![PathKernel { kernel: "gemvNSP_kernel".to_owned(), time_ns: 480_000, kernels: 12 }],
        other_kernels_ns: 80_000,
        host_share: Some(0.767),
        what_if: vec![
            WhatIf {
                class: "norm".to_owned(),
                kernel_ns: 120_000,
                length_ns: 2_387_000,
                gain_ns: 20_000,
                speedup: Some(1.008),
            },
            WhatIf {
                class: "gemv".to_owned(),
                kernel_ns: 480_000,
                length_ns: 2_127_000,
                gain_ns: 280_000,
                speedup: Some(1.132),
            },
        ],
        unlinked_operations: 0,
        clock_skew_operations: 0,
    }
}

/// A GPU that waits for its host.
pub(crate) fn host_bound() -> TraceSample {
    TraceSample {
        run_id: "20261125-200000-abcd".to_owned(),
        files: vec![InputFile {
            name: "decode.sqlite".to_owned(),
            bytes: 1_234_567,
            tool: "nsys 2025.3.1, schema 3.24.8".to_owned(),
        }],
        devices: vec![DeviceLabel {
            device: 0,
            label: "GPU 0".to_owned(),
            name: Some("NVIDIA H100 80GB HBM3".to_owned()),
        }],
        coverage: coverage(),
        kernels: kernels(),
        steps: steps(),
        ranges: ranges(),
        flame: flame(),
        idle: vec![idle()],
        launch: launch(),
        overlap: overlap(),
        transfers: transfers(),
        critical_path: critical_path(),
        findings: vec![
            Finding {
                code: "launch_bound".to_owned(),
                title: "The GPU waits for the host between kernels.".to_owned(),
                severity: Severity::Warn,
                evidence: vec!["58.9 % of the window is idle because the host was busy elsewhere (47 gaps)".to_owned()],
                gain_low_ns: Some(0),
                gain_high_ns: Some(1_410_000),
                how_to_check: "Capture the decode step as a CUDA graph and trace again.".to_owned(),
            },
            Finding {
                code: "pageable_copies".to_owned(),
                title: "A copy goes through pageable memory.".to_owned(),
                severity: Severity::Info,
                evidence: vec!["1 Device-to-Host copy of 4096 bytes".to_owned()],
                gain_low_ns: None,
                gain_high_ns: None,
                how_to_check: "Allocate the buffer with cudaHostAlloc.".to_owned(),
            },
        ],
        diagnostics: vec![Diagnostic::new("tool_warning", Severity::Warn, "CPU sampling was not possible")],
        assumptions: vec![AssumptionSection {
            title: "Time".to_owned(),
            lines: vec![("busy".to_owned(), "union of all work of a device".to_owned())],
        }],
        invalid: Vec::new(),
        view: view(&str::to_owned),
    }
}

/// The sample with `bad` text in every text field there is.
pub(crate) fn poisoned(bad: &dyn Fn(&str) -> String) -> TraceSample {
    let mut sample = host_bound();
    let poison = |text: &mut String| *text = bad(text);
    let poison_all = |texts: &mut Vec<String>| *texts = vec![bad("first"), bad("second")];
    poison(&mut sample.run_id);
    for file in &mut sample.files {
        poison(&mut file.name);
        poison(&mut file.tool);
    }
    for device in &mut sample.devices {
        poison(&mut device.label);
        device.name = Some(bad("H100"));
    }
    let coverage = &mut sample.coverage;
    coverage.verdict = Verdict::Partial;
    poison_all(&mut coverage.reasons);
    poison_all(&mut coverage.trust.reasons);
    poison_all(&mut coverage.graphs.reasons);
    let mut process = coverage.processes[0].clone();
    process.name = Some(bad("python"));
    coverage.processes.push(process);
    for note in &mut coverage.notes {
        poison(&mut note.text);
    }
    for row in &mut sample.kernels.rows {
        poison(&mut row.name);
        poison(&mut row.full_name);
        row.phase = Some(bad("decode"));
        row.module = Some(bad("self_attn"));
    }
    for total in &mut sample.kernels.classes {
        total.phase = Some(bad("decode"));
    }
    poison(&mut sample.kernels.coverage.top_unclassified[0].full_name);
    let steps = &mut sample.steps;
    poison_all(&mut steps.evidence);
    poison_all(&mut steps.hints);
    poison(&mut steps.phases[0].name);
    poison(&mut steps.drift[0].phase);
    poison(&mut steps.stragglers[0].phase);
    for total in sample.ranges.by_name.iter_mut().chain(&mut sample.ranges.by_path) {
        poison(&mut total.name);
    }
    let mut open = vec![&mut sample.flame];
    while let Some(node) = open.pop() {
        poison(&mut node.name);
        open.extend(&mut node.children);
    }
    for idle in &mut sample.idle {
        for gap in &mut idle.longest {
            (gap.previous, gap.next, gap.launch_call) = (Some(bad("a")), Some(bad("b")), Some(bad("c")));
            poison(&mut gap.evidence);
        }
        poison(&mut idle.phases[0].phase);
    }
    poison(&mut sample.launch.calls[0].call);
    poison_all(&mut sample.launch.devices[0].evidence);
    poison(&mut sample.launch.devices[0].phases[0].phase);
    poison(&mut sample.transfers.copies[0].operation);
    poison(&mut sample.transfers.allocations[0].call);
    poison(&mut sample.critical_path.by_kernel[0].kernel);
    poison(&mut sample.critical_path.what_if[0].class);
    for finding in &mut sample.findings {
        poison(&mut finding.title);
        poison(&mut finding.how_to_check);
        poison_all(&mut finding.evidence);
    }
    sample.diagnostics = vec![Diagnostic::new(&bad("code"), Severity::Error, bad("first"))];
    sample.assumptions = vec![AssumptionSection { title: bad("title"), lines: vec![(bad("name"), bad("text"))] }];
    sample.invalid = vec![bad("reason")];
    sample.view = view(bad);
    poison(&mut sample.view.chosen);
    poison_all(&mut sample.view.left_out);
    for lane in &mut sample.view.lanes {
        poison(&mut lane.label);
    }
    for class in &mut sample.view.classes {
        poison(class);
    }
    sample
}
