//! One integration-test binary, a module per subject.

mod chromium;
mod config;
mod docs;
mod engine;
mod estimate;
mod hardware;
mod imports;
mod loader;
mod metrics_schema;
mod record;
mod report;
mod report_sample;
mod scripts;
mod stats;
mod stock;
mod tokenizer;
