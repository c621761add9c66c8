//! Copies, memory sets and allocations: how much, how quickly, and which of them hold up the host.

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::api_kind::{ApiKind, Calls, base_name};
use super::intervals::{Interval, Phases, Spread, WindowSweep, length_ns, op_name, quantile_ns};
use crate::trace::activity::{CopyKind, MemoryKind, OpKind, OpRef};
use crate::trace::places::NO_ROW;
use crate::trace::timeline::Timeline;

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
    /// From where on a call counts as steady state, ns; null where phases say it, and without device work.
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

/// Copies, memory sets and allocations. Phases are windows of device time.
pub fn transfers(timeline: &Timeline, phases: Phases<'_>) -> TransferAnalysis {
    let calls = Calls::new(timeline);
    let mut phase_rows: Vec<PhaseCopies> = phases
        .names
        .iter()
        .enumerate()
        .map(|(phase, name)| PhaseCopies {
            phase: name.clone(),
            windows: phases.count(phase, None),
            copies: 0,
            bytes: 0,
            total_ns: 0,
            host_copies: 0,
        })
        .collect();
    let copies = copy_groups(timeline, &calls, phases, &mut phase_rows);
    let half = timeline.device_span_ns().map(|(from, to)| from.midpoint(to));
    let steady_from_ns = half.filter(|_| phases.windows.is_empty());
    TransferAnalysis {
        copies,
        memsets: memset_groups(timeline),
        allocations: allocation_calls(timeline, &calls, phases, steady_from_ns),
        steady_from_ns,
        phases: phase_rows,
    }
}

/// Whether one side of a copy is host memory.
fn touches_host(kind: CopyKind) -> bool {
    matches!(
        kind,
        CopyKind::HOST_TO_DEVICE
            | CopyKind::DEVICE_TO_HOST
            | CopyKind::HOST_TO_ARRAY
            | CopyKind::ARRAY_TO_HOST
            | CopyKind::HOST_TO_HOST
            | CopyKind::UNIFIED_HOST_TO_DEVICE
            | CopyKind::UNIFIED_DEVICE_TO_HOST
    )
}

/// Whether pageable memory takes part in a copy; `None` where the trace does not say what memory the host side is.
fn pageable(kind: CopyKind, source: MemoryKind, destination: MemoryKind) -> Option<bool> {
    let sides = [source, destination];
    if sides.contains(&MemoryKind::PAGEABLE) {
        return Some(true);
    }
    let open = sides.contains(&MemoryKind::UNKNOWN) && (touches_host(kind) || kind == CopyKind::default());
    (!open).then_some(false)
}

#[derive(Default)]
struct GroupSums {
    lengths: Vec<u64>,
    rates: Vec<u64>,
    bytes: u64,
    union_ns: u64,
    frontier: Option<i64>,
    tiny: u64,
    tiny_ns: u64,
    synchronous: u64,
    blocked_asynchronous: u64,
    blocked_host_ns: u64,
    last_call: Option<u32>,
    example: u32,
}

