//! The one intermediate form of every trace: live runs and trace files become a [`Timeline`], analyses read nothing else.
//!
//! Columnar: one vector per field, so that a pass over millions of rows touches only what it needs. This module stores; it
//! computes no statistic.
//!
//! Two halves share it: [`Spans`] are what a live run of our own engine records of itself (with FLOPs and bytes), and the tables of
//! [`super::activity`] and [`super::host`] are what a trace file holds. Times of trace files are `i64` ns on the clock of the trace; they may
//! be negative.
//!
//! Readers push rows in any order and call [`Timeline::finish`], which sorts the tables and joins device work to the call that launched it.

use rustc_hash::FxHashMap;

use super::activity::{
    Copies, CudaEvents, GraphLaunches, KernelName, KernelRow, Kernels, LaunchConfig, Memsets, OpKind, OpRef, Syncs,
};
use super::host::{Allocations, ApiCalls, GraphEvents, GraphNodes, Marks, MetricSamples, OsCalls, Overheads, Ranges};
use super::places::{Device, NO_ROW, Process, Source, Stream, Thread, ToolMessage};
use super::strings::{StringId, StringTable};
use crate::estimate::operator::{Cost, OperatorClass};

/// What a host span stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SpanKind {
    /// A whole phase: prefill, or one decode step.
    Phase,
    /// A decoder layer.
    Layer,
    /// A module.
    Module,
    /// One operator: the leaves that carry time, FLOPs and bytes.
    Operator,
}

/// Marks "no parent", "no layer" and "no step" in the columns.
pub const NONE: u32 = u32::MAX;

/// Host spans (NVTX-like ranges of a live run), in order of their begin.
#[derive(Debug, Clone, Default)]
pub struct Spans {
    /// Begin, ns since the origin of the timeline.
    pub start_ns: Vec<u64>,
    /// End, ns since the origin of the timeline.
    pub end_ns: Vec<u64>,
    /// What the span stands for.
    pub kind: Vec<SpanKind>,
    /// Module, operator or phase name.
    pub name: Vec<StringId>,
    /// Row of the enclosing span, or [`NONE`].
    pub parent: Vec<u32>,
    /// Repeat the span belongs to (0-based row of `per_run.jsonl`).
    pub repeat: Vec<u32>,
    /// Phase name (`prefill`, `decode`).
    pub phase: Vec<StringId>,
    /// 0 for prefill, the decode step from 1.
    pub step: Vec<u32>,
    /// Decoder layer, or [`NONE`] outside the layers.
    pub layer: Vec<u32>,
    /// Class of an operator; `None` for other kinds.
    pub class: Vec<Option<OperatorClass>>,
    /// Dimensions in words; interned.
    pub shape: Vec<StringId>,
    /// FLOPs and bytes of an operator; zero for other kinds.
    pub cost: Vec<Cost>,
    /// True where the operator's FLOPs count towards MFU.
    pub model_compute: Vec<bool>,
}

impl Spans {
    /// Number of spans.
    pub fn len(&self) -> usize {
        self.start_ns.len()
    }
    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.start_ns.is_empty()
    }
    /// Duration of span `row` in ns.
    pub fn duration_ns(&self, row: usize) -> u64 {
        self.end_ns[row].saturating_sub(self.start_ns[row])
    }
}

/// One row for [`Timeline::push_span`].
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the columns of `Spans` document them")]
pub struct SpanRow<'a> {
    pub start_ns: u64,
    pub end_ns: u64,
    pub kind: SpanKind,
    pub name: &'a str,
    pub parent: u32,
    pub repeat: u32,
    pub phase: &'a str,
    pub step: u32,
    pub layer: u32,
    pub class: Option<OperatorClass>,
    pub shape: &'a str,
    pub cost: Cost,
    pub model_compute: bool,
}

/// A trace in memory.
#[derive(Debug, Clone, Default)]
pub struct Timeline {
    /// All names.
    pub strings: StringTable,
    /// What the device of the host spans is called, e.g. `cpu` or `cuda:0`.
    pub device: String,
    /// Host spans of a live run.
    pub spans: Spans,

