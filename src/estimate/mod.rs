//! The analytic model: what a decoder must compute and move, from its architecture alone.
//!
//! Pure: no file, no clock, no device. Every formula names its source; `docs/METRICS.md` repeats them for users.

pub mod architecture;
pub mod cost;
pub mod flops;
pub mod format;
pub mod from_hf;
pub mod kv_cache;
pub mod memory;
pub mod operator;
pub mod parameters;
pub mod roofline;
pub mod step;

#[cfg(test)]
pub(crate) mod test_models;
