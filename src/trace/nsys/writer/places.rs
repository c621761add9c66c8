//! Tables of processes, threads, devices and streams, of the capture itself, and the enumerations.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::params;

use super::super::super::places::{Device, GraphMode, NO_ROW};
use super::activity::stream_id;
use super::{SCHEMA_VERSION, Sink, ids, schema};

pub(super) fn write(sink: &Sink<'_>) -> rusqlite::Result<()> {
    capture(sink)?;
    processes(sink)?;
    devices(sink)?;
    messages(sink)?;
    enumerations(sink)
}

fn capture(sink: &Sink<'_>) -> rusqlite::Result<()> {
    let timeline = sink.timeline;
    let mut versions = SCHEMA_VERSION.split('.');
    let mut next = || versions.next().unwrap_or("0").to_owned();
    let export = [
        ("EXPORT_PRODUCT_NAME", "perfprof".to_owned()),
        ("EXPORT_PRODUCT_VERSION", env!("CARGO_PKG_VERSION").to_owned()),
        ("EXPORT_SCHEMA_VERSION", SCHEMA_VERSION.to_owned()),
        ("EXPORT_SCHEMA_VERSION_MAJOR", next()),
        ("EXPORT_SCHEMA_VERSION_MINOR", next()),
        ("EXPORT_SCHEMA_VERSION_MICRO", next()),
    ];
    sink.table(&schema::META_DATA_EXPORT, export.len(), |statement, row| {
        statement.execute(params![export[row].0, export[row].1])
    })?;

    let mut capture: Vec<(&str, String)> = Vec::new();
    for source in &timeline.sources {
        let tool = [source.tool.as_str(), source.version.as_deref().unwrap_or_default()].join(" ");
        capture.push(("PERFPROF_SOURCE", tool.trim_end().to_owned()));
        match source.graph_mode {
            GraphMode::Unknown => {}
            GraphMode::Graph => capture.push(("CUDA_GRAPH_TRACE_OPTIONS:MODE", "Graph".to_owned())),
            GraphMode::Node => capture.push(("CUDA_GRAPH_TRACE_OPTIONS:MODE", "Node".to_owned())),
        }
        if let Some(skipped) = source.skipped_api_calls {
            capture.push(("CUDA_SKIP_SOME_API_CALLS", skipped.to_string()));
        }
    }
    sink.table(&schema::META_DATA_CAPTURE, capture.len(), |statement, row| {
        statement.execute(params![capture[row].0, capture[row].1])
    })?;

    if let Some(epoch_ns) = timeline.sources.iter().find_map(|source| source.epoch_ns) {
        let time = jiff::Timestamp::from_nanosecond(i128::from(epoch_ns)).ok();
        let text = time.map(|time| time.strftime("%Y-%m-%dT%H:%M:%S").to_string());
        sink.table(&schema::SESSION_START, 1, |statement, _| statement.execute(params![epoch_ns, text]))?;
    }
    let starts =
        [&timeline.kernels.start_ns, &timeline.copies.start_ns, &timeline.memsets.start_ns, &timeline.api.start_ns];
    let ends = [&timeline.kernels.end_ns, &timeline.copies.end_ns, &timeline.memsets.end_ns, &timeline.api.end_ns];
    let first = starts.iter().filter_map(|column| column.iter().min()).chain(timeline.graphs.start_ns.iter()).min();
    let last = ends.iter().filter_map(|column| column.iter().max()).chain(timeline.graphs.end_ns.iter()).max();
    if let (Some(first), Some(last)) = (first, last) {
        sink.table(&schema::ANALYSIS_DETAILS, 1, |statement, _| {
            statement.execute(params![0, last.saturating_sub(*first), first, last])
        })?;
    }
    Ok(())
}

fn processes(sink: &Sink<'_>) -> rusqlite::Result<()> {
    let timeline = sink.timeline;
    let active: Vec<u32> = (0..timeline.processes.len() as u32).filter(|row| sink.ids.active[*row as usize]).collect();
    sink.table(&schema::PROCESSES, active.len(), |statement, row| {
        let process = &timeline.processes[active[row] as usize];
        let name = process.name.map(|name| timeline.text(name));
        statement.execute(params![sink.ids.process(active[row]), process.pid, name])
    })?;
    let named: Vec<(u32, i64)> = timeline
        .threads
        .iter()
        .enumerate()
        .filter_map(|(row, thread)| thread.name.map(|name| (row as u32, sink.text(name))))
        .collect();
    sink.table(&schema::THREAD_NAMES, named.len(), |statement, row| {
        statement.execute(params![named[row].1, sink.ids.thread(named[row].0)])
    })
}

