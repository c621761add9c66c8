//! Opens the device a run computes on. Nothing falls back in silence: a device that is not there is an error.

use candle_core::Device;

/// The device tensors live on.
pub type EngineDevice = Device;

/// Why a device cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// This binary has no CUDA code.
    #[error("this perfprof was built without CUDA, so `device=cuda:{index}` cannot be used")]
    NotBuilt {
        /// The device asked for.
        index: usize,
    },
    /// No driver on this machine.
    #[error("`device=cuda:{index}` cannot be used: no NVIDIA driver was found ({reason})")]
    NoDriver {
        /// The device asked for.
        index: usize,
        /// What the loader said.
        reason: String,
    },
    /// The driver refused.
    #[error("`device=cuda:{index}` cannot be used: {reason}")]
    Refused {
        /// The device asked for.
        index: usize,
        /// What the driver said.
        reason: String,
    },
}

impl DeviceError {
    /// What the user can do.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NotBuilt { .. } => "use `device=cpu`, or build with `cargo build --release --features cuda`",
            Self::NoDriver { .. } => "use `device=cpu`; `perfprof doctor` says what this machine lacks",
            Self::Refused { .. } => "`nvidia-smi -L` lists the devices; `perfprof doctor` says what this machine lacks",
        }
    }
}

/// The host processor.
pub fn cpu() -> Device {
    Device::Cpu
}

/// The CUDA device `index`.
#[cfg(not(feature = "cuda"))]
pub fn cuda(index: usize) -> Result<Device, DeviceError> {
    Err(DeviceError::NotBuilt { index })
}

/// The CUDA device `index`, on one explicit non-blocking stream.
#[cfg(feature = "cuda")]
pub fn cuda(index: usize) -> Result<Device, DeviceError> {
    // cudarc panics where the driver library is missing, so it is looked for first.
    // SAFETY: loading the driver library runs its initialisers only; the handle is kept until the process ends.
    let driver = unsafe { libc::dlopen(c"libcuda.so.1".as_ptr(), libc::RTLD_LAZY) };
    if driver.is_null() {
        return Err(DeviceError::NoDriver { index, reason: "libcuda.so.1 cannot be loaded".to_owned() });
    }
    Device::new_cuda_with_stream(index).map_err(|error| DeviceError::Refused { index, reason: error.to_string() })
}
