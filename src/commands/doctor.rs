//! `perfprof doctor`: what this machine can do, what is missing for the rest, and what to do about it.
//!
//! Every look has a time limit and runs beside the others, so a program that hangs costs seconds and not the answer.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use owo_colors::OwoColorize;
use serde::Serialize;

use super::Context;
use crate::diagnostics::{ExitStatus, escape_control};
use crate::hardware::contention::{self, ContentionThresholds};
use crate::hardware::energy::EnergyMeter;
use crate::hardware::identify::{self, Machine};
use crate::hardware::peaks::{self, Lookup};
use crate::hardware::tools::{self, NCU, NSYS, Tool, ToolState};
use crate::hardware::{memory, nvml};
use crate::units::Bytes;

/// Version of the JSON answer.
const SCHEMA_VERSION: u32 = 1;
/// Time each look has.
const LIMIT: Duration = Duration::from_secs(5);

/// How something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// There, and works.
    Ok,
    /// There, with a limit the advice is about.
    Limited,
    /// Not there; what needs it cannot be done.
    Missing,
    /// What every run needs does not work.
    Broken,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Limited => "limited",
            Self::Missing => "missing",
            Self::Broken => "broken",
        }
    }
}

/// One line of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Group of lines, e.g. `gpu`.
    pub area: &'static str,
    /// What was looked at.
    pub name: String,
    /// How it stands.
    pub state: State,
    /// What was found.
    pub detail: String,
    /// What to do, where there is something; null when all is well.
    pub advice: Option<String>,
}

impl Check {
    fn new(area: &'static str, name: &str, state: State, detail: impl Into<String>) -> Self {
        Self { area, name: name.to_owned(), state, detail: detail.into(), advice: None }
    }
    fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }
}

/// Where the looks go; the tests put something else there.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The search path for programs.
    pub path: OsString,
    /// Root of the file system that `proc`, `sys` and `dev` are read below.
    pub root: PathBuf,
    /// Where runs would be written.
    pub output_root: PathBuf,
    /// Time each look has.
    pub limit: Duration,
}

/// The whole answer.
#[derive(Debug, Clone, Serialize)]
pub struct Examination {
    /// Version of this document.
    pub schema_version: u32,
    /// `doctor`.
    pub command: &'static str,
    /// perfprof's version.
    pub version: &'static str,
    /// Whether this build can use CUDA.
    pub cuda_build: bool,
    /// Every line.
    pub checks: Vec<Check>,
    /// What the machine is; null if looking took too long.
    pub machine: Option<Machine>,
}

/// Runs `perfprof doctor`.
pub fn run(context: &Context) -> anyhow::Result<ExitStatus> {
    let examination = examine(&Surroundings {
        path: std::env::var_os("PATH").unwrap_or_default(),
        root: PathBuf::from("/"),
        output_root: context.output_root.clone(),
        limit: LIMIT,
    });
    let mut text = Vec::new();
    if context.json {
        serde_json::to_writer_pretty(&mut text, &examination).context("cannot write the answer as JSON")?;
        text.push(b'\n');
    } else {
        write_text(&mut text, &examination)?;
    }
    super::print_answer(&String::from_utf8_lossy(&text))?;
    let broken = examination.checks.iter().any(|check| check.state == State::Broken);
    Ok(if broken { ExitStatus::CouldNotStart } else { ExitStatus::Success })
}

fn write_text(out: &mut impl Write, examination: &Examination) -> std::io::Result<()> {
    let width = examination.checks.iter().map(|check| check.name.chars().count()).max().unwrap_or(0);
    let mut area = "";
    for check in &examination.checks {
        if check.area != area {
            if !area.is_empty() {
                writeln!(out)?;
            }
            area = check.area;
            writeln!(out, "{}", area.bold())?;
        }
        let state = format!("{:<7}", check.state.name());
        let state = match check.state {
            State::Ok => state.green().to_string(),
            State::Limited | State::Missing => state.yellow().to_string(),
            State::Broken => state.red().to_string(),
        };
        // Names and versions come from drivers and programs: their control characters are shown, not obeyed.
        writeln!(out, "  {state}  {:<width$}  {}", check.name, escape_control(&check.detail))?;
        if let Some(advice) = &check.advice {
            writeln!(out, "           {:<width$}  → {}", "", escape_control(advice))?;
        }
    }
    let count = |state: State| examination.checks.iter().filter(|check| check.state == state).count();
    writeln!(
        out,
        "\n{} ok, {} limited, {} missing, {} broken",
        count(State::Ok),
        count(State::Limited),
        count(State::Missing),
        count(State::Broken)
    )
}

