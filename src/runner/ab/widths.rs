//! How wide the intervals of a study are so far: all that the rule for its end may know.

use std::collections::{BTreeMap, BTreeSet};

use crate::record::ab::{AbPart, AbRow};
use crate::record::rows::{RepeatRow, RowStatus};
use crate::stats::bootstrap::Statistic;
use crate::stats::ratio::{Design, Groups, ratio_interval};

/// Resamples of an interval that only its width is asked of.
const RESAMPLES: u32 = 2_000;
/// The measures whose intervals decide when a study has measured enough.
pub const DECISIVE: [&str; 3] = ["ttft_ms", "tpot_ms", "total_ms"];

fn value(row: &RepeatRow, measure: &str) -> Option<f64> {
    match measure {
        "ttft_ms" => row.ttft_ms,
        "tpot_ms" => row.tpot_ms,
        _ => row.total_ms,
    }
}

/// Blocks in which every one of `variants` variants has a repeat that counts, and nothing failed or was cut short.
pub fn whole_blocks(rows: &[AbRow], part: AbPart, variants: usize) -> BTreeSet<u32> {
    let mut seen: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    let mut broken = BTreeSet::new();
    for row in rows.iter().filter(|row| row.part == part) {
        if row.status != RowStatus::Ok {
            broken.insert(row.block);
        } else if counts(row) {
            seen.entry(row.block).or_default().insert(row.variant);
        }
    }
    seen.retain(|block, of| of.len() == variants && !broken.contains(block));
    seen.into_keys().collect()
}

/// Whether a row enters the headline measures.
pub fn counts(row: &AbRow) -> bool {
    row.status == RowStatus::Ok && !row.dropped_as_warmup && row.row.as_ref().is_some_and(|row| !row.spans)
}

/// Half width of the 95 % interval of each decisive ratio: every candidate against the baseline, every case, every measure of [`DECISIVE`].
///
/// A measure that no row has (TPOT of a single token) is none of them; one that lacks an interval is `None`.
pub fn half_widths(rows: &[AbRow], variants: usize, seed: u64) -> Vec<Option<f64>> {
    let blocks = whole_blocks(rows, AbPart::Study, variants);
    let mut values: BTreeMap<(&str, &str, u32), BTreeMap<u32, Vec<f64>>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.part == AbPart::Study && counts(row) && blocks.contains(&row.block)) {
        let Some(repeat) = &row.row else { continue };
        for measure in DECISIVE {
            if let Some(value) = value(repeat, measure) {
                let key = (repeat.case.as_str(), measure, row.variant);
                values.entry(key).or_default().entry(row.block).or_default().push(value);
            }
        }
    }
    let mut widths = Vec::new();
    for ((case, measure, _), baseline) in values.iter().filter(|((_, _, variant), _)| *variant == 0) {
        for candidate in 1..variants as u32 {
            let width = values.get(&(case, measure, candidate)).and_then(|candidate| {
                let shared: Vec<u32> = baseline.keys().filter(|block| candidate.contains_key(block)).copied().collect();
                let groups = |side: &BTreeMap<u32, Vec<f64>>| {
                    Groups(shared.iter().filter_map(|block| side.get(block).cloned()).collect())
                };
                let (candidate, baseline) = (groups(candidate), groups(baseline));
                let estimate =
                    ratio_interval(&candidate, &baseline, Statistic::Median, Design::Blocked, 0.95, RESAMPLES, seed)?;
                Some((estimate.interval[1] - estimate.interval[0]) / 2.0)
            });
            widths.push(width.filter(|width| width.is_finite()));
        }
    }
    widths
}
