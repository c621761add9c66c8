//! Which operation of one step stands for which of the other: the cheapest alignment of the two sequences (Wagner & Fischer, JACM 21, 1974).

/// An operation as the alignment sees it; numbers mean the same on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Token {
    /// Module, class and name together.
    pub(super) role: u32,
    /// Module, or [`UNKNOWN`].
    pub(super) module: u32,
    /// Set of modules that are one where they are fused, or [`UNKNOWN`].
    pub(super) family: u32,
    /// Class.
    pub(super) class: u32,
    /// Normal name.
    pub(super) name: u32,
    /// Grid; 0 where unknown.
    pub(super) shape: u64,
}

/// No module.
pub(super) const UNKNOWN: u32 = u32::MAX;
/// Cells of the table at most, one byte each: what is longer is not aligned.
const MAX_CELLS: usize = 1 << 24;
/// Cost of an operation that only one side has.
const GAP: u32 = 5;

/// Cost of matching two operations; `None` where they cannot stand for each other. A match must cost less than two gaps.
fn cost(a: &Token, b: &Token) -> Option<u32> {
    if a.role == b.role {
        return Some(u32::from(a.shape != b.shape));
    }
    let either_unknown = a.module == UNKNOWN || b.module == UNKNOWN;
    if a.name == b.name && a.class == b.class {
        return Some(if either_unknown { 1 } else { 3 });
    }
    if a.module == b.module && a.module != UNKNOWN {
        return Some(if a.class == b.class { 2 } else { 7 });
    }
    if a.class == b.class && (either_unknown || a.family == b.family && a.family != UNKNOWN) {
        return Some(4);
    }
    None
}

/// Pairs of rows (baseline, candidate) in order; `None` on one side where the other has no counterpart. `None` in all if the table would be too
/// large. The answer for swapped sides is the same with its pairs swapped.
pub(super) fn align(a: &[Token], b: &[Token]) -> Option<Vec<(Option<usize>, Option<usize>)>> {
    // Of several cheapest alignments one is chosen by a fixed preference, which must not depend on who is called baseline.
    if (b.len(), b) < (a.len(), a) {
        let swapped = align_ordered(b, a)?;
        return Some(swapped.into_iter().map(|(x, y)| (y, x)).collect());
    }
    align_ordered(a, b)
}

fn align_ordered(a: &[Token], b: &[Token]) -> Option<Vec<(Option<usize>, Option<usize>)>> {
    let head = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let tail = a[head..].iter().rev().zip(b[head..].iter().rev()).take_while(|(x, y)| x == y).count();
    let (inner_a, inner_b) = (&a[head..a.len() - tail], &b[head..b.len() - tail]);
    let mut pairs: Vec<(Option<usize>, Option<usize>)> = (0..head).map(|row| (Some(row), Some(row))).collect();
    let inner = table(inner_a, inner_b)?;
    pairs.extend(inner.into_iter().map(|(x, y)| (x.map(|x| x + head), y.map(|y| y + head))));
    pairs.extend((0..tail).map(|row| (Some(a.len() - tail + row), Some(b.len() - tail + row))));
    Some(pairs)
}

const MATCH: u8 = 0;
const ONLY_A: u8 = 1;
const ONLY_B: u8 = 2;

