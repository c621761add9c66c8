//! What ran at the same time: compute, communication and copies of a device, streams, and devices among each other.
//!
//! The identity of TraceLens holds to the nanosecond: `compute + exposed communication + exposed copies + idle = total`, where *exposed* is
//! what no compute (and, for copies, no communication either) covers. Memory sets and whole-graph launches count as compute: the first are
//! kernels or nearly so, of the second a trace does not say what was inside.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::intervals::{Interval, Spread, length_ns, op_interval, ops_by_device};
use crate::trace::activity::{OpKind, OpRef};
use crate::trace::strings::StringId;
use crate::trace::timeline::Timeline;

/// Collectives needed before a device is called a straggler.
const STRAGGLER_COLLECTIVES: u64 = 10;

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
    /// Compute or copies run, ns.
    pub work_ns: u64,
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
///
/// Collectives are matched by name and order: the k-th kernel of a name on one device with the k-th on the others, for names that every device
/// has equally often. All devices must be on one clock; traces of several machines are only as good as their clocks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Balance {
    /// Busy time of each device, ns, as (device, time).
    pub busy_ns: Vec<(u32, u64)>,
    /// Time with compute or copies at work, ns: time in collectives alone is mostly waiting for others.
    pub work_ns: Vec<(u32, u64)>,
    /// `max / mean` of `work_ns`; 1 is balanced.
    pub imbalance: Option<f64>,
    /// Collectives seen on all devices.
    pub collectives: u64,
    /// Communication kernels that were not matched, as counts differ between the devices.
    pub unmatched: u64,
    /// Time from the first device's begin to the last one's, over the collectives.
    pub skew: Spread,
    /// How long each device waited for the last one to arrive, and how often it was the last.
    pub devices: Vec<RankWait>,
    /// The device that came last most often, if that was at least half-way between an equal share and always, and there were at least ten
    /// collectives; else null.
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

/// Overlap of every device with work. `classes` has the category of each row of `kernel_names`; rows beyond its end are compute. `window` as
/// for [`super::idle::IdleOptions`].
pub fn overlap(timeline: &Timeline, classes: &[Category], window: Option<Interval>) -> OverlapAnalysis {
    let by_device = ops_by_device(timeline);
    let devices: Vec<DeviceOverlap> = by_device
        .iter()
        .enumerate()
        .filter(|(_, ops)| !ops.is_empty())
        .map(|(device, ops)| device_overlap(timeline, classes, window, device as u32, ops))
        .collect();
    let balance = (devices.len() > 1).then(|| balance(timeline, classes, &by_device, &devices, window));
    OverlapAnalysis { devices, balance }
}

fn category(timeline: &Timeline, classes: &[Category], op: OpRef) -> Category {
    match op.kind() {
        OpKind::Kernel => classes.get(timeline.kernels.name[op.row()] as usize).copied().unwrap_or(Category::Compute),
        OpKind::Copy | OpKind::Memset | OpKind::Graph => Category::Compute,
    }
}

const COMPUTE: usize = 0;
const COMMUNICATION: usize = 1;
const COPY: usize = 2;

/// What runs at the moment, and how long each state lasted so far.
#[derive(Default)]
struct Sweep {
    now: i64,
    /// Operations of each class at work.
    classes: [u32; 3],
    operations: u32,
    streams: u32,
    on_stream: FxHashMap<u32, u32>,
    union: [u64; 3],
    exposed_communication: u64,
    exposed_copy: u64,
    work: u64,
    by_streams: Vec<u64>,
}

impl Sweep {
    fn advance(&mut self, to: i64) {
        let time = length_ns(self.now, to);
        if time == 0 {
            return;
        }
        self.now = to;
        for (union, count) in self.union.iter_mut().zip(self.classes) {
            *union += if count > 0 { time } else { 0 };
        }
        let [compute, communication, copy] = self.classes.map(|count| count > 0);
        if communication && !compute {
            self.exposed_communication += time;
        }
        if copy && !compute && !communication {
            self.exposed_copy += time;
        }
        if compute || copy {
            self.work += time;
        }
        let streams = self.streams as usize;
        if self.by_streams.len() <= streams {
            self.by_streams.resize(streams + 1, 0);
        }
        self.by_streams[streams] += time;
    }
    fn begin(&mut self, class: usize, stream: u32) {
        self.classes[class] += 1;
        self.operations += 1;
        let running = self.on_stream.entry(stream).or_default();
        self.streams += u32::from(*running == 0);
        *running += 1;
    }
    fn end(&mut self, class: usize, stream: u32) {
        self.classes[class] -= 1;
        self.operations -= 1;
        if let Some(running) = self.on_stream.get_mut(&stream) {
            *running -= 1;
            self.streams -= u32::from(*running == 0);
        }
    }
}

