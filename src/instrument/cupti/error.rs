//! Why there is no trace.

/// Why the built-in tracer cannot record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TracerError {
    /// The feature `cuda` is off.
    #[error("this build has no CUPTI tracer")]
    NotBuiltIn,
    /// libcupti is not on the library path.
    #[error("libcupti cannot be loaded: tried {}", tried.join(", "))]
    NoLibrary {
        /// The names that were tried.
        tried: Vec<String>,
    },
    /// The library is older than the layout of records this build reads.
    #[error("libcupti is of version {found}, and this build reads records of CUDA 13 or newer")]
    TooOld {
        /// `CUPTI_API_VERSION` of the library.
        found: u32,
    },
    /// Another client of CUPTI is in the process.
    #[error("another profiler holds CUPTI in this process")]
    AnotherProfiler,
    /// The driver lets nobody but the administrator profile.
    #[error("the driver does not let this user profile")]
    Privileges,
    /// The device is a virtual one whose host forbids profiling, or runs confidentially.
    #[error("this device cannot be profiled: {text}")]
    Device {
        /// CUPTI's own words.
        text: String,
    },
    /// A tracer is open already; CUPTI's callbacks know no owner.
    #[error("a CUPTI tracer is open already in this process")]
    AlreadyOpen,
    /// Any other refusal.
    #[error("{call} failed: {text} (CUPTI error {code})")]
    Call {
        /// The function.
        call: &'static str,
        /// The number of the result.
        code: u32,
        /// CUPTI's own words.
        text: String,
    },
    /// The thread that decodes records is gone.
    #[error("the thread that decodes activity records ended early; this is a defect")]
    WorkerGone,
}

/// Results of CUPTI that a user can do something about.
mod code {
    pub(super) const NOT_INITIALIZED: u32 = 15;
    pub(super) const HARDWARE_BUSY: u32 = 26;
    pub(super) const VIRTUALIZED_DEVICE_NOT_SUPPORTED: u32 = 33;
    pub(super) const INSUFFICIENT_PRIVILEGES: u32 = 35;
    pub(super) const OLD_PROFILER_API_INITIALIZED: u32 = 36;
    pub(super) const MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED: u32 = 39;
    pub(super) const VIRTUALIZED_DEVICE_INSUFFICIENT_PRIVILEGES: u32 = 40;
    pub(super) const CONFIDENTIAL_COMPUTING_NOT_SUPPORTED: u32 = 41;
    pub(super) const UNKNOWN: u32 = 999;
}

impl TracerError {
    /// The error of a call that returned `code`, in CUPTI's own words `text`.
    pub fn of_call(call: &'static str, code: u32, text: &str) -> Self {
        match code {
            code::INSUFFICIENT_PRIVILEGES | code::VIRTUALIZED_DEVICE_INSUFFICIENT_PRIVILEGES => Self::Privileges,
            code::MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED | code::OLD_PROFILER_API_INITIALIZED | code::HARDWARE_BUSY => {
                Self::AnotherProfiler
            }
            code::VIRTUALIZED_DEVICE_NOT_SUPPORTED | code::CONFIDENTIAL_COMPUTING_NOT_SUPPORTED => {
                Self::Device { text: text.to_owned() }
            }
            _ => Self::Call { call, code, text: text.to_owned() },
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::NotBuiltIn => {
                "build with `scripts/build-cuda.sh`; elsewhere `nsys profile` traces the run, see docs/GPU.md"
            }
            Self::NoLibrary { .. } | Self::TooOld { .. } => {
                "put the folder of libcupti.so.13 on LD_LIBRARY_PATH: extras/CUPTI/lib64 of the toolkit, or nvidia/cu13/lib of the Python \
                 package nvidia-cuda-cupti"
            }
            Self::AnotherProfiler => {
                "run without nsys, ncu or another profiler around perfprof, or leave `trace=cupti` out and take their trace"
            }
            Self::Privileges => {
                "allow it for all users (NVreg_RestrictProfilingToAdminUsers=0 for the nvidia module, then reboot), run as root, or give the \
                 container CAP_SYS_ADMIN"
            }
            Self::Call { code: code::UNKNOWN | code::NOT_INITIALIZED, .. } => {
                "CUPTI says so where there is no driver or no GPU: see `perfprof doctor`"
            }
            Self::Call { .. } | Self::Device { .. } => {
                "`perfprof doctor` shows what this machine can do; `trace=none` runs without the tracer"
            }
            Self::AlreadyOpen | Self::WorkerGone => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_a_user_can_act_on_are_told_apart_and_each_has_a_hint() {
        let of = |code| TracerError::of_call("cuptiActivityEnable", code, "CUPTI_ERROR_X");
        assert_eq!(of(35), TracerError::Privileges);
        assert_eq!(of(40), TracerError::Privileges);
        assert_eq!(of(39), TracerError::AnotherProfiler);
        assert!(matches!(of(33), TracerError::Device { .. }));
        assert_eq!(of(7).to_string(), "cuptiActivityEnable failed: CUPTI_ERROR_X (CUPTI error 7)");
        assert!(of(35).hint().unwrap().contains("NVreg_RestrictProfilingToAdminUsers"));
        assert!(of(39).hint().unwrap().contains("nsys"));
        assert!(of(999).hint().unwrap().contains("doctor"));
        let missing = TracerError::NoLibrary { tried: vec!["libcupti.so.13".to_owned()] };
        assert!(missing.to_string().contains("libcupti.so.13") && missing.hint().unwrap().contains("LD_LIBRARY_PATH"));
    }
}
