//! Finds what the summary needs among the metrics of a launch, by metric name (raw page, `--metrics`) or label (details page).

use std::collections::BTreeMap;

use crate::trace::ncu::NcuKernel;

/// DRAM moves in sectors of this many bytes.
const SECTOR_BYTES: f64 = 32.0;

/// One launch.
#[derive(Debug, Clone, Default)]
pub(super) struct Launch {
    pub(super) duration_ns: Option<f64>,
    pub(super) sm_percent: Option<f64>,
    pub(super) memory_percent: Option<f64>,
    pub(super) dram_percent: Option<f64>,
    pub(super) l1_hit_percent: Option<f64>,
    pub(super) l2_hit_percent: Option<f64>,
    pub(super) achieved_occupancy_percent: Option<f64>,
    pub(super) theoretical_occupancy_percent: Option<f64>,
    pub(super) registers: Option<u32>,
    pub(super) waves_per_sm: Option<f64>,
    pub(super) dram_read_bytes: Option<f64>,
    pub(super) dram_write_bytes: Option<f64>,
    pub(super) dram_bytes: Option<f64>,
    pub(super) dram_bytes_per_s: Option<f64>,
    pub(super) flops: Option<f64>,
    pub(super) flop_parts: Vec<String>,
}

impl Launch {
    pub(super) fn of(kernel: &NcuKernel) -> Self {
        let find = |unit: &str, names: &[&str]| names.iter().find_map(|name| kernel.metric(name, unit));
        let percent = |names: &[&str]| find("%", names);
        let peak = |unit: &str| format!("{unit}.avg.pct_of_peak_sustained_elapsed");
        let duration_ns = find(
            "ns",
            &[
                "gpu__time_duration.sum",
                "gpu__time_duration.avg",
                "gpu__time_duration.max",
                "Duration",
                "gpu__time_duration_measured_user.sum",
            ],
        );
        let read = dram(kernel, "read");
        let write = dram(kernel, "write");
        let both = find("byte", &["dram__bytes.sum"]).or_else(|| Some(read? + write?));
        let (flops, flop_parts) = flops(kernel).unzip();
        Self {
            duration_ns,
            sm_percent: percent(&[&peak("sm__throughput"), "Compute (SM) Throughput", "SOL SM"]),
            memory_percent: percent(&[&peak("gpu__compute_memory_throughput"), "Memory Throughput", "SOL Memory"]),
            dram_percent: percent(&[
                &peak("gpu__dram_throughput"),
                &peak("dram__throughput"),
                "DRAM Throughput",
                "SOL DRAM",
            ]),
            l1_hit_percent: percent(&["l1tex__t_sector_hit_rate.pct", "L1/TEX Hit Rate", "L1 Hit Rate"]),
            l2_hit_percent: percent(&["lts__t_sector_hit_rate.pct", "L2 Hit Rate"]),
            achieved_occupancy_percent: percent(&[
                "sm__warps_active.avg.pct_of_peak_sustained_active",
                "Achieved Occupancy",
            ]),
            theoretical_occupancy_percent: percent(&[
                "sm__maximum_warps_per_active_cycle_pct",
                "Theoretical Occupancy",
            ]),
            registers: find("register/thread", &["launch__registers_per_thread", "Registers Per Thread"])
                .filter(|registers| (0.0..=f64::from(u32::MAX)).contains(registers))
                .map(|registers| registers as u32),
            waves_per_sm: find("", &["launch__waves_per_multiprocessor", "Waves Per SM"]),
            dram_read_bytes: read,
            dram_write_bytes: write,
            dram_bytes: both,
            dram_bytes_per_s: find("byte/s", &["dram__bytes.sum.per_second", "Memory Throughput"]),
            flops,
            flop_parts: flop_parts.unwrap_or_default(),
        }
    }
    pub(super) fn duration_s(&self) -> Option<f64> {
        self.duration_ns.map(|ns| ns * 1e-9)
    }
}

