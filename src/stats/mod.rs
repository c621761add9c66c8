//! Pure statistics: no clock, no file, no random number without a seed in the arguments.

pub mod bootstrap;
pub mod outliers;
pub mod quantile;
pub mod slow_first;
pub mod steady_state;
pub mod summary;
