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
