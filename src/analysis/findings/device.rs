//! Findings about idle devices, overlap and transfers.

use super::{Finding, Results, device_name, percent, time};
use crate::analysis::idle::{DeviceIdle, IdleCause};
use crate::analysis::launch::LaunchVerdict;
use crate::diagnostics::Severity;

/// A cause below this share of the window is not worth a line.
const SHARE: f64 = 0.03;

struct Advice {
    cause: IdleCause,
    code: &'static str,
    title: &'static str,
    check: &'static str,
}

/// Causes that are findings of their own; launching is one finding over three causes.
const CAUSES: [Advice; 8] = [
    Advice {
        cause: IdleCause::HostSync,
        code: "host_sync",
        title: "the GPU waits because the host had waited for it: synchronisations and blocking copies drain the queue",
        check: "Find the calls in the list of the longest gaps; read results back asynchronously (pinned memory, an event) or once per \
                several steps, and compare the step time.",
    },
    Advice {
        cause: IdleCause::Allocation,
        code: "allocation_in_the_way",
        title: "the GPU waits while the host allocates or releases memory",
        check: "Allocate before the loop, or use a caching or stream-ordered allocator; the calls should vanish from the API summary.",
    },
    Advice {
        cause: IdleCause::ModuleLoad,
        code: "module_load",
        title: "the GPU waits while code is loaded or compiled",
        check: "Warm up before measuring; `CUDA_MODULE_LOADING=EAGER` moves it to the start.",
    },
    Advice {
        cause: IdleCause::GraphSetup,
        code: "graph_setup",
        title: "the GPU waits while a CUDA graph is captured, built or instantiated",
        check: "Capture once during warm-up and replay; pad shapes so that graphs are reused.",
    },
    Advice {
        cause: IdleCause::StreamDependency,
        code: "stream_dependency",
        title: "launched work waits for an event or for work of another stream",
        check: "Look at the neighbours in the list of gaps: is the dependency needed, or does an event stand in for stream order?",
    },
    Advice {
        cause: IdleCause::CopyDependency,
        code: "copy_dependency",
        title: "kernels wait for copies, or copies for kernels",
        check: "Put the copy on another stream and prefetch it one step ahead; pinned memory makes it asynchronous.",
    },
    Advice {
        cause: IdleCause::GraphBoundary,
        code: "graph_boundary",
        title: "time passes between one graph launch and the next",
        check: "Fewer, larger graphs: capture the whole step, sampling included.",
    },
    Advice {
        cause: IdleCause::ProfilerOverhead,
        code: "idle_for_the_profiler",
        title: "the GPU was idle while the profiler worked",
        check: "Leave these gaps out of account: an unprofiled run does not have them.",
    },
];

pub(super) fn idle_findings(results: &Results<'_>, idle: &DeviceIdle, found: &mut Vec<Finding>) {
    let window = idle.window_ns as f64;
    if window <= 0.0 {
        return;
    }
    let on = device_name(results, idle.device);
    launch_bound(results, idle, &on, found);
    for advice in &CAUSES {
        let ns = idle.cause_ns(advice.cause);
        if (ns as f64) < SHARE * window {
            continue;
        }
        let Some(row) = idle.idle_by_cause.iter().find(|row| row.cause == advice.cause) else { continue };
        let mut evidence = vec![format!(
            "{} in {} gaps, {} of the window; longest {}",
            time(ns as f64),
            row.spread.count,
            percent(ns as f64, window),
            row.spread.max_ns.map_or_else(|| "not known".to_owned(), |ns| time(ns as f64))
        )];
        evidence.extend(longest(idle, |cause| cause == advice.cause));
        let worth = (advice.cause != IdleCause::ProfilerOverhead).then_some(ns as i64);
        found.push(Finding {
            code: advice.code.to_owned(),
            title: format!("{on}{}.", capital(advice.title, &on)),
            severity: Severity::Warn,
            evidence,
            gain_low_ns: None,
            gain_high_ns: worth,
            how_to_check: advice.check.to_owned(),
        });
    }
    short_gaps(results, idle, &on, found);
}

