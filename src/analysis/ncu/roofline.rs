//! Where a profiled kernel stands under the roofline of its device: operations for each byte of DRAM traffic, against the peak of the units
//! that did most of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::NcuKernelSummary;
use super::metrics::flop_amounts;
use crate::trace::ncu::NcuKernel;

/// A kernel under the roofline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KernelRoofline {
    /// What did most of the operations: `fp32`, `tensor bf16 to fp32`, …; null where none were counted.
    pub arithmetic: Option<String>,
    /// Peak of that, FLOP/s; null where it is not known.
    pub peak_flops_per_s: Option<f64>,
    /// Peak of the memory, bytes per second; null where it is not known.
    pub peak_bytes_per_s: Option<f64>,
    /// Floating-point operations for each byte of DRAM traffic.
    pub flops_per_dram_byte: Option<f64>,
    /// Intensity at which the two peaks meet.
    pub ridge_flops_per_byte: Option<f64>,
    /// The least of the two ceilings at the kernel's intensity, FLOP/s.
    pub attainable_flops_per_s: Option<f64>,
    /// What the kernel reached under the profiler, FLOP/s.
    pub flops_per_s: Option<f64>,
    /// Reached over attainable.
    pub share_of_attainable: Option<f64>,
    /// DRAM bandwidth reached over its peak.
    pub share_of_bandwidth: Option<f64>,
    /// Which ceiling is lower at that intensity.
    pub bound: Option<RooflineBound>,
}

/// Which ceiling is the lower one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RooflineBound {
    /// Arithmetic.
    Compute,
    /// Memory bandwidth.
    Memory,
}

/// Ceilings of a device.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Peaks {
    /// FLOP/s by format, as data sheets name it: `fp64`, `fp32`, `tf32`, `fp16`, `bf16`, `fp8`. Those of narrow formats are of matrix units.
    pub flops_per_s: BTreeMap<String, f64>,
    /// FLOP/s the user gives, whatever the arithmetic.
    pub given_flops_per_s: Option<f64>,
    /// Bytes per second.
    pub bytes_per_s: Option<f64>,
}

impl Peaks {
    /// The peak of operations of the part `arithmetic` of a kernel.
    fn of(&self, arithmetic: &str) -> Option<f64> {
        if self.given_flops_per_s.is_some() {
            return self.given_flops_per_s;
        }
        let (format, tensor) = match arithmetic.strip_prefix("tensor ") {
            Some(rest) => (rest.split(' ').next().unwrap_or(rest), true),
            None => (arithmetic, false),
        };
        // Data sheets give half precision for matrix units alone, and 64-bit peaks of whichever units are faster.
        if !tensor && !matches!(format, "fp32" | "fp64") {
            return None;
        }
        let listed = |name: &str| self.flops_per_s.get(name).copied();
        match format {
            "tf32" | "tf32x1" => listed("tf32"),
            "fp8" | "fp8e4m3" | "fp8e5m2" => listed("fp8"),
            name => listed(name),
        }
    }
}

