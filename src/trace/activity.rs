//! What ran on devices: kernels, copies, memory sets, whole-graph launches, synchronisation, events.
//!
//! Columnar: one vector per field, all of one length, rows sorted by begin once [`super::timeline::Timeline::finish`] ran. A column that
//! no row of a trace has is left empty; its accessor then answers "none".

use super::places::NO_ROW;
use super::strings::StringId;

/// The three names of a kernel; rows of [`super::timeline::Timeline::kernel_names`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KernelName {
    /// With template arguments and parameters.
    pub demangled: StringId,
    /// Base name as the tool shortened it; equal to `demangled` where the format has one name only.
    pub short: StringId,
    /// Mangled name, where known.
    pub mangled: Option<StringId>,
}

/// What a kernel was launched with; rows of [`super::timeline::Timeline::launch_configs`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct LaunchConfig {
    /// Grid in blocks; zeros where unknown.
    pub grid: [u32; 3],
    /// Block in threads; zeros where unknown.
    pub block: [u32; 3],
    /// Registers of a thread.
    pub registers: Option<u32>,
    /// Static shared memory of a block in bytes.
    pub static_shared_bytes: Option<u32>,
    /// Dynamic shared memory of a block in bytes.
    pub dynamic_shared_bytes: Option<u32>,
    /// Local memory of a thread in bytes.
    pub local_bytes_per_thread: Option<u32>,
    /// Cluster in blocks.
    pub cluster: Option<[u32; 3]>,
}

/// Kernels.
#[derive(Debug, Clone, Default)]
pub struct Kernels {
    /// Begin, ns.
    pub start_ns: Vec<i64>,
    /// End, ns, never before the begin.
    pub end_ns: Vec<i64>,
    /// Row of `kernel_names`.
    pub name: Vec<u32>,
    /// Row of `streams`.
    pub stream: Vec<u32>,
    /// Correlation id, unique only within the process; 0 if the record has none.
    pub correlation: Vec<u32>,
    /// Row of `launch_configs`.
    pub config: Vec<u32>,
    /// Row of `api` of the call that launched it, or [`NO_ROW`]; filled by `finish`.
    pub call: Vec<u32>,
    /// Node of the executable graph, 0 for none; empty if no kernel has one.
    pub graph_node: Vec<u64>,
    /// Row of `ranges` of the operator an external id names (Kineto), or [`NO_ROW`]; empty if the format has none.
    pub operator: Vec<u32>,
}

/// Copies.
#[derive(Debug, Clone, Default)]
pub struct Copies {
    /// Begin, ns.
    pub start_ns: Vec<i64>,
    /// End, ns.
    pub end_ns: Vec<i64>,
    /// Row of `streams`.
    pub stream: Vec<u32>,
    /// As for kernels.
    pub correlation: Vec<u32>,
    /// Bytes moved.
    pub bytes: Vec<u64>,
    /// Direction.
    pub kind: Vec<CopyKind>,
    /// Memory read.
    pub source: Vec<MemoryKind>,
    /// Memory written.
    pub destination: Vec<MemoryKind>,
    /// As for kernels.
    pub call: Vec<u32>,
    /// As for kernels.
    pub graph_node: Vec<u64>,
}

/// Memory sets.
#[derive(Debug, Clone, Default)]
pub struct Memsets {
    /// Begin, ns.
    pub start_ns: Vec<i64>,
    /// End, ns.
    pub end_ns: Vec<i64>,
    /// Row of `streams`.
    pub stream: Vec<u32>,
    /// As for kernels.
    pub correlation: Vec<u32>,
    /// Bytes set.
    pub bytes: Vec<u64>,
    /// The value.
    pub value: Vec<u32>,
    /// Memory written.
    pub memory: Vec<MemoryKind>,
    /// As for kernels.
    pub call: Vec<u32>,
    /// As for kernels.
    pub graph_node: Vec<u64>,
}

/// Launches of whole graphs, where the trace has one record for each instead of one for each node.
#[derive(Debug, Clone, Default)]
pub struct GraphLaunches {
    /// Begin, ns.
    pub start_ns: Vec<i64>,
    /// End, ns.
    pub end_ns: Vec<i64>,
    /// Row of `streams`.
    pub stream: Vec<u32>,
    /// As for kernels.
    pub correlation: Vec<u32>,
    /// Id of the graph.
    pub graph: Vec<u32>,
    /// Id of the executable graph.
    pub executable: Vec<u32>,
    /// As for kernels.
    pub call: Vec<u32>,
}

