//! Choosing the next token: greedy, or sampled with a seed.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// How tokens are chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SamplingPlan {
    /// 0 is greedy.
    pub temperature: f64,
    /// Only the k most likely tokens, if set.
    pub top_k: Option<usize>,
    /// Only the smallest set of tokens whose probability reaches p, if set.
    pub top_p: Option<f64>,
    /// Seed of the generator; one sequence of draws for the whole batch.
    pub seed: u64,
}

impl SamplingPlan {
    /// The most likely token, always.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, top_k: None, top_p: None, seed: 0 }
    }
}

/// What is wrong with a row of logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogitCheck {
    /// NaN or infinite values seen.
    pub non_finite: u64,
}

/// Chooses tokens.
#[derive(Debug)]
pub struct Sampler {
    plan: SamplingPlan,
    generator: StdRng,
    /// Non-finite logits seen since the start.
    pub check: LogitCheck,
}

impl Sampler {
    /// A sampler at the start of its seed.
    pub fn new(plan: SamplingPlan) -> Self {
        Self { plan, generator: StdRng::seed_from_u64(plan.seed), check: LogitCheck::default() }
    }

    /// The next token of one sequence. Rows without any finite value give token 0; [`Sampler::check`] tells.
    pub fn choose(&mut self, logits: &[f32]) -> u32 {
        // One branch-free pass: a sum of exponents would hide a NaN behind a comparison.
        self.check.non_finite += logits.iter().filter(|logit| !logit.is_finite()).count() as u64;
        if self.plan.temperature <= 0.0 {
            return argmax(logits);
        }
        let mut order: Vec<u32> =
            (0..logits.len() as u32).filter(|token| logits[*token as usize].is_finite()).collect();
        let descending = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
        if let Some(k) = self.plan.top_k.filter(|k| *k > 0 && *k < order.len()) {
            order.select_nth_unstable_by(k - 1, descending);
            order.truncate(k);
        }
        order.sort_unstable_by(descending);
        let Some(first) = order.first() else { return 0 };
        let largest = f64::from(logits[*first as usize]);
        let weight = |token: u32| ((f64::from(logits[token as usize]) - largest) / self.plan.temperature).exp();
        let weights: Vec<f64> = order.iter().map(|token| weight(*token)).collect();
        let total: f64 = weights.iter().sum();
        let limit = self.plan.top_p.filter(|p| *p < 1.0).map_or(total, |p| p * total);
        let mut kept = 0.0;
        let mut count = 0;
        for weight in &weights {
            kept += weight;
            count += 1;
            if kept >= limit {
                break;
            }
        }
        let mut draw = self.generator.random::<f64>() * kept;
        for (token, weight) in order.iter().zip(&weights).take(count) {
            draw -= weight;
            if draw <= 0.0 {
                return *token;
            }
        }
        order[count - 1]
    }
}

/// The index of the largest value; the first of equals, NaN never.
fn argmax(logits: &[f32]) -> u32 {
    let mut best = (0u32, f32::NEG_INFINITY);
    for (index, logit) in logits.iter().enumerate() {
        if *logit > best.1 {
            best = (index as u32, *logit);
        }
    }
    best.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greedy_takes_the_first_of_the_largest_and_counts_poison() {
        let mut sampler = Sampler::new(SamplingPlan::greedy());
        assert_eq!(sampler.choose(&[0.0, 3.0, 3.0, f32::NAN, f32::NEG_INFINITY]), 1);
        assert_eq!(sampler.check.non_finite, 2);
        assert_eq!(sampler.choose(&[f32::NAN, f32::NAN]), 0);
    }

    #[test]
    fn sampling_follows_the_softmax_and_its_seed() {
        let logits = [1.0f32, 2.0, 0.0, -1.0];
        let plan = SamplingPlan { temperature: 1.0, top_k: None, top_p: None, seed: 7 };
        let draw = |plan: SamplingPlan| {
            let mut sampler = Sampler::new(plan);
            (0..20_000).map(|_| sampler.choose(&logits)).collect::<Vec<_>>()
        };
        let drawn = draw(plan);
        assert_eq!(drawn, draw(plan), "the same seed gives the same draws");
        let total: f64 = logits.iter().map(|l| f64::from(*l).exp()).sum();
        for (token, logit) in logits.iter().enumerate() {
            let expected = f64::from(*logit).exp() / total;
            let seen = drawn.iter().filter(|t| **t == token as u32).count() as f64 / drawn.len() as f64;
            // Five standard errors of a proportion over 20,000 draws.
            assert!((seen - expected).abs() < 5.0 * (expected * (1.0 - expected) / 20_000.0).sqrt(), "{token}");
        }
        assert!(draw(SamplingPlan { top_k: Some(2), ..plan }).iter().all(|t| *t < 2));
        assert!(draw(SamplingPlan { top_p: Some(0.5), ..plan }).iter().all(|t| *t == 1));
    }
}
