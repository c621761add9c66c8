//! Reads the CSV files of NVIDIA Nsight Compute (`ncu --csv`): details, single sections, requested metrics, and the wide raw page.
//!
//! Values are converted to base units (bytes, ns, Hz, bytes/s; percent stays percent). What cannot be read with certainty has no value and is
//! counted in a diagnostic.

mod csv;
mod number;
mod reader;
mod unit;

use std::sync::Arc;

pub use reader::read;

use crate::diagnostics::Diagnostic;

/// An Nsight Compute file that was read, and what is to be known about it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NcuImport {
    /// The kernels; empty if none was profiled, which a diagnostic `ncu_no_kernels` then says.
    pub report: NcuReport,
    /// Messages of the tool, values and rows left out: code, severity, count, first example.
    pub diagnostics: Vec<Diagnostic>,
}

/// Profiled kernels.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NcuReport {
    /// File name without its directory.
    pub file: String,
    /// One for each profiled launch, in file order.
    pub kernels: Vec<NcuKernel>,
}

/// One profiled launch of a kernel.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NcuKernel {
    /// Launch index of the tool (`ID`); counts profiled launches, not all of them.
    pub launch_id: u64,
    /// Process id.
    pub process: Option<u32>,
    /// Name of the process; empty if the file has none.
    pub process_name: Arc<str>,
    /// Kernel name as the tool was told to print it: demangled unless `--kernel-name-base` says else.
    pub name: Arc<str>,
    /// Context id.
    pub context: Option<u32>,
    /// Stream id.
    pub stream: Option<u64>,
    /// Device ordinal.
    pub device: Option<u32>,
    /// Compute capability.
    pub compute_capability: Option<(u32, u32)>,
    /// Grid in blocks.
    pub grid: Option<[u32; 3]>,
    /// Block in threads.
    pub block: Option<[u32; 3]>,
    /// Metrics, in file order. One name may stand in two sections with two meanings (`Memory Throughput` is a percentage in one and a
    /// bandwidth in the other): ask with [`NcuKernel::metric`] and a unit.
    pub metrics: Vec<NcuMetric>,
    /// What the tool's rules found.
    pub rules: Vec<NcuRule>,
}

/// A metric of a launch.
#[derive(Debug, Clone, PartialEq)]
pub struct NcuMetric {
    /// Section, e.g. `GPU Speed Of Light Throughput`; empty in the wide form.
    pub section: Arc<str>,
    /// Metric (`gpu__time_duration.sum`) or its label (`Duration`).
    pub name: Arc<str>,
    /// The value.
    pub value: NcuValue,
}

/// Value of a metric in its base unit.
#[derive(Debug, Clone, PartialEq)]
pub struct NcuValue {
    /// Number in `unit`; `None` if the tool has none (`n/a`), if it is a text, or if it cannot be read with certainty.
    pub value: Option<f64>,
    /// Base unit: `byte`, `ns`, `hz`, `byte/s`, `%`, `inst/cycle`, … or the unit of the file where it is not known; empty for a plain count.
    pub unit: Arc<str>,
    /// The text, where it is not a number (`PolicySpread`).
    pub text: Option<Arc<str>>,
}

/// What a rule of the tool found for a launch.
#[derive(Debug, Clone, PartialEq)]
pub struct NcuRule {
    /// Identifier of the section, e.g. `SpeedOfLight`.
    pub section: Arc<str>,
    /// Rule, e.g. `SOLBottleneck`.
    pub name: Arc<str>,
    /// `OPT` (optimisation), `WRN`, `INF`, …
    pub kind: Arc<str>,
    /// What it says.
    pub description: Arc<str>,
    /// `global` (of the kernel's duration) or `local` (of the one problem); `None` if the rule estimates nothing.
    pub speedup_kind: Option<Arc<str>>,
    /// Estimated speed-up in percent.
    pub speedup_percent: Option<f64>,
}

impl NcuKernel {
    /// Value of the first metric called `name` whose unit is `unit` and that has a number.
    pub fn metric(&self, name: &str, unit: &str) -> Option<f64> {
        self.metrics
            .iter()
            .find(|metric| &*metric.name == name && &*metric.value.unit == unit && metric.value.value.is_some())
            .and_then(|metric| metric.value.value)
    }
    /// The metric called `name` in `section`.
    pub fn metric_in(&self, section: &str, name: &str) -> Option<&NcuValue> {
        self.metrics
            .iter()
            .find(|metric| &*metric.section == section && &*metric.name == name)
            .map(|metric| &metric.value)
    }
}
