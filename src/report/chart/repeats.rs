//! Every repeat as a mark, with the mean and its interval: how much the numbers vary, and which repeats were disturbed.

use super::Chart;
use super::svg::{Anchor, Scale, Svg, extent, tick_label};
use crate::record::metrics::CaseBlock;
use crate::record::rows::{RepeatRow, RowStatus};
use crate::report::escape;
use crate::report::number::{digits, plus_minus};
use crate::stats::summary::Summary;

const WIDTH: f64 = 960.0;
const LEFT: f64 = 230.0;
const RIGHT: f64 = 760.0;
/// Cases drawn.
const CASES: usize = 6;
/// Marks drawn in one strip.
const MARKS: usize = 400;

type Pick = fn(&RepeatRow) -> Option<f64>;
const MEASURES: [(&str, &str, Pick); 3] = [
    ("ttft_ms", "TTFT (ms)", |row| row.ttft_ms),
    ("tpot_ms", "TPOT (ms)", |row| row.tpot_ms),
    ("decode_tok_per_s", "decode (tok/s)", |row| row.decode_tok_per_s),
];

/// The chart of all cases.
pub(in crate::report) fn repeats(cases: &[CaseBlock], rows: &[RepeatRow]) -> Chart {
    let mut chart = Chart::new(
        "repeats",
        "Repeats and intervals",
        "Each mark is one repeat (hollow: with operator spans, crossed: disturbed by other processes); the bar is the 95 % interval \
         of the mean over repeats without spans. Every strip has its own scale and does not begin at zero.",
    );
    let mut strips = Vec::new();
    for case in &cases[..cases.len().min(CASES)] {
        for (name, label, pick) in MEASURES {
            let marks: Vec<(&RepeatRow, f64)> = rows
                .iter()
                .filter(|row| row.case == case.name && row.status == RowStatus::Ok)
                .filter_map(|row| pick(row).filter(|value| value.is_finite()).map(|value| (row, value)))
                .collect();
            if !marks.is_empty() {
                strips.push((case, case.measures.get(name), label, marks));
            }
        }
    }
    if strips.is_empty() {
        return chart.nothing("No repeat ended well.");
    }
    let height = 14.0 + 62.0 * strips.len() as f64;
    let mut svg = Svg::new(WIDTH, height);
    let mut left_out = 0;
    for (number, (case, summary, label, marks)) in strips.iter().enumerate() {
        let middle = 30.0 + 62.0 * number as f64;
        let name = escape::one_line(&case.name);
        svg.text_with_title([LEFT - 16.0, middle - 2.0], Anchor::End, "label", label, Some(&name));
        svg.text_with_title([LEFT - 16.0, middle + 14.0], Anchor::End, "tick", &escape::cut(&name, 28), Some(&name));
        strip(&mut svg, middle, *summary, marks);
        left_out += marks.len().saturating_sub(MARKS);
    }
    let mut notes = Vec::new();
    if left_out > 0 {
        notes.push(format!("{left_out} repeats beyond the first {MARKS} of a strip are not drawn."));
    }
    if cases.len() > CASES {
        notes.push(format!("The first {CASES} of {} cases are drawn.", cases.len()));
    }
    chart.note = (!notes.is_empty()).then(|| notes.join(" "));
    chart.svg = Some(svg.finish("repeats", &format!("{} strips", strips.len())));
    chart
}

fn strip(svg: &mut Svg, middle: f64, summary: Option<&Summary>, marks: &[(&RepeatRow, f64)]) {
    let interval = summary.and_then(|summary| summary.ci95).filter(|[low, high]| low.is_finite() && high.is_finite());
    let bounds = marks.iter().map(|(_, value)| *value).chain(interval.into_iter().flatten());
    let Some([low, high]) = extent(bounds) else { return };
    let margin = (high - low) * 0.06;
    let x = Scale::linear([low - margin, high + margin], [LEFT, RIGHT]);
    svg.line([LEFT, middle + 14.0, RIGHT, middle + 14.0], "axis-line", None);
    for tick in x.ticks(6) {
        svg.line([x.at(tick), middle + 14.0, x.at(tick), middle + 18.0], "axis-line", None);
        svg.text([x.at(tick), middle + 30.0], Anchor::Middle, "tick", &tick_label(tick));
    }
    if let Some([low, high]) = interval {
        let title = format!("95 % interval of the mean: {} to {}", digits(low), digits(high));
        svg.rect([x.at(low), middle - 9.0, x.at(high) - x.at(low), 18.0], "interval", Some(&title));
    }
    if let Some(mean) = summary.and_then(|summary| summary.mean).filter(|mean| mean.is_finite()) {
        svg.line(
            [x.at(mean), middle - 12.0, x.at(mean), middle + 12.0],
            "mean",
            Some(&format!("mean {}", digits(mean))),
        );
    }
    for (row, value) in marks.iter().take(MARKS) {
        let title = format!(
            "repeat {}: {}{}{}",
            row.repeat,
            digits(*value),
            if row.spans { ", spans on" } else { "" },
            if row.contention.disturbed { ", disturbed" } else { "" }
        );
        let at = x.at(*value);
        svg.circle([at, middle, 5.0], if row.spans { "hollow" } else { "solid" }, Some(&title));
        if row.contention.disturbed {
            svg.line([at - 5.0, middle - 5.0, at + 5.0, middle + 5.0], "cross", None);
            svg.line([at - 5.0, middle + 5.0, at + 5.0, middle - 5.0], "cross", None);
        }
    }
    if let Some(summary) = summary {
        let text = match (summary.mean, interval) {
            (Some(mean), Some([low, high])) => {
                format!("{} (n={})", plus_minus(mean, (high - low) / 2.0), summary.n)
            }
            (Some(mean), None) => format!("{} (n={}, no interval)", digits(mean), summary.n),
            _ => format!("n={}", summary.n),
        };
        svg.text([RIGHT + 14.0, middle + 4.0], Anchor::Start, "value", &text);
    }
}
