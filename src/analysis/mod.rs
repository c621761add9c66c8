//! Pure passes over a [`crate::trace::timeline::Timeline`]. Opens no file.

pub mod api_kind;
pub mod critical_path;
pub mod idle;
pub mod idle_causes;
pub mod intervals;
pub mod launch;
pub mod operators;
pub mod overhead;
pub mod overlap;
pub mod phases;
pub mod schedule;
pub mod transfers;

#[cfg(test)]
mod random_trace;
#[cfg(test)]
mod test_timeline;
