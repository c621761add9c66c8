//! Intervals of ratios, one a row, on a logarithmic axis round 1: how large each effect is, and how sure.

use super::Chart;
use super::svg::{Anchor, Scale, Svg, tick_label};
use crate::report::escape;

const WIDTH: f64 = 960.0;
const LEFT: f64 = 250.0;
const RIGHT: f64 = 690.0;
const ROW: f64 = 38.0;
const HEADING: f64 = 30.0;
/// Rows drawn; the table has the rest.
const ROWS: usize = 80;
/// Ratios beyond this factor are drawn as an arrow at the edge.
const WIDEST: f64 = 64.0;

/// What the mark of a row looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::report) enum Tone {
    /// Better.
    Good,
    /// Worse.
    Bad,
    /// The same, or a difference that is neither.
    Even,
    /// Not decided.
    Open,
}

impl Tone {
    fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Bad => "worse",
            Self::Even => "even",
            Self::Open => "open",
        }
    }
}

/// One effect.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::report) struct ForestRow {
    /// What is compared.
    pub label: String,
    /// Which way is better.
    pub below: String,
    /// candidate / baseline.
    pub ratio: Option<f64>,
    /// Its interval.
    pub interval: Option<[f64; 2]>,
    /// Ratios that count as the same.
    pub margin: Option<[f64; 2]>,
    /// Ratios that an A/A control shows as noise.
    pub noise: Option<[f64; 2]>,
    /// The figures in words.
    pub text: String,
    /// The verdict.
    pub verdict: String,
    /// How the mark looks.
    pub tone: Tone,
    /// Shown on hover.
    pub title: String,
}

/// A heading or a row.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::report) enum ForestItem {
    /// Begins a group.
    Heading(String),
    /// One effect.
    Row(ForestRow),
}

fn usable(value: f64) -> Option<f64> {
    (value.is_finite() && value > 0.0).then_some(value)
}

/// Ends that can stand on a logarithmic axis. A lower end at or below 0 reaches past its left edge.
fn ends(interval: Option<[f64; 2]>) -> Option<[f64; 2]> {
    let [low, high] = interval.filter(|ends| ends.iter().all(|end| end.is_finite()))?;
    (high > 0.0 && high >= low).then_some([low.max(f64::MIN_POSITIVE), high])
}

/// Draws `items` into `chart`.
pub(in crate::report) fn forest(mut chart: Chart, items: &[ForestItem], nothing: &str) -> Chart {
    let mut rows = 0;
    let drawn: Vec<&ForestItem> = items
        .iter()
        .take_while(|item| {
            rows += usize::from(matches!(item, ForestItem::Row(_)));
            rows <= ROWS
        })
        .collect();
    let effects = || drawn.iter().filter_map(|item| if let ForestItem::Row(row) = item { Some(row) } else { None });
    let known = |row: &&&ForestRow| row.ratio.and_then(usable).is_some() || ends(row.interval).is_some();
    if !effects().any(|row| known(&&row)) {
        return chart.nothing(nothing);
    }
    let left_out = items.iter().filter(|item| matches!(item, ForestItem::Row(_))).count() - effects().count();
    let reach = effects()
        .flat_map(|row| {
            let ends = ends(row.interval).map(|ends| ends.to_vec()).unwrap_or_default();
            let bands = row.margin.iter().chain(&row.noise).flatten().copied().collect::<Vec<_>>();
            row.ratio.into_iter().chain(ends).chain(bands)
        })
        .filter_map(usable)
        .map(|ratio| ratio.ln().abs())
        .fold(0.015_f64, f64::max)
        .min(WIDEST.ln());
    let (low, high) = ((-reach * 1.08).exp(), (reach * 1.08).exp());
    let scale = Scale::log([low, high], [LEFT, RIGHT]);
    let at = |ratio: f64| scale.at(ratio.max(f64::MIN_POSITIVE)).clamp(LEFT, RIGHT);
    let height: f64 = drawn.iter().map(|item| if matches!(item, ForestItem::Row(_)) { ROW } else { HEADING }).sum();
    let bottom = 10.0 + height;
    let mut svg = Svg::new(WIDTH, bottom + 44.0);
    for (ratio, text) in ticks(&scale, [low, high]) {
        svg.line([scale.at(ratio), 6.0, scale.at(ratio), bottom], "grid", None);
        svg.text([scale.at(ratio), bottom + 16.0], Anchor::Middle, "tick", &text);
    }
    svg.text([LEFT, bottom + 36.0], Anchor::Start, "axis", "← lower than the baseline");
    svg.text([RIGHT, bottom + 36.0], Anchor::End, "axis", "higher than the baseline →");
    let mut top = 6.0;
    for item in &drawn {
        match item {
            ForestItem::Heading(text) => {
                svg.text([4.0, top + 21.0], Anchor::Start, "label group", &escape::cut(&escape::one_line(text), 110));
                top += HEADING;
            }
            ForestItem::Row(row) => {
                draw(&mut svg, row, top, &at, [low, high]);
                top += ROW;
            }
        }
    }
    svg.line([at(1.0), 6.0, at(1.0), bottom], "one", None);
    let tones = [
        (Tone::Good, "better"),
        (Tone::Bad, "worse"),
        (Tone::Even, "the same, or different where neither way is better"),
        (Tone::Open, "not decided"),
    ];
    chart.legend = tones
        .into_iter()
        .filter(|(tone, _)| effects().any(|row| row.tone == *tone))
        .map(|(tone, text)| (tone.class().to_owned(), text.to_owned()))
        .collect();
    if effects().any(|row| row.margin.is_some()) {
        chart.legend.push(("margin-band".to_owned(), "counts as the same (margin)".to_owned()));
    }
    if effects().any(|row| row.noise.is_some()) {
        chart.legend.push(("noise-band".to_owned(), "noise of the A/A control".to_owned()));
    }
    if left_out > 0 {
        chart.note = Some(format!("{left_out} more effects are not drawn; the table has them."));
    }
    let label = format!("{} effects as ratios to the baseline, with their intervals", effects().count());
    chart.svg = Some(svg.finish(&chart.id, &label));
    chart
}

