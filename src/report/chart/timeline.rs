//! Phase timeline of one instrumented repeat: when the prefill and each decode step ran.

use super::Chart;
use super::svg::{Anchor, Scale, Svg, tick_label};
use crate::report::model::StepSpan;
use crate::report::number::digits;

const WIDTH: f64 = 960.0;
const LEFT: f64 = 86.0;
const RIGHT: f64 = 940.0;
/// More rectangles than this cannot be told apart on the chart's width.
const LIMIT: usize = 400;

/// The chart of `steps`.
pub(in crate::report) fn timeline(steps: &[StepSpan]) -> Chart {
    let mut chart = Chart::new(
        "timeline",
        "Phase timeline",
        "One repeat with spans from its first operator to its last: each block is one pass of the model, white between blocks \
         is time outside it; hover a block for its duration.",
    );
    let steps: Vec<&StepSpan> = steps.iter().filter(|step| step.end_ns >= step.start_ns).collect();
    let Some(origin) = steps.iter().map(|step| step.start_ns).min() else {
        return chart.nothing("No repeat with spans was recorded, so there is no timeline.");
    };
    let end = steps.iter().map(|step| step.end_ns).max().unwrap_or(origin);
    let ms = |ns: u64| (ns - origin) as f64 / 1e6;

    let mut lanes: Vec<&str> = Vec::new();
    for step in &steps {
        if !lanes.contains(&step.phase.as_str()) && lanes.len() < 8 {
            lanes.push(&step.phase);
        }
    }
    let height = 46.0 + 44.0 * lanes.len() as f64;
    let mut svg = Svg::new(WIDTH, height);
    let x = Scale::linear([0.0, ms(end).max(1e-6)], [LEFT, RIGHT]);
    for tick in x.ticks(8) {
        svg.line([x.at(tick), 8.0, x.at(tick), height - 34.0], "grid", None);
        svg.text([x.at(tick), height - 18.0], Anchor::Middle, "tick", &tick_label(tick));
    }
    svg.text([RIGHT, height - 3.0], Anchor::End, "axis", "ms since the start of the prefill");

    let mut merged = 0;
    for (number, lane) in lanes.iter().enumerate() {
        let top = 10.0 + 44.0 * number as f64;
        let color = if *lane == "prefill" { "k1" } else { "k0" };
        svg.text([LEFT - 10.0, top + 22.0], Anchor::End, "label", &crate::report::escape::cut(lane, 12));
        let mut inside: Vec<&&StepSpan> = steps.iter().filter(|step| step.phase == *lane).collect();
        inside.sort_by_key(|step| step.start_ns);
        let bucket = inside.len().div_ceil(LIMIT).max(1);
        for (place, chunk) in inside.chunks(bucket).enumerate() {
            let (Some(first), Some(last)) = (chunk.first(), chunk.last()) else { continue };
            let (from, to) = (ms(first.start_ns), ms(last.end_ns));
            let title = if chunk.len() == 1 {
                format!("{lane} step {}: {} ms, from {} ms", first.step, digits(to - from), digits(from))
            } else {
                merged += chunk.len();
                let busy: u64 = chunk.iter().map(|step| step.end_ns - step.start_ns).sum();
                format!("{lane} steps {} to {}: {} ms in all", first.step, last.step, digits(busy as f64 / 1e6))
            };
            let shade = if place % 2 == 0 { color.to_owned() } else { format!("{color} alternate") };
            svg.rect([x.at(from), top, (x.at(to) - x.at(from)).max(0.4), 34.0], &shade, Some(&title));
        }
    }
    if merged > 0 {
        chart.note = Some(format!(
            "{} steps are drawn as at most {LIMIT} blocks; gaps inside a block are not shown.",
            steps.len()
        ));
    }
    let label = format!("{} phase spans over {} ms", steps.len(), digits(ms(end)));
    chart.svg = Some(svg.finish("timeline", &label));
    chart
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(phase: &str, step: u32, start_ns: u64, end_ns: u64) -> StepSpan {
        StepSpan { phase: phase.to_owned(), step, start_ns, end_ns }
    }

    #[test]
    fn no_steps_give_a_message() {
        let chart = timeline(&[]);
        assert!(chart.svg.is_none() && chart.empty.is_some());
    }

    #[test]
    fn blocks_stand_where_their_times_say() {
        let svg = timeline(&[step("prefill", 0, 1_000_000, 51_000_000), step("decode", 1, 51_000_000, 101_000_000)])
            .svg
            .unwrap();
        // 854 px of width, half each.
        assert!(svg.contains("x=\"86.00\" y=\"10.00\" width=\"427.00\""), "{svg}");
        assert!(svg.contains("x=\"513.00\" y=\"54.00\" width=\"427.00\""), "{svg}");
    }

    #[test]
    fn a_hundred_thousand_steps_stay_small_and_say_so() {
        let steps: Vec<StepSpan> =
            (0..100_000).map(|at| step("decode", at + 1, u64::from(at) * 10, u64::from(at) * 10 + 9)).collect();
        let chart = timeline(&steps);
        assert!(chart.svg.unwrap().len() < 100_000);
        assert!(chart.note.unwrap().contains("100000 steps"));
    }

    #[test]
    fn a_span_that_ends_before_it_starts_is_left_out() {
        assert!(timeline(&[step("decode", 1, 10, 5)]).empty.is_some());
    }
}
