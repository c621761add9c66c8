//! The generator behind every draw: small, fast, and the same numbers on every machine and with every version of a crate.

use rand::RngCore;

/// xoshiro256++ 1.0 (Blackman & Vigna, "Scrambled linear pseudorandom number generators", ACM Trans. Math. Softw. 47, 2021), its state
/// filled from the seed by SplitMix64 as its authors advise.
#[derive(Debug, Clone)]
pub struct Generator {
    state: [u64; 4],
}

impl Generator {
    /// A generator that depends on `seed` alone.
    pub fn new(seed: u64) -> Self {
        let mut counter = seed;
        let state = std::array::from_fn(|_| {
            counter = counter.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (counter ^ (counter >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        });
        Self { state }
    }
    /// A generator for part `stream` of what `seed` stands for; parts are as good as independent.
    pub fn stream(seed: u64, stream: u64) -> Self {
        let mut mixer = Self::new(seed);
        let offset = mixer.next();
        Self::new(offset ^ stream.wrapping_mul(0xd134_2543_de82_ef95))
    }
    /// 64 random bits.
    #[inline]
    #[expect(clippy::should_implement_trait, reason = "it never ends, and the name is that of every generator")]
    pub fn next(&mut self) -> u64 {
        let [a, b, c, d] = self.state;
        let result = a.wrapping_add(d).rotate_left(23).wrapping_add(a);
        let (c, d) = (c ^ a, d ^ b);
        self.state = [a ^ d, b ^ c, c ^ (b << 17), d.rotate_left(45)];
        // The published order: s2 ^= s0; s3 ^= s1; s1 ^= s2; s0 ^= s3; s2 ^= t; s3 = rotl(s3, 45), with t = s1 << 17.
        result
    }
    /// A whole number below `bound`, which must not be 0. Lemire's multiplication without rejection: no value is likelier than another
    /// by more than bound / 2⁶⁴.
    #[inline]
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }
    /// A number in [0, 1), of 53 bits.
    #[inline]
    pub fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 * f64::EPSILON / 2.0
    }
}

impl RngCore for Generator {
    fn next_u32(&mut self) -> u32 {
        (self.next() >> 32) as u32
    }
    fn next_u64(&mut self) -> u64 {
        self.next()
    }
    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};

    use super::*;

    #[test]
    fn the_numbers_are_those_of_the_published_generator() {
        // rand_xoshiro's vector, from the authors' C code with the state 1, 2, 3, 4.
        let mut generator = Generator { state: [1, 2, 3, 4] };
        for expected in
            [41943041, 58720359, 3588806011781223, 3591011842654386, 9228616714210784205, 9973669472204895162]
        {
            assert_eq!(generator.next(), expected);
        }
        // The rand crate's own xoshiro256++ fills its state from a seed by SplitMix64 too.
        let (mut ours, mut theirs) = (Generator::new(7), rand::rngs::SmallRng::seed_from_u64(7));
        assert!((0..100).all(|_| ours.next() == theirs.random::<u64>()));
    }

    #[test]
    fn numbers_below_a_bound_are_equally_likely() {
        let mut generator = Generator::new(1);
        let mut counts = [0u32; 10];
        for _ in 0..100_000 {
            counts[generator.below(10)] += 1;
        }
        // χ² with 9 degrees of freedom is below 27.9 in 999 of 1000 cases.
        let chi: f64 = counts.iter().map(|count| (f64::from(*count) - 10_000.0).powi(2) / 10_000.0).sum();
        assert!(chi < 27.9, "{chi}");
        assert!((0..1000).map(|_| generator.uniform()).all(|value| (0.0..1.0).contains(&value)));
    }
}
