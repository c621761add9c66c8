//! Values over the time of a run, a strip for each, what ran meanwhile in grey behind them.

use super::itl::path;
use super::svg::{Anchor, Scale, Svg, extent, tick_label};
use super::{Chart, thin};
use crate::report::escape::{cut, one_line};
use crate::report::number::digits;

const WIDTH: f64 = 960.0;
const LEFT: f64 = 76.0;
const RIGHT: f64 = 930.0;
const STRIP: f64 = 92.0;
const ROOM: f64 = 32.0;
/// Points kept of a strip: more than the pixels it is drawn on.
const POINTS: usize = 1600;
/// Strips and spans drawn.
const STRIPS: usize = 8;
const SPANS: usize = 60;

/// One strip.
#[derive(Debug, Clone, PartialEq, Default)]
pub(in crate::report) struct Strip {
    /// What it is.
    pub name: String,
    /// Its unit; empty for counts.
    pub unit: String,
    /// Time in seconds and value; `NaN` is a gap.
    pub points: Vec<(f64, f64)>,
    /// Whether a value holds until the next.
    pub steps: bool,
}

/// Something that ran.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::report) struct Span {
    /// Begin, in seconds.
    pub from: f64,
    /// End.
    pub to: f64,
    /// Its name.
    pub name: String,
}

/// Draws the strips one below the other; all begin at 0.
pub(in crate::report) fn over_time(mut chart: Chart, strips: &[Strip], spans: &[Span], nothing: &str) -> Chart {
    let drawable: Vec<&Strip> = strips
        .iter()
        .filter(|strip| strip.points.iter().any(|(at, value)| at.is_finite() && value.is_finite()))
        .collect();
    let left_out = drawable.len().saturating_sub(STRIPS);
    let drawn = &drawable[..drawable.len().min(STRIPS)];
    let times = drawn.iter().flat_map(|strip| strip.points.iter().map(|point| point.0));
    let ends = spans.iter().flat_map(|span| [span.from, span.to]);
    let Some([begin, end]) = extent(times.chain(ends)).filter(|_| !drawn.is_empty()) else {
        return chart.nothing(nothing);
    };
    let x = Scale::linear([begin.min(0.0), end.max(begin + 1e-3)], [LEFT, RIGHT]);
    let bottom = 10.0 + (STRIP + ROOM) * drawn.len() as f64 - ROOM;
    let mut svg = Svg::new(WIDTH, bottom + 56.0);
    let mut thinned = false;
    for (number, strip) in drawn.iter().enumerate() {
        thinned |= draw(&mut svg, &x, 10.0 + (STRIP + ROOM) * number as f64, strip, spans);
    }
    for tick in x.ticks(10) {
        svg.text([x.at(tick), bottom + 34.0], Anchor::Middle, "tick", &tick_label(tick));
    }
    svg.text([RIGHT, bottom + 50.0], Anchor::End, "axis", "s since the run began");
    let mut notes = Vec::new();
    if thinned {
        notes.push(format!("At most {POINTS} points a line are drawn, the smallest and largest of each stretch."));
    }
    if left_out > 0 {
        notes.push(format!("{left_out} more values are not drawn."));
    }
    chart.note = (!notes.is_empty()).then(|| notes.join(" "));
    let names: Vec<&str> = drawn.iter().map(|strip| strip.name.as_str()).collect();
    let label = format!("{} over {} s", one_line(&names.join(", ")), digits(end - begin));
    chart.svg = Some(svg.finish(&chart.id, &cut(&label, 300)));
    chart
}

fn draw(svg: &mut Svg, x: &Scale, top: f64, strip: &Strip, spans: &[Span]) -> bool {
    let bottom = top + STRIP;
    let values = strip.points.iter().map(|point| point.1);
    let Some([low, high]) = extent(values).filter(|[low, high]| (high - low).is_finite()) else { return false };
    let y = Scale::linear([low.min(0.0), if high > 0.0 { high * 1.08 } else { 1.0 }], [bottom, top]);
    for span in spans.iter().take(SPANS).filter(|span| span.to >= span.from) {
        let [from, to] = [x.at(span.from), x.at(span.to)];
        svg.rect([from, top, (to - from).max(0.5), STRIP], "repeat-span", Some(&cut(&one_line(&span.name), 120)));
    }
    for tick in y.ticks(3) {
        svg.line([LEFT, y.at(tick), RIGHT, y.at(tick)], "grid", None);
        svg.text([LEFT - 8.0, y.at(tick) + 4.0], Anchor::End, "tick", &tick_label(tick));
    }
    svg.line([LEFT, bottom, RIGHT, bottom], "axis-line", None);
    let unit = if strip.unit.is_empty() { String::new() } else { format!(", {}", strip.unit) };
    let name = cut(&one_line(&format!("{}{unit}", strip.name)), 80);
    svg.text([LEFT, bottom + 16.0], Anchor::Start, "axis", &name);
    let mut points: Vec<(f64, f64)> = Vec::with_capacity(strip.points.len() * 2);
    for (at, value) in strip.points.iter().filter(|point| point.0.is_finite()) {
        if let Some((_, before)) = points.last().copied().filter(|_| strip.steps) {
            points.push((*at, before));
        }
        points.push((*at, *value));
    }
    let drawn: Vec<f64> = points.iter().map(|point| point.1).collect();
    let kept = thin(&drawn, POINTS);
    let line = path(&kept, |place| x.at(points[place].0), |value| y.at(value));
    svg.path(&line, "line s0", Some(&format!("{name}: {} to {}", digits(low), digits(high))));
    drawn.len() > kept.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strip(points: &[(f64, f64)], steps: bool) -> Strip {
        Strip { name: "in flight".to_owned(), points: points.to_vec(), steps, ..Strip::default() }
    }

    fn draw(strips: &[Strip]) -> Chart {
        let span = Span { from: 0.0, to: 1.0, name: "<c=1>".to_owned() };
        over_time(Chart::new("t", "T", ""), strips, &[span], "nothing")
    }

    #[test]
    fn a_count_holds_until_the_next_and_a_gap_breaks_the_line() {
        let svg = draw(&[strip(&[(0.0, 1.0), (1.0, 2.0)], true)]).svg.unwrap();
        let line = svg.lines().find(|line| line.contains("class=\"line s0\"")).unwrap();
        assert_eq!((line.matches('M').count(), line.matches('L').count()), (1, 2), "{line}");
        assert!(svg.contains("&lt;c=1&gt;"));
        let broken = draw(&[strip(&[(0.0, 1.0), (0.5, f64::NAN), (1.0, 2.0)], false)]).svg.unwrap();
        assert!(!broken.contains("NaN") && broken.contains('z'), "{broken}");
    }

    #[test]
    fn nothing_says_so_and_a_long_line_is_thinned() {
        assert_eq!(draw(&[]).empty.as_deref(), Some("nothing"));
        assert!(draw(&[strip(&[(0.0, f64::NAN)], false)]).empty.is_some());
        let many: Vec<(f64, f64)> = (0..100_000).map(|at| (f64::from(at), f64::from(at % 7))).collect();
        let chart = draw(&[strip(&many, false)]);
        assert!(chart.svg.unwrap().len() < 100_000 && chart.note.unwrap().contains("1600 points"));
    }
}
