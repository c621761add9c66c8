//! Detection against traces whose phases and steps are known by construction.

use super::*;
use crate::analysis::projection::project;
use crate::trace::activity::{CopyKind, LaunchConfig};
use crate::trace::builder::TimelineBuilder;
use crate::trace::host::RangeKind;

const LAYER: [&str; 6] = ["rms_norm_f16", "gemm_qkv", "rope_f16", "flash_fwd", "gemm_out", "silu_and_mul"];

/// A server of requests: one prefill and `tokens` decode steps each.
#[derive(Clone, Copy)]
struct Server {
    requests: usize,
    tokens: usize,
    layers: usize,
    /// Time of a kernel in prefill and in decode, ns.
    kernel_ns: (i64, i64),
    /// Whether decode is replayed from a graph: as nodes, or as one record.
    graph: Option<bool>,
    ranges: bool,
    /// Whether a token is sampled and copied to the host in each step.
    samples: bool,
}

const SERVER: Server = Server {
    requests: 3,
    tokens: 12,
    layers: 5,
    kernel_ns: (50_000, 2_000),
    graph: None,
    ranges: false,
    samples: true,
};

struct Writer {
    b: TimelineBuilder,
    thread: u32,
    stream: u32,
    cpu: i64,
    gpu: i64,
    correlation: u32,
}

impl Writer {
    fn new() -> Self {
        let mut b = TimelineBuilder::new();
        let p = b.process(1);
        let thread = b.thread(p, 1);
        let device = b.device(0);
        let stream = b.stream(p, device, 7);
        Self { b, thread, stream, cpu: 1_000_000, gpu: 0, correlation: 0 }
    }
    fn call(&mut self, name: &str) -> u32 {
        self.correlation += 1;
        self.b.call(self.thread, name, self.cpu, self.cpu + 800, self.correlation);
        self.cpu += 1000;
        self.gpu = self.gpu.max(self.cpu);
        self.correlation
    }
    fn kernel(&mut self, name: &str, ns: i64, graph: Option<(u32, u64)>) {
        let (correlation, node) = match graph {
            Some(graph) => graph,
            None => (self.call("cudaLaunchKernel_v7000"), 0),
        };
        self.b.kernel_with(self.stream, name, self.gpu, self.gpu + ns, correlation, LaunchConfig::default(), node);
        self.gpu += ns + 100;
    }
    fn wait(&mut self) {
        let correlation = self.call("cudaMemcpyAsync_v3020");
        self.b.copy(self.stream, CopyKind::DEVICE_TO_HOST, self.gpu, self.gpu + 900, correlation, 4);
        self.cpu = self.gpu + 9_000;
        self.gpu = self.cpu;
    }
}

fn serve(server: Server) -> Timeline {
    let mut w = Writer::new();
    for _ in 0..server.requests {
        let request = w.cpu;
        for step in 0..=server.tokens {
            let begin = w.cpu;
            let prefill = step == 0;
            let mean = if prefill { server.kernel_ns.0 } else { server.kernel_ns.1 };
            // Lengths vary by some per cent, as they do.
            let ns = mean + mean * ((step * 7 % 5) as i64) / 100;
            let graph = server.graph.filter(|_| !prefill).map(|nodes| (nodes, w.call("cudaGraphLaunch_v10000")));
            match graph {
                Some((false, call)) => {
                    let work = ns * 6 * server.layers as i64;
                    w.b.graph(w.stream, w.gpu, w.gpu + work, call, 9);
                    w.gpu += work + 100;
                }
                _ => {
                    for node in 0..server.layers * LAYER.len() {
                        let graph = graph.map(|(_, call)| (call, (1 << 33) + node as u64));
                        w.kernel(LAYER[node % LAYER.len()], ns, graph);
                    }
                }
            }
            w.kernel("gemm_lm_head", ns, None);
            if server.samples {
                w.kernel("argmax_f32", 1_500, None);
                w.wait();
            }
            if server.ranges {
                w.b.range(w.thread, if prefill { "prefill" } else { "decode" }, begin, Some(w.cpu));
            }
        }
        if server.ranges {
            w.b.range(w.thread, "request", request, Some(w.cpu));
        }
        w.cpu += 300_000;
    }
    w.b.finish()
}

fn detect(timeline: &Timeline) -> Steps {
    steps(timeline, &project(timeline), &PhasePatterns::default()).unwrap()
}

fn phase<'a>(steps: &'a Steps, name: &str) -> &'a Phase {
    steps.phases.iter().find(|phase| phase.name == name).unwrap_or_else(|| panic!("no {name}: {:?}", steps.evidence))
}

