//! What a comparison is told beside its subjects: margins, floors, what was meant to differ, and the rules of the gate.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::gate_rule::Rule;
use crate::stats::bootstrap::{RESAMPLES, Statistic};

/// Confidence of the intervals in [`super::result::Comparison`], which are named after it.
pub const CONFIDENCE: f64 = 0.95;

/// Chance of a false finding among all measures of one candidate that is accepted.
pub const ALPHA: f64 = 0.05;

/// Chance of finding a true difference that `minimal_detectable_effect` and `n_needed` speak of.
pub const POWER: f64 = 0.8;

/// Settings of a comparison.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CompareSettings {
    /// δ: relative differences up to it count as the same.
    pub margin: f64,
    /// Other margins by name of the measure (`tpot_ms`) or of a statistic of it (`tpot_ms.p99`).
    pub margins: BTreeMap<String, f64>,
    /// Absolute differences up to it are nothing, by name of the measure and in its unit.
    pub floors: BTreeMap<String, f64>,
    /// The same for every time that has no floor of its own, in seconds: what reading a clock costs and resolves.
    pub time_floor_s: f64,
    /// Relative difference two runs of the very same thing may show between processes, assumed where each side is one process only and
    /// no A/A control was run.
    pub process_noise: f64,
    /// Statistics wanted beside the median, as `tpot_ms.p99`, `ttft_ms.mean`; `*` stands for any part of a name.
    pub statistics: Vec<String>,
    /// Compare only these measures, with `*`; empty for all.
    pub measures: Vec<String>,
    /// Facts, or keys of the configuration, that differ on purpose.
    pub studied: Vec<String>,
    /// Name winners although the work was not the same.
    pub allow_unequal: bool,
    /// Rely on runs that call themselves INVALID.
    pub allow_invalid: bool,
    /// Resamples of each interval.
    pub resamples: u32,
    /// Seed of all resampling.
    pub seed: u64,
    /// Rules of the gate.
    #[serde(skip)]
    pub gate: Vec<Rule>,
}

impl Default for CompareSettings {
    fn default() -> Self {
        Self {
            margin: 0.01,
            margins: BTreeMap::new(),
            floors: BTreeMap::new(),
            time_floor_s: 1e-6,
            process_noise: 0.05,
            statistics: Vec::new(),
            measures: Vec::new(),
            studied: Vec::new(),
            allow_unequal: false,
            allow_invalid: false,
            resamples: RESAMPLES,
            seed: 0,
            gate: Vec::new(),
        }
    }
}

/// The statistic a name such as `p99`, `median` or `mean` stands for; `p50` is the median. `None` for anything else.
pub fn statistic(name: &str) -> Option<Statistic> {
    match name {
        "median" => return Some(Statistic::Median),
        "mean" => return Some(Statistic::Mean),
        _ => {}
    }
    let digits = name.strip_prefix('p')?;
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let per_mille = digits.parse::<f64>().ok().filter(|_| plain)? * 10.0;
    let whole = (per_mille - per_mille.round()).abs() < 1e-6 && per_mille > 0.5 && per_mille < 999.5;
    whole.then_some(match per_mille.round() as u16 {
        500 => Statistic::Median,
        per_mille => Statistic::Quantile { per_mille },
    })
}

/// The name of a statistic in the results: `median`, `mean`, `p99`, `p99.9`.
pub fn statistic_name(statistic: Statistic) -> String {
    match statistic {
        Statistic::Median => "median".to_owned(),
        Statistic::Mean => "mean".to_owned(),
        Statistic::Quantile { per_mille } => format!("p{}", f64::from(per_mille) / 10.0),
    }
}

/// Splits `tpot_ms.p99` into its measure and its statistic; a name without a statistic keeps its dots.
pub fn split_statistic(name: &str) -> (&str, Option<Statistic>) {
    // The longest suffix counts, so that `p99.9` is not read as the measure `ttft_ms.p99` and `9`.
    for (at, _) in name.match_indices('.') {
        if let Some(found) = statistic(&name[at + 1..]) {
            return (&name[..at], Some(found));
        }
    }
    (name, None)
}

/// Whether `name` fits `pattern`, in which `*` stands for any run of characters.
pub fn fits(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.len() >= last.len() && rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_read_and_named() {
        assert_eq!(statistic("p50"), Some(Statistic::Median));
        assert_eq!(statistic("p99"), Some(Statistic::Quantile { per_mille: 990 }));
        assert_eq!(statistic("p99.9"), Some(Statistic::Quantile { per_mille: 999 }));
        for wrong in ["p", "p0", "p100", "p-1", "pNaN", "p1e1", "ms", "p99.99", "P99", "p+5"] {
            assert_eq!(statistic(wrong), None, "{wrong}");
        }
        for name in ["median", "mean", "p99", "p99.9", "p5"] {
            assert_eq!(statistic_name(statistic(name).unwrap()), name);
        }
    }

    #[test]
    fn a_name_is_split_at_its_statistic_only() {
        assert_eq!(split_statistic("tpot_ms"), ("tpot_ms", None));
        assert_eq!(split_statistic("tpot_ms.p99.9"), ("tpot_ms", Some(Statistic::Quantile { per_mille: 999 })));
        assert_eq!(split_statistic("a.b.mean"), ("a.b", Some(Statistic::Mean)));
        assert_eq!(split_statistic("a.b"), ("a.b", None));
    }

    #[test]
    fn wildcards_stand_for_any_run_of_characters() {
        for (pattern, name, expected) in [
            ("*", "tpot_ms", true),
            ("*_ms", "tpot_ms", true),
            ("*_ms", "tpot_us", false),
            ("t*t_ms", "tpot_ms", true),
            ("t*t_ms", "ttft_ms", true),
            ("ab*ba", "aba", false),
            ("tpot_ms", "tpot_ms", true),
            ("tpot", "tpot_ms", false),
            ("*p*s", "tpot_ms", true),
            ("", "", true),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }
}
