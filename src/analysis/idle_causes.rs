//! The rules by which a gap gets its cause, and why they stand in this order.
//!
//! A gap `[g0, g1)` lies between the operation `P`, the last to end before it, and `N`, the first to begin after it. `N` was launched by the
//! call `C = [c0, c1)` of thread `T`. The first rule that holds gives the cause.
//!
//! 1. No `P`: `before_work`. No `N`: `after_work`.
//! 2. `P` and `N` come from one graph launch: `graph_boundary`. The nodes of a replay wait for each other and never for the host, so that
//!    nothing about `C` can explain the gap.
//! 3. `N` has no linked call, or begins before `C` does (the clocks of host and device disagree): the host rules cannot be applied;
//!    `profiler_overhead` if the profiler covers at least half of the gap, else `unknown`.
//! 4. **The host was late** if `C` had not returned when the gap began, `c1 > g0` (for a copy whose call waits for it: `c0 > g0`, since such a call
//!    returns after its work in any case). Why it was late:
//!    1. Records of the profiler on `T` (or on no known thread) cover at least half of the gap: `profiler_overhead`. It comes first, because
//!       it would not be there without the profiler. Records of other threads do not count: they run beside.
//!    2. Records of module loading on `T` cover at least half of it: `module_load`. Lazy loading hides inside the launch call.
//!    3. Calls of `T` that overlap `[g0, c0)` and wait for the device, allocate, load modules or build graphs, `B` being the full time of the
//!       calls of one such kind, also before `g0`. The kind is the cause if **without it the work had begun in time**, `B >= g1 - g0`, or if it
//!       fills at least half of the gap; of several kinds the one with the largest `B`: `host_sync`, `allocation`, `module_load`,
//!       `graph_setup`.
//!       This is what tells a pipeline bubble (a long wait, then a few microseconds until the next launch: without the wait the host had
//!       been ahead) from a slow host (a short wait, then a long computation: the wait is not what made it late) without a threshold.
//!    4. Otherwise, if `[g0, c0)` is more than half of the gap, `host_busy`, else `host_launch`: the time went into the call and from there to
//!       the begin of the work.
//! 5. **The device had its work** (`c1 <= g0`):
//!    1. `N` begins within the launch latency `L` of `c1`: `queue_latency`. It came in time for the gap's begin, but not early enough to hide
//!       the way to the device.
//!    2. `P` and `N` both belong to graph launches: `graph_boundary`.
//!    3. `P` is a copy: `copy_dependency`.
//!    4. A `StreamWaitEvent` on the stream of `N` stands between the launch of the operation before it on that stream and `C`:
//!       `stream_dependency`.
//!    5. `N` is a copy: `copy_dependency`; it had to wait for what it copies.
//!    6. The gap is not longer than `L`: `queue_latency`, the turnaround of the device.
//!    7. An operation of another device ended within the gap, at most `L` before `g1`: `stream_dependency`.
//!    8. Records of the profiler in the process cover at least half of the gap: `profiler_overhead`.
//!    9. `unknown`.
//!
//! `L` is the 95th percentile of `g1 - c1` (0 where negative) over the launches to an idle device (those of rule 4) of that device, held between
//! 2 and 20 us; 5 us where there are fewer than 20 of them. At most the first 65,536 are looked at.
//!
//! HTA's rule, the best published one, looks at each stream by itself and knows three answers: `host_wait` if the launch call began after the
//! previous kernel ended, `kernel_wait` if the gap is below 30 (of the trace's own unit), else `other`. Here a device is idle only if no stream
//! runs anything; a call that began before the gap but returned within it is still the host's (an eager decode step whose kernels are shorter than
//! their launches is all such gaps, which HTA files under `kernel_wait` or `other`), and the host's time is told apart.

use rustc_hash::FxHashMap;

use super::api_kind::{ApiKind, Calls, base_name, in_graph};
use super::idle::{HostParts, IdleCause};
use super::intervals::{Interval, length_ns, quantile_ns, unite, words};
use crate::trace::activity::{OpKind, OpRef, SyncKind};
use crate::trace::places::NO_ROW;
use crate::trace::timeline::Timeline;

