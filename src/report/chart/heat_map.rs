//! Values over two axes: each cell says its value, and its colour repeats it.

use super::Chart;
use super::svg::{Anchor, Svg, extent};
use crate::report::escape;

/// Steps of colour; the style sheet has a class for each.
pub(in crate::report) const STEPS: usize = 7;
/// More columns or rows than this cannot be read; the table has them.
const MOST: [usize; 2] = [20, 60];
const LEFT: f64 = 190.0;
const TOP: f64 = 44.0;
const ROW: f64 = 36.0;
const WIDTH: f64 = 960.0;
/// Values that differ by more than this factor are coloured by their logarithm.
const LOG_FROM: f64 = 20.0;

/// One cell.
#[derive(Debug, Clone, PartialEq, Default)]
pub(in crate::report) struct GridCell {
    /// Its value; none where it has none.
    pub value: Option<f64>,
    /// The value in words, or why there is none.
    pub text: String,
    /// Shown on hover.
    pub title: String,
    /// Marked as the best.
    pub best: bool,
}

/// Cells with the names of their columns and rows.
#[derive(Debug, Clone, PartialEq, Default)]
pub(in crate::report) struct Grid {
    /// What the columns are.
    pub x_title: String,
    /// What the rows are.
    pub y_title: String,
    /// Names of the columns.
    pub x: Vec<String>,
    /// Names of the rows.
    pub y: Vec<String>,
    /// `cells[row][column]`.
    pub cells: Vec<Vec<GridCell>>,
    /// Whether a small value is the good one: the darkest colour is the best.
    pub lower_is_better: bool,
}

/// Maps a value to a step of colour.
#[derive(Debug, Clone, Copy)]
struct Ramp {
    low: f64,
    high: f64,
    log: bool,
    reversed: bool,
}

impl Ramp {
    fn new([low, high]: [f64; 2], reversed: bool) -> Self {
        Self { low, high, log: low > 0.0 && high / low > LOG_FROM, reversed }
    }
    /// 0 for the worst end, 1 for the best.
    fn share(&self, value: f64) -> f64 {
        let place = |value: f64| if self.log { value.ln() } else { value };
        let width = place(self.high) - place(self.low);
        let share = if width > 0.0 { (place(value) - place(self.low)) / width } else { 1.0 };
        // All alike, all are the best.
        if self.reversed && width > 0.0 { 1.0 - share } else { share }
    }
    fn step(&self, value: f64) -> usize {
        ((self.share(value) * STEPS as f64) as usize).min(STEPS - 1)
    }
    /// The values between which a step lies, smaller first.
    fn range(&self, step: usize) -> [f64; 2] {
        let place = |value: f64| if self.log { value.ln() } else { value };
        let back = |value: f64| if self.log { value.exp() } else { value };
        let at = |edge: usize| {
            let share = edge as f64 / STEPS as f64;
            let share = if self.reversed { 1.0 - share } else { share };
            back(place(self.low) + share * (place(self.high) - place(self.low)))
        };
        let (a, b) = (at(step), at(step + 1));
        [a.min(b), a.max(b)]
    }
}

/// Draws the grid. `write` puts a value into words, as the legend needs it.
pub(in crate::report) fn heat_map(mut chart: Chart, grid: &Grid, write: &dyn Fn(f64) -> String) -> Chart {
    let values = grid.cells.iter().flatten().filter_map(|cell| cell.value);
    let Some(range) = extent(values).filter(|[low, high]| (high - low).is_finite()) else {
        return chart.nothing("No point of this map has a value.");
    };
    if grid.x.len() > MOST[0] || grid.y.len() > MOST[1] {
        return chart.nothing("The axes have too many values to draw; the table has every point.");
    }
    let ramp = Ramp::new(range, grid.lower_is_better);
    let cell = ((WIDTH - LEFT - 20.0) / grid.x.len().max(1) as f64).clamp(64.0, 132.0);
    let right = LEFT + cell * grid.x.len() as f64;
    let bottom = TOP + ROW * grid.y.len() as f64;
    let mut svg = Svg::new((right + 20.0).max(WIDTH), bottom + 16.0);
    svg.text([LEFT, 16.0], Anchor::Start, "axis", &format!("{} →", short(&grid.x_title, 60)));
    svg.text([LEFT - 10.0, TOP - 8.0], Anchor::End, "axis", &format!("{} ↓", short(&grid.y_title, 26)));
    for (at, name) in grid.x.iter().enumerate() {
        name_of(&mut svg, [LEFT + cell * (at as f64 + 0.5), TOP - 8.0], Anchor::Middle, name, (cell / 7.0) as usize);
    }
    let mut used = [false; STEPS];
    for (row, name) in grid.y.iter().enumerate() {
        let top = TOP + ROW * row as f64;
        name_of(&mut svg, [LEFT - 10.0, top + 22.0], Anchor::End, name, 24);
        for (column, one) in grid.cells.get(row).into_iter().flatten().enumerate().take(grid.x.len()) {
            let left = LEFT + cell * column as f64;
            let middle = [left + cell / 2.0, top + 22.0];
            let place = [left + 1.0, top + 1.0, cell - 2.0, ROW - 2.0];
            if let Some(value) = one.value.filter(|value| value.is_finite()) {
                let step = ramp.step(value);
                used[step] = true;
                svg.rect(place, &format!("h{step}"), Some(&one.title));
                let text = if one.best { format!("★ {}", one.text) } else { one.text.clone() };
                let text = short(&text, (cell / 6.4) as usize);
                svg.text(middle, Anchor::Middle, &format!("cell on-h{step}"), &text);
                if one.best {
                    svg.rect(place, "ringed", Some(&one.title));
                }
            } else {
                svg.rect(place, "no-cell", Some(&one.title));
                svg.text(middle, Anchor::Middle, "tick", &short(&one.text, (cell / 6.4) as usize));
            }
        }
    }
    for step in (0..STEPS).rev().filter(|step| used[*step]) {
        let [low, high] = ramp.range(step);
        let words = if range[0] >= range[1] { write(high) } else { format!("{} to {}", write(low), write(high)) };
        chart.legend.push((format!("h{step}"), words));
    }
    if grid.cells.iter().flatten().any(|cell| cell.value.is_none()) {
        chart.legend.push(("no-cell".to_owned(), "no value; the cell says why".to_owned()));
    }
    let label = format!(
        "{}: {} columns of {}, {} rows of {}, values from {} to {}",
        chart.title,
        grid.x.len(),
        short(&grid.x_title, 60),
        grid.y.len(),
        short(&grid.y_title, 60),
        write(range[0]),
        write(range[1])
    );
    chart.svg = Some(svg.finish(&chart.id, &label));
    chart
}

