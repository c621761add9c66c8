//! Units of Nsight Compute and their base units.
//!
//! The tool scales values by default (`Mbyte`, `us`, `Ghz`; older versions `usecond`, `cycle/nsecond`). Its prefixes are decimal: in a report
//! of version 2025, 2.33 Mbyte read in 6.75 us stand beside 345.14 Gbyte/s, which agrees for 10^6 and 10^9 and not for 2^20 and 2^30.

/// A unit taken apart.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scale {
    /// What a value is multiplied with.
    pub(super) factor: f64,
    /// The unit it then has.
    pub(super) base: String,
    /// False if a part of the unit is not known; the factor is then 1 and the base is the unit of the file.
    pub(super) known: bool,
}

/// Units without a prefix, as they are called afterwards. Counted things have their own name as unit.
const COUNTED: [&str; 26] = [
    "%",
    "bank",
    "bit",
    "block",
    "cluster",
    "conflict",
    "cycle",
    "flop",
    "instruction",
    "inst",
    "issue",
    "op",
    "pct",
    "ratio",
    "register",
    "request",
    "sample",
    "sector",
    "SM",
    "thread",
    "TPC",
    "warp",
    "wavefront",
    "tag",
    "pass",
    "access",
];

/// Reads a unit.
pub(super) fn parse(text: &str) -> Scale {
    let text = text.trim();
    let unknown = || Scale { factor: 1.0, base: text.to_owned(), known: false };
    if text.is_empty() {
        return Scale { factor: 1.0, base: String::new(), known: true };
    }
    let mut parts = text.split('/');
    let Some((mut factor, over)) = parts.next().and_then(atom) else { return unknown() };
    let Some(under) = parts.next() else {
        return Scale { factor, base: over.to_owned(), known: true };
    };
    if parts.next().is_some() {
        return unknown();
    }
    let Some((divisor, under)) = atom(under) else { return unknown() };
    factor /= divisor;
    // Rates are per second, though times are in ns.
    let base = match (over, under) {
        ("cycle", "ns") => {
            factor *= 1e9;
            "hz".to_owned()
        }
        (over, "ns") => {
            factor *= 1e9;
            format!("{over}/s")
        }
        (over, under) => format!("{over}/{under}"),
    };
    Scale { factor, base, known: true }
}

/// Factor and base unit of a unit without a slash.
fn atom(text: &str) -> Option<(f64, &'static str)> {
    let text = text.trim();
    let time = match text {
        "ns" | "nsec" | "nsecond" | "nanosecond" => Some(1.0),
        "us" | "usec" | "usecond" | "microsecond" => Some(1e3),
        "ms" | "msec" | "msecond" | "millisecond" => Some(1e6),
        "s" | "sec" | "second" => Some(1e9),
        _ => None,
    };
    if let Some(factor) = time {
        return Some((factor, "ns"));
    }
    if let Some(base) = plain(text) {
        return Some((1.0, base));
    }
    for (prefix, factor) in [
        ("Ki", 1024.0),
        ("Mi", 1024.0 * 1024.0),
        ("Gi", 1024.0 * 1024.0 * 1024.0),
        ("Ti", 1024.0 * 1024.0 * 1024.0 * 1024.0),
        ("K", 1e3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
    ] {
        if let Some(base) = text.strip_prefix(prefix).and_then(plain) {
            return Some((factor, base));
        }
    }
    None
}

/// The canonical name of a unit without a prefix.
fn plain(text: &str) -> Option<&'static str> {
    match text {
        "byte" | "bytes" | "B" => return Some("byte"),
        "hz" | "Hz" | "hertz" => return Some("hz"),
        "req" => return Some("request"),
        "instructions" => return Some("inst"),
        _ => {}
    }
    let text =
        COUNTED.into_iter().find(|unit| *unit == text || text.strip_suffix('s').is_some_and(|one| one == *unit))?;
    Some(match text {
        "instruction" => "inst",
        "pct" => "%",
        other => other,
    })
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn scaled_units_become_base_units() {
        for (unit, factor, base) in [
            ("", 1.0, ""),
            ("ns", 1.0, "ns"),
            ("us", 1e3, "ns"),
            ("usecond", 1e3, "ns"),
            ("msecond", 1e6, "ns"),
            ("second", 1e9, "ns"),
            ("byte", 1.0, "byte"),
            ("Kbyte", 1e3, "byte"),
            ("Kibyte", 1024.0, "byte"),
            ("Mbyte", 1e6, "byte"),
            ("Gbyte/s", 1e9, "byte/s"),
            ("Gbyte/second", 1e9, "byte/s"),
            ("Tbyte/s", 1e12, "byte/s"),
            ("byte/us", 1e6, "byte/s"),
            ("Kbyte/block", 1e3, "byte/block"),
            ("Ghz", 1e9, "hz"),
            ("Khz", 1e3, "hz"),
            ("hz", 1.0, "hz"),
            ("cycle/nsecond", 1e9, "hz"),
            ("cycle/usecond", 1e6, "hz"),
            ("cycle/second", 1.0, "hz"),
            ("%", 1.0, "%"),
            ("inst/cycle", 1.0, "inst/cycle"),
            ("register/thread", 1.0, "register/thread"),
            ("sector/req", 1.0, "sector/request"),
            ("warp", 1.0, "warp"),
            ("SM", 1.0, "SM"),
        ] {
            let scale = parse(unit);
            assert!(scale.known, "{unit}");
            assert!((scale.factor / factor - 1.0).abs() < 1e-12, "{unit}: {}", scale.factor);
            assert_eq!(scale.base, base, "{unit}");
        }
    }

    #[test]
    fn a_unit_that_is_not_known_stays_as_it_is() {
        for unit in ["furlong", "byte/furlong", "a/b/c", "Mbytes/s/s", "K", "/", "µs"] {
            let scale = parse(unit);
            assert!(!scale.known, "{unit}");
            assert_eq!((scale.factor, scale.base.as_str()), (1.0, unit));
        }
    }
}
