//! Verdicts on small traces made to show one trouble each.

use super::*;
use crate::trace::activity::CopyKind;
use crate::trace::builder::TimelineBuilder;
use crate::trace::places::{GraphMode, Source, ToolMessage};

/// A process with a thread, a device and a stream.
fn start() -> (TimelineBuilder, u32, u32) {
    let mut b = TimelineBuilder::new();
    let p = b.process(10);
    let thread = b.thread(p, 10);
    let device = b.device(0);
    let stream = b.stream(p, device, 7);
    (b, thread, stream)
}

/// `n` launches of 10 ns each, those of `with_kernel` with a kernel.
fn launches(b: &mut TimelineBuilder, thread: u32, stream: u32, n: u32, with_kernel: impl Fn(u32) -> bool) {
    for i in 0..n {
        let at = 1000 + i64::from(i) * 100;
        b.call(thread, "cudaLaunchKernel_v7000", at, at + 10, i + 1);
        if with_kernel(i) {
            b.kernel(stream, "k", at + 20, at + 60, i + 1);
        }
    }
}

#[test]
fn a_whole_trace_is_complete_and_trusted() {
    let (mut b, thread, stream) = start();
    launches(&mut b, thread, stream, 50, |_| true);
    let c = coverage(&b.finish());
    assert_eq!(
        (c.verdict, c.launches.kernel_coverage, c.graphs.state),
        (Verdict::Complete, Some(1.0), GraphState::Absent)
    );
    assert!(c.trust.idle_shares && c.trust.queue_times && c.trust.kernel_shares && c.trust.reasons.is_empty());
}

#[test]
fn lost_kernels_are_counted_and_forbid_idle_shares() {
    let (mut b, thread, stream) = start();
    launches(&mut b, thread, stream, 40, |i| i % 4 == 3);
    let c = coverage(&b.finish());
    assert_eq!(
        (c.verdict, c.launches.launches_without_kernel, c.launches.kernel_coverage),
        (Verdict::Partial, 30, Some(0.25))
    );
    assert!(!c.trust.idle_shares && !c.trust.kernel_shares);
    assert!(c.reasons[0].contains("30 of 40 kernel launches"), "{:?}", c.reasons);
    // Launches 0 to 2 come before the first kernel.
    assert_eq!(c.oddities.launches_before_first_op, 3);
}

#[test]
fn launches_captured_into_a_graph_are_not_lost() {
    let (mut b, thread, stream) = start();
    b.call(thread, "cudaStreamBeginCapture_v10000", 0, 1, 0);
    b.call(thread, "cudaLaunchKernel_v7000", 2, 3, 1);
    b.call(thread, "cudaLaunchKernel_v7000", 4, 5, 2);
    b.call(thread, "cudaStreamEndCapture_v10000", 6, 7, 0);
    b.call(thread, "cudaGraphLaunch_v10000", 10, 12, 3);
    b.kernel_with(stream, "k", 20, 30, 3, crate::trace::activity::LaunchConfig::default(), 1 << 33);
    b.kernel_with(stream, "k", 30, 40, 3, crate::trace::activity::LaunchConfig::default(), (1 << 33) + 1);
    let c = coverage(&b.finish());
    assert_eq!((c.verdict, c.graphs.state), (Verdict::Complete, GraphState::Carried));
    assert_eq!((c.graphs.launches_in_capture, c.launches.launches_without_kernel), (2, 0));
    assert_eq!(c.launches.kernel_coverage, None, "no launch was to put a kernel on the device by itself");
}

#[test]
fn a_launch_inside_which_a_graph_node_was_made_was_captured() {
    let (mut b, thread, stream) = start();
    launches(&mut b, thread, stream, 1, |_| true);
    b.call(thread, "cuLaunchKernel", 10, 20, 90);
    let nodes = &mut b.timeline().graph_nodes;
    nodes.start_ns.push(12);
    nodes.end_ns.push(13);
    nodes.thread.push(thread);
    nodes.node.push(1);
    nodes.original.push(0);
    nodes.name.push(crate::trace::strings::StringId(0));
    let c = coverage(&b.finish());
    assert_eq!(
        (c.verdict, c.graphs.launches_in_capture, c.launches.kernel_coverage),
        (Verdict::Complete, 1, Some(1.0))
    );
}

