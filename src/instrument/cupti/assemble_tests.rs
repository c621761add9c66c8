//! Records written by hand, and what has to become of them.

use super::super::clock::ClockSample;
use super::super::records::{
    CopyRecord, Dropped, GraphRecord, KernelRecord, MemsetRecord, OverheadRecord, Record, SyncRecord,
};
use super::*;
use crate::analysis::kernel_names::{NameParts, demangle};
use crate::instrument::observer::{Module, Phase};
use crate::instrument::range_names::RangeName;
use crate::trace::places::NO_ROW;

/// CUPTI's clock at the begin of every recording here; our counter runs at two ticks a ns from 10,000.
const EPOCH: u64 = 1_790_000_000_000_000_000;
const TICKS: u64 = 10_000;
const PID: u32 = 4_000;
const TID: u32 = 4_001;

fn names() -> KernelNames<'static> {
    KernelNames { demangled: &|name| demangle(name).into_owned(), short: &|demangled| NameParts::of(demangled).base }
}

/// A recording of a millisecond without a record.
fn recording() -> Recording {
    Recording {
        began: ClockSample { ticks: TICKS, cupti_ns: EPOCH, error_ticks: 100 },
        ended: ClockSample { ticks: TICKS + 2_000_000, cupti_ns: EPOCH + 1_000_000, error_ticks: 40 },
        elapsed_ns: Some(1_000_000),
        epoch_ns: Some(1_790_000_000_000_000_123),
        process: PID,
        thread: TID,
        ..Recording::default()
    }
}

fn kernel(start: u64, end: u64, correlation: u32) -> Record {
    Record::Kernel(KernelRecord {
        start: EPOCH + start,
        end: EPOCH + end,
        device: 0,
        context: 1,
        stream: 7,
        correlation,
        grid: [8, 1, 1],
        block: [128, 1, 1],
        registers: 32,
        ..KernelRecord::default()
    })
}

fn call(class: ApiClass, function: u32, start: u64, end: u64, correlation: u32) -> Record {
    Record::Call(CallRecord {
        class,
        function,
        start: EPOCH + start,
        end: EPOCH + end,
        process: PID,
        thread: TID,
        correlation,
        result: 0,
    })
}

/// Our own range, from and to ns since the begin.
fn range(name: RangeName, start: u64, end: u64) -> RecordedRange {
    RecordedRange { name, start: TICKS + 2 * start, end: TICKS + 2 * end }
}

fn with(records: impl IntoIterator<Item = Record>) -> Recording {
    let mut recording = recording();
    recording.kernel_names.push("_Z6kernelILi4EEvPf".to_owned());
    recording.call_names.insert((ApiClass::RUNTIME, 211), "cudaLaunchKernel_v7000".to_owned());
    recording.call_names.insert((ApiClass::DRIVER, 307), "cuLaunchKernel".to_owned());
    recording.call_names.insert((ApiClass::RUNTIME, 311), "cudaGraphLaunch_v10000".to_owned());
    records.into_iter().for_each(|record| recording.push(record));
    recording
}

fn codes(assembled: &Assembled) -> Vec<&str> {
    assembled.diagnostics.iter().map(|diagnostic| diagnostic.code.as_str()).collect()
}

#[test]
fn a_kernel_its_call_and_the_ranges_around_it_come_together_on_one_clock() {
    let records = [call(ApiClass::DRIVER, 307, 200, 210, 5), kernel(260, 400, 5)];
    let ranges = [range(RangeName::Phase(Phase::Decode), 100, 500), range(RangeName::Module(Module::Mlp), 150, 250)];
    let assembled = assemble(&with(records), &ranges, names());
    let t = &assembled.timeline;
    assert_eq!(assembled.diagnostics, []);
    assert_eq!((t.kernels.start_ns[0], t.kernels.end_ns[0]), (260, 400));
    let launch = t.kernels.call[0] as usize;
    assert_eq!((t.api.start_ns[launch], t.api.end_ns[launch]), (200, 210));
    assert_eq!(t.text(t.api.name[launch]), "cuLaunchKernel");
    assert_eq!((&t.ranges.start_ns[..], &t.ranges.end_ns[..]), (&[100, 150][..], &[500, 250][..]));
    // The same thread holds the call and the ranges, whoever's records came first.
    assert_eq!(t.api.thread[launch], t.ranges.thread[0]);
    let thread = &t.threads[t.ranges.thread[0] as usize];
    assert_eq!((thread.tid, t.processes[thread.process as usize].pid), (u64::from(TID), PID));
    assert_eq!(t.text(t.ranges.domain[0]), "perfprof");
    assert_eq!((t.sources[0].epoch_ns, t.sources[0].graph_mode), (Some(1_790_000_000_000_000_123), GraphMode::Node));
    // Half of the wider bracket: 100 ticks of half a ns.
    assert_eq!(assembled.clock_error_ns, Some(50.0));
}

