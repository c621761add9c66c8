//! The reports of `nsys stats` and the two utilisation rules of `nsys analyze`, as comma-separated text.
//!
//! Every function here follows NVIDIA's definitions to the letter, so that the text is the same, byte for byte, as what
//! `nsys stats -r REPORT -f csv` of nsys 2025.6.3 prints for the same trace: columns, order of the rows, rounding, quoting, and no text at
//! all where a report has no rows. That includes choices perfprof does not share elsewhere: a call recorded twice for its backtrace counts
//! twice, a kernel counts in every range around its launch, sums of overlapping work are not unions, and graphs recorded as a whole are
//! not counted at all.
//!
//! Where nsys refuses a file because a table of labels is missing (`ENUM_CUDA_MEMCPY_OPER`), the labels of nsys are used instead.

mod calls;
mod csv;
mod cuda;
mod enclosing;
mod idle;
mod kernels;
mod nvtx;
mod nvtx_kernels;
mod projection;
mod summary;

use std::fmt;
use std::str::FromStr;

use crate::trace::timeline::Timeline;

/// How a report names kernels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum KernelNaming {
    /// With template arguments and parameters; the default.
    #[default]
    Demangled,
    /// The base name (`:base`).
    Base,
    /// The mangled name (`:mangled`); the demangled one where the trace has none.
    Mangled,
}

/// Which kernels a report tells apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct KernelOptions {
    /// Which of their names.
    pub naming: KernelNaming,
    /// Prefix the name with that of the innermost NVTX range around the launch (`:nvtx-name`).
    pub nvtx_name: bool,
}

/// Which rows a rule looks at and how many it shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RuleOptions {
    /// Rows at most (`rows=`); `None` (`rows=-1`) for all.
    pub rows: Option<usize>,
    /// Only what touches the time from here on, ns (`start=`).
    pub start_ns: Option<i64>,
    /// Only what touches the time before this, ns (`end=`).
    pub end_ns: Option<i64>,
}

impl Default for RuleOptions {
    fn default() -> Self {
        Self { rows: Some(50), start_ns: None, end_ns: None }
    }
}

/// A report of `nsys stats`, or a rule of `nsys analyze`, with its arguments.
///
/// ```
/// use perfprof::analysis::nsys_reports::NsysReport;
/// let report: NsysReport = "cuda_gpu_kern_sum:base".parse().unwrap();
/// assert_eq!(report.to_string(), "cuda_gpu_kern_sum:base");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NsysReport {
    /// Calls of the CUDA runtime and driver by function.
    CudaApiSum,
    /// Calls, kernels and memory operations in one table.
    CudaApiGpuSum(KernelOptions),
    /// Kernels and memory operations in one table.
    CudaGpuSum(KernelOptions),
    /// Kernels by name.
    CudaGpuKernSum(KernelOptions),
    /// Kernels by name, grid and block.
    CudaGpuKernGbSum(KernelOptions),
    /// Copies and memory sets by kind, in time.
    CudaGpuMemTimeSum,
    /// Copies and memory sets by kind, in bytes.
    CudaGpuMemSizeSum,
    /// Launch call, wait and execution of kernels by thread, device, function and name.
    CudaKernExecSum(KernelOptions),
    /// NVTX ranges by name and style.
    NvtxSum,
    /// NVTX push/pop ranges by name.
    NvtxPushPopSum,
    /// NVTX start/end ranges by name.
    NvtxStartEndSum,
    /// Kernels by the NVTX ranges around their launch.
    NvtxKernSum(KernelNaming),
    /// NVTX ranges projected onto the GPU, by name and style.
    NvtxGpuProjSum,
    /// Calls of the operating-system runtime library by function.
    OsrtSum,
    /// Times in which a device of a process had nothing to do.
    GpuGaps {
        /// Shorter gaps are left out, ms (`gap=`).
        gap_ms: i64,
        /// Rows and time filter.
        options: RuleOptions,
    },
    /// Stretches in which a device of a process was little used.
    GpuTimeUtil {
        /// Stretches from this percentage on are left out (`threshold=`).
        threshold_percent: i64,
        /// Into how many equal parts the time of a device is cut (`chunks=`), 1 to 1000.
        chunks: u32,
        /// Rows and time filter.
        options: RuleOptions,
    },
}

