//! Stand-ins for nsys and ncu: shell scripts that take the options of the real tools, run the workload, and answer in their words.
//!
//! nsys hands out a file written by this project's own writer. ncu matches kernel names by the expression it is given, as extended regular
//! expressions, against names as it prints them, which is not how nsys does.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use perfprof::trace::activity::KernelName;
use perfprof::trace::builder::TimelineBuilder;
use perfprof::trace::host::RangeKind;
use perfprof::trace::nsys::writer;
use perfprof::trace::timeline::Timeline;

use crate::sandbox::{Sandbox, TINY};

/// What nsys calls the product that both phases have, and its mangled name.
pub(crate) const MMQ: &str = "void mul_mat_q<(ggml_type)8, (int)128, (bool)0>(const char *, float *)";
pub(crate) const MMQ_MANGLED: &str = "_Z9mul_mat_qIL9ggml_type8ELi128ELb0EEvPKcPf";
pub(crate) const FLASH: &str = "void flash_fwd<(int)128>(Params)";

/// Kernels as ncu prints them: name, mangled name, launches of the whole run, duration in ns, SM %, memory %, DRAM read and written in bytes,
/// fused multiply-adds, operations of the tensor cores.
const KERNELS: &str = "\
void mul_mat_q<8, 128, 0>(const char *, float *)\t_Z9mul_mat_qIL9ggml_type8ELi128ELb0EEvPKcPf\t14\t80000\t85.5\t40.0\t20000000\t4000000\t0\t9600000000
void flash_fwd<128>(Params)\t_Z9flash_fwdILi128EEv6Params\t2\t50000\t30.0\t35.0\t1000000\t1000000\t1000000\t0
gemv_f16\tgemv_f16\t6\t30000\t20.0\t91.0\t60000000\t1000000\t61000000\t0
rms_norm_f32\trms_norm_f32\t8\t2000\t5.0\t8.0\t100000\t100000\t100000\t0
";

const NSYS: &str = r#"#!/bin/sh
# The options of `nsys profile` that have a value carry it behind `=`.
here=@HERE@
echo "nsys $*" >> "$here/calls"
case "$1" in
--version) echo 'NVIDIA Nsight Systems version 2025.5.2.266-255236693005v0'; exit 0 ;;
profile)
    shift; out=; range=
    while [ $# -gt 0 ]; do
        case "$1" in
        --output=*) out=${1#--output=} ;;
        --nvtx-capture=*) range=${1#--nvtx-capture=} ;;
        --*) ;;
        *) break ;;
        esac
        shift
    done
    @BEFORE@
    "$@"
    code=$?
    @AFTER@
    echo "Generating '/tmp/nsys-report-1a2b.qdstrm'"
    { echo "report of $range"; env; } > "$out.nsys-rep"
    printf 'Generated:\n\t%s.nsys-rep\n' "$out"
    exit $code ;;
export)
    shift; out=; report=
    while [ $# -gt 0 ]; do
        case "$1" in
        --output) shift; out=$1 ;;
        --type) shift ;;
        --*) ;;
        *) report=$1 ;;
        esac
        shift
    done
    [ -s "$report" ] || { echo "Failed to open $report"; exit 1; }
    @EXPORT@
    cp "$here/trace.sqlite" "$out"; exit 0 ;;
esac
echo "unrecognised command '$1'"; exit 1
"#;

const NCU: &str = r#"#!/bin/sh
here=@HERE@
echo "ncu $*" >> "$here/calls"
filter=; base=; skip=0; count=1000; log=; report=; metrics=; page=; import=; sections=
while [ $# -gt 0 ]; do
    case "$1" in
    --version)
        printf 'NVIDIA (R) Nsight Compute Command Line Profiler\nCopyright (c) 2018-2025 NVIDIA Corporation\nVersion 2025.3.1.0 (build 36398880) (public-release)\n'
        exit 0 ;;
    --list-sections)
        printf -- '----------------- ------------------------- ------- ----------\nIdentifier        Display Name              Enabled Filename\n'
        for name in SpeedOfLight SpeedOfLight_RooflineChart MemoryWorkloadAnalysis Occupancy LaunchStats; do
            echo "$name                Some Name                 yes     .../$name.section"
        done
        exit 0 ;;
    --query-metrics)
        echo 'Device NVIDIA H100 80GB HBM3 (GH100)'
        for name in gpu__time_duration sm__throughput gpu__compute_memory_throughput dram__bytes_read dram__bytes_write \
            smsp__sass_thread_inst_executed_op_fadd_pred_on smsp__sass_thread_inst_executed_op_fmul_pred_on \
            smsp__sass_thread_inst_executed_op_ffma_pred_on sm__ops_path_tensor_src_fp16_dst_fp32; do
            echo "$name            Counter   unit   # of something"
        done
        exit 0 ;;
    --kernel-name) shift; filter=${1#regex:} ;;
    --kernel-name-base) shift; base=$1 ;;
    --launch-skip) shift; skip=$1 ;;
    --launch-count) shift; count=$1 ;;
    --log-file) shift; log=$1 ;;
    --export) shift; report=$1 ;;
    --metrics) shift; metrics=$1 ;;
    --section) shift; sections="$sections $1" ;;
    --page) shift; page=$1 ;;
    --import) shift; import=$1 ;;
    --target-processes|--replay-mode|--print-units|--nvtx-include|--profile-from-start|--clock-control) shift ;;
    --*) ;;
    *) break ;;
    esac
    shift
