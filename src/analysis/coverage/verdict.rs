//! The verdict over the counts, in words.

use super::count::{Counted, GraphCounts};
use super::{Coverage, GraphCoverage, GraphState, MAX_NOTES, MAX_PROCESSES, ProcessCoverage, ToolNote, Trust, Verdict};
use crate::analysis::intervals::{share, words};
use crate::trace::places::GraphMode;
use crate::trace::timeline::Timeline;

/// Launches without a kernel, of all that should have one, from which on the trace counts as incomplete. A trace stopped under way lacks the
/// few kernels still queued.
pub(super) const LOST_SHARE: f64 = 0.001;
/// The same from which on shares of idle time are refused.
pub(in crate::analysis) const LOST_SHARE_IDLE: f64 = 0.01;
/// Share of GPU time inside whole-graph records from which on shares of idle time are refused.
pub(super) const HIDDEN_SHARE_IDLE: f64 = 0.01;
/// Share of kernels without a launch call from which on the trace counts as incomplete.
pub(super) const UNLINKED_SHARE: f64 = 0.01;
/// Share of kernels that start before their call from which on queue times are refused.
pub(super) const SKEW_SHARE: f64 = 0.001;

fn percent(share: f64) -> String {
    let percent = share * 100.0;
    match percent {
        // Never "100 %" or "0 %" of what is neither all nor nothing.
        99.95..100.0 => "more than 99.9 %".to_owned(),
        percent if percent > 0.0 && percent < 0.05 => "less than 0.1 %".to_owned(),
        percent => format!("{percent:.1} %"),
    }
}

fn graphs(timeline: &Timeline, counts: &GraphCounts, compute_sum_ns: u64) -> GraphCoverage {
    let mode = timeline.sources.iter().map(|source| source.graph_mode).find(|mode| *mode != GraphMode::Unknown);
    let node_ops = counts.node_kernels + counts.node_copies_and_sets;
    let mut reasons = Vec::new();
    match mode {
        Some(GraphMode::Graph) => {
            reasons.push("the tool was told to trace graphs as a whole (--cuda-graph-trace=graph)".to_owned());
        }
        Some(GraphMode::Node) => {
            reasons.push("the tool was told to trace graphs node by node (--cuda-graph-trace=node)".to_owned());
        }
        _ => {}
    }
    let made = timeline.graph_events.len() + timeline.graph_nodes.len();
    let launched = format!("{} graph launch calls", counts.launch_calls);
    let state = if counts.whole_records > 0 {
        reasons.push(format!(
            "{launched} and {} records of whole graphs; the kernels inside are not in the trace",
            counts.whole_records
        ));
        GraphState::Hidden
    } else if counts.node_kernels > 0 || counts.kernels_by_call > 0 {
        let kernels = counts.node_kernels.max(counts.kernels_by_call);
        reasons.push(format!("{launched}; {kernels} kernels are linked to a graph node or a graph launch"));
        GraphState::Carried
    } else if counts.launch_calls > 0 {
        match mode {
            Some(GraphMode::Graph) => {
                reasons.push(format!("{launched}, and neither kernels of graphs nor records of whole graphs"));
                GraphState::Hidden
            }
            _ if node_ops + counts.ops_by_call > 0 => {
                let ops = node_ops + counts.ops_by_call;
                reasons.push(format!("{launched}; {ops} copies and memory sets of graphs, and not one kernel"));
                GraphState::Unknown
            }
            _ => {
                reasons.push(format!("{launched}, and no device work is linked to any"));
                GraphState::Unknown
            }
        }
    } else if node_ops > 0 {
        reasons.push(format!("{node_ops} device operations have a graph node, and no graph launch call is there"));
        GraphState::Carried
    } else if timeline.api.is_empty() {
        reasons.push("the trace has no API calls, so that graph launches would not show".to_owned());
        GraphState::Unknown
    } else {
        reasons
            .push(if made > 0 { "graphs were made and none was launched" } else { "no graph was launched" }.to_owned());
        GraphState::Absent
    };
    if counts.calls_without_work > 0 && counts.calls_without_work < counts.launch_calls {
        reasons.push(format!("{} of the {launched} have no device work", counts.calls_without_work));
    }
    if counts.launches_in_capture > 0 {
        reasons.push(format!(
            "{} kernel launch calls were captured into a graph: they put no kernel on the device",
            counts.launches_in_capture
        ));
    }
    GraphCoverage {
        state,
        reasons,
        launch_calls: counts.launch_calls,
        whole_graph_records: counts.whole_records,
        node_ops,
        ops_by_graph_call: counts.ops_by_call,
        calls_without_work: counts.calls_without_work,
        hidden_sum_ns: counts.hidden_sum_ns,
        hidden_share: share(counts.hidden_sum_ns, compute_sum_ns),
        capture_calls: counts.capture_calls,
        launches_in_capture: counts.launches_in_capture,
    }
}

