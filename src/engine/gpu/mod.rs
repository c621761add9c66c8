//! The GPU engine: our own kernels on a device behind [`backend::GpuBackend`], and the decoder made of them.

pub mod backend;
pub mod bench;
pub mod ceilings;
pub mod check;
pub mod clock;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod decoder;
pub mod kernel;
pub mod launch;
#[cfg(feature = "cuda")]
mod nvrtc;
pub mod pack;
pub mod weights;