/// Every report: name, arguments, what it shows; for the help.
pub const REPORTS: [(&str, &str, &str); 16] = [
    ("cuda_api_sum", "", "CUDA API calls by function"),
    ("cuda_api_gpu_sum", "[:nvtx-name][:base|:mangled]", "CUDA API calls, kernels and memory operations"),
    ("cuda_gpu_sum", "[:nvtx-name][:base|:mangled]", "kernels and memory operations"),
    ("cuda_gpu_kern_sum", "[:nvtx-name][:base|:mangled]", "kernels by name"),
    ("cuda_gpu_kern_gb_sum", "[:nvtx-name][:base|:mangled]", "kernels by name, grid and block"),
    ("cuda_gpu_mem_time_sum", "", "memory operations by time"),
    ("cuda_gpu_mem_size_sum", "", "memory operations by size"),
    ("cuda_kern_exec_sum", "[:nvtx-name][:base|:mangled]", "launch call, wait and execution of kernels"),
    ("nvtx_sum", "", "NVTX ranges by name and style"),
    ("nvtx_pushpop_sum", "", "NVTX push/pop ranges by name"),
    ("nvtx_startend_sum", "", "NVTX start/end ranges by name"),
    ("nvtx_kern_sum", "[:base|:mangled]", "kernels by the NVTX ranges around their launch"),
    ("nvtx_gpu_proj_sum", "", "NVTX ranges projected onto the GPU"),
    ("osrt_sum", "", "operating-system calls by function"),
    ("gpu_gaps", "[:gap=MS][:rows=N][:start=NS][:end=NS]", "times without work on a GPU"),
    (
        "gpu_time_util",
        "[:threshold=PERCENT][:chunks=N][:rows=N][:start=NS][:end=NS]",
        "stretches in which a GPU was little used",
    ),
];

/// Why a report was not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseReportError {
    /// No report of this name.
    #[error("there is no report `{name}`")]
    Unknown {
        /// The name given.
        name: String,
    },
    /// The report does not take this argument, or not this value.
    #[error("report `{report}` does not take the argument `{argument}`")]
    Argument {
        /// The report.
        report: String,
        /// The argument given.
        argument: String,
    },
}

