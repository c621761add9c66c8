//! Roofline plot: achieved FLOP/s over arithmetic intensity, against the ceilings of the machine (Williams et al., CACM 2009).

use super::svg::{Anchor, Scale, Svg, extent};
use super::{Chart, class_color};
use crate::record::metrics::Stage1Metrics;
use crate::report::number::{digits, percent};
use crate::report::{escape, operators};
use crate::units::{Bandwidth, FlopsPerSecond};

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 440.0;
const LEFT: f64 = 78.0;
const RIGHT: f64 = 930.0;
const TOP: f64 = 22.0;
const BOTTOM: f64 = 388.0;

/// One mark.
#[derive(Debug, Clone)]
pub(in crate::report) struct Point {
    /// Name beside the mark; its first word is the key of the legend.
    pub label: String,
    /// Everything, as tooltip.
    pub title: String,
    /// Class of its colour.
    pub color: &'static str,
    /// A diamond in place of a circle.
    pub decode: bool,
    /// Ringed: the whole of a phase.
    pub whole: bool,
    /// FLOP per byte.
    pub intensity: f64,
    /// FLOP/s.
    pub rate: f64,
}

/// The chart of all operator classes and phases.
pub(in crate::report) fn roofline(metrics: &Stage1Metrics) -> Chart {
    let chart = Chart::new(
        "roofline",
        "Roofline",
        "Each mark is an operator class in one phase (circle: prefill, diamond: decode; ringed: the whole phase of a case); the \
         further below the line, the more time is lost; under the slope memory is the limit, under the flat part arithmetic.",
    );
    let hardware = &metrics.hardware;
    let unknown = [&hardware.peak_flops_per_s.source, &hardware.peak_bytes_per_s.source].map(String::as_str);
    under(chart, points(metrics), [hardware.peak_flops_per_s.value, hardware.peak_bytes_per_s.value], unknown)
}

/// Draws `points` under the ceilings (FLOP/s, bytes per second); `unknown` says of each why it is not known, where it is not.
pub(in crate::report) fn under(
    mut chart: Chart,
    mut points: Vec<Point>,
    ceilings: [Option<f64>; 2],
    unknown: [&str; 2],
) -> Chart {
    points.retain(|point| {
        point.intensity.is_finite() && point.rate.is_finite() && point.intensity > 0.0 && point.rate > 0.0
    });
    let [peak, bandwidth] = ceilings.map(|ceiling| ceiling.filter(|value| *value > 0.0 && value.is_finite()));
    let ridge = peak.zip(bandwidth).map(|(peak, bandwidth)| peak / bandwidth);
    let (Some(intensities), Some(rates)) = (
        extent(points.iter().map(|point| point.intensity).chain(ridge)),
        extent(points.iter().map(|point| point.rate).chain(peak)),
    ) else {
        return chart.nothing("No operator with FLOPs, bytes and time was recorded, and the ceilings are unknown.");
    };
    if points.is_empty() {
        chart.note =
            Some("No operator with FLOPs, bytes and time was recorded: only the ceilings are drawn.".to_owned());
    }
    // Whole decades would waste half of the plot; a factor of 2 around everything keeps marks off the frame.
    let x = Scale::log([intensities[0] / 2.0, intensities[1] * 3.0], [LEFT, RIGHT]);
    let y = Scale::log([rates[0] / 2.0, rates[1] * 2.0], [BOTTOM, TOP]);
    let mut svg = Svg::new(WIDTH, HEIGHT);
    for tick in x.ticks(8) {
        svg.line([x.at(tick), TOP, x.at(tick), BOTTOM], "grid", None);
        svg.text([x.at(tick), BOTTOM + 18.0], Anchor::Middle, "tick", &format!("{tick}"));
    }
    for tick in y.ticks(8) {
        svg.line([LEFT, y.at(tick), RIGHT, y.at(tick)], "grid", None);
        svg.text([LEFT - 8.0, y.at(tick) + 4.0], Anchor::End, "tick", &format!("{}", tick / 1e9));
    }
    svg.text([RIGHT, BOTTOM + 38.0], Anchor::End, "axis", "FLOP per byte");
    svg.text([LEFT - 70.0, TOP - 8.0], Anchor::Start, "axis", "GFLOP/s");
    svg.line([LEFT, BOTTOM, RIGHT, BOTTOM], "axis-line", None);

    draw_ceilings(&mut svg, &x, &y, [intensities[0] / 2.0, intensities[1] * 3.0], rates[0] / 2.0, peak, bandwidth);
    let missing: Vec<&str> = [(peak.is_none(), "arithmetic"), (bandwidth.is_none(), "memory")]
        .into_iter()
        .filter_map(|(missing, name)| missing.then_some(name))
        .collect();
    if !missing.is_empty() {
        chart.note = Some(format!(
            "The {} ceiling is unknown, so it is not drawn: {}",
            missing.join(" and "),
            escape::cut(&escape::one_line(if peak.is_none() { unknown[0] } else { unknown[1] }), 200)
        ));
    }

    let mut taken: Vec<[f64; 4]> =
        points.iter().map(|point| around(x.at(point.intensity), y.at(point.rate), 8.0, 8.0)).collect();
    // The ceilings, walked in small steps, are taken too: a name across a line cannot be read.
    if let Some(bandwidth) = bandwidth {
        for step in 0..=120 {
            let at = LEFT + (RIGHT - LEFT) * f64::from(step) / 120.0;
            let intensity = 10.0_f64.powf(x.value_log10(at));
            taken.push(around(at, y.at((intensity * bandwidth).min(peak.unwrap_or(f64::INFINITY))), 4.0, 3.0));
        }
    }
    for point in &points {
        let (px, py) = (x.at(point.intensity), y.at(point.rate));
        let radius = if point.whole { 8.0 } else { 6.0 };
        let class = if point.whole { "ringed".to_owned() } else { format!("{} mark-edge", point.color) };
        if point.decode {
            svg.diamond([px, py, radius + 1.5], &class, Some(&point.title));
        } else {
            svg.circle([px, py, radius], &class, Some(&point.title));
        }
    }
    for (number, point) in points.iter().enumerate() {
        let (px, py) = (x.at(point.intensity), y.at(point.rate));
        let width = 6.6 * point.label.chars().count() as f64;
        let places = [
            (px + 12.0, py + 4.0, Anchor::Start, px + 12.0 + width / 2.0),
            (px - 12.0, py + 4.0, Anchor::End, px - 12.0 - width / 2.0),
            (px, py - 13.0, Anchor::Middle, px),
            (px, py + 22.0, Anchor::Middle, px),
        ];
        let free = places.into_iter().find(|(_, baseline, _, middle)| {
            let area = around(*middle, baseline - 4.0, width / 2.0, 7.0);
            let inside = area[0] >= LEFT && area[2] <= RIGHT && area[1] >= TOP && area[3] <= BOTTOM;
            inside && taken.iter().enumerate().all(|(at, other)| at == number || !overlap(area, *other))
        });
        // A mark without room for its name still has it as tooltip and its colour in the legend.
        if let Some((tx, ty, anchor, middle)) = free {
            svg.text([tx, ty], anchor, "label", &point.label);
            taken.push(around(middle, ty - 4.0, width / 2.0, 7.0));
        }
    }
    let mut seen = Vec::new();
    for point in points.iter().filter(|point| !point.whole) {
        let name = point.label.split(' ').next().unwrap_or_default();
        if !seen.contains(&name) {
            seen.push(name);
            chart.legend.push((point.color.to_owned(), name.to_owned()));
        }
    }
    chart.svg = Some(svg.finish("roofline", &format!("{} marks under the ceilings", points.len())));
    chart
}

