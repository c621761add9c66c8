//! `spans.jsonl`: the spans of each repeat that recorded operators, one line a repeat, so that operator tables can be rebuilt.
//!
//! A decode step is some hundred spans, most of them alike: what they share (name, class, dimensions, cost) is stored once per line as a
//! kind, and each span is its kind, parent, step, layer and two times. The starts are differences to the span before.

use serde::{Deserialize, Serialize};

use crate::estimate::operator::{Cost, OperatorClass};
use crate::trace::timeline::{NONE, SpanKind, SpanRow, Timeline};

/// Version of [`SpanLine`].
pub const SPANS_SCHEMA_VERSION: u32 = 1;
/// Name of the file.
pub const SPANS_FILE: &str = "spans.jsonl";

/// What spans of one kind share.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SpanKindRow {
    /// `phase`, `layer`, `module` or `operator`.
    pub kind: String,
    /// Phase, module or operator name.
    pub name: String,
    /// `prefill` or `decode`.
    pub phase: String,
    /// Class of an operator.
    pub class: Option<OperatorClass>,
    /// Dimensions in words.
    pub shape: String,
    /// FLOPs of one span.
    pub flops: u64,
    /// Weight bytes of one span.
    pub weight_bytes: u64,
    /// KV-cache bytes of one span.
    pub kv_bytes: u64,
    /// Activation bytes of one span.
    pub activation_bytes: u64,
    /// Whether the FLOPs count towards MFU.
    pub model_compute: bool,
}

/// One line: the spans of one repeat.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SpanLine {
    /// [`SPANS_SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Index of the row in `per_run.jsonl`.
    pub row: u32,
    /// The device.
    pub device: String,
    /// What spans share.
    pub kinds: Vec<SpanKindRow>,
    /// Index into `kinds`.
    pub kind: Vec<u32>,
    /// Start in ns, as the difference to the span before (the first: since the start of the repeat).
    pub start_delta_ns: Vec<u64>,
    /// Duration in ns.
    pub duration_ns: Vec<u64>,
    /// Enclosing span of this line, −1 for none.
    pub parent: Vec<i64>,
    /// 0 for prefill, decode steps from 1.
    pub step: Vec<u32>,
    /// Layer, −1 for none.
    pub layer: Vec<i64>,
}

fn kind_name(kind: SpanKind) -> &'static str {
    match kind {
        SpanKind::Phase => "phase",
        SpanKind::Layer => "layer",
        SpanKind::Module => "module",
        SpanKind::Operator => "operator",
    }
}

fn signed(value: u32) -> i64 {
    if value == NONE { -1 } else { i64::from(value) }
}

impl SpanLine {
    /// The spans of `timeline`, which must all belong to one repeat and begin with its first.
    pub fn from_timeline(timeline: &Timeline, row: u32) -> Self {
        let spans = &timeline.spans;
        let mut line = Self {
            schema_version: SPANS_SCHEMA_VERSION,
            row,
            device: timeline.device.clone(),
            kinds: Vec::new(),
            kind: Vec::with_capacity(spans.len()),
            start_delta_ns: Vec::with_capacity(spans.len()),
            duration_ns: Vec::with_capacity(spans.len()),
            parent: spans.parent.iter().map(|parent| signed(*parent)).collect(),
            step: spans.step.clone(),
            layer: spans.layer.iter().map(|layer| signed(*layer)).collect(),
        };
        let mut known = rustc_hash::FxHashMap::default();
        let mut previous = 0;
        for index in 0..spans.len() {
            let cost = spans.cost[index];
            let kind = SpanKindRow {
                kind: kind_name(spans.kind[index]).to_owned(),
                name: timeline.strings.get(spans.name[index]).to_owned(),
                phase: timeline.strings.get(spans.phase[index]).to_owned(),
                class: spans.class[index],
                shape: timeline.strings.get(spans.shape[index]).to_owned(),
                flops: cost.flops,
                weight_bytes: cost.weight_bytes,
                kv_bytes: cost.kv_bytes,
                activation_bytes: cost.activation_bytes,
                model_compute: spans.model_compute[index],
            };
            let next = line.kinds.len() as u32;
            let kind_index = *known.entry(kind.clone()).or_insert(next);
            if kind_index == next {
                line.kinds.push(kind);
            }
            line.kind.push(kind_index);
            line.start_delta_ns.push(spans.start_ns[index].saturating_sub(previous));
            previous = spans.start_ns[index];
            line.duration_ns.push(spans.duration_ns(index));
        }
        line
    }