done
head='"ID","Process ID","Process Name","Host Name","Kernel Name","Context","Stream","Block Size","Grid Size","Device","CC"'
if [ -n "$import" ]; then
    # The page with the tool's advice.
    name=$(cat "$import")
    echo "==PROF== Disconnected from process 1"
    echo "$head"',"Section Name","Metric Name","Metric Unit","Metric Value","Rule Name","Rule Type","Rule Description","Estimated Speedup Type","Estimated Speedup"'
    echo "\"0\",\"77\",\"engine\",\"127.0.0.1\",\"$name\",\"1\",\"7\",\"(128, 1, 1)\",\"(64, 1, 1)\",\"0\",\"9.0\",\"GPU Speed Of Light Throughput\",\"Duration\",\"ns\",\"1\","
    echo "\"0\",\"77\",\"engine\",\"127.0.0.1\",\"$name\",\"1\",\"7\",\"(128, 1, 1)\",\"(64, 1, 1)\",\"0\",\"9.0\",\"SpeedOfLight\",\"\",\"\",\"\",\"SOLBottleneck\",\"OPT\",\"Use it <b>less</b>\",\"global\",\"12.5\""
    exit 0
fi
[ -n "$log" ] && exec 3> "$log" || exec 3>&1
echo "==PROF== Connected to process 77 ($1)" >&3
@BEFORE@
for metric in $(echo "$metrics" | tr , ' '); do
    case "$metric" in
    gpu__time_duration.sum|sm__throughput.*|gpu__compute_memory_throughput.*|dram__bytes_read.sum|dram__bytes_write.sum) ;;
    smsp__sass_thread_inst_executed_op_f*|sm__ops_path_tensor_src_fp16_dst_fp32.sum) ;;
    *) echo "==ERROR== Failed to find metric regex:^$metric" >&3; exit 1 ;;
    esac
done
for section in $sections; do
    case "$section" in SchedulerStats) echo "==ERROR== Failed to find section $section" >&3; exit 1 ;; esac
done
"$@" > /dev/null || exit $?
tab=$(printf '\t')
rows=; id=0
while IFS="$tab" read -r name mangled launches ns sm mem read write fma tensor; do
    by=$name; [ "$base" = mangled ] && by=$mangled
    if [ -z "$filter" ] || printf '%s\n' "$by" | grep -Eq -- "$filter"; then
        # Skipped and counted are matching launches, whatever their kernel.
        left=$((launches - skip)); skip=$((skip - launches)); [ $skip -lt 0 ] && skip=0
        while [ $left -gt 0 ] && [ $id -lt $count ]; do
            rows="$rows
\"$id\",\"77\",\"engine\",\"127.0.0.1\",\"$name\",\"1\",\"7\",\"(128, 1, 1)\",\"(64, 1, 1)\",\"0\",\"9.0\",\"$read\",\"$write\",\"$ns\",\"$mem\",\"$sm\",\"0\",\"$fma\",\"0\",\"$tensor\""
            last=$name; left=$((left - 1)); id=$((id + 1))
        done
    fi
done < "$here/kernels"
echo "==PROF== Disconnected from process 77" >&3
if [ -z "$rows" ]; then
    echo "==WARNING== No kernels were profiled." >&3
    printf 'Available Kernels:\n1. mul_mat_q\n' >&3
    exit 0
fi
[ -n "$report" ] && printf '%s' "$last" > "$report.ncu-rep"
echo "$head"',"dram__bytes_read.sum","dram__bytes_write.sum","gpu__time_duration.sum","gpu__compute_memory_throughput.avg.pct_of_peak_sustained_elapsed","sm__throughput.avg.pct_of_peak_sustained_elapsed","smsp__sass_thread_inst_executed_op_fadd_pred_on.sum","smsp__sass_thread_inst_executed_op_ffma_pred_on.sum","smsp__sass_thread_inst_executed_op_fmul_pred_on.sum","sm__ops_path_tensor_src_fp16_dst_fp32.sum"' >&3
echo '"","","","","","","","","","","","byte","byte","ns","%","%","inst","inst","inst",""'"$rows" >&3
"#;

