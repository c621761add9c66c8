//! Links device work to calls by flow arrows, where the events carry no correlation id.
//!
//! An arrow begins (`s`) where a call begins and ends (`f`) where the device work does, so it is found by lane and time. The arrows are
//! read in a second pass over the file: nearly every trace has correlation ids, and its arrows say the same once more.

use rustc_hash::FxHashMap;

use super::category::Category;
use super::collect::Collector;
use super::event::Event;
use super::lanes::Id;
use super::scan::{Value, microseconds_as_ns};
use crate::trace::strings::StringTable;

/// Whether the arrows are worth a second pass.
pub(super) fn needed(collector: &Collector) -> bool {
    collector.uncorrelated > 0 && collector.flows > 0
}

/// The arrows of a file.
#[derive(Debug, Default)]
pub(super) struct Flows {
    /// From (pid, tid, time) to the id of the arrow that begins there.
    begins: FxHashMap<(Id, Id, i64), Id>,
    /// From (pid, stream, time) to the id of the arrow that ends there.
    ends: FxHashMap<(Id, u64, i64), Id>,
}

impl Flows {
    /// Takes an event if it is the begin or end of an arrow between host and device.
    pub(super) fn event(&mut self, event: &Event<'_>, strings: &mut StringTable) {
        if !matches!(event.phase, b's' | b'f') || event.kind != Category::Flow {
            return;
        }
        let Some(Value::Number(ts)) = event.ts else { return };
        let Some(at_ns) = microseconds_as_ns(ts) else { return };
        let pid = Id::read(event.pid, strings);
        let tid = Id::read(event.tid, strings);
        let arrow = Id::read(event.id, strings);
        if arrow == Id::None {
            return;
        }
        if event.phase == b's' {
            self.begins.insert((pid, tid, at_ns), arrow);
        } else {
            self.ends.insert((pid, tid.ordinal(strings).unwrap_or(0) as u64, at_ns), arrow);
        }
    }
}

/// Gives device work without a correlation id that of the call its arrow comes from.
pub(super) fn apply(collector: &mut Collector, flows: &Flows) {
    let Collector { timeline, lanes, .. } = collector;
    let mut free = timeline.api.correlation.iter().copied().max().unwrap_or(0);
    let mut correlation_of: FxHashMap<Id, u32> = FxHashMap::default();
    let api = &mut timeline.api;
    for row in 0..api.len() {
        let (pid, tid) = lanes.thread_ids[api.thread[row] as usize];
        let Some(arrow) = flows.begins.get(&(pid, tid, api.start_ns[row])) else { continue };
        if api.correlation[row] == 0 {
            let Some(next) = free.checked_add(1) else { break };
            free = next;
            api.correlation[row] = next;
        }
        correlation_of.insert(*arrow, api.correlation[row]);
    }
    let link = |streams: &[u32], starts: &[i64], correlations: &mut [u32]| {
        for ((track, start_ns), correlation) in streams.iter().zip(starts).zip(correlations) {
            if *correlation != 0 {
                continue;
            }
            let track = lanes.track_list[*track as usize];
            let arrow = flows.ends.get(&(track.pid, track.stream, *start_ns));
            if let Some(found) = arrow.and_then(|arrow| correlation_of.get(arrow)) {
                *correlation = *found;
            }
        }
    };
    link(&timeline.kernels.stream, &timeline.kernels.start_ns, &mut timeline.kernels.correlation);
    link(&timeline.copies.stream, &timeline.copies.start_ns, &mut timeline.copies.correlation);
    link(&timeline.memsets.stream, &timeline.memsets.start_ns, &mut timeline.memsets.correlation);
    link(&timeline.graphs.stream, &timeline.graphs.start_ns, &mut timeline.graphs.correlation);
}
