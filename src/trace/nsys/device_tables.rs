//! Tables of what ran on devices: kernels, copies, memory sets, whole graphs, synchronisation, events.

use rusqlite::types::ValueRef;
use rustc_hash::FxHashMap;

use super::assembly::{Assembly, StreamKey};
use super::cells::{Cells, NULL_ID, Reason};
use super::local::{Local, Names};
use super::scan::Chunk;
use super::schema::Column;
use crate::trace::activity::{CopyKind, KernelName, LaunchConfig, MemoryKind, SyncKind};
use crate::trace::import::ReadError;

/// Columns every table of device work has, in the order [`device_row`] reads them after begin and end.
const DEVICE: Column = &["deviceId"];
const CONTEXT: Column = &["contextId"];
const STREAM: Column = &["streamId"];
const CORRELATION: Column = &["correlationId"];
const GLOBAL_PID: Column = &["globalPid"];
const START: Column = &["start"];
const END: Column = &["end"];
const NODE: Column = &["graphNodeId"];

/// Stream and correlation id of a row whose columns from `at` on are device, context, stream, correlation id and process.
fn stream_of(cells: Cells<'_>, at: usize) -> Result<(StreamKey, u32), Reason> {
    let key = StreamKey {
        device: cells.u32_or_0(at)?,
        context: cells.u32_or_0(at + 1)?,
        stream: cells.int_or(at + 2, 0)?,
        global_pid: cells.int_or(at + 4, NULL_ID)?,
    };
    Ok((key, cells.u32_or_0(at + 3)?))
}

/// Appends a stretch of a column that stays empty until its first value.
fn append_sparse(column: &mut Vec<u64>, before: usize, stretch: Vec<u64>) {
    if stretch.iter().any(|value| *value != 0) && column.is_empty() {
        column.resize(before, 0);
    }
    if !column.is_empty() || stretch.iter().any(|value| *value != 0) {
        column.extend(stretch);
    }
}

fn map_rows(rows: Vec<u32>, to: &[u32]) -> impl Iterator<Item = u32> {
    rows.into_iter().map(|row| to[row as usize])
}

/// Reserves all of what a table will need, so that its columns never hold twice the memory.
macro_rules! reserve {
    ($table:expr, $expected:expr, $($column:ident),*) => {
        if $table.start_ns.capacity() < $expected { $( $table.$column.reserve_exact($expected - $table.start_ns.len().min($expected)); )* }
    };
}

/// `CUPTI_ACTIVITY_KIND_KERNEL`.
#[derive(Default)]
pub(super) struct KernelChunk {
    start: Vec<i64>,
    end: Vec<i64>,
    name: Vec<u32>,
    stream: Vec<u32>,
    correlation: Vec<u32>,
    config: Vec<u32>,
    node: Vec<u64>,
    any_node: bool,
    names: Names,
    kernels: Local<(u32, u32, u32)>,
    ids: FxHashMap<(i64, i64, i64), u32>,
    streams: Local<StreamKey>,
    configs: Local<LaunchConfig>,
}

/// No mangled name.
const NO_NAME: u32 = u32::MAX;

impl KernelChunk {
    fn name(&mut self, cells: Cells<'_>) -> Result<u32, Reason> {
        let (demangled, short, mangled) = (cells.value(7), cells.value(8), cells.value(9));
        let id = |value| match value {
            ValueRef::Integer(id) => id,
            _ => NULL_ID,
        };
        let plain = matches!(
            (demangled, short, mangled),
            (ValueRef::Integer(_), ValueRef::Integer(_), ValueRef::Integer(_) | ValueRef::Null)
        );
        let key = (id(demangled), id(short), id(mangled));
        if plain && let Some(row) = self.ids.get(&key) {
            return Ok(*row);
        }
        let demangled = self.names.of(demangled)?;
        let short = match short {
            ValueRef::Null => demangled,
            short => self.names.of(short)?,
        };
        let mangled = match mangled {
            ValueRef::Null => NO_NAME,
            mangled => self.names.of(mangled)?,
        };
        let row = self.kernels.row((demangled, short, mangled));
        if plain {
            self.ids.insert(key, row);
        }
        Ok(row)
    }
}

