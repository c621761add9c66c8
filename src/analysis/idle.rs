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

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use serde::{Deserialize, Serialize};

use super::api_kind::base_name;
use super::idle_causes::{Gap, Judgement, LATENCY_SAMPLES_MAX, Rules, launch_latency_ns};
use super::intervals::{Interval, Phases, Spread, WindowSweep, length_ns, op_name, ops_by_device};
use crate::trace::activity::OpRef;
use crate::trace::timeline::Timeline;

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
    /// Operations in the window.
    pub operations: u64,
    /// Operations of the device that have no linked launch call.
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

/// Idle time of every device of a timeline, by cause.
pub fn idle(timeline: &Timeline, options: &IdleOptions<'_>) -> Vec<DeviceIdle> {
    let mut rules = Rules::new(timeline);
    let mut before_on_stream: Vec<Option<OpRef>> = vec![None; timeline.streams.len()];
    ops_by_device(timeline)
        .iter()
        .enumerate()
        .map(|(device, ops)| {
            before_on_stream.fill(None);
            device_idle(timeline, options, &mut rules, &mut before_on_stream, device as u32, ops)
        })
        .collect()
}

/// What is known of a gap while it is counted.
#[derive(Debug, Clone, Copy)]
enum Edge {
    Before(OpRef),
    After(OpRef),
    Between(Gap, Judgement),
    Nothing,
}

/// Collects the gaps of one device.
struct Collector<'a> {
    window: Interval,
    lengths: [Vec<u64>; IdleCause::ALL.len()],
    below_ns: u64,
    below_gaps: u64,
    parts: HostParts,
    bins: Vec<GapBin>,
    longest: BinaryHeap<Reverse<(u64, i64, usize)>>,
    edges: Vec<Edge>,
    keep: usize,
    phases: WindowSweep<'a>,
    phase_idle: Vec<[u64; IdleCause::ALL.len() + 1]>,
}

impl Collector<'_> {
    /// Counts the part of the gap `whole` that lies in the window.
    fn add(&mut self, whole: Interval, cause: IdleCause, parts: &HostParts, edge: Edge) {
        let inside = whole.clip(self.window);
        let length = inside.len_ns();
        if length == 0 {
            return;
        }
        let bin = (length.ilog10() as usize).min(self.bins.len() - 1);
        self.bins[bin].gaps += 1;
        self.bins[bin].total_ns += length;
        // The whole gap decides, so that a window's edge makes no long gap short.
        let short = whole.len_ns() < SHORT_GAP_NS;
        let column = if short { IdleCause::ALL.len() } else { cause as usize };
        let phase_idle = &mut self.phase_idle;
        self.phases.meet(inside, |phase, common| phase_idle[phase as usize][column] += common.len_ns());
        if short {
            self.below_ns += length;
            self.below_gaps += 1;
            return;
        }
        self.lengths[cause as usize].push(length);
        if cause.is_host() {
            self.parts.add(&parts.scaled(inside, whole));
        }
        if self.keep == 0 {
            return;
        }
        if self.longest.len() < self.keep {
            self.longest.push(Reverse((length, inside.start_ns, self.edges.len())));
            self.edges.push(edge);
        } else if let Some(mut least) = self.longest.peek_mut()
            && least.0.0 < length
        {
            let slot = least.0.2;
            *least = Reverse((length, inside.start_ns, slot));
            drop(least);
            self.edges[slot] = edge;
        }
    }
}

impl HostParts {
    fn fields(&mut self) -> [&mut u64; 8] {
        [
            &mut self.waiting_ns,
            &mut self.allocation_ns,
            &mut self.module_load_ns,
            &mut self.graph_setup_ns,
            &mut self.other_calls_ns,
            &mut self.outside_api_ns,
            &mut self.launch_call_ns,
            &mut self.after_call_ns,
        ]
    }
    fn add(&mut self, other: &Self) {
        let mut other = *other;
        for (sum, value) in self.fields().into_iter().zip(other.fields()) {
            *sum += *value;
        }
    }
    /// The share of the parts that the part `inside` of the gap `whole` has; what rounding leaves goes to the last part.
    fn scaled(&self, inside: Interval, whole: Interval) -> Self {
        let (length, of) = (inside.len_ns(), whole.len_ns());
        if length == of {
            return *self;
        }
        let mut scaled = *self;
        let mut left = length;
        let mut fields = scaled.fields();
        let last = fields.len() - 1;
        for (index, field) in fields.iter_mut().enumerate() {
            let share = (u128::from(**field) * u128::from(length) / u128::from(of.max(1))) as u64;
            **field = if index == last { left } else { share.min(left) };
            left -= **field;
        }
        scaled
    }
}

