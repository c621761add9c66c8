use proptest::prelude::*;

use super::super::intervals::PhaseWindow;
use super::super::random_trace::{SPAN, UNIT_NS, any_trace, busy_units, sound_trace};
use super::*;
use crate::trace::activity::{CopyKind, LaunchConfig, SyncKind};
use crate::trace::builder::TimelineBuilder;

/// One process, thread, device and two streams; times in us.
struct Scene {
    b: TimelineBuilder,
    thread: u32,
    streams: [u32; 2],
    next: u32,
}

const US: i64 = 1_000;

impl Scene {
    fn new() -> Self {
        let mut b = TimelineBuilder::new();
        let process = b.process(1);
        let thread = b.thread(process, 1);
        let device = b.device(0);
        let streams = [b.stream(process, device, 7), b.stream(process, device, 13)];
        Self { b, thread, streams, next: 1 }
    }
    fn call(&mut self, name: &str, from: i64, to: i64) -> u32 {
        let correlation = self.next;
        self.next += 1;
        self.b.call(self.thread, name, from * US, to * US, correlation);
        correlation
    }
    /// A kernel of stream 0 and the call that launched it.
    fn launch(&mut self, call: (i64, i64), work: (i64, i64)) {
        self.launch_on(0, call, work);
    }
    fn launch_on(&mut self, stream: usize, call: (i64, i64), work: (i64, i64)) {
        let correlation = self.call("cudaLaunchKernel_v7000", call.0, call.1);
        self.b.kernel(self.streams[stream], "k", work.0 * US, work.1 * US, correlation);
    }
    fn copy_on(&mut self, stream: usize, name: &str, call: (i64, i64), work: (i64, i64)) {
        let correlation = self.call(name, call.0, call.1);
        self.b.copy(self.streams[stream], CopyKind::DEVICE_TO_HOST, work.0 * US, work.1 * US, correlation, 4);
    }
    fn run(self) -> DeviceIdle {
        let t = self.b.finish();
        let mut devices = idle(&t, &IdleOptions::default());
        assert_identity(&devices[0]);
        devices.remove(0)
    }
    /// The cause of the only gap, which lasts `us`.
    fn only_cause(self, us: u64) -> IdleCause {
        let device = self.run();
        assert_eq!(device.longest.len(), 1, "{device:?}");
        assert_eq!(device.longest[0].length_ns, us * 1_000, "{device:?}");
        assert!(!device.longest[0].evidence.is_empty());
        device.longest[0].cause
    }
}

fn assert_identity(device: &DeviceIdle) {
    let causes: u64 = device.idle_by_cause.iter().map(|row| row.spread.total_ns).sum();
    assert_eq!(device.busy_ns + causes + device.below_1us_ns, device.window_ns);
    assert_eq!(device.idle_ns, causes + device.below_1us_ns);
    let mut parts = device.host_parts;
    assert_eq!(parts.fields().iter().map(|part| **part).sum::<u64>(), device.host_ns());
    let gaps: u64 = device.idle_by_cause.iter().map(|row| row.spread.count).sum();
    assert_eq!(device.gap_lengths.iter().map(|bin| bin.gaps).sum::<u64>(), gaps + device.below_1us_gaps);
    assert_eq!(device.gap_lengths.iter().map(|bin| bin.total_ns).sum::<u64>(), device.idle_ns);
}

#[test]
fn a_launch_soon_after_a_long_wait_is_the_waits_fault() {
    // 900 us in the synchronisation, 8 us of host work after it: without the wait the launch had been early.
    let mut s = Scene::new();
    s.launch((0, 5), (10, 1_000));
    s.call("cudaStreamSynchronize_v3020", 100, 1_003);
    s.launch((1_011, 1_014), (1_016, 1_020));
    let device = s.run();
    assert_eq!(device.longest[0].cause, IdleCause::HostSync);
    let expected = HostParts {
        waiting_ns: 3_000,
        outside_api_ns: 8_000,
        launch_call_ns: 3_000,
        after_call_ns: 2_000,
        ..HostParts::default()
    };
    assert_eq!(device.host_parts, expected);
    assert!(device.longest[0].evidence.contains("cudaStreamSynchronize"), "{}", device.longest[0].evidence);
}

