//! What a graphics processor did over time: a thread of its own looks at it every few milliseconds.
//!
//! The sampler never holds up what it watches, and it never invents: a metric the device does not have is null, a look that
//! failed is counted, and means are weighted with the time that really passed between looks.

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nvml_wrapper::Nvml;
use nvml_wrapper::bitmasks::device::ThrottleReasons;
use nvml_wrapper::enum_wrappers::device::{Clock, EccCounter, MemoryError, PcieUtilCounter, TemperatureSensor};
use nvml_wrapper::error::NvmlError;
use serde::{Deserialize, Serialize};

use super::identify::GpuIdentity;
use crate::diagnostics::{Diagnostic, Severity};

/// Shortest and longest interval between looks.
pub const INTERVALS: std::ops::RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(1);

/// How often metrics are read whose query itself takes long: NVML measures PCIe traffic over 20 ms within the call.
const SLOW_EVERY: Duration = Duration::from_secs(1);

/// One look at a device; null is "this device does not tell".
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct GpuReading {
    /// Share of the last sample period of the driver in which a kernel ran.
    pub utilisation: Option<f64>,
    /// Share of it in which memory was read or written.
    pub memory_utilisation: Option<f64>,
    /// Memory in use by everybody.
    pub memory_used_bytes: Option<f64>,
    /// Board power.
    pub power_w: Option<f64>,
    /// Energy counter since the driver was loaded.
    pub energy_j: Option<f64>,
    /// SM clock.
    pub sm_mhz: Option<f64>,
    /// Memory clock.
    pub memory_mhz: Option<f64>,
    /// GPU temperature.
    pub temperature_c: Option<f64>,
    /// NVML's clock event reasons, a bit each.
    pub throttle_reasons: Option<u64>,
    /// Uncorrected ECC errors since the driver was loaded; read once a second.
    pub ecc_uncorrected: Option<u64>,
    /// PCIe traffic to the device; read once a second.
    pub pcie_rx_bytes_per_s: Option<f64>,
    /// PCIe traffic from the device; read once a second.
    pub pcie_tx_bytes_per_s: Option<f64>,
    /// Processes with a compute context, this one included; read once a second.
    pub processes: Option<u32>,
}

impl GpuReading {
    /// The metrics that are averaged, with their names.
    fn averaged(&self) -> [(&'static str, Option<f64>); 9] {
        [
            ("utilisation", self.utilisation),
            ("memory_utilisation", self.memory_utilisation),
            ("memory_used_bytes", self.memory_used_bytes),
            ("power_w", self.power_w),
            ("sm_mhz", self.sm_mhz),
            ("memory_mhz", self.memory_mhz),
            ("temperature_c", self.temperature_c),
            ("pcie_rx_bytes_per_s", self.pcie_rx_bytes_per_s),
            ("pcie_tx_bytes_per_s", self.pcie_tx_bytes_per_s),
        ]
    }
}

/// A look that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GpuFailure {
    /// The device is gone: off the bus, or the driver was reset.
    Lost(String),
    /// This look failed; the next may not.
    Failed(String),
}

/// Where readings come from.
pub trait GpuSource: Send {
    /// Looks at the device.
    ///
    /// # Errors
    /// If nothing at all could be read. One metric that is not supported is `None` in the reading.
    fn read(&mut self) -> Result<GpuReading, GpuFailure>;
}

/// Readings of a real device.
pub struct NvmlSource {
    nvml: Nvml,
    uuid: Option<String>,
    index: u32,
    slow_at: Option<Instant>,
}

impl NvmlSource {
    /// A source for `device`, held by its UUID, so that a change of order cannot put another device in its place.
    ///
    /// # Errors
    /// Why NVML cannot be used, in words.
    pub fn open(device: &GpuIdentity) -> Result<Self, String> {
        let nvml = Nvml::init().map_err(|error| super::identify::nvml_reason(&error))?;
        Ok(Self { nvml, uuid: device.uuid.clone(), index: device.nvml_index, slow_at: None })
    }
}

