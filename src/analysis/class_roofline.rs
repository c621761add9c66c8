//! Measured GPU time of each operator class beside what the model's architecture says it must take.
//!
//! FLOPs and bytes come from [`crate::estimate`], times from a trace; this module puts them side by side and says what is lost. It
//! guesses no shape: without an architecture, a batch size and a prompt length there is no row.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::estimate::architecture::Architecture;
use crate::estimate::flops::{self, PhaseCost, Storage};
use crate::estimate::format::Format;
use crate::estimate::operator::OperatorClass;
use crate::estimate::roofline::{mbu, mfu, roofline};
use crate::estimate::step::{StepShape, WeightFormats, operators_of_step};

/// Above this utilisation a model, a batch size or a peak must be wrong.
const IMPOSSIBLE: f64 = 1.02;

/// What ran, as the user says.
#[derive(Debug, Clone)]
pub struct Workload<'a> {
    /// Shape of the model.
    pub architecture: &'a Architecture,
    /// Storage of its matrices.
    pub weights: &'a WeightFormats,
    /// Storage of the KV cache.
    pub cache: Format,
    /// Storage of activations.
    pub activation: Format,
    /// Sequences in a step.
    pub batch: u32,
    /// Prompt tokens of each sequence.
    pub prompt_tokens: u32,
}

/// The ceilings of the device.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Ceilings {
    /// Dense FLOP/s of the arithmetic used.
    pub flops_per_s: Option<f64>,
    /// Memory bandwidth in bytes per second.
    pub bytes_per_s: Option<f64>,
}

/// What a trace says of one phase.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MeasuredPhase {
    /// `prefill` or `decode`; other phases have no model.
    pub name: String,
    /// Steps.
    pub steps: u64,
    /// Sum of the step times, gaps included, in ns.
    pub wall_ns: i64,
    /// Union of device work in ns.
    pub busy_ns: i64,
    /// Sum of kernel time by operator class, in ns.
    pub class_ns: BTreeMap<OperatorClass, i64>,
    /// Sum of kernel time of classes without a counterpart in the model, in ns.
    pub unmodelled_ns: i64,
}

/// One operator class of one phase: modelled beside measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassRoofline {
    /// `prefill` or `decode`.
    pub phase: String,
    /// Operator class of the model.
    pub class: String,
    /// Steps the figures are for.
    pub steps: u64,
    /// FLOPs of all steps.
    pub flops: u64,
    /// Least bytes of all steps.
    pub bytes: u64,
    /// Kernel time of all steps in ns; null where no kernel of the class was found (fused into another, or not classified).
    pub gpu_ns: Option<i64>,
    /// Least time of all steps at the roofline, in ns; null without peaks.
    pub roofline_ns: Option<f64>,
    /// gpu − roofline, in ns.
    pub lost_ns: Option<f64>,
    /// `compute` or `memory`.
    pub bound: Option<String>,
    /// flops / gpu time.
    pub flops_per_s: Option<f64>,
    /// bytes / gpu time.
    pub bytes_per_s: Option<f64>,
    /// roofline / gpu time.
    pub attained: Option<f64>,
}

/// MFU and MBU of one phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhaseUtilisation {
    /// `prefill` or `decode`.
    pub phase: String,
    /// Steps.
    pub steps: u64,
    /// Model FLOPs (matrix products with weights, and attention) of all steps.
    pub model_flops: u64,
    /// Weight and KV-cache bytes of all steps, weights once a step.
    pub model_bytes: u64,
    /// Model FLOPs / (peak × wall time): what the user gets.
    pub mfu: Option<f64>,
    /// Model FLOPs / (peak × busy time): what the kernels reach while they run.
    pub mfu_while_busy: Option<f64>,
    /// Model bytes / (bandwidth × wall time).
    pub mbu: Option<f64>,
    /// Model bytes / (bandwidth × busy time).
    pub mbu_while_busy: Option<f64>,
    /// Least time of the phase at the roofline, in ns.
    pub roofline_ns: Option<f64>,
    /// Share of kernel time in classes the model has no counterpart for.
    pub unmodelled_share: Option<f64>,
}

/// Modelled work of a trace.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelledWork {
    /// MFU and MBU by phase.
    pub phases: Vec<PhaseUtilisation>,
    /// Operator classes by phase, most lost time first.
    pub classes: Vec<ClassRoofline>,
    /// What a reader must know: how steps were mapped to KV lengths, and figures that cannot be.
    pub notes: Vec<String>,
}

