//! One integration-test binary, a module per subject.

mod estimate;
mod stats;