fn failure(error: &NvmlError) -> GpuFailure {
    match error {
        NvmlError::GpuLost | NvmlError::DriverNotLoaded | NvmlError::NotFound => GpuFailure::Lost(error.to_string()),
        other => GpuFailure::Failed(other.to_string()),
    }
}

impl GpuSource for NvmlSource {
    fn read(&mut self) -> Result<GpuReading, GpuFailure> {
        let device = match &self.uuid {
            Some(uuid) => self.nvml.device_by_uuid(uuid.as_str()),
            None => self.nvml.device_by_index(self.index),
        }
        .map_err(|error| failure(&error))?;
        // Every device knows its memory, so this call tells a lost device from a metric that is not supported.
        let memory = match device.memory_info() {
            Ok(memory) => Some(memory.used as f64),
            Err(NvmlError::NotSupported | NvmlError::FailedToLoadSymbol(_)) => None,
            Err(error) => return Err(failure(&error)),
        };
        let utilisation = device.utilization_rates().ok();
        let mut reading = GpuReading {
            utilisation: utilisation.as_ref().map(|rates| f64::from(rates.gpu) / 100.0),
            memory_utilisation: utilisation.as_ref().map(|rates| f64::from(rates.memory) / 100.0),
            memory_used_bytes: memory,
            power_w: device.power_usage().ok().map(|milliwatts| f64::from(milliwatts) / 1e3),
            energy_j: device.total_energy_consumption().ok().map(|millijoules| millijoules as f64 / 1e3),
            sm_mhz: device.clock_info(Clock::SM).ok().map(f64::from),
            memory_mhz: device.clock_info(Clock::Memory).ok().map(f64::from),
            temperature_c: device.temperature(TemperatureSensor::Gpu).ok().map(f64::from),
            throttle_reasons: device.current_throttle_reasons().ok().map(|reasons| reasons.bits()),
            ..GpuReading::default()
        };
        if self.slow_at.is_none_or(|at| at.elapsed() >= SLOW_EVERY) {
            self.slow_at = Some(Instant::now());
            // NVML gives KB/s.
            let pcie = |counter| device.pcie_throughput(counter).ok().map(|kilobytes| f64::from(kilobytes) * 1e3);
            reading.pcie_rx_bytes_per_s = pcie(PcieUtilCounter::Receive);
            reading.pcie_tx_bytes_per_s = pcie(PcieUtilCounter::Send);
            reading.ecc_uncorrected = device.total_ecc_errors(MemoryError::Uncorrected, EccCounter::Volatile).ok();
            reading.processes = device.running_compute_processes_count().ok();
        }
        Ok(reading)
    }
}

/// A look that succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct GpuSample {
    /// Seconds since the sampler started, at the end of the look.
    pub t_s: f64,
    /// What was read.
    #[serde(flatten)]
    pub reading: GpuReading,
}

/// How regular the looks really were.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct IntervalStatistics {
    /// Intervals between successful looks.
    pub n: u64,
    /// Their mean.
    pub mean_s: f64,
    /// The shortest.
    pub min_s: f64,
    /// Their median.
    pub p50_s: f64,
    /// The longest.
    pub max_s: f64,
    /// Those longer than twice the interval asked for.
    pub late: u64,
}

/// A metric over time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TimeWeighted {
    /// Mean weighted with time (trapezoids between looks); the plain value if there was one look only.
    pub mean: f64,
    /// Smallest value read.
    pub min: f64,
    /// Largest value read.
    pub max: f64,
    /// Time the mean stands for.
    pub covered_s: f64,
}

/// Share of the time a reason held the clocks down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ThrottleShare {
    /// NVML's name of the reason, e.g. `sw_power_cap`.
    pub reason: String,
    /// Share of the looks.
    pub share: f64,
    /// True if it slows work down (power, heat, brake), false for idling and clocks the user set.
    pub harmful: bool,
}

