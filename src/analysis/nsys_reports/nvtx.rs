//! NVTX ranges by name.

use rustc_hash::FxHashMap;

use super::cuda::{Line, by_time};
use super::summary::Collector;
use crate::trace::host::RangeKind;
use crate::trace::strings::{StringId, StringTable};
use crate::trace::timeline::Timeline;

/// How a range was opened and closed; sorted as nsys sorts the words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Style {
    /// Pushed and popped.
    PushPop,
    /// Started and ended.
    StartEnd,
}

impl Style {
    /// Style of an NVTX range.
    pub(super) fn of(kind: RangeKind) -> Self {
        match kind {
            RangeKind::StartEnd | RangeKind::ImportedStartEnd => Self::StartEnd,
            _ => Self::PushPop,
        }
    }
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::PushPop => "PushPop",
            Self::StartEnd => "StartEnd",
        }
    }
}

/// Names of ranges as `domain:text`; the default domain leaves the colon.
#[derive(Debug, Default)]
pub(super) struct RangeNames {
    texts: StringTable,
    known: FxHashMap<(StringId, StringId), u32>,
}

impl RangeNames {
    /// Id of the name of a range.
    pub(super) fn id(&mut self, timeline: &Timeline, row: usize) -> u32 {
        let (domain, name) = (timeline.ranges.domain[row], timeline.ranges.name[row]);
        *self.known.entry((domain, name)).or_insert_with(|| {
            self.texts.intern(&format!("{}:{}", domain_name(timeline, domain), timeline.text(name))).0
        })
    }
    /// How many ids there are.
    pub(super) fn len(&self) -> usize {
        self.texts.len()
    }
    /// Text of an id.
    pub(super) fn text(&self, id: u32) -> &str {
        self.texts.get(StringId(id))
    }
}

/// Name of a domain. One the file never names, which a reader calls `<domain N>`, has no name for nsys.
pub(super) fn domain_name(timeline: &Timeline, domain: StringId) -> &str {
    let name = timeline.text(domain);
    let number = name.strip_prefix("<domain ").and_then(|rest| rest.strip_suffix('>'));
    if number.is_some_and(|number| number.parse::<i64>().is_ok()) { "" } else { name }
}

/// Whether the trace has this kind of table: nsys prints nothing where a table a report needs is missing, even one it could do without.
pub(super) fn has_table(timeline: &Timeline, kind: &str, rows: usize) -> bool {
    rows > 0 || timeline.sources.iter().any(|source| source.tables.iter().any(|table| table == kind))
}

/// Groups of (name, style), and the duration of each NVTX range with its group.
struct Durations {
    names: RangeNames,
    keys: Vec<(u32, Style)>,
    rows: Vec<(u32, i64)>,
}

fn durations(timeline: &Timeline, wanted: impl Fn(Style) -> bool) -> Durations {
    let ranges = &timeline.ranges;
    // An open range lasts to the last time of any NVTX record, marks included.
    let last = ranges.end_ns.iter().chain(&timeline.marks.time_ns).max().copied();
    let mut names = RangeNames::default();
    let mut keys: Vec<(u32, Style)> = Vec::new();
    let mut known: FxHashMap<(u32, Style), u32> = FxHashMap::default();
    let mut rows = Vec::with_capacity(ranges.len());
    let mut open = ranges.open.iter().peekable();
    for row in 0..ranges.len() {
        let is_open = open.next_if(|open| **open as usize == row).is_some();
        let style = Style::of(ranges.kind[row]);
        if !ranges.kind[row].is_nvtx() || !wanted(style) {
            continue;
        }
        let end = if is_open { last.unwrap_or(ranges.end_ns[row]) } else { ranges.end_ns[row] };
        let key = (names.id(timeline, row), style);
        let group = *known.entry(key).or_insert_with(|| {
            keys.push(key);
            (keys.len() - 1) as u32
        });
        rows.push((group, end.saturating_sub(ranges.start_ns[row])));
    }
    Durations { names, keys, rows }
}

fn table(header: &'static [&'static str], durations: &Durations, with_style: bool) -> String {
    let summaries = Collector::collect(durations.keys.len(), |out| {
        durations.rows.iter().for_each(|(group, duration)| out.add(*group, *duration));
    });
    let mut lines: Vec<Line<'_>> = durations
        .keys
        .iter()
        .zip(summaries)
        .filter_map(|((name, style), summary)| {
            let name = durations.names.text(*name);
            let texts = if with_style { vec![style.text(), name] } else { vec![name] };
            Some(Line { texts, summary: summary? })
        })
        .collect();
    lines.sort_by(|a, b| (a.texts.last(), a.texts.first()).cmp(&(b.texts.last(), b.texts.first())));
    by_time(header, lines)
}

/// `nvtx_sum`.
pub(super) fn sum(timeline: &Timeline) -> String {
    table(
        &[
            "Time (%)",
            "Total Time (ns)",
            "Instances",
            "Avg (ns)",
            "Med (ns)",
            "Min (ns)",
            "Max (ns)",
            "StdDev (ns)",
            "Style",
            "Range",
        ],
        &durations(timeline, |_| true),
        true,
    )
}

/// `nvtx_pushpop_sum` and `nvtx_startend_sum`.
pub(super) fn style_sum(timeline: &Timeline, style: Style) -> String {
    table(
        &[
            "Time (%)",
            "Total Time (ns)",
            "Instances",
            "Avg (ns)",
            "Med (ns)",
            "Min (ns)",
            "Max (ns)",
            "StdDev (ns)",
            "Range",
        ],
        &durations(timeline, |of| of == style),
        false,
    )
}
