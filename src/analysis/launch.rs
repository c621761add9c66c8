//! What launching costs, and whether the device waits for it.
//!
//! Definitions, for an operation `o` and the API call `c` that launched it:
//! - *API time* is `c.end - c.start`.
//! - *Queue time* is `o.start - c.end` where that is not negative, as in nsys' `cuda_kern_exec_sum`; an operation that starts before the call
//!   returns has none (it is counted in `started_before_return`), and one that starts before the call *begins* shows that the clocks disagree
//!   and enters no statistic (`clock_skew`).
//! - *Launch latency* `t_l` is `o.start - c.start`. `TKLQT` is its sum and `AKD` the mean duration of kernels (SKIP, arXiv 2504.11750).
//! - A graph launch counts once, with the first operation it started: the others wait for each other, not for the host.
//! - Copies and memory sets launched by themselves are no launches here; [`super::transfers`] has them.
//! - *Queue depth* is the number of launches whose call had returned and whose work had not started, weighted with time.

use std::cmp::Reverse;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::api_kind::{ApiKind, Calls, base_name};
use super::idle::{DeviceIdle, IdleCause};
use super::intervals::{
    Interval, Phases, Spread, WindowSweep, length_ns, op_interval, ops_by_device, share, union_ns, words,
};
use crate::trace::activity::{OpKind, OpRef};
use crate::trace::timeline::Timeline;

/// From this share of the window on that is idle for the host, a device can be launch-bound.
pub const LAUNCH_BOUND_SHARE: f64 = 0.25;
/// Up to this share of the window that is idle for the host, a device is GPU-bound.
pub const GPU_BOUND_SHARE: f64 = 0.05;
/// A device whose queue is empty for less than this share of the time is not launch-bound.
pub const EMPTY_QUEUE_SHARE: f64 = 0.5;
/// Threads listed at most.
const THREADS: usize = 16;

/// Cost of the calls of one name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallCost {
    /// Name without version suffixes.
    pub call: String,
    /// What it does.
    pub kind: ApiKind,
    /// Durations of the calls.
    pub duration: Spread,
}

/// Launching of the whole trace and of each device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LaunchAnalysis {
    /// Calls that put work on a device, by name, dearest first.
    pub calls: Vec<CallCost>,
    /// Threads that put work on a device, most calls first, at most 16.
    pub threads: Vec<ThreadLaunches>,
    /// Threads not listed.
    pub threads_left_out: u64,
    /// Each device.
    pub devices: Vec<DeviceLaunch>,
}

/// A host thread that launches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ThreadLaunches {
    /// Row of `threads`.
    pub thread: u32,
    /// Thread id of the operating system.
    pub tid: u64,
    /// Its calls that put work on a device.
    pub calls: u64,
    /// Union of these calls, ns.
    pub launching_ns: u64,
    /// From its first such call to the end of its last, ns.
    pub span_ns: u64,
    /// `launching_ns / span_ns`.
    pub launching_share: Option<f64>,
}

/// Launching for one device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceLaunch {
    /// Row of `devices`.
    pub device: u32,
    /// Operations of the device of all kinds.
    pub operations: u64,
    /// Kernels among them.
    pub kernels: u64,
    /// Operations with a linked call.
    pub linked_operations: u64,
    /// Distinct calls that launched them: a graph launch counts once.
    pub launches: u64,
    /// Graph launches among them.
    pub graph_launches: u64,
    /// Queue time of the launches that have one.
    pub queue: Spread,
    /// Launches whose work started before the call returned: no queue time.
    pub started_before_return: u64,
    /// Launches whose work started before the call began: clocks disagree, not in any statistic.
    pub clock_skew: u64,
    /// Launch latency `t_l`; its total is TKLQT.
    pub latency: Spread,
    /// Total kernel launch and queue time, ns; null without a reliable launch.
    pub tklqt_ns: Option<u64>,
    /// Mean duration of kernels, ns.
    pub akd_ns: Option<f64>,
    /// Launches per second of the device's span.
    pub launches_per_s: Option<f64>,
    /// How many launches waited in the queue over the device's span; null without a reliable launch.
    pub queue_depth: Option<QueueDepth>,
    /// Launches of each phase, by where their work starts.
    pub phases: Vec<PhaseLaunches>,
    /// Whether the device waits for launches.
    pub verdict: LaunchVerdict,
    /// What speaks for it, in words with numbers.
    pub evidence: Vec<String>,
    /// `window / (window - idle caused by the host)`: the most that launching for free could gain; null without links or a window.
    pub speedup_bound: Option<f64>,
}

