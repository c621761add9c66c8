//! Flame graph: the call tree as nested bars, callers above what they call.

use std::fmt::Write as _;

use super::Chart;
use super::svg::{Anchor, Svg};
use crate::analysis::flame::FlameNode;
use crate::report::analyze::format::{duration, duration_sum};
use crate::report::escape;
use crate::report::number::percent;

const WIDTH: f64 = 1112.0;
const ROW: f64 = 18.0;
/// Narrower frames cannot be seen.
const NARROWEST: f64 = 0.6;
/// Rows drawn at most.
const DEEPEST: usize = 48;
/// Frames drawn at most: the page must stay small.
const FRAMES: usize = 6000;

/// A frame to be placed.
struct Open<'a> {
    node: &'a FlameNode,
    x: f64,
    depth: usize,
}

/// The flame graph of the tree below `root`.
pub(in crate::report) fn flame(root: Option<&FlameNode>) -> Chart {
    let mut chart = Chart::new(
        "flame",
        "Flame graph of GPU time",
        "Each bar is a range or a kernel, as wide as the summed time of the kernels launched inside it; what it stands under called it. \
         Click a bar to give it the whole width.",
    );
    let Some(root) = root else {
        return chart.nothing("No flame graph was computed.");
    };
    if root.total_ns <= 0 {
        return chart.nothing("No kernel time to draw: the trace has no kernels.");
    }
    let whole = root.total_ns as f64;
    let mut frames = String::new();
    let (mut drawn, mut rows, mut narrow, mut narrow_ns) = (0_usize, 0_usize, 0_u64, 0_i64);
    // A stack of our own: a hostile trace nests deeper than ours may grow.
    let mut open = vec![Open { node: root, x: 0.0, depth: 0 }];
    while let Some(Open { node, x, depth }) = open.pop() {
        let width = node.total_ns.max(0) as f64 / whole * WIDTH;
        if width < NARROWEST || depth >= DEEPEST || drawn >= FRAMES {
            narrow += 1;
            narrow_ns = narrow_ns.saturating_add(node.total_ns.max(0));
            continue;
        }
        drawn += 1;
        rows = rows.max(depth + 1);
        frame(&mut frames, node, [x, depth as f64 * ROW, width.min(WIDTH - x)], depth, whole);
        let mut at = x;
        let first = open.len();
        for child in &node.children {
            open.push(Open { node: child, x: at, depth: depth + 1 });
            at += child.total_ns.max(0) as f64 / whole * WIDTH;
        }
        open[first..].reverse();
    }
    let mut svg = Svg::new(WIDTH, rows as f64 * ROW + 4.0);
    svg.raw(&format!("<g data-left=\"0\" data-wide=\"{WIDTH:.0}\"></g>\n"));
    svg.raw(&frames);
    if drawn == 0 {
        svg.text([WIDTH / 2.0, 12.0], Anchor::Middle, "label", "nothing wide enough to draw");
    }
    if narrow > 0 {
        chart.note = Some(format!(
            "{narrow} frames of {} in all ({} of the whole) are too narrow or too deep to draw, with what is in them.",
            duration(narrow_ns as f64),
            percent(narrow_ns as f64 / whole)
        ));
    }
    let label = format!("Flame graph of {}: {drawn} frames, {rows} deep", duration_sum(whole));
    chart.svg = Some(svg.finish("flame", &label));
    chart
}

