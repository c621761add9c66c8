//! How values are spread: box and strip, empirical distribution, and the values in the order they were measured.

use super::Chart;
use super::svg::{Anchor, Scale, Svg, extent, tick_label};
use crate::report::escape;
use crate::report::number::{count, digits};
use crate::stats::quantile::quantile_of_sorted;

const WIDTH: f64 = 960.0;
const LEFT: f64 = 190.0;
const RIGHT: f64 = 760.0;
/// Subjects drawn.
const SERIES: usize = 12;

/// The values of one subject.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::report) struct Series {
    /// Its label.
    pub label: String,
    /// Values in the order they were measured.
    pub values: Vec<f64>,
    /// For each value its block; empty where there are none.
    pub blocks: Vec<u32>,
    /// Values before any were left out.
    pub total: u64,
}

impl Series {
    fn finite(&self) -> Vec<f64> {
        let mut values: Vec<f64> = self.values.iter().copied().filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        values
    }
    /// A note where not all values are there.
    fn thinned(&self) -> bool {
        self.total > self.values.len() as u64
    }
}

/// Range of all values; `None` where there is nothing to draw. A range that does not fit into a number has no axis.
fn range(series: &[Series]) -> Option<[f64; 2]> {
    let [low, high] = extent(series.iter().flat_map(|one| one.values.iter().copied()))?;
    let pad = (high - low) * 0.04;
    let range = [low - pad, high + pad];
    (range.iter().all(|end| end.is_finite()) && (high - low).is_finite() && low.abs().max(high.abs()) < 1e300)
        .then_some(range)
}

fn note(chart: &mut Chart, series: &[Series], left_out: usize) {
    let mut words = Vec::new();
    if left_out > 0 {
        words.push(format!("{left_out} more subjects are not drawn."));
    }
    if series.iter().any(Series::thinned) {
        let all: u64 = series.iter().map(|one| one.total).fold(0, u64::saturating_add);
        let kept: u64 = series.iter().map(|one| one.values.len() as u64).sum();
        words.push(format!("{} of {} values are drawn, evenly picked in their order.", count(kept), count(all)));
    }
    if !words.is_empty() {
        chart.note = Some(words.join(" "));
    }
}

fn label(svg: &mut Svg, at: [f64; 2], text: &str) {
    let text = escape::one_line(text);
    let short = escape::cut(&text, 26);
    svg.text_with_title(at, Anchor::End, "label", &short, (short != text).then_some(&escape::cut(&text, 400)));
}

fn legend(series: &[Series]) -> Vec<(String, String)> {
    let key = |(at, one): (usize, &Series)| (format!("m{}", at % 8), escape::cut(&escape::one_line(&one.label), 60));
    series.iter().enumerate().map(key).collect()
}

