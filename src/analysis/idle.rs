//! Why a device was idle: every gap between its operations gets one cause.
//!
//! For each device, *busy* is the union of its kernels, copies, memory sets and whole-graph launches, *idle* the rest of the window. A gap is
//! a stretch of idle time between two operations (or between the window's edge and one). Gaps shorter than 1 us are only summed, as
//! `below_1us`: they are what a device takes from one kernel to the next. The others get exactly one cause by the rules of
//! [`super::idle_causes`], so that
//!
//! `busy + sum of causes + below_1us = window`
//!
//! holds to the nanosecond. The window is that of the caller, else from the begin of the device's first operation to the end of its last.

use serde::{Deserialize, Serialize};

use super::intervals::{Interval, Phases, Spread};

/// Gaps shorter than this are only summed, ns.
pub const SHORT_GAP_NS: u64 = 1_000;

/// Why nothing ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdleCause {
    /// Before the first operation of the device in the window.
    BeforeWork,
    /// After the last one.
    AfterWork,
    /// The host came late because it had waited: without its synchronisations and blocking copies it would have launched in time.
    HostSync,
    /// The host came late: it was busy elsewhere, outside of the launch call.
    HostBusy,
    /// The host came late: the time went into the launch call itself, and from its return to the begin of the work.
    HostLaunch,
    /// The host came late because it allocated or released memory.
    Allocation,
    /// The host came late because code was loaded or compiled.
    ModuleLoad,
    /// The host came late because it captured, built or instantiated a graph.
    GraphSetup,
    /// The profiler was at work for at least half of the gap.
    ProfilerOverhead,
    /// The next operation had been launched and waited for other work: an event, or work of another stream or device.
    StreamDependency,
    /// The next operation had been launched; one of the two neighbours is a copy.
    CopyDependency,
    /// Both neighbours belong to graph launches, and the next one had been launched.
    GraphBoundary,
    /// The next operation had been launched, but so shortly before that the gap is launch latency, or the gap is no longer than that.
    QueueLatency,
    /// None of the rules holds: no linked launch call, clocks that disagree, or a launched operation that started late for no reason
    /// the trace shows.
    Unknown,
}

impl IdleCause {
    /// All causes, in the order of reports.
    pub const ALL: [Self; 14] = [
        Self::BeforeWork,
        Self::AfterWork,
        Self::HostSync,
        Self::HostBusy,
        Self::HostLaunch,
        Self::Allocation,
        Self::ModuleLoad,
        Self::GraphSetup,
        Self::ProfilerOverhead,
        Self::StreamDependency,
        Self::CopyDependency,
        Self::GraphBoundary,
        Self::QueueLatency,
        Self::Unknown,
    ];

    /// True where the device waited for the host: the idle time that would go away if the host were ahead at all times.
    pub fn is_host(self) -> bool {
        matches!(
            self,
            Self::HostSync | Self::HostBusy | Self::HostLaunch | Self::Allocation | Self::ModuleLoad | Self::GraphSetup
        )
    }
    /// As it is spelt in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::BeforeWork => "before_work",
            Self::AfterWork => "after_work",
            Self::HostSync => "host_sync",
            Self::HostBusy => "host_busy",
            Self::HostLaunch => "host_launch",
            Self::Allocation => "allocation",
            Self::ModuleLoad => "module_load",
            Self::GraphSetup => "graph_setup",
            Self::ProfilerOverhead => "profiler_overhead",
            Self::StreamDependency => "stream_dependency",
            Self::CopyDependency => "copy_dependency",
            Self::GraphBoundary => "graph_boundary",
            Self::QueueLatency => "queue_latency",
            Self::Unknown => "unknown",
        }
    }
}

/// What to look at.
#[derive(Debug, Clone, Copy)]
pub struct IdleOptions<'a> {
    /// Window for all devices; `None`: of each device, first begin to last end. A device without work in a given window is idle for all
    /// of it (`before_work`).
    pub window: Option<Interval>,
    /// Phases whose idle time is wanted.
    pub phases: Phases<'a>,
    /// How many of the longest gaps to list for each device.
    pub longest: usize,
}

impl Default for IdleOptions<'_> {
    fn default() -> Self {
        Self { window: None, phases: Phases::default(), longest: 20 }
    }
}

