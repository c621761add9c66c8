//! NVTX ranges of a live run, for `nsys profile perfprof stage1 …` and every other tool that listens: our own domain, registered strings,
//! payloads and categories, under the names of [`super::range_names`].
//!
//! A build without the feature `nvtx` has the same types and says so when ranges are asked for.

#[cfg(feature = "nvtx")]
mod emit;

use std::ffi::OsString;

#[cfg(feature = "nvtx")]
use self::emit::Emitter;
use super::observer::{Observer, Phase, Span};
use super::range_names::RangeName;

/// Whether this build can emit NVTX ranges.
pub const BUILT_IN: bool = cfg!(feature = "nvtx");

/// How much is emitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NvtxDetail {
    /// Repeats and phases: a few ranges for each token.
    Phases,
    /// Layers, modules and operators too.
    All,
}

/// Ranges were asked for in a build that has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this build emits no NVTX ranges")]
pub struct NotBuiltIn;

impl NotBuiltIn {
    /// What to do about it.
    pub const HINT: &str =
        "build with `--features nvtx` (needs libclang), or with `scripts/build-cuda.sh`, which has it";
}

/// A tool that was attached to this process when it started, as its environment tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachedTool {
    /// The variable that says so.
    pub variable: &'static str,
}

/// Variables by which a tool has NVTX calls sent to it: the one of NVTX itself, which every tool sets, and that of a session of nsys.
const TOOL_VARIABLES: [&str; 2] = ["NVTX_INJECTION64_PATH", "NSYS_PROFILING_SESSION_ID"];

/// The tool that listens to NVTX calls of this process, if one was there from the start.
pub fn attached_tool() -> Option<AttachedTool> {
    attached_in(|name| std::env::var_os(name))
}

fn attached_in(variable: impl Fn(&str) -> Option<OsString>) -> Option<AttachedTool> {
    TOOL_VARIABLES
        .into_iter()
        .find(|name| variable(name).is_some_and(|value| !value.is_empty()))
        .map(|variable| AttachedTool { variable })
}

/// Emits ranges on the thread that calls it.
#[derive(Debug)]
pub struct NvtxRanges {
    detail: NvtxDetail,
    /// The layer whose range is open, the payload of what is inside, and the depth it stands at.
    layer: Option<(u32, usize)>,
    /// Of each span begun: whether it was emitted.
    open: Vec<bool>,
    #[cfg(feature = "nvtx")]
    emitter: Emitter,
}

/// Ranges over which the cost of one is measured: some milliseconds without a tool.
const COST_SAMPLES: u32 = 20_000;

impl NvtxRanges {
    /// Registers the domain, its categories and the names of `layers` layers, and names the calling thread.
    ///
    /// # Errors
    /// [`NotBuiltIn`] in a build without the feature.
    #[cfg(feature = "nvtx")]
    pub fn new(detail: NvtxDetail, layers: u32) -> Result<Self, NotBuiltIn> {
        Ok(Self { detail, layer: None, open: Vec::with_capacity(8), emitter: Emitter::new(layers) })
    }

    /// Registers the domain, its categories and the names of `layers` layers, and names the calling thread.
    ///
    /// # Errors
    /// [`NotBuiltIn`]: this is a build without the feature.
    #[cfg(not(feature = "nvtx"))]
    pub fn new(_detail: NvtxDetail, _layers: u32) -> Result<Self, NotBuiltIn> {
        Err(NotBuiltIn)
    }

    /// How much is emitted.
    pub fn detail(&self) -> NvtxDetail {
        self.detail
    }

    /// Opens the range of a repeat: row `row` of `per_run.jsonl`. What a repeat that panicked left open is closed first.
    pub fn begin_request(&mut self, row: u32) {
        self.end_repeat();
        self.push(RangeName::Request, Some(row));
    }

    /// Opens the range of warm-up `number`; spans are left out until [`Self::end_repeat`].
    pub fn begin_warmup(&mut self, number: u32) {
        self.end_repeat();
        self.push(RangeName::Warmup, Some(number));
    }

    /// Closes everything that is open.
    pub fn end_repeat(&mut self) {
        while let Some(emitted) = self.open.pop() {
            if emitted {
                self.pop();
            }
        }
        self.layer = None;
    }

    /// Nanoseconds that one range with payload and category takes now, begin and end together, over some ten thousand of them.
    ///
    /// A tool that is attached records them: ask only where none is.
    pub fn measure_cost_ns(&mut self) -> f64 {
        let started = std::time::Instant::now();
        for step in 0..COST_SAMPLES {
            self.push(RangeName::Phase(Phase::Decode), Some(step));
            self.open.pop();
            self.pop();
        }
        started.elapsed().as_nanos() as f64 / f64::from(COST_SAMPLES)
    }

    fn push(&mut self, name: RangeName, payload: Option<u32>) {
        self.open.push(true);
        #[cfg(feature = "nvtx")]
        self.emitter.push(name, payload);
        #[cfg(not(feature = "nvtx"))]
        let _ = (name, payload);
    }

    #[cfg_attr(
        not(feature = "nvtx"),
        expect(clippy::unused_self, reason = "nothing is open in a build without ranges")
    )]
    fn pop(&mut self) {
        #[cfg(feature = "nvtx")]
        self.emitter.pop();
    }
}

impl Observer for NvtxRanges {
    fn wants_operators(&self) -> bool {
        self.detail == NvtxDetail::All
    }

    fn separates_operators(&self) -> bool {
        false
    }
    fn begin(&mut self, span: Span) {
        let name = RangeName::of(span);
        let payload = match span {
            Span::Phase(_, step) => Some(step),
            Span::Layer(layer) => {
                self.layer = Some((layer, self.open.len()));
                Some(layer)
            }
            Span::Module(_) | Span::Operator(..) => self.layer.map(|(layer, _)| layer),
        };
        // Another observer may want operators where this one does not.
        if self.detail == NvtxDetail::All || matches!(span, Span::Phase(..)) {
            self.push(name, payload);
        } else {
            self.open.push(false);
        }
    }

    fn end(&mut self) {
        if self.open.pop() == Some(true) {
            self.pop();
        }
        self.layer = self.layer.filter(|(_, depth)| self.open.len() > *depth);
    }
}

impl Drop for NvtxRanges {
    fn drop(&mut self) {
        self.end_repeat();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_is_known_by_its_variables_and_an_empty_one_is_none() {
        let with = |name: &'static str, value: &'static str| {
            attached_in(move |asked| (asked == name).then(|| OsString::from(value))).map(|tool| tool.variable)
        };
        assert_eq!(with("NVTX_INJECTION64_PATH", "/opt/libinjection.so"), Some("NVTX_INJECTION64_PATH"));
        assert_eq!(with("NSYS_PROFILING_SESSION_ID", "123"), Some("NSYS_PROFILING_SESSION_ID"));
        assert_eq!(with("NVTX_INJECTION64_PATH", ""), None);
        assert_eq!(with("PATH", "/bin"), None);
    }

    #[test]
    fn a_build_without_ranges_says_so() {
        assert_eq!(NvtxRanges::new(NvtxDetail::All, 2).is_ok(), BUILT_IN);
    }
}
