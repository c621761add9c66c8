//! Pure passes over a [`crate::trace::timeline::Timeline`]. Opens no file.

pub mod coverage;
pub mod flame;
pub mod operators;
pub mod overhead;
pub mod phases;
pub mod projection;
pub mod steps;

#[cfg(test)]
mod test_timeline;
