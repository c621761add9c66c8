//! Pure statistics: no clock, no file, no random number without a seed in the arguments.

pub mod autocorrelation;
pub mod bootstrap;
pub mod changepoint;
pub mod equivalence;
pub mod hodges_lehmann;
pub mod knee;
pub mod multiplicity;
pub mod outliers;
pub mod permutation;
pub mod power;
pub mod quantile;
pub mod rank_test;
pub mod ratio;
pub mod slow_first;
pub mod steady_state;
pub mod summary;
pub mod weighted;

#[cfg(test)]
mod simulation_tests;