/// Depth of the launch queue, weighted with time over the device's span.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct QueueDepth {
    /// Mean.
    pub mean: f64,
    /// Median.
    pub p50: u64,
    /// 95th percentile.
    pub p95: u64,
    /// Most.
    pub max: u64,
    /// Share of the time in which nothing waits.
    pub empty_share: f64,
}

/// Launches of one phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhaseLaunches {
    /// Its name.
    pub phase: String,
    /// Windows of the phase, such as decode steps.
    pub windows: u64,
    /// Kernels that start in them.
    pub kernels: u64,
    /// Launches whose first operation starts in them; a graph launch counts once.
    pub launches: u64,
    /// `launches / windows`.
    pub launches_per_window: Option<f64>,
    /// Sum of launch latencies, ns.
    pub tklqt_ns: u64,
}

/// Whether a device waits for launches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LaunchVerdict {
    /// At least a quarter of the window is idle for the host, and half of the time nothing waits in the queue.
    LaunchBound,
    /// At most 5 % of the window is idle for the host.
    GpuBound,
    /// In between.
    Mixed,
    /// Fewer than half of the operations are linked to calls, or no window.
    Unknown,
}

impl Phases<'_> {
    /// Windows of `phase` that concern `device`, as given: touching ones are not united, so that decode steps can be counted.
    pub(crate) fn count(&self, phase: usize, device: Option<u32>) -> u64 {
        let of_phase = self.windows.iter().filter(|window| window.phase as usize == phase);
        of_phase.filter(|window| device.is_none() || window.device.is_none_or(|of| Some(of) == device)).count() as u64
    }
}

/// What launching costs. `idle` is the result of [`super::idle::idle`] on the same timeline, for the verdict and the bound.
pub fn launch(timeline: &Timeline, idle: &[DeviceIdle], phases: Phases<'_>) -> LaunchAnalysis {
    let calls = Calls::new(timeline);
    let (threads, threads_left_out) = launching_threads(timeline, &calls);
    let devices = ops_by_device(timeline)
        .iter()
        .enumerate()
        .map(|(device, ops)| {
            let idle = idle.iter().find(|row| row.device as usize == device);
            device_launch(timeline, &calls, device as u32, ops, idle, phases)
        })
        .collect();
    LaunchAnalysis { calls: call_costs(timeline, &calls), threads, threads_left_out, devices }
}

fn call_costs(timeline: &Timeline, calls: &Calls) -> Vec<CallCost> {
    let api = &timeline.api;
    let mut slots: FxHashMap<&str, usize> = FxHashMap::default();
    let mut slot_of_name: Vec<Option<usize>> = vec![None; timeline.strings.len()];
    let mut groups: Vec<(&str, ApiKind, Vec<u64>)> = Vec::new();
    for row in 0..api.len() {
        let kind = calls.kind(row);
        if !kind.submits_work() || !api.class[row].is_call() {
            continue;
        }
        let slot = *slot_of_name[api.name[row].0 as usize].get_or_insert_with(|| {
            let name = base_name(timeline.text(api.name[row]));
            *slots.entry(name).or_insert_with(|| {
                groups.push((name, kind, Vec::new()));
                groups.len() - 1
            })
        });
        groups[slot].2.push(length_ns(api.start_ns[row], api.end_ns[row]));
    }
    let mut costs: Vec<CallCost> = groups
        .into_iter()
        .map(|(name, kind, mut lengths)| CallCost { call: name.to_owned(), kind, duration: Spread::of(&mut lengths) })
        .collect();
    costs.sort_by(|a, b| b.duration.total_ns.cmp(&a.duration.total_ns).then_with(|| a.call.cmp(&b.call)));
    costs
}

fn launching_threads(timeline: &Timeline, calls: &Calls) -> (Vec<ThreadLaunches>, u64) {
    let api = &timeline.api;
    let mut threads: Vec<ThreadLaunches> = Vec::new();
    let mut from = 0;
    while from < api.len() {
        let thread = api.thread[from];
        let upto = from + api.thread[from..].partition_point(|other| *other <= thread);
        let rows = || (from..upto).filter(|row| calls.kind(*row).submits_work() && api.class[*row].is_call());
        let interval = |row: usize| Interval::new(api.start_ns[row], api.end_ns[row]);
        if let Some(first) = rows().next() {
            let last = rows().map(|row| api.end_ns[row]).max().unwrap_or(api.end_ns[first]);
            let launching_ns = union_ns(rows().map(interval));
            let span_ns = length_ns(api.start_ns[first], last);
            threads.push(ThreadLaunches {
                thread,
                tid: timeline.threads[thread as usize].tid,
                calls: rows().count() as u64,
                launching_ns,
                span_ns,
                launching_share: share(launching_ns, span_ns),
            });
        }
        from = upto;
    }
    threads.sort_by_key(|row| (Reverse(row.calls), row.thread));
    let left_out = threads.len().saturating_sub(THREADS) as u64;
    threads.truncate(THREADS);
    (threads, left_out)
}

