//! How durations are written: in the unit that leaves one to three digits before the point.

use crate::report::number::{UNKNOWN, digits};

/// A duration in ns with its unit, e.g. `12.35 µs`; `–` if it is not finite. Whole nanoseconds stay whole.
pub(in crate::report) fn duration(ns: f64) -> String {
    let magnitude = ns.abs();
    if !ns.is_finite() {
        UNKNOWN.to_owned()
    } else if magnitude < 1e3 {
        if ns.fract() == 0.0 { format!("{ns:.0} ns") } else { format!("{} ns", digits(ns)) }
    } else if magnitude < 1e6 {
        format!("{} µs", digits(ns / 1e3))
    } else if magnitude < 1e9 {
        format!("{} ms", digits(ns / 1e6))
    } else {
        format!("{} s", digits(ns / 1e9))
    }
}

/// [`duration`] of a sum over work that may overlap: it says so.
pub(in crate::report) fn duration_sum(ns: f64) -> String {
    format!("{} (sum)", duration(ns))
}

/// [`duration`] of a value that may be unknown.
pub(in crate::report) fn maybe_duration(ns: Option<f64>) -> String {
    ns.map_or_else(|| UNKNOWN.to_owned(), duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_take_the_unit_that_fits() {
        assert_eq!(duration(0.0), "0 ns");
        assert_eq!(duration(999.0), "999 ns");
        assert_eq!(duration(12.5), "12.50 ns");
        assert_eq!(duration(1_000.0), "1.000 µs");
        assert_eq!(duration(12_345_678.0), "12.35 ms");
        assert_eq!(duration(-2.5e9), "-2.500 s");
        assert_eq!(duration(f64::NAN), "–");
        assert_eq!(maybe_duration(None), "–");
    }
}