fn device_overlap(
    timeline: &Timeline,
    classes: &[Category],
    window: Option<Interval>,
    device: u32,
    ops: &[OpRef],
) -> DeviceOverlap {
    let window = window.unwrap_or_else(|| {
        let start = ops.first().map_or(0, |op| timeline.op_start_ns(*op));
        Interval::new(start, ops.iter().map(|op| timeline.op_end_ns(*op)).max().unwrap_or(start))
    });
    let mut sweep = Sweep { now: window.start_ns, ..Sweep::default() };
    let mut running: BinaryHeap<Reverse<(i64, usize, u32)>> = BinaryHeap::new();
    let (mut summed_ns, mut max_operations, mut max_streams) = (0_u64, 0, 0);
    for op in ops {
        let inside = op_interval(timeline, *op).clip(window);
        if inside.is_empty() {
            continue;
        }
        while let Some(Reverse((end, class, stream))) = running.peek().copied()
            && end <= inside.start_ns
        {
            running.pop();
            sweep.advance(end);
            sweep.end(class, stream);
        }
        sweep.advance(inside.start_ns);
        let class = match (op.kind(), category(timeline, classes, *op)) {
            (OpKind::Copy, _) => COPY,
            (_, Category::Communication) => COMMUNICATION,
            (_, Category::Compute) => COMPUTE,
        };
        let stream = timeline.op_stream(*op) as u32;
        sweep.begin(class, stream);
        running.push(Reverse((inside.end_ns, class, stream)));
        summed_ns = summed_ns.saturating_add(inside.len_ns());
        max_operations = max_operations.max(sweep.operations);
        max_streams = max_streams.max(sweep.streams);
    }
    while let Some(Reverse((end, class, stream))) = running.pop() {
        sweep.advance(end);
        sweep.end(class, stream);
    }
    sweep.advance(window.end_ns);
    let total_ns = window.len_ns();
    let idle_ns = sweep.by_streams.first().copied().unwrap_or(0);
    let streams = sweep.by_streams.iter().enumerate().filter(|(_, time)| **time > 0);
    DeviceOverlap {
        device,
        window,
        total_ns,
        compute_ns: sweep.union[COMPUTE],
        communication_ns: sweep.union[COMMUNICATION],
        copy_ns: sweep.union[COPY],
        exposed_communication_ns: sweep.exposed_communication,
        exposed_copy_ns: sweep.exposed_copy,
        idle_ns,
        busy_ns: total_ns - idle_ns,
        work_ns: sweep.work,
        summed_ns,
        streams_active: streams
            .map(|(streams, time)| StreamsActive { streams: streams as u32, time_ns: *time })
            .collect(),
        max_streams,
        max_operations,
    }
}

/// Collectives of one name: when each began and how long it took, by device.
type Collectives = Vec<Vec<Interval>>;

fn balance(
    timeline: &Timeline,
    classes: &[Category],
    by_device: &[Vec<OpRef>],
    devices: &[DeviceOverlap],
    window: Option<Interval>,
) -> Balance {
    let mut by_name: FxHashMap<StringId, Collectives> = FxHashMap::default();
    let mut kernels = 0_u64;
    for (slot, device) in devices.iter().enumerate() {
        for op in &by_device[device.device as usize] {
            let interval = op_interval(timeline, *op);
            let outside = window.is_some_and(|window| !window.contains(interval.start_ns));
            if outside || category(timeline, classes, *op) == Category::Compute {
                continue;
            }
            let name = timeline.kernel_names[timeline.kernels.name[op.row()] as usize].short;
            by_name.entry(name).or_insert_with(|| vec![Vec::new(); devices.len()])[slot].push(interval);
            kernels += 1;
        }
    }
    let mut ranks: Vec<RankWait> =
        devices.iter().map(|device| RankWait { device: device.device, waited_ns: 0, last: 0 }).collect();
    let mut skews = Vec::new();
    for lists in by_name.values() {
        if lists.iter().any(|list| list.len() != lists[0].len()) {
            continue;
        }
        for order in 0..lists[0].len() {
            let starts = || lists.iter().map(|list| list[order].start_ns);
            let (Some(first), Some(last)) = (starts().min(), starts().max()) else { continue };
            skews.push(length_ns(first, last));
            let mut came_last = None;
            for (slot, list) in lists.iter().enumerate() {
                let own = list[order];
                ranks[slot].waited_ns += length_ns(own.start_ns, last.min(own.end_ns));
                if own.start_ns == last && first < last {
                    came_last = came_last.or(Some(slot));
                }
            }
            if let Some(slot) = came_last {
                ranks[slot].last += 1;
            }
        }
    }
    let collectives = skews.len() as u64;
    let work_ns: Vec<(u32, u64)> = devices.iter().map(|device| (device.device, device.work_ns)).collect();
    let mean = work_ns.iter().map(|(_, time)| *time as f64).sum::<f64>() / work_ns.len() as f64;
    let most = work_ns.iter().map(|(_, time)| *time).max().unwrap_or(0);
    let equal = 1.0 / devices.len() as f64;
    let late = ranks.iter().max_by_key(|rank| rank.last).filter(|rank| {
        collectives >= STRAGGLER_COLLECTIVES && rank.last as f64 >= f64::midpoint(equal, 1.0) * collectives as f64
    });
    Balance {
        busy_ns: devices.iter().map(|device| (device.device, device.busy_ns)).collect(),
        imbalance: (mean > 0.0).then(|| most as f64 / mean),
        work_ns,
        collectives,
        unmatched: kernels - collectives * devices.len() as u64,
        skew: Spread::of(&mut skews),
        straggler: late.map(|rank| rank.device),
        devices: ranks,
    }
}

#[cfg(test)]
#[path = "overlap_tests.rs"]
mod tests;
