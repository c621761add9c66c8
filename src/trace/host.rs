//! What ran on the host: API calls, ranges (NVTX, operators, annotations), operating-system calls, the profiler's own overhead.
//!
//! Columnar like [`super::activity`]. Once [`super::timeline::Timeline::finish`] ran, API calls are sorted by (thread, begin) and ranges by
//! (thread, begin, end descending), so that one pass over a thread sees an enclosing range before what it encloses.

use super::strings::StringId;

/// Calls of the CUDA runtime and driver.
#[derive(Debug, Clone, Default)]
pub struct ApiCalls {
    /// Begin, ns.
    pub start_ns: Vec<i64>,
    /// End, ns.
    pub end_ns: Vec<i64>,
    /// Row of `threads`.
    pub thread: Vec<u32>,
    /// Function name as recorded, with its version suffix (`cudaLaunchKernel_v7000`).
    pub name: Vec<StringId>,
    /// Correlation id, unique only within the process; 0 for none.
    pub correlation: Vec<u32>,
    /// Which API.
    pub class: Vec<ApiClass>,
    /// What the call returned; 0 is success.
    pub result: Vec<i32>,
}

/// Which API a call belongs to; the numbers are nsys' event classes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ApiClass(pub u8);

impl ApiClass {
    /// CUDA runtime.
    pub const RUNTIME: Self = Self(0);
    /// CUDA driver.
    pub const DRIVER: Self = Self(1);
    /// The same call once more, for its backtrace (nsys event class 67): not a call of its own.
    pub const BACKTRACE: Self = Self(67);

    /// True for a call, false for a second record of one.
    pub fn is_call(self) -> bool {
        self == Self::RUNTIME || self == Self::DRIVER
    }
}

/// Kind of a range.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RangeKind {
    /// NVTX push/pop (nsys event type 59).
    #[default]
    PushPop,
    /// NVTX start/end (60).
    StartEnd,
    /// Imported NVTX text, push/pop (70).
    ImportedPushPop,
    /// Imported NVTX text, start/end (71).
    ImportedStartEnd,
    /// An operator of the framework (Kineto `cpu_op`).
    Operator,
    /// A Python function or module (Kineto `python_function`).
    Python,
    /// A user's annotation (Kineto `user_annotation`).
    Annotation,
}

impl RangeKind {
    /// True for the ranges of NVTX.
    pub fn is_nvtx(self) -> bool {
        matches!(self, Self::PushPop | Self::StartEnd | Self::ImportedPushPop | Self::ImportedStartEnd)
    }
}

/// Ranges.
#[derive(Debug, Clone, Default)]
pub struct Ranges {
    /// Begin, ns; may be negative.
    pub start_ns: Vec<i64>,
    /// End, ns. An open range (see `open`) ends at the last time seen in any range.
    pub end_ns: Vec<i64>,
    /// Row of `threads` that began it.
    pub thread: Vec<u32>,
    /// Row of `threads` that ended it where that is another one, else [`super::places::NO_ROW`]; empty if no row has one.
    pub end_thread: Vec<u32>,
    /// Kind.
    pub kind: Vec<RangeKind>,
    /// Text.
    pub name: Vec<StringId>,
    /// Name of the NVTX domain; the empty string is the default domain.
    pub domain: Vec<StringId>,
    /// Rows that were never closed, ascending.
    pub open: Vec<u32>,
    /// Input shapes of an operator as text, or the empty string; empty if the trace has none.
    pub shape: Vec<StringId>,
}

/// One row for [`Ranges::push`].
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the columns of `Ranges` document them")]
pub struct RangeRow {
    pub start_ns: i64,
    /// `None`: never closed.
    pub end_ns: Option<i64>,
    pub thread: u32,
    pub kind: RangeKind,
    pub name: StringId,
    pub domain: StringId,
}

impl Ranges {
    /// Number of ranges.
    pub fn len(&self) -> usize {
        self.start_ns.len()
    }
    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.start_ns.is_empty()
    }
    /// Whether `row` was never closed.
    pub fn is_open(&self, row: usize) -> bool {
        self.open.binary_search(&(row as u32)).is_ok()
    }
    /// Row of the thread that ended `row`, where that is another thread.
    pub fn other_end_thread(&self, row: usize) -> Option<u32> {
        self.end_thread.get(row).copied().filter(|thread| *thread != super::places::NO_ROW)
    }
    /// Appends a row and returns it. The end of an open one is set by `Timeline::finish`.
    pub fn push(&mut self, row: RangeRow) -> u32 {
        let index = self.start_ns.len() as u32;
        self.start_ns.push(row.start_ns);
        self.end_ns.push(row.end_ns.unwrap_or(row.start_ns));
        if row.end_ns.is_none() {
            self.open.push(index);
        }
        self.thread.push(row.thread);
        self.kind.push(row.kind);
        self.name.push(row.name);
        self.domain.push(row.domain);
        index
    }
}

