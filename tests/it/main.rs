//! One integration-test binary, a module per subject.

mod docs;
mod imports;
mod scripts;