impl Chunk for KernelChunk {
    const TABLE: &'static str = "CUPTI_ACTIVITY_KIND_KERNEL";
    const KIND: &'static str = "kernel";
    const COLUMNS: &'static [Column] = &[
        START,
        END,
        DEVICE,
        CONTEXT,
        STREAM,
        CORRELATION,
        GLOBAL_PID,
        &["demangledName", "long_kernel_name", "shortName", "kernel_name", "mangledName", "name"],
        &["shortName", "kernel_name"],
        &["mangledName"],
        &["registersPerThread"],
        &["gridX"],
        &["gridY"],
        &["gridZ"],
        &["blockX"],
        &["blockY"],
        &["blockZ"],
        &["staticSharedMemory"],
        &["dynamicSharedMemory"],
        &["localMemoryPerThread"],
        NODE,
        &["clusterX"],
        &["clusterY"],
        &["clusterZ"],
    ];
    const REQUIRED: usize = 2;

    fn push(&mut self, cells: Cells<'_>) -> Result<(), Reason> {
        let (start, end) = cells.device_interval(0, 1)?;
        let (stream, correlation) = stream_of(cells, 2)?;
        let name = self.name(cells)?;
        let three = |at: usize| [at, at + 1, at + 2].map(|at| cells.u32_lenient(at));
        let all = |[x, y, z]: [Option<u32>; 3]| Some([x?, y?, z?]);
        let config = LaunchConfig {
            grid: all(three(11)).unwrap_or_default(),
            block: all(three(14)).unwrap_or_default(),
            registers: cells.u32_lenient(10),
            static_shared_bytes: cells.u32_lenient(17),
            dynamic_shared_bytes: cells.u32_lenient(18),
            local_bytes_per_thread: cells.u32_lenient(19),
            cluster: all(three(21)).filter(|cluster| *cluster != [0; 3]),
        };
        let node = cells.int_or(20, 0)? as u64;
        self.start.push(start);
        self.end.push(end);
        self.name.push(name);
        self.stream.push(self.streams.row(stream));
        self.correlation.push(correlation);
        self.config.push(self.configs.row(config));
        self.node.push(node);
        self.any_node |= node != 0;
        Ok(())
    }

    fn merge(self, assembly: &mut Assembly<'_>, expected: usize) -> Result<(), ReadError> {
        let texts = assembly.names(&self.names, "<unnamed>")?;
        let streams = assembly.streams(&self.streams.keys);
        let timeline = &mut assembly.timeline;
        let before = timeline.kernels.len();
        let names: Vec<u32> = self
            .kernels
            .keys
            .iter()
            .map(|(demangled, short, mangled)| {
                timeline.kernel_name(KernelName {
                    demangled: texts[*demangled as usize],
                    short: texts[*short as usize],
                    mangled: texts.get(*mangled as usize).copied(),
                })
            })
            .collect();
        let configs: Vec<u32> = self.configs.keys.iter().map(|config| timeline.launch_config(*config)).collect();
        assembly.room(Self::TABLE, before, self.start.len())?;
        let kernels = &mut assembly.timeline.kernels;
        reserve!(kernels, expected, start_ns, end_ns, name, stream, correlation, config);
        append_sparse(
            &mut kernels.graph_node,
            before,
            if self.any_node { self.node } else { vec![0; self.start.len()] },
        );
        kernels.start_ns.extend(self.start);
        kernels.end_ns.extend(self.end);
        kernels.name.extend(map_rows(self.name, &names));
        kernels.stream.extend(map_rows(self.stream, &streams));
        kernels.correlation.extend(self.correlation);
        kernels.config.extend(map_rows(self.config, &configs));
        Ok(())
    }
}

/// `CUPTI_ACTIVITY_KIND_MEMCPY`.
#[derive(Default)]
pub(super) struct CopyChunk {
    start: Vec<i64>,
    end: Vec<i64>,
    stream: Vec<u32>,
    correlation: Vec<u32>,
    bytes: Vec<u64>,
    kind: Vec<CopyKind>,
    source: Vec<MemoryKind>,
    destination: Vec<MemoryKind>,
    node: Vec<u64>,
    streams: Local<StreamKey>,
}

impl Chunk for CopyChunk {
    const TABLE: &'static str = "CUPTI_ACTIVITY_KIND_MEMCPY";
    const KIND: &'static str = "memcpy";
    const COLUMNS: &'static [Column] = &[
        START,
        END,
        DEVICE,
        CONTEXT,
        STREAM,
        CORRELATION,
        GLOBAL_PID,
        &["bytes"],
        &["copyKind"],
        &["srcKind"],
        &["dstKind"],
        NODE,
    ];
    const REQUIRED: usize = 2;

    fn push(&mut self, cells: Cells<'_>) -> Result<(), Reason> {
        let (start, end) = cells.device_interval(0, 1)?;
        let (stream, correlation) = stream_of(cells, 2)?;
        let bytes = u64::try_from(cells.int_or(7, 0)?).map_err(|_| Reason::WrongType)?;
        let node = cells.int_or(11, 0)? as u64;
        self.start.push(start);
        self.end.push(end);
        self.stream.push(self.streams.row(stream));
        self.correlation.push(correlation);
        self.bytes.push(bytes);
        self.kind.push(CopyKind(cells.u8_lenient(8)));
        self.source.push(cells.memory_kind(9));
        self.destination.push(cells.memory_kind(10));
        self.node.push(node);
        Ok(())
    }

    fn merge(self, assembly: &mut Assembly<'_>, expected: usize) -> Result<(), ReadError> {
        let streams = assembly.streams(&self.streams.keys);
        let before = assembly.timeline.copies.len();
        assembly.room(Self::TABLE, before, self.start.len())?;
        let copies = &mut assembly.timeline.copies;
        reserve!(copies, expected, start_ns, end_ns, stream, correlation, bytes, kind, source, destination);
        append_sparse(&mut copies.graph_node, before, self.node);
        copies.start_ns.extend(self.start);
        copies.end_ns.extend(self.end);
        copies.stream.extend(map_rows(self.stream, &streams));
        copies.correlation.extend(self.correlation);
        copies.bytes.extend(self.bytes);
        copies.kind.extend(self.kind);
        copies.source.extend(self.source);
        copies.destination.extend(self.destination);
        Ok(())
    }
}

