//! Command lines of ncu: sections and metrics of each preset, cut down to what this ncu knows; and what its words mean.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;

use super::kernel_pattern;
use super::nsys::literal;
use crate::config::schema::stage2::{NcuPreset, NcuSettings};

/// What the tool says when the driver refuses the performance counters.
const NO_PERMISSION: &str = "ERR_NVGPUCTRPERM";
/// What it says when no launch matched.
const NOTHING: &str = "No kernels were profiled";
/// Begin of what it calls an error.
const ERROR: &str = "==ERROR==";
/// Begin of the counters of operations of the tensor cores, which every generation has others of.
const TENSOR: &str = "sm__ops_path_tensor_src_";

/// Metrics that the tables and the roofline are made of; a version that lacks one has another of them.
const METRICS: [&str; 22] = [
    "gpu__time_duration.sum",
    "sm__throughput.avg.pct_of_peak_sustained_elapsed",
    "gpu__compute_memory_throughput.avg.pct_of_peak_sustained_elapsed",
    "gpu__dram_throughput.avg.pct_of_peak_sustained_elapsed",
    "dram__throughput.avg.pct_of_peak_sustained_elapsed",
    "dram__bytes.sum",
    "dram__bytes_read.sum",
    "dram__bytes_write.sum",
    "dram__sectors_read.sum",
    "dram__sectors_write.sum",
    "l1tex__t_sector_hit_rate.pct",
    "lts__t_sector_hit_rate.pct",
    "sm__warps_active.avg.pct_of_peak_sustained_active",
    "smsp__sass_thread_inst_executed_op_hadd_pred_on.sum",
    "smsp__sass_thread_inst_executed_op_hmul_pred_on.sum",
    "smsp__sass_thread_inst_executed_op_hfma_pred_on.sum",
    "smsp__sass_thread_inst_executed_op_fadd_pred_on.sum",
    "smsp__sass_thread_inst_executed_op_fmul_pred_on.sum",
    "smsp__sass_thread_inst_executed_op_ffma_pred_on.sum",
    "smsp__sass_thread_inst_executed_op_dadd_pred_on.sum",
    "smsp__sass_thread_inst_executed_op_dmul_pred_on.sum",
    "smsp__sass_thread_inst_executed_op_dfma_pred_on.sum",
];

/// Sections of a preset.
pub(super) fn sections(preset: NcuPreset) -> &'static [&'static str] {
    match preset {
        NcuPreset::Default => &[
            "SpeedOfLight",
            "SpeedOfLight_RooflineChart",
            "MemoryWorkloadAnalysis",
            "Occupancy",
            "LaunchStats",
            "SchedulerStats",
        ],
        NcuPreset::High => &[
            "SpeedOfLight",
            "SpeedOfLight_RooflineChart",
            "SpeedOfLight_HierarchicalTensorRooflineChart",
            "ComputeWorkloadAnalysis",
            "MemoryWorkloadAnalysis",
            "MemoryWorkloadAnalysis_Tables",
            "Occupancy",
            "LaunchStats",
            "SchedulerStats",
            "WarpStateStats",
            "InstructionStats",
            "WorkloadDistribution",
        ],
        NcuPreset::Compute => &[
            "SpeedOfLight",
            "SpeedOfLight_HierarchicalTensorRooflineChart",
            "ComputeWorkloadAnalysis",
            "InstructionStats",
            "Occupancy",
            "LaunchStats",
            "SchedulerStats",
            "WarpStateStats",
        ],
        NcuPreset::Memory => &[
            "SpeedOfLight",
            "SpeedOfLight_RooflineChart",
            "MemoryWorkloadAnalysis",
            "MemoryWorkloadAnalysis_Chart",
            "MemoryWorkloadAnalysis_Tables",
            "Occupancy",
            "LaunchStats",
        ],
    }
}

/// What an installed ncu offers, in the words of its own lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Offer {
    /// Words of `--list-sections`; empty if it did not answer.
    sections: BTreeSet<String>,
    /// Names of `--query-metrics` without what follows their first dot; empty if it did not answer.
    metrics: BTreeSet<String>,
}

