//! The load generator: which requests, when they are sent, how they are sent, and what is noted of the answers.
//!
//! `workload` and `arrival` say what is sent and when; `client` sends it and stamps what comes back; rows are what is left of it. What rows mean is summed up
//! in `runner::load`.

pub mod arrival;
#[cfg(test)]
mod arrival_tests;
pub mod client;
pub mod executor;
pub mod telemetry;
pub mod workload;
