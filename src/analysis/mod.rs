//! Pure passes over a [`crate::trace::timeline::Timeline`]. Opens no file.

pub mod api_kind;
pub mod class_roofline;
pub mod classify;
pub mod coverage;
pub mod critical_path;
pub mod excerpt;
pub mod findings;
pub mod flame;
pub mod idle;
pub mod idle_causes;
pub mod intervals;
pub mod kernel_names;
pub mod kernel_summary;
pub mod launch;
pub mod ncu;
pub mod nsys_reports;
pub mod operators;
pub mod overhead;
pub mod overlap;
pub mod phases;
pub mod projection;
pub mod schedule;
pub mod steps;
pub mod transfers;

#[cfg(test)]
pub(crate) mod random_trace;

#[cfg(test)]
mod test_timeline;
