//! The in-process engine: candle tensors, our own instrumented decoder and CPU operators.
//!
//! Knows NVTX and CUDA events only through [`crate::instrument::observer::Observer`]; writes no record and prints nothing.

pub mod device;
pub mod generate;
pub mod gpu;
pub mod kv_cache;
pub mod loader;
pub mod models;
pub mod ops;
pub mod quality;
pub mod sampling;
pub mod threads;
pub mod tokenizer;
pub mod weights;

/// Errors of the tensor library, for callers that may not name it.
pub mod error {
    pub use candle_core::Error;
}
