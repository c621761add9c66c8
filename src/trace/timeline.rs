//! The one intermediate form of every trace: live runs and trace files become a [`Timeline`], analyses read nothing else.
//!
//! Columnar: one vector per field, so that a pass over millions of rows touches only what it needs. This module stores; it
//! computes no statistic. Device tables (kernels, copies, API calls, synchronisation) join the host spans here when the trace
//! readers arrive; analyses of host spans do not change then.

use super::strings::{StringId, StringTable};
use crate::estimate::operator::{Cost, OperatorClass};

/// What a host span stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SpanKind {
    /// A whole phase: prefill, or one decode step.
    Phase,
    /// A decoder layer.
    Layer,
    /// A module.
    Module,
    /// One operator: the leaves that carry time, FLOPs and bytes.
    Operator,
}

/// Marks "no parent", "no layer" and "no step" in the columns.
pub const NONE: u32 = u32::MAX;

/// Host spans (NVTX-like ranges of a live run), in order of their begin.
#[derive(Debug, Clone, Default)]
pub struct Spans {
    /// Begin, ns since the origin of the timeline.
    pub start_ns: Vec<u64>,
    /// End, ns since the origin of the timeline.
    pub end_ns: Vec<u64>,
    /// What the span stands for.
    pub kind: Vec<SpanKind>,
    /// Module, operator or phase name.
    pub name: Vec<StringId>,
    /// Row of the enclosing span, or [`NONE`].
    pub parent: Vec<u32>,
    /// Repeat the span belongs to (0-based row of `per_run.jsonl`).
    pub repeat: Vec<u32>,
    /// Phase name (`prefill`, `decode`).
    pub phase: Vec<StringId>,
    /// 0 for prefill, the decode step from 1.
    pub step: Vec<u32>,
    /// Decoder layer, or [`NONE`] outside the layers.
    pub layer: Vec<u32>,
    /// Class of an operator; `None` for other kinds.
    pub class: Vec<Option<OperatorClass>>,
    /// Dimensions in words; interned.
    pub shape: Vec<StringId>,
    /// FLOPs and bytes of an operator; zero for other kinds.
    pub cost: Vec<Cost>,
    /// True where the operator's FLOPs count towards MFU.
    pub model_compute: Vec<bool>,
}

impl Spans {
    /// Number of spans.
    pub fn len(&self) -> usize {
        self.start_ns.len()
    }
    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.start_ns.is_empty()
    }
    /// Duration of span `row` in ns.
    pub fn duration_ns(&self, row: usize) -> u64 {
        self.end_ns[row].saturating_sub(self.start_ns[row])
    }
}

/// One row for [`Timeline::push_span`].
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the columns of `Spans` document them")]
pub struct SpanRow<'a> {
    pub start_ns: u64,
    pub end_ns: u64,
    pub kind: SpanKind,
    pub name: &'a str,
    pub parent: u32,
    pub repeat: u32,
    pub phase: &'a str,
    pub step: u32,
    pub layer: u32,
    pub class: Option<OperatorClass>,
    pub shape: &'a str,
    pub cost: Cost,
    pub model_compute: bool,
}

/// A trace in memory.
#[derive(Debug, Clone, Default)]
pub struct Timeline {
    /// All names.
    pub strings: StringTable,
    /// What the device of the host spans is called, e.g. `cpu` or `cuda:0`.
    pub device: String,
    /// Host spans.
    pub spans: Spans,
}

impl Timeline {
    /// Appends one span and returns its row.
    pub fn push_span(&mut self, row: SpanRow<'_>) -> u32 {
        let index = u32::try_from(self.spans.len()).expect("a live run records fewer than 2^32 spans");
        let name = self.strings.intern(row.name);
        let phase = self.strings.intern(row.phase);
        let shape = self.strings.intern(row.shape);
        let spans = &mut self.spans;
        spans.start_ns.push(row.start_ns);
        spans.end_ns.push(row.end_ns);
        spans.kind.push(row.kind);
        spans.name.push(name);
        spans.parent.push(row.parent);
        spans.repeat.push(row.repeat);
        spans.phase.push(phase);
        spans.step.push(row.step);
        spans.layer.push(row.layer);
        spans.class.push(row.class);
        spans.shape.push(shape);
        spans.cost.push(row.cost);
        spans.model_compute.push(row.model_compute);
        index
    }
}
