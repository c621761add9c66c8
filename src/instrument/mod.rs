//! Observing a live run: the [`observer::Observer`] trait and the timers behind it.

pub mod heap;
pub mod host_timer;
pub mod observer;
pub mod ticks;