fn short(text: &str, limit: usize) -> String {
    escape::cut(&escape::one_line(text), limit)
}

fn name_of(svg: &mut Svg, at: [f64; 2], anchor: Anchor, name: &str, limit: usize) {
    let whole = escape::one_line(name);
    let cut = escape::cut(&whole, limit);
    svg.text_with_title(at, anchor, "label", &cut, (cut != whole).then_some(&escape::cut(&whole, 400)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid(values: &[&[Option<f64>]], lower_is_better: bool) -> Grid {
        let cell = |value: &Option<f64>| GridCell {
            value: *value,
            text: value.map_or_else(|| "oom".to_owned(), |value| format!("{value}")),
            ..GridCell::default()
        };
        Grid {
            x_title: "batch".to_owned(),
            y_title: "prompt".to_owned(),
            x: (0..values[0].len()).map(|at| at.to_string()).collect(),
            y: (0..values.len()).map(|at| at.to_string()).collect(),
            cells: values.iter().map(|row| row.iter().map(cell).collect()).collect(),
            lower_is_better,
        }
    }

    fn draw(grid: &Grid) -> Chart {
        heat_map(Chart::new("m", "M", ""), grid, &|value| format!("{value:.1} ms"))
    }

    #[test]
    fn the_best_value_is_darkest_whichever_way_is_better() {
        let class_of = |chart: &Chart, text: &str| {
            let svg = chart.svg.clone().unwrap();
            let is_cell = |line: &&str| line.contains("on-h") && line.contains(&format!(">{text}</text>"));
            let line = svg.lines().find(is_cell).unwrap().to_owned();
            line.split("on-h").nth(1).unwrap().chars().next().unwrap()
        };
        let more = draw(&grid(&[&[Some(1.0), Some(4.0)], &[Some(10.0), None]], false));
        assert_eq!((class_of(&more, "1"), class_of(&more, "10")), ('0', '6'));
        let less = draw(&grid(&[&[Some(1.0), Some(4.0)], &[Some(10.0), None]], true));
        assert_eq!((class_of(&less, "1"), class_of(&less, "10")), ('6', '0'));
        let svg = less.svg.unwrap();
        assert!(svg.contains(">oom</text>") && svg.contains("class=\"no-cell\""), "{svg}");
        let worst = less.legend.iter().find(|(class, _)| class == "h0").unwrap();
        assert_eq!(worst.1, "8.7 ms to 10.0 ms");
        assert_eq!(less.legend.len(), 4, "three colours in use and the missing cell: {:?}", less.legend);
    }

    #[test]
    fn values_of_many_sizes_are_told_apart() {
        let chart = draw(&grid(&[&[Some(1.0), Some(10.0), Some(100.0), Some(1000.0)]], false));
        let svg = chart.svg.unwrap();
        let steps: std::collections::BTreeSet<&str> = svg.split("cell on-h").skip(1).map(|rest| &rest[..1]).collect();
        assert_eq!(steps.len(), 4, "{svg}");
    }

    #[test]
    fn nothing_and_too_much_say_so() {
        assert!(draw(&grid(&[&[None, None]], false)).empty.is_some());
        let wide: Vec<Option<f64>> = vec![Some(1.0); 21];
        assert!(draw(&grid(&[&wide], false)).empty.unwrap().contains("too many"));
        assert!(draw(&grid(&[&[Some(f64::NAN)]], false)).empty.is_some());
        assert!(draw(&grid(&[&[Some(-1e308), Some(1e308)]], false)).empty.is_some());
    }
}
