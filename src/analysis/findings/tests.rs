//! Findings on timelines whose trouble is known.

use super::*;
use crate::analysis::classify::Classifier;
use crate::analysis::coverage::coverage;
use crate::analysis::critical_path::{KernelClasses, critical_path};
use crate::analysis::idle::{IdleOptions, idle};
use crate::analysis::intervals::Phases;
use crate::analysis::kernel_summary::{SummaryKeys, classify_names, kernel_summary};
use crate::analysis::launch::launch;
use crate::analysis::overlap::overlap;
use crate::analysis::projection::project;
use crate::analysis::steps::{PhasePatterns, steps};
use crate::analysis::transfers::transfers;
use crate::trace::activity::CopyKind;
use crate::trace::builder::TimelineBuilder;
use crate::trace::timeline::Timeline;

fn found(timeline: &Timeline) -> Vec<Finding> {
    let coverage = coverage(timeline);
    let projection = project(timeline);
    let steps = steps(timeline, &projection, &PhasePatterns::default()).unwrap();
    let classified = classify_names(timeline, &Classifier::builtin());
    let kernels = kernel_summary(timeline, &classified, &SummaryKeys::default());
    let idle = idle(timeline, &IdleOptions::default());
    let launch = launch(timeline, &idle, Phases::default());
    let overlap = overlap(timeline, &[], None);
    let transfers = transfers(timeline, Phases::default());
    let path = critical_path(timeline, KernelClasses { names: &[], of_kernel_name: &[] }, 10);
    let results = Results {
        coverage: &coverage,
        idle: &idle,
        launch: &launch,
        overlap: &overlap,
        transfers: &transfers,
        critical_path: path.as_ref(),
        steps: &steps,
        kernels: &kernels,
        modelled: None,
    };
    let window: i64 = idle.iter().map(|idle| idle.window_ns as i64).max().unwrap_or(0);
    let found = findings(&results);
    for finding in &found {
        assert!(finding.gain_high_ns.unwrap_or(0) <= window, "{finding:?}");
        assert!(!finding.title.is_empty() && !finding.how_to_check.is_empty(), "{finding:?}");
    }
    found
}

fn codes(found: &[Finding]) -> Vec<&str> {
    found.iter().map(|finding| finding.code.as_str()).collect()
}

struct Scene {
    b: TimelineBuilder,
    thread: u32,
    stream: u32,
}

fn scene() -> Scene {
    let mut b = TimelineBuilder::new();
    let process = b.process(1);
    let thread = b.thread(process, 1);
    let device = b.device(0);
    let stream = b.stream(process, device, 7);
    Scene { b, thread, stream }
}

/// `count` gemm kernels of `length_ns`, one after the other, launched far ahead unless `late_ns` of host time comes before each launch.
fn kernels(s: &mut Scene, count: u32, length_ns: i64, late_ns: i64) {
    let mut host = 0;
    let mut gpu = 10_000;
    for id in 1..=count {
        host += late_ns;
        s.b.call(s.thread, "cudaLaunchKernel", host, host + 1_000, id);
        host += 1_000;
        gpu = gpu.max(host + 2_000) + 500;
        s.b.kernel(s.stream, "ampere_fp16_s16816gemm_fp16_64x64_tn", gpu, gpu + length_ns, id);
        gpu += length_ns;
    }
}

#[test]
fn a_busy_device_is_told_what_it_is_busy_with_and_nothing_else() {
    let mut s = scene();
    kernels(&mut s, 200, 100_000, 0);
    let found = found(&s.b.finish());
    assert_eq!(codes(&found), ["dominant_class"], "{found:#?}");
    assert!(found[0].title.contains("gemm") && found[0].evidence[0].contains("100.0 %"), "{found:#?}");
}

#[test]
fn a_late_host_is_the_first_finding_and_its_gain_is_the_idle_time_it_causes() {
    let mut s = scene();
    kernels(&mut s, 200, 5_000, 50_000);
    let found = found(&s.b.finish());
    assert_eq!(found[0].code, "launch_bound", "{found:#?}");
    // 199 gaps; of each period of 51 us, 5 us are a kernel.
    let gain = found[0].gain_high_ns.unwrap() as f64;
    assert!((gain / (199.0 * 46_000.0) - 1.0).abs() < 0.02, "{gain}");
}

#[test]
fn lost_kernels_come_first_and_forbid_findings_about_idle_time() {
    let mut s = scene();
    kernels(&mut s, 100, 5_000, 50_000);
    for id in 1_000..1_200_u32 {
        let at = 6_000_000 + i64::from(id) * 3_000;
        s.b.call(s.thread, "cudaLaunchKernel", at, at + 1_000, id);
    }
    let found = found(&s.b.finish());
    assert_eq!(found[0].code, "lost_activity");
    assert!(found[0].title.contains("33.3 %"), "{}", found[0].title);
    assert!(!codes(&found).contains(&"launch_bound") && !codes(&found).contains(&"late_launches"), "{found:#?}");
    assert!(!codes(&found).contains(&"dominant_class"), "{found:#?}");
}

#[test]
fn hidden_graphs_say_how_to_trace_them() {
    let mut s = scene();
    for id in 1..=50_u32 {
        let at = i64::from(id) * 100_000;
        s.b.call(s.thread, "cudaGraphLaunch_v10000", at, at + 5_000, id);
        s.b.graph(s.stream, at + 8_000, at + 60_000, id, 3);
    }
    let found = found(&s.b.finish());
    assert_eq!(found[0].code, "graphs_hidden", "{found:#?}");
    assert!(found[0].how_to_check.contains("--cuda-graph-trace=node"));
}

#[test]
fn copies_from_pageable_memory_are_named_with_their_rate() {
    let mut s = scene();
    kernels(&mut s, 20, 50_000, 0);
    for id in 100..120_u32 {
        let at = 2_000_000 + i64::from(id) * 200_000;
        s.b.call(s.thread, "cudaMemcpyAsync", at, at + 90_000, id);
        s.b.copy(s.stream, CopyKind::HOST_TO_DEVICE, at + 10_000, at + 90_000, id, 400_000);
    }
    let found = found(&s.b.finish());
    let pageable = found.iter().find(|finding| finding.code == "pageable_copies").unwrap();
    // 400 kB in 80 us.
    assert!(pageable.evidence[0].contains("5.00 GB/s") || pageable.evidence[0].contains("5 GB/s"), "{pageable:?}");
    assert_eq!(pageable.gain_high_ns, Some(20 * 80_000));
}

#[test]
fn a_full_command_buffer_is_not_the_profilers_fault() {
    let mut s = scene();
    kernels(&mut s, 50, 50_000, 0);
    s.b.overhead(Some(0), "Command Buffer Full", 0, 1_000_000);
    assert!(!codes(&found(&s.b.clone().finish())).contains(&"profiler_overhead"));
    s.b.overhead(Some(0), "CUDA profiling data flush overhead", 0, 1_000_000);
    assert!(codes(&found(&s.b.finish())).contains(&"profiler_overhead"));
}

#[test]
fn no_gpu_work_is_one_finding_with_its_likely_causes() {
    let mut s = scene();
    s.b.call(s.thread, "cudaGetDevice", 0, 10, 1);
    let found = found(&s.b.finish());
    assert_eq!(codes(&found), ["no_gpu_work"], "{found:#?}");
    assert!(found[0].how_to_check.contains("capture range"));
}
