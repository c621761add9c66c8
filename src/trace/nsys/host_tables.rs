//! Tables of what ran on the host: API calls, NVTX, calls of the operating system, overhead, graph creation; allocations and metric samples.

use rusqlite::types::ValueRef;
use rustc_hash::FxHashMap;

use super::assembly::Assembly;
use super::cells::{Cells, NULL_ID, Reason, checked_interval};
use super::local::{Local, Names};
use super::scan::Chunk;
use super::schema::Column;
use crate::trace::host::{ApiClass, OverheadOrigin, RangeKind};
use crate::trace::import::ReadError;
use crate::trace::places::NO_ROW;
use crate::trace::strings::StringId;

const START: Column = &["start"];
const END: Column = &["end"];
const GLOBAL_TID: Column = &["globalTid"];
const NAME: Column = &["nameId"];

fn map_ids(rows: Vec<u32>, to: &[StringId]) -> impl Iterator<Item = StringId> {
    rows.into_iter().map(|row| to[row as usize])
}

fn map_rows(rows: Vec<u32>, to: &[u32]) -> impl Iterator<Item = u32> {
    rows.into_iter().map(|row| to[row as usize])
}

/// `CUPTI_ACTIVITY_KIND_RUNTIME`, which holds calls of the driver as well.
#[derive(Default)]
pub(super) struct ApiChunk {
    start: Vec<i64>,
    end: Vec<i64>,
    thread: Vec<u32>,
    name: Vec<u32>,
    correlation: Vec<u32>,
    class: Vec<ApiClass>,
    result: Vec<i32>,
    threads: Local<i64>,
    names: Names,
}

impl Chunk for ApiChunk {
    const TABLE: &'static str = "CUPTI_ACTIVITY_KIND_RUNTIME";
    const KIND: &'static str = "runtime";
    const COLUMNS: &'static [Column] = &[
        START,
        END,
        &["nameId", "cuda_name", "name"],
        GLOBAL_TID,
        &["correlationId"],
        &["eventClass"],
        &["returnValue"],
    ];
    const REQUIRED: usize = 2;

    fn push(&mut self, cells: Cells<'_>) -> Result<(), Reason> {
        let (start, end) = cells.interval(0, 1)?;
        let global_tid = cells.int_or(3, NULL_ID)?;
        let correlation = cells.u32_or_0(4)?;
        let class = u8::try_from(cells.int_or(5, 0)?).map_err(|_| Reason::WrongType)?;
        let name = self.names.of(cells.value(2))?;
        self.start.push(start);
        self.end.push(end);
        self.thread.push(self.threads.row(global_tid));
        self.name.push(name);
        self.correlation.push(correlation);
        self.class.push(ApiClass(class));
        self.result.push(cells.int(6).ok().flatten().unwrap_or(0) as i32);
        Ok(())
    }

    fn merge(self, assembly: &mut Assembly<'_>, expected: usize) -> Result<(), ReadError> {
        let names = assembly.names(&self.names, "<unnamed>")?;
        let threads: Vec<u32> = self.threads.keys.iter().map(|key| assembly.thread(*key)).collect();
        let before = assembly.timeline.api.len();
        assembly.room(Self::TABLE, before, self.start.len())?;
        let api = &mut assembly.timeline.api;
        if before == 0 {
            api.start_ns.reserve_exact(expected);
            api.end_ns.reserve_exact(expected);
            api.thread.reserve_exact(expected);
            api.name.reserve_exact(expected);
            api.correlation.reserve_exact(expected);
            api.class.reserve_exact(expected);
            api.result.reserve_exact(expected);
        }
        api.start_ns.extend(self.start);
        api.end_ns.extend(self.end);
        api.thread.extend(map_rows(self.thread, &threads));
        api.name.extend(map_ids(self.name, &names));
        api.correlation.extend(self.correlation);
        api.class.extend(self.class);
        api.result.extend(self.result);
        Ok(())
    }
}

/// Event types of `NVTX_EVENTS` (`ENUM_NSYS_EVENT_TYPE`).
mod event {
    pub(super) const MARK: i64 = 34;
    pub(super) const PUSH_POP: i64 = 59;
    pub(super) const START_END: i64 = 60;
    pub(super) const IMPORTED_MARK: i64 = 65;
    pub(super) const IMPORTED_PUSH_POP: i64 = 70;
    pub(super) const IMPORTED_START_END: i64 = 71;
    pub(super) const DOMAIN: i64 = 75;
}