/// Puts the modelled work of `workload` beside the measured `phases`.
///
/// Prefill steps are taken as whole prompts of `prompt_tokens`; decode steps are spread evenly over as many sequences of steps as there
/// are prefill steps (one if there is none), the i-th of each seeing `prompt_tokens + i` positions.
pub fn modelled_work(workload: &Workload<'_>, ceilings: Ceilings, phases: &[MeasuredPhase]) -> ModelledWork {
    let mut work = ModelledWork::default();
    let prefills = phases.iter().find(|phase| phase.name == "prefill").map_or(0, |phase| phase.steps);
    for phase in phases.iter().filter(|phase| phase.steps > 0) {
        let lengths = match phase.name.as_str() {
            "prefill" => vec![(workload.prompt_tokens, workload.prompt_tokens, phase.steps)],
            "decode" => decode_lengths(workload.prompt_tokens, phase.steps, prefills.max(1)),
            _ => continue,
        };
        if phase.name == "decode" {
            let last = lengths.last().map_or(0, |(_, kv_len, _)| *kv_len);
            work.notes.push(format!(
                "decode: {} steps taken as {} sequence(s) of steps over KV lengths {} to {last}",
                phase.steps,
                prefills.max(1),
                workload.prompt_tokens + 1
            ));
        }
        one_phase(workload, ceilings, phase, &lengths, &mut work);
    }
    work.classes.sort_by(|a, b| b.lost_ns.unwrap_or(f64::MIN).total_cmp(&a.lost_ns.unwrap_or(f64::MIN)));
    work
}

/// (new positions, KV length after the step, how many such steps).
type Lengths = Vec<(u32, u32, u64)>;

fn decode_lengths(prompt: u32, steps: u64, sequences: u64) -> Lengths {
    let (each, more) = (steps / sequences, steps % sequences);
    let mut lengths: Lengths = (1..=each).map(|step| (1, prompt.saturating_add(step as u32), sequences)).collect();
    if more > 0 {
        lengths.push((1, prompt.saturating_add(each as u32 + 1), more));
    }
    lengths
}

