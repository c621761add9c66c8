//! Observing a live run: the [`observer::Observer`] trait and the timers behind it.

pub mod composed;
pub mod cupti;
pub mod device_clock;
pub mod device_timer;
pub mod heap;
pub mod host_timer;
pub mod nvtx;
pub mod observer;
pub mod profiler_control;
pub mod range_names;
pub mod range_recorder;
pub mod span_log;
pub mod ticks;
