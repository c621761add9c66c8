//! Readings of a real device through NVML.

use nvml_wrapper::enum_wrappers::device::{Clock, EccCounter, MemoryError, PcieUtilCounter, TemperatureSensor};
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};

use super::reading::{GpuFailure, GpuReading, GpuSource, SlowReading};
use crate::hardware::identify::{GpuIdentity, nvml_reason};

/// Readings of a real device.
pub struct NvmlSource {
    nvml: Nvml,
    uuid: Option<String>,
    index: u32,
    process: u32,
}

impl NvmlSource {
    /// A source for `device`, held by its UUID, so that a change of order cannot put another device in its place.
    ///
    /// # Errors
    /// Why NVML cannot be used, in words.
    pub fn open(device: &GpuIdentity) -> Result<Self, String> {
        let nvml = Nvml::init().map_err(|error| nvml_reason(&error))?;
        Ok(Self { nvml, uuid: device.uuid.clone(), index: device.nvml_index, process: std::process::id() })
    }

    /// Whether the driver stays loaded when nobody uses the device; `None` where the platform has no such mode.
    pub fn persistence_mode(&self) -> Option<bool> {
        self.device().ok()?.is_in_persistent_mode().ok()
    }

    fn device(&self) -> Result<Device<'_>, GpuFailure> {
        match &self.uuid {
            Some(uuid) => self.nvml.device_by_uuid(uuid.as_str()),
            None => self.nvml.device_by_index(self.index),
        }
        .map_err(|error| failure(&error))
    }
}

fn failure(error: &NvmlError) -> GpuFailure {
    match error {
        NvmlError::GpuLost | NvmlError::DriverNotLoaded | NvmlError::NotFound => GpuFailure::Lost(error.to_string()),
        other => GpuFailure::Failed(other.to_string()),
    }
}

/// Whether the device, or the driver on it, does not have what was asked for.
fn unsupported(error: &NvmlError) -> bool {
    matches!(
        error,
        NvmlError::NotSupported
            | NvmlError::NoPermission
            | NvmlError::FunctionNotFound
            | NvmlError::FailedToLoadSymbol(_)
    )
}

/// What went wrong with single metrics of one look.
#[derive(Default)]
struct Tally {
    failed: u32,
    lost: Option<String>,
}

impl Tally {
    /// The value, `None` where there is none to have; a metric that failed otherwise is counted.
    fn metric<T>(&mut self, result: Result<T, NvmlError>) -> Option<T> {
        let error = match result {
            Ok(value) => return Some(value),
            Err(error) => error,
        };
        if matches!(error, NvmlError::GpuLost) {
            self.lost = Some(error.to_string());
        }
        self.failed += u32::from(!unsupported(&error));
        None
    }
}

impl GpuSource for NvmlSource {
    fn read(&mut self) -> Result<GpuReading, GpuFailure> {
        let device = self.device()?;
        // Nearly every device knows its memory, so a failure of this call is one of the whole look.
        let memory = match device.memory_info() {
            Ok(memory) => Some(memory.used as f64),
            Err(error) if unsupported(&error) => None,
            Err(error) => return Err(failure(&error)),
        };
        let mut tally = Tally::default();
        let utilisation = tally.metric(device.utilization_rates());
        let list = tally.metric(device.running_compute_processes());
        let own = list.as_ref().and_then(|list| list.iter().find(|process| process.pid == self.process));
        let mut reading = GpuReading {
            utilisation: utilisation.as_ref().map(|rates| f64::from(rates.gpu) / 100.0),
            memory_utilisation: utilisation.as_ref().map(|rates| f64::from(rates.memory) / 100.0),
            memory_used_bytes: memory,
            process_memory_bytes: own.and_then(|own| match own.used_gpu_memory {
                UsedGpuMemory::Used(bytes) => Some(bytes as f64),
                UsedGpuMemory::Unavailable => None,
            }),
            power_w: tally.metric(device.power_usage()).map(|milliwatts| f64::from(milliwatts) / 1e3),
            energy_j: tally.metric(device.total_energy_consumption()).map(|millijoules| millijoules as f64 / 1e3),
            sm_mhz: tally.metric(device.clock_info(Clock::SM)).map(f64::from),
            memory_mhz: tally.metric(device.clock_info(Clock::Memory)).map(f64::from),
            temperature_c: tally.metric(device.temperature(TemperatureSensor::Gpu)).map(f64::from),
            throttle_reasons: tally.metric(device.current_throttle_reasons()).map(|reasons| reasons.bits()),
            processes: list.as_ref().map(|list| list.len() as u32),
            other_processes: list
                .as_ref()
                .map(|list| list.iter().filter(|process| process.pid != self.process).count() as u32),
            failed_metrics: 0,
        };
        if let Some(message) = tally.lost {
            return Err(GpuFailure::Lost(message));
        }
        reading.failed_metrics = tally.failed;
        Ok(reading)
    }

    fn read_slow(&mut self) -> Result<SlowReading, GpuFailure> {
        let device = self.device()?;
        // NVML gives KB/s.
        let pcie = |counter| device.pcie_throughput(counter).ok().map(|kilobytes| f64::from(kilobytes) * 1e3);
        Ok(SlowReading {
            pcie_rx_bytes_per_s: pcie(PcieUtilCounter::Receive),
            pcie_tx_bytes_per_s: pcie(PcieUtilCounter::Send),
            ecc_uncorrected: device.total_ecc_errors(MemoryError::Uncorrected, EccCounter::Volatile).ok(),
        })
    }
}
