//! A load test: its stages driven, its rows summed up.

pub mod drive;
pub mod find;
pub mod gpu;
pub mod prepare;