#[test]
fn whole_graph_records_hide_kernels_and_the_share_says_how_much() {
    let (mut b, thread, stream) = start();
    launches(&mut b, thread, stream, 10, |_| true);
    b.call(thread, "cudaGraphLaunch_v10000", 5000, 5010, 70);
    b.graph(stream, 5020, 5020 + 1600, 70, 3);
    let c = coverage(&b.finish());
    assert_eq!((c.verdict, c.graphs.state, c.graphs.hidden_sum_ns), (Verdict::Partial, GraphState::Hidden, 1600));
    assert_eq!(c.graphs.hidden_share, Some(0.8));
    assert!(!c.trust.idle_shares);
    assert!(c.reasons[0].contains("80.0 %") && c.reasons[0].contains("--cuda-graph-trace=node"), "{:?}", c.reasons);
}

#[test]
fn graph_launches_that_left_nothing_are_unknown_or_hidden_by_what_the_tool_was_told() {
    for (mode, state) in [(GraphMode::Unknown, GraphState::Unknown), (GraphMode::Graph, GraphState::Hidden)] {
        let (mut b, thread, stream) = start();
        b.timeline().sources.push(Source { graph_mode: mode, ..Source::default() });
        launches(&mut b, thread, stream, 10, |_| true);
        b.call(thread, "cuGraphLaunch", 5000, 5010, 70);
        let c = coverage(&b.finish());
        assert_eq!((c.verdict, c.graphs.state), (Verdict::Partial, state));
        assert!(!c.trust.idle_shares);
    }
}

#[test]
fn copies_of_graphs_without_a_kernel_do_not_count_as_carried() {
    let (mut b, thread, stream) = start();
    launches(&mut b, thread, stream, 10, |_| true);
    b.call(thread, "cuGraphLaunch", 5000, 5010, 70);
    b.memset(stream, 5020, 5030, 70, 64);
    assert_eq!(coverage(&b.finish()).graphs.state, GraphState::Unknown);
}

#[test]
fn kernels_before_their_call_make_queue_times_unreliable() {
    let (mut b, thread, stream) = start();
    b.call(thread, "cudaLaunchKernel_v7000", 100, 110, 1);
    b.kernel(stream, "k", 60, 90, 1);
    b.call(thread, "cudaLaunchKernel_v7000", 200, 210, 2);
    b.kernel(stream, "k", 205, 230, 2);
    let c = coverage(&b.finish());
    assert_eq!((c.clock.before_call, c.clock.share, c.clock.worst_ns), (1, Some(0.5), Some(40)));
    assert_eq!(c.clock.queue_times_reliable, Some(false));
    assert!(!c.trust.queue_times && c.trust.idle_shares);
}

#[test]
fn nothing_on_the_device_is_said_with_its_likely_cause() {
    let (mut b, thread, _) = start();
    let empty = coverage(&b.clone().finish());
    assert_eq!(empty.verdict, Verdict::NoGpuWork);
    assert_eq!(empty.launches.kernel_coverage, None);
    assert!(empty.reasons[0].contains("CUDA was not traced"), "{:?}", empty.reasons);
    b.call(thread, "cudaLaunchKernel_v7000", 100, 110, 1);
    let lost = coverage(&b.finish());
    assert_eq!((lost.verdict, lost.launches.kernel_coverage), (Verdict::NoGpuWork, Some(0.0)));
    assert!(lost.reasons[0].contains("although 1 launch calls"), "{:?}", lost.reasons);
}

#[test]
fn each_process_is_counted_for_itself() {
    let (mut b, thread, stream) = start();
    launches(&mut b, thread, stream, 4, |_| true);
    let other = b.process(20);
    let other_thread = b.thread(other, 20);
    b.call(other_thread, "cudaLaunchKernel_v7000", 1000, 1001, 1);
    b.call(other_thread, "cudaLaunchKernel_v7000", 1100, 1101, 2);
    b.process(30);
    let c = coverage(&b.finish());
    assert_eq!(c.processes.len(), 2, "a process that did nothing is not listed");
    let coverages: Vec<_> = c.processes.iter().map(|p| (p.pid, p.launches.kernel_coverage, p.has_gpu_work)).collect();
    assert_eq!(coverages, [(10, Some(1.0), true), (20, Some(0.0), false)]);
    assert_eq!((c.launches.kernel_coverage, c.processes_without_gpu_work), (Some(4.0 / 6.0), 1));
}

