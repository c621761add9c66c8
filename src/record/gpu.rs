//! `gpu_telemetry.json`: every look at the graphics processor during a stage1 run, and what `metrics.json` says of it.
//!
//! It is written before the first repeat, with what was seen until then, and replaced when the last one has ended: a run that was killed
//! keeps the first.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::RecordError;
use super::reader;
use crate::hardware::identify::GpuIdentity;
use crate::hardware::nvml::{
    GpuGap, GpuReading, GpuSample, GpuSeries, GpuSummary, IntervalStatistics, SlowReading, SlowSample, ThrottleShare,
    TimeWeighted,
};

/// Version of [`GpuTelemetry`].
pub const GPU_SCHEMA_VERSION: u32 = 1;
/// Name of the file.
pub const GPU_FILE: &str = "gpu_telemetry.json";

/// The device before the run touched it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GpuState {
    /// What was read.
    pub reading: GpuReading,
    /// Whether the driver stays loaded without users; null where the platform does not tell.
    pub persistence_mode: Option<bool>,
}

/// When a repeat ran, in seconds since the sampler started.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct GpuRepeat {
    /// `index` of its row in `per_run.jsonl`.
    pub row: u32,
    /// The look before the generation; where it failed, the time it was asked for.
    pub start_s: f64,
    /// The look after it; where it failed, the time it was asked for.
    pub end_s: f64,
    /// Whether both looks succeeded in time.
    pub looked: bool,
}

/// Looks as columns of equal length; a column of a metric that no look could read is null.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct GpuColumns {
    /// Seconds since the sampler started, at the end of the look.
    pub t_s: Vec<f64>,
    /// True for looks at the begin and end of repeats, beside the regular ones.
    pub edge: Vec<bool>,
    /// See [`GpuReading`].
    pub utilisation: Option<Vec<Option<f64>>>,
    /// See [`GpuReading`].
    pub memory_utilisation: Option<Vec<Option<f64>>>,
    /// See [`GpuReading`].
    pub memory_used_bytes: Option<Vec<Option<f64>>>,
    /// See [`GpuReading`].
    pub process_memory_bytes: Option<Vec<Option<f64>>>,
    /// See [`GpuReading`].
    pub power_w: Option<Vec<Option<f64>>>,
    /// See [`GpuReading`].
    pub energy_j: Option<Vec<Option<f64>>>,
    /// See [`GpuReading`].
    pub sm_mhz: Option<Vec<Option<f64>>>,
    /// See [`GpuReading`].
    pub memory_mhz: Option<Vec<Option<f64>>>,
    /// See [`GpuReading`].
    pub temperature_c: Option<Vec<Option<f64>>>,
    /// NVML's clock event reasons, a bit each.
    pub throttle_reasons: Option<Vec<Option<u64>>>,
    /// See [`GpuReading`].
    pub processes: Option<Vec<Option<u32>>>,
    /// See [`GpuReading`].
    pub other_processes: Option<Vec<Option<u32>>>,
    /// See [`GpuReading`].
    pub failed_metrics: Vec<u32>,
}

/// What was read once a second, as columns.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SlowColumns {
    /// Seconds since the sampler started, at the end of the look.
    pub t_s: Vec<f64>,
    /// See [`SlowReading`].
    pub pcie_rx_bytes_per_s: Option<Vec<Option<f64>>>,
    /// See [`SlowReading`].
    pub pcie_tx_bytes_per_s: Option<Vec<Option<f64>>>,
    /// See [`SlowReading`].
    pub ecc_uncorrected: Option<Vec<Option<u64>>>,
}

/// `gpu_telemetry.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GpuTelemetry {
    /// [`GPU_SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The run.
    pub run_id: String,
    /// Whether the run got as far as writing the looks.
    pub complete: bool,
    /// Version of the driver.
    pub driver_version: Option<String>,
    /// The device looked at.
    pub device: GpuIdentity,
    /// Interval asked for.
    pub interval_s: f64,
    /// The device before the run touched it; null if that look failed.
    pub before: Option<GpuState>,
    /// The repeats that ended well.
    pub repeats: Vec<GpuRepeat>,
    /// Failed looks.
    pub gaps: Vec<GpuGap>,
    /// Successful looks.
    pub samples: GpuColumns,
    /// What was read once a second.
    pub slow_samples: SlowColumns,
}

/// The column of `values`, null if there is nothing in it.
fn column<T>(values: impl Iterator<Item = Option<T>>) -> Option<Vec<Option<T>>> {
    let values: Vec<Option<T>> = values.collect();
    values.iter().any(Option::is_some).then_some(values)
}

