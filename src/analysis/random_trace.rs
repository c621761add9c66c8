//! Small random traces for property tests: few devices, streams and threads, times of a few hundred units, links that hold, miss and disagree.

use proptest::prelude::*;

use crate::trace::activity::{CopyKind, LaunchConfig, SyncKind};
use crate::trace::builder::TimelineBuilder;
use crate::trace::timeline::Timeline;

/// Length of a time unit in ns: gaps of one unit are below 1 us, those of more are not.
pub(crate) const UNIT_NS: i64 = 700;
/// All times are within `0..SPAN` units.
pub(crate) const SPAN: i64 = 240;

const CALLS: [&str; 13] = [
    "cudaLaunchKernel_v7000",
    "cuLaunchKernel",
    "cudaGraphLaunch_v10000",
    "cudaMemcpyAsync_v3020",
    "cudaMemcpy_v3020",
    "cudaStreamSynchronize_v3020",
    "cudaDeviceSynchronize_v3020",
    "cudaMalloc_v3020",
    "cuModuleLoadData",
    "cudaGraphInstantiate_v12000",
    "cudaEventRecord_v3020",
    "cudaStreamWaitEvent_v3020",
    "cudaGetDevice_v3020",
];
const KERNELS: [&str; 4] = ["gemm", "norm", "ncclDevKernel_AllReduce", "rope"];

#[derive(Debug, Clone)]
struct Call {
    thread: u32,
    name: usize,
    start: i64,
    length: i64,
}

#[derive(Debug, Clone)]
struct Op {
    kind: u8,
    stream: usize,
    name: usize,
    start: i64,
    length: i64,
    /// Call that launched it, modulo their number plus one (none).
    call: usize,
    node: bool,
}

#[derive(Debug, Clone)]
struct Record {
    thread: Option<u32>,
    start: i64,
    length: i64,
    loading: bool,
}

/// Anything goes: calls of a thread may nest and cross, operations of a stream overlap, operations start before their calls.
pub(crate) fn any_trace() -> impl Strategy<Value = Timeline> {
    let call = (0_u32..2, 0..CALLS.len(), 0..SPAN - 30, 0_i64..30).prop_map(|(thread, name, start, length)| Call {
        thread,
        name,
        start,
        length,
    });
    let op = (0_u8..8, 0_usize..4, 0..KERNELS.len(), 0..SPAN - 20, 0_i64..20, 0_usize..40, prop::bool::weighted(0.2))
        .prop_map(|(kind, stream, name, start, length, call, node)| Op {
            kind,
            stream,
            name,
            start,
            length,
            call,
            node,
        });
    let record = (prop::option::of(0_u32..2), 0..SPAN - 20, 0_i64..20, any::<bool>())
        .prop_map(|(thread, start, length, loading)| Record { thread, start, length, loading });
    let parts = (
        prop::collection::vec(call, 0..24),
        prop::collection::vec(op, 0..24),
        prop::collection::vec(record, 0..3),
        1_usize..3,
    );
    parts.prop_map(|(calls, ops, records, devices)| build(&calls, &ops, &records, devices))
}

fn build(calls: &[Call], ops: &[Op], records: &[Record], devices: usize) -> Timeline {
    let mut b = TimelineBuilder::new();
    let process = b.process(1);
    let threads = [b.thread(process, 1), b.thread(process, 2)];
    let devices: Vec<u32> = (0..devices as u32).map(|ordinal| b.device(ordinal)).collect();
    let streams: Vec<u32> =
        (0..4).map(|stream| b.stream(process, devices[stream % devices.len()], stream as u64)).collect();
    for (row, call) in calls.iter().enumerate() {
        let thread = threads[call.thread as usize];
        let (start, end) = (call.start * UNIT_NS, (call.start + call.length) * UNIT_NS);
        b.call(thread, CALLS[call.name], start, end, row as u32 + 1);
        if CALLS[call.name].contains("Synchronize") || CALLS[call.name].contains("WaitEvent") {
            b.sync(streams[row % 4], SyncKind::STREAM, start, end, row as u32 + 1);
        }
    }
    for op in ops {
        let correlation = op.call % (calls.len() + 1);
        let (start, end) = (op.start * UNIT_NS, (op.start + op.length) * UNIT_NS);
        let (stream, correlation) = (streams[op.stream], correlation as u32);
        match op.kind {
            0 => {
                b.copy(stream, CopyKind::HOST_TO_DEVICE, start, end, correlation, 1 << op.length);
            }
            1 => {
                b.memset(stream, start, end, correlation, 16);
            }
            2 => {
                b.graph(stream, start, end, correlation, 5);
            }
            _ => {
                let node = u64::from(op.node) * 77;
                let config = LaunchConfig::default();
                b.kernel_with(stream, KERNELS[op.name], start, end, correlation, config, node);
            }
        }
    }
    for record in records {
        let name = if record.loading { "Lazy Function Loading" } else { "CUPTI Buffer flush" };
        let thread = record.thread.map(|thread| threads[thread as usize]);
        b.overhead(thread, name, record.start * UNIT_NS, (record.start + record.length) * UNIT_NS);
    }
    b.finish()
}

