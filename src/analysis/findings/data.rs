//! Findings about the trace itself: what is missing from it bends every other figure.

use super::{Finding, Results, percent, time};
use crate::analysis::coverage::{GraphState, LOST_SHARE_IDLE, Verdict};
use crate::analysis::idle::IdleCause;
use crate::analysis::idle_causes::overhead_cause;
use crate::diagnostics::Severity;

pub(super) fn findings(results: &Results<'_>, found: &mut Vec<Finding>) {
    let coverage = results.coverage;
    if coverage.verdict == Verdict::NoGpuWork {
        let mut evidence = coverage.reasons.clone();
        evidence.push(format!(
            "{} launch calls, {} kernels",
            coverage.launches.kernel_launch_calls + coverage.launches.graph_launch_calls,
            coverage.launches.kernels
        ));
        found.push(Finding {
            code: "no_gpu_work".to_owned(),
            title: "The trace holds no GPU work.".to_owned(),
            severity: Severity::Error,
            evidence,
            gain_low_ns: None,
            gain_high_ns: None,
            how_to_check: "Likely causes: a capture range that never opened, a child process that was not traced (`nsys profile \
                           --trace-fork-before-exec=true`), a driver newer than the tool, or a run on the CPU. Capture again without a \
                           capture range."
                .to_owned(),
        });
        return;
    }
    if coverage.graphs.state == GraphState::Hidden {
        found.push(Finding {
            code: "graphs_hidden".to_owned(),
            title: "Kernels inside CUDA graphs were not traced: operators, phases and idle time cannot be told apart there.".to_owned(),
            severity: Severity::Error,
            evidence: coverage.graphs.reasons.clone(),
            gain_low_ns: None,
            gain_high_ns: None,
            how_to_check: "Capture again with `nsys profile --cuda-graph-trace=node`; it costs more while tracing and shows every kernel."
                .to_owned(),
        });
    }
    let launches = &coverage.launches;
    if let Some(share) = launches.kernel_coverage.filter(|share| 1.0 - *share > LOST_SHARE_IDLE) {
        found.push(Finding {
            code: "lost_activity".to_owned(),
            title: format!(
                "Only {:.1} % of the kernel launches have a kernel in the trace; totals and shares are of what is left.",
                share * 100.0
            ),
            severity: Severity::DataLoss,
            evidence: vec![format!(
                "{} launch calls without a kernel, {} kernels, {} of them joined to a call",
                launches.launches_without_kernel, launches.kernels, launches.linked_kernels
            )],
            gain_low_ns: None,
            gain_high_ns: None,
            how_to_check: "Trace a shorter stretch, let the program end by itself or call `cudaDeviceSynchronize` before the capture ends, \
                           and see the messages of the tool."
                .to_owned(),
        });
    }
    profiler(results, found);
}

/// Overhead that is the profiler's own: a full command buffer and the loading of code are the program's doing, whoever records them.
fn profiler(results: &Results<'_>, found: &mut Vec<Finding>) {
    let window: u64 = results.idle.iter().map(|idle| idle.window_ns).sum();
    let own: Vec<_> = results
        .coverage
        .overhead
        .iter()
        .filter(|row| overhead_cause(&row.name) == Some(IdleCause::ProfilerOverhead))
        .collect();
    let sum: u64 = own.iter().map(|row| row.sum_ns).sum();
    if window == 0 || (sum as f64) < 0.02 * window as f64 {
        return;
    }
    found.push(Finding {
        code: "profiler_overhead".to_owned(),
        title: format!(
            "The profiler's own records add up to {} of host time, {}: the program is faster without it.",
            time(sum as f64),
            if sum > window {
                "more than the whole window".to_owned()
            } else {
                percent(sum as f64, window as f64) + " of the window"
            }
        ),
        severity: Severity::Warn,
        evidence: own
            .iter()
            .take(3)
            .map(|row| format!("{}: {} in {} records", row.name, time(row.sum_ns as f64), row.count))
            .collect(),
        gain_low_ns: None,
        gain_high_ns: None,
        how_to_check: "Compare the step time with that of an unprofiled run before acting on gaps near these records."
            .to_owned(),
    });
}
