//! Servers of perfprof's own.
