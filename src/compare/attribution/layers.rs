//! Layers that stand out: where most of a row's change lies in one layer, that layer gets a row of its own.

use rustc_hash::FxHashMap;

use super::amounts::PhaseAmounts;
use super::matching::Matching;
use super::profile::Profile;

/// Layers a row must run in on both sides before one of them can stand out.
const LEAST_LAYERS: usize = 6;
/// Share of Σ |change of a layer| that one layer must have.
const LEAST_PART: f64 = 0.5;
/// Rows looked at have at least this share of the change of their phase.
const LEAST_SHARE: f64 = 0.05;

/// A layer to part from its row: number of the matching, row, layer.
pub(super) type Split = (usize, usize, u32);

/// The layers that stand out. `matching_of` has the number of the matching of each phase of each side.
pub(super) fn stand_out(
    sides: [&Profile<'_>; 2],
    matchings: &[Matching],
    matching_of: &[Vec<usize>; 2],
    amounts: &[Vec<PhaseAmounts>; 2],
) -> Vec<Split> {
    let mut means: Vec<[Option<&PhaseAmounts>; 2]> = vec![[None; 2]; matchings.len()];
    for side in [0, 1] {
        for (phase, matching) in matching_of[side].iter().enumerate() {
            means[*matching][side] = Some(&amounts[side][phase]);
        }
    }
    let mut wanted: Vec<Vec<bool>> = matchings.iter().map(|matching| vec![false; matching.rows.len()]).collect();
    let mut any = false;
    for (number, pair) in means.iter().enumerate() {
        let [Some(a), Some(b)] = pair else { continue };
        if a.units == 0 || b.units == 0 {
            continue;
        }
        let mean = |phase: &PhaseAmounts, row: usize| phase.rows[row].ns() as f64 / phase.units as f64;
        let deltas: Vec<f64> = (0..matchings[number].rows.len()).map(|row| mean(b, row) - mean(a, row)).collect();
        let all: f64 = deltas.iter().map(|delta| delta.abs()).sum();
        for (row, delta) in deltas.iter().enumerate() {
            let both = matchings[number].rows[row].halves.iter().all(|half| !half.is_empty());
            if both && *delta != 0.0 && delta.abs() >= LEAST_SHARE * all {
                wanted[number][row] = true;
                any = true;
            }
        }
    }
    if !any || sides.iter().any(|side| !side.has_layers()) {
        return Vec::new();
    }
    // By matching, row and layer: time on both sides; `None` collects what lies in no layer.
    let mut sums: FxHashMap<(usize, usize, Option<u32>), [u64; 2]> = FxHashMap::default();
    for side in [0, 1] {
        for piece in &sides[side].pieces {
            let number = matching_of[side][usize::from(sides[side].units[piece.unit as usize].phase)];
            let row = matchings[number].row(side, sides[side], *piece);
            if wanted[number][row] {
                let sum = &mut sums.entry((number, row, sides[side].layer(piece.op))).or_default()[side];
                *sum = sum.saturating_add(piece.ns);
            }
        }
    }
    #[expect(clippy::type_complexity, reason = "a map of one function")]
    let mut by_row: FxHashMap<(usize, usize), Vec<(Option<u32>, f64)>> = FxHashMap::default();
    for ((number, row, layer), [a, b]) in sums {
        let [Some(before), Some(after)] = means[number] else { continue };
        let delta = b as f64 / after.units as f64 - a as f64 / before.units as f64;
        by_row.entry((number, row)).or_default().push((layer, delta));
    }
    let mut splits: Vec<Split> = by_row
        .into_iter()
        .filter_map(|((number, row), mut layers)| {
            layers.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()).then(a.0.cmp(&b.0)));
            let all: f64 = layers.iter().map(|(_, delta)| delta.abs()).sum();
            let (first, largest) = *layers.first()?;
            let stands_out = layers.len() >= LEAST_LAYERS && largest.abs() >= LEAST_PART * all;
            Some((number, row, first.filter(|_| stands_out)?))
        })
        .collect();
    splits.sort_unstable();
    splits
}