impl NsysReport {
    /// Whether it is made from kernels, copies and memory sets alone: no call and no range is looked at.
    pub fn is_of_device_work(self) -> bool {
        match self {
            Self::CudaGpuSum(options) | Self::CudaGpuKernSum(options) | Self::CudaGpuKernGbSum(options) => {
                !options.nvtx_name
            }
            Self::CudaGpuMemTimeSum | Self::CudaGpuMemSizeSum => true,
            _ => false,
        }
    }
    /// Name without arguments.
    pub fn name(self) -> &'static str {
        match self {
            Self::CudaApiSum => "cuda_api_sum",
            Self::CudaApiGpuSum(_) => "cuda_api_gpu_sum",
            Self::CudaGpuSum(_) => "cuda_gpu_sum",
            Self::CudaGpuKernSum(_) => "cuda_gpu_kern_sum",
            Self::CudaGpuKernGbSum(_) => "cuda_gpu_kern_gb_sum",
            Self::CudaGpuMemTimeSum => "cuda_gpu_mem_time_sum",
            Self::CudaGpuMemSizeSum => "cuda_gpu_mem_size_sum",
            Self::CudaKernExecSum(_) => "cuda_kern_exec_sum",
            Self::NvtxSum => "nvtx_sum",
            Self::NvtxPushPopSum => "nvtx_pushpop_sum",
            Self::NvtxStartEndSum => "nvtx_startend_sum",
            Self::NvtxKernSum(_) => "nvtx_kern_sum",
            Self::NvtxGpuProjSum => "nvtx_gpu_proj_sum",
            Self::OsrtSum => "osrt_sum",
            Self::GpuGaps { .. } => "gpu_gaps",
            Self::GpuTimeUtil { .. } => "gpu_time_util",
        }
    }

    /// The report of this name with the arguments nsys takes by default.
    fn with_defaults(name: &str) -> Option<Self> {
        let kernels = KernelOptions::default();
        let options = RuleOptions::default();
        Some(match name {
            "cuda_api_sum" => Self::CudaApiSum,
            "cuda_api_gpu_sum" => Self::CudaApiGpuSum(kernels),
            "cuda_gpu_sum" => Self::CudaGpuSum(kernels),
            "cuda_gpu_kern_sum" => Self::CudaGpuKernSum(kernels),
            "cuda_gpu_kern_gb_sum" => Self::CudaGpuKernGbSum(kernels),
            "cuda_gpu_mem_time_sum" => Self::CudaGpuMemTimeSum,
            "cuda_gpu_mem_size_sum" => Self::CudaGpuMemSizeSum,
            "cuda_kern_exec_sum" => Self::CudaKernExecSum(kernels),
            "nvtx_sum" => Self::NvtxSum,
            "nvtx_pushpop_sum" => Self::NvtxPushPopSum,
            "nvtx_startend_sum" => Self::NvtxStartEndSum,
            "nvtx_kern_sum" => Self::NvtxKernSum(KernelNaming::default()),
            "nvtx_gpu_proj_sum" => Self::NvtxGpuProjSum,
            "osrt_sum" => Self::OsrtSum,
            "gpu_gaps" => Self::GpuGaps { gap_ms: 500, options },
            "gpu_time_util" => Self::GpuTimeUtil { threshold_percent: 50, chunks: 30, options },
            _ => return None,
        })
    }

    /// Takes one argument; false if the report has none of this name or the value does not fit.
    fn take(&mut self, argument: &str) -> bool {
        match self {
            Self::CudaApiGpuSum(kernels)
            | Self::CudaGpuSum(kernels)
            | Self::CudaGpuKernSum(kernels)
            | Self::CudaGpuKernGbSum(kernels)
            | Self::CudaKernExecSum(kernels) => match argument {
                "nvtx-name" => {
                    kernels.nvtx_name = true;
                    true
                }
                _ => kernels.naming.take(argument),
            },
            Self::NvtxKernSum(naming) => naming.take(argument),
            Self::GpuGaps { gap_ms, options } => match argument.split_once('=') {
                Some(("gap", value)) => value.parse().map(|value| *gap_ms = value).is_ok(),
                Some((key, value)) => options.take(key, value),
                None => false,
            },
            Self::GpuTimeUtil { threshold_percent, chunks, options } => match argument.split_once('=') {
                Some(("threshold", value)) => value.parse().map(|value| *threshold_percent = value).is_ok(),
                Some(("chunks", value)) => match value.parse() {
                    Ok(value @ 1..=1000) => {
                        *chunks = value;
                        true
                    }
                    _ => false,
                },
                Some((key, value)) => options.take(key, value),
                None => false,
            },
            _ => false,
        }
    }
}

impl KernelNaming {
    /// The base name goes before the mangled one, as in nsys.
    fn take(&mut self, argument: &str) -> bool {
        match argument {
            "base" => *self = Self::Base,
            "mangled" if *self == Self::Base => {}
            "mangled" => *self = Self::Mangled,
            _ => return false,
        }
        true
    }
    fn argument(self) -> &'static str {
        match self {
            Self::Demangled => "",
            Self::Base => ":base",
            Self::Mangled => ":mangled",
        }
    }
}

impl RuleOptions {
    fn take(&mut self, key: &str, value: &str) -> bool {
        let Ok(value) = value.parse::<i64>() else { return false };
        match key {
            // SQLite takes any negative limit for "no limit".
            "rows" => self.rows = usize::try_from(value).ok(),
            "start" => self.start_ns = Some(value),
            "end" => self.end_ns = Some(value),
            _ => return false,
        }
        true
    }
    fn arguments(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.rows != Self::default().rows {
            write!(f, ":rows={}", self.rows.map_or(-1, |rows| rows as i64))?;
        }
        if let Some(start) = self.start_ns {
            write!(f, ":start={start}")?;
        }
        self.end_ns.map_or(Ok(()), |end| write!(f, ":end={end}"))
    }
}

impl FromStr for NsysReport {
    type Err = ParseReportError;

    /// As nsys takes it: `cuda_gpu_kern_sum:base`, `gpu_gaps:gap=1:rows=-1`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split(':');
        let name = parts.next().unwrap_or_default();
        let mut report =
            Self::with_defaults(name).ok_or_else(|| ParseReportError::Unknown { name: name.to_owned() })?;
        for argument in parts {
            if !report.take(argument) {
                return Err(ParseReportError::Argument { report: name.to_owned(), argument: argument.to_owned() });
            }
        }
        Ok(report)
    }
}