/// A device over time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GpuSeries {
    /// UUID of the device.
    pub uuid: Option<String>,
    /// Name of the device.
    pub name: Option<String>,
    /// CUDA ordinal of the device.
    pub cuda_ordinal: Option<u32>,
    /// Interval asked for.
    pub interval_s: f64,
    /// Looks tried.
    pub attempts: u64,
    /// Looks that failed.
    pub failures: u64,
    /// How often each error came.
    pub failure_messages: BTreeMap<String, u64>,
    /// When the device was first found lost; null if never.
    pub lost_at_s: Option<f64>,
    /// Time of the last successful look; null without one.
    pub last_good_s: Option<f64>,
    /// How regular the looks were; null with fewer than two.
    pub intervals: Option<IntervalStatistics>,
    /// Metrics over time; one that is not supported is absent here and named in `unsupported`.
    pub metrics: BTreeMap<String, TimeWeighted>,
    /// Energy between first and last look; null if neither counter nor power can be read.
    pub energy_j: Option<f64>,
    /// `counter` or `power` (integral of the power readings); null with `energy_j`.
    pub energy_source: Option<String>,
    /// Reasons that held the clocks down.
    pub throttle: Vec<ThrottleShare>,
    /// New uncorrected ECC errors; null if not supported.
    pub ecc_uncorrected: Option<u64>,
    /// Most processes with a compute context at one time; null if not supported.
    pub processes_max: Option<u32>,
    /// Metrics no look could read.
    pub unsupported: Vec<String>,
    /// Every successful look.
    pub samples: Vec<GpuSample>,
}

/// NVML's reasons, their names, and whether they slow work down.
fn throttle_names() -> [(ThrottleReasons, &'static str, bool); 9] {
    [
        (ThrottleReasons::GPU_IDLE, "gpu_idle", false),
        (ThrottleReasons::APPLICATIONS_CLOCKS_SETTING, "applications_clocks_setting", false),
        (ThrottleReasons::DISPLAY_CLOCK_SETTING, "display_clock_setting", false),
        (ThrottleReasons::SW_POWER_CAP, "sw_power_cap", true),
        (ThrottleReasons::HW_SLOWDOWN, "hw_slowdown", true),
        (ThrottleReasons::SYNC_BOOST, "sync_boost", true),
        (ThrottleReasons::SW_THERMAL_SLOWDOWN, "sw_thermal_slowdown", true),
        (ThrottleReasons::HW_THERMAL_SLOWDOWN, "hw_thermal_slowdown", true),
        (ThrottleReasons::HW_POWER_BRAKE_SLOWDOWN, "hw_power_brake_slowdown", true),
    ]
}

/// Names of the reasons in `bits` (NVML's clock event reasons) that slow work down.
pub fn harmful_reasons(bits: u64) -> Vec<&'static str> {
    throttle_names()
        .into_iter()
        .filter(|(reason, _, harmful)| *harmful && bits & reason.bits() != 0)
        .map(|(_, name, _)| name)
        .collect()
}

impl GpuSeries {
    /// Reasons that slowed work down at any time.
    pub fn harmful_throttling(&self) -> impl Iterator<Item = &ThrottleShare> {
        self.throttle.iter().filter(|reason| reason.harmful && reason.share > 0.0)
    }

