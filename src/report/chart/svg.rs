//! Just enough SVG: elements with classes, linear and logarithmic axes, ticks at round numbers.

use std::fmt::Write as _;

use crate::report::escape;

/// An SVG drawing under construction. Coordinates that are not finite draw nothing.
#[derive(Debug, Clone)]
pub(super) struct Svg {
    width: f64,
    height: f64,
    body: String,
}

/// Where a text is anchored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

impl Svg {
    pub(super) fn new(width: f64, height: f64) -> Self {
        Self { width, height, body: String::new() }
    }
    /// A rectangle with an optional tooltip.
    pub(super) fn rect(&mut self, [x, y, w, h]: [f64; 4], class: &str, title: Option<&str>) {
        if [x, y, w, h].iter().all(|value| value.is_finite()) && w >= 0.0 && h >= 0.0 {
            let attributes = format!("x=\"{x:.2}\" y=\"{y:.2}\" width=\"{w:.2}\" height=\"{h:.2}\"");
            self.element("rect", class, &attributes, title);
        }
    }
    /// A straight line.
    pub(super) fn line(&mut self, [x1, y1, x2, y2]: [f64; 4], class: &str, title: Option<&str>) {
        if [x1, y1, x2, y2].iter().all(|value| value.is_finite()) {
            let attributes = format!("x1=\"{x1:.2}\" y1=\"{y1:.2}\" x2=\"{x2:.2}\" y2=\"{y2:.2}\"");
            self.element("line", class, &attributes, title);
        }
    }
    /// A path; `data` is written by this module's callers from numbers only.
    pub(super) fn path(&mut self, data: &str, class: &str, title: Option<&str>) {
        if !data.is_empty() {
            self.element("path", class, &format!("d=\"{data}\""), title);
        }
    }
    /// A circle with an optional tooltip.
    pub(super) fn circle(&mut self, [x, y, r]: [f64; 3], class: &str, title: Option<&str>) {
        if [x, y, r].iter().all(|value| value.is_finite()) {
            self.element("circle", class, &format!("cx=\"{x:.2}\" cy=\"{y:.2}\" r=\"{r:.2}\""), title);
        }
    }
    /// A diamond with an optional tooltip.
    pub(super) fn diamond(&mut self, [x, y, r]: [f64; 3], class: &str, title: Option<&str>) {
        if [x, y, r].iter().all(|value| value.is_finite()) {
            let data = format!("M{x:.2} {:.2}L{:.2} {y:.2}L{x:.2} {:.2}L{:.2} {y:.2}Z", y - r, x + r, y + r, x - r);
            self.path(&data, class, title);
        }
    }
    /// One line of text; foreign text is escaped here.
    pub(super) fn text(&mut self, [x, y]: [f64; 2], anchor: Anchor, class: &str, text: &str) {
        self.text_with_title([x, y], anchor, class, text, None);
    }
    /// [`Self::text`] with the whole of a cut text as tooltip.
    pub(super) fn text_with_title(
        &mut self,
        [x, y]: [f64; 2],
        anchor: Anchor,
        class: &str,
        text: &str,
        title: Option<&str>,
    ) {
        if !(x.is_finite() && y.is_finite()) {
            return;
        }
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let title = title.map_or_else(String::new, |title| format!("<title>{}</title>", escape::html(title)));
        let _ = writeln!(
            self.body,
            "<text x=\"{x:.2}\" y=\"{y:.2}\" text-anchor=\"{anchor}\" class=\"{class}\">{title}{}</text>",
            escape::html(text)
        );
    }
    /// Markup made by this module's callers.
    pub(super) fn raw(&mut self, markup: &str) {
        self.body.push_str(markup);
    }
    fn element(&mut self, name: &str, class: &str, attributes: &str, title: Option<&str>) {
        let _ = match title {
            Some(title) => {
                writeln!(
                    self.body,
                    "<{name} class=\"{class}\" {attributes}><title>{}</title></{name}>",
                    escape::html(title)
                )
            }
            None => writeln!(self.body, "<{name} class=\"{class}\" {attributes}/>"),
        };
    }
    /// The element, with what it shows in words for those who cannot see it.
    pub(super) fn finish(self, chart: &str, label: &str) -> String {
        format!(
            "<svg data-chart=\"{}\" role=\"img\" aria-label=\"{}\" viewBox=\"0 0 {:.0} {:.0}\">\n{}</svg>",
            escape::html(chart),
            escape::html(label),
            self.width,
            self.height,
            self.body
        )
    }
}