fn draw(svg: &mut Svg, row: &ForestRow, top: f64, at: &dyn Fn(f64) -> f64, [low, high]: [f64; 2]) {
    let middle = top + ROW / 2.0;
    for (band, class, inset) in [(row.margin, "margin-band", 3.0), (row.noise, "noise-band", 9.0)] {
        if let Some([from, to]) = ends(band) {
            svg.rect([at(from), top + inset, at(to) - at(from), ROW - 2.0 * inset], class, None);
        }
    }
    let text = escape::one_line(&row.label);
    let short = escape::cut(&text, 38);
    let whole = (short != text).then(|| escape::cut(&text, 400));
    svg.text_with_title([LEFT - 12.0, middle - 2.0], Anchor::End, "label", &short, whole.as_deref());
    svg.text([LEFT - 12.0, middle + 13.0], Anchor::End, "tick", &escape::cut(&escape::one_line(&row.below), 44));
    let class = row.tone.class();
    if let Some([from, to]) = ends(row.interval) {
        svg.line([at(from), middle, at(to), middle], &format!("whisker {class}-line"), Some(&row.title));
        for (end, beyond, sign) in [(from, from < low, -1.0), (to, to > high, 1.0)] {
            let x = at(end);
            if beyond {
                // The interval goes on past the edge.
                let data = format!("M{:.2} {:.2}l{:.2} 6l{:.2} 6Z", x, middle - 6.0, 7.0 * sign, -7.0 * sign);
                svg.path(&data, class, Some(&row.title));
            } else {
                svg.line([x, middle - 5.0, x, middle + 5.0], &format!("whisker {class}-line"), None);
            }
        }
    }
    match row.ratio.and_then(usable) {
        Some(ratio) if ratio < low || ratio > high => {
            svg.text([at(ratio), middle - 9.0], Anchor::Middle, "tick", "outside the picture");
        }
        Some(ratio) => svg.diamond([at(ratio), middle, 6.5], &format!("{class} mark-edge"), Some(&row.title)),
        None => svg.text([at(1.0) + 8.0, middle + 4.0], Anchor::Start, "tick", "no ratio to draw"),
    }
    svg.text([RIGHT + 14.0, middle - 2.0], Anchor::Start, "label", &escape::cut(&row.text, 42));
    let verdict = escape::one_line(&row.verdict);
    svg.text([RIGHT + 14.0, middle + 13.0], Anchor::Start, "tick", &escape::cut(&verdict, 46));
}

