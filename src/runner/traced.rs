//! One repeat under the built-in tracer, and the timeline of what it recorded.

use crate::analysis::kernel_names::{NameParts, demangle};
use crate::diagnostics::Diagnostic;
use crate::instrument::cupti::{ActivitySource, KernelNames, assemble};
use crate::instrument::range_names::RangeName;
use crate::instrument::range_recorder::RangeRecorder;
use crate::trace::timeline::Timeline;

/// What the tracer recorded of a repeat.
#[derive(Debug, Clone)]
pub struct TracedRepeat {
    /// Device work, calls and our own ranges, in ns since the begin of the recording.
    pub timeline: Timeline,
    /// What was dropped or left out.
    pub diagnostics: Vec<Diagnostic>,
    /// How far our ranges may be off against the device's records, ns; null where they could not be placed.
    pub clock_error_ns: Option<f64>,
}

/// Runs `repeat` between the begin and the end of a recording. A tracer that refuses makes the repeat fail.
///
/// Enabling, flushing and assembling stand outside what `repeat` measures.
pub fn record<T>(
    tracer: &mut dyn ActivitySource,
    recorder: &mut RangeRecorder,
    repeat: impl FnOnce(&mut RangeRecorder) -> Result<T, String>,
) -> (Result<T, String>, Option<TracedRepeat>) {
    // A repeat that panicked may have left ranges behind.
    recorder.take();
    if let Err(error) = tracer.begin() {
        return (Err(format!("the tracer did not start: {error}")), None);
    }
    recorder.open(RangeName::Request);
    let result = repeat(recorder);
    recorder.close();
    match tracer.end() {
        Ok(recording) => {
            let names = KernelNames {
                demangled: &|name| demangle(name).into_owned(),
                short: &|demangled| NameParts::of(demangled).base,
            };
            let assembled = assemble(&recording, &recorder.take(), names);
            let traced = TracedRepeat {
                timeline: assembled.timeline,
                diagnostics: assembled.diagnostics,
                clock_error_ns: assembled.clock_error_ns,
            };
            (result, Some(traced))
        }
        // The repeat's own failure says more.
        Err(error) => (result.and(Err(format!("the tracer lost its records: {error}"))), None),
    }
}