const LATENCY_DEFAULT_NS: u64 = 5_000;
const LATENCY_MIN_NS: u64 = 2_000;
const LATENCY_MAX_NS: u64 = 20_000;
const LATENCY_SAMPLES_MIN: usize = 20;
/// Samples of launch latency looked at.
pub(crate) const LATENCY_SAMPLES_MAX: usize = 1 << 16;
/// How far to look back for a call that encloses others.
const ENCLOSING_CALLS: usize = 3;

/// A gap between two operations of a device.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gap {
    pub(crate) interval: Interval,
    pub(crate) previous: OpRef,
    pub(crate) next: OpRef,
    /// The operation before `next` on its own stream.
    pub(crate) before_on_stream: Option<OpRef>,
}

/// What the rules say of a gap.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Judgement {
    pub(crate) cause: IdleCause,
    /// All zero unless the host was late.
    pub(crate) parts: HostParts,
    /// The call that is to blame, if one is.
    culprit: Option<u32>,
    /// Time of the calls like it, ns.
    blocked_ns: u64,
}

impl Judgement {
    fn of(cause: IdleCause) -> Self {
        Self { cause, parts: HostParts::default(), culprit: None, blocked_ns: 0 }
    }
}

/// Launch latency of a device from the queue times of launches to it while it was idle.
pub(crate) fn launch_latency_ns(samples: &mut [u64]) -> u64 {
    if samples.len() < LATENCY_SAMPLES_MIN {
        return LATENCY_DEFAULT_NS;
    }
    let p95 = quantile_ns(samples, 0.95).map_or(LATENCY_DEFAULT_NS, |value| value as u64);
    p95.clamp(LATENCY_MIN_NS, LATENCY_MAX_NS)
}

/// Kinds of calls that make a launch late; the order decides ties.
const BLOCKERS: [IdleCause; 4] =
    [IdleCause::HostSync, IdleCause::Allocation, IdleCause::ModuleLoad, IdleCause::GraphSetup];

/// Applies the rules to the gaps of a timeline.
#[derive(Debug)]
pub(crate) struct Rules<'t> {
    timeline: &'t Timeline,
    pub(crate) calls: Calls,
    /// Begins of the calls that make a stream wait, by stream, ascending.
    stream_waits: FxHashMap<u32, Vec<i64>>,
    profiler: Records,
    loading: Records,
    /// Ends of the operations of each device, ascending; filled when first needed.
    ends: Option<Vec<Vec<i64>>>,
    scratch: Vec<(i64, i64, u32)>,
}

/// Disjoint intervals of records of one sort, by thread and by process.
#[derive(Debug, Default)]
struct Records {
    by_thread: FxHashMap<u32, Vec<Interval>>,
    by_process: FxHashMap<u32, Vec<Interval>>,
}

impl Records {
    fn push(&mut self, timeline: &Timeline, thread: u32, interval: Interval) {
        self.by_thread.entry(thread).or_default().push(interval);
        let process = timeline.threads.get(thread as usize).map_or(NO_ROW, |thread| thread.process);
        self.by_process.entry(process).or_default().push(interval);
    }
    fn unite(&mut self) {
        self.by_thread.values_mut().chain(self.by_process.values_mut()).for_each(unite);
    }
    fn covers_half(map: &FxHashMap<u32, Vec<Interval>>, key: u32, gap: Interval) -> bool {
        let covered = |key: u32| {
            let Some(list) = map.get(&key) else { return 0 };
            let first = list.partition_point(|record| record.end_ns <= gap.start_ns);
            let inside = list[first..].iter().take_while(|record| record.start_ns < gap.end_ns);
            inside.map(|record| record.clip(gap).len_ns()).sum::<u64>()
        };
        // Records of a known place and of none may be the same stretch twice: the larger of the two is a safe lower bound.
        !map.is_empty() && covered(key).max(covered(NO_ROW)) >= gap.len_ns().div_ceil(2)
    }
    fn thread_covers_half(&self, thread: u32, gap: Interval) -> bool {
        Self::covers_half(&self.by_thread, thread, gap)
    }
    fn process_covers_half(&self, process: u32, gap: Interval) -> bool {
        Self::covers_half(&self.by_process, process, gap)
    }
}