/// UUID, or PCI address (`0000:01:00.0`).
fn identity(device: &Device) -> (Option<&str>, Option<&str>) {
    match device.identity.as_deref() {
        Some(text) if text.contains(':') => (None, Some(text)),
        text => (text, None),
    }
}

fn devices(sink: &Sink<'_>) -> rusqlite::Result<()> {
    let timeline = sink.timeline;
    let whole = |value: Option<f64>| value.map(|value| value.round() as i64);
    let vm = timeline.processes.first().map_or(0, |_| sink.ids.process(0).unwrap_or(0) & !0xFFFF_FFFF_FFFF);
    sink.table(&schema::GPU, timeline.devices.len(), |statement, row| {
        let device = &timeline.devices[row];
        let (uuid, bus) = identity(device);
        statement.execute(params![
            vm,
            row as i64,
            device.name,
            bus,
            device.l2_bytes.map(u64::cast_signed),
            device.memory_bytes.map(u64::cast_signed),
            whole(device.bandwidth_bytes_per_s),
            whole(device.clock_hz),
            device.sm_count,
            uuid,
            device.ordinal,
            device.max_warps_per_sm,
            device.compute_capability.map(|version| version.0),
            device.compute_capability.map(|version| version.1),
        ])
    })?;
    let pid = |process: u32| timeline.processes.get(process as usize).map_or(0, |process| process.pid);
    let used: Vec<(u32, u32, u32)> = timeline
        .streams
        .iter()
        .map(|stream| (pid(stream.process), stream.ordinal, stream.device))
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    sink.table(&schema::CUDA_DEVICE, used.len(), |statement, row| {
        let (pid, ordinal, gpu) = used[row];
        let device = timeline.devices.get(gpu as usize);
        let uuid = device.and_then(|device| identity(device).0);
        statement.execute(params![gpu, ordinal, pid, uuid, device.and_then(|device| device.sm_count)])
    })?;
    let contexts: Vec<(u32, u32, u32)> = timeline
        .streams
        .iter()
        .map(|stream| (stream.process, stream.ordinal, stream.context))
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    sink.table(&schema::CONTEXT_INFO, contexts.len(), |statement, row| {
        let (process, ordinal, context) = contexts[row];
        let (hardware, vm, pid) = ids::parts(sink.ids.process(process).unwrap_or(0));
        statement.execute(params![hardware, vm, pid, ordinal, context])
    })?;
    let streams: Vec<_> = timeline.streams.iter().filter(|stream| stream.stream != u64::MAX).collect();
    sink.table(&schema::CUDA_STREAM, streams.len(), |statement, row| {
        let stream = streams[row];
        let (hardware, vm, pid) = ids::parts(sink.ids.process(stream.process).unwrap_or(0));
        statement.execute(params![stream_id(stream), hardware, vm, pid, stream.context, 0])
    })
}

fn messages(sink: &Sink<'_>) -> rusqlite::Result<()> {
    let messages = &sink.timeline.messages;
    sink.table(&schema::DIAGNOSTIC_EVENT, messages.len(), |statement, row| {
        let message = &messages[row];
        let process = (message.process != NO_ROW).then(|| sink.ids.process(message.process)).flatten();
        statement.execute(params![
            message.time_ns.unwrap_or(0),
            i64::from(message.time_ns.is_some()),
            0,
            message.severity,
            message.text,
            process,
        ])
    })
}

fn enumerations(sink: &Sink<'_>) -> rusqlite::Result<()> {
    for (name, entries) in schema::ENUMS {
        let mut rows: BTreeMap<i64, (&str, &str)> =
            entries.iter().map(|(id, name, label)| (*id, (*name, *label))).collect();
        if *name == schema::MEMCPY_OPER {
            for (kind, label) in sink.timeline.copy_labels.iter().filter(|(_, label)| !label.is_empty()) {
                rows.entry(i64::from(*kind)).or_insert(("", "")).1 = label;
            }
        }
        sink.db.execute_batch(&format!("CREATE TABLE {name} ({})", schema::ENUM_COLUMNS))?;
        let mut statement = sink.db.prepare(&format!("INSERT INTO {name} VALUES (?, ?, ?)"))?;
        for (id, (symbol, label)) in rows {
            statement.execute(params![id, symbol, label])?;
        }
    }
    Ok(())
}