#[test]
fn messages_come_gravest_first_and_loss_forbids_idle_shares() {
    let (mut b, thread, stream) = start();
    launches(&mut b, thread, stream, 400, |i| i != 7 && i != 9);
    for (severity, text) in [
        (1, "hello"),
        (2, "Not all CUDA events might have been collected."),
        (3, "bad"),
        (2, "No NVTX events collected."),
        (2, "No NVTX events collected."),
    ] {
        b.timeline().messages.push(ToolMessage { time_ns: None, severity, text: text.to_owned(), process: 0 });
    }
    let c = coverage(&b.finish());
    let texts: Vec<_> = c.notes.iter().map(|note| (note.severity, note.count)).collect();
    assert_eq!(texts, [(3, 1), (2, 2), (2, 1), (1, 1)]);
    assert_eq!(c.verdict, Verdict::Partial);
    // Two lost of 400 alone would not forbid it; the message does, where it is borne out.
    assert!(!c.trust.idle_shares && c.trust.kernel_shares);
    let (mut b, thread, stream) = start();
    launches(&mut b, thread, stream, 400, |_| true);
    let text = "Not all CUDA events might have been collected.".to_owned();
    b.timeline().messages.push(ToolMessage { time_ns: None, severity: 2, text, process: 0 });
    let c = coverage(&b.finish());
    assert_eq!((c.verdict, c.trust.idle_shares), (Verdict::Partial, true));
}

#[test]
fn only_library_ranges_are_said_to_be_no_user_ranges() {
    let (mut b, thread, stream) = start();
    launches(&mut b, thread, stream, 2, |_| true);
    b.range(thread, "cub::DeviceReduce::Sum", 0, Some(10));
    let c = coverage(&b.clone().finish());
    assert!(c.ranges.only_library && c.ranges.user == 0);
    b.range(thread, "decode", 20, Some(30));
    b.range(thread, "aten::mm, op_id = 4", 22, Some(25));
    let c = coverage(&b.finish());
    assert_eq!((c.ranges.nvtx, c.ranges.library, c.ranges.user, c.ranges.operators), (3, 1, 1, 1));
    assert!(!c.ranges.only_library);
}

#[test]
fn overlaps_zero_lengths_and_overhead_are_counted() {
    let (mut b, thread, stream) = start();
    launches(&mut b, thread, stream, 2, |_| true);
    b.kernel(stream, "overlapping", 1030, 1040, 0);
    b.copy(stream, CopyKind::DEVICE_TO_HOST, 1130, 1200, 0, 8);
    b.kernel(stream, "short", 2000, 2000, 0);
    b.overhead(Some(thread), "flush", 10, 30);
    b.overhead(None, "flush", 20, 40);
    b.overhead(None, "jit", 100, 105);
    let c = coverage(&b.finish());
    assert_eq!((c.oddities.overlapping_on_stream, c.oddities.zero_length_kernels), (2, 1));
    assert_eq!(c.overhead_union_ns, Some(35));
    assert_eq!(c.overhead[0], OverheadTotal { name: "flush".to_owned(), count: 2, sum_ns: 40 });
    assert_eq!((c.launches.unlinked_kernels, c.launches.unlinked_share), (2, Some(0.5)));
    assert_eq!(c.launches.unlinked_copies_and_sets, 1);
}

#[test]
fn a_share_is_never_rounded_to_all_or_nothing() {
    let (mut b, thread, stream) = start();
    launches(&mut b, thread, stream, 3000, |i| i != 2999);
    let c = coverage(&b.finish());
    assert_eq!(c.verdict, Verdict::Complete);
    assert!(c.reasons[0].contains("1 of 3000") && c.reasons[0].contains("less than 0.1 %"), "{:?}", c.reasons);
}