fn table(a: &[Token], b: &[Token]) -> Option<Vec<(Option<usize>, Option<usize>)>> {
    let width = b.len() + 1;
    let cells = (a.len() + 1).checked_mul(width)?;
    if a.is_empty() || b.is_empty() {
        let only_a = (0..a.len()).map(|row| (Some(row), None));
        return Some(only_a.chain((0..b.len()).map(|row| (None, Some(row)))).collect());
    }
    if cells > MAX_CELLS {
        return None;
    }
    let mut steps = vec![ONLY_B; cells];
    let mut above: Vec<u32> = (0..width as u32).map(|column| column * GAP).collect();
    let mut row_cost = vec![0_u32; width];
    for (i, x) in a.iter().enumerate() {
        row_cost[0] = (i as u32 + 1) * GAP;
        let step_row = &mut steps[(i + 1) * width..(i + 2) * width];
        step_row[0] = ONLY_A;
        for (j, y) in b.iter().enumerate() {
            let mut best = (above[j + 1] + GAP, ONLY_A);
            if row_cost[j] + GAP < best.0 {
                best = (row_cost[j] + GAP, ONLY_B);
            }
            if let Some(cost) = cost(x, y)
                && above[j] + cost <= best.0
            {
                best = (above[j] + cost, MATCH);
            }
            (row_cost[j + 1], step_row[j + 1]) = best;
        }
        std::mem::swap(&mut above, &mut row_cost);
    }
    let (mut i, mut j) = (a.len(), b.len());
    let mut pairs = Vec::with_capacity(i.max(j));
    while i > 0 || j > 0 {
        match steps[i * width + j] {
            MATCH if i > 0 && j > 0 => {
                (i, j) = (i - 1, j - 1);
                pairs.push((Some(i), Some(j)));
            }
            ONLY_A if i > 0 => {
                i -= 1;
                pairs.push((Some(i), None));
            }
            _ if j > 0 => {
                j -= 1;
                pairs.push((None, Some(j)));
            }
            _ => {
                i -= 1;
                pairs.push((Some(i), None));
            }
        }
    }
    pairs.reverse();
    Some(pairs)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token(module: u32, class: u32, name: u32, shape: u64) -> Token {
        let module = if module == 0 { UNKNOWN } else { module };
        Token { role: module.wrapping_mul(31) ^ class << 8 ^ name, module, family: UNKNOWN, class, name, shape }
    }

    fn tokens() -> impl Strategy<Value = Vec<Token>> {
        let one = (0_u32..3, 0_u32..2, 0_u32..3, 1_u64..3)
            .prop_map(|(module, class, name, shape)| token(module, class, name, shape));
        prop::collection::vec(one, 0..7)
    }

    /// The cheapest of all alignments, by trying them all.
    fn cheapest(a: &[Token], b: &[Token]) -> u32 {
        match (a.split_first(), b.split_first()) {
            (None, _) => b.len() as u32 * GAP,
            (_, None) => a.len() as u32 * GAP,
            (Some((x, rest_a)), Some((y, rest_b))) => {
                let skipped = (GAP + cheapest(rest_a, b)).min(GAP + cheapest(a, rest_b));
                cost(x, y).map_or(skipped, |cost| skipped.min(cost + cheapest(rest_a, rest_b)))
            }
        }
    }

    proptest! {
        #[test]
        fn no_alignment_is_cheaper_and_each_row_stands_once_in_order(a in tokens(), b in tokens()) {
            let pairs = align(&a, &b).unwrap();
            let total: u32 = pairs
                .iter()
                .map(|pair| match pair {
                    (Some(x), Some(y)) => cost(&a[*x], &b[*y]).unwrap(),
                    _ => GAP,
                })
                .sum();
            prop_assert_eq!(total, cheapest(&a, &b));
            let rows_a: Vec<usize> = pairs.iter().filter_map(|(x, _)| *x).collect();
            let rows_b: Vec<usize> = pairs.iter().filter_map(|(_, y)| *y).collect();
            prop_assert_eq!(rows_a, (0..a.len()).collect::<Vec<_>>());
            prop_assert_eq!(rows_b, (0..b.len()).collect::<Vec<_>>());
        }

        #[test]
        fn swapped_sides_give_swapped_pairs(a in tokens(), b in tokens()) {
            let swapped: Vec<_> = align(&b, &a).unwrap().into_iter().map(|(x, y)| (y, x)).collect();
            prop_assert_eq!(align(&a, &b).unwrap(), swapped);
        }
    }

    #[test]
    fn another_kernel_at_the_same_place_is_the_counterpart() {
        let step = |middle: u32| vec![token(0, 1, 1, 1), token(0, 2, middle, 1), token(0, 1, 2, 1)];
        assert_eq!(align(&step(7), &step(8)).unwrap(), [(Some(0), Some(0)), (Some(1), Some(1)), (Some(2), Some(2))]);
    }

    #[test]
    fn what_is_too_long_is_left_to_the_caller() {
        let a: Vec<Token> = (0..5_000).map(|row| token(0, 1, row, 1)).collect();
        let b: Vec<Token> = (0..5_000).map(|row| token(0, 2, row, 1)).collect();
        assert_eq!(align(&a, &b), None);
        assert_eq!(align(&a, &a).unwrap().len(), 5_000);
    }
}