/// Synchronisation records: from the call to its return, on the host's clock.
#[derive(Debug, Clone, Default)]
pub struct Syncs {
    /// Begin, ns.
    pub start_ns: Vec<i64>,
    /// End, ns.
    pub end_ns: Vec<i64>,
    /// Row of `streams`; a context-wide one has stream id `u64::MAX`.
    pub stream: Vec<u32>,
    /// As for kernels.
    pub correlation: Vec<u32>,
    /// What was waited for.
    pub kind: Vec<SyncKind>,
    /// The event, 0 for none.
    pub event: Vec<u32>,
    /// As for kernels.
    pub call: Vec<u32>,
}

/// Records of CUDA events on streams.
#[derive(Debug, Clone, Default)]
pub struct CudaEvents {
    /// When the device passed it, ns; `i64::MIN` if not collected.
    pub time_ns: Vec<i64>,
    /// Row of `streams`.
    pub stream: Vec<u32>,
    /// As for kernels.
    pub correlation: Vec<u32>,
    /// The event.
    pub event: Vec<u32>,
}

/// Direction of a copy; the numbers are CUPTI's (`ENUM_CUDA_MEMCPY_OPER`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CopyKind(pub u8);

impl CopyKind {
    /// Host to device.
    pub const HOST_TO_DEVICE: Self = Self(1);
    /// Device to host.
    pub const DEVICE_TO_HOST: Self = Self(2);
    /// Host to CUDA array.
    pub const HOST_TO_ARRAY: Self = Self(3);
    /// CUDA array to host.
    pub const ARRAY_TO_HOST: Self = Self(4);
    /// Array to array.
    pub const ARRAY_TO_ARRAY: Self = Self(5);
    /// Array to device.
    pub const ARRAY_TO_DEVICE: Self = Self(6);
    /// Device to array.
    pub const DEVICE_TO_ARRAY: Self = Self(7);
    /// Device to device.
    pub const DEVICE_TO_DEVICE: Self = Self(8);
    /// Host to host.
    pub const HOST_TO_HOST: Self = Self(9);
    /// Between devices.
    pub const PEER_TO_PEER: Self = Self(10);
    /// Unified memory, host to device.
    pub const UNIFIED_HOST_TO_DEVICE: Self = Self(11);
    /// Unified memory, device to host.
    pub const UNIFIED_DEVICE_TO_HOST: Self = Self(12);
    /// Unified memory, device to device.
    pub const UNIFIED_DEVICE_TO_DEVICE: Self = Self(13);

    /// The label of nsys since 2023 (`ENUM_CUDA_MEMCPY_OPER.label`); a file's own label goes before it, see `Timeline::copy_labels`.
    pub fn label(self) -> &'static str {
        match self.0 {
            1 => "Host-to-Device",
            2 => "Device-to-Host",
            3 => "Host-to-Array",
            4 => "Array-to-Host",
            5 => "Array-to-Array",
            6 => "Array-to-Device",
            7 => "Device-to-Array",
            8 => "Device-to-Device",
            9 => "Host-to-Host",
            10 => "Peer-to-Peer",
            11 => "Unified Host-to-Device",
            12 => "Unified Device-to-Host",
            13 => "Unified Device-to-Device",
            _ => "Unknown",
        }
    }
}

/// Kind of memory; the numbers are CUPTI's (`CUpti_ActivityMemoryKind`). Those of nsys exports (`ENUM_CUDA_MEM_KIND`) are others, see
/// [`Self::from_nsys`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MemoryKind(pub u8);

impl MemoryKind {
    /// Not known.
    pub const UNKNOWN: Self = Self(0);
    /// Pageable host memory.
    pub const PAGEABLE: Self = Self(1);
    /// Pinned host memory.
    pub const PINNED: Self = Self(2);
    /// Device memory.
    pub const DEVICE: Self = Self(3);
    /// CUDA array.
    pub const ARRAY: Self = Self(4);
    /// Managed memory.
    pub const MANAGED: Self = Self(5);

    /// From the number in an nsys export, where 0 is pageable, 1 pinned, 2 device, … and 7 unknown.
    pub fn from_nsys(number: u8) -> Self {
        if number < 7 { Self(number + 1) } else { Self::UNKNOWN }
    }
    /// The number in an nsys export.
    pub fn to_nsys(self) -> u8 {
        if (1..=7).contains(&self.0) { self.0 - 1 } else { 7 }
    }
}

