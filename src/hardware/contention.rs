//! What else the machine was doing while something was measured.
//!
//! This module counts; it never judges by itself: [`ContentionThresholds`] say where a sample counts as disturbed, and
//! `docs/HARDWARE.md` says why they stand where they stand.

use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::identify;

/// How often the heartbeat looks at the clock.
const HEARTBEAT: Duration = Duration::from_millis(100);

/// Where contention begins to matter.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ContentionThresholds {
    /// Share of the machine's CPU time used by other processes.
    pub other_cpu_share: f64,
    /// Share of the CPU time a hypervisor gave to somebody else.
    pub steal_share: f64,
    /// Share of the time in which some runnable task had to wait for a CPU (pressure stall information).
    pub pressure_cpu_some: f64,
    /// Times per second and busy thread the kernel took the CPU away.
    pub involuntary_switches_per_cpu_s: f64,
    /// Gap of the heartbeat from which the process counts as paused, in seconds.
    pub pause_s: f64,
    /// Difference of wall and monotonic clock that counts as a step, in seconds.
    pub clock_step_s: f64,
}

impl Default for ContentionThresholds {
    fn default() -> Self {
        Self {
            other_cpu_share: 0.10,
            steal_share: 0.05,
            pressure_cpu_some: 0.20,
            involuntary_switches_per_cpu_s: 100.0,
            pause_s: 1.0,
            clock_step_s: 1.0,
        }
    }
}

/// What happened between [`ContentionProbe::start`] and [`ContentionProbe::finish`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContentionSample {
    /// Length of the window by the monotonic clock.
    pub wall_s: f64,
    /// CPU time of this process in it, user and system.
    pub cpu_s: f64,
    /// `cpu_s / wall_s`: the mean number of CPUs this process kept busy; null for an empty window.
    pub cpu_wall_ratio: Option<f64>,
    /// `cpu_wall_ratio` over the CPUs the process may use: 1 is all of them all the time.
    pub cpu_utilisation: Option<f64>,
    /// Times the kernel took the CPU from a thread that wanted to go on (`ru_nivcsw`).
    pub involuntary_switches: u64,
    /// Times a thread gave the CPU up, to wait (`ru_nvcsw`).
    pub voluntary_switches: u64,
    /// Share of the window in which some task waited for a CPU (`/proc/pressure/cpu`, `some`); null without it. Waiting among
    /// this process's own threads counts too.
    pub pressure_cpu_some: Option<f64>,
    /// CPU time of other processes over the CPU time the machine had; null without `/proc/stat`.
    pub other_cpu_share: Option<f64>,
    /// CPU time the hypervisor gave to other guests over the CPU time the machine had; null without `/proc/stat`.
    pub steal_share: Option<f64>,
    /// Longest gap between two beats that were due every 0.1 s.
    pub longest_gap_s: f64,
    /// Time the machine slept (boot-time minus monotonic clock).
    pub suspended_s: Option<f64>,
    /// How far the wall clock moved against the monotonic one; negative when it was set back.
    pub clock_step_s: f64,
    /// The process stood still (stopped, frozen or the machine asleep) for [`ContentionThresholds::pause_s`] of the defaults.
    pub process_paused: bool,
}

