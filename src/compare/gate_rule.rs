//! Rules of the gate as users write them: `tpot_ms.p50>+3%`, `case:p128/ttft_ms.p99>+5ms@99%`.
//!
//! ```text
//! RULE    = [ "case:" CASE "/" ] MEASURE [ "." STATISTIC ] SIDE LIMIT [ "@" CONFIDENCE ]
//! SIDE    = ">" | "<"                        which changes break the rule
//! LIMIT   = [ "+" | "-" ] NUMBER [ UNIT ]    "%" relative to the baseline, "pp" percentage points of a share, else a unit of the measure
//! CONFIDENCE = NUMBER [ "%" ]                of the two-sided interval, 95% unless told
//! ```
//!
//! `*` in a case or measure stands for any run of characters.

use serde::{Deserialize, Serialize};

use super::settings::{CONFIDENCE, split_statistic, statistic};
use crate::stats::bootstrap::Statistic;

/// Which changes break a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Changes above the limit.
    Above,
    /// Changes below the limit.
    Below,
}

/// What a limit is a limit of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// Of candidate / baseline − 1, e.g. 0.03 for `+3%`.
    Relative(f64),
    /// Of candidate − baseline, in the unit that was written.
    Absolute {
        /// As written.
        value: f64,
        /// As written, e.g. `ms`, `MiB`, `pp`; empty for the unit of the measure.
        unit: String,
    },
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// As written.
    pub text: String,
    /// Cases it is for, with `*`; null for all.
    pub case: Option<String>,
    /// Measures it is for, with `*`.
    pub measure: String,
    /// Statistic of the values.
    pub statistic: Statistic,
    /// Which changes break it.
    pub side: Side,
    /// The limit.
    pub limit: Limit,
    /// Confidence of the two-sided interval that must lie beyond the limit, e.g. 0.95.
    pub confidence: f64,
}

/// A rule that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("rule `{rule}`, character {position}: expected {expected}, found {found}")]
pub struct RuleError {
    /// As written.
    pub rule: String,
    /// Characters before the fault, + 1.
    pub position: usize,
    /// What would have been right.
    pub expected: String,
    /// What stands there.
    pub found: String,
}

impl Rule {
    /// Reads a rule; see the module for its form.
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        Parser { text }.rule()
    }
}

/// Factor from a unit of limits to the base of its kind, and that kind.
pub(super) fn unit(name: &str) -> Option<(f64, Kind)> {
    const KI: f64 = 1024.0;
    let found = match name {
        "ns" => (1e-9, Kind::Time),
        "us" | "µs" | "μs" => (1e-6, Kind::Time),
        "ms" => (1e-3, Kind::Time),
        "s" => (1.0, Kind::Time),
        "bytes" | "B" => (1.0, Kind::Memory),
        "kB" | "KB" => (1e3, Kind::Memory),
        "MB" => (1e6, Kind::Memory),
        "GB" => (1e9, Kind::Memory),
        "KiB" => (KI, Kind::Memory),
        "MiB" => (KI * KI, Kind::Memory),
        "GiB" => (KI * KI * KI, Kind::Memory),
        "mJ" => (1e-3, Kind::Energy),
        "J" => (1.0, Kind::Energy),
        "kJ" => (1e3, Kind::Energy),
        "mJ/tok" => (1e-3, Kind::EnergyPerToken),
        "J/tok" => (1.0, Kind::EnergyPerToken),
        "tok/s" => (1.0, Kind::TokenRate),
        "req/s" => (1.0, Kind::RequestRate),
        "W" => (1.0, Kind::Power),
        "pp" => (0.01, Kind::Share),
        "ratio" => (1.0, Kind::Share),
        _ => return None,
    };
    Some(found)
}

/// What a unit is a unit of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Time,
    Memory,
    Energy,
    EnergyPerToken,
    TokenRate,
    RequestRate,
    Power,
    Share,
}

/// Units a limit may have, for messages.
pub(super) const UNITS: &str =
    "%, pp, ns, us, ms, s, B, KiB, MiB, GiB, kB, MB, GB, mJ, J, kJ, J/tok, tok/s, req/s, W, or none";

struct Parser<'a> {
    text: &'a str,
}

