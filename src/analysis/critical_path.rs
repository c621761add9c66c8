//! The chain of events that decided how long the work took, and what would change if a class of kernels cost nothing.
//!
//! Model, limits and the simulation are described in [`super::schedule`].

use std::cmp::Reverse;

use serde::{Deserialize, Serialize};

use super::api_kind::Calls;
use super::intervals::{Interval, length_ns, op_interval, share};
use super::schedule::{Bound, LANES, Pass, Schedule};
use crate::trace::activity::{OpKind, OpRef};
use crate::trace::timeline::Timeline;

/// Where time on the critical path went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PathKind {
    /// A kernel ran.
    Kernel,
    /// A copy ran.
    Copy,
    /// A memory set ran.
    Memset,
    /// A whole graph ran.
    Graph,
    /// From one operation to the next that had already been launched.
    DeviceGap,
    /// From the begin of a launch call to the begin of its work.
    LaunchLatency,
    /// From the end of the awaited work to the return of the waiting call.
    SyncReturn,
    /// The host, in API calls.
    HostApi,
    /// The host, outside of API calls.
    HostOther,
    /// Before the first event the chain leads back to.
    Unexplained,
}

/// The critical path of one window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CriticalPath {
    /// The window: from the first launch (or operation) to the end of the last operation.
    pub window: Interval,
    /// Its length, ns: the parts add up to it.
    pub length_ns: u64,
    /// Time by kind, longest first.
    pub by_kind: Vec<PathShare>,
    /// Kernel time on the path by class, longest first.
    pub by_class: Vec<PathClass>,
    /// Kernel time on the path by name, longest first, at most as many as asked for.
    pub by_kernel: Vec<PathKernel>,
    /// Kernel time on the path of names not listed, ns.
    pub other_kernels_ns: u64,
    /// Share of the path on the host (`host_api`, `host_other`, `launch_latency`, `sync_return`).
    pub host_share: Option<f64>,
    /// What each class is worth, in the order of the classes given.
    pub what_if: Vec<WhatIf>,
    /// Operations that no call is linked to: for them the chain knows the order of the stream only.
    pub unlinked_operations: u64,
    /// Operations that begin before their launch call does; treated as unlinked.
    pub clock_skew_operations: u64,
}

/// Time of one kind on the path.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PathShare {
    /// The kind.
    pub kind: PathKind,
    /// Time, ns.
    pub time_ns: u64,
    /// Of the length.
    pub share: Option<f64>,
    /// Pieces of the path.
    pub pieces: u64,
}

/// Kernel time of one class on the path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PathClass {
    /// The class.
    pub class: String,
    /// Time on the path, ns.
    pub time_ns: u64,
    /// Kernels on the path.
    pub kernels: u64,
}

/// Kernel time of one name on the path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PathKernel {
    /// Short name.
    pub kernel: String,
    /// Time on the path, ns.
    pub time_ns: u64,
    /// Kernels on the path.
    pub kernels: u64,
}

/// The work simulated with the kernels of one class taking no time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WhatIf {
    /// The class.
    pub class: String,
    /// Sum of the class' kernels, ns.
    pub kernel_ns: u64,
    /// How long the work would take, ns; never more than the window.
    pub length_ns: u64,
    /// Window less that, ns.
    pub gain_ns: u64,
    /// `window / length_ns`; null where nothing would be left.
    pub speedup: Option<f64>,
}

/// Classes of kernels, for [`CriticalPath::by_class`] and [`CriticalPath::what_if`].
#[derive(Debug, Clone, Copy)]
pub struct KernelClasses<'a> {
    /// Names of the classes.
    pub names: &'a [String],
    /// Class of each row of `kernel_names`; rows beyond the end, and classes without a name, have none.
    pub of_kernel_name: &'a [u16],
}

impl KernelClasses<'_> {
    fn class(&self, name: usize) -> Option<usize> {
        let class = *self.of_kernel_name.get(name)? as usize;
        (class < self.names.len()).then_some(class)
    }
}

