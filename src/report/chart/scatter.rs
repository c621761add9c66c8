//! Points over two measures, those that no other beats joined by a line.

use super::Chart;
use super::svg::{Anchor, Scale, Svg, extent, tick_label};
use crate::report::escape;

const WIDTH: f64 = 960.0;
const LEFT: f64 = 90.0;
const RIGHT: f64 = 930.0;
const TOP: f64 = 24.0;
const BOTTOM: f64 = 350.0;
/// Points of the front that are named in the drawing; the table names all.
const NAMED: usize = 12;

/// One axis.
#[derive(Debug, Clone, PartialEq, Default)]
pub(in crate::report) struct ScatterAxis {
    /// What it is, with its unit.
    pub title: String,
    /// Whether small values are the good ones.
    pub lower_is_better: bool,
}

/// One point.
#[derive(Debug, Clone, PartialEq, Default)]
pub(in crate::report) struct ScatterPoint {
    /// Where it is.
    pub at: [f64; 2],
    /// Its name.
    pub label: String,
    /// Shown on hover.
    pub title: String,
    /// No other point beats it.
    pub front: bool,
    /// Marked as the best.
    pub best: bool,
}

/// Draws the points.
pub(in crate::report) fn scatter(mut chart: Chart, axes: &[ScatterAxis; 2], points: &[ScatterPoint]) -> Chart {
    let drawable: Vec<&ScatterPoint> = points.iter().filter(|point| point.at.iter().all(|v| v.is_finite())).collect();
    let range = |axis: usize| {
        let [low, high] = extent(drawable.iter().map(|point| point.at[axis]))?;
        let pad = (high - low) * 0.08;
        let range = [low - pad, high + pad];
        range.iter().all(|end| end.is_finite() && end.abs() < 1e300).then_some(range)
    };
    let (Some(x), Some(y)) = (range(0), range(1)) else {
        return chart.nothing("No point has both measures.");
    };
    let mut svg = Svg::new(WIDTH, BOTTOM + 50.0);
    let (across, up) = (Scale::linear(x, [LEFT, RIGHT]), Scale::linear(y, [BOTTOM, TOP]));
    for tick in across.ticks(6) {
        svg.line([across.at(tick), TOP, across.at(tick), BOTTOM], "grid", None);
        svg.text([across.at(tick), BOTTOM + 16.0], Anchor::Middle, "tick", &tick_label(tick));
    }
    for tick in up.ticks(5) {
        svg.line([LEFT, up.at(tick), RIGHT, up.at(tick)], "grid", None);
        svg.text([LEFT - 8.0, up.at(tick) + 4.0], Anchor::End, "tick", &tick_label(tick));
    }
    svg.line([LEFT, BOTTOM, RIGHT, BOTTOM], "axis-line", None);
    svg.line([LEFT, TOP, LEFT, BOTTOM], "axis-line", None);
    let words = |axis: &ScatterAxis, [less, more]: [&str; 2]| {
        let better = if axis.lower_is_better { less } else { more };
        format!("{} ({better} is better)", escape::cut(&escape::one_line(&axis.title), 60))
    };
    svg.text([RIGHT, BOTTOM + 36.0], Anchor::End, "axis", &words(&axes[0], ["left", "right"]));
    svg.text([LEFT - 60.0, 12.0], Anchor::Start, "axis", &words(&axes[1], ["down", "up"]));

    let mut front: Vec<&ScatterPoint> = drawable.iter().copied().filter(|point| point.front).collect();
    front.sort_by(|a, b| a.at[0].total_cmp(&b.at[0]).then(a.at[1].total_cmp(&b.at[1])));
    let mut line = String::new();
    for point in &front {
        let sign = if line.is_empty() { 'M' } else { 'L' };
        line.push_str(&format!("{sign}{:.1} {:.1}", across.at(point.at[0]), up.at(point.at[1])));
    }
    if front.len() > 1 {
        svg.path(&line, "line s0 dashed", None);
    }
    for point in drawable.iter().filter(|point| !point.front) {
        svg.circle([across.at(point.at[0]), up.at(point.at[1]), 4.0], "hollow", Some(&point.title));
    }
    for (index, point) in front.iter().enumerate() {
        let (left, top) = (across.at(point.at[0]), up.at(point.at[1]));
        svg.diamond([left, top, 6.0], "solid", Some(&point.title));
        if index < NAMED {
            // Names of points on the right would leave the drawing.
            let (anchor, left) =
                if left > RIGHT - 220.0 { (Anchor::End, left - 10.0) } else { (Anchor::Start, left + 10.0) };
            let text = escape::cut(&escape::one_line(&point.label), 34);
            svg.text_with_title([left, top - 6.0], anchor, "label", &text, Some(&point.title));
        }
    }
    for point in drawable.iter().filter(|point| point.best) {
        svg.circle([across.at(point.at[0]), up.at(point.at[1]), 10.0], "ringed", Some(&point.title));
    }
    chart.legend.push(("solid".to_owned(), "diamond: no other point is better in all measures".to_owned()));
    if drawable.len() > front.len() {
        chart.legend.push(("hollow".to_owned(), "circle: another point is better".to_owned()));
    }
    if drawable.iter().any(|point| point.best) {
        chart.legend.push(("ringed".to_owned(), "ring: the best by the objective".to_owned()));
    }
    if front.len() > NAMED {
        chart.note = Some(format!("{NAMED} of {} points of the front are named; the table names all.", front.len()));
    }
    let label = format!("{}: {} points, {} of them on the front", chart.title, drawable.len(), front.len());
    chart.svg = Some(svg.finish(&chart.id, &label));
    chart
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(at: [f64; 2], front: bool) -> ScatterPoint {
        ScatterPoint { at, front, label: "batch=1".to_owned(), title: "T".to_owned(), best: false }
    }

    fn draw(points: &[ScatterPoint]) -> Chart {
        let axis = |lower_is_better| ScatterAxis { title: "time, ms".to_owned(), lower_is_better };
        scatter(Chart::new("p", "P", ""), &[axis(true), axis(false)], points)
    }

    #[test]
    fn the_front_is_joined_in_order_and_marked_by_shape() {
        let chart = draw(&[point([3.0, 9.0], true), point([1.0, 2.0], true), point([3.0, 1.0], false)]);
        let svg = chart.svg.unwrap();
        assert_eq!(svg.matches("class=\"solid\"").count(), 2);
        assert_eq!(svg.matches("class=\"hollow\"").count(), 1);
        let line = svg.lines().find(|line| line.contains("line s0 dashed")).unwrap();
        let starts: Vec<f64> =
            line.split(['M', 'L']).skip(1).filter_map(|part| part.split(' ').next()?.parse().ok()).collect();
        assert!(starts.is_sorted(), "{line}");
        assert!(svg.contains("left is better") && svg.contains("up is better"));
        assert_eq!(chart.legend.len(), 2);
    }

    #[test]
    fn no_point_and_one_point_are_drawn_as_such() {
        assert!(draw(&[]).empty.is_some());
        assert!(draw(&[point([f64::NAN, 1.0], true)]).empty.is_some());
        assert!(draw(&[point([1.0, 1.0], true)]).svg.is_some());
        assert!(draw(&[point([-1e308, 1.0], true), point([1e308, 1.0], true)]).empty.is_some());
    }
}
