//! A stretch of a timeline for people to look at: lanes of bars with names and classes, small enough for a page.
//!
//! Picks and copies; it measures nothing. What does not fit is counted and named in `left_out`.

mod build;
mod window;

use serde::{Deserialize, Serialize};

pub use build::{ExcerptOptions, GapLane, Span, timeline_view};
pub use window::{Stretch, representative_stretch};

/// Marks "no link" in [`Lane::link`].
pub const NO_LINK: u32 = u32::MAX;

/// Longest name kept, in characters.
pub const MAX_NAME_CHARS: usize = 400;
/// Bars kept unless the caller says otherwise: more cannot be told apart, and the page stays small.
pub const MAX_BARS: usize = 20_000;

/// What the bars of a lane are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LaneKind {
    /// Phases and steps.
    Phases,
    /// Calls and ranges of a host thread; bars nest by depth.
    Thread,
    /// Operations of a device stream.
    Stream,
    /// Gaps of a device, classed by cause.
    Gaps,
}

/// One row of the drawing: columns of one length, sorted by begin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lane {
    /// What it is called, e.g. `GPU 0 stream 7`.
    pub label: String,
    /// What its bars are.
    pub kind: LaneKind,
    /// Begin of each bar, ns on the clock of the trace.
    pub start_ns: Vec<i64>,
    /// End of each bar, ns.
    pub end_ns: Vec<i64>,
    /// Row of [`TimelineView::names`].
    pub name: Vec<u32>,
    /// Row of [`TimelineView::classes`].
    pub class: Vec<u16>,
    /// Nesting, 0 outermost; empty where nothing nests.
    pub depth: Vec<u8>,
    /// Number of the bar that launched this one, counted over all lanes in order, or [`NO_LINK`]; empty if no bar has one.
    pub link: Vec<u32>,
}

impl Lane {
    /// A lane without bars.
    pub fn new(label: impl Into<String>, kind: LaneKind) -> Self {
        Self {
            label: label.into(),
            kind,
            start_ns: Vec::new(),
            end_ns: Vec::new(),
            name: Vec::new(),
            class: Vec::new(),
            depth: Vec::new(),
            link: Vec::new(),
        }
    }
    /// Number of bars.
    pub fn len(&self) -> usize {
        self.start_ns.len()
    }
    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.start_ns.is_empty()
    }
}

/// A stretch of a timeline, ready to draw.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimelineView {
    /// Begin of the stretch, ns on the clock of the trace.
    pub start_ns: i64,
    /// End of the stretch, ns.
    pub end_ns: i64,
    /// Begin of the trace, ns: the page counts from here.
    pub origin_ns: i64,
    /// Why this stretch was chosen, in words.
    pub chosen: String,
    /// Lanes from top to bottom.
    pub lanes: Vec<Lane>,
    /// Distinct names of bars, whole but for a bound of [`MAX_NAME_CHARS`].
    pub names: Vec<String>,
    /// The same names, short enough to stand on a bar; one for each of `names`.
    pub labels: Vec<String>,
    /// Distinct classes of bars: operator classes, causes of idle time, `api`, `range`, `copy`, …
    pub classes: Vec<String>,
    /// What of the stretch is not there, one sentence each; empty if all is.
    pub left_out: Vec<String>,
}

impl TimelineView {
    /// Bars of all lanes.
    pub fn bar_count(&self) -> usize {
        self.lanes.iter().map(Lane::len).sum()
    }
}

#[cfg(test)]
mod tests;