impl Offer {
    /// From what `ncu --list-sections` and `ncu --query-metrics` print, whatever their columns are.
    pub(super) fn read(sections: &str, metrics: &str) -> Self {
        let base = |word: &str| word.split('.').next().unwrap_or(word).to_owned();
        Self {
            sections: sections.split_whitespace().map(str::to_owned).collect(),
            metrics: metrics.split_whitespace().filter(|word| word.contains("__")).map(base).collect(),
        }
    }
}

/// What is collected of a kernel, and what of a preset was left out for want of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Collection {
    /// Section identifiers.
    pub sections: Vec<String>,
    /// Metric names.
    pub metrics: Vec<String>,
    /// Sections this ncu does not have.
    pub sections_left_out: Vec<String>,
    /// True if the ncu did not say which metrics it has, so that none is asked for by name: one unknown name fails a whole profile.
    pub metrics_unknown: bool,
}

/// The part of `preset` that the ncu offers.
pub(super) fn collection(preset: NcuPreset, offer: &Offer) -> Collection {
    let known = |section: &&&str| offer.sections.is_empty() || offer.sections.contains(**section);
    let (sections, left): (Vec<&&str>, Vec<&&str>) = sections(preset).iter().partition(|section| known(section));
    let mut metrics: Vec<String> = METRICS
        .iter()
        .filter(|metric| offer.metrics.contains(metric.split('.').next().unwrap_or(metric)))
        .map(|metric| (*metric).to_owned())
        .collect();
    // Of those with and without sparsity the sum is enough, where there is one.
    let tensor = offer.metrics.range(TENSOR.to_owned()..).take_while(|name| name.starts_with(TENSOR));
    let floating = |name: &&String| ["fp", "bf", "tf"].iter().any(|kind| name[TENSOR.len()..].starts_with(kind));
    let whole = |name: &&String| {
        let sum = name.strip_suffix("_sparsity_on").or_else(|| name.strip_suffix("_sparsity_off"));
        sum.is_none_or(|sum| !offer.metrics.contains(sum))
    };
    metrics.extend(tensor.filter(floating).filter(whole).map(|name| format!("{name}.sum")));
    let owned = |names: Vec<&&str>| names.into_iter().map(|name| (*name).to_owned()).collect();
    Collection {
        sections: owned(sections),
        metrics,
        sections_left_out: owned(left),
        metrics_unknown: offer.metrics.is_empty(),
    }
}

/// How the kernel is told from others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum KernelFilter {
    /// Any kernel.
    Any,
    /// By its demangled name.
    Demangled(String),
    /// By its mangled name.
    Mangled(String),
}

/// One profile of one kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// The kernel.
    pub filter: KernelFilter,
    /// Matching launches passed over.
    pub skip: u64,
    /// Matching launches profiled.
    pub count: u32,
    /// Range outside which nothing is profiled, as ncu writes it: `DOMAIN@RANGE/`.
    pub nvtx: Option<String>,
    /// False leaves everything before `cudaProfilerStart` alone.
    pub from_start: bool,
}

/// Arguments of `ncu` that run `workload` and write `report` (whose extension ncu adds) and the raw page to `csv`.
pub(super) fn profile(
    target: &Target,
    collection: &Collection,
    settings: &NcuSettings,
    report: &Path,
    csv: &Path,
    workload: &[OsString],
) -> Vec<OsString> {
    let mut arguments: Vec<OsString> =
        ["--target-processes", "all", "--replay-mode", "kernel"].map(OsString::from).into();
    let mut add = |words: &[&str]| arguments.extend(words.iter().map(OsString::from));
    match &target.filter {
        KernelFilter::Any => {}
        KernelFilter::Demangled(name) => {
            let pattern = format!("regex:{}", kernel_pattern::demangled(name));
            add(&["--kernel-name-base", "demangled", "--kernel-name", &pattern]);
        }
        KernelFilter::Mangled(name) => {
            let pattern = format!("regex:{}", kernel_pattern::mangled(name));
            add(&["--kernel-name-base", "mangled", "--kernel-name", &pattern]);
        }
    }
    add(&["--launch-skip", &target.skip.to_string(), "--launch-count", &target.count.to_string()]);
    if let Some(range) = &target.nvtx {
        add(&["--nvtx", "--nvtx-include", range]);
    }
    if !target.from_start {
        add(&["--profile-from-start", "off"]);
    }
    for section in &collection.sections {
        add(&["--section", section]);
    }
    if !collection.metrics.is_empty() {
        add(&["--metrics", &collection.metrics.join(",")]);
    }
    add(&["--csv", "--page", "raw", "--print-units", "base", "--log-file"]);
    arguments.push(literal(csv));
    arguments.extend(["--force-overwrite".into(), "--export".into(), literal(report)]);
    arguments.extend(settings.extra_args.iter().map(OsString::from));
    arguments.extend(workload.iter().cloned());
    arguments
}

