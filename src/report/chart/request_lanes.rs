//! Requests as lanes over time: due, sent, first token, last token, end.

use super::Chart;
use super::svg::{Anchor, Scale, Svg, tick_label};
use crate::report::escape;
use crate::report::number::count;

const WIDTH: f64 = 960.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 940.0;
const TOP: f64 = 8.0;
/// Height of all lanes together, as far as each keeps a readable height.
const HEIGHT: f64 = 600.0;
const LANE: [f64; 2] = [3.0, 14.0];

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::report) enum LaneTone {
    /// Answered.
    Ok,
    /// Failed.
    Failed,
    /// Ended by the test itself.
    Cancelled,
}

/// One request; times in seconds since the stage began.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::report) struct Lane {
    /// When it was due.
    pub due: f64,
    /// When it was sent; none if it never was.
    pub sent: Option<f64>,
    /// First token.
    pub first: Option<f64>,
    /// Last token.
    pub last: Option<f64>,
    /// Its end, or the last that is known of it.
    pub end: f64,
    /// How it ended.
    pub tone: LaneTone,
    /// Shown on hover.
    pub title: String,
}

/// The coloured parts of a lane, one after the other: class, begin, end.
fn parts(lane: &Lane) -> Vec<(&'static str, f64, f64)> {
    let [wait, prefill, stream, tail] = match lane.tone {
        LaneTone::Ok => ["k10", "k6", "k0", "k4"],
        LaneTone::Failed => ["k10", "k1", "k1", "k1"],
        LaneTone::Cancelled => ["k10", "k9", "k9", "k9"],
    };
    let sent = lane.sent.unwrap_or(lane.end);
    let first = lane.first.unwrap_or(lane.end);
    let last = lane.last.unwrap_or(first);
    [(wait, lane.due, sent), (prefill, sent, first), (stream, first, last), (tail, last, lane.end)]
        .into_iter()
        .filter(|(_, from, to)| from.is_finite() && to.is_finite() && to > from)
        .collect()
}

/// Draws the lanes from the top down; `total` is the number of requests they were picked from.
pub(in crate::report) fn request_lanes(mut chart: Chart, lanes: &[Lane], total: usize) -> Chart {
    let drawable = |lane: &&Lane| lane.due.is_finite() && lane.end.is_finite();
    let lanes: Vec<&Lane> = lanes.iter().filter(drawable).collect();
    let Some([begin, end]) = super::svg::extent(lanes.iter().flat_map(|lane| [lane.due, lane.end])) else {
        return chart.nothing("No request of this stage was issued.");
    };
    let high = (HEIGHT / lanes.len() as f64).clamp(LANE[0], LANE[1]);
    let bottom = TOP + high * lanes.len() as f64 + 4.0;
    let mut svg = Svg::new(WIDTH, bottom + 46.0);
    let x = Scale::linear([begin.min(0.0), end.max(begin + 1e-6)], [LEFT, RIGHT]);
    for tick in x.ticks(8) {
        svg.line([x.at(tick), TOP, x.at(tick), bottom], "grid", None);
        svg.text([x.at(tick), bottom + 16.0], Anchor::Middle, "tick", &tick_label(tick));
    }
    svg.line([LEFT, bottom, RIGHT, bottom], "axis-line", None);
    svg.text([RIGHT, bottom + 38.0], Anchor::End, "axis", "s since the stage began");
    svg.text([LEFT - 8.0, TOP + 10.0], Anchor::End, "axis", "first");
    svg.text([LEFT - 8.0, bottom - 4.0], Anchor::End, "axis", "last");
    for (at, lane) in lanes.iter().enumerate() {
        let top = TOP + high * at as f64;
        svg.raw(&format!("<g><title>{}</title>\n", escape::html(&escape::cut(&escape::one_line(&lane.title), 300))));
        let parts = parts(lane);
        for (class, from, to) in &parts {
            let wide = (x.at(*to) - x.at(*from)).max(0.3);
            svg.rect([x.at(*from), top, wide, high * 0.82], class, None);
        }
        if parts.is_empty() {
            // A request that took no time is seen as a mark.
            let class = if lane.tone == LaneTone::Failed { "k1" } else { "k9" };
            svg.rect([x.at(lane.due), top, 2.0, high * 0.82], class, None);
        }
        svg.raw("</g>\n");
    }
    let keys = [
        ("k10", "due, not yet sent", None),
        ("k6", "sent, no token yet", Some(LaneTone::Ok)),
        ("k0", "first to last token", Some(LaneTone::Ok)),
        ("k4", "last token to the end of the answer", Some(LaneTone::Ok)),
        ("k1", "failed", Some(LaneTone::Failed)),
        ("k9", "cancelled by the test", Some(LaneTone::Cancelled)),
    ];
    let shown = |tone: Option<LaneTone>| tone.is_none_or(|tone| lanes.iter().any(|lane| lane.tone == tone));
    chart.legend = keys
        .iter()
        .filter(|key| shown(key.2))
        .map(|(class, words, _)| ((*class).to_owned(), (*words).to_owned()))
        .collect();
    if total > lanes.len() {
        chart.note = Some(format!(
            "{} of {} requests are drawn, evenly picked in the order in which they were issued; requests.jsonl has all.",
            count(lanes.len() as u64),
            count(total as u64)
        ));
    }
    let label = format!("{}: {} requests over {} s", chart.title, lanes.len(), tick_label((end * 1e3).round() / 1e3));
    chart.svg = Some(svg.finish(&chart.id, &label));
    chart
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(tone: LaneTone, sent: Option<f64>) -> Lane {
        Lane { due: 0.0, sent, first: Some(2.0), last: Some(3.0), end: 4.0, tone, title: "<r>".to_owned() }
    }

    fn draw(lanes: &[Lane], total: usize) -> Chart {
        request_lanes(Chart::new("w", "W", ""), lanes, total)
    }

    #[test]
    fn the_parts_of_a_request_follow_each_other() {
        let svg = draw(&[lane(LaneTone::Ok, Some(1.0))], 1).svg.unwrap();
        // 878 units for 4 s: each second is 219.5 wide.
        for (class, left) in [("k10", 62.0), ("k6", 281.5), ("k0", 501.0), ("k4", 720.5)] {
            assert!(svg.contains(&format!("class=\"{class}\" x=\"{left:.2}\" y=\"8.00\" width=\"219.50\"")), "{svg}");
        }
        assert!(svg.contains("<title>&lt;r&gt;</title>"));
    }

    #[test]
    fn failures_have_their_colour_and_what_was_left_out_is_said() {
        let chart = draw(&[lane(LaneTone::Failed, Some(0.0)), lane(LaneTone::Cancelled, None)], 5000);
        assert!(chart.note.unwrap().contains("2 of 5\u{202f}000 requests"));
        let keys: Vec<&str> = chart.legend.iter().map(|(class, _)| class.as_str()).collect();
        assert_eq!(keys, ["k10", "k1", "k9"]);
        assert!(draw(&[], 0).empty.is_some());
        let never = Lane { due: 1.0, end: 1.0, sent: None, first: None, last: None, ..lane(LaneTone::Failed, None) };
        let svg = draw(&[never], 1).svg.unwrap();
        assert!(svg.contains("class=\"k1\"") && !svg.contains("NaN"), "{svg}");
    }
}
