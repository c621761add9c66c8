//! Pure passes over a [`crate::trace::timeline::Timeline`]. Opens no file.

pub mod class_roofline;
pub mod classify;
pub mod kernel_names;
pub mod kernel_summary;
pub mod operators;
pub mod overhead;
pub mod phases;

#[cfg(test)]
mod test_timeline;
