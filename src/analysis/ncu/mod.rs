//! What Nsight Compute measured, one row for each kernel name: duration, throughput against the peak, caches, occupancy, DRAM traffic,
//! arithmetic intensity, what bounds it and what the tool advises; and how those kernels stand in a timeline.
//!
//! Nsight Compute replays a kernel several times, by default with flushed caches and clocks locked to their base: its durations are not those
//! of the application. Use its ratios, and the durations of the timeline.

mod join;
mod metrics;
mod roofline;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use join::{NameMatch, NcuJoin, NcuMatch, NcuUnmatched, TimelineUnmatched, join};
pub use roofline::{KernelRoofline, Peaks, RooflineBound, kernel_roofline};

use self::metrics::Launch;
use crate::trace::ncu::{NcuKernel, NcuReport};

/// Below this share of the peak, in percent, for compute and memory both, Nsight Compute calls a kernel latency-bound: its rule
/// `SOLBottleneck` says "achieved compute throughput and/or memory bandwidth below 60.0% of peak typically indicate latency issues".
pub const LATENCY_BELOW_PERCENT: f64 = 60.0;
/// From this share on, in percent, the same rule holds the more used unit to be the limit, whatever the other does.
pub const SATURATED_FROM_PERCENT: f64 = 80.0;
/// Compute and memory less than this apart, in percentage points, are "well-balanced" in the same rule.
pub const BALANCED_WITHIN_POINTS: f64 = 10.0;

/// Rules listed for a kernel at most.
const RULES: usize = 5;

/// All profiled kernels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NcuSummary {
    /// The file.
    pub file: String,
    /// Profiled launches.
    pub launches: u64,
    /// Distinct kernel names.
    pub names: u64,
    /// Sum of the durations of all launches that have one, ns.
    pub duration_sum_ns: Option<f64>,
    /// The kernels with the largest sum of durations, descending; those without durations last.
    pub kernels: Vec<NcuKernelSummary>,
    /// Kernel names not listed.
    pub names_left_out: u64,
    /// Sum of durations of those, ns.
    pub left_out_duration_sum_ns: f64,
}

/// One kernel name. Percentages are means over its launches, weighted by duration where all have one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NcuKernelSummary {
    /// Kernel name as the tool printed it.
    pub name: String,
    /// Profiled launches.
    pub launches: u64,
    /// Duration on the device.
    pub duration: Option<NcuDuration>,
    /// Compute (SM) throughput in percent of the peak.
    pub sm_percent: Option<f64>,
    /// Memory throughput (the busiest of L1, L2 and DRAM) in percent of the peak.
    pub memory_percent: Option<f64>,
    /// DRAM throughput in percent of the peak.
    pub dram_percent: Option<f64>,
    /// Hit rate of L1, percent.
    pub l1_hit_percent: Option<f64>,
    /// Hit rate of L2, percent.
    pub l2_hit_percent: Option<f64>,
    /// Active warps in percent of the most an SM can hold.
    pub achieved_occupancy_percent: Option<f64>,
    /// The same as the launch configuration allows it.
    pub theoretical_occupancy_percent: Option<f64>,
    /// Registers of a thread; the most of any launch.
    pub registers_per_thread: Option<u32>,
    /// Times the grid fills the device, mean of the launches.
    pub waves_per_sm: Option<f64>,
    /// Bytes read from DRAM, mean of the launches.
    pub dram_read_bytes: Option<f64>,
    /// Bytes written to DRAM, mean of the launches.
    pub dram_write_bytes: Option<f64>,
    /// DRAM bandwidth in bytes per second: bytes over durations, or as the tool reports it.
    pub dram_bytes_per_s: Option<f64>,
    /// Floating-point operations, mean of the launches; only what was measured, see `flop_parts`.
    pub flops: Option<f64>,
    /// Which operations `flops` holds: `fp16`, `fp32`, `fp64`, `tensor bf16 to fp32`, …
    pub flop_parts: Vec<String>,
    /// Floating-point operations per second.
    pub flops_per_s: Option<f64>,
    /// Floating-point operations for each byte of DRAM traffic.
    pub flops_per_dram_byte: Option<f64>,
    /// What bounds it.
    pub bound: Option<Bound>,
    /// What `bound` is made of.
    pub bound_basis: Option<BoundBasis>,
    /// The tool's advice, the largest estimated speed-up first; at most five.
    pub rules: Vec<NcuRuleSummary>,
    /// Rules not listed.
    pub rules_left_out: u64,
}

/// Durations of the launches that have one, ns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NcuDuration {
    /// How many.
    pub launches: u64,
    /// Sum.
    pub sum_ns: f64,
    /// Mean.
    pub mean_ns: f64,
    /// Shortest.
    pub min_ns: f64,
    /// Longest.
    pub max_ns: f64,
}

