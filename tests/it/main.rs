//! One integration-test binary, a module per subject.

mod chromium;
mod classify;
mod cli;
mod config;
mod docs;
mod engine;
mod estimate;
mod faults;
mod hardware;
mod imports;
mod loader;
mod metrics_schema;
mod record;
mod report;
mod report_sample;
mod sandbox;
mod scripts;
mod stage1;
mod stats;
mod stock;
mod tokenizer;
mod trace_ncu;
mod trace_nsys;
mod trace_waits;
mod trace_writer;