impl ContentionSample {
    /// Every reason why this window counts as disturbed, with numbers; empty when it does not.
    pub fn disturbances(&self, thresholds: &ContentionThresholds) -> Vec<String> {
        let percent = |share: f64| format!("{:.1} %", share * 100.0);
        let mut reasons = Vec::new();
        if let Some(share) = self.other_cpu_share.filter(|share| *share > thresholds.other_cpu_share) {
            reasons.push(format!(
                "other processes used {} of the CPU time (limit {})",
                percent(share),
                percent(thresholds.other_cpu_share)
            ));
        }
        if let Some(share) = self.steal_share.filter(|share| *share > thresholds.steal_share) {
            reasons.push(format!(
                "the hypervisor gave {} of the CPU time to other guests (limit {})",
                percent(share),
                percent(thresholds.steal_share)
            ));
        }
        if let Some(share) = self.pressure_cpu_some.filter(|share| *share > thresholds.pressure_cpu_some) {
            reasons.push(format!(
                "tasks waited for a CPU in {} of the time (limit {})",
                percent(share),
                percent(thresholds.pressure_cpu_some)
            ));
        }
        // Below a tenth of a second of CPU time one switch is already a high rate.
        if self.cpu_s >= 0.1 {
            let rate = self.involuntary_switches as f64 / self.cpu_s;
            if rate > thresholds.involuntary_switches_per_cpu_s {
                reasons.push(format!(
                    "the kernel took the CPU away {rate:.0} times per second of CPU time (limit {:.0})",
                    thresholds.involuntary_switches_per_cpu_s
                ));
            }
        }
        if self.longest_gap_s > thresholds.pause_s {
            reasons.push(format!("the process stood still for {:.1} s", self.longest_gap_s));
        }
        if let Some(asleep) = self.suspended_s.filter(|asleep| *asleep > thresholds.pause_s) {
            reasons.push(format!("the machine slept for {asleep:.1} s"));
        }
        if self.clock_step_s.abs() > thresholds.clock_step_s {
            reasons.push(format!("the wall clock moved by {:+.1} s (durations are not affected)", self.clock_step_s));
        }
        reasons
    }

    /// True if a measurement in this window may have been slowed down. A step of the wall clock alone does not count: durations
    /// are taken from the monotonic clock.
    pub fn is_disturbed(&self, thresholds: &ContentionThresholds) -> bool {
        let clock_only = Self { clock_step_s: 0.0, ..self.clone() };
        !clock_only.disturbances(thresholds).is_empty()
    }
}

/// Readings that are compared at the end of a window.
#[derive(Debug, Clone, Copy, Default)]
struct Counters {
    cpu_s: f64,
    involuntary: u64,
    voluntary: u64,
    pressure_us: Option<u64>,
    machine: Option<CpuTimes>,
    boot_minus_monotonic_s: Option<f64>,
    wall_s: f64,
    at: Option<Instant>,
}

/// The `cpu` line of `/proc/stat`, in ticks of all CPUs together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct CpuTimes {
    busy: u64,
    steal: u64,
    total: u64,
}

fn parse_cpu_times(stat: &str) -> Option<CpuTimes> {
    // proc_stat(5): user nice system idle iowait irq softirq steal guest guest_nice; user and nice contain guest and guest_nice.
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let fields: Vec<u64> = line.split_whitespace().map_while(|field| field.parse().ok()).collect();
    if fields.len() < 4 {
        return None;
    }
    let get = |index: usize| fields.get(index).copied().unwrap_or(0);
    let busy = get(0) + get(1) + get(2) + get(5) + get(6);
    let steal = get(7);
    Some(CpuTimes { busy, steal, total: busy + steal + get(3) + get(4) })
}

/// The `total` of the `some` line of `/proc/pressure/cpu`, in microseconds.
fn parse_pressure_total(text: &str) -> Option<u64> {
    text.lines()
        .find(|line| line.starts_with("some "))?
        .split_whitespace()
        .find_map(|field| field.strip_prefix("total="))?
        .parse()
        .ok()
}

fn parse_pressure_avg10(text: &str) -> Option<f64> {
    text.lines()
        .find(|line| line.starts_with("some "))?
        .split_whitespace()
        .find_map(|field| field.strip_prefix("avg10="))?
        .parse()
        .ok()
}

fn read_cpu_times() -> Option<CpuTimes> {
    parse_cpu_times(&std::fs::read_to_string("/proc/stat").ok()?)
}

fn clock_s(clock: libc::clockid_t) -> Option<f64> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid, writable timespec for the length of the call, which keeps no pointer to it.
    let status = unsafe { libc::clock_gettime(clock, &raw mut time) };
    (status == 0).then_some(time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9)
}

