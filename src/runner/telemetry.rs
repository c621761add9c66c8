//! Looks at the graphics processor while the repeats of a run go on.
//!
//! It is looked at first before anything of the run touches it, then every few milliseconds from the first warm-up to the last repeat,
//! and at the begin and end of each repeat. Nothing that is missing or fails here ends a run: it is a finding.

use std::time::Duration;

use crate::config::schema::choice::{DeviceChoice, GpuTelemetryMode};
use crate::config::schema::stage1::Stage1Config;
use crate::diagnostics::{Diagnostic, Severity};
use crate::hardware::identify::{GpuIdentity, GpuSystem, gpus};
use crate::hardware::nvml::{GpuSampler, GpuSeries, GpuSource, GpuUse, NvmlSource};
use crate::record::gpu::{GPU_SCHEMA_VERSION, GpuColumns, GpuRepeat, GpuState, GpuTelemetry, SlowColumns};
use crate::record::rows::{RepeatRow, RowStatus};

/// Looks at the ends of repeats that may fail in a row before no more are asked for: each that hangs costs the time it is waited for.
const PATIENCE: u32 = 3;

/// The device as it was before the run.
struct Found {
    device: GpuIdentity,
    driver_version: Option<String>,
    before: Option<GpuState>,
}

/// A first look at the device a run will use, made before the run opens it.
pub struct FirstLook(Option<Result<Found, String>>);

impl FirstLook {
    /// Looks, if `config` asks for it.
    pub fn new(config: &Stage1Config) -> Self {
        // `auto` can become a GPU only in a build that drives one.
        let may_run_there = match config.device {
            DeviceChoice::Cuda(_) => true,
            DeviceChoice::Auto => cfg!(feature = "cuda"),
            DeviceChoice::Cpu => false,
        };
        let wanted = match config.profiling.gpu_telemetry {
            GpuTelemetryMode::Off => false,
            GpuTelemetryMode::On => true,
            GpuTelemetryMode::Auto => may_run_there,
        };
        let ordinal = match config.device {
            DeviceChoice::Cuda(index) => index as u32,
            DeviceChoice::Auto | DeviceChoice::Cpu => 0,
        };
        Self(wanted.then(|| find(&gpus()?, ordinal, may_run_there)))
    }

    /// What to look at during a run on `device_id`, and what to tell the reader. Nothing, where the run went to the CPU and nobody asked
    /// for a GPU beside it.
    pub fn plan(self, config: &Stage1Config, device_id: &str) -> (Option<TelemetryPlan>, Vec<Diagnostic>) {
        let on_cpu = device_id == "cpu";
        let Some(found) = self.0.filter(|_| !on_cpu || config.profiling.gpu_telemetry == GpuTelemetryMode::On) else {
            return (None, Vec::new());
        };
        let unavailable = |reason: String| (None, vec![Diagnostic::new("gpu_unavailable", Severity::Warn, reason)]);
        let found = match found {
            Ok(found) => found,
            Err(reason) => return unavailable(reason),
        };
        let sources = NvmlSource::open(&found.device).and_then(|fast| Ok((fast, NvmlSource::open(&found.device)?)));
        let (fast, slow) = match sources {
            Ok(sources) => sources,
            Err(reason) => return unavailable(reason),
        };
        let mut findings = Vec::new();
        if found.device.mig == Some(true) {
            findings.push(Diagnostic::new(
                "gpu_mig",
                Severity::Warn,
                "MIG is on: power, clocks and memory are those of the whole GPU, all its instances together",
            ));
        }
        let interval = Duration::from_millis(config.profiling.gpu_interval_ms);
        (Some(TelemetryPlan { found, fast: Box::new(fast), slow: Box::new(slow), interval }), findings)
    }
}