/// A look that runs by itself.
struct Pending<T> {
    answer: std::sync::mpsc::Receiver<T>,
}

impl<T: Send + 'static> Pending<T> {
    fn start(look: impl FnOnce() -> T + Send + 'static) -> Self {
        let (sender, answer) = std::sync::mpsc::channel();
        // Never joined: a look that hangs in a driver call cannot be ended, only left behind.
        std::thread::spawn(move || {
            let _ = sender.send(look());
        });
        Self { answer }
    }
    fn wait(self, limit: Duration) -> Option<T> {
        self.answer.recv_timeout(limit).ok()
    }
}

/// Looks at everything.
pub fn examine(surroundings: &Surroundings) -> Examination {
    let limit = surroundings.limit;
    let machine = Pending::start(identify::machine);
    let quiet = Pending::start(|| contention::machine_state(Duration::from_millis(200)));
    let path = surroundings.path.clone();
    let nsys = Pending::start(move || NSYS.probe(&path, limit));
    let path = surroundings.path.clone();
    let ncu = Pending::start(move || NCU.probe(&path, limit));
    let libraries = Pending::start(|| LIBRARIES.map(|(_, names, _)| tools::load_library(names)));

    // The programs are killed at the limit; a little more lets that be told.
    let patience = limit + Duration::from_secs(1);
    let machine = machine.wait(patience);
    let mut checks = Vec::new();
    match &machine {
        Some(machine) => machine_checks(machine, &mut checks),
        None => checks.push(timed_out("machine", "identification", limit)),
    }
    match quiet.wait(patience) {
        Some(state) => quiet_checks(&state, &mut checks),
        None => checks.push(timed_out("machine", "load", limit)),
    }
    checks.push(clock_check(&surroundings.root));
    checks.push(container_check(&surroundings.root));
    checks.push(output_check(&surroundings.output_root));
    checks.push(match EnergyMeter::open_at(&surroundings.root.join("sys/class/powercap")) {
        Ok(meter) => Check::new("measuring", "CPU energy", State::Ok, format!("RAPL: {}", meter.domains().join(", "))),
        Err(reason) => Check::new("measuring", "CPU energy", State::Missing, reason)
            .advise("`energy_j` stays null; set `hardware.power_w=` for an estimate"),
    });
    checks.push(match memory::reset_peak() {
        Ok(()) => Check::new("measuring", "peak memory", State::Ok, "can be taken for each repeat"),
        Err(reason) => Check::new("measuring", "peak memory", State::Limited, reason)
            .advise("`peak_rss_bytes` counts from the start of the process"),
    });
    checks.push(if surroundings.root.join("proc/pressure/cpu").exists() {
        Check::new("measuring", "CPU pressure", State::Ok, "/proc/pressure/cpu")
    } else {
        Check::new("measuring", "CPU pressure", State::Missing, "the kernel does not count pressure stalls")
            .advise("boot with `psi=1`; contention is then judged by CPU shares and context switches alone")
    });

    gpu_checks(machine.as_ref(), &surroundings.root, &mut checks);
    match libraries.wait(patience) {
        Some(results) => {
            for ((name, _, advice), result) in LIBRARIES.into_iter().zip(results) {
                checks.push(match result {
                    Ok(found) => Check::new("cuda", name, State::Ok, found),
                    Err(reason) => Check::new("cuda", name, State::Missing, reason).advise(advice),
                });
            }
        }
        None => checks.push(timed_out("cuda", "libraries", limit)),
    }
    checks.push(if cfg!(feature = "cuda") {
        Check::new("cuda", "this build", State::Ok, "has CUDA")
    } else {
        Check::new("cuda", "this build", State::Limited, "is for the CPU only; `device=cuda:0` is refused")
            .advise("build with `cargo build --release --features cuda` to run on a GPU")
    });

    checks.push(tool_check(NSYS, nsys.wait(patience), limit));
    checks.push(tool_check(NCU, ncu.wait(patience), limit));
    checks.push(counter_permission_check(&surroundings.root));
    checks.push(perf_event_check(&surroundings.root));
    Examination {
        schema_version: SCHEMA_VERSION,
        command: "doctor",
        version: env!("CARGO_PKG_VERSION"),
        cuda_build: cfg!(feature = "cuda"),
        checks,
        machine,
    }
}