/// A box for each subject, and every value as a dot below it.
pub(in crate::report) fn boxes(mut chart: Chart, all: &[Series], unit: &str) -> Chart {
    const ROW: f64 = 56.0;
    let series = &all[..all.len().min(SERIES)];
    let Some(range) = range(series) else { return chart.nothing("There are no values to draw.") };
    let height = 10.0 + ROW * series.len() as f64;
    let mut svg = Svg::new(WIDTH, height + 44.0);
    let scale = Scale::linear(range, [LEFT, RIGHT]);
    axis(&mut svg, &scale, height, &axis_words(unit, range));
    for (at, one) in series.iter().enumerate() {
        let top = 8.0 + ROW * at as f64;
        label(&mut svg, [LEFT - 10.0, top + 18.0], &one.label);
        let sorted = one.finite();
        let quantile = |p: f64| quantile_of_sorted(&sorted, p);
        let n = sorted.len();
        let (Some(q1), Some(median), Some(q3)) = (quantile(0.25), quantile(0.5), quantile(0.75)) else {
            svg.text([LEFT + 8.0, top + 18.0], Anchor::Start, "tick", "no values");
            continue;
        };
        let x = |value: f64| scale.at(value);
        let color = format!("s{}", at % 8);
        let title = format!(
            "{}: median {}, quartiles {} and {}, {} values from {} to {}",
            escape::cut(&escape::one_line(&one.label), 80),
            digits(median),
            digits(q1),
            digits(q3),
            count(n as u64),
            sorted.first().copied().map_or_else(String::new, digits),
            sorted.last().copied().map_or_else(String::new, digits)
        );
        // Quartiles of a handful of values are no box; the dots say all there is.
        if n >= 5 {
            let reach = 1.5 * (q3 - q1);
            let low = sorted.iter().copied().find(|value| *value >= q1 - reach).unwrap_or(q1);
            let high = sorted.iter().rev().copied().find(|value| *value <= q3 + reach).unwrap_or(q3);
            svg.line([x(low), top + 14.0, x(q1), top + 14.0], &format!("line {color}"), None);
            svg.line([x(q3), top + 14.0, x(high), top + 14.0], &format!("line {color}"), None);
            svg.rect([x(q1), top + 3.0, (x(q3) - x(q1)).max(0.5), 22.0], &format!("box {color}"), Some(&title));
        }
        svg.line([x(median), top + 1.0, x(median), top + 27.0], &format!("median {color}"), Some(&title));
        let mut dots = String::new();
        for (place, value) in one.values.iter().enumerate().filter(|(_, value)| value.is_finite()) {
            // A fixed spread keeps equal values apart without pretending that the height means something.
            let down = [0.0, 6.0, 2.0, 8.0, 4.0][place % 5];
            dots.push_str(&format!("M{:.1} {:.1}h.01", x(*value), top + 34.0 + down));
        }
        svg.path(&dots, &format!("dots {color}"), None);
        let text = format!("median {} {unit}", digits(median));
        svg.text([RIGHT + 12.0, top + 12.0], Anchor::Start, "label", &escape::cut(&text, 30));
        svg.text([RIGHT + 12.0, top + 28.0], Anchor::Start, "tick", &format!("n = {}", count(one.total)));
    }
    note(&mut chart, series, all.len() - series.len());
    let text = format!("{}: box and dots of {} subjects", chart.title, series.len());
    chart.svg = Some(svg.finish(&chart.id, &text));
    chart
}

/// The unit, and whether the axis leaves out 0.
fn axis_words(unit: &str, [low, high]: [f64; 2]) -> String {
    let unit = escape::cut(&escape::one_line(unit), 40);
    let cut = if low > 0.0 || high < 0.0 { "the axis does not hold 0" } else { "" };
    match (unit.is_empty(), cut.is_empty()) {
        (_, true) => unit,
        (true, false) => cut.to_owned(),
        (false, false) => format!("{unit} ({cut})"),
    }
}

fn axis(svg: &mut Svg, scale: &Scale, bottom: f64, words: &str) {
    for tick in scale.ticks(6) {
        svg.line([scale.at(tick), 4.0, scale.at(tick), bottom], "grid", None);
        svg.text([scale.at(tick), bottom + 16.0], Anchor::Middle, "tick", &tick_label(tick));
    }
    svg.line([LEFT, bottom, RIGHT, bottom], "axis-line", None);
    svg.text([RIGHT, bottom + 34.0], Anchor::End, "axis", words);
}

