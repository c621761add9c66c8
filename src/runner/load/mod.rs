//! A load test: its stages driven, its rows summed up.

pub mod drive;
pub mod find;
pub mod gpu;
pub mod over_saturation;
pub mod prepare;
pub mod saturation;
pub mod search;
pub mod summary;
#[cfg(test)]
pub(crate) mod testing;
