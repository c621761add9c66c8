//! The timer of a repeat: the host's clock on a CPU, events on the stream on a GPU.

use crate::engine::gpu::backend::SharedBackend;
use crate::engine::gpu::clock::EventClock;
use crate::estimate::format::Format;
use crate::instrument::device_timer::{DevicePhases, DeviceTimer};
use crate::instrument::host_timer::HostTimer;
use crate::instrument::observer::{Observer, Span};
use crate::trace::timeline::Timeline;

/// Times phases and operators by the clock that is right for the device.
pub enum RunTimer {
    /// An operator has ended when its call returns.
    Host(HostTimer),
    /// A call returns before its work has begun.
    Device(Box<DeviceTimer>),
}

impl RunTimer {
    /// The timer for work on `device`, or on the CPU where that is `None`; with room for `spans` spans and `phases` phases in one repeat.
    ///
    /// # Errors
    /// If the device has no room for the events.
    pub fn new(device: Option<&SharedBackend>, operators: bool, spans: usize, phases: usize) -> Result<Self, String> {
        let Some(backend) = device else { return Ok(Self::Host(HostTimer::new(operators, spans))) };
        // Two stamps a span.
        let clock =
            EventClock::new(SharedBackend::clone(backend), 2 * spans.max(phases)).map_err(|error| error.to_string())?;
        Ok(Self::Device(Box::new(DeviceTimer::new(Box::new(clock), operators, spans.max(phases)))))
    }

    /// Forgets what was recorded.
    pub fn restart(&mut self, operators: bool) {
        match self {
            Self::Host(timer) => timer.restart(operators),
            Self::Device(timer) => timer.restart(operators),
        }
    }

    /// The phases by the clock of the device; `None` on the CPU.
    ///
    /// # Errors
    /// What the driver said.
    pub fn device_phases(&mut self) -> Result<Option<DevicePhases>, String> {
        match self {
            Self::Host(_) => Ok(None),
            Self::Device(timer) => timer.phases(),
        }
    }

    /// Appends the recorded spans to `timeline` as repeat `repeat`.
    ///
    /// # Errors
    /// What the driver said.
    pub fn append_to(&mut self, timeline: &mut Timeline, repeat: u32, activation: Format) -> Result<(), String> {
        match self {
            Self::Host(timer) => {
                timer.append_to(timeline, repeat, 0, activation);
                Ok(())
            }
            Self::Device(timer) => timer.append_to(timeline, repeat, activation),
        }
    }
}

impl Observer for RunTimer {
    fn wants_operators(&self) -> bool {
        match self {
            Self::Host(timer) => timer.wants_operators(),
            Self::Device(timer) => timer.wants_operators(),
        }
    }
    fn begin(&mut self, span: Span) {
        match self {
            Self::Host(timer) => timer.begin(span),
            Self::Device(timer) => timer.begin(span),
        }
    }
    fn end(&mut self) {
        match self {
            Self::Host(timer) => timer.end(),
            Self::Device(timer) => timer.end(),
        }
    }
}
