//! One integration-test binary, a module per subject.

mod docs;
mod imports;
mod scripts;
mod config;
mod loader;
mod stock;
mod tokenizer;
mod hardware;
mod chromium;
mod report;
mod report_sample;
mod metrics_schema;
mod record;
mod estimate;
mod stats;
