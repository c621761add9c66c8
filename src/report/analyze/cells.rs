//! Cells of durations, bytes and shares.

use super::format::{duration, maybe_duration};
use crate::report::number::{self, UNKNOWN};
use crate::report::table::Cell;
use crate::units::{Bandwidth, Bytes};

/// A duration in ns.
pub(in crate::report) fn time(ns: f64) -> Cell {
    Cell { text: duration(ns), sort: ns.is_finite().then_some(ns), ..Cell::default() }
}

/// A duration in ns that may be unknown.
pub(in crate::report) fn maybe_time(ns: Option<f64>) -> Cell {
    Cell { text: maybe_duration(ns), sort: ns.filter(|ns| ns.is_finite()), ..Cell::default() }
}

/// A percentile of `n` durations; greyed with `†` where `n` does not support it.
pub(in crate::report) fn tail(ns: f64, percentile: u32, n: u64) -> Cell {
    let needed = number::samples_needed(percentile);
    let cell = time(ns);
    if n >= needed || !ns.is_finite() {
        return cell;
    }
    Cell {
        text: format!("{}†", cell.text),
        weak: true,
        note: Some(format!("p{percentile} needs {needed} values at 99 % confidence; there are {n}")),
        ..cell
    }
}

/// Bytes.
pub(in crate::report) fn bytes(value: Option<u64>) -> Cell {
    value.map_or_else(
        || Cell::maybe(None),
        |value| Cell { text: Bytes(value as f64).to_string(), sort: Some(value as f64), ..Cell::default() },
    )
}

/// Bytes per second.
pub(in crate::report) fn rate(value: Option<f64>) -> Cell {
    value.filter(|value| value.is_finite()).map_or_else(
        || Cell::maybe(None),
        |value| Cell { text: Bandwidth(value).to_string(), sort: Some(value), ..Cell::default() },
    )
}

/// A count that may be unknown.
pub(in crate::report) fn maybe_count(value: Option<u64>) -> Cell {
    value.map_or_else(|| Cell { text: UNKNOWN.to_owned(), ..Cell::default() }, Cell::count)
}

/// A yes, a no, or not known.
pub(in crate::report) fn flag(value: Option<bool>) -> Cell {
    Cell::text(match value {
        Some(true) => "yes",
        Some(false) => "no",
        None => "not known",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_of_few_values_carry_the_mark() {
        assert_eq!(tail(1500.0, 99, 458).text, "1.500 µs†");
        assert!(tail(1500.0, 99, 458).weak);
        assert_eq!(tail(1500.0, 99, 459).text, "1.500 µs");
        assert_eq!(tail(f64::NAN, 99, 3).text, "–");
    }

    #[test]
    fn what_is_unknown_sorts_nowhere() {
        for cell in [maybe_time(None), bytes(None), rate(Some(f64::NAN)), maybe_count(None)] {
            assert_eq!((cell.text.as_str(), cell.sort), ("–", None));
        }
    }
}