/// `CUPTI_ACTIVITY_KIND_MEMSET`.
#[derive(Default)]
pub(super) struct MemsetChunk {
    start: Vec<i64>,
    end: Vec<i64>,
    stream: Vec<u32>,
    correlation: Vec<u32>,
    bytes: Vec<u64>,
    value: Vec<u32>,
    memory: Vec<MemoryKind>,
    node: Vec<u64>,
    streams: Local<StreamKey>,
}

impl Chunk for MemsetChunk {
    const TABLE: &'static str = "CUPTI_ACTIVITY_KIND_MEMSET";
    const KIND: &'static str = "memset";
    const COLUMNS: &'static [Column] =
        &[START, END, DEVICE, CONTEXT, STREAM, CORRELATION, GLOBAL_PID, &["bytes"], &["value"], &["memKind"], NODE];
    const REQUIRED: usize = 2;

    fn push(&mut self, cells: Cells<'_>) -> Result<(), Reason> {
        let (start, end) = cells.device_interval(0, 1)?;
        let (stream, correlation) = stream_of(cells, 2)?;
        let bytes = u64::try_from(cells.int_or(7, 0)?).map_err(|_| Reason::WrongType)?;
        let node = cells.int_or(10, 0)? as u64;
        self.start.push(start);
        self.end.push(end);
        self.stream.push(self.streams.row(stream));
        self.correlation.push(correlation);
        self.bytes.push(bytes);
        // The low 32 bits, whatever sign the exporter gave them.
        self.value.push(cells.int(8).ok().flatten().unwrap_or(0) as u32);
        self.memory.push(cells.memory_kind(9));
        self.node.push(node);
        Ok(())
    }

    fn merge(self, assembly: &mut Assembly<'_>, expected: usize) -> Result<(), ReadError> {
        let streams = assembly.streams(&self.streams.keys);
        let before = assembly.timeline.memsets.len();
        assembly.room(Self::TABLE, before, self.start.len())?;
        let memsets = &mut assembly.timeline.memsets;
        reserve!(memsets, expected, start_ns, end_ns, stream, correlation, bytes, value, memory);
        append_sparse(&mut memsets.graph_node, before, self.node);
        memsets.start_ns.extend(self.start);
        memsets.end_ns.extend(self.end);
        memsets.stream.extend(map_rows(self.stream, &streams));
        memsets.correlation.extend(self.correlation);
        memsets.bytes.extend(self.bytes);
        memsets.value.extend(self.value);
        memsets.memory.extend(self.memory);
        Ok(())
    }
}

/// `CUPTI_ACTIVITY_KIND_GRAPH_TRACE`.
#[derive(Default)]
pub(super) struct GraphChunk {
    start: Vec<i64>,
    end: Vec<i64>,
    stream: Vec<u32>,
    correlation: Vec<u32>,
    graph: Vec<u32>,
    executable: Vec<u32>,
    streams: Local<StreamKey>,
}

impl Chunk for GraphChunk {
    const TABLE: &'static str = "CUPTI_ACTIVITY_KIND_GRAPH_TRACE";
    const KIND: &'static str = "graph_trace";
    const COLUMNS: &'static [Column] =
        &[START, END, DEVICE, CONTEXT, STREAM, CORRELATION, GLOBAL_PID, &["graphId"], &["graphExecId"]];
    const REQUIRED: usize = 2;

    fn push(&mut self, cells: Cells<'_>) -> Result<(), Reason> {
        let (start, end) = cells.device_interval(0, 1)?;
        let (stream, correlation) = stream_of(cells, 2)?;
        self.start.push(start);
        self.end.push(end);
        self.stream.push(self.streams.row(stream));
        self.correlation.push(correlation);
        self.graph.push(cells.u32_lenient(7).unwrap_or(0));
        self.executable.push(cells.u32_lenient(8).unwrap_or(0));
        Ok(())
    }