impl Parser<'_> {
    fn rule(&self) -> Result<Rule, RuleError> {
        let start = self.text.len() - self.text.trim_start().len();
        let end = self.text.trim_end().len().max(start);
        // A case may hold anything but `/`, even `<`.
        let (case, measure_at) = match self.text[start..end].strip_prefix("case:") {
            None => (None, start),
            Some(rest) => {
                let case_at = start + "case:".len();
                let Some(slash) = rest.find('/') else {
                    return Err(self.error(end, "`/` after the name of the case"));
                };
                if rest[..slash].trim().is_empty() {
                    return Err(self.error(case_at, "the name of a case"));
                }
                (Some(rest[..slash].trim().to_owned()), case_at + slash + 1)
            }
        };
        let Some(side_at) = self.text[measure_at..end].find(['>', '<']).map(|at| measure_at + at) else {
            return Err(self.error(end, "`>` or `<`"));
        };
        let (measure, statistic) = self.measure(measure_at, side_at)?;
        let side = if self.text.as_bytes()[side_at] == b'>' { Side::Above } else { Side::Below };
        let limit_at = side_at + 1;
        let at_sign = self.text[limit_at..end].find('@').map(|at| limit_at + at);
        let limit = self.limit(limit_at, at_sign.unwrap_or(end))?;
        let confidence = at_sign.map_or(Ok(CONFIDENCE), |at| self.confidence(at + 1, end))?;
        let text = self.text[start..end].to_owned();
        Ok(Rule { text, case, measure, statistic, side, limit, confidence })
    }

    fn measure(&self, from: usize, to: usize) -> Result<(String, Statistic), RuleError> {
        let name = self.text[from..to].trim();
        let name_at = from + (self.text[from..to].len() - self.text[from..to].trim_start().len());
        let wrong = |c: char| !(c.is_ascii_alphanumeric() || "_.*-:".contains(c));
        if name.is_empty() {
            return Err(self.error(name_at.min(to), "the name of a measure"));
        }
        if let Some(at) = name.find(wrong) {
            return Err(self.error(name_at + at, "letters, digits, `_`, `.`, `-`, `:` or `*` in the name of a measure"));
        }
        let (base, found) = split_statistic(name);
        if base.is_empty() {
            return Err(self.error(name_at, "the name of a measure before its statistic"));
        }
        // `tpot_ms.p5O` is a slip of the finger and no measure.
        if found.is_none()
            && let Some((before, last)) = name.rsplit_once('.')
            && (last.is_empty()
                || last.starts_with('p')
                || strsim::levenshtein(last, "median") < 3
                || statistic(last).is_some())
        {
            return Err(self.error(name_at + before.len() + 1, "a statistic: median, mean, p50, p90, p99 or p99.9"));
        }
        Ok((base.to_owned(), found.unwrap_or(Statistic::Median)))
    }

    fn limit(&self, from: usize, to: usize) -> Result<Limit, RuleError> {
        let text = &self.text[from..to];
        let at = from + (text.len() - text.trim_start().len());
        let text = text.trim();
        let sign_length = text.chars().next().filter(|c| "+-−".contains(*c)).map_or(0, char::len_utf8);
        let negative = sign_length > 0 && !text.starts_with('+');
        let rest = &text[sign_length..];
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(rest.len());
        // `1e3` is a number, `1e` and `1eV` are not.
        let exponent = rest[digits..].strip_prefix(['e', 'E']).and_then(|after| {
            let unsigned = after.strip_prefix(['+', '-']).unwrap_or(after);
            let length = unsigned.find(|c: char| !c.is_ascii_digit()).unwrap_or(unsigned.len());
            (length > 0).then(|| 1 + (after.len() - unsigned.len()) + length)
        });
        let number_length = digits + if digits > 0 { exponent.unwrap_or(0) } else { 0 };
        let number = rest[..number_length].parse::<f64>().ok().filter(|number| number.is_finite());
        let Some(number) = number else {
            return Err(self.error(at + sign_length, "a number, such as `+3%` or `+5ms`"));
        };
        let value = if negative { -number } else { number };
        let after = rest[number_length..].trim_start();
        let after_at = at + text.len() - after.len();
        match after {
            "%" if value <= -100.0 => Err(self.error(at, "a change above -100%")),
            "%" => Ok(Limit::Relative(value / 100.0)),
            "" => Ok(Limit::Absolute { value, unit: String::new() }),
            name if unit(name).is_some() => Ok(Limit::Absolute { value, unit: name.to_owned() }),
            _ => Err(self.error(after_at, &format!("a unit: {UNITS}"))),
        }
    }

    fn confidence(&self, from: usize, to: usize) -> Result<f64, RuleError> {
        let text = self.text[from..to].trim();
        let at = from + (self.text[from..to].len() - self.text[from..to].trim_start().len());
        let (number, percent) = text.strip_suffix('%').map_or((text, false), |number| (number.trim_end(), true));
        let plain = !number.is_empty() && number.chars().all(|c| c.is_ascii_digit() || c == '.');
        let value = number.parse::<f64>().ok().filter(|_| plain);
        let share = value.map(|value| if percent || value > 1.0 { value / 100.0 } else { value });
        // Half or less would be no evidence at all.
        share
            .filter(|share| *share > 0.5 && *share < 1.0)
            .ok_or_else(|| self.error(at.min(to), "a confidence above 50% and below 100%, such as `99%`"))
    }

    fn error(&self, at: usize, expected: &str) -> RuleError {
        let rest = self.text.get(at..).unwrap_or_default();
        let found: String = rest.chars().take(20).collect();
        RuleError {
            rule: self.text.trim().to_owned(),
            position: self.text.get(..at).unwrap_or(self.text).chars().count() + 1,
            expected: expected.to_owned(),
            found: if found.trim().is_empty() { "the end".to_owned() } else { format!("`{found}`") },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Rule {
        Rule::parse(text).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn rules_are_read() {
        let rule = parse("tpot_ms.p50>+3%");
        assert_eq!((rule.measure.as_str(), rule.statistic, rule.side), ("tpot_ms", Statistic::Median, Side::Above));
        assert_eq!((rule.limit, rule.confidence, rule.case), (Limit::Relative(0.03), 0.95, None));
        let rule = parse(" case:p128/long / ttft_ms.p99 > 5 ms @ 99% ".replace("/long ", "").as_str());
        assert_eq!((rule.case.as_deref(), rule.statistic), (Some("p128"), Statistic::Quantile { per_mille: 990 }));
        assert_eq!((rule.limit, rule.confidence), (Limit::Absolute { value: 5.0, unit: "ms".to_owned() }, 0.99));
        for (text, limit) in [
            ("decode_tok_per_s<-2%", Limit::Relative(-0.02)),
            ("decode_tok_per_s<−2%", Limit::Relative(-0.02)),
            ("peak_rss_bytes>+50MiB", Limit::Absolute { value: 50.0, unit: "MiB".to_owned() }),
            ("mfu_decode<-1pp", Limit::Absolute { value: -1.0, unit: "pp".to_owned() }),
            ("perplexity>+0.5%", Limit::Relative(0.005)),
            ("*_ms>0.1", Limit::Absolute { value: 0.1, unit: String::new() }),
            ("x_s>1e3us", Limit::Absolute { value: 1000.0, unit: "us".to_owned() }),
            ("energy_j.mean>1J", Limit::Absolute { value: 1.0, unit: "J".to_owned() }),
        ] {
            assert_eq!(parse(text).limit, limit, "{text}");
        }
        assert_eq!(parse("x>1@0.9").confidence, 0.9);
        assert_eq!(parse("case:a<b/x>1").case.as_deref(), Some("a<b"));
    }

    #[test]
    fn a_fault_is_shown_with_its_place_and_what_was_expected() {
        for (text, position, expected, found) in [
            ("", 1, "`>` or `<`", "the end"),
            ("tpot_ms", 8, "`>` or `<`", "the end"),
            (">3%", 1, "the name of a measure", "`>3%`"),
            ("tpot_ms>", 9, "a number", "the end"),
            ("tpot_ms>three", 9, "a number", "`three`"),
            ("tpot_ms>+3x", 11, "a unit", "`x`"),
            ("tpot_ms.p5O>3%", 9, "a statistic", "`p5O>3%`"),
            ("tpot_ms.meadian>3%", 9, "a statistic", "`meadian>3%`"),
            ("tpot ms>3%", 5, "letters", "` ms>3%`"),
            ("tpot_ms>=3%", 9, "a number", "`=3%`"),
            ("case:p128", 10, "`/`", "the end"),
            ("case:/x>1", 6, "the name of a case", "`/x>1`"),
            ("x>1@", 5, "a confidence", "the end"),
            ("x>1@100%", 5, "a confidence", "`100%`"),
            ("x>1@30%", 5, "a confidence", "`30%`"),
            ("µx>1", 1, "letters", "`µx>1`"),
            ("x>1µ", 4, "a unit", "`µ`"),
            (".p99>1", 1, "the name of a measure", "`.p99>1`"),
            ("x<-100%", 3, "a change above", "`-100%`"),
        ] {
            let error = Rule::parse(text).unwrap_err();
            assert_eq!((error.position, error.found.as_str()), (position, found), "{text}");
            assert!(error.expected.starts_with(expected), "{text}: {}", error.expected);
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd_to_refuse(text in "\\PC{0,40}") {
            if let Err(error) = Rule::parse(&text) {
                prop_assert!(error.position <= text.chars().count() + 1);
            }
        }

        #[test]
        fn nothing_near_a_rule_is_too_odd(text in "(case:[a>/ ]{0,4})?[a-z_.*]{0,8}[<>]?[+−-]?[0-9.eE]{0,5}(ms|%|pp|µ|x)?(@[0-9.%]{0,5})?") {
            if let Ok(rule) = Rule::parse(&text) {
                prop_assert!(rule.confidence > 0.5 && rule.confidence < 1.0 && !rule.measure.is_empty());
                prop_assert_eq!(&Rule::parse(&rule.text).unwrap(), &rule);
            }
        }
    }
}
