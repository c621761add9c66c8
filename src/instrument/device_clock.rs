//! The clock of a device: stamps in the order of a stream, read after the work is done.

/// Puts stamps into the stream that runs the work.
///
/// A stamp costs an event on the stream and nothing waits for it: times are asked for once, after the run, so that reading them changes
/// nothing that is measured.
pub trait DeviceClock: Send {
    /// Forgets all stamps; their events are used again.
    fn restart(&mut self);
    /// Puts the next stamp into the stream and returns its number, from 0.
    ///
    /// An event that cannot be recorded makes [`Self::times_ns`] fail; the run itself goes on.
    fn stamp(&mut self) -> u64;
    /// Waits for the last stamp and returns the time of each in ns since the first.
    ///
    /// # Errors
    /// What the driver said.
    fn times_ns(&mut self) -> Result<Vec<u64>, String>;
}