#[cfg(target_os = "linux")]
fn boot_minus_monotonic() -> Option<f64> {
    Some(clock_s(libc::CLOCK_BOOTTIME)? - clock_s(libc::CLOCK_MONOTONIC)?)
}

#[cfg(not(target_os = "linux"))]
fn boot_minus_monotonic() -> Option<f64> {
    None
}

fn usage() -> (f64, u64, u64) {
    // SAFETY: `rusage` is plain old data for which all zeroes is a valid value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is a valid, writable rusage for the length of the call, which keeps no pointer to it.
    if unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) } != 0 {
        return (0.0, 0, 0);
    }
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 * 1e-6;
    (seconds(usage.ru_utime) + seconds(usage.ru_stime), usage.ru_nivcsw as u64, usage.ru_nvcsw as u64)
}

impl Counters {
    fn read() -> Self {
        let (cpu_s, involuntary, voluntary) = usage();
        Self {
            cpu_s,
            involuntary,
            voluntary,
            pressure_us: std::fs::read_to_string("/proc/pressure/cpu").ok().as_deref().and_then(parse_pressure_total),
            machine: read_cpu_times(),
            boot_minus_monotonic_s: boot_minus_monotonic(),
            wall_s: clock_s(libc::CLOCK_REALTIME).unwrap_or(0.0),
            at: Some(Instant::now()),
        }
    }

    /// The sample between `self` and the later `end`; pure, so that steps and pauses can be tested without making them.
    fn until(&self, end: &Self, wall_s: f64, longest_gap_s: f64, cpus: f64, ticks_per_s: f64) -> ContentionSample {
        let cpu_s = (end.cpu_s - self.cpu_s).max(0.0);
        let machine = self.machine.zip(end.machine).and_then(|(a, b)| {
            let total = b.total.checked_sub(a.total).filter(|total| *total > 0)? as f64;
            let busy = b.busy.saturating_sub(a.busy) as f64;
            // Own time is exact and machine time comes in ticks: rounding may leave a trace below zero.
            let other = (busy - cpu_s * ticks_per_s).max(0.0) / total;
            Some((other.min(1.0), b.steal.saturating_sub(a.steal) as f64 / total))
        });
        let ratio = (wall_s > 0.0).then(|| cpu_s / wall_s);
        let suspended_s = self
            .boot_minus_monotonic_s
            .zip(end.boot_minus_monotonic_s)
            .map(|(before, after)| (after - before).max(0.0));
        // Real time goes on while the machine sleeps; that is no step of the clock.
        let clock_step_s = end.wall_s - self.wall_s - wall_s - suspended_s.unwrap_or(0.0);
        let pause_s = ContentionThresholds::default().pause_s;
        ContentionSample {
            wall_s,
            cpu_s,
            cpu_wall_ratio: ratio,
            cpu_utilisation: ratio.filter(|_| cpus > 0.0).map(|ratio| ratio / cpus),
            involuntary_switches: end.involuntary.saturating_sub(self.involuntary),
            voluntary_switches: end.voluntary.saturating_sub(self.voluntary),
            pressure_cpu_some: self
                .pressure_us
                .zip(end.pressure_us)
                .filter(|_| wall_s > 0.0)
                .map(|(before, after)| (after.saturating_sub(before) as f64 * 1e-6 / wall_s).min(1.0)),
            other_cpu_share: machine.map(|(other, _)| other),
            steal_share: machine.map(|(_, steal)| steal),
            longest_gap_s,
            suspended_s,
            clock_step_s,
            process_paused: longest_gap_s > pause_s || suspended_s.is_some_and(|asleep| asleep > pause_s),
        }
    }
}

fn ticks_per_second() -> f64 {
    // SAFETY: sysconf reads a constant of the system and takes no pointer.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    if ticks > 0 { ticks as f64 } else { 100.0 }
}

/// Watches the machine while something is measured. A thread that wakes ten times a second notices when the process stands still.
#[derive(Debug)]
pub struct ContentionProbe {
    start: Counters,
    began: Instant,
    heartbeat: Option<(mpsc::Sender<()>, JoinHandle<f64>)>,
}

