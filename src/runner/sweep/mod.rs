//! Sweeps: which point runs when, what became of it, and what the points say together (the best one under conditions, the Pareto front, maps
//! over pairs of axes).
//!
//! How a point is run is up to whoever implements [`PointRunner`]: `perfprof stage1` or `perfprof load` in a process of its own.

mod condition;
mod drive;
mod measures;
mod summary;

pub use condition::{Condition, ConditionError, GoalError, check_goals};
pub use drive::{Outlook, PointEnd, PointRunner, SweepEnd, SweepLimits, SweepStop, run, to_do};
pub use measures::{load_result, measures_of};
pub use summary::summarize;