/// A launch with a usable link: its call and when its first operation began.
#[derive(Clone, Copy)]
struct Launch {
    call: u32,
    start_ns: i64,
}

fn device_launch(
    timeline: &Timeline,
    calls: &Calls,
    device: u32,
    ops: &[OpRef],
    idle: Option<&DeviceIdle>,
    phases: Phases<'_>,
) -> DeviceLaunch {
    let api = &timeline.api;
    let phase_windows = phases.on_device(device);
    let mut kernel_sweep = WindowSweep::new(&phase_windows);
    let mut phase_rows: Vec<PhaseLaunches> = phases
        .names
        .iter()
        .enumerate()
        .map(|(phase, name)| PhaseLaunches {
            phase: name.clone(),
            windows: phases.count(phase, Some(device)),
            kernels: 0,
            launches: 0,
            launches_per_window: None,
            tklqt_ns: 0,
        })
        .collect();
    let mut seen = vec![0_u64; api.len().div_ceil(64)];
    let mut launches: Vec<Launch> = Vec::new();
    let (mut linked, mut kernels, mut kernel_ns, mut graph_launches, mut clock_skew) = (0, 0, 0_u64, 0, 0);
    for op in ops {
        let interval = op_interval(timeline, *op);
        let is_kernel = op.kind() == OpKind::Kernel;
        if is_kernel {
            kernels += 1;
            kernel_ns = kernel_ns.saturating_add(interval.len_ns());
        }
        let mut latency = None;
        let mut first = false;
        if let Some(call) = timeline.op_call(*op) {
            linked += 1;
            let is_launch = is_kernel || op.kind() == OpKind::Graph || calls.kind(call) == ApiKind::LaunchGraph;
            first = is_launch && seen[call / 64] >> (call % 64) & 1 == 0;
            if first {
                seen[call / 64] |= 1 << (call % 64);
                graph_launches += u64::from(calls.kind(call) == ApiKind::LaunchGraph);
                if api.start_ns[call] > interval.start_ns {
                    clock_skew += 1;
                } else {
                    launches.push(Launch { call: call as u32, start_ns: interval.start_ns });
                    latency = Some(length_ns(api.start_ns[call], interval.start_ns));
                }
            }
        }
        let begin = Interval::new(interval.start_ns, interval.start_ns.saturating_add(1));
        kernel_sweep.meet(begin, |phase, _| {
            let row = &mut phase_rows[phase as usize];
            row.kernels += u64::from(is_kernel);
            row.launches += u64::from(first);
            row.tklqt_ns = row.tklqt_ns.saturating_add(latency.unwrap_or(0));
        });
    }
    for row in &mut phase_rows {
        row.launches_per_window = share(row.launches, row.windows);
    }
    let span = ops.first().map(|first| {
        let end = ops.iter().map(|op| timeline.op_end_ns(*op)).max().unwrap_or(i64::MIN);
        Interval::new(timeline.op_start_ns(*first), end)
    });
    let queue_depth = span.filter(|_| !launches.is_empty()).and_then(|span| queue_depth(timeline, &launches, span));
    let queued = |launch: &Launch| {
        let returned = api.end_ns[launch.call as usize];
        (launch.start_ns >= returned).then(|| length_ns(returned, launch.start_ns))
    };
    let mut times: Vec<u64> = launches.iter().filter_map(queued).collect();
    let queue = Spread::of(&mut times);
    times.clear();
    times.extend(launches.iter().map(|launch| length_ns(api.start_ns[launch.call as usize], launch.start_ns)));
    let latency = Spread::of(&mut times);
    let count = launches.len() as u64 + clock_skew;
    let seconds = span.map_or(0.0, |span| span.len_ns() as f64 / 1e9);
    let mut row = DeviceLaunch {
        device,
        operations: ops.len() as u64,
        kernels,
        linked_operations: linked,
        launches: count,
        graph_launches,
        started_before_return: launches.len() as u64 - queue.count,
        clock_skew,
        queue,
        latency,
        tklqt_ns: (latency.count > 0).then_some(latency.total_ns),
        akd_ns: (kernels > 0).then(|| kernel_ns as f64 / kernels as f64),
        launches_per_s: (seconds > 0.0).then(|| count as f64 / seconds),
        queue_depth,
        phases: phase_rows,
        verdict: LaunchVerdict::Unknown,
        evidence: Vec::new(),
        speedup_bound: None,
    };
    judge(&mut row, idle);
    row
}

