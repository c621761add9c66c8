//! Device work on the tracks of its streams, with an arrow from the call that launched it, and counters.

use std::io;

use super::WriteOptions;
use super::layout::{Layout, Stack};
use super::out::{Out, Track};
use crate::trace::activity::{CopyKind, LaunchConfig, MemoryKind, OpKind, OpRef, SyncKind};
use crate::trace::places::NO_ROW;
use crate::trace::timeline::Timeline;

/// Writes all device events. `call_tracks` has the thread of each API call in the export, 0 for one that was left out.
pub(super) fn write(
    timeline: &Timeline,
    layout: &mut Layout,
    call_tracks: &[u64],
    out: &mut Out<'_>,
    options: &WriteOptions,
) -> io::Result<()> {
    let mut stacks: Vec<Stack> = timeline.streams.iter().map(|_| Stack::default()).collect();
    let mut has_arrow = vec![false; timeline.api.len()];
    for op in timeline.ops_by_start() {
        let (start_ns, end_ns) = (timeline.op_start_ns(op), timeline.op_end_ns(op));
        if !options.wants(start_ns, end_ns) {
            continue;
        }
        let row = timeline.op_stream(op);
        let track = place(timeline, layout, &mut stacks[row], row, "overlapping", (start_ns, end_ns), out)?;
        operation(timeline, op, track, out)?;
        // An arrow needs an event at both ends.
        if let Some(call) = timeline.op_call(op).filter(|call| call_tracks[*call] != 0)
            && !std::mem::replace(&mut has_arrow[call], true)
        {
            let pid = layout.threads[timeline.api.thread[call] as usize].pid;
            let from = Track { pid, tid: call_tracks[call] };
            for (phase, track, time_ns) in [('s', from, timeline.api.start_ns[call]), ('f', track, start_ns)] {
                out.begin(phase, "ac2g", "ac2g", track)?;
                out.time("ts", time_ns)?;
                out.raw("id", call + 1)?;
                if phase == 'f' {
                    out.raw("bp", "\"e\"")?;
                }
                out.end()?;
            }
        }
    }
    syncs(timeline, layout, out, options)?;
    counters(timeline, layout, out, options)
}

/// The track of a stream on which a span has room, a new one if need be.
fn place(
    timeline: &Timeline,
    layout: &mut Layout,
    stack: &mut Stack,
    stream: usize,
    what: &str,
    (start_ns, end_ns): (i64, i64),
    out: &mut Out<'_>,
) -> io::Result<Track> {
    if let Some(track) = stack.place(start_ns, end_ns, false) {
        return Ok(track);
    }
    let own = layout.streams[stream];
    let track = if stack.len() == 0 && what == "overlapping" {
        own
    } else {
        let id = timeline.streams[stream].stream;
        let name =
            if id == u64::MAX { format!("context, {what}") } else { format!("stream {id}, {what} {}", stack.len()) };
        layout.extra(own, &name, out)?
    };
    stack.add(track, end_ns);
    Ok(track)
}

fn operation(timeline: &Timeline, op: OpRef, track: Track, out: &mut Out<'_>) -> io::Result<()> {
    let row = op.row();
    let (start_ns, end_ns) = (timeline.op_start_ns(op), timeline.op_end_ns(op));
    let mut node = 0;
    match op.kind() {
        OpKind::Kernel => {
            let kernels = &timeline.kernels;
            let name = timeline.kernel_names[kernels.name[row] as usize].demangled;
            out.span("kernel", timeline.text(name), track, start_ns, end_ns)?;
            config(&timeline.launch_configs[kernels.config[row] as usize], out)?;
            if let Some(range) = kernels.operator_range(row) {
                out.arg("External id", range + 1)?;
            }
            node = kernels.node(row).unwrap_or(0);
        }
        OpKind::Copy => {
            let copies = &timeline.copies;
            let name = copy_name(copies.kind[row], copies.source[row], copies.destination[row]);
            out.span("gpu_memcpy", &name, track, start_ns, end_ns)?;
            out.arg("bytes", copies.bytes[row])?;
            node = copies.graph_node.get(row).copied().unwrap_or(0);
        }
        OpKind::Memset => {
            let memsets = &timeline.memsets;
            let name = format!("Memset ({})", memory_name(memsets.memory[row]));
            out.span("gpu_memset", &name, track, start_ns, end_ns)?;
            out.arg("bytes", memsets.bytes[row])?;
            node = memsets.graph_node.get(row).copied().unwrap_or(0);
        }
        OpKind::Graph => {
            let name = format!("graph {}", timeline.graphs.graph[row]);
            out.span("cuda_graph", &name, track, start_ns, end_ns)?;
            out.arg("graph id", timeline.graphs.graph[row])?;
            out.arg("graph exec id", timeline.graphs.executable[row])?;
        }
    }
    if node != 0 {
        out.arg("graph node id", node)?;
    }
    place_args(timeline, timeline.op_stream(op), timeline.op_correlation(op), out)?;
    out.end()
}

fn place_args(timeline: &Timeline, stream: usize, correlation: u32, out: &mut Out<'_>) -> io::Result<()> {
    let stream = timeline.streams[stream];
    out.arg("device", stream.ordinal)?;
    out.arg("context", stream.context)?;
    if stream.stream == u64::MAX {
        out.arg("stream", -1)?;
    } else {
        out.arg("stream", stream.stream)?;
    }
    if correlation != 0 {
        out.arg("correlation", correlation)?;
    }
    Ok(())
}

