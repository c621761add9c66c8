//! From one total to another in steps: what each part of a change adds or takes away.

use super::Chart;
use super::svg::{Anchor, Scale, Svg};
use crate::report::analyze::format::duration;
use crate::report::escape;

const WIDTH: f64 = 960.0;
const LEFT: f64 = 300.0;
const RIGHT: f64 = 790.0;
const ROW: f64 = 26.0;

/// One part of the change.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::report) struct Step {
    /// What it is.
    pub label: String,
    /// What it adds, ns; negative where it takes away.
    pub delta: f64,
    /// The change in words.
    pub text: String,
    /// Shown on hover.
    pub title: String,
}

/// Draws the way from `from` to `to`, each a label and a time in ns. The steps add up to the difference, or the chart says that nothing is drawn.
pub(in crate::report) fn waterfall(
    mut chart: Chart,
    from: (&str, f64),
    steps: &[Step],
    to: (&str, f64),
    nothing: &str,
) -> Chart {
    let sum: f64 = steps.iter().map(|step| step.delta).sum();
    let scale_of = from.1.abs().max(to.1.abs());
    let fits = (from.1 + sum - to.1).abs() <= 1e-6 * scale_of.max(1.0);
    if steps.is_empty() || !fits || !scale_of.is_finite() || scale_of > 1e300 {
        return chart.nothing(nothing);
    }
    let mut level = from.1;
    let mut lowest = from.1.min(to.1);
    let mut highest = from.1.max(to.1);
    for step in steps {
        level += step.delta;
        lowest = lowest.min(level);
        highest = highest.max(level);
    }
    if !(highest - lowest).is_finite() {
        return chart.nothing(nothing);
    }
    // Small changes of a large whole are seen only on a cut axis, which is said below it.
    let span = highest - lowest;
    let cut = lowest > 0.0 && span < 0.25 * highest;
    let low = if cut { lowest - span * 0.15 } else { lowest.min(0.0) };
    let scale = Scale::linear([low, highest], [LEFT, RIGHT]);
    let bottom = 8.0 + ROW * (steps.len() + 2) as f64;
    let mut svg = Svg::new(WIDTH, bottom + 42.0);
    for tick in scale.ticks(4) {
        svg.line([scale.at(tick), 4.0, scale.at(tick), bottom], "grid", None);
        svg.text([scale.at(tick), bottom + 16.0], Anchor::Middle, "tick", &duration((tick * 1e3).round() / 1e3));
    }
    let words = if cut { "time; the axis does not begin at 0" } else { "time" };
    svg.text([RIGHT, bottom + 34.0], Anchor::End, "axis", words);
    let base = scale.at(if cut { low } else { 0.0 });
    let total = |svg: &mut Svg, top: f64, (label, value): (&str, f64)| {
        let (a, b) = (base.min(scale.at(value)), base.max(scale.at(value)));
        name(svg, top, label);
        svg.rect([a, top, b - a, ROW - 6.0], "total-bar", Some(&format!("{label}: {}", duration(value))));
        svg.text([RIGHT + 12.0, top + 14.0], Anchor::Start, "label", &duration(value));
    };
    total(&mut svg, 6.0, from);
    let mut level = from.1;
    for (at, step) in steps.iter().enumerate() {
        let top = 6.0 + ROW * (at + 1) as f64;
        let next = level + step.delta;
        let (a, b) = (scale.at(level.min(next)), scale.at(level.max(next)));
        let class = if step.delta > 0.0 { "more-time" } else { "less-time" };
        svg.line([scale.at(level), top - 6.0, scale.at(level), top], "step-edge", None);
        svg.rect([a, top, (b - a).max(0.8), ROW - 6.0], class, Some(&step.title));
        name(&mut svg, top, &step.label);
        svg.text([RIGHT + 12.0, top + 14.0], Anchor::Start, "value", &escape::cut(&step.text, 26));
        level = next;
    }
    let top = 6.0 + ROW * (steps.len() + 1) as f64;
    svg.line([scale.at(level), top - 6.0, scale.at(level), top], "step-edge", None);
    total(&mut svg, top, to);
    for (class, text, wanted) in [("more-time", "takes more time", 1.0), ("less-time", "takes less time", -1.0)] {
        if steps.iter().any(|step| step.delta * wanted > 0.0) {
            chart.legend.push((class.to_owned(), text.to_owned()));
        }
    }
    let label = format!("{}: {} parts from {} to {}", chart.title, steps.len(), duration(from.1), duration(to.1));
    chart.svg = Some(svg.finish(&chart.id, &label));
    chart
}

fn name(svg: &mut Svg, top: f64, label: &str) {
    let text = escape::one_line(label);
    let short = escape::cut(&text, 46);
    let whole = (short != text).then(|| escape::cut(&text, 400));
    svg.text_with_title([LEFT - 10.0, top + 14.0], Anchor::End, "label", &short, whole.as_deref());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(delta: f64) -> Step {
        Step { label: "down_proj".to_owned(), delta, text: String::new(), title: "T".to_owned() }
    }

    fn draw(from: f64, deltas: &[f64], to: f64) -> Chart {
        let steps: Vec<Step> = deltas.iter().map(|delta| step(*delta)).collect();
        waterfall(Chart::new("w", "W", ""), ("a", from), &steps, ("b", to), "nothing")
    }

    #[test]
    fn each_step_begins_where_the_last_one_ended() {
        // 490 units for 100 ns.
        let svg = draw(100.0, &[-50.0, 20.0], 70.0).svg.unwrap();
        assert!(svg.contains("x=\"300.00\" y=\"6.00\" width=\"490.00\""), "{svg}");
        assert!(svg.contains("class=\"less-time\" x=\"545.00\" y=\"32.00\" width=\"245.00\""), "{svg}");
        assert!(svg.contains("class=\"more-time\" x=\"545.00\" y=\"58.00\" width=\"98.00\""), "{svg}");
        assert!(svg.contains("x=\"300.00\" y=\"84.00\" width=\"343.00\""), "{svg}");
    }

    #[test]
    fn steps_that_do_not_add_up_are_not_drawn() {
        assert!(draw(100.0, &[-50.0], 70.0).empty.is_some());
        assert!(draw(100.0, &[], 100.0).empty.is_some());
        assert!(draw(f64::NAN, &[1.0], 2.0).empty.is_some());
        assert!(draw(-1e308, &[1e308], 0.0).empty.is_some());
    }

    #[test]
    fn a_cut_axis_says_so() {
        assert!(draw(1e6, &[1e3], 1.001e6).svg.unwrap().contains("does not begin at 0"));
        assert!(!draw(1e6, &[1e6], 2e6).svg.unwrap().contains("does not begin at 0"));
    }
}