/// Whether a message says that records were lost.
fn tells_of_loss(note: &ToolNote) -> bool {
    let text = note.text.to_ascii_lowercase();
    note.severity >= 2
        && (text.contains("not all cuda events might have been collected")
            || text.contains("dropped")
            || text.contains("were lost")
            || text.contains("out of memory")
            || text.contains("buffer overflow"))
}

/// What speaks against the trace: reasons for the verdict and for each refusal.
#[derive(Default)]
struct Findings {
    partial: Vec<String>,
    notes: Vec<String>,
    idle: Vec<String>,
    queue: Vec<String>,
    shares: Vec<String>,
}

fn find(timeline: &Timeline, counted: &Counted, graphs: &GraphCoverage) -> Findings {
    let mut found = Findings::default();
    let total = &counted.total;
    if let Some(coverage) = total.kernel_coverage {
        let lost = total.launches_without_kernel;
        let captures = if graphs.launch_calls > 0 && graphs.launches_in_capture == 0 {
            "; some may have been captured into a graph, the trace does not say"
        } else {
            ""
        };
        let sentence = format!(
            "{lost} of {} kernel launches have no kernel in the trace ({} lost){captures}",
            counted.expected,
            percent(1.0 - coverage)
        );
        if 1.0 - coverage > LOST_SHARE {
            found.partial.push(sentence.clone());
        } else if lost > 0 {
            found.notes.push(sentence.clone());
        }
        if 1.0 - coverage > LOST_SHARE_IDLE {
            found.idle.push(sentence.clone());
            found.shares.push(sentence);
        }
    }
    match graphs.state {
        GraphState::Hidden => {
            let hidden = match graphs.hidden_share {
                Some(hidden) if graphs.whole_graph_records > 0 => format!(
                    "{} of the GPU time ({}) lies inside whole-graph records, whose kernels and gaps are not in the trace; trace again with --cuda-graph-trace=node",
                    percent(hidden),
                    words(graphs.hidden_sum_ns)
                ),
                _ => format!(
                    "{} graph launches left no record of their work; trace again with --cuda-graph-trace=node",
                    graphs.launch_calls
                ),
            };
            found.partial.push(hidden.clone());
            let much =
                graphs.whole_graph_records == 0 || graphs.hidden_share.is_none_or(|share| share >= HIDDEN_SHARE_IDLE);
            if much {
                found.idle.push(hidden.clone());
                found.shares.push(hidden);
            }
        }
        GraphState::Unknown if graphs.launch_calls > 0 => {
            let sentence = format!("work of graphs is missing: {}", graphs.reasons.join("; "));
            found.partial.push(sentence.clone());
            found.idle.push(sentence.clone());
            found.shares.push(sentence);
        }
        GraphState::Carried if graphs.calls_without_work > 0 => {
            let sentence = format!(
                "{} of {} graph launches have no device work in the trace",
                graphs.calls_without_work, graphs.launch_calls
            );
            let lost = graphs.calls_without_work as f64 / graphs.launch_calls as f64;
            if lost > LOST_SHARE {
                found.partial.push(sentence.clone());
            } else {
                found.notes.push(sentence.clone());
            }
            if lost > LOST_SHARE_IDLE {
                found.idle.push(sentence);
            }
        }
        _ => {}
    }
    for note in counted.notes.iter().filter(|note| tells_of_loss(note)) {
        let sentence = format!("the tracing tool says: {}", note.text.trim());
        found.partial.push(sentence.clone());
        // Where every launch has its kernel, what is missing is likely the end of the capture.
        if total.kernel_coverage.is_none_or(|coverage| coverage < 1.0 - LOST_SHARE) {
            found.idle.push(sentence);
        }
    }
    calls_and_clocks(timeline, counted, &mut found);
    found
}

/// Links, clocks and what is odd.
fn calls_and_clocks(timeline: &Timeline, counted: &Counted, found: &mut Findings) {
    let total = &counted.total;
    if timeline.api.is_empty() {
        let sentence =
            "the trace has no API calls: launches cannot be compared with kernels, nor kernels with ranges".to_owned();
        found.partial.push(sentence.clone());
        found.queue.push(sentence);
    } else if let Some(unlinked) = total.unlinked_share.filter(|share| *share > 0.0) {
        let sentence = format!(
            "{} of {} kernels ({}) have no launch call: no range, thread or queue time can be given for them",
            total.unlinked_kernels,
            total.kernels,
            percent(unlinked)
        );
        if unlinked > UNLINKED_SHARE {
            found.partial.push(sentence);
        } else {
            found.notes.push(sentence);
        }
    }
    if let (Some(skew), Some(worst)) = (counted.clock.share, counted.clock.worst_ns) {
        let sentence = format!(
            "{} of {} kernels ({}) start before their launch call begins, by up to {}: the clocks of host and device disagree",
            counted.clock.before_call,
            counted.clock.kernels,
            percent(skew),
            words(worst)
        );
        if skew > SKEW_SHARE {
            found.queue.push(sentence.clone());
        }
        found.notes.push(sentence);
    }
    let odd = &counted.oddities;
    if odd.launches_before_first_op > 0 {
        found.notes.push(format!(
            "{} launches without a kernel come before the first device operation: the GPU trace began late",
            odd.launches_before_first_op
        ));
    }
    if odd.overlapping_on_stream > 0 {
        found.notes.push(format!(
            "{} device operations start before an earlier one of their stream ended (parallel graph nodes, programmatic launches or wrong end times): busy time is taken as a union",
            odd.overlapping_on_stream
        ));
    }
    if odd.zero_length_kernels > 0 {
        found
            .notes
            .push(format!("{} kernels have no length: the clock of the trace is coarse", odd.zero_length_kernels));
    }
    if total.failed_launches > 0 {
        found.notes.push(format!("{} kernel launch calls returned an error", total.failed_launches));
    }
    let ranges = &counted.ranges;
    if ranges.only_library {
        found
            .notes
            .push(format!("all {} NVTX ranges are of libraries: there are no ranges of the user's own", ranges.nvtx));
    } else if ranges.nvtx + ranges.user + ranges.operators + ranges.python == 0 {
        found.notes.push("there are no ranges: time cannot be attributed to code".to_owned());
    }
    if ranges.cross_thread > 0 {
        found.notes.push(format!("{} ranges were ended by another thread and are left out", ranges.cross_thread));
    }
}