fn device_idle(
    timeline: &Timeline,
    options: &IdleOptions<'_>,
    rules: &mut Rules<'_>,
    before_on_stream: &mut [Option<OpRef>],
    device: u32,
    ops: &[OpRef],
) -> DeviceIdle {
    let span = ops.first().map(|first| {
        let end = ops.iter().map(|op| timeline.op_end_ns(*op)).max().unwrap_or(i64::MIN);
        Interval::new(timeline.op_start_ns(*first), end)
    });
    let window = options.window.or(span);
    let (latency_ns, clock_skew_operations, unlinked_operations) = survey(timeline, rules, ops);
    let inside = window.unwrap_or(Interval::new(0, 0));
    let phase_windows = options.phases.on_device(device);
    let mut collector = Collector {
        window: inside,
        lengths: std::array::from_fn(|_| Vec::new()),
        below_ns: 0,
        below_gaps: 0,
        parts: HostParts::default(),
        bins: gap_bins(),
        longest: BinaryHeap::new(),
        edges: Vec::new(),
        keep: options.longest,
        phases: WindowSweep::new(&phase_windows),
        phase_idle: vec![[0; IdleCause::ALL.len() + 1]; options.phases.names.len()],
    };
    let none = HostParts::default();
    let mut frontier: Option<(i64, OpRef)> = None;
    let mut operations = 0;
    for op in ops {
        let (start, end) = (timeline.op_start_ns(*op), timeline.op_end_ns(*op));
        operations += u64::from(start < inside.end_ns && end > inside.start_ns || inside.contains(start));
        match frontier {
            None => {
                let before = Interval::new(inside.start_ns, start);
                collector.add(before, IdleCause::BeforeWork, &none, Edge::Before(*op));
            }
            Some((idle_from, previous)) if start > idle_from => {
                let whole = Interval::new(idle_from, start);
                if whole.len_ns() < SHORT_GAP_NS {
                    collector.add(whole, IdleCause::Unknown, &none, Edge::Nothing);
                } else if !whole.clip(inside).is_empty() {
                    let before_on_stream = before_on_stream[timeline.op_stream(*op)];
                    let gap = Gap { interval: whole, previous, next: *op, before_on_stream };
                    let judgement = rules.judge(gap, latency_ns);
                    collector.add(whole, judgement.cause, &judgement.parts, Edge::Between(gap, judgement));
                }
            }
            Some(_) => {}
        }
        before_on_stream[timeline.op_stream(*op)] = Some(*op);
        if frontier.is_none_or(|(latest, _)| end > latest) {
            frontier = Some((end, *op));
        }
    }
    match frontier {
        Some((end, last)) => {
            let after = Interval::new(end.max(inside.start_ns), inside.end_ns);
            collector.add(after, IdleCause::AfterWork, &none, Edge::After(last));
        }
        None => collector.add(inside, IdleCause::BeforeWork, &none, Edge::Nothing),
    }

    let longest = longest_gaps(timeline, rules, &collector, latency_ns);
    let phases = phase_idle(options.phases.names, &phase_windows, inside, &collector.phase_idle);
    let mut idle_by_cause = Vec::new();
    let mut idle_ns = collector.below_ns;
    for cause in IdleCause::ALL {
        let lengths = &mut collector.lengths[cause as usize];
        if !lengths.is_empty() {
            let spread = Spread::of(lengths);
            idle_ns += spread.total_ns;
            idle_by_cause.push(CauseIdle { cause, spread });
        }
        *lengths = Vec::new();
    }
    collector.bins.retain(|bin| bin.gaps > 0);
    DeviceIdle {
        device,
        window,
        window_ns: inside.len_ns(),
        busy_ns: inside.len_ns() - idle_ns,
        idle_ns,
        idle_by_cause,
        below_1us_ns: collector.below_ns,
        below_1us_gaps: collector.below_gaps,
        host_parts: collector.parts,
        launch_latency_ns: latency_ns,
        operations,
        unlinked_operations,
        clock_skew_operations,
        gap_lengths: collector.bins,
        longest,
        phases,
    }
}

