//! Draws from distributions of lengths, and the random streams all made-up text comes from.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use rand_distr::{Distribution as _, Exp, LogNormal, Normal};

use super::error::WorkloadError;
use crate::config::schema::load_text::{Lengths, Shape};

/// More tokens than this are no prompt.
pub const MOST_TOKENS: u64 = 1 << 20;

/// What a random stream is for: streams of different uses and indices have nothing in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Lengths of prompts.
    Input = 1,
    /// Lengths of answers.
    Output,
    /// Words of a prompt.
    Body,
    /// Words of a shared prefix.
    Prefix,
    /// Words that make a prompt unlike all others.
    Salt,
    /// Words of a block of a trace.
    Block,
    /// Order.
    Shuffle,
    /// Time between turns.
    Think,
    /// Choice of words of the vocabulary.
    Pool,
    /// Fillers of templates.
    Template,
}

/// The random stream of one use and one index, so that the first prompts of a small set and of a large one are the same.
pub fn stream(seed: u64, of: Use, index: u64) -> StdRng {
    StdRng::seed_from_u64(mix(mix(mix(seed).wrapping_add(of as u64)).wrapping_add(index)))
}

/// splitmix64's finalizer (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", OOPSLA 2014): neighbours end far apart.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Draws from a distribution.
#[derive(Debug, Clone)]
pub struct Sampler {
    lengths: Lengths,
    setting: &'static str,
}

impl Sampler {
    /// A sampler for the value of the key `setting`, which errors name.
    pub fn new(lengths: &Lengths, setting: &'static str) -> Self {
        Self { lengths: lengths.clone(), setting }
    }

    /// A draw that is not negative: seconds, say.
    ///
    /// # Errors
    /// If it has no end, as a log-normal of an absurd spread may.
    pub fn draw(&self, rng: &mut StdRng) -> Result<f64, WorkloadError> {
        let refuse = |message: String| WorkloadError::Setting { setting: self.setting, message };
        let unusable = || refuse(format!("is `{}`, which nothing can be drawn from", self.lengths));
        let value = match self.lengths.shape {
            Shape::Constant(value) => value,
            Shape::Uniform(low, high) => rng.random_range(low..=high),
            Shape::Normal(mean, deviation) => Normal::new(mean, deviation).map_err(|_| unusable())?.sample(rng),
            Shape::LogNormal(median, deviation) => {
                LogNormal::new(median.ln(), deviation).map_err(|_| unusable())?.sample(rng)
            }
            Shape::Exponential(mean) if mean > 0.0 => Exp::new(1.0 / mean).map_err(|_| unusable())?.sample(rng),
            Shape::Exponential(_) => 0.0,
        };
        let value = value.clamp(self.lengths.min, self.lengths.max).max(0.0);
        if value.is_finite() { Ok(value) } else { Err(refuse(format!("drew {value} from `{}`", self.lengths))) }
    }

    /// A whole number of tokens, at least 1.
    ///
    /// # Errors
    /// If it is above [`MOST_TOKENS`].
    pub fn tokens(&self, rng: &mut StdRng) -> Result<u32, WorkloadError> {
        let value = match self.lengths.shape {
            // Rounding a continuous draw would give both ends half of their due.
            Shape::Uniform(low, high) if low.ceil() <= high.floor() && high <= MOST_TOKENS as f64 => {
                let whole = rng.random_range(low.ceil() as u64..=high.floor() as u64) as f64;
                whole.clamp(self.lengths.min, self.lengths.max)
            }
            _ => self.draw(rng)?,
        };
        let tokens = value.round().max(1.0);
        if tokens > MOST_TOKENS as f64 {
            let message =
                format!("drew {tokens} tokens, more than {MOST_TOKENS}: give the distribution a greatest value");
            return Err(WorkloadError::Setting { setting: self.setting, message });
        }
        Ok(tokens as u32)
    }