/// Where the kernel `summary`, which stands for `launches`, is under the ceilings.
pub fn kernel_roofline(summary: &NcuKernelSummary, launches: &[&NcuKernel], peaks: &Peaks) -> KernelRoofline {
    let mut amounts: BTreeMap<String, f64> = BTreeMap::new();
    for (part, amount) in launches.iter().flat_map(|launch| flop_amounts(launch).0) {
        *amounts.entry(part).or_default() += amount;
    }
    let most = amounts.into_iter().filter(|(_, amount)| *amount > 0.0).max_by(|a, b| a.1.total_cmp(&b.1));
    let arithmetic = most.map(|(part, _)| part);
    let positive = |value: Option<f64>| value.filter(|value| *value > 0.0 && value.is_finite());
    let flops = positive(arithmetic.as_deref().and_then(|part| peaks.of(part)));
    let bytes = positive(peaks.bytes_per_s);
    let intensity = positive(summary.flops_per_dram_byte);
    let ridge = flops.zip(bytes).map(|(flops, bytes)| flops / bytes);
    let attainable = match (flops, bytes.zip(intensity).map(|(bytes, intensity)| bytes * intensity)) {
        (Some(flops), Some(memory)) => Some(flops.min(memory)),
        _ => None,
    };
    let reached = positive(summary.flops_per_s);
    KernelRoofline {
        arithmetic,
        peak_flops_per_s: flops,
        peak_bytes_per_s: bytes,
        flops_per_dram_byte: intensity,
        ridge_flops_per_byte: ridge,
        attainable_flops_per_s: attainable,
        flops_per_s: reached,
        share_of_attainable: reached.zip(attainable).map(|(reached, attainable)| reached / attainable),
        share_of_bandwidth: summary.dram_bytes_per_s.zip(bytes).map(|(reached, peak)| reached / peak),
        bound: intensity.zip(ridge).map(
            |(intensity, ridge)| {
                if intensity < ridge { RooflineBound::Memory } else { RooflineBound::Compute }
            },
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::ncu::summarise;
    use crate::trace::ncu::{NcuMetric, NcuReport, NcuValue};

    /// One launch of 10 µs with these metrics: name, value, unit.
    fn launch(metrics: &[(&str, f64, &str)]) -> NcuReport {
        let mut kernel = NcuKernel { name: "k".into(), ..NcuKernel::default() };
        for (name, value, unit) in metrics.iter().chain(&[("gpu__time_duration.sum", 10_000.0, "ns")]) {
            let value = NcuValue { value: Some(*value), unit: (*unit).into(), text: None };
            kernel.metrics.push(NcuMetric { section: "".into(), name: (*name).into(), value });
        }
        NcuReport { file: "x.csv".to_owned(), kernels: vec![kernel] }
    }
    fn placed(metrics: &[(&str, f64, &str)], peaks: &Peaks) -> KernelRoofline {
        let report = launch(metrics);
        let summary = summarise(&report, 1);
        kernel_roofline(&summary.kernels[0], &report.kernels.iter().collect::<Vec<_>>(), peaks)
    }
    fn h100() -> Peaks {
        Peaks {
            flops_per_s: BTreeMap::from([("fp32".to_owned(), 66.9e12), ("bf16".to_owned(), 989.4e12)]),
            given_flops_per_s: None,
            bytes_per_s: Some(3.35e12),
        }
    }
    const TRAFFIC: [(&str, f64, &str); 2] =
        [("dram__bytes_read.sum", 16e6, "byte"), ("dram__bytes_write.sum", 4e6, "byte")];

    #[test]
    fn a_product_on_tensor_cores_is_held_against_their_peak() {
        let mut metrics = TRAFFIC.to_vec();
        metrics.push(("sm__ops_path_tensor_src_bf16_dst_fp32.sum", 4e9, ""));
        metrics.push(("smsp__sass_thread_inst_executed_op_fadd_pred_on.sum", 1e6, "inst"));
        metrics.push(("smsp__sass_thread_inst_executed_op_fmul_pred_on.sum", 0.0, "inst"));
        metrics.push(("smsp__sass_thread_inst_executed_op_ffma_pred_on.sum", 0.0, "inst"));
        let found = placed(&metrics, &h100());
        assert_eq!(found.arithmetic.as_deref(), Some("tensor bf16 to fp32"));
        // (4e9 + 1e6) operations, 20 MB: 200.05 FLOP per byte, below the ridge of 989.4 / 3.35 = 295.3.
        assert!((found.flops_per_dram_byte.unwrap() - 200.05).abs() < 1e-9);
        assert!((found.ridge_flops_per_byte.unwrap() - 295.343_283_58).abs() < 1e-6);
        assert_eq!(found.bound, Some(RooflineBound::Memory));
        // 20 MB in 10 µs are 2 TB/s of 3.35; what is attainable at that intensity is the bandwidth's share of it.
        assert!((found.share_of_bandwidth.unwrap() - 2.0 / 3.35).abs() < 1e-12);
        assert!((found.share_of_attainable.unwrap() - 2.0 / 3.35).abs() < 1e-12);
    }

    #[test]
    fn ordinary_arithmetic_is_held_against_its_own_peak() {
        let fused = ("smsp__sass_thread_inst_executed_op_ffma_pred_on.sum", 1e9, "inst");
        let none = |name| (name, 0.0, "inst");
        let mut metrics = TRAFFIC.to_vec();
        metrics.extend([
            fused,
            none("smsp__sass_thread_inst_executed_op_fadd_pred_on.sum"),
            none("smsp__sass_thread_inst_executed_op_fmul_pred_on.sum"),
            ("sm__ops_path_tensor_src_bf16_dst_fp32.sum", 0.0, ""),
        ]);
        let found = placed(&metrics, &h100());
        assert_eq!((found.arithmetic.as_deref(), found.peak_flops_per_s), (Some("fp32"), Some(66.9e12)));
        assert_eq!(found.bound, Some(RooflineBound::Compute));
        assert!((found.attainable_flops_per_s.unwrap() - 66.9e12).abs() < 1.0);
        let given = Peaks { given_flops_per_s: Some(1e12), bytes_per_s: Some(1e9), ..Peaks::default() };
        assert_eq!(placed(&metrics, &given).peak_flops_per_s, Some(1e12));
    }

    #[test]
    fn what_is_not_known_is_not_drawn() {
        // Half precision outside the tensor cores has no peak in any data sheet of the table.
        let mut metrics = TRAFFIC.to_vec();
        for (kind, amount) in [("hadd", 0.0), ("hmul", 0.0), ("hfma", 1e9)] {
            let name = match kind {
                "hadd" => "smsp__sass_thread_inst_executed_op_hadd_pred_on.sum",
                "hmul" => "smsp__sass_thread_inst_executed_op_hmul_pred_on.sum",
                _ => "smsp__sass_thread_inst_executed_op_hfma_pred_on.sum",
            };
            metrics.push((name, amount, "inst"));
        }
        let found = placed(&metrics, &h100());
        assert_eq!((found.arithmetic.as_deref(), found.peak_flops_per_s, found.bound), (Some("fp16"), None, None));
        let nothing = placed(&[], &Peaks::default());
        assert_eq!((nothing.flops_per_dram_byte, nothing.share_of_attainable, nothing.bound), (None, None, None));
        let no_operations = placed(&TRAFFIC, &h100());
        assert!(no_operations.share_of_bandwidth.is_some() && no_operations.share_of_attainable.is_none());
    }
}