/// The share of values at or below each value, one line a subject.
pub(in crate::report) fn ecdf(mut chart: Chart, all: &[Series], unit: &str) -> Chart {
    const BOTTOM: f64 = 250.0;
    const TOP: f64 = 12.0;
    let series = &all[..all.len().min(SERIES)];
    let Some(range) = range(series) else { return chart.nothing("There are no values to draw.") };
    let mut svg = Svg::new(WIDTH, BOTTOM + 44.0);
    let x = Scale::linear(range, [LEFT, RIGHT]);
    let y = Scale::linear([0.0, 100.0], [BOTTOM, TOP]);
    axis(&mut svg, &x, BOTTOM, &axis_words(unit, range));
    for tick in y.ticks(4) {
        svg.line([LEFT, y.at(tick), RIGHT, y.at(tick)], "grid", None);
        svg.text([LEFT - 8.0, y.at(tick) + 4.0], Anchor::End, "tick", &format!("{} %", tick_label(tick)));
    }
    for (at, one) in series.iter().enumerate() {
        let sorted = one.finite();
        let n = sorted.len();
        if n == 0 {
            continue;
        }
        let mut data = format!("M{LEFT:.1} {BOTTOM:.1}");
        for (place, value) in sorted.iter().enumerate() {
            data.push_str(&format!("H{:.1}V{:.1}", x.at(*value), y.at((place + 1) as f64 / n as f64 * 100.0)));
        }
        data.push_str(&format!("H{RIGHT:.1}"));
        let title = format!("{}: {} values", escape::cut(&escape::one_line(&one.label), 80), count(n as u64));
        svg.path(&data, &format!("line s{} d{}", at % 8, at % 4), Some(&title));
    }
    chart.legend = legend(series);
    note(&mut chart, series, all.len() - series.len());
    let text = format!("{}: share of values at or below each value, {} subjects", chart.title, series.len());
    chart.svg = Some(svg.finish(&chart.id, &text));
    chart
}

/// Values in the order they were measured, by block where there are blocks: drift and outliers.
pub(in crate::report) fn in_order(mut chart: Chart, all: &[Series], unit: &str) -> Chart {
    const BOTTOM: f64 = 250.0;
    const TOP: f64 = 12.0;
    const EDGE: f64 = 900.0;
    const BEGIN: f64 = 90.0;
    let series = &all[..all.len().min(SERIES)];
    let Some(range) = range(series) else { return chart.nothing("There are no values to draw.") };
    let mut svg = Svg::new(WIDTH, BOTTOM + 44.0);
    let y = Scale::linear(range, [BOTTOM, TOP]);
    for tick in y.ticks(5) {
        svg.line([BEGIN, y.at(tick), EDGE, y.at(tick)], "grid", None);
        svg.text([BEGIN - 8.0, y.at(tick) + 4.0], Anchor::End, "tick", &tick_label(tick));
    }
    svg.line([BEGIN, BOTTOM, EDGE, BOTTOM], "axis-line", None);
    // Only where every subject says its blocks is there a common order.
    let blocked = series.iter().all(|one| !one.values.is_empty() && one.blocks.len() == one.values.len());
    if blocked {
        by_block(&mut svg, series, &y, [BEGIN, EDGE], BOTTOM);
    } else {
        let longest = series.iter().map(|one| one.values.len()).max().unwrap_or(1).max(2);
        let x = Scale::linear([0.0, (longest - 1) as f64], [BEGIN + 8.0, EDGE - 8.0]);
        for (at, one) in series.iter().enumerate() {
            let mut dots = String::new();
            for (place, value) in one.values.iter().enumerate().filter(|(_, value)| value.is_finite()) {
                dots.push_str(&format!("M{:.1} {:.1}h.01", x.at(place as f64), y.at(*value)));
            }
            svg.path(&dots, &format!("dots s{}", at % 8), None);
        }
    }
    let axis = if blocked { "block" } else { "order of measurement within each subject" };
    svg.text([EDGE, BOTTOM + 36.0], Anchor::End, "axis", axis);
    svg.text([BEGIN, BOTTOM + 36.0], Anchor::Start, "axis", &axis_words(unit, range));
    chart.legend = legend(series);
    note(&mut chart, series, all.len() - series.len());
    let text = format!("{}: values in the order they were measured, {} subjects", chart.title, series.len());
    chart.svg = Some(svg.finish(&chart.id, &text));
    chart
}

