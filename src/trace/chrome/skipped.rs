//! Counts the events that became no row, by reason, with the first of each.

use super::category::Category;
use super::event::Event;
use super::scan::unescape;
use crate::diagnostics::{Diagnostic, Severity};

/// Why an event became no row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// `ts` is missing, no number, or too large.
    NoTime,
    /// `dur` is missing or no number.
    NoDuration,
    /// `dur` is below zero.
    NegativeDuration,
    /// An element of `traceEvents` is no object.
    NotAnObject,
    /// A phase this reader does not know.
    Phase,
    /// A counter without series, or an allocation without bytes.
    NoBytes,
    /// An end without a begin.
    EndWithoutBegin,
    /// `gpu_user_annotation`.
    DeviceAnnotation,
    /// Memory of the host.
    HostMemory,
    /// The profiler's own window and marks.
    OfTheProfiler,
}

const REASONS: [(Reason, &str, &str); 10] = [
    (Reason::NoTime, "event_without_time", "has no time (`ts`) that can be read"),
    (Reason::NoDuration, "event_without_duration", "has no duration (`dur`) that can be read"),
    (Reason::NegativeDuration, "event_negative_duration", "has a negative duration"),
    (Reason::NotAnObject, "event_not_an_object", "is not an object"),
    (Reason::Phase, "event_phase_not_read", "has a phase (`ph`) that is not read"),
    (Reason::NoBytes, "event_without_value", "has no value that can be read"),
    (Reason::EndWithoutBegin, "event_end_without_begin", "ends a range that never began"),
    (
        Reason::DeviceAnnotation,
        "device_annotations_left_out",
        "repeats a host annotation over the time of its kernels; it is no work of the device",
    ),
    (Reason::HostMemory, "host_allocations_left_out", "is an allocation of host memory"),
    (Reason::OfTheProfiler, "profiler_marks_left_out", "marks the profiler's own window"),
];

/// The counts.
#[derive(Debug, Clone, Default)]
pub(super) struct Skipped {
    /// By position in [`REASONS`]: how many, whether device work or API calls were among them, the first in words.
    counts: [(u64, bool, String); REASONS.len()],
}

impl Skipped {
    /// Counts one event that begins at byte `offset`.
    pub(super) fn note(&mut self, reason: Reason, event: &Event<'_>, offset: u64) {
        let Some(index) = REASONS.iter().position(|(known, ..)| *known == reason) else { return };
        let (count, matters, first) = &mut self.counts[index];
        *matters |= matches!(
            event.kind,
            Category::Kernel
                | Category::Copy
                | Category::Memset
                | Category::Graph
                | Category::Api(_)
                | Category::Range(_)
        );
        if *count == 0 {
            let mut scratch = String::new();
            let name = event.name.map_or("", |name| unescape(name, &mut scratch));
            let name: String = name.chars().take(120).collect();
            let what = if name.is_empty() { String::from("the event") } else { format!("event `{name}`") };
            *first = format!("{what} at byte {offset} {}", REASONS[index].2);
        }
        *count += 1;
    }
    /// As diagnostics: data loss where rows were lost, information where they were left out on purpose.
    pub(super) fn diagnostics(self) -> Vec<Diagnostic> {
        let mut all = Vec::new();
        for ((count, matters, first), (reason, code, _)) in self.counts.into_iter().zip(REASONS) {
            if count == 0 {
                continue;
            }
            let severity = match reason {
                Reason::DeviceAnnotation | Reason::HostMemory | Reason::OfTheProfiler => Severity::Info,
                _ if matters => Severity::DataLoss,
                Reason::Phase => Severity::Info,
                _ => Severity::Warn,
            };
            all.push(Diagnostic { count, ..Diagnostic::new(code, severity, first) });
        }
        all
    }
}
