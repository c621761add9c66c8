//! The run directory: what lands on disk, in which order, and how it is read back.

pub mod metrics;
pub mod rows;
