//! How numbers are written in reports, and which percentiles a sample is large enough for.

/// Stands for a value nobody knows.
pub(super) const UNKNOWN: &str = "–";

/// Samples that a percentile needs before it is printed bare.
///
/// The largest of `n` independent samples lies above quantile `q` with probability 1 − qⁿ; the bound asks for 99 %, so
/// n ≥ ln 0.01 / ln q: 44 for p90, 90 for p95, 459 for p99 (distribution-free order-statistic bound; Hahn & Meeker,
/// *Statistical Intervals*, ch. 5). The median is a location and not a tail; it always stands with its n beside it.
pub(super) fn samples_needed(percentile: u32) -> u64 {
    let quantile = f64::from(percentile) / 100.0;
    if percentile <= 50 { 1 } else { (0.01_f64.ln() / quantile.ln()).ceil() as u64 }
}

/// Four significant digits, no exponent between 1e-4 and 1e9; `–` for a value that is not finite.
pub(super) fn digits(value: f64) -> String {
    let magnitude = value.abs();
    if !value.is_finite() {
        UNKNOWN.to_owned()
    } else if magnitude == 0.0 {
        "0".to_owned()
    } else if !(1e-4..1e9).contains(&magnitude) {
        format!("{value:.3e}")
    } else {
        let decimals = (3 - magnitude.log10().floor() as i32).clamp(0, 8) as usize;
        format!("{value:.decimals$}")
    }
}

/// A load, i.e. requests in flight or per second: whole numbers as such, others with at most one digit behind the point.
pub(super) fn load(value: f64) -> String {
    if value.is_finite() && (value.abs() >= 10.0 || value.fract() == 0.0) && value.abs() < 1e15 {
        format!("{}", (value * 10.0).round() / 10.0)
    } else {
        digits(value)
    }
}

/// [`digits`] of a value that may be unknown.
pub(super) fn maybe(value: Option<f64>) -> String {
    value.map_or_else(|| UNKNOWN.to_owned(), digits)
}

/// A ratio in per cent, e.g. `61.3 %`.
pub(super) fn percent(ratio: f64) -> String {
    let value = ratio * 100.0;
    let magnitude = value.abs();
    if !value.is_finite() {
        UNKNOWN.to_owned()
    } else if magnitude >= 99.95 {
        format!("{value:.0} %")
    } else if magnitude >= 9.995 || magnitude == 0.0 {
        format!("{value:.1} %")
    } else if magnitude >= 0.01 {
        format!("{value:.2} %")
    } else {
        "< 0.01 %".to_owned()
    }
}

/// [`percent`] of a ratio that may be unknown.
pub(super) fn maybe_percent(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| UNKNOWN.to_owned(), percent)
}

/// A speed-up factor, e.g. `1.46×`, `7.3×`, `12×`: bounds of this kind deserve no more digits.
pub(super) fn factor(value: f64) -> String {
    if value >= 9.95 {
        format!("{value:.0}×")
    } else if value >= 2.0 {
        format!("{value:.1}×")
    } else {
        format!("{value:.2}×")
    }
}

/// A mean with the half width of its interval, both with the digits that two significant ones of the half width leave.
pub(super) fn plus_minus(mean: f64, half: f64) -> String {
    if !(mean.is_finite() && half.is_finite()) || half <= 0.0 {
        return format!("{} ± {}", digits(mean), digits(half));
    }
    let decimals = (1 - half.log10().floor() as i32).clamp(0, 6) as usize;
    format!("{mean:.decimals$} ± {half:.decimals$}")
}

/// A count with thin groups of three, e.g. `134 515 008`; the spaces do not break lines.
pub(super) fn count(value: u64) -> String {
    let plain = value.to_string();
    let mut out = String::with_capacity(plain.len() + plain.len() / 3);
    for (at, digit) in plain.chars().enumerate() {
        if at > 0 && (plain.len() - at).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// The value of a measure in its unit as reports print it: ratios in per cent, bytes with a prefix, the rest in four digits.
pub(super) fn in_unit(value: f64, unit: &str) -> String {
    match unit {
        "ratio" => percent(value),
        "bytes" => crate::units::Bytes(value).to_string(),
        _ => digits(value),
    }
}

/// Both ends of an interval, with a common unit written once, e.g. `0.34 to 0.52 %`.
pub(super) fn interval(low: f64, high: f64, unit: &str) -> String {
    let (low, high) = (in_unit(low, unit), in_unit(high, unit));
    let low = match (low.split_once(' '), high.split_once(' ')) {
        (Some((value, a)), Some((_, b))) if a == b => value.to_owned(),
        _ => low,
    };
    format!("{low} to {high}")
}

/// The unit as a column heading; empty where [`in_unit`] already prints one.
pub(super) fn unit_label(unit: &str) -> &str {
    match unit {
        "ratio" | "bytes" => "",
        other => other,
    }
}

/// A parameter count in words, e.g. `135 M`, `7.24 B`.
pub(super) fn parameters(value: Option<u64>) -> String {
    let Some(value) = value else { return "an unknown number of".to_owned() };
    let value = value as f64;
    let (scaled, suffix) = if value >= 1e9 {
        (value / 1e9, "B")
    } else if value >= 1e6 {
        (value / 1e6, "M")
    } else {
        (value / 1e3, "k")
    };
    let decimals = if scaled >= 100.0 { 0 } else { 2 - usize::from(scaled >= 10.0) };
    format!("{scaled:.decimals$} {suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_need_the_samples_the_closed_form_gives() {
        // 1 − q^n ≥ 0.99, checked directly on both sides of each bound.
        for (percentile, n) in [(90, 44), (95, 90), (99, 459)] {
            assert_eq!(samples_needed(percentile), n);
            let q = f64::from(percentile) / 100.0;
            assert!(1.0 - q.powi(n as i32) >= 0.99 && 1.0 - q.powi(n as i32 - 1) < 0.99);
        }
        assert_eq!(samples_needed(50), 1);
    }

    #[test]
    fn numbers_keep_four_digits() {
        assert_eq!(digits(12.3456), "12.35");
        assert_eq!(digits(1234.56), "1235");
        assert_eq!(digits(0.0123456), "0.01235");
        assert_eq!(digits(f64::NAN), "–");
        assert_eq!(digits(f64::INFINITY), "–");
        assert_eq!(digits(-1.5), "-1.500");
        assert_eq!(digits(1e-9), "1.000e-9");
        assert_eq!((load(8.0), load(12.34), load(0.25)), ("8".to_owned(), "12.3".to_owned(), "0.2500".to_owned()));
        assert_eq!(interval(0.0034, 0.0052, "ratio"), "0.34 to 0.52 %");
        assert_eq!(interval(1.0, 2.0, "ms"), "1.000 to 2.000");
        assert_eq!(factor(1.459), "1.46×");
        assert_eq!(factor(7.308), "7.3×");
        assert_eq!(plus_minus(269.8123, 1.339), "269.8 ± 1.3");
        assert_eq!(plus_minus(19.0, 0.0), "19.00 ± 0");
        assert_eq!(percent(0.613), "61.3 %");
        assert_eq!(percent(0.00001), "< 0.01 %");
        assert_eq!(count(134_515_008), "134\u{202f}515\u{202f}008");
        assert_eq!(parameters(Some(134_515_008)), "135 M");
        assert_eq!(parameters(Some(7_241_732_096)), "7.24 B");
    }
}
