//! Numbers as Nsight Compute prints them, which depends on the locale it ran in.
//!
//! `13,485` is thirteen thousand where a comma groups digits and thirteen and a half where it is the decimal sign. A number that allows one
//! reading only says which way the file is written; one that allows two is read the way the rest of its file is, and as English if nothing in
//! the file says otherwise, as the tool does by default. Where a file contradicts itself such a number has no value.

/// How a file writes numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// `9,495.42`
    English,
    /// `9.495,42`
    Continental,
}

/// One field read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Reading {
    /// A number without a separator, or with blanks and apostrophes only.
    Plain(f64),
    /// A number that only one style writes so.
    Certain(f64, Style),
    /// One separator followed by exactly three digits: the readings in both styles.
    Ambiguous { english: f64, continental: f64 },
    /// The tool says it has no value.
    Missing,
    /// Not a number.
    Text,
}

/// Reads a metric value.
pub(super) fn read(text: &str) -> Reading {
    let text = text.trim();
    match text.to_ascii_lowercase().as_str() {
        "" | "n/a" | "na" | "nan" | "-nan" | "inf" | "-inf" | "no data" | "-" => return Reading::Missing,
        _ => {}
    }
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.' || c == ',') {
        return Reading::Text;
    }
    let number = |text: &str| text.parse::<f64>().ok().filter(|value| value.is_finite()).map(|value| sign * value);
    let plain = |text: &str| number(text).map_or(Reading::Text, Reading::Plain);

    // Blanks and apostrophes only ever group digits.
    let grouped_otherwise = digits.contains([' ', '\u{a0}', '\u{202f}', '\'', '\u{2019}']);
    let digits = if grouped_otherwise {
        let whole = digits.split(['.', ',']).next().unwrap_or(digits);
        if !groups_of_three(whole.split([' ', '\u{a0}', '\u{202f}', '\'', '\u{2019}'])) {
            return Reading::Text;
        }
        let joined = digits.replace([' ', '\u{a0}', '\u{202f}', '\'', '\u{2019}'], "");
        if joined.matches([',', '.']).count() > 1 {
            return Reading::Text;
        }
        return plain(&joined.replace(',', "."));
    } else {
        digits
    };

    let (points, commas) = (digits.matches('.').count(), digits.matches(',').count());
    match (points, commas) {
        (0, 0) => plain(digits),
        (_, 0) => one_kind(digits, '.', &number),
        (0, _) => one_kind(digits, ',', &number),
        _ => both_kinds(digits, &number),
    }
}

/// Only points, or only commas.
fn one_kind(digits: &str, separator: char, number: &dyn Fn(&str) -> Option<f64>) -> Reading {
    let (decimal, grouping) =
        if separator == '.' { (Style::English, Style::Continental) } else { (Style::Continental, Style::English) };
    let grouped = || number(&digits.replace(separator, ""));
    if digits.matches(separator).count() > 1 {
        return match groups_of_three(digits.split(separator)).then(grouped).flatten() {
            Some(value) => Reading::Certain(value, grouping),
            None => Reading::Text,
        };
    }
    let Some(as_decimal) = number(&digits.replace(separator, ".")) else { return Reading::Text };
    match groups_of_three(digits.split(separator)).then(grouped).flatten() {
        Some(as_grouped) if separator == '.' => Reading::Ambiguous { english: as_decimal, continental: as_grouped },
        Some(as_grouped) => Reading::Ambiguous { english: as_grouped, continental: as_decimal },
        None => Reading::Certain(as_decimal, decimal),
    }
}

/// Points and commas: the last one is the decimal sign, and stands once.
fn both_kinds(digits: &str, number: &dyn Fn(&str) -> Option<f64>) -> Reading {
    let (style, decimal, group) =
        if digits.rfind('.') > digits.rfind(',') { (Style::English, '.', ',') } else { (Style::Continental, ',', '.') };
    let Some((whole, fraction)) = digits.split_once(decimal) else { return Reading::Text };
    if !groups_of_three(whole.split(group)) || fraction.contains([',', '.']) {
        return Reading::Text;
    }
    number(&format!("{}.{fraction}", whole.replace(group, "")))
        .map_or(Reading::Text, |value| Reading::Certain(value, style))
}

/// Whether the parts are what grouping by thousands makes: one to three digits without a leading zero, then three each.
fn groups_of_three<'a>(mut parts: impl Iterator<Item = &'a str>) -> bool {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let first = parts.next().unwrap_or_default();
    (1..=3).contains(&first.len())
        && digits(first)
        && !first.starts_with('0')
        && parts.all(|part| part.len() == 3 && digits(part))
}

#[cfg(test)]
mod tests {
    use super::{Reading, Style, read};

    #[test]
    fn numbers_that_allow_one_reading_have_it() {
        for (text, value) in [
            ("0", 0.0),
            ("13485", 13485.0),
            ("-7", -7.0),
            ("1e3", 1000.0),
            ("27 595 520", 27_595_520.0),
            ("1'234.5", 1234.5),
        ] {
            assert_eq!(read(text), Reading::Plain(value), "{text}");
        }
        for (text, value) in [
            ("6.75", 6.75),
            ("9,495.42", 9495.42),
            ("1,234,567", 1_234_567.0),
            ("0.123", 0.123),
            ("1234.567", 1234.567),
            ("1.5e-3", 0.0015),
        ] {
            assert_eq!(read(text), Reading::Certain(value, Style::English), "{text}");
        }
        for (text, value) in [
            ("65,77", 65.77),
            ("27.595.520", 27_595_520.0),
            ("9.495,42", 9495.42),
            ("0,123", 0.123),
            ("1234,567", 1234.567),
        ] {
            assert_eq!(read(text), Reading::Certain(value, Style::Continental), "{text}");
        }
    }

    #[test]
    fn one_separator_before_three_digits_allows_two() {
        assert_eq!(read("13,485"), Reading::Ambiguous { english: 13485.0, continental: 13.485 });
        assert_eq!(read("-1.234"), Reading::Ambiguous { english: -1.234, continental: -1234.0 });
    }

    #[test]
    fn what_is_no_number_is_a_text_or_missing() {
        for text in ["n/a", "N/A", "", " ", "nan", "inf"] {
            assert_eq!(read(text), Reading::Missing, "{text}");
        }
        for text in [
            "PolicySpread",
            "all",
            "1,2,3",
            "12,34.5",
            "1.2.3",
            "0x10",
            "1,234.5,6",
            "1..2",
            "5 kB",
            "1 2",
            "--3",
            "1e999",
            "(1, 2, 3)",
        ] {
            assert_eq!(read(text), Reading::Text, "{text}");
        }
    }
}