fn copy_groups(
    timeline: &Timeline,
    calls: &Calls,
    phases: Phases<'_>,
    phase_rows: &mut [PhaseCopies],
) -> Vec<CopyGroup> {
    let copies = &timeline.copies;
    let windows: Vec<Vec<(Interval, u32)>> =
        (0..timeline.devices.len()).map(|device| phases.on_device(device as u32)).collect();
    let mut sweeps: Vec<WindowSweep<'_>> = windows.iter().map(|windows| WindowSweep::new(windows)).collect();
    let mut groups: FxHashMap<(u32, CopyKind, Option<bool>), GroupSums> = FxHashMap::default();
    for row in 0..copies.len() {
        let device = timeline.streams[copies.stream[row] as usize].device;
        let kind = copies.kind[row];
        let key = (device, kind, pageable(kind, copies.source[row], copies.destination[row]));
        let group = groups.entry(key).or_insert_with(|| GroupSums { example: row as u32, ..GroupSums::default() });
        let (start, end, bytes) = (copies.start_ns[row], copies.end_ns[row], copies.bytes[row]);
        let length = length_ns(start, end);
        group.lengths.push(length);
        group.bytes = group.bytes.saturating_add(bytes);
        group.union_ns += length_ns(group.frontier.map_or(start, |frontier| frontier.max(start)), end);
        group.frontier = group.frontier.max(Some(end));
        if bytes < TINY_BYTES {
            group.tiny += 1;
            group.tiny_ns = group.tiny_ns.saturating_add(length);
        } else if length > 0 {
            let rate = u128::from(bytes) * 1_000_000_000 / u128::from(length);
            group.rates.push(u64::try_from(rate).unwrap_or(u64::MAX));
        }
        let call = copies.call[row];
        if call != NO_ROW {
            let synchronous = calls.kind(call as usize) == ApiKind::CopySync;
            let blocked = calls.copy_blocked(call as usize);
            group.synchronous += u64::from(synchronous);
            group.blocked_asynchronous += u64::from(blocked);
            // Several copies of one batch call follow each other.
            if (synchronous || blocked) && group.last_call != Some(call) {
                group.last_call = Some(call);
                let (from, to) = (timeline.api.start_ns[call as usize], timeline.api.end_ns[call as usize]);
                group.blocked_host_ns = group.blocked_host_ns.saturating_add(length_ns(from, to));
            }
        }
        sweeps[device as usize].meet(Interval::new(start, start.saturating_add(1)), |phase, _| {
            let row = &mut phase_rows[phase as usize];
            row.copies += 1;
            row.bytes = row.bytes.saturating_add(bytes);
            row.total_ns = row.total_ns.saturating_add(length);
            row.host_copies += u64::from(touches_host(kind));
        });
    }
    let mut rows: Vec<CopyGroup> = groups
        .into_iter()
        .map(|((device, _, pageable), mut group)| {
            let duration = Spread::of(&mut group.lengths);
            let label = op_name(timeline, OpRef::new(OpKind::Copy, group.example as usize));
            CopyGroup {
                device,
                operation: label.trim_start_matches("[memcpy ").trim_end_matches(']').to_owned(),
                pageable,
                duration,
                union_ns: group.union_ns,
                bytes: group.bytes,
                mean_bytes_per_s: (duration.total_ns > 0)
                    .then(|| group.bytes as f64 / (duration.total_ns as f64 / 1e9)),
                p50_bytes_per_s: quantile_ns(&mut group.rates, 0.5),
                best_bytes_per_s: group.rates.iter().max().map(|rate| *rate as f64),
                tiny: group.tiny,
                tiny_ns: group.tiny_ns,
                synchronous: group.synchronous,
                blocked_asynchronous: group.blocked_asynchronous,
                blocked_host_ns: group.blocked_host_ns,
            }
        })
        .collect();
    rows.sort_by(|a, b| {
        let by_time = b.duration.total_ns.cmp(&a.duration.total_ns);
        by_time.then_with(|| (a.device, &a.operation, a.pageable).cmp(&(b.device, &b.operation, b.pageable)))
    });
    rows
}

fn memset_groups(timeline: &Timeline) -> Vec<MemsetGroup> {
    let memsets = &timeline.memsets;
    let mut by_device: Vec<(Vec<u64>, u64)> = vec![(Vec::new(), 0); timeline.devices.len()];
    for row in 0..memsets.len() {
        let (lengths, bytes) = &mut by_device[timeline.streams[memsets.stream[row] as usize].device as usize];
        lengths.push(length_ns(memsets.start_ns[row], memsets.end_ns[row]));
        *bytes = bytes.saturating_add(memsets.bytes[row]);
    }
    let rows = by_device.into_iter().enumerate().filter(|(_, (lengths, _))| !lengths.is_empty());
    rows.map(|(device, (mut lengths, bytes))| MemsetGroup {
        device: device as u32,
        duration: Spread::of(&mut lengths),
        bytes,
    })
    .collect()
}

fn allocation_calls(
    timeline: &Timeline,
    calls: &Calls,
    phases: Phases<'_>,
    steady_from_ns: Option<i64>,
) -> Vec<AllocationCalls> {
    let mut steady: Vec<Interval> = phases.windows.iter().map(|window| window.interval).collect();
    if let Some(from) = steady_from_ns {
        steady.push(Interval::new(from, i64::MAX));
    }
    super::intervals::unite(&mut steady);
    let in_steady = |when: i64| {
        let next = steady.partition_point(|interval| interval.end_ns <= when);
        steady.get(next).is_some_and(|interval| interval.contains(when))
    };
    let api = &timeline.api;
    let mut groups: FxHashMap<&str, (ApiKind, Vec<u64>, u64, u64)> = FxHashMap::default();
    for row in 0..api.len() {
        let kind = calls.kind(row);
        if !kind.is_allocation() || !api.class[row].is_call() {
            continue;
        }
        let group = groups.entry(base_name(timeline.text(api.name[row]))).or_insert_with(|| (kind, Vec::new(), 0, 0));
        let length = length_ns(api.start_ns[row], api.end_ns[row]);
        group.1.push(length);
        if in_steady(api.start_ns[row]) {
            group.2 += 1;
            group.3 = group.3.saturating_add(length);
        }
    }
    let mut rows: Vec<AllocationCalls> = groups
        .into_iter()
        .map(|(name, (kind, mut lengths, steady_calls, steady_ns))| AllocationCalls {
            call: name.to_owned(),
            kind,
            duration: Spread::of(&mut lengths),
            steady_calls,
            steady_ns,
        })
        .collect();
    rows.sort_by(|a, b| b.duration.total_ns.cmp(&a.duration.total_ns).then_with(|| a.call.cmp(&b.call)));
    rows
}

#[cfg(test)]
#[path = "transfers_tests.rs"]
mod tests;
