//! Gaps between chunks over the time of a stage: how many of which length came when.

use super::Chart;
use super::svg::{Anchor, Svg, tick_label};
use crate::report::number::{count, digits};

const WIDTH: f64 = 960.0;
const LEFT: f64 = 86.0;
const RIGHT: f64 = 940.0;
const TOP: f64 = 10.0;
const ROW: f64 = 13.0;
/// Columns: more are too narrow to be hovered.
const COLUMNS: usize = 48;
/// Rows at most.
const ROWS: usize = 24;
/// Rows for each factor of ten: the most that fit.
const PER_DECADE: [f64; 3] = [32.0, 16.0, 8.0];
/// Steps of colour; the style sheet has a class for each.
const STEPS: usize = super::heat_map::STEPS;
/// The shortest gap that has a row of its own, in ms: stamps are in µs.
const SHORTEST_MS: f64 = 0.01;

/// How many gaps fell into each cell.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::report) struct GapMap {
    /// Begin and end of the columns, in seconds.
    pub span_s: [f64; 2],
    /// Edges of the rows in ms, ascending; the lowest row also holds what is shorter.
    pub edges_ms: Vec<f64>,
    /// `counts[row][column]`, the shortest gaps first.
    pub counts: Vec<Vec<u64>>,
    /// All gaps.
    pub total: u64,
}

impl GapMap {
    /// Counts `gaps`: when each ended in seconds, and its length in ms. None where there is no gap that is a number.
    pub(in crate::report) fn new(gaps: &[(f64, f64)]) -> Option<Self> {
        let finite = || gaps.iter().filter(|(at, gap)| at.is_finite() && gap.is_finite() && *gap >= 0.0);
        let span = super::svg::extent(finite().map(|(at, _)| *at))?;
        let [low, high] = super::svg::extent(finite().map(|(_, gap)| gap.max(SHORTEST_MS)))?;
        // Whole steps of a grid, so that a row means the same wherever the grid is as fine.
        let ends = |per: f64| ((low.log10() * per).floor(), (high.log10() * per).floor() + 1.0);
        let fits = |per: &f64| ends(*per).1 - ends(*per).0 <= ROWS as f64;
        let per_decade = PER_DECADE.into_iter().find(fits).unwrap_or(8.0);
        let (first, last) = ends(per_decade);
        let step = ((last - first) / ROWS as f64).ceil().max(1.0);
        let rows = (((last - first) / step).ceil() as usize).max(1);
        let edges_ms: Vec<f64> = (0..=rows).map(|row| 10f64.powf((first + row as f64 * step) / per_decade)).collect();
        let mut counts = vec![vec![0u64; COLUMNS]; rows];
        let length = (span[1] - span[0]).max(1e-9);
        let mut total = 0;
        for (at, gap) in finite() {
            let column = (((at - span[0]) / length * COLUMNS as f64) as usize).min(COLUMNS - 1);
            let row = edges_ms[1..rows].iter().take_while(|edge| **edge <= *gap).count();
            counts[row][column] += 1;
            total += 1;
        }
        Some(Self { span_s: span, edges_ms, counts, total })
    }
}

/// Which step of colour a count has: by its logarithm, since most gaps are alike and those that are not matter.
fn step(number: u64, most: u64) -> usize {
    if most <= 1 {
        return STEPS - 1;
    }
    (((number as f64).ln() / (most as f64).ln() * STEPS as f64) as usize).min(STEPS - 1)
}