/// Depth of the queue over `span`: a launch waits from the return of its call to the begin of its work.
fn queue_depth(timeline: &Timeline, launches: &[Launch], span: Interval) -> Option<QueueDepth> {
    let returned = |launch: &Launch| timeline.api.end_ns[launch.call as usize];
    let waiting = || launches.iter().filter(|launch| returned(launch) < launch.start_ns);
    let mut entered: Vec<i64> = waiting().map(returned).collect();
    entered.sort_unstable();
    let mut left = waiting().map(|launch| launch.start_ns).peekable();
    let mut time_at: Vec<u64> = vec![0];
    let mut depth = 0_usize;
    let mut now = span.start_ns;
    let mut next = 0;
    loop {
        // One that leaves makes room before the next enters.
        let event = match (entered.get(next), left.peek()) {
            (Some(enters), Some(leaves)) if enters < leaves => Some((*enters, true)),
            (Some(enters), None) => Some((*enters, true)),
            (_, Some(leaves)) => Some((*leaves, false)),
            (None, None) => None,
        };
        let upto = event.map_or(span.end_ns, |(when, _)| when.clamp(span.start_ns, span.end_ns));
        time_at[depth] += length_ns(now, upto);
        now = now.max(upto);
        match event {
            Some((_, true)) => {
                depth += 1;
                next += 1;
                if time_at.len() <= depth {
                    time_at.push(0);
                }
            }
            Some((_, false)) => {
                depth -= 1;
                left.next();
            }
            None => break,
        }
    }
    let total: u64 = time_at.iter().sum();
    let at = |p: f64| {
        let mut sum = 0;
        time_at.iter().position(|time| {
            sum += time;
            sum as f64 >= p * total as f64
        })
    };
    let weighted: f64 = time_at.iter().enumerate().map(|(depth, time)| depth as f64 * *time as f64).sum();
    let max = time_at.iter().rposition(|time| *time > 0)?;
    Some(QueueDepth {
        mean: weighted / total as f64,
        p50: at(0.5)? as u64,
        p95: at(0.95)? as u64,
        max: max as u64,
        empty_share: share(time_at[0], total)?,
    })
}

/// Fills in the verdict, what speaks for it, and the bound.
fn judge(row: &mut DeviceLaunch, idle: Option<&DeviceIdle>) {
    let linked = share(row.linked_operations, row.operations);
    let Some(idle) = idle.filter(|idle| idle.window_ns > 0 && linked.is_some_and(|linked| linked >= 0.5)) else {
        row.evidence.push(format!(
            "{} of {} operations are linked to the call that launched them: too few to tell",
            row.linked_operations, row.operations
        ));
        return;
    };
    let percent = |part: u64| 100.0 * part as f64 / idle.window_ns as f64;
    let host_ns = idle.host_ns();
    let host_share = host_ns as f64 / idle.window_ns as f64;
    let empty = row.queue_depth.map(|depth| depth.empty_share);
    row.verdict = if host_share <= GPU_BOUND_SHARE {
        LaunchVerdict::GpuBound
    } else if host_share >= LAUNCH_BOUND_SHARE && empty.is_none_or(|empty| empty >= EMPTY_QUEUE_SHARE) {
        LaunchVerdict::LaunchBound
    } else {
        LaunchVerdict::Mixed
    };
    row.evidence.push(format!(
        "busy for {:.1} % of {}, idle for the host for {:.1} %",
        percent(idle.busy_ns),
        words(idle.window_ns),
        percent(host_ns)
    ));
    for cause in [IdleCause::HostLaunch, IdleCause::HostBusy, IdleCause::HostSync] {
        let time = idle.cause_ns(cause);
        if time > 0 {
            row.evidence.push(format!("{}: {} ({:.1} %)", cause.name(), words(time), percent(time)));
        }
    }
    if let Some(depth) = row.queue_depth {
        row.evidence.push(format!(
            "nothing waits in the launch queue for {:.1} % of the time; median depth {}",
            100.0 * depth.empty_share,
            depth.p50
        ));
    }
    if let (Some(latency), Some(akd)) = (row.latency.p50_ns, row.akd_ns) {
        row.evidence.push(format!(
            "median launch latency {}, mean kernel {}",
            words(latency as u64),
            words(akd as u64)
        ));
    }
    let rest = idle.window_ns - host_ns;
    row.speedup_bound = (rest > 0).then(|| idle.window_ns as f64 / rest as f64);
}

#[cfg(test)]
#[path = "launch_tests.rs"]
mod tests;