/// The device `cuda:ordinal`, or for a run that will not use it the first there is.
fn find(system: &GpuSystem, ordinal: u32, runs_there: bool) -> Result<Found, String> {
    let device = system.by_ordinal(ordinal).or_else(|| system.devices.first().filter(|_| !runs_there));
    let device = device.ok_or_else(|| {
        let why = match (&system.ordinal_note, system.devices.is_empty()) {
            (_, true) => "the driver knows no device",
            (Some(note), _) => note,
            (None, _) => "CUDA_VISIBLE_DEVICES hides it, or there is none",
        };
        format!("GPU metrics unavailable: which device is cuda:{ordinal} is not known: {why}")
    })?;
    let before = NvmlSource::open(device).ok().and_then(|mut source| {
        let reading = source.read().ok()?;
        Some(GpuState { reading, persistence_mode: source.persistence_mode() })
    });
    Ok(Found { device: device.clone(), driver_version: system.driver_version.clone(), before })
}

/// What will be looked at.
pub struct TelemetryPlan {
    found: Found,
    fast: Box<dyn GpuSource>,
    slow: Box<dyn GpuSource>,
    interval: Duration,
}

impl TelemetryPlan {
    /// Starts looking.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start(self, run_id: &str) -> Result<Telemetry, String> {
        let sampler = GpuSampler::start(self.fast, Some(self.slow), self.interval)?;
        let file = GpuTelemetry {
            schema_version: GPU_SCHEMA_VERSION,
            run_id: run_id.to_owned(),
            complete: false,
            driver_version: self.found.driver_version,
            device: self.found.device,
            interval_s: sampler.interval().as_secs_f64(),
            before: self.found.before,
            repeats: Vec::new(),
            gaps: Vec::new(),
            samples: GpuColumns::default(),
            slow_samples: SlowColumns::default(),
        };
        Ok(Telemetry { sampler, file, began: None, ended: None, failed_in_a_row: 0 })
    }
}

/// A look at the begin or end of a repeat.
#[derive(Debug, Clone, Copy)]
struct Edge {
    /// When it was made; where it failed, when it was asked for.
    t_s: f64,
    seen: bool,
}

/// The looks at a device during a run.
#[derive(Debug)]
pub struct Telemetry {
    sampler: GpuSampler,
    file: GpuTelemetry,
    /// The look before the repeat in progress.
    began: Option<Edge>,
    /// The looks around the repeat that ended and has no row yet.
    ended: Option<(Edge, Edge)>,
    failed_in_a_row: u32,
}

impl Telemetry {
    /// What is known so far, without the looks.
    pub fn file(&self) -> &GpuTelemetry {
        &self.file
    }

    fn look(&mut self) -> Edge {
        let asked_s = self.sampler.now_s();
        let seen_s = if self.failed_in_a_row < PATIENCE { self.sampler.look() } else { None };
        self.failed_in_a_row = if seen_s.is_some() { 0 } else { self.failed_in_a_row + 1 };
        Edge { t_s: seen_s.unwrap_or(asked_s), seen: seen_s.is_some() }
    }

    /// A repeat begins.
    pub fn begin(&mut self) {
        self.ended = None;
        self.sampler.reserve();
        self.began = Some(self.look());
    }

    /// A repeat has ended: the device during it, or `None` if a look at its begin or end failed.
    pub fn end(&mut self) -> Option<GpuUse> {
        let began = self.began.take()?;
        let ended = self.look();
        self.ended = Some((began, ended));
        (began.seen && ended.seen).then(|| self.sampler.during(began.t_s, ended.t_s))
    }

    /// The repeat that ended last has this row.
    pub fn note(&mut self, row: &RepeatRow) {
        if let Some((began, ended)) = self.ended.take().filter(|_| row.status == RowStatus::Ok) {
            let looked = began.seen && ended.seen;
            self.file.repeats.push(GpuRepeat { row: row.index, start_s: began.t_s, end_s: ended.t_s, looked });
        }
    }

    /// Most device memory of this process during a repeat, and how it is known.
    pub fn peak_vram(&self, during: &GpuUse) -> Option<(u64, &'static str)> {
        let before = self.file.before.as_ref().and_then(|state| state.reading.memory_used_bytes);
        peak_vram(during, before.map(|bytes| bytes as u64))
    }

    /// Stops looking.
    pub fn finish(self) -> GpuTelemetry {
        let GpuSeries { samples, slow, gaps } = self.sampler.finish();
        GpuTelemetry {
            complete: true,
            gaps,
            samples: GpuColumns::of(&samples),
            slow_samples: SlowColumns::of(&slow),
            ..self.file
        }
    }
}