/// Ratios with round changes, 1 first, none closer to another than its label needs.
fn ticks(scale: &Scale, [low, high]: [f64; 2]) -> Vec<(f64, String)> {
    const ROOM: f64 = 60.0;
    let mut wanted = vec![1.0];
    if high < 1.5 {
        let rough = (high - low) / 8.0;
        let power = 10.0_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power).find(|step| *step >= rough);
        let step = step.unwrap_or(10.0 * power);
        for number in 1..=10 {
            wanted.extend([1.0 + step * f64::from(number), 1.0 - step * f64::from(number)]);
        }
    } else {
        wanted.extend([2.0, 0.5, 4.0, 0.25, 8.0, 0.125, 16.0, 0.0625, 32.0, 1.0 / 32.0, 64.0, 1.0 / 64.0]);
        wanted.extend([1.5, 0.75, 3.0, 0.9, 1.2]);
    }
    let mut kept: Vec<f64> = Vec::new();
    for ratio in wanted.into_iter().filter(|ratio| *ratio > low && *ratio < high) {
        if kept.iter().all(|other| (scale.at(*other) - scale.at(ratio)).abs() >= ROOM) {
            kept.push(ratio);
        }
    }
    kept.into_iter().map(|ratio| (ratio, tick(ratio))).collect()
}

fn tick(ratio: f64) -> String {
    let percent = ((ratio - 1.0) * 1e6).round() / 1e4;
    match () {
        () if ratio >= 3.0 => format!("{}×", tick_label(ratio)),
        () if ratio <= 0.2 => format!("1/{}×", tick_label((1.0 / ratio).round())),
        () if percent == 0.0 => "no change".to_owned(),
        () if percent < 0.0 => format!("−{} %", tick_label(-percent)),
        () => format!("+{} %", tick_label(percent)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(ratio: Option<f64>, interval: Option<[f64; 2]>) -> ForestItem {
        ForestItem::Row(ForestRow {
            label: "tpot_ms".to_owned(),
            below: "lower is better".to_owned(),
            ratio,
            interval,
            margin: Some([1.0 / 1.01, 1.01]),
            noise: None,
            text: String::new(),
            verdict: "faster".to_owned(),
            tone: Tone::Good,
            title: "T".to_owned(),
        })
    }

    fn draw(items: &[ForestItem]) -> Chart {
        forest(Chart::new("effects", "Effects", ""), items, "nothing")
    }

    /// Centre of the first diamond.
    fn mark(svg: &str) -> f64 {
        let path = svg.lines().find(|line| line.contains("good mark-edge")).unwrap();
        path.split("d=\"M").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap()
    }

    #[test]
    fn half_and_double_are_equally_far_from_no_change() {
        let half = draw(&[row(Some(0.5), Some([0.4, 0.6])), row(Some(2.5), None)]).svg.unwrap();
        let double = draw(&[row(Some(2.0), None), row(Some(2.5), None)]).svg.unwrap();
        let middle = f64::midpoint(LEFT, RIGHT);
        assert!((middle - mark(&half) - (mark(&double) - middle)).abs() < 0.02, "{half}");
        assert!(mark(&half) < middle);
    }

    #[test]
    fn what_has_no_place_on_the_axis_is_said_and_not_drawn() {
        for item in [row(None, None), row(Some(f64::NAN), Some([f64::NAN, 1.0])), row(Some(-1.0), None)] {
            assert!(draw(std::slice::from_ref(&item)).empty.is_some());
            let svg = draw(&[item, row(Some(1.1), None)]).svg.unwrap();
            assert!(svg.contains("no ratio to draw") && !svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
        let far = draw(&[row(Some(1e300), Some([-3.0, 1e308]))]).svg.unwrap();
        assert!(far.contains("outside the picture") && !far.contains("NaN") && !far.contains("inf"), "{far}");
    }

    #[test]
    fn ticks_are_round_changes() {
        let labels = |low: f64, high: f64| -> Vec<String> {
            let mut ticks = ticks(&Scale::log([low, high], [LEFT, RIGHT]), [low, high]);
            ticks.sort_by(|a, b| a.0.total_cmp(&b.0));
            ticks.into_iter().map(|tick| tick.1).collect()
        };
        assert_eq!(labels(0.94, 1.06), ["−4 %", "−2 %", "no change", "+2 %", "+4 %"]);
        assert_eq!(labels(0.1, 10.0), ["1/8×", "−75 %", "−50 %", "no change", "+100 %", "4×", "8×"]);
    }
}