/// The value in row `index` of a column.
fn at<T: Copy>(column: Option<&Vec<Option<T>>>, index: usize) -> Option<T> {
    column.and_then(|values| values.get(index).copied().flatten())
}

impl GpuColumns {
    /// The columns of `samples`.
    pub fn of(samples: &[GpuSample]) -> Self {
        fn of<T>(samples: &[GpuSample], get: fn(&GpuReading) -> Option<T>) -> Option<Vec<Option<T>>> {
            column(samples.iter().map(|sample| get(&sample.reading)))
        }
        Self {
            t_s: samples.iter().map(|sample| sample.t_s).collect(),
            edge: samples.iter().map(|sample| sample.edge).collect(),
            utilisation: of(samples, |reading| reading.utilisation),
            memory_utilisation: of(samples, |reading| reading.memory_utilisation),
            memory_used_bytes: of(samples, |reading| reading.memory_used_bytes),
            process_memory_bytes: of(samples, |reading| reading.process_memory_bytes),
            power_w: of(samples, |reading| reading.power_w),
            energy_j: of(samples, |reading| reading.energy_j),
            sm_mhz: of(samples, |reading| reading.sm_mhz),
            memory_mhz: of(samples, |reading| reading.memory_mhz),
            temperature_c: of(samples, |reading| reading.temperature_c),
            throttle_reasons: of(samples, |reading| reading.throttle_reasons),
            processes: of(samples, |reading| reading.processes),
            other_processes: of(samples, |reading| reading.other_processes),
            failed_metrics: samples.iter().map(|sample| sample.reading.failed_metrics).collect(),
        }
    }

    fn samples(&self) -> Vec<GpuSample> {
        let sample = |index: usize| GpuSample {
            t_s: self.t_s[index],
            edge: self.edge.get(index).copied().unwrap_or(false),
            reading: GpuReading {
                utilisation: at(self.utilisation.as_ref(), index),
                memory_utilisation: at(self.memory_utilisation.as_ref(), index),
                memory_used_bytes: at(self.memory_used_bytes.as_ref(), index),
                process_memory_bytes: at(self.process_memory_bytes.as_ref(), index),
                power_w: at(self.power_w.as_ref(), index),
                energy_j: at(self.energy_j.as_ref(), index),
                sm_mhz: at(self.sm_mhz.as_ref(), index),
                memory_mhz: at(self.memory_mhz.as_ref(), index),
                temperature_c: at(self.temperature_c.as_ref(), index),
                throttle_reasons: at(self.throttle_reasons.as_ref(), index),
                processes: at(self.processes.as_ref(), index),
                other_processes: at(self.other_processes.as_ref(), index),
                failed_metrics: self.failed_metrics.get(index).copied().unwrap_or(0),
            },
        };
        (0..self.t_s.len()).map(sample).collect()
    }

    /// The first column whose length is not that of the others.
    fn misfit(&self) -> Option<&'static str> {
        let len = |column: &Option<Vec<Option<f64>>>| column.as_ref().map(Vec::len);
        let columns = [
            ("edge", Some(self.edge.len())),
            ("utilisation", len(&self.utilisation)),
            ("memory_utilisation", len(&self.memory_utilisation)),
            ("memory_used_bytes", len(&self.memory_used_bytes)),
            ("process_memory_bytes", len(&self.process_memory_bytes)),
            ("power_w", len(&self.power_w)),
            ("energy_j", len(&self.energy_j)),
            ("sm_mhz", len(&self.sm_mhz)),
            ("memory_mhz", len(&self.memory_mhz)),
            ("temperature_c", len(&self.temperature_c)),
            ("throttle_reasons", self.throttle_reasons.as_ref().map(Vec::len)),
            ("processes", self.processes.as_ref().map(Vec::len)),
            ("other_processes", self.other_processes.as_ref().map(Vec::len)),
            ("failed_metrics", Some(self.failed_metrics.len())),
        ];
        let expected = self.t_s.len();
        columns.into_iter().find(|(_, len)| len.is_some_and(|len| len != expected)).map(|(name, _)| name)
    }
}

impl SlowColumns {
    /// The columns of `samples`.
    pub fn of(samples: &[SlowSample]) -> Self {
        Self {
            t_s: samples.iter().map(|sample| sample.t_s).collect(),
            pcie_rx_bytes_per_s: column(samples.iter().map(|sample| sample.reading.pcie_rx_bytes_per_s)),
            pcie_tx_bytes_per_s: column(samples.iter().map(|sample| sample.reading.pcie_tx_bytes_per_s)),
            ecc_uncorrected: column(samples.iter().map(|sample| sample.reading.ecc_uncorrected)),
        }
    }

