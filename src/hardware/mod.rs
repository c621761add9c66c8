//! The machine: what it is, what it can do at the most, and what else it was doing meanwhile.
//!
//! Everything here reads the machine and returns values; nothing here prints, and nothing that is missing stops a run: a figure
//! that cannot be had is `None`, with the reason in words where somebody could do something about it.

pub mod ceilings;
pub mod contention;
pub mod energy;
pub mod identify;
pub mod memory;
pub mod nvml;
pub mod peaks;
pub mod resolve;
pub mod tools;

pub use resolve::{DeviceRef, MeasurePolicy, PeakKind, PeakOverrides, PeakValue, ResolvedHardware, resolve};
