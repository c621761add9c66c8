//! The graphics processor over time: a strip for each metric, the repeats behind them.

use super::itl::path;
use super::svg::{Anchor, Scale, Svg, extent, tick_label};
use super::{Chart, thin};
use crate::record::gpu::GpuTelemetry;
use crate::record::rows::RepeatRow;
use crate::report::escape;
use crate::report::number::digits;

const WIDTH: f64 = 960.0;
const LEFT: f64 = 76.0;
const RIGHT: f64 = 880.0;
/// Height of a strip and the room below it.
const STRIP: f64 = 92.0;
const ROOM: f64 = 30.0;
/// Points kept of each line: more than the pixels it is drawn on.
const POINTS: usize = 1600;
/// Repeats marked behind the lines.
const MARKS: usize = 400;
/// Failed looks marked.
const GAPS: usize = 200;

/// One strip: name, unit, values, where its axis begins and ends if not with them, and a line across.
struct Strip<'a> {
    name: &'static str,
    unit: &'static str,
    factor: f64,
    values: Option<&'a Vec<Option<f64>>>,
    low: Option<f64>,
    high: Option<f64>,
    across: Option<(f64, String)>,
}

/// What a repeat is called in the chart.
pub(in crate::report) fn repeat_name(rows: &[RepeatRow], index: u32) -> String {
    rows.iter().find(|row| row.index == index).map_or_else(
        || format!("row {index}"),
        |row| format!("row {index}: {}, repeat {}", escape::cut(&escape::one_line(&row.case), 60), row.repeat),
    )
}

/// The chart of `telemetry`, whose time is named `axis`; `name` names what was measured in a grey stretch by its number.
pub(in crate::report) fn gpu(telemetry: &GpuTelemetry, name: &dyn Fn(u32) -> String, axis: &str) -> Chart {
    let mut chart = Chart::new(
        "gpu-series",
        "The GPU over time",
        "Every look at the device; grey stretches are measured repeats, the rest is warm-up, rest and writing. A line is broken where a look \
         failed. Clock and temperature do not begin at zero.",
    );
    let samples = &telemetry.samples;
    let ends = telemetry.gaps.iter().map(|gap| gap.to_s);
    let Some([begin, end]) = extent(samples.t_s.iter().copied().chain(ends)).filter(|_| !samples.t_s.is_empty()) else {
        return chart.nothing("No look at the device succeeded.");
    };
    let limit = telemetry.device.power_limit_w.map(|watts| (watts, format!("limit {}", digits(watts))));
    let strip = |name, unit, factor, values, low| Strip { name, unit, factor, values, low, high: None, across: None };
    let strips: Vec<Strip<'_>> = [
        Strip { high: Some(100.0), ..strip("utilisation", "%", 100.0, samples.utilisation.as_ref(), Some(0.0)) },
        Strip { across: limit, ..strip("power", "W", 1.0, samples.power_w.as_ref(), Some(0.0)) },
        strip("SM clock", "MHz", 1.0, samples.sm_mhz.as_ref(), None),
        strip("temperature", "°C", 1.0, samples.temperature_c.as_ref(), None),
        strip("memory in use", "GiB", 1.0 / f64::from(1 << 30), samples.memory_used_bytes.as_ref(), Some(0.0)),
    ]
    .into_iter()
    .filter(|strip| strip.values.is_some())
    .collect();
    if strips.is_empty() {
        return chart.nothing("The device tells none of utilisation, power, clock, temperature and memory.");
    }
    let height = 10.0 + (STRIP + ROOM) * strips.len() as f64 + 26.0;
    let mut svg = Svg::new(WIDTH, height);
    let x = Scale::linear([begin, end.max(begin + 1e-3)], [LEFT, RIGHT]);
    let mut thinned = 0;
    for (number, strip) in strips.iter().enumerate() {
        let top = 10.0 + (STRIP + ROOM) * number as f64;
        thinned = thinned.max(draw(&mut svg, &x, top, strip, telemetry, name));
    }
    let bottom = 10.0 + (STRIP + ROOM) * strips.len() as f64 - ROOM;
    for tick in x.ticks(10) {
        svg.text([x.at(tick), bottom + 34.0], Anchor::Middle, "tick", &tick_label(tick));
    }
    svg.text([RIGHT, bottom + 50.0], Anchor::End, "axis", axis);
    let mut notes = Vec::new();
    if thinned > 0 {
        notes.push(format!(
            "{} looks are drawn as at most {POINTS} points a line, the smallest and largest of each stretch; gpu_telemetry.json has all.",
            samples.t_s.len()
        ));
    }
    if telemetry.repeats.len() > MARKS {
        notes.push(format!("The first {MARKS} of {} repeats are marked.", telemetry.repeats.len()));
    }
    let failed: u64 = telemetry.gaps.iter().map(|gap| gap.looks).sum();
    if failed > 0 {
        notes.push(format!("{failed} looks failed; crosses mark them."));
    }
    chart.note = (!notes.is_empty()).then(|| notes.join(" "));
    let names: Vec<&str> = strips.iter().map(|strip| strip.name).collect();
    chart.svg = Some(svg.finish("gpu-series", &format!("{} over {} s", names.join(", "), digits(end - begin))));
    chart
}