/// Draws the map.
pub(in crate::report) fn gap_map(mut chart: Chart, map: Option<&GapMap>) -> Chart {
    let Some(map) = map else {
        return chart.nothing("No successful request of this stage brought two chunks or more, so there are no gaps.");
    };
    let rows = map.counts.len();
    let bottom = TOP + ROW * rows as f64;
    let wide = (RIGHT - LEFT) / COLUMNS as f64;
    let mut svg = Svg::new(WIDTH, bottom + 46.0);
    let most = map.counts.iter().flatten().copied().max().unwrap_or(0);
    let length = map.span_s[1] - map.span_s[0];
    let seconds = |column: usize| map.span_s[0] + length * column as f64 / COLUMNS as f64;
    let mut used = [None::<[u64; 2]>; STEPS];
    for (row, counts) in map.counts.iter().enumerate() {
        let top = bottom - ROW * (row + 1) as f64;
        for (column, number) in counts.iter().enumerate().filter(|(_, number)| **number > 0) {
            let step = step(*number, most);
            let [low, high] = used[step].unwrap_or([*number, *number]);
            used[step] = Some([low.min(*number), high.max(*number)]);
            let from = if row == 0 { "up".to_owned() } else { digits(map.edges_ms[row]) };
            let title = format!(
                "{} gaps of {from} to {} ms at {} to {} s",
                count(*number),
                digits(map.edges_ms[row + 1]),
                digits(seconds(column)),
                digits(seconds(column + 1))
            );
            let place = [LEFT + wide * column as f64, top, wide, ROW];
            svg.rect(place, &format!("h{step}"), Some(&title));
        }
    }
    // A label each third row has room.
    for row in (0..=rows).step_by(if rows > 6 { 3 } else { 1 }) {
        let y = bottom - ROW * row as f64;
        svg.line([LEFT - 4.0, y, LEFT, y], "axis-line", None);
        svg.text([LEFT - 8.0, y + 4.0], Anchor::End, "tick", &digits(map.edges_ms[row]));
    }
    svg.line([LEFT, bottom, RIGHT, bottom], "axis-line", None);
    for tick in super::svg::Scale::linear([map.span_s[0], map.span_s[0] + length.max(1e-9)], [LEFT, RIGHT]).ticks(8) {
        let x = LEFT + (tick - map.span_s[0]) / length.max(1e-9) * (RIGHT - LEFT);
        svg.text([x, bottom + 16.0], Anchor::Middle, "tick", &tick_label(tick));
    }
    svg.text([RIGHT, bottom + 38.0], Anchor::End, "axis", "s since the stage began");
    svg.text([LEFT, bottom + 38.0], Anchor::Start, "axis", "gap in ms, logarithmic");
    for (step, range) in used.iter().enumerate().rev() {
        let Some([low, high]) = range else { continue };
        let words = if low == high { count(*low) } else { format!("{} to {}", count(*low), count(*high)) };
        chart.legend.push((format!("h{step}"), format!("{words} gaps")));
    }
    let label = format!(
        "{}: {} gaps between chunks, {} to {} ms",
        chart.title,
        count(map.total),
        digits(map.edges_ms[0]),
        digits(map.edges_ms[rows])
    );
    chart.svg = Some(svg.finish(&chart.id, &label));
    chart
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_gap_is_in_the_cell_of_its_time_and_length() {
        // 48 columns over 0 to 48 s; 10 ms and 100 ms are sixteen rows apart.
        let map = GapMap::new(&[(0.0, 10.5), (0.5, 10.5), (47.5, 105.0), (48.0, 105.0)]).unwrap();
        assert_eq!((map.total, map.counts.len(), map.edges_ms.len()), (4, 17, 18));
        assert!((map.edges_ms[0] - 10.0).abs() < 1e-9 && (map.edges_ms[16] - 100.0).abs() < 1e-9);
        assert_eq!((map.counts[0][0], map.counts[16][47]), (2, 2));
        assert_eq!(map.counts.iter().flatten().sum::<u64>(), 4);
    }

    #[test]
    fn chunks_of_one_read_have_no_gap_and_are_counted_below() {
        let map = GapMap::new(&[(1.0, 0.0), (2.0, 20.0), (3.0, f64::NAN)]).unwrap();
        assert_eq!((map.total, map.counts[0][0]), (2, 1));
        assert!(map.counts.len() <= ROWS);
        assert!(GapMap::new(&[]).is_none() && GapMap::new(&[(f64::NAN, 1.0)]).is_none());
    }

    #[test]
    fn a_million_gaps_are_a_small_picture() {
        let gaps: Vec<(f64, f64)> = (0..1_000_000).map(|at| (f64::from(at) / 1e4, 1.0 + f64::from(at % 977))).collect();
        let chart = gap_map(Chart::new("g", "G", ""), GapMap::new(&gaps).as_ref());
        let svg = chart.svg.unwrap();
        assert!(svg.len() < 300_000 && !svg.contains("NaN"), "{}", svg.len());
        assert!(gap_map(Chart::new("g", "G", ""), None).empty.is_some());
    }
}
