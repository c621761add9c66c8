//! Traces in memory and the readers and writers of trace files. Computes no statistic.

pub mod strings;
pub mod timeline;
