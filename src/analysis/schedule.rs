//! Simulates the schedule of a trace.