/// The longest time between two beats from `began` on, until the sender is gone.
fn beat(began: Instant, stop: &mpsc::Receiver<()>) -> f64 {
    let mut longest = 0.0f64;
    let mut last = began;
    loop {
        let ended = !matches!(stop.recv_timeout(HEARTBEAT), Err(mpsc::RecvTimeoutError::Timeout));
        let now = Instant::now();
        longest = longest.max((now - last).as_secs_f64());
        last = now;
        if ended {
            return longest;
        }
    }
}

impl ContentionProbe {
    /// Starts a window.
    pub fn start() -> Self {
        let (sender, receiver) = mpsc::channel();
        // The first gap begins here and not when the thread first runs: the process may be stopped in between.
        let began = Instant::now();
        // Without the thread (a limit on threads) the probe still counts; only pauses go unnoticed.
        let heartbeat = std::thread::Builder::new()
            .name("heartbeat".to_owned())
            .spawn(move || beat(began, &receiver))
            .ok()
            .map(|thread| (sender, thread));
        Self { start: Counters::read(), began: Instant::now(), heartbeat }
    }

    /// Ends the window.
    pub fn finish(mut self) -> ContentionSample {
        let wall_s = self.began.elapsed().as_secs_f64();
        let end = Counters::read();
        let longest_gap_s = self.heartbeat.take().map_or(0.0, |(sender, thread)| {
            drop(sender);
            thread.join().unwrap_or(0.0)
        });
        self.start.until(&end, wall_s, longest_gap_s, identify::usable_cpus(), ticks_per_second())
    }
}

/// The state of the machine before a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MachineState {
    /// Mean number of runnable tasks over the last minute (`/proc/loadavg`).
    pub load_1min: Option<f64>,
    /// Share of the last ten seconds in which some task waited for a CPU.
    pub pressure_cpu_some_10s: Option<f64>,
    /// CPU time of other processes over the CPU time the machine had, during the look.
    pub other_cpu_share: Option<f64>,
    /// CPU time a hypervisor gave to other guests over the CPU time the machine had, during the look.
    pub steal_share: Option<f64>,
    /// Frequency governor where all usable CPUs have the same; `mixed` otherwise; null without frequency control.
    pub governor: Option<String>,
    /// Thermal throttle events counted since boot, over all CPUs; null where the kernel does not count them.
    pub throttle_events: Option<u64>,
    /// True if throttle events were counted during the look; null where the kernel does not count them.
    pub throttled: Option<bool>,
}

impl MachineState {
    /// What a user should know before believing a timing made now; empty on a quiet machine.
    pub fn warnings(&self, thresholds: &ContentionThresholds) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Some(share) = self.other_cpu_share.filter(|share| *share > thresholds.other_cpu_share) {
            warnings.push(format!(
                "the machine is busy: other processes use {:.0} % of its CPU time; stop them, or expect slower and wider timings",
                share * 100.0
            ));
        }
        if let Some(share) = self.steal_share.filter(|share| *share > thresholds.steal_share) {
            warnings.push(format!("the hypervisor takes {:.0} % of the CPU time for other guests", share * 100.0));
        }
        if self.throttled == Some(true) {
            warnings.push("the CPU is being throttled for heat; let it cool down".to_owned());
        }
        if let Some(governor) = self.governor.as_deref().filter(|name| matches!(*name, "powersave" | "conservative")) {
            warnings.push(format!(
                "the frequency governor is `{governor}`; `cpupower frequency-set -g performance` makes timings steadier"
            ));
        }
        warnings
    }
}

