//! The built-in tracer of CUDA: activity records of CUPTI, joined with our own ranges into a [`Timeline`](crate::trace::timeline::Timeline).
//!
//! `records` holds the records as plain data, `clock` sets CUPTI's clock against our ticks, `assemble` makes the timeline of both: these know
//! nothing of CUPTI and are tested in every build. `collector` and `decode`, behind the feature `cuda`, are all that talks to the library.

pub mod assemble;
pub mod clock;
#[cfg(feature = "cuda")]
mod collector;
#[cfg(feature = "cuda")]
mod decode;
pub mod error;
pub mod records;

pub use assemble::{Assembled, KernelNames, assemble};
pub use error::TracerError;
pub use records::Recording;

/// Where activity records come from.
pub trait ActivitySource {
    /// Starts recording. Nothing that runs before is in the recording.
    ///
    /// # Errors
    /// If CUPTI refuses; nothing is then recorded.
    fn begin(&mut self) -> Result<(), TracerError>;

    /// Stops recording and hands over what was recorded since [`Self::begin`]. The device must have no work left.
    ///
    /// # Errors
    /// If CUPTI refuses to hand its buffers over.
    fn end(&mut self) -> Result<Recording, TracerError>;
}

/// Opens CUPTI, and tries whether it records.
///
/// # Errors
/// [`TracerError`] with what to do about it; in a build without the feature `cuda` always [`TracerError::NotBuiltIn`].
pub fn open() -> Result<Box<dyn ActivitySource>, TracerError> {
    #[cfg(feature = "cuda")]
    {
        Ok(Box::new(collector::Collector::open()?))
    }
    #[cfg(not(feature = "cuda"))]
    Err(TracerError::NotBuiltIn)
}
