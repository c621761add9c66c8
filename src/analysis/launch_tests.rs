use proptest::prelude::*;

use super::super::idle::{IdleOptions, idle};
use super::super::intervals::PhaseWindow;
use super::super::random_trace::{UNIT_NS, any_trace};
use super::*;
use crate::trace::activity::{CopyKind, LaunchConfig};
use crate::trace::builder::TimelineBuilder;

const US: i64 = 1_000;

fn analyse(t: &Timeline, phases: Phases<'_>) -> LaunchAnalysis {
    launch(t, &idle(t, &IdleOptions::default()), phases)
}

/// `steps` launches one after the other: calls of 5 us every 6 us, kernels of `kernel_us` as soon as launched and the stream is free.
fn loop_of(steps: i64, kernel_us: i64) -> Timeline {
    let mut b = TimelineBuilder::new();
    let p = b.process(1);
    let (thread, device) = (b.thread(p, 4), b.device(0));
    let stream = b.stream(p, device, 7);
    let mut free = 0;
    for step in 0..steps {
        let (from, to) = (step * 6, step * 6 + 5);
        b.call(thread, "cudaLaunchKernel_v7000", from * US, to * US, step as u32 + 1);
        let start = (to + 2).max(free);
        free = start + kernel_us;
        b.kernel(stream, "k", start * US, free * US, step as u32 + 1);
    }
    b.finish()
}

#[test]
fn kernels_shorter_than_their_launches_are_launch_bound() {
    let analysis = analyse(&loop_of(100, 2), Phases::default());
    let device = &analysis.devices[0];
    assert_eq!(device.verdict, LaunchVerdict::LaunchBound, "{:?}", device.evidence);
    // Each launch takes 5 us of call and 2 us of queue.
    assert_eq!(device.latency.p50_ns, Some(7_000.0));
    assert_eq!(device.tklqt_ns, Some(700_000));
    assert_eq!((device.queue.count, device.queue.max_ns), (100, Some(2_000)));
    assert_eq!(device.akd_ns, Some(2_000.0));
    // 100 kernels of 2 us in 99 * 6 + 2 us: without the host's part only they are left.
    assert!((device.speedup_bound.unwrap() - 596.0 / 200.0).abs() < 1e-9);
    let depth = device.queue_depth.unwrap();
    // In the queue for 2 of 6 us, but the first one's wait lies before the span: 99 * 2 of 596.
    assert!((depth.empty_share - (596.0 - 198.0) / 596.0).abs() < 1e-9, "{depth:?}");
    assert_eq!((depth.p50, depth.max), (0, 1));
    let thread = &analysis.threads[0];
    assert_eq!((thread.tid, thread.calls, thread.launching_ns, thread.span_ns), (4, 100, 500_000, 599_000));
}

#[test]
fn kernels_longer_than_their_launches_fill_the_queue_and_are_gpu_bound() {
    let analysis = analyse(&loop_of(100, 50), Phases::default());
    let device = &analysis.devices[0];
    assert_eq!(device.verdict, LaunchVerdict::GpuBound);
    assert_eq!(device.speedup_bound, Some(1.0));
    let depth = device.queue_depth.unwrap();
    assert!(depth.p50 > 30 && depth.max == 88, "{depth:?}");
}

#[test]
fn unlinked_work_gives_no_verdict() {
    let mut b = TimelineBuilder::new();
    let p = b.process(1);
    let device = b.device(0);
    let stream = b.stream(p, device, 7);
    b.kernel(stream, "k", 0, 10, 0);
    b.kernel(stream, "k", 5_000, 5_010, 9);
    let device = &analyse(&b.finish(), Phases::default()).devices[0];
    assert_eq!(device.verdict, LaunchVerdict::Unknown);
    assert_eq!((device.tklqt_ns, device.speedup_bound, device.queue_depth), (None, None, None));
    assert_eq!((device.latency, device.launches), (Spread::default(), 0));
}

