//! Peak memory by use: one stacked bar for each case.

use super::Chart;
use super::svg::{Anchor, Scale, Svg, tick_label};
use crate::report::escape;
use crate::report::tables::MemorySplit;
use crate::units::Bytes;

const WIDTH: f64 = 960.0;
const LEFT: f64 = 150.0;
const RIGHT: f64 = 830.0;
/// Cases drawn.
const CASES: usize = 12;

/// The chart of `splits`.
pub(in crate::report) fn memory(splits: &[MemorySplit]) -> Chart {
    let mut chart = Chart::new(
        "memory",
        "Peak memory by use",
        "The peak of each case in its hungriest repeat; “other” is what the engine does not account for: code, buffers of \
         libraries, the allocator's slack.",
    );
    let known = |split: &MemorySplit| {
        split.weights + split.kv_cache + split.activations.unwrap_or(0) + split.other.unwrap_or(0)
    };
    let most = splits.iter().map(|split| known(split).max(split.peak.unwrap_or(0))).max().unwrap_or(0);
    if most == 0 {
        return chart.nothing("No repeat recorded its memory.");
    }
    let shown = &splits[..splits.len().min(CASES)];
    let height = 20.0 + 40.0 * shown.len() as f64 + 40.0;
    let mut svg = Svg::new(WIDTH, height);
    let (unit, name) = match most {
        0..0x10_0000 => (1024.0, "KiB"),
        0x10_0000..0x4000_0000 => (1024.0 * 1024.0, "MiB"),
        _ => (1024.0 * 1024.0 * 1024.0, "GiB"),
    };
    let x = Scale::linear([0.0, most as f64 / unit], [LEFT, RIGHT]);
    let bottom = 14.0 + 40.0 * shown.len() as f64;
    for tick in x.ticks(7) {
        svg.line([x.at(tick), 8.0, x.at(tick), bottom], "grid", None);
        svg.text([x.at(tick), bottom + 18.0], Anchor::Middle, "tick", &tick_label(tick));
    }
    svg.text([RIGHT, bottom + 36.0], Anchor::End, "axis", name);
    for (number, split) in shown.iter().enumerate() {
        let top = 14.0 + 40.0 * number as f64;
        let case = escape::one_line(&split.case);
        svg.text_with_title([LEFT - 10.0, top + 20.0], Anchor::End, "label", &escape::cut(&case, 18), Some(&case));
        let mut from = 0.0;
        let parts = [
            ("weights", Some(split.weights), "k0"),
            ("KV cache", Some(split.kv_cache), "k5"),
            ("activations", split.activations, "k3"),
            ("other", split.other, "k10"),
        ];
        for (name, bytes, color) in parts {
            let Some(bytes) = bytes.filter(|bytes| *bytes > 0) else { continue };
            let to = from + bytes as f64 / unit;
            let filled =
                if name == "KV cache" { format!(", {} filled", Bytes(split.kv_used as f64)) } else { String::new() };
            let title = format!("{name}: {}{filled}", Bytes(bytes as f64));
            // A part too small to see is still there to point at.
            svg.rect(
                [x.at(from), top, (x.at(to) - x.at(from)).max(1.5), 28.0],
                &format!("{color} parted"),
                Some(&title),
            );
            from = to;
        }
        let total = split.peak.map_or_else(|| "peak unknown".to_owned(), |peak| Bytes(peak as f64).to_string());
        svg.text([x.at(from) + 8.0, top + 19.0], Anchor::Start, "value", &total);
    }
    for (color, name) in [("k0", "weights"), ("k5", "KV cache"), ("k3", "activations"), ("k10", "other")] {
        chart.legend.push((color.to_owned(), name.to_owned()));
    }
    let mut notes = Vec::new();
    if splits.iter().any(|split| split.activations.is_none()) {
        notes.push("Activations are not counted on this path; they are inside “other”.".to_owned());
    }
    if splits.len() > shown.len() {
        notes.push(format!("The first {CASES} of {} cases are drawn.", splits.len()));
    }
    chart.note = (!notes.is_empty()).then(|| notes.join(" "));
    chart.svg = Some(svg.finish("memory", &format!("{} cases, at most {}", splits.len(), Bytes(most as f64))));
    chart
}
