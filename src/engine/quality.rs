//! How good a model's predictions are: teacher-forced log likelihoods of a text, and the divergence from a reference model.
//!
//! Tokens are fed one by one through the decode path, the arithmetic that generation uses, so that a variant is judged by what it computes and not
//! by what its weights promise.

use candle_core::{Device, Result, Tensor};

use super::models::CausalLm;
use crate::instrument::observer::NoObserver;

/// The text that `quality.text=embedded` means, written for this purpose.
pub const EMBEDDED_TEXT: &str = include_str!("quality_text.txt");

/// What was found at each predicted position.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Predictions {
    /// −ln p(token) of the text's own next token, nats.
    pub nll_nats: Vec<f64>,
    /// KL(reference ‖ model) of the distribution of the next token, nats; empty without a reference.
    pub kl_nats: Vec<f64>,
    /// Whether model and reference would pick the same token; empty without a reference.
    pub same_top1: Vec<bool>,
}

/// Feeds `tokens` in windows of `window` tokens, each from an empty cache, and scores every prediction within them.
///
/// `keep_going` is asked before every token; what was scored until then is returned.
///
/// # Errors
/// What a model returns, among it a cache smaller than the window.
pub fn predict(
    model: &mut dyn CausalLm,
    mut reference: Option<&mut (dyn CausalLm + 'static)>,
    tokens: &[u32],
    window: usize,
    device: &Device,
    keep_going: &dyn Fn() -> bool,
) -> Result<Predictions> {
    let mut found = Predictions::default();
    for chunk in tokens.chunks(window.max(2)) {
        model.reset()?;
        if let Some(reference) = &mut reference {
            reference.reset()?;
        }
        for (position, pair) in chunk.windows(2).enumerate() {
            if !keep_going() {
                return Ok(found);
            }
            let input = Tensor::from_slice(&pair[..1], (1, 1), device)?;
            let logits = |model: &mut dyn CausalLm| -> Result<Vec<f32>> {
                model.forward(&input, position, &mut NoObserver)?.flatten_all()?.to_vec1::<f32>()
            };
            let own = log_softmax(&logits(model)?);
            let Some(likelihood) = own.get(pair[1] as usize) else {
                candle_core::bail!("token {} is not among the {} the model predicts", pair[1], own.len());
            };
            found.nll_nats.push(-likelihood);
            if let Some(reference) = &mut reference {
                let truth = log_softmax(&logits(&mut **reference)?);
                found.kl_nats.push(divergence(&truth, &own));
                found.same_top1.push(top(&truth) == top(&own));
            }
        }
    }
    Ok(found)
}

/// ln softmax in f64: the sum over a vocabulary of a hundred thousand must not round.
fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - largest).exp()).sum();
    let shift = f64::from(largest) + sum.ln();
    logits.iter().map(|logit| f64::from(*logit) - shift).collect()
}

/// Σ p (ln p − ln q), p the reference. Never below 0 but for rounding, which is cut off; NaN stays NaN.
fn divergence(truth: &[f64], model: &[f64]) -> f64 {
    let sum: f64 = truth
        .iter()
        .zip(model)
        // 0 · ln 0 is 0 by its limit.
        .map(|(p, q)| if *p == f64::NEG_INFINITY { 0.0 } else { p.exp() * (p - q) })
        .sum();
    if sum < 0.0 { 0.0 } else { sum }
}

/// Index of the largest value, the first of equals as greedy sampling takes it.
fn top(values: &[f64]) -> usize {
    let mut best = 0;
    for (index, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = index;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_probabilities_sum_to_one_even_for_large_logits() {
        for logits in [vec![0.0, 0.0, 0.0, 0.0], vec![1000.0, 999.0, -1000.0], vec![-5.0]] {
            let sum: f64 = log_softmax(&logits).iter().map(|value| value.exp()).sum();
            assert!((sum - 1.0).abs() < 1e-12, "{logits:?}: {sum}");
        }
    }

    #[test]
    fn divergence_is_that_of_the_closed_form() {
        // scipy 1.x: scipy.special.rel_entr([0.5, 0.25, 0.25], [0.25, 0.25, 0.5]).sum() = 0.5 ln 2 − 0.25 ln 2
        let ln = |values: [f64; 3]| values.map(f64::ln);
        let found = divergence(&ln([0.5, 0.25, 0.25]), &ln([0.25, 0.25, 0.5]));
        assert!((found - 0.25 * std::f64::consts::LN_2).abs() < 1e-15, "{found}");
        let same = ln([0.2, 0.3, 0.5]);
        assert!(divergence(&same, &same).abs() < f64::EPSILON);
        assert!(divergence(&same, &[f64::NAN; 3]).is_nan());
    }

    #[test]
    fn the_embedded_text_is_long_enough_for_the_default() {
        // At most 1.6 tokens a word for the tokenizers of this field; 512 are asked for.
        assert!(EMBEDDED_TEXT.split_whitespace().count() > 900);
    }
}
