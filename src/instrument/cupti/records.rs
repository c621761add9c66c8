//! Activity records as plain data, in the order they came. Times are ns on CUPTI's clock; 0 for both begin and end means "not collected".

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use super::clock::ClockSample;
use crate::trace::host::ApiClass;

/// The stream id of a wait for a whole context, and of a record without a stream (`CUPTI_SYNCHRONIZATION_INVALID_VALUE`).
pub const NO_STREAM: u32 = u32::MAX;

/// A kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "CUPTI's own names")]
pub struct KernelRecord {
    pub start: u64,
    pub end: u64,
    pub device: u32,
    pub context: u32,
    pub stream: u32,
    pub correlation: u32,
    /// Row of [`Recording::kernel_names`].
    pub name: u32,
    pub grid: [u32; 3],
    pub block: [u32; 3],
    /// Zeros for a launch without clusters.
    pub cluster: [u32; 3],
    pub registers: u16,
    pub static_shared_bytes: u32,
    pub dynamic_shared_bytes: u32,
    pub local_bytes_per_thread: u32,
    /// 0 for a kernel outside any graph.
    pub graph_node: u64,
}

/// A copy, on one device or between two.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "CUPTI's own names")]
pub struct CopyRecord {
    pub start: u64,
    pub end: u64,
    pub device: u32,
    pub context: u32,
    pub stream: u32,
    pub correlation: u32,
    pub bytes: u64,
    /// `CUpti_ActivityMemcpyKind`.
    pub kind: u8,
    /// `CUpti_ActivityMemoryKind`.
    pub source: u8,
    /// `CUpti_ActivityMemoryKind`.
    pub destination: u8,
    pub graph_node: u64,
}

/// A memory set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "CUPTI's own names")]
pub struct MemsetRecord {
    pub start: u64,
    pub end: u64,
    pub device: u32,
    pub context: u32,
    pub stream: u32,
    pub correlation: u32,
    pub bytes: u64,
    pub value: u32,
    /// `CUpti_ActivityMemoryKind`.
    pub memory: u8,
    pub graph_node: u64,
}

/// The launch of a whole graph, where a tool asked for graphs as a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "CUPTI's own names")]
pub struct GraphRecord {
    pub start: u64,
    pub end: u64,
    pub device: u32,
    pub context: u32,
    pub stream: u32,
    pub correlation: u32,
    pub graph: u32,
}

/// A call of the runtime or the driver.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "CUPTI's own names")]
pub struct CallRecord {
    pub class: ApiClass,
    /// Callback id: the function, see [`Recording::call_names`].
    pub function: u32,
    pub start: u64,
    pub end: u64,
    pub process: u32,
    /// Id of the operating system.
    pub thread: u32,
    pub correlation: u32,
    pub result: u32,
}

/// A synchronisation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "CUPTI's own names")]
pub struct SyncRecord {
    /// `CUpti_ActivitySynchronizationType`.
    pub kind: u8,
    pub start: u64,
    pub end: u64,
    pub context: u32,
    /// [`NO_STREAM`] for a wait for the context.
    pub stream: u32,
    pub correlation: u32,
    /// [`NO_STREAM`] for none.
    pub event: u32,
}

/// Time CUPTI or the driver took for the sake of tracing, or to load code.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "CUPTI's own names")]
pub struct OverheadRecord {
    /// `CUpti_ActivityOverheadKind`.
    pub kind: u32,
    pub start: u64,
    pub end: u64,
    /// The thread it is booked to, if to one.
    pub thread: Option<u32>,
}

/// A GPU.
#[derive(Debug, Clone, Default, PartialEq)]
#[expect(missing_docs, reason = "CUPTI's own names")]
pub struct DeviceRecord {
    pub id: u32,
    pub name: Option<String>,
    pub uuid: Option<String>,
    pub sm_count: u32,
    pub clock_khz: u32,
    pub bandwidth_kbytes_per_s: u64,
    pub memory_bytes: u64,
    pub l2_bytes: u32,
    pub max_warps_per_sm: u32,
    pub compute_capability: (u32, u32),
}

/// Records that CUPTI threw away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dropped {
    /// Context of the queue, as a number that only tells contexts apart; 0 for the queue of the process.
    pub context: u64,
    /// Stream of the queue.
    pub stream: u32,
    /// How many.
    pub records: u64,
}

/// One record.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the types document themselves")]
pub enum Record {
    Kernel(KernelRecord),
    Copy(CopyRecord),
    Memset(MemsetRecord),
    Graph(GraphRecord),
    Call(CallRecord),
    Sync(SyncRecord),
    Overhead(OverheadRecord),
    Device(DeviceRecord),
}

/// What was recorded from [`super::ActivitySource::begin`] to its end.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Recording {
    /// Kernels.
    pub kernels: Vec<KernelRecord>,
    /// Copies.
    pub copies: Vec<CopyRecord>,
    /// Memory sets.
    pub memsets: Vec<MemsetRecord>,
    /// Launches of whole graphs.
    pub graphs: Vec<GraphRecord>,
    /// Calls.
    pub calls: Vec<CallRecord>,
    /// Synchronisations.
    pub syncs: Vec<SyncRecord>,
    /// Overhead.
    pub overheads: Vec<OverheadRecord>,
    /// GPUs; the same one may come more than once.
    pub devices: Vec<DeviceRecord>,
    /// Distinct names of kernels as the driver has them, mostly mangled.
    pub kernel_names: Vec<String>,
    /// Names of functions by class and callback id, with their version suffix (`cudaLaunchKernel_v7000`).
    pub call_names: FxHashMap<(ApiClass, u32), String>,
    /// What was thrown away.
    pub dropped: Vec<Dropped>,
    /// Records of kinds this build does not read, by kind.
    pub unknown_kinds: BTreeMap<u32, u64>,
    /// Both clocks at the begin.
    pub began: ClockSample,
    /// Both clocks at the end.
    pub ended: ClockSample,
    /// Time from the one to the other by the monotonic clock, ns.
    pub elapsed_ns: Option<u64>,
    /// Instant of the begin, ns since the Unix epoch.
    pub epoch_ns: Option<i64>,
    /// This process.
    pub process: u32,
    /// The thread that submitted the work.
    pub thread: u32,
    /// Buffers handed over by CUPTI.
    pub buffers: u64,
    /// Buffers that had to be allocated while recording, since none was waiting.
    pub buffers_allocated: u64,
}

impl Recording {
    /// Appends a record.
    pub fn push(&mut self, record: Record) {
        match record {
            Record::Kernel(record) => self.kernels.push(record),
            Record::Copy(record) => self.copies.push(record),
            Record::Memset(record) => self.memsets.push(record),
            Record::Graph(record) => self.graphs.push(record),
            Record::Call(record) => self.calls.push(record),
            Record::Sync(record) => self.syncs.push(record),
            Record::Overhead(record) => self.overheads.push(record),
            Record::Device(record) => self.devices.push(record),
        }
    }

    /// Records thrown away, of all queues.
    pub fn dropped_records(&self) -> u64 {
        self.dropped.iter().map(|queue| queue.records).sum()
    }
}