fn timed_out(area: &'static str, name: &str, limit: Duration) -> Check {
    Check::new(area, name, State::Limited, format!("no answer within {} s", limit.as_secs_f64()))
        .advise("a driver or file system does not answer; look at `dmesg`")
}

/// CUDA's user-mode libraries: name, file names from newest to oldest, and what to do without.
const LIBRARIES: [(&str, &[&str], &str); 4] = [
    ("driver (libcuda)", &["libcuda.so.1"], "install the NVIDIA driver, or start the container with `--gpus all`"),
    (
        "cuBLAS",
        &["libcublas.so.13", "libcublas.so.12", "libcublas.so.11"],
        "needed by a CUDA build only: install the CUDA toolkit or the cuBLAS wheel, and put its folder on LD_LIBRARY_PATH",
    ),
    (
        "NVRTC",
        &["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11.2"],
        "needed by a CUDA build only: install the CUDA toolkit or the NVRTC wheel, and put its folder on LD_LIBRARY_PATH",
    ),
    (
        "CUPTI",
        &["libcupti.so.13"],
        "needed for `trace=cupti` only, of CUDA 13: it is in the toolkit's extras/CUPTI/lib64; put that on LD_LIBRARY_PATH",
    ),
];

fn machine_checks(machine: &Machine, checks: &mut Vec<Check>) {
    let cpu = &machine.cpu;
    let cores = match (cpu.physical_cores, cpu.logical_cpus) {
        (Some(physical), Some(logical)) => format!("{physical} cores, {logical} threads"),
        _ => format!("{} CPUs", cpu.logical_available),
    };
    let vectors = if cpu.has("avx512f") || cpu.has("avx2") || cpu.has("neon") { State::Ok } else { State::Limited };
    let mut check = Check::new("machine", "processor", vectors, format!("{}, {cores}", cpu.model));
    if vectors == State::Limited {
        check = check.advise("no AVX2, AVX-512 or NEON: the engine falls back to slow portable code");
    }
    checks.push(check);
    checks.push(Check::new("machine", "instruction sets", State::Ok, cpu.isa.join(" ")));
    let usable = format!("{:.1} CPUs", cpu.usable_cpus);
    checks.push(if cpu.logical_cpus.is_some_and(|all| cpu.usable_cpus + 0.05 < f64::from(all)) {
        let why = match cpu.cgroup_quota_cpus {
            Some(quota) if quota < f64::from(cpu.logical_available) => {
                format!("a control-group quota of {quota:.2} CPUs")
            }
            _ => format!("an affinity mask of {} CPUs", cpu.logical_available),
        };
        Check::new("machine", "usable", State::Limited, format!("{usable}, because of {why}"))
            .advise("set `engine.threads=` to no more than that; a quota makes timings jump when it is used up")
    } else {
        Check::new("machine", "usable", State::Ok, usable)
    });
    checks.push(match machine.memory {
        Some(memory) => {
            let bytes = |bytes: u64| Bytes(bytes as f64);
            let mut detail = format!("{}", bytes(memory.total_bytes));
            if let Some(available) = memory.available_bytes {
                detail.push_str(&format!(", {} available", bytes(available)));
            }
            if let Some(speed) = machine.memory_speed_mt_per_s {
                detail.push_str(&format!(", {speed} MT/s"));
            }
            match memory.cgroup_limit_bytes.filter(|limit| *limit < memory.total_bytes) {
                Some(limit) => {
                    Check::new("machine", "memory", State::Limited, format!("{detail}, limited to {}", bytes(limit)))
                        .advise("the control group ends a process that needs more")
                }
                None => Check::new("machine", "memory", State::Ok, detail),
            }
        }
        None => Check::new("machine", "memory", State::Limited, "size unknown"),
    });
}