fn draw_ceilings(
    svg: &mut Svg,
    x: &Scale,
    y: &Scale,
    [low, high]: [f64; 2],
    lowest: f64,
    peak: Option<f64>,
    bandwidth: Option<f64>,
) {
    let ridge = peak.zip(bandwidth).map_or(high, |(peak, bandwidth)| peak / bandwidth);
    if let Some(bandwidth) = bandwidth {
        // The slope starts where it enters the plot.
        let from = low.max(lowest / bandwidth);
        let to = ridge.min(high);
        svg.line([x.at(from), y.at(from * bandwidth), x.at(to), y.at(to * bandwidth)], "ceiling", None);
        let middle = from.powf(0.3) * to.powf(0.7);
        let (px, py) = (x.at(middle), y.at(middle * bandwidth));
        svg.text([px - 10.0, py - 8.0], Anchor::End, "ceiling-label", &Bandwidth(bandwidth).to_string());
    }
    if let Some(peak) = peak {
        let from = if bandwidth.is_some() { ridge } else { low };
        svg.line([x.at(from), y.at(peak), x.at(high), y.at(peak)], "ceiling", None);
        svg.text([x.at(high) - 4.0, y.at(peak) - 8.0], Anchor::End, "ceiling-label", &FlopsPerSecond(peak).to_string());
    }
}

fn points(metrics: &Stage1Metrics) -> Vec<Point> {
    let mut points = Vec::new();
    for phase in operators::phase_names(metrics) {
        for class in operators::classes(metrics, &phase) {
            let (Some(intensity), Some(rate)) = (class.intensity(), class.flops_per_s()) else { continue };
            let name = escape::cut(&escape::one_line(&class.label), 24);
            let phase = escape::cut(&escape::one_line(&phase), 24);
            let reached = class.roofline_ns.map(|ns| ns / class.total_ns as f64);
            points.push(Point {
                title: format!(
                    "{name}, {phase}: {} FLOP/byte, {}{}",
                    digits(intensity),
                    FlopsPerSecond(rate),
                    reached.map_or_else(String::new, |share| format!(", {} of its roofline", percent(share)))
                ),
                label: format!("{name} {phase}"),
                color: class_color(&class.label),
                decode: phase == "decode",
                whole: false,
                intensity,
                rate,
            });
        }
    }
    for phase in &metrics.phases {
        let bytes = (phase.weight_bytes + phase.kv_bytes) as f64;
        let Some(time) = phase.time_ms.filter(|time| *time > 0.0) else { continue };
        if bytes <= 0.0 || phase.model_flops == 0 {
            continue;
        }
        let (intensity, rate) = (phase.model_flops as f64 / bytes, phase.model_flops as f64 / (time / 1e3));
        let name = escape::cut(&escape::one_line(&phase.phase), 24);
        let case = escape::cut(&escape::one_line(&phase.case), 40);
        points.push(Point {
            title: format!("whole {name}, case {case}: {} FLOP/byte, {}", digits(intensity), FlopsPerSecond(rate)),
            label: format!("all {name}"),
            color: "k10",
            decode: phase.phase == "decode",
            whole: true,
            intensity,
            rate,
        });
    }
    points
}

fn around(x: f64, y: f64, half_width: f64, half_height: f64) -> [f64; 4] {
    [x - half_width, y - half_height, x + half_width, y + half_height]
}

fn overlap(a: [f64; 4], b: [f64; 4]) -> bool {
    a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3]
}