    fn merge(self, assembly: &mut Assembly<'_>, expected: usize) -> Result<(), ReadError> {
        let streams = assembly.streams(&self.streams.keys);
        assembly.room(Self::TABLE, assembly.timeline.graphs.len(), self.start.len())?;
        let graphs = &mut assembly.timeline.graphs;
        reserve!(graphs, expected, start_ns, end_ns, stream, correlation, graph, executable);
        graphs.start_ns.extend(self.start);
        graphs.end_ns.extend(self.end);
        graphs.stream.extend(map_rows(self.stream, &streams));
        graphs.correlation.extend(self.correlation);
        graphs.graph.extend(self.graph);
        graphs.executable.extend(self.executable);
        Ok(())
    }
}

/// `CUPTI_ACTIVITY_KIND_SYNCHRONIZATION`.
#[derive(Default)]
pub(super) struct SyncChunk {
    start: Vec<i64>,
    end: Vec<i64>,
    stream: Vec<u32>,
    correlation: Vec<u32>,
    kind: Vec<SyncKind>,
    event: Vec<u32>,
    streams: Local<StreamKey>,
}

impl Chunk for SyncChunk {
    const TABLE: &'static str = "CUPTI_ACTIVITY_KIND_SYNCHRONIZATION";
    const KIND: &'static str = "synchronization";
    const COLUMNS: &'static [Column] = &[
        START,
        END,
        DEVICE,
        CONTEXT,
        STREAM,
        CORRELATION,
        GLOBAL_PID,
        &["syncType", "deprecatedSyncType"],
        &["eventId"],
    ];
    const REQUIRED: usize = 2;

    fn push(&mut self, cells: Cells<'_>) -> Result<(), Reason> {
        let (start, end) = cells.device_interval(0, 1)?;
        let (stream, correlation) = stream_of(cells, 2)?;
        self.start.push(start);
        self.end.push(end);
        self.stream.push(self.streams.row(stream));
        self.correlation.push(correlation);
        self.kind.push(SyncKind(cells.u8_lenient(7)));
        self.event.push(cells.u32_lenient(8).unwrap_or(0));
        Ok(())
    }

    fn merge(self, assembly: &mut Assembly<'_>, expected: usize) -> Result<(), ReadError> {
        let streams = assembly.streams(&self.streams.keys);
        assembly.room(Self::TABLE, assembly.timeline.syncs.len(), self.start.len())?;
        let syncs = &mut assembly.timeline.syncs;
        reserve!(syncs, expected, start_ns, end_ns, stream, correlation, kind, event);
        syncs.start_ns.extend(self.start);
        syncs.end_ns.extend(self.end);
        syncs.stream.extend(map_rows(self.stream, &streams));
        syncs.correlation.extend(self.correlation);
        syncs.kind.extend(self.kind);
        syncs.event.extend(self.event);
        Ok(())
    }
}

/// `CUPTI_ACTIVITY_KIND_CUDA_EVENT`.
#[derive(Default)]
pub(super) struct EventChunk {
    time: Vec<i64>,
    stream: Vec<u32>,
    correlation: Vec<u32>,
    event: Vec<u32>,
    streams: Local<StreamKey>,
}

impl Chunk for EventChunk {
    const TABLE: &'static str = "CUPTI_ACTIVITY_KIND_CUDA_EVENT";
    const KIND: &'static str = "cuda_event";
    const COLUMNS: &'static [Column] =
        &[DEVICE, CONTEXT, STREAM, CORRELATION, GLOBAL_PID, &["eventId"], &["timestamp"]];
    const REQUIRED: usize = 0;

    fn push(&mut self, cells: Cells<'_>) -> Result<(), Reason> {
        let (stream, correlation) = stream_of(cells, 0)?;
        let event = cells.u32_or_0(5)?;
        let time = match cells.int_or(6, 0)? {
            0 => i64::MIN,
            _ => cells.time(6)?,
        };
        self.time.push(time);
        self.stream.push(self.streams.row(stream));
        self.correlation.push(correlation);
        self.event.push(event);
        Ok(())
    }

    fn merge(self, assembly: &mut Assembly<'_>, _: usize) -> Result<(), ReadError> {
        let streams = assembly.streams(&self.streams.keys);
        assembly.room(Self::TABLE, assembly.timeline.events.len(), self.time.len())?;
        let events = &mut assembly.timeline.events;
        events.time_ns.extend(self.time);
        events.stream.extend(map_rows(self.stream, &streams));
        events.correlation.extend(self.correlation);
        events.event.extend(self.event);
        Ok(())
    }
}