impl<'t> Rules<'t> {
    pub(crate) fn new(timeline: &'t Timeline) -> Self {
        let calls = Calls::new(timeline);
        let mut stream_waits: FxHashMap<u32, Vec<i64>> = FxHashMap::default();
        let syncs = &timeline.syncs;
        for row in 0..syncs.len() {
            let call = syncs.call[row];
            // Exports disagree about the numbers of the kinds; the name of the call does not lie.
            let (waits, when) = if call == NO_ROW {
                (syncs.kind[row] == SyncKind::STREAM_WAIT_EVENT, syncs.start_ns[row])
            } else {
                (calls.kind(call as usize) == ApiKind::StreamWaitEvent, timeline.api.start_ns[call as usize])
            };
            if waits {
                stream_waits.entry(syncs.stream[row]).or_default().push(when);
            }
        }
        for times in stream_waits.values_mut() {
            times.sort_unstable();
        }
        let (mut profiler, mut loading) = (Records::default(), Records::default());
        let overheads = &timeline.overheads;
        for row in 0..overheads.len() {
            let interval = Interval::new(overheads.start_ns[row], overheads.end_ns[row]);
            match overhead_cause(timeline.text(overheads.name[row])) {
                Some(IdleCause::ModuleLoad) => loading.push(timeline, overheads.thread[row], interval),
                Some(_) => profiler.push(timeline, overheads.thread[row], interval),
                None => {}
            }
        }
        profiler.unite();
        loading.unite();
        Self { timeline, calls, stream_waits, profiler, loading, ends: None, scratch: Vec::new() }
    }

    /// Cause of a gap between two operations; `latency_ns` is the launch latency of the device.
    pub(crate) fn judge(&mut self, gap: Gap, latency_ns: u64) -> Judgement {
        let t = self.timeline;
        let same_launch = t.op_correlation(gap.next) != 0
            && t.op_correlation(gap.next) == t.op_correlation(gap.previous)
            && t.streams[t.op_stream(gap.next)].process == t.streams[t.op_stream(gap.previous)].process;
        let from_graph = |op| in_graph(t, &self.calls, op);
        if same_launch && from_graph(gap.next) && from_graph(gap.previous) {
            return Judgement::of(IdleCause::GraphBoundary);
        }
        let process = t.streams[t.op_stream(gap.next)].process;
        let call = t.op_call(gap.next).filter(|call| t.api.start_ns[*call] <= gap.interval.end_ns);
        let Some(call) = call else {
            let profiler = self.profiler.process_covers_half(process, gap.interval);
            return Judgement::of(if profiler { IdleCause::ProfilerOverhead } else { IdleCause::Unknown });
        };
        let submitted_ns = if self.calls.waits(call) { t.api.start_ns[call] } else { t.api.end_ns[call] };
        if submitted_ns > gap.interval.start_ns {
            return self.judge_late_host(gap, call);
        }
        let cause = if length_ns(submitted_ns, gap.interval.end_ns) <= latency_ns {
            IdleCause::QueueLatency
        } else if from_graph(gap.next) && from_graph(gap.previous) {
            IdleCause::GraphBoundary
        } else if gap.previous.kind() == OpKind::Copy {
            IdleCause::CopyDependency
        } else if self.stream_was_told_to_wait(gap, call) {
            IdleCause::StreamDependency
        } else if gap.next.kind() == OpKind::Copy {
            IdleCause::CopyDependency
        } else if gap.interval.len_ns() <= latency_ns {
            IdleCause::QueueLatency
        } else if self.other_device_ended(gap, latency_ns) {
            IdleCause::StreamDependency
        } else if self.profiler.process_covers_half(process, gap.interval) {
            IdleCause::ProfilerOverhead
        } else {
            IdleCause::Unknown
        };
        Judgement::of(cause)
    }