fn one_phase(
    workload: &Workload<'_>,
    ceilings: Ceilings,
    phase: &MeasuredPhase,
    lengths: &Lengths,
    work: &mut ModelledWork,
) {
    let storage = Storage { weights: workload.weights, cache: workload.cache, activation: workload.activation };
    let mut total = PhaseCost::default();
    // A class is not one operator: each operator has its own roofline, and the least times of a class add up.
    let mut classes: BTreeMap<OperatorClass, (u64, u64, Option<f64>, f64, f64)> = BTreeMap::new();
    for (queries, kv_len, times) in lengths {
        let cost = flops::step(
            workload.architecture,
            storage,
            u64::from(workload.batch),
            u64::from(*queries),
            u64::from(*kv_len),
        );
        total.model_flops += cost.model_flops * times;
        total.weight_bytes += cost.weight_bytes * times;
        total.kv_bytes += cost.kv_bytes * times;
        let shape = StepShape { batch: workload.batch, queries: *queries, kv_len: *kv_len };
        for (_, _, operator) in operators_of_step(workload.architecture, shape, workload.weights, workload.cache) {
            let cost = operator.cost(workload.activation);
            let least = roofline(cost.flops, cost.bytes(), ceilings.flops_per_s, ceilings.bytes_per_s);
            let sum = classes.entry(operator.class()).or_insert((0, 0, Some(0.0), 0.0, 0.0));
            sum.0 += cost.flops * times;
            sum.1 += cost.bytes() * times;
            sum.2 = sum.2.zip(least.time_s).map(|(sum, time)| sum + time * *times as f64);
            sum.3 += least.compute_time_s.unwrap_or(0.0) * *times as f64;
            sum.4 += least.memory_time_s.unwrap_or(0.0) * *times as f64;
        }
    }
    let model_bytes = total.weight_bytes + total.kv_bytes;
    let (wall_s, busy_s) = (phase.wall_ns as f64 / 1e9, phase.busy_ns as f64 / 1e9);
    let class_sum: i64 = phase.class_ns.values().sum::<i64>() + phase.unmodelled_ns;
    let least = roofline(total.model_flops, model_bytes, ceilings.flops_per_s, ceilings.bytes_per_s);
    let utilisation = PhaseUtilisation {
        phase: phase.name.clone(),
        steps: phase.steps,
        model_flops: total.model_flops,
        model_bytes,
        mfu: mfu(total.model_flops, ceilings.flops_per_s, wall_s),
        mfu_while_busy: mfu(total.model_flops, ceilings.flops_per_s, busy_s),
        mbu: mbu(model_bytes, ceilings.bytes_per_s, wall_s),
        mbu_while_busy: mbu(model_bytes, ceilings.bytes_per_s, busy_s),
        roofline_ns: least.time_s.map(|time| time * 1e9),
        unmodelled_share: (class_sum > 0).then(|| phase.unmodelled_ns as f64 / class_sum as f64),
    };
    for (name, value) in [("MFU", utilisation.mfu_while_busy), ("MBU", utilisation.mbu_while_busy)] {
        if let Some(value) = value.filter(|value| *value > IMPOSSIBLE) {
            work.notes.push(format!(
                "{}: {name} of {:.0} % while busy is impossible: the model, its dtype, `batch`, `prompt_tokens` or the peak is not what ran",
                phase.name,
                value * 100.0
            ));
        }
    }
    work.phases.push(utilisation);
    for (class, (flops, bytes, least_s, compute_s, memory_s)) in classes {
        let gpu_ns = phase.class_ns.get(&class).copied().filter(|ns| *ns > 0);
        let roofline_ns = least_s.map(|least| least * 1e9);
        let rate = |amount: u64| gpu_ns.map(|ns| amount as f64 / (ns as f64 / 1e9));
        work.classes.push(ClassRoofline {
            phase: phase.name.clone(),
            class: class.name().to_owned(),
            steps: phase.steps,
            flops,
            bytes,
            gpu_ns,
            roofline_ns,
            lost_ns: gpu_ns.zip(roofline_ns).map(|(gpu, least)| gpu as f64 - least),
            bound: roofline_ns.map(|_| if compute_s >= memory_s { "compute" } else { "memory" }.to_owned()),
            flops_per_s: rate(flops),
            bytes_per_s: rate(bytes),
            attained: gpu_ns.zip(roofline_ns).map(|(gpu, least)| least / gpu as f64),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::estimate::test_models;

    fn work(phases: &[MeasuredPhase]) -> (ModelledWork, Architecture) {
        let architecture = test_models::llama_2_7b();
        let weights = WeightFormats::uniform(Format::BF16);
        let workload = Workload {
            architecture: &architecture,
            weights: &weights,
            cache: Format::BF16,
            activation: Format::BF16,
            batch: 1,
            prompt_tokens: 100,
        };
        let ceilings = Ceilings { flops_per_s: Some(989e12), bytes_per_s: Some(3.35e12) };
        (modelled_work(&workload, ceilings, phases), architecture)
    }

    fn phase(name: &str, steps: u64, wall_ns: i64) -> MeasuredPhase {
        MeasuredPhase {
            name: name.to_owned(),
            steps,
            wall_ns,
            busy_ns: wall_ns / 2,
            class_ns: [(OperatorClass::Linear, wall_ns / 4)].into(),
            unmodelled_ns: wall_ns / 4,
        }
    }

    #[test]
    fn decode_bytes_are_the_weights_once_a_step_and_the_cache_as_it_grows() {
        let (work, _) = work(&[phase("prefill", 2, 40_000_000), phase("decode", 20, 200_000_000)]);
        let decode = &work.phases[1];
        // Llama 2 7B: 6,738,415,616 parameters, of which the embedding (32000 × 4096) is read one row a step and the norms (65 × 4096)
        // count as activations or weights depending on the convention; 2·32·4096·2 bytes of keys and values a position.
        let weights = (6_738_415_616_u64 - 32_000 * 4096) * 2;
        let cache_position = 2 * 32 * 4096 * 2;
        let positions: u64 = 2 * (101..=110).sum::<u64>();
        let least = 20 * weights + positions * cache_position;
        let off = decode.model_bytes as f64 / least as f64;
        assert!((0.999..1.001).contains(&off), "{off}");
        let mbu = decode.mbu.unwrap();
        assert!((mbu - decode.model_bytes as f64 / 3.35e12 / 0.2).abs() < 1e-9);
        assert!((decode.mbu_while_busy.unwrap() / mbu - 2.0).abs() < 1e-9);
        assert_eq!(decode.unmodelled_share, Some(0.5));
    }

    #[test]
    fn the_classes_of_a_phase_add_up_to_its_model_flops_and_lose_what_the_roofline_leaves() {
        let (work, _) = work(&[phase("prefill", 1, 40_000_000)]);
        let flops: u64 = work
            .classes
            .iter()
            .filter(|row| row.class == "linear" || row.class == "attention")
            .map(|row| row.flops)
            .sum();
        assert_eq!(flops, work.phases[0].model_flops);
        let linear = work.classes.iter().find(|row| row.class == "linear").unwrap();
        assert_eq!(linear.gpu_ns, Some(10_000_000));
        assert!((linear.lost_ns.unwrap() + linear.roofline_ns.unwrap() - 1e7).abs() < 1.0);
        let norm = work.classes.iter().find(|row| row.class == "norm").unwrap();
        assert_eq!((norm.gpu_ns, norm.lost_ns, norm.attained), (None, None, None));
    }

    #[test]
    fn utilisation_above_one_is_called_impossible_and_other_phases_have_no_model() {
        let (work, _) = work(&[phase("decode", 10, 10_000), phase("unknown", 3, 100)]);
        assert_eq!(work.phases.len(), 1);
        assert!(work.notes.iter().any(|note| note.contains("impossible")), "{:?}", work.notes);
    }
}
