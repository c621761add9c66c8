//! Traces in memory and the readers and writers of trace files. Computes no statistic.

pub mod activity;
pub mod builder;
pub mod host;
pub mod import;
mod links;
pub mod nsys;
pub mod places;
pub mod strings;
pub mod timeline;
