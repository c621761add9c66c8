//! Rotary frequencies with the scalings the supported families use, as in Hugging Face `modeling_rope_utils.py`.

use std::f64::consts::PI;

use crate::engine::ops::RopeTable;
use crate::estimate::architecture::{Rope, RopeScaling};

/// Inverse frequencies of `head_dim / 2` pairs, and the factor on cosines and sines.
pub fn inverse_frequencies(rope: &Rope, head_dim: usize) -> (Vec<f64>, f64) {
    let base: Vec<f64> = (0..head_dim / 2).map(|i| rope.theta.powf(-(2.0 * i as f64) / head_dim as f64)).collect();
    match rope.scaling {
        None => (base, 1.0),
        Some(RopeScaling::Linear { factor }) => (base.into_iter().map(|f| f / factor).collect(), 1.0),
        Some(RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position }) => {
            let original = original_max_position as f64;
            let scaled = base.into_iter().map(|frequency| {
                let wavelength = 2.0 * PI / frequency;
                if wavelength < original / high_freq_factor {
                    frequency
                } else if wavelength > original / low_freq_factor {
                    frequency / factor
                } else {
                    let smooth = (original / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor);
                    (1.0 - smooth) * frequency / factor + smooth * frequency
                }
            });
            (scaled.collect(), 1.0)
        }
        Some(RopeScaling::Yarn { factor, beta_fast, beta_slow, original_max_position, attention_factor }) => {
            let dim = head_dim as f64;
            // The dimension that turns `rotations` times over the original context (arXiv 2309.00071, section 3.2).
            let dimension_of = |rotations: f64| {
                dim * (original_max_position as f64 / (rotations * 2.0 * PI)).ln() / (2.0 * rope.theta.ln())
            };
            let low = dimension_of(beta_fast).floor().max(0.0);
            let high = dimension_of(beta_slow).ceil().min(dim - 1.0);
            let span = if high > low { high - low } else { 0.001 };
            let scaled = base.into_iter().enumerate().map(|(i, frequency)| {
                let interpolated = ((i as f64 - low) / span).clamp(0.0, 1.0);
                frequency / factor * interpolated + frequency * (1.0 - interpolated)
            });
            let temperature = if factor > 1.0 { 0.1 * factor.ln() + 1.0 } else { 1.0 };
            (scaled.collect(), attention_factor.unwrap_or(temperature))
        }
    }
}

/// The table for positions `0..positions`.
pub fn table(rope: &Rope, head_dim: usize, positions: usize) -> RopeTable {
    let (frequencies, factor) = inverse_frequencies(rope, head_dim);
    // Angles in f64: at position 100,000 an f32 product would be off by a hundredth of a radian.
    let angles = || (0..positions).flat_map(|p| frequencies.iter().map(move |f| p as f64 * f));
    RopeTable {
        cos: angles().map(|angle| (angle.cos() * factor) as f32).collect(),
        sin: angles().map(|angle| (angle.sin() * factor) as f32).collect(),
        half_dim: head_dim / 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `LlamaRotaryEmbedding` of transformers 5.19 with Llama-3.1-8B's config (theta 500000, factor 8, 1, 4, 8192, head_dim 128):
    /// the first frequency is untouched, the last is divided by 8, the ramp lies between.
    #[test]
    fn llama3_scaling_keeps_short_waves_and_divides_long_ones() {
        let scaling = RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position: 8192,
        };
        let plain = Rope { theta: 500_000.0, scaling: None };
        let (base, _) = inverse_frequencies(&plain, 128);
        let (scaled, factor) = inverse_frequencies(&Rope { scaling: Some(scaling), ..plain }, 128);
        assert_eq!(factor, 1.0);
        assert_eq!(scaled[0], 1.0);
        assert!((scaled[63] / base[63] - 0.125).abs() < 1e-12);
        let ramp: Vec<f64> = scaled.iter().zip(&base).map(|(s, b)| s / b).collect();
        assert!(ramp.windows(2).all(|pair| pair[1] <= pair[0] + 1e-12), "the ratio only falls: {ramp:?}");
        assert!(ramp.iter().any(|ratio| *ratio > 0.126 && *ratio < 0.999), "there is a ramp");
    }

    #[test]
    fn yarn_matches_the_papers_limits() {
        let scaling = RopeScaling::Yarn {
            factor: 4.0,
            beta_fast: 32.0,
            beta_slow: 1.0,
            original_max_position: 32_768,
            attention_factor: None,
        };
        let plain = Rope { theta: 1_000_000.0, scaling: None };
        let (base, _) = inverse_frequencies(&plain, 128);
        let (scaled, factor) = inverse_frequencies(&Rope { scaling: Some(scaling), ..plain }, 128);
        assert!((factor - (0.1 * 4f64.ln() + 1.0)).abs() < 1e-12);
        assert_eq!(scaled[0], base[0]);
        assert!((scaled[63] / base[63] - 0.25).abs() < 1e-12);
    }
}