    fn samples(&self) -> Vec<SlowSample> {
        let sample = |index: usize| SlowSample {
            t_s: self.t_s[index],
            reading: SlowReading {
                pcie_rx_bytes_per_s: at(self.pcie_rx_bytes_per_s.as_ref(), index),
                pcie_tx_bytes_per_s: at(self.pcie_tx_bytes_per_s.as_ref(), index),
                ecc_uncorrected: at(self.ecc_uncorrected.as_ref(), index),
            },
        };
        (0..self.t_s.len()).map(sample).collect()
    }
}

impl GpuTelemetry {
    /// The looks.
    pub fn series(&self) -> GpuSeries {
        GpuSeries { samples: self.samples.samples(), slow: self.slow_samples.samples(), gaps: self.gaps.clone() }
    }
    /// The interval asked for.
    pub fn interval(&self) -> Duration {
        Duration::try_from_secs_f64(self.interval_s).unwrap_or_default()
    }
}

/// The file of the looks at the `place`-th of several devices of one run: the first has [`GPU_FILE`], as the only one has.
pub fn gpu_file(place: usize) -> String {
    if place == 0 { GPU_FILE.to_owned() } else { format!("gpu_telemetry_{place}.json") }
}

/// Reads the looks at all devices of a run, in the order in which they were written.
///
/// # Errors
/// As of [`read_gpu`].
pub fn read_gpus(dir: &Path) -> Result<Vec<GpuTelemetry>, RecordError> {
    let mut all = Vec::new();
    while let Some(telemetry) = read(dir.join(gpu_file(all.len())))? {
        all.push(telemetry);
    }
    Ok(all)
}

/// Reads `gpu_telemetry.json`; `None` where the run has none.
///
/// # Errors
/// If it is there and cannot be read, or is malformed.
pub fn read_gpu(dir: &Path) -> Result<Option<GpuTelemetry>, RecordError> {
    read(dir.join(GPU_FILE))
}

fn read(path: PathBuf) -> Result<Option<GpuTelemetry>, RecordError> {
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(RecordError::Read { path, source }),
    };
    let telemetry: GpuTelemetry = reader::parse_versioned(&path, None, &bytes, GPU_SCHEMA_VERSION)?;
    match telemetry.samples.misfit() {
        Some(column) => Err(RecordError::Malformed {
            path,
            line: None,
            reason: format!("the column `{column}` does not fit the others"),
        }),
        None => Ok(Some(telemetry)),
    }
}

/// The device before the run, as `metrics.json` has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GpuBefore {
    /// Share of the last sample period of the driver in which a kernel ran.
    pub utilisation: Option<f64>,
    /// Memory in use.
    pub memory_used_bytes: Option<u64>,
    /// Processes with a compute context.
    pub processes: Option<u32>,
    /// Board power.
    pub power_w: Option<f64>,
    /// SM clock.
    pub sm_mhz: Option<f64>,
    /// GPU temperature.
    pub temperature_c: Option<f64>,
    /// Reasons that held the clocks down.
    pub throttle_reasons: Vec<String>,
    /// Whether the driver stays loaded without users.
    pub persistence_mode: Option<bool>,
}