/// A sentence begins with a capital unless something stands before it.
fn capital(text: &str, before: &str) -> String {
    let mut letters = text.chars();
    match letters.next() {
        Some(first) if before.is_empty() => first.to_uppercase().chain(letters).collect(),
        _ => text.to_owned(),
    }
}

fn longest(idle: &DeviceIdle, wanted: impl Fn(IdleCause) -> bool) -> Option<String> {
    let gap = idle.longest.iter().find(|gap| wanted(gap.cause))?;
    let name = |name: &Option<String>| name.as_deref().map_or("the edge of the window".to_owned(), short);
    Some(format!(
        "longest gap listed: {} between {} and {}: {}",
        time(gap.length_ns as f64),
        name(&gap.previous),
        name(&gap.next),
        gap.evidence
    ))
}

fn short(name: &str) -> String {
    crate::analysis::kernel_names::shorten(name)
}

fn launch_bound(results: &Results<'_>, idle: &DeviceIdle, on: &str, found: &mut Vec<Finding>) {
    let window = idle.window_ns as f64;
    let ns = idle.cause_ns(IdleCause::HostBusy) + idle.cause_ns(IdleCause::HostLaunch);
    let launch = results.launch.devices.iter().find(|launch| launch.device == idle.device);
    let verdict = launch.map_or(LaunchVerdict::Unknown, |launch| launch.verdict);
    if (ns as f64) < SHARE * window {
        return;
    }
    let parts = idle.host_parts;
    let mut evidence = vec![format!(
        "{} idle because the host came late ({} of the window): {} outside the CUDA API, {} in launch calls, {} from their return to the start",
        time(ns as f64),
        percent(ns as f64, window),
        time(parts.outside_api_ns as f64),
        time(parts.launch_call_ns as f64),
        time(parts.after_call_ns as f64)
    )];
    if let Some(launch) = launch {
        evidence.extend(launch.evidence.iter().take(3).cloned());
        for phase in launch.phases.iter().filter(|phase| phase.windows > 0) {
            if let Some(each) = phase.launches_per_window {
                evidence.push(format!("{}: {each:.0} launches a step", phase.phase));
            }
        }
    }
    let (code, title) = match verdict {
        LaunchVerdict::LaunchBound => {
            ("launch_bound", "the GPU waits for the host to launch work: this run is launch-bound")
        }
        _ => ("late_launches", "part of the time the GPU waits for the host to launch work"),
    };
    found.push(Finding {
        code: code.to_owned(),
        title: format!("{on}{}.", capital(title, on)),
        severity: Severity::Warn,
        evidence,
        gain_low_ns: None,
        gain_high_ns: Some(ns as i64),
        how_to_check: "Replay the step as a CUDA graph, fuse small kernels, or raise the batch: kernel times stay, the gaps go. A faster host \
                       core helps in proportion."
            .to_owned(),
    });
}

/// Many short gaps between queued kernels: only fewer kernels help.
fn short_gaps(results: &Results<'_>, idle: &DeviceIdle, on: &str, found: &mut Vec<Finding>) {
    let window = idle.window_ns as f64;
    let ns = idle.below_1us_ns + idle.cause_ns(IdleCause::QueueLatency);
    if (ns as f64) < 0.05 * window || idle.operations < 100 {
        return;
    }
    let akd =
        results.launch.devices.iter().find(|launch| launch.device == idle.device).and_then(|launch| launch.akd_ns);
    let mut evidence = vec![format!(
        "{} between operations that follow each other at once ({} of the window), {} operations",
        time(ns as f64),
        percent(ns as f64, window),
        idle.operations
    )];
    evidence.extend(akd.map(|akd| format!("mean kernel {}", time(akd))));
    found.push(Finding {
        code: "many_small_kernels".to_owned(),
        title: format!("{on}{}.", capital("the GPU loses time between kernels that are queued: there are many and they are short", on)),
        severity: Severity::Info,
        evidence,
        gain_low_ns: None,
        gain_high_ns: Some(ns as i64),
        how_to_check: "Fuse neighbouring kernels, or use programmatic dependent launch; the count of kernels per step should fall.".to_owned(),
    });
}

