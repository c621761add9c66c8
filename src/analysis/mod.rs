//! Pure passes over a [`crate::trace::timeline::Timeline`]. Opens no file.

pub mod nsys_reports;
pub mod operators;
pub mod overhead;
pub mod phases;

#[cfg(test)]
mod test_timeline;