#[test]
fn a_blocking_copy_that_the_host_sat_in_is_a_wait_too() {
    for name in ["cudaMemcpy_v3020", "cuMemcpyDtoHAsync_v2"] {
        let mut s = Scene::new();
        s.launch((0, 5), (10, 100));
        s.copy_on(0, name, (20, 112), (101, 110));
        s.launch((120, 124), (126, 130));
        let device = s.run();
        assert_eq!(device.longest[0].cause, IdleCause::HostSync, "{name}");
        assert_eq!(device.longest[0].length_ns, 16_000);
    }
}

#[test]
fn a_long_computation_after_a_short_wait_is_the_hosts_fault() {
    let mut s = Scene::new();
    s.launch((0, 5), (10, 1_000));
    s.call("cudaDeviceSynchronize_v3020", 900, 1_003);
    s.launch((3_000, 3_005), (3_007, 3_010));
    assert_eq!(s.only_cause(2_007), IdleCause::HostBusy);
}

#[test]
fn a_host_that_computes_between_launches_is_busy() {
    let mut s = Scene::new();
    s.launch((0, 5), (6, 10));
    s.launch((50, 54), (56, 60));
    assert_eq!(s.only_cause(46), IdleCause::HostBusy);
}

#[test]
fn calls_one_after_the_other_without_pause_are_launch_cost() {
    // An eager decode step: kernels of 1 us, launch calls of 5 us. The second call begins before the first kernel ends.
    let mut s = Scene::new();
    s.launch((0, 5), (6, 8));
    s.launch((6, 11), (13, 14));
    assert_eq!(s.only_cause(5), IdleCause::HostLaunch);
    // And where it begins just after.
    let mut s = Scene::new();
    s.launch((0, 5), (6, 8));
    s.launch((9, 14), (15, 17));
    assert_eq!(s.only_cause(7), IdleCause::HostLaunch);
}

#[test]
fn allocating_and_releasing_memory_in_between_is_told() {
    for name in ["cudaMalloc_v3020", "cudaFree_v3020", "cuMemAllocAsync"] {
        let mut s = Scene::new();
        s.launch((0, 5), (6, 10));
        s.call(name, 9, 60);
        s.launch((62, 65), (67, 70));
        assert_eq!(s.only_cause(57), IdleCause::Allocation, "{name}");
    }
}

#[test]
fn a_short_allocation_before_a_long_copy_call_is_not_what_kept_the_device_waiting() {
    let mut s = Scene::new();
    s.launch((0, 5), (6, 10));
    s.call("cuMemAllocAsync", 9, 13);
    s.copy_on(0, "cuMemcpyHtoDAsync_v2", (14, 400), (300, 395));
    assert_eq!(s.only_cause(290), IdleCause::HostLaunch);
}

#[test]
fn loading_code_is_told_as_a_call_or_hidden_in_the_launch() {
    let mut s = Scene::new();
    s.launch((0, 5), (6, 10));
    s.call("cuModuleLoadData", 12, 900);
    s.launch((905, 910), (912, 920));
    assert_eq!(s.only_cause(902), IdleCause::ModuleLoad);

    let mut s = Scene::new();
    s.launch((0, 5), (6, 10));
    s.launch((12, 900), (905, 910));
    s.b.overhead(Some(0), "Lazy Function Loading", 20 * US, 880 * US);
    assert_eq!(s.only_cause(895), IdleCause::ModuleLoad);
}

#[test]
fn instantiating_and_capturing_a_graph_is_told() {
    for name in ["cudaGraphInstantiate_v12000", "cudaStreamEndCapture_v10000"] {
        let mut s = Scene::new();
        s.launch((0, 5), (6, 10));
        s.call(name, 12, 100);
        let correlation = s.call("cudaGraphLaunch_v10000", 105, 110);
        s.b.graph(s.streams[0], 112 * US, 120 * US, correlation, 3);
        assert_eq!(s.only_cause(102), IdleCause::GraphSetup, "{name}");
    }
}