    /// What a reader of the run should know.
    pub fn diagnostics(&self) -> Vec<Diagnostic> {
        let mut found = Vec::new();
        let device = self.name.as_deref().unwrap_or("the GPU");
        let throttled: Vec<String> = self
            .harmful_throttling()
            .map(|reason| format!("{} in {:.0} % of the looks", reason.reason, reason.share * 100.0))
            .collect();
        if !throttled.is_empty() {
            found.push(Diagnostic::new(
                "gpu_throttled",
                Severity::Warn,
                format!("{device} held its clocks down: {}; do not compare this run with others", throttled.join(", ")),
            ));
        }
        if let Some(lost) = self.lost_at_s {
            let last = self.last_good_s.map_or("never read".to_owned(), |at| format!("last read at {at:.2} s"));
            found.push(Diagnostic::new(
                "gpu_lost",
                Severity::Error,
                format!("{device} was lost at {lost:.2} s of the run ({last})"),
            ));
        } else if self.failures > 0 {
            let first = self.failure_messages.keys().next().map_or("", String::as_str);
            found.push(Diagnostic {
                count: self.failures,
                ..Diagnostic::new(
                    "gpu_samples_failed",
                    Severity::Warn,
                    format!("{} of {} looks at {device} failed: {first}", self.failures, self.attempts),
                )
            });
        }
        if let Some(intervals) = self.intervals.filter(|intervals| intervals.late > 0) {
            found.push(Diagnostic {
                count: intervals.late,
                ..Diagnostic::new(
                    "gpu_sampler_late",
                    Severity::Info,
                    format!(
                        "{} of {} intervals between looks at {device} were more than twice the {:.0} ms asked for, the longest {:.0} ms; \
                         means are weighted with the real times",
                        intervals.late,
                        intervals.n,
                        self.interval_s * 1e3,
                        intervals.max_s * 1e3
                    ),
                )
            });
        }
        if let Some(errors) = self.ecc_uncorrected.filter(|errors| *errors > 0) {
            found.push(Diagnostic {
                count: errors,
                ..Diagnostic::new(
                    "gpu_ecc_uncorrected",
                    Severity::Error,
                    format!("{device} had {errors} uncorrected memory errors during the run"),
                )
            });
        }
        found
    }
}

/// One look, good or bad, with its time.
#[derive(Debug, Clone, PartialEq)]
struct Look {
    t_s: f64,
    result: Result<GpuReading, GpuFailure>,
}

/// The time-weighted mean of `points` (time, value). Trapezoids stand between neighbours only where no failed look lies between.
fn time_weighted(points: &[(f64, f64, usize)], failures_before: &[usize]) -> Option<TimeWeighted> {
    let (_, first, _) = points.first()?;
    let (mut area, mut covered) = (0.0, 0.0);
    for pair in points.windows(2) {
        let ((t0, v0, i0), (t1, v1, i1)) = (pair[0], pair[1]);
        if failures_before[i0] == failures_before[i1] && t1 > t0 {
            area += (t1 - t0) * f64::midpoint(v0, v1);
            covered += t1 - t0;
        }
    }
    Some(TimeWeighted {
        mean: if covered > 0.0 { area / covered } else { *first },
        min: points.iter().map(|point| point.1).fold(f64::INFINITY, f64::min),
        max: points.iter().map(|point| point.1).fold(f64::NEG_INFINITY, f64::max),
        covered_s: covered,
    })
}