fn dram(kernel: &NcuKernel, direction: &str) -> Option<f64> {
    kernel
        .metric(&format!("dram__bytes_{direction}.sum"), "byte")
        .or_else(|| Some(kernel.metric(&format!("dram__sectors_{direction}.sum"), "sector")? * SECTOR_BYTES))
}

/// Floating-point operations of a launch, and which parts were counted.
///
/// Outside the tensor cores additions and multiplications count 1 and fused multiply-adds 2, each precision only if all three were collected
/// (`{smsp,sm}__sass_thread_inst_executed_op_{h,f,d}{add,mul,fma}_pred_on.sum`). The tensor cores have metrics of operations
/// (`sm__ops_path_tensor_src_A[_dst_B].sum`); those of integers are left out. None if nothing was collected, or if the only parts collected
/// are zero while others may not be.
fn flops(kernel: &NcuKernel) -> Option<(f64, Vec<String>)> {
    let (amounts, complete) = flop_amounts(kernel);
    let sum: f64 = amounts.iter().map(|(_, amount)| amount).sum();
    let parts: Vec<String> = amounts.into_iter().map(|(part, _)| part).collect();
    (!parts.is_empty() && (sum > 0.0 || complete == 3)).then_some((sum, parts))
}

/// Floating-point operations by what did them, as [`flops`] adds them up, and how many precisions outside the tensor cores were collected.
pub(super) fn flop_amounts(kernel: &NcuKernel) -> (Vec<(String, f64)>, u32) {
    let mut vector = [[None::<f64>; 3]; 3];
    let mut tensor: BTreeMap<(String, String), [Option<f64>; 3]> = BTreeMap::new();
    for metric in &kernel.metrics {
        let Some(value) = metric.value.value else { continue };
        let name = &*metric.name;
        let operation = name
            .strip_prefix("smsp__sass_thread_inst_executed_op_")
            .or_else(|| name.strip_prefix("sm__sass_thread_inst_executed_op_"))
            .and_then(|name| name.strip_suffix("_pred_on.sum"));
        if let Some(operation) = operation
            && let (Some(precision), Some(kind)) = (
                ["h", "f", "d"].iter().position(|precision| operation.starts_with(precision)),
                ["add", "mul", "fma"].iter().position(|kind| operation.get(1..) == Some(*kind)),
            )
        {
            vector[precision][kind].get_or_insert(value);
        }
        if let Some(path) = name.strip_prefix("sm__ops_path_tensor_src_").and_then(|name| name.strip_suffix(".sum")) {
            let (path, sparsity) = match (path.strip_suffix("_sparsity_off"), path.strip_suffix("_sparsity_on")) {
                (Some(path), _) => (path, 1),
                (_, Some(path)) => (path, 2),
                _ => (path, 0),
            };
            let (source, destination) = path.split_once("_dst_").unwrap_or((path, ""));
            if source.contains("fp") || source.contains("bf") || source.contains("tf") {
                let key = (source.to_owned(), destination.to_owned());
                tensor.entry(key).or_default()[sparsity].get_or_insert(value);
            }
        }
    }
    let mut parts = Vec::new();
    let mut complete = 0;
    for (precision, name) in vector.iter().zip(["fp16", "fp32", "fp64"]) {
        if let [Some(additions), Some(multiplications), Some(fused)] = precision {
            complete += 1;
            parts.push((name.to_owned(), additions + multiplications + 2.0 * fused));
        }
    }
    for ((source, destination), [all, off, on]) in &tensor {
        // A metric of the source alone holds those of its destinations.
        let detailed = tensor.keys().any(|(other, to)| other == source && !to.is_empty());
        if destination.is_empty() && detailed {
            continue;
        }
        let Some(operations) = all.or_else(|| Some((*off)? + (*on)?)).or(*off).or(*on) else { continue };
        let part = if destination.is_empty() {
            format!("tensor {source}")
        } else {
            format!("tensor {source} to {destination}")
        };
        parts.push((part, operations));
    }
    (parts, complete)
}