/// Draws one strip, and says how many points were left out.
fn draw(
    svg: &mut Svg,
    x: &Scale,
    top: f64,
    strip: &Strip<'_>,
    telemetry: &GpuTelemetry,
    name: &dyn Fn(u32) -> String,
) -> usize {
    let bottom = top + STRIP;
    let times = &telemetry.samples.t_s;
    let values: Vec<f64> =
        strip.values.into_iter().flatten().map(|value| value.map_or(f64::NAN, |value| value * strip.factor)).collect();
    let across = strip.across.iter().map(|(value, _)| *value);
    let Some([low, high]) = extent(values.iter().copied().chain(across)) else { return 0 };
    let margin = ((high - low) * 0.08).max(high.abs() * 0.02).max(1e-9);
    let y = Scale::linear([strip.low.unwrap_or(low - margin), strip.high.unwrap_or(high + margin)], [bottom, top]);
    for repeat in telemetry.repeats.iter().take(MARKS) {
        let name = name(repeat.row);
        let [from, to] = [x.at(repeat.start_s), x.at(repeat.end_s)];
        svg.rect([from, top, (to - from).max(0.5), STRIP], "repeat-span", Some(&name));
    }
    for tick in y.ticks(3) {
        svg.line([LEFT, y.at(tick), RIGHT, y.at(tick)], "grid", None);
        svg.text([LEFT - 8.0, y.at(tick) + 4.0], Anchor::End, "tick", &tick_label(tick));
    }
    svg.line([LEFT, bottom, RIGHT, bottom], "axis-line", None);
    svg.text([LEFT, bottom + 16.0], Anchor::Start, "axis", &format!("{}, {}", strip.name, strip.unit));
    if let Some((value, label)) = &strip.across {
        svg.line([LEFT, y.at(*value), RIGHT, y.at(*value)], "mark", Some(label));
        svg.text([RIGHT + 6.0, y.at(*value) + 4.0], Anchor::Start, "label", label);
    }
    // A gap is a point that is no number, between the looks around it.
    let mut points: Vec<(f64, f64)> = times.iter().copied().zip(values).collect();
    points.extend(telemetry.gaps.iter().map(|gap| (gap.from_s, f64::NAN)));
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let drawn: Vec<f64> = points.iter().map(|(_, value)| *value).collect();
    let kept = thin(&drawn, POINTS);
    let left_out = drawn.len() - kept.len();
    svg.path(
        &path(&kept, |place| x.at(points[place].0), |value| y.at(value)),
        "line s0",
        Some(&format!("{}: {} to {} {}", strip.name, digits(low), digits(high), strip.unit)),
    );
    for gap in telemetry.gaps.iter().take(GAPS) {
        let at = x.at(gap.from_s);
        let title = format!("{} look(s) failed: {}", gap.looks, escape::cut(&escape::one_line(&gap.message), 80));
        svg.line([at - 3.0, bottom - 6.0, at + 3.0, bottom], "cross", Some(&title));
        svg.line([at - 3.0, bottom, at + 3.0, bottom - 6.0], "cross", Some(&title));
    }
    left_out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hardware::identify::GpuIdentity;
    use crate::hardware::nvml::GpuGap;
    use crate::record::gpu::{GPU_SCHEMA_VERSION, GpuColumns, GpuRepeat, SlowColumns};

    fn telemetry(power_w: Vec<Option<f64>>) -> GpuTelemetry {
        let looks = power_w.len();
        GpuTelemetry {
            schema_version: GPU_SCHEMA_VERSION,
            run_id: "x".to_owned(),
            complete: true,
            driver_version: None,
            device: GpuIdentity {
                nvml_index: 0,
                cuda_ordinal: None,
                uuid: None,
                name: None,
                pci_bus_id: None,
                memory_bytes: None,
                compute_capability: None,
                power_limit_w: Some(700.0),
                max_sm_mhz: None,
                max_memory_mhz: None,
                mig: None,
                ecc: None,
                compute_processes: None,
            },
            interval_s: 0.1,
            before: None,
            repeats: Vec::new(),
            gaps: Vec::new(),
            samples: GpuColumns {
                t_s: (0..looks).map(|at| at as f64 * 0.1).collect(),
                edge: vec![false; looks],
                power_w: Some(power_w),
                failed_metrics: vec![0; looks],
                ..GpuColumns::default()
            },
            slow_samples: SlowColumns::default(),
        }
    }

    #[test]
    fn no_look_no_metric_and_one_look() {
        assert!(gpu(&telemetry(Vec::new()), &|row| format!("row {row}"), "s").empty.is_some());
        let mut silent = telemetry(vec![Some(1.0)]);
        silent.samples.power_w = None;
        assert!(gpu(&silent, &|row| format!("row {row}"), "s").empty.is_some());
        let svg = gpu(&telemetry(vec![Some(300.0)]), &|row| format!("row {row}"), "s").svg.unwrap();
        assert!(!svg.contains("NaN") && svg.contains("power, W") && svg.contains("limit 700.0"), "{svg}");
        assert!(!svg.contains("SM clock"), "a metric that is not there has no strip");
    }

    #[test]
    fn a_failed_look_breaks_the_line_and_repeats_are_marked() {
        let mut looks = telemetry(vec![Some(100.0), Some(100.0), Some(200.0), Some(200.0)]);
        looks.gaps = vec![GpuGap { from_s: 0.15, to_s: 0.15, looks: 1, lost: false, message: "<timeout>".to_owned() }];
        looks.repeats = vec![GpuRepeat { row: 4, start_s: 0.0, end_s: 0.1, looked: true }];
        let chart = gpu(&looks, &|row| format!("row {row}"), "s");
        let svg = chart.svg.unwrap();
        let line = svg.lines().find(|line| line.contains("class=\"line s0\"")).unwrap();
        assert_eq!(line.matches('M').count(), 2, "{line}");
        assert!(svg.contains("<title>row 4</title>") && svg.contains("1 look(s) failed: &lt;timeout&gt;"), "{svg}");
        assert!(chart.note.unwrap().contains("1 looks failed"));
    }

    #[test]
    fn a_day_of_looks_is_thinned_and_the_peak_stays() {
        let mut values = vec![Some(100.0); 100_000];
        values[77_777] = Some(690.0);
        let chart = gpu(&telemetry(values), &|row| format!("row {row}"), "s");
        let svg = chart.svg.unwrap();
        assert!(svg.len() < 100_000 && svg.contains("power: 100.0 to 700.0 W"), "{}", svg.len());
        assert!(chart.note.unwrap().contains("100000 looks are drawn"));
        let peak = svg.lines().find(|line| line.contains("class=\"line s0\"")).unwrap().to_owned();
        let heights: Vec<f64> = peak
            .split(['M', 'L'])
            .filter_map(|point| {
                point.split_whitespace().nth(1)?.trim_end_matches(|c: char| !c.is_ascii_digit()).parse().ok()
            })
            .collect();
        let (low, high) =
            (heights.iter().copied().fold(f64::MAX, f64::min), heights.iter().copied().fold(f64::MIN, f64::max));
        assert!(high - low > 60.0, "the peak is drawn: {low} {high}");
    }
}
