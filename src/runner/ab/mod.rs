//! A/B studies: which variant runs when, when it is enough, and what became of it.
//!
//! The order and the rule for the end are pure; processes are started by whoever implements [`drive::Launcher`].

pub mod drive;
pub mod plan;
pub mod rebuild;
#[cfg(test)]
mod simulation_tests;
pub mod steady;
pub mod stop;
pub mod widths;