fn quiet_checks(state: &contention::MachineState, checks: &mut Vec<Check>) {
    let warnings = state.warnings(&ContentionThresholds::default());
    let share = state.other_cpu_share.map_or("unknown".to_owned(), |share| format!("{:.0} %", share * 100.0));
    let load = state.load_1min.map_or("unknown".to_owned(), |load| format!("{load:.2}"));
    let mut check = Check::new(
        "machine",
        "load",
        if warnings.is_empty() { State::Ok } else { State::Limited },
        format!("other processes use {share} of the CPU time, load {load}"),
    );
    if !warnings.is_empty() {
        check = check.advise(warnings.join("; "));
    }
    checks.push(check);
    checks.push(match &state.governor {
        Some(governor) => Check::new("machine", "frequency governor", State::Ok, governor.clone()),
        None => {
            Check::new("machine", "frequency governor", State::Limited, "not visible (virtual machine or container)")
                .advise("the host decides about clocks; compare interleaved runs only (`ab`)")
        }
    });
}

fn clock_check(root: &Path) -> Check {
    let file = root.join("sys/devices/system/clocksource/clocksource0/current_clocksource");
    match std::fs::read_to_string(file).ok().map(|text| text.trim().to_owned()) {
        Some(source) if matches!(source.as_str(), "hpet" | "acpi_pm" | "jiffies") => {
            Check::new("machine", "clock source", State::Limited, source)
                .advise("reading this clock takes microseconds and inflates operator spans; `tsc` is the fast one")
        }
        Some(source) => Check::new("machine", "clock source", State::Ok, source),
        None => Check::new("machine", "clock source", State::Limited, "unknown"),
    }
}

fn container_check(root: &Path) -> Check {
    let container = [(".dockerenv", "Docker"), ("run/.containerenv", "Podman")]
        .into_iter()
        .find(|(file, _)| root.join(file).exists())
        .map(|(_, name)| name);
    match container {
        Some(name) => {
            Check::new("machine", "container", State::Ok, format!("inside {name}: limits of the control group apply"))
        }
        None => Check::new("machine", "container", State::Ok, "none seen"),
    }
}