/// `NVTX_EVENTS`.
#[derive(Default)]
pub(super) struct NvtxChunk {
    start: Vec<i64>,
    end: Vec<i64>,
    /// Rows of this chunk that were never closed.
    open: Vec<u32>,
    thread: Vec<u32>,
    /// Rows that another thread ended, and that thread.
    end_threads: Vec<(u32, u32)>,
    kind: Vec<RangeKind>,
    name: Vec<u32>,
    domain: Vec<u32>,
    marks: Vec<(i64, u32, u32, u32)>,
    /// (thread, domain id) and name of each domain created.
    created: Vec<((u32, i64), u32)>,
    threads: Local<i64>,
    domains: Local<(u32, i64)>,
    names: Names,
}

impl Chunk for NvtxChunk {
    const TABLE: &'static str = "NVTX_EVENTS";
    const KIND: &'static str = "nvtx";
    const COLUMNS: &'static [Column] =
        &[START, &["eventType"], END, GLOBAL_TID, &["text"], &["textId"], &["domainId"], &["endGlobalTid"]];
    const REQUIRED: usize = 2;

    fn push(&mut self, cells: Cells<'_>) -> Result<(), Reason> {
        let kind = match cells.int(1)?.ok_or(Reason::WrongType)? {
            event::PUSH_POP => RangeKind::PushPop,
            event::START_END => RangeKind::StartEnd,
            event::IMPORTED_PUSH_POP => RangeKind::ImportedPushPop,
            event::IMPORTED_START_END => RangeKind::ImportedStartEnd,
            event::MARK | event::IMPORTED_MARK => {
                let (time, name) = (cells.time(0)?, self.names.of_both(cells.value(5), cells.value(4))?);
                let (thread, domain) = self.place(cells)?;
                self.marks.push((time, thread, name, domain));
                return Ok(());
            }
            event::DOMAIN => {
                let name = self.names.of_both(cells.value(5), cells.value(4))?;
                let thread = self.threads.row(cells.int_or(3, NULL_ID)?);
                self.created.push(((thread, cells.int_or(6, 0)?), name));
                return Ok(());
            }
            // Names of categories, threads and devices, payload schemas: no ranges.
            _ => return Ok(()),
        };
        let start = cells.time(0)?;
        let end = match cells.value(2) {
            ValueRef::Null => None,
            _ => Some(checked_interval(start, cells.time(2)?)?.1),
        };
        let end_tid = cells.int(7)?;
        let name = self.names.of_both(cells.value(5), cells.value(4))?;
        let (thread, domain) = self.place(cells)?;
        let row = self.start.len() as u32;
        if end.is_none() {
            self.open.push(row);
        }
        if let Some(end_tid) = end_tid {
            let end_thread = self.threads.row(end_tid);
            if end_thread != thread {
                self.end_threads.push((row, end_thread));
            }
        }
        self.start.push(start);
        self.end.push(end.unwrap_or(start));
        self.thread.push(thread);
        self.kind.push(kind);
        self.name.push(name);
        self.domain.push(domain);
        Ok(())
    }

    fn merge(self, assembly: &mut Assembly<'_>, expected: usize) -> Result<(), ReadError> {
        let names = assembly.names(&self.names, "")?;
        let threads: Vec<u32> = self.threads.keys.iter().map(|key| assembly.thread(*key)).collect();
        let process =
            |assembly: &Assembly<'_>, thread: u32| assembly.timeline.threads[threads[thread as usize] as usize].process;
        for ((thread, id), name) in &self.created {
            let key = (process(assembly, *thread), *id);
            assembly.domains.entry(key).or_insert(names[*name as usize]);
        }
        let domains: Vec<StringId> = self
            .domains
            .keys
            .iter()
            .map(|(thread, id)| {
                let process = process(assembly, *thread);
                assembly.domain_number(process, *id)
            })
            .collect();
        let before = assembly.timeline.ranges.len();
        let rows = self.start.len();
        assembly.room(Self::TABLE, before, rows)?;
        let ranges = &mut assembly.timeline.ranges;
        if before == 0 {
            ranges.start_ns.reserve_exact(expected);
            ranges.end_ns.reserve_exact(expected);
            ranges.thread.reserve_exact(expected);
            ranges.kind.reserve_exact(expected);
            ranges.name.reserve_exact(expected);
            ranges.domain.reserve_exact(expected);
        }
        ranges.open.extend(self.open.iter().map(|row| row + before as u32));
        if !self.end_threads.is_empty() && ranges.end_thread.is_empty() {
            ranges.end_thread.resize(before, NO_ROW);
        }
        if !self.end_threads.is_empty() || !ranges.end_thread.is_empty() {
            ranges.end_thread.resize(before + rows, NO_ROW);
        }
        for (row, thread) in &self.end_threads {
            ranges.end_thread[before + *row as usize] = threads[*thread as usize];
        }
        ranges.start_ns.extend(self.start);
        ranges.end_ns.extend(self.end);
        ranges.thread.extend(map_rows(self.thread, &threads));
        ranges.kind.extend(self.kind);
        ranges.name.extend(map_ids(self.name, &names));
        ranges.domain.extend(map_ids(self.domain, &domains));
        let marks = &mut assembly.timeline.marks;
        for (time, thread, name, domain) in self.marks {
            marks.time_ns.push(time);
            marks.thread.push(threads[thread as usize]);
            marks.name.push(names[name as usize]);
            marks.domain.push(domains[domain as usize]);
        }
        Ok(())
    }
}