/// Marks: instants with a text.
#[derive(Debug, Clone, Default)]
pub struct Marks {
    /// When, ns.
    pub time_ns: Vec<i64>,
    /// Row of `threads`.
    pub thread: Vec<u32>,
    /// Text.
    pub name: Vec<StringId>,
    /// Domain, as for ranges.
    pub domain: Vec<StringId>,
}

/// Calls of the operating-system runtime library (nsys `OSRT_API`).
#[derive(Debug, Clone, Default)]
pub struct OsCalls {
    /// Begin, ns.
    pub start_ns: Vec<i64>,
    /// End, ns.
    pub end_ns: Vec<i64>,
    /// Row of `threads`.
    pub thread: Vec<u32>,
    /// Function.
    pub name: Vec<StringId>,
    /// nsys event class; 27 is a call.
    pub class: Vec<u8>,
}

/// Time the profiler itself took.
#[derive(Debug, Clone, Default)]
pub struct Overheads {
    /// Begin, ns.
    pub start_ns: Vec<i64>,
    /// End, ns.
    pub end_ns: Vec<i64>,
    /// Row of `threads`, or [`super::places::NO_ROW`].
    pub thread: Vec<u32>,
    /// What it says.
    pub name: Vec<StringId>,
    /// Who recorded it.
    pub origin: Vec<OverheadOrigin>,
}

/// Which table an overhead was recorded in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum OverheadOrigin {
    /// nsys `PROFILER_OVERHEAD`.
    #[default]
    Profiler,
    /// `CUPTI_ACTIVITY_KIND_OVERHEAD`, or Kineto `overhead`.
    Cupti,
}

/// Creation of graph nodes, which links a replayed kernel to the code that was captured.
#[derive(Debug, Clone, Default)]
pub struct GraphNodes {
    /// Begin of the creating call, ns.
    pub start_ns: Vec<i64>,
    /// End, ns.
    pub end_ns: Vec<i64>,
    /// Row of `threads`, or [`super::places::NO_ROW`].
    pub thread: Vec<u32>,
    /// Function.
    pub name: Vec<StringId>,
    /// Node.
    pub node: Vec<u64>,
    /// Node it was cloned from; 0 for none.
    pub original: Vec<u64>,
}

/// Creation, instantiation and destruction of graphs.
#[derive(Debug, Clone, Default)]
pub struct GraphEvents {
    /// Begin, ns.
    pub start_ns: Vec<i64>,
    /// End, ns.
    pub end_ns: Vec<i64>,
    /// Row of `threads`, or [`super::places::NO_ROW`].
    pub thread: Vec<u32>,
    /// Function.
    pub name: Vec<StringId>,
    /// Graph; 0 for none.
    pub graph: Vec<u32>,
    /// Graph it was cloned from; 0 for none.
    pub original: Vec<u32>,
    /// Executable graph; 0 for none.
    pub executable: Vec<u32>,
}

/// Allocations and releases of device memory.
#[derive(Debug, Clone, Default)]
pub struct Allocations {
    /// When, ns.
    pub time_ns: Vec<i64>,
    /// Row of `devices`, or [`super::places::NO_ROW`].
    pub device: Vec<u32>,
    /// Bytes; negative for a release.
    pub bytes: Vec<i64>,
    /// Bytes in use afterwards as the tool says; -1 if it does not.
    pub total_bytes: Vec<i64>,
}

/// Samples of GPU metrics.
#[derive(Debug, Clone, Default)]
pub struct MetricSamples {
    /// When, ns.
    pub time_ns: Vec<i64>,
    /// GPU id of the tool.
    pub gpu: Vec<u16>,
    /// Metric name.
    pub metric: Vec<StringId>,
    /// Value, mostly percent of the peak.
    pub value: Vec<f64>,
}

macro_rules! lengths {
    ($($table:ty: $column:ident),* $(,)?) => {$(
        impl $table {
            /// Number of rows.
            pub fn len(&self) -> usize {
                self.$column.len()
            }
            /// True if there are none.
            pub fn is_empty(&self) -> bool {
                self.$column.is_empty()
            }
        }
    )*};
}

lengths! {
    ApiCalls: start_ns,
    Marks: time_ns,
    OsCalls: start_ns,
    Overheads: start_ns,
    GraphNodes: start_ns,
    GraphEvents: start_ns,
    Allocations: time_ns,
    MetricSamples: time_ns,
}
