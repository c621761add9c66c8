//! Pure statistics: no clock, no file, no random number without a seed in the arguments.

pub mod summary;
