//! Pure passes over a [`crate::trace::timeline::Timeline`]. Opens no file.

pub mod class_roofline;
pub mod classify;
pub mod kernel_names;
pub mod kernel_summary;
pub mod coverage;
pub mod flame;
pub mod operators;
pub mod overhead;
pub mod phases;
pub mod projection;
pub mod steps;

#[cfg(test)]
mod test_timeline;