/// Idle time of one device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceIdle {
    /// Row of `devices`.
    pub device: u32,
    /// The window; null if the device has no work and no window was given.
    pub window: Option<Interval>,
    /// Its length, ns.
    pub window_ns: u64,
    /// Union of the device's work in it, ns.
    pub busy_ns: u64,
    /// The rest, ns.
    pub idle_ns: u64,
    /// Idle time by cause; causes without a gap are left out.
    pub idle_by_cause: Vec<CauseIdle>,
    /// Idle time in gaps shorter than [`SHORT_GAP_NS`], ns.
    pub below_1us_ns: u64,
    /// How many gaps those are.
    pub below_1us_gaps: u64,
    /// Where the time of host-caused gaps went.
    pub host_parts: HostParts,
    /// Launch latency the rules used, ns: see [`super::idle_causes`].
    pub launch_latency_ns: u64,
    /// Operations in the window, and how many of them have no linked launch call.
    pub operations: u64,
    /// How many of them have no linked launch call.
    pub unlinked_operations: u64,
    /// Operations that begin before their launch call does: the clocks of host and device disagree there.
    pub clock_skew_operations: u64,
    /// Gaps by length: bins of a factor of ten, from all gaps on.
    pub gap_lengths: Vec<GapBin>,
    /// The longest gaps, longest first.
    pub longest: Vec<LongGap>,
    /// Idle time within each phase, in the order of the names given.
    pub phases: Vec<PhaseIdle>,
}

impl DeviceIdle {
    /// Idle time of one cause, ns.
    pub fn cause_ns(&self, cause: IdleCause) -> u64 {
        self.idle_by_cause.iter().find(|row| row.cause == cause).map_or(0, |row| row.spread.total_ns)
    }
    /// Idle time for which the host is answerable, ns; gaps below 1 us are not in it.
    pub fn host_ns(&self) -> u64 {
        self.idle_by_cause.iter().filter(|row| row.cause.is_host()).map(|row| row.spread.total_ns).sum()
    }
}

/// Idle time of one cause.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CauseIdle {
    /// The cause.
    pub cause: IdleCause,
    /// Gaps: how many, their sum, median, 95th percentile and longest.
    pub spread: Spread,
}

/// What the host did during the gaps it caused (see [`IdleCause::is_host`]); the parts add up to those gaps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostParts {
    /// Still inside calls that wait for the device, ns.
    pub waiting_ns: u64,
    /// Allocating or releasing memory, ns.
    pub allocation_ns: u64,
    /// Loading modules, ns.
    pub module_load_ns: u64,
    /// Capturing, building or instantiating graphs, ns.
    pub graph_setup_ns: u64,
    /// In other API calls before the launch, ns.
    pub other_calls_ns: u64,
    /// Outside of the API before the launch, ns: the program's own code, its libraries and the operating system.
    pub outside_api_ns: u64,
    /// Inside the launch call, ns.
    pub launch_call_ns: u64,
    /// From the return of the launch call to the begin of the work, ns.
    pub after_call_ns: u64,
}

/// Gaps of a range of lengths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GapBin {
    /// From this length on, ns.
    pub from_ns: u64,
    /// Below this one, ns; null for the last bin.
    pub below_ns: Option<u64>,
    /// How many.
    pub gaps: u64,
    /// Their sum, ns.
    pub total_ns: u64,
}

/// One long gap.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LongGap {
    /// When.
    pub interval: Interval,
    /// How long, ns.
    pub length_ns: u64,
    /// Why.
    pub cause: IdleCause,
    /// Operation that ended at its begin; null before the first.
    pub previous: Option<String>,
    /// Operation that ended it; null after the last.
    pub next: Option<String>,
    /// API call that launched the next operation, where linked.
    pub launch_call: Option<String>,
    /// What speaks for the cause, in words.
    pub evidence: String,
}

/// Idle time within one phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhaseIdle {
    /// Its name.
    pub phase: String,
    /// Time of the device's window within the phase, ns.
    pub window_ns: u64,
    /// Busy part, ns.
    pub busy_ns: u64,
    /// Idle part, ns.
    pub idle_ns: u64,
    /// Idle time by the cause of the gap it belongs to; causes without time are left out.
    pub idle_by_cause: Vec<(IdleCause, u64)>,
    /// Idle time in gaps shorter than 1 us, ns.
    pub below_1us_ns: u64,
}
