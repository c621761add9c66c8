//! Marks the measured region for a profiler that waits for it (`nsys profile --capture-range=cudaProfilerApi`, `ncu --profile-from-start off`).
//!
//! The calls are the driver's, `cuProfilerStart` and `cuProfilerStop`, which the runtime's `cudaProfilerStart` and `cudaProfilerStop` come down
//! to. The driver is asked for only if it is in the process already: a run on the CPU does not load it for the sake of a mark.

/// The measured region, from [`MeasuredRegion::begin`] until it is dropped.
#[derive(Debug)]
pub struct MeasuredRegion {
    driver: Option<Driver>,
}

/// The two functions of a loaded driver.
#[derive(Debug, Clone, Copy)]
struct Driver {
    start: unsafe extern "C" fn() -> i32,
    stop: unsafe extern "C" fn() -> i32,
}

impl MeasuredRegion {
    /// Tells a waiting profiler to start. Without a driver in the process it does nothing.
    pub fn begin() -> Self {
        let driver = Driver::loaded();
        if let Some(driver) = driver {
            // SAFETY: both functions take nothing and return a number; they are the driver's own.
            let code = unsafe { (driver.start)() };
            tracing::debug!(code, "cuProfilerStart");
        }
        Self { driver }
    }

    /// Whether there was a driver to tell.
    pub fn is_marked(&self) -> bool {
        self.driver.is_some()
    }
}

impl Drop for MeasuredRegion {
    fn drop(&mut self) {
        if let Some(driver) = self.driver {
            // SAFETY: as at the begin; the library stays loaded, since it was not this process' part to load it here.
            let code = unsafe { (driver.stop)() };
            tracing::debug!(code, "cuProfilerStop");
        }
    }
}

impl Driver {
    /// The functions of the driver that is in this process, if it is.
    #[cfg(target_os = "linux")]
    fn loaded() -> Option<Self> {
        type Function = unsafe extern "C" fn() -> i32;
        // SAFETY: with RTLD_NOLOAD nothing is loaded and no code of the library runs.
        let library = unsafe { libc::dlopen(c"libcuda.so.1".as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD) };
        if library.is_null() {
            return None;
        }
        let function = |name: &std::ffi::CStr| {
            // SAFETY: the handle is the one of above.
            let address = unsafe { libc::dlsym(library, name.as_ptr()) };
            // SAFETY: in every version of the driver the two functions are `CUresult f(void)`.
            (!address.is_null()).then(|| unsafe { std::mem::transmute::<*mut libc::c_void, Function>(address) })
        };
        // The handle is never closed: the functions stay valid for as long as the process lives.
        Some(Self { start: function(c"cuProfilerStart")?, stop: function(c"cuProfilerStop")? })
    }

    #[cfg(not(target_os = "linux"))]
    fn loaded() -> Option<Self> {
        None
    }
}