/// Maps values to coordinates.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    log: bool,
}

impl Scale {
    /// Linear from `[low, high]` to `[from, to]`; an empty range is widened so that one value sits in the middle.
    pub(super) fn linear([low, high]: [f64; 2], [from, to]: [f64; 2]) -> Self {
        let (low, high) = if high > low {
            (low, high)
        } else {
            let half = if low == 0.0 { 1.0 } else { low.abs() * 0.1 };
            (low - half, low + half)
        };
        Self { low, high, from, to, log: false }
    }
    /// Logarithmic; both bounds are positive, or the scale maps everything to NaN.
    pub(super) fn log([low, high]: [f64; 2], [from, to]: [f64; 2]) -> Self {
        Self { low: low.log10(), high: high.log10(), from, to, log: true }
    }
    pub(super) fn at(&self, value: f64) -> f64 {
        let value = if self.log { value.log10() } else { value };
        self.from + (value - self.low) / (self.high - self.low) * (self.to - self.from)
    }
    /// Decimal logarithm of the value at a coordinate of a logarithmic scale.
    pub(super) fn value_log10(&self, at: f64) -> f64 {
        self.low + (at - self.from) / (self.to - self.from) * (self.high - self.low)
    }
    /// Round values inside the range: multiples of 1, 2 or 5, or powers of ten.
    pub(super) fn ticks(&self, wanted: usize) -> Vec<f64> {
        if self.log {
            let (first, last) = (self.low.ceil() as i32, self.high.floor() as i32);
            let step = ((last - first).max(1) as usize).div_ceil(wanted.max(1)).max(1);
            return (first..=last).step_by(step).map(|power| 10.0_f64.powi(power)).collect();
        }
        let rough = (self.high - self.low) / wanted.max(1) as f64;
        if !(rough.is_finite() && rough > 0.0) {
            return Vec::new();
        }
        let power = 10.0_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power).find(|step| *step >= rough);
        let step = step.unwrap_or(10.0 * power);
        let first = (self.low / step).ceil() as i64;
        let last = (self.high / step + 1e-9).floor() as i64;
        (first..=last).map(|number| number as f64 * step).collect()
    }
}

/// A tick in the fewest digits.
pub(super) fn tick_label(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude >= 1e15 || (magnitude > 0.0 && magnitude < 1e-4) {
        return format!("{value:.0e}");
    }
    // Rounded first: 3 × 0.1 is not 0.3 in binary.
    let rounded = (value * 1e9).round() / 1e9;
    format!("{rounded}")
}

/// Smallest and largest finite value.
pub(super) fn extent(values: impl Iterator<Item = f64>) -> Option<[f64; 2]> {
    values.filter(|value| value.is_finite()).fold(None, |extent: Option<[f64; 2]>, value| match extent {
        None => Some([value, value]),
        Some([low, high]) => Some([low.min(value), high.max(value)]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        let labels = |scale: Scale| scale.ticks(5).into_iter().map(tick_label).collect::<Vec<_>>();
        assert_eq!(labels(Scale::linear([0.0, 10.0], [0.0, 1.0])), ["0", "2", "4", "6", "8", "10"]);
        assert_eq!(labels(Scale::linear([0.13, 0.41], [0.0, 1.0])), ["0.2", "0.3", "0.4"]);
        assert_eq!(labels(Scale::log([0.5, 2e3], [0.0, 1.0])), ["1", "10", "100", "1000"]);
    }

    #[test]
    fn one_value_sits_in_the_middle() {
        assert_eq!(Scale::linear([7.0, 7.0], [0.0, 100.0]).at(7.0), 50.0);
        assert_eq!(Scale::linear([0.0, 0.0], [0.0, 100.0]).at(0.0), 50.0);
    }

    #[test]
    fn what_is_not_finite_draws_nothing() {
        let mut svg = Svg::new(10.0, 10.0);
        svg.rect([f64::NAN, 0.0, 1.0, 1.0], "a", None);
        svg.line([0.0, 0.0, f64::INFINITY, 1.0], "a", None);
        svg.circle([0.0, f64::NAN, 1.0], "a", None);
        svg.text([f64::NAN, 0.0], Anchor::Start, "a", "x");
        assert!(svg.body.is_empty());
        assert_eq!(extent([f64::NAN, 2.0, 1.0].into_iter()), Some([1.0, 2.0]));
        assert_eq!(extent([f64::NAN].into_iter()), None);
    }
}
