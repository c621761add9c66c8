//! One integration-test binary, a module per subject.

mod metrics_schema;
mod record;
