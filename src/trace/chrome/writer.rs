//! Writes a timeline as Chrome trace JSON.

use std::io::{self, Write};

use crate::trace::timeline::Timeline;

/// What to leave out of an export.
#[derive(Debug, Clone, Default)]
pub struct WriteOptions {
    /// Only what begins before this time and ends after the other, ns on the clock of the timeline.
    pub window_ns: Option<(i64, i64)>,
}

/// Writes `timeline` as Chrome trace JSON, loadable in Perfetto.
pub fn write(_timeline: &Timeline, _out: &mut dyn Write, _options: &WriteOptions) -> io::Result<()> {
    Err(io::Error::other("the Chrome writer is not there yet"))
}
