//! What the vocabularies of the analyses mean, in plain words.

use crate::analysis::critical_path::PathKind;
use crate::analysis::idle::{DeviceIdle, IdleCause};
use crate::analysis::launch::LaunchVerdict;

/// Name of the gaps shorter than 1 µs, which have no cause of their own.
pub(super) const BELOW: &str = "below_1us";

/// Why the GPU was idle, to follow "because" or "mostly because".
pub(super) fn cause(cause: IdleCause) -> &'static str {
    match cause {
        IdleCause::BeforeWork => "no work had reached it yet",
        IdleCause::AfterWork => "no more work came",
        IdleCause::HostSync => "the host had waited for it (a synchronisation or a blocking copy) and so launched late",
        IdleCause::HostBusy => "the host was busy elsewhere (framework, Python, scheduling) and launched late",
        IdleCause::HostLaunch => "launching itself takes longer than the work it launches",
        IdleCause::Allocation => "the host allocated or released memory instead of launching",
        IdleCause::ModuleLoad => "code was loaded or compiled",
        IdleCause::GraphSetup => "a CUDA graph was captured, built or instantiated",
        IdleCause::ProfilerOverhead => "the profiler itself was at work",
        IdleCause::StreamDependency => "the next work waited for another stream, an event or another GPU",
        IdleCause::CopyDependency => "the next work waited for a copy",
        IdleCause::GraphBoundary => "one CUDA graph launch follows another with a pause",
        IdleCause::QueueLatency => "work that had been launched takes its time to start",
        IdleCause::Unknown => "of something the trace does not show",
    }
}

/// What to do about a cause, where something can be done.
pub(super) fn remedy(cause: IdleCause) -> Option<&'static str> {
    Some(match cause {
        IdleCause::HostSync => "look for `.item()`, `.cpu()`, blocking copies and synchronisations inside the step",
        IdleCause::HostBusy => {
            "put fewer, larger pieces of work into a step: CUDA graphs, a compiled model, less Python between launches"
        }
        IdleCause::HostLaunch => "launch less often: CUDA graphs or fused kernels",
        IdleCause::Allocation => "allocate once before the loop, or use a caching or stream-ordered allocator",
        IdleCause::ModuleLoad => "warm up before measuring; set CUDA_MODULE_LOADING=EAGER",
        IdleCause::GraphSetup => "capture graphs once before serving",
        IdleCause::ProfilerOverhead => "trace less (fewer APIs, no backtraces) and measure again",
        IdleCause::StreamDependency => "look at what the waiting stream waits for",
        IdleCause::CopyDependency => "overlap the copy with compute, from pinned memory",
        _ => return None,
    })
}

/// Idle causes of a device with their time in ns, gaps below 1 µs among them, the longest first.
pub(super) fn causes(idle: &DeviceIdle) -> Vec<(&'static str, Option<IdleCause>, u64)> {
    let mut causes: Vec<(&'static str, Option<IdleCause>, u64)> =
        idle.idle_by_cause.iter().map(|row| (row.cause.name(), Some(row.cause), row.spread.total_ns)).collect();
    if idle.below_1us_ns > 0 {
        causes.push((BELOW, None, idle.below_1us_ns));
    }
    causes.sort_by(|a, b| b.2.cmp(&a.2).then_with(|| a.0.cmp(b.0)));
    causes
}

/// A launch verdict in words.
pub(super) fn launch(verdict: LaunchVerdict) -> &'static str {
    match verdict {
        LaunchVerdict::LaunchBound => "launch bound",
        LaunchVerdict::GpuBound => "GPU bound",
        LaunchVerdict::Mixed => "in between",
        LaunchVerdict::Unknown => "not known",
    }
}

/// A kind of time on the critical path.
pub(super) fn path_kind(kind: PathKind) -> &'static str {
    match kind {
        PathKind::Kernel => "kernels",
        PathKind::Copy => "copies",
        PathKind::Memset => "memory sets",
        PathKind::Graph => "whole CUDA graphs",
        PathKind::DeviceGap => "gaps between operations already launched",
        PathKind::LaunchLatency => "launch latency",
        PathKind::SyncReturn => "return of a waiting call after its work ended",
        PathKind::HostApi => "host, inside API calls",
        PathKind::HostOther => "host, outside API calls",
        PathKind::Unexplained => "before the first event the chain leads back to",
    }
}