#[test]
fn the_profiler_is_named_where_it_covers_the_gap_on_the_launching_thread_only() {
    for thread in [Some(0), None] {
        let mut s = Scene::new();
        s.launch((0, 5), (6, 10));
        s.launch((100, 104), (106, 110));
        s.b.overhead(thread, "CUPTI Buffer flush", 8 * US, 90 * US);
        assert_eq!(s.only_cause(96), IdleCause::ProfilerOverhead);
    }
    let mut s = Scene::new();
    let process = 0;
    let other = s.b.thread(process, 99);
    s.launch((0, 5), (6, 10));
    s.launch((100, 104), (106, 110));
    s.b.overhead(Some(other), "CUPTI Buffer flush", 8 * US, 90 * US);
    assert_eq!(s.only_cause(96), IdleCause::HostBusy);
    // A full command buffer is no doing of the profiler.
    let mut s = Scene::new();
    s.launch((0, 5), (6, 10));
    s.launch((100, 104), (106, 110));
    s.b.overhead(Some(0), "Command Buffer Full", 8 * US, 90 * US);
    assert_eq!(s.only_cause(96), IdleCause::HostBusy);
}

#[test]
fn a_stream_that_was_told_to_wait_is_a_dependency() {
    let mut s = Scene::new();
    s.launch_on(1, (0, 5), (6, 100));
    let wait = s.call("cudaStreamWaitEvent_v3020", 10, 12);
    s.b.sync(s.streams[0], SyncKind::STREAM_WAIT_EVENT, 10 * US, 12 * US, wait);
    s.launch_on(0, (15, 18), (112, 120));
    assert_eq!(s.only_cause(12), IdleCause::StreamDependency);
    // Exports number the kinds differently: the call's name decides.
    let mut s = Scene::new();
    s.launch_on(0, (0, 5), (6, 100));
    let sync = s.call("cudaStreamSynchronize_v3020", 10, 12);
    s.b.sync(s.streams[0], SyncKind::STREAM_WAIT_EVENT, 10 * US, 12 * US, sync);
    s.launch_on(0, (15, 18), (112, 120));
    assert_eq!(s.only_cause(12), IdleCause::Unknown);
}

#[test]
fn work_of_another_device_that_ends_with_the_gap_is_a_dependency() {
    let mut s = Scene::new();
    let device = s.b.device(1);
    let stream = s.b.stream(0, device, 7);
    s.launch((0, 2), (6, 10));
    s.launch((3, 4), (60, 70));
    let correlation = s.call("cudaLaunchKernel_v7000", 5, 6);
    s.b.kernel(stream, "other", 8 * US, 58 * US, correlation);
    assert_eq!(s.only_cause(50), IdleCause::StreamDependency);
}

#[test]
fn copies_beside_a_gap_of_launched_work_are_dependencies() {
    let mut s = Scene::new();
    s.copy_on(0, "cudaMemcpyAsync_v3020", (0, 2), (10, 50));
    s.launch((3, 5), (53, 60));
    assert_eq!(s.only_cause(3), IdleCause::CopyDependency);
    let mut s = Scene::new();
    s.launch((0, 2), (10, 50));
    s.copy_on(0, "cudaMemcpyAsync_v3020", (3, 5), (54, 60));
    assert_eq!(s.only_cause(4), IdleCause::CopyDependency);
}

#[test]
fn nodes_of_a_replay_and_queued_replays_are_graph_boundaries() {
    let mut s = Scene::new();
    let correlation = s.call("cudaGraphLaunch_v10000", 0, 8);
    for (node, from) in [(1, 10), (2, 23)] {
        s.b.kernel_with(s.streams[0], "k", from * US, (from + 10) * US, correlation, LaunchConfig::default(), node);
    }
    assert_eq!(s.only_cause(3), IdleCause::GraphBoundary);
    let mut s = Scene::new();
    for (call, from) in [((0, 5), 10), ((6, 9), 120)] {
        let correlation = s.call("cudaGraphLaunch_v10000", call.0, call.1);
        s.b.graph(s.streams[0], from * US, (from + 100) * US, correlation, 3);
    }
    assert_eq!(s.only_cause(10), IdleCause::GraphBoundary);
}

