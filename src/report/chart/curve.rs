//! Measures over the load: a line for each, the points of several runs in one drawing, and the knee with its interval.

use super::Chart;
use super::svg::{Anchor, Scale, Svg, extent, tick_label};
use crate::report::escape::{cut, one_line};
use crate::report::number::{digits, load};

const WIDTH: f64 = 960.0;
const LEFT: f64 = 76.0;
const RIGHT: f64 = 930.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = 290.0;
/// Lines drawn; more cannot be told apart.
const CURVES: usize = 12;
/// Loads that differ by at least this factor get a logarithmic axis: doublings are even steps on it.
const LOG_FROM: f64 = 8.0;
/// Room a label below the axis needs.
const LABEL: f64 = 40.0;

/// One point.
#[derive(Debug, Clone, PartialEq, Default)]
pub(in crate::report) struct CurvePoint {
    /// Load and value.
    pub at: [f64; 2],
    /// Shown on hover.
    pub title: String,
    /// Drawn hollow: the value is weaker than it looks.
    pub weak: bool,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Default)]
pub(in crate::report) struct Curve {
    /// Its key.
    pub label: String,
    /// Which run it is of; sets the dashes.
    pub run: usize,
    /// Its points in any order.
    pub points: Vec<CurvePoint>,
}

/// Where throughput stops to grow.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::report) struct KneeMark {
    /// Load.
    pub at: f64,
    /// Its interval.
    pub interval: [f64; 2],
}

/// Draws the lines over `x`, with `unit` up.
pub(in crate::report) fn curves(
    mut chart: Chart,
    all: &[Curve],
    x_title: &str,
    unit: &str,
    knee: Option<KneeMark>,
) -> Chart {
    let finite = |point: &&CurvePoint| point.at.iter().all(|value| value.is_finite() && value.abs() < 1e300);
    let drawn: Vec<(&Curve, Vec<&CurvePoint>)> = all
        .iter()
        .map(|curve| {
            let mut points: Vec<&CurvePoint> = curve.points.iter().filter(finite).collect();
            points.sort_by(|a, b| a.at[0].total_cmp(&b.at[0]));
            (curve, points)
        })
        .filter(|(_, points)| !points.is_empty())
        .collect();
    let shown = &drawn[..drawn.len().min(CURVES)];
    let of = |axis: usize| extent(shown.iter().flat_map(|(_, points)| points.iter().map(move |point| point.at[axis])));
    let (Some([left, right]), Some([low, high])) = (of(0), of(1)) else {
        return chart.nothing("No stage has a value of this.");
    };
    let log = left > 0.0 && right / left >= LOG_FROM;
    let x = if log {
        Scale::log([left, right], [LEFT + 14.0, RIGHT - 14.0])
    } else {
        Scale::linear([left, right], [LEFT + 14.0, RIGHT - 14.0])
    };
    let top = if high > 0.0 { high * 1.06 } else { 1.0 };
    let y = Scale::linear([low.min(0.0), top], [BOTTOM, TOP]);
    let mut svg = Svg::new(WIDTH, BOTTOM + 46.0);
    for tick in y.ticks(5) {
        svg.line([LEFT, y.at(tick), RIGHT, y.at(tick)], "grid", None);
        svg.text([LEFT - 8.0, y.at(tick) + 4.0], Anchor::End, "tick", &tick_label(tick));
    }
    ticks(&mut svg, shown, &x);
    svg.line([LEFT, BOTTOM, RIGHT, BOTTOM], "axis-line", None);
    let scale = if log { ", logarithmic" } else { "" };
    svg.text([RIGHT, BOTTOM + 38.0], Anchor::End, "axis", &format!("{}{scale}", cut(&one_line(x_title), 60)));
    svg.text([LEFT, 14.0], Anchor::Start, "axis", &cut(&one_line(unit), 40));
    if let Some(knee) = knee.filter(|knee| knee.at.is_finite() && knee.at > 0.0) {
        draw_knee(&mut svg, &x, [left, right], knee);
        chart
            .legend
            .push(("margin-band".to_owned(), "knee: where the load stops to pay, with its 95 % interval".to_owned()));
    }
    for (at, (curve, points)) in shown.iter().enumerate() {
        let mut line = String::new();
        for point in points {
            let sign = if line.is_empty() { 'M' } else { 'L' };
            line.push_str(&format!("{sign}{:.1} {:.1}", x.at(point.at[0]), y.at(point.at[1])));
        }
        let label = cut(&one_line(&curve.label), 80);
        if points.len() > 1 {
            svg.path(&line, &format!("line s{} d{}", at % 8, curve.run % 4), Some(&label));
        }
        for point in points {
            let place = [x.at(point.at[0]), y.at(point.at[1]), 4.0];
            let class = if point.weak { format!("box s{}", at % 8) } else { format!("m{}", at % 8) };
            svg.circle(place, &class, Some(&cut(&one_line(&point.title), 300)));
        }
        chart.legend.push((format!("m{}", at % 8), label));
    }
    let mut notes = Vec::new();
    if drawn.len() > shown.len() {
        notes.push(format!("{} more lines are not drawn; the tables have them.", drawn.len() - shown.len()));
    }
    if shown.iter().any(|(_, points)| points.iter().any(|point| point.weak)) {
        notes.push("Hollow points are percentiles of fewer values than they need.".to_owned());
    }
    chart.note = (!notes.is_empty()).then(|| notes.join(" "));
    let words = format!(
        "{}: {} lines over {x_title} from {} to {}, values from {} to {} {unit}",
        chart.title,
        shown.len(),
        digits(left),
        digits(right),
        digits(low),
        digits(high)
    );
    chart.svg = Some(svg.finish(&chart.id, &one_line(&words)));
    chart
}

