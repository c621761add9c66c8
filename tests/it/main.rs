//! One integration-test binary, a module per subject.

mod chromium;
mod report;
mod report_sample;