/// Arguments of `ncu` that print a page of a report as CSV.
pub(super) fn import(report: &Path, page: &str) -> Vec<OsString> {
    let mut arguments = vec![OsString::from("--import"), report.into()];
    arguments.extend(["--csv", "--page", page, "--print-units", "base"].map(OsString::from));
    arguments
}

/// What became of a profile, by the tool's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    /// Nothing against it.
    Fine,
    /// No launch matched.
    NoKernels,
    /// The driver keeps the counters for root.
    NoPermission,
    /// An error, in one line.
    Error(String),
}

/// Reads what ncu said, wherever it said it.
pub(super) fn said<'a>(texts: impl IntoIterator<Item = &'a str>) -> Said {
    let mut found = Said::Fine;
    for line in texts.into_iter().flat_map(str::lines) {
        if line.contains(NO_PERMISSION) {
            return Said::NoPermission;
        }
        if line.contains(NOTHING) && found == Said::Fine {
            found = Said::NoKernels;
        } else if let Some(text) = line.trim_start().strip_prefix(ERROR)
            && !matches!(found, Said::Error(_))
        {
            found = Said::Error(text.trim().chars().take(300).collect());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema::stage2::GateChoice;

    /// As versions 2022 and later print their lists.
    const LIST: &str = "\
---------------------------------- ------------------------------------- ------- --------------------------------------------------
Identifier                         Display Name                          Enabled Filename
---------------------------------- ------------------------------------- ------- --------------------------------------------------
LaunchStats                        Launch Statistics                     yes     .../LaunchStatistics.section
MemoryWorkloadAnalysis             Memory Workload Analysis              no      .../MemoryWorkloadAnalysis.section
Occupancy                          Occupancy                             yes     .../Occupancy.section
SpeedOfLight                       GPU Speed Of Light Throughput         yes     .../SpeedOfLight.section
SpeedOfLight_RooflineChart         GPU Speed Of Light Roofline Chart     no      .../SpeedOfLight_RooflineChart.section
";
    const METRICS_LIST: &str = "\
Device NVIDIA H100 (GH100)
------------------------------------------------ ------------ --------- ------------------------------
Metric Name                                      Metric Type  Metric Unit Metric Description
------------------------------------------------ ------------ --------- ------------------------------
dram__bytes_read                                 Counter      byte      # of bytes read from DRAM
gpu__time_duration                               Counter      nanosecond incremental duration in nanoseconds
sm__ops_path_tensor_src_bf16_dst_fp32            Counter      # of math ops executed
sm__ops_path_tensor_src_bf16_dst_fp32_sparsity_on Counter     # of math ops executed
sm__ops_path_tensor_src_fp8_sparsity_off         Counter      # of math ops executed
sm__ops_path_tensor_src_int8                     Counter      # of math ops executed
sm__throughput                                   Throughput   %         SM throughput
";

    fn settings() -> NcuSettings {
        NcuSettings {
            enabled: true,
            path: None,
            top_n: 1,
            phases: None,
            preset: NcuPreset::Default,
            gate: GateChoice::Launches,
            launch_skip: 1,
            launch_count: 1,
            timeout_s: 1,
            extra_args: vec!["--clock-control".to_owned(), "none".to_owned()],
        }
    }

    #[test]
    fn only_what_this_ncu_offers_is_asked_for() {
        let found = collection(NcuPreset::Default, &Offer::read(LIST, METRICS_LIST));
        assert_eq!(found.sections_left_out, ["SchedulerStats"]);
        assert_eq!(
            found.sections,
            ["SpeedOfLight", "SpeedOfLight_RooflineChart", "MemoryWorkloadAnalysis", "Occupancy", "LaunchStats"]
        );
        assert_eq!(
            found.metrics,
            [
                "gpu__time_duration.sum",
                "sm__throughput.avg.pct_of_peak_sustained_elapsed",
                "dram__bytes_read.sum",
                "sm__ops_path_tensor_src_bf16_dst_fp32.sum",
                "sm__ops_path_tensor_src_fp8_sparsity_off.sum",
            ]
        );
        assert!(!found.metrics_unknown);
        let silent = collection(NcuPreset::Memory, &Offer::default());
        assert_eq!(silent.sections.len(), sections(NcuPreset::Memory).len());
        assert!(silent.metrics.is_empty() && silent.metrics_unknown, "one unknown name fails a whole profile");
    }

    #[test]
    fn a_profile_is_one_kernel_at_chosen_launches() {
        let target = Target {
            filter: KernelFilter::Demangled("void k<(int)8>(float *)".to_owned()),
            skip: 33,
            count: 2,
            nvtx: Some("perfprof@decode/".to_owned()),
            from_start: true,
        };
        let collection = Collection {
            sections: vec!["SpeedOfLight".to_owned(), "Occupancy".to_owned()],
            metrics: vec!["a.sum".to_owned(), "b.sum".to_owned()],
            ..Collection::default()
        };
        let workload = ["/bin/engine", "--x=a b"].map(OsString::from);
        let line = profile(&target, &collection, &settings(), Path::new("n/01"), Path::new("n/01.csv"), &workload);
        let line: Vec<&str> = line.iter().map(|word| word.to_str().unwrap()).collect();
        assert_eq!(
            line,
            [
                "--target-processes",
                "all",
                "--replay-mode",
                "kernel",
                "--kernel-name-base",
                "demangled",
                "--kernel-name",
                r"regex:^void +k<(\([^()]*\))?8 *>\(float *\*\)$",
                "--launch-skip",
                "33",
                "--launch-count",
                "2",
                "--nvtx",
                "--nvtx-include",
                "perfprof@decode/",
                "--section",
                "SpeedOfLight",
                "--section",
                "Occupancy",
                "--metrics",
                "a.sum,b.sum",
                "--csv",
                "--page",
                "raw",
                "--print-units",
                "base",
                "--log-file",
                "n/01.csv",
                "--force-overwrite",
                "--export",
                "n/01",
                "--clock-control",
                "none",
                "/bin/engine",
                "--x=a b"
            ]
        );
        let any = Target { filter: KernelFilter::Any, skip: 0, count: 3, nvtx: None, from_start: false };
        let line = profile(&any, &Collection::default(), &settings(), Path::new("r"), Path::new("c"), &[]);
        assert!(!line.iter().any(|word| word.to_str().unwrap().starts_with("--kernel")), "{line:?}");
        assert!(line.windows(2).any(|pair| pair == ["--profile-from-start", "off"]), "{line:?}");
    }

    #[test]
    fn the_words_of_the_tool_are_told_apart() {
        assert_eq!(said(["==PROF== Connected to process 1 (/bin/x)\n", "\"ID\",\"Kernel Name\""]), Said::Fine);
        assert_eq!(said(["==WARNING== No kernels were profiled.\nAvailable Kernels:\n1. k"]), Said::NoKernels);
        assert_eq!(
            said([
                "==PROF== Connected",
                "==ERROR== ERR_NVGPUCTRPERM - The user does not have permission to access NVIDIA GPU Performance Counters"
            ]),
            Said::NoPermission
        );
        assert_eq!(
            said(["==ERROR== Failed to find metric regex:^x$\n==WARNING== No kernels were profiled."]),
            Said::Error("Failed to find metric regex:^x$".to_owned())
        );
    }
}