    /// A time in nanoseconds of a distribution of seconds.
    ///
    /// # Errors
    /// If it is longer than a day.
    pub fn nanoseconds(&self, rng: &mut StdRng) -> Result<u64, WorkloadError> {
        const DAY_S: f64 = 86_400.0;
        let seconds = self.draw(rng)?;
        if seconds > DAY_S {
            let message = format!("drew {seconds} seconds, more than a day");
            return Err(WorkloadError::Setting { setting: self.setting, message });
        }
        Ok((seconds * 1e9).round() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(text: &str, count: u64) -> Vec<f64> {
        let sampler = Sampler::new(&Lengths::parse(text).unwrap(), "prompts.input_tokens");
        (0..count).map(|index| f64::from(sampler.tokens(&mut stream(7, Use::Input, index)).unwrap())).collect()
    }
    fn mean(values: &[f64]) -> f64 {
        values.iter().sum::<f64>() / values.len() as f64
    }
    fn deviation(values: &[f64]) -> f64 {
        let middle = mean(values);
        (values.iter().map(|value| (value - middle).powi(2)).sum::<f64>() / values.len() as f64).sqrt()
    }

    #[test]
    fn draws_have_the_moments_of_their_distribution() {
        // Bounds are 5 standard errors of 20,000 draws.
        let uniform = draws("100-200", 20_000);
        assert!((mean(&uniform) - 150.0).abs() < 5.0 * 29.2 / 141.4);
        assert!((deviation(&uniform) - (101f64.powi(2) - 1.0).sqrt() / 12f64.sqrt()).abs() < 1.0);
        let normal = draws("normal(512,64)", 20_000);
        assert!((mean(&normal) - 512.0).abs() < 5.0 * 64.0 / 141.4);
        assert!((deviation(&normal) - 64.0).abs() < 2.0);
        let exponential = draws("exponential(300)", 20_000);
        assert!((mean(&exponential) - 300.0).abs() < 5.0 * 300.0 / 141.4);
        let mut log_normal = draws("lognormal(512,0.5)", 20_001);
        log_normal.sort_by(f64::total_cmp);
        assert!((log_normal[10_000] - 512.0).abs() < 15.0, "median {}", log_normal[10_000]);
        let middle = 512.0 * (0.125f64).exp();
        assert!((mean(&log_normal) - middle).abs() < 0.03 * middle);
    }

    #[test]
    fn both_ends_of_a_range_are_drawn_as_often_as_the_rest() {
        let counts = draws("1-4", 40_000).into_iter().fold([0u32; 4], |mut counts, value| {
            counts[value as usize - 1] += 1;
            counts
        });
        // Binomial(40,000, ¼): standard deviation 86.6.
        assert!(counts.iter().all(|count| (f64::from(*count) - 10_000.0).abs() < 5.0 * 86.6), "{counts:?}");
    }

    #[test]
    fn bounds_clamp_and_nothing_is_below_one_token() {
        let clamped = draws("normal(100,80,50,120)", 2_000);
        assert!(clamped.iter().all(|value| (50.0..=120.0).contains(value)));
        assert!(clamped.contains(&50.0) && clamped.contains(&120.0));
        assert!(draws("normal(0,3)", 500).iter().all(|value| *value >= 1.0));
        assert_eq!(draws("0", 2), [1.0, 1.0]);
        assert_eq!(draws("uniform(3.2,3.9)", 3).len(), 3);
    }

    #[test]
    fn absurd_lengths_are_refused_by_name() {
        for text in ["99999999", "lognormal(512,1000)", "1-100000000000"] {
            let sampler = Sampler::new(&Lengths::parse(text).unwrap(), "prompts.output_tokens");
            let error = (0..50).find_map(|index| sampler.tokens(&mut stream(0, Use::Input, index)).err()).expect(text);
            assert!(error.to_string().contains("`prompts.output_tokens`"), "{error}");
        }
    }

    #[test]
    fn streams_differ_by_seed_use_and_index_and_by_nothing_else() {
        let first = |seed, of, index| stream(seed, of, index).random::<u64>();
        assert_eq!(first(1, Use::Body, 2), first(1, Use::Body, 2));
        assert_ne!(first(1, Use::Body, 2), first(2, Use::Body, 2));
        assert_ne!(first(1, Use::Body, 2), first(1, Use::Salt, 2));
        assert_ne!(first(1, Use::Body, 2), first(1, Use::Body, 3));
    }
}
