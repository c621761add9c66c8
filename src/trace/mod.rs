//! Traces in memory and the readers and writers of trace files. Computes no statistic.

pub mod activity;
pub mod builder;
pub mod chrome;
pub mod detect;
pub mod export;
pub mod host;
pub mod import;
mod links;
pub mod merge;
pub mod ncu;
pub mod nsys;
pub mod parquet;
pub mod places;
pub mod strings;
pub mod timeline;
