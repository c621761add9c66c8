//! Compares what was measured: pairing, effect, verdict, and where the difference comes from.
//!
//! Everything here is pure. [`subject::Subject`] is the one form in which anything can be compared, whether it was measured by `stage1`, `ab` or
//! `load`, read from a trace, or imported from another tool; [`result::CompareMetrics`] is the one form of the answer. Readers are in
//! `import`, the statistics of single numbers in `crate::stats`.

pub mod attribution;
pub mod cost;
pub mod effect;
pub mod equal_work;
mod evidence;
mod fact_rules;
mod family;
pub mod gate;
pub mod gate_rule;
pub mod import;
pub mod judge;
pub mod measure;
mod pairing;
pub mod result;
mod sentences;
pub mod settings;
pub mod stored;
pub mod subject;
mod verdict;
mod words;

#[cfg(test)]
mod testing;