#[test]
fn kernel_names_are_demangled_and_kept_as_they_were() {
    let assembled = assemble(&with([kernel(1, 2, 1)]), &[], names());
    let t = &assembled.timeline;
    let name = t.kernel_names[t.kernels.name[0] as usize];
    assert_eq!(t.text(name.demangled), "void kernel<4>(float*)");
    assert_eq!(t.text(name.short), "kernel");
    assert_eq!(name.mangled.map(|name| t.text(name)), Some("_Z6kernelILi4EEvPf"));
}

#[test]
fn buffers_that_come_out_of_order_make_the_same_timeline() {
    let mut records: Vec<Record> = (0..20_u64)
        .flat_map(|step| {
            let at = 100 + 1_000 * step;
            [call(ApiClass::RUNTIME, 211, at, at + 10, step as u32 + 1), kernel(at + 50, at + 400, step as u32 + 1)]
        })
        .collect();
    let straight = assemble(&with(records.clone()), &[], names()).timeline;
    records.reverse();
    records.rotate_left(7);
    let shuffled = assemble(&with(records), &[], names()).timeline;
    assert_eq!(straight.kernels.start_ns, shuffled.kernels.start_ns);
    assert_eq!(straight.api.start_ns, shuffled.api.start_ns);
    assert_eq!(straight.kernels.call, shuffled.kernels.call);
    assert!(straight.kernels.call.iter().all(|call| *call != NO_ROW));
    assert!(straight.kernels.start_ns.is_sorted());
}

#[test]
fn a_runtime_call_and_the_driver_call_inside_it_are_one() {
    let inner = |tid: u32, start, end, correlation| match call(ApiClass::DRIVER, 307, start, end, correlation) {
        Record::Call(record) => Record::Call(CallRecord { thread: tid, ..record }),
        other => other,
    };
    let records = [
        // The driver's part ends first, so that its record comes first.
        inner(TID, 110, 140, 1),
        call(ApiClass::RUNTIME, 211, 100, 150, 1),
        kernel(200, 300, 1),
        // The same id elsewhere or at another time is another call.
        inner(TID + 1, 110, 140, 1),
        inner(TID, 160, 170, 1),
        inner(TID, 400, 410, 2),
    ];
    let t = assemble(&with(records), &[], names()).timeline;
    assert_eq!(t.api.len(), 4);
    let launch = t.kernels.call[0] as usize;
    assert_eq!((t.text(t.api.name[launch]), t.api.class[launch]), ("cudaLaunchKernel_v7000", ApiClass::RUNTIME));
}

#[test]
fn kernels_of_a_graph_share_the_launch_and_keep_their_nodes() {
    let node = |start, end, node| match kernel(start, end, 9) {
        Record::Kernel(record) => Record::Kernel(KernelRecord { graph_node: node, ..record }),
        other => other,
    };
    let records = [
        call(ApiClass::RUNTIME, 311, 100, 150, 9),
        node(200, 300, 0x2_0000_0001),
        node(310, 350, 0x2_0000_0002),
        call(ApiClass::DRIVER, 307, 400, 410, 10),
        kernel(420, 430, 10),
        Record::Memset(MemsetRecord {
            start: EPOCH + 360,
            end: EPOCH + 370,
            context: 1,
            stream: 7,
            correlation: 9,
            bytes: 64,
            graph_node: 0x2_0000_0003,
            ..MemsetRecord::default()
        }),
    ];
    let t = assemble(&with(records), &[], names()).timeline;
    let nodes: Vec<Option<u64>> = (0..3).map(|row| t.kernels.node(row)).collect();
    assert_eq!(nodes, [Some(0x2_0000_0001), Some(0x2_0000_0002), None]);
    let launch = t.kernels.call[0];
    assert_eq!((t.kernels.call[1], t.memsets.call[0]), (launch, launch));
    assert_eq!(t.text(t.api.name[launch as usize]), "cudaGraphLaunch_v10000");
    assert_eq!(t.memsets.graph_node, [0x2_0000_0003]);
}

