//! Pure passes over a [`crate::trace::timeline::Timeline`]. Opens no file.

pub mod ncu;
pub mod operators;
pub mod overhead;
pub mod phases;

#[cfg(test)]
mod test_timeline;