fn config(config: &LaunchConfig, out: &mut Out<'_>) -> io::Result<()> {
    for (key, [x, y, z]) in [("grid", config.grid), ("block", config.block)] {
        if x != 0 {
            out.arg(key, format_args!("[{x}, {y}, {z}]"))?;
        }
    }
    if let Some(registers) = config.registers {
        out.arg("registers per thread", registers)?;
    }
    // Kineto has the sum of the two.
    if config.static_shared_bytes.is_some() || config.dynamic_shared_bytes.is_some() {
        let [fixed, dynamic] = [config.static_shared_bytes, config.dynamic_shared_bytes].map(Option::unwrap_or_default);
        out.arg("shared memory", u64::from(fixed) + u64::from(dynamic))?;
    }
    Ok(())
}

fn syncs(timeline: &Timeline, layout: &mut Layout, out: &mut Out<'_>, options: &WriteOptions) -> io::Result<()> {
    // Records of waiting are on the host's clock and lie over the work that is waited for, so they have tracks of their own.
    let mut stacks: Vec<Stack> = timeline.streams.iter().map(|_| Stack::default()).collect();
    let syncs = &timeline.syncs;
    for row in 0..syncs.len() {
        let span = (syncs.start_ns[row], syncs.end_ns[row]);
        if !options.wants(span.0, span.1) {
            continue;
        }
        let stream = syncs.stream[row] as usize;
        let track = place(timeline, layout, &mut stacks[stream], stream, "waits", span, out)?;
        let name = match syncs.kind[row] {
            SyncKind::EVENT => "Event Sync",
            SyncKind::STREAM_WAIT_EVENT => "Stream Wait Event",
            SyncKind::STREAM => "Stream Sync",
            SyncKind::CONTEXT => "Context Sync",
            _ => "Unknown Sync",
        };
        out.span("cuda_sync", name, track, span.0, span.1)?;
        out.arg_text("cuda_sync_kind", name)?;
        if syncs.event[row] != 0 {
            out.arg("wait_on_cuda_event_id", syncs.event[row])?;
        }
        place_args(timeline, stream, syncs.correlation[row], out)?;
        out.end()?;
    }
    let events = &timeline.events;
    for row in 0..events.time_ns.len() {
        let time_ns = events.time_ns[row];
        // Without a time there is nothing to show.
        if time_ns == i64::MIN || !options.wants(time_ns, time_ns) {
            continue;
        }
        let stream = events.stream[row] as usize;
        let track = place(timeline, layout, &mut stacks[stream], stream, "waits", (time_ns, time_ns), out)?;
        out.span("cuda_event", "cudaEvent", track, time_ns, time_ns)?;
        out.arg("event_id", events.event[row])?;
        place_args(timeline, stream, events.correlation[row], out)?;
        out.end()?;
    }
    Ok(())
}

fn counters(timeline: &Timeline, layout: &Layout, out: &mut Out<'_>, options: &WriteOptions) -> io::Result<()> {
    let samples = &timeline.metric_samples;
    for row in 0..samples.len() {
        let (time_ns, value) = (samples.time_ns[row], samples.value[row]);
        if !options.wants(time_ns, time_ns) || !value.is_finite() {
            continue;
        }
        let device = timeline.devices.iter().position(|device| device.ordinal == u32::from(samples.gpu[row]));
        let pid = device.map_or(layout.thread(NO_ROW).pid, |device| layout.devices[device]);
        out.begin('C', "", timeline.text(samples.metric[row]), Track { pid, tid: 0 })?;
        out.time("ts", time_ns)?;
        out.arg("value", value)?;
        out.end()?;
    }
    let allocations = &timeline.allocations;
    for row in 0..allocations.len() {
        let (time_ns, device) = (allocations.time_ns[row], allocations.device[row]);
        if !options.wants(time_ns, time_ns) {
            continue;
        }
        let pid = layout.devices.get(device as usize).copied().unwrap_or(layout.thread(NO_ROW).pid);
        let track = Track { pid, tid: 0 };
        out.begin('i', "cpu_instant_event", "[memory]", track)?;
        out.time("ts", time_ns)?;
        out.raw("s", "\"t\"")?;
        out.arg("Bytes", allocations.bytes[row])?;
        out.arg("Device Type", 1)?;
        if let Some(device) = timeline.devices.get(device as usize) {
            out.arg("Device Id", device.ordinal)?;
        }
        let total = allocations.total_bytes[row];
        if total >= 0 {
            out.arg("Total Allocated", total)?;
        }
        out.end()?;
        if total >= 0 {
            out.begin('C', "", "allocated device memory", track)?;
            out.time("ts", time_ns)?;
            out.arg("bytes", total)?;
            out.end()?;
        }
    }
    Ok(())
}

/// The name Kineto gives a copy.
fn copy_name(kind: CopyKind, source: MemoryKind, destination: MemoryKind) -> String {
    const SHORT: [&str; 14] =
        ["?", "HtoD", "DtoH", "HtoA", "AtoH", "AtoA", "AtoD", "DtoA", "DtoD", "HtoH", "PtoP", "HtoD", "DtoH", "DtoD"];
    let kind = SHORT.get(usize::from(kind.0)).copied().unwrap_or("?");
    format!("Memcpy {kind} ({} -> {})", memory_name(source), memory_name(destination))
}

fn memory_name(kind: MemoryKind) -> &'static str {
    const NAMES: [&str; 8] =
        ["Unknown", "Pageable", "Pinned", "Device", "Array", "Managed", "Device Static", "Managed Static"];
    NAMES.get(usize::from(kind.0)).copied().unwrap_or("Unknown")
}