/// The memory of the process where the driver tells it; else that of the device less what was in use before the run.
fn peak_vram(during: &GpuUse, before: Option<u64>) -> Option<(u64, &'static str)> {
    let process = during.process_memory_bytes.map(|bytes| (bytes, "process"));
    process.or_else(|| Some((during.memory_used_bytes?.saturating_sub(before?), "device")))
}

/// Energy of the device that ran a repeat and its source: of a GPU its own, of the CPU that of its packages.
pub fn energy(on_cpu: bool, cpu_j: Option<f64>, gpu: Option<&GpuUse>) -> (Option<f64>, Option<String>) {
    if on_cpu {
        return (cpu_j, cpu_j.map(|_| "rapl".to_owned()));
    }
    gpu.map_or((None, None), |gpu| (gpu.energy_j, gpu.energy_source.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn during(process: Option<u64>, used: Option<u64>) -> GpuUse {
        GpuUse {
            window_ms: 200.0,
            looks: 5,
            energy_j: Some(40.0),
            energy_source: Some("nvml:counter".to_owned()),
            power_w: Some(200.0),
            sm_mhz: None,
            sm_mhz_min: None,
            memory_mhz: None,
            temperature_c: None,
            memory_used_bytes: used,
            process_memory_bytes: process,
            throttled_share: None,
            throttle_reasons: Vec::new(),
        }
    }

    #[test]
    fn the_energy_of_a_repeat_is_that_of_the_device_that_ran_it() {
        let gpu = during(None, None);
        assert_eq!(energy(true, Some(3.0), Some(&gpu)), (Some(3.0), Some("rapl".to_owned())));
        assert_eq!(energy(true, None, Some(&gpu)), (None, None), "a GPU that was watched ran nothing");
        assert_eq!(energy(false, Some(3.0), Some(&gpu)), (Some(40.0), Some("nvml:counter".to_owned())));
        assert_eq!(energy(false, Some(3.0), None), (None, None), "nor is the CPU what a GPU run is charged with");
    }

    #[test]
    fn memory_of_the_process_beats_what_the_device_gained() {
        assert_eq!(peak_vram(&during(Some(7), Some(100)), Some(90)), Some((7, "process")));
        assert_eq!(peak_vram(&during(None, Some(100)), Some(90)), Some((10, "device")));
        assert_eq!(
            peak_vram(&during(None, Some(100)), None),
            None,
            "without a look before the run nothing can be taken off"
        );
        assert_eq!(peak_vram(&during(None, None), Some(90)), None);
    }

    fn gpu(nvml_index: u32, cuda_ordinal: Option<u32>) -> GpuIdentity {
        GpuIdentity {
            nvml_index,
            cuda_ordinal,
            uuid: Some(format!("GPU-{nvml_index}")),
            name: None,
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

    #[test]
    fn the_device_looked_at_is_the_one_that_cuda_calls_so() {
        let system = |devices: Vec<GpuIdentity>, note: Option<&str>| GpuSystem {
            driver_version: None,
            nvml_version: None,
            cuda_driver_version: None,
            devices,
            ordinal_note: note.map(str::to_owned),
        };
        // As under CUDA_VISIBLE_DEVICES=2,0: cuda:0 is the third device of NVML.
        let swapped = system(vec![gpu(0, Some(1)), gpu(1, None), gpu(2, Some(0))], None);
        let uuid =
            |system: &GpuSystem, ordinal, runs| find(system, ordinal, runs).map(|found| found.device.uuid.unwrap());
        assert_eq!(uuid(&swapped, 0, true).unwrap(), "GPU-2");
        assert_eq!(uuid(&swapped, 1, true).unwrap(), "GPU-0");
        assert!(uuid(&swapped, 2, true).unwrap_err().contains("cuda:2"));
        let unordered = system(vec![gpu(0, None), gpu(1, None)], Some("the devices differ"));
        assert!(uuid(&unordered, 0, true).unwrap_err().contains("the devices differ"), "no guess for a run on it");
        assert_eq!(uuid(&unordered, 0, false).unwrap(), "GPU-0", "the first will do to watch");
        assert!(uuid(&system(Vec::new(), None), 0, false).unwrap_err().contains("no device"));
    }
}
