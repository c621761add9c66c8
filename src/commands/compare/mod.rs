//! `perfprof compare`.

pub mod inputs;
