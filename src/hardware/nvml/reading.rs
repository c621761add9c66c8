//! One look at a device.

use nvml_wrapper::bitmasks::device::ThrottleReasons;
use serde::{Deserialize, Serialize};

/// One look at a device; null is "this device does not tell".
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct GpuReading {
    /// Share of the last sample period of the driver in which a kernel ran.
    pub utilisation: Option<f64>,
    /// Share of it in which memory was read or written.
    pub memory_utilisation: Option<f64>,
    /// Memory in use by everybody.
    pub memory_used_bytes: Option<f64>,
    /// Memory in use by this process, where the driver tells it apart.
    pub process_memory_bytes: Option<f64>,
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
    /// Processes with a compute context, this one included.
    pub processes: Option<u32>,
    /// Those of them that do not have the id of this process.
    pub other_processes: Option<u32>,
    /// Metrics that this look asked for in vain although the device has them.
    pub failed_metrics: u32,
}

/// Names of the metrics that are averaged over time, in the order of [`GpuReading::averaged`].
pub(super) const AVERAGED: [&str; 8] = [
    "utilisation",
    "memory_utilisation",
    "memory_used_bytes",
    "process_memory_bytes",
    "power_w",
    "sm_mhz",
    "memory_mhz",
    "temperature_c",
];

impl GpuReading {
    /// The metrics that are averaged over time.
    pub(super) fn averaged(&self) -> [Option<f64>; 8] {
        [
            self.utilisation,
            self.memory_utilisation,
            self.memory_used_bytes,
            self.process_memory_bytes,
            self.power_w,
            self.sm_mhz,
            self.memory_mhz,
            self.temperature_c,
        ]
    }
}

/// What is read once a second on a thread of its own: NVML measures PCIe traffic over 20 ms within the call.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct SlowReading {
    /// PCIe traffic to the device.
    pub pcie_rx_bytes_per_s: Option<f64>,
    /// PCIe traffic from the device.
    pub pcie_tx_bytes_per_s: Option<f64>,
    /// Uncorrected ECC errors since the driver was loaded.
    pub ecc_uncorrected: Option<u64>,
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

    /// Reads what takes long to read; a source without such metrics tells none.
    ///
    /// # Errors
    /// If nothing at all could be read.
    fn read_slow(&mut self) -> Result<SlowReading, GpuFailure> {
        Ok(SlowReading::default())
    }
}

/// What a reason that holds the clocks down means for a measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ThrottleEffect {
    /// Nothing to do, or clocks that the user set.
    Harmless,
    /// The power limit: how a board under full load works, and comparable only under the same limit.
    PowerLimit,
    /// Heat, a hardware slowdown or another board: the device ran slower than it does.
    Slowdown,
}

/// NVML's reasons, their names, and what they mean.
const THROTTLE: [(ThrottleReasons, &str, ThrottleEffect); 9] = [
    (ThrottleReasons::GPU_IDLE, "gpu_idle", ThrottleEffect::Harmless),
    (ThrottleReasons::APPLICATIONS_CLOCKS_SETTING, "applications_clocks_setting", ThrottleEffect::Harmless),
    (ThrottleReasons::DISPLAY_CLOCK_SETTING, "display_clock_setting", ThrottleEffect::Harmless),
    (ThrottleReasons::SW_POWER_CAP, "sw_power_cap", ThrottleEffect::PowerLimit),
    (ThrottleReasons::HW_SLOWDOWN, "hw_slowdown", ThrottleEffect::Slowdown),
    (ThrottleReasons::SYNC_BOOST, "sync_boost", ThrottleEffect::Slowdown),
    (ThrottleReasons::SW_THERMAL_SLOWDOWN, "sw_thermal_slowdown", ThrottleEffect::Slowdown),
    (ThrottleReasons::HW_THERMAL_SLOWDOWN, "hw_thermal_slowdown", ThrottleEffect::Slowdown),
    (ThrottleReasons::HW_POWER_BRAKE_SLOWDOWN, "hw_power_brake_slowdown", ThrottleEffect::Slowdown),
];

/// The reasons in `bits` (NVML's clock event reasons) with their names and meaning.
pub fn reasons(bits: u64) -> impl Iterator<Item = (&'static str, ThrottleEffect)> {
    THROTTLE.into_iter().filter(move |(reason, _, _)| bits & reason.bits() != 0).map(|(_, name, effect)| (name, effect))
}

/// Names of the reasons in `bits` that slow work down.
pub fn harmful_reasons(bits: u64) -> Vec<&'static str> {
    reasons(bits).filter(|(_, effect)| *effect != ThrottleEffect::Harmless).map(|(name, _)| name).collect()
}

/// Whether `bits` hold a reason with this effect.
pub(super) fn has(bits: u64, effect: ThrottleEffect) -> bool {
    reasons(bits).any(|(_, found)| found == effect)
}
