//! Traces for the tests of this folder: steps of kernels with their modules, one after the other on one device.

use super::{TraceSettings, TraceSide, attribute_traces};
use crate::analysis::classify::Classifier;
use crate::analysis::steps::PhasePatterns;
use crate::compare::result::{Attribution, AttributionRow};
use crate::trace::activity::LaunchConfig;
use crate::trace::builder::TimelineBuilder;
use crate::trace::timeline::Timeline;

/// Idle time between two kernels unless a test says otherwise, ns.
pub(super) const GAP_NS: i64 = 700;

/// A kernel of a step.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Op {
    pub(super) layer: Option<u32>,
    pub(super) module: &'static str,
    pub(super) name: &'static str,
    pub(super) ns: i64,
    pub(super) gap_ns: i64,
    pub(super) grid: u32,
}

pub(super) const LAYERS: u32 = 8;

/// A decoder step: eight layers of norm, q, k, v, attention, o and down projection, then the head.
pub(super) fn decoder() -> Vec<Op> {
    let parts: [(&str, &str, i64); 7] = [
        ("input_layernorm", "rms_norm_f16", 2_000),
        ("q_proj", "gemv_q4", 9_000),
        ("k_proj", "gemv_q4", 3_000),
        ("v_proj", "gemv_q4", 3_100),
        ("attn", "flash_fwd_splitkv_kernel", 11_000),
        ("o_proj", "gemv_q4", 8_000),
        ("down_proj", "gemv_q4", 12_000),
    ];
    let mut step = Vec::new();
    for layer in 0..LAYERS {
        for (row, (module, name, ns)) in parts.into_iter().enumerate() {
            let grid = 8 * (row as u32 + 1);
            step.push(Op { layer: Some(layer), module, name, ns, gap_ns: GAP_NS, grid });
        }
    }
    step.push(Op { layer: None, module: "lm_head", name: "gemm_f16", ns: 140_000, gap_ns: GAP_NS, grid: 512 });
    step
}

/// How a trace shows its steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    /// One call for each kernel, inside ranges of layers and modules.
    Modules,
    /// One call for each kernel, ranges of steps only.
    Steps,
    /// One graph launch for each step, each node with its kernel.
    GraphNodes,
    /// One graph launch for each step, recorded as a whole.
    WholeGraph,
}

/// `steps` decode steps, each as `step_of` says.
pub(super) fn trace(steps: usize, shown: Shown, step_of: impl Fn(usize) -> Vec<Op>) -> Timeline {
    let mut b = TimelineBuilder::new();
    let process = b.process(1);
    let thread = b.thread(process, 1);
    let device = b.device(0);
    let stream = b.stream(process, device, 7);
    let mut free = 100_000_i64;
    let mut correlation = 0;
    for step in 0..steps {
        let ops = step_of(step);
        // All launches of a step are over before its first kernel begins.
        let mut host = free - 10_000;
        let begin = host;
        let first = free + ops.first().map_or(GAP_NS, |op| op.gap_ns);
        if matches!(shown, Shown::GraphNodes | Shown::WholeGraph) {
            correlation += 1;
            b.call(thread, "cudaGraphLaunch_v10000", host + 10, host + 60, correlation);
        }
        for (node, op) in ops.iter().enumerate() {
            let start = free + op.gap_ns;
            free = start + op.ns;
            if matches!(shown, Shown::Modules | Shown::Steps) {
                correlation += 1;
                b.call(thread, "cudaLaunchKernel_v7000", host + 30, host + 60, correlation);
                if shown == Shown::Modules {
                    if let Some(layer) = op.layer {
                        b.range(thread, &format!("layer.{layer}"), host + 10, Some(host + 80));
                    }
                    b.range(thread, op.module, host + 20, Some(host + 70));
                }
                host += 100;
            }
            if shown != Shown::WholeGraph {
                let config = LaunchConfig { grid: [op.grid, 1, 1], block: [128, 1, 1], ..LaunchConfig::default() };
                let node = if shown == Shown::GraphNodes { node as u64 + 1 } else { 0 };
                b.kernel_with(stream, op.name, start, free, correlation, config, node);
            }
        }
        if shown == Shown::WholeGraph {
            b.graph(stream, first, free, correlation, 5);
        }
        b.range(thread, "decode", begin, Some(host.max(begin + 100)));
    }
    b.finish()
}

pub(super) fn compared(a: &Timeline, b: &Timeline) -> Attribution {
    let (classifier, patterns) = (Classifier::builtin(), PhasePatterns::default());
    let settings = TraceSettings { classifier: &classifier, patterns: &patterns, max_rows: 0 };
    let (a, b) = (TraceSide { label: "before", timeline: a }, TraceSide { label: "after", timeline: b });
    attribute_traces(&a, &b, &settings).unwrap().remove(0)
}

/// The rows of every phase must add up to it on both sides and in the difference, and a row's two reasons to its difference.
pub(super) fn assert_sums(attribution: &Attribution) {
    for phase in &attribution.phases {
        let rows: Vec<&AttributionRow> = attribution.rows.iter().filter(|row| row.phase == phase.phase).collect();
        let sum = |of: &dyn Fn(&AttributionRow) -> f64| rows.iter().map(|row| of(row)).sum::<f64>();
        let tolerance = 1e-9 * (phase.baseline_ns.abs() + phase.candidate_ns.abs() + 1.0);
        assert!((sum(&|row| row.baseline_ns) - phase.baseline_ns).abs() <= tolerance, "{phase:?}");
        assert!((sum(&|row| row.candidate_ns) - phase.candidate_ns).abs() <= tolerance, "{phase:?}");
        assert!((sum(&|row| row.delta_ns) - phase.delta_ns).abs() <= tolerance, "{phase:?}");
        for row in rows {
            assert!((row.count_ns + row.per_call_ns - row.delta_ns).abs() <= tolerance, "{row:?}");
        }
    }
    assert!(attribution.rows.iter().all(|row| attribution.phases.iter().any(|phase| phase.phase == row.phase)));
}

/// Rows that changed by more than rounding, largest first.
pub(super) fn changed(attribution: &Attribution) -> Vec<&AttributionRow> {
    attribution.rows.iter().filter(|row| row.delta_ns.abs() > 1e-6).collect()
}
