//! Reads weights.
