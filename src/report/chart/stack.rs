//! Bars that are filled to 100 %: what a whole is made of, one bar a row.

use super::Chart;
use super::svg::{Anchor, Scale, Svg, tick_label};
use crate::report::escape;
use crate::report::number::percent;

const WIDTH: f64 = 960.0;
const LEFT: f64 = 150.0;
const RIGHT: f64 = 850.0;
const ROW: f64 = 44.0;
/// Rows drawn; a table has the rest.
const ROWS: usize = 24;

/// A part of a row.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::report) struct Part {
    /// What it is.
    pub name: String,
    /// Its size, in the unit of the whole.
    pub value: f64,
    /// Colour class.
    pub color: String,
    /// Shown on hover.
    pub title: String,
}

/// One bar.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::report) struct Row {
    /// Left of the bar.
    pub label: String,
    /// What the whole bar stands for; parts that reach less leave a gap.
    pub whole: f64,
    /// The whole in words, right of the bar.
    pub whole_text: String,
    /// The parts in order.
    pub parts: Vec<Part>,
}

/// Draws `rows` into `chart`; `axis` says what 100 % is.
pub(in crate::report) fn stacked(mut chart: Chart, rows: &[Row], axis: &str, nothing: &str) -> Chart {
    let drawn: Vec<&Row> = rows.iter().filter(|row| row.whole.is_finite() && row.whole > 0.0).collect();
    if drawn.is_empty() {
        return chart.nothing(nothing);
    }
    let left_out = drawn.len().saturating_sub(ROWS);
    let drawn = &drawn[..drawn.len().min(ROWS)];
    let height = 12.0 + ROW * drawn.len() as f64 + 40.0;
    let mut svg = Svg::new(WIDTH, height);
    let scale = Scale::linear([0.0, 100.0], [LEFT, RIGHT]);
    for tick in scale.ticks(5) {
        svg.line([scale.at(tick), 6.0, scale.at(tick), height - 36.0], "grid", None);
        svg.text([scale.at(tick), height - 20.0], Anchor::Middle, "tick", &format!("{} %", tick_label(tick)));
    }
    svg.text([RIGHT, height - 4.0], Anchor::End, "axis", axis);
    let mut legend: Vec<(String, String, f64)> = Vec::new();
    for (at, row) in drawn.iter().enumerate() {
        let top = 10.0 + ROW * at as f64;
        let label = escape::one_line(&row.label);
        let short = escape::cut(&label, 22);
        svg.text_with_title(
            [LEFT - 10.0, top + 21.0],
            Anchor::End,
            "label",
            &short,
            (short != label).then_some(&label),
        );
        svg.text([RIGHT + 8.0, top + 21.0], Anchor::Start, "value", &escape::cut(&row.whole_text, 18));
        let mut from = 0.0;
        for part in row.parts.iter().filter(|part| part.value.is_finite() && part.value > 0.0) {
            let share = part.value / row.whole;
            // Parts that come to more than the whole are cut at its end: the picture stays inside, the table has the figures.
            let to = (from + share * 100.0).min(100.0);
            let (x, width) = (scale.at(from), scale.at(to) - scale.at(from));
            from = to;
            svg.rect([x, top, width, 32.0], &format!("{} parted", part.color), Some(&part.title));
            let name = escape::one_line(&part.name);
            let text = format!("{} {}", escape::cut(&name, 22), percent(share));
            // Shades of a colour take the ink of the page.
            let class = if part.color.contains(' ') { "label".to_owned() } else { format!("on-{}", part.color) };
            // 7.2 units for each character of a 12-unit label keep it inside its block.
            if width > 7.2 * text.chars().count() as f64 {
                svg.text([x + width / 2.0, top + 20.0], Anchor::Middle, &class, &text);
            } else if width > 44.0 {
                svg.text([x + width / 2.0, top + 20.0], Anchor::Middle, &class, &percent(share));
            }
            match legend.iter_mut().find(|key| key.1 == name) {
                Some(key) => key.2 += part.value,
                None => legend.push((part.color.clone(), name, part.value)),
            }
        }
    }
    legend.sort_by(|a, b| b.2.total_cmp(&a.2));
    if legend.len() > 14 {
        chart.note = Some(format!("{} smaller parts have no key; hover a block for its name.", legend.len() - 14));
    }
    chart.legend = legend.into_iter().take(14).map(|(color, name, _)| (color, escape::cut(&name, 40))).collect();
    if left_out > 0 {
        chart.note = Some(format!("{left_out} more bars are not drawn; the table has them."));
    }
    let label = format!("{}: {} bars of parts in per cent", chart.title, drawn.len());
    chart.svg = Some(svg.finish(&chart.id, &label));
    chart
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(whole: f64, parts: &[(&str, f64)]) -> Row {
        let part = |(name, value): &(&str, f64)| Part {
            name: (*name).to_owned(),
            value: *value,
            color: "k0".to_owned(),
            title: (*name).to_owned(),
        };
        Row { label: "GPU 0".to_owned(), whole, whole_text: "1 s".to_owned(), parts: parts.iter().map(part).collect() }
    }

    fn draw(rows: &[Row]) -> Chart {
        stacked(Chart::new("x", "X", ""), rows, "of all", "nothing")
    }

    #[test]
    fn blocks_are_as_wide_as_their_shares() {
        let svg = draw(&[row(200.0, &[("busy", 50.0), ("sync", 150.0)])]).svg.unwrap();
        // 700 units: a quarter and three quarters.
        assert!(svg.contains("x=\"150.00\" y=\"10.00\" width=\"175.00\""), "{svg}");
        assert!(svg.contains("x=\"325.00\" y=\"10.00\" width=\"525.00\""), "{svg}");
    }

    #[test]
    fn nothing_unknown_or_too_much_stays_inside_the_picture() {
        assert!(draw(&[]).empty.is_some());
        assert!(draw(&[row(f64::NAN, &[("a", 1.0)]), row(0.0, &[])]).empty.is_some());
        let svg = draw(&[row(10.0, &[("a", f64::NAN), ("b", 30.0), ("c", 5.0)])]).svg.unwrap();
        assert!(
            !svg.contains("NaN") && svg.contains("width=\"700.00\"") && !svg.contains("width=\"2100.00\""),
            "{svg}"
        );
    }

    #[test]
    fn the_legend_has_each_part_once_largest_first() {
        let chart = draw(&[row(10.0, &[("a", 2.0), ("b", 3.0)]), row(10.0, &[("a", 4.0)])]);
        let names: Vec<&str> = chart.legend.iter().map(|(_, name)| name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
    }
}
