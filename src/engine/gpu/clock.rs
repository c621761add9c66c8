//! [`DeviceClock`] over the events of a backend.

use super::backend::{Event, GpuResult, SharedBackend};
use crate::instrument::device_clock::DeviceClock;

/// Stamps between two anchors. The driver gives the time between two events as an f32 in ms, whose last digit is 60 ns after a second: times
/// are summed over short stretches instead.
const ANCHOR_EVERY: usize = 128;

/// Events on the stream of a backend, made once and recorded again in every repeat.
pub struct EventClock {
    backend: SharedBackend,
    events: Vec<Box<dyn Event>>,
    used: usize,
    failure: Option<String>,
}

impl EventClock {
    /// A clock with `capacity` events made in advance, so that none is made while time is taken.
    ///
    /// # Errors
    /// If the device has no room for them.
    pub fn new(backend: SharedBackend, capacity: usize) -> GpuResult<Self> {
        let events = (0..capacity).map(|_| backend.event()).collect::<GpuResult<Vec<_>>>()?;
        Ok(Self { backend, events, used: 0, failure: None })
    }

    fn try_stamp(&mut self) -> GpuResult<()> {
        if self.used == self.events.len() {
            self.events.push(self.backend.event()?);
        }
        self.events[self.used].record()
    }
}

impl DeviceClock for EventClock {
    fn restart(&mut self) {
        self.used = 0;
        self.failure = None;
    }

    fn stamp(&mut self) -> u64 {
        if self.failure.is_none()
            && let Err(error) = self.try_stamp()
        {
            self.failure = Some(error.to_string());
        }
        self.used += 1;
        self.used as u64 - 1
    }

    fn times_ns(&mut self) -> Result<Vec<u64>, String> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        self.backend.synchronize().map_err(|error| error.to_string())?;
        let mut times = Vec::with_capacity(self.used);
        let (mut anchor, mut anchor_ns) = (0, 0);
        for index in 0..self.used {
            let ns = if index == 0 {
                0
            } else {
                let between =
                    self.events[anchor].elapsed_ns(&*self.events[index]).map_err(|error| error.to_string())?;
                anchor_ns + between
            };
            times.push(ns);
            if index % ANCHOR_EVERY == 0 {
                (anchor, anchor_ns) = (index, ns);
            }
        }
        Ok(times)
    }
}