#[test]
fn a_graph_launch_counts_once_and_copies_are_no_launches() {
    let mut b = TimelineBuilder::new();
    let p = b.process(1);
    let (thread, device) = (b.thread(p, 1), b.device(0));
    let stream = b.stream(p, device, 7);
    b.call(thread, "cudaGraphLaunch_v10000", 0, 5, 1);
    for node in 0..10 {
        let from = 8 + node * 4;
        b.kernel_with(stream, "k", from, from + 3, 1, LaunchConfig::default(), node as u64 + 1);
    }
    b.call(thread, "cudaMemcpyAsync_v3020", 6, 7, 2);
    b.copy(stream, CopyKind::DEVICE_TO_HOST, 60, 70, 2, 4);
    let names = ["decode".to_owned()];
    let window = |from, to| PhaseWindow { phase: 0, device: None, interval: Interval::new(from, to) };
    // Two steps that touch are two steps.
    let windows = [window(0, 20), window(20, 100)];
    let analysis = analyse(&b.finish(), Phases { names: &names, windows: &windows });
    let device = &analysis.devices[0];
    assert_eq!((device.launches, device.graph_launches, device.kernels, device.operations), (1, 1, 10, 11));
    assert_eq!(device.tklqt_ns, Some(8));
    let phase = &device.phases[0];
    assert_eq!((phase.windows, phase.kernels, phase.launches, phase.tklqt_ns), (2, 10, 1, 8));
    assert_eq!(phase.launches_per_window, Some(0.5));
    let names: Vec<&str> = analysis.calls.iter().map(|row| row.call.as_str()).collect();
    assert_eq!(names, ["cudaGraphLaunch", "cudaMemcpyAsync"]);
}

#[test]
fn a_kernel_that_starts_early_has_no_queue_time_and_one_before_its_call_no_latency() {
    let mut b = TimelineBuilder::new();
    let p = b.process(1);
    let (thread, device) = (b.thread(p, 1), b.device(0));
    let stream = b.stream(p, device, 7);
    for (row, start) in [8, 15, 32].into_iter().enumerate() {
        b.call(thread, "cuLaunchKernel", row as i64 * 10, row as i64 * 10 + 6, row as u32 + 1);
        b.kernel(stream, "k", start, start + 1, row as u32 + 1);
    }
    b.call(thread, "cuLaunchKernel", 50, 56, 9);
    b.kernel(stream, "k", 40, 41, 9);
    let device = &analyse(&b.finish(), Phases::default()).devices[0];
    assert_eq!((device.launches, device.clock_skew, device.started_before_return), (4, 1, 1));
    assert_eq!((device.queue.count, device.queue.total_ns), (2, 2 + 6));
    assert_eq!((device.latency.count, device.tklqt_ns), (3, Some(8 + 5 + 12)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn queue_depth_and_sums_are_those_of_counting_by_hand(t in any_trace()) {
        let calls = Calls::new(&t);
        for device in &analyse(&t, Phases::default()).devices {
            let mut first_of_call: std::collections::BTreeMap<usize, i64> = std::collections::BTreeMap::new();
            let ops: Vec<_> = t.ops_by_start().into_iter().filter(|op| t.op_device(*op) == device.device as usize).collect();
            for op in &ops {
                if let Some(call) = t.op_call(*op)
                    && (matches!(op.kind(), OpKind::Kernel | OpKind::Graph) || calls.kind(call) == ApiKind::LaunchGraph)
                {
                    let start = first_of_call.entry(call).or_insert(i64::MAX);
                    *start = (*start).min(t.op_start_ns(*op));
                }
            }
            prop_assert_eq!(device.launches, first_of_call.len() as u64);
            let good: Vec<(usize, i64)> =
                first_of_call.into_iter().filter(|(call, start)| t.api.start_ns[*call] <= *start).collect();
            let tklqt: i64 = good.iter().map(|(call, start)| start - t.api.start_ns[*call]).sum();
            prop_assert_eq!(device.tklqt_ns, (!good.is_empty()).then_some(tklqt as u64));
            let Some(depth) = device.queue_depth else { continue };
            let from = ops.iter().map(|op| t.op_start_ns(*op)).min().unwrap() / UNIT_NS;
            let to = ops.iter().map(|op| t.op_end_ns(*op)).max().unwrap() / UNIT_NS;
            let mut depths: Vec<u64> = (from..to)
                .map(|unit| {
                    let waits = |(call, start): &&(usize, i64)| {
                        (t.api.end_ns[*call] / UNIT_NS..*start / UNIT_NS).contains(&unit)
                    };
                    good.iter().filter(waits).count() as u64
                })
                .collect();
            depths.sort_unstable();
            let empty = depths.iter().filter(|depth| **depth == 0).count() as f64 / depths.len() as f64;
            prop_assert!((depth.empty_share - empty).abs() < 1e-9);
            prop_assert_eq!(depth.max, *depths.last().unwrap());
            prop_assert_eq!(depth.p50, depths[depths.len().div_ceil(2) - 1]);
            let mean = depths.iter().sum::<u64>() as f64 / depths.len() as f64;
            prop_assert!((depth.mean - mean).abs() < 1e-9);
        }
    }
}