impl NvtxChunk {
    /// Thread and domain of a row, numbered within the chunk.
    fn place(&mut self, cells: Cells<'_>) -> Result<(u32, u32), Reason> {
        let (thread, domain) = (cells.int_or(3, NULL_ID)?, cells.int_or(6, 0)?);
        let thread = self.threads.row(thread);
        Ok((thread, self.domains.row((thread, domain))))
    }
}

/// `OSRT_API`.
#[derive(Default)]
pub(super) struct OsCallChunk {
    rows: Vec<(i64, i64)>,
    thread: Vec<u32>,
    name: Vec<u32>,
    class: Vec<u8>,
    threads: Local<i64>,
    names: Names,
}

impl Chunk for OsCallChunk {
    const TABLE: &'static str = "OSRT_API";
    const KIND: &'static str = "osrt";
    const COLUMNS: &'static [Column] = &[START, END, NAME, GLOBAL_TID, &["eventClass"]];
    const REQUIRED: usize = 3;

    fn push(&mut self, cells: Cells<'_>) -> Result<(), Reason> {
        /// nsys' event class of a call of the operating system.
        const CALL: i64 = 27;
        let interval = cells.interval(0, 1)?;
        let thread = cells.int_or(3, NULL_ID)?;
        let class = u8::try_from(cells.int_or(4, CALL)?).map_err(|_| Reason::WrongType)?;
        let name = self.names.of(cells.value(2))?;
        self.rows.push(interval);
        self.thread.push(self.threads.row(thread));
        self.name.push(name);
        self.class.push(class);
        Ok(())
    }

    fn merge(self, assembly: &mut Assembly<'_>, _: usize) -> Result<(), ReadError> {
        let names = assembly.names(&self.names, "<unnamed>")?;
        let threads: Vec<u32> = self.threads.keys.iter().map(|key| assembly.thread(*key)).collect();
        assembly.room(Self::TABLE, assembly.timeline.os_calls.len(), self.rows.len())?;
        let calls = &mut assembly.timeline.os_calls;
        calls.start_ns.extend(self.rows.iter().map(|row| row.0));
        calls.end_ns.extend(self.rows.iter().map(|row| row.1));
        calls.thread.extend(map_rows(self.thread, &threads));
        calls.name.extend(map_ids(self.name, &names));
        calls.class.extend(self.class);
        Ok(())
    }
}

/// What the two tables of overhead have in common.
#[derive(Default)]
struct OverheadRows {
    rows: Vec<(i64, i64)>,
    thread: Vec<i64>,
    name: Vec<u32>,
    names: Names,
}

const OVERHEAD_COLUMNS: &[Column] = &[START, END, NAME, GLOBAL_TID];

impl OverheadRows {
    fn push(&mut self, cells: Cells<'_>) -> Result<(), Reason> {
        let interval = cells.interval(0, 1)?;
        let thread = cells.int_or(3, NULL_ID)?;
        let name = self.names.of(cells.value(2))?;
        self.rows.push(interval);
        self.thread.push(thread);
        self.name.push(name);
        Ok(())
    }
    fn merge(self, assembly: &mut Assembly<'_>, table: &str, origin: OverheadOrigin) -> Result<(), ReadError> {
        let names = assembly.names(&self.names, "<unnamed>")?;
        let threads: Vec<u32> = self.thread.iter().map(|key| assembly.thread_or_none(*key)).collect();
        assembly.room(table, assembly.timeline.overheads.len(), self.rows.len())?;
        let overheads = &mut assembly.timeline.overheads;
        overheads.origin.extend(std::iter::repeat_n(origin, self.rows.len()));
        overheads.start_ns.extend(self.rows.iter().map(|row| row.0));
        overheads.end_ns.extend(self.rows.iter().map(|row| row.1));
        overheads.thread.extend(threads);
        overheads.name.extend(map_ids(self.name, &names));
        Ok(())
    }
}