    fn judge_late_host(&mut self, gap: Gap, call: usize) -> Judgement {
        let t = self.timeline;
        let thread = t.api.thread[call];
        let Interval { start_ns: begin, end_ns: end } = gap.interval;
        let call_start = t.api.start_ns[call].clamp(begin, end);
        let call_end = t.api.end_ns[call].clamp(call_start, end);
        let mut parts = HostParts {
            launch_call_ns: length_ns(call_start, call_end),
            after_call_ns: length_ns(call_end, end),
            ..HostParts::default()
        };
        // What the thread did from the gap's begin to the launch call.
        self.scratch.clear();
        let mut behind = 0;
        for row in (0..call).rev() {
            let start = t.api.start_ns[row];
            if t.api.thread[row] != thread || behind > ENCLOSING_CALLS {
                break;
            }
            behind += usize::from(start <= begin);
            if t.api.class[row].is_call() && t.api.end_ns[row] > begin && start < call_start {
                self.scratch.push((start, t.api.end_ns[row], row as u32));
            }
        }
        let mut blocked = [(0_u64, 0_u64, None::<u32>, 0_u64); 4];
        let (mut cursor, mut full_cursor) = (begin, i64::MIN);
        for (start, stop, row) in self.scratch.iter().rev().copied() {
            let inside = length_ns(start.max(cursor), stop.min(call_start));
            let full = length_ns(start.max(full_cursor), stop);
            cursor = cursor.max(stop);
            full_cursor = full_cursor.max(stop);
            let kind = self.calls.kind(row as usize);
            let blocker = if self.calls.waits(row as usize) {
                parts.waiting_ns += inside;
                0
            } else if kind.is_allocation() {
                parts.allocation_ns += inside;
                1
            } else if kind == ApiKind::ModuleLoad {
                parts.module_load_ns += inside;
                2
            } else if kind.is_graph_setup() {
                parts.graph_setup_ns += inside;
                3
            } else if stop >= call_end && kind.submits_work() {
                // The launch call's own outer spelling (runtime around driver).
                parts.launch_call_ns += inside;
                continue;
            } else {
                parts.other_calls_ns += inside;
                continue;
            };
            let (sum, within, culprit, longest) = &mut blocked[blocker];
            *sum += full;
            *within += inside;
            if culprit.is_none() || full > *longest {
                (*culprit, *longest) = (Some(row), full);
            }
        }
        let delay = length_ns(begin, call_start);
        let named = parts.waiting_ns
            + parts.allocation_ns
            + parts.module_load_ns
            + parts.graph_setup_ns
            + parts.other_calls_ns
            + (parts.launch_call_ns - length_ns(call_start, call_end));
        parts.outside_api_ns = delay - named;

        if self.profiler.thread_covers_half(thread, gap.interval) {
            return Judgement::of(IdleCause::ProfilerOverhead);
        }
        if self.loading.thread_covers_half(thread, gap.interval) {
            return Judgement { parts, ..Judgement::of(IdleCause::ModuleLoad) };
        }
        let mut worst: Option<usize> = None;
        for (blocker, (sum, within, culprit, _)) in blocked.iter().enumerate() {
            let length = gap.interval.len_ns();
            let decides = culprit.is_some() && (*sum >= length || *within >= length.div_ceil(2));
            if decides && worst.is_none_or(|other| *sum > blocked[other].0) {
                worst = Some(blocker);
            }
        }
        if let Some(blocker) = worst {
            let (blocked_ns, _, culprit, _) = blocked[blocker];
            return Judgement { cause: BLOCKERS[blocker], parts, culprit, blocked_ns };
        }
        let before = delay - (parts.launch_call_ns - length_ns(call_start, call_end));
        let busy = before > gap.interval.len_ns() / 2;
        Judgement { parts, ..Judgement::of(if busy { IdleCause::HostBusy } else { IdleCause::HostLaunch }) }
    }

    fn stream_was_told_to_wait(&self, gap: Gap, call: usize) -> bool {
        let t = self.timeline;
        let Some(times) = self.stream_waits.get(&(t.op_stream(gap.next) as u32)) else { return false };
        let launched = t.api.start_ns[call];
        let before = gap.before_on_stream.map_or(i64::MIN, |op| match t.op_call(op) {
            Some(call) => t.api.start_ns[call],
            None => t.op_start_ns(op),
        });
        let upto = times.partition_point(|time| *time <= launched);
        upto > 0 && times[upto - 1] >= before
    }