/// The loads that were tried are the ticks, as far as there is room.
fn ticks(svg: &mut Svg, shown: &[(&Curve, Vec<&CurvePoint>)], x: &Scale) {
    let mut loads: Vec<f64> = shown.iter().flat_map(|(_, points)| points.iter().map(|point| point.at[0])).collect();
    loads.sort_by(f64::total_cmp);
    loads.dedup();
    let mut edge = f64::NEG_INFINITY;
    for load in loads {
        let place = x.at(load);
        if place - edge >= LABEL {
            svg.line([place, TOP, place, BOTTOM], "grid", None);
            svg.text([place, BOTTOM + 16.0], Anchor::Middle, "tick", &tick_label(load));
            edge = place;
        }
    }
}

fn draw_knee(svg: &mut Svg, x: &Scale, [left, right]: [f64; 2], knee: KneeMark) {
    let inside = |value: f64| x.at(value.clamp(left, right));
    let words =
        format!("knee at {}, 95 % interval {} to {}", load(knee.at), load(knee.interval[0]), load(knee.interval[1]));
    let [from, to] = knee.interval.map(inside);
    svg.rect([from, TOP, (to - from).max(1.0), BOTTOM - TOP], "margin-band", Some(&words));
    let at = inside(knee.at);
    svg.line([at, TOP, at, BOTTOM], "mark", Some(&words));
    let (anchor, place) = if at > RIGHT - 160.0 { (Anchor::End, at - 6.0) } else { (Anchor::Start, at + 6.0) };
    svg.text([place, TOP + 10.0], anchor, "label", &format!("knee {}", load(knee.at)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(points: &[[f64; 2]]) -> Curve {
        let point = |at: &[f64; 2]| CurvePoint { at: *at, title: "T".to_owned(), weak: false };
        Curve { label: "p50".to_owned(), run: 0, points: points.iter().map(point).collect() }
    }

    fn draw(all: &[Curve], knee: Option<KneeMark>) -> Chart {
        curves(Chart::new("c", "C", ""), all, "requests in flight", "ms", knee)
    }

    #[test]
    fn doublings_are_even_steps_and_the_knee_stands_between() {
        let knee = KneeMark { at: 4.0, interval: [2.0, 8.0] };
        let chart = draw(&[curve(&[[1.0, 5.0], [4.0, 10.0], [16.0, 10.0]])], Some(knee));
        let svg = chart.svg.unwrap();
        // 90 to 916 is log 1 to log 16: 4 stands in the middle, and 2 to 8 takes half of the width.
        assert!(svg.contains("x=\"296.50\" y=\"26.00\" width=\"413.00\""), "{svg}");
        assert!(svg.contains("M90.0 ") && svg.contains("L503.0 ") && svg.contains("L916.0 "), "{svg}");
        assert!(svg.contains("knee 4<") && svg.contains("logarithmic"));
        assert_eq!(chart.legend.len(), 2);
    }

    #[test]
    fn nothing_one_point_and_what_is_no_number() {
        assert!(draw(&[], None).empty.is_some());
        assert!(draw(&[curve(&[[1.0, f64::NAN]])], None).empty.is_some());
        let one = draw(&[curve(&[[1.0, 0.0]])], None).svg.unwrap();
        assert!(!one.contains("NaN") && one.matches("<circle").count() == 1, "{one}");
        let svg = draw(&[curve(&[[0.0, -1.0], [3.0, 2.0], [f64::INFINITY, 1.0]])], None).svg.unwrap();
        assert!(!svg.contains("NaN") && !svg.contains("inf") && svg.matches("<circle").count() == 2, "{svg}");
    }

    #[test]
    fn lines_beyond_those_that_can_be_told_apart_are_counted() {
        let many: Vec<Curve> = (0..14).map(|at| curve(&[[1.0, f64::from(at)], [2.0, 1.0]])).collect();
        let chart = draw(&many, None);
        assert!(chart.note.unwrap().starts_with("2 more lines"));
        assert_eq!(chart.legend.len(), 12);
    }
}