#[test]
fn a_whole_graph_is_a_graph_launch_and_says_so() {
    let graph = GraphRecord {
        start: EPOCH + 200,
        end: EPOCH + 900,
        device: 0,
        context: 1,
        stream: 7,
        correlation: 9,
        graph: 4,
    };
    let t = assemble(&with([call(ApiClass::RUNTIME, 311, 100, 150, 9), Record::Graph(graph)]), &[], names()).timeline;
    assert_eq!((t.graphs.start_ns[0], t.graphs.graph[0], t.graphs.call[0]), (200, 4, 0));
    assert_eq!(t.sources[0].graph_mode, GraphMode::Graph);
}

#[test]
fn copies_waits_and_overhead_find_their_place() {
    let records = [
        Record::Copy(CopyRecord {
            start: EPOCH + 300,
            end: EPOCH + 400,
            device: 1,
            context: 2,
            stream: 14,
            correlation: 3,
            bytes: 4_096,
            kind: 2,
            source: 3,
            destination: 2,
            graph_node: 0,
        }),
        // A wait for the context of that copy, one for a stream of it, and one for a context nothing ran in.
        Record::Sync(SyncRecord {
            kind: 4,
            start: EPOCH + 310,
            end: EPOCH + 420,
            context: 2,
            stream: NO_STREAM,
            correlation: 4,
            event: NO_STREAM,
        }),
        Record::Sync(SyncRecord {
            kind: 3,
            start: EPOCH + 430,
            end: EPOCH + 440,
            context: 2,
            stream: 14,
            correlation: 5,
            event: 0,
        }),
        kernel(10, 20, 1),
        Record::Sync(SyncRecord {
            kind: 3,
            start: EPOCH + 1,
            end: EPOCH + 2,
            context: 99,
            stream: 1,
            correlation: 6,
            event: 0,
        }),
        Record::Overhead(OverheadRecord { kind: 0x1_0000, start: EPOCH + 50, end: EPOCH + 60, thread: Some(TID) }),
        Record::Overhead(OverheadRecord { kind: 0x5_0000, start: EPOCH + 70, end: EPOCH + 80, thread: None }),
    ];
    let assembled = assemble(&with(records), &[], names());
    let t = &assembled.timeline;
    assert_eq!(t.copies.kind, [CopyKind::DEVICE_TO_HOST]);
    assert_eq!((t.copies.source[0], t.copies.destination[0]), (MemoryKind::DEVICE, MemoryKind::PINNED));
    assert_eq!(t.syncs.kind, [SyncKind::CONTEXT, SyncKind::STREAM]);
    let stream_of = |row: usize| t.streams[t.syncs.stream[row] as usize];
    assert_eq!((stream_of(0).stream, stream_of(0).ordinal), (u64::MAX, 1));
    assert_eq!(stream_of(1), t.streams[t.copies.stream[0] as usize]);
    assert_eq!(codes(&assembled), ["trace_syncs_left_out"]);
    let overheads: Vec<&str> = t.overheads.name.iter().map(|name| t.text(*name)).collect();
    assert_eq!(overheads, ["CUPTI Buffer flush", "Lazy Function Loading"]);
    assert_eq!((t.overheads.thread[0] == NO_ROW, t.overheads.thread[1]), (false, NO_ROW));
    // Two devices did work; both have rows, in order of their ordinals, though CUPTI described neither.
    assert_eq!(t.devices.iter().map(|device| device.ordinal).collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn devices_are_described_where_cupti_does_and_idle_ones_are_left_out() {
    let described = |id: u32, name: &str| {
        Record::Device(DeviceRecord {
            id,
            name: Some(name.to_owned()),
            sm_count: 132,
            clock_khz: 1_980_000,
            bandwidth_kbytes_per_s: 4_800_000_000,
            memory_bytes: 150_000_000_000,
            compute_capability: (9, 0),
            ..DeviceRecord::default()
        })
    };
    let t =
        assemble(&with([described(1, "idle"), described(0, "NVIDIA H200"), kernel(1, 2, 1)]), &[], names()).timeline;
    assert_eq!(t.devices.len(), 1);
    let device = &t.devices[0];
    assert_eq!((device.name.as_deref(), device.sm_count), (Some("NVIDIA H200"), Some(132)));
    assert_eq!((device.clock_hz, device.bandwidth_bytes_per_s), (Some(1.98e9), Some(4.8e12)));
    assert_eq!((device.l2_bytes, device.compute_capability), (None, Some((9, 0))));
}

#[test]
fn what_was_dropped_is_a_finding_and_a_message_in_the_file() {
    let mut recording = with([kernel(1, 2, 1)]);
    recording.dropped =
        vec![Dropped { context: 0, stream: 0, records: 7 }, Dropped { context: 0xbeef, stream: 7, records: 3 }];
    let assembled = assemble(&recording, &[], names());
    assert_eq!(codes(&assembled), ["trace_records_dropped"]);
    let message = &assembled.timeline.messages[0];
    assert_eq!(message.severity, 2);
    assert_eq!(
        message.text,
        "10 activity records were dropped by CUPTI: 7 of the process, 3 of stream 7 of context 0xbeef"
    );
}

#[test]
fn records_without_times_are_left_out_and_counted_by_what_they_are() {
    let untimed =
        |start, end| Record::Kernel(KernelRecord { start, end, context: 1, stream: 7, ..KernelRecord::default() });
    let records = [untimed(0, 0), untimed(EPOCH + 9, EPOCH + 3), kernel(1, 2, 1)];
    let assembled = assemble(&with(records), &[], names());
    assert_eq!(assembled.timeline.kernels.len(), 1);
    assert_eq!(codes(&assembled), ["trace_records_without_time"]);
    assert!(assembled.diagnostics[0].first.starts_with("2 kernels"), "{}", assembled.diagnostics[0].first);
}

#[test]
fn kinds_this_version_does_not_read_are_told_and_nothing_is_lost_for_it() {
    let mut recording = with([kernel(1, 2, 1)]);
    recording.unknown_kinds = BTreeMap::from([(60, 4), (52, 1)]);
    let assembled = assemble(&recording, &[], names());
    assert_eq!(codes(&assembled), ["trace_unknown_records"]);
    assert!(
        assembled.diagnostics[0].first.contains("5 activity records")
            && assembled.diagnostics[0].first.contains("52, 60")
    );
    assert!(assembled.timeline.messages.is_empty());
}

#[test]
fn a_clock_that_was_set_anew_is_suspected_and_one_that_stood_still_places_no_range() {
    let mut recording = with([kernel(1, 2, 1)]);
    let ranges = [range(RangeName::Phase(Phase::Prefill), 0, 10)];
    // A second jumped in between: the line between the samples is then no line.
    recording.ended.cupti_ns += 1_000_000_000;
    assert_eq!(codes(&assemble(&recording, &ranges, names())), ["trace_clock_stepped"]);
    recording.ended.cupti_ns = EPOCH;
    let assembled = assemble(&recording, &ranges, names());
    assert_eq!(codes(&assembled), ["trace_without_ranges"]);
    assert_eq!((assembled.timeline.ranges.len(), assembled.clock_error_ns), (0, None));
    assert_eq!(assembled.timeline.kernels.len(), 1, "the device's own records stay");
}

#[test]
fn a_range_never_closed_stays_open_and_a_recording_of_nothing_is_a_timeline() {
    let mut open = range(RangeName::Phase(Phase::Decode), 100, 0);
    open.end = 0;
    let assembled = assemble(&with([kernel(150, 200, 1)]), &[open], names());
    assert!(assembled.timeline.ranges.is_open(0));
    let empty = assemble(&recording(), &[], names());
    assert_eq!((empty.timeline.op_count(), empty.timeline.devices.len(), empty.timeline.processes.len()), (0, 0, 1));
    assert_eq!(empty.diagnostics, []);
}