#[test]
fn ranges_and_repetition_find_the_same_steps() {
    for graph in [None, Some(true)] {
        let named = detect(&serve(Server { ranges: true, graph, ..SERVER }));
        let bare = detect(&serve(Server { graph, ..SERVER }));
        assert_eq!(named.source, StepSource::PhaseRanges);
        // Prefill takes most of the GPU time here, so that replays of decode do not make the steps replays of graphs.
        assert_eq!(bare.source, StepSource::Repetition, "{:?}", bare.evidence);
        for steps in [&named, &bare] {
            assert_eq!(steps.workload, Workload::Inference);
            assert!(steps.confidence.unwrap() > 0.75, "{:?} {:?}", steps.confidence, steps.evidence);
            assert_eq!((phase(steps, "prefill").steps, phase(steps, "decode").steps), (3, 36));
            assert_eq!((phase(steps, "prefill").kernels, phase(steps, "decode").kernels), (3 * 32, 36 * 32));
        }
        assert_eq!(named.columns.kernel.len(), bare.columns.kernel.len());
        let texts = |steps: &Steps| -> Vec<String> {
            steps.columns.kernel.iter().map(|id| steps.phases[usize::from(*id)].name.clone()).collect()
        };
        assert_eq!(texts(&named), texts(&bare));
        let launches = if graph.is_some() { 3.0 } else { 32.0 };
        assert_eq!(phase(&bare, "decode").launches_per_step.as_ref().unwrap().p50, launches);
    }
}

#[test]
fn whole_graph_records_are_steps_of_decode() {
    let found = detect(&serve(Server { graph: Some(false), ..SERVER }));
    assert_eq!((phase(&found, "prefill").steps, phase(&found, "decode").steps), (3, 36), "{:?}", found.evidence);
    assert_eq!(phase(&found, "decode").graphs, 36);
}

#[test]
fn the_parts_add_up_to_all_work() {
    for server in [SERVER, Server { ranges: true, ..SERVER }, Server { samples: false, ..SERVER }] {
        let t = serve(server);
        let found = detect(&t);
        let all: i64 = (0..t.kernels.len()).map(|row| t.kernels.duration_ns(row)).sum();
        assert_eq!(found.phases.iter().map(|phase| phase.gpu_sum_ns).sum::<i64>(), all);
        assert_eq!(found.phases.iter().map(|phase| phase.kernels).sum::<u64>(), t.kernels.len() as u64);
        assert_eq!(found.columns.steps.iter().map(|step| u64::from(step.kernels)).sum::<u64>(), {
            let outside = found.phases.iter().find(|phase| phase.name == "outside").map_or(0, |phase| phase.kernels);
            t.kernels.len() as u64 - outside
        });
    }
}

#[test]
fn times_of_steps_are_those_from_token_to_token() {
    let t = serve(Server { requests: 1, ..SERVER });
    let found = detect(&t);
    // Of one step to the next, from first kernel to first kernel, on the device.
    let firsts: Vec<i64> = (0..13).map(|step| t.kernels.start_ns[step * 32]).collect();
    for (step, pair) in found.columns.steps.iter().zip(firsts.windows(2)) {
        assert_eq!((step.start_ns, step.end_ns), (pair[0], pair[1]));
    }
}

#[test]
fn layers_that_repeat_in_one_forward_pass_are_no_steps() {
    let found = detect(&serve(Server { requests: 1, tokens: 0, layers: 40, samples: false, ..SERVER }));
    assert_eq!((found.source, found.columns.steps.len()), (StepSource::None, 0), "{:?}", found.evidence);
    assert_eq!(found.confidence, None);
    assert!(found.evidence.iter().any(|line| line.contains("layers")), "{:?}", found.evidence);
}

#[test]
fn equal_steps_without_a_sign_of_their_phase_are_just_steps() {
    let found = detect(&serve(Server { kernel_ns: (2_000, 2_000), ..SERVER }));
    assert_eq!(phase(&found, "step").steps, 39, "{:?}", found.evidence);
    assert_eq!(found.workload, Workload::Unknown);
}

#[test]
fn a_loop_that_is_no_language_model_is_not_split() {
    let mut w = Writer::new();
    for iteration in 0..20 {
        for kernel in ["stencil_a", "stencil_b", "reduce", "update", "halo", "swap", "norm2"] {
            w.kernel(kernel, if iteration % 10 == 0 { 90_000 } else { 3_000 }, None);
        }
        w.wait();
    }
    let found = detect(&w.b.finish());
    assert_eq!(phase(&found, "step").steps, 20, "{:?}", found.evidence);
    assert_eq!(found.workload, Workload::Unknown);
}

#[test]
fn copies_that_repeat_are_no_steps() {
    let mut w = Writer::new();
    for _ in 0..40 {
        for bytes in [1 << 20, 1 << 21, 1 << 22, 1 << 10, 1 << 11, 1 << 12, 1 << 13] {
            let correlation = w.call("cuMemcpyHtoDAsync_v2");
            w.b.copy(w.stream, CopyKind::HOST_TO_DEVICE, w.gpu, w.gpu + 500, correlation, bytes);
            w.gpu += 600;
        }
        w.kernel("cast_f16", 900, None);
    }
    assert_eq!(detect(&w.b.finish()).columns.steps.len(), 0);
}