/// `PROFILER_OVERHEAD`.
#[derive(Default)]
pub(super) struct ProfilerOverheadChunk(OverheadRows);

impl Chunk for ProfilerOverheadChunk {
    const TABLE: &'static str = "PROFILER_OVERHEAD";
    const KIND: &'static str = "profiler_overhead";
    const COLUMNS: &'static [Column] = OVERHEAD_COLUMNS;
    const REQUIRED: usize = 2;

    fn push(&mut self, cells: Cells<'_>) -> Result<(), Reason> {
        self.0.push(cells)
    }
    fn merge(self, assembly: &mut Assembly<'_>, _: usize) -> Result<(), ReadError> {
        self.0.merge(assembly, Self::TABLE, OverheadOrigin::Profiler)
    }
}

/// `CUPTI_ACTIVITY_KIND_OVERHEAD`.
#[derive(Default)]
pub(super) struct CuptiOverheadChunk(OverheadRows);

impl Chunk for CuptiOverheadChunk {
    const TABLE: &'static str = "CUPTI_ACTIVITY_KIND_OVERHEAD";
    const KIND: &'static str = "cupti_overhead";
    const COLUMNS: &'static [Column] = OVERHEAD_COLUMNS;
    const REQUIRED: usize = 2;

    fn push(&mut self, cells: Cells<'_>) -> Result<(), Reason> {
        self.0.push(cells)
    }
    fn merge(self, assembly: &mut Assembly<'_>, _: usize) -> Result<(), ReadError> {
        self.0.merge(assembly, Self::TABLE, OverheadOrigin::Cupti)
    }
}

/// `CUDA_GRAPH_NODE_EVENTS`.
#[derive(Default)]
pub(super) struct GraphNodeChunk {
    rows: Vec<(i64, i64, i64, u32, u64, u64)>,
    names: Names,
}

impl Chunk for GraphNodeChunk {
    const TABLE: &'static str = "CUDA_GRAPH_NODE_EVENTS";
    const KIND: &'static str = "graph_node_events";
    const COLUMNS: &'static [Column] = &[START, END, &["graphNodeId"], NAME, GLOBAL_TID, &["originalGraphNodeId"]];
    const REQUIRED: usize = 3;

    fn push(&mut self, cells: Cells<'_>) -> Result<(), Reason> {
        let (start, end) = cells.interval(0, 1)?;
        let (node, original) = (cells.int_or(2, 0)? as u64, cells.int_or(5, 0)? as u64);
        let thread = cells.int_or(4, NULL_ID)?;
        let name = self.names.of(cells.value(3))?;
        self.rows.push((start, end, thread, name, node, original));
        Ok(())
    }

    fn merge(self, assembly: &mut Assembly<'_>, _: usize) -> Result<(), ReadError> {
        let names = assembly.names(&self.names, "<unnamed>")?;
        assembly.room(Self::TABLE, assembly.timeline.graph_nodes.len(), self.rows.len())?;
        for (start, end, thread, name, node, original) in self.rows {
            let thread = assembly.thread_or_none(thread);
            let nodes = &mut assembly.timeline.graph_nodes;
            nodes.start_ns.push(start);
            nodes.end_ns.push(end);
            nodes.thread.push(thread);
            nodes.name.push(names[name as usize]);
            nodes.node.push(node);
            nodes.original.push(original);
        }
        Ok(())
    }
}

/// `CUDA_GRAPH_EVENTS`. Before `CUDA_GRAPH_NODE_EVENTS` existed, it held the nodes as well.
#[derive(Default)]
pub(super) struct GraphEventChunk {
    rows: Vec<(i64, i64, i64, u32, [u32; 3])>,
    nodes: Vec<(i64, i64, i64, u32, u64, u64)>,
    names: Names,
}

