//! Timelines for the unit tests of this folder.

use proptest::prelude::*;

use crate::estimate::operator::{Cost, OperatorClass};
use crate::trace::timeline::{NONE, SpanKind, SpanRow, Timeline};

/// One span, with what a test does not care about filled in.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) kind: SpanKind,
    pub(crate) phase: &'static str,
    pub(crate) name: &'static str,
    pub(crate) layer: u32,
    pub(crate) repeat: u32,
    pub(crate) step: u32,
    pub(crate) start_ns: u64,
    pub(crate) end_ns: u64,
    pub(crate) cost: Cost,
}

impl Default for Entry {
    fn default() -> Self {
        Self {
            kind: SpanKind::Operator,
            phase: "decode",
            name: "q_proj",
            layer: NONE,
            repeat: 0,
            step: 1,
            start_ns: 0,
            end_ns: 0,
            cost: Cost::default(),
        }
    }
}

pub(crate) fn timeline(entries: &[Entry]) -> Timeline {
    let mut timeline = Timeline { device: "cpu".to_owned(), ..Timeline::default() };
    for entry in entries {
        timeline.push_span(SpanRow {
            start_ns: entry.start_ns,
            end_ns: entry.end_ns,
            kind: entry.kind,
            name: entry.name,
            parent: NONE,
            repeat: entry.repeat,
            phase: entry.phase,
            step: entry.step,
            layer: entry.layer,
            class: (entry.kind == SpanKind::Operator).then_some(OperatorClass::Linear),
            shape: "1×1",
            cost: entry.cost,
            model_compute: true,
        });
    }
    timeline
}

/// Arbitrary spans: no nesting is promised, as none is needed.
pub(crate) fn timelines() -> impl Strategy<Value = Vec<Entry>> {
    let kind = prop::sample::select(vec![SpanKind::Phase, SpanKind::Layer, SpanKind::Operator, SpanKind::Operator]);
    let phase = prop::sample::select(vec!["prefill", "decode"]);
    let name = prop::sample::select(vec!["q_proj", "o_proj", "norm"]);
    let layer = prop::sample::select(vec![NONE, 0, 1, 2]);
    let entry = (kind, phase, name, layer, 0u32..3, 0u32..4, (0u64..10_000, 0u64..500), (0u64..900, 0u64..900))
        .prop_map(|(kind, phase, name, layer, repeat, step, (start_ns, length), (flops, bytes))| Entry {
            kind,
            phase,
            name,
            layer,
            repeat,
            step,
            start_ns,
            end_ns: start_ns + length,
            cost: Cost { flops, weight_bytes: bytes / 3, kv_bytes: bytes / 3, activation_bytes: bytes / 3 },
        });
    prop::collection::vec(entry, 0..60)
}
