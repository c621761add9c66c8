//! Copies, memory sets and allocations: how much, how quickly, and which of them hold up the host.

use serde::{Deserialize, Serialize};

use super::api_kind::ApiKind;
use super::intervals::Spread;

/// Copies below this size are counted as tiny: their time is latency, not bandwidth. Bytes.
pub const TINY_BYTES: u64 = 64 * 1024;

/// Transfers and allocations of the whole trace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TransferAnalysis {
    /// Copies by device, direction and kind of host memory, longest in sum first.
    pub copies: Vec<CopyGroup>,
    /// Memory sets by device.
    pub memsets: Vec<MemsetGroup>,
    /// Calls that allocate and release, by name, dearest first.
    pub allocations: Vec<AllocationCalls>,
    /// From where on a call counts as steady state, ns; null without device work.
    pub steady_from_ns: Option<i64>,
    /// Copies within each phase, by where they begin.
    pub phases: Vec<PhaseCopies>,
}

/// Copies of one direction and kind of host memory on one device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CopyGroup {
    /// Row of `devices`.
    pub device: u32,
    /// Direction, with the label of nsys (`Host-to-Device`).
    pub operation: String,
    /// Whether the host side is pageable memory; null where the trace does not say, false where no host memory takes part.
    pub pageable: Option<bool>,
    /// Durations.
    pub duration: Spread,
    /// Union of the copies, ns.
    pub union_ns: u64,
    /// Bytes moved.
    pub bytes: u64,
    /// `bytes / sum of durations`, bytes per second; null without time.
    pub mean_bytes_per_s: Option<f64>,
    /// Median over the copies that are not tiny, bytes per second.
    pub p50_bytes_per_s: Option<f64>,
    /// Best of the copies that are not tiny, bytes per second.
    pub best_bytes_per_s: Option<f64>,
    /// Copies below [`TINY_BYTES`].
    pub tiny: u64,
    /// Their time, ns.
    pub tiny_ns: u64,
    /// Copies whose API blocks by definition.
    pub synchronous: u64,
    /// Asynchronous copies whose call returned only after the copy was done.
    pub blocked_asynchronous: u64,
    /// Time the host spent in the calls of both, ns.
    pub blocked_host_ns: u64,
}

/// Memory sets on one device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MemsetGroup {
    /// Row of `devices`.
    pub device: u32,
    /// Durations.
    pub duration: Spread,
    /// Bytes set.
    pub bytes: u64,
}

/// Calls of one name that allocate or release memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AllocationCalls {
    /// Name without version suffixes.
    pub call: String,
    /// What it does.
    pub kind: ApiKind,
    /// Durations on the host.
    pub duration: Spread,
    /// How many begin in steady state: inside a phase window, or, if no phases were given, in the second half of the device work.
    pub steady_calls: u64,
    /// Their time, ns.
    pub steady_ns: u64,
}

/// Copies within one phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhaseCopies {
    /// Its name.
    pub phase: String,
    /// Windows of the phase.
    pub windows: u64,
    /// Copies that begin in them.
    pub copies: u64,
    /// Bytes.
    pub bytes: u64,
    /// Sum of durations, ns.
    pub total_ns: u64,
    /// Copies between host and device.
    pub host_copies: u64,
}