/// What a synchronisation waited for; the numbers are CUPTI's (`ENUM_CUPTI_SYNC_TYPE`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SyncKind(pub u8);

impl SyncKind {
    /// An event, on the host.
    pub const EVENT: Self = Self(1);
    /// A stream waits for an event; the host does not.
    pub const STREAM_WAIT_EVENT: Self = Self(2);
    /// A stream, on the host.
    pub const STREAM: Self = Self(3);
    /// A context, on the host.
    pub const CONTEXT: Self = Self(4);
}

/// Kind of an operation of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OpKind {
    /// A row of [`Kernels`].
    Kernel,
    /// A row of [`Copies`].
    Copy,
    /// A row of [`Memsets`].
    Memset,
    /// A row of [`GraphLaunches`].
    Graph,
}

/// An operation of a device: kind and row in four bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OpRef(u32);

impl OpRef {
    /// Rows of one table at most.
    pub const MAX_ROWS: usize = 1 << 30;

    /// Refers to `row` of the table of `kind`. Rows beyond [`Self::MAX_ROWS`] do not exist: readers stop before.
    pub fn new(kind: OpKind, row: usize) -> Self {
        debug_assert!(row < Self::MAX_ROWS, "readers refuse traces with more than 2^30 rows in a table");
        let kind = match kind {
            OpKind::Kernel => 0,
            OpKind::Copy => 1,
            OpKind::Memset => 2,
            OpKind::Graph => 3,
        };
        Self(kind << 30 | row as u32)
    }
    /// Which table.
    pub fn kind(self) -> OpKind {
        match self.0 >> 30 {
            0 => OpKind::Kernel,
            1 => OpKind::Copy,
            2 => OpKind::Memset,
            _ => OpKind::Graph,
        }
    }
    /// Which row.
    pub fn row(self) -> usize {
        (self.0 & ((1 << 30) - 1)) as usize
    }
}

/// One row for [`super::timeline::Timeline::push_kernel`].
#[derive(Debug, Clone, Copy, Default)]
#[expect(missing_docs, reason = "the columns of `Kernels` document them")]
pub struct KernelRow {
    pub start_ns: i64,
    pub end_ns: i64,
    pub name: u32,
    pub stream: u32,
    pub correlation: u32,
    pub config: u32,
    pub graph_node: u64,
}

impl Kernels {
    /// Number of kernels.
    pub fn len(&self) -> usize {
        self.start_ns.len()
    }
    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.start_ns.is_empty()
    }
    /// Duration of row `row` in ns.
    pub fn duration_ns(&self, row: usize) -> i64 {
        self.end_ns[row] - self.start_ns[row]
    }
    /// Graph node of `row`, if it was launched by a graph traced node by node.
    pub fn node(&self, row: usize) -> Option<u64> {
        self.graph_node.get(row).copied().filter(|node| *node != 0)
    }
    /// Operator range an external id names, if any.
    pub fn operator_range(&self, row: usize) -> Option<usize> {
        self.operator.get(row).copied().filter(|range| *range != NO_ROW).map(|range| range as usize)
    }
    /// Appends a row; `graph_node` grows only once a row has a node.
    pub fn push(&mut self, row: KernelRow) {
        push_sparse(&mut self.graph_node, self.start_ns.len(), row.graph_node);
        self.start_ns.push(row.start_ns);
        self.end_ns.push(row.end_ns);
        self.name.push(row.name);
        self.stream.push(row.stream);
        self.correlation.push(row.correlation);
        self.config.push(row.config);
    }
}

/// Appends to a column that stays empty until its first value: `rows` is the number of rows before this one.
pub(super) fn push_sparse(column: &mut Vec<u64>, rows: usize, value: u64) {
    if value != 0 && column.is_empty() {
        column.resize(rows, 0);
    }
    if value != 0 || !column.is_empty() {
        column.push(value);
    }
}

macro_rules! lengths {
    ($($table:ty: $column:ident),* $(,)?) => {$(
        impl $table {
            /// Number of rows.
            pub fn len(&self) -> usize {
                self.$column.len()
            }
            /// True if there are none.
            pub fn is_empty(&self) -> bool {
                self.$column.is_empty()
            }
        }
    )*};
}

lengths! {
    Copies: start_ns,
    Memsets: start_ns,
    GraphLaunches: start_ns,
    Syncs: start_ns,
    CudaEvents: time_ns,
}