/// What bounds a kernel, by the rule `SOLBottleneck` of Nsight Compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// Compute is used at least [`BALANCED_WITHIN_POINTS`] more than memory, or saturated and used as much.
    Compute,
    /// The same the other way round.
    Memory,
    /// Both below [`LATENCY_BELOW_PERCENT`].
    Latency,
    /// One above that, and both alike.
    Balanced,
}

/// Which memory throughput a bound was found with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BoundBasis {
    /// That of L1, L2 and DRAM, as the tool's own rule.
    AllMemory,
    /// That of DRAM alone, because the others were not collected: a cache may be the limit and is not seen.
    DramOnly,
}

/// A rule over the launches of a kernel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NcuRuleSummary {
    /// Rule, e.g. `TheoreticalOccupancy`.
    pub name: String,
    /// `OPT`, `WRN`, `INF`.
    pub kind: String,
    /// What it says about the launch with the largest estimate.
    pub description: String,
    /// How often it fired, over all launches.
    pub fired: u64,
    /// Largest estimated speed-up in percent.
    pub speedup_percent: Option<f64>,
    /// `global`: of the duration of the kernel; `local`: of the one problem.
    pub speedup_kind: Option<String>,
}

/// What bounds a kernel whose compute and memory throughput are `sm` and `memory` percent of the peak.
///
/// Both below 60: latency. One at 80 or more: the larger. Else, less than 10 points apart: balanced; otherwise the larger. These are the
/// steps and thresholds of the rule `SOLBottleneck` that NVIDIA ships with Nsight Compute.
pub fn bound(sm: f64, memory: f64) -> Bound {
    if sm < LATENCY_BELOW_PERCENT && memory < LATENCY_BELOW_PERCENT {
        Bound::Latency
    } else if sm.max(memory) < SATURATED_FROM_PERCENT && (sm - memory).abs() < BALANCED_WITHIN_POINTS {
        Bound::Balanced
    } else if sm >= memory {
        Bound::Compute
    } else {
        Bound::Memory
    }
}

/// Summarises a report; the `limit` kernel names with the largest sum of durations are listed.
pub fn summarise(report: &NcuReport, limit: usize) -> NcuSummary {
    let mut by_name: BTreeMap<&Arc<str>, Vec<&NcuKernel>> = BTreeMap::new();
    for kernel in &report.kernels {
        by_name.entry(&kernel.name).or_default().push(kernel);
    }
    let mut kernels: Vec<NcuKernelSummary> =
        by_name.iter().map(|(name, launches)| kernel_summary(name, launches)).collect();
    let sum = |kernel: &NcuKernelSummary| kernel.duration.as_ref().map(|duration| duration.sum_ns);
    kernels.sort_by(|a, b| sum(b).unwrap_or(-1.0).total_cmp(&sum(a).unwrap_or(-1.0)));
    let sums: Vec<f64> = kernels.iter().filter_map(sum).collect();
    let rest = kernels.split_off(limit.min(kernels.len()));
    NcuSummary {
        file: report.file.clone(),
        launches: report.kernels.len() as u64,
        names: by_name.len() as u64,
        duration_sum_ns: (!sums.is_empty()).then(|| sums.iter().sum()),
        kernels,
        names_left_out: rest.len() as u64,
        left_out_duration_sum_ns: rest.iter().filter_map(sum).sum(),
    }
}

fn kernel_summary(name: &str, kernels: &[&NcuKernel]) -> NcuKernelSummary {
    let launches: Vec<Launch> = kernels.iter().map(|kernel| Launch::of(kernel)).collect();
    let memory_percent = weighted(&launches, |launch| launch.memory_percent);
    let dram_percent = weighted(&launches, |launch| launch.dram_percent);
    let sm_percent = weighted(&launches, |launch| launch.sm_percent);
    let (memory, basis) = match (memory_percent, dram_percent) {
        (Some(memory), _) => (Some(memory), BoundBasis::AllMemory),
        (None, dram) => (dram, BoundBasis::DramOnly),
    };
    let found = sm_percent.zip(memory).map(|(sm, memory)| (bound(sm, memory), basis));
    let flops_launches: Vec<&Launch> = launches.iter().filter(|launch| launch.flops.is_some()).collect();
    let mut flop_parts: Vec<String> = flops_launches.iter().flat_map(|launch| launch.flop_parts.clone()).collect();
    flop_parts.sort();
    flop_parts.dedup();
    let (rules, rules_left_out) = rules(kernels);
    NcuKernelSummary {
        name: name.to_owned(),
        launches: launches.len() as u64,
        duration: durations(&launches),
        sm_percent,
        memory_percent,
        dram_percent,
        l1_hit_percent: weighted(&launches, |launch| launch.l1_hit_percent),
        l2_hit_percent: weighted(&launches, |launch| launch.l2_hit_percent),
        achieved_occupancy_percent: weighted(&launches, |launch| launch.achieved_occupancy_percent),
        theoretical_occupancy_percent: weighted(&launches, |launch| launch.theoretical_occupancy_percent),
        registers_per_thread: launches.iter().filter_map(|launch| launch.registers).max(),
        waves_per_sm: mean(launches.iter().filter_map(|launch| launch.waves_per_sm)),
        dram_read_bytes: mean(launches.iter().filter_map(|launch| launch.dram_read_bytes)),
        dram_write_bytes: mean(launches.iter().filter_map(|launch| launch.dram_write_bytes)),
        dram_bytes_per_s: ratio(&launches, |launch| launch.dram_bytes, Launch::duration_s)
            .or_else(|| weighted(&launches, |launch| launch.dram_bytes_per_s)),
        flops: mean(launches.iter().filter_map(|launch| launch.flops)),
        flop_parts,
        flops_per_s: ratio(&launches, |launch| launch.flops, Launch::duration_s),
        flops_per_dram_byte: ratio(&launches, |launch| launch.flops, |launch| launch.dram_bytes),
        bound: found.map(|(bound, _)| bound),
        bound_basis: found.map(|(_, basis)| basis),
        rules,
        rules_left_out,
    }
}