/// Critical path of a timeline from its first launch to the end of its last operation, with at most `kernels` names listed. `None` without
/// any operation.
pub fn critical_path(timeline: &Timeline, classes: KernelClasses<'_>, kernels: usize) -> Option<CriticalPath> {
    let calls = Calls::new(timeline);
    let schedule = Schedule::new(timeline, &calls)?;
    let window_ns = schedule.window.len_ns();
    let mut what_if = Vec::with_capacity(classes.names.len());
    let mut kernel_ns = vec![0_u64; classes.names.len()];
    for row in 0..timeline.kernels.len() {
        if let Some(class) = classes.class(timeline.kernels.name[row] as usize) {
            let length = length_ns(timeline.kernels.start_ns[row], timeline.kernels.end_ns[row]);
            kernel_ns[class] = kernel_ns[class].saturating_add(length);
        }
    }
    let lanes = |first: usize| -> Vec<Option<u8>> {
        let lane = |name| classes.class(name).and_then(|class| class.checked_sub(first)).filter(|lane| *lane < LANES);
        (0..timeline.kernel_names.len()).map(|name| lane(name).map(|lane| lane as u8)).collect()
    };
    let pass = schedule.pass(&lanes(0), true);
    push_what_if(&mut what_if, classes, &kernel_ns, window_ns, &pass);
    let path = Walk::new(timeline, &schedule, &pass).run();
    while what_if.len() < classes.names.len() {
        let pass = schedule.pass(&lanes(what_if.len()), false);
        push_what_if(&mut what_if, classes, &kernel_ns, window_ns, &pass);
    }

    let mut by_class: Vec<PathClass> = Vec::new();
    let mut by_kernel = Vec::new();
    for (name, (time_ns, count)) in path.kernels.iter().enumerate().filter(|(_, (_, count))| *count > 0) {
        let text = timeline.text(timeline.kernel_names[name].short).to_owned();
        by_kernel.push(PathKernel { kernel: text, time_ns: *time_ns, kernels: *count });
        let class = classes.class(name).map_or("unclassified", |class| classes.names[class].as_str());
        match by_class.iter_mut().find(|row| row.class == class) {
            Some(row) => {
                row.time_ns += time_ns;
                row.kernels += count;
            }
            None => by_class.push(PathClass { class: class.to_owned(), time_ns: *time_ns, kernels: *count }),
        }
    }
    by_class.sort_by(|a, b| b.time_ns.cmp(&a.time_ns).then_with(|| a.class.cmp(&b.class)));
    by_kernel.sort_by(|a, b| b.time_ns.cmp(&a.time_ns).then_with(|| a.kernel.cmp(&b.kernel)));
    let other_kernels_ns = by_kernel.iter().skip(kernels).map(|row| row.time_ns).sum();
    by_kernel.truncate(kernels);
    let mut by_kind: Vec<PathShare> = KINDS
        .iter()
        .zip(&path.kinds)
        .filter(|(_, (_, pieces))| *pieces > 0)
        .map(|(kind, (time_ns, pieces))| PathShare {
            kind: *kind,
            time_ns: *time_ns,
            share: share(*time_ns, window_ns),
            pieces: *pieces,
        })
        .collect();
    by_kind.sort_by_key(|row| (Reverse(row.time_ns), row.kind));
    let host = [PathKind::HostApi, PathKind::HostOther, PathKind::LaunchLatency, PathKind::SyncReturn];
    let host_ns = host.iter().map(|kind| path.kinds[*kind as usize].0).sum();
    Some(CriticalPath {
        window: schedule.window,
        length_ns: window_ns,
        by_kind,
        by_class,
        by_kernel,
        other_kernels_ns,
        host_share: share(host_ns, window_ns),
        what_if,
        unlinked_operations: schedule.unlinked.len() as u64 - schedule.clock_skew,
        clock_skew_operations: schedule.clock_skew,
    })
}

const KINDS: [PathKind; 10] = [
    PathKind::Kernel,
    PathKind::Copy,
    PathKind::Memset,
    PathKind::Graph,
    PathKind::DeviceGap,
    PathKind::LaunchLatency,
    PathKind::SyncReturn,
    PathKind::HostApi,
    PathKind::HostOther,
    PathKind::Unexplained,
];

fn push_what_if(rows: &mut Vec<WhatIf>, classes: KernelClasses<'_>, kernel_ns: &[u64], window_ns: u64, pass: &Pass) {
    let first = rows.len();
    for (name, (kernel_ns, length_ns)) in
        classes.names[first..].iter().zip(kernel_ns[first..].iter().zip(pass.length_ns))
    {
        let length_ns = length_ns.min(window_ns);
        rows.push(WhatIf {
            class: name.clone(),
            kernel_ns: *kernel_ns,
            length_ns,
            gain_ns: window_ns - length_ns,
            speedup: (length_ns > 0).then(|| window_ns as f64 / length_ns as f64),
        });
    }
}

