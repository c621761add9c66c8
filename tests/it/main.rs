//! One integration-test binary, a module per subject.

mod loader;
mod stock;
mod tokenizer;
