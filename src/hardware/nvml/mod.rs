//! What a graphics processor did over time: a thread of its own looks at it every few milliseconds.
//!
//! The sampler never holds up what it watches, and it never invents: a metric the device does not have is null, a look that
//! failed is counted, and means are weighted with the time that really passed between looks.

mod reading;
mod sampler;
mod series;
mod source;
#[cfg(test)]
mod tests;

pub use reading::{GpuFailure, GpuReading, GpuSource, SlowReading, ThrottleEffect, harmful_reasons, reasons};
pub use sampler::{GpuSampler, INTERVALS};
pub use series::{
    ENERGY_UPDATES, GpuGap, GpuSample, GpuSeries, GpuSummary, GpuUse, IntervalStatistics, SlowSample, ThrottleShare,
    TimeWeighted,
};
pub use source::NvmlSource;
