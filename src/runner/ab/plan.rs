//! In which order the variants take turns: randomised, balanced blocks.
//!
//! A block holds every variant once. Blocks come in rounds, after which every variant stood equally often in every position: for two
//! variants a block and its mirror image (ABBA or BAAB); for more, Williams' balanced Latin squares (E. J. Williams, Australian Journal of
//! Scientific Research A 2, 1949), in which every variant also follows every other equally often, so that what a variant leaves behind (a warm
//! processor, a full cache) falls on all alike.

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;

/// Blocks of one balanced round for `variants` variants: 2 for two, as many as variants for more.
pub fn round_length(variants: usize) -> u32 {
    if variants <= 2 { 2 } else { variants as u32 }
}

/// The order of the variants in each of `blocks` blocks, by index; the same for the same seed.
///
/// The first blocks of a longer plan are those of a shorter one with the same seed.
pub fn order(variants: usize, blocks: u32, seed: u64) -> Vec<Vec<u32>> {
    let mut generator = StdRng::seed_from_u64(seed);
    let mut all: Vec<Vec<u32>> = Vec::new();
    while all.len() < blocks as usize {
        all.extend(rounds(variants, &mut generator));
    }
    all.truncate(blocks as usize);
    all
}

/// One round, or two of which the second is the mirror image of the first: together they balance what follows what.
fn rounds(variants: usize, generator: &mut StdRng) -> Vec<Vec<u32>> {
    if variants <= 1 {
        return vec![(0..variants as u32).collect(); 2];
    }
    // Which variant is which letter of the square is drawn, and so is the order of the rows.
    let mut letters: Vec<u32> = (0..variants as u32).collect();
    letters.shuffle(generator);
    let mut square: Vec<Vec<u32>> = williams(variants)
        .into_iter()
        .map(|row| row.into_iter().map(|letter| letters[letter as usize]).collect())
        .collect();
    square.shuffle(generator);
    if variants.is_multiple_of(2) {
        return square;
    }
    // An odd number of variants needs the mirror images too.
    let mut mirrored: Vec<Vec<u32>> = square.iter().map(|row| row.iter().rev().copied().collect()).collect();
    mirrored.shuffle(generator);
    square.extend(mirrored);
    square
}

/// Williams' square: row `r` is the sequence 0, 1, n−1, 2, n−2, … with `r` added modulo n.
fn williams(n: usize) -> Vec<Vec<u32>> {
    let first: Vec<usize> =
        (0..n).map(|position| if position % 2 == 1 { position.div_ceil(2) } else { (n - position / 2) % n }).collect();
    (0..n).map(|row| first.iter().map(|letter| ((letter + row) % n) as u32).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// How often each variant stands in each position, over `blocks`.
    fn positions(blocks: &[Vec<u32>]) -> BTreeMap<(u32, usize), u32> {
        let mut counts = BTreeMap::new();
        for block in blocks {
            for (position, variant) in block.iter().enumerate() {
                *counts.entry((*variant, position)).or_insert(0) += 1;
            }
        }
        counts
    }

    /// How often each variant comes right after each other within a block.
    fn followers(blocks: &[Vec<u32>]) -> BTreeMap<(u32, u32), u32> {
        let mut counts = BTreeMap::new();
        for block in blocks {
            for pair in block.windows(2) {
                *counts.entry((pair[0], pair[1])).or_insert(0) += 1;
            }
        }
        counts
    }

    #[test]
    fn two_variants_take_turns_as_abba_or_baab() {
        let mut seen = [false; 2];
        for seed in 0..50 {
            for pair in order(2, 20, seed).chunks(2) {
                let flat: Vec<u32> = pair.concat();
                assert!(flat == [0, 1, 1, 0] || flat == [1, 0, 0, 1], "{flat:?}");
                seen[flat[0] as usize] = true;
            }
        }
        assert_eq!(seen, [true; 2], "which variant comes first is drawn");
    }

    #[test]
    fn after_each_round_every_variant_stood_equally_often_in_every_position() {
        for variants in 2..=9 {
            let round = round_length(variants);
            for rounds in [1, 2, 4] {
                let blocks = order(variants, round * rounds, 7);
                for block in &blocks {
                    let mut sorted = block.clone();
                    sorted.sort_unstable();
                    assert_eq!(sorted, (0..variants as u32).collect::<Vec<_>>(), "a block holds every variant once");
                }
                let counts = positions(&blocks);
                assert_eq!(counts.len(), variants * variants, "{variants} variants");
                let times = round * rounds / variants as u32;
                assert!(counts.values().all(|count| *count == times), "{variants} variants: {counts:?}");
            }
        }
    }

    #[test]
    fn every_variant_follows_every_other_equally_often() {
        for variants in 2..=9 {
            // An odd number of variants needs two rounds.
            let rounds = if variants % 2 == 0 { 1 } else { 2 };
            let blocks = order(variants, round_length(variants) * rounds, 11);
            let counts = followers(&blocks);
            assert_eq!(counts.len(), variants * (variants - 1), "{variants} variants");
            let first = counts.values().next().copied();
            assert!(counts.values().all(|count| Some(*count) == first), "{variants} variants: {counts:?}");
        }
    }

    #[test]
    fn the_order_comes_from_the_seed_and_a_longer_plan_begins_like_a_shorter_one() {
        assert_eq!(order(4, 12, 3), order(4, 12, 3));
        assert_eq!(order(5, 23, 3)[..7], order(5, 7, 3));
        assert!((1..20).any(|seed| order(3, 6, seed) != order(3, 6, 0)), "the seed changes nothing");
        assert_eq!(order(2, 0, 1), Vec::<Vec<u32>>::new());
    }
}