impl fmt::Display for NsysReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Self::CudaApiGpuSum(kernels)
            | Self::CudaGpuSum(kernels)
            | Self::CudaGpuKernSum(kernels)
            | Self::CudaGpuKernGbSum(kernels)
            | Self::CudaKernExecSum(kernels) => {
                f.write_str(if kernels.nvtx_name { ":nvtx-name" } else { "" })?;
                f.write_str(kernels.naming.argument())
            }
            Self::NvtxKernSum(naming) => f.write_str(naming.argument()),
            Self::GpuGaps { gap_ms, options } => {
                if *gap_ms != 500 {
                    write!(f, ":gap={gap_ms}")?;
                }
                options.arguments(f)
            }
            Self::GpuTimeUtil { threshold_percent, chunks, options } => {
                if *threshold_percent != 50 {
                    write!(f, ":threshold={threshold_percent}")?;
                }
                if *chunks != 30 {
                    write!(f, ":chunks={chunks}")?;
                }
                options.arguments(f)
            }
            _ => Ok(()),
        }
    }
}

/// The report as nsys prints it with `-f csv`: lines end in `\n`, the first is the header; empty if there are no rows.
///
/// `timeline` must be finished ([`Timeline::finish`]).
pub fn render(report: NsysReport, timeline: &Timeline) -> String {
    match report {
        NsysReport::CudaApiSum => cuda::api_sum(timeline),
        NsysReport::CudaApiGpuSum(kernels) => cuda::gpu_sum(timeline, kernels, true),
        NsysReport::CudaGpuSum(kernels) => cuda::gpu_sum(timeline, kernels, false),
        NsysReport::CudaGpuKernSum(kernels) => cuda::kern_sum(timeline, kernels),
        NsysReport::CudaGpuKernGbSum(kernels) => cuda::kern_gb_sum(timeline, kernels),
        NsysReport::CudaGpuMemTimeSum => cuda::mem_time_sum(timeline),
        NsysReport::CudaGpuMemSizeSum => cuda::mem_size_sum(timeline),
        NsysReport::CudaKernExecSum(kernels) => calls::kern_exec_sum(timeline, kernels),
        NsysReport::NvtxSum => nvtx::sum(timeline),
        NsysReport::NvtxPushPopSum => nvtx::style_sum(timeline, nvtx::Style::PushPop),
        NsysReport::NvtxStartEndSum => nvtx::style_sum(timeline, nvtx::Style::StartEnd),
        NsysReport::NvtxKernSum(naming) => nvtx_kernels::kern_sum(timeline, naming),
        NsysReport::NvtxGpuProjSum => projection::proj_sum(timeline),
        NsysReport::OsrtSum => cuda::osrt_sum(timeline),
        NsysReport::GpuGaps { gap_ms, options } => idle::gaps(timeline, gap_ms, options),
        NsysReport::GpuTimeUtil { threshold_percent, chunks, options } => {
            idle::time_util(timeline, threshold_percent, chunks, options)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{NsysReport, REPORTS};

    #[test]
    fn every_listed_report_is_understood_and_written_back_the_same() {
        for (name, _, _) in REPORTS {
            assert_eq!(name.parse::<NsysReport>().unwrap().to_string(), name);
        }
        for text in [
            "cuda_gpu_kern_sum:nvtx-name:base",
            "nvtx_kern_sum:mangled",
            "gpu_gaps:gap=1:rows=-1:start=5:end=9",
            "gpu_time_util:threshold=80:chunks=10:rows=3",
        ] {
            assert_eq!(text.parse::<NsysReport>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_nsys_does_not_take_is_refused_with_its_name() {
        let message = |text: &str| text.parse::<NsysReport>().unwrap_err().to_string();
        assert_eq!(message("cuda_gpu_kern"), "there is no report `cuda_gpu_kern`");
        assert_eq!(message("osrt_sum:base"), "report `osrt_sum` does not take the argument `base`");
        assert_eq!(message("gpu_gaps:gap=1ms"), "report `gpu_gaps` does not take the argument `gap=1ms`");
        assert!("gpu_time_util:chunks=0".parse::<NsysReport>().is_err());
        assert!("gpu_time_util:chunks=1001".parse::<NsysReport>().is_err());
    }
}
