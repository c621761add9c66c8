//! Observing a live run: the [`observer::Observer`] trait and the timers behind it.

pub mod device_clock;
pub mod device_timer;
pub mod heap;
pub mod host_timer;
pub mod observer;
pub mod span_log;
pub mod ticks;
