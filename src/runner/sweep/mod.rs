//! What the points of a sweep say together: the best one under conditions, the Pareto front, maps over pairs of axes.

mod condition;
mod summary;

pub use condition::{Condition, ConditionError};
pub use summary::summarize;