/// Launch latency of a device, and how many of its operations begin before their call or have none.
pub(crate) fn survey(timeline: &Timeline, rules: &Rules<'_>, ops: &[OpRef]) -> (u64, u64, u64) {
    let mut samples = Vec::new();
    let (mut skewed, mut unlinked) = (0, 0);
    let mut frontier = i64::MAX;
    for op in ops {
        let (start, end) = (timeline.op_start_ns(*op), timeline.op_end_ns(*op));
        match timeline.op_call(*op) {
            None => unlinked += 1,
            Some(call) if timeline.api.start_ns[call] > start => skewed += 1,
            Some(call) => {
                let returned = timeline.api.end_ns[call];
                let to_idle = start > frontier && returned > frontier && !rules.calls.waits(call);
                if to_idle && samples.len() < LATENCY_SAMPLES_MAX {
                    samples.push(length_ns(returned, start));
                }
            }
        }
        frontier = if frontier == i64::MAX { end } else { frontier.max(end) };
    }
    (launch_latency_ns(&mut samples), skewed, unlinked)
}

/// Bins of a factor of ten from 1 ns to 10 s.
fn gap_bins() -> Vec<GapBin> {
    let bin = |power: u32| GapBin {
        from_ns: 10_u64.pow(power),
        below_ns: (power < 10).then(|| 10_u64.pow(power + 1)),
        gaps: 0,
        total_ns: 0,
    };
    (0..=10).map(bin).collect()
}

fn longest_gaps(timeline: &Timeline, rules: &Rules<'_>, collector: &Collector<'_>, latency_ns: u64) -> Vec<LongGap> {
    let mut rows: Vec<(u64, i64, usize)> = collector.longest.iter().map(|Reverse(row)| *row).collect();
    rows.sort_unstable_by_key(|(length, start, _)| (Reverse(*length), *start));
    let name = |op| op_name(timeline, op);
    let call = |op| timeline.op_call(op).map(|call| base_name(timeline.text(timeline.api.name[call])).to_owned());
    rows.into_iter()
        .map(|(length_ns, start_ns, slot)| {
            let interval = Interval::new(start_ns, start_ns.saturating_add_unsigned(length_ns));
            let (cause, previous, next, launch_call, evidence) = match collector.edges[slot] {
                Edge::Before(op) => {
                    (IdleCause::BeforeWork, None, Some(name(op)), call(op), "the device has no work before".to_owned())
                }
                Edge::After(op) => {
                    (IdleCause::AfterWork, Some(name(op)), None, None, "the device has no work after".to_owned())
                }
                Edge::Between(gap, judgement) => (
                    judgement.cause,
                    Some(name(gap.previous)),
                    Some(name(gap.next)),
                    call(gap.next),
                    rules.evidence(gap, &judgement, latency_ns),
                ),
                Edge::Nothing => (IdleCause::BeforeWork, None, None, None, "the device has no work at all".to_owned()),
            };
            LongGap { interval, length_ns, cause, previous, next, launch_call, evidence }
        })
        .collect()
}

fn phase_idle(
    names: &[String],
    windows: &[(Interval, u32)],
    inside: Interval,
    idle: &[[u64; IdleCause::ALL.len() + 1]],
) -> Vec<PhaseIdle> {
    names
        .iter()
        .zip(idle)
        .enumerate()
        .map(|(phase, (name, columns))| {
            let of_phase = windows.iter().filter(|(_, of)| *of as usize == phase);
            let window_ns = of_phase.map(|(window, _)| window.clip(inside).len_ns()).sum::<u64>();
            let idle_ns = columns.iter().sum::<u64>();
            let by_cause = IdleCause::ALL.iter().zip(columns).filter(|(_, ns)| **ns > 0);
            PhaseIdle {
                phase: name.clone(),
                window_ns,
                busy_ns: window_ns - idle_ns,
                idle_ns,
                idle_by_cause: by_cause.map(|(cause, ns)| (*cause, *ns)).collect(),
                below_1us_ns: columns[IdleCause::ALL.len()],
            }
        })
        .collect()
}

#[cfg(test)]
#[path = "idle_tests.rs"]
mod tests;