/// Two generations of a prefill and three decode steps; `mul_mat_q` runs in both phases.
pub(crate) fn timeline() -> Timeline {
    let mut b = TimelineBuilder::new();
    let process = b.process(77);
    let thread = b.thread(process, 77);
    let device = b.device(0);
    b.timeline().devices[0].name = Some("NVIDIA H100 80GB HBM3".to_owned());
    b.timeline().devices[0].memory_bytes = Some(85_520_809_984);
    let stream = b.stream(process, device, 7);
    let (mut now, mut id) = (1_000_000_i64, 1_u32);
    for _ in 0..2 {
        for step in 0..4 {
            let (phase, kernels): (&str, &[(&str, i64)]) = if step == 0 {
                ("prefill", &[(MMQ, 90_000), (FLASH, 50_000), ("rms_norm_f32", 2_000)])
            } else {
                ("decode", &[("gemv_f16", 30_000), (MMQ, 5_000), (MMQ, 5_000), ("rms_norm_f32", 2_000)])
            };
            let begin = now;
            for (name, length) in kernels {
                b.call(thread, "cuLaunchKernel", now, now + 1_000, id);
                b.kernel(stream, name, now + 1_500, now + 1_500 + length, id);
                now += length + 2_000;
                id += 1;
            }
            b.range_of(RangeKind::PushPop, thread, "perfprof", phase, begin, Some(now));
            now += 3_000;
        }
    }
    let mangled = b.timeline().strings.intern(MMQ_MANGLED);
    let timeline = b.timeline();
    let names: Vec<String> =
        timeline.kernel_names.iter().map(|name| timeline.strings.get(name.demangled).to_owned()).collect();
    for (row, name) in names.iter().enumerate() {
        if name == MMQ {
            timeline.kernel_names[row] = KernelName { mangled: Some(mangled), ..timeline.kernel_names[row] };
        }
    }
    b.finish()
}

/// What the scripts do beside what the real tools do.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tricks<'a> {
    /// nsys, before it runs the workload.
    pub nsys_before: &'a str,
    /// nsys, before it writes its report.
    pub nsys_after: &'a str,
    /// nsys, before it exports.
    pub nsys_export: &'a str,
    /// ncu, before it runs the workload.
    pub ncu_before: &'a str,
}

/// A folder of tools that stands before all others on PATH.
pub(crate) struct FakeTools {
    folder: PathBuf,
}

impl FakeTools {
    /// Both tools.
    pub(crate) fn new(sandbox: &Sandbox, tricks: Tricks<'_>) -> Self {
        let folder = sandbox.path().join("tools");
        std::fs::create_dir_all(&folder).unwrap();
        let tools = Self { folder };
        tools.trace(&timeline());
        std::fs::write(tools.folder.join("kernels"), KERNELS).unwrap();
        let here = tools.folder.display().to_string();
        let nsys = NSYS
            .replace("@HERE@", &here)
            .replace("@BEFORE@", tricks.nsys_before)
            .replace("@AFTER@", tricks.nsys_after)
            .replace("@EXPORT@", tricks.nsys_export);
        tools.install("nsys", &nsys);
        tools.install("ncu", &NCU.replace("@HERE@", &here).replace("@BEFORE@", tricks.ncu_before));
        tools
    }
    /// What nsys exports.
    pub(crate) fn trace(&self, timeline: &Timeline) {
        writer::write(timeline, &self.folder.join("trace.sqlite")).unwrap();
    }
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
    pub(crate) fn without(self, tool: &str) -> Self {
        std::fs::remove_file(self.folder.join(tool)).unwrap();
        self
    }
    fn install(&self, name: &str, script: &str) {
        let path = self.folder.join(name);
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    /// The command lines the tools were given, one a line.
    pub(crate) fn calls(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.folder.join("calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
    /// `perfprof stage2` of the tiny model, with these tools.
    pub(crate) fn stage2(&self, sandbox: &Sandbox, settings: &[&str]) -> Command {
        let mut command = self.perfprof(sandbox, &["stage2"]);
        command.args(TINY.iter().filter(|setting| !setting.starts_with("hardware."))).args([
            "prompt_tokens=8",
            "infer.max_new_tokens=5",
            "warmup=0",
            "hardware.measure=never",
        ]);
        command.args(settings);
        command
    }
    /// The binary with these tools on its path.
    pub(crate) fn perfprof(&self, sandbox: &Sandbox, arguments: &[&str]) -> Command {
        let mut command = sandbox.command(arguments);
        // Only these and what scripts need: tools of this machine must not be found.
        command.env("PATH", format!("{}:/usr/bin:/bin", self.folder.display()));
        command
    }
}