/// Where the walk backwards is.
#[derive(Clone, Copy)]
enum At {
    /// Inside or at the end of an operation.
    Op(OpRef),
    /// On the thread of API call `on`, behind the calls before row `upto`.
    Host {
        on: usize,
        upto: usize,
    },
    Done,
}

/// Walks from the last operation backwards along what bound what.
struct Walk<'a> {
    timeline: &'a Timeline,
    schedule: &'a Schedule<'a>,
    pass: &'a Pass,
    /// Everything after it is accounted for.
    time_ns: i64,
    /// (time, pieces) by [`PathKind`].
    kinds: [(u64, u64); KINDS.len()],
    /// (time, kernels) by row of `kernel_names`.
    kernels: Vec<(u64, u64)>,
}

impl<'a> Walk<'a> {
    fn new(timeline: &'a Timeline, schedule: &'a Schedule<'a>, pass: &'a Pass) -> Self {
        let kernels = vec![(0, 0); timeline.kernel_names.len()];
        Self { timeline, schedule, pass, time_ns: schedule.window.end_ns, kinds: [(0, 0); KINDS.len()], kernels }
    }

    /// Accounts for the time back to `to_ns`, if that is before.
    fn back_to(&mut self, to_ns: i64, kind: PathKind) -> u64 {
        let to_ns = to_ns.max(self.schedule.window.start_ns);
        let time = length_ns(to_ns, self.time_ns);
        if time > 0 {
            self.time_ns = to_ns;
            let (sum, pieces) = &mut self.kinds[kind as usize];
            *sum += time;
            *pieces += 1;
        }
        time
    }

    fn run(mut self) -> Self {
        let t = self.timeline;
        let mut at = At::Done;
        let mut latest = i64::MIN;
        for op in t.ops_by_start() {
            let end = t.op_end_ns(op);
            if end > latest {
                (latest, at) = (end, At::Op(op));
            }
        }
        loop {
            at = match at {
                At::Op(op) => self.op(op),
                At::Host { on, upto } => self.host(on, upto),
                At::Done => break,
            };
        }
        self.back_to(self.schedule.window.start_ns, PathKind::Unexplained);
        self
    }

    fn op(&mut self, op: OpRef) -> At {
        let interval = op_interval(self.timeline, op);
        let kind = match op.kind() {
            OpKind::Kernel => PathKind::Kernel,
            OpKind::Copy => PathKind::Copy,
            OpKind::Memset => PathKind::Memset,
            OpKind::Graph => PathKind::Graph,
        };
        let time = self.back_to(interval.start_ns, kind);
        if op.kind() == OpKind::Kernel {
            let (sum, count) = &mut self.kernels[self.timeline.kernels.name[op.row()] as usize];
            *sum += time;
            *count += 1;
        }
        match self.pass.bounds[self.schedule.index(op)] {
            Bound::Nothing => At::Done,
            Bound::Op(before) => {
                self.back_to(self.timeline.op_end_ns(before), PathKind::DeviceGap);
                At::Op(before)
            }
            Bound::Host => match self.timeline.op_call(op) {
                Some(call) => {
                    self.back_to(self.timeline.api.start_ns[call], PathKind::LaunchLatency);
                    At::Host { on: call, upto: call }
                }
                None => At::Done,
            },
        }
    }

    /// Back along the thread of call `on` from row `upto` (not included) to a wait for work, or to the thread's begin and the thread it came from.
    fn host(&mut self, on: usize, upto: usize) -> At {
        let api = &self.timeline.api;
        let mut first = on;
        for row in (0..upto).rev() {
            if api.thread[row] != api.thread[on] || api.start_ns[row] < self.schedule.window.start_ns {
                break;
            }
            first = row;
            if !api.class[row].is_call() || api.start_ns[row] >= self.time_ns {
                continue;
            }
            self.back_to(api.end_ns[row], PathKind::HostOther);
            let wait = self.pass.waits.binary_search_by_key(&(row as u32), |(call, _)| *call);
            if let Ok(found) = wait {
                let awaited = self.pass.waits[found].1;
                self.back_to(self.timeline.op_end_ns(awaited), PathKind::SyncReturn);
                return At::Op(awaited);
            }
            self.back_to(api.start_ns[row], PathKind::HostApi);
        }
        match self.schedule.parent_call(first) {
            // The parent's last call is part of the way.
            Some(parent) => At::Host { on: parent, upto: parent + 1 },
            None => At::Done,
        }
    }
}

#[cfg(test)]
#[path = "critical_path_tests.rs"]
mod tests;
