//! Operator breakdown of one phase: a stacked bar by class, and sorted bars by module with the time the roofline allows.

use super::svg::{Anchor, Scale, Svg, tick_label};
use super::{Chart, class_color};
use crate::record::metrics::Stage1Metrics;
use crate::report::number::{digits, percent};
use crate::report::{escape, operators};

const WIDTH: f64 = 960.0;
const LEFT: f64 = 190.0;
const RIGHT: f64 = 760.0;
/// Modules drawn; the rest are one bar.
const MODULES: usize = 14;

/// The chart of `phase`.
pub(in crate::report) fn breakdown(metrics: &Stage1Metrics, phase: &str) -> Chart {
    let id = format!(
        "breakdown-{}",
        escape::cut(&escape::one_line(phase), 40).replace(|c: char| !c.is_ascii_alphanumeric(), "-")
    );
    let mut chart = Chart::new(
        &id,
        &format!("Operators of {}", escape::cut(&escape::one_line(phase), 40)),
        "The top bar is the operator time of the phase by class; below, each module summed over layers: the solid part is the time \
         its roofline allows, the pale part is what is lost against it.",
    );
    let modules = operators::modules(metrics, phase);
    let classes = operators::classes(metrics, phase);
    let whole: u64 = modules.iter().map(|row| row.total_ns).sum();
    if whole == 0 {
        return chart.nothing("No operator time was recorded for this phase.");
    }
    let whole = whole as f64;
    let shown = &modules[..modules.len().min(MODULES)];
    let rest = &modules[shown.len()..];
    let bars = shown.len() + usize::from(!rest.is_empty());
    let height = 92.0 + 26.0 * bars as f64 + 40.0;
    let mut svg = Svg::new(WIDTH, height);

    let stack = Scale::linear([0.0, whole], [LEFT, 940.0]);
    svg.text([LEFT - 10.0, 35.0], Anchor::End, "label", "all, by class");
    let mut from = 0.0;
    for class in &classes {
        let to = from + class.total_ns as f64;
        let (x, width) = (stack.at(from), stack.at(to) - stack.at(from));
        let share = class.total_ns as f64 / whole;
        let name = escape::cut(&escape::one_line(&class.label), 40);
        let title = format!(
            "{name}: {} of the phase, {} ms in {} calls",
            percent(share),
            digits(class.total_ns as f64 / 1e6),
            class.calls
        );
        let color = class_color(&class.label);
        svg.rect([x, 14.0, width, 34.0], &format!("{color} parted"), Some(&title));
        let label = format!("{} {}", escape::cut(&name, 14), percent(share));
        // 7.2 units for each character of a 12-unit label keep it inside its block.
        if width > 7.2 * label.chars().count() as f64 {
            svg.text([x + width / 2.0, 35.0], Anchor::Middle, &format!("on-{color}"), &label);
        } else if width > 40.0 {
            svg.text([x + width / 2.0, 35.0], Anchor::Middle, &format!("on-{color}"), &percent(share));
        }
        chart.legend.push((color.to_owned(), format!("{name} {}", percent(share))));
        from = to;
    }

    let rest_ns: u64 = rest.iter().map(|row| row.total_ns).sum();
    let longest = shown.iter().map(|row| row.total_ns).chain([rest_ns]).max().unwrap_or(0) as f64;
    let x = Scale::linear([0.0, longest / whole * 100.0], [LEFT, RIGHT]);
    let bottom = 76.0 + 26.0 * bars as f64;
    for tick in x.ticks(6) {
        svg.line([x.at(tick), 66.0, x.at(tick), bottom], "grid", None);
        svg.text([x.at(tick), bottom + 18.0], Anchor::Middle, "tick", &tick_label(tick));
    }
    svg.text([RIGHT, bottom + 34.0], Anchor::End, "axis", "% of the operator time of the phase");
    for (number, row) in shown.iter().enumerate() {
        let top = 72.0 + 26.0 * number as f64;
        let share = row.total_ns as f64 / whole;
        let width = x.at(share * 100.0) - LEFT;
        let color = class_color(&row.class);
        let name = escape::one_line(&row.name);
        let allowed =
            row.roofline_ns.filter(|ns| ns.is_finite()).map(|ns| (ns / (row.total_ns.max(1) as f64)).clamp(0.0, 1.0));
        let title = format!(
            "{} ({}): {} ms in {} calls, median {} µs{}",
            escape::cut(&name, 200),
            escape::cut(&escape::one_line(&row.class), 40),
            digits(row.total_ns as f64 / 1e6),
            row.calls,
            digits(row.p50_ns / 1e3),
            row.roofline_ns.map_or_else(
                || "; roofline unknown".to_owned(),
                |ns| format!("; roofline {} ms, {} bound", digits(ns / 1e6), row.bound.as_deref().unwrap_or("unknown"))
            )
        );
        svg.text_with_title([LEFT - 10.0, top + 15.0], Anchor::End, "label", &escape::cut(&name, 24), Some(&name));
        match allowed {
            Some(part) => {
                svg.rect([LEFT, top, width, 20.0], &format!("{color} pale"), Some(&title));
                svg.rect([LEFT, top, width * part, 20.0], color, Some(&title));
            }
            None => svg.rect([LEFT, top, width, 20.0], color, Some(&title)),
        }
        let lost = row.lost_ns.filter(|_| row.total_ns > 0).map(|ns| ns / row.total_ns as f64);
        let text = format!(
            "{} · {} ms{}",
            percent(share),
            digits(row.total_ns as f64 / 1e6),
            lost.filter(|lost| *lost > 0.0).map_or_else(String::new, |lost| format!(" · {} lost", percent(lost)))
        );
        svg.text([LEFT + width + 8.0, top + 15.0], Anchor::Start, "value", &text);
    }
    if !rest.is_empty() {
        let top = 72.0 + 26.0 * shown.len() as f64;
        let share = rest_ns as f64 / whole;
        svg.text([LEFT - 10.0, top + 15.0], Anchor::End, "label", &format!("{} others", rest.len()));
        svg.rect([LEFT, top, x.at(share * 100.0) - LEFT, 20.0], "k10", Some("all other modules"));
        let text = format!("{} · {} ms", percent(share), digits(rest_ns as f64 / 1e6));
        svg.text([x.at(share * 100.0) + 8.0, top + 15.0], Anchor::Start, "value", &text);
        chart.note = Some(format!(
            "The {MODULES} costliest of {} modules are drawn one by one; operators.md has all.",
            modules.len()
        ));
    }
    let label = format!("{} modules in {} classes", modules.len(), classes.len());
    chart.svg = Some(svg.finish(&id, &label));
    chart
}
