//! Where and by whom things ran: processes, threads, devices and streams of a trace.

use super::strings::StringId;

/// Marks "no row" in the columns that point into other tables.
pub const NO_ROW: u32 = u32::MAX;

/// A traced process.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Process {
    /// Process id of the operating system.
    pub pid: u32,
    /// Its serialised id in the file it came from (nsys `globalPid`); 0 where the format has none.
    pub global_id: i64,
    /// Name or command, never the arguments.
    pub name: Option<StringId>,
    /// Rank in a distributed job, if the trace says it.
    pub rank: Option<u32>,
    /// Which input file it came from, in the order given.
    pub file: u16,
}

/// A host thread.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Thread {
    /// Row in [`super::timeline::Timeline::processes`].
    pub process: u32,
    /// Thread id of the operating system.
    pub tid: u64,
    /// Serialised id in the file (nsys `globalTid`); 0 where the format has none.
    pub global_id: i64,
    /// Name.
    pub name: Option<StringId>,
}

/// A physical GPU, as far as the trace tells devices apart.
///
/// Two processes may call different GPUs `0`, or the same one. Readers make one row for each GPU where the trace identifies them (nsys
/// `TARGET_INFO_CUDA_DEVICE`, UUID), else one for each device ordinal of each input file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Device {
    /// CUDA ordinal as the first process that used it calls it.
    pub ordinal: u32,
    /// Which input file it came from.
    pub file: u16,
    /// Product name.
    pub name: Option<String>,
    /// UUID or PCI address.
    pub identity: Option<String>,
    /// Streaming multiprocessors.
    pub sm_count: Option<u32>,
    /// Highest SM clock in Hz.
    pub clock_hz: Option<f64>,
    /// Memory bandwidth of the product in bytes per second.
    pub bandwidth_bytes_per_s: Option<f64>,
    /// Memory in bytes.
    pub memory_bytes: Option<u64>,
    /// L2 cache in bytes.
    pub l2_bytes: Option<u64>,
    /// Compute capability.
    pub compute_capability: Option<(u32, u32)>,
    /// Warps resident on one SM at most.
    pub max_warps_per_sm: Option<u32>,
}

/// A queue of device work: one CUDA stream of one context of one process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Stream {
    /// Row in [`super::timeline::Timeline::processes`].
    pub process: u32,
    /// Row in [`super::timeline::Timeline::devices`].
    pub device: u32,
    /// Device ordinal as written in the file (nsys `deviceId`).
    pub ordinal: u32,
    /// Context id as written in the file.
    pub context: u32,
    /// Stream id as written in the file; unique only within its context.
    pub stream: u64,
}

/// The tool that wrote a trace and how it captured.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Source {
    /// File name without its directory.
    pub file: String,
    /// `nsys`, `kineto`, `chrome`, `perfprof`.
    pub tool: String,
    /// Version of the tool, as recorded.
    pub version: Option<String>,
    /// Version of the format, e.g. the nsys export schema `3.24.8`.
    pub schema: Option<String>,
    /// Instant of time zero, ns since the Unix epoch.
    pub epoch_ns: Option<i64>,
    /// How CUDA graphs were traced.
    pub graph_mode: GraphMode,
    /// True where the tool says it left out API calls it holds uninteresting.
    pub skipped_api_calls: Option<bool>,
    /// Which kinds of table or event the file has, even if empty: `kernel`, `memcpy`, `memset`, `runtime`, `nvtx`, `graph_trace`, …
    pub tables: Vec<String>,
}

/// How CUDA graphs were traced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum GraphMode {
    /// The file does not say.
    #[default]
    Unknown,
    /// One record for each launch of a graph; the kernels within are not there.
    Graph,
    /// One record for each node.
    Node,
}

/// A message the tracing tool left in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolMessage {
    /// Time, ns, if it has one on the clock of the trace.
    pub time_ns: Option<i64>,
    /// 0 unknown, 1 information, 2 warning, 3 error (nsys `DIAGNOSTIC_EVENT.severity`).
    pub severity: u8,
    /// The text.
    pub text: String,
    /// Row in [`super::timeline::Timeline::processes`], or [`NO_ROW`].
    pub process: u32,
}