/// One slot for each block, the subjects side by side in it, and a line through the medians of each subject.
fn by_block(svg: &mut Svg, series: &[Series], y: &Scale, [begin, edge]: [f64; 2], bottom: f64) {
    let mut blocks: Vec<u32> = series.iter().flat_map(|one| one.blocks.iter().copied()).collect();
    blocks.sort_unstable();
    blocks.dedup();
    let slot = (edge - begin) / blocks.len().max(1) as f64;
    let every = (46.0 / slot).ceil().max(1.0) as usize;
    for (at, block) in blocks.iter().enumerate() {
        let left = begin + slot * at as f64;
        if at > 0 {
            svg.line([left, 12.0, left, bottom], "grid", None);
        }
        if at % every == 0 {
            svg.text([left + slot / 2.0, bottom + 16.0], Anchor::Middle, "tick", &block.to_string());
        }
    }
    for (number, one) in series.iter().enumerate() {
        let (mut dots, mut line) = (String::new(), String::new());
        for (at, block) in blocks.iter().enumerate() {
            let inside = one.values.iter().zip(&one.blocks).filter(|(value, of)| *of == block && value.is_finite());
            let values: Vec<f64> = inside.map(|(value, _)| *value).collect();
            let left = begin + slot * at as f64;
            let lane = slot * 0.86 / series.len() as f64;
            let from = left + slot * 0.07 + lane * number as f64;
            for (place, value) in values.iter().enumerate() {
                let x = from + lane * (place as f64 + 0.5) / values.len() as f64;
                dots.push_str(&format!("M{x:.1} {:.1}h.01", y.at(*value)));
            }
            let mut sorted = values;
            sorted.sort_by(f64::total_cmp);
            if let Some(median) = quantile_of_sorted(&sorted, 0.5) {
                let command = if line.is_empty() { 'M' } else { 'L' };
                line.push_str(&format!("{command}{:.1} {:.1}", from + lane / 2.0, y.at(median)));
            }
        }
        svg.path(&dots, &format!("dots s{}", number % 8), None);
        let title = format!("{}: medians of the blocks", escape::cut(&escape::one_line(&one.label), 80));
        svg.path(&line, &format!("line s{} d{}", number % 8, number % 4), Some(&title));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(values: &[f64], blocks: &[u32]) -> Series {
        Series { label: "a".to_owned(), values: values.to_vec(), blocks: blocks.to_vec(), total: values.len() as u64 }
    }

    fn chart() -> Chart {
        Chart::new("x", "X", "")
    }

    #[test]
    fn the_line_through_the_blocks_goes_through_their_medians() {
        // Two blocks, medians 2 and 6, range 1 to 7 with 4 % room: 238 units from top to bottom.
        let svg = in_order(chart(), &[series(&[1.0, 2.0, 3.0, 5.0, 6.0, 7.0], &[0, 0, 0, 1, 1, 1])], "ms").svg.unwrap();
        let height = |value: f64| 250.0 - (value - 0.76) / 6.48 * 238.0;
        assert!(svg.contains(&format!("M292.5 {:.1}L697.5 {:.1}", height(2.0), height(6.0))), "{svg}");
    }

    #[test]
    fn the_distribution_climbs_by_one_nth_at_each_value() {
        let svg = ecdf(chart(), &[series(&[2.0, 1.0], &[])], "ms").svg.unwrap();
        // Half at 1, all at 2: 238 units are 100 %.
        assert!(svg.contains("V131.0H") && svg.contains("V12.0H760.0"), "{svg}");
    }

    #[test]
    fn few_values_get_no_box_and_no_values_no_picture() {
        let few = boxes(chart(), &[series(&[1.0, 2.0, 3.0], &[])], "ms").svg.unwrap();
        assert!(!few.contains("class=\"box") && few.contains("class=\"dots"), "{few}");
        let some = boxes(chart(), &[series(&[1.0, 2.0, 3.0, 4.0, 5.0], &[])], "ms").svg.unwrap();
        assert!(some.contains("class=\"box"));
        for draw in [boxes, ecdf, in_order] {
            assert!(draw(chart(), &[], "ms").empty.is_some());
            assert!(draw(chart(), &[series(&[f64::NAN], &[])], "ms").empty.is_some());
            assert!(draw(chart(), &[series(&[-1e308, 1e308], &[])], "ms").empty.is_some());
            let svg = draw(chart(), &[series(&[f64::NAN, 3.0], &[]), series(&[], &[])], "ms").svg.unwrap();
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }
}