    /// The files it was read from.
    pub sources: Vec<Source>,
    /// Processes.
    pub processes: Vec<Process>,
    /// Host threads.
    pub threads: Vec<Thread>,
    /// GPUs.
    pub devices: Vec<Device>,
    /// Streams.
    pub streams: Vec<Stream>,
    /// Distinct kernel names.
    pub kernel_names: Vec<KernelName>,
    /// Distinct launch configurations.
    pub launch_configs: Vec<LaunchConfig>,

    /// Kernels, by begin.
    pub kernels: Kernels,
    /// Copies, by begin.
    pub copies: Copies,
    /// Memory sets, by begin.
    pub memsets: Memsets,
    /// Whole-graph launches, by begin.
    pub graphs: GraphLaunches,
    /// Synchronisation records, by begin.
    pub syncs: Syncs,
    /// CUDA event records, in file order.
    pub events: CudaEvents,
    /// API calls, by (thread, begin).
    pub api: ApiCalls,
    /// Ranges, by (thread, begin, end descending).
    pub ranges: Ranges,
    /// Marks, in file order.
    pub marks: Marks,
    /// Operating-system calls, in file order.
    pub os_calls: OsCalls,
    /// Overhead of the profiler, in file order.
    pub overheads: Overheads,
    /// Creation of graph nodes, in file order.
    pub graph_nodes: GraphNodes,
    /// Creation of graphs, in file order.
    pub graph_events: GraphEvents,
    /// Allocations, in file order.
    pub allocations: Allocations,
    /// Samples of GPU metrics, in file order.
    pub metric_samples: MetricSamples,
    /// Messages of the tracing tool.
    pub messages: Vec<ToolMessage>,
    /// Labels of copy kinds as the file itself has them, by kind; empty text where it has none.
    pub copy_labels: Vec<(u8, String)>,
    /// Numbers the file itself gives its texts (nsys `StringIds.id`), as far as the reader keeps them; the reports of nsys order rows that
    /// are otherwise equal by them.
    pub string_ids: Vec<(StringId, i64)>,

    /// What is registered; use `kernel_name`, `launch_config` and `stream`.
    pub known: Known,
}

/// What was registered before, so that a row exists once.
#[derive(Debug, Clone, Default)]
pub struct Known {
    kernel_names: FxHashMap<KernelName, u32>,
    launch_configs: FxHashMap<LaunchConfig, u32>,
    streams: FxHashMap<Stream, u32>,
}

impl Timeline {
    /// Row of a kernel name, new or known.
    pub fn kernel_name(&mut self, name: KernelName) -> u32 {
        *self.known.kernel_names.entry(name).or_insert_with(|| {
            self.kernel_names.push(name);
            (self.kernel_names.len() - 1) as u32
        })
    }
    /// Row of a launch configuration, new or known.
    pub fn launch_config(&mut self, config: LaunchConfig) -> u32 {
        *self.known.launch_configs.entry(config).or_insert_with(|| {
            self.launch_configs.push(config);
            (self.launch_configs.len() - 1) as u32
        })
    }
    /// Row of a stream, new or known.
    pub fn stream(&mut self, stream: Stream) -> u32 {
        *self.known.streams.entry(stream).or_insert_with(|| {
            self.streams.push(stream);
            (self.streams.len() - 1) as u32
        })
    }
    /// Appends a kernel; its call is joined by [`Self::finish`].
    pub fn push_kernel(&mut self, row: KernelRow) {
        self.kernels.push(row);
    }

