//! Histogram of durations over logarithmic bins.

use super::Chart;
use super::svg::{Anchor, Scale, Svg, tick_label};
use crate::report::analyze::format::duration;
use crate::report::number::count;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 250.0;
const LEFT: f64 = 76.0;
const RIGHT: f64 = 940.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 196.0;

/// One bin: `low_ns ≤ duration < high_ns`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::report) struct Bin {
    /// Lower edge, ns.
    pub low_ns: f64,
    /// Upper edge, ns.
    pub high_ns: f64,
    /// How many.
    pub count: u64,
    /// Their sum, ns.
    pub total_ns: f64,
}

/// Two bars a bin: how many there are, and how much of the time they make.
pub(in crate::report) fn histogram(mut chart: Chart, bins: &[Bin], what: &str, nothing: &str) -> Chart {
    let bins: Vec<&Bin> = bins
        .iter()
        .filter(|bin| bin.low_ns.is_finite() && bin.high_ns.is_finite() && bin.high_ns > bin.low_ns)
        .filter(|bin| bin.total_ns.is_finite())
        .collect();
    // Empty bins at both ends say nothing.
    let first = bins.iter().position(|bin| bin.count > 0);
    let last = bins.iter().rposition(|bin| bin.count > 0);
    let (Some(first), Some(last)) = (first, last) else { return chart.nothing(nothing) };
    let bins = &bins[first..=last];
    let all: u64 = bins.iter().map(|bin| bin.count).sum();
    let sum: f64 = bins.iter().map(|bin| bin.total_ns).sum();
    let share = |bin: &Bin| [bin.count as f64 / all.max(1) as f64, if sum > 0.0 { bin.total_ns / sum } else { 0.0 }];
    let highest = bins.iter().flat_map(|bin| share(bin)).fold(0.0_f64, f64::max).max(0.01) * 100.0;
    let mut svg = Svg::new(WIDTH, HEIGHT);
    let y = Scale::linear([0.0, highest], [BOTTOM, TOP]);
    for tick in y.ticks(5) {
        svg.line([LEFT, y.at(tick), RIGHT, y.at(tick)], "grid", None);
        svg.text([LEFT - 8.0, y.at(tick) + 4.0], Anchor::End, "tick", &format!("{} %", tick_label(tick)));
    }
    let slot = (RIGHT - LEFT) / bins.len() as f64;
    // A label needs about 62 units.
    let every = (62.0 / slot).ceil().max(1.0) as usize;
    for (at, bin) in bins.iter().enumerate() {
        let left = LEFT + slot * at as f64;
        let [by_count, by_time] = share(bin).map(|share| share * 100.0);
        let range = format!("{} to {}", duration(bin.low_ns), duration(bin.high_ns));
        let wide = (slot * 0.42).min(46.0);
        let middle = left + slot / 2.0;
        let title = format!(
            "{what} of {range}: {} ({} % of all)",
            count(bin.count),
            tick_label((by_count * 10.0).round() / 10.0)
        );
        svg.rect([middle - wide, y.at(by_count), wide, BOTTOM - y.at(by_count)], "k0", Some(&title));
        let title = format!(
            "{what} of {range}: {} in all ({} % of the time)",
            duration(bin.total_ns),
            tick_label((by_time * 10.0).round() / 10.0)
        );
        svg.rect([middle, y.at(by_time), wide, BOTTOM - y.at(by_time)], "k1", Some(&title));
        if at % every == 0 {
            svg.text([left, BOTTOM + 18.0], Anchor::Middle, "tick", &edge(bin.low_ns));
        }
    }
    if bins.len().is_multiple_of(every) {
        svg.text(
            [RIGHT - 4.0, BOTTOM + 18.0],
            Anchor::End,
            "tick",
            &bins.last().map_or_else(String::new, |bin| edge(bin.high_ns)),
        );
    }
    svg.line([LEFT, BOTTOM, RIGHT, BOTTOM], "axis-line", None);
    svg.text([RIGHT, HEIGHT - 6.0], Anchor::End, "axis", "duration, logarithmic bins");
    chart.legend = vec![
        ("k0".to_owned(), format!("share of the {} by number", count(all))),
        ("k1".to_owned(), format!("share of their {} by time", duration(sum))),
    ];
    let label = format!("Histogram of {all} durations in {} bins", bins.len());
    chart.svg = Some(svg.finish(&chart.id, &label));
    chart
}

/// An edge in as few digits as it needs.
fn edge(ns: f64) -> String {
    let (size, unit) = match ns {
        ns if ns >= 1e9 => (1e9, "s"),
        ns if ns >= 1e6 => (1e6, "ms"),
        ns if ns >= 1e3 => (1e3, "µs"),
        _ => (1.0, "ns"),
    };
    format!("{} {unit}", tick_label((ns / size * 100.0).round() / 100.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(bins: &[Bin]) -> Chart {
        histogram(Chart::new("gaps", "Gaps", ""), bins, "gaps", "none")
    }

    #[test]
    fn the_highest_bar_reaches_the_top_and_the_others_their_share() {
        let bin = |low_ns: f64, count, total_ns| Bin { low_ns, high_ns: low_ns * 10.0, count, total_ns };
        let svg = chart(&[bin(1.0, 0, 0.0), bin(1e3, 75, 100.0), bin(1e4, 25, 100.0), bin(1e5, 0, 0.0)]).svg.unwrap();
        // 182 units for 75 %, so 25 % has 60.67 and half of the time 121.33.
        assert!(
            svg.contains("height=\"182.00\"") && svg.contains("height=\"60.67\"") && svg.contains("height=\"121.33\""),
            "{svg}"
        );
        assert!(svg.contains("gaps of 1.000 µs to 10.00 µs: 75 (75 % of all)"), "{svg}");
        assert_eq!(svg.matches("<rect").count(), 4, "empty bins at the ends are not drawn");
    }

    #[test]
    fn nothing_and_nan_draw_nothing() {
        assert!(chart(&[]).empty.is_some());
        let bad = Bin { low_ns: f64::NAN, high_ns: 1.0, count: 5, total_ns: 1.0 };
        assert!(chart(&[bad]).empty.is_some());
        let one = Bin { low_ns: 10.0, high_ns: 20.0, count: 1, total_ns: 0.0 };
        assert!(!chart(&[one]).svg.unwrap().contains("NaN"));
    }
}