/// What `metrics.json` says of the device, from the begin of the first measured repeat to the end of the last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GpuBlock {
    /// Name of the device.
    pub name: Option<String>,
    /// Its UUID.
    pub uuid: Option<String>,
    /// Its CUDA ordinal in this environment; null if hidden or not known.
    pub cuda_ordinal: Option<u32>,
    /// Version of the driver.
    pub driver_version: Option<String>,
    /// Memory of the device.
    pub memory_bytes: Option<u64>,
    /// Power limit in force.
    pub power_limit_w: Option<f64>,
    /// True if the model ran on it; false for a device that was watched beside a run on the CPU.
    pub ran_here: bool,
    /// The device before the run touched it; null if that look failed.
    pub before: Option<GpuBefore>,
    /// Begin of the stretch, in seconds since the sampler started.
    pub from_s: f64,
    /// Its end.
    pub to_s: f64,
    /// Share of the stretch in which repeats ran; the rest is rests, warm-ups of later cases, and writing.
    pub repeats_share: f64,
    /// Interval asked for.
    pub interval_s: f64,
    /// How regular the looks were; null with fewer than two.
    pub intervals: Option<IntervalStatistics>,
    /// Looks tried.
    pub attempts: u64,
    /// Looks that failed.
    pub failures: u64,
    /// How often each error came.
    pub failure_messages: BTreeMap<String, u64>,
    /// Metrics that failed in looks that did not.
    pub failed_metrics: u64,
    /// Repeats of which a look at an end failed or came too late.
    pub repeats_missed: u64,
    /// When the device was first found lost; null if never.
    pub lost_at_s: Option<f64>,
    /// Time of the last successful look; null without one.
    pub last_good_s: Option<f64>,
    /// Metrics over time; one that is not supported is absent here and named in `unsupported`.
    pub metrics: BTreeMap<String, TimeWeighted>,
    /// Energy of the whole stretch, rests included; null if it cannot be told.
    pub energy_j: Option<f64>,
    /// `nvml:counter` or `nvml:power`; null with `energy_j`.
    pub energy_source: Option<String>,
    /// Reasons that held the clocks down.
    pub throttle: Vec<ThrottleShare>,
    /// Share of the looks with a slowdown (heat, hardware); null if reasons are not supported.
    pub slowdown_share: Option<f64>,
    /// Share of the looks at the power limit; null if reasons are not supported.
    pub power_limit_share: Option<f64>,
    /// (largest − smallest) / median of the SM clocks of the repeats of one case, the worst case; null with fewer than two repeats.
    pub sm_clock_spread: Option<f64>,
    /// New uncorrected ECC errors; null if not supported.
    pub ecc_uncorrected: Option<u64>,
    /// Most processes with a compute context at one time; null if not supported.
    pub processes_max: Option<u32>,
    /// Most of them that were not this process; null if not supported.
    pub other_processes_max: Option<u32>,
    /// Metrics no look could read.
    pub unsupported: Vec<String>,
}

impl GpuBlock {
    /// The block of `telemetry` with its `summary`; the parts that need rows are for the caller to fill.
    pub fn new(telemetry: &GpuTelemetry, summary: GpuSummary, ran_here: bool) -> Self {
        let device = &telemetry.device;
        let length = summary.to_s - summary.from_s;
        let in_repeats: f64 = telemetry
            .repeats
            .iter()
            .filter(|repeat| repeat.start_s >= summary.from_s && repeat.end_s <= summary.to_s)
            .map(|repeat| repeat.end_s - repeat.start_s)
            .sum();
        Self {
            name: device.name.clone(),
            uuid: device.uuid.clone(),
            cuda_ordinal: device.cuda_ordinal,
            driver_version: telemetry.driver_version.clone(),
            memory_bytes: device.memory_bytes,
            power_limit_w: device.power_limit_w,
            ran_here,
            before: telemetry.before.as_ref().map(GpuBefore::from),
            from_s: summary.from_s,
            to_s: summary.to_s,
            repeats_share: if length > 0.0 { (in_repeats / length).min(1.0) } else { 0.0 },
            interval_s: telemetry.interval_s,
            intervals: summary.intervals,
            attempts: summary.attempts,
            failures: summary.failures,
            failure_messages: summary.failure_messages,
            failed_metrics: summary.failed_metrics,
            repeats_missed: telemetry.repeats.iter().filter(|repeat| !repeat.looked).count() as u64,
            lost_at_s: summary.lost_at_s,
            last_good_s: summary.last_good_s,
            metrics: summary.metrics,
            energy_j: summary.energy_j,
            energy_source: summary.energy_source,
            throttle: summary.throttle,
            slowdown_share: summary.slowdown_share,
            power_limit_share: summary.power_limit_share,
            sm_clock_spread: None,
            ecc_uncorrected: summary.ecc_uncorrected,
            processes_max: summary.processes_max,
            other_processes_max: summary.other_processes_max,
            unsupported: summary.unsupported,
        }
    }
}

impl From<&GpuState> for GpuBefore {
    fn from(state: &GpuState) -> Self {
        let reading = &state.reading;
        Self {
            utilisation: reading.utilisation,
            memory_used_bytes: reading.memory_used_bytes.map(|bytes| bytes as u64),
            processes: reading.processes,
            power_w: reading.power_w,
            sm_mhz: reading.sm_mhz,
            temperature_c: reading.temperature_c,
            throttle_reasons: crate::hardware::nvml::reasons(reading.throttle_reasons.unwrap_or(0))
                .map(|(name, _)| name.to_owned())
                .collect(),
            persistence_mode: state.persistence_mode,
        }
    }
}
