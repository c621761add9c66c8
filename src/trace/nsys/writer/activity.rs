//! Tables of device work.

use rusqlite::params;

use super::super::super::places::Stream;
use super::schema;
use super::{Sink, known, known_wide};

/// The stream id that exports give to a wait for a whole context.
const WHOLE_CONTEXT: i64 = 0xFFFF_FFFF;

pub(super) fn write(sink: &Sink<'_>) -> rusqlite::Result<()> {
    kernels(sink)?;
    copies(sink)?;
    memsets(sink)?;
    graphs(sink)?;
    syncs(sink)?;
    events(sink)
}

pub(super) fn stream_id(stream: &Stream) -> i64 {
    if stream.stream == u64::MAX { WHOLE_CONTEXT } else { stream.stream.cast_signed() }
}

fn kernels(sink: &Sink<'_>) -> rusqlite::Result<()> {
    let timeline = sink.timeline;
    let kernels = &timeline.kernels;
    // A name is resolved once, not once for each launch.
    let names: Vec<_> = timeline
        .kernel_names
        .iter()
        .map(|name| (sink.text(name.demangled), sink.text(name.short), name.mangled.map(|name| sink.text(name))))
        .collect();
    sink.table(&schema::KERNEL, kernels.len(), |statement, row| {
        let stream = &timeline.streams[kernels.stream[row] as usize];
        let (demangled, short, mangled) = names[kernels.name[row] as usize];
        let config = &timeline.launch_configs[kernels.config[row] as usize];
        let ([grid_x, grid_y, grid_z], [block_x, block_y, block_z]) = (config.grid, config.block);
        let [cluster_x, cluster_y, cluster_z] = config.cluster.map_or([None; 3], |cluster| cluster.map(Some));
        statement.execute(params![
            kernels.start_ns[row],
            kernels.end_ns[row],
            stream.ordinal,
            stream.context,
            stream_id(stream),
            known(kernels.correlation[row]),
            sink.ids.process(stream.process),
            demangled,
            short,
            mangled,
            config.registers,
            grid_x,
            grid_y,
            grid_z,
            block_x,
            block_y,
            block_z,
            config.static_shared_bytes,
            config.dynamic_shared_bytes,
            config.local_bytes_per_thread,
            kernels.node(row).and_then(known_wide),
            cluster_x,
            cluster_y,
            cluster_z,
        ])
    })
}

fn copies(sink: &Sink<'_>) -> rusqlite::Result<()> {
    let copies = &sink.timeline.copies;
    sink.table(&schema::MEMCPY, copies.len(), |statement, row| {
        let stream = &sink.timeline.streams[copies.stream[row] as usize];
        statement.execute(params![
            copies.start_ns[row],
            copies.end_ns[row],
            stream.ordinal,
            stream.context,
            stream_id(stream),
            known(copies.correlation[row]),
            sink.ids.process(stream.process),
            copies.bytes[row].cast_signed(),
            copies.kind[row].0,
            copies.source[row].to_nsys(),
            copies.destination[row].to_nsys(),
            copies.graph_node.get(row).copied().and_then(known_wide),
        ])
    })
}

fn memsets(sink: &Sink<'_>) -> rusqlite::Result<()> {
    let memsets = &sink.timeline.memsets;
    sink.table(&schema::MEMSET, memsets.len(), |statement, row| {
        let stream = &sink.timeline.streams[memsets.stream[row] as usize];
        statement.execute(params![
            memsets.start_ns[row],
            memsets.end_ns[row],
            stream.ordinal,
            stream.context,
            stream_id(stream),
            known(memsets.correlation[row]),
            sink.ids.process(stream.process),
            memsets.value[row],
            memsets.bytes[row].cast_signed(),
            memsets.graph_node.get(row).copied().and_then(known_wide),
            memsets.memory[row].to_nsys(),
        ])
    })
}

fn graphs(sink: &Sink<'_>) -> rusqlite::Result<()> {
    let graphs = &sink.timeline.graphs;
    sink.table(&schema::GRAPH_TRACE, graphs.len(), |statement, row| {
        let stream = &sink.timeline.streams[graphs.stream[row] as usize];
        statement.execute(params![
            graphs.start_ns[row],
            graphs.end_ns[row],
            stream.ordinal,
            stream.context,
            stream_id(stream),
            known(graphs.correlation[row]),
            sink.ids.process(stream.process),
            graphs.graph[row],
            graphs.executable[row],
        ])
    })
}

fn syncs(sink: &Sink<'_>) -> rusqlite::Result<()> {
    let syncs = &sink.timeline.syncs;
    sink.table(&schema::SYNCHRONIZATION, syncs.len(), |statement, row| {
        let stream = &sink.timeline.streams[syncs.stream[row] as usize];
        statement.execute(params![
            syncs.start_ns[row],
            syncs.end_ns[row],
            stream.ordinal,
            stream.context,
            stream_id(stream),
            known(syncs.correlation[row]),
            sink.ids.process(stream.process),
            syncs.kind[row].0,
            syncs.event[row],
        ])
    })
}

fn events(sink: &Sink<'_>) -> rusqlite::Result<()> {
    let events = &sink.timeline.events;
    sink.table(&schema::CUDA_EVENT, events.len(), |statement, row| {
        let stream = &sink.timeline.streams[events.stream[row] as usize];
        statement.execute(params![
            stream.ordinal,
            stream.context,
            stream_id(stream),
            known(events.correlation[row]),
            sink.ids.process(stream.process),
            events.event[row],
            Some(events.time_ns[row]).filter(|time| *time != i64::MIN),
        ])
    })
}
