//! Servers of perfprof's own.

pub mod mock;
