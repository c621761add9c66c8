//! The definitions and assumptions behind what a stage2 run says beside its timeline, with the values put in.

use super::metrics::{OverheadBasis, Stage2Metrics};
use super::ncu::sections;
use crate::config::schema::stage2::{CaptureChoice, GateChoice, GraphChoice, Stage2Settings};
use crate::runner::assumptions::Section;

fn line(name: &str, text: impl Into<String>) -> (String, String) {
    (name.to_owned(), text.into())
}

/// All sections.
pub fn assumptions(metrics: &Stage2Metrics, settings: &Stage2Settings) -> Vec<Section> {
    let mut workload = vec![match &metrics.workload.program {
        Some(program) => line("program", program.join(" ")),
        None => {
            line("program", "perfprof stage1 with operator spans off, so that nothing but nsys and ncu observes it")
        }
    }];
    if let Some(model) = &metrics.workload.model {
        let prompt = model.prompt_tokens.map_or_else(|| "an unknown number of".to_owned(), |tokens| tokens.to_string());
        workload.push(line(
            "model",
            format!(
                "{}, {}, batch {}, {prompt} prompt tokens ({})",
                model.name, model.dtype, model.batch, model.said_by
            ),
        ));
    }
    let mut tracing = Vec::new();
    if settings.nsys.enabled {
        tracing.push(line("traced", settings.nsys.trace.join(", ")));
        tracing.push(line(
            "captured",
            match settings.nsys.capture {
                CaptureChoice::None => "the whole process, loading and warm-up included",
                CaptureChoice::CudaProfilerApi => "from cudaProfilerStart to cudaProfilerStop",
                CaptureChoice::Nvtx => "the first range of each name, in a run of its own",
            },
        ));
        tracing.push(line(
            "CUDA graphs",
            match settings.nsys.graph {
                GraphChoice::Node => "each kernel is a record; launching a graph costs more than untraced",
                GraphChoice::Graph => "a launch is one record: kernels inside are not seen",
            },
        ));
        tracing.push(line(
            "export",
            "environments, command lines and process lists are taken out of the timeline that is kept",
        ));
    }
    for block in &metrics.overhead {
        let basis = match block.basis {
            OverheadBasis::TotalMs => "median total_ms under nsys / alone",
            OverheadBasis::WallS => {
                "wall time of the process under nsys / alone, the tracer's own begin and end included"
            }
        };
        tracing.push(line("cost of tracing", format!("{}: {basis} = {:.3}", block.capture, block.ratio)));
    }
    let mut all = vec![("The workload".to_owned(), workload)];
    if !tracing.is_empty() {
        all.push(("Tracing".to_owned(), tracing));
    }
    if settings.ncu.enabled {
        all.push(("Counters".to_owned(), counters(settings)));
    }
    all
}

fn counters(settings: &Stage2Settings) -> Vec<(String, String)> {
    let ncu = &settings.ncu;
    let gate = match ncu.gate {
        GateChoice::Launches => {
            "the first launches of the kernel in its phase, by their number in the timeline: the workload must launch alike each time"
        }
        GateChoice::Nvtx => "launches inside the range of the phase, by an NVTX filter",
        GateChoice::None => "the first launches of the kernel in the process, whatever their phase",
    };
    vec![
        line(
            "chosen",
            format!(
                "the {} kernels of each phase with the largest sum of durations, by demangled name; casts of template arguments and blanks, which \
                 versions of the tools print differently, are left open",
                ncu.top_n
            ),
        ),
        line("launches", format!("{} after {} passed over; {gate}", ncu.launch_count, ncu.launch_skip)),
        line("collected", format!("preset {}: {}", ncu.preset.name(), sections(ncu.preset).join(", "))),
        line(
            "replay",
            "each launch is replayed for every pass; caches are flushed and clocks locked to their base unless extra arguments say else",
        ),
        line(
            "bound",
            "rule SOLBottleneck of Nsight Compute: compute and memory below 60 % of their peaks: latency; one at 80 % or more: the larger; less than 10 points apart: balanced; else the larger",
        ),
        line(
            "roofline",
            "FLOPs = operations counted by instruction outside the tensor cores (fused multiply-adds twice) + operations of the tensor cores; intensity = FLOPs / \
             DRAM bytes; attainable = min(peak of the arithmetic that did most of them, intensity × peak bandwidth); reached = FLOPs / duration under ncu",
        ),
        line(
            "ncu / timeline",
            "mean duration under ncu over the mean of the phase in the timeline: other clocks, cold caches, or launches of other shapes",
        ),
    ]
}