    /// Number of device operations of all kinds.
    pub fn op_count(&self) -> usize {
        self.kernels.len() + self.copies.len() + self.memsets.len() + self.graphs.len()
    }
    /// Device operations of all kinds in order of their begin; ties in the order kernel, copy, memset, graph. 4 bytes a row.
    pub fn ops_by_start(&self) -> Vec<OpRef> {
        let tables: [(OpKind, &[i64]); 4] = [
            (OpKind::Kernel, &self.kernels.start_ns),
            (OpKind::Copy, &self.copies.start_ns),
            (OpKind::Memset, &self.memsets.start_ns),
            (OpKind::Graph, &self.graphs.start_ns),
        ];
        let mut next = [0_usize; 4];
        let mut ops = Vec::with_capacity(self.op_count());
        loop {
            let mut best: Option<(i64, usize)> = None;
            for (table, (_, starts)) in tables.iter().enumerate() {
                if let Some(start) = starts.get(next[table])
                    && best.is_none_or(|(earliest, _)| *start < earliest)
                {
                    best = Some((*start, table));
                }
            }
            let Some((_, table)) = best else { return ops };
            ops.push(OpRef::new(tables[table].0, next[table]));
            next[table] += 1;
        }
    }
    /// Begin of a device operation, ns.
    pub fn op_start_ns(&self, op: OpRef) -> i64 {
        match op.kind() {
            OpKind::Kernel => self.kernels.start_ns[op.row()],
            OpKind::Copy => self.copies.start_ns[op.row()],
            OpKind::Memset => self.memsets.start_ns[op.row()],
            OpKind::Graph => self.graphs.start_ns[op.row()],
        }
    }
    /// End of a device operation, ns.
    pub fn op_end_ns(&self, op: OpRef) -> i64 {
        match op.kind() {
            OpKind::Kernel => self.kernels.end_ns[op.row()],
            OpKind::Copy => self.copies.end_ns[op.row()],
            OpKind::Memset => self.memsets.end_ns[op.row()],
            OpKind::Graph => self.graphs.end_ns[op.row()],
        }
    }
    /// Row of the stream of a device operation.
    pub fn op_stream(&self, op: OpRef) -> usize {
        let stream = match op.kind() {
            OpKind::Kernel => self.kernels.stream[op.row()],
            OpKind::Copy => self.copies.stream[op.row()],
            OpKind::Memset => self.memsets.stream[op.row()],
            OpKind::Graph => self.graphs.stream[op.row()],
        };
        stream as usize
    }
    /// Row of the device of a device operation.
    pub fn op_device(&self, op: OpRef) -> usize {
        self.streams[self.op_stream(op)].device as usize
    }
    /// Row of the API call that launched a device operation, where the trace links them.
    pub fn op_call(&self, op: OpRef) -> Option<usize> {
        let call = match op.kind() {
            OpKind::Kernel => self.kernels.call[op.row()],
            OpKind::Copy => self.copies.call[op.row()],
            OpKind::Memset => self.memsets.call[op.row()],
            OpKind::Graph => self.graphs.call[op.row()],
        };
        (call != NO_ROW).then_some(call as usize)
    }
    /// Correlation id of a device operation; 0 for none.
    pub fn op_correlation(&self, op: OpRef) -> u32 {
        match op.kind() {
            OpKind::Kernel => self.kernels.correlation[op.row()],
            OpKind::Copy => self.copies.correlation[op.row()],
            OpKind::Memset => self.memsets.correlation[op.row()],
            OpKind::Graph => self.graphs.correlation[op.row()],
        }
    }
    /// First begin and last end of all device operations, ns.
    pub fn device_span_ns(&self) -> Option<(i64, i64)> {
        let first = [&self.kernels.start_ns, &self.copies.start_ns, &self.memsets.start_ns, &self.graphs.start_ns];
        let last = [&self.kernels.end_ns, &self.copies.end_ns, &self.memsets.end_ns, &self.graphs.end_ns];
        let first = first.iter().filter_map(|column| column.iter().min()).min()?;
        let last = last.iter().filter_map(|column| column.iter().max()).max()?;
        Some((*first, *last))
    }
    /// Text of a string id.
    pub fn text(&self, id: StringId) -> &str {
        self.strings.get(id)
    }
    /// Sorts every table and joins device work to the calls that launched it. Readers call it once, at the end.
    pub fn finish(&mut self) {
        super::links::finish(self);
    }
    /// Appends one span and returns its row.
    pub fn push_span(&mut self, row: SpanRow<'_>) -> u32 {
        let index = u32::try_from(self.spans.len()).expect("a live run records fewer than 2^32 spans");
        let name = self.strings.intern(row.name);
        let phase = self.strings.intern(row.phase);
        let shape = self.strings.intern(row.shape);
        let spans = &mut self.spans;
        spans.start_ns.push(row.start_ns);
        spans.end_ns.push(row.end_ns);
        spans.kind.push(row.kind);
        spans.name.push(name);
        spans.parent.push(row.parent);
        spans.repeat.push(row.repeat);
        spans.phase.push(phase);
        spans.step.push(row.step);
        spans.layer.push(row.layer);
        spans.class.push(row.class);
        spans.shape.push(shape);
        spans.cost.push(row.cost);
        spans.model_compute.push(row.model_compute);
        index
    }
}