/// A trace as a real machine makes it: each thread does one thing after the other, each stream too, an operation starts after its call began,
/// and a synchronisation returns after the work before it.
pub(crate) fn sound_trace() -> impl Strategy<Value = Timeline> {
    // (what, stream, host time before it, call time, device time, latency)
    let step = (0_u8..10, 0_usize..3, 0_i64..12, 1_i64..5, 0_i64..25, 1_i64..6, 0..KERNELS.len());
    (prop::collection::vec(step, 1..40), 1_usize..3).prop_map(|(steps, devices)| {
        let mut b = TimelineBuilder::new();
        let process = b.process(1);
        let thread = b.thread(process, 1);
        let devices: Vec<u32> = (0..devices as u32).map(|ordinal| b.device(ordinal)).collect();
        let streams: Vec<u32> =
            (0..3).map(|stream| b.stream(process, devices[stream % devices.len()], stream as u64)).collect();
        let mut host = 0;
        let mut free = [0_i64; 3];
        for (row, (what, stream, before, cost, work, latency, name)) in steps.into_iter().enumerate() {
            let correlation = row as u32 + 1;
            host += before * UNIT_NS;
            let begin = host;
            host += cost * UNIT_NS;
            let start = (begin + latency * UNIT_NS).max(free[stream] + UNIT_NS);
            let end = start + work * UNIT_NS;
            match what {
                0 => {
                    host = host.max(free[stream] + 2 * UNIT_NS);
                    b.call(thread, "cudaStreamSynchronize_v3020", begin, host, correlation);
                    b.sync(streams[stream], SyncKind::STREAM, begin, host, correlation);
                }
                1 => {
                    host = host.max(free.iter().copied().max().unwrap_or(0) + 2 * UNIT_NS);
                    b.call(thread, "cudaDeviceSynchronize_v3020", begin, host, correlation);
                }
                2 => {
                    host = host.max(end + UNIT_NS);
                    b.call(thread, "cudaMemcpy_v3020", begin, host, correlation);
                    b.copy(streams[stream], CopyKind::DEVICE_TO_HOST, start, end, correlation, 4096);
                    free[stream] = end;
                }
                3 => {
                    b.call(thread, "cudaGetDevice_v3020", begin, host, correlation);
                }
                4 => {
                    b.call(thread, "cudaGraphLaunch_v10000", begin, host, correlation);
                    for node in 0..3 {
                        let from = start + node * (work + 1) * UNIT_NS;
                        let config = LaunchConfig::default();
                        b.kernel_with(
                            streams[stream],
                            KERNELS[name],
                            from,
                            from + work * UNIT_NS,
                            correlation,
                            config,
                            node as u64 + 1,
                        );
                        free[stream] = from + work * UNIT_NS;
                    }
                }
                _ => {
                    b.call(thread, "cudaLaunchKernel_v7000", begin, host, correlation);
                    b.kernel(streams[stream], KERNELS[name], start, end, correlation);
                    free[stream] = end;
                }
            }
        }
        b.finish()
    })
}

/// Units in which at least one operation of `device` that passes `of` runs; index is the unit.
pub(crate) fn busy_units(
    t: &Timeline,
    device: u32,
    units: i64,
    of: impl Fn(crate::trace::activity::OpRef) -> bool,
) -> Vec<bool> {
    let mut busy = vec![false; units as usize];
    for op in t.ops_by_start() {
        if t.op_device(op) == device as usize && of(op) {
            for unit in t.op_start_ns(op) / UNIT_NS..t.op_end_ns(op) / UNIT_NS {
                busy[unit as usize] = true;
            }
        }
    }
    busy
}