fn durations(launches: &[Launch]) -> Option<NcuDuration> {
    let all: Vec<f64> = launches.iter().filter_map(|launch| launch.duration_ns).collect();
    let sum_ns: f64 = all.iter().sum();
    (!all.is_empty()).then(|| NcuDuration {
        launches: all.len() as u64,
        sum_ns,
        mean_ns: sum_ns / all.len() as f64,
        min_ns: all.iter().copied().fold(f64::INFINITY, f64::min),
        max_ns: all.iter().copied().fold(f64::NEG_INFINITY, f64::max),
    })
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0.0);
    for value in values {
        sum += value;
        count += 1.0;
    }
    (count > 0.0).then(|| sum / count)
}

/// Mean of a metric over the launches that have it, weighted by duration if each of them has one.
fn weighted(launches: &[Launch], metric: impl Fn(&Launch) -> Option<f64>) -> Option<f64> {
    let with: Vec<(f64, Option<f64>)> =
        launches.iter().filter_map(|launch| Some((metric(launch)?, launch.duration_ns))).collect();
    let weights: Option<f64> = with.iter().map(|(_, duration)| *duration).sum();
    match weights {
        Some(total) if total > 0.0 => {
            Some(with.iter().map(|(value, duration)| value * duration.unwrap_or(0.0)).sum::<f64>() / total)
        }
        _ => mean(with.iter().map(|(value, _)| *value)),
    }
}

/// Ratio of two sums over the launches that have both.
fn ratio(
    launches: &[Launch],
    over: impl Fn(&Launch) -> Option<f64>,
    under: impl Fn(&Launch) -> Option<f64>,
) -> Option<f64> {
    let both = launches.iter().filter_map(|launch| over(launch).zip(under(launch)));
    let (over, under) = both.fold((0.0, 0.0), |sums, pair| (sums.0 + pair.0, sums.1 + pair.1));
    (under > 0.0).then(|| over / under)
}

fn rules(kernels: &[&NcuKernel]) -> (Vec<NcuRuleSummary>, u64) {
    let mut rules: Vec<NcuRuleSummary> = Vec::new();
    for rule in kernels.iter().flat_map(|kernel| &kernel.rules) {
        let estimate = || (rule.description.to_string(), rule.speedup_kind.as_deref().map(str::to_owned));
        if let Some(known) = rules.iter_mut().find(|known| *known.name == *rule.name && *known.kind == *rule.kind) {
            known.fired += 1;
            if rule.speedup_percent > known.speedup_percent {
                known.speedup_percent = rule.speedup_percent;
                (known.description, known.speedup_kind) = estimate();
            }
            continue;
        }
        let (description, speedup_kind) = estimate();
        rules.push(NcuRuleSummary {
            name: rule.name.to_string(),
            kind: rule.kind.to_string(),
            description,
            fired: 1,
            speedup_percent: rule.speedup_percent,
            speedup_kind,
        });
    }
    // Of two equal estimates the one of the whole duration says more.
    let global = |rule: &NcuRuleSummary| rule.speedup_kind.as_deref() == Some("global");
    rules.sort_by(|a, b| {
        let estimate = |rule: &NcuRuleSummary| rule.speedup_percent.unwrap_or(-1.0);
        estimate(b)
            .total_cmp(&estimate(a))
            .then(global(b).cmp(&global(a)))
            .then((b.kind == "OPT").cmp(&(a.kind == "OPT")))
    });
    let left_out = rules.len().saturating_sub(RULES) as u64;
    rules.truncate(RULES);
    (rules, left_out)
}