fn output_check(output_root: &Path) -> Check {
    // The nearest folder that exists decides whether a run could make its own.
    let existing = output_root.ancestors().find(|folder| folder.as_os_str().is_empty() || folder.exists());
    let folder = match existing {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    match tempfile::NamedTempFile::new_in(folder) {
        Ok(_) => {
            Check::new("machine", "run directories", State::Ok, format!("can be written in {}", output_root.display()))
        }
        Err(error) => Check::new(
            "machine",
            "run directories",
            State::Broken,
            format!("{} cannot be written: {error}", output_root.display()),
        )
        .advise("choose another place with `--output-root`"),
    }
}

fn gpu_checks(machine: Option<&Machine>, root: &Path, checks: &mut Vec<Check>) {
    let Some(machine) = machine else {
        checks.push(Check::new("gpu", "NVML", State::Limited, "not known"));
        return;
    };
    let Some(system) = &machine.gpu else {
        let reason = machine.gpu_reason.clone().unwrap_or_else(|| "unknown".to_owned());
        let module = root.join("proc/driver/nvidia/version").exists();
        checks.push(Check::new("gpu", "NVML", State::Missing, reason).advise(if module {
            "the kernel driver is there, its user-mode libraries are not: in a container, start it with `--gpus all`"
        } else {
            "runs use the CPU (`device=cpu`); for a GPU install the NVIDIA driver and check it with `nvidia-smi`"
        }));
        return;
    };
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "unknown".to_owned());
    checks.push(Check::new(
        "gpu",
        "NVML",
        State::Ok,
        format!("driver {}, CUDA up to {}", text(&system.driver_version), text(&system.cuda_driver_version)),
    ));
    if let Some(note) = &system.ordinal_note {
        checks.push(Check::new("gpu", "device order", State::Limited, note.clone()));
    }
    if system.devices.is_empty() {
        checks.push(
            Check::new("gpu", "devices", State::Missing, "the driver shows none")
                .advise("check `nvidia-smi -L` and, in a container, NVIDIA_VISIBLE_DEVICES"),
        );
    }
    for device in &system.devices {
        let name = text(&device.name);
        let ordinal = device.cuda_ordinal.map_or("hidden from CUDA".to_owned(), |ordinal| format!("cuda:{ordinal}"));
        let size = device.memory_bytes.map_or_else(String::new, |bytes| format!(", {}", Bytes(bytes as f64)));
        let clock = device.max_sm_mhz.map_or_else(String::new, |mhz| format!(", up to {mhz} MHz"));
        let power = device.power_limit_w.map_or_else(String::new, |watts| format!(", {watts:.0} W limit"));
        let mut check = Check::new(
            "gpu",
            &format!("device {}", device.nvml_index),
            State::Ok,
            format!("{name} ({ordinal}){size}{clock}{power}"),
        );
        let mut advice = Vec::new();
        if device.cuda_ordinal.is_none() {
            advice.push("CUDA_VISIBLE_DEVICES or the device order hides it".to_owned());
        }
        if let Some(processes) = device.compute_processes.filter(|count| *count > 0) {
            advice.push(format!("{processes} process(es) use it now; timings will suffer"));
        }
        if device.mig == Some(true) {
            advice.push("MIG is on: peaks of the whole device do not hold for a slice".to_owned());
        }
        match peaks::lookup(&name, device.memory_bytes) {
            Lookup::Found(_) => {}
            Lookup::Ambiguous(candidates) => {
                advice.push(format!(
                    "its peaks are not certain; set `hardware.name=` to one of {}",
                    candidates.join(", ")
                ));
            }
            Lookup::Unknown => advice.push(
                "its peaks are not in the table; set `hardware.peak_tflops=` and `hardware.peak_bandwidth_gbs=`"
                    .to_owned(),
            ),
        }
        if let Ok(mut source) = nvml::NvmlSource::open(device)
            && let Ok(reading) = nvml::GpuSource::read(&mut source)
        {
            let reasons = nvml::harmful_reasons(reading.throttle_reasons.unwrap_or(0));
            if !reasons.is_empty() {
                advice.push(format!("its clocks are held down now: {}", reasons.join(", ")));
            }
        }
        if !advice.is_empty() {
            check.state = State::Limited;
            check = check.advise(advice.join("; "));
        }
        checks.push(check);
    }
}

fn tool_check(tool: Tool, state: Option<ToolState>, limit: Duration) -> Check {
    let (get, use_) = match tool.name {
        "nsys" => {
            ("install Nsight Systems (package `nsight-systems-cli` of NVIDIA's repository)", "`stage2` with nsys")
        }
        _ => (
            "install Nsight Compute (package `nsight-compute` of NVIDIA's repository)",
            "per-kernel metrics of `stage2`",
        ),
    };
    match state {
        Some(ToolState::Found { path, version }) => {
            Check::new("profilers", tool.name, State::Ok, format!("{version} at {}", path.display()))
        }
        Some(ToolState::Missing) => Check::new("profilers", tool.name, State::Missing, "not on PATH")
            .advise(format!("{get} and put it on PATH; needed only for {use_}")),
        Some(ToolState::Unexpected { path, said }) => Check::new(
            "profilers",
            tool.name,
            State::Limited,
            format!("{} does not answer `--version` like {}: {said}", path.display(), tool.says),
        )
        .advise(format!("another program may have that name: {get}, and put it first on PATH")),
        Some(ToolState::TimedOut { path, limit }) => Check::new(
            "profilers",
            tool.name,
            State::Limited,
            format!("{} `--version` did not end within {} s", path.display(), limit.as_secs_f64()),
        )
        .advise("run it by hand; a broken installation or an unreachable home folder makes it wait"),
        None => timed_out("profilers", tool.name, limit),
    }
}