/// Looks at the machine for `look` (0.2 s is enough for a share to the nearest few per cent).
pub fn machine_state(look: Duration) -> MachineState {
    let cpu_root = std::path::Path::new("/sys/devices/system/cpu");
    let before = Counters::read();
    let throttle_before = throttle_events(cpu_root);
    std::thread::sleep(look);
    let after = Counters::read();
    let wall_s = before.at.zip(after.at).map_or(0.0, |(a, b)| (b - a).as_secs_f64());
    let sample = before.until(&after, wall_s, 0.0, 1.0, ticks_per_second());
    let throttle_after = throttle_events(cpu_root);
    MachineState {
        load_1min: std::fs::read_to_string("/proc/loadavg")
            .ok()
            .and_then(|text| text.split_whitespace().next()?.parse().ok()),
        pressure_cpu_some_10s: std::fs::read_to_string("/proc/pressure/cpu")
            .ok()
            .and_then(|text| parse_pressure_avg10(&text))
            .map(|percent| percent / 100.0),
        other_cpu_share: sample.other_cpu_share,
        steal_share: sample.steal_share,
        governor: governor(cpu_root),
        throttle_events: throttle_after,
        throttled: throttle_before.zip(throttle_after).map(|(before, after)| after > before),
    }
}

/// The `cpuN` directories below `root`.
fn cpu_directories(root: &std::path::Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = std::fs::read_dir(root) else { return Vec::new() };
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.file_name().and_then(|name| name.to_str()?.strip_prefix("cpu")?.parse::<u32>().ok()).is_some()
        })
        .collect()
}

fn governor(root: &std::path::Path) -> Option<String> {
    let mut governors: Vec<String> = cpu_directories(root)
        .iter()
        .filter_map(|cpu| std::fs::read_to_string(cpu.join("cpufreq/scaling_governor")).ok())
        .map(|text| text.trim().to_owned())
        .collect();
    governors.sort();
    governors.dedup();
    match governors.len() {
        0 => None,
        1 => governors.pop(),
        _ => Some("mixed".to_owned()),
    }
}

