//! Charts as inline SVG, drawn here so that a report needs no script and no network to show them.
//!
//! Colours are classes of the page's style sheet, so that a chart follows light, dark and print. Every chart survives empty data,
//! one point, values that are unknown or not finite (gaps), and more points than pixels (thinned, and it says so).

mod breakdown;
mod colors;
mod curve;
mod flame;
mod forest;
mod gap_map;
mod gpu;
mod heat_map;
mod histogram;
mod itl;
mod memory;
mod over_time;
mod repeats;
mod request_lanes;
mod roofline;
mod scatter;
mod spread;
pub(super) mod stack;
mod step_times;
mod svg;
mod timeline;
mod waterfall;

use serde::Serialize;

pub(super) use breakdown::breakdown;
pub(super) use colors::{bar_color, cause_color, kernel_color};
pub(super) use curve::{Curve, CurvePoint, KneeMark, curves};
pub(super) use flame::flame;
pub(super) use forest::{ForestItem, ForestRow, Tone, forest};
pub(super) use gap_map::{GapMap, gap_map};
pub(super) use gpu::{gpu, repeat_name};
#[cfg(test)]
pub(super) use heat_map::STEPS;
pub(super) use heat_map::{Grid, GridCell, heat_map};
pub(super) use histogram::{Bin, histogram};
pub(super) use itl::itl;
pub(super) use memory::memory;
pub(super) use over_time::{Span, Strip, over_time};
pub(super) use repeats::repeats;
pub(super) use request_lanes::{Lane, LaneTone, request_lanes};
pub(super) use roofline::{Point as RooflinePoint, roofline, under as under_roofline};
pub(super) use scatter::{ScatterAxis, ScatterPoint, scatter};
pub(super) use spread::{Series, boxes, ecdf, in_order};
pub(super) use step_times::{Point as StepPoint, step_times};
pub(super) use timeline::timeline;
pub(super) use waterfall::{Step as WaterfallStep, waterfall};

/// A chart with the words around it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Chart {
    /// Id of the section and value of `data-chart`.
    pub id: String,
    /// Heading.
    pub title: String,
    /// One sentence on how to read it.
    pub reading: String,
    /// The SVG element; none where there is nothing to draw.
    pub svg: Option<String>,
    /// Why there is nothing to draw.
    pub empty: Option<String>,
    /// What was left out or thinned.
    pub note: Option<String>,
    /// Class and label of each key of the legend.
    pub legend: Vec<(String, String)>,
    /// True where the page's script adds zooming.
    pub zoom: bool,
}

impl Chart {
    pub(super) fn new(id: &str, title: &str, reading: &str) -> Self {
        Self {
            id: id.to_owned(),
            title: title.to_owned(),
            reading: reading.to_owned(),
            svg: None,
            empty: None,
            note: None,
            legend: Vec::new(),
            zoom: false,
        }
    }
    pub(super) fn nothing(mut self, why: &str) -> Self {
        self.empty = Some(why.to_owned());
        self
    }
}

/// Colour class of an operator class: one hue each, the same in every chart.
pub(super) fn class_color(class: &str) -> &'static str {
    match class {
        "linear" => "k0",
        "attention" => "k1",
        "norm" => "k2",
        "activation" => "k3",
        "rope" => "k4",
        "kv_write" => "k5",
        "elementwise" => "k6",
        "embedding" => "k7",
        "sampling" => "k8",
        "routing" => "k9",
        _ => "k10",
    }
}

/// Keeps the smallest and the largest value of each bucket, so that spikes survive; gaps (`NaN`) survive too.
///
/// Returns the kept (index, value) pairs in order; everything if there are at most `limit` values.
pub(super) fn thin(values: &[f64], limit: usize) -> Vec<(usize, f64)> {
    if values.len() <= limit {
        return values.iter().copied().enumerate().collect();
    }
    let bucket = values.len().div_ceil((limit / 2).max(1));
    let mut kept = Vec::with_capacity(limit);
    for (number, chunk) in values.chunks(bucket).enumerate() {
        let base = number * bucket;
        let finite = || chunk.iter().copied().enumerate().filter(|(_, value)| value.is_finite());
        let low = finite().min_by(|a, b| a.1.total_cmp(&b.1));
        let high = finite().max_by(|a, b| a.1.total_cmp(&b.1));
        match (low, high) {
            (Some(low), Some(high)) => {
                let (first, second) = if low.0 <= high.0 { (low, high) } else { (high, low) };
                kept.push((base + first.0, first.1));
                if second.0 != first.0 {
                    kept.push((base + second.0, second.1));
                }
            }
            _ => kept.push((base, f64::NAN)),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_million_points_are_thinned_and_the_spike_stays() {
        let mut values = vec![1.0; 1_000_000];
        values[777_777] = 50.0;
        let kept = thin(&values, 1500);
        assert!(kept.len() <= 1500);
        assert!(kept.contains(&(777_777, 50.0)));
    }

    proptest! {
        #[test]
        fn thinning_keeps_order_extremes_and_values(values in proptest::collection::vec(-1e6f64..1e6, 0..400), limit in 4usize..50) {
            let kept = thin(&values, limit);
            prop_assert!(kept.windows(2).all(|pair| pair[0].0 < pair[1].0));
            prop_assert!(kept.iter().all(|(at, value)| values[*at] == *value));
            prop_assert!(kept.len() <= limit.max(values.len().min(limit)) + 1);
            let max = |all: &mut dyn Iterator<Item = f64>| all.fold(f64::NEG_INFINITY, f64::max);
            prop_assert_eq!(max(&mut kept.iter().map(|kept| kept.1)), max(&mut values.iter().copied()));
        }
    }
}