/// ERR_NVGPUCTRPERM: whether users other than root may read GPU performance counters.
fn counter_permission_check(root: &Path) -> Check {
    let name = "GPU counters";
    let Ok(text) = std::fs::read_to_string(root.join("proc/driver/nvidia/params")) else {
        return Check::new("profilers", name, State::Missing, "no NVIDIA kernel driver");
    };
    let restricted =
        text.lines().find_map(|line| line.strip_prefix("RmProfilingAdminOnly:")).map(|value| value.trim() != "0");
    // SAFETY: geteuid takes nothing and cannot fail.
    let is_root = unsafe { libc::geteuid() } == 0;
    match restricted {
        Some(true) if !is_root => Check::new("profilers", name, State::Limited, "for root only (ERR_NVGPUCTRPERM)").advise(
            "put `options nvidia NVreg_RestrictProfilingToAdminUsers=0` into /etc/modprobe.d/nvidia.conf and reload the driver, or run \
             ncu as root",
        ),
        Some(true) => Check::new("profilers", name, State::Ok, "for root only, and this is root"),
        Some(false) => Check::new("profilers", name, State::Ok, "open to all users"),
        None => Check::new("profilers", name, State::Limited, "the driver does not tell (before 418.43?)"),
    }
}

fn perf_event_check(root: &Path) -> Check {
    let name = "CPU sampling";
    let level: Option<i32> = std::fs::read_to_string(root.join("proc/sys/kernel/perf_event_paranoid"))
        .ok()
        .and_then(|text| text.trim().parse().ok());
    // SAFETY: geteuid takes nothing and cannot fail.
    let is_root = unsafe { libc::geteuid() } == 0;
    match level {
        // The limit nsys names in its user guide.
        Some(level) if level <= 2 => {
            Check::new("profilers", name, State::Ok, format!("perf_event_paranoid is {level}"))
        }
        Some(level) if is_root => {
            Check::new("profilers", name, State::Ok, format!("perf_event_paranoid is {level}, and this is root"))
        }
        Some(level) => Check::new("profilers", name, State::Limited, format!("perf_event_paranoid is {level}"))
            .advise("`sysctl kernel.perf_event_paranoid=2` lets nsys sample the CPU"),
        None => Check::new("profilers", name, State::Missing, "the kernel has no perf events"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_for_root_only_are_told_with_the_way_out() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(counter_permission_check(root.path()).state, State::Missing);
        std::fs::create_dir_all(root.path().join("proc/driver/nvidia")).unwrap();
        let params = root.path().join("proc/driver/nvidia/params");
        std::fs::write(&params, "ResmanDebugLevel: 4294967295\nRmProfilingAdminOnly: 0\n").unwrap();
        assert_eq!(counter_permission_check(root.path()).state, State::Ok);
        std::fs::write(&params, "RmProfilingAdminOnly: 1\n").unwrap();
        let check = counter_permission_check(root.path());
        // SAFETY: geteuid takes nothing and cannot fail.
        if unsafe { libc::geteuid() } == 0 {
            assert!(check.detail.contains("root"));
        } else {
            assert!(check.advice.unwrap().contains("NVreg_RestrictProfilingToAdminUsers=0"));
        }
    }

    #[test]
    fn a_slow_clock_source_is_a_limit() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("sys/devices/system/clocksource/clocksource0");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("current_clocksource"), "hpet\n").unwrap();
        assert_eq!(clock_check(root.path()).state, State::Limited);
        std::fs::write(folder.join("current_clocksource"), "tsc\n").unwrap();
        assert_eq!(clock_check(root.path()).state, State::Ok);
    }

    #[test]
    fn a_place_that_cannot_be_written_is_broken_and_one_not_yet_there_is_not() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(output_check(&root.path().join("not/yet")).state, State::Ok);
        assert!(!root.path().join("not").exists(), "looking leaves nothing behind");
        std::fs::write(root.path().join("file"), "").unwrap();
        assert_eq!(output_check(&root.path().join("file")).state, State::Broken);
    }

    #[test]
    fn the_text_has_every_line_its_advice_and_no_foreign_escapes() {
        let examination = Examination {
            schema_version: SCHEMA_VERSION,
            command: "doctor",
            version: "0",
            cuda_build: false,
            checks: vec![
                Check::new("gpu", "device 0", State::Ok, "evil\u{1b}]0;title\u{7}"),
                Check::new("profilers", "nsys", State::Missing, "not on PATH").advise("install it"),
            ],
            machine: None,
        };
        let mut text = Vec::new();
        write_text(&mut text, &examination).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(!text.contains("\u{1b}]") && text.contains("evil\\u{1b}]0;title"), "{text}");
        assert!(text.contains("→ install it") && text.ends_with("1 ok, 0 limited, 1 missing, 0 broken\n"), "{text}");
    }
}