impl Chunk for GraphEventChunk {
    const TABLE: &'static str = "CUDA_GRAPH_EVENTS";
    const KIND: &'static str = "graph_events";
    const COLUMNS: &'static [Column] = &[
        START,
        END,
        NAME,
        GLOBAL_TID,
        &["graphId"],
        &["originalGraphId"],
        &["graphExecId"],
        &["graphNodeId"],
        &["originalGraphNodeId"],
    ];
    const REQUIRED: usize = 2;

    fn push(&mut self, cells: Cells<'_>) -> Result<(), Reason> {
        let (start, end) = cells.interval(0, 1)?;
        let thread = cells.int_or(3, NULL_ID)?;
        let graphs = [cells.u32_or_0(4)?, cells.u32_or_0(5)?, cells.u32_or_0(6)?];
        let (node, original) = (cells.int_or(7, 0)? as u64, cells.int_or(8, 0)? as u64);
        let name = self.names.of(cells.value(2))?;
        if node == 0 {
            self.rows.push((start, end, thread, name, graphs));
        } else {
            self.nodes.push((start, end, thread, name, node, original));
        }
        Ok(())
    }

    fn merge(self, assembly: &mut Assembly<'_>, expected: usize) -> Result<(), ReadError> {
        let names = assembly.names(&self.names, "<unnamed>")?;
        assembly.room(Self::TABLE, assembly.timeline.graph_events.len(), self.rows.len())?;
        for (start, end, thread, name, [graph, original, executable]) in self.rows {
            let thread = assembly.thread_or_none(thread);
            let events = &mut assembly.timeline.graph_events;
            events.start_ns.push(start);
            events.end_ns.push(end);
            events.thread.push(thread);
            events.name.push(names[name as usize]);
            events.graph.push(graph);
            events.original.push(original);
            events.executable.push(executable);
        }
        GraphNodeChunk { rows: self.nodes, names: self.names }.merge(assembly, expected)
    }
}

/// `CUDA_GPU_MEMORY_USAGE_EVENTS`.
#[derive(Default)]
pub(super) struct AllocationChunk {
    rows: Vec<(i64, i64, u32, i64)>,
}

impl Chunk for AllocationChunk {
    const TABLE: &'static str = "CUDA_GPU_MEMORY_USAGE_EVENTS";
    const KIND: &'static str = "memory_usage";
    const COLUMNS: &'static [Column] =
        &[START, &["bytes"], &["memoryOperationType"], &["deviceId"], &["globalPid"], &["localMemoryPoolAddress"]];
    const REQUIRED: usize = 3;

    fn push(&mut self, cells: Cells<'_>) -> Result<(), Reason> {
        /// `memoryOperationType` of a release.
        const RELEASE: i64 = 1;
        let time = cells.time(0)?;
        let bytes = cells.int_or(1, 0)?;
        if bytes < 0 {
            return Err(Reason::WrongType);
        }
        let bytes = if cells.int_or(2, 0)? == RELEASE { -bytes } else { bytes };
        let (device, process) = (cells.u32_or_0(3)?, cells.int_or(4, NULL_ID)?);
        self.rows.push((time, process, device, bytes));
        Ok(())
    }

    fn merge(self, assembly: &mut Assembly<'_>, _: usize) -> Result<(), ReadError> {
        let mut devices = FxHashMap::default();
        assembly.room(Self::TABLE, assembly.timeline.allocations.len(), self.rows.len())?;
        for (time, process, device, bytes) in self.rows {
            let device = *devices.entry((process, device)).or_insert_with(|| {
                let process = assembly.process(process);
                let global = assembly.timeline.processes[process as usize].global_id;
                assembly.device(global, device)
            });
            let allocations = &mut assembly.timeline.allocations;
            allocations.time_ns.push(time);
            allocations.device.push(device);
            allocations.bytes.push(bytes);
            // nsys records no running total.
            allocations.total_bytes.push(-1);
        }
        Ok(())
    }
}

/// `GPU_METRICS`.
#[derive(Default)]
pub(super) struct MetricChunk {
    rows: Vec<(i64, i64, i64, f64)>,
}

impl Chunk for MetricChunk {
    const TABLE: &'static str = "GPU_METRICS";
    const KIND: &'static str = "gpu_metrics";
    const COLUMNS: &'static [Column] = &[&["timestamp"], &["typeId"], &["metricId"], &["value"]];
    const REQUIRED: usize = 4;

    fn push(&mut self, cells: Cells<'_>) -> Result<(), Reason> {
        let time = cells.time(0)?;
        let (kind, metric) = (cells.int_or(1, 0)?, cells.int_or(2, 0)?);
        let value = match cells.value(3) {
            ValueRef::Integer(value) => value as f64,
            ValueRef::Real(value) if value.is_finite() => value,
            _ => return Err(Reason::WrongType),
        };
        self.rows.push((time, kind, metric, value));
        Ok(())
    }

    fn merge(self, assembly: &mut Assembly<'_>, _: usize) -> Result<(), ReadError> {
        assembly.room(Self::TABLE, assembly.timeline.metric_samples.len(), self.rows.len())?;
        for (time, kind, metric, value) in self.rows {
            let text = assembly.facts.metric(kind, metric);
            let name = assembly.timeline.strings.intern(&text);
            let samples = &mut assembly.timeline.metric_samples;
            samples.time_ns.push(time);
            samples.gpu.push((kind & 0xFF) as u16);
            samples.metric.push(name);
            samples.value.push(value);
        }
        Ok(())
    }
}
