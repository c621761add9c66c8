//! The analytic model beside a trace: which ceilings, which kernel class stands for which operator.

use std::collections::BTreeMap;

use super::OperatorBlock;
use crate::analysis::class_roofline::{Ceilings, MeasuredPhase, ModelledWork, Workload, modelled_work};
use crate::analysis::classify::KernelClass;
use crate::analysis::kernel_summary::{KernelSummary, KernelSummaryRow};
use crate::analysis::steps::Steps;
use crate::estimate::architecture::Architecture;
use crate::estimate::format::Format;
use crate::estimate::operator::OperatorClass;
use crate::estimate::step::WeightFormats;
use crate::hardware::peaks::{self, Lookup};
use crate::trace::timeline::Timeline;

/// The model that ran, as the user or a run says.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkloadSettings {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub architecture: Architecture,
    /// Storage of its matrices.
    pub dtype: Format,
    /// Storage of the KV cache.
    pub kv_dtype: Format,
    /// Sequences in a step.
    pub batch: u32,
    /// Prompt tokens of each; `None` where nobody says.
    pub prompt_tokens: Option<u32>,
    /// Who says so.
    pub said_by: String,
}

/// Ceilings given by the user.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PeakSettings {
    /// FLOP/s.
    pub flops_per_s: Option<f64>,
    /// Bytes per second.
    pub bytes_per_s: Option<f64>,
    /// Arithmetic the FLOP/s are for where they come from the table.
    pub dtype: Format,
}

/// Ceilings of one device and where they come from.
#[derive(Debug, Clone, PartialEq)]
pub struct Ceiling {
    /// Row of the device.
    pub device: u32,
    /// The values.
    pub values: Ceilings,
    /// Where the FLOP/s come from, or how to give them.
    pub flops_source: String,
    /// Where the bandwidth comes from.
    pub bytes_source: String,
}

/// The ceilings of each device: the user's, else the table's by name and memory, else the trace's own figure of the bandwidth.
pub(super) fn ceilings(timeline: &Timeline, settings: &PeakSettings) -> Vec<Ceiling> {
    let compute = if settings.dtype.is_quantized() { Format::BF16 } else { settings.dtype };
    timeline
        .devices
        .iter()
        .enumerate()
        .map(|(row, device)| {
            let entry = device.name.as_deref().and_then(|name| match peaks::lookup(name, device.memory_bytes) {
                Lookup::Found(entry) => Some(entry),
                _ => None,
            });
            let (flops, flops_source) = match (settings.flops_per_s, entry.and_then(|entry| entry.dense(compute))) {
                (Some(given), _) => (Some(given), "given by the user".to_owned()),
                (None, Some(dense)) => {
                    let source = entry.map_or("", |entry| entry.source);
                    (Some(dense), format!("table, dense {}: {source}", compute.name()))
                }
                (None, None) => (None, "unknown: give `hardware.peak_tflops=`".to_owned()),
            };
            let (bytes, bytes_source) = match (settings.bytes_per_s, entry, device.bandwidth_bytes_per_s) {
                (Some(given), _, _) => (Some(given), "given by the user".to_owned()),
                (None, Some(entry), _) => (Some(entry.bandwidth_bytes_per_s), format!("table: {}", entry.source)),
                (None, None, Some(own)) => (Some(own), "the trace's own device information".to_owned()),
                (None, None, None) => (None, "unknown: give `hardware.peak_bandwidth_gbs=`".to_owned()),
            };
            Ceiling {
                device: row as u32,
                values: Ceilings { flops_per_s: flops, bytes_per_s: bytes },
                flops_source,
                bytes_source,
            }
        })
        .collect()
}