    /// Appends the spans to `timeline` as repeat `row`. `Err` says which column does not fit the others.
    pub fn append_to(&self, timeline: &mut Timeline) -> Result<(), &'static str> {
        let len = self.kind.len();
        let lengths = [
            (self.start_delta_ns.len(), "start_delta_ns"),
            (self.duration_ns.len(), "duration_ns"),
            (self.parent.len(), "parent"),
            (self.step.len(), "step"),
            (self.layer.len(), "layer"),
        ];
        if let Some((_, name)) = lengths.into_iter().find(|(column, _)| *column != len) {
            return Err(name);
        }
        timeline.device.clone_from(&self.device);
        let base = timeline.spans.len() as i64;
        let mut start_ns = 0u64;
        for index in 0..len {
            let kind = self.kinds.get(self.kind[index] as usize).ok_or("kind")?;
            start_ns = start_ns.saturating_add(self.start_delta_ns[index]);
            let parent = match self.parent[index] {
                -1 => NONE,
                parent if parent >= 0 && parent < index as i64 => (base + parent) as u32,
                _ => return Err("parent"),
            };
            timeline.push_span(SpanRow {
                start_ns,
                end_ns: start_ns.saturating_add(self.duration_ns[index]),
                kind: match kind.kind.as_str() {
                    "phase" => SpanKind::Phase,
                    "layer" => SpanKind::Layer,
                    "module" => SpanKind::Module,
                    "operator" => SpanKind::Operator,
                    _ => return Err("kinds"),
                },
                name: &kind.name,
                parent,
                repeat: self.row,
                phase: &kind.phase,
                step: self.step[index],
                layer: u32::try_from(self.layer[index]).unwrap_or(NONE),
                class: kind.class,
                shape: &kind.shape,
                cost: Cost {
                    flops: kind.flops,
                    weight_bytes: kind.weight_bytes,
                    kv_bytes: kind.kv_bytes,
                    activation_bytes: kind.activation_bytes,
                },
                model_compute: kind.model_compute,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Timeline {
        let mut timeline = Timeline { device: "cpu".into(), ..Timeline::default() };
        for (index, start_ns) in [100u64, 110, 150, 400].into_iter().enumerate() {
            let operator = index % 2 == 1;
            timeline.push_span(SpanRow {
                start_ns,
                end_ns: start_ns + 20,
                kind: if operator { SpanKind::Operator } else { SpanKind::Phase },
                name: if operator { "q_proj" } else { "decode" },
                parent: if operator { index as u32 - 1 } else { NONE },
                repeat: 3,
                phase: "decode",
                step: index as u32 / 2,
                layer: if operator { 0 } else { NONE },
                class: operator.then_some(OperatorClass::Linear),
                shape: "1×2 → 3",
                cost: Cost { flops: 12, ..Cost::default() },
                model_compute: operator,
            });
        }
        timeline
    }

    #[test]
    fn spans_survive_the_way_through_json() {
        let timeline = sample();
        let text = serde_json::to_string(&SpanLine::from_timeline(&timeline, 3)).unwrap();
        let line: SpanLine = serde_json::from_str(&text).unwrap();
        assert_eq!(line.kinds.len(), 2, "equal kinds are stored once");
        let mut back = Timeline::default();
        line.append_to(&mut back).unwrap();
        assert_eq!(back.spans.start_ns, timeline.spans.start_ns);
        assert_eq!(back.spans.end_ns, timeline.spans.end_ns);
        assert_eq!(back.spans.parent, timeline.spans.parent);
        assert_eq!(back.spans.layer, timeline.spans.layer);
        assert_eq!(back.spans.cost, timeline.spans.cost);
        // A second line of the same file is shifted as a whole.
        line.append_to(&mut back).unwrap();
        assert_eq!(back.spans.parent[5], 4);
    }

    #[test]
    fn columns_that_do_not_fit_are_refused() {
        let mut line = SpanLine::from_timeline(&sample(), 0);
        line.step.pop();
        assert_eq!(line.append_to(&mut Timeline::default()), Err("step"));
        let mut line = SpanLine::from_timeline(&sample(), 0);
        line.parent[1] = 9;
        assert_eq!(line.append_to(&mut Timeline::default()), Err("parent"));
    }
}