/// The series of `looks`; pure, so that lateness and losses can be tested without waiting for them.
fn summarise(device: &GpuIdentity, interval: Duration, looks: Vec<Look>) -> GpuSeries {
    let attempts = looks.len() as u64;
    let mut samples = Vec::with_capacity(looks.len());
    // For each sample the number of failed looks before it: equal numbers mean an unbroken stretch.
    let mut failures_before = Vec::with_capacity(looks.len());
    let mut failure_messages: BTreeMap<String, u64> = BTreeMap::new();
    let (mut failures, mut lost_at_s) = (0usize, None);
    for look in looks {
        match look.result {
            Ok(reading) => {
                samples.push(GpuSample { t_s: look.t_s, reading });
                failures_before.push(failures);
            }
            Err(error) => {
                failures += 1;
                let message = match error {
                    GpuFailure::Lost(message) => {
                        lost_at_s.get_or_insert(look.t_s);
                        message
                    }
                    GpuFailure::Failed(message) => message,
                };
                *failure_messages.entry(message).or_insert(0) += 1;
            }
        }
    }
    let mut metrics = BTreeMap::new();
    let mut unsupported = Vec::new();
    for (position, (name, _)) in GpuReading::default().averaged().iter().enumerate() {
        let points: Vec<(f64, f64, usize)> = samples
            .iter()
            .enumerate()
            .filter_map(|(index, sample)| Some((sample.t_s, sample.reading.averaged()[position].1?, index)))
            .collect();
        match time_weighted(&points, &failures_before) {
            Some(metric) => {
                metrics.insert((*name).to_owned(), metric);
            }
            None => unsupported.push((*name).to_owned()),
        }
    }
    let counter: Vec<f64> = samples.iter().filter_map(|sample| sample.reading.energy_j).collect();
    let (energy_j, energy_source) = match (counter.first(), counter.last(), metrics.get("power_w")) {
        // A counter that fell was reset with the driver; then only the integral is left.
        (Some(first), Some(last), _) if counter.len() >= 2 && last >= first => (Some(last - first), Some("counter")),
        (_, _, Some(power)) if power.covered_s > 0.0 => (Some(power.mean * power.covered_s), Some("power")),
        _ => (None, None),
    };
    if counter.is_empty() {
        unsupported.push("energy_j".to_owned());
    }
    let reasons: Vec<u64> = samples.iter().filter_map(|sample| sample.reading.throttle_reasons).collect();
    if reasons.is_empty() {
        unsupported.push("throttle_reasons".to_owned());
    }
    let throttle = throttle_names()
        .into_iter()
        .filter_map(|(bit, name, harmful)| {
            let held = reasons.iter().filter(|reason| **reason & bit.bits() != 0).count();
            (held > 0).then(|| ThrottleShare {
                reason: name.to_owned(),
                share: held as f64 / reasons.len() as f64,
                harmful,
            })
        })
        .collect();
    let ecc: Vec<u64> = samples.iter().filter_map(|sample| sample.reading.ecc_uncorrected).collect();
    GpuSeries {
        uuid: device.uuid.clone(),
        name: device.name.clone(),
        cuda_ordinal: device.cuda_ordinal,
        interval_s: interval.as_secs_f64(),
        attempts,
        failures: failures as u64,
        failure_messages,
        lost_at_s,
        last_good_s: samples.last().map(|sample| sample.t_s),
        intervals: interval_statistics(&samples, interval),
        metrics,
        energy_j,
        energy_source: energy_source.map(str::to_owned),
        throttle,
        ecc_uncorrected: ecc.first().zip(ecc.last()).map(|(first, last)| last.saturating_sub(*first)),
        processes_max: samples.iter().filter_map(|sample| sample.reading.processes).max(),
        unsupported,
        samples,
    }
}

fn interval_statistics(samples: &[GpuSample], interval: Duration) -> Option<IntervalStatistics> {
    let mut gaps: Vec<f64> = samples.windows(2).map(|pair| pair[1].t_s - pair[0].t_s).collect();
    gaps.sort_by(f64::total_cmp);
    let (min_s, max_s) = (*gaps.first()?, *gaps.last()?);
    let middle = gaps.len() / 2;
    Some(IntervalStatistics {
        n: gaps.len() as u64,
        mean_s: gaps.iter().sum::<f64>() / gaps.len() as f64,
        min_s,
        p50_s: if gaps.len() % 2 == 1 { gaps[middle] } else { f64::midpoint(gaps[middle - 1], gaps[middle]) },
        max_s,
        late: gaps.iter().filter(|gap| **gap > 2.0 * interval.as_secs_f64()).count() as u64,
    })
}

/// A thread that looks at a device until it is told to stop.
#[derive(Debug)]
pub struct GpuSampler {
    device: GpuIdentity,
    interval: Duration,
    thread: Option<(mpsc::Sender<()>, JoinHandle<Vec<Look>>)>,
}

impl GpuSampler {
    /// Starts looking at `device` through `source` every `interval` (held within [`INTERVALS`]).
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start(device: GpuIdentity, mut source: Box<dyn GpuSource>, interval: Duration) -> Result<Self, String> {
        let interval = interval.clamp(*INTERVALS.start(), *INTERVALS.end());
        let (sender, receiver) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("gpu-sampler".to_owned())
            .spawn(move || sample(source.as_mut(), interval, &receiver))
            .map_err(|error| format!("GPU metrics unavailable: no thread for the sampler: {error}"))?;
        Ok(Self { device, interval, thread: Some((sender, thread)) })
    }

    /// Starts looking at a real device.
    ///
    /// # Errors
    /// Why NVML cannot be used, in words.
    pub fn start_nvml(device: &GpuIdentity, interval: Duration) -> Result<Self, String> {
        Self::start(device.clone(), Box::new(NvmlSource::open(device)?), interval)
    }

