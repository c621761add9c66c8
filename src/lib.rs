//! perfprof: profiles LLM inference.
//!
//! The modules, in dependency order; each may import only what stands above it (`tests/it/imports.rs` keeps it so).

#![deny(missing_docs)]

pub mod diagnostics;
pub mod net;
pub mod stats;
pub mod units;

pub mod estimate;
pub mod record;
pub mod trace;

pub mod analysis;
pub mod cli;
pub mod commands;
pub mod compare;
pub mod config;
pub mod engine;
pub mod hardware;
pub mod instrument;
pub mod load;
pub mod report;
pub mod runner;
pub mod server;
