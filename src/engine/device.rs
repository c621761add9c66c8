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
    /// A library of the CUDA toolkit is missing.
    #[error("`device=cuda:{index}` cannot be used: {name} of the CUDA toolkit cannot be loaded")]
    MissingLibrary {
        /// The device asked for.
        index: usize,
        /// Its file name.
        name: String,
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
            Self::NotBuilt { .. } => "use `device=cpu`, or build with `scripts/build-cuda.sh`",
            Self::NoDriver { .. } => "use `device=cpu`; `perfprof doctor` says what this machine lacks",
            Self::MissingLibrary { .. } => {
                "put the folder of the CUDA 13 libraries on LD_LIBRARY_PATH (with pip: .../site-packages/nvidia/cu13/lib); `perfprof doctor` shows which are found"
            }
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
    find_libraries(index, &["libcublas.so.13", "libcurand.so.10"])?;
    let device = Device::new_cuda_with_stream(index).map_err(|error| refused(index, &error))?;
    if let Device::Cuda(cuda) = &device {
        // One stream runs everything, so no tensor has to wait for another stream; two events for each would be in every measurement.
        // SAFETY: no other stream of this context touches the tensors.
        unsafe { cuda.disable_event_tracking() };
    }
    Ok(device)
}

/// Our kernels' own view of CUDA device `index`: one context, one non-blocking stream.
#[cfg(feature = "cuda")]
pub fn backend(index: usize) -> Result<super::gpu::backend::SharedBackend, DeviceError> {
    find_libraries(index, &[])?;
    let backend = super::gpu::cuda::CudaBackend::open(index).map_err(|error| refused(index, &error))?;
    Ok(backend)
}

/// Our kernels' own view of CUDA device `index`.
#[cfg(not(feature = "cuda"))]
pub fn backend(index: usize) -> Result<super::gpu::backend::SharedBackend, DeviceError> {
    Err(DeviceError::NotBuilt { index })
}

/// Our kernels' view of the stream that candle's device works on; `None` for the CPU.
pub fn backend_of(device: &Device) -> Option<Result<super::gpu::backend::SharedBackend, DeviceError>> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(cuda) => {
            let backend = super::gpu::cuda::CudaBackend::on(cuda.cuda_stream());
            Some(
                backend
                    .map(|backend| backend as super::gpu::backend::SharedBackend)
                    .map_err(|error| refused(0, &error)),
            )
        }
        _ => None,
    }
}

#[cfg(feature = "cuda")]
fn refused(index: usize, error: &dyn std::fmt::Display) -> DeviceError {
    let reason = error.to_string();
    DeviceError::Refused { index, reason: reason.lines().next().unwrap_or_default().to_owned() }
}

/// cudarc panics where a library is missing, so the driver and `more` are looked for first.
#[cfg(feature = "cuda")]
fn find_libraries(index: usize, more: &[&str]) -> Result<(), DeviceError> {
    if !has_library("libcuda.so.1") {
        return Err(DeviceError::NoDriver { index, reason: "libcuda.so.1 cannot be loaded".to_owned() });
    }
    match more.iter().find(|name| !has_library(name)) {
        Some(missing) => Err(DeviceError::MissingLibrary { index, name: (*missing).to_owned() }),
        None => Ok(()),
    }
}

/// Whether the loader finds a library of the driver or the toolkit, under this name or the one without a version, as cudarc looks for it.
#[cfg(feature = "cuda")]
pub(super) fn has_library(name: &str) -> bool {
    let found = |name: &str| {
        let Ok(name) = std::ffi::CString::new(name) else { return false };
        // SAFETY: loading such a library runs its initialisers only; the handle is kept until the process ends.
        !unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_LAZY) }.is_null()
    };
    found(name) || name.split_once(".so").is_some_and(|(stem, _)| found(&format!("{stem}.so")))
}