    fn other_device_ended(&mut self, gap: Gap, latency_ns: u64) -> bool {
        let t = self.timeline;
        if t.devices.len() < 2 {
            return false;
        }
        let ends = self.ends.get_or_insert_with(|| {
            let mut ends = vec![Vec::new(); t.devices.len()];
            for op in t.ops_by_start() {
                ends[t.op_device(op)].push(t.op_end_ns(op));
            }
            for list in &mut ends {
                list.sort_unstable();
            }
            ends
        });
        let device = t.op_device(gap.next);
        let Interval { start_ns, end_ns } = gap.interval;
        ends.iter().enumerate().filter(|(other, _)| *other != device).any(|(_, list)| {
            let upto = list.partition_point(|end| *end <= end_ns);
            upto > 0 && list[upto - 1] > start_ns && length_ns(list[upto - 1], end_ns) <= latency_ns
        })
    }

    /// What speaks for a judgement, in words.
    pub(crate) fn evidence(&self, gap: Gap, judgement: &Judgement, latency_ns: u64) -> String {
        let t = self.timeline;
        let Interval { start_ns: begin, end_ns: end } = gap.interval;
        let Some(call) = t.op_call(gap.next) else {
            return match judgement.cause {
                IdleCause::ProfilerOverhead => "the profiler was at work for at least half of the gap".to_owned(),
                IdleCause::GraphBoundary => "both operations belong to one graph launch".to_owned(),
                _ => "the next operation is not linked to a launch call".to_owned(),
            };
        };
        let name = base_name(t.text(t.api.name[call]));
        let (from, to) = (t.api.start_ns[call], t.api.end_ns[call]);
        let relative = if from >= begin {
            format!("{name} began {} after the gap did", words(length_ns(begin, from)))
        } else {
            format!("{name} began {} before the gap", words(length_ns(from, begin)))
        };
        let lead = format!("{name} had returned {} before the gap began", words(length_ns(to, begin)));
        match judgement.cause {
            IdleCause::HostSync | IdleCause::Allocation | IdleCause::GraphSetup | IdleCause::ModuleLoad => {
                match judgement.culprit {
                    Some(row) => {
                        let row = row as usize;
                        let blocked = base_name(t.text(t.api.name[row]));
                        let returned = t.api.end_ns[row];
                        let when = if returned >= begin { returned.abs_diff(begin) } else { 0 };
                        format!(
                            "the launching thread spent {} in {blocked} and calls like it, which returned {} into the gap; {relative}",
                            words(judgement.blocked_ns),
                            words(when)
                        )
                    }
                    None => format!("records of module loading cover at least half of the gap; {relative}"),
                }
            }
            IdleCause::HostBusy => {
                let parts = judgement.parts;
                format!(
                    "{relative}; before it the thread was outside of the API for {} and in other calls for {}",
                    words(parts.outside_api_ns),
                    words(parts.other_calls_ns + parts.waiting_ns + parts.allocation_ns)
                )
            }
            IdleCause::HostLaunch => format!(
                "{relative}, took {} and the work began {} after it returned",
                words(length_ns(from, to)),
                words(length_ns(to, end))
            ),
            IdleCause::ProfilerOverhead => "records of the profiler cover at least half of the gap".to_owned(),
            IdleCause::StreamDependency if self.stream_was_told_to_wait(gap, call) => {
                format!("{lead}, and the stream had been told to wait for an event")
            }
            IdleCause::StreamDependency => format!("{lead}, and work of another device ended just before the gap did"),
            IdleCause::CopyDependency => format!("{lead}, and a copy stands beside the gap"),
            IdleCause::GraphBoundary => "both operations belong to graph launches".to_owned(),
            IdleCause::QueueLatency => format!("{lead}; a launch takes up to {}", words(latency_ns)),
            IdleCause::Unknown if from > end => {
                "the next operation begins before its launch call: the clocks of host and device disagree".to_owned()
            }
            IdleCause::Unknown | IdleCause::BeforeWork | IdleCause::AfterWork => {
                format!("{lead}; nothing in the trace says what it waited for")
            }
        }
    }
}

/// Whether a record of overhead is the profiler's own, the loading of code, or neither (a full command buffer is the program's doing).
pub(crate) fn overhead_cause(name: &str) -> Option<IdleCause> {
    let lower = name.to_ascii_lowercase();
    if lower.contains("command buffer full") {
        None
    } else if ["module loading", "function loading", "compiler", "jit"].iter().any(|word| lower.contains(word)) {
        Some(IdleCause::ModuleLoad)
    } else {
        Some(IdleCause::ProfilerOverhead)
    }
}
