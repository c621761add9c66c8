//! Why one subject is slower or faster than another: the change of each phase taken apart into operators, kernels and idle time.
//!
//! Two sources: [`attribute_operators`] for subjects that carry operator tables, [`attribute_traces`] for two GPU traces at hand, which also
//! know idle time, overlap and the order of kernels. In both the rows of a phase add up to the change of its time.

mod align;
mod amounts;
mod families;
mod kernels;
mod layers;
mod matching;
mod names;
mod noise;
mod operators;
mod parts;
mod profile;
mod sentences;

#[cfg(test)]
mod kernels_tests;
#[cfg(test)]
mod operators_tests;
#[cfg(test)]
mod oracle_tests;
#[cfg(test)]
mod test_traces;

pub use self::kernels::attribute_traces;
pub(super) use self::names::normal_name;
pub use self::operators::attribute_operators;

use crate::analysis::classify::Classifier;
use crate::analysis::steps::PhasePatterns;
use crate::trace::timeline::Timeline;

/// One of two traces.
#[derive(Debug, Clone, Copy)]
pub struct TraceSide<'a> {
    /// What the reports call it.
    pub label: &'a str,
    /// The trace.
    pub timeline: &'a Timeline,
}

/// What the attribution of traces is told beside them.
#[derive(Debug, Clone, Copy)]
pub struct TraceSettings<'a> {
    /// Kernel classes.
    pub classifier: &'a Classifier,
    /// Phase patterns.
    pub patterns: &'a PhasePatterns,
    /// Rows of a phase at most, the remainder row not counted; 0 for all.
    pub max_rows: usize,
}