/// The operator class of the model that a kernel class stands for; `None` for kernels a decoder need not have.
///
/// Quantisation of activations and dequantisation of weights are part of what a product costs. A softmax of its own belongs to attention
/// made of single products; those products themselves are counted with the linear layers, as nothing in their names tells them apart.
pub(super) fn operator_class(class: KernelClass) -> Option<OperatorClass> {
    Some(match class {
        KernelClass::Gemm
        | KernelClass::Gemv
        | KernelClass::GemmReduce
        | KernelClass::MoeGemm
        | KernelClass::Quantize
        | KernelClass::Dequantize => OperatorClass::Linear,
        KernelClass::AttentionPrefill
        | KernelClass::AttentionDecode
        | KernelClass::Attention
        | KernelClass::AttentionCombine
        | KernelClass::Softmax => OperatorClass::Attention,
        KernelClass::KvWrite => OperatorClass::KvWrite,
        KernelClass::Norm => OperatorClass::Norm,
        KernelClass::Rope => OperatorClass::Rope,
        KernelClass::Activation => OperatorClass::Activation,
        KernelClass::Elementwise => OperatorClass::Elementwise,
        KernelClass::Gather => OperatorClass::Embedding,
        KernelClass::Sampling => OperatorClass::Sampling,
        KernelClass::MoeRouting => OperatorClass::Routing,
        _ => return None,
    })
}

pub(super) fn modelled(
    workload: &WorkloadSettings,
    ceilings: &[Ceiling],
    steps: &Steps,
    summary: &KernelSummary,
) -> ModelledWork {
    let Some(prompt_tokens) = workload.prompt_tokens else {
        return ModelledWork {
            notes: vec![
                "the length of the prompts is not known: give `prompt_tokens=` for MFU, MBU and the roofline"
                    .to_owned(),
            ],
            ..ModelledWork::default()
        };
    };
    let phases: Vec<MeasuredPhase> = steps
        .phases
        .iter()
        .map(|phase| {
            let mut class_ns: BTreeMap<OperatorClass, i64> = BTreeMap::new();
            let mut unmodelled_ns = 0;
            let of_phase = summary.classes.iter().filter(|total| total.phase.as_deref() == Some(phase.name.as_str()));
            for total in of_phase.filter(|total| !matches!(total.class, KernelClass::Memcpy | KernelClass::Memset)) {
                match operator_class(total.class) {
                    Some(class) => *class_ns.entry(class).or_default() += total.total_ns,
                    None => unmodelled_ns += total.total_ns,
                }
            }
            MeasuredPhase {
                name: phase.name.clone(),
                steps: phase.steps,
                wall_ns: phase.wall_ns.unwrap_or(0),
                busy_ns: phase.busy_union_ns,
                class_ns,
                unmodelled_ns,
            }
        })
        .collect();
    let weights = WeightFormats::uniform(workload.dtype);
    let activation = if workload.dtype.is_quantized() { Format::F16 } else { workload.dtype };
    let of_model = Workload {
        architecture: &workload.architecture,
        weights: &weights,
        cache: workload.kv_dtype,
        activation,
        batch: workload.batch,
        prompt_tokens,
    };
    // With several devices the model is spread over them in a way no trace tells: the ceilings add up.
    let add = |pick: fn(&Ceilings) -> Option<f64>| -> Option<f64> {
        ceilings.iter().map(|ceiling| pick(&ceiling.values)).sum::<Option<f64>>().filter(|sum| *sum > 0.0)
    };
    let all = Ceilings { flops_per_s: add(|c| c.flops_per_s), bytes_per_s: add(|c| c.bytes_per_s) };
    let mut work = modelled_work(&of_model, all, &phases);
    if ceilings.len() > 1 {
        work.notes.push(format!(
            "{} devices: their ceilings are added up, and kernel times too; the model is taken as spread evenly",
            ceilings.len()
        ));
    }
    if phases.iter().all(|phase| phase.name != "prefill" && phase.name != "decode") {
        work.notes.push("no prefill or decode steps were found: there is nothing to hold the model against".to_owned());
    }
    work
}

/// Writes the modelled work of a class on the row of its kernel where the class has one row in its phase; `blocks` are `rows` in their
/// form for `metrics.json`. Several kernels share the work of a class in a way no name tells.
pub(super) fn fill(blocks: &mut [OperatorBlock], rows: &[KernelSummaryRow], modelled: &ModelledWork) {
    for class in &modelled.classes {
        let mut of_class = rows.iter().enumerate().filter(|(_, row)| {
            row.phase.as_deref() == Some(class.phase.as_str())
                && operator_class(row.class).is_some_and(|operator| operator.name() == class.class)
        });
        if let (Some((only, _)), None) = (of_class.next(), of_class.next())
            && let Some(block) = blocks.get_mut(only)
        {
            block.flops = Some(class.flops);
            block.bytes = Some(class.bytes);
            block.roofline_ns = class.roofline_ns;
        }
    }
}