#[test]
fn work_that_was_launched_just_in_time_shows_launch_latency() {
    // Returned 1 us before the gap began, begins 4 us after it returned.
    let mut s = Scene::new();
    s.launch((0, 2), (3, 10));
    s.launch((5, 9), (13, 20));
    assert_eq!(s.only_cause(3), IdleCause::QueueLatency);
    // Launched long before: the turnaround of the device.
    let mut s = Scene::new();
    s.launch((0, 2), (3, 1_000));
    s.launch((5, 9), (1_002, 1_020));
    assert_eq!(s.only_cause(2), IdleCause::QueueLatency);
}

#[test]
fn without_a_link_with_clocks_that_disagree_or_without_a_reason_the_cause_is_unknown() {
    let mut s = Scene::new();
    s.launch((0, 2), (3, 10));
    s.b.kernel(s.streams[0], "unlinked", 50 * US, 60 * US, 0);
    assert_eq!(s.only_cause(40), IdleCause::Unknown);
    let mut s = Scene::new();
    s.launch((0, 2), (3, 10));
    s.launch((70, 75), (50, 60));
    assert_eq!(s.only_cause(40), IdleCause::Unknown);
    let mut s = Scene::new();
    s.launch((0, 2), (3, 10));
    s.launch((3, 4), (50, 60));
    assert_eq!(s.only_cause(40), IdleCause::Unknown);
}

#[test]
fn a_given_window_shows_the_time_before_and_after_the_work() {
    let mut s = Scene::new();
    s.launch((0, 2), (100, 110));
    let t = s.b.finish();
    let window = Some(Interval::new(0, 200 * US));
    let device = &idle(&t, &IdleOptions { window, ..IdleOptions::default() })[0];
    assert_identity(device);
    assert_eq!(device.cause_ns(IdleCause::BeforeWork), 100_000);
    assert_eq!(device.cause_ns(IdleCause::AfterWork), 90_000);
    assert_eq!(device.busy_ns, 10_000);
    // A device that did nothing is idle for all of it.
    let mut b = TimelineBuilder::new();
    b.device(0);
    let device = &idle(&b.finish(), &IdleOptions { window, ..IdleOptions::default() })[0];
    assert_eq!((device.cause_ns(IdleCause::BeforeWork), device.busy_ns), (200_000, 0));
}

#[test]
fn a_window_that_cuts_a_gap_keeps_its_cause() {
    let mut s = Scene::new();
    s.launch((0, 5), (6, 10));
    s.launch((50, 54), (56, 60));
    let t = s.b.finish();
    let window = Some(Interval::new(20 * US, 50 * US));
    let device = &idle(&t, &IdleOptions { window, ..IdleOptions::default() })[0];
    assert_identity(device);
    assert_eq!(device.cause_ns(IdleCause::HostBusy), 30_000);
}

#[test]
fn idle_time_of_all_streams_is_what_counts() {
    let mut s = Scene::new();
    s.launch_on(0, (0, 1), (10, 20));
    s.launch_on(1, (2, 3), (20, 40));
    s.launch_on(0, (35, 36), (40, 50));
    let device = s.run();
    assert_eq!((device.idle_ns, device.busy_ns), (0, 40_000));
}

/// Busy units and the lengths of the gaps between them, from a bitmap.
fn by_bitmap(busy: &[bool], from: i64, to: i64) -> (u64, Vec<i64>) {
    let inside = &busy[from as usize..to as usize];
    let mut gaps = Vec::new();
    let mut gap = 0;
    for unit in inside {
        if *unit {
            if gap > 0 {
                gaps.push(gap);
            }
            gap = 0;
        } else {
            gap += 1;
        }
    }
    if gap > 0 {
        gaps.push(gap);
    }
    (inside.iter().filter(|unit| **unit).count() as u64, gaps)
}