pub(super) fn overlap_findings(results: &Results<'_>, found: &mut Vec<Finding>) {
    for device in &results.overlap.devices {
        let window = device.total_ns as f64;
        let on = device_name(results, device.device);
        let parts = [
            (
                "exposed_communication",
                "communication that no computation covers",
                device.exposed_communication_ns,
                device.communication_ns,
                "Overlap it with computation (several streams, chunked all-reduce), or choose another parallelism; compare the exposed time.",
            ),
            (
                "exposed_copies",
                "copies that nothing covers",
                device.exposed_copy_ns,
                device.copy_ns,
                "Copy on a stream of its own from pinned memory while kernels run.",
            ),
        ];
        for (code, what, exposed, all, check) in parts {
            if (exposed as f64) < SHARE * window {
                continue;
            }
            found.push(Finding {
                code: code.to_owned(),
                title: format!("{on}{} of the window is {what}.", percent(exposed as f64, window)),
                severity: Severity::Warn,
                evidence: vec![format!("{} exposed of {} in all", time(exposed as f64), time(all as f64))],
                gain_low_ns: None,
                gain_high_ns: Some(exposed as i64),
                how_to_check: check.to_owned(),
            });
        }
    }
    if let Some(balance) = &results.overlap.balance
        && let Some(imbalance) = balance.imbalance.filter(|imbalance| *imbalance > 1.1)
    {
        let most = balance.work_ns.iter().map(|(_, ns)| *ns).max().unwrap_or(0) as f64;
        let mean = most / imbalance;
        found.push(Finding {
            code: "imbalance".to_owned(),
            title: format!("The busiest GPU works {:.0} % longer than the mean: the others wait for it.", (imbalance - 1.0) * 100.0),
            severity: Severity::Warn,
            evidence: balance.work_ns.iter().map(|(device, ns)| format!("GPU {device}: {} of work", time(*ns as f64))).collect(),
            gain_low_ns: None,
            gain_high_ns: Some((most - mean) as i64),
            how_to_check: "Compare the work of the ranks (experts, pipeline stages, sequence lengths), and the clocks of the GPUs.".to_owned(),
        });
    }
}

pub(super) fn transfer_findings(results: &Results<'_>, found: &mut Vec<Finding>) {
    let window: u64 = results.idle.iter().map(|idle| idle.window_ns).sum();
    let window = window as f64;
    for group in results.transfers.copies.iter().filter(|group| group.pageable == Some(true)) {
        if (group.union_ns as f64) < 0.01 * window {
            continue;
        }
        let rate = group
            .mean_bytes_per_s
            .map_or_else(|| "an unknown rate".to_owned(), |rate| crate::units::Bandwidth(rate).to_string());
        found.push(Finding {
            code: "pageable_copies".to_owned(),
            title: format!(
                "{}{} copies use pageable host memory: they are slow and block the host.",
                device_name(results, group.device),
                group.operation
            ),
            severity: Severity::Warn,
            evidence: vec![format!(
                "{} copies, {} in {} at {rate}",
                group.duration.count,
                crate::units::Bytes(group.bytes as f64),
                time(group.union_ns as f64)
            )],
            gain_low_ns: None,
            gain_high_ns: Some(group.union_ns as i64),
            how_to_check: "Allocate the host buffer with `cudaHostAlloc` (PyTorch: `pin_memory`) and compare the bandwidth; at load time it \
                           does not matter."
                .to_owned(),
        });
    }
    let steady: u64 = results.transfers.allocations.iter().map(|calls| calls.steady_calls).sum();
    let steady_ns: u64 = results.transfers.allocations.iter().map(|calls| calls.steady_ns).sum();
    if steady_ns as f64 > 0.01 * window && steady > 0 {
        found.push(Finding {
            code: "allocations_in_steady_state".to_owned(),
            title: format!("Memory is allocated or released {steady} times while the work is in full swing."),
            severity: Severity::Warn,
            evidence: results
                .transfers
                .allocations
                .iter()
                .filter(|calls| calls.steady_calls > 0)
                .take(4)
                .map(|calls| format!("{}: {} calls, {}", calls.call, calls.steady_calls, time(calls.steady_ns as f64)))
                .collect(),
            gain_low_ns: None,
            gain_high_ns: None,
            how_to_check: "Only what falls into gaps costs time (see the idle causes); reuse buffers and see whether those gaps go.".to_owned(),
        });
    }
}
