//! Duration of each step over the time of the trace.

use super::Chart;
use super::svg::{Anchor, Scale, Svg, extent, tick_label};
use crate::report::analyze::format::duration;
use crate::report::escape;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 76.0;
const RIGHT: f64 = 940.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 246.0;
/// More points than this lie on each other.
const POINTS: usize = 3000;
const COLORS: [&str; 6] = ["k0", "k1", "k2", "k3", "k4", "k6"];

/// One step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::report) struct Point<'a> {
    /// Its place among all steps, from 0.
    pub number: u64,
    /// Phase.
    pub phase: &'a str,
    /// Begin, ns since the begin of the trace.
    pub start_ns: f64,
    /// Duration, ns.
    pub duration_ns: f64,
    /// Far above the others of its phase.
    pub straggler: bool,
}

/// Duration of each step over its begin, stragglers ringed. The axis is logarithmic where steps differ by more than 20 times.
pub(in crate::report) fn step_times(points: &[Point<'_>]) -> Chart {
    let mut chart = Chart::new(
        "step-times",
        "Duration of each step",
        "One point a step, over the time it began; ringed points lie far above the median of their phase; hover a point for its figures.",
    );
    let points: Vec<&Point<'_>> = points
        .iter()
        .filter(|point| point.start_ns.is_finite() && point.duration_ns.is_finite() && point.duration_ns > 0.0)
        .collect();
    let durations = extent(points.iter().map(|point| point.duration_ns));
    let starts = extent(points.iter().map(|point| point.start_ns));
    let (Some([shortest, longest]), Some(starts)) = (durations, starts) else {
        return chart.nothing("No steps were found, so there are no step times.");
    };
    // Stragglers always stay; of the others every n-th.
    let every = points.len().div_ceil(POINTS).max(1);
    let drawn: Vec<&&Point<'_>> = points
        .iter()
        .enumerate()
        .filter(|(at, point)| at % every == 0 || point.straggler)
        .map(|(_, point)| point)
        .collect();
    let mut phases: Vec<&str> = Vec::new();
    for point in &points {
        if !phases.contains(&point.phase) {
            phases.push(point.phase);
        }
    }
    let unit = if longest >= 1e9 {
        (1e9, "s")
    } else if longest >= 1e6 {
        (1e6, "ms")
    } else {
        (1e3, "µs")
    };
    let log = longest / shortest > 20.0;
    let y = if log {
        Scale::log([shortest / unit.0, longest / unit.0], [BOTTOM - 8.0, TOP + 8.0])
    } else {
        Scale::linear([0.0, longest / unit.0 * 1.05], [BOTTOM, TOP])
    };
    let across = if starts[1] >= 1e9 { (1e9, "s") } else { (1e6, "ms") };
    let x = Scale::linear([starts[0].min(0.0) / across.0, starts[1] / across.0], [LEFT + 6.0, RIGHT - 6.0]);
    let mut svg = Svg::new(WIDTH, HEIGHT);
    let ticks = match y.ticks(5) {
        // Less than a decade has at most one power of ten in it.
        ticks if log && ticks.len() < 2 => vec![shortest / unit.0, longest / unit.0],
        ticks => ticks,
    };
    for tick in ticks {
        svg.line([LEFT, y.at(tick), RIGHT, y.at(tick)], "grid", None);
        svg.text([LEFT - 8.0, y.at(tick) + 4.0], Anchor::End, "tick", &tick_label((tick * 1e3).round() / 1e3));
    }
    for tick in x.ticks(8) {
        svg.text([x.at(tick), BOTTOM + 18.0], Anchor::Middle, "tick", &tick_label(tick));
    }
    svg.line([LEFT, BOTTOM, RIGHT, BOTTOM], "axis-line", None);
    svg.text([RIGHT, HEIGHT - 6.0], Anchor::End, "axis", &format!("{} since the first device work", across.1));
    svg.text(
        [LEFT, HEIGHT - 6.0],
        Anchor::Start,
        "axis",
        &format!("duration in {}{}", unit.1, if log { ", logarithmic" } else { "" }),
    );
    for point in &drawn {
        let place = phases.iter().position(|phase| *phase == point.phase).unwrap_or(0);
        let phase = escape::cut(&escape::one_line(point.phase), 60);
        let title = format!("step {} ({phase}): {}", point.number, duration(point.duration_ns));
        let at = [x.at(point.start_ns / across.0), y.at(point.duration_ns / unit.0)];
        let color = COLORS[place % COLORS.len()];
        if point.straggler {
            svg.circle([at[0], at[1], 5.5], "ringed", Some(&title));
        }
        svg.circle([at[0], at[1], 2.6], color, Some(&title));
    }
    chart.legend = phases
        .iter()
        .take(COLORS.len())
        .enumerate()
        .map(|(at, phase)| (COLORS[at].to_owned(), escape::cut(&escape::one_line(phase), 40)))
        .collect();
    if every > 1 {
        chart.note = Some(format!("{} of {} steps are drawn, all stragglers among them.", drawn.len(), points.len()));
    }
    let label = format!("{} steps of {} to {}", points.len(), duration(shortest), duration(longest));
    chart.svg = Some(svg.finish("step-times", &label));
    chart
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(number: u64, duration_ns: f64, straggler: bool) -> Point<'static> {
        Point { number, phase: "decode", start_ns: number as f64 * 1e6, duration_ns, straggler }
    }

    #[test]
    fn no_one_and_unknown_steps() {
        assert!(step_times(&[]).empty.is_some());
        assert!(step_times(&[point(1, f64::NAN, false)]).empty.is_some());
        let one = step_times(&[point(1, 2e6, false)]).svg.unwrap();
        assert!(!one.contains("NaN") && one.matches("<circle").count() == 1, "{one}");
    }

    #[test]
    fn ten_thousand_steps_are_thinned_and_every_straggler_stays() {
        let points: Vec<Point<'_>> = (0..10_000).map(|at| point(at, 2e6, at == 4_999)).collect();
        let chart = step_times(&points);
        let svg = chart.svg.unwrap();
        assert!(svg.contains("class=\"ringed\"") && svg.contains("step 4999 (decode): 2.000 ms"));
        assert!(svg.matches("<circle").count() <= 3_002 && chart.note.unwrap().contains("of 10000 steps"));
    }

    #[test]
    fn a_wide_spread_gets_a_logarithmic_axis() {
        assert!(step_times(&[point(1, 1e6, false), point(2, 9e7, true)]).svg.unwrap().contains("logarithmic"));
        assert!(!step_times(&[point(1, 1e6, false), point(2, 2e6, false)]).svg.unwrap().contains("logarithmic"));
    }
}
