//! Writes a timeline as Chrome trace JSON for Perfetto (`ui.perfetto.dev`) and for tools that read Kineto traces.
//!
//! Each process and each GPU is a process of the export, each host thread and each stream a track. The viewer drops events of one track that
//! cross, so device work that overlaps on a stream, and host ranges that do not nest, go to further tracks below it. An arrow leads from
//! each API call to the first operation it launched: a replay of a graph has one arrow, not hundreds.
//!
//! Left out: second records of API calls (nsys event class 67), the creation of graphs and graph nodes, and messages of the tracing tool.

use std::io::{self, Write};

use self::layout::Layout;
use self::out::Out;
use crate::trace::timeline::Timeline;

mod device;
mod host;
mod layout;
mod out;

/// What to leave out of an export.
#[derive(Debug, Clone, Default)]
pub struct WriteOptions {
    /// Only what begins before the second time and ends after the first, ns on the clock of the timeline.
    pub window_ns: Option<(i64, i64)>,
}

impl WriteOptions {
    /// Whether something from `start_ns` to `end_ns` is in the window.
    fn wants(&self, start_ns: i64, end_ns: i64) -> bool {
        self.window_ns.is_none_or(|(begin, end)| start_ns < end && end_ns >= begin)
    }
}

/// Writes `timeline`, on which `finish` was called, as Chrome trace JSON.
///
/// # Errors
/// Those of `out`.
pub fn write(timeline: &Timeline, out: &mut dyn Write, options: &WriteOptions) -> io::Result<()> {
    let mut out = Out::new(out);
    head(timeline, &mut out)?;
    let mut layout = Layout::new(timeline);
    layout.write_names(timeline, &mut out)?;
    let call_tracks = host::write(timeline, &mut layout, &mut out, options)?;
    device::write(timeline, &mut layout, &call_tracks, &mut out, options)?;
    out.finish()
}

/// The keys before the events: what Kineto writes there, as far as it is known.
fn head(timeline: &Timeline, out: &mut Out<'_>) -> io::Result<()> {
    let mut keys = serde_json::Map::new();
    keys.insert("schemaVersion".into(), 1.into());
    keys.insert("displayTimeUnit".into(), "ns".into());
    let mut epochs = timeline.sources.iter().map(|source| source.epoch_ns);
    if let Some(Some(epoch)) = epochs.next()
        && epochs.all(|other| other == Some(epoch))
    {
        keys.insert("baseTimeNanoseconds".into(), epoch.into());
    }
    let mut ranks = timeline.processes.iter().map(|process| process.rank);
    if let Some(Some(rank)) = ranks.next()
        && ranks.all(|other| other == Some(rank))
    {
        keys.insert("distributedInfo".into(), serde_json::json!({ "rank": rank }));
    }
    let mut ordinals: Vec<u32> = timeline.devices.iter().map(|device| device.ordinal).collect();
    ordinals.sort_unstable();
    // Properties are found by ordinal, which names one GPU only within a file.
    if ordinals.windows(2).all(|pair| pair[0] != pair[1]) {
        keys.insert("deviceProperties".into(), timeline.devices.iter().map(layout::properties).collect());
    }
    out.head(&keys)
}