#[test]
fn training_is_not_split_into_prefill_and_decode() {
    let mut w = Writer::new();
    for step in 0..6 {
        let begin = w.cpu;
        for kernel in ["flash_fwd_kernel", "rms_norm", "gemm", "flash_bwd_kernel", "gemm", "multi_tensor_apply_adam"] {
            w.kernel(kernel, if step == 0 { 80_000 } else { 5_000 }, None);
        }
        w.wait();
        w.b.range_of(RangeKind::Annotation, w.thread, "", &format!("ProfilerStep#{step}"), begin, Some(w.cpu));
    }
    let found = detect(&w.b.finish());
    assert_eq!((found.workload, found.source), (Workload::Training, StepSource::StepRanges));
    assert_eq!(phase(&found, "training_step").steps, 6);
    assert!(found.phases.iter().all(|phase| phase.name != "prefill" && phase.name != "decode"));
}

#[test]
fn work_of_another_thread_during_a_step_belongs_to_it() {
    let mut b = TimelineBuilder::new();
    let p = b.process(1);
    let (main, autograd) = (b.thread(p, 1), b.thread(p, 2));
    let device = b.device(0);
    let stream = b.stream(p, device, 7);
    for step in 0..4_i64 {
        let at = step * 1000;
        b.range(main, "step", at, Some(at + 900));
        b.call(main, "cudaLaunchKernel", at + 10, at + 20, step as u32 * 2 + 1);
        b.kernel(stream, "gemm", at + 30, at + 100, step as u32 * 2 + 1);
        b.call(autograd, "cudaLaunchKernel", at + 200, at + 210, step as u32 * 2 + 2);
        b.kernel(stream, "layer_norm_backward", at + 220, at + 300, step as u32 * 2 + 2);
    }
    let found = detect(&b.finish());
    assert_eq!(found.workload, Workload::Training);
    assert_eq!(phase(&found, "training_step").kernels, 8);
}

#[test]
fn an_inner_range_is_the_step_unless_there_is_one_in_each_outer() {
    for (inner_each, steps) in [(1, 4), (3, 12)] {
        let mut w = Writer::new();
        for _ in 0..4 {
            let outer = w.cpu;
            w.kernel("embed", 500, None);
            for _ in 0..inner_each {
                let begin = w.cpu;
                w.kernel("k", 500, None);
                w.b.range(w.thread, "forward_decode", begin, Some(w.cpu));
            }
            w.b.range(w.thread, "decode", outer, Some(w.cpu));
        }
        let found = detect(&w.b.finish());
        assert_eq!(phase(&found, "decode").steps, steps);
        assert_eq!(phase(&found, "decode").kernels, 4 * (1 + inner_each), "what lies around keeps its phase");
    }
}

#[test]
fn a_range_over_a_whole_decode_phase_is_parted_into_its_tokens() {
    let t = {
        let mut server = serve(Server { requests: 1, ..SERVER });
        // One range over all decode steps: from the first launch after prefill to the end.
        let begin = server.api.start_ns[34] - 100;
        let end = server.api.end_ns.last().copied().unwrap() + 100;
        let (name, domain) = (server.strings.intern("decode"), server.strings.intern(""));
        server.ranges.push(crate::trace::host::RangeRow {
            start_ns: begin,
            end_ns: Some(end),
            thread: 0,
            kind: RangeKind::PushPop,
            name,
            domain,
        });
        server.finish();
        server
    };
    let found = detect(&t);
    assert_eq!(phase(&found, "decode").steps, 12, "{:?}", found.evidence);
}

#[test]
fn a_slow_step_is_a_straggler_and_a_growing_one_drifts() {
    let mut w = Writer::new();
    for step in 0..60_i64 {
        let begin = w.cpu;
        w.kernel("k", 100_000 + 1_000 * step + if step == 30 { 400_000 } else { 0 }, None);
        w.wait();
        w.b.range(w.thread, "decode", begin, Some(w.cpu));
    }
    let found = detect(&w.b.finish());
    assert_eq!(found.stragglers.iter().map(|straggler| straggler.step).collect::<Vec<_>>(), [30]);
    let drift = &found.drift[0];
    assert!((drift.slope_ns_per_step - 1000.0).abs() < 1.0, "{drift:?}");
    assert!(drift.interval[0] > 990.0 && drift.interval[1] < 1010.0, "{drift:?}");
    assert!((drift.relative_change - 59_000.0 / 139_600.0).abs() < 0.02, "{drift:?}");
}

#[test]
fn a_trace_without_device_work_has_no_steps_and_says_so() {
    let found = detect(&TimelineBuilder::new().finish());
    assert_eq!((found.source, found.workload), (StepSource::None, Workload::Unknown));
    assert_eq!(found.evidence, ["there is no device work"]);
}
