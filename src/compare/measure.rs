//! The measures that can be compared: unit, which way is better, and whether they are about speed.

use serde::{Deserialize, Serialize};

/// Which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Times, memory, energy, perplexity.
    LowerIsBetter,
    /// Rates, MFU, MBU.
    HigherIsBetter,
    /// Neither, e.g. a count of tokens.
    Neutral,
}

/// What is known of a measure by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MeasureKind {
    /// Which way is better.
    pub direction: Direction,
    /// Whether `faster` and `slower` are the words for it.
    pub is_speed: bool,
}

/// The kind of the measure `name`, from its name and the unit at its end.
///
/// Times end in `_ns`, `_us`, `_ms` or `_s`, rates in `_per_s`, memory in `_bytes`, energy in `_j`; `mfu`, `mbu` and `goodput` speak for
/// themselves. Anything else is neutral: a tool that guesses which way is better names wrong winners.
pub fn kind(name: &str) -> MeasureKind {
    let base = name.split('.').next().unwrap_or(name);
    let speed = |direction| MeasureKind { direction, is_speed: true };
    let other = |direction| MeasureKind { direction, is_speed: false };
    if base.ends_with("_per_s") || base == "goodput" || base.ends_with("_goodput") {
        return speed(Direction::HigherIsBetter);
    }
    if base.starts_with("mfu") || base.starts_with("mbu") {
        return other(Direction::HigherIsBetter);
    }
    if ["_ns", "_us", "_ms", "_s"].iter().any(|suffix| base.ends_with(suffix)) {
        return speed(Direction::LowerIsBetter);
    }
    let lower = ["_bytes", "_j", "_usd"].iter().any(|suffix| base.ends_with(suffix))
        || base.starts_with("perplexity")
        || base.starts_with("kl_")
        || base.starts_with("joule_");
    if lower { other(Direction::LowerIsBetter) } else { other(Direction::Neutral) }
}

/// Whether `unit` counts things: a count that never varies has no noise, neither within a process nor between two.
pub fn is_count(unit: &str) -> bool {
    unit == "kernels"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_which_way_is_better() {
        for (name, direction, is_speed) in [
            ("tpot_ms", Direction::LowerIsBetter, true),
            ("tpot_ms.p99", Direction::LowerIsBetter, true),
            ("load_s", Direction::LowerIsBetter, true),
            ("decode_tok_per_s", Direction::HigherIsBetter, true),
            ("request_per_s", Direction::HigherIsBetter, true),
            ("mfu_prefill", Direction::HigherIsBetter, false),
            ("peak_rss_bytes", Direction::LowerIsBetter, false),
            ("energy_j", Direction::LowerIsBetter, false),
            ("perplexity", Direction::LowerIsBetter, false),
            ("tokens", Direction::Neutral, false),
        ] {
            assert_eq!(kind(name), MeasureKind { direction, is_speed }, "{name}");
        }
    }
}
