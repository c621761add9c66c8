//! The stretch of the timeline as the page's script reads it, and its longest bars as a table.

use serde_json::{Value, json};

use super::cells::time;
use crate::analysis::excerpt::{Lane, LaneKind, NO_LINK, TimelineView};
use crate::report::chart::bar_color;
use crate::report::escape;
use crate::report::table::{Cell, Table};

/// Bars in the table.
const LONGEST: usize = 20;
/// Characters of a name the page keeps.
const NAME: usize = 300;

fn text(text: &str, limit: usize) -> String {
    escape::cut(&escape::one_line(text), limit)
}

/// Compact: begins as differences, times in ns since the begin of the stretch, links counted from 1 with 0 for none.
pub(super) fn packed(view: &TimelineView) -> Value {
    json!({
        "to": view.end_ns.saturating_sub(view.start_ns),
        "offset": view.start_ns.saturating_sub(view.origin_ns),
        "names": view.names.iter().map(|name| text(name, NAME)).collect::<Vec<_>>(),
        "labels": view.labels.iter().map(|label| text(label, 100)).collect::<Vec<_>>(),
        "classes": view.classes.iter().map(|class| [text(class, 60), bar_color(class).to_owned()]).collect::<Vec<_>>(),
        "lanes": view.lanes.iter().map(|lane| packed_lane(view, lane)).collect::<Vec<_>>(),
    })
}

fn packed_lane(view: &TimelineView, lane: &Lane) -> Value {
    let mut previous = view.start_ns;
    let begins: Vec<i64> = lane
        .start_ns
        .iter()
        .map(|start| {
            let step = start.saturating_sub(previous);
            previous = *start;
            step
        })
        .collect();
    let lengths: Vec<i64> =
        lane.start_ns.iter().zip(&lane.end_ns).map(|(start, end)| end.saturating_sub(*start).max(0)).collect();
    let links: Vec<u64> =
        lane.link.iter().map(|link| if *link == NO_LINK { 0 } else { u64::from(*link) + 1 }).collect();
    json!({
        "l": text(&lane.label, 80), "k": lane.kind, "s": begins, "d": lengths, "n": lane.name, "c": lane.class, "z": lane.depth,
        "p": links,
    })
}

/// The longest bars of devices, or of all lanes where no device has any.
pub(super) fn longest_bars(view: &TimelineView) -> Table {
    let device = |lane: &Lane| matches!(lane.kind, LaneKind::Stream | LaneKind::Gaps);
    let any = view.lanes.iter().any(|lane| device(lane) && !lane.is_empty());
    let mut bars: Vec<(i64, &Lane, usize)> = view
        .lanes
        .iter()
        .filter(|lane| !any || device(lane))
        .flat_map(|lane| {
            (0..lane.len()).map(move |bar| (lane.end_ns[bar].saturating_sub(lane.start_ns[bar]), lane, bar))
        })
        .collect();
    bars.sort_by_key(|bar| (std::cmp::Reverse(bar.0), bar.1.start_ns[bar.2]));
    let mut table = Table::new(&["Lane", "What", "Class", "#Begins at", "#Duration"]);
    let known = |texts: &[String], at: usize| texts.get(at).map_or_else(String::new, Clone::clone);
    for (length, lane, bar) in bars.into_iter().take(LONGEST) {
        table.push(vec![
            Cell::text(&lane.label),
            Cell::text(&known(&view.names, lane.name[bar] as usize)),
            Cell::text(&known(&view.classes, usize::from(lane.class[bar]))),
            time(lane.start_ns[bar].saturating_sub(view.origin_ns) as f64),
            time(length as f64),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> TimelineView {
        let mut lane = Lane::new("GPU 0 stream 7", LaneKind::Stream);
        lane.start_ns = vec![90, 120, 120];
        lane.end_ns = vec![110, 125, 300];
        lane.name = vec![0, 1, 0];
        lane.class = vec![0, 0, 0];
        lane.link = vec![NO_LINK, 0, 4];
        TimelineView {
            start_ns: 100,
            end_ns: 400,
            origin_ns: -1000,
            lanes: vec![lane],
            names: vec!["a".to_owned(), "b\u{202e}".to_owned()],
            labels: vec!["a".to_owned(), "b".to_owned()],
            classes: vec!["gemm".to_owned()],
            ..TimelineView::default()
        }
    }

    #[test]
    fn times_and_links_come_back_from_the_packed_form() {
        let packed = packed(&view());
        let lane = &packed["lanes"][0];
        let mut at = 0;
        let begins: Vec<i64> = lane["s"]
            .as_array()
            .unwrap()
            .iter()
            .map(|step| {
                at += step.as_i64().unwrap();
                at + 100
            })
            .collect();
        assert_eq!(begins, view().lanes[0].start_ns);
        assert_eq!(lane["d"], json!([20, 5, 180]));
        assert_eq!(lane["p"], json!([0, 1, 5]));
        assert_eq!((packed["to"].as_i64(), packed["offset"].as_i64()), (Some(300), Some(1100)));
        assert_eq!(packed["classes"], json!([["gemm", "k0"]]));
        assert_eq!(packed["names"][1], "b\\u{202e}");
    }

    #[test]
    fn the_table_has_the_longest_bar_first() {
        let table = longest_bars(&view());
        let texts: Vec<&str> = table.rows.iter().map(|row| row[4].text.as_str()).collect();
        assert_eq!(texts, ["180 ns", "20 ns", "5 ns"]);
    }
}
