//! Inter-token latency over the steps, one line for each repeat; the page's script zooms and reads values off it.

use serde::Serialize;

use super::svg::{Anchor, Scale, Svg, extent, tick_label};
use super::{Chart, thin};
use crate::record::metrics::CaseBlock;
use crate::record::rows::{RepeatRow, RowStatus};
use crate::report::escape;
use crate::report::number::{digits, samples_needed};

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 880.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 252.0;
/// Points kept of each line: more than the pixels it is drawn on.
const POINTS: usize = 1200;
/// Lines drawn in one chart.
const LINES: usize = 12;

/// The points of one line, for the script.
#[derive(Debug, Clone, Serialize)]
pub(in crate::report) struct ItlSeries {
    /// Repeat of the case.
    pub repeat: u32,
    /// Whether spans were on.
    pub spans: bool,
    /// Token numbers, from 2.
    pub token: Vec<u64>,
    /// Gap before the token in ms; null where it is not a number.
    pub ms: Vec<Option<f64>>,
}

/// The chart of one case, and its points.
pub(in crate::report) fn itl(number: usize, case: &CaseBlock, rows: &[RepeatRow]) -> (Chart, Vec<ItlSeries>) {
    let id = format!("itl-{number}");
    let name = escape::cut(&escape::one_line(&case.name), 60);
    let mut chart = Chart::new(
        &id,
        &format!("Inter-token latency, case {name}"),
        "The gap before each token after the first, one line for each repeat (dashed where operator spans were on); a rising line \
         is attention over a growing context, spikes are other work on the machine. The axis does not begin at zero where all gaps lie \
         close together.",
    );
    let all: Vec<&RepeatRow> = rows
        .iter()
        .filter(|row| row.case == case.name && row.status == RowStatus::Ok && !row.itl_ms.is_empty())
        .collect();
    let longest = all.iter().map(|row| row.itl_ms.len()).max().unwrap_or(0);
    let Some([lowest, highest]) = extent(all.iter().flat_map(|row| row.itl_ms.iter().copied())) else {
        return (
            chart.nothing("No repeat of this case recorded a gap between tokens (two tokens or more are needed)."),
            Vec::new(),
        );
    };
    let shown = &all[..all.len().min(LINES)];

    let mut svg = Svg::new(WIDTH, HEIGHT);
    // A quarter of the spread below the fastest gap: variation stays visible, and zero is kept where it is near.
    let margin = ((highest - lowest) * 0.25).max(highest.abs() * 0.02);
    let range = [(lowest - margin).max(0.0), (highest + margin * 0.4).max(1e-9)];
    let y = Scale::linear(range, [BOTTOM, TOP]);
    let last_token = longest as f64 + 1.0;
    let x = Scale::linear([2.0, last_token], [LEFT, RIGHT]);
    for tick in y.ticks(5) {
        svg.line([LEFT, y.at(tick), RIGHT, y.at(tick)], "grid", None);
        svg.text([LEFT - 8.0, y.at(tick) + 4.0], Anchor::End, "tick", &tick_label(tick));
    }
    svg.raw("<g data-x-ticks=\"\">");
    for tick in x.ticks(8).into_iter().filter(|tick| tick.fract() == 0.0) {
        svg.text([x.at(tick), BOTTOM + 18.0], Anchor::Middle, "tick", &tick_label(tick));
    }
    svg.raw("</g>");
    svg.line([LEFT, BOTTOM, RIGHT, BOTTOM], "axis-line", None);
    svg.text([RIGHT, BOTTOM + 36.0], Anchor::End, "axis", "token");
    svg.text([LEFT, BOTTOM + 36.0], Anchor::Start, "axis", "ms per token");

    // The lines live in an inner coordinate system that the script can rescale without touching the axes.
    svg.raw(&format!(
        "<svg data-zoom=\"\" data-from=\"2\" data-to=\"{last_token}\" x=\"{LEFT}\" y=\"{TOP}\" width=\"{}\" height=\"{}\" \
         viewBox=\"0 0 1000 1000\" preserveAspectRatio=\"none\">\n",
        RIGHT - LEFT,
        BOTTOM - TOP
    ));
    let inner_x = Scale::linear([2.0, last_token], [0.0, 1000.0]);
    let inner_y = Scale::linear(range, [1000.0, 0.0]);
    let mut series = Vec::new();
    let mut thinned = 0;
    for (line, row) in shown.iter().enumerate() {
        let points = thin(&row.itl_ms, POINTS);
        thinned = thinned.max(row.itl_ms.len() - points.len());
        let at = |place: usize| place as f64 + 2.0;
        let style = if row.spans { " dashed" } else { "" };
        svg.path(
            &path(&points, |place| inner_x.at(at(place)), |value| inner_y.at(value)),
            &format!("line s{}{style}", line % 8),
            Some(&format!("repeat {}{}", row.repeat, if row.spans { ", spans on" } else { "" })),
        );
        series.push(ItlSeries {
            repeat: row.repeat,
            spans: row.spans,
            token: points.iter().map(|(place, _)| *place as u64 + 2).collect(),
            ms: points.iter().map(|(_, value)| value.is_finite().then_some(*value)).collect(),
        });
    }
    svg.raw("</svg>\n");

    // Percentiles come from the summary of the case, so that the lines say the same as the tables.
    if let Some(summary) = case.measures.get("itl_ms") {
        let mut previous = f64::INFINITY;
        for (name, value, percentile) in [("p95", summary.p95, 95), ("p50", summary.p50, 50)] {
            let Some(value) = value.filter(|value| value.is_finite() && (range[0]..=range[1]).contains(value)) else {
                continue;
            };
            let weak = summary.n < samples_needed(percentile);
            let text = format!("{name} {}{}", digits(value), if weak { "†" } else { "" });
            svg.line([LEFT, y.at(value), RIGHT, y.at(value)], "mark", Some(&format!("{name} of {} gaps", summary.n)));
            // Two labels need 14 units between them to be read.
            let place = if (y.at(value) - previous).abs() < 14.0 { previous + 14.0 } else { y.at(value) };
            svg.text([RIGHT + 6.0, place + 4.0], Anchor::Start, "label", &text);
            previous = place;
            if weak {
                chart.note =
                    Some(format!("† {name} needs {} gaps; there are {}.", samples_needed(percentile), summary.n));
            }
        }
    }
    for (line, row) in shown.iter().enumerate() {
        chart.legend.push((
            format!("s{} stroke{}", line % 8, if row.spans { " dashed" } else { "" }),
            format!("repeat {}{}", row.repeat, if row.spans { " (spans on)" } else { "" }),
        ));
    }
    let mut notes: Vec<String> = chart.note.take().into_iter().collect();
    if thinned > 0 {
        notes.push(format!(
            "{longest} gaps a line are drawn as at most {POINTS} points: the smallest and largest of each stretch."
        ));
    }
    if all.len() > shown.len() {
        notes.push(format!("The first {LINES} of {} repeats are drawn; per_run.jsonl has all.", all.len()));
    }
    chart.note = (!notes.is_empty()).then(|| notes.join(" "));
    chart.zoom = longest > 2;
    chart.svg = Some(svg.finish(&id, &format!("{} repeats, up to {} ms", all.len(), digits(highest))));
    (chart, series)
}

/// A polyline that breaks at gaps; a lone point becomes a dot.
pub(super) fn path(points: &[(usize, f64)], x: impl Fn(usize) -> f64, y: impl Fn(f64) -> f64) -> String {
    let mut data = String::new();
    let mut open = false;
    for (number, (place, value)) in points.iter().enumerate() {
        if !value.is_finite() {
            open = false;
            continue;
        }
        let (px, py) = (x(*place), y(*value));
        if open {
            data.push_str(&format!("L{px:.2} {py:.2}"));
        } else {
            data.push_str(&format!("M{px:.2} {py:.2}"));
            // A point without a neighbour is closed onto itself: round caps make a dot of it.
            if points.get(number + 1).is_none_or(|(_, next)| !next.is_finite()) {
                data.push('z');
            }
        }
        open = true;
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_at_gaps() {
        let points: Vec<(usize, f64)> = [1.0, 2.0, f64::NAN, 3.0].into_iter().enumerate().collect();
        assert_eq!(path(&points, |place| place as f64, |value| value), "M0.00 1.00L1.00 2.00M3.00 3.00z");
        assert_eq!(path(&[], |place| place as f64, |value| value), "");
    }
}