pub(super) fn judge(timeline: &Timeline, mut counted: Counted) -> Coverage {
    let graphs = graphs(timeline, &counted.graphs, counted.compute_sum_ns);
    counted.clock.queue_times_reliable = counted.clock.share.map(|share| share <= SKEW_SHARE);
    let mut found = find(timeline, &counted, &graphs);
    let without_work = counted.processes.iter().filter(|process| process.api_calls > 0 && process.ops == 0).count();
    let with_work = counted.processes.iter().filter(|process| process.ops > 0).count();
    if without_work > 0 && with_work > 0 {
        found.notes.push(format!("{without_work} processes made API calls and have no device work"));
    }
    let verdict = if timeline.op_count() == 0 {
        let launches = counted.total.kernel_launch_calls + counted.total.graph_launch_calls;
        let why = if launches > 0 {
            format!(
                "no GPU work was captured although {launches} launch calls were: likely the GPU could not be traced, or kernels were lost"
            )
        } else if timeline.api.is_empty() {
            "no GPU work was captured, nor any CUDA call: likely CUDA was not traced, or the capture range never opened"
                .to_owned()
        } else {
            "no GPU work was captured and nothing was launched: likely the capture range was closed, or work ran in another process".to_owned()
        };
        found.partial.insert(0, why.clone());
        found.idle.insert(0, why.clone());
        found.shares.insert(0, why);
        Verdict::NoGpuWork
    } else if found.partial.is_empty() {
        Verdict::Complete
    } else {
        Verdict::Partial
    };
    let trust = Trust {
        idle_shares: found.idle.is_empty(),
        queue_times: found.queue.is_empty() && counted.clock.kernels > 0,
        kernel_shares: found.shares.is_empty(),
        reasons: refusals(&found),
    };
    let (processes, processes_omitted) = processes(timeline, &counted);
    let notes_omitted = counted.notes.len().saturating_sub(MAX_NOTES) as u64;
    counted.notes.truncate(MAX_NOTES);
    found.partial.append(&mut found.notes);
    Coverage {
        verdict,
        reasons: found.partial,
        trust,
        launches: counted.total,
        graphs,
        clock: counted.clock,
        ranges: counted.ranges,
        oddities: counted.oddities,
        processes,
        processes_omitted,
        processes_without_gpu_work: without_work as u64,
        notes: counted.notes,
        notes_omitted,
        overhead: counted.overhead,
        overhead_union_ns: counted.overhead_union_ns,
    }
}

fn refusals(found: &Findings) -> Vec<String> {
    let parts = [
        ("shares of idle time are refused", &found.idle),
        ("queue times are refused", &found.queue),
        ("shares of kernels in all GPU time are refused", &found.shares),
    ];
    parts.iter().filter(|(_, why)| !why.is_empty()).map(|(what, why)| format!("{what}: {}", why.join("; "))).collect()
}

fn processes(timeline: &Timeline, counted: &Counted) -> (Vec<ProcessCoverage>, u64) {
    let active: Vec<usize> = (0..timeline.processes.len())
        .filter(|row| counted.processes[*row].api_calls > 0 || counted.processes[*row].ops > 0)
        .collect();
    let omitted = active.len().saturating_sub(MAX_PROCESSES) as u64;
    let rows = active
        .into_iter()
        .take(MAX_PROCESSES)
        .map(|row| {
            let (process, counts) = (&timeline.processes[row], &counted.processes[row]);
            ProcessCoverage {
                pid: process.pid,
                name: process.name.map(|name| timeline.text(name).to_owned()),
                file: process.file,
                api_calls: counts.api_calls,
                launches: counts.launches.clone(),
                has_gpu_work: counts.ops > 0,
            }
        })
        .collect();
    (rows, omitted)
}