fn frame(out: &mut String, node: &FlameNode, [x, y, width]: [f64; 3], depth: usize, whole: f64) {
    let name = escape::cut(&escape::one_line(&node.name), 300);
    let mut title = format!("{name}: {} ({})", duration(node.total_ns as f64), percent(node.total_ns as f64 / whole));
    if node.self_ns != node.total_ns {
        title.push_str(&format!(", {} directly here", duration(node.self_ns as f64)));
    }
    let most = ((width - 8.0) / 7.2).floor();
    let text = if most < 3.0 { String::new() } else { escape::cut(&name, most as usize) };
    let name = escape::html(&name);
    let _ = writeln!(
        out,
        "<g class=\"frame\" data-x=\"{x:.3}\" data-w=\"{width:.3}\" data-depth=\"{depth}\" data-name=\"{name}\"><rect class=\"{}\" x=\"{x:.2}\" \
         y=\"{y:.1}\" width=\"{width:.2}\" height=\"{:.1}\"><title>{}</title></rect><text class=\"f-light\" x=\"{:.2}\" y=\"{:.1}\">{}</text></g>",
        color(&node.name, depth),
        ROW - 1.0,
        escape::html(&title),
        x + 4.0,
        y + 12.5,
        escape::html(&text)
    );
}

/// One colour for a name, the same wherever it stands; grey for what is no name.
fn color(name: &str, depth: usize) -> &'static str {
    // Colours on which the style sheet's dark text has the contrast of WCAG AA.
    const COLORS: [&str; 6] = ["k1", "k2", "k3", "k4", "k5", "k6"];
    if depth == 0 || name.starts_with('(') {
        return "k10";
    }
    // FNV-1a: stable from run to run.
    let hash = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    COLORS[(hash >> 32) as usize % COLORS.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, self_ns: i64, children: Vec<FlameNode>) -> FlameNode {
        let total_ns = self_ns + children.iter().map(|child| child.total_ns).sum::<i64>();
        FlameNode { name: name.to_owned(), total_ns, self_ns, children }
    }

    #[test]
    fn children_share_the_width_of_their_parent() {
        let tree =
            node("all", 0, vec![node("decode", 30, vec![node("gemv", 45, vec![])]), node("prefill", 25, vec![])]);
        let svg = flame(Some(&tree)).svg.unwrap();
        assert!(svg.contains("data-x=\"0.000\" data-w=\"1112.000\" data-depth=\"0\" data-name=\"all\""), "{svg}");
        assert!(svg.contains("data-x=\"0.000\" data-w=\"834.000\" data-depth=\"1\" data-name=\"decode\""), "{svg}");
        assert!(svg.contains("data-x=\"0.000\" data-w=\"500.400\" data-depth=\"2\" data-name=\"gemv\""), "{svg}");
        assert!(svg.contains("data-x=\"834.000\" data-w=\"278.000\" data-depth=\"1\" data-name=\"prefill\""), "{svg}");
        assert!(svg.contains("decode: 75 ns (75.0 %), 30 ns directly here"), "{svg}");
    }

    #[test]
    fn what_is_too_narrow_is_counted_and_timed() {
        let tree = node("all", 1_000_000, (0..10).map(|_| node("tiny", 1, vec![])).collect());
        let chart = flame(Some(&tree));
        assert!(!chart.svg.unwrap().contains("tiny"));
        assert_eq!(
            chart.note.unwrap(),
            "10 frames of 10 ns in all (< 0.01 % of the whole) are too narrow or too deep to draw, with what is in them."
        );
    }

    #[test]
    fn no_depth_overflows_the_stack_and_no_width_the_page() {
        let mut deep = node("leaf", 1, vec![]);
        for _ in 0..2_000 {
            deep = node("level", 0, vec![deep]);
        }
        assert_eq!(flame(Some(&deep)).svg.unwrap().matches("<g class=\"frame\"").count(), DEEPEST);
        let wide = node("all", 0, (0..300_000).map(|at| node(&format!("n{at}"), 1, vec![])).collect());
        assert!(flame(Some(&wide)).svg.unwrap().len() < 4_000);
    }

    #[test]
    fn nothing_to_draw_gives_a_message() {
        assert!(flame(None).empty.is_some());
        assert!(flame(Some(&node("all", 0, vec![]))).empty.is_some());
    }

    #[test]
    fn names_are_text() {
        let svg = flame(Some(&node("</title><script>\"'\0\u{202e}", 5, vec![]))).svg.unwrap();
        assert!(!svg.contains("<script>") && !svg.contains('\0') && !svg.contains('\u{202e}'), "{svg}");
    }
}
