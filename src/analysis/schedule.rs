//! The order in which host and devices did their work, and a simulation that asks how long it would have taken otherwise.
//!
//! **Events and edges.** Events are the API calls of host threads and the operations of devices. An operation waits for
//! - its launch call (*host edge*, from the begin of the call),
//! - the operation before it on its stream (*stream edge*),
//! - the operations before a recorded event its stream was told to wait for, and, in a graph launch, the node that ended last before it.
//!
//! A call waits for the call before it on its thread; a synchronisation or a copy that blocks also for the work it waited for: the operation that
//! ended last before it returned, of the stream or device it names (of the whole process where the trace does not say).
//!
//! **What bound an operation.** If the latest of the operations it waits for ended after its launch call had returned, that operation did, and
//! the time between is a device gap; unless it began within the usual launch latency of its call and later than the turnaround of the stream.
//! Otherwise the host did. The chain of what bound what, from the last operation backwards, is the
//! critical path; its pieces follow each other without a hole, so that they add up to the window.
//!
//! **The simulation** moves every event as early as its edges allow. The edge that bound an event keeps the delay seen in the trace; another
//! edge needs at most the launch latency (tenth percentile from the begin of the call, over operations whose stream was free) or 1 us of
//! turnaround on the stream. The host keeps its own timing: between and inside its calls it takes as long as before, and only its waits shrink. With
//! nothing taken away the simulation gives the trace back, to the nanosecond.
//!
//! **Limits.** It is a lower bound of the new length: kernels do not slow each other down, caches and clocks stay as they are, and the host does
//! not get slower. Threads wait for each other in ways a trace does not show (locks, queues): a thread's first call is taken to follow from
//! the thread of its process whose last call ended latest before, if there is one, and is left where it was otherwise; a thread that polls (`EventQuery` in a loop) keeps polling as long. Operations without a usable launch call keep their distance to the
//! operation before them on the stream. All of that is counted, not hidden.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rustc_hash::FxHashMap;

use super::api_kind::{ApiKind, Calls};
use super::intervals::{Interval, length_ns, op_interval};
use crate::trace::activity::{OpKind, OpRef};
use crate::trace::places::NO_ROW;
use crate::trace::timeline::Timeline;

/// Classes simulated in one pass.
pub(crate) const LANES: usize = 8;
/// How much earlier an event happens, ns, in each simulated variant.
type Shifts = [u64; LANES];

/// Turnaround on a stream, ns.
const TURNAROUND_NS: u64 = 1_000;
/// A wait may return this much before the work it waited for ends: the clocks of host and device are not that close.
const CLOCK_TOLERANCE_NS: i64 = 5_000;
const LATENCY_DEFAULT: Latency = Latency { usual_ns: 5_000, least_ns: 3_000 };
const LATENCY_SAMPLES: usize = 1 << 16;

/// What an operation waited for last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bound {
    /// Nothing the trace shows.
    Nothing,
    /// Its launch call.
    Host,
    /// Another operation.
    Op(OpRef),
}

/// The events of a trace in an order in which every event comes after what it waits for.
#[derive(Debug)]
pub(crate) struct Schedule<'t> {
    timeline: &'t Timeline,
    calls: &'t Calls,
    pub(crate) window: Interval,
    /// Operations with a usable launch call, by (call, begin).
    linked: Vec<OpRef>,
    /// The others, by begin.
    pub(crate) unlinked: Vec<OpRef>,
    pub(crate) clock_skew: u64,
    /// (API row, row of `syncs`), by API row.
    sync_of_call: Vec<(u32, u32)>,
    /// (API row, row of `events`), by API row.
    record_of_call: Vec<(u32, u32)>,
    streams_of_process: Vec<Vec<u32>>,
    latency: Latency,
}

/// Time from the begin of a launch call to the begin of the work, where nothing else was in its way, ns.
#[derive(Debug, Clone, Copy)]
struct Latency {
    /// Median.
    usual_ns: u64,
    /// Tenth percentile: what a launch needs at least, but for outliers.
    least_ns: u64,
}

