//! What ran at the same time: compute, communication and copies of a device, streams, and devices among each other.
//!
//! The identity of TraceLens holds to the nanosecond: `compute + exposed communication + exposed copies + idle = total`, where *exposed* is
//! what no compute (and, for copies, no communication either) covers. Memory sets and whole-graph launches count as compute: the first are
//! kernels or nearly so, of the second a trace does not say what was inside.

use serde::{Deserialize, Serialize};

use super::intervals::Interval;

/// What a kernel does, for overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    /// Computes.
    Compute,
    /// Moves data between devices or ranks (NCCL, RCCL, custom all-reduce).
    Communication,
}

/// Overlap of the whole trace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OverlapAnalysis {
    /// Each device with work.
    pub devices: Vec<DeviceOverlap>,
    /// How the devices compare; null with fewer than two devices at work.
    pub balance: Option<Balance>,
}

/// Overlap on one device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceOverlap {
    /// Row of `devices`.
    pub device: u32,
    /// The window: as given, else first begin to last end.
    pub window: Interval,
    /// Its length, ns.
    pub total_ns: u64,
    /// Union of compute, ns.
    pub compute_ns: u64,
    /// Union of communication, ns.
    pub communication_ns: u64,
    /// Union of copies, ns.
    pub copy_ns: u64,
    /// Communication that no compute covers, ns.
    pub exposed_communication_ns: u64,
    /// Copies that neither compute nor communication covers, ns.
    pub exposed_copy_ns: u64,
    /// Nothing runs, ns.
    pub idle_ns: u64,
    /// Something runs, ns.
    pub busy_ns: u64,
    /// Sum of the durations of all operations in the window, ns: above `busy_ns` where operations overlap.
    pub summed_ns: u64,
    /// Time with so many streams at work, from 0 on; they add up to `total_ns`.
    pub streams_active: Vec<StreamsActive>,
    /// Most streams at work at once.
    pub max_streams: u32,
    /// Most operations at once, on any stream.
    pub max_operations: u32,
}

/// Time with a number of streams at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamsActive {
    /// How many streams.
    pub streams: u32,
    /// For how long in all, ns.
    pub time_ns: u64,
}

/// How devices (ranks) compare.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Balance {
    /// Busy time of each device, ns, as (device, time).
    pub busy_ns: Vec<(u32, u64)>,
    /// Busy time without communication, ns: time in collectives is mostly waiting for others.
    pub work_ns: Vec<(u32, u64)>,
    /// `max / mean` of `work_ns`; 1 is balanced.
    pub imbalance: Option<f64>,
    /// Collectives seen on all devices.
    pub collectives: u64,
    /// Communication kernels that were not matched, as counts differ between the devices.
    pub unmatched: u64,
    /// Time from the first device's begin to the last one's, summed over collectives, ns.
    pub skew_total_ns: u64,
    /// Its median, ns.
    pub skew_p50_ns: Option<f64>,
    /// Its 95th percentile, ns.
    pub skew_p95_ns: Option<f64>,
    /// The largest, ns.
    pub skew_max_ns: Option<u64>,
    /// How long each device waited for the last one to arrive, and how often it was the last.
    pub devices: Vec<RankWait>,
    /// The device that came last most often, if more often than chance with an equal share would have it twice over; else null.
    pub straggler: Option<u32>,
}

/// One device in collectives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RankWait {
    /// Row of `devices`.
    pub device: u32,
    /// Time in collectives before the last device had arrived, ns.
    pub waited_ns: u64,
    /// Collectives in which it came last.
    pub last: u64,
}