fn throttle_events(root: &std::path::Path) -> Option<u64> {
    let counts: Vec<u64> = cpu_directories(root)
        .iter()
        .filter_map(|cpu| {
            std::fs::read_to_string(cpu.join("thermal_throttle/core_throttle_count")).ok()?.trim().parse().ok()
        })
        .collect();
    (!counts.is_empty()).then(|| counts.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_times_follow_the_manual_page() {
        let times = parse_cpu_times("cpu  100 10 50 800 40 1 2 7 30 3\ncpu0 1 1 1 1\n").unwrap();
        // guest (30, 3) is already in user and nice.
        assert_eq!(times, CpuTimes { busy: 163, steal: 7, total: 163 + 7 + 840 });
        assert_eq!(parse_cpu_times("cpu0 1 2 3 4\n"), None);
        assert_eq!(parse_cpu_times("cpu  x\n"), None);
    }

    #[test]
    fn pressure_is_the_some_line() {
        let text = "some avg10=64.30 avg60=20.95 avg300=5.46 total=37906744\nfull avg10=0.00 total=0\n";
        assert_eq!(parse_pressure_total(text), Some(37_906_744));
        assert_eq!(parse_pressure_avg10(text), Some(64.30));
        assert_eq!(parse_pressure_total("full avg10=0.00 total=5\n"), None);
    }

    fn counters(cpu_s: f64, busy: u64, total: u64, wall_s: f64) -> Counters {
        Counters {
            cpu_s,
            machine: Some(CpuTimes { busy, steal: 0, total }),
            wall_s,
            boot_minus_monotonic_s: Some(0.0),
            pressure_us: Some(0),
            ..Counters::default()
        }
    }

    #[test]
    fn other_processes_are_what_the_machine_did_beside_us() {
        // Two CPUs for 10 s at 100 ticks/s: 2000 ticks, 1500 busy, 10 s of them ours.
        let sample = counters(0.0, 0, 0, 0.0).until(&counters(10.0, 1500, 2000, 10.0), 10.0, 0.1, 2.0, 100.0);
        assert_eq!(sample.other_cpu_share, Some(0.25));
        assert_eq!(sample.cpu_wall_ratio, Some(1.0));
        assert_eq!(sample.cpu_utilisation, Some(0.5));
        assert!(sample.is_disturbed(&ContentionThresholds::default()));
        let quiet = counters(0.0, 0, 0, 0.0).until(&counters(10.0, 1010, 2000, 10.0), 10.0, 0.1, 2.0, 100.0);
        assert!(!quiet.is_disturbed(&ContentionThresholds::default()), "{quiet:?}");
        assert!(!quiet.process_paused);
    }

    #[test]
    fn a_step_of_the_wall_clock_is_named_and_leaves_durations_alone() {
        let sample = counters(0.0, 0, 0, 5000.0).until(&counters(1.0, 100, 2000, 1410.0), 10.0, 0.1, 2.0, 100.0);
        assert_eq!(sample.wall_s, 10.0);
        assert!((sample.clock_step_s + 3600.0).abs() < 1e-9);
        let reasons = sample.disturbances(&ContentionThresholds::default());
        assert!(reasons.iter().any(|reason| reason.contains("-3600.0 s")), "{reasons:?}");
        assert!(!sample.is_disturbed(&ContentionThresholds::default()));
    }

    #[test]
    fn sleep_is_a_pause_and_no_clock_step() {
        let mut end = counters(1.0, 100, 2000, 70.0);
        end.boot_minus_monotonic_s = Some(60.0);
        let sample = counters(0.0, 0, 0, 0.0).until(&end, 10.0, 0.1, 2.0, 100.0);
        assert!(sample.process_paused);
        assert!(sample.clock_step_s.abs() < 1e-9);
        assert_eq!(sample.suspended_s, Some(60.0));
    }

    #[test]
    fn without_proc_the_shares_are_unknown_and_not_zero() {
        let sample = Counters::default().until(&Counters::default(), 1.0, 0.0, 2.0, 100.0);
        assert_eq!((sample.pressure_cpu_some, sample.other_cpu_share, sample.steal_share), (None, None, None));
        assert_eq!(sample.suspended_s, None);
    }

    #[test]
    fn the_heartbeat_sees_the_time_it_was_held_up() {
        let (sender, receiver) = mpsc::channel::<()>();
        // Five seconds without a beat lie behind it.
        let began = Instant::now().checked_sub(Duration::from_secs(5)).unwrap();
        let thread = std::thread::spawn(move || beat(began, &receiver));
        drop(sender);
        assert!(thread.join().unwrap() >= 5.0);
    }

    #[test]
    fn a_window_of_work_shows_its_cpu_time() {
        let probe = ContentionProbe::start();
        let began = Instant::now();
        let mut value = 0u64;
        while began.elapsed() < Duration::from_millis(50) {
            value = std::hint::black_box(value.wrapping_add(1));
        }
        let sample = probe.finish();
        assert!(sample.wall_s >= 0.05);
        assert!(sample.cpu_s > 0.0);
        assert!(!sample.process_paused || sample.longest_gap_s > 1.0);
    }

    #[test]
    fn governors_and_throttling_are_read_from_every_cpu() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!((governor(root.path()), throttle_events(root.path())), (None, None));
        for (cpu, name, count) in [("cpu0", "performance", "3"), ("cpu1", "performance", "4")] {
            std::fs::create_dir_all(root.path().join(cpu).join("cpufreq")).unwrap();
            std::fs::create_dir_all(root.path().join(cpu).join("thermal_throttle")).unwrap();
            std::fs::write(root.path().join(cpu).join("cpufreq/scaling_governor"), format!("{name}\n")).unwrap();
            std::fs::write(root.path().join(cpu).join("thermal_throttle/core_throttle_count"), count).unwrap();
        }
        std::fs::create_dir_all(root.path().join("cpufreq")).unwrap();
        assert_eq!(governor(root.path()).as_deref(), Some("performance"));
        assert_eq!(throttle_events(root.path()), Some(7));
        std::fs::write(root.path().join("cpu1/cpufreq/scaling_governor"), "powersave\n").unwrap();
        assert_eq!(governor(root.path()).as_deref(), Some("mixed"));
    }
}
