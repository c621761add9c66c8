//! Energy and money per million tokens.

/// Joules per million tokens: power × 10⁶ / throughput. Null where an input is unknown or not positive.
pub fn joules_per_million_tokens(power_w: Option<f64>, tokens_per_s: Option<f64>) -> Option<f64> {
    Some(positive(power_w)? * 1e6 / positive(tokens_per_s)?)
}

/// US dollars per million tokens: price per hour / 3600 × 10⁶ / throughput. Null where an input is unknown or not positive.
pub fn usd_per_million_tokens(price_usd_per_hour: Option<f64>, tokens_per_s: Option<f64>) -> Option<f64> {
    Some(positive(price_usd_per_hour)? / 3600.0 * 1e6 / positive(tokens_per_s)?)
}

fn positive(value: Option<f64>) -> Option<f64> {
    value.filter(|value| value.is_finite() && *value > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_tokens_by_hand() {
        // 1000 tok/s: a million take 1000 s; at 700 W that is 700 kJ, at 3.60 USD/h one dollar.
        assert_eq!(joules_per_million_tokens(Some(700.0), Some(1000.0)), Some(700_000.0));
        assert!((usd_per_million_tokens(Some(3.6), Some(1000.0)).unwrap() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn unknown_stays_unknown() {
        assert_eq!(joules_per_million_tokens(None, Some(1.0)), None);
        assert_eq!(joules_per_million_tokens(Some(1.0), Some(0.0)), None);
        assert_eq!(usd_per_million_tokens(Some(f64::NAN), Some(1.0)), None);
    }
}
