//! Numbers in the sentences of a comparison.

use crate::units::Bytes;

/// `value` with four significant digits and no exponent where that is readable, e.g. `12.31`, `0.004213`, `1234`.
pub(super) fn digits(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    if !value.is_finite() {
        return value.to_string();
    }
    let magnitude = value.abs().log10().floor();
    if !(-5.0..15.0).contains(&magnitude) {
        return format!("{value:.3e}");
    }
    let decimals = (3.0 - magnitude).clamp(0.0, 9.0) as usize;
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A value with its unit, e.g. `12.31 ms`, `1.50 GiB`.
pub(super) fn quantity(value: f64, unit: &str) -> String {
    match unit {
        "bytes" | "B" => Bytes(value).to_string(),
        "" | "ratio" => digits(value),
        unit => format!("{} {unit}", digits(value)),
    }
}

/// A signed value with its unit, e.g. `+0.71 ms`.
pub(super) fn signed(value: f64, unit: &str) -> String {
    let sign = if value < 0.0 { "−" } else { "+" };
    format!("{sign}{}", quantity(value.abs(), unit))
}

/// A ratio with as many decimals as its interval deserves.
pub(super) fn ratio(value: f64, interval: Option<[f64; 2]>) -> String {
    let width = interval.map_or(0.01, |[low, high]| (high - low).abs());
    // Two digits of the width; three decimals at least, unless the ratio itself is large.
    let wanted = if width > 0.0 { (1.0 - width.log10().floor()).clamp(0.0, 6.0) as usize } else { 3 };
    let least = if value.abs() >= 100.0 {
        1
    } else if value.abs() >= 10.0 {
        2
    } else {
        3
    };
    let decimals = wanted.max(least);
    if value.abs() < 0.01 { digits(value) } else { format!("{value:.decimals$}") }
}

/// An interval of ratios, e.g. `1.049–1.066`.
pub(super) fn ratio_interval(interval: [f64; 2]) -> String {
    let [low, high] = interval.map(|end| ratio(end, Some(interval)));
    format!("{low}–{high}")
}

/// An interval of signed changes, e.g. `+0.61 to +0.83 ms`.
pub(super) fn signed_interval([low, high]: [f64; 2], unit: &str) -> String {
    format!("{} to {}", signed(low, unit), signed(high, unit))
}

/// A share as a percentage, e.g. `3 %`, `0.25 %`.
pub(super) fn percent(share: f64) -> String {
    format!("{} %", digits_of(share * 100.0, 3))
}

/// A signed share as a percentage, e.g. `+3 %`.
pub(super) fn signed_percent(share: f64) -> String {
    let sign = if share < 0.0 { "−" } else { "+" };
    format!("{sign}{}", percent(share.abs()))
}

/// A p value: `0.03`, `< 0.0001`.
pub(super) fn p_value(p: f64) -> String {
    if p < 1e-4 { "< 0.0001".to_owned() } else { digits_of(p, 2) }
}

/// `n` significant digits, no trailing zeros, never an exponent above 1e-6.
fn digits_of(value: f64, n: i32) -> String {
    if value == 0.0 || !value.is_finite() {
        return digits(value);
    }
    let magnitude = value.abs().log10().floor() as i32;
    let decimals = (n - 1 - magnitude).clamp(0, 9) as usize;
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// `1 process`, `12 processes`.
pub(super) fn count(n: u64, singular: &str, plural: &str) -> String {
    format!("{n} {}", if n == 1 { singular } else { plural })
}

/// `a`, `a and b`, `a, b and c`.
pub(super) fn list(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_a_person_would_write_them() {
        for (value, text) in
            [(12.314_159, "12.31"), (0.0, "0"), (1234.56, "1235"), (0.004_213_4, "0.004213"), (3.0, "3")]
        {
            assert_eq!(digits(value), text);
        }
        assert_eq!(quantity(1.5 * 1024.0 * 1024.0 * 1024.0, "bytes"), "1.50 GiB");
        assert_eq!(quantity(12.3, "tok/s"), "12.3 tok/s");
        assert_eq!(signed(-0.71, "ms"), "−0.71 ms");
        assert_eq!(percent(0.0123), "1.23 %");
        assert_eq!(signed_percent(-0.02), "−2 %");
        assert_eq!(p_value(3e-9), "< 0.0001");
        assert_eq!(p_value(0.0312), "0.031");
    }

    #[test]
    fn a_narrow_interval_gets_the_decimals_that_show_it() {
        assert_eq!(ratio(1.0578, Some([1.0491, 1.0663])), "1.058");
        assert_eq!(ratio_interval([1.0491, 1.0663]), "1.049–1.066");
        assert_eq!(ratio_interval([1.000_31, 1.000_49]), "1.00031–1.00049");
        assert_eq!(ratio(2.0, None), "2.000");
        assert_eq!(ratio(1.0, Some([1.0, 1.0])), "1.000");
    }

    #[test]
    fn lists_end_in_and() {
        let list_of = |items: &[&str]| list(&items.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>());
        assert_eq!(list_of(&["a"]), "a");
        assert_eq!(list_of(&["a", "b", "c"]), "a, b and c");
    }
}