    /// Stops and gives what was seen. Waits for a look in progress.
    pub fn finish(mut self) -> GpuSeries {
        let looks = self.thread.take().map_or_else(Vec::new, |(sender, thread)| {
            drop(sender);
            thread.join().unwrap_or_default()
        });
        summarise(&self.device, self.interval, looks)
    }
}

fn sample(source: &mut dyn GpuSource, interval: Duration, stop: &mpsc::Receiver<()>) -> Vec<Look> {
    let began = Instant::now();
    let mut looks = Vec::new();
    let mut next = began;
    loop {
        let result = source.read();
        looks.push(Look { t_s: began.elapsed().as_secs_f64(), result });
        // The grid stays where it was: looks that were missed are left out, not made up for in a burst.
        let now = Instant::now();
        while next <= now {
            next += interval;
        }
        if !matches!(stop.recv_timeout(next - now), Err(mpsc::RecvTimeoutError::Timeout)) {
            return looks;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device() -> GpuIdentity {
        GpuIdentity {
            nvml_index: 0,
            cuda_ordinal: Some(0),
            uuid: Some("GPU-1".to_owned()),
            name: Some("Test GPU".to_owned()),
            pci_bus_id: None,
            memory_bytes: None,
            compute_capability: None,
            power_limit_w: None,
            max_sm_mhz: None,
            max_memory_mhz: None,
            mig: None,
            ecc: None,
            compute_processes: None,
        }
    }

    fn look(t_s: f64, power_w: f64) -> Look {
        Look { t_s, result: Ok(GpuReading { power_w: Some(power_w), ..GpuReading::default() }) }
    }

    const INTERVAL: Duration = Duration::from_millis(100);

    #[test]
    fn a_late_look_weighs_what_it_stands_for() {
        // 100 W for a second in ten looks, then a sampler held up for 9 s during which the power stays at 200 W.
        let mut looks: Vec<Look> = (0..=10).map(|i| look(f64::from(i) * 0.1, 100.0)).collect();
        looks.extend([look(1.0001, 200.0), look(10.0001, 200.0)]);
        let series = summarise(&device(), INTERVAL, looks);
        let power = series.metrics["power_w"];
        assert!((power.mean - 190.0).abs() < 0.1, "{power:?}; a mean over looks would be 115");
        assert!((series.energy_j.unwrap() - 1900.0).abs() < 1.0);
        assert_eq!(series.energy_source.as_deref(), Some("power"));
        let intervals = series.intervals.unwrap();
        assert_eq!(intervals.late, 1);
        assert!((intervals.max_s - 9.0).abs() < 1e-9 && (intervals.p50_s - 0.1).abs() < 1e-9);
        assert!(series.diagnostics().iter().any(|finding| finding.code == "gpu_sampler_late"));
    }

    #[test]
    fn an_unsupported_metric_is_absent_and_not_zero() {
        let series = summarise(&device(), INTERVAL, vec![look(0.0, 50.0), look(0.1, 50.0)]);
        assert!(!series.metrics.contains_key("utilisation"));
        assert!(series.unsupported.contains(&"utilisation".to_owned()));
        assert!(series.unsupported.contains(&"throttle_reasons".to_owned()));
        assert_eq!((series.ecc_uncorrected, series.processes_max), (None, None));
        let json = serde_json::to_value(&series).unwrap();
        assert!(json["samples"][0]["utilisation"].is_null());
        assert_eq!(json["samples"][0]["power_w"], 50.0);
    }

    #[test]
    fn a_lost_device_keeps_its_last_good_time_and_the_counts() {
        let mut looks = vec![look(0.0, 10.0), look(0.1, 10.0)];
        for i in 2..5 {
            looks.push(Look {
                t_s: f64::from(i) * 0.1,
                result: Err(GpuFailure::Lost("the GPU fell off the bus".into())),
            });
        }
        let series = summarise(&device(), INTERVAL, looks);
        assert_eq!((series.attempts, series.failures), (5, 3));
        assert_eq!(series.last_good_s, Some(0.1));
        assert_eq!(series.lost_at_s, Some(0.2));
        assert_eq!(series.failure_messages["the GPU fell off the bus"], 3);
        assert!(series.diagnostics().iter().any(|finding| finding.code == "gpu_lost"));
    }

    #[test]
    fn time_without_looks_after_a_failure_is_not_made_up() {
        let looks = vec![
            look(0.0, 100.0),
            look(1.0, 100.0),
            Look { t_s: 2.0, result: Err(GpuFailure::Failed("timeout".into())) },
            look(9.0, 500.0),
            look(10.0, 500.0),
        ];
        let power = summarise(&device(), INTERVAL, looks).metrics["power_w"];
        assert_eq!((power.covered_s, power.mean), (2.0, 300.0));
    }

    #[test]
    fn the_energy_counter_beats_the_integral_of_power() {
        let reading = |energy_j, t_s| Look {
            t_s,
            result: Ok(GpuReading { power_w: Some(1.0), energy_j: Some(energy_j), ..GpuReading::default() }),
        };
        let series = summarise(&device(), INTERVAL, vec![reading(1000.0, 0.0), reading(1500.0, 1.0)]);
        assert_eq!((series.energy_j, series.energy_source.as_deref()), (Some(500.0), Some("counter")));
        // A driver reset sets the counter back.
        let series = summarise(&device(), INTERVAL, vec![reading(1000.0, 0.0), reading(3.0, 1.0)]);
        assert_eq!((series.energy_j, series.energy_source.as_deref()), (Some(1.0), Some("power")));
    }

    #[test]
    fn throttling_for_heat_is_told_and_idling_is_not() {
        let reasons = |bits: u64, t_s| Look {
            t_s,
            result: Ok(GpuReading { throttle_reasons: Some(bits), ..GpuReading::default() }),
        };
        // nvml.h: GpuIdle 0x1, SwThermalSlowdown 0x20, SwPowerCap 0x4.
        let series = summarise(
            &device(),
            INTERVAL,
            vec![reasons(0x1, 0.0), reasons(0x20, 0.1), reasons(0x24, 0.2), reasons(0, 0.3)],
        );
        let harmful: Vec<(&str, f64)> = series.harmful_throttling().map(|r| (r.reason.as_str(), r.share)).collect();
        assert_eq!(harmful, [("sw_power_cap", 0.25), ("sw_thermal_slowdown", 0.5)]);
        assert!(series.diagnostics().iter().any(|finding| finding.code == "gpu_throttled"));
        let idle = summarise(&device(), INTERVAL, vec![reasons(0x1, 0.0)]);
        assert!(idle.diagnostics().is_empty());
    }

    #[test]
    fn nothing_seen_is_nothing_said() {
        let series = summarise(&device(), INTERVAL, Vec::new());
        assert!(series.metrics.is_empty() && series.energy_j.is_none() && series.intervals.is_none());
    }

    /// Blocks in its third look, then goes on.
    struct Slow(u32);

    impl GpuSource for Slow {
        fn read(&mut self) -> Result<GpuReading, GpuFailure> {
            self.0 += 1;
            if self.0 == 3 {
                std::thread::sleep(Duration::from_millis(150));
            }
            if self.0 == 5 {
                return Err(GpuFailure::Failed("once".to_owned()));
            }
            Ok(GpuReading { utilisation: Some(0.5), ..GpuReading::default() })
        }
    }

    #[test]
    fn the_thread_survives_a_blocked_look_and_an_error() {
        let sampler = GpuSampler::start(device(), Box::new(Slow(0)), Duration::from_millis(1)).unwrap();
        std::thread::sleep(Duration::from_millis(400));
        let series = sampler.finish();
        assert_eq!(series.interval_s, 0.01, "held within the limits");
        assert!(series.attempts >= 6 && series.failures == 1, "{} {}", series.attempts, series.failures);
        assert!(series.intervals.unwrap().max_s >= 0.15);
        assert_eq!(series.metrics["utilisation"].mean, 0.5);
        assert_eq!(series.uuid.as_deref(), Some("GPU-1"));
    }
}