/// What one pass found.
#[derive(Debug)]
pub(crate) struct Pass {
    /// Length of the work in each variant, ns.
    pub(crate) length_ns: Shifts,
    /// What bound each operation, by [`Schedule::index`]; empty unless asked for.
    pub(crate) bounds: Vec<Bound>,
    /// (API row, operation it waited for), by API row; empty unless asked for.
    pub(crate) waits: Vec<(u32, OpRef)>,
}

/// The last operation of a stream, or one that an event stands for.
#[derive(Debug, Clone, Copy)]
struct Done {
    op: OpRef,
    interval: Interval,
    start: Shifts,
    end: Shifts,
}

impl Done {
    /// Where an operation that begins at `start_ns` hangs on to this one: (time, shifts); `None` if this one began later.
    fn anchor(&self, start_ns: i64) -> Option<(i64, &Shifts)> {
        if self.interval.end_ns <= start_ns {
            Some((self.interval.end_ns, &self.end))
        } else if self.interval.start_ns <= start_ns {
            // They overlapped (programmatic launch, or a trace that is not exact): begin follows begin.
            Some((self.interval.start_ns, &self.start))
        } else {
            None
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct ThreadState {
    shifts: Shifts,
    /// End of the calls seen so far: a call that begins before it is nested.
    busy_until_ns: i64,
}

/// State of a pass.
struct Run {
    streams: Vec<Option<Done>>,
    pending: FxHashMap<u32, Done>,
    recorded: FxHashMap<(u32, u32), Done>,
    ends: [i64; LANES],
    bounds: Vec<Bound>,
    waits: Vec<(u32, OpRef)>,
    keep: bool,
}

fn least(shifts: &mut Shifts, other: &Shifts, slack: u64) {
    for (own, other) in shifts.iter_mut().zip(other) {
        *own = (*own).min(other.saturating_add(slack));
    }
}

impl<'t> Schedule<'t> {
    /// `None` if there is no operation, or the times are so far apart that they cannot be one trace.
    pub(crate) fn new(timeline: &'t Timeline, calls: &'t Calls) -> Option<Self> {
        let ops = timeline.ops_by_start();
        let first = ops.first()?;
        let end_ns = ops.iter().map(|op| timeline.op_end_ns(*op)).max()?;
        let mut start_ns = timeline.op_start_ns(*first);
        let mut linked = Vec::with_capacity(ops.len());
        let mut unlinked = Vec::new();
        let mut clock_skew = 0;
        for op in ops {
            match timeline.op_call(op) {
                Some(call) if timeline.api.start_ns[call] <= timeline.op_start_ns(op) => {
                    start_ns = start_ns.min(timeline.api.start_ns[call]);
                    linked.push(op);
                }
                Some(_) => {
                    clock_skew += 1;
                    unlinked.push(op);
                }
                None => unlinked.push(op),
            }
        }
        let window = Interval::new(start_ns, end_ns);
        if window.len_ns() > i64::MAX as u64 / 4 {
            return None;
        }
        linked.sort_by_key(|op| timeline.op_call(*op));
        let syncs = &timeline.syncs;
        let mut sync_of_call: Vec<(u32, u32)> =
            syncs.call.iter().zip(0..).filter(|(call, _)| **call != NO_ROW).map(|(call, row)| (*call, row)).collect();
        sync_of_call.sort_unstable();
        let mut streams_of_process = vec![Vec::new(); timeline.processes.len()];
        for (row, stream) in timeline.streams.iter().enumerate() {
            streams_of_process[stream.process as usize].push(row as u32);
        }
        let mut schedule = Self {
            timeline,
            calls,
            window,
            linked,
            unlinked,
            clock_skew,
            sync_of_call,
            record_of_call: records_of_calls(timeline, calls),
            streams_of_process,
            latency: LATENCY_DEFAULT,
        };
        schedule.latency = schedule.latency();
        Some(schedule)
    }

    /// Dense number of an operation.
    pub(crate) fn index(&self, op: OpRef) -> usize {
        let t = self.timeline;
        let before = match op.kind() {
            OpKind::Kernel => 0,
            OpKind::Copy => t.kernels.len(),
            OpKind::Memset => t.kernels.len() + t.copies.len(),
            OpKind::Graph => t.kernels.len() + t.copies.len() + t.memsets.len(),
        };
        before + op.row()
    }

    /// From the launches whose stream was free when the call returned.
    fn latency(&self) -> Latency {
        let t = self.timeline;
        let mut free_at = vec![i64::MIN; t.streams.len()];
        let mut samples = Vec::new();
        let mut before = usize::MAX;
        for op in &self.linked {
            // Of a graph launch only the first node tells.
            let Some(call) = t.op_call(*op).filter(|call| *call != before) else { continue };
            before = call;
            let free = &mut free_at[t.op_stream(*op)];
            if *free < t.api.end_ns[call] && !self.calls.waits(call) {
                samples.push(length_ns(t.api.start_ns[call], t.op_start_ns(*op)));
                if samples.len() == LATENCY_SAMPLES {
                    break;
                }
            }
            *free = (*free).max(t.op_end_ns(*op));
        }
        if samples.is_empty() {
            return LATENCY_DEFAULT;
        }
        samples.sort_unstable();
        Latency { usual_ns: samples[samples.len() / 2], least_ns: samples[samples.len() / 10] }
    }

    /// Goes through all events once. `lane_of_name` says in which variant, if any, the kernels of each name take no time. With `keep`, what
    /// bound what is returned too.
    pub(crate) fn pass(&self, lane_of_name: &[Option<u8>], keep: bool) -> Pass {
        let t = self.timeline;
        let api = &t.api;
        let mut run = Run {
            streams: vec![None; t.streams.len()],
            pending: FxHashMap::default(),
            recorded: FxHashMap::default(),
            ends: [self.window.start_ns; LANES],
            bounds: if keep { vec![Bound::Nothing; t.op_count()] } else { Vec::new() },
            waits: Vec::new(),
            keep,
        };
        // Each thread's calls are contiguous; so are the operations they launched.
        let mut threads: Vec<Cursor> = Vec::new();
        let mut from = 0;
        while from < api.len() {
            let thread = api.thread[from];
            let upto = from + api.thread[from..].partition_point(|other| *other <= thread);
            let first = from + api.start_ns[from..upto].partition_point(|start| *start < self.window.start_ns);
            let ops = self.linked.partition_point(|op| t.op_call(*op).is_some_and(|call| call < first));
            let state = ThreadState { shifts: [0; LANES], busy_until_ns: i64::MIN };
            threads.push(Cursor { next: first, end: upto, ops, state });
            from = upto;
        }
        let mut unlinked = self.unlinked.iter().copied().peekable();
        // The next call of each thread, earliest first.
        let begins = |cursor: &Cursor| (cursor.next < cursor.end).then(|| api.start_ns[cursor.next]);
        let with_calls = threads.iter().enumerate();
        let mut next: BinaryHeap<Reverse<(i64, usize)>> =
            with_calls.filter_map(|(slot, cursor)| Some(Reverse((begins(cursor)?, slot)))).collect();
        loop {
            let op = unlinked.peek().map(|op| (t.op_start_ns(*op), *op));
            match (next.peek().map(|Reverse(row)| *row), op) {
                (Some((when, _)), None) if when > self.window.end_ns => break,
                (Some((when, slot)), op) if op.is_none_or(|(start, _)| when <= start) => {
                    next.pop();
                    if threads[slot].state.busy_until_ns == i64::MIN {
                        threads[slot].state.shifts = self.parent_shifts(&threads, slot);
                    }
                    // Stay on a thread as long as no other has an earlier call.
                    let other = next.peek().map_or(i64::MAX, |Reverse((when, _))| *when);
                    let limit = op.map_or(other, |(start, _)| start.min(other)).min(self.window.end_ns);
                    let cursor = &mut threads[slot];
                    loop {
                        self.call(cursor, &mut run, lane_of_name);
                        cursor.next += 1;
                        if begins(cursor).is_none_or(|start| start > limit) {
                            break;
                        }
                    }
                    if let Some(start) = begins(cursor) {
                        next.push(Reverse((start, slot)));
                    }
                }
                (_, Some((_, op))) => {
                    unlinked.next();
                    self.op(op, None, None, &mut run, lane_of_name);
                }
                _ => break,
            }
        }
        run.waits.sort_unstable_by_key(|(row, _)| *row);
        Pass {
            length_ns: run.ends.map(|end| length_ns(self.window.start_ns, end)),
            bounds: run.bounds,
            waits: run.waits,
        }
    }

    /// Where the first call of a thread hangs on: the thread of the process whose last call ended latest before it.
    fn parent_shifts(&self, threads: &[Cursor], slot: usize) -> Shifts {
        let api = &self.timeline.api;
        let process = |cursor: &Cursor| self.timeline.threads[api.thread[cursor.end - 1] as usize].process;
        let (own, begin) = (process(&threads[slot]), api.start_ns[threads[slot].next]);
        let seen = |cursor: &&Cursor| {
            let until = cursor.state.busy_until_ns;
            until > i64::MIN && until <= begin && process(cursor) == own
        };
        let parent = threads.iter().filter(seen).max_by_key(|cursor| cursor.state.busy_until_ns);
        parent.map_or([0; LANES], |cursor| cursor.state.shifts)
    }

    /// The last call of the thread that `parent_shifts` takes, for the thread whose first call in the window is `first`.
    pub(crate) fn parent_call(&self, first: usize) -> Option<usize> {
        let api = &self.timeline.api;
        let begin = api.start_ns[first];
        let process = |row: usize| self.timeline.threads[api.thread[row] as usize].process;
        let mut best: Option<(i64, usize)> = None;
        let mut from = 0;
        while from < api.len() {
            let thread = api.thread[from];
            let upto = from + api.thread[from..].partition_point(|other| *other <= thread);
            let before = from + api.start_ns[from..upto].partition_point(|start| *start < begin);
            if thread != api.thread[first] && process(from) == process(first) && before > from {
                // Calls nest a few levels deep at most.
                let ends = (from.max(before.saturating_sub(4))..before).map(|row| api.end_ns[row]);
                let until = ends.max().unwrap_or(i64::MAX);
                let inside = api.start_ns[before - 1] >= self.window.start_ns;
                if inside && until <= begin && best.is_none_or(|(other, _)| until > other) {
                    best = Some((until, before - 1));
                }
            }
            from = upto;
        }
        best.map(|(_, row)| row)
    }

    /// One call: the work it launches, and what it waits for.
    fn call(&self, cursor: &mut Cursor, run: &mut Run, lane_of_name: &[Option<u8>]) {
        let t = self.timeline;
        let row = cursor.next;
        let (start, end) = (t.api.start_ns[row], t.api.end_ns[row]);
        let host = cursor.state.shifts;
        let mut own: Option<Done> = None;
        while let Some(op) = self.linked.get(cursor.ops).copied()
            && t.op_call(op) == Some(row)
        {
            let done = self.op(op, Some((row, &host)), own.as_ref(), run, lane_of_name);
            if own.as_ref().is_none_or(|other| done.interval.end_ns > other.interval.end_ns) {
                own = Some(done);
            }
            cursor.ops += 1;
        }
        if !t.api.class[row].is_call() {
            return;
        }
        let nested = start < cursor.state.busy_until_ns;
        cursor.state.busy_until_ns = cursor.state.busy_until_ns.max(end);
        let kind = self.calls.kind(row);
        match kind {
            ApiKind::EventRecord => self.record(row, run),
            ApiKind::StreamWaitEvent => self.stream_wait(row, run),
            _ => {}
        }
        if !nested && self.calls.waits(row) {
            let awaited = own.or_else(|| self.awaited(row, kind, run));
            if let Some(done) = awaited.filter(|done| done.interval.end_ns <= end.saturating_add(CLOCK_TOLERANCE_NS)) {
                let ended = done.interval.end_ns;
                let cost = length_ns(ended.max(start), end);
                let mut after = done.end;
                if ended > start {
                    least(&mut after, &host, length_ns(start, end) - cost);
                    if run.keep {
                        run.waits.push((row as u32, done.op));
                    }
                } else {
                    // It had nothing to wait for, but might have if the host had come earlier.
                    after = host;
                    least(&mut after, &done.end, length_ns(ended, start));
                }
                cursor.state.shifts = after;
            }
        }
        if end <= self.window.end_ns {
            for (latest, shift) in run.ends.iter_mut().zip(cursor.state.shifts) {
                *latest = (*latest).max(end.saturating_sub_unsigned(shift));
            }
        }
    }

    /// The operation a synchronisation waited for: the latest to end of those it covers.
    fn awaited(&self, row: usize, kind: ApiKind, run: &Run) -> Option<Done> {
        let t = self.timeline;
        let sync = self.sync_of_call.binary_search_by_key(&(row as u32), |(call, _)| *call);
        let sync = sync.ok().map(|found| self.sync_of_call[found].1 as usize);
        let process = t.threads[t.api.thread[row] as usize].process;
        let limit = t.api.end_ns[row].saturating_add(CLOCK_TOLERANCE_NS);
        if kind == ApiKind::SyncEvent
            && let Some(done) = sync.and_then(|sync| run.recorded.get(&(process, t.syncs.event[sync])))
        {
            return Some(*done);
        }
        let stream = sync.map(|sync| t.syncs.stream[sync] as usize);
        if let Some(stream) = stream.filter(|_| kind == ApiKind::SyncStream) {
            return run.streams[stream];
        }
        let device = stream.filter(|_| kind == ApiKind::SyncDevice).map(|stream| t.streams[stream].device);
        let covered = || {
            let streams = self.streams_of_process[process as usize].iter().map(|stream| *stream as usize);
            let on_device = streams.filter(|stream| device.is_none_or(|device| t.streams[*stream].device == device));
            on_device.filter_map(|stream| run.streams[stream].as_ref()).filter(|done| done.interval.end_ns <= limit)
        };
        let mut last = *covered().max_by_key(|done| done.interval.end_ns)?;
        // It waits for every stream: each of them may become the last one.
        for done in covered() {
            least(&mut last.end, &done.end, length_ns(done.interval.end_ns, last.interval.end_ns));
        }
        Some(last)
    }

    fn record(&self, row: usize, run: &mut Run) {
        let t = self.timeline;
        let Ok(found) = self.record_of_call.binary_search_by_key(&(row as u32), |(call, _)| *call) else { return };
        let event = self.record_of_call[found].1 as usize;
        let stream = t.events.stream[event] as usize;
        let key = (t.streams[stream].process, t.events.event[event]);
        match run.streams[stream] {
            Some(done) => run.recorded.insert(key, done),
            None => run.recorded.remove(&key),
        };
    }

    fn stream_wait(&self, row: usize, run: &mut Run) {
        let t = self.timeline;
        let Ok(found) = self.sync_of_call.binary_search_by_key(&(row as u32), |(call, _)| *call) else { return };
        let sync = self.sync_of_call[found].1 as usize;
        let stream = t.syncs.stream[sync];
        let process = t.streams[stream as usize].process;
        if let Some(done) = run.recorded.get(&(process, t.syncs.event[sync])) {
            let pending = run.pending.entry(stream).or_insert(*done);
            // It waits for all of them: each may become the last one.
            let (mut last, other) =
                if done.interval.end_ns > pending.interval.end_ns { (*done, *pending) } else { (*pending, *done) };
            least(&mut last.end, &other.end, length_ns(other.interval.end_ns, last.interval.end_ns));
            *pending = last;
        }
    }

    /// One operation: as early as its edges allow.
    fn op(
        &self,
        op: OpRef,
        launched: Option<(usize, &Shifts)>,
        same_call: Option<&Done>,
        run: &mut Run,
        lane_of_name: &[Option<u8>],
    ) -> Done {
        let t = self.timeline;
        let interval = op_interval(t, op);
        let stream = t.op_stream(op);
        let before = run.streams[stream];
        let pending = if run.pending.is_empty() { None } else { run.pending.remove(&(stream as u32)) };
        let edges = [before.as_ref(), pending.as_ref(), same_call];
        let mut latest: Option<(i64, OpRef)> = None;
        for done in edges.into_iter().flatten() {
            if let Some((when, _)) = done.anchor(interval.start_ns)
                && latest.is_none_or(|(other, _)| when > other)
            {
                latest = Some((when, done.op));
            }
        }
        let submitted = launched.map(|(call, _)| {
            if self.calls.waits(call) { t.api.start_ns[call] } else { t.api.end_ns[call].min(interval.start_ns) }
        });
        // An operation that begins no later than launches usually take, and later than the stream usually takes, waited for its launch.
        let by_launch = |when: i64| {
            launched
                .is_some_and(|(call, _)| length_ns(t.api.start_ns[call], interval.start_ns) <= self.latency.usual_ns)
                && length_ns(when, interval.start_ns) > TURNAROUND_NS
        };
        let bound = match (latest, submitted) {
            (Some((when, by)), Some(submitted)) if when >= submitted && !by_launch(when) => Bound::Op(by),
            (Some((_, by)), None) => Bound::Op(by),
            (_, Some(_)) => Bound::Host,
            (None, None) => Bound::Nothing,
        };
        let mut start = [u64::MAX; LANES];
        if let Some((call, host)) = launched {
            let seen = length_ns(t.api.start_ns[call], interval.start_ns);
            let needed = if bound == Bound::Host { seen } else { seen.min(self.latency.least_ns) };
            least(&mut start, host, seen - needed);
        }
        for done in edges.into_iter().flatten() {
            if let Some((when, shifts)) = done.anchor(interval.start_ns) {
                let seen = length_ns(when, interval.start_ns);
                let needed = if bound == Bound::Op(done.op) { seen } else { seen.min(TURNAROUND_NS) };
                least(&mut start, shifts, seen - needed);
            }
        }
        if bound == Bound::Nothing {
            start = [0; LANES];
        }
        let mut end = start;
        if op.kind() == OpKind::Kernel
            && let Some(lane) = lane_of_name.get(t.kernels.name[op.row()] as usize).copied().flatten()
        {
            end[lane as usize] += interval.len_ns();
        }
        for (latest, shift) in run.ends.iter_mut().zip(end) {
            *latest = (*latest).max(interval.end_ns.saturating_sub_unsigned(shift));
        }
        let done = Done { op, interval, start, end };
        if before.is_none_or(|before| interval.end_ns >= before.interval.end_ns) {
            run.streams[stream] = Some(done);
        }
        if run.keep {
            run.bounds[self.index(op)] = bound;
        }
        done
    }
}

/// Where a pass is on one thread.
struct Cursor {
    next: usize,
    end: usize,
    ops: usize,
    state: ThreadState,
}

/// Joins the records of events to the calls that made them.
fn records_of_calls(timeline: &Timeline, calls: &Calls) -> Vec<(u32, u32)> {
    let events = &timeline.events;
    if events.is_empty() {
        return Vec::new();
    }
    let api = &timeline.api;
    let mut by_correlation: FxHashMap<(u32, u32), u32> = FxHashMap::default();
    for row in 0..api.len() {
        if calls.kind(row) == ApiKind::EventRecord && api.class[row].is_call() {
            let process = timeline.threads[api.thread[row] as usize].process;
            by_correlation.insert((process, api.correlation[row]), row as u32);
        }
    }
    let key = |row: usize| (timeline.streams[events.stream[row] as usize].process, events.correlation[row]);
    let mut records: Vec<(u32, u32)> =
        (0..events.len()).filter_map(|row| Some((*by_correlation.get(&key(row))?, row as u32))).collect();
    records.sort_unstable();
    records
}
