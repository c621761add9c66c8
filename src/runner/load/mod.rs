//! A load test: its stages driven, its rows summed up.

pub mod drive;