fn check(t: &Timeline, window: Option<(i64, i64)>, phases: Phases<'_>, units: i64) -> Result<(), TestCaseError> {
    let options = IdleOptions {
        window: window.map(|(from, to)| Interval::new(from * UNIT_NS, to * UNIT_NS)),
        phases,
        longest: 1_000,
    };
    for device in idle(t, &options) {
        assert_identity(&device);
        let Some(inside) = device.window else {
            prop_assert_eq!(device.window_ns, 0);
            continue;
        };
        let busy = busy_units(t, device.device, units, |_| true);
        let (from, to) = (inside.start_ns / UNIT_NS, inside.end_ns / UNIT_NS);
        let (busy_count, gaps) = by_bitmap(&busy, from, to);
        prop_assert_eq!(device.busy_ns, busy_count * UNIT_NS as u64);
        prop_assert_eq!(device.idle_ns, gaps.iter().sum::<i64>() as u64 * UNIT_NS as u64);
        // Every unit of idle time has one cause: the listed gaps are disjoint and cover what is idle but for the short ones.
        let mut covered = vec![0; units as usize];
        for gap in &device.longest {
            for unit in gap.interval.start_ns / UNIT_NS..gap.interval.end_ns / UNIT_NS {
                covered[unit as usize] += 1;
            }
        }
        for unit in from..to {
            prop_assert!(covered[unit as usize] <= u32::from(!busy[unit as usize]));
        }
        let uncovered = (from..to).filter(|unit| !busy[*unit as usize] && covered[*unit as usize] == 0).count();
        prop_assert_eq!(uncovered as u64 * UNIT_NS as u64, device.below_1us_ns);
        for (row, phase) in device.phases.iter().enumerate() {
            let in_phase = |unit: i64| {
                (from..to).contains(&unit)
                    && phases.windows.iter().any(|w| w.phase == row as u32 && w.interval.contains(unit * UNIT_NS))
            };
            let window_units = (0..units).filter(|unit| in_phase(*unit)).count() as u64;
            let idle_units = (0..units).filter(|unit| in_phase(*unit) && !busy[*unit as usize]).count() as u64;
            prop_assert_eq!(phase.window_ns, window_units * UNIT_NS as u64);
            prop_assert_eq!(phase.idle_ns, idle_units * UNIT_NS as u64);
            prop_assert_eq!(phase.busy_ns + phase.idle_ns, phase.window_ns);
            let sum: u64 = phase.idle_by_cause.iter().map(|(_, ns)| ns).sum();
            prop_assert_eq!(sum + phase.below_1us_ns, phase.idle_ns);
        }
    }
    Ok(())
}

fn some_phases() -> impl Strategy<Value = Vec<PhaseWindow>> {
    let window = (0_u32..3, 0..SPAN - 40, 1_i64..40).prop_map(|(phase, from, len)| PhaseWindow {
        phase,
        device: None,
        interval: Interval::new(from * UNIT_NS, (from + len) * UNIT_NS),
    });
    prop::collection::vec(window, 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn busy_and_idle_are_those_of_a_bitmap_and_every_gap_has_one_cause(
        t in any_trace(),
        window in prop::option::of((0_i64..SPAN / 2, SPAN / 2..SPAN)),
        windows in some_phases(),
    ) {
        let names = vec!["prefill".to_owned(), "decode".to_owned(), "other".to_owned()];
        check(&t, window, Phases { names: &names, windows: &windows }, SPAN)?;
    }

    #[test]
    fn a_sound_trace_has_no_unknown_gaps_on_one_device(t in sound_trace()) {
        let (_, end) = t.device_span_ns().unwrap_or((0, 0));
        check(&t, None, Phases::default(), end / UNIT_NS + 1)?;
        if t.devices.len() == 1 {
            let device = &idle(&t, &IdleOptions::default())[0];
            prop_assert_eq!(device.cause_ns(IdleCause::Unknown), 0, "{:?}", device.longest);
        }
    }
}
